//! InfluxDB by its own program: what is captured, and what comes back.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use backstay::{
    artifact::{
        Kind,
        manifest::{Counts, Moment},
    },
    clock::ManualClock,
    sources::{CaptureRequest, Place, Source, SourceError, influxdb::InfluxdbSource},
    spec,
    stores::Class,
};
use tempfile::TempDir;

use super::lab::influxdb::{ADMIN, Influx, PASSWORD, Points, READER, fake, identifier, influxd, source};
use super::source_conformance::{Collected, captured, conforms, request, restored, sparing};

pub fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Measurements of every type, over many shards of two retention policies, with all that belongs to them.
pub fn tele(server: &Influx) {
    server.query("CREATE DATABASE tele");
    server.query("CREATE RETENTION POLICY long ON tele DURATION INF REPLICATION 1 SHARD DURATION 10d");
    server.query("CREATE RETENTION POLICY unused ON tele DURATION 1h REPLICATION 1");
    let points = |count: i64| -> String {
        (0..count)
            .map(|n| {
                let time = 1_700_000_000 + n * 600;
                format!(
                    "cpu,host=h{},odd\\ tag=ä v={},i={n}i,s=\"x\\\"y {n}\",b=true {time}\n",
                    n % 7,
                    n as f64 / 3.0
                )
            })
            .collect()
    };
    server.write("tele", "autogen", &points(6000));
    server.write("tele", "long", &points(3000));
    server.write("tele", "autogen", "odd\\ \"name,a=b value=1 1700000000\n");
    server.query(
        "CREATE CONTINUOUS QUERY hourly ON tele BEGIN SELECT mean(v) INTO tele.long.mean FROM cpu GROUP BY time(1h) END",
    );
    server.query(&format!("GRANT READ ON tele TO {READER}"));
}

pub async fn fails(source: &InfluxdbSource, request: &CaptureRequest<'_>) -> SourceError {
    let error = source.capture(request, &mut Collected::default()).await.expect_err("it does not count");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(PASSWORD) && !shown.contains("s3cr#t"), "{shown}");
    error
}

pub fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[tokio::test]
async fn everything_comes_back_beside_the_original_and_over_it() {
    let server = Influx::start();
    tele(&server);
    let scratch = scratch();
    let source = server.source(&["tele"], scratch.path());
    assert_eq!(source.probe().await.unwrap().version.split('.').next(), Some("InfluxDB 1"));
    let asked = jiff::Timestamp::now();
    let (sink, captured) = captured(&source).await;
    let stream = sink.stream();
    let before = server.points("tele");
    assert!(before.0.contains("odd \"\"name") && before.0.lines().count() > 9000, "{before:?}");
    assert!(matches!(captured.moment, Moment::At { time, position: None } if time >= asked), "{captured:?}");
    assert!(matches!(captured.details.counts, Counts::NotCaptured(_)), "{captured:?}");
    assert!(captured.details.versions["server"].starts_with("1."), "{captured:?}");

    let copy = "a copy's \"name\"";
    let place = Place::Database(copy.to_owned());
    restored(&source, &stream, &place).await.unwrap();
    assert_eq!(server.points(copy), before);
    assert_eq!(server.points("tele"), before, "the original is untouched");
    let again = restored(&source, &stream, &place).await.unwrap_err();
    assert!(again.to_string().contains("exists") && again.class == Class::Stalled, "{again}");
    assert_eq!(server.points(copy), before, "a refusal changes nothing");
    server.query(&format!("DROP DATABASE {}", identifier(copy)));

    server.query("DROP CONTINUOUS QUERY hourly ON tele");
    server.query("CREATE RETENTION POLICY newer ON tele DURATION 2h REPLICATION 1 DEFAULT");
    server.write("tele", "autogen", "cpu,host=h1 v=99 1700000000\nlater v=1 1700000000\n");
    let changed = server.points("tele");
    assert_ne!(changed, before);
    let spared = restored(&sparing(source.clone()), &stream, &Place::Original).await.unwrap_err();
    assert!(spared.to_string().contains("by now"), "{spared}");
    assert_eq!(server.points("tele"), changed);
    restored(&source, &stream, &Place::Original).await.unwrap();
    assert_is_as_before(&server, &before);
    server.query("DROP DATABASE tele");
    restored(&sparing(source), &stream, &Place::Original).await.unwrap();
    assert_eq!(server.points("tele"), before);
    assert!(server.query("SHOW CONTINUOUS QUERIES").contains("CREATE CONTINUOUS QUERY hourly ON tele"));
    assert!(is_empty(scratch.path()), "what was staged is removed");
}

