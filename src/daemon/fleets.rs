//! Several fleets in one process: a loop for each, on threads of its own. However long one reckons, fails or waits, the
//! others go on; when one ends or panics, it is begun again.

use std::{
    any::Any,
    collections::BTreeMap,
    future::pending,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::mpsc, time::Instant};

use super::{
    Audience, Ended, Open, Window,
    orders::{Order, Orders, Signals},
    pages::Pages,
    queue::Pace,
    run_by,
};
use crate::{
    clock::SystemClock,
    config::{
        Config,
        fleets::{Fleets, FolderError},
    },
    process,
    reconcile::Controller,
    spec::names::FleetName,
};

/// Threads of a fleet: while one of them plans, the other answers commands.
const THREADS: usize = 2;

/// Hears of everything that the loops do.
pub trait Audiences: Send + Sync {
    /// Who hears of this fleet's loop.
    fn of(&self, fleet: &FleetName) -> Arc<dyn Audience>;
    /// Something keeps a fleet from running, or from running as its configuration says; and what comes of that.
    fn fault(&self, fault: &str);
}

/// Why no fleet could be run.
#[derive(Debug, thiserror::Error)]
pub enum SeveralError {
    /// The folder tells of none.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// None of them can be used.
    #[error("failed to start: no configuration in {} can be used; correct them, and start again", .0.display())]
    NoneSound(PathBuf),
    /// Signals can't be heard.
    #[error("failed to listen for signals: {0}; start it anew")]
    Signals(#[from] io::Error),
}

/// Runs the loop of every fleet of a folder until a signal ends them. A loop that ends by itself is begun again at `pace`.
///
/// # Errors
/// [`SeveralError`], at the start. What happens later to one fleet is told to its audience.
pub async fn run(folder: PathBuf, pace: Pace, audiences: Arc<dyn Audiences>) -> Result<Ended, SeveralError> {
    let mut signals = Signals::listen()?;
    let (ends, mut ended) = mpsc::unbounded_channel();
    let mut several =
        Several { folder, pace, audiences, pages: Arc::new(Pages::new()), ends, fleets: BTreeMap::new() };
    several.read().await?;
    if several.fleets.is_empty() {
        return Err(SeveralError::NoneSound(several.folder));
    }
    loop {
        tokio::select! {
            order = signals.next() => match order {
                Order::Reload => several.reload().await,
                Order::Stop(how) => {
                    several.stop(how, &mut ended).await;
                    return Ok(how);
                }
            },
            Some(End { fleet, why }) = ended.recv() => several.ended(fleet, why).await,
            () = sleep_until(several.next_begin()) => several.begin_rested(),
        }
    }
}

/// The loops of a process.
struct Several {
    folder: PathBuf,
    pace: Pace,
    audiences: Arc<dyn Audiences>,
    pages: Arc<Pages>,
    ends: mpsc::UnboundedSender<End>,
    fleets: BTreeMap<FleetName, Fleet>,
}

/// The end of a loop, and of its threads.
struct End {
    fleet: FleetName,
    /// Why, unless it was told to.
    why: Option<String>,
}

/// A fleet, and how its loop stands.
struct Fleet {
    wanted: Arc<Mutex<Wanted>>,
    stage: Stage,
    /// Ends in a row that nobody asked for.
    failures: u32,
}

/// What a loop goes by when it begins, and when it is told to read its configuration again.
#[derive(Clone)]
struct Wanted {
    config: Config,
    /// How many fleets share the process.
    among: usize,
}

enum Stage {
    Runs {
        orders: mpsc::UnboundedSender<Order>,
        since: Instant,
    },
    /// It was told to end.
    Ends(Then),
    /// It ended by itself.
    Rests {
        until: Instant,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Begin,
    Leave,
}

impl Several {
    /// SIGHUP: fleets come, go and change with their files. Whatever can't be read changes nothing.
    async fn reload(&mut self) {
        if let Err(error) = self.read().await {
            self.audiences.fault(&format!("{error}; the fleets go on as they are"));
        }
        for fleet in self.fleets.values() {
            fleet.order(Order::Reload);
        }
    }

