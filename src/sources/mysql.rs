//! MariaDB and MySQL, by their own programs. Logical: the stream is the SQL of a dump. Physical: it is a copy of the files.
//!
//! ```text
//! failure · programs (which there are) · access (private option file) · session (queries through the client)
//! view (the moment of the dump, and a session that sees it) · dump (the stream) · marks (what its text proves)
//! rows (statements whose borders a change does not move) · load (the way back) · physical (the files, and their way back)
//! binlog (the log) · purge (what of it may go) · replay (its way back) · accounts (what of that is about them)
//! reader (the log as it is written) · ahead (what a reader has) · walk (how far that is whole)
//! ```
//!
//! The dump reads in one transaction. The rows of each table are counted by a second session, whose transaction is
//! opened while a global read lock holds the server still, or whose binary log position is the dump's; where neither
//! proves that both see the same, the counts are [not captured](Counts::NotCaptured).

mod access;
mod accounts;
mod ahead;
mod binlog;
mod checksum;
mod dump;
mod events;
mod examine;
mod failure;
mod gtids;
mod inspect;
mod load;
mod marks;
mod needs;
mod physical;
mod programs;
mod purge;
mod reader;
mod replay;
mod rows;
mod session;
mod view;
mod walk;

use std::{collections::BTreeSet, ffi::OsString, path::Path, time::Duration};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    CaptureRequest, Captured, Condition, Examined, GoesOn, Holds, Lack, Place, Probe, Read, Reading, Replay,
    Restored, Sink, Source, SourceError,
};
use crate::{
    artifact::{
        Kind,
        manifest::{Counting, Edge, Rows},
    },
    process,
    secrets::Secret,
    spec::{self, BinaryLogs, MysqlMethod, Part},
};
use access::Access;
use failure::Failure;
use physical::{Copiers, data_folder};
use programs::{Flavour, Installed};
use session::Session;

/// How long the server may be silent on what it answers at once.
const ANSWER: Duration = Duration::from_secs(60);

/// How long the server may take over one statement of a restore, such as the building of a large table's indexes.
const STATEMENT: Duration = Duration::from_secs(6 * 3600);

/// Databases of one server, or all of it.
#[derive(Clone, Debug)]
pub struct MysqlSource {
    server: spec::Server,
    method: MysqlMethod,
    binary_logs: BinaryLogs,
    counting: Counting,
    password: Option<Secret>,
    search: OsString,
    /// What alone is captured and restored.
    part: Option<Part>,
}

impl MysqlSource {
    /// What `mysql` declares, reached with `password`, the one that the declaration refers to.
    pub fn new(mysql: spec::Mysql, password: Option<Secret>) -> Self {
        let spec::Mysql { server, method, binary_logs, counting } = mysql;
        Self { server, method, binary_logs, counting, password, search: process::search_path(), part: None }
    }

    /// Looks for the dump and client programs in these folders, written as in `PATH`, instead.
    pub fn search_path(mut self, search: impl Into<OsString>) -> Self {
        self.search = search.into();
        self
    }

