//! Runbooks after a pass: for the page to show, and on the branch that the host names for them.

use std::{collections::BTreeMap, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::{Ask, Controller, Pass, Survey, desired::Desired, lock};
use crate::{git::WrittenBranch, render::runbook::Shelf, templates::Templates};

/// The digest of all that lies on a shelf.
pub(super) type ShelfDigest = [u8; 32];

impl Controller {
    /// The same pass with the runbooks as things stand after it, once they are where they are kept up to date. What keeps them
    /// from there is told by its status, and fails nothing.
    pub(super) async fn with_runbooks(&self, ask: &Ask, desired: &Desired, pass: Pass) -> Pass {
        let has_readers = self.config.http.is_some() || self.config.runbook_branch.is_some();
        if !matches!(ask, Ask::Everything) || !has_readers {
            return pass;
        }
        let (pass, shelf) = match desired.spec.recoveries.is_empty() {
            true => (pass, Shelf::of(Vec::new(), Ok(Templates::default()))),
            false => self.shelf(desired, pass).await,
        };
        let shelf = Arc::new(shelf);
        let unpublished = match &pass.unreachable {
            Some(why) if self.config.runbook_branch.is_some() => Some(why.clone()),
            _ => self.publish(&shelf, desired).await.err(),
        };
        lock(&self.unpublished).clone_from(&unpublished);
        Pass { status: pass.status.published(unpublished), runbooks: Some(shelf), ..pass }
    }

    /// The runbooks as things stand after a pass, beside it.
    async fn shelf(&self, desired: &Desired, pass: Pass) -> (Pass, Shelf) {
        let inventory = self.seen.lock().await.inventory.clone();
        let (spec, limits) = (desired.spec.clone(), self.limits(desired));
        let survey = Survey { spec, inventory, limits, pass };
        let runbooks = self.runbooks_of(&survey, desired, &[]).await;
        (survey.pass, Shelf::of(runbooks, self.templates(desired).await))
    }

    /// Brings the runbooks to their branch, where one is named and they are others than the last time.
    async fn publish(&self, shelf: &Arc<Shelf>, desired: &Desired) -> Result<(), String> {
        let Some(branch) = &self.config.runbook_branch else { return Ok(()) };
        let files = shelf.all().await?;
        let digest = digest(&files);
        if *lock(&self.published) == Some(digest) {
            return Ok(());
        }
        let (url, fleet) = (self.mirror.upstream().clone(), &desired.spec.fleet.name);
        let failed = |error: crate::git::WriteError| error.to_string();
        let written = WrittenBranch::open(self.state.root(), url, branch, fleet).map_err(failed)?;
        let message = format!("Runbooks of {fleet} as of revision {}\n", desired.revision.id);
        let put = written.put(&files, &message, self.now()).await.map_err(failed)?;
        tracing::info!(%branch, ?put, "the runbooks are on their branch");
        *lock(&self.published) = Some(digest);
        Ok(())
    }
}

fn digest(files: &BTreeMap<String, String>) -> ShelfDigest {
    let mut digest = Sha256::new();
    for part in files.iter().flat_map(|(path, content)| [path, content]) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}
