//! Steps under way. More are added while they run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use backon::BackoffBuilder as _;
use tokio::{task::JoinSet, time::Instant};

use super::{
    Bounds, Effects, Failure, Halt, Listener, Outcome,
    attempt::{Ran, attempt},
    bounds::{Length, Turn},
    claims::{agree, stores},
};
use crate::{
    apply::journal::Journal,
    plan::{Action, Step, StepId},
    stores::Class,
};

/// Steps under way: those that run, those that rest before another try, and those that wait to begin. Every one has an
/// outcome in the end; none is tried before the steps that it waits for are done. Dropping it cuts off what runs.
pub struct Execution {
    bounds: Bounds,
    journal: Arc<Mutex<Journal>>,
    listener: Arc<dyn Listener>,
    halt: Halt,
    steps: BTreeMap<StepId, Planned>,
    /// What waits for a step, by that step.
    dependents: BTreeMap<StepId, Vec<StepId>>,
    /// Not begun, or to be begun again.
    waiting: BTreeSet<(Turn, StepId)>,
    /// Of those, the ones that must not begin before a moment.
    resting: BTreeMap<StepId, Instant>,
    pauses: BTreeMap<StepId, backon::ExponentialBackoff>,
    begun: BTreeSet<StepId>,
    running: JoinSet<(StepId, Ran)>,
    ended: Vec<(StepId, Outcome)>,
    /// Whether something ended and nothing began in its place.
    has_free_place: bool,
    is_paused: bool,
}

struct Planned {
    step: Step,
    effects: Arc<dyn Effects>,
}

impl Execution {
    /// Nothing yet.
    pub fn new(
        bounds: Bounds,
        journal: Arc<Mutex<Journal>>,
        listener: Arc<dyn Listener>,
        halt: Halt,
    ) -> Self {
        Self {
            bounds,
            journal,
            listener,
            halt,
            steps: BTreeMap::new(),
            dependents: BTreeMap::new(),
            waiting: BTreeSet::new(),
            resting: BTreeMap::new(),
            pauses: BTreeMap::new(),
            begun: BTreeSet::new(),
            running: JoinSet::new(),
            ended: Vec::new(),
            has_free_place: false,
            is_paused: false,
        }
    }

    /// Adds steps, to be taken by `effects`. Their numbers are new, and they wait only for each other.
    pub fn add(&mut self, steps: Vec<Step>, effects: &Arc<dyn Effects>) {
        for step in steps {
            self.waiting.insert((Turn::of(&step.action), step.id));
            for before in &step.after {
                self.dependents.entry(*before).or_default().push(step.id);
            }
            self.steps.insert(step.id, Planned { step, effects: effects.clone() });
        }
    }

    /// Takes back what has not begun, and what rests before another try, unless a person asked for it. What runs goes on.
    pub fn withdraw(&mut self) -> Vec<StepId> {
        let asked = |step: &Step| match &step.action {
            Action::Capture(capture) => capture.manual.is_some(),
            // A machine that is half made is worse than none.
            Action::Recover(_) => true,
            _ => false,
        };
        let waiting = self.waiting.iter().map(|(_, id)| *id);
        let withdrawn: Vec<StepId> = waiting.filter(|id| !asked(&self.steps[id].step)).collect();
        for id in &withdrawn {
            self.resting.remove(id);
            self.pauses.remove(id);
            if let Some(Planned { step, .. }) = self.steps.remove(id) {
                self.waiting.remove(&(Turn::of(&step.action), *id));
                self.listener.ended(&step, &Outcome::Cancelled);
            }
        }
        withdrawn
    }

