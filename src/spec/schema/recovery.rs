//! Recoveries and drills.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Ansible, CadenceForm};
use crate::spec::values::{HttpUrl, InnerPath, Length, Line, Name, Size, Text, Word};

/// An ordered plan that rebuilds machines and restores data.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// When it is to be used, for people.
    pub description: Option<Text<Line>>,
    /// Name of the contact.
    pub contact: Option<Text<Name>>,
    /// The longest that it may take.
    pub rto: Option<Text<Length>>,
    /// Its steps.
    #[schemars(required, length(min = 1))]
    pub steps: Option<Vec<RecoveryStep>>,
}

/// One step of a recovery: exactly one of `rebuild`, `restore`, `deploy`, `run`, `wait` and `switch`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["rebuild"] }, { "required": ["restore"] }, { "required": ["deploy"] }, { "required": ["run"] },
    { "required": ["wait"] }, { "required": ["switch"] },
]))]
pub struct RecoveryStep {
    /// What others wait for it by. Default: the name of the machine or the backup that it brings back.
    pub name: Option<Text<Name>>,
    /// Name of the machine to rebuild where it is gone, and to configure.
    pub rebuild: Option<Text<Name>>,
    /// Name of the backup to restore: over its original, or, where a provider keeps its backups, to the place that `to` names.
    pub restore: Option<Text<Name>>,
    /// The playbook that deploys an application.
    pub deploy: Option<Ansible>,
    /// Program and arguments to run.
    #[schemars(length(min = 1))]
    pub run: Option<Vec<String>>,
    /// Name of the machine that `run` runs on. Default: the controller's host, whose `allow.run` must name the program.
    pub on: Option<Text<Name>>,
    /// What to wait for.
    pub wait: Option<WaitFor>,
    /// Name of the traffic to lead elsewhere.
    pub switch: Option<Text<Name>>,
    /// Where `switch` leads it: `primary` or `standby`. Or what a provider's own backup is restored to, which does not exist yet:
    /// `table:NAME`, `instance:NAME`; or the cluster of Atlas that was given up for it, `cluster:NAME`.
    pub to: Option<Text<Word>>,
    /// How long `run` and `wait` may take. Default: 10 minutes.
    pub timeout: Option<Text<Length>>,
    /// The stage that `deploy`, `run`, `wait` and `switch` belong to. Default: `applications`; of `switch`: `traffic`.
    pub stage: Option<RecoveryStage>,
    /// Names of steps that must be done first. Default: all of the stages before, which are machines, databases,
    /// configuration, files, applications, traffic; and what the same stage deploys, runs or waits for earlier.
    pub after: Option<Vec<Text<Name>>>,
}

/// Something that tells that a service is there: exactly one of `tcp`, `http` and `source`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["tcp"] }, { "required": ["http"] }, { "required": ["source"] }]))]
pub struct WaitFor {
    /// A connection is taken there: `HOST:PORT`.
    pub tcp: Option<Text<Word>>,
    /// A GET is answered with a status below 400.
    pub http: Option<Text<HttpUrl>>,
    /// The source of this backup answers.
    pub source: Option<Text<Name>>,
}

/// A stage of a recovery that steps can be put into.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryStage {
    /// With the machines.
    Machines,
    /// With the databases.
    Databases,
    /// With the configuration.
    Configuration,
    /// With files and media.
    Files,
    /// With the applications.
    Applications,
    /// When users are let in again.
    Traffic,
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
    /// How it is restored: `by-hand` runs the commands that the runbook prints, and replays no logs. Default: `backstay`.
    pub how: Option<DrillHow>,
    /// What must hold afterwards.
    #[serde(default)]
    pub check: Vec<DrillCheck>,
    /// Of a recovery: what differs in the machine that is made in the place of the one of this name, to be thrown away.
    #[serde(default)]
    pub stand_in: BTreeMap<String, StandIn>,
}

/// What differs in a machine that a drill makes in the place of a declared one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandIn {
    /// Variables of the template that take the place of the declared ones.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub vars: toml::Table,
    /// The network that a domain of libvirt is in: one without a way to the machines that people work with.
    pub network: Option<Text<Word>>,
    /// Parameters of a stack of CloudFormation that take the place of the declared ones.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Variables of a module of Terraform that take the place of the declared ones.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Where programs are run on it. Default: what the machine's maker tells.
    pub ssh: Option<StandInSsh>,
    /// Further hosts that are the machine, beside its name and its `ssh.host`: `db.example.org`.
    #[serde(default)]
    pub names: Vec<Text<Word>>,
    /// Where what listens at the machine's `HOST:PORT` listens at the stand-in's. Default: the same port of the address that its
    /// maker tells.
    #[serde(default)]
    pub reach: BTreeMap<String, Text<Word>>,
}

/// Where programs are run on a stand-in.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandInSsh {
    /// Name or address.
    pub host: Option<Text<Word>>,
    /// Default: the declared machine's.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
}

/// Something that must hold of restored data: exactly one of `counts`, `sql`, `influxql`, `file`, `command`, `http` and `tcp`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["counts"] }, { "required": ["sql"] }, { "required": ["file"] }, { "required": ["command"] },
    { "required": ["http"] }, { "required": ["tcp"] }, { "required": ["influxql"] },
]))]
pub struct DrillCheck {
    /// `captured`: every table has exactly the rows that were counted when the data was captured. `items`: the table of DynamoDB
    /// that is made of a native backup has as many items as `min` and `max` allow.
    pub counts: Option<DrillCounts>,
    /// One statement that gives one value, which `min`, `max` or `equals` must allow.
    pub sql: Option<String>,
    /// In the drill of a recovery: the backup whose data is asked. Default: the only one that it restores and that can be asked.
    pub backup: Option<Text<Name>>,
    /// One statement that gives one value, which `min`, `max` or `equals` must allow: of InfluxDB.
    pub influxql: Option<String>,
    /// The database that `sql` or `influxql` is asked in. Default: the only one that is declared.
    pub database: Option<Text<Word>>,
    /// The least that `sql` or `influxql` may give, or that `counts = "items"` may come to.
    pub min: Option<i64>,
    /// The most that it may give.
    pub max: Option<i64>,
    /// What it must give, as text.
    pub equals: Option<String>,
    /// A file that must be there, relative to the folder that the data is restored into.
    pub file: Option<Text<InnerPath>>,
    /// The fewest bytes that `file` may have.
    pub min_bytes: Option<Text<Size>>,
    /// The SHA-256 of `file`, hexadecimal.
    pub sha256: Option<Text<Word>>,
    /// Program and arguments to run on what was restored, of those that the controller's `allow.run` names. It must end with
    /// exit status 0.
    #[schemars(length(min = 1))]
    pub command: Option<Vec<String>>,
    /// The URL of a web server that must answer: of drills of recoveries.
    pub http: Option<Text<Word>>,
    /// The status that `http` must be answered with; redirections are not followed. Default: 200.
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// A text that must be in the answer to `http`.
    pub contains: Option<String>,
    /// `HOST:PORT` that must take connections: of drills of recoveries.
    pub tcp: Option<Text<Word>>,
    /// How long `command`, `http` and `tcp` may take. Default: 10 minutes for `command`, else 30 seconds.
    pub timeout: Option<Text<Length>>,
}

/// What counts are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillCounts {
    /// What the capture counted.
    Captured,
    /// How many items there are.
    Items,
}

/// How a drill restores.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillHow {
    /// As `restore` does.
    #[default]
    Backstay,
    /// By the commands that the runbook prints.
    ByHand,
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
