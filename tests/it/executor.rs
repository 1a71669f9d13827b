//! Plans run by the executor over effects that only pretend.

mod bounds;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use backstay::{
    apply::{
        executor::{Bounds, Done, Effects, Execution, Failure, Halt, Listener, Outcome},
        journal::Journal,
    },
    artifact::{ArtifactId, Kind, manifest::Manual},
    inventory::{Interrupted, Work},
    plan::{Action, Plan, Step, StepId, action::Capture},
    spec::names::{BackupName, FolderName},
    stores::Class,
};
use jiff::Timestamp;
use tokio::sync::{Barrier, Semaphore};

/// What the effect of one step does, try after try; the last one is repeated.
#[derive(Clone)]
enum Act {
    Succeed,
    Fail(Class),
    /// Succeeds once so many have come here.
    Meet(Arc<Barrier>),
    Hang,
    Panic,
}

/// Counts the steps that hang.
struct Hanging(Semaphore);

impl Default for Hanging {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Hanging {
    /// Waits until so many more hang.
    async fn come(&self, number: u32) {
        self.0.acquire_many(number).await.unwrap().forget();
    }
}

#[derive(Default)]
struct Pretended {
    acts: Mutex<BTreeMap<String, Vec<Act>>>,
    log: Mutex<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
    named: AtomicUsize,
    hanging: Hanging,
    clean_up_fails: bool,
}

#[async_trait]
impl Effects for Pretended {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn folder(&self, backup: &BackupName) -> FolderName {
        backup.into()
    }

    fn writes(&self, action: &Action) -> Option<Interrupted> {
        let Action::Capture(capture) = action else { return None };
        let artifact = ArtifactId::new(self.now(), self.named.fetch_add(1, Ordering::SeqCst) as u64);
        Some(Interrupted {
            backup: self.folder(&capture.backup),
            store: capture.store.clone(),
            artifact,
            work: Work::Capture,
            copy: None,
        })
    }

    async fn apply(&self, step: &Step, writes: Option<&Interrupted>) -> Result<Done, Failure> {
        let most = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(most, Ordering::SeqCst);
        let what = step.action.to_string();
        let act = {
            let mut acts = self.acts.lock().unwrap();
            let left = acts.entry(what.clone()).or_default();
            if left.len() > 1 { left.remove(0) } else { left.first().cloned().unwrap_or(Act::Succeed) }
        };
        let name = writes.map(|w| format!(" as {}", w.artifact)).unwrap_or_default();
        self.log.lock().unwrap().push(format!("{what}{name}"));
        let ended = match act {
            Act::Succeed => Ok(Done::default()),
            Act::Meet(others) => {
                others.wait().await;
                Ok(Done::default())
            }
            Act::Fail(class) => Err(Failure { class, message: "failed to do it".into() }),
            Act::Hang => {
                self.hanging.0.add_permits(1);
                std::future::pending().await
            }
            Act::Panic => panic!("a fault in the driver"),
        };
        self.running.fetch_sub(1, Ordering::SeqCst);
        ended
    }

    async fn clean_up(&self, left: &Interrupted) -> Result<(), Failure> {
        self.log.lock().unwrap().push(format!("clean up {}", left.artifact));
        match self.clean_up_fails {
            true => Err(Failure { class: Class::Retry, message: "failed to clean up".into() }),
            false => Ok(()),
        }
    }
}

struct Deaf;

impl Listener for Deaf {
    fn started(&self, _: &Step) {}
    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}
    fn ended(&self, _: &Step, _: &Outcome) {}
}

fn capture(backup: &str, store: &str) -> Action {
    Action::Capture(Capture {
        backup: backup.parse().unwrap(),
        kind: Kind::Full,
        slot: None,
        manual: None,
        store: store.parse().unwrap(),
        base: None,
        continues: None,
    })
}

fn push(n: usize) -> Action {
    Action::Push { mirror: format!("mirror-{n}") }
}

