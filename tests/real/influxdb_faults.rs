//! InfluxDB by its own program: what must never count.

use std::{
    fs,
    process::Command,
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use backstay::{
    sources::{CaptureRequest, Place, Source},
    spec,
    stores::Class,
};

use super::influxdb::{fails, is_empty, scratch, tele};
use super::lab::{
    free_port,
    influxdb::{Influx, PASSWORD, READER, break_after, certificates, fake, influxd, source},
    tmpfs::Tmpfs,
};
use super::source_conformance::{captured, request, restored};

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

fn exists(id: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
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