#[tokio::test]
async fn writers_that_go_on_do_not_make_up_for_shards_that_did_not_come_back() {
    let server = Influx::start();
    tele(&server);
    let scratch = scratch();
    let source = server.source(&["tele"], scratch.path());
    let (sink, _) = captured(&source).await;
    let before = server.points("tele");
    // The second restore leaves out a shard, into which somebody writes meanwhile: it holds data, but not what it must.
    let lossy = fake(&format!(
        "if [ -e $0.once ]; then for last; do :; done; rm $last/*.s1.tar.gz; $REAL \"$@\" || exit; {} -u '{ADMIN}:{}' \
         --data-binary 'cpu,host=h1 v=1 1700000000000000000' 'http://127.0.0.1:{}/write?db=tele&rp=autogen' && \
         {} backup -portable -host 127.0.0.1:{} -database tele $0.flush >&2; exit; fi; : > $0.once; exec $REAL \"$@\"",
        "curl -sf",
        PASSWORD.replace('\'', "'\\''"),
        server.http(),
        "$REAL",
        server.rpc(),
    ));
    let lossy = source.clone().search_path(lossy.path()).settling(Duration::from_secs(3));
    let error = restored(&lossy, &sink.stream(), &Place::Original).await.unwrap_err();
    assert!(error.to_string().contains("shards with data"), "{error}");
    let copy = server.databases().into_iter().find(|name| name.starts_with("tele_backstay_"));
    let copy = copy.expect("the complete copy is left, and told");
    assert!(error.to_string().contains(&copy), "{error}");
    assert_eq!(server.points(&copy), before);

    server.query(&format!("DROP DATABASE \"{copy}\""));
    restored(&source, &sink.stream(), &Place::Original).await.unwrap();
    assert_eq!(server.points("tele"), before);
}

#[tokio::test]
async fn what_was_granted_is_granted_again_and_users_that_are_gone_are_told() {
    let server = Influx::start();
    tele(&server);
    server.query("CREATE USER gone WITH PASSWORD 'x'");
    server.query("GRANT WRITE ON tele TO gone");
    let scratch = scratch();
    let source = server.source(&["tele"], scratch.path());
    let (sink, _) = captured(&source).await;
    server.query("DROP DATABASE tele");
    server.query("DROP USER gone");
    let place = restored(&source, &sink.stream(), &Place::Original).await.unwrap();
    assert!(server.query(&format!("SHOW GRANTS FOR {READER}")).contains("tele,READ"));
    let told = "CREATE USER \"gone\" WITH PASSWORD '…'; GRANT WRITE ON \"tele\" TO \"gone\"";
    assert!(place.contains(told), "{place}");
    for statement in told.replace('…', "new").split("; ") {
        server.query(statement);
    }
    assert!(server.query("SHOW GRANTS FOR gone").contains("tele,WRITE"));

    server.query(&format!("REVOKE READ ON tele FROM {READER}"));
    restored(&source, &sink.stream(), &Place::Original).await.unwrap();
    let grants = server.query(&format!("SHOW GRANTS FOR {READER}"));
    assert!(!grants.contains("tele,READ"), "what was revoked on the original stays so: {grants}");
}

