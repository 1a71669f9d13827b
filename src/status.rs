//! Status: what the command line, the web page, metrics and alerts all show, as plain data.
//!
//! A backup that never succeeded shows; a store that could not be seen makes nothing look healthy.

mod backup;
pub mod conditions;
mod contact;
pub mod drifted;
mod drill;
pub mod estimate;
pub mod explain;
pub mod measured;
mod provider;
mod recovery;
mod store;
pub mod words;

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

pub use backup::{BackupStatus, Declared, Objective, ObjectiveState, RestorePoint, StoredStatus};
pub use conditions::{Concern, Condition};
pub use contact::{Contact, Silence};
use drifted::Report;
pub use drill::{DrillStatus, LastDrill, Tried};
pub use provider::ProviderStatus;
pub use recovery::{MachineStatus, RecoveryStatus, RunStatus};
pub use store::{Cost, StoreState, StoreStatus};

use crate::{
    artifact::{approval::PlanHash, record::Signer},
    inventory::Inventory,
    plan::{Approved, CannotRun, Limits, Plan, Waiting, Withheld, facts::Facts, part::Part},
    spec::{
        Spec, Suspension,
        names::{BackupName, DrillName, FleetName, FolderName, RecoveryName, StoreName, VmName},
    },
};

/// The value of [`Status::format`].
pub const FORMAT: &str = "backstay.status/1";

/// How a fleet is at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// [`FORMAT`].
    pub format: &'static str,
    /// Whose status it is.
    pub fleet: FleetName,
    /// When it was so.
    pub at: Timestamp,
    /// Where the fleet's people tell the time; for texts only.
    #[serde(skip)]
    pub zone: TimeZone,
    /// What is in force, and what was found newest.
    pub revisions: Revisions,
    /// The gravest thing that is to be said.
    pub overall: Overall,
    /// Everything that somebody should know, gravest first; each once.
    pub conditions: Vec<Condition>,
    /// Every backup that is declared or found, the infra repo's as well.
    pub backups: BTreeMap<BackupName, BackupStatus>,
    /// What backups were called before, each with the name that it has now.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub moved: BTreeMap<BackupName, BackupName>,
    /// Every drill.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub drills: BTreeMap<DrillName, DrillStatus>,
    /// What drills that were cut off may have left with providers, by its name there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub copies_left: BTreeMap<String, DrillCopyLeft>,
    /// Every declared machine.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub machines: BTreeMap<VmName, MachineStatus>,
    /// Every declared recovery.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub recoveries: BTreeMap<RecoveryName, RecoveryStatus>,
    /// Every declared store.
    pub stores: BTreeMap<StoreName, StoreStatus>,
    /// How many steps the next pass would take.
    pub pending: usize,
    /// What is wanted and has to wait.
    pub waiting: Vec<Waiting>,
    /// What safety rules hold back.
    pub withheld: Vec<Withheld>,
    /// What they would hold back, had a person not approved it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approved: Vec<Approved>,
    /// Approvals in the infra repo that do not count on this host, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub void_approvals: BTreeMap<PlanHash, String>,
    /// What stands still now.
    pub suspensions: Vec<Suspension>,
    /// What is declared and can't be done here.
    pub cannot_run: Vec<CannotRun>,
    /// What differs from how Backstay left it, what becomes of it, and what was put back within the last 24 hours.
    pub drift: Report,
}

/// The revision in force and the newest one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Revisions {
    /// The commit whose declaration is in force.
    pub in_force: Option<String>,
    /// The newest commit of the branch.
    pub newest: Option<String>,
    /// Why the newest one is not in force.
    pub refused: Option<String>,
    /// Whether a newer one would have been seen.
    #[serde(skip_serializing_if = "Contact::is_unknown")]
    pub contact: Contact,
    /// Why the runbooks on their branch are not those of now, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpublished: Option<String>,
    /// The kind of that reason.
    pub hold: Option<Hold>,
    /// The newest commits that a rewritten branch has lost, while it is held for that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<LostCommit>,
    /// What must be signed: `head`, `tag` or `every`; `None`: nothing is verified.
    pub verify: Option<&'static str>,
    /// Who signed the revision in force, where that is verified and counts now.
    pub signer: Option<Signer>,
}

/// Why the newest revision is not in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// It has faults.
    Bad,
    /// It can't be read, or there is none.
    Unreadable,
    /// A signature is missing or does not count.
    Untrusted,
    /// The branch was rewritten.
    Rewritten,
}

