//! How a capture fails.

use std::{fmt, time::Duration};

use crate::{
    apply::{lease::LeaseError, segment::SealError},
    artifact::{ArtifactId, layout::ObjectName},
    sources::SourceError,
    spec::names::FolderName,
    stores::{Class, StoreError},
};

/// A capture that left no artifact, unless its fault is [`Fault::Outcome`].
#[derive(Debug, thiserror::Error)]
#[error("failed to capture {backup} as {artifact} while {stage}: {fault}{}", tell_left(.left))]
pub struct CaptureError {
    /// The backup.
    pub backup: FolderName,
    /// The name that it would have had.
    pub artifact: ArtifactId,
    /// How far it came.
    pub stage: Stage,
    /// What went wrong.
    pub fault: Fault,
    /// What it wrote and could not remove; a sweep removes it later.
    pub left: Vec<ObjectName>,
}

impl CaptureError {
    /// What happens next.
    pub fn class(&self) -> Class {
        match &self.fault {
            Fault::Source(error) => error.class,
            Fault::Store(error) | Fault::Outcome(error) => error.class(),
            // Only a new plan can choose another base.
            Fault::Base { .. } => Class::Wait(Duration::from_secs(60)),
            Fault::Lease(error) => error.class(),
            Fault::Unconfirmed { .. } | Fault::Stopped => Class::Retry,
            Fault::Taken { .. } | Fault::Misused | Fault::Seal(_) => Class::Stalled,
        }
    }
}

/// How far a capture came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading what it shares segments with.
    ReadingTheBase,
    /// Putting its lease.
    Leasing,
    /// From the source into packs.
    Streaming,
    /// By the provider of the source.
    Providing,
    /// Having the store confirm what was written and what is reused.
    Confirming,
    /// Putting signature and manifest.
    Committing,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::ReadingTheBase => "reading its base",
            Stage::Leasing => "taking its lease",
            Stage::Streaming => "storing its stream",
            Stage::Providing => "its provider made it",
            Stage::Confirming => "confirming what is stored",
            Stage::Committing => "committing it",
        })
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The source failed, or its stream is not whole.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifact that segments were to be shared with is of no use.
    #[error("the base {base} is of no use: {reason}; verify it, or capture a full")]
    Base {
        /// The base.
        base: ArtifactId,
        /// Why.
        reason: String,
    },
    /// The lease could not be taken, or ran out before the commit.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The store does not hold what it accepted.
    #[error("{object} is not as it was put: {reason}; see what is wrong with the store")]
    Unconfirmed {
        /// The object.
        object: ObjectName,
        /// What was found.
        reason: String,
    },
    /// Somebody else's object has the name.
    #[error("{object} is there already and not ours; see who else writes into this store")]
    Taken {
        /// The object.
        object: ObjectName,
    },
    /// The manifest was put, and the store does not tell whether it arrived. Nothing was removed: the artifact counts
    /// if the manifest is there.
    #[error("the store does not tell whether the manifest arrived: {0}; the next pass will see")]
    Outcome(StoreError),
    /// The source wrote into a run that it was told to leave out.
    #[error("the source wrote bytes of a run that it was told to leave out; report this")]
    Misused,
    /// A segment could not be encrypted.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A thread of the pipeline ended early.
    #[error("a part of the pipeline ended early; see the log, and report this")]
    Stopped,
}

fn tell_left(left: &[ObjectName]) -> String {
    match left {
        [] => String::new(),
        [one] => format!("; {one} is left behind until a sweep"),
        [first, rest @ ..] => format!("; {first} and {} more are left behind until a sweep", rest.len()),
    }
}
