//! `plan --against … --post` at servers that speak the documented API of each host.

use std::{
    sync::{Arc, Mutex},
    thread,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};
use serde_json::{Value, json};

use crate::checkout::{Checkout, backstay_in, declaration};

const TOKEN: &str = "t0ken-that-nobody-may-see";
const MARK: &str = "<!-- backstay: review -->";

/// A request as the host saw it.
#[derive(Clone, Debug)]
struct Seen {
    call: String,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// What a host answers: code, a header, body.
type Answer = (u16, Option<(&'static str, &'static str)>, Value);

/// A host of repositories.
struct Host {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    checkout: Checkout,
    commit: String,
}

impl Host {
    /// Answers every request by its method and path, and by how many like it came before.
    fn new(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let (log, answer) = (seen.clone(), Arc::new(answer));
        let app = Router::new().fallback(move |request: Request| {
            let (log, answer) = (log.clone(), answer.clone());
            async move { respond(request, &log, &*answer).await }
        });
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app).await
            })
        });
        let checkout = Checkout::new();
        checkout.write(&declaration("14d"));
        let commit = checkout.commit("Keep less");
        Self { address, seen, checkout, commit }
    }

    /// Reviews and posts; exit code, and what was printed on stderr.
    fn review(&self, environment: &[(&str, &str)]) -> (i32, String) {
        let arguments = ["plan", "--against", "origin/main", "--fail-on", "loss", "--post"];
        let run = backstay_in(&self.checkout.root(), &arguments, environment);
        let (out, err) = (String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap());
        assert!(out.contains("at most 16 fewer") || out.is_empty(), "{out}\n{err}");
        assert!(!out.contains(TOKEN) && !err.contains(TOKEN), "the token was printed");
        (run.status.code().unwrap(), err)
    }

    fn calls(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.call.clone()).collect()
    }

    fn last(&self, call: &str) -> Seen {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .rfind(|seen| seen.call == call)
            .unwrap_or_else(|| panic!("no {call} in {seen:#?}"))
            .clone()
    }
}

async fn respond(
    request: Request,
    log: &Mutex<Vec<Seen>>,
    answer: &(dyn Fn(&str, usize) -> Answer + Send + Sync),
) -> Response {
    let call = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|seen| seen.call == call).count();
        log.push(Seen { call: call.clone(), headers, body });
        before
    };
    let (code, header, body) = answer(&call, before);
    let response = Response::builder().status(code);
    let response = header.into_iter().fold(response, |response, (name, value)| response.header(name, value));
    response.body(Body::from(body.to_string())).unwrap()
}

