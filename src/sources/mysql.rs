//! MariaDB and MySQL, by their own dump and client programs. The stream is the SQL of the dump.
//!
//! ```text
//! programs (which there are) · access (private option file) · session (queries through the client)
//! view (the moment of the dump, and a session that sees it) · dump (the stream) · marks (what its text proves)
//! load (the way back) · binlog (the log) · replay (its way back)
//! ```
//!
//! The dump reads in one transaction. The rows of each table are counted by a second session, whose transaction is
//! opened while a global read lock holds the server still, or whose binary log position is the dump's; where neither
//! proves that both see the same, the counts are [not captured](Counts::NotCaptured).

mod access;
mod binlog;
mod dump;
mod events;
mod load;
mod marks;
mod needs;
mod programs;
mod replay;
mod session;
mod view;

use std::{collections::BTreeSet, ffi::OsString, time::Duration};

use async_trait::async_trait;
use tokio::io::AsyncRead;

use super::{
    CaptureRequest, Captured, Lack, Place, Probe, Replay, Restored, Sink, Source, SourceError,
    entries::EntryError,
};
use crate::{
    artifact::Kind,
    process::{self, ProcessError},
    secrets::Secret,
    spec,
    stores::Class,
};
use access::Access;
use programs::Programs;
use session::Session;

/// How long the server may be silent on what it answers at once.
const ANSWER: Duration = Duration::from_secs(60);

/// How long the server may take over one statement of a restore, such as the building of a large table's indexes.
const STATEMENT: Duration = Duration::from_secs(6 * 3600);

/// Databases of one server.
#[derive(Clone, Debug)]
pub struct MysqlSource {
    server: spec::Server,
    password: Option<Secret>,
    search: OsString,
}

impl MysqlSource {
    /// The databases that `mysql` declares, reached with `password`, the one that the declaration refers to.
    pub fn new(mysql: spec::Mysql, password: Option<Secret>) -> Self {
        Self { server: mysql.server, password, search: process::search_path() }
    }

    /// Looks for the dump and client programs in these folders, written as in `PATH`, instead.
    pub fn search_path(mut self, search: impl Into<OsString>) -> Self {
        self.search = search.into();
        self
    }

    fn subject(&self) -> String {
        let databases = match self.server.databases.as_slice() {
            [] => "all databases".to_owned(),
            [one] => format!("database {one}"),
            several => format!("databases {}", several.join(", ")),
        };
        match &self.server.socket {
            Some(socket) => format!("{databases} on {}", socket.display()),
            None => format!("{databases} on {}", self.server.host),
        }
    }

