//! The journal: what is about to be done, written before it is, and what became of it. JSON lines in the state
//! directory, each durable before the effect that it announces if that could leave something behind.
//!
//! ```text
//! {"began":{"attempt":12,"at":"…","what":"capture full of agama into vault","writes":{…}}}
//! {"ended":{"attempt":12,"how":"done"}}
//! ```
//!
//! An attempt that began and never ended was cut off: by `kill -9`, by the loss of power, or by a clean-up that did not
//! go through. The next pass finds what it may have left behind in [`Journal::interrupted`]. A torn last line is what a
//! crash in the middle of a write leaves: it announces nothing that was begun, and is cut off.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    artifact::ArtifactId,
    durable,
    inventory::Interrupted,
    spec::names::{FolderName, StoreName},
};

/// A journal longer than this is rewritten without what has ended.
const COMPACT_FROM: u64 = 256 << 10;

/// What is about to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// When, by the controller's clock.
    pub at: Timestamp,
    /// What, for people.
    pub what: String,
    /// What would be left behind if it were cut off; `None` when that is nothing.
    pub writes: Option<Interrupted>,
}

/// How an attempt ended. Whatever it wrote is either committed or cleaned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The effect is there.
    Done,
    /// It is not, and nothing is left of it.
    Undone,
}

/// The number of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(u64);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Line {
    Began { attempt: Attempt, intent: Intent },
    Ended { attempt: Attempt, how: Ended },
}

impl Line {
    /// Whether it must survive the loss of power: without it nobody would know of what was left behind.
    fn must_last(&self) -> bool {
        matches!(self, Line::Began { intent: Intent { writes: Some(_), .. }, .. })
    }
}

/// A failed write or read of the journal. Nothing is begun without it.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} the journal {path}: {source}; check state_dir and the space on its disk")]
pub struct JournalError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The journal, open for writing. Only who holds the state directory's lock may have one.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    next: u64,
    open: BTreeMap<Attempt, Intent>,
    /// Those of the open attempts that go on.
    under_way: BTreeSet<Attempt>,
}

impl Journal {
    /// Opens the journal, cuts off a torn last line, and drops what has ended once there is much of it.
    pub fn open(path: PathBuf) -> Result<Self, JournalError> {
        let fail = |operation, source| JournalError { operation, path: path.clone(), source };
        let read = read(&path).map_err(|e| fail("read", e))?;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| fail("open", e))?;
        file.set_len(read.whole).and_then(|()| file.sync_all()).map_err(|e| fail("repair", e))?;
        let mut journal = Self {
            path,
            file,
            length: read.whole,
            next: read.next,
            open: read.open,
            under_way: BTreeSet::new(),
        };
        if journal.length > COMPACT_FROM {
            journal.compact().map_err(|e| journal.error("compact", e))?;
        }
        Ok(journal)
    }

    /// What was begun and never ended, oldest first, as it stands in `path`; for those who only look.
    pub fn peek(path: &Path) -> Result<Vec<Interrupted>, JournalError> {
        let read =
            read(path).map_err(|source| JournalError { operation: "read", path: path.to_owned(), source })?;
        Ok(read.open.into_values().filter_map(|intent| intent.writes).collect())
    }

    /// What was begun, never ended and does not go on, oldest first.
    pub fn interrupted(&self) -> Vec<Interrupted> {
        let left = self.open.iter().filter(|(attempt, _)| !self.under_way.contains(attempt));
        left.filter_map(|(_, intent)| intent.writes.clone()).collect()
    }

    /// What is being written just now.
    pub fn under_way(&self) -> Vec<Interrupted> {
        self.under_way.iter().filter_map(|attempt| self.open.get(attempt)?.writes.clone()).collect()
    }

    /// An attempt does not go on, however it ended.
    pub fn leave(&mut self, attempt: Attempt) {
        self.under_way.remove(&attempt);
    }

    /// Announces an effect. Once this returns, the effect may begin: an intent that [writes](Intent::writes) survives the
    /// loss of power.
    pub fn begin(&mut self, intent: Intent) -> Result<Attempt, JournalError> {
        let attempt = Attempt(self.next);
        self.append(&Line::Began { attempt, intent: intent.clone() })?;
        self.next += 1;
        self.open.insert(attempt, intent);
        self.under_way.insert(attempt);
        Ok(attempt)
    }

    /// Tells how an attempt ended. Should the power fail before that is on the disk, the next pass finds out by itself.
    pub fn end(&mut self, attempt: Attempt, how: Ended) -> Result<(), JournalError> {
        self.append(&Line::Ended { attempt, how })?;
        self.open.remove(&attempt);
        Ok(())
    }

    /// Closes every attempt that wrote under this name: it was found committed, or was cleaned up.
    pub fn settle(
        &mut self,
        backup: &FolderName,
        store: &StoreName,
        artifact: ArtifactId,
        how: Ended,
    ) -> Result<(), JournalError> {
        let settled: Vec<Attempt> = self
            .open
            .iter()
            .filter(|(_, intent)| intent.writes.as_ref().is_some_and(|w| w.is(backup, store, artifact)))
            .map(|(attempt, _)| *attempt)
            .collect();
        settled.into_iter().try_for_each(|attempt| self.end(attempt, how))
    }

    /// Closes what was cut off and can have left nothing behind.
    pub fn settle_harmless(&mut self) -> Result<(), JournalError> {
        let harmless: Vec<Attempt> =
            self.open.iter().filter(|(_, intent)| intent.writes.is_none()).map(|(a, _)| *a).collect();
        harmless.into_iter().try_for_each(|attempt| self.end(attempt, Ended::Undone))
    }

    fn append(&mut self, line: &Line) -> Result<(), JournalError> {
        let mut bytes = serde_json::to_vec(line).map_err(|e| self.error("write", e.into()))?;
        bytes.push(b'\n');
        let written = self.file.write_all(&bytes).and_then(|()| match line.must_last() {
            true => self.file.sync_data(),
            false => Ok(()),
        });
        if let Err(source) = written {
            // A part of the line may stand there; the next line must not be glued to it.
            let _ = self.file.set_len(self.length);
            return Err(self.error("write", source));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn compact(&mut self) -> io::Result<()> {
        let mut kept = Vec::new();
        for (attempt, intent) in &self.open {
            serde_json::to_writer(&mut kept, &Line::Began { attempt: *attempt, intent: intent.clone() })?;
            kept.push(b'\n');
        }
        durable::replace(&self.path, &kept)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.length = kept.len() as u64;
        Ok(())
    }

    fn error(&self, operation: &'static str, source: io::Error) -> JournalError {
        JournalError { operation, path: self.path.clone(), source }
    }
}

/// What a journal's file says.
struct Read {
    open: BTreeMap<Attempt, Intent>,
    next: u64,
    /// Bytes up to the end of the last whole line.
    whole: u64,
}

fn read(path: &Path) -> io::Result<Read> {
    let mut read = Read { open: BTreeMap::new(), next: 0, whole: 0 };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(read),
        Err(e) => return Err(e),
    };
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        lines.by_ref().take(1 << 20).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(read);
        }
        read.whole += line.len() as u64;
        read.take(&line);
    }
}

