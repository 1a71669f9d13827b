//! The reader of a real MariaDB's binary log: what it has outlives the server, and is never taken for more than it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use backstay::{
    artifact::{Kind, manifest::Edge, position::LogPosition, transactions::Transactions, until::Until},
    sources::{CaptureRequest, Captured, Place, Replay, Source, SourceError},
    stores::Class,
};
use jiff::Timestamp;
use tempfile::TempDir;

use super::{
    lab::{
        READY,
        mariadb::MariaDb,
        proxy::{Break, Proxy},
        reader::Reader,
        wait_until,
    },
    mysql_log::{end, from, replayed, sell, sold, till},
    source_conformance::{Collected, captured, request},
};

async fn log_with(
    source: &dyn Source,
    continues: Edge,
    spool: &Path,
) -> Result<(Vec<u8>, Captured), SourceError> {
    let request = CaptureRequest {
        kind: Kind::Log,
        continues: Some(continues),
        spool: Some(spool.to_owned()),
        ..request()
    };
    let mut sink = Collected::default();
    let captured = source.capture(&request, &mut sink).await?;
    Ok((sink.stream(), captured))
}

fn stretch(spool: &TempDir) -> PathBuf {
    spool.path().join("log-000001")
}

/// Has the server make durable what it tells: one that was killed would else lose what its binary log has.
fn durable(server: &MariaDb) {
    server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1");
}

/// Waits until the reader has all that was written.
fn all_read(server: &MariaDb, spool: &TempDir) {
    let listed = server.sql("SHOW MASTER STATUS");
    let mut status = listed.split('\t');
    let (file, size) = (status.next().unwrap(), status.next().unwrap().parse::<u64>().unwrap());
    let folders = || fs::read_dir(spool.path()).unwrap().map(|entry| entry.unwrap().path());
    let has = |folder: PathBuf| folder.join(file).metadata().is_ok_and(|found| found.len() >= size);
    wait_until("the reader has it all", READY, || folders().any(has));
}

/// Restores the dump and the logs behind it over a server.
async fn brought_back(
    server: &MariaDb,
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

fn place(edge: &Edge) -> Option<LogPosition<'_>> {
    LogPosition::parse(&edge.position)
}

#[tokio::test]
async fn what_was_committed_before_the_server_died_between_two_slots_comes_back() {
    let mut server = MariaDb::start();
    till(&server);
    durable(&server);
    let source = server.source(&[]);
    let dump = captured(&source).await;
    let spool = tempfile::tempdir().unwrap();
    let reader = Reader::start(server.source(&[]), spool.path()).await;
    sell(&server, "in the first log");
    let first = log_with(&source, end(&dump.1), spool.path()).await.unwrap();
    sell(&server, "behind the slot");
    server.sql("FLUSH BINARY LOGS");
    server.sql("CREATE TABLE shop.later (a INT); INSERT INTO shop.later VALUES (7)");
    let second_of_last = server.next_second();
    sell(&server, "the last one");
    let last = server.sql("SELECT @@GLOBAL.gtid_binlog_pos");
    all_read(&server, &spool);
    server.kill();
    let failed = reader.ended().await;
    assert_eq!(failed.class, Class::Retry, "{failed}");

    let second = log_with(&source, end(&first.1), spool.path()).await.unwrap();
    assert_eq!(place(from(&second.1)), place(&end(&first.1)), "nothing is left out");
    let told = end(&second.1);
    assert!(told.time >= second_of_last && told.time <= Timestamp::now(), "{told:?}");
    assert_eq!(Transactions::of_position(&told.position).to_string(), last, "{told:?}");
    let again = log_with(&source, told.clone(), spool.path()).await.unwrap_err();
    assert_eq!(again.class, Class::Retry, "there is no more, and no server: {again}");

    let copy = MariaDb::start();
    brought_back(&copy, &dump, &[&first, &second], None).await;
    let all = "before the dump,in the first log,behind the slot,the last one";
    assert_eq!(sold(&copy), all);
    assert_eq!(copy.sql("SELECT a FROM shop.later"), "7");
    let until = Some(Until::Moment(told.time));
    brought_back(&copy, &dump, &[&first, &second], until).await;
    assert_eq!(sold(&copy), "before the dump,in the first log,behind the slot");

    // The server comes back, and the log goes on with the file in which it ended.
    server.restart();
    sell(&server, "after the death");
    let third = log_with(&server.source(&[]), told.clone(), spool.path()).await.unwrap();
    assert!(place(from(&third.1)) <= place(&told) && from(&third.1).time == told.time, "the log goes on");
    brought_back(&copy, &dump, &[&first, &second, &third], None).await;
    assert_eq!(sold(&copy), format!("{all},after the death"));
}

