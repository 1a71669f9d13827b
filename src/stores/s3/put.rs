//! Puts, whole or in parts, and deletions.

use aws_sdk_s3::{
    Client,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::{super::Put, S3Store, fault::Fault, read};
use crate::artifact::layout::ObjectName;

/// Larger content is sent in parts. A pack is smaller: of an object that was sent whole a server can tell the SHA-256,
/// of one in parts only a digest of digests.
const IN_PARTS_ABOVE: usize = 64 << 20;

/// Bytes of a part.
const PART: usize = 8 << 20;

/// Parts under way at once.
const AT_ONCE: usize = 4;

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

/// SHA-256 as S3 writes it.
pub(super) fn digest(content: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(content))
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

/// Checks the digest of what arrived, where the server tells it.
fn confirmed(told: Option<&str>, sent: &str) -> Result<(), Fault> {
    match told {
        Some(told) if told != sent => {
            Err(Fault::Protocol(format!("the server has content of SHA-256 {told}, sent was {sent}")))
        }
        _ => Ok(()),
    }
}

async fn put_in_parts(
    store: &S3Store,
    name: &ObjectName,
    content: Bytes,
    condition: Condition,
) -> Result<Put, Fault> {
    let upload = Upload::start(store, name).await?;
    match upload.send(content, condition).await {
        Ok(()) => {
            upload.forget();
            Ok(Put::Created)
        }
        Err(fault) => {
            // The first failure is the one to tell; what cannot be aborted now is left to the bucket's lifecycle rule.
            let _ = upload.abort().await;
            if fault.is_precondition() { Ok(Put::Existed) } else { Err(fault) }
        }
    }
}

/// An upload in parts; aborted when dropped, so that nothing invisible is left to be paid for.
struct Upload {
    request: Option<Request>,
}

#[derive(Clone)]
struct Request {
    client: Client,
    bucket: String,
    key: String,
    id: String,
}

impl Upload {
    async fn start(store: &S3Store, name: &ObjectName) -> Result<Self, Fault> {
        let (bucket, key) = (store.bucket.clone(), store.key(name));
        let started = store
            .client
            .create_multipart_upload()
            .bucket(&bucket)
            .key(&key)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .send()
            .await?;
        let id = started.upload_id.ok_or_else(|| Fault::Protocol("the server names no upload".into()))?;
        Ok(Self { request: Some(Request { client: store.client.clone(), bucket, key, id }) })
    }

    fn request(&self) -> &Request {
        self.request.as_ref().expect("only what consumes the upload takes its request")
    }

    async fn send(&self, content: Bytes, condition: Condition) -> Result<(), Fault> {
        let request = self.request();
        let parts = (0..content.len()).step_by(PART).zip(1..).map(|(start, number)| {
            request.send_part(number, content.slice(start..content.len().min(start + PART)))
        });
        let parts: Vec<CompletedPart> = stream::iter(parts).buffered(AT_ONCE).try_collect().await?;
        request
            .client
            .complete_multipart_upload()
            .bucket(&request.bucket)
            .key(&request.key)
            .upload_id(&request.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .set_if_none_match(condition.if_none_match())
            .send()
            .await?;
        Ok(())
    }

    fn forget(mut self) {
        self.request = None;
    }

    async fn abort(mut self) -> Result<(), Fault> {
        match self.request.take() {
            Some(request) => request.abort().await,
            None => Ok(()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some(request), Ok(runtime)) = (self.request.take(), runtime) {
            runtime.spawn(async move { request.abort().await });
        }
    }
}

impl Request {
    async fn send_part(&self, number: i32, content: Bytes) -> Result<CompletedPart, Fault> {
        let digest = digest(&content);
        let sent = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .part_number(number)
            .checksum_sha256(&digest)
            .body(ByteStream::from(content))
            .send()
            .await?;
        confirmed(sent.checksum_sha256(), &digest)?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).checksum_sha256(digest).build())
    }

    async fn abort(&self) -> Result<(), Fault> {
        self.client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .send()
            .await?;
        Ok(())
    }
}

/// Deletes an object.
pub(super) async fn delete(store: &S3Store, name: &ObjectName) -> Result<(), Fault> {
    let deleted = store.client.delete_object().bucket(&store.bucket).key(store.key(name)).send().await;
    match deleted.map_err(Fault::from) {
        Ok(_) | Err(Fault::NoObject) => Ok(()),
        Err(fault) => Err(fault),
    }
}
