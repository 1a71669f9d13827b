//! GitLab (REST API v4: "Commits", set commit pipeline status; "Notes", merge requests; "Users", current user).

use serde_json::{Value, json};

use super::{CONTEXT, Call, Comment, Dialect, Method, PAGE, State, Status, segment};

/// One project of a GitLab, by its number or its path.
pub struct Gitlab {
    project: String,
}

impl Gitlab {
    pub fn new(project: &str) -> Self {
        Self { project: format!("/projects/{}", segment(project)) }
    }
}

impl Dialect for Gitlab {
    fn authorization(&self, token: &str) -> (&'static str, String) {
        ("private-token", token.to_owned())
    }

    fn me(&self) -> Call {
        Call::new(Method::Get, "/user".to_owned(), None)
    }

    fn read_me(&self, answer: &Value) -> Option<String> {
        answer["username"].as_str().map(str::to_owned)
    }

    fn status(&self, commit: &str, status: &Status) -> Call {
        let state = match status.state {
            State::Pending => "pending",
            State::Success => "success",
            State::Failure => "failed",
        };
        let mut body = json!({ "state": state, "name": CONTEXT, "description": status.description });
        if let Some(page) = &status.page {
            body["target_url"] = page.as_str().into();
        }
        Call::new(Method::Post, format!("{}/statuses/{}", self.project, segment(commit)), Some(body))
    }

    /// Setting a status to what it is already is refused as a transition that there is not.
    fn is_set_already(&self, code: u16, answer: &str) -> bool {
        code == 400 && answer.contains("Cannot transition status")
    }

    fn comments(&self, change: u64, page: usize) -> Option<Call> {
        let path = format!(
            "{}/merge_requests/{change}/notes?per_page={PAGE}&page={page}&sort=asc&order_by=created_at",
            self.project
        );
        Some(Call::new(Method::Get, path, None))
    }

    fn read_comments(&self, answer: &Value) -> Option<Vec<Comment>> {
        let note = |it: &Value| {
            Some(Comment {
                id: it["id"].as_u64()?,
                author: it["author"]["username"].as_str().unwrap_or_default().to_owned(),
                by_ci: false,
                body: it["body"].as_str().unwrap_or_default().to_owned(),
            })
        };
        answer.as_array()?.iter().map(note).collect()
    }

    fn create(&self, change: u64, body: &str) -> Call {
        let path = format!("{}/merge_requests/{change}/notes", self.project);
        Call::new(Method::Post, path, Some(json!({ "body": body })))
    }

    fn update(&self, change: u64, comment: u64, body: &str) -> Call {
        let path = format!("{}/merge_requests/{change}/notes/{comment}", self.project);
        Call::new(Method::Put, path, Some(json!({ "body": body })))
    }

    fn longest_comment(&self) -> usize {
        1_000_000
    }
}
