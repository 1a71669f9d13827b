//! Schedulers: where schedules are armed. One trait, one conformance suite.

pub mod controller;

use std::collections::BTreeSet;

use crate::inventory::ArmedSchedule;

/// Something that holds schedules.
///
/// What drivers must meet: [`Scheduler::list`] tells everything that is armed or fails, never a part; arming what is
/// armed and disarming what is not succeed and change nothing; what was armed survives the loss of power.
pub trait Scheduler: Send + Sync {
    /// Everything that is armed.
    fn list(&self) -> Result<BTreeSet<ArmedSchedule>, SchedulerError>;

    /// Arms a schedule.
    fn arm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError>;

    /// Disarms one.
    fn disarm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError>;
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
