//! MariaDB by its own programs: what is captured, what comes back, and what must never count.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use backstay::{
    artifact::manifest::{Counts, Moment},
    clock::Clock,
    sources::{CaptureRequest, Captured, Place, Source, SourceError, mysql::MysqlSource},
    stores::Class,
};

use super::lab::{
    self,
    mariadb::{MariaDb, PASSWORD, fake_dump, sql},
    moments::OfOld,
    sums_now,
};
use super::source_conformance::{Collected, captured, conforms, request, restored};

/// A shop with one of everything that a dump must carry.
fn shop(server: &MariaDb) {
    server.sql(
        "CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_estonian_ci; USE shop;
         CREATE TABLE article (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(100) NOT NULL, photo LONGBLOB,
                               price DECIMAL(10,2), changed TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6));
         CREATE TABLE sale (id BIGINT PRIMARY KEY AUTO_INCREMENT, article INT NOT NULL, amount INT NOT NULL,
                            FOREIGN KEY (article) REFERENCES article (id));
         CREATE TABLE `odd ``name` (a TEXT, b BIT(3), c JSON);
         CREATE TABLE total (sold BIGINT NOT NULL);
         INSERT INTO total VALUES (0);
         INSERT INTO article (name, photo, price)
             SELECT CONCAT('tõõ 😀 \\\\ ', seq), REPEAT(RANDOM_BYTES(1000), 2), seq / 3 FROM seq_1_to_2000;
         INSERT INTO `odd ``name` VALUES ('-- Dump completed', b'101', '{\"ä\": [1, null]}'), (NULL, NULL, NULL);
         CREATE VIEW dear AS SELECT id, name FROM article WHERE price > 600;
         CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n;
         CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DO DELETE FROM sale WHERE amount = 0;",
    );
    server.sql(
        "USE shop;
         CREATE PROCEDURE sell(IN what INT) INSERT INTO sale (article, amount) VALUES (what, 1);
         CREATE TRIGGER sold AFTER INSERT ON sale FOR EACH ROW UPDATE total SET sold = sold + NEW.amount;",
    );
}

const TABLES: [&str; 4] = ["article", "sale", "total", "odd ``name"];

fn checksums(server: &MariaDb, database: &str) -> Vec<String> {
    let sum = |table: &&str| server.sql(&format!("CHECKSUM TABLE `{database}`.`{table}`"));
    TABLES.iter().map(sum).map(|row| row.rsplit('\t').next().unwrap().to_owned()).collect()
}

fn rows(server: &MariaDb, database: &str, table: &str) -> u64 {
    server.sql(&format!("SELECT COUNT(*) FROM `{database}`.`{table}`")).parse().unwrap()
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

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

#[test]
fn a_dump_is_one_moment_while_a_seller_sells_and_its_counts_are_of_that_moment() {
    let server = MariaDb::start();
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
            block_on(captured(&server.source(&["shop"])))
        };
        (0..3).map(capture).collect::<Vec<_>>()
    });
    for (number, (sink, captured)) in captures.iter().enumerate() {
        let copy = format!("copy{number}");
        block_on(restored(&server.root(&["shop"]), &sink.stream(), &Place::Database(copy.clone()))).unwrap();
        assert_eq!(counts(captured).len(), TABLES.len());
        let sums = block_on(sums_now(&server.root(&[&copy])));
        assert_eq!(sums, lab::sums(captured.details.checksums.as_ref()), "of the dump's own moment");
        for (table, count) in counts(captured) {
            let table = table.strip_prefix("shop.").unwrap().replace('`', "``");
            assert_eq!(rows(&server, &copy, &table), *count, "{table}");
        }
        let sold = server
            .sql(&format!("SELECT (SELECT sold FROM {copy}.total) - (SELECT COUNT(*) FROM {copy}.sale)"));
        assert_eq!(sold, "0", "both sides of a transaction, or neither");
        let Moment::At { position: Some(position), .. } = &captured.moment else { panic!("{captured:?}") };
        assert!(position.starts_with("bin.000001:") && position.contains("gtid 0-7-"), "{position}");
    }
}

