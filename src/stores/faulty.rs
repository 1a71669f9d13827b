//! A store that fails on purpose: by chance from a seed, as told for chosen calls, or altogether. For tests and the
//! simulation.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::watch;

use super::{Capabilities, ErrorKind, Listed, Put, Stat, Store, StoreError};
use crate::{artifact::layout::ObjectName, inventory::StoreRules};

/// The calls of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Store::put_if_absent`]
    Put,
    /// [`Store::get`]
    Get,
    /// [`Store::stat`]
    Stat,
    /// [`Store::list`]
    List,
    /// [`Store::delete`]
    Delete,
    /// [`Store::clock`]
    Clock,
    /// [`Store::capabilities`]
    Capabilities,
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails before it has any effect.
    Fail,
    /// Takes effect, and its answer is lost.
    LoseAnswer,
    /// A put leaves the first half of its content and fails, as a store does that breaks its promise; a read gives the
    /// first half as if it were all. Other calls fail.
    Tear,
    /// One bit of what is put or read is changed, and nothing says so. Other calls fail.
    Corrupt,
    /// Takes this long, then works.
    Delay(Duration),
}

/// The condition of the whole store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Works, but for single faults.
    #[default]
    Well,
    /// Does not answer: every call is [`ErrorKind::Transient`].
    Away,
    /// Its root is missing: every call is [`ErrorKind::Unavailable`].
    Gone,
    /// Puts are [`ErrorKind::Full`].
    Full,
    /// Puts and deletions are [`ErrorKind::Denied`].
    ReadOnly,
}

/// How likely each fault is in one call, in 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Chances {
    /// Of [`Fault::Fail`].
    pub fail: f64,
    /// Of [`Fault::LoseAnswer`].
    pub lose_answer: f64,
    /// Of [`Fault::Tear`] in puts and reads.
    pub tear: f64,
    /// Of [`Fault::Corrupt`] in puts and reads.
    pub corrupt: f64,
    /// Of [`Fault::Delay`].
    pub delay: f64,
    /// The longest delay.
    pub longest_delay: Duration,
}

/// Steers a [`FaultyStore`] from outside. Clones steer the same store.
#[derive(Clone)]
pub struct Faults {
    state: Arc<Mutex<State>>,
    stopped: watch::Sender<usize>,
}

struct State {
    random: StdRng,
    chances: Chances,
    health: Health,
    told: VecDeque<(Call, Fault)>,
    calls: u64,
    stop_at: Option<u64>,
}

impl Faults {
    /// No faults until told; chance is drawn from `seed`.
    pub fn seeded(seed: u64) -> Self {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            chances: Chances::default(),
            health: Health::default(),
            told: VecDeque::new(),
            calls: 0,
            stop_at: None,
        };
        Self { state: Arc::new(Mutex::new(state)), stopped: watch::Sender::new(0) }
    }

    /// From now on faults are this likely.
    pub fn set_chances(&self, chances: Chances) {
        self.state().chances = chances;
    }

    /// From now on the store is in this condition.
    pub fn set_health(&self, health: Health) {
        self.state().health = health;
    }

    /// The next `call` that nothing else was told for meets `fault`.
    pub fn next(&self, call: Call, fault: Fault) {
        self.state().told.push_back((call, fault));
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// After so many further calls no call returns any more: whoever waits for one is then dropped, as by a crash.
    pub fn stop_after(&self, calls: u64) {
        let mut state = self.state();
        state.stop_at = Some(state.calls + calls);
    }

    /// Calls return again.
    pub fn resume(&self) {
        self.state().stop_at = None;
        self.stopped.send_replace(0);
    }

    /// Returns once a call was stopped by [`Faults::stop_after`].
    pub async fn stopped(&self) {
        // An error means that every sender is gone; `self` holds one.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped > 0).await;
    }

    /// How many calls were stopped since the store last answered all.
    pub fn stopped_calls(&self) -> usize {
        *self.stopped.borrow()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next call meets, and waits as long as it is to.
    async fn meet(&self, call: Call, subject: &str) -> Result<Option<Fault>, StoreError> {
        let met = self.state().meet(call);
        let error = |kind, reason| Err(StoreError::new("reach", subject, kind, reason));
        match met {
            Met::Stop => {
                self.stopped.send_modify(|stopped| *stopped += 1);
                std::future::pending().await
            }
            Met::Health(kind) => error(kind, "the store is in that condition on purpose"),
            Met::Fault(Fault::Fail) => error(ErrorKind::Transient, "the call failed on purpose"),
            Met::Fault(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(None)
            }
            Met::Fault(fault) if !fault.fits(call) => {
                error(ErrorKind::Transient, "the call failed on purpose")
            }
            Met::Fault(fault) => Ok(Some(fault)),
            Met::Nothing => Ok(None),
        }
    }
}

impl Fault {
    fn fits(self, call: Call) -> bool {
        match self {
            Fault::Tear | Fault::Corrupt => matches!(call, Call::Put | Call::Get),
            Fault::Fail | Fault::LoseAnswer | Fault::Delay(_) => true,
        }
    }
}

enum Met {
    Nothing,
    Fault(Fault),
    Health(ErrorKind),
    Stop,
}

impl State {
    fn meet(&mut self, call: Call) -> Met {
        if self.stop_at.is_some_and(|stop_at| self.calls >= stop_at) {
            return Met::Stop;
        }
        self.calls += 1;
        let writes = matches!(call, Call::Put | Call::Delete);
        match self.health {
            Health::Away => return Met::Health(ErrorKind::Transient),
            Health::Gone => return Met::Health(ErrorKind::Unavailable),
            Health::Full if call == Call::Put => return Met::Health(ErrorKind::Full),
            Health::ReadOnly if writes => return Met::Health(ErrorKind::Denied),
            Health::Well | Health::Full | Health::ReadOnly => {}
        }
        let told = self.told.iter().position(|(chosen, _)| *chosen == call);
        let fault = match told.and_then(|at| self.told.remove(at)) {
            Some((_, fault)) => Some(fault),
            None => self.by_chance(call),
        };
        fault.map_or(Met::Nothing, Met::Fault)
    }

    fn by_chance(&mut self, call: Call) -> Option<Fault> {
        let chances = self.chances;
        let delay = chances.longest_delay.mul_f64(self.random.random::<f64>());
        let faults = [
            (chances.fail, Fault::Fail),
            (chances.lose_answer, Fault::LoseAnswer),
            (chances.tear, Fault::Tear),
            (chances.corrupt, Fault::Corrupt),
            (chances.delay, Fault::Delay(delay)),
        ];
        let mut drawn = self.random.random::<f64>();
        for (chance, fault) in faults {
            if drawn < chance && fault.fits(call) {
                return Some(fault);
            }
            drawn -= chance;
        }
        None
    }
}

/// A store that fails as its [`Faults`] say.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Faults,
}

