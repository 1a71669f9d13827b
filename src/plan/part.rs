//! A part of a fleet that can be planned for by itself: no planner looks from one backup to another, but for how many
//! checks a store bears at once.

use std::collections::{BTreeMap, BTreeSet};

use super::{CannotRun, Plan, Waiting};
use crate::{
    inventory::{Armed, Interrupted, Inventory, Made, Observed, StoreInventory},
    spec::{
        Moves, Spec,
        names::{BackupName, INFRA, StoreName},
    },
};

/// A part of a fleet: some backups, whether they are declared or were once; among them may be the infra repo's own, with its
/// mirrors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part(BTreeSet<BackupName>);

impl Part {
    /// These backups.
    pub fn of(names: impl IntoIterator<Item = BackupName>) -> Self {
        Self(names.into_iter().collect())
    }

    /// The infra repo's own backup.
    pub fn infra() -> Self {
        Self::of([BackupName::infra()])
    }

    /// The same with the infra repo's own backup.
    pub fn and_infra(mut self) -> Self {
        self.0.insert(BackupName::infra());
        self
    }

    /// What goes by another declaration in `after` than in `before`; `None` where that may be anything.
    pub fn touched(before: &Spec, after: &Spec) -> Option<Self> {
        if !shares_all_but_backups(before, after) {
            return None;
        }
        let names = before.backups.keys().chain(after.backups.keys());
        let touched = names.filter(|name| before.backups.get(*name) != after.backups.get(*name));
        let renamed = before.moved.differing(&after.moved);
        Some(Self::of(touched.chain(renamed).cloned()))
    }

    /// Whether it has this backup.
    pub fn has(&self, name: &BackupName) -> bool {
        self.0.contains(name)
    }

    /// Whether a resource such as `backup.agama.log` may be of one of these. A name may end like the resource of another:
    /// of `agama.log`, too.
    pub fn may_have(&self, resource: &str) -> bool {
        let mut name = match resource {
            INFRA => return self.has(&BackupName::infra()),
            _ => resource.strip_prefix("backup."),
        };
        while let Some(candidate) = name {
            if self.0.contains(candidate) {
                return true;
            }
            name = candidate.rsplit_once('.').map(|(shorter, _)| shorter);
        }
        false
    }

    /// The plan of everything, where nothing but this part has changed since `before` was that plan.
    pub fn plan_beside(&self, before: &Plan, of_part: Plan) -> Plan {
        let is_others = |waiting: &&Waiting| waiting.backup.as_ref().is_none_or(|backup| !self.has(backup));
        let waits = before.waiting.iter().filter(is_others).cloned();
        let mut waiting: Vec<Waiting> = waits.collect();
        let new = of_part
            .waiting
            .iter()
            .filter(|waiting| waiting.backup.is_some() || !before.waiting.contains(waiting));
        waiting.extend(new.cloned());
        let others = before.cannot_run.iter().filter(|cannot| !self.may_have(&cannot.resource));
        let cannot_run: BTreeSet<CannotRun> = others.chain(&of_part.cannot_run).cloned().collect();
        Plan { waiting, cannot_run: cannot_run.into_iter().collect(), ..of_part }
    }

    /// What is declared of it.
    pub fn spec(&self, whole: &Spec) -> Spec {
        let declared = |name: &BackupName| Some((name.clone(), whole.backups.get(name)?.clone()));
        let orphans = whole.orphans.iter().filter(|(name, _)| self.has(name));
        Spec {
            stores: whole.stores.clone(),
            backups: self.0.iter().filter_map(declared).collect(),
            infra: whole.infra.clone().filter(|_| self.has(&BackupName::infra())),
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
            kept_logs: {
                let ours = whole.kept_logs.iter().filter(|(name, _)| self.has(name));
                ours.map(|(name, seen)| (name.clone(), seen.clone())).collect()
            },
            readers: {
                let ours = whole.readers.iter().filter(|(folder, _)| self.has(&moved.backup(folder)));
                ours.map(|(folder, reader)| (folder.clone(), reader.clone())).collect()
            },
            provided: {
                let ours = whole.provided.iter().filter(|(name, _)| self.has(name));
                ours.map(|(name, seen)| (name.clone(), seen.clone())).collect()
            },
            machines: BTreeMap::new(),
            stand_ins: BTreeMap::new(),
            left_behind: Vec::new(),
            previews_left: Vec::new(),
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
            backups: self.0.iter().filter_map(stored).collect(),
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
            providers: {
                let ours = made.providers.iter().filter(|(name, _)| self.has(name));
                ours.map(|(name, left)| (name.clone(), left.clone())).collect()
            },
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
        traffic,
        drills,
        orphans,
        moved: _,
        suspensions,
    } = spec;
    (fleet, stores, infra, vms, recoveries, traffic, drills, orphans, suspensions)
}
