//! Windows: times of day when captures must not begin.

use jiff::{Timestamp, Zoned, civil::Time, tz::TimeZone};

/// When captures other than logs must not begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// Times of day in the fleet's zone, from (included) and until (excluded); `22:00-04:00` spans midnight. Never
    /// from and until the same time.
    pub deny: Vec<(Time, Time)>,
}

impl Window {
    /// Whether captures must not begin at `t`.
    pub fn is_closed(&self, t: Timestamp, zone: &TimeZone) -> bool {
        self.closed_until(zone.to_datetime(t).time()).is_some()
    }

    /// The first moment at or after `t` when captures may begin; `None` when there is none at all.
    pub fn next_opening(&self, t: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut at = t;
        // Each turn leaves one denied span behind; where the clock is set, a span may be entered once more.
        for _ in 0..=2 * self.deny.len() {
            let Some(end) = self.closed_until(zone.to_datetime(at).time()) else { return Some(at) };
            at = next_time_of_day(at, end, zone)?;
        }
        None
    }

    /// Whether there is no time of day when captures may begin.
    pub fn never_opens(&self) -> bool {
        // A span's end is the only kind of moment at which a closed window can open.
        !self.deny.is_empty() && self.deny.iter().all(|(_, until)| self.closed_until(*until).is_some())
    }

    fn closed_until(&self, time: Time) -> Option<Time> {
        let inside = |(from, until): &(Time, Time)| {
            if from < until { *from <= time && time < *until } else { *from <= time || time < *until }
        };
        self.deny.iter().find(|span| inside(span)).map(|(_, until)| *until)
    }
}

/// The first moment after `t` when the clock shows `time`, or would, had it not been set forward past it.
fn next_time_of_day(t: Timestamp, time: Time, zone: &TimeZone) -> Option<Timestamp> {
    let today = Zoned::new(t, zone.clone()).date();
    [today, today.tomorrow().ok()?]
        .into_iter()
        .flat_map(|date| {
            let at = zone.to_ambiguous_timestamp(date.to_datetime(time));
            [at.compatible(), at.later()]
        })
        .filter_map(Result::ok)
        .find(|at| *at > t)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(spans: &[(&str, &str)]) -> Window {
        Window { deny: spans.iter().map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).collect() }
    }

    fn opening(window: &Window, at: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let opening = window.next_opening(at.parse().unwrap(), &zone).unwrap();
        assert!(!window.is_closed(opening, &zone));
        opening.to_string()
    }

    #[test]
    fn a_window_is_closed_from_its_beginning_until_its_end() {
        let office = window(&[("08:00", "18:00")]);
        let closed = |at: &str| office.is_closed(at.parse().unwrap(), &TimeZone::UTC);
        assert!(!closed("2026-11-20T07:59:59Z") && closed("2026-11-20T08:00:00Z"));
        assert!(closed("2026-11-20T17:59:59Z") && !closed("2026-11-20T18:00:00Z"));
        assert_eq!(opening(&office, "2026-11-20T09:00:00Z", "UTC"), "2026-11-20T18:00:00Z");
        assert_eq!(opening(&office, "2026-11-20T19:00:00Z", "UTC"), "2026-11-20T19:00:00Z");
        assert_eq!(opening(&office, "2026-07-20T09:00:00Z", "Europe/Stockholm"), "2026-07-20T16:00:00Z");
    }

    #[test]
    fn spans_may_cross_midnight_and_join() {
        let night = window(&[("22:00", "04:00"), ("03:00", "06:00")]);
        assert_eq!(opening(&night, "2026-11-20T23:00:00Z", "UTC"), "2026-11-21T06:00:00Z");
        assert_eq!(opening(&night, "2026-11-20T01:00:00Z", "UTC"), "2026-11-20T06:00:00Z");
        assert!(!night.never_opens());
    }

    #[test]
    fn a_day_that_is_denied_whole_never_opens() {
        let shut = window(&[("08:00", "18:00"), ("18:00", "08:00")]);
        assert!(shut.never_opens());
        assert_eq!(shut.next_opening("2026-11-20T09:00:00Z".parse().unwrap(), &TimeZone::UTC), None);
        assert!(!Window::default().never_opens());
    }

    #[test]
    fn an_end_in_a_repeated_hour_comes_after_the_moment_asked_about() {
        // 25 October 2026 in Stockholm: 02:00 to 03:00 comes twice, at 00:00 and at 01:00 UTC.
        let span = window(&[("02:00", "02:30")]);
        let at = |t| opening(&span, t, "Europe/Stockholm");
        assert_eq!(at("2026-10-25T00:15:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(at("2026-10-25T01:15:00Z"), "2026-10-25T01:30:00Z");
    }
}