    /// The one database that is declared, whose dump names no database and can be restored under another name.
    fn single(&self) -> Option<&str> {
        match self.server.databases.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    async fn access(&self) -> Result<Access, Failure> {
        let programs = Programs::find(&self.search).await?;
        Access::new(&self.server, self.password.clone(), programs)
    }
}

#[async_trait]
impl Source for MysqlSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let version =
            async { Session::open(&self.access().await?, None, ANSWER)?.one("SELECT VERSION()").await };
        let version = version.await.map_err(|failure| failure.explain("probe", self.subject()))?;
        let engine = if version.contains("MariaDB") { "" } else { "MySQL " };
        Ok(Probe { version: format!("{engine}{version}") })
    }

    async fn lacks(&self, kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        let lacks = async { needs::lacks(&self.access().await?, kinds).await };
        lacks.await.map_err(|failure| failure.explain("probe", self.subject()))
    }

    fn stream_name(&self) -> String {
        format!("{}.sql", self.single().unwrap_or("databases").replace('/', "_"))
    }

    async fn capture(&self, request: &CaptureRequest, sink: &mut dyn Sink) -> Result<Captured, SourceError> {
        if request.kind == Kind::Log {
            let captured = async { binlog::capture(&self.access().await?, request, sink).await };
            return captured.await.map_err(|failure| failure.explain("capture the log of", self.subject()));
        }
        let captured = async { dump::capture(&self.access().await?, self.single(), request, sink).await };
        captured.await.map_err(|failure| failure.explain("dump", self.subject()))
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        let restored = match place {
            Place::File(path) => load::to_file(stream, path).await,
            Place::Folder(folder) => load::to_folder(stream, folder, &self.stream_name()).await,
            Place::Database(name) => match (self.single(), self.access().await) {
                (Some(_), Ok(access)) => load::to_new_database(&access, stream, name).await,
                (None, _) => Err(Failure::Refused(
                    "several databases were captured, each with its own name; restore them to a file"
                        .to_owned(),
                )),
                (_, Err(failure)) => Err(failure),
            },
            Place::Bucket { .. } => Err(Failure::Refused("only objects go into a bucket".to_owned())),
            Place::Original => match self.access().await {
                Ok(access) => load::over_original(&access, stream, self.single()).await,
                Err(failure) => Err(failure),
            },
        };
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }

    async fn make_way(&self) -> Result<(), SourceError> {
        let made = async { load::drop_databases(&self.access().await?).await };
        made.await.map_err(|failure| failure.explain("make way for", self.subject()))
    }

    async fn replay(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
        replay: &Replay,
    ) -> Result<Restored, SourceError> {
        let replayed = match place {
            Place::Folder(folder) => replay::to_folder(stream, folder, replay).await,
            Place::Original => match self.access().await {
                Ok(access) => replay::over_original(&access, stream, replay).await,
                Err(failure) => Err(failure),
            },
            Place::File(_) | Place::Database(_) | Place::Bucket { .. } => Err(Failure::Refused(
                "what is replayed may name the original; restore in place, or to a folder".to_owned(),
            )),
        };
        replayed
            .map(|place| Restored { place })
            .map_err(|failure| failure.explain("replay the log of", self.subject()))
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    SinkClosed,
    Process(ProcessError),
    /// What the server answered is not what was asked for.
    Answer(String),
    /// The text of a dump does not show that it is whole.
    Incomplete(String),
    /// The stream that is restored failed.
    Stream(std::io::Error),
    /// What was asked would overwrite something.
    Refused(String),
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        Failure::Process(error)
    }
}

impl From<EntryError> for Failure {
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::Stream(error) => Failure::Stream(error),
            EntryError::Broken(_) => Failure::Incomplete(error.to_string()),
            EntryError::Unwritable(..) => Failure::Refused(error.to_string()),
        }
    }
}

impl From<super::SinkClosed> for Failure {
    fn from(_: super::SinkClosed) -> Self {
        Failure::SinkClosed
    }
}

/// What a user lacks, as far as the server says it.
fn missing_grant(said: &str) -> Option<String> {
    let needed = ["RELOAD", "REPLICATION SLAVE", "BINLOG MONITOR", "REPLICATION CLIENT", "BINLOG REPLAY"];
    let said = said.split_once("Access denied; you need")?.1;
    let privilege = needed.into_iter().find(|privilege| said.contains(privilege))?;
    Some(format!("grant what is missing: GRANT {privilege} ON *.* TO the user of this backup"))
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
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::Process(why @ (ProcessError::Missing { .. } | ProcessError::Start { .. })) => {
                error(Class::Stalled, why.to_string())
                    .with_hint("install the server's client programs (Debian: mariadb-client)")
            }
            Failure::Process(why) => {
                let said = why.to_string();
                if let Some(grant) = missing_grant(&said) {
                    error(Class::Stalled, said).with_hint(grant)
                } else if said.contains("Access denied") {
                    error(Class::Stalled, said).with_hint("check user, password and grants")
                } else if said.contains("Unknown database") {
                    error(Class::Stalled, said).with_hint("check the declared databases")
                } else {
                    error(Class::Retry, said)
                }
            }
        }
    }
}
