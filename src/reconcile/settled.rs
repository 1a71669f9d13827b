//! Nothing new: where another pass would find what the last one left, it costs one look at the infra repo's tips.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use jiff::Timestamp;

use super::{
    Ask, Controller, Pass, PassError, desired::Desired, line::News, lock, pass::without_steps,
    under_way::UnderWay,
};
use crate::{
    inventory::{LogReader, ReaderState},
    observe::{Freshness, armed},
    spec::names::{FolderName, StoreName},
    status::Status,
};

/// What the last pass over everything left, when that was nothing to do.
pub(super) struct Settled {
    pub(super) desired: Arc<Desired>,
    pub(super) pass: Pass,
    /// When the stores were listed that it rests on.
    listed: BTreeMap<StoreName, Timestamp>,
    /// From when on time alone may have changed something.
    until: Option<Timestamp>,
}

impl Settled {
    /// Whether time alone has changed nothing.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        // Before it there is no time but after the clock was set back.
        self.pass.status.at <= now && self.until.is_none_or(|until| now < until)
    }
}

/// What was found out before a pass begins.
#[derive(Default)]
pub(super) struct Prelude {
    /// How the infra repo answered, if it was asked.
    pub(super) fetched: Option<Fetched>,
    /// What the last pass left, where nothing but the revision may have changed since.
    pub(super) settled: Option<Arc<Settled>>,
}

/// How the infra repo answered: why it could not be asked, if so.
pub(super) struct Fetched(pub(super) Option<String>);

impl Controller {
    /// What the last pass left, where another one would find the same: no newer revision, nothing that has fallen due, no
    /// listing that is too old, no schedule that somebody changed, nothing that another process did. Otherwise what was
    /// found out about that.
    pub(super) async fn nothing_new(&self, ask: &Ask, news: Option<&News>) -> ControlFlow<Pass, Prelude> {
        let go_on = ControlFlow::Continue(Prelude::default());
        let Some(freshness) = news.filter(|news| news.is_only_a_look()).and_then(|news| news.look) else {
            return go_on;
        };
        if !matches!(ask, Ask::Everything) || !self.is_settled(freshness).await {
            return go_on;
        }
        let unreachable = self.fetch().await;
        let desired = self.desired().await.ok();
        let settled = lock(&self.settled).clone().filter(|_| unreachable.is_none());
        match settled {
            Some(settled) if desired.is_some_and(|desired| Arc::ptr_eq(&desired, &settled.desired)) => {
                ControlFlow::Break(self.as_published(settled.pass.clone()))
            }
            settled => ControlFlow::Continue(Prelude { fetched: Some(Fetched(unreachable)), settled }),
        }
    }

    /// Whether nothing but a newer revision could give a pass something to do.
    async fn is_settled(&self, freshness: Freshness) -> bool {
        let now = self.now();
        let settled = lock(&self.settled).clone().filter(|settled| settled.holds(now));
        let Some(settled) = settled else { return false };
        if self.state.is_busy() || self.state.last_pass() != *lock(&self.last_pass) {
            return false;
        }
        let seen = self.seen.lock().await;
        if !is_unchanged(&self.seen_readers(), &seen.inventory.readers) {
            return false;
        }
        let scheduler = self.drivers.scheduler(&settled.desired.spec.fleet);
        seen.is_all_fresh(freshness, now)
            && seen.listing_times() == settled.listed
            && armed(scheduler.as_ref(), &self.scheduled_by()).await == seen.inventory.armed
    }

    /// Takes note of what a pass left.
    pub(super) async fn settle(&self, ask: &Ask, pass: &UnderWay<'_>, ended: &Result<Pass, PassError>) {
        let left_nothing =
            |pass: &&Pass| pass.status.pending == 0 && pass.try_again().is_none() && !pass.has_blind_spots();
        let listed = self.seen.lock().await.listing_times();
        let settled = ended.as_ref().ok().filter(left_nothing).and_then(|ended| {
            let desired = pass.desired.clone()?;
            let until = [ended.next_due, next_breach(&ended.status)].into_iter().flatten().min();
            Some(Arc::new(Settled { desired, listed, pass: without_steps(ended.clone()), until }))
        });
        *lock(&self.settled) = settled.filter(|_| matches!(ask, Ask::Everything));
    }
}

/// Whether readers are as they were, and all of them read: of one that does not, time alone makes a condition.
fn is_unchanged(now: &BTreeMap<FolderName, LogReader>, before: &BTreeMap<FolderName, LogReader>) -> bool {
    let as_before =
        |(one, before): (&LogReader, &LogReader)| one.state == ReaderState::Up && one.stands_as(before);
    now.keys().eq(before.keys()) && now.values().zip(before.values()).all(as_before)
}

/// When the first objective that holds is breached unless something is done.
fn next_breach(status: &Status) -> Option<Timestamp> {
    let objectives = status.backups.values().filter_map(|backup| backup.objective.as_ref());
    objectives.filter_map(|objective| objective.breached_at).filter(|at| *at > status.at).min()
}
