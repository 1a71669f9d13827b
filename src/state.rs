//! The state directory: locks, the last good revision, and caches. Nothing in it is the only copy of anything: it may be
//! deleted at any time, and the next pass comes to the same inventory from the infra repo and the stores.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::{durable, inventory::Made, scratch, status::Contact};

/// A controller's state directory, private to its user.
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
}

/// A failed use of the state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process changes something.
    #[error(
        "failed to lock {path}: {} changes something just now; wait for it to end, or ask it",
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// Who holds it, where it said so.
        holder: Option<u32>,
    },
    /// Another controller runs on the same state directory.
    #[error(
        "failed to start a controller on {root}: {} runs one there already; end it first, or give this one a state_dir of its own",
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Running {
        /// The state directory.
        root: PathBuf,
        /// Who runs it, where it said so.
        holder: Option<u32>,
    },
    /// The file system said no.
    #[error("failed to {operation} {path}: {source}; check state_dir and the rights of this user")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Leave to change something; given back when dropped, also by the death of the process.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A program that is being started holds the file as well, until it has replaced this one in its process: closing it
        // here would not free it. What is not freed now is freed at the end of that.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Whose pass was the last one on a state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// The same controller's.
    Ours,
    /// Another process's, or nobody knows.
    Anothers,
}

/// The revision that is in force: the newest one that parsed and was trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InForce {
    /// The branch that it was read from.
    pub branch: String,
    /// The commit.
    pub revision: String,
}

