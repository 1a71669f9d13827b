//! Redis' server, with a superuser for the tests and a user as a backup would have.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use backstay::{
    secrets::Secret,
    sources::redis::RedisSource,
    spec::{self, Tls},
};
use tempfile::TempDir;

use super::{Server, free_port};

/// What no command, log or message may trip over or show.
pub const PASSWORD: &str = r#"s3cr#t:"quoted"\back\slash'x'$HOME%dä"#;

/// The password of the tests' own user.
const ROOT: &str = "r00t";

/// The user that backs up, with what docs/redis.md names.
pub const USER: &str = "backup";

/// How the server sends its file to a replica.
#[derive(Clone, Copy, Debug)]
pub enum Sends {
    /// As it makes it.
    AsMade,
    /// Once it has written it to its disk.
    FromDisk,
}

pub struct Redis {
    _folder: TempDir,
    port: u16,
    server: Server,
}

impl Redis {
    pub fn start(sends: Sends) -> Self {
        Self::on(tempfile::tempdir().expect("a temporary folder can be made"), sends, "")
    }

    /// With lines of configuration of its own.
    pub fn with(sends: Sends, configuration: &str) -> Self {
        Self::on(tempfile::tempdir().expect("a temporary folder can be made"), sends, configuration)
    }

    /// A server on a file that was restored.
    pub fn start_on(file: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        fs::copy(file, folder.path().join("dump.rdb")).unwrap();
        Self::on(folder, Sends::AsMade, "")
    }

    fn on(folder: TempDir, sends: Sends, more: &str) -> Self {
        let port = free_port();
        let diskless = match sends {
            Sends::AsMade => "repl-diskless-sync yes\nrepl-diskless-sync-delay 0",
            Sends::FromDisk => "repl-diskless-sync no",
        };
        let configuration = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nappendonly no\nsave \"\"\nlogfile \"\"\nenable-debug-command local\nrequirepass {ROOT}\n{diskless}\n{more}\n",
            folder.path().display()
        );
        let file = folder.path().join("redis.conf");
        fs::write(&file, configuration).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("redis-server");
        let mut server = Server::start(command.arg(&file).stdout(log).stderr(Stdio::null()));
        server.wait_until("it answers", || client(port).arg("PING").output().unwrap().stdout == b"PONG\n");
        let lab = Self { _folder: folder, port, server };
        lab.run(&["ACL", "SETUSER", USER, "on", &format!(">{PASSWORD}"), "+psync", "+replconf", "+info"]);
        lab
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it as a loss of power would.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
    }

    /// Stops it where it stands: its connections stay open, and nothing answers.
    pub fn suspend(&self) {
        self.server.suspend();
    }

    /// What a command prints.
    pub fn run(&self, words: &[&str]) -> String {
        let output = client(self.port).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(!text.starts_with("ERR") && !text.starts_with("NO"), "{words:?}: {text}");
        text
    }

    /// Runs a script of the server's own language in database `number`.
    pub fn script(&self, number: u32, script: &str) -> String {
        self.run(&["-n", &number.to_string(), "EVAL", script, "0"])
    }

    /// A digest of everything that it holds, and of the time that is left to keys, each second of it.
    pub fn digest(&self) -> String {
        self.run(&["DEBUG", "DIGEST"])
    }

    /// As the user that backs up.
    pub fn source(&self) -> RedisSource {
        self.source_with(Some(USER), PASSWORD)
    }

    pub fn source_with(&self, user: Option<&str>, password: &str) -> RedisSource {
        RedisSource::new(
            spec::Redis { user: user.map(str::to_owned), ..at(self.port) },
            Some(Secret::new(password.to_owned())),
        )
    }

    /// As the server's default user.
    pub fn root(&self) -> RedisSource {
        self.source_with(None, ROOT)
    }
}

/// A server of this machine.
pub fn at(port: u16) -> spec::Redis {
    spec::Redis { host: "127.0.0.1".to_owned(), port, user: None, password: None, tls: Tls::Default }
}

fn client(port: u16) -> Command {
    let mut command = Command::new("redis-cli");
    command.env("REDISCLI_AUTH", ROOT).args(["-p", &port.to_string()]);
    command
}
