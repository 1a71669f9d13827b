//! Interrupted work: what an earlier pass of this controller began and never ended.

use super::{Action, draft::Draft, facts::Facts};

/// Removes what interrupted captures and copies left behind, unless their manifest shows that they were done.
pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    for left in &facts.inventory.interrupted {
        let (backup, store, artifact) = (&left.backup, &left.store, left.artifact);
        match facts.stored(backup, store) {
            Err(why) => draft.wait(format!("clean-up after {artifact} of {backup} in {store}"), why, None),
            Ok(stored)
                if stored.artifact(artifact).is_some() || stored.unreadable.contains_key(&artifact) => {}
            Ok(_) => {
                let (backup, store) = (backup.clone(), store.clone());
                draft.step(
                    Action::CleanUp { backup, store, artifact },
                    "interrupted before its manifest was written",
                );
            }
        }
    }
}
