//! Asks Atlas's Admin API, version 2, in bounds, and again where that may help and does nothing twice.
//!
//! Each resource is asked for by the date of its version, which is part of the media type ("Versioned Atlas Administration API").

use std::time::Duration;

use reqwest::{
    Client, Method, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    AtlasOptions, Failure,
    failure::{Answer, Repeatable},
    tokens::{Slot, Token},
    wire::{Cluster, Job, Page, Schedule, Snapshot},
};
use crate::secrets::Secret;

/// The versions that are asked for, by resource.
const BACKUPS: &str = "application/vnd.atlas.2023-01-01+json";
const SCHEDULES: &str = "application/vnd.atlas.2024-08-05+json";
const CLUSTERS: &str = "application/vnd.atlas.2024-08-05+json";
const CLUSTER_CHANGES: &str = "application/vnd.atlas.2024-10-23+json";

/// The longest answer that is read, bytes: a page of the largest snapshots is a tenth of it.
const LONGEST_ANSWER: usize = 16 << 20;

/// What is asked for in one page: the most that Atlas gives (`itemsPerPage`).
const PAGE: usize = 500;

/// Pages that are read of a list at most.
const PAGES: usize = 100;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Attempts after the first.
const MORE: u32 = 3;

/// The pause before the second attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause that is waited out here; whoever asks for a longer one is asked again by a later pass.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// The longest pause that is believed: what asks for more is broken, or means harm.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(3600);

/// How much of an error is told, characters.
const LONGEST_REASON: usize = 500;

/// A way to ask about one project.
#[derive(Clone, Debug)]
pub(super) struct Api {
    http: Client,
    base: String,
    project: String,
    client_id: Secret,
    client_secret: Secret,
    slot: Slot,
}

/// One call.
struct Call {
    method: Method,
    /// Below the project.
    path: String,
    version: &'static str,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    repeatable: Repeatable,
}

impl Call {
    fn get(path: String, version: &'static str) -> Self {
        let (query, body, repeatable) = (Vec::new(), None, Repeatable::Yes);
        Self { method: Method::GET, path, version, query, body, repeatable }
    }

    /// A change to what `body` says: twice is as good as once.
    fn patch(path: String, version: &'static str, body: Value) -> Self {
        Self { method: Method::PATCH, body: Some(body), ..Self::get(path, version) }
    }

    fn post(path: String, version: &'static str, body: Value) -> Self {
        let repeatable = Repeatable::No;
        Self { method: Method::POST, body: Some(body), repeatable, ..Self::get(path, version) }
    }
}

