//! The host of the infra repo: commit statuses, and one comment a merge request that is kept up to date.
//!
//! What a host wants to be asked is a [`Dialect`]: pure, one file a host. [`client`] asks it, in bounds. Nothing that a
//! host answers is followed: no redirect, no link to a next page, so that the token goes nowhere else.

mod bitbucket;
pub mod ci;
pub mod client;
mod forgejo;
mod github;
mod gitlab;

use serde_json::Value;

pub use ci::{CiError, Circumstances, circumstances};
pub use client::{Client, ForgeError};

/// What kind of host it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// GitHub, and GitHub Enterprise.
    Github,
    /// GitLab, and instances of one's own.
    Gitlab,
    /// Forgejo and Gitea.
    Forgejo,
    /// Bitbucket Cloud.
    Bitbucket,
}

/// How a commit fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not known yet.
    Pending,
    /// It may be merged.
    Success,
    /// It should not be.
    Failure,
}

/// A commit's status, under the name `backstay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// How it fares.
    pub state: State,
    /// Why, in at most [`LONGEST_DESCRIPTION`] characters.
    pub description: String,
    /// A page that tells more.
    pub page: Option<String>,
}

/// The name of our status.
pub const CONTEXT: &str = "backstay";
/// GitHub takes 140 characters (REST API, "Create a commit status"); the others take more.
pub const LONGEST_DESCRIPTION: usize = 140;

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
}

/// One request, its path relative to the root of the host's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// How.
    pub method: Method,
    /// Begins with `/`; every part that is not ours is percent-encoded.
    pub path: String,
    /// JSON.
    pub body: Option<Value>,
}

impl Call {
    fn new(method: Method, path: String, body: Option<Value>) -> Self {
        Self { method, path, body }
    }
}

/// A comment of a merge request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Its number.
    pub id: u64,
    /// Who wrote it, as [`Dialect::me`] names us.
    pub author: String,
    /// Whether a program wrote it that is no user: the CI's own.
    pub by_ci: bool,
    /// As it was written.
    pub body: String,
}

/// What one kind of host wants to be asked. Every path and body is that of its documented API.
pub trait Dialect: Send + Sync {
    /// The header that carries the token.
    fn authorization(&self, token: &str) -> (&'static str, String);
    /// Headers besides it.
    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("accept", "application/json")]
    }
    /// Who we are.
    fn me(&self) -> Call;
    /// Our name in its answer, as comments have it.
    fn read_me(&self, answer: &Value) -> Option<String>;
    /// Sets our status of a commit; setting it again replaces it.
    fn status(&self, commit: &str, status: &Status) -> Call;
    /// Whether a refusal of [`Dialect::status`] says that it is set already.
    fn is_set_already(&self, _code: u16, _answer: &str) -> bool {
        false
    }
    /// A page of a merge request's comments, from 1; `None` beyond the last where a host does not know pages.
    fn comments(&self, change: u64, page: usize) -> Option<Call>;
    /// The comments of a page.
    fn read_comments(&self, answer: &Value) -> Option<Vec<Comment>>;
    /// Writes a comment.
    fn create(&self, change: u64, body: &str) -> Call;
    /// Replaces a comment.
    fn update(&self, change: u64, comment: u64, body: &str) -> Call;
    /// What a comment of ours begins with, which readers do not see.
    fn marker(&self) -> &'static str {
        "<!-- backstay: review -->"
    }
    /// The longest comment, bytes.
    fn longest_comment(&self) -> usize;
}

/// Comments that a page holds.
const PAGE: usize = 100;

/// The dialect of a host for one of its repositories, named as the host's CI names it.
pub fn dialect(kind: Kind, project: &str) -> Box<dyn Dialect> {
    match kind {
        Kind::Github => Box::new(github::Github::new(project)),
        Kind::Gitlab => Box::new(gitlab::Gitlab::new(project)),
        Kind::Forgejo => Box::new(forgejo::Forgejo::new(project)),
        Kind::Bitbucket => Box::new(bitbucket::Bitbucket::new(project)),
    }
}

/// One segment of a path (RFC 3986, section 3.3): what is not unreserved is percent-encoded.
fn segment(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    // A segment of dots alone would lead elsewhere.
    if matches!(text, "." | "..") { text.replace('.', "%2E") } else { text.bytes().map(byte).collect() }
}

/// `owner/name`, each part a segment.
fn owner_and_name(project: &str) -> String {
    project.split('/').map(segment).collect::<Vec<_>>().join("/")
}
