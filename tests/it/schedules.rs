//! That the schedules of tests keep away from the moment at which they run, whichever that is.

#[path = "../time/schedules.rs"]
mod far;

use backstay::spec::schedule::{Cadence, Schedule};
use jiff::{SignedDuration, Timestamp, ToSpan as _, civil::date, tz::TimeZone};

pub use far::{daily, of_init, weekly, yearly};

/// No slot is as near to `now` as `hours`, neither before nor after it.
fn keeps_away(now: Timestamp, cron: &str, hours: i64) {
    let schedule = Schedule::without_jitter(Cadence::Cron(cron.parse().unwrap()), TimeZone::UTC);
    let (last, next) = (schedule.latest_at_or_before(now).unwrap(), schedule.next_after(now).unwrap());
    let near = SignedDuration::from_hours(hours);
    assert!(now.duration_since(last) > near, "{cron} has {last}, just before {now}");
    assert!(next.duration_since(now) > near, "{cron} has {next}, just after {now}");
}

/// The first and the last day of every month of two years, one of which has a leap day.
fn days_at_which_months_change() -> impl Iterator<Item = Timestamp> {
    let firsts = (0..24).map(|months| date(2027, 1, 1) + months.months());
    let days = firsts.flat_map(|first| [first, first.last_of_month()]);
    days.map(|day| day.to_zoned(TimeZone::UTC).unwrap().timestamp())
}

#[test]
fn at_any_minute_the_slots_of_a_day_and_of_a_week_are_far() {
    for day in days_at_which_months_change() {
        // The last moment of each minute: the slot is at its begin.
        for now in (1..=24 * 60).map(|minutes: i64| day + minutes.minutes() - 1.nanosecond()) {
            keeps_away(now, &daily(now), 11);
            keeps_away(now, &weekly(now), 83);
        }
    }
}

#[test]
fn on_any_day_the_slot_of_a_year_is_far() {
    let first = date(2026, 1, 1).to_zoned(TimeZone::UTC).unwrap().timestamp();
    for day in 0..4 * 366 {
        for hour in [0, 23] {
            let now = first + (24 * day + hour).hours();
            keeps_away(now, &yearly(now), 24 * 170);
        }
    }
}
