//! Schedules: which slots a cadence names, and when each falls due. Moments come in as values.
//!
//! Cron follows the fleet's zone: a moment in an hour that the clock skips comes one hour later, one in an hour that
//! the clock repeats comes the first time only. `every` counts from the Unix epoch.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{cron::Cron, names::FolderName};

/// When a kind of artifact is to be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cadence {
    /// Cron in five fields, in the fleet's zone.
    Cron(Cron),
    /// Every so often, counted from the Unix epoch; at least a second.
    Every(Duration),
}

impl Cadence {
    /// The longest time from one slot to the next, in civil time: the hour that a zone's clock repeats or skips is not
    /// counted.
    pub fn longest_gap(&self) -> Duration {
        match self {
            Cadence::Cron(cron) => cron.longest_gap(),
            Cadence::Every(period) => *period,
        }
    }
}

impl std::fmt::Display for Cadence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cadence::Cron(cron) => write!(f, "{cron}"),
            Cadence::Every(period) => write!(f, "every {}", humantime::format_duration(*period)),
        }
    }
}

/// A cadence in a zone, with the delay of one backup. Cheap to make.
#[derive(Clone, Debug)]
pub struct Schedule {
    cadence: Cadence,
    zone: TimeZone,
    delay: SignedDuration,
}

/// More days than lie between any two slots of a cron expression: 29 February, across a year like 2100.
const FAR_DAYS: u32 = 3000;

impl Schedule {
    /// The slots of `cadence` in `zone`, each due when the stable share of `jitter` that falls to a backup by its folder, and
    /// so outlives its renames, has passed.
    pub fn new(cadence: Cadence, zone: TimeZone, backup: &FolderName, jitter: Duration) -> Self {
        Self { cadence, zone, delay: stable_delay(backup, jitter) }
    }

    /// The slots of `cadence` in `zone`, each due at once.
    pub fn without_jitter(cadence: Cadence, zone: TimeZone) -> Self {
        Self { cadence, zone, delay: SignedDuration::ZERO }
    }

    /// The latest slot that is due at `now`.
    pub fn latest_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.latest_at_or_before(now.checked_sub(self.delay).ok()?)
    }

    /// When `slot` falls due.
    pub fn due_at(&self, slot: Timestamp) -> Timestamp {
        slot.checked_add(self.delay).unwrap_or(Timestamp::MAX)
    }

    /// The next moment after `now` at which a slot falls due.
    pub fn next_due_after(&self, now: Timestamp) -> Option<Timestamp> {
        self.next_after(now.checked_sub(self.delay).ok()?).map(|slot| self.due_at(slot))
    }

    /// The latest slot at or before `now`, due or not.
    pub fn latest_at_or_before(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.cadence {
            Cadence::Every(period) => every(*period, |p| now.as_nanosecond().div_euclid(p) * p),
            Cadence::Cron(cron) => {
                // A day too late: where a repeated hour spans midnight, tomorrow's first slots may be past already.
                let start = self.zone.to_datetime(now).date().tomorrow().ok()?;
                let days = std::iter::successors(Some(start), |day| day.yesterday().ok());
                days.take(FAR_DAYS as usize)
                    .filter(|day| cron.matches_day(*day))
                    .find_map(|day| Day::of(cron, day, &self.zone).latest_at_or_before(now))
            }
        }
    }

    /// The first slot after `t`.
    pub fn next_after(&self, t: Timestamp) -> Option<Timestamp> {
        match &self.cadence {
            Cadence::Every(period) => every(*period, |p| (t.as_nanosecond().div_euclid(p) + 1) * p),
            Cadence::Cron(cron) => {
                // A day early: where a skipped hour spans midnight, yesterday's last slots may be still to come.
                let start = self.zone.to_datetime(t).date().yesterday().ok()?;
                let days = std::iter::successors(Some(start), |day| day.tomorrow().ok());
                days.take(FAR_DAYS as usize)
                    .filter(|day| cron.matches_day(*day))
                    .find_map(|day| Day::of(cron, day, &self.zone).next_after(t))
            }
        }
    }

    /// The longest time from one slot to the next; see [`Cadence::longest_gap`].
    pub fn longest_gap(&self) -> Duration {
        self.cadence.longest_gap()
    }
}

fn every(period: Duration, slot: impl FnOnce(i128) -> i128) -> Option<Timestamp> {
    let period = i128::try_from(period.as_nanos()).ok()?.max(1);
    Timestamp::from_nanosecond(slot(period)).ok()
}

