//! Webhooks as forges send them, over a real connection.

use std::{
    collections::BTreeMap, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration,
};

use backstay::{
    clock::{Clock, ManualClock},
    config::{Forge, HostSecret},
    web::{self, Board, Shown, Webhooks, webhooks::WebhookError},
};
use futures::poll;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

const SECRET: &str = "a secret that both sides know";

/// A page that takes webhooks of every forge but GitLab.
struct Page {
    address: SocketAddr,
    heard: Arc<Notify>,
    clock: Arc<ManualClock>,
    dir: TempDir,
    stop: CancellationToken,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Page {
    async fn open() -> Self {
        let dir = secret_in_a_file(SECRET);
        let heard = Arc::new(Notify::new());
        let webhooks = Webhooks::open(secrets(&dir), heard.clone()).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::now()));
        let shown = Shown {
            board: Arc::new(Board::new(Duration::from_secs(600))),
            webhooks: Arc::new(webhooks),
            clock: clock.clone(),
        };
        let listener = web::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(web::serve(listener, shown, stop.clone()));
        Self { address, heard, clock, dir, stop }
    }

    async fn post(&self, path: &str, headers: &str, body: &[u8]) -> u16 {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        status(&self.talk(&[head.as_bytes(), body].concat()).await)
    }

    async fn talk(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut answer = Vec::new();
        // A server that refuses what it was not sent yet closes the connection.
        let _ = stream.write_all(request).await;
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn github(&self, id: &str, body: &[u8]) -> u16 {
        let headers = format!("X-GitHub-Delivery: {id}\r\nX-Hub-Signature-256: sha256={}\r\n", sign(body));
        self.post("/hooks/github", &headers, body).await
    }

    /// Whether somebody was heard since the last time.
    async fn was_heard(&self) -> bool {
        poll!(std::pin::pin!(self.heard.notified())).is_ready()
    }

    async fn metrics(&self) -> String {
        self.talk(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await
    }
}

fn secret_in_a_file(secret: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    fs::write(&file, secret).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    dir
}

fn secrets(dir: &TempDir) -> BTreeMap<Forge, HostSecret> {
    let others = Forge::ALL.into_iter().filter(|forge| *forge != Forge::GitLab);
    others.map(|forge| (forge, HostSecret::File(dir.path().join("secret")))).collect()
}

fn sign(body: &[u8]) -> String {
    let hmac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    hex::encode(hmac.chain_update(body).finalize().into_bytes())
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap()
}

#[tokio::test]
async fn a_delivery_of_each_forge_causes_a_look_and_its_body_is_never_read() {
    let page = Page::open().await;
    // Not even JSON: nothing in it decides anything.
    let signature = |body: &str| sign(body.as_bytes());
    for (path, headers, body) in [
        ("/hooks/github", format!("X-Hub-Signature-256: sha256={}\r\n", signature("1")), "1"),
        ("/hooks/gitea", format!("X-Gitea-Signature: {}\r\n", signature("\0")), "\0"),
        ("/hooks/forgejo", format!("X-Forgejo-Signature: {}\r\n", signature("{")), "{"),
        ("/hooks/bitbucket", format!("X-Hub-Signature: sha256={}\r\n", signature("")), ""),
        ("/hooks/git", format!("Authorization: Bearer {SECRET}\r\n"), ""),
    ] {
        assert_eq!(page.post(path, &headers, body.as_bytes()).await, 202, "{path}");
        assert!(page.was_heard().await, "{path}");
    }
}

#[tokio::test]
async fn who_does_not_know_the_secret_is_told_nothing_and_counted() {
    let page = Page::open().await;
    for (path, headers) in [
        ("/hooks/github", format!("X-Hub-Signature-256: sha256={}\r\n", sign(b"another body"))),
        ("/hooks/github", String::new()),
        ("/hooks/gitea", "X-Gitea-Signature: \u{ff}\r\n".to_owned()),
        ("/hooks/git", "Authorization: Bearer a secret that both sides knew\r\n".to_owned()),
    ] {
        assert_eq!(page.post(path, &headers, b"body").await, 401, "{path}");
    }
    let head = "POST /hooks/github HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let answer = page.talk(head.as_bytes()).await;
    assert!(answer.ends_with("\r\n\r\n"), "no word of why: {answer}");
    assert_eq!(page.post("/hooks/gitlab", "", b"").await, 404, "not configured");
    assert_eq!(page.post("/hooks/nobody", "", b"").await, 404);
    assert_eq!(status(&page.talk(b"GET /hooks/github HTTP/1.1\r\nHost: localhost\r\n\r\n").await), 405);
    assert!(!page.was_heard().await);

    let metrics = page.metrics().await;
    let refused = "backstay_webhook_deliveries_total{forge=\"github\",answer=\"unproven\"} 3";
    assert!(metrics.contains(refused), "{metrics}");
    assert!(!metrics.contains("nobody"), "{metrics}");
}

#[tokio::test]
async fn a_delivery_that_came_before_is_refused_whatever_id_it_wears_now() {
    let page = Page::open().await;
    assert_eq!(page.github("1", b"first").await, 202);
    assert!(page.was_heard().await);
    assert_eq!(page.github("1", b"first").await, 409);
    assert_eq!(page.github("2", b"first").await, 409, "the signature does not cover the id");
    assert_eq!(page.github("1", b"second").await, 409);
    assert!(!page.was_heard().await);
    assert_eq!(page.github("3", b"third").await, 202);
    page.clock.set(page.clock.now() + SignedDuration::from_hours(25));
    assert_eq!(page.github("1", b"first").await, 202, "a day is as long as it is remembered");
}

#[tokio::test]
async fn a_ping_is_answered_without_a_look() {
    let page = Page::open().await;
    let ping = format!("X-GitHub-Event: ping\r\nX-Hub-Signature-256: sha256={}\r\n", sign(b"{}"));
    assert_eq!(page.post("/hooks/github", &ping, b"{}").await, 200);
    assert!(!page.was_heard().await);
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_before_it_is_sent_and_a_large_one_within_it_is_not() {
    let page = Page::open().await;
    let body = vec![b'x'; 1 << 20];
    assert_eq!(page.github("1", &body).await, 202);
    let announced = "POST /hooks/github HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048577\r\n\r\n";
    assert_eq!(status(&page.talk(announced.as_bytes()).await), 413);
    // Nothing is left unread: a connection that is closed on unread bytes takes the answer with it.
    let chunks = format!("{:x}\r\n{}\r\n1\r\nx\r\n", body.len(), "x".repeat(body.len()));
    let endless = format!(
        "POST /hooks/github HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
    );
    assert_eq!(status(&page.talk(endless.as_bytes()).await), 413);
}

#[tokio::test]
async fn a_secret_may_be_exchanged_while_the_page_serves_and_a_lost_one_opens_nothing() {
    let page = Page::open().await;
    let file = page.dir.path().join("secret");
    fs::write(&file, "quite another secret").unwrap();
    assert_eq!(page.github("1", b"body").await, 401);
    fs::remove_file(&file).unwrap();
    assert_eq!(page.github("1", b"body").await, 503);
    fs::write(&file, SECRET).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(page.github("1", b"body").await, 503, "others can read it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(page.github("1", b"body").await, 202);
}

#[tokio::test]
async fn a_secret_that_can_be_guessed_or_not_be_read_is_refused_at_the_start() {
    let heard = Arc::new(Notify::new());
    let short = Webhooks::open(secrets(&secret_in_a_file("hunter2")), heard.clone());
    assert!(matches!(short, Err(WebhookError::Short(_))));
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Webhooks::open(secrets(&dir), heard), Err(WebhookError::Secret { .. })));
}

#[tokio::test]
async fn those_who_connect_and_say_nothing_do_not_keep_others_out() {
    let page = Page::open().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(page.address).await.unwrap();
        stream.write_all(b"POST /hooks/github HTTP/1.1\r\n").await.unwrap();
        silent.push(stream);
    }
    assert_eq!(page.github("1", b"body").await, 202);
}
