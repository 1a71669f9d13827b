//! Sandboxes: what drills restore into. One trait; a private folder each, which is gone when the drill is.
//!
//! ```text
//! home (the folder) · confinement (whose programs, and behind which walls) · server (a server of it)
//! ports (of this host, for servers that listen on no socket)
//! etcd · folder · influxdb · influxdb2 · mariadb · postgres · redis (the drivers)
//! ```

mod confinement;
pub mod etcd;
pub mod folder;
pub mod home;
pub mod influxdb;
pub mod influxdb2;
pub mod mariadb;
mod ports;
pub mod postgres;
pub mod redis;
mod server;

use std::path::Path;

use async_trait::async_trait;

use crate::{
    artifact::drill::{Finding, Isolation},
    process::Program,
    secrets::Secret,
    sources::{Place, Source},
    spec,
};

/// How the programs of sandboxes are kept apart from the host, as that wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationMode {
    /// As well as this host can.
    #[default]
    Auto,
    /// By bubblewrap, or not at all.
    Bubblewrap,
    /// By their settings only.
    None,
}

/// Something to restore into that nobody else sees.
///
/// What drivers must meet:
/// - Everything lies in the folder of the sandbox, which only its owner may look into; its servers listen on sockets in that
///   folder and nowhere else (one that can't, on this host's loopback interface), and run as a user without rights where this process has some, behind the walls that the host asks
///   for.
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

    /// How many bytes of memory must be there for its server, with a stream of so many.
    fn memory_for(&self, _stream: u64) -> u64 {
        0
    }

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

    /// Makes ready for logs to be replayed over what was loaded.
    async fn await_logs(&mut self) -> Result<(), SandboxError> {
        Ok(())
    }

    /// Who replays logs, and where.
    fn replayer(&self) -> (&dyn Source, Place) {
        (self.loader(), self.place())
    }

    /// Starts what only runs on restored data, and has come to the moment that was asked for when it returns.
    async fn start(&mut self) -> Result<(), SandboxError> {
        Ok(())
    }

    /// What tells of the data: asked once it has started.
    fn inspector(&self) -> &dyn Source;

    /// The folder that files were restored into.
    fn files(&self) -> &Path;

    /// The program of this host at `path`, which looks at what was restored: as the user and behind the walls of the sandbox, told by
    /// its environment where it is. Of [`visited`] it has what there is.
    async fn visitor(&mut self, path: &Path) -> Result<Program, SandboxError>;

    /// How its programs are kept apart from the host; `None` as long as it has started none.
    fn isolation(&self) -> Option<Isolation>;

    /// How a person restores into it by hand; `None` where nobody told how.
    fn by_hand(&self) -> Option<ByHand<'_>> {
        None
    }

    /// Sets up what a person who restores into it by hand finds set up.
    async fn prepare_by_hand(&mut self) -> Result<(), SandboxError> {
        Ok(())
    }

    /// Hears that a person is done, and takes what it needs of the stream in `file`, which nobody else does.
    fn loaded_by_hand(&mut self, _file: &Path) -> Result<(), SandboxError> {
        Ok(())
    }

    /// Ends its processes, and removes its folder.
    async fn tear_down(self: Box<Self>);
}

/// What a person who restores into a sandbox by hand goes by.
#[derive(Clone, Copy, Debug)]
pub struct ByHand<'a> {
    /// What it stands for, and where that is reached here.
    pub stands_for: &'a spec::Source,
    /// The folder that files are restored into: in the sandbox, and not there yet. `None` where they are of no use there once they were
    /// loaded.
    pub folder: Option<&'a Path>,
    /// What its programs log in with, as the file for that holds it.
    pub login: Option<&'a Secret>,
    home: &'a home::Home,
}

impl ByHand<'_> {
    /// A folder beside the sandbox that none of its programs can come to, removed when it is dropped or, where this process is killed, by
    /// the next sandbox: for what is brought out, and for what decrypts it.
    ///
    /// # Errors
    /// [`SandboxError::CouldNotRun`], with what to do.
    pub fn beside(&self) -> Result<home::Home, SandboxError> {
        self.home.beside()
    }
}

/// Variables that tell a program where it is.
pub mod visited {
    /// The sandbox's folder, which alone can be written to.
    pub const SANDBOX: &str = "BACKSTAY_SANDBOX";
    /// The folder that files were restored into.
    pub const FILES: &str = "BACKSTAY_FILES";
    /// The socket that the server listens on.
    pub const SOCKET: &str = "BACKSTAY_SOCKET";
    /// The API of a server that has no socket.
    pub const URL: &str = "BACKSTAY_URL";
    /// Who may do everything there, without a password where nothing else tells of one.
    pub const USER: &str = "BACKSTAY_USER";
    /// The database that is declared, where it is one only.
    pub const DATABASE: &str = "BACKSTAY_DATABASE";
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
