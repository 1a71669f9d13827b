//! The binary log of a real MariaDB: captured without a gap, and replayed up to any second.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::lab::{held::Held, mariadb::MariaDb, moments::Slow};
use super::source_conformance::{Collected, captured, request};
use backstay::{
    artifact::{
        Kind,
        manifest::{Edge, Moment},
        position::LogPosition,
        transactions::{Transaction, Transactions},
        until::Until,
    },
    sources::{CaptureRequest, Captured, Place, Replay, Source},
};
use jiff::Timestamp;

pub fn till(server: &MariaDb) {
    server.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.sale (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(20))",
    );
    server.sql("CREATE DATABASE other; CREATE TABLE other.t (a INT)");
    server.sql("GRANT REPLICATION SLAVE ON *.* TO backup@'127.0.0.1'");
    sell(server, "before the dump");
}

pub fn sell(server: &MariaDb, what: &str) {
    server.sql(&format!("INSERT INTO shop.sale (what) VALUES ('{what}')"));
}

pub fn sold(server: &MariaDb) -> String {
    server.sql("SELECT GROUP_CONCAT(what ORDER BY id) FROM shop.sale")
}

pub fn end(captured: &Captured) -> Edge {
    match &captured.moment {
        Moment::At { time, position } => Edge { time: *time, position: position.clone().unwrap() },
        Moment::Window { until, .. } => until.clone(),
    }
}

pub fn from(captured: &Captured) -> &Edge {
    match &captured.moment {
        Moment::Window { from, .. } => from,
        Moment::At { .. } => panic!("no window"),
    }
}

async fn log(source: &dyn Source, continues: Edge) -> (Vec<u8>, Captured) {
    let request = CaptureRequest { kind: Kind::Log, continues: Some(continues), ..request() };
    let mut sink = Collected::default();
    let captured = source.capture(&request, &mut sink).await.expect("the log is captured");
    (sink.stream(), captured)
}

pub async fn replayed(server: &MariaDb, stream: &[u8], place: &Place, replay: &Replay) {
    let mut stream = stream;
    server.root(&[]).replay(&mut stream, place, replay).await.expect("the log is replayed");
    assert!(stream.is_empty(), "its stream is read to the end");
}

#[tokio::test]
async fn a_log_brings_a_database_back_to_any_second() {
    let server = MariaDb::start();
    till(&server);
    let source = server.source(&[]);
    let (dump, full) = captured(&source).await;
    sell(&server, "after the dump");
    server.sql("INSERT INTO other.t VALUES (1)");
    let (first, first_log) = log(&source, end(&full)).await;
    sell(&server, "in the second log");
    server.sql("CREATE TABLE shop.later (a INT); INSERT INTO shop.later VALUES (7)");
    let disaster = server.next_second();
    server.sql("DELETE FROM shop.sale; DROP TABLE shop.later");
    let (second, second_log) = log(&source, end(&first_log)).await;
    let [goes_on, ended] = [from(&second_log).position.clone(), end(&first_log).position];
    assert_eq!(LogPosition::parse(&goes_on), LogPosition::parse(&ended), "nothing is left out between them");
    assert!(sold(&server) == "NULL");

    for (until, expect) in
        [(Some(disaster), "before the dump,after the dump,in the second log"), (None, "NULL")]
    {
        let until = until.map(Until::Moment);
        let root = server.root(&[]);
        root.make_way().await.unwrap();
        root.restore(&mut dump.stream().as_slice(), &Place::Original).await.unwrap();
        let begin = Replay { from: end(&full).position, until: until.clone() };
        replayed(&server, &first, &Place::Original, &begin).await;
        let then = Replay { from: end(&first_log).position, until: until.clone() };
        replayed(&server, &second, &Place::Original, &then).await;
        assert_eq!(sold(&server), expect, "as of {until:?}");
        assert_eq!(server.sql("SELECT COUNT(*) FROM other.t"), "1", "all databases are as they were");
    }
}

