//! A fleet as `init` makes it, run by the built program as a user would.

use std::{
    fs,
    io::Write,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::schedules;

const AUTHOR: [&str; 4] = ["-c", "user.name=A", "-c", "user.email=a@example.org"];

/// A fleet with its repo, its stores and its host's configuration.
pub struct Fleet {
    root: TempDir,
    /// The configuration before any secret was allowed.
    config: String,
    /// Secrets with their files.
    secrets: Vec<(PathBuf, String)>,
    /// What was added to the configuration.
    more: String,
    /// The user that it belongs to and runs as, if not the one that runs the test.
    user: Option<u32>,
}

impl Fleet {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("fleet");
        let made = Command::new(env!("CARGO_BIN_EXE_backstay")).arg("init").arg(&folder).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let config = fs::read_to_string(folder.join("backstay.toml")).unwrap();
        let fleet = Self { root, config, secrets: Vec::new(), more: String::new(), user: None };
        fleet.keep_slots_away();
        fleet
    }

    /// Nothing falls due by the policy that `init` makes while a test runs: what it declares is amended.
    fn keep_slots_away(&self) {
        let file = self.declaration("fleet");
        fs::write(&file, schedules::of_init(&fs::read_to_string(&file).unwrap())).unwrap();
        self.git(&[&AUTHOR[..], &["commit", "--quiet", "--all", "--amend", "--no-edit"]].concat());
    }

    /// Adds to the host's configuration, in the place of what was added before.
    pub fn configure(&mut self, more: &str) {
        self.more = more.to_owned();
        self.write_config();
    }

    /// A folder that the host lets sources read.
    pub fn readable(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// What the records of the first store say, one after the other.
    pub fn stored_records(&self) -> String {
        let mut found = vec![self.folder()];
        let mut text = String::new();
        while let Some(folder) = found.pop() {
            for entry in fs::read_dir(&folder).unwrap().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => found.push(path),
                    false if path.to_string_lossy().contains("/records/") => {
                        text += &String::from_utf8_lossy(&fs::read(&path).unwrap());
                    }
                    false => {}
                }
            }
        }
        text
    }

    /// The program with these arguments, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(arguments).arg("--config").arg(self.config_file());
        self.as_its_user(&mut command);
        command
    }

    /// The host's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.folder().join("backstay.toml")
    }

    /// From now on all of it is a user's, and run by that user.
    pub fn give_to(&mut self, user: u32) {
        self.user = Some(user);
        self.hand_over();
    }

    fn hand_over(&self) {
        if let Some(user) = self.user {
            let mut chown = Command::new("chown");
            super::run(chown.args(["-R", &format!("{user}:{user}")]).arg(self.root.path()));
        }
    }

    fn as_its_user(&self, command: &mut Command) {
        if let Some(user) = self.user {
            command.uid(user).gid(user).env("HOME", self.root.path()).current_dir(self.root.path());
        }
    }

    fn write_config(&self) {
        let allowed = |(path, _): &(PathBuf, String)| {
            format!("{{ path = \"{}\", hosts = [\"127.0.0.1\"] }}", path.display())
        };
        let allowed: Vec<String> = self.secrets.iter().map(allowed).collect();
        let allow = format!("[allow]\nsecrets = [{}]\n", allowed.join(", "));
        let config = self.config.replace("[allow]\n", &allow) + &self.more;
        fs::write(self.folder().join("backstay.toml"), config).unwrap();
    }

    /// A folder that restores may write to: the host allows its own only.
    pub fn restored(&self) -> PathBuf {
        let folder = self.folder().join("restored");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Lets sources read a folder of this host; before any secret is named.
    pub fn may_read(&mut self, folder: &Path) {
        assert!(self.secrets.is_empty(), "what secrets allow is written with it");
        self.config = self.config.replace("\nread = [", &format!("\nread = [\"{}\", ", folder.display()));
        fs::write(self.folder().join("backstay.toml"), &self.config).unwrap();
    }

    /// Has its daemon listen on any free port: those of several tests run at once.
    pub fn listen_anywhere(&mut self) {
        let line = self.config.lines().find(|line| line.starts_with("listen = ")).unwrap().to_owned();
        self.config = self.config.replace(&line, "listen = \"127.0.0.1:0\"");
        self.write_config();
    }

    /// Lets declarations of this host have a program run.
    pub fn allow_run(&mut self, program: &Path) {
        let allowed = format!("[allow]\nrun = [\"{}\"]\n", program.display());
        self.config =
            self.config.lines().filter(|line| !line.starts_with("run = ")).collect::<Vec<_>>().join("\n");
        self.config = self.config.replace("[allow]\n", &allowed) + "\n";
        self.write_config();
    }

    /// The age identity that reads what is stored.
    pub fn identity(&self) -> PathBuf {
        self.folder().join("identity.txt")
    }

    /// The controller's state directory.
    pub fn state(&self) -> PathBuf {
        self.folder().join("state")
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("fleet")
    }

    /// A secret in a file, which the host lets go to this machine; as a declaration refers to it.
    pub fn secret(&mut self, text: &str) -> String {
        let path = self.folder().join(format!("secret-{}", self.secrets.len()));
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let reference = format!("{{ file = \"{}\" }}", path.display());
        self.secrets.push((path, text.to_owned()));
        self.write_config();
        reference
    }

    /// Lets restores of this host write to a folder.
    pub fn allow_write(&mut self, folder: &Path) {
        let allowed = format!("write = [\"{}\", ", folder.display());
        self.config = self.config.replace("write = [", &allowed);
        self.write_config();
    }

    /// Lets machines be made by a hypervisor or in a region.
    pub fn allow_machines(&mut self, place: &str) {
        self.config = self.config.replace("write = [", &format!("machines = [\"{place}\"]\nwrite = ["));
        self.write_config();
    }

    /// Commits what a backup is; its policy and stores are those that `init` makes unless `backup` says otherwise.
    pub fn declare(&self, name: &str, backup: &str) {
        let nightly = "policy = \"nightly\"\n";
        let policy = if backup.contains("policy = ") { "" } else { nightly };
        let text = format!("[backup.{name}]\n{policy}stores = [\"primary\", \"second\"]\n{backup}\n");
        fs::write(self.declaration(name), text).unwrap();
        self.commit();
    }

    /// Commits that nothing of a store is declared any more: the table of that name goes, and every mention of it.
    pub fn give_up_store(&self, name: &str) {
        let folder = self.folder().join("infra/backup");
        for file in fs::read_dir(&folder).unwrap().flatten().map(|file| file.path()) {
            let text = fs::read_to_string(&file).unwrap();
            let mut is_in = false;
            let kept = text.lines().filter(|line| {
                if line.starts_with('[') {
                    is_in = line.starts_with(&format!("[store.{name}]"))
                        || line.starts_with(&format!("[store.{name}."));
                }
                !is_in
            });
            let kept: Vec<String> = kept
                .map(|line| {
                    line.replace(&format!(", \"{name}\"]"), "]").replace(&format!("[\"{name}\", "), "[")
                })
                .collect();
            fs::write(&file, kept.join("\n") + "\n").unwrap();
        }
        self.commit();
    }

    /// Has the folder of a store be none any more: whoever looks into it gets no answer.
    pub fn lose_store(&self, name: &str) {
        let folder = self.folder().join("stores").join(name);
        fs::rename(&folder, folder.with_extension("away")).unwrap();
        fs::write(&folder, "no folder").unwrap();
    }

    /// Commits that a backup is declared no more.
    pub fn withdraw(&self, name: &str) {
        fs::remove_file(self.declaration(name)).unwrap();
        self.commit();
    }

    fn declaration(&self, name: &str) -> PathBuf {
        self.folder().join(format!("infra/backup/{name}.toml"))
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&[&AUTHOR[..], &["commit", "--quiet", "-m", "Change what is backed up"]].concat());
    }

    fn git(&self, arguments: &[&str]) {
        let repo: &Path = &self.folder().join("infra");
        self.hand_over();
        let mut git = Command::new("git");
        self.as_its_user(git.arg("-C").arg(repo).args(arguments));
        let run = git.output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }

    /// Runs the program, which must exit with `code` and tell no secret.
    pub fn expect(&self, arguments: &[&str], code: i32) -> String {
        self.expect_with(&[], arguments, code)
    }

    /// As [`Self::expect`], with secrets in its environment.
    pub fn expect_with(&self, secrets: &[(&str, String)], arguments: &[&str], code: i32) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.envs(secrets.iter().map(|(name, value)| (name, value)));
        self.as_its_user(command.args(arguments).arg("--config").arg(self.config_file()));
        let run = command.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert_eq!(run.status.code(), Some(code), "backstay {arguments:?}\n{out}\n{err}");
        for (_, secret) in &self.secrets {
            assert!(!out.contains(secret) && !err.contains(secret), "a secret is told by {arguments:?}");
        }
        for (name, secret) in
            secrets.iter().filter(|(name, _)| name.contains("SECRET") || name.contains("TOKEN"))
        {
            assert!(!out.contains(secret) && !err.contains(secret), "{name} is told by {arguments:?}");
        }
        format!("{out}{err}")
    }
}
