//! What can be protected, and how each of it is reached.

use std::path::PathBuf;

use serde::Deserialize;

use super::{AwsCredentials, PointInTime, Protection, S3, SecretRef, SlotName};
use crate::artifact::manifest::{Counting, NativePlace};

/// The protected data.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Folders of the controller's host.
    Files(Files),
    /// An SQLite database of the controller's host.
    Sqlite { path: PathBuf },
    /// MySQL or MariaDB.
    Mysql(Mysql),
    /// PostgreSQL.
    Postgres(Postgres),
    /// InfluxDB 1.x.
    Influxdb(Influxdb),
    /// InfluxDB 2.x.
    Influxdb2(Influxdb2),
    /// MongoDB.
    Mongodb(Mongodb),
    /// Redis.
    Redis(Redis),
    /// etcd, version 3.
    Etcd(Etcd),
    /// A table of DynamoDB.
    Dynamodb(Dynamodb),
    /// An instance of RDS.
    Rds(Rds),
    /// A cluster of MongoDB Atlas.
    Atlas(Atlas),
    /// Objects of a bucket.
    S3(S3),
}

impl Source {
    /// The key of the source's table in a declaration.
    pub fn kind(&self) -> &'static str {
        match self {
            Source::Files(_) => "files",
            Source::Sqlite { .. } => "sqlite",
            Source::Mysql(_) => "mysql",
            Source::Postgres(_) => "postgres",
            Source::Influxdb(_) => "influxdb",
            Source::Influxdb2(_) => "influxdb2",
            Source::Mongodb(_) => "mongodb",
            Source::Redis(_) => "redis",
            Source::Etcd(_) => "etcd",
            Source::Dynamodb(_) => "dynamodb",
            Source::Rds(_) => "rds",
            Source::Atlas(_) => "atlas",
            Source::S3(_) => "s3",
        }
    }

    /// What the provider that hosts the data is to keep of it by itself; `None` where that is nobody's to declare.
    pub fn protection(&self) -> Option<&Protection> {
        match self {
            Source::Dynamodb(it) => Some(&it.protection),
            Source::Rds(it) => Some(&it.protection),
            Source::Atlas(it) => Some(&it.protection),
            _ => None,
        }
    }

    /// Whether artifacts are the provider's own backups, which stay with it.
    pub fn is_native(&self) -> bool {
        match self {
            Source::Dynamodb(it) => it.method == TableMethod::Native,
            Source::Rds(_) | Source::Atlas(_) => true,
            _ => false,
        }
    }

    /// The kind of backups that the provider makes of it, and where it keeps them; `None` where there is no provider. In which account
    /// no declaration tells.
    pub fn native_place(&self) -> Option<(&'static str, NativePlace)> {
        let place = |region: &str, endpoint: Option<&str>, of: String| NativePlace {
            region: region.to_owned(),
            endpoint: endpoint
                .filter(|endpoint| !is_of_aws(endpoint))
                .map(|it| it.trim_end_matches('/').to_owned()),
            account: None,
            of,
        };
        match self {
            Source::Dynamodb(it) => {
                Some((DYNAMODB_BACKUP, place(&it.region, it.endpoint.as_deref(), it.table.clone())))
            }
            // RDS stores identifiers in lower case ("DBInstanceIdentifier").
            Source::Rds(it) => Some((
                RDS_SNAPSHOT,
                place(&it.region, it.endpoint.as_deref(), it.instance.to_ascii_lowercase()),
            )),
            Source::Atlas(it) => {
                Some((ATLAS_SNAPSHOT, place(ATLAS, Some(&it.url), format!("{}/{}", it.project, it.cluster))))
            }
            _ => None,
        }
    }

    /// Whether the provider hands out what its own backups hold, as one file each.
    pub fn hands_out_natives(&self) -> bool {
        matches!(self, Source::Atlas(_))
    }

    /// Whether a provider has to be asked what it keeps.
    pub fn has_provider(&self) -> bool {
        self.is_native() || self.protection().is_some_and(|protection| !protection.is_empty())
    }

    /// How a new place beside the original is written.
    pub fn place_of_new(&self) -> &'static str {
        match self {
            Source::Dynamodb(_) => "table:NAME",
            Source::Rds(_) => "instance:NAME",
            Source::Atlas(_) => "cluster:NAME",
            _ => "database:NAME",
        }
    }

    /// Whether it is asked at the endpoint of `instance`.
    pub fn is_on(&self, instance: &Rds) -> bool {
        let (Source::Mysql(Mysql { server, .. }) | Source::Postgres(Postgres { server, .. })) = self else {
            return false;
        };
        // As RDS names its endpoints: customers.c9akciq32.eu-north-1.rds.amazonaws.com
        // in China customers.c9akciq32.rds.cn-north-1.amazonaws.com.cn
        let regions = [format!(".{}.rds.", instance.region), format!(".rds.{}.", instance.region)];
        server.host.starts_with(&format!("{}.", instance.instance))
            && regions.iter().any(|region| server.host.contains(region))
    }

    /// What users of the source notice while its provider goes from one setting to another, for people.
    pub fn outage(&self, from: PointInTime, to: PointInTime) -> Option<&'static str> {
        // "BackupRetentionPeriod" of `ModifyDBInstance`.
        let switches = (from == PointInTime::Off) != (to == PointInTime::Off);
        let is_rds = matches!(self, Source::Rds(_));
        (is_rds && switches).then_some(
            "RDS interrupts the instance for a moment while it goes from or to no automated backups",
        )
    }

    /// Whether the provider is to keep what a log would bring back: any second.
    pub fn leaves_its_log(&self) -> bool {
        let point_in_time = self.protection().and_then(|protection| protection.point_in_time);
        matches!(point_in_time, Some(PointInTime::On { .. }))
    }
}

