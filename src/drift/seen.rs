//! What of a look differs from how Backstay left it: stores and their artifacts, schedules, mirrors.

use jiff::Timestamp;

use super::{Drift, Kind, Thing};
use crate::{
    artifact::ArtifactId,
    inventory::{
        Armed, ArmedSchedule, Condition, InfraInventory, Inventory, Observed, Provided, Standing,
        StoreInventory, StoredBackup,
    },
    spec::{
        Healable, Infra, Protection, Spec,
        names::{BackupName, StoreName},
    },
};

/// A store as a whole, or else what is in it.
pub(super) fn store(
    (spec, inventory): (&Spec, &Inventory),
    name: &StoreName,
    store: &StoreInventory,
    drifts: &mut Vec<Drift>,
) {
    let whole = |kind, expected: String, found: String, evidence: String| Drift {
        kind,
        subject: format!("store {name}"),
        resources: vec![Healable::Store(name.clone())],
        expected,
        found,
        evidence,
        thing: Thing::Store(name.clone()),
    };
    match &store.standing {
        Standing::Refused(why) => {
            if let Some(evidence) = was_ours(inventory, name, store) {
                let expected = "holds what Backstay wrote, and all of its records".to_owned();
                drifts.push(whole(Kind::StoreRefused, expected, why.clone(), evidence));
            }
            return;
        }
        Standing::Empty | Standing::Ours => {
            if let Some((expected, evidence)) = emptied(inventory, name, store) {
                let found = match store.standing {
                    Standing::Empty => "somebody emptied it",
                    _ => "somebody emptied it, and it was begun anew",
                };
                drifts.push(whole(Kind::StoreEmptied, expected, found.to_owned(), evidence));
            }
        }
    }
    rules(inventory, name, store, drifts);
    for (folder, stored) in &store.backups {
        artifacts(&spec.moved.backup(folder), name, stored, drifts);
    }
}

/// Rules of the store's own that nobody agreed to.
fn rules(inventory: &Inventory, name: &StoreName, store: &StoreInventory, drifts: &mut Vec<Drift>) {
    let Observed::Known(rules) = &store.rules else { return };
    let of = |rule: &str, subject: String, expected: &str, found: String, evidence: &str| Drift {
        kind: Kind::StoreRules,
        subject,
        resources: vec![Healable::Store(name.clone())],
        expected: expected.to_owned(),
        found,
        evidence: evidence.to_owned(),
        thing: Thing::Rule { store: name.clone(), name: rule.to_owned() },
    };
    for (rule, harm) in &rules.takes {
        let (subject, evidence) =
            (format!("rule {rule:?} of store {name}"), "the store's own lifecycle rules");
        drifts.push(of(rule, subject, "nobody but Backstay deletes", harm.clone(), evidence));
    }
    let before = inventory.made.stores.get(name).and_then(|made| made.rules.as_ref());
    if let Some(weaker) = before.and_then(|before| rules.weaker_than(before)) {
        let (subject, evidence) = (format!("protection of store {name}"), "what this host remembers of it");
        drifts.push(of("", subject, "as strict as it was", weaker, evidence));
    }
}

/// How it is known that a store was ours before.
fn was_ours(inventory: &Inventory, name: &StoreName, store: &StoreInventory) -> Option<String> {
    if store.records.last().is_some() {
        return Some("trusted records in it".to_owned());
    }
    let known = |(other, found): (&StoreName, &Observed<StoreInventory>)| {
        let knows = other != name && found.known().is_some_and(|found| found.records.knows(name));
        knows.then(|| format!("the records of {other}"))
    };
    let made =
        || inventory.made.stores.contains_key(name).then(|| "what this host remembers of it".to_owned());
    inventory.stores.iter().find_map(known).or_else(made)
}

/// What an emptied store held, and how that is known.
fn emptied(inventory: &Inventory, name: &StoreName, store: &StoreInventory) -> Option<(String, String)> {
    let held = |sequence: u64| format!("holds artifacts, and its records up to number {sequence}");
    if let Some(made) = inventory.made.stores.get(name).filter(|made| !store.records.has(&made.mark)) {
        return Some((held(made.mark.sequence), "what this host remembers of it".to_owned()));
    }
    if store.standing != Standing::Empty {
        return None;
    }
    inventory.stores.iter().filter(|(other, _)| *other != name).find_map(|(other, witness)| {
        let why = store.records.behind(name, other, &witness.known()?.records)?;
        Some(("holds artifacts and records".to_owned(), why))
    })
}

