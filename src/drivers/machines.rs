//! What makes the declared machines, each kind by its own function.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Drivers, Refusal, permits::cloudformation_host};
use crate::{
    aws::{self, CloudformationOptions},
    provisioners::{
        ProvisionError, Provisioner,
        cloudformation::{CloudformationProvisioner, Declared, Wanted},
        terraform::{Module, TerraformProvisioner},
    },
    spec::{
        self, Provision,
        names::{FleetName, VmName},
    },
    templates::Templates,
};

/// What a machine's template may ask for.
#[derive(Serialize)]
struct Context<'a, T: Serialize> {
    fleet: &'a FleetName,
    vm: ContextVm<'a>,
    vars: &'a BTreeMap<String, toml::Value>,
    #[serde(flatten)]
    kind: T,
}

#[derive(Serialize)]
struct ContextVm<'a> {
    name: &'a VmName,
}

/// What a template of a stack may ask for besides.
#[derive(Serialize)]
struct OfStack<'a> {
    cloudformation: ContextStack<'a>,
}

#[derive(Serialize)]
struct ContextStack<'a> {
    region: &'a str,
    stack: &'a str,
    parameters: &'a BTreeMap<String, String>,
}

/// What a template of a module may ask for besides.
#[derive(Serialize)]
struct OfModule<'a> {
    terraform: ContextModule<'a>,
}

#[derive(Serialize)]
struct ContextModule<'a> {
    variables: &'a BTreeMap<String, String>,
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
            Provision::Cloudformation(stack) => self.stack(fleet, vm, stack, templates).await,
            Provision::Libvirt(_) => Err(Refusal::NotBuilt("machines of libvirt".to_owned())),
            Provision::Terraform(module) => self.module(fleet, vm, module, templates),
        }
    }

    /// Whether the host lets machines be made by what is declared.
    pub(super) fn permit_machine(&self, vm: &spec::Vm) -> Result<(), Refusal> {
        match &vm.provision {
            Provision::Cloudformation(stack) => {
                self.allow.check_machine(&format!("cloudformation:{}", stack.region))?;
                self.permit_key(stack.credentials.as_ref(), &cloudformation_host(stack))
            }
            Provision::Terraform(module) => Ok(self.allow.check_run(module.program.as_str())?),
            Provision::Libvirt(_) => Ok(()),
        }
    }

    async fn stack(
        &self,
        fleet: &FleetName,
        vm: &spec::Vm,
        stack: &spec::Cloudformation,
        templates: &Templates,
    ) -> Result<Box<dyn Provisioner>, Refusal> {
        let name = stack.stack.as_deref().unwrap_or(vm.name.as_str());
        let (region, parameters) = (stack.region.as_str(), &stack.parameters);
        let kind = OfStack { cloudformation: ContextStack { region, stack: name, parameters } };
        let body = rendered(fleet, vm, templates, kind)?;
        let wanted = Wanted::of(Declared { fleet, vm: &vm.name, stack, body: &body })?;
        let options = CloudformationOptions {
            region: stack.region.clone(),
            endpoint: stack.endpoint.clone(),
            credentials: self.access_key(stack.credentials.as_ref(), &cloudformation_host(stack)).await?,
            silence: aws::DEFAULT_SILENCE,
        };
        Ok(Box::new(CloudformationProvisioner::new(options, wanted)?))
    }
}

impl Drivers {
    fn module(
        &self,
        fleet: &FleetName,
        vm: &spec::Vm,
        declared: &spec::Terraform,
        templates: &Templates,
    ) -> Result<Box<dyn Provisioner>, Refusal> {
        let kind = OfModule { terraform: ContextModule { variables: &declared.variables } };
        let module = Module {
            fleet: fleet.clone(),
            vm: vm.name.clone(),
            declared: declared.clone(),
            body: rendered(fleet, vm, templates, kind)?,
            folder: self.scratch.join("terraform"),
        };
        Ok(Box::new(TerraformProvisioner::new(module)?))
    }
}

fn rendered<T: Serialize>(
    fleet: &FleetName,
    vm: &spec::Vm,
    templates: &Templates,
    kind: T,
) -> Result<String, Refusal> {
    let context = Context { fleet, vm: ContextVm { name: &vm.name }, vars: &vm.vars, kind };
    templates.render(&vm.template, &context).map_err(|error| Refusal::Settings(error.to_string()))
}
