//! Checks of stored artifacts. What could not be looked at is never found good: an outage ends the check with an error.

use std::{pin::pin, sync::Arc};

use futures::TryStreamExt;

use super::{
    compare, copy,
    stream::{ArtifactStream, Damage, StreamError},
};
use crate::{
    artifact::{
        ArtifactId, Depth, Manifest,
        layout::{self, Object, ObjectName, PackName},
        manifest::Content,
    },
    committed::{self, BackupFolder, ReadError},
    keys::Keys,
    progress::Progress,
    stores::StoreError,
};

/// A check that could not be made. Nothing is known of the artifact.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest is signed and cannot be understood.
    #[error(transparent)]
    Manifest(ReadError),
    /// There is no identity to check the plaintext with.
    #[error(transparent)]
    Plaintext(StreamError),
}

/// Checks an artifact as deep as asked, and returns what is wrong, object by object; nothing when all is well.
pub async fn verify(
    folder: &BackupFolder,
    artifact: ArtifactId,
    depth: Depth,
    keys: &Arc<Keys>,
    progress: &dyn Progress,
) -> Result<Vec<Damage>, VerifyError> {
    let manifest = match committed::read(folder, artifact, keys).await {
        Ok(committed) => committed.manifest,
        Err(error) => return manifest_damage(folder, artifact, error),
    };
    let damage = check_objects(folder, &manifest, depth, progress).await?;
    let stored_here = matches!(manifest.content, Content::Segments(_));
    if damage.is_empty() && depth == Depth::Plaintext && stored_here {
        return check_plaintext(folder, manifest, keys).await;
    }
    Ok(damage)
}

fn manifest_damage(
    folder: &BackupFolder,
    artifact: ArtifactId,
    error: ReadError,
) -> Result<Vec<Damage>, VerifyError> {
    match error {
        ReadError::Store(error) => Err(VerifyError::Store(error)),
        ReadError::Missing { object, .. } => Ok(vec![Damage::new(object, "is missing")]),
        ReadError::Untrusted { reason, .. } => {
            let fault = format!("or its signature is altered: {reason}");
            Ok(vec![Damage::new(folder.manifest(artifact), fault)])
        }
        ReadError::Malformed { .. } => Err(VerifyError::Manifest(error)),
    }
}

async fn check_objects(
    folder: &BackupFolder,
    manifest: &Manifest,
    depth: Depth,
    progress: &dyn Progress,
) -> Result<Vec<Damage>, VerifyError> {
    let mut damage = Vec::new();
    for (object, stored) in copy::objects(folder, manifest) {
        let fault = match depth {
            Depth::Metadata => compare::presence(folder.store.as_ref(), &object, stored).await?,
            Depth::Data | Depth::Plaintext => {
                compare::content(folder.store.as_ref(), &object, stored).await?
            }
        };
        progress.read(stored.size);
        let pack = pack_of(folder, &object);
        damage.extend(fault.map(|fault| Damage { pack, ..Damage::new(object, fault) }));
    }
    Ok(damage)
}

fn pack_of(folder: &BackupFolder, object: &ObjectName) -> Option<PackName> {
    match layout::classify(&folder.fleet, object) {
        Some(Object::Pack(_, pack)) => Some(pack),
        _ => None,
    }
}

async fn check_plaintext(
    folder: &BackupFolder,
    manifest: Manifest,
    keys: &Arc<Keys>,
) -> Result<Vec<Damage>, VerifyError> {
    let read = async {
        let stream = ArtifactStream::open(folder.clone(), manifest, keys.clone()).await?;
        let mut pieces = pin!(stream.pieces());
        while pieces.try_next().await?.is_some() {}
        Ok(())
    };
    match read.await {
        Ok(()) => Ok(Vec::new()),
        Err(StreamError::Damaged { damage, .. }) => Ok(vec![damage]),
        Err(StreamError::Store(error)) => Err(VerifyError::Store(error)),
        Err(error) => Err(VerifyError::Plaintext(error)),
    }
}
