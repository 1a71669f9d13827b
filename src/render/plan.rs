//! A [`Plan`] as text.

use std::fmt::Write;

use super::{Palette, count, duration, moment, short_revision};
use crate::{
    plan::{Action, Plan, Step},
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
        Action::Verify { .. }
        | Action::RecordUnreferenced { .. }
        | Action::CleanUp { .. }
        | Action::Settle { .. } => palette.faint("·"),
    }
}

/// An action in a few words: `capture full of agama into backup-server`.
pub fn phrase(action: &Action) -> String {
    match action {
        Action::Arm(armed) | Action::Disarm(armed) => format!("{action}: {}", cadence(&armed.cadence)),
        _ => action.to_string(),
    }
}

/// When something runs, as it is declared.
pub fn cadence(cadence: &Cadence) -> String {
    match cadence {
        Cadence::Cron(fields) => fields.to_string(),
        Cadence::Every(period) => format!("every {}", duration(*period)),
    }
}
