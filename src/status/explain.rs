//! Explanations: why a backup is due or not, and why an artifact is kept or may go.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    artifact::{ArtifactId, Depth, Kind},
    inventory::{Condition, Inventory, StoredArtifact, StoredBackup},
    plan::{
        self, Limits,
        due::{self, Dueness},
        facts::Facts,
    },
    spec::{
        Backup, Spec,
        names::{BackupName, FolderName, StoreName},
        retention::{self, Candidate, Verdict},
    },
};

/// How many slots to come are shown of each kind.
const SLOTS_SHOWN: usize = 3;

/// Why a backup is due or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupExplanation {
    /// The backup.
    pub backup: BackupName,
    /// The folder of its artifacts in the stores, where that has another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_as: Option<FolderName>,
    /// What asks for it.
    pub asked_by: AskedBy,
    /// Each kind against its schedule, strongest first.
    pub schedules: Vec<Dueness>,
    /// The moments at which slots to come fall due, by kind.
    pub next: BTreeMap<Kind, Vec<Timestamp>>,
    /// What is to be captured now, and why.
    pub due: Vec<String>,
    /// Until when a window denies captures, if it does now.
    pub window_opens: Option<Timestamp>,
    /// Why it can't run here, if it can't.
    pub cannot_run: Option<String>,
    /// Its stores in the order in which they take captures, and each other that holds something of it.
    pub stores: Vec<(StoreName, Held)>,
    /// Why declared checks are made less deep in a store.
    pub shallower_checks: Vec<String>,
    /// Where the fleet's people tell the time; for texts only.
    #[serde(skip)]
    pub zone: TimeZone,
}

/// What asks for a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AskedBy {
    /// Its policy's schedules.
    Schedules,
    /// Every commit: it is the infra repo's own.
    Commits,
    /// Nothing declares it; it was found in a store. An `[orphan.NAME]` lets its artifacts go at this age, seconds.
    Nothing {
        /// `None` where they are kept.
        delete_after_seconds: Option<u64>,
    },
}

/// What a store has of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// So many artifacts.
    Artifacts(usize),
    /// It can't be used now, and why: what it has is unknown.
    Unknown(String),
}

/// Why a backup is due or not; `None` when nothing declares it and no store that can be seen holds anything of it.
pub fn backup(
    spec: &Spec,
    inventory: &Inventory,
    limits: &Limits,
    name: &BackupName,
    now: Timestamp,
) -> Option<BackupExplanation> {
    let facts = Facts::gather(spec, inventory, limits, now);
    let stores = held(&facts, name);
    let unscheduled = |asked_by, due, resource: &str| BackupExplanation {
        backup: name.clone(),
        stored_as: super::stored_as(spec, name),
        asked_by,
        schedules: Vec::new(),
        next: BTreeMap::new(),
        due,
        window_opens: None,
        cannot_run: facts.cannot_run(resource).map(str::to_owned),
        stores: stores.clone(),
        shallower_checks: Vec::new(),
        zone: spec.fleet.time_zone.clone(),
    };
    if let Some(declared) = spec.backups.get(name) {
        let resource = format!("backup.{name}");
        let due = due::need(&facts, declared).map(|need| format!("{}: {}", need.kind, need.reason));
        let explained = unscheduled(AskedBy::Schedules, due.into_iter().collect(), &resource);
        return Some(scheduled(explained, &facts, declared));
    }
    if facts.protected.contains_key(name) {
        return Some(unscheduled(AskedBy::Commits, bundles_due(spec, inventory, limits, now), "infra"));
    }
    let found = stores.iter().any(|(_, held)| matches!(held, Held::Artifacts(_)));
    let delete_after_seconds = spec.orphans.get(name).map(|orphan| orphan.delete_after.as_secs());
    found.then(|| unscheduled(AskedBy::Nothing { delete_after_seconds }, Vec::new(), ""))
}

fn scheduled(explained: BackupExplanation, facts: &Facts<'_>, declared: &Backup) -> BackupExplanation {
    let (window, zone, now) = (&declared.policy.window, &explained.zone, facts.now);
    let slots = |cadence| {
        let schedule = due::schedule(facts.spec, declared, cadence);
        std::iter::successors(schedule.next_due_after(now), |at| schedule.next_due_after(*at))
            .take(SLOTS_SHOWN)
            .collect()
    };
    BackupExplanation {
        schedules: due::assess(facts, declared),
        next: declared.policy.schedules.iter().map(|(kind, cadence)| (*kind, slots(cadence))).collect(),
        window_opens: window.is_closed(now, zone).then(|| window.next_opening(now, zone)).flatten(),
        shallower_checks: match declared.policy.verify.plaintext {
            Some(_) => {
                let stores = declared.stores.iter();
                stores.filter_map(|store| facts.shallower(Depth::Plaintext, store)).collect()
            }
            None => Vec::new(),
        },
        ..explained
    }
}

/// What each store that should hold the backup has of it; then each other that has something.
fn held(facts: &Facts<'_>, name: &BackupName) -> Vec<(StoreName, Held)> {
    let declared = facts.protected.get(name).map_or(&[][..], |protected| protected.stores);
    let has = |store: &StoreName| match facts.stored(name, store) {
        Ok(stored) => Held::Artifacts(stored.artifacts.len() + stored.unreadable.len()),
        Err(why) => Held::Unknown(why),
    };
    let further = facts.inventory.stores.keys().filter(|store| !declared.contains(store));
    let further = further.filter(|store| matches!(has(store), Held::Artifacts(1..)));
    declared.iter().chain(further).map(|store| (store.clone(), has(store))).collect()
}

