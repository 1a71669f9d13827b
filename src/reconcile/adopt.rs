//! Adoption: a person's word that a refused store may be used.

use super::{Controller, desired::NothingInForce};
use crate::{
    artifact::record::Event,
    inventory::{Observed, Standing},
    observe::Freshness,
    records::AppendError,
    spec::names::StoreName,
    state::StateError,
};

/// A store that was not adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Another process changes something.
    #[error(transparent)]
    State(#[from] StateError),
    /// No revision is in force, and so nothing says where stores are.
    #[error(transparent)]
    NothingInForce(#[from] NothingInForce),
    /// No such store.
    #[error("failed to adopt store {0}: the revision in force does not declare it; see `backstay status`")]
    Undeclared(StoreName),
    /// It can't be looked into.
    #[error("failed to adopt store {store}: it cannot be seen: {why}; adopt it when it is back")]
    Unseen {
        /// The store.
        store: StoreName,
        /// Why.
        why: String,
    },
    /// There is nothing to adopt.
    #[error("failed to adopt store {0}: it is not refused; nothing needs to be done")]
    NotRefused(StoreName),
    /// It could not be written down.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Controller {
    /// Takes over a store that is refused, for a person's `reason`: it is used from the next pass on. Returns why it had been
    /// refused. What no trusted key signed stays unreadable, and nothing beside it is deleted.
    pub async fn adopt(&self, store: &StoreName, reason: &str) -> Result<String, AdoptError> {
        let _lock = self.state.lock()?;
        // What was fetched before says where the stores are, too.
        let _ = self.fetch().await;
        let desired = self.desired().await?;
        let mut seen = self.seen.lock().await;
        self.look(&mut seen, &desired.spec, Vec::new(), Freshness::Now).await;
        let refused = match seen.inventory.stores.get(store) {
            None => return Err(AdoptError::Undeclared(store.clone())),
            Some(Observed::Unknown(why)) => {
                return Err(AdoptError::Unseen { store: store.clone(), why: why.clone() });
            }
            Some(Observed::Known(found)) => match &found.standing {
                Standing::Refused(why) => why.clone(),
                Standing::Ours | Standing::Empty => return Err(AdoptError::NotRefused(store.clone())),
            },
        };
        let unseen = |why: String| AdoptError::Unseen { store: store.clone(), why };
        let looks = self.looks(&desired.spec).await;
        let look = looks.get(store).ok_or_else(|| AdoptError::Undeclared(store.clone()))?;
        let records = look.as_ref().map_err(|why| unseen(why.clone()))?.records();
        let events = vec![Event::Adopted { reason: reason.to_owned() }];
        records.append_knowing(&self.keys, self.now(), events, seen.siblings(store)).await?;
        seen.forget(store);
        Ok(refused)
    }
}
