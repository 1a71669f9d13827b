//! Plans that rebuild machines and restore data, and the tests of both.

use std::{cmp::Ordering, collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Ansible, Cadence, DrillCheck, NewPlace, Rehearsal, Source, Spec, names::*, traffic::Side};

/// An ordered plan that rebuilds machines and restores data.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// For people: when it is to be used.
    pub description: Option<String>,
    /// Whom to call.
    pub contact: Option<ContactName>,
    /// The longest that it may take.
    pub rto: Option<Duration>,
    /// Its steps, as declared.
    pub steps: Vec<RecoveryStep>,
}

impl Recovery {
    /// The longest that it may take: as declared, or the shortest of what it restores.
    pub fn rto(&self, spec: &Spec) -> Option<Duration> {
        let of_step = |step: &RecoveryStep| spec.backups.get(step.action.restores()?)?.policy.rto;
        self.rto.or_else(|| self.steps.iter().filter_map(of_step).min())
    }

    /// The numbers of the steps that each step waits for. Where nothing is declared: all of the stages before, and what the
    /// same stage deploys, runs or waits for earlier.
    pub fn waits(&self, spec: &Spec) -> Vec<BTreeSet<usize>> {
        let stages: Vec<RecoveryStage> = self.steps.iter().map(|step| step.action.stage(spec)).collect();
        let numbered = || self.steps.iter().enumerate();
        let of_step = |(number, step): (usize, &RecoveryStep)| match &step.after {
            Some(after) => {
                let is_named =
                    |other: &RecoveryStep| other.name.as_ref().is_some_and(|name| after.contains(name));
                numbered().filter(|(_, it)| is_named(it)).map(|(it, _)| it).collect()
            }
            None => {
                let is_before = |other: usize, it: &RecoveryStep| match stages[other].cmp(&stages[number]) {
                    Ordering::Less => true,
                    Ordering::Equal => other < number && it.action.is_ordered() && step.action.is_ordered(),
                    Ordering::Greater => false,
                };
                numbered().filter(|(other, it)| is_before(*other, it)).map(|(it, _)| it).collect()
            }
        };
        numbered().map(of_step).collect()
    }
}

/// One step of a recovery.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoveryStep {
    /// What others wait for it by: its own name, or that of what it brings back.
    pub name: Option<String>,
    /// What is done.
    pub action: RecoveryAction,
    /// What must be done first, by name; the default order when `None`.
    pub after: Option<Vec<String>>,
}

/// What one step of a recovery does.
#[derive(Clone, Debug, PartialEq)]
pub enum RecoveryAction {
    /// Rebuilds a machine where it is gone, and configures it.
    Rebuild(VmName),
    /// Restores a backup over the original.
    Restore(BackupName),
    /// Has a provider restore a backup that it keeps to something new.
    RestoreTo(RestoreTo),
    /// Runs a playbook of the infra repo, in the stage that is declared.
    Deploy(Ansible, Option<RecoveryStage>),
    /// Runs a program.
    Run(RunStep),
    /// Waits until something holds.
    Wait(WaitStep),
    /// Leads users elsewhere.
    Switch(SwitchStep),
}

impl RecoveryAction {
    /// The backup that it restores, over the original or beside it.
    pub fn restores(&self) -> Option<&BackupName> {
        match self {
            RecoveryAction::Restore(backup) => Some(backup),
            RecoveryAction::RestoreTo(restore) => Some(&restore.backup),
            RecoveryAction::Rebuild(_)
            | RecoveryAction::Deploy(..)
            | RecoveryAction::Run(_)
            | RecoveryAction::Wait(_)
            | RecoveryAction::Switch(_) => None,
        }
    }

    /// The stage that it belongs to.
    pub fn stage(&self, spec: &Spec) -> RecoveryStage {
        let declared = match self {
            RecoveryAction::Rebuild(_) => Some(RecoveryStage::Machines),
            RecoveryAction::Restore(backup) => Some(spec.backups.get(backup).map_or(
                RecoveryStage::Databases,
                |backup| match backup.source {
                    Source::Files(_) | Source::S3(_) => RecoveryStage::Files,
                    Source::Etcd(_) => RecoveryStage::Configuration,
                    _ => RecoveryStage::Databases,
                },
            )),
            RecoveryAction::RestoreTo(_) => Some(RecoveryStage::Databases),
            RecoveryAction::Deploy(_, stage) => *stage,
            RecoveryAction::Run(run) => run.stage,
            RecoveryAction::Wait(wait) => wait.stage,
            RecoveryAction::Switch(switch) => switch.stage.or(Some(RecoveryStage::Traffic)),
        };
        declared.unwrap_or(RecoveryStage::Applications)
    }

    /// Whether it comes in the order of its declaration: what is run may rest on what was run before.
    fn is_ordered(&self) -> bool {
        matches!(
            self,
            RecoveryAction::Deploy(..)
                | RecoveryAction::Run(_)
                | RecoveryAction::Wait(_)
                | RecoveryAction::Switch(_)
        )
    }
}

