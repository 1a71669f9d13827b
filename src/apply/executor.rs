//! Runs the steps of plans: each after those that it waits for, so many at a time, with retries by class of error. It
//! chooses nothing: what is done, to what and why stands in the plan; how it is done is behind [`Effects`].

mod attempt;
mod bounds;
mod claims;
mod execution;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    artifact::{ArtifactId, drill::DrillReport, recovered::Recovered, rehearsed::RehearsalReport},
    inventory::Interrupted,
    plan::{Action, Step},
    progress::{Progress, Unseen},
    spec::names::{BackupName, FolderName},
    stores::Class,
};
pub use bounds::{Bounds, Limits};
pub use claims::Claims;
pub use execution::Execution;

/// What the steps of a plan do to the world.
#[async_trait]
pub trait Effects: Send + Sync {
    /// Now, by the controller's clock.
    fn now(&self) -> Timestamp;

    /// The folder of a backup in every store.
    fn folder(&self, backup: &BackupName) -> FolderName;

    /// What would be left behind if the step were cut off; names a new artifact for every attempt of a capture.
    fn writes(&self, action: &Action) -> Option<Interrupted>;

    /// Takes the step, under the name that [`Effects::writes`] gave. Dropping the future ends every process that it
    /// started and commits nothing.
    async fn apply(&self, step: &Step, writes: Option<&Interrupted>) -> Result<Done, Failure>;

    /// Removes what an attempt left behind, unless it was committed. Does nothing where nothing is.
    async fn clean_up(&self, left: &Interrupted) -> Result<(), Failure>;

    /// Removes what a step that was stopped had made to be thrown away. Does nothing where nothing is.
    async fn throw_away(&self, _step: &Step) -> Result<(), Failure> {
        Ok(())
    }
}

/// What a step that succeeded has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// For people, such as `3 packs, 96 MiB, 4 % of it new`.
    pub note: Option<String>,
    /// The artifact that it made, if it made one.
    pub artifact: Option<ArtifactId>,
    /// The folder that has the artifact.
    #[serde(skip)]
    pub folder: Option<FolderName>,
    /// Damage that a check found, or why a drill did not pass: the check or drill itself succeeded.
    pub damage: Vec<String>,
    /// What a drill found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drilled: Option<Box<DrillReport>>,
    /// What the drill of a recovery found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsed: Option<Box<RehearsalReport>>,
    /// What a recovery did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Box<Recovered>>,
}

/// A step that failed, and what happens next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What happens next.
    pub class: Class,
    /// `failed to …`, to its end.
    pub message: String,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The effect is there.
    Done(Done),
    /// It is not.
    Failed(Failure),
    /// It was not tried, since a step that it waits for has not succeeded.
    Skipped(String),
    /// It was stopped or never begun, since the controller ends or a newer revision came.
    Cancelled,
}

/// How a running pass is asked to come to its end.
#[derive(Clone, Debug, Default)]
pub struct Halt {
    /// Begins nothing more, and ends what is under way: nothing half-made counts.
    pub stop: CancellationToken,
}

/// Hears how the steps of a plan go; for progress bars and logs.
pub trait Listener: Send + Sync {
    /// A step begins, or begins again.
    fn started(&self, step: &Step);
    /// A try failed, and another one follows after a pause.
    fn pauses(&self, step: &Step, failure: &Failure, pause: Duration);
    /// A step has ended.
    fn ended(&self, step: &Step, outcome: &Outcome);
    /// Where the bytes of a step are counted while it lasts.
    fn progress(&self, _step: &Step) -> Arc<dyn Progress> {
        Arc::new(Unseen)
    }
    /// What a step that lasts is at.
    fn says(&self, _step: &Step, _line: &str) {}
}
