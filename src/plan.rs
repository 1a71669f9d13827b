//! The difference between a [`crate::spec::Spec`] and an [`crate::inventory::Inventory`], as steps to take.

pub mod action;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use action::Action;

use crate::spec::names::{BackupName, FleetName, StoreName};

/// What a pass will do, in an order that the `after` edges give; and what it will not do, with reasons.
///
/// Plain data: printed, saved, checked and executed, by parts that know nothing of each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Whose plan it is.
    pub fleet: FleetName,
    /// The commit that declares the desired state.
    pub revision: String,
    /// The moment that it was made for.
    pub at: Timestamp,
    /// What will be done. A step stands behind all that it waits for.
    pub steps: Vec<Step>,
    /// What is wanted and has to wait.
    pub waiting: Vec<Waiting>,
    /// Deletions that a safety rule holds back.
    pub withheld: Vec<Withheld>,
    /// What is declared and can't be done by this build or on this host.
    pub cannot_run: Vec<CannotRun>,
}

/// The number of a step in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub u32);

/// One effect, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its number in the plan.
    pub id: StepId,
    /// What is done.
    pub action: Action,
    /// Why, for people: `slot 2026-11-20T01:00:00Z has no full`.
    pub reason: String,
    /// Steps that must have succeeded before.
    pub after: BTreeSet<StepId>,
}

/// Something wanted that has to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// What is wanted, such as `full of agama`.
    pub what: String,
    /// What it waits for.
    pub on: String,
    /// When it is worth looking again, if that is known.
    pub until: Option<Timestamp>,
}

/// Deletions that a safety rule holds back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withheld {
    /// The backup whose artifacts stay.
    pub backup: BackupName,
    /// The store in which they stay.
    pub store: StoreName,
    /// Stable kebab-case name of the rule, such as `newest-good`.
    pub rule: String,
    /// Why, for people.
    pub reason: String,
}

/// Something declared that can't be done by this build or on this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CannotRun {
    /// The resource as it is declared, such as `backup.orders`.
    pub resource: String,
    /// Why, and what to do about it.
    pub why: String,
}