/// The bundles of the infra repo that a pass would make, and why.
fn bundles_due(spec: &Spec, inventory: &Inventory, limits: &Limits, now: Timestamp) -> Vec<String> {
    let steps = plan::plan(spec, inventory, limits, now).steps;
    let bundle = |step: plan::Step| match step.action {
        plan::Action::Capture(capture) if capture.backup.is_infra() => {
            Some(format!("{} into {}: {}", capture.kind, capture.store, step.reason))
        }
        _ => None,
    };
    steps.into_iter().filter_map(bundle).collect()
}

/// Why an artifact is kept or may go, store by store, and how it hangs together with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArtifactExplanation {
    /// The artifact.
    pub artifact: ArtifactId,
    /// Its backup.
    pub backup: BackupName,
    /// The folder of its backup in the stores, where that has another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_as: Option<FolderName>,
    /// What it holds.
    pub kind: Kind,
    /// The slot that it fills.
    pub slot: Option<Timestamp>,
    /// The newest data that it brings back.
    pub newest: Timestamp,
    /// What becomes of it in each store that has it.
    pub stores: BTreeMap<StoreName, Fate>,
    /// Stores that could not be looked into, and why.
    pub unseen: BTreeMap<StoreName, String>,
    /// How it hangs together with others.
    pub lineage: Lineage,
    /// Where the fleet's people tell the time; for texts only.
    #[serde(skip)]
    pub zone: TimeZone,
}

/// What becomes of an artifact in one store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// What the rules say.
    Judged(Verdict),
    /// No declaration covers it there: it is kept.
    Orphaned,
    /// It is damaged; and what the rules say.
    Damaged(String, Verdict),
    /// Nobody can tell how it is, and why: it is kept.
    Unknown(String),
}

/// How an artifact hangs together with others of its backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lineage {
    /// The full that opened its epoch.
    pub epoch: ArtifactId,
    /// The artifact whose segments it shares.
    pub base: Option<ArtifactId>,
    /// Artifacts that share its segments.
    pub based_on_it: Vec<ArtifactId>,
    /// What a restore needs besides it.
    pub requires: Vec<ArtifactId>,
    /// Whose restore needs it.
    pub required_by: Vec<ArtifactId>,
    /// What it repairs and replaces.
    pub supersedes: Option<ArtifactId>,
    /// What repairs and replaces it.
    pub superseded_by: Option<ArtifactId>,
}

/// Why an artifact is kept or may go; `None` when no store that can be seen has it.
pub fn artifact(
    spec: &Spec,
    inventory: &Inventory,
    limits: &Limits,
    id: ArtifactId,
    now: Timestamp,
) -> Option<ArtifactExplanation> {
    let facts = Facts::gather(spec, inventory, limits, now);
    let seen = |name: &StoreName| facts.store(name).ok();
    let all = inventory.stores.keys().filter_map(seen).flat_map(|store| store.backups.iter());
    let (folder, found) = all.filter_map(|(folder, stored)| Some((folder, stored.artifact(id)?))).next()?;
    let backup = spec.moved.backup(folder);
    let holdings = facts.holdings(&backup);
    let fates = holdings
        .iter()
        .filter_map(|(store, stored)| Some(((*store).clone(), fate(&facts, &backup, store, stored, id)?)));
    Some(ArtifactExplanation {
        artifact: id,
        stored_as: super::stored_as(spec, &backup),
        backup: backup.clone(),
        kind: found.kind,
        slot: found.slot,
        newest: found.newest,
        stores: fates.collect(),
        unseen: inventory.stores.keys().filter_map(|s| Some((s.clone(), facts.store(s).err()?))).collect(),
        lineage: lineage(found, &holdings),
        zone: spec.fleet.time_zone.clone(),
    })
}

fn fate(
    facts: &Facts<'_>,
    backup: &BackupName,
    store: &StoreName,
    stored: &StoredBackup,
    id: ArtifactId,
) -> Option<Fate> {
    let artifact = stored.artifact(id)?;
    let Some(protected) = facts.protected.get(backup).filter(|p| p.stores.contains(store)) else {
        return Some(Fate::Orphaned);
    };
    if let Some(why) = artifact.unknown() {
        return Some(Fate::Unknown(why.to_owned()));
    }
    let known = stored.artifacts.iter().filter(|artifact| artifact.unknown().is_none());
    let candidates: Vec<Candidate<'_>> = known.map(Candidate::of).collect();
    let now = facts.now_in(facts.store(store).ok()?);
    let verdict = retention::decide(facts.rules(protected, store), &candidates, now).remove(&id)?;
    match &artifact.condition {
        Condition::Good => Some(Fate::Judged(verdict)),
        Condition::Damaged(why) => Some(Fate::Damaged(why.to_string(), verdict)),
        Condition::Unknown(why) => Some(Fate::Unknown(why.to_string())),
    }
}

fn lineage(of: &StoredArtifact, holdings: &[(&StoreName, &StoredBackup)]) -> Lineage {
    let ids = |wanted: &dyn Fn(&StoredArtifact) -> bool| {
        let all = holdings.iter().flat_map(|(_, stored)| stored.artifacts.iter());
        let mut ids: Vec<ArtifactId> = all.filter(|a| wanted(a)).map(|a| a.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    Lineage {
        epoch: of.epoch,
        base: of.base,
        based_on_it: ids(&|a| a.base == Some(of.id)),
        requires: of.requires.clone(),
        required_by: ids(&|a| a.requires.contains(&of.id)),
        supersedes: of.supersedes,
        superseded_by: ids(&|a| a.supersedes == Some(of.id)).pop(),
    }
}
