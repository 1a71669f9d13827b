//! Stores: places that hold artifacts. One trait, one conformance suite, decorators around it.

pub mod extent;
pub mod faulty;
pub mod limit;
pub mod local;
pub mod memory;
pub mod probe;
pub mod retry;
pub mod s3;
pub mod sftp;
pub mod whole;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::{artifact::layout::ObjectName, inventory::StoreRules};

/// A place that holds objects: bytes under a name, written once and never changed.
///
/// What drivers must meet, and the conformance suite proves:
/// - A name holds nothing or one whole content. A reader never sees a part of a put, whenever it was cut off.
/// - When [`Store::put_if_absent`] returns `Created`, the object survives the loss of power of the store.
/// - A put never changes an object that exists; of concurrent puts of one name at most one is `Created` where the
///   store has conditional puts (see [`Store::capabilities`]); Backstay's own names are unique all the same.
/// - [`Store::list`] is complete or fails: an outage, a missing permission or a half-read page is an error, never an
///   empty answer. A store's root that does not exist is an error, too ([`ErrorKind::Unavailable`]).
/// - [`Store::delete`] of what is not there succeeds.
/// - No call waits for ever: drivers impose timeouts on the silence of the other side.
#[async_trait]
pub trait Store: Send + Sync {
    /// Creates `name` with `content` unless it exists, and makes it durable.
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError>;

    /// Reads an object, or the bytes `range` of it; [`ErrorKind::NotFound`] when there is none. A range beyond the
    /// object's end is an error. More than `limit` bytes are refused before they are read.
    async fn get(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StoreError>;

    /// What the store says of an object; `None` when there is none.
    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError>;

    /// Every object below the folder `under`, at any depth, in any order.
    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError>;

    /// Removes an object.
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// The store's own clock now, by which it dates objects.
    async fn clock(&self) -> Result<Timestamp, StoreError>;

    /// What the store was found to hold to, probed once at first use.
    async fn capabilities(&self) -> Result<Capabilities, StoreError>;

    /// What of the store's own rules bears on objects below the folder `under`.
    async fn rules(&self, under: &ObjectName) -> Result<StoreRules, StoreError>;
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object is new and durable.
    Created,
    /// An object of that name existed and is untouched.
    Existed,
}

/// What a store says of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
    /// SHA-256 of the content where the store itself computed it from what it holds.
    pub sha256: Option<[u8; 32]>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The object.
    pub name: ObjectName,
    /// Bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
}

/// What a store was found to hold to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// A put of an existing name is refused by the store itself, also when two race.
    pub conditional_put: Held,
    /// Content that does not match its checksum is refused.
    pub checksums: Held,
    /// A locked object can't be deleted.
    pub object_lock: Held,
}

/// Whether a promise was tried and held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Tried, and it held.
    Yes,
    /// Tried, and it did not hold.
    No,
    /// Not tried, since nothing needs it.
    Untried,
}

/// A failed call.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to {operation} {subject}: {reason}{}", hint.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
pub struct StoreError {
    /// What was tried, such as `put`.
    pub operation: &'static str,
    /// On what: the store and the object, never a secret.
    pub subject: String,
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// Why, in the words of the system below.
    pub reason: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// What kind of failure a [`StoreError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such object.
    NotFound,
    /// No space, or over quota.
    Full,
    /// Not allowed, wrong key, read-only.
    Denied,
    /// The store's root is missing: not mounted, no such bucket, no such folder.
    Unavailable,
    /// Network, overload, timeout: may go through later.
    Transient,
    /// What came back is not what the protocol allows, or an object is larger than the reader's limit.
    Protocol,
}

/// What happens next after an error. The loop branches on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again, with backoff.
    Retry,
    /// Try again after this long, not before.
    Wait(std::time::Duration),
    /// A person must act.
    Stalled,
}

impl StoreError {
    /// A failure of `operation` on `subject`.
    pub fn new(
        operation: &'static str,
        subject: impl Into<String>,
        kind: ErrorKind,
        reason: impl Into<String>,
    ) -> Self {
        Self { operation, subject: subject.into(), kind, reason: reason.into(), hint: None }
    }

    /// The same failure with what to do next.
    pub fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What happens next.
    pub fn class(&self) -> Class {
        match self.kind {
            ErrorKind::Transient => Class::Retry,
            ErrorKind::Full | ErrorKind::Unavailable => Class::Wait(std::time::Duration::from_secs(60)),
            ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Protocol => Class::Stalled,
        }
    }
}
