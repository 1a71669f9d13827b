//! The files of a real MariaDB: copied while it runs, with increments and its log, and brought back to a folder that a server
//! starts on.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use backstay::{
    artifact::{
        Kind,
        manifest::{Edge, Moment},
        until::Until,
    },
    sources::{CaptureRequest, Captured, GoesOn, Place, Replay, Source, SourceError, mysql::MysqlSource},
    stores::Class,
};
use tempfile::TempDir;

use super::lab::{
    held::Held,
    mariadb::{MariaDb, PASSWORD},
};
use super::source_conformance::{Collected, captured, conforms, request, restored};

fn server() -> MariaDb {
    let server = MariaDb::start();
    server.let_files_be_copied();
    server.sql(
        "GRANT REPLICATION SLAVE ON *.* TO backup@'127.0.0.1'; CREATE DATABASE shop; USE shop;
         CREATE TABLE sale (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(100));
         CREATE TABLE old (id INT PRIMARY KEY, what VARCHAR(100)) ENGINE=MyISAM;
         INSERT INTO old VALUES (1, 'kept by MyISAM');",
    );
    sell(&server, "before the copy", 2000);
    server
}

fn sell(server: &MariaDb, what: &str, times: u32) {
    server.sql(&format!("INSERT INTO shop.sale (what) SELECT '{what}' FROM shop.seq_1_to_{times}"));
}

/// What a shop holds, table by table.
fn sums(server: &MariaDb) -> String {
    server.sql("CHECKSUM TABLE shop.sale, shop.old")
}

fn place_of(captured: &Captured) -> Edge {
    match &captured.moment {
        Moment::At { time, position } => Edge { time: *time, position: position.clone().unwrap() },
        Moment::Window { until, .. } => until.clone(),
    }
}

/// What changed since `base`.
async fn changes(source: &MysqlSource, kind: Kind, base: &Captured) -> (Collected, Captured) {
    let request = CaptureRequest { kind, continues: Some(place_of(base)), ..request() };
    let mut sink = Collected::default();
    let captured = source.capture(&request, &mut sink).await.expect("changes are captured");
    (sink, captured)
}

/// A folder for a server, in which `data` is the place of a restore.
fn beside() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    (folder, data)
}

#[tokio::test]
async fn a_copy_is_a_data_folder_that_a_server_starts_on() {
    let server = server();
    let source = server.files();
    let (sink, full) = captured(&source).await;
    let before = sums(&server);
    sell(&server, "after the copy", 10);
    let position = place_of(&full).position;
    for piece in ["bin.000001:", "gtid 0-7-", "lsn ", "files ", "server "] {
        assert!(position.contains(piece), "{position}");
    }
    assert!(
        full.details.versions["copy"].starts_with("mariadb-backup based on MariaDB"),
        "{:?}",
        full.details
    );

    let (folder, data) = beside();
    let place = Place::Folder(data.clone());
    restored(&source, &sink.stream(), &place).await.unwrap();
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    let again = restored(&source, &sink.stream(), &place).await.unwrap_err();
    assert!(again.to_string().contains("not empty"), "{again}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    let copy = MariaDb::start_on(folder);
    assert_eq!(sums(&copy), before);
    assert_eq!(copy.sql("SELECT COUNT(*) FROM mysql.user WHERE user = 'backup'"), "1", "accounts come along");
}

#[tokio::test]
async fn files_conform_and_go_nowhere_but_to_a_folder_or_a_file() {
    let (server, scratch) = (server(), tempfile::tempdir().unwrap());
    let source = server.files();
    conforms(&source, scratch.path()).await;
    let (sink, _) = captured(&source).await;
    let taken = scratch.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("precious"), "mine").unwrap();
    for place in [Place::Database("copy".to_owned()), Place::Original, Place::Folder(taken.clone())] {
        restored(&source, &sink.stream(), &place).await.expect_err("it is no place for files");
    }
    assert!(source.make_way().await.is_err(), "nothing is dropped for files");
    assert_eq!(fs::read_to_string(taken.join("precious")).unwrap(), "mine");
    assert_eq!(server.sql("SELECT COUNT(*) FROM shop.old"), "1", "a refusal changes nothing");
    // However the server is captured now, what was captured before comes back.
    let (_folder, data) = beside();
    restored(&server.source(&[]), &sink.stream(), &Place::Folder(data.clone())).await.unwrap();
    assert!(data.join("ibdata1").exists());
}

