//! PostgreSQL's server, with a superuser over its socket and a user over TCP as a backup would have.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use backstay::{
    artifact::manifest::Counting,
    secrets::Secret,
    sources::postgres::PostgresSource,
    spec::{self, Jobs, LogFrom, PostgresMethod, SlotName, Tls},
};
use jiff::Timestamp;
use tempfile::TempDir;

use super::{READY, Server, free_port, run, wait_until};

/// What no password file, shell or message may trip over or show.
pub const PASSWORD: &str = r#"s3cr#t:"quoted" \back\slash 'x' $HOME %d ä"#;

/// The user that backs up, with what docs/postgres.md names for both methods.
pub const USER: &str = "backup";

/// The user that owns the cluster: the server refuses to run as root.
pub const OWNER: u32 = 65534;

pub struct Postgres {
    folder: TempDir,
    port: u16,
    server: Server,
}

impl Postgres {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    /// A cluster whose files are in `folder`.
    pub fn start_in(folder: TempDir) -> Self {
        owned(folder.path());
        let data = folder.path().join("data");
        let mut init = program("initdb");
        init.args([
            "-U",
            "postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--no-locale",
            "-E",
            "UTF8",
        ]);
        run(init.arg("--no-sync").arg("-D").arg(&data));
        let lab = Self::on(folder, &data);
        let password = PASSWORD.replace('\'', "''");
        lab.sql("postgres", &format!("CREATE ROLE {USER} LOGIN REPLICATION PASSWORD '{password}'"));
        lab.sql("postgres", &format!("GRANT pg_read_all_data TO {USER}"));
        lab
    }

    /// A server on a data folder that a restore made, in `folder`.
    pub fn start_on(folder: TempDir, data: &Path) -> Self {
        owned(folder.path());
        run(Command::new("chown").args(["-R", &format!("{OWNER}:{OWNER}")]).arg(data));
        Self::on(folder, data)
    }

