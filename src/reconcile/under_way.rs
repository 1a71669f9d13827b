//! A pass between its rounds: its steps under way, what they led to, and what it waits for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Ask, Extent, Keep, Pass, PassError,
    desired::Desired,
    hand::Hand,
    line::{self, Line, News, Reply, Wanted},
    pass::Begun,
    settled::Fetched,
    touched::Touched,
};
use crate::{
    apply::{
        executor::{Bounds, Claims, Execution, Outcome},
        world::Deeds,
    },
    artifact::{ArtifactId, record::Event},
    clock::Clock,
    inventory::Healed,
    observe::Freshness,
    plan::{Action, Plan, Step, StepId, manual},
    spec::{
        Moves,
        names::{BackupName, StoreName},
    },
};

/// How often in a row a pass plans on what its own steps made while nothing else is under way. Captures, their copies,
/// their checks: three; and one to spare.
const MOST_ROUNDS: usize = 4;

/// What was seen is good enough when time alone begins a round, if it is not older than this.
const FRESH: Duration = Duration::from_secs(600);

/// What a round is for.
pub(super) enum Occasion {
    /// The first look.
    Begin(Freshness),
    /// Something happened outside.
    News(News),
    /// A schedule has a slot now, or something that waited needs not wait any more.
    Due,
    /// Steps have ended, and something may follow from them.
    Consequences,
    /// Nothing more is to be begun.
    Stop,
}

impl Occasion {
    /// Whether what waits to begin gives way to a newer commit.
    pub(super) fn is_commit(&self) -> bool {
        matches!(self, Occasion::News(news) if news.commit)
    }

    /// How old what was seen may be; `None` where what was seen is gone by.
    pub(super) fn freshness(&self) -> Option<Freshness> {
        match self {
            Occasion::Begin(freshness) => Some(*freshness),
            Occasion::News(news) => Some(news.look.unwrap_or(Freshness::Within(FRESH))),
            Occasion::Due => Some(Freshness::Within(FRESH)),
            Occasion::Consequences | Occasion::Stop => None,
        }
    }
}

/// A pass between its rounds.
pub(super) struct UnderWay<'a> {
    pub(super) hand: Hand,
    pub(super) line: &'a Line,
    pub(super) ask: &'a Ask,
    pub(super) execution: Execution,
    pub(super) deeds: Arc<Deeds>,
    /// The revision that further steps are planned for.
    pub(super) desired: Option<Arc<Desired>>,
    pub(super) begun: Option<Begun>,
    /// How the infra repo answered just now, before the first round.
    pub(super) fetched: Option<Fetched>,
    /// What is planned for by itself, since everything else is as the last pass left it.
    pub(super) touched: Option<Touched>,
    /// Why the infra repo could not be asked, if so.
    pub(super) unreachable: Option<String>,
    /// What is to be told in stores' records.
    pub(super) events: Vec<(StoreName, Event)>,
    /// What steps put back that had drifted.
    pub(super) healing: BTreeMap<StepId, Healed>,
    /// What was put back and is to be told in stores' records: each once a round, in however many steps.
    pub(super) healed: BTreeSet<Healed>,
    /// What a person asked for and could not be begun yet.
    pub(super) wanted: Vec<Wanted>,
    /// What a person asked for, and is under way.
    manual: Vec<Manual>,
    /// Names that mean another folder now than to what was begun before.
    renamed: BTreeSet<BackupName>,
    /// Artifacts that are held, with the reason: so are their copies, whenever they are made.
    held: BTreeMap<ArtifactId, String>,
    /// What was tried since something happened outside: what failed is left until something does again.
    tried: Vec<Action>,
    /// Rounds in a row that nothing but their own consequences began.
    idle_rounds: usize,
    pub(super) next_due: Option<Timestamp>,
    /// Whether somebody hears of the rounds, so that what has ended need not be told in the end.
    is_heard: bool,
}

/// Backups on demand under way.
struct Manual {
    keep: Keep,
    /// Their captures, and the copies of what these made.
    steps: BTreeSet<StepId>,
    artifacts: BTreeSet<ArtifactId>,
    faults: Vec<String>,
    replies: Option<tokio::sync::mpsc::UnboundedSender<Reply>>,
}

