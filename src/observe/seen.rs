//! What was seen last, kept up with our own writes, so that a pass need not list every store again.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Freshness;
use crate::{
    artifact::{
        ArtifactId, Depth,
        approval::PlanHash,
        drill::Drilled,
        record::{Mark, Record},
    },
    inventory::{
        Condition, Interrupted, Inventory, Machine, Observed, RestorePage, Standing, StoreInventory,
        StoredArtifact,
    },
    records::digest_of,
    spec::names::{DrillName, FolderName, StoreName, VmName},
};

/// The inventory as it was last seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What was seen.
    pub inventory: Inventory,
    listings: BTreeMap<StoreName, Listing>,
    /// When the machines were looked at, by the controller's clock.
    machines: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Listing {
    /// By the controller's clock.
    at: Timestamp,
    /// By the store's clock.
    clock: Timestamp,
}

/// What one of our own steps changed in a store.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An artifact was committed.
    Committed(Box<StoredArtifact>),
    /// An artifact and so many bytes of packs were deleted.
    Deleted(ArtifactId),
    /// Artifacts are about to be deleted by an approval.
    LetGo {
        /// The plan that was approved.
        plan: PlanHash,
        /// Which.
        artifacts: Vec<ArtifactId>,
    },
    /// An artifact was checked.
    Checked {
        /// Which.
        artifact: ArtifactId,
        /// How thoroughly.
        depth: Depth,
        /// What is wrong; empty when all was well.
        damage: Vec<String>,
    },
    /// A drill came to an end, which the records will tell.
    Drilled(Box<Drilled>),
    /// Something that only a listing tells.
    Unclear,
}

