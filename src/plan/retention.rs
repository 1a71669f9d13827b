//! Expired artifacts: what may go by the rules, and what has to happen before it does.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Action, StepId, copies::Lacking, draft::Draft, due, facts::Facts, sweeps};
use crate::{
    artifact::{ArtifactId, Kind, layout::Holder},
    inventory::{Inventory, Observed, StoredArtifact, StoredBackup},
    spec::{
        names::{BackupName, StoreName},
        retention::{self, Candidate, Expired, Verdict},
    },
};

/// What may go by the rules, by backup and store; nothing is said of what can't be believed.
pub(super) type Expiry<'a> = BTreeMap<(&'a BackupName, &'a StoreName), BTreeMap<ArtifactId, Expired>>;

/// What the rules of each backup let go in each of its stores.
pub(super) fn expired<'a>(facts: &'a Facts<'_>) -> Expiry<'a> {
    let mut all = Expiry::new();
    for (name, protected) in &facts.protected {
        for store in protected.stores {
            let (Ok(inventory), Ok(stored)) = (facts.store(store), facts.stored(name, store)) else {
                continue;
            };
            // What nobody can tell of stays as it is, and nothing goes because of it.
            let known = stored.artifacts.iter().filter(|artifact| artifact.unknown().is_none());
            let candidates: Vec<Candidate<'_>> = known.map(Candidate::of).collect();
            let now = facts.now_in(inventory);
            let verdicts = retention::decide(facts.rules(protected, store), &candidates, now);
            let gone: BTreeMap<ArtifactId, Expired> = verdicts
                .into_iter()
                .filter_map(|(id, verdict)| match verdict {
                    Verdict::Delete(why) => Some((id, why)),
                    Verdict::Keep(_) => None,
                })
                .collect();
            if !gone.is_empty() {
                all.insert((name, store), gone);
            }
        }
    }
    all
}

/// Deletes what may go, dependents first, where nothing speaks against it.
pub(super) fn plan(facts: &Facts<'_>, expired: &Expiry<'_>, lacking: &Lacking<'_>, draft: &mut Draft) {
    for ((name, store), gone) in expired {
        let Ok(stored) = facts.stored(name, store) else { continue };
        let what = || format!("deletion of {} expired artifacts of {name} in {store}", gone.len());
        match obstacle(facts, name, store, stored) {
            Some(Obstacle::Withhold { rule, reason }) => draft.withhold(name, store, rule, reason),
            Some(Obstacle::Wait { on, until }) => draft.wait_of(name, what(), on, until),
            None => {
                let reasons = reasons_to_stay(facts, (name, store), (stored, gone), lacking, draft);
                for (on, count) in count_reasons(&reasons) {
                    draft.wait_of(
                        name,
                        format!("deletion of {count} expired artifacts of {name} in {store}"),
                        on,
                        None,
                    );
                }
                let going: BTreeMap<ArtifactId, String> = going(stored, gone.keys().copied(), &reasons)
                    .into_iter()
                    .filter_map(|id| Some((id, gone.get(&id)?.to_string())))
                    .collect();
                delete(name, store, stored, &going, draft);
            }
        }
    }
}

