//! A [`Status`] as text.

use std::{fmt::Write, time::Duration};

use comfy_table::{Table, presets};

use super::{Palette, bytes, duration, moment, short_revision};
use crate::{
    spec::names::{BackupName, StoreName},
    status::{
        BackupStatus, Concern, Declared, ObjectiveState, Status, StoreState, StoreStatus, StoredStatus,
    },
};

/// The whole fleet: what is in force, every backup, every store, and what somebody should know.
pub fn text(status: &Status, palette: Palette) -> String {
    let mut out = heading(status, palette);
    section(&mut out, &backups(status.backups.iter(), palette));
    section(&mut out, &stores(status, palette));
    conditions(&mut out, status, |_| true, palette);
    out
}

/// One backup.
pub fn of_backup(status: &Status, name: &BackupName, palette: Palette) -> String {
    let mut out = heading(status, palette);
    section(&mut out, &backups(status.backups.iter().filter(|(other, _)| *other == name), palette));
    conditions(&mut out, status, |subject| subject == format!("backup.{name}"), palette);
    out
}

fn heading(status: &Status, palette: Palette) -> String {
    let revision = |id: &Option<String>| id.as_deref().map_or("none", short_revision).to_owned();
    let in_force = revision(&status.revisions.in_force);
    let mut out = format!("{} at {}\n", palette.strong(&status.fleet), moment(status.at));
    let _ = writeln!(out, "revision {in_force} is in force");
    if let Some(why) = &status.revisions.refused {
        let _ = writeln!(out, "{} {why}", palette.warn("!"));
    }
    out.push('\n');
    out
}

fn section(out: &mut String, table: &Table) {
    out.push_str(&table.trim_fmt());
    out.push_str("\n\n");
}

fn table<'a>(heads: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads.into_iter().collect::<Vec<_>>());
    table
}

fn backups<'a>(all: impl Iterator<Item = (&'a BackupName, &'a BackupStatus)>, palette: Palette) -> Table {
    let mut table = table(["BACKUP", "NEWEST DATA", "AGE", "OBJECTIVE", "NEXT", "STORED"]);
    for (name, backup) in all {
        table.add_row([
            palette.strong(name),
            backup.newest.as_ref().map_or_else(|| palette.bad("never"), |point| moment(point.at)),
            backup.age_seconds.map_or_else(String::new, age),
            objective(backup, palette),
            next(backup, name, palette),
            backup
                .stores
                .iter()
                .map(|(store, stored)| kept(store, stored, palette))
                .collect::<Vec<_>>()
                .join(", "),
        ]);
    }
    table
}

fn age(seconds: i64) -> String {
    match u64::try_from(seconds) {
        Ok(seconds) => duration(Duration::from_secs(seconds)),
        Err(_) => "in the future".to_owned(),
    }
}

fn objective(backup: &BackupStatus, palette: Palette) -> String {
    let Some(objective) = &backup.objective else { return palette.faint("none") };
    let within = duration(Duration::from_secs(objective.seconds));
    match objective.state {
        ObjectiveState::Met => palette.good(format!("{within} met")),
        ObjectiveState::Breached => palette.bad(format!("{within} breached")),
        ObjectiveState::NeverSucceeded => palette.bad(format!("{within} never met")),
        ObjectiveState::Unknown(_) => palette.warn(format!("{within} unknown")),
    }
}

fn next(backup: &BackupStatus, name: &BackupName, palette: Palette) -> String {
    if backup.cannot_run.is_some() {
        return palette.warn("cannot run here");
    }
    if backup.declared == Declared::Orphaned {
        return palette.faint("not declared");
    }
    if name.is_infra() {
        return "on every commit".to_owned();
    }
    let soonest = backup.schedules.iter().filter_map(|schedule| Some((schedule.next?, schedule.kind))).min();
    soonest.map_or_else(|| palette.faint("none"), |(at, kind)| format!("{kind} {}", moment(at)))
}

fn kept(store: &StoreName, stored: &StoredStatus, palette: Palette) -> String {
    if stored.unknown.is_some() {
        return palette.warn(format!("{store} unknown"));
    }
    let mut text = format!("{store} {}", stored.artifacts);
    if stored.missing > 0 {
        let _ = write!(text, " {}", palette.warn(format!("{} missing", stored.missing)));
    }
    if !stored.damaged.is_empty() {
        let _ = write!(text, " {}", palette.bad(format!("{} damaged", stored.damaged.len())));
    }
    text
}

fn stores(status: &Status, palette: Palette) -> Table {
    let mut table = table(["STORE", "STATE", "USED", "LOCATION"]);
    for (name, store) in &status.stores {
        table.add_row([
            palette.strong(name),
            state(store, palette),
            used(store),
            store.location.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn state(store: &StoreStatus, palette: Palette) -> String {
    match &store.state {
        StoreState::Ready => palette.good("ready"),
        StoreState::Empty => palette.good("empty"),
        StoreState::Refused(_) => palette.bad("refused"),
        StoreState::Unknown(_) => palette.warn("unknown"),
    }
}

fn used(store: &StoreStatus) -> String {
    match (store.bytes, store.capacity) {
        (Some(used), Some(capacity)) => format!("{} of {}", bytes(used), bytes(capacity)),
        (Some(used), None) => bytes(used),
        (None, _) => String::new(),
    }
}

fn conditions(out: &mut String, status: &Status, wanted: impl Fn(&str) -> bool, palette: Palette) {
    let shown: Vec<_> = status.conditions.iter().filter(|condition| wanted(&condition.subject)).collect();
    for condition in &shown {
        let sign = match condition.concern {
            Concern::BadRevision
            | Concern::NeverSucceeded
            | Concern::ObjectiveBreached
            | Concern::Damaged
            | Concern::StoreRefused => palette.bad("✗"),
            _ => palette.warn("!"),
        };
        let _ = writeln!(out, "{sign} {}: {}", palette.strong(&condition.subject), condition.message);
    }
    if shown.is_empty() {
        let _ = writeln!(out, "{}", palette.good("Nothing needs your eye."));
    }
}
