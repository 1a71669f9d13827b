//! Recoveries: whether their steps can be put in an order.

use std::collections::BTreeSet;

use super::Lint;
use crate::spec::{DrillSubject, Unmakeable, places::path};

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
            for stuck in never_ready(&recovery.waits(&lowered.spec)) {
                let at = path(["recovery", name.as_str(), "steps", &stuck.to_string()]);
                let message = format!("step {} of recovery `{name}` waits for itself in the end", stuck + 1);
                let hint = "leave out one name of `after` in the circle, or say what each step waits for";
                self.error("recovery-cycle", &at, message, hint);
            }
        }
    }
}

/// Numbers of the steps that wait in a circle, or for one.
fn never_ready(waits: &[BTreeSet<usize>]) -> Vec<usize> {
    let mut waiting: BTreeSet<usize> = (0..waits.len()).collect();
    loop {
        let stuck: BTreeSet<usize> =
            waiting.iter().copied().filter(|step| !waits[*step].is_disjoint(&waiting)).collect();
        if stuck == waiting {
            return stuck.into_iter().collect();
        }
        waiting = stuck;
    }
}
