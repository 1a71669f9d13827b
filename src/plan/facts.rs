//! What planners see: the declaration, the inventory, the limits and the moment, with the questions they all ask.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{CannotRun, Limits, cannot_run};
use crate::{
    artifact::{ArtifactId, Depth},
    inventory::{Inventory, Lease, Observed, Reading, Standing, StoreInventory, StoredBackup},
    spec::{
        Backup, Retention, Spec, Suspension, Verify,
        names::{BackupName, StoreName},
        retention::{Rules, Selects},
    },
};

/// A lease that ends later than this from now makes nobody wait: leases last for an hour at a time, so that it is none that
/// anybody keeps up.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);
/// How far a store's clock may be from the controller's before nothing is deleted.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(600);

/// How often the infra repo's bundles are checked; nothing declares it.
const INFRA_VERIFY: Verify = Verify {
    metadata: Some(Duration::from_secs(24 * 3600)),
    data: Some(Duration::from_secs(7 * 24 * 3600)),
    plaintext: None,
};

/// What planners see.
pub(crate) struct Facts<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) inventory: &'a Inventory,
    pub(crate) limits: &'a Limits,
    pub(crate) now: Timestamp,
    /// Everything whose artifacts are to be kept: the backups, and the infra repo.
    pub(crate) protected: BTreeMap<BackupName, Protected<'a>>,
    /// What can't be done, by this build or on this host.
    pub(crate) cannot_run: Vec<CannotRun>,
    /// What stands still now.
    pub(crate) suspensions: Vec<Suspension>,
}

/// What a backup or the infra repo declares of its artifacts.
pub(crate) struct Protected<'a> {
    pub(crate) stores: &'a [StoreName],
    pub(crate) verify: Verify,
    keep: &'a Retention,
    keep_in: &'a BTreeMap<StoreName, Retention>,
    selects: Selects,
}

impl<'a> Facts<'a> {
    pub(crate) fn gather(
        spec: &'a Spec,
        inventory: &'a Inventory,
        limits: &'a Limits,
        now: Timestamp,
    ) -> Self {
        let mut protected: BTreeMap<BackupName, Protected<'a>> =
            spec.backups.iter().map(|(name, backup)| (name.clone(), Protected::of(backup))).collect();
        if let Some(infra) = &spec.infra {
            let (keep, keep_in, selects) = (&infra.keep, &infra.keep_in, Selects::EveryKind);
            let stores = &infra.stores;
            protected.insert(
                BackupName::infra(),
                Protected { stores, verify: INFRA_VERIFY, keep, keep_in, selects },
            );
        }
        let mut cannot_run = cannot_run::by_this_build(spec);
        cannot_run.extend(limits.refused.iter().cloned());
        cannot_run.extend(cannot_run::by_identities(spec, limits));
        cannot_run.extend(cannot_run::by_scheduler(inventory));
        cannot_run.extend(super::drill::unreadable(spec, limits));
        cannot_run.sort_unstable();
        cannot_run.dedup();
        let suspensions = inventory.suspensions(spec).into_iter().filter(|it| it.is_on(now)).collect();
        Self { spec, inventory, limits, now, protected, cannot_run, suspensions }
    }

    /// Why a resource such as `backup.orders` can't run, if it can't.
    pub(crate) fn cannot_run(&self, resource: &str) -> Option<&str> {
        let at = self.cannot_run.partition_point(|c| c.resource.as_str() < resource);
        self.cannot_run.get(at).filter(|c| c.resource == resource).map(|c| c.why.as_str())
    }

    /// Whether what is read in one store can be written into another: byte for byte, or encrypted anew.
    pub(crate) fn can_copy(&self, from: &StoreName, to: &StoreName) -> bool {
        cannot_run::can_copy(self.spec, self.limits, from, to)
    }

    /// The deepest check that can be made of what is in a store.
    pub(crate) fn deepest_check(&self, store: &StoreName) -> Depth {
        match cannot_run::can_read(self.spec, self.limits, store) {
            true => self.limits.deepest_check,
            false => self.limits.deepest_check.min(Depth::Data),
        }
    }

    /// Why a check of `wanted` depth is made less deep in a store; `None` where it can be made.
    pub(crate) fn shallower(&self, wanted: Depth, store: &StoreName) -> Option<String> {
        (wanted > self.deepest_check(store)).then(|| {
            let made = wanted.min(self.deepest_check(store));
            format!(
                "in place of the {wanted} check a {made} check is made in {store}: this controller has no identity \
                 that can read what is there"
            )
        })
    }

