//! The reader of a real PostgreSQL's log: what it has outlives the server, and is never taken for more than it is.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use backstay::{
    artifact::manifest::Edge,
    sources::{CaptureRequest, Captured, Source, SourceError, postgres::PostgresSource},
    stores::Class,
};
use tempfile::TempDir;

use super::{
    lab::{
        postgres::Postgres,
        proxy::{Break, Proxy},
        reader::Reader,
        tmpfs::Tmpfs,
    },
    postgres_wal::{asked, brought_back, end, from, log, sell, sold, till, write_segments},
    source_conformance::{Collected, captured},
};

/// Waits until the reader has all that was written: by the server's own word.
fn all_read(server: &Postgres) {
    let sql = "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= pg_current_wal_lsn()";
    server.wait_for(sql, "1");
}

fn ahead(continues: Edge, spool: &Path) -> CaptureRequest<'static> {
    CaptureRequest { spool: Some(spool.to_owned()), ..asked(continues) }
}

async fn log_with(
    source: &dyn Source,
    continues: Edge,
    spool: &Path,
) -> Result<(Vec<u8>, Captured), SourceError> {
    let mut sink = Collected::default();
    let captured = source.capture(&ahead(continues, spool), &mut sink).await?;
    Ok((sink.stream(), captured))
}

