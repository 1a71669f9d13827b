//! A process killed with SIGKILL at any point of a step: the next one knows what was under way, cleans up after it, and
//! repeats nothing that was done.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use backstay::{
    apply::{
        executor::{Bounds, Done, Effects, Execution, Failure, Halt, Listener, Outcome},
        journal::Journal,
    },
    artifact::{ArtifactId, Kind},
    inventory::{Interrupted, Work},
    plan::{Action, Plan, Step, StepId, action::Capture},
    spec::names::{BackupName, FolderName},
};
use jiff::Timestamp;

use crate::executor::to_the_end;

const FOLDER: &str = "BACKSTAY_TEST_KILLED_IN";
const POINT: &str = "BACKSTAY_TEST_KILLED_AT";

/// Where a process can be killed, and what the next one must then find: whether something was interrupted, and whether
/// the effect is there.
const POINTS: &[(&str, bool, bool)] = &[
    ("before the intent", false, false),
    ("before the effect", true, false),
    ("in the middle of the effect", true, false),
    ("before the outcome", true, true),
    ("after the outcome", false, true),
];

/// A store that is a folder: `NAME.half` is what a capture under way wrote, `NAME` what was committed.
struct Folder {
    path: PathBuf,
    killed_at: Option<String>,
}

impl Folder {
    async fn point(&self, here: &str) {
        if self.killed_at.as_deref() == Some(here) {
            // Also ends the line that the test harness began.
            println!("\nreached");
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Effects for Folder {
    fn now(&self) -> Timestamp {
        if self.killed_at.as_deref() == Some("before the intent") {
            println!("\nreached");
            loop {
                std::thread::park();
            }
        }
        Timestamp::UNIX_EPOCH
    }

    fn folder(&self, backup: &BackupName) -> FolderName {
        backup.into()
    }

    fn writes(&self, action: &Action) -> Option<Interrupted> {
        let Action::Capture(capture) = action else { return None };
        let artifact = ArtifactId::new(Timestamp::UNIX_EPOCH, std::process::id().into());
        Some(Interrupted {
            backup: self.folder(&capture.backup),
            store: capture.store.clone(),
            artifact,
            work: Work::Capture,
            copy: None,
        })
    }

    async fn apply(&self, step: &Step, writes: Option<&Interrupted>) -> Result<Done, Failure> {
        if let Action::CleanUp { artifact, .. } = &step.action {
            let _ = fs::remove_file(self.path.join(format!("{artifact}.half")));
            return Ok(Done::default());
        }
        let name = writes.expect("a capture writes").artifact;
        let half = self.path.join(format!("{name}.half"));
        self.point("before the effect").await;
        fs::write(&half, "half").unwrap();
        self.point("in the middle of the effect").await;
        fs::rename(&half, self.path.join(name.to_string())).unwrap();
        self.point("before the outcome").await;
        Ok(Done::default())
    }

    async fn clean_up(&self, _: &Interrupted) -> Result<(), Failure> {
        Ok(())
    }
}

struct AtTheEnd(Option<String>);

impl Listener for AtTheEnd {
    fn started(&self, _: &Step) {}
    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}
    fn ended(&self, _: &Step, _: &Outcome) {
        if self.0.as_deref() == Some("after the outcome") {
            println!("\nreached");
            loop {
                std::thread::park();
            }
        }
    }
}

fn plan(actions: Vec<Action>) -> Plan {
    let steps = actions.into_iter().enumerate().map(|(n, action)| Step {
        id: StepId(n as u32),
        action,
        reason: "the test wants it".into(),
        after: Default::default(),
    });
    Plan {
        fleet: "pavroto".parse().unwrap(),
        revision: "3b1e".into(),
        at: Timestamp::UNIX_EPOCH,
        zone: jiff::tz::TimeZone::UTC,
        steps: steps.collect(),
        waiting: Vec::new(),
        withheld: Vec::new(),
        cannot_run: Vec::new(),
        approved: Vec::new(),
    }
}

fn pass(folder: &Path, actions: Vec<Action>, killed_at: Option<String>) {
    let journal = Arc::new(Mutex::new(Journal::open(folder.join("journal")).unwrap()));
    let effects = Arc::new(Folder { path: folder.to_owned(), killed_at: killed_at.clone() });
    let listener = Arc::new(AtTheEnd(killed_at));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut execution = Execution::new(Bounds::default(), journal, listener, Halt::default());
    let outcomes = runtime.block_on(to_the_end(&mut execution, &plan(actions), effects));
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done(_))), "{outcomes:?}");
}

/// Not a test of its own: the process that is killed.
#[test]
fn the_process_that_is_killed() {
    let (Ok(folder), Ok(point)) = (std::env::var(FOLDER), std::env::var(POINT)) else { return };
    let capture = Capture {
        backup: "agama".parse().unwrap(),
        kind: Kind::Full,
        slot: None,
        manual: None,
        store: "vault".parse().unwrap(),
        base: None,
        continues: None,
    };
    pass(Path::new(&folder), vec![Action::Capture(capture)], Some(point));
}

#[test]
fn a_process_killed_at_any_point_leaves_what_the_next_one_cleans_up_and_does_not_repeat() {
    for (point, interrupted, committed) in POINTS {
        let dir = tempfile::tempdir().unwrap();
        kill_at(point, dir.path());

        let left = Journal::open(dir.path().join("journal")).unwrap().interrupted();
        assert_eq!(!left.is_empty(), *interrupted, "{point}");
        let clean_up = left.into_iter().map(|left| Action::CleanUp {
            backup: (&left.backup).into(),
            store: left.store,
            artifact: left.artifact,
        });
        pass(dir.path(), clean_up.collect(), None);

        assert_eq!(Journal::peek(&dir.path().join("journal")).unwrap(), [], "{point}");
        let names: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "journal")
            .collect();
        assert!(names.iter().all(|name| !name.ends_with(".half")), "{point}: {names:?}");
        assert_eq!(names.len(), usize::from(*committed), "{point}: {names:?}");
    }
}

fn kill_at(point: &str, folder: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::the_process_that_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .env(POINT, point)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reached = lines.any(|line| line.unwrap() == "reached");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(reached, "{point} was never reached");
}
