//! Recoveries: what is to be made and restored, in which order, and what is there already.
//!
//! A machine is made where it is gone, and removed first where a person says so. Data is restored where a machine that it waits
//! for is made anew, or where it waits for none; anything else is left as it is. A recovery that was cut off goes on with what
//! is not done: what was done on a machine that is gone again is done again.

mod course;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    Action, Limits, Plan, StepId,
    action::{Destination, Over, Recover, Work},
    draft::Draft,
    facts::Facts,
    restore::{self, CannotRestore, Point},
};
use crate::{
    artifact::recovered::{Part, PartId, RecoverySubject},
    inventory::{Inventory, Machine, Observed, RecoveryRun},
    spec::{
        RecoveryAction, Spec, Vm,
        names::{BackupName, RecoveryName, StoreName, VmName},
    },
};
use course::Course;

/// A person's request for a recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is brought back.
    pub subject: RecoverySubject,
    /// To which moment its data.
    pub point: Point,
    /// From which store; the first that has everything when `None`.
    pub from: Option<StoreName>,
    /// Machines that are there, and that are removed and made anew.
    pub replace: BTreeSet<VmName>,
    /// Backups that are restored whatever is there.
    pub restore: BTreeSet<BackupName>,
    /// Where it begins.
    pub begin: Begin,
}

/// Where a recovery begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At its beginning.
    Anew,
    /// Where the last time was cut off.
    Resume,
}

/// Why a recovery can't be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotRecover {
    /// Nothing of that name is declared.
    #[error(
        "failed to plan {0}: the revision in force declares no recovery of that name; see `backstay status`"
    )]
    Undeclared(RecoveryName),
    /// No machine of that name is declared.
    #[error(
        "failed to plan {subject}: the revision in force declares no machine {vm}; see `backstay status`"
    )]
    UndeclaredVm {
        /// What was asked for.
        subject: RecoverySubject,
        /// The machine.
        vm: VmName,
    },
    /// A backup that the recovery does not restore.
    #[error(
        "failed to plan {subject}: no step of it restores {backup}; use `backstay restore {backup} --in-place`"
    )]
    NotRestored {
        /// What was asked for.
        subject: RecoverySubject,
        /// The backup.
        backup: BackupName,
    },
    /// Its steps wait for each other.
    #[error("failed to plan {0}: its steps wait for each other; see `backstay validate`")]
    Circle(RecoverySubject),
    /// It can't be done here.
    #[error("failed to plan {subject}: {resource} cannot run here: {why}")]
    CannotRun {
        /// What was asked for.
        subject: RecoverySubject,
        /// What of it.
        resource: String,
        /// Why.
        why: String,
    },
    /// A machine can't be seen, so that nobody knows whether it is gone.
    #[error("failed to plan {subject}: machine {vm} can't be seen: {why}")]
    Unseen {
        /// What was asked for.
        subject: RecoverySubject,
        /// The machine.
        vm: VmName,
        /// Why.
        why: String,
    },
    /// Something of a machine is there, and it does not run.
    #[error(
        "failed to plan {subject}: machine {vm} is there and does not run: {why}; start it, or have what is left removed and \
         made anew with `--replace {vm}`"
    )]
    Broken {
        /// What was asked for.
        subject: RecoverySubject,
        /// The machine.
        vm: VmName,
        /// How it stands.
        why: String,
    },
    /// The machine itself was asked for, and it is there.
    #[error("failed to plan {subject}: it runs; have it removed and made anew with `--replace {vm}`")]
    Runs {
        /// What was asked for.
        subject: RecoverySubject,
        /// The machine.
        vm: VmName,
    },
    /// Nothing was cut off.
    #[error("failed to resume {0}: no earlier time is known that was not ended; leave out `--resume`")]
    NothingToResume(RecoverySubject),
    /// Its data can't be brought back.
    #[error(transparent)]
    CannotRestore(#[from] CannotRestore),
}

/// The plan of a recovery.
pub fn recover(
    spec: &Spec,
    inventory: &Inventory,
    limits: &Limits,
    request: &Request,
    now: Timestamp,
) -> Result<Plan, CannotRecover> {
    let facts = Facts::gather(spec, inventory, limits, now);
    let course = Course::of(spec, &request.subject)?;
    can_run(&facts, &course, &request.subject)?;
    knows(&course, request)?;
    let history = inventory.recovery_history(&request.subject);
    let (run, before) = match (request.begin, history.last()) {
        (Begin::Anew, _) => (now, None),
        (Begin::Resume, Some((run, before))) if !before.is_whole() => (run, Some(before)),
        (Begin::Resume, _) => return Err(CannotRecover::NothingToResume(request.subject.clone())),
    };
    let mut draft = Draft::default();
    Laying { facts: &facts, course: &course, request, run, before }.lay(&mut draft)?;
    Ok(draft.finish(&facts))
}

/// What makes a machine that is gone, for a plan that nobody asked for.
pub(super) fn machine(spec: &Spec, vm: &Vm, run: Timestamp) -> Vec<Recover> {
    let subject = RecoverySubject::Vm(vm.name.clone());
    let Ok(course) = Course::of(spec, &subject) else { return Vec::new() };
    let works = made(vm);
    let parts = works.len();
    let stage = course.steps[0].stage;
    works
        .into_iter()
        .map(|work| Recover { subject: subject.clone(), run, parts, step: 1, stage, work })
        .collect()
}

