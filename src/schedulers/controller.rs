//! The controller's own timetable: what `run` watches the clock for. A file of the state directory.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Scheduler, SchedulerError};
use crate::{
    durable,
    inventory::{Armed, ArmedSchedule},
};

/// The value of `format` in the file.
const FORMAT: &str = "backstay.timetable/1";

/// The timetable in one file. A file that is lost or torn is an empty timetable: the next pass arms everything anew,
/// and what is due is decided by the stores' content, so that no run is lost or made twice.
#[derive(Debug)]
pub struct Timetable {
    path: PathBuf,
    armed: Mutex<BTreeSet<ArmedSchedule>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    format: String,
    armed: BTreeSet<ArmedSchedule>,
}

impl Timetable {
    /// Reads the timetable in `path`.
    pub fn open(path: PathBuf) -> Self {
        let armed = durable::read_json::<OnDisk>(&path)
            .filter(|disk| disk.format == FORMAT)
            .map_or_else(BTreeSet::new, |disk| disk.armed);
        Self { path, armed: Mutex::new(armed) }
    }

    fn change(
        &self,
        operation: &'static str,
        edit: impl FnOnce(&mut BTreeSet<ArmedSchedule>) -> bool,
    ) -> Result<(), SchedulerError> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = armed.clone();
        if !edit(&mut next) {
            return Ok(());
        }
        let disk = OnDisk { format: FORMAT.to_owned(), armed: next };
        durable::write_json(&self.path, &disk).map_err(|e| SchedulerError {
            operation,
            subject: self.path.display().to_string(),
            reason: e.to_string(),
        })?;
        *armed = disk.armed;
        Ok(())
    }
}

#[async_trait]
impl Scheduler for Timetable {
    async fn list(&self) -> Result<Armed, SchedulerError> {
        Ok(self.armed.lock().unwrap_or_else(PoisonError::into_inner).clone().into())
    }

    async fn arm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        self.change("arm", |armed| armed.insert(schedule.clone()))
    }

    async fn disarm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        self.change("disarm", |armed| armed.remove(schedule))
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

    #[tokio::test]
    async fn what_was_armed_is_there_after_a_restart_and_a_torn_file_is_an_empty_timetable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("timetable.json");
        let timetable = Timetable::open(path.clone());
        timetable.arm(&hourly("agama")).await.unwrap();
        timetable.arm(&hourly("agama")).await.unwrap();
        timetable.arm(&hourly("logs")).await.unwrap();
        timetable.disarm(&hourly("logs")).await.unwrap();
        timetable.disarm(&hourly("never-armed")).await.unwrap();
        assert_eq!(
            Timetable::open(path.clone()).list().await.unwrap().schedules,
            BTreeSet::from([hourly("agama")])
        );

        std::fs::write(&path, "{\"format\":").unwrap();
        assert!(Timetable::open(path).list().await.unwrap().schedules.is_empty());
    }
}
