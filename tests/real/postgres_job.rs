//! A commit declares a PostgreSQL database, and the built program backs it up and brings it back.

use std::fs;

use crate::{
    lab::{
        fleet::Fleet,
        postgres::{PASSWORD, Postgres, USER},
        schedules,
    },
    postgres_wal::ready,
};

/// A declaration of `server`, with `more` of what it says.
fn source(fleet: &mut Fleet, server: &Postgres, more: &str) -> String {
    let (port, password) = (server.port(), fleet.secret(PASSWORD));
    format!(
        "postgres = {{ host = \"127.0.0.1\", port = {port}, user = \"{USER}\", password = {password}, {more} }}"
    )
}

#[test]
fn a_commit_backs_up_a_database_that_comes_back_beside_the_original_and_over_it() {
    let server = Postgres::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE sale AS SELECT n AS id, md5(n::text) AS what FROM generate_series(1, 5000) n",
    );
    server.sql("postgres", &format!("ALTER ROLE {USER} SUPERUSER"));
    let sum =
        |database: &str| server.sql(database, "SELECT md5(string_agg(what, ',' ORDER BY id)) FROM sale");
    let before = sum("shop");
    let mut fleet = Fleet::new();
    let source = source(&mut fleet, &server, "databases = [\"shop\"]");
    fleet.declare("shop", &source);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "shop", "--plaintext"], 0);

    server.sql("shop", "DELETE FROM sale WHERE id > 10");
    fleet.expect(&["restore", "shop", "--to", "database:shop_copy"], 0);
    assert_eq!(sum("shop_copy"), before);
    assert_ne!(sum("shop"), before, "the original was touched");
    fleet.expect(&["restore", "shop", "--in-place"], 0);
    assert_eq!(sum("shop"), before);
}

#[test]
fn a_cluster_with_a_log_comes_back_to_any_second_in_a_folder() {
    let server = Postgres::start();
    ready(&server);
    server.sql("postgres", "CREATE TABLE sale (what TEXT); INSERT INTO sale VALUES ('before the full')");
    let mut fleet = Fleet::new();
    let source = source(&mut fleet, &server, "method = \"physical\"");
    let policy = schedules::with_log("transactional");
    fleet.declare("cluster", &format!("policy = \"transactional\"\n{source}\n{policy}"));
    fleet.expect(&["apply", "--yes"], 0);
    server.sql("postgres", "INSERT INTO sale VALUES ('in the log')");
    let disaster = server.next_second();
    server.sql("postgres", "DROP TABLE sale");
    let too_early = fleet.expect(&["restore", "cluster", "--at", "2026-01-01", "--to", "/nowhere/"], 1);
    assert!(too_early.contains("2026-01-01"), "{too_early}");
    fleet.expect(&["backup", "cluster", "--kind", "log", "--reason", "before the way back"], 0);
    let status = fleet.expect(&["status", "cluster"], 0);
    assert!(status.contains("any second of"), "{status}");
    assert!(status.contains("of 1.0 GiB, by slot backstay_cluster"), "{status}");
    server.sql("postgres", "ALTER SYSTEM SET max_slot_wal_keep_size = -1");
    server.sql("postgres", "SELECT pg_reload_conf()");
    server.wait_for("SHOW max_slot_wal_keep_size", "-1");
    let unlimited = fleet.expect(&["status", "cluster"], 4);
    ready(&server);
    assert!(unlimited.contains("nothing keeps it from filling the server's disk"), "{unlimited}");

    let data = fleet.restored().join("data");
    let at = disaster.to_string();
    let running = fleet.expect(&["restore", "cluster", "--at", &at, "--in-place"], 4);
    assert!(running.contains("stop the server"), "{running}");
    fleet.expect(&["restore", "cluster", "--at", &at, "--to", &format!("{}/", data.display())], 0);
    // The server's user may not look into the fleet's folder.
    let folder = tempfile::tempdir().unwrap();
    let moved = folder.path().join("data");
    fs::rename(&data, &moved).unwrap();
    let copy = Postgres::start_on(folder, &moved);
    copy.wait_for("SELECT pg_is_in_recovery()", "f");
    assert_eq!(copy.sql("postgres", SOLD), "before the full, in the log");
}

const SOLD: &str = "SELECT string_agg(what, ', ') FROM sale";

#[test]
fn a_cluster_of_this_host_comes_back_in_place_once_its_server_is_stopped() {
    let server = Postgres::start();
    ready(&server);
    server.sql("postgres", "CREATE TABLE sale (what TEXT); INSERT INTO sale VALUES ('before the full')");
    let (mut fleet, data) = (Fleet::new(), server.data());
    let physical = format!("method = \"physical\", data_dir = \"{}\"", data.display());
    let policy = schedules::with_log("transactional");
    let declared = source(&mut fleet, &server, &physical);
    fleet.declare("cluster", &format!("policy = \"transactional\"\n{declared}\n{policy}"));
    fleet.expect(&["apply", "--yes"], 4);
    let told = fleet.expect(&["status"], 4);
    assert!(told.contains("backup.cluster.in-place") && told.contains("`write`"), "{told}");
    let refused = fleet.expect(&["restore", "cluster", "--in-place"], 4);
    assert!(refused.contains("does not allow it"), "{refused}");

    fleet.allow_write(&data);
    server.sql("postgres", "INSERT INTO sale VALUES ('in the log')");
    let disaster = server.next_second().to_string();
    server.sql("postgres", "DROP TABLE sale");
    fleet.expect(&["backup", "cluster", "--kind", "log", "--reason", "before the way back"], 0);
    let in_place = ["restore", "cluster", "--at", &disaster, "--in-place"];
    let running = fleet.expect(&in_place, 4);
    assert!(running.contains("stop it first"), "{running}");
    let folder = server.stop();
    let told = fleet.expect(&in_place, 0);
    assert!(told.contains("data.before-restore-1"), "{told}");
    let server = Postgres::start_on(folder, &data);
    server.wait_for("SELECT pg_is_in_recovery()", "f");
    assert_eq!(server.sql("postgres", SOLD), "before the full, in the log");
}