    /// Goes by other bounds from now on. What runs goes on, even if there are more of it.
    pub fn keep_within(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Begins nothing until it is resumed. What runs goes on.
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Begins again what can begin.
    pub fn resume(&mut self) {
        self.is_paused = false;
    }

    /// What has not ended.
    pub fn in_flight(&self) -> impl Iterator<Item = &Action> {
        self.steps.values().map(|planned| &planned.step.action)
    }

    /// Whether everything has ended.
    pub fn is_idle(&self) -> bool {
        self.steps.is_empty()
    }

    /// Takes the outcomes of what has ended since they were taken last, in the order of their ends.
    pub fn take_ended(&mut self) -> Vec<(StepId, Outcome)> {
        self.has_free_place = false;
        std::mem::take(&mut self.ended)
    }

    /// Whether outcomes are there to be taken.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Whether outcomes are there, and nothing that was added could use the place of what has ended.
    pub fn could_do_more(&self) -> bool {
        self.has_ended() && (self.has_free_place || self.is_idle())
    }

    /// Runs the steps until another one has ended; at once where there is none. May be dropped and called again.
    pub async fn next(&mut self) {
        let before = self.ended.len();
        loop {
            if self.halt.stop.is_cancelled() {
                self.cancel_what_waits();
            }
            let begun = self.begin_what_can();
            if self.running.is_empty() && self.resting.is_empty() && !self.is_paused {
                self.skip_what_can_never_begin();
            }
            if self.ended.len() > before || self.is_idle() {
                self.has_free_place |= begun == 0;
                return;
            }
            tokio::select! {
                Some(ran) = self.running.join_next() => self.settle(ran),
                () = sleep_until(self.resting.values().min().copied()), if !self.resting.is_empty() => {}
                () = self.halt.stop.cancelled(), if !self.waiting.is_empty() => {}
                () = std::future::pending(), if self.is_paused => {}
            }
        }
    }

    /// Begins what may begin now; returns how many.
    fn begin_what_can(&mut self) -> usize {
        let mut begun = 0;
        if self.is_paused {
            return begun;
        }
        while let Some((turn, id)) = self.next_ready() {
            self.waiting.remove(&(turn, id));
            self.begun.insert(id);
            let Planned { step, effects } = &self.steps[&id];
            self.listener.started(step);
            let limit = self.bounds.limits.of(&step.action);
            let (journal, halt) = (self.journal.clone(), self.halt.clone());
            self.running.spawn(attempt(step.clone(), limit, effects.clone(), journal, halt));
            begun += 1;
        }
        begun
    }

    /// The first step that may begin now, in the order of their turns.
    fn next_ready(&mut self) -> Option<(Turn, StepId)> {
        let now = Instant::now();
        self.resting.retain(|_, until| *until > now);
        if self.begun.len() >= Length::Short.share(self.bounds.steps) {
            return None;
        }
        let ready = |(_, id): &&(Turn, StepId)| {
            let step = &self.steps[id].step;
            !self.resting.contains_key(id) && step.after.is_empty() && self.has_place_for(&step.action)
        };
        self.waiting.iter().find(ready).copied()
    }

    /// Whether a step fits beside those that run: within the bounds, and without contradicting any.
    fn has_place_for(&self, action: &Action) -> bool {
        let running = || self.begun.iter().map(|id| &self.steps[id].step.action);
        let fits = |all: usize, uses: &dyn Fn(&Action) -> bool| {
            [Length::Short, Length::Middling, Length::Long]
                .into_iter()
                .filter(|length| *length <= Length::of(action))
                .all(|length| {
                    let taken = running().filter(|other| uses(other) && Length::of(other) >= length).count();
                    taken < length.share(all)
                })
        };
        fits(self.bounds.steps, &|_| true)
            && stores(action)
                .all(|store| fits(self.bounds.per_store, &|other| stores(other).any(|used| used == store)))
            && running().all(|other| agree(other, action))
    }

    fn settle(&mut self, ran: Result<(StepId, Ran), tokio::task::JoinError>) {
        // The attempt itself catches panics and is never aborted, so that every join yields its step.
        let Ok((id, ran)) = ran else { return };
        self.begun.remove(&id);
        match ran {
            Ran::Done(done) => self.end(id, Outcome::Done(done)),
            Ran::Cancelled => self.end(id, Outcome::Cancelled),
            Ran::Failed(failure) => match self.pause_after(id, &failure) {
                Some(pause) => {
                    let step = &self.steps[&id].step;
                    self.listener.pauses(step, &failure, pause);
                    self.waiting.insert((Turn::of(&step.action), id));
                    self.resting.insert(id, Instant::now() + pause);
                }
                None => self.end(id, Outcome::Failed(failure)),
            },
        }
    }

    /// How long to wait before the next try; `None` when there is none.
    fn pause_after(&mut self, id: StepId, failure: &Failure) -> Option<Duration> {
        let bounds = &self.bounds;
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
        let Some(Planned { step, .. }) = self.steps.remove(&id) else { return };
        self.waiting.remove(&(Turn::of(&step.action), id));
        self.resting.remove(&id);
        self.pauses.remove(&id);
        self.listener.ended(&step, &outcome);
        let succeeded = matches!(outcome, Outcome::Done(_));
        let why = match outcome {
            Outcome::Cancelled => Outcome::Cancelled,
            _ => Outcome::Skipped(format!("it waits for `{}`, which has not succeeded", step.action)),
        };
        self.ended.push((id, outcome));
        for dependent in self.dependents.remove(&id).unwrap_or_default() {
            match (succeeded, self.steps.get_mut(&dependent)) {
                (true, Some(planned)) => drop(planned.step.after.remove(&id)),
                (false, _) => self.end(dependent, why.clone()),
                (true, None) => {}
            }
        }
    }

    /// Steps that wait for each other, or for steps that are not there. A checked plan has none.
    fn skip_what_can_never_begin(&mut self) {
        while let Some((_, id)) = self.waiting.first().copied() {
            self.end(id, Outcome::Skipped("it waits for a step that never ends".to_owned()));
        }
    }

    fn cancel_what_waits(&mut self) {
        while let Some((_, id)) = self.waiting.first().copied() {
            self.end(id, Outcome::Cancelled);
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
