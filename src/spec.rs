//! The desired state of a fleet, valid by construction: what one revision of the infra repo declares.
//!
//! A [`Spec`] holds references to secrets, never secrets.

pub mod approvals;
pub mod cron;
mod declared;
pub(crate) mod document;
mod lint;
mod lower;
pub mod moves;
pub mod names;
pub mod parse;
mod places;
pub mod retention;
mod runnable;
pub mod schedule;
pub mod schema;
mod self_heal;
pub(crate) mod single;
mod slot_name;
pub(crate) mod suggest;
pub mod suspension;
pub(crate) mod values;
mod walk;
pub mod window;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::artifact::Kind;
pub use cron::Cron;
pub use declared::declared;
pub use moves::Moves;
use names::*;
pub use parse::{Parsed, parse};
pub use runnable::{CannotRun, Resource};
pub use schedule::{Cadence, Schedule};
pub use self_heal::{Healable, SelfHeal, Undeclared};
pub use slot_name::SlotName;
pub use suspension::Suspension;
pub use window::Window;

/// Everything that one revision declares.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The fleet itself.
    pub fleet: Fleet,
    /// Whom to call.
    pub contacts: BTreeMap<ContactName, Contact>,
    /// Where artifacts are kept.
    pub stores: BTreeMap<StoreName, Store>,
    /// What is protected. Never holds [`names::INFRA`].
    pub backups: BTreeMap<BackupName, Backup>,
    /// The infra repo's own backup; `None` is a warning of the lint.
    pub infra: Option<Infra>,
    /// Machines that can be rebuilt.
    pub vms: BTreeMap<VmName, Vm>,
    /// Ordered recoveries.
    pub recoveries: BTreeMap<RecoveryName, Recovery>,
    /// Scheduled restore tests.
    pub drills: BTreeMap<DrillName, Drill>,
    /// Backups that were declared once and whose artifacts may go.
    pub orphans: BTreeMap<BackupName, Orphan>,
    /// Backups that were renamed, and whose folders keep their first names.
    pub moved: Moves,
    /// What stands still for a while, now or later; also what did once.
    pub suspensions: BTreeMap<SuspensionName, Suspension>,
}

impl Spec {
    /// A fleet that declares nothing yet.
    pub fn of(fleet: Fleet) -> Self {
        Self {
            fleet,
            contacts: BTreeMap::new(),
            stores: BTreeMap::new(),
            backups: BTreeMap::new(),
            infra: None,
            vms: BTreeMap::new(),
            recoveries: BTreeMap::new(),
            drills: BTreeMap::new(),
            orphans: BTreeMap::new(),
            moved: Moves::default(),
            suspensions: BTreeMap::new(),
        }
    }

    /// Who can read what is written into a store: its own recipients, or else the fleet's.
    pub fn recipients_in(&self, store: &StoreName) -> &[Recipient] {
        let own = self.stores.get(store).and_then(|store| store.recipients.as_deref());
        own.unwrap_or(&self.fleet.recipients)
    }

    /// Whether two stores are for the same recipients, so that copies between them are byte for byte.
    pub fn encrypts_alike(&self, a: &StoreName, b: &StoreName) -> bool {
        let set = |store| self.recipients_in(store).iter().collect::<BTreeSet<_>>();
        set(a) == set(b)
    }
}

/// The fleet itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// Its name: the first folder in every store.
    pub name: FleetName,
    /// The zone of cron schedules, windows and calendar rules of retention.
    pub time_zone: jiff::tz::TimeZone,
    /// Who can read artifacts: age public keys, at least one.
    pub recipients: Vec<Recipient>,
}

/// An age public key (`age1…`, X25519), checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Recipient(pub(crate) String);

