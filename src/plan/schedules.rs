//! Schedules: what the scheduler must hold, against what it holds.

use std::collections::BTreeSet;

use super::{Action, cannot_run, draft::Draft, facts::Facts};
use crate::{
    artifact::Kind,
    inventory::{Armed, ArmedSchedule, Observed},
};

/// Disarms what is no longer declared, arms what is not armed yet, and puts right what somebody changed. Where it can't
/// be seen what is armed, nothing is.
pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    let declared = declared(facts);
    let armed = match &facts.inventory.armed {
        Observed::Known(armed) => armed,
        Observed::Unknown(why) => return draft.wait("arming and disarming of schedules", why, None),
    };
    let all = armed.schedules.iter().chain(armed.altered.keys());
    for gone in all.filter(|schedule| !declared.contains(schedule)) {
        draft.step(Action::Disarm(gone.clone()), "no longer declared so");
    }
    for wanted in declared.difference(&armed.schedules) {
        draft.step(Action::Arm(wanted.clone()), why(armed, wanted));
    }
    for (place, why) in &armed.strangers {
        draft.wait(format!("removal of {place}"), format!("{why}; remove it yourself, or rename it"), None);
    }
}

fn why(armed: &Armed, wanted: &ArmedSchedule) -> String {
    match armed.altered.get(wanted) {
        Some(difference) => format!("it reads otherwise than declared: {difference}"),
        None => format!("declared: {}", wanted.cadence),
    }
}

fn declared(facts: &Facts<'_>) -> BTreeSet<ArmedSchedule> {
    let runs = |backup: &str, kind: Kind| {
        facts.cannot_run(&format!("backup.{backup}")).is_none()
            && facts.cannot_run(&cannot_run::schedule_of(backup, kind)).is_none()
            && (kind != Kind::Log || facts.cannot_run(&cannot_run::logs_of(backup)).is_none())
    };
    let all = facts.spec.schedules();
    all.filter(|schedule| runs(schedule.backup.as_str(), schedule.kind)).collect()
}
