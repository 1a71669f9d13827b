//! A file of a PostgreSQL server's log out of the stores: that of the newest artifact which has it.

use std::{path::Path, sync::Arc};

use tempfile::NamedTempFile;

use super::{Controller, PassError, Terms};
use crate::{
    apply::stream::{ArtifactStream, End, StreamError},
    archive::folder_of,
    artifact::{
        ArtifactId, Kind,
        position::{LogPosition, Lsn, WalPosition},
    },
    committed,
    inventory::{Observed, StoredArtifact},
    progress::Unseen,
    sources::log_file,
    spec::names::{BackupName, StoreName},
};

/// A file that could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The stores could not be looked at.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// An artifact that may have it can't be read.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// An artifact that may have it can't be read.
    #[error("failed to read {artifact} from {store}: {reason}")]
    Read {
        /// The artifact.
        artifact: ArtifactId,
        /// Where.
        store: StoreName,
        /// Why.
        reason: String,
    },
}

/// What came of looking for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is there now.
    Found,
    /// No store has it, as far as could be seen: those that could not are named.
    Nowhere {
        /// `; offsite could not be seen: …`
        unseen: Option<String>,
    },
}

impl Controller {
    /// Writes a file of a log to `to`, which is seen only whole. Segments are of `segment_size` bytes.
    ///
    /// # Errors
    /// [`FetchError`]; then there is nothing at `to` that was not there before.
    pub async fn fetch_wal(
        &self,
        backup: &BackupName,
        name: &str,
        to: &Path,
        segment_size: u64,
    ) -> Result<Fetched, FetchError> {
        let survey = self.survey(&Terms::default()).await?;
        let folder = survey.spec.moved.folder(backup);
        let looks = self.looks(&survey.spec).await;
        let mut unseen = Vec::new();
        for (store, found) in &survey.inventory.stores {
            let seen = match found {
                Observed::Known(seen) => seen,
                Observed::Unknown(why) => {
                    unseen.push(format!("; {store} could not be seen: {why}"));
                    continue;
                }
            };
            let Some(Ok(look)) = looks.get(store) else { continue };
            let stored = seen.of(backup, &survey.spec.moved);
            let mut having: Vec<&StoredArtifact> = stored
                .into_iter()
                .flat_map(|it| &it.artifacts)
                .filter(|it| may_have(it, name, segment_size))
                .collect();
            // Where two have it, the newer one has all of it.
            having.sort_unstable_by_key(|it| std::cmp::Reverse((it.newest, it.id)));
            for artifact in having {
                let place = look.folder(&folder);
                let unreadable =
                    |reason: String| FetchError::Read { artifact: artifact.id, store: store.clone(), reason };
                let read = committed::read(&place, artifact.id, &self.keys).await;
                let manifest = read.map_err(|error| unreadable(error.to_string()))?.manifest;
                let stream = ArtifactStream::open(place, manifest, self.keys.clone()).await?;
                let mut reader = stream.reader(Arc::new(Unseen));
                let written = |error: std::io::Error| unreadable(error.to_string());
                let aside = NamedTempFile::new_in(folder_of(to)).map_err(written)?;
                let mut file = tokio::fs::File::from_std(aside.as_file().try_clone().map_err(written)?);
                let is_there = log_file(&mut reader.bytes, name, &mut file).await;
                match (is_there, reader.finish().await?) {
                    // It is put in place only once all of the stream has proved right.
                    (Ok(true), End::Whole) => {
                        aside.as_file().sync_all().map_err(written)?;
                        aside.persist(to).map_err(|error| written(error.error))?;
                        return Ok(Fetched::Found);
                    }
                    (Ok(true), End::Abandoned) => {
                        return Err(unreadable("its stream did not end".to_owned()));
                    }
                    (Ok(false), _) => {}
                    (Err(error), _) => return Err(written(error)),
                }
            }
        }
        let unseen = Some(unseen.concat()).filter(|unseen| !unseen.is_empty());
        Ok(Fetched::Nowhere { unseen })
    }
}

/// Whether an artifact is a log that may have this file.
fn may_have(artifact: &StoredArtifact, name: &str, segment_size: u64) -> bool {
    let place = |text: &str| match LogPosition::parse(text)? {
        LogPosition::Wal(WalPosition { lsn, history, .. }) => Some((lsn, history.timeline)),
        _ => None,
    };
    let edges = artifact
        .from()
        .and_then(|from| place(&from.position))
        .zip(artifact.position.as_deref().and_then(place));
    let Some(((from, older), (until, younger))) =
        edges.filter(|_| artifact.kind == Kind::Log && artifact.is_good())
    else {
        return false;
    };
    let hex = |range| u64::from_str_radix(name.get(range)?, 16).ok();
    let Some(timeline) = hex(0..8) else { return false };
    if name.ends_with(".history") {
        return u64::from(older) < timeline && timeline <= u64::from(younger);
    }
    let begin =
        hex(8..16).zip(hex(16..24)).map(|(high, low)| Lsn(high << 32 | low.saturating_mul(segment_size)));
    let is_of_it = (u64::from(older)..=u64::from(younger)).contains(&timeline);
    begin.is_some_and(|begin| is_of_it && begin <= until && from.0 < begin.0.saturating_add(segment_size))
}
