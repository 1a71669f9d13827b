//! The HTTP API of InfluxDB 1.x: `/ping` and `/query`, whose answers are series of rows.

use std::{collections::BTreeMap, fs, time::Duration};

use jiff::Timestamp;
use reqwest::{Certificate, Client, Response, StatusCode, redirect};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Failure,
    metadata::Span,
    names::{DatabaseName, identifier},
};
use crate::{
    secrets::Secret,
    spec::{Server, Tls},
};

/// Where the API listens by default.
const PORT: u16 = 8086;

/// The largest answer, bytes.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// How much of an error is told, characters.
const LONGEST_REASON: usize = 500;

/// How long the server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(30);

/// How long one statement may take: dropping a large database does not happen at once.
const STATEMENT: Duration = Duration::from_secs(10 * 60);

/// A way to ask one server.
#[derive(Clone, Debug)]
pub(super) struct Api {
    http: Client,
    base: String,
    user: Option<String>,
    password: Option<Secret>,
}

/// One table of an answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Series {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub columns: Vec<String>,
    #[serde(default)]
    pub values: Vec<Vec<Value>>,
    /// Whether the server left rows out (`max-row-limit`).
    #[serde(default)]
    partial: bool,
}

impl Series {
    /// The cells of one column, none where it has no such column.
    pub(super) fn column<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Value> {
        let position = self.columns.iter().position(|column| column == name);
        self.values.iter().filter_map(move |row| row.get(position?))
    }

    /// The texts of one column.
    pub(super) fn texts<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.column(name).filter_map(Value::as_str)
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Outcome>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    series: Vec<Series>,
    error: Option<String>,
}

