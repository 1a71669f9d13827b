//! Drills: which are due, from which store, and to which moment.
//!
//! A drill is due as a difference: the latest slot of its schedule has no result of this or a later slot. It touches no
//! source and deletes nothing, so that windows do not hold it back; suspensions do.
//!
//! ```text
//! backup      one backup, into a sandbox
//! rehearsal   a whole recovery, on machines of its own
//! point       from which store, and to which moment
//! ```

mod backup;
mod point;
mod rehearsal;

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Action, Limits, Plan, cannot_run, draft::Draft, facts::Facts, restore::Point, retention::Expiry,
};
use crate::{
    artifact::Depth,
    inventory::{DrillHistory, Inventory, LeftBehind, Machine, Observed, RehearsalHistory},
    spec::{
        self, DrillHow, DrillSubject, Schedule, Spec,
        names::{BackupName, DrillName, StoreName, VmName},
    },
};
use backup::OfBackup;
use point::Wanted;
use rehearsal::OfRecovery;

/// A person's request for a drill now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which.
    pub drill: DrillName,
    /// To which moment; as it is declared when `None`.
    pub point: Option<Point>,
    /// From which store; in rotation when `None`.
    pub from: Option<StoreName>,
    /// What a random point is drawn by.
    pub seed: u64,
    /// How; as it is declared when `None`.
    pub how: Option<DrillHow>,
}

/// Why a drill can't be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotDrill {
    /// Nothing of that name is declared.
    #[error("failed to drill {0}: no [drill.{0}] is declared; see `backstay status` for those that are")]
    Undeclared(DrillName),
    /// It can't be done here.
    #[error("failed to drill {drill}: {why}")]
    CannotRun {
        /// Which.
        drill: DrillName,
        /// Why.
        why: String,
    },
    /// There is nothing to restore, as far as can be seen.
    #[error("failed to drill {drill}: {why}")]
    Nothing {
        /// Which.
        drill: DrillName,
        /// Why, and what to do.
        why: String,
    },
}

/// A drill against its schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrillDueness {
    /// The latest slot that has come.
    pub slot: Option<Timestamp>,
    /// When the next one comes.
    pub next: Option<Timestamp>,
    /// Whether the latest slot has no result.
    pub is_due: bool,
}

/// The plan of drills on demand. They fill no slot, and nothing but what can't be done holds them back.
pub fn manual(
    spec: &Spec,
    inventory: &Inventory,
    limits: &Limits,
    requests: &[Request],
    now: Timestamp,
) -> Result<Plan, CannotDrill> {
    let facts = Facts::gather(spec, inventory, limits, now);
    let mut draft = Draft::default();
    for request in requests {
        let name = &request.drill;
        let drill = spec.drills.get(name).ok_or_else(|| CannotDrill::Undeclared(name.clone()))?;
        let cannot = |why: String| CannotDrill::CannotRun { drill: name.clone(), why };
        if let Some(why) = facts.cannot_run(&format!("drill.{name}")) {
            return Err(cannot(why.to_owned()));
        }
        let subject =
            Subject::of(&facts, name, drill).ok_or_else(|| cannot("it tries nothing".to_owned()))?;
        let how = request.how.unwrap_or(drill.how);
        let wanted = Wanted { point: request.point.clone(), from: request.from.clone(), seed: request.seed };
        let action = subject.action(&facts, how, &wanted, None, None);
        let action = action.map_err(|why| CannotDrill::Nothing { drill: name.clone(), why })?;
        draft.step(action, "asked for");
    }
    Ok(draft.finish(&facts))
}

/// Why machines of drills are removed.
const LEFT: &str = "a drill that was cut off left it";

