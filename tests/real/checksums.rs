//! Checksums of rows: equal for what came back whole, whatever the server is set to, and another one for any other row.

use std::collections::BTreeMap;

use backstay::{
    artifact::manifest::{Checksums, Counting, Counts},
    sources::{Place, Source},
};

use super::lab::{
    self,
    mariadb::{self, MariaDb},
    mysql::Mysql,
    postgres::{self, Postgres},
    sums_now, wait_for,
};
use super::source_conformance::{captured, restored};

/// Which tables' checksums one statement changes, of as many rows.
fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    assert!(before.keys().eq(after.keys()), "{before:?} {after:?}");
    before.iter().filter(|(table, sum)| after[*table] != **sum).map(|(table, _)| table.clone()).collect()
}

const ZOO: &str = r#"
    CREATE SCHEMA odd;
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE TYPE pair AS (a INT, b TEXT);
    CREATE DOMAIN short AS VARCHAR(5);
    CREATE FUNCTION taste(INT) RETURNS INT IMMUTABLE LANGUAGE sql AS 'SELECT 2 * $1';
    CREATE FUNCTION trap(pair) RETURNS TEXT LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung'; END $$;
    CREATE CAST (pair AS TEXT) WITH FUNCTION trap(pair);
    CREATE TABLE zoo (id INT, yes BOOL, big BIGINT, n NUMERIC(12, 4), f FLOAT4, d FLOAT8, c CHAR(5), v VARCHAR, t TEXT, raw BYTEA,
        day DATE, hour TIME, at TIMESTAMP, atz TIMESTAMPTZ, span INTERVAL, price MONEY, key UUID, feel mood, two pair, word short,
        many TEXT[], doc JSON, docb JSONB, page XML, spot POINT, net CIDR, bits BIT(3), range INT4RANGE, search TSVECTOR, class REGCLASS,
        twice INT GENERATED ALWAYS AS (taste(id)) STORED);
    INSERT INTO zoo VALUES (1, true, 1 << 40, 1.50, 0.1, 1.0 / 3, 'a', 'b', 'tõõ', '\x00ff', '2026-01-31', '12:00', '2026-01-31 12:00',
        '2026-01-31 12:00+02', '1 year 2 days', 12.5, '00000000-0000-0000-0000-000000000001', 'sad', (1, 'x,"y'), 'abc',
        '{"a,b",NULL}', '{"b": 1,  "a": 2}', '{"b": 1, "a": 2}', E'<?xml version="1.0" encoding="UTF-8"?>\n<a/>', '(1,2)', '10.0.0.0/8', B'101', '[1,5)', 'a cat', 'pg_class');
    INSERT INTO zoo (id, t, v) VALUES (2, 'x', NULL), (3, NULL, 'x'), (4, '', NULL), (5, 'same', 'same'), (5, 'same', 'same');
    CREATE TABLE parent (a INT); CREATE TABLE child (own TEXT) INHERITS (parent);
    ALTER TABLE parent ADD COLUMN later TEXT DEFAULT 'z'; ALTER TABLE child DROP COLUMN own; ALTER TABLE child ADD COLUMN other TEXT;
    INSERT INTO child VALUES (1, 'later', 'other'), (2, NULL, 'later');
    CREATE OR REPLACE FUNCTION taste(INT) RETURNS INT IMMUTABLE LANGUAGE sql AS 'SELECT 3 * $1';
    CREATE TABLE odd.none (); INSERT INTO odd.none DEFAULT VALUES;
    CREATE TABLE odd.empty (a INT);
"#;

