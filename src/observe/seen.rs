//! What was seen last, kept up with our own writes, so that a pass need not list every store again.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Freshness;
use crate::{
    artifact::{ArtifactId, Depth},
    inventory::{Condition, Inventory, Observed, RestorePage, Standing, StoreInventory, StoredArtifact},
    spec::names::{BackupName, StoreName},
};

/// The inventory as it was last seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What was seen.
    pub inventory: Inventory,
    listings: BTreeMap<StoreName, Listing>,
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
    /// An artifact was checked.
    Checked {
        /// Which.
        artifact: ArtifactId,
        /// How thoroughly.
        depth: Depth,
        /// What is wrong; empty when all was well.
        damage: Vec<String>,
    },
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

    pub(super) fn is_fresh(&self, store: &StoreName, freshness: Freshness, now: Timestamp) -> bool {
        let Some(listing) = self.listings.get(store) else { return false };
        match freshness {
            Freshness::Now => false,
            Freshness::AsSeen => true,
            // A listing of the future was made before the clock jumped.
            Freshness::Within(age) => {
                listing.at <= now && now.duration_since(listing.at).unsigned_abs() <= age
            }
        }
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

    /// Lets the stores' clocks go on since their listings.
    pub(super) fn tick(&mut self, now: Timestamp) {
        for (store, listing) in &self.listings {
            if let Some(Observed::Known(found)) = self.inventory.stores.get_mut(store) {
                let passed = now.duration_since(listing.at);
                found.clock = listing.clock.saturating_add(passed).unwrap_or(listing.clock);
            }
        }
    }

    /// Keeps up with one of our own writes.
    pub fn apply(&mut self, store: &StoreName, backup: &BackupName, change: Change, now: Timestamp) {
        let Some(Observed::Known(found)) = self.inventory.stores.get_mut(store) else { return };
        if change == Change::Unclear {
            return self.forget(store);
        }
        let stored = found.backups.entry(backup.clone()).or_default();
        match change {
            Change::Committed(artifact) => {
                (stored.bytes, found.bytes) = (stored.bytes + artifact.bytes, found.bytes + artifact.bytes);
                let place = stored.artifacts.partition_point(|other| other.id < artifact.id);
                stored.artifacts.insert(place, *artifact);
                // Also what was empty holds something of ours now; whatever commits puts the page as well.
                (found.standing, found.restore_page) = (Standing::Ours, RestorePage::There);
            }
            Change::Deleted(id) => {
                stored.artifacts.retain(|artifact| artifact.id != id);
                stored.deletions.push(now);
            }
            Change::Checked { artifact, depth, damage } => {
                if let Some(artifact) = stored.artifacts.iter_mut().find(|known| known.id == artifact) {
                    checked(artifact, depth, &damage, now);
                }
            }
            Change::Unclear => {}
        }
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
