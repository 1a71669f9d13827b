//! Bitbucket Cloud (REST API 2.0: "Commit statuses", create a build status; "Pullrequests", comments; "Users").

use serde_json::{Value, json};

use super::{CONTEXT, Call, Comment, Dialect, Method, PAGE, State, Status, owner_and_name, segment};

/// One repository of Bitbucket Cloud.
pub struct Bitbucket {
    repo: String,
    home: String,
}

impl Bitbucket {
    pub fn new(project: &str) -> Self {
        let project = owner_and_name(project);
        Self { repo: format!("/repositories/{project}"), home: format!("https://bitbucket.org/{project}") }
    }
}

impl Dialect for Bitbucket {
    fn authorization(&self, token: &str) -> (&'static str, String) {
        ("authorization", format!("Bearer {token}"))
    }

    fn me(&self) -> Call {
        Call::new(Method::Get, "/user".to_owned(), None)
    }

    fn read_me(&self, answer: &Value) -> Option<String> {
        answer["uuid"].as_str().map(str::to_owned)
    }

    /// The same key replaces what was there. A page is required.
    fn status(&self, commit: &str, status: &Status) -> Call {
        let state = match status.state {
            State::Pending => "INPROGRESS",
            State::Success => "SUCCESSFUL",
            State::Failure => "FAILED",
        };
        let body = json!({
            "key": CONTEXT,
            "name": CONTEXT,
            "state": state,
            "description": status.description,
            "url": status.page.as_deref().unwrap_or(&self.home),
        });
        Call::new(
            Method::Post,
            format!("{}/commit/{}/statuses/build", self.repo, segment(commit)),
            Some(body),
        )
    }

    fn comments(&self, change: u64, page: usize) -> Option<Call> {
        let path = format!("{}/pullrequests/{change}/comments?pagelen={PAGE}&page={page}", self.repo);
        Some(Call::new(Method::Get, path, None))
    }

    fn read_comments(&self, answer: &Value) -> Option<Vec<Comment>> {
        let comment = |it: &Value| {
            let body =
                if it["deleted"] == true { "" } else { it["content"]["raw"].as_str().unwrap_or_default() };
            Some(Comment {
                id: it["id"].as_u64()?,
                author: it["user"]["uuid"].as_str().unwrap_or_default().to_owned(),
                by_ci: it["user"]["type"] == "app_user",
                body: body.to_owned(),
            })
        };
        answer["values"].as_array()?.iter().map(comment).collect()
    }

    fn create(&self, change: u64, body: &str) -> Call {
        let path = format!("{}/pullrequests/{change}/comments", self.repo);
        Call::new(Method::Post, path, Some(json!({ "content": { "raw": body } })))
    }

    fn update(&self, change: u64, comment: u64, body: &str) -> Call {
        let path = format!("{}/pullrequests/{change}/comments/{comment}", self.repo);
        Call::new(Method::Put, path, Some(json!({ "content": { "raw": body } })))
    }

    /// HTML would be shown; a link's definition is not (CommonMark 0.31, section 4.7).
    fn marker(&self) -> &'static str {
        "[backstay-review]: # (backstay)"
    }

    fn longest_comment(&self) -> usize {
        32_768
    }
}