#[tokio::test]
async fn a_log_that_ended_within_a_file_is_replayed_from_a_folder_once() {
    let mut server = MariaDb::start();
    till(&server);
    durable(&server);
    let source = server.source(&[]);
    let dump = captured(&source).await;
    let spool = tempfile::tempdir().unwrap();
    let reader = Reader::start(server.source(&[]), spool.path()).await;
    sell(&server, "read ahead");
    all_read(&server, &spool);
    server.kill();
    reader.ended().await;
    let first = log_with(&source, end(&dump.1), spool.path()).await.unwrap();
    server.restart();
    sell(&server, "after the death");
    let second = log_with(&server.source(&[]), end(&first.1), spool.path()).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("restored"));
    let root = server.root(&[]);
    root.restore(&mut dump.0.stream().as_slice(), &place).await.unwrap();
    let begin = Replay { from: end(&dump.1).position, until: None };
    replayed(&server, &first.0, &place, &begin).await;
    let then = Replay { from: end(&first.1).position, until: None };
    replayed(&server, &second.0, &place, &then).await;
    let copy = MariaDb::start();
    let restored = folder.path().join("restored");
    let load = fs::File::open(restored.join("databases.sql")).unwrap();
    let socket = format!("--socket={}", copy.socket().display());
    let run = |mut command: Command, input: Stdio| {
        let run = command.args(["--no-defaults", &socket, "--user=root"]).stdin(input).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    run(Command::new("mariadb"), load.into());
    run(Command::new(restored.join("replay.sh")), Stdio::null());
    assert_eq!(sold(&copy), "before the dump,read ahead,after the death");
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was_and_loses_nothing_while_it_begins_a_file_anew() {
    let mut server = MariaDb::start();
    till(&server);
    durable(&server);
    let source = server.source(&[]);
    let dump = captured(&source).await;
    let spool = tempfile::tempdir().unwrap();
    let proxy = Proxy::to(server.port());
    let through = |port| server.source_at(port);
    let reader = Reader::start(through(proxy.port()), spool.path()).await;
    sell(&server, "before the cut");
    all_read(&server, &spool);
    proxy.break_after(0, Break::Cut);
    sell(&server, "while it was cut");
    assert_eq!(reader.ended().await.class, Class::Retry);
    // It begins the file anew, and the server dies at once: what was read of the file before is there.
    let file = server.sql("SHOW MASTER STATUS").split('\t').next().unwrap().to_owned();
    fs::rename(stretch(&spool).join(&file), stretch(&spool).join(format!("{file}.before"))).unwrap();
    let whole = fs::read(stretch(&spool).join(format!("{file}.before"))).unwrap();
    fs::write(stretch(&spool).join(&file), &whole[..whole.len() / 2]).unwrap();
    let dead = server.source_at(1);
    let half = log_with(&dead, end(&dump.1), spool.path()).await.unwrap();
    let copy = MariaDb::start();
    brought_back(&copy, &dump, &[&half], None).await;
    assert_eq!(sold(&copy), "before the dump,before the cut");

    proxy.mend();
    let reader = Reader::start(through(proxy.port()), spool.path()).await;
    all_read(&server, &spool);
    wait_until("what was set aside has come again", READY, || {
        !stretch(&spool).join(format!("{file}.before")).exists()
    });
    reader.stop().await.unwrap();
    server.restart();
    sell(&server, "after the restart");
    let reader = Reader::start(server.source(&[]), spool.path()).await;
    all_read(&server, &spool);
    server.kill();
    reader.ended().await;
    assert!(!spool.path().join("log-000002").exists(), "it is one stretch");
    let all = log_with(&source, end(&dump.1), spool.path()).await.unwrap();
    brought_back(&copy, &dump, &[&all], None).await;
    assert_eq!(sold(&copy), "before the dump,before the cut,while it was cut,after the restart");
}

#[tokio::test]
async fn files_are_taken_from_the_reader_where_they_are_whole_and_leave_it_once_they_are_stored() {
    let server = MariaDb::start();
    till(&server);
    durable(&server);
    let source = server.source(&[]);
    let dump = captured(&source).await;
    let spool = tempfile::tempdir().unwrap();
    let reader = Reader::start(server.source(&[]), spool.path()).await;
    for what in ["in the first file", "in the second file", "in the third file"] {
        sell(&server, what);
        server.sql("FLUSH BINARY LOGS");
    }
    all_read(&server, &spool);
    reader.stop().await.unwrap();
    sell(&server, "behind the reader");
    let mut files: Vec<PathBuf> =
        fs::read_dir(stretch(&spool)).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some());
    files.sort_unstable();
    assert!(files.len() >= 3, "{files:?}");
    let mut damaged = fs::read(&files[1]).unwrap();
    let at = damaged.len() - 30;
    damaged[at] ^= 1;
    fs::write(&files[1], damaged).unwrap();
    let with = log_with(&source, end(&dump.1), spool.path()).await.unwrap();
    let without = captured_without(&source, end(&dump.1)).await;
    let common = without.len() - (without.len() - with.0.len()).min(without.len());
    assert!(
        without.starts_with(&with.0[..common.saturating_sub(1024)]),
        "they are the server's files, byte by byte"
    );
    let copy = MariaDb::start();
    brought_back(&copy, &dump, &[&with], None).await;
    let all = "before the dump,in the first file,in the second file,in the third file,behind the reader";
    assert_eq!(sold(&copy), all);
    source.trim_spool(spool.path(), &end(&with.1)).await.unwrap();
    let left = files.iter().filter(|path| path.exists()).count();
    assert_eq!(left, 1, "the newest only: {files:?}");
}

