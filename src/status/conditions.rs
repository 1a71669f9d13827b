//! Conditions: what somebody should know, each with a stable reason, so that alerts can tell a new one from an old.

use serde::Serialize;

use super::{BackupStatus, Declared, ObjectiveState, Overall, Status, StoreState};
use crate::{plan::due::SlotState, spec::names::BackupName};

/// The share of a store's capacity from which on it is worth saying.
const NEARLY_FULL: f64 = 0.9;
/// A clock further off than this keeps everything from expiring.
const CLOCK_TOLERANCE_SECONDS: u64 = 600;

/// Something that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Condition {
    /// What kind of thing.
    pub concern: Concern,
    /// The resource, such as `backup.agama` or `store.offsite`. With `concern` it is the same as long as the
    /// condition lasts.
    pub subject: String,
    /// For people.
    pub message: String,
}

/// What a [`Condition`] is about, gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concern {
    /// The newest revision is not in force.
    BadRevision,
    /// A safety rule withheld deletions.
    Withheld,
    /// Nothing was ever captured.
    NeverSucceeded,
    /// The newest restore point is older than the objective allows.
    ObjectiveBreached,
    /// Artifacts are damaged, or their manifests can't be trusted.
    Damaged,
    /// A store holds what no trusted key signed.
    StoreRefused,
    /// A store could not be seen.
    StoreUnknown,
    /// A store's clock is off.
    ClockApart,
    /// The infra repo can't be asked for a newer revision.
    InfraUnreachable,
    /// A slot has passed and nothing fills it.
    Overdue,
    /// Something declared can't be done here.
    CannotRun,
    /// A store is nearly full.
    NearlyFull,
    /// A store costs nearly what it may.
    NearBudget,
    /// Copies are still to be made.
    CopiesMissing,
    /// Something stands still for a while.
    Suspended,
    /// Artifacts that no declaration covers.
    Orphaned,
}

impl Concern {
    /// What it makes of the whole.
    pub fn overall(self) -> Overall {
        match self {
            Concern::BadRevision => Overall::BadRevision,
            Concern::Withheld => Overall::Withheld,
            Concern::NeverSucceeded
            | Concern::ObjectiveBreached
            | Concern::Damaged
            | Concern::StoreRefused
            | Concern::StoreUnknown
            | Concern::ClockApart
            | Concern::InfraUnreachable
            | Concern::Overdue
            | Concern::CannotRun => Overall::Partial,
            Concern::NearlyFull
            | Concern::NearBudget
            | Concern::CopiesMissing
            | Concern::Suspended
            | Concern::Orphaned => Overall::Healthy,
        }
    }

    /// Its name in JSON, metrics and alerts.
    pub fn as_str(self) -> &'static str {
        match self {
            Concern::BadRevision => "bad-revision",
            Concern::Withheld => "withheld",
            Concern::NeverSucceeded => "never-succeeded",
            Concern::ObjectiveBreached => "objective-breached",
            Concern::Damaged => "damaged",
            Concern::StoreRefused => "store-refused",
            Concern::StoreUnknown => "store-unknown",
            Concern::ClockApart => "clock-apart",
            Concern::InfraUnreachable => "infra-unreachable",
            Concern::Overdue => "overdue",
            Concern::CannotRun => "cannot-run",
            Concern::NearlyFull => "nearly-full",
            Concern::NearBudget => "near-budget",
            Concern::CopiesMissing => "copies-missing",
            Concern::Suspended => "suspended",
            Concern::Orphaned => "orphaned",
        }
    }
}

/// Everything that somebody should know of `status`.
pub(super) fn of(status: &Status) -> Vec<Condition> {
    let mut found = Vec::new();
    revisions(status, &mut found);
    stores(status, &mut found);
    for (name, backup) in &status.backups {
        of_backup(name, backup, &mut found);
    }
    for suspension in &status.suspensions {
        let message = format!("{suspension}; until {}", suspension.until);
        found.push(condition(Concern::Suspended, suspension.scope.to_string(), message));
    }
    for withheld in &status.withheld {
        let message = format!(
            "deletions in {} are held back by rule `{}`: {}",
            withheld.store, withheld.rule, withheld.reason
        );
        found.push(condition(Concern::Withheld, format!("backup.{}", withheld.backup), message));
    }
    for cannot in &status.cannot_run {
        found.push(condition(Concern::CannotRun, cannot.resource.clone(), cannot.why.clone()));
    }
    found.sort();
    found.dedup();
    found
}

