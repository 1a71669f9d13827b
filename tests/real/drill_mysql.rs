//! Drills of what MySQL's own programs dumped, into a server of MySQL.

use crate::{
    drill::{assert_gone, counted, drill, fleet_in, sandboxes, told, verdicts},
    lab::{
        mariadb,
        mysql::{Mysql, search},
        schedules,
    },
};

#[test]
fn databases_of_mysql_are_drilled_in_a_server_of_mysql_to_the_second_that_is_asked_for() {
    let server = Mysql::start();
    server.sql(
        "CREATE DATABASE shop; USE shop; \
         CREATE TABLE shop.sale (id INT PRIMARY KEY, what VARCHAR(64) COLLATE utf8mb4_0900_ai_ci, seen INT INVISIBLE); \
         SET SESSION cte_max_recursion_depth = 5000; \
         INSERT INTO shop.sale (id, what) WITH RECURSIVE seq(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 5000) \
             SELECT n, SHA2(n, 256) FROM seq; \
         GRANT REPLICATION SLAVE, SELECT, SHOW VIEW, TRIGGER, EVENT ON *.* TO backup@'127.0.0.1'",
    );
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let (port, user) = (server.port(), mariadb::USER);
    let password = fleet.secret(mariadb::PASSWORD);
    let source = format!(
        "mysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{user}\", password = {password} }}"
    );
    let checks =
        "{ counts = \"captured\" }, { sql = \"select count(*) from shop.sale\", min = 5001, max = 5001 }";
    let policy = schedules::with_log("often");
    fleet.declare("shop", &format!("policy = \"often\"\n{source}\n{policy}{}", drill(checks)));
    let path = [("PATH", search().into_string().unwrap())];
    let run = |arguments: &[&str]| fleet.expect_with(&path, arguments, 0);
    run(&["backup", "shop", "--reason", "x"]);
    server.sql("INSERT INTO shop.sale VALUES (5001, 'after the dump')");
    let last =
        server.sql("SELECT CONCAT(@@server_uuid, ':', SUBSTRING_INDEX(@@GLOBAL.gtid_executed, '-', -1))");
    run(&["backup", "shop", "--kind", "log", "--reason", "x"]);
    let json = told(&run(&["drill", "trial", "-o", "json"]));
    assert_eq!(json["drills"][0]["outcome"], "passed", "{json:#}");
    assert_eq!(verdicts(&json), ["passed"; 3], "{json:#}");
    assert_eq!(counted(&json), "5000 rows in 1 tables, the same by their checksums");
    // By the very lines that runbooks print.
    let by_hand = told(&run(&["drill", "trial", "--by-hand", "-o", "json"]));
    assert_eq!(verdicts(&by_hand), ["passed"; 3], "{by_hand:#}");
    assert_gone(place.path());
    assert!(run(&["probe"]).contains("MySQL 9."));
    let planned =
        run(&["restore", "shop", "--at", &format!("gtid:{last}"), "--to", "restored/", "--dry-run"]);
    assert!(planned.contains(&format!("transaction {last}")), "{planned}");
    let beyond = last.rsplit_once(':').map(|(uuid, _)| format!("gtid:{uuid}:900000")).unwrap();
    let refused = fleet.expect_with(&path, &["restore", "shop", "--at", &beyond, "--to", "restored/"], 1);
    assert!(refused.contains("900000"), "{refused}");
}
