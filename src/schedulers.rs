//! Schedulers: where schedules are armed. One trait, one conformance suite.
//!
//! The controller's own [`controller`] timetable needs a controller that runs. [`cron`] and [`systemd`] start
//! `backstay backup NAME --scheduled` instead, from files that bear a marker of the fleet; see [`folder`].

pub mod calendar;
pub mod controller;
pub mod cron;
pub mod folder;
pub mod systemd;

use std::path::PathBuf;

use async_trait::async_trait;

use crate::{
    inventory::{Armed, ArmedSchedule},
    spec::names::BackupName,
};

/// Something that holds schedules.
///
/// What drivers must meet: [`Scheduler::list`] tells everything of the fleet that is armed or fails, never a part; what
/// was armed and changed by somebody is told as altered; arming makes it read as it should; arming what is armed and
/// disarming what is not succeed and change nothing; disarming a schedule leaves another one of the same backup and kind
/// alone; nothing that is not the fleet's own is ever changed; what was armed survives the loss of power.
#[async_trait]
pub trait Scheduler: Send + Sync {
    /// Everything that is armed.
    async fn list(&self) -> Result<Armed, SchedulerError>;

    /// Arms a schedule, or makes it read as it should.
    async fn arm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError>;

    /// Disarms one.
    async fn disarm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError>;

    /// Why it can't hold a schedule, and what to do. Looks at nothing.
    fn can_hold(&self, schedule: &ArmedSchedule) -> Result<(), String>;
}

/// A failed call to a scheduler.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} the schedules in {subject}: {reason}")]
pub struct SchedulerError {
    /// What was tried.
    pub operation: &'static str,
    /// Where.
    pub subject: String,
    /// Why, and what to do next.
    pub reason: String,
}

/// How a scheduler starts Backstay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program, absolute.
    pub program: PathBuf,
    /// The controller's own configuration, absolute.
    pub config: PathBuf,
    /// The user that it runs as.
    pub user: String,
}

impl Command {
    /// Program and arguments of a pass over what is due of `backup`.
    ///
    /// # Errors
    /// Why they can't be written down.
    pub fn words(&self, backup: &BackupName) -> Result<Vec<String>, String> {
        let path = |path: &PathBuf| match path.to_str() {
            Some(text) if path.is_absolute() && !text.contains(char::is_control) => Ok(text.to_owned()),
            _ => Err(format!("{} must be absolute, and text without control characters", path.display())),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.user.is_empty() || self.user.starts_with('-') || !self.user.chars().all(plain) {
            return Err(format!("`{}` is not the name of a user", self.user.escape_debug()));
        }
        let (program, config) = (path(&self.program)?, path(&self.config)?);
        let words = [&program, "--config", &config, "--quiet", "backup", backup.as_str(), "--scheduled"];
        Ok(words.map(str::to_owned).to_vec())
    }
}
