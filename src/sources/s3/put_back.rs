//! The way back into a bucket: current objects with what was said of them. What is there and is not in the archive is left
//! alone, and so is what differs, unless it is the original that is restored.

use std::io::Read;

use aws_sdk_s3::{
    operation::head_object::HeadObjectOutput,
    primitives::{ByteStream, DateTime, DateTimeFormat},
    types::{ChecksumMode, CompletedPart},
};
use bytes::Bytes;
use tokio::{runtime::Handle, task::JoinSet};

use super::{
    Failure,
    about::{About, Headers},
    beside::Beside,
    chosen::Chosen,
    digests::{Digests, Sums},
    fetch::shown,
    listing::{Depth, Listing},
    reach::Reach,
    tags,
};
use crate::{
    aws::{Fault, Upload, UploadRequest, confirmed, digest},
    sources::pax::Reader,
};

/// Bytes of a part. A larger object is sent in parts; one larger than [`MOST_PARTS`] of these in larger parts.
const PART: u64 = 8 << 20;

/// The most parts that S3 makes an object of.
const MOST_PARTS: u64 = 10_000;

/// Parts under way at once, as long as they have their usual size.
const AT_ONCE: usize = 4;

/// What may be done to an object that is there and differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    Keep,
    Replace,
}

/// Where objects are put.
pub(super) struct Target {
    pub reach: Reach,
    /// In front of each key: empty, or a folder with its slash.
    pub prepend: String,
    /// What the source declares: empty, or a folder with its slash.
    pub prefix: String,
    pub existing: Existing,
}

/// What was done, in objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub put: u64,
    pub there_already: u64,
    /// There with other tags, and given those of the archive.
    pub tagged: u64,
    /// There, and not in the archive.
    pub others: u64,
    differ: u64,
    first_that_differs: Option<String>,
}

/// Puts the chosen objects of `archive` into `target`. Runs on a thread that may block.
pub(super) fn put_back(
    archive: impl Read,
    mut chosen: Chosen,
    target: &Target,
    runtime: &Handle,
) -> Result<Done, Failure> {
    let below = format!("{}{}", target.prepend, target.prefix);
    let beside = Beside::new(Listing::new(&target.reach, below.clone(), Depth::Newest));
    let mut putting =
        Putting { target, runtime, below, beside, done: Done::default(), conditions: Conditions::Known };
    let mut reader = Reader::new(archive);
    while let Some(member) = reader.next().map_err(Failure::Stream)? {
        let about = About::of(&member)?;
        if chosen.takes(&about)? {
            putting.object(&about, member.size, &mut reader).map_err(|failure| failure.about(&about.key))?;
        }
    }
    putting.finish(&chosen)
}

/// Whether the server knows conditions of puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conditions {
    Known,
    Unknown,
}

struct Putting<'a> {
    target: &'a Target,
    runtime: &'a Handle,
    /// What `beside` lists.
    below: String,
    beside: Beside<'a>,
    done: Done,
    conditions: Conditions,
}

/// What became of a put.
enum Put {
    Created,
    /// Something was there.
    Existed(Sums),
}

