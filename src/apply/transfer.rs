//! Objects carried from one store to another, byte for byte, and compared on the way with what a manifest says of them.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{compare, lease::LeaseError, stream::Damage};
use crate::{
    artifact::{ArtifactId, layout::ObjectName, manifest::Stored},
    committed::{BackupFolder, Committed, ReadError},
    spec::names::StoreName,
    stores::{ErrorKind, Put, StoreError},
};

/// Packs that are carried at once; each is whole in memory.
pub(super) const AT_ONCE: usize = 2;

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
    /// The store has recipients of its own, so that a copy could not be byte for byte.
    #[error(
        "failed to copy {artifact} into {store}: that store declares recipients of its own, and copies are byte for byte; let a backup's captures go there directly, or remove the store's recipients"
    )]
    OtherRecipients {
        /// The artifact.
        artifact: ArtifactId,
        /// Where it was to be written.
        store: StoreName,
    },
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

/// Puts signature and manifest, in this order: the artifact exists from then on.
pub(super) async fn commit(to: &BackupFolder, committed: &Committed) -> Result<(), TransferError> {
    let artifact = committed.manifest.artifact;
    let objects = [(to.signature(artifact), &committed.signature), (to.manifest(artifact), &committed.bytes)];
    for (object, content) in objects {
        put(to, &object, content.clone(), &stored(content)).await?;
    }
    Ok(())
}

/// What an object of this content must be.
pub(super) fn stored(content: &[u8]) -> Stored {
    Stored { size: content.len() as u64, sha256: hex::encode(Sha256::digest(content)) }
}