impl StateDir {
    /// Opens the directory, and makes it, private, where it is missing.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StateError> {
        let root = root.into();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)
            .map_err(|source| io_error("create", &root, source))?;
        Ok(Self { root })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The mirror of the infra repo.
    pub fn mirror(&self) -> PathBuf {
        self.root.join("mirror.git")
    }

    /// The journal of intents and outcomes.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The controller's own timetable.
    pub fn timetable(&self) -> PathBuf {
        self.root.join("timetable")
    }

    /// What readers of logs have read ahead, a folder for each backup.
    pub fn readers(&self) -> PathBuf {
        Self::readers_in(&self.root)
    }

    /// What is remembered of previews.
    pub fn previews(&self) -> PathBuf {
        self.root.join("previews")
    }

    /// What is remembered of the machines that drills make.
    pub fn stand_ins(&self) -> PathBuf {
        self.root.join("stand-ins")
    }

    /// The same, of a state directory that is not to be made where it is missing.
    pub fn readers_in(root: &Path) -> PathBuf {
        root.join("readers")
    }

    /// Where a running controller takes requests.
    pub fn socket(&self) -> PathBuf {
        Self::socket_in(&self.root)
    }

    /// The same, of a state directory that is not to be made where it is missing.
    pub fn socket_in(root: &Path) -> PathBuf {
        root.join("controller.sock")
    }

    /// Leave to change something, held for one pass. Never waits.
    pub fn lock(&self) -> Result<Lock, StateError> {
        let path = self.root.join("lock");
        self.try_lock(&path)?.map_err(|holder| StateError::Busy { path, holder })
    }

    /// Waits until nobody holds that leave; somebody else may take it again before the caller does.
    pub fn wait_until_free(&self) -> Result<(), StateError> {
        let path = self.root.join("lock");
        let waited = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|file| {
                flock(&file, FlockOperation::LockExclusive)?;
                Ok(flock(&file, FlockOperation::Unlock)?)
            });
        waited.map_err(|source| io_error("wait for", &path, source))
    }

    /// Leave to be the one controller that runs on this directory, held while it runs. Never waits.
    pub fn lock_controller(&self) -> Result<Lock, StateError> {
        let path = self.root.join("controller.lock");
        self.try_lock(&path)?.map_err(|holder| StateError::Running { root: self.root.clone(), holder })
    }

    /// A private folder for the time of one piece of work.
    pub fn scratch(&self) -> Result<tempfile::TempDir, StateError> {
        scratch::folder_in(&self.root, "work-")
            .map_err(|source| io_error("create a folder in", &self.root, source))
    }

    /// Whether some process changes something just now.
    pub fn is_busy(&self) -> bool {
        matches!(self.lock(), Err(StateError::Busy { .. }))
    }

    /// Marks the beginning of a pass that changes something, and tells whether the one before it was `own`: whatever
    /// another process did, this one has not seen. Called under [`StateDir::lock`].
    pub fn begin_pass(&self, own: Option<u64>) -> Result<(u64, Before), StateError> {
        let (path, before) = (self.root.join("last-pass.json"), self.last_pass());
        let mark: u64 = rand::random();
        durable::write_json(&path, &mark).map_err(|source| io_error("write", &path, source))?;
        let ours = own.is_some() && before == own;
        Ok((mark, if ours { Before::Ours } else { Before::Anothers }))
    }

    /// The mark of the last pass that changed something.
    pub fn last_pass(&self) -> Option<u64> {
        durable::read_json(&self.root.join("last-pass.json"))
    }

    fn try_lock(&self, path: &Path) -> Result<Result<Lock, Option<u32>>, StateError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| io_error("open", path, source))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                sign(&mut file).map_err(|source| io_error("write", path, source))?;
                Ok(Ok(Lock { file }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Err(signed_by(&mut file))),
            Err(errno) => Err(io_error("lock", path, errno.into())),
        }
    }

    /// The contact with the infra repo, as it was when it last began or ended; unknown when it can't be read.
    pub fn contact(&self) -> Contact {
        durable::read_json(&self.root.join("contact.json")).unwrap_or_default()
    }

    /// Remembers the contact with the infra repo.
    pub fn set_contact(&self, now: &Contact) -> Result<(), StateError> {
        let path = self.root.join("contact.json");
        durable::write_json(&path, now).map_err(|source| io_error("write", &path, source))
    }

    /// What Backstay made, as far as this directory remembers.
    pub fn made(&self) -> Made {
        durable::read_json(&self.root.join("made.json")).unwrap_or_default()
    }

    /// Remembers what Backstay made.
    pub fn set_made(&self, made: &Made) -> Result<(), StateError> {
        let path = self.root.join("made.json");
        durable::write_json(&path, made).map_err(|source| io_error("write", &path, source))
    }

    /// The revision in force, as far as this directory knows. What cannot be read counts as not known: the stores' own
    /// records know it as well.
    pub fn in_force(&self) -> Option<InForce> {
        durable::read_json(&self.root.join("in-force.json"))
    }

    /// Which approval was the last one on this host: another number, and the stores' records are to be asked.
    pub fn approval(&self) -> Option<u64> {
        durable::read_json(&self.root.join("approval.json"))
    }

    /// Notes that there is a new approval in the stores' records.
    pub fn note_approval(&self) -> Result<(), StateError> {
        let path = self.root.join("approval.json");
        durable::write_json(&path, &rand::random::<u64>()).map_err(|source| io_error("write", &path, source))
    }

    /// Remembers the revision in force.
    pub fn set_in_force(&self, now: &InForce) -> Result<(), StateError> {
        let path = self.root.join("in-force.json");
        durable::write_json(&path, now).map_err(|source| io_error("write", &path, source))
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

fn signed_by(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> StateError {
    StateError::Io { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_names_the_process_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("state")).unwrap();
        let first = state.lock().unwrap();
        let error = state.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(state.is_busy());
        drop(first);
        assert!(state.lock().is_ok());
    }

    #[test]
    fn a_pass_of_another_process_in_between_shows() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let (first, before) = state.begin_pass(None).unwrap();
        assert_eq!(before, Before::Anothers);
        let (second, before) = state.begin_pass(Some(first)).unwrap();
        assert_eq!(before, Before::Ours);
        state.begin_pass(None).unwrap();
        assert_eq!(state.begin_pass(Some(second)).unwrap().1, Before::Anothers);
    }

    #[test]
    fn the_controllers_lock_does_not_stand_in_the_way_of_a_pass() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let _running = state.lock_controller().unwrap();
        assert!(matches!(state.lock_controller(), Err(StateError::Running { holder: Some(_), .. })));
        assert!(state.lock().is_ok());
    }

    #[test]
    fn the_directory_is_private_and_the_revision_in_force_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("state")).unwrap();
        assert_eq!(fs::metadata(state.root()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(state.in_force(), None);
        let now = InForce { branch: "main".into(), revision: "3b1e".into() };
        state.set_in_force(&now).unwrap();
        assert_eq!(state.in_force(), Some(now));
        fs::write(state.root().join("in-force.json"), "torn {").unwrap();
        assert_eq!(state.in_force(), None);
    }
}
