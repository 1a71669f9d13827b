//! The loop as a process of its own would run it, on a real repository and a real database.

use std::{
    cell::RefCell,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, Once},
    time::Duration,
};

use backstay::{
    apply::executor::{Bounds, Failure, Listener, Outcome},
    artifact::Kind,
    clock::SystemClock,
    config::Config,
    daemon::{self, Audience, DaemonError, Ended, queue::Why, requests},
    plan::{Action, Step},
    reconcile::{Controller, Pass, PassError},
    state::{StateDir, StateError},
};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};

use crate::passes::{Deaf, Fleet};

/// Signals are to the process and not to a test: of these tests one runs at a time.
pub static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Keeps what was done, and wakes who waits for it.
#[derive(Default)]
pub struct Diary {
    pub done: Mutex<Vec<String>>,
    pub woken: Mutex<Vec<Why>>,
    address: Mutex<Option<SocketAddr>>,
    pub news: Notify,
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
    fn woken(&self, why: Why) {
        self.woken.lock().unwrap().push(why);
        self.news.notify_one();
    }
    fn passed(&self, _: &Result<Pass, PassError>) {
        self.news.notify_one();
    }
}

impl Audience for Deaf {
    fn listens(&self, _: Option<SocketAddr>) {}
    fn passed(&self, _: &Result<Pass, PassError>) {}
}

impl Diary {
    /// Waits until the web page listens.
    pub async fn address(&self) -> SocketAddr {
        loop {
            if let Some(address) = *self.address.lock().unwrap() {
                return address;
            }
            self.news.notified().await;
        }
    }

    /// Waits until so many steps that begin with `what` have ended.
    pub async fn until(&self, number: usize, what: &str) {
        self.wait(|| self.number_of(what) >= number, &format!("{number} of {what}")).await;
    }

    pub fn number_of(&self, what: &str) -> usize {
        self.done.lock().unwrap().iter().filter(|line| line.starts_with(what)).count()
    }

    /// Waits until the loop has been woken so often by a signal.
    async fn until_asked(&self, number: usize) {
        let asked = || self.woken.lock().unwrap().iter().filter(|why| **why == Why::Asked).count();
        self.wait(|| asked() >= number, "a reload").await;
    }

    pub async fn wait(&self, happened: impl Fn() -> bool, what: &str) {
        let waited = async {
            while !happened() {
                self.news.notified().await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), waited).await;
        assert!(in_time.is_ok(), "{what}: {:#?}", self.done.lock().unwrap());
    }
}

pub fn signal(signal: Signal) {
    rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
}

fn open(fleet: &Fleet) -> daemon::Open {
    let config = fleet.config();
    Box::new(move || Controller::open(config.clone(), Arc::new(SystemClock)))
}

pub async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Checks that `text` is what a scraper of OpenMetrics 1.0 takes: families that are declared once and whole, samples that
/// belong to them, labels that are quoted, numbers, nothing twice, and the mark of the end.
pub fn open_metrics(text: &str) {
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
            "counter" => &["_total"],
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

#[tokio::test]
async fn the_loop_follows_commits_takes_requests_shows_its_state_and_ends_on_a_signal() {
    let _alone = ALONE.lock().await;
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
        "backstay_looks_total{cause=\"start\"} 1",
        "backstay_looks_total{cause=\"commit\"}",
        "backstay_infra_contact_timestamp_seconds",
    ] {
        assert!(metrics.contains(name), "{name}:\n{metrics}");
    }
    open_metrics(metrics.split_once("\r\n\r\n").unwrap().1);
    assert!(get(address, "/api/status").await.contains("\"backstay.status/1\""));

    signal(Signal::TERM);
    assert_eq!(running.await.unwrap().unwrap(), Ended::Terminated);
    assert_eq!(requests::ask(&socket, &request, |_| ()).await.unwrap(), None);
}

/// Commits a change when the first capture of a database begins, and lets it go on once the loop has heard of that.
struct Hasty {
    fleet: Arc<Fleet>,
    diary: Diary,
    once: Once,
    heard: (Mutex<Heard>, Condvar),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Commit,
}

impl Listener for Hasty {
    fn started(&self, step: &Step) {
        if !matches!(&step.action, Action::Capture(capture) if !capture.backup.is_infra()) {
            return;
        }
        self.once.call_once(|| {
            let (heard, news) = &self.heard;
            // Commits of before the loop began do not count.
            *heard.lock().unwrap() = Heard::Nothing;
            self.fleet.repo.commit("README", "a change");
            let heard = heard.lock().unwrap();
            let waited = news.wait_timeout_while(heard, Duration::from_secs(60), |h| *h == Heard::Nothing);
            assert!(!waited.unwrap().1.timed_out(), "the loop never heard of the commit");
        });
    }
    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}
    fn ended(&self, step: &Step, outcome: &Outcome) {
        self.diary.ended(step, outcome);
    }
}

