//! The lease of what is being read. Reading goes on without it where a store cannot be written: it is never why a restore
//! fails.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::timeout;

use super::{serialize, turns::Turns};
use crate::{
    artifact::{ArtifactId, layout::Holder},
    clock::Clock,
    committed::BackupFolder,
    inventory,
    keys::Keys,
};

/// How long a reader waits for its first lease, and for the removal of its last.
const PATIENCE: Duration = Duration::from_secs(30);

/// The lease of a restore or a check. Dropping it leaves it to lapse.
pub struct Reading<'a> {
    turns: Turns<'a>,
    artifacts: BTreeSet<ArtifactId>,
    controller: String,
    trouble: Mutex<Option<String>>,
}

impl<'a> Reading<'a> {
    /// Shows that `artifacts` are being read, by a `reader` whose name nothing else has. To be begun before their
    /// manifests are read: whoever deletes one of them looks again after its manifest is gone, and leaves its packs then.
    pub async fn begin(
        folder: &'a BackupFolder,
        reader: ArtifactId,
        artifacts: BTreeSet<ArtifactId>,
        keys: &Keys,
        clock: &dyn Clock,
    ) -> Self {
        let turns = Turns::after(folder, Holder::Reader(reader), Vec::new(), clock);
        let reading = Self { turns, artifacts, controller: keys.public_key(), trouble: Mutex::default() };
        if timeout(PATIENCE, reading.put(clock)).await.is_err() {
            reading.note("the store did not answer in time".to_owned());
        }
        reading
    }

    /// Does `work`, with the lease renewed beside it.
    pub async fn during<T>(&self, clock: &dyn Clock, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.keep(clock) => match never {},
        }
    }

    /// Removes the lease. Returns why others could not always see that it was held, if so.
    pub async fn end(self) -> Option<String> {
        let removed = timeout(PATIENCE, self.turns.withdraw()).await;
        if !matches!(removed, Ok(Ok(()))) {
            tracing::warn!("the lease of what was read stays until it runs out");
        }
        self.trouble.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep(&self, clock: &dyn Clock) -> Infallible {
        loop {
            clock.until(self.turns.due()).await;
            self.put(clock).await;
        }
    }

    async fn put(&self, clock: &dyn Clock) {
        if let Err(error) = self.turns.put(clock, |until| self.content(until)).await
            && !self.turns.is_live(clock)
        {
            self.note(error.to_string());
        }
    }

    /// Only the first reason is told: the others follow from it.
    fn note(&self, why: String) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none() {
            tracing::warn!(%why, "nothing keeps others from deleting what is being read");
            *trouble = Some(why);
        }
    }

    fn content(&self, until: Timestamp) -> Bytes {
        let (artifacts, controller) = (self.artifacts.clone(), self.controller.clone());
        serialize(&inventory::Reading { artifacts, until, controller })
    }
}
