//! The capture: the list of buckets, and then the archives of their shards, one after the other, whose members go into the
//! stream as they come.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek},
    path::PathBuf,
    time::Duration,
};

use bytes::BytesMut;
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use reqwest::{Response, header::DATE};
use tar::EntryType;
use tokio::runtime::Handle;

use super::{
    Failure, Influxdb2Source,
    api::Api,
    body::Body,
    buckets::Bucket,
    layout::{self, CHUNK, FileName, Member, Record},
    metadata::{self, Metadata, Own, Wanted},
    names::{BucketName, is_own},
};
use crate::{
    artifact::manifest::{Counts, Details, Moment},
    sources::{
        CaptureRequest, Captured, Run, Sink,
        blocking::{Feed, Interrupted, produce},
        pax::{Described, Reader, TRAILER, padding},
    },
};

/// A file that is younger than this may change without a change of its time, which archives give in whole seconds.
const YOUNG: Duration = Duration::from_secs(3);

/// Captures all that is declared.
pub(super) async fn capture(
    source: &Influxdb2Source,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let version = source.api.version().await?;
    let organization = source.api.organization().await?;
    // What was written before is in it, and of what was written since some may not be.
    let began = request.now();
    let work = Work {
        api: source.api.clone(),
        runtime: Handle::current(),
        stall: request.stall,
        second: began.as_second(),
        scratch: source.scratch.clone(),
    };
    let declared = source.buckets.clone();
    let server = version.clone();
    let sent = produce(sink, request.stall, move |feed| {
        let wanted = if declared.is_empty() { Wanted::All(&work.scratch) } else { Wanted::Buckets };
        let Metadata { buckets, own } = work.metadata(wanted)?;
        let buckets = chosen(buckets, &organization, &declared)?;
        work.send(&Record::new(server, work.api.organization_name().to_owned(), buckets), own, feed)
    });
    let mut omitted = match sent.await {
        Ok(sent) => sent?,
        Err(Interrupted::SinkClosed) => return Err(Failure::SinkClosed),
        Err(Interrupted::Stalled(silence)) => {
            let silence = humantime::format_duration(silence);
            return Err(Failure::Unreached(format!("the server was silent for {silence}")));
        }
        Err(Interrupted::Died(error)) => return Err(Failure::Answer(error.to_string())),
    };
    if !source.buckets.is_empty() {
        let why = "only captures of all buckets hold the server's own databases";
        omitted.push(format!("users, tokens, dashboards, tasks and all else that is no bucket: {why}"));
    }
    Ok(described(version, omitted, began))
}

/// The points of a shard that are in memory only are written out before the shard is read; the server leaves them out where it
/// is writing them out already.
fn described(version: String, mut omitted: Vec<String>, began: Timestamp) -> Captured {
    omitted.push(
        "points of a shard that was so busy that the server left out what it had in memory only".to_owned(),
    );
    let why = "shards are read one after another while points may come in: there is no one view to count in";
    Captured {
        moment: Moment::At { time: began, position: None },
        details: Details {
            versions: BTreeMap::from([("server".to_owned(), version)]),
            counts: Counts::NotCaptured(why.to_owned()),
            omitted,
            ..Details::default()
        },
    }
}

/// The buckets that are captured. What is declared must be there.
fn chosen(all: Vec<Bucket>, organization: &str, declared: &[BucketName]) -> Result<Vec<Bucket>, Failure> {
    let is_declared =
        |bucket: &Bucket| declared.is_empty() || declared.iter().any(|name| name.as_str() == bucket.name());
    let ours = all.into_iter().filter(|it| it.organization() == organization && !is_own(it.name()));
    let mut chosen: Vec<Bucket> = ours.filter(is_declared).collect();
    chosen.sort_by(|one, other| one.name().cmp(other.name()));
    if let Some(absent) =
        declared.iter().find(|name| !chosen.iter().any(|bucket| bucket.name() == name.as_str()))
    {
        return Err(Failure::absent_bucket(absent));
    }
    match chosen.is_empty() {
        true => Err(Failure::Absent("the organization has no bucket".to_owned())),
        false => Ok(chosen),
    }
}

/// What the thread that reads from the server needs.
struct Work {
    api: Api,
    runtime: Handle,
    stall: Duration,
    /// Of the capture, since the Unix epoch.
    second: i64,
    /// Where the server's own databases are kept until their size is known.
    scratch: PathBuf,
}

