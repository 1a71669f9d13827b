//! The oplog of FerretDB: fulls of one moment, and logs that bring a server back to any second.

use std::{fs, process::Command};

use backstay::{
    artifact::{
        Kind,
        manifest::{Counts, Edge, Moment},
        until::Until,
    },
    sources::{CaptureRequest, Captured, Place, Replay, Source},
    stores::Class,
};
use bson::{Document, RawDocumentBuf, doc};
use jiff::Timestamp;
use mongodb::IndexModel;

use super::lab::mongodb::Mongodb;
use super::mongodb::{Acting, fails, shop};
use super::source_conformance::{Collected, captured, request, restored};

fn end(captured: &Captured) -> Edge {
    match &captured.moment {
        Moment::At { time, position } => Edge { time: *time, position: position.clone().unwrap() },
        Moment::Window { until, .. } => until.clone(),
    }
}

fn from(captured: &Captured) -> &Edge {
    match &captured.moment {
        Moment::Window { from, .. } => from,
        Moment::At { .. } => panic!("no window"),
    }
}

fn asked(continues: Edge) -> CaptureRequest<'static> {
    CaptureRequest { kind: Kind::Log, continues: Some(continues), ..request() }
}

async fn log(source: &dyn Source, continues: Edge) -> (Vec<u8>, Captured) {
    let mut sink = Collected::default();
    let captured = source.capture(&asked(continues), &mut sink).await.expect("the log is captured");
    (sink.stream(), captured)
}

fn raw(document: Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(&document).unwrap()
}

async fn sell(server: &Mongodb, n: i32, what: &str) {
    server.collection("shop", "sale").insert_one(raw(doc! { "_id": n, "what": what })).await.unwrap();
}

/// What everybody sold, in the order of numbers.
async fn sold(server: &Mongodb) -> Vec<String> {
    let mut cursor = server
        .database("shop")
        .collection::<Document>("sale")
        .find(doc! {})
        .sort(doc! { "_id": 1 })
        .await
        .unwrap();
    let mut all = Vec::new();
    while cursor.advance().await.unwrap() {
        all.push(cursor.deserialize_current().unwrap().get_str("what").unwrap().to_owned());
    }
    all
}

async fn till() -> Mongodb {
    let server = Mongodb::start_with_oplog().await;
    sell(&server, 1, "before the full").await;
    server
}

/// Another server with the full and the logs that follow it, up to `until`.
async fn brought_back(full: &(Collected, Captured), logs: &[Vec<u8>], until: Option<Timestamp>) -> Mongodb {
    let copy = Mongodb::start().await;
    sell(&copy, 9, "to be removed").await;
    let source = copy.source(&[]);
    source.make_way().await.unwrap();
    restored(&source, &full.0.stream(), &Place::Original).await.unwrap();
    let replay = Replay { from: end(&full.1).position, until: until.map(Until::Moment) };
    for log in logs {
        let mut stream = log.as_slice();
        source.replay(&mut stream, &Place::Original, &replay).await.expect("the log is replayed");
        assert!(stream.is_empty(), "its stream is read to the end");
    }
    copy
}