    fn on(folder: TempDir, data: &Path) -> Self {
        let port = free_port();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = program("postgres");
        command.arg("-D").arg(data).args(["-p", &port.to_string(), "-k"]).arg(folder.path());
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "wal_level=replica"]);
        let mut server = Server::start(command.stdout(Stdio::null()).stderr(log));
        let socket = folder.path().to_owned();
        wait_until("it answers", READY, || {
            let log = || fs::read_to_string(socket.join("log")).unwrap_or_default();
            assert!(server.runs(), "the server ended: {}", log());
            client(&socket, port, "postgres").args(["-c", "SELECT 1"]).output().unwrap().status.success()
        });
        Self { folder, port, server }
    }

    /// A server that follows this one.
    pub fn standby(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        owned(folder.path());
        let data = folder.path().join("data");
        let mut copy = program("pg_basebackup");
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--username=postgres", "--pgdata"])
            .arg(&data);
        run(copy.arg(format!("--port={}", self.port)).arg("--host").arg(self.folder()));
        Self::on(folder, &data)
    }

    /// Waits until a question has this answer.
    pub fn wait_for(&self, question: &str, answer: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.sql("postgres", question) != answer {
            assert!(Instant::now() < deadline, "{question} is not {answer}");
        }
    }

    /// The beginning of the next second by the server's clock, once that has come.
    pub fn next_second(&self) -> Timestamp {
        let sql = "SELECT pg_sleep(1), to_char(date_trunc('second', now() + interval '1 second') AT TIME ZONE 'UTC', \
                   'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
        self.sql("postgres", sql).trim_start_matches('|').parse().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder that its files lie in, which its owner may write to.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Ends it, and leaves its files.
    pub fn stop(mut self) -> TempDir {
        self.kill();
        self.folder
    }

    /// Kills it as a loss of power would.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
    }

    /// Runs statements as the superuser and returns what they print.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let output =
            client(self.folder.path(), self.port, database).args(["-c", statements]).output().unwrap();
        assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Databases as the user that backs up sees them, over TCP.
    pub fn source(&self, databases: &[&str]) -> PostgresSource {
        self.source_with(databases, PASSWORD)
    }

    pub fn source_with(&self, databases: &[&str], password: &str) -> PostgresSource {
        let server = spec::Server { databases: names(databases), ..self.server() };
        let postgres = spec::Postgres {
            server,
            method: PostgresMethod::Logical,
            jobs: Jobs::ONE,
            counting: Counting::default(),
        };
        PostgresSource::new(postgres, Some(Secret::new(password.to_owned())))
    }

    /// The whole cluster, as the user that backs up.
    pub fn cluster(&self) -> PostgresSource {
        self.cluster_in(None)
    }

    /// The whole cluster with its data folder, which a restore in place replaces.
    pub fn cluster_in(&self, data_dir: Option<&Path>) -> PostgresSource {
        Self::cluster_at(self.port, data_dir)
    }

    /// The whole cluster that is at this port, or was.
    pub fn cluster_at(port: u16, data_dir: Option<&Path>) -> PostgresSource {
        let slot = SlotName::of(&"cluster".parse().unwrap());
        let log = LogFrom::Slot(slot);
        let method = PostgresMethod::Physical { log, data_dir: data_dir.map(Path::to_owned) };
        let postgres = spec::Postgres {
            server: Self::server_at(port),
            method,
            jobs: Jobs::ONE,
            counting: Counting::default(),
        };
        PostgresSource::new(postgres, Some(Secret::new(PASSWORD.to_owned())))
    }

    fn server(&self) -> spec::Server {
        Self::server_at(self.port)
    }

    fn server_at(port: u16) -> spec::Server {
        spec::Server {
            host: "127.0.0.1".to_owned(),
            port: Some(port),
            socket: None,
            user: Some(USER.to_owned()),
            password: None,
            databases: Vec::new(),
            tls: Tls::Default,
        }
    }

    /// Databases as the superuser sees them, over the socket.
    pub fn root(&self, databases: &[&str]) -> PostgresSource {
        self.root_with(databases, Jobs::ONE)
    }

    /// The same, dumped and loaded by several jobs.
    pub fn root_with(&self, databases: &[&str], jobs: Jobs) -> PostgresSource {
        let server = spec::Server {
            host: String::new(),
            port: None,
            socket: Some(self.socket()),
            user: Some("postgres".to_owned()),
            databases: names(databases),
            ..self.server()
        };
        PostgresSource::new(
            spec::Postgres { server, method: PostgresMethod::Logical, jobs, counting: Counting::default() },
            None,
        )
    }
}

fn names(databases: &[&str]) -> Vec<String> {
    databases.iter().map(|name| name.to_string()).collect()
}

/// The folder of the newest version's programs.
pub fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed").flatten();
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(version);
    newest.expect("a version is installed").join("bin")
}

/// A program of the server, as its owner.
fn program(name: &str) -> Command {
    let mut command = Command::new(programs().join(name));
    command.env_clear().env("LC_ALL", "C").current_dir("/").stdout(Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.uid(OWNER).gid(OWNER);
    }
    command
}

/// Lets the server's user look into a folder.
pub fn open_to_all(folder: &Path) {
    owned(folder);
}

fn owned(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder, Some(OWNER), Some(OWNER)).unwrap();
    }
}

/// Checks a data folder with the engine's own program.
pub fn verify(data: &Path) {
    run(Command::new(programs().join("pg_verifybackup")).arg(data));
}

fn client(socket: &Path, port: u16, database: &str) -> Command {
    let mut command = Command::new(programs().join("psql"));
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
    command.args(["-p", &port.to_string(), "-h"]).arg(socket);
    command
}

/// A folder of programs, the real ones but for `name`, which is `script`.
pub fn fake(name: &str, script: &str) -> TempDir {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    for real in ["psql", "pg_dump", "pg_dumpall", "pg_restore", "pg_basebackup", "pg_receivewal"] {
        if real != name {
            symlink(programs().join(real), folder.path().join(real)).unwrap();
        }
    }
    let real = programs().join(name).display().to_string();
    let version = format!("case \"$1\" in --version) exec {real} --version;; esac");
    let place = folder.path().join(name);
    fs::write(&place, format!("#!/bin/sh\n{version}\nREAL={real}\n{script}\n")).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
