//! Servers of MariaDB and MySQL: an empty one that databases are loaded into, or one on the restored files of a server.

mod files;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    ByHand, IsolationMode, Sandbox, SandboxError,
    confinement::{Confinement, Signal},
    home::Home,
    server::{self, Answer, setting},
    visited,
};
use crate::{
    artifact::drill::Isolation,
    process::{Process, Program},
    sources::{Place, Source},
    spec,
};
pub use files::MariadbFilesSandbox;

/// How long an empty server may take to answer.
const START: Duration = Duration::from_secs(300);

/// Users that its server may run as, in this order.
const OWNERS: [&str; 2] = ["mysql", "nobody"];

/// Who may do everything on an empty server.
pub const ROOT: &str = "root";

/// What every server is told, whatever the files say that it runs on: it listens nowhere, starts nothing of its own accord, and
/// nothing that is asked reads or writes a file.
const SETTINGS: [&str; 7] = [
    "--skip-networking",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--local-infile=0",
    "--event-scheduler=OFF",
    "--innodb-flush-log-at-trx-commit=0",
    "--max-allowed-packet=1G",
];

/// The memory for pages that a server is started with, bytes.
const POOL: u64 = 128 << 20;

/// What a server takes beside that, bytes.
const BESIDE_POOL: u64 = 256 << 20;

/// Whose server is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// MariaDB's.
    MariaDb,
    /// MySQL's.
    MySql,
}

impl Engine {
    fn daemon(self) -> Result<PathBuf, SandboxError> {
        match self {
            Engine::MariaDb => server::find(&["mariadbd"]),
            // MariaDB's packages give theirs that name as well.
            Engine::MySql => server::find_that(&["mysqld"], |real| !real.ends_with("mariadbd")),
        }
    }

    /// What makes an empty data folder, with a root without a password.
    fn installer(self) -> Result<PathBuf, SandboxError> {
        match self {
            Engine::MariaDb => server::find(&["mariadb-install-db"]),
            Engine::MySql => self.daemon(),
        }
    }

    fn installed_by(self) -> &'static [&'static str] {
        match self {
            Engine::MariaDb => &[
                "--no-defaults",
                // Without a network no name of a host is found, and none is needed.
                "--force",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ],
            Engine::MySql => &["--no-defaults", "--initialize-insecure", "--secure-file-priv=NULL"],
        }
    }

    /// Its own words for what every server is told.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Engine::MariaDb => &["--skip-slave-start"],
            Engine::MySql => &["--skip-replica-start", "--mysqlx=OFF"],
        }
    }
}

/// A server of MariaDB or MySQL that databases are loaded into.
pub struct MysqlSandbox {
    engine: Engine,
    server: Option<Process>,
    source: Box<dyn Source>,
    stands_for: spec::Source,
    mode: IsolationMode,
    confinement: Option<Confinement>,
    home: Home,
}

impl MysqlSandbox {
    /// A server in `home`, which `source`, the driver of what it stands for, reaches as [`ROOT`] at [`socket`].
    pub fn new(
        engine: Engine,
        home: Home,
        source: Box<dyn Source>,
        stands_for: spec::Source,
        mode: IsolationMode,
    ) -> Self {
        Self { engine, server: None, source, stands_for, mode, confinement: None, home }
    }
}

/// Where the servers listen.
pub fn socket(home: &Home) -> PathBuf {
    home.join("m.sock")
}

#[async_trait]
impl Sandbox for MysqlSandbox {
    fn folder(&self) -> &Path {
        self.home.path()
    }

    fn room_for(&self, stream: u64) -> u64 {
        // Rows take less room as text than in pages and indexes; an empty server takes the rest.
        stream.saturating_mul(3).saturating_add(256 << 20)
    }

    fn memory_for(&self, _stream: u64) -> u64 {
        POOL + BESIDE_POOL
    }

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        let (install, daemon) = (self.engine.installer()?, self.engine.daemon()?);
        let confinement = self.confinement.insert(Confinement::of(&OWNERS, self.mode).await?);
        let (data, scratch) = (self.home.join("data"), scratch(&self.home)?);
        confinement.take(&self.home).await?;
        let install = confinement.program(&self.home, &install, Signal::Kill);
        let install = install.arguments(self.engine.installed_by());
        let install = install.argument(setting("--datadir", &data)).argument(setting("--tmpdir", &scratch));
        server::run(install).await?;
        let daemon = confinement.program(&self.home, &daemon, Signal::Kill).argument("--no-defaults");
        let mut running = start(self.engine, daemon, &self.home, &data)?;
        let answer = server::answers(&mut running, std::slice::from_ref(&self.source), START).await;
        self.server = Some(running);
        match answer {
            Answer::Given(_) => Ok(()),
            Answer::Refused(why) => Err(SandboxError::CouldNotRun(why)),
        }
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
        let program = visitor(self.confinement.as_ref(), &self.home, path, ROOT)?;
        let spec::Source::Mysql(inner) = &self.stands_for else { return Ok(program) };
        Ok(match inner.server.databases.as_slice() {
            [one] => program.variable(visited::DATABASE, one),
            _ => program,
        })
    }

    fn isolation(&self) -> Option<Isolation> {
        self.confinement.as_ref().map(Confinement::isolation)
    }

    async fn tear_down(mut self: Box<Self>) {
        server::end(self.server.take()).await;
    }
}

/// An empty folder for what a server writes aside, and that its plugins would lie in.
fn scratch(home: &Home) -> Result<PathBuf, SandboxError> {
    let scratch = home.join("tmp");
    std::fs::create_dir(&scratch).map_err(SandboxError::cannot)?;
    Ok(scratch)
}

/// Starts a server on `data`; what `daemon` is told already comes first.
fn start(engine: Engine, daemon: Program, home: &Home, data: &Path) -> Result<Process, SandboxError> {
    let scratch = home.join("tmp");
    let daemon = daemon
        .arguments(SETTINGS)
        .arguments(engine.settings())
        .argument(format!("--innodb-buffer-pool-size={POOL}"))
        .argument(setting("--datadir", data))
        .argument(setting("--tmpdir", &scratch))
        .argument(setting("--secure-file-priv", &scratch))
        .argument(setting("--plugin-dir", &scratch))
        .argument(setting("--socket", socket(home)))
        .argument(setting("--pid-file", home.join("m.pid")));
    daemon.discard_output().start().map_err(SandboxError::cannot)
}

/// A program that is told how the server is reached, by its own variables and by the engine's.
fn visitor(
    confinement: Option<&Confinement>,
    home: &Home,
    path: &Path,
    user: &str,
) -> Result<Program, SandboxError> {
    let confinement = confinement.ok_or_else(|| SandboxError::cannot("the sandbox's server does not run"))?;
    let program = confinement.program(home, path, Signal::Kill).variable(visited::SANDBOX, home.path());
    let program = program.variable(visited::SOCKET, socket(home)).variable("MYSQL_UNIX_PORT", socket(home));
    Ok(program.variable(visited::USER, user))
}
