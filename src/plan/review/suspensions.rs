//! Suspensions: what is to stand still, and what is to go on.

use super::{Draft, Weight};
use crate::spec::{Spec, Suspension};

pub fn review(before: &Spec, after: &Spec, draft: &mut Draft) {
    for (name, new) in &after.suspensions {
        let subject = ["suspend", name.as_str()];
        match before.suspensions.get(name) {
            None => {
                draft.note(Weight::Notice, "suspended", subject, new.to_string()).to(told(new));
            }
            Some(old) if old != new => {
                let change = draft.note(Weight::Notice, "suspension-changed", subject, new.to_string());
                change.from(told(old)).to(told(new));
            }
            Some(_) => {}
        }
    }
    for (name, old) in before.suspensions.iter().filter(|(name, _)| !after.suspensions.contains_key(*name)) {
        let subject = ["suspend", name.as_str()];
        draft.note(Weight::Note, "resumed", subject, format!("no longer: {old}")).from(told(old));
    }
}

fn told(suspension: &Suspension) -> String {
    match suspension.from {
        Some(from) => format!("{}, from {from} until {}", suspension.scope, suspension.until),
        None => format!("{}, until {}", suspension.scope, suspension.until),
    }
}
