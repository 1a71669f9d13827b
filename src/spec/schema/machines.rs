//! Machines, recoveries and drills.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::CadenceForm;
use crate::spec::values::{InnerPath, Name, Size, Text, Word};

/// A machine that can be rebuilt: exactly one of `cloudformation`, `libvirt` and `terraform`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["cloudformation"] }, { "required": ["libvirt"] }, { "required": ["terraform"] },
]))]
pub struct Vm {
    /// The template, from the infra repo's `templates/` or built in.
    #[schemars(required)]
    pub template: Option<Text<InnerPath>>,
    /// The template's variables.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub vars: toml::Table,
    /// How the machine is configured.
    pub configure: Option<Configure>,
    /// Settings of the stack.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub cloudformation: Option<toml::Table>,
    /// Settings of the domain.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub libvirt: Option<toml::Table>,
    /// Settings of the module.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub terraform: Option<toml::Table>,
}

/// How a machine is configured.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// By a playbook of Ansible.
    #[schemars(required)]
    pub ansible: Option<Ansible>,
}

/// A playbook of Ansible.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ansible {
    /// Path in the infra repo.
    #[schemars(required)]
    pub playbook: Option<Text<InnerPath>>,
    /// Hosts to limit the run to.
    pub limit: Option<Text<Word>>,
}

/// An ordered plan that rebuilds machines and restores data.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// Its steps.
    #[schemars(required, length(min = 1))]
    pub steps: Option<Vec<RecoveryStep>>,
}

/// One step of a recovery: exactly one of `rebuild`, `restore` and `run`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["rebuild"] }, { "required": ["restore"] }, { "required": ["run"] },
]))]
pub struct RecoveryStep {
    /// Name of the machine to rebuild.
    pub rebuild: Option<Text<Name>>,
    /// Name of the backup to restore.
    pub restore: Option<Text<Name>>,
    /// Program and arguments to run on the machine `on`.
    #[schemars(length(min = 1))]
    pub run: Option<Vec<String>>,
    /// Name of the machine that `run` runs on.
    pub on: Option<Text<Name>>,
    /// Names of machines and backups whose steps must be done first.
    pub after: Option<Vec<Text<Name>>>,
}

/// A scheduled restore test: of a `backup`, or of a `recovery`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["backup"] }, { "required": ["recovery"] }]))]
pub struct Drill {
    /// Name of the backup to restore.
    pub backup: Option<Text<Name>>,
    /// Name of the recovery to try.
    pub recovery: Option<Text<Name>>,
    /// When.
    #[schemars(required)]
    pub schedule: Option<CadenceForm>,
    /// Which restore point. Default: `latest`.
    pub at: Option<DrillPoint>,
    /// What must hold afterwards.
    #[serde(default)]
    pub check: Vec<DrillCheck>,
}

/// Something that must hold of restored data: exactly one of `counts`, `sql` and `file`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["counts"] }, { "required": ["sql"] }, { "required": ["file"] }]))]
pub struct DrillCheck {
    /// `captured`: every table has exactly the rows that were counted when the data was captured.
    pub counts: Option<DrillCounts>,
    /// One statement that gives one value, which `min`, `max` or `equals` must allow.
    pub sql: Option<String>,
    /// The database that `sql` is asked in. Default: the only one that is declared.
    pub database: Option<Text<Word>>,
    /// The least that `sql` may give.
    pub min: Option<i64>,
    /// The most that `sql` may give.
    pub max: Option<i64>,
    /// What `sql` must give, as text.
    pub equals: Option<String>,
    /// A file that must be there, relative to the folder that the data is restored into.
    pub file: Option<Text<InnerPath>>,
    /// The fewest bytes that `file` may have.
    pub min_bytes: Option<Text<Size>>,
    /// The SHA-256 of `file`, hexadecimal.
    pub sha256: Option<Text<Word>>,
}

/// What counts are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillCounts {
    /// What the capture counted.
    Captured,
}

/// The restore point that a drill uses.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillPoint {
    /// The newest.
    #[default]
    Latest,
    /// Any restore point, any store in rotation.
    Random,
}
