//! Which files of a binary log are replayed, and from where to where. Pure.

use super::{Brought, end_of};
use crate::artifact::{manifest::Moment, position::LogPosition, until::Until};

/// Where the first event of a file stands: behind its magic number (MariaDB's documentation, "Binlog File Format").
const FIRST: u64 = 4;

/// The most files that one log is taken to go over: how many a manifest tells of is the word of the server that was captured.
const MOST_FILES: u64 = 10_000;

/// The longest name of a file, bytes (Linux's `NAME_MAX`).
const LONGEST_NAME: usize = 255;

/// A place in a binary log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    stem: String,
    /// How many digits the number of a file has at least.
    digits: usize,
    number: u64,
    offset: u64,
}

impl Place {
    fn parse(position: &str) -> Result<Self, String> {
        let place = (|| {
            let LogPosition::Binlog { stem, number, offset, .. } = LogPosition::parse(position)? else {
                return None;
            };
            let name = position.split(':').next().filter(|name| name.len() <= LONGEST_NAME)?;
            let digits = name.len().checked_sub(stem.len() + 1)?;
            Some(Self { stem: stem.to_owned(), digits, number, offset })
        })();
        place.ok_or_else(|| format!("{position:?} is no place in a binary log"))
    }

    fn comes_before(&self, other: &Place) -> bool {
        (self.number, self.offset) < (other.number, other.offset)
    }

    /// The last file that holds something before the place.
    fn last_file(&self) -> u64 {
        if self.offset > FIRST { self.number } else { self.number.saturating_sub(1) }
    }
}

/// Where the data stands that a log goes on from.
pub(super) fn place_of(data: &Brought) -> Result<Place, String> {
    let position = end_of(&data.stored.moment);
    position
        .ok_or_else(|| format!("{} does not tell where in the log it stands", data.file))
        .and_then(Place::parse)
}

/// From where to where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    from: Place,
    until: Place,
}

impl Span {
    /// What a manifest tells.
    pub(super) fn of(log: &Brought) -> Result<Self, String> {
        match &log.stored.moment {
            Moment::Window { from, until, .. } => {
                Ok(Self { from: Place::parse(&from.position)?, until: Place::parse(&until.position)? })
            }
            Moment::At { .. } => Err(format!("{} is no log", log.file)),
        }
    }
}

/// Files that are read one after the other, the first from a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where in the first file.
    pub begin: u64,
    /// What ends it before its last file does, as the program that reads it is told.
    pub end: Option<String>,
    /// Each with the number of the log that it is in.
    pub files: Vec<(usize, String)>,
}

/// What is read, in its order: a file that two logs have a part of is read from each, never twice the same.
pub(super) fn runs(base: Place, logs: &[Span], until: Option<&Until>) -> Result<Vec<Run>, String> {
    let (end, stop) = match until {
        None => (None, None),
        Some(Until::Moment(at)) => {
            (Some(format!("--stop-datetime={}", at.strftime("%Y-%m-%d %H:%M:%S"))), None)
        }
        Some(Until::Place(place)) => (None, Some(Place::parse(&place.to_string())?)),
        Some(Until::Transaction(_)) => {
            let why = "by hand a log is replayed up to a moment or a place; `mariadb-binlog` and `mysqlbinlog` tell the place of a \
                       transaction";
            return Err(why.to_owned());
        }
        Some(until @ Until::Named(_)) => return Err(format!("a binary log has no {until}")),
    };
    let (mut runs, digits): (Vec<Run>, usize) = (Vec::new(), base.digits);
    let mut at = base;
    for (number, log) in logs.iter().enumerate() {
        if [&log.from, &log.until].into_iter().chain(&stop).any(|place| place.stem != at.stem) {
            return Err(format!("the files of the log are not all called {}", at.stem));
        }
        let last = stop.as_ref().filter(|stop| stop.comes_before(&log.until)).unwrap_or(&log.until);
        if !at.comes_before(last) {
            continue;
        }
        let (first, last_file) = (at.number.max(log.from.number), last.last_file());
        if last_file.saturating_sub(first) >= MOST_FILES {
            return Err(format!(
                "a log says that it goes over more than {MOST_FILES} files, {first} to {last_file}: restore by Backstay itself, which \
                 goes by what the log holds"
            ));
        }
        for file in first..=last_file {
            let begin = if file == at.number { at.offset } else { FIRST };
            let entry = (number, format!("{}.{file:0width$}", at.stem, width = digits));
            match runs.last_mut() {
                Some(run) if begin <= FIRST => run.files.push(entry),
                _ => runs.push(Run { begin, end: end.clone(), files: vec![entry] }),
            }
        }
        at = last.clone();
    }
    let ends_within = |stop: &Place| stop.offset > FIRST && !at.comes_before(stop) && !stop.comes_before(&at);
    if let (Some(stop), Some(run)) = (stop.filter(ends_within), runs.last_mut()) {
        run.end = Some(format!("--stop-position={}", stop.offset));
    }
    Ok(runs)
}
