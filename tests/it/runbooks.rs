//! Runbooks on the page of the loop.

use std::sync::Arc;

use backstay::{clock::SystemClock, config::Config, daemon, reconcile::Controller};
use rustix::process::Signal;

use crate::{
    daemon::{ALONE, Diary, get, signal},
    passes::Fleet,
};

#[tokio::test]
async fn the_page_shows_runbooks_as_things_stand_after_the_last_pass() {
    let _alone = ALONE.lock().await;
    let fleet = Fleet::new();
    fleet.declare(&format!("{}\n[recovery.site]\nsteps = [{{ restore = \"shop\" }}]\n", fleet.declaration()));
    let (config, diary) = (fleet.config(), Arc::new(Diary::default()));
    let open: daemon::Open = Box::new(move || Controller::open(config.clone(), Arc::new(SystemClock)));
    let running = tokio::spawn(daemon::run(open, diary.clone()));
    let address = diary.address().await;
    diary.until(1, "copy shop").await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let index = loop {
        let index = get(address, "/runbooks/").await;
        if !index.starts_with("HTTP/1.1 503") {
            break index;
        }
        assert!(tokio::time::Instant::now() < deadline, "{index}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(index.contains("href=\"site.html\"") && index.contains("href=\"site.md\""), "{index}");
    let page = get(address, "/runbooks/site.md").await;
    assert!(
        page.contains("content-type: text/markdown") && page.contains("# Runbook: recovery `site`"),
        "{page}"
    );
    let page = get(address, "/runbooks/site.html").await;
    assert!(page.contains("<h1>Runbook"), "{page}");
    let policy = page.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "sandbox"] {
        assert!(policy.contains(part), "{policy}");
    }
    for path in ["/runbooks/", "/runbooks/site.md", "/healthz", "/metrics", "/api/status", "/nothing"] {
        let page = get(address, path).await;
        let (head, _) = page.split_once("\r\n\r\n").unwrap();
        for part in ["x-content-type-options: nosniff", "x-frame-options: DENY", "frame-ancestors 'none'"] {
            assert!(head.contains(part), "{path}: {part} is not in\n{head}");
        }
    }
    for none in
        ["/runbooks/other.md", "/runbooks/site", "/runbooks/..%2f..%2fetc%2fpasswd", "/runbooks/../healthz"]
    {
        assert!(get(address, none).await.starts_with("HTTP/1.1 404"), "{none}");
    }
    signal(Signal::TERM);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_takes_its_time_with_runbooks_holds_no_pass_up() {
    let _alone = ALONE.lock().await;
    let fleet = Fleet::new();
    let declared = format!("{}\n[recovery.site]\nsteps = [{{ restore = \"shop\" }}]\n", fleet.declaration());
    fleet.declare(&declared);
    let config = Config { runbook_branch: Some("runbooks".to_owned()), ..fleet.config() };
    // The server waits for a lock that nobody gives back, before it takes what is pushed.
    let lock = fleet.path("infra/.git/refs/heads/runbooks.lock");
    std::fs::write(&lock, "").unwrap();
    fleet.repo.git(&["config", "core.filesRefLockTimeout", "-1"]);
    let diary = Arc::new(Diary::default());
    let open: daemon::Open = Box::new(move || Controller::open(config.clone(), Arc::new(SystemClock)));
    let running = tokio::spawn(daemon::run(open, diary.clone()));
    let address = diary.address().await;
    diary.until(1, "copy shop").await;
    until(async || fleet.path("state/written.git").exists()).await;
    let newest = fleet.declare(&format!("{declared}\n[contact.ada]\nname = \"Ada\"\n"));
    until(async || get(address, "/api/status").await.contains(&newest)).await;
    assert_eq!(fleet.repo.git(&["branch", "--list", "runbooks"]), "");
    std::fs::remove_file(&lock).unwrap();
    until(async || fleet.repo.git(&["branch", "--list", "runbooks"]).contains("runbooks")).await;
    signal(Signal::TERM);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_not_on_its_branch_is_told_as_soon_as_that_is_known_and_until_it_is_there() {
    let _alone = ALONE.lock().await;
    let fleet = Fleet::new();
    fleet.declare(&format!("{}\n[recovery.site]\nsteps = [{{ restore = \"shop\" }}]\n", fleet.declaration()));
    let config = Config { runbook_branch: Some("runbooks".to_owned()), ..fleet.config() };
    fleet.repo.git(&["branch", "runbooks", "main"]);
    let diary = Arc::new(Diary::default());
    let open: daemon::Open = Box::new(move || Controller::open(config.clone(), Arc::new(SystemClock)));
    let running = tokio::spawn(daemon::run(open, diary.clone()));
    let address = diary.address().await;
    until(async || get(address, "/api/status").await.contains("runbooks-unpublished")).await;
    // That it goes wakes the loop, and the branch is made.
    fleet.repo.git(&["branch", "-q", "-D", "runbooks"]);
    until(async || fleet.repo.git(&["branch", "--list", "runbooks"]).contains("runbooks")).await;
    until(async || !get(address, "/api/status").await.contains("runbooks-unpublished")).await;
    signal(Signal::TERM);
    running.await.unwrap().unwrap();
}

async fn until(holds: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "it never holds");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
