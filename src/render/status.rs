//! A [`Status`] as text.

use std::{fmt::Write, time::Duration};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::{Timestamp, tz::TimeZone};

use super::{Palette, WIDEST, bytes, count, duration, moment, short_revision, told};
use crate::{
    inventory::{Inferred, LogReader, Machine, Observed, ReaderState},
    plan::due::SlotState,
    spec::names::{BackupName, DrillName, StoreName},
    status::{
        BackupStatus, Concern, Declared, DrillStatus, LastDrill, ObjectiveState, ProviderStatus, Revisions,
        Status, StoreState, StoreStatus, StoredStatus,
    },
};

/// What stores hold of a backup is told on one line up to this length.
const SHORT: usize = 24;

/// The whole fleet: what is in force, every backup, every store, and what somebody should know.
pub fn text(status: &Status, palette: Palette) -> String {
    let mut out = heading(status, palette);
    section(&mut out, &backups(status.backups.iter(), status, palette));
    if !status.drills.is_empty() {
        section(&mut out, &drills(status.drills.iter(), status, palette));
    }
    if !status.machines.is_empty() {
        section(&mut out, &machines(status, palette));
    }
    if !status.recoveries.is_empty() {
        section(&mut out, &recoveries(status, palette));
    }
    section(&mut out, &stores(status, palette));
    conditions(&mut out, status, |_| true, palette);
    super::plan::approved(&mut out, &status.approved, &status.zone, palette);
    out
}

/// One backup.
pub fn of_backup(status: &Status, name: &BackupName, palette: Palette) -> String {
    let mut out = heading(status, palette);
    section(&mut out, &backups(status.backups.iter().filter(|(other, _)| *other == name), status, palette));
    if let Some(backup) = status.backups.get(name) {
        moments(&mut out, backup, &status.zone);
    }
    let own = || status.drills.iter().filter(|(_, drill)| drill.backup() == Some(name));
    if own().next().is_some() {
        section(&mut out, &drills(own(), status, palette));
    }
    let drills = own().map(|(drill, _)| format!("drill.{drill}"));
    let subjects: Vec<String> =
        [format!("backup.{name}"), name.to_string()].into_iter().chain(drills).collect();
    conditions(&mut out, status, |subject| subjects.iter().any(|known| known == subject), palette);
    out
}

/// What the table says in lengths of time, as moments.
fn moments(out: &mut String, backup: &BackupStatus, zone: &TimeZone) {
    if let Some(folder) = &backup.stored_as {
        let _ = writeln!(out, "stored as {folder}");
    }
    if let Some(newest) = &backup.newest {
        let stores: Vec<&str> = newest.stores.iter().map(StoreName::as_str).collect();
        let (kind, id, at) = (newest.kind, newest.artifact, moment(newest.at, zone));
        let _ = writeln!(out, "newest: {kind} {id}, data of {at}, in {}", stores.join(" and "));
    }
    for window in &backup.windows {
        let _ = writeln!(out, "any second of {} to {}", moment(window.start, zone), moment(window.end, zone));
    }
    if let Some(provider) = &backup.provider {
        let _ = writeln!(out, "{}", provides(provider, zone));
    }
    if let Some(kept) = &backup.kept_log {
        let limit = kept.limit.map_or("without a limit".to_owned(), |limit| format!("of {}", bytes(limit)));
        let _ =
            writeln!(out, "log that its server keeps: {} {limit}, by slot {}", bytes(kept.bytes), kept.slot);
    }
    if let Some(reader) = &backup.log_reader {
        let _ = writeln!(out, "{}", reads(reader, zone));
    }
    for schedule in &backup.schedules {
        if let Some(next) = schedule.next {
            let _ = writeln!(out, "next {}: {}", schedule.kind, moment(next, zone));
        }
    }
    out.push('\n');
}

/// What the provider keeps by itself, in the account of the data.
fn provides(provider: &ProviderStatus, zone: &TimeZone) -> String {
    let settings = match &provider.settings {
        Observed::Known(settings) => settings,
        Observed::Unknown(why) => return format!("its provider can't be seen: {why}"),
    };
    let window = settings.window.map(|window| {
        let (start, end) = (moment(window.start, zone), moment(window.end, zone));
        format!("; any second of {start} to {end} by it, as long as its account is there")
    });
    let inferred = settings.inferred.map(|Inferred(window)| {
        let (start, end) = (moment(window.start, zone), moment(window.end, zone));
        format!(
            "; inferred, and not told by it: any second of {start} to {end}, which counts for no objective"
        )
    });
    format!("its provider has {settings}{}", window.or(inferred).unwrap_or_default())
}

