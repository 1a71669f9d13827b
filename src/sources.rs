//! Sources: the protected data. One trait, one conformance suite.

mod aside;
pub mod atlas;
mod beneath;
mod blocking;
mod counting;
pub mod dynamodb;
mod entries;
pub mod etcd;
mod existing;
pub mod files;
pub mod git;
mod grouping;
pub mod influxdb;
pub mod influxdb2;
mod influxql;
pub mod mongodb;
pub mod mysql;
mod pax;
pub mod postgres;
mod provider;
pub mod rds;
pub mod redis;
pub mod s3;
pub mod selection;
mod spool;
pub mod sqlite;
mod stage;
mod two_clocks;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tokio::io::AsyncRead;

use crate::{
    artifact::{
        Kind,
        manifest::{Counting, Details, Edge, Moment, Rows},
        until::Until,
    },
    clock::Clock,
    diagnostic::Severity,
    inventory::KeptLog,
    spec::Part,
    stores::Class,
};
pub use entries::log_file;
pub use provider::{Kept, MadeNative, Provider};
use selection::Selection;
pub use spool::{ARCHIVE, Progress, Read, Reading, Witness, close_archive, open_archive};

/// Data that can be captured as one stream of bytes and restored from it.
///
/// What drivers must meet, and the conformance suite proves:
/// - [`Source::capture`] returns `Ok` only when the stream is whole and consistent and every producer proved its
///   success (exit status 0, closing marker seen). A producer that is killed, fails, is cut short or falls silent for
///   longer than [`CaptureRequest::stall`] is an error, and leaves no process behind.
/// - Nothing of the source is changed, and no secret leaves the driver: not in arguments, errors or details.
/// - Memory is bounded whatever the size of the data; nothing is staged on disk by its size.
/// - Dropping the future ends every process that it started.
#[async_trait]
pub trait Source: Send + Sync {
    /// Looks whether the source can be reached, and which version it is. Cheap.
    async fn probe(&self) -> Result<Probe, SourceError>;

    /// What the source lacks for captures of these kinds, beyond what lets [`Source::probe`] fail: privileges and settings, each
    /// with what gives exactly that. Changes nothing.
    async fn lacks(&self, _kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        Ok(Vec::new())
    }

    /// What hosts the source and keeps it by itself, where the driver knows how to ask that.
    fn provider(&self) -> Option<&dyn Provider> {
        None
    }

    /// Name of the stream when it is restored as a file, such as `agama.sql`.
    fn stream_name(&self) -> String;

    /// Captures the data into `sink`.
    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError>;

    /// What the server keeps of its log until that is captured; `None` where it keeps nothing for this source. Cheap.
    async fn kept_log(&self) -> Result<Option<KeptLog>, SourceError> {
        Ok(None)
    }

    /// Whether changes since `base` can be captured, and no more than them: it is this source's data that stood there, and
    /// what is there now came of it.
    async fn goes_on_from(&self, _base: &Edge) -> Result<GoesOn, SourceError> {
        Ok(GoesOn::No("it has no increments of its own".to_owned()))
    }

    /// Reads the log as the server writes it into the reading's spool, from where the spool ends, until it is told to stop. Whatever
    /// ends it before is an error. What it leaves behind proves itself: whoever takes it from there looks at all of it.
    async fn read_log(&self, _reading: &Reading<'_>) -> Result<Read, SourceError> {
        Err(SourceError::misplaced(&self.stream_name(), "nothing reads its log as it is written"))
    }

    /// Removes what a spool holds of the log up to `stored`, which every store of the backup has.
    async fn trim_spool(&self, _spool: &Path, _stored: &Edge) -> Result<(), SourceError> {
        Ok(())
    }

    /// Tells that every store of the backup has the log up to `stored`: the source may let go of it. Returns what it did, for
    /// people; empty where it did nothing.
    async fn log_is_stored(&self, _stored: &Edge) -> Result<String, SourceError> {
        Ok(String::new())
    }

    /// Restores a stream that [`Source::capture`] wrote. Refuses, before it changes anything, to overwrite what exists
    /// unless `place` is [`Place::Original`]. The stream fails where it is damaged: what was restored until then is
    /// reported as incomplete.
    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError>;

    /// Has restores over the original refuse, and change nothing, where it holds data by the time that they would begin to write:
    /// [`Source::holds`] is asked before the stream, which may take hours. A driver that puts in place only what it has read whole must
    /// do so; the others begin with the first bytes.
    fn refuse_to_replace(&mut self) {}

    /// Restores only what `selection` selects of a stream, as [`Source::restore`] does. Where it selects nothing that the
    /// stream holds, this fails and leaves nothing behind.
    async fn restore_selected(
        &self,
        _stream: &mut (dyn AsyncRead + Send + Unpin),
        _place: &Place,
        _selection: &Selection,
    ) -> Result<Restored, SourceError> {
        Err(SourceError::whole_only(&self.stream_name()))
    }

    /// The same server, of which only `part` is captured and restored; its probe fails where the part is not there.
    fn part(&self, _part: &Part) -> Result<Box<dyn Source>, SourceError> {
        Err(SourceError::whole_only(&self.stream_name()))
    }

