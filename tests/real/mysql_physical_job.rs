//! A commit declares the files of a MariaDB server, and the built program captures them, their increments and the log, and
//! brings them back to a second.

use std::fs;

use crate::{
    drill::{assert_gone, fleet_in, sandboxes},
    lab::{
        fleet::Fleet,
        mariadb::{MariaDb, PASSWORD, USER},
        schedules,
    },
};

fn shop() -> MariaDb {
    let server = MariaDb::start();
    server.let_files_be_copied();
    server.sql(
        "GRANT REPLICATION SLAVE, BINLOG ADMIN ON *.* TO backup@'127.0.0.1'; CREATE DATABASE shop;
         CREATE TABLE shop.sale (what TEXT); INSERT INTO shop.sale VALUES ('in the full')",
    );
    server
}

fn declared(fleet: &mut Fleet, server: &MariaDb, more: &str) -> String {
    fleet.may_read(&server.data_dir());
    let (port, password, data_dir) = (server.port(), fleet.secret(PASSWORD), server.data_dir());
    format!(
        "policy = \"transactional\"\nmysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{USER}\", password = {password}, \
         method = \"physical\", data_dir = \"{}\", {more} }}\n{}",
        data_dir.display(),
        schedules::with_increments_and_log("transactional")
    )
}

#[test]
fn files_increments_and_the_log_come_back_together_to_any_second() {
    let server = shop();
    let mut fleet = Fleet::new();
    let source = declared(&mut fleet, &server, "");
    fleet.declare("server", &source);
    fleet.expect(&["apply", "--yes"], 0);
    for what in ["first", "second"] {
        server.sql(&format!("INSERT INTO shop.sale VALUES ('in the {what} increment')"));
        fleet.expect(&["backup", "server", "--kind", "incremental", "--reason", what], 0);
    }
    server.sql("INSERT INTO shop.sale VALUES ('in the log'); CREATE USER app@'%'");
    let disaster = server.next_second();
    server.sql("DROP TABLE shop.sale; DROP USER app@'%'");
    fleet.expect(&["backup", "server", "--kind", "log", "--reason", "before the way back"], 0);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "server", "--plaintext"], 0);
    let tree = fleet.expect(&["list", "server", "--tree"], 0);
    let depth = |kind: &str| {
        let lines = tree.lines().filter(|line| line.contains(kind));
        lines.filter_map(|line| line.find(|c: char| c.is_ascii_digit())).max().unwrap_or(0)
    };
    assert!(depth("full") < depth("incremental") && depth("incremental") < depth("log"), "{tree}");

    let data = fleet.restored().join("data");
    let (at, to) = (disaster.to_string(), format!("{}/", data.display()));
    let running = fleet.expect(&["restore", "server", "--at", &at, "--in-place"], 4);
    assert!(running.contains("stop the server"), "{running}");
    let planned =
        fleet.expect(&["restore", "server", "--at", &at, "--from", "second", "--to", &to, "--dry-run"], 0);
    assert!(planned.contains("then its log"), "{planned}");
    fleet.expect(&["restore", "server", "--at", &at, "--from", "second", "--to", &to], 0);
    let folder = tempfile::tempdir().unwrap();
    fs::rename(&data, folder.path().join("data")).unwrap();
    let copy = MariaDb::start_on(folder);
    assert_eq!(
        copy.sql("SELECT GROUP_CONCAT(what ORDER BY what) FROM shop.sale"),
        "in the first increment,in the full,in the log,in the second increment"
    );
    assert_eq!(copy.sql("SELECT COUNT(*) FROM mysql.user WHERE user = 'app'"), "1");
}

