//! How drills stand.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::estimate::{self, Estimate, Length};
use crate::{
    artifact::{Kind, drill::Drilled},
    plan::{drill, facts::Facts},
    spec::{
        DrillSubject,
        names::{BackupName, DrillName},
    },
};

/// How a drill stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrillStatus {
    /// The backup that it tries.
    pub backup: BackupName,
    /// The newest result, without what it seals.
    pub last: Option<Drilled>,
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
    /// How long the newest one that came to usable data took, where that is longer than allowed.
    pub fn too_slow(&self) -> Option<(Duration, Duration)> {
        let (took, allowed) = (self.last.as_ref()?.rto_seconds?, self.rto_seconds?);
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

/// Every drill of a backup.
pub(super) fn all(facts: &Facts<'_>) -> BTreeMap<DrillName, DrillStatus> {
    let drills = facts.spec.drills.iter().filter_map(|(name, declared)| {
        let DrillSubject::Backup(backup) = &declared.subject else { return None };
        let (dueness, history) = drill::assess(facts, name)?;
        let last = history.last.map(|last| Drilled { sealed: None, ..last });
        let rto = facts.spec.backups.get(backup)?.policy.rto;
        let status = DrillStatus {
            backup: backup.clone(),
            last,
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
        };
        Some((name.clone(), status))
    });
    drills.collect()
}
