//! Everything that can happen to the loop, in one place.

use std::{future::pending, sync::Arc};

use tokio::{
    sync::{Notify, mpsc},
    task::{JoinError, JoinHandle},
    time::Instant,
};

use super::{
    DaemonError,
    knocks::Knocks,
    orders::{Order, Orders},
    poll::Poll,
    publisher::Publisher,
    queue::Why,
    requests::{self, Answer, Asked, ENDING},
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
    /// A command asks for something.
    Asked(Asked),
    /// The pass under way has come so far.
    Round(Box<Result<Pass, PassError>>),
    /// The pass under way has ended.
    PassEnded(Box<Result<Pass, PassError>>),
    /// The runbooks of a pass are on their branch, or could not be brought there for this reason.
    Published(Option<String>),
    /// A signal, most often.
    Told(Order),
}

/// Where events come from.
pub(super) struct Events {
    watch: Option<Watch>,
    webhooks: Knocks,
    hooks: Knocks,
    poll: Poll,
    next_poll: Instant,
    /// Whether nothing has told yet how the infra repo answered the last poll.
    awaits_answer: bool,
    orders: Orders,
    asked: mpsc::Receiver<Asked>,
    /// What takes requests.
    taking: JoinHandle<()>,
}

impl Events {
    /// Begins to listen, to `webhooks` and `orders` as well. Must be called within a Tokio runtime.
    pub(super) fn open(
        controller: &Controller,
        webhooks: Arc<Notify>,
        orders: Orders,
    ) -> Result<Self, DaemonError> {
        let repo = &controller.config().repo;
        let ((send, asked), hooks) = (mpsc::channel(16), Arc::new(Notify::new()));
        let listener = requests::bind(&controller.state().socket())?;
        let taking = tokio::spawn(requests::serve(listener, send, hooks.clone()));
        let watch = Watch::start(&repo.url).unwrap_or_else(|error| {
            tracing::warn!(%error, "commits are found by polling");
            None
        });
        let poll = Poll::new(repo.poll, &identity_of_host(controller));
        let next_poll = Instant::now() + poll.pause(rand::random());
        Ok(Self {
            watch,
            webhooks: Knocks::of(webhooks),
            hooks: Knocks::of(hooks),
            poll,
            next_poll,
            awaits_answer: false,
            orders,
            asked,
            taking,
        })
    }

    /// Takes no more requests: returns once nobody listens, so that whoever asks from now on finds that no controller runs.
    pub(super) async fn close(mut self) {
        self.asked.close();
        while let Some(asked) = self.asked.recv().await {
            // A command that has gone away is not told.
            let _ = asked.answers.send(Answer::Ended { faults: vec![ENDING.to_owned()] });
        }
        if let Err(error) = self.taking.await {
            tracing::warn!(%error, "what takes requests ended badly");
        }
    }

    /// Waits for the next event: until `due`, or for one of the `rounds`, the end of `pass` or of a lot of `publisher`, or for
    /// anything from outside.
    pub(super) async fn next(
        &mut self,
        due: Option<Instant>,
        rounds: &mut mpsc::UnboundedReceiver<Result<Pass, PassError>>,
        pass: Option<&mut JoinHandle<Result<Pass, PassError>>>,
        publisher: &mut Publisher,
    ) -> Event {
        tokio::select! {
            order = self.orders.next() => Event::Told(order),
            Some(asked) = self.asked.recv() => Event::Asked(asked),
            Some(round) = rounds.recv() => self.round(round),
            ended = ended(pass) => self.pass_ended(ended),
            unpublished = publisher.next() => Event::Published(unpublished),
            () = commits(&mut self.watch) => Event::Wake(Why::Commit),
            () = self.webhooks.next() => Event::Wake(Why::Webhook),
            () = self.hooks.next() => Event::Wake(Why::Hook),
            () = tokio::time::sleep_until(self.next_poll) => self.poll(),
            () = sleep_until(due) => Event::Due,
        }
    }

    fn poll(&mut self) -> Event {
        self.awaits_answer = true;
        self.next_poll = Instant::now() + self.poll.pause(rand::random());
        Event::Wake(Why::Poll)
    }

    /// A round after a poll tells how the infra repo answered.
    fn round(&mut self, round: Result<Pass, PassError>) -> Event {
        if let Ok(pass) = &round
            && std::mem::take(&mut self.awaits_answer)
        {
            self.heed(pass);
        }
        Event::Round(Box::new(round))
    }

    fn heed(&mut self, pass: &Pass) {
        match pass.unreachable {
            None => self.poll.answered(),
            Some(_) => self.poll.failed(),
        }
    }

    /// Whatever a pass was begun for, it has asked the infra repo, so that the next poll counts from there.
    fn pass_ended(&mut self, ended: Result<Pass, PassError>) -> Event {
        if let Ok(pass) = &ended {
            self.heed(pass);
            self.awaits_answer = false;
            self.next_poll = Instant::now() + self.poll.pause(rand::random());
        }
        Event::PassEnded(Box::new(ended))
    }
}

/// What tells this controller from others that ask the same infra repo.
fn identity_of_host(controller: &Controller) -> Vec<u8> {
    let mut identity = rustix::system::uname().nodename().to_bytes().to_vec();
    identity.extend(controller.state().root().as_os_str().as_encoded_bytes());
    identity
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
