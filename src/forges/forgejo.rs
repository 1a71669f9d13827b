//! Forgejo and Gitea (their API's own description, `/swagger.v1.json`: `repoCreateStatus`, `issueGetComments`,
//! `issueCreateComment`, `issueEditComment`, `userGetCurrent`).

use serde_json::Value;

use super::{
    Call, Comment, Dialect, Method, Status,
    github::{Github, comment},
};

/// Whom Actions write as.
const CI_USERS: [&str; 2] = ["forgejo-actions", "gitea-actions"];

/// One repository of a Forgejo or Gitea: much of its API is GitHub's.
pub struct Forgejo(Github);

impl Forgejo {
    pub fn new(project: &str) -> Self {
        Self(Github::new(project))
    }
}

impl Dialect for Forgejo {
    fn authorization(&self, token: &str) -> (&'static str, String) {
        ("authorization", format!("token {token}"))
    }

    fn me(&self) -> Call {
        self.0.me()
    }

    fn read_me(&self, answer: &Value) -> Option<String> {
        self.0.read_me(answer)
    }

    fn status(&self, commit: &str, status: &Status) -> Call {
        self.0.status(commit, status)
    }

    /// All comments come at once.
    fn comments(&self, change: u64, page: usize) -> Option<Call> {
        let path = format!("{}/issues/{change}/comments", self.0.repo);
        (page == 1).then(|| Call::new(Method::Get, path, None))
    }

    fn read_comments(&self, answer: &Value) -> Option<Vec<Comment>> {
        let by_ci = |it: &Value| it["user"]["login"].as_str().is_some_and(|login| CI_USERS.contains(&login));
        answer.as_array()?.iter().map(|it| comment(it, by_ci(it))).collect()
    }

    fn create(&self, change: u64, body: &str) -> Call {
        self.0.create(change, body)
    }

    fn update(&self, change: u64, comment: u64, body: &str) -> Call {
        self.0.update(change, comment, body)
    }

    fn longest_comment(&self) -> usize {
        self.0.longest_comment()
    }
}
