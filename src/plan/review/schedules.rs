//! When captures are made, what objectives are promised, and how artifacts are checked.

use std::time::Duration;

use jiff::Timestamp;

use super::{Draft, Weight, words};
use crate::{
    artifact::Kind,
    spec::{Backup, Cadence, CatchUp, Policy, Schedule, Spec},
};

/// Slots that are shown of a new schedule.
const SLOTS_SHOWN: usize = 3;

pub fn review(after: &Spec, old: &Backup, new: &Backup, draft: &mut Draft) {
    let subject = ["backup", new.name.as_str()];
    if old.policy.name != new.policy.name {
        let change = draft.note(Weight::Note, "policy-changed", subject, "follows another policy");
        change.from(old.policy.name.as_str()).to(new.policy.name.as_str());
    }
    for kind in Kind::ALL {
        let (before, now) = (old.policy.schedules.get(&kind), new.policy.schedules.get(&kind));
        if before != now {
            schedule(subject, kind, (before, now), after, draft);
        }
    }
    objectives(subject, &old.policy, &new.policy, draft);
    conditions(subject, &old.policy, &new.policy, draft);
    checks(subject, &old.policy, &new.policy, draft);
}

fn schedule(
    subject: [&str; 2],
    kind: Kind,
    (before, now): (Option<&Cadence>, Option<&Cadence>),
    after: &Spec,
    draft: &mut Draft,
) {
    let at = draft.at;
    let (code, text) = match (before, now) {
        (None, _) => ("schedule-added", format!("begins to make {kind} artifacts")),
        (_, None) => ("schedule-removed", format!("makes no {kind} artifacts any more")),
        _ => ("schedule-changed", format!("when {kind} artifacts are made")),
    };
    let weight = match (before, now) {
        (Some(_), None) => Weight::Notice,
        (Some(old), Some(new)) if new.longest_gap() > old.longest_gap() => Weight::Notice,
        _ => Weight::Note,
    };
    let change = draft.note(weight, code, subject, text);
    change.before = before.map(ToString::to_string);
    change.after = now.map(ToString::to_string);
    if let Some(cadence) = now {
        let next = next(after, cadence, at);
        if !next.is_empty() {
            change.detail(format!("next: {}", next.join(", ")));
        }
    }
}

/// The next slots in the fleet's zone. The backup's share of the jitter comes on top.
fn next(spec: &Spec, cadence: &Cadence, at: Timestamp) -> Vec<String> {
    let zone = &spec.fleet.time_zone;
    let schedule = Schedule::without_jitter(cadence.clone(), zone.clone());
    let slots = std::iter::successors(schedule.next_after(at), |slot| schedule.next_after(*slot));
    let told = |slot: Timestamp| slot.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string();
    slots.take(SLOTS_SHOWN).map(told).collect()
}

fn objectives(subject: [&str; 2], old: &Policy, new: &Policy, draft: &mut Draft) {
    for (name, before, after) in [("RPO", old.rpo, new.rpo), ("RTO", old.rto, new.rto)] {
        let (weight, code, text) = match (before, after) {
            (before, after) if before == after => continue,
            (Some(_), None) => (Weight::Loss, "objective-removed", format!("the {name} is promised no more")),
            (Some(before), Some(after)) if after > before => {
                (Weight::Loss, "objective-loosened", format!("the {name} is loosened"))
            }
            (None, _) => (Weight::Note, "objective-added", format!("an {name} is promised")),
            _ => (Weight::Note, "objective-tightened", format!("the {name} is tightened")),
        };
        let change = draft.note(weight, code, subject, text);
        change.from(words::optional(before)).to(words::optional(after));
    }
    if old.grace != new.grace {
        let text = "how late a capture may end before the RPO counts as breached";
        let change = draft.note(Weight::Note, "grace-changed", subject, text);
        change.from(words::length(old.grace)).to(words::length(new.grace));
    }
}

fn conditions(subject: [&str; 2], old: &Policy, new: &Policy, draft: &mut Draft) {
    if old.window != new.window {
        let change = draft.note(Weight::Notice, "window-changed", subject, "when captures may begin");
        change.from(old.window.to_string()).to(new.window.to_string());
    }
    if old.jitter != new.jitter {
        let change = draft.note(Weight::Note, "jitter-changed", subject, "by how much slots are spread");
        change.from(words::length(old.jitter)).to(words::length(new.jitter));
    }
    if old.catch_up != new.catch_up {
        let told = |policy: &Policy| match policy.catch_up {
            CatchUp::Once => "run once",
            CatchUp::Skip => "left out",
        };
        let weight = if new.catch_up == CatchUp::Skip { Weight::Notice } else { Weight::Note };
        draft.note(weight, "catch-up-changed", subject, "missed runs").from(told(old)).to(told(new));
    }
}

fn checks(subject: [&str; 2], old: &Policy, new: &Policy, draft: &mut Draft) {
    let depths = [
        ("metadata", old.verify.metadata, new.verify.metadata),
        ("data", old.verify.data, new.verify.data),
        ("plaintext", old.verify.plaintext, new.verify.plaintext),
    ];
    for (depth, before, after) in depths.into_iter().filter(|(_, before, after)| before != after) {
        let seldomer = before.is_some_and(|before| after.is_none_or(|after| after > before));
        let weight = if seldomer { Weight::Notice } else { Weight::Note };
        let told = |every: Option<Duration>| {
            every.map_or_else(|| "never".to_owned(), |e| format!("every {}", words::length(e)))
        };
        let change = draft.note(weight, "checks-changed", subject, format!("checks of {depth}"));
        change.from(told(before)).to(told(after));
    }
}
