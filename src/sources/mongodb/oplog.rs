//! The oplog: what a member of a replica set tells of everything that is written.
//!
//! ```text
//! entry (what becomes of an entry) · operation (what it does) · read (a stretch of it) · log (the artifact)
//! changes (how documents are changed again) · replay (the way back of a log)
//! ```
//!
//! A stretch is whole when it begins with the very entry at which the last one ended, and ends with the one that was chosen as its
//! end. It ends at an entry that most members have, which no failover takes back. Where transactions are several entries, they
//! stand together in what is captured, and only where they happened.
//!
//! FerretDB's oplog tells of documents only, and of no collection or index that is made, changed or dropped: there, what there is
//! of them is a part of the log's name, so that nothing goes on over such a change.

mod changes;
mod entry;
mod log;
mod operation;
mod read;
mod replay;

use std::time::Duration;

use bson::{Document, RawDocumentBuf, Timestamp, doc};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::{ANSWER, Failure, UNAUTHORIZED, access::Access, answer, catalog};
use crate::artifact::position::OplogPosition;

pub(super) use changes::{Changes, Missing};
pub(super) use log::capture;
pub(super) use operation::{Operation, Replaced, Unknown};
pub(super) use read::{Purpose, Reading};
pub(super) use replay::{must_be_replayable, over_original, to_folder};

/// Where it is.
const DATABASE: &str = "local";
const COLLECTION: &str = "oplog.rs";

/// Why there is no oplog, where the user is to blame.
pub(super) const UNREADABLE: &str = "the user may not read the oplog";
/// Why there is none, where the server is.
pub(super) const NO_MEMBER: &str = "the server is no member of a replica set and has no oplog";

/// How long between two looks at what will be so soon.
const PAUSE: Duration = Duration::from_millis(50);

/// A server's oplog.
pub(super) struct Oplog<'a> {
    access: &'a Access,
    /// Whose it is.
    log: String,
}

/// An oplog, or why there is none to read.
pub(super) enum Found<'a> {
    Oplog(Oplog<'a>),
    Nothing(&'static str),
}

/// An entry that nothing takes back, and behind which nothing comes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub stamp: Timestamp,
    /// Everything that happened before this second is told up to there.
    pub time: jiff::Timestamp,
}

