//! How a backup is: what could be restored, how old that is, and what each store holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{ProviderStatus, provider};
use crate::{
    artifact::{ArtifactId, Depth, Kind},
    inventory::{KeptLog, LogReader, StoredArtifact, StoredBackup, Stretch, Window, stretches, windows},
    plan::{
        Action, Plan,
        due::{self, Dueness},
        facts::Facts,
    },
    spec::{
        Backup,
        names::{BackupName, FolderName, StoreName},
    },
};

/// How one backup is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackupStatus {
    /// Whether a declaration covers it.
    pub declared: Declared,
    /// The folder of its artifacts in the stores, where that has another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_as: Option<FolderName>,
    /// For people.
    pub description: Option<String>,
    /// Why it can't run here, if it can't.
    pub cannot_run: Option<String>,
    /// The newest moment that it can be brought back to, as far as can be seen.
    pub newest: Option<RestorePoint>,
    /// The stretches of time to any second of which it can be brought back, by its log; oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Stretch>,
    /// What the provider of its source keeps by itself, where anything is declared of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderStatus>,
    /// What its server keeps of its log until that is captured, as far as that can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_log: Option<KeptLog>,
    /// The reader of its log, where one runs on this host or did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_reader: Option<LogReader>,
    /// How old the newest moment is that it can be brought back to, by an artifact or by its provider, seconds.
    pub age_seconds: Option<i64>,
    /// The most data, in time, that may be lost; and whether that holds.
    pub objective: Option<Objective>,
    /// The longest that bringing it back may take, seconds, where that is declared.
    pub rto_seconds: Option<u64>,
    /// Each kind against its schedule, strongest first.
    pub schedules: Vec<Dueness>,
    /// The newest good artifact's moment, by kind and store.
    pub successes: BTreeMap<Kind, BTreeMap<StoreName, Timestamp>>,
    /// What each of its stores holds, and each other in which something of it was found.
    pub stores: BTreeMap<StoreName, StoredStatus>,
}

/// Whether a declaration covers a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Declared {
    /// The revision in force declares it.
    Declared,
    /// It was found in a store, and nothing declares it. It is kept.
    Orphaned,
}

/// A moment that a backup can be brought back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestorePoint {
    /// The artifact.
    pub artifact: ArtifactId,
    /// What it holds.
    pub kind: Kind,
    /// The newest data that it brings back.
    pub at: Timestamp,
    /// Where good copies of it are.
    pub stores: Vec<StoreName>,
}

/// A recovery point objective and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Objective {
    /// The most data, in time, that may be lost, seconds.
    pub seconds: u64,
    /// How much later a run may end, seconds.
    pub grace_seconds: u64,
    /// Whether it holds.
    pub state: ObjectiveState,
    /// When it is breached unless a newer restore point comes.
    pub breached_at: Option<Timestamp>,
}

/// Whether a recovery point objective holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveState {
    /// The newest restore point is young enough.
    Met,
    /// It is too old.
    Breached,
    /// There is none.
    NeverSucceeded,
    /// Stores that could not be seen may hold a younger one.
    Unknown(String),
}

/// What one store holds of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoredStatus {
    /// Why nothing is known of it.
    pub unknown: Option<String>,
    /// How many artifacts there are.
    pub artifacts: usize,
    /// Bytes of everything in the backup's folder.
    pub bytes: u64,
    /// How many copies are still to be made there.
    pub missing: usize,
    /// Artifacts known to be damaged.
    pub damaged: Vec<ArtifactId>,
    /// Native backups of which nobody can tell from here how they are, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub out_of_reach: BTreeMap<ArtifactId, String>,
    /// Manifests that can't be read or trusted.
    pub unreadable: Vec<ArtifactId>,
    /// Artifacts that a person said to keep.
    pub held: Vec<ArtifactId>,
    /// Artifacts that were never checked.
    pub unchecked: usize,
    /// Checks that are due now.
    pub checks_due: usize,
    /// When an artifact was last found good there, by depth of the check.
    pub checked: BTreeMap<Depth, Timestamp>,
}

impl BackupStatus {
    /// The same at a later moment, before anything but its age has changed.
    pub(super) fn seen_at(&self, now: Timestamp) -> Self {
        let newest = newest_moment(self.newest.as_ref(), self.provider.as_ref());
        Self { age_seconds: newest.map(|at| age_seconds(at, now)), ..self.clone() }
    }

    /// The newest moment that it can be brought back to, by an artifact or by its provider.
    pub fn newest_moment(&self) -> Option<Timestamp> {
        newest_moment(self.newest.as_ref(), self.provider.as_ref())
    }
}

