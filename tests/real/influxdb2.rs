//! InfluxDB 2 by its HTTP API: what is captured, what comes back, and what must never count.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use backstay::{
    artifact::{
        Kind,
        manifest::{Counts, Moment},
    },
    clock::ManualClock,
    sources::{CaptureRequest, Holds, Place, Source, SourceError, influxdb2::Influxdb2Source},
    spec,
    stores::Class,
};
use serde_json::{Value, json};

use super::lab::{
    free_port,
    influxdb::{Influx, break_after, certificates},
    influxdb2::{Influx2, ORG, TOKEN, declared, source},
};
use super::source_conformance::{Collected, captured, conforms, request, restored, sparing};

/// Points of every type, in many shards.
fn tele(server: &Influx2) -> String {
    let id = server.make_bucket("tele");
    let points: String = (0..4000)
        .map(|n| {
            let time = 1_700_000_000 + n * 1800;
            format!(
                "cpu,host=h{},odd\\ tag=ä v={},i={n}i,s=\"x\\\"y {n}\",b=true {time}\n",
                n % 7,
                n as f64 / 3.0
            )
        })
        .collect();
    server.write("tele", &points);
    server.write("tele", "odd\\ \"name,host=b value=1 1700000000\n");
    id
}

/// How much is sent of a large shard before its stream breaks.
const LARGE: usize = 1 << 20;

/// A bucket with one large shard.
fn heavy(server: &Influx2) {
    server.make_bucket("heavy");
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
        server.write("heavy", &points);
    }
}

