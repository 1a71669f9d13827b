//! What came of a pass.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::desired::{Desired, Obstacle};
use crate::{
    apply::executor::Outcome,
    artifact::record::Event,
    diagnostic::Diagnostic,
    git::Revision,
    plan::{Action, Plan, Step, StepId},
    spec::names::StoreName,
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

    /// Whether it left steps undone for a newer revision's sake.
    pub fn gave_way(&self) -> bool {
        self.outcomes.values().any(|outcome| *outcome == Outcome::Cancelled)
    }

    /// The pass that came of what was begun.
    pub(super) fn of(begun: Begun, desired: &Desired, status: Status, next_due: Option<Timestamp>) -> Self {
        let Begun { extent, unreachable, plan, outcomes, unrecorded, .. } = begun;
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
        }
    }
}

/// A pass under way: its plan grows by what its steps lead to.
pub(super) struct Begun {
    extent: Extent,
    unreachable: Option<String>,
    pub(super) plan: Plan,
    pub(super) outcomes: BTreeMap<StepId, Outcome>,
    pub(super) events: Vec<(StoreName, Event)>,
    pub(super) unrecorded: Vec<String>,
}

impl Begun {
    /// What is planned, and not begun.
    pub(super) fn of(plan: Plan, extent: Extent, unreachable: Option<String>) -> Self {
        let (outcomes, events, unrecorded) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { extent, unreachable, plan, outcomes, events, unrecorded }
    }

    /// The plan of what was not taken yet.
    pub(super) fn not_taken(&self) -> Plan {
        let steps = self.plan.steps.iter().filter(|step| !self.outcomes.contains_key(&step.id));
        Plan { steps: steps.cloned().collect(), ..self.plan.clone() }
    }

    /// Adds what `next` plans and was not tried yet; `false` when that is nothing.
    pub(super) fn go_on_with(&mut self, next: Plan) -> bool {
        let taken: Vec<Action> = self.plan.steps.iter().map(|step| step.action.clone()).collect();
        let next = only(next, |action| !taken.contains(action));
        let steps = behind(next.steps, &self.plan.steps);
        let goes_on = !steps.is_empty();
        let before = std::mem::take(&mut self.plan.steps);
        self.plan = Plan { steps: before.into_iter().chain(steps).collect(), ..next };
        goes_on
    }

    /// Puts what was done `first` before the rest.
    pub(super) fn after(mut self, first: Option<Begun>) -> Self {
        let Some(first) = first else { return self };
        let steps = behind(self.plan.steps, &first.plan.steps);
        self.plan.steps = first.plan.steps.into_iter().chain(steps).collect();
        Self { outcomes: first.outcomes, events: first.events, ..self }
    }
}

/// `steps` with numbers behind those of `others`.
fn behind(mut steps: Vec<Step>, others: &[Step]) -> Vec<Step> {
    let shift = others.iter().map(|step| step.id.0 + 1).max().unwrap_or(0);
    let moved = |id: StepId| StepId(id.0 + shift);
    for step in &mut steps {
        step.id = moved(step.id);
        step.after = step.after.iter().copied().map(moved).collect();
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
        }
    }

    #[test]
    fn a_pass_goes_on_with_what_is_new_and_never_repeats_what_it_tried() {
        let mut begun = Begun::of(plan(&[("a", &[]), ("b", &[0])]), Extent::Fleet, None);
        for step in begun.not_taken().steps {
            begun.outcomes.insert(step.id, Outcome::Cancelled);
        }
        assert!(begun.go_on_with(plan(&[("a", &[]), ("c", &[]), ("d", &[1]), ("e", &[0])])));
        let next: Vec<(u32, String)> =
            begun.not_taken().steps.iter().map(|s| (s.id.0, s.action.to_string())).collect();
        assert_eq!(next, [(3, "push to c".into()), (4, "push to d".into())]);
        assert!(!begun.go_on_with(plan(&[("b", &[]), ("c", &[])])));
    }

    #[test]
    fn a_step_that_waits_for_one_that_is_left_out_is_left_out() {
        let plan = plan(&[("a", &[]), ("b", &[0]), ("c", &[1]), ("d", &[])]);
        let left = only(plan, |action| action.to_string() != "push to a");
        assert_eq!(left.steps.iter().map(|step| step.id.0).collect::<Vec<_>>(), [3]);
    }
}