impl<'a> UnderWay<'a> {
    pub(super) fn new(hand: Hand, ask: &'a Ask, line: &'a Line, bounds: &Bounds) -> Self {
        let (journal, listener, halt) = (hand.journal.clone(), hand.listener.clone(), hand.halt.clone());
        Self {
            execution: Execution::new(bounds.clone(), journal, listener, halt),
            hand,
            line,
            ask,
            deeds: Arc::default(),
            desired: None,
            begun: None,
            fetched: None,
            touched: None,
            unreachable: None,
            events: Vec::new(),
            healing: BTreeMap::new(),
            healed: BTreeSet::new(),
            wanted: Vec::new(),
            manual: Vec::new(),
            renamed: BTreeSet::new(),
            held: BTreeMap::new(),
            tried: Vec::new(),
            idle_rounds: 0,
            next_due: None,
            is_heard: false,
        }
    }

    /// Whether nothing is under way, and nothing calls for another round.
    pub(super) fn is_over(&self) -> bool {
        let stopped = self.hand.halt.stop.is_cancelled();
        self.execution.is_idle() && !self.execution.has_ended() && (stopped || !self.line.has_news())
    }

    /// Waits for what calls for another round.
    pub(super) async fn next_occasion(&mut self, clock: &dyn Clock) -> Occasion {
        loop {
            if self.hand.halt.stop.is_cancelled() {
                while !self.execution.is_idle() {
                    self.execution.next().await;
                }
                return Occasion::Stop;
            }
            if let Some(news) = self.line.take() {
                return Occasion::News(news);
            }
            let someone_waits = !self.wanted.is_empty() || !self.manual.is_empty();
            if self.execution.could_do_more()
                || self.execution.is_idle()
                || (someone_waits && self.execution.has_ended())
            {
                return Occasion::Consequences;
            }
            let due = self.next_due.filter(|_| self.goes_on()).map(|due| due.duration_since(clock.now()));
            let due = due.map(|due| Duration::try_from(due).unwrap_or_default());
            let stop = self.hand.halt.stop.clone();
            tokio::select! {
                () = self.execution.next() => {}
                () = self.line.rung() => {}
                () = stop.cancelled() => {}
                () = after(due) => return Occasion::Due,
            }
        }
    }

