//! Windows: times of the week when captures may begin, and when they must not.

use std::{cmp::Ordering, fmt};

use jiff::{
    Timestamp, ToSpan, Zoned,
    civil::{Date, DateTime, Time, Weekday},
    tz::TimeZone,
};

use super::values::{Invalid, TextForm};

/// When captures other than logs may begin: within `allow`, where anything is allowed by name, and never within `deny`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// When they must not begin.
    pub deny: Vec<Span>,
    /// The only times when they may; empty allows every time.
    pub allow: Vec<Span>,
    /// The zone that both count in; `None` is the fleet's.
    pub zone: Option<Zone>,
}

/// A part of some days of the week, from (included) until (excluded). One whose end is not after its beginning ends on
/// the day after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    days: Days,
    from: Time,
    until: Time,
}

/// Days of the week on which spans begin: one bit each, Monday's the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Days(u8);

/// A zone of the IANA database, by whose name zones are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(pub TimeZone);

impl Window {
    /// Whether it keeps captures from beginning at any time.
    pub fn is_always_open(&self) -> bool {
        self.deny.is_empty() && self.allow.is_empty()
    }

    /// Whether captures must not begin at `t`; `fleet` is the fleet's zone.
    pub fn is_closed(&self, t: Timestamp, fleet: &TimeZone) -> bool {
        let now = self.zone(fleet).to_datetime(t);
        let inside = |span: &Span| span.contains(now);
        self.deny.iter().any(inside) || !self.allow.is_empty() && !self.allow.iter().any(inside)
    }

    /// The first moment at or after `t` when captures may begin; `None` when there is none at all.
    pub fn next_opening(&self, t: Timestamp, fleet: &TimeZone) -> Option<Timestamp> {
        if !self.is_closed(t, fleet) {
            return Some(t);
        }
        let zone = self.zone(fleet);
        let first = Zoned::new(t, zone.clone()).date().yesterday().ok()?;
        // A week, the day before it, whose spans may reach into it, and one more for a clock that is set.
        let days = first.series(1.day()).take(10);
        days.flat_map(|day| self.openings_of(day, t, zone)).find(|at| !self.is_closed(*at, fleet))
    }

    /// Whether there is no time of the week when captures may begin.
    pub fn never_opens(&self) -> bool {
        self.next_opening(Timestamp::UNIX_EPOCH, &TimeZone::UTC).is_none()
    }

    fn zone<'a>(&'a self, fleet: &'a TimeZone) -> &'a TimeZone {
        self.zone.as_ref().map_or(fleet, |zone| &zone.0)
    }

    /// Moments after `t` at which a span of `day` may open the window: where a denied one ends, or an allowed one begins.
    fn openings_of(&self, day: Date, t: Timestamp, zone: &TimeZone) -> Vec<Timestamp> {
        let ends = self.deny.iter().filter(|span| span.days.hold(day)).filter_map(|span| span.end(day));
        let begins =
            self.allow.iter().filter(|span| span.days.hold(day)).map(|span| day.to_datetime(span.from));
        let mut moments: Vec<Timestamp> = ends
            .chain(begins)
            .flat_map(|at| {
                let at = zone.to_ambiguous_timestamp(at);
                [at.compatible(), at.later()]
            })
            .filter_map(Result::ok)
            .filter(|at| *at > t)
            .collect();
        moments.sort_unstable();
        moments
    }
}

/// As people write it: `not mon-fri 08:00-18:00, sun`, `at any time`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |spans: &[Span]| spans.iter().map(Span::to_string).collect::<Vec<_>>().join(", ");
        match (self.allow.as_slice(), self.deny.as_slice()) {
            ([], []) => return f.write_str("at any time"),
            ([], deny) => write!(f, "not {}", listed(deny))?,
            (allow, []) => f.write_str(&listed(allow))?,
            (allow, deny) => write!(f, "{}, but not {}", listed(allow), listed(deny))?,
        }
        self.zone.as_ref().map_or(Ok(()), |zone| write!(f, " ({})", zone.name()))
    }
}

/// In the form that [`TextForm::parse`] reads.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = format!("{}-{}", self.from.strftime("%H:%M"), self.until.strftime("%H:%M"));
        match (self.days == Days::ALL, self.from == self.until) {
            (true, _) => f.write_str(&hours),
            (false, true) => write!(f, "{}", self.days),
            (false, false) => write!(f, "{} {hours}", self.days),
        }
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = DAYS.iter().enumerate().filter(|(number, _)| self.0 & (1 << number) != 0);
        f.write_str(&held.map(|(_, name)| *name).collect::<Vec<_>>().join(","))
    }
}

