//! What the drill of a whole recovery does.

use std::{collections::BTreeSet, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Restore, Work};
use crate::spec::{
    RecoveryStage, RehearsalCheck,
    names::{BackupName, DrillName, RecoveryName, VmName},
};

/// The drill of a recovery, decided in full: machines of its own are made, data is restored into them, what must hold is checked, and the
/// machines are removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearse {
    /// Its name in the declaration.
    pub drill: DrillName,
    /// The slot that it fills; `None` when a person asks for it.
    pub slot: Option<Timestamp>,
    /// What is brought back.
    pub recovery: RecoveryName,
    /// What is done, each behind what it waits for. Machines are named as they are declared.
    pub parts: Vec<RehearsalPart>,
    /// The moments that this brings back.
    pub points: Vec<RehearsedPoint>,
    /// The declared steps that are not done, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// What must hold afterwards.
    pub checks: Vec<RehearsalCheck>,
}

/// A part of a recovery that is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RehearsalPart {
    /// The number of the declared step, from 1.
    pub step: usize,
    /// When it comes.
    pub stage: RecoveryStage,
    /// What the declared step is, as a digest.
    pub digest: String,
    /// The numbers of the parts before it that must be done, from 0.
    pub after: BTreeSet<usize>,
    /// What is done.
    pub work: Work,
}

/// The moment that the data of a backup is brought back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RehearsedPoint {
    /// The backup.
    pub backup: BackupName,
    /// The moment.
    pub point: Timestamp,
    /// Whether that is the newest that could be brought back: only then its age says something.
    pub is_newest: bool,
}

impl Rehearse {
    /// What is restored.
    pub fn restores(&self) -> impl Iterator<Item = &Restore> {
        self.parts.iter().filter_map(|part| part.work.reads())
    }

    /// The machines that are made, by the names of the declared ones.
    pub fn machines(&self) -> impl Iterator<Item = &VmName> {
        self.parts.iter().filter_map(|part| match &part.work {
            Work::Provision(vm) => Some(vm),
            _ => None,
        })
    }
}

/// `drill site: recovery site on machines of its own`
impl fmt::Display for Rehearse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drill {}: recovery {} on machines of its own", self.drill, self.recovery)
    }
}