#[tokio::test]
async fn a_log_brings_a_server_back_to_any_second() {
    let server = till().await;
    let source = server.source(&[]);
    let full = captured(&source).await;
    assert!(
        !full.1.details.omitted.iter().any(|note| note.contains("one after another")),
        "{:?}",
        full.1.details
    );
    assert!(end(&full.1).time <= Timestamp::now(), "it is of no moment to come");
    sell(&server, 2, "in the first log").await;
    let (first, first_log) = log(&source, end(&full.1)).await;
    assert_eq!(from(&first_log), &end(&full.1), "nothing is left out between the full and its log");
    let sales = server.collection("shop", "sale");
    sell(&server, 3, "in the second log").await;
    sales
        .update_one(doc! { "_id": 2 }, doc! { "$set": { "what": "changed", "x": [1, { "y": 2 }] } })
        .await
        .unwrap();
    sales.update_one(doc! { "_id": 2 }, doc! { "$unset": { "x": 1 } }).await.unwrap();
    let before = server.everything("shop").await;
    let disaster = server.next_second().await;
    sales.delete_many(doc! {}).await.unwrap();
    let (second, second_log) = log(&source, end(&first_log)).await;
    assert_eq!(from(&second_log), &end(&first_log), "nothing is left out between two logs");
    // Nothing happens any more: the last moment of a quiet log can be reached all the same.
    let (third, third_log) = log(&source, end(&second_log)).await;
    assert_eq!(end(&third_log).position, end(&second_log).position);
    let logs = [first, second, third];
    let copy = brought_back(&full, &logs, Some(disaster)).await;
    assert_eq!(sold(&copy).await, ["before the full", "changed", "in the second log"]);
    let documents = |all: &[(Document, Vec<Document>, Vec<RawDocumentBuf>)]| all[0].2.clone();
    assert_eq!(documents(&copy.everything("shop").await), documents(&before), "each document is as it was");
    for until in [Some(end(&third_log).time.max(disaster + std::time::Duration::from_secs(1))), None] {
        assert_eq!(sold(&brought_back(&full, &logs, until).await).await, [""; 0], "as of {until:?}");
    }
    let first_only = brought_back(&full, &logs[..1], None).await;
    assert_eq!(sold(&first_only).await, ["before the full", "in the first log"]);
}

#[tokio::test]
async fn a_full_is_of_one_moment_while_others_write() {
    let server = Mongodb::start_with_oplog().await;
    for name in ["a", "b"] {
        let document = |n: i32| raw(doc! { "_id": n, "x": "x".repeat(20 << 10) });
        server.collection("shop", name).insert_many((0..120).map(document)).await.unwrap();
    }
    let pair = |n: i32| raw(doc! { "_id": n });
    let write = async {
        // What was read already, and what was not: both are in the full, or neither is.
        for n in 1000..1010 {
            server.collection("shop", "a").insert_one(pair(n)).await.unwrap();
            server.collection("shop", "b").insert_one(pair(n)).await.unwrap();
        }
        server
            .collection("shop", "a")
            .update_one(doc! { "_id": 0 }, doc! { "$set": { "x": "short" } })
            .await
            .unwrap();
        server.collection("shop", "a").delete_one(doc! { "_id": 1 }).await.unwrap();
        // Changed and gone before it is read.
        server
            .collection("shop", "b")
            .update_one(doc! { "_id": 119 }, doc! { "$set": { "x": "y" } })
            .await
            .unwrap();
        server.collection("shop", "b").delete_one(doc! { "_id": 119 }).await.unwrap();
    };
    let (source, stream) = (server.source(&["shop"]), Collected::default());
    let mut sink = Both(stream, Acting::after(120 * (20 << 10), write));
    let captured = source.capture(&request(), &mut sink).await.unwrap();
    assert!(sink.1.act.is_none(), "others wrote");
    assert!(matches!(captured.details.counts, Counts::NotCaptured(_)), "{captured:?}");
    let stream = sink.0.stream();
    let source = server.source(&["shop"]);
    restored(&source, &stream, &Place::Database("copy".to_owned())).await.unwrap();
    assert!(
        server.everything("copy").await == server.everything("shop").await,
        "everything that was written is in it"
    );
    restored(&source, &stream, &Place::Original).await.unwrap();
    assert!(server.everything("copy").await == server.everything("shop").await, "and over the original");
    assert_eq!(server.collection("copy", "a").count_documents(doc! {}).await.unwrap(), 129);
    assert_eq!(server.collection("copy", "b").count_documents(doc! {}).await.unwrap(), 129);
}

/// Keeps what it is given, and acts.
struct Both<'a>(Collected, Acting<'a>);

