//! What lies below a prefix, in the order of keys: one version of each object, or all of them, newest first. Pages are
//! read as they are needed.

use std::{cmp::Reverse, collections::VecDeque};

use aws_sdk_s3::{
    operation::{list_object_versions::ListObjectVersionsOutput, list_objects_v2::ListObjectsV2Output},
    types::{BucketVersioningStatus, EncodingType},
};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::{Failure, reach::Reach};
use crate::aws::{Fault, size_of, timestamp};

/// What versioning made a bucket keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// One version of each object.
    Newest,
    /// Former versions and deletions, too.
    Versions,
}

/// One version of an object, or its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub key: String,
    /// `None` in a bucket that never kept versions.
    pub version: Option<String>,
    /// When it was written, by the server's clock.
    pub modified: Timestamp,
    pub what: What,
}

/// Whether an object can be read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    AtOnce,
    /// Once its owner has brought it back.
    Archived,
}

/// What is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Object {
        /// Bytes.
        size: u64,
        /// Changes with the content; as the server writes it.
        etag: String,
        access: Access,
    },
    /// A marker that the object was deleted.
    Marker,
}

impl Listed {
    /// Bytes of content.
    pub(super) fn size(&self) -> u64 {
        match self.what {
            What::Object { size, .. } => size,
            What::Marker => 0,
        }
    }

    /// Whether it can't be read before its owner has brought it back.
    pub(super) fn is_archived(&self) -> bool {
        matches!(self.what, What::Object { access: Access::Archived, .. })
    }

    /// Whether nothing else will ever stand under this name. What was written while a bucket kept no versions is its
    /// version `null`, which a later one replaces.
    pub(super) fn is_immutable(&self) -> bool {
        self.version.as_ref().is_some_and(|id| id != "null")
    }
}

/// Whether the bucket keeps versions, or once did. A server that knows no versions keeps none.
pub(super) async fn depth(reach: &Reach) -> Result<Depth, Failure> {
    let asked = reach.again(|| reach.client.get_bucket_versioning().bucket(&reach.bucket).send()).await;
    match asked {
        Ok(answer) => Ok(match answer.status() {
            Some(BucketVersioningStatus::Enabled | BucketVersioningStatus::Suspended) => Depth::Versions,
            _ => Depth::Newest,
        }),
        Err(Failure::S3(Fault::Service { status: 404 | 405 | 501, .. })) => Ok(Depth::Newest),
        Err(failure) => Err(failure),
    }
}

/// Where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    First,
    Token(String),
    Markers(String, Option<String>),
    End,
}

/// A listing under way.
pub(super) struct Listing<'a> {
    reach: &'a Reach,
    depth: Depth,
    prefix: String,
    page: VecDeque<Listed>,
    next: Next,
    last: Option<String>,
}

