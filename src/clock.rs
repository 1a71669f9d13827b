//! The time, as a value that the shell hands on.

use std::{fmt, time::Duration};

use futures::future::BoxFuture;
use jiff::{Span, Timestamp};
use tokio::sync::watch;

/// What tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Returns once it is `moment`; however the clock is set meanwhile, after no longer than that is away now.
    fn until(&self, moment: Timestamp) -> BoxFuture<'_, ()> {
        let away = Duration::try_from(moment.duration_since(self.now())).unwrap_or_default();
        Box::pin(tokio::time::sleep(away))
    }
}

impl fmt::Debug for dyn Clock + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a clock that shows {}", self.now())
    }
}

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still until it is set: for tests and the simulation.
#[derive(Debug)]
pub struct ManualClock(watch::Sender<Timestamp>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(watch::Sender::new(now))
    }

    /// Shows `now` from here on.
    pub fn set(&self, now: Timestamp) {
        self.0.send_replace(now);
    }

    /// Goes forward, or back by a negative span of at most hours; stays where the calendar ends.
    pub fn advance(&self, by: Span) {
        self.0.send_modify(|now| *now = now.saturating_add(by).unwrap_or(*now));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    fn until(&self, moment: Timestamp) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // The sender lives as long as this clock.
            let _ = self.0.subscribe().wait_for(|now| *now >= moment).await;
        })
    }
}