/// A commit that a rewritten branch has lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostCommit {
    /// Its id.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
}

/// The gravest thing that is to be said of a fleet; the exit codes of section "command line" in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    /// Nothing.
    Healthy,
    /// Something can't run here, is overdue, damaged or unknown.
    Partial,
    /// A safety rule withheld something.
    Withheld,
    /// The newest revision is bad.
    BadRevision,
}

impl Status {
    /// How the fleet is at `now`: `plan` must be the checked plan of the same declaration, inventory and moment.
    pub fn of(
        spec: &Spec,
        inventory: &Inventory,
        limits: &Limits,
        plan: &Plan,
        revisions: Revisions,
        now: Timestamp,
    ) -> Self {
        let facts = Facts::gather(spec, inventory, limits, now);
        let status = Self {
            format: FORMAT,
            fleet: spec.fleet.name.clone(),
            at: now,
            zone: spec.fleet.time_zone.clone(),
            revisions,
            overall: Overall::Healthy,
            conditions: Vec::new(),
            backups: backup::all(&facts, plan),
            moved: moved(spec),
            drills: drill::all(&facts),
            copies_left: copies_left(spec, inventory),
            machines: recovery::machines(&facts),
            recoveries: recovery::recoveries(&facts),
            stores: store::all(&facts),
            pending: plan.steps.len(),
            waiting: plan.waiting.clone(),
            withheld: plan.withheld.clone(),
            approved: plan.approved.clone(),
            void_approvals: limits.void_approvals.clone(),
            suspensions: facts.suspensions.clone(),
            cannot_run: plan.cannot_run.clone(),
            drift: drifted::report(spec, inventory, plan, now),
        };
        status.concluded()
    }

    /// How everything is, where nothing but `part` has changed since `before` was so: this is how that part is.
    pub fn beside(mut self, before: &Status, part: &Part) -> Self {
        let others = before.backups.iter().filter(|(name, _)| !part.has(name));
        let others: Vec<_> = others.map(|(name, status)| (name.clone(), status.seen_at(self.at))).collect();
        self.backups.extend(others);
        // A part has no drills, machines and recoveries: they are as they were.
        self.drills.clone_from(&before.drills);
        let others = before.copies_left.iter().filter(|(_, left)| !part.has(&left.backup));
        self.copies_left.extend(others.map(|(name, left)| (name.clone(), left.clone())));
        self.machines.clone_from(&before.machines);
        self.recoveries.clone_from(&before.recoveries);
        self.concluded()
    }

    /// The same, once the runbooks were brought to their branch, or could not be for this reason.
    #[must_use]
    pub fn published(mut self, unpublished: Option<String>) -> Self {
        self.revisions.unpublished = unpublished;
        self.concluded()
    }

    fn concluded(mut self) -> Self {
        self.conditions = conditions::of(&self);
        self.overall = self.conditions.iter().map(|c| c.concern.overall()).max().unwrap_or(Overall::Healthy);
        self
    }
}

/// What a drill that was cut off may have left with its backup's provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrillCopyLeft {
    /// The drill.
    pub drill: DrillName,
    /// The backup.
    pub backup: BackupName,
    /// When it began.
    pub began: Timestamp,
}

fn copies_left(spec: &Spec, inventory: &Inventory) -> BTreeMap<String, DrillCopyLeft> {
    let left = inventory.interrupted.iter().filter_map(|left| Some((left, left.copy.as_deref()?)));
    let left = left.map(|(left, copy)| {
        let (drill, backup) = (copy.drill.clone(), spec.moved.backup(&left.backup));
        (copy.copy.name.clone(), DrillCopyLeft { drill, backup, began: left.artifact.time() })
    });
    left.collect()
}

/// Every former name, with the newest one.
fn moved(spec: &Spec) -> BTreeMap<BackupName, BackupName> {
    let former = spec.moved.iter().map(|(former, _)| former);
    former.filter_map(|name| Some((name.clone(), spec.moved.newest_name(name)?.clone()))).collect()
}

/// The folder of a backup, where it has another name than the backup.
fn stored_as(spec: &Spec, backup: &BackupName) -> Option<FolderName> {
    (spec.moved.folder_as_text(backup) != backup.as_str()).then(|| spec.moved.folder(backup))
}
