//! Bounds how many calls a store is given at once.

use std::{num::NonZeroUsize, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Capabilities, Listed, Put, Stat, Store, StoreError};
use crate::{artifact::layout::ObjectName, inventory::StoreRules};

/// A store that is given a bounded number of calls at once; the others wait for their turn, in order.
pub struct LimitedStore {
    inner: Arc<dyn Store>,
    turns: Semaphore,
}

impl LimitedStore {
    /// `inner`, with at most `at_once` calls under way.
    pub fn new(inner: Arc<dyn Store>, at_once: NonZeroUsize) -> Self {
        Self { inner, turns: Semaphore::new(at_once.get()) }
    }

    async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("the semaphore is never closed")
    }
}

#[async_trait]
impl Store for LimitedStore {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        let _turn = self.turn().await;
        self.inner.put_if_absent(name, content).await
    }

    async fn get(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StoreError> {
        let _turn = self.turn().await;
        self.inner.get(name, range, limit).await
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        let _turn = self.turn().await;
        self.inner.stat(name).await
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        let _turn = self.turn().await;
        self.inner.list(under).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        self.inner.delete(name).await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        let _turn = self.turn().await;
        self.inner.clock().await
    }

    async fn capabilities(&self) -> Result<Capabilities, StoreError> {
        let _turn = self.turn().await;
        self.inner.capabilities().await
    }

    async fn rules(&self, under: &ObjectName) -> Result<StoreRules, StoreError> {
        let _turn = self.turn().await;
        self.inner.rules(under).await
    }
}
