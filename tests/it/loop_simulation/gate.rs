//! Who goes on next. Every call to a store waits here until all else has come to rest, and then a seeded random lets one
//! of those that wait go on: so that the order of calls, and with it the whole run, follows from the seed alone.
//!
//! The runtime's time is paused. It goes on by itself only when no task can, and no thread of the runtime works; a turn
//! is given at such moments. A process that was started is not known to the runtime: see [`Gate::hold_time`].

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use backstay::{
    artifact::layout::ObjectName,
    inventory::StoreRules,
    stores::{Capabilities, Listed, Put, Stat, Store, StoreError},
};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::simulation::Random;

/// Between two turns; pauses between tries are shorter, so that none ends together with a turn.
const TICK: Duration = Duration::from_millis(10);

/// How often a call is slow, one in so many, and for how many turns at most.
const SLOW: (u64, u64) = (24, 30);

/// What happens to the call whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    GoOn,
    /// Its effect is there, and then the controller is killed.
    Last,
}

/// When a controller is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// After so many calls.
    pub after: u64,
    /// Whether the next call still has its effect.
    pub with_effect: bool,
}

/// Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Mutex<State>>);

struct State {
    random: Random,
    turn: u64,
    arrived: u64,
    /// By what they do; those that do the same, by when they came.
    waiting: BTreeMap<(String, u64), Waiting>,
    death: Option<Death>,
    dead: bool,
    held: Option<mpsc::Sender<()>>,
    trace: Vec<String>,
}

struct Waiting {
    not_before: u64,
    asked: bool,
    turn: oneshot::Sender<Turn>,
}

impl Gate {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            turn: 0,
            arrived: 0,
            waiting: BTreeMap::new(),
            death: None,
            dead: false,
            held: None,
            trace: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Runs `work` under this gate, until it ends or `death` comes; afterwards nothing of it goes on.
    pub async fn run<T>(&self, death: Option<Death>, work: impl Future<Output = T>) -> Option<T> {
        self.hold_time();
        self.state().death = death;
        let ended = tokio::select! {
            biased;
            ended = work => Some(ended),
            () = self.give_turns() => None,
        };
        self.state().forget_the_pass();
        // The runtime's threads have ended what they were at after this.
        tokio::time::sleep(TICK / 2).await;
        ended
    }

    /// Time stands still until the next call: for the processes that a pass starts before it looks at any store.
    fn hold_time(&self) {
        let (sender, released) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || released.recv().is_err());
        self.state().held = Some(sender);
    }

    /// Writes down what happened.
    pub fn note(&self, what: impl Into<String>) {
        self.state().trace.push(what.into());
    }

    /// What happened so far.
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    async fn give_turns(&self) {
        loop {
            tokio::time::sleep(TICK).await;
            if self.state().give_turn() {
                return;
            }
        }
    }

    async fn wait(&self, what: &str) -> Turn {
        let (turn, my_turn) = oneshot::channel();
        {
            let mut state = self.state();
            state.held = None;
            state.arrived += 1;
            let key = (what.to_owned(), state.arrived);
            state.waiting.insert(key, Waiting { not_before: 0, asked: false, turn });
        }
        match my_turn.await {
            Ok(turn) => turn,
            // The pass that it belongs to is over.
            Err(_) => std::future::pending().await,
        }
    }

    async fn die(&self) {
        self.state().dead = true;
        std::future::pending().await
    }
}

impl State {
    fn forget_the_pass(&mut self) {
        (self.death, self.dead, self.held) = (None, false, None);
        self.waiting.clear();
    }

    /// Lets one call go on; whether the controller is dead instead.
    fn give_turn(&mut self) -> bool {
        self.turn += 1;
        self.waiting.retain(|_, waiting| !waiting.turn.is_closed());
        while !self.dead {
            let turn = self.turn;
            let ready: Vec<_> = self.waiting.iter().filter(|(_, call)| call.not_before <= turn).collect();
            if ready.is_empty() {
                return false;
            }
            let key = ready[self.random.below(ready.len() as u64) as usize].0.clone();
            if self.is_slow(&key) {
                continue;
            }
            let call = self.waiting.remove(&key).unwrap();
            let _ = call.turn.send(match self.death {
                Some(Death { after: 0, with_effect: false }) => return true,
                Some(Death { after: 0, with_effect: true }) => Turn::Last,
                Some(Death { after, with_effect }) => {
                    self.death = Some(Death { after: after - 1, with_effect });
                    Turn::GoOn
                }
                None => Turn::GoOn,
            });
            return false;
        }
        true
    }

    fn is_slow(&mut self, key: &(String, u64)) -> bool {
        let (one_in, longest) = SLOW;
        let slow = self.random.one_in(one_in);
        let until = self.turn + 1 + self.random.below(longest);
        let call = self.waiting.get_mut(key).unwrap();
        if std::mem::replace(&mut call.asked, true) || !slow {
            return false;
        }
        call.not_before = until;
        true
    }
}

/// A store whose calls wait for their turn.
pub struct GatedStore {
    pub name: &'static str,
    pub inner: Arc<dyn Store>,
    pub gate: Gate,
}

impl GatedStore {
    async fn call<T>(
        &self,
        call: &str,
        on: &str,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let what = format!("{call} {on} in {}", self.name);
        let turn = self.gate.wait(&what).await;
        let done = work.await;
        self.gate.note(match &done {
            Ok(_) => format!("{what}: done"),
            Err(error) => format!("{what}: {:?}", error.kind),
        });
        if turn == Turn::Last {
            self.gate.die().await;
        }
        done
    }
}

#[async_trait]
impl Store for GatedStore {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        self.call("put", name.as_str(), self.inner.put_if_absent(name, content)).await
    }

    async fn get(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StoreError> {
        self.call("get", name.as_str(), self.inner.get(name, range, limit)).await
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        self.call("stat", name.as_str(), self.inner.stat(name)).await
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        self.call("list", under.as_str(), self.inner.list(under)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.call("delete", name.as_str(), self.inner.delete(name)).await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.call("ask", "the clock", self.inner.clock()).await
    }

    async fn capabilities(&self) -> Result<Capabilities, StoreError> {
        self.call("ask", "the capabilities", self.inner.capabilities()).await
    }

    async fn rules(&self, under: &ObjectName) -> Result<StoreRules, StoreError> {
        self.inner.rules(under).await
    }
}