fn plan(steps: Vec<(Action, &[u32])>) -> Plan {
    let step = |(n, (action, after)): (usize, (Action, &[u32]))| Step {
        id: StepId(n as u32),
        action,
        reason: "the test wants it".into(),
        after: after.iter().copied().map(StepId).collect(),
    };
    Plan {
        fleet: "pavroto".parse().unwrap(),
        revision: "3b1e".into(),
        at: Timestamp::UNIX_EPOCH,
        zone: jiff::tz::TimeZone::UTC,
        steps: steps.into_iter().enumerate().map(step).collect(),
        waiting: Vec::new(),
        withheld: Vec::new(),
        cannot_run: Vec::new(),
        approved: Vec::new(),
    }
}

/// Adds a plan, and runs all to its end. The outcomes in the order of the steps' numbers.
pub async fn to_the_end(execution: &mut Execution, plan: &Plan, effects: Arc<dyn Effects>) -> Vec<Outcome> {
    execution.add(plan.steps.clone(), &effects);
    while !execution.is_idle() {
        execution.next().await;
    }
    execution.take_ended().into_iter().collect::<BTreeMap<_, _>>().into_values().collect()
}

struct Bench {
    effects: Arc<Pretended>,
    journal: Arc<Mutex<Journal>>,
    halt: Halt,
    bounds: Bounds,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(acts: Vec<(Action, Vec<Act>)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let acts = acts.into_iter().map(|(action, acts)| (action.to_string(), acts)).collect();
        Self {
            effects: Arc::new(Pretended { acts: Mutex::new(acts), ..Pretended::default() }),
            journal: Arc::new(Mutex::new(Journal::open(dir.path().join("journal")).unwrap())),
            halt: Halt::default(),
            bounds: Bounds { pause: Duration::from_millis(1), ..Bounds::default() },
            _dir: dir,
        }
    }

    fn execution(&self) -> Execution {
        let (bounds, journal, halt) = (self.bounds.clone(), self.journal.clone(), self.halt.clone());
        Execution::new(bounds, journal, Arc::new(Deaf), halt)
    }

    async fn run(&self, plan: &Plan) -> Vec<Outcome> {
        to_the_end(&mut self.execution(), plan, self.effects.clone()).await
    }

    fn log(&self) -> Vec<String> {
        self.effects.log.lock().unwrap().clone()
    }

    fn interrupted(&self) -> usize {
        self.journal.lock().unwrap().interrupted().len()
    }
}

fn done() -> Outcome {
    Outcome::Done(Done::default())
}

#[tokio::test]
async fn steps_run_after_those_that_they_wait_for_and_beside_the_others() {
    let two = Arc::new(Barrier::new(2));
    let bench = Bench::new(vec![(push(1), vec![Act::Meet(two.clone())]), (push(3), vec![Act::Meet(two)])]);
    let plan = plan(vec![(push(0), &[1]), (push(1), &[]), (push(2), &[0, 1]), (push(3), &[])]);
    assert_eq!(bench.run(&plan).await, vec![done(); 4]);
    let log = bench.log();
    let place = |n: usize| log.iter().position(|line| *line == push(n).to_string()).unwrap();
    assert!(place(1) < place(0) && place(0) < place(2), "{log:?}");
}

