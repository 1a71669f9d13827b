//! Everything that can happen to the loop, in one place.

use std::{future::pending, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::{JoinError, JoinHandle},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::{
    DaemonError, Ended,
    queue::Why,
    requests::{self, Asked},
};
use crate::{
    git::watch::Watch,
    reconcile::{Controller, Pass, PassError},
};

/// What can happen.
#[derive(Debug)]
pub enum Event {
    /// Something to look at.
    Wake(Why),
    /// The moment that the queue named has come.
    Due,
    /// SIGHUP: read the configuration, and look.
    Reload,
    /// A command asks for something.
    Asked(Asked),
    /// The pass under way has ended.
    PassEnded(Box<Result<Pass, PassError>>),
    /// SIGINT or SIGTERM.
    Stop(Ended),
}

/// Where events come from.
pub(super) struct Events {
    watch: Option<Watch>,
    poll: Interval,
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    asked: mpsc::Receiver<Asked>,
}

impl Events {
    /// Begins to listen. Must be called within a Tokio runtime.
    pub(super) fn open(controller: &Controller) -> Result<Self, DaemonError> {
        let repo = &controller.config().repo;
        let (send, asked) = mpsc::channel(16);
        let listener = requests::bind(&controller.state().socket())?;
        tokio::spawn(requests::serve(listener, send));
        let watch = Watch::start(&repo.url).unwrap_or_else(|error| {
            tracing::warn!(%error, "commits are found by polling");
            None
        });
        let period = repo.poll.max(Duration::from_secs(1));
        let mut poll = interval_at(Instant::now() + period, period);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            watch,
            poll,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            asked,
        })
    }

    /// Waits for the next event: until `due`, or for the end of `pass`, or for anything from outside.
    pub(super) async fn next(
        &mut self,
        due: Option<Instant>,
        pass: Option<&mut JoinHandle<Result<Pass, PassError>>>,
    ) -> Event {
        // While a pass runs, what is due waits for its end.
        let due = if pass.is_some() { None } else { due };
        tokio::select! {
            Some(_) = self.terminate.recv() => Event::Stop(Ended::Terminated),
            Some(_) = self.interrupt.recv() => Event::Stop(Ended::Interrupted),
            Some(_) = self.hangup.recv() => Event::Reload,
            Some(asked) = self.asked.recv() => Event::Asked(asked),
            ended = ended(pass) => Event::PassEnded(Box::new(ended)),
            () = commits(&mut self.watch) => Event::Wake(Why::Commit),
            _ = self.poll.tick() => Event::Wake(Why::Poll),
            () = sleep_until(due) => Event::Due,
        }
    }
}

async fn ended(pass: Option<&mut JoinHandle<Result<Pass, PassError>>>) -> Result<Pass, PassError> {
    match pass {
        Some(task) => task.await.unwrap_or_else(|error: JoinError| Err(PassError::Broken(error.to_string()))),
        None => pending().await,
    }
}

/// Waits for a change of the infra repo's references; for ever where they can't be watched.
async fn commits(watch: &mut Option<Watch>) {
    if let Some(watching) = watch {
        if watching.changed().await.is_some() {
            return;
        }
        tracing::warn!("the infra repo can no longer be watched; commits are found by polling");
        *watch = None;
    }
    pending().await
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => pending().await,
    }
}