#[tokio::test]
async fn postgresql_sums_what_came_back_alike_and_any_other_row_otherwise() {
    let server = Postgres::start();
    server.sql("postgres", &format!("CREATE DATABASE shop OWNER {}", postgres::USER));
    server.sql("shop", &format!("{ZOO}; GRANT pg_read_all_data TO {}", postgres::USER));
    let (sink, captured) = captured(&server.source(&["shop"])).await;
    let sums = lab::sums(captured.details.checksums.as_ref());
    let tables = ["odd.empty", "odd.none", "public.child", "public.parent", "public.zoo"];
    assert_eq!(sums.keys().collect::<Vec<_>>(), tables);
    assert_eq!(sums["odd.empty"], "0");

    // Whoever counts afterwards does so with a taste of his own.
    let place = Place::Database("copy".to_owned());
    restored(&server.root(&["shop"]), &sink.stream(), &place).await.unwrap();
    for taste in [
        "SET DateStyle = 'German'",
        "SET TimeZone = 'Asia/Tokyo'",
        "SET IntervalStyle = 'iso_8601'",
        "SET extra_float_digits = -5",
        "SET bytea_output = 'escape'",
    ] {
        server.sql("postgres", &format!("ALTER DATABASE copy {taste}"));
    }
    let copy = server.root(&["copy"]);
    assert_eq!(sums_now(&copy).await, sums);

    let mut before = sums;
    for statement in [
        "UPDATE zoo SET n = n + 0.0001 WHERE id = 1",
        "UPDATE zoo SET d = d + 1e-16 WHERE id = 1",
        "UPDATE zoo SET feel = 'glad' WHERE id = 1",
        "UPDATE zoo SET docb = '{\"a\": 3}' WHERE id = 1",
        "UPDATE zoo SET t = v, v = t WHERE id = 2",
        "UPDATE zoo SET t = NULL WHERE id = 4",
        "UPDATE zoo SET t = CASE id WHEN 2 THEN NULL ELSE 'x' END WHERE id IN (2, 3)",
        "UPDATE zoo SET t = 'other' WHERE id = 5",
        "UPDATE zoo SET big = -1 WHERE id = 1",
        "UPDATE zoo SET big = 4294967295 WHERE id = 1",
        "UPDATE zoo SET raw = raw || '\\x00' WHERE id = 1",
        "UPDATE zoo SET atz = atz + '1 microsecond' WHERE id = 1",
    ] {
        server.sql("copy", statement);
        let after = sums_now(&copy).await;
        assert_eq!(changed(&before, &after), ["public.zoo"], "{statement}");
        before = after;
    }
    let rows = copy.count(Counting::Rows).await.unwrap();
    assert!(matches!(rows.checksums, Some(Checksums::NotCaptured(_))), "{rows:?}");
    assert!(matches!(rows.counts, Counts::Captured(_)), "{rows:?}");
}

#[tokio::test]
async fn a_database_of_another_encoding_has_the_same_sums_in_utf8() {
    let server = Postgres::start();
    server.sql("postgres", "CREATE DATABASE old ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'");
    server.sql("old", "CREATE TABLE word AS SELECT U&'t\\00F5\\00F5' AS t");
    server.sql("old", &format!("GRANT pg_read_all_data TO {}", postgres::USER));
    let (_, captured) = captured(&server.source(&["old"])).await;
    server.sql("postgres", "CREATE DATABASE new ENCODING 'UTF8' TEMPLATE template0 LOCALE 'C'");
    server.sql("new", "CREATE TABLE word AS SELECT U&'t\\00F5\\00F5' AS t");
    let sums = lab::sums(captured.details.checksums.as_ref());
    assert_eq!(sums_now(&server.root(&["new"])).await, sums);
    server.sql("new", "UPDATE word SET t = 'too'");
    assert_ne!(sums_now(&server.root(&["new"])).await, sums);
}

