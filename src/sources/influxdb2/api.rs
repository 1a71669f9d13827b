//! The HTTP API of InfluxDB 2.x, as far as backups need it: JSON, errors with a `code` and a `message`
//! (<https://docs.influxdata.com/influxdb/v2/api/>; for backups and restores `http/backup_service.go` and
//! `http/restore_service.go` of InfluxDB).

use std::{fs, time::Duration};

use reqwest::{
    Body, Certificate, Client, Method, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{ANSWER, Failure, body::causes, names::BucketName};
use crate::{
    secrets::Secret,
    spec::{self, Tls},
};

/// The largest answer that is read as a whole, bytes.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// How much of an error is told, characters.
const LONGEST_REASON: usize = 500;

/// How long the server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(30);

/// A way to ask one server.
#[derive(Clone, Debug)]
pub(super) struct Api {
    http: Client,
    base: String,
    organization: String,
    token: Secret,
}

/// A bucket of the server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Standing {
    pub id: String,
    pub name: String,
}

/// A bucket that was made for a restore.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Made {
    pub id: String,
    #[serde(default)]
    pub shard_mappings: Vec<Mapping>,
}

/// The number of a shard as it was captured, and its new one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mapping {
    pub old_id: u64,
    pub new_id: u64,
}

/// A token that was made for a while.
pub(super) struct Reader {
    pub id: String,
    pub token: Secret,
}

/// One table of an answer in InfluxQL.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Series {
    #[serde(default)]
    pub columns: Vec<String>,
    #[serde(default)]
    pub values: Vec<Vec<Value>>,
}

/// What an old client calls a bucket: a database and a retention policy.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Dbrp {
    pub id: String,
    #[serde(rename = "bucketID")]
    pub bucket_id: String,
    pub database: String,
    pub retention_policy: String,
    pub default: bool,
    /// Made by the server itself, out of the bucket's name.
    #[serde(default)]
    pub r#virtual: bool,
}

impl Api {
    pub(super) fn new(declared: &spec::Influxdb2, token: Secret) -> Result<Self, Failure> {
        let http = Client::builder()
            .user_agent(concat!("backstay/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT);
        let http = match &declared.tls {
            Tls::Default => http,
            Tls::Verified { ca } => {
                let refused =
                    |why: &dyn std::fmt::Display| Failure::Refused(format!("{}: {why}", ca.display()));
                let pem = fs::read(ca).map_err(|error| refused(&error))?;
                let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| refused(&error))?;
                let http = http.tls_built_in_root_certs(false);
                authorities.into_iter().fold(http, reqwest::ClientBuilder::add_root_certificate)
            }
        };
        Ok(Self {
            http: http.build().map_err(|error| Failure::Refused(causes(error)))?,
            base: declared.url.clone(),
            organization: declared.org.clone(),
            token,
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn organization_name(&self) -> &str {
        &self.organization
    }

    /// The server's version, as it says it.
    pub(super) async fn version(&self) -> Result<String, Failure> {
        let response = self.sent(self.http.get(format!("{}/health", self.base))).await?;
        let version = response.headers().get("x-influxdb-version").and_then(|value| value.to_str().ok());
        let version = version.map(|version| version.trim_start_matches('v').to_owned());
        match version {
            Some(version) if version.starts_with("1.") || version.starts_with("3.") => Err(Failure::Refused(
                format!("the server is InfluxDB {version}; `influxdb2` backs up 2.x, and `influxdb` 1.x"),
            )),
            Some(version) => Ok(version),
            None => {
                Err(Failure::Refused(format!("what answers at {} is no InfluxDB; check `url`", self.base)))
            }
        }
    }

    /// The number of the declared organization.
    pub(super) async fn organization(&self) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            orgs: Vec<Standing>,
        }
        let asked = self.asked(Method::GET, "orgs").query(&[("org", &self.organization)]);
        let found = self.found::<Answer>(asked).await?.into_iter().flat_map(|answer| answer.orgs);
        let mut named = found.filter(|standing| standing.name == self.organization);
        named.next().map(|standing| standing.id).ok_or_else(|| {
            let shown = self.organization.escape_debug();
            Failure::Absent(format!("there is no organization `{shown}`, or the token may not see it"))
        })
    }

    /// The bucket of that name, if there is one.
    pub(super) async fn bucket(
        &self,
        organization: &str,
        name: &BucketName,
    ) -> Result<Option<Standing>, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            buckets: Vec<Standing>,
        }
        let asked =
            self.asked(Method::GET, "buckets").query(&[("orgID", organization), ("name", name.as_str())]);
        let found = self.found::<Answer>(asked).await?.into_iter().flat_map(|answer| answer.buckets);
        Ok(found.into_iter().find(|bucket| bucket.name == name.as_str()))
    }

