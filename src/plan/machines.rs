//! Machines that are gone or differ: told, and made anew where that is declared.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{Action, draft::Draft, facts::Facts, recovery};
use crate::{
    artifact::recovered::RecoverySubject,
    inventory::{Machine, Observed, PreviewLeft},
    spec::{OnLoss, Vm},
};

/// How long a machine that was made anew, or could not be, is left alone.
const PAUSE: Duration = Duration::from_secs(900);

/// What tells one time from the one before.
const A_MOMENT: Duration = Duration::from_secs(1);

pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    for PreviewLeft { mark, revision, vms } in facts.inventory.previews_left.iter().cloned() {
        draft.step(Action::ClearPreviews { mark, vms, revision }, "a preview was cut off");
    }
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
        OnLoss::Rebuild if facts.inventory.made_at(&vm.name).is_some_and(|at| at != vm.provision.place()) => {
            let (before, now) = (facts.inventory.made_at(&vm.name).unwrap_or_default(), vm.provision.place());
            let on = format!(
                "it was made at {before}, and is declared at {now}: nobody was asked whether it is gone there; remove it, then \
                 `backstay rebuild {}`",
                vm.name
            );
            draft.wait(what, on, None);
        }
        OnLoss::Rebuild => {
            let history = facts.inventory.recovery_history(&RecoverySubject::Vm(vm.name.clone()));
            let until = history.last().and_then(|(_, run)| run.ended_at()?.checked_add(PAUSE).ok());
            if let Some(until) = until.filter(|until| *until > facts.now) {
                return draft.wait(
                    what,
                    "it was made anew just now, or could not be".to_owned(),
                    Some(until),
                );
            }
            // The same as long as nothing was done: the same plan is made again and again while a step lasts.
            let before = history.last().and_then(|(_, run)| run.ended_at()?.checked_add(A_MOMENT).ok());
            let run = before.unwrap_or(Timestamp::UNIX_EPOCH);
            let mut after = BTreeSet::new();
            for recover in recovery::machine(facts.spec, vm, run) {
                let reason = "it is gone, and `on_loss` says that it is rebuilt";
                let step = draft.step_after(Action::Recover(Box::new(recover)), reason, after);
                after = BTreeSet::from([step]);
            }
        }
    }
}
