//! Leases: who works in a backup's folder of a store just now, so that nobody sweeps what is about to be committed
//! ([`Held`]) nor deletes what is being read ([`Reading`]).
//!
//! A lease is of a short [`TERM`], and is renewed beside the work for as long as that lasts: what a dead holder left
//! behind is in nobody's way for long, and what takes days is never cut off. A store overwrites nothing, so that a renewal
//! is one more object, the next turn of the same lease (see [`crate::artifact::layout`]).

mod reading;
mod turns;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    artifact::{
        ArtifactId,
        layout::{Holder, ObjectName},
    },
    clock::Clock,
    committed::BackupFolder,
    inventory::Lease,
    keys::Keys,
    observe::stores::leases,
    stores::{Class, Put, StoreError},
};
pub use reading::Reading;
use turns::Turns;

/// How long a lease lasts that nobody renews. Long enough that an outage of a store of half an hour ends no work; short
/// enough that what a crash left behind keeps nothing from being deleted for longer.
pub const TERM: Duration = Duration::from_secs(3600);

/// A turn is followed by the next one after this: two may fail altogether before the term ends. A listing that takes less
/// always shows one that is live.
pub const RENEWAL: Duration = Duration::from_secs(900);

/// The pause after a renewal that failed.
const RETRY: Duration = Duration::from_secs(60);

/// For its holder a lease ends earlier by this: a put that begins before has come to its end when others may take the
/// lease for lapsed, even where clocks differ a little.
const MARGIN: Duration = Duration::from_secs(300);

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
    #[error(
        "failed to write {artifact}: {object} is no lease that can be read, and counts as one until {until:.0}; see who else writes into this store"
    )]
    Unreadable {
        /// The artifact.
        artifact: ArtifactId,
        /// What is there.
        object: ObjectName,
        /// When it counts no more.
        until: Timestamp,
    },
    /// It could not be renewed in time.
    #[error(
        "failed to commit {artifact}: its lease ended at {until:.0}{}; see what kept this host from the store, and try again",
        why.as_ref().map(|why| format!(" and was not renewed: {why}")).unwrap_or_default()
    )]
    Lapsed {
        /// The artifact.
        artifact: ArtifactId,
        /// When the lease ended.
        until: Timestamp,
        /// Why it was not renewed, if that was tried.
        why: Option<String>,
    },
}

impl LeaseError {
    /// What happens next.
    pub fn class(&self) -> Class {
        match self {
            LeaseError::Store(error) => error.class(),
            LeaseError::Taken { .. } | LeaseError::Unreadable { .. } => LATER,
            LeaseError::Lapsed { .. } => Class::Retry,
        }
    }
}

/// The lease of what is being written. Dropping it leaves it to lapse.
pub struct Held<'a> {
    turns: Turns<'a>,
    artifact: ArtifactId,
    epoch: ArtifactId,
    controller: String,
    /// Why the last renewal failed, since the last that did not.
    trouble: Mutex<Option<String>>,
}

impl<'a> Held<'a> {
    /// Takes the lease of `artifact`, whose packs are shared with those of `epoch`. One that this very controller left
    /// behind, and one that lapsed, is replaced.
    pub async fn take(
        folder: &'a BackupFolder,
        artifact: ArtifactId,
        epoch: ArtifactId,
        keys: &Keys,
        clock: &dyn Clock,
    ) -> Result<Self, LeaseError> {
        let holder = Holder::Writer(artifact);
        let controller = keys.public_key();
        let mut listed = leases::listed(folder).await?;
        listed.retain(|other, _| *other == holder);
        if let Some(lease) = leases::read(folder, &listed).await?.writers.remove(&artifact) {
            if !lease.is_readable() && lease.until > clock.now() {
                let turns = listed.remove(&holder).unwrap_or_default();
                let object = turns.into_values().next_back().map(|turn| turn.name);
                let object = object.unwrap_or_else(|| folder.lease(holder, 0));
                return Err(LeaseError::Unreadable { artifact, object, until: lease.until });
            }
            if lease.controller != controller && lease.until > clock.now() {
                return Err(LeaseError::Taken { artifact, until: lease.until });
            }
        }
        let before: Vec<u32> = listed.remove(&holder).unwrap_or_default().into_keys().collect();
        let turns = Turns::after(folder, holder, before.clone(), clock);
        let held = Self { turns, artifact, epoch, controller, trouble: Mutex::default() };
        held.begin(folder, &before, clock).await?;
        Ok(held)
    }

