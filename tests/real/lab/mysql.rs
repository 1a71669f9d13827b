//! MySQL's server, with a binary log and global transaction ids, a root without a password, and a user as a backup would have.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use backstay::{
    artifact::manifest::Counting,
    secrets::Secret,
    sources::mysql::MysqlSource,
    spec::{self, BinaryLogs, MysqlMethod, Tls},
};
use tempfile::TempDir;

use super::{
    Server, free_port,
    mariadb::{PASSWORD, USER},
    run,
};

pub struct Mysql {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    server: Server,
}

/// Where `ci/test` installs MySQL, whose servers and programs find the rest of it by themselves.
const PLACE: &str = "/opt/backstay-tests/mysql";

/// MySQL's programs.
pub fn programs() -> PathBuf {
    let programs = Path::new(PLACE).join("bin");
    assert!(programs.join("mysqld").is_file(), "ci/test installs MySQL into {}", programs.display());
    programs
}

/// Where programs are looked for on a host that has both engines'.
pub fn search() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths([programs()].into_iter().chain(env::split_paths(&path))).unwrap()
}

impl Mysql {
    /// A server that numbers transactions.
    pub fn start() -> Self {
        Self::start_with(&["--gtid-mode=ON", "--enforce-gtid-consistency=ON"])
    }

    pub fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut install = Command::new(programs().join("mysqld"));
        install.args(["--no-defaults", "--initialize-insecure", "--user=root"]);
        install.arg(setting("--datadir", &folder.path().join("data"))).arg(basedir());
        run(install.stdout(Stdio::null()).stderr(Stdio::null()));
        let port = free_port();
        let server = run_server(folder.path(), port, options);
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let lab = Self { folder, port, options, server };
        let password = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
        lab.sql(&format!(
            "CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{password}';
             GRANT RELOAD, REPLICATION CLIENT, SHOW_ROUTINE ON *.* TO {USER}@'127.0.0.1';"
        ));
        for database in ["shop", "other"] {
            lab.sql(&format!(
                "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON {database}.* TO {USER}@'127.0.0.1'"
            ));
        }
        lab
    }

    /// Ends it, however, and starts it again on the same folder and port.
    pub fn restart(&mut self) {
        self.server.kill().unwrap();
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.server = run_server(self.folder.path(), self.port, &options);
    }

    /// Kills it as a loss of power would.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("m.sock")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements as root and returns what they print.
    pub fn sql(&self, statements: &str) -> String {
        let mut client = client(&self.socket());
        let output = client.args(["--batch", "--skip-column-names", "-e", statements]).output().unwrap();
        assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Waits until the server's clock shows another second, and returns it: what happens from now on is of that second or
    /// later.
    pub fn next_second(&self) -> jiff::Timestamp {
        let now = || self.sql("SELECT UNIX_TIMESTAMP()").parse::<i64>().unwrap();
        let before = now();
        super::wait_until("the server's clock goes on", super::READY, || now() != before);
        jiff::Timestamp::from_second(before + 1).unwrap()
    }

    /// Databases as the user that backs up sees them, over TCP.
    pub fn source(&self, databases: &[&str]) -> MysqlSource {
        let server = spec::Server {
            host: "127.0.0.1".to_owned(),
            port: Some(self.port),
            socket: None,
            user: Some(USER.to_owned()),
            password: None,
            databases: databases.iter().map(|name| name.to_string()).collect(),
            tls: Tls::Default,
        };
        source(server, BinaryLogs::Left, Some(Secret::new(PASSWORD.to_owned())))
    }

    /// Databases as root sees them, over the socket, to restore to.
    pub fn root(&self, databases: &[&str]) -> MysqlSource {
        source(self.by_socket(databases), BinaryLogs::Left, None)
    }

    /// All databases as root sees them, with binary logs that are purged once they are stored.
    pub fn purging(&self) -> MysqlSource {
        source(self.by_socket(&[]), BinaryLogs::Purged, None)
    }

    fn by_socket(&self, databases: &[&str]) -> spec::Server {
        spec::Server {
            host: String::new(),
            port: None,
            socket: Some(self.socket()),
            user: Some("root".to_owned()),
            password: None,
            databases: databases.iter().map(|name| name.to_string()).collect(),
            tls: Tls::Default,
        }
    }
}

fn source(server: spec::Server, binary_logs: BinaryLogs, password: Option<Secret>) -> MysqlSource {
    let mysql =
        spec::Mysql { server, method: MysqlMethod::Logical, binary_logs, counting: Counting::default() };
    MysqlSource::new(mysql, password).search_path(search())
}

/// A server on `data` of `folder`, that answers.
fn run_server(folder: &Path, port: u16, options: &[&str]) -> Server {
    let mut command = Command::new(programs().join("mysqld"));
    command.args(["--no-defaults", "--bind-address=127.0.0.1", "--server-id=7", "--skip-name-resolve"]);
    command.args(["--user=root", "--mysqlx=OFF", "--secure-file-priv=NULL", "--log-bin=bin"]).args(options);
    command.args(["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0"]).arg(basedir());
    command.arg(setting("--datadir", &folder.join("data"))).arg(format!("--port={port}"));
    let socket = folder.join("m.sock");
    command.arg(setting("--socket", &socket)).arg(setting("--pid-file", &folder.join("m.pid")));
    command.arg(setting("--log-error", &folder.join("err")));
    let mut server = Server::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    server.wait_until("it answers", || {
        client(&socket).args(["-e", "SELECT 1"]).output().unwrap().status.success()
    });
    server
}

/// The client as root at `socket`.
pub fn client(socket: &Path) -> Command {
    let mut command = Command::new(programs().join("mysql"));
    command.args(["--no-defaults", "--user=root", "--default-character-set=utf8mb4"]);
    command.arg(setting("--socket", socket));
    command
}

fn basedir() -> OsString {
    setting("--basedir", &Path::new(PLACE).join("usr"))
}

fn setting(name: &str, value: &Path) -> OsString {
    let mut argument = OsString::from(name);
    argument.push("=");
    argument.push(value);
    argument
}
