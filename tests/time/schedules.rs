//! Schedules whose slots are far from the moment at which a test runs: what it makes is then the same at any time of the
//! day, of the week and of the year. By UTC, as lines of cron.

use jiff::{Timestamp, ToSpan as _, Zoned, tz::TimeZone};

/// Once a day, half a day from `now`.
pub fn daily(now: Timestamp) -> String {
    let slot = after(now, 12);
    format!("{} {} * * *", slot.minute(), slot.hour())
}

/// Once a week, half a week from `now`.
pub fn weekly(now: Timestamp) -> String {
    let slot = after(now, 84);
    format!("{} {} * * {}", slot.minute(), slot.hour(), slot.weekday().to_sunday_zero_offset())
}

/// Once a year, about half a year from `now`.
pub fn yearly(now: Timestamp) -> String {
    let slot = after(now, 24 * 182);
    // Every month has a 28th.
    format!("0 0 {} {} *", slot.day().min(28), slot.month())
}

fn after(now: Timestamp, hours: i64) -> Zoned {
    (now + hours.hours()).to_zoned(TimeZone::UTC)
}

/// The declaration that `backstay init` makes, with its schedules far from `now`.
pub fn of_init(made: &str, now: Timestamp) -> String {
    let far = [("\"0 1 * * 0\"", weekly(now)), ("\"0 1 * * 1-6\"", daily(now))];
    far.into_iter().fold(made.to_owned(), |text, (made, far)| {
        assert!(text.contains(made), "`init` makes other schedules by now:\n{text}");
        text.replace(made, &format!("\"{far}\""))
    })
}