impl Read {
    /// A line that is none of ours was damaged by the disk: what it announced, if anything, is found by a sweep.
    fn take(&mut self, line: &[u8]) {
        let attempt = match serde_json::from_slice(line) {
            Ok(Line::Began { attempt, intent }) => {
                self.open.insert(attempt, intent);
                attempt
            }
            Ok(Line::Ended { attempt, .. }) => {
                self.open.remove(&attempt);
                attempt
            }
            Err(_) => return,
        };
        self.next = self.next.max(attempt.0.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{artifact::ArtifactId, inventory::Work};

    fn intent(n: u64) -> Intent {
        Intent {
            at: Timestamp::UNIX_EPOCH,
            what: format!("capture {n}"),
            writes: Some(Interrupted {
                copy: None,
                work: Work::Capture,
                backup: "agama".parse().unwrap(),
                store: "vault".parse().unwrap(),
                artifact: ArtifactId::new(Timestamp::UNIX_EPOCH, n),
            }),
        }
    }

    #[test]
    fn what_began_and_never_ended_is_interrupted_until_it_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(path.clone()).unwrap();
        let first = journal.begin(intent(1)).unwrap();
        journal.begin(intent(2)).unwrap();
        journal.end(first, Ended::Done).unwrap();
        drop(journal);

        let mut journal = Journal::open(path.clone()).unwrap();
        let left = intent(2).writes.unwrap();
        assert_eq!(journal.interrupted(), std::slice::from_ref(&left));
        assert_eq!(Journal::peek(&path).unwrap(), std::slice::from_ref(&left));
        let third = journal.begin(intent(3)).unwrap();
        assert!(third > first);
        journal.settle(&left.backup, &left.store, left.artifact, Ended::Undone).unwrap();
        assert_eq!(journal.interrupted(), [], "the third one goes on");
        assert_eq!(journal.under_way(), [intent(3).writes.unwrap()]);
        journal.leave(third);
        assert_eq!(journal.interrupted(), [intent(3).writes.unwrap()]);
        assert_eq!(journal.under_way(), []);
    }

    #[test]
    fn a_line_torn_at_any_byte_is_cut_off_and_the_next_line_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(path.clone()).unwrap();
        journal.begin(intent(1)).unwrap();
        let first = journal.length as usize;
        journal.begin(intent(2)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in first..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(path.clone()).unwrap();
            assert_eq!(journal.interrupted(), [intent(1).writes.unwrap()], "cut at {cut}");
            journal.begin(intent(3)).unwrap();
            assert_eq!(Journal::open(path.clone()).unwrap().interrupted().len(), 2, "cut at {cut}");
        }
    }

    #[test]
    fn a_long_journal_is_rewritten_without_what_has_ended_and_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(path.clone()).unwrap();
        journal.begin(intent(0)).unwrap();
        let mut last = Attempt(0);
        while journal.length <= COMPACT_FROM {
            last = journal.begin(Intent { what: "x".repeat(64 << 10), ..intent(1) }).unwrap();
            journal.end(last, Ended::Done).unwrap();
        }
        journal.begin(intent(9)).unwrap();
        let mut journal = Journal::open(path).unwrap();
        assert!(journal.length < 4096);
        assert_eq!(journal.interrupted().len(), 2);
        assert!(journal.begin(intent(10)).unwrap() > last);
    }
}
