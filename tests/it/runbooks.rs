//! Runbooks on the page of the loop.

use std::sync::Arc;

use backstay::{clock::SystemClock, daemon, reconcile::Controller};
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
    assert!(
        page.contains("content-security-policy: default-src 'none'") && page.contains("<h1>Runbook"),
        "{page}"
    );
    for none in
        ["/runbooks/other.md", "/runbooks/site", "/runbooks/..%2f..%2fetc%2fpasswd", "/runbooks/../healthz"]
    {
        assert!(get(address, none).await.starts_with("HTTP/1.1 404"), "{none}");
    }
    signal(Signal::TERM);
    running.await.unwrap().unwrap();
}
