//! A part of what a database server holds, as of any moment that can be restored: all of it is brought back into a private server,
//! and the part is dumped from there into its place.
//!
//! ```text
//! room · the places ─▶ private server: full, log ─▶ dump of the part ─▶ load into the declared server, or a file
//! ```

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::{
    capture,
    restore::{self, Logs, RestoreError},
    room,
};
use crate::{
    artifact::{Kind, Manifest},
    clock::Clock,
    committed::BackupFolder,
    keys::Keys,
    plan::action::Destination,
    progress::Progress,
    sandboxes::{Sandbox, SandboxError},
    sources::{CaptureRequest, Place, Restored, Run, RunKey, Sink, SinkClosed, Source},
    spec::Part,
};

/// Pieces of a dump that wait for who loads them.
const WAITING: usize = 4;

/// What is brought back, and where it goes.
pub struct Order<'a> {
    /// The data, with what it requires before it. Never empty.
    pub manifests: &'a [Manifest],
    /// Logs to replay over it.
    pub logs: Logs<'a>,
    /// Of what.
    pub parts: &'a [Part],
    /// Where to.
    pub to: &'a Destination,
}

/// What it works with.
pub struct Means<'a> {
    /// Where the artifacts are.
    pub folder: &'a BackupFolder,
    /// What they are decrypted with.
    pub keys: &'a Arc<Keys>,
    /// The controller's clock.
    pub clock: &'a dyn Clock,
    /// Hears how far it has come.
    pub progress: &'a Arc<dyn Progress>,
}

/// Restores parts. `declared` reaches the server that was captured.
pub async fn restore(
    order: &Order<'_>,
    mut sandbox: Box<dyn Sandbox>,
    declared: &dyn Source,
    means: &Means<'_>,
) -> Result<Restored, RestoreError> {
    let restored = through(order, sandbox.as_mut(), declared, means).await;
    sandbox.tear_down().await;
    restored
}

async fn through(
    order: &Order<'_>,
    sandbox: &mut dyn Sandbox,
    declared: &dyn Source,
    means: &Means<'_>,
) -> Result<Restored, RestoreError> {
    let placed = places(order, declared).await?;
    room::must_suffice(order.manifests, order.logs.manifests, sandbox, 0).map_err(RestoreError::Private)?;
    bring_back(order, sandbox, means).await?;
    // All are looked for before the first is touched.
    let mut pours = Vec::new();
    for (part, (to, place)) in order.parts.iter().zip(placed) {
        let from = sandbox.inspector().part(part).map_err(RestoreError::Source)?;
        from.probe().await.map_err(RestoreError::Source)?;
        pours.push((from, to, place));
    }
    let folder = NewFolder::at(order.to)?;
    let mut told = Vec::new();
    for (from, to, place) in &pours {
        let restored = pour(from.as_ref(), to.as_ref(), place, means.clock).await;
        told.push(restored.map_err(|error| incomplete(error, &told))?.place);
    }
    folder.keep();
    Ok(Restored { place: told.join(", ") })
}

/// What of several parts is there already, when another one fails.
fn incomplete(error: RestoreError, told: &[String]) -> RestoreError {
    match told {
        [] => error,
        told => RestoreError::Private(format!("{error}; {} was restored before", told.join(", "))),
    }
}

/// Who loads each part, and where to; refuses what can't come about, before anything is read.
async fn places(
    order: &Order<'_>,
    declared: &dyn Source,
) -> Result<Vec<(Box<dyn Source>, Place)>, RestoreError> {
    let refused = |why: &str| Err(RestoreError::Private(why.to_owned()));
    let mut placed = Vec::new();
    for part in order.parts {
        let to = declared.part(part).map_err(RestoreError::Source)?;
        let place = match (order.to, order.parts) {
            (Destination::InPlace, _) => Place::Original,
            (Destination::Folder(folder), _) => Place::File(folder.join(to.stream_name())),
            (Destination::File(file), [_]) => Place::File(file.clone()),
            (Destination::Database(name), [_]) => Place::Database(name.clone()),
            (Destination::File(_) | Destination::Database(_), _) => {
                return refused(
                    "parts of several databases go into a folder, or over the originals; name one with `--path`",
                );
            }
            (Destination::Bucket { .. }, _) => return refused("only objects go into a bucket"),
        };
        let prepared = to.prepare(&place).await.map_err(RestoreError::Source)?;
        placed.push((to, prepared));
    }
    Ok(placed)
}

