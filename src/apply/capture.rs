//! A capture: a source's stream becomes an artifact in a store, or nothing does.
//!
//! ```text
//! source ─▶ sink ─▶ cut ─▶ look up ─▶ compress, encrypt ─▶ pack ─▶ put ─▶ confirm ─▶ sign ─▶ manifest
//!                    └──▶ digest of the whole
//! ```
//!
//! The manifest is put last, once the source has proved that the stream is whole and the store has confirmed every
//! object. Whatever fails before leaves no artifact; what was written by then is removed, or named in the error.
//! Dropping the future is a crash: what is left then is removed by [`super::cleanup`], or by a sweep.

mod base;
mod commit;
mod cut;
mod error;
mod native;
mod pack;
mod pipeline;
mod sink;
mod trail;
mod written;

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;

pub use error::{CaptureError, Fault, Stage};

use crate::{
    apply::{
        lease::{Held, LeaseError},
        segment::Recipients,
    },
    artifact::{ArtifactId, Manifest, layout::Holder, manifest::NativePlace},
    clock::Clock,
    committed::BackupFolder,
    keys::Keys,
    plan::action::Capture,
    progress::Progress,
    sources::{CaptureRequest, Captured, Source},
};
use base::Base;
use pack::{Packer, Streamed};
use pipeline::{Ends, Setting};
use sink::{PipelineSink, State};
use trail::Trail;

/// What is to be captured, decided in full.
#[derive(Clone, Debug)]
pub struct CaptureOrder {
    /// The plan's action. A base must not be known to be damaged; for a differential it is its epoch's full.
    pub capture: Capture,
    /// The artifact's name; never used before.
    pub artifact: ArtifactId,
    /// The commit of the infra repo that declares the backup.
    pub revision: String,
    /// Why, for people.
    pub reason: String,
    /// What a restore needs besides this artifact, oldest first.
    pub requires: Vec<ArtifactId>,
    /// Who can read it.
    pub recipients: Recipients,
    /// Length of the backup's previous stream, bytes, where one is known: large streams are cut into larger segments.
    pub expected: Option<u64>,
    /// Now.
    pub now: Timestamp,
    /// Silence of a producer that counts as a failure.
    pub stall: Duration,
    /// The folder of the backup's reader of logs, whether there is one or not.
    pub spool: Option<PathBuf>,
    /// Where its source's provider keeps what it keeps, where there is one.
    pub native_place: Option<NativePlace>,
}

/// The [`CaptureOrder::stall`] of captures whose declaration says nothing of it.
pub const STALL: Duration = Duration::from_secs(900);

/// What a capture works with.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// What is captured.
    pub source: &'a dyn Source,
    /// Where it is stored.
    pub folder: &'a BackupFolder,
    /// What it is signed and named with.
    pub keys: &'a Keys,
    /// Tells whether the lease has run out.
    pub clock: &'a dyn Clock,
    /// Told how far it has come.
    pub progress: &'a dyn Progress,
}

/// By whom a capture is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// By its source's driver, as a stream into the store.
    Stream,
    /// By the provider that hosts the source, which keeps it.
    Provider,
}

/// Captures. `Ok` means that the artifact is durable and the store has confirmed it.
pub async fn capture(order: &CaptureOrder, means: &Means<'_>) -> Result<Manifest, CaptureError> {
    made(order, means, By::Stream).await
}

/// Has the provider of the source make a backup that it keeps. `Ok` means that the provider has it and the manifest is durable.
/// What the provider made for a capture that failed is there still.
pub async fn provide(order: &CaptureOrder, means: &Means<'_>) -> Result<Manifest, CaptureError> {
    made(order, means, By::Provider).await
}

async fn made(order: &CaptureOrder, means: &Means<'_>, by: By) -> Result<Manifest, CaptureError> {
    let mut trail = Trail::default();
    match attempt(order, means, by, &mut trail).await {
        Ok(manifest) => Ok(manifest),
        Err(Failed { stage, fault }) => {
            let left = trail.remove(means.folder, order.artifact).await;
            let backup = means.folder.backup.clone();
            Err(CaptureError { backup, artifact: order.artifact, stage, fault, left })
        }
    }
}

struct Failed {
    stage: Stage,
    fault: Fault,
}

trait At<T> {
    fn at(self, stage: Stage) -> Result<T, Failed>;
}

impl<T, E: Into<Fault>> At<T> for Result<T, E> {
    fn at(self, stage: Stage) -> Result<T, Failed> {
        self.map_err(|fault| Failed { stage, fault: fault.into() })
    }
}

