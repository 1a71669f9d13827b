//! One version of an object, read whole: what a server gives in one answer is one version. A connection that breaks is
//! taken up where it broke, as long as the very version is there.

use aws_sdk_s3::{operation::get_object::GetObjectOutput, primitives::ByteStream, types::ChecksumMode};
use bytes::Bytes;

use super::{Failure, about::About, checks::Check, listing::Listed, reach::Reach, tags::tags};
use crate::aws::{Fault, size_of};

/// How often in a row a connection may break without a byte more than before.
const BREAKS: u32 = 4;

/// What became of the wish to read an object.
pub(super) enum Opened {
    /// It is being read.
    Object(Box<Object>),
    /// It is no longer there.
    Gone,
    /// It is in an archive, from where only its owner can bring it back.
    Archived,
}

/// An object that is being read.
pub(super) struct Object {
    pub about: About,
    /// Bytes.
    pub size: u64,
    pub content: Content,
}

/// Begins to read `listed`. In a bucket without versions what is given may be newer than what was listed.
pub(super) async fn open(reach: &Reach, listed: &Listed) -> Result<Opened, Failure> {
    let answer = match get(reach, listed).await {
        // Replaced at this very moment, perhaps: it is looked for once more.
        Err(Failure::S3(fault)) if is_gone(&fault) => get(reach, listed).await,
        answer => answer,
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(Failure::S3(fault)) if is_gone(&fault) => return Ok(Opened::Gone),
        Err(Failure::S3(Fault::Service { code, .. })) if code == "InvalidObjectState" => {
            return Ok(Opened::Archived);
        }
        Err(failure) => return Err(failure.about(&listed.key)),
    };
    let opened = opened(reach, listed, answer).await;
    opened.map(|object| Opened::Object(Box::new(object))).map_err(|failure| failure.about(&listed.key))
}

fn is_gone(fault: &Fault) -> bool {
    matches!(fault, Fault::NoObject)
        || matches!(fault, Fault::Service { status: 404, code, .. } if code == "NoSuchVersion")
}

async fn get(reach: &Reach, listed: &Listed) -> Result<GetObjectOutput, Failure> {
    let request = || {
        let get = reach.client.get_object().bucket(&reach.bucket).key(&listed.key);
        get.set_version_id(listed.version.clone()).checksum_mode(ChecksumMode::Enabled).send()
    };
    reach.again(request).await
}

async fn opened(reach: &Reach, listed: &Listed, answer: GetObjectOutput) -> Result<Object, Failure> {
    let size = size_of(answer.content_length())?;
    let mut about = About::read(listed, &answer)?;
    if answer.tag_count().is_some_and(|count| count > 0) {
        about.tags = tags_of(reach, listed).await?;
    }
    let content = Content {
        reach: reach.clone(),
        key: listed.key.clone(),
        version: listed.version.clone(),
        etag: answer.e_tag().map(str::to_owned),
        check: Some(Check::of(&answer)),
        body: answer.body,
        read: 0,
        size,
        breaks: 0,
    };
    Ok(Object { about, size, content })
}

async fn tags_of(reach: &Reach, listed: &Listed) -> Result<Option<String>, Failure> {
    let request = || {
        let get = reach.client.get_object_tagging().bucket(&reach.bucket).key(&listed.key);
        get.set_version_id(listed.version.clone()).send()
    };
    match reach.again(request).await {
        Ok(answer) => Ok(tags(answer.tag_set())),
        // Deleted since it was opened: what is being read is whole all the same.
        Err(Failure::S3(fault)) if is_gone(&fault) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The content of an object, piece by piece.
pub(super) struct Content {
    reach: Reach,
    key: String,
    version: Option<String>,
    etag: Option<String>,
    /// `None` once it was made.
    check: Option<Check>,
    body: ByteStream,
    read: u64,
    size: u64,
    breaks: u32,
}

impl Content {
    /// The next piece; `None` once all of it was read and is as the server says.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.reach.in_time(self.body.try_next()).await? {
                Ok(Some(piece)) if piece.is_empty() => {}
                Ok(Some(piece)) => return self.take(piece).map(Some),
                Ok(None) if self.read == self.size => return self.finish().map(|()| None),
                Ok(None) => self.resume(Fault::Connection("the answer was cut off".into())).await?,
                Err(error) => self.resume(Fault::broken_body(error)).await?,
            }
        }
    }

    fn take(&mut self, piece: Bytes) -> Result<Bytes, Failure> {
        self.read += piece.len() as u64;
        self.breaks = 0;
        if self.read > self.size {
            return Err(self.wrong("the server gives more than it said"));
        }
        if let Some(check) = &mut self.check {
            check.update(&piece);
        }
        Ok(piece)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        match self.check.take().map_or(Ok(()), Check::finish) {
            Ok(()) => Ok(()),
            Err(why) => Err(self.wrong(&why)),
        }
    }

    /// Goes on where the connection broke, if the server still has the very version.
    async fn resume(&mut self, broken: Fault) -> Result<(), Failure> {
        let Fault::Connection(why) = broken else { return Err(self.wrong(&broken.to_string())) };
        self.breaks += 1;
        let Some(etag) = self.etag.clone().filter(|_| self.breaks <= BREAKS && self.read < self.size) else {
            return Err(self.wrong(&why));
        };
        tracing::debug!(key = self.key, read = self.read, %why, "the rest of an object is asked for");
        let reach = self.reach.clone();
        let range = format!("bytes={}-{}", self.read, self.size - 1);
        let request = || {
            let get = reach.client.get_object().bucket(&reach.bucket).key(&self.key);
            get.set_version_id(self.version.clone()).if_match(&etag).range(&range).send()
        };
        let answer = match reach.again(request).await {
            Err(Failure::S3(fault)) if fault.is_precondition() || fault.is_absent() => {
                return Err(self.wrong("it was replaced while it was read"));
            }
            answer => answer?,
        };
        let expected = format!("bytes {}-{}/{}", self.read, self.size - 1, self.size);
        if answer.content_range() != Some(expected.as_str()) || answer.e_tag() != Some(etag.as_str()) {
            return Err(self.wrong("the server gives another part of it than it was asked for"));
        }
        self.body = answer.body;
        Ok(())
    }

    fn wrong(&self, why: &str) -> Failure {
        Failure::Wrong(format!("{}: {why}", shown(&self.key)))
    }
}

/// A key for people.
pub(super) fn shown(key: &str) -> String {
    key.escape_debug().to_string()
}
