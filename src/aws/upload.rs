//! Uploads in parts, each with its SHA-256.

use aws_sdk_s3::{
    Client,
    operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Fault;

/// SHA-256 as S3 writes it.
pub(crate) fn digest(content: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(content))
}

/// Checks the digest of what arrived, where the server tells it.
pub(crate) fn confirmed(told: Option<&str>, sent: &str) -> Result<(), Fault> {
    match told {
        Some(told) if told != sent => {
            Err(Fault::Protocol(format!("the server has content of SHA-256 {told}, sent was {sent}")))
        }
        _ => Ok(()),
    }
}

/// An upload in parts; aborted when dropped, so that nothing invisible is left to be paid for.
pub(crate) struct Upload {
    request: Option<Request>,
}

/// Of one upload, all that its further requests name.
#[derive(Clone)]
pub(crate) struct Request {
    client: Client,
    bucket: String,
    key: String,
    id: String,
}

impl Upload {
    /// Begins what `begin` describes beyond its place.
    pub(crate) async fn start(
        client: &Client,
        (bucket, key): (&str, &str),
        begin: impl FnOnce(CreateMultipartUploadFluentBuilder) -> CreateMultipartUploadFluentBuilder,
    ) -> Result<Self, Fault> {
        let create = client.create_multipart_upload().bucket(bucket).key(key);
        let started = begin(create).checksum_algorithm(ChecksumAlgorithm::Sha256).send().await?;
        let id = started.upload_id.ok_or_else(|| Fault::Protocol("the server names no upload".into()))?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        Ok(Self { request: Some(Request { client: client.clone(), bucket, key, id }) })
    }

    /// What parts are sent with.
    pub(crate) fn request(&self) -> &Request {
        self.request.as_ref().expect("only what consumes the upload takes its request")
    }

    /// Makes the object of its parts, where `if_none_match` holds. Aborts the upload where that fails.
    pub(crate) async fn complete(
        mut self,
        parts: Vec<CompletedPart>,
        if_none_match: Option<String>,
    ) -> Result<(), Fault> {
        let request = self.request();
        let completed = request
            .client
            .complete_multipart_upload()
            .bucket(&request.bucket)
            .key(&request.key)
            .upload_id(&request.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .set_if_none_match(if_none_match)
            .send()
            .await;
        match completed {
            Ok(_) => {
                self.request = None;
                Ok(())
            }
            Err(error) => {
                self.abort().await;
                Err(error.into())
            }
        }
    }

    /// Gives the upload up. What cannot be aborted now is left to the bucket's lifecycle rule.
    pub(crate) async fn abort(mut self) {
        if let Some(request) = self.request.take() {
            let _ = request.abort().await;
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
    /// Sends one part; their numbers count from 1.
    pub(crate) async fn send_part(&self, number: i32, content: Bytes) -> Result<CompletedPart, Fault> {
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
