//! Buckets as a source, on MinIO: what is captured, what comes back, and what must never count.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    primitives::{ByteStream, DateTime, DateTimeFormat},
    types::{
        BucketVersioningStatus, CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier, Tag,
        Tagging, VersioningConfiguration,
    },
};
use backstay::{
    artifact::{Kind, manifest::Counts},
    aws::{AwsCredentials, S3Options},
    clock::ManualClock,
    sources::{
        CaptureRequest, Captured, Place, Run, RunKey, Sink, SinkClosed, Source, SourceError, s3::S3Source,
        selection::Selection,
    },
    stores::Class,
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::{
    lab::s3::{Minio, client},
    source_conformance::{Collected, captured, conforms, request, restored},
};

const UPLOADS: &str = "uploads";

fn options(minio: &Minio, bucket: &str, prefix: &str) -> S3Options {
    S3Options { bucket: bucket.to_owned(), prefix: prefix.to_owned(), ..minio.options() }
}

fn source(minio: &Minio, prefix: &str) -> S3Source {
    S3Source::new(options(minio, UPLOADS, prefix)).unwrap()
}

/// A server with a bucket of uploads, and another one beside it.
async fn server() -> (Minio, Client) {
    let minio = Minio::start();
    let client = client(&minio.options());
    for bucket in [UPLOADS, "copy"] {
        client.create_bucket().bucket(bucket).send().await.unwrap();
    }
    (minio, client)
}

async fn keep_versions(client: &Client, bucket: &str) {
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(bucket).versioning_configuration(enabled).send().await.unwrap();
}

async fn put(client: &Client, bucket: &str, key: &str, content: impl Into<Bytes>) -> String {
    let body = ByteStream::from(content.into());
    let put = client.put_object().bucket(bucket).key(key).body(body).send().await.unwrap();
    put.version_id.unwrap_or_default()
}

/// Larger than what a restore sends whole, and than what waits in memory.
fn large() -> Bytes {
    (0..20_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>().into()
}

/// Puts `content` in parts of an odd size.
async fn put_in_parts(client: &Client, bucket: &str, key: &str, content: &Bytes) {
    let upload = client.create_multipart_upload().bucket(bucket).key(key).content_type("video/x");
    let id = upload.metadata("from", "camera").send().await.unwrap().upload_id.unwrap();
    let mut parts = Vec::new();
    for (number, start) in (1..).zip((0..content.len()).step_by(6 << 20)) {
        let body = content.slice(start..content.len().min(start + (6 << 20)));
        let part = client.upload_part().bucket(bucket).key(key).upload_id(&id).part_number(number);
        let etag = part.body(ByteStream::from(body)).send().await.unwrap().e_tag;
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(etag).build());
    }
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = client.complete_multipart_upload().bucket(bucket).key(key).upload_id(&id);
    complete.multipart_upload(parts).send().await.unwrap();
}

/// A bucket with one of everything.
async fn fill(client: &Client) {
    put_in_parts(client, UPLOADS, "in/video", &large()).await;
    let described = client.put_object().bucket(UPLOADS).key("in/tõõ 😀+&=%41.txt");
    described
        .content_type("text/plain; charset=utf-8")
        .content_encoding("identity")
        .content_disposition("attachment; filename=\"a b.txt\"")
        .content_language("et")
        .cache_control("max-age=60")
        .expires(DateTime::from_str("Wed, 21 Oct 2026 07:28:00 GMT", DateTimeFormat::HttpDate).unwrap())
        .metadata("owner", "us = them")
        .metadata("x-y", "z")
        .tagging("kind=a%20b&a%2B=%3D")
        .body(ByteStream::from_static("tõõ".as_bytes()))
        .send()
        .await
        .unwrap();
    for (key, content) in
        [("in/empty", ""), ("in/a-b", "1"), ("in/a.b", "2"), ("in/folder/", ""), ("out/x", "x")]
    {
        put(client, UPLOADS, key, content).await;
    }
    for number in 0..300 {
        put(client, UPLOADS, &format!("in/many/{number:04}"), vec![number as u8; 10_000 + number]).await;
    }
}

/// Everything about the current objects of a bucket that must survive, by key.
async fn described(client: &Client, bucket: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pages = client.list_objects_v2().bucket(bucket).into_paginator().send();
    while let Some(page) = pages.next().await {
        for object in page.unwrap().contents() {
            let key = object.key().unwrap();
            let it = client.get_object().bucket(bucket).key(key).send().await.unwrap();
            let mut metadata: Vec<_> = it.metadata.clone().unwrap_or_default().into_iter().collect();
            metadata.sort();
            let tags = client.get_object_tagging().bucket(bucket).key(key).send().await.unwrap().tag_set;
            let mut tags: Vec<_> =
                tags.iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
            tags.sort();
            let headers = [
                it.content_type(),
                it.content_encoding(),
                it.content_disposition(),
                it.content_language(),
                it.cache_control(),
                it.expires_string(),
            ]
            .map(|header| header.unwrap_or("-").to_owned());
            let content = blake3::hash(&it.body.collect().await.unwrap().into_bytes());
            found.insert(key.to_owned(), format!("{content} {headers:?} {metadata:?} {tags:?}"));
        }
    }
    found
}

fn below(objects: BTreeMap<String, String>, prefix: &str) -> BTreeMap<String, String> {
    objects.into_iter().filter_map(|(key, it)| Some((key.strip_prefix(prefix)?.to_owned(), it))).collect()
}

fn count(captured: &Captured, what: &str) -> u64 {
    let Counts::Captured(counts) = &captured.details.counts else { panic!("objects are counted") };
    counts[what]
}

fn to_bucket(bucket: &str, prefix: &str) -> Place {
    Place::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
}

fn listed_by_tar(stream: &[u8], scratch: &Path) -> Vec<String> {
    let file = scratch.join("listed.tar");
    fs::write(&file, stream).unwrap();
    let tar = Command::new("tar").args(["--quoting-style=literal", "-tf"]).arg(&file).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    String::from_utf8(tar.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_conform() {
    let (minio, client) = server().await;
    put(&client, UPLOADS, "a", vec![7; 300_000]).await;
    put(&client, UPLOADS, "b/c", "x").await;
    conforms(&source(&minio, ""), tempfile::tempdir().unwrap().path()).await;
    keep_versions(&client, UPLOADS).await;
    put(&client, UPLOADS, "a", "another").await;
    conforms(&source(&minio, ""), tempfile::tempdir().unwrap().path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_in_another_bucket_and_in_a_folder() {
    let (minio, client) = server().await;
    fill(&client).await;
    let source = source(&minio, "in");
    let (sink, captured) = captured(&source).await;
    assert_eq!(captured.details.omitted, [] as [String; 0]);
    assert_eq!(count(&captured, "objects"), 306);
    assert!(count(&captured, "bytes") > 20 << 20);

    let before = described(&client, UPLOADS).await;
    let place = restored(&source, &sink.stream(), &to_bucket("copy", "")).await.unwrap();
    assert_eq!(place, "s3://copy/: 306 objects put");
    let copy = described(&client, "copy").await;
    assert_eq!(below(copy.clone(), "in/"), below(before.clone(), "in/"));
    assert_eq!(copy.len(), 306, "what lies beside the prefix is not captured");
    let again = restored(&source, &sink.stream(), &to_bucket("copy", "")).await.unwrap();
    assert_eq!(again, "s3://copy/: 0 objects put, 306 already there");
    let place = restored(&source, &sink.stream(), &to_bucket("copy", "of/uploads")).await.unwrap();
    assert_eq!(place, "s3://copy/of/uploads/: 306 objects put");
    assert_eq!(below(described(&client, "copy").await, "of/uploads/in/"), below(before, "in/"));

    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("uploads");
    restored(&source, &sink.stream(), &Place::Folder(folder.clone())).await.unwrap();
    assert!(fs::read(folder.join("in/video")).unwrap() == large());
    assert_eq!(fs::read_to_string(folder.join("in/tõõ 😀+&=%2541.txt")).unwrap(), "tõõ");
    assert_eq!(fs::read(folder.join("in/folder/%")).unwrap(), b"");
    assert!(!folder.join("out").exists());
    let lines = fs::read_to_string(folder.join(".backstay-objects.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 306);
    let line = lines.lines().find(|line| line.contains("😀")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["key"], "in/tõõ 😀+&=%41.txt");
    assert_eq!(line["path"], "in/tõõ 😀+&=%2541.txt");
    assert_eq!(line["content_language"], "et");
    assert_eq!(line["metadata"]["owner"], "us = them");
    assert_eq!(line["tags"], "a%2B=%3D&kind=a%20b");
    let full = restored(&source, &sink.stream(), &Place::Folder(folder)).await.unwrap_err();
    assert!(full.to_string().contains("not empty"), "{full}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_reads_only_runs_whose_objects_changed_or_are_young() {
    let (minio, client) = server().await;
    fill(&client).await;
    let source = source(&minio, "in");
    let (base, _) = captured(&source).await;
    put(&client, UPLOADS, "in/many/0007", "changed").await;
    client.delete_object().bucket(UPLOADS).key("in/many/0200").send().await.unwrap();
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let clock = ManualClock::new(later);
    let incremental = |base_started| CaptureRequest {
        kind: Kind::Incremental,
        base_started: Some(base_started),
        clock: &clock,
        ..request()
    };
    let mut sink = Collected::on(&base);
    let captured = source.capture(&incremental(later), &mut sink).await.unwrap();
    assert_eq!(count(&captured, "objects"), 305);
    let wanted = sink.runs.len() - sink.reused;
    assert!(sink.reused >= 2 && (1..=2).contains(&wanted), "{wanted} of {} were read", sink.runs.len());
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("new"));
    restored(&source, &sink.stream(), &place).await.unwrap();
    assert_eq!(fs::read(folder.path().join("new/in/many/0007")).unwrap(), b"changed");
    assert!(!folder.path().join("new/in/many/0200").exists());
    assert!(fs::read(folder.path().join("new/in/video")).unwrap() == large());

    let mut young = Collected::on(&base);
    source.capture(&incremental(Timestamp::now()), &mut young).await.unwrap();
    assert_eq!(young.reused, 1, "objects as young as the base are read again; the closing blocks never");
    assert!(young.stream() == sink.stream());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_and_deletion_is_captured_and_the_current_ones_come_back() {
    let (minio, client) = server().await;
    put(&client, UPLOADS, "before", "versions").await;
    keep_versions(&client, UPLOADS).await;
    let first = put(&client, UPLOADS, "a/b", "first").await;
    let second = put(&client, UPLOADS, "a/b", "second").await;
    put(&client, UPLOADS, "gone", "it was here").await;
    let marker = client.delete_object().bucket(UPLOADS).key("gone").send().await.unwrap();
    let source = source(&minio, "");
    assert_eq!(source.probe().await.unwrap().version, "S3, with versions");
    let (sink, whole) = captured(&source).await;
    let counts = ["objects", "former versions", "delete markers"].map(|what| count(&whole, what));
    assert_eq!(counts, [2, 2, 1]);

    let scratch = tempfile::tempdir().unwrap();
    let names = listed_by_tar(&sink.stream(), scratch.path());
    let marker = format!("gone?versionId={}&deleteMarker", marker.version_id().unwrap());
    let (old, new) = (format!("a/b?versionId={first}"), format!("a/b?versionId={second}"));
    assert_eq!(names[..4], [new, old.clone(), "before?versionId=null".to_owned(), marker]);
    let extract = ["-xf", "listed.tar", &old];
    let extract = Command::new("tar").args(extract).current_dir(scratch.path()).output().unwrap();
    assert!(extract.status.success(), "{}", String::from_utf8_lossy(&extract.stderr));
    assert_eq!(fs::read(scratch.path().join(&old)).unwrap(), b"first", "tar brings one version back");

    let folder = scratch.path().join("new");
    restored(&source, &sink.stream(), &Place::Folder(folder.clone())).await.unwrap();
    assert_eq!(fs::read(folder.join("a/b")).unwrap(), b"second");
    assert!(folder.join("before").exists() && !folder.join("gone").exists());
    let place = restored(&source, &sink.stream(), &to_bucket("copy", "")).await.unwrap();
    assert_eq!(place, "s3://copy/: 2 objects put");
    assert_eq!(described(&client, "copy").await, described(&client, UPLOADS).await);

    // A version, once captured, is never read again, however young; what was there before versions can be replaced.
    put(&client, UPLOADS, "a/b", "third").await;
    let mut later = Collected::on(&sink);
    let request = CaptureRequest { base_started: Some(Timestamp::now()), ..request() };
    let grown = source.capture(&request, &mut later).await.unwrap();
    assert_eq!(count(&grown, "former versions"), 3);
    assert_eq!(listed_by_tar(&later.stream(), scratch.path()).len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_versions_of_one_key_are_read_across_pages() {
    let (minio, client) = server().await;
    keep_versions(&client, UPLOADS).await;
    for number in 0..1_100 {
        put(&client, UPLOADS, "key with space", number.to_string()).await;
    }
    put(&client, UPLOADS, "later", "x").await;
    let source = source(&minio, "");
    let (sink, captured) = captured(&source).await;
    assert_eq!((count(&captured, "objects"), count(&captured, "former versions")), (2, 1_099));
    let folder = tempfile::tempdir().unwrap();
    restored(&source, &sink.stream(), &Place::Folder(folder.path().join("new"))).await.unwrap();
    assert_eq!(fs::read(folder.path().join("new/key with space")).unwrap(), b"1099");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_place_what_was_lost_and_overwritten_is_put_back_and_the_rest_left_alone() {
    let (minio, client) = server().await;
    fill(&client).await;
    let source = source(&minio, "in");
    let before = described(&client, UPLOADS).await;
    let (sink, _) = captured(&source).await;
    put(&client, UPLOADS, "in/a-b", "overwritten").await;
    put(&client, UPLOADS, "in/new", "since").await;
    put(&client, UPLOADS, "in/zz", "since").await;
    put(&client, UPLOADS, "out/x", "since").await;
    let lost = ["in/video", "in/many/0000"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let lost = Delete::builder().set_objects(Some(lost.to_vec())).build().unwrap();
    client.delete_objects().bucket(UPLOADS).delete(lost).send().await.unwrap();

    let kept = restored(&source, &sink.stream(), &to_bucket(UPLOADS, "")).await.unwrap_err();
    assert!(
        kept.to_string().contains("1 object with other content") && kept.to_string().contains("in/a-b"),
        "{kept}"
    );
    let now = described(&client, UPLOADS).await;
    assert_eq!(now["in/video"], before["in/video"], "what is missing is put beside what is kept");
    assert_ne!(now["in/a-b"], before["in/a-b"], "what differs is left as it is");

    let place = restored(&source, &sink.stream(), &Place::Original).await.unwrap();
    assert!(place.contains("2 objects left alone that the artifact does not hold"), "{place}");
    assert!(place.starts_with("s3://uploads/: "), "{place}");
    let now = described(&client, UPLOADS).await;
    for (key, was) in &before {
        assert_eq!(now[key] == *was, key != "out/x", "{key}");
    }
    assert_eq!(now.len(), before.len() + 2);
    let elsewhere = S3Source::new(options(&minio, UPLOADS, "other")).unwrap();
    let error = restored(&elsewhere, &sink.stream(), &Place::Original).await.unwrap_err();
    assert!(error.to_string().contains("not below the declared prefix"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_are_set_later_and_changed_headers_are_seen() {
    let (minio, client) = server().await;
    put(&client, UPLOADS, "a", "x").await;
    let tag = Tag::builder().key("k").value("v").build().unwrap();
    let tags = Tagging::builder().tag_set(tag).build().unwrap();
    client.put_object_tagging().bucket(UPLOADS).key("a").tagging(tags).send().await.unwrap();
    let source = source(&minio, "");
    let (sink, _) = captured(&source).await;
    let changed = client.put_object().bucket(UPLOADS).key("a").body(ByteStream::from_static(b"x"));
    changed.content_type("text/other").send().await.unwrap();
    let error = restored(&source, &sink.stream(), &to_bucket(UPLOADS, "")).await.unwrap_err();
    assert!(error.to_string().contains("other content, headers or tags"), "{error}");
    restored(&source, &sink.stream(), &Place::Original).await.unwrap();
    assert!(described(&client, UPLOADS).await["a"].contains("(\"k\", \"v\")"));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_place_tags_come_back_also_where_the_content_is_there() {
    let (minio, client) = server().await;
    for key in ["changed", "gained", "kept", "lost"] {
        let put = client.put_object().bucket(UPLOADS).key(key).body(ByteStream::from_static(b"x"));
        let put = if key == "gained" { put } else { put.tagging("k=a%20b&l=") };
        put.send().await.unwrap();
    }
    let before = described(&client, UPLOADS).await;
    let source = source(&minio, "");
    let (sink, _) = captured(&source).await;
    let tag = Tag::builder().key("k").value("other").build().unwrap();
    for key in ["changed", "gained"] {
        let tags = Tagging::builder().tag_set(tag.clone()).build().unwrap();
        client.put_object_tagging().bucket(UPLOADS).key(key).tagging(tags).send().await.unwrap();
    }
    client.delete_object_tagging().bucket(UPLOADS).key("lost").send().await.unwrap();
    assert_ne!(described(&client, UPLOADS).await, before);
    let error = restored(&source, &sink.stream(), &to_bucket(UPLOADS, "")).await.unwrap_err();
    assert!(error.to_string().contains("3 objects with other content, headers or tags"), "{error}");
    let place = restored(&source, &sink.stream(), &Place::Original).await.unwrap();
    assert_eq!(place, "s3://uploads/: 0 objects put, 1 already there, 3 given back tags");
    assert_eq!(described(&client, UPLOADS).await, before);
}

async fn restored_part(
    source: &S3Source,
    mut stream: &[u8],
    place: &Place,
    paths: &[&str],
) -> Result<String, SourceError> {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let selection = Selection::of(&paths).unwrap();
    source.restore_selected(&mut stream, place, &selection).await.map(|restored| restored.place)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_bucket_comes_back_by_folder_key_and_version() {
    let (minio, client) = server().await;
    keep_versions(&client, UPLOADS).await;
    let first = put(&client, UPLOADS, "in/report", "first").await;
    for (key, content) in [("in/report", "second"), ("in/a/1", "1"), ("in/a/2", "2"), ("in/ab", "3")] {
        put(&client, UPLOADS, key, content).await;
    }
    let source = source(&minio, "");
    let (sink, _) = captured(&source).await;
    let stream = sink.stream();
    let scratch = tempfile::tempdir().unwrap();
    let folder = |name: &str| scratch.path().join(name);
    let into = |name: &str| Place::Folder(folder(name));

    restored_part(&source, &stream, &into("a"), &["in/a"]).await.unwrap();
    assert_eq!(fs::read(folder("a/in/a/2")).unwrap(), b"2");
    assert_eq!(fs::read_to_string(folder("a/.backstay-objects.jsonl")).unwrap().lines().count(), 2);
    let version = format!("in/report?versionId={first}");
    restored_part(&source, &stream, &into("old"), &[&version]).await.unwrap();
    assert_eq!(fs::read(folder("old/in/report")).unwrap(), b"first");
    let said = restored_part(&source, &stream, &to_bucket("copy", ""), &["in/ab", "in/report"]).await;
    assert_eq!(said.unwrap(), "s3://copy/: 2 objects put");
    assert_eq!(described(&client, "copy").await.into_keys().collect::<Vec<_>>(), ["in/ab", "in/report"]);

    put(&client, UPLOADS, "in/ab", "overwritten").await;
    let said = restored_part(&source, &stream, &Place::Original, &[&version]).await.unwrap();
    assert_eq!(said, "s3://uploads/: 1 object put");
    let now = described(&client, UPLOADS).await;
    assert!(now["in/report"].contains(&blake3::hash(b"first").to_string()), "the former version is current");
    assert!(now["in/ab"].contains(&blake3::hash(b"overwritten").to_string()), "all else stays");

    for place in [into("none"), to_bucket("copy", "none"), Place::Original] {
        let error = restored_part(&source, &stream, &place, &["in/b", "in/a?versionId=x"]).await.unwrap_err();
        assert!(error.to_string().contains("nothing at in/b, in/a?versionId=x; nothing was"), "{error}");
    }
    assert!(!folder("none").exists());
    assert_eq!(described(&client, UPLOADS).await, now);
    let file = Place::File(folder("part.tar"));
    let error = restored_part(&source, &stream, &file, &["in/a"]).await.unwrap_err();
    assert!(error.to_string().contains("a folder or a bucket"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_prefix_is_said_to_be_empty() {
    let (minio, client) = server().await;
    put(&client, UPLOADS, "in/x", "x").await;
    let source = source(&minio, "i");
    let (sink, captured) = captured(&source).await;
    assert_eq!(captured.details.omitted, ["nothing lies below s3://uploads/i/"]);
    let place = restored(&source, &sink.stream(), &to_bucket("copy", "")).await.unwrap();
    assert_eq!(place, "s3://copy/: 0 objects put");
}

/// Kills the server with the first bytes.
struct Killing<'a>(&'a mut Minio, bool);

#[async_trait]
impl Sink for Killing<'_> {
    async fn write(&mut self, _: Bytes) -> Result<(), SinkClosed> {
        if !std::mem::replace(&mut self.1, true) {
            self.0.kill();
        }
        Ok(())
    }

    async fn run(&mut self, _: Option<RunKey>) -> Result<Run, SinkClosed> {
        Ok(Run::Wanted)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_whose_server_dies_fails() {
    let (mut minio, client) = server().await;
    put(&client, UPLOADS, "big", vec![1; 64 << 20]).await;
    let source = source(&minio, "");
    let error = source.capture(&request(), &mut Killing(&mut minio, false)).await.unwrap_err();
    assert_eq!(error.class, Class::Retry, "{error}");
    assert!(error.to_string().contains("check the endpoint"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_told() {
    let (mut minio, _) = server().await;
    let source = source(&minio, "");
    minio.kill();
    let probe = source.probe().await.unwrap_err();
    assert!(probe.class == Class::Retry && probe.to_string().contains("check the endpoint"), "{probe}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let (mut minio, client) = server().await;
    put(&client, UPLOADS, "big", large()).await;
    put(&client, UPLOADS, "small", "x").await;
    let source = source(&minio, "");
    let mut sink = Restarting { minio: &mut minio, restarted: false, collected: Collected::default() };
    let captured = source.capture(&request(), &mut sink).await.unwrap();
    assert!(sink.restarted && count(&captured, "objects") == 2);
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("new"));
    restored(&source, &sink.collected.stream(), &place).await.unwrap();
    assert!(fs::read(folder.path().join("new/big")).unwrap() == large());
}

/// Starts the server again in the middle of the first large object.
struct Restarting<'a> {
    minio: &'a mut Minio,
    restarted: bool,
    collected: Collected,
}

#[async_trait]
impl Sink for Restarting<'_> {
    async fn write(&mut self, bytes: Bytes) -> Result<(), SinkClosed> {
        self.collected.write(bytes).await?;
        if !self.restarted && self.collected.stream().len() > 1 << 20 {
            self.restarted = true;
            self.minio.kill();
            self.minio.restart();
        }
        Ok(())
    }

    async fn run(&mut self, key: Option<RunKey>) -> Result<Run, SinkClosed> {
        self.collected.run(key).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_and_missing_buckets_are_told_with_what_to_do() {
    let (minio, client) = server().await;
    put(&client, UPLOADS, "a", "x").await;
    let (sink, _) = captured(&source(&minio, "")).await;
    let credentials = AwsCredentials::Key { id: "nobody".into(), secret: "another secret".to_owned().into() };
    let cases = [
        (S3Options { credentials, ..options(&minio, UPLOADS, "") }, Class::Stalled, "check the access key"),
        (
            options(&minio, "nowhere", ""),
            Class::Wait(std::time::Duration::from_secs(60)),
            "create the bucket",
        ),
    ];
    for (options, class, hint) in cases {
        let source = S3Source::new(options).unwrap();
        let errors: [SourceError; 3] = [
            source.probe().await.unwrap_err(),
            source.capture(&request(), &mut Collected::default()).await.unwrap_err(),
            restored(&source, &sink.stream(), &Place::Original).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.class, class, "{error}");
            assert!(error.to_string().contains(hint), "{error}");
            assert!(!error.to_string().contains("another secret"), "{error}");
        }
    }
    let log = CaptureRequest { kind: Kind::Log, ..request() };
    let error = source(&minio, "").capture(&log, &mut Collected::default()).await.unwrap_err();
    assert!(error.to_string().contains("no log artifacts"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_others_and_cut_off_ones_are_refused() {
    let (minio, client) = server().await;
    put_in_parts(&client, UPLOADS, "big", &large()).await;
    put(&client, UPLOADS, "z", "x").await;
    let source = source(&minio, "");
    let (sink, _) = captured(&source).await;
    let stream = sink.stream();
    let cut = &stream[..10 << 20];
    for place in [to_bucket("copy", ""), Place::Original, Place::Folder(minio.data().join("../new"))] {
        client.delete_object().bucket(UPLOADS).key("big").send().await.unwrap();
        let error = restored(&source, cut, &place).await.unwrap_err();
        assert!(error.to_string().contains("cut") || error.to_string().contains("end of file"), "{error}");
    }
    assert_eq!(described(&client, "copy").await, BTreeMap::new(), "no part of an object is put");
    let uploads = client.list_multipart_uploads().bucket("copy").prefix("big").send().await.unwrap();
    assert_eq!(uploads.uploads().len(), 0, "what was begun is given up");

    let mut foreign = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    foreign.append_data(&mut header, "etc/passwd", &b"x"[..]).unwrap();
    let foreign = foreign.into_inner().unwrap();
    for place in [to_bucket("copy", ""), Place::Original, Place::Folder(minio.data().join("../other"))] {
        let error = restored(&source, &foreign, &place).await.unwrap_err();
        assert!(error.to_string().contains("no object of a bucket"), "{error}");
    }
    let error = restored(&source, &stream, &Place::Database("x".to_owned())).await.unwrap_err();
    assert!(error.to_string().contains("objects are no database"), "{error}");
}
