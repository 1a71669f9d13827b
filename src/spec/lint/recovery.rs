//! Recoveries: whether their steps can be put in an order.

use std::collections::BTreeSet;

use super::Lint;
use crate::spec::{DrillSubject, Recovery, RecoveryAction, RecoveryStep, Unmakeable, places::path};

impl Lint<'_> {
    /// A check that nobody can make of what the source restores.
    pub(super) fn drills_can_check(&mut self) {
        let lowered = self.lowered;
        for (name, drill) in &lowered.spec.drills {
            let DrillSubject::Backup(backup) = &drill.subject else { continue };
            let Some(backup) = lowered.spec.backups.get(backup) else { continue };
            for (number, check) in drill.checks.iter().enumerate() {
                if let Some(Unmakeable::Ever(why)) = check.unmakeable(&backup.source) {
                    let at = path(["drill", name.as_str(), "check", &number.to_string()]);
                    let message = format!("check {} of drill `{name}` can't be made: {why}", number + 1);
                    let hint = "leave it out, or check something else";
                    self.error("drill-check", &at, message, hint);
                }
            }
        }
    }

    pub(super) fn recoveries_can_be_ordered(&mut self) {
        let lowered = self.lowered;
        for (name, recovery) in &lowered.spec.recoveries {
            for stuck in never_ready(recovery) {
                let at = path(["recovery", name.as_str(), "steps", &stuck.to_string(), "after"]);
                let message = format!("step {} of recovery `{name}` waits for itself in the end", stuck + 1);
                self.error("recovery-cycle", &at, message, "leave out one name of `after` in the circle");
            }
        }
    }
}

/// Numbers of the steps that wait in a circle, or for one. A name that no step brings is reported elsewhere.
fn never_ready(recovery: &Recovery) -> Vec<usize> {
    let brought: BTreeSet<&str> = recovery.steps.iter().filter_map(subject).collect();
    let mut waiting: Vec<(usize, &RecoveryStep)> = recovery.steps.iter().enumerate().collect();
    loop {
        // A name is there once every step that brings it is done.
        let missing: BTreeSet<&str> = waiting.iter().filter_map(|(_, step)| subject(step)).collect();
        let before = waiting.len();
        waiting.retain(|(_, step)| {
            step.after.iter().any(|name| brought.contains(name.as_str()) && missing.contains(name.as_str()))
        });
        if waiting.len() == before {
            return waiting.into_iter().map(|(number, _)| number).collect();
        }
    }
}

fn subject(step: &RecoveryStep) -> Option<&str> {
    match &step.action {
        RecoveryAction::Rebuild(vm) => Some(vm.as_str()),
        RecoveryAction::Restore(backup) => Some(backup.as_str()),
        RecoveryAction::Run { .. } => None,
    }
}
