//! Suspensions: what stands still for a while, by the declaration or by a person's word on the host.

use std::fmt;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    names::{BackupName, StoreName},
    values::{Invalid, TextForm},
};

/// Something that stands still for a while: nothing of it is begun by schedules, retention or checks. What a person asks
/// for is done all the same, and objectives are judged as ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspension {
    /// What stands still.
    pub scope: Scope,
    /// Since when; `None` is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Until when.
    pub until: Timestamp,
    /// Why, in a person's words.
    pub reason: String,
}

/// What a suspension is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Every backup but the infra repo's own, which goes on unless it is named.
    Everything,
    /// One backup, in every store.
    Backup(BackupName),
    /// One store: nothing is written into it, read from it or deleted in it. Captures go to the next one.
    Store(StoreName),
}

impl Suspension {
    /// Whether it is in effect at `now`.
    pub fn is_on(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && now < self.until
    }

    /// Whether it is about this backup.
    pub fn covers(&self, backup: &BackupName) -> bool {
        match &self.scope {
            Scope::Everything => !backup.is_infra(),
            Scope::Backup(name) => name == backup,
            Scope::Store(_) => false,
        }
    }

    /// Whether it is about this store.
    pub fn covers_store(&self, store: &StoreName) -> bool {
        matches!(&self.scope, Scope::Store(name) if name == store)
    }
}

/// As resources are named: `backup.agama`, `store.offsite`, and `everything`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Everything => f.write_str("everything"),
            Scope::Backup(name) if name.is_infra() => f.write_str("infra"),
            Scope::Backup(name) => write!(f, "backup.{name}"),
            Scope::Store(name) => write!(f, "store.{name}"),
        }
    }
}

/// For people: `agama is suspended: moved to new hardware`.
impl fmt::Display for Suspension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Everything => write!(f, "everything is suspended: {}", self.reason),
            Scope::Backup(name) => write!(f, "{name} is suspended: {}", self.reason),
            Scope::Store(name) => write!(f, "store {name} is suspended: {}", self.reason),
        }
    }
}

/// A moment as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// With its offset, as in RFC 3339.
    At(Timestamp),
    /// By the clock on the wall, or a date alone: its midnight.
    Civil(DateTime),
}

impl Moment {
    /// The moment, by the clocks of `zone` where it names no offset. A time that a clock skips is the first after it.
    pub fn timestamp(self, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Moment::At(at) => Some(at),
            Moment::Civil(civil) => zone.to_ambiguous_timestamp(civil).compatible().ok(),
        }
    }
}

impl TextForm for Moment {
    const FORMAT: &'static str = "moment";
    const NOUN: &'static str = "a moment";
    const EXAMPLE: &'static str = "2026-12-01 06:00";

    fn parse(text: &str) -> Result<Self, Invalid> {
        let at = text.parse().map(Self::At).ok();
        // A civil time with a zone's name would silently lose the zone.
        let civil = || text.parse().map(Self::Civil).ok().filter(|_| !text.contains('['));
        at.or_else(civil).ok_or_else(|| {
            Invalid::value(
                "a date with or without a time is needed, such as 2026-12-01 or 2026-12-01T06:00:00Z",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspension(scope: Scope) -> Suspension {
        Suspension {
            scope,
            from: Some("2026-12-01T00:00:00Z".parse().unwrap()),
            until: "2026-12-02T00:00:00Z".parse().unwrap(),
            reason: "moved".to_owned(),
        }
    }

    #[test]
    fn a_suspension_is_on_from_its_beginning_until_its_end() {
        let on = |at: &str| suspension(Scope::Everything).is_on(at.parse().unwrap());
        assert!(!on("2026-11-30T23:59:59Z") && on("2026-12-01T00:00:00Z"));
        assert!(on("2026-12-01T23:59:59Z") && !on("2026-12-02T00:00:00Z"));
    }

    #[test]
    fn everything_is_all_but_the_infra_repo_which_must_be_named() {
        let (shop, infra) = ("shop".parse().unwrap(), BackupName::infra());
        assert!(suspension(Scope::Everything).covers(&shop) && !suspension(Scope::Everything).covers(&infra));
        assert!(suspension(Scope::Backup(infra.clone())).covers(&infra));
        assert!(!suspension(Scope::Backup(infra)).covers(&shop));
        assert!(suspension(Scope::Store("vault".parse().unwrap())).covers_store(&"vault".parse().unwrap()));
    }

    #[test]
    fn moments_without_an_offset_go_by_the_fleets_clocks() {
        let stockholm = TimeZone::get("Europe/Stockholm").unwrap();
        let at = |text: &str| Moment::parse(text).unwrap().timestamp(&stockholm).unwrap().to_string();
        assert_eq!(at("2026-12-01"), "2026-11-30T23:00:00Z");
        assert_eq!(at("2026-07-01 06:00"), "2026-07-01T04:00:00Z");
        assert_eq!(at("2026-12-01T06:00:00Z"), "2026-12-01T06:00:00Z");
        assert_eq!(at("2026-12-01T06:00:00+03:00"), "2026-12-01T03:00:00Z");
        for bad in ["", "tomorrow", "2026-13-01", "2026-12-01T06:00:00[Europe/Stockholm]"] {
            assert!(Moment::parse(bad).is_err(), "{bad}");
        }
    }
}
