//! Tries a store's calls again when what failed may go through later.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Capabilities, Class, Listed, Put, Stat, Store, StoreError};
use crate::{artifact::layout::ObjectName, inventory::StoreRules};

/// How often and how fast calls are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts after the first.
    pub more: usize,
    /// Pause before the second attempt; each further one is twice as long, and up to twice as long again at random.
    pub first_pause: Duration,
    /// The longest pause, before chance lengthens it.
    pub longest_pause: Duration,
}

impl Default for Attempts {
    /// Five attempts within about half a minute.
    fn default() -> Self {
        Self { more: 4, first_pause: Duration::from_millis(500), longest_pause: Duration::from_secs(10) }
    }
}

impl Attempts {
    /// The pauses between attempts.
    pub(crate) fn pauses(self) -> ExponentialBuilder {
        ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .with_max_times(self.more)
    }
}

/// A store whose calls are tried again while their errors are of [`Class::Retry`].
pub struct RetryStore {
    inner: Arc<dyn Store>,
    backoff: ExponentialBuilder,
}

impl RetryStore {
    /// `inner`, tried again as `attempts` says.
    pub fn new(inner: Arc<dyn Store>, attempts: Attempts) -> Self {
        Self { inner, backoff: attempts.pauses() }
    }

    async fn again<T, F>(&self, call: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        call.retry(self.backoff)
            .when(|error: &StoreError| error.class() == Class::Retry)
            .notify(|error, pause| tracing::debug!(%error, ?pause, "a store's call is tried again"))
            .await
    }

    async fn holds(&self, name: &ObjectName, content: &Bytes) -> Result<bool, StoreError> {
        let size = content.len() as u64;
        match self.stat(name).await? {
            Some(stat) if stat.size != size => Ok(false),
            Some(Stat { sha256: Some(digest), .. }) => Ok(digest == *Sha256::digest(content)),
            Some(_) => Ok(self.get(name, None, size).await? == content),
            None => Ok(false),
        }
    }
}

#[async_trait]
impl Store for RetryStore {
    /// An attempt may take effect and lose its answer: when a later one finds the very content in place, it counts as
    /// created.
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        let attempts = AtomicU32::new(0);
        let put = self
            .again(|| {
                attempts.fetch_add(1, Ordering::Relaxed);
                self.inner.put_if_absent(name, content.clone())
            })
            .await?;
        let tried_before = attempts.into_inner() > 1;
        if put == Put::Existed && tried_before && self.holds(name, &content).await? {
            return Ok(Put::Created);
        }
        Ok(put)
    }

    async fn get(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StoreError> {
        self.again(|| self.inner.get(name, range.clone(), limit)).await
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        self.again(|| self.inner.stat(name)).await
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        self.again(|| self.inner.list(under)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.again(|| self.inner.delete(name)).await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.again(|| self.inner.clock()).await
    }

    async fn capabilities(&self) -> Result<Capabilities, StoreError> {
        self.again(|| self.inner.capabilities()).await
    }

    async fn rules(&self, under: &ObjectName) -> Result<StoreRules, StoreError> {
        self.again(|| self.inner.rules(under)).await
    }
}