impl<'a> Listing<'a> {
    /// Of what lies below `prefix`, which ends in a slash or is empty.
    pub(super) fn new(reach: &'a Reach, prefix: String, depth: Depth) -> Self {
        Self { reach, depth, prefix, page: VecDeque::new(), next: Next::First, last: None }
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Result<Option<Listed>, Failure> {
        loop {
            if let Some(listed) = self.page.pop_front() {
                self.check_order(&listed.key)?;
                return Ok(Some(listed));
            }
            if self.next == Next::End {
                return Ok(None);
            }
            let (page, next) = match self.depth {
                Depth::Newest => self.objects().await?,
                Depth::Versions => self.versions().await?,
            };
            if next == self.next {
                return Err(protocol("a listing goes in circles"));
            }
            (self.page, self.next) = (page, next);
        }
    }

    /// What is captured and compared rests on the order. Directory buckets do not keep it.
    fn check_order(&mut self, key: &str) -> Result<(), Failure> {
        let ordered = match (&self.last, self.depth) {
            (None, _) => true,
            (Some(last), Depth::Newest) => last.as_str() < key,
            (Some(last), Depth::Versions) => last.as_str() <= key,
        };
        if !ordered {
            return Err(protocol("the server does not list objects in the order of their keys"));
        }
        if self.last.as_deref() != Some(key) {
            self.last = Some(key.to_owned());
        }
        Ok(())
    }

    async fn objects(&self) -> Result<(VecDeque<Listed>, Next), Failure> {
        let token = match &self.next {
            Next::Token(token) => Some(token.clone()),
            _ => None,
        };
        let reach = self.reach;
        let page = reach
            .again(|| {
                let list = reach.client.list_objects_v2().bucket(&reach.bucket).prefix(&self.prefix);
                list.encoding_type(EncodingType::Url).set_continuation_token(token.clone()).send()
            })
            .await?;
        let next = match (page.is_truncated, &page.next_continuation_token) {
            (Some(true), Some(token)) => Next::Token(token.clone()),
            (Some(true), None) => return Err(protocol("a listing ends before it is complete")),
            _ => Next::End,
        };
        Ok((newest(&page)?, next))
    }

    async fn versions(&self) -> Result<(VecDeque<Listed>, Next), Failure> {
        let (key, version) = match &self.next {
            Next::Markers(key, version) => (Some(key.clone()), version.clone()),
            _ => (None, None),
        };
        let reach = self.reach;
        let page = reach
            .again(|| {
                let list = reach.client.list_object_versions().bucket(&reach.bucket).prefix(&self.prefix);
                list.encoding_type(EncodingType::Url)
                    .set_key_marker(key.clone())
                    .set_version_id_marker(version.clone())
                    .send()
            })
            .await?;
        let next = match (page.is_truncated, &page.next_key_marker) {
            (Some(true), Some(key)) => {
                Next::Markers(decoded(key, page.encoding_type())?, page.next_version_id_marker.clone())
            }
            (Some(true), None) => return Err(protocol("a listing ends before it is complete")),
            _ => Next::End,
        };
        Ok((merged(&page)?, next))
    }
}

fn newest(page: &ListObjectsV2Output) -> Result<VecDeque<Listed>, Failure> {
    let listed = page.contents().iter().map(|object| {
        Ok(Listed {
            key: key(object.key(), page.encoding_type())?,
            version: None,
            modified: timestamp(object.last_modified())?,
            what: content(object.size(), object.e_tag(), object.storage_class().map(|class| class.as_str()))?,
        })
    });
    listed.collect()
}

/// Versions and deletions, which a page tells apart, in one row: by key, the current one first, then newest first.
fn merged(page: &ListObjectVersionsOutput) -> Result<VecDeque<Listed>, Failure> {
    let mut all = Vec::new();
    for it in page.versions() {
        let listed = Listed {
            key: key(it.key(), page.encoding_type())?,
            version: Some(id(it.version_id())),
            modified: timestamp(it.last_modified())?,
            what: content(it.size(), it.e_tag(), it.storage_class().map(|class| class.as_str()))?,
        };
        all.push((it.is_latest().unwrap_or(false), listed));
    }
    for it in page.delete_markers() {
        let listed = Listed {
            key: key(it.key(), page.encoding_type())?,
            version: Some(id(it.version_id())),
            modified: timestamp(it.last_modified())?,
            what: What::Marker,
        };
        all.push((it.is_latest().unwrap_or(false), listed));
    }
    // Stable: versions written within one tick of the server's clock stay in the server's own order.
    all.sort_by(|(latest, one), (other_latest, other)| {
        one.key
            .cmp(&other.key)
            .then(other_latest.cmp(latest))
            .then(Reverse(one.modified).cmp(&Reverse(other.modified)))
    });
    Ok(all.into_iter().map(|(_, listed)| listed).collect())
}

fn id(version: Option<&str>) -> String {
    version.filter(|id| !id.is_empty()).unwrap_or("null").to_owned()
}

fn content(size: Option<i64>, etag: Option<&str>, class: Option<&str>) -> Result<What, Failure> {
    let access = match class {
        Some("GLACIER" | "DEEP_ARCHIVE") => Access::Archived,
        _ => Access::AtOnce,
    };
    Ok(What::Object { size: size_of(size)?, etag: etag.unwrap_or_default().to_owned(), access })
}

fn key(told: Option<&str>, encoding: Option<&EncodingType>) -> Result<String, Failure> {
    decoded(told.ok_or_else(|| protocol("a listing has an object without a key"))?, encoding)
}

/// A key as a listing writes it: XML has no room for every character.
fn decoded(told: &str, encoding: Option<&EncodingType>) -> Result<String, Failure> {
    if encoding != Some(&EncodingType::Url) {
        return Ok(told.to_owned());
    }
    let spaced = told.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(|key| key.into_owned()).map_err(|_| protocol("a key is not UTF-8"))
}

fn protocol(why: &str) -> Failure {
    Failure::S3(Fault::Protocol(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::{
        primitives::DateTime,
        types::{DeleteMarkerEntry, ObjectVersion},
    };

    use super::*;

    #[test]
    fn versions_and_deletions_stand_in_one_row_the_current_one_first() {
        let version = |key: &str, id: &str, second, latest| {
            ObjectVersion::builder()
                .key(key)
                .version_id(id)
                .size(1)
                .e_tag("x")
                .last_modified(DateTime::from_secs(second))
                .is_latest(latest)
                .build()
        };
        let marker = |key: &str, id: &str, second, latest| {
            let marker = DeleteMarkerEntry::builder().key(key).version_id(id).is_latest(latest);
            marker.last_modified(DateTime::from_secs(second)).build()
        };
        let page = ListObjectVersionsOutput::builder()
            .versions(version("a", "a3", 30, false))
            .versions(version("a", "a1", 10, false))
            .versions(version("b%20c", "b1", 5, true))
            .delete_markers(marker("a", "a4", 30, true))
            .delete_markers(marker("a", "a2", 20, false))
            .encoding_type(EncodingType::Url)
            .build();
        let row: Vec<_> =
            merged(&page).unwrap().into_iter().map(|it| (it.key, it.version.unwrap())).collect();
        let expected = [("a", "a4"), ("a", "a3"), ("a", "a2"), ("a", "a1"), ("b c", "b1")];
        assert_eq!(row, expected.map(|(key, id)| (key.to_owned(), id.to_owned())));
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let url = Some(&EncodingType::Url);
        assert_eq!(decoded("a%2Fb+c%2B%00%C3%A4", url).unwrap(), "a/b c+\0ä");
        assert_eq!(decoded("a%2Fb+c", None).unwrap(), "a%2Fb+c");
        assert!(decoded("%ff", url).is_err());
    }
}
