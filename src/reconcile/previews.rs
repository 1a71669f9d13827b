//! What making machines would do, asked of what makes them.

use std::{collections::BTreeMap, io};

use super::{Controller, desired::NothingInForce};
use crate::{
    apply::ledger::{Held, Previewed},
    inventory::PreviewMark,
    plan::{
        Action, Plan, StepId,
        action::{Recover, Work},
    },
    provisioners::Provisioner,
    render::recovery::Previews,
    spec::names::VmName,
};

impl Controller {
    /// What each step of a plan that makes a machine would do. Changes nothing that lasts: what that takes is written down before, so that
    /// a later pass removes it where this process is killed.
    pub async fn previews(&self, plan: &Plan) -> Result<Previews, NothingInForce> {
        let desired = self.desired().await?;
        let made = made(plan);
        if made.is_empty() {
            return Ok(Previews::new());
        }
        let machines = self.machines(&desired).await;
        let mark = PreviewMark::drawn(self.chance.draw());
        // Nobody previews the others, or could look for what that left.
        let reached = made.values().filter(|vm| matches!(machines.get(**vm), Some(Ok(_))));
        let vms: Vec<VmName> = reached.map(|vm| (*vm).clone()).collect();
        let declared = (desired.revision.id.clone(), self.config.repo.path.clone());
        let entry = Previewed::new(desired.spec.fleet.name.clone(), mark, declared, vms);
        let held = match self.remember(&entry) {
            Ok(held) => held,
            Err(why) => {
                let why = format!("failed to write down what is previewed: {why}; make room in state_dir");
                return Ok(made.into_keys().map(|step| (step, Err(why.clone()))).collect());
            }
        };
        let (mut previews, mut is_left) = (Previews::new(), false);
        for (step, vm) in made {
            let preview = match machines.get(vm) {
                Some(Ok(provisioner)) => previewed(provisioner.as_ref(), &entry.mark, &mut is_left).await,
                Some(Err(why)) => Err(why.clone()),
                None => continue,
            };
            previews.insert(step, preview);
        }
        // What may be left, and what could not be taken off the disk, is seen to by a later pass.
        if !is_left && let Err(error) = held.forget() {
            tracing::warn!(%error, "what was previewed is still written down");
        }
        Ok(previews)
    }

    fn remember(&self, entry: &Previewed) -> io::Result<Held<Previewed>> {
        let held = self.previewed().try_hold(&entry.mark)?;
        let held = held.ok_or_else(|| io::Error::from(io::ErrorKind::WouldBlock))?;
        held.write(entry)?;
        Ok(held)
    }
}

/// The machines that a plan makes, by their steps.
fn made(plan: &Plan) -> BTreeMap<StepId, &VmName> {
    let made = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Recover(recover) => match recover.as_ref() {
            Recover { work: Work::Provision(vm), .. } => Some((step.id, vm)),
            _ => None,
        },
        _ => None,
    });
    made.collect()
}

/// What making a machine would do. What a preview that failed had made is removed; `is_left` says where it could not be.
async fn previewed(
    provisioner: &dyn Provisioner,
    mark: &PreviewMark,
    is_left: &mut bool,
) -> Result<Vec<String>, String> {
    match provisioner.preview(mark).await {
        Ok(lines) => Ok(lines),
        Err(error) => {
            *is_left |= provisioner.clear_preview(mark, &|_| {}).await.is_err();
            Err(error.to_string())
        }
    }
}
