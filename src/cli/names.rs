//! Names that a person got wrong: what was probably meant, or else what there is.

use anyhow::anyhow;

use crate::{
    spec::{
        Spec,
        names::{BackupName, StoreName},
        suggest::closest,
    },
    status::Status,
};

/// The most names that are listed.
const MOST_LISTED: usize = 12;

/// There is no such backup: neither declared nor found in a store that could be seen.
pub(super) fn no_backup(name: &BackupName, status: &Status) -> anyhow::Error {
    if let Some(now) = status.moved.get(name) {
        return anyhow!("backup {name} was renamed; its artifacts are those of {now}: use that name");
    }
    let hint = hint(name.as_str(), status.backups.keys().map(BackupName::as_str));
    anyhow!("no backup {name} is declared, and no store that can be seen holds one; {hint}")
}

/// There is no such store.
pub(super) fn no_store(name: &StoreName, spec: &Spec) -> anyhow::Error {
    let hint = hint(name.as_str(), spec.stores.keys().map(StoreName::as_str));
    anyhow!("the revision in force declares no store {name}; {hint}")
}

/// What was probably meant, or else what there is.
pub(super) fn hint<'a>(given: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(meant) = closest(given, known.clone()) {
        return format!("did you mean `{meant}`?");
    }
    let listed: Vec<&str> = known.clone().take(MOST_LISTED).collect();
    let more = known.count() - listed.len();
    match (listed.as_slice(), more) {
        ([], _) => "there is none".to_owned(),
        (_, 0) => format!("there is {}", listed.join(", ")),
        _ => format!("there is {} and {more} more", listed.join(", ")),
    }
}
