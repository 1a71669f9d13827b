//! An artifact's stream, brought back from its segments: fetched ahead, opened in parallel, handed on in order, and its
//! last piece only once all of it has proved right. Memory is bounded by [`AHEAD`] and [`FETCH`], whatever the length.

mod fetch;
mod proof;

use std::{io, num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::{io::StreamReader, task::AbortOnDropHandle};

use super::segment::{OpenError, Opener};
use crate::{
    artifact::{
        ArtifactId,
        index::{Index, InvalidIndex, Segment},
        layout::{ObjectName, PackName},
        manifest::{Content, Manifest, Segments},
    },
    committed::BackupFolder,
    keys::{Keys, NamingKey},
    progress::Progress,
    spec::names::StoreName,
    stores::{ErrorKind, StoreError},
};
use fetch::Fetch;
use proof::Proof;
pub use proof::sealed;

/// How many reads of packs are under way or wait to be opened.
const AHEAD: usize = 3;

/// The most that one read of a pack asks for, bytes, unless a single segment is longer.
const FETCH: u64 = 8 << 20;

/// Why a stream could not be brought back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part of the artifact is not as it was written.
    #[error(
        "failed to read {artifact} from {store}: {damage}; another store's copy may be whole, choose it with --from"
    )]
    Damaged {
        /// The artifact.
        artifact: ArtifactId,
        /// Where.
        store: StoreName,
        /// What is wrong.
        damage: Damage,
    },
    /// There is no identity that the artifact was encrypted to.
    #[error(
        "failed to decrypt {artifact}: {why}; set keys.identity to a file that holds the identity of one of {}",
        recipients.join(", ")
    )]
    Identity {
        /// The artifact.
        artifact: ArtifactId,
        /// Whether there is none, or none that fits.
        why: &'static str,
        /// The public keys of those who can read it.
        recipients: Vec<String>,
    },
    /// The content is a provider's own snapshot.
    #[error(
        "failed to read {artifact}: it is {reference} of {provider}; restore it with the provider's own means"
    )]
    Native {
        /// The artifact.
        artifact: ArtifactId,
        /// The provider.
        provider: String,
        /// The provider's name of it.
        reference: String,
    },
}

/// What is wrong with one object of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object} {fault}")]
pub struct Damage {
    /// The object; the manifest where only the whole stream is known to be wrong.
    pub object: ObjectName,
    /// What is wrong with it, as the rest of a sentence: `is missing`.
    pub fault: String,
    /// The pack that is not what the manifest says, where that is the damage: it is every artifact's that names the pack.
    pub pack: Option<PackName>,
}

impl Damage {
    /// Damage of `object`.
    pub fn new(object: ObjectName, fault: impl Into<String>) -> Self {
        Self { object, fault: fault.into(), pack: None }
    }
}

/// One artifact's stream, about to be read.
pub struct ArtifactStream {
    context: Arc<Context>,
    index: Index,
    proof: Proof,
}

/// What the parts of the pipeline share.
struct Context {
    folder: BackupFolder,
    manifest: Manifest,
    keys: Arc<Keys>,
}

impl ArtifactStream {
    /// Reads the index, and settles how the stream is to prove itself. `manifest` must be one of `folder`, its signature
    /// trusted.
    pub async fn open(
        folder: BackupFolder,
        manifest: Manifest,
        keys: Arc<Keys>,
    ) -> Result<Self, StreamError> {
        let context = Arc::new(Context { folder, manifest, keys });
        let segments = context.segments()?;
        if context.keys.identities().is_empty() {
            return Err(context.identity("this controller has no identity"));
        }
        let index = context.read_index(segments).await?;
        let sealed = sealed(&context.manifest, &context.keys)
            .map_err(|error| context.unopened(context.own_manifest(), error))?;
        let proof = Proof::settle(&context, &index, sealed.as_ref()).await?;
        Ok(Self { context, index, proof })
    }

    /// The plaintext, in pieces and in order. The last piece comes only once the whole stream has proved right.
    pub fn pieces(self) -> impl Stream<Item = Result<Bytes, StreamError>> + Send {
        let Self { context, index, proof } = self;
        let fetches = fetch::coalesce(&index.segments, FETCH);
        let at_once = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        let (reading, opening, naming) = (context.clone(), context.clone(), proof.naming.clone());
        let pieces = stream::iter(fetches)
            .map(move |fetch| read_fetch(reading.clone(), fetch))
            .buffered(AHEAD)
            .map_ok(|parts| stream::iter(parts).map(Ok))
            .try_flatten()
            .map_ok(move |part| open_part(opening.clone(), part, naming.clone()))
            .try_buffered(at_once + 1);
        proof.withhold_last(context, pieces)
    }

    /// The plaintext for a [`crate::sources::Source`]. The pipeline runs on its own until the reader is dropped.
    pub fn reader(self, progress: Arc<dyn Progress>) -> Reader {
        let (sender, mut receiver) = mpsc::channel::<io::Result<Bytes>>(2);
        let feed = tokio::spawn(async move {
            let mut pieces = std::pin::pin!(self.pieces());
            while let Some(piece) = pieces.next().await {
                match piece {
                    Ok(bytes) => {
                        progress.written(bytes.len() as u64);
                        if sender.send(Ok(bytes)).await.is_err() {
                            return Ok(End::Abandoned);
                        }
                    }
                    Err(error) => {
                        // Where nobody reads any more, the cause is still told by the feed's end.
                        let _ = sender.send(Err(io::Error::other(error.clone()))).await;
                        return Err(error);
                    }
                }
            }
            Ok(End::Whole)
        });
        let pieces = stream::poll_fn(move |context| receiver.poll_recv(context));
        Reader { bytes: StreamReader::new(pieces.boxed()), feed: AbortOnDropHandle::new(feed) }
    }
}

