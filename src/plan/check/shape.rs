//! Whether a plan is one at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    inventory::{Inventory, Machine, Observed},
    plan::{
        Action, Plan, Step, StepId,
        action::{KeptBy, Protect, Remains, Renew, Restore, Work},
    },
    spec::{
        NewPlace, Spec,
        names::{BackupName, FleetName, StoreName, VmName},
    },
};

/// Why a plan is refused whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is another fleet's.
    #[error("failed to accept the plan: it is for fleet {found}, and this is {expected}; make a new plan")]
    OtherFleet {
        /// Whose plan it is.
        found: FleetName,
        /// Whose it should be.
        expected: FleetName,
    },
    /// Two steps have one number.
    #[error("failed to accept the plan: two steps have the number {}; make a new plan", .0.0)]
    DuplicateStep(StepId),
    /// A step waits for one that does not stand before it: there is none, or they wait for each other.
    #[error("failed to accept the plan: step {} waits for step {}, which does not stand before it; make a new plan", step.0, after.0)]
    WaitsForLater {
        /// The step.
        step: StepId,
        /// What it waits for.
        after: StepId,
    },
    /// Parts of a drill wait for what does not stand before them.
    #[error("failed to accept the plan: parts of step {} wait for each other; make a new plan", .0.0)]
    PartsWait(StepId),
    /// A step names a backup that is neither declared nor found.
    #[error("failed to accept the plan: step {} names the unknown backup {backup}; make a new plan", step.0)]
    UnknownBackup {
        /// The step.
        step: StepId,
        /// What it names.
        backup: BackupName,
    },
    /// A step names a store that is neither declared nor found, or that the backup does not use.
    #[error("failed to accept the plan: step {} names store {store}, which is not one of its backup's; make a new plan", step.0)]
    UnknownStore {
        /// The step.
        step: StepId,
        /// What it names.
        store: StoreName,
    },
    /// A step has nothing to do.
    #[error("failed to accept the plan: step {} names no artifact; make a new plan", .0.0)]
    EmptyStep(StepId),
    /// A step names a machine that is not declared.
    #[error("failed to accept the plan: step {} names the unknown machine {vm}; make a new plan", step.0)]
    UnknownMachine {
        /// The step.
        step: StepId,
        /// What it names.
        vm: VmName,
    },
    /// A machine is made that is there, or of which nobody knows whether it is.
    #[error("failed to accept the plan: step {} makes machine {vm}, which is there or can't be seen; make a new plan", step.0)]
    MachineIsThere {
        /// The step.
        step: StepId,
        /// The machine.
        vm: VmName,
    },
    /// A machine is removed, and not made anew.
    #[error("failed to accept the plan: step {} removes machine {vm} for good; make a new plan", step.0)]
    MachineIsLost {
        /// The step.
        step: StepId,
        /// The machine.
        vm: VmName,
    },
    /// What a provider is told to make is none of its backups, or what would be erased is the original.
    #[error("failed to accept the plan: step {} restores {backup} to {to}, and its provider may not; make a new plan", step.0)]
    NotRestorable {
        /// The step.
        step: StepId,
        /// The backup.
        backup: BackupName,
        /// What it was to be restored to.
        to: NewPlace,
    },
    /// A provider is set otherwise than declared, or nobody knows how it is set.
    #[error("failed to accept the plan: step {} sets the provider of {backup} otherwise than declared, or unseen; make a new plan", step.0)]
    NotSoDeclared {
        /// The step.
        step: StepId,
        /// The backup.
        backup: BackupName,
    },
    /// A push to a mirror that is not declared.
    #[error("failed to accept the plan: step {} pushes to a mirror that is not declared; make a new plan", .0.0)]
    UnknownMirror(StepId),
}

pub(super) fn check(plan: &Plan, spec: &Spec, inventory: &Inventory) -> Result<(), Malformed> {
    if plan.fleet != spec.fleet.name {
        let (found, expected) = (plan.fleet.clone(), spec.fleet.name.clone());
        return Err(Malformed::OtherFleet { found, expected });
    }
    let mut before = BTreeSet::new();
    for step in &plan.steps {
        if let Some(after) = step.after.iter().find(|id| !before.contains(*id)) {
            return Err(Malformed::WaitsForLater { step: step.id, after: *after });
        }
        if !before.insert(step.id) {
            return Err(Malformed::DuplicateStep(step.id));
        }
        names(step, spec, inventory)?;
    }
    machines(plan, inventory)
}

