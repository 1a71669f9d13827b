//! Restores: the reverse of a capture. Artifacts are brought back in order, each proved as it streams.

use std::{path::Path, sync::Arc};

use super::stream::{ArtifactStream, End, Reader, StreamError};
use crate::{
    artifact::{
        ArtifactId, Manifest,
        manifest::{Content, Moment},
        until::Until,
    },
    committed::BackupFolder,
    keys::Keys,
    progress::Progress,
    scratch,
    sources::{Place, Replay, Restored, Source, SourceError},
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
    /// The data does not tell where in the log it stands.
    #[error(
        "failed to replay logs: artifact {0} does not tell where in the log its data stands; restore it without them"
    )]
    NoPosition(ArtifactId),
    /// Another way to capture is declared now than the data were captured in.
    #[error(
        "failed to restore {artifact} in place: its stream is `{stream}`, and what is declared now captures `{declared}`; declare \
         it as it was, or restore to a folder"
    )]
    CapturedOtherwise {
        /// The artifact.
        artifact: ArtifactId,
        /// The name of its stream.
        stream: String,
        /// What streams are called now.
        declared: String,
    },
    /// There is no place to put the chain together.
    #[error(
        "failed to make a folder beside the place of the restore: {0}; name a place in a folder that may be written"
    )]
    Aside(String),
    /// A part could not be brought back through a private server.
    #[error("failed to restore a part: {0}")]
    Private(String),
    /// The source was content with a part of the stream, and the rest proved nothing.
    #[error("failed to restore {artifact} from {store}: its stream was not read to its end; report this")]
    Abandoned {
        /// The artifact.
        artifact: ArtifactId,
        /// Where it was read.
        store: StoreName,
    },
}

/// Logs to replay over what was restored, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logs<'a> {
    /// Their manifests.
    pub manifests: &'a [Manifest],
    /// Where replay ends; everything is replayed where it is `None`.
    pub until: Option<&'a Until>,
}

/// Restores the last of `manifests`, which the others come before: those that it requires, oldest first; then replays
/// `logs`. Each must be one of `folder`, its signature trusted.
pub async fn restore(
    manifests: &[Manifest],
    logs: Logs<'_>,
    folder: &BackupFolder,
    source: &dyn Source,
    place: &Place,
    keys: &Arc<Keys>,
    progress: &Arc<dyn Progress>,
) -> Result<Restored, RestoreError> {
    let mut replaying = replay(manifests, logs)?;
    let made = source.prepare(place).await.map_err(RestoreError::Source)?;
    if replaying.is_some() && made == Place::Original {
        // Whatever can be found out about the streams before is: from here on the original is gone.
        for manifest in manifests.iter().chain(logs.manifests) {
            open(manifest, folder, keys).await?;
        }
        must_be_captured_alike(manifests, source)?;
        let sealed =
            manifests.last().and_then(|manifest| super::stream::sealed(manifest, keys).ok().flatten());
        let version = sealed.as_ref().and_then(|sealed| sealed.details.versions.get("server"));
        source.must_take(version.map(String::as_str)).await.map_err(RestoreError::Source)?;
        source.make_way().await.map_err(RestoreError::Source)?;
    }
    let mut restored = restore_data(manifests, folder, source, &made, keys, progress).await?;
    if let Some(replaying) = &mut replaying {
        restored = replay_each(replaying, logs, folder, source, &made, keys, progress).await?;
    }
    source.conclude(&made, place, replaying.as_ref(), restored).await.map_err(RestoreError::Source)
}

/// Replays `logs` over what was restored of `manifests` to `place`, where it was put together, and nothing else.
pub async fn replay_logs(
    manifests: &[Manifest],
    logs: Logs<'_>,
    folder: &BackupFolder,
    source: &dyn Source,
    place: &Place,
    keys: &Arc<Keys>,
    progress: &Arc<dyn Progress>,
) -> Result<Restored, RestoreError> {
    let Some(mut replaying) = replay(manifests, logs)? else { return Err(RestoreError::Nothing) };
    let restored = replay_each(&mut replaying, logs, folder, source, place, keys, progress).await?;
    source.conclude(place, place, Some(&replaying), restored).await.map_err(RestoreError::Source)
}

async fn replay_each(
    replaying: &mut Replay,
    logs: Logs<'_>,
    folder: &BackupFolder,
    source: &dyn Source,
    place: &Place,
    keys: &Arc<Keys>,
    progress: &Arc<dyn Progress>,
) -> Result<Restored, RestoreError> {
    let mut restored = Err(RestoreError::Nothing);
    for manifest in logs.manifests {
        let mut reader = open(manifest, folder, keys).await?.reader(progress.clone());
        let replayed = source.replay(&mut reader.bytes, place, replaying).await;
        restored = Ok(proved(replayed, reader, manifest, folder).await?);
        if let Moment::Window { until, .. } = &manifest.moment {
            // Logs may overlap: nothing is replayed twice.
            replaying.from.clone_from(&until.position);
        }
    }
    restored
}

/// What can't be loaded must not make way for itself.
fn must_be_captured_alike(manifests: &[Manifest], source: &dyn Source) -> Result<(), RestoreError> {
    let declared = source.stream_name();
    let otherwise = |manifest: &&Manifest| match &manifest.content {
        Content::Segments(segments) => segments.stream != declared,
        Content::Native { .. } => true,
    };
    let Some(manifest) = manifests.iter().find(otherwise) else { return Ok(()) };
    let stream = match &manifest.content {
        Content::Segments(segments) => segments.stream.clone(),
        Content::Native { reference, .. } => reference.clone(),
    };
    Err(RestoreError::CapturedOtherwise { artifact: manifest.artifact, stream, declared })
}

/// From where to where logs are replayed; `None` where there are none.
fn replay(manifests: &[Manifest], logs: Logs<'_>) -> Result<Option<Replay>, RestoreError> {
    let Some(data) = manifests.last().filter(|_| !logs.manifests.is_empty()) else { return Ok(None) };
    match &data.moment {
        Moment::At { position: Some(from), .. } => {
            Ok(Some(Replay { from: from.clone(), until: logs.until.cloned() }))
        }
        _ => Err(RestoreError::NoPosition(data.artifact)),
    }
}

async fn open(
    manifest: &Manifest,
    folder: &BackupFolder,
    keys: &Arc<Keys>,
) -> Result<ArtifactStream, RestoreError> {
    let opened = ArtifactStream::open(folder.clone(), manifest.clone(), keys.clone()).await;
    opened.map_err(RestoreError::Stream)
}

async fn restore_data(
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
    match place {
        Place::File(path) | Place::Folder(path) => {
            scratch::folder_in(path.parent().unwrap_or_else(|| Path::new("/")), ".backstay-")
        }
        Place::Database(_) | Place::Bucket { .. } | Place::Original => scratch::folder(),
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
        let mut reader = open(manifest, folder, keys).await?.reader(progress.clone());
        let one = source.restore(&mut reader.bytes, place).await;
        restored = Ok(proved(one, reader, manifest, folder).await?);
    }
    restored
}

/// What a source made of a stream, once the stream has proved right.
async fn proved(
    restored: Result<Restored, SourceError>,
    reader: Reader,
    manifest: &Manifest,
    folder: &BackupFolder,
) -> Result<Restored, RestoreError> {
    match restored {
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
