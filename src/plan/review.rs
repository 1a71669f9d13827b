//! What changes between two revisions of a declaration, in the words of a person who reviews it.
//!
//! Pure, and without an inventory: what would be lost is reckoned from the schedules and the retention that stood
//! before, as if every slot had been filled. That is the most that can be lost; what is held, locked, damaged or the
//! newest stays in any case.

mod backups;
mod findings;
mod fleet;
mod gone;
mod machines;
mod points;
mod retention;
mod schedules;
mod sources;
mod stores;
mod suspensions;
mod words;

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::Serialize;

pub use findings::Finding;
pub use gone::{Gone, gone};

use crate::{diagnostic::Diagnostic, spec::Spec};

/// One of the two revisions.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// What it declares; `None` where it has errors, or declares nothing at all.
    pub spec: Option<&'a Spec>,
    /// What is wrong with it.
    pub diagnostics: &'a [Diagnostic],
}

/// What changes between two revisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Review {
    /// The fleet's name after the change, or else before it; `None` where neither revision is sound.
    pub fleet: Option<String>,
    /// When slots and ages are reckoned from.
    pub at: Timestamp,
    /// What it comes to.
    pub verdict: Verdict,
    /// Every change, the weightiest first.
    pub changes: Vec<Change>,
    /// Errors and warnings that the change brings.
    pub new: Vec<Finding>,
    /// Errors and warnings that it takes away.
    pub resolved: Vec<Finding>,
}

/// What a review comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing changes that Backstay acts on.
    Same,
    /// Something changes, and nothing is lost by it.
    Changes,
    /// Restore points, copies or promises are lost by it.
    Loses,
    /// It has errors: the revision before it would stay in force.
    Refused,
}

/// How much a change matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Restore points, copies or promises are lost.
    Loss,
    /// Nothing is lost, but a reviewer should think about it.
    Notice,
    /// Worth telling.
    Note,
}

/// One change, of one resource or of several that it happens to alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// How much it matters.
    pub weight: Weight,
    /// Stable kebab-case code, such as `schedule-changed`.
    pub code: &'static str,
    /// What changes, as its table is called: `backup.agama`. Never empty, sorted.
    pub subjects: Vec<String>,
    /// What happens, in words; names stand in backticks.
    pub text: String,
    /// How it was.
    pub before: Option<String>,
    /// How it will be.
    pub after: Option<String>,
    /// What follows from it.
    pub details: Vec<String>,
}

/// What changes from `before` to `after`, told at `at`.
pub fn review(before: Side<'_>, after: Side<'_>, at: Timestamp) -> Review {
    let mut draft = Draft::new(at);
    if let Some(new) = after.spec {
        let nothing = Spec::of(new.fleet.clone());
        if before.spec.is_none() && !before.diagnostics.is_empty() {
            let text = "the revision that it is compared with has errors: what changes cannot be told";
            draft.note(Weight::Notice, "base-has-errors", ["fleet", ""], text);
        } else {
            let old = before.spec.unwrap_or(&nothing);
            fleet::review(old, new, &mut draft);
            stores::review(old, new, &mut draft);
            backups::review(old, new, &mut draft);
            backups::infra(old, new, &mut draft);
            backups::orphans(old, new, &mut draft);
            machines::review(old, new, &mut draft);
            suspensions::review(old, new, &mut draft);
        }
    }
    let (new, resolved) = findings::compare(before.diagnostics, after.diagnostics);
    let changes = draft.finish();
    let fleet = after.spec.or(before.spec).map(|spec| spec.fleet.name.to_string());
    let verdict = verdict(after, &changes);
    Review { fleet, at, verdict, changes, new, resolved }
}

fn verdict(after: Side<'_>, changes: &[Change]) -> Verdict {
    if after.spec.is_none() {
        Verdict::Refused
    } else if changes.iter().any(|change| change.weight == Weight::Loss) {
        Verdict::Loses
    } else if changes.is_empty() {
        Verdict::Same
    } else {
        Verdict::Changes
    }
}

impl fmt::Display for Review {
    /// One line: `3 changes; 1 loses something`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.verdict == Verdict::Refused {
            return f.write_str("has errors: it would not come into force");
        }
        let of = |weight| self.changes.iter().filter(|change| change.weight == weight).count();
        let (losses, notices) = (of(Weight::Loss), of(Weight::Notice));
        match self.changes.len() {
            0 => f.write_str("nothing changes")?,
            1 => f.write_str("1 change")?,
            n => write!(f, "{n} changes")?,
        }
        if losses > 0 {
            write!(f, "; {losses} of loss")?;
        }
        if notices > 0 {
            write!(f, "; {notices} to think about")?;
        }
        match self.new.len() {
            0 => Ok(()),
            1 => f.write_str("; 1 new warning"),
            n => write!(f, "; {n} new warnings"),
        }
    }
}

/// A review under way.
struct Draft {
    at: Timestamp,
    changes: Vec<Change>,
    reckoned: points::Memory,
}

impl Draft {
    fn new(at: Timestamp) -> Self {
        Self { at, changes: Vec::new(), reckoned: points::Memory::default() }
    }

    /// Notes a change of `[section.name]`.
    fn note(
        &mut self,
        weight: Weight,
        code: &'static str,
        subject: [&str; 2],
        text: impl Into<String>,
    ) -> &mut Change {
        let subject = subject.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".");
        self.changes.push(Change {
            weight,
            code,
            subjects: vec![subject],
            text: text.into(),
            before: None,
            after: None,
            details: Vec::new(),
        });
        self.changes.last_mut().expect("a change was just added")
    }

    /// All changes, those that are alike in one, the weightiest first.
    fn finish(self) -> Vec<Change> {
        let mut alike: BTreeMap<Change, Vec<String>> = BTreeMap::new();
        for mut change in self.changes {
            let subjects = std::mem::take(&mut change.subjects);
            alike.entry(change).or_default().extend(subjects);
        }
        let mut changes: Vec<Change> = alike
            .into_iter()
            .map(|(change, mut subjects)| {
                subjects.sort_unstable();
                subjects.dedup();
                Change { subjects, ..change }
            })
            .collect();
        changes.sort_by(|a, b| (a.weight, &a.subjects, a.code).cmp(&(b.weight, &b.subjects, b.code)));
        changes
    }
}

impl Change {
    fn from(&mut self, before: impl Into<String>) -> &mut Self {
        self.before = Some(before.into());
        self
    }

    fn to(&mut self, after: impl Into<String>) -> &mut Self {
        self.after = Some(after.into());
        self
    }

    fn detail(&mut self, detail: impl Into<String>) -> &mut Self {
        self.details.push(detail.into());
        self
    }
}

#[cfg(test)]
mod tests;
