//! Deletions that a plan decided: the manifest first, so that a crash leaves garbage and never a part of an artifact.

use std::collections::BTreeSet;

use super::garbage::Garbage;
use crate::{
    artifact::{ArtifactId, layout::PackName},
    clock::Clock,
    observe::{listing::FleetListing, stores::Look},
    spec::names::BackupName,
    stores::StoreError,
};

/// What a deletion freed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Bytes of packs and indexes.
    pub bytes: u64,
    /// Why packs were left to a sweep, if they were.
    pub left: Option<String>,
}

/// Deletes an artifact, and those of the packs it named that no other manifest names. Where that is not certain, they are
/// left to a sweep. Deleting what is gone succeeds.
pub async fn delete(
    look: &Look,
    backup: &BackupName,
    artifact: ArtifactId,
    clock: &dyn Clock,
) -> Result<Deleted, StoreError> {
    let packs = named_packs(look, backup, artifact).await?;
    let folder = look.folder(backup);
    look.store.delete(&folder.manifest(artifact)).await?;
    look.store.delete(&folder.signature(artifact)).await?;

    let garbage = Garbage::look(look, backup, clock).await?;
    let writers: BTreeSet<ArtifactId> =
        packs.iter().map(|(pack, _)| pack.artifact).chain([artifact]).collect();
    if let Some(left) = garbage.withheld(&writers) {
        return Ok(Deleted { bytes: 0, left: Some(left) });
    }
    let mut objects: BTreeSet<_> = garbage.among(&packs).into_iter().collect();
    objects.extend(garbage.of_capture(artifact));
    Ok(Deleted { bytes: garbage.delete(objects.into_iter().collect()).await?, left: None })
}

/// What the artifact's manifest names; nothing where it is gone or can't be trusted.
async fn named_packs(
    look: &Look,
    backup: &BackupName,
    artifact: ArtifactId,
) -> Result<Vec<(PackName, u64)>, StoreError> {
    let listed = look.store.list(&look.folder(backup).folder()).await?;
    let listing = FleetListing::sort(&look.fleet, listed).backups.remove(backup).unwrap_or_default();
    let outline = look.outlines(backup, &listing).await?.remove(&artifact);
    Ok(outline.and_then(Result::ok).map(|outline| outline.packs).unwrap_or_default())
}
