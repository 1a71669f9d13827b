//! What interrupted work of this very controller left behind.

use std::collections::BTreeSet;

use super::{garbage::Garbage, lease};
use crate::{
    artifact::{ArtifactId, layout::Holder},
    clock::Clock,
    inventory::{Interrupted, Lease, Work},
    observe::stores::{Look, leases},
    spec::names::FolderName,
    stores::StoreError,
};

/// What became of interrupted work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// Its manifest is there: the artifact is whole, and only the lease was left.
    Committed,
    /// It had committed nothing; so many bytes were removed.
    Removed(u64),
    /// It had committed nothing. So many bytes are kept for the next attempt, and left to a sweep if none comes.
    Kept(u64),
    /// It had committed nothing. Why its packs were left to a sweep.
    Left(String),
}

/// Ends what was begun, unless its lease is another controller's: two may copy the same original. A copy writes under the
/// name of its original: packs that other manifests name are never touched.
pub async fn clean_up(look: &Look, left: &Interrupted, clock: &dyn Clock) -> Result<Cleaned, StoreError> {
    if left.work == Work::Reading {
        return end_reading(look, left).await;
    }
    let artifact = left.artifact;
    let mut garbage = Garbage::look(look, &left.backup, clock).await?;
    let (writer, ours) = (garbage.writer(artifact).cloned(), look.keys.public_key());
    if let Some(other) = writer.as_ref().filter(|lease| lease.controller != ours) {
        return Ok(Cleaned::Left(format!("another controller, {}, writes it", other.controller)));
    }
    let holder = Holder::Writer(artifact);
    garbage.forget_lease(artifact);
    if garbage.is_committed(artifact) {
        garbage.remove_lease(holder).await?;
        return Ok(Cleaned::Committed);
    }
    let leftovers = garbage.of_capture(artifact);
    if left.work == Work::Copy && !leftovers.is_empty() {
        end_lease(look, left, &garbage, writer).await?;
        return Ok(Cleaned::Kept(leftovers.iter().map(|(_, size)| size).sum()));
    }
    let cleaned = match garbage.withheld(&BTreeSet::from([artifact])) {
        Some(why) => Cleaned::Left(why),
        None => Cleaned::Removed(garbage.delete(leftovers).await?),
    };
    garbage.remove_lease(holder).await?;
    Ok(cleaned)
}

/// Gives back the lease that work of ours left behind which was committed. Another controller's stays, and so does what
/// can't be read as a lease.
pub async fn settle(look: &Look, backup: &FolderName, artifact: ArtifactId) -> Result<(), StoreError> {
    let (folder, holder) = (look.folder(backup), Holder::Writer(artifact));
    let mut turns = leases::listed(&folder).await?;
    turns.retain(|other, _| *other == holder);
    let lease = leases::read(&folder, &turns).await?.writers.remove(&artifact);
    if lease.is_some_and(|lease| lease.controller == look.keys.public_key()) {
        for turn in turns.into_values().flatten().map(|(turn, _)| turn) {
            look.store.delete(&folder.lease(holder, turn)).await?;
        }
    }
    Ok(())
}

async fn end_reading(look: &Look, left: &Interrupted) -> Result<Cleaned, StoreError> {
    let (folder, holder) = (look.folder(&left.backup), Holder::Reader(left.artifact));
    let turns = leases::listed(&folder).await?.remove(&holder).unwrap_or_default();
    for turn in turns.into_keys() {
        folder.store.delete(&folder.lease(holder, turn)).await?;
    }
    Ok(Cleaned::Removed(0))
}

/// Leaves a lease that has ended: it shows whose packs these are, as long as nothing else in the store does, and is in
/// nobody's way.
async fn end_lease(
    look: &Look,
    left: &Interrupted,
    garbage: &Garbage<'_>,
    before: Option<Lease>,
) -> Result<(), StoreError> {
    let (folder, holder, now) = (look.folder(&left.backup), Holder::Writer(left.artifact), garbage.now());
    if before.as_ref().is_some_and(|lease| lease.until <= now) {
        return Ok(());
    }
    let epoch = before.map_or(left.artifact, |lease: Lease| lease.epoch);
    let ended = Lease { epoch, until: now, controller: look.keys.public_key() };
    let turn = garbage.last_turn(holder).map_or(0, |last| last.saturating_add(1));
    look.store.put_if_absent(&folder.lease(holder, turn), lease::serialize(&ended)).await?;
    garbage.remove_lease(holder).await
}