    /// Puts the first turn. Where two begin at once, under different turns, each sees the other's now and both step back.
    async fn begin(
        &self,
        folder: &BackupFolder,
        before: &[u32],
        clock: &dyn Clock,
    ) -> Result<(), LeaseError> {
        let holder = Holder::Writer(self.artifact);
        let put = self.turns.put(clock, |until| self.content(until)).await?;
        let own = self.turns.newest();
        let turns = leases::listed(folder).await?.remove(&holder).unwrap_or_default();
        let others = turns.into_keys().any(|turn| Some(turn) != own && !before.contains(&turn));
        if put == Put::Created && !others {
            return Ok(());
        }
        let until = self.turns.until().unwrap_or_else(|| clock.now());
        self.turns.withdraw().await?;
        Err(LeaseError::Taken { artifact: self.artifact, until })
    }

    /// Does `work`, with the lease renewed beside it. Once the lease has lapsed the work is dropped: it could commit nothing.
    pub async fn during<T, E: From<LeaseError>>(
        &self,
        clock: &dyn Clock,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            done = work => done,
            lapsed = self.keep(clock) => Err(lapsed.into()),
        }
    }

    /// Renews the lease whenever that is due; returns only once it has lapsed.
    async fn keep(&self, clock: &dyn Clock) -> LeaseError {
        loop {
            let ends = self.turns.ends();
            clock.until(self.turns.due().min(ends)).await;
            if let Err(lapsed) = self.check(clock) {
                return lapsed;
            }
            let put = tokio::select! {
                put = self.turns.put(clock, |until| self.content(until)) => put,
                () = clock.until(ends) => {
                    *self.trouble() = Some("the store did not answer in time".to_owned());
                    continue;
                }
            };
            match put {
                Ok(Put::Created) => *self.trouble() = None,
                Ok(Put::Existed) => {
                    let until = self.turns.until().unwrap_or_else(|| clock.now());
                    return LeaseError::Taken { artifact: self.artifact, until };
                }
                Err(error) => {
                    tracing::warn!(artifact = %self.artifact, %error, "a lease is not renewed yet");
                    *self.trouble() = Some(error.to_string());
                }
            }
        }
    }

    /// Whether something may still be committed. Asked immediately before each object that commits.
    pub fn check(&self, clock: &dyn Clock) -> Result<(), LeaseError> {
        if self.turns.is_live(clock) {
            return Ok(());
        }
        let until = self.turns.until().unwrap_or_else(|| clock.now());
        Err(LeaseError::Lapsed { artifact: self.artifact, until, why: self.trouble().clone() })
    }

    /// Every object of the lease that may be there, the newest last.
    pub fn objects(&self) -> Vec<ObjectName> {
        self.turns.objects()
    }

    /// Gives the lease back, once everything is committed. What cannot be removed lapses.
    pub async fn release(self) {
        if let Err(error) = self.turns.withdraw().await {
            tracing::warn!(artifact = %self.artifact, %error, "a lease stays until it runs out");
        }
    }

    fn content(&self, until: Timestamp) -> Bytes {
        serialize(&Lease { epoch: self.epoch, until, controller: self.controller.clone() })
    }

    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease as it is stored.
pub(super) fn serialize(lease: &impl serde::Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(lease).expect("plain values have a JSON form"))
}
