//! MariaDB's server, with a binary log, a root without a password, and a user as a backup would have.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use backstay::{
    artifact::manifest::Counting,
    secrets::Secret,
    sources::mysql::MysqlSource,
    spec::{self, BinaryLogs, MysqlMethod, Tls},
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
    options: Vec<String>,
    server: Server,
}

impl MariaDb {
    pub fn start() -> Self {
        Self::start_with(&["--log-bin=bin", "--binlog-format=ROW"])
    }

    pub fn start_without_binary_log() -> Self {
        Self::start_with(&["--skip-log-bin"])
    }

    /// A server that keeps files outside its data folder.
    pub fn start_with_undo_in(folder: &Path) -> Self {
        Self::start_with(&["--skip-log-bin", &format!("--innodb-undo-directory={}", folder.display())])
    }

    pub fn start_with_lower_case_names() -> Self {
        Self::start_with(&["--log-bin=bin", "--binlog-format=ROW", "--lower-case-table-names=1"])
    }

    /// A server whose files are in `folder`.
    pub fn start_in(folder: TempDir) -> Self {
        Self::made(folder, &["--log-bin=bin", "--binlog-format=ROW"])
    }

    fn start_with(options: &[&str]) -> Self {
        Self::made(tempfile::tempdir().expect("a temporary folder can be made"), options)
    }

