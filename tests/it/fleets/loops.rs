//! The loops of several fleets in one process.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Once},
    time::Duration,
};

use backstay::{
    apply::executor::{Failure, Listener, Outcome},
    daemon::{Audience, fleets::Audiences, queue::Why, requests},
    plan::Step,
    reconcile::{Pass, PassError},
    spec::names::FleetName,
    state::StateDir,
};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Diaries, Host, terminate};
use crate::{
    cli::backstay,
    daemon::{ALONE, Diary, get, open_metrics, signal},
    passes::Fleet,
};

const LISTEN: &str = "[http]\nlisten = \"127.0.0.1:0\"\n";

/// What is answered, once something has happened that makes it what is wanted.
async fn until_answered(
    diary: &Diary,
    address: SocketAddr,
    path: &str,
    wanted: impl Fn(&str) -> bool,
) -> String {
    let answered = async {
        loop {
            let answer = get(address, path).await;
            if wanted(&answer) {
                return answer;
            }
            // What is shown changes shortly after it was told.
            let _ = tokio::time::timeout(Duration::from_millis(50), diary.news.notified()).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), answered).await {
        Ok(answer) => answer,
        Err(_) => panic!("{path}: {}", get(address, path).await),
    }
}

fn is_ready(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200")
}

/// A fleet whose commit asks for a database that only `other` may read.
fn that_reaches_for(other: &Fleet) -> Fleet {
    let fleet = Fleet::new();
    let theirs = other.path("data/shop.db");
    fleet.declare(&format!(
        "{}\n[backup.theirs]\npolicy = \"often\"\nstores = [\"vault\"]\nsqlite = {{ path = \"{}\" }}\n",
        fleet.declaration(),
        theirs.display()
    ));
    fleet
}

#[tokio::test]
async fn a_commit_runs_in_its_own_fleet_only_within_what_that_one_is_allowed() {
    let _alone = ALONE.lock().await;
    let (host, site) = (Host::new(), Fleet::declared());
    let shop = that_reaches_for(&site);
    host.add("shop", &shop, "");
    host.add("site", &site, "");
    let diaries = Arc::new(Diaries::default());
    let running = host.run(diaries.clone());
    let (of_shop, of_site) = (diaries.diary("shop"), diaries.diary("site"));
    of_shop.until(1, "copy shop").await;
    of_site.until(1, "copy shop").await;

    let captures = of_shop.number_of("capture");
    shop.declare(&format!("{}\n# a change", shop.declaration()));
    of_shop.until(captures + 1, "capture").await;
    of_shop.wait(|| shop.manifests("vault", "infra").len() == 2, "the commit's bundle").await;
    assert_eq!(site.manifests("vault", "infra").len(), 1);
    assert_eq!(of_shop.number_of("capture full of theirs"), 0);
    assert!(!of_site.woken.lock().unwrap().contains(&Why::Commit));

    let folder = host.folder();
    let wake = move || backstay(&["--config", folder.to_str().unwrap(), "wake"]);
    assert!(tokio::task::spawn_blocking(wake).await.unwrap().status.success());
    for diary in [&of_shop, &of_site] {
        diary.wait(|| diary.woken.lock().unwrap().contains(&Why::Hook), "the push's hook").await;
    }
    terminate(running).await;
    let socket = StateDir::socket_in(&shop.path("state"));
    assert_eq!(requests::wake(&socket).await.unwrap(), None);
}

