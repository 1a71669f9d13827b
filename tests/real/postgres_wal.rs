//! The write-ahead log of a real PostgreSQL: captured without a gap, and replayed up to any second.

use std::{fs, thread, time::Duration};

use backstay::{
    artifact::{
        Kind,
        manifest::{Edge, Moment},
        until::{Place as LogPlace, Until},
    },
    clock::Clock,
    inventory::{LogRisk, WalStatus},
    sources::{CaptureRequest, Captured, Place, Replay, Restored, Source},
    stores::Class,
};
use jiff::Timestamp;

use super::lab::{
    held::Held,
    moments::{Behind, Slow},
    postgres::{Postgres, USER},
};
use super::source_conformance::{Collected, captured, request, restored};

/// A server that is set up as docs/postgres.md says.
pub fn till() -> Postgres {
    let server = Postgres::start();
    ready(&server);
    server.sql("postgres", "CREATE TABLE sale (id SERIAL PRIMARY KEY, what TEXT)");
    sell(&server, "before the base");
    server
}

/// Lets the server's log be captured.
pub fn ready(server: &Postgres) {
    server.sql("postgres", &format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO {USER}"));
    limit(server, "1GB");
}

fn limit(server: &Postgres, size: &str) {
    server.sql("postgres", &format!("ALTER SYSTEM SET max_slot_wal_keep_size = '{size}'"));
    server.sql("postgres", "SELECT pg_reload_conf()");
    server.wait_for("SHOW max_slot_wal_keep_size", size);
}

pub fn sell(server: &Postgres, what: &str) {
    server.sql("postgres", &format!("INSERT INTO sale (what) VALUES ('{what}')"));
}

pub fn sold(server: &Postgres) -> String {
    server.sql("postgres", "SELECT string_agg(what, ',' ORDER BY id) FROM sale")
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

pub fn asked(continues: Edge) -> CaptureRequest<'static> {
    CaptureRequest { kind: Kind::Log, continues: Some(continues), ..request() }
}

pub async fn log(source: &dyn Source, continues: Edge) -> (Vec<u8>, Captured) {
    let mut sink = Collected::default();
    let captured = source.capture(&asked(continues), &mut sink).await.expect("the log is captured");
    (sink.stream(), captured)
}

/// The base and the logs that follow it, restored to a folder up to `until`, and a server started on it.
pub async fn brought_back(
    source: &dyn Source,
    base: &(Collected, Captured),
    logs: &[Vec<u8>],
    until: Option<Until>,
) -> Postgres {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let place = Place::Folder(data.clone());
    restored(source, &base.0.stream(), &place).await.unwrap();
    let replay = Replay { from: end(&base.1).position, until };
    for log in logs {
        let mut stream = log.as_slice();
        source.replay(&mut stream, &place, &replay).await.expect("the log is put in place");
        assert!(stream.is_empty(), "its stream is read to the end");
        assert!(!data.join("global/pg_control").exists(), "no server starts on a part of it");
    }
    if !logs.is_empty() {
        let told = Restored { place: String::new() };
        source.conclude(&place, &place, Some(&replay), told).await.unwrap();
    }
    let server = Postgres::start_on(folder, &data);
    server.wait_for("SELECT pg_is_in_recovery()", "f");
    server
}

#[tokio::test]
async fn a_log_brings_a_cluster_back_to_any_second() {
    let server = till();
    // What an earlier restore, or a life as a standby, left behind must not count.
    server.sql("postgres", "ALTER SYSTEM SET recovery_target_time = '2020-01-01'");
    server.sql("postgres", "ALTER SYSTEM SET primary_conninfo = 'host=nowhere'");
    for signal in ["standby.signal", "recovery.signal"] {
        fs::write(server.folder().join("data").join(signal), "").unwrap();
    }
    let source = server.cluster();
    let base = captured(&source).await;
    sell(&server, "after the base");
    let (first, first_log) = log(&source, end(&base.1)).await;
    assert_eq!(from(&first_log), &end(&base.1), "nothing is left out between the base and its log");
    sell(&server, "in the second log");
    let disaster = server.next_second();
    server.sql("postgres", "DELETE FROM sale; CREATE TABLE later (a INT)");
    let (second, second_log) = log(&source, end(&first_log)).await;
    assert_eq!(from(&second_log), &end(&first_log), "nothing is left out between two logs");
    // Nothing happens any more: the last moment of a quiet log can be reached all the same.
    let (third, third_log) = log(&source, end(&second_log)).await;
    let logs = [first, second, third];
    let before = "before the base,after the base,in the second log";
    for (until, expect) in [(Some(disaster), before), (Some(end(&third_log).time), ""), (None, "")] {
        let copy = brought_back(&source, &base, &logs, until.map(Until::Moment)).await;
        assert_eq!(sold(&copy), expect, "as of {until:?}");
        let later = copy.sql("postgres", "SELECT count(*) FROM pg_class WHERE relname = 'later'");
        assert_eq!(later, if until == Some(disaster) { "0" } else { "1" });
        sell(&copy, "it can be written");
    }
    let first_only =
        brought_back(&source, &base, &logs[..1], Some(Until::Moment(end(&first_log).time))).await;
    assert_eq!(sold(&first_only), "before the base,after the base");
}

#[tokio::test]
async fn a_log_brings_a_cluster_back_to_a_place_in_it_and_to_a_named_point() {
    let server = till();
    let source = server.cluster();
    let base = captured(&source).await;
    sell(&server, "after the base");
    let place: LogPlace = server.sql("postgres", "SELECT pg_current_wal_lsn()").parse().unwrap();
    sell(&server, "behind the place");
    server.sql("postgres", "SELECT pg_create_restore_point('before the ''upgrade'' \\ 1')");
    sell(&server, "behind the point");
    let (stream, captured) = log(&source, end(&base.1)).await;
    let Moment::Window { named, .. } = &captured.moment else { panic!("no window") };
    assert_eq!(named.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), [r"before the 'upgrade' \ 1"]);
    for (until, expect) in [
        (Until::Place(place), "before the base,after the base"),
        (Until::Named(named[0].name.clone()), "before the base,after the base,behind the place"),
    ] {
        let copy = brought_back(&source, &base, std::slice::from_ref(&stream), Some(until.clone())).await;
        assert_eq!(sold(&copy), expect, "up to {until}");
    }
}