    async fn read(&mut self) -> Result<(), FolderError> {
        let in_force = self.fleets.iter().filter(|(_, fleet)| !fleet.leaves());
        let in_force = in_force.map(|(name, fleet)| (name.clone(), fleet.wanted().config)).collect();
        let read = Fleets::read_beside(&self.folder, &in_force)?;
        self.tell_faults(&read);
        self.fleets.retain(|name, fleet| read.by_name.contains_key(name) || fleet.end(Then::Leave));
        let is_there = |name: &str| read.by_name.contains_key(name) || self.fleets.contains_key(name);
        self.pages.keep(|name| is_there(name) || read.misnamed.contains_key(name)).await;
        let sound = read.by_name.into_iter().filter_map(|(name, config)| Some((name, config.ok()?)));
        let changed: Vec<FleetName> = sound.filter_map(|(name, config)| self.take(name, config)).collect();
        let among = self.fleets.values().filter(|fleet| !fleet.leaves()).count();
        self.fleets.values().for_each(|fleet| fleet.want(|wanted| wanted.among = among));
        changed.into_iter().for_each(|name| self.begin(&name));
        Ok(())
    }

    /// Tells what is wrong with configurations, and shows it of those that do not run.
    fn tell_faults(&self, read: &Fleets) {
        let faulty = read.by_name.iter().filter_map(|(name, fleet)| Some((name, fleet.as_ref().err()?)));
        for (name, fault) in faulty {
            if self.fleets.contains_key(name) {
                self.audiences
                    .fault(&format!("{fault}\nfleet {name} goes on under the configuration that it has"));
            } else {
                self.audiences
                    .fault(&format!("{fault}\nfleet {name} does not run; correct it, and send SIGHUP"));
                self.pages.rests(name.as_str(), None, fault.to_string());
            }
        }
        for (name, fault) in &read.misnamed {
            self.audiences.fault(&fault.to_string());
            self.pages.rests(name, None, fault.to_string());
        }
    }

    /// Has a fleet go by a configuration; its name, if its loop is to begin.
    fn take(&mut self, name: FleetName, config: Config) -> Option<FleetName> {
        let Some(fleet) = self.fleets.get_mut(&name) else {
            let wanted = Arc::new(Mutex::new(Wanted { config, among: 1 }));
            let rests = Stage::Rests { until: Instant::now() };
            self.fleets.insert(name.clone(), Fleet { wanted, stage: rests, failures: 0 });
            return Some(name);
        };
        let needs_new_start = is_another(&fleet.wanted().config, &config);
        fleet.want(|wanted| wanted.config = config);
        match &fleet.stage {
            Stage::Runs { .. } if !needs_new_start => {}
            Stage::Runs { .. } | Stage::Ends(_) => drop(fleet.end(Then::Begin)),
            Stage::Rests { .. } => {
                fleet.failures = 0;
                return Some(name);
            }
        }
        None
    }

    fn begin(&mut self, name: &FleetName) {
        let Some(fleet) = self.fleets.get_mut(name) else { return };
        let (orders, heard) = mpsc::unbounded_channel();
        fleet.stage = Stage::Runs { orders, since: Instant::now() };
        let config = fleet.wanted().config;
        self.pages.rests(name.as_str(), Some(&config), "it begins".to_owned());
        let wanted = fleet.wanted.clone();
        let open: Open = Box::new(move || {
            let Wanted { config, among } = copied(&wanted);
            Ok(Controller::open(config, Arc::new(SystemClock))?.among(among).guarded())
        });
        let window = Window::Shared { pages: self.pages.clone(), fleet: name.clone() };
        let (audience, ends, fleet) = (self.audiences.of(name), self.ends.clone(), name.clone());
        let spawned = std::thread::Builder::new().name(name.to_string()).spawn({
            let (fleet, ends) = (fleet.clone(), ends.clone());
            move || {
                let why = on_threads_of_its_own(&fleet, async move {
                    run_by(open, audience, Orders::Handed(heard), window).await.map(drop)
                });
                // Nobody is told any more once the process ends.
                let _ = ends.send(End { fleet, why });
            }
        });
        if let Err(error) = spawned {
            let _ = ends.send(End { fleet, why: Some(format!("failed to start its thread: {error}")) });
        }
    }

