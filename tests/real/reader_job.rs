//! The daemon reads logs as they are written: what a server wrote before it died is stored at the next slot.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    lab::{
        fleet::Fleet,
        mariadb::{self, MariaDb},
        postgres::{self, Postgres},
        schedules,
    },
    mysql_log,
    postgres_wal::{ready, sell, sold, till},
};

/// How long whatever is waited for may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// `backstay run`.
struct Daemon(Child);

impl Daemon {
    fn start(fleet: &Fleet) -> Self {
        // Keys are made by whoever comes first; the daemon must not meet somebody who makes them.
        fleet.command(&["status"]).output().unwrap();
        let mut command = fleet.command(&["run"]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        // One that has ended needs none.
        let _ = kill_process(Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap(), signal);
    }

    fn end(mut self, signal: Signal) {
        self.signal(signal);
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// How the reader of a backup is.
fn reader(fleet: &Fleet, backup: &str) -> Value {
    let run = fleet.command(&["status", "--output", "json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&run.stdout).unwrap_or_default();
    status["backups"][backup]["log_reader"].clone()
}

fn has(fleet: &Fleet, backup: &str, kind: &str) -> bool {
    let run = fleet.command(&["list", backup, "--output", "json"]).output().unwrap();
    let list: Value = serde_json::from_slice(&run.stdout).unwrap_or_default();
    list["artifacts"].as_array().is_some_and(|rows| rows.iter().any(|row| row["kind"] == kind))
}

/// The programs that write into a folder below this one, by their arguments.
fn readers_in(folder: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(folder) && line.contains("log-0")).collect()
}

fn declare(fleet: &mut Fleet, server: &Postgres) {
    let (port, password) = (server.port(), fleet.secret(postgres::PASSWORD));
    fleet.declare(
        "cluster",
        &format!(
            "policy = \"transactional\"\npostgres = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", \
             password = {password}, method = \"physical\" }}\n{}",
            postgres::USER,
            schedules::with_log("transactional")
        ),
    );
}

/// A fleet that backs up the cluster with its log.
fn fleet_of(server: &Postgres) -> (Fleet, PathBuf) {
    let mut fleet = Fleet::new();
    fleet.listen_anywhere();
    declare(&mut fleet, server);
    let spool = fleet.state().join("readers/cluster");
    (fleet, spool)
}

#[test]
fn what_a_postgresql_server_wrote_before_it_died_is_stored_and_restored() {
    let mut server = till();
    let (fleet, spool) = fleet_of(&server);
    let daemon = Daemon::start(&fleet);
    wait_until("a full and a log", || ["full", "log"].iter().all(|kind| has(&fleet, "cluster", kind)));
    wait_until("a reader", || reader(&fleet, "cluster")["state"] == "up");
    let status = fleet.expect(&["status", "cluster"], 0);
    assert!(status.contains("log read as it is written: all up to"), "{status}");
    sell(&server, "before it died");
    server.wait_for("SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= pg_current_wal_lsn()", "1");
    server.kill();
    wait_until("the reader is down", || reader(&fleet, "cluster")["state"] == "down");
    fleet.expect(&["backup", "cluster", "--kind", "log", "--reason", "its server is dead"], 0);
    daemon.end(Signal::TERM);
    assert_eq!(readers_in(&spool.display().to_string()), Vec::<String>::new());
    assert_eq!(reader(&fleet, "cluster"), Value::Null, "no daemon, no reader");

    let data = fleet.restored().join("data");
    fleet.expect(&["restore", "cluster", "--to", &format!("{}/", data.display())], 0);
    // The server's user may not look into the fleet's folder.
    let folder = tempfile::tempdir().unwrap();
    let moved = folder.path().join("data");
    fs::rename(&data, &moved).unwrap();
    let copy = Postgres::start_on(folder, &moved);
    copy.wait_for("SELECT pg_is_in_recovery()", "f");
    assert_eq!(sold(&copy), "before the base,before it died");
}

#[test]
fn what_a_mariadb_server_wrote_before_it_died_is_stored_and_restored() {
    let mut server = MariaDb::start();
    mysql_log::till(&server);
    server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1");
    server.sql(&format!("GRANT ALL ON *.* TO {}@'127.0.0.1'", mariadb::USER));
    let mut fleet = Fleet::new();
    fleet.listen_anywhere();
    let (port, password) = (server.port(), fleet.secret(mariadb::PASSWORD));
    fleet.declare(
        "shop",
        &format!(
            "policy = \"transactional\"\nmysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", \
             password = {password} }}\n{}",
            mariadb::USER,
            schedules::with_log("transactional")
        ),
    );
    let spool = fleet.state().join("readers/shop");
    let daemon = Daemon::start(&fleet);
    wait_until("a full and a log", || ["full", "log"].iter().all(|kind| has(&fleet, "shop", kind)));
    wait_until("a reader", || reader(&fleet, "shop")["state"] == "up");
    mysql_log::sell(&server, "before it died");
    let listed = server.sql("SHOW MASTER STATUS");
    let (file, size) = listed.split_once('\t').unwrap();
    let size: u64 = size.split('\t').next().unwrap().parse().unwrap();
    let read = || spool.join("log-000001").join(file).metadata().is_ok_and(|found| found.len() >= size);
    wait_until("it is read", read);
    server.kill();
    wait_until("the reader is down", || reader(&fleet, "shop")["state"] == "down");
    fleet.expect(&["backup", "shop", "--kind", "log", "--reason", "its server is dead"], 0);
    daemon.end(Signal::TERM);
    assert_eq!(readers_in(&spool.display().to_string()), Vec::<String>::new());
    server.restart();
    server.sql("DELETE FROM shop.sale");
    fleet.expect(&["restore", "shop", "--in-place"], 0);
    assert_eq!(mysql_log::sold(&server), "before the dump,before it died");
}

#[test]
fn readers_come_and_go_with_their_declaration_and_their_daemon() {
    let server = Postgres::start();
    ready(&server);
    let (mut fleet, spool) = fleet_of(&server);
    let spool = spool.display().to_string();
    let daemon = Daemon::start(&fleet);
    wait_until("a reader", || reader(&fleet, "cluster")["state"] == "up");
    assert_eq!(readers_in(&spool).len(), 1, "{:?}", readers_in(&spool));
    daemon.end(Signal::KILL);
    wait_until("no reader outlives the daemon", || readers_in(&spool).is_empty());
    assert_eq!(reader(&fleet, "cluster")["state"], "down");

    let daemon = Daemon::start(&fleet);
    wait_until("a reader again", || reader(&fleet, "cluster")["state"] == "up");
    assert_eq!(readers_in(&spool).len(), 1);
    let until = (jiff::Timestamp::now() + Duration::from_secs(3600)).to_string();
    fleet.expect(&["suspend", "cluster", "--until", &until, "--reason", "maintenance"], 0);
    wait_until("what is suspended is not read", || readers_in(&spool).is_empty());
    fleet.expect(&["resume", "cluster"], 0);
    wait_until("what is resumed is read", || readers_in(&spool).len() == 1);
    fleet.withdraw("cluster");
    wait_until("what nothing declares is not read", || readers_in(&spool).is_empty());
    daemon.end(Signal::TERM);

    fleet.configure("[readers]\nmax_spool = \"1MiB\"\n");
    declare(&mut fleet, &server);
    let daemon = Daemon::start(&fleet);
    wait_until("its spool is full", || reader(&fleet, "cluster")["state"] == "full");
    assert_eq!(readers_in(&spool), Vec::<String>::new());
    let status = fleet.expect(&["status"], 4);
    assert!(status.contains("log-reader-down") || status.contains("its spool holds"), "{status}");
    daemon.end(Signal::TERM);
}