#[tokio::test]
async fn a_dump_is_of_the_moment_of_its_view_and_a_log_of_that_of_its_end() {
    let server = MariaDb::start();
    till(&server);
    server.sql("CREATE TABLE shop.filler AS SELECT seq, REPEAT(MD5(seq), 60) AS t FROM shop.seq_1_to_3000");
    let source = server.source(&[]);
    let (mut dump, asked) = (Slow::default(), Timestamp::now());
    let full = source.capture(&request(), &mut dump).await.unwrap();
    let moment = full.moment.newest();
    assert!(asked <= moment && moment < dump.last, "{asked} {moment} {}", dump.last);
    let (mut piece, before) = (Slow::default(), Timestamp::now());
    let continues = Some(end(&full));
    let request = CaptureRequest { kind: Kind::Log, continues, ..request() };
    let log = source.capture(&request, &mut piece).await.unwrap();
    assert!(before <= log.moment.newest() && log.moment.newest() < piece.last, "{:?}", log.moment);
}

#[tokio::test]
async fn a_log_that_was_reset_is_not_taken_for_the_one_of_before_however_far_its_numbers_have_come() {
    let server = MariaDb::start();
    till(&server);
    let source = server.source(&[]);
    (0..3).for_each(|_| drop(server.sql("FLUSH BINARY LOGS")));
    sell(&server, "of the old log");
    let (_, full) = captured(&source).await;
    let (_, old_log) = log(&source, end(&full)).await;
    assert!(end(&full).position.contains("gtid 0-") && end(&old_log).position.contains("gtid 0-"));
    server.sql("RESET MASTER");
    for n in 0..9 {
        sell(&server, &format!("of the new log {n}"));
        server.sql("FLUSH BINARY LOGS");
    }
    // Both the dump's place and the log's are places of the new log, too, by their numbers.
    for last in [&full, &old_log] {
        let edge = end(last);
        assert_eq!(source.log_is_stored(&edge).await.unwrap(), "");
        let (stream, apart) = log(&source, edge.clone()).await;
        assert_eq!(
            (from(&apart), &*stream),
            (&end(&apart), &[0; 1024][..]),
            "a gap is told, and nothing else"
        );
        assert!(from(&apart).time > edge.time);
        let none =
            LogPosition::parse(&from(&apart).position).partial_cmp(&LogPosition::parse(&edge.position));
        assert!(none.is_none() || none == Some(std::cmp::Ordering::Greater), "{none:?}");
    }
    let purging = server.purging();
    let files = || {
        let listed = server.sql("SHOW BINARY LOGS");
        listed.lines().filter_map(|line| line.split('\t').next()).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = files();
    assert_eq!(purging.log_is_stored(&end(&old_log)).await.unwrap(), "");
    assert_eq!(files(), before, "no file of the new log is purged for the old one");
    let (dump, anew) = captured(&source).await;
    sell(&server, "after the new full");
    let (stream, goes_on) = log(&source, end(&anew)).await;
    assert_eq!(from(&goes_on).time, end(&anew).time);
    let root = server.root(&[]);
    root.make_way().await.unwrap();
    root.restore(&mut dump.stream().as_slice(), &Place::Original).await.unwrap();
    let replay = Replay { from: end(&anew).position, until: None };
    replayed(&server, &stream, &Place::Original, &replay).await;
    assert!(sold(&server).ends_with("of the new log 8,after the new full"));
    // Artifacts of before did not tell of transactions.
    let older = Edge { time: end(&anew).time, position: without_gtid(&end(&anew).position) };
    assert_eq!(from(&log(&source, older).await.1).time, end(&anew).time);
}

fn without_gtid(position: &str) -> String {
    position.split(", ").filter(|piece| !piece.starts_with("gtid ")).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn a_replica_that_takes_over_begins_anew_and_both_windows_reach_their_transactions() {
    let primary = MariaDb::start();
    till(&primary);
    let replica = primary.replica();
    replica.sql("GRANT REPLICATION SLAVE ON *.* TO backup@'127.0.0.1'");
    let (dump, full) = captured(&primary.source(&[])).await;
    sell(&primary, "on the primary");
    let wanted: Transaction = primary.sql("SELECT @@gtid_binlog_pos").parse().unwrap();
    sell(&primary, "too much");
    let (stream, logged) = log(&primary.source(&[]), end(&full)).await;
    replica.take_over_from(&primary);
    sell(&replica, "on the replica");
    let (_, apart) = log(&replica.source(&[]), end(&logged)).await;
    assert!(from(&apart).time > end(&logged).time, "a gap is told: {:?}", apart.moment);
    let last = end(&logged);
    let places = [from(&apart), &last].map(|edge| LogPosition::parse(&edge.position));
    assert_eq!(places[0].partial_cmp(&places[1]), None);
    let (relief, anew) = captured(&replica.source(&[])).await;
    sell(&replica, "wanted");
    let later: Transaction = replica.sql("SELECT @@gtid_binlog_pos").parse().unwrap();
    let of_server = |one: &Transaction, server| one.to_string().starts_with(&format!("0-{server}-"));
    assert!(of_server(&wanted, 7) && of_server(&later, 8), "{later} {wanted}");
    sell(&replica, "too much");
    let (relief_log, _) = log(&replica.source(&[]), end(&anew)).await;
    let copy = MariaDb::start();
    for (dump, log, at, until, expect) in [
        (&dump, &stream, &full, wanted, "on the primary"),
        (&relief, &relief_log, &anew, later, "on the replica,wanted"),
    ] {
        let root = copy.root(&[]);
        if copy.sql("SHOW DATABASES LIKE 'shop'") == "shop" {
            root.make_way().await.unwrap();
        }
        root.restore(&mut dump.stream().as_slice(), &Place::Original).await.unwrap();
        let replay = Replay { from: end(at).position, until: Some(Until::Transaction(until)) };
        replayed(&copy, log, &Place::Original, &replay).await;
        assert!(
            sold(&copy).ends_with(expect) && !sold(&copy).ends_with("too much,too much"),
            "{}",
            sold(&copy)
        );
    }
}

#[tokio::test]
async fn a_log_brings_a_database_back_to_a_place_in_it_and_to_a_transaction() {
    let (server, other) = (MariaDb::start(), MariaDb::start());
    till(&server);
    let source = server.source(&[]);
    let (dump, full) = captured(&source).await;
    sell(&server, "after the dump");
    server.sql("FLUSH BINARY LOGS");
    sell(&server, "in the second file");
    let place = server.sql("SHOW MASTER STATUS").split('\t').take(2).collect::<Vec<_>>().join(":");
    server.sql("SET gtid_domain_id = 5; INSERT INTO shop.sale (what) VALUES ('of another domain')");
    sell(&server, "the last wanted");
    let pick = "SELECT SUBSTRING_INDEX(SUBSTRING_INDEX(CONCAT(',', @@gtid_binlog_pos), ',0-', -1), ',', 1)";
    let transaction: Transaction = format!("0-{}", server.sql(pick)).parse().unwrap();
    sell(&server, "behind it");
    server.sql(
        "FLUSH BINARY LOGS; SET gtid_domain_id = 5; INSERT INTO shop.sale (what) VALUES ('another again')",
    );
    let (stream, captured) = log(&source, end(&full)).await;
    let ends = Transactions::of_position(&end(&captured).position);
    let last = format!("0-{}", server.sql(pick));
    assert_ne!(last, transaction.to_string());
    assert!([last.as_str(), "5-7-2"].iter().all(|end| ends.to_string().contains(end)), "{ends} {last}");

    let scratch = tempfile::tempdir().unwrap();
    for (until, expect) in [
        (Until::Place(place.parse().unwrap()), "before the dump,after the dump,in the second file"),
        (
            Until::Transaction(transaction),
            "before the dump,after the dump,in the second file,of another domain,the last wanted",
        ),
    ] {
        let replay = Replay { from: end(&full).position, until: Some(until.clone()) };
        let root = server.root(&[]);
        root.make_way().await.unwrap();
        root.restore(&mut dump.stream().as_slice(), &Place::Original).await.unwrap();
        replayed(&server, &stream, &Place::Original, &replay).await;
        assert_eq!(sold(&server), expect, "up to {until}");

        let folder = scratch.path().join(until.to_string());
        let place = Place::Folder(folder.clone());
        source.restore(&mut dump.stream().as_slice(), &place).await.unwrap();
        replayed(&server, &stream, &place, &replay).await;
        client(&other, &folder, &["-c", "mariadb \"$@\" <databases.sql && ./replay.sh \"$@\"", "sh"]);
        assert_eq!(sold(&other), expect, "by the script, up to {until}");
        other.sql("DROP DATABASE shop");
    }
}

#[tokio::test]
async fn a_folder_has_a_script_that_replays_the_log_on_another_server() {
    let (server, other) = (MariaDb::start(), MariaDb::start());
    till(&server);
    let source = server.source(&[]);
    let (dump, full) = captured(&source).await;
    sell(&server, "after the dump");
    let disaster = server.next_second();
    server.sql("DROP TABLE shop.sale");
    let (stream, _) = log(&source, end(&full)).await;

    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("restored");
    let place = Place::Folder(folder.clone());
    source.restore(&mut dump.stream().as_slice(), &place).await.unwrap();
    let replay = Replay { from: end(&full).position, until: Some(Until::Moment(disaster)) };
    replayed(&server, &stream, &place, &replay).await;

    client(&other, &folder, &["-c", "mariadb \"$@\" <databases.sql && ./replay.sh \"$@\"", "sh"]);
    assert_eq!(sold(&other), "before the dump,after the dump");
}

/// A shell in `folder`, as the page of the documents says, with the client's options for `server`.
fn client(server: &MariaDb, folder: &Path, arguments: &[&str]) {
    let options = folder.join("client.cnf");
    fs::write(&options, format!("[client]\nsocket={}\nuser=root\n", server.socket().display())).unwrap();
    let mut shell = Command::new("sh");
    shell.args(arguments).arg(format!("--defaults-file={}", options.display())).current_dir(folder);
    let ran = shell.stdout(Stdio::null()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
async fn what_was_purged_before_it_was_read_shows_where_the_log_begins() {
    let server = MariaDb::start();
    till(&server);
    let source = server.source(&[]);
    let (_, full) = captured(&source).await;
    sell(&server, "purged");
    server.purge_all_binary_logs();
    sell(&server, "kept");
    let (_, gapped) = log(&source, end(&full)).await;
    assert!(from(&gapped).position.starts_with("bin.000002:4,"), "{:?}", from(&gapped));
    assert_ne!(from(&gapped).time, end(&full).time, "it is not said to be whole since the dump");
}

#[tokio::test]
async fn a_log_does_not_go_on_from_a_dump_of_some_databases_or_of_another_server() {
    let (server, other) = (MariaDb::start(), MariaDb::start());
    till(&server);
    till(&other);
    let (_, part) = captured(&server.source(&["shop"])).await;
    let (_, elsewhere) = captured(&other.source(&[])).await;
    for base in [part, elsewhere] {
        let (_, unjoined) = log(&server.source(&[]), end(&base)).await;
        assert_ne!(from(&unjoined).time, end(&base).time, "after {:?}", base.moment);
    }
    let refused = server.root(&["shop"]).make_way().await.unwrap_err().to_string();
    assert!(refused.contains("the whole server"), "{refused}");
    assert_eq!(sold(&server), "before the dump", "a refusal changes nothing");
}

#[tokio::test]
async fn a_server_that_dies_or_lacks_a_grant_leaves_no_log() {
    let mut server = MariaDb::start();
    till(&server);
    let source = server.source(&[]);
    let (_, full) = captured(&source).await;
    let request = CaptureRequest { kind: Kind::Log, continues: Some(end(&full)), ..request() };
    server.sql("REVOKE REPLICATION SLAVE ON *.* FROM backup@'127.0.0.1'");
    let refused = source.capture(&request, &mut Collected::default()).await.unwrap_err().to_string();
    assert!(refused.contains("GRANT REPLICATION SLAVE"), "{refused}");
    server.kill();
    source.capture(&request, &mut Collected::default()).await.expect_err("a dead server has no log");
}

#[test]
fn a_log_in_the_middle_of_many_writes_is_whole() {
    let server = MariaDb::start();
    till(&server);
    let source = server.source(&[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (dump, full) = runtime.block_on(captured(&source));
    let mut place = end(&full);
    let mut logs = Vec::new();
    let write = || {
        let statement = "INSERT INTO shop.sale (what) SELECT REPEAT('x', 20) FROM shop.seq_1_to_500;";
        (0..30).for_each(|_| drop(server.sql(&statement.repeat(4))));
    };
    std::thread::scope(|threads| {
        let writer = threads.spawn(write);
        let mut is_last = false;
        while !is_last {
            is_last = writer.is_finished();
            let begins = place.position.clone();
            let (stream, captured) = runtime.block_on(log(&source, place.clone()));
            place = end(&captured);
            logs.push((begins, stream));
        }
    });
    assert!(logs.len() > 1, "there was a log while somebody wrote");
    let before = server.sql("CHECKSUM TABLE shop.sale");
    let root = server.root(&[]);
    runtime.block_on(async {
        root.make_way().await.unwrap();
        root.restore(&mut dump.stream().as_slice(), &Place::Original).await.unwrap();
        for (from, stream) in logs {
            replayed(&server, &stream, &Place::Original, &Replay { from, until: None }).await;
        }
    });
    assert_eq!(server.sql("CHECKSUM TABLE shop.sale"), before);
}

#[tokio::test]
async fn accounts_made_or_dropped_since_the_dump_do_not_stand_in_the_way_of_a_recovery_in_place() {
    let server = MariaDb::start();
    till(&server);
    server.sql("CREATE USER leaving@'%'; CREATE ROLE clerk; GRANT SELECT ON shop.* TO clerk");
    let source = server.source(&[]);
    let (dump, full) = captured(&source).await;
    server.sql(
        "CREATE USER app@'%' IDENTIFIED BY 'first'; GRANT INSERT ON shop.* TO app@'%'; CREATE ROLE boss;
         DROP USER leaving@'%'; create user brief@'%'; drop user brief@'%';\nDELIMITER //\n\
         CREATE PROCEDURE shop.hire()\nBEGIN\nCREATE USER hired;\nDROP USER hired;\nEND//\nDELIMITER ;\n",
    );
    sell(&server, "after the accounts");
    let disaster = server.next_second();
    server.sql(
        "GRANT ALL ON *.* TO app@'%'; SET PASSWORD FOR app@'%' = PASSWORD('later'); DELETE FROM shop.sale",
    );
    let (stream, _) = log(&source, end(&full)).await;

    let root = server.root(&[]);
    root.make_way().await.unwrap();
    root.restore(&mut dump.stream().as_slice(), &Place::Original).await.unwrap();
    let replay = Replay { from: end(&full).position, until: Some(Until::Moment(disaster)) };
    replayed(&server, &stream, &Place::Original, &replay).await;
    assert_eq!(sold(&server), "before the dump,after the accounts");
    let grants = server.sql("SHOW GRANTS FOR app@'%'");
    assert!(grants.contains("INSERT ON `shop`") && !grants.contains("ALL PRIVILEGES"), "{grants}");
    let there = "SELECT GROUP_CONCAT(user ORDER BY user) FROM mysql.user WHERE user IN ('app', 'leaving', 'brief', 'boss', 'clerk')";
    assert_eq!(server.sql(there), "app,boss,clerk");
    let body =
        server.sql("SELECT routine_definition FROM information_schema.routines WHERE routine_name = 'hire'");
    assert!(body.contains("\\nCREATE USER hired;\\nDROP USER hired;"), "a body is what it was: {body}");
}

#[test]
fn a_server_that_goes_down_in_the_middle_of_a_log_fails_it_and_the_next_one_has_it_whole() {
    let mut server = MariaDb::start();
    till(&server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (dump, full) = runtime.block_on(captured(&server.source(&[])));
    server.sql("CREATE TABLE shop.bulk AS SELECT seq, REPEAT(MD5(seq), 30) AS what FROM shop.seq_1_to_20000");
    let source = server.source(&[]);
    let request = CaptureRequest { kind: Kind::Log, continues: Some(end(&full)), ..request() };
    let (mut sink, waited) = Held::after(1 << 20);
    let asked = request.clone();
    let capture = std::thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(async { source.capture(&asked, &mut sink).await })
    });
    let go = waited.recv().expect("the log begins");
    server.restart();
    go.send(()).unwrap();
    let error = capture.join().unwrap().expect_err("half a log does not count");
    assert!(!format!("{error:?}").contains("s3cr#t"), "{error:?}");
    sell(&server, "after the restart");

    let (stream, whole) = runtime.block_on(log(&server.source(&[]), end(&full)));
    assert_eq!(from(&whole).time, end(&full).time, "nothing is missing");
    let before = server.sql("CHECKSUM TABLE shop.sale, shop.bulk");
    let root = server.root(&[]);
    runtime.block_on(async {
        root.make_way().await.unwrap();
        root.restore(&mut dump.stream().as_slice(), &Place::Original).await.unwrap();
        let replay = Replay { from: end(&full).position, until: None };
        replayed(&server, &stream, &Place::Original, &replay).await;
    });
    assert_eq!(server.sql("CHECKSUM TABLE shop.sale, shop.bulk"), before);
}