impl FaultyStore {
    /// `inner`, failing as `faults` say.
    pub fn new(inner: Arc<dyn Store>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

fn answer<T>(fault: Option<Fault>, subject: &str, done: T) -> Result<T, StoreError> {
    match fault {
        Some(Fault::LoseAnswer) => {
            Err(StoreError::new("reach", subject, ErrorKind::Transient, "the answer was lost on purpose"))
        }
        _ => Ok(done),
    }
}

fn first_half(content: &Bytes) -> Bytes {
    content.slice(..content.len() / 2)
}

fn corrupted(content: &Bytes) -> Bytes {
    let mut content = content.to_vec();
    let middle = content.len() / 2;
    if let Some(byte) = content.get_mut(middle) {
        *byte ^= 1;
    }
    content.into()
}

#[async_trait]
impl Store for FaultyStore {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        let fault = self.faults.meet(Call::Put, name.as_str()).await?;
        match fault {
            Some(Fault::Corrupt) => self.inner.put_if_absent(name, corrupted(&content)).await,
            Some(Fault::Tear) => {
                self.inner.put_if_absent(name, first_half(&content)).await?;
                answer(Some(Fault::LoseAnswer), name.as_str(), Put::Created)
            }
            fault => answer(fault, name.as_str(), self.inner.put_if_absent(name, content).await?),
        }
    }

    async fn get(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StoreError> {
        let fault = self.faults.meet(Call::Get, name.as_str()).await?;
        let content = self.inner.get(name, range, limit).await?;
        match fault {
            Some(Fault::Corrupt) => Ok(corrupted(&content)),
            Some(Fault::Tear) => Ok(first_half(&content)),
            fault => answer(fault, name.as_str(), content),
        }
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        let fault = self.faults.meet(Call::Stat, name.as_str()).await?;
        answer(fault, name.as_str(), self.inner.stat(name).await?)
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        let fault = self.faults.meet(Call::List, under.as_str()).await?;
        answer(fault, under.as_str(), self.inner.list(under).await?)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let fault = self.faults.meet(Call::Delete, name.as_str()).await?;
        self.inner.delete(name).await?;
        answer(fault, name.as_str(), ())
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        let fault = self.faults.meet(Call::Clock, "its clock").await?;
        answer(fault, "its clock", self.inner.clock().await?)
    }

    async fn capabilities(&self) -> Result<Capabilities, StoreError> {
        let fault = self.faults.meet(Call::Capabilities, "its capabilities").await?;
        answer(fault, "its capabilities", self.inner.capabilities().await?)
    }

    async fn rules(&self, under: &ObjectName) -> Result<StoreRules, StoreError> {
        self.inner.rules(under).await
    }
}
