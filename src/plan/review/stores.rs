//! Stores that come, go or move, and what that means for copies.

use super::{Draft, Weight, fleet, sources, words};
use crate::spec::{Spec, Store, names::StoreName};

pub fn review(before: &Spec, after: &Spec, draft: &mut Draft) {
    for (name, store) in &before.stores {
        match after.stores.get(name) {
            None => removed(name, before, draft),
            Some(new) => changed(store, new, draft),
        }
    }
    for (name, store) in after.stores.iter().filter(|(name, _)| !before.stores.contains_key(*name)) {
        let text = format!("a new store of the kind `{}`", store.place.kind());
        draft.note(Weight::Note, "store-added", ["store", name.as_str()], text);
    }
}

fn removed(name: &StoreName, before: &Spec, draft: &mut Draft) {
    let users = before.backups.values().filter(|backup| backup.stores.contains(name));
    let users = words::row(users.map(|backup| backup.name.as_str()));
    let change = draft.note(Weight::Loss, "store-removed", ["store", name.as_str()], "is no longer declared");
    change.detail("what it holds stays there, and is neither seen, checked, renewed nor deleted any more");
    if !users.is_empty() {
        change.detail(format!("it held artifacts of {users}"));
    }
}

fn changed(old: &Store, new: &Store, draft: &mut Draft) {
    let subject = ["store", old.name.as_str()];
    let (from, to) = (old.place.kind(), new.place.kind());
    if from != to {
        let change = draft.note(Weight::Loss, "store-moved", subject, "the kind of store");
        change.from(from).to(to).detail(MOVED);
    } else {
        let (mut old_place, mut new_place) = (sources::place(&old.place), sources::place(&new.place));
        let moved = |key: &str| !matches!(key, "host_key" | "user" | "port");
        let moves = old_place.values.iter().filter(|(key, _)| moved(key)).collect::<Vec<_>>()
            != new_place.values.iter().filter(|(key, _)| moved(key)).collect::<Vec<_>>();
        // One reason is enough: the details say what it means.
        if moves {
            let change = draft.note(Weight::Loss, "store-moved", subject, "the place of the store");
            let told = |traits: &sources::Traits| {
                let all = traits
                    .values
                    .iter()
                    .filter(|(key, value)| moved(key) && value != "none" && !value.is_empty());
                all.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
            };
            change.from(told(&old_place)).to(told(&new_place)).detail(MOVED);
            old_place.values.retain(|(key, _)| !moved(key));
            new_place.values.retain(|(key, _)| !moved(key));
        }
        sources::compare(subject, (Weight::Notice, "store-access-changed"), (&old_place, &new_place), draft);
    }
    if old.location != new.location {
        let told = |location: &Option<String>| {
            location.as_deref().map_or_else(|| "unknown".to_owned(), words::plain)
        };
        let change =
            draft.note(Weight::Notice, "store-location-changed", subject, "where it is said to stand");
        change.from(told(&old.location)).to(told(&new.location));
    }
    if old.immutable != new.immutable {
        let weaker = old.immutable > new.immutable;
        let weight = if weaker { Weight::Loss } else { Weight::Notice };
        let change =
            draft.note(weight, "store-lock-changed", subject, "how long an artifact cannot be deleted");
        change.from(words::optional(old.immutable)).to(words::optional(new.immutable));
    }
    if old.capacity != new.capacity || old.budget != new.budget {
        draft.note(Weight::Note, "store-limits-changed", subject, "the capacity or the budget that alerts");
    }
    match (&old.recipients, &new.recipients) {
        (Some(old), Some(new)) => fleet::recipients(subject, (old, new), draft),
        (None, Some(new)) => fleet::recipients(subject, (&[], new), draft),
        (Some(_), None) => {
            draft
                .note(
                    Weight::Notice,
                    "recipients-inherited",
                    subject,
                    "has no recipients of its own any more",
                )
                .detail("what is stored there from now on is for the fleet's");
        }
        (None, None) => {}
    }
}

const MOVED: &str = "artifacts at the old place are not seen any more; the new place begins empty, unless they were moved there";
