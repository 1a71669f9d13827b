//! Machines.

use super::{Lower, below, store::secret, word};
use crate::spec::{
    Ansible, Cloudformation, Libvirt, OnLoss, Provision, Ssh, Terraform, TerraformProgram, TerraformState,
    Vm,
    names::VmName,
    places::{Path, path},
    schema,
};

/// What a machine of libvirt has where nothing is declared.
const URI: &str = "qemu:///system";
const DISKS: &str = "/var/lib/libvirt/images";
const NETWORK: &str = "default";
const MEMORY: u64 = 2 << 30;
const CPUS: u32 = 2;

impl Lower<'_> {
    pub(super) fn vm(&mut self, name: &VmName, vm: schema::Vm) -> Option<Vm> {
        let at = path(["vm", name.as_str()]);
        let provision = match (vm.libvirt, vm.cloudformation, vm.terraform) {
            (Some(libvirt), ..) => Provision::Libvirt(libvirt_of(libvirt)?),
            (_, Some(it), _) => {
                Provision::Cloudformation(self.cloudformation(&below(&at, ["cloudformation"]), it)?)
            }
            (.., Some(terraform)) => Provision::Terraform(terraform_of(terraform)),
            (None, None, None) => return None,
        };
        Some(Vm {
            name: name.clone(),
            stands_for: None,
            template: vm.template?.0.0,
            vars: vm.vars.into_iter().collect(),
            provision,
            ssh: match vm.ssh {
                Some(ssh) => Some(ssh_of(ssh)?),
                None => None,
            },
            ansible: vm.configure.and_then(|configure| configure.ansible).and_then(ansible_of),
            on_loss: match vm.on_loss.unwrap_or_default() {
                schema::OnLoss::Report => OnLoss::Report,
                schema::OnLoss::Rebuild => OnLoss::Rebuild,
            },
        })
    }

    fn cloudformation(&mut self, at: &Path, stack: schema::Cloudformation) -> Option<Cloudformation> {
        Some(Cloudformation {
            credentials: self.access_key(at, stack.access_key_id, stack.secret_access_key),
            region: word(stack.region)?,
            endpoint: stack.endpoint.map(|url| url.0.0),
            stack: word(stack.stack),
            parameters: stack.parameters,
            capabilities: stack.capabilities.into_iter().map(|capability| capability.0.0).collect(),
        })
    }
}

pub(super) fn ansible_of(ansible: schema::Ansible) -> Option<Ansible> {
    Some(Ansible {
        playbook: ansible.playbook?.0.0,
        limit: word(ansible.limit),
        inventory: ansible.inventory.map(|path| path.0.0),
    })
}

fn ssh_of(ssh: schema::Ssh) -> Option<Ssh> {
    Some(Ssh {
        user: word(ssh.user).unwrap_or_else(|| "root".to_owned()),
        host: word(ssh.host),
        port: ssh.port,
        identity: secret(ssh.identity?)?,
        host_key: ssh.host_key.map(|key| key.0.0),
    })
}

fn libvirt_of(libvirt: schema::Libvirt) -> Option<Libvirt> {
    Some(Libvirt {
        uri: word(libvirt.uri).unwrap_or_else(|| URI.to_owned()),
        image: libvirt.image?.0.0,
        disks: libvirt.disks.map_or_else(|| DISKS.into(), |path| path.0.0),
        disk: libvirt.disk.map(|size| size.0.0),
        memory: libvirt.memory.map_or(MEMORY, |size| size.0.0),
        cpus: libvirt.cpus.unwrap_or(CPUS),
        network: word(libvirt.network).unwrap_or_else(|| NETWORK.to_owned()),
    })
}

fn terraform_of(terraform: schema::Terraform) -> Terraform {
    Terraform {
        program: match terraform.program.unwrap_or_default() {
            schema::TerraformProgram::Terraform => TerraformProgram::Terraform,
            schema::TerraformProgram::Tofu => TerraformProgram::Tofu,
        },
        variables: terraform.variables,
        state: match terraform.state.unwrap_or_default() {
            schema::TerraformState::Backend => TerraformState::Backend,
            schema::TerraformState::Local => TerraformState::Local,
        },
    }
}
