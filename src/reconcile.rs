//! One pass: fetch, find the revision in force, back up the infra repo itself, observe, plan, check, apply, record.
//!
//! [`Controller::plan`] changes nothing; [`Controller::apply`] holds the state directory's lock while it changes
//! something. Both answer with a [`Pass`], which is all that the command line, the daemon and the web page show.

mod adopt;
pub mod desired;
mod events;
mod memory;
mod pass;
pub mod saved;
mod survey;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;

use crate::{
    apply::{
        executor::{Bounds, Halt, Listener, Outcome, execute},
        journal::{Journal, JournalError},
        world::{Announcements, Deeds, World},
    },
    artifact::{Depth, record::Event},
    clock::{Clock, SystemClock},
    config::{Config, ConfigError},
    drivers::{Drivers, Registry},
    git::{
        Mirror, MirrorError,
        push::{PushError, PushMirror},
        stored::StoredTips,
        tips_position,
    },
    inventory::{Interrupted, Inventory, Observed},
    keys::{Keys, KeysError},
    observe::{
        Freshness, InfraSight, Sight,
        cache::{MemoryCache, ObjectCache, SqliteCache},
        observe,
        seen::Seen,
        stores::Look,
    },
    plan::{
        self, Action, Limits, Plan,
        check::{Malformed, check, withhold_deletions},
        manual::{self, CannotCapture},
        restore::{self, CannotRestore},
        verify::{self, Scope},
    },
    spec::{
        Spec,
        names::{BackupName, StoreName},
    },
    state::{Before, InForce, Lock, StateDir, StateError},
    status::{Revisions, Status},
};
pub use adopt::AdoptError;
use desired::{Demands, Desired, NothingInForce};
use pass::{Begun, only};
pub use pass::{Ending, Extent, Pass};
use saved::Stale;
pub use survey::{Survey, Trace, TraceError};

/// How often a pass plans on what its own steps made. Captures, their copies, their checks: three; and one to spare.
const MOST_ROUNDS: usize = 4;

/// One Backstay process on one state directory.
pub struct Controller {
    config: Config,
    state: StateDir,
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
    mirror: Mirror,
    drivers: Arc<dyn Registry>,
    cache: Arc<dyn ObjectCache>,
    bounds: Bounds,
    seen: tokio::sync::Mutex<Seen>,
    /// The mark of this controller's last pass in the state directory.
    last_pass: Mutex<Option<u64>>,
    /// The last answer to which revision is in force, with the tips and the earlier revision that it rests on.
    known: Mutex<Option<(Basis, Arc<Desired>)>>,
}

/// The tips of the infra repo, and the revision that was in force before.
type Basis = (String, Option<InForce>);

/// What a pass is asked to do.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Whatever the declaration asks for.
    Everything,
    /// Exactly this plan, which must be what a pass would plan.
    Exactly(Plan),
    /// Backups on demand.
    Backup(Vec<manual::Request>, Keep),
    /// Checks of what is stored.
    Verify(Scope, Depth),
    /// Repairs of what is known to be damaged.
    Repair(Scope),
    /// A restore.
    Restore(restore::Request),
}

impl Ask {
    fn extent(&self) -> Extent {
        match self {
            Ask::Everything | Ask::Exactly(_) => Extent::Fleet,
            Ask::Backup(..) | Ask::Verify(..) | Ask::Repair(_) | Ask::Restore(_) => Extent::Request,
        }
    }
}

/// How long artifacts on demand are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As the retention says.
    ByPolicy,
    /// Until a person releases them; with the reason.
    Held(String),
}

