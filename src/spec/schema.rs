//! The declaration's format: a mirror of its TOML. The JSON Schema is made of these types and their comments, and a
//! declaration is checked against that schema, so that what is documented and what is accepted can't differ.
//!
//! What is required is so in the schema only: the types can hold what is left of a faulty resource, for further faults
//! to be found in it.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::LazyLock, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::{
    Recipient,
    cron::Cron,
    schedule::Cadence,
    values::{
        AbsolutePath, GitUrl, Glob, HostPath, HttpUrl, InnerPath, Length, Line, Name, Size, Span, SshKey,
        Text, TextForm, Word, Zone,
    },
};

/// What an infra repo declares: every `*.toml` of its declaration folder together, in any order.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Backstay declaration")]
pub struct Declaration {
    /// The fleet itself.
    #[schemars(required)]
    pub fleet: Option<Fleet>,
    /// Whom to call, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub contact: BTreeMap<String, Contact>,
    /// Places that hold artifacts, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub store: BTreeMap<String, Store>,
    /// Schedules, retention and objectives, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub policy: BTreeMap<String, Policy>,
    /// What is protected, by name. `infra` is reserved.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub backup: BTreeMap<String, Backup>,
    /// The infra repo's own backup: a bundle on every commit.
    pub infra: Option<Infra>,
    /// Machines that can be rebuilt, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub vm: BTreeMap<String, Vm>,
    /// Ordered recoveries of machines and data, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub recovery: BTreeMap<String, Recovery>,
    /// Scheduled restore tests, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub drill: BTreeMap<String, Drill>,
    /// Backups that were declared once and whose artifacts may go, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub orphan: BTreeMap<String, Orphan>,
}

/// The fleet itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The fleet's name: the first folder in every store.
    #[schemars(required)]
    pub name: Option<Text<Name>>,
    /// IANA zone of cron schedules, windows and calendar rules of retention. Default: UTC.
    pub timezone: Option<Text<Zone>>,
    /// Age public keys of those who can read artifacts, such as operations and an off-line escrow.
    #[schemars(required, length(min = 1))]
    pub recipients: Option<Vec<Text<Recipient>>>,
}

/// Whom to call; printed in runbooks and alerts.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// A person or a group.
    #[schemars(required)]
    pub name: Option<Text<Line>>,
    /// What they do.
    pub role: Option<Text<Line>>,
    /// Where they read mail.
    pub email: Option<Text<Word>>,
    /// Where they answer.
    pub phone: Option<Text<Line>>,
}

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

/// Where a secret is found when it is needed; never the secret. Exactly one of `file`, `env`, `command` and `age`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("format" = "secret-reference", "oneOf" = [
    { "required": ["file"] }, { "required": ["env"] }, { "required": ["command"] }, { "required": ["age"] },
]))]
pub struct Secret {
    /// A file of the controller's host.
    pub file: Option<Text<AbsolutePath>>,
    /// A variable of the controller's environment.
    pub env: Option<Text<Word>>,
    /// A program of the controller's host, with arguments, that prints it. The host's `allow.run` must name it.
    #[schemars(length(min = 1))]
    pub command: Option<Vec<String>>,
    /// Armored age, encrypted to the controller's identity.
    pub age: Option<String>,
}

/// When a kind of artifact is to be made: cron in five fields in the fleet's zone, or `{ every = "15m" }`.
#[derive(Clone, Debug)]
pub struct CadenceForm(pub Cadence);

impl JsonSchema for CadenceForm {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Cadence".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let cron = Text::<Cron>::json_schema(generator);
        let length = Text::<Length>::json_schema(generator);
        json_schema!({ "anyOf": [cron, {
            "type": "object",
            "description": "Every so often, counted from the Unix epoch.",
            "properties": { "every": length },
            "additionalProperties": false,
            "required": ["every"],
        }] })
    }
}

