//! Drills: a restore into a sandbox, and what came of it. Whatever could not be done is told, and never a pass.

mod by_hand;
mod checks;
pub mod reach;

pub use by_hand::stored;
pub(super) use checks::{asked, bad, counts, unmade};

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    restore::{self, Logs, RestoreError},
    room,
    stream::StreamError,
};
use crate::{
    artifact::{
        Manifest,
        drill::{DrillOutcome, Finding, Isolation, Stage, StageTime, Verdict},
        until::Until,
    },
    committed::BackupFolder,
    keys::Keys,
    progress::Progress,
    sandboxes::{Sandbox, SandboxError},
    spec::{DrillCheck, DrillHow},
    stores::StoreError,
};
use by_hand::Hands;

/// What is restored, and what must hold afterwards.
pub struct Order<'a> {
    /// The data, with what it requires before it. Never empty.
    pub manifests: &'a [Manifest],
    /// Logs to replay over it.
    pub logs: &'a [Manifest],
    /// What they are replayed up to.
    pub until: Option<&'a Until>,
    /// How it is restored.
    pub how: DrillHow,
    /// What must hold.
    pub checks: &'a [DrillCheck],
}

/// What drills work with.
pub struct Means<'a> {
    /// Where the artifacts are.
    pub folder: &'a BackupFolder,
    /// What they are decrypted with.
    pub keys: &'a Arc<Keys>,
    /// Hears how far it has come.
    pub progress: &'a Arc<dyn Progress>,
}

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How it ended. Tells nothing of the data itself: it stands in clear in records.
    pub outcome: DrillOutcome,
    /// Why the data did not come back, in full.
    pub why: Option<String>,
    /// How long each stage took that was begun.
    pub stages: Vec<StageTime>,
    /// What every check found.
    pub findings: Vec<Finding>,
    /// From the beginning to data that can be used.
    pub usable_after: Option<Duration>,
    /// How long the streams of data are, without logs.
    pub bytes: u64,
    /// How the sandbox's programs were kept apart from this host; `None` where none was started.
    pub isolation: Option<Isolation>,
}

/// What ends a drill before its checks.
enum Halted {
    /// The store did not answer: nothing is known, and it is worth another try.
    Store(StoreError),
    CouldNotRun(String),
    /// What happened, in words that tell nothing of the data; and in full.
    Failed(&'static str, String),
}

impl From<SandboxError> for Halted {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::CouldNotRun(why) => Halted::CouldNotRun(why),
            SandboxError::Failed(why) => Halted::Failed("no server could be started on what came back", why),
        }
    }
}

impl Halted {
    fn of(error: RestoreError, doing: &'static str) -> Self {
        match error {
            RestoreError::Stream(StreamError::Store(error)) => Halted::Store(error),
            RestoreError::Stream(why @ (StreamError::Identity { .. } | StreamError::Native { .. })) => {
                Halted::CouldNotRun(why.to_string())
            }
            RestoreError::Aside(why) | RestoreError::Private(why) => Halted::CouldNotRun(why),
            other => Halted::Failed(doing, other.to_string()),
        }
    }
}

/// Restores into `sandbox`, checks what came back, and removes the sandbox.
///
/// # Errors
/// Where the store fails: then nothing is known, and the drill can be tried again.
pub async fn drill(
    order: &Order<'_>,
    mut sandbox: Box<dyn Sandbox>,
    means: &Means<'_>,
) -> Result<Ended, StoreError> {
    let mut run = Run { began: Instant::now(), stages: Vec::new(), findings: Vec::new(), usable_after: None };
    let ran = run.through(order, sandbox.as_mut(), means).await;
    let isolation = sandbox.isolation();
    sandbox.tear_down().await;
    let Run { stages, findings, usable_after, .. } = run;
    let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
    let (outcome, why) = match ran {
        Ok(()) => (DrillOutcome::of(&verdicts), None),
        Err(Halted::Store(error)) => return Err(error),
        Err(Halted::CouldNotRun(why)) => (DrillOutcome::CouldNotRun(why.clone()), Some(why)),
        Err(Halted::Failed(what, why)) => (DrillOutcome::Failed(what.to_owned()), Some(why)),
    };
    let bytes = room::length(order.manifests.iter());
    Ok(Ended { outcome, why, stages, findings, usable_after, bytes, isolation })
}

