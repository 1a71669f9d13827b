//! The folder of a sandbox. As long as its sandbox lives a lock on it is held, so that one that was left behind is told from
//! one in use.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, lchown},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::SandboxError;
use crate::scratch;

/// What the name of every sandbox begins with.
const PREFIX: &str = "drill-";
/// The file in a sandbox that its owner holds a lock of.
const LOCK: &str = "lock";
/// The file among the sandboxes that is locked while one is made or removed.
const GATE: &str = ".gate";
/// The longest path of a sandbox, bytes: the path of a socket in it must stay within 108.
const LONGEST: usize = 84;

/// The folder of a sandbox; removed when it is dropped.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    _lock: File,
}

impl Home {
    /// Makes a folder in `base`, which is made if it is missing, and removes those that nobody uses any more.
    ///
    /// # Errors
    /// [`SandboxError::CouldNotRun`], with the setting that helps.
    pub fn make(base: &Path) -> Result<Self, SandboxError> {
        let home = Self::try_make(base).map_err(|error| {
            SandboxError::cannot(format!("no sandbox can be made in {}: {error}; {HINT}", base.display()))
        })?;
        match home.path().as_os_str().len() {
            length if length > LONGEST => Err(SandboxError::cannot(format!(
                "the path of the sandbox {} is too long for a socket in it; {HINT}",
                home.path().display()
            ))),
            _ => Ok(home),
        }
    }

    fn try_make(base: &Path) -> io::Result<Self> {
        // Others may pass through to what is theirs, and see nothing.
        match DirBuilder::new().mode(0o711).create(base) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let gate = lock_file(&base.join(GATE))?;
        flock(&gate, FlockOperation::LockExclusive)?;
        remove_stale(base)?;
        let folder = scratch::folder_in(base, PREFIX)?;
        let lock = lock_file(&folder.path().join(LOCK))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self { folder, _lock: lock })
    }

    /// Makes another one where this one is.
    ///
    /// # Errors
    /// As [`Home::make`].
    pub(super) fn beside(&self) -> Result<Self, SandboxError> {
        Self::make(self.path().parent().unwrap_or_else(|| Path::new("/")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A place in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Gives it to another user, with all that is in it. Links are not followed.
    ///
    /// # Errors
    /// As the file system's.
    pub(super) fn give(&self, user: u32, group: u32) -> io::Result<()> {
        give(self.path(), user, group)
    }
}

/// What to do where there is no good place.
pub(super) const HINT: &str = "set drills.sandbox in the controller's configuration to another folder";

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Removes the sandboxes whose lock nobody holds.
fn remove_stale(base: &Path) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) || !entry.file_type()?.is_dir() {
            continue;
        }
        let held = match File::open(entry.path().join(LOCK)) {
            Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err(),
            Err(_) => false,
        };
        if !held {
            // What can't be removed now is tried again by the next one.
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(sandbox = %entry.path().display(), %error, "a sandbox was left behind, and can't be removed");
            }
        }
    }
    Ok(())
}

fn give(path: &Path, user: u32, group: u32) -> io::Result<()> {
    lchown(path, Some(user), Some(group))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user, group)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_behind_goes_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("boxes");
        let used = Home::make(&base).unwrap();
        let left = base.join("drill-left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let other = base.join("something-else");
        fs::create_dir(&other).unwrap();
        let second = Home::make(&base).unwrap();
        assert!(used.path().exists() && second.path().exists() && other.exists());
        assert!(!left.exists());
        let path = second.path().to_owned();
        drop(second);
        assert!(!path.exists());
    }
}