impl<'de> Deserialize<'de> for CadenceForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = CadenceForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("cron in five fields, or { every = \"15m\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CadenceForm, E> {
                let cron = Cron::parse(text).map_err(|invalid| E::custom(invalid.reason))?;
                Ok(CadenceForm(Cadence::Cron(cron)))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<CadenceForm, A::Error> {
                match map.next_entry::<String, Text<Length>>()? {
                    Some((key, Text(length))) if key == "every" => Ok(CadenceForm(Cadence::Every(length.0))),
                    _ => Err(de::Error::missing_field("every")),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Schedules, retention and objectives; reusable.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The most data, in time, that may be lost.
    pub rpo: Option<Text<Length>>,
    /// The longest that recovery may take.
    pub rto: Option<Text<Length>>,
    /// How late a run may end before `rpo` counts as breached. Default: 5 % of `rpo`.
    pub grace: Option<Text<Length>>,
    /// When a full is made: it stands alone.
    pub full: Option<CadenceForm>,
    /// When an incremental is made: it shares what has not changed since its epoch's full.
    pub incremental: Option<CadenceForm>,
    /// When a differential is made: it shares with its epoch's full only.
    pub differential: Option<CadenceForm>,
    /// When the log since the last artifact is captured, for a restore to any second.
    pub log: Option<CadenceForm>,
    /// What happens to missed runs. Default: `once`.
    pub catch_up: Option<CatchUp>,
    /// The most by which a run is put off, so that not all begin at once; stable per backup. Default: none.
    pub jitter: Option<Text<Length>>,
    /// When captures other than logs must not begin.
    pub window: Option<Window>,
    /// What is kept. Rules are a union; a kind without any rule is kept for ever.
    pub keep: Option<Keep>,
    /// How often artifacts are checked.
    pub verify: Option<Verify>,
}

/// What happens to missed runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CatchUp {
    /// The newest one is run, once.
    #[default]
    Once,
    /// They are left out: a run that is later than `grace` waits for the next slot.
    Skip,
}

/// When captures other than logs must not begin.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Parts of the day in the fleet's zone, such as `08:00-18:00`; `22:00-04:00` spans midnight.
    #[schemars(required)]
    pub deny: Option<Vec<Text<Span>>>,
}

/// What is kept. Rules are a union; a kind without any rule is kept for ever.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Fulls younger than this.
    pub full: Option<Text<Length>>,
    /// Incrementals younger than this.
    pub incremental: Option<Text<Length>>,
    /// Differentials younger than this.
    pub differential: Option<Text<Length>>,
    /// Logs younger than this.
    pub log: Option<Text<Length>>,
    /// Manual artifacts younger than this, of whatever kind.
    pub manual: Option<Text<Length>>,
    /// The newest verified full of each of so many hours.
    #[schemars(range(min = 1))]
    pub hourly: Option<u32>,
    /// The newest verified full of each of so many days.
    #[schemars(range(min = 1))]
    pub daily: Option<u32>,
    /// The newest verified full of each of so many ISO weeks.
    #[schemars(range(min = 1))]
    pub weekly: Option<u32>,
    /// The newest verified full of each of so many months.
    #[schemars(range(min = 1))]
    pub monthly: Option<u32>,
    /// The newest verified full of each of so many years.
    #[schemars(range(min = 1))]
    pub yearly: Option<u32>,
    /// So many newest verified fulls.
    #[schemars(range(min = 1))]
    pub last: Option<u32>,
}

/// How often artifacts are checked. Default: never.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// Signature, presence and sizes.
    pub metadata: Option<Text<Length>>,
    /// Digests of what is stored.
    pub data: Option<Text<Length>>,
    /// Decryption and digests of the plaintext; needs the controller's identity.
    pub plaintext: Option<Text<Length>>,
}

/// What is protected: exactly one of `files`, `sqlite`, `mysql`, `postgres`, `influxdb`, `mongodb`, `dynamodb`, `rds`
/// and `s3`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["files"] }, { "required": ["sqlite"] }, { "required": ["mysql"] },
    { "required": ["postgres"] }, { "required": ["influxdb"] }, { "required": ["mongodb"] },
    { "required": ["dynamodb"] }, { "required": ["rds"] }, { "required": ["s3"] },
]))]
pub struct Backup {
    /// For people.
    pub description: Option<Text<Line>>,
    /// Name of the policy.
    #[schemars(required)]
    pub policy: Option<Text<Name>>,
    /// Names of stores: the first takes the capture, the others get copies.
    #[schemars(required, length(min = 1))]
    pub stores: Option<Vec<Text<Name>>>,
    /// Retention of single stores, instead of the policy's.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub keep_in: BTreeMap<String, Keep>,
    /// Name of the contact.
    pub contact: Option<Text<Name>>,
    /// Folders of the controller's host.
    pub files: Option<Files>,
    /// An SQLite database of the controller's host.
    pub sqlite: Option<Sqlite>,
    /// MySQL or MariaDB.
    pub mysql: Option<Server>,
    /// PostgreSQL.
    pub postgres: Option<Server>,
    /// InfluxDB 1.x or 2.x.
    pub influxdb: Option<Influxdb>,
    /// MongoDB.
    pub mongodb: Option<Server>,
    /// A table of DynamoDB.
    pub dynamodb: Option<Dynamodb>,
    /// An instance of RDS.
    pub rds: Option<Rds>,
    /// Objects of a bucket.
    pub s3: Option<S3>,
}

