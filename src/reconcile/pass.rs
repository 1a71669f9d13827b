//! What came of a pass.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    desired::{Desired, Obstacle},
    published::Runbooks,
};
use crate::{
    apply::executor::Outcome,
    diagnostic::Diagnostic,
    git::Revision,
    plan::{Action, Plan, Step, StepId, readers::Readers},
    status::{Overall, Status},
    stores::Class,
};

/// What a pass was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything that is declared.
    Fleet,
    /// What a person asked for.
    Request,
}

/// One pass: what was in force, what it planned, and what became of that.
#[derive(Clone, Debug)]
pub struct Pass {
    /// What it was about.
    pub extent: Extent,
    /// The revision in force.
    pub revision: Revision,
    /// Warnings about it.
    pub warnings: Vec<Diagnostic>,
    /// Why the newest revision is not the one in force; `None` when it is.
    pub obstacle: Option<Obstacle>,
    /// Why the infra repo could not be asked for a newer revision, if so.
    pub unreachable: Option<String>,
    /// What was planned.
    pub plan: Plan,
    /// What became of each step; empty when nothing was to be changed.
    pub outcomes: BTreeMap<StepId, Outcome>,
    /// What could not be written into the records of stores, and why.
    pub unrecorded: Vec<String>,
    /// How everything stands afterwards.
    pub status: Status,
    /// The next moment at which time alone gives a pass something to do.
    pub next_due: Option<Timestamp>,
    /// Which logs are to be read as they are written.
    pub readers: Readers,
    /// The runbooks as things stand afterwards, where somebody reads them.
    pub runbooks: Option<Runbooks>,
    /// How often it has looked anew. Of rounds with the same number the last one tells all that the others told.
    pub looks: u32,
}

/// How a pass ended, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// A check found damage.
    Damage,
    /// The newest revision is bad or held, and the last good one is in force.
    BadRevision,
    /// A safety rule withheld something.
    Withheld,
    /// Some steps failed, something could not be seen, or a resource cannot run here.
    Partial,
    /// Done, and nothing left to say.
    Done,
}

impl Pass {
    /// How it ended.
    pub fn ending(&self) -> Ending {
        let damage =
            self.outcomes.values().any(|o| matches!(o, Outcome::Done(done) if !done.damage.is_empty()));
        let undone = self.outcomes.values().any(|outcome| !matches!(outcome, Outcome::Done(_)));
        if damage {
            Ending::Damage
        } else if self.obstacle.is_some() && self.extent == Extent::Fleet {
            Ending::BadRevision
        } else if !self.plan.withheld.is_empty() {
            Ending::Withheld
        } else if undone || self.has_blind_spots() || self.leaves_something() {
            Ending::Partial
        } else {
            Ending::Done
        }
    }

    /// Whether something stays to be said: of the fleet after a pass over everything; else of what was asked for, which
    /// says nothing of the rest.
    fn leaves_something(&self) -> bool {
        match self.extent {
            Extent::Fleet => self.status.overall != Overall::Healthy,
            Extent::Request => !self.plan.cannot_run.is_empty(),
        }
    }

    /// Whether something of it could not be seen or written down.
    pub fn has_blind_spots(&self) -> bool {
        self.unreachable.is_some() || !self.unrecorded.is_empty()
    }

    /// The failed steps, with why.
    pub fn failures(&self) -> impl Iterator<Item = (&crate::plan::Step, &crate::apply::executor::Failure)> {
        self.plan.steps.iter().filter_map(|step| match self.outcomes.get(&step.id) {
            Some(Outcome::Failed(failure)) => Some((step, failure)),
            _ => None,
        })
    }

    /// Whether a later pass may succeed where this one did not, and how long to wait at least. An infra repo that did not
    /// answer is asked again at a pace of its own.
    pub fn try_again(&self) -> Option<Option<std::time::Duration>> {
        let classes: Vec<Class> = self.failures().map(|(_, failure)| failure.class).collect();
        let waits = classes.iter().filter_map(|class| match class {
            Class::Wait(long) => Some(*long),
            Class::Retry | Class::Stalled => None,
        });
        let retries = classes.contains(&Class::Retry) || !self.unrecorded.is_empty();
        match (retries, waits.min()) {
            (true, _) => Some(None),
            (false, Some(long)) => Some(Some(long)),
            (false, None) => None,
        }
    }

    /// The pass that came of what was begun.
    pub(super) fn of(
        begun: Begun,
        desired: &Desired,
        status: Status,
        readers: Readers,
        next_due: Option<Timestamp>,
    ) -> Self {
        let Begun { extent, unreachable, plan, outcomes, unrecorded, looks, .. } = begun;
        Self {
            extent,
            revision: desired.revision.clone(),
            warnings: desired.warnings.clone(),
            obstacle: desired.obstacle.clone(),
            unreachable,
            plan,
            outcomes,
            unrecorded,
            status,
            next_due,
            readers,
            runbooks: None,
            looks,
        }
    }
}

/// The pass without what it did, as one that found the same and did nothing.
pub(super) fn without_steps(mut pass: Pass) -> Pass {
    pass.plan.steps.clear();
    pass.outcomes.clear();
    pass.looks = 1;
    pass
}

