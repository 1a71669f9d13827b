//! What records tell of drills.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Inventory, Observed};
use crate::{
    artifact::drill::Drilled,
    spec::names::{DrillName, FolderName, StoreName},
};

/// What is known of one drill of one backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrillHistory {
    /// The newest result.
    pub last: Option<Drilled>,
    /// The newest one that passed.
    pub passed: Option<Drilled>,
    /// The latest slot that a result fills.
    pub slot: Option<Timestamp>,
    /// When it was last made from each store.
    pub stores: BTreeMap<StoreName, Timestamp>,
}

impl DrillHistory {
    /// Takes note of a result, in any order; of one that is known already nothing changes.
    pub fn add(&mut self, drilled: &Drilled) {
        let is_newer = |known: &Option<Drilled>| known.as_ref().is_none_or(|it| it.began < drilled.began);
        if is_newer(&self.last) {
            self.last = Some(drilled.clone());
        }
        if drilled.outcome.is_passed() && is_newer(&self.passed) {
            self.passed = Some(drilled.clone());
        }
        self.slot = self.slot.max(drilled.slot);
        let last = self.stores.entry(drilled.store.clone()).or_insert(drilled.began);
        *last = (*last).max(drilled.began);
    }

    /// Adds what another store knows of the same drill.
    fn merge(&mut self, other: &DrillHistory) {
        other.last.iter().chain(&other.passed).for_each(|drilled| self.add(drilled));
        self.slot = self.slot.max(other.slot);
        for (store, at) in &other.stores {
            let last = self.stores.entry(store.clone()).or_insert(*at);
            *last = (*last).max(*at);
        }
    }
}

impl Inventory {
    /// What the records of all stores tell of a drill of a backup.
    pub fn drill_history(&self, drill: &DrillName, backup: &FolderName) -> DrillHistory {
        let mut history = DrillHistory::default();
        for store in self.stores.values().filter_map(Observed::known) {
            if let Some(known) = store.records.drill(drill, backup) {
                history.merge(known);
            }
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{ArtifactId, drill::DrillOutcome};

    fn drilled(began: &str, store: &str, outcome: DrillOutcome) -> Drilled {
        let began: Timestamp = began.parse().unwrap();
        Drilled {
            drill: "agama".parse().unwrap(),
            slot: None,
            began,
            backup: "agama".parse().unwrap(),
            artifact: ArtifactId::new(began, 1),
            logs: 0,
            store: store.parse().unwrap(),
            point: began,
            outcome,
            stages: Vec::new(),
            checks: Vec::new(),
            rpo_seconds: None,
            rto_seconds: None,
            bytes: 0,
            isolation: None,
            sealed: None,
        }
    }

    #[test]
    fn the_newest_result_counts_in_whatever_order_they_come() {
        let old = drilled("2026-11-01T04:00:00Z", "a", DrillOutcome::Passed);
        let new = drilled("2026-11-02T04:00:00Z", "b", DrillOutcome::Failed("1 of 1 checks failed".into()));
        let mut history = DrillHistory::default();
        [&new, &old, &new].into_iter().for_each(|it| history.add(it));
        assert_eq!(history.last.as_ref(), Some(&new));
        assert_eq!(history.passed.as_ref(), Some(&old));
        assert_eq!(history.stores.len(), 2);
    }
}
