//! Backups that come, go or change, and what becomes of the artifacts of those that go.

use std::collections::BTreeSet;

use super::{Draft, Weight, retention, schedules, sources, words};
use crate::spec::{
    Backup, Infra, Spec,
    names::{BackupName, FolderName, StoreName},
};

pub fn review(before: &Spec, after: &Spec, draft: &mut Draft) {
    let renamed = renamed(before, after);
    for (name, backup) in &before.backups {
        let folder = before.moved.folder(name);
        let heir = after.backups.get(&after.moved.backup(&folder));
        match (heir, after.backups.get(name), renamed.iter().find(|(old, _)| *old == name)) {
            (Some(new), ..) => {
                if new.name != *name {
                    moved(backup, new, &folder, draft);
                }
                changed((before, backup), (after, new), draft);
            }
            (None, Some(new), _) => {
                elsewhere(new, &folder, after, draft);
                changed((before, backup), (after, new), draft);
            }
            (None, None, Some((_, new))) => rename(backup, new, &folder, draft),
            (None, None, None) => removed(backup, &folder, after, draft),
        }
    }
    for backup in after.backups.values().filter(|backup| is_new(before, after, backup)) {
        if !renamed.iter().any(|(_, new)| *new == &backup.name) {
            added(backup, draft);
        }
        let folder = after.moved.folder(&backup.name);
        if folder.as_str() != backup.name.as_str() {
            takes_over(backup, &folder, draft);
        }
    }
}

/// Whether a backup is neither declared before nor goes on with the artifacts of one that is.
fn is_new(before: &Spec, after: &Spec, backup: &Backup) -> bool {
    let had = before.moved.backup(&after.moved.folder(&backup.name));
    !before.backups.contains_key(&backup.name) && !before.backups.contains_key(&had)
}

/// Backups that go, and leave their artifacts, while exactly one with the same source comes.
fn renamed<'a>(before: &'a Spec, after: &'a Spec) -> Vec<(&'a BackupName, &'a BackupName)> {
    let goes_on = |name: &BackupName| {
        let heir = after.moved.backup(&before.moved.folder(name));
        after.backups.contains_key(name) || after.backups.contains_key(&heir)
    };
    let gone = before.backups.values().filter(|backup| !goes_on(&backup.name));
    let come: Vec<(&Backup, _)> = after
        .backups
        .values()
        .filter(|backup| is_new(before, after, backup))
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

/// A new backup goes on with artifacts that nothing declared: its retention counts for them now.
fn takes_over(backup: &Backup, folder: &FolderName, draft: &mut Draft) {
    let text = format!("goes on with what is stored as {}", words::quoted(folder.as_str()));
    let change = draft.note(Weight::Notice, "artifacts-taken-over", ["backup", backup.name.as_str()], text);
    change.detail("orphans are kept; from now on its own retention decides about them");
}

fn removed(backup: &Backup, folder: &FolderName, after: &Spec, draft: &mut Draft) {
    let subject = ["backup", backup.name.as_str()];
    let change = draft.note(Weight::Loss, "backup-removed", subject, "is no longer backed up");
    let stores = words::row(backup.stores.iter().map(|store| store.as_str()));
    let artifacts = match folder.as_str() == backup.name.as_str() {
        true => format!("its artifacts in {stores}"),
        false => format!("its artifacts in {stores}, stored as {},", words::quoted(folder.as_str())),
    };
    change.detail(format!("{artifacts} {}", orphaned(&after.moved.backup(folder), after)));
}

/// What becomes of artifacts that no declaration covers any more.
fn orphaned(name: &BackupName, after: &Spec) -> String {
    match after.orphans.get(name) {
        Some(orphan) => {
            let age = words::length(orphan.delete_after);
            format!("become orphans, and are deleted once older than {age}")
        }
        None => "become orphans: kept until an `[orphan.NAME]` lets them go".to_owned(),
    }
}

