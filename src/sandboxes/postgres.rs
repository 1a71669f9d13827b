//! Servers of PostgreSQL: an empty one that databases are loaded into, or one on the restored files of a cluster.

use std::{
    fs,
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
    artifact::drill::{Finding, Isolation, Verdict},
    process::{Process, Program},
    sources::{Place, Source},
    spec,
};

/// Where Debian keeps the programs of each version.
const VERSIONED: &str = "/usr/lib/postgresql";

/// How long a server may take to answer, the replay of its log included.
const START: Duration = Duration::from_secs(24 * 3600);

/// How long the check of a cluster's files may take.
const VERIFY: Duration = Duration::from_secs(24 * 3600);

/// What a server takes with the settings that it is started with, bytes: 128 MiB of it are shared (`shared_buffers`).
const MEMORY: u64 = 256 << 20;

/// Users that its server may run as, in this order.
const OWNERS: [&str; 2] = ["postgres", "nobody"];

/// The port in the name of its socket.
pub const PORT: u16 = 5432;

/// The role that sets an empty server up, and that restores into it. No role that is restored has its name.
pub const SUPERUSER: &str = "backstay_sandbox";

/// What every server is told: it listens nowhere, starts nothing of its own accord, and sends nothing away, whatever the files
/// that it runs on say.
const SETTINGS: [&str; 16] = [
    "listen_addresses=",
    "fsync=off",
    "ssl=off",
    "logging_collector=off",
    "log_destination=stderr",
    "archive_mode=off",
    "autovacuum=off",
    "hot_standby=off",
    "huge_pages=off",
    "primary_conninfo=",
    "shared_preload_libraries=",
    "session_preload_libraries=",
    "local_preload_libraries=",
    "archive_cleanup_command=",
    "recovery_end_command=",
    "max_logical_replication_workers=0",
];

/// A server that databases are loaded into.
pub struct PostgresSandbox {
    server: Option<Process>,
    /// Reaches the server before there is any database of ours.
    first: Box<dyn Source>,
    source: Box<dyn Source>,
    stands_for: spec::Source,
    mode: IsolationMode,
    confinement: Option<Confinement>,
    home: Home,
}

/// A server on the restored files of a cluster.
pub struct ClusterSandbox {
    server: Option<Process>,
    loader: Box<dyn Source>,
    /// Who may ask the server, in this order: which roles there are only the cluster itself knows.
    asking: Vec<Box<dyn Source>>,
    /// Their roles.
    roles: Vec<String>,
    asks: usize,
    stands_for: spec::Source,
    data: PathBuf,
    mode: IsolationMode,
    confinement: Option<Confinement>,
    home: Home,
}

impl PostgresSandbox {
    /// A server in `home`, which `source` reaches as [`SUPERUSER`]; so does `first`, which needs no database to be there.
    /// `stands_for` is what `source` is the driver of.
    pub fn new(
        home: Home,
        first: Box<dyn Source>,
        source: Box<dyn Source>,
        stands_for: spec::Source,
        mode: IsolationMode,
    ) -> Self {
        Self { server: None, first, source, stands_for, mode, confinement: None, home }
    }
}

impl ClusterSandbox {
    /// A folder in `home` that `loader`, the driver of what it stands for, restores the files into. The first of `asking`, each with its
    /// role, that the server on it lets in asks it.
    pub fn new(
        home: Home,
        loader: Box<dyn Source>,
        asking: Vec<(String, Box<dyn Source>)>,
        stands_for: spec::Source,
        mode: IsolationMode,
    ) -> Self {
        let (roles, asking) = asking.into_iter().unzip();
        let data = home.join("data");
        Self { server: None, loader, asking, roles, asks: 0, stands_for, data, mode, confinement: None, home }
    }
}

/// Where the servers listen: a folder, as this engine's programs are told it.
pub fn socket(home: &Home) -> PathBuf {
    home.join(&format!(".s.PGSQL.{PORT}"))
}

#[async_trait]
impl Sandbox for PostgresSandbox {
    fn folder(&self) -> &Path {
        self.home.path()
    }

    fn room_for(&self, stream: u64) -> u64 {
        stream.saturating_mul(3).saturating_add(256 << 20)
    }