#[tokio::test]
async fn fleets_of_one_address_are_shown_beside_each_other_and_together() {
    let _alone = ALONE.lock().await;
    let (host, shop, site) = (Host::new(), Fleet::declared(), Fleet::declared());
    let secret = host.folder().join("secret");
    fs::write(&secret, "a secret that both sides know").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    host.add("shop", &shop, &format!("{LISTEN}webhooks.git = {{ secret = {{ file = \"secret\" }} }}"));
    host.add("site", &site, LISTEN);
    let diaries = Arc::new(Diaries::default());
    let running = host.run(diaries.clone());
    let (of_shop, of_site) = (diaries.diary("shop"), diaries.diary("site"));
    let address = of_shop.address().await;
    assert_eq!(of_site.address().await, address);
    of_shop.until(1, "copy shop").await;
    of_site.until(1, "copy shop").await;

    until_answered(&of_shop, address, "/healthz", is_ready).await;
    for path in ["healthz", "metrics", "api/status"] {
        assert!(is_ready(&get(address, &format!("/fleets/site/{path}")).await), "{path}");
        assert!(get(address, &format!("/fleets/none/{path}")).await.starts_with("HTTP/1.1 404"), "{path}");
    }
    let alone = get(address, "/fleets/site/metrics").await;
    assert!(alone.contains("backstay_expected_interval_seconds{backup=\"shop\",store=\"\""), "{alone}");
    let together = get(address, "/metrics").await;
    for fleet in ["shop", "site"] {
        let interval = format!("backstay_expected_interval_seconds{{fleet=\"{fleet}\",backup=\"shop\"");
        let ready = format!("backstay_fleet_ready{{fleet=\"{fleet}\"}} 1");
        assert!(together.contains(&interval) && together.contains(&ready), "{together}");
    }
    open_metrics(together.split_once("\r\n\r\n").unwrap().1);
    let status = get(address, "/api/status").await;
    assert_eq!(status.matches("\"backstay.status/1\"").count(), 2, "{status}");

    assert!(post(address, "/fleets/shop/hooks/git").await.starts_with("HTTP/1.1 202"));
    let woken = |diary: &Diary| diary.woken.lock().unwrap().contains(&Why::Webhook);
    of_shop.wait(|| woken(&of_shop), "the webhook").await;
    assert!(!woken(&of_site));
    for path in ["/fleets/site/hooks/git", "/fleets/none/hooks/git", "/hooks/git"] {
        assert!(post(address, path).await.starts_with("HTTP/1.1 404"), "{path}");
    }
    terminate(running).await;
}