/// Folders of the controller's host.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Folders or files, none inside another. The host's `allow.read` must cover them.
    #[schemars(required, length(min = 1))]
    pub paths: Option<Vec<Text<AbsolutePath>>>,
    /// Globs, relative to each of the paths, that are left out.
    pub exclude: Option<Vec<Text<Glob>>>,
}

/// An SQLite database of the controller's host.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sqlite {
    /// The database's file. The host's `allow.read` must cover it.
    #[schemars(required)]
    pub path: Option<Text<AbsolutePath>>,
}

/// A database server: `host`, or `socket`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["host"] }, { "required": ["socket"] }]))]
pub struct Server {
    /// Name or address.
    pub host: Option<Text<Word>>,
    /// Default: the engine's own.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// A Unix socket of the controller's host, instead of host and port.
    pub socket: Option<Text<AbsolutePath>>,
    /// Whom to log in as.
    pub user: Option<Text<Word>>,
    /// With which password.
    pub password: Option<Secret>,
    /// Which databases. Default: all but the engine's own.
    pub databases: Option<Vec<Text<Word>>>,
    /// How the connection is protected. Default: as the engine's client does.
    pub tls: Option<Tls>,
}

/// How a connection to a server is protected.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The authority that must have signed the server's certificate: a PEM file of the controller's host.
    #[schemars(required)]
    pub ca: Option<Text<AbsolutePath>>,
}

/// InfluxDB 1.x or 2.x.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Influxdb {
    /// Name or address.
    #[schemars(required)]
    pub host: Option<Text<Word>>,
    /// Default: the engine's own.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Whom to log in as.
    pub user: Option<Text<Word>>,
    /// With which password or token.
    pub password: Option<Secret>,
    /// Which databases or buckets. Default: all but the engine's own.
    pub databases: Option<Vec<Text<Word>>>,
    /// Which retention policies (1.x). Default: all.
    pub retention_policies: Option<Vec<Text<Word>>>,
    /// How the connection is protected. Default: as the engine's client does.
    pub tls: Option<Tls>,
}

/// A table of DynamoDB.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dynamodb {
    /// AWS region.
    #[schemars(required)]
    pub region: Option<Text<Word>>,
    /// The table's name.
    #[schemars(required)]
    pub table: Option<Text<Word>>,
}

/// An instance of RDS.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rds {
    /// AWS region.
    #[schemars(required)]
    pub region: Option<Text<Word>>,
    /// The instance's identifier.
    #[schemars(required)]
    pub instance: Option<Text<Word>>,
}

/// The infra repo's own backup: a bundle on every commit.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Infra {
    /// Names of stores, each written directly.
    #[schemars(required, length(min = 1))]
    pub stores: Option<Vec<Text<Name>>>,
    /// Git URLs that are pushed to on every commit. The host's `allow.mirrors` must cover them.
    pub mirrors: Option<Vec<Text<GitUrl>>>,
    /// What is kept of the bundles.
    pub keep: Option<Keep>,
    /// Retention of single stores, instead of `keep`.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub keep_in: BTreeMap<String, Keep>,
}

/// A machine that can be rebuilt: exactly one of `cloudformation`, `libvirt` and `terraform`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["cloudformation"] }, { "required": ["libvirt"] }, { "required": ["terraform"] },
]))]
pub struct Vm {
    /// The template, from the infra repo's `templates/` or built in.
    #[schemars(required)]
    pub template: Option<Text<InnerPath>>,
    /// The template's variables.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub vars: toml::Table,
    /// How the machine is configured.
    pub configure: Option<Configure>,
    /// Settings of the stack.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub cloudformation: Option<toml::Table>,
    /// Settings of the domain.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub libvirt: Option<toml::Table>,
    /// Settings of the module.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub terraform: Option<toml::Table>,
}

/// How a machine is configured.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// By a playbook of Ansible.
    #[schemars(required)]
    pub ansible: Option<Ansible>,
}

/// A playbook of Ansible.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ansible {
    /// Path in the infra repo.
    #[schemars(required)]
    pub playbook: Option<Text<InnerPath>>,
    /// Hosts to limit the run to.
    pub limit: Option<Text<Word>>,
}

/// An ordered plan that rebuilds machines and restores data.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// Its steps.
    #[schemars(required, length(min = 1))]
    pub steps: Option<Vec<RecoveryStep>>,
}

