//! PostgreSQL, by its own programs. Logical: the stream is the archive of one database, or the SQL of several and of
//! the roles. Physical: the stream is a tar of the whole cluster.
//!
//! ```text
//! programs (which versions there are) · access (private password file) · session (queries through psql)
//! view (the moment of a dump, and its counts) · logical, directory, roles · physical (the streams)
//! privileges (what a role lacks)
//! load · data_folder · in_place (the way back) · wal (the log, and its way back)
//! ```
//!
//! The rows of each table are counted in the very snapshot that the dump is told to use.

mod access;
mod data_folder;
mod directory;
mod examine;
mod in_place;
mod inspect;
mod load;
mod logical;
mod physical;
mod privileges;
mod programs;
mod roles;
mod session;
mod tables;
mod view;
mod wal;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::io::AsyncRead;

use super::{
    CaptureRequest, Captured, Condition, Examined, Holds, Lack, Place, Probe, Read, Reading, Replay,
    Restored, Sink, Source, SourceError,
    blocking::{Interrupted, Unwanted, consume},
    entries::EntryError,
    existing::Existing,
};
use crate::{
    artifact::{
        Kind,
        manifest::{Counts, Edge},
    },
    inventory::KeptLog,
    process::{self, ProcessError},
    secrets::Secret,
    spec::{self, Jobs, LogFrom, Part, PostgresMethod},
    stores::Class,
};
use access::Access;
use in_place::DataFolder;
use load::Loader;
use logical::Jobbed;
use programs::Installed;
use session::{MAINTENANCE, Session};

/// What the names of the folders begin with that its programs work in.
const STAGE: &str = "postgresql";

/// How long the server may be silent on what it answers at once.
const ANSWER: Duration = Duration::from_secs(60);

/// How long the server may take over one statement of a restore, such as the building of a large table's indexes.
const STATEMENT: Duration = Duration::from_secs(6 * 3600);

/// Databases of one server, or all of it.
#[derive(Clone, Debug)]
pub struct PostgresSource {
    server: spec::Server,
    method: PostgresMethod,
    jobs: Jobs,
    password: Option<Secret>,
    search: OsString,
    /// Where what several jobs make, or load, is kept.
    scratch: PathBuf,
    /// Why this host does not let the data folder be replaced, if it does not.
    kept: Option<String>,
    /// What is restored beside the data folder; removed with the driver, unless it took that folder's place.
    beside: Arc<Mutex<Option<TempDir>>>,
    owners: load::Owners,
    /// What alone is captured and restored.
    part: Option<Part>,
    existing: Existing,
}

impl PostgresSource {
    /// What `postgres` declares, reached with `password`, the one that the declaration refers to.
    pub fn new(postgres: spec::Postgres, password: Option<Secret>) -> Self {
        let search = programs::folders(&process::search_path());
        Self {
            server: postgres.server,
            method: postgres.method,
            jobs: postgres.jobs,
            password,
            search,
            scratch: std::env::temp_dir(),
            kept: None,
            beside: Arc::default(),
            owners: load::Owners::AsCaptured,
            part: None,
            existing: Existing::Replaced,
        }
    }

    /// Restores databases without who owns what in them and who may do what: a dump of one database tells of roles that it
    /// does not hold.
    pub fn without_owners(mut self) -> Self {
        self.owners = load::Owners::LeftOut;
        self
    }

    /// Keeps what several jobs make, or load, in `scratch`, instead of where the system keeps such files.
    pub fn staging_in(self, scratch: PathBuf) -> Self {
        Self { scratch, ..self }
    }

    /// Leaves the declared data folder alone, for the reason `why`.
    pub fn keep_data_folder(mut self, why: impl Into<String>) -> Self {
        self.kept = Some(why.into());
        self
    }

    /// Looks for the engine's programs in these folders, written as in `PATH`, instead.
    pub fn search_path(mut self, search: impl Into<OsString>) -> Self {
        self.search = search.into();
        self
    }

    fn subject(&self) -> String {
        let what = match (&self.method, self.server.databases.as_slice()) {
            (PostgresMethod::Physical { .. }, _) => "the cluster".to_owned(),
            (PostgresMethod::Logical, []) => "all databases".to_owned(),
            (PostgresMethod::Logical, [one]) => format!("database {one}"),
            (PostgresMethod::Logical, several) => format!("databases {}", several.join(", ")),
        };
        match &self.server.socket {
            Some(socket) => format!("{what} on {}", socket.display()),
            None => format!("{what} on {}", self.server.host),
        }
    }

