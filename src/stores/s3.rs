//! A bucket of anything that speaks S3.
//!
//! Objects are put with `If-None-Match: *` and their SHA-256. Whether a server holds to either is tried once, before the
//! first put; where it does not refuse a second put, a look comes before each.

mod probe;
mod put;
mod read;
mod rules;

use std::ops::Range;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::{Capabilities, Held, Listed, Put, Stat, Store, StoreError};
use crate::{
    artifact::layout::ObjectName,
    aws::{self, Fault, S3Options},
    inventory::StoreRules,
};

/// What the access key's policy must allow.
const ACTIONS: &str = "s3:GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload";

/// A bucket, or a folder of one.
pub struct S3Store {
    client: Client,
    bucket: String,
    prefix: String,
    capabilities: OnceCell<Capabilities>,
}

impl S3Store {
    /// The store that `options` name. Connects when it is first used; fails without an access key, or on an authority
    /// (`AWS_CA_BUNDLE`) that cannot be read.
    pub fn new(options: S3Options) -> Result<Self, StoreError> {
        let client =
            aws::s3(&options).map_err(|fault| error("use", format!("s3://{}", options.bucket), &fault))?;
        let prefix = options.prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { client, bucket: options.bucket, prefix, capabilities: OnceCell::new() })
    }

    fn key(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The name of the object under `key`, if it is one of ours.
    fn name(&self, key: &str) -> Option<ObjectName> {
        ObjectName::parse(key.strip_prefix(&self.prefix)?).ok()
    }

    async fn probed(&self) -> Result<Capabilities, Fault> {
        self.capabilities.get_or_try_init(|| probe::probe(self)).await.copied()
    }

    fn failed(&self, operation: &'static str, name: Option<&ObjectName>, fault: Fault) -> StoreError {
        let Self { bucket, prefix, .. } = self;
        let subject = match name {
            Some(name) => format!("{name} in s3://{bucket}/{prefix}"),
            None => format!("s3://{bucket}/{prefix}"),
        };
        error(operation, subject, &fault)
    }
}

fn error(operation: &'static str, subject: String, fault: &Fault) -> StoreError {
    let error = StoreError::new(operation, subject, fault.kind(), fault.to_string());
    match fault.hint(ACTIONS) {
        Some(hint) => error.hinted(hint),
        None => error,
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        put::put(self, name, content).await.map_err(|fault| self.failed("put", Some(name), fault))
    }

    async fn get(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StoreError> {
        read::get(self, name, range, limit).await.map_err(|fault| self.failed("read", Some(name), fault))
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        read::stat(self, name).await.map_err(|fault| self.failed("look at", Some(name), fault))
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        read::list(self, under).await.map_err(|fault| self.failed("list", Some(under), fault))
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        put::delete(self, name).await.map_err(|fault| self.failed("delete", Some(name), fault))
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        read::clock(self).await.map_err(|fault| self.failed("ask for the time of", None, fault))
    }

    async fn capabilities(&self) -> Result<Capabilities, StoreError> {
        self.probed().await.map_err(|fault| self.failed("probe", None, fault))
    }

    async fn rules(&self, under: &ObjectName) -> Result<StoreRules, StoreError> {
        let found = rules::rules(self, &format!("{}/", self.key(under))).await;
        found.map_err(|fault| self.failed("read the rules of", None, fault))
    }
}

impl Capabilities {
    /// Whether a store refuses a second put of a name by itself.
    fn refuses_second_put(self) -> bool {
        self.conditional_put == Held::Yes
    }
}
