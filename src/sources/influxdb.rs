//! InfluxDB 1.x, by its own program. The stream is an archive with a portable backup in a folder for each database.
//!
//! ```text
//! names · api (questions over HTTP) · rpc (whether the backup service answers) · stage (the private folder)
//! backup -> portable (the proof that it is whole) -> archive (the stream)
//! archive -> portable -> load (the way back) -> settle (whether the server took it in)
//! metadata (what a backup knows of the server) · record · grants (what the engine's restore leaves out)
//! ```
//!
//! The engine's program can't stream: one database at a time is staged in the controller's scratch folder.

mod api;
mod archive;
mod backup;
mod grants;
mod inspect;
mod load;
mod metadata;
mod names;
mod needs;
mod portable;
mod record;
mod rpc;
mod settle;
mod stage;

use std::{collections::BTreeSet, ffi::OsString, io, path::PathBuf, time::Duration};

use async_trait::async_trait;
use tokio::io::AsyncRead;

use super::{
    CaptureRequest, Captured, Holds, Lack, Place, Probe, Restored, Sink, Source, SourceError,
    blocking::Unwanted, existing::Existing,
};
use crate::{
    artifact::Kind,
    process::{self, ProcessError},
    secrets::Secret,
    spec,
    stores::Class,
};
use api::{Api, address};
use names::DatabaseName;

/// How long the server may be silent on what it answers at once.
const ANSWER: Duration = Duration::from_secs(60);

/// How long the server may make no progress with shards that were handed over.
const SETTLING: Duration = Duration::from_secs(120);

/// Databases of one server.
#[derive(Clone, Debug)]
pub struct InfluxdbSource {
    api: Api,
    host: String,
    /// Where the backup service listens.
    rpc: String,
    /// As declared; empty means all.
    databases: Vec<DatabaseName>,
    policy: Option<String>,
    scratch: PathBuf,
    search: OsString,
    settling: Duration,
    existing: Existing,
}

impl InfluxdbSource {
    /// What `influxdb` declares, reached with `password`, the one that the declaration refers to. Its program works in a
    /// private folder of `scratch`.
    ///
    /// # Errors
    /// A name that no database has, or an authority that can't be read.
    pub fn new(
        influxdb: spec::Influxdb,
        password: Option<Secret>,
        scratch: PathBuf,
    ) -> Result<Self, SourceError> {
        let spec::Influxdb { server, rpc_port, retention_policy: policy } = influxdb;
        let explain = |failure: Failure| failure.explain("open", format!("InfluxDB on {}", server.host));
        let databases = server.databases.iter().map(|name| DatabaseName::parse(name));
        Ok(Self {
            api: Api::new(&server, password).map_err(explain)?,
            rpc: address(&server.host, rpc_port),
            databases: databases.collect::<Result<_, _>>().map_err(explain)?,
            host: server.host,
            policy,
            scratch,
            search: process::search_path(),
            settling: SETTLING,
            existing: Existing::Replaced,
        })
    }

    /// Looks for the engine's program in these folders, written as in `PATH`, instead.
    pub fn search_path(mut self, search: impl Into<OsString>) -> Self {
        self.search = search.into();
        self
    }

    /// Waits so long at most, instead of two minutes, while a server makes no progress with what was restored.
    pub fn settling(mut self, longest: Duration) -> Self {
        self.settling = longest;
        self
    }

    fn influxd(&self) -> Result<PathBuf, Failure> {
        Ok(process::find(&["influxd"], &self.search)?)
    }

    fn subject(&self) -> String {
        let names: Vec<_> = self.databases.iter().map(DatabaseName::as_str).collect();
        let what = match names.as_slice() {
            [] => "all databases".to_owned(),
            [one] => format!("database {one}"),
            several => format!("databases {}", several.join(", ")),
        };
        format!("{what} on {}", self.host)
    }

    async fn held(&self) -> Result<Holds, Failure> {
        for name in self.api.databases().await? {
            let is_declared =
                self.databases.is_empty() || self.databases.iter().any(|it| it.as_str() == name);
            if is_declared && self.api.has_measurements(&name).await? {
                return Ok(Holds::Data(format!("measurements in {name}")));
            }
        }
        Ok(Holds::Nothing)
    }

    /// The databases that are captured. What is declared must be there.
    async fn declared(&self) -> Result<Vec<DatabaseName>, Failure> {
        if self.databases.is_empty() {
            // Who is no administrator sees some of the databases, and nothing tells that there are others.
            self.api.users().await?;
        }
        let there = self.api.databases().await?;
        if let Some(absent) =
            self.databases.iter().find(|name| !there.iter().any(|there| there == name.as_str()))
        {
            return Err(Failure::Absent(format!(
                "there is no database {absent}, or the user may not read it"
            )));
        }
        if let (Some(policy), [database]) = (&self.policy, self.databases.as_slice())
            && !self.api.retention_policies(database).await?.contains(policy)
        {
            return Err(Failure::Absent(format!("database {database} has no retention policy {policy}")));
        }
        match (self.databases.as_slice(), there.as_slice()) {
            ([], []) => Err(Failure::Absent("the server has no database".to_owned())),
            ([], all) => all.iter().map(|name| DatabaseName::parse(name)).collect(),
            (declared, _) => Ok(declared.to_vec()),
        }
    }

    async fn probed(&self) -> Result<String, Failure> {
        self.influxd()?;
        let version = self.api.version().await?;
        rpc::answers(&self.rpc, ANSWER).await?;
        self.declared().await?;
        Ok(version)
    }
}

