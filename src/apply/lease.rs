//! Leases: who writes into a backup's folder of a store just now, so that nobody sweeps what is about to be committed.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::{
    artifact::{ArtifactId, layout::ObjectName},
    clock::Clock,
    committed::BackupFolder,
    inventory::Lease,
    keys::Keys,
    observe::stores::LONGEST_LEASE,
    stores::{Class, Put, StoreError},
};

/// How long a copy or repair may take. After this it commits nothing.
pub const TERM: Duration = Duration::from_secs(24 * 3600);

/// Work of others that a later pass will find ended.
const LATER: Class = Class::Wait(Duration::from_secs(60));

/// Why nothing may be written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LeaseError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else writes the same artifact.
    #[error(
        "failed to write {artifact}: another controller writes it until {until}; wait, or end that controller"
    )]
    Taken {
        /// The artifact.
        artifact: ArtifactId,
        /// When its lease ends.
        until: Timestamp,
    },
    /// What is in its place is no lease that we can read: somebody else may be writing.
    #[error("failed to write {artifact}: {object} is no lease; see who else writes into this store")]
    Unreadable {
        /// The artifact.
        artifact: ArtifactId,
        /// What is there.
        object: ObjectName,
    },
    /// It took too long.
    #[error("failed to commit {artifact}: its lease ended at {until}; try again")]
    Lapsed {
        /// The artifact.
        artifact: ArtifactId,
        /// When the lease ended.
        until: Timestamp,
    },
}

impl LeaseError {
    /// What happens next.
    pub fn class(&self) -> Class {
        match self {
            LeaseError::Store(error) => error.class(),
            LeaseError::Taken { .. } => LATER,
            LeaseError::Unreadable { .. } => Class::Stalled,
            LeaseError::Lapsed { .. } => Class::Retry,
        }
    }
}

/// A lease that is held.
pub struct Held<'a> {
    folder: &'a BackupFolder,
    artifact: ArtifactId,
    until: Timestamp,
}

impl<'a> Held<'a> {
    /// Takes the lease of `artifact`, whose packs are shared with those of `epoch`, for as long as `term`. One that this
    /// very controller left behind, and one that lapsed, is replaced.
    pub async fn take(
        folder: &'a BackupFolder,
        artifact: ArtifactId,
        epoch: ArtifactId,
        keys: &Keys,
        clock: &dyn Clock,
        term: Duration,
    ) -> Result<Self, LeaseError> {
        let (name, now) = (folder.lease(artifact), clock.now());
        let term = SignedDuration::try_from(term).unwrap_or(SignedDuration::MAX);
        let until = now.checked_add(term).unwrap_or(Timestamp::MAX);
        let lease = Lease { epoch, until, controller: keys.public_key() };
        let content = Bytes::from(serde_json::to_vec(&lease).expect("plain values have a JSON form"));
        if folder.store.put_if_absent(&name, content.clone()).await? == Put::Existed {
            let bytes = folder.store.get(&name, None, LONGEST_LEASE).await?;
            let other: Lease = serde_json::from_slice(&bytes)
                .map_err(|_| LeaseError::Unreadable { artifact, object: name.clone() })?;
            if other.controller != lease.controller && other.until > now {
                return Err(LeaseError::Taken { artifact, until: other.until });
            }
            folder.store.delete(&name).await?;
            if folder.store.put_if_absent(&name, content).await? == Put::Existed {
                return Err(LeaseError::Taken { artifact, until });
            }
        }
        Ok(Self { folder, artifact, until })
    }

    /// Whether something may still be committed.
    pub fn check(&self, clock: &dyn Clock) -> Result<(), LeaseError> {
        if clock.now() < self.until {
            Ok(())
        } else {
            Err(LeaseError::Lapsed { artifact: self.artifact, until: self.until })
        }
    }

    /// Gives the lease back, once everything is committed.
    pub async fn release(self) -> Result<(), StoreError> {
        self.folder.store.delete(&self.folder.lease(self.artifact)).await
    }
}
