//! A store in memory, under a clock of the caller's choice: for tests and the simulation.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Capabilities, ErrorKind, Held, Listed, Put, Stat, Store, StoreError, extent::extent};
use crate::{artifact::layout::ObjectName, inventory::StoreRules};

/// What tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A store in memory. Clones share what it holds.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Clock,
    objects: Arc<Mutex<BTreeMap<ObjectName, Object>>>,
}

#[derive(Clone)]
struct Object {
    content: Bytes,
    modified: Timestamp,
}

/// What a store held at a moment.
#[derive(Clone)]
pub struct Contents(BTreeMap<ObjectName, Object>);

impl MemoryStore {
    /// An empty store that dates objects by `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { clock, objects: Arc::default() }
    }

    /// An empty store under the host's clock.
    pub fn under_system_clock() -> Self {
        Self::new(Arc::new(Timestamp::now))
    }

    /// Replaces an object behind the store's back, as bit rot or an intruder would; adds it where there is none.
    pub fn overwrite(&self, name: &ObjectName, content: Bytes) {
        let modified = (self.clock)();
        self.objects().insert(name.clone(), Object { content, modified });
    }

    /// Removes an object behind the store's back.
    pub fn lose(&self, name: &ObjectName) {
        self.objects().remove(name);
    }

    /// All that the store holds now.
    pub fn contents(&self) -> Contents {
        Contents(self.objects().clone())
    }

    /// Sets the store back to what it once held, as the restore of a whole server does.
    pub fn set_back(&self, contents: &Contents) {
        self.objects().clone_from(&contents.0);
    }

    /// Every name that the store holds, sorted.
    pub fn names(&self) -> Vec<ObjectName> {
        self.objects().keys().cloned().collect()
    }

    /// Every object with its content, sorted by name.
    pub fn objects_now(&self) -> Vec<(ObjectName, Bytes)> {
        self.objects().iter().map(|(name, object)| (name.clone(), object.content.clone())).collect()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        let modified = (self.clock)();
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Ok(Put::Existed);
        }
        objects.insert(name.clone(), Object { content, modified });
        Ok(Put::Created)
    }

    async fn get(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StoreError> {
        let failed =
            |kind, reason: String| StoreError::new("read", format!("{name} in memory"), kind, reason);
        let content = self.objects().get(name).map(|object| object.content.clone());
        let content = content.ok_or_else(|| failed(ErrorKind::NotFound, "there is no such object".into()))?;
        let bytes =
            extent(content.len() as u64, range, limit).map_err(|e| failed(e.kind(), e.to_string()))?;
        Ok(content.slice(bytes.start as usize..bytes.end as usize))
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        let object = self.objects().get(name).cloned();
        Ok(object.map(|object| Stat {
            size: object.content.len() as u64,
            modified: object.modified,
            sha256: Some(Sha256::digest(&object.content).into()),
        }))
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        let inside = |name: &ObjectName| {
            name.as_str().strip_prefix(under.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        let objects = self.objects();
        let found = objects.iter().filter(|(name, _)| inside(name)).map(|(name, object)| Listed {
            name: name.clone(),
            size: object.content.len() as u64,
            modified: object.modified,
        });
        Ok(found.collect())
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.objects().remove(name);
        Ok(())
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        Ok((self.clock)())
    }

    async fn capabilities(&self) -> Result<Capabilities, StoreError> {
        Ok(Capabilities { conditional_put: Held::Yes, checksums: Held::Untried, object_lock: Held::Untried })
    }

    async fn rules(&self, _under: &ObjectName) -> Result<StoreRules, StoreError> {
        Ok(StoreRules::default())
    }
}