/// Has the private server hold all that was captured, as of the moment that is asked for.
async fn bring_back(
    order: &Order<'_>,
    sandbox: &mut dyn Sandbox,
    means: &Means<'_>,
) -> Result<(), RestoreError> {
    sandbox.prepare().await?;
    let (folder, keys, progress) = (means.folder, means.keys, means.progress);
    let (loader, place) = (sandbox.loader(), sandbox.place());
    restore::restore(order.manifests, Logs::default(), folder, loader, &place, keys, progress).await?;
    if !order.logs.manifests.is_empty() {
        sandbox.await_logs().await?;
        let (source, place) = sandbox.replayer();
        restore::replay_logs(order.manifests, order.logs, folder, source, &place, keys, progress).await?;
    }
    Ok(sandbox.start().await?)
}

impl From<SandboxError> for RestoreError {
    fn from(error: SandboxError) -> Self {
        RestoreError::Private(error.to_string())
    }
}

/// A folder for files, which is new or empty; what was put there is removed again unless all of it was.
struct NewFolder<'a>(Option<&'a Path>);

impl<'a> NewFolder<'a> {
    fn at(to: &'a Destination) -> Result<Self, RestoreError> {
        let Destination::Folder(folder) = to else { return Ok(Self(None)) };
        let refused =
            |why: &dyn std::fmt::Display| RestoreError::Private(format!("{}: {why}", folder.display()));
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut held = fs::read_dir(folder).map_err(|error| refused(&error))?;
                if held.next().is_some() {
                    return Err(refused(&"it is not empty"));
                }
            }
            Err(error) => return Err(refused(&error)),
        }
        Ok(Self(Some(folder)))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for NewFolder<'_> {
    fn drop(&mut self) {
        if let Some(folder) = self.0 {
            // Nothing stood there before.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Captures from the one and restores to the other, side by side.
async fn pour(
    from: &dyn Source,
    to: &dyn Source,
    place: &Place,
    clock: &dyn Clock,
) -> Result<Restored, RestoreError> {
    let request = CaptureRequest {
        kind: Kind::Full,
        clock,
        base_started: None,
        continues: None,
        stall: capture::STALL,
        spool: None,
    };
    let (pieces, written) = mpsc::channel(WAITING);
    let take = async {
        let mut sink = Pieces { pieces, is_left: false };
        let taken = from.capture(&request, &mut sink).await;
        if taken.is_err() {
            // Who loads it must not take what came until then for all of it.
            let _ = sink.pieces.send(Err(io::Error::other("the dump of the part failed"))).await;
        }
        (taken, sink.is_left)
    };
    let give = async {
        let pieces = futures::stream::unfold(written, |mut written: mpsc::Receiver<_>| async {
            let piece = written.recv().await?;
            Some((piece, written))
        });
        to.restore(&mut StreamReader::new(pieces.boxed()), place).await
    };
    match tokio::join!(take, give) {
        ((Ok(_), _), given) => given.map_err(RestoreError::Source),
        // It failed for the other's sake.
        ((Err(_), true), Err(given)) => Err(RestoreError::Source(given)),
        ((Err(taken), _), _) => Err(RestoreError::Source(taken)),
    }
}

/// Hands a dump on.
struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    /// Whether nobody takes any more.
    is_left: bool,
}

#[async_trait]
impl Sink for Pieces {
    async fn write(&mut self, bytes: Bytes) -> Result<(), SinkClosed> {
        let sent = self.pieces.send(Ok(bytes)).await;
        self.is_left |= sent.is_err();
        sent.map_err(|_| SinkClosed)
    }

    async fn run(&mut self, _: Option<RunKey>) -> Result<Run, SinkClosed> {
        Ok(Run::Wanted)
    }
}
