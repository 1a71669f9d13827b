//! A private folder for what an engine's programs read and write, which know no streams. It is removed with its owner; one
//! that a killed process left behind is removed by the next.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use crate::{
    process::{Process, ProcessError},
    scratch,
};

/// How often the growth of a folder is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How often a stage is made anew when another process takes it for one that was left behind.
const ATTEMPTS: u32 = 8;

/// A folder of mode 0700, empty at first.
#[derive(Debug)]
pub(super) struct Stage {
    folder: TempDir,
    /// Held as long as the stage is in use.
    _lock: File,
}

impl Stage {
    /// Makes one of the engine `of` in `place`.
    pub(super) fn new(place: &Path, of: &str) -> io::Result<Self> {
        let prefix = format!("{of}-stage-");
        sweep(place, &prefix)?;
        for _ in 0..ATTEMPTS {
            let folder = scratch::folder_in(place, &prefix)?;
            let lock = File::open(folder.path())?;
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            // Whoever swept between the making and the lock has removed it.
            if folder.path().exists() {
                return Ok(Self { folder, _lock: lock });
            }
        }
        Err(io::Error::other(format!("other processes remove new folders in {}", place.display())))
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes stages that nobody holds.
fn sweep(scratch: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(scratch)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(prefix) || !entry.file_type()?.is_dir() {
            continue;
        }
        let free = File::open(entry.path())
            .is_ok_and(|folder| flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok());
        if free {
            // Its owner may be removing it at this moment.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Waits for the success of a program that works into `folder`. It may be silent while it writes: what counts as silence is that it
/// neither says nor writes anything.
pub(super) async fn filled(mut process: Process, folder: &Path, stall: Duration) -> Result<(), ProcessError> {
    process.close_input();
    let (mut grown, mut since) = (0, Instant::now());
    loop {
        match timeout(LOOK.min(stall), process.read()).await {
            Ok(Ok(Some(_))) => since = Instant::now(),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
        let looked = folder.to_owned();
        let held = tokio::task::spawn_blocking(move || held(&looked)).await.unwrap_or(grown);
        if held != grown {
            (grown, since) = (held, Instant::now());
        } else if since.elapsed() >= stall {
            return Err(process.stalled(stall).await);
        }
    }
    match timeout(stall, process.end()).await {
        Ok(ended) => ended,
        Err(_) => Err(process.stalled(stall).await),
    }
}

/// How many bytes the files of a folder hold.
fn held(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|status| status.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_stage_is_private_and_only_one_that_nobody_holds_is_swept() {
        let scratch = tempfile::tempdir().unwrap();
        let left = scratch.path().join("influxdb-stage-left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("half"), "x").unwrap();
        fs::create_dir(scratch.path().join("other")).unwrap();
        let first = Stage::new(scratch.path(), "influxdb").unwrap();
        assert!(!left.exists());
        assert_eq!(fs::metadata(first.path()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(first.path().join("file"), "12345").unwrap();
        let second = Stage::new(scratch.path(), "influxdb").unwrap();
        assert!(first.path().join("file").exists() && scratch.path().join("other").exists());
        assert_eq!((held(first.path()), held(second.path())), (5, 0));
        drop((first, second));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }
}