    /// Does `work` while the steps run on.
    pub(super) async fn meanwhile<T>(execution: &mut Execution, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = execution.next(), if !execution.is_idle() => {}
            }
        }
    }

    /// Tells how a round went.
    pub(super) fn tell(&mut self, round: Result<Pass, PassError>) {
        self.is_heard = self.line.tell(round);
    }

    /// Whether it is about all that is declared, also what falls due while it lasts.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.ask, Ask::Everything | Ask::Agreed(_))
    }

    pub(super) fn extent(&self) -> Extent {
        self.ask.extent()
    }

    /// A round begins.
    pub(super) fn begin_round(&mut self, occasion: &mut Occasion) {
        match occasion {
            Occasion::Consequences if self.execution.is_idle() => self.idle_rounds += 1,
            Occasion::Consequences | Occasion::Stop => {}
            Occasion::Begin(_) | Occasion::Due | Occasion::News(_) => {
                self.idle_rounds = 0;
                self.touched = None;
                self.tried.clear();
                if let Some(begun) = self.begun.as_mut().filter(|_| self.is_heard) {
                    begun.forget_the_past();
                }
            }
        }
        if let Occasion::News(news) = occasion {
            self.wanted.append(&mut news.wanted);
        }
    }

    /// Whether this round may still begin something.
    pub(super) fn may_begin(&self) -> bool {
        !self.hand.halt.stop.is_cancelled() && self.idle_rounds <= MOST_ROUNDS
    }

    /// Takes back what has not begun: another plan takes its place. What a person asked for is not taken back.
    pub(super) fn withdraw(&mut self) {
        let steps = self.execution.withdraw();
        if let Some(begun) = &mut self.begun {
            begun.withdraw(&steps);
        }
        for manual in &mut self.manual {
            manual.steps.retain(|step| !steps.contains(step));
        }
    }

    /// Another declaration is gone by: what it renames waits for what was begun under other names.
    pub(super) fn note_renames(&mut self, before: &Moves, after: &Moves) {
        self.renamed.extend(before.differing(after).into_iter().cloned());
    }

    /// What of `plan` may be begun now: what does not repeat or contradict anything under way, nor what was tried.
    pub(super) fn addable(&self, plan: Plan) -> Plan {
        let (claims, tried) = (Claims::from_iter(self.execution.in_flight()), Claims::from_iter(&self.tried));
        let is_renamed = |action: &Action| action.backup().is_some_and(|name| self.renamed.contains(name));
        let goes_on = self.execution.in_flight().any(is_renamed);
        let waits = |action: &Action| goes_on && is_renamed(action);
        super::pass::only(plan, |action| !waits(action) && claims.allow(action) && !tried.contain(action))
    }

    /// Takes note of what has ended, for the pass and for who asked.
    pub(super) fn note_ends(&mut self) {
        for (id, outcome) in self.execution.take_ended() {
            if let (Some(healed), Outcome::Done(_)) = (self.healing.remove(&id), &outcome) {
                tracing::info!(subject = %healed.subject, kind = healed.kind.as_str(), "put back what somebody had changed");
                // What else heals the same is part of the same healing.
                self.healing.retain(|_, other| *other != healed);
                self.healed.insert(healed);
            }
            let Some(begun) = &mut self.begun else { continue };
            if let Some(step) = begun.step(id) {
                for manual in &mut self.manual {
                    manual.note(step, &outcome, &mut self.held);
                }
                self.events.extend(hold(step, &outcome, &self.held));
            }
            begun.outcomes.insert(id, outcome);
        }
    }

    /// Takes note of steps that were added; those of `requested` are what a person asked for.
    pub(super) fn note_added(&mut self, steps: &[Step], requested: Option<Wanted>) {
        self.tried.extend(steps.iter().map(|step| step.action.clone()));
        for step in steps {
            if let Action::Copy { artifact, .. } = &step.action {
                let makers = self.manual.iter_mut().filter(|manual| manual.artifacts.contains(artifact));
                makers.for_each(|manual| manual.steps.extend([step.id]));
            }
        }
        if let Some(Wanted { keep, replies, .. }) = requested {
            self.serve(steps, keep, Some(replies));
        }
    }

    /// `steps` are what a person asked for.
    pub(super) fn serve(
        &mut self,
        steps: &[Step],
        keep: Keep,
        replies: Option<tokio::sync::mpsc::UnboundedSender<Reply>>,
    ) {
        let steps = steps.iter().map(|step| step.id).collect();
        self.manual.push(Manual { keep, steps, artifacts: BTreeSet::new(), faults: Vec::new(), replies });
    }

    /// A round did not come about: whoever asked for something hears that.
    pub(super) fn refuse(&mut self, error: &PassError) {
        line::refuse(std::mem::take(&mut self.wanted), error);
        self.answer();
    }

    /// Answers those whose backups, and the copies of them, have ended.
    pub(super) fn answer(&mut self) {
        let unrecorded = self.begun.as_ref().map_or(&[][..], |begun| &begun.unrecorded);
        self.manual.retain(|manual| {
            if !manual.steps.is_empty() {
                return true;
            }
            if let Some(replies) = &manual.replies {
                let faults = manual.faults.iter().chain(unrecorded).cloned().collect();
                // A command that has gone away is not told.
                let _ = replies.send(Reply::Ended(faults));
            }
            false
        });
    }

    /// The backups that were asked for and are waited with, since something of them is under way.
    pub(super) fn must_wait(&self, requests: &[manual::Request]) -> Option<BackupName> {
        let asked = |backup: &BackupName| requests.iter().any(|request| request.backup == *backup);
        self.execution.in_flight().find_map(|action| match action {
            Action::Capture(capture) if asked(&capture.backup) => Some(capture.backup.clone()),
            _ => None,
        })
    }
}

impl Manual {
    /// Takes note of the end of a step, and of what is to be held from now on.
    fn note(&mut self, step: &Step, outcome: &Outcome, held: &mut BTreeMap<ArtifactId, String>) {
        if !self.steps.remove(&step.id) {
            return;
        }
        self.faults.extend(fault(step, outcome));
        let (Outcome::Done(done), Action::Capture(_)) = (outcome, &step.action) else { return };
        self.artifacts.extend(done.artifact);
        if let (Some(artifact), Keep::Held(reason)) = (done.artifact, &self.keep) {
            held.insert(artifact, reason.clone());
        }
    }
}

/// What a store's records must tell of a step that has put something there that is held: every store goes by its own.
fn hold(step: &Step, outcome: &Outcome, held: &BTreeMap<ArtifactId, String>) -> Option<(StoreName, Event)> {
    let Outcome::Done(done) = outcome else { return None };
    let (store, artifact) = match &step.action {
        Action::Capture(capture) => (&capture.store, done.artifact?),
        Action::Copy { artifact, to, .. } => (to, *artifact),
        _ => return None,
    };
    let reason = held.get(&artifact)?.clone();
    Some((store.clone(), Event::Held { backup: done.folder.clone()?, artifact, reason }))
}

/// What a person who asked for a step must be told of its end.
fn fault(step: &Step, outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Done(_) => None,
        Outcome::Failed(failure) => Some(failure.to_string()),
        Outcome::Skipped(why) => Some(format!("skipped: {}: {why}", step.action)),
        Outcome::Cancelled => Some(format!("cancelled: {}", step.action)),
    }
}

async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
