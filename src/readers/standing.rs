//! How readers are, told to whoever runs them and left beside their spools for other processes to see.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Tell, spool};
use crate::{
    clock::Clock,
    durable,
    inventory::{LogReader, ReaderState},
    sources::{Progress, Witness},
    spec::names::FolderName,
};

const FILE: &str = "reader.json";

/// How one reader is. While it reads, what it is told is left in a file; once it was told to end there is none.
pub(super) struct Standing {
    spool: PathBuf,
    backup: String,
    clock: Arc<dyn Clock>,
    tell: Tell,
    now: Mutex<Option<LogReader>>,
}

impl Standing {
    pub(super) fn new(spool: PathBuf, backup: String, clock: Arc<dyn Clock>, tell: Tell) -> Self {
        Self { spool, backup, clock, tell, now: Mutex::default() }
    }

    /// It does not read, for the reason `why`.
    pub(super) fn ended(&self, state: ReaderState, why: String) {
        self.set(state, Some(why), None);
    }

    /// Whether it reads, as far as was seen.
    pub(super) fn is_up(&self) -> bool {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.as_ref().is_some_and(|now| now.state == ReaderState::Up)
    }

    /// It was told to end, and has.
    pub(super) fn over(&self) {
        self.forget();
        (self.tell)(&self.backup, None);
    }

    /// Nothing is known of it.
    pub(super) fn forget(&self) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // One that is left says that its reader is gone.
        let _ = fs::remove_file(self.spool.join(FILE));
    }

    fn set(&self, state: ReaderState, why: Option<String>, progress: Option<Progress>) {
        let seen = self.clock.now();
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let before = now.take();
        let since =
            before.as_ref().filter(|before| before.state == state).map_or(seen, |before| before.since);
        let complete = match progress {
            Some(Progress::Complete) => Some(seen),
            Some(Progress::Behind) | None => before.as_ref().and_then(|before| before.complete),
        };
        let spool_bytes = spool::size(&self.spool).unwrap_or_default();
        let new = LogReader { state, since, why, complete, seen, spool_bytes };
        if before.as_ref().is_none_or(|before| !new.stands_as(before)) {
            tracing::info!(backup = self.backup, ?state, why = new.why, "the reader of the log");
        }
        (self.tell)(&self.backup, Some(&new));
        if let Err(error) = durable::write_json(&self.spool.join(FILE), &new) {
            tracing::warn!(backup = self.backup, %error, "how the reader is can't be left for others to see");
        }
        *now = Some(new);
    }
}

impl Witness for Standing {
    fn saw(&self, progress: Progress) {
        self.set(ReaderState::Up, None, Some(progress));
    }
}

/// How the readers are whose spools are in `spools`, by their folders. One that left word and is gone is down since then.
pub fn seen(spools: &Path) -> BTreeMap<FolderName, LogReader> {
    let Ok(found) = fs::read_dir(spools) else { return BTreeMap::new() };
    let one = |entry: fs::DirEntry| {
        let folder: FolderName = entry.file_name().to_str()?.parse().ok()?;
        let reader: LogReader = durable::read_json(&entry.path().join(FILE))?;
        let reader = match spool::is_taken(&entry.path()) {
            true => reader,
            false => LogReader {
                state: ReaderState::Down,
                since: if reader.state == ReaderState::Down { reader.since } else { reader.seen },
                why: Some("the controller that ran it is gone; start `backstay run`".to_owned()),
                ..reader
            },
        };
        Some((folder, reader))
    };
    found.flatten().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn orders_folder() -> FolderName {
        "orders".parse().unwrap()
    }

    #[test]
    fn a_reader_that_left_word_and_is_gone_is_down() {
        let folder = tempfile::tempdir().unwrap();
        let orders = folder.path().join("orders");
        let lock = spool::take(&orders).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell: Tell = {
            let told = told.clone();
            Arc::new(move |_, reader| told.lock().unwrap().push(reader.map(|reader| reader.state)))
        };
        let standing = Standing::new(orders.clone(), "orders".to_owned(), Arc::new(SystemClock), tell);
        standing.ended(ReaderState::Down, "no server".to_owned());
        assert!(!standing.is_up());
        let down = seen(folder.path()).remove(&orders_folder()).unwrap();
        assert_eq!((down.state, down.why.as_deref()), (ReaderState::Down, Some("no server")));
        standing.saw(Progress::Complete);
        let up = seen(folder.path()).remove(&orders_folder()).unwrap();
        assert!(up.state == ReaderState::Up && up.complete.is_some() && up.why.is_none(), "{up:?}");
        standing.saw(Progress::Behind);
        let behind = seen(folder.path()).remove(&orders_folder()).unwrap();
        assert!(behind.stands_as(&up) && behind.complete == up.complete, "{behind:?}");
        drop(lock);
        let gone = seen(folder.path()).remove(&orders_folder()).unwrap();
        assert_eq!((gone.state, gone.since), (ReaderState::Down, behind.seen));
        standing.over();
        assert!(seen(folder.path()).is_empty());
        let states = [Some(ReaderState::Down), Some(ReaderState::Up), Some(ReaderState::Up), None];
        assert_eq!(*told.lock().unwrap(), states);
    }
}
