//! What came of a step of a recovery: the part of a record that tells of it.
//!
//! Written as soon as the step has ended, into every store that can be reached: a recovery that was cut off goes on from there,
//! on this controller or on another.

use std::{collections::BTreeSet, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ArtifactId;
use crate::spec::names::{BackupName, RecoveryName, StoreName, VmName};

/// What is brought back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoverySubject {
    /// Everything that a declared recovery names.
    Recovery(RecoveryName),
    /// A machine by itself.
    Vm(VmName),
}

/// `recovery site`
impl fmt::Display for RecoverySubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverySubject::Recovery(name) => write!(f, "recovery {name}"),
            RecoverySubject::Vm(name) => write!(f, "machine {name}"),
        }
    }
}

/// A part of a declared step, by which it is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartId {
    /// The number of the declared step, from 1.
    pub step: usize,
    /// What of it.
    pub part: Part,
}

/// What the work of a recovery is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// What is left of a machine is removed.
    Remove,
    /// A machine is made.
    Provision,
    /// It is configured.
    Configure,
    /// Data is fetched, decrypted and loaded, and its logs are replayed.
    Restore,
    /// Applications are deployed, and programs run.
    Start,
    /// Something is waited for.
    Verify,
    /// Users are led elsewhere.
    Switch,
}

impl Part {
    /// Its name in JSON, metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Remove => "remove",
            Part::Provision => "provision",
            Part::Configure => "configure",
            Part::Restore => "restore",
            Part::Start => "start",
            Part::Verify => "verify",
            Part::Switch => "switch",
        }
    }
}

/// On which terms something is brought back: those of its beginning hold until it is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The moment that data is brought back to; the newest when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The store that data is read from; the first that has everything when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StoreName>,
    /// Machines that are there, and that are removed and made anew.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub replace: BTreeSet<VmName>,
    /// Backups that are restored whatever is there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub restore: BTreeSet<BackupName>,
}

impl Terms {
    /// The same, and what a person names besides.
    pub fn and(mut self, named: &Terms) -> Self {
        self.replace.extend(named.replace.iter().cloned());
        self.restore.extend(named.restore.iter().cloned());
        self
    }
}

/// What a provider makes something of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MadeOf {
    /// One of its own backups, which is this artifact.
    Artifact(ArtifactId),
    /// What it keeps of this moment.
    Moment(Timestamp),
}

/// `20261120T010000Z-3k7qz0m4xw`, `2026-11-20T01:00:00Z`
impl fmt::Display for MadeOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MadeOf::Artifact(artifact) => artifact.fmt(f),
            MadeOf::Moment(at) => at.fmt(f),
        }
    }
}

/// A part of a recovery that was begun, or came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovered {
    /// What was being brought back.
    pub subject: RecoverySubject,
    /// When the whole was begun, which tells it from every other time.
    pub run: Timestamp,
    /// How many parts the whole has.
    pub parts: usize,
    /// Which of the plans of it this belongs to, the last of which decides whether the whole is done.
    pub attempt: Timestamp,
    /// How many parts that plan does.
    pub left: usize,
    /// Which.
    pub id: PartId,
    /// What the declared step was, as a digest: where that is another, so is the part.
    pub step: String,
    /// For machines: where it is declared, as [`crate::spec::Provision::place`] tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<(VmName, String)>,
    /// For what a provider makes: of what. It is made of nothing else when the recovery goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<MadeOf>,
    /// On which terms.
    #[serde(default)]
    pub terms: Terms,
    /// When it began, by the controller's clock.
    pub began: Timestamp,
    /// How long it took; 0 while it lasts.
    pub milliseconds: u64,
    /// What became of it.
    pub outcome: RecoveredOutcome,
}

impl Recovered {
    /// When it ended.
    pub fn ended(&self) -> Timestamp {
        let took = std::time::Duration::from_millis(self.milliseconds);
        self.began.checked_add(took).unwrap_or(self.began)
    }
}

/// What became of a part of a recovery. Why it failed stands in the log of the controller: it may tell of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveredOutcome {
    /// It was begun: told before what can't be undone.
    Begun,
    /// It is done.
    Done,
    /// It is not.
    Failed,
}
