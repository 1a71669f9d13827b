//! A commit declares a MariaDB server with its log, and the built program sees what became of the log on the server.

use crate::lab::{
    fleet::Fleet,
    mariadb::{MariaDb, PASSWORD, USER},
    schedules,
};

#[test]
fn a_log_that_was_purged_before_it_was_read_is_a_gap_and_a_full_is_made_at_once() {
    let server = MariaDb::start();
    server.sql(&format!(
        "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, REPLICATION SLAVE ON *.* TO {USER}@'127.0.0.1';
         CREATE DATABASE shop; CREATE TABLE shop.sale (what TEXT); INSERT INTO shop.sale VALUES ('in the full')"
    ));
    let mut fleet = Fleet::new();
    let (port, password) = (server.port(), fleet.secret(PASSWORD));
    fleet.declare(
        "shop",
        &format!(
            "policy = \"transactional\"\n\
             mysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{USER}\", password = {password} }}\n{}",
            schedules::with_log("transactional")
        ),
    );
    let log = |fleet: &Fleet| fleet.expect(&["backup", "shop", "--kind", "log", "--reason", "x"], 0);
    fleet.expect(&["apply", "--yes"], 0);
    log(&fleet);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["plan"], 0);

    server.sql("INSERT INTO shop.sale VALUES ('purged')");
    server.purge_all_binary_logs();
    server.sql("INSERT INTO shop.sale VALUES ('kept')");
    log(&fleet);
    let planned = fleet.expect(&["plan"], 10);
    assert!(planned.contains("gap") && planned.contains("a full begins anew"), "{planned}");
    fleet.expect(&["apply", "--yes"], 0);
    log(&fleet);
    fleet.expect(&["apply", "--yes"], 0);
    let planned = fleet.expect(&["plan"], 0);
    assert!(!planned.contains("gap"), "one full is enough: {planned}");
}
