//! Rules for what providers keep by themselves.

use super::{Broken, Reach, World, approvals, deletions::Judgement};
use crate::{
    inventory::Observed,
    plan::{Action, Approved, Plan, StepId, action::Protect},
};

/// Seconds that can be brought back, and snapshots that are made by themselves, are given up by no commit alone, however that declares it: what is lost so is lost at once, and
/// nothing else has it. A person says so of exactly this change.
pub(super) const RULE: &str = "recoverable-seconds";

/// What the rule says of every change of a provider that a plan makes.
pub(super) fn judge(plan: &Plan, world: &World<'_>) -> Judgement {
    let mut judgement = Judgement::default();
    for step in &plan.steps {
        let Action::Protect(protect) = &step.action else { continue };
        if protect.loses() {
            judge_one(step.id, protect, world, &mut judgement);
        }
    }
    judgement
}

fn judge_one(step: StepId, protect: &Protect, world: &World<'_>, judgement: &mut Judgement) {
    let hash = approvals::hash_of_provider(protect, world);
    let why = match approvals::approval(world, hash, |_| false) {
        Ok(approval) => {
            return judgement.approved.push(Approved {
                backup: protect.backup.clone(),
                store: None,
                warrant: approval.warrant.clone(),
                until: approval.until,
            });
        }
        Err(why) => why,
    };
    let loss = match world.inventory.provided(&protect.backup) {
        Observed::Known(provided) => provided.settings.loss(&protect.to),
        Observed::Unknown(_) => None,
    };
    let mut reason = match protect.to.point_in_time {
        Some(to) => format!("point-in-time recovery would go from {} to {to}", protect.from),
        None => format!("its provider would be set to {}", protect.to),
    };
    if let Some(loss) = loss {
        reason.push_str(&format!(": {loss}"));
    }
    if let Some(why) = why {
        reason.push_str(&format!("; an approval does not count: {why}"));
    }
    judgement.broken.push(Broken {
        backup: protect.backup.clone(),
        store: None,
        rule: RULE,
        reason,
        reach: Reach::Provider(step, hash),
    });
}
