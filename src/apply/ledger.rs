//! What this host remembers of what it has others make for a while, the machines of drills and previews: written before the first is
//! made, removed once all of them are. By it they are found again, whatever is declared by then, and by it the
//! [watchdog](super::watchdog) removes the machines.
//!
//! ```text
//! STATE_DIR/stand-ins/DRILL.json   which machines, of which revision
//! STATE_DIR/stand-ins/DRILL.lock   held by whoever makes or removes them
//! STATE_DIR/stand-ins/DRILL.log    what the watchdog said
//! STATE_DIR/previews/MARK.json     which machines are previewed, of which revision
//! STATE_DIR/previews/MARK.lock     held by whoever previews them, or removes what that left
//! ```

use std::{
    fmt::Display,
    fs::{self, File, OpenOptions},
    io,
    marker::PhantomData,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

use crate::{
    durable,
    inventory::PreviewMark,
    spec::names::{DrillName, FleetName, VmName},
};

/// Between two looks whether somebody else is done.
const PACE: Duration = Duration::from_millis(500);

/// What is remembered, each under its own name.
pub trait Remembered: Serialize + DeserializeOwned {
    /// By what it is told from others.
    type Name: Display + FromStr;
    /// What an entry says first.
    const FORMAT: &'static str;
    /// What it is, for people.
    const WHAT: &'static str;

    /// What it says first.
    fn format(&self) -> &str;
}

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
    /// What is previewed just now under this mark: all of them, before the first is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewMark>,
}

impl Remembered for Entry {
    type Name = DrillName;
    const FORMAT: &'static str = "backstay.stand-ins/1";
    const WHAT: &'static str = "the machines of drill";

    fn format(&self) -> &str {
        &self.format
    }
}

/// Machines that are previewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previewed {
    format: String,
    /// The fleet that declares them.
    pub fleet: FleetName,
    /// What is known by this mark.
    pub mark: PreviewMark,
    /// The commit that declares them.
    pub revision: String,
    /// The folder of the infra repo that is read.
    pub folder: String,
    /// The machines.
    pub vms: Vec<VmName>,
}

impl Remembered for Previewed {
    type Name = PreviewMark;
    const FORMAT: &'static str = "backstay.previews/1";
    const WHAT: &'static str = "what is previewed as";

    fn format(&self) -> &str {
        &self.format
    }
}

impl Previewed {
    /// The machines `vms`, as `revision` declares them in `folder`.
    pub fn new(
        fleet: FleetName,
        mark: PreviewMark,
        (revision, folder): (String, String),
        vms: Vec<VmName>,
    ) -> Self {
        Self { format: Self::FORMAT.to_owned(), fleet, mark, revision, folder, vms }
    }
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
        Self { format: Self::FORMAT.to_owned(), fleet, drill, revision, folder, vms, began, preview: None }
    }

    /// The same while they are previewed, or not any more.
    pub fn previewed_as(self, preview: Option<PreviewMark>) -> Self {
        Self { preview, ..self }
    }
}

/// All that this host remembers of one kind.
#[derive(Debug)]
pub struct Ledger<E = Entry> {
    folder: PathBuf,
    entries: PhantomData<fn() -> E>,
}

/// One entry, which nobody else has meanwhile. Given back when it is dropped, also by the death of the process.
#[derive(Debug)]
pub struct Held<E = Entry> {
    path: PathBuf,
    lock: File,
    entries: PhantomData<fn() -> E>,
}

impl<E> Drop for Held<E> {
    fn drop(&mut self) {
        // A program that is being started has the file as well, until it has replaced this one in its process.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl<E> Clone for Ledger<E> {
    fn clone(&self) -> Self {
        Self { folder: self.folder.clone(), entries: PhantomData }
    }
}

impl Ledger {
    /// Where the watchdog of a drill says what it does.
    pub fn log(&self, drill: &DrillName) -> PathBuf {
        self.folder.join(format!("{drill}.log"))
    }
}

impl<E: Remembered> Ledger<E> {
    /// The one in `folder`, which is made when it is first needed.
    pub fn of(folder: PathBuf) -> Self {
        Self { folder, entries: PhantomData }
    }

