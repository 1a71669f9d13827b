//! Schedules: what the timetable must hold, against what it holds.

use std::collections::BTreeSet;

use super::{Action, cannot_run, draft::Draft, facts::Facts};
use crate::{artifact::Kind, inventory::ArmedSchedule};

/// Disarms what is no longer declared and arms what is not armed yet.
pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    let declared = declared(facts);
    for armed in facts.inventory.armed.difference(&declared) {
        draft.step(Action::Disarm(armed.clone()), "no longer declared so");
    }
    for wanted in declared.difference(&facts.inventory.armed) {
        draft.step(Action::Arm(wanted.clone()), format!("declared: {}", wanted.cadence));
    }
}

fn declared(facts: &Facts<'_>) -> BTreeSet<ArmedSchedule> {
    let runs = |backup: &str, kind: Kind| {
        facts.cannot_run(&format!("backup.{backup}")).is_none()
            && (kind != Kind::Log || facts.cannot_run(&cannot_run::logs_of(backup)).is_none())
    };
    let backups = facts.spec.backups.iter();
    let all = backups
        .flat_map(|(name, b)| b.policy.schedules.iter().map(move |(kind, cadence)| (name, kind, cadence)));
    all.filter(|(name, kind, _)| runs(name.as_str(), **kind))
        .map(|(name, kind, cadence)| ArmedSchedule {
            backup: name.clone(),
            kind: *kind,
            cadence: cadence.clone(),
        })
        .collect()
}
