//! What a provider is to keep by itself of the data that it hosts, beside what Backstay makes.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::{SnapshotRule, TimeOfDay};

/// How a provider is to keep the data that it hosts. What is not declared is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Protection {
    /// Whether any second can be brought back, and of how many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_in_time: Option<PointInTime>,
    /// When in the day the provider makes its own backup, where it makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_window: Option<DailyWindow>,
    /// The snapshots that the provider makes by itself: all of them, and no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<BTreeSet<SnapshotRule>>,
    /// When in the day it makes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<TimeOfDay>,
}

impl Protection {
    /// The keys of which no setting is what both this and `other` declare.
    pub fn conflicts(&self, other: &Protection) -> Vec<&'static str> {
        let points = self.point_in_time.zip(other.point_in_time);
        let is_point = points.is_some_and(|(one, two)| !one.holds(two) && !two.holds(one));
        fn differ<T: PartialEq>(one: Option<&T>, two: Option<&T>) -> bool {
            one.zip(two).is_some_and(|(one, two)| one != two)
        }
        let keys = [
            ("point_in_time", is_point),
            ("backup_window", differ(self.backup_window.as_ref(), other.backup_window.as_ref())),
            ("snapshots", differ(self.snapshots.as_ref(), other.snapshots.as_ref())),
            ("snapshot_time", differ(self.snapshot_time.as_ref(), other.snapshot_time.as_ref())),
        ];
        keys.into_iter().filter(|(_, conflicts)| *conflicts).map(|(key, _)| key).collect()
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a provider can bring back any second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointInTime {
    /// It can't.
    Off,
    /// It can.
    On {
        /// Of how many days, at least 1; `None` takes whatever the provider has, or its own default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        days: Option<u32>,
    },
}

/// The longest that AWS keeps any second of a table or an instance, days ("PointInTimeRecoverySpecification" of DynamoDB,
/// "BackupRetentionPeriod" of RDS).
pub const MOST_DAYS: u32 = 35;

impl PointInTime {
    /// Whether a declaration of this holds where `found` is.
    pub fn holds(self, found: PointInTime) -> bool {
        match (self, found) {
            (PointInTime::On { days: None }, PointInTime::On { .. }) => true,
            (declared, found) => declared == found,
        }
    }

    /// Whether going from this to `next` gives up seconds that can be brought back.
    pub fn loses(self, next: PointInTime) -> bool {
        match (self, next) {
            (PointInTime::Off, _) => false,
            (PointInTime::On { .. }, PointInTime::Off) => true,
            (PointInTime::On { days: before }, PointInTime::On { days: after }) => match (before, after) {
                (_, None) => false,
                (Some(before), Some(after)) => after < before,
                // Nobody knows how long it was.
                (None, Some(_)) => true,
            },
        }
    }
}

/// As it is declared: `off`, `on`, `35d`.
impl fmt::Display for PointInTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PointInTime::Off => f.write_str("off"),
            PointInTime::On { days: None } => f.write_str("on"),
            PointInTime::On { days: Some(days) } => write!(f, "{days}d"),
        }
    }
}

/// A stretch of every day, in UTC, in the form of RDS: `03:00-04:00`. At least half an hour; may go over midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DailyWindow(String);

const MINUTES_A_DAY: u32 = 24 * 60;
/// The shortest that RDS takes ("PreferredBackupWindow").
const LEAST_MINUTES: u32 = 30;

impl DailyWindow {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let minute = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let number = |digits: &str, end: u32| {
                let is_plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
                digits.parse::<u32>().ok().filter(|number| is_plain && *number < end)
            };
            Some(number(hours, 24)? * 60 + number(minutes, 60)?)
        };
        let ends = text.split_once('-').and_then(|(from, until)| Some((minute(from)?, minute(until)?)));
        let (from, until) = ends.ok_or("two times of a day are needed, in UTC: 03:00-04:00")?;
        match (until + MINUTES_A_DAY - from) % MINUTES_A_DAY {
            length if length < LEAST_MINUTES => Err("it must last at least half an hour"),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DailyWindow {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::parse(&text)
    }
}

impl From<DailyWindow> for String {
    fn from(window: DailyWindow) -> String {
        window.0
    }
}

impl fmt::Display for DailyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: PointInTime = PointInTime::On { days: None };

    fn days(days: u32) -> PointInTime {
        PointInTime::On { days: Some(days) }
    }

    #[test]
    fn on_holds_for_any_number_of_days_and_a_number_for_itself_only() {
        assert!(ON.holds(days(7)) && ON.holds(ON) && days(7).holds(days(7)));
        assert!(!days(7).holds(days(35)) && !days(7).holds(ON) && !ON.holds(PointInTime::Off));
        assert!(PointInTime::Off.holds(PointInTime::Off) && !PointInTime::Off.holds(ON));
    }

    #[test]
    fn two_declarations_conflict_where_no_setting_is_both() {
        let of = |point_in_time, window: Option<&str>| Protection {
            point_in_time,
            backup_window: window.map(|window| DailyWindow::parse(window).unwrap()),
            ..Protection::default()
        };
        let (three, four) = (Some("03:00-04:00"), Some("04:00-05:00"));
        let week = of(Some(days(7)), three);
        for (other, keys) in [
            (of(None, None), &[][..]),
            (of(Some(ON), three), &[]),
            (of(Some(days(7)), None), &[]),
            (of(Some(days(35)), three), &["point_in_time"]),
            (of(Some(PointInTime::Off), four), &["point_in_time", "backup_window"]),
        ] {
            assert_eq!((week.conflicts(&other), other.conflicts(&week)), (keys.to_vec(), keys.to_vec()));
        }
    }

    #[test]
    fn switching_off_and_shortening_lose_and_lengthening_does_not() {
        assert!(days(35).loses(PointInTime::Off) && ON.loses(PointInTime::Off));
        assert!(days(35).loses(days(7)) && ON.loses(days(35)));
        assert!(!days(7).loses(days(35)) && !days(7).loses(ON) && !PointInTime::Off.loses(days(1)));
    }

    #[test]
    fn a_daily_window_is_two_times_half_an_hour_apart() {
        for good in ["03:00-04:00", "23:45-00:15", "00:00-00:30"] {
            assert_eq!(DailyWindow::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "03:00", "3:00-4:00", "24:00-01:00", "03:00-03:29", "03:00-03:00", "03:00-04:60", "a-b"]
        {
            assert!(DailyWindow::parse(bad).is_err(), "{bad}");
        }
    }
}
