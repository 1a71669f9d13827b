//! What became of a plan's steps, as text.

use std::{collections::BTreeMap, fmt::Write};

use super::{COLUMNS, Palette, count, plan::phrase};
use crate::{
    apply::executor::Outcome,
    plan::{Plan, StepId},
};

/// A line for every step, and a sum.
pub fn text(plan: &Plan, outcomes: &BTreeMap<StepId, Outcome>, palette: Palette) -> String {
    let mut out = String::new();
    let (mut done, mut damaged, mut unpassed, mut failed, mut left) = (0, 0, 0, 0, 0);
    for step in &plan.steps {
        let phrase = phrase(&step.action);
        let line = match outcomes.get(&step.id) {
            Some(Outcome::Done(found)) if found.damage.is_empty() => {
                done += 1;
                let note = found.note.as_deref().map(|note| {
                    let fits = phrase.chars().count() + note.chars().count() + 6 <= COLUMNS;
                    format!("{}{}", if fits { "  " } else { "\n    " }, palette.faint(note))
                });
                format!("{} {phrase}{}", palette.good("✓"), note.unwrap_or_default())
            }
            Some(Outcome::Done(found)) => {
                let what: String = found.damage.iter().map(|what| format!("\n    {what}")).collect();
                let drilled = found.drilled.as_ref().map(|report| &report.drilled.outcome);
                let rehearsed = found.rehearsed.as_ref().map(|report| &report.rehearsed.outcome);
                let word = match drilled.or(rehearsed) {
                    Some(outcome) => {
                        unpassed += 1;
                        outcome.to_string()
                    }
                    None => {
                        damaged += 1;
                        "damaged".to_owned()
                    }
                };
                format!("{} {phrase}: {}{what}", palette.bad("✗"), palette.bad(word))
            }
            Some(Outcome::Failed(failure)) => {
                failed += 1;
                format!("{} {phrase}\n    {}", palette.bad("✗"), failure.message)
            }
            Some(Outcome::Skipped(why)) => {
                left += 1;
                format!("{} {phrase}\n    not tried: {why}", palette.warn("-"))
            }
            Some(Outcome::Cancelled) | None => {
                left += 1;
                format!("{} {phrase}\n    stopped before its end", palette.warn("-"))
            }
        };
        let _ = writeln!(out, "  {line}");
    }
    if plan.steps.is_empty() {
        out.push_str("Nothing to do.\n");
    } else {
        let _ = writeln!(
            out,
            "\n{}",
            sum(
                done,
                [
                    (damaged, "found damaged"),
                    (unpassed, "not passed"),
                    (failed, "failed"),
                    (left, "not done")
                ]
            )
        );
    }
    out
}

fn sum(done: usize, others: [(usize, &str); 4]) -> String {
    let mut sum = count(done, "step done", "steps done");
    for (number, what) in others.into_iter().filter(|(number, _)| *number > 0) {
        let _ = write!(sum, ", {number} {what}");
    }
    sum + "."
}
