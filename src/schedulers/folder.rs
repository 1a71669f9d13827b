//! Files that bear a marker: which of a folder's are a fleet's own, how they differ from what they should be, and their
//! durable replacement.
//!
//! The first line of each is `# backstay-schedule` and JSON that names the fleet, the controller's configuration and the
//! schedule. Only what bears it, for this fleet, is ever replaced or removed: a commit that calls its fleet as another one of
//! this host is called does not reach that one's files. Links are not followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    process::geteuid,
};
use serde::{Deserialize, Serialize};

use super::SchedulerError;
use crate::{
    durable,
    inventory::{Armed, ArmedSchedule},
    spec::names::FleetName,
};

/// What the first line of our files begins with.
const MARK: &str = "# backstay-schedule ";
/// What the names of our files begin with.
const PREFIX: &str = "backstay-";
/// No file of ours is longer, bytes.
const LONGEST: u64 = 64 << 10;
/// Mode of our files: cron refuses those that others may write.
const MODE: u32 = 0o644;

/// What is on the first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    fleet: FleetName,
    /// The controller's configuration that the fleet is declared to.
    config: String,
    schedule: ArmedSchedule,
}

/// A file as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its name in the folder.
    pub(super) name: String,
    /// What follows its marker.
    pub(super) body: String,
}

/// A folder in which a fleet's schedules are armed, beside files of others.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    fleet: FleetName,
    config: PathBuf,
}

/// What is found under a name.
enum Found {
    Nothing,
    Ours { schedule: ArmedSchedule, text: String, fault: Option<String> },
    AnotherFleets,
    Strange(&'static str),
}

impl Folder {
    /// The files in `path` of a fleet that is declared to the controller of `config`.
    pub(super) fn new(path: PathBuf, fleet: FleetName, config: PathBuf) -> Self {
        Self { path, fleet, config }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the names of all files of this fleet begin with; `encode` makes a word of what a name may hold.
    pub(super) fn prefix(&self, encode: impl Fn(&str) -> String) -> String {
        format!("{PREFIX}{}-", encode(self.fleet.as_str()))
    }

    /// What the names of all files of a schedule begin with; `encode` makes a word of what a name may hold.
    pub(super) fn stem(&self, schedule: &ArmedSchedule, encode: impl Fn(&str) -> String) -> String {
        format!("{}{}-{}", self.prefix(&encode), encode(schedule.backup.as_str()), schedule.kind)
    }

    /// Everything that is armed here, where each schedule should be `pieces`.
    pub(super) fn list(
        &self,
        own_prefix: &str,
        pieces: impl Fn(&ArmedSchedule) -> Result<Vec<Piece>, String>,
    ) -> Result<Armed, SchedulerError> {
        let found = self.find(own_prefix).map_err(|e| self.failed("list", &e))?;
        let mut armed = Armed::default();
        let mut ours = BTreeSet::new();
        for (name, found) in &found {
            let place = || self.path.join(name).display().to_string();
            match found {
                Found::Ours { schedule, .. } => {
                    let expected = pieces(schedule).unwrap_or_default();
                    if expected.is_empty() || expected.iter().any(|piece| piece.name == *name) {
                        ours.insert(schedule);
                    } else {
                        let why = format!("it is a copy of the {} of {}", schedule.kind, schedule.backup);
                        armed.strangers.insert(place(), why);
                    }
                }
                Found::Strange(why) => {
                    armed.strangers.insert(place(), format!("it is named like ours, and {why}"));
                }
                Found::Nothing | Found::AnotherFleets => {}
            }
        }
        for schedule in ours {
            match self.difference(schedule, &found, pieces(schedule)) {
                None => drop(armed.schedules.insert(schedule.clone())),
                Some(difference) => drop(armed.altered.insert(schedule.clone(), difference)),
            }
        }
        Ok(armed)
    }

    /// Writes what is not there as it should be; `true` when that was anything.
    pub(super) fn write(&self, schedule: &ArmedSchedule, pieces: &[Piece]) -> Result<bool, SchedulerError> {
        let mut changed = false;
        for piece in pieces {
            let text = self.text(schedule, &piece.body);
            let failed = |e: &io::Error| self.failed("arm", e);
            match self.read(&piece.name).map_err(|e| failed(&e))? {
                Found::Ours { text: found, fault: None, .. } if found == text => continue,
                Found::Ours { .. } | Found::Nothing => {
                    durable::replace_public(&self.path.join(&piece.name), text.as_bytes())
                        .map_err(|e| failed(&e))?;
                    changed = true;
                }
                found => return Err(self.foreign(&piece.name, &found)),
            }
        }
        Ok(changed)
    }

    /// Removes those of `names` that bear the marker of this very schedule; `true` when that was any.
    pub(super) fn remove(&self, schedule: &ArmedSchedule, names: &[String]) -> Result<bool, SchedulerError> {
        let mut changed = false;
        for name in names {
            let failed = |e: io::Error| self.failed("disarm", &e);
            match self.read(name).map_err(failed)? {
                Found::Ours { schedule: found, .. } if found == *schedule => {
                    fs::remove_file(self.path.join(name)).map_err(failed)?;
                    changed = true;
                }
                _ => {}
            }
        }
        if changed {
            File::open(&self.path)
                .and_then(|folder| folder.sync_all())
                .map_err(|e| self.failed("disarm", &e))?;
        }
        Ok(changed)
    }

    /// A failed call, with what helps.
    pub(super) fn failed(&self, operation: &'static str, error: &io::Error) -> SchedulerError {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => {
                "make the folder, or name another one in [schedules] of the controller's configuration"
            }
            io::ErrorKind::PermissionDenied => "run Backstay as a user who may write there",
            _ => "look into it, and run again",
        };
        self.refused(operation, format!("{error}; {hint}"))
    }

