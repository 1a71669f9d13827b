//! The engines' own checks in drills, by the built program: of data that was damaged in its source before it was captured, so that
//! every digest is right.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};

use backstay::sources::{Condition, Source};
use serde_json::Value;

use crate::{
    drill::{assert_gone, drill, fleet_in, processes_of, sandboxes, told, verdicts},
    lab::{
        fleet::Fleet,
        mariadb::{self, MariaDb},
        postgres::{self, Postgres},
        schedules, wait_until,
    },
    postgres_wal::ready,
};

/// Overwrites a part of a file.
fn damage(path: &Path, offset: u64, length: usize) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let whole = file.metadata().unwrap().len();
    assert!(offset + length as u64 <= whole, "{} has {whole} bytes", path.display());
    file.write_all_at(&vec![0x7f; length], offset).unwrap();
    file.sync_all().unwrap();
}

/// What a check found.
fn found<'a>(told: &'a Value, check: &str) -> &'a str {
    let findings = told["drills"][0]["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["check"] == check);
    finding.unwrap_or_else(|| panic!("no {check}: {told:#}"))["found"].as_str().unwrap()
}

#[test]
fn a_table_and_an_index_that_were_damaged_before_a_cluster_was_captured_fail_its_drill() {
    let server = Postgres::start();
    ready(&server);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE sale (id INT PRIMARY KEY, what TEXT); INSERT INTO sale SELECT n, md5(n::text) FROM generate_series(1, 5000) n",
    );
    server.sql("shop", "CREATE TABLE item AS SELECT n AS id FROM generate_series(1, 5000) n");
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let (port, password) = (server.port(), fleet.secret(postgres::PASSWORD));
    let source = format!(
        "policy = \"transactional\"\npostgres = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password}, \
         method = \"physical\" }}\n{}",
        postgres::USER,
        schedules::with_log("transactional")
    );
    let count = "{ sql = \"select count(*) from sale\", database = \"shop\", equals = \"5000\" }";
    fleet.declare("shop", &format!("{source}\n{}", drill(count)));
    fleet.expect(&["backup", "shop"], 0);
    let sound = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
    assert_eq!(verdicts(&sound), ["passed"; 3], "{sound:#}");
    assert_eq!(found(&sound, "pg_amcheck"), "3 databases");

    server.sql("postgres", "CHECKPOINT");
    let file = |relation: &str| {
        let path = server.sql("shop", &format!("SELECT pg_relation_filepath('{relation}')"));
        server.data().join(path)
    };
    // The last entries of the first leaf, and the header of the first row of a page.
    damage(&file("sale_pkey"), 8192 + 8192 - 16 - 64, 64);
    damage(&file("item"), 8192 - 32, 24);
    fleet.expect(&["backup", "shop"], 0);
    let damaged = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
    assert_eq!(verdicts(&damaged), ["passed", "failed", "passed"], "{damaged:#}");
    let faults = found(&damaged, "pg_amcheck");
    assert!(faults.contains("sale_pkey") && faults.contains("item"), "{faults}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}

#[tokio::test]
async fn without_its_program_a_cluster_could_not_be_looked_at() {
    let server = Postgres::start();
    let examined = |source: backstay::sources::postgres::PostgresSource| async move {
        source.examine().await.pop().unwrap().condition
    };
    // What the database minds is no affair of the check's.
    server.sql(
        "postgres",
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$",
    );
    server.sql("postgres", "CREATE EVENT TRIGGER guard ON ddl_command_start EXECUTE FUNCTION refuse()");
    server.sql("postgres", "ALTER DATABASE postgres SET default_transaction_read_only = on");
    let with = examined(server.root(&[])).await;
    assert!(matches!(with, Condition::Sound(_)), "{with:?}");
    let programs = postgres::fake("pg_dump", "exec $REAL \"$@\"");
    let without = examined(server.root(&[]).search_path(programs.path())).await;
    let Condition::Unknown(why) = without else { panic!("{without:?}") };
    assert!(why.contains("pg_amcheck: no such program"), "{why}");
}

#[test]
fn the_files_of_a_mariadb_server_are_drilled_and_a_table_that_was_damaged_before_fails() {
    let server = MariaDb::start();
    server.let_files_be_copied();
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.sale (id INT PRIMARY KEY, what TEXT)");
    server.sql("CREATE TABLE shop.note (id INT PRIMARY KEY, what TEXT) ENGINE=MyISAM");
    server.sql("USE shop; INSERT INTO sale SELECT seq, MD5(seq) FROM seq_1_to_5000; INSERT INTO note SELECT * FROM sale");
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    fleet.may_read(&server.data_dir());
    let (port, password, data_dir) = (server.port(), fleet.secret(mariadb::PASSWORD), server.data_dir());
    fleet.configure(&format!("\n[drills]\nsandbox = \"{}\"\n", place.path().display()));
    let source = format!(
        "mysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password}, method = \"physical\", \
         data_dir = \"{}\" }}",
        mariadb::USER,
        data_dir.display()
    );
    let count = "{ sql = \"select count(*) from shop.sale\", equals = \"5001\" }";
    fleet.declare("shop", &format!("{source}\n{}", drill(count)));
    fleet.expect(&["backup", "shop"], 0);
    server.sql("INSERT INTO shop.sale VALUES (5001, 'in the increment')");
    fleet.expect(&["backup", "shop", "--kind", "incremental"], 0);
    let sound = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
    assert_eq!(verdicts(&sound), ["passed"; 2], "{sound:#}");
    assert!(found(&sound, "CHECK TABLE … EXTENDED").ends_with(" tables"), "{sound:#}");

    server.sql("FLUSH TABLES");
    damage(&data_dir.join("shop/note.MYD"), 4000, 200);
    fleet.expect(&["backup", "shop", "--kind", "full"], 0);
    let damaged = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
    assert_eq!(verdicts(&damaged), ["failed", "passed"], "{damaged:#}");
    let faults = found(&damaged, "CHECK TABLE … EXTENDED");
    assert!(faults.starts_with("shop.note: "), "{faults}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}

#[test]
fn the_files_of_a_mariadb_server_are_drilled_to_the_second_that_is_asked_for() {
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
         method = \"physical\", data_dir = \"{}\" }}\n{}",
        mariadb::USER,
        data_dir.display(),
        schedules::with_increments_and_log("transactional")
    );
    let sales = "{ sql = \"select group_concat(what order by what) from shop.sale\", \
                 equals = \"in the full,in the increment,in the log\" }, \
                 { sql = \"select count(*) from mysql.user where user = 'app'\", equals = \"1\" }";
    fleet.declare("shop", &format!("{source}\n{}", drill(sales)));
    fleet.expect(&["backup", "shop"], 0);
    server.sql("INSERT INTO shop.sale VALUES ('in the increment')");
    fleet.expect(&["backup", "shop", "--kind", "incremental"], 0);
    server.sql("INSERT INTO shop.sale VALUES ('in the log'); CREATE USER app@'%'");
    let second = server.next_second().to_string();
    server.sql("DROP TABLE shop.sale; DROP USER app@'%'");
    fleet.expect(&["backup", "shop", "--kind", "log"], 0);
    let json = told(&fleet.expect(&["drill", "trial", "--at", &second, "-o", "json"], 0));
    assert_eq!(verdicts(&json), ["passed"; 3], "{json:#}");
    assert_eq!(json["drills"][0]["isolation"], "bubblewrap");
    let stages = json["drills"][0]["stages"].as_array().unwrap();
    assert!(stages.iter().any(|stage| stage["stage"] == "replay"), "{json:#}");
    // The newest moment is after the table was dropped.
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
    assert_eq!(verdicts(&json), ["passed", "failed", "failed"], "{json:#}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}

#[test]
fn a_database_of_sqlite_whose_index_or_references_are_wrong_fails_its_drill() {
    let place = sandboxes();
    let fleet = fleet_in(&place);
    let path = fleet.readable().join("shop.db");
    let shop = rusqlite::Connection::open(&path).unwrap();
    shop.execute_batch(
        "PRAGMA foreign_keys = off;
         CREATE TABLE sale (id INTEGER PRIMARY KEY, what TEXT); CREATE INDEX by_what ON sale (what);
         CREATE TABLE item (sale INTEGER REFERENCES sale (id)); INSERT INTO item VALUES (1);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO sale SELECT i, 'sale number ' || i FROM n",
    )
    .unwrap();
    let source = format!("sqlite = {{ path = \"{}\" }}", path.display());
    fleet.declare("shop", &format!("{source}\n{}", drill("{ counts = \"captured\" }")));
    fleet.expect(&["backup", "shop"], 0);
    let sound = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
    assert_eq!(verdicts(&sound), ["passed"; 3], "{sound:#}");

    shop.execute_batch("INSERT INTO item VALUES (9999)").unwrap();
    backup_in_another_second(&fleet);
    let dangling = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
    assert_eq!(verdicts(&dangling), ["passed", "failed", "passed"], "{dangling:#}");
    assert!(found(&dangling, "PRAGMA foreign_key_check").contains("row 2 of item"), "{dangling:#}");

    drop(shop);
    damage_index(&path);
    backup_in_another_second(&fleet);
    // A restore refuses it; by hand it comes back as it is, and the check is the drill's own.
    let refused = fleet.expect(&["drill", "trial"], 7);
    assert!(refused.contains("could not be loaded"), "{refused}");
    let by_hand = told(&fleet.expect(&["drill", "trial", "--by-hand", "-o", "json"], 7));
    assert_eq!(verdicts(&by_hand), ["failed", "failed", "passed"], "{by_hand:#}");
    assert!(found(&by_hand, "PRAGMA integrity_check").contains("missing from index by_what"), "{by_hand:#}");
    assert_gone(place.path());
}

/// Of two artifacts of one second nobody knows which is newer.
fn backup_in_another_second(fleet: &Fleet) {
    let now = || jiff::Timestamp::now().as_second();
    let before = now();
    wait_until("the next second", Duration::from_secs(10), || now() > before);
    fleet.expect(&["backup", "shop"], 0);
}

/// Changes the entries of a page of an index, so that they no longer fit its table, and nothing else.
fn damage_index(path: &Path) {
    /// The first byte of a page of an index's leaves (SQLite's file format, 1.6).
    const LEAF: u8 = 0x0a;
    const PAGE: usize = 4096;
    let mut pages = fs::read(path).unwrap();
    let entry = b"sale number";
    let is_leaf = |page: &[u8]| page[0] == LEAF && page.windows(entry.len()).any(|it| it == entry);
    let leaf = pages.chunks_mut(PAGE).find(|page| is_leaf(page)).unwrap();
    // Some may be of entries that moved to other pages.
    for at in 0..PAGE - entry.len() {
        if leaf[at..].starts_with(entry) {
            leaf[at + 1] = b'A';
        }
    }
    fs::write(path, pages).unwrap();
}
