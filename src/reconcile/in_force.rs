//! Which revision a pass works with: fetched, read when a tip has moved, and remembered.

use std::sync::Arc;

use super::{
    Controller, Terms,
    desired::{self, Demands, Desired, NothingInForce},
    lock,
};
use crate::{
    git::tips_position,
    state::{InForce, StateError},
};

impl Controller {
    /// Brings the mirror up to date; or says why it can't. What was fetched before stays desired then.
    pub(super) async fn fetch(&self) -> Option<String> {
        let failure = self.mirror.fetch().await.err().map(|error| error.to_string());
        self.remember_contact(failure.clone());
        failure
    }

    /// Every process has to know since when the infra repo is silent; so that is written down when it changes.
    fn remember_contact(&self, failure: Option<String>) {
        let mut contact = lock(&self.contact);
        let was_silent = contact.silent.is_some();
        *contact = std::mem::take(&mut *contact).after(failure, self.now());
        if contact.silent.is_some() == was_silent {
            return;
        }
        if let Err(error) = self.state.set_contact(&contact) {
            tracing::warn!(%error, "since when the infra repo is silent will not be known later");
        }
    }

    /// The revision in force; read again only when a tip has moved.
    pub(super) async fn desired(&self, terms: &Terms) -> Result<Arc<Desired>, NothingInForce> {
        let tips = self.mirror.tips().await.map_err(NothingInForce::NoRevision)?;
        let basis = (tips_position(&tips), self.state.in_force());
        let demands = self.demands(terms);
        if let Some((known, desired)) = &*lock(&self.known)
            && *known == basis
            && terms.accept_rewrite.is_none()
        {
            return Ok(desired.clone());
        }
        let before = match &basis.1 {
            Some(known) => Some(known.clone()),
            None => self.remembered(&demands).await,
        };
        let desired = Arc::new(desired::desired(&self.mirror, &demands, before).await?);
        *lock(&self.known) = Some((basis, desired.clone()));
        Ok(desired)
    }

    pub(super) fn demands(&self, terms: &Terms) -> Demands {
        Demands {
            folder: self.config.repo.path.clone(),
            branch: self.config.repo.branch.clone(),
            must_recipients: self.config.keys.must_recipients.clone(),
            accepted: terms.accept_rewrite.clone(),
        }
    }

    /// Remembers which revision is in force.
    pub(super) fn keep_in_force(&self, desired: &Desired) -> Result<(), StateError> {
        if desired.stands_in_for.is_some() {
            return Ok(());
        }
        let now = InForce { branch: self.config.repo.branch.clone(), revision: desired.revision.id.clone() };
        if self.state.in_force().as_ref() != Some(&now) {
            self.state.set_in_force(&now)?;
        }
        Ok(())
    }
}
