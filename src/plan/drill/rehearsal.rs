//! The drill of a whole recovery: the same steps in the same order, on machines of its own.
//!
//! What is not known to be on such a machine is left out, and told: programs of this host, the switching of traffic, and data that is
//! nowhere on them. Everything else must come back.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    super::{
        Action,
        action::{Destination, Existing, RehearsalPart, Rehearse, RehearsedPoint, Work},
        facts::Facts,
        recovery::{self, Course},
        retention::Expiry,
    },
    point::{Choice, Chosen, Wanted, choose},
};
use crate::{
    artifact::recovered::RecoverySubject,
    inventory::{Observed, RehearsalHistory, Standing},
    spec::{
        self, RecoveryAction, RecoveryStage, Rehearsal, RehearsalCheck, StandIns,
        names::{BackupName, DrillName},
    },
};

/// A drill of one recovery, with what is known of it.
pub(super) struct OfRecovery<'a> {
    name: &'a DrillName,
    drill: &'a spec::Drill,
    rehearsal: &'a Rehearsal,
    pub(super) history: RehearsalHistory,
}

/// What a declared step comes to.
enum Tried {
    Works(Vec<Work>),
    LeftOut(&'static str),
}

/// Where the parts go.
struct Parts<'a> {
    facts: &'a Facts<'a>,
    of: &'a OfRecovery<'a>,
    stand_ins: StandIns<'a>,
    wanted: &'a Wanted,
    expired: Option<&'a Expiry<'a>>,
    points: Vec<RehearsedPoint>,
}

impl<'a> OfRecovery<'a> {
    pub(super) fn of(
        facts: &Facts<'a>,
        name: &'a DrillName,
        drill: &'a spec::Drill,
        rehearsal: &'a Rehearsal,
    ) -> Self {
        let history = facts.inventory.rehearsal_history(name, &rehearsal.recovery);
        Self { name, drill, rehearsal, history }
    }

    pub(super) fn decide(
        &self,
        facts: &Facts<'_>,
        wanted: &Wanted,
        expired: Option<&Expiry<'_>>,
        slot: Option<Timestamp>,
    ) -> Result<Action, String> {
        let recovery = self.rehearsal.recovery.clone();
        let course = Course::of(facts.spec, &RecoverySubject::Recovery(recovery.clone()));
        let course = course.map_err(|error| error.to_string())?;
        let stand_ins = StandIns::of(facts.spec, self.name, self.rehearsal)?;
        if !has_a_place_for_its_result(facts) {
            return Err("a store that its result can be recorded in".to_owned());
        }
        let mut parts = Parts { facts, of: self, stand_ins, wanted, expired, points: Vec::new() };
        let (laid, left_out) = parts.lay(&course)?;
        if laid.is_empty() {
            return Err(format!("a step of recovery {recovery} that it could try; all are left out"));
        }
        Ok(Action::Rehearse(Box::new(Rehearse {
            drill: self.name.clone(),
            slot,
            recovery,
            parts: laid,
            points: parts.points,
            left_out,
            checks: self.checks(facts)?,
        })))
    }

    /// The checks, each with the backup that it asks.
    fn checks(&self, facts: &Facts<'_>) -> Result<Vec<RehearsalCheck>, String> {
        let asked = |check: &RehearsalCheck| {
            let backup = self.rehearsal.asked(facts.spec, check)?;
            let backup = backup.map(|backup| backup.name.clone());
            Ok(RehearsalCheck { backup, check: check.check.clone() })
        };
        self.rehearsal.checks.iter().map(asked).collect()
    }
}

fn has_a_place_for_its_result(facts: &Facts<'_>) -> bool {
    let mut known = facts.inventory.stores.values().filter_map(Observed::known);
    known.any(|store| store.standing == Standing::Ours)
}

