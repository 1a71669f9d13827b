//! A complete listing of a fleet's folder, sorted by what the objects are.

use std::collections::BTreeMap;

use crate::{
    artifact::{
        ArtifactId,
        layout::{self, Holder, Object, PackName},
    },
    inventory::RestorePage,
    spec::names::{FleetName, FolderName},
    stores::Listed,
};

/// What a store lists of one fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetListing {
    /// By backup.
    pub backups: BTreeMap<FolderName, BackupListing>,
    /// The records and their signatures, by sequence.
    pub records: BTreeMap<u64, RecordListing>,
    /// Whether the page that tells how to restore is there.
    pub restore_page: RestorePage,
    /// Objects that are nothing of ours.
    pub foreign: u64,
    /// Bytes of everything.
    pub bytes: u64,
    /// How many objects there are.
    pub objects: u64,
}

/// What a store lists of one record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordListing {
    /// The record.
    pub record: Option<Listed>,
    /// Its signature.
    pub signature: Option<Listed>,
}

/// What a store lists of one backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupListing {
    /// Manifests.
    pub manifests: BTreeMap<ArtifactId, Listed>,
    /// Sizes of manifests' signatures.
    pub signatures: BTreeMap<ArtifactId, u64>,
    /// Sizes of packs.
    pub packs: BTreeMap<PackName, u64>,
    /// Sizes of indexes.
    pub indexes: BTreeMap<ArtifactId, u64>,
    /// Leases, by their turns.
    pub leases: BTreeMap<Holder, BTreeMap<u32, Listed>>,
    /// Bytes of everything.
    pub bytes: u64,
}

impl FleetListing {
    /// Sorts what a store listed below the folder of `fleet`, or of one of its backups.
    pub fn sort(fleet: &FleetName, listed: Vec<Listed>) -> Self {
        let mut sorted = Self::default();
        for object in listed {
            sorted.objects += 1;
            sorted.bytes += object.size;
            match layout::classify(fleet, &object.name) {
                Some(kind) => sorted.take(kind, object),
                None => sorted.foreign += 1,
            }
        }
        sorted
    }

    fn take(&mut self, kind: Object, object: Listed) {
        let size = object.size;
        match kind {
            Object::Manifest(backup, id) => {
                self.of(backup, size).manifests.insert(id, object);
            }
            Object::ManifestSignature(backup, id) => {
                self.of(backup, size).signatures.insert(id, size);
            }
            Object::Pack(backup, pack) => {
                self.of(backup, size).packs.insert(pack, size);
            }
            Object::Index(backup, id) => {
                self.of(backup, size).indexes.insert(id, size);
            }
            Object::Lease(backup, holder, turn) => {
                self.of(backup, size).leases.entry(holder).or_default().insert(turn, object);
            }
            Object::Record(sequence) => self.records.entry(sequence).or_default().record = Some(object),
            Object::RecordSignature(sequence) => {
                self.records.entry(sequence).or_default().signature = Some(object);
            }
            Object::RestorePage => self.restore_page = RestorePage::There,
        }
    }

    fn of(&mut self, backup: FolderName, size: u64) -> &mut BackupListing {
        let listing = self.backups.entry(backup).or_default();
        listing.bytes += size;
        listing
    }

    /// Whether nothing was ever committed here: at most what captures left behind that were cut off, which their leases
    /// show, and a record of which only the signature was written.
    pub fn holds_nothing_committed(&self) -> bool {
        self.foreign == 0
            && self.records.values().all(|record| record.record.is_none())
            && self.backups.values().all(BackupListing::is_left_behind)
    }
}

impl BackupListing {
    fn is_left_behind(&self) -> bool {
        let writers = self.packs.keys().map(|pack| pack.artifact);
        let mut writers = writers.chain(self.indexes.keys().copied()).chain(self.signatures.keys().copied());
        self.manifests.is_empty() && writers.all(|id| self.leases.contains_key(&Holder::Writer(id)))
    }
}
