//! Recoveries: what is to be made and restored, in which order, and what is there already.
//!
//! A machine is made where it is gone, and removed first where a person says so by its name, or where this very recovery left it half
//! made. Data is restored where a machine that it waits for is made anew, or where it waits for none, and never over data that is
//! there unless a person says so by the backup's name; anywhere else it is restored only where there is none. A recovery that was cut
//! off goes on with what is not done, on the terms of its beginning.

mod course;
mod renewed;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    Action, Limits, Plan, StepId,
    action::{Destination, Existing, Recover, Remains, Work},
    draft::Draft,
    facts::Facts,
    restore::{self, CannotRestore, Point},
};
use crate::{
    artifact::{
        ArtifactId,
        recovered::{Part, PartId, RecoveredOutcome, RecoverySubject, Terms},
    },
    inventory::{Inventory, Machine, Observed, RecoveryHistory, RecoveryRun},
    spec::{
        NewPlace, RecoveryAction, Spec, SwitchStep, Vm,
        names::{BackupName, RecoveryName, VmName},
    },
};
pub(super) use course::Course;
use course::CourseStep;

/// A person's request for a recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is brought back.
    pub subject: RecoverySubject,
    /// On which terms.
    pub terms: Terms,
    /// Where it begins.
    pub begin: Begin,
}

/// Where a recovery begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At its beginning; refused where the last time was cut off.
    First,
    /// At its beginning, whatever was done the last time.
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
    /// What is there and was to be restored over is what a provider makes, which goes over nothing.
    #[error(
        "failed to plan {subject}: {backup} is restored to {to}, which goes over nothing that is there; leave out `--restore {backup}`, \
         and delete {to} yourself, or name another place in the step"
    )]
    OverNothing {
        /// What was asked for.
        subject: RecoverySubject,
        /// The backup.
        backup: BackupName,
        /// What it is restored to.
        to: NewPlace,
    },
    /// The restore point is none that the provider keeps.
    #[error(
        "failed to plan {subject}: its restore point of {backup}, {artifact}, is no backup of its provider; restore it by itself: \
         `backstay restore {backup} --at {artifact} --to {}`, and name a moment that has one with `--at`", String::from(.to.clone())
    )]
    NotNative {
        /// What was asked for.
        subject: RecoverySubject,
        /// The backup.
        backup: BackupName,
        /// The restore point.
        artifact: ArtifactId,
        /// What it was to be restored to.
        to: NewPlace,
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
    /// The last time was cut off.
    #[error(
        "failed to plan {subject}: the one of {began:.0} was cut off after {done} of {parts} parts; go on with `--resume`, or begin at \
         its beginning with `--anew`"
    )]
    CutOff {
        /// What was asked for.
        subject: RecoverySubject,
        /// When that was begun.
        began: Timestamp,
        /// How much of it is done.
        done: usize,
        /// Of how much.
        parts: usize,
    },
    /// Other terms than those that it was begun on.
    #[error(
        "failed to resume {0}: it was begun with another `--at` or `--from`, which hold until it is whole; leave them out, or begin \
         at its beginning with `--anew`"
    )]
    OtherTerms(RecoverySubject),
    /// Something was begun of an artifact that can't be taken now, and isn't known to be lost either.
    #[error(
        "failed to resume {subject}: {to} was begun of {artifact}, and nothing else is taken in its place: {why}; go on with `--resume` \
         once it can be seen, or begin at its beginning with `--anew`"
    )]
    BegunOf {
        /// What was asked for.
        subject: RecoverySubject,
        /// Of what it was begun.
        artifact: ArtifactId,
        /// What was begun.
        to: NewPlace,
        /// Why it can't be taken.
        why: Box<CannotRestore>,
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
    let begun = begun(request, &history, now)?;
    let mut draft = Draft::default();
    Laying { facts: &facts, course: &course, request, begun }.lay(&mut draft)?;
    Ok(draft.finish(&facts))
}

