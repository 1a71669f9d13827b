//! Interrupted work: what an earlier pass of this controller began and never ended.

use super::{Action, draft::Draft, facts::Facts};
use crate::inventory::Work;

/// Removes what interrupted work left behind, and settles what its manifest shows to be done.
pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    for left in &facts.inventory.interrupted {
        let backup = facts.spec.moved.backup(&left.backup);
        let (store, artifact) = (left.store.clone(), left.artifact);
        let what = format!("clean-up after {artifact} of {backup} in {store}");
        match facts.stored(&backup, &store) {
            Err(why) => draft.wait_of(&backup, what, why, None),
            Ok(stored) if stored.unreadable.contains_key(&artifact) => {
                draft.wait_of(
                    &backup,
                    what,
                    "its manifest can't be trusted: it is to be repaired first",
                    None,
                );
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
