//! A server of InfluxDB 2.x that buckets are loaded into.
//!
//! It takes restores over TCP and in no other way: so it listens on a port of the loopback interface, where it gives nothing to anybody
//! who does not have a token that nobody else knows.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::{
    ByHand, IsolationMode, Sandbox, SandboxError,
    confinement::{Confinement, Signal},
    home::Home,
    ports, server, visited,
};
use crate::{
    artifact::drill::Isolation,
    process::{Process, ProcessError, Program},
    secrets::Secret,
    sources::{Place, Source},
    spec,
};

/// How long an empty server may take to answer.
const START: Duration = Duration::from_secs(300);

/// Between two looks whether it answers.
const PACE: Duration = Duration::from_millis(200);

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(10);

/// Users that it may run as, in this order.
const OWNERS: [&str; 2] = ["influxdb", "nobody"];

/// What it is called where a host has 1.x as well, and else.
const PROGRAMS: [&str; 2] = ["influxd2", "influxd"];

/// What a server takes that has little to do, bytes.
const MEMORY: u64 = 256 << 20;

/// What every server is told: it sends nothing away, runs no tasks, and removes nothing that is old.
const SETTINGS: [&str; 6] = [
    "--reporting-disabled",
    "--no-tasks",
    "--storage-retention-check-interval",
    "87600h",
    "--log-level",
    "error",
];

/// Where a server listens, and what opens it.
#[derive(Clone, Debug)]
pub struct Door {
    /// The port of its API.
    pub port: u16,
    /// Whoever has it may do everything.
    pub token: Secret,
    /// The line of a request that shows it.
    header: Secret,
}

impl Door {
    /// A port that nobody listens on, and a new token.
    ///
    /// # Errors
    /// [`SandboxError::CouldNotRun`] where there is no such port.
    pub fn new() -> Result<Self, SandboxError> {
        let [port] = ports::free()?;
        let token = Secret::new(format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()));
        let header = Secret::new(format!("Authorization: Token {}\n", token.expose()));
        Ok(Self { port, token, header })
    }

    /// Where clients ask.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A server of InfluxDB 2.x.
pub struct Influxdb2Sandbox {
    server: Option<Process>,
    source: Box<dyn Source>,
    stands_for: spec::Source,
    organization: String,
    door: Door,
    mode: IsolationMode,
    confinement: Option<Confinement>,
    home: Home,
}

impl Influxdb2Sandbox {
    /// A server in `home`, which `source`, the driver of `stands_for`, reaches by `door`, and sets up with `organization` when it
    /// restores.
    pub fn new(
        home: Home,
        source: Box<dyn Source>,
        stands_for: spec::Source,
        organization: String,
        door: Door,
        mode: IsolationMode,
    ) -> Self {
        Self { server: None, source, stands_for, organization, door, mode, confinement: None, home }
    }

    async fn ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        loop {
            match self.answers().await {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() > deadline => return Err(why),
                Err(_) => sleep(PACE).await,
            }
        }
    }

    /// Makes the organization and the token, which is the first thing that a new server lets anybody do; and, for it must, a user whose
    /// password nobody knows, and a bucket that no other is called like.
    async fn set_up(&self) -> Result<(), String> {
        let client = reqwest::Client::builder().no_proxy().timeout(LOOK).build();
        let client = client.map_err(|error| error.to_string())?;
        let (password, bucket) = (rand::random::<u128>(), rand::random::<u64>());
        let wanted = serde_json::json!({
            "username": "backstay", "password": format!("{password:032x}"), "bucket": format!("backstay_{bucket:016x}"),
            "org": self.organization, "token": self.door.token.expose(),
        });
        let wanted = Zeroizing::new(wanted.to_string());
        let asked = client.post(format!("{}/api/v2/setup", self.door.url()));
        let asked = asked.header(reqwest::header::CONTENT_TYPE, "application/json");
        let answer = asked.body(wanted.as_bytes().to_vec()).send().await;
        match answer.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(format!("the sandbox's server refuses to be set up: it answers {status}")),
            Err(error) => Err(error.without_url().to_string()),
        }
    }

    async fn answers(&self) -> Result<(), String> {
        let client = reqwest::Client::builder().no_proxy().timeout(LOOK).build();
        let client = client.map_err(|error| error.to_string())?;
        let answer = client.get(format!("{}/health", self.door.url())).send().await;
        match answer.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(format!("it answers {status}")),
            Err(error) => Err(error.without_url().to_string()),
        }
    }
}

