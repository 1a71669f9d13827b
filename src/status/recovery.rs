//! How machines and recoveries stand.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    artifact::recovered::{Part, RecoverySubject},
    inventory::{Machine, Observed, RecoveryRun},
    plan::facts::Facts,
    spec::names::{RecoveryName, VmName},
};

/// How a declared machine stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MachineStatus {
    /// What makes it, by the key of its table.
    pub provision: &'static str,
    /// How it was found.
    pub machine: Observed<Machine>,
    /// Why it can't be looked at here, if so.
    pub cannot_run: Option<String>,
}

/// How a declared recovery stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecoveryStatus {
    /// The last time that it was begun.
    pub last: Option<RunStatus>,
    /// The last time that it came to its end.
    pub last_whole: Option<RunStatus>,
    /// The longest that it may take, seconds.
    pub rto_seconds: Option<u64>,
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
            cannot_run: facts.cannot_run(&format!("recovery.{name}")).map(str::to_owned),
        };
        (name.clone(), status)
    });
    recoveries.collect()
}