    /// All metadata, in several parts.
    pub(super) async fn metadata(&self) -> Result<Response, Failure> {
        let response = self.sent(self.asked(Method::GET, "backup/metadata")).await?;
        match succeeded(response).await {
            Err(Failure::Absent(_)) => Err(Failure::Refused(
                "the server is older than InfluxDB 2.1, and has no such backups".to_owned(),
            )),
            response => response,
        }
    }

    /// The archive of a shard; `None` when there is no such shard. The server writes out what it has in memory first, over
    /// which it may be silent for `patience`.
    pub(super) async fn shard(&self, id: u64, patience: Duration) -> Result<Option<Response>, Failure> {
        let response =
            self.sent_within(patience, self.asked(Method::GET, &format!("backup/shards/{id}"))).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            _ => succeeded(response).await.map(Some),
        }
    }

    /// Makes a bucket, with empty shards, of what a backup says of another.
    pub(super) async fn make(&self, manifest: &Value) -> Result<Made, Failure> {
        let asked = self.asked(Method::POST, "restore/bucketMetadata");
        self.answer(with(asked, manifest)).await
    }

    /// Fills a shard with an archive. Takes as long as the archive does.
    pub(super) async fn fill(&self, shard: u64, archive: Body) -> Result<(), Failure> {
        let asked = self.asked(Method::POST, &format!("restore/shards/{shard}"));
        let asked = asked.header(CONTENT_TYPE, "application/octet-stream").body(archive);
        let response = asked.send().await.map_err(|error| Failure::Unreached(causes(error)))?;
        succeeded(response).await.map(drop)
    }

    pub(super) async fn rename(&self, bucket: &str, name: &BucketName) -> Result<(), Failure> {
        let asked = self.asked(Method::PATCH, &format!("buckets/{bucket}"));
        self.done(with(asked, &json!({ "name": name.as_str() }))).await
    }

    /// Removes a bucket with all that it holds.
    pub(super) async fn remove(&self, bucket: &str) -> Result<(), Failure> {
        self.done(self.asked(Method::DELETE, &format!("buckets/{bucket}"))).await
    }

    /// The numbers of a bucket's labels.
    pub(super) async fn labels(&self, bucket: &str) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct Label {
            id: String,
        }
        #[derive(Deserialize)]
        struct Answer {
            labels: Vec<Label>,
        }
        let asked = self.asked(Method::GET, &format!("buckets/{bucket}/labels"));
        Ok(self.answer::<Answer>(asked).await?.labels.into_iter().map(|label| label.id).collect())
    }

    pub(super) async fn label(&self, bucket: &str, label: &str) -> Result<(), Failure> {
        let asked = self.asked(Method::POST, &format!("buckets/{bucket}/labels"));
        self.done(with(asked, &json!({ "labelID": label }))).await
    }

    /// How old clients call a bucket, as far as somebody declared it.
    pub(super) async fn dbrps(&self, organization: &str, bucket: &str) -> Result<Vec<Dbrp>, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            content: Vec<Dbrp>,
        }
        let asked = self.asked(Method::GET, "dbrps").query(&[("orgID", organization), ("bucketID", bucket)]);
        let dbrps = self.answer::<Answer>(asked).await?.content;
        Ok(dbrps.into_iter().filter(|dbrp| !dbrp.r#virtual && dbrp.bucket_id == bucket).collect())
    }

    /// Lets old clients call `bucket` as they called the one of `dbrp`, which they no longer do.
    pub(super) async fn move_dbrp(
        &self,
        organization: &str,
        dbrp: &Dbrp,
        bucket: &str,
    ) -> Result<(), Failure> {
        let asked = self.asked(Method::DELETE, &format!("dbrps/{}", dbrp.id));
        self.done(asked.query(&[("orgID", organization)])).await?;
        let moved = json!({
            "orgID": organization, "bucketID": bucket, "database": dbrp.database,
            "retention_policy": dbrp.retention_policy, "default": dbrp.default,
        });
        self.done(with(self.asked(Method::POST, "dbrps"), &moved)).await
    }

    /// Descriptions of the organization's tokens whose rights name the bucket.
    pub(super) async fn tokens_of(&self, organization: &str, bucket: &str) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            authorizations: Vec<Value>,
        }
        let asked = self.asked(Method::GET, "authorizations").query(&[("orgID", organization)]);
        let tokens = self.answer::<Answer>(asked).await?.authorizations;
        let names_it = |token: &Value| {
            let permissions = token["permissions"].as_array().into_iter().flatten();
            permissions.into_iter().any(|permission| permission["resource"]["id"] == bucket)
        };
        let shown = |token: &Value| match token["description"].as_str() {
            Some(text) if !text.is_empty() => text.escape_debug().take(80).collect(),
            _ => token["id"].as_str().unwrap_or_default().to_owned(),
        };
        Ok(tokens.iter().filter(|token| names_it(token)).map(shown).collect())
    }

    /// Whether nobody has set the server up yet. Asks without a token, which no such server knows.
    pub(super) async fn is_to_be_set_up(&self) -> Result<bool, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            allowed: bool,
        }
        let asked = self.http.get(format!("{}/api/v2/setup", self.base));
        Ok(self.answer::<Answer>(asked).await?.allowed)
    }

    /// Sets the server up, with the declared organization and token, and a bucket, whose number it returns.
    pub(super) async fn set_up(&self, user: &str, password: &str, bucket: &str) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            bucket: Standing,
        }
        let wanted = Zeroizing::new(
            json!({
                "username": user, "password": password, "org": self.organization, "bucket": bucket,
                "token": self.token.expose(),
            })
            .to_string(),
        );
        let asked = self.http.post(format!("{}/api/v2/setup", self.base));
        let asked = asked.header(CONTENT_TYPE, "application/json").body(wanted.as_bytes().to_vec());
        match self.answer::<Answer>(asked).await {
            Ok(answer) => Ok(answer.bucket.id),
            // It was sent the token, and may send it back.
            Err(Failure::Answer(said)) if said.contains(self.token.expose()) => {
                Err(Failure::Answer("the server refused to be set up".to_owned()))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Makes a token that reads the organization's buckets, and does nothing else.
    pub(super) async fn make_reader(&self, organization: &str) -> Result<Reader, Failure> {
        let reads =
            |kind: &str| json!({ "action": "read", "resource": { "type": kind, "orgID": organization } });
        let wanted = json!({
            "orgID": organization, "description": "backstay: a check of a drill, gone with it",
            "permissions": [reads("buckets"), reads("dbrp")],
        });
        #[derive(Deserialize)]
        struct Answer {
            id: String,
            token: String,
        }
        let made: Answer = self.answer(with(self.asked(Method::POST, "authorizations"), &wanted)).await?;
        Ok(Reader { id: made.id, token: Secret::new(made.token) })
    }

    pub(super) async fn remove_token(&self, id: &str) -> Result<(), Failure> {
        self.done(self.asked(Method::DELETE, &format!("authorizations/{id}"))).await
    }

    /// What a question in InfluxQL gives whoever has `token`.
    pub(super) async fn influxql(
        &self,
        token: &Secret,
        bucket: &str,
        question: &str,
    ) -> Result<Vec<Series>, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            results: Vec<Outcome>,
        }
        #[derive(Deserialize)]
        struct Outcome {
            #[serde(default)]
            series: Vec<Series>,
            error: Option<String>,
        }
        let asked = self.http.post(format!("{}/query", self.base)).query(&[("db", bucket), ("q", question)]);
        let answer: Answer = self.answer(authorized(asked, token)).await?;
        let mut series = Vec::new();
        for outcome in answer.results {
            match outcome.error {
                Some(why) => return Err(Failure::Answer(why.chars().take(LONGEST_REASON).collect())),
                None => series.extend(outcome.series),
            }
        }
        Ok(series)
    }

    fn asked(&self, method: Method, path: &str) -> RequestBuilder {
        authorized(self.http.request(method, format!("{}/api/v2/{path}", self.base)), &self.token)
    }

    async fn sent(&self, request: RequestBuilder) -> Result<Response, Failure> {
        self.sent_within(ANSWER, request).await
    }

    async fn sent_within(&self, patience: Duration, request: RequestBuilder) -> Result<Response, Failure> {
        match timeout(patience, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failure::Unreached(causes(error))),
            Err(_) => {
                let silence = humantime::format_duration(patience);
                Err(Failure::Unreached(format!("the server was silent for {silence}")))
            }
        }
    }

    async fn done(&self, request: RequestBuilder) -> Result<(), Failure> {
        let response = self.sent(request).await?;
        succeeded(response).await.map(drop)
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let response = succeeded(self.sent(request).await?).await?;
        let body = read(response).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Failure::Answer(format!("the server's answer can't be read: {error}")))
    }

    /// As [`Self::answer`]; `None` when the server says that there is no such thing.
    async fn found<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Option<T>, Failure> {
        match self.answer(request).await {
            Err(Failure::Absent(_)) => Ok(None),
            answer => answer.map(Some),
        }
    }
}