/// The variables of a run of GitHub Actions for pull request 7, whose own commit is not GITHUB_SHA.
fn github(host: &Host) -> Vec<(String, String)> {
    let event = host.checkout.beside("event.json");
    let payload = json!({ "pull_request": { "number": 7, "head": { "sha": host.commit } } });
    std::fs::write(&event, payload.to_string()).unwrap();
    let pairs = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_API_URL", host.address.as_str()),
        ("GITHUB_REPOSITORY", "ops/infra"),
        ("GITHUB_SHA", "0000000000000000000000000000000000000000"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_RUN_ID", "42"),
        ("GITHUB_TOKEN", TOKEN),
        ("GITHUB_EVENT_PATH", event.to_str().unwrap()),
    ];
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// A hundred comments of people, one of whom wrote our mark.
fn foreign() -> Value {
    let comment = |n: u64| {
        let body = if n == 5 { format!("{MARK}\nnot from you") } else { "hello".to_owned() };
        json!({ "id": n, "body": body, "user": { "login": "eve", "type": "User" } })
    };
    (1..=100).map(comment).collect()
}

const GITHUB_PAGE: &str = "GET /repos/ops/infra/issues/7/comments?per_page=100&page=";

#[test]
fn github_gets_a_status_and_a_comment_beside_those_of_others() {
    let host = Host::new(|call, _| match call {
        "GET /user" => (403, None, json!({ "message": "Resource not accessible by integration" })),
        call if call == format!("{GITHUB_PAGE}1") => (200, None, foreign()),
        call if call == format!("{GITHUB_PAGE}2") => (200, None, json!([])),
        _ => (201, None, json!({ "id": 900 })),
    });
    let (code, err) = host.review(&borrowed(&github(&host)));
    assert_eq!(code, 10, "{err}");
    let status = format!("POST /repos/ops/infra/statuses/{}", host.commit);
    let comment = "POST /repos/ops/infra/issues/7/comments";
    let pages = (format!("{GITHUB_PAGE}1"), format!("{GITHUB_PAGE}2"));
    assert_eq!(host.calls(), [&status, "GET /user", &pages.0, &pages.1, comment, &status]);
    let posted = host.last(comment);
    assert_eq!(posted.header("authorization"), format!("Bearer {TOKEN}"));
    assert_eq!(posted.header("accept"), "application/vnd.github+json");
    assert_eq!(posted.header("x-github-api-version"), "2022-11-28");
    assert!(posted.header("user-agent").starts_with("backstay/"));
    let body = posted.body["body"].as_str().unwrap();
    assert!(body.starts_with(MARK) && body.contains("at most 16 fewer full restore points"), "{body}");
    let concluded = host.last(&status).body;
    assert_eq!((&concluded["state"], &concluded["context"]), (&"failure".into(), &"backstay".into()));
    assert_eq!(concluded["target_url"], "https://github.com/ops/infra/actions/runs/42");
    assert!(concluded["description"].as_str().unwrap().contains("1 of loss"));
    assert_eq!(host.seen.lock().unwrap()[0].body["state"], "pending");
}

#[test]
fn github_gets_the_same_comment_updated() {
    let host = Host::new(|call, _| match call {
        "GET /user" => (403, None, json!({})),
        call if call.starts_with("GET") => {
            let ours = json!({ "id": 900, "body": format!("{MARK}\n\nold"), "user": { "login": "github-actions[bot]", "type": "Bot" } });
            (200, None, json!([{ "id": 1, "body": MARK, "user": { "login": "eve", "type": "User" } }, ours]))
        }
        _ => (200, None, json!({})),
    });
    let (code, err) = host.review(&borrowed(&github(&host)));
    assert_eq!((code, err.contains("Updated the comment")), (10, true), "{err}");
    assert!(host.calls().contains(&"PATCH /repos/ops/infra/issues/comments/900".to_owned()));
    assert!(!host.calls().iter().any(|call| call.starts_with("POST") && call.contains("/comments")));
}

#[test]
fn gitlab_gets_a_note_updated_by_whom_wrote_it_and_a_status_that_is_set_already_is_fine() {
    let host = Host::new(|call, _| match call {
        "GET /user" => (200, None, json!({ "username": "project_3_bot" })),
        call if call.contains("/statuses/") => {
            (400, None, json!({ "message": "Cannot transition status via :enqueue from :pending" }))
        }
        call if call.starts_with("GET") => {
            let note = |id: u64, author: &str| json!({ "id": id, "body": format!("{MARK}\n"), "author": { "username": author } });
            (200, None, json!([note(1, "eve"), note(2, "project_3_bot")]))
        }
        _ => (200, None, json!({})),
    });
    let commit = host.commit.clone();
    let (code, err) = host.review(&[
        ("GITLAB_CI", "true"),
        ("CI_API_V4_URL", &host.address),
        ("CI_PROJECT_ID", "3"),
        ("CI_COMMIT_SHA", &commit),
        ("CI_MERGE_REQUEST_IID", "9"),
        ("CI_JOB_URL", "https://gitlab.example/jobs/1"),
        ("GITLAB_TOKEN", TOKEN),
    ]);
    assert_eq!(code, 10, "{err}");
    let status = format!("POST /projects/3/statuses/{commit}");
    let notes = "GET /projects/3/merge_requests/9/notes?per_page=100&page=1&sort=asc&order_by=created_at";
    let update = "PUT /projects/3/merge_requests/9/notes/2";
    assert_eq!(host.calls(), [&status, "GET /user", notes, update, &status]);
    assert_eq!(host.last(update).header("private-token"), TOKEN);
    assert_eq!(host.last(&status).body["state"], "failed");
}

#[test]
fn forgejo_gets_a_comment_from_a_token_in_a_file() {
    let host = Host::new(|call, _| match call {
        "GET /api/v1/user" => (200, None, json!({ "login": "ci" })),
        call if call.starts_with("GET") => (200, None, foreign()),
        _ => (201, None, json!({})),
    });
    let file = host.checkout.beside("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let mut environment = github(&host);
    environment.retain(|(name, _)| name != "GITHUB_TOKEN" && name != "GITHUB_API_URL");
    environment.push(("GITHUB_API_URL".to_owned(), format!("{}/api/v1", host.address)));
    environment.push(("FORGEJO_ACTIONS".to_owned(), "true".to_owned()));
    environment.push(("BACKSTAY_FORGE_TOKEN_FILE".to_owned(), file.to_str().unwrap().to_owned()));
    let (code, err) = host.review(&borrowed(&environment));
    assert_eq!(code, 10, "{err}");
    let comment = "POST /api/v1/repos/ops/infra/issues/7/comments";
    let status = format!("POST /api/v1/repos/ops/infra/statuses/{}", host.commit);
    let list = "GET /api/v1/repos/ops/infra/issues/7/comments";
    assert_eq!(host.calls(), [&status, "GET /api/v1/user", list, comment, &status]);
    assert_eq!(host.last(comment).header("authorization"), format!("token {TOKEN}"));
}

#[test]
fn bitbucket_gets_a_comment_without_html_and_a_build_status() {
    let host = Host::new(|call, _| match call {
        "GET /user" => (200, None, json!({ "uuid": "{me}" })),
        call if call.starts_with("GET") => {
            let raw = "[backstay-review]: # (backstay)\n\nold";
            let ours =
                json!({ "id": 4, "content": { "raw": raw }, "user": { "uuid": "{me}", "type": "user" } });
            let deleted = json!({ "id": 3, "deleted": true, "content": { "raw": raw }, "user": { "uuid": "{me}", "type": "user" } });
            (200, None, json!({ "values": [deleted, ours], "next": "https://evil.example/steal" }))
        }
        _ => (200, None, json!({})),
    });
    let commit = host.commit.clone();
    let (code, err) = host.review(&[
        ("BITBUCKET_BUILD_NUMBER", "12"),
        ("BACKSTAY_FORGE_API", &host.address),
        ("BITBUCKET_REPO_FULL_NAME", "ops/infra"),
        ("BITBUCKET_COMMIT", &commit),
        ("BITBUCKET_PR_ID", "5"),
        ("BITBUCKET_TOKEN", TOKEN),
    ]);
    assert_eq!(code, 10, "{err}");
    let update = host.last("PUT /repositories/ops/infra/pullrequests/5/comments/4");
    assert!(!update.body["content"]["raw"].as_str().unwrap().contains('<'), "{:?}", update.body);
    let status = host.last(&format!("POST /repositories/ops/infra/commit/{commit}/statuses/build")).body;
    assert_eq!((&status["key"], &status["state"]), (&"backstay".into(), &"FAILED".into()));
    assert_eq!(status["url"], "https://bitbucket.org/ops/infra/pipelines/results/12");
}

#[test]
fn what_a_host_asks_to_wait_for_is_tried_again() {
    let host = Host::new(|call, before| match (call, before) {
        ("GET /user", 0) => (429, Some(("retry-after", "0")), json!({})),
        ("GET /user", 1) => (503, Some(("retry-after", "0")), json!({})),
        ("GET /user", _) => (403, None, json!({})),
        (call, 0) if call.contains("/statuses/") => (403, Some(("retry-after", "0")), json!({})),
        (call, _) if call.starts_with("GET") => (200, None, json!([])),
        _ => (201, None, json!({})),
    });
    let (code, err) = host.review(&borrowed(&github(&host)));
    assert_eq!(code, 10, "{err}");
}

#[test]
fn a_comment_whose_answer_was_lost_is_not_written_twice() {
    let host = Host::new(|call, before| match (call, before) {
        ("GET /user", _) => (200, None, json!({ "login": "ci" })),
        (call, 0) if call.starts_with("GET") => (200, None, json!([])),
        (call, _) if call.starts_with("GET") => {
            (200, None, json!([{ "id": 900, "body": MARK, "user": { "login": "ci", "type": "User" } }]))
        }
        (call, _) if call.ends_with("/issues/7/comments") => (502, Some(("retry-after", "0")), json!({})),
        _ => (201, None, json!({})),
    });
    let (code, err) = host.review(&borrowed(&github(&host)));
    assert_eq!(code, 10, "{err}");
    let created =
        host.calls().iter().filter(|call| *call == "POST /repos/ops/infra/issues/7/comments").count();
    assert_eq!(created, 1);
    assert!(host.calls().contains(&"PATCH /repos/ops/infra/issues/comments/900".to_owned()));
}

#[test]
fn a_refusal_fails_with_what_to_do_after_the_review_was_printed() {
    for (code, hint) in [
        (401, "make a new one"),
        (403, "give it the right"),
        (404, "check the project"),
        (302, "BACKSTAY_FORGE_API"),
    ] {
        let host = Host::new(move |_, _| {
            (code, Some(("location", "https://evil.example/")), json!({ "message": "no" }))
        });
        let (exit, err) = host.review(&borrowed(&github(&host)));
        assert_eq!(exit, 1, "{err}");
        assert!(err.contains(hint) && err.contains("set the status of commit"), "{err}");
        assert_eq!(host.calls().len(), 1, "a refusal was asked again");
    }
}

#[test]
fn outside_of_ci_without_a_token_or_without_https_nothing_is_asked() {
    let host = Host::new(|_, _| (200, None, json!({})));
    let (exit, err) = host.review(&[]);
    assert!(exit == 1 && err.contains("--post=forgejo"), "{err}");
    let environment: Vec<_> = github(&host).into_iter().filter(|(name, _)| name != "GITHUB_TOKEN").collect();
    let (exit, err) = host.review(&borrowed(&environment));
    assert!(exit == 1 && err.contains("BACKSTAY_FORGE_TOKEN_FILE"), "{err}");
    let mut clear = github(&host);
    clear.push(("BACKSTAY_FORGE_API".to_owned(), "http://git.example.org/".to_owned()));
    let (exit, err) = host.review(&borrowed(&clear));
    assert!(exit == 1 && err.contains("use https"), "{err}");
    assert_eq!(host.calls(), [""; 0]);
}
