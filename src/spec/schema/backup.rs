//! Backups: what is protected, by whose drivers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Keep, S3, Secret};
use crate::spec::{
    DailyWindow, Jobs, PointInTime, SlotName, SnapshotRule, TimeOfDay,
    values::{AbsolutePath, GitUrl, Glob, HttpUrl, Line, Name, Text, Word},
};

/// What is protected: exactly one of `files`, `sqlite`, `mysql`, `postgres`, `influxdb`, `influxdb2`, `mongodb`, `redis`, `etcd`,
/// `dynamodb`, `rds`, `atlas` and `s3`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["files"] }, { "required": ["sqlite"] }, { "required": ["mysql"] },
    { "required": ["postgres"] }, { "required": ["influxdb"] }, { "required": ["influxdb2"] }, { "required": ["mongodb"] },
    { "required": ["redis"] }, { "required": ["etcd"] }, { "required": ["dynamodb"] }, { "required": ["rds"] },
    { "required": ["atlas"] }, { "required": ["s3"] },
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
    /// Whether what somebody changed of its artifacts and schedules is put back by itself. Default: true.
    pub self_heal: Option<bool>,
    /// Who makes users, roles and grants anew where captures leave them out: `elsewhere`, such as a playbook. Default: nobody is
    /// known to, and `validate` warns.
    pub accounts: Option<Accounts>,
    /// Folders of the controller's host.
    pub files: Option<Files>,
    /// An SQLite database of the controller's host.
    pub sqlite: Option<Sqlite>,
    /// MySQL or MariaDB.
    pub mysql: Option<Mysql>,
    /// PostgreSQL.
    pub postgres: Option<Postgres>,
    /// InfluxDB 1.x.
    pub influxdb: Option<Influxdb>,
    /// InfluxDB 2.x.
    pub influxdb2: Option<Influxdb2>,
    /// MongoDB.
    pub mongodb: Option<Mongodb>,
    /// Redis, Valkey, or what speaks their replication.
    pub redis: Option<Redis>,
    /// etcd, version 3.
    pub etcd: Option<Etcd>,
    /// A table of DynamoDB.
    pub dynamodb: Option<Dynamodb>,
    /// An instance of RDS.
    pub rds: Option<Rds>,
    /// A cluster of MongoDB Atlas.
    pub atlas: Option<Atlas>,
    /// Objects of a bucket.
    pub s3: Option<S3>,
}

/// Who makes users, roles and grants anew.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Accounts {
    /// Something that is no part of the declaration.
    Elsewhere,
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

/// A MySQL or MariaDB server: `host`, or `socket`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["host"] }, { "required": ["socket"] }]))]
pub struct Mysql {
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
    /// Which databases; not with `method = "physical"`. Default: all but the engine's own.
    pub databases: Option<Vec<Text<Word>>>,
    /// How the connection is protected. Default: as the engine's client does.
    pub tls: Option<Tls>,
    /// What is captured: `logical` (databases) or `physical` (the files of the whole MariaDB server, which runs on the
    /// controller's host). Default: `logical`.
    pub method: Option<Method>,
    /// The server's data folder, with `method = "physical"`. The host's `allow.read` must cover it. Default:
    /// `/var/lib/mysql`.
    pub data_dir: Option<Text<AbsolutePath>>,
    /// Whether the server's binary logs are purged once every store of the backup has them; needs `log` in the policy.
    /// Default: false.
    pub purge_binary_logs: Option<bool>,
    /// Whether a dump takes checksums of the rows of each table in its own view, beside their number; not with
    /// `method = "physical"`. Default: true.
    pub checksums: Option<bool>,
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

/// A PostgreSQL server: `host`, or `socket`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["host"] }, { "required": ["socket"] }]))]
pub struct Postgres {
    /// Name or address.
    pub host: Option<Text<Word>>,
    /// Default: the engine's own.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// A Unix socket of the controller's host or its folder, instead of host and port.
    pub socket: Option<Text<AbsolutePath>>,
    /// Whom to log in as.
    pub user: Option<Text<Word>>,
    /// With which password.
    pub password: Option<Secret>,
    /// Which databases; not with `method = "physical"`. Default: all but templates.
    pub databases: Option<Vec<Text<Word>>>,
    /// How the connection is protected. Default: as the engine's client does.
    pub tls: Option<Tls>,
    /// What is captured: `logical` (databases) or `physical` (the whole cluster). Default: `logical`.
    pub method: Option<Method>,
    /// The replication slot that keeps the log on the server until it is captured; with `method = "physical"`. Default:
    /// `backstay_` and the backup's name.
    pub slot: Option<Text<SlotName>>,
    /// How the log comes to its captures, with `method = "physical"`: from the server by a replication `slot`, or from its
    /// `archive`, by `archive_command = 'backstay wal-push NAME %p'` on the controller's host. Default: `slot`.
    pub log_from: Option<LogFrom>,
    /// The server's data folder, where that is on the controller's host: what `restore --in-place` replaces; with
    /// `method = "physical"`. The host's `allow.write` must cover it.
    pub data_dir: Option<Text<AbsolutePath>>,
    /// How many connections dump the only declared database, and load it, at once; not with `method = "physical"`. Above 1 the dump is a
    /// directory, which is made in the controller's scratch folder first. Default: 1.
    #[schemars(with = "Option<u8>", range(min = 1, max = 64))]
    pub jobs: Option<Jobs>,
    /// Whether a dump takes checksums of the rows of each table in its own view, beside their number; not with
    /// `method = "physical"`. Default: true.
    pub checksums: Option<bool>,
}

/// How the log of a PostgreSQL cluster comes to its captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFrom {
    /// From the server, on which a replication slot keeps it.
    Slot,
    /// From where the server archives it.
    Archive,
}

