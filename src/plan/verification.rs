//! Checks of stored artifacts that are due, and repairs of what a check found damaged.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Action, draft::Draft, due::intervals, facts::Facts, retention::Expiry};
use crate::{
    artifact::{ArtifactId, Depth},
    inventory::StoredArtifact,
    spec::{
        Verify,
        names::{BackupName, StoreName},
    },
};

/// Repairs damaged artifacts that a store would keep, and those whose manifest can't be trusted, where another store has a
/// good copy of the same name.
pub(super) fn repair(facts: &Facts<'_>, expired: &Expiry<'_>, draft: &mut Draft) {
    for (name, protected) in &facts.protected {
        for store in protected.stores {
            let Ok(stored) = facts.stored(name, store) else { continue };
            let goes = |id| expired.get(&(name, store)).is_some_and(|gone| gone.contains_key(&id));
            let damaged = stored.artifacts.iter().filter(|a| a.is_damaged() && !goes(a.id));
            for artifact in damaged.filter(|a| stored.good_content(a.content()).is_none()) {
                repair_one(facts, (name, store), artifact.id, "damaged, and whole elsewhere", draft);
            }
            // Another store's trusted manifest of the very same name shows that this one was ours.
            for id in stored.unreadable.keys() {
                let reason = "its manifest can't be trusted, and is whole elsewhere";
                repair_one(facts, (name, store), *id, reason, draft);
            }
        }
    }
}

fn repair_one(
    facts: &Facts<'_>,
    (name, store): (&BackupName, &StoreName),
    damaged: ArtifactId,
    reason: &str,
    draft: &mut Draft,
) {
    let mut holdings = facts.holdings(name);
    holdings.retain(|(other, stored)| {
        let good = stored.artifact(damaged).is_some_and(StoredArtifact::is_good);
        good && *other != store && facts.can_copy(other, store)
    });
    let alike = holdings.iter().find(|(other, _)| facts.spec.encrypts_alike(other, store));
    let Some((from, _)) = alike.or(holdings.first()) else { return };
    if let Some((id, lease)) = facts.capture_under_way(name, store) {
        let what = format!("repair of {damaged} of {name} in {store}");
        return draft.wait_of(name, what, format!("capture {id} is under way"), Some(lease.until));
    }
    let (backup, store, from) = (name.clone(), store.clone(), (*from).clone());
    draft.step(Action::Repair { backup, artifact: damaged, store, from }, reason);
}

/// A declared check as it can be made in a store.
struct Possible {
    depth: Depth,
    every: Duration,
    /// Why it is less deep than declared, if it is.
    note: Option<String>,
}

/// A check that is due.
struct Check<'a> {
    since: Timestamp,
    depth: Depth,
    note: Option<String>,
    backup: &'a BackupName,
    artifact: ArtifactId,
}

/// Checks what is due, the longest overdue first, a bounded number a store.
pub(super) fn plan(facts: &Facts<'_>, expired: &Expiry<'_>, draft: &mut Draft) {
    let mut due: BTreeMap<&StoreName, Vec<Check<'_>>> = BTreeMap::new();
    for (name, protected) in &facts.protected {
        for store in protected.stores {
            let Ok(stored) = facts.stored(name, store) else { continue };
            let gone = expired.get(&(name, store));
            let stays = |a: &&StoredArtifact| !gone.is_some_and(|gone| gone.contains_key(&a.id));
            let possible = possible(facts, store, &protected.verify);
            let good = stored.artifacts.iter().filter(|a| a.is_good()).filter(stays);
            let checks = good.filter_map(|artifact| due_check(facts, &possible, name, artifact));
            due.entry(store).or_default().extend(checks);
        }
    }
    for (store, checks) in due {
        verify(facts, store, checks, draft);
    }
}

