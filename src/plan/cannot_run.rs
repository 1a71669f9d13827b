//! What is declared and this build can't do.

use super::{CannotRun, Limits};
use crate::{
    artifact::Kind,
    inventory::{Inventory, Observed},
    spec::{
        Backup, Spec,
        names::{BackupName, StoreName},
    },
};

/// Everything that `spec` declares and this build has no driver for. It never keeps the rest from running.
pub fn by_this_build(spec: &Spec) -> Vec<CannotRun> {
    let cannot = spec.cannot_run().into_iter().map(|it| {
        let [section, name] = it.resource.key();
        let resource = match it.kind {
            Some(_) => logs_of(name),
            None => format!("{section}.{name}"),
        };
        CannotRun { resource, why: it.why }
    });
    cannot.collect()
}

/// The schedule of one kind of a backup, as a resource that the host's scheduler can't hold while the backup itself can run.
pub fn schedule_of(backup: &str, kind: Kind) -> String {
    format!("backup.{backup}.schedule.{kind}")
}

/// The restore of a backup over its original, as a resource that can't run while the backup itself can.
pub fn in_place_of(backup: &str) -> String {
    format!("backup.{backup}.in-place")
}

/// What the scheduler holds can't be seen: as long as that is so, nothing is armed.
pub(super) fn by_scheduler(inventory: &Inventory) -> Option<CannotRun> {
    match &inventory.armed {
        Observed::Known(_) => None,
        Observed::Unknown(why) => Some(CannotRun { resource: "schedules".to_owned(), why: why.clone() }),
    }
}

/// The logs of a backup, as a resource that can't run while the backup itself can.
pub(super) fn logs_of(backup: &str) -> String {
    format!("backup.{backup}.log")
}

/// Whether this host can write what is read in `from` into `to`: the two are for the same recipients, or an identity is at
/// hand that can read it in `from`, so that it can be encrypted anew.
pub(super) fn can_copy(spec: &Spec, limits: &Limits, from: &StoreName, to: &StoreName) -> bool {
    spec.encrypts_alike(from, to) || can_read(spec, limits, from)
}

/// Whether an identity is at hand that can read what is written into `store`.
pub(super) fn can_read(spec: &Spec, limits: &Limits, store: &StoreName) -> bool {
    let readers = spec.recipients_in(store);
    readers.iter().any(|r| limits.identities.iter().any(|i| i == r.as_str()))
}

/// Copies for others than the captures are for, which no identity of this host can make.
pub(super) fn by_identities(spec: &Spec, limits: &Limits) -> Vec<CannotRun> {
    spec.backups.values().flat_map(|backup| copies_of(spec, limits, backup)).collect()
}

fn copies_of(spec: &Spec, limits: &Limits, backup: &Backup) -> Vec<CannotRun> {
    let Some((first, further)) = backup.stores.split_first() else { return Vec::new() };
    let cannot = further.iter().filter(|to| !can_copy(spec, limits, first, to));
    let cannot = cannot.map(|to| CannotRun { resource: copy_of(&backup.name, to), why: unread(first, to) });
    cannot.collect()
}

fn copy_of(backup: &BackupName, to: &StoreName) -> String {
    format!("backup.{backup}.copy.{to}")
}

/// Why nothing is copied between two stores.
pub(super) fn unread(from: &StoreName, to: &StoreName) -> String {
    format!(
        "{to} has other recipients than {from}, and this controller has no identity that can read what is in {from}; set keys.identity, or give both stores the same recipients"
    )
}
