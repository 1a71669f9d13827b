//! What records tell of the drills of recoveries.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Inventory, Observed};
use crate::{
    artifact::rehearsed::Rehearsed,
    spec::names::{DrillName, FolderName, RecoveryName, StoreName},
};

/// What is known of a drill of one recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RehearsalHistory {
    /// The newest result.
    pub last: Option<Rehearsed>,
    /// The newest one that passed.
    pub passed: Option<Rehearsed>,
    /// The latest slot that a result fills.
    pub slot: Option<Timestamp>,
    /// When each backup was last restored from each store.
    pub stores: BTreeMap<FolderName, BTreeMap<StoreName, Timestamp>>,
}

impl RehearsalHistory {
    /// Takes note of a result, in any order; of one that is known already nothing changes.
    pub fn add(&mut self, rehearsed: &Rehearsed) {
        let is_newer = |known: &Option<Rehearsed>| known.as_ref().is_none_or(|it| it.began < rehearsed.began);
        if is_newer(&self.last) {
            self.last = Some(rehearsed.clone());
        }
        if rehearsed.outcome.is_passed() && is_newer(&self.passed) {
            self.passed = Some(rehearsed.clone());
        }
        self.slot = self.slot.max(rehearsed.slot);
        for restored in &rehearsed.restored {
            self.restored(&restored.backup, &restored.store, rehearsed.began);
        }
    }

    /// Adds what another store knows of the same drill.
    fn merge(&mut self, other: &RehearsalHistory) {
        other.last.iter().chain(&other.passed).for_each(|rehearsed| self.add(rehearsed));
        self.slot = self.slot.max(other.slot);
        for (backup, stores) in &other.stores {
            stores.iter().for_each(|(store, at)| self.restored(backup, store, *at));
        }
    }

    fn restored(&mut self, backup: &FolderName, store: &StoreName, at: Timestamp) {
        let of_backup = self.stores.entry(backup.clone()).or_default();
        let last = of_backup.entry(store.clone()).or_insert(at);
        *last = (*last).max(at);
    }
}

impl Inventory {
    /// What the records of all stores tell of a drill of a recovery.
    pub fn rehearsal_history(&self, drill: &DrillName, recovery: &RecoveryName) -> RehearsalHistory {
        let mut history = RehearsalHistory::default();
        for store in self.stores.values().filter_map(Observed::known) {
            if let Some(known) = store.records.rehearsal(drill, recovery) {
                history.merge(known);
            }
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{ArtifactId, drill::DrillOutcome, rehearsed::RestoredPoint};

    fn rehearsed(began: &str, store: &str, outcome: DrillOutcome) -> Rehearsed {
        let began: Timestamp = began.parse().unwrap();
        let point = RestoredPoint {
            backup: "agama".parse().unwrap(),
            artifact: ArtifactId::new(began, 1),
            logs: 0,
            store: store.parse().unwrap(),
            point: began,
        };
        Rehearsed {
            drill: "site".parse().unwrap(),
            slot: Some(began),
            began,
            recovery: "site".parse().unwrap(),
            restored: vec![point],
            left_out: 0,
            outcome,
            parts: Vec::new(),
            checks: Vec::new(),
            rpo_seconds: None,
            rto_seconds: None,
            sealed: None,
        }
    }

    #[test]
    fn the_newest_result_counts_in_whatever_order_they_come() {
        let old = rehearsed("2026-07-01T04:00:00Z", "a", DrillOutcome::Passed);
        let new = rehearsed("2026-10-01T04:00:00Z", "b", DrillOutcome::Failed("step 2".into()));
        let (mut one, mut other) = (RehearsalHistory::default(), RehearsalHistory::default());
        one.add(&new);
        other.add(&old);
        one.merge(&other);
        assert_eq!((one.last.as_ref(), one.passed.as_ref()), (Some(&new), Some(&old)));
        assert_eq!(one.slot, Some(new.began));
        assert_eq!(one.stores[&"agama".parse::<FolderName>().unwrap()].len(), 2);
    }
}
