//! Machines, the plans that rebuild them, and the tests of both.

use std::collections::BTreeMap;

use super::{Cadence, DrillCheck, names::*};

/// A machine that can be rebuilt.
#[derive(Clone, Debug, PartialEq)]
pub struct Vm {
    /// The template, from the infra repo's `templates/` or built in.
    pub template: String,
    /// The template's variables.
    pub vars: BTreeMap<String, toml::Value>,
    /// The provisioner's table, by its key.
    pub provisioner: (String, toml::Table),
    /// The Ansible playbook that configures it.
    pub ansible: Option<Ansible>,
}

/// How a machine is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ansible {
    /// Path in the infra repo.
    pub playbook: String,
    /// Hosts to limit the run to.
    pub limit: Option<String>,
}

/// An ordered plan that rebuilds machines and restores data.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// Its steps, as declared.
    pub steps: Vec<RecoveryStep>,
}

/// One step of a recovery.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoveryStep {
    /// What is done.
    pub action: RecoveryAction,
    /// Names of machines and backups that must be ready first.
    pub after: Vec<String>,
}

/// What one step of a recovery does.
#[derive(Clone, Debug, PartialEq)]
pub enum RecoveryAction {
    /// Rebuilds a machine.
    Rebuild(VmName),
    /// Restores a backup.
    Restore(BackupName),
    /// Runs a program on a machine.
    Run { command: Vec<String>, on: VmName },
}

/// A scheduled restore test.
#[derive(Clone, Debug, PartialEq)]
pub struct Drill {
    /// What is tried.
    pub subject: DrillSubject,
    /// When.
    pub schedule: Cadence,
    /// Which restore point: `latest`, `random`.
    pub at: DrillPoint,
    /// What must hold afterwards.
    pub checks: Vec<DrillCheck>,
}

/// What a drill tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrillSubject {
    /// The restore of one backup.
    Backup(BackupName),
    /// A whole recovery.
    Recovery(RecoveryName),
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
