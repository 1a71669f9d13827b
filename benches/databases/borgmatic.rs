//! borgmatic with its hooks for databases: dumps, streamed into a borg repository.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use jiff::Timestamp;

use crate::{
    Engine, Recovered, Stored, Tool,
    measure::{Took, measure, run},
    table::{Reached, size_of},
};

/// Which of its hooks, and how that gets at the server.
pub struct Hook {
    pub engine: &'static str,
    pub port: u16,
    pub user: &'static str,
    /// More for the dump program.
    pub options: &'static str,
}

pub struct Borgmatic<'a> {
    folder: PathBuf,
    server: &'a dyn Engine,
}

impl<'a> Borgmatic<'a> {
    pub fn new(folder: PathBuf, server: &'a dyn Engine, hook: Hook) -> Self {
        fs::create_dir_all(&folder).expect("the folder is made");
        let Hook { engine, port, user, options } = hook;
        let config = format!(
            "location:\n    repositories: [{repo}]\n    borgmatic_source_directory: {dumps}\n\
             storage:\n    compression: zstd,3\n    encryption_passphrase: bench\n\
             hooks:\n    {engine}_databases:\n        - name: shop\n          hostname: 127.0.0.1\n          \
             port: {port}\n          username: {user}\n          options: {options}\n",
            repo = folder.join("repo").display(),
            dumps = folder.join("dumps").display(),
        );
        fs::write(folder.join("config.yaml"), config).expect("it is written");
        let borgmatic = Self { folder, server };
        run(borgmatic.command(&["init", "--encryption", "repokey-blake2"]).stderr(Stdio::null()));
        borgmatic
    }

    fn measured(&self, arguments: &[&str]) -> Took {
        measure(|| vec![self.command(arguments).spawn().expect("borgmatic is installed")])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("borgmatic");
        command.arg("--config").arg(self.folder.join("config.yaml")).args(arguments);
        command.env("BORG_BASE_DIR", self.folder.join("base")).env("HOME", &self.folder);
        command.stdout(Stdio::null());
        command
    }

    fn create(&self) -> Stored {
        let repo = self.folder.join("repo");
        let before = size_of(&repo);
        let took = self.measured(&["create"]);
        // What it frees in the repository may be more than what it adds.
        Stored { took, bytes: size_of(&repo).saturating_sub(before) }
    }
}

impl Tool for Borgmatic<'_> {
    fn name(&self) -> &'static str {
        "borgmatic"
    }

    fn first(&self) -> Stored {
        self.create()
    }

    fn second(&self) -> Stored {
        self.create()
    }

    fn recover(&self, _at: Timestamp) -> Recovered {
        let took = self.measured(&["restore", "--archive", "latest"]);
        Recovered { took, reached: Reached::Second, orders: self.server.orders() }
    }
}
