//! Where artifacts can be kept, and how each place is reached.

use std::{path::PathBuf, time::Duration};

use super::{Recipient, SecretRef, SelfHeal, names::StoreName};

/// A place that holds artifacts.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// Its name.
    pub name: StoreName,
    /// Where it stands, for the 3-2-1 lint.
    pub location: Option<String>,
    /// Bytes it may hold before usage alerts.
    pub capacity: Option<u64>,
    /// How long an artifact can't be deleted.
    pub immutable: Option<Duration>,
    /// What it may cost.
    pub budget: Option<Budget>,
    /// Its own recipients, instead of the fleet's.
    pub recipients: Option<Vec<Recipient>>,
    /// Whether what drifted in it is healed without being asked.
    pub self_heal: SelfHeal,
    /// How it is reached.
    pub place: StorePlace,
}

/// What a store may cost, in the currency of the bill.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Price of one GiB for a month.
    pub per_gib_month: f64,
    /// Limit for a month.
    pub month: f64,
    /// Share of the limit that alerts, in 0..=1.
    pub alert_at: f64,
}

/// How a store is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum StorePlace {
    /// A folder of the controller's host.
    Local { path: PathBuf },
    /// A folder of a host, by SFTP with a key.
    Sftp(Sftp),
    /// A bucket of anything that speaks S3.
    S3(S3),
    /// A container of Azure Blob Storage.
    Azblob {
        account: String,
        container: String,
        prefix: String,
        endpoint: Option<String>,
        key: Option<SecretRef>,
    },
    /// A bucket of Google Cloud Storage.
    Gcs { bucket: String, prefix: String, endpoint: Option<String>, credential: Option<SecretRef> },
}

/// A folder of a host, by SFTP with a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Sftp {
    /// Name or address.
    pub host: String,
    /// Default 22.
    pub port: u16,
    /// Whom to log in as.
    pub user: String,
    /// Absolute folder on the host.
    pub path: String,
    /// The host's public key, pinned: `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// The private key to log in with.
    pub identity: SecretRef,
}

/// A bucket of anything that speaks S3.
#[derive(Clone, Debug, PartialEq)]
pub struct S3 {
    /// The bucket's name.
    pub bucket: String,
    /// Default `us-east-1`.
    pub region: String,
    /// URL, where it isn't AWS.
    pub endpoint: Option<String>,
    /// Folder in the bucket, without slashes at its ends; may be empty.
    pub prefix: String,
    /// How the bucket stands in URLs.
    pub addressing: Addressing,
    /// Access key; `None` uses the host's own role or environment.
    pub credentials: Option<AwsCredentials>,
}

/// How a bucket stands in URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// `https://bucket.host/key`
    VirtualHost,
    /// `https://host/bucket/key`
    Path,
}

/// An access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsCredentials {
    /// Its public half.
    pub access_key_id: SecretRef,
    /// Its secret half.
    pub secret_access_key: SecretRef,
}
