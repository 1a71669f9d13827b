//! Sandboxes: what drills restore into. One trait; a private folder each, which is gone when the drill is.
//!
//! ```text
//! home (the folder) · server (a server of it: unprivileged, without a network, never outliving us)
//! folder · mariadb · postgres (the drivers)
//! ```

pub mod folder;
pub mod home;
pub mod mariadb;
pub mod postgres;
mod server;

use std::path::Path;

use async_trait::async_trait;

use crate::{
    artifact::drill::Finding,
    sources::{Place, Source},
    spec,
};

/// Something to restore into that nobody else sees.
///
/// What drivers must meet:
/// - Everything lies in the folder of the sandbox, which only its owner may look into; its servers listen on sockets in that
///   folder and nowhere else, and run as a user without rights where this process has some.
/// - Nothing outlives the sandbox: dropping it ends its processes and removes its folder. Its servers end with this process
///   however that ends, and the folder that a killed process left is removed when the next one is made.
/// - What could not be done on this host is [`SandboxError::CouldNotRun`]; what is wrong with the data is
///   [`SandboxError::Failed`].
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// Its folder, in which there must be room.
    fn folder(&self) -> &Path;

    /// How many bytes there must be free for a stream of so many.
    fn room_for(&self, stream: u64) -> u64;

    /// Sets up what data is restored into.
    async fn prepare(&mut self) -> Result<(), SandboxError>;

    /// What restores into it.
    fn loader(&self) -> &dyn Source;

    /// Where that restores to.
    fn place(&self) -> Place;

    /// The engine's own checks of what was restored, before anything else touches it.
    async fn examine(&mut self) -> Vec<Finding> {
        Vec::new()
    }

    /// Starts what only runs on restored data, and has come to the moment that was asked for when it returns.
    async fn start(&mut self) -> Result<(), SandboxError> {
        Ok(())
    }

    /// What tells of the data: asked once it has started.
    fn inspector(&self) -> &dyn Source;

    /// The folder that files were restored into.
    fn files(&self) -> &Path;

    /// The engine's own checks of what runs.
    async fn check(&mut self) -> Vec<Finding> {
        Vec::new()
    }

    /// What it stands for, for a person who restores into it by hand; `None` where nobody told how.
    fn by_hand(&self) -> Option<&spec::Source> {
        None
    }

    /// Ends its processes, and removes its folder.
    async fn tear_down(self: Box<Self>);
}

/// Why a drill goes no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// This host can't: nothing is known of the data.
    #[error("{0}")]
    CouldNotRun(String),
    /// The data can't be used.
    #[error("{0}")]
    Failed(String),
}

impl SandboxError {
    /// What this host lacks.
    fn cannot(why: impl ToString) -> Self {
        SandboxError::CouldNotRun(why.to_string())
    }
}