/// What each declared step of a recovery is, as a digest by which it is known again.
pub(crate) fn digests(spec: &Spec, name: &RecoveryName) -> Vec<String> {
    let course = Course::of(spec, &RecoverySubject::Recovery(name.clone()));
    course.map(|course| course.steps.into_iter().map(|step| step.digest).collect()).unwrap_or_default()
}

/// A recovery that is under way, or begins now.
struct Begun<'a> {
    /// When it was begun, which tells it from every other time.
    run: Timestamp,
    terms: Terms,
    /// What was done before it was cut off.
    before: Option<&'a RecoveryRun>,
}

fn begun<'a>(
    request: &Request,
    history: &'a RecoveryHistory,
    now: Timestamp,
) -> Result<Begun<'a>, CannotRecover> {
    let subject = || request.subject.clone();
    let cut_off = history.last().filter(|(_, run)| !run.is_whole());
    match (request.begin, cut_off) {
        (Begin::First, Some((began, run))) => {
            let (done, parts) = (run.done(), run.parts);
            Err(CannotRecover::CutOff { subject: subject(), began, done, parts })
        }
        (Begin::First | Begin::Anew, _) => Ok(Begun { run: now, terms: request.terms.clone(), before: None }),
        (Begin::Resume, Some((run, before))) => {
            let terms = before.terms();
            let asked = &request.terms;
            let is_other = asked.at.is_some() && asked.at != terms.at
                || asked.from.is_some() && asked.from != terms.from;
            match is_other {
                true => Err(CannotRecover::OtherTerms(subject())),
                false => Ok(Begun { run, terms: terms.and(asked), before: Some(before) }),
            }
        }
        (Begin::Resume, None) => Err(CannotRecover::NothingToResume(subject())),
    }
}

/// What makes a machine that is gone, for a plan that nobody asked for.
pub(super) fn machine(spec: &Spec, vm: &Vm, run: Timestamp) -> Vec<Recover> {
    let subject = RecoverySubject::Vm(vm.name.clone());
    let Ok(course) = Course::of(spec, &subject) else { return Vec::new() };
    let works = made(vm);
    let parts = works.len();
    let CourseStep { stage, digest, .. } = &course.steps[0];
    let recover = |work| Recover {
        subject: subject.clone(),
        run,
        parts,
        attempt: run,
        left: parts,
        terms: Terms::default(),
        step: 1,
        digest: digest.clone(),
        stage: *stage,
        work,
    };
    works.into_iter().map(recover).collect()
}

/// What makes a machine, and configures it where that is declared.
pub(super) fn made(vm: &Vm) -> Vec<Work> {
    [Work::Provision(vm.name.clone())].into_iter().chain(configured(vm)).collect()
}

fn configured(vm: &Vm) -> Option<Work> {
    (vm.ssh.is_some() || vm.ansible.is_some()).then(|| Work::Configure(vm.name.clone()))
}