/// What is captured of a database server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Databases, as statements that make them again.
    Logical,
    /// The files of the whole server.
    Physical,
}

/// A MongoDB server: `host`, or `socket`. Of a replica set it is one member, and for restores its primary.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["host"] }, { "required": ["socket"] }]))]
pub struct Mongodb {
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
    /// The database that the user was made in. Default: `admin`.
    pub auth_database: Option<Text<Word>>,
    /// Which databases. Default: all but the engine's own.
    pub databases: Option<Vec<Text<Word>>>,
    /// How the connection is protected. Default: not at all.
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

/// An InfluxDB 1.x server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Influxdb {
    /// Name or address.
    #[schemars(required)]
    pub host: Option<Text<Word>>,
    /// The port of the HTTP API. Default: 8086.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The port of the service that backups are taken from and restored to. Default: 8088.
    #[schemars(range(min = 1))]
    pub rpc_port: Option<u16>,
    /// Whom to log in as.
    pub user: Option<Text<Word>>,
    /// With which password.
    pub password: Option<Secret>,
    /// Which databases. Default: all but the engine's own.
    pub databases: Option<Vec<Text<Word>>>,
    /// The only retention policy that is captured, of the only database that is. Default: all.
    pub retention_policy: Option<Text<Word>>,
    /// How connections to the HTTP API are protected; the other port knows no protection. Default: not at all.
    pub tls: Option<Tls>,
}

/// An InfluxDB 2.x server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Influxdb2 {
    /// The URL of the HTTP API.
    #[schemars(required)]
    pub url: Option<Text<HttpUrl>>,
    /// The name of the organization.
    #[schemars(required)]
    pub org: Option<Text<Line>>,
    /// An operator token: the server gives backups to no other.
    #[schemars(required)]
    pub token: Option<Secret>,
    /// Names of buckets. Default: all of the organization but the engine's own.
    #[schemars(length(min = 1))]
    pub buckets: Option<Vec<Text<Line>>>,
    /// How the connection is protected. Default: with https, by the authorities that the controller's host trusts.
    pub tls: Option<Tls>,
}

/// A Redis server, of which all is captured.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Name or address.
    #[schemars(required)]
    pub host: Option<Text<Word>>,
    /// Default: 6379.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Whom to log in as. Default: the server's default user.
    pub user: Option<Text<Word>>,
    /// With which password.
    pub password: Option<Secret>,
    /// How the connection is protected. Default: not at all.
    pub tls: Option<Tls>,
}

