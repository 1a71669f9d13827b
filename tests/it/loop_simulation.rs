//! The whole loop under faults: the real controller, executor, capture and restore engine, observation, journal and
//! records, on a real infra repo, against stores and sources in memory and clocks that are set by hand. A seeded random
//! commits good and bad declarations, changes data, kills the controller at any call and after any step, lets stores
//! fail, tear, corrupt, answer late or not at all, sets them back, spoils and loses objects, renames backups, and moves
//! clocks by up to a year either way.
//!
//! After every move the stores themselves are judged; what counts is what a restore brings back. Once faults stop,
//! everything must converge. A failure prints its seed, and the seed brings the same run again:
//! `BACKSTAY_SEED=17 cargo test --test it loop_simulation`; a range such as `BACKSTAY_SEED=100..400` tries many.

mod declaration;
mod disturb;
mod fleet;
mod gate;
mod judge;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use backstay::{
    apply::executor::{Done, Failure, Halt, Listener, Outcome},
    artifact::{ArtifactId, layout::ObjectName},
    clock::{Clock, ManualClock},
    plan::{Action, Step},
    reconcile::{Ask, Controller, Pass, Terms},
    spec::names::{FolderName, StoreName},
    stores::{
        Store,
        faulty::{Chances, Health},
    },
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::simulation::{Random, for_every_seed};
use declaration::{Declaration, folder_of};
use fleet::{Fleet, STORES};
use gate::{Death, Gate};
use judge::{Judge, is_infra};

const SEEDS: u64 = 6;
const MOVES: usize = 16;
const BACKUPS: [&str; 3] = ["agama", "orders", "wiki"];
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

#[test]
fn whatever_fails_nothing_good_is_lost_and_all_comes_right_once_faults_stop() {
    for_every_seed(SEEDS, |seed| drop(simulate(seed)));
}

#[test]
fn a_seed_brings_the_same_run_again() {
    let (one, other) = (simulate(3), simulate(3));
    let differs = one.iter().zip(&other).position(|(one, other)| one != other);
    if let Some(at) = differs {
        let around = |trace: &[String]| trace[at.saturating_sub(3)..(at + 3).min(trace.len())].join("\n");
        panic!("move {at} differs:\n{}\n---\n{}", around(&one), around(&other));
    }
    assert_eq!(one.len(), other.len());
}

/// Everything that happened.
fn simulate(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(Simulation::new(seed).run())
}

/// The folder of a backup in a store.
type Folder = (StoreName, FolderName);

struct Simulation {
    random: Random,
    fleet: Fleet,
    declared: Declaration,
    controller: Option<Controller>,
    /// What was changed or lost behind the stores' backs, and what is there instead.
    tampered: BTreeMap<(StoreName, ObjectName), Option<Bytes>>,
    /// What the last status that saw the folder called damaged.
    damaged: BTreeMap<Folder, BTreeSet<ArtifactId>>,
    /// What the last status that saw the folder called held.
    held: BTreeMap<Folder, BTreeSet<ArtifactId>>,
    /// Which epochs others write into, until when.
    leases: Vec<(Folder, ObjectName, ArtifactId, Timestamp)>,
    judge: Judge,
    /// The true time.
    truth: ManualClock,
}

/// Where a pass is cut off.
#[derive(Clone, Copy, Debug)]
enum Crash {
    Never,
    AtCall(Death),
    /// When so many steps have begun or ended.
    AtStep(u64),
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let stores = 2 + random.below(2) as usize;
        let mut simulation = Self {
            random,
            fleet: Fleet::new(seed, now),
            declared: Declaration { stores, backups: BTreeMap::new(), renames: BTreeMap::new(), note: 0 },
            controller: None,
            tampered: BTreeMap::new(),
            damaged: BTreeMap::new(),
            held: BTreeMap::new(),
            leases: Vec::new(),
            judge: Judge::default(),
            truth: ManualClock::new(now),
        };
        simulation.declare("agama");
        for name in BACKUPS {
            simulation.change_data(name);
        }
        simulation.commit();
        simulation
    }

