//! Recoveries as text: what is going to be done, in stages and as a diagram, and what came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::{Palette, WIDEST, count, duration, told};
use crate::{
    apply::executor::Outcome,
    artifact::recovered::{Part, RecoverySubject},
    plan::{Action, Plan, Step, StepId, action::Recover},
    spec::RecoveryStage,
};

/// What making each machine would do, or why that can't be told.
pub type Previews = BTreeMap<StepId, Result<Vec<String>, String>>;

/// The parts of a recovery among the steps of a plan.
fn parts(plan: &Plan) -> impl Iterator<Item = (&Step, &Recover)> {
    plan.steps.iter().filter_map(|step| match &step.action {
        Action::Recover(recover) => Some((step, recover.as_ref())),
        _ => None,
    })
}

/// What a recovery will do, stage by stage.
pub fn text(plan: &Plan, previews: &Previews, palette: Palette) -> String {
    let mut out = String::new();
    let mut stage: Option<RecoveryStage> = None;
    for (step, recover) in parts(plan) {
        if stage.replace(recover.stage) != Some(recover.stage) {
            let _ = writeln!(out, "{}", palette.strong(recover.stage.as_str()));
        }
        let after: Vec<String> = step.after.iter().map(|id| (id.0 + 1).to_string()).collect();
        let after = match after.is_empty() {
            true => String::new(),
            false => palette.faint(format!("  after {}", after.join(", "))),
        };
        let _ = writeln!(out, "  {:>2} {}{after}", step.id.0 + 1, recover.work);
        match previews.get(&step.id) {
            Some(Ok(lines)) => {
                let shown = lines.iter().map(|line| format!("       {}\n", palette.faint(line)));
                out.extend(shown);
            }
            Some(Err(why)) => out.push_str(&format!("       {} {why}\n", palette.warn("!"))),
            None => {}
        }
    }
    for wait in &plan.waiting {
        let _ = writeln!(out, "  {} {}: {}", palette.warn("-"), wait.what, told(&wait.on, &plan.zone));
    }
    let _ = writeln!(out, "\n{}.", count(parts(plan).count(), "step", "steps"));
    out
}

/// The order of a recovery as a flowchart of Mermaid, <https://mermaid.js.org/syntax/flowchart.html>.
pub fn diagram(plan: &Plan) -> String {
    let mut out = "flowchart TD\n".to_owned();
    let mut stages: BTreeMap<RecoveryStage, Vec<(&Step, &Recover)>> = BTreeMap::new();
    for (step, recover) in parts(plan) {
        stages.entry(recover.stage).or_default().push((step, recover));
    }
    for (stage, parts) in &stages {
        let _ = writeln!(out, "  subgraph {}", stage.as_str());
        for (step, recover) in parts {
            let _ = writeln!(
                out,
                "    s{}[\"{} {}\"]",
                step.id.0,
                step.id.0 + 1,
                quoted(&recover.work.to_string())
            );
        }
        out.push_str("  end\n");
    }
    for (step, after) in without_detours(plan) {
        let _ = writeln!(out, "  s{} --> s{}", after.0, step.0);
    }
    out
}

/// A text within the quotes of a node.
fn quoted(text: &str) -> String {
    text.replace('&', "#amp;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
}

/// What waits for what, without what follows from the rest.
fn without_detours(plan: &Plan) -> Vec<(StepId, StepId)> {
    let mut before: BTreeMap<StepId, BTreeSet<StepId>> = BTreeMap::new();
    for step in &plan.steps {
        let further = step.after.iter().filter_map(|id| before.get(id)).flatten().copied();
        let all = further.chain(step.after.iter().copied()).collect();
        before.insert(step.id, all);
    }
    let of_step = |step: &Step| {
        let is_detour = |id: &StepId| {
            step.after.iter().any(|other| before.get(other).is_some_and(|earlier| earlier.contains(id)))
        };
        step.after.iter().filter(|id| !is_detour(id)).map(|id| (step.id, *id)).collect::<Vec<_>>()
    };
    plan.steps.iter().flat_map(of_step).collect()
}

/// A recovery for whoever ran it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report<'a> {
    /// What was brought back.
    pub subject: &'a RecoverySubject,
    /// Every part, in the plan's order.
    pub steps: Vec<ReportedStep>,
    /// How long was worked for each purpose, milliseconds.
    pub worked: BTreeMap<Part, u64>,
    /// From the beginning, that of a first try that was cut off, to the end: milliseconds; `None` where it did not come to its end.
    pub milliseconds: Option<u64>,
    /// The longest that it may take, seconds.
    pub rto_seconds: Option<u64>,
}

/// A part of a recovery with what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportedStep {
    /// What is done.
    pub what: String,
    /// When it comes.
    pub stage: RecoveryStage,
    /// What came of it.
    pub outcome: StepOutcome,
    /// What it has to say, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How long it took, milliseconds; `None` where it was not tried.
    pub milliseconds: Option<u64>,
}

/// What came of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It is done.
    Done,
    /// It is not.
    Failed,
    /// It was not tried.
    NotTried,
}

