//! Artifacts as a store holds them, and what is known of their state.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Lease, NativeReference, Reading, provided};
use crate::artifact::{ArtifactId, Depth, Kind, approval::PlanHash, manifest::Edge, until::NamedPoint};

/// What one store holds of one backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBackup {
    /// Committed artifacts with a trusted signature, oldest first.
    pub artifacts: Vec<StoredArtifact>,
    /// Manifests that could not be read or trusted, and why: while there are any, nothing of this backup is deleted.
    pub unreadable: BTreeMap<ArtifactId, String>,
    /// Captures, copies and repairs under way here, by their leases.
    pub leases: BTreeMap<ArtifactId, Lease>,
    /// Restores and checks under way here, by their leases.
    pub readings: BTreeMap<ArtifactId, Reading>,
    /// Captures whose packs no manifest names, with their bytes.
    pub unreferenced: BTreeMap<ArtifactId, u64>,
    /// When an earlier complete listing recorded a capture's packs as unreferenced, by the store's records.
    pub candidates: BTreeMap<ArtifactId, Timestamp>,
    /// When artifacts were deleted here, from the records of the last 24 hours; without those that a person approved.
    pub deletions: Vec<Timestamp>,
    /// Artifacts that its records saw whole here, which Backstay did not delete, and of which no manifest is left; with the
    /// moment when they were last seen so.
    pub lost: BTreeMap<ArtifactId, Timestamp>,
    /// What was let go here by approvals, from the moment on that the first of it goes.
    pub let_go: BTreeMap<PlanHash, BTreeSet<ArtifactId>>,
    /// Bytes of everything in the backup's folder.
    pub bytes: u64,
}

/// One committed artifact in one store: what planners need of its manifest, and what is known of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredArtifact {
    /// Its name.
    pub id: ArtifactId,
    /// What it holds.
    pub kind: Kind,
    /// The slot that it fills.
    pub slot: Option<Timestamp>,
    /// Whether a person asked for it.
    pub origin: Origin,
    /// The artifact whose segments it shared.
    pub base: Option<ArtifactId>,
    /// The full that opened its epoch; its own name for a full.
    pub epoch: ArtifactId,
    /// What a restore needs besides it.
    pub requires: Vec<ArtifactId>,
    /// The artifact that it repairs and replaces.
    pub supersedes: Option<ArtifactId>,
    /// The newest data that it brings back.
    pub newest: Timestamp,
    /// The engine's name of the newest moment.
    pub position: Option<Box<str>>,
    /// For logs: what they go over.
    pub log: Option<Box<LogSpan>>,
    /// Bytes of the packs that this artifact itself wrote.
    pub bytes: u64,
    /// How long its stream is, bytes; 0 for a provider's own snapshot.
    pub length: u64,
    /// A provider's own name of it, where it is a backup that the provider keeps.
    pub native: Option<Box<NativeReference>>,
    /// What the last look or check found.
    pub condition: Condition,
    /// When it was last found good, by depth.
    pub verified: Verified,
    /// Why it must be kept, if a person said so.
    pub held: Option<Box<str>>,
}

/// What a log goes over, besides where it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpan {
    /// Where it begins.
    pub from: Edge,
    /// The named restore points in it, in their order.
    pub named: Vec<NamedPoint>,
}

impl StoredArtifact {
    /// For logs: where its window begins.
    pub fn from(&self) -> Option<&Edge> {
        self.log.as_ref().map(|log| &log.from)
    }

    /// For logs: the named restore points in it.
    pub fn named(&self) -> &[NamedPoint] {
        self.log.as_ref().map(|log| log.named.as_slice()).unwrap_or_default()
    }

    /// Whether nothing is known to be wrong with it.
    pub fn is_good(&self) -> bool {
        self.condition == Condition::Good
    }

    /// Whether something is known to be wrong with it.
    pub fn is_damaged(&self) -> bool {
        matches!(self.condition, Condition::Damaged(_))
    }

    /// Why nobody can tell how it is, if so.
    pub fn unknown(&self) -> Option<&str> {
        match &self.condition {
            Condition::Unknown(why) => Some(why),
            Condition::Good | Condition::Damaged(_) => None,
        }
    }

    /// A provider's own name of it, where it is a backup that the provider keeps.
    pub fn reference(&self) -> Option<&str> {
        self.native.as_ref().map(|native| native.reference.as_str())
    }

