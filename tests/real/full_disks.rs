//! Full disks: of a database server in the middle of what a capture asks of it, and of the controller during a restore. Each is a
//! small tmpfs, mounted for the test (as root, or by `sudo` without a password), and filled to its last byte.

use std::{fs, io::Write, path::Path};

use backstay::{
    artifact::{
        Kind,
        manifest::{Edge, Moment},
    },
    sources::{CaptureRequest, Captured, Place, Source},
};

use crate::{
    lab::{mariadb::MariaDb, postgres::Postgres, tmpfs::Tmpfs},
    postgres_wal::ready,
    source_conformance::{Collected, captured, request, restored},
};

/// A folder on a small disk that other users reach.
fn folder_on(disk: &Tmpfs) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o755)).unwrap();
    tempfile::tempdir_in(disk.path()).unwrap()
}

/// Fills a disk to its last byte; what fills it is removed with the answer.
fn filled(disk: &Path) -> tempfile::NamedTempFile {
    let mut filler = tempfile::NamedTempFile::new_in(disk).unwrap();
    for size in [1 << 20, 4096, 1] {
        let piece = vec![7; size];
        while filler.write_all(&piece).is_ok() {}
    }
    filler
}

fn log_after(full: &Captured) -> CaptureRequest<'static> {
    let end = match full.moment.clone() {
        Moment::At { time, position } => Edge { time, position: position.unwrap() },
        Moment::Window { until, .. } => until,
    };
    CaptureRequest { kind: Kind::Log, continues: Some(end), ..request() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_whose_disk_is_full_fails_its_log_with_what_to_do_and_goes_on_once_there_is_room() {
    let disk = Tmpfs::mount(256 << 20);
    let server = MariaDb::start_in(folder_on(&disk));
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.sale (id INT); INSERT INTO shop.sale VALUES (1)");
    server.sql("GRANT REPLICATION SLAVE ON *.* TO backup@'127.0.0.1'");
    let source = server.source(&[]);
    let (_, full) = captured(&source).await;
    let filler = filled(disk.path());
    // A dump asks what tables there are, and the server writes that down.
    let error = source.capture(&request(), &mut Collected::default()).await.unwrap_err();
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("server's disk")), "{error}");
    // The server waits for room; a new file of its log needs some.
    let mut sink = Collected::default();
    let error = source.capture(&log_after(&full), &mut sink).await.unwrap_err();
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("disk has room")), "{error}");
    assert!(sink.stream().is_empty(), "nothing half is handed on");
    drop(filler);
    crate::lab::wait_until("the server goes on", std::time::Duration::from_secs(180), || {
        server.sql("INSERT INTO shop.sale VALUES (2); SELECT 1") == "1"
    });
    let log = source.capture(&log_after(&full), &mut Collected::default()).await.unwrap();
    assert!(matches!(&log.moment, Moment::Window { from, .. } if from.time == full.moment.newest()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_whose_disk_is_full_fails_its_log_and_the_next_one_is_whole() {
    let disk = Tmpfs::mount(256 << 20);
    let server = Postgres::start_in(folder_on(&disk));
    ready(&server);
    server.sql("postgres", "CREATE TABLE sale (id INT); INSERT INTO sale VALUES (1)");
    let source = server.cluster();
    let (_, base) = captured(&source).await;
    // From here on a slot keeps the log.
    let full = source.capture(&log_after(&base), &mut Collected::default()).await.unwrap();
    server.sql("postgres", "INSERT INTO sale VALUES (2)");
    let filler = filled(disk.path());
    // What was recycled may still take some: the log fails once that is used up.
    let mut failed = None;
    for _ in 0..8 {
        let mut sink = Collected::default();
        if let Err(error) = source.capture(&log_after(&full), &mut sink).await {
            assert!(sink.stream().is_empty(), "nothing half is handed on");
            failed = Some(error);
            break;
        }
    }
    let error = failed.expect("a full disk takes no log");
    assert!(!error.reason.is_empty(), "{error}");
    assert!(error.to_string().contains("No space left") || error.to_string().contains("closed"), "{error}");
    drop(filler);
    let data = server.data();
    let server = Postgres::start_on(server.stop(), &data);
    let port = server.port();
    let source = Postgres::cluster_at(port, None);
    let log = source.capture(&log_after(&full), &mut Collected::default()).await.unwrap();
    assert!(
        matches!(&log.moment, Moment::Window { from, .. } if from.time == full.moment.newest()),
        "{log:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fills_the_controllers_disk_fails_and_leaves_nothing() {
    let server = MariaDb::start();
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.filler AS SELECT seq, REPEAT(MD5(seq), 100) AS t FROM mysql.seq_1_to_2000");
    let (sink, _) = captured(&server.source(&["shop"])).await;
    let disk = Tmpfs::mount(1 << 20);
    let source = server.source(&["shop"]);
    for place in [Place::File(disk.path().join("shop.sql")), Place::Folder(disk.path().join("shop"))] {
        let error = restored(&source, &sink.stream(), &place).await.unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
        let left: Vec<_> = walk(disk.path());
        assert!(left.is_empty(), "{left:?}");
    }
    let cluster = Postgres::start();
    let (base, _) = captured(&cluster.cluster()).await;
    let error = restored(&cluster.cluster(), &base.stream(), &Place::Folder(disk.path().join("data"))).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
}

/// The files below a folder.
fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