/// How the log is read as it is written.
fn reads(reader: &LogReader, zone: &TimeZone) -> String {
    let spool = bytes(reader.spool_bytes);
    match (reader.state, reader.complete) {
        (ReaderState::Up, Some(at)) => {
            format!("log read as it is written: all up to {}, {spool} in the spool", moment(at, zone))
        }
        (ReaderState::Up, None) => {
            format!("log read as it is written: not all that there is yet, {spool} in the spool")
        }
        (ReaderState::Down | ReaderState::Full, _) => {
            format!("log not read since {}, {spool} in the spool", moment(reader.since, zone))
        }
    }
}

fn heading(status: &Status, palette: Palette) -> String {
    let revision = |id: &Option<String>| id.as_deref().map_or("none", short_revision).to_owned();
    let in_force = revision(&status.revisions.in_force);
    let fleet = palette.strong(&status.fleet);
    let mut out = format!("{fleet} at {}\nrevision {in_force} is in force", moment(status.at, &status.zone));
    if status.revisions.refused.is_some() {
        let newest = status.revisions.newest.as_deref().map(|id| format!(" {}", short_revision(id)));
        out += &palette.warn(format!("; the newest one{} is not", newest.unwrap_or_default()));
    }
    let _ = write!(out, "\n{}\n\n", signatures(&status.revisions));
    out
}

fn signatures(revisions: &Revisions) -> String {
    match (&revisions.signer, revisions.verify) {
        (_, None) => "signatures are not verified".to_owned(),
        (Some(signer), Some(_)) => format!("signed by {} with {}", signer.principal, signer.fingerprint),
        (None, Some(_)) => "its signature does not count".to_owned(),
    }
}

fn section(out: &mut String, table: &Table) {
    out.push_str(&table.trim_fmt());
    out.push_str("\n\n");
}

fn table<'a>(heads: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads.into_iter().collect::<Vec<_>>());
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDEST);
    table
}

fn backups<'a>(
    all: impl Iterator<Item = (&'a BackupName, &'a BackupStatus)>,
    status: &Status,
    palette: Palette,
) -> Table {
    let mut table = table(["BACKUP", "NEWEST DATA", "OBJECTIVE", "NEXT", "STORED"]);
    for (name, backup) in all {
        table.add_row([
            palette.strong(name),
            newest(backup, palette),
            objective(backup, palette),
            next(backup, name, status.at, palette),
            stored(backup, palette),
        ]);
    }
    table
}

fn machines(status: &Status, palette: Palette) -> Table {
    let mut table = table(["MACHINE", "MADE BY", "STATE", "ADDRESS"]);
    for (name, machine) in &status.machines {
        let (state, address) = match (&machine.cannot_run, &machine.machine) {
            (Some(_), _) => (palette.warn("cannot run here"), String::new()),
            (None, Observed::Unknown(_)) => (palette.warn("unknown"), String::new()),
            (None, Observed::Known(Machine::Gone)) => (palette.bad("gone"), String::new()),
            (None, Observed::Known(Machine::Broken { .. })) => (palette.bad("broken"), String::new()),
            (None, Observed::Known(Machine::Running(running))) => {
                let address = running.address.as_ref().map(|at| format!("{}:{}", at.host, at.port));
                let state = match running.drift.is_empty() {
                    true => palette.good("runs"),
                    false => palette.warn("differs"),
                };
                (state, address.unwrap_or_default())
            }
        };
        table.add_row([name.to_string(), machine.provision.to_owned(), state, address]);
    }
    table
}

fn recoveries(status: &Status, palette: Palette) -> Table {
    let mut table = table(["RECOVERY", "LAST", "RESULT", "TOOK", "RTO"]);
    let length = |seconds| duration(Duration::from_secs(seconds));
    for (name, recovery) in &status.recoveries {
        let (last, result) = match (&recovery.cannot_run, &recovery.last) {
            (Some(_), _) => (String::new(), palette.warn("cannot run here")),
            (None, None) => (String::new(), palette.faint("never run")),
            (None, Some(last)) => {
                let result = match last.is_whole() {
                    true => palette.good("done"),
                    false => palette.bad(format!("{} of {}", last.done, last.parts)),
                };
                (moment(last.began, &status.zone), result)
            }
        };
        let took = recovery.last_whole.as_ref().and_then(|whole| whole.seconds).map(length);
        let rto = recovery.rto_seconds.map(length);
        let row = [name.to_string(), last, result, took.unwrap_or_default(), rto.unwrap_or_default()];
        table.add_row(row);
    }
    table
}

