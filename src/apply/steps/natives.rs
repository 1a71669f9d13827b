//! Steps that a provider takes: how it is set, and what becomes of the backups that it keeps.

use super::{noted, transfers::undeclared};
use crate::{
    apply::{
        executor::{Done, Failure},
        world::{World, stalled},
    },
    artifact::{
        ArtifactId, Manifest,
        manifest::{Content, NativePlace},
    },
    inventory::{NativeName, NativePrefix, NativeReference, NativeState, Observed},
    observe::{listing::FleetListing, stores::Look},
    plan::action::{Destination, Protect},
    sources::{Provider, Restored, Source},
    spec::names::{BackupName, FolderName, StoreName},
    stores::Class,
};

/// A source whose provider is asked.
pub(super) struct Hosted(Box<dyn Source>);

impl Hosted {
    pub(super) fn of(source: Box<dyn Source>) -> Self {
        Self(source)
    }

    pub(super) fn provider(&self) -> Result<&dyn Provider, Failure> {
        let none = || {
            stalled("failed to ask the provider: what is declared now has none; declare the source as it was")
        };
        self.0.provider().ok_or_else(none)
    }
}

impl World {
    /// Sets a provider, if it still is set as it was when that was decided, and looks whether it took effect.
    pub(in crate::apply) async fn protect(&self, protect: &Protect) -> Result<Done, Failure> {
        let Protect { backup, from, snapshots_from, to } = protect;
        let hosted = self.hosted(backup).await?;
        let provider = hosted.provider()?;
        let before = provider.settings().await?;
        if to.point_in_time.is_some() && before.point_in_time != *from {
            let message = format!(
                "failed to set the provider of {backup}: point-in-time recovery is {} by now, and was {from} when this was \
                 planned; a later pass looks again",
                before.point_in_time
            );
            return Err(Failure { class: Class::Wait(std::time::Duration::from_secs(60)), message });
        }
        if to.snapshots.is_some() && before.snapshots != *snapshots_from {
            let message = format!(
                "failed to set the provider of {backup}: it has {before} by now, and made other snapshots when this was planned; a \
                 later pass looks again"
            );
            return Err(Failure { class: Class::Wait(std::time::Duration::from_secs(60)), message });
        }
        let set = provider.protect(to).await;
        // A failure may come after the change; and what was looked at before it is what is no more.
        self.deeds.touch_providers();
        set?;
        let after = provider.settings().await?;
        match (after.lacks(to), after.changing) {
            (None, _) => Ok(noted(format!("it was {before}"))),
            (Some(_), Some(changing)) => {
                Ok(noted(format!("it was {before}; its provider is at it: {changing}")))
            }
            (Some(lacking), None) => Err(Failure {
                class: Class::Retry,
                message: format!(
                    "failed to set the provider of {backup}: it accepted {lacking}, and does not show it; look at the provider"
                ),
            }),
        }
    }

    /// Has a provider make something new of the data as it was at a moment.
    pub(in crate::apply) async fn rewind(
        &self,
        backup: &BackupName,
        at: jiff::Timestamp,
        to: &str,
    ) -> Result<Done, Failure> {
        let hosted = self.hosted(backup).await?;
        let restored = hosted.provider()?.rewind(at, to).await.map_err(final_failure)?;
        Ok(noted(format!("restored to {}", restored.place)))
    }

