//! When a backup is due: slots against artifacts. Used by the planner, by `status` and by `explain`.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::{Limits, cannot_run, facts::Facts, logs, sweeps::SWEEP_AFTER};
use crate::{
    artifact::{ArtifactId, Depth, Kind},
    inventory::{Inventory, StoredArtifact, StoredBackup},
    spec::{
        Backup, Cadence, CatchUp, Schedule, Spec, Verify,
        names::{BackupName, StoreName},
        retention::{self, Candidate, Keep, Verdict},
    },
};

/// One kind of one backup against its schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dueness {
    /// What the schedule makes.
    pub kind: Kind,
    /// When.
    pub cadence: Cadence,
    /// The longest time between two of its slots, seconds.
    pub expected_interval_seconds: u64,
    /// The latest slot that has fallen due.
    pub slot: Option<Timestamp>,
    /// When the next one falls due.
    pub next: Option<Timestamp>,
    /// What became of the latest slot.
    pub state: SlotState,
}

/// What became of a schedule's latest slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotState {
    /// No slot has fallen due yet.
    NoneYet,
    /// This artifact fills it.
    Filled(ArtifactId),
    /// Nothing fills it, and it is to be made.
    Due,
    /// Nothing fills it, and `catch_up = "skip"` leaves it out, for it fell due longer ago than `grace`.
    Skipped,
    /// This build can't make it.
    CannotRun,
}

/// What a backup must capture next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) kind: Kind,
    pub(crate) slot: Option<Timestamp>,
    pub(crate) reason: String,
}

/// Each kind of `backup` against its schedule, strongest first.
pub(crate) fn assess(facts: &Facts<'_>, backup: &Backup) -> Vec<Dueness> {
    let filled = |kind, slot| filling(facts, backup, kind, slot).map(|a| a.id);
    let kinds = backup.policy.schedules.iter().rev();
    kinds
        .map(|(kind, cadence)| {
            let schedule = schedule(facts.spec, backup, cadence);
            let slot = schedule.latest_due(facts.now);
            let state = match slot {
                _ if !can_run(facts, backup, *kind) => SlotState::CannotRun,
                None => SlotState::NoneYet,
                Some(slot) => match filled(*kind, slot) {
                    Some(artifact) => SlotState::Filled(artifact),
                    None if is_left_out(backup, schedule.due_at(slot), facts.now) => SlotState::Skipped,
                    None => SlotState::Due,
                },
            };
            let next = schedule.next_due_after(facts.now);
            let expected_interval_seconds = schedule.longest_gap().as_secs();
            Dueness { kind: *kind, cadence: cadence.clone(), expected_interval_seconds, slot, next, state }
        })
        .collect()
}

/// What data `backup` must capture now, if any: the strongest kind that is due, its first full, or one after a gap in its log.
pub(crate) fn need(facts: &Facts<'_>, backup: &Backup) -> Option<Need> {
    let dueness = assess(facts, backup);
    if dueness.iter().all(|d| d.state == SlotState::CannotRun) {
        return None;
    }
    // A capture carries the latest slot of all kinds that it fills, so that a late full spares the increments that
    // fell due in the meantime.
    let latest = |kind: Kind| dueness.iter().filter(|d| kind.fills(d.kind)).filter_map(|d| d.slot).max();
    if !has_full(facts, backup) {
        let reason = "the first full".to_owned();
        return Some(Need { kind: Kind::Full, slot: latest(Kind::Full), reason });
    }
    if keeps_a_log(facts, backup)
        && let Some(gap) = logs::gap(facts, backup)
    {
        return Some(Need {
            kind: Kind::Full,
            slot: latest(Kind::Full),
            reason: format!("{gap}: a full begins anew"),
        });
    }
    let due = dueness.iter().find(|d| d.kind != Kind::Log && d.state == SlotState::Due)?;
    let reason = format!("slot {} has no {}", due.slot.unwrap_or(facts.now), due.kind);
    Some(Need { kind: due.kind, slot: latest(due.kind), reason })
}

/// The compiled schedule of a cadence of `backup`.
pub(crate) fn schedule(spec: &Spec, backup: &Backup, cadence: &Cadence) -> Schedule {
    let folder = spec.moved.folder(&backup.name);
    Schedule::new(cadence.clone(), spec.fleet.time_zone.clone(), &folder, backup.policy.jitter)
}

fn keeps_a_log(facts: &Facts<'_>, backup: &Backup) -> bool {
    backup.policy.schedules.contains_key(&Kind::Log) && can_run(facts, backup, Kind::Log)
}

fn can_run(facts: &Facts<'_>, backup: &Backup, kind: Kind) -> bool {
    kind != Kind::Log || facts.cannot_run(&cannot_run::logs_of(backup.name.as_str())).is_none()
}

/// Whether `catch_up` leaves a slot out.
fn is_left_out(backup: &Backup, due_at: Timestamp, now: Timestamp) -> bool {
    let late = now.duration_since(due_at).unsigned_abs();
    backup.policy.catch_up == CatchUp::Skip && late >= backup.policy.grace
}

