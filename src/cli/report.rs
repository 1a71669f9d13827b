//! What a pass means for the person who asked for it: words, and the exit code.

use serde::Serialize;

use super::{Output, exit::Exit, terminal::Terminal};
use crate::{
    apply::executor::Outcome,
    plan::{Plan, Step},
    reconcile::{Ending, Pass},
    render,
    spec::names::FleetName,
    status::Overall,
};

/// Tells on stderr what people must know of the pass besides its plan.
pub(super) fn circumstances(pass: &Pass, terminal: &Terminal) {
    notes(pass, terminal).iter().for_each(|note| terminal.note(note));
}

/// What people must know of the pass besides its plan.
pub(super) fn notes(pass: &Pass, terminal: &Terminal) -> Vec<String> {
    let unreachable =
        pass.unreachable.as_ref().map(|why| format!("{why}; what was fetched before is in force"));
    let obstacle = pass.obstacle.as_ref().map(|obstacle| {
        let in_force = render::short_revision(&pass.revision.id);
        format!("{obstacle}\n  revision {in_force} stays in force")
    });
    let all = unreachable.into_iter().chain(obstacle).chain(pass.unrecorded.iter().cloned());
    all.map(|note| format!("{} {note}", terminal.stderr.warn("!"))).collect()
}

/// Shows what a pass did.
pub(super) fn pass(pass: &Pass, terminal: &Terminal) -> anyhow::Result<()> {
    circumstances(pass, terminal);
    match terminal.output {
        Output::Text => {
            terminal.data(&render::outcomes::text(&pass.plan, &pass.outcomes, terminal.stdout))?
        }
        Output::Json => terminal.json("backstay.pass/1", &Told::of(pass))?,
    }
    Ok(())
}

/// Writes what a pass did to stdout as JSON on one line; of which fleet, where there are several.
pub(super) fn line(fleet: Option<&FleetName>, pass: &Pass, terminal: &Terminal) -> anyhow::Result<()> {
    terminal.json_line("backstay.pass/1", &Told { fleet, ..Told::of(pass) })
}

/// A pass for programs.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<&'a FleetName>,
    revision: &'a str,
    newest: &'a str,
    ended: Ending,
    plan: &'a Plan,
    outcomes: Vec<ToldStep<'a>>,
    unreachable: Option<&'a str>,
    obstacle: Option<String>,
    unrecorded: &'a [String],
}

/// What became of one step.
#[derive(Serialize)]
struct ToldStep<'a> {
    step: &'a Step,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    damage: &'a [String],
}

impl<'a> Told<'a> {
    fn of(pass: &'a Pass) -> Self {
        let steps = pass.plan.steps.iter().filter_map(|step| Some(told(step, pass.outcomes.get(&step.id)?)));
        let newest = pass.obstacle.as_ref().and_then(|obstacle| obstacle.revision());
        Self {
            fleet: None,
            revision: &pass.revision.id,
            newest: newest.unwrap_or(&pass.revision.id),
            ended: pass.ending(),
            plan: &pass.plan,
            outcomes: steps.collect(),
            unreachable: pass.unreachable.as_deref(),
            obstacle: pass.obstacle.as_ref().map(ToString::to_string),
            unrecorded: &pass.unrecorded,
        }
    }
}

fn told<'a>(step: &'a Step, outcome: &'a Outcome) -> ToldStep<'a> {
    let (outcome, why, damage): (_, Option<&str>, &[String]) = match outcome {
        Outcome::Done(done) => ("done", done.note.as_deref(), &done.damage),
        Outcome::Failed(failure) => ("failed", Some(&failure.message), &[]),
        Outcome::Skipped(why) => ("skipped", Some(why), &[]),
        Outcome::Cancelled => ("cancelled", None, &[]),
    };
    ToldStep { step, outcome, why, damage }
}

/// How a command ends that did what it planned.
pub(super) fn applied(pass: &Pass) -> Exit {
    match pass.ending() {
        Ending::Damage => Exit::Damage,
        Ending::BadRevision => Exit::BadRevision,
        Ending::Withheld => Exit::Withheld,
        Ending::Partial => Exit::Partial,
        Ending::Done => Exit::Done,
    }
}

/// How a command ends that only planned.
pub(super) fn planned(pass: &Pass) -> Exit {
    match applied(pass) {
        Exit::Done | Exit::Partial if !pass.plan.steps.is_empty() => Exit::Pending,
        exit => exit,
    }
}

/// How a command ends that only looked.
pub(super) fn looked(overall: Overall) -> Exit {
    match overall {
        Overall::Healthy => Exit::Done,
        Overall::Partial => Exit::Partial,
        Overall::Withheld => Exit::Withheld,
        Overall::BadRevision => Exit::BadRevision,
    }
}
