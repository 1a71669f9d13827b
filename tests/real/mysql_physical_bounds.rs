//! What a copy of MariaDB's files must not reach, and which servers' files are therefore not copied.

use backstay::{
    artifact::{
        Kind,
        manifest::{Edge, Moment},
    },
    sources::{CaptureRequest, Place, Source},
    stores::Class,
};

use super::lab::mariadb::MariaDb;
use super::source_conformance::{Collected, captured, request, restored};

#[tokio::test]
async fn a_server_that_keeps_files_outside_its_data_folder_is_refused() {
    let away = tempfile::tempdir().unwrap();
    let server = MariaDb::start_with_undo_in(away.path());
    server.let_files_be_copied();
    let refused = server.files().capture(&request(), &mut Collected::default()).await.unwrap_err();
    assert!(refused.to_string().contains("innodb_undo_directory"), "{refused}");
    assert_eq!(refused.class, Class::Stalled);
    server.files().probe().await.expect_err("a probe tells it as well");
}

/// A stream whose options begin with `line`, and which is otherwise as MariaDB's program would write it.
fn with_setting(mut stream: Vec<u8>, line: &[u8]) -> Vec<u8> {
    let name = b"backup-my.cnf";
    let found = stream.windows(name.len()).position(|window| window == name);
    // Length, offset and checksum stand between the name and the content.
    let extent = found.expect("each copy has options") + name.len();
    let content = extent + 20;
    let length = u64::from_le_bytes(stream[extent..extent + 8].try_into().unwrap()) as usize;
    stream[content..content + line.len()].copy_from_slice(line);
    stream[content + line.len()] = b'\n';
    // The rest of the line that was there, a comment, is one still.
    stream[content + line.len() + 1] = b'#';
    let options = &stream[content..content + length];
    let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, options) as u32;
    stream[content - 4..content].copy_from_slice(&checksum.to_le_bytes());
    stream
}

#[tokio::test]
async fn a_copy_with_a_setting_that_runs_code_is_refused_and_leaves_nothing() {
    let server = MariaDb::start();
    server.let_files_be_copied();
    let source = server.files();
    let (sink, _) = captured(&source).await;
    let hostile = with_setting(sink.stream(), b"init_file=/tmp/hostile.sql");
    let scratch = tempfile::tempdir().unwrap();
    let refused = restored(&source, &hostile, &Place::Folder(scratch.path().join("data"))).await.unwrap_err();
    assert!(refused.to_string().contains("backup-my.cnf"), "{refused}");
    assert_eq!(refused.class, Class::Stalled);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_log_that_could_not_be_replayed_over_a_copy_is_refused() {
    let server = MariaDb::start_with_lower_case_names();
    server.let_files_be_copied();
    server.sql("GRANT REPLICATION SLAVE ON *.* TO backup@'127.0.0.1'");
    let (_, full) = captured(&server.files()).await;
    let Moment::At { time, position } = full.moment else { panic!("a copy is of one moment") };
    let continues = Some(Edge { time, position: position.unwrap() });
    let log = CaptureRequest { kind: Kind::Log, continues, ..request() };
    let refused = server.files().capture(&log, &mut Collected::default()).await.unwrap_err();
    assert!(refused.to_string().contains("lower_case_table_names = 1"), "{refused}");
    server
        .source(&[])
        .capture(&log, &mut Collected::default())
        .await
        .expect("dumps' logs are replayed by names");
}
