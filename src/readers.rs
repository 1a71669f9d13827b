//! Readers of logs: what a database server writes is read at once, so that little of it goes with the server. The daemon runs one
//! for each backup with a log; captures take from its spool (see [`crate::sources::Source::read_log`]).
//!
//! ```text
//! follow (what should run, from the plan) ─▶ supervise (one reader: begun anew when it ends) ─▶ standing (how it is)
//!                                                                                             spool (its folder)
//! ```

mod pace;
mod spool;
mod standing;
mod supervise;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    drivers::Registry,
    inventory::LogReader,
    plan::readers::{Change, Readers as Declared, Wanted, changes},
    spec::names::FolderName,
};
use standing::Standing;
pub use standing::seen;
use supervise::Job;

/// Hears how the readers are: of one, under the name of its backup; `None` once there is none.
pub type Tell = Arc<dyn Fn(&str, Option<&LogReader>) + Send + Sync>;

/// What readers work with.
#[derive(Clone)]
pub struct Means {
    /// Where sources come from.
    pub drivers: Arc<dyn Registry>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The folder in which each has its spool.
    pub spools: PathBuf,
    /// The most that one spool may hold, bytes; `None` where nothing is to be read ahead.
    pub most: Option<u64>,
}

/// The readers of one controller.
pub struct Readers {
    running: BTreeMap<FolderName, Running>,
    /// Those that were told to end, and may not have yet.
    ending: BTreeMap<FolderName, JoinHandle<()>>,
    tell: Tell,
}

struct Running {
    wanted: Wanted,
    most: u64,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Readers {
    /// None yet.
    pub fn new(tell: Tell) -> Self {
        Self { running: BTreeMap::new(), ending: BTreeMap::new(), tell }
    }

    /// Starts and stops readers so that those run that are declared. Waits for none of them.
    pub fn follow(&mut self, declared: &Declared, means: &Means) {
        let (declared, most) = match means.most {
            Some(most) => (declared.clone(), most),
            None => (Declared::new(), 0),
        };
        let moved: Vec<FolderName> =
            self.running.iter().filter(|(_, it)| it.most != most).map(|(folder, _)| folder.clone()).collect();
        moved.iter().for_each(|folder| self.end(folder, "its bounds have changed"));
        let running = self.running.iter().map(|(folder, it)| (folder.clone(), it.wanted.clone())).collect();
        for change in changes(&declared, &running) {
            match change {
                Change::Stop { folder, reason } => self.end(&folder, &reason),
                Change::Start { folder, wanted, reason } => {
                    tracing::info!(backup = %wanted.backup, reason, "the log is read as it is written");
                    self.start(folder, *wanted, most, means);
                }
            }
        }
        self.ending.retain(|_, task| !task.is_finished());
    }

    /// Ends them all, and returns when they have.
    pub async fn stop(&mut self) {
        let folders: Vec<FolderName> = self.running.keys().cloned().collect();
        folders.iter().for_each(|folder| self.end(folder, "the controller ends"));
        for task in std::mem::take(&mut self.ending).into_values() {
            if let Err(error) = task.await {
                tracing::error!(%error, "a reader of a log ended badly");
            }
        }
    }

    fn start(&mut self, folder: FolderName, wanted: Wanted, most: u64, means: &Means) {
        let stop = CancellationToken::new();
        let spool = means.spools.join(folder.as_str());
        let job = Job {
            standing: Standing::new(
                spool.clone(),
                wanted.backup.to_string(),
                means.clock.clone(),
                self.tell.clone(),
            ),
            spool,
            wanted: wanted.clone(),
            drivers: means.drivers.clone(),
            most,
            stop: stop.clone(),
        };
        let before = self.ending.remove(&folder);
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                // However that ended, it has.
                let _ = before.await;
            }
            job.run().await;
        });
        self.running.insert(folder, Running { wanted, most, stop, task });
    }

    fn end(&mut self, folder: &FolderName, reason: &str) {
        let Some(Running { wanted, stop, task, .. }) = self.running.remove(folder) else { return };
        tracing::info!(backup = %wanted.backup, reason, "the log is no longer read as it is written");
        stop.cancel();
        self.ending.insert(folder.clone(), task);
    }
}