impl Work {
    fn metadata(&self, wanted: Wanted<'_>) -> Result<Metadata, Failure> {
        let answer = self.runtime.block_on(self.api.metadata())?;
        let content_type = answer.headers().get("content-type").and_then(|it| it.to_str().ok());
        let boundary = content_type.and_then(metadata::boundary);
        let none =
            || Failure::Answer("the server's metadata do not come in parts: it is older than 2.1".to_owned());
        metadata::read(self.body(answer), &boundary.ok_or_else(none)?, wanted)
    }

    /// Sends all that the record tells of; returns what is left out.
    fn send(&self, record: &Record, own: Vec<(Own, File)>, feed: &Feed) -> Result<Vec<String>, Failure> {
        feed.run(None)?;
        feed.write(record.member(self.second)?.into())?;
        for (own, file) in own {
            self.own(own, file, feed)?;
        }
        let mut omitted = Vec::new();
        for bucket in &record.buckets {
            let mut undeleted = 0;
            for shard in bucket.shards() {
                match self.runtime.block_on(self.api.shard(shard, self.stall))? {
                    Some(answer) => {
                        let deletions = self.shard(bucket, shard, answer, feed)?;
                        undeleted += usize::from(deletions == Deletions::Noted);
                    }
                    None => self.removed(bucket, shard)?,
                }
            }
            if undeleted > 0 {
                omitted.push(format!(
                    "deletions in {undeleted} shards of bucket {} that the server has not worked into its files yet: a restore \
                     by the server brings back what they deleted",
                    bucket.name()
                ));
            }
        }
        feed.run(None)?;
        feed.write(TRAILER.to_vec().into())?;
        Ok(omitted)
    }

    /// Sends one of the server's own databases.
    fn own(&self, own: Own, mut file: File, feed: &Feed) -> Result<(), Failure> {
        let size = file.stream_position().map_err(Failure::Folder)?;
        file.rewind().map_err(Failure::Folder)?;
        feed.write(Member::Own { own, size }.head(self.second).into())?;
        content(&mut file, size, Run::Wanted, feed).map_err(|broken| match broken {
            Broken::Archive(error) => Failure::Folder(error),
            Broken::Unwanted => Failure::SinkClosed,
        })
    }

    /// Whether a shard that the server no longer has went with its retention period or its bucket, as it may.
    fn removed(&self, bucket: &Bucket, shard: u64) -> Result<(), Failure> {
        let now = self.metadata(Wanted::Buckets)?.buckets;
        let mut shards = now.iter().filter(|it| it.id() == bucket.id()).flat_map(Bucket::shards);
        match (now.iter().any(|it| it.id() == bucket.id()), shards.any(|it| it == shard)) {
            (true, false) => Ok(()),
            (true, true) => {
                let why = format!(
                    "the server lists shard {shard} of bucket {}, and does not have it",
                    bucket.name()
                );
                Err(Failure::Incomplete(why))
            }
            (false, _) => Err(Failure::Incomplete(format!("bucket {} was removed meanwhile", bucket.name()))),
        }
    }

    /// Sends one shard. Its archive counts when it was read to its closing blocks, and nothing stands behind them.
    fn shard(
        &self,
        bucket: &Bucket,
        shard: u64,
        answer: Response,
        feed: &Feed,
    ) -> Result<Deletions, Failure> {
        let failed = |error: std::io::Error| Failure::Unreached(format!("shard {shard}: {error}"));
        let settled = settled_before(&answer);
        let mut body = self.body(answer);
        feed.run(None)?;
        feed.write(Member::Shard(shard).head(self.second).into())?;
        let mut archive = Reader::new(&mut body);
        let mut deletions = Deletions::None;
        while let Some(member) = archive.next().map_err(failed)? {
            if member.kind.is_dir() {
                continue;
            }
            let file = file_of(shard, &member)?;
            let Member::File { name, size, modified, .. } = &file else { continue };
            if name.is_deletions() {
                deletions = Deletions::Noted;
            }
            let head = file.head(self.second);
            let is_settled = name.is_data() && settled.is_some_and(|before| *modified < before);
            let key = is_settled.then(|| layout::key(bucket, &head));
            let run = feed.run(key)?;
            if run == Run::Wanted {
                feed.write(head.into())?;
            }
            content(&mut archive, *size, run, feed).map_err(|failure| match failure {
                Broken::Archive(error) => failed(error),
                Broken::Unwanted => Failure::SinkClosed,
            })?;
        }
        match body.closing_zeros() < TRAILER.len() as u64 {
            true => Err(Failure::Incomplete(format!(
                "the server gave up in the middle of shard {shard}; its log tells why"
            ))),
            false => Ok(deletions),
        }
    }

