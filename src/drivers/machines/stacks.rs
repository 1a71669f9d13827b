//! Machines by stacks of CloudFormation and by modules of Terraform: what their templates render to, and what makes it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Drivers, Refusal, cloudformation_host};
use crate::{
    aws::{self, CloudformationOptions},
    provisioners::{
        Provisioner,
        cloudformation::{CloudformationProvisioner, Declared, Wanted},
        terraform::{Module, TerraformProvisioner},
    },
    spec::{
        self,
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

impl Drivers {
    pub(super) async fn stack(
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

    pub(super) fn module(
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
