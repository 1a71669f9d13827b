//! One database, or one table, of a server comes back to any second by the built program, and nothing else is touched.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use tempfile::TempDir;

use crate::{
    lab::{
        fleet::Fleet,
        mariadb::{self, MariaDb},
        postgres::{self, Postgres},
        schedules,
    },
    postgres_wal::ready,
};

/// A folder for private servers that their users can reach.
fn private() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn fleet_in(folder: &TempDir) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.configure(&format!("\n[drills]\nsandbox = \"{}\"\n", folder.path().display()));
    fleet
}

fn assert_gone(private: &Path) {
    let left: Vec<_> = fs::read_dir(private).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == ".gate"), "{left:?}");
}

#[test]
fn a_database_or_a_table_of_mariadb_comes_back_to_any_second_and_nothing_else_does() {
    let (server, place) = (MariaDb::start(), private());
    server.sql(&format!(
        "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, REPLICATION SLAVE ON *.* TO {}@'127.0.0.1';
         CREATE DATABASE shop; CREATE TABLE shop.sale (id INT PRIMARY KEY, what TEXT);
         CREATE TABLE shop.total (sold INT); INSERT INTO shop.total VALUES (1);
         CREATE FUNCTION shop.twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n;
         INSERT INTO shop.sale VALUES (1, 'in the full'); CREATE DATABASE other; CREATE TABLE other.t (a INT)",
        mariadb::USER
    ));
    let mut fleet = fleet_in(&place);
    let (port, password) = (server.port(), fleet.secret(mariadb::PASSWORD));
    let source = format!(
        "mysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password} }}",
        mariadb::USER
    );
    fleet.declare(
        "shop",
        &format!("policy = \"transactional\"\n{source}\n{}", schedules::with_log("transactional")),
    );
    fleet.expect(&["apply", "--yes"], 0);
    server.sql("INSERT INTO shop.sale VALUES (2, 'in the log'); UPDATE shop.total SET sold = 2");
    let at = server.next_second().to_string();
    server.sql("DELETE FROM shop.sale; UPDATE shop.total SET sold = 99; INSERT INTO other.t VALUES (7)");
    server.sql("DROP FUNCTION shop.twice; CREATE TABLE shop.later (a INT)");
    fleet.expect(&["backup", "shop", "--kind", "log", "--reason", "before the way back"], 0);

    let sold =
        |database: &str| server.sql(&format!("SELECT GROUP_CONCAT(what ORDER BY id) FROM {database}.sale"));
    let absent = fleet.expect(&["restore", "shop", "--at", &at, "--path", "shop/absent", "--in-place"], 4);
    assert!(absent.contains("had no table absent"), "{absent}");
    let nothing = fleet.expect(&["restore", "shop", "--at", &at, "--path", "shop/", "--in-place"], 1);
    assert!(nothing.contains("DATABASE/TABLE"), "{nothing}");
    let exists = ["restore", "shop", "--at", &at, "--path", "shop", "--to", "database:other"];
    server.sql(&format!("GRANT ALL ON *.* TO {}@'127.0.0.1'", mariadb::USER));
    assert!(fleet.expect(&exists, 4).contains("exists"));

    fleet.expect(&["restore", "shop", "--at", &at, "--path", "shop/sale", "--in-place"], 0);
    assert_eq!(sold("shop"), "in the full,in the log");
    let untouched = "SELECT (SELECT sold FROM shop.total), (SELECT COUNT(*) FROM other.t), \
                     (SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = 'shop')";
    assert_eq!(server.sql(untouched), "99\t1\t0", "only the table was replaced");

    fleet.expect(&["restore", "shop", "--at", &at, "--path", "shop", "--to", "database:copy"], 0);
    assert_eq!(server.sql("SELECT copy.twice(sold) FROM copy.total"), "4");
    assert_eq!(sold("copy"), "in the full,in the log");
    assert_eq!(server.sql("SHOW TABLES IN copy LIKE 'later'"), "");

    let folder = fleet.restored().join("parts");
    let to = format!("{}/", folder.display());
    fleet.expect(&["restore", "shop", "--at", &at, "--path", "shop/sale", "--path", "other", "--to", &to], 0);
    let text = fs::read_to_string(folder.join("shop.sql")).unwrap();
    assert!(text.contains("in the log") && !text.contains("CREATE TABLE `total`"), "{text}");
    assert!(fs::read_to_string(folder.join("other.sql")).unwrap().contains("CREATE TABLE `t`"));
    let again = fleet.expect(&["restore", "shop", "--at", &at, "--path", "other", "--to", &to], 4);
    assert!(again.contains("not empty"), "{again}");
    let two = ["restore", "shop", "--path", "shop", "--path", "other", "--to", "database:both"];
    assert!(fleet.expect(&two, 4).contains("several databases"));
    fleet.expect(&["restore", "shop", "--at", &at, "--path", "shop", "--in-place"], 0);
    assert_eq!(server.sql("SELECT shop.twice(sold) FROM shop.total"), "4");
    assert_gone(place.path());
}

