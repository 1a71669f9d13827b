//! Everything that a look shows, and what it says of single backups and artifacts.

use std::sync::Arc;

use serde::Serialize;

use super::{Controller, Pass, desired::Verification};
use crate::{
    artifact::{
        ArtifactId, Manifest,
        record::{Event, Signer},
    },
    committed::{self, ReadError},
    git::{Revision, revision},
    inventory::{Condition, Inventory},
    observe::stores::Look,
    plan::Limits,
    spec::{
        Spec,
        names::{BackupName, FolderName, StoreName},
    },
    status::{
        drifted::{self, Report},
        explain::{self, ArtifactExplanation, BackupExplanation},
    },
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

    /// What differs from how Backstay left it, each with what becomes of it; and what could not be seen.
    pub fn drift(&self) -> Report {
        drifted::report(&self.spec, &self.inventory, &self.pass.plan, self.pass.plan.at)
    }

    /// The folder of an artifact and a store that has it, a good copy before a damaged one.
    fn find(&self, id: ArtifactId) -> Option<(&FolderName, &StoreName)> {
        let stores = self.inventory.stores.iter().filter_map(|(name, seen)| Some((name, seen.known()?)));
        let all =
            stores.flat_map(|(store, found)| found.backups.iter().map(move |(folder, s)| (folder, store, s)));
        let holders = all.filter_map(|(folder, store, stored)| {
            let artifact = stored.artifacts.iter().find(|artifact| artifact.id == id)?;
            Some((artifact.condition != Condition::Good, folder, store))
        });
        holders.min().map(|(_, folder, store)| (folder, store))
    }
}

/// An artifact's manifest, and the commit that declared its backup.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its backup, by the name that it has now.
    pub backup: BackupName,
    /// The manifest, its signature trusted.
    pub manifest: Manifest,
    /// Where it was read.
    pub store: StoreName,
    /// The commit; or why the infra repo does not have it.
    pub revision: Result<Revision, String>,
    /// Who signed it by the files of this host as they are now.
    pub signed_now: Signature,
    /// Who had signed it when it came into force, as the store's records say.
    pub signed_then: Option<Signer>,
}

/// Whether a signature counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signature {
    /// It does: whose it is.
    Counts(Signer),
    /// It does not, or there is none: why.
    DoesNotCount(String),
    /// This host verifies no signatures.
    NotVerified,
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
        let (folder, store) = survey.find(id).ok_or(TraceError::NotFound(id))?;
        let look = match self.looks(&survey.spec).await.remove(store) {
            Some(Ok(look)) => look,
            Some(Err(why)) => return Err(TraceError::Store { artifact: id, why }),
            None => return Err(TraceError::NotFound(id)),
        };
        let manifest = committed::read(&look.folder(folder), id, &self.keys).await?.manifest;
        let backup = survey.spec.moved.backup(&manifest.backup);
        let revision = revision::describe(self.mirror.path(), &manifest.revision).map_err(|e| e.to_string());
        let signed_now = self.signature_of(&manifest.revision).await;
        let signed_then = signer_when_in_force(&look, &manifest.revision).await;
        Ok(Trace { backup, manifest, store: store.clone(), revision, signed_now, signed_then })
    }

    async fn signature_of(&self, revision: &str) -> Signature {
        match self.verification() {
            Verification::Off => Signature::NotVerified,
            Verification::Unusable(why) => Signature::DoesNotCount(why),
            Verification::By(trust) => match trust.vouch(&self.mirror, revision).await {
                Ok(signer) => Signature::Counts(signer),
                Err(why) => Signature::DoesNotCount(why.to_string()),
            },
        }
    }
}

/// Who had signed a revision when it last came into force, as far as a store's records can be read and tell.
async fn signer_when_in_force(look: &Look, wanted: &str) -> Option<Signer> {
    let records = look.chain().await.ok()?.records;
    let events = records.iter().rev().flat_map(|record| record.events.iter().rev());
    let mut signers = events.filter_map(|event| match event {
        Event::InForce { revision, signer } if revision == wanted => Some(signer.clone()),
        _ => None,
    });
    signers.next()?
}