fn rename(old: &Backup, new: &BackupName, folder: &FolderName, draft: &mut Draft) {
    let change = draft.note(Weight::Notice, "backup-renamed", ["backup", old.name.as_str()], "is renamed");
    change.from(old.name.as_str()).to(new.as_str());
    change.detail("artifacts under the old name become orphans, kept and no longer renewed; the new name begins with a full");
    let further = match folder.as_str() == old.name.as_str() {
        true => "",
        false => ", beside the moves that there are",
    };
    change.detail(format!("to keep them: `[moved.{}]` with `to = \"{new}\"`{further}", old.name));
}

/// A rename that is declared.
fn moved(old: &Backup, new: &Backup, folder: &FolderName, draft: &mut Draft) {
    let text = "is renamed, and keeps its artifacts, its history and its schedule";
    let change = draft.note(Weight::Note, "backup-moved", ["backup", new.name.as_str()], text);
    change.from(old.name.as_str()).to(new.name.as_str());
    change.detail(format!("stays stored as {}", words::quoted(folder.as_str())));
}

/// A backup that keeps its name and loses its artifacts: a move was declared too late, or taken back.
fn elsewhere(backup: &Backup, left: &FolderName, after: &Spec, draft: &mut Draft) {
    let now = after.moved.folder(&backup.name);
    let text = "leaves the artifacts that it has";
    let change = draft.note(Weight::Loss, "artifacts-left", ["backup", backup.name.as_str()], text);
    change.from(format!("stored as {left}")).to(format!("stored as {now}"));
    let heir = after.moved.backup(left);
    let (is_orphan, left) = (heir.as_str() == left.as_str(), words::quoted(left.as_str()));
    change.detail(match is_orphan {
        true => {
            format!("what is stored as {left} is renewed no more; its artifacts {}", orphaned(&heir, after))
        }
        false => format!(
            "what is stored as {left} is renewed no more, and kept; it is found under the name {}",
            words::quoted(heir.as_str())
        ),
    });
    let now = words::quoted(now.as_str());
    change.detail(format!("goes on with what is stored as {now}, or else begins there with a full"));
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
    provider(subject, old, new, draft);
    let (from, to) = (old.source.kind(), new.source.kind());
    if from == to {
        let traits = (&sources::source(&old.source), &sources::source(&new.source));
        sources::compare(subject, (Weight::Notice, "source-changed"), traits, draft);
        return;
    }
    let change = draft.note(Weight::Notice, "source-changed", subject, "the kind of source");
    change.from(from).to(to).detail("captures from now on hold other data than those before");
}

/// What is left to the provider that hosts the source.
fn provider(subject: [&str; 2], old: &Backup, new: &Backup, draft: &mut Draft) {
    let point_in_time = |backup: &Backup| backup.source.protection().and_then(|it| it.point_in_time);
    if let (Some(before), Some(now)) = (point_in_time(old), point_in_time(new))
        && before.loses(now)
    {
        let text = "fewer seconds that the provider can bring back";
        draft
            .note(Weight::Loss, "point-in-time-lost", subject, text)
            .from(before.to_string())
            .to(now.to_string());
    }
    fewer_snapshots(subject, old, new, draft);
    if new.source.is_native() && !old.source.is_native() {
        let text = "artifacts from now on stay with the provider";
        let change = draft.note(Weight::Loss, "captures-native", subject, text);
        change.detail(
            "its stores get their manifests; whoever loses the account loses the data and these artifacts",
        );
    }
}

/// Snapshots that the provider made by itself as declared, and makes less often or keeps for less long from now on.
fn fewer_snapshots(subject: [&str; 2], old: &Backup, new: &Backup, draft: &mut Draft) {
    let declared = |backup: &Backup| backup.source.protection().and_then(|it| it.snapshots.clone());
    let (Some(before), Some(now)) = (declared(old), declared(new)) else { return };
    for lost in before.iter().filter(|before| !now.iter().any(|now| now.covers(before))) {
        let text = "snapshots that the provider makes no more, or keeps for less long";
        draft
            .note(Weight::Loss, "snapshots-lowered", subject, text)
            .from(words::plain(&lost.to_string()))
            .detail("snapshots that are there already stay for as long as they were to");
    }
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