/// A machine is made only where it is known to be gone or was removed before, and removed only to be made anew.
fn machines(plan: &Plan, inventory: &Inventory) -> Result<(), Malformed> {
    let of_machines = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Recover(recover) => Some((step, &recover.work)),
        _ => None,
    });
    let mut removed: BTreeMap<&VmName, StepId> = BTreeMap::new();
    for (step, work) in of_machines {
        match work {
            Work::Remove { vm, remains } => {
                let runs =
                    matches!(inventory.machines.get(vm).and_then(Observed::known), Some(Machine::Running(_)));
                if runs && *remains == Remains::HalfMade {
                    return Err(Malformed::MachineIsThere { step: step.id, vm: vm.clone() });
                }
                removed.insert(vm, step.id);
            }
            Work::Provision(vm) => {
                let is_gone = inventory.machines.get(vm).and_then(Observed::known) == Some(&Machine::Gone);
                let before = removed.remove(vm);
                if !is_gone && !before.is_some_and(|before| step.after.contains(&before)) {
                    return Err(Malformed::MachineIsThere { step: step.id, vm: vm.clone() });
                }
            }
            _ => {}
        }
    }
    match removed.into_iter().next() {
        Some((vm, step)) => Err(Malformed::MachineIsLost { step, vm: vm.clone() }),
        None => Ok(()),
    }
}

fn names(step: &Step, spec: &Spec, inventory: &Inventory) -> Result<(), Malformed> {
    let known = Names { step: step.id, spec, inventory };
    match &step.action {
        Action::Arm(schedule) => known.declared(&schedule.backup),
        // What is disarmed was declared once.
        Action::Disarm(_) => Ok(()),
        Action::Capture(capture) => known.writes(&capture.backup, &capture.store),
        Action::Copy { backup, from, to, .. } => {
            known.writes(backup, to)?;
            known.store(from)
        }
        Action::Repair { backup, store, from, .. } => {
            known.writes(backup, store)?;
            known.store(from)
        }
        Action::Delete { backup, store, .. } | Action::Verify { backup, store, .. } => {
            known.backup(backup)?;
            known.store(store)
        }
        Action::CleanUp { store, .. } | Action::Settle { store, .. } => known.store(store),
        // It touches no store, so that this may be withdrawn by now, like the backup and the drill.
        Action::DeleteDrillCopy { .. } => Ok(()),
        Action::RecordUnreferenced { backup, store, captures }
        | Action::Sweep { backup, store, captures } => {
            known.backup(backup)?;
            known.store(store)?;
            known.some(captures)
        }
        Action::Push { mirror } => known.mirror(mirror),
        Action::Protect(protect) => known.protection(protect),
        // It makes something new, and touches no store.
        Action::Rewind { backup, .. } => known.declared(backup),
        Action::Restore(restore) => {
            known.backup(&restore.backup)?;
            known.store(&restore.store)?;
            known.some(&restore.artifacts)
        }
        // It writes nothing but its own sandbox.
        Action::Drill(drill) => {
            known.declared(&drill.backup)?;
            known.store(&drill.store)?;
            known.some(&drill.artifacts)
        }
        Action::Rehearse(rehearse) => {
            let mut numbered = rehearse.parts.iter().enumerate();
            if numbered.any(|(number, part)| part.after.iter().any(|before| *before >= number)) {
                return Err(Malformed::PartsWait(step.id));
            }
            rehearse.restores().try_for_each(|restore| known.restored(restore))?;
            rehearse.machines().try_for_each(|vm| known.machine(vm))
        }
        // What is previewed is no machine, and bears a mark that nothing else has.
        Action::ClearPreviews { .. } => Ok(()),
        // What an earlier revision declares need not be declared any more.
        Action::ClearAway { revision: Some(_), .. } => Ok(()),
        Action::ClearAway { vms, revision: None, .. } => vms.iter().try_for_each(|vm| known.machine(vm)),
        Action::Recover(recover) => match &recover.work {
            Work::Restore { restore, .. } => known.restored(restore),
            Work::Renew(renew) => known.renewed(renew),
            work => work.machine().map_or(Ok(()), |vm| known.machine(vm)),
        },
    }
}

struct Names<'a> {
    step: StepId,
    spec: &'a Spec,
    inventory: &'a Inventory,
}

