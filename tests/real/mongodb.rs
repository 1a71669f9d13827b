//! MongoDB's wire protocol against FerretDB: what is captured, what comes back, and what must never count.

use std::{collections::BTreeMap, fs, pin::Pin, process::Command, time::Duration};

use backstay::{
    artifact::{
        Kind,
        manifest::{Counts, Moment},
    },
    clock::Clock,
    sources::{
        CaptureRequest, Captured, Holds, Place, Run, RunKey, Sink, SinkClosed, Source, SourceError,
        mongodb::MongodbSource,
    },
    stores::Class,
};
use bson::{Bson, DateTime, Document, RawDocumentBuf, Regex, Timestamp, doc, oid::ObjectId};
use mongodb::{IndexModel, options::IndexOptions};

use super::lab::moments::OfOld;
use super::lab::mongodb::{Mongodb, PASSWORD};
use super::source_conformance::{Collected, captured, conforms, request, restored, sparing};

/// A shop with one of everything that the server knows.
pub async fn shop(server: &Mongodb) {
    let database = server.database("shop");
    let raw = |document: Document| RawDocumentBuf::try_from(&document).unwrap();
    let order = |n: i32| {
        raw(doc! {
            "_id": n, "z": n % 7, "a": f64::from(n) / 3.0, "long": i64::from(n) << 33, "what": format!("tõõ 😀 \\ {n}"),
            "at": DateTime::from_millis(i64::from(n) * 86_400_000), "tags": ["x", n, { "y": Bson::Null }], "b": n % 2 == 0,
        })
    };
    server.collection("shop", "order").insert_many((0..2500).map(order)).await.unwrap();
    let plain = |keys| IndexModel::builder().keys(keys).build();
    let unique = IndexOptions::builder().unique(true).name("by what".to_owned()).build();
    let unique = IndexModel::builder().keys(doc! { "what": 1 }).options(unique).build();
    server
        .collection("shop", "order")
        .create_indexes([plain(doc! { "z": 1, "a": -1 }), unique])
        .await
        .unwrap();
    let odd = doc! {
        "_id": ObjectId::new(), "pattern": Regex { pattern: "^a/".try_into().unwrap(), options: "i".try_into().unwrap() },
        "photo": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0xff; 4] },
        "stamp": Timestamp { time: 7, increment: 8 }, "": "an empty key", "nested": { "z": 1, "a": { "z": 2, "a": 3 } },
    };
    server.collection("shop", "odd 'name ä").insert_one(raw(odd)).await.unwrap();
    database.run_command(doc! { "create": "empty" }).await.unwrap();
    database
        .run_command(doc! { "create": "log", "capped": true, "size": 1_048_576, "max": 100 })
        .await
        .unwrap();
    let line = |n: i32| raw(doc! { "_id": 1000 - n, "line": n });
    server.collection("shop", "log").insert_many((0..50).map(line)).await.unwrap();
}

/// Documents of 100 KiB each, of which the server sends some at a time.
async fn large(server: &Mongodb, collection: &str) {
    let document = |n: i32| RawDocumentBuf::try_from(&doc! { "_id": n, "x": "x".repeat(100 << 10) }).unwrap();
    server.collection("shop", collection).insert_many((0..300).map(document)).await.unwrap();
}

fn counts(captured: &Captured) -> &BTreeMap<String, u64> {
    match &captured.details.counts {
        Counts::Captured(counts) => counts,
        Counts::NotCaptured(why) => panic!("not captured: {why}"),
    }
}

