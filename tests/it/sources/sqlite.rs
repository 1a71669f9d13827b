//! SQLite databases, with writers at work.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use backstay::{
    artifact::manifest::Counts,
    sources::{Place, Source, sqlite::SqliteSource},
};
use rusqlite::Connection;

use super::suite::{Collected, captured, conforms, request, restored, sparing};

/// Accounts whose balances sum up to this in every committed state.
const TOTAL: i64 = 100_000;

struct Bank {
    folder: tempfile::TempDir,
}

impl Bank {
    fn new(journal_mode: &str) -> Self {
        let bank = Self { folder: tempfile::tempdir().unwrap() };
        let connection = bank.open();
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = {journal_mode};
                 PRAGMA synchronous = OFF;
                 PRAGMA user_version = 7;
                 CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, note BLOB);
                 CREATE TABLE \"odd \"\"name\" (a TEXT);
                 CREATE TABLE transfer (id INTEGER PRIMARY KEY, amount INTEGER);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
                 INSERT INTO account SELECT i, {TOTAL} / 1000, randomblob(1500) FROM n;
                 INSERT INTO \"odd \"\"name\" VALUES ('ä'), (NULL);"
            ))
            .unwrap();
        bank
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("bank.sqlite")
    }

    fn source(&self) -> SqliteSource {
        SqliteSource::new(self.path(), self.folder.path().to_owned())
    }

    fn open(&self) -> Connection {
        open(&self.path())
    }
}

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    connection
}

/// Moves money about until it is told to stop, and counts its transactions.
fn hammer(path: &Path, stop: &AtomicBool, done: &AtomicU64) {
    let mut connection = open(path);
    while !stop.load(Ordering::Relaxed) {
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        transaction
            .execute_batch(
                "UPDATE account SET balance = balance - 1, note = randomblob(1500) WHERE id = 1 + abs(random()) % 1000;
                 INSERT INTO transfer (amount) VALUES (1);
                 UPDATE account SET balance = balance + 1 WHERE id = 1 + abs(random()) % 1000;",
            )
            .unwrap();
        transaction.commit().unwrap();
        done.fetch_add(1, Ordering::Relaxed);
        // SQLite's locks are not fair: a writer that never rests starves everybody.
        thread::sleep(Duration::from_millis(1));
    }
}

fn assert_sound(path: &Path, counts: &Counts) {
    let connection = open(path);
    let one = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    assert_eq!(one("SELECT sum(balance) FROM account"), TOTAL);
    assert_eq!(one("PRAGMA user_version"), 7);
    let Counts::Captured(counts) = counts else { panic!("{counts:?}") };
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["account", "odd \"name", "transfer"]);
    for (table, rows) in counts {
        let table = table.replace('"', "\"\"");
        assert_eq!(one(&format!("SELECT count(*) FROM \"{table}\"")), rows.cast_signed(), "{table}");
    }
}

#[test]
fn a_capture_is_one_committed_state_while_a_writer_goes_on() {
    for journal_mode in ["wal", "delete", "truncate", "persist"] {
        let bank = Bank::new(journal_mode);
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let captures = thread::scope(|threads| {
            threads.spawn(|| hammer(&bank.path(), &stop, &done));
            let _stop = super::Stop(&stop);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let after_a_commit = || {
                let before = done.load(Ordering::Relaxed);
                while done.load(Ordering::Relaxed) == before {
                    thread::yield_now();
                }
                runtime.block_on(captured(&bank.source()))
            };
            (0..4).map(|_| after_a_commit()).collect::<Vec<_>>()
        });
        for (number, (sink, captured)) in captures.iter().enumerate() {
            let copy = bank.folder.path().join(format!("copy-{number}"));
            let stream = sink.stream();
            let restore = async { restored(&bank.source(), &stream, &Place::File(copy.clone())).await };
            tokio::runtime::Runtime::new().unwrap().block_on(restore).unwrap();
            assert_sound(&copy, &captured.details.counts);
        }
    }
}

#[tokio::test]
async fn sqlite_conforms() {
    for journal_mode in ["wal", "delete"] {
        let (bank, scratch) = (Bank::new(journal_mode), tempfile::tempdir().unwrap());
        conforms(&bank.source(), scratch.path()).await;
    }
}

