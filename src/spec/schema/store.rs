//! Stores: places that hold artifacts.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Secret;
use crate::spec::{
    Recipient,
    values::{AbsolutePath, HostPath, HttpUrl, InnerPath, Length, Line, Size, SshKey, Text, Word},
};

/// A place that holds artifacts: exactly one of `local`, `sftp`, `s3`, `azblob` and `gcs`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["local"] }, { "required": ["sftp"] }, { "required": ["s3"] },
    { "required": ["azblob"] }, { "required": ["gcs"] },
]))]
pub struct Store {
    /// Where it stands, to tell whether copies are in different places. Default: the controller's host for `local`,
    /// a place of its own for others.
    pub location: Option<Text<Line>>,
    /// Bytes it may hold before usage alerts.
    pub capacity: Option<Text<Size>>,
    /// How long an artifact can't be deleted. In S3 by object lock, elsewhere by Backstay's own refusal.
    pub immutable: Option<Text<Length>>,
    /// What it may cost.
    pub budget: Option<Budget>,
    /// Age public keys of those who can read this store's artifacts, instead of the fleet's.
    #[schemars(length(min = 1))]
    pub recipients: Option<Vec<Text<Recipient>>>,
    /// Whether what somebody took away in it is put back by itself. Default: true.
    pub self_heal: Option<bool>,
    /// A folder of the controller's host.
    pub local: Option<Local>,
    /// A folder of a host, by SFTP with a key.
    pub sftp: Option<Sftp>,
    /// A bucket of anything that speaks S3.
    pub s3: Option<S3>,
    /// A container of Azure Blob Storage.
    pub azblob: Option<Azblob>,
    /// A bucket of Google Cloud Storage.
    pub gcs: Option<Gcs>,
}

/// What a store may cost, in the currency of the bill.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Price of one GiB for a month.
    #[schemars(required, range(min = 0.0))]
    pub per_gib_month: Option<f64>,
    /// Limit for a month.
    #[schemars(required, range(min = 0.0))]
    pub month: Option<f64>,
    /// Share of the limit that alerts. Default: 0.8.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub alert_at: Option<f64>,
}

/// A folder of the controller's host.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// The folder. The host's `allow.write` must cover it.
    #[schemars(required)]
    pub path: Option<Text<AbsolutePath>>,
}

/// A folder of a host, by SFTP with a key.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sftp {
    /// Name or address.
    #[schemars(required)]
    pub host: Option<Text<Word>>,
    /// Default: 22.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Whom to log in as.
    #[schemars(required)]
    pub user: Option<Text<Word>>,
    /// The folder on the host.
    #[schemars(required)]
    pub path: Option<Text<HostPath>>,
    /// The host's public key, pinned, as in `known_hosts` without the name: `ssh-ed25519 AAAA…`.
    #[schemars(required)]
    pub host_key: Option<Text<SshKey>>,
    /// The private key to log in with.
    #[schemars(required)]
    pub identity: Option<Secret>,
}

/// A bucket of anything that speaks S3.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The bucket's name.
    #[schemars(required)]
    pub bucket: Option<Text<Word>>,
    /// Default: `us-east-1`.
    pub region: Option<Text<Word>>,
    /// Where it isn't AWS.
    pub endpoint: Option<Text<HttpUrl>>,
    /// Folder in the bucket. Default: its root.
    pub prefix: Option<Text<InnerPath>>,
    /// How the bucket stands in URLs. Default: `path` with an `endpoint`, `virtual-host` without.
    pub addressing: Option<Addressing>,
    /// Public half of the access key. Default: the host's own role or environment.
    pub access_key_id: Option<Secret>,
    /// Secret half of the access key.
    pub secret_access_key: Option<Secret>,
}

/// How a bucket stands in URLs.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Addressing {
    /// `https://bucket.host/key`
    VirtualHost,
    /// `https://host/bucket/key`
    Path,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Azblob {
    /// The storage account.
    #[schemars(required)]
    pub account: Option<Text<Word>>,
    /// The container's name.
    #[schemars(required)]
    pub container: Option<Text<Word>>,
    /// Folder in the container. Default: its root.
    pub prefix: Option<Text<InnerPath>>,
    /// Default: Azure's own.
    pub endpoint: Option<Text<HttpUrl>>,
    /// The account's key. Default: the host's own identity.
    pub key: Option<Secret>,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gcs {
    /// The bucket's name.
    #[schemars(required)]
    pub bucket: Option<Text<Word>>,
    /// Folder in the bucket. Default: its root.
    pub prefix: Option<Text<InnerPath>>,
    /// Default: Google's own.
    pub endpoint: Option<Text<HttpUrl>>,
    /// A service account's key. Default: the host's own identity.
    pub credential: Option<Secret>,
}

/// The default of [`Budget::alert_at`].
pub const ALERT_AT: f64 = 0.8;