fn verify(facts: &Facts<'_>, store: &StoreName, mut checks: Vec<Check<'_>>, draft: &mut Draft) {
    checks.sort_unstable_by_key(|c| (Reverse(c.depth), c.since, c.artifact));
    let mut room = facts.limits.checks;
    for Check { since, depth, note, backup, artifact } in checks {
        let left = match depth {
            Depth::Metadata => &mut room.metadata,
            Depth::Data => &mut room.data,
            Depth::Plaintext => &mut room.plaintext,
        };
        if *left == 0 {
            continue;
        }
        *left -= 1;
        let (backup, store) = (backup.clone(), store.clone());
        let note = note.map(|note| format!("; {note}")).unwrap_or_default();
        draft.step(
            Action::Verify { backup, artifact, store, depth },
            format!("check of its {depth} due since {since:.0}{note}"),
        );
    }
}

/// The deepest check of an artifact that is due.
fn due_check<'a>(
    facts: &Facts<'_>,
    possible: &[Possible],
    backup: &'a BackupName,
    artifact: &StoredArtifact,
) -> Option<Check<'a>> {
    let native = of_native(possible, artifact);
    native.as_ref().map_or(possible, std::slice::from_ref).iter().find_map(
        |Possible { depth, every, note }| {
            let since = check_at(artifact, *depth, *every, facts.now)?;
            let due = since <= facts.now;
            due.then(|| Check { since, depth: *depth, note: note.clone(), backup, artifact: artifact.id })
        },
    )
}

/// Why checks of native backups are no deeper.
pub(super) const NATIVE_CHECK: &str =
    "its provider tells whether it can be restored, and lets nobody look at what it holds";

/// The only check that can be made of a native backup, as often as any is declared.
fn of_native(possible: &[Possible], artifact: &StoredArtifact) -> Option<Possible> {
    artifact.native.as_ref()?;
    let every = possible.iter().map(|possible| possible.every).min()?;
    let is_less = possible.iter().any(|possible| possible.depth > Depth::Metadata);
    Some(Possible { depth: Depth::Metadata, every, note: is_less.then(|| NATIVE_CHECK.to_owned()) })
}

/// When a check of what `store` holds of a backup falls due next.
pub(super) fn next_check(facts: &Facts<'_>, name: &BackupName, store: &StoreName) -> Option<Timestamp> {
    let verify = &facts.protected.get(name)?.verify;
    let stored = facts.stored(name, store).ok()?;
    let good = stored.artifacts.iter().filter(|a| a.is_good());
    let possible = possible(facts, store, verify);
    let times = good.flat_map(|a| {
        let native = of_native(&possible, a);
        let checks = native.as_ref().map_or(possible.as_slice(), std::slice::from_ref).iter();
        checks.filter_map(|p| check_at(a, p.depth, p.every, facts.now)).collect::<Vec<_>>()
    });
    times.filter(|at| *at > facts.now).min()
}

/// The declared checks as this host can make them in a store, deepest first. In place of one that it can't make stands the
/// deepest that it can.
fn possible(facts: &Facts<'_>, store: &StoreName, verify: &Verify) -> Vec<Possible> {
    let mut possible: Vec<Possible> = Vec::new();
    for (declared, every) in intervals(verify) {
        let Some(every) = every else { continue };
        let depth = declared.min(facts.deepest_check(store));
        match possible.iter_mut().find(|other| other.depth == depth) {
            Some(other) => other.every = other.every.min(every),
            None => possible.push(Possible { depth, every, note: facts.shallower(declared, store) }),
        }
    }
    possible
}

/// When an artifact is to be checked: an interval after the last check; the first time at once for what is cheap, and
/// after a stable share of the interval for what reads the whole artifact.
fn check_at(
    artifact: &StoredArtifact,
    depth: Depth,
    interval: Duration,
    now: Timestamp,
) -> Option<Timestamp> {
    let made = artifact.id.time();
    match artifact.verified.at_least(depth) {
        Some(last) => last.checked_add(interval).ok(),
        // A name from the future says nothing of when its artifact was made.
        None if made > now => Some(now),
        None if depth == Depth::Metadata => Some(made),
        None => {
            let share = (u128::from(interval.as_secs()) * u128::from(artifact.id.share())) >> 50;
            made.checked_add(Duration::from_secs(u64::try_from(share).unwrap_or(u64::MAX))).ok()
        }
    }
}
