//! Machines: what makes them, how they are reached, and what configures them.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{AwsCredentials, SecretRef, names::VmName};

/// A machine that can be rebuilt.
#[derive(Clone, Debug, PartialEq)]
pub struct Vm {
    /// Its name.
    pub name: VmName,
    /// The declared machine that it stands in for, where a drill makes it.
    pub stands_for: Option<VmName>,
    /// What it is made from, of the infra repo's `templates/` or built in. What it renders to depends on what makes the
    /// machine: user data of cloud-init, a stack, a module.
    pub template: String,
    /// The template's variables.
    pub vars: BTreeMap<String, toml::Value>,
    /// What makes it.
    pub provision: Provision,
    /// How programs are run on it.
    pub ssh: Option<Ssh>,
    /// The Ansible playbook that configures it.
    pub ansible: Option<Ansible>,
    /// What happens when it is gone.
    pub on_loss: OnLoss,
}

impl Vm {
    /// The name in the declaration, by which the host allows it secrets and other machines know it.
    pub fn declared_name(&self) -> &VmName {
        self.stands_for.as_ref().unwrap_or(&self.name)
    }
}

/// What makes a machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Provision {
    /// A domain of libvirt.
    Libvirt(Libvirt),
    /// A stack of CloudFormation.
    Cloudformation(Cloudformation),
    /// A module of Terraform or OpenTofu.
    Terraform(Terraform),
}

impl Provision {
    /// The key of its table in a declaration.
    pub fn kind(&self) -> &'static str {
        match self {
            Provision::Libvirt(_) => "libvirt",
            Provision::Cloudformation(_) => "cloudformation",
            Provision::Terraform(_) => "terraform",
        }
    }
}

impl Provision {
    /// Where it is made, for people: the same as long as whoever is asked whether it is there is the same.
    pub fn place(&self) -> String {
        match self {
            Provision::Libvirt(libvirt) => format!("{} in {}", libvirt.uri, libvirt.disks.display()),
            Provision::Cloudformation(stack) => {
                let of =
                    stack.endpoint.as_ref().map(|endpoint| format!(" of {endpoint}")).unwrap_or_default();
                let name = stack.stack.as_ref().map(|name| format!(", stack {name}")).unwrap_or_default();
                format!("cloudformation {}{of}{name}", stack.region)
            }
            // Where its state is only the module itself tells.
            Provision::Terraform(terraform) => terraform.program.as_str().to_owned(),
        }
    }
}

/// A domain of libvirt: a disk over a base image, set up by cloud-init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libvirt {
    /// Which hypervisor.
    pub uri: String,
    /// The base image (qcow2): read, never written.
    pub image: PathBuf,
    /// The folder of the disks that are made.
    pub disks: PathBuf,
    /// The size of the disk, bytes; that of the image when `None`.
    pub disk: Option<u64>,
    /// Bytes.
    pub memory: u64,
    /// How many.
    pub cpus: u32,
    /// The network that it is in.
    pub network: String,
}

/// A stack of CloudFormation.
#[derive(Clone, Debug, PartialEq)]
pub struct Cloudformation {
    /// Where.
    pub region: String,
    /// Another server than that of AWS.
    pub endpoint: Option<String>,
    /// The access key; the environment's when `None`.
    pub credentials: Option<AwsCredentials>,
    /// The stack's name; the machine's when `None`.
    pub stack: Option<String>,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// What the stack may do beyond making machines, such as `CAPABILITY_IAM`.
    pub capabilities: Vec<String>,
}

/// A module of Terraform or OpenTofu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terraform {
    /// The program.
    pub program: TerraformProgram,
    /// The module's variables.
    pub variables: BTreeMap<String, String>,
    /// Where its state is kept.
    pub state: TerraformState,
}

/// Where a module's state is kept, without which nothing knows of its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TerraformState {
    /// In the backend that the module names; without one the module is refused.
    #[default]
    Backend,
    /// On the controller's host: whoever loses that loses the state, and a machine that goes on running with it.
    Local,
}

/// What plans and applies a module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TerraformProgram {
    /// `terraform`.
    #[default]
    Terraform,
    /// `tofu`.
    Tofu,
}

impl TerraformProgram {
    /// The program's name.
    pub fn as_str(self) -> &'static str {
        match self {
            TerraformProgram::Terraform => "terraform",
            TerraformProgram::Tofu => "tofu",
        }
    }
}

/// How programs are run on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Who logs in.
    pub user: String,
    /// Where; what makes the machine tells when `None`.
    pub host: Option<String>,
    /// The port; what makes the machine tells, or else 22, when `None`.
    pub port: Option<u16>,
    /// The private key.
    pub identity: SecretRef,
    /// The machine's public key, pinned; the one that it was made with when `None`.
    pub host_key: Option<String>,
}

/// A playbook of the infra repo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ansible {
    /// Path in the infra repo.
    pub playbook: String,
    /// Hosts to limit the run to.
    pub limit: Option<String>,
    /// The inventory's path in the infra repo; one of the declared machines is made when `None`.
    pub inventory: Option<String>,
}

/// What happens when a machine is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// It is told, and a person rebuilds it.
    #[default]
    Report,
    /// It is rebuilt at once.
    Rebuild,
}