    fn shape(&self) -> Shape<'_> {
        match (&self.method, self.server.databases.as_slice()) {
            (PostgresMethod::Physical { .. }, _) => Shape::Cluster,
            (PostgresMethod::Logical, [one]) => Shape::One(one),
            (PostgresMethod::Logical, _) => Shape::Several,
        }
    }

    fn loader<'a>(&'a self, access: &'a Access) -> Loader<'a> {
        let (owners, jobs, existing) = (self.owners, self.jobs, self.existing);
        Loader { access, owners, jobs, scratch: &self.scratch, existing }
    }

    async fn access(&self) -> Result<Access, Failure> {
        let installed = Installed::find(&self.search).await?;
        Access::new(&self.server, self.password.clone(), installed)
    }

    /// The data folder that may be replaced.
    fn data_folder(&self) -> Result<DataFolder, Failure> {
        match (&self.method, &self.kept) {
            (PostgresMethod::Physical { data_dir: Some(_), .. }, Some(why)) => {
                Err(Failure::Refused(why.clone()))
            }
            (PostgresMethod::Physical { data_dir: Some(path), .. }, None) => {
                Ok(DataFolder::new(path.clone()))
            }
            _ => Err(Failure::Refused(UNDECLARED.to_owned())),
        }
    }

    /// A folder beside the data folder, to restore to.
    async fn beside_data_folder(&self) -> Result<PathBuf, Failure> {
        let beside = self.data_folder()?.beside(&self.access().await?).await?;
        let path = beside.path().to_owned();
        *self.beside.lock().unwrap_or_else(PoisonError::into_inner) = Some(beside);
        Ok(path)
    }

    /// Puts what was restored beside the data folder in its place.
    async fn replace_data_folder(&self) -> Result<String, Failure> {
        let beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner).take();
        let beside = beside.ok_or_else(|| Failure::Refused(WHOLE.to_owned()))?;
        self.data_folder()?.replace_with(beside, &self.access().await?).await
    }

    async fn restored(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<String, Failure> {
        let refused = |why: &str| Err(Failure::Refused(why.to_owned()));
        match (place, self.shape()) {
            (Place::File(path), _) => load::to_file(stream, path).await,
            (Place::Folder(folder), Shape::Cluster) => to_data_folder(stream, folder.clone()).await,
            (Place::Folder(folder), shape) => {
                let of = if let Shape::One(name) = shape { Some(name) } else { None };
                load::to_folder(stream, folder, of, &self.stream_name()).await
            }
            (Place::Database(name), Shape::One(_)) => {
                let schemas = tables::schemas(self.part.as_ref());
                load::to_new_database(&self.loader(&self.access().await?), stream, name, &schemas).await
            }
            (Place::Database(_), Shape::Several) => refused(
                "several databases were captured, each with its own name; restore them to a file, or over the original",
            ),
            (Place::Database(_), Shape::Cluster) => refused(
                "a copy of the whole cluster is no database; restore it to a folder, and start a server on it",
            ),
            (Place::Bucket { .. }, _) => refused("only objects go into a bucket"),
            (Place::Original, Shape::One(name)) => {
                load::over_database(&self.loader(&self.access().await?), stream, name).await
            }
            (Place::Original, Shape::Several) => load::over_databases(&self.access().await?, stream).await,
            (Place::Original, Shape::Cluster) => refused(WHOLE),
        }
    }
}

/// Why a cluster is not restored over the original that is not declared.
const UNDECLARED: &str = "the data folder of its server is not declared, and only one of this host can be replaced; where it is, \
                          add `data_dir`, and `write` in [allow] of the controller's configuration; elsewhere restore to a \
                          folder, stop the server, put the folder in its data folder's place, and start it";

/// Why a cluster is not restored piece by piece.
const WHOLE: &str = "a cluster is replaced as a whole, by what was restored to a folder";

/// What the stream is.
enum Shape<'a> {
    One(&'a str),
    Several,
    Cluster,
}

