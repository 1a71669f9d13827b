//! What is to be received: whole segments, from the one in which the last artifact ends.

use std::ops::Range;

use jiff::Timestamp;

use super::{Failure, origin::Log};
use crate::artifact::{
    manifest::{Edge, Moment},
    position::{LogPosition, Lsn, WalPosition},
    until::NamedPoint,
};

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub time: Timestamp,
    /// The end of a segment.
    pub lsn: Lsn,
}

/// Segments, and what they tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Their numbers.
    pub segments: Range<u64>,
    /// Since when and where the log is whole.
    pub from: Edge,
    pub until: Edge,
}

impl Span {
    /// From where the last artifact ends.
    pub(super) fn from_last(log: &Log, last: Last<'_>, end: End) -> Self {
        Self::new(log, last.place.lsn, last.edge.clone(), end)
    }

    /// From what the server still has: nobody knows since when the log is whole, but that it is from now on.
    pub(super) fn from_slot(log: &Log, keeps: Lsn, end: End) -> Self {
        let from = Edge { time: end.time, position: log.position(keeps) };
        Self::new(log, keeps, from, end)
    }

    fn new(log: &Log, begin: Lsn, from: Edge, end: End) -> Self {
        let until = Edge { time: end.time.max(from.time), position: log.position(end.lsn) };
        Self { segments: log.segments.between(begin, end.lsn), from, until }
    }

    pub(super) fn moment(self, named: Vec<NamedPoint>) -> Moment {
        Moment::Window { from: self.from, until: self.until, named }
    }
}

/// Where the last artifact ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last<'a> {
    edge: &'a Edge,
    place: &'a WalPosition<'a>,
}

impl<'a> Last<'a> {
    /// Reads the place at an artifact's end.
    pub(super) fn place(edge: &Edge) -> Result<WalPosition<'_>, Failure> {
        match LogPosition::parse(&edge.position) {
            Some(LogPosition::Wal(place)) => Ok(place),
            _ => Err(Failure::Refused(format!("{:?} is no place in a write-ahead log", edge.position))),
        }
    }

    /// If it is in the server's log: of another cluster, or on a timeline that was left, it is not.
    pub(super) fn in_log_of(log: &Log, edge: &'a Edge, place: &'a WalPosition<'a>) -> Option<Self> {
        let is_in_log = place.system == Some(log.system.as_str()) && log.history.has(place);
        is_in_log.then_some(Self { edge, place })
    }

    pub(super) fn lsn(&self) -> Lsn {
        self.place.lsn
    }
}
