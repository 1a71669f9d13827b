//! Runs the steps of a plan: each after those that it waits for, so many at a time, with retries by class of error. It
//! chooses nothing: what is done, to what and why stands in the plan; how it is done is behind [`Effects`].

mod attempt;
mod holds;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use backon::BackoffBuilder as _;
use jiff::Timestamp;
use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use crate::{
    artifact::ArtifactId,
    inventory::Interrupted,
    plan::{Action, Plan, Step, StepId},
    progress::{Progress, Unseen},
    stores::Class,
};
use attempt::{Ran, attempt};
use holds::Holds;

/// What the steps of a plan do to the world.
#[async_trait]
pub trait Effects: Send + Sync {
    /// Now, by the controller's clock.
    fn now(&self) -> Timestamp;

    /// What would be left behind if the step were cut off; names a new artifact for every attempt of a capture.
    fn writes(&self, action: &Action) -> Option<Interrupted>;

    /// Takes the step, under the name that [`Effects::writes`] gave. Dropping the future ends every process that it
    /// started and commits nothing.
    async fn apply(&self, step: &Step, writes: Option<&Interrupted>) -> Result<Done, Failure>;

    /// Removes what an attempt left behind, unless it was committed. Does nothing where nothing is.
    async fn clean_up(&self, left: &Interrupted) -> Result<(), Failure>;
}

/// What a step that succeeded has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// For people, such as `3 packs, 96 MiB, 4 % of it new`.
    pub note: Option<String>,
    /// The artifact that it made, if it made one.
    pub artifact: Option<ArtifactId>,
    /// Damage that a check found: the check itself succeeded.
    pub damage: Vec<String>,
}

/// A step that failed, and what happens next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What happens next.
    pub class: Class,
    /// `failed to …`, to its end.
    pub message: String,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The effect is there.
    Done(Done),
    /// It is not.
    Failed(Failure),
    /// It was not tried, since a step that it waits for has not succeeded.
    Skipped(String),
    /// It was stopped or never begun, since the controller ends or a newer revision came.
    Cancelled,
}

/// Two ways to ask a running pass to come to its end.
#[derive(Clone, Debug, Default)]
pub struct Halt {
    /// Ends what is under way as well: nothing half-made counts.
    pub stop: CancellationToken,
    /// Begins nothing more and waits for nothing; what is under way goes on to its end.
    pub yield_soon: CancellationToken,
}

impl Halt {
    /// Whether nothing more is to be begun.
    pub fn begins_nothing(&self) -> bool {
        self.stop.is_cancelled() || self.yield_soon.is_cancelled()
    }
}

/// How much is done at a time, and how long is waited for what.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Steps at a time.
    pub steps: usize,
    /// Steps at a time that use one store.
    pub per_store: usize,
    /// Tries of one step before it has failed.
    pub tries: usize,
    /// The pause after a first failed try; doubled for every further one, with jitter.
    pub pause: Duration,
    /// A pause longer than this is left to a later pass.
    pub longest_pause: Duration,
    /// Limits of one try, by family.
    pub limits: Limits,
}

/// Limits of one try, by family of action.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Captures, copies, repairs and restores: work in proportion to data, whose silence their drivers bound. They may
    /// take days; this ends only what hangs all the same.
    pub transfer: Duration,
    /// Checks of stored artifacts.
    pub check: Duration,
    /// Deletions, clean-ups, records, pushes.
    pub short: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            steps: 8,
            per_store: 4,
            tries: 3,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            limits: Limits { transfer: 30 * 24 * HOUR, check: 7 * 24 * HOUR, short: HOUR },
        }
    }
}

impl Limits {
    fn of(&self, action: &Action) -> Duration {
        match action {
            Action::Capture(_) | Action::Copy { .. } | Action::Repair { .. } | Action::Restore(_) => {
                self.transfer
            }
            Action::Verify { .. } => self.check,
            _ => self.short,
        }
    }
}

/// Hears how the steps of a plan go; for progress bars and logs.
pub trait Listener: Send + Sync {
    /// A step begins, or begins again.
    fn started(&self, step: &Step);
    /// A try failed, and another one follows after a pause.
    fn pauses(&self, step: &Step, failure: &Failure, pause: Duration);
    /// A step has ended.
    fn ended(&self, step: &Step, outcome: &Outcome);
    /// Where the bytes of a step are counted while it lasts.
    fn progress(&self, _step: &Step) -> Arc<dyn Progress> {
        Arc::new(Unseen)
    }
}