/// What makes a machine, and configures it where that is declared.
fn made(vm: &Vm) -> Vec<Work> {
    [Work::Provision(vm.name.clone())].into_iter().chain(configured(vm)).collect()
}

fn configured(vm: &Vm) -> Option<Work> {
    (vm.ssh.is_some() || vm.ansible.is_some()).then(|| Work::Configure(vm.name.clone()))
}

fn can_run(facts: &Facts<'_>, course: &Course, subject: &RecoverySubject) -> Result<(), CannotRecover> {
    let resources = course.steps.iter().filter_map(|step| match &step.action {
        RecoveryAction::Rebuild(vm) => Some(format!("vm.{vm}")),
        RecoveryAction::Restore(backup) => Some(format!("backup.{backup}")),
        RecoveryAction::Deploy(..) | RecoveryAction::Run(_) | RecoveryAction::Wait(_) => None,
    });
    let whole = match subject {
        RecoverySubject::Recovery(name) => Some(format!("recovery.{name}")),
        RecoverySubject::Vm(_) => None,
    };
    for resource in whole.into_iter().chain(resources) {
        if let Some(why) = facts.cannot_run(&resource) {
            let (subject, why) = (subject.clone(), why.to_owned());
            return Err(CannotRecover::CannotRun { subject, resource, why });
        }
    }
    Ok(())
}

/// Refuses names that the course does not have.
fn knows(course: &Course, request: &Request) -> Result<(), CannotRecover> {
    let subject = || request.subject.clone();
    let has = |action: &RecoveryAction| course.steps.iter().any(|step| step.action == *action);
    let stranger = request.replace.iter().find(|vm| !has(&RecoveryAction::Rebuild((*vm).clone())));
    if let Some(vm) = stranger {
        return Err(CannotRecover::UndeclaredVm { subject: subject(), vm: vm.clone() });
    }
    let stranger = request.restore.iter().find(|it| !has(&RecoveryAction::Restore((*it).clone())));
    match stranger {
        Some(backup) => Err(CannotRecover::NotRestored { subject: subject(), backup: backup.clone() }),
        None => Ok(()),
    }
}

/// A recovery on its way into a plan.
struct Laying<'a> {
    facts: &'a Facts<'a>,
    course: &'a Course,
    request: &'a Request,
    run: Timestamp,
    /// What was done before it was cut off.
    before: Option<&'a RecoveryRun>,
}

/// What a declared step comes to.
enum Fate {
    /// This is done, in this order.
    Works(Vec<Work>),
    /// Nothing is: why.
    Left(String),
}

