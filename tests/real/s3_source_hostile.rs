//! Buckets as a source, on a server that keeps any key and misbehaves as it is told to.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use backstay::{
    artifact::manifest::Counts,
    aws::S3Options,
    sources::{Captured, Place, Source, s3::S3Source},
    stores::Class,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use md5::{Digest, Md5};
use s3s::{
    S3, S3Request, S3Response, S3Result,
    dto::{
        ETag, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input,
        ListObjectsV2Output, Object, PutObjectInput, PutObjectOutput, Range, StreamingBlob, Timestamp,
    },
    s3_error,
};

use crate::{
    lab::s3::{BUCKET, options, serve},
    source_conformance::{Collected, captured, request, restored},
};

/// How a read of a key goes.
#[derive(Clone, Debug)]
enum Trick {
    /// It is replaced by this before it is read.
    Replaced(&'static str),
    /// It is gone before it is read, and listed all the same.
    Vanished,
    /// The answer breaks off after so many bytes, once.
    BreaksOff(usize),
    /// The answer breaks off, and the rest is of another version.
    BreaksOffAndChanges(usize),
    /// One byte is not the one that was put.
    Damaged,
    /// It is in an archive class.
    Archived,
}

/// An S3 server in memory, without versions and without conditions.
#[derive(Clone, Default)]
struct Fake {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    tricks: Arc<Mutex<HashMap<String, Trick>>>,
    /// How often a part of an object was asked for.
    parts_asked: Arc<AtomicUsize>,
}

/// Pages are short, so that there are several.
const PAGE: usize = 3;

impl Fake {
    fn holding(objects: &[(&str, &str)]) -> Self {
        let fake = Self::default();
        objects.iter().for_each(|(key, content)| fake.put(key, content.as_bytes()));
        fake
    }

    fn put(&self, key: &str, content: &[u8]) {
        self.objects.lock().unwrap().insert(key.to_owned(), Bytes::copy_from_slice(content));
    }

    fn play(self, key: &str, trick: Trick) -> Self {
        self.tricks.lock().unwrap().insert(key.to_owned(), trick);
        self
    }

    fn content(&self, key: &str) -> Option<Bytes> {
        self.objects.lock().unwrap().get(key).cloned()
    }

    async fn source(&self) -> S3Source {
        S3Source::new(self.options().await).unwrap()
    }

    async fn options(&self) -> S3Options {
        S3Options { prefix: String::new(), ..options(serve(self.clone()).await) }
    }
}

fn etag(content: &[u8]) -> ETag {
    ETag::Strong(hex::encode(Md5::digest(content)))
}

fn whole(content: Bytes) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send + Sync {
    stream::iter([Ok(content)])
}

/// Ends with an error, once what comes before it had the time to be sent.
fn breaking_off(content: Bytes) -> StreamingBlob {
    let broken = stream::once(async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        Err(std::io::Error::other("broken"))
    });
    StreamingBlob::wrap(whole(content).chain(broken))
}

fn then() -> Timestamp {
    std::time::SystemTime::UNIX_EPOCH.into()
}

