//! What the loop last knew, for everybody to see.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
};
use serde::Serialize;

use crate::{inventory::LogReader, render::runbook::Shelf, status::Status};

/// Where the loop pins what it knows.
#[derive(Debug)]
pub struct Board {
    /// A loop that began no pass for so long is stuck.
    patience: Duration,
    pinned: Mutex<Pinned>,
    /// How the readers of logs are, by backup: they go on between passes.
    readers: Mutex<BTreeMap<String, LogReader>>,
    durations: Histogram,
    looks: Family<Cause, Counter>,
}

/// What a pass was begun for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Cause {
    cause: &'static str,
}

#[derive(Clone, Debug, Default)]
struct Pinned {
    status: Option<Arc<Status>>,
    runbooks: Option<Arc<Shelf>>,
    running_since: Option<Timestamp>,
    last: Option<LastPass>,
}

/// The last pass that ended, or the last round of one that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastPass {
    /// When it ended.
    pub ended: Timestamp,
    /// Why it did not come about; `None` when it did.
    pub error: Option<String>,
}

/// Whether the loop does its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether it does.
    pub ready: bool,
    /// Why not.
    pub why: Option<String>,
    /// When the pass that is under way began.
    pub running_since: Option<Timestamp>,
    /// The last pass that ended.
    pub last_pass: Option<LastPass>,
    /// How long ago that was, seconds.
    pub last_pass_age_seconds: Option<i64>,
}

impl Health {
    /// Of a fleet that has no loop at present.
    pub(super) fn not_ready(why: String) -> Self {
        Self {
            ready: false,
            why: Some(why),
            running_since: None,
            last_pass: None,
            last_pass_age_seconds: None,
        }
    }
}

impl Board {
    /// An empty board of a loop that begins a pass every `patience` at least.
    pub fn new(patience: Duration) -> Self {
        // From 10 ms to some 12 hours.
        let durations = Histogram::new(exponential_buckets(0.01, 4.0, 12));
        let (pinned, readers, looks) = (Mutex::default(), Mutex::default(), Family::default());
        Self { patience, pinned, readers, durations, looks }
    }

    /// How the reader of a backup's log is; `None` once it has none.
    pub fn reads(&self, backup: &str, reader: Option<&LogReader>) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        match reader {
            Some(reader) => drop(readers.insert(backup.to_owned(), reader.clone())),
            None => drop(readers.remove(backup)),
        }
    }

    /// How the readers of logs are, by backup.
    pub(super) fn readers(&self) -> BTreeMap<String, LogReader> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A pass is begun for all of `causes`.
    pub fn looks_for(&self, causes: impl IntoIterator<Item = &'static str>) {
        for cause in causes {
            self.looks.get_or_create(&Cause { cause }).inc();
        }
    }

    /// A pass begins.
    pub fn begins(&self, now: Timestamp) {
        self.pinned().running_since = Some(now);
    }

    /// How everything stands in the midst of a pass, or why the pass can't go on as it should.
    pub fn shows(&self, outcome: Result<Status, String>, now: Timestamp) {
        let mut pinned = self.pinned();
        let error = match outcome {
            Ok(status) => {
                pinned.status = Some(Arc::new(status));
                None
            }
            Err(error) => Some(error),
        };
        pinned.last = Some(LastPass { ended: now, error });
    }

    /// A pass has ended so; `took` is its duration.
    pub fn ends(&self, outcome: Result<Status, String>, took: Duration, now: Timestamp) {
        self.durations.observe(took.as_secs_f64());
        self.shows(outcome, now);
        self.pinned().running_since = None;
    }

    /// How everything stood after the last pass that came about.
    pub fn status(&self) -> Option<Arc<Status>> {
        self.pinned().status.clone()
    }

    /// The runbooks are these from now on.
    pub fn shelve(&self, runbooks: Arc<Shelf>) {
        self.pinned().runbooks = Some(runbooks);
    }

    /// The runbooks are on their branch, or could not be brought there for this reason.
    pub fn published(&self, unpublished: Option<String>) {
        let mut pinned = self.pinned();
        let differs = |status: &Arc<Status>| status.revisions.unpublished != unpublished;
        if let Some(status) = pinned.status.take_if(|status| differs(status)) {
            pinned.status = Some(Arc::new(Arc::unwrap_or_clone(status).published(unpublished)));
        }
    }

    /// The runbooks as things stood after the last pass that made them.
    pub fn runbooks(&self) -> Option<Arc<Shelf>> {
        self.pinned().runbooks.clone()
    }

    /// How long passes took.
    pub(super) fn durations(&self) -> Histogram {
        self.durations.clone()
    }

    /// How many passes were begun for what.
    pub(super) fn looks(&self) -> Family<Cause, Counter> {
        self.looks.clone()
    }

    /// Whether the loop does its work.
    pub fn health(&self, now: Timestamp) -> Health {
        let Pinned { running_since, last, .. } = self.pinned().clone();
        let age = last.as_ref().map(|last| now.duration_since(last.ended));
        let late = age.is_some_and(|age| age.unsigned_abs() > self.patience);
        let why = match (&last, running_since) {
            (None, None) => Some("no pass has begun yet".to_owned()),
            (None, Some(_)) => Some("the first pass is under way".to_owned()),
            (Some(LastPass { error: Some(error), .. }), _) => Some(error.clone()),
            (Some(_), _) if late => Some("nothing was looked at for too long".to_owned()),
            (Some(_), _) => None,
        };
        Health {
            ready: why.is_none(),
            why,
            running_since,
            last_pass: last,
            last_pass_age_seconds: age.map(|age| age.as_secs()),
        }
    }

    fn pinned(&self) -> MutexGuard<'_, Pinned> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