async fn captured_without(source: &dyn Source, continues: Edge) -> Vec<u8> {
    let request = CaptureRequest { kind: Kind::Log, continues: Some(continues), ..request() };
    let mut sink = Collected::default();
    source.capture(&request, &mut sink).await.unwrap();
    sink.stream()
}

#[tokio::test]
async fn another_server_at_the_address_does_not_cost_what_was_read_of_the_first() {
    let mut server = MariaDb::start();
    till(&server);
    let dump = captured(&server.source(&[])).await;
    let spool = tempfile::tempdir().unwrap();
    let reader = Reader::start(server.source(&[]), spool.path()).await;
    sell(&server, "the last one");
    all_read(&server, &spool);
    server.kill();
    reader.ended().await;
    let other = MariaDb::start();
    till(&other);
    let reader = Reader::start(other.source(&[]), spool.path()).await;
    let rest = log_with(&other.source(&[]), end(&dump.1), spool.path()).await.unwrap();
    assert_eq!(from(&rest.1).time, end(&dump.1).time, "the log of the first goes on to its end");
    let copy = MariaDb::start();
    brought_back(&copy, &dump, &[&rest], None).await;
    assert_eq!(sold(&copy), "before the dump,the last one");
    let next = log_with(&other.source(&[]), end(&rest.1), spool.path()).await.unwrap();
    assert_eq!(place(from(&next.1)).partial_cmp(&place(&end(&rest.1))), None, "and then the other's begins");
    other.source(&[]).trim_spool(spool.path(), &end(&next.1)).await.unwrap();
    assert!(!stretch(&spool).exists(), "nothing goes on from the first any more");
    reader.stop().await.unwrap();
}

#[tokio::test]
async fn a_log_that_was_reset_does_not_go_on_with_what_a_reader_has_of_the_new_one() {
    let mut server = MariaDb::start();
    till(&server);
    durable(&server);
    let source = server.source(&[]);
    (0..3).for_each(|_| drop(server.sql("FLUSH BINARY LOGS")));
    // More transactions than the new log will have.
    (0..12).for_each(|n| drop(server.sql(&format!("CREATE TABLE shop.t{n} (a INT)"))));
    let dump = captured(&source).await;
    let (old_spool, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let reader = Reader::start(server.source(&[]), old_spool.path()).await;
    sell(&server, "of the old log");
    let logged = log_with(&source, end(&dump.1), old_spool.path()).await.unwrap();
    sell(&server, "and behind it");
    all_read(&server, &old_spool);
    reader.stop().await.unwrap();
    server.sql("RESET MASTER");
    let reader = Reader::start(server.source(&[]), spool.path()).await;
    for n in 0..9 {
        sell(&server, &format!("of the new log {n}"));
        server.sql("FLUSH BINARY LOGS");
    }
    all_read(&server, &spool);
    reader.stop().await.unwrap();
    // By their numbers, both places are places of the new log, too.
    for last in [&dump.1, &logged.1] {
        let (stream, apart) = log_with(&source, end(last), spool.path()).await.unwrap();
        assert_eq!(
            (from(&apart), &*stream),
            (&end(&apart), &[0; 1024][..]),
            "a gap is told, and nothing else"
        );
    }
    // What a reader had of the old log goes on to where that ended, and no further.
    let rest = log_with(&source, end(&logged.1), old_spool.path()).await.unwrap();
    assert_eq!(from(&rest.1).time, end(&logged.1).time);
    let copy = MariaDb::start();
    brought_back(&copy, &dump, &[&logged, &rest], None).await;
    assert_eq!(sold(&copy), "before the dump,of the old log,and behind it");
    let (_, apart) = log_with(&source, end(&rest.1), old_spool.path()).await.unwrap();
    assert_eq!(from(&apart), &end(&apart), "{:?}", apart.moment);
    // Nor do the new log's files follow those of the old one that a reader has.
    for file in fs::read_dir(stretch(&spool)).unwrap().map(Result::unwrap) {
        let to = stretch(&old_spool).join(file.file_name());
        if !to.exists() {
            fs::copy(file.path(), to).unwrap();
        }
    }
    server.kill();
    for last in [&dump.1, &logged.1] {
        let error = log_with(&source, end(last), spool.path()).await.unwrap_err();
        assert_eq!(error.class, Class::Retry, "{error}");
    }
    let again = log_with(&source, end(&logged.1), old_spool.path()).await.unwrap();
    assert_eq!(end(&again.1).position, end(&rest.1).position);
}