impl<'a> Oplog<'a> {
    /// The server's, if it has one that the user may read.
    pub async fn open(access: &'a Access) -> Result<Found<'a>, Failure> {
        match Self::found(access).await {
            Err(failure) if failure.code() == Some(UNAUTHORIZED) => Ok(Found::Nothing(UNREADABLE)),
            found => found,
        }
    }

    async fn found(access: &'a Access) -> Result<Found<'a>, Failure> {
        let database = access.database(DATABASE);
        let listed = catalog::listed(&database, doc! { "name": COLLECTION }).await?;
        let Some(own) = listed.into_iter().next() else {
            return Ok(Found::Nothing(NO_MEMBER));
        };
        let log = identity(access, own.uuid).await?;
        let oplog = Self { access, log };
        match oplog.newest().await? {
            Some(_) => Ok(Found::Oplog(oplog)),
            None => Ok(Found::Nothing("the oplog is empty")),
        }
    }

    /// Whether it is the same log, with the same collections where it does not tell of them.
    pub fn is(&self, other: &Oplog<'_>) -> bool {
        self.log == other.log
    }

    /// The newest entry that nothing takes back.
    pub async fn settled(&self) -> Result<Settled, Failure> {
        let hello = self.access.hello().await?;
        match last_write(&hello, "majorityOpTime") {
            Some(stamp) => Ok(Settled { stamp, time: second(stamp) }),
            None => {
                let newest = self.newest().await?;
                let stamp = newest.ok_or_else(|| Failure::Answer("the oplog is empty now".to_owned()))?;
                Ok(Settled { stamp, time: quiet_until(&hello).max(second(stamp)) })
            }
        }
    }

    /// The same, once it is not older than anything that was read before.
    pub async fn settled_after_reads(&self, stall: Duration) -> Result<Settled, Failure> {
        let Some(read) = last_write(&self.access.hello().await?, "opTime") else {
            return self.settled().await;
        };
        let deadline = Instant::now() + stall;
        loop {
            let settled = self.settled().await?;
            if settled.stamp >= read {
                return Ok(settled);
            }
            if Instant::now() >= deadline {
                return Err(Failure::Answer(format!(
                    "what was read is not on most members of the replica set after {}",
                    humantime::format_duration(stall)
                )));
            }
            sleep(PAUSE).await;
        }
    }

    /// The first moment of which everything before it is surely at or before `stamp`, once it has come: entries of one second
    /// may be on both sides. It is no whole second, so that nobody asks for it and misses what followed in that second.
    pub async fn moment_after(&self, stamp: Timestamp) -> Result<jiff::Timestamp, Failure> {
        let after = second(stamp) + Duration::from_millis(1001);
        let deadline = Instant::now() + AHEAD;
        while self.access.hello().await.map(|hello| clock(&hello))?.is_some_and(|now| now < after) {
            if Instant::now() >= deadline {
                let why = "the oplog is ahead of the server's clock; set the clocks of the replica set's members right";
                return Err(Failure::Answer(why.to_owned()));
            }
            sleep(PAUSE).await;
        }
        Ok(after)
    }

    /// As manifests bear it.
    pub fn position(&self, stamp: Timestamp) -> String {
        OplogPosition { time: stamp.time, increment: stamp.increment, log: &self.log }.to_string()
    }

    async fn newest(&self) -> Result<Option<Timestamp>, Failure> {
        let entries = self.entries();
        let newest = entries.find_one(doc! {}).sort(doc! { "$natural": -1 });
        answer(ANSWER, newest).await?.map(|entry| entry::stamp(&entry)).transpose()
    }

    fn entries(&self) -> mongodb::Collection<RawDocumentBuf> {
        self.access.database(DATABASE).collection(COLLECTION)
    }
}

/// Names a log: by the replica set, or else by the oplog itself, which is another's on another member.
async fn identity(access: &Access, uuid: Option<String>) -> Result<String, Failure> {
    let unnamed = || Failure::Answer("the server does not tell whose its oplog is".to_owned());
    let log = match replica_set(access).await? {
        Some(replica_set) => replica_set,
        None => uuid.ok_or_else(unnamed)?,
    };
    if access.tells_commands() {
        return Ok(log);
    }
    let mut hash = Sha256::new();
    for collection in catalog::collections(access).await? {
        for text in [collection.name(), collection.metadata()] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    }
    Ok(format!("{log}-{}", hex::encode(&hash.finalize()[..8])))
}

async fn replica_set(access: &Access) -> Result<Option<String>, Failure> {
    let configuration = access.database(DATABASE).collection::<Document>("system.replset");
    match answer(ANSWER, configuration.find_one(doc! {})).await {
        Ok(configuration) => {
            let settings = configuration.as_ref().and_then(|it| it.get_document("settings").ok());
            let id = settings.and_then(|settings| settings.get_object_id("replicaSetId").ok());
            Ok(id.map(|id| id.to_hex()))
        }
        Err(failure) if failure.code() == Some(UNAUTHORIZED) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn last_write(hello: &Document, which: &str) -> Option<Timestamp> {
    let place = hello.get_document("lastWrite").ok()?.get_document(which).ok()?;
    place.get_timestamp("ts").ok()
}

fn clock(hello: &Document) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(hello.get_datetime("localTime").ok()?.timestamp_millis()).ok()
}

/// What a server that writes nothing while nothing happens can tell: an entry is there soon after it happened.
fn quiet_until(hello: &Document) -> jiff::Timestamp {
    let now = clock(hello).map_or(jiff::Timestamp::UNIX_EPOCH.as_second(), jiff::Timestamp::as_second);
    jiff::Timestamp::from_second(now.saturating_sub(SOON)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// How soon, seconds.
const SOON: i64 = 2;

/// How far the oplog may be ahead of the server's clock for that to be waited for.
const AHEAD: Duration = Duration::from_secs(60);

fn second(stamp: Timestamp) -> jiff::Timestamp {
    // A number of seconds in 32 bits is in the range.
    jiff::Timestamp::from_second(stamp.time.into()).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use bson::DateTime;

    use super::*;

    #[test]
    fn a_log_reaches_up_to_what_most_members_have_or_what_a_quiet_server_tells() {
        let stamp = |time| Timestamp { time, increment: 3 };
        let place = |time| doc! { "ts": stamp(time), "t": 1_i64 };
        let hello = doc! { "lastWrite": { "opTime": place(9), "majorityOpTime": place(8) } };
        assert_eq!(last_write(&hello, "majorityOpTime"), Some(stamp(8)));
        assert_eq!(last_write(&hello, "opTime"), Some(stamp(9)));
        assert_eq!(last_write(&doc! {}, "opTime"), None);
        let hello = doc! { "localTime": DateTime::from_millis(12_900) };
        assert_eq!(quiet_until(&hello), "1970-01-01T00:00:10Z".parse().unwrap());
        assert_eq!(second(stamp(u32::MAX)).as_second(), i64::from(u32::MAX));
    }
}