/// A drill under way.
struct Run {
    began: Instant,
    stages: Vec<StageTime>,
    findings: Vec<Finding>,
    usable_after: Option<Duration>,
}

impl Run {
    async fn through(
        &mut self,
        order: &Order<'_>,
        sandbox: &mut dyn Sandbox,
        means: &Means<'_>,
    ) -> Result<(), Halted> {
        let beside = match order.how {
            DrillHow::Backstay => 0,
            DrillHow::ByHand => by_hand::room(order, sandbox),
        };
        let room = room::must_suffice(order.manifests, order.logs, sandbox, beside);
        room.map_err(Halted::CouldNotRun)?;
        self.timed(Stage::Prepare, sandbox.prepare()).await?;
        let (folder, keys, progress) = (means.folder, means.keys, means.progress);
        let hands = match order.how {
            DrillHow::Backstay => {
                let (loader, place) = (sandbox.loader(), sandbox.place());
                let load = restore::restore(
                    order.manifests,
                    Logs::default(),
                    folder,
                    loader,
                    &place,
                    keys,
                    progress,
                );
                let loaded = self.timed(Stage::Load, load).await;
                loaded.map_err(|error| Halted::of(error, "what was captured could not be loaded"))?;
                None
            }
            DrillHow::ByHand => {
                let hands = self.timed(Stage::Load, Hands::load(order, sandbox, means)).await?;
                // What was brought out is needed no more where no log is.
                Some(hands).filter(|_| !order.logs.is_empty())
            }
        };
        let checking = Instant::now();
        self.findings.extend(sandbox.examine().await);
        // Counts are of the data as it was captured: what its log brings changes them.
        let counts_before = !order.logs.is_empty() && order.checks.contains(&DrillCheck::Counts);
        let counted = match counts_before {
            true => Some(counts(order.manifests, sandbox.inspector(), means.keys).await),
            false => None,
        };
        let checked = checking.elapsed();
        if !order.logs.is_empty() {
            self.timed(Stage::Replay, replay(order, sandbox, means, hands)).await?;
        }
        let starting = Instant::now();
        let started = sandbox.start().await;
        self.lengthen_last(starting.elapsed());
        started?;
        self.usable_after = Some(self.began.elapsed().saturating_sub(checked));
        let verifying = Instant::now();
        self.verify(order, sandbox, means, counted).await;
        self.note(Stage::Verify, checked + verifying.elapsed());
        Ok(())
    }

    async fn verify(
        &mut self,
        order: &Order<'_>,
        sandbox: &mut dyn Sandbox,
        means: &Means<'_>,
        mut counted: Option<Finding>,
    ) {
        self.findings.extend(checks::by_the_engine(sandbox.inspector()).await);
        for check in order.checks {
            let finding = match (check, counted.take()) {
                (DrillCheck::Counts, Some(finding)) => finding,
                (_, untouched) => {
                    counted = untouched;
                    checks::declared(check, order, sandbox, means).await
                }
            };
            self.findings.push(finding);
        }
    }

    async fn timed<T>(&mut self, stage: Stage, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = work.await;
        self.note(stage, began.elapsed());
        done
    }

    fn note(&mut self, stage: Stage, took: Duration) {
        self.stages.push(StageTime { stage, milliseconds: milliseconds(took) });
    }

    fn lengthen_last(&mut self, by: Duration) {
        if let Some(last) = self.stages.last_mut() {
            last.milliseconds = last.milliseconds.saturating_add(milliseconds(by));
        }
    }
}

async fn replay(
    order: &Order<'_>,
    sandbox: &mut dyn Sandbox,
    means: &Means<'_>,
    hands: Option<Hands>,
) -> Result<(), Halted> {
    sandbox.await_logs().await?;
    if let Some(hands) = hands {
        return hands.replay(order, sandbox).await;
    }
    let logs = Logs { manifests: order.logs, until: order.until };
    let (source, place) = sandbox.replayer();
    let (folder, keys, progress) = (means.folder, means.keys, means.progress);
    let replayed = restore::replay_logs(order.manifests, logs, folder, source, &place, keys, progress).await;
    replayed.map(drop).map_err(|error| Halted::of(error, "its log could not be replayed"))
}

fn milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