    fn made(folder: TempDir, options: &[&str]) -> Self {
        let data = folder.path().join("data");
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.args(["--skip-name-resolve", "--user=root"]).arg(setting("--datadir", &data));
        // Temporary tables of servers that start at once would get into each other's way.
        let scratch = folder.path().join("tmp");
        fs::create_dir(&scratch).unwrap();
        run(install.arg(setting("--tmpdir", &scratch)).stdout(Stdio::null()));
        let lab = Self::on(folder, options);
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

    /// A server with other names of binary log files that replicates from this one, by global transaction ids.
    pub fn replica(&self) -> Self {
        let options = ["--log-bin=relief", "--binlog-format=ROW", "--log-slave-updates", "--server-id=8"];
        let replica = Self::start_with(&options);
        replica.sql("RESET MASTER; SET GLOBAL gtid_slave_pos = ''");
        self.sql("CREATE USER replica@'127.0.0.1'; GRANT REPLICATION SLAVE ON *.* TO replica@'127.0.0.1'");
        let from = format!("MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'replica'", self.port);
        // Accounts are there already.
        replica.sql(&format!(
            "SET GLOBAL replicate_wild_do_table = 'shop.%'; \
             CHANGE MASTER TO {from}, MASTER_USE_GTID = slave_pos; START SLAVE"
        ));
        replica
    }

    /// Waits until it has all that `primary` has, and takes over.
    pub fn take_over_from(&self, primary: &MariaDb) {
        let wanted = primary.sql("SELECT @@gtid_binlog_pos");
        assert_eq!(self.sql(&format!("SELECT MASTER_GTID_WAIT('{wanted}', 60)")), "0");
        self.sql("STOP SLAVE; RESET SLAVE ALL");
    }

    /// A server on the data folder that `folder` holds, with accounts as they are there.
    pub fn start_on(folder: TempDir) -> Self {
        Self::on(folder, &["--log-bin=bin", "--binlog-format=ROW"])
    }

    fn on(folder: TempDir, options: &[&str]) -> Self {
        let port = free_port();
        let server = run_server(folder.path(), port, options);
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { folder, port, options, server }
    }

    /// Ends it, however, and starts it again on the same folder and port.
    pub fn restart(&mut self) {
        self.server.kill().unwrap();
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.server = run_server(self.folder.path(), self.port, &options);
    }

    /// Ends it and gives its folder away, in which its data are in `data`.
    pub fn stop(mut self) -> TempDir {
        self.sql("SHUTDOWN");
        crate::lab::wait_until("it has ended", crate::lab::READY, || !self.server.runs());
        self.folder
    }

    /// Where its files are.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Grants what copies of files need besides what dumps do, as docs/mysql.md says.
    pub fn let_files_be_copied(&self) {
        self.sql(&format!("GRANT PROCESS, LOCK TABLES ON *.* TO {USER}@'127.0.0.1'"));
    }

    /// Has the engine write down every change, so that the next copy of changes begins here.
    pub fn checkpoint(&self) {
        self.sql("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0; SET GLOBAL innodb_max_dirty_pages_pct = 0");
        let age = || self.sql("SHOW GLOBAL STATUS LIKE 'Innodb_checkpoint_age'");
        crate::lab::wait_until("every change is written down", crate::lab::READY, || {
            age().split('\t').nth(1).is_some_and(|age| age.parse::<u64>().is_ok_and(|age| age < 1000))
        });
    }

    /// The files of the whole server, as the user that backs up captures them.
    pub fn files(&self) -> MysqlSource {
        self.files_with(PASSWORD)
    }

    /// The same, with another folder declared.
    pub fn files_in(&self, data_dir: &Path) -> MysqlSource {
        self.files_at(data_dir, PASSWORD)
    }

    pub fn files_with(&self, password: &str) -> MysqlSource {
        self.files_at(&self.data_dir(), password)
    }

    fn files_at(&self, data_dir: &Path, password: &str) -> MysqlSource {
        let method = MysqlMethod::Physical { data_dir: data_dir.to_owned() };
        let mysql = spec::Mysql {
            server: self.over_tcp(&[]),
            method,
            binary_logs: BinaryLogs::Left,
            counting: Counting::default(),
        };
        MysqlSource::new(mysql, Some(Secret::new(password.to_owned())))
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
        let server = self.over_tcp(databases);
        MysqlSource::new(
            spec::Mysql {
                server,
                method: MysqlMethod::Logical,
                binary_logs: BinaryLogs::Left,
                counting: Counting::default(),
            },
            Some(Secret::new(password.to_owned())),
        )
    }

    /// All databases, by way of another port.
    pub fn source_at(&self, port: u16) -> MysqlSource {
        let server = spec::Server { port: Some(port), ..self.over_tcp(&[]) };
        MysqlSource::new(
            spec::Mysql {
                server,
                method: MysqlMethod::Logical,
                binary_logs: BinaryLogs::Left,
                counting: Counting::default(),
            },
            Some(Secret::new(PASSWORD.to_owned())),
        )
    }

    fn over_tcp(&self, databases: &[&str]) -> spec::Server {
        spec::Server {
            host: "127.0.0.1".to_owned(),
            port: Some(self.port),
            socket: None,
            user: Some(USER.to_owned()),
            password: None,
            databases: databases.iter().map(|name| name.to_string()).collect(),
            tls: Tls::Default,
        }
    }

    /// Databases as root sees them, over the socket, to restore to.
    pub fn root(&self, databases: &[&str]) -> MysqlSource {
        self.as_root(databases, BinaryLogs::Left)
    }

    /// All databases as root sees them, with binary logs that are purged once they are stored.
    pub fn purging(&self) -> MysqlSource {
        self.as_root(&[], BinaryLogs::Purged)
    }

    fn as_root(&self, databases: &[&str], binary_logs: BinaryLogs) -> MysqlSource {
        let server = spec::Server {
            host: String::new(),
            port: None,
            socket: Some(self.socket()),
            user: Some("root".to_owned()),
            password: None,
            databases: databases.iter().map(|name| name.to_string()).collect(),
            tls: Tls::Default,
        };
        MysqlSource::new(
            spec::Mysql { server, method: MysqlMethod::Logical, binary_logs, counting: Counting::default() },
            None,
        )
    }
}

/// A server on `data` of `folder`, that answers.
fn run_server(folder: &Path, port: u16, options: &[&str]) -> Server {
    let mut command = Command::new("mariadbd");
    command.args(["--no-defaults", "--bind-address=127.0.0.1", "--server-id=7", "--skip-name-resolve"]);
    command.args(["--user=root", "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0"]).args(options);
    command.arg(setting("--datadir", folder.join("data"))).arg(format!("--port={port}"));
    let scratch = folder.join("tmp");
    fs::create_dir_all(&scratch).unwrap();
    command.arg(setting("--tmpdir", &scratch));
    let socket = folder.join("m.sock");
    command.arg(setting("--socket", &socket));
    command.arg(setting("--pid-file", folder.join("m.pid")));
    command.arg(setting("--log-error", folder.join("err")));
    let mut server = Server::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    server.wait_until("it answers", || {
        client(&socket).args(["-e", "SELECT 1"]).output().unwrap().status.success()
    });
    server
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
