//! What planners and sweeps need of a manifest, small enough to be kept for every artifact of a fleet.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::listing::BackupListing;
use crate::{
    artifact::{
        ArtifactId, Kind, Manifest,
        layout::PackName,
        manifest::{Content, Moment},
    },
    inventory::{Condition, LogSpan, NativeReference, Origin, StoredArtifact, Verified},
};

/// A manifest without what only a restore needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    kind: Kind,
    slot: Option<Timestamp>,
    origin: Origin,
    base: Option<ArtifactId>,
    epoch: ArtifactId,
    requires: Vec<ArtifactId>,
    supersedes: Option<ArtifactId>,
    newest: Timestamp,
    position: Option<Box<str>>,
    log: Option<Box<LogSpan>>,
    length: u64,
    /// Size of the index; `None` for a provider's own snapshot.
    index: Option<u64>,
    /// A provider's own name of it, where it is a backup that the provider keeps.
    #[serde(default)]
    native: Option<Box<NativeReference>>,
    /// Every pack in use, with its size.
    pub packs: Vec<(PackName, u64)>,
}

impl Outline {
    /// The full that opened its epoch.
    pub fn epoch(&self) -> ArtifactId {
        self.epoch
    }

    /// A provider's own name of it, where it is a backup that the provider keeps.
    pub fn native(&self) -> Option<&str> {
        self.native.as_ref().map(|native| native.reference.as_str())
    }

    /// What is kept of a manifest.
    pub fn of(manifest: &Manifest) -> Self {
        let (index, native, packs) = match &manifest.content {
            Content::Segments(segments) => {
                let packs = segments.packs.iter().map(|(pack, stored)| (*pack, stored.size)).collect();
                (Some(segments.index.size), None, packs)
            }
            Content::Native { provider, reference, place } => {
                let (provider, reference, place) = (provider.clone(), reference.clone(), place.clone());
                (None, Some(Box::new(NativeReference { provider, reference, place })), Vec::new())
            }
        };
        let (log, position) = match &manifest.moment {
            Moment::At { position, .. } => (None, position.as_deref()),
            Moment::Window { from, until, named } => {
                let log = LogSpan { from: from.clone(), named: named.clone() };
                (Some(Box::new(log)), Some(until.position.as_str()))
            }
        };
        Self {
            kind: manifest.kind,
            slot: manifest.slot,
            origin: if manifest.manual.is_some() { Origin::Manual } else { Origin::Scheduled },
            base: manifest.base,
            epoch: manifest.epoch,
            requires: manifest.requires.clone(),
            supersedes: manifest.supersedes,
            newest: manifest.moment.newest(),
            position: position.map(Into::into),
            log,
            length: manifest.content.length(),
            index,
            native,
            packs,
        }
    }

    /// The artifact as `listing` shows it.
    pub fn artifact(&self, id: ArtifactId, listing: &BackupListing) -> StoredArtifact {
        self.stored(id, self.condition(id, listing))
    }

    /// The artifact as a listing shows it once it is committed: with all its objects.
    pub fn committed(&self, id: ArtifactId) -> StoredArtifact {
        self.stored(id, Condition::Good)
    }

    fn stored(&self, id: ArtifactId, condition: Condition) -> StoredArtifact {
        let own = self.packs.iter().filter(|(pack, _)| pack.artifact == id);
        StoredArtifact {
            id,
            kind: self.kind,
            slot: self.slot,
            origin: self.origin,
            base: self.base,
            epoch: self.epoch,
            requires: self.requires.clone(),
            supersedes: self.supersedes,
            newest: self.newest,
            position: self.position.clone(),
            log: self.log.clone(),
            bytes: own.map(|(_, size)| size).sum(),
            length: self.length,
            native: self.native.clone(),
            condition,
            verified: Verified::default(),
            held: None,
        }
    }

    /// What a listing tells of the artifact's objects: presence and sizes.
    fn condition(&self, id: ArtifactId, listing: &BackupListing) -> Condition {
        let fault = |what: String, expected: u64, found: Option<&u64>| match found {
            Some(found) if *found == expected => None,
            Some(found) => Some(format!("{what} has {found} bytes instead of {expected}")),
            None => Some(format!("{what} is missing")),
        };
        let index = self.index.and_then(|size| fault("index".to_owned(), size, listing.indexes.get(&id)));
        let mut packs = self.packs.iter();
        let fault = index.or_else(|| {
            packs.find_map(|(pack, size)| {
                // Most packs are right: their names are not written out.
                let found = listing.packs.get(pack);
                (found != Some(size)).then(|| fault(format!("pack {pack}"), *size, found)).flatten()
            })
        });
        fault.map_or(Condition::Good, |fault| Condition::Damaged(fault.into()))
    }
}
