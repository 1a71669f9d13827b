//! What recoveries have providers make of what they keep.

use super::{natives::of_kind, noted};
use crate::{
    apply::{
        executor::{Done, Failure},
        lease::Reading,
        world::{World, stalled},
    },
    artifact::{ArtifactId, manifest::Content},
    inventory::{NativeReference, Renewal},
    plan::action::{KeptBy, Renew, Restore},
    sources::{Kept, Restored},
};

impl World {
    /// Has a provider make what the plan names, or takes up again what the same recovery began. While an artifact is restored its
    /// readers' lease is held in the store: it is deleted with its native backup otherwise.
    pub(super) async fn renew(&self, renew: &Renew, reader: Option<ArtifactId>) -> Result<Done, Failure> {
        match &renew.from {
            KeptBy::Moment(at) => {
                let hosted = self.hosted(&renew.backup).await?;
                let renewed = hosted.provider()?.renew(&Kept::Moment(*at), &renewal(renew)).await;
                Ok(restored(&renewed.map_err(stalled)?, None))
            }
            KeptBy::Artifact(restore) => {
                let reader = reader.ok_or_else(|| stalled("no name was given"))?;
                let name = self.spec.moved.folder(&renew.backup);
                let (folder, clock) = (self.folder(&restore.store, &name)?, self.clock.as_ref());
                let read = restore.artifacts.iter().copied().collect();
                let reading = Reading::begin(&folder, reader, read, &self.keys, clock).await;
                let renewed = reading.during(clock, self.renew_artifact(renew, restore)).await;
                let unseen = reading.end().await;
                Ok(restored(&renewed?, unseen))
            }
        }
    }

    async fn renew_artifact(&self, renew: &Renew, restore: &Restore) -> Result<Restored, Failure> {
        let name = self.spec.moved.folder(&renew.backup);
        let folder = self.folder(&restore.store, &name)?;
        let manifests = self.manifests(&folder, &restore.artifacts).await?;
        let Some(Content::Native { provider: kind, reference, place }) =
            manifests.last().map(|manifest| &manifest.content)
        else {
            return Err(stalled(format!(
                "failed to restore {} to {}: what was chosen is no backup of its provider",
                renew.backup, renew.to
            )));
        };
        let native =
            NativeReference { provider: kind.clone(), reference: reference.clone(), place: place.clone() };
        // Of another account it is asked for in vain, and what bears the name there is somebody else's.
        let (hosted, _) = self.asked(&name, &native).await?;
        let renewed = of_kind(&hosted, kind)?.renew(&Kept::Backup(reference), &renewal(renew)).await;
        renewed.map_err(stalled)
    }
}

fn renewal(renew: &Renew) -> Renewal {
    Renewal { name: renew.to.name().to_owned(), mark: renew.mark.clone(), begun: renew.begun }
}

fn restored(restored: &Restored, unseen: Option<String>) -> Done {
    let unseen = unseen
        .map(|why| format!("; warning: nothing kept others from deleting what was read meanwhile: {why}"));
    noted(format!("restored to {}{}", restored.place, unseen.unwrap_or_default()))
}