#[test]
fn one_table_of_files_comes_back_to_any_second_over_the_running_server() {
    let (server, place) = (shop(), sandboxes());
    server.sql("CREATE TABLE shop.total (sold INT); INSERT INTO shop.total VALUES (1)");
    let mut fleet = fleet_in(&place);
    let source = declared(&mut fleet, &server, "");
    fleet.declare("server", &source);
    fleet.expect(&["apply", "--yes"], 0);
    server.sql("INSERT INTO shop.sale VALUES ('in the increment')");
    fleet.expect(&["backup", "server", "--kind", "incremental", "--reason", "x"], 0);
    server.sql("INSERT INTO shop.sale VALUES ('in the log')");
    let at = server.next_second().to_string();
    server.sql("DELETE FROM shop.sale; UPDATE shop.total SET sold = 99");
    fleet.expect(&["backup", "server", "--kind", "log", "--reason", "before the way back"], 0);
    server.sql(&format!("GRANT ALL ON *.* TO {USER}@'127.0.0.1'"));

    let all = "in the full,in the increment,in the log";
    let sold =
        |database: &str| server.sql(&format!("SELECT GROUP_CONCAT(what ORDER BY what) FROM {database}.sale"));
    fleet.expect(&["restore", "server", "--at", &at, "--path", "shop/sale", "--in-place"], 0);
    assert_eq!((sold("shop").as_str(), server.sql("SELECT sold FROM shop.total").as_str()), (all, "99"));
    fleet.expect(&["restore", "server", "--at", &at, "--path", "shop", "--to", "database:copy"], 0);
    assert_eq!((sold("copy").as_str(), server.sql("SELECT sold FROM copy.total").as_str()), (all, "1"));
    let absent = fleet.expect(&["restore", "server", "--path", "shop/absent", "--in-place"], 4);
    assert!(absent.contains("had no table absent"), "{absent}");
    assert_gone(place.path());
}

#[test]
fn an_increment_of_a_replaced_data_folder_is_made_as_a_full_and_says_so() {
    let server = shop();
    let mut fleet = Fleet::new();
    let source = declared(&mut fleet, &server, "");
    fleet.declare("server", &source);
    fleet.expect(&["apply", "--yes"], 0);
    server.sql("RESET MASTER");
    let told = fleet.expect(&["backup", "server", "--kind", "incremental", "--reason", "x"], 0);
    assert!(told.contains("made as a full"), "{told}");
    let tree = fleet.expect(&["list", "server"], 0);
    assert!(!tree.contains("incremental"), "{tree}");
}

#[test]
fn a_data_folder_that_the_host_does_not_allow_is_refused() {
    let server = shop();
    let mut fleet = Fleet::new();
    let source = declared(&mut fleet, &server, "");
    let source = source.replace(&server.data_dir().display().to_string(), "/var/lib/another");
    fleet.declare("server", &source);
    fleet.expect(&["apply", "--yes"], 4);
    let refused = fleet.expect(&["backup", "server", "--reason", "x"], 1);
    assert!(refused.contains("/var/lib/another") && refused.contains("read"), "{refused}");
}

#[test]
fn binary_logs_are_purged_once_every_store_has_them_and_no_sooner() {
    let server = shop();
    let mut fleet = Fleet::new();
    let source = declared(&mut fleet, &server, "purge_binary_logs = true");
    fleet.declare("server", &source);
    let first = || server.sql("SHOW BINARY LOGS").lines().next().unwrap().to_owned();
    let log = |fleet: &Fleet| fleet.expect(&["backup", "server", "--kind", "log", "--reason", "x"], 0);
    fleet.expect(&["apply", "--yes"], 0);
    let until = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2)).to_string();
    fleet.expect(&["suspend", "--store", "second", "--until", &until, "--reason", "it is moved"], 0);
    // It still lets go of what both stores had before.
    log(&fleet);
    let at_first = first();
    for _ in 0..2 {
        server.checkpoint();
        let told = log(&fleet);
        assert!(!told.contains("purged"), "the second store has none of it: {told}");
    }
    assert_eq!(first(), at_first, "what one store lacks stays");
    fleet.expect(&["resume", "--store", "second"], 0);
    fleet.expect(&["apply", "--yes"], 0);
    server.checkpoint();
    let told = log(&fleet);
    assert!(told.contains("purged"), "{told}");
    assert_ne!(first(), at_first);
    server.sql("INSERT INTO shop.sale VALUES ('after the purge')");
    log(&fleet);
    let data = fleet.restored().join("data");
    fleet.expect(&["restore", "server", "--to", &format!("{}/", data.display())], 0);
    let folder = tempfile::tempdir().unwrap();
    fs::rename(&data, folder.path().join("data")).unwrap();
    let copy = MariaDb::start_on(folder);
    assert_eq!(copy.sql("SELECT COUNT(*) FROM shop.sale"), "2", "nothing is missing of what was purged");
}
