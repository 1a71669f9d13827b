//! What drifted, as text.

use std::fmt::Write;

use comfy_table::{ContentArrangement, Table, presets};
use jiff::tz::TimeZone;

use super::{Palette, WIDEST, count, moment, told};
use crate::status::drifted::{Drifted, Healing, Report};

/// What drifted, how that is known and what becomes of it; what could not be seen; and what fights back.
pub fn text(report: &Report, zone: &TimeZone, palette: Palette) -> String {
    let mut out = String::new();
    if !report.drifts.is_empty() {
        out.push_str(&table(report, zone, palette).trim_fmt());
        out.push_str("\n\n");
    }
    for unseen in &report.unseen {
        let _ = writeln!(out, "{} {} could not be seen: {}", palette.warn("!"), unseen.subject, unseen.why);
    }
    for heals in report.heals.iter().filter(|heals| heals.is_fight) {
        let last = moment(heals.last, zone);
        let _ = writeln!(
            out,
            "{} {}: {}, last at {last}: something undoes it",
            palette.bad("!"),
            heals.subject,
            heals.told
        );
    }
    out.push_str(&summary(report));
    out
}

fn table(report: &Report, zone: &TimeZone, palette: Palette) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["WHAT", "FOUND", "KNOWN BY", "HEALED BY"]);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDEST);
    for drifted in &report.drifts {
        let drift = &drifted.drift;
        table.add_row([
            palette.strong(&drift.subject),
            told(&format!("{} (expected: {})", drift.found, drift.expected), zone),
            told(&drift.evidence, zone),
            healing(drifted, zone, palette),
        ]);
    }
    table
}

fn healing(drifted: &Drifted, zone: &TimeZone, palette: Palette) -> String {
    match &drifted.healing {
        Healing::Next { step } => format!("the next pass: {step}"),
        Healing::Later { at } => {
            palette.warn(format!("a pass from {} on: something undoes it", moment(*at, zone)))
        }
        Healing::Off { resource } => {
            palette.warn(format!("you: self-heal of {resource} is off; `backstay apply --heal {resource}`"))
        }
        Healing::None { remedy } => palette.bad(format!("nothing: {remedy}")),
    }
}

fn summary(report: &Report) -> String {
    let unseen = match report.unseen.len() {
        0 => String::new(),
        number => format!("; {} could not be seen", count(number, "thing", "things")),
    };
    match report.drifts.len() {
        0 => format!("Nothing drifted{unseen}.\n"),
        number => format!("{} drifted{unseen}.\n", count(number, "thing", "things")),
    }
}
