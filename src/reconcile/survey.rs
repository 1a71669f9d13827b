//! Everything that a look shows, and what it says of single backups and artifacts.

use std::sync::Arc;

use super::{Controller, Pass};
use crate::{
    artifact::{ArtifactId, Manifest},
    committed::{self, ReadError},
    git::{Revision, revision},
    inventory::{Condition, Inventory},
    plan::Limits,
    spec::{
        Spec,
        names::{BackupName, StoreName},
    },
    status::explain::{self, ArtifactExplanation, BackupExplanation},
};

/// Everything that a look shows.
#[derive(Clone, Debug)]
pub struct Survey {
    /// What is declared.
    pub spec: Arc<Spec>,
    /// What really exists.
    pub inventory: Inventory,
    /// What bounds every plan on this host.
    pub limits: Limits,
    /// What a pass would do.
    pub pass: Pass,
}

impl Survey {
    /// Why a declared backup is due or not; `None` when nothing declares it.
    pub fn explain_backup(&self, name: &BackupName) -> Option<BackupExplanation> {
        explain::backup(&self.spec, &self.inventory, &self.limits, name, self.pass.plan.at)
    }

    /// Why an artifact is kept or may go; `None` when no store that can be seen has it.
    pub fn explain_artifact(&self, id: ArtifactId) -> Option<ArtifactExplanation> {
        explain::artifact(&self.spec, &self.inventory, &self.limits, id, self.pass.plan.at)
    }

    /// The backup of an artifact and a store that has it, a good copy before a damaged one.
    fn find(&self, id: ArtifactId) -> Option<(&BackupName, &StoreName)> {
        let stores = self.inventory.stores.iter().filter_map(|(name, seen)| Some((name, seen.known()?)));
        let all =
            stores.flat_map(|(store, found)| found.backups.iter().map(move |(backup, s)| (backup, store, s)));
        let holders = all.filter_map(|(backup, store, stored)| {
            let artifact = stored.artifacts.iter().find(|artifact| artifact.id == id)?;
            Some((artifact.condition != Condition::Good, backup, store))
        });
        holders.min().map(|(_, backup, store)| (backup, store))
    }
}

/// An artifact's manifest, and the commit that declared its backup.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The manifest, its signature trusted.
    pub manifest: Manifest,
    /// Where it was read.
    pub store: StoreName,
    /// The commit; or why the infra repo does not have it.
    pub revision: Result<Revision, String>,
}

/// Why an artifact can't be traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// No store that can be seen has it.
    #[error("failed to trace {0}: no store that can be seen holds it; see `backstay list`")]
    NotFound(ArtifactId),
    /// Its store can't be used.
    #[error("failed to trace {artifact}: {why}")]
    Store {
        /// The artifact.
        artifact: ArtifactId,
        /// Why.
        why: String,
    },
    /// Its manifest can't be read or believed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Controller {
    /// Follows an artifact of a survey back to the commit that declared its backup.
    pub async fn trace(&self, survey: &Survey, id: ArtifactId) -> Result<Trace, TraceError> {
        let (backup, store) = survey.find(id).ok_or(TraceError::NotFound(id))?;
        let look = match self.looks(&survey.spec).await.remove(store) {
            Some(Ok(look)) => look,
            Some(Err(why)) => return Err(TraceError::Store { artifact: id, why }),
            None => return Err(TraceError::NotFound(id)),
        };
        let manifest = committed::read(&look.folder(backup), id, &self.keys).await?.manifest;
        let revision = revision::describe(self.mirror.path(), &manifest.revision).map_err(|e| e.to_string());
        Ok(Trace { manifest, store: store.clone(), revision })
    }
}
