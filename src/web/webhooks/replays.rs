//! Deliveries that were taken, so that none is taken twice.

use std::collections::{BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::proof::Mark;

/// How long a delivery is remembered.
pub(super) const WINDOW: SignedDuration = SignedDuration::from_hours(24);
/// The most marks that are remembered; beyond that the oldest go first.
const MOST: usize = 8192;

/// The marks of the deliveries of the last [`WINDOW`], oldest first.
#[derive(Debug, Default)]
pub(super) struct Replays {
    in_order: VecDeque<(Timestamp, Mark)>,
    known: BTreeSet<Mark>,
}

impl Replays {
    /// Whether none of `marks` is known; all of them are from now on.
    pub(super) fn admits(&mut self, marks: &[Mark], now: Timestamp) -> bool {
        self.forget_old(now);
        let new = marks.iter().all(|mark| !self.known.contains(mark));
        for mark in marks {
            if self.known.insert(*mark) {
                self.in_order.push_back((now, *mark));
            }
        }
        while self.in_order.len() > MOST {
            self.forget_oldest();
        }
        new
    }

    fn forget_old(&mut self, now: Timestamp) {
        while self.in_order.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, mark)) = self.in_order.pop_front() {
            self.known.remove(&mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u64) -> Mark {
        Mark::numbered(number)
    }

    #[test]
    fn a_delivery_is_taken_once_within_the_window_by_any_of_its_marks() {
        let (mut replays, now) = (Replays::default(), Timestamp::UNIX_EPOCH);
        assert!(replays.admits(&[mark(1), mark(2)], now));
        assert!(!replays.admits(&[mark(2)], now));
        assert!(!replays.admits(&[mark(3), mark(1)], now + WINDOW), "another id on the same body");
        assert!(!replays.admits(&[mark(3)], now + WINDOW), "what was refused is remembered, too");
        assert!(replays.admits(&[mark(1)], now + WINDOW + SignedDuration::from_secs(1)));
        assert!(replays.admits(&[], now) && replays.admits(&[], now), "what has no mark can't be told apart");
    }

    #[test]
    fn a_flood_takes_no_more_memory_and_forgets_the_oldest_first() {
        let (mut replays, now) = (Replays::default(), Timestamp::UNIX_EPOCH);
        for number in 0..=MOST as u64 {
            assert!(replays.admits(&[mark(number)], now));
        }
        assert_eq!((replays.in_order.len(), replays.known.len()), (MOST, MOST));
        assert!(!replays.admits(&[mark(1)], now));
        assert!(replays.admits(&[mark(0)], now));
    }
}
