//! Restores: the reverse of a capture. Artifacts are brought back in order, each proved as it streams.

use std::{path::Path, sync::Arc};

use super::stream::{ArtifactStream, End, Reader, StreamError};
use crate::{
    artifact::{ArtifactId, Manifest},
    committed::BackupFolder,
    keys::Keys,
    progress::Progress,
    sources::{Place, Restored, Source, SourceError},
    spec::names::StoreName,
};

/// Why a restore did not come to its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RestoreError {
    /// No artifact was named.
    #[error("failed to restore: no artifact was named; see backstay list for what the stores hold")]
    Nothing,
    /// The artifact could not be read. What was restored until then is incomplete.
    #[error(transparent)]
    Stream(StreamError),
    /// The source refused or failed. What was restored until then is incomplete.
    #[error(transparent)]
    Source(SourceError),
    /// There is no place to put the chain together.
    #[error(
        "failed to make a folder beside the place of the restore: {0}; name a place in a folder that may be written"
    )]
    Aside(String),
    /// The source was content with a part of the stream, and the rest proved nothing.
    #[error("failed to restore {artifact} from {store}: its stream was not read to its end; report this")]
    Abandoned {
        /// The artifact.
        artifact: ArtifactId,
        /// Where it was read.
        store: StoreName,
    },
}

/// Restores the last of `manifests`, which the others come before: those that it requires, oldest first. Each must be one
/// of `folder`, its signature trusted.
pub async fn restore(
    manifests: &[Manifest],
    folder: &BackupFolder,
    source: &dyn Source,
    place: &Place,
    keys: &Arc<Keys>,
    progress: &Arc<dyn Progress>,
) -> Result<Restored, RestoreError> {
    if manifests.len() < 2 || source.adds_up(place) {
        return in_order(manifests, folder, source, place, keys, progress).await;
    }
    let aside = aside(place).map_err(|e| RestoreError::Aside(e.to_string()))?;
    let whole = aside.path().join("whole");
    in_order(manifests, folder, source, &Place::Folder(whole.clone()), keys, progress).await?;
    source.join(&whole, place).await.map_err(RestoreError::Source)
}

/// A private folder beside a place; removed with what it holds when it is dropped.
fn aside(place: &Place) -> std::io::Result<tempfile::TempDir> {
    let mut folder = tempfile::Builder::new();
    folder.prefix(".backstay-");
    match place {
        Place::File(path) | Place::Folder(path) => {
            folder.tempdir_in(path.parent().unwrap_or_else(|| Path::new("/")))
        }
        Place::Database(_) | Place::Original => folder.tempdir(),
    }
}

async fn in_order(
    manifests: &[Manifest],
    folder: &BackupFolder,
    source: &dyn Source,
    place: &Place,
    keys: &Arc<Keys>,
    progress: &Arc<dyn Progress>,
) -> Result<Restored, RestoreError> {
    let mut restored = Err(RestoreError::Nothing);
    for manifest in manifests {
        let stream = ArtifactStream::open(folder.clone(), manifest.clone(), keys.clone())
            .await
            .map_err(RestoreError::Stream)?;
        let reader = stream.reader(progress.clone());
        restored = Ok(restore_one(reader, manifest, folder, source, place).await?);
    }
    restored
}

async fn restore_one(
    mut reader: Reader,
    manifest: &Manifest,
    folder: &BackupFolder,
    source: &dyn Source,
    place: &Place,
) -> Result<Restored, RestoreError> {
    match source.restore(&mut reader.bytes, place).await {
        // A format may end before its stream does, and only the stream's end proves it.
        Ok(restored) => match reader.finish().await.map_err(RestoreError::Stream)? {
            End::Whole => Ok(restored),
            End::Abandoned => {
                Err(RestoreError::Abandoned { artifact: manifest.artifact, store: folder.name.clone() })
            }
        },
        // The source fails where its stream does, and the stream knows why.
        Err(error) => match reader.end().await {
            Err(cause) => Err(RestoreError::Stream(cause)),
            Ok(_) => Err(RestoreError::Source(error)),
        },
    }
}
