//! How long a reader that has ended rests. Pure.

use std::time::Duration;

/// The first rest, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The rest after so many ends in a row, at least one: longer each time, and between half of that and all of it by `draw`, so that
/// many readers of one server do not come at once.
pub(super) fn rest(ends: u32, draw: u64) -> Duration {
    let whole = FIRST.saturating_mul(1 << ends.saturating_sub(1).min(10)).min(LONGEST);
    let share = (draw % 1024) as u32;
    whole / 2 + whole * share / 2048
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_up_to_a_minute_and_differ() {
        assert_eq!(rest(1, 0), Duration::from_millis(500));
        assert!(rest(1, 1023) < Duration::from_secs(1));
        assert_eq!(rest(3, 0), Duration::from_secs(2));
        for ends in [7, 100, u32::MAX] {
            assert!((Duration::from_secs(30)..=LONGEST).contains(&rest(ends, u64::from(ends))), "{ends}");
        }
    }
}
