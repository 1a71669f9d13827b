//! MySQL itself, by its own programs: dumps and their way back.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use backstay::{
    artifact::{
        Kind,
        manifest::{Counts, Moment},
    },
    diagnostic::Severity,
    process,
    sources::{Captured, Lack, Place, Source, mysql::MysqlSource},
    stores::Class,
};

use super::lab::{
    self,
    mariadb::{MariaDb, PASSWORD},
    mysql::{Mysql, programs},
    sums_now,
};
use super::source_conformance::{captured, conforms, restored};

/// A shop with one of everything that a dump must carry.
fn shop(server: &Mysql) {
    server.sql(
        "CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_estonian_ci; USE shop; \
         SET SESSION cte_max_recursion_depth = 5000; \
         CREATE TABLE article (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(100) NOT NULL, photo LONGBLOB, \
                               price DECIMAL(10,2), changed TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6), \
                               dear BOOL AS (price > 600) STORED, seen INT INVISIBLE DEFAULT 0); \
         CREATE TABLE sale (id BIGINT PRIMARY KEY AUTO_INCREMENT, article INT NOT NULL, amount INT NOT NULL, \
                            FOREIGN KEY (article) REFERENCES article (id)); \
         CREATE TABLE `odd ``name` (a TEXT, b BIT(3), c JSON); \
         CREATE TABLE total (sold BIGINT NOT NULL); \
         INSERT INTO total VALUES (0); \
         INSERT INTO article (name, photo, price, seen) \
             WITH RECURSIVE seq(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 2000) \
             SELECT CONCAT('tõõ 😀 \\\\ ', n), REPEAT(RANDOM_BYTES(1000), 2), n / 3, n FROM seq; \
         INSERT INTO `odd ``name` VALUES ('-- Dump completed', b'101', '{\"ä\": [1, null]}'), (NULL, NULL, NULL); \
         CREATE VIEW dear AS SELECT id, name FROM article WHERE price > 600; \
         CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n; \
         CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DO DELETE FROM sale WHERE amount = 0; \
         CREATE PROCEDURE sell(IN what INT) INSERT INTO sale (article, amount) VALUES (what, 1); \
         CREATE TRIGGER sold AFTER INSERT ON sale FOR EACH ROW UPDATE total SET sold = sold + NEW.amount;",
    );
}

const TABLES: [&str; 4] = ["article", "sale", "total", "odd ``name"];

fn checksums(server: &Mysql, database: &str) -> Vec<String> {
    let sum = |table: &&str| server.sql(&format!("CHECKSUM TABLE `{database}`.`{table}`"));
    TABLES.iter().map(sum).map(|row| row.rsplit('\t').next().unwrap().to_owned()).collect()
}

fn counts(captured: &Captured) -> &std::collections::BTreeMap<String, u64> {
    match &captured.details.counts {
        Counts::Captured(counts) => counts,
        Counts::NotCaptured(why) => panic!("not captured: {why}"),
    }
}

