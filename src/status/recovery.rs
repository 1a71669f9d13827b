//! How machines and recoveries stand.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    drill::lengths,
    estimate::{self, Estimate},
};
use crate::{
    artifact::{
        recovered::{Part, PartId, RecoveredOutcome, RecoverySubject},
        rehearsed::PartTime,
    },
    inventory::{Machine, Observed, RecoveryHistory, RecoveryRun},
    plan::{facts::Facts, recovery},
    spec::{
        Drill, DrillSubject, Recovery, RecoveryAction,
        names::{BackupName, RecoveryName, VmName},
    },
};

/// How a declared machine stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MachineStatus {
    /// What makes it, by the key of its table.
    pub provision: &'static str,
    /// How it was found.
    pub machine: Observed<Machine>,
    /// The last time that it was made by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<RunStatus>,
    /// Why it can't be looked at here, if so.
    pub cannot_run: Option<String>,
}

/// How a declared recovery stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecoveryStatus {
    /// The last time that it was begun.
    pub last: Option<RunStatus>,
    /// The last time that it came to its end.
    pub last_whole: Option<RunStatus>,
    /// The longest that it may take, seconds.
    pub rto_seconds: Option<u64>,
    /// How long it would take now; `None` while something of it was never measured.
    pub estimate: Option<Estimate>,
    /// Why it can't run here, if so.
    pub cannot_run: Option<String>,
}

/// One time that something was brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunStatus {
    /// When it was begun.
    pub began: Timestamp,
    /// How many parts are done.
    pub done: usize,
    /// Of how many.
    pub parts: usize,
    /// From its beginning to its end, seconds; `None` where it did not come to that.
    pub seconds: Option<u64>,
    /// How long was worked for each purpose, milliseconds.
    pub worked: BTreeMap<Part, u64>,
}

impl RunStatus {
    fn of((began, run): (Timestamp, &RecoveryRun)) -> Self {
        let took = |ended: Timestamp| ended.duration_since(began).unsigned_abs().as_secs();
        Self {
            began,
            done: run.done(),
            parts: run.parts,
            seconds: run.ended_at().filter(|_| run.is_whole()).map(took),
            worked: run.worked(),
        }
    }

    /// Whether it came to its end.
    pub fn is_whole(&self) -> bool {
        self.seconds.is_some()
    }
}

impl RecoveryStatus {
    /// How long the last one took that came to its end, where that is longer than allowed.
    pub fn too_slow(&self) -> Option<(Duration, Duration)> {
        let (took, allowed) = (self.last_whole.as_ref()?.seconds?, self.rto_seconds?);
        (took > allowed).then(|| (Duration::from_secs(took), Duration::from_secs(allowed)))
    }
}

/// Every declared machine.
pub(super) fn machines(facts: &Facts<'_>) -> BTreeMap<VmName, MachineStatus> {
    let machines = facts.spec.vms.iter().map(|(name, vm)| {
        let status = MachineStatus {
            provision: vm.provision.kind(),
            machine: facts.inventory.machines.get(name).cloned().unwrap_or_default(),
            last: facts
                .inventory
                .recovery_history(&RecoverySubject::Vm(name.clone()))
                .last()
                .map(RunStatus::of),
            cannot_run: facts.cannot_run(&format!("vm.{name}")).map(str::to_owned),
        };
        (name.clone(), status)
    });
    machines.collect()
}

/// Every declared recovery.
pub(super) fn recoveries(facts: &Facts<'_>) -> BTreeMap<RecoveryName, RecoveryStatus> {
    let recoveries = facts.spec.recoveries.iter().map(|(name, declared)| {
        let history = facts.inventory.recovery_history(&RecoverySubject::Recovery(name.clone()));
        let status = RecoveryStatus {
            last: history.last().map(RunStatus::of),
            last_whole: history.last_whole().map(RunStatus::of),
            rto_seconds: declared.rto(facts.spec).map(|rto| rto.as_secs()),
            estimate: foreseen(facts, name, declared, &history),
            cannot_run: facts.cannot_run(&format!("recovery.{name}")).map(str::to_owned),
        };
        (name.clone(), status)
    });
    recoveries.collect()
}

/// What a recovery, or the drill of one, took.
struct Measured {
    began: Timestamp,
    /// Milliseconds of each part.
    parts: BTreeMap<PartId, u64>,
    /// Whether it was a drill, which leaves some steps out.
    is_drill: bool,
}