fn newest_moment(artifact: Option<&RestorePoint>, provider: Option<&ProviderStatus>) -> Option<Timestamp> {
    let by_provider = provider.and_then(|provider| provider.window()).map(|window| window.end);
    artifact.map(|point| point.at).max(by_provider)
}

fn age_seconds(newest: Timestamp, now: Timestamp) -> i64 {
    now.duration_since(newest).as_secs()
}

pub(super) fn all(facts: &Facts<'_>, plan: &Plan) -> BTreeMap<BackupName, BackupStatus> {
    let found = facts.inventory.stores.values().filter_map(|s| s.known()).flat_map(|s| s.backups.iter());
    let found = found.filter(|(_, stored)| **stored != *StoredBackup::NOTHING);
    let found = found.map(|(folder, _)| facts.spec.moved.backup(folder));
    let names: BTreeSet<BackupName> = facts.protected.keys().cloned().chain(found).collect();
    let pending = Pending::of(plan);
    names.into_iter().map(|name| (name.clone(), of(facts, &name, &pending))).collect()
}

/// Steps that a plan has for a backup in a store.
struct Pending<'a> {
    copies: BTreeMap<(&'a BackupName, &'a StoreName), usize>,
    checks: BTreeMap<(&'a BackupName, &'a StoreName), usize>,
}

impl<'a> Pending<'a> {
    fn of(plan: &'a Plan) -> Self {
        let mut pending = Self { copies: BTreeMap::new(), checks: BTreeMap::new() };
        for step in &plan.steps {
            match &step.action {
                Action::Copy { backup, to, .. } => *pending.copies.entry((backup, to)).or_default() += 1,
                Action::Verify { backup, store, .. } => {
                    *pending.checks.entry((backup, store)).or_default() += 1;
                }
                _ => {}
            }
        }
        pending
    }
}

fn of(facts: &Facts<'_>, name: &BackupName, pending: &Pending<'_>) -> BackupStatus {
    let declared = facts.spec.backups.get(name);
    let holdings = facts.holdings(name);
    let reached: Vec<_> = holdings
        .iter()
        .flat_map(|(store, stored)| windows(stored, facts.now).into_iter().map(|w| (*store, w)))
        .collect();
    let newest = newest(facts.now, &holdings, &reached);
    let provider = declared.and_then(|backup| provider::of(facts, backup));
    let newest_moment = newest_moment(newest.as_ref(), provider.as_ref());
    let resource = if name.is_infra() { "infra".to_owned() } else { format!("backup.{name}") };
    BackupStatus {
        declared: match facts.protected.contains_key(name) {
            true => Declared::Declared,
            false => Declared::Orphaned,
        },
        stored_as: super::stored_as(facts.spec, name),
        description: declared.and_then(|backup| backup.description.clone()),
        cannot_run: facts.cannot_run(&resource).map(str::to_owned),
        age_seconds: newest_moment.map(|at| age_seconds(at, facts.now)),
        objective: declared.and_then(|backup| objective(facts, backup, newest_moment)),
        rto_seconds: declared.and_then(|backup| backup.policy.rto).map(|rto| rto.as_secs()),
        newest,
        provider,
        kept_log: facts.inventory.kept_logs.get(name).and_then(|seen| seen.found.known()?.clone()),
        log_reader: declared.and_then(|backup| log_reader(facts, backup)),
        windows: stretches(reached.iter().map(|(_, window)| window)),
        schedules: declared.map(|backup| due::assess(facts, backup)).unwrap_or_default(),
        successes: successes(facts.now, &holdings),
        stores: stores(facts, name, pending),
    }
}

/// The reader of a log that is declared: what is left of another one says nothing.
fn log_reader(facts: &Facts<'_>, backup: &Backup) -> Option<LogReader> {
    let folder = facts.spec.moved.folder(&backup.name);
    let is_read = backup.policy.schedules.contains_key(&Kind::Log) && backup.source.has_readable_log();
    facts.inventory.readers.get(&folder).filter(|_| is_read).cloned()
}

