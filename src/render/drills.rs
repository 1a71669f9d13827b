//! What drills found, as text.

use std::{fmt::Write, time::Duration};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::tz::TimeZone;

use super::{Palette, WIDEST, duration, moment};
use crate::artifact::{
    drill::{DrillOutcome, DrillReport, Drilled, Finding, Isolation, Verdict},
    rehearsed::{RehearsalReport, Rehearsed},
};

/// A drill: how it ended, what it restored, how long it took, and each check with what was expected and found.
pub fn text(report: &DrillReport, zone: &TimeZone, palette: Palette) -> String {
    let Drilled { drill, artifact, store, point, stages, .. } = &report.drilled;
    let mut out = format!("{}: {}\n", palette.strong(drill), outcome(&report.drilled.outcome, palette));
    let logs = match report.drilled.logs {
        0 => String::new(),
        logs => format!(" and {logs} logs"),
    };
    let _ = writeln!(out, "  data of {}, from {artifact}{logs} in {store}", moment(*point, zone));
    if let Some(why) = &report.why {
        let _ = writeln!(out, "  {why}");
    }
    if let Some(age) = report.drilled.rpo_seconds {
        let _ = writeln!(out, "  newest data {} old", seconds(age));
    }
    if let Some(took) = report.drilled.rto_seconds {
        let _ = writeln!(out, "  usable after {}", seconds(took));
    }
    if let Some(isolation) = report.drilled.isolation {
        let _ = writeln!(out, "  sandbox kept apart by {}", apart(isolation));
    }
    let took: Vec<String> = stages.iter().map(|it| took(it.stage.as_str(), it.milliseconds)).collect();
    if !took.is_empty() {
        let _ = writeln!(out, "  {}", palette.faint(took.join(", ")));
    }
    table(&mut out, &report.findings, palette);
    out
}

/// The drill of a recovery: how it ended, what it restored, how long each step took, and each check.
pub fn rehearsal(report: &RehearsalReport, zone: &TimeZone, palette: Palette) -> String {
    let Rehearsed { drill, outcome, restored, parts, .. } = &report.rehearsed;
    let mut out = format!("{}: {}\n", palette.strong(drill), self::outcome(outcome, palette));
    for it in restored {
        let logs = if it.logs == 0 { String::new() } else { format!(" and {} logs", it.logs) };
        let at = moment(it.point, zone);
        let _ = writeln!(out, "  {}: data of {at}, from {}{logs} in {}", it.backup, it.artifact, it.store);
    }
    if let Some(why) = &report.why {
        let _ = writeln!(out, "  {why}");
    }
    if let Some(age) = report.rehearsed.rpo_seconds {
        let _ = writeln!(out, "  oldest data {} old", seconds(age));
    }
    if let Some(took) = report.rehearsed.rto_seconds {
        let _ = writeln!(out, "  usable after {}", seconds(took));
    }
    for left in &report.left {
        let _ = writeln!(out, "  {}", palette.faint(format!("left out: {left}")));
    }
    let took: Vec<String> =
        parts.iter().map(|it| took(&format!("{} {}", it.step, it.part.as_str()), it.milliseconds)).collect();
    if !took.is_empty() {
        let _ = writeln!(out, "  {}", palette.faint(took.join(", ")));
    }
    table(&mut out, &report.findings, palette);
    out
}

/// `load 2.4s`
fn took(what: &str, milliseconds: u64) -> String {
    format!("{what} {:.1}s", Duration::from_millis(milliseconds).as_secs_f64())
}

fn table(out: &mut String, found: &[Finding], palette: Palette) {
    if !found.is_empty() {
        let _ = writeln!(out, "\n{}", findings(found, palette).trim_fmt());
    }
}

fn apart(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Bubblewrap => "bubblewrap",
        Isolation::Files => "bubblewrap, with this host's network",
        Isolation::Network => "a network of its own; install bubblewrap for more",
        Isolation::None => "its settings and its user only; install bubblewrap for more",
    }
}

fn seconds(number: u64) -> String {
    duration(Duration::from_secs(number))
}

/// How a drill ended, in a word.
pub(super) fn outcome(outcome: &DrillOutcome, palette: Palette) -> String {
    match outcome {
        DrillOutcome::Passed => palette.good(outcome),
        DrillOutcome::Failed(_) => palette.bad(outcome),
        DrillOutcome::CouldNotRun(_) => palette.warn(outcome),
    }
}

fn findings(found: &[Finding], palette: Palette) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["CHECK", "EXPECTED", "FOUND", "VERDICT"]);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDEST);
    for finding in found {
        let verdict = finding.verdict.as_str();
        let verdict = match finding.verdict {
            Verdict::Passed => palette.good(verdict),
            Verdict::Failed => palette.bad(verdict),
            Verdict::CouldNotRun => palette.warn(verdict),
        };
        let plain =
            |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        table.add_row([plain(&finding.check), plain(&finding.expected), plain(&finding.found), verdict]);
    }
    table
}
