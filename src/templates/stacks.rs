//! What the templates of stacks of CloudFormation and of modules of Terraform may ask for.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{TemplateError, Templates};
use crate::spec::{
    Cloudformation, Terraform, Vm,
    names::{FleetName, VmName},
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

/// The name of a machine's stack.
fn stack_name<'a>(vm: &'a Vm, declared: &'a Cloudformation) -> &'a str {
    declared.stack.as_deref().unwrap_or(vm.name.as_str())
}

/// The body of a machine's stack.
///
/// # Errors
/// As [`Templates::render`].
pub async fn stack(
    fleet: &FleetName,
    vm: &Vm,
    declared: &Cloudformation,
    templates: &Templates,
) -> Result<String, TemplateError> {
    let (region, parameters) = (declared.region.as_str(), &declared.parameters);
    let stack = stack_name(vm, declared);
    rendered(fleet, vm, templates, OfStack { cloudformation: ContextStack { region, stack, parameters } })
        .await
}

/// A machine's module.
///
/// # Errors
/// As [`Templates::render`].
pub async fn module(
    fleet: &FleetName,
    vm: &Vm,
    declared: &Terraform,
    templates: &Templates,
) -> Result<String, TemplateError> {
    rendered(fleet, vm, templates, OfModule { terraform: ContextModule { variables: &declared.variables } })
        .await
}

async fn rendered<T: Serialize>(
    fleet: &FleetName,
    vm: &Vm,
    templates: &Templates,
    kind: T,
) -> Result<String, TemplateError> {
    let context = Context { fleet, vm: ContextVm { name: &vm.name }, vars: &vm.vars, kind };
    templates.render(&vm.template, &context).await
}
