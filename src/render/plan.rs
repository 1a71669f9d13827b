//! A [`Plan`] as text.

use std::fmt::Write;

use jiff::tz::TimeZone;

use super::{COLUMNS, Palette, count, duration, moment, short_revision, told};
use crate::{
    artifact::{ArtifactId, approval::PlanHash},
    plan::{Action, Approved, Plan, Step, Withheld, action::Rehearse, withheld_deed},
    spec::Cadence,
};

/// How many artifacts are named that would go.
const MOST_SHOWN: usize = 10;

/// What a pass would do and why, what waits and on what, and what is held back.
pub fn text(plan: &Plan, palette: Palette) -> String {
    let mut out = heading(plan, palette);
    steps(&mut out, plan, palette);
    waiting(&mut out, plan, palette);
    withheld(&mut out, plan, palette);
    approved(&mut out, &plan.approved, &plan.zone, palette);
    cannot_run(&mut out, plan, palette);
    if !out.ends_with("\n\n") {
        out.push('\n');
    }
    out.push_str(&summary(plan));
    out
}

fn heading(plan: &Plan, palette: Palette) -> String {
    let revision = short_revision(&plan.revision);
    format!("{} at revision {revision}, {}\n\n", palette.strong(&plan.fleet), moment(plan.at, &plan.zone))
}

/// A reason stands beside its step where that fits, and below it where it does not.
fn steps(out: &mut String, plan: &Plan, palette: Palette) {
    // The reason for arming a schedule is what it says: once is enough.
    let rows: Vec<(&Step, String)> = plan.steps.iter().map(|step| (step, step.action.to_string())).collect();
    let widths = rows.iter().map(|(_, action)| action.chars().count());
    let width = widths.filter(|width| *width <= COLUMNS / 2).max().unwrap_or(0);
    for (step, action) in &rows {
        let (sign, reason) = (sign(&step.action, palette), told(&step.reason, &plan.zone));
        let fits = action.chars().count() <= width && 6 + width + reason.chars().count() <= COLUMNS;
        let reason = palette.faint(reason);
        let _ = match fits {
            true => writeln!(out, "  {sign} {action:width$}  {reason}"),
            false => writeln!(out, "  {sign} {action}\n      {reason}"),
        };
        if let Action::Rehearse(rehearse) = &step.action {
            parts(out, rehearse, palette);
        }
    }
    if !rows.is_empty() {
        out.push('\n');
    }
}

/// What a drill does on machines of its own, and what it leaves out.
fn parts(out: &mut String, rehearse: &Rehearse, palette: Palette) {
    for part in &rehearse.parts {
        let _ = writeln!(out, "      {:>2} {}", part.step, part.work);
    }
    for left in &rehearse.left_out {
        let _ = writeln!(out, "      {}", palette.faint(format!("left out: {left}")));
    }
}

fn waiting(out: &mut String, plan: &Plan, palette: Palette) {
    for wait in &plan.waiting {
        let until = wait.until.map(|time| format!(" until {}", moment(time, &plan.zone)));
        let (sign, on) = (palette.warn("…"), told(&wait.on, &plan.zone));
        let _ = writeln!(out, "  {sign} {} waits{}: {on}", wait.what, until.unwrap_or_default());
    }
}

fn withheld(out: &mut String, plan: &Plan, palette: Palette) {
    for held in &plan.withheld {
        let sign = palette.warn("!");
        let _ = writeln!(
            out,
            "  {sign} {} are withheld: {}",
            withheld_deed(&held.backup, held.store.as_ref()),
            told(&held.reason, &plan.zone)
        );
        if let Some(hash) = held.to_approve() {
            if !held.artifacts.is_empty() {
                let _ = writeln!(out, "{}", goes(held, palette));
            }
            let _ = writeln!(out, "      {}", to_approve(held, hash));
        }
    }
}

/// What would go, were it approved.
fn goes(held: &Withheld, palette: Palette) -> String {
    let shown: Vec<String> = held.artifacts.iter().take(MOST_SHOWN).map(ArtifactId::to_string).collect();
    let more = match held.artifacts.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more, which `backstay plan -o json` lists"),
    };
    palette.faint(format!("      {}{more}", shown.join("\n      ")))
}

/// How a person approves a plan that a rule holds back.
pub fn to_approve(held: &Withheld, plan: PlanHash) -> String {
    let what = if held.store.is_some() { "let exactly these go" } else { "have exactly this done" };
    format!("to {what}: backstay approve {} --reason WHY", plan.short())
}

/// What a person approved.
pub(super) fn approved(out: &mut String, approved: &[Approved], zone: &TimeZone, palette: Palette) {
    for approved in approved {
        let Approved { backup, store, warrant, until } = approved;
        let until = moment(*until, zone);
        let sign = palette.good("✓");
        let _ = writeln!(
            out,
            "  {sign} {} are approved until {until} by {warrant}",
            withheld_deed(backup, store.as_ref())
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
    let waits = match plan.waiting.len() {
        0 => String::new(),
        1 => "; 1 thing waits".to_owned(),
        more => format!("; {more} things wait"),
    };
    if plan.steps.is_empty() {
        let now = if waits.is_empty() { "" } else { " now" };
        return format!("Nothing to do{now}{waits}.\n");
    }
    let of = |matches: fn(&Action) -> bool| plan.steps.iter().filter(|step| matches(&step.action)).count();
    let captures = of(|action| matches!(action, Action::Capture(_)));
    let copies = of(|action| matches!(action, Action::Copy { .. }));
    let deletions = of(|action| matches!(action, Action::Delete { .. }));
    let others = plan.steps.len() - captures - copies - deletions;
    let kinds = [
        (captures, "capture", "captures"),
        (copies, "copy", "copies"),
        (deletions, "deletion", "deletions"),
        (others, "other", "others"),
    ];
    let kinds = kinds.into_iter().filter(|(number, ..)| *number > 0);
    let kinds: Vec<String> = kinds.map(|(number, one, many)| count(number, one, many)).collect();
    format!("{}: {}{waits}.\n", count(plan.steps.len(), "step", "steps"), kinds.join(", "))
}

fn sign(action: &Action, palette: Palette) -> String {
    match action {
        Action::Arm(_) | Action::Capture(_) | Action::Copy { .. } | Action::Push { .. } => palette.good("+"),
        Action::Disarm(_) | Action::Delete { .. } | Action::Sweep { .. } => palette.bad("-"),
        Action::Repair { .. }
        | Action::Restore(_)
        | Action::Recover(_)
        | Action::Protect(_)
        | Action::Rewind { .. } => palette.warn("~"),
        Action::Verify { .. }
        | Action::Drill(_)
        | Action::Rehearse(_)
        | Action::ClearAway { .. }
        | Action::ClearPreviews { .. }
        | Action::RecordUnreferenced { .. }
        | Action::CleanUp { .. }
        | Action::DeleteDrillCopy { .. }
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
