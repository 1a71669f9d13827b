//! Machines that are gone or differ: told, and made anew where that is declared.

use std::{collections::BTreeSet, time::Duration};

use super::{Action, draft::Draft, facts::Facts, recovery};
use crate::{
    artifact::recovered::RecoverySubject,
    inventory::{Machine, Observed},
    spec::{OnLoss, Vm},
};

/// How long a machine that could not be made is left alone.
const PAUSE: Duration = Duration::from_secs(900);

pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    for (name, vm) in &facts.spec.vms {
        if facts.cannot_run(&format!("vm.{name}")).is_some() {
            continue;
        }
        let what = format!("machine {name}");
        match facts.inventory.machines.get(name) {
            None => {}
            Some(Observed::Unknown(why)) => draft.wait(what, format!("it can't be seen: {why}"), None),
            Some(Observed::Known(Machine::Gone)) => gone(facts, vm, draft),
            Some(Observed::Known(Machine::Broken { why })) => {
                let on = format!(
                    "it is there and does not run: {why}; start it, or `backstay rebuild {name} --replace {name}`"
                );
                draft.wait(what, on, None);
            }
            Some(Observed::Known(Machine::Running(running))) if !running.drift.is_empty() => {
                let on = format!(
                    "it differs from what is declared: {}; change it back, or `backstay rebuild {name} --replace {name}`",
                    running.drift.join("; ")
                );
                draft.wait(what, on, None);
            }
            Some(Observed::Known(Machine::Running(_))) => {}
        }
    }
}

fn gone(facts: &Facts<'_>, vm: &Vm, draft: &mut Draft) {
    let what = format!("machine {}", vm.name);
    match vm.on_loss {
        OnLoss::Report => {
            draft.wait(what, format!("it is gone; `backstay rebuild {}` makes it anew", vm.name), None);
        }
        OnLoss::Rebuild => {
            let history = facts.inventory.recovery_history(&RecoverySubject::Vm(vm.name.clone()));
            let failed = history.last().filter(|(_, run)| !run.is_whole());
            let until = failed.and_then(|(_, run)| run.ended_at()?.checked_add(PAUSE).ok());
            if let Some(until) = until.filter(|until| *until > facts.now) {
                return draft.wait(what, "it could not be made the last time".to_owned(), Some(until));
            }
            let mut after = BTreeSet::new();
            for recover in recovery::machine(facts.spec, vm, facts.now) {
                let reason = "it is gone, and `on_loss` says that it is rebuilt";
                let step = draft.step_after(Action::Recover(Box::new(recover)), reason, after);
                after = BTreeSet::from([step]);
            }
        }
    }
}