fn artifacts(backup: &BackupName, store: &StoreName, stored: &StoredBackup, drifts: &mut Vec<Drift>) {
    let of = |kind, artifact: ArtifactId, what: &str, found: String, evidence: String| Drift {
        kind,
        subject: format!("{what} {artifact} of {backup} in {store}"),
        resources: vec![Healable::Backup(backup.clone()), Healable::Store(store.clone())],
        expected: "whole".to_owned(),
        found,
        evidence,
        thing: Thing::Artifact { backup: backup.clone(), artifact, store: store.clone() },
    };
    for (id, seen) in lost(stored).filter(|(id, _)| !backup.is_infra() || !is_covered(stored, *id)) {
        let evidence =
            format!("the records of {store}: it was whole at {seen:.0}, and Backstay did not delete it");
        drifts.push(of(Kind::ArtifactGone, id, "artifact", "somebody deleted it".to_owned(), evidence));
    }
    for artifact in &stored.artifacts {
        if let Condition::Damaged(damage) = &artifact.condition
            && stored.good_content(artifact.content()).is_none()
        {
            let evidence = "its signed manifest, against what lies there".to_owned();
            let kind = artifact.kind.to_string();
            drifts.push(of(Kind::ArtifactDamaged, artifact.id, &kind, damage.to_string(), evidence));
        }
    }
    for (id, why) in &stored.unreadable {
        let evidence = "its signature".to_owned();
        drifts.push(of(Kind::ArtifactUntrusted, *id, "artifact", why.clone(), evidence));
    }
}

/// Whether a later bundle of the infra repo, which does not rest on a lost one, brings back all that was in it.
fn is_covered(stored: &StoredBackup, lost: ArtifactId) -> bool {
    stored.artifacts.iter().any(|a| a.is_good() && a.id > lost && !a.requires.contains(&lost))
}

/// What records saw whole, and is still not there.
fn lost(stored: &StoredBackup) -> impl Iterator<Item = (ArtifactId, Timestamp)> {
    let there = |id: ArtifactId| stored.artifacts.iter().any(|a| a.id == id || a.content() == id);
    stored.lost.iter().filter(move |(id, _)| !there(**id)).map(|(id, seen)| (*id, *seen))
}

/// What is armed otherwise than Backstay had armed it.
pub(super) fn schedules(spec: &Spec, inventory: &Inventory, armed: &Armed, drifts: &mut Vec<Drift>) {
    let made = &inventory.made;
    let of = |kind, schedule: &ArmedSchedule, found: String, evidence: String| Drift {
        kind,
        subject: format!("schedule {} of {}", schedule.kind, schedule.backup),
        resources: vec![Healable::Backup(schedule.backup.clone())],
        expected: format!("armed: {}", schedule.cadence),
        found,
        evidence,
        thing: Thing::Schedule(schedule.clone()),
    };
    // What another configuration or version had armed, and differs now, is nobody's doing.
    let ours = !made.is_of_another_scheduler(&armed.by);
    for (schedule, difference) in armed.altered.iter().filter(|(schedule, _)| ours && spec.declares(schedule))
    {
        let evidence = "the mark that Backstay left in it".to_owned();
        drifts.push(of(Kind::ScheduleChanged, schedule, difference.clone(), evidence));
    }
    let gone = |schedule: &ArmedSchedule| {
        !armed.schedules.contains(schedule)
            && !armed.altered.contains_key(schedule)
            && spec.declares(schedule)
    };
    for (schedule, since) in made.armed.iter().filter(|(schedule, _)| ours && gone(schedule)) {
        let evidence = format!("this host armed it, at {since:.0} at the latest");
        drifts.push(of(Kind::ScheduleGone, schedule, "somebody removed it".to_owned(), evidence));
    }
    for (place, why) in &armed.strangers {
        drifts.push(Drift {
            kind: Kind::ScheduleStranger,
            subject: place.clone(),
            resources: vec![Healable::Schedules],
            expected: "nothing of that name".to_owned(),
            found: why.clone(),
            evidence: "its name, and no mark of Backstay's".to_owned(),
            thing: Thing::Place(place.clone()),
        });
    }
}

/// What mirrors somebody else moved.
pub(super) fn mirrors(
    declared: &Infra,
    inventory: &Inventory,
    infra: &InfraInventory,
    drifts: &mut Vec<Drift>,
) {
    for (url, how) in infra.moved.iter().filter(|(url, _)| declared.mirrors.contains(url)) {
        let at = inventory.made.mirrors.get(url).map(|made| format!(" at {:.0}", made.at));
        drifts.push(Drift {
            kind: Kind::MirrorMoved,
            subject: format!("mirror {url}"),
            resources: vec![Healable::Backup(BackupName::infra())],
            expected: "as it was pushed to".to_owned(),
            found: how.clone(),
            evidence: format!("this host left it otherwise{}", at.unwrap_or_default()),
            thing: Thing::Mirror(url.clone()),
        });
    }
}

/// What somebody changed of what a provider keeps by itself.
pub(super) fn provider(
    backup: &BackupName,
    declared: &Protection,
    inventory: &Inventory,
    provided: &Provided,
) -> Option<Drift> {
    let held = inventory.made.providers.get(backup).filter(|held| *held == declared)?;
    provided.settings.lacks(held)?;
    Some(Drift {
        kind: Kind::ProviderChanged,
        subject: format!("provider of {backup}"),
        resources: vec![Healable::Backup(backup.clone())],
        expected: held.to_string(),
        found: provided.settings.to_string(),
        evidence: "this host found it so before".to_owned(),
        thing: Thing::Provider(backup.clone()),
    })
}