impl Api {
    pub(super) fn new(options: AtlasOptions) -> Result<Self, Failure> {
        let AtlasOptions { url, project, client_id, client_secret, tokens, .. } = options;
        refuse_open_lines(&url)?;
        let http = Client::builder()
            .user_agent(concat!("backstay/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| Failure::Refused(causes(error)))?;
        let slot = tokens.slot(&url, &client_id, &client_secret);
        Ok(Self { http, base: url, project, client_id, client_secret, slot })
    }

    pub(super) fn project(&self) -> &str {
        &self.project
    }

    /// "Return One Cluster from One Project".
    pub(super) async fn cluster(&self, name: &str) -> Result<Cluster, Failure> {
        self.answer(&Call::get(format!("clusters/{name}"), CLUSTERS)).await
    }

    /// "Update One Cluster in One Project": whether continuous cloud backup is on.
    pub(super) async fn set_continuous(&self, cluster: &str, pit_enabled: PitEnabled) -> Result<(), Failure> {
        let body = json!({ "pitEnabled": pit_enabled == PitEnabled::Yes });
        self.done(&Call::patch(format!("clusters/{cluster}"), CLUSTER_CHANGES, body)).await
    }

    /// "Return One Cloud Backup Schedule".
    pub(super) async fn schedule(&self, cluster: &str) -> Result<Schedule, Failure> {
        self.answer(&Call::get(format!("clusters/{cluster}/backup/schedule"), SCHEDULES)).await
    }

    /// "Update Cloud Backup Schedule for One Cluster".
    pub(super) async fn set_schedule(&self, cluster: &str, body: Value) -> Result<(), Failure> {
        self.done(&Call::patch(format!("clusters/{cluster}/backup/schedule"), SCHEDULES, body)).await
    }

    /// "Return All Replica Set Cloud Backups".
    pub(super) async fn snapshots(&self, cluster: &str) -> Result<Vec<Snapshot>, Failure> {
        self.all(format!("clusters/{cluster}/backup/snapshots")).await
    }

    /// "Return One Replica Set Cloud Backup"; `None` where it is not found, or the cluster is not.
    pub(super) async fn snapshot(&self, cluster: &str, id: &str) -> Result<Option<Snapshot>, Failure> {
        let path = format!("clusters/{cluster}/backup/snapshots/{}", checked(id)?);
        match self.answer(&Call::get(path, BACKUPS)).await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(Failure::Answer(answer)) if answer.status == 404 => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// "Take One On-Demand Snapshot".
    pub(super) async fn take(&self, cluster: &str, name: &str, days: u32) -> Result<Snapshot, Failure> {
        let body = json!({ "description": name, "retentionInDays": days });
        self.answer(&Call::post(format!("clusters/{cluster}/backup/snapshots"), BACKUPS, body)).await
    }

    /// "Update Expiration Date for One Cloud Backup": so many days after it was made.
    pub(super) async fn keep(&self, cluster: &str, id: &str, days: u32) -> Result<(), Failure> {
        let path = format!("clusters/{cluster}/backup/snapshots/{}", checked(id)?);
        let body = json!({ "retentionUnit": "days", "retentionValue": days });
        self.done(&Call::patch(path, BACKUPS, body)).await
    }

    /// "Remove One Replica Set Cloud Backup". One that is not found was not removed.
    pub(super) async fn remove(&self, cluster: &str, id: &str) -> Result<Removed, Failure> {
        let path = format!("clusters/{cluster}/backup/snapshots/{}", checked(id)?);
        match self.done(&Call { method: Method::DELETE, ..Call::get(path, BACKUPS) }).await {
            Ok(()) => Ok(Removed::Yes),
            Err(Failure::Answer(answer)) if answer.status == 404 => Ok(Removed::NotFound),
            Err(failure) => Err(failure),
        }
    }

    /// "Return All Restore Jobs for One Cluster".
    pub(super) async fn jobs(&self, cluster: &str) -> Result<Vec<Job>, Failure> {
        self.all(format!("clusters/{cluster}/backup/restoreJobs")).await
    }

    /// "Return One Restore Job of One Cluster".
    pub(super) async fn job(&self, cluster: &str, id: &str) -> Result<Job, Failure> {
        let path = format!("clusters/{cluster}/backup/restoreJobs/{}", checked(id)?);
        self.answer(&Call::get(path, BACKUPS)).await
    }

    /// The job of a restore into a cluster of the same project, of which Atlas erases whatever it holds.
    pub(super) fn job_into(&self, mut job: Value, target: &str) -> Value {
        job["targetClusterName"] = json!(target);
        job["targetGroupId"] = json!(self.project);
        job
    }

    /// "Restore One Snapshot of One Cluster".
    pub(super) async fn begin(&self, cluster: &str, job: Value) -> Result<Job, Failure> {
        self.answer(&Call::post(format!("clusters/{cluster}/backup/restoreJobs"), BACKUPS, job)).await
    }

    async fn all<T: DeserializeOwned>(&self, path: String) -> Result<Vec<T>, Failure> {
        let mut all = Vec::new();
        for number in 1..=PAGES {
            let query = vec![("pageNum", number.to_string()), ("itemsPerPage", PAGE.to_string())];
            let page: Page<T> = self.answer(&Call { query, ..Call::get(path.clone(), BACKUPS) }).await?;
            let is_last = page.results.len() < PAGE;
            all.extend(page.results);
            if is_last {
                return Ok(all);
            }
        }
        Err(Failure::Wrong(format!("the list of {path} has over {PAGES} pages")))
    }

    async fn done(&self, call: &Call) -> Result<(), Failure> {
        self.asked(call).await.map(drop)
    }

    async fn answer<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let body = self.asked(call).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Failure::Wrong(format!("Atlas's answer can't be read: {error}")))
    }

    /// Makes a call, again where it may pass, and once with a new token where the old one is not accepted.
    async fn asked(&self, call: &Call) -> Result<Vec<u8>, Failure> {
        let (mut more, mut pause, mut is_renewed) = (MORE, FIRST_PAUSE, false);
        loop {
            let token = self.token().await?;
            let failure = match self.once(call, &token).await {
                Ok(body) => return Ok(body),
                Err(failure) if failure.is_stale_token() && !is_renewed => {
                    is_renewed = true;
                    self.forget(&token).await;
                    continue;
                }
                Err(failure) => failure,
            };
            match failure.passes_after(call.repeatable, pause) {
                Some(wait) if more > 0 && wait <= LONGEST_PAUSE => tokio::time::sleep(wait).await,
                _ => return Err(failure),
            }
            more -= 1;
            pause *= 2;
        }
    }

    async fn once(&self, call: &Call, token: &Secret) -> Result<Vec<u8>, Failure> {
        let url = format!("{}/api/atlas/v2/groups/{}/{}", self.base, self.project, call.path);
        let mut request = self.http.request(call.method.clone(), url).query(&call.query);
        request = request.header(ACCEPT, call.version).header(AUTHORIZATION, bearer(token)?);
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, call.version).body(body.to_string());
        }
        let response = request.send().await.map_err(|error| Failure::Unreached(causes(error)))?;
        succeeded(response).await
    }

    /// What the account is let in with: what was fetched before as long as that is good.
    async fn token(&self) -> Result<Secret, Failure> {
        let mut slot = self.slot.lock().await;
        if let Some(token) = slot.as_ref().filter(|token| token.is_good(Instant::now())) {
            return Ok(token.text.clone());
        }
        let token = self.fetched().await?;
        let text = token.text.clone();
        *slot = Some(token);
        Ok(text)
    }

    /// Fetches no token in the place of one that somebody else fetched meanwhile.
    async fn forget(&self, stale: &Secret) {
        let mut slot = self.slot.lock().await;
        if slot.as_ref().is_some_and(|token| token.text == *stale) {
            *slot = None;
        }
    }

    /// "Generate Service Account Token" (OAuth 2.0, section 4.4 of RFC 6749).
    async fn fetched(&self) -> Result<Token, Failure> {
        #[derive(Deserialize)]
        struct Given {
            access_token: String,
            expires_in: u64,
        }
        let (mut more, mut pause) = (MORE, FIRST_PAUSE);
        let body = loop {
            let request = self.http.post(format!("{}/api/oauth/token", self.base));
            let request = request.basic_auth(self.client_id.expose(), Some(self.client_secret.expose()));
            let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            let request = request.header(ACCEPT, "application/json").body("grant_type=client_credentials");
            let asked = Instant::now();
            let answer = match request.send().await {
                Ok(response) => succeeded(response).await,
                Err(error) => Err(Failure::Unreached(causes(error))),
            };
            let failure = match answer {
                Ok(body) => break (body, asked),
                Err(failure) => failure,
            };
            match failure.passes_after(Repeatable::Yes, pause) {
                Some(wait) if more > 0 && wait <= LONGEST_PAUSE => tokio::time::sleep(wait).await,
                _ => return Err(failure),
            }
            more -= 1;
            pause *= 2;
        };
        // What does not read is not shown: it may hold the token.
        let (body, asked) = (zeroize::Zeroizing::new(body.0), body.1);
        let given: Given = serde_json::from_slice(&body)
            .map_err(|_| Failure::Wrong("what Atlas gives as a token can't be read".to_owned()))?;
        // Longer than a day nobody gives one out; a nonsense number must not overflow.
        let lifetime = Duration::from_secs(given.expires_in.min(24 * 3600));
        Ok(Token::new(Secret::new(given.access_token), lifetime, asked))
    }
}