#[tokio::test]
async fn everything_comes_back_beside_the_original_and_over_it() {
    let server = Mongodb::start().await;
    shop(&server).await;
    let source = server.source(&["shop"]);
    let before = server.everything("shop").await;
    assert_eq!(before.len(), 4);
    let (sink, captured) = captured(&source).await;
    let counted = [("shop.empty", 0), ("shop.log", 50), ("shop.odd 'name ä", 1), ("shop.order", 2500)];
    assert_eq!(*counts(&captured), counted.map(|(name, count)| (name.to_owned(), count)).into());
    assert!(captured.details.omitted.iter().any(|note| note.contains("one after another")), "{captured:?}");
    let of_old = CaptureRequest { clock: &OfOld, ..request() };
    let dated = source.capture(&of_old, &mut Collected::default()).await.unwrap();
    assert_eq!(dated.moment, Moment::At { time: OfOld.now(), position: None });

    let stream = sink.stream();
    let place = Place::Database("copy".to_owned());
    restored(&source, &stream, &place).await.unwrap();
    assert!(server.everything("copy").await == before, "the copy is equal");
    assert!(server.everything("shop").await == before, "the original is untouched");
    let again = restored(&source, &stream, &place).await.unwrap_err();
    assert!(again.to_string().contains("copy exists") && again.class == Class::Stalled, "{again}");
    for own in ["admin", "local", "config"] {
        restored(&source, &stream, &Place::Database(own.to_owned()))
            .await
            .expect_err("it is the engine's own");
    }

    server.collection("shop", "order").delete_many(doc! { "z": { "$gt": 1 } }).await.unwrap();
    server.collection("shop", "log").drop().await.unwrap();
    let newer = RawDocumentBuf::try_from(&doc! { "_id": 1 }).unwrap();
    server.collection("shop", "newer").insert_one(newer).await.unwrap();
    let changed = server.everything("shop").await;
    let spared = restored(&sparing(source.clone()), &stream, &Place::Original).await.unwrap_err();
    assert!(spared.to_string().contains("by now"), "{spared}");
    assert!(server.everything("shop").await == changed, "nothing is left aside");
    restored(&source, &stream, &Place::Original).await.unwrap();
    server.collection("shop", "newer").delete_one(doc! { "_id": 1 }).await.unwrap();
    server.collection("shop", "newer").drop().await.unwrap();
    assert!(
        server.everything("shop").await == before,
        "what the archive holds is as it was, and nothing is left aside"
    );
    server.database("shop").drop().await.unwrap();
    restored(&sparing(source), &stream, &Place::Original).await.unwrap();
    assert!(server.everything("shop").await == before, "a database that is gone comes back");
}

#[tokio::test]
async fn what_an_archive_does_not_hold_stays_when_it_is_restored_in_place() {
    let server = Mongodb::start().await;
    shop(&server).await;
    let (sink, _) = captured(&server.source(&["shop"])).await;
    let newer = RawDocumentBuf::try_from(&doc! { "_id": 1 }).unwrap();
    server.collection("shop", "newer").insert_one(newer.clone()).await.unwrap();
    restored(&server.source(&["shop"]), &sink.stream(), &Place::Original).await.unwrap();
    assert_eq!(server.collection("shop", "newer").find_one(doc! {}).await.unwrap(), Some(newer));
}

#[tokio::test]
async fn several_databases_and_all_come_back_on_an_empty_server() {
    let server = Mongodb::start().await;
    shop(&server).await;
    let other = RawDocumentBuf::try_from(&doc! { "_id": 1 }).unwrap();
    server.collection("other", "t").insert_one(other).await.unwrap();
    let (shop, other) = (server.everything("shop").await, server.everything("other").await);
    for declared in [&["shop", "other"][..], &[]] {
        let (sink, captured) = captured(&server.source(declared)).await;
        assert_eq!(
            (counts(&captured).len(), counts(&captured)["other.t"]),
            (5, 1),
            "no database of the engine's own"
        );
        let copy = Place::Database("copy".to_owned());
        restored(&server.source(declared), &sink.stream(), &copy).await.expect_err("two have no one name");
        let empty = Mongodb::start().await;
        let strange =
            restored(&empty.source(&["other"]), &sink.stream(), &Place::Original).await.unwrap_err();
        assert!(
            strange.to_string().contains("not declared now") && strange.class == Class::Stalled,
            "{strange}"
        );
        restored(&empty.source(declared), &sink.stream(), &Place::Original).await.unwrap();
        assert!(empty.everything("shop").await == shop && empty.everything("other").await == other);
    }
}

