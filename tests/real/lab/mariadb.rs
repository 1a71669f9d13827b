//! MariaDB's server, with a binary log, a root without a password, and a user as a backup would have.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use backstay::{
    secrets::Secret,
    sources::mysql::MysqlSource,
    spec::{self, Tls},
};
use tempfile::TempDir;

use super::{Server, free_port, run};

/// What no option file, shell or message may trip over or show.
pub const PASSWORD: &str = r#"s3cr#t "quoted" \back\slash 'x' $HOME %d ä"#;

/// The user that backs up, with the grants that docs/sources.md names, on `shop` and `other`.
pub const USER: &str = "backup";

pub struct MariaDb {
    folder: TempDir,
    port: u16,
    server: Server,
}

impl MariaDb {
    pub fn start() -> Self {
        Self::start_with(&["--log-bin=bin", "--binlog-format=ROW"])
    }

    pub fn start_without_binary_log() -> Self {
        Self::start_with(&["--skip-log-bin"])
    }

    fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let data = folder.path().join("data");
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.args(["--skip-name-resolve", "--user=root"]).arg(setting("--datadir", &data));
        // Temporary tables of servers that start at once would get into each other's way.
        let scratch = folder.path().join("tmp");
        fs::create_dir(&scratch).unwrap();
        run(install.arg(setting("--tmpdir", &scratch)).stdout(Stdio::null()));
        let port = free_port();
        let mut command = Command::new("mariadbd");
        command.args(["--no-defaults", "--bind-address=127.0.0.1", "--server-id=7", "--skip-name-resolve"]);
        command.args(["--user=root", "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0"]).args(options);
        command.arg(setting("--datadir", &data)).arg(format!("--port={port}"));
        command.arg(setting("--tmpdir", &scratch));
        command.arg(setting("--socket", folder.path().join("m.sock")));
        command.arg(setting("--pid-file", folder.path().join("m.pid")));
        command.arg(setting("--log-error", folder.path().join("err")));
        let mut server = Server::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let socket = folder.path().join("m.sock");
        server.wait_until("it answers", || {
            client(&socket).args(["-e", "SELECT 1"]).output().unwrap().status.success()
        });
        let lab = Self { folder, port, server };
        let password = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
        lab.sql(&format!(
            "CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{password}';
             GRANT RELOAD, BINLOG MONITOR ON *.* TO {USER}@'127.0.0.1';
             GRANT SELECT ON mysql.proc TO {USER}@'127.0.0.1';"
        ));
        for database in ["shop", "other"] {
            lab.sql(&format!(
                "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON {database}.* TO {USER}@'127.0.0.1'"
            ));
        }
        lab
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("m.sock")
    }

    /// Kills it as a loss of power would.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
    }

    /// Runs statements as root and returns what they print.
    pub fn sql(&self, statements: &str) -> String {
        sql(&self.socket(), statements)
    }

    /// Waits until the server's clock shows another second, and returns it: what happens from now on is of that second or
    /// later.
    pub fn next_second(&self) -> jiff::Timestamp {
        let now = || self.sql("SELECT UNIX_TIMESTAMP()").parse::<i64>().unwrap();
        let (before, deadline) = (now(), Instant::now() + Duration::from_secs(10));
        while now() == before {
            assert!(Instant::now() < deadline, "the server's clock stands still");
        }
        jiff::Timestamp::from_second(before + 1).unwrap()
    }

    /// Purges every binary log but a new one. The server keeps files until the engine has written down what is in them.
    pub fn purge_all_binary_logs(&self) {
        self.sql("FLUSH BINARY LOGS");
        let names = || {
            let listed = self.sql("SHOW BINARY LOGS");
            listed.lines().filter_map(|line| line.split('\t').next()).map(str::to_owned).collect::<Vec<_>>()
        };
        let last = names().pop().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while names()[0] != last {
            assert!(Instant::now() < deadline, "the server purges nothing");
            self.sql(&format!("PURGE BINARY LOGS TO '{last}'"));
        }
    }

    /// Databases as the user that backs up sees them, over TCP.
    pub fn source(&self, databases: &[&str]) -> MysqlSource {
        self.source_with(databases, PASSWORD)
    }

    pub fn source_with(&self, databases: &[&str], password: &str) -> MysqlSource {
        let server = spec::Server {
            host: "127.0.0.1".to_owned(),
            port: Some(self.port),
            socket: None,
            user: Some(USER.to_owned()),
            password: None,
            databases: databases.iter().map(|name| name.to_string()).collect(),
            tls: Tls::Default,
        };
        MysqlSource::new(spec::Mysql { server }, Some(Secret::new(password.to_owned())))
    }

    /// Databases as root sees them, over the socket, to restore to.
    pub fn root(&self, databases: &[&str]) -> MysqlSource {
        let server = spec::Server {
            host: String::new(),
            port: None,
            socket: Some(self.socket()),
            user: Some("root".to_owned()),
            password: None,
            databases: databases.iter().map(|name| name.to_string()).collect(),
            tls: Tls::Default,
        };
        MysqlSource::new(spec::Mysql { server }, None)
    }
}

/// Runs statements as root on the server at `socket`.
pub fn sql(socket: &Path, statements: &str) -> String {
    let mut client = client(socket);
    let output = client.args(["--batch", "--skip-column-names", "-e", statements]).output().unwrap();
    assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn client(socket: &Path) -> Command {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "--user=root", "--default-character-set=utf8mb4"]);
    command.arg(setting("--socket", socket));
    command
}

fn setting(name: &str, value: impl AsRef<OsStr>) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(name);
    argument.push("=");
    argument.push(value);
    argument
}

/// A folder of programs that stand in for the real ones: the real client, and a dump program that is `script`.
pub fn fake_dump(script: &str) -> TempDir {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("mariadb-dump");
    let version = "case \"$1\" in --version) exec /usr/bin/mariadb-dump --version;; esac";
    fs::write(&dump, format!("#!/bin/sh\n{version}\n{script}\n")).unwrap();
    fs::set_permissions(&dump, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/usr/bin/mariadb", folder.path().join("mariadb")).unwrap();
    folder
}
