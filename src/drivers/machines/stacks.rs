//! Machines by stacks of CloudFormation and by modules of Terraform: what makes them.

use super::{Drivers, Refusal, cloudformation_host};
use crate::{
    aws::{self, CloudformationOptions},
    provisioners::{
        Provisioner,
        cloudformation::{CloudformationProvisioner, Declared, Wanted},
        terraform::{Module, TerraformProvisioner},
    },
    spec::{self, names::FleetName},
    templates::{Templates, stacks},
};

impl Drivers {
    pub(super) async fn stack(
        &self,
        fleet: &FleetName,
        vm: &spec::Vm,
        stack: &spec::Cloudformation,
        templates: &Templates,
    ) -> Result<Box<dyn Provisioner>, Refusal> {
        let body = stacks::stack(fleet, vm, stack, templates).await?;
        let wanted = Wanted::of(Declared {
            fleet,
            vm: &vm.name,
            stands_for: vm.stands_for.as_ref(),
            controller: &self.controller,
            stack,
            body: &body,
        })?;
        let options = CloudformationOptions {
            region: stack.region.clone(),
            endpoint: stack.endpoint.clone(),
            credentials: self.access_key(stack.credentials.as_ref(), &cloudformation_host(stack)).await?,
            silence: aws::DEFAULT_SILENCE,
        };
        Ok(Box::new(CloudformationProvisioner::new(options, wanted)?))
    }

    pub(super) async fn module(
        &self,
        fleet: &FleetName,
        vm: &spec::Vm,
        declared: &spec::Terraform,
        templates: &Templates,
    ) -> Result<Box<dyn Provisioner>, Refusal> {
        let module = Module {
            fleet: fleet.clone(),
            vm: vm.name.clone(),
            stands_for: vm.stands_for.clone(),
            declared: declared.clone(),
            body: stacks::module(fleet, vm, declared, templates).await?,
            folder: self.scratch.join("terraform"),
        };
        Ok(Box::new(TerraformProvisioner::new(module)?))
    }
}
