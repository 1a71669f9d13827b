//! `approve.toml`: approvals of plans by a commit.
//!
//! It stands at the top of the declaration's folder and declares nothing: whether what it says counts is decided by who signed
//! the commit that wrote it, and by the host.

use std::sync::LazyLock;

use jiff::{Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    schema::schema_of,
    single::Single,
    suspension::Moment,
    values::{Invalid, Line, Text, TextForm},
};
use crate::{
    artifact::approval::{LONGEST, PlanHash},
    diagnostic::{Diagnostic, Location},
};

/// The file, by its path in the declaration's folder.
pub const FILE: &str = "approve.toml";

/// The most approvals that stand in it.
const MOST: usize = 32;

/// What a commit approves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The plan.
    pub plan: PlanHash,
    /// The revision that it was made for.
    pub base: String,
    /// Why.
    pub reason: String,
    /// The last moment at which the approval counts.
    pub expires: Timestamp,
    /// Where it stands.
    pub place: Location,
}

/// Plans that are approved although a safety rule holds them back. Counts when the commit is signed by somebody whom the
/// controller's `repo.approvers` names.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Backstay approvals")]
struct File {
    /// One approval each.
    #[serde(default)]
    approve: Vec<Entry>,
}

/// The approval of one plan.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The plan's whole name, as `backstay plan -o json` shows it.
    #[schemars(required)]
    plan: Option<Text<PlanHash>>,
    /// The revision that the plan was made for.
    #[schemars(required)]
    base: Option<Text<CommitId>>,
    /// Why; kept in the records of what is deleted.
    #[schemars(required)]
    reason: Option<Text<Line>>,
    /// Until when it counts, at most 30 days after the commit: a date, with or without a time, in the fleet's zone unless it
    /// names an offset.
    #[schemars(required)]
    expires: Option<Text<Moment>>,
}

/// The whole id of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommitId(String);

impl TextForm for CommitId {
    const FORMAT: &'static str = "commit-id";
    const NOUN: &'static str = "the id of a commit";
    const EXAMPLE: &'static str = "3b1e5c0d9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c";

    fn parse(text: &str) -> Result<Self, Invalid> {
        let whole = text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if whole { Ok(Self(text.to_owned())) } else { Err(Invalid::value("all its 40 digits are needed")) }
    }
}

impl TextForm for PlanHash {
    const FORMAT: &'static str = "plan-hash";
    const NOUN: &'static str = "the name of a plan";
    const EXAMPLE: &'static str = "plan:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn parse(text: &str) -> Result<Self, Invalid> {
        text.parse()
            .map_err(|error: crate::artifact::approval::InvalidPlanHash| Invalid::value(error.to_string()))
    }
}

static SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(schema_of::<File>);

/// The JSON Schema (draft 2020-12) of `approve.toml`.
pub fn json_schema() -> serde_json::Value {
    SCHEMA.clone()
}

/// Reads the content of `approve.toml`. Moments without an offset are by the clocks of `zone`.
pub(super) fn parse(content: &[u8], zone: &TimeZone, diagnostics: &mut Vec<Diagnostic>) -> Vec<Approval> {
    let mut single: Single<File> = Single::read(FILE, content, &SCHEMA);
    let entries = std::mem::take(&mut single.mirror.approve);
    if entries.len() > MOST {
        let message = format!("{} approvals stand in `{FILE}`, more than {MOST}", entries.len());
        single.error(["approve"], message, "take out those that were done or have expired");
    }
    let mut approvals = Vec::new();
    for (number, entry) in entries.into_iter().enumerate() {
        let number = number.to_string();
        if entry.reason.as_ref().is_some_and(|reason| reason.0.0.trim().is_empty()) {
            let message = "`reason` of the approval is empty".to_owned();
            single.error(["approve", &number, "reason"], message, "say why: it is kept in the records");
        }
        let place = single.place(["approve", &number, "expires"]);
        approvals.extend(lower(entry, zone, place));
    }
    diagnostics.extend(single.into_diagnostics());
    approvals
}

fn lower(entry: Entry, zone: &TimeZone, place: Option<Location>) -> Option<Approval> {
    Some(Approval {
        plan: entry.plan?.0,
        base: entry.base?.0.0,
        reason: entry.reason?.0.0,
        expires: entry.expires?.0.timestamp(zone)?,
        place: place?,
    })
}

/// Warnings of approvals that do not count at `now`, or not any more.
pub fn untimely(approvals: &[Approval], now: Timestamp) -> Vec<Diagnostic> {
    let latest = now.checked_add(LONGEST).unwrap_or(Timestamp::MAX);
    let untimely = approvals.iter().filter_map(|approval| {
        let (short, days) = (approval.plan.short(), LONGEST.as_hours() / 24);
        let (code, message, hint) = if approval.expires < now {
            let message = format!("the approval of {short} expired at {:.0}", approval.expires);
            ("approval-expired", message, "take it out")
        } else if approval.expires > latest {
            let message = format!("the approval of {short} would count for more than {days} days");
            ("approval-too-long", message, "set an earlier `expires`: such an approval does not count")
        } else {
            return None;
        };
        Some(Diagnostic::warning(code, message).at(approval.place.clone()).hint(hint))
    });
    untimely.collect()
}