    /// Refuses what a server of the version that `captured` tells held, where the original can't take that, or its logs: before anything
    /// of it is removed.
    async fn must_take(&self, _captured: Option<&str>) -> Result<(), SourceError> {
        Ok(())
    }

    /// Removes the original, before it is restored in place and logs are replayed over it: they tell how to make what did not
    /// exist yet when the data was captured, and fail where it does.
    async fn make_way(&self) -> Result<(), SourceError> {
        Err(SourceError::misplaced(&self.stream_name(), "it has no logs that could be replayed"))
    }

    /// Replays one log that [`Source::capture`] wrote over what was restored to `place`, or what was replayed there before. The
    /// first that is replayed may begin before the place in the log from which it goes on, and the last may end after the
    /// moment to return to: what lies outside is left out. The stream fails where it is damaged.
    async fn replay(
        &self,
        _stream: &mut (dyn AsyncRead + Send + Unpin),
        _place: &Place,
        _replay: &Replay,
    ) -> Result<Restored, SourceError> {
        Err(SourceError::misplaced(&self.stream_name(), "it has no logs that could be replayed"))
    }

    /// Where what is to be at `place` is put together: there, or beside it, from where [`Source::conclude`] puts it in place
    /// whole. Refuses, before anything is changed, what can't come about. What is beside it goes with the driver, unless it was
    /// put in place.
    async fn prepare(&self, place: &Place) -> Result<Place, SourceError> {
        Ok(place.clone())
    }

    /// Ends a restore that is told as `restored`: all of it, and the logs that `replay` tells of, is at `made`, which
    /// [`Source::prepare`] answered for `place`, and proved right. Until then nobody must take what is there for whole.
    async fn conclude(
        &self,
        _made: &Place,
        _place: &Place,
        _replay: Option<&Replay>,
        restored: Restored,
    ) -> Result<Restored, SourceError> {
        Ok(restored)
    }

    /// Whether the artifacts of a chain add up when they are restored to `place` one after another. Where they do not,
    /// they are restored to a folder aside, and [`Source::join`] makes one of them.
    fn adds_up(&self, _place: &Place) -> bool {
        true
    }

    /// Counts what was restored, as [`Source::capture`] counted it, and takes checksums of it where `what` says so and the source
    /// takes any. Asked of sandboxes and of stand-ins only.
    async fn count(&self, _what: Counting) -> Result<Rows, SourceError> {
        Ok(Rows::default())
    }

    /// Whether the original holds data that a restore over it would take the place of. A server or a database that is not there
    /// holds none.
    async fn holds(&self) -> Result<Holds, SourceError> {
        Ok(Holds::Untold)
    }

    /// The only value that the statement `sql`, in the engine's own language, gives, in `database` where the engine has several. Asked
    /// of sandboxes and of stand-ins only. `sql` is not trusted: in a sandbox of this host it reads what was restored, and nothing else;
    /// what it needs for that is added there. On a stand-in it may do what the declared user may: what runs there as root comes from the
    /// same commit.
    async fn ask(&self, _database: Option<&str>, _sql: &str) -> Result<String, SourceError> {
        Err(SourceError::misplaced(&self.stream_name(), "it is not asked in SQL"))
    }

    /// What the engine's own checks find in all that was restored, a check each; empty where it has none. Asked of sandboxes only,
    /// where it may add what it needs.
    async fn examine(&self) -> Vec<Examined> {
        Vec::new()
    }

    /// Makes `place` of a chain that was restored to `folder`. Refuses to overwrite what exists.
    async fn join(&self, _folder: &Path, _place: &Place) -> Result<Restored, SourceError> {
        Err(SourceError::misplaced(&self.stream_name(), "its artifacts add up where they are restored"))
    }
}

/// What the original of a source holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Nothing that anybody would miss.
    Nothing,
    /// Data: what was found first, such as `rows in agama.users`.
    Data(String),
    /// The driver does not tell.
    Untold,
}

/// What one of an engine's own checks found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The program or the statement, as people know it.
    pub by: &'static str,
    /// What it found.
    pub condition: Condition,
}

/// The condition that data is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is wrong with it; what was looked at.
    Sound(String),
    /// Each fault, at least one.
    Damaged(Vec<String>),
    /// It could not be looked at, or not at all of it, and why.
    Unknown(String),
}

/// What a capture is asked for.
#[derive(Clone, Debug)]
pub struct CaptureRequest<'a> {
    /// Full, incremental, differential or log.
    pub kind: Kind,
    /// The controller's clock. The moment of what is captured is read off it when it is read, not when it was asked for: a slow
    /// store lies between.
    pub clock: &'a dyn Clock,
    /// When the base artifact's capture began, if there is one.
    pub base_started: Option<Timestamp>,
    /// For logs: where the last artifact, data or log, ends; always there when `kind` is [`Kind::Log`]. For data: where the
    /// artifact stands since which changes are captured, and no more than them; `None` asks for all of it.
    pub continues: Option<Edge>,
    /// Silence of a producer that counts as a failure.
    pub stall: Duration,
    /// For logs: the folder in which a reader of this backup's log puts what it reads, whether there is one or not.
    pub spool: Option<PathBuf>,
}

