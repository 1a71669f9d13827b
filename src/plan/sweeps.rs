//! Sweeps: packs that no manifest names, in two looks a day apart.

use std::time::Duration;

use jiff::Timestamp;

use super::{Action, draft::Draft, facts::Facts};
use crate::{
    artifact::{ArtifactId, layout::Holder},
    inventory::{StoreInventory, StoredBackup},
    spec::names::{BackupName, StoreName},
};

/// How long packs must have been known as unreferenced before they go.
pub(super) const SWEEP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Records what is unreferenced, and deletes what was so a day ago as well.
pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    for name in facts.inventory.stores.keys() {
        let Ok(store) = facts.store(name) else { continue };
        for (folder, stored) in &store.backups {
            let backup = facts.spec.moved.backup(folder);
            record(facts, (&backup, name), (store, stored), draft);
            sweep(facts, (&backup, name), (store, stored), draft);
        }
    }
}

fn record(
    facts: &Facts<'_>,
    (backup, store): (&BackupName, &StoreName),
    (inventory, stored): (&StoreInventory, &StoredBackup),
    draft: &mut Draft,
) {
    let now = facts.now_in(inventory);
    let under_way = |id: &ArtifactId| {
        stored.leases.get(id).is_some_and(|lease| lease.until > now)
            || facts.inventory.interrupted.iter().any(|i| i.artifact == *id && i.store == *store)
    };
    let new = stored.unreferenced.keys().filter(|id| !stored.candidates.contains_key(id) && !under_way(id));
    let captures: Vec<ArtifactId> = new.filter(|id| !stored.lost.contains_key(id)).copied().collect();
    if !captures.is_empty() {
        let reason = format!("{} captures have packs that no manifest names", captures.len());
        let (backup, store) = (backup.clone(), store.clone());
        draft.step(Action::RecordUnreferenced { backup, store, captures }, reason);
    }
}

fn sweep(
    facts: &Facts<'_>,
    (backup, store): (&BackupName, &StoreName),
    (inventory, stored): (&StoreInventory, &StoredBackup),
    draft: &mut Draft,
) {
    let mut ripe = ripe(stored, facts.now_in(inventory));
    // What this plan copies is what an attempt left that was cut off, and need not be carried again.
    ripe.retain(|id| !is_copied(draft, (backup, store), *id));
    if ripe.is_empty() {
        return;
    }
    let what = || format!("sweep of {backup} in {store}");
    if let Some((lease, until)) = facts.live_lease(backup, store).map(|(id, lease)| (id, lease.until)) {
        draft.wait_of(backup, what(), format!("capture {lease} is under way"), Some(until));
    } else if let Some((id, reading)) = facts.live_readings(backup, store).first() {
        draft.wait_of(backup, what(), format!("{} is under way", Holder::Reader(*id)), Some(reading.until));
    } else if !stored.unreadable.is_empty() {
        draft.withhold(backup, store, "unreadable", unreadable(stored));
    } else if let Some(why) = facts.strange_clock() {
        draft.withhold(backup, store, "clock", why);
    } else {
        let (backup, store) = (backup.clone(), store.clone());
        let reason = "unreferenced for a day and still so";
        draft.step(Action::Sweep { backup, store, captures: ripe }, reason);
    }
}

fn is_copied(draft: &Draft, (name, store): (&BackupName, &StoreName), id: ArtifactId) -> bool {
    draft.steps.iter().any(|step| match &step.action {
        Action::Copy { backup, artifact, to, .. } => backup == name && to == store && *artifact == id,
        _ => false,
    })
}

/// Captures whose packs were unreferenced a day before `now` and still are. What is left of an artifact whose manifest
/// somebody deleted stays: its copy need not be carried again, and may be all that there is.
fn ripe(stored: &StoredBackup, now: Timestamp) -> Vec<ArtifactId> {
    let old = |since: Timestamp| since.checked_add(SWEEP_AFTER).is_ok_and(|ripe| ripe <= now);
    let candidates = stored.candidates.iter().filter(|(id, since)| {
        let nobodys = stored.unreferenced.contains_key(id) && !stored.lost.contains_key(id);
        old(**since) && nobodys && stored.artifact(**id).is_none()
    });
    candidates.map(|(id, _)| *id).collect()
}

/// Why manifests that can't be read hold deletions back.
pub(super) fn unreadable(stored: &StoredBackup) -> String {
    let (id, why) =
        stored.unreadable.iter().next().map_or((String::new(), ""), |(id, why)| (id.to_string(), why));
    format!("{} manifests can't be trusted, such as {id}: {why}", stored.unreadable.len())
}