#[tokio::test]
async fn everything_comes_back_beside_the_original_and_over_it() {
    let server = MariaDb::start();
    shop(&server);
    server.sql(&"CALL shop.sell(7);".repeat(5));
    let (sink, captured) = captured(&server.source(&["shop"])).await;
    let stream = sink.stream();
    let before = checksums(&server, "shop");
    // Artifacts of every source are ordered by one clock, and that is not the server's.
    let of_old = CaptureRequest { clock: &OfOld, ..request() };
    let dated = server.source(&["shop"]).capture(&of_old, &mut Collected::default()).await.unwrap();
    assert_eq!(dated.moment.newest(), OfOld.now());
    let root = server.root(&["shop"]);
    let place = Place::Database("copy".to_owned());
    let told = restored(&root, &stream, &place).await.unwrap();
    assert_eq!(told, "database copy, its 1 events switched off");
    assert_eq!(checksums(&server, "copy"), before);
    assert_eq!(counts(&captured)["shop.odd `name"], 2);
    server.sql("CALL copy.sell(1)");
    assert_eq!(server.sql("SELECT copy.twice(sold) FROM copy.total"), "12");
    assert_eq!(server.sql("SELECT COUNT(*) FROM copy.dear"), "200");
    assert_eq!(
        server.sql("SELECT @@collation_database FROM copy.total").len(),
        server.sql("SELECT @@collation_database").len()
    );
    let collation =
        "SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = 'copy'";
    assert_eq!(server.sql(collation), "utf8mb4_estonian_ci");
    assert_eq!(checksums(&server, "shop"), before, "the original is untouched");
    let again = restored(&root, &stream, &place).await.unwrap_err();
    assert!(again.to_string().contains("database copy exists"), "{again}");
    server.sql("USE shop; SET foreign_key_checks = 0; DROP TABLE article; DELETE FROM sale; UPDATE total SET sold = 99");
    restored(&root, &stream, &Place::Original).await.unwrap();
    assert_eq!(checksums(&server, "shop"), before);
    server.sql("DROP DATABASE shop");
    restored(&root, &stream, &Place::Original).await.unwrap();
    assert_eq!(checksums(&server, "shop"), before);
}

#[tokio::test]
async fn several_databases_come_back_under_their_own_names_only() {
    let server = MariaDb::start();
    shop(&server);
    server.sql("CREATE DATABASE other; CREATE TABLE other.t (a INT); INSERT INTO other.t VALUES (1)");
    for declared in [&["shop", "other"][..], &[]] {
        let (sink, captured) = captured(&server.source(declared)).await;
        assert_eq!(counts(&captured)["other.t"], 1);
        let before = checksums(&server, "shop");
        server.sql("DROP DATABASE shop; DROP DATABASE other");
        let root = server.root(declared);
        restored(&root, &sink.stream(), &Place::Database("copy".to_owned()))
            .await
            .expect_err("two have no one name");
        restored(&root, &sink.stream(), &Place::Original).await.unwrap();
        assert_eq!((checksums(&server, "shop"), rows(&server, "other", "t")), (before, 1));
    }
}

#[tokio::test]
async fn mysql_conforms() {
    let (server, scratch) = (MariaDb::start(), tempfile::tempdir().unwrap());
    shop(&server);
    conforms(&server.source(&["shop"]), scratch.path()).await;
    let folder = Place::Folder(scratch.path().join("folder"));
    let (sink, _) = captured(&server.source(&["shop"])).await;
    restored(&server.source(&["shop"]), &sink.stream(), &folder).await.unwrap();
    assert!(scratch.path().join("folder/shop.sql").exists());
}

