//! A server of MariaDB that databases are loaded into.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    Sandbox, SandboxError,
    home::Home,
    server::{self, Answer, Owner, Signal, setting},
};
use crate::{
    process::Process,
    sources::{Place, Source},
    spec,
};

/// How long an empty server may take to answer.
const START: Duration = Duration::from_secs(300);

/// Users that its server may run as, in this order.
const OWNERS: [&str; 2] = ["mysql", "nobody"];

/// A server of MariaDB.
pub struct MariadbSandbox {
    server: Option<Process>,
    source: Box<dyn Source>,
    stands_for: spec::Source,
    home: Home,
}

impl MariadbSandbox {
    /// A server in `home`, which `source`, the driver of what it stands for, reaches as `root` at [`MariadbSandbox::socket`].
    pub fn new(home: Home, source: Box<dyn Source>, stands_for: spec::Source) -> Self {
        Self { server: None, source, stands_for, home }
    }

    /// Where it listens.
    pub fn socket(home: &Home) -> PathBuf {
        home.join("m.sock")
    }
}

#[async_trait]
impl Sandbox for MariadbSandbox {
    fn folder(&self) -> &Path {
        self.home.path()
    }

    fn room_for(&self, stream: u64) -> u64 {
        // Rows take less room as text than in pages and indexes; an empty server takes the rest.
        stream.saturating_mul(3).saturating_add(256 << 20)
    }

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        let (install, daemon) = (server::find(&["mariadb-install-db"])?, server::find(&["mariadbd"])?);
        let owner = Owner::of(&OWNERS)?;
        let (data, scratch) = (self.home.join("data"), self.home.join("tmp"));
        std::fs::create_dir(&scratch).map_err(SandboxError::cannot)?;
        owner.take(&self.home).await?;
        let install = owner.program(&install, Signal::Kill)?.folder(self.home.path());
        let install = install.arguments([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]);
        let install = install.argument(setting("--datadir", &data)).argument(setting("--tmpdir", &scratch));
        server::run(install).await?;
        let daemon = owner.program(&daemon, Signal::Kill)?.folder(self.home.path());
        let daemon = daemon.arguments([
            "--no-defaults",
            "--skip-networking",
            "--skip-log-bin",
            "--skip-name-resolve",
            "--local-infile=0",
            "--event-scheduler=OFF",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=128M",
            "--max-allowed-packet=1G",
        ]);
        let daemon = daemon
            .argument(setting("--datadir", &data))
            .argument(setting("--tmpdir", &scratch))
            // Nothing that is asked reads or writes a file.
            .argument(setting("--secure-file-priv", &scratch))
            .argument(setting("--plugin-dir", &scratch))
            .argument(setting("--socket", Self::socket(&self.home)))
            .argument(setting("--pid-file", self.home.join("m.pid")));
        let mut running = daemon.discard_output().start().map_err(SandboxError::cannot)?;
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

    fn by_hand(&self) -> Option<&spec::Source> {
        Some(&self.stands_for)
    }

    async fn tear_down(mut self: Box<Self>) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }
}