/// A backup that its provider keeps, and what it is restored to: what the source's own provider makes, or is told to erase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreTo {
    /// The backup: a [native](Source::is_native) one.
    pub backup: BackupName,
    /// What it is restored to.
    pub to: NewPlace,
}

/// A program that a recovery runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStep {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The machine that it runs on; the controller's host when `None`.
    pub on: Option<VmName>,
    /// How long it may take.
    pub timeout: Duration,
    /// The stage that is declared.
    pub stage: Option<RecoveryStage>,
}

/// Traffic that a recovery leads elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchStep {
    /// Which.
    pub traffic: TrafficName,
    /// Where to.
    pub to: Side,
    /// The stage that is declared.
    pub stage: Option<RecoveryStage>,
}

/// Something that a recovery waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitStep {
    /// What must hold.
    pub until: Ready,
    /// How long it may take.
    pub timeout: Duration,
    /// The stage that is declared.
    pub stage: Option<RecoveryStage>,
}

/// Something that tells that a service is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ready {
    /// A connection is taken: `HOST:PORT`.
    Tcp(String),
    /// A GET is answered with a status below 400.
    Http(String),
    /// The backup's source answers a probe.
    Source(BackupName),
}

/// `pavroto-2:3306 takes connections`
impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ready::Tcp(place) => write!(f, "{place} takes connections"),
            Ready::Http(url) => write!(f, "{url} answers"),
            Ready::Source(backup) => write!(f, "the source of {backup} answers"),
        }
    }
}

/// The stages of a recovery, in the order in which they come where nothing else is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryStage {
    /// Machines are made and configured.
    Machines,
    /// Databases come back.
    Databases,
    /// Configuration comes back: etcd.
    Configuration,
    /// Files and media come back.
    Files,
    /// Applications are deployed and started.
    Applications,
    /// Users are let in again.
    Traffic,
}

impl RecoveryStage {
    /// Its name in declarations and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            RecoveryStage::Machines => "machines",
            RecoveryStage::Databases => "databases",
            RecoveryStage::Configuration => "configuration",
            RecoveryStage::Files => "files",
            RecoveryStage::Applications => "applications",
            RecoveryStage::Traffic => "traffic",
        }
    }
}

/// A scheduled restore test.
#[derive(Clone, Debug, PartialEq)]
pub struct Drill {
    /// What is tried.
    pub subject: DrillSubject,
    /// When.
    pub schedule: Cadence,
    /// How it is restored.
    pub how: DrillHow,
    /// Which restore point: `latest`, `random`.
    pub at: DrillPoint,
    /// What must hold afterwards of the data of a backup.
    pub checks: Vec<DrillCheck>,
}

/// What a drill tries.
#[derive(Clone, Debug, PartialEq)]
pub enum DrillSubject {
    /// The restore of one backup.
    Backup(BackupName),
    /// A whole recovery, on machines of its own.
    Recovery(Rehearsal),
}

impl DrillSubject {
    /// The recovery that is tried, if one is.
    pub fn recovery(&self) -> Option<&RecoveryName> {
        match self {
            DrillSubject::Recovery(rehearsal) => Some(&rehearsal.recovery),
            DrillSubject::Backup(_) => None,
        }
    }
}

/// How a drill restores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillHow {
    /// As `restore` does.
    #[default]
    Backstay,
    /// By the lines that runbooks print.
    ByHand,
}

/// The restore point that a drill uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrillPoint {
    /// The newest.
    #[default]
    Latest,
    /// Any restore point, any store in rotation.
    Random,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Fleet;

    fn step(name: &str, action: RecoveryAction, after: Option<&[&str]>) -> RecoveryStep {
        let after = after.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        RecoveryStep { name: Some(name.to_owned()), action, after }
    }

    fn run(stage: Option<RecoveryStage>) -> RecoveryAction {
        let command = vec!["true".to_owned()];
        RecoveryAction::Run(RunStep { command, on: None, timeout: Duration::from_secs(1), stage })
    }

    #[test]
    fn steps_wait_for_the_stages_before_and_programs_for_the_programs_before() {
        let fleet =
            Fleet { name: "f".parse().unwrap(), time_zone: jiff::tz::TimeZone::UTC, recipients: Vec::new() };
        let recovery = Recovery {
            description: None,
            contact: None,
            rto: None,
            steps: vec![
                step("traffic", run(Some(RecoveryStage::Traffic)), None),
                step("web", RecoveryAction::Rebuild("web".parse().unwrap()), None),
                step("db", RecoveryAction::Rebuild("db".parse().unwrap()), None),
                step("shop", RecoveryAction::Restore("shop".parse().unwrap()), None),
                step("early", RecoveryAction::Restore("early".parse().unwrap()), Some(&["db"])),
                step("first", run(None), None),
                step("second", run(None), None),
            ],
        };
        let waits = recovery.waits(&Spec::of(fleet));
        let expect: Vec<BTreeSet<usize>> =
            [&[1, 2, 3, 4, 5, 6][..], &[], &[], &[1, 2], &[2], &[1, 2, 3, 4], &[1, 2, 3, 4, 5]]
                .map(|numbers| numbers.iter().copied().collect())
                .into();
        assert_eq!(waits, expect);
    }
}
