//! Puts, whole or in parts, and deletions.

use aws_sdk_s3::{primitives::ByteStream, types::CompletedPart};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{super::Put, S3Store, read};
use crate::{
    artifact::layout::ObjectName,
    aws::{Fault, Upload, UploadRequest, confirmed, digest},
};

/// Larger content is sent in parts. A pack is smaller: of an object that was sent whole a server can tell the SHA-256,
/// of one in parts only a digest of digests.
const IN_PARTS_ABOVE: usize = 64 << 20;

/// Bytes of a part.
const PART: usize = 8 << 20;

/// Parts under way at once.
const AT_ONCE: usize = 4;

/// Times a put that is denied is sent. A policy denies all of them; MinIO denies the one whose folder it removes at that
/// moment, for the last other object in it was deleted (issue 15157 of minio/minio).
const SENT_WHEN_DENIED: usize = 4;

/// When a put may take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// When there is no such object.
    Absent,
    /// Always.
    None,
}

impl Condition {
    /// The value of `If-None-Match`.
    fn if_none_match(self) -> Option<String> {
        (self == Condition::Absent).then(|| "*".to_owned())
    }
}

/// Creates `name` with `content` unless it exists.
pub(super) async fn put(store: &S3Store, name: &ObjectName, content: Bytes) -> Result<Put, Fault> {
    let refuses = store.probed().await?.refuses_second_put();
    let condition = if refuses { Condition::Absent } else { Condition::None };
    let in_parts = content.len() > IN_PARTS_ABOVE;
    if (in_parts || !refuses) && read::look(store, name).await?.is_some() {
        return Ok(Put::Existed);
    }
    let put = if in_parts {
        put_in_parts(store, name, content, condition).await
    } else {
        let digest = digest(&content);
        put_whole(store, name, content, &digest, condition).await
    };
    match put {
        // Two puts raced, and the server names no winner.
        Err(fault) if fault.is_conflict() => match read::look(store, name).await? {
            Some(_) => Ok(Put::Existed),
            None => Err(fault),
        },
        put => put,
    }
}

/// Puts `content` in one request, with `digest` as its SHA-256.
pub(super) async fn put_whole(
    store: &S3Store,
    name: &ObjectName,
    content: Bytes,
    digest: &str,
    condition: Condition,
) -> Result<Put, Fault> {
    let mut again = 1..SENT_WHEN_DENIED;
    loop {
        match send_whole(store, name, content.clone(), digest, condition).await {
            Err(fault) if fault.is_access_denied() && again.next().is_some() => {}
            sent => return sent,
        }
    }
}

async fn send_whole(
    store: &S3Store,
    name: &ObjectName,
    content: Bytes,
    digest: &str,
    condition: Condition,
) -> Result<Put, Fault> {
    let sent = store
        .client
        .put_object()
        .bucket(&store.bucket)
        .key(store.key(name))
        .set_if_none_match(condition.if_none_match())
        .checksum_sha256(digest)
        .body(ByteStream::from(content))
        .send()
        .await;
    match sent.map_err(Fault::from) {
        Ok(answer) => confirmed(answer.checksum_sha256(), digest).map(|()| Put::Created),
        Err(fault) if fault.is_precondition() => Ok(Put::Existed),
        Err(fault) => Err(fault),
    }
}

async fn put_in_parts(
    store: &S3Store,
    name: &ObjectName,
    content: Bytes,
    condition: Condition,
) -> Result<Put, Fault> {
    let upload = Upload::start(&store.client, (&store.bucket, &store.key(name)), |upload| upload).await?;
    let sent = match send_parts(upload.request(), content).await {
        Ok(parts) => upload.complete(parts, condition.if_none_match()).await,
        Err(fault) => {
            // The first failure is the one to tell.
            upload.abort().await;
            Err(fault)
        }
    };
    match sent {
        Ok(()) => Ok(Put::Created),
        Err(fault) if fault.is_precondition() => Ok(Put::Existed),
        Err(fault) => Err(fault),
    }
}

async fn send_parts(request: &UploadRequest, content: Bytes) -> Result<Vec<CompletedPart>, Fault> {
    let parts = (0..content.len()).step_by(PART).zip(1..).map(|(start, number)| {
        request.send_part(number, content.slice(start..content.len().min(start + PART)))
    });
    stream::iter(parts).buffered(AT_ONCE).try_collect().await
}

/// Deletes an object.
pub(super) async fn delete(store: &S3Store, name: &ObjectName) -> Result<(), Fault> {
    let deleted = store.client.delete_object().bucket(&store.bucket).key(store.key(name)).send().await;
    match deleted.map_err(Fault::from) {
        Ok(_) | Err(Fault::NoObject) => Ok(()),
        Err(fault) => Err(fault),
    }
}
