//! What records tell of recoveries.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Inventory, Observed};
use crate::{
    artifact::recovered::{MadeOf, Part, PartId, Recovered, RecoveredOutcome, RecoverySubject, Terms},
    spec::names::VmName,
};

/// Older times of the same recovery are forgotten.
const RUNS: usize = 20;

/// Every time that something was brought back, as far as it is remembered, by its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryHistory(BTreeMap<Timestamp, RecoveryRun>);

/// One time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryRun {
    /// How many parts the whole has.
    pub parts: usize,
    /// What became of the last try of each part.
    pub told: BTreeMap<PartId, Recovered>,
}

impl RecoveryHistory {
    /// Takes note of a part that ended, in any order; of one that is known already nothing changes.
    pub fn add(&mut self, recovered: &Recovered) {
        let run = self.0.entry(recovered.run).or_default();
        run.parts = run.parts.max(recovered.parts);
        let known = run.told.entry(recovered.id).or_insert_with(|| recovered.clone());
        // Of one try its end comes after its beginning.
        if (known.began, known.outcome) < (recovered.began, recovered.outcome) {
            *known = recovered.clone();
        }
        while self.0.len() > RUNS {
            self.0.pop_first();
        }
    }

    fn merge(&mut self, other: &RecoveryHistory) {
        other.0.values().flat_map(|run| run.told.values()).for_each(|recovered| self.add(recovered));
    }

    /// The last time, with its beginning.
    pub fn last(&self) -> Option<(Timestamp, &RecoveryRun)> {
        self.0.last_key_value().map(|(run, it)| (*run, it))
    }

    /// The last time that came to its end, with its beginning.
    pub fn last_whole(&self) -> Option<(Timestamp, &RecoveryRun)> {
        self.0.iter().rev().find(|(_, run)| run.is_whole()).map(|(run, it)| (*run, it))
    }
}

impl RecoveryRun {
    /// What became of a part of a step that was declared so; `None` where it was never begun.
    pub fn outcome(&self, id: PartId, step: &str) -> Option<RecoveredOutcome> {
        self.told.get(&id).filter(|it| it.step == step).map(|it| it.outcome)
    }

    /// Of what a provider began to make something for a part of a step that was declared so; `None` where it was never begun.
    pub fn made_of(&self, id: PartId, step: &str) -> Option<MadeOf> {
        self.told.get(&id).filter(|it| it.step == step).and_then(|it| it.of)
    }

    /// The terms of its beginning.
    pub fn terms(&self) -> Terms {
        self.told.values().min_by_key(|it| it.began).map(|it| it.terms.clone()).unwrap_or_default()
    }

    /// How many parts succeeded.
    pub fn done(&self) -> usize {
        self.told.values().filter(|it| it.outcome == RecoveredOutcome::Done).count()
    }

    /// Whether everything succeeded that the last plan of it did: what an earlier one did counts where that left it out, and
    /// nothing counts that was done of a step which is declared otherwise since.
    pub fn is_whole(&self) -> bool {
        let Some(last) = self.told.values().max_by_key(|it| it.attempt) else { return false };
        let of_last = self.told.values().filter(|it| it.attempt == last.attempt);
        of_last.filter(|it| it.outcome == RecoveredOutcome::Done).count() >= last.left
    }

    /// When the last of its parts ended.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.told.values().map(Recovered::ended).max()
    }

    /// How long was worked for each purpose, milliseconds: what went beside each other counts for each.
    pub fn worked(&self) -> BTreeMap<Part, u64> {
        let mut worked = BTreeMap::new();
        for it in self.told.values() {
            *worked.entry(it.id.part).or_insert(0) += it.milliseconds;
        }
        worked
    }
}

impl Inventory {
    /// Where a machine was made the last time, as the records of all stores tell.
    pub fn made_at(&self, vm: &VmName) -> Option<&str> {
        let stores = self.stores.values().filter_map(Observed::known);
        let runs = stores.flat_map(|store| store.records.recoveries()).flat_map(|history| history.0.values());
        let made = runs.flat_map(|run| run.told.values()).filter(|it| {
            it.id.part == Part::Provision && it.place.as_ref().is_some_and(|(made, _)| made == vm)
        });
        made.max_by_key(|it| it.began).and_then(|it| it.place.as_ref()).map(|(_, place)| place.as_str())
    }

    /// What the records of all stores tell of the times that something was brought back.
    pub fn recovery_history(&self, subject: &RecoverySubject) -> RecoveryHistory {
        let mut history = RecoveryHistory::default();
        for store in self.stores.values().filter_map(Observed::known) {
            if let Some(known) = store.records.recovery(subject) {
                history.merge(known);
            }
        }
        history
    }
}
