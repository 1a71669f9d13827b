//! What the records bear witness of: artifacts that were whole here, that Backstay did not delete, and that are gone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    artifact::{
        ArtifactId,
        record::{Event, Record},
    },
    inventory::StoredBackup,
    spec::names::FolderName,
};

/// Artifacts of one backup by what the records say of them.
#[derive(Default)]
struct Witnessed {
    /// When they were last seen whole.
    whole: BTreeMap<ArtifactId, Timestamp>,
    /// What Backstay itself deleted or replaced. It says so before it does it, so that a crash in between hides a loss
    /// rather than invents one.
    gone: BTreeSet<ArtifactId>,
}

/// Notes what `records`, oldest first, saw whole in a store and its listing does not show any more.
pub(super) fn apply(backups: &mut BTreeMap<FolderName, StoredBackup>, records: &[Record]) {
    for (name, witnessed) in witnessed(records) {
        let stored = backups.get(name).unwrap_or(StoredBackup::NOTHING);
        let there: BTreeSet<ArtifactId> = stored
            .artifacts
            .iter()
            .flat_map(|a| [a.id, a.content()])
            .chain(stored.unreadable.keys().copied())
            .collect();
        let Witnessed { mut whole, gone } = witnessed;
        whole.retain(|id, _| !gone.contains(id) && !there.contains(id));
        if !whole.is_empty() {
            backups.entry(name.clone()).or_default().lost = whole;
        }
    }
}

fn witnessed(records: &[Record]) -> BTreeMap<&FolderName, Witnessed> {
    let mut all: BTreeMap<&FolderName, Witnessed> = BTreeMap::new();
    for (at, event) in records.iter().flat_map(|record| record.events.iter().map(|event| (record.at, event)))
    {
        match event {
            Event::Verified { backup, artifact, damage, .. } if damage.is_empty() => {
                all.entry(backup).or_default().whole.insert(*artifact, at);
            }
            Event::Committed { backup, artifact } => {
                all.entry(backup).or_default().whole.insert(*artifact, at);
            }
            Event::Repaired { backup, artifact, replaces } => {
                let witnessed = all.entry(backup).or_default();
                witnessed.whole.insert(*artifact, at);
                witnessed.gone.extend(replaces);
            }
            Event::Deleted { backup, artifact, .. } => {
                all.entry(backup).or_default().gone.insert(*artifact);
            }
            // A person took the store as it was.
            Event::Adopted { .. } => all.values_mut().for_each(|witnessed| witnessed.whole.clear()),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{Depth, record::FORMAT};

    fn id(random: u64) -> ArtifactId {
        ArtifactId::new(Timestamp::UNIX_EPOCH, random)
    }

    fn agama() -> FolderName {
        "agama".parse().unwrap()
    }

    fn verified(random: u64, damage: &[&str]) -> Event {
        Event::Verified {
            backup: agama(),
            artifact: id(random),
            depth: Depth::Metadata,
            damage: damage.iter().map(ToString::to_string).collect(),
            packs: Vec::new(),
        }
    }

    fn lost(events: Vec<Event>) -> Vec<ArtifactId> {
        let record = |(sequence, event)| Record {
            format: FORMAT.to_owned(),
            fleet: "pavroto".parse().unwrap(),
            sequence,
            previous: None,
            at: Timestamp::UNIX_EPOCH,
            events: vec![event],
            siblings: BTreeMap::new(),
        };
        let records: Vec<Record> = (0..).zip(events).map(record).collect();
        let mut backups = BTreeMap::new();
        apply(&mut backups, &records);
        backups.remove(&agama()).unwrap_or_default().lost.into_keys().collect()
    }

    #[test]
    fn what_was_seen_whole_and_never_deleted_is_lost_when_no_manifest_is_left() {
        assert_eq!(lost(vec![verified(1, &[])]), [id(1)]);
        assert_eq!(lost(vec![Event::Committed { backup: agama(), artifact: id(1) }]), [id(1)]);
        assert_eq!(lost(vec![verified(1, &["pack 0 is missing"])]), [], "it was not whole");
    }

    #[test]
    fn what_backstay_deleted_or_replaced_is_not_lost() {
        let deleted = Event::Deleted {
            backup: agama(),
            artifact: id(1),
            reason: "older than 14d".into(),
            warrant: None,
        };
        assert_eq!(lost(vec![verified(1, &[]), deleted.clone()]), []);
        assert_eq!(lost(vec![deleted, verified(1, &[])]), [], "a check that is told late revives nothing");
        let repaired = Event::Repaired { backup: agama(), artifact: id(2), replaces: Some(id(1)) };
        assert_eq!(lost(vec![verified(1, &[]), repaired]), [id(2)]);
    }

    #[test]
    fn an_adoption_takes_the_store_as_it_is() {
        let adopted = Event::Adopted { reason: "from the tape of Sunday".into() };
        assert_eq!(lost(vec![verified(1, &[]), adopted.clone()]), []);
        assert_eq!(lost(vec![adopted, verified(1, &[])]), [id(1)]);
    }
}
