//! What this host remembers of the machines that drills make: written before the first is made, removed once all of them are. By it they
//! are found again, whatever is declared by then, and by it the [watchdog](super::watchdog) removes them.
//!
//! ```text
//! STATE_DIR/stand-ins/DRILL.json   which machines, of which revision
//! STATE_DIR/stand-ins/DRILL.lock   held by whoever makes or removes them
//! STATE_DIR/stand-ins/DRILL.log    what the watchdog said
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{
    durable,
    inventory::LeftBehind,
    spec::names::{DrillName, FleetName, VmName},
};

/// What an entry says first.
const FORMAT: &str = "backstay.stand-ins/1";

/// Between two looks whether somebody else is done.
const PACE: Duration = Duration::from_millis(500);

/// The machines of one drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    format: String,
    /// The fleet that declares it.
    pub fleet: FleetName,
    /// The drill.
    pub drill: DrillName,
    /// The commit that declares it.
    pub revision: String,
    /// The folder of the infra repo that is read.
    pub folder: String,
    /// The machines, by the names of the declared ones.
    pub vms: Vec<VmName>,
    /// When it began.
    pub began: Timestamp,
}

impl Entry {
    /// The machines `vms` of `drill`, as `revision` declares them in `folder`.
    pub fn new(
        fleet: FleetName,
        drill: DrillName,
        (revision, folder): (String, String),
        vms: Vec<VmName>,
        began: Timestamp,
    ) -> Self {
        Self { format: FORMAT.to_owned(), fleet, drill, revision, folder, vms, began }
    }
}

/// All that this host remembers of drills.
#[derive(Clone, Debug)]
pub struct Ledger {
    folder: PathBuf,
}

/// The entry of one drill, which nobody else has meanwhile. Given back when it is dropped, also by the death of the process.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    lock: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // A program that is being started has the file as well, until it has replaced this one in its process.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl Ledger {
    /// The one in `folder`, which is made when it is first needed.
    pub fn of(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where the watchdog of a drill says what it does.
    pub fn log(&self, drill: &DrillName) -> PathBuf {
        self.folder.join(format!("{drill}.log"))
    }

    /// A drill's entry, whether there is one or not; `None` where somebody else has it.
    ///
    /// # Errors
    /// As the file system's.
    pub fn try_hold(&self, drill: &DrillName) -> io::Result<Option<Held>> {
        match fs::DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = self.folder.join(format!("{drill}.lock"));
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Held { path: self.folder.join(format!("{drill}.json")), lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, for which it waits `patience` at most.
    ///
    /// # Errors
    /// As the file system's; and somebody who has it for longer.
    pub async fn hold(&self, drill: &DrillName, patience: Duration) -> io::Result<Held> {
        let deadline = Instant::now() + patience;
        loop {
            match self.try_hold(drill)? {
                Some(held) => return Ok(held),
                None if Instant::now() >= deadline => {
                    let why =
                        format!("another process makes or removes the machines of drill {drill} just now");
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
                }
                None => sleep(PACE).await,
            }
        }
    }

    /// What was left behind: entries that nobody has. What can't be read of them is told in the log, and looked at again.
    pub fn left(&self) -> Vec<LeftBehind> {
        let names = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok());
        let left = names.filter_map(|drill: DrillName| match self.unheld(&drill) {
            Ok(None) => None,
            Ok(Some(entry)) => {
                Some(LeftBehind { drill: entry.drill, revision: entry.revision, vms: entry.vms })
            }
            Err(error) => {
                tracing::warn!(%drill, %error, "what is known of its machines can't be read");
                None
            }
        });
        left.collect()
    }

    /// A drill's entry; `None` where there is none, or somebody has it.
    fn unheld(&self, drill: &DrillName) -> io::Result<Option<Entry>> {
        match self.try_hold(drill)? {
            Some(held) => held.entry(),
            None => Ok(None),
        }
    }
}

impl Held {
    /// What it says; `None` where nothing is left.
    ///
    /// # Errors
    /// One that can't be read: then it is not known what is left.
    pub fn entry(&self) -> io::Result<Option<Entry>> {
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text,
        };
        let odd = |why: String| {
            let path = self.path.display();
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path} tells of machines of a drill, and {why}"),
            )
        };
        let entry: Entry = text
            .and_then(|text| Ok(serde_json::from_slice(&text)?))
            .map_err(|error| odd(format!("can't be read: {error}")))?;
        match entry.format == FORMAT {
            true => Ok(Some(entry)),
            false => Err(odd(format!("is not of the format {FORMAT}"))),
        }
    }

    /// Writes it down, durably.
    ///
    /// # Errors
    /// As the file system's.
    pub fn write(&self, entry: &Entry) -> io::Result<()> {
        durable::write_json(&self.path, entry)
    }

    /// Removes it: nothing is left.
    ///
    /// # Errors
    /// As the file system's.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_left_behind_once_nobody_has_it_and_is_gone_when_it_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::of(folder.path().join("stand-ins"));
        let drill: DrillName = "site".parse().unwrap();
        assert_eq!(ledger.left(), []);
        let held = ledger.try_hold(&drill).unwrap().unwrap();
        let (fleet, vms) = ("pavroto".parse().unwrap(), vec!["web".parse().unwrap()]);
        let declared = ("0f".to_owned(), "backup".to_owned());
        let entry = Entry::new(fleet, drill.clone(), declared, vms.clone(), Timestamp::UNIX_EPOCH);
        held.write(&entry).unwrap();
        assert_eq!((ledger.left(), held.entry().unwrap()), (Vec::new(), Some(entry)), "it is in use");
        assert!(ledger.try_hold(&drill).unwrap().is_none());
        let why = ledger.hold(&drill, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        let left = LeftBehind { drill: drill.clone(), revision: "0f".to_owned(), vms };
        assert_eq!(ledger.left(), [left]);
        let held = ledger.hold(&drill, Duration::ZERO).await.unwrap();
        held.clear().unwrap();
        held.clear().unwrap();
        assert_eq!(held.entry().unwrap(), None);
    }

    #[test]
    fn what_can_not_be_read_is_not_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::of(folder.path().join("stand-ins"));
        let held = ledger.try_hold(&"site".parse().unwrap()).unwrap().unwrap();
        for odd in ["", "{}", "{\"format\": \"backstay.stand-ins/2\"}"] {
            fs::write(&held.path, odd).unwrap();
            held.entry().unwrap_err();
        }
    }
}
