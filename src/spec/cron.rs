//! Cron expressions in five fields, as a set of days times a set of times of day.
//!
//! The syntax is that of crontab(5): `*`, numbers, names of months and weekdays, ranges, steps and lists. When both
//! the day of the month and the day of the week are given (neither begins with `*`), either suffices. The extensions
//! of other schedulers (`L`, `W`, `#`, `?`, `@daily`, seconds, years) are refused.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions, parse_crontab_with};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// A text that is no cron expression, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a cron expression: {reason}", text.escape_debug())]
pub struct InvalidCron {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A cron expression, checked and compiled; cheap to clone. It knows no time zone: days and times are civil ones.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron(Arc<Compiled>);

struct Compiled {
    text: String,
    /// In UTC, whose dates stand for civil ones.
    crontab: Crontab,
    /// Minutes since midnight, ascending, never empty.
    times: Vec<u16>,
    /// Days after which the pattern of days begins again.
    cycle_days: i64,
}

impl Cron {
    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Minutes since midnight of each run on a day that matches; ascending, never empty.
    pub fn times(&self) -> &[u16] {
        &self.0.times
    }

    /// Whether the expression names moments of `date`.
    pub fn matches_day(&self, date: Date) -> bool {
        utc(date, self.0.times[0]).is_some_and(|at| self.0.crontab.matches(at).unwrap_or(false))
    }

    /// The longest time from one moment to the next, in civil time: the hour that a zone's clock repeats or skips is
    /// not counted.
    pub fn longest_gap(&self) -> Duration {
        let minutes = |n: i64| Duration::from_secs(n.unsigned_abs() * 60);
        let (first, last) = (i64::from(self.times()[0]), i64::from(self.times()[self.times().len() - 1]));
        let within =
            self.times().windows(2).map(|pair| i64::from(pair[1]) - i64::from(pair[0])).max().unwrap_or(0);
        minutes(within.max(self.longest_pause_days() * MINUTES_A_DAY - last + first))
    }

    /// The most days from one matching day to the next.
    fn longest_pause_days(&self) -> i64 {
        let mut date = LEAP_CYCLE_START;
        let mut previous: Option<i64> = None;
        let mut longest = 0;
        for day in 0..=2 * self.0.cycle_days {
            if self.matches_day(date) {
                longest = longest.max(previous.map_or(0, |p| day - p));
                previous = Some(day);
                if day >= self.0.cycle_days {
                    break;
                }
            }
            let Ok(next) = date.tomorrow() else { break };
            date = next;
        }
        longest.max(1)
    }
}

const MINUTES_A_DAY: i64 = 24 * 60;
const LEAP_CYCLE_START: Date = jiff::civil::date(2024, 1, 1);
const LEAP_CYCLE_DAYS: i64 = 4 * 365 + 1;

fn utc(date: Date, minute: u16) -> Option<cronexpr::MakeTimestamp> {
    let at = date.at((minute / 60) as i8, (minute % 60) as i8, 0, 0);
    TimeZone::UTC.to_timestamp(at).ok().map(cronexpr::MakeTimestamp)
}

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, InvalidCron> {
        let invalid = |reason: String| InvalidCron { text: text.to_owned(), reason };
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let &[minute, hour, ..] = fields.as_slice() else {
            return Err(invalid(
                "it needs five fields: minute, hour, day of month, month, day of week".into(),
            ));
        };
        if fields.len() != 5 {
            let found = fields.len();
            return Err(invalid(format!(
                "it needs five fields (minute, hour, day of month, month, day of week), not {found}"
            )));
        }
        if let Some(field) = fields.iter().find(|f| !is_plain(f)) {
            return Err(invalid(format!(
                "`{}` is not understood: use `*`, numbers, names, ranges, steps and lists",
                field.escape_debug()
            )));
        }
        let crontab = compile(&fields.join(" ")).map_err(&invalid)?;
        let times = times_of_day(minute, hour).map_err(&invalid)?;
        let start = utc(LEAP_CYCLE_START, 0).map(|t| cronexpr::MakeTimestamp(before(t.0)));
        if times.is_empty() || start.is_none_or(|start| crontab.find_next(start).is_err()) {
            return Err(invalid("there is no such day".into()));
        }
        let weekly = fields[2..4].iter().all(|field| *field == "*");
        let cycle_days = if weekly { 7 } else { LEAP_CYCLE_DAYS };
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), crontab, times, cycle_days })))
    }
}