    fn subject(&self) -> String {
        let databases = match (&self.method, self.server.databases.as_slice()) {
            (MysqlMethod::Physical { .. }, _) => "the server".to_owned(),
            (MysqlMethod::Logical, []) => "all databases".to_owned(),
            (MysqlMethod::Logical, [one]) => format!("database {one}"),
            (MysqlMethod::Logical, several) => format!("databases {}", several.join(", ")),
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

    /// Access by the programs of the server's own engine. Where the server does not tell whose it is, what is wrong shows as soon as
    /// it is asked for something.
    async fn access(&self) -> Result<Access, Failure> {
        let installed = Installed::find(&self.search).await?;
        let mut by_any = Vec::new();
        for programs in installed.any()? {
            let flavour = programs.flavour;
            let access = Access::new(&self.server, self.password.clone(), programs)?;
            match Session::open(&access, None, ANSWER)?.one("SELECT VERSION()").await {
                Ok(version) if Flavour::of(&version) == flavour => return Ok(access),
                Ok(version) => {
                    let programs = installed.of(Flavour::of(&version))?;
                    return Access::new(&self.server, self.password.clone(), programs);
                }
                // The other engine's may understand what this one's do not. A server that can't be reached or trusted, or that
                // refuses the password, is not asked twice.
                Err(failure) => {
                    let speaks_otherwise = failure.speaks_otherwise();
                    by_any.push(access);
                    if !speaks_otherwise {
                        break;
                    }
                }
            }
        }
        let none = || Failure::Answer("no program could ask the server".to_owned());
        by_any.into_iter().next().ok_or_else(none)
    }

    fn copiers(&self) -> Result<Copiers, Failure> {
        Copiers::find(&self.search)
    }

    async fn version(&self) -> Result<String, Failure> {
        let access = self.access().await?;
        match &self.method {
            MysqlMethod::Logical => {
                let mut session = Session::open(&access, None, ANSWER)?;
                if let Some(part) = &self.part {
                    view::must_be_there(&mut session, part).await?;
                }
                session.one("SELECT VERSION()").await
            }
            MysqlMethod::Physical { data_dir } => physical::probe(&access, &self.copiers()?, data_dir).await,
        }
    }

    async fn captured(&self, request: &CaptureRequest<'_>, sink: &mut dyn Sink) -> Result<Captured, Failure> {
        let access = self.access().await?;
        match (&self.method, request.kind) {
            (MysqlMethod::Logical, Kind::Log) => binlog::capture(&access, request, sink).await,
            (MysqlMethod::Physical { .. }, Kind::Log) => {
                physical::must_have_a_log_for_copies(&access).await?;
                binlog::capture(&access, request, sink).await
            }
            (MysqlMethod::Logical, _) => {
                let scope =
                    dump::Scope { single: self.single(), part: self.part.as_ref(), counting: self.counting };
                dump::capture(&access, scope, request, sink).await
            }
            (MysqlMethod::Physical { data_dir }, _) => {
                physical::capture(&access, &self.copiers()?, data_dir, request, sink).await
            }
        }
    }

    /// What a stream is, it tells by its beginning: data may have been captured in another way than is declared now.
    async fn restored(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<String, Failure> {
        let mut beginning = Vec::new();
        let magic = physical::MAGIC;
        (&mut *stream).take(magic.len() as u64).read_to_end(&mut beginning).await.map_err(Failure::Stream)?;
        let is_copy = beginning == magic;
        let mut stream = beginning.as_slice().chain(stream);
        match is_copy {
            true => self.copy_restored(&mut stream, place).await,
            false => self.dump_restored(&mut stream, place).await,
        }
    }

    async fn copy_restored(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<String, Failure> {
        let refused = |why: &str| Err(Failure::Refused(why.to_owned()));
        match place {
            Place::File(path) => load::to_plain_file(stream, path).await,
            Place::Folder(folder) => data_folder::restore(&self.copiers()?, stream, folder).await,
            Place::Database(_) => refused(
                "a copy of the whole server is no database; restore it to a folder, and start a server on it",
            ),
            Place::Bucket { .. } => refused("only objects go into a bucket"),
            Place::Original => refused(RUNNING),
        }
    }

    async fn dump_restored(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<String, Failure> {
        let refused = |why: &str| Err(Failure::Refused(why.to_owned()));
        match (place, self.single()) {
            _ if self.method != MysqlMethod::Logical
                && !matches!(place, Place::File(_) | Place::Folder(_)) =>
            {
                refused("it is a dump, and files are captured now; restore it to a file, and load it")
            }
            (Place::File(path), _) => load::to_file(stream, path).await,
            (Place::Folder(folder), single) => load::to_folder(stream, folder, &dump_name(single)).await,
            (Place::Database(name), Some(_)) => {
                load::to_new_database(&self.access().await?, stream, name).await
            }
            (Place::Database(_), None) => {
                refused("several databases were captured, each with its own name; restore them to a file")
            }
            (Place::Bucket { .. }, _) => refused("only objects go into a bucket"),
            (Place::Original, single) => load::over_original(&self.access().await?, stream, single).await,
        }
    }

    async fn replayed(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
        replay: &Replay,
    ) -> Result<String, Failure> {
        match place {
            Place::Folder(folder) if data_folder::is_copy(folder) => {
                let programs = Installed::find(&self.search).await?.mariadb()?;
                replay::over_copy(&self.copiers()?, programs, stream, folder, replay).await
            }
            Place::Folder(folder) => replay::to_folder(stream, folder, replay).await,
            Place::Original if self.method == MysqlMethod::Logical => {
                replay::over_original(&self.access().await?, stream, replay).await
            }
            Place::Original => Err(Failure::Refused(RUNNING.to_owned())),
            Place::File(_) | Place::Database(_) | Place::Bucket { .. } => Err(Failure::Refused(
                "what is replayed may name the original; restore in place, or to a folder".to_owned(),
            )),
        }
    }
}

/// Why a copy of files is not restored over the original.
const RUNNING: &str = "the files of a running server can't be replaced; restore to a folder, stop the server, put the folder in \
                       its data folder's place, and start it";

fn dump_name(single: Option<&str>) -> String {
    format!("{}.sql", single.unwrap_or("databases").replace('/', "_"))
}

#[async_trait]
impl Source for MysqlSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let version = self.version().await.map_err(|failure| failure.explain("probe", self.subject()))?;
        let engine = if version.contains("MariaDB") { "" } else { "MySQL " };
        Ok(Probe { version: format!("{engine}{version}") })
    }

    async fn lacks(&self, kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        let lacks = async { needs::lacks(&self.access().await?, &self.method, kinds).await };
        lacks.await.map_err(|failure| failure.explain("probe", self.subject()))
    }

    fn stream_name(&self) -> String {
        match &self.method {
            MysqlMethod::Logical => dump_name(self.single()),
            MysqlMethod::Physical { .. } => "server.mbstream".to_owned(),
        }
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        let operation = match (&self.method, request.kind) {
            (_, Kind::Log) => "capture the log of",
            (MysqlMethod::Logical, _) => "dump",
            (MysqlMethod::Physical { .. }, _) => "copy the files of",
        };
        let captured = self.captured(request, sink).await;
        captured.map_err(|failure| failure.explain(operation, self.subject()))
    }

    async fn goes_on_from(&self, base: &Edge) -> Result<GoesOn, SourceError> {
        let MysqlMethod::Physical { data_dir } = &self.method else {
            return Ok(GoesOn::No("dumps hold everything".to_owned()));
        };
        let asked = async { physical::goes_on_from(&self.access().await?, data_dir, base).await };
        asked.await.map_err(|failure| failure.explain("look into the files of", self.subject()))
    }

    async fn read_log(&self, reading: &Reading<'_>) -> Result<Read, SourceError> {
        let read = async { reader::read(&self.access().await?, reading).await };
        read.await.map_err(|failure| failure.explain("read the log of", self.subject()))
    }

    async fn trim_spool(&self, spool: &Path, stored: &Edge) -> Result<(), SourceError> {
        let (spool, stored) = (spool.to_owned(), stored.clone());
        let trimmed = reader::blocking(move || ahead::trim(&spool, &stored).map_err(reader::unusable)).await;
        trimmed.map_err(|failure| failure.explain("trim the spool of", self.subject()))
    }

    async fn log_is_stored(&self, stored: &Edge) -> Result<String, SourceError> {
        if self.binary_logs == BinaryLogs::Left {
            return Ok(String::new());
        }
        let purged = async { purge::purge(&self.access().await?, stored).await };
        purged.await.map_err(|failure| failure.explain("purge the binary logs of", self.subject()))
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        let restored = self.restored(stream, place).await;
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }

    /// Increments are laid over the copy that they go on from. A stream of its own is none of them.
    fn adds_up(&self, place: &Place) -> bool {
        matches!(place, Place::Folder(_))
    }

    async fn join(&self, _: &std::path::Path, _: &Place) -> Result<Restored, SourceError> {
        let why = "a copy and its increments become one in a folder only; restore to a folder, or the full to a file";
        Err(SourceError::misplaced(&self.subject(), why))
    }

    fn part(&self, part: &Part) -> Result<Box<dyn Source>, SourceError> {
        let server = spec::Server { databases: vec![part.database.clone()], ..self.server.clone() };
        let (method, part) = (MysqlMethod::Logical, Some(part.clone()));
        Ok(Box::new(Self { server, method, part, ..self.clone() }))
    }

    async fn prepare(&self, place: &Place) -> Result<Place, SourceError> {
        let looked = async {
            match place {
                Place::Database(name) => load::must_be_new(&self.access().await?, name).await,
                Place::Original if self.part.is_some() => load::must_answer(&self.access().await?).await,
                _ => Ok(()),
            }
        };
        looked.await.map_err(|failure| failure.explain("restore", self.subject()))?;
        Ok(place.clone())
    }

    async fn must_take(&self, captured: Option<&str>) -> Result<(), SourceError> {
        let taken = async {
            let access = self.access().await?;
            access.binlog(ANSWER)?;
            match captured.map(Flavour::of).filter(|captured| *captured != access.programs.flavour) {
                Some(captured) => Err(Failure::Refused(format!(
                    "it was captured of {}, and the server is {} now; restore it to a folder",
                    captured.name(),
                    access.programs.flavour.name()
                ))),
                None => Ok(()),
            }
        };
        taken.await.map_err(|failure| failure.explain("make way for", self.subject()))
    }

    async fn make_way(&self) -> Result<(), SourceError> {
        if self.method != MysqlMethod::Logical {
            return Err(SourceError::misplaced(&self.subject(), RUNNING));
        }
        let made = async { load::drop_databases(&self.access().await?).await };
        made.await.map_err(|failure| failure.explain("make way for", self.subject()))
    }

    async fn replay(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
        replay: &Replay,
    ) -> Result<Restored, SourceError> {
        let replayed = self.replayed(stream, place, replay).await;
        replayed
            .map(|place| Restored { place })
            .map_err(|failure| failure.explain("replay the log of", self.subject()))
    }

    async fn count(&self, what: Counting) -> Result<Rows, SourceError> {
        let counted = async { inspect::count(&self.access().await?, what).await };
        counted.await.map_err(|failure| failure.explain("count", self.subject()))
    }

    async fn holds(&self) -> Result<Holds, SourceError> {
        let asked = async { inspect::first_rows(&self.access().await?).await };
        let found = asked.await.map_err(|failure| failure.explain("look into", self.subject()))?;
        Ok(found.map_or(Holds::Nothing, |table| Holds::Data(format!("rows in {table}"))))
    }

    async fn ask(&self, database: Option<&str>, sql: &str) -> Result<String, SourceError> {
        let asked = async {
            let access = self.access().await?;
            if self.server.socket.is_none() {
                return inspect::ask(&access, database.or(self.single()), sql).await;
            }
            inspect::make_reader(&access).await?;
            let server = spec::Server { user: Some(inspect::READER.to_owned()), ..self.server.clone() };
            let reader = Access::new(&server, None, access.programs)?;
            inspect::ask(&reader, database.or(self.single()), sql).await
        };
        asked.await.map_err(|failure| failure.explain("ask", self.subject()))
    }

    async fn examine(&self) -> Vec<Examined> {
        let examined = async { examine::examine(&self.access().await?).await };
        let condition = examined.await.unwrap_or_else(|failure: Failure| {
            Condition::Unknown(failure.explain("check", self.subject()).to_string())
        });
        vec![Examined { by: examine::BY, condition }]
    }
}
