//! Drills by the very lines that runbooks print, with logs: of MariaDB's dumps and files, and of PostgreSQL's clusters.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::Value;

use crate::{
    by_hand::lines_of,
    drill::{assert_gone, drill, fleet_in, processes_of, sandboxes, told, verdicts},
    lab::{
        fleet::Fleet,
        mariadb::{self, MariaDb},
        postgres::{self, Postgres},
        schedules,
    },
    mysql_log::{sell, till},
    postgres_wal::ready,
};

/// A policy of all kinds, of which only what is asked for is made.
fn policy() -> String {
    schedules::with_increments_and_log("transactional")
}

fn log(fleet: &Fleet) {
    fleet.expect(&["backup", "shop", "--kind", "log", "--reason", "x"], 0);
}

/// A drill by hand, and with which exit code it ends.
fn by_hand(fleet: &Fleet, more: &[&str], code: i32) -> Value {
    let json = told(&fleet.expect(&[&["drill", "trial", "--by-hand", "-o", "json"], more].concat(), code));
    let stages = json["drills"][0]["stages"].as_array().unwrap();
    let stages: Vec<&str> = stages.iter().map(|it| it["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["prepare", "load", "replay", "verify"], "{json:#}");
    json
}

/// What looks like statements about accounts within a statement is left as it is.
const NOTE: &str = "{ sql = \"select hex(t) from other.note\", equals = \"610A44524F50205553455220620A\" }";

fn sales(number: u32) -> String {
    format!("{{ sql = \"select count(*) from shop.sale\", equals = \"{number}\" }}")
}

#[test]
fn the_log_of_a_dump_is_replayed_by_hand_to_the_second_whatever_accounts_it_tells_of() {
    let server = MariaDb::start();
    till(&server);
    server.sql("CREATE USER old@'%'; CREATE ROLE seller");
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let (port, password) = (server.port(), fleet.secret(mariadb::PASSWORD));
    let source = format!(
        "policy = \"transactional\"\nmysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password} }}\n{}",
        mariadb::USER,
        policy()
    );
    fleet.declare(
        "shop",
        &format!("{source}{}", drill(&format!("{{ counts = \"captured\" }}, {}, {NOTE}", sales(3)))),
    );
    fleet.expect(&["backup", "shop"], 0);
    sell(&server, "in the first log");
    // No dump holds accounts: in the sandbox neither of these is there.
    server.sql("DROP USER old@'%'; DROP ROLE seller; CREATE USER app@'%'");
    server.sql(
        "CREATE TABLE other.note (t TEXT); SET SESSION binlog_format = STATEMENT; \
         INSERT INTO other.note VALUES ('a\nDROP USER b\n')",
    );
    log(&fleet);
    server.sql("FLUSH BINARY LOGS");
    sell(&server, "in the second log");
    let second = server.next_second().to_string();
    server.sql("DROP TABLE shop.sale");
    log(&fleet);
    let json = by_hand(&fleet, &["--at", &second], 0);
    assert_eq!(verdicts(&json), ["passed"; 4], "CHECK TABLE and the declared ones: {json:#}");
    let newest = by_hand(&fleet, &[], 7);
    let expected = ["passed", "passed", "failed", "passed"];
    assert_eq!(verdicts(&newest), expected, "the table was dropped: {newest:#}");
    let transaction = server.sql("SELECT @@gtid_binlog_pos");
    let at = format!("gtid:{transaction}");
    let refused = fleet.expect(&["drill", "trial", "--by-hand", "--at", &at], 7);
    assert!(refused.contains("could not run") && refused.contains("a moment or a place"), "{refused}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}

#[test]
fn files_of_mariadb_come_back_by_hand_with_increments_and_the_log_also_typed_in_a_shell() {
    let server = MariaDb::start();
    server.let_files_be_copied();
    server.sql(
        "GRANT REPLICATION SLAVE, BINLOG ADMIN ON *.* TO backup@'127.0.0.1'; CREATE DATABASE shop;
         CREATE TABLE shop.sale (what TEXT); INSERT INTO shop.sale VALUES ('in the full')",
    );
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    fleet.may_read(&server.data_dir());
    let (port, password, data_dir) = (server.port(), fleet.secret(mariadb::PASSWORD), server.data_dir());
    let source = format!(
        "policy = \"transactional\"\nmysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password}, \
         method = \"physical\", data_dir = \"{}\" }}\n{}[recovery.site]\nsteps = [{{ restore = \"shop\" }}]\n",
        mariadb::USER,
        data_dir.display(),
        policy()
    );
    fleet.declare("shop", &format!("{source}{}", drill(&sales(4))));
    fleet.expect(&["backup", "shop", "--kind", "full"], 0);
    for what in ["first", "second"] {
        server.sql(&format!("INSERT INTO shop.sale VALUES ('in the {what} increment')"));
        fleet.expect(&["backup", "shop", "--kind", "incremental", "--reason", what], 0);
    }
    // By now nothing but the copies: what the runbook prints is typed.
    let typed = typed_runbook(&fleet);
    let copy = MariaDb::start_on(typed);
    assert_eq!(copy.sql("SELECT COUNT(*) FROM shop.sale"), "3");

    server.sql("INSERT INTO shop.sale VALUES ('in the log'); CREATE USER app@'%'");
    let second = server.next_second().to_string();
    server.sql("DROP TABLE shop.sale; DROP USER app@'%'");
    log(&fleet);
    let json = by_hand(&fleet, &["--at", &second], 0);
    assert_eq!(verdicts(&json), ["passed"; 2], "{json:#}");
    let newest = by_hand(&fleet, &[], 7);
    assert_eq!(verdicts(&newest), ["passed", "failed"], "{newest:#}");
    let runbook = fleet.expect(&["runbook", "site"], 0);
    assert!(runbook.contains("env TZ=UTC mariadb-binlog --no-defaults --start-position="), "{runbook}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}

/// Types what the runbook prints, and gives the folder that holds the restored `data`.
fn typed_runbook(fleet: &Fleet) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let shown = |path: &Path| path.display().to_string();
    fleet.expect(&["runbook", "--out", &shown(folder.path())], 0);
    fleet.expect(&["kit", "--out", &shown(&folder.path().join("kit"))], 0);
    for file in ["restore.sh", "allowed_signers"] {
        fs::copy(folder.path().join("kit").join(file), folder.path().join(file)).unwrap();
    }
    fs::copy(fleet.identity(), folder.path().join("identity.txt")).unwrap();
    let document = fs::read_to_string(folder.path().join("site.md")).unwrap();
    let store = document.split_once("the store is ").unwrap().1.split_once(": use").unwrap().0.to_owned();
    std::os::unix::fs::symlink(store, folder.path().join("STORE")).unwrap();
    let lines = lines_of(&document).join("\n");
    let typed =
        Command::new("timeout").args(["300", "sh", "-euc", &lines]).current_dir(folder.path()).output();
    let typed = typed.unwrap();
    assert!(typed.status.success(), "{lines}\n{}", String::from_utf8_lossy(&typed.stderr));
    fs::rename(folder.path().join("out-shop-restored"), folder.path().join("data")).unwrap();
    folder
}

#[test]
fn a_cluster_replays_its_log_by_hand_to_the_second_and_to_the_end() {
    let server = Postgres::start();
    ready(&server);
    server.sql("postgres", "CREATE TABLE sale (what TEXT); INSERT INTO sale VALUES ('before the full')");
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let (port, password) = (server.port(), fleet.secret(postgres::PASSWORD));
    let source = format!(
        "policy = \"transactional\"\npostgres = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password}, \
         method = \"physical\" }}\n{}[recovery.site]\nsteps = [{{ restore = \"shop\" }}]\n",
        postgres::USER,
        schedules::with_log("transactional")
    );
    let check = "{ sql = \"select count(*) from sale\", equals = \"3\" }";
    fleet.declare("shop", &format!("{source}{}", drill(check)));
    fleet.expect(&["backup", "shop"], 0);
    server.sql("postgres", "INSERT INTO sale VALUES ('in the first log')");
    log(&fleet);
    server.sql("postgres", "INSERT INTO sale VALUES ('in the second log')");
    let second = server.next_second().to_string();
    server.sql("postgres", "DROP TABLE sale");
    log(&fleet);
    let json = by_hand(&fleet, &["--at", &second], 0);
    assert_eq!(verdicts(&json), ["passed"; 3], "pg_verifybackup, pg_amcheck and the declared one: {json:#}");
    let newest = by_hand(&fleet, &[], 7);
    assert_eq!(verdicts(&newest), ["passed", "passed", "failed"], "{newest:#}");
    let runbook = fleet.expect(&["runbook", "site"], 0);
    for part in ["dd status=none if=site.restore/shop of=", "recovery_target_time = ''", "/restored_wal"] {
        assert!(runbook.contains(part), "{part}: {runbook}");
    }
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}
