//! Reads, looks, listings and the server's clock.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_s3::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::BoxError,
    operation::get_object::GetObjectOutput,
    types::{ChecksumMode, ChecksumType},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

use super::{
    super::{
        Held, Listed, Stat,
        extent::{Refused, extent, within},
    },
    S3Store,
};
use crate::{
    artifact::layout::ObjectName,
    aws::{Fault, size_of, timestamp},
};

/// Reads an object.
pub(super) async fn get(
    store: &S3Store,
    name: &ObjectName,
    range: Option<Range<u64>>,
    limit: u64,
) -> Result<Bytes, Fault> {
    match range {
        None => get_whole(store, name, limit).await,
        Some(range) => get_range(store, name, range, limit).await,
    }
}

async fn get_whole(store: &S3Store, name: &ObjectName, limit: u64) -> Result<Bytes, Fault> {
    let answer = store
        .client
        .get_object()
        .bucket(&store.bucket)
        .key(store.key(name))
        // Has the client check the object's checksum while it is read, where the server tells one.
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await?;
    let size = size_of(answer.content_length)?;
    extent(size, None, limit)?;
    body(answer, size).await
}

async fn get_range(
    store: &S3Store,
    name: &ObjectName,
    range: Range<u64>,
    limit: u64,
) -> Result<Bytes, Fault> {
    within(&range, limit)?;
    if range.is_empty() {
        // HTTP has no empty ranges.
        let stat = look(store, name).await?.ok_or(Fault::NoObject)?;
        extent(stat.size, Some(range), limit)?;
        return Ok(Bytes::new());
    }
    let bytes = format!("bytes={}-{}", range.start, range.end - 1);
    let asked =
        store.client.get_object().bucket(&store.bucket).key(store.key(name)).range(bytes).send().await;
    let answer = match asked.map_err(Fault::from) {
        Err(fault) if fault.is_beyond() => {
            let size = look(store, name).await?.ok_or(Fault::NoObject)?.size;
            return Err(Refused::Beyond { range, size }.into());
        }
        answer => answer?,
    };
    let size = answer.content_range().and_then(|told| told.rsplit_once('/')?.1.parse().ok());
    let size = size.ok_or_else(|| Fault::Protocol("the server does not give ranges".into()))?;
    let range = extent(size, Some(range), limit)?;
    let length = size_of(answer.content_length)?;
    if length != range.end - range.start {
        return Err(Fault::Protocol(format!("the server gives {length} bytes for another range")));
    }
    body(answer, length).await
}

/// The body of an answer, which must have `length` bytes.
async fn body(answer: GetObjectOutput, length: u64) -> Result<Bytes, Fault> {
    let mut body = answer.body;
    let mut content = BytesMut::with_capacity(length as usize);
    while let Some(bytes) = body.try_next().await.map_err(Fault::broken_body)? {
        if (content.len() + bytes.len()) as u64 > length {
            return Err(Fault::Protocol("the server gives more than it said".into()));
        }
        content.extend_from_slice(&bytes);
    }
    if (content.len() as u64) < length {
        return Err(Fault::Connection("the answer was cut off".into()));
    }
    Ok(content.freeze())
}

/// Looks at an object. A digest counts only from a server that was found to check what it is sent.
pub(super) async fn stat(store: &S3Store, name: &ObjectName) -> Result<Option<Stat>, Fault> {
    let Some(mut stat) = look(store, name).await? else { return Ok(None) };
    if stat.sha256.is_some() && !store.probed().await.is_ok_and(|found| found.checksums == Held::Yes) {
        stat.sha256 = None;
    }
    Ok(Some(stat))
}

/// What the server says of an object, on its word.
pub(super) async fn look(store: &S3Store, name: &ObjectName) -> Result<Option<Stat>, Fault> {
    let looked = store
        .client
        .head_object()
        .bucket(&store.bucket)
        .key(store.key(name))
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await;
    let found = match looked.map_err(Fault::from) {
        // The answer has no body to say what is missing: the object, or its bucket.
        Err(fault) if fault.is_absent() => return bucket_exists(store).await.map(|()| None),
        found => found?,
    };
    let whole = found.checksum_type().is_none_or(|kind| *kind == ChecksumType::FullObject);
    Ok(Some(Stat {
        size: size_of(found.content_length)?,
        modified: timestamp(found.last_modified())?,
        sha256: found.checksum_sha256().filter(|_| whole).and_then(read_digest),
    }))
}

/// A digest that a server tells. One with the number of parts behind it is of digests, and no answer.
fn read_digest(told: &str) -> Option<[u8; 32]> {
    BASE64_STANDARD.decode(told).ok()?.try_into().ok()
}

async fn bucket_exists(store: &S3Store) -> Result<(), Fault> {
    match store.client.head_bucket().bucket(&store.bucket).send().await.map_err(Fault::from) {
        Ok(_) => Ok(()),
        Err(fault) if fault.is_absent() => Err(Fault::NoBucket),
        Err(fault) => Err(fault),
    }
}

/// Every object below `under`.
pub(super) async fn list(store: &S3Store, under: &ObjectName) -> Result<Vec<Listed>, Fault> {
    let (mut found, mut next) = (Vec::new(), None);
    loop {
        let page = store
            .client
            .list_objects_v2()
            .bucket(&store.bucket)
            .prefix(format!("{}/", store.key(under)))
            .set_continuation_token(next)
            .send()
            .await?;
        for object in page.contents() {
            let Some(name) = object.key().and_then(|key| store.name(key)) else { continue };
            let modified = timestamp(object.last_modified())?;
            found.push(Listed { name, size: size_of(object.size())?, modified });
        }
        next = page.next_continuation_token;
        match (page.is_truncated.unwrap_or(false), &next) {
            (false, _) => return Ok(found),
            (true, Some(_)) => {}
            (true, None) => return Err(Fault::Protocol("a listing ends before it is complete".into())),
        }
    }
}

/// The server's clock, by the `Date` of an answer, to the second.
pub(super) async fn clock(store: &S3Store) -> Result<Timestamp, Fault> {
    let date = AnswersDate::default();
    let asked = store.client.head_bucket().bucket(&store.bucket).customize().interceptor(date.clone()).send();
    match asked.await.map_err(Fault::from) {
        Err(fault) if fault.is_absent() => return Err(Fault::NoBucket),
        answer => answer?,
    };
    let date = date.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    let date = date.ok_or_else(|| Fault::Protocol("the server does not date its answers".into()))?;
    DateTimeParser::new()
        .parse_timestamp(&date)
        .map_err(|error| Fault::Protocol(format!("the server's date is none: {error}")))
}

/// Keeps the `Date` of an answer.
#[derive(Clone, Debug, Default)]
struct AnswersDate(Arc<Mutex<Option<String>>>);

impl Intercept for AnswersDate {
    fn name(&self) -> &'static str {
        "AnswersDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}
