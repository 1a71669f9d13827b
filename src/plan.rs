//! The difference between a [`crate::spec::Spec`] and an [`crate::inventory::Inventory`], as steps to take.
//!
//! Pure: the same values in, the same plan out. [`plan`] is what a pass does; [`manual`], [`restore`] and [`verify`]
//! build the same [`Plan`] for what a person asks. [`check`] judges every finished plan again before it is applied.

pub mod action;
mod backups;
pub mod by_hand;
pub mod cannot_run;
pub mod check;
mod copies;
mod draft;
pub mod drill;
pub mod due;
pub(crate) mod facts;
pub mod heal;
mod infra;
mod interrupted;
mod lineage;
mod logs;
mod machines;
pub mod manual;
mod orphans;
pub mod part;
mod provided;
pub mod readers;
pub mod recovery;
pub mod restore;
mod retention;
pub mod review;
mod schedules;
mod suspensions;
mod sweeps;
mod verification;
pub mod verify;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

pub use action::Action;
pub use due::next_due;

use crate::{
    artifact::{
        ArtifactId, Depth,
        approval::{PlanApproval, PlanHash, Warrant},
    },
    inventory::Inventory,
    spec::{
        Healable, Spec,
        names::{BackupName, FleetName, StoreName},
    },
};
use draft::Draft;
use facts::Facts;

/// What a pass must do at `now` so that the inventory comes to be what the declaration says.
///
/// Nothing in it may be applied before [`check::check`] has judged it.
pub fn plan(spec: &Spec, inventory: &Inventory, limits: &Limits, now: Timestamp) -> Plan {
    let facts = Facts::gather(spec, inventory, limits, now);
    let mut draft = Draft::default();
    infra::plan(&facts, &mut draft);
    interrupted::plan(&facts, &mut draft);
    schedules::plan(&facts, &mut draft);
    provided::plan(&facts, &mut draft);
    backups::plan(&facts, &mut draft);
    logs::plan(&facts, &mut draft);
    let expired = retention::expired(&facts);
    let lacking = copies::plan(&facts, &mut draft);
    verification::repair(&facts, &expired, &mut draft);
    retention::plan(&facts, &expired, &lacking, &mut draft);
    orphans::plan(&facts, &mut draft);
    verification::plan(&facts, &expired, &mut draft);
    drill::plan(&facts, &expired, &mut draft);
    machines::plan(&facts, &mut draft);
    sweeps::plan(&facts, &mut draft);
    suspensions::hold_back(&facts, &mut draft);
    heal::go_easy(&facts, &mut draft);
    draft.finish(&facts)
}

/// What bounds a plan besides the declaration: the host's word, and what this build can do.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// The commit that the declaration is read from.
    pub revision: String,
    /// The largest share of a backup's artifacts in a store that may go within 24 hours, in 0..=1; one always may.
    pub delete_share: f64,
    /// The deepest check that can be made here: [`Depth::Plaintext`] needs an identity.
    pub deepest_check: Depth,
    /// The public halves of the identities at hand (`age1…`). Copies for others than their original need one that can read
    /// the original.
    pub identities: Vec<String>,
    /// How many artifacts of a store a pass checks, by depth.
    pub checks: ChecksAPass,
    /// What a person wants healed now, whatever the declaration says of its self-heal.
    pub heal: BTreeSet<Healable>,
    /// What the host does not allow, besides what this build can't do (see [`cannot_run::by_this_build`]).
    pub refused: Vec<CannotRun>,
    /// The digest of what is declared (see [`crate::spec::declared`]): what approvals are bound to.
    pub declaration: String,
    /// Approvals by signed commits, besides those that the inventory's records tell.
    pub approvals: Vec<PlanApproval>,
    /// Approvals in the infra repo that do not count here, and why.
    pub void_approvals: BTreeMap<PlanHash, String>,
}

/// How many artifacts of a store a pass checks at most, so that thousands do not come due at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksAPass {
    /// Presence and sizes: cheap.
    pub metadata: usize,
    /// Digests: each artifact is read whole, by the store or by us.
    pub data: usize,
    /// Decryption: each artifact is read whole by us.
    pub plaintext: usize,
}

impl ChecksAPass {
    /// The number for one depth.
    pub fn at(self, depth: Depth) -> usize {
        match depth {
            Depth::Metadata => self.metadata,
            Depth::Data => self.data,
            Depth::Plaintext => self.plaintext,
        }
    }
}

