//! What readers put of logs on this host: a private folder for each backup, in it one for each stretch of log that goes on
//! without a gap, as far as its reader can tell. A cache: what is lost of it is pulled from the server, or was never there.
//!
//! ```text
//! SPOOL/log-000001/…    what an earlier reader left
//! SPOOL/log-000002/…    what is read now, in the engine's own files
//! ```

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::process::{Process, ProcessError};

/// What a reader of a log is asked for.
pub struct Reading<'a> {
    /// The private folder that it writes to; nobody else writes there.
    pub spool: &'a Path,
    /// When it is to end.
    pub stop: &'a CancellationToken,
    /// Hears how it gets on.
    pub witness: &'a dyn Witness,
}

/// How a reading ended with which nothing went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// It was told to.
    Stopped,
    /// The server's log is none that can be read as it is written, and why; it is captured at its slots only.
    NotReadable(String),
}

/// Hears how a reader gets on.
pub trait Witness: Send + Sync {
    /// How far the spool was when the server was asked last.
    fn saw(&self, progress: Progress);
}

/// How far a spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has all that the server had when it was asked.
    Complete,
    /// Something is still to come.
    Behind,
}

/// How long after its start a reader is looked after first, and how often then.
const FIRST: Duration = Duration::from_secs(1);
const CHECK: Duration = Duration::from_secs(15);

/// How often it is looked whether what the server just had has come, and how long in between.
const LOOKS: usize = 10;
const PAUSE: Duration = Duration::from_millis(200);

/// What an engine knows of its reader: a program that waits on a dead connection says nothing.
#[async_trait]
pub(super) trait Watched: Send + Sync {
    /// A place in the engine's log.
    type Place: PartialOrd + Copy + Send + Sync;
    /// What can go wrong.
    type Failure: From<ProcessError> + Send;

    /// Up to where the server has its log.
    async fn server(&self) -> Result<Self::Place, Self::Failure>;
    /// Up to where the spool has it.
    async fn spool(&self) -> Result<Option<Self::Place>, Self::Failure>;
    /// What it means that the reader did what `told` says.
    fn fails(&self, told: String) -> Self::Failure;
}

/// Looks after a reader until it is told to stop, or fails.
pub(super) async fn attend<W: Watched>(
    mut program: Process,
    watched: W,
    reading: &Reading<'_>,
) -> Result<Read, W::Failure> {
    let (mut before, mut next) = (None, FIRST);
    loop {
        tokio::select! {
            biased;
            () = reading.stop.cancelled() => {
                program.stop().await;
                return Ok(Read::Stopped);
            }
            ended = program.end() => {
                ended?;
                return Err(watched.fails("the program that reads the log ended by itself".to_owned()));
            }
            () = sleep(next) => {}
        }
        let looked = tokio::select! {
            () = reading.stop.cancelled() => continue,
            looked = look(&watched, &mut before) => looked,
        };
        match looked {
            Ok(progress) => reading.witness.saw(progress),
            Err(failure) => {
                program.stop().await;
                return Err(failure);
            }
        }
        next = CHECK;
    }
}

/// Whether a reader keeps up. `before` is what the server and the spool had at the last look, if something was still to come.
async fn look<W: Watched>(
    watched: &W,
    before: &mut Option<(W::Place, Option<W::Place>)>,
) -> Result<Progress, W::Failure> {
    let server = watched.server().await?;
    let mut has = None;
    for _ in 0..LOOKS {
        has = watched.spool().await?;
        if has.is_some_and(|has| has >= server) {
            *before = None;
            return Ok(Progress::Complete);
        }
        sleep(PAUSE).await;
    }
    if let Some((was, had)) = before.replace((server, has))
        && had == has
        && has.is_none_or(|has| has < was)
    {
        let told = "the program that reads the log has received nothing since the last look, where the server has more";
        return Err(watched.fails(told.to_owned()));
    }
    Ok(Progress::Behind)
}

const PREFIX: &str = "log-";

/// The folder, in a spool, in which a server's own `archive_command` puts its log.
pub const ARCHIVE: &str = "archive";

/// Makes an archive in a spool where there is none.
///
/// # Errors
/// As the file system's.
pub fn open_archive(spool: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(spool.join(ARCHIVE))
}

/// Takes an archive out of use: what is in it stays of use, and nothing is added to it.
///
/// # Errors
/// As the file system's.
pub fn close_archive(spool: &Path) -> io::Result<()> {
    let archive = spool.join(ARCHIVE);
    match archive.is_dir() {
        // An empty folder gives way.
        true => fs::rename(archive, begin(spool)?),
        false => Ok(()),
    }
}

/// The stretches of a spool, the newest first.
pub(super) fn stretches(spool: &Path) -> io::Result<Vec<PathBuf>> {
    let found = match fs::read_dir(spool) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut numbers = Vec::new();
    for entry in found {
        numbers.extend(entry?.file_name().to_str().and_then(number));
    }
    numbers.sort_unstable();
    Ok(numbers.into_iter().rev().map(|number| spool.join(name(number))).collect())
}

/// Begins a new stretch.
pub(super) fn begin(spool: &Path) -> io::Result<PathBuf> {
    let newest = stretches(spool)?.first().and_then(|path| number(path.file_name()?.to_str()?));
    let path = spool.join(name(newest.unwrap_or(0).saturating_add(1)));
    fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

fn name(number: u32) -> String {
    format!("{PREFIX}{number:06}")
}

fn number(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stretch_comes_first_and_nothing_else_is_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(stretches(&folder.path().join("missing")).unwrap().is_empty());
        let made: Vec<PathBuf> = (0..3).map(|_| begin(folder.path()).unwrap()).collect();
        fs::write(folder.path().join("state.json"), "{}").unwrap();
        assert_eq!(stretches(folder.path()).unwrap(), made.iter().rev().cloned().collect::<Vec<_>>());
        fs::remove_dir(&made[0]).unwrap();
        assert_eq!(begin(folder.path()).unwrap(), folder.path().join("log-000004"));
    }
}