#[tokio::test]
async fn counts_are_not_captured_where_nothing_proves_them() {
    let server = MariaDb::start();
    shop(&server);
    server.sql("CREATE TABLE shop.old (a INT) ENGINE=MyISAM");
    let (_, captured) = captured(&server.source(&["shop"])).await;
    let Counts::NotCaptured(why) = &captured.details.counts else { panic!("{captured:?}") };
    assert!(why.contains("shop.old") && why.contains("MyISAM"), "{why}");
    assert!(captured.details.omitted.iter().any(|note| note.contains("shop.old")), "{captured:?}");
}

#[tokio::test]
async fn without_a_binary_log_the_lock_alone_proves_the_counts_and_without_either_nothing_does() {
    let server = MariaDb::start_without_binary_log();
    shop(&server);
    let (_, locked) = captured(&server.source(&["shop"])).await;
    assert_eq!(counts(&locked)["shop.article"], 2000);
    assert!(matches!(locked.moment, Moment::At { position: None, .. }));
    server.sql("REVOKE RELOAD ON *.* FROM backup@'127.0.0.1'");
    let (_, unlocked) = captured(&server.source(&["shop"])).await;
    let Counts::NotCaptured(why) = unlocked.details.counts else { panic!("nothing proves these counts") };
    assert!(why.contains("could not be locked") && !why.contains("s3cr"), "{why}");
}

/// Every failure is an error that shows no secret.
async fn fails(source: &MysqlSource, request: &CaptureRequest<'_>) -> SourceError {
    let error = source.capture(request, &mut Collected::default()).await.expect_err("this must not count");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("s3cr#t") && !shown.contains(PASSWORD), "{shown}");
    error
}