/// What manifests call DynamoDB's own backups.
pub const DYNAMODB_BACKUP: &str = "dynamodb-backup";

/// What manifests call RDS's own backups.
pub const RDS_SNAPSHOT: &str = "rds-snapshot";

/// What snapshots of MongoDB Atlas are called in manifests.
pub const ATLAS_SNAPSHOT: &str = "atlas-snapshot";

/// What stands for the region of what is kept by Atlas, which tells of none.
const ATLAS: &str = "atlas";

/// Whether an endpoint is one of AWS's own, of which there are several for one service ("AWS service endpoints").
fn is_of_aws(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws"]
        .iter()
        .any(|zone| host.ends_with(zone))
}

/// Folders of the controller's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Absolute folders or files, none inside another.
    pub paths: Vec<PathBuf>,
    /// Globs, relative to each of the paths, that are left out.
    pub exclude: Vec<String>,
}

/// MySQL or MariaDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mysql {
    /// Where and as whom.
    pub server: Server,
    /// What is captured of it.
    pub method: MysqlMethod,
    /// What becomes of the server's binary logs once they are stored.
    pub binary_logs: BinaryLogs,
    /// What a dump finds out about its rows.
    pub counting: Counting,
}

/// What is captured of a MySQL or MariaDB server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MysqlMethod {
    /// Databases, as statements that make them again.
    #[default]
    Logical,
    /// The files of the whole server, a MariaDB that runs on the controller's host.
    Physical {
        /// Its data folder.
        data_dir: PathBuf,
    },
}

/// What becomes of a server's binary logs once every store of their backup has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BinaryLogs {
    /// The server keeps them for as long as its own settings say.
    #[default]
    Left,
    /// They are purged.
    Purged,
}

/// PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// Where and as whom.
    pub server: Server,
    /// What is captured of it.
    pub method: PostgresMethod,
    /// How many connections dump its only database, and load it, at once.
    pub jobs: Jobs,
    /// What a dump finds out about its rows.
    pub counting: Counting,
}

/// How many connections do one thing at once: 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub struct Jobs(u8);

impl Jobs {
    /// One after the other.
    pub const ONE: Self = Self(1);

    /// As many as there may be.
    pub const MOST: Self = Self(64);

    /// How many.
    pub fn count(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Jobs {
    type Error = String;

    fn try_from(count: u8) -> Result<Self, String> {
        match count {
            1..=64 => Ok(Self(count)),
            _ => Err(format!("{count} jobs: there may be 1 to 64")),
        }
    }
}

/// What is captured of a PostgreSQL server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PostgresMethod {
    /// Databases, as statements that make them again.
    #[default]
    Logical,
    /// The files of the whole cluster.
    Physical {
        /// How its log comes.
        log: LogFrom,
        /// Where the server keeps its files on the controller's host, if it is that host's: what a restore in place replaces.
        data_dir: Option<PathBuf>,
    },
}

/// How the log of a PostgreSQL cluster comes to its captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFrom {
    /// It is received from the server, on which this slot keeps it until it is stored.
    Slot(SlotName),
    /// The server archives it, by `backstay wal-push`.
    Archive,
}

