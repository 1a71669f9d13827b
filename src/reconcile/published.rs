//! Runbooks after a pass: for the page to show, and on the branch that the host names for them.
//!
//! A pass makes them and waits for nobody; [`Controller::publish`] brings them to their branch, beside the loop or once a command is
//! done. What the branch holds is asked each time: one that was deleted or rewritten is written again.

use std::sync::Arc;

use super::{Ask, Controller, Pass, Survey, desired::Desired, lock};
use crate::{git::WrittenBranch, render::runbook::Shelf, spec::names::FleetName, templates::Templates};

/// The runbooks as things stood after a pass.
#[derive(Clone, Debug)]
pub struct Runbooks {
    /// What they say.
    pub shelf: Arc<Shelf>,
    fleet: FleetName,
    revision: String,
    /// Why the infra repo did not answer that pass.
    unreachable: Option<String>,
}

impl Controller {
    /// The same pass with the runbooks as things stand after it, where somebody reads them.
    pub(super) async fn with_runbooks(&self, ask: &Ask, desired: &Desired, pass: Pass) -> Pass {
        let has_readers = self.config.http.is_some() || self.config.runbook_branch.is_some();
        if !matches!(ask, Ask::Everything) || !has_readers {
            return pass;
        }
        let (pass, shelf) = match desired.spec.recoveries.is_empty() {
            true => (pass, Shelf::of(Vec::new(), Ok(Templates::default()))),
            false => self.shelf(desired, pass).await,
        };
        let runbooks = Runbooks {
            shelf: Arc::new(shelf),
            fleet: desired.spec.fleet.name.clone(),
            revision: desired.revision.id.clone(),
            unreachable: pass.unreachable.clone(),
        };
        Pass { runbooks: Some(runbooks), ..pass }
    }

    /// The runbooks as things stand after a pass, beside it.
    async fn shelf(&self, desired: &Desired, pass: Pass) -> (Pass, Shelf) {
        let inventory = self.seen.lock().await.inventory.clone();
        let (spec, limits) = (desired.spec.clone(), self.limits(desired));
        let survey = Survey { spec, inventory, limits, pass };
        let runbooks = self.runbooks_of(&survey, desired, &[]).await;
        (survey.pass, Shelf::of(runbooks, self.templates(desired).await))
    }

    /// Brings runbooks to their branch, where the host names one and it does not hold them already; why they are not there
    /// afterwards. What keeps them from it is told by the status from now on, and fails nothing.
    pub async fn publish(&self, runbooks: &Runbooks) -> Option<String> {
        let branch = self.config.runbook_branch.as_deref()?;
        let published = match &runbooks.unreachable {
            Some(why) => Err(why.clone()),
            None => self.put(runbooks, branch).await,
        };
        let unpublished = published.err();
        if let Some(why) = unpublished.as_ref().filter(|why| Some(*why) != lock(&self.unpublished).as_ref()) {
            tracing::warn!(%branch, %why, "the runbooks are not on their branch");
        }
        lock(&self.unpublished).clone_from(&unpublished);
        unpublished
    }

    async fn put(&self, runbooks: &Runbooks, branch: &str) -> Result<(), String> {
        let Runbooks { shelf, fleet, revision, .. } = runbooks;
        let files = shelf.all().await?;
        let url = self.mirror.upstream().clone();
        let failed = |error: crate::git::WriteError| error.to_string();
        let written = WrittenBranch::open(self.state.root(), url, branch, fleet).map_err(failed)?;
        let message = format!("Runbooks of {fleet} as of revision {revision}\n");
        let put = written.put(files, &message, self.now()).await.map_err(failed)?;
        tracing::debug!(%branch, ?put, "the runbooks are on their branch");
        Ok(())
    }

    /// The same pass, with what is known by now of its runbooks on their branch.
    pub(super) fn as_published(&self, pass: Pass) -> Pass {
        let unpublished = lock(&self.unpublished).clone();
        match pass.status.revisions.unpublished == unpublished {
            true => pass,
            false => Pass { status: pass.status.published(unpublished), ..pass },
        }
    }

    /// The same pass, once its runbooks are on their branch, or could not be brought there.
    pub(super) async fn published(&self, pass: Pass) -> Pass {
        let Some(runbooks) = &pass.runbooks else { return pass };
        self.publish(runbooks).await;
        self.as_published(pass)
    }
}