    fn memory_for(&self, _stream: u64) -> u64 {
        MEMORY
    }

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        let programs = programs(None).await?;
        let confinement = self.confinement.insert(Confinement::of(&OWNERS, self.mode).await?);
        confinement.take(&self.home).await?;
        let data = self.home.join("data");
        let init = confinement.program(&self.home, &programs.join("initdb"), Signal::Kill);
        let init = init.arguments(["--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"]);
        let init = init.argument(format!("--username={SUPERUSER}")).argument("--pgdata").argument(&data);
        server::run(init).await?;
        let mut running = start(&programs, confinement, &self.home, &data).await?;
        let answer = server::answers(&mut running, std::slice::from_ref(&self.first), START).await;
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
        let program = visitor(self.confinement.as_ref(), &self.home, path, SUPERUSER)?;
        let spec::Source::Postgres(inner) = &self.stands_for else { return Ok(program) };
        Ok(match inner.server.databases.as_slice() {
            [one] => program.variable("PGDATABASE", one).variable(visited::DATABASE, one),
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

#[async_trait]
impl Sandbox for ClusterSandbox {
    fn folder(&self) -> &Path {
        self.home.path()
    }

    fn room_for(&self, stream: u64) -> u64 {
        stream.saturating_add(stream / 5).saturating_add(256 << 20)
    }

    fn memory_for(&self, _stream: u64) -> u64 {
        MEMORY
    }

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        self.confinement = Some(Confinement::of(&OWNERS, self.mode).await?);
        Ok(())
    }

    fn loader(&self) -> &dyn Source {
        self.loader.as_ref()
    }

    fn place(&self) -> Place {
        Place::Folder(self.data.clone())
    }

    async fn examine(&mut self) -> Vec<Finding> {
        let finding = |found: String, verdict| {
            let (check, expected) = ("pg_verifybackup".to_owned(), "every file as captured".to_owned());
            vec![Finding { check, expected, found, verdict }]
        };
        let program = match programs(version_of(&self.data).ok()).await {
            Ok(programs) => programs.join("pg_verifybackup"),
            Err(error) => return finding(error.to_string(), Verdict::CouldNotRun),
        };
        if !program.is_file() {
            return finding(format!("there is no {}", program.display()), Verdict::CouldNotRun);
        }
        let Some(confinement) = &self.confinement else {
            return finding("the sandbox was not set up".to_owned(), Verdict::CouldNotRun);
        };
        if let Err(error) = confinement.take(&self.home).await {
            return finding(error.to_string(), Verdict::CouldNotRun);
        }
        let verify = confinement.program(&self.home, &program, Signal::Kill);
        let verify = verify.argument("--quiet").argument(&self.data).timeout(VERIFY);
        match verify.output(b"", 1 << 20).await {
            Ok(_) => finding("every file as captured".to_owned(), Verdict::Passed),
            Err(error) => finding(error.to_string(), Verdict::Failed),
        }
    }

    async fn start(&mut self) -> Result<(), SandboxError> {
        let version = version_of(&self.data);
        let version = version.map_err(|why| SandboxError::Failed(format!("it is no cluster: {why}")))?;
        let programs = programs(Some(version)).await?;
        let confinement = self.confinement.insert(Confinement::of(&OWNERS, self.mode).await?);
        confinement.take(&self.home).await?;
        let mut running = start(&programs, confinement, &self.home, &self.data).await?;
        let answer = server::answers(&mut running, &self.asking, START).await;
        self.server = Some(running);
        match answer {
            Answer::Given(number) => {
                self.asks = number;
                Ok(())
            }
            Answer::Refused(why) => Err(SandboxError::Failed(why)),
        }
    }

    fn inspector(&self) -> &dyn Source {
        self.asking.get(self.asks).map_or(self.loader.as_ref(), |asking| asking.as_ref())
    }

    fn files(&self) -> &Path {
        &self.data
    }

    fn by_hand(&self) -> Option<ByHand<'_>> {
        Some(ByHand { stands_for: &self.stands_for, folder: Some(&self.data), login: None, home: &self.home })
    }

    async fn visitor(&mut self, path: &Path) -> Result<Program, SandboxError> {
        let role = self.roles.get(self.asks).map_or("postgres", String::as_str);
        let program = visitor(self.confinement.as_ref(), &self.home, path, role)?;
        Ok(program.variable(visited::FILES, &self.data))
    }

    fn isolation(&self) -> Option<Isolation> {
        self.confinement.as_ref().map(Confinement::isolation)
    }

    async fn tear_down(mut self: Box<Self>) {
        server::end(self.server.take()).await;
    }
}

/// A program that is told how the server is reached, by its own variables and by the engine's.
fn visitor(
    confinement: Option<&Confinement>,
    home: &Home,
    path: &Path,
    role: &str,
) -> Result<Program, SandboxError> {
    let confinement = confinement.ok_or_else(|| SandboxError::cannot("the sandbox's server does not run"))?;
    let program = confinement.program(home, path, Signal::Kill);
    let program = program.variable(visited::SANDBOX, home.path()).variable(visited::SOCKET, socket(home));
    let program =
        program.variable(visited::USER, role).variable("PGUSER", role).variable("PGDATABASE", "postgres");
    Ok(program.variable("PGHOST", home.path()).variable("PGPORT", PORT.to_string()))
}

/// Starts a server on `data`, by settings of its own: whom it lets in, and where it listens, nothing in `data` says.
async fn start(
    programs: &Path,
    confinement: &Confinement,
    home: &Home,
    data: &Path,
) -> Result<Process, SandboxError> {
    let files =
        [("server.conf", ""), ("server_hba.conf", "local all all trust\n"), ("server_ident.conf", "")];
    for (name, text) in files {
        fs::write(home.join(name), text).map_err(SandboxError::cannot)?;
    }
    confinement.take(home).await?;
    let server = confinement.program(home, &programs.join("postgres"), Signal::Quit);
    let server = server.argument("-D").argument(data);
    let own = [
        ("config_file", home.join("server.conf")),
        ("hba_file", home.join("server_hba.conf")),
        ("ident_file", home.join("server_ident.conf")),
        ("data_directory", data.to_owned()),
        ("unix_socket_directories", home.path().to_owned()),
    ];
    let server = own
        .iter()
        .fold(server, |server, (name, value)| server.argument("-c").argument(server::setting(name, value)));
    let server = server.argument("-c").argument(format!("port={PORT}"));
    let server = SETTINGS.iter().fold(server, |server, setting| server.argument("-c").argument(*setting));
    server.discard_output().start().map_err(SandboxError::cannot)
}

/// The version of a cluster's files.
fn version_of(data: &Path) -> Result<u32, String> {
    let text = fs::read_to_string(data.join("PG_VERSION")).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|_| format!("{:?} is no version", text.trim()))
}