impl Recipient {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whom to call.
#[derive(Clone, Debug, PartialEq)]
pub struct Contact {
    /// For people.
    pub name: String,
    /// What they do.
    pub role: Option<String>,
    /// Where they read mail.
    pub email: Option<String>,
    /// Where they answer.
    pub phone: Option<String>,
}

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
    pub credentials: Option<S3Credentials>,
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
#[derive(Clone, Debug, PartialEq)]
pub struct S3Credentials {
    /// Its public half.
    pub access_key_id: SecretRef,
    /// Its secret half.
    pub secret_access_key: SecretRef,
}

/// Where a secret is found when it is needed. Never the secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SecretRef {
    /// A file of the controller's host.
    File(PathBuf),
    /// A variable of the controller's environment.
    Env(String),
    /// Standard output of a program, where the host allows it.
    Command(Vec<String>),
    /// Armored age, encrypted to the controller's identity.
    Age(String),
}

/// Schedules, retention and objectives; reusable.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// The most data, in time, that may be lost.
    pub rpo: Option<Duration>,
    /// The longest that recovery may take.
    pub rto: Option<Duration>,
    /// How late a run may end before RPO counts as breached; never absent: the default is 5 % of `rpo`.
    pub grace: Duration,
    /// When each kind is made.
    pub schedules: BTreeMap<Kind, Cadence>,
    /// What happens to missed runs.
    pub catch_up: CatchUp,
    /// The most by which a slot is moved, stable per backup.
    pub jitter: Duration,
    /// When captures other than logs must not begin.
    pub window: Window,
    /// What is kept.
    pub keep: Retention,
    /// How often artifacts are checked.
    pub verify: Verify,
}

/// What happens to missed runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// The newest one is run, once.
    #[default]
    Once,
    /// They are left out: only a slot less than `grace` ago is run.
    Skip,
}

/// What is kept. Rules are a union; a kind without any rule is kept for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Fulls younger than this.
    pub full: Option<Duration>,
    /// Incrementals younger than this.
    pub incremental: Option<Duration>,
    /// Differentials younger than this.
    pub differential: Option<Duration>,
    /// Logs younger than this.
    pub log: Option<Duration>,
    /// Manual artifacts younger than this, of whatever kind.
    pub manual: Option<Duration>,
    /// The newest verified full of each of so many hours.
    pub hourly: Option<u32>,
    /// The newest verified full of each of so many days.
    pub daily: Option<u32>,
    /// Of so many ISO weeks.
    pub weekly: Option<u32>,
    /// Of so many months.
    pub monthly: Option<u32>,
    /// Of so many years.
    pub yearly: Option<u32>,
    /// So many newest verified fulls.
    pub last: Option<u32>,
}

impl Retention {
    /// The age until which artifacts of `kind` are kept, if there is such a rule.
    pub fn age(&self, kind: Kind) -> Option<Duration> {
        match kind {
            Kind::Full => self.full,
            Kind::Incremental => self.incremental,
            Kind::Differential => self.differential,
            Kind::Log => self.log,
        }
    }

    /// Whether rules that count (`hourly` to `yearly`, and `last`) keep artifacts of `kind`, too.
    pub fn counts(&self, kind: Kind) -> bool {
        let rules = [self.hourly, self.daily, self.weekly, self.monthly, self.yearly, self.last];
        kind == Kind::Full && rules.iter().any(Option::is_some)
    }
}

/// How often artifacts are checked; `None` is never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verify {
    /// Signature, presence and sizes.
    pub metadata: Option<Duration>,
    /// Digests of what is stored.
    pub data: Option<Duration>,
    /// Decryption and digests of the plaintext.
    pub plaintext: Option<Duration>,
}

/// What is protected, how, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// Its name.
    pub name: BackupName,
    /// For people.
    pub description: Option<String>,
    /// What is captured.
    pub source: Source,
    /// Its policy.
    pub policy: Policy,
    /// Where artifacts go: the first takes the capture, the others get copies. Never empty, no store twice.
    pub stores: Vec<StoreName>,
    /// Retention of single stores, instead of the policy's.
    pub keep_in: BTreeMap<StoreName, Retention>,
    /// Whom to call.
    pub contact: Option<ContactName>,
    /// Whether what drifted of it is healed without being asked.
    pub self_heal: SelfHeal,
}