async fn to_data_folder(
    stream: &mut (dyn AsyncRead + Send + Unpin),
    folder: PathBuf,
) -> Result<String, Failure> {
    let extracted = consume(stream, move |tar| data_folder::extract(tar, &folder)).await;
    extracted.unwrap_or_else(|died| Err(Failure::Stream(io::Error::other(died))))
}

#[async_trait]
impl Source for PostgresSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let server = async {
            let access = self.access().await?;
            match &self.method {
                PostgresMethod::Logical => {
                    if let Some(part) = &self.part {
                        tables::must_be_there(&access, part).await?;
                    }
                    privileges::for_logical(&access).await
                }
                PostgresMethod::Physical { .. } => privileges::for_physical(&access).await,
            }
        };
        let server = server.await.map_err(|failure| failure.explain("probe", self.subject()))?;
        Ok(Probe { version: format!("PostgreSQL {}", server.version) })
    }

    async fn lacks(&self, kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        let PostgresMethod::Physical { log, .. } = &self.method else { return Ok(Vec::new()) };
        if !kinds.contains(&Kind::Log) {
            return Ok(Vec::new());
        }
        let lacks = async { wal::needs::lacks(&self.access().await?, log).await };
        lacks.await.map_err(|failure| failure.explain("probe", self.subject()))
    }

    fn stream_name(&self) -> String {
        match self.shape() {
            Shape::One(name) => directory::name(name, self.jobs),
            Shape::Several => "databases.sql".to_owned(),
            Shape::Cluster => "base.tar".to_owned(),
        }
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        let captured = async {
            let access = self.access().await?;
            match (&self.method, request.kind) {
                (PostgresMethod::Physical { log, .. }, Kind::Log) => {
                    wal::capture(&access, log, request, sink).await
                }
                (PostgresMethod::Physical { .. }, _) => physical::capture(&access, request, sink).await,
                (PostgresMethod::Logical, _) => match self.server.databases.as_slice() {
                    [name] if self.jobs == Jobs::ONE => {
                        logical::capture_one(&access, name, self.part.as_ref(), request, sink).await
                    }
                    [name] => {
                        let aside = Jobbed { jobs: self.jobs, scratch: &self.scratch };
                        logical::capture_by_jobs(&access, name, aside, request, sink).await
                    }
                    _ => logical::capture_several(&access, request, sink).await,
                },
            }
        };
        match (&self.method, request.kind) {
            (PostgresMethod::Logical, Kind::Log) => {
                Err(SourceError::unsupported(&self.subject(), request.kind))
            }
            (_, Kind::Log) => captured.await.map_err(|it| it.explain("capture the log of", self.subject())),
            _ => captured.await.map_err(|it| it.explain("dump", self.subject())),
        }
    }

    async fn read_log(&self, reading: &Reading<'_>) -> Result<Read, SourceError> {
        let PostgresMethod::Physical { log: LogFrom::Slot(slot), .. } = &self.method else {
            return Err(SourceError::unsupported(&self.subject(), Kind::Log));
        };
        let read = async { wal::reader::read(&self.access().await?, slot, reading).await };
        read.await.map_err(|failure: Failure| failure.explain("read the log of", self.subject()))
    }

    async fn trim_spool(&self, spool: &Path, stored: &Edge) -> Result<(), SourceError> {
        let (spool, stored) = (spool.to_owned(), stored.clone());
        let trimmed = tokio::task::spawn_blocking(move || wal::reader::trim(&spool, &stored)).await;
        let trimmed = trimmed.unwrap_or_else(|died| Err(Failure::Incomplete(died.to_string())));
        trimmed.map_err(|failure| failure.explain("trim the spool of", self.subject()))
    }

    async fn kept_log(&self) -> Result<Option<KeptLog>, SourceError> {
        let PostgresMethod::Physical { log: LogFrom::Slot(slot), .. } = &self.method else { return Ok(None) };
        let kept = async {
            let mut session = Session::open(&self.access().await?, MAINTENANCE, ANSWER).await?;
            wal::kept(&mut session, slot).await
        };
        kept.await.map_err(|failure| failure.explain("look at the replication slot of", self.subject()))
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        let restored = self.restored(stream, place).await;
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }

    async fn make_way(&self) -> Result<(), SourceError> {
        Err(SourceError::misplaced(&self.subject(), WHOLE))
    }

    async fn prepare(&self, place: &Place) -> Result<Place, SourceError> {
        match (place, self.shape()) {
            (Place::Original, Shape::Cluster) => {
                let made = self.beside_data_folder().await;
                made.map(Place::Folder).map_err(|failure| failure.explain("restore", self.subject()))
            }
            _ => {
                let looked = async {
                    match place {
                        Place::Database(name) => load::must_be_new(&self.access().await?, name).await,
                        Place::Original if self.part.is_some() => {
                            load::must_answer(&self.access().await?).await
                        }
                        _ => Ok(()),
                    }
                };
                looked.await.map_err(|failure| failure.explain("restore", self.subject()))?;
                Ok(place.clone())
            }
        }
    }

    fn part(&self, part: &Part) -> Result<Box<dyn Source>, SourceError> {
        let server = spec::Server { databases: vec![part.database.clone()], ..self.server.clone() };
        let (method, jobs, part) = (PostgresMethod::Logical, Jobs::ONE, Some(part.clone()));
        Ok(Box::new(Self { server, method, jobs, part, ..self.clone() }))
    }

    async fn replay(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
        _replay: &Replay,
    ) -> Result<Restored, SourceError> {
        let replayed = match place {
            Place::Folder(folder) => wal::recovery::to_data_folder(stream, folder).await,
            _ => Err(Failure::Refused(WHOLE.to_owned())),
        };
        replayed
            .map(|place| Restored { place })
            .map_err(|failure| failure.explain("replay the log of", self.subject()))
    }

    async fn conclude(
        &self,
        made: &Place,
        place: &Place,
        replay: Option<&Replay>,
        restored: Restored,
    ) -> Result<Restored, SourceError> {
        let concluded = async {
            if let (Place::Folder(folder), Some(replay)) = (made, replay) {
                wal::recovery::recover(folder, replay)?;
            }
            match (place, self.shape()) {
                (Place::Original, Shape::Cluster) => {
                    Ok(Restored { place: self.replace_data_folder().await? })
                }
                _ => Ok(restored),
            }
        };
        concluded.await.map_err(|failure: Failure| failure.explain("restore", self.subject()))
    }

    async fn count(&self) -> Result<Counts, SourceError> {
        let counted = async { inspect::count(&self.access().await?).await };
        counted.await.map_err(|failure| failure.explain("count", self.subject()))
    }

    fn refuse_to_replace(&mut self) {
        self.existing = Existing::Refused;
    }

    async fn holds(&self) -> Result<Holds, SourceError> {
        // The folder of a cluster that is replaced is kept.
        if matches!(self.shape(), Shape::Cluster) {
            return Ok(Holds::Nothing);
        }
        let asked = async { inspect::first_rows(&self.access().await?).await };
        let found = asked.await.map_err(|failure| failure.explain("look into", self.subject()))?;
        Ok(found.map_or(Holds::Nothing, |table| Holds::Data(format!("rows in {table}"))))
    }

    async fn ask(&self, database: Option<&str>, sql: &str) -> Result<String, SourceError> {
        let asked = async {
            let access = self.access().await?;
            if self.server.socket.is_none() || !inspect::make_reader(&access).await? {
                return inspect::ask(&access, database, sql).await;
            }
            let server = spec::Server { user: Some(inspect::READER.to_owned()), ..self.server.clone() };
            inspect::ask(&Access::new(&server, None, access.installed)?, database, sql).await
        };
        asked.await.map_err(|failure| failure.explain("ask", self.subject()))
    }

    async fn examine(&self) -> Vec<Examined> {
        let examined = async {
            let access = self.access().await?;
            let user = Some(examine::superuser(&access).await?);
            let server = spec::Server { user, ..self.server.clone() };
            examine::examine(&Access::new(&server, None, access.installed)?).await
        };
        let condition = examined.await.unwrap_or_else(|failure: Failure| {
            Condition::Unknown(failure.explain("check", self.subject()).to_string())
        });
        vec![Examined { by: examine::BY, condition }]
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    SinkClosed,
    Process(ProcessError),
    /// What the server answered is not what was asked for.
    Answer(String),
    /// A dump does not show that it is whole.
    Incomplete(String),
    /// The stream that is restored failed.
    Stream(io::Error),
    /// The folder that programs work in failed.
    Stage(io::Error),
    /// What was asked can't be done, or would overwrite something.
    Refused(String),
    /// A role lacks something.
    Privilege {
        lacks: String,
        grant: String,
    },
    /// The server is not set up for it.
    Setting {
        found: String,
        set: String,
    },
    /// The server has the beginning of a log no more.
    Gone(String),
    /// The programs are older than the server.
    Outdated {
        server: u32,
        programs: u32,
    },
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

impl From<Unwanted> for Failure {
    fn from(_: Unwanted) -> Self {
        Failure::SinkClosed
    }
}

impl From<Interrupted> for Failure {
    fn from(why: Interrupted) -> Self {
        match why {
            Interrupted::SinkClosed => Failure::SinkClosed,
            Interrupted::Stalled(_) => Failure::Incomplete("the dump could not be read in time".to_owned()),
            Interrupted::Died(died) => Failure::Stage(io::Error::other(died)),
        }
    }
}

impl From<super::SinkClosed> for Failure {
    fn from(_: super::SinkClosed) -> Self {
        Failure::SinkClosed
    }
}

impl Failure {
    /// Whether it may pass without anybody's doing, as that of a server that can't be reached.
    fn may_pass(&self) -> bool {
        match self {
            Failure::Process(ProcessError::Missing { .. } | ProcessError::Start { .. }) => false,
            Failure::Process(why) => {
                let said = why.to_string();
                !HINTS.iter().any(|(part, _)| said.contains(part))
            }
            _ => false,
        }
    }

    fn reason(self) -> String {
        self.explain("", String::new()).reason
    }

    fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject, class, reason);
        match self {
            Failure::SinkClosed => error(Class::Retry, super::SinkClosed.to_string()),
            Failure::Answer(why) | Failure::Incomplete(why) => error(Class::Retry, why),
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Stage(why) => error(Class::Retry, format!("the controller's scratch folder: {why}")),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::Privilege { lacks, grant } => {
                error(Class::Stalled, lacks).with_hint(format!("as a superuser: {grant}"))
            }
            Failure::Setting { found, set } => error(Class::Stalled, found).with_hint(set),
            Failure::Gone(why) => error(Class::Retry, why),
            Failure::Outdated { server, programs } => error(
                Class::Stalled,
                format!(
                    "the server is PostgreSQL {server}, the newest client programs here are of {programs}, \
                         and they refuse newer servers"
                ),
            )
            .with_hint(format!(
                "install the client programs of version {server} (Debian: postgresql-client-{server})"
            )),
            Failure::Process(why @ (ProcessError::Missing { .. } | ProcessError::Start { .. })) => {
                error(Class::Stalled, why.to_string())
                    .with_hint("install the server's client programs (Debian: postgresql-client)")
            }
            Failure::Process(why) => {
                let said = why.to_string();
                if said.contains("relation \"") && said.contains("does not exist") {
                    // It was dropped while a dump began: the next one knows.
                    return error(Class::Retry, said);
                }
                match HINTS.iter().find(|(part, _)| said.contains(part)) {
                    Some((_, hint)) => error(Class::Stalled, said).with_hint(*hint),
                    None => error(Class::Retry, said),
                }
            }
        }
    }
}

/// What only a person can mend, by what the server says of it.
const HINTS: [(&str, &str); 10] = [
    ("No space left on device", "make room on the server's disk"),
    ("authentication failed", "check user and password"),
    ("no password supplied", "declare the password"),
    ("no pg_hba.conf entry", "let this host and user in: add a line for them to the server's pg_hba.conf"),
    ("row-level security", "as a superuser: ALTER ROLE … BYPASSRLS;"),
    (
        "permission denied for large object",
        "let the role read it, as its owner or a superuser: GRANT SELECT ON LARGE OBJECT … TO …; pg_read_all_data does not",
    ),
    (
        "permission denied",
        "as a superuser: GRANT pg_read_all_data TO …; for physical captures: ALTER ROLE … REPLICATION;",
    ),
    ("replication role", "as a superuser: ALTER ROLE … REPLICATION;"),
    ("is being accessed by other users", "end their connections first"),
    (
        "does not exist",
        "check the declared databases and user; roles that a dump of one database names must exist before it is restored",
    ),
];
