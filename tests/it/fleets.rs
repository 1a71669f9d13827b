//! Several fleets on one host: a folder with the configuration of each.

mod bounds;
mod commands;
mod loops;
mod schedules;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use backstay::{
    daemon::{
        Audience, Ended,
        fleets::{self, Audiences, SeveralError},
        queue::Pace,
    },
    spec::names::FleetName,
};
use rustix::process::Signal;
use tokio::sync::Notify;

use crate::{
    daemon::{Diary, signal},
    passes::Fleet,
};

/// A folder of configurations.
pub struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.toml"))
    }

    /// Has the controller of this host run `fleet`; `more` is added to its configuration.
    pub fn add(&self, name: &str, fleet: &Fleet, more: &str) {
        let root = fleet.path("");
        let root = root.to_str().unwrap().trim_end_matches('/');
        let text = format!(
            r#"
            state_dir = "{root}/state"
            repo = {{ url = "{}", path = "backup" }}
            keys.dir = "{root}/keys"
            [allow]
            read = ["{root}/data"]
            write = ["{root}/stores"]
            {more}
            "#,
            fleet.repo.path.display()
        );
        self.write(name, &text);
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }
}

/// Hears of the loops of several fleets: each has a diary, which outlives its loop.
#[derive(Default)]
pub struct Diaries {
    by_fleet: Mutex<BTreeMap<String, Arc<Diary>>>,
    faults: Mutex<Vec<String>>,
    news: Notify,
}

impl Diaries {
    pub fn diary(&self, fleet: &str) -> Arc<Diary> {
        self.by_fleet.lock().unwrap().entry(fleet.to_owned()).or_default().clone()
    }

    /// Waits until it was told of a fault in these words.
    pub async fn until_fault(&self, words: &str) {
        let waited = async {
            while !self.faults.lock().unwrap().iter().any(|fault| fault.contains(words)) {
                self.news.notified().await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), waited).await;
        assert!(in_time.is_ok(), "{words}: {:#?}", self.faults.lock().unwrap());
    }
}

impl Audiences for Diaries {
    fn of(&self, fleet: &FleetName) -> Arc<dyn Audience> {
        self.diary(fleet.as_str())
    }

    fn fault(&self, fault: &str) {
        self.faults.lock().unwrap().push(fault.to_owned());
        self.news.notify_one();
    }
}

type Running = tokio::task::JoinHandle<Result<Ended, SeveralError>>;

impl Host {
    /// Runs the loops of all fleets, as `backstay run` does; what ends by itself is begun again soon.
    pub fn run(&self, audiences: Arc<dyn Audiences>) -> Running {
        let soon = Duration::from_millis(20);
        let pace = Pace { backoff: soon, longest_backoff: soon, ..Pace::default() };
        tokio::spawn(fleets::run(self.folder(), pace, audiences))
    }
}

pub async fn terminate(running: Running) {
    signal(Signal::TERM);
    assert_eq!(running.await.unwrap().unwrap(), Ended::Terminated);
}
