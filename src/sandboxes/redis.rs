//! A server of Redis that loads the file that came back.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    ByHand, IsolationMode, Sandbox, SandboxError,
    confinement::{Confinement, Signal},
    home::Home,
    server::{self, Answer},
    visited,
};
use crate::{
    artifact::drill::Isolation,
    process::{Process, Program},
    sources::{Place, Source},
    spec,
};

/// How long the server may take to load the file.
const START: Duration = Duration::from_secs(24 * 3600);

/// Users that it may run as, in this order.
const OWNERS: [&str; 2] = ["redis", "nobody"];

/// What every server is told: it listens on no port, and writes nothing down.
const SETTINGS: [&str; 10] =
    ["--port", "0", "--unixsocketperm", "700", "--save", "", "--appendonly", "no", "--daemonize", "no"];

/// A server of Redis.
pub struct RedisSandbox {
    server: Option<Process>,
    loader: Box<dyn Source>,
    inspector: Box<dyn Source>,
    stands_for: spec::Source,
    files: PathBuf,
    mode: IsolationMode,
    confinement: Option<Confinement>,
    home: Home,
}

impl RedisSandbox {
    /// A folder in `home` that `loader`, the driver of what it stands for, restores the file into. `inspector` reaches the server that
    /// loads it at [`socket`].
    pub fn new(
        home: Home,
        loader: Box<dyn Source>,
        inspector: Box<dyn Source>,
        stands_for: spec::Source,
        mode: IsolationMode,
    ) -> Self {
        let files = home.join("restored");
        Self { server: None, loader, inspector, stands_for, files, mode, confinement: None, home }
    }
}

/// Where the server listens.
pub fn socket(home: &Home) -> PathBuf {
    home.join("r.sock")
}

#[async_trait]
impl Sandbox for RedisSandbox {
    fn folder(&self) -> &Path {
        self.home.path()
    }

    fn room_for(&self, stream: u64) -> u64 {
        stream.saturating_add(stream / 10)
    }

    fn memory_for(&self, stream: u64) -> u64 {
        // The file is packed more tightly than what is made of it.
        stream.saturating_mul(4).saturating_add(64 << 20)
    }

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        server::find(&["redis-server"])?;
        self.confinement = Some(Confinement::of(&OWNERS, self.mode).await?);
        Ok(())
    }

    fn loader(&self) -> &dyn Source {
        self.loader.as_ref()
    }

    fn place(&self) -> Place {
        Place::Folder(self.files.clone())
    }

    async fn start(&mut self) -> Result<(), SandboxError> {
        let daemon = server::find(&["redis-server"])?;
        let name = self.loader.stream_name();
        // Without a file it would start with nothing, and not mind.
        if !self.files.join(&name).is_file() {
            return Err(SandboxError::Failed(format!("no {name} came back")));
        }
        let confinement = self.confinement.insert(Confinement::of(&OWNERS, self.mode).await?);
        confinement.take(&self.home).await?;
        let daemon = confinement.program(&self.home, &daemon, Signal::Kill).arguments(SETTINGS);
        let daemon = daemon.argument("--unixsocket").argument(socket(&self.home));
        let daemon = daemon.argument("--dir").argument(&self.files);
        let daemon = daemon.argument("--dbfilename").argument(name);
        let mut running = daemon.discard_output().start().map_err(SandboxError::cannot)?;
        let answer = server::answers(&mut running, std::slice::from_ref(&self.inspector), START).await;
        self.server = Some(running);
        match answer {
            Answer::Given(_) => Ok(()),
            Answer::Refused(why) => Err(SandboxError::Failed(why)),
        }
    }

    fn inspector(&self) -> &dyn Source {
        self.inspector.as_ref()
    }

    fn files(&self) -> &Path {
        &self.files
    }

    fn by_hand(&self) -> Option<ByHand<'_>> {
        Some(ByHand {
            stands_for: &self.stands_for,
            folder: Some(&self.files),
            login: None,
            home: &self.home,
        })
    }

    async fn visitor(&mut self, path: &Path) -> Result<Program, SandboxError> {
        let confinement = self.confinement.as_ref();
        let confinement =
            confinement.ok_or_else(|| SandboxError::cannot("the sandbox's server does not run"))?;
        let program = confinement.program(&self.home, path, Signal::Kill);
        let program = program.variable(visited::SANDBOX, self.home.path());
        let program = program.variable(visited::FILES, &self.files);
        Ok(program.variable(visited::SOCKET, socket(&self.home)))
    }

    fn isolation(&self) -> Option<Isolation> {
        self.confinement.as_ref().map(Confinement::isolation)
    }

    async fn tear_down(mut self: Box<Self>) {
        server::end(self.server.take()).await;
    }
}