fn authorized(request: RequestBuilder, token: &Secret) -> RequestBuilder {
    match HeaderValue::try_from(format!("Token {}", token.expose())) {
        Ok(mut token) => {
            token.set_sensitive(true);
            request.header(AUTHORIZATION, token)
        }
        // A token with a line end in it: the server tells that there is none.
        Err(_) => request,
    }
}

fn with(request: RequestBuilder, json: &Value) -> RequestBuilder {
    request.header(CONTENT_TYPE, "application/json").body(json.to_string())
}

/// An answer that tells of success.
async fn succeeded(response: Response) -> Result<Response, Failure> {
    #[derive(Deserialize)]
    struct Refused {
        message: String,
    }
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = read(response).await?;
    let why = match serde_json::from_slice::<Refused>(&body) {
        Ok(Refused { message }) => message.chars().take(LONGEST_REASON).collect(),
        Err(_) => format!("the server answered {status}, and nothing that can be read"),
    };
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Unauthorized(why),
        StatusCode::NOT_FOUND => Failure::Absent(why),
        _ => Failure::Answer(why),
    })
}

async fn read(mut response: Response) -> Result<Vec<u8>, Failure> {
    let whole = async {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| Failure::Unreached(causes(error)))? {
            if body.len() + piece.len() > LARGEST_ANSWER {
                return Err(Failure::Answer(format!(
                    "the server's answer is larger than {LARGEST_ANSWER} bytes"
                )));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    };
    timeout(ANSWER, whole)
        .await
        .unwrap_or_else(|_| Err(Failure::Unreached("the server's answer did not end in time".to_owned())))
}
