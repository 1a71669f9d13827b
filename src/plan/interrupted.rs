//! Interrupted work: what an earlier pass of this controller began and never ended.

use super::{Action, draft::Draft, facts::Facts};
use crate::{
    inventory::{Interrupted, Work},
    spec::names::BackupName,
};

/// Removes what interrupted work left behind, and settles what its manifest shows to be done.
pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    for left in &facts.inventory.interrupted {
        let backup = facts.spec.moved.backup(&left.backup);
        let (store, artifact) = (left.store.clone(), left.artifact);
        match facts.stored(&backup, &store) {
            Err(why) => out_of_reach(left, backup, why, draft),
            Ok(stored) if stored.unreadable.contains_key(&artifact) => {
                let on = "its manifest can't be trusted: it is to be repaired first";
                draft.wait_of(&backup, what(left, &backup), on, None);
            }
            Ok(stored) if stored.artifact(artifact).is_some() => {
                let action = Action::Settle { backup, store, artifact };
                draft.step(action, "interrupted after its manifest was written: it is done");
            }
            Ok(_) => {
                let reason = match left.work {
                    Work::Capture | Work::Copy => "interrupted before its manifest was written",
                    Work::Reading => "interrupted while it read",
                };
                draft.step(Action::CleanUp { backup, store, artifact }, reason);
            }
        }
    }
}

/// What lies in a store waits for it. What a drill had a provider make lies elsewhere, and costs money until it goes; all that the
/// drill left in the store is its lease.
fn out_of_reach(left: &Interrupted, backup: BackupName, why: String, draft: &mut Draft) {
    let copy = left.copy.as_deref().filter(|_| left.work == Work::Reading);
    let Some(copy) = copy else { return draft.wait_of(&backup, what(left, &backup), why, None) };
    let (drill, store, artifact) = (copy.drill.clone(), left.store.clone(), left.artifact);
    let reason =
        format!("interrupted, and its provider needs no store; its lease there lapses by itself: {why}");
    draft.step(Action::DeleteDrillCopy { drill, backup, store, artifact }, reason);
}

fn what(left: &Interrupted, backup: &BackupName) -> String {
    format!("clean-up after {} of {backup} in {}", left.artifact, left.store)
}
