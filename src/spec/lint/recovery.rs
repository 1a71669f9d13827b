//! Recoveries: whether their steps can be put in an order.

use std::collections::BTreeSet;

use super::Lint;
use crate::spec::{
    DrillSubject, Ready, Recovery, RecoveryAction, RestoreTo, Source, Unmakeable, WaitStep,
    names::{BackupName, RecoveryName},
    places::path,
};

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

    /// What a provider makes under another name than the original's is not what the backup's source is.
    pub(super) fn recoveries_wait_for_what_they_restore(&mut self) {
        let lowered = self.lowered;
        for (name, recovery) in &lowered.spec.recoveries {
            for (number, step) in recovery.steps.iter().enumerate() {
                let RecoveryAction::Wait(WaitStep { until: Ready::Source(backup), .. }) = &step.action else {
                    continue;
                };
                let source = lowered.spec.backups.get(backup).map(|backup| &backup.source);
                let elsewhere = source.and_then(|source| restored_beside(recovery, backup, source));
                if let Some(RestoreTo { to, .. }) = elsewhere {
                    let at =
                        path(["recovery", name.as_str(), "steps", &number.to_string(), "wait", "source"]);
                    let message = format!(
                        "step {} of recovery `{name}` waits for the original of backup `{backup}`, which is restored to {to}",
                        number + 1
                    );
                    let hint = "leave it out: the restore itself waits until what is made can be used";
                    self.warning("wait-original", &at, message, hint);
                }
            }
        }
    }

    /// Two steps that restore to one place: the second would fail.
    pub(super) fn recoveries_restore_to_places_of_their_own(&mut self) {
        let lowered = self.lowered;
        for (name, recovery) in &lowered.spec.recoveries {
            let places = |(number, action): (usize, &RecoveryAction)| match action {
                RecoveryAction::RestoreTo(RestoreTo { backup, to }) => {
                    Some((number, to.within(&lowered.spec.backups.get(backup)?.source)))
                }
                _ => None,
            };
            let actions = recovery.steps.iter().map(|step| &step.action).enumerate();
            let mut taken = BTreeSet::new();
            for (number, place) in actions.filter_map(places) {
                if !taken.insert(place) {
                    self.place_twice(name, number);
                }
            }
        }
    }

    fn place_twice(&mut self, name: &RecoveryName, number: usize) {
        let at = path(["recovery", name.as_str(), "steps", &number.to_string(), "to"]);
        let message =
            format!("step {} of recovery `{name}` restores to where an earlier one does", number + 1);
        let hint = "name another place: the later one fails over what the earlier one makes";
        self.warning("restore-place-twice", &at, message, hint);
    }
}

/// Where a recovery restores a backup to, where that is not its original.
fn restored_beside<'r>(
    recovery: &'r Recovery,
    backup: &BackupName,
    source: &Source,
) -> Option<&'r RestoreTo> {
    let restores = recovery.steps.iter().filter_map(|step| match &step.action {
        RecoveryAction::RestoreTo(restore) if restore.backup == *backup => Some(restore),
        _ => None,
    });
    let mut elsewhere = restores.filter(|restore| !restore.to.is_original(source));
    elsewhere.next()
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