#[tokio::test]
async fn a_base_backup_is_of_its_end_and_a_dump_of_its_beginning() {
    let server = till();
    server.sql(
        "postgres",
        "CREATE TABLE filler AS SELECT repeat(md5(n::text), 30) AS t FROM generate_series(1, 3000) n",
    );
    let (mut base, mut dump) = (Slow::default(), Slow::default());
    let copied = server.cluster().capture(&request(), &mut base).await.unwrap();
    assert!(copied.moment.newest() >= base.last, "{:?} {}", copied.moment, base.last);
    let asked = Timestamp::now();
    let dumped = server.source(&["postgres"]).capture(&request(), &mut dump).await.unwrap();
    let moment = dumped.moment.newest();
    assert!(asked <= moment && moment < dump.last, "{asked} {moment} {}", dump.last);
}

#[tokio::test]
async fn the_first_moment_of_a_window_can_be_reached_though_the_servers_clock_is_ahead() {
    let server = till();
    let source = server.cluster();
    // To the source, ours is three seconds behind.
    let ours = || Behind.now();
    let mut sink = Collected::default();
    let request = CaptureRequest { clock: &Behind, ..request() };
    let base = source.capture(&request, &mut sink).await.unwrap();
    assert!(end(&base).time <= ours(), "it is not of the future");
    let first = end(&base).time;
    server.wait_for(&format!("SELECT clock_timestamp() > '{first}'::timestamptz"), "t");
    sell(&server, "after the base");
    let (stream, _) = log(&source, end(&base)).await;
    let copy = brought_back(&source, &(sink, base), &[stream], Some(Until::Moment(first))).await;
    assert_eq!(sold(&copy), "before the base");
}

