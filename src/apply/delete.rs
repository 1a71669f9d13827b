//! Deletions that a plan decided: the manifest first, so that a crash leaves garbage and never a part of an artifact.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::garbage::Garbage;
use crate::{
    artifact::{ArtifactId, layout::Holder},
    clock::Clock,
    inventory::Interrupted,
    observe::{
        listing::FleetListing,
        outline::Outline,
        stores::{
            Look,
            leases::{self, Leases},
        },
    },
    spec::names::FolderName,
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

/// An artifact that was not deleted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeleteError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody needs it who did not when the plan was made.
    #[error("failed to delete {artifact} of {backup} in {store}: {reason}; a later pass tries again")]
    Needed {
        /// The artifact.
        artifact: ArtifactId,
        /// Its backup.
        backup: FolderName,
        /// Where.
        store: String,
        /// Who needs it.
        reason: String,
    },
}

/// Deletes an artifact, and those of the packs it named that no other manifest names. Where that is not certain, they are
/// left to a sweep. Deleting what is gone succeeds. A plan may be minutes old: whether somebody reads the artifact now or
/// writes into its epoch is asked here again. What `interrupted` work of this controller left behind is nobody.
pub async fn delete(
    look: &Look,
    backup: &FolderName,
    artifact: ArtifactId,
    interrupted: &[Interrupted],
    clock: &dyn Clock,
) -> Result<Deleted, DeleteError> {
    let outline = outline(look, backup, artifact).await?;
    let mut leases = leases::now(&look.folder(backup)).await?;
    let is_dead = |id: &ArtifactId| interrupted.iter().any(|i| i.is(backup, &look.name, *id));
    leases.writers.retain(|id, _| !is_dead(id));
    leases.readers.retain(|id, _| !is_dead(id));
    let now = clock.now().min(look.store.clock().await?);
    if let Some(reason) = needed(&leases, artifact, outline.as_ref(), now) {
        let (backup, store) = (backup.clone(), look.name.to_string());
        return Err(DeleteError::Needed { artifact, backup, store, reason });
    }
    Ok(remove(look, backup, artifact, outline, clock).await?)
}

/// Who needs the artifact, by leases that are live.
fn needed(
    leases: &Leases,
    artifact: ArtifactId,
    outline: Option<&Outline>,
    now: Timestamp,
) -> Option<String> {
    let mut readers = leases.live_readers(now).filter(|(_, reading)| reading.concerns(artifact));
    if let Some((id, reading)) = readers.next() {
        return Some(format!("{} reads it until {:.0}", Holder::Reader(*id), reading.until));
    }
    let epoch = outline.map(Outline::epoch);
    let mut writers =
        leases.live_writers(now).filter(|(_, lease)| epoch.is_none_or(|epoch| lease.concerns(epoch)));
    let (id, lease) = writers.next()?;
    Some(format!("{id} is being written until {:.0}, and may share its packs", lease.until))
}

async fn remove(
    look: &Look,
    backup: &FolderName,
    artifact: ArtifactId,
    outline: Option<Outline>,
    clock: &dyn Clock,
) -> Result<Deleted, StoreError> {
    let folder = look.folder(backup);
    look.store.delete(&folder.manifest(artifact)).await?;
    look.store.delete(&folder.signature(artifact)).await?;

    let packs = outline.map(|outline| outline.packs).unwrap_or_default();
    let garbage = Garbage::look(look, backup, clock).await?;
    let writers: BTreeSet<ArtifactId> =
        packs.iter().map(|(pack, _)| pack.artifact).chain([artifact]).collect();
    if let Some(left) = garbage.withheld(&writers) {
        return Ok(Deleted { bytes: 0, left: Some(left) });
    }
    let mut objects: BTreeSet<_> = garbage.among(&packs).into_iter().collect();
    objects.extend(garbage.of_capture(artifact));
    let bytes = garbage.delete(objects.into_iter().collect()).await?;
    garbage.clear_lapsed().await?;
    Ok(Deleted { bytes, left: None })
}

/// What the artifact's manifest says; nothing where it is gone or can't be trusted.
async fn outline(
    look: &Look,
    backup: &FolderName,
    artifact: ArtifactId,
) -> Result<Option<Outline>, StoreError> {
    let listed = look.store.list(&look.folder(backup).folder()).await?;
    let listing = FleetListing::sort(&look.fleet, listed).backups.remove(backup).unwrap_or_default();
    let outline = look.outlines(backup, &listing).await?.remove(&artifact);
    Ok(outline.and_then(Result::ok))
}
