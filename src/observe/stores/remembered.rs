//! What the records remember of artifacts: checks, holds, deletions and candidates of a sweep.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::Users;
use crate::{
    artifact::{
        ArtifactId, Depth,
        layout::PackName,
        record::{Event, Record},
    },
    inventory::{Condition, StoredArtifact, StoredBackup},
    spec::names::FolderName,
};

/// Deletions count against the limit for so long.
const DELETIONS_COUNT: Duration = Duration::from_secs(24 * 3600);

/// Damage that checks found and no later check as deep has refuted: the deepest check, and what it found.
type Found<'a> = BTreeMap<(&'a FolderName, ArtifactId), (Depth, Box<str>)>;

/// Packs that a check ever found damaged, by backup.
pub(super) fn suspects(records: &[Record]) -> BTreeMap<FolderName, BTreeSet<PackName>> {
    let mut suspects: BTreeMap<FolderName, BTreeSet<PackName>> = BTreeMap::new();
    for event in records.iter().flat_map(|record| &record.events) {
        if let Event::Verified { backup, packs, .. } = event
            && !packs.is_empty()
        {
            suspects.entry(backup.clone()).or_default().extend(packs);
        }
    }
    suspects
}

/// Applies the records, oldest first, to what the listing showed. `users` are the artifacts that name a suspect pack.
pub(super) fn apply(
    backups: &mut BTreeMap<FolderName, StoredBackup>,
    users: &BTreeMap<FolderName, Users>,
    records: &[Record],
    now: Timestamp,
) {
    let mut found = Found::new();
    for record in records {
        for event in &record.events {
            weigh_event(&mut found, users, event);
            apply_event(backups, event, record.at, now);
        }
    }
    for ((backup, id), (_, damage)) in found {
        if let Some(artifact) = artifact(backups, backup, id)
            && artifact.condition == Condition::Good
        {
            artifact.condition = Condition::Damaged(damage);
        }
    }
}

fn weigh_event<'a>(found: &mut Found<'a>, users: &BTreeMap<FolderName, Users>, event: &'a Event) {
    match event {
        Event::Verified { backup, artifact, depth, damage, packs } => {
            weigh(found, (backup, *artifact), *depth, damage.first().map(|damage| damage.as_str().into()));
            for (pack, sibling) in sharing(users.get(backup), packs).filter(|(_, id)| id != artifact) {
                let damage = format!("pack {pack}, which it shares with {artifact}, is missing or altered");
                weigh(found, (backup, sibling), *depth, Some(damage.into()));
            }
        }
        // What a repair shares was compared, whatever had been found before.
        Event::Repaired { backup, artifact, .. } => weigh(found, (backup, *artifact), Depth::Data, None),
        _ => {}
    }
}

/// Each of `packs` with each artifact that names it.
fn sharing<'a>(
    users: Option<&'a Users>,
    packs: &'a [PackName],
) -> impl Iterator<Item = (PackName, ArtifactId)> + 'a {
    packs.iter().flat_map(move |pack| {
        let users = users.and_then(|users| users.get(pack)).map_or(&[][..], Vec::as_slice);
        users.iter().map(move |id| (*pack, *id))
    })
}

/// Damage stays until a check as deep as the one that found it finds none.
fn weigh<'a>(
    found: &mut Found<'a>,
    artifact: (&'a FolderName, ArtifactId),
    depth: Depth,
    damage: Option<Box<str>>,
) {
    let before = found.get(&artifact).map(|(depth, _)| *depth);
    match damage {
        Some(damage) => {
            let depth = before.map_or(depth, |before| before.max(depth));
            found.insert(artifact, (depth, damage));
        }
        None if before.is_some_and(|before| depth >= before) => {
            found.remove(&artifact);
        }
        None => {}
    }
}

