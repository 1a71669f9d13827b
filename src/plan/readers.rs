//! Which logs are read as they are written: what a revision asks for against what runs, a difference like any other.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Limits, facts::Facts};
use crate::{
    artifact::Kind,
    inventory::Inventory,
    spec::{
        Backup, Source, Spec,
        names::{BackupName, FolderName},
    },
};

/// A reader that should run, or does.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The backup whose log it reads.
    pub backup: BackupName,
    /// Where from.
    pub source: Source,
}

/// For each backup with a log that can be read as it is written, by its folder: its reader, or why there is to be none.
pub type Readers = BTreeMap<FolderName, Result<Wanted, String>>;

/// What is to be done about one reader.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// One that does not run should.
    Start {
        /// The folder of its backup.
        folder: FolderName,
        /// What it is to read.
        wanted: Box<Wanted>,
        /// Why now.
        reason: String,
    },
    /// One that runs should not, or should read something else.
    Stop {
        /// The folder of its backup.
        folder: FolderName,
        /// Why.
        reason: String,
    },
}

/// The readers that the declaration asks for, as far as this host and what stands still let them run.
pub fn readers(spec: &Spec, inventory: &Inventory, limits: &Limits, now: Timestamp) -> Readers {
    let facts = Facts::gather(spec, inventory, limits, now);
    let with_logs = spec.backups.iter().filter(|(_, backup)| is_read(backup));
    with_logs.map(|(name, backup)| (spec.moved.folder(name), reader(&facts, name, backup))).collect()
}

/// What makes what runs what is wanted. Whoever is to be stopped comes before whoever is started in its place.
pub fn changes(wanted: &Readers, running: &BTreeMap<FolderName, Wanted>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (folder, runs) in running {
        let reason = match wanted.get(folder) {
            Some(Ok(wanted)) if wanted.source == runs.source => continue,
            Some(Ok(_)) => "its source has changed".to_owned(),
            Some(Err(why)) => why.clone(),
            None => "nothing declares its log any more".to_owned(),
        };
        changes.push(Change::Stop { folder: folder.clone(), reason });
    }
    for (folder, wanted) in wanted {
        let Ok(wanted) = wanted else { continue };
        let reason = match running.get(folder) {
            Some(runs) if runs.source == wanted.source => continue,
            Some(_) => "its source has changed",
            None => "its log is declared, and nothing reads it",
        };
        changes.push(Change::Start {
            folder: folder.clone(),
            wanted: Box::new(wanted.clone()),
            reason: reason.to_owned(),
        });
    }
    changes
}

fn is_read(backup: &Backup) -> bool {
    backup.policy.schedules.contains_key(&Kind::Log) && backup.source.has_readable_log()
}

fn reader(facts: &Facts<'_>, name: &BackupName, backup: &Backup) -> Result<Wanted, String> {
    if let Some(why) = facts.cannot_run(&format!("backup.{name}")) {
        return Err(why.to_owned());
    }
    if let Some(suspension) = facts.suspensions.iter().find(|suspension| suspension.covers(name)) {
        return Err(suspension.to_string());
    }
    Ok(Wanted { backup: name.clone(), source: backup.source.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(path: &str) -> Wanted {
        Wanted { backup: "orders".parse().unwrap(), source: Source::Sqlite { path: path.into() } }
    }

    /// Each change as its first letter, and why.
    fn check(wanted: Option<Result<Wanted, &str>>, running: Option<Wanted>, expect: &[(&str, &str)]) {
        let folder: FolderName = "orders".parse().unwrap();
        let one = |it| BTreeMap::from([(folder.clone(), it)]);
        let wanted = wanted.map(|it| one(it.map_err(str::to_owned))).unwrap_or_default();
        let running = running.map(|it| BTreeMap::from([(folder.clone(), it)])).unwrap_or_default();
        let changes = changes(&wanted, &running);
        let told: Vec<(&str, &str)> = changes
            .iter()
            .map(|change| match change {
                Change::Start { reason, .. } => ("start", reason.as_str()),
                Change::Stop { reason, .. } => ("stop", reason.as_str()),
            })
            .collect();
        assert_eq!(told, expect);
    }

    #[test]
    fn a_reader_runs_as_long_as_it_is_wanted_as_it_is() {
        check(None, None, &[]);
        check(Some(Ok(sqlite("/a"))), Some(sqlite("/a")), &[]);
        check(Some(Err("suspended")), None, &[]);
        check(Some(Ok(sqlite("/a"))), None, &[("start", "its log is declared, and nothing reads it")]);
        check(Some(Err("suspended")), Some(sqlite("/a")), &[("stop", "suspended")]);
        check(None, Some(sqlite("/a")), &[("stop", "nothing declares its log any more")]);
        let changed = "its source has changed";
        check(Some(Ok(sqlite("/b"))), Some(sqlite("/a")), &[("stop", changed), ("start", changed)]);
    }
}