/// Drills that are due, and what those that were cut off left behind.
pub(super) fn plan(facts: &Facts<'_>, expired: &Expiry<'_>, draft: &mut Draft) {
    for (name, drill) in &facts.spec.drills {
        let due = due(facts, name, drill);
        let Some((subject, slot)) = due else {
            clear_away(facts, name, draft);
            continue;
        };
        let wanted = Wanted { point: None, from: None, seed: seed(name, slot) };
        match subject.action(facts, drill.how, &wanted, Some(expired), Some(slot)) {
            Ok(action) => drop(draft.step(action, format!("slot {slot:.0} has no drill"))),
            Err(why) => {
                match subject.backup() {
                    Some(backup) => draft.wait_of(backup, format!("drill {name}"), why, None),
                    None => draft.wait(format!("drill {name}"), why, None),
                }
                clear_away(facts, name, draft);
            }
        }
    }
    clear_undeclared(facts, draft);
}

/// What a drill that is due and can run here tries, and the slot.
fn due<'a>(
    facts: &Facts<'a>,
    name: &'a DrillName,
    drill: &'a spec::Drill,
) -> Option<(Subject<'a>, Timestamp)> {
    if facts.cannot_run(&format!("drill.{name}")).is_some() {
        return None;
    }
    let subject = Subject::of(facts, name, drill)?;
    let dueness = dueness(facts, drill, subject.filled());
    Some((subject, dueness.slot.filter(|_| dueness.is_due)?))
}

/// What drills left that are not declared any more, or try something else now.
fn clear_undeclared(facts: &Facts<'_>, draft: &mut Draft) {
    for left in &facts.inventory.left_behind {
        let drill = facts.spec.drills.get(&left.drill).map(|drill| &drill.subject);
        if !matches!(drill, Some(DrillSubject::Recovery(_))) {
            clear(left, draft);
        }
    }
}

fn clear(left: &LeftBehind, draft: &mut Draft) {
    let LeftBehind { drill, revision, vms } = left.clone();
    draft.step(Action::ClearAway { drill, vms, revision: Some(revision) }, LEFT);
}

/// Has the machines removed that a drill left. One that is due removes them itself.
fn clear_away(facts: &Facts<'_>, name: &DrillName, draft: &mut Draft) {
    if let Some(left) = facts.inventory.left_behind.iter().find(|left| left.drill == *name) {
        return clear(left, draft);
    }
    let Some(left) = facts.inventory.stand_ins.get(name) else { return };
    let is_there = |machine: &Observed<Machine>| {
        !matches!(machine, Observed::Unknown(_) | Observed::Known(Machine::Gone))
    };
    let vms: Vec<VmName> =
        left.iter().filter(|(_, machine)| is_there(machine)).map(|(vm, _)| vm.clone()).collect();
    if !vms.is_empty() {
        draft.step(Action::ClearAway { drill: name.clone(), vms, revision: None }, LEFT);
    }
}

/// The drill of a backup against its schedule; `None` where it tries no backup that is declared.
pub(crate) fn assess(facts: &Facts<'_>, name: &DrillName) -> Option<(DrillDueness, DrillHistory)> {
    let drill = facts.spec.drills.get(name)?;
    match Subject::of(facts, name, drill)? {
        Subject::Backup(of) => Some((dueness(facts, drill, of.history.slot), of.history)),
        Subject::Recovery(_) => None,
    }
}

/// The drill of a recovery against its schedule; `None` where it tries none.
pub(crate) fn assess_rehearsal(
    facts: &Facts<'_>,
    name: &DrillName,
) -> Option<(DrillDueness, RehearsalHistory)> {
    let drill = facts.spec.drills.get(name)?;
    match Subject::of(facts, name, drill)? {
        Subject::Recovery(of) => Some((dueness(facts, drill, of.history.slot), of.history)),
        Subject::Backup(_) => None,
    }
}

/// When the next drill falls due.
pub(super) fn next_slot(facts: &Facts<'_>) -> Option<Timestamp> {
    facts.spec.drills.values().filter_map(|drill| dueness(facts, drill, None).next).min()
}