/// The newest data, or the newest log that goes on from some without a gap.
fn newest(
    now: Timestamp,
    holdings: &[(&StoreName, &StoredBackup)],
    reached: &[(&StoreName, Window<'_>)],
) -> Option<RestorePoint> {
    let data = holdings.iter().filter_map(|(_, stored)| stored.newest_whole(now));
    let by_log = || reached.iter().filter(|(_, window)| !window.logs.is_empty());
    let candidates = data.chain(by_log().map(|(_, window)| window.newest()));
    let newest = candidates.max_by_key(|a| (a.newest, a.content()))?;
    let reaches = |store: &StoreName| {
        by_log().any(|(other, window)| {
            *other == store && window.logs.iter().any(|log| log.content() == newest.content())
        })
    };
    let has = |(store, stored): &(&StoreName, &StoredBackup)| match newest.kind {
        Kind::Log => reaches(store),
        _ => stored.good_content(newest.content()).is_some(),
    };
    let stores = holdings.iter().filter(|holding| has(holding)).map(|(name, _)| (*name).clone()).collect();
    Some(RestorePoint { artifact: newest.id, kind: newest.kind, at: newest.newest, stores })
}

fn objective(facts: &Facts<'_>, backup: &Backup, newest: Option<Timestamp>) -> Option<Objective> {
    let rpo = backup.policy.rpo?;
    let allowed: Duration = rpo.saturating_add(backup.policy.grace);
    let breached_at = newest.map(|at| at.checked_add(allowed).unwrap_or(Timestamp::MAX));
    let unseen = backup.stores.iter().find_map(|store| facts.store(store).err());
    let state = match (breached_at, unseen) {
        (Some(at), _) if at > facts.now => ObjectiveState::Met,
        (_, Some(why)) => ObjectiveState::Unknown(why),
        (Some(_), None) => ObjectiveState::Breached,
        (None, None) => ObjectiveState::NeverSucceeded,
    };
    let grace_seconds = backup.policy.grace.as_secs();
    Some(Objective { seconds: rpo.as_secs(), grace_seconds, state, breached_at })
}

fn successes(
    now: Timestamp,
    holdings: &[(&StoreName, &StoredBackup)],
) -> BTreeMap<Kind, BTreeMap<StoreName, Timestamp>> {
    let mut successes: BTreeMap<Kind, BTreeMap<StoreName, Timestamp>> = BTreeMap::new();
    for (store, stored) in holdings {
        for artifact in stored.artifacts.iter().filter(|a| a.is_good() && !a.is_from_the_future(now)) {
            let of_kind = successes.entry(artifact.kind).or_default();
            match of_kind.get_mut(*store) {
                Some(last) => *last = (*last).max(artifact.newest),
                None => drop(of_kind.insert((*store).clone(), artifact.newest)),
            }
        }
    }
    successes
}

fn stores(facts: &Facts<'_>, name: &BackupName, pending: &Pending<'_>) -> BTreeMap<StoreName, StoredStatus> {
    let declared = facts.protected.get(name).map_or(&[][..], |p| p.stores).iter();
    let holds =
        |(store, _): &(&StoreName, _)| facts.stored(name, store).is_ok_and(|s| s != StoredBackup::NOTHING);
    let found = facts.inventory.stores.iter().filter(holds).map(|(store, _)| store);
    let names: BTreeSet<&StoreName> = declared.chain(found).collect();
    let status = |store: &StoreName| match facts.stored(name, store) {
        Err(why) => StoredStatus { unknown: Some(why), ..StoredStatus::default() },
        Ok(stored) => StoredStatus {
            missing: pending.copies.get(&(name, store)).copied().unwrap_or_default(),
            checks_due: pending.checks.get(&(name, store)).copied().unwrap_or_default(),
            ..stored_status(stored)
        },
    };
    names.into_iter().map(|store| (store.clone(), status(store))).collect()
}

fn stored_status(stored: &StoredBackup) -> StoredStatus {
    let ids = |wanted: fn(&StoredArtifact) -> bool| {
        stored.artifacts.iter().filter(|a| wanted(a)).map(|a| a.id).collect::<Vec<_>>()
    };
    let checked = [Depth::Metadata, Depth::Data, Depth::Plaintext].into_iter().filter_map(|depth| {
        let last = stored.artifacts.iter().filter_map(|a| a.verified.at_least(depth)).max()?;
        Some((depth, last))
    });
    StoredStatus {
        unknown: None,
        artifacts: stored.artifacts.len(),
        bytes: stored.bytes,
        missing: 0,
        damaged: ids(StoredArtifact::is_damaged),
        out_of_reach: stored.artifacts.iter().filter_map(|a| Some((a.id, a.unknown()?.to_owned()))).collect(),
        unreadable: stored.unreadable.keys().copied().collect(),
        held: ids(|a| a.held.is_some()),
        unchecked: ids(|a| a.verified.at_least(Depth::Metadata).is_none()).len(),
        checks_due: 0,
        checked: checked.collect(),
    }
}
