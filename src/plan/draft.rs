//! A plan in the making.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Action, Plan, Step, StepId, Waiting, Withheld, facts::Facts};
use crate::{
    artifact::ArtifactId,
    spec::names::{BackupName, StoreName},
};

/// A plan in the making: planners append to it, one after the other.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) steps: Vec<Step>,
    waiting: Vec<Waiting>,
    withheld: Vec<Withheld>,
}

impl Draft {
    /// Adds a step that waits for nothing.
    pub(super) fn step(&mut self, action: Action, reason: impl Into<String>) -> StepId {
        self.step_after(action, reason, BTreeSet::new())
    }

    /// Adds a step behind others, all of which were added before.
    pub(super) fn step_after(
        &mut self,
        action: Action,
        reason: impl Into<String>,
        after: BTreeSet<StepId>,
    ) -> StepId {
        let id = StepId(u32::try_from(self.steps.len()).unwrap_or(u32::MAX));
        self.steps.push(Step { id, action, reason: reason.into(), after });
        id
    }

    /// Takes out the steps for which there is a `reason`, and those that wait for them; returns the former. A deletion
    /// that waits for one would come too early, and a copy would find nothing.
    pub(super) fn take_out<R>(&mut self, reason: impl Fn(&Action) -> Option<R>) -> Vec<(Action, R)> {
        let mut taken = Vec::new();
        let mut renumbered: BTreeMap<StepId, StepId> = BTreeMap::new();
        for mut step in std::mem::take(&mut self.steps) {
            if let Some(reason) = reason(&step.action) {
                taken.push((step.action, reason));
                continue;
            }
            let after: Option<BTreeSet<StepId>> =
                step.after.iter().map(|id| renumbered.get(id).copied()).collect();
            if let Some(after) = after {
                let id = StepId(u32::try_from(self.steps.len()).unwrap_or(u32::MAX));
                renumbered.insert(step.id, id);
                (step.id, step.after) = (id, after);
                self.steps.push(step);
            }
        }
        taken
    }

    /// Notes something wanted that has to wait.
    pub(super) fn wait(&mut self, what: impl Into<String>, on: impl Into<String>, until: Option<Timestamp>) {
        self.waiting.push(Waiting { backup: None, what: what.into(), on: on.into(), until });
    }

    /// The same, of one backup.
    pub(super) fn wait_of(
        &mut self,
        backup: &BackupName,
        what: impl Into<String>,
        on: impl Into<String>,
        until: Option<Timestamp>,
    ) {
        let backup = Some(backup.clone());
        self.waiting.push(Waiting { backup, what: what.into(), on: on.into(), until });
    }

    /// Notes deletions that are held back until a person has looked.
    pub(super) fn withhold(
        &mut self,
        backup: &BackupName,
        store: &StoreName,
        rule: &str,
        reason: impl Into<String>,
    ) {
        self.withheld.push(Withheld::by_rule(backup.clone(), store.clone(), rule, reason));
    }

    /// The artifacts that steps so far read, write beside or build on, by backup and store.
    pub(super) fn in_use(&self) -> BTreeSet<(&BackupName, &StoreName, ArtifactId)> {
        let mut used = BTreeSet::new();
        for step in &self.steps {
            match &step.action {
                Action::Capture(capture) => {
                    used.extend(capture.base.map(|base| (&capture.backup, &capture.store, base)));
                }
                Action::Copy { backup, artifact, from, .. } => {
                    used.insert((backup, from, *artifact));
                }
                Action::Repair { backup, artifact, store, from } => {
                    used.insert((backup, store, *artifact));
                    used.insert((backup, from, *artifact));
                }
                _ => {}
            }
        }
        used
    }

    /// The finished plan.
    pub(super) fn finish(self, facts: &Facts<'_>) -> Plan {
        Plan {
            fleet: facts.spec.fleet.name.clone(),
            revision: facts.limits.revision.clone(),
            at: facts.now,
            zone: facts.spec.fleet.time_zone.clone(),
            steps: self.steps,
            waiting: self.waiting,
            withheld: self.withheld,
            cannot_run: facts.cannot_run.clone(),
            approved: Vec::new(),
        }
    }
}