#[tokio::test]
async fn documents_are_data_and_collections_without_any_are_not() {
    let server = Mongodb::start().await;
    let holds = async |declared: &[&str]| server.source(declared).holds().await.unwrap();
    assert_eq!((holds(&[]).await, holds(&["shop"]).await), (Holds::Nothing, Holds::Nothing));
    server.database("shop").run_command(doc! { "create": "empty" }).await.unwrap();
    assert_eq!(holds(&[]).await, Holds::Nothing);
    let document = RawDocumentBuf::try_from(&doc! { "_id": 1 }).unwrap();
    server.collection("shop", "order").insert_one(document).await.unwrap();
    let found = Holds::Data("documents in shop.order".to_owned());
    assert_eq!((holds(&[]).await, holds(&["shop"]).await), (found.clone(), found));
    assert_eq!(holds(&["other"]).await, Holds::Nothing);
}

#[tokio::test]
async fn mongodb_conforms_over_each_way_to_it() {
    let (server, scratch) = (Mongodb::start().await, tempfile::tempdir().unwrap());
    shop(&server).await;
    let tls = server.over_tls("localhost", "ca.pem");
    for (name, source) in [
        ("one", server.source(&["shop"])),
        ("all", server.source(&[])),
        ("socket", server.over_socket(&["shop"])),
        ("tls", tls),
    ] {
        let scratch = scratch.path().join(name);
        fs::create_dir(&scratch).unwrap();
        conforms(&source, &scratch).await;
        let version = source.probe().await.unwrap().version;
        assert!(version.starts_with("FerretDB v1") && version.contains("MongoDB 7."), "{version}");
        let log = CaptureRequest { kind: Kind::Log, ..request() };
        source.capture(&log, &mut Collected::default()).await.expect_err("it has no logs");
    }
    let (sink, _) = captured(&server.source(&["shop"])).await;
    let folder = Place::Folder(scratch.path().join("folder"));
    restored(&server.source(&["shop"]), &sink.stream(), &folder).await.unwrap();
    assert!(scratch.path().join("folder/shop.archive").exists());
    for kind in [Kind::Incremental, Kind::Differential] {
        let mut whole = Collected::default();
        server.source(&["shop"]).capture(&CaptureRequest { kind, ..request() }, &mut whole).await.unwrap();
        assert!(whole.stream() == sink.stream(), "it is whole, and the pipeline finds what is the same");
    }
}

/// Another implementation of the format's pieces, by the words of docs/mongodb.md alone.
#[tokio::test]
async fn the_script_of_the_documentation_loads_an_archive_without_backstay() {
    let server = Mongodb::start_with_oplog().await;
    shop(&server).await;
    let (sink, _) = captured(&server.source(&["shop"])).await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("shop.archive");
    fs::write(&archive, sink.stream()).unwrap();
    let page = include_str!("../../docs/mongodb.md");
    let script =
        page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has a script");
    let uri = format!("mongodb://root:of-the-lab@127.0.0.1:{}/?authSource=admin", server.port());
    let mut python = Command::new("/usr/bin/python3");
    let run =
        python.args(["-c", script]).arg(&archive).arg("by_hand").env("MONGODB_URI", uri).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(server.everything("by_hand").await == server.everything("shop").await);
}