#[tokio::test]
async fn deletions_that_a_restore_by_the_server_undoes_are_told() {
    let server = Influx::start();
    tele(&server);
    let scratch = scratch();
    let source = server.source(&["tele"], scratch.path());
    // Points that are in files by now.
    captured(&source).await;
    server.execute_in("tele", "DELETE FROM cpu WHERE host = 'h2'");
    let without = server.points("tele");
    let (sink, after) = captured(&source).await;
    assert!(after.details.omitted.iter().any(|note| note.contains("deletions in ")), "{after:?}");
    let told = restored(&source, &sink.stream(), &Place::Database("copy".to_owned())).await.unwrap();
    assert!(told.contains("delete it again"), "{told}");
    assert_ne!(server.points("copy"), without, "the server forgets deletions: the note is true");
    server.execute_in("copy", "DELETE FROM cpu WHERE host = 'h2'");
    assert_eq!(server.points("copy"), without);
}

fn assert_is_as_before(server: &Influx, before: &Points) {
    assert_eq!(&server.points("tele"), before);
    assert!(server.query("SHOW CONTINUOUS QUERIES").contains("CREATE CONTINUOUS QUERY hourly ON tele"));
    assert!(server.query(&format!("SHOW GRANTS FOR {READER}")).contains("tele,READ"));
    assert_eq!(server.databases(), ["tele"], "nothing is left beside");
}

#[tokio::test]
async fn all_databases_come_back_under_their_own_names_also_one_without_a_point() {
    let server = Influx::start();
    tele(&server);
    server.query("CREATE DATABASE empty WITH DURATION 3d NAME three");
    let scratch = scratch();
    let before = server.points("tele");
    for declared in [&[][..], &["tele", "empty"]] {
        let source = server.source(declared, scratch.path());
        let (sink, _) = captured(&source).await;
        let stream = sink.stream();
        let refused = restored(&source, &stream, &Place::Database("copy".to_owned())).await.unwrap_err();
        assert!(refused.to_string().contains("2 databases were captured"), "{refused}");
        server.query("DROP DATABASE tele");
        server.query("DROP DATABASE empty");
        restored(&source, &stream, &Place::Original).await.unwrap();
        assert_eq!(server.points("tele"), before);
        assert!(server.query("SHOW RETENTION POLICIES ON empty").contains("three,72h0m0s"));
        let folder = scratch.path().join("restored");
        restored(&source, &stream, &Place::Folder(folder.clone())).await.unwrap();
        restored(&source, &stream, &Place::Folder(folder.clone())).await.expect_err("it is not empty");
        loads_by_hand(&server, &folder.join("tele"), &before);
        fs::remove_dir_all(&folder).unwrap();
        let by_tar = tempfile::tempdir().unwrap();
        let tar = by_tar.path().join("influxdb.tar");
        restored(&source, &stream, &Place::File(tar.clone())).await.unwrap();
        super::lab::run(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(by_tar.path()));
        loads_by_hand(&server, &by_tar.path().join("tele"), &before);
        assert!(is_empty(scratch.path()));
    }
    let other = server.source(&["empty"], scratch.path());
    let (sink, _) = captured(&other).await;
    restored(&other, &sink.stream(), &Place::Database("nothing".to_owned())).await.unwrap();
    assert!(server.query("SHOW RETENTION POLICIES ON nothing").contains("three,72h0m0s"));
    let undeclared = server.source(&["tele"], scratch.path());
    let refused = restored(&undeclared, &sink.stream(), &Place::Original).await.unwrap_err();
    assert!(refused.to_string().contains("empty, which is not declared"), "{refused}");
}