impl Span {
    /// Every day from `from` until `until`.
    pub fn daily(from: Time, until: Time) -> Self {
        Self { days: Days::ALL, from, until }
    }

    fn contains(&self, at: DateTime) -> bool {
        let begun = |day: Date| {
            self.days.hold(day)
                && day.to_datetime(self.from) <= at
                && self.end(day).is_none_or(|end| at < end)
        };
        begun(at.date()) || at.date().yesterday().is_ok_and(begun)
    }

    /// The end of the span that begins on `day`; `None` beyond the calendar's end.
    fn end(&self, day: Date) -> Option<DateTime> {
        let last = if self.from < self.until { day } else { day.tomorrow().ok()? };
        Some(last.to_datetime(self.until))
    }
}

impl Days {
    const ALL: Self = Self(0b111_1111);

    fn hold(self, day: Date) -> bool {
        self.0 & bit(day.weekday()) != 0
    }

    /// `mon-fri`, `sat,sun`, `fri-mon`.
    fn parse(text: &str) -> Option<Self> {
        let mut days = 0;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (mut day, last) = (weekday(first)?, weekday(last)?);
            days |= bit(day);
            while day != last {
                day = day.next();
                days |= bit(day);
            }
        }
        Some(Self(days))
    }
}

/// Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn bit(day: Weekday) -> u8 {
    1 << day.to_monday_zero_offset()
}

fn weekday(text: &str) -> Option<Weekday> {
    let number = DAYS.iter().position(|name| text.trim().eq_ignore_ascii_case(name))?;
    Weekday::from_monday_zero_offset(i8::try_from(number).ok()?).ok()
}

impl TextForm for Span {
    const FORMAT: &'static str = "time-span";
    const NOUN: &'static str = "a part of the day or week";
    const EXAMPLE: &'static str = "08:00-18:00";

    fn parse(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        let (days, hours) = match text.split_once(char::is_whitespace) {
            Some((days, hours)) => (Some(days), Some(hours.trim())),
            None if text.starts_with(|c: char| c.is_ascii_digit()) => (None, Some(text)),
            None => (Some(text), None),
        };
        let no_days = || Invalid::value("days are written as mon-fri or sat,sun");
        let days = days.map_or(Some(Days::ALL), Days::parse).ok_or_else(no_days)?;
        match hours {
            None => Ok(Self { days, from: Time::midnight(), until: Time::midnight() }),
            Some(hours) => {
                let (from, until) = hours_of(hours)?;
                Ok(Self { days, from, until })
            }
        }
    }
}

fn hours_of(text: &str) -> Result<(Time, Time), Invalid> {
    let time = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let digits = |t: &str| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
        let valid = digits(hour) && digits(minute);
        valid.then(|| Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()).flatten()
    };
    let invalid = || {
        Invalid::value(
            "two times of day are needed, such as 22:00-04:00 or mon-fri 08:00-18:00; midnight is 00:00",
        )
    };
    let (from, until) = text.split_once('-').ok_or_else(invalid)?;
    match (time(from.trim()), time(until.trim())) {
        (Some(from), Some(until)) if from == until => {
            Err(Invalid::value("it begins and ends at the same time"))
        }
        (Some(from), Some(until)) => Ok((from, until)),
        _ => Err(invalid()),
    }
}

impl Zone {
    fn name(&self) -> &str {
        self.0.iana_name().unwrap_or_default()
    }
}

impl PartialOrd for Zone {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Zone {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(spans: &[&str]) -> Vec<Span> {
        spans.iter().map(|span| Span::parse(span).unwrap()).collect()
    }

    fn deny(denied: &[&str]) -> Window {
        Window { deny: spans(denied), ..Window::default() }
    }

    fn allow(allowed: &[&str]) -> Window {
        Window { allow: spans(allowed), ..Window::default() }
    }

    fn opening(window: &Window, at: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let opening = window.next_opening(at.parse().unwrap(), &zone).unwrap();
        assert!(!window.is_closed(opening, &zone));
        opening.to_string()
    }

    #[test]
    fn a_window_is_closed_from_its_beginning_until_its_end() {
        let office = deny(&["08:00-18:00"]);
        let closed = |at: &str| office.is_closed(at.parse().unwrap(), &TimeZone::UTC);
        assert!(!closed("2026-11-20T07:59:59Z") && closed("2026-11-20T08:00:00Z"));
        assert!(closed("2026-11-20T17:59:59Z") && !closed("2026-11-20T18:00:00Z"));
        assert_eq!(opening(&office, "2026-11-20T09:00:00Z", "UTC"), "2026-11-20T18:00:00Z");
        assert_eq!(opening(&office, "2026-11-20T19:00:00Z", "UTC"), "2026-11-20T19:00:00Z");
        assert_eq!(opening(&office, "2026-07-20T09:00:00Z", "Europe/Stockholm"), "2026-07-20T16:00:00Z");
    }