    async fn run(mut self) -> Vec<String> {
        self.pass(&Ask::Everything, Crash::Never).await;
        for _ in 0..MOVES {
            let step = MINUTE * (10 + self.random.below(10 * 60) as i32);
            self.advance(step);
            self.disturb().await;
            let (ask, crash) = (self.ask(), self.crash());
            self.pass(&ask, crash).await;
        }
        self.converge().await;
        self.fleet.gate.trace()
    }

    fn advance(&mut self, by: SignedDuration) {
        self.fleet.advance(by);
        self.truth.set(self.truth.now() + by);
    }

    fn crash(&mut self) -> Crash {
        let random = &mut self.random;
        match random.below(4) {
            0 => Crash::AtCall(Death { after: random.below(150), with_effect: random.one_in(2) }),
            1 => Crash::AtStep(1 + random.below(12)),
            _ => Crash::Never,
        }
    }

    /// One pass, perhaps cut off; and a look at what it leaves.
    async fn pass(&mut self, ask: &Ask, crash: Crash) -> Option<Pass> {
        let controller = self.controller.take().unwrap_or_else(|| self.fleet.controller());
        let before = self.holdings().await;
        let ended = self.run_until(&controller, ask, crash).await;
        if let Some(pass) = &ended {
            self.assert_told(pass);
            self.controller = (!self.random.one_in(4)).then_some(controller);
        }
        self.forget_what_was_mended().await;
        self.assert_safe(&before, ended.as_ref()).await;
        ended
    }

    /// Runs a pass to its end, or drops it where it is to be killed: whatever it is doing then, it never goes on.
    async fn run_until(&mut self, controller: &Controller, ask: &Ask, crash: Crash) -> Option<Pass> {
        let (halt, terms) = (Halt::default(), Terms::default());
        let gate = self.fleet.gate.clone();
        gate.note(format!("a pass for {ask:?}, crash: {crash:?}"));
        let countdown = Arc::new(Countdown::new(crash, gate.clone()));
        let listener: Arc<dyn Listener> = countdown.clone();
        let death = match crash {
            Crash::AtCall(death) => Some(death),
            Crash::Never | Crash::AtStep(_) => None,
        };
        let pass = async {
            tokio::select! {
                biased;
                () = countdown.over.notified() => None,
                ended = controller.apply(ask, &terms, &halt, &listener) => Some(ended),
            }
        };
        let ended = gate.run(death, pass).await.flatten();
        gate.note(if ended.is_some() { "the pass ended" } else { "the controller was killed" });
        for (folder, artifact) in countdown.damaged.lock().unwrap().drain(..) {
            self.damaged.entry(folder).or_default().insert(artifact);
        }
        match (ask, ended?) {
            (_, Ok(pass)) => Some(pass),
            (Ask::Everything, Err(error)) => panic!("{error}"),
            // What a person asks for may be impossible.
            (_, Err(_)) => None,
        }
    }

    /// What was lost may have been copied again.
    async fn forget_what_was_mended(&mut self) {
        for ((store, name), instead) in std::mem::take(&mut self.tampered) {
            let now = self.fleet.stores[&store].memory.get(&name, None, u64::MAX).await.ok();
            if now == instead {
                self.tampered.insert((store, name), instead);
            }
        }
    }

    /// No failure is one of our own making; what is said to be damaged or held is remembered.
    fn assert_told(&mut self, pass: &Pass) {
        for (step, failure) in pass.failures() {
            assert!(!failure.message.contains("report this"), "{}: {}", step.action, failure.message);
        }
        for (backup, status) in &pass.status.backups {
            for (store, stored) in status.stores.iter().filter(|(_, stored)| stored.unknown.is_none()) {
                let folder = (store.clone(), folder_of(backup));
                self.damaged.insert(folder.clone(), stored.damaged.iter().copied().collect());
                self.held.insert(folder, stored.held.iter().copied().collect());
            }
        }
    }

