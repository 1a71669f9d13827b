//! SQLite databases of the controller's host. The stream is the database file itself.
//!
//! A capture holds one read transaction and reads the database's pages through the `sqlite_dbpage` table: whoever
//! writes meanwhile, what is read is one committed state, and the rows of each table are counted in the same one. In
//! WAL mode writers go on undisturbed, and pages are streamed as they are read. In rollback-journal mode a reader
//! keeps writers from committing, so that the pages are first copied, at the speed of the disk, into an unnamed file
//! of the scratch folder, and streamed from there: a slow store never holds up a writer.
//!
//! Restored over the original, a copy is checked first and then written *into* the database by SQLite's online
//! backup API, in one transaction that open connections see like any other. A database too damaged for that is put
//! aside and replaced.

mod examine;
mod image;
mod inspect;
mod place;

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::io::AsyncRead;

use super::{
    CaptureRequest, Captured, Condition, Examined, Holds, Place, Probe, Restored, Sink, Source, SourceError,
    blocking::{Unwanted, consume, produce},
    existing::Existing,
};
use crate::{
    artifact::{
        Kind,
        manifest::{Counting, Counts, Moment, Rows},
    },
    stores::Class,
};

/// How long a lock of another connection is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// An SQLite database of the controller's host.
#[derive(Clone, Debug)]
pub struct SqliteSource {
    path: PathBuf,
    scratch: PathBuf,
    existing: Existing,
}

impl SqliteSource {
    /// The database file at `path`, an absolute path without symbolic links. Databases in rollback-journal mode are
    /// copied into an unnamed file of the folder `scratch` first.
    pub fn new(path: PathBuf, scratch: PathBuf) -> Self {
        Self { path, scratch, existing: Existing::Replaced }
    }

    fn subject(&self) -> String {
        format!("database {}", self.path.display())
    }
}

#[async_trait]
impl Source for SqliteSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            open_to_read(&path)?.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(())
        });
        let read = read.await.unwrap_or_else(|died| Err(Failure::Io(io::Error::other(died))));
        read.map_err(|failure: Failure| failure.explain("probe", self.subject()))?;
        Ok(Probe { version: format!("SQLite {}", rusqlite::version()) })
    }

    fn stream_name(&self) -> String {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_else(|| "database.sqlite".to_owned())
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        if request.kind == Kind::Log {
            return Err(SourceError::unsupported(&self.subject(), request.kind));
        }
        let Self { path, scratch, .. } = self.clone();
        let asked = (request.now(), Instant::now());
        let (details, opened) = produce(sink, request.stall, move |feed| image::send(&path, &scratch, feed))
            .await
            .map_err(|why| SourceError::interrupted(&self.subject(), why))?
            .map_err(|failure| failure.explain("capture", self.subject()))?;
        let (now, instant) = asked;
        // The clock may have been set meanwhile: no artifact may be of the future.
        let time = now.checked_add(opened.duration_since(instant)).unwrap_or(now).min(request.now());
        Ok(Captured { moment: Moment::At { time, position: None }, details })
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        let destination = match place {
            Place::File(path) => place::Destination::New(path.clone()),
            Place::Folder(folder) => place::Destination::Inside(folder.join(self.stream_name())),
            Place::Original => place::Destination::Original(self.path.clone(), self.existing),
            Place::Database(_) | Place::Bucket { .. } => {
                return Err(SourceError::misplaced(
                    &self.subject(),
                    "SQLite has no server that keeps databases",
                )
                .with_hint("restore to a file or folder"));
            }
        };
        let restored = consume(stream, move |incoming| place::receive(incoming, &destination)).await;
        let restored = restored.unwrap_or_else(|died| Err(Failure::Io(io::Error::other(died))));
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }

    /// Of its pages every byte is as captured: no checksums are taken.
    async fn count(&self, _: Counting) -> Result<Rows, SourceError> {
        let path = self.path.clone();
        let counted = tokio::task::spawn_blocking(move || inspect::count(&path)).await;
        let counted = counted.unwrap_or_else(|died| Err(Failure::Io(io::Error::other(died))));
        let counted = counted.map(|counts| Counts::Captured(counts).into());
        counted.map_err(|failure| failure.explain("count", self.subject()))
    }

    fn refuse_to_replace(&mut self) {
        self.existing = Existing::Refused;
    }

    async fn holds(&self) -> Result<Holds, SourceError> {
        let path = self.path.clone();
        let looked = tokio::task::spawn_blocking(move || inspect::holds(&path)).await;
        let looked = looked.unwrap_or_else(|died| Err(Failure::Io(io::Error::other(died))));
        looked.map_err(|failure| failure.explain("look into", self.subject()))
    }

    async fn ask(&self, _database: Option<&str>, sql: &str) -> Result<String, SourceError> {
        let (path, sql) = (self.path.clone(), sql.to_owned());
        let asked = tokio::task::spawn_blocking(move || inspect::ask(&path, &sql)).await;
        let asked = asked.unwrap_or_else(|died| Err(Failure::Io(io::Error::other(died))));
        asked.map_err(|failure| failure.explain("ask", self.subject()))
    }

    async fn examine(&self) -> Vec<Examined> {
        let path = self.path.clone();
        let examined = tokio::task::spawn_blocking(move || examine::examine(&path)).await;
        examined.unwrap_or_else(|died| {
            let condition = Condition::Unknown(died.to_string());
            vec![Examined { by: examine::INTEGRITY, condition }]
        })
    }
}

/// Opens a database to read one state of it. Symbolic links are refused: they could lead out of what this host lets
/// revisions read.
fn open_to_read(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let opened = |mode| -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags | mode)?;
        connection.busy_timeout(LOCK_PATIENCE)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    match opened(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        // What a crashed writer left half done must be rolled back before anybody can read, as its next start would.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) => {
            Ok(opened(OpenFlags::SQLITE_OPEN_READ_WRITE)?)
        }
        opened => Ok(opened?),
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    Unwanted,
    Sqlite(rusqlite::Error),
    Io(io::Error),
    /// The image is not whole or not sound.
    Damaged(String),
    /// What was asked would overwrite or mix up something.
    Refused(String),
}

impl From<Unwanted> for Failure {
    fn from(_: Unwanted) -> Self {
        Failure::Unwanted
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sqlite(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Failure::Io(error.into())
    }
}

impl Failure {
    fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject, class, reason);
        match self {
            Failure::Unwanted => error(Class::Retry, super::SinkClosed.to_string()),
            Failure::Io(why) => error(Class::Retry, why.to_string()),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::Damaged(why) => {
                error(Class::Stalled, why).with_hint("restore an earlier artifact, or from another store")
            }
            Failure::Sqlite(why) => match why.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => error(Class::Retry, why.to_string())
                    .with_hint("another connection holds a lock; end it, or use WAL mode"),
                Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                    error(Class::Stalled, why.to_string()).with_hint(
                        "give the path of the file itself, without symbolic links, and let the controller read it",
                    )
                }
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                    error(Class::Stalled, why.to_string()).with_hint("the file is damaged or no SQLite database")
                }
                _ => error(Class::Retry, why.to_string()),
            },
        }
    }
}