/// Whether continuous cloud backup is to be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PitEnabled {
    Yes,
    No,
}

/// Whether something was there to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    Yes,
    NotFound,
}

/// Secrets go over TLS, unless they stay on this host.
pub(super) fn refuse_open_lines(url: &str) -> Result<(), Failure> {
    let parsed = reqwest::Url::parse(url).map_err(|error| Failure::Refused(format!("its URL: {error}")))?;
    let host = parsed.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    if parsed.scheme() == "https" || is_here {
        return Ok(());
    }
    Err(Failure::Refused(
        "its URL must begin with https://: what only its owner may see goes that way".to_owned(),
    ))
}

/// An id that can stand in a path: 24 hexadecimal digits, as all of Atlas's are.
fn checked(id: &str) -> Result<&str, Failure> {
    let is_id = id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { Ok(id) } else { Err(Failure::Refused(format!("`{}` is no id of Atlas's", id.escape_debug()))) }
}

fn bearer(token: &Secret) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| Failure::Wrong("what Atlas gives as a token can't be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The body of an answer that tells of success.
async fn succeeded(response: Response) -> Result<Vec<u8>, Failure> {
    let (status, after) = (response.status(), retry_after(&response));
    let body = read(response).await;
    if status.is_success() {
        return body;
    }
    Err(Failure::Answer(refusal(status, after, &body.unwrap_or_default())))
}

/// "ApiError"; and of tokens what section 5.2 of RFC 6749 has.
fn refusal(status: StatusCode, after: Option<Duration>, body: &[u8]) -> Answer {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |keys: [&str; 2]| {
        let found = keys.iter().find_map(|key| said[*key].as_str()).unwrap_or_default();
        found.chars().take(LONGEST_REASON).flat_map(char::escape_debug).collect::<String>()
    };
    Answer {
        status: status.as_u16(),
        code: text(["errorCode", "error"]),
        detail: text(["detail", "error_description"]),
        after,
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    asked_pause(response.headers().get(RETRY_AFTER)?.to_str().ok()?)
}

/// "Retry-After" in seconds (section 10.2.3 of RFC 9110), as far as it is believed.
fn asked_pause(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_ASKED_PAUSE))
}

