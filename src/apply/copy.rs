//! Copies: a committed artifact in a further store, byte for byte. Only what is missing there is carried.

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    compare,
    lease::Held,
    segment::Recipients,
    transfer::{self, AT_ONCE, TransferError},
};
use crate::{
    artifact::{
        ArtifactId,
        layout::ObjectName,
        manifest::{Content, Manifest, Stored},
    },
    clock::Clock,
    committed::{self, BackupFolder, Committed, ReadError},
    keys::Keys,
    progress::Progress,
};

/// What a copy carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Packs and indexes that were not there yet.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Copies `artifact` from `from` to `to`, under a lease, the manifest last. `own_recipients` are those that the store `to`
/// declares, if it does: a copy can't be encrypted to others than its original.
pub async fn copy(
    artifact: ArtifactId,
    from: &BackupFolder,
    to: &BackupFolder,
    own_recipients: Option<&Recipients>,
    keys: &Keys,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<Copied, TransferError> {
    let original = committed::read(from, artifact, keys).await?;
    if own_recipients.is_some_and(|own| !same_recipients(own, &original.manifest)) {
        return Err(TransferError::OtherRecipients { artifact, store: to.name.clone() });
    }
    if is_there(artifact, to, &original, keys).await? {
        return Ok(Copied::default());
    }
    let lease = Held::take(to, artifact, original.manifest.epoch, keys, clock).await?;
    let copied = carry(from, to, &original.manifest, progress).await?;
    transfer::confirm(to, artifact, objects(to, &original.manifest)).await?;
    lease.check(clock)?;
    transfer::commit(to, &original).await?;
    lease.release().await?;
    Ok(copied)
}

fn same_recipients(own: &Recipients, manifest: &Manifest) -> bool {
    let theirs = Recipients::parse(manifest.recipients.iter().map(String::as_str));
    theirs.is_ok_and(|theirs| theirs.to_texts() == own.to_texts())
}

/// Whether the very same manifest is committed there already.
async fn is_there(
    artifact: ArtifactId,
    to: &BackupFolder,
    original: &Committed,
    keys: &Keys,
) -> Result<bool, TransferError> {
    match committed::read(to, artifact, keys).await {
        Ok(there) if there.bytes == original.bytes => Ok(true),
        Ok(_) => Err(transfer::conflict(to, &to.manifest(artifact), "commits something else")),
        Err(ReadError::Missing { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Every object that a manifest names, in `folder`.
pub(super) fn objects<'a>(
    folder: &'a BackupFolder,
    manifest: &'a Manifest,
) -> impl Iterator<Item = (ObjectName, &'a Stored)> {
    let segments = match &manifest.content {
        Content::Segments(segments) => Some(segments),
        Content::Native { .. } => None,
    };
    segments.into_iter().flat_map(move |segments| {
        let packs = segments.packs.iter().map(|(pack, stored)| (folder.pack(*pack), stored));
        packs.chain([(folder.index(manifest.artifact), &segments.index)])
    })
}

async fn carry(
    from: &BackupFolder,
    to: &BackupFolder,
    manifest: &Manifest,
    progress: &dyn Progress,
) -> Result<Copied, TransferError> {
    // Objects have the same names in every store.
    let carries: Vec<_> = objects(from, manifest)
        .map(|(object, stored)| carry_object(from, to, object, (manifest.artifact, stored), progress))
        .collect();
    let carried: Vec<u64> = stream::iter(carries)
        .buffer_unordered(AT_ONCE)
        .try_filter_map(|bytes| async move { Ok(bytes) })
        .try_collect()
        .await?;
    Ok(Copied { objects: carried.len() as u64, bytes: carried.iter().sum() })
}

/// Carries one object; `None` when it was there.
async fn carry_object(
    from: &BackupFolder,
    to: &BackupFolder,
    object: ObjectName,
    (artifact, stored): (ArtifactId, &Stored),
    progress: &dyn Progress,
) -> Result<Option<u64>, TransferError> {
    if to.store.stat(&object).await?.is_some() {
        return match compare::presence(to.store.as_ref(), &object, stored).await? {
            None => Ok(None),
            Some(fault) => Err(transfer::conflict(to, &object, fault)),
        };
    }
    match transfer::fetch(from, &object, stored).await? {
        Ok(content) => {
            progress.read(stored.size);
            transfer::put(to, &object, content, stored).await?;
            progress.written(stored.size);
            Ok(Some(stored.size))
        }
        Err(damage) => Err(TransferError::Damaged { artifact, store: from.name.clone(), damage }),
    }
}