    /// Whether its provider, and nothing else, was found to be unable to restore it, or could not be asked.
    pub(super) fn is_judged_by_provider(&self) -> bool {
        match &self.condition {
            Condition::Good => false,
            Condition::Damaged(why) => why.starts_with(provided::BY_PROVIDER),
            Condition::Unknown(_) => true,
        }
    }

    /// Whether it claims to be made, or its data to be of, a time that has not come.
    pub fn is_from_the_future(&self, now: Timestamp) -> bool {
        self.newest > now || self.id.time() > now
    }

    /// What copies of one content share in every store: the name of the artifact, or of the one that it repairs.
    pub fn content(&self) -> ArtifactId {
        self.supersedes.unwrap_or(self.id)
    }
}

impl StoredBackup {
    /// Nothing at all.
    pub const NOTHING: &'static StoredBackup = &StoredBackup {
        artifacts: Vec::new(),
        unreadable: BTreeMap::new(),
        leases: BTreeMap::new(),
        readings: BTreeMap::new(),
        unreferenced: BTreeMap::new(),
        candidates: BTreeMap::new(),
        deletions: Vec::new(),
        lost: BTreeMap::new(),
        let_go: BTreeMap::new(),
        bytes: 0,
    };

    /// The artifact of this name.
    pub fn artifact(&self, id: ArtifactId) -> Option<&StoredArtifact> {
        self.artifacts.iter().find(|a| a.id == id)
    }

    /// A good artifact with the content of `id`: itself, or one that repairs it.
    pub fn good_content(&self, id: ArtifactId) -> Option<&StoredArtifact> {
        self.artifacts.iter().find(|a| a.is_good() && (a.id == id || a.content() == id))
    }

    /// Whether an artifact and all that its restore needs besides it are good.
    pub fn is_whole(&self, artifact: &StoredArtifact) -> bool {
        let (mut open, mut seen) = (vec![artifact], BTreeSet::new());
        while let Some(next) = open.pop() {
            if !next.is_good() {
                return false;
            }
            for id in &next.requires {
                match self.good_content(*id) {
                    None => return false,
                    Some(found) if seen.insert(found.id) => open.push(found),
                    Some(_) => {}
                }
            }
        }
        true
    }

    /// The artifact with the newest data at `now` that can be restored: whole, and no log.
    pub fn newest_whole(&self, now: Timestamp) -> Option<&StoredArtifact> {
        let data = self.artifacts.iter().filter(|a| a.kind != Kind::Log && a.is_good());
        let mut data: Vec<&StoredArtifact> = data.filter(|a| !a.is_from_the_future(now)).collect();
        data.sort_unstable_by_key(|a| std::cmp::Reverse((a.newest, a.id)));
        data.into_iter().find(|a| self.is_whole(a))
    }

    /// The good artifact with the newest data at `now`. Logs are none: without what they go on from they bring nothing back.
    pub fn newest_good(&self, now: Timestamp) -> Option<&StoredArtifact> {
        let data = self.artifacts.iter().filter(|a| a.kind != Kind::Log);
        let good = data.filter(|a| a.is_good() && !a.is_from_the_future(now));
        good.max_by_key(|a| (a.newest, a.id))
    }
}

/// Who asked for an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A schedule, or a commit.
    Scheduled,
    /// A person.
    Manual,
}

/// What the last look or check of an artifact found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Nothing is known to be wrong.
    Good,
    /// Something is missing, short or altered.
    Damaged(Box<str>),
    /// Nobody can tell from here, and why: it is neither good nor gone, and stays as it is.
    Unknown(Box<str>),
}

/// When an artifact was last found good, by depth; a deeper check counts for the weaker ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Signature, presence and sizes.
    pub metadata: Option<Timestamp>,
    /// Digests of what is stored.
    pub data: Option<Timestamp>,
    /// Digests of the plaintext.
    pub plaintext: Option<Timestamp>,
}

impl Verified {
    /// The last good check of at least this depth.
    pub fn at_least(&self, depth: Depth) -> Option<Timestamp> {
        match depth {
            Depth::Metadata => self.metadata.max(self.data).max(self.plaintext),
            Depth::Data => self.data.max(self.plaintext),
            Depth::Plaintext => self.plaintext,
        }
    }
}
