//! What a server holds, and questions about it: by a token that may read buckets, and nothing else.

use tokio::runtime::Handle;

use super::{
    ANSWER, Failure, Influxdb2Source,
    api::{Made, Series},
    body::Body,
    buckets::Bucket,
    metadata::{self, Wanted},
    names::is_own,
};
use crate::sources::{Holds, influxql};

/// Whether the declared buckets hold anything, but for those that a restore has `made`: a bucket has a shard from its first point on.
/// A server that was not set up yet holds nothing.
pub(super) async fn holds(source: &Influxdb2Source, made: &[Made]) -> Result<Holds, Failure> {
    if source.api.is_to_be_set_up().await? {
        return Ok(Holds::Nothing);
    }
    // First what a token that sees less is refused: what it does not see would be taken for absent.
    let buckets = buckets(source).await?;
    let organization = match source.api.organization().await {
        Err(Failure::Absent(_)) => return Ok(Holds::Nothing),
        organization => organization?,
    };
    let is_declared = |bucket: &&Bucket| {
        let named = source.buckets.iter().any(|name| name.as_str() == bucket.name());
        bucket.organization() == organization
            && made.iter().all(|made| made.id != bucket.id())
            && !is_own(bucket.name())
            && (source.buckets.is_empty() || named)
    };
    let mut declared = buckets.iter().filter(is_declared);
    Ok(match declared.find(|bucket| bucket.shards().next().is_some()) {
        Some(bucket) => Holds::Data(format!("points in bucket {}", bucket.name().escape_debug())),
        None => Holds::Nothing,
    })
}

/// Whether the bucket of this ID has any points.
pub(super) async fn has_points(source: &Influxdb2Source, id: &str) -> Result<bool, Failure> {
    let buckets = buckets(source).await?;
    Ok(buckets.iter().any(|bucket| bucket.id() == id && bucket.shards().next().is_some()))
}

/// All buckets of the server.
async fn buckets(source: &Influxdb2Source) -> Result<Vec<Bucket>, Failure> {
    let answer = source.api.metadata().await?;
    let content_type = answer.headers().get("content-type").and_then(|it| it.to_str().ok());
    let boundary = content_type.and_then(metadata::boundary).ok_or_else(|| {
        Failure::Answer("the server's metadata do not come in parts: it is older than 2.1".to_owned())
    })?;
    let body = Body::new(answer, Handle::current(), ANSWER);
    let read = tokio::task::spawn_blocking(move || metadata::read(body, &boundary, Wanted::Buckets)).await;
    Ok(read.map_err(|died| Failure::Answer(died.to_string()))??.buckets)
}

/// The only value that `influxql` gives, in a bucket.
pub(super) async fn ask(
    source: &Influxdb2Source,
    bucket: Option<&str>,
    influxql: &str,
) -> Result<String, Failure> {
    let only = match source.buckets.as_slice() {
        [one] => Some(one.as_str()),
        _ => None,
    };
    let bucket = bucket.or(only).unwrap_or_default();
    let organization = source.api.organization().await?;
    let reader = source.api.make_reader(&organization).await?;
    let answer = source.api.influxql(&reader.token, bucket, influxql).await;
    source.api.remove_token(&reader.id).await?;
    only_value(&answer?)
        .ok_or_else(|| Failure::Answer(format!("the server did not give one value for `{influxql}`")))
}

fn only_value(answer: &[Series]) -> Option<String> {
    let [Series { columns, values }] = answer else { return None };
    let [row] = values.as_slice() else { return None };
    influxql::only_value(columns, row)
}