    /// A store whose content is known and may be believed; otherwise why it is as good as unknown.
    pub(crate) fn store(&self, name: &StoreName) -> Result<&'a StoreInventory, String> {
        if let Some(why) = self.cannot_run(&format!("store.{name}")) {
            return Err(format!("store {name} cannot run here: {why}"));
        }
        match self.inventory.stores.get(name) {
            None => Err(format!("store {name} was not looked at")),
            Some(Observed::Unknown(why)) => Err(format!("store {name} is unknown: {why}")),
            Some(Observed::Known(store)) => match &store.standing {
                Standing::Refused(why) => Err(format!("store {name} is refused: {why}")),
                Standing::Empty | Standing::Ours => Ok(store),
            },
        }
    }

    /// What a store that can be believed holds of a backup.
    pub(crate) fn stored(&self, backup: &BackupName, store: &StoreName) -> Result<&'a StoredBackup, String> {
        Ok(self.store(store)?.of(backup, &self.spec.moved).unwrap_or(StoredBackup::NOTHING))
    }

    /// Every store that can be believed and what it holds of a backup; those that its declaration names come first.
    pub(crate) fn holdings(&self, backup: &BackupName) -> Vec<(&'a StoreName, &'a StoredBackup)> {
        let declared: &[StoreName] = self.protected.get(backup).map_or(&[], |p| p.stores);
        let further = self.inventory.stores.keys().filter(|name| !declared.contains(name));
        let first = declared.iter().filter_map(|name| self.inventory.stores.get_key_value(name));
        let names = first.map(|(name, _)| name).chain(further);
        names.filter_map(|name| Some((name, self.stored(backup, name).ok()?))).collect()
    }

    /// The moment that ages in a store count from: the earlier of our clock and its own.
    pub(crate) fn now_in(&self, store: &StoreInventory) -> Timestamp {
        self.now.min(store.clock)
    }

    /// The rules of a backup in a store.
    pub(crate) fn rules<'b>(&'b self, protected: &'b Protected<'a>, store: &StoreName) -> Rules<'b> {
        let keep = protected.keep_in.get(store).unwrap_or(protected.keep);
        Rules { keep, selects: protected.selects, zone: &self.spec.fleet.time_zone }
    }

    /// Captures of the backup that go on in a store, other than what an earlier pass of ours left behind.
    fn live_leases(&self, backup: &BackupName, store: &StoreName) -> Vec<(ArtifactId, &'a Lease)> {
        let Ok(inventory) = self.store(store) else { return Vec::new() };
        let Some(stored) = inventory.of(backup, &self.spec.moved) else { return Vec::new() };
        let ours = |id: ArtifactId| self.is_interrupted(backup, store, id);
        let ended = |id: ArtifactId| ours(id) || stored.artifact(id).is_some();
        let now = self.now_in(inventory);
        let live = stored.leases.iter().filter(|(id, lease)| lease.until > now && !ended(**id));
        live.map(|(id, lease)| (*id, lease)).collect()
    }

    /// Restores and checks of the backup that go on in a store, other than what an earlier pass of ours left behind.
    pub(crate) fn live_readings(
        &self,
        backup: &BackupName,
        store: &StoreName,
    ) -> Vec<(ArtifactId, &'a Reading)> {
        let Ok(inventory) = self.store(store) else { return Vec::new() };
        let Some(stored) = inventory.of(backup, &self.spec.moved) else { return Vec::new() };
        let ended = |id: ArtifactId| self.is_interrupted(backup, store, id);
        let now = self.now_in(inventory);
        let live = stored.readings.iter().filter(|(id, reading)| reading.until > now && !ended(**id));
        live.map(|(id, reading)| (*id, reading)).collect()
    }

    /// Whether what an earlier pass of ours left in a store has this name.
    fn is_interrupted(&self, backup: &BackupName, store: &StoreName, id: ArtifactId) -> bool {
        let left = &self.inventory.interrupted;
        !left.is_empty() && {
            let folder = self.spec.moved.folder(backup);
            left.iter().any(|i| i.is(&folder, store, id))
        }
    }

    /// A capture whose lease keeps what it may reuse from being deleted.
    pub(crate) fn live_lease(
        &self,
        backup: &BackupName,
        store: &StoreName,
    ) -> Option<(ArtifactId, &'a Lease)> {
        self.live_leases(backup, store).pop()
    }

    /// A capture that another one waits for. A lease from the future, which a clock that jumped left behind, is not believed
    /// for that: it would hold captures up for ever. It keeps things from being deleted all the same.
    pub(crate) fn capture_under_way(
        &self,
        backup: &BackupName,
        store: &StoreName,
    ) -> Option<(ArtifactId, &'a Lease)> {
        let soon = self.now.checked_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX);
        let believed = |(id, lease): &(ArtifactId, &Lease)| id.time() <= self.now && lease.until <= soon;
        self.live_leases(backup, store).into_iter().find(believed)
    }

    /// A store whose clock can't be reconciled with ours, if there is one.
    pub(crate) fn strange_clock(&self) -> Option<String> {
        self.inventory.stores.iter().find_map(|(name, store)| {
            let apart = store.known()?.clock.duration_since(self.now).unsigned_abs();
            (apart > CLOCK_TOLERANCE).then(|| {
                format!("the clock of store {name} and ours are {}s apart; set them right", apart.as_secs())
            })
        })
    }
}

impl<'a> Protected<'a> {
    fn of(backup: &'a Backup) -> Self {
        Self {
            stores: &backup.stores,
            verify: backup.policy.verify.clone(),
            keep: &backup.policy.keep,
            keep_in: &backup.keep_in,
            selects: Selects::Fulls,
        }
    }
}
