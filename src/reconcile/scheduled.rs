//! Passes over one backup, started by a scheduler outside: cron or systemd.

use std::{io, thread};

use jiff::Timestamp;

use super::{Controller, PassError};
use crate::{
    spec::{Schedule, names::BackupName},
    state::StateError,
};

impl Controller {
    /// What backups are called now which a scheduler outside may still know by former names. Asks for a newer revision first.
    ///
    /// # Errors
    /// [`PassError::NothingInForce`].
    pub async fn called_now(&self, names: Vec<BackupName>) -> Result<Vec<BackupName>, PassError> {
        if !self.state.is_busy() {
            self.fetch().await;
        }
        let moved = &self.desired().await?.spec.moved;
        Ok(names.into_iter().map(|name| moved.newest_name(&name).cloned().unwrap_or(name)).collect())
    }

    /// When the slots that have come of a backup fall due, as far as its jitter still holds them back: a scheduler outside
    /// starts at the slot itself, and knows of no jitter. Goes by what was fetched last.
    ///
    /// # Errors
    /// [`PassError::NothingInForce`].
    pub async fn held_back_by_jitter(&self, backup: &BackupName) -> Result<Option<Timestamp>, PassError> {
        let (desired, now) = (self.desired().await?, self.now());
        let Some(declared) = desired.spec.backups.get(backup) else { return Ok(None) };
        let folder = desired.spec.moved.folder(backup);
        let (policy, zone) = (&declared.policy, &desired.spec.fleet.time_zone);
        let due = policy.schedules.values().filter_map(|cadence| {
            let schedule = Schedule::new(cadence.clone(), zone.clone(), &folder, policy.jitter);
            Some(schedule.due_at(schedule.latest_at_or_before(now)?))
        });
        Ok(due.filter(|due| *due > now).max())
    }

    /// Waits until no other process holds the state directory: schedulers start many passes at the same minute.
    ///
    /// # Errors
    /// When the state directory can't be used.
    pub async fn wait_for_others(&self) -> Result<(), StateError> {
        let (state, (done, waits)) = (self.state.clone(), tokio::sync::oneshot::channel());
        // A thread that nobody joins: the process may end while it waits.
        let spawned = thread::Builder::new().spawn(move || done.send(state.wait_until_free()));
        let failed =
            |source| StateError::Io { operation: "wait for", path: self.state.root().to_owned(), source };
        spawned.map_err(failed)?;
        waits.await.unwrap_or_else(|_| Err(failed(io::ErrorKind::Interrupted.into())))
    }
}
