//! What the drill of a whole recovery found: the part of a record that tells of it.
//!
//! As of other drills, what was asked and answered stands sealed ([`super::drill`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ArtifactId,
    drill::{DrillOutcome, Finding, Verdict},
    recovered::Part,
};
use crate::spec::names::{DrillName, FolderName, RecoveryName, StoreName};

/// The drill of a recovery that came to an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsed {
    /// Its name in the declaration.
    pub drill: DrillName,
    /// The slot that it fills; `None` when a person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Timestamp>,
    /// When it began, by the controller's clock.
    pub began: Timestamp,
    /// What was brought back.
    pub recovery: RecoveryName,
    /// The data that was to be restored.
    pub restored: Vec<RestoredPoint>,
    /// How many steps were left out, for they are not of machines that a drill makes.
    #[serde(default)]
    pub left_out: usize,
    /// How it ended.
    pub outcome: DrillOutcome,
    /// How long each part took that was begun, in the order in which they ended.
    pub parts: Vec<PartTime>,
    /// The verdict on each check, in their order.
    pub checks: Vec<Verdict>,
    /// The age of the oldest of the restored data when the drill began, seconds; `None` where an older point than the newest was restored
    /// of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_seconds: Option<u64>,
    /// From the beginning of the drill to machines and data that can be used, seconds; `None` where it did not come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_seconds: Option<u64>,
    /// The findings, sealed; `None` where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

/// The data of one backup that a drill restores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoredPoint {
    /// The backup, by its folder.
    pub backup: FolderName,
    /// The data.
    pub artifact: ArtifactId,
    /// How many logs are replayed over it.
    #[serde(default)]
    pub logs: usize,
    /// Where it is read.
    pub store: StoreName,
    /// The moment that it is restored to.
    pub point: Timestamp,
}

/// How long a part of a recovery took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartTime {
    /// The number of the declared step, from 1.
    pub step: usize,
    /// What the declared step is, as a digest.
    pub digest: String,
    /// What of it.
    pub part: Part,
    /// How long, by a clock that is never set.
    pub milliseconds: u64,
}

/// The drill of a recovery as whoever runs it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RehearsalReport {
    /// What the records tell.
    #[serde(flatten)]
    pub rehearsed: Rehearsed,
    /// What every check found.
    pub findings: Vec<Finding>,
    /// Why it went no further, if it did not: in full, as no record tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The steps that were left out, each with its reason.
    pub left: Vec<String>,
}
