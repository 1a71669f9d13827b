//! How drills stand.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::estimate::{self, Estimate, Length};
use crate::{
    artifact::{
        Kind,
        drill::{DrillOutcome, Drilled},
        rehearsed::Rehearsed,
    },
    plan::{drill, facts::Facts},
    spec::{
        DrillSubject,
        names::{BackupName, DrillName, RecoveryName},
    },
};

/// What a drill tries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tried {
    /// The restore of a backup.
    Backup(BackupName),
    /// A whole recovery.
    Recovery(RecoveryName),
}

/// `the restore of agama`
impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tried::Backup(backup) => write!(f, "the restore of {backup}"),
            Tried::Recovery(recovery) => write!(f, "recovery {recovery}"),
        }
    }
}

/// The newest result of a drill, without what it seals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LastDrill {
    /// Of the restore of a backup.
    Backup(Box<Drilled>),
    /// Of a whole recovery.
    Recovery(Box<Rehearsed>),
}

impl LastDrill {
    /// When it began.
    pub fn began(&self) -> Timestamp {
        match self {
            LastDrill::Backup(it) => it.began,
            LastDrill::Recovery(it) => it.began,
        }
    }

    /// How it ended.
    pub fn outcome(&self) -> &DrillOutcome {
        match self {
            LastDrill::Backup(it) => &it.outcome,
            LastDrill::Recovery(it) => &it.outcome,
        }
    }

    /// How many declared steps it left out.
    pub fn left_out(&self) -> usize {
        match self {
            LastDrill::Backup(_) => 0,
            LastDrill::Recovery(it) => it.left_out,
        }
    }

    /// How long it took to data that can be used, seconds, if it came to that.
    pub fn rto_seconds(&self) -> Option<u64> {
        match self {
            LastDrill::Backup(it) => it.rto_seconds,
            LastDrill::Recovery(it) => it.rto_seconds,
        }
    }
}

/// How a drill stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrillStatus {
    /// What it tries.
    #[serde(flatten)]
    pub tried: Tried,
    /// The newest result.
    pub last: Option<LastDrill>,
    /// When the newest one began that passed.
    pub last_passed: Option<Timestamp>,
    /// The latest slot that has come.
    pub slot: Option<Timestamp>,
    /// Whether that slot has no result.
    pub is_due: bool,
    /// When the next one comes.
    pub next: Option<Timestamp>,
    /// The longest that recovery may take, seconds.
    pub rto_seconds: Option<u64>,
    /// How long the restore would take now.
    pub estimate: Option<Estimate>,
    /// Why it can't run here, if so.
    pub cannot_run: Option<String>,
}

impl DrillStatus {
    /// The name of what it tries, for people: `agama`, `recovery site`.
    pub fn what(&self) -> String {
        match &self.tried {
            Tried::Backup(backup) => backup.to_string(),
            recovery @ Tried::Recovery(_) => recovery.to_string(),
        }
    }

    /// The backup that it tries, if it tries only one.
    pub fn backup(&self) -> Option<&BackupName> {
        match &self.tried {
            Tried::Backup(backup) => Some(backup),
            Tried::Recovery(_) => None,
        }
    }

    /// How long the newest one that came to usable data took, where that is longer than allowed.
    pub fn too_slow(&self) -> Option<(Duration, Duration)> {
        let (took, allowed) = (self.last.as_ref()?.rto_seconds()?, self.rto_seconds?);
        (took > allowed).then(|| (Duration::from_secs(took), Duration::from_secs(allowed)))
    }
}

/// How long what was captured of a backup is, oldest first: without logs, which add to other data.
pub(super) fn lengths(facts: &Facts<'_>, backup: &BackupName) -> Vec<Length> {
    let stored = facts.holdings(backup).into_iter().flat_map(|(_, stored)| &stored.artifacts);
    // What holds only what changed says nothing of the whole.
    let whole = stored.filter(|it| it.kind != Kind::Log && it.requires.is_empty() && it.is_good());
    let lengths: BTreeMap<Timestamp, u64> = whole.map(|it| (it.newest, it.length)).collect();
    lengths.into_iter().map(|(at, bytes)| Length { at, bytes }).collect()
}

/// Every drill.
pub(super) fn all(facts: &Facts<'_>) -> BTreeMap<DrillName, DrillStatus> {
    let drills = facts.spec.drills.iter().filter_map(|(name, declared)| {
        let status = match &declared.subject {
            DrillSubject::Backup(backup) => of_backup(facts, name, backup)?,
            DrillSubject::Recovery(rehearsal) => of_recovery(facts, name, &rehearsal.recovery)?,
        };
        Some((name.clone(), status))
    });
    drills.collect()
}

fn of_backup(facts: &Facts<'_>, name: &DrillName, backup: &BackupName) -> Option<DrillStatus> {
    let (dueness, history) = drill::assess(facts, name)?;
    let rto = facts.spec.backups.get(backup)?.policy.rto;
    Some(DrillStatus {
        tried: Tried::Backup(backup.clone()),
        last: history.last.map(|last| LastDrill::Backup(Box::new(Drilled { sealed: None, ..last }))),
        last_passed: history.passed.as_ref().map(|passed| passed.began),
        slot: dueness.slot,
        is_due: dueness.is_due,
        next: dueness.next,
        rto_seconds: rto.map(|rto| rto.as_secs()),
        estimate: history
            .passed
            .as_ref()
            .and_then(|it| estimate::restore(it, &lengths(facts, backup), facts.now)),
        cannot_run: facts.cannot_run(&format!("drill.{name}")).map(str::to_owned),
    })
}

/// How long it would take stands with the recovery itself.
fn of_recovery(facts: &Facts<'_>, name: &DrillName, recovery: &RecoveryName) -> Option<DrillStatus> {
    let (dueness, history) = drill::assess_rehearsal(facts, name)?;
    let rto = facts.spec.recoveries.get(recovery)?.rto(facts.spec);
    Some(DrillStatus {
        tried: Tried::Recovery(recovery.clone()),
        last: history.last.map(|last| LastDrill::Recovery(Box::new(Rehearsed { sealed: None, ..last }))),
        last_passed: history.passed.as_ref().map(|passed| passed.began),
        slot: dueness.slot,
        is_due: dueness.is_due,
        next: dueness.next,
        rto_seconds: rto.map(|rto| rto.as_secs()),
        estimate: None,
        cannot_run: facts.cannot_run(&format!("drill.{name}")).map(str::to_owned),
    })
}
