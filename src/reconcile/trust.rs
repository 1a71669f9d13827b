//! Whose signatures count on this host, and what status says of the revision in force.

use std::sync::Arc;

use super::{
    Controller,
    desired::{Desired, Obstacle, Verification},
    lock,
};
use crate::{
    git::{
        Trust,
        verify::{Files, TrustError},
    },
    status::{Hold, LostCommit, Revisions},
};

impl Controller {
    /// Whose signatures count now. The files are small, and read for every pass: a change of theirs counts at once.
    pub(super) fn verification(&self) -> Verification {
        match self.trust() {
            Ok(Some(trust)) => Verification::By(trust),
            Ok(None) => Verification::Off,
            Err(error) => Verification::Unusable(error.to_string()),
        }
    }

    fn trust(&self) -> Result<Option<Arc<Trust>>, TrustError> {
        let Some(policy) = &self.config.repo.trust else { return Ok(None) };
        let files = Files::read(policy)?;
        let mut last = lock(&self.trust);
        if let Some(last) = last.as_ref().filter(|last| last.digest() == files.digest()) {
            return Ok(Some(last.clone()));
        }
        Ok(Some(last.insert(Arc::new(files.trust()?)).clone()))
    }

    /// What is to be said of revisions.
    pub(super) fn revisions(&self, desired: &Desired) -> Revisions {
        let (hold, lost) = match &desired.obstacle {
            None => (None, Vec::new()),
            Some(Obstacle::Bad(_)) => (Some(Hold::Bad), Vec::new()),
            Some(Obstacle::Unreadable { .. }) => (Some(Hold::Unreadable), Vec::new()),
            Some(Obstacle::Untrusted { .. }) => (Some(Hold::Untrusted), Vec::new()),
            Some(Obstacle::Rewritten { lost, .. }) => {
                let commit = |revision: &crate::git::Revision| LostCommit {
                    id: revision.id.clone(),
                    subject: revision.subject.clone(),
                    author: revision.author.clone(),
                };
                (Some(Hold::Rewritten), lost.newest.iter().map(commit).collect())
            }
        };
        Revisions {
            in_force: Some(desired.revision.id.clone()),
            verify: self.config.repo.trust.as_ref().map(|policy| policy.mode.as_str()),
            signer: desired.signer.clone(),
            newest: desired.newest().map(str::to_owned),
            refused: desired.obstacle.as_ref().map(ToString::to_string),
            unpublished: lock(&self.unpublished).clone(),
            hold,
            lost,
            contact: lock(&self.contact).clone(),
        }
    }
}
