//! What of a rule a person may overrule, and what exactly they approve by it.

use sha2::{Digest, Sha256};

use super::World;
use crate::{
    artifact::{
        ArtifactId,
        approval::{PlanApproval, PlanHash},
    },
    inventory::{Condition, StoredArtifact, StoredBackup},
    plan::action::Protect,
    spec::names::{BackupName, StoreName},
};

/// The first line of what the [`PlanHash`] of deletions is of.
const FORMAT: &str = "backstay.deletions/1";

/// The same of what a provider is to keep.
const PROVIDER_FORMAT: &str = "backstay.provider/1";

/// The rules that only keep too much from going at once, or by a commit alone. All others keep what is needed, or what nobody can tell of: no
/// word makes up for that.
const APPROVABLE: [&str; 2] = ["delete-share", super::providers::RULE];

/// Whether a person may overrule a rule.
pub fn may_approve(rule: &str) -> bool {
    APPROVABLE.contains(&rule)
}

/// Deletions of one backup in one store.
pub(super) struct Deletions<'a> {
    pub(super) backup: &'a BackupName,
    pub(super) store: &'a StoreName,
    pub(super) stored: &'a StoredBackup,
    /// What goes, in order.
    pub(super) gone: &'a [ArtifactId],
}

impl Deletions<'_> {
    /// The name by which they are approved: of a text with a line for the fleet, for what is declared, for the backup and the
    /// store, for each artifact that goes, and for each that is there. The same whenever these are, and whatever else is.
    pub(super) fn hash(&self, world: &World<'_>) -> PlanHash {
        let mut digest = Sha256::new();
        let mut line = |line: String| digest.update(format!("{line}\n"));
        line(FORMAT.to_owned());
        line(format!("fleet {}", world.spec.fleet.name));
        line(format!("declaration {}", world.limits.declaration));
        line(format!("backup {}", self.backup));
        line(format!("store {}", self.store));
        self.gone.iter().for_each(|id| line(format!("delete {id}")));
        let mut there: Vec<&StoredArtifact> = self.stored.artifacts.iter().collect();
        there.sort_unstable_by_key(|artifact| artifact.id);
        there.iter().for_each(|artifact| line(described(artifact)));
        PlanHash::new(digest.finalize().into())
    }

    /// The approval that covers them now, or else why one of them does not: what is to be done is exactly what was approved,
    /// or what is left of it since it was begun.
    pub(super) fn approval<'w>(&self, world: &World<'w>) -> Result<&'w PlanApproval, Option<String>> {
        approval(world, self.hash(world), |plan| self.is_left_of(plan))
    }

    /// Whether an approved plan was begun, and nothing goes that is not of it.
    fn is_left_of(&self, plan: PlanHash) -> bool {
        let let_go = self.stored.let_go.get(&plan);
        let_go.is_some_and(|let_go| self.gone.iter().all(|id| let_go.contains(id)))
    }
}

/// The name by which a change of what a provider keeps is approved: of a text with a line for the fleet, for what is declared, for
/// the backup, and for what its provider keeps before and after: how far back any second can be brought, and, where that changes, which
/// snapshots it makes.
pub(super) fn hash_of_provider(protect: &Protect, world: &World<'_>) -> PlanHash {
    let mut digest = Sha256::new();
    let mut line = |line: String| digest.update(format!("{line}\n"));
    line(PROVIDER_FORMAT.to_owned());
    line(format!("fleet {}", world.spec.fleet.name));
    line(format!("declaration {}", world.limits.declaration));
    line(format!("backup {}", protect.backup));
    // What is not changed is no part of it: it may be set in the same pass, by a step of its own.
    if protect.to.point_in_time.is_some() {
        line(format!("from {}", protect.from));
    }
    protect.snapshots_from.iter().flatten().for_each(|rule| line(format!("from {rule}")));
    line(format!("to {}", protect.to));
    PlanHash::new(digest.finalize().into())
}

/// The approval that covers a plan now, itself or as what is left of another; or else why one of them does not.
pub(super) fn approval<'w>(
    world: &World<'w>,
    hash: PlanHash,
    is_left_of: impl Fn(PlanHash) -> bool,
) -> Result<&'w PlanApproval, Option<String>> {
    let mut why = world.limits.void_approvals.get(&hash).cloned();
    let recorded = world.inventory.plan_approvals();
    for approval in recorded.chain(&world.limits.approvals) {
        if approval.warrant.plan != hash && !is_left_of(approval.warrant.plan) {
            continue;
        }
        match approval.fault(&world.limits.declaration, world.now) {
            None => return Ok(approval),
            Some(fault) => why = Some(fault),
        }
    }
    Err(why)
}

/// What an approval rests on of an artifact. When it was checked last makes no difference, nor why it is damaged.
fn described(artifact: &StoredArtifact) -> String {
    let condition = match artifact.condition {
        Condition::Good => "good",
        Condition::Damaged(_) => "damaged",
        Condition::Unknown(_) => "unknown",
    };
    format!("holds {} {} {} {condition}", artifact.id, artifact.kind, artifact.newest)
}
