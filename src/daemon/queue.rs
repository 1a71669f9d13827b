//! When the next pass begins: what wakes the loop, debounced, with a backoff after passes that failed. Pure: the moment
//! is an argument.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

/// What a pass is begun for. All mean only "look now": what is done about it is for the planner to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The controller has just started.
    Start,
    /// References of the infra repo changed.
    Commit,
    /// A forge told of a change.
    Webhook,
    /// A hook of a Git server on this host, or a person, told of a change: `backstay wake`.
    Hook,
    /// It is time to ask the infra repo again.
    Poll,
    /// A schedule has a slot now, or something that waited needs not wait any more.
    Due,
    /// A person asked by SIGHUP.
    Asked,
    /// The last pass failed.
    Retry,
}

impl Why {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Start => "start",
            Why::Commit => "commit",
            Why::Webhook => "webhook",
            Why::Hook => "hook",
            Why::Poll => "poll",
            Why::Due => "due",
            Why::Asked => "asked",
            Why::Retry => "retry",
        }
    }

    /// Whether a newer revision is likely to be there.
    pub fn tells_of_a_commit(self) -> bool {
        matches!(self, Why::Commit | Why::Webhook | Why::Hook)
    }
}

/// The longest that a failure puts off the next try, whatever it asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// How patient the loop is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long events are gathered before a pass begins.
    pub debounce: Duration,
    /// The pause after a first failed pass; doubled for every further one.
    pub backoff: Duration,
    /// The longest such pause.
    pub longest_backoff: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(50),
            backoff: Duration::from_secs(10),
            longest_backoff: Duration::from_secs(600),
        }
    }
}

impl Pace {
    /// The pause after so many failures in a row before the last one.
    pub fn pause_after(&self, failures: u32) -> Duration {
        self.backoff.saturating_mul(1 << failures.min(16)).min(self.longest_backoff)
    }
}

/// The passes to come.
#[derive(Debug)]
pub struct Queue {
    pace: Pace,
    woken: Option<(Instant, BTreeSet<Why>)>,
    retry: Option<Instant>,
    due: Option<Instant>,
    failures: u32,
}

impl Queue {
    /// A queue that begins its first pass at once.
    pub fn new(pace: Pace, now: Instant) -> Self {
        let woken = Some((now, BTreeSet::from([Why::Start])));
        Self { pace, woken, retry: None, due: None, failures: 0 }
    }

    /// Something happened. Events shortly after each other make one pass; a steady stream of them does not put it off.
    pub fn wake(&mut self, why: Why, now: Instant) {
        let (_, reasons) = self.woken.get_or_insert_with(|| (now + self.pace.debounce, BTreeSet::new()));
        reasons.insert(why);
    }

    /// Something failed that may go through later; not before `least`, if that is known. Further failures before the next
    /// try do not put it off.
    pub fn failed(&mut self, least: Option<Duration>, now: Instant) {
        if self.retry.is_some() {
            return;
        }
        let pause = self.pace.pause_after(self.failures);
        self.failures += 1;
        let least = least.unwrap_or_default().min(LONGEST_PAUSE);
        self.retry = now.checked_add(pause.max(least)).or_else(|| now.checked_add(LONGEST_PAUSE));
    }

    /// A pass has ended, and nothing of it is to be tried again.
    pub fn settled(&mut self) {
        self.failures = 0;
        self.retry = None;
    }

    /// How long it is until a schedule has its next slot, if there is one. A pass under way minds that itself.
    pub fn due_in(&mut self, due: Option<Duration>, now: Instant) {
        self.due = due.map(|due| now + due);
    }

    /// When the next pass begins; `None` when nothing is known to come.
    pub fn next(&self) -> Option<Instant> {
        let woken = self.woken.as_ref().map(|(at, _)| *at);
        [woken, self.retry, self.due].into_iter().flatten().min()
    }

    /// Takes the pass that is to begin by now, with all its reasons; empty when there is none.
    pub fn take(&mut self, now: Instant) -> BTreeSet<Why> {
        let mut reasons = BTreeSet::new();
        if let Some((_, woken)) = self.woken.take_if(|(at, _)| *at <= now) {
            reasons.extend(woken);
        }
        if self.retry.take_if(|at| *at <= now).is_some() {
            reasons.insert(Why::Retry);
        }
        if self.due.take_if(|at| *at <= now).is_some() {
            reasons.insert(Why::Due);
        }
        if !reasons.is_empty() {
            // The pass that begins names the next slot.
            self.due = None;
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn started(now: Instant) -> Queue {
        let mut queue = Queue::new(Pace::default(), now);
        assert_eq!(queue.take(now), BTreeSet::from([Why::Start]));
        queue.settled();
        queue
    }

    #[test]
    fn a_stream_of_events_makes_one_pass_that_is_not_put_off() {
        let now = Instant::now();
        let mut queue = started(now);
        for n in 0..10 {
            queue.wake(Why::Commit, now + Duration::from_millis(n));
        }
        queue.wake(Why::Poll, now);
        assert_eq!(queue.next(), Some(now + Pace::default().debounce));
        assert_eq!(queue.take(now), BTreeSet::new());
        assert_eq!(queue.take(now + SECOND), BTreeSet::from([Why::Commit, Why::Poll]));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_pause_without_end_is_none() {
        let now = Instant::now();
        let mut queue = started(now);
        queue.failed(Some(Duration::MAX), now);
        assert_eq!(queue.next(), Some(now + LONGEST_PAUSE));
    }

    #[test]
    fn failed_passes_are_repeated_ever_more_slowly_until_one_settles() {
        let now = Instant::now();
        let mut queue = started(now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            queue.failed(None, now);
            // What fails until then does not put it off.
            queue.failed(None, now + SECOND);
            let next = queue.next().unwrap();
            pauses.push((next - now).as_secs());
            assert_eq!(queue.take(next), BTreeSet::from([Why::Retry]));
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        queue.settled();
        assert_eq!(queue.next(), None);
        queue.failed(Some(60 * SECOND), now);
        assert_eq!(queue.next(), Some(now + 60 * SECOND));
    }

    #[test]
    fn a_commit_does_not_wait_for_the_backoff() {
        let now = Instant::now();
        let mut queue = started(now);
        queue.failed(Some(600 * SECOND), now);
        queue.wake(Why::Commit, now);
        assert_eq!(queue.take(now + SECOND), BTreeSet::from([Why::Commit]));
        assert_eq!(queue.next(), Some(now + 600 * SECOND));
    }

    #[test]
    fn a_slot_begins_a_pass_once_and_the_pass_names_the_next_slot() {
        let now = Instant::now();
        let mut queue = started(now);
        queue.due_in(Some(5 * SECOND), now);
        assert_eq!(queue.take(now + 4 * SECOND), BTreeSet::new());
        assert_eq!(queue.take(now + 5 * SECOND), BTreeSet::from([Why::Due]));
        assert_eq!(queue.next(), None);
    }
}
