//! The line to a pass under way: what it hears while its steps run, and what it tells.

use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc::UnboundedSender};

use super::{Controller, Keep, Pass, PassError, lock};
use crate::{observe::Freshness, plan::manual};

/// The line to a pass under way. What was not heard when a pass ends is there for the next one.
#[derive(Default)]
pub struct Line {
    news: Mutex<News>,
    bell: Notify,
    rounds: Option<UnboundedSender<Result<Pass, PassError>>>,
}

/// What a pass is to take note of.
#[derive(Default)]
pub(super) struct News {
    /// Look, at what is older than this.
    pub(super) look: Option<Freshness>,
    /// Whether a commit is the reason: what waits to begin gives way to it.
    pub(super) commit: bool,
    /// Backups that are asked for.
    pub(super) wanted: Vec<Wanted>,
    /// What takes the controller's place: another configuration.
    pub(super) controller: Option<Arc<Controller>>,
}

impl News {
    /// Whether it asks for nothing but a look.
    pub(super) fn is_only_a_look(&self) -> bool {
        self.wanted.is_empty() && self.controller.is_none()
    }
}

/// Backups that a person asks for.
#[derive(Debug)]
pub struct Wanted {
    /// Which.
    pub requests: Vec<manual::Request>,
    /// For how long.
    pub keep: Keep,
    /// Where to tell how it goes. Dropped without [`Reply::Ended`] when the controller ends before that.
    pub replies: UnboundedSender<Reply>,
}

/// What is told to who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It begins later, since something else goes on.
    Waits(String),
    /// It has ended; with what failed, each to be shown.
    Ended(Vec<String>),
}

/// Tells those who asked that nothing comes of it.
pub(super) fn refuse(wanted: Vec<Wanted>, error: &PassError) {
    for wanted in wanted {
        // A command that has gone away is not told.
        let _ = wanted.replies.send(Reply::Ended(vec![error.to_string()]));
    }
}

impl Line {
    /// A line that tells each round of a pass to `rounds`, but for the last one, which the pass returns. What had ended
    /// before the pass looked anew is not told again.
    pub fn telling(rounds: UnboundedSender<Result<Pass, PassError>>) -> Self {
        Self { rounds: Some(rounds), ..Self::default() }
    }

    /// Has a pass fetch and look, at what is older than this, and plan on what it finds.
    pub fn look(&self, freshness: Freshness) {
        let mut news = lock(&self.news);
        // Of two, what demands more.
        let anew = news.look == Some(Freshness::Now);
        news.look = Some(if anew { Freshness::Now } else { freshness });
        self.bell.notify_one();
    }

    /// The same, since there is a newer commit: nothing that waits begins before it is known what that one says.
    pub fn commit(&self, freshness: Freshness) {
        lock(&self.news).commit = true;
        self.look(freshness);
    }

    /// Has a pass make backups.
    pub fn ask(&self, wanted: Wanted) {
        lock(&self.news).wanted.push(wanted);
        self.bell.notify_one();
    }

    /// Has a pass go on under another configuration; steps under way end under the old one.
    pub fn replace(&self, controller: Arc<Controller>) {
        lock(&self.news).controller = Some(controller);
        self.look(Freshness::Now);
    }

    /// Whether something was not heard yet.
    pub fn has_news(&self) -> bool {
        let news = lock(&self.news);
        news.look.is_some() || !news.wanted.is_empty() || news.controller.is_some()
    }

    pub(super) fn take(&self) -> Option<News> {
        self.has_news().then(|| std::mem::take(&mut *lock(&self.news)))
    }

    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Tells how a round went; `false` when nobody hears it.
    pub(super) fn tell(&self, round: Result<Pass, PassError>) -> bool {
        match (&self.rounds, round) {
            (Some(rounds), round) => rounds.send(round).is_ok(),
            (None, Ok(_)) => false,
            (None, Err(error)) => {
                tracing::warn!(%error, "what is under way goes on, and nothing is added");
                false
            }
        }
    }
}
