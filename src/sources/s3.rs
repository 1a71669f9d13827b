//! Objects of a bucket of anything that speaks S3. The stream is a pax archive that every tar reads: a member for each
//! object, in the order of keys, and in a bucket that keeps versions for each version and each deletion, newest first.
//!
//! ```text
//! reach (calls, tried again) · listing (what there is) · names (keys as paths) · runs (what belongs together; its key)
//! fetch, checks (an object, read whole) · about, tags (what is said of it) · capture (the stream)
//! standing, chosen (what is current, or selected) · folder · put_back, beside, digests (the ways back)
//! ```
//!
//! What a server gives in one answer is one version of an object, whole or not at all. There is no moment at which all
//! objects are seen: one that is written during the capture is in it as it was before, or as it is after.

mod about;
mod beside;
mod capture;
mod checks;
mod chosen;
mod digests;
mod fetch;
mod folder;
mod listing;
mod names;
mod needs;
mod put_back;
mod reach;
mod runs;
mod standing;
mod tags;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use tokio::{io::AsyncRead, runtime::Handle};

use super::{
    CaptureRequest, Captured, Lack, Place, Probe, Restored, Sink, Source, SourceError,
    aside::Aside,
    blocking::consume,
    selection::{Missing, Selection},
};
use crate::{
    artifact::{
        Kind,
        manifest::{Details, Moment},
    },
    aws::{self, Fault, S3Options},
    stores::{Class, ErrorKind},
};
use chosen::Chosen;
use listing::Depth;
use put_back::{Done, Existing, Target};
use reach::Reach;

/// What the access key's policy must allow.
const ACTIONS: &str = "s3:ListBucket, ListBucketVersions, GetBucketVersioning, GetObject, GetObjectVersion, \
                       GetObjectTagging and GetObjectVersionTagging, and for restores into a bucket PutObject, \
                       PutObjectTagging and AbortMultipartUpload";

/// Silence of the server that fails a probe or a restore.
const SILENCE: Duration = Duration::from_secs(10 * 60);

/// Objects of a bucket, or of a folder of one.
#[derive(Clone, Debug)]
pub struct S3Source {
    client: Client,
    region: String,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
}

impl S3Source {
    /// What lies below the prefix that `options` name. Connects when it is first used; fails without an access key, or
    /// on an authority (`AWS_CA_BUNDLE`) that cannot be read.
    pub fn new(options: S3Options) -> Result<Self, SourceError> {
        let prefix = folder_of(&options.prefix);
        let subject = subject(&options.bucket, &prefix);
        let client = aws::s3(&options).map_err(|fault| Failure::S3(fault).explain("use", subject))?;
        Ok(Self { client, region: options.region, bucket: options.bucket, prefix })
    }

    fn subject(&self) -> String {
        subject(&self.bucket, &self.prefix)
    }

    fn reach(&self, stall: Duration) -> Reach {
        Reach { client: self.client.clone(), bucket: self.bucket.clone(), stall }
    }

    async fn probed(&self) -> Result<Depth, Failure> {
        let reach = self.reach(SILENCE);
        let list =
            || self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix).max_keys(1).send();
        reach.again(list).await?;
        listing::depth(&reach).await
    }

    async fn captured(&self, request: &CaptureRequest<'_>, sink: &mut dyn Sink) -> Result<Details, Failure> {
        let reach = self.reach(request.stall);
        let depth = listing::depth(&reach).await?;
        capture::capture(&reach, &self.prefix, depth, request.base_started, sink).await
    }

    async fn restored(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
        selection: Option<&Selection>,
    ) -> Result<String, Failure> {
        let chosen = Chosen::of(selection)?;
        match place {
            Place::File(_) if chosen.is_part() => {
                Err(Failure::Refused("a part of an archive goes into a folder or a bucket".to_owned()))
            }
            Place::File(path) => save(stream, path).await.map(|()| path.display().to_string()),
            Place::Folder(path) => to_folder(stream, path.clone(), chosen).await,
            Place::Bucket { bucket, prefix } => {
                let (bucket, prepend) = (bucket.clone(), folder_of(prefix));
                let reach = Reach { bucket, ..self.reach(SILENCE) };
                self.to_bucket(stream, chosen, self.target(reach, prepend, Existing::Keep)).await
            }
            Place::Original => {
                let target = self.target(self.reach(SILENCE), String::new(), Existing::Replace);
                self.to_bucket(stream, chosen, target).await
            }
            Place::Database(_) => Err(Failure::Refused("objects are no database".to_owned())),
        }
    }

    fn target(&self, reach: Reach, prepend: String, existing: Existing) -> Target {
        Target { reach, prepend, prefix: self.prefix.clone(), existing }
    }

    async fn to_bucket(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        chosen: Chosen,
        target: Target,
    ) -> Result<String, Failure> {
        let name = subject(&target.reach.bucket, &target.prepend);
        let runtime = Handle::current();
        let done =
            consume(stream, move |archive| put_back::put_back(archive, chosen, &target, &runtime)).await;
        let done = done.unwrap_or_else(|died| Err(Failure::Stream(io::Error::other(died))))?;
        Ok(format!("{name}{}", told(&done)))
    }
}

/// A prefix with its slash; empty for a whole bucket.
fn folder_of(prefix: &str) -> String {
    match prefix.trim_matches('/') {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    }
}

fn subject(bucket: &str, prefix: &str) -> String {
    format!("s3://{bucket}/{prefix}")
}