fn can_run(facts: &Facts<'_>, course: &Course, subject: &RecoverySubject) -> Result<(), CannotRecover> {
    let resources = course.steps.iter().filter_map(|step| match &step.action {
        RecoveryAction::Rebuild(vm) => Some(format!("vm.{vm}")),
        RecoveryAction::Switch(switch) => Some(format!("traffic.{}", switch.traffic)),
        action => action.restores().map(|backup| format!("backup.{backup}")),
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
    let stranger = request.terms.replace.iter().find(|vm| !has(&RecoveryAction::Rebuild((*vm).clone())));
    if let Some(vm) = stranger {
        return Err(CannotRecover::UndeclaredVm { subject: subject(), vm: vm.clone() });
    }
    for backup in &request.terms.restore {
        let to = course.steps.iter().find_map(|step| match &step.action {
            RecoveryAction::RestoreTo(restore) if restore.backup == *backup => Some(restore.to.clone()),
            _ => None,
        });
        if let Some(to) = to {
            return Err(CannotRecover::OverNothing { subject: subject(), backup: backup.clone(), to });
        }
    }
    let stranger = request.terms.restore.iter().find(|it| !has(&RecoveryAction::Restore((*it).clone())));
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
    begun: Begun<'a>,
}

impl Laying<'_> {
    fn lay(&self, draft: &mut Draft) -> Result<(), CannotRecover> {
        let remade = self.remade()?;
        let mut works = BTreeMap::new();
        for number in &self.course.order {
            works.insert(*number, self.works(*number, &remade)?);
        }
        let renewed = self.course.order.iter().filter(|number| self.is_renewed(**number)).count();
        let parts = works.values().map(Vec::len).sum::<usize>() + renewed;
        let mut ends: BTreeMap<usize, BTreeSet<StepId>> = BTreeMap::new();
        for number in &self.course.order {
            let waits = self.course.steps[*number].waits.iter().filter_map(|before| ends.get(before));
            let after: BTreeSet<StepId> = waits.flatten().copied().collect();
            let works = works.remove(number).unwrap_or_default();
            ends.insert(*number, self.step(*number, works, parts, &remade, after, draft));
        }
        let left = draft.steps.len();
        for step in &mut draft.steps {
            if let Action::Recover(recover) = &mut step.action {
                recover.left = left;
            }
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
        let provisioned = self.outcome(number, Part::Provision);
        let was_made = provisioned == Some(RecoveredOutcome::Done);
        let is_named = self.request.terms.replace.contains(&vm);
        // What was to be replaced and was is the new one.
        let is_replaced = is_named || self.begun.terms.replace.contains(&vm) && provisioned.is_none();
        match self.machine(&vm) {
            Err(why) => Err(CannotRecover::Unseen { subject, vm, why }),
            Ok(Machine::Gone) => Ok(false),
            Ok(Machine::Running(_) | Machine::Broken { .. }) if is_replaced => Ok(false),
            Ok(Machine::Running(_)) if provisioned.is_some() => Ok(true),
            Ok(Machine::Running(_)) if subject == RecoverySubject::Vm(vm.clone()) => {
                Err(CannotRecover::Runs { subject, vm })
            }
            Ok(Machine::Running(_)) => Ok(true),
            Ok(Machine::Broken { .. }) if provisioned.is_some() && !was_made => Ok(false),
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

    /// What became of a part of this very recovery; `None` where it was never begun, or was of another step.
    fn outcome(&self, number: usize, part: Part) -> Option<RecoveredOutcome> {
        self.begun.before?.outcome(id(number, part), &self.course.steps[number].digest)
    }

    fn has_done(&self, number: usize, part: Part) -> bool {
        self.outcome(number, part) == Some(RecoveredOutcome::Done)
    }

    /// Whether a provider has made what a step names. It is on no machine, so that it is never made again, and of what it was made need not
    /// be there any more.
    fn is_renewed(&self, number: usize) -> bool {
        matches!(self.course.steps[number].action, RecoveryAction::RestoreTo(_))
            && self.has_done(number, Part::Restore)
    }

    /// What a step comes to, in this order.
    fn works(&self, number: usize, remade: &BTreeSet<usize>) -> Result<Vec<Work>, CannotRecover> {
        Ok(match &self.course.steps[number].action {
            RecoveryAction::Rebuild(vm) => self.rebuilt(number, vm, remade.contains(&number)),
            RecoveryAction::Restore(backup) => vec![self.restored(number, backup, remade)?],
            RecoveryAction::RestoreTo(_) if self.is_renewed(number) => Vec::new(),
            RecoveryAction::RestoreTo(restore) => vec![self.renewed(number, restore)?],
            RecoveryAction::Deploy(ansible, _) => vec![Work::Deploy(ansible.clone())],
            RecoveryAction::Run(run) => {
                let (command, on, within) = (run.command.clone(), run.on.clone(), run.timeout);
                vec![Work::Run { command, on, within }]
            }
            RecoveryAction::Wait(wait) => {
                vec![Work::Wait { until: wait.until.clone(), within: wait.timeout }]
            }
            RecoveryAction::Switch(SwitchStep { traffic, to, .. }) => {
                let declared = self.facts.spec.traffic.get(traffic);
                let values = declared.map(|declared| declared.values(*to).clone()).unwrap_or_default();
                vec![Work::Switch { traffic: traffic.clone(), to: *to, values }]
            }
        })
    }

    fn rebuilt(&self, number: usize, vm: &VmName, is_remade: bool) -> Vec<Work> {
        let Some(declared) = self.facts.spec.vms.get(vm) else { return Vec::new() };
        let is_there = !matches!(self.machine(vm), Ok(Machine::Gone));
        let is_named = self.request.terms.replace.contains(vm) || self.begun.terms.replace.contains(vm);
        let remains = if is_named { Remains::Everything } else { Remains::HalfMade };
        match is_remade {
            true if is_there => {
                [Work::Remove { vm: vm.clone(), remains }].into_iter().chain(made(declared)).collect()
            }
            true => made(declared),
            // What was begun of it counts as a part of the whole.
            false if self.outcome(number, Part::Provision).is_some() => made(declared),
            false => configured(declared).into_iter().collect(),
        }
    }

    fn restored(
        &self,
        number: usize,
        backup: &BackupName,
        remade: &BTreeSet<usize>,
    ) -> Result<Work, CannotRecover> {
        let is_rebuilt = |step: &usize| matches!(self.course.steps[*step].action, RecoveryAction::Rebuild(_));
        let machines: Vec<usize> = self.course.awaited(number).into_iter().filter(is_rebuilt).collect();
        // Also one of which nobody knows how far it was made.
        let is_new = |step: &usize| remade.contains(step) || self.outcome(*step, Part::Provision).is_some();
        let existing = match (self.begun.terms.restore.contains(backup), machines.as_slice()) {
            (true, _) => Existing::Replaced,
            (false, []) => Existing::Refused,
            (false, machines) if machines.iter().any(is_new) => Existing::Refused,
            (false, _) => Existing::Kept,
        };
        let request = restore::Request {
            backup: backup.clone(),
            point: self.begun.terms.at.map_or(Point::Latest, Point::At),
            from: self.begun.terms.from.clone(),
            paths: Vec::new(),
            to: Destination::InPlace,
        };
        let (restore, _) = restore::decide(self.facts, &request)?;
        Ok(Work::Restore { restore, existing })
    }

    /// Whether what was done of a part is to be done again: on a machine that is made anew, or since a person names it.
    fn is_again(&self, number: usize, remade: &BTreeSet<usize>) -> bool {
        let is_named = match &self.course.steps[number].action {
            RecoveryAction::Restore(backup) => self.request.terms.restore.contains(backup),
            _ => false,
        };
        is_named || remade.contains(&number) || !remade.is_disjoint(&self.course.awaited(number))
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
        let is_again = self.is_again(number, remade);
        for work in works {
            let is_done = self.has_done(number, work.part())
                || work.part() == Part::Provision && self.outcome(number, Part::Provision).is_some();
            if !is_again && is_done {
                continue;
            }
            let CourseStep { stage, digest, .. } = &self.course.steps[number];
            let reason = format!("step {} of {}", number + 1, self.request.subject);
            let recover = Recover {
                subject: self.request.subject.clone(),
                run: self.begun.run,
                parts,
                attempt: self.facts.now,
                left: 0,
                terms: self.begun.terms.clone(),
                step: number + 1,
                digest: digest.clone(),
                stage: *stage,
                work,
            };
            let step = draft.step_after(Action::Recover(Box::new(recover)), reason, after);
            after = BTreeSet::from([step]);
        }
        after
    }
}

fn id(number: usize, part: Part) -> PartId {
    PartId { step: number + 1, part }
}
