//! From dumps that crontabs and timers start already to a declaration that takes over from them. Pure: texts in, TOML
//! out; nothing is run, and no shell is asked.
//!
//! ```text
//! crontabs ──▶ crontab ─┐                                       ┌──▶ policies, backups
//! units ─────▶ timers ──┴─▶ entries ──words──▶ command ──▶ dumps ┴──▶ notes for a person
//! ```
//!
//! Only what is certainly a host, a user, a database or a path is taken over. Everything else of a command line may be a
//! secret: it is never passed on, neither in the declaration nor in a note.

mod calendar;
mod command;
mod crontab;
mod declaration;
mod options;
mod timers;
mod values;
mod words;

use std::{collections::BTreeMap, time::Duration};

use crate::spec::Cadence;
pub use declaration::declare;

/// The longest line that is read, bytes: no shell takes a longer one as a single argument.
const LONGEST_LINE: usize = 128 << 10;

/// Something that a crontab or a timer starts.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it stands: `/etc/cron.d/dumps:7`.
    place: String,
    /// When it starts, or why that can't be told.
    when: Result<When, String>,
    /// What it starts, for a shell to read.
    command: String,
}

/// When an entry starts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct When {
    cadence: Cadence,
    /// The zone that it is in, where one is named; else that of its host.
    zone: Option<String>,
    /// By how much it is delayed at random, at most.
    jitter: Option<Duration>,
}

/// How the lines of a crontab look (crontab(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A user's own, as `crontab -l` prints it: times and a command.
    User,
    /// `/etc/crontab` and `/etc/cron.d`: times, a user and a command.
    System,
}

/// A declaration of what is dumped already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Policies and backups as TOML, with comments for what a person must look at. Parses together with a `[fleet]` and
    /// the stores that it names.
    pub declaration: String,
    /// How many backups are in it.
    pub backups: usize,
    /// What was not taken over.
    pub notes: Vec<Note>,
}

/// Something that a person must look at. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where it stands: `/etc/cron.d/dumps:7`.
    pub place: String,
    /// What is to be known.
    pub text: String,
}

/// The entries of a crontab. `name` is what places begin with.
pub fn crontab(name: &str, text: &str, form: Form) -> Vec<Entry> {
    crontab::entries(name, text, form)
}

/// The entries of the timers among units, by their file names, with the services that they start. `folder` is what
/// places begin with.
pub fn timers(folder: &str, units: &BTreeMap<String, String>) -> Vec<Entry> {
    timers::entries(folder, units)
}
