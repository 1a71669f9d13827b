//! Backups that come, go or change, and what becomes of the artifacts of those that go.

use std::collections::BTreeSet;

use super::{Draft, Weight, retention, schedules, sources, words};
use crate::spec::{
    Backup, Infra, Spec,
    names::{BackupName, StoreName},
};

pub fn review(before: &Spec, after: &Spec, draft: &mut Draft) {
    let renamed = renamed(before, after);
    for (name, backup) in &before.backups {
        match (after.backups.get(name), renamed.iter().find(|(old, _)| *old == name)) {
            (Some(new), _) => changed((before, backup), (after, new), draft),
            (None, Some((_, new))) => rename(backup, new, draft),
            (None, None) => removed(backup, after, draft),
        }
    }
    for backup in after.backups.values().filter(|backup| !before.backups.contains_key(&backup.name)) {
        if !renamed.iter().any(|(_, new)| *new == &backup.name) {
            added(backup, draft);
        }
    }
}

/// Backups that go while exactly one with the same source comes.
fn renamed<'a>(before: &'a Spec, after: &'a Spec) -> Vec<(&'a BackupName, &'a BackupName)> {
    let gone = before.backups.values().filter(|backup| !after.backups.contains_key(&backup.name));
    let come: Vec<(&Backup, _)> = after
        .backups
        .values()
        .filter(|backup| !before.backups.contains_key(&backup.name))
        .map(|backup| (backup, (backup.source.kind(), sources::source(&backup.source).values)))
        .collect();
    gone.filter_map(|old| {
        let source = (old.source.kind(), sources::source(&old.source).values);
        let mut same = come.iter().filter(|(_, other)| *other == source);
        let (only, _) = same.next()?;
        same.next().is_none().then_some((&old.name, &only.name))
    })
    .collect()
}

fn added(backup: &Backup, draft: &mut Draft) {
    let stores = words::row(backup.stores.iter().map(|store| store.as_str()));
    let text = format!("a new backup of `{}`, into {stores}", backup.source.kind());
    let schedules: Vec<String> =
        backup.policy.schedules.iter().rev().map(|(kind, cadence)| format!("{kind} {cadence}")).collect();
    let change = draft.note(Weight::Note, "backup-added", ["backup", backup.name.as_str()], text);
    if !schedules.is_empty() {
        change.detail(format!("makes {}", schedules.join(", ")));
    }
    change.detail(format!("keeps {}", words::retention(&backup.policy.keep)));
}

fn removed(backup: &Backup, after: &Spec, draft: &mut Draft) {
    let subject = ["backup", backup.name.as_str()];
    let change = draft.note(Weight::Loss, "backup-removed", subject, "is no longer backed up");
    let stores = words::row(backup.stores.iter().map(|store| store.as_str()));
    change.detail(match after.orphans.get(&backup.name) {
        Some(orphan) => {
            format!(
                "its artifacts in {stores} become orphans, and are deleted once older than {}",
                words::length(orphan.delete_after)
            )
        }
        None => {
            format!("its artifacts in {stores} become orphans: kept until an `[orphan.NAME]` lets them go")
        }
    });
}

fn rename(old: &Backup, new: &BackupName, draft: &mut Draft) {
    let change = draft.note(Weight::Notice, "backup-renamed", ["backup", old.name.as_str()], "is renamed");
    change.from(old.name.as_str()).to(new.as_str());
    change.detail("artifacts under the old name become orphans, kept and no longer renewed; the new name begins with a full");
}

fn changed((before, old): (&Spec, &Backup), (after, new): (&Spec, &Backup), draft: &mut Draft) {
    let subject = ["backup", new.name.as_str()];
    source(subject, old, new, draft);
    schedules::review(after, old, new, draft);
    stores(subject, &old.stores, &new.stores, after, draft);
    apart(subject, (before, &old.stores), (after, &new.stores), draft);
    retention::review((before, old), (after, new), draft);
    if old.contact != new.contact {
        let told =
            |backup: &Backup| backup.contact.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        draft.note(Weight::Note, "contact-changed", subject, "whom to call").from(told(old)).to(told(new));
    }
    if old.description != new.description {
        draft.note(Weight::Note, "description-changed", subject, "the description");
    }
}

fn source(subject: [&str; 2], old: &Backup, new: &Backup, draft: &mut Draft) {
    let (from, to) = (old.source.kind(), new.source.kind());
    if from == to {
        let traits = (&sources::source(&old.source), &sources::source(&new.source));
        sources::compare(subject, (Weight::Notice, "source-changed"), traits, draft);
        return;
    }
    let change = draft.note(Weight::Notice, "source-changed", subject, "the kind of source");
    change.from(from).to(to).detail("captures from now on hold other data than those before");
}