/// The folder of the programs of a version; of the newest when it is `None`.
async fn programs(version: Option<u32>) -> Result<PathBuf, SandboxError> {
    let versioned = fs::read_dir(VERSIONED).into_iter().flatten().flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin")))
    });
    let mut found: Vec<(u32, PathBuf)> = versioned.collect();
    if let Ok(program) = server::find(&["postgres"])
        && let Some(folder) = program.parent()
    {
        let asked = Program::new(&program).argument("--version").timeout(Duration::from_secs(30));
        let said = asked.output(b"", 4096).await.map_err(SandboxError::cannot)?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let number = said.split_once("(PostgreSQL) ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        let number = number.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().to_owned();
        found.extend(number.parse().ok().map(|version: u32| (version, folder.to_owned())));
    }
    found.retain(|(_, folder)| ["postgres", "initdb"].iter().all(|name| folder.join(name).is_file()));
    let fits = |(found, _): &&(u32, PathBuf)| version.is_none_or(|version| *found == version);
    // Of equal ones the first: a folder of one version has all of its programs.
    let newest = found.iter().rev().filter(fits).max_by_key(|(version, _)| *version);
    newest.map(|(_, folder)| folder.clone()).ok_or_else(|| {
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        let package = version.trim();
        let package = if package.is_empty() { String::new() } else { format!("-{package}") };
        SandboxError::cannot(format!(
            "this host has no server of PostgreSQL{version} for a sandbox; install it (Debian: postgresql{package})"
        ))
    })
}
