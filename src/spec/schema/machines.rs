//! Machines: what makes them, how they are reached, and what configures them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Secret;
use crate::spec::values::{AbsolutePath, HttpUrl, InnerPath, Size, SshKey, Text, Word};

/// A machine that can be rebuilt: exactly one of `cloudformation`, `libvirt` and `terraform`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["cloudformation"] }, { "required": ["libvirt"] }, { "required": ["terraform"] },
]))]
pub struct Vm {
    /// What it is made from, of the infra repo's `templates/` or built in: cloud-init's user data (libvirt), a stack
    /// (CloudFormation), a module (Terraform).
    #[schemars(required)]
    pub template: Option<Text<InnerPath>>,
    /// The template's variables.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub vars: toml::Table,
    /// How programs are run on it.
    pub ssh: Option<Ssh>,
    /// How the machine is configured.
    pub configure: Option<Configure>,
    /// What happens when it is gone. Default: `report`.
    pub on_loss: Option<OnLoss>,
    /// A stack of CloudFormation.
    pub cloudformation: Option<Cloudformation>,
    /// A domain of libvirt.
    pub libvirt: Option<Libvirt>,
    /// A module of Terraform or OpenTofu.
    pub terraform: Option<Terraform>,
}

/// How programs are run on a machine.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// Whom to log in as. Default: `root`.
    pub user: Option<Text<Word>>,
    /// Name or address. Default: what the machine's maker tells.
    pub host: Option<Text<Word>>,
    /// Default: 22.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The private key to log in with. The host's `allow.secrets` binds it to the machine's name.
    #[schemars(required)]
    pub identity: Option<Secret>,
    /// The machine's public key, pinned: `ssh-ed25519 AAAA…`. Default: the one that it was made with.
    pub host_key: Option<Text<SshKey>>,
}

/// What happens when a machine is gone.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// It is told, and a person rebuilds it.
    #[default]
    Report,
    /// It is rebuilt at once.
    Rebuild,
}

/// A domain of libvirt: a disk over a base image, set up by cloud-init.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Libvirt {
    /// The hypervisor. Default: `qemu:///system`. The host's `allow.machines` must name it.
    pub uri: Option<Text<Word>>,
    /// The base image (qcow2) on the hypervisor's host: read, never written.
    #[schemars(required)]
    pub image: Option<Text<AbsolutePath>>,
    /// The folder of the disks that are made. Default: `/var/lib/libvirt/images`.
    pub disks: Option<Text<AbsolutePath>>,
    /// Size of the disk. Default: that of the image.
    pub disk: Option<Text<Size>>,
    /// Default: 2 GiB.
    pub memory: Option<Text<Size>>,
    /// How many. Default: 2.
    #[schemars(range(min = 1))]
    pub cpus: Option<u32>,
    /// The network that it is in. Default: `default`.
    pub network: Option<Text<Word>>,
}

/// A stack of CloudFormation.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cloudformation {
    /// Where. The host's `allow.machines` must name it: `cloudformation:eu-north-1`.
    #[schemars(required)]
    pub region: Option<Text<Word>>,
    /// Where it isn't AWS.
    pub endpoint: Option<Text<HttpUrl>>,
    /// Public half of the access key. Default: the host's own role or environment.
    pub access_key_id: Option<Secret>,
    /// Secret half of the access key.
    pub secret_access_key: Option<Secret>,
    /// The stack's name. Default: the machine's.
    pub stack: Option<Text<Word>>,
    /// The stack's parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// What the stack may do beyond making machines, such as `CAPABILITY_IAM`.
    #[serde(default)]
    pub capabilities: Vec<Text<Word>>,
}

/// A module of Terraform or OpenTofu.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Terraform {
    /// Default: `terraform`. The host's `allow.run` must name it.
    pub program: Option<TerraformProgram>,
    /// The module's variables.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Where the module's state is kept. Default: `backend`.
    pub state: Option<TerraformState>,
}

/// Where a module's state is kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TerraformState {
    /// In the backend that the module names.
    #[default]
    Backend,
    /// On the controller's host, with which it may be lost.
    Local,
}

/// What plans and applies a module.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TerraformProgram {
    /// HashiCorp's.
    #[default]
    Terraform,
    /// OpenTofu's.
    Tofu,
}

/// How the machine is configured.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// By a playbook of Ansible.
    #[schemars(required)]
    pub ansible: Option<Ansible>,
}

/// A playbook of Ansible. The host's `allow.run` must name `ansible-playbook`: a playbook can do anything.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ansible {
    /// Path in the infra repo.
    #[schemars(required)]
    pub playbook: Option<Text<InnerPath>>,
    /// Hosts to limit the run to.
    pub limit: Option<Text<Word>>,
    /// The inventory, as a path in the infra repo. Default: one of the declared machines, by their names.
    pub inventory: Option<Text<InnerPath>>,
}
