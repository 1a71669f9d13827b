//! Why a backup is due, and why an artifact is kept, as text.

use std::fmt::Write;

use super::{Palette, moment, plan::cadence};
use crate::{
    plan::due::{Dueness, SlotState},
    status::explain::{ArtifactExplanation, BackupExplanation, Fate, Lineage},
};

/// Why a backup is due or not, and what comes next.
pub fn of_backup(explained: &BackupExplanation, palette: Palette) -> String {
    let mut out = format!("{}\n", palette.strong(&explained.backup));
    if let Some(why) = &explained.cannot_run {
        let _ = writeln!(out, "  {} cannot run here: {why}", palette.warn("!"));
    }
    for schedule in &explained.schedules {
        let _ = writeln!(out, "  {}", slot(schedule, palette));
    }
    match &explained.due {
        Some(need) => {
            let _ = writeln!(out, "  due now: {need}");
        }
        None => out.push_str("  nothing is due now\n"),
    }
    if let Some(opens) = explained.window_opens {
        let _ = writeln!(out, "  {} the window is closed until {}", palette.warn("…"), moment(opens));
    }
    for (kind, slots) in &explained.next {
        let slots: Vec<String> = slots.iter().map(|slot| moment(*slot)).collect();
        let _ = writeln!(out, "  next {kind}: {}", slots.join(", "));
    }
    for (place, (store, why_not)) in explained.stores.iter().enumerate() {
        let role = if place == 0 { "takes the captures" } else { "gets copies" };
        let fault = why_not.as_ref().map(|why| palette.warn(format!("; can't be used now: {why}")));
        let _ = writeln!(out, "  store {store} {role}{}", fault.unwrap_or_default());
    }
    for shallower in &explained.shallower_checks {
        let _ = writeln!(out, "  {} {shallower}", palette.warn("…"));
    }
    out
}

fn slot(schedule: &Dueness, palette: Palette) -> String {
    let head = format!("{} ({})", schedule.kind, cadence(&schedule.cadence));
    let at = schedule.slot.map(moment).unwrap_or_default();
    match &schedule.state {
        SlotState::NoneYet => format!("{head}: no slot has come yet"),
        SlotState::Filled(id) => format!("{head}: slot {at} is filled by {}", palette.good(id)),
        SlotState::Due => format!("{head}: slot {at} {}", palette.warn("is not filled")),
        SlotState::Skipped => format!("{head}: slot {at} was missed and is left out"),
        SlotState::CannotRun => format!("{head}: slot {at} can't be filled by this build"),
    }
}

/// Why an artifact is kept or may go in each store, and what hangs on it.
pub fn of_artifact(explained: &ArtifactExplanation, palette: Palette) -> String {
    let mut out =
        format!("{} {} of {}\n", palette.strong(explained.artifact), explained.kind, explained.backup);
    let _ = writeln!(out, "  data of {}", moment(explained.newest));
    match explained.slot {
        Some(slot) => {
            let _ = writeln!(out, "  fills slot {}", moment(slot));
        }
        None => out.push_str("  fills no slot\n"),
    }
    for (store, fate) in &explained.stores {
        let fate = match fate {
            Fate::Judged(verdict) => verdict.to_string(),
            Fate::Orphaned => "kept: no declaration covers it".to_owned(),
            Fate::Damaged(what, verdict) => format!("{} ({what}); {verdict}", palette.bad("damaged")),
        };
        let _ = writeln!(out, "  in {store}: {fate}");
    }
    for (store, why) in &explained.unseen {
        let _ = writeln!(out, "  in {store}: {} {why}", palette.warn("could not be seen:"));
    }
    lineage(&mut out, &explained.lineage);
    out
}

fn lineage(out: &mut String, lineage: &Lineage) {
    let mut line = |what: &str, ids: Vec<String>| {
        if !ids.is_empty() {
            let _ = writeln!(out, "  {what} {}", ids.join(", "));
        }
    };
    line("epoch", vec![lineage.epoch.to_string()]);
    line("shares segments of", lineage.base.iter().map(ToString::to_string).collect());
    line("segments shared by", lineage.based_on_it.iter().map(ToString::to_string).collect());
    line("a restore needs", lineage.requires.iter().map(ToString::to_string).collect());
    line("needed by restores of", lineage.required_by.iter().map(ToString::to_string).collect());
    line("replaces", lineage.supersedes.iter().map(ToString::to_string).collect());
    line("replaced by", lineage.superseded_by.iter().map(ToString::to_string).collect());
}
