//! What the provider that hosts a source can do by itself. A driver whose source has a provider gives one.

use std::{collections::BTreeMap, path::Path};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Restored, SourceError};
use crate::{
    artifact::manifest::Details,
    clock::Clock,
    inventory::{
        CopyStanding, Native, NativeName, NativePrefix, NativeState, ProviderSettings, Renewal, SandboxCopy,
    },
    spec::Protection,
};

/// The provider that hosts a source's data, and keeps it in its own way.
///
/// What drivers must meet:
/// - What the provider did not answer is an error, never an absence: [`NativeState::Gone`] is its own word.
/// - Nothing that exists is overwritten, and nothing is deleted but what is named, under exactly its name.
/// - What is asked for twice is done once, or fails: a call whose answer was lost is found by its name.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What kind of thing a native backup's reference names, such as `dynamodb-backup`.
    fn kind(&self) -> &'static str;

    /// The account that it answers for, where it tells.
    async fn account(&self) -> Result<Option<String>, SourceError>;

    /// How it is set now.
    async fn settings(&self) -> Result<ProviderSettings, SourceError>;

    /// Sets what `wanted` tells, and leaves the rest as it is.
    async fn protect(&self, wanted: &Protection) -> Result<(), SourceError>;

    /// Every native backup whose name begins with `prefix`, by reference, whole or not.
    async fn natives(&self, prefix: &NativePrefix) -> Result<BTreeMap<String, Native>, SourceError>;

    /// Makes a native backup of this name, and waits until it can be restored.
    async fn make(&self, name: &NativeName, clock: &dyn Clock) -> Result<MadeNative, SourceError>;

    /// How a native backup is now.
    async fn state(&self, reference: &str) -> Result<NativeState, SourceError>;

    /// Deletes a native backup, if it bears this name. One that is gone is deleted.
    async fn delete(&self, reference: &str, name: &NativeName) -> Result<(), SourceError>;

    /// Makes `to`, which does not exist yet, of a native backup, and waits until it can be used.
    async fn restore_native(&self, reference: &str, to: &str) -> Result<Restored, SourceError>;

    /// Has what `renewal` names made of `kept`, or takes up again what the same recovery began of it, and waits until it can be used.
    /// Anything else that is there under that name is an error that changes nothing. What was begun goes on whatever comes between, and
    /// is taken up again by the same call.
    async fn renew(&self, kept: &Kept<'_>, renewal: &Renewal) -> Result<Restored, SourceError>;

    /// Makes `copy`, of which nothing exists yet, of a native backup, puts its mark on it as early as can be, and waits until it can
    /// be used.
    async fn copy_for_drill(&self, reference: &str, copy: &SandboxCopy) -> Result<(), SourceError>;

    /// What stands under the name of something that a drill makes.
    async fn standing(&self, name: &str) -> Result<CopyStanding, SourceError>;

    /// Puts its mark on what bears the name of a drill's copy and no mark yet, where the provider itself tells that it is what was
    /// announced; nothing else is touched. Only where marks are put on later than the thing is made.
    async fn claim_copy(&self, _announced: &Announced<'_>) -> Result<Claim, SourceError> {
        Ok(Claim::Unknown("its provider marks from the beginning what it makes for a drill".to_owned()))
    }

    /// How many items something holds that a drill made; `None` where that can't be counted.
    async fn items(&self, name: &str) -> Result<Option<u64>, SourceError>;

    /// Deletes what bears exactly the name and the mark of `copy`, and waits until it is gone. What is gone is deleted.
    async fn delete_copy(&self, copy: &SandboxCopy) -> Result<(), SourceError>;

    /// Fetches what a native backup holds into the file `to`, which does not exist yet, where the provider hands it out.
    async fn download(&self, _reference: &str, to: &Path) -> Result<Restored, SourceError> {
        let subject = to.display().to_string();
        Err(SourceError::misplaced(&subject, format!("its provider hands no {} out as a file", self.kind())))
    }

    /// Makes `to`, which does not exist yet, of the data as it was `at` a moment, and waits until it can be used.
    async fn rewind(&self, at: Timestamp, to: &str) -> Result<Restored, SourceError>;
}

/// What a provider keeps of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept<'a> {
    /// A native backup, by its reference.
    Backup(&'a str),
    /// The data as it was at a moment.
    Moment(Timestamp),
}

/// What a drill was about to have a provider make, as it was written down before that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Announced<'a> {
    /// Its name, and the mark that it was to bear.
    pub copy: &'a SandboxCopy,
    /// The native backup that it was to be made of.
    pub reference: &'a str,
    /// It was not asked for before.
    pub since: Timestamp,
    /// What was made later may be somebody else's.
    pub until: Timestamp,
}

/// Whether something without a mark is what was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is, and bears its mark now.
    Marked,
    /// It is not known for it, and why.
    Unknown(String),
}

/// A native backup that can be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeNative {
    /// The provider's own name of it.
    pub reference: String,
    /// The account that it lies in, where that is told.
    pub account: Option<String>,
    /// What was written before is in it.
    pub moment: Timestamp,
    /// What the provider says of it.
    pub details: Details,
}