    pub(super) fn refused(&self, operation: &'static str, reason: String) -> SchedulerError {
        SchedulerError { operation, subject: self.path.display().to_string(), reason }
    }

    fn foreign(&self, name: &str, found: &Found) -> SchedulerError {
        let why = match found {
            Found::AnotherFleets => "belongs to another fleet of this host",
            Found::Strange(why) => why,
            Found::Nothing | Found::Ours { .. } => "can't be replaced",
        };
        self.refused("arm", format!("{name} is in the way: {why}; it is left alone; move it elsewhere"))
    }

    fn text(&self, schedule: &ArmedSchedule, body: &str) -> String {
        let marker = Marker {
            fleet: self.fleet.clone(),
            config: self.config.to_string_lossy().into_owned(),
            schedule: schedule.clone(),
        };
        let marker = serde_json::to_string(&marker).expect("names and cadences are JSON");
        format!(
            "{MARK}{marker}\n# Backstay keeps this file as the infra repo declares it: changes made here are undone.\n{body}"
        )
    }

    /// What is wrong with the files of a schedule, if anything.
    fn difference(
        &self,
        schedule: &ArmedSchedule,
        found: &BTreeMap<String, Found>,
        expected: Result<Vec<Piece>, String>,
    ) -> Option<String> {
        let expected = match expected {
            Ok(expected) => expected,
            Err(why) => return Some(format!("it can no longer be held here: {why}")),
        };
        expected.iter().find_map(|piece| match found.get(&piece.name) {
            Some(Found::Ours { text, fault, .. }) => {
                let difference =
                    difference(&self.text(schedule, &piece.body), text).or_else(|| fault.clone());
                difference.map(|difference| format!("{}: {difference}", piece.name))
            }
            _ => Some(format!("{} is gone", piece.name)),
        })
    }

    /// Everything named like ours, by name.
    fn find(&self, own_prefix: &str) -> io::Result<BTreeMap<String, Found>> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // What systemd keeps beside a unit is a folder.
            if !name.starts_with(PREFIX) || entry.file_type()?.is_dir() {
                continue;
            }
            match self.read(&name)? {
                // Another fleet's name may begin like ours.
                Found::Strange(_) if !name.starts_with(own_prefix) => {}
                found => drop(all.insert(name, found)),
            }
        }
        Ok(all)
    }

    fn read(&self, name: &str) -> io::Result<Found> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(Found::Nothing),
            Err(rustix::io::Errno::LOOP) => return Ok(Found::Strange("it is a symbolic link")),
            Err(errno) => return Err(errno.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Found::Strange("it is not a file"));
        }
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes)?;
        let Some(marker) = marker(&bytes) else {
            return Ok(Found::Strange("it bears no marker of this fleet"));
        };
        if marker.fleet != self.fleet || is_anothers(Path::new(&marker.config), &self.config) {
            return Ok(Found::AnotherFleets);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Found::Ours { schedule: marker.schedule, text, fault: fault(&metadata) })
    }
}

/// Whether a file that names the configuration `named` is that of another controller than the one of `own`. What names one
/// that is gone, since it was moved, is nobody else's.
fn is_anothers(named: &Path, own: &Path) -> bool {
    if named == own {
        return false;
    }
    match (named.canonicalize(), own.canonicalize()) {
        (Ok(named), Ok(own)) => named != own,
        (Err(e), _) => e.kind() != io::ErrorKind::NotFound,
        (Ok(_), Err(_)) => true,
    }
}

fn marker(bytes: &[u8]) -> Option<Marker> {
    let line = bytes.split(|byte| *byte == b'\n').next()?.strip_prefix(MARK.as_bytes())?;
    serde_json::from_slice(line).ok()
}

/// What is wrong with the rights of a file of ours: cron ignores one that others may write.
fn fault(metadata: &fs::Metadata) -> Option<String> {
    let mode = metadata.mode() & 0o7777;
    if mode != MODE {
        return Some(format!("its mode is {mode:o} in place of {MODE:o}"));
    }
    (metadata.uid() != geteuid().as_raw())
        .then(|| format!("it belongs to user {} in place of {}", metadata.uid(), geteuid().as_raw()))
}

/// The first line that differs.
fn difference(expected: &str, found: &str) -> Option<String> {
    if expected == found {
        return None;
    }
    let (mut wanted, mut there) = (expected.lines(), found.lines());
    for number in 1.. {
        match (wanted.next(), there.next()) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => {
                return Some(format!("line {number} is `{}` in place of `{}`", shown(b), shown(a)));
            }
            (Some(a), None) => return Some(format!("line {number}, `{}`, is gone", shown(a))),
            (None, Some(b)) => return Some(format!("line {number}, `{}`, is added", shown(b))),
            (None, None) => break,
        }
    }
    Some("the ends of its lines differ".to_owned())
}

/// A line that anybody may have written, short and harmless.
fn shown(line: &str) -> String {
    let short: String = line.chars().take(80).collect();
    let more = if short.len() < line.len() { "…" } else { "" };
    format!("{}{more}", short.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_told_and_control_characters_are_not_passed_on() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(
            difference("a\nb\n", "a\n\u{1b}[31m\n").unwrap(),
            "line 2 is `\\u{1b}[31m` in place of `b`"
        );
        assert_eq!(difference("a\nb\n", "a\n").unwrap(), "line 2, `b`, is gone");
        assert_eq!(difference("a\n", "a\nb\n").unwrap(), "line 2, `b`, is added");
        assert_eq!(difference("a\n", "a").unwrap(), "the ends of its lines differ");
    }
}