/// One step of a recovery: exactly one of `rebuild`, `restore` and `run`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["rebuild"] }, { "required": ["restore"] }, { "required": ["run"] },
]))]
pub struct RecoveryStep {
    /// Name of the machine to rebuild.
    pub rebuild: Option<Text<Name>>,
    /// Name of the backup to restore.
    pub restore: Option<Text<Name>>,
    /// Program and arguments to run on the machine `on`.
    #[schemars(length(min = 1))]
    pub run: Option<Vec<String>>,
    /// Name of the machine that `run` runs on.
    pub on: Option<Text<Name>>,
    /// Names of machines and backups whose steps must be done first.
    pub after: Option<Vec<Text<Name>>>,
}

/// A scheduled restore test: of a `backup`, or of a `recovery`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["backup"] }, { "required": ["recovery"] }]))]
pub struct Drill {
    /// Name of the backup to restore.
    pub backup: Option<Text<Name>>,
    /// Name of the recovery to try.
    pub recovery: Option<Text<Name>>,
    /// When.
    #[schemars(required)]
    pub schedule: Option<CadenceForm>,
    /// Which restore point. Default: `latest`.
    pub at: Option<DrillPoint>,
    /// What must hold afterwards.
    #[serde(default)]
    #[schemars(with = "Vec<BTreeMap<String, serde_json::Value>>")]
    pub check: Vec<toml::Table>,
}

/// The restore point that a drill uses.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillPoint {
    /// The newest.
    #[default]
    Latest,
    /// Any restore point, any store in rotation.
    Random,
}

/// A backup that was declared once and whose artifacts may go.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Orphan {
    /// How old its artifacts must be, at least.
    #[schemars(required)]
    pub delete_after: Option<Text<Length>>,
}

/// The default of [`Budget::alert_at`].
pub const ALERT_AT: f64 = 0.8;

/// The default of [`Policy::grace`]: 5 % of the RPO.
pub fn default_grace(rpo: Option<Duration>) -> Duration {
    rpo.unwrap_or_default() / 20
}

/// The JSON Schema (draft 2020-12) of a declaration: of its files taken together.
pub fn json_schema() -> serde_json::Value {
    SCHEMA.clone()
}

pub(super) static SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(schema_of::<Declaration>);

/// The JSON Schema of a mirror, whole in one piece.
pub(crate) fn schema_of<T: JsonSchema>() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    drop_null(&mut schema);
    schema
}

/// TOML has no null: what is optional is left out.
fn drop_null(schema: &mut serde_json::Value) {
    use serde_json::Value;
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            object.retain(|key, value| {
                key != "default" || !(value.is_null() || value.is_object() || value.is_array())
            });
            if let Some(Value::Array(any)) = object.get_mut("anyOf") {
                any.retain(|branch| branch["type"] != "null");
                if let [Value::Object(only)] = any.as_mut_slice() {
                    let only = std::mem::take(only);
                    object.remove("anyOf");
                    // The field's own description is nearer than its type's.
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            object.values_mut().for_each(drop_null);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::spec::values;

    /// Every schema of a value, with its path.
    fn visit(path: &str, schema: &Value, each: &mut impl FnMut(&str, &Value)) {
        each(path, schema);
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            visit(&format!("{path}.{key}"), inner, each);
        }
        for key in ["items", "additionalProperties"] {
            if schema[key].is_object() {
                visit(&format!("{path}.{key}"), &schema[key], each);
            }
        }
        for inner in schema["anyOf"].as_array().into_iter().flatten() {
            visit(path, inner, each);
        }
    }

    #[test]
    fn every_key_is_documented() {
        visit("", &SCHEMA, &mut |path, schema| {
            for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
                assert!(inner["description"].is_string() || key == "every", "{path}.{key}");
            }
        });
    }

    #[test]
    fn the_walk_understands_everything_that_the_schema_says() {
        let understood = [
            "$schema",
            "title",
            "description",
            "examples",
            "type",
            "properties",
            "required",
            "items",
            "minItems",
            "additionalProperties",
            "propertyNames",
            "minimum",
            "maximum",
            "format",
            "oneOf",
            "anyOf",
            "const",
        ];
        visit("", &SCHEMA, &mut |path, schema| {
            for keyword in schema.as_object().into_iter().flatten().map(|(keyword, _)| keyword.as_str()) {
                assert!(understood.contains(&keyword), "{path}: {keyword}");
            }
            let format =
                schema["format"].as_str().filter(|format| schema["type"] == "string" || *format == "name");
            if let Some(format) = format {
                assert!(values::format(format).is_some(), "{path}: {format}");
            }
        });
    }

    #[test]
    fn no_key_may_be_null() {
        assert!(!SCHEMA.to_string().contains("null"));
    }
}