impl Laying<'_> {
    fn lay(&self, draft: &mut Draft) -> Result<(), CannotRecover> {
        let remade = self.remade()?;
        let mut fates = BTreeMap::new();
        for number in &self.course.order {
            fates.insert(*number, self.fate(*number, &remade)?);
        }
        let parts = fates.values().map(|fate| match fate {
            Fate::Works(works) => works.len(),
            Fate::Left(_) => 0,
        });
        let parts = parts.sum();
        let mut ends: BTreeMap<usize, BTreeSet<StepId>> = BTreeMap::new();
        for (number, fate) in
            self.course.order.iter().filter_map(|number| Some((*number, fates.remove(number)?)))
        {
            let waits = self.course.steps[number].waits.iter().filter_map(|before| ends.get(before));
            let after: BTreeSet<StepId> = waits.flatten().copied().collect();
            let end = match fate {
                Fate::Works(works) => self.step(number, works, parts, &remade, after, draft),
                Fate::Left(why) => {
                    self.leave(number, why, draft);
                    after
                }
            };
            ends.insert(number, end);
        }
        Ok(())
    }

    /// The machines that this plan makes, by the numbers of their steps.
    fn remade(&self) -> Result<BTreeSet<usize>, CannotRecover> {
        let mut remade = BTreeSet::new();
        for number in &self.course.order {
            if let RecoveryAction::Rebuild(vm) = &self.course.steps[*number].action
                && !self.stands(*number, vm)?
            {
                remade.insert(*number);
            }
        }
        Ok(remade)
    }

    /// Whether a machine is there and stays.
    fn stands(&self, number: usize, vm: &VmName) -> Result<bool, CannotRecover> {
        let (subject, vm) = (self.request.subject.clone(), vm.clone());
        let is_replaced = self.request.replace.contains(&vm);
        // Once it was replaced it is the new one.
        let was_made = self.has_done(number, Part::Provision);
        let half_made = self.before.is_some_and(|run| {
            [Part::Remove, Part::Provision].into_iter().any(|part| run.ended.contains_key(&id(number, part)))
        });
        match self.machine(&vm) {
            Err(why) => Err(CannotRecover::Unseen { subject, vm, why }),
            Ok(Machine::Gone) => Ok(false),
            Ok(Machine::Running(_)) if was_made => Ok(true),
            Ok(Machine::Running(_)) if is_replaced => Ok(false),
            Ok(Machine::Running(_)) if subject == RecoverySubject::Vm(vm.clone()) => {
                Err(CannotRecover::Runs { subject, vm })
            }
            Ok(Machine::Running(_)) => Ok(true),
            Ok(Machine::Broken { .. }) if is_replaced || half_made => Ok(false),
            Ok(Machine::Broken { why }) => Err(CannotRecover::Broken { subject, vm, why: why.clone() }),
        }
    }

    fn machine(&self, vm: &VmName) -> Result<&Machine, String> {
        match self.facts.inventory.machines.get(vm) {
            Some(Observed::Known(machine)) => Ok(machine),
            Some(Observed::Unknown(why)) => Err(why.clone()),
            None => Err("it was not looked at".to_owned()),
        }
    }

    fn has_done(&self, number: usize, part: Part) -> bool {
        self.before.is_some_and(|run| run.has_done(id(number, part)))
    }

    fn fate(&self, number: usize, remade: &BTreeSet<usize>) -> Result<Fate, CannotRecover> {
        Ok(match &self.course.steps[number].action {
            RecoveryAction::Rebuild(vm) => Fate::Works(self.rebuilt(number, vm, remade.contains(&number))),
            RecoveryAction::Restore(backup) => self.restored(number, backup, remade)?,
            RecoveryAction::Deploy(ansible, _) => Fate::Works(vec![Work::Deploy(ansible.clone())]),
            RecoveryAction::Run(run) => {
                let (command, on, within) = (run.command.clone(), run.on.clone(), run.timeout);
                Fate::Works(vec![Work::Run { command, on, within }])
            }
            RecoveryAction::Wait(wait) => {
                Fate::Works(vec![Work::Wait { until: wait.until.clone(), within: wait.timeout }])
            }
        })
    }

    fn rebuilt(&self, number: usize, vm: &VmName, is_remade: bool) -> Vec<Work> {
        let Some(declared) = self.facts.spec.vms.get(vm) else { return Vec::new() };
        let is_there = !matches!(self.machine(vm), Ok(Machine::Gone));
        match is_remade {
            true if is_there => [Work::Remove(vm.clone())].into_iter().chain(made(declared)).collect(),
            true => made(declared),
            // What was done of it counts as a part of the whole.
            false if self.has_done(number, Part::Provision) => made(declared),
            false => configured(declared).into_iter().collect(),
        }
    }

    fn restored(
        &self,
        number: usize,
        backup: &BackupName,
        remade: &BTreeSet<usize>,
    ) -> Result<Fate, CannotRecover> {
        let is_rebuilt = |step: &usize| matches!(self.course.steps[*step].action, RecoveryAction::Rebuild(_));
        let machines: Vec<usize> = self.course.awaited(number).into_iter().filter(is_rebuilt).collect();
        let is_new = |step: &usize| remade.contains(step) || self.has_done(*step, Part::Provision);
        let is_asked = self.request.restore.contains(backup);
        if !machines.is_empty() && !machines.iter().any(is_new) && !is_asked {
            return Ok(Fate::Left(format!(
                "no machine that it waits for is made anew, so that its data is left as it is; `--restore {backup}` restores it \
                 all the same"
            )));
        }
        let request = restore::Request {
            backup: backup.clone(),
            point: self.request.point.clone(),
            from: self.request.from.clone(),
            paths: Vec::new(),
            to: Destination::InPlace,
        };
        let (restore, _) = restore::decide(self.facts, &request)?;
        // What an earlier try of this very run began to load is no data that anybody would miss.
        let was_begun = self.before.is_some_and(|run| run.ended.contains_key(&id(number, Part::Restore)));
        let over = if is_asked || was_begun { Over::Anything } else { Over::Nothing };
        Ok(Fate::Works(vec![Work::Restore { restore, over }]))
    }

    /// Adds what is still to be done, one behind the other; what comes after the step waits for the answer.
    fn step(
        &self,
        number: usize,
        works: Vec<Work>,
        parts: usize,
        remade: &BTreeSet<usize>,
        mut after: BTreeSet<StepId>,
        draft: &mut Draft,
    ) -> BTreeSet<StepId> {
        let is_new = remade.contains(&number) || !remade.is_disjoint(&self.course.awaited(number));
        for work in works {
            if !is_new && self.has_done(number, work.part()) {
                continue;
            }
            let stage = self.course.steps[number].stage;
            let reason = format!("step {} of {}", number + 1, self.request.subject);
            let recover = Recover {
                subject: self.request.subject.clone(),
                run: self.run,
                parts,
                step: number + 1,
                stage,
                work,
            };
            let step = draft.step_after(Action::Recover(Box::new(recover)), reason, after);
            after = BTreeSet::from([step]);
        }
        after
    }

    fn leave(&self, number: usize, why: String, draft: &mut Draft) {
        if let RecoveryAction::Restore(backup) = &self.course.steps[number].action {
            draft.wait_of(backup, format!("restore of {backup}"), why, None);
        }
    }
}

fn id(number: usize, part: Part) -> PartId {
    PartId { step: number + 1, part }
}