#[tokio::test]
async fn increments_hold_only_what_changed_and_add_up_in_order() {
    let server = server();
    let source = server.files();
    sell(&server, "in the full", 50_000);
    server.checkpoint();
    let (full, at_full) = captured(&source).await;
    let mut streams = vec![full.stream()];
    let mut last = at_full.clone();
    for what in ["first", "second"] {
        sell(&server, what, 300);
        server.sql(&format!("CREATE TABLE shop.{what} AS SELECT * FROM shop.sale LIMIT 10"));
        server.checkpoint();
        assert_eq!(source.goes_on_from(&place_of(&last)).await.unwrap(), GoesOn::Yes);
        let (sink, captured) = changes(&source, Kind::Incremental, &last).await;
        assert!(sink.stream().len() * 2 < full.stream().len(), "it is no whole copy");
        streams.push(sink.stream());
        last = captured;
    }
    let (differential, _) = changes(&source, Kind::Differential, &at_full).await;
    let before = sums(&server);

    for chain in [vec![&streams[0], &streams[1], &streams[2]], vec![&streams[0], &differential.stream()]] {
        let (folder, data) = beside();
        let place = Place::Folder(data);
        for stream in chain {
            restored(&source, stream, &place).await.unwrap();
        }
        let copy = MariaDb::start_on(folder);
        assert_eq!(sums(&copy), before);
        assert_eq!(copy.sql("SELECT COUNT(*) FROM shop.second"), "10");
    }
    let (_folder, data) = beside();
    let lone = restored(&source, &streams[1], &Place::Folder(data.clone())).await.unwrap_err();
    assert!(lone.to_string().contains("only changes") && !data.exists(), "{lone}");
    restored(&source, &streams[0], &Place::Folder(data.clone())).await.unwrap();
    let out_of_order = restored(&source, &streams[2], &Place::Folder(data.clone())).await.unwrap_err();
    assert!(out_of_order.to_string().contains("incomplete"), "{out_of_order}");
    assert!(
        !source.adds_up(&Place::File(data.join("x")))
            && source.join(&data, &Place::File(data.join("x"))).await.is_err()
    );
}

#[tokio::test]
async fn increments_do_not_go_on_from_what_the_data_did_not_come_of() {
    let mut server = server();
    let (_, full) = captured(&server.files()).await;
    server.restart();
    assert_eq!(
        server.files().goes_on_from(&place_of(&full)).await.unwrap(),
        GoesOn::Yes,
        "a restart is no matter"
    );
    let dump = Edge { position: "bin.000001:400, gtid 0-7-3, server x".to_owned(), ..place_of(&full) };
    assert!(matches!(server.files().goes_on_from(&dump).await.unwrap(), GoesOn::No(_)));
    server.sql("RESET MASTER");
    let reset = server.files().goes_on_from(&place_of(&full)).await.unwrap();
    assert!(matches!(&reset, GoesOn::No(why) if why.contains("another history")), "{reset:?}");

    let (_, full) = captured(&server.files()).await;
    let folder = server.stop();
    let (data, moved) = (folder.path().join("data"), folder.path().join("moved"));
    // As if it was brought back from a backup: the same files, written anew.
    fs::rename(&data, &moved).unwrap();
    let copied = std::process::Command::new("cp").arg("-r").arg(&moved).arg(&data).status().unwrap();
    assert!(copied.success());
    let replaced = MariaDb::start_on(folder);
    let mut position = place_of(&full);
    // It listens on another port now, which makes it another server; what is to be seen is that the folder tells, too.
    let of = replaced.files().capture(&request(), &mut Collected::default()).await.unwrap();
    let server_now = place_of(&of).position.rsplit_once("server ").unwrap().1.to_owned();
    let (before, _) = position.position.rsplit_once("server ").unwrap();
    position.position = format!("{before}server {server_now}");
    let other = replaced.files().goes_on_from(&position).await.unwrap();
    assert!(matches!(&other, GoesOn::No(why) if why.contains("data folder was replaced")), "{other:?}");
    let request = CaptureRequest { kind: Kind::Incremental, continues: Some(position), ..request() };
    replaced.files().capture(&request, &mut Collected::default()).await.expect_err("nor is it captured");
}

