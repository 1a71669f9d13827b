//! Servers of PostgreSQL: an empty one that databases are loaded into, or one on the restored files of a cluster.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    Sandbox, SandboxError,
    home::Home,
    server::{self, Answer, Owner, Signal},
};
use crate::{
    artifact::drill::{Finding, Verdict},
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
    home: Home,
}

/// A server on the restored files of a cluster.
pub struct ClusterSandbox {
    server: Option<Process>,
    loader: Box<dyn Source>,
    /// Who may ask the server, in this order: which roles there are only the cluster itself knows.
    asking: Vec<Box<dyn Source>>,
    asks: usize,
    data: PathBuf,
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
    ) -> Self {
        Self { server: None, first, source, stands_for, home }
    }
}

impl ClusterSandbox {
    /// A folder in `home` that `loader` restores the files into. The first of `asking` that the server on it lets in asks it.
    pub fn new(home: Home, loader: Box<dyn Source>, asking: Vec<Box<dyn Source>>) -> Self {
        Self { server: None, loader, asking, asks: 0, data: home.join("data"), home }
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

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        let programs = programs(None).await?;
        let owner = Owner::of(&OWNERS)?;
        owner.take(&self.home).await?;
        let data = self.home.join("data");
        let init = owner.program(&programs.join("initdb"), Signal::Kill)?.folder(self.home.path());
        let init = init.arguments(["--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"]);
        let init = init.argument(format!("--username={SUPERUSER}")).argument("--pgdata").argument(&data);
        server::run(init).await?;
        let mut running = start(&programs, owner, &self.home, &data).await?;
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

    fn by_hand(&self) -> Option<&spec::Source> {
        Some(&self.stands_for)
    }

    async fn tear_down(mut self: Box<Self>) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
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

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        Owner::of(&OWNERS).map(drop)
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
        let verify = Program::new(program).argument("--quiet").argument(&self.data).timeout(VERIFY);
        match verify.output(b"", 1 << 20).await {
            Ok(_) => finding("every file as captured".to_owned(), Verdict::Passed),
            Err(error) => finding(error.to_string(), Verdict::Failed),
        }
    }

    async fn start(&mut self) -> Result<(), SandboxError> {
        let version = version_of(&self.data);
        let version = version.map_err(|why| SandboxError::Failed(format!("it is no cluster: {why}")))?;
        let programs = programs(Some(version)).await?;
        let owner = Owner::of(&OWNERS)?;
        owner.take(&self.home).await?;
        let mut running = start(&programs, owner, &self.home, &self.data).await?;
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

    async fn tear_down(mut self: Box<Self>) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }
}

/// Starts a server on `data`, by settings of its own: whom it lets in, and where it listens, nothing in `data` says.
async fn start(programs: &Path, owner: Owner, home: &Home, data: &Path) -> Result<Process, SandboxError> {
    let files =
        [("server.conf", ""), ("server_hba.conf", "local all all trust\n"), ("server_ident.conf", "")];
    for (name, text) in files {
        fs::write(home.join(name), text).map_err(SandboxError::cannot)?;
    }
    owner.take(home).await?;
    let server = owner.program(&programs.join("postgres"), Signal::Quit)?.folder(home.path());
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
