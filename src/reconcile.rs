//! One pass: fetch, find the revision in force, back up the infra repo itself, observe, plan, check, apply, record.
//!
//! [`Controller::plan`] changes nothing; [`Controller::apply`] holds the state directory's lock while it changes
//! something. Both answer with a [`Pass`], which is all that the command line, the daemon and the web page show.

mod adopt;
pub mod approve;
mod ask;
mod departed;
pub mod desired;
mod events;
mod fetch_wal;
mod hand;
mod in_force;
mod line;
mod look;
mod made;
mod memory;
mod pass;
mod previews;
mod probe;
mod published;
mod rounds;
mod runbook;
pub mod saved;
mod saying;
mod scheduled;
mod settled;
mod stand_ins;
mod survey;
mod touched;
mod trust;
mod under_way;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use crate::{
    apply::{
        executor::{Bounds, Halt, Listener},
        journal::{Journal, JournalError},
        watchdog::Kennel,
    },
    artifact::{ArtifactId, Depth},
    chance::{Chance, SystemChance},
    clock::{Clock, SystemClock},
    config::{Config, ConfigError},
    drivers::{Drivers, Registry},
    git::{Mirror, MirrorError, Trust},
    inventory::Inventory,
    keys::{Keys, KeysError},
    observe::{
        Freshness,
        cache::{MemoryCache, ObjectCache, SqliteCache},
        seen::Seen,
    },
    plan::{
        self, Limits, Plan,
        by_hand::Stored,
        check::{Malformed, check, withhold_deletions},
        drill::{self, CannotDrill},
        heal,
        manual::{self, CannotCapture},
        part::Part,
        readers,
        recovery::{self, CannotRecover},
        restore::{self, CannotRestore},
        verify,
    },
    spec::Undeclared,
    state::{InForce, StateDir, StateError},
    status::{Contact, Status},
    templates::Remembered,
};
pub use adopt::AdoptError;
pub use approve::{ApproveError, ApprovePlanError, Approved, PlanApprovals, Word};
pub use ask::{Ask, Keep, Terms};
pub use departed::Departure;
use desired::{Desired, NothingInForce};
pub use fetch_wal::{FetchError, Fetched as FetchedFile};
use hand::Hand;
use line::News;
pub use line::{Line, Reply, Wanted};
use pass::{Begun, only};
pub use pass::{Ending, Extent, Pass};
pub use probe::{Answer, Probed};
pub use published::Runbooks;
use saved::Stale;
pub use saying::{Recorded, SayError, Saying};
use settled::{Prelude, Settled};
pub use survey::{Signature, Survey, Trace, TraceError};
use under_way::{Occasion, UnderWay};

/// One Backstay process on one state directory.
pub struct Controller {
    config: Config,
    state: StateDir,
    /// What watches over the machines of drills; `None` where nobody does.
    kennel: Option<Kennel>,
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    mirror: Mirror,
    drivers: Arc<dyn Registry>,
    cache: Arc<dyn ObjectCache>,
    bounds: Bounds,
    seen: tokio::sync::Mutex<Seen>,
    /// The mark of this controller's last pass in the state directory.
    last_pass: Mutex<Option<u64>>,
    /// The last answer to which revision is in force, with what it rests on.
    known: Mutex<Option<(Basis, Arc<Desired>)>>,
    /// What the last pass over everything was planned for.
    planned_for: Mutex<Option<Arc<Desired>>>,
    /// What the last pass over everything left, if that was nothing to do.
    settled: Mutex<Option<Arc<Settled>>>,
    /// How the infra repo answered last.
    contact: Mutex<Contact>,
    /// Whose signatures count, by the files of the host as they were read last.
    trust: Mutex<Option<Arc<Trust>>>,
    /// Why the runbooks are not on their branch, if so.
    unpublished: Mutex<Option<String>>,
    /// What is stored as the artifacts that runbooks tell of: it never changes.
    stored: Mutex<BTreeMap<ArtifactId, Stored>>,
    /// Templates that took more than they may, and would take it again at each pass.
    unbounded: Remembered,
}

/// What an answer to which revision is in force rests on.
#[derive(Clone, PartialEq, Eq)]
struct Basis {
    /// The tips of the infra repo.
    tips: String,
    /// The revision that was in force before.
    before: Option<InForce>,
    /// Whose signatures count.
    trust: String,
    /// Whose commits may approve.
    approvers: String,
    /// The last approval on this host.
    approval: Option<u64>,
}

/// A controller that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Its mirror of the infra repo.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
}