async fn post(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a secret that both sides know\r\n\
         Content-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_fleet_that_cannot_be_read_or_has_no_repo_is_shown_and_holds_no_other_one_back() {
    let _alone = ALONE.lock().await;
    let (host, shop, site, gone) = (Host::new(), Fleet::declared(), Fleet::declared(), Fleet::declared());
    host.add("shop", &shop, LISTEN);
    host.write("site", "state_dir = 1");
    host.add("gone", &gone, LISTEN);
    fs::remove_dir_all(&gone.repo.path).unwrap();
    fs::write(host.folder().join("Not a name.toml"), "").unwrap();
    let diaries = Arc::new(Diaries::default());
    let running = host.run(diaries.clone());
    let of_shop = diaries.diary("shop");
    of_shop.until(1, "copy shop").await;
    diaries.until_fault("fleet site does not run").await;

    let told =
        |answer: &str| answer.contains("gone: failed to") && answer.contains("\"last_pass_age_seconds\":0");
    let address = of_shop.address().await;
    let health = until_answered(&of_shop, address, "/healthz", told).await;
    assert!(health.starts_with("HTTP/1.1 503"), "{health}");
    assert!(health.contains("; site: failed to use the controller's configuration"), "{health}");
    assert!(health.contains("Not a name.toml: failed to take"), "{health}");
    until_answered(&of_shop, address, "/fleets/shop/healthz", is_ready).await;
    assert!(get(address, "/fleets/site/metrics").await.starts_with("HTTP/1.1 503"));
    open_metrics(get(address, "/metrics").await.split_once("\r\n\r\n").unwrap().1);

    host.add("site", &site, "");
    signal(Signal::HUP);
    diaries.diary("site").until(1, "copy shop").await;
    // A configuration that becomes faulty leaves a loop as it is.
    host.write("site", "state_dir = 1");
    signal(Signal::HUP);
    diaries.until_fault("fleet site goes on under the configuration that it has").await;
    assert_eq!(requests::wake(&StateDir::socket_in(&site.path("state"))).await.unwrap(), Some(()));
    terminate(running).await;
}

#[tokio::test]
async fn fleets_come_and_go_with_their_files_and_nothing_of_theirs_is_deleted() {
    let _alone = ALONE.lock().await;
    let (host, shop, site) = (Host::new(), Fleet::declared(), Fleet::declared());
    host.add("shop", &shop, LISTEN);
    let diaries = Arc::new(Diaries::default());
    let running = host.run(diaries.clone());
    let (of_shop, of_site) = (diaries.diary("shop"), diaries.diary("site"));
    let address = of_shop.address().await;
    of_shop.until(1, "copy shop").await;

    host.add("site", &site, LISTEN);
    signal(Signal::HUP);
    of_site.until(1, "copy shop").await;

    fs::remove_file(host.file("shop")).unwrap();
    signal(Signal::HUP);
    let is_gone = |answer: &str| answer.starts_with("HTTP/1.1 404");
    until_answered(&of_site, address, "/fleets/shop/healthz", is_gone).await;
    assert_eq!(requests::wake(&StateDir::socket_in(&shop.path("state"))).await.unwrap(), None);
    assert_eq!((shop.manifests("vault", "shop").len(), shop.manifests("offsite", "shop").len()), (1, 1));
    until_answered(&of_site, address, "/healthz", is_ready).await;

    let captures = of_shop.number_of("capture");
    shop.declare(&format!("{}\n# while nobody looked", shop.declaration()));
    host.add("shop", &shop, "");
    signal(Signal::HUP);
    of_shop.until(captures + 1, "capture").await;
    // A folder that can't be read is not one without fleets.
    let away = host.folder().with_extension("away");
    fs::rename(host.folder(), &away).unwrap();
    signal(Signal::HUP);
    diaries.until_fault("the fleets go on as they are").await;
    assert_eq!(requests::wake(&StateDir::socket_in(&site.path("state"))).await.unwrap(), Some(()));
    fs::rename(&away, host.dir.path()).unwrap();
    terminate(running).await;
}

/// Panics the first time that its loop is about to run.
struct Panicky {
    diaries: Diaries,
    once: Arc<Once>,
}

struct Startled(Arc<Once>, Arc<Diary>);

impl Audiences for Panicky {
    fn of(&self, fleet: &FleetName) -> Arc<dyn Audience> {
        let diary = self.diaries.diary(fleet.as_str());
        if fleet.as_str() == "shop" { Arc::new(Startled(self.once.clone(), diary)) } else { diary }
    }

    fn fault(&self, fault: &str) {
        self.diaries.fault(fault);
    }
}

impl Listener for Startled {
    fn started(&self, step: &Step) {
        self.1.started(step);
    }
    fn pauses(&self, step: &Step, failure: &Failure, pause: Duration) {
        self.1.pauses(step, failure, pause);
    }
    fn ended(&self, step: &Step, outcome: &Outcome) {
        self.1.ended(step, outcome);
    }
}

impl Audience for Startled {
    fn listens(&self, address: Option<SocketAddr>) {
        let mut first = false;
        self.0.call_once(|| first = true);
        assert!(!first, "planted");
        self.1.listens(address);
    }
    fn passed(&self, result: &Result<Pass, PassError>) {
        self.1.passed(result);
    }
}

#[tokio::test]
async fn a_loop_that_panics_or_cannot_begin_is_begun_again_and_the_others_go_on() {
    let _alone = ALONE.lock().await;
    let (host, shop, site, busy) = (Host::new(), Fleet::declared(), Fleet::declared(), Fleet::declared());
    host.add("shop", &shop, "");
    host.add("site", &site, "");
    host.add("busy", &busy, "");
    let state = StateDir::open(busy.path("state")).unwrap();
    let lock = state.lock_controller().unwrap();
    let panicky = Arc::new(Panicky { diaries: Diaries::default(), once: Arc::new(Once::new()) });
    let running = host.run(panicky.clone());
    panicky.diaries.until_fault("fleet shop stands still: it panicked: planted").await;
    panicky.diaries.until_fault("fleet busy stands still: failed to start a controller").await;
    for fleet in ["site", "shop"] {
        panicky.diaries.diary(fleet).until(1, "copy shop").await;
    }
    drop(lock);
    panicky.diaries.diary("busy").until(1, "copy shop").await;
    terminate(running).await;
}