    /// An entry, whether there is one or not; `None` where somebody else has it.
    ///
    /// # Errors
    /// As the file system's.
    pub fn try_hold(&self, name: &E::Name) -> io::Result<Option<Held<E>>> {
        match fs::DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = self.folder.join(format!("{name}.lock"));
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let path = self.folder.join(format!("{name}.json"));
                Ok(Some(Held { path, lock, entries: PhantomData }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, for which it waits `patience` at most.
    ///
    /// # Errors
    /// As the file system's; and somebody who has it for longer.
    pub async fn hold(&self, name: &E::Name, patience: Duration) -> io::Result<Held<E>> {
        let deadline = Instant::now() + patience;
        loop {
            match self.try_hold(name)? {
                Some(held) => return Ok(held),
                None if Instant::now() >= deadline => {
                    let why = format!("another process makes or removes {} {name} just now", E::WHAT);
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
                }
                None => sleep(PACE).await,
            }
        }
    }

    /// What was left behind: entries that nobody has. What can't be read of them is told in the log, and looked at again.
    pub fn left(&self) -> Vec<E> {
        let names = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok());
        let left = names.filter_map(|name: E::Name| {
            self.unheld(&name).unwrap_or_else(|error| {
                tracing::warn!(%name, %error, "what is remembered of it can't be read: {} is not known", E::WHAT);
                None
            })
        });
        left.collect()
    }

    /// An entry; `None` where there is none, or somebody has it.
    fn unheld(&self, name: &E::Name) -> io::Result<Option<E>> {
        match self.try_hold(name)? {
            Some(held) => held.entry(),
            None => Ok(None),
        }
    }
}

impl<E: Remembered> Held<E> {
    /// What it says; `None` where nothing is left.
    ///
    /// # Errors
    /// One that can't be read: then it is not known what is left.
    pub fn entry(&self) -> io::Result<Option<E>> {
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text,
        };
        let odd = |why: String| {
            let path = self.path.display();
            io::Error::new(io::ErrorKind::InvalidData, format!("{path} tells of {}, and {why}", E::WHAT))
        };
        let entry: E = text
            .and_then(|text| Ok(serde_json::from_slice(&text)?))
            .map_err(|error| odd(format!("can't be read: {error}")))?;
        match entry.format() == E::FORMAT {
            true => Ok(Some(entry)),
            false => Err(odd(format!("is not of the format {}", E::FORMAT))),
        }
    }

    /// Writes it down, durably.
    ///
    /// # Errors
    /// As the file system's.
    pub fn write(&self, entry: &E) -> io::Result<()> {
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

    /// The same of a name that never comes again: nothing of it stays.
    ///
    /// # Errors
    /// As the file system's.
    pub fn forget(self) -> io::Result<()> {
        self.clear()?;
        fs::remove_file(self.path.with_extension("lock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_left_behind_once_nobody_has_it_and_is_gone_when_it_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let ledger: Ledger = Ledger::of(folder.path().join("stand-ins"));
        let drill: DrillName = "site".parse().unwrap();
        assert_eq!(ledger.left(), []);
        let held = ledger.try_hold(&drill).unwrap().unwrap();
        let (fleet, vms) = ("pavroto".parse().unwrap(), vec!["web".parse().unwrap()]);
        let declared = ("0f".to_owned(), "backup".to_owned());
        let entry = Entry::new(fleet, drill.clone(), declared, vms, Timestamp::UNIX_EPOCH);
        held.write(&entry).unwrap();
        assert_eq!((ledger.left(), held.entry().unwrap()), (Vec::new(), Some(entry.clone())), "it is in use");
        assert!(ledger.try_hold(&drill).unwrap().is_none());
        let why = ledger.hold(&drill, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        assert_eq!(ledger.left(), [entry]);
        let held = ledger.hold(&drill, Duration::ZERO).await.unwrap();
        held.clear().unwrap();
        held.clear().unwrap();
        assert_eq!(held.entry().unwrap(), None);
    }

    #[test]
    fn what_can_not_be_read_is_not_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ledger: Ledger = Ledger::of(folder.path().join("stand-ins"));
        let held = ledger.try_hold(&"site".parse().unwrap()).unwrap().unwrap();
        for odd in ["", "{}", "{\"format\": \"backstay.stand-ins/2\"}"] {
            fs::write(&held.path, odd).unwrap();
            held.entry().unwrap_err();
        }
    }

    #[test]
    fn a_preview_leaves_nothing_once_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let ledger: Ledger<Previewed> = Ledger::of(folder.path().join("previews"));
        let mark = PreviewMark::drawn(7);
        let held = ledger.try_hold(&mark).unwrap().unwrap();
        let declared = ("0f".to_owned(), String::new());
        let entry = Previewed::new("pavroto".parse().unwrap(), mark.clone(), declared, Vec::new());
        held.write(&entry).unwrap();
        assert_eq!(ledger.left(), [], "it goes on");
        drop(held);
        assert_eq!(ledger.left(), [entry]);
        ledger.try_hold(&mark).unwrap().unwrap().forget().unwrap();
        assert_eq!(ledger.left(), []);
        assert_eq!(fs::read_dir(folder.path().join("previews")).unwrap().count(), 0);
    }
}
