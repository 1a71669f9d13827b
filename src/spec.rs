//! The desired state of a fleet, valid by construction: what one revision of the infra repo declares.
//!
//! A [`Spec`] holds references to secrets, never secrets.

mod accounts;
pub mod approvals;
pub mod cron;
mod declared;
pub(crate) mod document;
mod drill_check;
mod endpoint;
mod lint;
mod lower;
mod machines;
pub mod moves;
pub mod names;
pub mod parse;
mod part;
pub mod places;
mod protection;
mod recovery;
pub mod retention;
mod runnable;
pub mod schedule;
pub mod schema;
mod self_heal;
pub(crate) mod single;
mod slot_name;
mod snapshots;
mod sources;
mod stand_ins;
mod stores;
pub(crate) mod suggest;
pub mod suspension;
pub mod traffic;
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
pub use accounts::Accounts;
pub use cron::Cron;
pub use declared::declared;
pub use drill_check::{CommandCheck, DrillCheck, Expected, HttpCheck, TcpCheck, Unmakeable};
pub use endpoint::{Endpoint, Misplaced, Scheme, WebAddress};
pub use machines::*;
pub use moves::Moves;
use names::*;
pub use parse::{Parsed, parse};
pub use part::Part;
pub use protection::*;
pub use recovery::*;
pub use runnable::{CannotRun, Resource};
pub use schedule::{Cadence, Schedule};
pub use self_heal::{Healable, SelfHeal, Undeclared};
pub use slot_name::SlotName;
pub use snapshots::*;
pub use sources::*;
pub use stand_ins::*;
pub use stores::*;
pub use suspension::Suspension;
pub use traffic::Traffic;
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
    /// What leads users to one site or another.
    pub traffic: BTreeMap<TrafficName, Traffic>,
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
            traffic: BTreeMap::new(),
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
    /// Who makes its server's accounts anew.
    pub accounts: Accounts,
}

impl Backup {
    /// What `store` keeps of this backup.
    pub fn retention(&self, store: &StoreName) -> &Retention {
        self.keep_in.get(store).unwrap_or(&self.policy.keep)
    }
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

/// A backup that was declared once and whose artifacts may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// How old its artifacts must be, at least.
    pub delete_after: Duration,
}
