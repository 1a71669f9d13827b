//! Plans run by the executor over effects that only pretend.

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
        executor::{Bounds, Done, Effects, Failure, Halt, Listener, Outcome, execute},
        journal::Journal,
    },
    artifact::{ArtifactId, Kind},
    inventory::{Interrupted, Work},
    plan::{Action, Plan, Step, StepId, action::Capture},
    stores::Class,
};
use jiff::Timestamp;
use tokio::sync::{Barrier, Notify};

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

#[derive(Default)]
struct Pretended {
    acts: Mutex<BTreeMap<String, Vec<Act>>>,
    log: Mutex<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
    named: AtomicUsize,
    hanging: Notify,
    clean_up_fails: bool,
}

#[async_trait]
impl Effects for Pretended {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn writes(&self, action: &Action) -> Option<Interrupted> {
        let Action::Capture(capture) = action else { return None };
        let artifact = ArtifactId::new(self.now(), self.named.fetch_add(1, Ordering::SeqCst) as u64);
        Some(Interrupted {
            backup: capture.backup.clone(),
            store: capture.store.clone(),
            artifact,
            work: Work::Capture,
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
                self.hanging.notify_one();
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
    }
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

    async fn run(&self, plan: &Plan) -> Vec<Outcome> {
        let (effects, journal) = (self.effects.clone(), self.journal.clone());
        execute(plan, &self.bounds, effects, journal, Arc::new(Deaf), &self.halt)
            .await
            .into_values()
            .collect()
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
async fn no_more_steps_run_at_a_time_than_the_bounds_allow() {
    let three = Arc::new(Barrier::new(3));
    let mut bench = Bench::new((0..21).map(|n| (push(n), vec![Act::Meet(three.clone())])).collect());
    bench.bounds.steps = 3;
    let steps: Vec<(Action, &[u32])> = (0..21).map(|n| (push(n), &[][..])).collect();
    assert_eq!(bench.run(&plan(steps)).await, vec![done(); 21]);
    assert_eq!(bench.effects.most.load(Ordering::SeqCst), 3);
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
        bench.effects.hanging.notified().await;
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
    let clean_up = Action::CleanUp { backup: left.backup, store: left.store, artifact: left.artifact };
    assert_eq!(bench.run(&plan(vec![(clean_up, &[])])).await, [done()]);
    assert_eq!(bench.interrupted(), 0);
}

#[tokio::test]
async fn a_newer_revision_ends_waiting_and_retries_but_not_what_is_under_way() {
    let (agama, logs) = (capture("agama", "vault"), capture("logs", "vault"));
    let mut bench =
        Bench::new(vec![(agama.clone(), vec![Act::Hang]), (logs.clone(), vec![Act::Fail(Class::Retry)])]);
    bench.bounds.pause = Duration::from_secs(3600);
    bench.bounds.longest_pause = Duration::from_secs(3600);
    let plan = plan(vec![(agama, &[]), (logs, &[]), (push(0), &[1])]);
    let (outcomes, ()) = tokio::join!(bench.run(&plan), async {
        bench.effects.hanging.notified().await;
        bench.halt.yield_soon.cancel();
        // The capture still hangs: only a stop ends it.
        tokio::task::yield_now().await;
        bench.halt.stop.cancel();
    });
    assert_eq!(outcomes[2], Outcome::Cancelled);
    assert!(matches!(outcomes[1], Outcome::Cancelled | Outcome::Failed(_)));
    assert_eq!(outcomes[0], Outcome::Cancelled);
}

#[tokio::test]
async fn steps_that_wait_for_each_other_are_skipped_instead_of_waited_for() {
    let bench = Bench::new(vec![]);
    let outcomes = bench.run(&plan(vec![(push(0), &[1]), (push(1), &[0]), (push(2), &[7])])).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Skipped(_))), "{outcomes:?}");
}