    /// Restores a native backup, where the manifest tells of one.
    pub(super) async fn restore_native(
        &self,
        backup: &BackupName,
        manifest: &Manifest,
        to: &Destination,
    ) -> Result<Option<Restored>, Failure> {
        let Content::Native { provider: kind, reference, place } = &manifest.content else { return Ok(None) };
        let native =
            NativeReference { provider: kind.clone(), reference: reference.clone(), place: place.clone() };
        let declared = self.spec.backups.get(backup).ok_or_else(|| undeclared(backup))?;
        if let Some(why) = native.out_of_reach(&declared.source, None) {
            return Err(stalled(format!("failed to restore {}: {why}", manifest.artifact)));
        }
        let hosted = self.hosted(backup).await?;
        let provider = of_kind(&hosted, kind)?;
        let restored = match to {
            Destination::Database(to) => provider.restore_native(reference, to).await,
            Destination::File(to) => provider.download(reference, to).await,
            Destination::Folder(_) | Destination::Bucket { .. } | Destination::InPlace => {
                let artifact = manifest.artifact;
                return Err(stalled(format!(
                    "failed to restore {artifact} to {to}: it is a {kind}, of which its provider makes something new; name what \
                     does not exist yet"
                )));
            }
        };
        Ok(Some(restored.map_err(final_failure)?))
    }

    /// What is wrong with a native backup, as its provider tells; nothing where it can be restored. Fails where nobody can tell.
    pub(super) async fn native_damage(
        &self,
        backup: &FolderName,
        native: &NativeReference,
    ) -> Result<Option<String>, Failure> {
        let (hosted, state) = self.asked(backup, native).await?;
        let what = format!("{} {}", hosted.provider()?.kind(), native.reference);
        Ok(match state {
            NativeState::Available => None,
            NativeState::Gone => Some(format!("{what} is gone at its provider")),
            NativeState::Making => Some(format!("{what} is not whole at its provider")),
            NativeState::Broken(why) => Some(format!("{what} can't be restored by its provider: {why}")),
        })
    }

    /// The provider of a native backup that is about to be deleted, once it has answered: where it does not, nothing is deleted.
    pub(super) async fn keeper_of(
        &self,
        backup: &FolderName,
        store: &StoreName,
        artifact: ArtifactId,
    ) -> Result<Option<Kept>, Failure> {
        let Some(stored) = self.stored(store, backup, artifact) else { return Ok(None) };
        let Some(native) = stored.native.as_deref() else { return Ok(None) };
        let (hosted, _) = self.asked(backup, native).await?;
        let fleet = &self.spec.fleet.name;
        let name = NativeName::of(fleet, backup, stored.content());
        Ok(Some(Kept { hosted, reference: native.reference.clone(), artifact: stored.content(), name }))
    }

    /// How a native backup is, and the source whose provider says so, if that is where it lies: another place has none of it, whatever
    /// it answers.
    pub(super) async fn asked(
        &self,
        backup: &FolderName,
        native: &NativeReference,
    ) -> Result<(Hosted, NativeState), Failure> {
        let name = self.spec.moved.backup(backup);
        let declared = self.spec.backups.get(&name).ok_or_else(|| undeclared(&name))?;
        let refused = |why: String| stalled(format!("failed to ask for {}: {why}", native.reference));
        let hosted = self.hosted(&name).await?;
        let provider = hosted.provider()?;
        let account = match &native.place {
            Some(NativePlace { account: Some(_), .. }) => provider.account().await?,
            _ => None,
        };
        if let Some(why) = native.out_of_reach(&declared.source, account.as_deref()) {
            return Err(refused(why));
        }
        let state = provider.state(&native.reference).await?;
        match native.out_of_reach_of(&declared.source, account.as_deref()) {
            // What is found is it, by its name.
            Some(why) if state == NativeState::Gone => Err(refused(why)),
            _ => Ok((hosted, state)),
        }
    }

    /// Deletes a native backup whose manifest is deleted, unless another manifest names it in any store. Where that can't be told, it
    /// stays, and why.
    pub(super) async fn let_native_go(
        &self,
        backup: &FolderName,
        kept: Kept,
    ) -> Result<Option<String>, Failure> {
        if let Some(why) = self.is_or_may_be_named(backup, &kept.reference).await {
            return Ok(Some(why));
        }
        if let Some(store) = self.undeclared_since(kept.artifact) {
            return Ok(Some(format!(
                "store {store} was in use when it was made and is declared no more, and may have a manifest that names it; declare \
                 it again, or delete {} by hand",
                kept.reference
            )));
        }
        kept.hosted.provider()?.delete(&kept.reference, &kept.name).await?;
        Ok(None)
    }

