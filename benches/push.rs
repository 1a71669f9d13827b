//! From a push to the armed schedule, in a fleet of 10,000 backups: `cargo bench --bench push`.
//!
//! A real repository, the controller's own drivers, two local stores. All captures are suspended: what is measured is
//! fetching, reading, comparing and arming. Prints what a look costs that finds nothing new, and how long after a push that
//! touches one backup its schedule is armed and the pass has ended, beside `git fetch` of the same push alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use backstay::{
    apply::executor::{Failure, Halt, Listener, Outcome},
    clock::SystemClock,
    config::Config,
    observe::Freshness,
    plan::{Action, Step},
    reconcile::{Ask, Controller, Line, Terms},
};

const BACKUPS: usize = 10_000;
const ROUNDS: usize = 15;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(run());
}

async fn run() {
    let root = tempfile::tempdir().expect("a temporary folder is made");
    let work = declared(root.path());
    let aside = root.path().join("aside.git");
    git(root.path(), &["clone", "-q", "--mirror", "infra.git", "aside.git"]);
    let config =
        Config::parse("backstay.toml", CONFIG.as_bytes(), root.path()).expect("the configuration is sound");
    let controller = Controller::open(config, Arc::new(SystemClock)).expect("a controller is set up");
    println!("{BACKUPS} backups, 2 local stores");

    let (armed, took) = look(&controller).await;
    assert!(armed.is_some(), "every schedule is armed");
    report("first pass: every schedule is armed", took);
    look(&controller).await;
    let mut quiet = Vec::new();
    for _ in 0..ROUNDS {
        quiet.push(look(&controller).await.1);
    }
    report("a look that finds nothing new", median(quiet));

    let (mut to_armed, mut to_ended, mut fetches) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        push(&work, round);
        let (armed, ended) = look(&controller).await;
        to_armed.push(armed.expect("the schedule is armed"));
        to_ended.push(ended);
        let began = Instant::now();
        git(&aside, &["fetch", "-q"]);
        fetches.push(began.elapsed());
    }
    report("git fetch alone", median(fetches));
    report("from the push to the armed schedule", median(to_armed));
    report("from the push to the end of the pass", median(to_ended));
}

/// When the last schedule was armed.
#[derive(Default)]
struct Armed(Mutex<Option<Instant>>);

impl Listener for Armed {
    fn started(&self, _: &Step) {}

    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}

    fn ended(&self, step: &Step, outcome: &Outcome) {
        if let (Action::Arm(_), Outcome::Done(_)) = (&step.action, outcome) {
            *self.0.lock().expect("nobody panics with it") = Some(Instant::now());
        }
    }
}

/// One pass, begun by the word that there may be something new: how long until the last schedule was armed, and in all.
async fn look(controller: &Controller) -> (Option<Duration>, Duration) {
    let (armed, line, began) = (Arc::new(Armed::default()), Line::default(), Instant::now());
    line.look(Freshness::Within(Duration::from_secs(600)));
    let hears: Arc<dyn Listener> = armed.clone();
    let (ask, terms, halt) = (Ask::Everything, Terms::default(), Halt::default());
    controller.apply_hearing(&line, &ask, &terms, &halt, &hears).await.expect("the pass comes about");
    let ended = began.elapsed();
    let last = *armed.0.lock().expect("nobody panics with it");
    (last.map(|at| at - began), ended)
}

const CONFIG: &str = r#"
state_dir = "state"
[repo]
url = "infra.git"
[keys]
dir = "keys"
[allow]
read = ["data"]
write = ["stores"]
"#;

/// The infra repo, a hundred backups a file; returns a clone to work in.
fn declared(root: &Path) -> PathBuf {
    for folder in ["stores/a", "stores/b", "data", "work"] {
        fs::create_dir_all(root.join(folder)).expect("a folder is made");
    }
    let work = root.join("work");
    let at = root.display();
    let fleet = format!(
        r#"
[fleet]
name = "pavroto"
recipients = ["age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm"]
[store.a]
location = "here"
local.path = "{at}/stores/a"
[store.b]
location = "there"
local.path = "{at}/stores/b"
[policy.nightly]
rpo = "26h"
full = "0 1 * * *"
keep = {{ full = "14d" }}
[infra]
stores = ["a", "b"]
[suspend.bench]
everything = true
until = "2099-01-01"
reason = "only schedules are looked at"
"#
    );
    fs::write(work.join("fleet.toml"), fleet).expect("it is written");
    for first in (0..BACKUPS).step_by(100) {
        let of = |n: usize| {
            format!(
                "[backup.b{n}]\npolicy = \"nightly\"\nstores = [\"a\", \"b\"]\nfiles.paths = [\"{at}/data/{n}\"]\n"
            )
        };
        let text: String = (first..first + 100).map(of).collect();
        fs::write(work.join(format!("{first}.toml")), text).expect("it is written");
    }
    git(root, &["init", "-q", "--bare", "-b", "main", "infra.git"]);
    git(&work, &["init", "-q", "-b", "main"]);
    git(&work, &["remote", "add", "origin", "../infra.git"]);
    commit_and_push(&work);
    work
}

/// A push that gives one backup another schedule.
fn push(work: &Path, round: usize) {
    let (file, at) = (work.join("touched.toml"), work.parent().expect("it lies in the root").display());
    let text = format!(
        "[policy.touched]\nrpo = \"26h\"\nfull = \"{round} 2 * * *\"\nkeep = {{ full = \"14d\" }}\n[backup.touched]\n\
         policy = \"touched\"\nstores = [\"a\", \"b\"]\nfiles.paths = [\"{at}/data/touched\"]\n"
    );
    fs::write(file, text).expect("it is written");
    commit_and_push(work);
}

fn commit_and_push(work: &Path) {
    git(work, &["add", "-A"]);
    git(work, &["-c", "user.name=Kai", "-c", "user.email=kai@example.org", "commit", "-q", "-m", "Change"]);
    git(work, &["push", "-q", "origin", "main"]);
}

fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git").current_dir(folder).args(arguments).status().expect("git is installed");
    assert!(status.success(), "git {arguments:?}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn report(what: &str, took: Duration) {
    println!("{what:40} {:8.1} ms", took.as_secs_f64() * 1e3);
}