impl Backup {
    /// What `store` keeps of this backup.
    pub fn retention(&self, store: &StoreName) -> &Retention {
        self.keep_in.get(store).unwrap_or(&self.policy.keep)
    }
}

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
    /// MongoDB.
    Mongodb(Mongodb),
    /// Redis.
    Redis(Redis),
    /// etcd, version 3.
    Etcd(Etcd),
    /// A table of DynamoDB.
    Dynamodb { region: String, table: String },
    /// An instance of RDS.
    Rds { region: String, instance: String },
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
            Source::Mongodb(_) => "mongodb",
            Source::Redis(_) => "redis",
            Source::Etcd(_) => "etcd",
            Source::Dynamodb { .. } => "dynamodb",
            Source::Rds { .. } => "rds",
            Source::S3(_) => "s3",
        }
    }
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
}

/// PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// Where and as whom.
    pub server: Server,
    /// What is captured of it.
    pub method: PostgresMethod,
}

/// What is captured of a PostgreSQL server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PostgresMethod {
    /// Databases, as statements that make them again.
    #[default]
    Logical,
    /// The files of the whole cluster.
    Physical {
        /// What keeps its log on the server until it is captured.
        slot: SlotName,
    },
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

/// The infra repo's own backup: a bundle on every commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Infra {
    /// Where bundles go, each written directly.
    pub stores: Vec<StoreName>,
    /// Git URLs that are pushed to on every commit.
    pub mirrors: Vec<String>,
    /// What is kept of the bundles.
    pub keep: Retention,
    /// Retention of single stores.
    pub keep_in: BTreeMap<StoreName, Retention>,
    /// Whether what drifted of its bundles and mirrors is healed without being asked.
    pub self_heal: SelfHeal,
}

/// A machine that can be rebuilt.
#[derive(Clone, Debug, PartialEq)]
pub struct Vm {
    /// The template, from the infra repo's `templates/` or built in.
    pub template: String,
    /// The template's variables.
    pub vars: BTreeMap<String, toml::Value>,
    /// The provisioner's table, by its key.
    pub provisioner: (String, toml::Table),
    /// The Ansible playbook that configures it.
    pub ansible: Option<Ansible>,
}

/// How a machine is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ansible {
    /// Path in the infra repo.
    pub playbook: String,
    /// Hosts to limit the run to.
    pub limit: Option<String>,
}

/// An ordered plan that rebuilds machines and restores data.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// Its steps, as declared.
    pub steps: Vec<RecoveryStep>,
}

/// One step of a recovery.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoveryStep {
    /// What is done.
    pub action: RecoveryAction,
    /// Names of machines and backups that must be ready first.
    pub after: Vec<String>,
}

/// What one step of a recovery does.
#[derive(Clone, Debug, PartialEq)]
pub enum RecoveryAction {
    /// Rebuilds a machine.
    Rebuild(VmName),
    /// Restores a backup.
    Restore(BackupName),
    /// Runs a program on a machine.
    Run { command: Vec<String>, on: VmName },
}

/// A scheduled restore test.
#[derive(Clone, Debug, PartialEq)]
pub struct Drill {
    /// What is tried.
    pub subject: DrillSubject,
    /// When.
    pub schedule: Cadence,
    /// Which restore point: `latest`, `random`.
    pub at: DrillPoint,
    /// What must hold afterwards.
    pub checks: Vec<toml::Table>,
}

/// What a drill tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrillSubject {
    /// The restore of one backup.
    Backup(BackupName),
    /// A whole recovery.
    Recovery(RecoveryName),
}

/// The restore point that a drill uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrillPoint {
    /// The newest.
    #[default]
    Latest,
    /// Any restore point, any store in rotation.
    Random,
}

/// A backup that was declared once and whose artifacts may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// How old its artifacts must be, at least.
    pub delete_after: Duration,
}