impl<'a> Report<'a> {
    /// What came of a plan; `None` where it is of no recovery.
    pub fn of(plan: &'a Plan, outcomes: &BTreeMap<StepId, Outcome>, rto: Option<Duration>) -> Option<Self> {
        let (_, first) = parts(plan).next()?;
        let mut worked = BTreeMap::new();
        let mut ended = Some(first.run);
        let mut steps = Vec::new();
        for (step, recover) in parts(plan) {
            let outcome = outcomes.get(&step.id);
            if let Some(Outcome::Done(done)) = outcome
                && let Some(recovered) = &done.recovered
            {
                *worked.entry(recovered.id.part).or_insert(0) += recovered.milliseconds;
                ended = ended.map(|end| end.max(recovered.ended()));
            } else {
                ended = None;
            }
            steps.push(reported(recover, outcome));
        }
        let took = ended.map(|end| end.duration_since(first.run).unsigned_abs().as_millis());
        Some(Self {
            subject: &first.subject,
            steps,
            worked,
            milliseconds: took.map(|took| u64::try_from(took).unwrap_or(u64::MAX)),
            rto_seconds: rto.map(|rto| rto.as_secs()),
        })
    }

    fn with(&self, outcome: StepOutcome) -> impl Iterator<Item = &ReportedStep> {
        self.steps.iter().filter(move |step| step.outcome == outcome)
    }
}

fn reported(recover: &Recover, outcome: Option<&Outcome>) -> ReportedStep {
    let (word, note, milliseconds) = match outcome {
        Some(Outcome::Done(done)) => {
            (StepOutcome::Done, done.note.clone(), done.recovered.as_ref().map(|it| it.milliseconds))
        }
        Some(Outcome::Failed(failure)) => (StepOutcome::Failed, Some(failure.message.clone()), None),
        Some(Outcome::Skipped(why)) => (StepOutcome::NotTried, Some(why.clone()), None),
        Some(Outcome::Cancelled) | None => (StepOutcome::NotTried, None, None),
    };
    ReportedStep { what: recover.work.to_string(), stage: recover.stage, outcome: word, note, milliseconds }
}

/// What came of a recovery: each step with its time; and where it did not come to its end what works, what does not, and what to do.
pub fn report(report: &Report<'_>, palette: Palette) -> String {
    let mut out = format!("{}\n", table(report, palette));
    let worked: Vec<String> =
        report.worked.iter().map(|(part, took)| format!("{} {}", part.as_str(), lasted(*took))).collect();
    if !worked.is_empty() {
        let _ = writeln!(out, "\n{}", palette.faint(worked.join(", ")));
    }
    match report.milliseconds {
        Some(took) => whole(&mut out, report, took, palette),
        None => partial(&mut out, report, palette),
    }
    out
}

fn table(report: &Report<'_>, palette: Palette) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["", "STAGE", "STEP", "TOOK"]);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDEST);
    for step in &report.steps {
        let sign = match step.outcome {
            StepOutcome::Done => palette.good("✓"),
            StepOutcome::Failed => palette.bad("✗"),
            StepOutcome::NotTried => palette.warn("-"),
        };
        let note = step.note.iter().map(|note| format!("\n{note}"));
        let what = [step.what.clone()].into_iter().chain(note).collect::<String>();
        let took = step.milliseconds.map(lasted).unwrap_or_default();
        table.add_row([sign, step.stage.as_str().to_owned(), what, took]);
    }
    table.trim_fmt()
}

fn whole(out: &mut String, report: &Report<'_>, took: u64, palette: Palette) {
    let words = format!("{} is back after {}", report.subject, lasted(took));
    let _ = match report.rto_seconds {
        None => writeln!(out, "{}", palette.good(words)),
        Some(rto) => {
            let allowed = duration(Duration::from_secs(rto));
            match took <= rto.saturating_mul(1000) {
                true => {
                    writeln!(out, "{}", palette.good(format!("{words}, within the {allowed} of its RTO")))
                }
                false => writeln!(out, "{}", palette.bad(format!("{words}, and its RTO is {allowed}"))),
            }
        }
    };
}

fn partial(out: &mut String, report: &Report<'_>, palette: Palette) {
    let list = |outcome| report.with(outcome).map(|step| step.what.as_str()).collect::<Vec<_>>().join("; ");
    let (done, failed, left) =
        (list(StepOutcome::Done), list(StepOutcome::Failed), list(StepOutcome::NotTried));
    let _ = writeln!(out, "{}", palette.bad(format!("{} is not back", report.subject)));
    for (heading, steps) in [("done", done), ("failed", failed), ("not tried", left)] {
        if !steps.is_empty() {
            let _ = writeln!(out, "  {heading}: {steps}");
        }
    }
    let again = match report.subject {
        RecoverySubject::Recovery(name) => format!("--recovery {name}"),
        RecoverySubject::Vm(name) => name.to_string(),
    };
    let _ = writeln!(
        out,
        "  next: mend what failed, then `backstay rebuild {again} --resume` goes on; nothing that is done is done again"
    );
}

/// `1.2s`, or in words from a minute on.
pub(super) fn lasted(milliseconds: u64) -> String {
    let took = Duration::from_millis(milliseconds);
    match took.as_secs() {
        0..60 => format!("{:.1}s", took.as_secs_f64()),
        seconds => duration(Duration::from_secs(seconds)),
    }
}