/// Artifacts that count: good, with all that they require, and not dated in the future.
fn counting<'a>(facts: &Facts<'a>, backup: &Backup) -> impl Iterator<Item = &'a StoredArtifact> {
    let (holdings, now) = (facts.holdings(&backup.name), facts.now);
    let all = holdings.into_iter().flat_map(|(_, stored)| stored.artifacts.iter().map(move |a| (stored, a)));
    all.filter(move |(stored, a)| stored.is_whole(a) && !a.is_from_the_future(now)).map(|(_, a)| a)
}

pub(super) fn has_full(facts: &Facts<'_>, backup: &Backup) -> bool {
    counting(facts, backup).any(|a| a.kind == Kind::Full)
}

/// The contents that fill the latest slots of a backup's schedules.
pub(super) fn filling_now(facts: &Facts<'_>, backup: &Backup) -> BTreeSet<ArtifactId> {
    let slots = assess(facts, backup).into_iter().filter_map(|d| Some((d.kind, d.slot?)));
    slots.filter_map(|(kind, slot)| filling(facts, backup, kind, slot)).map(StoredArtifact::content).collect()
}

/// The artifact that fills a slot, in any store that can be believed.
fn filling<'a>(
    facts: &Facts<'a>,
    backup: &Backup,
    kind: Kind,
    slot: Timestamp,
) -> Option<&'a StoredArtifact> {
    let fills = |a: &&StoredArtifact| a.kind.fills(kind) && a.slot.is_some_and(|carried| carried >= slot);
    counting(facts, backup).find(fills)
}

/// The next moment after `now` at which the plan would change by time alone: a slot falls due, a window opens, a lease
/// lapses, a check is due, an artifact expires, a sweep ripens. `None` when there is none.
pub fn next_due(spec: &Spec, inventory: &Inventory, limits: &Limits, now: Timestamp) -> Option<Timestamp> {
    let facts = Facts::gather(spec, inventory, limits, now);
    let backups = spec.backups.values().filter(|b| facts.cannot_run(&format!("backup.{}", b.name)).is_none());
    let captures = backups.flat_map(|backup| next_captures(&facts, backup)).min();
    let stored = facts.protected.keys().filter_map(|name| next_in_stores(&facts, name)).min();
    let suspensions = inventory.suspensions(spec).into_iter().flat_map(|it| [it.from, Some(it.until)]);
    let suspensions = suspensions.flatten().filter(|at| *at > now).min();
    let heals =
        inventory.heals(now).into_values().filter_map(|heals| heals.again_at()).filter(|at| *at > now).min();
    let drills = super::drill::next_slot(&facts);
    captures.into_iter().chain(stored).chain(suspensions).chain(heals).chain(drills).min()
}

fn next_captures(facts: &Facts<'_>, backup: &Backup) -> Vec<Timestamp> {
    let schedules = backup.policy.schedules.values().map(|cadence| schedule(facts.spec, backup, cadence));
    let slots = schedules.filter_map(|schedule| schedule.next_due_after(facts.now));
    let opening = backup.policy.window.next_opening(facts.now, &facts.spec.fleet.time_zone);
    slots.chain(opening.filter(|at| *at > facts.now)).collect()
}

fn next_in_stores(facts: &Facts<'_>, name: &BackupName) -> Option<Timestamp> {
    let protected = facts.protected.get(name)?;
    let in_store = |store| {
        let stored = facts.stored(name, store).ok()?;
        let checks = super::verification::next_check(facts, name, store);
        let leases = stored.leases.values().map(|lease| lease.until);
        let leases = leases.chain(stored.readings.values().map(|reading| reading.until));
        let sweeps = stored.candidates.values().filter_map(|since| since.checked_add(SWEEP_AFTER).ok());
        let expiry = next_expiry(facts, (name, store), stored);
        leases.chain(sweeps).chain(checks).chain(expiry).filter(|at| *at > facts.now).min()
    };
    protected.stores.iter().filter_map(in_store).min()
}

/// When the first artifact outlives the rule of its kind.
fn next_expiry(
    facts: &Facts<'_>,
    (name, store): (&BackupName, &StoreName),
    stored: &StoredBackup,
) -> Option<Timestamp> {
    let rules = facts.rules(facts.protected.get(name)?, store);
    let candidates: Vec<Candidate<'_>> = stored.artifacts.iter().map(Candidate::of).collect();
    let verdicts = retention::decide(rules, &candidates, facts.now_in(facts.store(store).ok()?));
    let only_young = |verdict: Verdict| match verdict {
        Verdict::Keep(reasons) => match reasons.as_slice() {
            [Keep::Young { until }] => Some(*until),
            _ => None,
        },
        Verdict::Delete(_) => None,
    };
    verdicts.into_values().filter_map(only_young).min()
}

/// The interval at which `backup` checks its artifacts to `depth`, deepest first.
pub(super) fn intervals(verify: &Verify) -> [(Depth, Option<Duration>); 3] {
    [(Depth::Plaintext, verify.plaintext), (Depth::Data, verify.data), (Depth::Metadata, verify.metadata)]
}
