//! When a provider makes snapshots by itself, and for how long it keeps each.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// Snapshots that a provider makes again and again, and for how long it keeps each of them: `every 6h, keep 2d`, `every day, keep 7d`,
/// `every saturday, keep 4w`, `every month on last, keep 12mo`, `every year in december, keep 3y`. The intervals and units are those of
/// Atlas ("DiskBackupApiPolicyItem" of its Admin API).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotRule {
    frequency: SnapshotFrequency,
    interval: u32,
    keep: SnapshotKeep,
}

/// How often snapshots of a rule are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SnapshotFrequency {
    /// Every so many hours: 1, 2, 4, 6, 8 or 12.
    Hourly,
    /// Every day: 1.
    Daily,
    /// On a day of each week: 1 (Monday) to 7.
    Weekly,
    /// On a day of each month: 1 to 28, or 40, which is its last.
    Monthly,
    /// On the first day of a month of each year: 1 to 12.
    Yearly,
}

/// For how long a snapshot is kept. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotKeep {
    unit: KeepUnit,
    number: u32,
}

/// In what it is counted how long a snapshot is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeepUnit {
    /// `d`
    Days,
    /// `w`
    Weeks,
    /// `mo`
    Months,
    /// `y`
    Years,
}

const HOURS: [u32; 6] = [1, 2, 4, 6, 8, 12];
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
/// What stands for the last day of a month.
const LAST_DAY: u32 = 40;
/// The latest day that every month has.
const DAYS_OF_ALL_MONTHS: u32 = 28;
/// The longest number of units: beyond it nobody means what is written.
const MOST: u32 = 9999;

impl SnapshotRule {
    /// A rule out of the parts that Atlas tells of one.
    ///
    /// # Errors
    /// What of it is out of the bounds that its frequency has.
    pub fn new(
        frequency: SnapshotFrequency,
        interval: u32,
        keep: SnapshotKeep,
    ) -> Result<Self, &'static str> {
        let fits = match frequency {
            SnapshotFrequency::Hourly => HOURS.contains(&interval),
            SnapshotFrequency::Daily => interval == 1,
            SnapshotFrequency::Weekly => (1..=7).contains(&interval),
            SnapshotFrequency::Monthly => {
                (1..=DAYS_OF_ALL_MONTHS).contains(&interval) || interval == LAST_DAY
            }
            SnapshotFrequency::Yearly => (1..=12).contains(&interval),
        };
        if fits {
            Ok(Self { frequency, interval, keep })
        } else {
            Err("its interval is none that its frequency has")
        }
    }

    /// Reads one as it is declared.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let parts = text.strip_prefix("every ").and_then(|rest| rest.split_once(", keep "));
        let (when, keep) = parts.ok_or("write it as \"every day, keep 7d\"")?;
        let keep = SnapshotKeep::parse(keep)?;
        let (frequency, interval) = when_of(when).ok_or(
            "write 1h, 2h, 4h, 6h, 8h, 12h, `day`, a weekday, `month on` 1 to 28 or `last`, or `year in` a month",
        )?;
        Self::new(frequency, interval, keep)
    }

    /// How often.
    pub fn frequency(&self) -> SnapshotFrequency {
        self.frequency
    }

    /// Which hours, day or month, as Atlas counts them.
    pub fn interval(&self) -> u32 {
        self.interval
    }

    /// For how long.
    pub fn keep(&self) -> SnapshotKeep {
        self.keep
    }

    /// Whether what is made by `other` is made by this at least as often, and kept at least as long.
    pub fn covers(&self, other: &Self) -> bool {
        let is_as_often = match (self.frequency, other.frequency) {
            (SnapshotFrequency::Hourly, SnapshotFrequency::Hourly) => {
                other.interval.is_multiple_of(self.interval)
            }
            _ => (self.frequency, self.interval) == (other.frequency, other.interval),
        };
        is_as_often && self.keep.is_no_shorter_than(other.keep)
    }
}