/// Drills that no identity of this host can read anything for.
pub(super) fn unreadable(spec: &Spec, limits: &Limits) -> Vec<super::CannotRun> {
    let can_read = |backup: &BackupName| {
        let in_store =
            |store| limits.deepest_check == Depth::Plaintext && cannot_run::can_read(spec, limits, store);
        // A provider's own backup needs no identity.
        let backup = spec.backups.get(backup);
        backup.is_none_or(|backup| backup.source.is_native() || backup.stores.iter().any(in_store))
    };
    let of_drill = |(name, drill): (&DrillName, &spec::Drill)| {
        let backup = tried(spec, name, drill).into_iter().find(|backup| !can_read(backup))?;
        Some(super::CannotRun {
            resource: format!("drill.{name}"),
            why: format!(
                "this controller has no identity that can read what is stored of {backup}; set keys.identity"
            ),
        })
    };
    spec.drills.iter().filter_map(of_drill).collect()
}

/// The backups that a drill restores.
fn tried<'a>(spec: &'a Spec, name: &DrillName, drill: &'a spec::Drill) -> Vec<&'a BackupName> {
    match &drill.subject {
        DrillSubject::Backup(backup) => vec![backup],
        DrillSubject::Recovery(rehearsal) => {
            rehearsal.tried(spec, name).into_iter().map(|backup| &backup.name).collect()
        }
    }
}

/// What a drill tries, with what is known of it.
enum Subject<'a> {
    Backup(OfBackup<'a>),
    Recovery(OfRecovery<'a>),
}

impl<'a> Subject<'a> {
    fn of(facts: &Facts<'a>, name: &'a DrillName, drill: &'a spec::Drill) -> Option<Self> {
        match &drill.subject {
            DrillSubject::Backup(backup) => OfBackup::of(facts, name, drill, backup).map(Subject::Backup),
            DrillSubject::Recovery(rehearsal) => {
                Some(Subject::Recovery(OfRecovery::of(facts, name, drill, rehearsal)))
            }
        }
    }

    fn filled(&self) -> Option<Timestamp> {
        match self {
            Subject::Backup(of) => of.history.slot,
            Subject::Recovery(of) => of.history.slot,
        }
    }

    fn backup(&self) -> Option<&BackupName> {
        match self {
            Subject::Backup(of) => Some(&of.backup.name),
            Subject::Recovery(_) => None,
        }
    }

    /// What is done; or why it can't be.
    fn action(
        &self,
        facts: &Facts<'_>,
        how: DrillHow,
        wanted: &Wanted,
        expired: Option<&Expiry<'_>>,
        slot: Option<Timestamp>,
    ) -> Result<Action, String> {
        match self {
            Subject::Backup(of) => of.decide(facts, how, wanted, expired, slot),
            Subject::Recovery(_) if how == DrillHow::ByHand => {
                Err("a recovery is tried by Backstay itself; drill its backups by hand".to_owned())
            }
            Subject::Recovery(of) => of.decide(facts, wanted, expired, slot),
        }
    }
}

fn dueness(facts: &Facts<'_>, drill: &spec::Drill, filled: Option<Timestamp>) -> DrillDueness {
    let zone = facts.spec.fleet.time_zone.clone();
    let schedule = Schedule::without_jitter(drill.schedule.clone(), zone);
    let slot = schedule.latest_due(facts.now);
    let is_filled = |slot: Timestamp| filled.is_some_and(|filled| filled >= slot);
    DrillDueness {
        slot,
        next: schedule.next_due_after(facts.now),
        is_due: slot.is_some_and(|slot| !is_filled(slot)),
    }
}

/// What a scheduled drill draws by: another for every slot, and the same however often it is planned.
fn seed(drill: &DrillName, slot: Timestamp) -> u64 {
    let digest = Sha256::digest(format!("{drill} {}", slot.as_second()));
    digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}
