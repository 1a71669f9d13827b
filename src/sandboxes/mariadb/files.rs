//! A server on the files of another, as a physical capture brings them back.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;

use super::{BESIDE_POOL, Engine, OWNERS, POOL, scratch, start, visitor};
use crate::{
    artifact::drill::Isolation,
    process::{Process, Program},
    sandboxes::{
        ByHand, IsolationMode, Sandbox, SandboxError,
        confinement::{Confinement, Signal},
        home::Home,
        server::{self, Answer, setting},
        visited,
    },
    sources::{Place, Source},
    spec,
};

/// How long the server may take to answer: what was under way in the files is undone first.
const START: Duration = Duration::from_secs(24 * 3600);

/// What a copy tells of itself (mariabackup's `backup-my.cnf`): sizes of pages and the like, and nothing else, as its restore has
/// proved.
const OPTIONS: &str = "backup-my.cnf";

/// What the server runs first; in the sandbox.
const INIT: &str = "init.sql";

/// Where the engine puts files that could lie elsewhere: these files and no others.
const OWN_FILES: [&str; 4] = [
    "--innodb-undo-directory",
    "--innodb-data-home-dir",
    "--innodb-log-group-home-dir",
    "--aria-log-dir-path",
];

/// A server on restored files.
pub struct MariadbFilesSandbox {
    server: Option<Process>,
    loader: Box<dyn Source>,
    inspector: Box<dyn Source>,
    stands_for: spec::Source,
    data: PathBuf,
    mode: IsolationMode,
    confinement: Option<Confinement>,
    home: Home,
}

impl MariadbFilesSandbox {
    /// Who may do everything on the server: made by it when it starts, for who may in the files nobody knows.
    pub const USER: &'static str = "backstay_sandbox";

    /// A folder in `home` that `loader` restores the files into. `inspector` reaches the server on it as
    /// [`MariadbFilesSandbox::USER`] at [`socket`](super::socket), and so does `stands_for`, which its files are captured by.
    pub fn new(
        home: Home,
        loader: Box<dyn Source>,
        inspector: Box<dyn Source>,
        stands_for: spec::Source,
        mode: IsolationMode,
    ) -> Self {
        let data = home.join("data");
        Self { server: None, loader, inspector, stands_for, data, mode, confinement: None, home }
    }

    /// Writes what makes the user, one statement a line.
    fn write_init(&self) -> std::io::Result<PathBuf> {
        let path = self.home.join(INIT);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let user = format!("'{}'@'localhost'", Self::USER);
        writeln!(file, "CREATE OR REPLACE USER {user};")?;
        writeln!(file, "GRANT ALL PRIVILEGES ON *.* TO {user} WITH GRANT OPTION;")?;
        Ok(path)
    }
}

#[async_trait]
impl Sandbox for MariadbFilesSandbox {
    fn folder(&self) -> &Path {
        self.home.path()
    }

    fn room_for(&self, stream: u64) -> u64 {
        stream.saturating_add(stream / 5).saturating_add(256 << 20)
    }

    fn memory_for(&self, _stream: u64) -> u64 {
        POOL + BESIDE_POOL
    }

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        server::find(&["mariadbd"])?;
        self.confinement = Some(Confinement::of(&OWNERS, self.mode).await?);
        Ok(())
    }

    fn loader(&self) -> &dyn Source {
        self.loader.as_ref()
    }

    fn place(&self) -> Place {
        Place::Folder(self.data.clone())
    }

    /// On the server itself: one that was started for that would be outside the walls.
    async fn await_logs(&mut self) -> Result<(), SandboxError> {
        self.start().await
    }

    fn replayer(&self) -> (&dyn Source, Place) {
        (self.inspector.as_ref(), Place::Original)
    }

    async fn start(&mut self) -> Result<(), SandboxError> {
        if self.server.is_some() {
            return Ok(());
        }
        let daemon = server::find(&["mariadbd"])?;
        scratch(&self.home)?;
        let init = self.write_init().map_err(SandboxError::cannot)?;
        let confinement = self.confinement.insert(Confinement::of(&OWNERS, self.mode).await?);
        confinement.take(&self.home).await?;
        let daemon = confinement.program(&self.home, &daemon, Signal::Kill);
        // First by the server's own rule: nothing else is read then.
        let daemon = daemon.argument(setting("--defaults-file", self.data.join(OPTIONS)));
        let daemon = daemon.argument(setting("--init-file", init));
        let own = OWN_FILES.iter().map(|name| setting(name, &self.data));
        let mut running = start(Engine::MariaDb, daemon.arguments(own), &self.home, &self.data)?;
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
        &self.data
    }

    fn by_hand(&self) -> Option<ByHand<'_>> {
        Some(ByHand { stands_for: &self.stands_for, folder: Some(&self.data), login: None, home: &self.home })
    }

    async fn visitor(&mut self, path: &Path) -> Result<Program, SandboxError> {
        let program = visitor(self.confinement.as_ref(), &self.home, path, Self::USER)?;
        Ok(program.variable(visited::FILES, &self.data))
    }

    fn isolation(&self) -> Option<Isolation> {
        self.confinement.as_ref().map(Confinement::isolation)
    }

    async fn tear_down(mut self: Box<Self>) {
        server::end(self.server.take()).await;
    }
}