/// An etcd cluster, of which one member is captured.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    /// Client URLs of members: the first that answers and has a leader is captured.
    #[schemars(required, length(min = 1))]
    pub endpoints: Option<Vec<Text<HttpUrl>>>,
    /// Whom to log in as, where authentication is on: a user with the role `root`.
    pub user: Option<Text<Word>>,
    /// With which password.
    pub password: Option<Secret>,
    /// How connections are protected. Default: by the authorities that the controller's host trusts.
    pub tls: Option<EtcdTls>,
}

/// How connections to etcd are protected.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EtcdTls {
    /// The authority that must have signed the members' certificates: a PEM file of the controller's host. Default: any
    /// that the host trusts.
    pub ca: Option<Text<AbsolutePath>>,
    /// The certificate that is shown to members: a PEM file of the controller's host.
    pub cert: Option<Text<AbsolutePath>>,
    /// The certificate's private key, PEM.
    pub key: Option<Secret>,
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
    /// Where it isn't AWS.
    pub endpoint: Option<Text<HttpUrl>>,
    /// Public half of the access key. Default: the host's own role or environment.
    pub access_key_id: Option<Secret>,
    /// Secret half of the access key.
    pub secret_access_key: Option<Secret>,
    /// Whether DynamoDB can bring back any second: `on`, `off`, or of how many days (`35d`). Default: left as it is.
    pub point_in_time: Option<Text<PointInTime>>,
    /// What is captured: `logical` (every item, into the stores) or `native` (a backup of DynamoDB's own, which stays in the
    /// table's account). Default: `logical`.
    pub method: Option<TableMethod>,
}

/// What is captured of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TableMethod {
    /// Every item.
    Logical,
    /// A backup that the provider keeps.
    Native,
}

/// An instance of RDS, whose artifacts are snapshots that stay in its account.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rds {
    /// AWS region.
    #[schemars(required)]
    pub region: Option<Text<Word>>,
    /// The instance's identifier.
    #[schemars(required)]
    pub instance: Option<Text<Word>>,
    /// Where it isn't AWS.
    pub endpoint: Option<Text<HttpUrl>>,
    /// Public half of the access key. Default: the host's own role or environment.
    pub access_key_id: Option<Secret>,
    /// Secret half of the access key.
    pub secret_access_key: Option<Secret>,
    /// Whether RDS can bring back any second, by automated backups: `on`, `off`, or of how many days (`14d`). Default: left as it
    /// is.
    pub point_in_time: Option<Text<PointInTime>>,
    /// When in the day RDS makes its automated backup, in UTC: `03:00-04:00`. Default: left as it is.
    pub backup_window: Option<Text<DailyWindow>>,
}

/// A cluster of MongoDB Atlas, whose artifacts are snapshots that stay with Atlas.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Atlas {
    /// The project's (group's) id: 24 hexadecimal digits.
    #[schemars(required)]
    pub project: Option<Text<Word>>,
    /// The cluster's name.
    #[schemars(required)]
    pub cluster: Option<Text<Word>>,
    /// Where the Admin API is. Default: `https://cloud.mongodb.com`.
    pub url: Option<Text<HttpUrl>>,
    /// The client ID of a service account.
    #[schemars(required)]
    pub client_id: Option<Secret>,
    /// The service account's client secret.
    #[schemars(required)]
    pub client_secret: Option<Secret>,
    /// Whether Atlas can bring back any second (continuous cloud backup): `on`, `off`, or of how many days (`7d`). Default: left
    /// as it is.
    pub point_in_time: Option<Text<PointInTime>>,
    /// The snapshots that Atlas makes by itself, all of them: `every 6h, keep 2d`, `every day, keep 7d`, `every saturday, keep 4w`,
    /// `every month on last, keep 12mo`, `every year in december, keep 3y`. Default: left as they are.
    #[schemars(length(min = 1))]
    pub snapshots: Option<Vec<Text<SnapshotRule>>>,
    /// When in the day Atlas makes its snapshots, in UTC: `03:30`. Default: left as it is.
    pub snapshot_time: Option<Text<TimeOfDay>>,
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
    /// Whether what somebody changed of its bundles and mirrors is put back by itself. Default: true.
    pub self_heal: Option<bool>,
}