/// What both engines have. A dump of a `FLOAT` keeps six digits of it.
const BOTH: &str = "
    CREATE TABLE zoo (id INT, zero DOUBLE, j VARCHAR(9) CHARACTER SET cp932, small TINYINT UNSIGNED, big BIGINT, n DECIMAL(12, 4), f FLOAT, d DOUBLE, c CHAR(5), t VARCHAR(50) CHARACTER SET latin1,
        v VARCHAR(50) CHARACTER SET utf8mb4, w VARCHAR(50) CHARACTER SET cp1251, raw VARBINARY(20), pic LONGBLOB, story MEDIUMTEXT,
        day DATE, hour TIME(3), at DATETIME(6), stamp TIMESTAMP(6) NULL, y YEAR, bits BIT(9), feel ENUM('glad','sad'), some SET('a','b'),
        doc JSON, spot POINT, twice INT AS (id * 2) STORED, thrice INT AS (id * 3) VIRTUAL);
    INSERT INTO zoo (id, zero, j, small, big, n, f, d, c, t, v, w, raw, pic, story, day, hour, at, stamp, y, bits, feel, some, doc, spot) VALUES
        (1, -0e0, CONVERT(X'ED40' USING cp932), 255, -5, 1.5, 0.123456789, 1.0 / 3, 'a', 'tõõ', '😀 # 1', 'да', X'00FF23', REPEAT(X'0023', 100000), REPEAT('tõõ#', 50000),
         '2026-01-31', '12:00:00.5', '2026-01-31 12:00:00.000001', '2026-01-31 12:00:00', 2026, b'100100011', 'sad', 'a,b',
         '{\"b\": [1, 2.50, null], \"a\": \"x\"}', ST_GeomFromText('POINT(1 2)'));
    INSERT INTO zoo (id, t, v) VALUES (2, 'x', NULL), (3, NULL, 'x'), (4, '', NULL), (5, 'same', 'same'), (5, 'same', 'same'), (6, 'a#', 'b');
    UPDATE zoo SET n = id WHERE id IN (2, 3);
    CREATE TABLE `odd ``name` (`a``b` INT); INSERT INTO `odd ``name` VALUES (1);
    CREATE TABLE bare (a INT);";

/// Statements of which each changes the rows of `zoo`, and not their number.
const CHANGES: [&str; 13] = [
    "UPDATE zoo SET n = n + 0.0001 WHERE id = 1",
    "UPDATE zoo SET d = d + 1e-15 WHERE id = 1",
    "UPDATE zoo SET feel = 'glad' WHERE id = 1",
    "UPDATE zoo SET t = 'x', v = 'x' WHERE id = 2",
    "UPDATE zoo SET t = v, v = NULL WHERE id = 3",
    "UPDATE zoo SET t = NULL WHERE id = 4",
    "UPDATE zoo SET n = CASE id WHEN 2 THEN 3 ELSE 2 END WHERE id IN (2, 3)",
    "UPDATE zoo SET t = 'a', v = '#b' WHERE id = 6",
    "UPDATE zoo SET t = 'other' WHERE id = 5",
    "UPDATE zoo SET pic = CONCAT(pic, X'00') WHERE id = 1",
    "UPDATE zoo SET story = REPLACE(story, '#', '+') WHERE id = 1",
    "UPDATE zoo SET stamp = stamp + INTERVAL 1 MICROSECOND WHERE id = 1",
    "UPDATE zoo SET bits = b'000100011' WHERE id = 1",
];

async fn assert_told_apart(sql: impl Fn(&str) -> String, copy: &dyn Source, sums: BTreeMap<String, String>) {
    sql(
        "SET GLOBAL time_zone = '+09:00'; SET GLOBAL sql_mode = 'PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES,ANSI_QUOTES'",
    );
    assert_eq!(sums_now(copy).await, sums);
    sql("SET GLOBAL sql_mode = ''");
    let mut before = sums;
    for statement in CHANGES {
        sql(&format!("USE copy; {statement}"));
        let after = sums_now(copy).await;
        assert_eq!(changed(&before, &after), ["zoo"], "{statement}");
        before = after;
    }
    let rows = copy.count(Counting::Rows).await.unwrap();
    assert!(matches!(rows.checksums, Some(Checksums::NotCaptured(_))), "{rows:?}");
}