/// Runs a plan to its end. Every step has an outcome; none is tried before the steps that it waits for are done.
pub async fn execute(
    plan: &Plan,
    bounds: &Bounds,
    effects: Arc<dyn Effects>,
    journal: Arc<Mutex<Journal>>,
    listener: Arc<dyn Listener>,
    halt: &Halt,
) -> BTreeMap<StepId, Outcome> {
    let mut run = Run::new(plan, bounds, listener.as_ref());
    let mut running = JoinSet::new();
    loop {
        if halt.begins_nothing() {
            run.cancel_what_waits();
        }
        while let Some(step) = run.next_ready() {
            let (step, limit, halt) = (step.clone(), bounds.limits.of(&step.action), halt.clone());
            running.spawn(attempt(step, limit, effects.clone(), journal.clone(), halt));
        }
        if running.is_empty() && !run.rests() {
            run.skip_what_can_never_begin();
        }
        tokio::select! {
            Some(ran) = running.join_next() => run.settle(ran),
            () = sleep_until(run.next_pause_ends()), if run.rests() => {}
            () = halt.yield_soon.cancelled(), if run.has_waiting() => {}
            () = halt.stop.cancelled(), if run.has_waiting() => {}
            else => return run.outcomes,
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Where a run of a plan stands.
struct Run<'a> {
    steps: BTreeMap<StepId, &'a Step>,
    bounds: &'a Bounds,
    listener: &'a dyn Listener,
    /// Not begun, or to be begun again.
    waiting: BTreeSet<StepId>,
    /// Of those, the ones that must not begin before a moment.
    resting: BTreeMap<StepId, Instant>,
    pauses: BTreeMap<StepId, backon::ExponentialBackoff>,
    holds: Holds,
    outcomes: BTreeMap<StepId, Outcome>,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, bounds: &'a Bounds, listener: &'a dyn Listener) -> Self {
        Self {
            steps: plan.steps.iter().map(|step| (step.id, step)).collect(),
            bounds,
            listener,
            waiting: plan.steps.iter().map(|step| step.id).collect(),
            resting: BTreeMap::new(),
            pauses: BTreeMap::new(),
            holds: Holds::default(),
            outcomes: BTreeMap::new(),
        }
    }

    fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn rests(&self) -> bool {
        !self.resting.is_empty()
    }

    fn next_pause_ends(&self) -> Option<Instant> {
        self.resting.values().min().copied()
    }

    /// Takes the first step that may begin now, in the plan's order.
    fn next_ready(&mut self) -> Option<&'a Step> {
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        let done = |id: &StepId| matches!(self.outcomes.get(id), Some(Outcome::Done(_)));
        let step = self.waiting.iter().map(|id| self.steps[id]).find(|step| {
            !self.resting.contains_key(&step.id)
                && step.after.iter().all(done)
                && self.holds.may_begin(&step.action, self.bounds)
        })?;
        self.waiting.remove(&step.id);
        self.holds.begin(step.id, &step.action);
        self.listener.started(step);
        Some(step)
    }

    fn settle(&mut self, ran: Result<(StepId, Ran), tokio::task::JoinError>) {
        // The attempt itself catches panics and is never aborted, so that every join yields its step.
        let Ok((id, ran)) = ran else { return };
        self.holds.end(id);
        match ran {
            Ran::Done(done) => self.end(id, Outcome::Done(done)),
            Ran::Cancelled => self.end(id, Outcome::Cancelled),
            Ran::Failed(failure) => match self.pause_after(id, &failure) {
                Some(pause) => {
                    self.listener.pauses(self.steps[&id], &failure, pause);
                    self.resting.insert(id, Instant::now() + pause);
                    self.waiting.insert(id);
                }
                None => self.end(id, Outcome::Failed(failure)),
            },
        }
    }

    /// How long to wait before the next try; `None` when there is none in this pass.
    fn pause_after(&mut self, id: StepId, failure: &Failure) -> Option<Duration> {
        let bounds = self.bounds;
        let pauses = self.pauses.entry(id).or_insert_with(|| {
            backon::ExponentialBuilder::new()
                .with_min_delay(bounds.pause)
                .with_max_delay(bounds.longest_pause)
                .with_max_times(bounds.tries.saturating_sub(1))
                .with_jitter()
                .build()
        });
        match failure.class {
            Class::Stalled => None,
            Class::Retry => pauses.next(),
            Class::Wait(long) if long > bounds.longest_pause => None,
            Class::Wait(long) => pauses.next().map(|pause| pause.max(long)),
        }
    }

    fn end(&mut self, id: StepId, outcome: Outcome) {
        let succeeded = matches!(outcome, Outcome::Done(_));
        self.waiting.remove(&id);
        self.resting.remove(&id);
        self.listener.ended(self.steps[&id], &outcome);
        self.outcomes.insert(id, outcome);
        if !succeeded {
            self.skip_dependents_of(id);
        }
    }

    fn skip_dependents_of(&mut self, id: StepId) {
        let what = self.steps[&id].action.to_string();
        let dependents: Vec<StepId> =
            self.waiting.iter().filter(|waiting| self.steps[*waiting].after.contains(&id)).copied().collect();
        for dependent in dependents {
            let why = match self.outcomes.get(&id) {
                Some(Outcome::Cancelled) => Outcome::Cancelled,
                _ => Outcome::Skipped(format!("it waits for `{what}`, which has not succeeded")),
            };
            // A step behind two failed ones has ended when the second is looked at.
            if self.waiting.contains(&dependent) {
                self.end(dependent, why);
            }
        }
    }

    /// Steps that wait for each other, or for steps that are not there. A checked plan has none.
    fn skip_what_can_never_begin(&mut self) {
        while let Some(id) = self.waiting.first().copied() {
            self.end(id, Outcome::Skipped("it waits for a step that never ends".to_owned()));
        }
    }

    fn cancel_what_waits(&mut self) {
        while let Some(id) = self.waiting.first().copied() {
            self.end(id, Outcome::Cancelled);
        }
    }
}