/// How a stream's pipeline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it was handed on, and proved right.
    Whole,
    /// The reader went away.
    Abandoned,
}

/// A stream that is being read.
pub struct Reader {
    /// The plaintext. Ends only once the whole stream has proved right; fails otherwise.
    pub bytes: StreamReader<stream::BoxStream<'static, io::Result<Bytes>>, Bytes>,
    feed: AbortOnDropHandle<Result<End, StreamError>>,
}

impl Reader {
    /// Reads what is left, and tells how the stream ended.
    pub async fn finish(mut self) -> Result<End, StreamError> {
        // The feed tells of the same failure, with its cause.
        let _ = tokio::io::copy(&mut self.bytes, &mut tokio::io::sink()).await;
        self.end().await
    }

    /// Stops reading, and tells how the stream ended.
    pub async fn end(self) -> Result<End, StreamError> {
        drop(self.bytes);
        // The feed is neither aborted nor able to panic while this value lives.
        self.feed.await.unwrap_or(Ok(End::Abandoned))
    }
}

impl Context {
    fn segments(&self) -> Result<&Segments, StreamError> {
        match &self.manifest.content {
            Content::Segments(segments) => Ok(segments),
            Content::Native { provider, reference, .. } => Err(StreamError::Native {
                artifact: self.manifest.artifact,
                provider: provider.clone(),
                reference: reference.clone(),
            }),
        }
    }

    async fn read_index(&self, segments: &Segments) -> Result<Index, StreamError> {
        let object = self.folder.index(self.manifest.artifact);
        let bytes = self.read(&object, None, segments.index.size).await?;
        if bytes.len() as u64 != segments.index.size
            || hex::encode(Sha256::digest(&bytes)) != segments.index.sha256
        {
            return Err(self.damaged(object, "is not what the manifest names"));
        }
        let index = Index::parse(&bytes).map_err(|InvalidIndex { line, reason }| {
            self.damaged(object.clone(), format!("cannot be read, line {line}: {reason}"))
        })?;
        let fits = |segment: &Segment| {
            segments
                .packs
                .get(&segment.extent.pack)
                .is_some_and(|pack| segment.extent.range().end <= pack.size)
        };
        if index.segments.len() as u64 != segments.count || !index.segments.iter().all(fits) {
            return Err(self.damaged(object, "and the manifest name different segments"));
        }
        Ok(index)
    }

    async fn read(
        &self,
        object: &ObjectName,
        range: Option<std::ops::Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StreamError> {
        self.folder.store.get(object, range, limit).await.map_err(|error| match error.kind {
            ErrorKind::NotFound => self.damaged(object.clone(), "is missing"),
            ErrorKind::Protocol => self.damaged(object.clone(), format!("cannot be read: {}", error.reason)),
            _ => StreamError::Store(error),
        })
    }

    fn damaged(&self, object: ObjectName, fault: impl Into<String>) -> StreamError {
        StreamError::Damaged {
            artifact: self.manifest.artifact,
            store: self.folder.name.clone(),
            damage: Damage::new(object, fault),
        }
    }

    fn identity(&self, why: &'static str) -> StreamError {
        StreamError::Identity {
            artifact: self.manifest.artifact,
            why,
            recipients: self.manifest.recipients.clone(),
        }
    }

    fn unopened(&self, object: ObjectName, error: OpenError) -> StreamError {
        match error {
            OpenError::WrongIdentity => self.identity("none of this controller's identities can read it"),
            damage => self.damaged(object, format!("cannot be opened: {damage}")),
        }
    }

    fn own_manifest(&self) -> ObjectName {
        self.folder.manifest(self.manifest.artifact)
    }
}

/// A segment as stored.
struct Part {
    segment: Segment,
    sealed: Bytes,
}

async fn read_fetch(context: Arc<Context>, fetch: Fetch) -> Result<Vec<Part>, StreamError> {
    let object = context.folder.pack(fetch.pack);
    let wanted = fetch.range.end - fetch.range.start;
    let bytes = context.read(&object, Some(fetch.range.clone()), wanted).await?;
    if bytes.len() as u64 != wanted {
        return Err(context.damaged(object, "is cut short"));
    }
    let cut = |segment: Segment| {
        let from = (segment.extent.offset - fetch.range.start) as usize;
        Part { segment, sealed: bytes.slice(from..from + segment.extent.length as usize) }
    };
    Ok(fetch.segments.into_iter().map(cut).collect())
}

/// Opens a segment on a thread of its own, and compares it with its keyed hash where `naming` is the key of it.
async fn open_part(
    context: Arc<Context>,
    part: Part,
    naming: Option<NamingKey>,
) -> Result<Bytes, StreamError> {
    let shared = context.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let plaintext = Opener::new(shared.keys.identities())?.open(&part.sealed)?;
        let right = naming.is_none_or(|key| key.segment(&plaintext) == part.segment.hash);
        Ok(right.then(|| Bytes::from(plaintext)))
    });
    let extent = part.segment.extent;
    let at = |fault: &str| {
        let fault = format!("has a segment at {}, of {} bytes, that {fault}", extent.offset, extent.length);
        context.damaged(context.folder.pack(extent.pack), fault)
    };
    match opened.await {
        Ok(Ok(Some(plaintext))) => Ok(plaintext),
        Ok(Ok(None)) => Err(at("is not the one that the index names")),
        Ok(Err(OpenError::WrongIdentity)) => {
            Err(context.identity("none of this controller's identities can read it"))
        }
        Ok(Err(damage)) => Err(at(&format!("cannot be opened: {damage}"))),
        // The task is cancelled only when the runtime ends.
        Err(stopped) => Err(at(&format!("was not opened: {stopped}"))),
    }
}
