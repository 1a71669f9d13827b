//! The binary log of a real MySQL: captured without a gap, read as it is written, and replayed up to any second or transaction.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use backstay::{
    artifact::{
        Kind,
        manifest::Edge,
        position::LogPosition,
        transactions::{Transaction, Transactions},
        until::Until,
    },
    sources::{CaptureRequest, Captured, Place, Read, Replay, Source, SourceError},
    stores::Class,
};

use super::{
    lab::{
        READY,
        mysql::{Mysql, search},
        reader::Reader,
        wait_until,
    },
    mysql_log::{end, from},
    source_conformance::{Collected, captured, request},
};

fn till(server: &Mysql) {
    server.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.sale (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(20)); \
         CREATE DATABASE other; CREATE TABLE other.t (a INT); GRANT REPLICATION SLAVE ON *.* TO backup@'127.0.0.1'",
    );
    sell(server, "before the dump");
}

fn sell(server: &Mysql, what: &str) {
    server.sql(&format!("INSERT INTO shop.sale (what) VALUES ('{what}')"));
}

fn sold(server: &Mysql) -> String {
    server.sql("SELECT GROUP_CONCAT(what ORDER BY id) FROM shop.sale")
}

fn executed(server: &Mysql) -> Transactions {
    Transactions::of_position(&format!("gtid {}", server.sql("SELECT @@GLOBAL.gtid_executed")))
}

async fn log_with(
    source: &dyn Source,
    continues: Edge,
    spool: Option<&Path>,
) -> Result<(Vec<u8>, Captured), SourceError> {
    let spool = spool.map(Path::to_owned);
    let request = CaptureRequest { kind: Kind::Log, continues: Some(continues), spool, ..request() };
    let mut sink = Collected::default();
    let captured = source.capture(&request, &mut sink).await?;
    Ok((sink.stream(), captured))
}

async fn log(source: &dyn Source, continues: Edge) -> (Vec<u8>, Captured) {
    log_with(source, continues, None).await.expect("the log is captured")
}

async fn replayed(server: &Mysql, stream: &[u8], place: &Place, replay: &Replay) {
    let mut stream = stream;
    server.root(&[]).replay(&mut stream, place, replay).await.expect("the log is replayed");
    assert!(stream.is_empty(), "its stream is read to the end");
}

/// Restores the dump and the logs behind it over a server.
async fn brought_back(
    server: &Mysql,
    dump: &(Collected, Captured),
    logs: &[&(Vec<u8>, Captured)],
    until: Option<Until>,
) {
    let root = server.root(&[]);
    root.make_way().await.unwrap();
    root.restore(&mut dump.0.stream().as_slice(), &Place::Original).await.unwrap();
    let mut from = end(&dump.1).position;
    for (stream, captured) in logs {
        replayed(server, stream, &Place::Original, &Replay { from, until: until.clone() }).await;
        from = end(captured).position;
    }
}

