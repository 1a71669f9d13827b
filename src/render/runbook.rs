//! Runbooks: a document for each recovery, from the same plan that the executor would run were every machine gone.

mod drawing;

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{duration, moment, recovery, short_revision};
use crate::{
    artifact::{ArtifactId, recovered::PartId},
    inventory::RecoveryRun,
    plan::{
        Action, Plan, Step,
        action::{Recover, Restore, Work},
        by_hand::{self, Hand, Line, Place},
    },
    spec::{
        Ansible, Contact, Ready, Recovery, RecoveryAction, Spec,
        names::{BackupName, RecoveryName},
    },
    status::Status,
    templates::{TemplateError, Templates},
};

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
    /// What making each machine would do.
    pub previews: &'a recovery::Previews,
    /// The names of the streams of artifacts.
    pub streams: &'a BTreeMap<ArtifactId, String>,
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
    made: String,
    when: String,
    contacts: Vec<ContactLine>,
    rto: Option<String>,
    estimate: Option<String>,
    last: Option<String>,
    command: String,
    resume: String,
    cannot: Option<String>,
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
    by_hand: Vec<HandLine>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct HandLine {
    text: String,
    is_command: bool,
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
        let (spec, status) = (sources.spec, sources.status);
        let recovery = status.recoveries.get(name);
        let seconds = |seconds: u64| duration(Duration::from_secs(seconds));
        let last = recovery.and_then(|it| it.last_whole.as_ref());
        let command = format!("backstay rebuild --recovery {name}");
        Self {
            name: name.clone(),
            fleet: spec.fleet.name.to_string(),
            revision: short_revision(sources.revision).to_owned(),
            made: moment(status.at, &status.zone),
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
            steps: sources.plan.as_ref().map(|plan| steps(plan, sources)).unwrap_or_default(),
            objectives: objectives(spec, declared, status),
            mermaid: sources.plan.as_ref().map(|plan| recovery::diagram(plan)).unwrap_or_default(),
            svg: sources.plan.as_ref().map(|plan| drawing::svg(plan)).unwrap_or_default(),
        }
    }

    /// The document, by the infra repo's template where it has one.
    ///
    /// # Errors
    /// A template that is faulty, or that asks for what is not defined.
    pub fn render(&self, format: Format, templates: &Templates) -> Result<String, TemplateError> {
        templates.render(format.template(), self)
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
    declared.steps.iter().filter_map(|step| match &step.action {
        RecoveryAction::Restore(backup) => Some(backup),
        _ => None,
    })
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

fn steps(plan: &Plan, sources: &Sources<'_>) -> Vec<StepLine> {
    let of_step = |step: &Step| match &step.action {
        Action::Recover(recover) => Some(step_line(step, recover, sources)),
        _ => None,
    };
    plan.steps.iter().filter_map(of_step).collect()
}

fn step_line(step: &Step, recover: &Recover, sources: &Sources<'_>) -> StepLine {
    let id: PartId = recover.id();
    let last = sources.measured.and_then(|run| run.told.get(&id));
    StepLine {
        number: step.id.0 + 1,
        stage: recover.stage.as_str(),
        what: recover.work.to_string(),
        after: step.after.iter().map(|id| id.0 + 1).collect(),
        expected: last.map(|it| recovery::lasted(it.milliseconds)),
        by_hand: by_hand(step, &recover.work, sources),
    }
}

fn by_hand(step: &Step, work: &Work, sources: &Sources<'_>) -> Vec<HandLine> {
    let know = |text: String| vec![HandLine { text, is_command: false }];
    let hands = match work {
        Work::Provision(vm) | Work::Remove { vm, .. } => {
            // Of one that is there its maker tells nothing.
            let told = match sources.previews.get(&step.id) {
                Some(Ok(lines)) => lines.clone(),
                Some(Err(_)) | None => Vec::new(),
            };
            let told = told.into_iter().map(|text| HandLine { text, is_command: false });
            return know(format!("machine {vm}, from its template")).into_iter().chain(told).collect();
        }
        Work::Configure(vm) => match sources.spec.vms.get(vm).and_then(|vm| vm.ansible.as_ref()) {
            Some(ansible) => vec![Hand::Type(playbook(ansible))],
            None => vec![Hand::Know(format!("see that ssh reaches {vm}"))],
        },
        Work::Deploy(ansible) => vec![Hand::Type(playbook(ansible))],
        Work::Run { command, on: None, .. } => {
            vec![Hand::Type(Line { program: command.clone(), input: None })]
        }
        Work::Run { command, on: Some(vm), .. } => {
            // ssh hands the words on to a shell there: what is typed is quoted once more.
            let remote = Line { program: command.clone(), input: None }.to_string();
            vec![Hand::Type(Line { program: vec!["ssh".into(), vm.to_string(), remote], input: None })]
        }
        Work::Wait { until: Ready::Http(url), .. } => {
            let program = ["curl", "--fail", "--silent", "--show-error", url].map(str::to_owned).into();
            vec![Hand::Type(Line { program, input: None })]
        }
        Work::Wait { until, .. } => vec![Hand::Know(format!("see that {until}"))],
        Work::Restore { restore, .. } => restored_by_hand(restore, sources),
    };
    hands
        .into_iter()
        .map(|hand| match hand {
            Hand::Type(line) => HandLine { text: line.to_string(), is_command: true },
            Hand::Know(text) => HandLine { text, is_command: false },
        })
        .collect()
}

fn playbook(ansible: &Ansible) -> Line {
    let inventory = ansible.inventory.iter().flat_map(|path| ["--inventory".to_owned(), path.clone()]);
    let limit = ansible.limit.iter().flat_map(|limit| ["--limit".to_owned(), limit.clone()]);
    let words = ["ansible-playbook".to_owned()].into_iter().chain(inventory).chain(limit);
    Line { program: words.chain([ansible.playbook.clone()]).collect(), input: None }
}

fn restored_by_hand(restore: &Restore, sources: &Sources<'_>) -> Vec<Hand> {
    let spec = sources.spec;
    let (Some(backup), Some(store)) = (spec.backups.get(&restore.backup), spec.stores.get(&restore.store))
    else {
        return Vec::new();
    };
    let Some(point) = restore.artifacts.last() else { return Vec::new() };
    let (fleet, folder) = (&spec.fleet.name, spec.moved.folder(&restore.backup));
    let out = format!("out-{folder}");
    let place = Place {
        script: "restore.sh".to_owned(),
        signers: "allowed_signers".to_owned(),
        identity: "identity.txt".to_owned(),
        store: "STORE".to_owned(),
        out: out.clone(),
    };
    let named = |(number, id): (usize, &ArtifactId)| {
        let stream = sources.streams.get(id).map_or("FILE", String::as_str);
        format!("{out}/{:02}-{stream}", number + 1)
    };
    let files: Vec<String> = restore.artifacts.iter().enumerate().map(named).collect();
    let mut hands = by_hand::fetch(&store.place, fleet, &folder, "STORE");
    hands.push(Hand::Type(by_hand::bring(&place, fleet, &folder, *point)));
    if !restore.logs.is_empty() {
        hands.push(Hand::Know(format!(
            "this brings back the data of {point}; its {} logs are brought out by the same command, and replayed as \
             docs/any-second.md says",
            restore.logs.len()
        )));
    }
    hands.extend(by_hand::load(&backup.source, &files, &format!("{out}-restored")));
    hands
}