fn loads_by_hand(server: &Influx, folder: &Path, before: &Points) {
    let mut restore = Command::new(influxd());
    restore.args(["restore", "-portable", "-host", &format!("127.0.0.1:{}", server.rpc())]);
    super::lab::run(restore.args(["-db", "tele", "-newdb", "by_hand"]).arg(folder));
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.points_now("by_hand").as_ref() != Ok(before) {
        assert!(Instant::now() < deadline, "what influxd restored is not what was captured");
    }
    server.query("DROP DATABASE by_hand");
}

#[tokio::test]
async fn one_retention_policy_is_captured_alone_and_never_takes_the_place_of_all() {
    let server = Influx::start();
    tele(&server);
    let scratch = scratch();
    let of_long = spec::Influxdb { retention_policy: Some("long".to_owned()), ..server.declared(&["tele"]) };
    let long = source(of_long, PASSWORD, scratch.path());
    let (sink, _) = captured(&long).await;
    let points = |policy: &str, database: &str| {
        Points(server.query(&format!("SELECT * FROM {database}.{policy}.cpu GROUP BY \"host\", \"odd tag\"")))
    };
    let (before, all) = (points("long", "tele"), server.points("tele"));
    restored(&long, &sink.stream(), &Place::Database("tele_restored".to_owned())).await.unwrap();
    assert_eq!(points("long", "tele_restored"), before);
    assert_eq!(server.points("tele_restored").0.matches("policy ").count(), 1);

    let refused = restored(&long, &sink.stream(), &Place::Original).await.unwrap_err();
    assert_eq!(server.points("tele"), all, "a refusal changes nothing");
    let told = refused.to_string();
    let statement = told.split_once("SELECT * INTO").map(|(_, rest)| format!("SELECT * INTO{rest}")).unwrap();
    server.query("DROP RETENTION POLICY long ON tele");
    server.query("CREATE RETENTION POLICY long ON tele DURATION INF REPLICATION 1");
    assert_ne!(server.points("tele"), all);
    server.query(&statement);
    assert_eq!(points("long", "tele"), before, "the statement that is told copies the points");

    server.query("DROP DATABASE tele");
    restored(&long, &sink.stream(), &Place::Original).await.unwrap();
    assert_eq!(points("long", "tele"), before);
    let absent = spec::Influxdb { retention_policy: Some("absent".to_owned()), ..server.declared(&["tele"]) };
    let error = fails(&source(absent, PASSWORD, scratch.path()), &request()).await;
    assert!(error.to_string().contains("no retention policy absent"), "{error}");
}

#[tokio::test]
async fn shards_that_did_not_change_are_taken_from_the_base_and_the_whole_comes_back() {
    let server = Influx::start();
    tele(&server);
    let scratch = scratch();
    let source = server.source(&["tele"], scratch.path());
    let (base, captured) = captured(&source).await;
    server.write("tele", "autogen", "cpu,host=h1 v=99 1700000000\n");
    let mut sink = Collected::on(&base);
    let on_base = CaptureRequest {
        kind: Kind::Differential,
        base_started: Some(captured.moment.newest()),
        clock: &ManualClock::new(captured.moment.newest() + Duration::from_secs(3600)),
        ..request()
    };
    source.capture(&on_base, &mut sink).await.unwrap();
    let shards = sink.runs.iter().filter(|(key, _)| key.is_some()).count();
    assert!(shards > 5 && sink.reused == shards - 1, "{} of {shards}", sink.reused);
    restored(&source, &sink.stream(), &Place::Database("copy".to_owned())).await.unwrap();
    assert_eq!(server.points("copy"), server.points("tele"));
}

#[tokio::test]
async fn influxdb_conforms() {
    let server = Influx::start();
    tele(&server);
    let scratch = scratch();
    conforms(&server.source(&["tele"], scratch.path()), tempfile::tempdir().unwrap().path()).await;
    let log = CaptureRequest { kind: Kind::Log, ..request() };
    let error = fails(&server.source(&["tele"], scratch.path()), &log).await;
    assert!(error.to_string().contains("no log artifacts"), "{error}");
}
