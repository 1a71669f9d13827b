//! Objects carried from one store to another, byte for byte, and compared on the way with what a manifest says of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::{
    compare,
    lease::{Held, LeaseError},
    segment::SealError,
    stream::Damage,
};
use crate::{
    artifact::{
        ArtifactId, Manifest,
        index::{Index, Segment},
        layout::{ObjectName, PackName},
        manifest::{Content, SIGNATURE_NAMESPACE, Segments, Stored},
    },
    clock::Clock,
    committed::{self, BackupFolder, Committed, ReadError},
    keys::Keys,
    observe::listing::FleetListing,
    spec::names::StoreName,
    stores::{ErrorKind, Put, StoreError},
};

/// Packs that are carried at once; each is whole in memory.
pub(super) const AT_ONCE: usize = 2;

/// Manifests that are read at once.
const READS: usize = 8;

/// The largest object that is carried, bytes: packs are of about 32 MiB.
const LARGEST: u64 = 1 << 30;

/// Why an artifact could not be copied or repaired.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransferError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest could not be read or trusted.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nothing may be written.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// What was to be copied is not whole.
    #[error("failed to copy {artifact} from {store}: {damage}; verify it, and repair it from another store")]
    Damaged {
        /// The artifact.
        artifact: ArtifactId,
        /// Where it was read.
        store: StoreName,
        /// What is wrong.
        damage: Damage,
    },
    /// The store holds another content under the same name. Nothing is ever overwritten.
    #[error("failed to write into {store}: {damage}, and nothing is overwritten; verify what is there")]
    Conflict {
        /// Where it was to be written.
        store: StoreName,
        /// What is there instead.
        damage: Damage,
    },
    /// The store did not keep what it had accepted.
    #[error("failed to commit {artifact} in {store}: {damage} although it was accepted; check that store")]
    NotKept {
        /// The artifact.
        artifact: ArtifactId,
        /// Where it was written.
        store: StoreName,
        /// What is wrong.
        damage: Damage,
    },
    /// The copy is for others than the original, and nothing here can read the original.
    #[error(
        "failed to write {artifact} into {to}: its copy there is for others than the one in {from}, so that it must be encrypted anew, and {why}; set keys.identity to a file that holds the identity of one of {}, or give both stores the same recipients",
        recipients.join(", ")
    )]
    NotReadable {
        /// The artifact.
        artifact: ArtifactId,
        /// Where it was to be read.
        from: StoreName,
        /// Where it was to be written.
        to: StoreName,
        /// Whether there is no identity, or none that fits.
        why: &'static str,
        /// The public keys of those who can read it.
        recipients: Vec<String>,
    },
    /// Something could not be encrypted.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What a copy carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Packs and indexes that were not there yet.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Copied {
    /// Counts one more object.
    pub(super) fn add(&mut self, stored: &Stored) {
        self.objects += 1;
        self.bytes += stored.size;
    }
}

/// Reads an object whole and compares it; `Err(damage)` where it is not what it should be.
pub(super) async fn fetch(
    from: &BackupFolder,
    object: &ObjectName,
    stored: &Stored,
) -> Result<Result<Bytes, Damage>, StoreError> {
    let damage = |fault: String| Ok(Err(Damage::new(object.clone(), fault)));
    if stored.size > LARGEST {
        return damage(format!("claims to have {} bytes", stored.size));
    }
    if let Some(fault) = compare::presence(from.store.as_ref(), object, stored).await? {
        return damage(fault);
    }
    let bytes = match from.store.get(object, None, stored.size).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind == ErrorKind::NotFound => return damage("is missing".to_owned()),
        Err(error) => return Err(error),
    };
    if bytes.len() as u64 != stored.size || hex::encode(Sha256::digest(&bytes)) != stored.sha256 {
        return damage("is altered: its SHA-256 is not the manifest's".to_owned());
    }
    Ok(Ok(bytes))
}

/// Reads the index of a trusted manifest of `from`, and compares it with what the manifest says.
pub(super) async fn fetch_index(
    from: &BackupFolder,
    manifest: &Manifest,
    segments: &Segments,
) -> Result<Index, TransferError> {
    let object = from.index(manifest.artifact);
    let damaged = |damage| {
        let (artifact, store) = (manifest.artifact, from.name.clone());
        TransferError::Damaged { artifact, store, damage }
    };
    let content = fetch(from, &object, &segments.index).await?.map_err(damaged)?;
    let index = Index::parse(&content)
        .map_err(|error| damaged(Damage::new(object.clone(), format!("cannot be read: {error}"))))?;
    let fits = |segment: &Segment| {
        let pack = segments.packs.get(&segment.extent.pack);
        pack.is_some_and(|pack| segment.extent.range().end <= pack.size)
    };
    if index.segments.len() as u64 == segments.count && index.segments.iter().all(fits) {
        Ok(index)
    } else {
        Err(damaged(Damage::new(object, "and the manifest name different segments")))
    }
}