#[tokio::test]
async fn mariadb_sums_what_came_back_alike_and_any_other_row_otherwise() {
    let server = MariaDb::start();
    server.sql(&format!(
        "CREATE DATABASE shop CHARACTER SET utf8mb4; USE shop; {BOTH}
         CREATE TABLE versioned (id INT, began TIMESTAMP(6) GENERATED ALWAYS AS ROW START, ended TIMESTAMP(6) GENERATED ALWAYS AS ROW END,
             PERIOD FOR SYSTEM_TIME (began, ended)) WITH SYSTEM VERSIONING;
         INSERT INTO versioned (id) VALUES (1), (2); DELETE FROM versioned WHERE id = 1;
         CREATE TABLE own (u UUID, net INET6, seen INT INVISIBLE); INSERT INTO own (u, net, seen) VALUES (UUID(), '::1', 1);
         GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON shop.* TO '{}'@'127.0.0.1'",
        mariadb::USER
    ));
    let (sink, captured) = captured(&server.source(&["shop"])).await;
    let sums = lab::sums(captured.details.checksums.as_ref());
    assert_eq!(sums.keys().collect::<Vec<_>>(), ["bare", "odd `name", "own", "versioned", "zoo"]);
    assert_eq!(sums["bare"], "0");
    let root = server.root(&["shop"]);
    restored(&root, &sink.stream(), &Place::Database("copy".to_owned())).await.unwrap();
    assert_told_apart(|sql| server.sql(sql), &server.root(&["copy"]), sums).await;
}

#[tokio::test]
async fn mysql_sums_what_came_back_alike_and_any_other_row_otherwise() {
    let server = Mysql::start();
    server.sql(&format!(
        "CREATE DATABASE shop CHARACTER SET utf8mb4; USE shop; {BOTH} \
         CREATE TABLE own (id INT PRIMARY KEY, v VECTOR(2), seen INT INVISIBLE); \
         INSERT INTO own (id, v, seen) VALUES (1, STRING_TO_VECTOR('[1.5, -2]'), 1); \
         CREATE TABLE audit (doc JSON); \
         INSERT INTO audit VALUES (JSON_OBJECT('price', CAST(2.50 AS DECIMAL(10, 2)), 'at', NOW(6), 'raw', X'00ff')), \
             (JSON_SET('{{}}', '$.sum', 0.1e0 + 0.2e0, '$.third', 1e0 / 3, '$.big', 1e0 * 123456789012345678)); \
         SET SESSION cte_max_recursion_depth = 3000; \
         INSERT INTO audit WITH RECURSIVE seq(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 3000) \
             SELECT JSON_OBJECT('n', RAND(n) * POW(10, n % 40 - 20)) FROM seq"
    ));
    let (sink, captured) = captured(&server.source(&["shop"])).await;
    let sums = lab::sums(captured.details.checksums.as_ref());
    assert_eq!(sums.keys().collect::<Vec<_>>(), ["audit", "bare", "odd `name", "own", "zoo"]);
    let root = server.root(&["shop"]);
    restored(&root, &sink.stream(), &Place::Database("copy".to_owned())).await.unwrap();
    assert_told_apart(|sql| server.sql(sql), &server.root(&["copy"]), sums).await;
}

/// What a server of MySQL's kind reckons for hours, whether somebody waits for it or not.
const RECKONING: &str = "SELECT BENCHMARK(100000000000, SHA2('a', 256))";

#[tokio::test]
async fn what_is_given_up_is_ended_on_the_server_too() {
    async fn given_up(source: &dyn Source, question: &str, asked: impl Fn() -> String) {
        let is_asked = async {
            wait_for("it is asked", || asked() == "1").await;
        };
        tokio::select! {
            answer = source.ask(Some("shop"), question) => panic!("{answer:?}"),
            () = is_asked => {}
        }
        wait_for("it is ended", || asked() == "0").await;
    }
    let mariadb = MariaDb::start();
    mariadb.sql("CREATE DATABASE shop");
    given_up(&mariadb.source(&["shop"]), RECKONING, || {
        mariadb.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE user <> 'root' AND info LIKE '%BENCHMARK(%'")
    })
    .await;
    let mysql = Mysql::start();
    mysql.sql("CREATE DATABASE shop");
    given_up(&mysql.source(&["shop"]), RECKONING, || {
        mysql.sql("SELECT COUNT(*) FROM performance_schema.processlist WHERE user <> 'root' AND info LIKE '%BENCHMARK(%'")
    })
    .await;
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE shop");
    given_up(&postgres.source(&["shop"]), "SELECT pg_sleep(1000)", || {
        postgres.sql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'",
        )
    })
    .await;
}