#[async_trait::async_trait]
impl backstay::sources::Sink for Both<'_> {
    async fn write(&mut self, bytes: bytes::Bytes) -> Result<(), backstay::sources::SinkClosed> {
        self.0.write(bytes.clone()).await?;
        self.1.write(bytes).await
    }

    async fn run(
        &mut self,
        key: Option<backstay::sources::RunKey>,
    ) -> Result<backstay::sources::Run, backstay::sources::SinkClosed> {
        self.0.run(key).await
    }
}

#[tokio::test]
async fn what_other_databases_hold_is_not_in_a_full_of_one() {
    let server = till().await;
    let document = |n: i32| raw(doc! { "_id": n, "x": "x".repeat(20 << 10) });
    server.collection("shop", "a").insert_many((0..120).map(document)).await.unwrap();
    let foreign = async {
        let secret = raw(doc! { "_id": 1, "what": "foreign-and-secret" });
        server.collection("other", "t").insert_one(secret).await.unwrap();
    };
    let mut sink = Both(Collected::default(), Acting::after(1 << 20, foreign));
    server.source(&["shop"]).capture(&request(), &mut sink).await.unwrap();
    let stream = sink.0.stream();
    assert!(!stream.windows(18).any(|window| window == b"foreign-and-secret"));
}

#[tokio::test]
async fn a_full_of_some_databases_is_no_base_of_a_log_and_nothing_is_dropped_for_its_sake() {
    let server = till().await;
    let part = server.source(&["shop"]);
    let (_, full) = captured(&part).await;
    assert!(matches!(full.moment, Moment::At { position: None, .. }), "{:?}", full.moment);
    let refused = part.make_way().await.unwrap_err();
    assert!(refused.to_string().contains("the log tells of all databases"), "{refused}");
    assert_eq!(refused.class, Class::Stalled);
    assert_eq!(sold(&server).await, ["before the full"], "a refusal changes nothing");
}

#[tokio::test]
async fn a_collection_or_an_index_that_is_made_while_the_oplog_does_not_tell_of_it_fails_the_full() {
    let server = till().await;
    for case in ["collection", "index"] {
        let document = |n: i32| raw(doc! { "_id": n, "x": "x".repeat(20 << 10) });
        server.collection("shop", "a").insert_many((0..120).map(document)).await.unwrap();
        let change = async {
            match case {
                "collection" => sell_in(&server, "fresh").await,
                _ => {
                    let index = IndexModel::builder().keys(doc! { "x": 1 }).build();
                    server.collection("shop", "sale").create_index(index).await.map(drop).unwrap();
                }
            }
        };
        let mut sink = Acting::after(1 << 20, change);
        let error = fails(&server.source(&[]), &request(), &mut sink).await;
        assert!(error.to_string().contains("collections or indexes were changed"), "{case}: {error}");
        assert_eq!(error.class, Class::Retry);
        drop(sink);
        server.collection("shop", "a").drop().await.unwrap();
    }
}

async fn sell_in(server: &Mongodb, collection: &str) {
    server.collection("shop", collection).insert_one(raw(doc! { "_id": 1 })).await.unwrap();
}

