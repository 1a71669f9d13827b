//! Adoption: a person's word that a refused store may be used, or that what somebody changed in a store is to stay so.

use super::{Controller, desired::NothingInForce};
use crate::{
    artifact::record::Event,
    drift::{Kind, Thing, drift},
    inventory::{Inventory, Observed, Standing},
    observe::Freshness,
    records::AppendError,
    spec::{Spec, names::StoreName},
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
    #[error(
        "failed to adopt store {0}: it is not refused, and nothing in it drifted; nothing needs to be done"
    )]
    NotRefused(StoreName),
    /// It could not be written down.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Controller {
    /// Takes a store as it is, for a person's `reason`: one that is refused is used from the next pass on, and what was lost
    /// in one, or protects it less, counts as drift no more. Returns why there was something to adopt. What no trusted key
    /// signed stays unreadable, and nothing beside it is deleted.
    pub async fn adopt(&self, store: &StoreName, reason: &str) -> Result<String, AdoptError> {
        let _lock = self.state.lock()?;
        // What was fetched before says where the stores are, too.
        let _ = self.fetch().await;
        let desired = self.desired().await?;
        let mut seen = self.seen.lock().await;
        self.look(&mut seen, &desired.spec, Vec::new(), Freshness::Now).await;
        let why = match seen.inventory.stores.get(store) {
            None => return Err(AdoptError::Undeclared(store.clone())),
            Some(Observed::Unknown(why)) => {
                return Err(AdoptError::Unseen { store: store.clone(), why: why.clone() });
            }
            Some(Observed::Known(found)) => match &found.standing {
                Standing::Refused(why) => why.clone(),
                Standing::Ours | Standing::Empty => drifted(&desired.spec, &seen.inventory, store)
                    .ok_or_else(|| AdoptError::NotRefused(store.clone()))?,
            },
        };
        let unseen = |why: String| AdoptError::Unseen { store: store.clone(), why };
        let looks = self.looks(&desired.spec).await;
        let look = looks.get(store).ok_or_else(|| AdoptError::Undeclared(store.clone()))?;
        let records = look.as_ref().map_err(|why| unseen(why.clone()))?.records();
        let events = vec![Event::Adopted { reason: reason.to_owned() }];
        records.append_knowing(&self.keys, self.now(), events, seen.siblings(store)).await?;
        let mut made = self.state.made();
        made.stores.remove(store);
        self.state.set_made(&made)?;
        seen.inventory.made = made;
        seen.forget(store);
        Ok(why)
    }
}

/// What drifted in a store and a person's word can let be so.
fn drifted(spec: &Spec, inventory: &Inventory, store: &StoreName) -> Option<String> {
    let mut drifts = drift(spec, inventory).drifts;
    drifts.retain(|drift| match &drift.thing {
        Thing::Artifact { store: of, .. } => of == store && drift.kind == Kind::ArtifactGone,
        Thing::Rule { store: of, name } => of == store && name.is_empty(),
        Thing::Store(of) => of == store,
        Thing::Schedule(_) | Thing::Place(_) | Thing::Mirror(_) | Thing::Provider(_) => false,
    });
    let first = drifts.first()?;
    Some(match drifts.len() {
        1 => first.to_string(),
        number => format!("{first}; and {} more", number - 1),
    })
}