/// Where artifacts go.
fn stores(subject: [&str; 2], old: &[StoreName], new: &[StoreName], after: &Spec, draft: &mut Draft) {
    for gone in old.iter().filter(|store| !new.contains(store)) {
        let text = format!("leaves store {}", words::quoted(gone.as_str()));
        let change = draft.note(Weight::Loss, "copy-dropped", subject, text);
        change.detail("its artifacts there are kept, and neither renewed nor expired any more");
        change.detail(format!("artifacts from now on are in {}", places(new, after)));
    }
    for come in new.iter().filter(|store| !old.contains(store)) {
        let text = format!("is stored in {} as well", words::quoted(come.as_str()));
        draft.note(Weight::Note, "copy-added", subject, text);
    }
    if let (Some(before), Some(now)) = (old.first(), new.first())
        && before != now
        && new.contains(before)
    {
        let change =
            draft.note(Weight::Note, "first-store-changed", subject, "the store that takes the capture");
        change.from(before.as_str()).to(now.as_str());
    }
}

/// Notes copies that no longer stand in two places: three copies, two of them apart.
fn apart(
    subject: [&str; 2],
    (before, old): (&Spec, &[StoreName]),
    (after, new): (&Spec, &[StoreName]),
    draft: &mut Draft,
) {
    if locations(old, before).len() > 1 && locations(new, after).len() < 2 {
        let change = draft.note(
            Weight::Loss,
            "copies-together",
            subject,
            "its artifacts no longer stand in two places",
        );
        change.from(places(old, before)).to(places(new, after));
    }
}

fn locations<'a>(stores: &[StoreName], spec: &'a Spec) -> BTreeSet<&'a str> {
    let known = stores.iter().filter_map(|store| spec.stores.get(store));
    known.filter_map(|store| store.location.as_deref()).collect()
}

/// `2 stores in 1 location`.
fn places(stores: &[StoreName], spec: &Spec) -> String {
    let locations = locations(stores, spec);
    let stores = match stores.len() {
        1 => "1 store".to_owned(),
        n => format!("{n} stores"),
    };
    match locations.len() {
        0 => format!("{stores}, their locations unknown"),
        1 => format!("{stores} in 1 location"),
        n => format!("{stores} in {n} locations"),
    }
}

/// The infra repo's own backup.
pub fn infra(before: &Spec, after: &Spec, draft: &mut Draft) {
    let subject = ["infra", ""];
    match (&before.infra, &after.infra) {
        (None, None) => {}
        (None, Some(new)) => {
            let stores = words::row(new.stores.iter().map(|store| store.as_str()));
            draft.note(
                Weight::Note,
                "infra-added",
                subject,
                format!("this repo is backed up on every commit, into {stores}"),
            );
        }
        (Some(_), None) => {
            draft.note(Weight::Loss, "infra-removed", subject, "this repo itself is no longer backed up");
        }
        (Some(old), Some(new)) => {
            stores(subject, &old.stores, &new.stores, after, draft);
            apart(subject, (before, &old.stores), (after, &new.stores), draft);
            mirrors(subject, old, new, draft);
            retention::bundles(&old.keep, &new.keep, draft);
            if old.keep_in != new.keep_in {
                draft.note(
                    Weight::Notice,
                    "retention-changed",
                    subject,
                    "what single stores keep of the bundles",
                );
            }
        }
    }
}

fn mirrors(subject: [&str; 2], old: &Infra, new: &Infra, draft: &mut Draft) {
    for gone in old.mirrors.iter().filter(|url| !new.mirrors.contains(url)) {
        let text = format!("is no longer pushed to {}", words::quoted(gone));
        draft.note(Weight::Loss, "mirror-dropped", subject, text);
    }
    for come in new.mirrors.iter().filter(|url| !old.mirrors.contains(url)) {
        draft.note(
            Weight::Notice,
            "mirror-added",
            subject,
            format!("is pushed to {} as well", words::quoted(come)),
        );
    }
}

/// Orphans that may go.
pub fn orphans(before: &Spec, after: &Spec, draft: &mut Draft) {
    for (name, orphan) in &after.orphans {
        let subject = ["orphan", name.as_str()];
        let age = words::length(orphan.delete_after);
        match before.orphans.get(name) {
            None => {
                let text = format!(
                    "all artifacts of {} are deleted once older than {age}",
                    words::quoted(name.as_str())
                );
                draft.note(Weight::Loss, "orphan-deleted", subject, text);
            }
            Some(old) if old != orphan => {
                let weight = if orphan.delete_after < old.delete_after { Weight::Loss } else { Weight::Note };
                let change = draft.note(weight, "orphan-changed", subject, "when its artifacts are deleted");
                change.from(words::length(old.delete_after)).to(age);
            }
            Some(_) => {}
        }
    }
    for name in before.orphans.keys().filter(|name| !after.orphans.contains_key(*name)) {
        let text = "is an orphan no more: what is left of its artifacts stays";
        draft.note(Weight::Note, "orphan-kept", ["orphan", name.as_str()], text);
    }
}