#[tokio::test]
async fn a_log_of_mysql_brings_everything_back_to_any_second_also_over_the_server_that_wrote_it() {
    let server = Mysql::start();
    till(&server);
    let source = server.root(&[]);
    let dump = captured(&source).await;
    sell(&server, "after the dump");
    server.sql("INSERT INTO other.t VALUES (1)");
    let first = log(&source, end(&dump.1)).await;
    sell(&server, "in the second log");
    server.sql("CREATE TABLE shop.later (a INT); INSERT INTO shop.later VALUES (7)");
    server.sql("CREATE USER clerk@'%' IDENTIFIED BY 'x'; GRANT SELECT ON shop.* TO clerk@'%'");
    let disaster = server.next_second();
    server.sql("DELETE FROM shop.sale; DROP TABLE shop.later; DROP USER clerk@'%'");
    let second = log(&source, end(&first.1)).await;
    let [goes_on, ended] = [from(&second.1).position.clone(), end(&first.1).position];
    assert_eq!(LogPosition::parse(&goes_on), LogPosition::parse(&ended), "nothing is left out between them");
    assert_eq!(Transactions::of_position(&end(&second.1).position), executed(&server));

    // The server has the numbers of all that is replayed, and must run it nevertheless.
    for (until, expect, clerks) in
        [(Some(disaster), "before the dump,after the dump,in the second log", "1"), (None, "NULL", "0")]
    {
        brought_back(&server, &dump, &[&first, &second], until.map(Until::Moment)).await;
        assert_eq!(sold(&server), expect, "as of {until:?}");
        assert_eq!(server.sql("SELECT COUNT(*) FROM other.t"), "1", "all databases are as they were");
        assert_eq!(server.sql("SELECT COUNT(*) FROM mysql.user WHERE user = 'clerk'"), clerks);
    }
    let other = Mysql::start();
    brought_back(&other, &dump, &[&first, &second], Some(Until::Moment(disaster))).await;
    assert_eq!(sold(&other), "before the dump,after the dump,in the second log");
    assert_eq!(other.sql("SELECT a FROM shop.later"), "7");
}

#[tokio::test]
async fn a_log_of_mysql_ends_at_a_place_or_behind_a_transaction() {
    let (server, other) = (Mysql::start(), Mysql::start());
    till(&server);
    let source = server.root(&[]);
    let dump = captured(&source).await;
    sell(&server, "after the dump");
    server.sql("FLUSH BINARY LOGS");
    sell(&server, "in the second file");
    let place = server.sql("SHOW BINARY LOG STATUS").split('\t').take(2).collect::<Vec<_>>().join(":");
    sell(&server, "the last wanted");
    let numbers =
        server.sql("SELECT CONCAT(@@server_uuid, ':', SUBSTRING_INDEX(@@GLOBAL.gtid_executed, '-', -1))");
    let wanted: Transaction = numbers.parse().unwrap();
    sell(&server, "behind it");
    server.sql("FLUSH BINARY LOGS");
    sell(&server, "in a later file");
    let (stream, captured) = log(&source, end(&dump.1)).await;
    let ends = Transactions::of_position(&end(&captured).position);
    assert!(ends.have_come_to(&wanted), "{ends} {wanted}");
    assert!(!Transactions::of_position(&end(&dump.1).position).have_come_to(&wanted));

    let scratch = tempfile::tempdir().unwrap();
    let up_to_place = "before the dump,after the dump,in the second file";
    for (until, expect) in [
        (Until::Place(place.parse().unwrap()), up_to_place.to_owned()),
        (Until::Transaction(wanted), format!("{up_to_place},the last wanted")),
    ] {
        let replay = Replay { from: end(&dump.1).position, until: Some(until.clone()) };
        brought_back(&server, &dump, &[], None).await;
        replayed(&server, &stream, &Place::Original, &replay).await;
        assert_eq!(sold(&server), expect, "up to {until}");

        let folder = scratch.path().join(until.to_string().replace(':', "-"));
        let place = Place::Folder(folder.clone());
        source.restore(&mut dump.0.stream().as_slice(), &place).await.unwrap();
        replayed(&server, &stream, &place, &replay).await;
        by_script(&other, &folder);
        assert_eq!(sold(&other), expect, "by the script, up to {until}");
        other.sql("DROP DATABASE shop; DROP DATABASE other");
    }
}

/// What the page of the documents says, with the client's options for `server`.
fn by_script(server: &Mysql, folder: &Path) {
    let options = folder.join("client.cnf");
    fs::write(&options, format!("[client]\nsocket={}\nuser=root\n", server.socket().display())).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "mysql \"$@\" <databases.sql && ./replay.sh \"$@\"", "sh"]);
    shell.arg(format!("--defaults-file={}", options.display())).current_dir(folder).env("PATH", search());
    let ran = shell.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
