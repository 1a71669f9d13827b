//! Asks a host: in bounds, again where that may help, and never anybody else.

use std::time::Duration;

use reqwest::{
    Response, StatusCode, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Call, Dialect, Method, PAGE, Status};
use crate::stores::Class;

/// The longest answer that is read, bytes: a page of the longest comments of one host does not fit, and is refused.
const LONGEST_ANSWER: usize = 16 << 20;
/// Pages of comments that are looked through.
const MOST_PAGES: usize = 30;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest pause that a host may ask for before it counts as away.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often and how fast requests are made again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Attempts after the first.
    pub more: u32,
    /// Pause before the second attempt; each further one is twice as long.
    pub first_pause: Duration,
}

impl Default for Patience {
    /// Four attempts within about ten seconds, and what a host asks for.
    fn default() -> Self {
        Self { more: 3, first_pause: Duration::from_secs(1) }
    }
}

/// Why a host did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what}: {reason}")]
pub struct ForgeError {
    what: String,
    reason: String,
    class: Class,
    /// The answer's code; `None` where there was none.
    code: Option<u16>,
}

impl ForgeError {
    /// What happens next.
    pub fn class(&self) -> Class {
        self.class
    }

    fn new(what: &str, class: Class, reason: impl Into<String>) -> Self {
        Self { what: what.to_owned(), reason: reason.into(), class, code: None }
    }
}

/// What became of a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// There was none of ours.
    Created,
    /// Ours was replaced.
    Updated,
}

/// One repository at one host.
pub struct Client {
    http: reqwest::Client,
    api: String,
    dialect: Box<dyn Dialect>,
    patience: Patience,
}

impl Client {
    /// Asks the API at `api`, which must be https, or on this machine.
    pub fn new(
        api: &str,
        dialect: Box<dyn Dialect>,
        token: &Zeroizing<String>,
        patience: Patience,
    ) -> Result<Self, ForgeError> {
        let failed = |reason: String| {
            ForgeError::new("set up the connection to the host of the repo", Class::Stalled, reason)
        };
        let url = Url::parse(api)
            .map_err(|error| failed(format!("`{api}` is no URL ({error}); set BACKSTAY_FORGE_API")))?;
        let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && here) {
            return Err(failed(format!("`{api}` would carry the token in clear; use https")));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in dialect.headers() {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let (name, value) = dialect.authorization(token);
        let value = Zeroizing::new(value);
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            failed("the token has characters that no token has; check the file or variable".to_owned())
        })?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("backstay/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { http, api: api.trim_end_matches('/').to_owned(), dialect, patience })
    }

    /// The longest comment, bytes, without what marks it as ours.
    pub fn longest_comment(&self) -> usize {
        self.dialect.longest_comment() - self.dialect.marker().len() - 2
    }

    /// Sets our status of a commit.
    pub async fn set_status(&self, commit: &str, status: &Status) -> Result<(), ForgeError> {
        let what = format!("set the status of commit {commit}");
        match self.patiently(&what, &self.dialect.status(commit, status)).await {
            Err(error) if error.code.is_some_and(|code| self.dialect.is_set_already(code, &error.reason)) => {
                Ok(())
            }
            answered => answered.map(drop),
        }
    }

    /// Writes our comment of a merge request, or replaces the one that is there.
    pub async fn comment(&self, change: u64, text: &str) -> Result<Posted, ForgeError> {
        let body = format!("{}\n\n{text}", self.dialect.marker());
        let mut attempts = 0;
        loop {
            if let Some(ours) = self.find(change).await? {
                let what = format!("update comment {ours} of merge request {change}");
                self.patiently(&what, &self.dialect.update(change, ours, &body)).await?;
                return Ok(Posted::Updated);
            }
            let what = format!("comment on merge request {change}");
            match self.once(&what, &self.dialect.create(change, &body)).await {
                Ok(_) => return Ok(Posted::Created),
                // It may have taken effect all the same: look again first, or there would be two.
                Err(error) => self.pause(error, &mut attempts).await?,
            }
        }
    }