#[tokio::test]
async fn what_was_there_before_a_capture_is_in_it_while_others_write() {
    let server = Mongodb::start().await;
    shop(&server).await;
    let orders = server.collection("shop", "order");
    let write = async {
        let mut n = 10_000;
        loop {
            let order = RawDocumentBuf::try_from(&doc! { "_id": n, "what": format!("new {n}") }).unwrap();
            orders.insert_one(order).await.unwrap();
            n += 1;
        }
    };
    let source = server.source(&["shop"]);
    let capture = async {
        let mut captures = Vec::new();
        for _ in 0..3 {
            captures.push(captured(&source).await);
        }
        captures
    };
    let captures = tokio::select! {
        captures = capture => captures,
        () = write => unreachable!("it writes on"),
    };
    for (number, (sink, captured)) in captures.iter().enumerate() {
        let name = format!("copy{number}");
        restored(&source, &sink.stream(), &Place::Database(name.clone())).await.unwrap();
        let copy = server.collection(&name, "order");
        assert_eq!(copy.count_documents(doc! {}).await.unwrap(), counts(captured)["shop.order"]);
        assert_eq!(copy.count_documents(doc! { "_id": { "$lt": 2500 } }).await.unwrap(), 2500);
    }
    assert!(counts(&captures[2].1)["shop.order"] > 2500, "others wrote");
}

/// Every failure is an error that shows no secret.
pub async fn fails(source: &MongodbSource, request: &CaptureRequest<'_>, sink: &mut dyn Sink) -> SourceError {
    let error = source.capture(request, sink).await.expect_err("this must not count");
    let shown = format!("{error} {error:?} {source:?}");
    assert!(!shown.contains("s3cr#t") && !shown.contains("wrong-pass-word"), "{shown}");
    error
}

/// A sink that acts once so many bytes were written.
pub struct Acting<'a> {
    after: usize,
    seen: usize,
    pub act: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
}

impl<'a> Acting<'a> {
    pub fn after(bytes: usize, act: impl Future<Output = ()> + Send + 'a) -> Self {
        Self { after: bytes, seen: 0, act: Some(Box::pin(act)) }
    }
}

#[async_trait::async_trait]
impl Sink for Acting<'_> {
    async fn write(&mut self, bytes: bytes::Bytes) -> Result<(), SinkClosed> {
        self.seen += bytes.len();
        if self.seen >= self.after
            && let Some(act) = self.act.take()
        {
            act.await;
        }
        Ok(())
    }

    async fn run(&mut self, _: Option<RunKey>) -> Result<Run, SinkClosed> {
        Ok(Run::Wanted)
    }
}

#[tokio::test]
async fn a_server_that_is_killed_or_falls_silent_during_the_dump_fails_it() {
    let mut killed = Mongodb::start().await;
    large(&killed, "large").await;
    let source = killed.source(&["shop"]);
    let mut sink = Acting::after(3 << 20, async { killed.kill() });
    let error = fails(&source, &request(), &mut sink).await;
    assert!(sink.act.is_none() && error.class == Class::Retry, "{error}");
    drop(sink);

    let silent = Mongodb::start().await;
    large(&silent, "large").await;
    let mut sink = Acting::after(3 << 20, async { silent.pause() });
    let request = CaptureRequest { stall: Duration::from_secs(3), ..request() };
    let error = fails(&silent.source(&["shop"]), &request, &mut sink).await;
    assert!(error.to_string().contains("silent for 3s") && error.class == Class::Retry, "{error}");
}