/// The engine's program, which 1.x calls the same.
async fn find() -> Result<PathBuf, SandboxError> {
    let mut others = Vec::new();
    for name in PROGRAMS {
        let Ok(path) = server::find(&[name]) else { continue };
        let asked = Program::new(path.clone()).argument("version").timeout(LOOK).output(b"", 4096).await;
        let said = asked.map_err(SandboxError::cannot)?;
        let version = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
        if version.starts_with("InfluxDB v2") || version.starts_with("InfluxDB 2") {
            return Ok(path);
        }
        others.push(format!("{} is {}", path.display(), version.escape_debug()));
    }
    let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join("; ")) };
    Err(SandboxError::cannot(format!(
        "this host has no server of InfluxDB 2{others}; install it as `influxd`, or as `influxd2` beside 1.x"
    )))
}

#[async_trait]
impl Sandbox for Influxdb2Sandbox {
    fn folder(&self) -> &Path {
        self.home.path()
    }

    fn room_for(&self, stream: u64) -> u64 {
        // Shards go into the server as they come, which may write them anew.
        stream.saturating_mul(2).saturating_add(256 << 20)
    }

    fn memory_for(&self, _stream: u64) -> u64 {
        MEMORY
    }

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        let influxd = find().await?;
        let confinement = Confinement::of(&OWNERS, self.mode).await?.with_network();
        confinement.take(&self.home).await?;
        let program = confinement.program(&self.home, &influxd, Signal::Kill).arguments(SETTINGS);
        self.confinement = Some(confinement);
        let program = program.argument("--bolt-path").argument(self.home.join("influxd.bolt"));
        let program = program.argument("--sqlite-path").argument(self.home.join("influxd.sqlite"));
        let program = program.argument("--engine-path").argument(self.home.join("engine"));
        let program =
            program.argument("--http-bind-address").argument(format!("127.0.0.1:{}", self.door.port));
        let mut running = program.discard_output().start().map_err(SandboxError::cannot)?;
        let ready = tokio::select! {
            biased;
            ended = running.end() => Err(match ended {
                Ok(()) => "the sandbox's server ended by itself".to_owned(),
                Err(ProcessError::Failed { program, said, .. }) => format!("{program} ended{said}"),
                Err(error) => error.to_string(),
            }),
            ready = self.ready() => ready.map_err(|why| format!("the sandbox's server did not answer in time: {why}")),
        };
        self.server = Some(running);
        ready.map_err(SandboxError::CouldNotRun)
    }

    fn loader(&self) -> &dyn Source {
        self.source.as_ref()
    }

    fn place(&self) -> Place {
        Place::Original
    }

    fn inspector(&self) -> &dyn Source {
        self.source.as_ref()
    }

    fn files(&self) -> &Path {
        self.home.path()
    }

    fn by_hand(&self) -> Option<ByHand<'_>> {
        let login = Some(&self.door.header);
        Some(ByHand { stands_for: &self.stands_for, folder: None, login, home: &self.home })
    }

    async fn prepare_by_hand(&mut self) -> Result<(), SandboxError> {
        self.set_up().await.map_err(SandboxError::CouldNotRun)
    }

    async fn visitor(&mut self, path: &Path) -> Result<Program, SandboxError> {
        let confinement = self.confinement.as_ref();
        let confinement =
            confinement.ok_or_else(|| SandboxError::cannot("the sandbox's server does not run"))?;
        let program = confinement.program(&self.home, path, Signal::Kill);
        let program = program.variable(visited::SANDBOX, self.home.path());
        let program =
            program.variable(visited::URL, self.door.url()).variable("INFLUX_HOST", self.door.url());
        let program = program.variable("INFLUX_ORG", &self.organization);
        Ok(program.variable("INFLUX_TOKEN", self.door.token.expose()).redact(&self.door.token))
    }

    fn isolation(&self) -> Option<Isolation> {
        self.confinement.as_ref().map(Confinement::isolation)
    }

    async fn tear_down(mut self: Box<Self>) {
        server::end(self.server.take()).await;
    }
}
