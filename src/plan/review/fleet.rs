//! The fleet itself: its name, its zone, and who can read its artifacts.

use std::collections::BTreeSet;

use super::{Draft, Weight, words};
use crate::spec::{Recipient, Spec};

const FLEET: [&str; 2] = ["fleet", ""];

pub fn review(before: &Spec, after: &Spec, draft: &mut Draft) {
    let (old, new) = (&before.fleet, &after.fleet);
    if old.name != new.name {
        let change = draft.note(Weight::Loss, "fleet-renamed", FLEET, "the fleet's name");
        change.from(old.name.as_str()).to(new.name.as_str());
        change.detail("artifacts lie under the fleet's name: none of those that exist are seen any more, all begin anew");
    }
    if old.time_zone != new.time_zone {
        let name = |zone: &jiff::tz::TimeZone| zone.iana_name().unwrap_or("fixed").to_owned();
        let change =
            draft.note(Weight::Notice, "zone-changed", FLEET, "the time zone of schedules and windows");
        change.from(name(&old.time_zone)).to(name(&new.time_zone));
    }
    recipients(FLEET, (&old.recipients, &new.recipients), draft);
}

/// Notes whose keys come and go.
pub fn recipients(subject: [&str; 2], (before, after): (&[Recipient], &[Recipient]), draft: &mut Draft) {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    for gone in old.difference(&new) {
        let text = format!("recipient {} is dropped", words::quoted(gone.as_str()));
        let detail = "whoever has only this identity cannot read what is captured from now on; what exists stays readable";
        draft.note(Weight::Loss, "recipient-dropped", subject, text).detail(detail);
    }
    for added in new.difference(&old) {
        let text = format!("recipient {} is added", words::quoted(added.as_str()));
        let detail = "whoever has this identity can read everything that is captured from now on";
        draft.note(Weight::Notice, "recipient-added", subject, text).detail(detail);
    }
}