/// A pass under way: its plan grows by what its steps lead to, and by what falls due meanwhile.
#[derive(Clone)]
pub(super) struct Begun {
    extent: Extent,
    pub(super) unreachable: Option<String>,
    pub(super) plan: Plan,
    pub(super) outcomes: BTreeMap<StepId, Outcome>,
    pub(super) unrecorded: Vec<String>,
    pub(super) looks: u32,
    /// The number of the next step.
    next: u32,
}

impl Begun {
    /// Nothing begun; what `plan` says besides its steps.
    pub(super) fn of(plan: Plan, extent: Extent, unreachable: Option<String>) -> Self {
        let next = plan.steps.iter().map(|step| step.id.0 + 1).max().unwrap_or(0);
        Self { extent, unreachable, plan, outcomes: BTreeMap::new(), unrecorded: Vec::new(), looks: 1, next }
    }

    /// Adds steps, under numbers of their own; returns them as they are added.
    pub(super) fn add(&mut self, steps: Vec<Step>) -> Vec<Step> {
        let steps = behind(steps, self.next);
        self.next = steps.iter().map(|step| step.id.0 + 1).max().unwrap_or(self.next);
        self.plan.steps.extend(steps.iter().cloned());
        steps
    }

    /// What a newer plan says besides its steps holds from now on.
    pub(super) fn go_by(&mut self, plan: &Plan) {
        let steps = std::mem::take(&mut self.plan.steps);
        self.plan = Plan { steps, ..plan.clone() };
    }

    /// A step that was added.
    pub(super) fn step(&self, id: StepId) -> Option<&Step> {
        let at = self.plan.steps.binary_search_by_key(&id, |step| step.id).ok()?;
        self.plan.steps.get(at)
    }

    /// Steps that are not to be taken after all, as if they had never been planned.
    pub(super) fn withdraw(&mut self, steps: &[StepId]) {
        self.plan.steps.retain(|step| !steps.contains(&step.id));
    }

    /// Looks anew: what has ended was told.
    pub(super) fn forget_the_past(&mut self) {
        let outcomes = std::mem::take(&mut self.outcomes);
        self.plan.steps.retain(|step| !outcomes.contains_key(&step.id));
        self.unrecorded.clear();
        self.looks += 1;
    }
}

/// `steps` with numbers from `first` on.
fn behind(mut steps: Vec<Step>, first: u32) -> Vec<Step> {
    let numbers: BTreeMap<StepId, StepId> =
        steps.iter().zip(first..).map(|(step, number)| (step.id, StepId(number))).collect();
    for step in &mut steps {
        step.id = numbers[&step.id];
        step.after = step.after.iter().filter_map(|id| numbers.get(id)).copied().collect();
    }
    steps
}

/// The plan without the steps that are not `wanted`, nor those that wait for one that is left out.
pub(super) fn only(mut plan: Plan, wanted: impl Fn(&Action) -> bool) -> Plan {
    plan.steps.retain(|step| wanted(&step.action));
    loop {
        let left: BTreeSet<StepId> = plan.steps.iter().map(|step| step.id).collect();
        plan.steps.retain(|step| step.after.is_subset(&left));
        if plan.steps.len() == left.len() {
            return plan;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mirrors: &[(&str, &[u32])]) -> Plan {
        let steps = mirrors.iter().enumerate().map(|(n, (mirror, after))| Step {
            id: StepId(n as u32),
            action: Action::Push { mirror: mirror.to_string() },
            reason: "it is behind".into(),
            after: after.iter().copied().map(StepId).collect(),
        });
        Plan {
            fleet: "pavroto".parse().unwrap(),
            revision: "3b1e".into(),
            at: Timestamp::UNIX_EPOCH,
            zone: jiff::tz::TimeZone::UTC,
            steps: steps.collect(),
            waiting: Vec::new(),
            withheld: Vec::new(),
            cannot_run: Vec::new(),
            approved: Vec::new(),
        }
    }

    #[test]
    fn steps_that_are_added_have_numbers_of_their_own_and_wait_for_each_other() {
        let mut begun = Begun::of(plan(&[]), Extent::Fleet, None);
        begun.add(plan(&[("a", &[]), ("b", &[0])]).steps);
        begun.outcomes.insert(StepId(0), Outcome::Cancelled);
        begun.forget_the_past();
        let mut further = plan(&[("c", &[]), ("d", &[]), ("e", &[1])]);
        further.steps.remove(0);
        begun.add(further.steps);
        let steps: Vec<(u32, String, Vec<u32>)> = begun
            .plan
            .steps
            .iter()
            .map(|s| (s.id.0, s.action.to_string(), s.after.iter().map(|id| id.0).collect()))
            .collect();
        let step = |id, mirror: &str, after| (id, format!("push to {mirror}"), after);
        assert_eq!(steps, [step(1, "b", vec![0]), step(2, "d", vec![]), step(3, "e", vec![2])]);
        assert_eq!(begun.step(StepId(3)).unwrap().action.to_string(), "push to e");
    }

    #[test]
    fn a_step_that_waits_for_one_that_is_left_out_is_left_out() {
        let plan = plan(&[("a", &[]), ("b", &[0]), ("c", &[1]), ("d", &[])]);
        let left = only(plan, |action| action.to_string() != "push to a");
        assert_eq!(left.steps.iter().map(|step| step.id.0).collect::<Vec<_>>(), [3]);
    }
}
