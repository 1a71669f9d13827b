//! A part of a fleet that can be planned for by itself: no planner looks from one backup to another, but for how many
//! checks a store bears at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    inventory::{Armed, Interrupted, Inventory, Made, Observed, StoreInventory},
    spec::{
        Moves, Spec,
        names::{BackupName, StoreName},
    },
};

/// A part of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The infra repo's own backup, with its mirrors.
    Infra,
    /// Some backups, whether they are declared or were once.
    Backups(BTreeSet<BackupName>),
}

impl Part {
    /// What goes by another declaration in `after` than in `before`; `None` where that may be anything.
    pub fn touched(before: &Spec, after: &Spec) -> Option<Self> {
        if !shares_all_but_backups(before, after) {
            return None;
        }
        let names = before.backups.keys().chain(after.backups.keys());
        let touched = names.filter(|name| before.backups.get(*name) != after.backups.get(*name));
        let renamed = before.moved.differing(&after.moved);
        Some(Part::Backups(touched.chain(renamed).cloned().collect()))
    }

    /// What is declared of it.
    pub fn spec(&self, whole: &Spec) -> Spec {
        let declared = |name: &BackupName| Some((name.clone(), whole.backups.get(name)?.clone()));
        let (backups, infra) = match self {
            Part::Infra => (BTreeMap::new(), whole.infra.clone()),
            Part::Backups(names) => (names.iter().filter_map(declared).collect(), None),
        };
        let orphans = whole.orphans.iter().filter(|(name, _)| self.has(name));
        Spec {
            stores: whole.stores.clone(),
            backups,
            infra,
            orphans: orphans.map(|(name, orphan)| (name.clone(), orphan.clone())).collect(),
            moved: whole.moved.clone(),
            suspensions: whole.suspensions.clone(),
            ..Spec::of(whole.fleet.clone())
        }
    }

    /// What was seen of it.
    pub fn inventory(&self, whole: &Inventory, moved: &Moves) -> Inventory {
        let in_store = |(name, store): (&StoreName, &Observed<StoreInventory>)| {
            (name.clone(), store.as_ref().map(|store| self.stored(store, moved)))
        };
        Inventory {
            stores: whole.stores.iter().map(in_store).collect(),
            armed: whole.armed.as_ref().map(|armed| self.armed(armed)),
            infra: whole.infra.clone(),
            interrupted: {
                let ours = |left: &&Interrupted| self.has(&moved.backup(&left.backup));
                whole.interrupted.iter().filter(ours).cloned().collect()
            },
            made: self.made(&whole.made),
        }
    }

    fn has(&self, name: &BackupName) -> bool {
        match self {
            Part::Infra => name.is_infra(),
            Part::Backups(names) => names.contains(name),
        }
    }

    fn stored(&self, store: &StoreInventory, moved: &Moves) -> StoreInventory {
        let stored = |name: &BackupName| Some((moved.folder(name), store.of(name, moved)?.clone()));
        StoreInventory {
            clock: store.clock,
            standing: store.standing.clone(),
            records: store.records.clone(),
            rules: store.rules.clone(),
            restore_page: store.restore_page,
            backups: match self {
                Part::Infra => stored(&BackupName::infra()).into_iter().collect(),
                Part::Backups(names) => names.iter().filter_map(stored).collect(),
            },
            bytes: store.bytes,
        }
    }

    fn made(&self, made: &Made) -> Made {
        let armed = made.armed.iter().filter(|(schedule, _)| self.has(&schedule.backup));
        Made {
            scheduler: made.scheduler.clone(),
            armed: armed.map(|(schedule, since)| (schedule.clone(), *since)).collect(),
            mirrors: made.mirrors.clone(),
            stores: made.stores.clone(),
        }
    }

    fn armed(&self, armed: &Armed) -> Armed {
        let schedules = armed.schedules.iter().filter(|schedule| self.has(&schedule.backup));
        let altered = armed.altered.iter().filter(|(schedule, _)| self.has(&schedule.backup));
        Armed {
            by: armed.by.clone(),
            schedules: schedules.cloned().collect(),
            altered: altered.map(|(schedule, how)| (schedule.clone(), how.clone())).collect(),
            strangers: BTreeMap::new(),
        }
    }
}

/// Whether nothing differs but backups and their names, and what no plan goes by.
fn shares_all_but_backups(before: &Spec, after: &Spec) -> bool {
    rest(before) == rest(after)
}

fn rest(spec: &Spec) -> impl PartialEq + '_ {
    // A field that is added must be judged here.
    let Spec {
        fleet,
        contacts: _,
        stores,
        backups: _,
        infra,
        vms,
        recoveries,
        drills,
        orphans,
        moved: _,
        suspensions,
    } = spec;
    (fleet, stores, infra, vms, recoveries, drills, orphans, suspensions)
}