    /// Our comment: it begins with our mark, and we wrote it. Anybody can write the mark.
    async fn find(&self, change: u64) -> Result<Option<u64>, ForgeError> {
        let me = self.me().await?;
        let what = format!("read the comments of merge request {change}");
        for page in 1..=MOST_PAGES {
            let Some(call) = self.dialect.comments(change, page) else { return Ok(None) };
            let answer = self.patiently(&what, &call).await?;
            let comments = self.dialect.read_comments(&answer).ok_or_else(|| {
                ForgeError::new(
                    &what,
                    Class::Stalled,
                    "the answer is no list of comments; check BACKSTAY_FORGE_API",
                )
            })?;
            let is_ours = |author: &str, by_ci| me.as_deref().map_or(by_ci, |me| me == author);
            let ours = comments.iter().find(|comment| {
                comment.body.trim_start().starts_with(self.dialect.marker())
                    && is_ours(&comment.author, comment.by_ci)
            });
            if let Some(ours) = ours {
                return Ok(Some(ours.id));
            }
            if comments.len() < PAGE {
                return Ok(None);
            }
        }
        let reason = format!("there are more than {} of them; write the comment by hand", MOST_PAGES * PAGE);
        Err(ForgeError::new(&what, Class::Stalled, reason))
    }

    /// Our name; `None` for a token of CI's own, which is nobody and may not ask.
    async fn me(&self) -> Result<Option<String>, ForgeError> {
        match self.patiently("ask the host who we are", &self.dialect.me()).await {
            Ok(answer) => Ok(self.dialect.read_me(&answer)),
            Err(error) if matches!(error.code, Some(401 | 403 | 404)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A request that may be made twice.
    async fn patiently(&self, what: &str, call: &Call) -> Result<Value, ForgeError> {
        let mut attempts = 0;
        loop {
            match self.once(what, call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.pause(error, &mut attempts).await?,
            }
        }
    }

    /// Waits until another attempt makes sense, or gives the error back.
    async fn pause(&self, error: ForgeError, attempts: &mut u32) -> Result<(), ForgeError> {
        let backoff = self.patience.first_pause * 2_u32.saturating_pow(*attempts);
        *attempts += 1;
        let pause = match error.class {
            _ if *attempts > self.patience.more => return Err(error),
            Class::Retry => backoff,
            Class::Wait(pause) if pause <= LONGEST_WAIT => pause,
            _ => return Err(error),
        };
        tracing::debug!(%error, ?pause, "a request is made again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    async fn once(&self, what: &str, call: &Call) -> Result<Value, ForgeError> {
        let url = format!("{}{}", self.api, call.path);
        let request = match call.method {
            Method::Get => self.http.get(&url),
            Method::Post => self.http.post(&url),
            Method::Put => self.http.put(&url),
            Method::Patch => self.http.patch(&url),
        };
        let request = match &call.body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        };
        let unreached = |error: reqwest::Error| {
            ForgeError::new(
                what,
                Class::Retry,
                format!("{}; check that {} can be reached", error.without_url(), self.api),
            )
        };
        let mut response = request.send().await.map_err(unreached)?;
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreached)? {
            if answer.len() + chunk.len() > LONGEST_ANSWER {
                return Err(ForgeError::new(what, Class::Stalled, "the answer is too long to be one"));
            }
            answer.extend_from_slice(&chunk);
        }
        let answer = String::from_utf8_lossy(&answer);
        if !response.status().is_success() {
            return Err(refused(what, &response, &answer));
        }
        Ok(serde_json::from_str(&answer).unwrap_or(Value::Null))
    }
}

fn refused(what: &str, response: &Response, answer: &str) -> ForgeError {
    let (status, headers) = (response.status(), response.headers());
    let asked = headers
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let used_up = headers.get("x-ratelimit-remaining").is_some_and(|left| left == "0");
    let limited = status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::FORBIDDEN && (asked.is_some() || used_up);
    let class = if limited {
        Class::Wait(asked.unwrap_or(LONGEST_WAIT))
    } else if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        asked.map_or(Class::Retry, Class::Wait)
    } else {
        Class::Stalled
    };
    let hint = match status.as_u16() {
        _ if limited => "too many requests: try again later",
        401 => "the token is not known: make a new one",
        403 => {
            "the token may not: give it the right to write statuses and comments (in CI of forks it has none)"
        }
        404 => {
            "there is no such thing, or the token may not see it: check the project, the number and the token's rights"
        }
        300..=399 => "redirects are not followed: set BACKSTAY_FORGE_API to the host's own address",
        _ => "see the host's own status",
    };
    let words: String = answer.chars().filter(|c| !c.is_control()).take(200).collect();
    let reason = format!("the host answered {status}: {words}; {hint}");
    ForgeError { code: Some(status.as_u16()), ..ForgeError::new(what, class, reason) }
}
