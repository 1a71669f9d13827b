//! What an interrupted capture, copy or repair of this very controller left behind.

use std::collections::BTreeSet;

use super::garbage::Garbage;
use crate::{
    artifact::ArtifactId,
    clock::Clock,
    inventory::Lease,
    observe::stores::{LONGEST_LEASE, Look},
    spec::names::BackupName,
    stores::{ErrorKind, StoreError},
};

/// What became of interrupted work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// Its manifest is there: the artifact is whole, and only the lease was left.
    Committed,
    /// It had committed nothing; so many bytes were removed.
    Removed(u64),
    /// It had committed nothing. Why its packs were left to a sweep.
    Left(String),
}

/// Ends what was begun under the name `artifact`, unless its lease is another controller's: two may copy the same
/// original. A copy writes under the name of its original: packs that other manifests name are never touched.
pub async fn clean_up(
    look: &Look,
    backup: &BackupName,
    artifact: ArtifactId,
    clock: &dyn Clock,
) -> Result<Cleaned, StoreError> {
    let lease = look.folder(backup).lease(artifact);
    let mut garbage = Garbage::look(look, backup, clock).await?;
    if let Some(writer) = garbage.writer(artifact).filter(|writer| *writer != look.keys.public_key()) {
        return Ok(Cleaned::Left(format!("another controller, {writer}, writes it")));
    }
    garbage.forget_lease(artifact);
    let cleaned = if garbage.is_committed(artifact) {
        Cleaned::Committed
    } else if let Some(why) = garbage.withheld(&BTreeSet::from([artifact])) {
        Cleaned::Left(why)
    } else {
        Cleaned::Removed(garbage.delete(garbage.of_capture(artifact)).await?)
    };
    look.store.delete(&lease).await?;
    Ok(cleaned)
}

/// Gives back the lease that work of ours left behind which was committed. Another controller's stays, and so does what
/// can't be read as a lease.
pub async fn settle(look: &Look, backup: &BackupName, artifact: ArtifactId) -> Result<(), StoreError> {
    let name = look.folder(backup).lease(artifact);
    let content = match look.store.get(&name, None, LONGEST_LEASE).await {
        Ok(content) => content,
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice::<Lease>(&content) {
        Ok(lease) if lease.controller == look.keys.public_key() => look.store.delete(&name).await,
        _ => Ok(()),
    }
}