/// On which terms.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How old what was seen may be.
    pub freshness: Freshness,
    /// The rewritten tip of the branch that a person accepts.
    pub accept_rewrite: Option<String>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { freshness: Freshness::Now, accept_rewrite: None }
    }
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
    /// There is nothing to restore.
    #[error(transparent)]
    CannotRestore(#[from] CannotRestore),
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
        let drivers = Drivers::new(config.allow.clone(), keys.identities().to_vec(), &state);
        Ok(Self {
            cache: open_cache(&state, &keys),
            drivers: Arc::new(drivers),
            bounds: Bounds::default(),
            seen: tokio::sync::Mutex::default(),
            last_pass: Mutex::default(),
            known: Mutex::default(),
            config,
            state,
            keys,
            clock,
            mirror,
        })
    }

    /// The same, within other bounds.
    pub fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
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
        let desired = self.desired(terms).await?;
        let interrupted = if busy { Vec::new() } else { Journal::peek(&self.state.journal())? };
        self.look(seen, &desired.spec, interrupted, terms.freshness).await;
        let plan = self.planned(ask, &desired, seen)?;
        Ok((self.concluded(Begun::of(plan, ask.extent(), unreachable), &desired, seen)?, desired))
    }

    /// One pass, which does what it plans.
    pub async fn apply(
        &self,
        ask: &Ask,
        terms: &Terms,
        halt: &Halt,
        listener: &Arc<dyn Listener>,
    ) -> Result<Pass, PassError> {
        let hand = Hand::take(&self.state, ask, halt, listener)?;
        let freshness = self.freshness_after_others(ask, terms.freshness)?;
        let unreachable = self.fetch().await;
        let desired = self.desired(terms).await?;
        self.keep_in_force(&desired)?;
        let mut seen = self.seen.lock().await;

        let first = match ask {
            Ask::Everything => self.back_up_infra_first(&hand, &desired, &mut seen).await?,
            _ => None,
        };
        self.look(&mut seen, &desired.spec, hand.interrupted(), freshness).await;
        let plan = self.planned(ask, &desired, &seen)?;
        let mut begun = Begun::of(plan, ask.extent(), unreachable).after(first);
        self.carry_out_in_rounds(&hand, ask, &desired, &mut seen, &mut begun).await?;
        if !matches!(ask, Ask::Restore(_)) {
            let in_force = desired.stands_in_for.as_ref().unwrap_or(&desired.revision.id);
            let events = events::of_pass(ask, &begun, in_force, &seen.inventory);
            begun.unrecorded = self.record(events, &desired.spec, &mut seen).await;
        }
        self.concluded(begun, &desired, &seen)
    }

    /// What was seen counts only as long as no other process has changed anything since.
    fn freshness_after_others(&self, ask: &Ask, wanted: Freshness) -> Result<Freshness, StateError> {
        if matches!(ask, Ask::Restore(_)) {
            return Ok(wanted);
        }
        let mut last = lock(&self.last_pass);
        let (mark, before) = self.state.begin_pass(*last)?;
        *last = Some(mark);
        Ok(if before == Before::Ours { wanted } else { Freshness::Now })
    }

    /// Takes the planned steps, and then those that only follow from what they made, such as copies of a new artifact.
    /// What failed is left to a later pass.
    async fn carry_out_in_rounds(
        &self,
        hand: &Hand,
        ask: &Ask,
        desired: &Arc<Desired>,
        seen: &mut Seen,
        begun: &mut Begun,
    ) -> Result<(), PassError> {
        for _ in 0..MOST_ROUNDS {
            self.carry_out(hand, desired, seen, begun).await;
            if seen.has_forgotten(desired.spec.stores.keys()) {
                let as_kept_up = Freshness::Within(Duration::MAX);
                self.look(seen, &desired.spec, hand.interrupted(), as_kept_up).await;
            }
            let next = match ask {
                Ask::Everything => self.planned(&Ask::Everything, desired, seen)?,
                Ask::Backup(requests, _) => {
                    let asked = |name: &BackupName| requests.iter().any(|request| request.backup == *name);
                    only(
                        self.planned(&Ask::Everything, desired, seen)?,
                        |action| matches!(action, Action::Copy { backup, .. } if asked(backup)),
                    )
                }
                _ => return Ok(()),
            };
            if hand.halt.begins_nothing() || !begun.go_on_with(next) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Brings the mirror up to date; or says why it can't. What was fetched before stays desired then.
    async fn fetch(&self) -> Option<String> {
        self.mirror.fetch().await.err().map(|error| error.to_string())
    }

    /// The revision in force; read again only when a tip has moved.
    async fn desired(&self, terms: &Terms) -> Result<Arc<Desired>, NothingInForce> {
        let tips = self.mirror.tips().await.map_err(NothingInForce::NoRevision)?;
        let basis = (tips_position(&tips), self.state.in_force());
        let demands = self.demands(terms);
        if let Some((known, desired)) = &*lock(&self.known)
            && *known == basis
            && terms.accept_rewrite.is_none()
        {
            return Ok(desired.clone());
        }
        let before = match &basis.1 {
            Some(known) => Some(known.clone()),
            None => self.remembered(&demands).await,
        };
        let desired = Arc::new(desired::desired(&self.mirror, &demands, before).await?);
        *lock(&self.known) = Some((basis, desired.clone()));
        Ok(desired)
    }

    fn demands(&self, terms: &Terms) -> Demands {
        Demands {
            folder: self.config.repo.path.clone(),
            branch: self.config.repo.branch.clone(),
            must_recipients: self.config.keys.must_recipients.clone(),
            accepted: terms.accept_rewrite.clone(),
        }
    }

    /// Remembers which revision is in force.
    fn keep_in_force(&self, desired: &Desired) -> Result<(), StateError> {
        if desired.stands_in_for.is_some() {
            return Ok(());
        }
        let now = InForce { branch: self.config.repo.branch.clone(), revision: desired.revision.id.clone() };
        if self.state.in_force().as_ref() != Some(&now) {
            self.state.set_in_force(&now)?;
        }
        Ok(())
    }

    /// Backs up the infra repo before anything else, on the strength of what was seen before: a bundle and a push only
    /// add. Without any earlier look the pass itself begins with it.
    async fn back_up_infra_first(
        &self,
        hand: &Hand,
        desired: &Arc<Desired>,
        seen: &mut Seen,
    ) -> Result<Option<Begun>, PassError> {
        if seen.inventory.stores.is_empty() {
            return Ok(None);
        }
        self.look(seen, &desired.spec, Vec::new(), Freshness::AsSeen).await;
        let plan = only(self.planned(&Ask::Everything, desired, seen)?, |action| match action {
            Action::Capture(capture) => capture.backup.is_infra(),
            Action::Push { .. } => true,
            _ => false,
        });
        let mut begun = Begun::of(plan, Extent::Fleet, None);
        self.carry_out(hand, desired, seen, &mut begun).await;
        Ok(Some(begun))
    }

    /// Looks at everything, as far as what was seen is not fresh enough.
    async fn look(&self, seen: &mut Seen, spec: &Spec, interrupted: Vec<Interrupted>, freshness: Freshness) {
        let sight = Sight {
            stores: self.looks(spec).await,
            scheduler: self.drivers.scheduler(),
            infra: spec.infra.as_ref().map(|infra| InfraSight {
                mirror: self.mirror.clone(),
                pushed: infra.mirrors.iter().map(|url| (url.clone(), self.pushed(url))).collect(),
            }),
            interrupted,
        };
        *seen = observe(&sight, std::mem::take(seen), freshness, self.clock.now()).await;
    }

    async fn looks(&self, spec: &Spec) -> BTreeMap<StoreName, Result<Look, String>> {
        let mut looks = BTreeMap::new();
        for (name, declared) in &spec.stores {
            let look = self.drivers.store(declared).await.map(|store| Look {
                name: name.clone(),
                store,
                fleet: spec.fleet.name.clone(),
                keys: self.keys.clone(),
                cache: self.cache.clone(),
            });
            looks.insert(name.clone(), look.map_err(|refusal| refusal.to_string()));
        }
        looks
    }

    fn pushed(&self, url: &str) -> Result<PushMirror, PushError> {
        PushMirror::new(&self.mirror, url, &self.config.allow.mirrors)
    }

    /// What bounds every plan on this host.
    fn limits(&self, desired: &Desired) -> Limits {
        let identities = self.keys.identities();
        Limits {
            delete_share: self.config.allow.delete_share,
            deepest_check: if identities.is_empty() { Depth::Data } else { Depth::Plaintext },
            identities: identities.iter().map(|identity| identity.to_public().to_string()).collect(),
            refused: self.drivers.refused(&desired.spec),
            ..Limits::new(desired.revision.id.clone())
        }
    }

    /// The plan of what is asked, checked.
    fn planned(&self, ask: &Ask, desired: &Desired, seen: &Seen) -> Result<Plan, PassError> {
        let (spec, inventory, now) = (&desired.spec, &seen.inventory, self.clock.now());
        let limits = self.limits(desired);
        let plan = match ask {
            Ask::Everything => plan::plan(spec, inventory, &limits, now),
            Ask::Exactly(saved) => saved::current(saved, plan::plan(spec, inventory, &limits, now))?,
            Ask::Backup(requests, _) => manual::manual(spec, inventory, &limits, requests, now)?,
            Ask::Verify(scope, depth) => verify::verify(spec, inventory, &limits, (scope, *depth), now),
            Ask::Repair(scope) => verify::repair(spec, inventory, &limits, scope, now),
            Ask::Restore(request) => restore::restore(spec, inventory, &limits, request, now)?,
        };
        let plan = check(plan, spec, inventory, &limits, now)?;
        Ok(match &desired.stands_in_for {
            Some(lost) => {
                withhold_deletions(plan, &format!("revision {lost}, which was in force, can't be read"))
            }
            None => plan,
        })
    }

    /// Takes the steps that were not taken yet, and keeps up with what they did.
    async fn carry_out(&self, hand: &Hand, desired: &Arc<Desired>, seen: &mut Seen, begun: &mut Begun) {
        let plan = begun.not_taken();
        let inventory = Arc::new(std::mem::take(&mut seen.inventory));
        let world = Arc::new(World {
            spec: desired.spec.clone(),
            revision: desired.revision.id.clone(),
            inventory: inventory.clone(),
            deletions: Announcements::of(&plan),
            stores: self.looks(&desired.spec).await,
            mirrors: self.config.allow.mirrors.clone(),
            drivers: self.drivers.clone(),
            mirror: self.mirror.clone(),
            tips: StoredTips::new(self.state.root()),
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            listener: hand.listener.clone(),
            deeds: Deeds::default(),
        });
        let (effects, listener) = (world.clone(), hand.listener.clone());
        let outcomes =
            execute(&plan, &self.bounds, effects, hand.journal.clone(), listener, &hand.halt).await;
        let (events, changes) = (world.deeds.events(), world.deeds.changes());
        drop(world);
        seen.inventory = Arc::unwrap_or_clone(inventory);
        let now = self.clock.now();
        for (store, backup, change) in changes {
            seen.apply(&store, &backup, change, now);
        }
        begun.outcomes.extend(outcomes);
        begun.events.extend(events);
        self.keep_up(&mut seen.inventory, begun);
    }

    /// Keeps up with what the steps did outside of stores.
    fn keep_up(&self, inventory: &mut Inventory, begun: &Begun) {
        if let Ok(armed) = self.drivers.scheduler().list() {
            inventory.armed = armed;
        }
        let Some(infra) = &mut inventory.infra else { return };
        for step in &begun.plan.steps {
            if let (Action::Push { mirror }, Some(Outcome::Done(_))) =
                (&step.action, begun.outcomes.get(&step.id))
            {
                let position = Observed::Known(infra.position.clone());
                infra.mirrors.insert(mirror.clone(), position);
            }
        }
    }

    /// Writes into the stores what must outlive the controller; returns what could not be written.
    async fn record(
        &self,
        events: BTreeMap<StoreName, Vec<Event>>,
        spec: &Spec,
        seen: &mut Seen,
    ) -> Vec<String> {
        let looks = self.looks(spec).await;
        let now = self.clock.now();
        let appended = events.into_iter().filter_map(|(store, events)| {
            let records = looks.get(&store)?.as_ref().ok()?.records();
            let siblings = seen.siblings(&store);
            Some(async move { (store, records.append_knowing(&self.keys, now, events, siblings).await) })
        });
        let mut faults = Vec::new();
        for (store, appended) in join_all(appended.collect::<Vec<_>>()).await {
            match appended {
                Ok(record) => seen.recorded(&store, &record),
                Err(error) => faults.push(error.to_string()),
            }
        }
        faults
    }

    /// The pass with what it means: how everything stands, and when the next one is due.
    fn concluded(&self, begun: Begun, desired: &Desired, seen: &Seen) -> Result<Pass, PassError> {
        let (spec, inventory, now) = (&desired.spec, &seen.inventory, self.clock.now());
        let limits = self.limits(desired);
        let revisions = Revisions {
            in_force: Some(desired.revision.id.clone()),
            newest: desired.newest().map(str::to_owned),
            refused: desired.obstacle.as_ref().map(ToString::to_string),
        };
        // What is left to do now: the very plan, where nothing was done.
        let left = match begun.outcomes.is_empty() {
            true => None,
            false => Some(check(plan::plan(spec, inventory, &limits, now), spec, inventory, &limits, now)?),
        };
        let left = left.as_ref().unwrap_or(&begun.plan);
        let status = Status::of(spec, inventory, &limits, left, revisions, now);
        let next_due = plan::next_due(spec, inventory, &limits, now);
        Ok(Pass::of(begun, desired, status, next_due))
    }
}

/// What a pass works with from its lock to its end.
struct Hand {
    _leave: Leave,
    journal: Arc<Mutex<Journal>>,
    halt: Halt,
    listener: Arc<dyn Listener>,
}

/// By whose leave a pass does what it does.
enum Leave {
    /// Nobody else changes anything of what this state directory is for.
    Alone { _lock: Lock },
    /// It changes nothing that others could: a restore reads stores, and goes on beside captures.
    Beside { _journal: tempfile::TempDir },
}

impl Hand {
    fn take(
        state: &StateDir,
        ask: &Ask,
        halt: &Halt,
        listener: &Arc<dyn Listener>,
    ) -> Result<Self, PassError> {
        let (leave, path) = match ask {
            Ask::Restore(_) => {
                let folder = state.scratch()?;
                let path = folder.path().join("journal");
                (Leave::Beside { _journal: folder }, path)
            }
            _ => (Leave::Alone { _lock: state.lock()? }, state.journal()),
        };
        let journal = Arc::new(Mutex::new(Journal::open(path)?));
        Ok(Self { _leave: leave, journal, halt: halt.clone(), listener: listener.clone() })
    }

    fn interrupted(&self) -> Vec<Interrupted> {
        lock(&self.journal).interrupted()
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