#[tokio::test]
async fn what_the_server_dropped_or_does_not_tell_shows_where_the_log_begins() {
    let server = till().await;
    let source = server.source(&[]);
    let (_, full) = captured(&source).await;
    sell(&server, 2, "dropped from the oplog").await;
    sell(&server, 3, "still in it").await;
    let oplog = server.database("local").collection::<Document>("oplog.rs");
    let newest = oplog.find_one(doc! {}).sort(doc! { "$natural": -1 }).await.unwrap().unwrap();
    oplog.delete_many(doc! { "ts": { "$lt": newest.get_timestamp("ts").unwrap() } }).await.unwrap();
    let (_, gapped) = log(&source, end(&full)).await;
    assert_ne!(from(&gapped), &end(&full), "it is not said to be whole since the full");
    assert!(gapped.details.omitted.iter().any(|note| note.contains("held no more")), "{gapped:?}");

    let full = captured(&source).await;
    sell(&server, 4, "after the gap").await;
    let (next, joined) = log(&source, end(&full.1)).await;
    assert_eq!(from(&joined), &end(&full.1));
    let copy = brought_back(&full, &[next], None).await;
    let expect = ["before the full", "dropped from the oplog", "still in it", "after the gap"];
    assert_eq!(sold(&copy).await, expect);

    sell_in(&server, "fresh").await;
    let (_, changed) = log(&source, end(&joined)).await;
    assert_ne!(
        from(&changed).position,
        end(&joined).position,
        "a collection was made, of which nothing is told"
    );
    let (_, elsewhere) = log(&till().await.source(&[]), end(&full.1)).await;
    assert_ne!(from(&elsewhere).position, end(&full.1).position, "another server's log is another");
}

#[tokio::test]
async fn a_member_that_is_behind_what_was_captured_is_waited_for() {
    let server = till().await;
    let source = server.source(&[]);
    let (_, full) = captured(&source).await;
    sell(&server, 2, "captured").await;
    let (_, before) = log(&source, end(&full)).await;
    // What another member told, which this one has not come to yet.
    let Edge { time, position } = end(&before);
    let stamp = position.strip_prefix("oplog ").and_then(|it| it.split(':').next()).expect("a stamp");
    let later = (stamp.parse::<u64>().unwrap() + 3600).to_string();
    let ahead = Edge { time, position: position.replacen(stamp, &later, 1) };
    let behind = fails(&source, &asked(ahead), &mut Collected::default()).await;
    assert!(behind.to_string().contains("behind what was captured"), "{behind}");
    assert_eq!(behind.class, Class::Retry);
}

#[tokio::test]
async fn logs_in_the_middle_of_many_writes_are_whole_and_a_dead_server_has_none() {
    let mut server = till().await;
    let source = server.source(&[]);
    let full = captured(&source).await;
    let write = async {
        for n in 100..400 {
            sell(&server, n, &format!("sale {n}")).await;
            if n % 3 == 0 {
                server.collection("shop", "sale").delete_one(doc! { "_id": n - 1 }).await.unwrap();
            }
        }
    };
    let capture = async {
        let (mut place, mut logs) = (end(&full.1), Vec::new());
        for _ in 0..6 {
            let (stream, captured) = log(&source, place.clone()).await;
            assert_eq!(from(&captured), &place);
            place = end(&captured);
            logs.push(stream);
        }
        (place, logs)
    };
    let ((place, mut logs), ()) = tokio::join!(capture, write);
    let (last, captured) = log(&source, place).await;
    logs.push(last);
    let copy = brought_back(&full, &logs, None).await;
    assert_eq!(sold(&copy).await, sold(&server).await);
    server.kill();
    let dead = fails(&source, &asked(end(&captured)), &mut Collected::default()).await;
    assert_eq!(dead.class, Class::Retry, "{dead}");
}

#[tokio::test]
async fn a_log_is_no_log_where_its_sink_or_its_login_fails_or_there_is_none() {
    let server = till().await;
    let source = server.source(&[]);
    let (_, full) = captured(&source).await;
    sell(&server, 2, "in the log").await;
    let wrong =
        fails(&server.source_with(&[], "wrong-pass-word"), &asked(end(&full)), &mut Collected::default())
            .await;
    assert!(wrong.to_string().contains("check user, password") && wrong.class == Class::Stalled, "{wrong}");
    let mut closed = Collected::with_room(10);
    assert_eq!(fails(&source, &asked(end(&full)), &mut closed).await.class, Class::Retry);
    let strange = Edge { position: "bin.000001:4".to_owned(), ..end(&full) };
    assert_eq!(fails(&source, &asked(strange), &mut Collected::default()).await.class, Class::Stalled);

    server.database("admin").run_command(doc! { "dropUser": "backup" }).await.unwrap();
    let revoked = fails(&server.source(&[]), &asked(end(&full)), &mut Collected::default()).await;
    assert!(revoked.to_string().contains("check user") && revoked.class == Class::Stalled, "{revoked}");

    let alone = Mongodb::start().await;
    sell(&alone, 1, "without an oplog").await;
    let none = fails(&alone.source(&[]), &asked(end(&full)), &mut Collected::default()).await;
    assert!(none.to_string().contains("declare a member of a replica set"), "{none}");
    assert_eq!(none.class, Class::Stalled);
}