impl CaptureRequest<'_> {
    /// Now, by the controller's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Where a capture's bytes go. Waits while the pipeline behind it is full.
#[async_trait]
pub trait Sink: Send {
    /// The next bytes of the stream.
    async fn write(&mut self, bytes: Bytes) -> Result<(), SinkClosed>;

    /// Starts a run: the bytes up to the next call belong together and begin a segment of their own. With a key that
    /// the base artifact holds as well, the run's segments are taken from there, and the caller must leave its bytes
    /// out. A key must change whenever the bytes may have changed; `None` is never reused.
    async fn run(&mut self, key: Option<RunKey>) -> Result<Run, SinkClosed>;
}

/// What a run's bytes depend on (names, sizes, times, inodes), hashed. Never stored as it is, only keyed.
pub type RunKey = [u8; 32];

/// Whether a run's bytes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Write them.
    Wanted,
    /// The base has them; leave them out.
    Reused,
}

/// The pipeline behind a [`Sink`] has failed; its own error tells why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is no longer read")]
pub struct SinkClosed;

/// What a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The engine and its version, for people.
    pub version: String,
}

/// Something that a source lacks for what its policy asks of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lack {
    /// An error where captures fail for the lack of it; a warning where they tell less, or may fail one day.
    pub severity: Severity,
    /// What is missing, and what for.
    pub what: String,
    /// The statement or setting that gives it, and no more.
    pub remedy: String,
}

impl Lack {
    /// Something without which captures fail.
    fn error(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Error, what: what.into(), remedy: remedy.into() }
    }

    /// Something without which captures tell less, or may fail one day.
    fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, what: what.into(), remedy: remedy.into() }
    }
}

/// Whether what is there now came of what a base holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoesOn {
    /// It did.
    Yes,
    /// It did not, or nobody can tell, and why.
    No(String),
}

/// What a whole stream represents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The time of the data.
    pub moment: Moment,
    /// What the source says of it; stored encrypted.
    pub details: Details,
}

/// Where a restore goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder that does not exist yet, or is empty.
    Folder(PathBuf),
    /// A file that does not exist yet: the stream as it is.
    File(PathBuf),
    /// A database that does not exist yet, on the source's own server.
    Database(String),
    /// A bucket that exists, on the source's own server; objects that differ from what is restored are left alone.
    Bucket {
        /// Its name.
        bucket: String,
        /// A folder in it; may be empty.
        prefix: String,
    },
    /// Over the original.
    Original,
}

/// What is replayed of logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Where in the engine's log the restored data stands.
    pub from: String,
    /// Where it ends; everything where it is `None`.
    pub until: Option<Until>,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where the data is now, for people.
    pub place: String,
}

/// A failed call to a source.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to {operation} {subject}: {reason}{}", hint.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
pub struct SourceError {
    /// What was tried, such as `dump`.
    pub operation: &'static str,
    /// On what, such as `database agama on pavroto-2`; never a secret.
    pub subject: String,
    /// What happens next.
    pub class: Class,
    /// Why, redacted.
    pub reason: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl SourceError {
    /// A failure of `operation` on `subject`; `reason` holds no secret.
    pub fn new(
        operation: &'static str,
        subject: impl Into<String>,
        class: Class,
        reason: impl ToString,
    ) -> Self {
        Self { operation, subject: subject.into(), class, reason: reason.to_string(), hint: None }
    }

    /// Says what to do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with a further hint behind the one that it has.
    fn and_hint(self, hint: impl Into<String>) -> Self {
        let hint = match &self.hint {
            Some(first) => format!("{first}; {}", hint.into()),
            None => hint.into(),
        };
        self.with_hint(hint)
    }

    /// A capture that something outside its driver ended.
    fn interrupted(subject: &str, why: blocking::Interrupted) -> Self {
        let reason = match why {
            blocking::Interrupted::SinkClosed => SinkClosed.to_string(),
            blocking::Interrupted::Stalled(silence) => {
                format!("it was silent for {}", humantime::format_duration(silence))
            }
            blocking::Interrupted::Died(error) => error.to_string(),
        };
        Self::new("capture", subject, Class::Retry, reason)
    }

    /// A kind of artifact that the source can't give.
    fn unsupported(subject: &str, kind: Kind) -> Self {
        Self::new("capture", subject, Class::Stalled, format!("this source has no {kind} artifacts"))
            .with_hint(format!("ask for another kind, or remove the {kind} schedule from its policy"))
    }

    /// A part of a stream that comes back as a whole only.
    fn whole_only(subject: &str) -> Self {
        Self::misplaced(subject, "no part of it can be restored by itself").with_hint("leave out `--path`")
    }

    /// A place that the source can't be restored to.
    fn misplaced(subject: &str, reason: impl ToString) -> Self {
        Self::new("restore", subject, Class::Stalled, reason)
    }
}
