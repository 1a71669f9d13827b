//! The turns of one lease: each put under a name of its own, the earlier ones removed once two newer are there.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{MARGIN, RENEWAL, RETRY, TERM};
use crate::{
    artifact::layout::{Holder, ObjectName},
    clock::Clock,
    committed::BackupFolder,
    observe::stores::leases::LONGEST,
    stores::{Put, StoreError},
};

/// The turns that one holder puts.
pub(super) struct Turns<'a> {
    folder: &'a BackupFolder,
    holder: Holder,
    state: Mutex<State>,
}

struct State {
    next: u32,
    /// Turns that may be there, oldest first.
    there: Vec<u32>,
    standing: Option<Standing>,
    due: Timestamp,
}

/// The newest turn that is known to be there.
#[derive(Clone, Copy)]
struct Standing {
    turn: u32,
    /// As others read it.
    until: Timestamp,
    /// For its holder it ends by both of these: a clock that is set back prolongs nothing, and a host that slept knows it
    /// by the other.
    by_clock: Timestamp,
    by_timer: Instant,
}

impl<'a> Turns<'a> {
    /// Turns that follow those which are there `before`, of nobody that still counts.
    pub(super) fn after(
        folder: &'a BackupFolder,
        holder: Holder,
        before: Vec<u32>,
        clock: &dyn Clock,
    ) -> Self {
        let next = before.iter().max().map_or(0, |last| last.saturating_add(1));
        let state = State { next, there: before, standing: None, due: clock.now() };
        Self { folder, holder, state: Mutex::new(state) }
    }

    /// Puts the next turn, and removes those before the last one. `Existed` means that somebody else has put it.
    pub(super) async fn put(
        &self,
        clock: &dyn Clock,
        content: impl Fn(Timestamp) -> Bytes,
    ) -> Result<Put, StoreError> {
        let put = self.try_put(clock, content).await;
        // A store that never took a turn is not asked again and again.
        let pause = if put.is_err() && self.newest().is_some() { RETRY } else { RENEWAL };
        self.state().due = later(clock.now(), pause);
        if let Ok(Put::Created) = put {
            self.remove_old().await;
        }
        put
    }

    async fn try_put(
        &self,
        clock: &dyn Clock,
        content: impl Fn(Timestamp) -> Bytes,
    ) -> Result<Put, StoreError> {
        let (now, timer, store) = (clock.now(), Instant::now(), &self.folder.store);
        // Others judge by the earlier of their clock and the store's.
        let until = later(now.max(store.clock().await?), TERM);
        let turn = self.begin();
        let (name, content) = (self.folder.lease(self.holder, turn), content(until));
        // A put whose answer was lost on the way may have been tried again.
        if store.put_if_absent(&name, content.clone()).await? == Put::Existed
            && store.get(&name, None, LONGEST).await? != content
        {
            self.state().there.retain(|other| *other != turn);
            return Ok(Put::Existed);
        }
        let by_clock = later(now, TERM - MARGIN);
        self.state().standing = Some(Standing { turn, until, by_clock, by_timer: timer + (TERM - MARGIN) });
        Ok(Put::Created)
    }

    fn begin(&self) -> u32 {
        let mut state = self.state();
        let turn = state.next;
        state.next = turn.saturating_add(1);
        state.there.push(turn);
        turn
    }

    /// Removes all but the two newest. What cannot be removed is tried again after the next turn.
    async fn remove_old(&self) {
        let there = self.state().there.clone();
        let old = there.len().saturating_sub(2);
        if let Err(error) = self.remove(&there[..old]).await {
            tracing::debug!(holder = %self.holder, %error, "an old turn of a lease stays for now");
        }
    }

    /// Removes every turn, the newest last.
    pub(super) async fn withdraw(&self) -> Result<(), StoreError> {
        let there = self.state().there.clone();
        self.remove(&there).await
    }

    async fn remove(&self, turns: &[u32]) -> Result<(), StoreError> {
        for turn in turns {
            self.folder.store.delete(&self.folder.lease(self.holder, *turn)).await?;
            self.state().there.retain(|other| other != turn);
        }
        Ok(())
    }

    /// When the next turn is to be put.
    pub(super) fn due(&self) -> Timestamp {
        self.state().due
    }

    /// When the newest turn ends for its holder; at once where there is none.
    pub(super) fn ends(&self) -> Timestamp {
        self.state().standing.map_or(Timestamp::MIN, |standing| standing.by_clock)
    }

    /// When the newest turn ends for others.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.state().standing.map(|standing| standing.until)
    }

    /// The newest turn that is known to be there.
    pub(super) fn newest(&self) -> Option<u32> {
        self.state().standing.map(|standing| standing.turn)
    }

    /// Whether the newest turn still counts for its holder.
    pub(super) fn is_live(&self, clock: &dyn Clock) -> bool {
        let live = |s: Standing| clock.now() < s.by_clock && Instant::now() < s.by_timer;
        self.state().standing.is_some_and(live)
    }

    /// The objects that may be there, the newest last.
    pub(super) fn objects(&self) -> Vec<ObjectName> {
        self.state().there.iter().map(|turn| self.folder.lease(self.holder, *turn)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn later(moment: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}