impl Api {
    pub(super) fn new(server: &Server, password: Option<Secret>) -> Result<Self, Failure> {
        let http = Client::builder()
            .user_agent(concat!("backstay/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            // The other port is reached directly, too, and no password goes through a stranger.
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(STATEMENT);
        let (scheme, http) = match &server.tls {
            Tls::Default => ("http", http),
            Tls::Verified { ca } => {
                let refused =
                    |why: &dyn std::fmt::Display| Failure::Refused(format!("{}: {why}", ca.display()));
                let pem = fs::read(ca).map_err(|error| refused(&error))?;
                let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| refused(&error))?;
                let http = http.tls_built_in_root_certs(false);
                ("https", authorities.into_iter().fold(http, reqwest::ClientBuilder::add_root_certificate))
            }
        };
        Ok(Self {
            http: http.build().map_err(|error| Failure::Refused(error.to_string()))?,
            base: format!("{scheme}://{}", address(&server.host, server.port.unwrap_or(PORT))),
            user: server.user.clone(),
            password,
        })
    }

    /// As whom it asks.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The server's version, as it says it.
    pub(super) async fn version(&self) -> Result<String, Failure> {
        let request = self.http.get(format!("{}/ping", self.base));
        let response = request.send().await.map_err(|error| self.unreached(error))?;
        let version = response.headers().get("x-influxdb-version").and_then(|value| value.to_str().ok());
        match version {
            Some(version) if version.trim_start_matches('v').starts_with("1.") => Ok(version.to_owned()),
            Some(version) => Err(Failure::Refused(format!(
                "the server is InfluxDB {version}; `influxdb` backs up 1.x, and `influxdb2` 2.x"
            ))),
            None => Err(Failure::Refused(format!(
                "what answers on {} is no InfluxDB; check `port` and `tls`",
                self.base
            ))),
        }
    }

    /// The same server, asked as another user.
    pub(super) fn with_user(&self, user: &str, password: Secret) -> Self {
        Self { user: Some(user.to_owned()), password: Some(password), ..self.clone() }
    }

    /// The series that one statement gives.
    pub(super) async fn ask(&self, statement: &str) -> Result<Vec<Series>, Failure> {
        self.ask_in(None, statement).await
    }

    /// The series that one statement gives, in a database where it names none.
    pub(super) async fn ask_in(
        &self,
        database: Option<&str>,
        statement: &str,
    ) -> Result<Vec<Series>, Failure> {
        let fields = [("q", Some(statement)), ("db", database)];
        let fields: Vec<(&str, &str)> =
            fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let request = self.http.post(format!("{}/query", self.base)).form(&fields);
        let request = match (&self.user, &self.password) {
            (None, None) => request,
            (user, password) => request.basic_auth(
                user.as_deref().unwrap_or_default(),
                password.as_ref().map(|password| password.expose()),
            ),
        };
        let response = request.send().await.map_err(|error| self.unreached(error))?;
        let status = response.status();
        let body = self.body(response).await?;
        let answer: Answer = match serde_json::from_slice(&body) {
            Ok(answer) => answer,
            Err(_) => {
                let why = format!("the HTTP API answered {status}, and nothing that can be read");
                return Err(Failure::Answer(why));
            }
        };
        let Answer { results, error } = answer;
        if let Some(why) = error.or_else(|| results.iter().find_map(|outcome| outcome.error.clone())) {
            return Err(refused(status, &why));
        }
        if !status.is_success() {
            return Err(Failure::Answer(format!("the HTTP API answered {status}")));
        }
        let series: Vec<Series> = results.into_iter().flat_map(|outcome| outcome.series).collect();
        match series.iter().any(|series| series.partial) {
            true => Err(Failure::Answer(format!(
                "the server left rows out of its answer to {statement}: raise max-row-limit"
            ))),
            false => Ok(series),
        }
    }

    /// Names of the databases that the user may read; without the engine's own.
    pub(super) async fn databases(&self) -> Result<Vec<String>, Failure> {
        let series = self.ask("SHOW DATABASES").await?;
        let names = series.iter().flat_map(|series| series.texts("name"));
        Ok(names.filter(|name| *name != OWN).map(str::to_owned).collect())
    }

    /// Whether a database has any measurement, of whichever retention policy: `SHOW SERIES` looks at the default one alone.
    pub(super) async fn has_measurements(&self, database: &str) -> Result<bool, Failure> {
        let series = self.ask(&format!("SHOW MEASUREMENTS ON {} LIMIT 1", identifier(database))).await?;
        Ok(!series.is_empty())
    }

    /// Names of the retention policies of a database.
    pub(super) async fn retention_policies(&self, database: &DatabaseName) -> Result<Vec<String>, Failure> {
        let series =
            self.ask(&format!("SHOW RETENTION POLICIES ON {}", identifier(database.as_str()))).await?;
        Ok(series.iter().flat_map(|series| series.texts("name")).map(str::to_owned).collect())
    }

    /// The numbers of a database's shards, and what each holds.
    pub(super) async fn shards(&self, database: &DatabaseName) -> Result<Vec<(u64, Span)>, Failure> {
        let mut shards = Vec::new();
        for series in self.ask("SHOW SHARDS").await? {
            let cells =
                series.column("id").zip(series.texts("start_time")).zip(series.texts("retention_policy"));
            for ((id, start), policy) in cells.filter(|_| series.name == database.as_str()) {
                let start: Option<Timestamp> = start.parse().ok();
                let (Some(id), Some(start)) = (id.as_u64(), start) else {
                    return Err(Failure::Answer("SHOW SHARDS gave a shard that can't be read".to_owned()));
                };
                shards.push((id, Span { policy: policy.to_owned(), start: start.as_second() }));
            }
        }
        Ok(shards)
    }

    /// The statements that make the continuous queries of a database.
    pub(super) async fn continuous_queries(&self, database: &DatabaseName) -> Result<Vec<String>, Failure> {
        let series = self.ask("SHOW CONTINUOUS QUERIES").await?;
        let of_database = series.iter().filter(|series| series.name == database.as_str());
        Ok(of_database.flat_map(|series| series.texts("query")).map(str::to_owned).collect())
    }

    /// Names of all users. Only an administrator may know them, or anybody where the server asks for no password.
    pub(super) async fn users(&self) -> Result<Vec<String>, Failure> {
        let series = self.ask("SHOW USERS").await?;
        Ok(series.iter().flat_map(|series| series.texts("user")).map(str::to_owned).collect())
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.unreached(error))? {
            if body.len() + piece.len() > LARGEST_ANSWER {
                let why = format!("the server's answer is larger than {LARGEST_ANSWER} bytes");
                return Err(Failure::Answer(why));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn unreached(&self, error: reqwest::Error) -> Failure {
        let error = error.without_url();
        let mut reason = format!("the HTTP API at {}: {error}", self.base);
        let mut cause = std::error::Error::source(&error);
        while let Some(why) = cause {
            reason = format!("{reason}: {why}");
            cause = why.source();
        }
        Failure::Answer(reason)
    }
}

/// The engine's own database.
const OWN: &str = "_internal";

/// A host and a port as programs and URLs write them.
pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn refused(status: StatusCode, why: &str) -> Failure {
    let why: String = why.chars().take(LONGEST_REASON).collect();
    match status {
        StatusCode::UNAUTHORIZED => Failure::Unauthorized(why),
        StatusCode::FORBIDDEN => Failure::Forbidden(why),
        _ => Failure::Answer(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ipv6_stand_in_brackets() {
        assert_eq!(address("tsdb", 8088), "tsdb:8088");
        assert_eq!(address("::1", 8088), "[::1]:8088");
    }

    #[test]
    fn cells_are_read_by_the_name_of_their_column() {
        let series: Series = serde_json::from_str(
            r#"{"name": "databases", "columns": ["n", "name"], "values": [[1, "tele"], [2], [3, null], [4, "ä"]]}"#,
        )
        .unwrap();
        assert_eq!(series.texts("name").collect::<Vec<_>>(), ["tele", "ä"]);
        assert_eq!(series.column("absent").count(), 0);
    }
}