#[tokio::test]
async fn a_restore_over_a_live_database_is_a_transaction_that_open_connections_see() {
    for journal_mode in ["wal", "delete"] {
        let bank = Bank::new(journal_mode);
        let (sink, captured) = captured(&bank.source()).await;
        let connection = bank.open();
        connection
            .execute_batch("DELETE FROM account; DROP TABLE transfer; PRAGMA user_version = 8;")
            .unwrap();
        let spared = restored(&sparing(bank.source()), &sink.stream(), &Place::Original).await.unwrap_err();
        assert!(spared.to_string().contains("rows in odd \"name by now"), "{spared}");
        connection.execute_batch("DELETE FROM \"odd \"\"name\"").unwrap();
        restored(&bank.source(), &sink.stream(), &Place::Original).await.unwrap();
        let sum: i64 =
            connection.query_row("SELECT sum(balance) FROM account", [], |row| row.get(0)).unwrap();
        assert_eq!(sum, TOTAL);
        connection
            .execute_batch("DELETE FROM account; DELETE FROM \"odd \"\"name\"; DELETE FROM transfer")
            .unwrap();
        drop(connection);
        let place = restored(&sparing(bank.source()), &sink.stream(), &Place::Original).await.unwrap();
        assert!(place.contains("bank.sqlite.replaced-"), "what somebody may write yet is not lost: {place}");
        assert_sound(&bank.path(), &captured.details.counts);
    }
}

#[tokio::test]
async fn a_damaged_original_is_put_aside_with_its_companions_and_replaced() {
    let bank = Bank::new("wal");
    let (sink, captured) = captured(&bank.source()).await;
    let wal = bank.folder.path().join("bank.sqlite-wal");
    fs::write(bank.path(), b"this is no database").unwrap();
    fs::write(&wal, b"left over").unwrap();
    let place = restored(&bank.source(), &sink.stream(), &Place::Original).await.unwrap();
    assert!(place.contains("bank.sqlite.replaced-"), "{place}");
    assert!(fs::read(&wal).unwrap_or_default() != b"left over");
    assert_sound(&bank.path(), &captured.details.counts);
    fs::remove_file(bank.path()).unwrap();
    restored(&bank.source(), &sink.stream(), &Place::Original).await.unwrap();
    assert_sound(&bank.path(), &captured.details.counts);
}

#[tokio::test]
async fn damaged_images_are_never_put_in_place() {
    let bank = Bank::new("wal");
    let (sink, captured) = captured(&bank.source()).await;
    let stream = sink.stream();
    let mut flipped = stream.clone();
    flipped[4096 * 3..4096 * 4].fill(0x5a);
    for image in
        [&stream[..stream.len() - 4096 * 20], &flipped[..], b"no database at all, but long enough to be"]
    {
        let file = bank.folder.path().join("copy");
        restored(&bank.source(), image, &Place::File(file.clone())).await.unwrap_err();
        assert!(!file.exists());
        restored(&bank.source(), image, &Place::Original).await.unwrap_err();
        assert_sound(&bank.path(), &captured.details.counts);
    }
    let left: Vec<_> = fs::read_dir(bank.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".backstay-")), "{left:?}");
}

#[tokio::test]
async fn restores_go_to_new_or_empty_folders_only_and_never_beside_a_foreign_journal() {
    let (bank, scratch) = (Bank::new("delete"), tempfile::tempdir().unwrap());
    let (sink, captured) = captured(&bank.source()).await;
    let folder = scratch.path().join("new");
    let place = Place::Folder(folder.clone());
    restored(&bank.source(), &sink.stream(), &place).await.unwrap();
    assert_sound(&folder.join("bank.sqlite"), &captured.details.counts);
    assert!(
        restored(&bank.source(), &sink.stream(), &place).await.unwrap_err().to_string().contains("not empty")
    );
    fs::write(scratch.path().join("copy-journal"), b"foreign").unwrap();
    let beside = Place::File(scratch.path().join("copy"));
    assert!(restored(&bank.source(), &sink.stream(), &beside).await.is_err());
}

#[tokio::test]
async fn a_symbolic_link_a_missing_file_and_a_file_that_is_no_database_are_errors() {
    let bank = Bank::new("wal");
    let link = bank.folder.path().join("link");
    std::os::unix::fs::symlink(bank.path(), &link).unwrap();
    let text = bank.folder.path().join("text");
    fs::write(&text, "hello, this is text and long enough to be taken for a header of something").unwrap();
    for path in [link, text, bank.folder.path().join("absent")] {
        let source = SqliteSource::new(path.clone(), bank.folder.path().to_owned());
        let error = source.capture(&request(), &mut Collected::default()).await.unwrap_err();
        assert!(error.to_string().contains(&*path.to_string_lossy()) && error.hint.is_some(), "{error}");
        assert!(source.probe().await.is_err());
    }
}