    /// A store that is declared no more, and was known to another one's records since an artifact was made.
    fn undeclared_since(&self, artifact: ArtifactId) -> Option<&StoreName> {
        let known = self.inventory.stores.values().filter_map(Observed::known);
        let mut others = known.flat_map(|store| store.records.known_stores());
        let is_lost = |(store, until): &(&StoreName, &jiff::Timestamp)| {
            !self.stores.contains_key(*store) && **until >= artifact.time()
        };
        others.find(is_lost).map(|(store, _)| store)
    }

    /// Which store has a manifest that names a native backup, or may have one.
    async fn is_or_may_be_named(&self, backup: &FolderName, reference: &str) -> Option<String> {
        for (name, look) in &self.stores {
            let named = match look {
                Ok(look) => is_named(look, backup, reference).await,
                Err(why) => Err(why.clone()),
            };
            match named {
                Ok(false) => {}
                Ok(true) => return Some(format!("{name} has a manifest that names it")),
                Err(why) => return Some(format!("{name} may have a manifest that names it: {why}")),
            }
        }
        None
    }

    /// Deletes what a capture that committed nothing had its provider make.
    pub(super) async fn forget_natives(
        &self,
        backup: &FolderName,
        artifact: ArtifactId,
    ) -> Result<usize, Failure> {
        let name = self.spec.moved.backup(backup);
        let declared = self.spec.backups.get(&name).is_some_and(|declared| declared.source.is_native());
        let had = self.inventory.provided(&name).known().is_some_and(|provided| provided.natives.is_some());
        if !declared && !had {
            return Ok(0);
        }
        let hosted = self.hosted(&name).await?;
        let provider = hosted.provider()?;
        let prefix = NativePrefix::of(&self.spec.fleet.name, backup);
        let made = provider.natives(&prefix).await?;
        let ours: Vec<_> = made.into_iter().filter(|(_, native)| native.artifact == artifact).collect();
        for (reference, _) in &ours {
            if let Some(why) = self.is_or_may_be_named(backup, reference).await {
                return Err(stalled(format!("failed to forget {reference}, which its provider made: {why}")));
            }
            provider.delete(reference, &NativeName::of(&self.spec.fleet.name, backup, artifact)).await?;
        }
        Ok(ours.len())
    }

    pub(super) async fn hosted(&self, backup: &BackupName) -> Result<Hosted, Failure> {
        let declared = self.spec.backups.get(backup).ok_or_else(|| undeclared(backup))?;
        Ok(Hosted(self.drivers.source(&declared.source).await?))
    }
}

/// A native backup that is about to go.
pub(super) struct Kept {
    hosted: Hosted,
    reference: String,
    artifact: ArtifactId,
    name: NativeName,
}

pub(super) fn of_kind<'a>(hosted: &'a Hosted, kind: &str) -> Result<&'a dyn Provider, Failure> {
    let provider = hosted.provider()?;
    match provider.kind() == kind {
        true => Ok(provider),
        false => Err(stalled(format!(
            "failed to restore a {kind}: the source that is declared now keeps {} only; declare it as it was",
            provider.kind()
        ))),
    }
}

/// What a provider began to make may go on without us: nothing is tried again over it.
fn final_failure(error: crate::sources::SourceError) -> Failure {
    stalled(error)
}

/// Whether a manifest of the backup in a store names a native backup. One that can't be read may.
async fn is_named(look: &Look, backup: &FolderName, reference: &str) -> Result<bool, String> {
    let listed = look.store.list(&look.folder(backup).folder()).await.map_err(|error| error.to_string())?;
    let listing = FleetListing::sort(&look.fleet, listed).backups.remove(backup).unwrap_or_default();
    let outlines = look.outlines(backup, &listing).await.map_err(|error| error.to_string())?;
    for outline in outlines.into_values() {
        if outline?.native() == Some(reference) {
            return Ok(true);
        }
    }
    Ok(false)
}
