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
};

use tokio_util::sync::CancellationToken;

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

const PREFIX: &str = "log-";

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
