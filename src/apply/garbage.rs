//! What no manifest names, by a fresh and complete listing; and whether it may go now.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    artifact::{
        ArtifactId,
        layout::{ObjectName, PackName},
    },
    clock::Clock,
    inventory::Lease,
    observe::{
        listing::{BackupListing, FleetListing},
        stores::Look,
    },
    spec::names::BackupName,
    stores::StoreError,
};

/// One backup in one store, just listed.
pub(super) struct Garbage<'a> {
    look: &'a Look,
    backup: &'a BackupName,
    listing: BackupListing,
    /// Every pack that a manifest names.
    named: BTreeMap<PackName, u64>,
    unreadable: Vec<ArtifactId>,
    leases: BTreeMap<ArtifactId, Lease>,
    /// The earlier of our clock and the store's.
    now: Timestamp,
}

impl<'a> Garbage<'a> {
    /// Lists the backup's folder and reads what every manifest names.
    pub(super) async fn look(
        look: &'a Look,
        backup: &'a BackupName,
        clock: &dyn Clock,
    ) -> Result<Self, StoreError> {
        let now = clock.now().min(look.store.clock().await?);
        // Leases first: a capture that commits while we look has given up its lease, and its manifest is seen.
        let listed = look.store.list(&look.folder(backup).folder()).await?;
        let before = FleetListing::sort(&look.fleet, listed).backups.remove(backup).unwrap_or_default();
        let leases = look.leases(&before).await?;
        let listed = look.store.list(&look.folder(backup).folder()).await?;
        let listing = FleetListing::sort(&look.fleet, listed).backups.remove(backup).unwrap_or_default();
        let (mut named, mut unreadable) = (BTreeMap::new(), Vec::new());
        for (id, outline) in look.outlines(backup, &listing).await? {
            match outline {
                Ok(outline) => named.extend(outline.packs),
                Err(_) => unreadable.push(id),
            }
        }
        Ok(Self { look, backup, listing, named, unreadable, leases, now })
    }

    /// The public key of the controller whose lease on `capture` is there.
    pub(super) fn writer(&self, capture: ArtifactId) -> Option<&str> {
        self.leases.get(&capture).map(|lease| lease.controller.as_str())
    }

    /// Why nothing that `captures` wrote may be deleted now, if so.
    pub(super) fn withheld(&self, captures: &BTreeSet<ArtifactId>) -> Option<String> {
        if let Some(id) = self.unreadable.first() {
            return Some(format!("the manifest of {id} cannot be read, and may name any pack"));
        }
        let live = self.leases.iter().find(|(id, lease)| {
            // A capture that opens an epoch shares nobody's packs.
            let concerns = lease.epoch != **id || captures.contains(id);
            lease.until > self.now && concerns
        });
        live.map(|(id, lease)| format!("{id} is being written until {}", lease.until))
    }

    /// From here on the lease of `id` counts for nothing: nobody writes under it any more.
    pub(super) fn forget_lease(&mut self, id: ArtifactId) {
        self.leases.remove(&id);
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
