//! The loop as a process of its own would run it, on a real repository and a real database.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use backstay::{
    apply::executor::{Failure, Listener, Outcome},
    artifact::Kind,
    clock::SystemClock,
    daemon::{self, Audience, DaemonError, Ended, requests},
    plan::Step,
    reconcile::{Controller, Pass, PassError},
    state::{StateDir, StateError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};

use crate::passes::{Deaf, Fleet};

/// Keeps what was done, and wakes who waits for it.
#[derive(Default)]
struct Diary {
    done: Mutex<Vec<String>>,
    address: Mutex<Option<SocketAddr>>,
    news: Notify,
}

impl Listener for Diary {
    fn started(&self, _: &Step) {}
    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}
    fn ended(&self, step: &Step, outcome: &Outcome) {
        self.done.lock().unwrap().push(format!("{}: {outcome:?}", step.action));
        self.news.notify_one();
    }
}

impl Audience for Diary {
    fn listens(&self, address: Option<SocketAddr>) {
        *self.address.lock().unwrap() = address;
        self.news.notify_one();
    }
    fn passed(&self, _: &Result<Pass, PassError>) {}
}

impl Audience for Deaf {
    fn listens(&self, _: Option<SocketAddr>) {}
    fn passed(&self, _: &Result<Pass, PassError>) {}
}

impl Diary {
    /// Waits until the web page listens.
    async fn address(&self) -> SocketAddr {
        loop {
            if let Some(address) = *self.address.lock().unwrap() {
                return address;
            }
            self.news.notified().await;
        }
    }

    /// Waits until so many steps that begin with `what` are done.
    async fn until(&self, number: usize, what: &str) {
        let done = || self.done.lock().unwrap().iter().filter(|line| line.starts_with(what)).count();
        let waited = async {
            while done() < number {
                self.news.notified().await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), waited).await;
        assert!(in_time.is_ok(), "{number} of {what}: {:#?}", self.done.lock().unwrap());
    }
}

fn open(fleet: &Fleet) -> daemon::Open {
    let config = fleet.config();
    Box::new(move || Controller::open(config.clone(), Arc::new(SystemClock)))
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Checks that `text` is what a scraper of OpenMetrics 1.0 takes: families that are declared once and whole, samples that
/// belong to them, labels that are quoted, numbers, nothing twice, and the mark of the end.
fn open_metrics(text: &str) {
    let (mut families, mut samples) = (Vec::<(&str, &str)>::new(), std::collections::BTreeSet::new());
    let body = text.strip_suffix("# EOF\n").expect("the mark of the end");
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let [what, name, rest] = comment.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert!(["HELP", "TYPE", "UNIT"].contains(&what), "{line}");
            if what == "TYPE" {
                assert!(families.iter().all(|(known, _)| *known != name), "declared twice: {line}");
                families.push((name, rest));
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect(line);
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(samples.insert(series), "twice: {line}");
        let (name, labels) = series
            .split_once('{')
            .map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').expect(line)));
        let (family, kind) = families.last().expect(line);
        let suffixes: &[&str] = match *kind {
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            "gauge" => &[""],
            other => panic!("{other}"),
        };
        assert!(suffixes.iter().any(|suffix| name == format!("{family}{suffix}")), "{line}");
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once("=\"").expect(line);
            assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            assert!(!value.trim_end_matches('"').contains(['"', '\n']), "{line}");
        }
    }
}

/// One test for the whole life of a loop, since signals are to the process and not to a test.
#[tokio::test]
async fn the_loop_follows_commits_takes_requests_shows_its_state_and_ends_on_a_signal() {
    let fleet = Fleet::declared();
    let diary = Arc::new(Diary::default());
    let running = tokio::spawn(daemon::run(open(&fleet), diary.clone()));
    let address = diary.address().await;
    diary.until(1, "copy shop").await;

    let second = daemon::run(open(&fleet), Arc::new(Deaf)).await;
    assert!(matches!(second, Err(DaemonError::State(StateError::Running { holder: Some(_), .. }))));

    fleet.declare(&format!("{}\n# a change", fleet.declaration()));
    diary.until(4, "capture").await;
    assert_eq!(fleet.manifests("vault", "infra").len(), 2);

    let request = requests::Request {
        backups: vec!["shop".parse().unwrap()],
        kind: Kind::Full,
        reason: Some("before the upgrade".into()),
        keep: requests::Keep::ByPolicy,
    };
    let socket = StateDir::open(fleet.path("state")).unwrap().socket();
    let faults = requests::ask(&socket, &request, |_| ()).await.unwrap();
    assert_eq!(faults, Some(Vec::new()));
    assert_eq!(fleet.manifests("vault", "shop").len(), 2);

    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(address, "/metrics").await;
    for name in [
        "backstay_expected_interval_seconds{backup=\"shop\",store=\"\",kind=\"full\"} 86400",
        "backstay_last_success_timestamp_seconds{backup=\"shop\",store=\"offsite\",kind=\"full\"}",
        "backstay_recovery_point_age_seconds{backup=\"shop\"",
        "backstay_objective_seconds{backup=\"shop\",objective=\"rpo\"} 172800",
        "backstay_objective_seconds{backup=\"shop\",objective=\"rto\"} 3600",
        "backstay_store_bytes{backup=\"infra\",store=\"vault\"",
        "backstay_revision_info{revision=\"",
        "backstay_pass_duration_seconds_count",
    ] {
        assert!(metrics.contains(name), "{name}:\n{metrics}");
    }
    open_metrics(metrics.split_once("\r\n\r\n").unwrap().1);
    assert!(get(address, "/api/status").await.contains("\"backstay.status/1\""));

    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.await.unwrap().unwrap(), Ended::Terminated);
    assert_eq!(requests::ask(&socket, &request, |_| ()).await.unwrap(), None);
}
