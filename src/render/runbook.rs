//! Runbooks: a document for each recovery, from the same plan that the executor would run were every machine gone.

mod by_hand;
mod drawing;
mod shelf;

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{duration, moment, recovery, short_revision};
use crate::{
    artifact::{ArtifactId, recovered::PartId},
    inventory::RecoveryRun,
    plan::{
        Action, Plan, Step,
        action::Recover,
        by_hand::{
            Hand, MadeByHand, Prepared, Stored,
            reach::{self, Folders},
        },
    },
    spec::{
        Contact, Recovery, Spec,
        names::{BackupName, RecoveryName, VmName},
    },
    status::Status,
    templates::{TemplateError, Templates},
};

pub use shelf::Shelf;

/// The kinds of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Markdown, with the diagram in Mermaid.
    Markdown,
    /// HTML, with the diagram in SVG. Stands alone.
    Html,
}

impl Format {
    /// The template that it is rendered by.
    fn template(self) -> &'static str {
        match self {
            Format::Markdown => "runbook.md.tera",
            Format::Html => "runbook.html.tera",
        }
    }

    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Format::Markdown => "md",
            Format::Html => "html",
        }
    }
}

/// What a runbook rests on.
pub struct Sources<'a> {
    /// What is declared.
    pub spec: &'a Spec,
    /// The revision that declares it.
    pub revision: &'a str,
    /// How everything stands.
    pub status: &'a Status,
    /// The plan of the recovery; or why it can't be made now.
    pub plan: Result<&'a Plan, String>,
    /// How each machine is made by hand, with files in its folder of [`Folders`]; or why that can't be told.
    pub machines: &'a BTreeMap<VmName, Result<MadeByHand, String>>,
    /// What is stored as artifacts, as far as that can be read.
    pub stored: &'a BTreeMap<ArtifactId, Stored>,
    /// The last time that the recovery came to its end.
    pub measured: Option<&'a RecoveryRun>,
}

/// A runbook, as templates see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Runbook {
    /// The recovery.
    pub name: RecoveryName,
    fleet: String,
    revision: String,
    when: String,
    contacts: Vec<ContactLine>,
    rto: Option<String>,
    estimate: Option<String>,
    last: Option<String>,
    command: String,
    resume: String,
    cannot: Option<String>,
    /// The checkout of the infra repo, by the name that stands for it.
    infra: &'static str,
    /// What all steps need.
    files: Vec<FileLines>,
    steps: Vec<StepLine>,
    objectives: Vec<ObjectiveLine>,
    mermaid: String,
    svg: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ContactLine {
    name: String,
    role: String,
    email: String,
    phone: String,
    of: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct StepLine {
    number: u32,
    stage: &'static str,
    what: String,
    after: Vec<u32>,
    expected: Option<String>,
    files: Vec<FileLines>,
    by_hand: Vec<HandLine>,
}

/// A file that what is typed reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct FileLines {
    path: String,
    content: String,
    /// What stands around it in Markdown: longer than any such row in it.
    fence: String,
}