/// What keeps every deletion of a backup in a store from being planned.
pub(super) enum Obstacle {
    /// Passes by itself.
    Wait { on: String, until: Option<Timestamp> },
    /// A person must look.
    Withhold { rule: &'static str, reason: String },
}

pub(super) fn obstacle(
    facts: &Facts<'_>,
    name: &BackupName,
    store: &StoreName,
    stored: &StoredBackup,
) -> Option<Obstacle> {
    if !stored.unreadable.is_empty() {
        return Some(Obstacle::Withhold { rule: "unreadable", reason: sweeps::unreadable(stored) });
    }
    if let Some(reason) = facts.strange_clock() {
        return Some(Obstacle::Withhold { rule: "clock", reason });
    }
    if let Some((id, lease)) = facts.live_lease(name, store) {
        let on = format!("capture {id} is under way in {store}");
        return Some(Obstacle::Wait { on, until: Some(lease.until) });
    }
    if let Some(on) = provider_unknown(facts.inventory, name, stored) {
        return Some(Obstacle::Wait { on, until: None });
    }
    let others =
        facts.protected.get(name).map_or(&[][..], |p| p.stores).iter().filter(|other| *other != store);
    let unknown = others.filter_map(|other| facts.store(other).err()).next();
    unknown.map(|on| Obstacle::Wait { on, until: None })
}

/// Why nobody knows which of a backup's native artifacts are still there.
pub(super) fn provider_unknown(
    inventory: &Inventory,
    name: &BackupName,
    stored: &StoredBackup,
) -> Option<String> {
    let has_natives = stored
        .artifacts
        .iter()
        .any(|artifact| artifact.reference().is_some() && artifact.unknown().is_none());
    match inventory.provided(name) {
        _ if !has_natives => None,
        Observed::Known(provided) if provided.natives.is_some() => None,
        Observed::Known(_) => Some("what its provider still has of it was not asked".to_owned()),
        Observed::Unknown(why) => Some(format!("what its provider still has of it is unknown: {why}")),
    }
}

/// Why single artifacts stay although the rules let them go.
fn reasons_to_stay(
    facts: &Facts<'_>,
    (name, store): (&BackupName, &StoreName),
    (stored, gone): (&StoredBackup, &BTreeMap<ArtifactId, Expired>),
    lacking: &Lacking<'_>,
    draft: &Draft,
) -> BTreeMap<ArtifactId, String> {
    let used = draft.in_use();
    let used_here: BTreeSet<ArtifactId> =
        gone.keys().copied().filter(|id| used.contains(&(name, store, *id))).collect();
    let epochs = epochs_in_use(name, store, stored, draft);
    let filling =
        facts.spec.backups.get(name).map(|backup| due::filling_now(facts, backup)).unwrap_or_default();
    let lock = facts.spec.stores.get(store).and_then(|s| s.immutable);
    let locked = |a: &StoredArtifact| {
        lock.is_some_and(|lock| a.id.time().checked_add(lock).map_or(true, |end| end > facts.now))
    };
    let readings = facts.live_readings(name, store);
    let reader = |a: &StoredArtifact| {
        let reading = readings.iter().find(|(_, reading)| reading.concerns(a.id));
        reading.map(|(id, _)| format!("{}, which reads them", Holder::Reader(*id)))
    };
    let wanted_by = |a: &StoredArtifact| {
        let lacks = lacking
            .iter()
            .find(|((b, s), contents)| *b == name && *s != store && contents.contains(&a.content()));
        lacks.map(|((_, other), _)| *other)
    };
    let expired = stored.artifacts.iter().filter(|a| gone.contains_key(&a.id));
    let is_asked_for = |reference: &str| {
        let provided = facts.inventory.provided(name);
        let natives = provided.known().and_then(|provided| provided.natives.as_ref());
        natives.is_some_and(|natives| natives.contains_key(reference))
    };
    let reason = |a: &StoredArtifact| {
        if used_here.contains(&a.id) || epochs.contains(&a.epoch) {
            Some("steps of this plan that read them or their epoch".to_owned())
        } else if a.is_good() && filling.contains(&a.content()) {
            // Otherwise its slot would be due again.
            Some("the next slot: they fill the latest".to_owned())
        } else if let Some(reader) = reader(a) {
            Some(reader)
        } else if locked(a) {
            Some(format!("the lock of store {store}"))
        } else if a.reference().is_some_and(|reference| !is_asked_for(reference)) {
            Some("their provider, which was not asked for them yet".to_owned())
        } else {
            wanted_by(a).map(|other| format!("their copies in {other}"))
        }
    };
    expired.filter_map(|a| Some((a.id, reason(a)?))).collect()
}

/// Epochs whose packs a capture of this plan may reuse.
fn epochs_in_use(
    name: &BackupName,
    store: &StoreName,
    stored: &StoredBackup,
    draft: &Draft,
) -> BTreeSet<ArtifactId> {
    let captures = draft.steps.iter().filter_map(|step| match &step.action {
        Action::Capture(c) if c.backup == *name && c.store == *store => c.base,
        _ => None,
    });
    captures.filter_map(|base| Some(stored.artifact(base)?.epoch)).collect()
}

fn count_reasons(reasons: &BTreeMap<ArtifactId, String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for reason in reasons.values() {
        *counts.entry(reason.clone()).or_default() += 1;
    }
    counts
}

/// What goes: not what stays for a reason, nor what anything that stays requires or, as a log, goes on from.
fn going(
    stored: &StoredBackup,
    gone: impl Iterator<Item = ArtifactId>,
    reasons: &BTreeMap<ArtifactId, String>,
) -> BTreeSet<ArtifactId> {
    let needs = needs(stored);
    let mut going: BTreeSet<ArtifactId> = gone.filter(|id| !reasons.contains_key(id)).collect();
    loop {
        let staying = needs.iter().filter(|(id, _)| !going.contains(id));
        let needed = staying.flat_map(|(_, needed)| needed).copied();
        let required: Vec<ArtifactId> = needed.filter(|id| going.contains(id)).collect();
        if required.is_empty() {
            return going;
        }
        required.iter().for_each(|id| {
            going.remove(id);
        });
    }
}

/// What each artifact is of no use without: what it requires and, of a log, the newest data that it goes on from.
pub(super) fn needs(stored: &StoredBackup) -> BTreeMap<ArtifactId, Vec<ArtifactId>> {
    let data = stored.artifacts.iter().filter(|a| a.kind != Kind::Log && stored.is_whole(a));
    let mut data: Vec<(Timestamp, ArtifactId)> = data.map(|a| (a.newest, a.id)).collect();
    data.sort_unstable();
    let goes_on_from = |a: &StoredArtifact| {
        let from = a.from().filter(|_| a.kind == Kind::Log && a.is_good())?.time;
        let before = data.partition_point(|(newest, _)| *newest <= from);
        before.checked_sub(1).map(|last| data[last].1)
    };
    let repairs = stored.artifacts.iter().filter(|a| a.is_good());
    let repairs: BTreeMap<ArtifactId, ArtifactId> =
        repairs.filter_map(|a| Some((a.supersedes?, a.id))).collect();
    let of = |a: &StoredArtifact| {
        let in_place = a.requires.iter().filter_map(|id| repairs.get(id)).copied();
        a.requires.iter().copied().chain(in_place).chain(goes_on_from(a)).collect()
    };
    stored.artifacts.iter().map(|a| (a.id, of(a))).collect()
}

/// Plans the deletions in `going`, each after those that need it, so that a crash leaves what remains usable.
pub(super) fn delete(
    name: &BackupName,
    store: &StoreName,
    stored: &StoredBackup,
    going: &BTreeMap<ArtifactId, String>,
    draft: &mut Draft,
) {
    let mut open: Vec<&StoredArtifact> =
        stored.artifacts.iter().filter(|a| going.contains_key(&a.id)).collect();
    open.sort_unstable_by_key(|a| (a.newest, a.id));
    let mut dependents: BTreeMap<ArtifactId, Vec<ArtifactId>> = BTreeMap::new();
    for (dependent, needed) in needs(stored).into_iter().filter(|(id, _)| going.contains_key(id)) {
        for id in needed {
            dependents.entry(id).or_default().push(dependent);
        }
    }
    let mut planned: BTreeMap<ArtifactId, StepId> = BTreeMap::new();
    // Each turn plans at least one artifact on which nothing open depends; a circle of dependents is left alone.
    loop {
        let before = open.len();
        open.retain(|artifact| {
            let waits_for = dependents.get(&artifact.id).map_or(&[][..], Vec::as_slice);
            let after: Option<BTreeSet<StepId>> =
                waits_for.iter().map(|id| planned.get(id).copied()).collect();
            let Some(after) = after else { return true };
            let reason = going.get(&artifact.id).cloned().unwrap_or_default();
            let action = Action::Delete { backup: name.clone(), artifact: artifact.id, store: store.clone() };
            planned.insert(artifact.id, draft.step_after(action, reason, after));
            false
        });
        if open.len() == before {
            return;
        }
    }
}