#[async_trait]
impl S3 for Fake {
    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let (prefix, after) = (input.prefix.unwrap_or_default(), input.continuation_token);
        let objects = self.objects.lock().unwrap();
        let from = objects.iter().filter(|(key, _)| {
            key.starts_with(&prefix) && after.as_ref().is_none_or(|after| hex::encode(key) > *after)
        });
        let page: Vec<_> = from.clone().take(PAGE).collect();
        let more = from.count() > page.len();
        let url = |key: &str| key.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let contents = page.iter().map(|(key, content)| Object {
            key: Some(url(key)),
            size: Some(content.len() as i64),
            e_tag: Some(etag(content)),
            last_modified: Some(then()),
            ..Object::default()
        });
        Ok(S3Response::new(ListObjectsV2Output {
            contents: Some(contents.collect()),
            encoding_type: input.encoding_type,
            is_truncated: Some(more),
            next_continuation_token: page.last().filter(|_| more).map(|(key, _)| hex::encode(key)),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let key = request.input.key;
        let trick = self.tricks.lock().unwrap().remove(&key);
        if let Some(Trick::Replaced(content)) = trick {
            self.put(&key, content.as_bytes());
        }
        match trick {
            Some(Trick::Vanished) => drop(self.objects.lock().unwrap().remove(&key)),
            Some(Trick::Archived) => return Err(s3_error!(InvalidObjectState)),
            _ => {}
        }
        let content = self.content(&key).ok_or_else(|| s3_error!(NoSuchKey))?;
        let (start, range) = match request.input.range {
            Some(Range::Int { first, .. }) => {
                self.parts_asked.fetch_add(1, Ordering::Relaxed);
                let last = content.len() - 1;
                (first as usize, Some(format!("bytes {first}-{last}/{}", content.len())))
            }
            _ => (0, None),
        };
        let wanted = request.input.if_match.and_then(|wanted| wanted.into_etag());
        if wanted.is_some_and(|wanted| wanted != etag(&content)) {
            return Err(s3_error!(PreconditionFailed));
        }
        let rest = content.slice(start..);
        let sent = match trick {
            Some(Trick::BreaksOff(at)) => breaking_off(rest.slice(..at)),
            Some(Trick::BreaksOffAndChanges(at)) => {
                self.put(&key, &[content.to_vec(), b"more".to_vec()].concat());
                breaking_off(rest.slice(..at))
            }
            Some(Trick::Damaged) => {
                let mut damaged = rest.to_vec();
                damaged[0] ^= 1;
                StreamingBlob::wrap(whole(damaged.into()))
            }
            _ => StreamingBlob::wrap(whole(rest.clone())),
        };
        Ok(S3Response::new(GetObjectOutput {
            body: Some(sent),
            content_length: Some(rest.len() as i64),
            content_range: range,
            e_tag: Some(etag(&content)),
            last_modified: Some(then()),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let content = self.content(&request.input.key).ok_or_else(|| s3_error!(NoSuchKey))?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(content.len() as i64),
            e_tag: Some(etag(&content)),
            last_modified: Some(then()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        if request.input.if_none_match.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        let mut content = Vec::new();
        let mut body = request.input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        while let Some(piece) = body.next().await {
            content.extend_from_slice(&piece.map_err(|_| s3_error!(IncompleteBody))?);
        }
        self.put(&request.input.key, &content);
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(etag(&content)), ..PutObjectOutput::default() }))
    }
}

fn count(captured: &Captured, what: &str) -> u64 {
    let Counts::Captured(counts) = &captured.details.counts else { panic!("objects are counted") };
    counts[what]
}

const HOSTILE: [&str; 12] = [
    "../../escaped",
    "..",
    "/etc/passwd",
    "./a",
    "a",
    "a/b",
    "a//b",
    "a/b/",
    "new\nline\0zero",
    "100%?",
    ".backstay-objects.jsonl",
    "C:\\x",
];

#[tokio::test(flavor = "multi_thread")]
async fn hostile_keys_are_captured_and_come_back_and_never_lead_out() {
    let fake = Fake::default();
    let long = "ä".repeat(511);
    let keys: Vec<&str> = HOSTILE.into_iter().chain([long.as_str()]).collect();
    keys.iter().for_each(|key| fake.put(key, format!("content of {key}").as_bytes()));
    let source = fake.source().await;
    let (sink, whole) = captured(&source).await;
    assert_eq!((count(&whole, "objects"), whole.details.omitted), (keys.len() as u64, Vec::new()));

    let scratch = tempfile::tempdir().unwrap();
    let inside = scratch.path().join("deep/inside");
    fs::create_dir(scratch.path().join("deep")).unwrap();
    restored(&source, &sink.stream(), &Place::Folder(inside.clone())).await.unwrap();
    let lines = fs::read_to_string(inside.join(".backstay-objects.jsonl")).unwrap();
    let described: BTreeMap<String, String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| (line["key"].as_str().unwrap().to_owned(), line["path"].as_str().unwrap().to_owned()))
        .collect();
    for key in &keys {
        let path = inside.join(&described[*key]);
        assert_eq!(fs::read_to_string(path).unwrap(), format!("content of {key}"), "{key:?}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing is beside the folder");

    let file = scratch.path().join("objects.tar");
    fs::write(&file, sink.stream()).unwrap();
    let by_hand = scratch.path().join("by-hand");
    fs::create_dir(&by_hand).unwrap();
    let tar = Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(&by_hand).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    for (key, path) in &described {
        assert_eq!(fs::read_to_string(by_hand.join(path)).unwrap(), format!("content of {key}"), "{key:?}");
    }

    let copy = Fake::default();
    let other = copy.source().await;
    let place = Place::Bucket { bucket: BUCKET.to_owned(), prefix: String::new() };
    let said = restored(&other, &sink.stream(), &place).await.unwrap();
    assert!(said.ends_with(&format!(": {} objects put", keys.len())), "{said}");
    assert_eq!(*copy.objects.lock().unwrap(), *fake.objects.lock().unwrap());
    copy.put("a", b"another");
    let error = restored(&other, &sink.stream(), &place).await.unwrap_err();
    assert!(error.to_string().contains("1 object with other content"), "{error}");
    assert_eq!(copy.content("a").unwrap(), "another", "also where the server knows no conditions");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_during_the_capture_is_one_whole_version_and_what_vanishes_is_named() {
    let objects = [("a", "old"), ("b", "there"), ("c", "kept"), ("d", "x"), ("e", "y")];
    let fake =
        Fake::holding(&objects).play("a", Trick::Replaced("the new content")).play("b", Trick::Vanished);
    let (sink, captured) = captured(&fake.source().await).await;
    assert_eq!(count(&captured, "objects"), 4);
    assert_eq!(captured.details.omitted, ["b: it was deleted during the capture"]);
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("new"));
    restored(&fake.source().await, &sink.stream(), &place).await.unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("new/a")).unwrap(), "the new content");
    assert!(!folder.path().join("new/b").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_gone_on_with_as_long_as_it_is_the_same_version() {
    let fake = Fake::holding(&[("a", "0123456789"), ("b", "x")]).play("a", Trick::BreaksOff(4));
    let (sink, _) = captured(&fake.source().await).await;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("new"));
    restored(&fake.source().await, &sink.stream(), &place).await.unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("new/a")).unwrap(), "0123456789");
    assert_eq!(fake.parts_asked.load(Ordering::Relaxed), 1);

    let fake = Fake::holding(&[("a", "0123456789")]).play("a", Trick::BreaksOffAndChanges(4));
    let error = fake.source().await.capture(&request(), &mut Collected::default()).await.unwrap_err();
    assert!(error.to_string().contains("a: it was replaced while it was read"), "{error}");
    assert_eq!(error.class, Class::Retry);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_its_tag_says_fails_the_capture() {
    let fake = Fake::holding(&[("a", "x"), ("b", "0123456789")]).play("b", Trick::Damaged);
    let error = fake.source().await.capture(&request(), &mut Collected::default()).await.unwrap_err();
    assert!(error.to_string().contains("b: its ETag is 781e5e245d69b566979b86e28d23f2c7"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_an_archive_class_fails_the_capture_with_what_to_do() {
    let fake = Fake::holding(&[("a", "x"), ("old", "x")]).play("old", Trick::Archived);
    let error = fake.source().await.capture(&request(), &mut Collected::default()).await.unwrap_err();
    assert_eq!(error.class, Class::Stalled);
    assert!(error.to_string().contains("old is in an archive class") && error.hint.is_some(), "{error}");
}