fn stretch(spool: &TempDir) -> PathBuf {
    spool.path().join("log-000001")
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

fn cluster(port: u16) -> PostgresSource {
    Postgres::cluster_at(port, None)
}

#[tokio::test]
async fn what_was_committed_before_the_server_died_between_two_slots_comes_back() {
    let mut server = till();
    let source = server.cluster();
    let base = captured(&source).await;
    let spool = tempfile::tempdir().unwrap();
    let reader = Reader::start(server.cluster(), spool.path()).await;
    sell(&server, "in the first log");
    let (first, first_log) = log_with(&source, end(&base.1), spool.path()).await.unwrap();
    assert_eq!(from(&first_log), &end(&base.1));
    write_segments(&server, 2);
    sell(&server, "behind the slot");
    let rolled_back = "BEGIN; INSERT INTO sale (what) VALUES ('rolled back'); ROLLBACK";
    server.sql("postgres", rolled_back);
    sell(&server, "the last one");
    all_read(&server);
    server.kill();
    let failed = reader.ended().await;
    assert_eq!(failed.class, Class::Retry, "{failed}");

    let (second, second_log) = log_with(&source, end(&first_log), spool.path()).await.unwrap();
    assert_eq!(from(&second_log), &end(&first_log), "nothing is left out");
    assert!(end(&second_log).time > end(&first_log).time);
    let logs = [first.clone(), second.clone()];
    let all = "before the base,in the first log,behind the slot,the last one";
    assert_eq!(sold(&brought_back(&source, &base, &logs, None).await), all);
    // The last moment that is told can be come to: it is that of the last commit, which lies behind it.
    let until = backstay::artifact::until::Until::Moment(end(&second_log).time);
    let before = "before the base,in the first log,behind the slot";
    assert_eq!(sold(&brought_back(&source, &base, &logs, Some(until)).await), before);

    let again = log_with(&source, end(&second_log), spool.path()).await.unwrap_err();
    assert_eq!(again.class, Class::Retry, "there is no more, and no server: {again}");

    // The server comes back, and the log goes on.
    let data = server.data();
    let server = Postgres::start_on(server.stop(), &data);
    sell(&server, "after the death");
    let (third, third_log) = log_with(&server.cluster(), end(&second_log), spool.path()).await.unwrap();
    assert_eq!(from(&third_log), &end(&second_log), "the log goes on");
    let copy = brought_back(&source, &base, &[first, second, third], None).await;
    assert_eq!(sold(&copy), format!("{all},after the death"));
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was_after_the_server_was_started_anew_and_after_the_network_was_cut() {
    let server = till();
    let source = server.cluster();
    let base = captured(&source).await;
    let spool = tempfile::tempdir().unwrap();
    let proxy = Proxy::to(server.port());
    let reader = Reader::start(cluster(proxy.port()), spool.path()).await;
    proxy.break_after(0, Break::Cut);
    sell(&server, "while the network was cut");
    assert_eq!(reader.ended().await.class, Class::Retry);
    proxy.mend();
    let reader = Reader::start(cluster(proxy.port()), spool.path()).await;
    reader.stop().await.unwrap();
    drop(proxy);

    let data = server.data();
    write_segments(&server, 1);
    sell(&server, "while nobody read");
    let mut server = Postgres::start_on(server.stop(), &data);
    let reader = Reader::start(server.cluster(), spool.path()).await;
    sell(&server, "at the end");
    all_read(&server);
    server.kill();
    reader.ended().await;
    assert_eq!(names(spool.path()), ["log-000001"], "it is one stretch");
    let dead = server.cluster();
    let (stream, captured) = log_with(&dead, end(&base.1), spool.path()).await.unwrap();
    assert_eq!(from(&captured), &end(&base.1));
    let copy = brought_back(&dead, &base, &[stream], None).await;
    assert_eq!(sold(&copy), "before the base,while the network was cut,while nobody read,at the end");
}

#[tokio::test]
async fn a_reader_whose_network_fell_silent_ends_and_says_so() {
    let server = till();
    let spool = tempfile::tempdir().unwrap();
    let proxy = Proxy::to(server.port());
    let reader = Reader::start(cluster(proxy.port()), spool.path()).await;
    proxy.break_after(0, Break::Silent);
    sell(&server, "in silence");
    let failed = reader.ended().await;
    assert_eq!(failed.class, Class::Retry, "{failed}");
}

#[tokio::test]
async fn a_log_is_taken_from_the_reader_and_what_it_lacks_from_the_server() {
    let server = till();
    let source = server.cluster();
    let base = captured(&source).await;
    let spool = tempfile::tempdir().unwrap();
    let reader = Reader::start(server.cluster(), spool.path()).await;
    sell(&server, "after the base");
    write_segments(&server, 3);
    all_read(&server);
    reader.stop().await.unwrap();
    sell(&server, "behind the reader");
    write_segments(&server, 1);
    // One of its segments is damaged: it is no more believed than one that is not there.
    let complete: Vec<String> =
        names(&stretch(&spool)).into_iter().filter(|name| !name.ends_with(".partial")).collect();
    assert!(complete.len() >= 3, "{complete:?}");
    let damaged = stretch(&spool).join(&complete[1]);
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let (with, told) = log_with(&source, end(&base.1), spool.path()).await.unwrap();
    assert_eq!(from(&told), &end(&base.1));
    let copy = brought_back(&source, &base, std::slice::from_ref(&with), None).await;
    assert_eq!(sold(&copy), "before the base,after the base,behind the reader");
    // A spool that is lost loses nothing, for the server keeps what no store has.
    fs::remove_dir_all(stretch(&spool)).unwrap();
    let (_, without) = log_with(&source, end(&base.1), spool.path()).await.unwrap();
    assert_eq!(from(&without), &end(&base.1));
    let (_, plain) = log(&source, end(&base.1)).await;
    assert_eq!(from(&plain), &end(&base.1));
}

#[tokio::test]
async fn only_what_every_store_has_leaves_the_spool() {
    let server = till();
    let source = server.cluster();
    let base = captured(&source).await;
    let spool = tempfile::tempdir().unwrap();
    let reader = Reader::start(server.cluster(), spool.path()).await;
    write_segments(&server, 3);
    let (_, first) = log_with(&source, end(&base.1), spool.path()).await.unwrap();
    write_segments(&server, 3);
    all_read(&server);
    source.trim_spool(spool.path(), &end(&first)).await.unwrap();
    let kept = names(&stretch(&spool));
    reader.stop().await.unwrap();
    let stored = end(&first).position;
    let mut server = server;
    server.kill();
    let (stream, second) = log_with(&source, end(&first), spool.path()).await.unwrap();
    assert_eq!(from(&second), &end(&first), "what no store has is still there: {kept:?} from {stored}");
    assert!(stream.len() > 3 * (16 << 20), "whole segments");
    let older = log_with(&source, end(&base.1), spool.path()).await.unwrap_err();
    assert_eq!(older.class, Class::Retry, "what every store has is gone: {older}");
}

#[tokio::test]
async fn a_full_disk_ends_the_reader_and_half_a_segment_is_not_taken_for_a_whole_one() {
    let mut server = till();
    let source = server.cluster();
    let base = captured(&source).await;
    let disk = Tmpfs::mount(40 << 20);
    let reader = Reader::start(server.cluster(), disk.path()).await;
    sell(&server, "before it was full");
    all_read(&server);
    write_segments(&server, 3);
    sell(&server, "when it was full");
    let failed = reader.ended().await;
    assert!(failed.to_string().contains("No space left on device"), "{failed}");
    let dead = cluster(1);
    let (stream, told) = log_with(&dead, end(&base.1), disk.path()).await.unwrap();
    assert_eq!(from(&told), &end(&base.1));
    let copy = brought_back(&source, &base, &[stream], None).await;
    assert_eq!(sold(&copy), "before the base,before it was full");

    disk.grow(400 << 20);
    let reader = Reader::start(server.cluster(), disk.path()).await;
    all_read(&server);
    server.kill();
    reader.ended().await;
    assert_eq!(names(disk.path()), ["log-000001"], "it went on where it was");
    let (stream, _) = log_with(&source, end(&base.1), disk.path()).await.unwrap();
    let copy = brought_back(&source, &base, &[stream], None).await;
    assert_eq!(sold(&copy), "before the base,before it was full,when it was full");
}

#[tokio::test]
async fn another_cluster_at_the_address_does_not_cost_what_was_read_of_the_first() {
    let mut server = till();
    let source = server.cluster();
    let base = captured(&source).await;
    let spool = tempfile::tempdir().unwrap();
    let reader = Reader::start(server.cluster(), spool.path()).await;
    sell(&server, "the last one");
    all_read(&server);
    server.kill();
    reader.ended().await;
    let other = till();
    let reader = Reader::start(other.cluster(), spool.path()).await;
    assert_eq!(names(spool.path()), ["log-000001", "log-000002"], "its log begins a stretch of its own");
    let (stream, captured) = log_with(&other.cluster(), end(&base.1), spool.path()).await.unwrap();
    assert_eq!(from(&captured), &end(&base.1), "the log of the first goes on to its end");
    let copy = brought_back(&source, &base, &[stream], None).await;
    assert_eq!(sold(&copy), "before the base,the last one");
    let (_, next) = log_with(&other.cluster(), end(&captured), spool.path()).await.unwrap();
    assert_ne!(from(&next).position, end(&captured).position, "and then the other's begins");
    source.trim_spool(spool.path(), &end(&next)).await.unwrap();
    assert_eq!(names(spool.path()), ["log-000002"], "nothing goes on from the first any more");
    tokio::time::timeout(Duration::from_secs(60), reader.stop()).await.unwrap().unwrap();
}