#[tokio::test]
async fn a_log_over_a_copy_and_its_increment_brings_back_any_second() {
    let server = server();
    let source = server.files();
    let (full, at_full) = captured(&source).await;
    sell(&server, "in the increment", 5);
    let (increment, at_increment) = changes(&source, Kind::Incremental, &at_full).await;
    sell(&server, "in the log", 3);
    server.sql("CREATE USER app@'%' IDENTIFIED BY 'x'; GRANT SELECT ON shop.* TO app@'%'; CREATE TABLE shop.later (a INT)");
    let (first, at_first) = changes(&source, Kind::Log, &at_increment).await;
    server.sql("INSERT INTO shop.later VALUES (7); CREATE EVENT shop.nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM shop.later");
    let disaster = server.next_second();
    server.sql("DROP TABLE shop.sale; DROP USER app@'%'");
    let (second, _) = changes(&source, Kind::Log, &at_first).await;

    let (folder, data) = beside();
    let place = Place::Folder(data);
    for stream in [full.stream(), increment.stream()] {
        restored(&source, &stream, &place).await.unwrap();
    }
    let until = Some(Until::Moment(disaster));
    for (stream, from) in [(first.stream(), &at_increment), (second.stream(), &at_first)] {
        let replay = Replay { from: place_of(from).position, until: until.clone() };
        let mut stream = stream.as_slice();
        source.replay(&mut stream, &place, &replay).await.unwrap();
        assert!(stream.is_empty(), "its stream is read to the end");
    }
    let copy = MariaDb::start_on(folder);
    let sold = "SELECT GROUP_CONCAT(n ORDER BY n) FROM (SELECT COUNT(*) AS n FROM shop.sale GROUP BY what) t";
    assert_eq!(copy.sql(sold), "3,5,2000");
    assert_eq!(copy.sql("SELECT a FROM shop.later"), "7");
    assert_eq!(copy.sql("SELECT name FROM mysql.event WHERE db = 'shop'"), "nightly");
    assert_eq!(
        copy.sql("SELECT COUNT(*) FROM mysql.user WHERE user LIKE 'backstay%'"),
        "0",
        "no account is left"
    );
    assert!(copy.sql("SHOW GRANTS FOR app@'%'").contains("GRANT SELECT ON `shop`.*"));
    assert_eq!(copy.sql("SELECT COUNT(*) FROM mysql.user WHERE user = 'root' AND host = 'localhost'"), "1");
}

/// Every failure is an error that shows neither the password nor its hash.
async fn fails(source: &MysqlSource, request: &CaptureRequest<'_>) -> SourceError {
    let error = source.capture(request, &mut Collected::default()).await.expect_err("this must not count");
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("s3cr#t") && !shown.contains(PASSWORD) && !shown.contains("IDENTIFIED"),
        "{shown}"
    );
    error
}

#[tokio::test]
async fn what_a_person_must_mend_is_told_with_what_to_do() {
    let server = server();
    let wrong = fails(&server.files_with("wrong-pass-word"), &request()).await;
    assert!(wrong.to_string().contains("check user, password") && wrong.class == Class::Stalled, "{wrong}");
    for privilege in ["PROCESS", "RELOAD", "BINLOG MONITOR"] {
        server.sql(&format!("REVOKE {privilege} ON *.* FROM backup@'127.0.0.1'"));
        let lacking = fails(&server.files(), &request()).await;
        assert!(lacking.to_string().contains(&format!("GRANT {privilege} ON *.*")), "{lacking}");
        server.sql(&format!("GRANT {privilege} ON *.* TO backup@'127.0.0.1'"));
    }
    let empty = tempfile::tempdir().unwrap();
    for program in ["mariadb-dump", "mariadb"] {
        symlink(Path::new("/usr/bin").join(program), empty.path().join(program)).unwrap();
    }
    let absent = fails(&server.files().search_path(empty.path()), &request()).await;
    assert!(absent.to_string().contains("Debian: mariadb-backup"), "{absent}");
    server.sql("CREATE TABLE shop.far (a INT) DATA DIRECTORY = '/tmp'");
    let far = fails(&server.files(), &request()).await;
    server.sql("DROP TABLE shop.far");
    assert!(far.to_string().contains("outside the data folder") && far.class == Class::Stalled, "{far}");
    let other = MariaDb::start();
    other.let_files_be_copied();
    let elsewhere = fails(&server.files_in(&other.data_dir()), &request()).await;
    assert!(elsewhere.to_string().contains("declare data_dir"), "{elsewhere}");
}

