//! GitHub (REST API 2022-11-28: "Commit statuses", "Issue comments", "Users").

use serde_json::{Value, json};

use super::{CONTEXT, Call, Comment, Dialect, Method, PAGE, State, Status, owner_and_name, segment};

/// One repository of GitHub.
pub struct Github {
    pub(super) repo: String,
}

impl Github {
    pub fn new(project: &str) -> Self {
        Self { repo: format!("/repos/{}", owner_and_name(project)) }
    }
}

impl Dialect for Github {
    fn authorization(&self, token: &str) -> (&'static str, String) {
        ("authorization", format!("Bearer {token}"))
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")]
    }

    fn me(&self) -> Call {
        Call::new(Method::Get, "/user".to_owned(), None)
    }

    fn read_me(&self, answer: &Value) -> Option<String> {
        answer["login"].as_str().map(str::to_owned)
    }

    fn status(&self, commit: &str, status: &Status) -> Call {
        let path = format!("{}/statuses/{}", self.repo, segment(commit));
        Call::new(Method::Post, path, Some(status_body(status)))
    }

    fn comments(&self, change: u64, page: usize) -> Option<Call> {
        let path = format!("{}/issues/{change}/comments?per_page={PAGE}&page={page}", self.repo);
        Some(Call::new(Method::Get, path, None))
    }

    fn read_comments(&self, answer: &Value) -> Option<Vec<Comment>> {
        answer.as_array()?.iter().map(|it| comment(it, it["user"]["type"] == "Bot")).collect()
    }

    fn create(&self, change: u64, body: &str) -> Call {
        Call::new(
            Method::Post,
            format!("{}/issues/{change}/comments", self.repo),
            Some(json!({ "body": body })),
        )
    }

    fn update(&self, _change: u64, comment: u64, body: &str) -> Call {
        Call::new(
            Method::Patch,
            format!("{}/issues/comments/{comment}", self.repo),
            Some(json!({ "body": body })),
        )
    }

    fn longest_comment(&self) -> usize {
        65_536
    }
}

fn status_body(status: &Status) -> Value {
    let state = match status.state {
        State::Pending => "pending",
        State::Success => "success",
        State::Failure => "failure",
    };
    let mut body = json!({ "state": state, "context": CONTEXT, "description": status.description });
    if let Some(page) = &status.page {
        body["target_url"] = page.as_str().into();
    }
    body
}

/// A comment as GitHub and Forgejo tell it.
pub fn comment(it: &Value, by_ci: bool) -> Option<Comment> {
    Some(Comment {
        id: it["id"].as_u64()?,
        // The author of a comment may be gone.
        author: it["user"]["login"].as_str().unwrap_or_default().to_owned(),
        by_ci,
        body: it["body"].as_str().unwrap_or_default().to_owned(),
    })
}
