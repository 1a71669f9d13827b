//! Leases of what is under way in a store.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::artifact::ArtifactId;

/// A capture, copy or repair under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The epoch whose packs it reuses.
    pub epoch: ArtifactId,
    /// After this it commits nothing.
    pub until: Timestamp,
    /// The public half of the key that the controller signs with.
    pub controller: String,
}

/// How long after it was put a lease that cannot be understood counts: longer than any is taken for.
const LONGEST_LEASE: SignedDuration = SignedDuration::from_hours(24);
/// In the place of the key of whom nobody knows. It is none.
const UNKNOWN: &str = "unknown";

/// When a lease that cannot be understood ends, by the store's clock.
fn end_of_unreadable(put: Timestamp) -> Timestamp {
    put.checked_add(LONGEST_LEASE).unwrap_or(Timestamp::MAX)
}

impl Lease {
    /// A lease that cannot be understood: it may concern any epoch.
    pub fn unreadable(put: Timestamp) -> Self {
        let epoch = ArtifactId::new(Timestamp::UNIX_EPOCH, 0);
        Self { epoch, until: end_of_unreadable(put), controller: UNKNOWN.to_owned() }
    }

    /// Whether it could be understood.
    pub fn is_readable(&self) -> bool {
        self.controller != UNKNOWN
    }

    /// Whether what it writes may share packs of `epoch`.
    pub fn concerns(&self, epoch: ArtifactId) -> bool {
        self.epoch == epoch || !self.is_readable()
    }
}

/// A restore or check under way: what it reads stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// What is read, with all that it requires.
    pub artifacts: BTreeSet<ArtifactId>,
    /// After this it counts no more.
    pub until: Timestamp,
    /// The public half of the key that the controller signs with.
    pub controller: String,
}

impl Reading {
    /// A lease that cannot be understood: it may be of anything.
    pub fn unreadable(put: Timestamp) -> Self {
        Self { artifacts: BTreeSet::new(), until: end_of_unreadable(put), controller: UNKNOWN.to_owned() }
    }

    /// Whether it may read `artifact`.
    pub fn concerns(&self, artifact: ArtifactId) -> bool {
        self.artifacts.contains(&artifact) || self.controller == UNKNOWN
    }
}
