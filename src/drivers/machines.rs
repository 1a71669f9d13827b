//! What makes the declared machines, what configures them, and what runs programs on them; each kind by its own function.

mod stacks;

use super::{Drivers, Refusal, permits::cloudformation_host};
use crate::{
    inventory::Running,
    provisioners::{
        Configurer, ProvisionError, Provisioner, Remote,
        ansible::{AnsibleConfigurer, PROGRAM},
        libvirt::{LibvirtOptions, LibvirtProvisioner, PATIENCE, public_half},
        login::login,
        ssh::SshRemote,
    },
    spec::{
        self, Provision, Spec,
        names::{FleetName, VmName},
    },
    templates::{TemplateError, Templates},
};

impl From<TemplateError> for Refusal {
    fn from(error: TemplateError) -> Self {
        Refusal::Settings(error.to_string())
    }
}

impl From<ProvisionError> for Refusal {
    fn from(error: ProvisionError) -> Self {
        Refusal::Settings(error.to_string())
    }
}

impl Drivers {
    pub(super) async fn machine(
        &self,
        fleet: &FleetName,
        vm: &spec::Vm,
        templates: &Templates,
    ) -> Result<Box<dyn Provisioner>, Refusal> {
        self.permit_machine(vm)?;
        match &vm.provision {
            Provision::Libvirt(libvirt) => self.domain(fleet, vm, libvirt, templates).await,
            Provision::Cloudformation(stack) => self.stack(fleet, vm, stack, templates).await,
            Provision::Terraform(module) => self.module(fleet, vm, module, templates).await,
        }
    }

    /// Whether the host lets a machine be made by what is declared, and its identity be used for it.
    pub(super) fn permit_machine(&self, vm: &spec::Vm) -> Result<(), Refusal> {
        if let Some(ssh) = &vm.ssh {
            self.resolver.permit(&ssh.identity, vm.declared_name().as_str())?;
        }
        if vm.ansible.is_some() {
            self.allow.check_run(PROGRAM)?;
        }
        match &vm.provision {
            Provision::Libvirt(libvirt) => self.permit_domain(libvirt),
            Provision::Cloudformation(stack) => {
                self.allow.check_machine(&format!("cloudformation:{}", stack.region))?;
                self.permit_key(stack.credentials.as_ref(), &cloudformation_host(stack))
            }
            Provision::Terraform(module) => Ok(self.allow.check_run(module.program.as_str())?),
        }
    }

    fn permit_domain(&self, libvirt: &spec::Libvirt) -> Result<(), Refusal> {
        self.allow.check_machine(&libvirt.uri)?;
        self.allow.check_read(&libvirt.image)?;
        Ok(self.allow.check_write(&libvirt.disks)?)
    }

    async fn domain(
        &self,
        fleet: &FleetName,
        vm: &spec::Vm,
        libvirt: &spec::Libvirt,
        templates: &Templates,
    ) -> Result<Box<dyn Provisioner>, Refusal> {
        let public_key = match &vm.ssh {
            Some(ssh) => Some(self.public_key(vm.declared_name(), ssh).await?),
            None => None,
        };
        Ok(Box::new(LibvirtProvisioner::new(LibvirtOptions {
            fleet: fleet.clone(),
            controller: self.controller.clone(),
            vm: vm.clone(),
            libvirt: libvirt.clone(),
            public_key,
            templates: templates.clone(),
            patience: PATIENCE,
        })?))
    }

    async fn public_key(&self, vm: &VmName, ssh: &spec::Ssh) -> Result<String, Refusal> {
        let identity = self.resolver.resolve(&ssh.identity, vm.as_str()).await?;
        public_half(&identity)
            .map_err(|why| Refusal::Settings(format!("failed to use vm.{vm}.ssh.identity: {why}")))
    }

    pub(super) fn ansible(&self) -> Result<Box<dyn Configurer>, Refusal> {
        self.allow.check_run(PROGRAM)?;
        Ok(Box::new(AnsibleConfigurer::new(self.resolver.clone())))
    }

    pub(super) async fn ssh(&self, vm: &spec::Vm, running: &Running) -> Result<Box<dyn Remote>, Refusal> {
        let login = login(&self.resolver, vm, running).await?;
        Ok(Box::new(SshRemote::new(vm.name.to_string(), login)))
    }

    /// The declared machines that this host does not allow.
    pub(super) fn refused_machines(&self, spec: &Spec) -> Vec<(String, Result<(), Refusal>)> {
        spec.vms.iter().map(|(name, vm)| (format!("vm.{name}"), self.permit_machine(vm))).collect()
    }
}