impl Putting<'_> {
    fn object(&mut self, about: &About, size: u64, content: &mut impl Read) -> Result<(), Failure> {
        let Target { prepend, prefix, existing, .. } = self.target;
        if *existing == Existing::Replace && !about.key.starts_with(prefix.as_str()) {
            return Err(Failure::Refused("it is not below the declared prefix".to_owned()));
        }
        let key = format!("{prepend}{}", about.key);
        match (self.look(&key)?, existing) {
            (Some(there), Existing::Keep) => {
                let sums = summed(content, size)?;
                self.compare(&key, about, size, &there, &sums)
            }
            (Some(there), Existing::Replace) if has_etag(about, &there) && is_alike(about, size, &there) => {
                self.tag(&key, about)
            }
            (_, _) => self.put(&key, about, size, content),
        }
    }

    fn put(&mut self, key: &str, about: &About, size: u64, content: &mut impl Read) -> Result<(), Failure> {
        let put = match size <= PART {
            true => self.put_whole(key, about, read_part(content, size)?)?,
            false => self.put_in_parts(key, about, size, content)?,
        };
        match put {
            Put::Created => self.done.put += 1,
            Put::Existed(sums) => match self.head(key)? {
                // It came while it was put, or the answer to an earlier attempt was lost.
                Some(there) => self.compare(key, about, size, &there, &sums)?,
                None => {
                    return Err(Failure::S3(Fault::Connection("others put and delete it meanwhile".into())));
                }
            },
        }
        Ok(())
    }

    fn compare(
        &mut self,
        key: &str,
        about: &About,
        size: u64,
        there: &HeadObjectOutput,
        sums: &Sums,
    ) -> Result<(), Failure> {
        let same_content = sums.are_of(there) || has_etag(about, there);
        if same_content && is_alike(about, size, there) && self.tags_there(key)? == about.tags {
            self.done.there_already += 1;
        } else {
            self.done.differ += 1;
            self.done.first_that_differs.get_or_insert_with(|| shown(key));
        }
        Ok(())
    }

    /// Gives an object whose content is there already the tags that it had, if they differ.
    fn tag(&mut self, key: &str, about: &About) -> Result<(), Failure> {
        if self.tags_there(key)? == about.tags {
            self.done.there_already += 1;
            return Ok(());
        }
        self.runtime.block_on(tags::put(&self.target.reach, key, about.tags.as_deref()))?;
        self.done.tagged += 1;
        Ok(())
    }

    fn tags_there(&self, key: &str) -> Result<Option<String>, Failure> {
        self.runtime.block_on(tags::there(&self.target.reach, key))
    }

    /// What is there under `key`.
    fn look(&mut self, key: &str) -> Result<Option<HeadObjectOutput>, Failure> {
        if key.starts_with(&self.below) && !self.runtime.block_on(self.beside.holds(key))? {
            return Ok(None);
        }
        self.head(key)
    }

    fn head(&self, key: &str) -> Result<Option<HeadObjectOutput>, Failure> {
        let reach = &self.target.reach;
        let request = || {
            let head = reach.client.head_object().bucket(&reach.bucket).key(key);
            head.checksum_mode(ChecksumMode::Enabled).send()
        };
        match self.runtime.block_on(reach.again(request)) {
            Ok(there) => Ok(Some(there)),
            Err(Failure::S3(fault)) if fault.is_absent() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn condition(&self) -> Option<String> {
        let guarded = self.target.existing == Existing::Keep && self.conditions == Conditions::Known;
        guarded.then(|| "*".to_owned())
    }

    fn put_whole(&mut self, key: &str, about: &About, content: Bytes) -> Result<Put, Failure> {
        let reach = &self.target.reach;
        let digest = digest(&content);
        let request = |condition: Option<String>| {
            let put = reach.client.put_object().bucket(&reach.bucket).key(key);
            let put = described(put, about).set_if_none_match(condition).checksum_sha256(&digest);
            put.body(ByteStream::from(content.clone())).send()
        };
        let condition = self.condition();
        let put = self.runtime.block_on(reach.again(|| request(condition.clone())));
        let put = match put {
            Err(Failure::S3(Fault::Service { status: 501, .. })) if condition.is_some() => {
                self.conditions = Conditions::Unknown;
                self.runtime.block_on(reach.again(|| request(None)))
            }
            put => put,
        };
        match put {
            Ok(answer) => {
                confirmed(answer.checksum_sha256(), &digest)?;
                Ok(Put::Created)
            }
            Err(Failure::S3(fault)) if fault.is_precondition() => {
                let mut digests = Digests::new();
                digests.part(&content);
                Ok(Put::Existed(digests.sums()))
            }
            Err(failure) => Err(failure),
        }
    }

    fn put_in_parts(
        &mut self,
        key: &str,
        about: &About,
        size: u64,
        content: &mut impl Read,
    ) -> Result<Put, Failure> {
        let reach = &self.target.reach;
        let start = || Upload::start(&reach.client, (&reach.bucket, key), |create| described(create, about));
        let upload = self.runtime.block_on(reach.again(start))?;
        let (parts, sums) = match self.send_parts(upload.request(), size, content) {
            Ok(sent) => sent,
            Err(failure) => {
                self.runtime.block_on(upload.abort());
                return Err(failure);
            }
        };
        match self.runtime.block_on(upload.complete(parts, self.condition())) {
            Ok(()) => Ok(Put::Created),
            Err(fault) if fault.is_precondition() || fault.is_conflict() => Ok(Put::Existed(sums)),
            Err(fault) => Err(fault.into()),
        }
    }

    fn send_parts(
        &self,
        request: &UploadRequest,
        size: u64,
        content: &mut impl Read,
    ) -> Result<(Vec<CompletedPart>, Sums), Failure> {
        let part = part_size(size);
        let at_once = if part == PART { AT_ONCE } else { 1 };
        let (mut under_way, mut sent, mut digests) = (JoinSet::new(), Vec::new(), Digests::new());
        let (mut left, mut number) = (size, 0);
        while left > 0 {
            let bytes = read_part(content, left.min(part))?;
            digests.part(&bytes);
            (left, number) = (left - bytes.len() as u64, number + 1);
            let (reach, request) = (self.target.reach.clone(), request.clone());
            let send = async move { reach.again(|| request.send_part(number, bytes.clone())).await };
            under_way.spawn_on(send, self.runtime);
            if under_way.len() >= at_once {
                sent.extend(self.runtime.block_on(under_way.join_next()).map(joined).transpose()?);
            }
        }
        while let Some(done) = self.runtime.block_on(under_way.join_next()) {
            sent.push(joined(done)?);
        }
        sent.sort_by_key(CompletedPart::part_number);
        Ok((sent, digests.sums()))
    }

    fn finish(mut self, chosen: &Chosen) -> Result<Done, Failure> {
        // Beside a part of the archive, nobody knows what the archive does not hold.
        if !chosen.is_part() {
            self.done.others = self.runtime.block_on(self.beside.rest())?;
        }
        if let Some(missing) = chosen.missing() {
            return Err(Failure::Missing(missing));
        }
        match &self.done.first_that_differs {
            None => Ok(self.done),
            Some(first) => Err(Failure::Differ { count: self.done.differ, first: first.clone() }),
        }
    }
}

fn joined(
    part: Result<Result<CompletedPart, Failure>, tokio::task::JoinError>,
) -> Result<CompletedPart, Failure> {
    part.unwrap_or_else(|died| Err(Failure::Stream(std::io::Error::other(died))))
}

/// A request that says of an object what was said of it. Both kinds of puts take it, and share no trait.
trait Described {
    fn described(self, about: &About) -> Self;
}

macro_rules! described {
    ($request:ty) => {
        impl Described for $request {
            fn described(self, about: &About) -> Self {
                let it = about.headers.clone();
                let expires = it.expires.as_deref();
                let expires = expires.and_then(|at| DateTime::from_str(at, DateTimeFormat::HttpDate).ok());
                self.set_content_type(it.content_type)
                    .set_content_encoding(it.content_encoding)
                    .set_content_disposition(it.content_disposition)
                    .set_content_language(it.content_language)
                    .set_cache_control(it.cache_control)
                    .set_expires(expires)
                    .set_website_redirect_location(it.website_redirect)
                    .set_metadata(Some(it.metadata.into_iter().collect()))
                    .set_tagging(about.tags.clone())
            }
        }
    };
}

described!(aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder);
described!(aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder);

fn described<R: Described>(request: R, about: &About) -> R {
    request.described(about)
}

/// Bytes of a part of an object of `size` bytes.
fn part_size(size: u64) -> u64 {
    size.div_ceil(MOST_PARTS).max(PART)
}

fn read_part(content: &mut impl Read, length: u64) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    content.take(length).read_to_end(&mut bytes).map_err(Failure::Stream)?;
    if bytes.len() as u64 == length {
        Ok(bytes.into())
    } else {
        Err(Failure::Stream(std::io::ErrorKind::UnexpectedEof.into()))
    }
}

/// What content sums up to that is not put, since something is there.
fn summed(content: &mut impl Read, size: u64) -> Result<Sums, Failure> {
    let (part, mut left, mut digests) = (part_size(size), size, Digests::new());
    while left > 0 {
        let bytes = read_part(content, left.min(part))?;
        left -= bytes.len() as u64;
        digests.part(&bytes);
    }
    Ok(digests.sums())
}

/// Whether what is there has the size and the headers of what was captured.
fn is_alike(about: &About, size: u64, there: &HeadObjectOutput) -> bool {
    let length = there.content_length().and_then(|length| u64::try_from(length).ok());
    length == Some(size) && Headers::looked_at(there) == about.headers
}

/// Whether what is there tells the tag of what was captured: then it is that very content.
fn has_etag(about: &About, there: &HeadObjectOutput) -> bool {
    about.etag.is_some() && there.e_tag() == about.etag.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_needs_more_parts_than_s3_makes_one_of() {
        for size in [PART + 1, 80 << 30, 5 << 40, MOST_PARTS * PART + 1] {
            assert!(size.div_ceil(part_size(size)) <= MOST_PARTS && part_size(size) >= PART, "{size}");
        }
        assert_eq!(part_size(1 << 30), PART);
    }
}
