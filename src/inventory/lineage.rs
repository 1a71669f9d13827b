//! Lineage: what each artifact goes on from.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{StoredArtifact, StoredBackup, windows};
use crate::artifact::ArtifactId;

/// The artifact that each goes on from: a chain's link from the one before, an incremental from the one whose segments it
/// shares, a log from the log or the data before it. What stands alone, or goes on from what is not there, is left out.
pub fn lineage(stored: &StoredBackup, now: Timestamp) -> BTreeMap<ArtifactId, ArtifactId> {
    let mut on: BTreeMap<ArtifactId, ArtifactId> = BTreeMap::new();
    for artifact in &stored.artifacts {
        let before = artifact.requires.last().or(artifact.base.as_ref());
        let is_before =
            |other: &&StoredArtifact| before.is_some_and(|id| other.id == *id || other.content() == *id);
        if let Some(before) = stored.artifacts.iter().find(is_before) {
            on.insert(artifact.id, before.id);
        }
    }
    // Windows come oldest first: a log goes on from the newest data before it.
    for window in windows(stored, now) {
        let mut before = window.base.id;
        for log in window.logs {
            on.insert(log.id, before);
            before = log.id;
        }
    }
    on
}
