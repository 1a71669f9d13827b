//! How often something was healed, and when it is healed again: where something fights back, slower and slower, and always.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// So many heals of one thing within [`WINDOW`], and something fights back.
pub const FIGHT: usize = 3;
/// Heals count for so long.
const WINDOW: SignedDuration = SignedDuration::from_hours(24);
/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// When one thing was healed within the last 24 hours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heals {
    times: BTreeSet<Timestamp>,
}

/// Whether a heal still counts at `now`. One of the future was written by a clock that has jumped.
pub(super) fn counts(at: Timestamp, now: Timestamp) -> bool {
    at <= now && now.duration_since(at) < WINDOW
}

impl Extend<Timestamp> for Heals {
    fn extend<T: IntoIterator<Item = Timestamp>>(&mut self, times: T) {
        self.times.extend(times);
    }
}

impl Heals {
    /// How often.
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// When last.
    pub fn last(&self) -> Option<Timestamp> {
        self.times.last().copied()
    }

    /// Whether it drifts so often that something must be undoing what Backstay does.
    pub fn is_fight(&self) -> bool {
        self.count() >= FIGHT
    }

    /// The moment from which on it is healed again: at once at first, then after pauses that double, up to an hour.
    pub fn again_at(&self) -> Option<Timestamp> {
        let doublings = u32::try_from(self.count().checked_sub(FIGHT)?).unwrap_or(u32::MAX);
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_PAUSE);
        self.last()?.checked_add(pause).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heals(number: i64) -> Heals {
        let mut heals = Heals::default();
        heals.extend((0..number).map(|n| Timestamp::from_second(n * 600).unwrap()));
        heals
    }

    #[test]
    fn pauses_double_from_the_third_heal_on_and_are_never_longer_than_an_hour() {
        let pause = |number| {
            let heals = heals(number);
            heals.again_at().map(|at| at.duration_since(heals.last().unwrap()).as_secs() / 60)
        };
        let pauses: Vec<_> = (0..12).map(pause).collect();
        let expected = [None, None, None, Some(1), Some(2), Some(4), Some(8), Some(16), Some(32), Some(60)];
        assert_eq!(pauses[..10], expected);
        assert_eq!(pauses[10..], [Some(60), Some(60)]);
        assert!(heals(100_000).again_at().is_some());
    }

    #[test]
    fn heals_count_for_a_day_and_not_before_they_happened() {
        let at = Timestamp::from_second(1_000_000).unwrap();
        let later = |seconds| at + SignedDuration::from_secs(seconds);
        assert!(counts(at, at) && counts(at, later(24 * 3600 - 1)));
        assert!(!counts(at, later(24 * 3600)) && !counts(at, later(-1)));
    }
}
