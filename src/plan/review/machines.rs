//! Machines, recoveries, traffic and drills.

use std::{borrow::Borrow, collections::BTreeMap, fmt::Debug};

use super::{Draft, Weight};
use crate::spec::Spec;

pub fn review(before: &Spec, after: &Spec, draft: &mut Draft) {
    compare("vm", &before.vms, &after.vms, draft);
    compare("recovery", &before.recoveries, &after.recoveries, draft);
    compare("traffic", &before.traffic, &after.traffic, draft);
    compare("drill", &before.drills, &after.drills, draft);
}

fn compare<K: Ord + Borrow<str>, V: Debug>(
    section: &'static str,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    draft: &mut Draft,
) {
    for (name, old) in before {
        let subject = [section, name.borrow()];
        match after.get::<K>(name) {
            None => {
                let text = format!("this {section} is no longer declared");
                draft.note(Weight::Notice, "recovery-part-removed", subject, text);
            }
            // These hold free-form tables, which have no better equality.
            Some(new) if format!("{old:?}") != format!("{new:?}") => {
                draft.note(Weight::Note, "recovery-part-changed", subject, format!("this {section} changes"));
            }
            Some(_) => {}
        }
    }
    for name in after.keys().filter(|name| !before.contains_key::<K>(name)) {
        draft.note(Weight::Note, "recovery-part-added", [section, name.borrow()], format!("a new {section}"));
    }
}