impl Parts<'_> {
    /// The parts in an order in which they can be done, and what is left out.
    fn lay(&mut self, course: &Course) -> Result<(Vec<RehearsalPart>, Vec<String>), String> {
        let (mut parts, mut left_out) = (Vec::new(), Vec::new());
        let mut ends: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for number in &course.order {
            let step = &course.steps[*number];
            let waits = step.waits.iter().filter_map(|before| ends.get(before));
            let mut after: BTreeSet<usize> = waits.flatten().copied().collect();
            match self.tried(&step.action, step.stage)? {
                // Whatever waits for it waits for what it would have waited for.
                Tried::LeftOut(why) => left_out.push(format!("step {}: {why}", number + 1)),
                Tried::Works(works) => {
                    for work in works {
                        let (stage, digest) = (step.stage, step.digest.clone());
                        let part = RehearsalPart { step: number + 1, stage, digest, after, work };
                        after = BTreeSet::from([parts.len()]);
                        parts.push(part);
                    }
                }
            }
            ends.insert(*number, after);
        }
        Ok((parts, left_out))
    }

    fn tried(&mut self, action: &RecoveryAction, stage: RecoveryStage) -> Result<Tried, String> {
        const TRAFFIC: &str = "it lets users in, which are not there";
        let spec = self.facts.spec;
        Ok(match action {
            RecoveryAction::Rebuild(vm) => {
                let made = spec.vms.get(vm).map(recovery::made);
                Tried::Works(made.ok_or_else(|| format!("machine {vm}, which is not declared"))?)
            }
            RecoveryAction::Restore(backup) => self.restored(backup)?,
            RecoveryAction::RestoreTo(_) => Tried::LeftOut(
                "its provider makes something new of it, which only a drill of the backup itself tries",
            ),
            RecoveryAction::Switch(_) => {
                Tried::LeftOut("it leads users elsewhere, who are to stay where they are")
            }
            _ if stage == RecoveryStage::Traffic => Tried::LeftOut(TRAFFIC),
            RecoveryAction::Deploy(ansible, _) => Tried::Works(vec![Work::Deploy(ansible.clone())]),
            RecoveryAction::Run(run) if run.on.is_none() => {
                Tried::LeftOut("it runs on the controller's host, where people work")
            }
            RecoveryAction::Run(run) if !self.stand_ins.vms().any(|(vm, _)| Some(vm) == run.on.as_ref()) => {
                Tried::LeftOut("it runs on a machine that the recovery does not make")
            }
            RecoveryAction::Run(run) => {
                let (command, on, within) = (run.command.clone(), run.on.clone(), run.timeout);
                Tried::Works(vec![Work::Run { command, on, within }])
            }
            RecoveryAction::Wait(wait) if !self.stand_ins.tell(&wait.until, spec) => {
                Tried::LeftOut("nothing tells that what it waits for is on a machine of the recovery")
            }
            RecoveryAction::Wait(wait) => {
                Tried::Works(vec![Work::Wait { until: wait.until.clone(), within: wait.timeout }])
            }
        })
    }

    /// What is restored of a backup, where its data is on a stand-in.
    fn restored(&mut self, backup: &BackupName) -> Result<Tried, String> {
        let facts = self.facts;
        let declared =
            facts.spec.backups.get(backup).ok_or_else(|| format!("{backup}, which is not declared"))?;
        if !self.stand_ins.have(&declared.source) {
            return Ok(Tried::LeftOut(
                "its data is not known to be on a machine of the recovery, or nothing tells whether there is some already",
            ));
        }
        let none = BTreeMap::new();
        let folder = facts.spec.moved.folder(backup);
        let choice = Choice {
            backup: declared,
            at: self.of.drill.at,
            drilled: self.of.history.stores.get(&folder).unwrap_or(&none),
            replays: declared.source.has_log(),
            to: Destination::InPlace,
        };
        let Chosen { restore, point, is_newest } = choose(facts, &choice, self.wanted.clone(), self.expired)?;
        self.points.push(RehearsedPoint { backup: backup.clone(), point, is_newest });
        Ok(Tried::Works(vec![Work::Restore { restore, existing: Existing::Refused }]))
    }
}
