//! Which revision a pass works with: fetched, read when a tip has moved, and remembered.

use std::sync::Arc;

use super::{
    Basis, Controller,
    desired::{Demands, Desired, NothingInForce},
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

    /// The revision in force; read again only when a tip has moved, or what decides about tips is another.
    pub(super) async fn desired(&self) -> Result<Arc<Desired>, NothingInForce> {
        let tips = self.mirror.tips().await.map_err(NothingInForce::NoRevision)?;
        let demands = self.demands();
        let approving = self.approving();
        let basis = Basis {
            tips: tips_position(&tips),
            before: self.state.in_force(),
            trust: demands.verification.digest(),
            approvers: approving.digest().to_owned(),
            approval: self.state.approval(),
        };
        if let Some((known, desired)) = &*lock(&self.known)
            && *known == basis
        {
            return Ok(desired.clone());
        }
        let before = match &basis.before {
            Some(known) => Some(known.clone()),
            None => self.remembered(&demands).await,
        };
        let answer = self.desired_unless_approved(&demands, before).await?;
        let by_commit = self.by_commit(&answer.desired, &approving).await;
        let desired = Arc::new(Desired { by_commit, ..answer.desired });
        *lock(&self.known) = answer.is_final.then(|| (basis, desired.clone()));
        Ok(desired)
    }

    pub(super) fn demands(&self) -> Demands {
        Demands {
            folder: self.config.repo.path.clone(),
            branch: self.config.repo.branch.clone(),
            must_recipients: self.config.keys.must_recipients.clone(),
            verification: self.verification(),
            approved: None,
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
