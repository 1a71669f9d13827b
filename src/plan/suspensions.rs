//! Suspensions: what other planners would begin, and must stand still.

use super::{Action, draft::Draft, facts::Facts};
use crate::spec::{Suspension, names::StoreName};

/// Takes out what is suspended, and what waits for it; each waits for its suspension's end.
pub(super) fn hold_back(facts: &Facts<'_>, draft: &mut Draft) {
    for (action, suspension) in draft.take_out(|action| holding(facts, action)) {
        let (what, on, until) = (action.to_string(), suspension.to_string(), Some(suspension.until));
        match action.backup() {
            Some(backup) => draft.wait_of(backup, what, on, until),
            None => draft.wait(what, on, until),
        }
    }
}

/// The suspension that holds an action back.
fn holding<'a>(facts: &'a Facts<'_>, action: &Action) -> Option<&'a Suspension> {
    let backup = action.backup();
    let about = |suspension: &&Suspension| {
        backup.is_some_and(|backup| suspension.covers(backup))
            || action.stores().into_iter().any(|store| suspension.covers_store(store))
    };
    facts.suspensions.iter().find(about)
}

/// Why a store takes nothing, if it is suspended.
pub(super) fn of_store(facts: &Facts<'_>, store: &StoreName) -> Option<String> {
    let suspension = facts.suspensions.iter().find(|suspension| suspension.covers_store(store))?;
    Some(format!("{suspension} (until {})", suspension.until))
}
