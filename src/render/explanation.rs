//! Why a backup is due, and why an artifact is kept, as text.

use std::{fmt::Write, time::Duration};

use jiff::tz::TimeZone;

use super::{Palette, count, duration, moment, plan::cadence, told};
use crate::{
    plan::due::{Dueness, SlotState},
    status::explain::{ArtifactExplanation, AskedBy, BackupExplanation, Fate, Held, Lineage},
};

/// Why a backup is due or not, and what comes next.
pub fn of_backup(explained: &BackupExplanation, palette: Palette) -> String {
    let mut out = format!("{}\n", palette.strong(&explained.backup));
    if let Some(folder) = &explained.stored_as {
        let _ = writeln!(out, "  stored as {folder}");
    }
    if let Some(why) = &explained.cannot_run {
        let _ = writeln!(out, "  {} cannot run here: {why}", palette.warn("!"));
    }
    asked_by(&mut out, explained, palette);
    for need in &explained.due {
        let _ = writeln!(out, "  due now: {}", told(need, &explained.zone));
    }
    if let Some(opens) = explained.window_opens {
        let opens = moment(opens, &explained.zone);
        let _ = writeln!(out, "  {} the window is closed until {opens}", palette.warn("…"));
    }
    for (kind, slots) in &explained.next {
        let slots: Vec<String> = slots.iter().map(|slot| moment(*slot, &explained.zone)).collect();
        let _ = writeln!(out, "  next {kind}: {}", slots.join(", "));
    }
    for (place, (store, held)) in explained.stores.iter().enumerate() {
        let role = match (explained.asked_by, place) {
            (AskedBy::Schedules, 0) => "takes the captures",
            (AskedBy::Schedules, _) => "gets copies",
            (AskedBy::Commits, _) => "gets a bundle of every commit",
            (AskedBy::Nothing { .. }, _) => "is not asked to keep it",
        };
        let held = match held {
            Held::Artifacts(number) => count(*number, "artifact", "artifacts"),
            Held::Unknown(why) => palette.warn(format!("unknown: {why}")),
        };
        let _ = writeln!(out, "  store {store} {role}: {held}");
    }
    for shallower in &explained.shallower_checks {
        let _ = writeln!(out, "  {} {shallower}", palette.warn("…"));
    }
    out
}

fn asked_by(out: &mut String, explained: &BackupExplanation, palette: Palette) {
    let name = &explained.backup;
    match explained.asked_by {
        AskedBy::Schedules => {
            for schedule in &explained.schedules {
                let _ = writeln!(out, "  {}", slot(schedule, &explained.zone, palette));
            }
            if explained.due.is_empty() {
                out.push_str("  nothing is due now\n");
            }
        }
        AskedBy::Commits => {
            out.push_str("  the infra repo itself: bundled on every commit\n");
            if explained.due.is_empty() {
                out.push_str("  every store that can be seen has the newest commit\n");
            }
        }
        AskedBy::Nothing { delete_after_seconds: None } => {
            let _ = writeln!(out, "  {} nothing declares it: no backup is made", palette.warn("!"));
            let _ = writeln!(out, "  its artifacts are kept until an [orphan.{name}] lets them go");
        }
        AskedBy::Nothing { delete_after_seconds: Some(seconds) } => {
            let age = duration(Duration::from_secs(seconds));
            let _ = writeln!(out, "  {} nothing declares it: no backup is made", palette.warn("!"));
            let _ = writeln!(out, "  [orphan.{name}] lets its artifacts go at the age of {age}");
        }
    }
}

fn slot(schedule: &Dueness, zone: &TimeZone, palette: Palette) -> String {
    let head = format!("{} ({})", schedule.kind, cadence(&schedule.cadence));
    let at = schedule.slot.map(|slot| moment(slot, zone)).unwrap_or_default();
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
    let zone = &explained.zone;
    if let Some(folder) = &explained.stored_as {
        let _ = writeln!(out, "  stored as {folder}");
    }
    let _ = writeln!(out, "  data of {}", moment(explained.newest, zone));
    match explained.slot {
        Some(slot) => {
            let _ = writeln!(out, "  fills slot {}", moment(slot, zone));
        }
        None => out.push_str("  fills no slot\n"),
    }
    for (store, fate) in &explained.stores {
        let fate = match fate {
            Fate::Judged(verdict) => told(&verdict.to_string(), zone),
            Fate::Orphaned => "kept: no declaration covers it".to_owned(),
            Fate::Unknown(why) => format!("{} ({why}); kept", palette.warn("unknown")),
            Fate::Damaged(what, verdict) => {
                format!("{} ({what}); {}", palette.bad("damaged"), told(&verdict.to_string(), zone))
            }
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
