//! The controller's own timetable: what `run` watches the clock for. A file of the state directory, JSON lines:
//!
//! ```text
//! {"armed":{"backup":"agama","kind":"full","cadence":"0 1 * * *"}}
//! {"disarmed":{"backup":"agama","kind":"full","cadence":"0 1 * * *"}}
//! ```

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Scheduler, SchedulerError};
use crate::{
    durable,
    inventory::{Armed, ArmedSchedule},
};

/// A line is never longer than this, bytes.
const LONGEST_LINE: u64 = 64 << 10;

/// The timetable in one file. Each change adds a line, so that ten thousand schedules are armed in proportion to their
/// number; opening drops what was disarmed since. A file that is lost or torn lacks lines: the next pass arms anew what
/// they told, and what is due is decided by the stores' content, so that no run is lost or made twice. For the same reason
/// nothing waits for the disk.
#[derive(Debug)]
pub struct Timetable {
    path: PathBuf,
    armed: Mutex<BTreeSet<ArmedSchedule>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Armed(ArmedSchedule),
    Disarmed(ArmedSchedule),
}

impl Timetable {
    /// Reads the timetable in `path`.
    pub fn open(path: PathBuf) -> Self {
        let read = read(&path).unwrap_or_default();
        if read.has_waste()
            && let Err(error) = rewrite(&path, &read.armed)
        {
            tracing::warn!(%error, path = %path.display(), "the timetable keeps lines that say nothing any more");
        }
        Self { path, armed: Mutex::new(read.armed) }
    }

    fn armed(&self) -> MutexGuard<'_, BTreeSet<ArmedSchedule>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, operation: &'static str, line: &Line) -> Result<(), SchedulerError> {
        append(&self.path, line).map_err(|error| SchedulerError {
            operation,
            subject: self.path.display().to_string(),
            reason: error.to_string(),
        })
    }
}

/// What a file says.
#[derive(Default)]
struct Read {
    armed: BTreeSet<ArmedSchedule>,
    lines: usize,
    /// Whether the last line has no end, so that the next one would be glued to it.
    is_torn: bool,
}

impl Read {
    fn has_waste(&self) -> bool {
        self.is_torn || self.lines > self.armed.len()
    }

    /// A line that is none of ours says nothing.
    fn take(&mut self, line: &[u8]) {
        self.lines += 1;
        self.is_torn = line.last() != Some(&b'\n');
        match serde_json::from_slice(line) {
            Ok(Line::Armed(schedule)) => drop(self.armed.insert(schedule)),
            Ok(Line::Disarmed(schedule)) => drop(self.armed.remove(&schedule)),
            Err(_) => {}
        }
    }
}

fn read(path: &Path) -> io::Result<Read> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut read, mut line) = (Read::default(), Vec::new());
    while file.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? > 0 {
        read.take(&line);
        line.clear();
    }
    Ok(read)
}

fn rewrite(path: &Path, armed: &BTreeSet<ArmedSchedule>) -> io::Result<()> {
    let mut content = Vec::new();
    for schedule in armed {
        content.extend(line_of(&Line::Armed(schedule.clone()))?);
    }
    durable::replace(path, &content)
}

fn append(path: &Path, line: &Line) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    file.write_all(&line_of(line)?).inspect_err(|_| {
        // A part of the line may stand there; the next line must not be glued to it.
        let _ = file.set_len(length);
    })
}

fn line_of(line: &Line) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[async_trait]
impl Scheduler for Timetable {
    async fn list(&self) -> Result<Armed, SchedulerError> {
        Ok(self.armed().clone().into())
    }

    async fn arm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        let mut armed = self.armed();
        if !armed.contains(schedule) {
            self.append("arm", &Line::Armed(schedule.clone()))?;
            armed.insert(schedule.clone());
        }
        Ok(())
    }

    async fn disarm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        let mut armed = self.armed();
        if armed.contains(schedule) {
            self.append("disarm", &Line::Disarmed(schedule.clone()))?;
            armed.remove(schedule);
        }
        Ok(())
    }

    fn can_hold(&self, _schedule: &ArmedSchedule) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{artifact::Kind, spec::Cadence};

    fn hourly(backup: &str) -> ArmedSchedule {
        ArmedSchedule {
            backup: backup.parse().unwrap(),
            kind: Kind::Full,
            cadence: Cadence::Every(Duration::from_secs(3600)),
        }
    }

    async fn armed(path: &Path) -> BTreeSet<ArmedSchedule> {
        Timetable::open(path.to_owned()).list().await.unwrap().schedules
    }

    #[tokio::test]
    async fn what_was_armed_is_there_after_a_restart_and_what_was_disarmed_leaves_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("timetable");
        let timetable = Timetable::open(path.clone());
        timetable.arm(&hourly("agama")).await.unwrap();
        timetable.arm(&hourly("agama")).await.unwrap();
        timetable.arm(&hourly("logs")).await.unwrap();
        timetable.disarm(&hourly("logs")).await.unwrap();
        timetable.disarm(&hourly("never-armed")).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
        assert_eq!(armed(&path).await, BTreeSet::from([hourly("agama")]));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[tokio::test]
    async fn a_torn_line_costs_what_it_told_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("timetable");
        let timetable = Timetable::open(path.clone());
        timetable.arm(&hourly("agama")).await.unwrap();
        timetable.arm(&hourly("logs")).await.unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in whole.len() / 2 + 1..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut left = armed(&path).await;
            assert!(left.is_superset(&BTreeSet::from([hourly("agama")])), "cut at {cut}");
            Timetable::open(path.clone()).arm(&hourly("mail")).await.unwrap();
            left.insert(hourly("mail"));
            assert_eq!(armed(&path).await, left, "cut at {cut}");
        }
    }
}