/// `: 12 objects put, 3 already there, 1 object left alone that the artifact does not hold`
fn told(done: &Done) -> String {
    let mut told = format!(": {} put", objects(done.put));
    if done.there_already > 0 {
        told += &format!(", {} already there", done.there_already);
    }
    if done.tagged > 0 {
        told += &format!(", {} given back tags", done.tagged);
    }
    if done.others > 0 {
        told += &format!(", {} left alone that the artifact does not hold", objects(done.others));
    }
    told
}

fn objects(count: u64) -> String {
    if count == 1 { "1 object".to_owned() } else { format!("{count} objects") }
}

async fn save(stream: &mut (dyn AsyncRead + Send + Unpin), path: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::io("write", path, error);
    let mut aside = Aside::begin(path).map_err(failed)?;
    aside.fill(stream, |_| {}).await.map_err(failed)?;
    aside.place().map_err(failed)
}

async fn to_folder(
    stream: &mut (dyn AsyncRead + Send + Unpin),
    folder: PathBuf,
    chosen: Chosen,
) -> Result<String, Failure> {
    let name = folder.display().to_string();
    let extracted = consume(stream, move |archive| folder::extract(archive, &folder, chosen)).await;
    let count = extracted.unwrap_or_else(|died| Err(Failure::Stream(io::Error::other(died))))?;
    Ok(format!("{name}: {}, described in {}", objects(count), names::DESCRIPTION))
}

#[async_trait]
impl Source for S3Source {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let version = match self.probed().await.map_err(|failure| failure.explain("probe", self.subject()))? {
            Depth::Newest => "S3, without versions",
            Depth::Versions => "S3, with versions",
        };
        Ok(Probe { version: version.to_owned() })
    }

    async fn lacks(&self, _kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        let lacks = needs::lacks(&self.reach(SILENCE), &self.region, &self.prefix).await;
        lacks.map_err(|failure| failure.explain("probe", self.subject()))
    }

    fn stream_name(&self) -> String {
        "objects.tar".to_owned()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        if request.kind == Kind::Log {
            return Err(SourceError::unsupported(&self.subject(), request.kind));
        }
        // What was written before is in it, and of what was written since some may not be.
        let began = request.now();
        let captured = self.captured(request, sink).await;
        let details = captured.map_err(|failure| failure.explain("capture", self.subject()))?;
        Ok(Captured { moment: Moment::At { time: began, position: None }, details })
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        let restored = self.restored(stream, place, None).await;
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }

    async fn restore_selected(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
        selection: &Selection,
    ) -> Result<Restored, SourceError> {
        let restored = self.restored(stream, place, Some(selection)).await;
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    SinkClosed,
    S3(Fault),
    /// With which object.
    Object {
        key: String,
        fault: Fault,
    },
    /// The server was silent for too long.
    Silent(Duration),
    /// What was read of an object is not what the server says that it holds.
    Wrong(String),
    /// A current object can't be read before its owner has brought it back.
    Archived(String),
    /// Objects are there that are not those of the archive.
    Differ {
        count: u64,
        first: String,
    },
    Io {
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// The stream that is restored failed or is no archive.
    Stream(io::Error),
    /// What was asked would overwrite something or escape.
    Refused(String),
    /// The archive does not hold what was selected.
    Missing(Missing),
}

impl From<super::SinkClosed> for Failure {
    fn from(_: super::SinkClosed) -> Self {
        Failure::SinkClosed
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::S3(fault)
    }
}

impl Failure {
    fn io(doing: &'static str, path: &Path, error: io::Error) -> Self {
        Failure::Io { doing, path: path.to_owned(), error }
    }

    /// Says with which object it went wrong.
    fn about(self, key: &str) -> Self {
        match self {
            Failure::S3(fault) => Failure::Object { key: fetch::shown(key), fault },
            Failure::Refused(why) => Failure::Refused(format!("{}: {why}", fetch::shown(key))),
            other => other,
        }
    }

    fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject, class, reason);
        match self {
            Failure::SinkClosed => error(Class::Retry, super::SinkClosed.to_string()),
            Failure::S3(fault) => hinted(error(class(&fault), fault.to_string()), &fault),
            Failure::Object { key, fault } => {
                hinted(error(class(&fault), format!("{key}: {fault}")), &fault)
            }
            Failure::Silent(silence) => {
                error(Class::Retry, format!("it was silent for {}", humantime::format_duration(silence)))
            }
            Failure::Wrong(why) => error(Class::Retry, why),
            Failure::Archived(key) => {
                error(Class::Stalled, format!("{key} is in an archive class, from where it can't be read"))
                    .with_hint("bring it back (s3:RestoreObject), or move it out of the declared prefix")
            }
            Failure::Differ { count, first } => error(
                Class::Stalled,
                format!(
                    "left alone as they are: {} with other content, headers or tags than in the artifact, such as {first}; all others are there",
                    objects(count)
                ),
            )
            .with_hint("name another prefix, or restore in place"),
            Failure::Io { doing, path, error: why } => {
                let reason = format!("can't {doing} {}: {why}", path.display());
                match why.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::Interrupted => error(Class::Retry, reason),
                    _ => error(Class::Stalled, reason),
                }
            }
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::Missing(missing) => error(Class::Stalled, missing.told()),
        }
    }
}

fn hinted(error: SourceError, fault: &Fault) -> SourceError {
    match fault.hint(ACTIONS) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn class(fault: &Fault) -> Class {
    match fault.kind() {
        ErrorKind::Transient => Class::Retry,
        ErrorKind::Full | ErrorKind::Unavailable => Class::Wait(Duration::from_secs(60)),
        ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Protocol => Class::Stalled,
    }
}