impl Audience for Hasty {
    fn listens(&self, _: Option<SocketAddr>) {}
    fn woken(&self, why: Why) {
        if why == Why::Commit {
            *self.heard.0.lock().unwrap() = Heard::Commit;
            self.heard.1.notify_all();
        }
    }
    fn passed(&self, _: &Result<Pass, PassError>) {}
}

/// The listener blocks, and the loop must hear meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_newer_commit_goes_before_what_waits_and_what_is_under_way_goes_on() {
    let _alone = ALONE.lock().await;
    let fleet = Arc::new(Fleet::new());
    let shop = fleet.path("data/shop.db");
    let further = (0..5).map(|number| {
        format!(
            "[backup.branch-{number}]\npolicy = \"often\"\nstores = [\"vault\"]\nsqlite = {{ path = \"{}\" }}\n",
            shop.display()
        )
    });
    fleet.declare(&format!("{}\n{}", fleet.declaration(), further.collect::<String>()));
    let config = fleet.config();
    let one_at_a_time = Bounds { steps: 1, ..Bounds::default() };
    let open: daemon::Open = Box::new(move || {
        Ok(Controller::open(config.clone(), Arc::new(SystemClock))?.within(one_at_a_time.clone()))
    });
    let hasty = Arc::new(Hasty {
        fleet: fleet.clone(),
        diary: Diary::default(),
        once: Once::new(),
        heard: (Mutex::new(Heard::Nothing), Condvar::new()),
    });
    let running = tokio::spawn(daemon::run(open, hasty.clone()));
    // Where in the diary the six databases are.
    let databases = |done: &[String]| -> Vec<usize> {
        let database = |line: &String| {
            line.starts_with("capture") && !line.contains(" of infra ") && line.contains("Done")
        };
        (0..done.len()).filter(|at| database(&done[*at])).collect()
    };
    hasty.diary.wait(|| databases(&hasty.diary.done.lock().unwrap()).len() == 6, "all").await;
    signal(Signal::TERM);
    assert_eq!(running.await.unwrap().unwrap(), Ended::Terminated);

    let done = hasty.diary.done.lock().unwrap();
    let databases = databases(&done);
    let bundle = done.iter().skip(databases[0]).position(|line| line.contains(" of infra ")).unwrap();
    assert!(databases[0] + bundle < databases[1], "the new revision's bundle comes first: {done:#?}");
    assert!(done.iter().any(|line| line.starts_with("capture") && line.contains("Cancelled")), "{done:#?}");
}

#[tokio::test]
async fn a_reload_takes_the_new_configuration_and_a_bad_one_changes_nothing() {
    let _alone = ALONE.lock().await;
    let fleet = Fleet::declared();
    let config = |change: &dyn Fn(&mut Config)| {
        let mut config = fleet.config();
        change(&mut config);
        config
    };
    let now = Arc::new(Mutex::new(config(&|config| config.allow.read.clear())));
    let read = now.clone();
    let open: daemon::Open =
        Box::new(move || Controller::open(read.lock().unwrap().clone(), Arc::new(SystemClock)));
    let diary = Arc::new(Diary::default());
    let running = tokio::spawn(daemon::run(open, diary.clone()));
    diary.until(2, "capture full of infra").await;

    *now.lock().unwrap() = config(&|config| config.state_dir = fleet.path("data/shop.db"));
    signal(Signal::HUP);
    diary.until_asked(1).await;
    fleet.declare(&format!("{}\n# a change", fleet.declaration()));
    diary.until(4, "capture").await;
    assert_eq!(diary.number_of("capture full of shop"), 0, "the host does not allow it");

    *now.lock().unwrap() = fleet.config();
    signal(Signal::HUP);
    diary.until(1, "capture full of shop").await;
    signal(Signal::TERM);
    assert_eq!(running.await.unwrap().unwrap(), Ended::Terminated);
}

#[tokio::test]
async fn a_pass_of_another_process_makes_the_loop_look_anew() {
    let _alone = ALONE.lock().await;
    let fleet = Fleet::declared();
    let diary = Arc::new(Diary::default());
    let running = tokio::spawn(daemon::run(open(&fleet), diary.clone()));
    diary.until(1, "copy shop").await;
    // What the loop has seen would be good enough for a commit's sake.
    std::fs::remove_dir_all(fleet.path("stores/offsite/pavroto/shop")).unwrap();
    let state = StateDir::open(fleet.path("state")).unwrap();
    let lock = RefCell::new(None);
    let is_free = || {
        *lock.borrow_mut() = state.lock().ok();
        lock.borrow().is_some()
    };
    diary.wait(is_free, "the end of the first pass").await;
    state.begin_pass(None).unwrap();
    drop(lock);
    fleet.declare(&format!("{}\n# a change", fleet.declaration()));
    diary.until(2, "copy shop").await;
    signal(Signal::TERM);
    assert_eq!(running.await.unwrap().unwrap(), Ended::Terminated);
}