#[tokio::test]
async fn two_captures_of_one_backup_never_run_beside_each_other() {
    let bench = Bench::new(vec![]);
    let steps: Vec<(Action, &[u32])> =
        vec![(capture("agama", "vault"), &[]), (capture("agama", "offsite"), &[])];
    assert_eq!(bench.run(&plan(steps)).await, vec![done(); 2]);
    assert_eq!(bench.effects.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_failed_step_skips_all_that_wait_for_it_and_nothing_else() {
    let bench = Bench::new(vec![(push(0), vec![Act::Fail(Class::Stalled)])]);
    let plan = plan(vec![(push(0), &[]), (push(1), &[0]), (push(2), &[1, 0]), (push(3), &[])]);
    let outcomes = bench.run(&plan).await;
    assert!(matches!(outcomes[0], Outcome::Failed(_)));
    assert!(matches!(&outcomes[1], Outcome::Skipped(why) if why.contains("push to mirror-0")));
    assert!(matches!(outcomes[2], Outcome::Skipped(_)));
    assert_eq!(outcomes[3], done());
    assert_eq!(bench.log().len(), 2);
}

#[tokio::test]
async fn a_transient_failure_is_tried_again_under_a_new_name_and_leaves_nothing_behind() {
    let agama = capture("agama", "vault");
    let bench = Bench::new(vec![(agama.clone(), vec![Act::Fail(Class::Retry), Act::Succeed])]);
    assert_eq!(bench.run(&plan(vec![(agama, &[])])).await, [done()]);
    let names: Vec<String> = bench.log();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[1].starts_with("clean up 19700101T000000Z-0000000000"), "{names:?}");
    assert!(names[2].ends_with("as 19700101T000000Z-0000000001"), "{names:?}");
    assert_eq!(bench.interrupted(), 0);
}

#[tokio::test]
async fn what_stalls_is_not_tried_again_and_retries_come_to_an_end() {
    for (class, tries) in
        [(Class::Stalled, 1), (Class::Retry, 3), (Class::Wait(Duration::from_secs(3600)), 1)]
    {
        let bench = Bench::new(vec![(push(0), vec![Act::Fail(class)])]);
        let outcomes = bench.run(&plan(vec![(push(0), &[])])).await;
        assert!(matches!(&outcomes[0], Outcome::Failed(failure) if failure.class == class));
        assert_eq!(bench.log().len(), tries, "{class:?}");
    }
}

#[tokio::test]
async fn a_panic_is_the_failure_of_its_step_alone() {
    let bench = Bench::new(vec![(push(0), vec![Act::Panic])]);
    let outcomes = bench.run(&plan(vec![(push(0), &[]), (push(1), &[])])).await;
    assert!(matches!(&outcomes[0], Outcome::Failed(failure) if failure.message.contains("panicked")));
    assert_eq!(outcomes[1], done());
}

#[tokio::test]
async fn stopping_cuts_off_what_runs_cleans_up_after_it_and_begins_nothing_more() {
    let agama = capture("agama", "vault");
    let bench = Bench::new(vec![(agama.clone(), vec![Act::Hang])]);
    let plan = plan(vec![(agama, &[]), (push(0), &[0])]);
    let (outcomes, ()) = tokio::join!(bench.run(&plan), async {
        bench.effects.hanging.come(1).await;
        bench.halt.stop.cancel();
    });
    assert_eq!(outcomes, [Outcome::Cancelled, Outcome::Cancelled]);
    assert!(bench.log()[1].starts_with("clean up"));
    assert_eq!(bench.interrupted(), 0);
}

#[tokio::test]
async fn what_could_not_be_cleaned_up_stays_in_the_journal_for_the_next_pass() {
    let agama = capture("agama", "vault");
    let mut bench = Bench::new(vec![]);
    bench.effects = Arc::new(Pretended {
        acts: Mutex::new(BTreeMap::from([(agama.to_string(), vec![Act::Fail(Class::Stalled)])])),
        clean_up_fails: true,
        ..Pretended::default()
    });
    bench.run(&plan(vec![(agama, &[])])).await;
    assert_eq!(bench.interrupted(), 1);

    let left = bench.journal.lock().unwrap().interrupted().remove(0);
    let clean_up =
        Action::CleanUp { backup: (&left.backup).into(), store: left.store, artifact: left.artifact };
    assert_eq!(bench.run(&plan(vec![(clean_up, &[])])).await, [done()]);
    assert_eq!(bench.interrupted(), 0);
}

/// The steps of a plan with numbers from `first` on.
fn from(first: u32, steps: Vec<(Action, &[u32])>) -> Vec<Step> {
    let mut steps = plan(steps).steps;
    for step in &mut steps {
        step.id.0 += first;
        step.after = step.after.iter().map(|id| StepId(id.0 + first)).collect();
    }
    steps
}

#[tokio::test]
async fn what_waits_and_what_rests_is_taken_back_and_what_runs_or_was_asked_for_goes_on() {
    let (agama, logs) = (capture("agama", "vault"), capture("logs", "vault"));
    let two = Arc::new(Barrier::new(2));
    let mut bench = Bench::new(vec![
        (agama.clone(), vec![Act::Meet(two.clone())]),
        (logs.clone(), vec![Act::Fail(Class::Retry)]),
    ]);
    (bench.bounds.pause, bench.bounds.longest_pause) = (Duration::from_secs(3600), Duration::from_secs(3600));
    let mut asked = capture("agama", "offsite");
    if let Action::Capture(capture) = &mut asked {
        capture.manual = Some(Manual { reason: None });
    }
    let mut execution = bench.execution();
    let effects: Arc<dyn Effects> = bench.effects.clone();
    execution.add(from(0, vec![(agama, &[]), (logs, &[]), (push(0), &[1])]), &effects);
    let has_begun = |what: &str| bench.log().iter().any(|line| line.starts_with(what));
    while !has_begun("capture full of agama") || !has_begun("capture full of logs") {
        tokio::select! {
            biased;
            () = execution.next() => {}
            () = tokio::task::yield_now() => {}
        }
    }
    execution.add(from(3, vec![(asked, &[])]), &effects);
    while execution.in_flight().count() > 2 {
        tokio::task::yield_now().await;
        execution.withdraw();
        tokio::select! {
            biased;
            () = execution.next() => {}
            () = tokio::task::yield_now() => {}
        }
    }
    tokio::join!(two.wait(), async {
        while !execution.is_idle() {
            execution.next().await;
        }
    });
    assert_eq!(execution.take_ended(), [(StepId(0), done()), (StepId(3), done())]);
}

#[tokio::test]
async fn steps_that_are_added_run_beside_those_under_way() {
    let agama = capture("agama", "vault");
    let bench = Bench::new(vec![(agama.clone(), vec![Act::Hang])]);
    let effects: Arc<dyn Effects> = bench.effects.clone();
    let mut execution = bench.execution();
    execution.add(from(0, vec![(agama.clone(), &[])]), &effects);
    tokio::select! {
        () = execution.next() => panic!("it hangs"),
        () = bench.effects.hanging.come(1) => {}
    }
    execution.add(from(1, vec![(capture("logs", "vault"), &[]), (push(0), &[0])]), &effects);
    execution.next().await;
    assert_eq!(execution.take_ended(), [(StepId(1), done())]);
    execution.next().await;
    assert!(execution.could_do_more());
    assert_eq!(execution.take_ended(), [(StepId(2), done())]);
    assert_eq!(execution.in_flight().collect::<Vec<_>>(), [&agama]);
    bench.halt.stop.cancel();
    execution.next().await;
    assert_eq!(execution.take_ended(), [(StepId(0), Outcome::Cancelled)]);
    assert!(execution.is_idle());
}

#[tokio::test]
async fn long_transfers_leave_a_place_for_an_incremental_and_one_for_a_log() {
    let of_kind = |backup: &str, of: Kind| {
        let Action::Capture(capture) = capture(backup, "vault") else { unreachable!() };
        Action::Capture(Capture { kind: of, ..capture })
    };
    let fulls: Vec<Action> = (0..9).map(|n| capture(&format!("full-{n}"), "vault")).collect();
    let incrementals = [0, 1].map(|n| of_kind(&format!("incremental-{n}"), Kind::Incremental));
    let hanging = fulls.iter().chain(&incrementals).map(|action| (action.clone(), vec![Act::Hang]));
    let bench = Bench::new(hanging.collect());
    let mut execution = bench.execution();
    let effects: Arc<dyn Effects> = bench.effects.clone();
    let steps = fulls.iter().chain(&incrementals).map(|action| (action.clone(), &[][..])).collect();
    execution.add(from(0, steps), &effects);
    let log = of_kind("logs", Kind::Log);
    execution.add(from(20, vec![(log, &[])]), &effects);
    execution.next().await;
    assert_eq!(execution.take_ended(), [(StepId(20), done())]);
    let in_time = tokio::time::timeout(Duration::from_secs(60), bench.effects.hanging.come(5)).await;
    assert!(in_time.is_ok(), "{:?}", bench.log());
    // Of six places in the store.
    let begun = |what: &str| bench.log().iter().filter(|line| line.starts_with(what)).count();
    assert_eq!((begun("capture full"), begun("capture incremental"), begun("capture log")), (4, 1, 1));
}

#[tokio::test]
async fn steps_that_wait_for_each_other_are_skipped_instead_of_waited_for() {
    let bench = Bench::new(vec![]);
    let outcomes = bench.run(&plan(vec![(push(0), &[1]), (push(1), &[0]), (push(2), &[7])])).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Skipped(_))), "{outcomes:?}");
}
