//! What a drill found: the part of a record that tells of it.
//!
//! What was asked and answered is data of the backup's own, and stands sealed: base64 of an age file for the recipients of
//! the store, whose plaintext is the JSON list of [`Finding`]s. In clear stand verdicts, times and numbers.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ArtifactId;
use crate::spec::names::{DrillName, FolderName, StoreName};

/// One drill that came to an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drilled {
    /// Its name in the declaration.
    pub drill: DrillName,
    /// The slot that it fills; `None` when a person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Timestamp>,
    /// When it began, by the controller's clock.
    pub began: Timestamp,
    /// The backup, by its folder.
    pub backup: FolderName,
    /// The data that was restored.
    pub artifact: ArtifactId,
    /// How many logs were replayed over it.
    #[serde(default)]
    pub logs: usize,
    /// Where it was read.
    pub store: StoreName,
    /// The moment that was restored to.
    pub point: Timestamp,
    /// How it ended.
    pub outcome: DrillOutcome,
    /// How long each stage took that was begun, in their order.
    pub stages: Vec<StageTime>,
    /// The verdict on each check, in their order: the engine's own, and then the declared ones.
    pub checks: Vec<Verdict>,
    /// The age of the newest restore point when the drill began, seconds; `None` where an older one was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_seconds: Option<u64>,
    /// From the beginning of the drill to data that can be used, seconds; `None` where it did not come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_seconds: Option<u64>,
    /// How long the streams of data were that were restored, without logs, bytes; 0 where that is not known.
    #[serde(default)]
    pub bytes: u64,
    /// How the sandbox's programs were kept apart from the controller's host; `None` where none was started, and in records of
    /// controllers that did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// The findings, sealed; `None` where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

/// How a drill ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DrillOutcome {
    /// The data came back, and every check holds.
    Passed,
    /// The data did not come back, or a check does not hold.
    Failed(String),
    /// Nothing is known: never a pass.
    CouldNotRun(String),
}

impl DrillOutcome {
    /// Whether the data came back and every check holds.
    pub fn is_passed(&self) -> bool {
        *self == DrillOutcome::Passed
    }

    /// The outcome's name in JSON, metrics and messages.
    pub fn as_str(&self) -> &'static str {
        match self {
            DrillOutcome::Passed => "passed",
            DrillOutcome::Failed(_) => "failed",
            DrillOutcome::CouldNotRun(_) => "could-not-run",
        }
    }

    /// What the verdicts on all checks come to, where the data came back.
    pub fn of(checks: &[Verdict]) -> Self {
        let number = |verdict| checks.iter().filter(|check| **check == verdict).count();
        let of_all = |number: usize| format!("{number} of {} checks", checks.len());
        match (number(Verdict::Failed), number(Verdict::CouldNotRun)) {
            (0, 0) => DrillOutcome::Passed,
            (0, unmade) => DrillOutcome::CouldNotRun(format!("{} could not be made", of_all(unmade))),
            (failed, _) => DrillOutcome::Failed(format!("{} failed", of_all(failed))),
        }
    }
}

/// `failed: 1 of 2 checks failed`
impl fmt::Display for DrillOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DrillOutcome::Passed => f.write_str("passed"),
            DrillOutcome::Failed(why) => write!(f, "failed: {why}"),
            DrillOutcome::CouldNotRun(why) => write!(f, "could not run: {why}"),
        }
    }
}

/// How programs of a sandbox are kept apart from the host that they run on. In every case they are programs of a user without
/// rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// By namespaces of their own: no network, no other process, no file but the system's programs and the sandbox's folder.
    Bubblewrap,
    /// As by [`Isolation::Bubblewrap`], but with the host's network: of a server that can be reached in no other way.
    Files,
    /// By a network of their own, in which there is nothing.
    Network,
    /// By their settings only.
    None,
}

impl Isolation {
    /// Its name in JSON and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Isolation::Bubblewrap => "bubblewrap",
            Isolation::Files => "files",
            Isolation::Network => "network",
            Isolation::None => "none",
        }
    }
}

/// A stage of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The sandbox is set up.
    Prepare,
    /// The data is fetched, decrypted and loaded, in one stream.
    Load,
    /// Its logs are fetched and replayed.
    Replay,
    /// The checks are made.
    Verify,
}

impl Stage {
    /// Its name in JSON, metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Prepare => "prepare",
            Stage::Load => "load",
            Stage::Replay => "replay",
            Stage::Verify => "verify",
        }
    }
}

/// How long a stage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// How long, by a clock that is never set.
    pub milliseconds: u64,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// It could not be made.
    CouldNotRun,
}

impl Verdict {
    /// Its name in JSON and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::CouldNotRun => "could-not-run",
        }
    }
}

/// A check with what came of it. Told to whoever runs the drill; sealed in records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// What was checked.
    pub check: String,
    /// What was expected.
    pub expected: String,
    /// What was found, or why nothing could be.
    pub found: String,
    /// What that comes to.
    pub verdict: Verdict,
}

/// A drill as whoever runs it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrillReport {
    /// What the records tell.
    #[serde(flatten)]
    pub drilled: Drilled,
    /// What every check found.
    pub findings: Vec<Finding>,
    /// What the data could not be brought back for, if it could not: in full, as no record tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_could_not_be_made_is_no_pass_and_one_that_failed_outweighs_it() {
        use Verdict::{CouldNotRun, Failed, Passed};
        let check = |checks: &[Verdict], expect: &str| assert_eq!(DrillOutcome::of(checks).as_str(), expect);
        check(&[], "passed");
        check(&[Passed, Passed], "passed");
        check(&[Passed, CouldNotRun], "could-not-run");
        check(&[CouldNotRun, Failed, Passed], "failed");
    }
}
