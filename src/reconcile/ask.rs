//! What a pass is asked to do, and on which terms.

use std::collections::BTreeSet;

use super::Extent;
use crate::{
    artifact::Depth,
    observe::Freshness,
    plan::{Plan, drill, manual, recovery, restore, verify::Scope},
    spec::{Healable, names::BackupName},
};

/// What a pass is asked to do.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Whatever the declaration asks for.
    Everything,
    /// Whatever the declaration asks for of these backups: what a scheduler outside starts at their slots.
    Due(Vec<BackupName>),
    /// Exactly this plan, which must be what a pass would plan.
    Exactly(Plan),
    /// This plan, which a person agreed to and which must be what a pass would plan; then whatever follows from it.
    Agreed(Plan),
    /// Backups on demand.
    Backup(Vec<manual::Request>, Keep),
    /// Checks of what is stored.
    Verify(Scope, Depth),
    /// Repairs of what is known to be damaged.
    Repair(Scope),
    /// What drifted of these is put back, whatever the declaration says of their self-heal.
    Heal(BTreeSet<Healable>),
    /// A restore.
    Restore(restore::Request),
    /// Drills on demand.
    Drill(Vec<drill::Request>),
    /// A recovery.
    Recover(Box<recovery::Request>),
}

impl Ask {
    pub(super) fn extent(&self) -> Extent {
        match self {
            Ask::Everything | Ask::Exactly(_) | Ask::Agreed(_) => Extent::Fleet,
            Ask::Due(_)
            | Ask::Backup(..)
            | Ask::Verify(..)
            | Ask::Repair(_)
            | Ask::Heal(_)
            | Ask::Restore(_)
            | Ask::Drill(_)
            | Ask::Recover(_) => Extent::Request,
        }
    }
}

/// How long artifacts on demand are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As the retention says.
    ByPolicy,
    /// Until a person releases them; with the reason.
    Held(String),
}

/// On which terms.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How old what was seen may be.
    pub freshness: Freshness,
}

impl Default for Terms {
    fn default() -> Self {
        Self { freshness: Freshness::Now }
    }
}