async fn attempt(
    order: &CaptureOrder,
    means: &Means<'_>,
    by: By,
    trail: &mut Trail,
) -> Result<Manifest, Failed> {
    let base = Base::load(order, means).await.at(Stage::ReadingTheBase)?.map(Arc::new);
    let lease = take_lease(order, means, base.as_deref(), trail).await.at(Stage::Leasing)?;
    let manifest = match by {
        By::Stream => under_lease(order, means, &lease, base, trail).await,
        By::Provider => native::under_lease(order, means, &lease, trail).await,
    };
    trail.lease = lease.objects();
    let manifest = manifest?;
    lease.release().await;
    Ok(manifest)
}

async fn under_lease(
    order: &CaptureOrder,
    means: &Means<'_>,
    lease: &Held<'_>,
    base: Option<Arc<Base>>,
    trail: &mut Trail,
) -> Result<Manifest, Failed> {
    let streaming = stream(order, means, lease, base.clone(), trail);
    let (captured, mut streamed) = streaming.await.at(Stage::Streaming)?;
    trail.index = true;
    let index = commit::put_index(order, means, &mut streamed).await.at(Stage::Streaming)?;
    let base = base.as_deref();
    let confirming = commit::confirm(order, means, base, &mut streamed);
    lease.during(means.clock, confirming).await.at(Stage::Confirming)?;
    let manifest = commit::describe(order, means, base, captured, streamed, index).at(Stage::Committing)?;
    commit::commit(means, lease, &manifest, trail).await.at(Stage::Committing)?;
    Ok(manifest)
}

async fn take_lease<'a>(
    order: &CaptureOrder,
    means: &Means<'a>,
    base: Option<&Base>,
    trail: &mut Trail,
) -> Result<Held<'a>, LeaseError> {
    let taken = Held::take(means.folder, order.artifact, order.epoch(base), means.keys, means.clock).await;
    if let Err(LeaseError::Store(_)) = taken {
        // The artifact's name is new, so that this is the first turn.
        trail.lease = vec![means.folder.lease(Holder::Writer(order.artifact), 0)];
    }
    taken
}

/// Runs the source and the packer side by side until the stream is whole and stored, and renews the lease meanwhile.
async fn stream(
    order: &CaptureOrder,
    means: &Means<'_>,
    lease: &Held<'_>,
    base: Option<Arc<Base>>,
    trail: &mut Trail,
) -> Result<(Captured, Streamed), Fault> {
    let naming = means.keys.naming_key(&means.folder.fleet, &means.folder.backup);
    let setting = Setting {
        naming: naming.clone(),
        base: base.clone(),
        recipients: order.recipients.clone(),
        average: order.average(base.as_deref()),
    };
    let Ends { pieces, entries } = pipeline::start(setting);
    let sink = PipelineSink::new(pieces, naming, base.clone(), means.progress);
    let mut packer = Packer::new(order, means, lease, base.clone());
    let both =
        async { tokio::try_join!(read_source(order, means, base.as_deref(), sink), packer.run(entries)) };
    let both = lease.during(means.clock, both).await;
    trail.packs = packer.begun();
    match both {
        Ok((captured, ())) => Ok((captured, packer.finish())),
        Err(fault) => {
            packer.settle().await;
            Err(fault)
        }
    }
}

/// Lets the source write, and tells the pipeline that the stream is whole only once the source has said so.
async fn read_source(
    order: &CaptureOrder,
    means: &Means<'_>,
    base: Option<&Base>,
    mut sink: PipelineSink<'_>,
) -> Result<Captured, Fault> {
    let request = CaptureRequest {
        kind: order.capture.kind,
        clock: means.clock,
        base_started: base.map(|base| base.manifest.started),
        continues: order.capture.continues.clone(),
        stall: order.stall,
        spool: order.spool.clone(),
    };
    let captured = means.source.capture(&request, &mut sink).await;
    match (sink.state(), captured) {
        (State::Open, Ok(captured)) => match sink.finish().await {
            Ok(()) => Ok(captured),
            Err(_) => std::future::pending().await,
        },
        (State::Open, Err(error)) => Err(error.into()),
        // The packer sees the same end of the pipeline, and knows the reason.
        (State::Closed, _) => std::future::pending().await,
        (State::Misused, _) => Err(Fault::Misused),
    }
}

impl CaptureOrder {
    /// The full that opens the epoch.
    fn epoch(&self, base: Option<&Base>) -> ArtifactId {
        base.map_or(self.artifact, |base| base.manifest.epoch)
    }

    /// Streams that share segments are cut alike.
    fn average(&self, base: Option<&Base>) -> u32 {
        base.map_or_else(|| cut::average_for(self.expected), |base| base.average)
    }
}