fn exists(id: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

#[tokio::test]
async fn a_dump_that_fails_is_cut_short_stalls_or_is_killed_never_counts_and_leaves_no_process() {
    let server = MariaDb::start();
    shop(&server);
    let pid = tempfile::NamedTempFile::new().unwrap();
    let note_pid = format!("echo $$ > {}", pid.path().display());
    let cases = [
        (
            "exit 2",
            format!("{note_pid}; /usr/bin/mariadb-dump \"$@\"; echo broken >&2; exit 2"),
            "exit status 2: broken",
        ),
        ("truncated", format!("{note_pid}; /usr/bin/mariadb-dump \"$@\" | head -c 2000000"), "closing line"),
        ("empty", format!("{note_pid}; exit 0"), "closing line"),
        (
            "killed",
            format!("{note_pid}; /usr/bin/mariadb-dump \"$@\" | head -c 500000; kill -9 $$"),
            "SIGKILL",
        ),
        (
            "stalled",
            format!("{note_pid}; /usr/bin/mariadb-dump \"$@\" | head -c 500000; sleep 600 & sleep 600"),
            "silent for 2s",
        ),
        ("leaking", format!("{note_pid}; cat \"${{1#--defaults-file=}}\" >&2; exit 1"), "***"),
        (
            "wrong option",
            format!("{note_pid}; exec /usr/bin/mariadb-dump \"$1\" --no-such-option"),
            "exit status",
        ),
    ];
    for (case, script, why) in cases {
        let programs = fake_dump(&script);
        let source = server.source(&["shop"]).search_path(programs.path());
        let stall = if case == "stalled" { Duration::from_secs(2) } else { request().stall };
        let request = CaptureRequest { stall, ..request() };
        let error = fails(&source, &request).await;
        assert!(error.to_string().contains(why), "{case}: {error}");
        assert!(error.class == Class::Retry, "{case}: {error:?}");
        let id = fs::read_to_string(pid.path()).unwrap().trim().to_owned();
        assert!(!id.is_empty() && !exists(&id), "{case}: process {id} is left");
    }
    server.sql("UPDATE shop.total SET sold = 0");
}

#[tokio::test]
async fn a_wrong_password_a_missing_database_and_missing_programs_are_for_a_person() {
    let server = MariaDb::start();
    let wrong = fails(&server.source_with(&["shop"], "wrong-pass-word"), &request()).await;
    assert!(wrong.to_string().contains("Access denied") && wrong.class == Class::Stalled, "{wrong}");
    assert!(!format!("{wrong:?}").contains("wrong-pass-word"));
    assert!(server.source_with(&["shop"], "wrong-pass-word").probe().await.is_err());
    let missing = fails(&server.source(&["nothing"]), &request()).await;
    assert!(missing.to_string().contains("nothing") && missing.class == Class::Stalled, "{missing}");
    let empty = tempfile::tempdir().unwrap();
    let absent = fails(&server.source(&["shop"]).search_path(empty.path()), &request()).await;
    assert!(absent.to_string().contains("mariadb-dump or mysqldump") && absent.hint.is_some(), "{absent}");
    assert!(server.source(&["shop"]).probe().await.unwrap().version.contains("MariaDB"));
}

#[test]
fn a_server_that_is_killed_during_the_dump_fails_it() {
    let mut server = MariaDb::start();
    shop(&server);
    sql(
        &server.socket(),
        "USE shop; INSERT INTO article (name, photo) SELECT 'x', REPEAT(RANDOM_BYTES(1000), 60) FROM seq_1_to_1000",
    );
    let source = server.source(&["shop"]);
    let (begun, waited) = std::sync::mpsc::channel();
    let capture = thread::spawn(move || {
        block_on(source.capture(&request(), &mut Held { begun: Some(begun), seen: 0 }))
    });
    let go = waited.recv().expect("the dump begins");
    server.kill();
    go.send(()).unwrap();
    let error = capture.join().unwrap().expect_err("half a dump does not count");
    assert!(!format!("{error:?}").contains("s3cr#t"), "{error:?}");
}

/// A sink that lets the test act once a dump is half-way.
struct Held {
    begun: Option<std::sync::mpsc::Sender<std::sync::mpsc::Sender<()>>>,
    seen: usize,
}

#[async_trait::async_trait]
impl backstay::sources::Sink for Held {
    async fn write(&mut self, bytes: bytes::Bytes) -> Result<(), backstay::sources::SinkClosed> {
        self.seen += bytes.len();
        if self.seen > 10 << 20
            && let Some(begun) = self.begun.take()
        {
            let (go, wait) = std::sync::mpsc::channel();
            begun.send(go).unwrap();
            wait.recv().unwrap();
        }
        Ok(())
    }

    async fn run(
        &mut self,
        _: Option<backstay::sources::RunKey>,
    ) -> Result<backstay::sources::Run, backstay::sources::SinkClosed> {
        Ok(backstay::sources::Run::Wanted)
    }
}

#[tokio::test]
async fn a_dump_that_breaks_off_or_is_damaged_is_no_restore_and_leaves_no_half_database() {
    let server = MariaDb::start();
    shop(&server);
    let (sink, _) = captured(&server.source(&["shop"])).await;
    let stream = sink.stream();
    let root = server.root(&["shop"]);
    let place = Place::Database("copy".to_owned());
    let text = String::from_utf8_lossy(&stream[..4096]).into_owned();
    let end_of_line = stream[..stream.len() / 2].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    let bad_sql = [b"THIS IS NO SQL;\n".as_slice(), &stream].concat();
    for broken in [&stream[..stream.len() / 2], &stream[..end_of_line], &bad_sql[..], &[]] {
        restored(&root, broken, &place).await.expect_err(&text);
        let left = "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'copy'";
        assert_eq!(server.sql(left), "0");
    }
    let file = tempfile::tempdir().unwrap();
    let place = Place::File(file.path().join("shop.sql"));
    restored(&root, &stream[..end_of_line], &place).await.expect_err("it does not close");
    assert_eq!(fs::read_dir(file.path()).unwrap().count(), 0);
}
