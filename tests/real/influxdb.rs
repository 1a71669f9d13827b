//! InfluxDB by its own program: what is captured, what comes back, and what must never count.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Mutex, mpsc},
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

use super::lab::{
    free_port,
    influxdb::{
        ADMIN, Influx, PASSWORD, Points, READER, break_after, certificates, fake, identifier, influxd, source,
    },
    tmpfs::Tmpfs,
};
use super::source_conformance::{Collected, captured, conforms, request, restored, sparing};

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Measurements of every type, over many shards of two retention policies, with all that belongs to them.
fn tele(server: &Influx) {
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

/// How large the archive of one shard is made where a stream is to break in its middle, at least.
const LARGE: usize = 1 << 20;

/// A database with one large shard.
fn heavy(server: &Influx) {
    server.query("CREATE DATABASE heavy");
    let mut seed = 1u64;
    for batch in 0..20 {
        let points: String = (0..1000)
            .map(|n| {
                let text: String = (0..10)
                    .map(|_| {
                        seed = seed
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        format!("{:016x}", seed ^ (seed >> 29))
                    })
                    .collect();
                format!("log text=\"{text}\" {}\n", 1_700_006_400 + batch * 1000 + n)
            })
            .collect();
        server.write("heavy", "autogen", &points);
    }
}

async fn fails(source: &InfluxdbSource, request: &CaptureRequest<'_>) -> SourceError {
    let error = source.capture(request, &mut Collected::default()).await.expect_err("it does not count");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(PASSWORD) && !shown.contains("s3cr#t"), "{shown}");
    error
}

