//! A [`Review`] for people and for programs.

pub mod markdown;

use std::fmt::Write;

use serde::Serialize;

use super::{Palette, count, moment, short_revision};
use crate::{
    diagnostic::Severity,
    plan::review::{Change, Finding, Gone, Review, Verdict, Weight},
};

/// The format of a [`Told`] review as JSON.
pub const FORMAT: &str = "backstay.review/1";

/// One of the two revisions, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// As it was asked for: `origin/main`, or `working tree`.
    pub name: String,
    /// The commit; `None` for a working tree.
    pub commit: Option<String>,
}

/// A review with the names of what it compares.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// What it is compared with.
    pub against: Named,
    /// What is reviewed.
    pub revision: Named,
    /// What changes.
    #[serde(flatten)]
    pub review: Review,
    /// The artifacts that would go, where the stores were asked.
    pub gone: Option<Vec<Gone>>,
}

/// Changes and findings of one kind that the text shows; programs get all.
const MOST_SHOWN: usize = 200;
/// Artifacts of one backup in one store that are named.
const MOST_ARTIFACTS: usize = 5;

/// What a reviewer reads: losses first.
pub fn text(told: &Told, palette: Palette) -> String {
    let review = &told.review;
    let mut out = heading(told, palette);
    for change in review.changes.iter().take(MOST_SHOWN) {
        write_change(&mut out, change, palette);
    }
    if review.changes.len() > MOST_SHOWN {
        let _ = writeln!(out, "  and {} more", review.changes.len() - MOST_SHOWN);
    }
    for gone in told.gone.iter().flatten() {
        let _ = writeln!(out, "  {} {}", palette.bad("-"), artifacts(gone));
    }
    findings(&mut out, "new", &review.new, palette);
    findings(&mut out, "resolved", &review.resolved, palette);
    let summary = match review.verdict {
        Verdict::Same | Verdict::Changes => palette.good(review),
        Verdict::Loses => palette.warn(review),
        Verdict::Refused => palette.bad(review),
    };
    let _ = writeln!(out, "\n{summary}");
    out
}

fn heading(told: &Told, palette: Palette) -> String {
    let fleet = told.review.fleet.as_deref().unwrap_or("the fleet");
    let (from, to) = (named(&told.against), named(&told.revision));
    format!(
        "{}: {from} → {to}, {}\n\n",
        palette.strong(fleet),
        moment(told.review.at, &jiff::tz::TimeZone::UTC)
    )
}

/// `origin/main (1886bd9a0c)`.
fn named(revision: &Named) -> String {
    match &revision.commit {
        Some(commit) if *commit != revision.name => format!("{} ({})", revision.name, short_revision(commit)),
        Some(commit) => short_revision(commit).to_owned(),
        None => revision.name.clone(),
    }
}

fn write_change(out: &mut String, change: &Change, palette: Palette) {
    let sign = match change.weight {
        Weight::Loss => palette.bad("-"),
        Weight::Notice => palette.warn("!"),
        Weight::Note => palette.faint("·"),
    };
    let _ = writeln!(out, "  {sign} {}: {}", palette.strong(subjects(change)), change.text);
    if let Some(values) = values(change) {
        let _ = writeln!(out, "      {values}");
    }
    for detail in &change.details {
        let _ = writeln!(out, "      {}", palette.faint(detail));
    }
}

/// `30, the oldest 30d → 14, the oldest 14d`.
fn values(change: &Change) -> Option<String> {
    match (&change.before, &change.after) {
        (None, None) => None,
        (Some(before), None) => Some(format!("was {before}")),
        (None, Some(after)) => Some(after.clone()),
        (Some(before), Some(after)) => Some(format!("{before} → {after}")),
    }
}

/// Subjects that are named of one change.
const MOST_SUBJECTS: usize = 6;

fn subjects(change: &Change) -> String {
    let named: Vec<&str> = change.subjects.iter().take(MOST_SUBJECTS).map(String::as_str).collect();
    match change.subjects.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn artifacts(gone: &Gone) -> String {
    let named: Vec<String> = gone.artifacts.iter().take(MOST_ARTIFACTS).map(ToString::to_string).collect();
    let more = match gone.artifacts.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let number = count(gone.artifacts.len(), "artifact", "artifacts");
    format!("{number} of {} in {} would go now: {}{more}", gone.backup, gone.store, named.join(", "))
}

fn findings(out: &mut String, which: &str, findings: &[Finding], palette: Palette) {
    if findings.is_empty() {
        return;
    }
    out.push('\n');
    for finding in findings.iter().take(MOST_SHOWN) {
        let severity = match finding.severity {
            Severity::Error => palette.bad("error"),
            Severity::Warning => palette.warn("warning"),
            Severity::Note => palette.faint("note"),
        };
        let file = finding.file.as_deref().map(|file| format!(" ({file})")).unwrap_or_default();
        let _ = writeln!(out, "  {which} {severity}[{}]: {}{file}", finding.code, finding.message);
    }
    if findings.len() > MOST_SHOWN {
        let _ = writeln!(out, "  and {} more {which}", findings.len() - MOST_SHOWN);
    }
}
