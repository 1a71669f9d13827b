//! PostgreSQL, by its own programs. Logical: the stream is the archive of one database, or the SQL of several and of
//! the roles. Physical: the stream is a tar of the whole cluster.
//!
//! ```text
//! failure · programs (which versions there are) · access (private password file) · session (queries through psql)
//! view (the moment of a dump, and its counts) · logical, directory, roles · physical (the streams)
//! privileges (what a role lacks)
//! load · data_folder · in_place (the way back) · wal (the log, and its way back)
//! ```
//!
//! The rows of each table are counted in the very snapshot that the dump is told to use.

mod access;
mod checksum;
mod data_folder;
mod directory;
mod examine;
mod failure;
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
    Restored, Sink, Source, SourceError, blocking::consume, existing::Existing,
};
use crate::{
    artifact::{
        Kind,
        manifest::{Counting, Edge, Rows},
    },
    inventory::KeptLog,
    process,
    secrets::Secret,
    spec::{self, Jobs, LogFrom, Part, PostgresMethod},
};
use access::Access;
use failure::Failure;
use in_place::DataFolder;
use load::Loader;
use logical::{Jobbed, One};
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
    counting: Counting,
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
            counting: postgres.counting,
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
                        let one = One { name, part: self.part.as_ref(), counting: self.counting };
                        logical::capture_one(&access, one, request, sink).await
                    }
                    [name] => {
                        let one = One { name, part: None, counting: self.counting };
                        let aside = Jobbed { jobs: self.jobs, scratch: &self.scratch };
                        logical::capture_by_jobs(&access, one, aside, request, sink).await
                    }
                    _ => logical::capture_several(&access, self.counting, request, sink).await,
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

    async fn count(&self, what: Counting) -> Result<Rows, SourceError> {
        let counted = async { inspect::count(&self.access().await?, what).await };
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
