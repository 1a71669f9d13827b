//! etcd by its gateway: what is captured, what comes back, and what must never count.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use backstay::{
    artifact::{
        Kind,
        manifest::{Counting, Counts, Moment},
    },
    clock::Clock,
    sources::{CaptureRequest, Captured, Holds, Place, Source, SourceError, etcd::EtcdSource},
    stores::Class,
};

use sha2::Digest;

use super::lab::moments::OfOld;
use super::lab::{
    certificates::Certificates,
    etcd::{Etcd, PASSWORD, Reached, secured, source},
    free_port,
    held::Held,
    wait_until,
};
use super::source_conformance::{Collected, captured, conforms, request, restored, sparing};

fn position(captured: &Captured) -> &str {
    match &captured.moment {
        Moment::At { position: Some(position), .. } => position,
        other => panic!("{other:?}"),
    }
}

async fn counted(etcd: &Etcd) -> Counts {
    etcd.source().count(Counting::Rows).await.unwrap().counts
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

#[tokio::test]
async fn a_new_cluster_of_the_restored_file_holds_the_same() {
    let server = Etcd::start();
    server.fill("key", 30, 5000);
    server.run(&["put", "key1", "again"]);
    server.run(&["del", "key2"]);
    let (everything, revision) = (server.everything(0), server.revision());
    let (sink, captured) = captured(&server.source()).await;
    assert_eq!(position(&captured), format!("revision {revision}"));
    assert_eq!(captured.details.counts, Counts::Captured(BTreeMap::from([("keys".to_owned(), 29)])));
    assert!(captured.details.versions["server"].starts_with("3."), "{captured:?}");

    let of_etcdctl = server.folder().join("saved.db");
    server.run(&["snapshot", "save", of_etcdctl.to_str().unwrap()]);
    assert!(fs::read(&of_etcdctl).unwrap() == sink.stream(), "the stream is the file that etcdctl writes");

    server.run(&["del", "", "--from-key"]);
    let other = Place::Database("other".to_owned());
    let refused = restored(&server.source(), &sink.stream(), &other).await.unwrap_err();
    assert!(refused.hint.is_some_and(|hint| hint.contains("etcdctl snapshot restore")));
    assert_eq!(refused.class, Class::Stalled);
    let folder = Place::Folder(server.folder().join("new"));
    restored(&server.source(), &sink.stream(), &folder).await.unwrap();
    let again = restored(&server.source(), &sink.stream(), &folder).await.unwrap_err();
    assert!(again.to_string().contains("not empty"), "{again}");
    let copy = Etcd::start_on(&server.folder().join("new/snapshot.db"));
    assert_ne!(copy.peer(), server.peer());
    assert_eq!(copy.everything(0), everything);
    assert_ne!(server.everything(0), everything);
}

/// Every key with its value and its lease.
fn held(server: &Etcd) -> Vec<(String, String, String)> {
    let text = |value: &serde_json::Value| value.to_string();
    let all = server.everything(0);
    let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|it| (text(&it["key"]), text(&it["value"]), text(&it["lease"]))).collect()
}

#[tokio::test]
async fn a_running_cluster_takes_everything_back_in_place_of_what_it_holds() {
    let server = Etcd::start();
    assert_eq!(server.source().holds().await.unwrap(), Holds::Nothing);
    // More than one transaction takes, by number and by length; and some of it written more than once.
    server.fill("key", 130, 100);
    server.fill("large", 3, 700_000);
    let granted = server.run(&["lease", "grant", "3600"]);
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    server.run(&["put", "leased", "x", "--lease", &lease]);
    server.run(&["put", "key1", "again"]);
    server.run(&["del", "key2"]);
    server.run(&["put", "key3", ""]);
    let all = held(&server);
    assert_eq!(all.len(), 133);
    assert!(matches!(server.source().holds().await.unwrap(), Holds::Data(what) if what == "133 keys"));
    let (sink, captured) = captured(&server.source()).await;
    assert_eq!(captured.details.counts, Counts::Captured(BTreeMap::from([("keys".to_owned(), 133)])));

    let new = Etcd::start();
    let told = restored(&new.source(), &sink.stream(), &Place::Original).await.unwrap();
    assert!(told.ends_with("(133 keys, 1 of them with leases that begin anew)"), "{told}");
    assert_eq!(held(&new), all);
    assert!(new.run(&["lease", "timetolive", &lease]).contains("granted with TTL(3600s)"));
    assert_eq!(counted(&new).await, captured.details.counts);

    for number in 0..300 {
        server.run(&["put", &format!("other{number}"), "x"]);
    }
    server.run(&["del", "key5"]);
    server.run(&["lease", "revoke", &lease]);
    server.run(&["put", "large1", "changed"]);
    restored(&server.source(), &sink.stream(), &Place::Original).await.unwrap();
    assert_eq!(held(&server), all);
}