/// The rules by which nothing would be made or kept any more in the way that they have it made and kept.
pub fn lost_snapshots<'m>(
    made: &'m BTreeSet<SnapshotRule>,
    wanted: &BTreeSet<SnapshotRule>,
) -> Vec<&'m SnapshotRule> {
    made.iter().filter(|rule| !wanted.iter().any(|wanted| wanted.covers(rule))).collect()
}

fn when_of(text: &str) -> Option<(SnapshotFrequency, u32)> {
    let place = |names: &[&str], name: &str| {
        let at = names.iter().position(|it| *it == name)?;
        u32::try_from(at + 1).ok()
    };
    if text == "day" {
        return Some((SnapshotFrequency::Daily, 1));
    }
    if let Some(hours) = text.strip_suffix('h') {
        return Some((SnapshotFrequency::Hourly, plain_number(hours)?));
    }
    if let Some(day) = text.strip_prefix("month on ") {
        let day = match day {
            "last" => LAST_DAY,
            day => plain_number(day).filter(|day| *day <= DAYS_OF_ALL_MONTHS)?,
        };
        return Some((SnapshotFrequency::Monthly, day));
    }
    if let Some(month) = text.strip_prefix("year in ") {
        return Some((SnapshotFrequency::Yearly, place(&MONTHS, month)?));
    }
    Some((SnapshotFrequency::Weekly, place(&WEEKDAYS, text)?))
}

fn plain_number(text: &str) -> Option<u32> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| is_plain && (1..=MOST).contains(number))
}

/// As it is declared.
impl fmt::Display for SnapshotRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The constructor lets no index be beyond its names.
        let name = |names: &[&'static str]| {
            let at = usize::try_from(self.interval).unwrap_or_default();
            names.get(at.wrapping_sub(1)).copied().unwrap_or_default()
        };
        match self.frequency {
            SnapshotFrequency::Hourly => write!(f, "every {}h", self.interval)?,
            SnapshotFrequency::Daily => f.write_str("every day")?,
            SnapshotFrequency::Weekly => write!(f, "every {}", name(&WEEKDAYS))?,
            SnapshotFrequency::Monthly if self.interval == LAST_DAY => f.write_str("every month on last")?,
            SnapshotFrequency::Monthly => write!(f, "every month on {}", self.interval)?,
            SnapshotFrequency::Yearly => write!(f, "every year in {}", name(&MONTHS))?,
        }
        write!(f, ", keep {}", self.keep)
    }
}

impl TryFrom<String> for SnapshotRule {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::parse(&text)
    }
}

impl From<SnapshotRule> for String {
    fn from(rule: SnapshotRule) -> String {
        rule.to_string()
    }
}

impl KeepUnit {
    /// The fewest and the most days of one.
    fn days(self) -> (u32, u32) {
        match self {
            KeepUnit::Days => (1, 1),
            KeepUnit::Weeks => (7, 7),
            KeepUnit::Months => (28, 31),
            KeepUnit::Years => (365, 366),
        }
    }
}

impl SnapshotKeep {
    /// So many units; `None` where that is nothing, or more than anybody means.
    pub fn new(number: u32, unit: KeepUnit) -> Option<Self> {
        (1..=MOST).contains(&number).then_some(Self { unit, number })
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let wrong = "how long is written as a number with a unit: d, w, mo or y";
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(wrong)?;
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "d" => KeepUnit::Days,
            "w" => KeepUnit::Weeks,
            "mo" => KeepUnit::Months,
            "y" => KeepUnit::Years,
            _ => return Err(wrong),
        };
        Ok(Self { unit, number: plain_number(number).ok_or(wrong)? })
    }

    /// How many.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Of what.
    pub fn unit(&self) -> KeepUnit {
        self.unit
    }

    /// Whether nothing that is kept for so long as `other` says would go sooner by this. Months and years have more days at times than at
    /// others: where the units differ, the fewest of these stand against the most of those.
    fn is_no_shorter_than(self, other: Self) -> bool {
        if self.unit == other.unit {
            return self.number >= other.number;
        }
        let ((fewest, _), (_, most)) = (self.unit.days(), other.unit.days());
        self.number.saturating_mul(fewest) >= other.number.saturating_mul(most)
    }
}