    fn body(&self, answer: Response) -> Body {
        Body::new(answer, self.runtime.clone(), self.stall)
    }
}

/// Whether a shard notes deletions beside its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deletions {
    Noted,
    None,
}

/// The second, since the Unix epoch and by the server's clock, before which a file must have changed last to be as its time
/// tells; `None` when the server does not tell its time.
fn settled_before(answer: &Response) -> Option<i64> {
    let date = answer.headers().get(DATE)?.to_str().ok()?;
    let date: Timestamp = DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(date.checked_sub(YOUNG).ok()?.as_second())
}

/// A member of a shard's archive, which the server calls by the bucket, the retention policy, the shard and the file.
fn file_of(shard: u64, member: &Described) -> Result<Member, Failure> {
    let name = std::str::from_utf8(&member.name).ok().and_then(|path| path.rsplit('/').next());
    match (member.kind, name.and_then(FileName::parse)) {
        (EntryType::Regular, Some(name)) => {
            Ok(Member::File { shard, name, size: member.size, modified: member.meta.modified.0 })
        }
        _ => {
            let shown: String = String::from_utf8_lossy(&member.name).escape_debug().take(200).collect();
            Err(Failure::Incomplete(format!("shard {shard} holds `{shown}`, which can't be captured")))
        }
    }
}

/// Why a file was not sent.
enum Broken {
    Archive(std::io::Error),
    Unwanted,
}

/// Sends a file's content and what fills its last block, or passes over it.
fn content(archive: &mut impl Read, size: u64, run: Run, feed: &Feed) -> Result<(), Broken> {
    let mut left = size;
    while left > 0 {
        let mut piece = BytesMut::zeroed(left.min(CHUNK as u64) as usize);
        archive.read_exact(&mut piece).map_err(Broken::Archive)?;
        left -= piece.len() as u64;
        let handed = match run {
            Run::Wanted => feed.write(piece.freeze()),
            Run::Reused => feed.alive(),
        };
        handed.map_err(|_| Broken::Unwanted)?;
    }
    match run {
        Run::Wanted => feed.write(vec![0; padding(size)].into()).map_err(|_| Broken::Unwanted),
        Run::Reused => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(organization: &str, name: &str) -> Bucket {
        let text = serde_json::json!({
            "organizationID": organization, "bucketID": name, "bucketName": name, "retentionPolicies": [],
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn what_is_declared_must_be_there_and_the_rest_of_the_server_is_left_out() {
        let all = || vec![bucket("1", "tele"), bucket("1", "_tasks"), bucket("2", "tele"), bucket("1", "a")];
        let names = |declared: &[&str]| -> Result<Vec<String>, Failure> {
            let declared: Vec<_> = declared.iter().map(|name| BucketName::parse(name).unwrap()).collect();
            Ok(chosen(all(), "1", &declared)?.iter().map(|bucket| bucket.name().to_owned()).collect())
        };
        assert_eq!(names(&[]).unwrap(), ["a", "tele"]);
        assert_eq!(names(&["tele"]).unwrap(), ["tele"]);
        assert!(matches!(names(&["tele", "b"]), Err(Failure::Absent(why)) if why.contains("no bucket b")));
        assert!(matches!(chosen(all(), "3", &[]), Err(Failure::Absent(_))));
    }

    #[test]
    fn files_are_called_by_their_last_name_alone() {
        let meta = crate::sources::pax::Meta { mode: 0, owner: (0, 0), modified: (7, 0) };
        let described = |kind, name: &str| Described {
            kind,
            name: name.as_bytes().to_vec(),
            link: None,
            size: 3,
            meta,
            records: Vec::new(),
        };
        let file =
            file_of(4, &described(EntryType::Regular, "0a/autogen/1/000000001-000000001.tsm")).unwrap();
        assert!(
            matches!(file, Member::File { shard: 4, name, .. } if name.as_str() == "000000001-000000001.tsm")
        );
        for (kind, name) in
            [(EntryType::Symlink, "a/b.tsm"), (EntryType::Regular, "a/.."), (EntryType::Regular, "a/")]
        {
            file_of(4, &described(kind, name)).expect_err(name);
        }
    }
}