impl Measured {
    /// The newest recovery or drill of one that came to its end.
    fn newest(facts: &Facts<'_>, name: &RecoveryName, history: &RecoveryHistory) -> Option<Self> {
        let run = history.last_whole().map(|(began, run)| {
            // A machine that was there took no time to make, and says nothing of one that is not.
            let counts =
                |id: &PartId, outcome| id.part != Part::Provision || outcome == RecoveredOutcome::Done;
            let told = run.told.iter().filter(|(id, it)| counts(id, it.outcome));
            Self { began, parts: told.map(|(id, it)| (*id, it.milliseconds)).collect(), is_drill: false }
        });
        let drills = facts.spec.drills.iter().filter(|(_, drill)| drill.subject.recovery() == Some(name));
        let passed = drills.filter_map(|(drill, _)| facts.inventory.rehearsal_history(drill, name).passed);
        // Of a step that was since declared otherwise nothing is known.
        let digests = recovery::digests(facts.spec, name);
        let is_of_now = |it: &&PartTime| digests.get(it.step - 1).is_some_and(|digest| *digest == it.digest);
        let drills = passed.map(|passed| {
            let parts = passed.parts.iter().filter(is_of_now);
            let parts = parts.map(|it| (PartId { step: it.step, part: it.part }, it.milliseconds)).collect();
            Self { began: passed.began, parts, is_drill: true }
        });
        drills.chain(run).max_by_key(|measured| measured.began)
    }

    /// How long a step lasted, seconds.
    fn lasted(&self, number: usize, action: &RecoveryAction) -> Option<u64> {
        let made = PartId { step: number + 1, part: Part::Provision };
        if matches!(action, RecoveryAction::Rebuild(_)) && !self.parts.contains_key(&made) {
            return None;
        }
        let parts = self.parts.iter().filter(|(id, _)| id.step == number + 1).map(|(_, it)| *it);
        match parts.reduce(|sum, it| sum + it) {
            Some(milliseconds) => Some(milliseconds.div_ceil(1000)),
            None if self.is_drill && action.restores().is_none() => Some(0),
            None => None,
        }
    }
}

/// How long a recovery would take: its longest way, each machine and program as long as the last time, each restore as long as the
/// drills of its backup foresee, or as the last time where there are none.
fn foreseen(
    facts: &Facts<'_>,
    name: &RecoveryName,
    declared: &Recovery,
    history: &RecoveryHistory,
) -> Option<Estimate> {
    let measured = Measured::newest(facts, name, history)?;
    let waits = declared.waits(facts.spec);
    let mut ends: Vec<Option<(u64, u64)>> = vec![None; declared.steps.len()];
    // A step that waits for none that is left is ready; a recovery without a circle comes to its end.
    while let Some(number) = (0..ends.len())
        .find(|number| ends[*number].is_none() && waits[*number].iter().all(|before| ends[*before].is_some()))
    {
        let before = |of: fn(&(u64, u64)) -> u64| {
            waits[number].iter().filter_map(|before| ends[*before].as_ref().map(of)).max().unwrap_or(0)
        };
        let (now, soon) = lasts(facts, &declared.steps[number].action, number, &measured)?;
        ends[number] = Some((before(|end| end.0) + now, before(|end| end.1) + soon));
    }
    let whole = ends.into_iter().collect::<Option<Vec<_>>>()?;
    Some(Estimate {
        seconds: whole.iter().map(|end| end.0).max()?,
        seconds_in_30_days: whole.iter().map(|end| end.1).max()?,
        measured: measured.began,
    })
}

/// How long a step lasts, now and in 30 days, seconds.
fn lasts(
    facts: &Facts<'_>,
    action: &RecoveryAction,
    number: usize,
    measured: &Measured,
) -> Option<(u64, u64)> {
    if let Some(backup) = action.restores()
        && let Some(estimate) = of_drills(facts, backup)
    {
        return Some((estimate.seconds, estimate.seconds_in_30_days));
    }
    let seconds = measured.lasted(number, action)?;
    Some((seconds, seconds))
}

/// What the newest drill of a backup that passed foresees.
fn of_drills(facts: &Facts<'_>, backup: &BackupName) -> Option<Estimate> {
    let folder = facts.spec.moved.folder(backup);
    let of_backup = |drill: &&Drill| matches!(&drill.subject, DrillSubject::Backup(name) if name == backup);
    let drills = facts.spec.drills.iter().filter(|(_, drill)| of_backup(drill));
    let passed = drills.filter_map(|(name, _)| facts.inventory.drill_history(name, &folder).passed);
    let newest = passed.max_by_key(|passed| passed.began)?;
    estimate::restore(&newest, &lengths(facts, backup), facts.now)
}