    /// Faults stop, clocks are set right, somebody corrects the declaration: days later all is as declared.
    async fn converge(&mut self) {
        self.fleet.gate.note("faults stop");
        for vault in self.fleet.stores.values() {
            vault.faults.set_health(Health::Well);
            vault.faults.set_chances(Chances::default());
        }
        self.fleet.data.lock().unwrap().values_mut().for_each(|data| data.fails_after = None);
        for clock in self.fleet.clocks() {
            clock.set(self.truth.now());
        }
        self.commit();
        for _ in 0..8 {
            self.advance(HOUR * 12);
            self.adopt().await;
            self.pass(&Ask::Everything, Crash::Never).await;
        }
        let mut left = Vec::new();
        for _ in 0..6 {
            let pass = self.pass(&Ask::Everything, Crash::Never).await.unwrap();
            left = pass.plan.steps;
            if left.is_empty() {
                return self.assert_converged(&pass.status).await;
            }
        }
        panic!("still to do: {left:#?}");
    }

    async fn assert_converged(&mut self, status: &backstay::status::Status) {
        let found = self.holdings().await;
        let infra = "infra".parse().unwrap();
        let declared = self.declared.backups.keys().map(|name| name.parse::<FolderName>().unwrap());
        for backup in declared.chain([infra]) {
            for store in &STORES[..self.declared.stores] {
                let store: StoreName = store.parse().unwrap();
                let folder = self.folder(&store, &backup);
                let artifacts = found.get(&(store.clone(), backup.clone()));
                let artifacts =
                    artifacts.unwrap_or_else(|| panic!("nothing of {backup} in {store}: {status:#?}"));
                let newest = artifacts.values().flatten().max_by_key(|m| (m.moment.newest(), m.artifact));
                let newest = newest.unwrap_or_else(|| panic!("no artifact of {backup} in {store}"));
                assert!(!self.is_tampered(&folder, newest), "the newest of {backup} in {store} is damaged");
                let age = self.truth.now().duration_since(newest.moment.newest());
                assert!(is_infra(&backup) || age <= DAY, "{backup} in {store} is {age} old: {status:#?}");
            }
        }
        assert_eq!(status.pending, 0);
        assert_eq!(self.fleet.interrupted(), []);
        assert_eq!(status.revisions.refused, None);
    }
}

/// A run that fails tells what happened last.
impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trace = self.fleet.gate.trace();
            eprintln!("{}", trace[trace.len().saturating_sub(200)..].join("\n"));
        }
    }
}

/// Counts what a pass does, and tells when it is to be killed.
struct Countdown {
    left: AtomicU64,
    over: Notify,
    /// What its checks found.
    damaged: Mutex<Vec<(Folder, ArtifactId)>>,
    gate: Gate,
}

impl Countdown {
    fn new(crash: Crash, gate: Gate) -> Self {
        let left = match crash {
            Crash::AtStep(steps) => steps,
            Crash::Never | Crash::AtCall(_) => 0,
        };
        Self { left: AtomicU64::new(left), over: Notify::new(), damaged: Mutex::default(), gate }
    }

    fn count(&self) {
        let counted = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if counted == Ok(1) {
            self.over.notify_one();
        }
    }
}

impl Listener for Countdown {
    fn started(&self, step: &Step) {
        self.gate.note(format!("{} begins: {}", step.action, step.reason));
        self.count();
    }
    fn pauses(&self, step: &Step, _: &Failure, _: Duration) {
        self.gate.note(format!("{} pauses", step.action));
    }
    fn ended(&self, step: &Step, outcome: &Outcome) {
        let how = match outcome {
            Outcome::Done(_) => "done",
            Outcome::Failed(_) => "failed",
            Outcome::Skipped(_) => "skipped",
            Outcome::Cancelled => "cancelled",
        };
        if let (Action::Verify { backup, artifact, store, .. }, Outcome::Done(Done { damage, .. })) =
            (&step.action, outcome)
            && !damage.is_empty()
        {
            self.damaged.lock().unwrap().push(((store.clone(), folder_of(backup)), *artifact));
        }
        self.gate.note(format!("{}: {how}", step.action));
        self.count();
    }
}