impl Names<'_> {
    fn restored(&self, restore: &Restore) -> Result<(), Malformed> {
        self.declared(&restore.backup)?;
        self.store(&restore.store)?;
        self.some(&restore.artifacts)
    }

    /// A provider is told to make, or to erase, only what it may of a backup that it keeps.
    fn renewed(&self, renew: &Renew) -> Result<(), Malformed> {
        let Renew { backup, from, to, .. } = renew;
        self.declared(backup)?;
        let source = self.spec.backups.get(backup).map(|backup| &backup.source);
        if source.is_none_or(|source| !source.is_native() || to.refusal(source).is_some()) {
            let (step, backup, to) = (self.step, backup.clone(), to.clone());
            return Err(Malformed::NotRestorable { step, backup, to });
        }
        match from {
            KeptBy::Artifact(restore) => self.restored(restore),
            KeptBy::Moment(_) => Ok(()),
        }
    }

    fn declared(&self, backup: &BackupName) -> Result<(), Malformed> {
        match self.stores(backup) {
            Some(_) => Ok(()),
            None => Err(Malformed::UnknownBackup { step: self.step, backup: backup.clone() }),
        }
    }

    fn backup(&self, backup: &BackupName) -> Result<(), Malformed> {
        let mut known = self.inventory.stores.values().filter_map(|store| store.known());
        if known.any(|store| store.of(backup, &self.spec.moved).is_some()) {
            Ok(())
        } else {
            self.declared(backup)
        }
    }

    fn store(&self, store: &StoreName) -> Result<(), Malformed> {
        match self.spec.stores.contains_key(store) {
            true => Ok(()),
            false => Err(Malformed::UnknownStore { step: self.step, store: store.clone() }),
        }
    }

    /// What is added to a store must belong there by the declaration.
    fn writes(&self, backup: &BackupName, store: &StoreName) -> Result<(), Malformed> {
        self.declared(backup)?;
        match self.stores(backup).is_some_and(|stores| stores.contains(store)) {
            true => self.store(store),
            false => Err(Malformed::UnknownStore { step: self.step, store: store.clone() }),
        }
    }

    fn stores(&self, backup: &BackupName) -> Option<&[StoreName]> {
        match backup.is_infra() {
            true => self.spec.infra.as_ref().map(|infra| infra.stores.as_slice()),
            false => self.spec.backups.get(backup).map(|backup| backup.stores.as_slice()),
        }
    }

    fn machine(&self, vm: &VmName) -> Result<(), Malformed> {
        match self.spec.vms.contains_key(vm) {
            true => Ok(()),
            false => Err(Malformed::UnknownMachine { step: self.step, vm: vm.clone() }),
        }
    }

    fn some<T>(&self, things: &[T]) -> Result<(), Malformed> {
        if things.is_empty() { Err(Malformed::EmptyStep(self.step)) } else { Ok(()) }
    }

    /// What a provider keeps is changed only as a declaration says in so many words, and only where it was seen how it is set:
    /// switching off takes away every second that could be brought back.
    fn protection(&self, protect: &Protect) -> Result<(), Malformed> {
        let Protect { backup, from, snapshots_from, to } = protect;
        self.declared(backup)?;
        let declared = self.spec.backups.get(backup).and_then(|backup| backup.source.protection());
        let is_declared = declared.is_some_and(|declared| {
            (to.point_in_time.is_none() || to.point_in_time == declared.point_in_time)
                && (to.backup_window.is_none() || to.backup_window == declared.backup_window)
                && (to.snapshots.is_none() || to.snapshots == declared.snapshots)
                && (to.snapshot_time.is_none() || to.snapshot_time == declared.snapshot_time)
        });
        let is_as_seen = self.inventory.provided(backup).known().is_some_and(|provided| {
            let seen = &provided.settings;
            (to.point_in_time.is_none() || seen.point_in_time == *from)
                && (to.snapshots.is_none() || seen.snapshots == *snapshots_from)
        });
        match is_declared && !to.is_empty() && is_as_seen {
            true => Ok(()),
            false => Err(Malformed::NotSoDeclared { step: self.step, backup: backup.clone() }),
        }
    }

    fn mirror(&self, mirror: &str) -> Result<(), Malformed> {
        let declared =
            self.spec.infra.as_ref().is_some_and(|infra| infra.mirrors.iter().any(|m| m == mirror));
        if declared { Ok(()) } else { Err(Malformed::UnknownMirror(self.step)) }
    }
}