fn before(at: Timestamp) -> Timestamp {
    at.checked_sub(jiff::SignedDuration::from_secs(1)).unwrap_or(at)
}

/// Whether a field uses crontab(5)'s syntax only: every part is `*`, a number, or a name of three letters.
fn is_plain(field: &str) -> bool {
    field.split([',', '/', '-']).all(|part| {
        part == "*"
            || (!part.is_empty() && part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit()))
            || (part.len() == 3 && part.bytes().all(|b| b.is_ascii_alphabetic()))
    })
}

fn compile(fields: &str) -> Result<Crontab, String> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    // The error's later lines draw the place in the text, which the diagnostic shows better.
    parse_crontab_with(fields, options).map_err(|e| {
        let text = e.to_string();
        text.lines().last().unwrap_or_default().trim_start_matches([' ', '^']).to_owned()
    })
}

fn times_of_day(minute: &str, hour: &str) -> Result<Vec<u16>, String> {
    let hours = compile(&format!("* {hour} * * *"))?;
    let minutes = compile(&format!("{minute} * * * *"))?;
    let holds = |crontab: &Crontab, at: u16| {
        utc(LEAP_CYCLE_START, at).is_some_and(|at| crontab.matches(at).unwrap_or(false))
    };
    let minutes: Vec<u16> = (0..60).filter(|m| holds(&minutes, *m)).collect();
    let hours = (0..24).filter(|h| holds(&hours, h * 60));
    Ok(hours.flat_map(|h| minutes.iter().map(move |m| h * 60 + m)).collect())
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.as_str())
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Cron {}

impl PartialOrd for Cron {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cron {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl TryFrom<String> for Cron {
    type Error = InvalidCron;

    fn try_from(text: String) -> Result<Self, InvalidCron> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> String {
        cron.0.text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crontab_5_allows_is_accepted() {
        for good in ["* * * * *", "0 1 * * *", "*/15 9-17 1,15 JAN-MAR mon-fri", "5 4 * * 7", "0 0 29 2 *"] {
            assert!(good.parse::<Cron>().is_ok(), "{good}");
        }
    }

    #[test]
    fn extensions_and_days_that_never_come_are_refused_with_a_reason() {
        let bad =
            ["", "@daily", "0 1 * *", "0 1 * * * *", "0 1 L * *", "0 1 15W * *", "0 1 ? * *", "61 * * * *"];
        for bad in
            bad.into_iter().chain(["0 0 30 2 *", "0 0 * * 5L", "H * * * *", "ä * * * *", "1 2 3 4 foo"])
        {
            let error = bad.parse::<Cron>().unwrap_err();
            assert!(!error.reason.is_empty(), "{bad}");
            assert!(!error.reason.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_longest_gap_counts_days_and_times() {
        let hours = |cron: &str| cron.parse::<Cron>().unwrap().longest_gap().as_secs_f64() / 3600.0;
        assert_eq!(hours("*/15 * * * *"), 0.25);
        assert_eq!(hours("0 1 * * *"), 24.0);
        assert_eq!(hours("0 8,18 * * *"), 14.0);
        assert_eq!(hours("0 3 * * 0"), 7.0 * 24.0);
        assert_eq!(hours("0 3 * * 1-5"), 3.0 * 24.0);
        assert_eq!(hours("0 3 31 * *"), 61.0 * 24.0);
        assert_eq!(hours("0 3 29 2 *"), 1461.0 * 24.0);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[*0-9/,\\-LW#?HA-Za-zä ]{0,40}") {
            let _ = text.parse::<Cron>();
        }
    }
}
