//! A server of InfluxDB 1.x that databases are loaded into.
//!
//! It takes restores over TCP and in no other way: so it listens on two ports of the loopback interface. Its API asks for a password that
//! nobody else knows; its backup service can't ask for one.

use std::{fs, io, path::Path, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

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

/// What a server takes that has little to do, bytes.
const MEMORY: u64 = 256 << 20;

/// Where a server listens, and who may do everything there.
#[derive(Clone, Debug)]
pub struct Doors {
    /// The port of the HTTP API.
    pub http: u16,
    /// The port of the backup service.
    pub rpc: u16,
    /// Of [`Doors::USER`].
    pub password: Secret,
}

impl Doors {
    /// The administrator.
    pub const USER: &'static str = "backstay_sandbox";

    /// Two ports that nobody listens on, and a new password.
    ///
    /// # Errors
    /// [`SandboxError::CouldNotRun`] where there are no such ports.
    pub fn new() -> Result<Self, SandboxError> {
        let [http, rpc] = ports::free()?;
        Ok(Self { http, rpc, password: Secret::new(format!("{:032x}", rand::random::<u128>())) })
    }
}

/// A server of InfluxDB 1.x.
pub struct InfluxdbSandbox {
    server: Option<Process>,
    source: Box<dyn Source>,
    stands_for: spec::Source,
    doors: Doors,
    mode: IsolationMode,
    confinement: Option<Confinement>,
    home: Home,
}

impl InfluxdbSandbox {
    /// A server in `home`, which `source` reaches by `doors`. `stands_for` is what `source` is the driver of.
    pub fn new(
        home: Home,
        source: Box<dyn Source>,
        stands_for: spec::Source,
        doors: Doors,
        mode: IsolationMode,
    ) -> Self {
        Self { server: None, source, stands_for, doors, mode, confinement: None, home }
    }

    /// Settings by which it sends nothing away, computes nothing of its own accord, and removes nothing that is old.
    fn write_settings(&self) -> io::Result<std::path::PathBuf> {
        let path = self.home.join("influxdb.conf");
        let Doors { http, rpc, .. } = &self.doors;
        let place = |name: &str| serde_json::Value::from(self.home.join(name).to_string_lossy()).to_string();
        let (meta, data, wal) = (place("meta"), place("data"), place("wal"));
        let idle = ["retention", "continuous_queries", "subscriber", "monitor", "shard-precreation"];
        let idle = idle.map(|part| match part {
            "monitor" => "[monitor]\nstore-enabled = false\n".to_owned(),
            part => format!("[{part}]\nenabled = false\n"),
        });
        let text = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\ndir = {meta}\n\
             [data]\ndir = {data}\nwal-dir = {wal}\nquery-log-enabled = false\n\
             [http]\nbind-address = \"127.0.0.1:{http}\"\nauth-enabled = true\nlog-enabled = false\n{}",
            idle.concat()
        );
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Makes the administrator, which is the first thing that an empty server lets anybody do.
    async fn make_user(&self) -> Result<(), String> {
        let client = reqwest::Client::builder().no_proxy().timeout(LOOK).build();
        let client = client.map_err(|error| error.to_string())?;
        let (user, password) = (Doors::USER, self.doors.password.expose());
        let sql = format!("CREATE USER \"{user}\" WITH PASSWORD '{password}' WITH ALL PRIVILEGES");
        let url = format!("http://127.0.0.1:{}/query", self.doors.http);
        let answer = client.post(url).form(&[("q", sql)]).send().await;
        match answer.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(format!("it answers {status}")),
            Err(error) => Err(error.without_url().to_string()),
        }
    }

    async fn ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        loop {
            match self.make_user().await {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() > deadline => return Err(why),
                Err(_) => sleep(PACE).await,
            }
        }
    }
}

#[async_trait]
impl Sandbox for InfluxdbSandbox {
    fn folder(&self) -> &Path {
        self.home.path()
    }

    fn room_for(&self, stream: u64) -> u64 {
        // The stream is compressed shards; the driver stages it, and the server unpacks it.
        stream.saturating_mul(3).saturating_add(256 << 20)
    }

    fn memory_for(&self, _stream: u64) -> u64 {
        MEMORY
    }

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        let influxd = server::find(&["influxd"])?;
        let settings = self.write_settings().map_err(SandboxError::cannot)?;
        let confinement = Confinement::of(&OWNERS, self.mode).await?.with_network();
        confinement.take(&self.home).await?;
        let program = confinement.program(&self.home, &influxd, Signal::Kill);
        self.confinement = Some(confinement);
        let program = program.arguments(["run", "-config"]).argument(settings).discard_output();
        let mut running = program.start().map_err(SandboxError::cannot)?;
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
        Some(ByHand { stands_for: &self.stands_for, folder: None, login: None, home: &self.home })
    }

    async fn visitor(&mut self, path: &Path) -> Result<Program, SandboxError> {
        let confinement = self.confinement.as_ref();
        let confinement =
            confinement.ok_or_else(|| SandboxError::cannot("the sandbox's server does not run"))?;
        let program = confinement.program(&self.home, path, Signal::Kill);
        let program =
            program.variable(visited::SANDBOX, self.home.path()).variable(visited::USER, Doors::USER);
        let program = program.variable(visited::URL, format!("http://127.0.0.1:{}", self.doors.http));
        let password = self.doors.password.expose();
        let program = program.variable("INFLUX_USERNAME", Doors::USER).variable("INFLUX_PASSWORD", password);
        Ok(program.redact(&self.doors.password))
    }

    fn isolation(&self) -> Option<Isolation> {
        self.confinement.as_ref().map(Confinement::isolation)
    }

    async fn tear_down(mut self: Box<Self>) {
        server::end(self.server.take()).await;
    }
}