#[test]
fn a_database_or_a_table_of_a_postgresql_cluster_comes_back_to_any_second_and_nothing_else_does() {
    let (server, place) = (Postgres::start(), private());
    ready(&server);
    server.sql("postgres", "CREATE ROLE seller");
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE SCHEMA stock; CREATE TABLE stock.article (id SERIAL PRIMARY KEY, what TEXT)");
    server.sql("shop", "CREATE TABLE total (sold INT); INSERT INTO total VALUES (1)");
    server.sql("shop", "ALTER TABLE stock.article OWNER TO seller; ALTER SCHEMA stock OWNER TO seller");
    server.sql("shop", "INSERT INTO stock.article (what) VALUES ('in the full')");
    let mut fleet = fleet_in(&place);
    let (port, password) = (server.port(), fleet.secret(postgres::PASSWORD));
    let source = format!(
        "postgres = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password}, method = \"physical\" }}",
        postgres::USER
    );
    fleet.declare(
        "shop",
        &format!("policy = \"transactional\"\n{source}\n{}", schedules::with_log("transactional")),
    );
    fleet.expect(&["apply", "--yes"], 0);
    server.sql("shop", "INSERT INTO stock.article (what) VALUES ('in the log'); UPDATE total SET sold = 2");
    let at = server.next_second().to_string();
    server.sql("shop", "DELETE FROM stock.article; UPDATE total SET sold = 99; CREATE TABLE later (a INT)");
    fleet.expect(&["backup", "shop", "--kind", "log", "--reason", "before the way back"], 0);
    server.sql("postgres", &format!("ALTER ROLE {} SUPERUSER", postgres::USER));

    let stock =
        |database: &str| server.sql(database, "SELECT string_agg(what, ',' ORDER BY id) FROM stock.article");
    let absent = fleet.expect(&["restore", "shop", "--at", &at, "--path", "shop/article", "--in-place"], 4);
    assert!(absent.contains("had no table article"), "{absent}");
    let nowhere = fleet.expect(&["restore", "shop", "--at", &at, "--path", "shap", "--in-place"], 4);
    assert!(nowhere.contains("no database shap"), "{nowhere}");
    let in_place = ["restore", "shop", "--at", &at, "--path", "shop/stock.article", "--in-place"];
    fleet.expect(&in_place, 0);
    assert_eq!(stock("shop"), "in the full,in the log");
    assert_eq!(server.sql("shop", "SELECT sold FROM total"), "99", "only the table was replaced");
    server.sql("shop", "INSERT INTO stock.article (what) VALUES ('anew')");
    let next = server.sql("shop", "SELECT max(id) FROM stock.article");
    assert!(next.parse::<u32>().unwrap() > 2, "its sequence came along: {next}");
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'article'";
    assert_eq!(server.sql("shop", owner), "seller");
    // What stands on the table is not torn down: all is as it was.
    server.sql("shop", "CREATE VIEW dear AS SELECT what FROM stock.article");
    let refused = fleet.expect(&in_place, 4);
    assert!(refused.contains("depend"), "{refused}");
    assert_eq!(stock("shop"), "in the full,in the log,anew");

    let to_copy = ["restore", "shop", "--at", &at, "--path", "shop/stock.article", "--to", "database:copy"];
    fleet.expect(&to_copy, 0);
    assert_eq!(stock("copy"), "in the full,in the log");
    assert!(fleet.expect(&to_copy, 4).contains("exists"));
    let whole = ["restore", "shop", "--at", &at, "--path", "shop", "--to", "database:whole"];
    fleet.expect(&whole, 0);
    assert_eq!(server.sql("whole", "SELECT sold, to_regclass('later') IS NULL FROM total"), "2|t");
    let folder = fleet.restored().join("parts");
    fleet.expect(
        &["restore", "shop", "--at", &at, "--path", "shop", "--to", &format!("{}/", folder.display())],
        0,
    );
    let listed = Command::new("pg_restore").arg("--list").arg(folder.join("shop.dump")).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("stock article"));
    assert_gone(place.path());
}

#[test]
fn a_part_for_which_there_is_no_room_or_no_server_is_refused_before_anything_is_read() {
    let (server, place) = (MariaDb::start(), private());
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.sale (id INT); INSERT INTO shop.sale VALUES (1)");
    let mut fleet = fleet_in(&place);
    let (port, password) = (server.port(), fleet.secret(mariadb::PASSWORD));
    let source = format!(
        "mysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password}, databases = [\"shop\"] }}",
        mariadb::USER
    );
    fleet.declare("shop", &source);
    fleet.expect(&["apply", "--yes"], 0);
    let folder = fleet.restored().join("part");
    let to = format!("{}/", folder.display());
    let restore = ["restore", "shop", "--path", "shop/sale", "--to", &to];
    let small = crate::lab::tmpfs::Tmpfs::mount(64 << 20);
    fleet.configure(&format!("\n[drills]\nsandbox = \"{}/s\"\n", small.path().display()));
    let full = fleet.expect(&restore, 4);
    assert!(full.contains("it needs") && full.contains("make room") && !folder.exists(), "{full}");
    fleet.configure(&format!("\n[drills]\nsandbox = \"{}\"\n", place.path().display()));
    fleet.expect(&restore, 0);
    assert!(fs::read_to_string(folder.join("shop.sql")).unwrap().contains("INSERT INTO `sale`"));
    assert_gone(place.path());
}