/// The share of `jitter` that falls to a backup: spread evenly over names, the same for ever, whole seconds.
fn stable_delay(backup: &FolderName, jitter: Duration) -> SignedDuration {
    let digest = Sha256::digest(backup.as_str().as_bytes());
    let share = digest.iter().take(8).fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let seconds = (u128::from(jitter.as_secs()) * u128::from(share)) >> 64;
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// The slots of a cron expression on one civil day.
enum Day<'a> {
    /// The clock runs through: a slot is so many minutes after midnight.
    Plain { midnight: Timestamp, times: &'a [u16] },
    /// The clock is set: the slots themselves, ascending.
    Broken(Vec<Timestamp>),
}

impl<'a> Day<'a> {
    fn of(cron: &'a Cron, date: Date, zone: &TimeZone) -> Self {
        match Self::plain_midnight(date, zone) {
            Some(midnight) => Day::Plain { midnight, times: cron.times() },
            None => Day::Broken(Self::slots(cron, date, zone)),
        }
    }

    fn plain_midnight(date: Date, zone: &TimeZone) -> Option<Timestamp> {
        let midnight = |date: Date| {
            let at = zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0));
            (!at.is_ambiguous()).then(|| at.compatible().ok()).flatten()
        };
        let (start, end) = (midnight(date)?, midnight(date.tomorrow().ok()?)?);
        (end.duration_since(start) == SignedDuration::from_hours(24)).then_some(start)
    }

    fn slots(cron: &Cron, date: Date, zone: &TimeZone) -> Vec<Timestamp> {
        let slot = |minute: &u16| {
            // "Compatible" is what the module promises: skipped times come later, repeated ones the first time.
            zone.to_timestamp(date.at((minute / 60) as i8, (minute % 60) as i8, 0, 0)).ok()
        };
        let mut slots: Vec<Timestamp> = cron.times().iter().filter_map(slot).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    fn latest_at_or_before(&self, now: Timestamp) -> Option<Timestamp> {
        self.nth(self.count_until(now).checked_sub(1)?)
    }

    fn next_after(&self, t: Timestamp) -> Option<Timestamp> {
        self.nth(self.count_until(t))
    }

    /// How many of the day's slots are at or before `t`.
    fn count_until(&self, t: Timestamp) -> usize {
        match self {
            Day::Plain { midnight, times } => {
                let seconds = t.duration_since(*midnight).as_secs_f64();
                times.partition_point(|minute| f64::from(*minute) * 60.0 <= seconds)
            }
            Day::Broken(slots) => slots.partition_point(|slot| *slot <= t),
        }
    }

    fn nth(&self, n: usize) -> Option<Timestamp> {
        match self {
            Day::Plain { midnight, times } => {
                let minutes = i64::from(*times.get(n)?);
                midnight.checked_add(SignedDuration::from_mins(minutes)).ok()
            }
            Day::Broken(slots) => slots.get(n).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(text: &str, zone: &str) -> Schedule {
        let zone = TimeZone::get(zone).unwrap();
        Schedule::new(Cadence::Cron(text.parse().unwrap()), zone, &"agama".parse().unwrap(), Duration::ZERO)
    }

    fn every_seconds(seconds: u64, jitter: u64) -> Schedule {
        let cadence = Cadence::Every(Duration::from_secs(seconds));
        Schedule::new(cadence, TimeZone::UTC, &"agama".parse().unwrap(), Duration::from_secs(jitter))
    }

    fn t(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Every slot in `from..until`, by `next_after`; each must be found by `latest_at_or_before` as well.
    fn slots(schedule: &Schedule, from: &str, until: &str) -> Vec<String> {
        let step = SignedDuration::from_nanos(1);
        let mut at = t(from) - step;
        let mut found = Vec::new();
        while let Some(slot) = schedule.next_after(at).filter(|slot| *slot < t(until)) {
            assert_eq!(schedule.latest_at_or_before(slot), Some(slot));
            assert!(schedule.latest_at_or_before(slot - step).is_some_and(|s| s < slot));
            found.push(slot.to_string());
            at = slot;
        }
        found
    }

    #[test]
    fn a_slot_is_at_the_fleets_local_time_in_summer_and_winter() {
        let daily = cron("0 1 * * *", "Europe/Stockholm");
        assert_eq!(slots(&daily, "2026-07-01T00:00:00Z", "2026-07-02T00:00:00Z"), ["2026-07-01T23:00:00Z"]);
        assert_eq!(slots(&daily, "2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z"), ["2026-12-01T00:00:00Z"]);
    }

    #[test]
    fn a_skipped_hour_runs_once_in_stockholm() {
        // 29 March 2026: 02:00 becomes 03:00, at 01:00 UTC.
        let daily = cron("30 2 * * *", "Europe/Stockholm");
        assert_eq!(
            slots(&daily, "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z"),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]
        );
        // 02:00 and 03:00 are the same moment then.
        let hourly = cron("0 * * * *", "Europe/Stockholm");
        assert_eq!(
            slots(&hourly, "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z"),
            ["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]
        );
    }

    #[test]
    fn a_repeated_hour_runs_once_in_stockholm() {
        // 25 October 2026: 03:00 becomes 02:00, at 01:00 UTC.
        let daily = cron("30 2 * * *", "Europe/Stockholm");
        assert_eq!(
            slots(&daily, "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z"),
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        let hourly = cron("0 * * * *", "Europe/Stockholm");
        assert_eq!(
            slots(&hourly, "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z"),
            ["2026-10-24T23:00:00Z", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"]
        );
    }

    #[test]
    fn skipped_and_repeated_hours_run_once_in_new_york() {
        // 8 March 2026: 02:00 becomes 03:00, at 07:00 UTC. 1 November: 02:00 becomes 01:00, at 06:00 UTC.
        let spring = cron("30 2 * * *", "America/New_York");
        assert_eq!(slots(&spring, "2026-03-08T00:00:00Z", "2026-03-09T00:00:00Z"), ["2026-03-08T07:30:00Z"]);
        let autumn = cron("30 1 * * *", "America/New_York");
        assert_eq!(slots(&autumn, "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"), ["2026-11-01T05:30:00Z"]);
    }

    #[test]
    fn an_hour_that_is_skipped_or_repeated_at_midnight_runs_once() {
        // Beirut, 2025: 00:00 becomes 01:00 on 30 March (22:00 UTC), 00:00 becomes 23:00 on 26 October (21:00 UTC).
        let spring = cron("30 0 * * *", "Asia/Beirut");
        assert_eq!(slots(&spring, "2025-03-29T12:00:00Z", "2025-03-30T12:00:00Z"), ["2025-03-29T22:30:00Z"]);
        let autumn = cron("30 23 * * *", "Asia/Beirut");
        assert_eq!(slots(&autumn, "2025-10-25T12:00:00Z", "2025-10-26T12:00:00Z"), ["2025-10-25T20:30:00Z"]);
    }

    #[test]
    fn rare_slots_are_found_years_away() {
        let leap = cron("0 3 29 2 *", "Europe/Stockholm");
        assert_eq!(leap.next_after(t("2024-03-01T00:00:00Z")), Some(t("2028-02-29T02:00:00Z")));
        assert_eq!(leap.latest_at_or_before(t("2028-02-01T00:00:00Z")), Some(t("2024-02-29T02:00:00Z")));
        assert_eq!(leap.next_after(t("2096-03-01T00:00:00Z")), Some(t("2104-02-29T02:00:00Z")));
    }

    #[test]
    fn every_counts_from_the_unix_epoch_also_before_it() {
        let schedule = every_seconds(900, 0);
        assert_eq!(schedule.latest_at_or_before(t("2026-11-20T12:14:59Z")), Some(t("2026-11-20T12:00:00Z")));
        assert_eq!(schedule.latest_at_or_before(t("2026-11-20T12:15:00Z")), Some(t("2026-11-20T12:15:00Z")));
        assert_eq!(schedule.next_after(t("2026-11-20T12:15:00Z")), Some(t("2026-11-20T12:30:00Z")));
        assert_eq!(schedule.latest_at_or_before(t("1969-12-31T23:59:00Z")), Some(t("1969-12-31T23:45:00Z")));
    }

    #[test]
    fn jitter_moves_when_a_slot_is_due_and_never_the_slot() {
        let (plain, late) = (every_seconds(3600, 0), every_seconds(3600, 1800));
        let slot = t("2026-11-20T12:00:00Z");
        let due = late.due_at(slot);
        assert!(due > slot && due < slot + SignedDuration::from_secs(1800), "{due}");
        assert_eq!(plain.due_at(slot), slot);
        assert_eq!(late.latest_due(due), Some(slot));
        assert_eq!(late.latest_due(due - SignedDuration::from_nanos(1)), Some(t("2026-11-20T11:00:00Z")));
        assert_eq!(late.next_due_after(slot), Some(due));
    }

    #[test]
    fn jitter_is_stable_per_backup_and_differs_between_backups() {
        let delay = |name: &str| stable_delay(&name.parse().unwrap(), Duration::from_secs(300));
        assert_eq!(delay("agama"), delay("agama"));
        let spread: std::collections::BTreeSet<_> = (0..100).map(|n| delay(&format!("b{n}"))).collect();
        assert!(spread.len() > 50 && spread.iter().all(|d| *d < SignedDuration::from_secs(300)));
    }

    proptest::proptest! {
        #[test]
        fn latest_and_next_agree_at_any_moment(
            seconds in 1_700_000_000_i64..1_900_000_000,
            expression in proptest::sample::select(vec![
                "* * * * *", "*/7 2 * * *", "30 1,2,3 * * 0", "0 0 31 * *", "15 23 * 3,10 *", "0 12 29 2 *",
            ]),
            zone in proptest::sample::select(vec!["UTC", "Europe/Stockholm", "America/New_York", "Asia/Beirut"]),
        ) {
            let now = Timestamp::from_second(seconds).unwrap();
            let schedule = cron(expression, zone);
            let (latest, next) = (schedule.latest_at_or_before(now).unwrap(), schedule.next_after(now).unwrap());
            proptest::prop_assert!(latest <= now && now < next);
            proptest::prop_assert_eq!(schedule.next_after(latest), Some(next));
            proptest::prop_assert_eq!(schedule.latest_at_or_before(next), Some(next));
        }
    }
}