#[async_trait]
impl Source for InfluxdbSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let version = self.probed().await.map_err(|failure| failure.explain("probe", self.subject()))?;
        Ok(Probe { version: format!("InfluxDB {version}") })
    }

    async fn lacks(&self, _kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        needs::lacks(self).await.map_err(|failure| failure.explain("probe", self.subject()))
    }

    fn stream_name(&self) -> String {
        "influxdb.tar".to_owned()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        if request.kind == Kind::Log {
            return Err(SourceError::unsupported(&self.subject(), request.kind));
        }
        let captured = backup::capture(self, request, sink).await;
        captured.map_err(|failure| failure.explain("back up", self.subject()))
    }

    fn refuse_to_replace(&mut self) {
        self.existing = Existing::Refused;
    }

    async fn holds(&self) -> Result<Holds, SourceError> {
        self.held().await.map_err(|failure| failure.explain("look into", self.subject()))
    }

    async fn ask(&self, database: Option<&str>, influxql: &str) -> Result<String, SourceError> {
        let only = match self.databases.as_slice() {
            [one] => Some(one.as_str()),
            _ => None,
        };
        let asked = inspect::ask(&self.api, database.or(only), influxql).await;
        asked.map_err(|failure| failure.explain("ask", self.subject()))
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        let restored = match place {
            Place::File(path) => load::to_file(stream, path).await,
            Place::Folder(folder) => load::to_folder(stream, folder).await,
            Place::Database(name) => load::to_new_database(self, stream, name).await,
            Place::Bucket { .. } => Err(Failure::Refused("only objects go into a bucket".to_owned())),
            Place::Original => load::over_originals(self, stream).await,
        };
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    SinkClosed,
    Process(ProcessError),
    /// The server can't be reached.
    Unreached(String),
    /// What the server answered is not what was asked for.
    Answer(String),
    /// The server does not know the user, or not with this password.
    Unauthorized(String),
    /// The user may not do it.
    Forbidden(String),
    /// What is declared is not there.
    Absent(String),
    /// A backup does not show that it is whole.
    Incomplete(String),
    /// The stream that is restored failed.
    Stream(io::Error),
    /// The private folder failed.
    Stage(io::Error),
    /// What was asked can't be done, or would overwrite something.
    Refused(String),
    /// The original is gone, and a complete copy stands beside.
    LeftBeside {
        database: String,
        beside: String,
        /// Statements that grant again what was granted on the original.
        grants: Vec<String>,
        why: String,
    },
    /// A new database is incomplete and could not be removed.
    Remains {
        database: String,
        why: String,
    },
    /// The data are back, and something that belongs to them is not.
    Unfinished {
        database: String,
        statement: String,
        why: String,
    },
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        Failure::Process(error)
    }
}

impl From<super::SinkClosed> for Failure {
    fn from(_: super::SinkClosed) -> Self {
        Failure::SinkClosed
    }
}

impl From<Unwanted> for Failure {
    fn from(_: Unwanted) -> Self {
        Failure::SinkClosed
    }
}

impl Failure {
    fn reason(self) -> String {
        self.explain("", String::new()).reason
    }

    fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject, class, reason);
        match self {
            Failure::SinkClosed => error(Class::Retry, super::SinkClosed.to_string()),
            Failure::Answer(why) | Failure::Incomplete(why) => error(Class::Retry, why),
            Failure::Unreached(why) => error(Class::Retry, why).with_hint(
                "check `host` and `rpc_port`, and that the server's configuration lets this host reach \
                 its `bind-address`",
            ),
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::Absent(why) => error(Class::Stalled, why).with_hint("check the declaration"),
            Failure::Unauthorized(why) => {
                error(Class::Stalled, why).with_hint("check the declared user and password")
            }
            Failure::Forbidden(why) => error(Class::Stalled, why).with_hint(
                "as an administrator: GRANT READ ON … TO … for databases that are declared by name, \
                 GRANT ALL PRIVILEGES TO … for all databases and for restores",
            ),
            Failure::Stage(why) if why.kind() == io::ErrorKind::StorageFull => {
                error(Class::Stalled, why.to_string()).with_hint(FULL)
            }
            Failure::Stage(why) => error(Class::Retry, format!("the folder of the backup: {why}")),
            Failure::LeftBeside { database, beside, grants, why } => error(
                Class::Stalled,
                format!(
                    "{why}; database {database} is not back, and a complete copy stands as database {beside} on the \
                     same server"
                ),
            )
            .with_hint(
                [format!("restore again, then DROP DATABASE \"{beside}\"")]
                    .into_iter()
                    .chain(grants)
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
            Failure::Remains { database, why } => {
                error(Class::Stalled, format!("{why}; database {database} is incomplete"))
                    .with_hint("remove it with DROP DATABASE, and restore again")
            }
            Failure::Unfinished { database, statement, why } => error(
                Class::Stalled,
                format!("the data of database {database} are back, but `{statement}` failed: {why}"),
            )
            .with_hint("run it by hand"),
            Failure::Process(why @ (ProcessError::Missing { .. } | ProcessError::Start { .. })) => {
                error(Class::Stalled, why.to_string())
                    .with_hint("install the engine's program on this host (Debian: influxdb)")
            }
            Failure::Process(why) => {
                let said = why.to_string();
                match HINTS.iter().find(|(part, _)| said.contains(part)) {
                    Some((_, hint)) => error(Class::Stalled, said).with_hint(*hint),
                    None => error(Class::Retry, said),
                }
            }
        }
    }
}

/// What to do about a full disk.
const FULL: &str = "free some room: captures stage one database at a time in the controller's state folder, restores all of \
                    the stream";

/// What only a person can mend, by what the program says of it.
const HINTS: [(&str, &str); 2] = [
    ("no space left on device", FULL),
    ("flag provided but not defined", "install an influxd of version 1.5 or newer"),
];
