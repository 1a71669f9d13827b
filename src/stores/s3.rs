//! A bucket of anything that speaks S3.
//!
//! Objects are put with `If-None-Match: *` and their SHA-256. Whether a server holds to either is tried once, before the
//! first put; where it does not refuse a second put, a look comes before each.

mod client;
mod fault;
mod probe;
mod put;
mod read;
mod rules;

use std::{fmt, ops::Range, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use self::fault::Fault;
use super::{Capabilities, Held, Listed, Put, Stat, Store, StoreError};
use crate::{artifact::layout::ObjectName, inventory::StoreRules, spec::Addressing};

/// How a bucket is reached.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The bucket's name; it must exist.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// URL, where it isn't AWS.
    pub endpoint: Option<String>,
    /// Folder in the bucket, without slashes at its ends; may be empty.
    pub prefix: String,
    /// How the bucket stands in URLs.
    pub addressing: Addressing,
    /// With which access key.
    pub credentials: S3Credentials,
    /// Silence of the server that ends a call.
    pub silence: Duration,
}

/// Silence of a server that ends a call, unless declared otherwise.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(60);

/// An access key.
#[derive(Clone)]
pub enum S3Credentials {
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` of the environment.
    Environment,
    /// This one.
    Key {
        /// Its public half.
        id: String,
        /// Its secret half.
        secret: Zeroizing<String>,
    },
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            S3Credentials::Environment => f.write_str("Environment"),
            S3Credentials::Key { id, .. } => f.debug_struct("Key").field("id", id).finish_non_exhaustive(),
        }
    }
}

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
        let client = client::client(&options)
            .map_err(|fault| fault.into_error("use", format!("s3://{}", options.bucket)))?;
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
        fault.into_error(
            operation,
            match name {
                Some(name) => format!("{name} in s3://{bucket}/{prefix}"),
                None => format!("s3://{bucket}/{prefix}"),
            },
        )
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