async fn read(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| Failure::Unreached(causes(error)))? {
        if body.len() + piece.len() > LONGEST_ANSWER {
            return Err(Failure::Wrong(format!("Atlas's answer is longer than {LONGEST_ANSWER} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// An error with all that is behind it, without the URL.
pub(super) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(why) = cause {
        reason = format!("{reason}: {why}");
        cause = why.source();
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_believed_up_to_an_hour() {
        assert_eq!(asked_pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked_pause(&u64::MAX.to_string()), Some(LONGEST_ASKED_PAUSE));
        assert_eq!(asked_pause("soon"), None);
    }

    #[test]
    fn secrets_go_over_tls_or_stay_on_this_host() {
        for good in
            ["https://cloud.mongodb.com", "http://127.0.0.1:80", "http://[::1]:80", "http://localhost"]
        {
            assert!(refuse_open_lines(good).is_ok(), "{good}");
        }
        for bad in [
            "http://cloud.mongodb.com",
            "http://127.0.0.1.example.org",
            "http://10.0.0.1",
            "ftp://localhost2",
        ] {
            assert!(refuse_open_lines(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_an_id_stands_in_a_path() {
        assert!(checked("64b31e47c40e886d5ea00001").is_ok());
        for bad in
            ["", "..", "64b31e47c40e886d5ea0000", "64b31e47c40e886d5ea0000/", "64b31e47c40e886d5ea0000z"]
        {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_tells_what_atlas_says_in_bounds() {
        let body =
            br#"{"detail":"No\ncluster","error":404,"errorCode":"CLUSTER_NOT_FOUND","reason":"Not Found"}"#;
        let told = refusal(StatusCode::NOT_FOUND, None, body).to_string();
        assert_eq!(told, "Atlas answered 404 CLUSTER_NOT_FOUND: No\\ncluster");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, None, b"<html>").to_string(), "Atlas answered 502");
        let body = br#"{"error":"invalid_client","error_description":"revoked"}"#;
        assert_eq!(
            refusal(StatusCode::UNAUTHORIZED, None, body).to_string(),
            "Atlas answered 401 invalid_client: revoked"
        );
    }
}
