//! Schedules as a scheduler holds them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    artifact::Kind,
    spec::{Cadence, Spec, names::BackupName},
};

/// One schedule as armed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmedSchedule {
    /// The backup.
    pub backup: BackupName,
    /// What is to be made.
    pub kind: Kind,
    /// When.
    pub cadence: Cadence,
}

impl Spec {
    /// Whether a schedule is declared exactly so.
    pub fn declares(&self, schedule: &ArmedSchedule) -> bool {
        let backup = self.backups.get(&schedule.backup);
        backup.and_then(|backup| backup.policy.schedules.get(&schedule.kind)) == Some(&schedule.cadence)
    }

    /// Every declared schedule.
    pub fn schedules(&self) -> impl Iterator<Item = ArmedSchedule> {
        self.backups.iter().flat_map(|(name, backup)| {
            let schedules = backup.policy.schedules.iter();
            schedules.map(|(kind, cadence)| ArmedSchedule {
                backup: name.clone(),
                kind: *kind,
                cadence: cadence.clone(),
            })
        })
    }
}

/// What a scheduler holds of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Armed {
    /// Which scheduler it is, by which configuration of this host and which version: of another one everything may differ.
    pub by: String,
    /// What is armed, and reads as we write it.
    pub schedules: BTreeSet<ArmedSchedule>,
    /// What we armed and somebody changed: how it differs.
    pub altered: BTreeMap<ArmedSchedule, String>,
    /// What looks like ours and bears no proof of it, by its place: why it is left alone.
    pub strangers: BTreeMap<String, String>,
}

impl From<BTreeSet<ArmedSchedule>> for Armed {
    fn from(schedules: BTreeSet<ArmedSchedule>) -> Self {
        Self { schedules, ..Self::default() }
    }
}