fn drills<'a>(
    all: impl Iterator<Item = (&'a DrillName, &'a DrillStatus)>,
    status: &Status,
    palette: Palette,
) -> Table {
    let mut table = table(["DRILL", "OF", "LAST", "RESULT", "RECOVERY TOOK", "NEXT"]);
    let length = |seconds: u64| duration(Duration::from_secs(seconds));
    for (name, drill) in all {
        let last = drill.last.as_ref();
        let ago = |last: &LastDrill| match u64::try_from(status.at.duration_since(last.began()).as_secs()) {
            Ok(0) | Err(_) => "now".to_owned(),
            Ok(seconds) => format!("{} ago", length(seconds)),
        };
        let next =
            drill.next.map(|next| u64::try_from(next.duration_since(status.at).as_secs()).unwrap_or(0));
        table.add_row([
            palette.strong(name),
            drill.what(),
            last.map_or_else(|| palette.bad("never"), ago),
            last.map_or_else(String::new, |last| result(last, palette)),
            last.and_then(LastDrill::rto_seconds).map_or_else(String::new, length),
            match (&drill.cannot_run, next) {
                (Some(_), _) => palette.warn("cannot run here"),
                (None, Some(seconds)) => format!("in {}", length(seconds / 60 * 60)),
                (None, None) => palette.faint("none"),
            },
        ]);
    }
    table
}

/// `passed, 2 steps left out`
fn result(last: &LastDrill, palette: Palette) -> String {
    let outcome = super::drills::outcome(last.outcome(), palette);
    match last.left_out() {
        0 => outcome,
        left => format!("{outcome}, {} left out", count(left, "step", "steps")),
    }
}

fn newest(backup: &BackupStatus, palette: Palette) -> String {
    match backup.age_seconds.map(u64::try_from) {
        None if backup.stores.values().any(|stored| stored.unknown.is_some()) => palette.warn("unknown"),
        None => palette.bad("never"),
        Some(Ok(0)) => "now".to_owned(),
        Some(Ok(seconds)) => format!("{} ago", duration(Duration::from_secs(seconds))),
        Some(Err(_)) => palette.warn("in the future"),
    }
}

/// What each store holds: on one line where that is short, otherwise a store a line.
fn stored(backup: &BackupStatus, palette: Palette) -> String {
    let joined = |separator: &str, palette| {
        let all: Vec<String> = backup.stores.iter().map(|(name, at)| kept(name, at, palette)).collect();
        all.join(separator)
    };
    let is_short = joined(", ", Palette::Plain).chars().count() <= SHORT;
    joined(if is_short { ", " } else { "\n" }, palette)
}

fn objective(backup: &BackupStatus, palette: Palette) -> String {
    let Some(objective) = &backup.objective else { return palette.faint("none") };
    let within = duration(Duration::from_secs(objective.seconds));
    match objective.state {
        ObjectiveState::Met => palette.good(format!("{within}: met")),
        ObjectiveState::Breached => palette.bad(format!("{within}: breached")),
        ObjectiveState::NeverSucceeded => palette.bad(format!("{within}: never met")),
        ObjectiveState::Unknown(_) => palette.warn(format!("{within}: unknown")),
    }
}

fn next(backup: &BackupStatus, name: &BackupName, now: Timestamp, palette: Palette) -> String {
    if backup.cannot_run.is_some() {
        return palette.warn("cannot run here");
    }
    if backup.declared == Declared::Orphaned {
        return palette.faint("not declared");
    }
    if name.is_infra() {
        return "on every commit".to_owned();
    }
    let runs = backup.schedules.iter().filter(|schedule| schedule.state != SlotState::CannotRun);
    let soonest = runs.filter_map(|schedule| Some((schedule.next?, schedule.kind))).min();
    let Some((at, kind)) = soonest else { return palette.faint("none") };
    let seconds = at.duration_since(now).unsigned_abs().as_secs();
    let minutes = seconds / 60 * 60;
    format!("{kind} in {}", duration(Duration::from_secs(if minutes == 0 { seconds } else { minutes })))
}

fn kept(store: &StoreName, stored: &StoredStatus, palette: Palette) -> String {
    if stored.unknown.is_some() {
        return palette.warn(format!("{store} unknown"));
    }
    let number = |number: usize, what: &str| (number > 0).then(|| format!("{number} {what}"));
    let faults = [
        number(stored.missing, "missing").map(|text| palette.warn(text)),
        number(stored.damaged.len(), "damaged").map(|text| palette.bad(text)),
        number(stored.unreadable.len(), "unreadable").map(|text| palette.bad(text)),
        number(stored.out_of_reach.len(), "unknown").map(|text| palette.warn(text)),
    ];
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    let faults = if faults.is_empty() { String::new() } else { format!(" ({})", faults.join(", ")) };
    format!("{store} {}{faults}", stored.artifacts)
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
    if matches!(store.state, StoreState::Unknown(_)) {
        return String::new();
    }
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
            | Concern::DrillFailed
            | Concern::NeverDrilled
            | Concern::StoreRefused => palette.bad("✗"),
            _ => palette.warn("!"),
        };
        let message = told(&condition.message, &status.zone);
        let _ = writeln!(out, "{sign} {}: {message}", palette.strong(&condition.subject));
    }
    if shown.is_empty() {
        let _ = writeln!(out, "{}", palette.good("Nothing needs your eye."));
    }
}