impl From<Prepared> for FileLines {
    fn from(Prepared { path, content }: Prepared) -> Self {
        let longest = content.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        Self { path, fence: "`".repeat(longest.max(2) + 1), content }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct HandLine {
    text: String,
    is_command: bool,
}

impl From<Hand> for HandLine {
    fn from(hand: Hand) -> Self {
        match hand {
            Hand::Know(text) => Self { text, is_command: false },
            typed => Self { text: typed.to_string(), is_command: true },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ObjectiveLine {
    backup: BackupName,
    rpo: String,
    rto: String,
    newest: String,
    drilled: String,
}

impl Runbook {
    /// The runbook of a recovery.
    pub fn of(name: &RecoveryName, declared: &Recovery, sources: &Sources<'_>) -> Self {
        let (spec, status, folders) = (sources.spec, sources.status, Folders::of(name));
        let recovery = status.recoveries.get(name);
        let seconds = |seconds: u64| duration(Duration::from_secs(seconds));
        let last = recovery.and_then(|it| it.last_whole.as_ref());
        let command = format!("backstay rebuild --recovery {name}");
        Self {
            name: name.clone(),
            fleet: spec.fleet.name.to_string(),
            revision: short_revision(sources.revision).to_owned(),
            when: declared.description.clone().unwrap_or_else(|| "What it names is lost".to_owned()),
            contacts: contacts(spec, declared),
            rto: declared.rto(spec).map(duration),
            estimate: recovery.and_then(|it| it.estimate).map(|estimate| seconds(estimate.seconds)),
            last: last.and_then(|last| {
                Some(format!("{}, in {}", moment(last.began, &status.zone), seconds(last.seconds?)))
            }),
            resume: format!("{command} --resume"),
            command,
            cannot: sources.plan.as_ref().err().cloned(),
            infra: reach::INFRA,
            files: reach::files(spec, &folders).into_iter().map(FileLines::from).collect(),
            steps: sources.plan.as_ref().map(|plan| steps(plan, sources, &folders)).unwrap_or_default(),
            objectives: objectives(spec, declared, status),
            mermaid: sources.plan.as_ref().map(|plan| recovery::diagram(plan)).unwrap_or_default(),
            svg: sources.plan.as_ref().map(|plan| drawing::svg(plan)).unwrap_or_default(),
        }
    }

    /// The files that its lines name, by their paths from the folder of the document: they hold no secret.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        let of_steps = self.steps.iter().flat_map(|step| &step.files);
        self.files.iter().chain(of_steps).map(|file| (file.path.as_str(), file.content.as_str()))
    }

    /// The document, by the infra repo's template where it has one.
    ///
    /// # Errors
    /// A template that is faulty, or that asks for what is not defined.
    pub async fn render(&self, format: Format, templates: &Templates) -> Result<String, TemplateError> {
        templates.render(format.template(), self).await
    }
}

/// Whom to call: the recovery's own contact first, and those of what it restores.
fn contacts(spec: &Spec, declared: &Recovery) -> Vec<ContactLine> {
    let own = declared.contact.as_ref().map(|contact| (contact, "this recovery".to_owned()));
    let backups = restored(declared)
        .filter_map(|name| Some((spec.backups.get(name)?.contact.as_ref()?, format!("backup {name}"))));
    let line = |(name, of)| {
        let Contact { name, role, email, phone } = spec.contacts.get(name)?.clone();
        let text = |text: Option<String>| text.unwrap_or_default();
        Some(ContactLine { name, role: text(role), email: text(email), phone: text(phone), of })
    };
    own.into_iter().chain(backups).filter_map(line).collect()
}

fn restored(declared: &Recovery) -> impl Iterator<Item = &BackupName> {
    declared.steps.iter().filter_map(|step| step.action.restores())
}

fn objectives(spec: &Spec, declared: &Recovery, status: &Status) -> Vec<ObjectiveLine> {
    let line = |name: &BackupName| {
        let policy = &spec.backups.get(name)?.policy;
        let length = |length: Option<Duration>| length.map_or("none".to_owned(), duration);
        let newest = status.backups.get(name).and_then(|backup| backup.newest.as_ref());
        let passed = status.drills.values().filter(|drill| drill.backup() == Some(name));
        let passed = passed.filter_map(|drill| drill.last_passed).max();
        let at = |time| moment(time, &status.zone);
        Some(ObjectiveLine {
            backup: name.clone(),
            rpo: length(policy.rpo),
            rto: length(policy.rto),
            newest: newest.map_or("never".to_owned(), |point| at(point.at)),
            drilled: passed.map_or("never".to_owned(), at),
        })
    };
    restored(declared).filter_map(line).collect()
}

fn steps(plan: &Plan, sources: &Sources<'_>, folders: &Folders) -> Vec<StepLine> {
    let of_step = |step: &Step| match &step.action {
        Action::Recover(recover) => Some(step_line(step, recover, sources, folders)),
        _ => None,
    };
    plan.steps.iter().filter_map(of_step).collect()
}

fn step_line(step: &Step, recover: &Recover, sources: &Sources<'_>, folders: &Folders) -> StepLine {
    let id: PartId = recover.id();
    let MadeByHand { files, hands } = by_hand::of(&recover.work, sources, folders);
    let last = sources.measured.and_then(|run| run.told.get(&id));
    StepLine {
        number: step.id.0 + 1,
        stage: recover.stage.as_str(),
        what: recover.work.to_string(),
        after: step.after.iter().map(|id| id.0 + 1).collect(),
        expected: last.map(|it| recovery::lasted(it.milliseconds)),
        files: files.into_iter().map(FileLines::from).collect(),
        by_hand: hands.into_iter().map(HandLine::from).collect(),
    }
}