#[tokio::test]
async fn a_log_goes_on_over_a_failover_and_never_from_what_the_failover_lost() {
    let primary = till();
    let source = primary.cluster();
    let base = captured(&source).await;
    let standby = primary.standby();
    let refused =
        standby.cluster().capture(&asked(end(&base.1)), &mut Collected::default()).await.unwrap_err();
    assert!(refused.to_string().contains("standby") && refused.class == Class::Stalled, "{refused}");
    sell(&primary, "before the failover");
    let (first, first_log) = log(&source, end(&base.1)).await;
    sell(&primary, "replicated");
    standby.wait_for("SELECT count(*) FROM sale", "3");
    standby.sql("postgres", "SELECT pg_promote()");
    standby.wait_for("SELECT pg_is_in_recovery()", "f");
    sell(&primary, "lost");
    let lost = captured(&source).await;
    sell(&standby, "on the new timeline");

    let promoted = standby.cluster();
    let (second, second_log) = log(&promoted, end(&first_log)).await;
    assert_eq!(from(&second_log), &end(&first_log), "the log goes on over the failover");
    let copy = brought_back(&promoted, &base, &[first, second], None).await;
    assert_eq!(sold(&copy), "before the base,before the failover,replicated,on the new timeline");
    let (_, unjoined) = log(&promoted, end(&lost.1)).await;
    assert_ne!(from(&unjoined).position, end(&lost.1).position, "what the failover lost is on no way here");
    let (_, elsewhere) = log(&till().cluster(), end(&base.1)).await;
    assert_ne!(from(&elsewhere).position, end(&base.1).position, "another cluster's log is another");
}

#[tokio::test]
async fn what_the_server_dropped_before_it_was_captured_shows_where_the_log_begins() {
    let server = till();
    let source = server.cluster();
    let base = captured(&source).await;
    let (_, first) = log(&source, end(&base.1)).await;
    limit(&server, "16MB");
    let fill = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 4000000)) FROM generate_series(1, 4)";
    let status = "SELECT wal_status FROM pg_replication_slots";
    for _ in 0..20 {
        server.sql("postgres", fill);
        server.sql("postgres", "SELECT pg_switch_wal()");
        server.sql("postgres", "CHECKPOINT");
        if server.sql("postgres", status) == "lost" {
            break;
        }
    }
    assert_eq!(server.sql("postgres", status), "lost");
    assert_eq!(source.kept_log().await.unwrap().unwrap().risk(), Some(LogRisk::Lost));
    sell(&server, "after the gap");
    let (_, gapped) = log(&source, end(&first)).await;
    assert_ne!(from(&gapped).time, end(&first).time, "it is not said to be whole since the last one");
    assert_eq!(server.sql("postgres", status), "reserved", "a new slot keeps what follows");
    let base = captured(&source).await;
    let (next, joined) = log(&source, end(&base.1)).await;
    assert_eq!(from(&joined), &end(&base.1));
    assert_eq!(sold(&brought_back(&source, &base, &[next], None).await), "before the base,after the gap");
}