impl Seen {
    /// Forgets stores that are declared no more.
    pub(super) fn limited_to<'a>(mut self, declared: impl Iterator<Item = &'a StoreName>) -> Self {
        let declared: Vec<&StoreName> = declared.collect();
        self.inventory.stores.retain(|store, _| declared.contains(&store));
        self.listings.retain(|store, _| declared.contains(&store));
        self
    }

    /// Forgets a store, so that the next look lists it.
    pub fn forget(&mut self, store: &StoreName) {
        self.inventory.stores.remove(store);
        self.listings.remove(store);
    }

    /// Whether one of the stores is to be listed again, since a step of ours left unclear what it holds now.
    pub fn has_forgotten<'a>(&self, mut stores: impl Iterator<Item = &'a StoreName>) -> bool {
        stores.any(|store| !self.inventory.stores.contains_key(store))
    }

    /// When each store was listed, by the controller's clock.
    pub fn listing_times(&self) -> BTreeMap<StoreName, Timestamp> {
        self.listings.iter().map(|(store, listing)| (store.clone(), listing.at)).collect()
    }

    /// Whether a look would list nothing.
    pub fn is_all_fresh(&self, freshness: Freshness, now: Timestamp) -> bool {
        self.inventory.stores.keys().all(|store| self.is_fresh(store, freshness, now))
    }

    pub(super) fn is_fresh(&self, store: &StoreName, freshness: Freshness, now: Timestamp) -> bool {
        self.listings.get(store).is_some_and(|listing| is_within(listing.at, freshness, now))
    }

    /// Whether how these machines stand is known well enough.
    pub fn knows_machines<'a>(
        &self,
        mut declared: impl Iterator<Item = &'a VmName>,
        freshness: Freshness,
        now: Timestamp,
    ) -> bool {
        self.machines.is_some_and(|at| is_within(at, freshness, now))
            && declared.all(|vm| self.inventory.machines.contains_key(vm))
    }

    /// Takes note of how the machines stand.
    pub fn saw_machines(
        &mut self,
        machines: BTreeMap<VmName, Observed<Machine>>,
        stand_ins: BTreeMap<DrillName, BTreeMap<VmName, Observed<Machine>>>,
        now: Timestamp,
    ) {
        self.inventory.machines = machines;
        self.inventory.stand_ins = stand_ins;
        self.machines = Some(now);
    }

    pub(super) fn listed(&mut self, store: StoreName, found: Observed<StoreInventory>, now: Timestamp) {
        match &found {
            Observed::Known(known) => {
                let listing = Listing { at: now, clock: known.clock };
                self.listings.insert(store.clone(), listing);
            }
            Observed::Unknown(_) => drop(self.listings.remove(&store)),
        }
        self.inventory.stores.insert(store, found);
    }

    /// Which of `stores` are behind what the records of the others have seen of them, and why.
    pub(super) fn behind(&self, stores: &[StoreName]) -> Vec<(StoreName, String)> {
        let known = |name| Some((name, self.inventory.stores.get(name)?.known()?));
        let judged = stores.iter().filter_map(known).filter(|(_, found)| found.standing == Standing::Ours);
        let witnesses = || self.inventory.stores.keys().filter_map(known);
        let behind = judged.filter_map(|(name, found)| {
            let mut others = witnesses().filter(|(other, _)| *other != name);
            let why = others.find_map(|(other, seen)| found.records.behind(name, other, &seen.records))?;
            Some((name.clone(), why))
        });
        behind.collect()
    }

    pub(super) fn refuse(&mut self, store: &StoreName, why: String) {
        if let Some(Observed::Known(found)) = self.inventory.stores.get_mut(store) {
            found.standing = Standing::Refused(why);
        }
    }

    /// The newest record of every store but `store`: what a record that is written there is to name.
    pub fn siblings(&self, store: &StoreName) -> BTreeMap<StoreName, Mark> {
        let others = self.inventory.stores.iter().filter(|(name, _)| *name != store);
        others.filter_map(|(name, found)| Some((name.clone(), found.known()?.records.last()?))).collect()
    }

    /// Keeps up with a record of our own.
    pub fn recorded(&mut self, store: &StoreName, record: &Record) {
        if let Some(Observed::Known(found)) = self.inventory.stores.get_mut(store) {
            found.records.add(record, digest_of(record));
        }
    }

    /// Lets the stores' clocks go on since their listings.
    pub(super) fn tick(&mut self, now: Timestamp) {
        for (store, listing) in &self.listings {
            if let Some(Observed::Known(found)) = self.inventory.stores.get_mut(store) {
                let passed = now.duration_since(listing.at);
                found.clock = listing.clock.saturating_add(passed).unwrap_or(listing.clock);
            }
        }
    }

    /// Forgets what interrupted work may have left with a provider, but for that which is still open: it was cleaned up meanwhile.
    pub fn forget_copies_but_of(&mut self, open: &[Interrupted]) {
        for left in &mut self.inventory.interrupted {
            if !open.contains(left) {
                left.copy = None;
            }
        }
    }

    /// Leaves out the traces of what this controller is writing itself: that goes on, and nobody else's capture does.
    pub fn leave_out(&mut self, own: &Interrupted) {
        let Some(Observed::Known(found)) = self.inventory.stores.get_mut(&own.store) else { return };
        let Some(stored) = found.backups.get_mut(&own.backup) else { return };
        stored.leases.remove(&own.artifact);
        stored.readings.remove(&own.artifact);
        stored.unreferenced.remove(&own.artifact);
    }

    /// Keeps up with one of our own writes.
    pub fn apply(&mut self, store: &StoreName, backup: &FolderName, change: Change, now: Timestamp) {
        let Some(Observed::Known(found)) = self.inventory.stores.get_mut(store) else { return };
        if change == Change::Unclear {
            return self.forget(store);
        }
        if let Change::Drilled(drilled) = &change {
            return found.records.add_drilled(drilled);
        }
        let stored = found.backups.entry(backup.clone()).or_default();
        match change {
            Change::Committed(artifact) => {
                let id = artifact.id;
                // A listing made meanwhile may have found it already.
                if stored.artifact(artifact.id).is_none() {
                    (stored.bytes, found.bytes) =
                        (stored.bytes + artifact.bytes, found.bytes + artifact.bytes);
                    let place = stored.artifacts.partition_point(|other| other.id < artifact.id);
                    stored.artifacts.insert(place, *artifact);
                }
                stored.lost.remove(&id);
                stored.unreferenced.remove(&id);
                // Also what was empty holds something of ours now; whatever commits puts the page as well.
                (found.standing, found.restore_page) = (Standing::Ours, RestorePage::There);
            }
            Change::Deleted(id) => {
                stored.artifacts.retain(|artifact| artifact.id != id);
                stored.lost.remove(&id);
                if !stored.let_go.values().any(|approved| approved.contains(&id)) {
                    stored.deletions.push(now);
                }
            }
            Change::LetGo { plan, artifacts } => {
                stored.let_go.entry(plan).or_default().extend(artifacts);
            }
            Change::Checked { artifact, depth, damage } => {
                if let Some(artifact) = stored.artifacts.iter_mut().find(|known| known.id == artifact) {
                    checked(artifact, depth, &damage, now);
                }
            }
            Change::Drilled(_) | Change::Unclear => {}
        }
    }
}

fn is_within(at: Timestamp, freshness: Freshness, now: Timestamp) -> bool {
    match freshness {
        Freshness::Now => false,
        Freshness::AsSeen => true,
        // What is of the future was seen before the clock jumped.
        Freshness::Within(age) => at <= now && now.duration_since(at).unsigned_abs() <= age,
    }
}

fn checked(artifact: &mut StoredArtifact, depth: Depth, damage: &[String], now: Timestamp) {
    if let [first, ..] = damage {
        artifact.condition = Condition::Damaged(first.as_str().into());
        return;
    }
    match depth {
        Depth::Metadata => artifact.verified.metadata = Some(now),
        Depth::Data => artifact.verified.data = Some(now),
        Depth::Plaintext => artifact.verified.plaintext = Some(now),
    }
}
