//! What the templates of machines of libvirt may ask for.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use super::{TemplateError, Templates, stacks};
use crate::spec::{
    Libvirt, Provision, Ssh, Vm,
    names::{FleetName, VmName},
};

/// The template of a domain.
pub const DOMAIN: &str = "libvirt-domain.xml.tera";

/// What stands for a key where there is none yet.
const PLACEHOLDER: &str = "(made with the machine)";

/// All that they may ask for.
#[derive(Clone, Serialize)]
pub struct Context<'a> {
    /// The fleet's name.
    pub fleet: &'a FleetName,
    /// The machine.
    pub vm: ContextVm<'a>,
    /// What the declaration gives.
    pub vars: &'a BTreeMap<String, toml::Value>,
    /// What the declaration says of the domain.
    pub libvirt: ContextLibvirt<'a>,
    /// How programs are run on it, if it is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<ContextSsh<'a>>,
    /// What is made with the machine.
    pub machine: ContextMachine<'a>,
    /// What a domain needs.
    pub domain: ContextDomain<'a>,
}

/// The machine.
#[derive(Clone, Serialize)]
pub struct ContextVm<'a> {
    /// Its name.
    pub name: &'a VmName,
}

/// What the declaration says of the domain.
#[derive(Clone, Serialize)]
pub struct ContextLibvirt<'a> {
    /// The base image.
    pub image: &'a Path,
    /// The machine's own disk.
    pub disk: &'a Path,
    /// The disk with its user data.
    pub seed: &'a Path,
    /// Bytes.
    pub memory: u64,
    /// How many.
    pub cpus: u32,
    /// The network that it is in.
    pub network: &'a str,
}

/// How programs are run on it.
#[derive(Clone, Serialize)]
pub struct ContextSsh<'a> {
    /// Who logs in.
    pub user: &'a str,
    /// Where, if it is declared.
    pub host: Option<&'a str>,
    /// The port, if it is declared.
    pub port: Option<u16>,
    /// The public half of the identity.
    pub public_key: &'a str,
}

/// What is made with the machine.
#[derive(Clone, Serialize)]
pub struct ContextMachine<'a> {
    /// The key that it proves itself with.
    pub host_key: ContextHostKey<'a>,
}

/// A pair of keys.
#[derive(Clone, Copy, Serialize)]
pub struct ContextHostKey<'a> {
    /// As OpenSSH writes it in a file.
    pub private: &'a str,
    /// `ssh-ed25519 AAAA…`.
    pub public: &'a str,
}

impl ContextHostKey<'static> {
    /// What stands for a key where there is none yet.
    pub const NONE: Self = Self { private: PLACEHOLDER, public: PLACEHOLDER };
}

/// What a domain needs.
#[derive(Clone, Serialize)]
pub struct ContextDomain<'a> {
    /// The name that it must have.
    pub name: &'a VmName,
    /// What it must hold in its `<metadata>`.
    pub metadata: &'a str,
}

impl<'a> Context<'a> {
    /// What is declared, without what is only made with the machine.
    pub fn declared(fleet: &'a FleetName, vm: &'a Vm, libvirt: &'a Libvirt, public_key: &'a str) -> Self {
        Self {
            fleet,
            // A stand-in takes itself for the machine that it stands in for.
            vm: ContextVm { name: vm.declared_name() },
            vars: &vm.vars,
            libvirt: ContextLibvirt {
                image: &libvirt.image,
                disk: &libvirt.disks,
                seed: &libvirt.disks,
                memory: libvirt.memory,
                cpus: libvirt.cpus,
                network: &libvirt.network,
            },
            ssh: vm.ssh.as_ref().map(|ssh| ssh_of(ssh, public_key)),
            machine: ContextMachine { host_key: ContextHostKey::NONE },
            domain: ContextDomain { name: &vm.name, metadata: PLACEHOLDER },
        }
    }
}

fn ssh_of<'a>(ssh: &'a Ssh, public_key: &'a str) -> ContextSsh<'a> {
    ContextSsh { user: &ssh.user, host: ssh.host.as_deref(), port: ssh.port, public_key }
}

/// What is wrong with the templates of a declared machine, as far as it can be told before it is made.
///
/// # Errors
/// A template that is not there, is faulty, or asks for what nothing defines.
pub async fn check(fleet: &FleetName, vm: &Vm, templates: &Templates) -> Result<(), TemplateError> {
    match &vm.provision {
        Provision::Libvirt(libvirt) => {
            let context = Context::declared(fleet, vm, libvirt, PLACEHOLDER);
            templates.render(&vm.template, &context).await?;
            templates.render(DOMAIN, &context).await.map(drop)
        }
        Provision::Cloudformation(stack) => stacks::stack(fleet, vm, stack, templates).await.map(drop),
        Provision::Terraform(module) => stacks::module(fleet, vm, module, templates).await.map(drop),
    }
}

/// A text as an element or an attribute of XML holds it.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c => escaped.push(c),
        }
    }
    escaped
}