#[tokio::test]
async fn a_collection_that_is_dropped_renamed_or_replaced_before_its_turn_fails_the_dump() {
    let server = Mongodb::start().await;
    for case in ["dropped", "renamed", "replaced"] {
        large(&server, "a").await;
        large(&server, "b").await;
        let change = async {
            if case == "renamed" {
                let rename = doc! { "renameCollection": "shop.b", "to": "shop.c" };
                server.database("admin").run_command(rename).await.unwrap();
            } else {
                server.collection("shop", "b").drop().await.unwrap();
            }
            if case == "replaced" {
                let other = RawDocumentBuf::try_from(&doc! { "_id": 1 }).unwrap();
                server.collection("shop", "b").insert_one(other).await.unwrap();
            }
        };
        let mut sink = Acting::after(3 << 20, change);
        let error = fails(&server.source(&["shop"]), &request(), &mut sink).await;
        assert!(
            error.to_string().contains("shop.b was dropped") && error.class == Class::Retry,
            "{case}: {error}"
        );
        server.database("shop").drop().await.unwrap();
    }
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_told_with_how() {
    let mut server = Mongodb::start().await;
    shop(&server).await;
    let mut sink = Collected::default();
    let wrong = server.source_with(&["shop"], "wrong-pass-word");
    for error in [wrong.probe().await.unwrap_err(), fails(&wrong, &request(), &mut sink).await] {
        assert!(
            error.to_string().contains("check user, password") && error.class == Class::Stalled,
            "{error:?}"
        );
    }
    let own = fails(&server.source(&["shop", "admin"]), &request(), &mut sink).await;
    assert!(own.to_string().contains("admin is the engine's own") && own.class == Class::Stalled, "{own}");
    let missing = server.source(&["shop", "nothing"]);
    for error in [missing.probe().await.unwrap_err(), fails(&missing, &request(), &mut sink).await] {
        assert!(error.to_string().contains("nothing is missing") && error.class == Class::Stalled, "{error}");
    }
    for (host, ca) in
        [("localhost", "other.pem"), ("127.0.0.1", "ca.pem"), ("localhost", "none.pem"), ("localhost", "log")]
    {
        let error = fails(&server.over_tls(host, ca), &request(), &mut sink).await;
        assert!(
            error.to_string().contains("tls.ca") && error.class == Class::Stalled,
            "{host}, {ca}: {error}"
        );
    }
    server.kill();
    let down = fails(&server.source(&["shop"]), &request(), &mut sink).await;
    assert!(down.class == Class::Retry, "{down}");
    assert!(!format!("{down}").contains(PASSWORD));
    assert!(sink.stream().is_empty());
}

#[tokio::test]
async fn a_server_without_databases_is_no_capture() {
    let server = Mongodb::start().await;
    let error = fails(&server.source(&[]), &request(), &mut Collected::default()).await;
    assert!(error.to_string().contains("no databases") && error.class == Class::Stalled, "{error}");
}

#[tokio::test]
async fn a_member_of_a_replica_set_is_asked_alone_and_the_oplog_is_told_to_be_left_out() {
    let server = Mongodb::start_with(&["--repl-set-name=rs0"]).await;
    shop(&server).await;
    let (_, captured) = captured(&server.source(&["shop"])).await;
    assert!(captured.details.omitted.iter().any(|note| note.contains("oplog")), "{captured:?}");
}

#[tokio::test]
async fn an_archive_that_breaks_off_or_is_damaged_is_no_restore_and_leaves_nothing() {
    let server = Mongodb::start().await;
    shop(&server).await;
    let source = server.source(&["shop"]);
    let (sink, _) = captured(&source).await;
    let stream = sink.stream();
    let before = server.everything("shop").await;
    let mut flipped = stream.clone();
    let at = flipped.windows(4).rposition(|word| word == "😀".as_bytes()).expect("it is in the archive");
    flipped[at..at + 4].copy_from_slice("😁".as_bytes());
    let cut = |at: usize| stream[..at].to_vec();
    for broken in [
        cut(stream.len() / 2),
        cut(stream.len() - 1),
        cut(stream.len() - 60),
        flipped,
        b"-- SQL".to_vec(),
        Vec::new(),
    ] {
        restored(&source, &broken, &Place::Database("copy".to_owned())).await.expect_err("it is damaged");
        assert!(server.everything("copy").await.is_empty(), "what is incomplete is removed");
        restored(&source, &broken, &Place::Original).await.expect_err("it is damaged");
        assert!(server.everything("shop").await == before, "all or nothing");
    }
}
