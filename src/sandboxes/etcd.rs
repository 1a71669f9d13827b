//! A new cluster of etcd, of one member, that is made of the snapshot that came back.
//!
//! Its member listens on two ports of the loopback interface: etcd's API is reached in no other way. Where the snapshot holds users it
//! asks for them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    ByHand, IsolationMode, Sandbox, SandboxError,
    confinement::{Confinement, Signal},
    home::Home,
    ports,
    server::{self, Answer},
    visited,
};
use crate::{
    artifact::drill::Isolation,
    process::{Process, Program},
    sources::{Place, Source},
    spec,
};

/// How long the member may take to read what it holds.
const START: Duration = Duration::from_secs(3600);

/// How long making its folder may take.
const MAKE: Duration = Duration::from_secs(3600);

/// Users that it may run as, in this order.
const OWNERS: [&str; 2] = ["etcd", "nobody"];

/// What makes a member's folder of a snapshot: of releases from 3.5 on, and before.
const MAKERS: [&str; 2] = ["etcdutl", "etcdctl"];

/// What the member is called.
const NAME: &str = "drill";

/// Where the member listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// For clients.
    pub client: u16,
    /// For other members, of which there are none.
    pub peer: u16,
}

impl Ports {
    /// Two that nobody listens on.
    ///
    /// # Errors
    /// [`SandboxError::CouldNotRun`] where there are none.
    pub fn new() -> Result<Self, SandboxError> {
        let [client, peer] = ports::free()?;
        Ok(Self { client, peer })
    }

    /// Where clients ask.
    pub fn url(self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    fn peer_url(self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }
}

/// A cluster of one member.
pub struct EtcdSandbox {
    server: Option<Process>,
    loader: Box<dyn Source>,
    inspector: Box<dyn Source>,
    stands_for: spec::Source,
    ports: Ports,
    mode: IsolationMode,
    confinement: Option<Confinement>,
    files: PathBuf,
    /// The member's own.
    data: PathBuf,
    home: Home,
}

impl EtcdSandbox {
    /// A folder in `home` that `loader`, the driver of what it stands for, restores the snapshot into. `inspector` reaches the member that
    /// is made of it at `ports`.
    pub fn new(
        home: Home,
        loader: Box<dyn Source>,
        inspector: Box<dyn Source>,
        stands_for: spec::Source,
        ports: Ports,
        mode: IsolationMode,
    ) -> Self {
        let (files, data) = (files(&home), home.join("data"));
        Self {
            server: None,
            loader,
            inspector,
            stands_for,
            ports,
            mode,
            confinement: None,
            files,
            data,
            home,
        }
    }

    /// The member, or what makes its folder, with what both are told.
    fn program(&self, confinement: &Confinement, path: &Path) -> Program {
        confinement.program(&self.home, path, Signal::Kill).variable("ETCDCTL_API", "3")
    }

    async fn make(
        &self,
        confinement: &Confinement,
        maker: &Path,
        snapshot: &Path,
    ) -> Result<(), SandboxError> {
        let peer = self.ports.peer_url();
        let maker = self.program(confinement, maker).arguments(["snapshot", "restore"]).argument(snapshot);
        let maker = maker.arguments(["--name", NAME, "--initial-cluster"]).argument(format!("{NAME}={peer}"));
        let maker = maker.argument("--initial-advertise-peer-urls").argument(&peer);
        let maker = maker.argument("--data-dir").argument(&self.data).timeout(MAKE);
        maker.output(b"", 1 << 20).await.map(drop).map_err(|error| SandboxError::Failed(error.to_string()))
    }

    fn member(&self, confinement: &Confinement, daemon: &Path) -> Program {
        let (client, peer) = (self.ports.url(), self.ports.peer_url());
        let daemon = self.program(confinement, daemon).arguments(["--name", NAME, "--data-dir"]);
        let daemon = daemon.argument(&self.data).argument("--listen-client-urls").argument(&client);
        let daemon = daemon.argument("--advertise-client-urls").argument(&client);
        let daemon = daemon.argument("--listen-peer-urls").argument(&peer);
        let daemon = daemon.argument("--initial-advertise-peer-urls").argument(&peer);
        daemon.argument("--initial-cluster").argument(format!("{NAME}={peer}")).discard_output()
    }
}

/// The folder that the snapshot is restored into.
pub fn files(home: &Home) -> PathBuf {
    home.join("restored")
}

#[async_trait]
impl Sandbox for EtcdSandbox {
    fn folder(&self) -> &Path {
        self.home.path()
    }

    fn room_for(&self, stream: u64) -> u64 {
        // The file, the member's copy of it, and its log, which is made at its full length.
        stream.saturating_mul(2).saturating_add(256 << 20)
    }

    fn memory_for(&self, stream: u64) -> u64 {
        // The database is mapped, and its keys stand in an index.
        stream.saturating_add(128 << 20)
    }

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        server::find(&["etcd"])?;
        server::find(&MAKERS)?;
        self.confinement = Some(Confinement::of(&OWNERS, self.mode).await?.with_network());
        Ok(())
    }

    fn loader(&self) -> &dyn Source {
        self.loader.as_ref()
    }

    fn place(&self) -> Place {
        Place::Folder(self.files.clone())
    }

    async fn start(&mut self) -> Result<(), SandboxError> {
        let (daemon, maker) = (server::find(&["etcd"])?, server::find(&MAKERS)?);
        let name = self.loader.stream_name();
        let snapshot = self.files.join(&name);
        if !snapshot.is_file() {
            return Err(SandboxError::Failed(format!("no {name} came back")));
        }
        let confinement = Confinement::of(&OWNERS, self.mode).await?.with_network();
        confinement.take(&self.home).await?;
        // By hand it was made already.
        if !self.data.exists() {
            self.make(&confinement, &maker, &snapshot).await?;
        }
        let mut running = self.member(&confinement, &daemon).start().map_err(SandboxError::cannot)?;
        self.confinement = Some(confinement);
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
        Some(ByHand { stands_for: &self.stands_for, folder: Some(&self.data), login: None, home: &self.home })
    }

    fn loaded_by_hand(&mut self, file: &Path) -> Result<(), SandboxError> {
        // What the member serves is compared with what the snapshot holds.
        std::fs::create_dir(&self.files).map_err(SandboxError::cannot)?;
        std::fs::rename(file, self.files.join(self.loader.stream_name())).map_err(SandboxError::cannot)
    }

    async fn visitor(&mut self, path: &Path) -> Result<Program, SandboxError> {
        let confinement = self.confinement.as_ref();
        let confinement =
            confinement.ok_or_else(|| SandboxError::cannot("the sandbox's server does not run"))?;
        let program = confinement.program(&self.home, path, Signal::Kill);
        let program = program.variable(visited::SANDBOX, self.home.path());
        let program = program.variable(visited::FILES, &self.files);
        let program = program.variable("ETCDCTL_API", "3").variable("ETCDCTL_ENDPOINTS", self.ports.url());
        Ok(program.variable(visited::URL, self.ports.url()))
    }

    fn isolation(&self) -> Option<Isolation> {
        self.confinement.as_ref().map(Confinement::isolation)
    }

    async fn tear_down(mut self: Box<Self>) {
        server::end(self.server.take()).await;
    }
}