#[tokio::test]
async fn what_was_written_while_the_snapshot_came_is_not_replaced() {
    let server = Etcd::start();
    server.fill("key", 130, 100);
    let all = held(&server);
    let (sink, _) = captured(&server.source()).await;

    let new = Etcd::start();
    let sparing = sparing(new.source());
    assert_eq!(sparing.holds().await.unwrap(), Holds::Nothing);
    new.run(&["put", "key7", "new"]);
    let why = restored(&sparing, &sink.stream(), &Place::Original).await.unwrap_err();
    assert!(why.to_string().contains("holds 1 keys by now"), "{why}");
    assert_eq!(held(&new).len(), 1);
    new.run(&["del", "key7"]);
    restored(&sparing, &sink.stream(), &Place::Original).await.unwrap();
    assert_eq!(held(&new), all);
}

/// While keys are put somebody makes one of them: each transaction is held against that.
#[tokio::test]
async fn a_key_that_somebody_makes_while_others_are_put_is_not_replaced() {
    let server = Etcd::start();
    server.fill("key", 300, 20_000);
    let (sink, _) = captured(&server.source()).await;
    let new = Etcd::start();
    let sparing = sparing(new.source());
    // The last of the keys in their order.
    let writer = async {
        while counted(&new).await == Counts::Captured(BTreeMap::from([("keys".to_owned(), 0)])) {}
        new.run(&["put", "key99", "somebody's"]);
    };
    let stream = sink.stream();
    let (restored, ()) = tokio::join!(restored(&sparing, &stream, &Place::Original), writer);
    let why = restored.unwrap_err().to_string();
    assert!(why.contains("somebody else writes"), "{why}");
    assert!(new.run(&["get", "key99"]).contains("somebody's"));
}

#[tokio::test]
async fn what_is_no_whole_snapshot_leaves_a_cluster_as_it_is() {
    let server = Etcd::start();
    server.fill("key", 30, 1000);
    let (sink, _) = captured(&server.source()).await;
    let stream = sink.stream();
    let mut damaged = stream.clone();
    damaged[8000] ^= 1;
    server.run(&["put", "junk", "1"]);
    let before = server.everything(0);
    for odd in [&damaged[..], &stream[..stream.len() / 2], &stream[..stream.len() - 32], b"nothing"] {
        restored(&server.source(), odd, &Place::Original).await.expect_err("it is no snapshot");
    }
    // Whole by its digest, and no database of etcd that can be read through.
    let mut odd = vec![0u8; 8192];
    odd[16..20].copy_from_slice(&0xed0c_daed_u32.to_le_bytes());
    let digest = sha2::Sha256::digest(&odd);
    odd.extend_from_slice(&digest);
    let why = restored(&server.source(), &odd, &Place::Original).await.unwrap_err();
    assert!(why.to_string().contains("damaged"), "{why}");
    assert_eq!(server.everything(0), before);
}

#[tokio::test]
async fn a_snapshot_with_users_comes_back_without_them_and_that_is_told() {
    let mut server = Etcd::start();
    server.fill("key", 5, 100);
    server.enable_authentication();
    let root = source(&[&server.url()], Some(("root", PASSWORD)));
    let (sink, _) = captured(&root).await;
    let all = held(&server);
    server.run(&["del", "key3"]);
    restored(&root, &sink.stream(), &Place::Original).await.unwrap();
    assert_eq!(held(&server), all);
    let new = Etcd::start();
    let told = restored(&new.source(), &sink.stream(), &Place::Original).await.unwrap();
    assert!(told.contains("users and roles are left out"), "{told}");
    let reader = source(&[&server.url()], Some(("reader", PASSWORD)));
    let why = restored(&reader, &sink.stream(), &Place::Original).await.unwrap_err();
    assert!(why.hint.as_ref().is_some_and(|hint| hint.contains("grant-role")), "{why}");
    assert_eq!((held(&new), held(&server)), (all.clone(), all));
}