fn exists(id: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

fn is_empty(folder: &Path) -> bool {
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

#[tokio::test]
async fn a_backup_that_fails_is_cut_short_stalls_or_is_killed_never_counts_and_leaves_no_process() {
    let server = Influx::start();
    tele(&server);
    let pid = tempfile::NamedTempFile::new().unwrap();
    let note_pid = format!("echo $$ > {}\nfor last; do :; done", pid.path().display());
    let cases = [
        ("exit 2", "$REAL \"$@\"; echo broken >&2; exit 2", "exit status 2: "),
        ("nothing", "exit 0", "0 manifests"),
        ("killed", "$REAL \"$@\"; kill -9 $$", "SIGKILL"),
        ("stalled", "$REAL \"$@\"; sleep 600 & sleep 600", "silent for 3s"),
        ("wrong option", "exec $REAL backup --no-such-option", "install an influxd"),
        ("shard is missing", "$REAL \"$@\"; rm $last/*.s1.tar.gz", "is missing"),
        ("shard is cut", "$REAL \"$@\"; truncate -s -20 $last/*.s1.tar.gz", "cut short or damaged"),
        (
            "shard was cut before it was compressed",
            "$REAL \"$@\"; for f in $last/*.s1.tar.gz; do gunzip -c $f | head -c 2000 | gzip > x; mv x $f; done",
            "cut short or damaged",
        ),
        ("metadata are empty", "$REAL \"$@\"; : > $(echo $last/*.meta)", "empty or cut short"),
        ("something is left", "$REAL \"$@\"; : > $last/tele.autogen.00001.00.pending", "is not named"),
    ];
    let scratch = scratch();
    for (case, script, why) in cases {
        let program = fake(&format!("cd {}; {note_pid}; {script}", scratch.path().display()));
        let source = server.source(&["tele"], scratch.path()).search_path(program.path());
        let stall = if case == "stalled" { Duration::from_secs(3) } else { request().stall };
        let error = fails(&source, &CaptureRequest { stall, ..request() }).await;
        assert!(error.to_string().contains(why), "{case}: {error}");
        let id = fs::read_to_string(pid.path()).unwrap().trim().to_owned();
        assert!(!id.is_empty() && !exists(&id), "{case}: process {id} is left");
        assert!(is_empty(scratch.path()), "{case}: something staged is left");
    }
}

#[tokio::test]
async fn a_server_that_is_killed_during_the_backup_fails_it_though_the_program_says_that_all_is_well() {
    let mut server = Influx::start();
    heavy(&server);
    let (folder, scratch) = (scratch(), scratch());
    // The trap: the connection ends in the middle of a shard, and the program ends with 0.
    let port = break_after(LARGE, server.rpc(), || {});
    let mut backup = Command::new(influxd());
    backup.args(["backup", "-portable", "-host", &format!("127.0.0.1:{port}"), "-database", "heavy"]);
    super::lab::run(backup.arg(folder.path()));

    let (begun, go) = (mpsc::sync_channel(1), mpsc::sync_channel::<()>(0));
    let (sender, wait) = (begun.0, Mutex::new(go.1));
    let port = break_after(LARGE, server.rpc(), move || {
        sender.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
    });
    let through = spec::Influxdb { rpc_port: port, ..server.declared(&["heavy"]) };
    let source = source(through, PASSWORD, scratch.path());
    let capture = tokio::spawn(async move { fails(&source, &request()).await });
    tokio::task::spawn_blocking(move || {
        begun.1.recv().expect("the shard is being read");
        server.kill();
        drop(go.0);
    })
    .await
    .unwrap();
    let error = capture.await.unwrap();
    assert!(error.to_string().contains("cut short or damaged") && error.class == Class::Retry, "{error}");
    assert!(is_empty(scratch.path()));
}

#[tokio::test]
async fn a_server_that_falls_silent_in_the_middle_of_a_shard_or_is_gone_fails_soon() {
    let mut server = Influx::start();
    heavy(&server);
    let scratch = scratch();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let port = break_after(LARGE, server.rpc(), move || {
        let _ = held.lock().unwrap().recv();
    });
    let through = |rpc_port| {
        source(spec::Influxdb { rpc_port, ..server.declared(&["heavy"]) }, PASSWORD, scratch.path())
    };
    let stalls = CaptureRequest { stall: Duration::from_secs(2), ..request() };
    let error = fails(&through(port), &stalls).await;
    assert!(error.to_string().contains("silent for 2s") && error.class == Class::Retry, "{error}");
    drop(release);

    let begun = Instant::now();
    let error = fails(&through(free_port()), &request()).await;
    assert!(
        error.to_string().contains("refused") && error.hint.as_ref().unwrap().contains("rpc_port"),
        "{error}"
    );
    let error = fails(&through(server.http()), &stalls).await;
    assert!(error.to_string().contains("the RPC port"), "{error}");
    let whole = through(server.rpc());
    server.kill();
    let error = fails(&whole, &request()).await;
    assert!(error.to_string().contains("refused") && error.class == Class::Retry, "{error}");
    whole.probe().await.expect_err("nobody is there");
    assert!(begun.elapsed() < Duration::from_secs(30), "it was waited for too long");
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_told_with_how() {
    let server = Influx::start();
    tele(&server);
    let scratch = scratch();
    let wrong = source(server.declared(&["tele"]), "wrong-pass-word", scratch.path());
    let error = fails(&wrong, &request()).await;
    assert!(error.to_string().contains("authorization failed") && error.class == Class::Stalled, "{error}");
    assert!(error.hint.as_ref().unwrap().contains("password"), "{error}");
    assert!(!format!("{error:?} {wrong:?}").contains("wrong-pass-word"));
    let missing = server.source(&["tele", "nothing"], scratch.path());
    for error in [fails(&missing, &request()).await, missing.probe().await.unwrap_err()] {
        assert!(
            error.to_string().contains("no database nothing") && error.class == Class::Stalled,
            "{error}"
        );
    }
    let empty = tempfile::tempdir().unwrap();
    let absent = fails(&server.source(&["tele"], scratch.path()).search_path(empty.path()), &request()).await;
    assert!(absent.to_string().contains("influxd") && absent.hint.is_some(), "{absent}");

    let reader = |databases: &[&str]| {
        let mut declared = server.declared(databases);
        declared.server.user = Some(READER.to_owned());
        source(declared, PASSWORD, scratch.path())
    };
    let error = fails(&reader(&[]), &request()).await;
    assert!(error.to_string().contains("GRANT ALL PRIVILEGES") && error.class == Class::Stalled, "{error}");
    let (sink, captured) = captured(&reader(&["tele"])).await;
    assert!(captured.details.omitted.iter().any(|note| note.contains("continuous queries")), "{captured:?}");
    let copy = Place::Database("copy".to_owned());
    let error = restored(&reader(&["tele"]), &sink.stream(), &copy).await.unwrap_err();
    assert!(error.to_string().contains("GRANT ALL PRIVILEGES"), "{error}");
    assert_eq!(server.databases(), ["tele"]);
}

#[tokio::test]
async fn an_api_that_speaks_https_is_trusted_by_the_declared_authority_alone() {
    let server = Influx::start_with_tls();
    server.query("CREATE DATABASE tele");
    let scratch = scratch();
    assert!(server.authority().is_some());
    let (sink, _) = captured(&server.source(&["tele"], scratch.path())).await;
    assert!(!sink.stream().is_empty());
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = certificates(elsewhere.path());
    for (tls, why) in [
        (spec::Tls::Verified { ca: stranger }, "certificate"),
        (spec::Tls::Default, "check `port` and `tls`"),
    ] {
        let mut declared = server.declared(&["tele"]);
        declared.server.tls = tls;
        let error = fails(&source(declared, PASSWORD, scratch.path()), &request()).await;
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_full_disk_is_told() {
    let server = Influx::start();
    heavy(&server);
    let soon = CaptureRequest { stall: Duration::from_secs(3), ..request() };
    let small = Tmpfs::mount(LARGE as u64);
    let error = fails(&server.source(&["heavy"], small.path()), &soon).await;
    assert!(
        error.to_string().contains("no space left on device") && error.class == Class::Stalled,
        "{error}"
    );
    assert!(error.hint.as_ref().unwrap().contains("state folder"), "{error}");
    assert!(is_empty(small.path()));
}

#[tokio::test]
async fn a_stream_that_breaks_off_or_is_damaged_is_no_restore_and_leaves_no_half_database() {
    let server = Influx::start();
    tele(&server);
    let scratch = scratch();
    let source = server.source(&["tele"], scratch.path());
    let (sink, _) = captured(&source).await;
    let stream = sink.stream();
    let before = server.points("tele");
    let mut flipped = stream.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0xff);
    let folder = scratch.path().join("restored");
    for broken in [&stream[..stream.len() / 2], &stream[..stream.len() - 1024], &flipped, b"-- a dump\n", b""]
    {
        restored(&source, broken, &Place::Database("copy".to_owned())).await.expect_err("it is damaged");
        restored(&source, broken, &Place::Original).await.expect_err("it is damaged");
        assert_eq!(server.databases(), ["tele"]);
        assert_eq!(server.points("tele"), before);
        restored(&source, broken, &Place::Folder(folder.clone())).await.expect_err("it is damaged");
        assert!(is_empty(&folder), "what is incomplete is removed");
        fs::remove_dir(&folder).unwrap();
        assert!(is_empty(scratch.path()));
    }
}

#[tokio::test]
async fn a_restore_that_the_server_took_in_only_in_part_is_none() {
    let server = Influx::start();
    tele(&server);
    let scratch = scratch();
    let source = server.source(&["tele"], scratch.path());
    let (sink, _) = captured(&source).await;
    let before = server.points("tele");
    // The program leaves out a shard whose file is not there, and ends with 0.
    let partial = fake("for last; do :; done; rm $last/*.s1.tar.gz; exec $REAL \"$@\"");
    let source = source.search_path(partial.path()).settling(Duration::from_secs(2));
    for place in [Place::Database("copy".to_owned()), Place::Original] {
        let error = restored(&source, &sink.stream(), &place).await.unwrap_err();
        assert!(error.to_string().contains("shards with data"), "{error}");
        assert_eq!(server.databases(), ["tele"]);
        assert_eq!(server.points("tele"), before, "the original stays until its copy is complete");
    }
}

#[tokio::test]
async fn where_the_original_is_gone_and_not_back_a_complete_copy_is_left_and_told() {
    let server = Influx::start();
    tele(&server);
    let scratch = scratch();
    let source = server.source(&["tele"], scratch.path());
    let (sink, _) = captured(&source).await;
    let before = server.points("tele");
    let once = fake("[ -e $0.once ] && { echo broken >&2; exit 1; }; : > $0.once; exec $REAL \"$@\"");
    let error = restored(&source.clone().search_path(once.path()), &sink.stream(), &Place::Original).await;
    let error = error.unwrap_err();
    let [copy] = server.databases().try_into().expect("the copy alone is there");
    assert!(copy.starts_with("tele_backstay_") && error.to_string().contains(&copy), "{error}");
    assert!(error.to_string().contains("broken") && error.class == Class::Stalled, "{error}");
    assert!(error.to_string().contains(&format!("GRANT READ ON \"tele\" TO \"{READER}\"")), "{error}");
    assert_eq!(server.points(&copy), before);
    restored(&source, &sink.stream(), &Place::Original).await.unwrap();
    assert_eq!(server.points("tele"), before);
}

#[tokio::test]
async fn a_database_that_somebody_else_made_meanwhile_is_not_removed() {
    let server = Influx::start();
    tele(&server);
    let scratch = scratch();
    let source = server.source(&["tele"], scratch.path());
    let (sink, _) = captured(&source).await;
    let port = server.http();
    let script = format!(
        "INFLUX_USERNAME=admin INFLUX_PASSWORD='{}' influx -host 127.0.0.1 -port {port} -execute 'CREATE DATABASE copy'\n\
         exec $REAL \"$@\"",
        PASSWORD.replace('\'', "'\\''")
    );
    let meanwhile = fake(&script);
    let source = source.search_path(meanwhile.path());
    let error = restored(&source, &sink.stream(), &Place::Database("copy".to_owned())).await.unwrap_err();
    assert!(error.to_string().contains("already exist"), "{error}");
    assert_eq!(server.databases(), ["tele", "copy"]);
}
