//! The folder of a reader: private, its own, and bounded.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// Makes the folder where it is missing, and keeps everybody else from reading into it as long as what this returns is kept.
pub(super) fn take(spool: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(spool)?;
    let lock = open_lock(spool)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// Whether somebody reads into it.
pub(super) fn is_taken(spool: &Path) -> bool {
    let Ok(lock) = open_lock(spool) else { return false };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            // What is not freed now is freed when the file is closed.
            let _ = flock(&lock, FlockOperation::Unlock);
            false
        }
        Err(_) => true,
    }
}

fn open_lock(spool: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(spool.join("lock"))
}

/// What is in it, bytes. What goes meanwhile does not count.
pub(super) fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        bytes += if found.is_dir() { size(&entry.path()).unwrap_or_default() } else { found.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_is_one_readers_at_a_time_and_nobody_elses() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("readers/orders");
        let lock = take(&spool).unwrap();
        assert_eq!(spool.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(take(&spool).is_err() && is_taken(&spool));
        drop(lock);
        assert!(!is_taken(&spool));
        fs::create_dir(spool.join("log-000001")).unwrap();
        fs::write(spool.join("log-000001/a"), [0; 100]).unwrap();
        fs::write(spool.join("b"), [0; 20]).unwrap();
        assert_eq!(size(&spool).unwrap(), 120);
    }
}