/// Programs that stand in for the real ones: the one that copies files is `script`.
fn fake_copier(script: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for program in ["mariadb-dump", "mariadb", "mbstream"] {
        symlink(Path::new("/usr/bin").join(program), folder.path().join(program)).unwrap();
    }
    let copier = folder.path().join("mariabackup");
    let version = "case \"$1\" in --version) exec /usr/bin/mariabackup --version;; esac";
    fs::write(&copier, format!("#!/bin/sh\n{version}\n{script}\n")).unwrap();
    fs::set_permissions(&copier, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn exists(id: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

#[tokio::test]
async fn a_copy_that_fails_is_cut_short_stalls_or_does_not_say_that_it_is_whole_never_counts() {
    let server = server();
    let pid = tempfile::NamedTempFile::new().unwrap();
    let note_pid = format!("echo $$ > {}", pid.path().display());
    let real = "/usr/bin/mariabackup \"$@\"";
    let cases = [
        ("exit 2", format!("{note_pid}; {real}; echo broken >&2; exit 2"), "exit status 2"),
        ("no last words", format!("{note_pid}; {real} 2>/dev/null"), "completed OK!"),
        (
            "cut short",
            format!("{note_pid}; {real} | head -c 2000000; echo 'completed OK!' >&2"),
            "ends in the middle",
        ),
        ("empty", format!("{note_pid}; echo 'completed OK!' >&2"), "does not tell"),
        (
            "other bytes",
            format!("{note_pid}; echo these are no chunks; echo 'completed OK!' >&2"),
            "no chunk",
        ),
        ("killed", format!("{note_pid}; {real} | head -c 500000; kill -9 $$"), "SIGKILL"),
        ("stalled", format!("{note_pid}; {real} | head -c 500000; sleep 600 & sleep 600"), "silent for 2s"),
        ("leaking", format!("{note_pid}; cat \"${{1#--defaults-file=}}\" >&2; exit 1"), "***"),
    ];
    for (case, script, why) in cases {
        let programs = fake_copier(&script);
        let source = server.files().search_path(programs.path());
        let stall = if case == "stalled" { Duration::from_secs(2) } else { request().stall };
        let error = fails(&source, &CaptureRequest { stall, ..request() }).await;
        assert!(error.to_string().contains(why), "{case}: {error}");
        let id = fs::read_to_string(pid.path()).unwrap().trim().to_owned();
        assert!(!id.is_empty(), "{case}: it was started");
        // What is given up has a moment to end.
        let gone = async {
            while exists(&id) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(20), gone).await;
        assert!(ended.is_ok(), "{case}: process {id} is left");
    }
}

#[test]
fn a_server_that_is_killed_during_the_copy_fails_it_and_a_dead_one_has_none() {
    let mut server = server();
    server.sql("INSERT INTO shop.old SELECT seq + 1, REPEAT('x', 100) FROM shop.seq_1_to_300000");
    let source = server.files();
    let block_on = |source: MysqlSource, mut sink: Held| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { source.capture(&request(), &mut sink).await })
    };
    let (sink, waited) = Held::after(1 << 20);
    let capture = thread::spawn(move || block_on(source, sink));
    let go = waited.recv().expect("the copy begins");
    server.kill();
    go.send(()).unwrap();
    let error = capture.join().unwrap().expect_err("half a copy does not count");
    assert!(!format!("{error:?}").contains("s3cr#t"), "{error:?}");
    let (sink, _) = Held::after(usize::MAX);
    block_on(server.files(), sink).expect_err("a dead server has no files to copy");
}

#[tokio::test]
async fn a_hostile_or_broken_stream_writes_nothing_outside_and_leaves_no_folder() {
    let server = server();
    let source = server.files();
    let (sink, _) = captured(&source).await;
    let stream = sink.stream();
    let (scratch, data) = beside();
    let chunk = |path: &str| {
        let mut chunk =
            [b"XBSTCK01\0P".as_slice(), &(path.len() as u32).to_le_bytes(), path.as_bytes()].concat();
        chunk.extend(3_u64.to_le_bytes());
        chunk.extend([0; 12]);
        chunk.extend(b"bad");
        chunk
    };
    let outside = scratch.path().join("outside");
    for path in
        ["../../outside".to_owned(), outside.display().to_string(), "shop/../../../outside".to_owned()]
    {
        let hostile = [chunk(&path).as_slice(), &stream].concat();
        let refused = restored(&source, &hostile, &Place::Folder(data.clone())).await.unwrap_err();
        assert!(refused.to_string().contains("out of the folder"), "{refused}");
    }
    for length in [9, stream.len() / 2, stream.len() - 1] {
        restored(&source, &stream[..length], &Place::Folder(data.clone()))
            .await
            .expect_err("it is cut short");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left");
}
