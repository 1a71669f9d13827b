//! What the stores remember for a controller that has lost its state directory.

use futures::future::join_all;

use super::{
    Controller,
    desired::{Demands, desired},
};
use crate::{
    inventory::{Chronicle, Observed},
    observe::stores::Look,
    state::InForce,
};

impl Controller {
    /// The revision in force by the records of the stores. Which stores there are is read from the newest good revision;
    /// one that it does not declare any more, or that can't be seen, has no say.
    pub(super) async fn remembered(&self, demands: &Demands) -> Option<InForce> {
        let candidate = desired(&self.mirror, demands, None).await.ok()?;
        let looks = self.looks(&candidate.spec).await;
        let told = join_all(looks.values().filter_map(|look| look.as_ref().ok()).map(told)).await;
        let told = told.iter().filter_map(|told| told.known()?.in_force().cloned());
        let now = self.now();
        // What a clock wrote that had jumped ahead is not newer than all that came after it.
        let newest = told.max_by_key(|told| (told.at <= now, told.at))?;
        Some(InForce { branch: demands.branch.clone(), revision: newest.revision })
    }
}

/// What a store's chain of records says, if it can be believed.
pub(super) async fn told(look: &Look) -> Observed<Chronicle> {
    match look.chain().await {
        Ok(chain) => match chain.broken {
            None => Observed::Known(chain.chronicle),
            // Nobody but a person can make it whole again: until then it has no say.
            Some(_) => Observed::Known(Chronicle::default()),
        },
        Err(error) => {
            tracing::warn!(store = %look.name, %error, "its records can't be read");
            Observed::Unknown(error.to_string())
        }
    }
}