/// A pass that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// Another process changes something, or the state directory is unusable.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nothing can be announced.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No revision is in force.
    #[error(transparent)]
    NothingInForce(#[from] NothingInForce),
    /// A saved plan is not what a pass would plan now.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// A backup on demand is not possible.
    #[error(transparent)]
    CannotCapture(#[from] CannotCapture),
    /// Nothing of that name can be healed.
    #[error(transparent)]
    Undeclared(#[from] Undeclared),
    /// There is nothing to restore.
    #[error(transparent)]
    CannotRestore(#[from] CannotRestore),
    /// A drill is not possible.
    #[error(transparent)]
    CannotDrill(#[from] CannotDrill),
    /// A recovery is not possible.
    #[error(transparent)]
    CannotRecover(#[from] CannotRecover),
    /// A fault of Backstay's own.
    #[error("failed to end the pass: {0}; report this fault with the log")]
    Broken(String),
    /// The planners made a plan that contradicts itself.
    #[error("failed to check the plan: {0}; nothing was done; report this fault with the plan")]
    Malformed(#[from] Malformed),
}

impl Controller {
    /// Sets up a controller as the configuration file says, going by the system's clock.
    pub fn load(config: &Path) -> Result<Self, OpenError> {
        Self::open(Config::load(config)?, Arc::new(SystemClock))
    }

    /// Sets up a controller: makes its state directory and keys where they are missing.
    pub fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let state = StateDir::open(&config.state_dir)?;
        let keys = &config.keys;
        let keys = Arc::new(Keys::load_or_create(&keys.dir, &keys.trusted, keys.identity.as_deref())?);
        let mirror = Mirror::open(state.root(), config.repo.url.clone(), &config.repo.branch)?;
        let mirror = match &config.runbook_branch {
            Some(branch) => mirror.leaving_out(branch)?,
            None => mirror,
        };
        let drivers = Drivers::new(config.clone(), keys.identities().to_vec(), &state);
        let drivers = drivers.signing_with(&keys.public_key());
        Ok(Self {
            cache: open_cache(&state, &keys),
            drivers: Arc::new(drivers),
            bounds: bounds_of(&config, 1),
            seen: tokio::sync::Mutex::default(),
            last_pass: Mutex::default(),
            known: Mutex::default(),
            planned_for: Mutex::default(),
            settled: Mutex::default(),
            contact: Mutex::new(state.contact()),
            trust: Mutex::default(),
            unpublished: Mutex::default(),
            stored: Mutex::default(),
            unbounded: Remembered::default(),
            config,
            state,
            kennel: None,
            keys,
            clock,
            chance: Arc::new(SystemChance),
            mirror,
        })
    }

    /// The same, in a process that runs so many fleets.
    pub fn among(self, fleets: usize) -> Self {
        Self { bounds: bounds_of(&self.config, fleets), ..self }
    }

    /// The same, within other bounds.
    pub fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// The same, with names of new artifacts that rest on `chance`.
    pub fn drawing(self, chance: Arc<dyn Chance>) -> Self {
        Self { chance, ..self }
    }

    /// The same, on other drivers.
    pub fn on(self, drivers: Arc<dyn Registry>) -> Self {
        Self { drivers, ..self }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its state directory.
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// What it signs and decrypts with.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// What it goes by.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// What its readers of logs work with.
    pub fn readers(&self) -> crate::readers::Means {
        crate::readers::Means {
            drivers: self.drivers.clone(),
            clock: self.clock.clone(),
            spools: self.state.readers(),
            most: self.config.readers.most(),
        }
    }

    /// The time that it goes by.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What a pass would do. Changes nothing but the state directory's own caches.
    pub async fn plan(&self, ask: &Ask, terms: &Terms) -> Result<Pass, PassError> {
        let mut seen = self.seen.lock().await;
        Ok(self.look_and_plan(&mut seen, ask, terms).await?.0)
    }

    /// What is declared and what really exists, with what a pass would do about it. Changes nothing, as
    /// [`Controller::plan`].
    pub async fn survey(&self, terms: &Terms) -> Result<Survey, PassError> {
        let mut seen = self.seen.lock().await;
        let (pass, desired) = self.look_and_plan(&mut seen, &Ask::Everything, terms).await?;
        let (spec, limits) = (desired.spec.clone(), self.limits(&desired));
        Ok(Survey { spec, inventory: seen.inventory.clone(), limits, pass })
    }

    async fn look_and_plan(
        &self,
        seen: &mut Seen,
        ask: &Ask,
        terms: &Terms,
    ) -> Result<(Pass, Arc<Desired>), PassError> {
        // While another process has the lock, what is under way is its own, and so is the mirror.
        let busy = self.state.is_busy();
        let unreachable = if busy { None } else { self.fetch().await };
        let desired = self.desired().await?;
        let interrupted = if busy { Vec::new() } else { Journal::peek(&self.state.journal())? };
        self.look(seen, &desired.spec, interrupted, terms.freshness).await;
        self.look_at_machines(seen, &desired, terms.freshness, ask).await;
        let plan = self.planned(ask, &desired, &seen.inventory)?;
        let left = plan.clone();
        let pass = self.described(Begun::of(plan, ask.extent(), unreachable), &desired, &left, seen);
        Ok((pass, desired))
    }

    /// One pass, which does what it plans, and what falls due while it lasts; then its runbooks are brought to their branch.
    pub async fn apply(
        &self,
        ask: &Ask,
        terms: &Terms,
        halt: &Halt,
        listener: &Arc<dyn Listener>,
    ) -> Result<Pass, PassError> {
        let pass = self.apply_hearing(&Line::default(), ask, terms, halt, listener).await?;
        Ok(self.published(pass).await)
    }

    /// The same, open to what happens meanwhile: rounds of looking and planning, while steps run, until nothing is under
    /// way and there is nothing left to begin. What a round can't do ends the pass only once the steps under way have ended.
    pub async fn apply_hearing(
        &self,
        line: &Line,
        ask: &Ask,
        terms: &Terms,
        halt: &Halt,
        listener: &Arc<dyn Listener>,
    ) -> Result<Pass, PassError> {
        let mut news = line.take();
        let Prelude { fetched, settled } = match self.nothing_new(ask, news.as_ref()).await {
            ControlFlow::Break(pass) => return Ok(pass),
            ControlFlow::Continue(prelude) => prelude,
        };
        let freshness = news.as_ref().and_then(|news| news.look).unwrap_or(terms.freshness);
        let begun = Hand::take(&self.state, ask, halt, listener)
            .and_then(|hand| Ok((hand, self.freshness_after_others(ask, freshness)?)))
            .inspect_err(|error| line::refuse(news.take().map_or(Vec::new(), |news| news.wanted), error));
        let (hand, freshness) = begun?;
        let mut settled = settled.filter(|_| freshness != Freshness::Now);
        let mut pass = UnderWay::new(hand, ask, line, &self.bounds);
        pass.fetched = fetched;
        let mut occasion = match news {
            Some(news) => Occasion::News(News { look: Some(freshness), ..news }),
            None => Occasion::Begin(freshness),
        };
        let mut replaced: Option<Arc<Controller>> = None;
        loop {
            if let Occasion::News(news) = &mut occasion
                && let Some(controller) = news.controller.take()
            {
                // What waits was planned by what another configuration allows.
                pass.withdraw();
                pass.execution.keep_within(controller.bounds.clone());
                replaced = Some(controller);
            }
            let controller = replaced.as_deref().unwrap_or(self);
            let round = controller.round(&mut pass, occasion, settled.take()).await;
            pass.next_due = round.as_ref().ok().and_then(|round| round.next_due);
            if let Err(error) = &round {
                pass.refuse(error);
            }
            if pass.is_over() {
                let round = match (round, &pass.desired) {
                    (Ok(round), Some(desired)) if !halt.stop.is_cancelled() => {
                        Ok(controller.with_runbooks(ask, desired, round).await)
                    }
                    (round, _) => round,
                };
                controller.settle(ask, &pass, &round).await;
                return round;
            }
            pass.tell(round);
            occasion = pass.next_occasion(self.clock.as_ref()).await;
        }
    }

    /// What bounds every plan on this host.
    fn limits(&self, desired: &Desired) -> Limits {
        let identities = self.keys.identities();
        Limits {
            delete_share: self.config.allow.delete_share,
            deepest_check: if identities.is_empty() { Depth::Data } else { Depth::Plaintext },
            identities: identities.iter().map(|identity| identity.to_public().to_string()).collect(),
            refused: self.drivers.refused(&desired.spec),
            declaration: desired.declaration.clone(),
            approvals: desired.by_commit.approvals.clone(),
            void_approvals: desired.by_commit.void.clone(),
            ..Limits::new(desired.revision.id.clone())
        }
    }

    /// The plan of what is asked, checked.
    fn planned(&self, ask: &Ask, desired: &Desired, inventory: &Inventory) -> Result<Plan, PassError> {
        let (spec, now) = (&desired.spec, self.clock.now());
        let limits = self.limits(desired);
        let plan = match ask {
            Ask::Everything => plan::plan(spec, inventory, &limits, now),
            Ask::Exactly(saved) | Ask::Agreed(saved) => {
                // What was saved is without what rules held back.
                let plan = self.checked(plan::plan(spec, inventory, &limits, now), desired, inventory)?;
                return Ok(saved::current(saved, plan)?);
            }
            Ask::Due(names) => {
                let part = Part::of(names.iter().cloned());
                let plan = self.planned_of(&part, desired, inventory)?;
                return Ok(only(plan, |action| action.backup().is_some()));
            }
            Ask::Backup(requests, _) => manual::manual(spec, inventory, &limits, requests, now)?,
            Ask::Verify(scope, depth) => verify::verify(spec, inventory, &limits, (scope, *depth), now),
            Ask::Repair(scope) => verify::repair(spec, inventory, &limits, scope, now),
            Ask::Heal(resources) => heal::heal(spec, inventory, &limits, resources, now)?,
            Ask::Restore(request) => restore::restore(spec, inventory, &limits, request, now)?,
            Ask::Drill(requests) => drill::manual(spec, inventory, &limits, requests, now)?,
            Ask::Recover(request) => recovery::recover(spec, inventory, &limits, request, now)?,
        };
        self.checked(plan, desired, inventory)
    }

    /// The plan of whatever the declaration asks for of a part of the fleet, checked; in proportion to that part.
    fn planned_of(&self, part: &Part, desired: &Desired, inventory: &Inventory) -> Result<Plan, PassError> {
        let inventory = part.inventory(inventory, &desired.spec.moved);
        let desired = Desired { spec: Arc::new(part.spec(&desired.spec)), ..desired.clone() };
        let mut plan = self.planned(&Ask::Everything, &desired, &inventory)?;
        plan.cannot_run.retain(|cannot| part.may_have(&cannot.resource));
        Ok(plan)
    }

    /// A plan as the rules judge it now.
    fn checked(&self, plan: Plan, desired: &Desired, inventory: &Inventory) -> Result<Plan, PassError> {
        let plan = check(plan, &desired.spec, inventory, &self.limits(desired), self.clock.now())?;
        Ok(match &desired.stands_in_for {
            Some(lost) => {
                withhold_deletions(plan, &format!("revision {lost}, which was in force, can't be read"))
            }
            None => plan,
        })
    }

    /// How a pass stands: `left` is all that is left to do, and when time gives it something to do again.
    fn concluded(&self, pass: &UnderWay<'_>, left: &Plan, seen: &Seen) -> Result<Pass, PassError> {
        let broken = || PassError::Broken("it has no plan".to_owned());
        let (desired, begun) = (pass.desired.as_ref().ok_or_else(broken)?, pass.begun.clone());
        let begun = begun.ok_or_else(broken)?;
        Ok(match &pass.touched {
            Some(touched) => self.described_beside(touched, begun, desired, left, seen),
            None => self.described(begun, desired, left, seen),
        })
    }

    /// What was begun, with what it means: how everything stands, and when the next pass is due.
    fn described(&self, begun: Begun, desired: &Desired, left: &Plan, seen: &Seen) -> Pass {
        let (spec, inventory, now) = (&desired.spec, &seen.inventory, self.clock.now());
        let limits = self.limits(desired);
        let revisions = self.revisions(desired);
        let status = Status::of(spec, inventory, &limits, left, revisions, now);
        let next_due = plan::next_due(spec, inventory, &limits, now);
        let readers = readers::readers(spec, inventory, &limits, now);
        Pass::of(begun, desired, status, readers, next_due)
    }
}

/// What the host says of them, or else the fleet's part.
fn bounds_of(config: &Config, fleets: usize) -> Bounds {
    let part = Bounds::among(fleets);
    Bounds {
        steps: config.bounds.steps.unwrap_or(part.steps),
        per_store: config.bounds.per_store.unwrap_or(part.per_store),
        ..part
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cache of what was read from stores; in memory where the state directory can't hold it.
fn open_cache(state: &StateDir, keys: &Keys) -> Arc<dyn ObjectCache> {
    match SqliteCache::open(&state.root().join("objects.db"), &keys.trusted_keys()) {
        Ok(cache) => Arc::new(cache),
        Err(error) => {
            tracing::warn!(%error, "the cache of objects is kept in memory only");
            Arc::new(MemoryCache::default())
        }
    }
}
