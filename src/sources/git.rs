//! The infra repo itself, captured from its mirror as a Git bundle and restored as a bare repository.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use git2::Repository;
use jiff::Timestamp;
use tokio::{
    fs::OpenOptions,
    io::{AsyncRead, AsyncWriteExt},
    sync::mpsc,
};
use tokio_util::io::StreamReader;

use super::{CaptureRequest, Captured, Place, Probe, Restored, Sink, Source, SourceError, aside::Aside};
use crate::{
    artifact::{
        Kind,
        manifest::{Counts, Details, Moment},
    },
    git::{
        bundle::{self, BundleError},
        tips::{Tips, tips_position},
        unbundle::{self, UnbundleError},
    },
    stores::Class,
};

/// Pieces of a bundle that may wait for the sink.
const WAITING: usize = 4;

/// The source of the reserved backup `infra`.
///
/// A [`Kind::Full`] is a complete bundle. Any other kind is a bundle on the prerequisites, and its manifest must name in
/// `requires` the whole chain of artifacts that it rests on, back to the full one.
///
/// A restore of such a chain calls [`Source::restore`] once for every artifact, oldest first, with the same place:
/// [`Place::Folder`] becomes a bare repository and takes each further bundle. A [`Place::File`] takes one bundle: a chain
/// is restored to a folder aside, and joined into a complete one.
#[derive(Clone, Debug)]
pub struct GitSource {
    mirror: PathBuf,
    prerequisites: Option<Tips>,
}

impl GitSource {
    /// The infra repo as mirrored in the bare repository `mirror`. `prerequisites` are the tips of the artifact that the
    /// next one rests on (see [`crate::git::stored::StoredTips::usable`]); without them only a full can be captured.
    pub fn new(mirror: PathBuf, prerequisites: Option<Tips>) -> Self {
        Self { mirror, prerequisites }
    }

    fn base(&self, kind: Kind) -> Result<Tips, SourceError> {
        match (kind, &self.prerequisites) {
            (Kind::Full, _) => Ok(Tips::default()),
            (Kind::Incremental | Kind::Differential, Some(tips)) if !tips.is_empty() => Ok(tips.clone()),
            (Kind::Log, _) => {
                Err(self.failed("capture", "a repository has no log".to_owned(), "make a full"))
            }
            _ => Err(self.failed(
                "capture",
                "it is not known which commits the newest artifact holds".to_owned(),
                "make a full",
            )),
        }
    }

    fn failed(&self, operation: &'static str, reason: String, hint: &str) -> SourceError {
        SourceError {
            operation,
            subject: "the infra repo".to_owned(),
            class: Class::Stalled,
            reason,
            hint: Some(hint.to_owned()),
        }
    }

    fn described(&self, tips: Tips, time: Timestamp) -> Captured {
        let references = tips.references().count() as u64;
        Captured {
            // Not the commit's time, which its author chose: the repository looked like this then.
            moment: Moment::At { time, position: Some(tips_position(&tips)) },
            details: Details {
                versions: BTreeMap::from([("git-bundle".to_owned(), "v2".to_owned())]),
                counts: Counts::Captured(BTreeMap::from([("references".to_owned(), references)])),
                tips: tips.0,
                ..Details::default()
            },
        }
    }
}

#[async_trait]
impl Source for GitSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        match Repository::open_bare(&self.mirror) {
            Ok(_) => {
                let (major, minor, patch) = git2::Version::get().libgit2_version();
                Ok(Probe { version: format!("libgit2 {major}.{minor}.{patch}") })
            }
            Err(error) => Err(self.failed("open", error.message().to_owned(), "fetch it first")),
        }
    }

    fn stream_name(&self) -> String {
        "infra.bundle".to_owned()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        let (mirror, base) = (self.mirror.clone(), self.base(request.kind)?);
        let (pieces, mut written) = mpsc::channel(WAITING);
        let read = request.now();
        let writing = tokio::task::spawn_blocking(move || write(&mirror, &base, pieces));
        while let Some(piece) = written.recv().await {
            if sink.write(piece).await.is_err() {
                // The pipeline's own error tells why; this ends the writer at its next piece.
                written.close();
            }
        }
        let tips = match writing.await {
            Ok(tips) => tips.map_err(|e| self.failed("bundle", e.to_string(), "see the reason"))?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        Ok(self.described(tips, read))
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        match place {
            Place::Folder(folder) => {
                unbundle::apply(stream, folder).await.map_err(|e| self.not_applied(e))?;
                Ok(Restored { place: format!("bare repository {}", folder.display()) })
            }
            Place::File(file) => {
                save(stream, file).await.map_err(|e| self.not_written(file, &e))?;
                Ok(bundle_in(file))
            }
            Place::Database(_) | Place::Bucket { .. } | Place::Original => Err(self.failed(
                "restore",
                "it is restored beside, never over a repository that others push to".to_owned(),
                "restore into a folder, look at it, and push from there",
            )),
        }
    }

    fn adds_up(&self, place: &Place) -> bool {
        !matches!(place, Place::File(_))
    }

    async fn join(&self, folder: &Path, place: &Place) -> Result<Restored, SourceError> {
        let Place::File(file) = place else {
            return Err(self.failed("restore", "only a file is joined".to_owned(), "report this"));
        };
        let mut aside = Aside::begin(file).map_err(|e| self.not_written(file, &e))?;
        let (pieces, written) = mpsc::channel(WAITING);
        let folder = folder.to_owned();
        let writing = tokio::task::spawn_blocking(move || write(&folder, &Tips::default(), pieces));
        let pieces = stream::unfold(written, |mut written| async {
            let piece = written.recv().await?;
            Some((Ok::<Bytes, std::io::Error>(piece), written))
        });
        let filled = aside.fill(&mut StreamReader::new(pieces.boxed()), |_| ()).await;
        let written = match writing.await {
            Ok(tips) => tips.map_err(|e| self.failed("bundle", e.to_string(), "see the reason")),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        // Where the file could not take the bundle, its writer only knows that nobody reads any more.
        filled.map_err(|e| self.not_written(file, &e))?;
        written?;
        aside.place().map_err(|e| self.not_written(file, &e))?;
        Ok(bundle_in(file))
    }
}

impl GitSource {
    fn not_written(&self, file: &Path, error: &std::io::Error) -> SourceError {
        let hint = "name a file that does not exist yet, in a folder that may be written";
        self.failed("restore", format!("{}: {error}", file.display()), hint)
    }

    fn not_applied(&self, error: UnbundleError) -> SourceError {
        let text = error.to_string();
        let (reason, hint) = text.rsplit_once("; ").unwrap_or((&text, "see the reason"));
        self.failed("restore", reason.to_owned(), hint)
    }
}

fn bundle_in(file: &Path) -> Restored {
    Restored { place: format!("bundle {}", file.display()) }
}

fn write(mirror: &Path, base: &Tips, pieces: mpsc::Sender<Bytes>) -> Result<Tips, BundleError> {
    let object = |error: git2::Error| BundleError::Object(error.message().to_owned());
    let repo = Repository::open_bare(mirror).map_err(object)?;
    let tips = Tips::read(&repo).map_err(object)?;
    bundle::write(&repo, &tips, base, &pieces)?;
    Ok(tips)
}

async fn save(stream: &mut (dyn AsyncRead + Send + Unpin), path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await?;
    tokio::io::copy(stream, &mut file).await?;
    file.flush().await?;
    file.sync_all().await
}
