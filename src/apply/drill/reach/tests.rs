use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
};

use super::*;
use crate::artifact::drill::Verdict;

/// The machine of every drill of these tests.
struct At(SocketAddr);

#[async_trait]
impl Addresses for At {
    async fn of(&self, endpoint: &Endpoint) -> Result<SocketAddr, String> {
        match endpoint.host() {
            "web" | "127.0.0.9" => Ok(self.0),
            host => Err(format!("{host} is no machine of this drill")),
        }
    }
}

fn http(url: &str, status: u16, contains: Option<&str>) -> DrillCheck {
    let (url, contains) = (url.parse().unwrap(), contains.map(str::to_owned));
    DrillCheck::Http(HttpCheck { url, status, contains, within: Duration::from_secs(20) })
}

fn tcp(endpoint: &str) -> DrillCheck {
    DrillCheck::Tcp(TcpCheck { endpoint: endpoint.parse().unwrap(), within: Duration::from_secs(20) })
}

/// A server that answers once, and tells what it was asked.
async fn answering(answer: &'static str) -> (At, oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = At(listener.local_addr().unwrap());
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let mut piece = [0; 1024];
        while !request.windows(4).any(|it| it == b"\r\n\r\n") {
            let length = stream.read(&mut piece).await.unwrap();
            assert_ne!(length, 0, "the request is cut off");
            request.extend_from_slice(&piece[..length]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = tell.send(String::from_utf8(request).unwrap());
    });
    (at, told)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\nstatus is ok";

#[tokio::test]
async fn a_web_server_is_asked_where_it_is_by_the_name_that_is_declared() {
    for (url, host) in
        [("http://web:8080/health?deep=1", "web:8080"), ("http://127.0.0.9/health?deep=1", "127.0.0.9")]
    {
        let (at, asked) = answering(OK).await;
        let finding = reach(&http(url, 200, Some("is ok")), &at).await;
        assert_eq!(finding.verdict, Verdict::Passed, "{finding:?}");
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.to_lowercase().contains(&format!("host: {host}\r\n")), "{asked}");
    }
}

#[tokio::test]
async fn another_status_or_another_text_fails_and_a_redirection_is_not_followed() {
    let found = |answer, check: DrillCheck| async move { reach(&check, &answering(answer).await.0).await };
    let wrong = found(OK, http("http://web/", 204, None)).await;
    assert_eq!((wrong.verdict, wrong.found.as_str()), (Verdict::Failed, "status 200"));
    let without = found(OK, http("http://web/", 200, Some("is well"))).await;
    assert_eq!((without.verdict, without.found.as_str()), (Verdict::Failed, "status 200, without it"));
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://web/login\r\nContent-Length: 0\r\n\r\n";
    let away = found(moved, http("http://web/", 200, None)).await;
    assert_eq!((away.verdict, away.found.as_str()), (Verdict::Failed, "status 302"));
    assert_eq!(found(moved, http("http://web/", 302, None)).await.verdict, Verdict::Passed);
    let cut_off = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nstatus";
    assert_eq!(found(cut_off, http("http://web/", 200, Some("ok"))).await.verdict, Verdict::Failed);
}

#[tokio::test]
async fn what_listens_nowhere_fails_and_what_is_no_machine_of_the_drill_is_not_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = At(listener.local_addr().unwrap());
    assert_eq!(reach(&tcp("web:3306"), &at).await.verdict, Verdict::Passed);
    let port = at.0.port();
    for check in [tcp(&format!("127.0.0.1:{port}")), http(&format!("http://localhost:{port}/"), 200, None)] {
        let finding = reach(&check, &at).await;
        assert_eq!(finding.verdict, Verdict::CouldNotRun, "{finding:?}");
        assert!(finding.found.contains("no machine of this drill"), "{finding:?}");
    }
    drop(listener);
    assert_eq!(reach(&tcp("web:3306"), &at).await.verdict, Verdict::Failed);
    assert_eq!(reach(&http("http://web/", 200, None), &at).await.verdict, Verdict::Failed);
    assert_eq!(reach(&DrillCheck::Counts, &at).await.verdict, Verdict::CouldNotRun);
}

#[tokio::test]
async fn a_server_that_says_nothing_fails_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = At(listener.local_addr().unwrap());
    let (url, within) = ("http://web/".parse().unwrap(), Duration::from_millis(200));
    let check = DrillCheck::Http(HttpCheck { url, status: 200, contains: None, within });
    let finding = reach(&check, &at).await;
    assert_eq!((finding.verdict, finding.found.as_str()), (Verdict::Failed, "no answer within 200ms"));
}