impl fmt::Display for SnapshotKeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            KeepUnit::Days => "d",
            KeepUnit::Weeks => "w",
            KeepUnit::Months => "mo",
            KeepUnit::Years => "y",
        };
        write!(f, "{}{unit}", self.number)
    }
}

/// A minute of every day, in UTC: `03:30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay {
    hour: u32,
    minute: u32,
}

impl TimeOfDay {
    /// That minute of that hour; `None` where no day has it.
    pub fn new(hour: u32, minute: u32) -> Option<Self> {
        (hour < 24 && minute < 60).then_some(Self { hour, minute })
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let two = |digits: &str| {
            let is_plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u32>().ok().filter(|_| is_plain)
        };
        let parts = text.split_once(':').and_then(|(hour, minute)| Some((two(hour)?, two(minute)?)));
        let time = parts.and_then(|(hour, minute)| Self::new(hour, minute));
        time.ok_or("a time of day is needed, in UTC: 03:30")
    }

    /// 0 to 23.
    pub fn hour(&self) -> u32 {
        self.hour
    }

    /// 0 to 59.
    pub fn minute(&self) -> u32 {
        self.minute
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour, self.minute)
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::parse(&text)
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> String {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> SnapshotRule {
        SnapshotRule::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn rules_read_as_they_are_written() {
        for text in [
            "every 1h, keep 2d",
            "every 12h, keep 2d",
            "every day, keep 7d",
            "every saturday, keep 4w",
            "every month on 28, keep 12mo",
            "every month on last, keep 12mo",
            "every year in december, keep 3y",
        ] {
            assert_eq!(rule(text).to_string(), text);
        }
    }

    #[test]
    fn what_atlas_does_not_have_is_no_rule() {
        for text in [
            "",
            "every day",
            "day, keep 7d",
            "every 3h, keep 2d",
            "every 01h, keep 2d",
            "every +1h, keep 2d",
            "every 2 h, keep 2d",
            "every caturday, keep 4w",
            "every month on 0, keep 1mo",
            "every month on 29, keep 1mo",
            "every month on 40, keep 1mo",
            "every year in 1, keep 1y",
            "every day, keep 0d",
            "every day, keep 7",
            "every day, keep 7h",
            "every day, keep d",
            "every day, keep 99999d",
            "every day, keep 7d ",
        ] {
            assert!(SnapshotRule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_covers_what_is_made_less_often_or_kept_less_long() {
        let covers = |one: &str, other: &str| rule(one).covers(&rule(other));
        assert!(covers("every day, keep 14d", "every day, keep 7d"));
        assert!(covers("every day, keep 1w", "every day, keep 7d"));
        assert!(covers("every 6h, keep 2d", "every 12h, keep 2d"));
        assert!(!covers("every 12h, keep 2d", "every 6h, keep 2d"));
        assert!(!covers("every 4h, keep 2d", "every 6h, keep 2d"), "not at the same hours");
        assert!(!covers("every day, keep 6d", "every day, keep 7d"));
        assert!(
            !covers("every day, keep 360d", "every day, keep 12mo"),
            "a year of months has 366 days at times"
        );
        assert!(covers("every day, keep 372d", "every day, keep 12mo"));
        assert!(!covers("every day, keep 365d", "every day, keep 1y"), "and so has a year");
        assert!(covers("every day, keep 366d", "every day, keep 1y"));
        assert!(
            !covers("every day, keep 1mo", "every day, keep 30d")
                && covers("every day, keep 1mo", "every day, keep 4w")
        );
        assert!(covers("every day, keep 12mo", "every day, keep 12mo"));
        assert!(!covers("every day, keep 7d", "every sunday, keep 7d"));
    }

    #[test]
    fn a_time_of_day_has_two_digits_twice() {
        assert_eq!(TimeOfDay::parse("03:30").map(|time| time.to_string()), Ok("03:30".to_owned()));
        for bad in ["", "3:30", "24:00", "03:60", "03:30:00", "+3:30", "0330"] {
            assert!(TimeOfDay::parse(bad).is_err(), "{bad}");
        }
    }
}
