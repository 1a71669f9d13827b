//! Forgejo and Gitea (their API's own description, `/swagger.v1.json`: `repoCreateStatus`, `issueGetComments`,
//! `issueCreateComment`, `issueEditComment`, `userGetCurrent`).

use serde_json::{Value, json};

use super::{
    Call, Comment, Dialect, Method, Status,
    github::{comment, status_body},
    owner_and_name, segment,
};

/// Whom Actions write as.
const CI_USERS: [&str; 2] = ["forgejo-actions", "gitea-actions"];

/// One repository of a Forgejo or Gitea.
pub struct Forgejo {
    repo: String,
}

impl Forgejo {
    pub fn new(project: &str) -> Self {
        Self { repo: format!("/repos/{}", owner_and_name(project)) }
    }
}

impl Dialect for Forgejo {
    fn authorization(&self, token: &str) -> (&'static str, String) {
        ("authorization", format!("token {token}"))
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

    /// All comments come at once.
    fn comments(&self, change: u64, page: usize) -> Option<Call> {
        let path = format!("{}/issues/{change}/comments", self.repo);
        (page == 1).then(|| Call::new(Method::Get, path, None))
    }

    fn read_comments(&self, answer: &Value) -> Option<Vec<Comment>> {
        let by_ci = |it: &Value| it["user"]["login"].as_str().is_some_and(|login| CI_USERS.contains(&login));
        answer.as_array()?.iter().map(|it| comment(it, by_ci(it))).collect()
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