async fn a_log_of_mysql_that_was_reset_is_not_taken_for_the_one_of_before() {
    let server = Mysql::start();
    till(&server);
    let source = server.root(&[]);
    let dump = captured(&source).await;
    let first = log(&source, end(&dump.1)).await;
    sell(&server, "before the reset");
    let sell_up_to = |place: &str| {
        let Some(LogPosition::Binlog { number, offset, .. }) = LogPosition::parse(place) else {
            panic!("{place}")
        };
        let status = || {
            let status = server.sql("SHOW BINARY LOG STATUS");
            let here = status.split('\t').take(2).collect::<Vec<_>>().join(":");
            match LogPosition::parse(&here) {
                Some(LogPosition::Binlog { number, offset, .. }) => (number, offset),
                other => panic!("{other:?}"),
            }
        };
        while status().0 < number {
            server.sql("FLUSH BINARY LOGS");
        }
        while status() <= (number, offset) {
            sell(&server, "in another history");
        }
    };
    server.sql("RESET BINARY LOGS AND GTIDS");
    for captured in [&dump.1, &first.1] {
        sell_up_to(&end(captured).position);
        let (_, apart) = log(&source, end(captured)).await;
        assert_ne!(from(&apart).time, end(captured).time, "it does not go on from {:?}", end(captured));
    }
    // The same for what is purged.
    assert_eq!(server.purging().log_is_stored(&end(&first.1)).await.unwrap(), "");
}

#[tokio::test]
async fn a_server_that_was_made_of_a_dump_has_a_window_though_its_log_does_not_tell_all_that_it_executed() {
    let server = Mysql::start();
    let of_before = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    server.sql(&format!("SET GLOBAL gtid_purged = '+{of_before}:1-100'"));
    till(&server);
    let source = server.root(&[]);
    let dump = captured(&source).await;
    sell(&server, "after the dump");
    server.sql("FLUSH BINARY LOGS; PURGE BINARY LOGS TO 'bin.000002'");
    sell(&server, "in the second file");
    let first = log(&source, end(&dump.1)).await;
    sell(&server, "in no artifact");
    let place = |captured: &Captured| end(captured).position;
    let (data, until) = (place(&dump.1), place(&first.1));
    assert!(!data.contains(of_before), "the log does not tell of it: {data}");
    assert!(LogPosition::parse(&data) < LogPosition::parse(&until), "{data} {until}");
}

#[tokio::test]
async fn nothing_is_removed_for_what_another_engine_held() {
    let server = Mysql::start();
    till(&server);
    let refused = server.root(&[]).must_take(Some("10.11.6-MariaDB-log")).await.unwrap_err().to_string();
    assert!(refused.contains("captured of MariaDB, and the server is MySQL now"), "{refused}");
    server.root(&[]).must_take(Some("8.4.2")).await.unwrap();
    server.root(&[]).must_take(None).await.unwrap();
}

#[tokio::test]
async fn binary_logs_of_mysql_go_once_they_are_stored() {
    let server = Mysql::start();
    till(&server);
    let source = server.purging();
    let dump = captured(&source).await;
    sell(&server, "after the dump");
    server.sql("FLUSH BINARY LOGS");
    let (_, stored) = log(&source, end(&dump.1)).await;
    let listed = |server: &Mysql| server.sql("SHOW BINARY LOGS").lines().count();
    let before = listed(&server);
    let told = source.log_is_stored(&end(&stored)).await.unwrap();
    assert!(told.contains("purged") && listed(&server) == 1 && before > 1, "{told}");
    let (_, next) = log(&source, end(&stored)).await;
    assert_eq!(from(&next).time, end(&stored).time, "nothing is missing");
}

/// Waits until the reader has all that was written.
fn all_read(server: &Mysql, spool: &Path) {
    let listed = server.sql("SHOW BINARY LOG STATUS");
    let mut status = listed.split('\t');
    let (file, size) = (status.next().unwrap(), status.next().unwrap().parse::<u64>().unwrap());
    let folders = || fs::read_dir(spool).unwrap().map(|entry| entry.unwrap().path());
    let has = |folder: PathBuf| folder.join(file).metadata().is_ok_and(|found| found.len() >= size);
    wait_until("the reader has it all", READY, || folders().any(has));
}