/// Stops the seller at the end of a scope, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_dump_of_mysql_is_one_moment_while_a_seller_sells_and_its_counts_are_of_that_moment() {
    let server = Mysql::start();
    shop(&server);
    let (stop, sold) = (AtomicBool::new(false), AtomicU64::new(0));
    let sell = || {
        while !stop.load(Ordering::Relaxed) {
            server.sql(&"CALL shop.sell(1 + FLOOR(RAND() * 2000));".repeat(20));
            sold.fetch_add(20, Ordering::Relaxed);
        }
    };
    let captures = thread::scope(|threads| {
        threads.spawn(sell);
        let _stop = Stop(&stop);
        let capture = |_| {
            let before = sold.load(Ordering::Relaxed);
            while sold.load(Ordering::Relaxed) == before {
                thread::yield_now();
            }
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(captured(&server.source(&["shop"])))
        };
        (0..3).map(capture).collect::<Vec<_>>()
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let uuid = server.sql("SELECT @@server_uuid");
    for (number, (sink, captured)) in captures.iter().enumerate() {
        let copy = format!("copy{number}");
        let place = Place::Database(copy.clone());
        runtime.block_on(restored(&server.root(&["shop"]), &sink.stream(), &place)).unwrap();
        assert_eq!(counts(captured).len(), TABLES.len());
        let sums = runtime.block_on(sums_now(&server.root(&[&copy])));
        assert_eq!(sums, lab::sums(captured.details.checksums.as_ref()), "of the dump's own moment");
        for (table, count) in counts(captured) {
            let table = table.strip_prefix("shop.").unwrap().replace('`', "``");
            let rows = server.sql(&format!("SELECT COUNT(*) FROM `{copy}`.`{table}`"));
            assert_eq!(rows, count.to_string(), "{table}");
        }
        let sold = format!("SELECT (SELECT sold FROM {copy}.total) - (SELECT COUNT(*) FROM {copy}.sale)");
        assert_eq!(server.sql(&sold), "0", "both sides of a transaction, or neither");
        let Moment::At { position: Some(position), .. } = &captured.moment else { panic!("{captured:?}") };
        assert!(
            position.starts_with("bin.00000") && position.contains(&format!("gtid {uuid}:1-")),
            "{position}"
        );
    }
}

#[tokio::test]
async fn everything_of_mysql_comes_back_beside_the_original_and_over_it() {
    let server = Mysql::start();
    shop(&server);
    server.sql(&"CALL shop.sell(7);".repeat(5));
    let (sink, captured) = captured(&server.source(&["shop"])).await;
    let stream = sink.stream();
    let before = checksums(&server, "shop");
    let root = server.root(&["shop"]);
    let told = restored(&root, &stream, &Place::Database("copy".to_owned())).await.unwrap();
    assert_eq!(told, "database copy, its 1 events switched off");
    assert_eq!(checksums(&server, "copy"), before);
    assert_eq!(counts(&captured)["shop.odd `name"], 2);
    assert!(captured.details.versions["server"].starts_with("9."), "{captured:?}");
    server.sql("CALL copy.sell(1)");
    assert_eq!(server.sql("SELECT copy.twice(sold) FROM copy.total"), "12");
    assert_eq!(
        server.sql("SELECT COUNT(*), SUM(seen) FROM copy.article"),
        "2000\t2001000",
        "what is invisible"
    );
    let collation =
        "SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = 'copy'";
    assert_eq!(server.sql(collation), "utf8mb4_estonian_ci");
    server.sql("USE shop; SET foreign_key_checks = 0; DROP TABLE article; DELETE FROM sale; UPDATE total SET sold = 99");
    restored(&root, &stream, &Place::Original).await.unwrap();
    assert_eq!(checksums(&server, "shop"), before);
    server.sql("DROP DATABASE shop");
    restored(&root, &stream, &Place::Original).await.unwrap();
    assert_eq!(checksums(&server, "shop"), before);
}

#[tokio::test]
async fn mysql_itself_conforms() {
    let server = Mysql::start();
    shop(&server);
    let scratch = tempfile::tempdir().unwrap();
    for source in [server.source(&["shop"]), server.root(&[])] {
        let scratch = tempfile::tempdir_in(&scratch).unwrap();
        conforms(&source, scratch.path()).await;
    }
    assert!(server.source(&["shop"]).probe().await.unwrap().version.starts_with("MySQL 9."));
}

#[tokio::test]
async fn a_server_is_asked_by_the_programs_of_its_own_engine_or_not_at_all() {
    let (mysql, mariadb) = (Mysql::start(), MariaDb::start());
    shop(&mysql);
    mariadb.sql("CREATE DATABASE shop; CREATE TABLE shop.t (a INT)");
    let fails = async |source: MysqlSource| {
        let error = source.probe().await.unwrap_err();
        assert_eq!(error.class, Class::Stalled, "{error}");
        error.to_string()
    };
    let with_mariadbs = mysql.source(&["shop"]).search_path(process::search_path());
    let told = fails(with_mariadbs).await;
    assert!(told.contains("the server is MySQL") && told.contains("mysqldump"), "{told}");
    let told = fails(mariadb.source(&["shop"]).search_path(programs())).await;
    assert!(told.contains("the server is MariaDB") && told.contains("mariadb-client"), "{told}");
    // Both are there.
    let (sink, of_mariadb) =
        captured(&mariadb.source(&["shop"]).search_path(super::lab::mysql::search())).await;
    assert!(of_mariadb.details.versions["dump"].contains("MariaDB") && !sink.stream().is_empty());
}

#[tokio::test]
async fn what_a_user_of_mysql_lacks_is_granted_by_its_remedy_and_no_more() {
    let server = Mysql::start();
    shop(&server);
    let kinds = [Kind::Full, Kind::Log].into();
    let source = server.source(&[]);
    let lacks = source.lacks(&kinds).await.unwrap();
    let told = |lacks: &[Lack]| lacks.iter().map(|lack| lack.remedy.clone()).collect::<Vec<_>>();
    assert_eq!(
        told(&lacks),
        [
            "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON *.* TO 'backup'@'127.0.0.1';",
            "GRANT REPLICATION SLAVE ON *.* TO 'backup'@'127.0.0.1';",
        ]
    );
    for lack in &lacks {
        assert_eq!(lack.severity, Severity::Error, "{lack:?}");
        server.sql(&lack.remedy);
    }
    assert_eq!(told(&source.lacks(&kinds).await.unwrap()), [""; 0]);
    let (_, captured) = captured(&source).await;
    assert_eq!(counts(&captured).len(), TABLES.len());
    server.sql("REVOKE SHOW_ROUTINE, RELOAD ON *.* FROM backup@'127.0.0.1'");
    let lacks = source.lacks(&kinds).await.unwrap();
    assert_eq!(lacks.len(), 2, "{lacks:?}");
    server.sql("GRANT SHOW_ROUTINE, RELOAD ON *.* TO backup@'127.0.0.1'");
    assert_eq!(told(&source.lacks(&kinds).await.unwrap()), [""; 0]);
    server.sql("ALTER USER backup@'127.0.0.1' IDENTIFIED BY 'another'");
    let error = source.probe().await.unwrap_err().to_string();
    assert!(error.contains("Access denied") && !error.contains(PASSWORD), "{error}");
}