async fn fails(source: &Influxdb2Source, request: &CaptureRequest<'_>) -> SourceError {
    let error = source.capture(request, &mut Collected::default()).await.expect_err("it does not count");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains("s3cr#t"), "{shown}");
    error
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_beside_the_original_and_over_it() {
    let server = Influx2::start();
    let id = tele(&server);
    let source = server.source(&["tele"]);
    assert_eq!(source.probe().await.unwrap().version, "InfluxDB 2.7.12");
    let asked = jiff::Timestamp::now();
    let (sink, captured) = captured(&source).await;
    let stream = sink.stream();
    assert!(captured.details.omitted.iter().any(|note| note.contains("dashboards")), "{captured:?}");
    let before = server.points("tele");
    assert!(before.0.contains("odd \"\"name") && before.0.lines().count() > 16_000, "{before:?}");
    assert!(matches!(captured.moment, Moment::At { time, position: None } if time >= asked), "{captured:?}");
    assert!(matches!(captured.details.counts, Counts::NotCaptured(_)), "{captured:?}");
    assert_eq!(captured.details.versions["server"], "2.7.12");

    let copy = "a copy's name \\ & ä";
    let place = Place::Database(copy.to_owned());
    restored(&source, &stream, &place).await.unwrap();
    assert_eq!(server.points(copy), before);
    assert_eq!(server.points("tele"), before, "the original is untouched");
    let again = restored(&source, &stream, &place).await.unwrap_err();
    assert!(again.to_string().contains("exists") && again.class == Class::Stalled, "{again}");
    assert_eq!(server.points(copy), before, "a refusal changes nothing");
    server.remove_bucket(copy);

    server.write("tele", "cpu,host=h1 v=99 1700000000\nlater v=1 1700000000\n");
    server.delete("tele", "host=\"h2\"");
    assert_ne!(server.points("tele"), before);
    let told = restored(&source, &stream, &Place::Original).await.unwrap();
    assert!(!told.contains("token"), "{told}");
    assert_eq!(server.points("tele"), before);
    assert_eq!(server.buckets(), ["first", "tele"], "nothing is left beside");
    assert_ne!(server.bucket("tele").unwrap(), id);
    server.remove_bucket("tele");
    restored(&source, &stream, &Place::Original).await.unwrap();
    assert_eq!(server.points("tele"), before);
    assert_eq!(server.buckets(), ["first", "tele"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_is_set_up_and_gets_everything_and_one_with_points_tells_of_them() {
    let server = Influx2::start();
    tele(&server);
    let points = server.points("tele");
    assert!(matches!(server.source(&[]).holds().await.unwrap(), Holds::Data(what) if what.contains("tele")));
    assert!(matches!(server.source(&["tele"]).holds().await.unwrap(), Holds::Data(_)));
    assert_eq!(server.source(&["first"]).holds().await.unwrap(), Holds::Nothing, "it is empty");
    assert_eq!(server.source(&["absent"]).holds().await.unwrap(), Holds::Nothing);
    let stranger = source(server.declared(&["tele"]), "another token");
    stranger.holds().await.expect_err("it sees nothing, and must not take that for nothing");
    let (sink, _) = captured(&server.source(&[])).await;

    let new = Influx2::start_new();
    assert_eq!(new.source(&[]).holds().await.unwrap(), Holds::Nothing);
    let told = restored(&new.source(&[]), &sink.stream(), &Place::Original).await.unwrap();
    assert!(told.contains("the server was new") && !told.contains(TOKEN), "{told}");
    assert_eq!(new.buckets(), ["first", "tele"]);
    assert!(new.points("tele") == points);
    assert!(matches!(new.source(&[]).holds().await.unwrap(), Holds::Data(_)));
    let again = restored(&new.source(&[]), &sink.stream(), &Place::Original).await.unwrap();
    assert!(!again.contains("the server was new"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn points_that_were_written_while_the_stream_came_are_not_replaced() {
    let server = Influx2::start();
    tele(&server);
    let points = server.points("tele");
    let (sink, _) = captured(&server.source(&[])).await;

    let new = Influx2::start_new();
    restored(&new.source(&[]), &sink.stream(), &Place::Original).await.unwrap();
    let (sink_of_new, _) = captured(&new.source(&["tele"])).await;
    for buckets in [&[][..], &["tele"]] {
        let sparing = sparing(new.source(buckets));
        let why = restored(&sparing, &sink_of_new.stream(), &Place::Original).await.unwrap_err();
        assert!(why.to_string().contains("holds points in bucket tele by now"), "{why}");
        assert_eq!(new.buckets(), ["first", "tele"], "what was made beside it is gone again");
        assert!(new.points("tele") == points);
    }
    let other = Influx2::start_new();
    restored(&sparing(other.source(&[])), &sink.stream(), &Place::Original).await.unwrap();
    assert!(other.points("tele") == points);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_in_influxql_is_answered_by_a_reader_who_goes_again() {
    let server = Influx2::start();
    tele(&server);
    let source = server.source(&["tele"]);
    let ask = |question: &'static str| source.ask(None, question);
    assert_eq!(ask("select count(v) from cpu").await.unwrap(), "4000");
    assert_eq!(server.source(&[]).ask(Some("tele"), "select last(s) from cpu").await.unwrap(), "x\"y 3999");
    for odd in ["select v from cpu limit 2", "delete from cpu", "drop measurement cpu", "no question"] {
        ask(odd).await.expect_err(odd);
    }
    assert_eq!(ask("select count(v) from cpu").await.unwrap(), "4000");
    assert!(!server.asked("GET", "/api/v2/authorizations", "").contains("a check of a drill"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_a_bucket_goes_over_to_the_one_that_replaces_it_and_tokens_are_told() {
    let server = Influx2::start();
    let id = tele(&server);
    let organization = server.organization();
    let made = |path: &str, body: Value| -> Value {
        serde_json::from_str(&server.asked("POST", path, &body.to_string())).unwrap()
    };
    let label =
        made("/api/v2/labels", json!({ "orgID": organization, "name": "hot" }))["label"]["id"].clone();
    server.asked("POST", &format!("/api/v2/buckets/{id}/labels"), &json!({ "labelID": label }).to_string());
    made(
        "/api/v2/dbrps",
        json!({ "orgID": organization, "bucketID": id, "database": "old", "retention_policy": "rp", "default": true }),
    );
    let right =
        json!({ "action": "write", "resource": { "type": "buckets", "id": id, "orgID": organization } });
    made(
        "/api/v2/authorizations",
        json!({ "orgID": organization, "description": "agents' own", "permissions": [right] }),
    );
    let source = server.source(&["tele"]);
    let (sink, _) = captured(&source).await;
    let told = restored(&source, &sink.stream(), &Place::Original).await.unwrap();
    assert!(told.contains("do not reach it") && told.contains("agents\\' own"), "{told}");
    let new = server.bucket("tele").unwrap();
    assert_ne!(new, id);
    assert!(server.asked("GET", &format!("/api/v2/buckets/{new}/labels"), "").contains("hot"));
    let dbrps = server.asked("GET", &format!("/api/v2/dbrps?orgID={organization}&bucketID={new}"), "");
    let dbrps: Value = serde_json::from_str(&dbrps).unwrap();
    let declared =
        dbrps["content"].as_array().unwrap().iter().find(|dbrp| dbrp["database"] == "old").unwrap();
    assert_eq!((&declared["retention_policy"], &declared["default"]), (&"rp".into(), &true.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_buckets_come_back_under_their_own_names_also_by_hand() {
    let server = Influx2::start();
    tele(&server);
    server.write("first", "one v=1 1700000000\n");
    let (tele_before, first_before) = (server.points("tele"), server.points("first"));
    let folder = tempfile::tempdir().unwrap();
    let source = server.source(&[]);
    let (sink, captured) = captured(&source).await;
    let stream = sink.stream();
    assert!(!captured.details.omitted.iter().any(|note| note.contains("dashboards")), "{captured:?}");
    let refused = restored(&source, &stream, &Place::Database("copy".to_owned())).await.unwrap_err();
    assert!(refused.to_string().contains("2 buckets were captured"), "{refused}");
    server.remove_bucket("tele");
    server.write("first", "one v=2 1700000000\n");
    restored(&source, &stream, &Place::Original).await.unwrap();
    assert_eq!((server.points("tele"), server.points("first")), (tele_before.clone(), first_before));
    assert_eq!(server.buckets(), ["first", "tele"]);
    let undeclared = restored(&server.source(&["tele"]), &stream, &Place::Original).await.unwrap_err();
    assert!(undeclared.to_string().contains("first, which is not declared"), "{undeclared}");
    assert_eq!(server.buckets(), ["first", "tele"]);

    let extracted = folder.path().join("extracted");
    restored(&source, &stream, &Place::Folder(extracted.clone())).await.unwrap();
    restored(&source, &stream, &Place::Folder(extracted.clone())).await.expect_err("it is not empty");
    by_hand(&server, "call bucketMetadata", &extracted);
    assert_eq!(server.points("by_hand"), tele_before);
    server.remove_bucket("by_hand");
    let (file, by_tar) = (folder.path().join("influxdb2.tar"), folder.path().join("by_tar"));
    restored(&source, &stream, &Place::File(file.clone())).await.unwrap();
    fs::create_dir(&by_tar).unwrap();
    super::lab::run(Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(&by_tar));
    by_hand(&server, "call bucketMetadata", &by_tar);
    assert_eq!(server.points("by_hand"), tele_before);
    let other = Influx2::start();
    by_hand(&other, "call kv", &by_tar);
    assert_eq!(other.buckets(), ["first", "tele"]);
    assert_eq!(other.points("tele"), tele_before);
    assert_eq!(other.organization(), server.organization());
}

/// As `docs/influxdb2.md` tells it.
fn by_hand(server: &Influx2, step: &str, folder: &Path) {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/influxdb2.md")).unwrap();
    let script = page.split("```sh\n").find(|block| block.contains(step)).unwrap();
    let script = script.split("```").next().unwrap();
    let script = script.replace("tele_copy", "by_hand");
    let mut shell = Command::new("sh");
    shell.args(["-euc", &script]).current_dir(folder).env("URL", server.url()).env("HEADER", server.header());
    super::lab::run(&mut shell);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_did_not_change_are_taken_from_the_base_and_the_whole_comes_back() {
    let server = Influx2::start();
    tele(&server);
    let source = server.source(&["tele"]);
    // Files that are as young as the capture are read again: another capture finds them old enough.
    let deadline = Instant::now() + Duration::from_secs(30);
    let (base, captured) = loop {
        let (base, captured) = captured(&source).await;
        if base.runs.iter().filter(|(key, _)| key.is_some()).count() > 5 {
            break (base, captured);
        }
        assert!(Instant::now() < deadline, "files grow old enough");
    };
    server.write("tele", "cpu,host=h1 v=99 1700000000\n");
    let mut sink = Collected::on(&base);
    let on_base = CaptureRequest {
        kind: Kind::Incremental,
        base_started: Some(captured.moment.newest()),
        clock: &ManualClock::new(captured.moment.newest() + Duration::from_secs(3600)),
        ..request()
    };
    source.capture(&on_base, &mut sink).await.unwrap();
    let keyed = base.runs.iter().filter(|(key, _)| key.is_some()).count();
    assert!(sink.reused > 5 && sink.reused >= keyed - 1, "{} of {keyed}", sink.reused);
    restored(&source, &sink.stream(), &Place::Database("copy".to_owned())).await.unwrap();
    assert_eq!(server.points("copy"), server.points("tele"));
}

#[tokio::test(flavor = "multi_thread")]
async fn influxdb2_conforms() {
    let server = Influx2::start();
    tele(&server);
    let source = server.source(&["tele"]);
    conforms(&source, tempfile::tempdir().unwrap().path()).await;
    let error = fails(&source, &CaptureRequest { kind: Kind::Log, ..request() }).await;
    assert!(error.to_string().contains("no log artifacts"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_the_middle_of_a_shard_fails_the_capture() {
    let mut server = Influx2::start();
    heavy(&server);
    let (begun, go) = (mpsc::sync_channel(1), mpsc::sync_channel::<()>(0));
    let (sender, wait) = (begun.0, Mutex::new(go.1));
    let port = break_after(LARGE, server.http(), move || {
        sender.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
    });
    let source = source(declared(format!("http://127.0.0.1:{port}"), &["heavy"], None), TOKEN);
    let capture = tokio::spawn(async move { fails(&source, &request()).await });
    let whole = server.source(&["heavy"]);
    tokio::task::spawn_blocking(move || {
        begun.1.recv().expect("the shard is being read");
        server.kill();
        drop(go.0);
    })
    .await
    .unwrap();
    let error = capture.await.unwrap();
    assert!(error.to_string().contains("shard") && error.class == Class::Retry, "{error}");
    let begun = Instant::now();
    let error = fails(&whole, &request()).await;
    assert!(error.to_string().contains("refused") && error.class == Class::Retry, "{error}");
    assert!(error.hint.as_ref().unwrap().contains("url"), "{error}");
    whole.probe().await.expect_err("nobody is there");
    assert!(begun.elapsed() < Duration::from_secs(30), "it was waited for too long");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_in_the_middle_of_a_shard_fails_soon() {
    let server = Influx2::start();
    heavy(&server);
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let port = break_after(LARGE, server.http(), move || {
        let _ = held.lock().unwrap().recv();
    });
    let source = source(declared(format!("http://127.0.0.1:{port}"), &["heavy"], None), TOKEN);
    let error = fails(&source, &CaptureRequest { stall: Duration::from_secs(2), ..request() }).await;
    assert!(error.to_string().contains("silent for 2s") && error.class == Class::Retry, "{error}");
    drop(release);
}

/// A server that answers backups of one shard, and of that with `shard`.
fn staged(shard: Vec<u8>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let list = json!([{
        "organizationID": "1", "organizationName": ORG, "bucketID": "2", "bucketName": "tele",
        "retentionPolicies": [{ "shardGroups": [{ "id": 1, "shards": [{ "id": 1 }] }] }],
    }]);
    let parts =
        format!("--x\r\nContent-Disposition: attachment; name=\"buckets\"\r\n\r\n{list}\r\n--x--\r\n");
    let orgs = json!({ "orgs": [{ "id": "1", "name": ORG }] }).to_string();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut lines = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
            let asked = lines.next().unwrap_or_default();
            lines.find(String::is_empty);
            let (kind, body) = match asked.split(' ').nth(1).unwrap_or_default() {
                path if path.contains("/orgs") => ("application/json", orgs.clone().into_bytes()),
                path if path.contains("/metadata") => {
                    ("multipart/mixed; boundary=x", parts.clone().into_bytes())
                }
                path if path.contains("/shards/") => ("application/octet-stream", shard.clone()),
                _ => ("application/json", b"{}".to_vec()),
            };
            answer(&mut client, kind, &body);
        }
    });
    port
}

fn answer(client: &mut TcpStream, kind: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Influxdb-Version: v2.7.12\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // A client that has seen enough closes.
    let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(body));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_the_server_gave_up_in_the_middle_of_never_counts_though_its_archive_is_closed() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    for field in
        [&mut tar::Header::set_mtime as &mut dyn FnMut(&mut tar::Header, u64), &mut tar::Header::set_uid]
    {
        field(&mut header, 7);
    }
    header.set_gid(0);
    header.set_size(1000);
    header.set_mode(0o600);
    archive.append_data(&mut header, "2/autogen/1/000000001-000000001.tsm", &[7u8; 1000][..]).unwrap();
    let whole = archive.into_inner().unwrap();
    let source = |shard: &[u8]| {
        let port = staged(shard.to_vec());
        source(declared(format!("http://127.0.0.1:{port}"), &["tele"], None), TOKEN)
    };
    captured(&source(&whole)).await;
    // As the server answers: what it has sent stays, and the failure stands behind the closing blocks.
    let failure = b"{\"code\":\"internal error\",\"message\":\"no space left on device\"}";
    for (shard, why) in [
        ([whole.as_slice(), failure].concat(), "gave up in the middle of shard 1"),
        ([&whole[..512 + 700], failure].concat(), "shard 1"),
        (whole[..whole.len() - 1024].to_vec(), "before its closing blocks"),
        (failure.to_vec(), "shard 1"),
        (Vec::new(), "before its closing blocks"),
    ] {
        let error = fails(&source(&shard), &request()).await;
        assert!(error.to_string().contains(why) && error.class == Class::Retry, "{why}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_person_can_mend_is_told_with_how() {
    let server = Influx2::start();
    tele(&server);
    let wrong = source(server.declared(&["tele"]), "wrong-to-ken");
    for error in [fails(&wrong, &request()).await, wrong.probe().await.unwrap_err()] {
        assert!(error.to_string().contains("unauthorized") && error.class == Class::Stalled, "{error}");
        assert!(error.hint.as_ref().unwrap().contains("operator token"), "{error}");
        assert!(!format!("{error:?} {wrong:?}").contains("wrong-to-ken"));
    }
    let organization = server.organization();
    let all_access = json!({ "orgID": organization, "permissions": [
        { "action": "read", "resource": { "type": "buckets", "orgID": organization } },
        { "action": "read", "resource": { "type": "orgs", "id": organization } },
    ] });
    let made: Value =
        serde_json::from_str(&server.asked("POST", "/api/v2/authorizations", &all_access.to_string()))
            .unwrap();
    let token = made["token"].as_str().unwrap();
    let error = fails(&source(server.declared(&["tele"]), token), &request()).await;
    assert!(error.hint.as_ref().unwrap().contains("operator token"), "{error}");
    assert!(!format!("{error:?}").contains(token));

    let missing = server.source(&["tele", "nothing"]);
    for error in [fails(&missing, &request()).await, missing.probe().await.unwrap_err()] {
        assert!(error.to_string().contains("no bucket nothing") && error.class == Class::Stalled, "{error}");
    }
    let elsewhere = source(spec::Influxdb2 { org: "nobody".to_owned(), ..server.declared(&[]) }, TOKEN);
    let error = fails(&elsewhere, &request()).await;
    assert!(error.to_string().contains("no organization `nobody`"), "{error}");
    let former = Influx::start();
    let port = former.http();
    let error =
        fails(&source(declared(format!("http://127.0.0.1:{port}"), &[], None), TOKEN), &request()).await;
    assert!(error.to_string().contains("InfluxDB 1.") && error.class == Class::Stalled, "{error}");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let error = fails(&source(declared(nobody, &[], None), TOKEN), &request()).await;
    assert!(error.to_string().contains("refused") && error.class == Class::Retry, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_speaks_https_is_trusted_by_the_declared_authority_alone() {
    let server = Influx2::start_with_tls();
    tele(&server);
    let (sink, _) = captured(&server.source(&["tele"])).await;
    restored(&server.source(&["tele"]), &sink.stream(), &Place::Database("copy".to_owned())).await.unwrap();
    assert_eq!(server.points("copy"), server.points("tele"));
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = certificates(elsewhere.path());
    for tls in [spec::Tls::Verified { ca: stranger }, spec::Tls::Default] {
        let error =
            fails(&source(spec::Influxdb2 { tls, ..server.declared(&["tele"]) }, TOKEN), &request()).await;
        assert!(error.to_string().contains("certificate") && error.class == Class::Retry, "{error}");
    }
    assert!(server.authority().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_or_is_damaged_is_no_restore_and_leaves_no_half_bucket() {
    let server = Influx2::start();
    tele(&server);
    let folder = tempfile::tempdir().unwrap();
    let source = server.source(&["tele"]);
    let (sink, _) = captured(&source).await;
    let stream = sink.stream();
    let before = server.points("tele");
    let position = stream.windows(4).rposition(|bytes| bytes == b".tsm").expect("there is a file");
    let mut flipped = stream.clone();
    flipped[position] ^= 0x20;
    let extracted = folder.path().join("restored");
    for broken in [&stream[..stream.len() / 2], &stream[..stream.len() - 1024], &flipped, b"-- a dump\n", b""]
    {
        restored(&source, broken, &Place::Database("copy".to_owned())).await.expect_err("it is damaged");
        restored(&source, broken, &Place::Original).await.expect_err("it is damaged");
        assert_eq!(server.buckets(), ["first", "tele"]);
        assert_eq!(server.points("tele"), before);
        restored(&source, broken, &Place::Folder(extracted.clone())).await.expect_err("it is damaged");
        assert!(is_empty(&extracted), "what is incomplete is removed");
        fs::remove_dir(&extracted).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_points_that_are_none_are_no_restore() {
    let server = Influx2::start();
    tele(&server);
    let source = server.source(&["tele"]);
    let (sink, _) = captured(&source).await;
    // The archive around it is whole, and the server says that all is well.
    let stream = sink.stream();
    let name = stream.windows(4).position(|bytes| bytes == b".tsm").unwrap();
    let content = name.next_multiple_of(512);
    let mut zeros = stream.clone();
    zeros[content..content + 16].fill(0);
    let mut header = tar::Header::from_byte_slice(&stream[content - 512..content]).clone();
    let behind = content + header.size().unwrap().next_multiple_of(512) as usize;
    header.set_size(0);
    header.set_cksum();
    let empty = [&stream[..content - 512], header.as_bytes(), &stream[behind..]].concat();
    for (what, bad) in [("zeros", zeros), ("empty", empty)] {
        for place in [Place::Database("copy".to_owned()), Place::Original] {
            let error = restored(&source, &bad, &place).await.unwrap_err();
            assert!(error.to_string().contains("is no file of points"), "{what}: {error}");
            assert_eq!(server.buckets(), ["first", "tele"], "the original stays until its copy is complete");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_that_a_restore_by_the_server_undoes_are_told() {
    let server = Influx2::start();
    tele(&server);
    let source = server.source(&["tele"]);
    // Points that are in files by now.
    captured(&source).await;
    server.delete("tele", "host=\"h2\"");
    let without = server.points("tele");
    let (sink, after) = captured(&source).await;
    assert!(after.details.omitted.iter().any(|note| note.contains("deletions in ")), "{after:?}");
    let told = restored(&source, &sink.stream(), &Place::Database("copy".to_owned())).await.unwrap();
    assert!(told.contains("delete it again"), "{told}");
    assert_ne!(server.points("copy"), without, "the server forgets deletions: the note is true");
    server.delete("copy", "host=\"h2\"");
    assert_eq!(server.points("copy"), without);
}