#[tokio::test]
async fn what_mysql_committed_before_it_died_between_two_slots_comes_back() {
    let mut server = Mysql::start();
    till(&server);
    server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1");
    let source = server.root(&[]);
    let dump = captured(&source).await;
    let spool = tempfile::tempdir().unwrap();
    let reader = Reader::start(server.source(&[]), spool.path()).await;
    sell(&server, "in the first log");
    let first = log_with(&source, end(&dump.1), Some(spool.path())).await.unwrap();
    sell(&server, "behind the slot");
    server.sql("FLUSH BINARY LOGS");
    server.sql("CREATE TABLE shop.later (a INT); INSERT INTO shop.later VALUES (7)");
    sell(&server, "the last one");
    let last = executed(&server);
    all_read(&server, spool.path());
    server.kill();
    let failed = reader.ended().await;
    assert_eq!(failed.class, Class::Retry, "{failed}");

    let second = log_with(&source, end(&first.1), Some(spool.path())).await.unwrap();
    let place = |edge: &Edge| edge.position.clone();
    assert_eq!(
        LogPosition::parse(&place(from(&second.1))),
        LogPosition::parse(&place(&end(&first.1))),
        "nothing is left out"
    );
    let told = end(&second.1);
    assert_eq!(Transactions::of_position(&told.position), last, "{told:?}");
    let again = log_with(&source, told.clone(), Some(spool.path())).await.unwrap_err();
    assert_eq!(again.class, Class::Retry, "there is no more, and no server: {again}");

    let copy = Mysql::start();
    brought_back(&copy, &dump, &[&first, &second], None).await;
    let all = "before the dump,in the first log,behind the slot,the last one";
    assert_eq!(sold(&copy), all);
    assert_eq!(copy.sql("SELECT a FROM shop.later"), "7");

    // The server comes back, and the log goes on with the file in which it ended.
    server.restart();
    sell(&server, "after the death");
    let third = log_with(&source, told.clone(), Some(spool.path())).await.unwrap();
    assert_eq!(from(&third.1).time, told.time, "the log goes on");
    brought_back(&copy, &dump, &[&first, &second, &third], None).await;
    assert_eq!(sold(&copy), format!("{all},after the death"));
}

#[tokio::test]
async fn a_server_of_mysql_that_numbers_nothing_is_read_at_its_slots_only() {
    let server = Mysql::start_with(&["--gtid-mode=OFF", "--skip-log-replica-updates"]);
    till(&server);
    let source = server.root(&[]);
    let remedies = source.lacks(&[Kind::Full, Kind::Log].into()).await.unwrap();
    assert!(remedies.iter().any(|lack| lack.remedy.contains("gtid-mode = ON")), "{remedies:?}");
    let dump = captured(&source).await;
    sell(&server, "after the dump");
    let first = log(&source, end(&dump.1)).await;
    assert!(!end(&first.1).position.contains("gtid"), "{:?}", end(&first.1));
    sell(&server, "in no artifact");
    brought_back(&server, &dump, &[&first], None).await;
    assert_eq!(sold(&server), "before the dump,after the dump");
    let spool = tempfile::tempdir().unwrap();
    let (stop, witness) = (tokio_util::sync::CancellationToken::new(), Blind);
    let reading = backstay::sources::Reading { spool: spool.path(), stop: &stop, witness: &witness };
    let read = source.read_log(&reading).await.unwrap();
    assert!(matches!(&read, Read::NotReadable(why) if why.contains("gtid_mode")), "{read:?}");
}

struct Blind;

impl backstay::sources::Witness for Blind {
    fn saw(&self, _: backstay::sources::Progress) {}
}