    #[test]
    fn spans_may_cross_midnight_and_join() {
        let night = deny(&["22:00-04:00", "03:00-06:00"]);
        assert_eq!(opening(&night, "2026-11-20T23:00:00Z", "UTC"), "2026-11-21T06:00:00Z");
        assert_eq!(opening(&night, "2026-11-20T01:00:00Z", "UTC"), "2026-11-20T06:00:00Z");
        assert!(!night.never_opens());
    }

    #[test]
    fn a_day_that_is_denied_whole_never_opens() {
        let shut = deny(&["08:00-18:00", "18:00-08:00"]);
        assert!(shut.never_opens());
        assert_eq!(shut.next_opening("2026-11-20T09:00:00Z".parse().unwrap(), &TimeZone::UTC), None);
        assert!(!Window::default().never_opens());
        assert!(Window { deny: spans(&["mon-sun"]), ..allow(&["02:00-04:00"]) }.never_opens());
    }

    #[test]
    fn an_end_in_a_repeated_hour_comes_after_the_moment_asked_about() {
        // 25 October 2026 in Stockholm: 02:00 to 03:00 comes twice, at 00:00 and at 01:00 UTC.
        let span = deny(&["02:00-02:30"]);
        let at = |t| opening(&span, t, "Europe/Stockholm");
        assert_eq!(at("2026-10-25T00:15:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(at("2026-10-25T01:15:00Z"), "2026-10-25T01:30:00Z");
    }

    #[test]
    fn days_of_the_week_are_denied_and_allowed() {
        // 20 November 2026 is a Friday.
        let weekdays = deny(&["mon-fri 08:00-18:00"]);
        assert_eq!(opening(&weekdays, "2026-11-20T09:00:00Z", "UTC"), "2026-11-20T18:00:00Z");
        assert_eq!(opening(&weekdays, "2026-11-21T09:00:00Z", "UTC"), "2026-11-21T09:00:00Z");
        let weekend = allow(&["sat,sun"]);
        assert_eq!(opening(&weekend, "2026-11-20T09:00:00Z", "UTC"), "2026-11-21T00:00:00Z");
        assert_eq!(opening(&weekend, "2026-11-22T23:59:59Z", "UTC"), "2026-11-22T23:59:59Z");
        assert_eq!(opening(&weekend, "2026-11-23T00:00:00Z", "UTC"), "2026-11-28T00:00:00Z");
        let over_night = allow(&["fri 22:00-04:00"]);
        assert_eq!(opening(&over_night, "2026-11-21T03:59:00Z", "UTC"), "2026-11-21T03:59:00Z");
        assert_eq!(opening(&over_night, "2026-11-21T04:00:00Z", "UTC"), "2026-11-27T22:00:00Z");
    }

    #[test]
    fn what_is_denied_stays_so_within_what_is_allowed() {
        let window = Window { deny: spans(&["02:00-03:00"]), ..allow(&["01:00-05:00"]) };
        assert_eq!(opening(&window, "2026-11-20T02:10:00Z", "UTC"), "2026-11-20T03:00:00Z");
        assert_eq!(opening(&window, "2026-11-20T05:00:00Z", "UTC"), "2026-11-21T01:00:00Z");
    }

    #[test]
    fn spans_are_written_as_they_are_read() {
        for text in ["22:00-04:00", "mon,tue,wed 08:00-18:00", "sat,sun"] {
            assert_eq!(Span::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(deny(&["sun", "08:00-18:00"]).to_string(), "not sun, 08:00-18:00");
        assert_eq!(Window::default().to_string(), "at any time");
    }

    #[test]
    fn a_zone_of_its_own_goes_before_the_fleets() {
        let zone = Some(Zone(TimeZone::get("America/New_York").unwrap()));
        let office = Window { zone, ..deny(&["09:00-17:00"]) };
        assert_eq!(opening(&office, "2026-11-20T15:00:00Z", "Europe/Stockholm"), "2026-11-20T22:00:00Z");
    }

    #[test]
    fn what_is_no_part_of_a_week_is_refused() {
        for good in ["22:00-04:00", "mon-fri 08:00-18:00", "sat,sun", "fri-mon 20:00-06:00", "Sun"] {
            assert!(Span::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "08:00",
            "8-18",
            "08:00-08:00",
            "24:00-01:00",
            "08:60-09:00",
            "+8:00-09:00",
            "",
            "day",
            "mon-",
            "mon 08:00",
        ] {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
    }
}