fn apply_event(
    backups: &mut BTreeMap<FolderName, StoredBackup>,
    event: &Event,
    at: Timestamp,
    now: Timestamp,
) {
    match event {
        Event::Verified { backup, artifact: id, depth, damage, .. } if damage.is_empty() => {
            if let Some(artifact) = artifact(backups, backup, *id) {
                let verified = &mut artifact.verified;
                let last = match depth {
                    Depth::Metadata => &mut verified.metadata,
                    Depth::Data => &mut verified.data,
                    Depth::Plaintext => &mut verified.plaintext,
                };
                *last = (*last).max(Some(at));
            }
        }
        Event::Held { backup, artifact: id, reason } => {
            for artifact in same_content(backups, backup, *id) {
                artifact.held = Some(reason.as_str().into());
            }
        }
        Event::Released { backup, artifact: id } => {
            for artifact in same_content(backups, backup, *id) {
                artifact.held = None;
            }
        }
        Event::Deleted { backup, artifact, warrant: Some(warrant), .. } => {
            let stored = backups.entry(backup.clone()).or_default();
            stored.let_go.entry(warrant.plan).or_default().insert(*artifact);
        }
        Event::Deleted { backup, warrant: None, .. } => {
            // What claims to be of the future counts as well: no clock may make room for deletions.
            if now.duration_since(at) < jiff::SignedDuration::try_from(DELETIONS_COUNT).unwrap_or_default() {
                backups.entry(backup.clone()).or_default().deletions.push(at);
            }
        }
        Event::Unreferenced { backup, captures } => {
            if let Some(stored) = backups.get_mut(backup) {
                for id in captures.iter().filter(|id| stored.unreferenced.contains_key(id)) {
                    stored.candidates.entry(*id).or_insert(at);
                }
            }
        }
        Event::Swept { backup, captures } => {
            if let Some(stored) = backups.get_mut(backup) {
                stored.candidates.retain(|id, _| !captures.contains(id));
            }
        }
        Event::Verified { .. }
        | Event::Committed { .. }
        | Event::Recovered(_)
        | Event::Repaired { .. }
        | Event::Suspended(_)
        | Event::Resumed { .. }
        | Event::InForce { .. }
        | Event::RewriteApproved(_)
        | Event::Healed(_)
        | Event::Drilled(_)
        | Event::Rehearsed(_)
        | Event::PlanApproved { .. }
        | Event::Adopted { .. } => {}
    }
}

/// An artifact and what repairs it: what a person says of one holds for the other.
fn same_content<'a>(
    backups: &'a mut BTreeMap<FolderName, StoredBackup>,
    backup: &FolderName,
    id: ArtifactId,
) -> impl Iterator<Item = &'a mut StoredArtifact> {
    let artifacts = backups.get_mut(backup).map(|stored| stored.artifacts.iter_mut());
    artifacts.into_iter().flatten().filter(move |artifact| artifact.id == id || artifact.content() == id)
}

fn artifact<'a>(
    backups: &'a mut BTreeMap<FolderName, StoredBackup>,
    backup: &FolderName,
    id: ArtifactId,
) -> Option<&'a mut StoredArtifact> {
    let artifacts = &mut backups.get_mut(backup)?.artifacts;
    // They are in the order of their names.
    let at = artifacts.binary_search_by_key(&id, |artifact| artifact.id).ok()?;
    artifacts.get_mut(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_stays_until_a_check_as_deep_finds_none() {
        let (backup, id) = ("agama".parse().unwrap(), ArtifactId::new(Timestamp::UNIX_EPOCH, 1));
        let damage = || Some("pack 0 is altered".into());
        let mut found = Found::new();
        weigh(&mut found, (&backup, id), Depth::Data, damage());
        weigh(&mut found, (&backup, id), Depth::Metadata, None);
        assert_eq!(found.len(), 1, "a shallow check sees less");
        weigh(&mut found, (&backup, id), Depth::Metadata, damage());
        weigh(&mut found, (&backup, id), Depth::Metadata, None);
        assert_eq!(found.len(), 1, "the deepest check counts");
        weigh(&mut found, (&backup, id), Depth::Plaintext, None);
        assert!(found.is_empty());
    }
}
