//! How the reader of a log is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The reader of one backup's log, as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReader {
    /// Whether it reads.
    pub state: ReaderState,
    /// Since when, by the controller's clock.
    pub since: Timestamp,
    /// Why it does not, redacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When it was last seen to have all that the server had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete: Option<Timestamp>,
    /// When anything of this was seen.
    pub seen: Timestamp,
    /// What is in its spool, bytes.
    pub spool_bytes: u64,
}

/// Whether a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReaderState {
    /// It does.
    Up,
    /// It has ended, or has not begun yet, and is tried again.
    Down,
    /// Its spool is full: it goes on once some of that is in every store.
    Full,
}

impl LogReader {
    /// Whether it stays what it was but for what it has read.
    pub fn stands_as(&self, before: &Self) -> bool {
        (self.state, self.since) == (before.state, before.since)
    }
}