/// InfluxDB 1.x.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Influxdb {
    /// Where and as whom; its port is that of the HTTP API.
    pub server: Server,
    /// The port of the service that backups are taken from and restored to.
    pub rpc_port: u16,
    /// The only retention policy that is captured, of the only database that is; all of them when `None`.
    pub retention_policy: Option<String>,
}

/// InfluxDB 2.x.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Influxdb2 {
    /// Where its HTTP API is, without a slash at its end.
    pub url: String,
    /// The name of the organization.
    pub org: String,
    /// An operator token.
    pub token: SecretRef,
    /// Names of buckets; empty means all of the organization but the engine's own.
    pub buckets: Vec<String>,
    /// How the connection is protected where the URL begins with https: by default by any authority that the host trusts.
    pub tls: Tls,
}

/// A Redis server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// Name or address.
    pub host: String,
    /// Default 6379.
    pub port: u16,
    /// Whom to log in as; the server's default user when `None`.
    pub user: Option<String>,
    /// With which password.
    pub password: Option<SecretRef>,
    /// How the connection is protected; by default not at all.
    pub tls: Tls,
}

/// An etcd cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Client URLs of members, without a slash at their ends. Never empty.
    pub endpoints: Vec<String>,
    /// Whom to log in as.
    pub login: Option<Login>,
    /// The authority that must have signed the members' certificates (a PEM file of the controller's host); any that the
    /// host trusts when `None`.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown to members.
    pub certificate: Option<ClientCertificate>,
}

/// A table of DynamoDB.
#[derive(Clone, Debug, PartialEq)]
pub struct Dynamodb {
    /// Its region.
    pub region: String,
    /// Its name.
    pub table: String,
    /// URL, where it isn't AWS.
    pub endpoint: Option<String>,
    /// Access key; `None` uses the host's environment.
    pub credentials: Option<AwsCredentials>,
    /// What DynamoDB is to keep by itself.
    pub protection: Protection,
    /// What is captured.
    pub method: TableMethod,
}

/// What is captured of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableMethod {
    /// Every item, into the stores.
    #[default]
    Logical,
    /// A backup of DynamoDB's own, of which the stores hold the manifest.
    Native,
}

/// An instance of RDS.
#[derive(Clone, Debug, PartialEq)]
pub struct Rds {
    /// Its region.
    pub region: String,
    /// Its identifier.
    pub instance: String,
    /// URL, where it isn't AWS.
    pub endpoint: Option<String>,
    /// Access key; `None` uses the host's environment.
    pub credentials: Option<AwsCredentials>,
    /// What RDS is to keep by itself.
    pub protection: Protection,
}

/// A cluster of MongoDB Atlas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atlas {
    /// Where the Admin API is, without a slash at its end.
    pub url: String,
    /// The project (group) that the cluster is in: 24 hexadecimal digits.
    pub project: String,
    /// The cluster's name: letters, digits and hyphens.
    pub cluster: String,
    /// As whom the API is asked.
    pub account: ServiceAccount,
    /// What Atlas is to keep by itself.
    pub protection: Protection,
}

/// A service account of Atlas (OAuth 2.0, client credentials).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its public half.
    pub client_id: SecretRef,
    /// Its secret half.
    pub client_secret: SecretRef,
}

/// A user and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// Its password.
    pub password: SecretRef,
}

/// A certificate that a client shows, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// A PEM file of the controller's host.
    pub path: PathBuf,
    /// The private key, PEM.
    pub key: SecretRef,
}

/// MongoDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mongodb {
    /// Where and as whom.
    pub server: Server,
    /// The database that the user was made in.
    pub auth_database: String,
}

/// A database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name or address; empty when a socket is used.
    pub host: String,
    /// The engine's own default when `None`.
    pub port: Option<u16>,
    /// Path of a Unix socket, instead of host and port.
    pub socket: Option<PathBuf>,
    /// Whom to log in as.
    pub user: Option<String>,
    /// With which password.
    pub password: Option<SecretRef>,
    /// Which databases; empty means all but the engine's own.
    pub databases: Vec<String>,
    /// How the connection is protected.
    pub tls: Tls,
}

/// How a connection to a server is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// As the engine's client does by default.
    #[default]
    Default,
    /// The certificate must be signed by this authority (a PEM file of the controller's host).
    Verified { ca: PathBuf },
}