impl Limits {
    /// The limits of a host that refuses nothing, for a declaration of `revision`.
    pub fn new(revision: impl Into<String>) -> Self {
        Self {
            revision: revision.into(),
            delete_share: 0.5,
            deepest_check: Depth::Data,
            identities: Vec::new(),
            checks: ChecksAPass { metadata: 500, data: 50, plaintext: 20 },
            heal: BTreeSet::new(),
            refused: Vec::new(),
            declaration: String::new(),
            approvals: Vec::new(),
            void_approvals: BTreeMap::new(),
        }
    }
}

/// What a pass will do, in an order that the `after` edges give; and what it will not do, with reasons.
///
/// Plain data: printed, saved, checked and executed, by parts that know nothing of each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Whose plan it is.
    pub fleet: FleetName,
    /// The commit that declares the desired state.
    pub revision: String,
    /// The moment that it was made for.
    pub at: Timestamp,
    /// Where the fleet's people tell the time; for texts only.
    #[serde(skip, default = "utc")]
    pub zone: TimeZone,
    /// What will be done. A step stands behind all that it waits for.
    pub steps: Vec<Step>,
    /// What is wanted and has to wait.
    pub waiting: Vec<Waiting>,
    /// Deletions that a safety rule holds back.
    pub withheld: Vec<Withheld>,
    /// What is declared and can't be done by this build or on this host.
    pub cannot_run: Vec<CannotRun>,
    /// Deletions among the steps that a safety rule would hold back, had a person not approved them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved: Vec<Approved>,
}

fn utc() -> TimeZone {
    TimeZone::UTC
}

/// The number of a step in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub u32);

/// One effect, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its number in the plan.
    pub id: StepId,
    /// What is done.
    pub action: Action,
    /// Why, for people: `slot 2026-11-20T01:00:00Z has no full`.
    pub reason: String,
    /// Steps that must have succeeded before.
    pub after: BTreeSet<StepId>,
}

/// Something wanted that has to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// The backup that it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupName>,
    /// What is wanted, such as `full of agama`.
    pub what: String,
    /// What it waits for.
    pub on: String,
    /// When it is worth looking again, if that is known.
    pub until: Option<Timestamp>,
}

/// Deletions that a safety rule holds back, or the change of what a provider keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withheld {
    /// The backup whose artifacts stay, or of whose source the provider keeps what it does.
    pub backup: BackupName,
    /// The store in which artifacts stay; none where it is about a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreName>,
    /// Stable kebab-case name of the rule, such as `newest-good`.
    pub rule: String,
    /// Why, for people.
    pub reason: String,
    /// What a person would have to approve; absent where they could not be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanHash>,
    /// Whether a person's approval of that would let them go: no rule holds them back that nobody may overrule.
    #[serde(default)]
    pub approvable: bool,
    /// What would go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<ArtifactId>,
}

impl Withheld {
    /// What `rule` holds back without anybody being able to tell what exactly, so that nobody can approve it.
    pub fn by_rule(
        backup: BackupName,
        store: impl Into<Option<StoreName>>,
        rule: &str,
        reason: impl Into<String>,
    ) -> Self {
        let (store, rule, reason) = (store.into(), rule.to_owned(), reason.into());
        Self { backup, store, rule, reason, plan: None, approvable: false, artifacts: Vec::new() }
    }

    /// What a person may approve, if they may.
    pub fn to_approve(&self) -> Option<PlanHash> {
        self.plan.filter(|_| self.approvable)
    }
}

/// What a safety rule would hold back, had a person not approved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approved {
    /// The backup whose artifacts go, or of whose source the provider keeps less.
    pub backup: BackupName,
    /// The store in which artifacts go; none where it is about a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreName>,
    /// By whose word.
    pub warrant: Warrant,
    /// The last moment at which the approval counts.
    pub until: Timestamp,
}

/// What a safety rule is about, for people: `deletions of shop in vault`.
pub fn withheld_deed(backup: &BackupName, store: Option<&StoreName>) -> String {
    match store {
        Some(store) => format!("deletions of {backup} in {store}"),
        None => format!("changes of what the provider of {backup} keeps"),
    }
}

/// Something declared that can't be done by this build or on this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CannotRun {
    /// The resource as it is declared, such as `backup.orders`.
    pub resource: String,
    /// Why, and what to do about it.
    pub why: String,
}
