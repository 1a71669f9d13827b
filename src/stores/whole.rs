//! Lets every put come to its end, whoever stops waiting for it.
//!
//! Dropping a call's future cannot take back what is under way already: a thread in a system call, a request at the other
//! side. A manifest could then land after a clean-up had looked, found none, and removed what it names. Here a put goes on
//! by itself, and what looks at its place, or removes it, waits for it first.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Capabilities, ErrorKind, Listed, Put, Stat, Store, StoreError};
use crate::{artifact::layout::ObjectName, inventory::StoreRules};

/// A store whose puts, once begun, are not cut off by dropping their futures; [`Store::list`] and [`Store::delete`] wait
/// for those that nobody waits for any more.
pub struct WholeStore {
    inner: Arc<dyn Store>,
    abandoned: Mutex<Vec<Abandoned>>,
}

/// A put that nobody waits for any more.
#[derive(Clone)]
struct Abandoned {
    name: ObjectName,
    ended: CancellationToken,
}

impl WholeStore {
    /// `inner`, whose puts go on to their end.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, abandoned: Mutex::default() }
    }

    fn abandoned(&self) -> MutexGuard<'_, Vec<Abandoned>> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the abandoned puts whose object is `concerned`.
    async fn settle(&self, concerned: impl Fn(&ObjectName) -> bool) {
        let puts: Vec<_> = self.abandoned().iter().filter(|put| concerned(&put.name)).cloned().collect();
        for put in puts {
            put.ended.cancelled().await;
        }
        self.abandoned().retain(|put| !put.ended.is_cancelled());
    }
}

/// A put that somebody waits for; abandoned when it is dropped before its end.
struct Awaited<'a> {
    store: &'a WholeStore,
    put: Abandoned,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if !self.put.ended.is_cancelled() {
            self.store.abandoned().push(self.put.clone());
        }
    }
}

#[async_trait]
impl Store for WholeStore {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        let ended = CancellationToken::new();
        let awaited = Awaited { store: self, put: Abandoned { name: name.clone(), ended: ended.clone() } };
        let put = tokio::spawn(put(self.inner.clone(), name.clone(), content, ended.drop_guard())).await;
        drop(awaited);
        put.unwrap_or_else(|gone| {
            Err(StoreError::new("put", name.to_string(), ErrorKind::Transient, gone.to_string()))
        })
    }

    async fn get(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StoreError> {
        self.inner.get(name, range, limit).await
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        self.inner.stat(name).await
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        self.settle(|name| {
            name.as_str().strip_prefix(under.as_str()).is_some_and(|rest| rest.starts_with('/'))
        })
        .await;
        self.inner.list(under).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.settle(|put| put == name).await;
        self.inner.delete(name).await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.inner.clock().await
    }

    async fn capabilities(&self) -> Result<Capabilities, StoreError> {
        self.inner.capabilities().await
    }

    async fn rules(&self, under: &ObjectName) -> Result<StoreRules, StoreError> {
        self.inner.rules(under).await
    }
}

async fn put(
    store: Arc<dyn Store>,
    name: ObjectName,
    content: Bytes,
    _ended: DropGuard,
) -> Result<Put, StoreError> {
    store.put_if_absent(&name, content).await
}
