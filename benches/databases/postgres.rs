//! A private PostgreSQL that can archive its log.

use std::{
    fs,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Engine, free_port, measure::run, shop, shop::Shop, wait_until};

/// The user that owns the cluster where this runs as root: the server refuses to.
const OWNER: u32 = 65534;

/// A server on a data folder; killed when dropped.
pub struct Server {
    folder: PathBuf,
    data: PathBuf,
    port: u16,
    process: Child,
}

impl Server {
    /// A server that has the orders.
    pub fn filled(folder: &Path, shop: &Shop) -> Self {
        let data = folder.join("data");
        owned(folder);
        let mut init = program("initdb");
        init.args(["-U", "postgres", "--auth-local=trust", "--auth-host=trust", "--no-locale", "-E", "UTF8"]);
        run(init.arg("--no-sync").arg("-D").arg(&data));
        // Until something takes it the log is archived nowhere: what fills the server needs no place.
        let settings = OpenOptions::new().append(true).open(data.join("postgresql.conf"));
        let written = settings.and_then(|mut file| file.write_all(b"archive_command = '/bin/true'\n"));
        written.expect("the settings are written");
        let server = Self::on(folder.to_owned(), data, &["archive_mode=on"]);
        server.sql("postgres", "CREATE DATABASE shop");
        server.run(&format!("CREATE TABLE orders ({})", shop::COLUMNS));
        let rows = File::open(&shop.file).expect("the orders are there");
        run(server.client("shop").args(["-c", "COPY orders FROM STDIN"]).stdin(rows));
        server.run("VACUUM ANALYZE orders");
        server
    }

    /// A server on a cluster that was brought back, at the end of its recovery. It has its files in `folder`.
    pub fn restored(folder: &Path, data: &Path) -> Self {
        owned(folder);
        run(Command::new("chown").arg("-R").arg(OWNER.to_string()).arg(data));
        let server = Self::on(folder.to_owned(), data.to_owned(), &["archive_mode=off"]);
        wait_until("the log is replayed", || server.sql("postgres", "SELECT pg_is_in_recovery()") == "f");
        server
    }

    fn on(folder: PathBuf, data: PathBuf, settings: &[&str]) -> Self {
        let port = free_port();
        let mut command = program("postgres");
        command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-k"]).arg(&folder);
        let own = ["listen_addresses=127.0.0.1", "fsync=off", "wal_level=replica", "shared_buffers=512MB"];
        let kept = ["max_wal_size=4GB", "max_slot_wal_keep_size=10GB"];
        command.args([&own[..], &kept, settings].concat().iter().flat_map(|setting| ["-c", setting]));
        let log = File::create(folder.join("log")).expect("the log is made");
        let process = command.stderr(log).spawn().expect("postgres is installed");
        let server = Self { folder, data, port, process };
        wait_until("the server answers", || {
            let asked = server.client("postgres").args(["-c", "SELECT 1"]).output();
            asked.expect("psql is installed").status.success()
        });
        server
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port))
    }

    /// Where a client program finds it, as whom.
    pub fn address(&self) -> [String; 3] {
        [
            format!("--host={}", self.folder.display()),
            format!("--port={}", self.port),
            "--username=postgres".to_owned(),
        ]
    }

    pub fn client(&self, database: &str) -> Command {
        let mut client = Command::new(programs().join("psql"));
        client.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).args(self.address());
        client.args(["-d", database]).stderr(Stdio::null());
        client
    }

    pub fn sql(&self, database: &str, statement: &str) -> String {
        let output = self.client(database).args(["-c", statement]).stderr(Stdio::piped()).output();
        let output = output.expect("psql is installed");
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The count and a checksum of the orders in a database.
    pub fn orders_in(&self, database: &str) -> String {
        self.sql(database, "SELECT count(*), sum(hashtext(orders::text)::bigint) FROM orders")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At once, and its own processes with it. It may have ended by itself.
        let _ = kill_process(Pid::from_child(&self.process), Signal::QUIT);
        let _ = self.process.wait();
    }
}

impl Engine for Server {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn run(&self, statement: &str) {
        self.sql("shop", statement);
    }

    fn settle(&self) {
        self.run("CHECKPOINT");
    }

    fn orders(&self) -> String {
        self.orders_in("shop")
    }

    fn clock(&self) -> i64 {
        let clock = self.sql("postgres", "SELECT floor(extract(epoch FROM clock_timestamp()))::bigint");
        clock.parse().expect("it is a number")
    }

    /// And waits until the segment of the log that tells of it is archived.
    fn lose(&self) {
        self.run("DROP TABLE IF EXISTS orders");
        let segment = self.sql("postgres", "SELECT pg_walfile_name(pg_switch_wal())");
        wait_until("the log is archived", || {
            self.sql("postgres", "SELECT COALESCE(last_archived_wal, '') FROM pg_stat_archiver") >= segment
        });
    }
}

/// The folder of the newest version's programs.
pub fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed").flatten();
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(version);
    newest.expect("a version is installed").join("bin")
}

fn program(name: &str) -> Command {
    let mut command = as_owner(programs().join(name));
    command.stdout(Stdio::null());
    command
}

/// A program that runs as the cluster's owner.
pub fn as_owner(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(OWNER).gid(OWNER);
    }
    command
}

/// Makes a folder of the cluster's owner.
pub fn owned(folder: &Path) {
    fs::create_dir_all(folder).expect("the folder is made");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder, Some(OWNER), Some(OWNER)).expect("root may");
    }
}
