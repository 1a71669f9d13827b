//! What a recovery does, a part at a time.

use std::{collections::BTreeSet, fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Restore;
use crate::{
    artifact::recovered::{MadeOf, Part, PartId, RecoverySubject, Terms},
    spec::{
        Ansible, NewPlace, Ready, RecoveryStage,
        names::{BackupName, TrafficName, VmName},
        traffic::Side,
    },
};

/// A part of a recovery, decided in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recover {
    /// What is brought back as a whole.
    pub subject: RecoverySubject,
    /// When the whole was begun, which tells it from every other time.
    pub run: Timestamp,
    /// How many parts the whole has, those that are done among them.
    pub parts: usize,
    /// When this plan of it was made: the whole is done once all of the last one is.
    pub attempt: Timestamp,
    /// How many parts this plan does.
    pub left: usize,
    /// On which terms.
    pub terms: Terms,
    /// The number of the declared step, from 1.
    pub step: usize,
    /// What the declared step is, as a digest.
    pub digest: String,
    /// When it comes.
    pub stage: RecoveryStage,
    /// What is done.
    pub work: Work,
}

impl Recover {
    /// What the records know it by.
    pub fn id(&self) -> PartId {
        PartId { step: self.step, part: self.work.part() }
    }
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Work {
    /// Removes a machine with its disks.
    Remove {
        /// The machine.
        vm: VmName,
        /// What of it is removed.
        remains: Remains,
    },
    /// Makes a machine.
    Provision(VmName),
    /// Waits until programs can be run on a machine, and runs its playbook.
    Configure(VmName),
    /// Restores a backup over its original.
    Restore {
        /// What, and from where.
        restore: Restore,
        /// What becomes of data that is there.
        existing: Existing,
    },
    /// Has a provider restore what it keeps of a backup to something new.
    Renew(Renew),
    /// Runs a playbook.
    Deploy(Ansible),
    /// Runs a program.
    Run {
        /// The program and its arguments.
        command: Vec<String>,
        /// The machine; this host when `None`.
        on: Option<VmName>,
        /// How long it may take.
        within: Duration,
    },
    /// Waits until something holds.
    Wait {
        /// What.
        until: Ready,
        /// How long.
        within: Duration,
    },
    /// Leads users elsewhere.
    Switch {
        /// What leads them.
        traffic: TrafficName,
        /// Where to.
        to: Side,
        /// By which values.
        values: BTreeSet<String>,
    },
}

/// What a provider is to make of what it keeps of a backup, decided in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// The backup.
    pub backup: BackupName,
    /// Of what it is made.
    pub from: KeptBy,
    /// What it is made as.
    pub to: NewPlace,
    /// By which what is made is known again, where the provider has tags.
    pub mark: String,
    /// Since when this very recovery may have begun it; `None` where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Timestamp>,
}

/// What a provider keeps of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeptBy {
    /// One of its own backups, which the last artifact of this names.
    Artifact(Restore),
    /// Any second: this moment.
    Moment(Timestamp),
}

impl KeptBy {
    /// What it is, as records tell; `None` of a restore of nothing.
    pub fn made_of(&self) -> Option<MadeOf> {
        match self {
            KeptBy::Artifact(restore) => restore.artifacts.last().copied().map(MadeOf::Artifact),
            KeptBy::Moment(at) => Some(MadeOf::Moment(*at)),
        }
    }
}

/// What is removed of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remains {
    /// All of it, also while it runs: a person said so by its name.
    Everything,
    /// What this very recovery left half made: where it runs it is a failure.
    HalfMade,
}

/// What becomes of data that is there, when a backup is to be restored over its original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Existing {
    /// There should be none: where there is it is a failure.
    Refused,
    /// It stays, and nothing is restored; it is restored where there is none.
    Kept,
    /// It is lost: a person said so by the backup's name.
    Replaced,
}

impl Work {
    /// What it is for.
    pub fn part(&self) -> Part {
        match self {
            Work::Remove { .. } => Part::Remove,
            Work::Provision(_) => Part::Provision,
            Work::Configure(_) => Part::Configure,
            Work::Restore { .. } | Work::Renew(_) => Part::Restore,
            Work::Deploy(_) | Work::Run { .. } => Part::Start,
            Work::Wait { .. } => Part::Verify,
            Work::Switch { .. } => Part::Switch,
        }
    }

    /// The restore whose artifacts it reads.
    pub fn reads(&self) -> Option<&Restore> {
        match self {
            Work::Restore { restore, .. } | Work::Renew(Renew { from: KeptBy::Artifact(restore), .. }) => {
                Some(restore)
            }
            _ => None,
        }
    }

    /// The backup that it restores.
    pub fn restores(&self) -> Option<&BackupName> {
        match self {
            Work::Restore { restore, .. } => Some(&restore.backup),
            Work::Renew(renew) => Some(&renew.backup),
            _ => None,
        }
    }

    /// The machine that it makes, configures or removes: nothing else does so meanwhile.
    pub fn made(&self) -> Option<&VmName> {
        match self {
            Work::Remove { vm, .. } | Work::Provision(vm) | Work::Configure(vm) => Some(vm),
            _ => None,
        }
    }

    /// The machine that it is about.
    pub fn machine(&self) -> Option<&VmName> {
        match self {
            Work::Remove { vm, .. } | Work::Provision(vm) | Work::Configure(vm) => Some(vm),
            Work::Run { on, .. } => on.as_ref(),
            Work::Restore { .. }
            | Work::Renew(_)
            | Work::Deploy(_)
            | Work::Wait { .. }
            | Work::Switch { .. } => None,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Remove { vm, .. } => write!(f, "remove machine {vm}"),
            Work::Provision(vm) => write!(f, "make machine {vm}"),
            Work::Configure(vm) => write!(f, "configure machine {vm}"),
            Work::Restore { restore, existing: Existing::Kept } => {
                write!(f, "{restore}, unless there is data")
            }
            Work::Restore { restore, .. } => restore.fmt(f),
            Work::Renew(renew) => renew.fmt(f),
            Work::Deploy(ansible) => write!(f, "run playbook {}", ansible.playbook),
            Work::Run { command, on, .. } => {
                let on = on.as_ref().map_or("this host", |vm| vm.as_str());
                write!(f, "run `{}` on {on}", command.join(" "))
            }
            Work::Wait { until, .. } => write!(f, "wait until {until}"),
            Work::Switch { traffic, to, values } => {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                write!(f, "switch traffic {traffic} to {to} ({})", values.join(", "))
            }
        }
    }
}

/// `restore sessions 20261120T010000Z-3k7qz0m4xw from vault to table sessions-recovered`
impl fmt::Display for Renew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Renew { backup, from, to, .. } = self;
        write!(f, "restore {backup} ")?;
        match from {
            KeptBy::Artifact(restore) => {
                restore.artifacts.last().map_or(Ok(()), |point| write!(f, "{point} "))?;
                write!(f, "from {} to {to}", restore.store)
            }
            KeptBy::Moment(at) => write!(f, "as of {at:.0} from its provider to {to}"),
        }
    }
}