#[test]
fn a_snapshot_is_one_revision_while_a_writer_writes() {
    let server = Etcd::start();
    server.fill("large", 5, 1_000_000);
    let stop = AtomicBool::new(false);
    let (sink, captured) = thread::scope(|threads| {
        threads.spawn(|| {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                server.run(&["put", &format!("key{}", number % 50), &number.to_string()]);
            }
        });
        // A snapshot that nothing was written beside says so; it is taken again until something was.
        let (mut sink, mut seen) = block_on(captured(&server.source()));
        for _ in 0..200 {
            if position(&seen).contains(" to ") {
                break;
            }
            (sink, seen) = block_on(captured(&server.source()));
        }
        stop.store(true, Ordering::Relaxed);
        (sink, seen)
    });
    let (before, after) = position(&captured)
        .strip_prefix("revision ")
        .and_then(|revisions| revisions.split_once(" to "))
        .unwrap_or_else(|| panic!("nothing was written meanwhile: {captured:?}"));
    assert!(matches!(captured.details.counts, Counts::NotCaptured(_)), "{captured:?}");
    let file = server.folder().join("snapshot.db");
    block_on(restored(&server.source(), &sink.stream(), &Place::File(file.clone()))).unwrap();
    let copy = Etcd::start_on(&file);
    let revision = copy.revision();
    assert!(
        (before.parse().unwrap()..=after.parse().unwrap()).contains(&revision),
        "{revision}: {captured:?}"
    );
    assert_eq!(copy.everything(0), server.everything(revision));
}

#[tokio::test]
async fn etcd_conforms_with_and_without_authentication() {
    let (mut server, scratch) = (Etcd::start(), tempfile::tempdir().unwrap());
    server.fill("key", 10, 1000);
    conforms(&server.source(), scratch.path()).await;
    let version = server.source().probe().await.unwrap().version;
    assert!(version.starts_with("etcd 3."), "{version}");
    let log = CaptureRequest { kind: Kind::Log, ..request() };
    assert!(fails(&server.source(), &log).await.to_string().contains("no log"));
    let of_old = CaptureRequest { clock: &OfOld, ..request() };
    let dated = server.source().capture(&of_old, &mut Collected::default()).await.unwrap();
    assert_eq!(dated.moment.newest(), OfOld.now());

    server.enable_authentication();
    let scratch = tempfile::tempdir().unwrap();
    let root = source(&[&server.url()], Some(("root", PASSWORD)));
    conforms(&root, scratch.path()).await;
    let (_, seen) = captured(&root).await;
    assert_eq!(seen.details.counts, Counts::Captured(BTreeMap::from([("keys".to_owned(), 10)])));
}

#[tokio::test]
async fn what_is_no_whole_snapshot_is_not_put_in_place() {
    let server = Etcd::start();
    server.fill("key", 10, 1000);
    let (sink, _) = captured(&server.source()).await;
    let stream = sink.stream();
    let mut altered = stream.clone();
    altered[stream.len() / 2] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot.db");
    for damaged in [&stream[..stream.len() - 32], &altered, b"-- a dump of something else", b""] {
        let error = restored(&server.source(), damaged, &Place::File(file.clone())).await;
        error.expect_err("it is no whole snapshot");
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is left");
    }
}

/// Every failure is an error that shows no secret.
async fn fails(source: &EtcdSource, request: &CaptureRequest<'_>) -> SourceError {
    let error = source.capture(request, &mut Collected::default()).await.expect_err("this must not count");
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("s3cr#t") && !shown.contains("wr0ng") && !shown.contains("PRIVATE KEY"),
        "{shown}"
    );
    error
}