#[tokio::test]
async fn the_server_keeps_what_is_in_no_store_and_no_more() {
    let server = till();
    let source = server.cluster();
    let (_, base) = captured(&source).await;
    assert_eq!(source.kept_log().await.unwrap(), None, "nothing is kept yet");
    let (_, first) = log(&source, end(&base)).await;
    let kept = |before: &str| {
        let sql = format!(
            "SELECT restart_lsn <= '{before}'::pg_lsn FROM pg_replication_slots WHERE slot_name = 'backstay_cluster'"
        );
        server.sql("postgres", &sql)
    };
    let lsn = |edge: Edge| edge.position.split(',').next().unwrap().to_owned();
    sell(&server, "in the second log");
    let seen = source.kept_log().await.unwrap().expect("there is a slot");
    assert!((seen.limit, seen.status) == (Some(1 << 30), WalStatus::Reserved) && seen.bytes > 0, "{seen:?}");
    let (_, second) = log(&source, end(&first)).await;
    assert_eq!(kept(&lsn(end(&first))), "t", "the second log is in no store yet");
    // Its commit failed: it is asked for again.
    let (_, again) = log(&source, end(&first)).await;
    assert_eq!(from(&again), from(&second));
    log(&source, end(&again)).await;
    assert_eq!(kept(&lsn(end(&first))), "f", "what is in a store is kept no longer");
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_told_with_how() {
    let server = Postgres::start();
    let source = server.cluster();
    let (_, base) = captured(&source).await;
    let denied = source.capture(&asked(end(&base)), &mut Collected::default()).await.unwrap_err();
    let grant = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO backup";
    assert!(denied.to_string().contains(&format!("{grant};")), "{denied}");
    server.sql("postgres", grant);
    let unlimited = source.capture(&asked(end(&base)), &mut Collected::default()).await.unwrap_err();
    assert!(unlimited.to_string().contains("ALTER SYSTEM SET max_slot_wal_keep_size"), "{unlimited}");
    assert_eq!(
        server.sql("postgres", "SELECT count(*) FROM pg_replication_slots"),
        "0",
        "no slot may fill the disk"
    );
    assert_eq!((unlimited.class, denied.class), (Class::Stalled, Class::Stalled));
    let logical = server.source(&["postgres"]).capture(&asked(end(&base)), &mut Collected::default()).await;
    assert_eq!(logical.unwrap_err().class, Class::Stalled, "databases have no log of their own");
    for place in [Place::Original, Place::Database("copy".to_owned())] {
        let replay = Replay { from: end(&base).position, until: None };
        let refused = source.replay(&mut [].as_slice(), &place, &replay).await.unwrap_err();
        assert!(refused.to_string().contains("folder"), "{refused}");
    }
    assert!(source.make_way().await.is_err(), "nothing is removed for a restore that can't be");
}

#[test]
fn a_log_in_the_middle_of_many_writes_is_whole_and_a_dead_server_has_none() {
    let mut server = till();
    let source = server.cluster();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let base = runtime.block_on(captured(&source));
    let mut place = end(&base.1);
    let mut logs = Vec::new();
    let write = || {
        let statement =
            "INSERT INTO sale (what) SELECT repeat(md5(n::text), 40) FROM generate_series(1, 1000) n;";
        (0..40).for_each(|_| drop(server.sql("postgres", statement)));
    };
    thread::scope(|threads| {
        let writer = threads.spawn(write);
        let mut is_last = false;
        while !is_last {
            is_last = writer.is_finished();
            let (stream, captured) = runtime.block_on(log(&source, place.clone()));
            assert_eq!(from(&captured), &place);
            place = end(&captured);
            logs.push(stream);
        }
    });
    assert!(logs.len() > 1, "there was a log while somebody wrote");
    let sum = |server: &Postgres| {
        server.sql("postgres", "SELECT count(*), md5(string_agg(what, '' ORDER BY id)) FROM sale")
    };
    let before = sum(&server);
    let copy = runtime.block_on(brought_back(&source, &base, &logs, None));
    assert_eq!(sum(&copy), before);
    server.kill();
    let dead = runtime.block_on(source.capture(&asked(place), &mut Collected::default()));
    assert_eq!(dead.unwrap_err().class, Class::Retry);
}

#[tokio::test]
async fn a_log_that_is_cut_short_or_no_log_is_not_replayed() {
    let server = till();
    let source = server.cluster();
    let base = captured(&source).await;
    let (stream, _) = log(&source, end(&base.1)).await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let place = Place::Folder(data.clone());
    restored(&source, &base.0.stream(), &place).await.unwrap();
    let replay = Replay { from: end(&base.1).position, until: None };
    let mut stranger = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    stranger.append_data(&mut header, "postgresql.conf", &[][..]).unwrap();
    for bad in [&stream[..stream.len() / 2], &stranger.into_inner().unwrap(), b"nothing"] {
        source.replay(&mut &*bad, &place, &replay).await.expect_err("this is no whole log");
        assert!(!data.join("recovery.signal").exists(), "the server is told to replay what is whole only");
        assert!(!data.join("global/pg_control").exists(), "no server starts on a part of it");
    }
    let names: Vec<_> = fs::read_dir(data.join("restored_wal")).unwrap().collect();
    assert!(names.iter().all(|name| name.as_ref().unwrap().file_name().len() == 24), "{names:?}");
}

#[tokio::test]
async fn a_receiver_that_is_silent_is_stopped() {
    let server = till();
    let source = server.cluster();
    let (_, base) = captured(&source).await;
    let programs = super::lab::postgres::fake("pg_receivewal", "sleep 600 & sleep 600");
    let request = CaptureRequest { stall: Duration::from_secs(2), ..asked(end(&base)) };
    let source = source.search_path(programs.path());
    let error = source.capture(&request, &mut Collected::default()).await.expect_err("it is silent");
    assert_eq!(error.class, Class::Retry, "{error}");
}

/// Writes so many whole segments of 16 MiB.
pub fn write_segments(server: &Postgres, number: usize) {
    for _ in 0..number {
        server.sql("postgres", "SELECT pg_logical_emit_message(false, 'x', repeat('x', 15000000))");
        server.sql("postgres", "SELECT pg_switch_wal()");
    }
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_log_fails_it_and_the_next_goes_on_from_before_it() {
    let mut server = till();
    let port = server.port();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let base = runtime.block_on(captured(&server.cluster()));
    let (first_stream, first) = runtime.block_on(log(&server.cluster(), end(&base.1)));
    // More than what is received at a time.
    write_segments(&server, 8);
    sell(&server, "after the base");
    let (mut sink, waited) = Held::after(20 << 20);
    let (source, request) = (Postgres::cluster_at(port, None), asked(end(&first)));
    let capture = thread::spawn(move || {
        tokio::runtime::Runtime::new().unwrap().block_on(source.capture(&request, &mut sink))
    });
    let go = waited.recv().expect("the log begins");
    server.kill();
    go.send(()).unwrap();
    let error = capture.join().unwrap().expect_err("half a log does not count");
    assert_eq!(error.class, Class::Retry, "{error}");

    let data = server.data();
    let server = Postgres::start_on(server.stop(), &data);
    let (stream, again) = runtime.block_on(log(&server.cluster(), end(&first)));
    assert_eq!(from(&again), &end(&first), "the server kept what was not captured");
    let logs = [first_stream, stream];
    let copy = runtime.block_on(brought_back(&server.cluster(), &base, &logs, None));
    assert_eq!(sold(&copy), "before the base,after the base");
}

#[tokio::test]
async fn a_log_whose_user_lost_its_rights_says_so_and_goes_on_when_they_are_back() {
    let server = till();
    let source = server.cluster();
    let base = captured(&source).await;
    let (first, first_log) = log(&source, end(&base.1)).await;
    sell(&server, "while nobody was let in");
    let password = super::lab::postgres::PASSWORD.replace('\'', "''");
    for (take, says, give) in [
        (
            "ALTER ROLE backup PASSWORD 'another'".to_owned(),
            "check user and password",
            format!("ALTER ROLE backup PASSWORD '{password}'"),
        ),
        (
            "ALTER ROLE backup NOREPLICATION".to_owned(),
            "ALTER ROLE … REPLICATION;",
            "ALTER ROLE backup REPLICATION".to_owned(),
        ),
        (
            "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() FROM backup".to_owned(),
            "GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO backup;",
            "GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO backup".to_owned(),
        ),
    ] {
        server.sql("postgres", &take);
        let request = asked(end(&first_log));
        let denied = source.capture(&request, &mut Collected::default()).await.unwrap_err();
        let hint = denied.hint.clone().unwrap_or_default();
        assert!(denied.class == Class::Stalled && hint.contains(says), "{take}: {denied}");
        server.sql("postgres", &give);
    }
    let (second, second_log) = log(&source, end(&first_log)).await;
    assert_eq!(from(&second_log), &end(&first_log), "nothing is missing");
    let copy = brought_back(&source, &base, &[first, second], None).await;
    assert_eq!(sold(&copy), "before the base,while nobody was let in");
}
