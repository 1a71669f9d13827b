//! What no manifest names, by a fresh and complete listing; and whether it may go now.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    artifact::{
        ArtifactId,
        layout::{Holder, ObjectName, PackName},
    },
    clock::Clock,
    inventory::Lease,
    observe::{
        listing::{BackupListing, FleetListing},
        stores::{
            Look,
            leases::{self, Leases, Turns},
        },
    },
    spec::names::FolderName,
    stores::StoreError,
};

/// One backup in one store, just listed.
pub(super) struct Garbage<'a> {
    look: &'a Look,
    backup: &'a FolderName,
    listing: BackupListing,
    /// Every pack that a manifest names.
    named: BTreeMap<PackName, u64>,
    unreadable: Vec<ArtifactId>,
    /// As they were listed before their leases were read: a later turn belongs to one that is live.
    turns: Turns,
    leases: Leases,
    /// The earlier of our clock and the store's.
    now: Timestamp,
}

impl<'a> Garbage<'a> {
    /// Lists the backup's folder and reads what every manifest names.
    pub(super) async fn look(
        look: &'a Look,
        backup: &'a FolderName,
        clock: &dyn Clock,
    ) -> Result<Self, StoreError> {
        let now = clock.now().min(look.store.clock().await?);
        // Leases first: a capture that commits while we look has given up its lease, and its manifest is seen.
        let folder = look.folder(backup);
        let turns = leases::listed(&folder).await?;
        let leases = leases::read(&folder, &turns).await?;
        let listed = look.store.list(&look.folder(backup).folder()).await?;
        let listing = FleetListing::sort(&look.fleet, listed).backups.remove(backup).unwrap_or_default();
        let (mut named, mut unreadable) = (BTreeMap::new(), Vec::new());
        for (id, outline) in look.outlines(backup, &listing).await? {
            match outline {
                Ok(outline) => named.extend(outline.packs),
                Err(_) => unreadable.push(id),
            }
        }
        Ok(Self { look, backup, listing, named, unreadable, turns, leases, now })
    }

    /// The lease on `capture` that is there, lapsed or not.
    pub(super) fn writer(&self, capture: ArtifactId) -> Option<&Lease> {
        self.leases.writers.get(&capture)
    }

    /// The earlier of our clock and the store's.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Why nothing that `captures` wrote may be deleted now, if so. What is read and has a manifest names its packs by that;
    /// once the manifest is gone, its reader's lease alone tells that they are needed.
    pub(super) fn withheld(&self, captures: &BTreeSet<ArtifactId>) -> Option<String> {
        if let Some(id) = self.unreadable.first() {
            return Some(format!("the manifest of {id} cannot be read, and may name any pack"));
        }
        let mut readers = self.leases.live_readers(self.now);
        let read = readers.find(|(_, reading)| {
            let gone = reading.artifacts.iter().any(|id| !self.is_committed(*id));
            gone || reading.until == Timestamp::MAX
        });
        if let Some((id, reading)) = read {
            return Some(format!("{} reads what has gone, until {:.0}", Holder::Reader(*id), reading.until));
        }
        // A capture that opens an epoch shares nobody's packs.
        let mut writers = self.leases.live_writers(self.now);
        let live = writers.find(|(id, lease)| lease.epoch != **id || captures.contains(id));
        live.map(|(id, lease)| format!("{id} is being written until {:.0}", lease.until))
    }

    /// From here on the lease of `id` counts for nothing: nobody writes under it any more.
    pub(super) fn forget_lease(&mut self, id: ArtifactId) {
        self.leases.writers.remove(&id);
    }

    /// Removes leases that have lapsed: of dead readers, and of writers of whom nothing else is left. Their holders could
    /// use them for nothing any more.
    pub(super) async fn clear_lapsed(&self) -> Result<(), StoreError> {
        for (holder, turns) in &self.turns {
            let lapsed = match holder {
                Holder::Reader(id) => self.leases.readers.get(id).is_some_and(|r| r.until <= self.now),
                Holder::Writer(id) => {
                    let lapsed = self.leases.writers.get(id).is_some_and(|l| l.until <= self.now);
                    let folder = self.look.folder(self.backup).packs_of(*id);
                    lapsed && (self.is_committed(*id) || self.look.store.list(&folder).await?.is_empty())
                }
            };
            if lapsed {
                self.remove_turns(turns.keys().map(|turn| (*holder, *turn))).await?;
            }
        }
        Ok(())
    }

    /// Removes the lease of `holder`, the newest turn last.
    pub(super) async fn remove_lease(&self, holder: Holder) -> Result<(), StoreError> {
        let turns = self.turns.get(&holder).into_iter().flat_map(|turns| turns.keys());
        self.remove_turns(turns.map(|turn| (holder, *turn))).await
    }

    async fn remove_turns(&self, turns: impl Iterator<Item = (Holder, u32)>) -> Result<(), StoreError> {
        let folder = self.look.folder(self.backup);
        for (holder, turn) in turns {
            folder.store.delete(&folder.lease(holder, turn)).await?;
        }
        Ok(())
    }

    /// The newest turn of the lease of `holder`.
    pub(super) fn last_turn(&self, holder: Holder) -> Option<u32> {
        self.turns.get(&holder)?.keys().next_back().copied()
    }

    /// Whether a manifest of this name is there, trusted or not.
    pub(super) fn is_committed(&self, id: ArtifactId) -> bool {
        self.listing.manifests.contains_key(&id)
    }

    /// Objects that `id` wrote and that no manifest names, with their bytes.
    pub(super) fn of_capture(&self, id: ArtifactId) -> Vec<(ObjectName, u64)> {
        let folder = self.look.folder(self.backup);
        let packs = self.listing.packs.iter().filter(|(pack, _)| pack.artifact == id);
        let packs = packs.filter(|(pack, _)| !self.named.contains_key(pack));
        let mut objects: Vec<(ObjectName, u64)> =
            packs.map(|(pack, size)| (folder.pack(*pack), *size)).collect();
        if !self.is_committed(id) {
            let index = self.listing.indexes.get(&id).map(|size| (folder.index(id), *size));
            let signature = self.listing.signatures.get(&id).map(|size| (folder.signature(id), *size));
            objects.extend(index.into_iter().chain(signature));
        }
        objects
    }

    /// Those of `packs` that no manifest names, with their bytes.
    pub(super) fn among(&self, packs: &[(PackName, u64)]) -> Vec<(ObjectName, u64)> {
        let folder = self.look.folder(self.backup);
        let unnamed = packs.iter().filter(|(pack, _)| !self.named.contains_key(pack));
        let there = unnamed.filter_map(|(pack, _)| Some((*pack, *self.listing.packs.get(pack)?)));
        there.map(|(pack, size)| (folder.pack(pack), size)).collect()
    }

    /// Deletes objects; returns their bytes.
    pub(super) async fn delete(&self, objects: Vec<(ObjectName, u64)>) -> Result<u64, StoreError> {
        let mut freed = 0;
        for (object, size) in objects {
            self.look.store.delete(&object).await?;
            freed += size;
        }
        Ok(freed)
    }
}