#[track_caller]
fn expect(error: &SourceError, said: &str, hint: &str) {
    assert!(error.to_string().contains(said), "{error}");
    assert!(error.hint.as_ref().is_some_and(|told| told.contains(hint)), "{error:?}");
    assert_eq!(error.class, Class::Stalled, "{error:?}");
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_told_with_how() {
    let mut server = Etcd::start();
    let url = server.url();
    let with = |user, password| source(&[&url], Some((user, password)));
    expect(&fails(&with("root", PASSWORD), &request()).await, "not enabled", "remove user");
    server.enable_authentication();
    expect(&fails(&with("root", "wr0ng"), &request()).await, "invalid user", "check user");
    expect(&fails(&with("nobody", PASSWORD), &request()).await, "invalid user", "check user");
    expect(&fails(&with("reader", PASSWORD), &request()).await, "permission denied", "grant-role");
    expect(&fails(&source(&[&url], None), &request()).await, "user name is empty", "declare user");
    let closed = Etcd::with(&["--enable-grpc-gateway=false"]);
    expect(&fails(&closed.source(), &request()).await, "404", "enable-grpc-gateway");
}

#[tokio::test]
async fn the_first_member_that_answers_is_captured_and_none_is_tried_again() {
    let (server, down) = (Etcd::start(), format!("http://127.0.0.1:{}", free_port()));
    server.fill("key", 3, 10);
    captured(&source(&[&down, &server.url()], None)).await;
    let error = fails(&source(&[&down], None), &request()).await;
    assert!(error.class == Class::Retry && error.to_string().contains(&down), "{error:?}");
    source(&[&down], None).probe().await.expect_err("nobody answers");

    // One of two that lost the other has no leader.
    let peers = [free_port(), free_port()];
    let (one, mut two) = (Etcd::one_of("one", peers), Etcd::one_of("two", peers));
    wait_until("they find each other", Duration::from_secs(120), || block_on_thread(one.source()).is_ok());
    two.kill();
    wait_until("the leader is missed", Duration::from_secs(120), || block_on_thread(one.source()).is_err());
    let error = fails(&one.source(), &request()).await;
    assert!(error.class == Class::Retry && error.to_string().contains("no leader"), "{error:?}");
    captured(&source(&[&one.url(), &server.url()], None)).await;
}

/// Whether a member is fit, asked from within a test that is asynchronous itself.
fn block_on_thread(source: EtcdSource) -> Result<String, SourceError> {
    let probed = thread::spawn(move || block_on(source.probe())).join().unwrap();
    probed.map(|probe| probe.version)
}

#[test]
fn a_member_that_is_killed_or_falls_silent_during_the_snapshot_fails_it() {
    let mut server = Etcd::start();
    server.fill("large", 40, 1_000_000);
    for (case, why) in [("silent", "silent for 2s"), ("killed", "")] {
        let source = server.source();
        let (mut sink, held) = Held::after(4 << 20);
        let impatient = CaptureRequest { stall: Duration::from_secs(2), ..request() };
        let capture = thread::spawn(move || block_on(source.capture(&impatient, &mut sink)));
        let go = held.recv().expect("the snapshot begins");
        match case {
            "silent" => server.suspend(),
            _ => server.kill(),
        }
        go.send(()).unwrap();
        let error = capture.join().unwrap().expect_err("half a snapshot does not count");
        assert!(error.class == Class::Retry && error.to_string().contains(why), "{case}: {error:?}");
        if case == "silent" {
            server.resume();
        }
    }
}

#[tokio::test]
async fn a_secured_member_and_its_client_must_show_certificates() {
    let (certificates, others) = (Certificates::make(), Certificates::make());
    let server = Etcd::reached(Reached::Mutually(certificates.clone()));
    server.fill("key", 3, 1000);
    let scratch = tempfile::tempdir().unwrap();
    conforms(&secured(&server.url(), &certificates, Some("client")), scratch.path()).await;
    expect(
        &fails(&secured(&server.url(), &others, Some("client")), &request()).await,
        "certificate",
        "tls.ca",
    );
    expect(&fails(&secured(&server.url(), &certificates, None), &request()).await, "alert", "tls.cert");
    let plain = server.url().replace("https", "http");
    fails(&source(&[&plain], None), &request()).await;
}