/// Puts an object; what exists under the name must be the same.
pub(super) async fn put(
    to: &BackupFolder,
    object: &ObjectName,
    content: Bytes,
    stored: &Stored,
) -> Result<(), TransferError> {
    if to.store.put_if_absent(object, content).await? == Put::Created {
        return Ok(());
    }
    match compare::content(to.store.as_ref(), object, stored).await? {
        None => Ok(()),
        Some(fault) => Err(conflict(to, object, fault)),
    }
}

pub(super) fn conflict(to: &BackupFolder, object: &ObjectName, fault: impl Into<String>) -> TransferError {
    TransferError::Conflict { store: to.name.clone(), damage: Damage::new(object.clone(), fault) }
}

/// Has the store confirm that it holds `objects`.
pub(super) async fn confirm(
    to: &BackupFolder,
    artifact: ArtifactId,
    objects: impl IntoIterator<Item = (ObjectName, &Stored)>,
) -> Result<(), TransferError> {
    for (object, stored) in objects {
        if let Some(fault) = compare::presence(to.store.as_ref(), &object, stored).await? {
            let damage = Damage::new(object, fault);
            return Err(TransferError::NotKept { artifact, store: to.name.clone(), damage });
        }
    }
    Ok(())
}

/// Puts signature and manifest, in this order, each only while the lease is held: the artifact exists from then on.
pub(super) async fn commit(
    to: &BackupFolder,
    committed: &Committed,
    lease: &Held<'_>,
    clock: &dyn Clock,
) -> Result<(), TransferError> {
    let artifact = committed.manifest.artifact;
    let objects = [(to.signature(artifact), &committed.signature), (to.manifest(artifact), &committed.bytes)];
    for (object, content) in objects {
        lease.check(clock)?;
        put(to, &object, content.clone(), &stored(content)).await?;
    }
    Ok(())
}

/// What an object of this content must be.
pub(super) fn stored(content: &[u8]) -> Stored {
    Stored { size: content.len() as u64, sha256: hex::encode(Sha256::digest(content)) }
}

/// A manifest of our own, to be committed.
pub(super) fn sign(manifest: Manifest, keys: &Keys) -> Committed {
    let bytes =
        Bytes::from(serde_json::to_vec_pretty(&manifest).expect("maps with text keys have a JSON form"));
    let signature = Bytes::from(keys.sign(SIGNATURE_NAMESPACE, &bytes));
    Committed { manifest, bytes, signature }
}

/// Every pack that a manifest of a backup in a store names; `None` where one can't be read, and may name any.
pub(super) async fn named_packs(
    folder: &BackupFolder,
    keys: &Keys,
) -> Result<Option<BTreeSet<PackName>>, StoreError> {
    let listed = folder.store.list(&folder.folder()).await?;
    let listing =
        FleetListing::sort(&folder.fleet, listed).backups.remove(&folder.backup).unwrap_or_default();
    let read = read_all(folder, keys).await?;
    let all_read = listing.manifests.keys().all(|id| read.contains_key(id));
    let named = read.into_values().filter_map(|committed| match committed.manifest.content {
        Content::Segments(segments) => Some(segments.packs.into_keys()),
        Content::Native { .. } => None,
    });
    Ok(all_read.then(|| named.flatten().collect()))
}

/// Every trusted manifest of a backup in a store.
pub(super) async fn read_all(
    folder: &BackupFolder,
    keys: &Keys,
) -> Result<BTreeMap<ArtifactId, Committed>, StoreError> {
    let listed = folder.store.list(&folder.folder()).await?;
    let listing =
        FleetListing::sort(&folder.fleet, listed).backups.remove(&folder.backup).unwrap_or_default();
    stream::iter(listing.manifests.into_keys())
        .map(|id| async move {
            match committed::read(folder, id, keys).await {
                Ok(committed) => Ok(Some((id, committed))),
                Err(ReadError::Store(error)) => Err(error),
                // What cannot be trusted takes no part in anything.
                Err(_) => Ok(None),
            }
        })
        .buffer_unordered(READS)
        .try_filter_map(|read| async move { Ok(read) })
        .try_collect()
        .await
}
