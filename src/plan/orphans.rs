//! Orphans: artifacts that no declaration covers. Kept, until an `[orphan.NAME]` says since when they may go.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    draft::Draft,
    facts::Facts,
    retention::{self, Obstacle},
};
use crate::{
    artifact::{ArtifactId, layout::Holder},
    inventory::{StoreInventory, StoredArtifact, StoredBackup},
    spec::{
        Orphan,
        names::{BackupName, StoreName},
    },
};

/// Deletes orphans that may go, oldest first, so many a day as the host lets go.
///
/// Unlike a retention that suddenly covers too much, an `[orphan.NAME]` is meant to take everything: it is spread
/// over days instead of being held back.
pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    for (name, orphan) in &facts.spec.orphans {
        if facts.protected.contains_key(name) {
            continue;
        }
        for store in facts.inventory.stores.keys() {
            let (Ok(inventory), Ok(stored)) = (facts.store(store), facts.stored(name, store)) else {
                continue;
            };
            let (natives, old): (Vec<_>, Vec<_>) =
                old(facts, orphan, inventory, stored).into_iter().partition(|a| a.native.is_some());
            if !natives.is_empty() {
                let what = format!("deletion of {} orphans of {name} in {store}", natives.len());
                let on = "their provider keeps them, and nothing declares how that is reached: declare the backup again, or \
                          delete them there and then verify them";
                draft.wait_of(name, what, on, None);
            }
            if old.is_empty() {
                continue;
            }
            match retention::obstacle(facts, name, store, stored) {
                Some(Obstacle::Withhold { rule, reason }) => draft.withhold(name, store, rule, reason),
                Some(Obstacle::Wait { on, until }) => {
                    draft.wait_of(
                        name,
                        format!("deletion of {} orphans of {name} in {store}", old.len()),
                        on,
                        until,
                    );
                }
                None => match reader(facts, (name, store), &old) {
                    Some((on, until)) => {
                        let what = format!("deletion of {} orphans of {name} in {store}", old.len());
                        draft.wait_of(name, what, on, Some(until));
                    }
                    None => delete(facts, (name, store), stored, old, draft),
                },
            }
        }
    }
}

/// Who reads one of them just now, and until when.
fn reader(
    facts: &Facts<'_>,
    (name, store): (&BackupName, &StoreName),
    old: &[&StoredArtifact],
) -> Option<(String, Timestamp)> {
    let readings = facts.live_readings(name, store);
    let (id, reading) = readings.iter().find(|(_, r)| old.iter().any(|a| r.concerns(a.id)))?;
    Some((format!("{}, which reads them", Holder::Reader(*id)), reading.until))
}

/// What is older than the orphan's declaration says, and neither held nor locked; oldest first.
fn old<'a>(
    facts: &Facts<'_>,
    orphan: &Orphan,
    inventory: &StoreInventory,
    stored: &'a StoredBackup,
) -> Vec<&'a StoredArtifact> {
    let now = facts.now_in(inventory);
    let aged = |a: &StoredArtifact| a.newest.checked_add(orphan.delete_after).is_ok_and(|end| end <= now);
    let mut old: Vec<&StoredArtifact> = stored
        .artifacts
        .iter()
        .filter(|a| aged(a) && a.held.is_none() && !a.is_from_the_future(now))
        .collect();
    old.sort_unstable_by_key(|a| (a.newest, a.id));
    // An orphan that a younger one needs waits for it.
    let needs = retention::needs(stored);
    let staying = needs.iter().filter(|(id, _)| !old.iter().any(|o| o.id == **id));
    let needed: Vec<ArtifactId> = staying.flat_map(|(_, needed)| needed).copied().collect();
    old.retain(|a| !needed.contains(&a.id));
    old
}

fn delete(
    facts: &Facts<'_>,
    (name, store): (&BackupName, &StoreName),
    stored: &StoredBackup,
    old: Vec<&StoredArtifact>,
    draft: &mut Draft,
) {
    let lock = facts.spec.stores.get(store).and_then(|s| s.immutable);
    let unlocked = |a: &&StoredArtifact| {
        lock.is_none_or(|lock| a.id.time().checked_add(lock).is_ok_and(|end| end <= facts.now))
    };
    let going: BTreeMap<ArtifactId, String> =
        take_whole_chains(stored, old.into_iter().filter(unlocked), room(facts, stored))
            .into_iter()
            .map(|id| (id, "orphan: no longer declared, and older than its `delete_after`".to_owned()))
            .collect();
    retention::delete(name, store, stored, &going, draft);
}

/// How many of a backup's artifacts in a store may still go today.
fn room(facts: &Facts<'_>, stored: &StoredBackup) -> usize {
    let recent = stored.deletions.len();
    let share = facts.limits.delete_share.clamp(0.0, 1.0) * (stored.artifacts.len() + recent) as f64;
    (share as usize).max(1).saturating_sub(recent)
}

/// At most `room` artifacts, oldest first; none without those that need it.
fn take_whole_chains<'a>(
    stored: &StoredBackup,
    old: impl Iterator<Item = &'a StoredArtifact>,
    room: usize,
) -> Vec<ArtifactId> {
    let old: Vec<&StoredArtifact> = old.collect();
    let needs = retention::needs(stored);
    let mut taken: Vec<ArtifactId> = Vec::new();
    loop {
        let free = |a: &&&StoredArtifact| {
            let needed = needs.iter().any(|(id, needed)| needed.contains(&a.id) && !taken.contains(id));
            !taken.contains(&a.id) && !needed
        };
        match old.iter().find(free) {
            Some(next) if taken.len() < room => taken.push(next.id),
            _ => return taken,
        }
    }
}
