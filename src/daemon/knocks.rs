//! Somebody outside says "look". However often that is said, it is heard at most once in a while, and never lost.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The least time between two looks of the same origin.
const REST: Duration = Duration::from_secs(3);

/// What is said by one origin.
#[derive(Debug)]
pub(super) struct Knocks {
    heard: Arc<Notify>,
    rest: Duration,
    not_before: Instant,
}

impl Knocks {
    pub(super) fn of(heard: Arc<Notify>) -> Self {
        Self { heard, rest: REST, not_before: Instant::now() }
    }

    /// Waits until somebody has knocked since the last time. Cancel safe.
    pub(super) async fn next(&mut self) {
        if Instant::now() < self.not_before {
            sleep_until(self.not_before).await;
        }
        self.heard.notified().await;
        self.not_before = Instant::now() + self.rest;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn flood(heard: &Notify) {
        (0..1000).for_each(|_| heard.notify_one());
    }

    #[tokio::test]
    async fn a_flood_is_heard_at_once_and_then_has_to_rest() {
        let heard = Arc::new(Notify::new());
        let mut knocks = Knocks { rest: HOUR, ..Knocks::of(heard.clone()) };
        assert!(poll!(pin!(knocks.next())).is_pending(), "nobody has knocked yet");
        flood(&heard);
        assert!(poll!(pin!(knocks.next())).is_ready());
        flood(&heard);
        assert!(poll!(pin!(knocks.next())).is_pending());
    }

    #[tokio::test]
    async fn what_was_said_during_a_rest_is_heard_once_after_it() {
        let heard = Arc::new(Notify::new());
        let mut knocks = Knocks { rest: HOUR, ..Knocks::of(heard.clone()) };
        flood(&heard);
        knocks.next().await;
        flood(&heard);
        knocks.not_before = Instant::now();
        assert!(poll!(pin!(knocks.next())).is_ready());
        knocks.not_before = Instant::now();
        assert!(poll!(pin!(knocks.next())).is_pending());
    }
}