#[tokio::test]
async fn a_log_that_is_damaged_or_does_not_fit_is_an_error_and_some_places_take_none() {
    let server = till().await;
    let source = server.source(&[]);
    let full = captured(&source).await;
    sell(&server, 2, "in the log").await;
    server
        .collection("shop", "sale")
        .update_one(doc! { "_id": 2 }, doc! { "$set": { "x": 1 } })
        .await
        .unwrap();
    let (stream, captured) = log(&source, end(&full.1)).await;
    let copy = brought_back(&full, &[], None).await;
    let replay = Replay { from: end(&full.1).position, until: None };
    let replayed = async |bytes: &[u8], place: &Place, databases: &[&str]| {
        let mut bytes = bytes;
        copy.source(databases).replay(&mut bytes, place, &replay).await
    };
    for bad in [&stream[..stream.len() / 2], b"nothing", b""] {
        replayed(bad, &Place::Original, &[]).await.expect_err("this is no whole log");
    }
    let some = replayed(&stream, &Place::Original, &["shop"]).await.unwrap_err();
    assert!(some.to_string().contains("tells of all databases") && some.class == Class::Stalled, "{some}");
    for place in [Place::Database("copy".to_owned()), Place::File("/nowhere".into())] {
        let refused = replayed(&stream, &place, &[]).await.unwrap_err();
        assert!(refused.to_string().contains("folder"), "{refused}");
    }
    let changed =
        server.collection("shop", "sale").update_one(doc! { "_id": 1 }, doc! { "$set": { "x": 1 } }).await;
    assert_eq!(changed.unwrap().matched_count, 1);
    let (later, _) = log(&source, end(&captured)).await;
    copy.collection("shop", "sale").delete_many(doc! {}).await.unwrap();
    let beyond = Replay { from: end(&captured).position, until: None };
    let diverged =
        copy.source(&[]).replay(&mut later.as_slice(), &Place::Original, &beyond).await.unwrap_err();
    assert!(diverged.to_string().contains("are not there"), "{diverged}");
}

#[tokio::test]
async fn a_folder_gets_the_archive_and_an_oplog_that_others_read() {
    let server = Mongodb::start_with_oplog().await;
    shop(&server).await;
    let source = server.source(&[]);
    let full = captured(&source).await;
    server
        .collection("shop", "order")
        .update_one(doc! { "_id": 1 }, doc! { "$set": { "x": 1 } })
        .await
        .unwrap();
    server.collection("shop", "order").delete_one(doc! { "_id": 7 }).await.unwrap();
    let (stream, _) = log(&source, end(&full.1)).await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let place = Place::Folder(data.clone());
    restored(&source, &full.0.stream(), &place).await.unwrap();
    let replay = Replay { from: end(&full.1).position, until: None };
    source.replay(&mut stream.as_slice(), &place, &replay).await.unwrap();
    let read = "import bson, sys; [print(e['op'], e['ns'], (e.get('o2') or e['o'])['_id']) for e in bson.decode_file_iter(open(sys.argv[1], 'rb'))]";
    let oplog = data.join("oplog.bson");
    let run = Command::new("/usr/bin/python3").args(["-c", read]).arg(&oplog).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8(run.stdout).unwrap(), "u shop.order 1\nd shop.order 7\n");
    assert!(data.join("databases.archive").exists());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&oplog).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "nobody else may read it");
}
