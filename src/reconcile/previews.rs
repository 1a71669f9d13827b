//! What making machines would do, asked of what makes them.

use super::{Controller, desired::NothingInForce};
use crate::{
    plan::{
        Action, Plan,
        action::{Recover, Work},
    },
    render::recovery::Previews,
};

impl Controller {
    /// What each step of a plan that makes a machine would do. Changes nothing that lasts.
    pub async fn previews(&self, plan: &Plan) -> Result<Previews, NothingInForce> {
        let desired = self.desired().await?;
        let machines = self.machines(&desired).await;
        let mut previews = Previews::new();
        for step in &plan.steps {
            let Action::Recover(recover) = &step.action else { continue };
            let Recover { work: Work::Provision(vm), .. } = recover.as_ref() else { continue };
            let preview = match machines.get(vm) {
                Some(Ok(provisioner)) => provisioner.preview().await.map_err(|error| error.to_string()),
                Some(Err(why)) => Err(why.clone()),
                None => continue,
            };
            previews.insert(step.id, preview);
        }
        Ok(previews)
    }
}