    /// A loop has ended: as it was told, or else it is begun again after a while.
    async fn ended(&mut self, name: FleetName, why: Option<String>) {
        let Some(fleet) = self.fleets.get_mut(&name) else { return };
        match fleet.stage {
            Stage::Ends(Then::Begin) => self.begin(&name),
            Stage::Ends(Then::Leave) => {
                self.fleets.remove(&name);
                self.pages.keep(|shown| shown != name.as_str()).await;
            }
            Stage::Rests { .. } => {}
            Stage::Runs { since, .. } => {
                if since.elapsed() > self.pace.longest_backoff {
                    fleet.failures = 0;
                }
                let pause = self.pace.pause_after(fleet.failures);
                fleet.failures += 1;
                fleet.stage = Stage::Rests { until: Instant::now() + pause };
                let why = why.unwrap_or_else(|| "its loop has ended".to_owned());
                let soon = humantime::format_duration(pause);
                self.audiences
                    .fault(&format!("fleet {name} stands still: {why}; it is begun again in {soon}"));
                self.pages.rests(name.as_str(), Some(&fleet.wanted().config), why);
            }
        }
    }

    /// When the next loop that ended by itself is begun again.
    fn next_begin(&self) -> Option<Instant> {
        let resting = self.fleets.values().filter_map(|fleet| match fleet.stage {
            Stage::Rests { until } => Some(until),
            Stage::Runs { .. } | Stage::Ends(_) => None,
        });
        resting.min()
    }

    fn begin_rested(&mut self) {
        let now = Instant::now();
        let rested = self
            .fleets
            .iter()
            .filter(|(_, fleet)| matches!(fleet.stage, Stage::Rests { until } if until <= now));
        let rested: Vec<FleetName> = rested.map(|(name, _)| name.clone()).collect();
        rested.iter().for_each(|name| self.begin(name));
    }

    /// Ends all loops, and waits for them.
    async fn stop(&mut self, how: Ended, ended: &mut mpsc::UnboundedReceiver<End>) {
        self.fleets.values().for_each(|fleet| fleet.order(Order::Stop(how)));
        self.fleets.retain(|_, fleet| !matches!(fleet.stage, Stage::Rests { .. }));
        while !self.fleets.is_empty() {
            let Some(End { fleet, why }) = ended.recv().await else { break };
            if let Some(why) = why {
                self.audiences.fault(&format!("fleet {fleet} ended badly: {why}"));
            }
            self.fleets.remove(&fleet);
        }
        self.pages.keep(|_| false).await;
    }
}

impl Fleet {
    fn wanted(&self) -> Wanted {
        copied(&self.wanted)
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn order(&self, order: Order) {
        if let Stage::Runs { orders, .. } = &self.stage {
            // A loop that has just ended is heard of next.
            let _ = orders.send(order);
        }
    }

    /// Has its loop end, in order to begin anew or for good; `false` where there is none to end.
    fn end(&mut self, then: Then) -> bool {
        if matches!(self.stage, Stage::Rests { .. }) {
            return false;
        }
        self.order(Order::Stop(Ended::Terminated));
        self.stage = Stage::Ends(then);
        true
    }

    fn leaves(&self) -> bool {
        matches!(self.stage, Stage::Ends(Then::Leave))
    }
}

fn copied(wanted: &Mutex<Wanted>) -> Wanted {
    wanted.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Whether a loop can't just go on under the other configuration.
fn is_another(one: &Config, other: &Config) -> bool {
    (&one.state_dir, &one.repo.url, one.repo.poll, &one.http)
        != (&other.state_dir, &other.repo.url, other.repo.poll, &other.http)
}

/// Runs a loop to its end; why it ended, unless it was told to.
fn on_threads_of_its_own(
    fleet: &FleetName,
    work: impl Future<Output = Result<(), super::DaemonError>>,
) -> Option<String> {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name(fleet.as_str())
        .enable_all()
        .build();
    let runtime = match threads {
        Ok(runtime) => runtime,
        Err(error) => return Some(format!("failed to start its threads: {error}")),
    };
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
    // With its threads all would end that saves what it has.
    runtime.block_on(process::saved());
    match ended {
        Ok(ended) => ended.err().map(|error| error.to_string()),
        Err(panic) => {
            Some(format!("it panicked: {}; report this fault with the log", words_of(panic.as_ref())))
        }
    }
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it said nothing")
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => pending().await,
    }
}