fn condition(concern: Concern, subject: String, message: String) -> Condition {
    Condition { concern, subject, message }
}

fn revisions(status: &Status, found: &mut Vec<Condition>) {
    if let Some(silent) = &status.revisions.contact.silent {
        let message = format!(
            "no newer revision can be seen since {:.0}: {}; what was fetched before is in force",
            silent.since, silent.reason
        );
        found.push(condition(Concern::InfraUnreachable, "infra".to_owned(), message));
    }
    if let Some(why) = &status.revisions.refused {
        let newest = status.revisions.newest.as_deref().unwrap_or("the newest revision");
        let message = match &status.revisions.in_force {
            Some(last) => format!("{newest} is not in force, {last} is: {why}"),
            None => format!("{newest} is not in force, and nothing is: {why}"),
        };
        found.push(condition(Concern::BadRevision, "infra".to_owned(), message));
    }
}

fn stores(status: &Status, found: &mut Vec<Condition>) {
    for (name, store) in &status.stores {
        let mut say = |concern, message| found.push(condition(concern, format!("store.{name}"), message));
        match &store.state {
            StoreState::Refused(why) => say(
                Concern::StoreRefused,
                format!("{why}; look into it, then run `backstay adopt {name} --reason WHY`"),
            ),
            StoreState::Unknown(why) => say(Concern::StoreUnknown, why.clone()),
            StoreState::Ready | StoreState::Empty => {}
        }
        if let Some(ahead) = store.clock_ahead_seconds.filter(|s| s.unsigned_abs() > CLOCK_TOLERANCE_SECONDS)
        {
            say(
                Concern::ClockApart,
                format!("its clock is {ahead}s ahead of ours; nothing is deleted meanwhile"),
            );
        }
        if let Some(share) = store.share().filter(|share| *share >= NEARLY_FULL) {
            say(Concern::NearlyFull, format!("{:.0} % of its capacity is used", share * 100.0));
        }
        if let Some(cost) = store.cost.filter(|cost| cost.is_high()) {
            say(Concern::NearBudget, format!("it costs {:.2} a month, of {:.2}", cost.month, cost.limit));
        }
    }
}

fn of_backup(name: &BackupName, backup: &BackupStatus, found: &mut Vec<Condition>) {
    let mut say = |concern, message| found.push(condition(concern, format!("backup.{name}"), message));
    if backup.declared == Declared::Orphaned {
        let message =
            format!("nothing declares it; its artifacts are kept until an [orphan.{name}] lets them go");
        say(Concern::Orphaned, message);
    }
    let unknown = backup.stores.values().any(|store| store.unknown.is_some());
    let wanted = backup.declared == Declared::Declared && backup.cannot_run.is_none();
    if wanted && backup.newest.is_none() && !unknown {
        say(Concern::NeverSucceeded, "it has no restore point".to_owned());
    }
    if let (Some(objective), Some(age)) = (&backup.objective, backup.age_seconds)
        && objective.state == ObjectiveState::Breached
    {
        let message =
            format!("its newest restore point is {age}s old, and {}s are allowed", objective.seconds);
        say(Concern::ObjectiveBreached, message);
    }
    for due in backup.schedules.iter().filter(|d| d.state == SlotState::Due && backup.newest.is_some()) {
        say(Concern::Overdue, format!("its {} is due", due.kind));
    }
    for (store, stored) in &backup.stores {
        let (damaged, unreadable) = (stored.damaged.len(), stored.unreadable.len());
        if damaged + unreadable > 0 {
            say(
                Concern::Damaged,
                format!("{damaged} artifacts in {store} are damaged, {unreadable} can't be read"),
            );
        }
        if stored.missing > 0 {
            say(Concern::CopiesMissing, format!("{store} lacks {} copies", stored.missing));
        }
    }
}
