//! A [`Plan`] as text.

use std::fmt::Write;

use super::{Palette, count, duration, moment, short_revision};
use crate::{
    plan::{
        Action, Plan, Step,
        action::{Capture, Destination, Restore},
    },
    spec::Cadence,
};

/// What a pass would do and why, what waits and on what, and what is held back.
pub fn text(plan: &Plan, palette: Palette) -> String {
    let mut out = heading(plan, palette);
    steps(&mut out, plan, palette);
    waiting(&mut out, plan, palette);
    withheld(&mut out, plan, palette);
    cannot_run(&mut out, plan, palette);
    out.push_str(&summary(plan));
    out
}

fn heading(plan: &Plan, palette: Palette) -> String {
    let revision = short_revision(&plan.revision);
    format!("{} at revision {revision}, {}\n\n", palette.strong(&plan.fleet), moment(plan.at))
}

fn steps(out: &mut String, plan: &Plan, palette: Palette) {
    let rows: Vec<(&Step, String)> = plan.steps.iter().map(|step| (step, phrase(&step.action))).collect();
    let width = rows.iter().map(|(_, phrase)| phrase.len()).max().unwrap_or(0);
    for (step, phrase) in rows {
        let sign = sign(&step.action, palette);
        let _ = writeln!(out, "  {sign} {phrase:width$}  {}", palette.faint(&step.reason));
    }
    if !plan.steps.is_empty() {
        out.push('\n');
    }
}

fn waiting(out: &mut String, plan: &Plan, palette: Palette) {
    for wait in &plan.waiting {
        let until = wait.until.map(|time| format!(" until {}", moment(time))).unwrap_or_default();
        let _ = writeln!(out, "  {} {} waits for {}{until}", palette.warn("…"), wait.what, wait.on);
    }
}

fn withheld(out: &mut String, plan: &Plan, palette: Palette) {
    for held in &plan.withheld {
        let sign = palette.warn("!");
        let _ = writeln!(
            out,
            "  {sign} deletions of {} in {} withheld: {}",
            held.backup, held.store, held.reason
        );
    }
}

fn cannot_run(out: &mut String, plan: &Plan, palette: Palette) {
    for refused in &plan.cannot_run {
        let _ =
            writeln!(out, "  {} {} cannot run here: {}", palette.warn("!"), refused.resource, refused.why);
    }
}

fn summary(plan: &Plan) -> String {
    if plan.steps.is_empty() {
        return "Nothing to do.\n".to_owned();
    }
    let of = |matches: fn(&Action) -> bool| plan.steps.iter().filter(|step| matches(&step.action)).count();
    let captures = of(|action| matches!(action, Action::Capture(_)));
    let copies = of(|action| matches!(action, Action::Copy { .. }));
    let deletions = of(|action| matches!(action, Action::Delete { .. }));
    let others = plan.steps.len() - captures - copies - deletions;
    format!(
        "{}: {}, {}, {}, {}.\n",
        count(plan.steps.len(), "step", "steps"),
        count(captures, "capture", "captures"),
        count(copies, "copy", "copies"),
        count(deletions, "deletion", "deletions"),
        count(others, "other", "others"),
    )
}

fn sign(action: &Action, palette: Palette) -> String {
    match action {
        Action::Arm(_) | Action::Capture(_) | Action::Copy { .. } | Action::Push { .. } => palette.good("+"),
        Action::Disarm(_) | Action::Delete { .. } | Action::Sweep { .. } => palette.bad("-"),
        Action::Repair { .. } | Action::Restore(_) => palette.warn("~"),
        Action::Verify { .. } | Action::RecordUnreferenced { .. } | Action::CleanUp { .. } => {
            palette.faint("·")
        }
    }
}

/// An action in a few words: `capture full of agama into backup-server`.
pub fn phrase(action: &Action) -> String {
    match action {
        Action::Arm(armed) => format!("arm {} of {}: {}", armed.kind, armed.backup, cadence(&armed.cadence)),
        Action::Disarm(armed) => {
            format!("disarm {} of {}: {}", armed.kind, armed.backup, cadence(&armed.cadence))
        }
        Action::Capture(Capture { backup, kind, store, .. }) => {
            format!("capture {kind} of {backup} into {store}")
        }
        Action::Copy { backup, artifact, from, to } => {
            format!("copy {backup} {artifact} from {from} to {to}")
        }
        Action::Delete { backup, artifact, store } => format!("delete {backup} {artifact} in {store}"),
        Action::Verify { backup, artifact, store, depth } => {
            format!("verify {depth} of {backup} {artifact} in {store}")
        }
        Action::Repair { backup, artifact, store, from } => {
            format!("repair {backup} {artifact} in {store} from {from}")
        }
        Action::RecordUnreferenced { backup, store, captures } => {
            format!(
                "record unreferenced packs of {} of {backup} in {store}",
                count(captures.len(), "capture", "captures")
            )
        }
        Action::Sweep { backup, store, captures } => {
            format!("sweep packs of {} of {backup} in {store}", count(captures.len(), "capture", "captures"))
        }
        Action::CleanUp { backup, store, artifact } => {
            format!("clean up after {backup} {artifact} in {store}")
        }
        Action::Push { mirror } => format!("push to {mirror}"),
        Action::Restore(Restore { backup, artifacts, store, to }) => {
            let point = artifacts.last().map(ToString::to_string).unwrap_or_default();
            format!("restore {backup} {point} from {store} to {}", destination(to))
        }
    }
}

fn destination(to: &Destination) -> String {
    match to {
        Destination::Folder(path) => format!("folder {}", path.display()),
        Destination::File(path) => format!("file {}", path.display()),
        Destination::Database(name) => format!("database {name}"),
        Destination::InPlace => "the original".to_owned(),
    }
}

/// When something runs, as it is declared.
pub fn cadence(cadence: &Cadence) -> String {
    match cadence {
        Cadence::Cron(fields) => fields.to_string(),
        Cadence::Every(period) => format!("every {}", duration(*period)),
    }
}
