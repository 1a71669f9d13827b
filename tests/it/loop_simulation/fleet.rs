//! A fleet in memory: its infra repo alone is real. Stores fail on purpose, sources hold what they are given, every clock
//! is set by hand, and all that is random follows from the seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use backstay::{
    apply::executor::Bounds,
    artifact::layout::ObjectName,
    chance::SeededChance,
    clock::{Clock, ManualClock},
    config::Config,
    drivers::{Refusal, Registry},
    git::{Mirror, Tips},
    inventory::{self, ArmedSchedule},
    keys::Keys,
    plan::CannotRun,
    reconcile::Controller,
    schedulers::{Scheduler, SchedulerError},
    sources::{Source, git::GitSource},
    spec::{self, Spec, names::StoreName},
    stores::{
        Store,
        faulty::{Faults, FaultyStore},
        memory::{Contents, MemoryStore},
    },
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use ssh_key::{LineEnding, PrivateKey, private::Ed25519Keypair};

use super::{
    gate::{Gate, GatedStore},
    source::{Datasets, MemorySource},
};

/// Who reads what the fleet stores; a key of this simulation alone.
pub const RECIPIENT: &str = "age1gea9jgq83v8hs45c5w59klqpce0zqa7qeu06fy8c3jvrw7y96e5sqgw80n";
const IDENTITY: &str = "AGE-SECRET-KEY-1VUCT0F4LRS8G9J6GF2FP78L5PX39JT2KTMCGNVRVQTU9WHA4SHJS34NCQA";

pub const STORES: [&str; 3] = ["vault", "offsite", "cellar"];

/// One store: what it holds, how it fails, and its own clock.
pub struct Vault {
    pub memory: MemoryStore,
    pub faults: Faults,
    pub clock: Arc<ManualClock>,
    /// What it held at some moment of the past.
    pub earlier: Option<Contents>,
    used: Arc<dyn Store>,
}

impl Vault {
    fn new(name: &'static str, seed: u64, now: Timestamp, gate: Gate) -> Self {
        let clock = Arc::new(ManualClock::new(now));
        let tells = clock.clone();
        let memory = MemoryStore::new(Arc::new(move || tells.now()));
        let faults = Faults::seeded(seed);
        let inner = Arc::new(FaultyStore::new(Arc::new(memory.clone()), faults.clone()));
        let used = Arc::new(GatedStore { name, inner, gate });
        Self { memory, faults, clock, earlier: None, used }
    }
}

/// A timetable in memory.
#[derive(Default)]
struct Armed(Mutex<BTreeSet<ArmedSchedule>>);

#[async_trait]
impl Scheduler for Armed {
    async fn list(&self) -> Result<inventory::Armed, SchedulerError> {
        Ok(self.0.lock().unwrap().clone().into())
    }

    async fn arm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        self.0.lock().unwrap().insert(schedule.clone());
        Ok(())
    }

    async fn disarm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        self.0.lock().unwrap().remove(schedule);
        Ok(())
    }

    fn can_hold(&self, _schedule: &ArmedSchedule) -> Result<(), String> {
        Ok(())
    }
}

/// The drivers of the fleet.
struct InMemory {
    stores: BTreeMap<StoreName, Arc<dyn Store>>,
    data: Datasets,
    armed: Arc<Armed>,
}

#[async_trait]
impl Registry for InMemory {
    fn scheduler(&self, _fleet: &spec::Fleet) -> Arc<dyn Scheduler> {
        self.armed.clone()
    }

    async fn store(&self, declared: &spec::Store) -> Result<Arc<dyn Store>, Refusal> {
        Ok(self.stores[&declared.name].clone())
    }

    async fn source(&self, declared: &spec::Source) -> Result<Box<dyn Source>, Refusal> {
        match declared {
            spec::Source::Sqlite { path } => Ok(Box::new(MemorySource::new(path.clone(), self.data.clone()))),
            other => Err(Refusal::NotBuilt(other.kind().to_owned())),
        }
    }

    fn infra(&self, mirror: &Mirror, prerequisites: Option<Tips>) -> Box<dyn Source> {
        Box::new(GitSource::new(mirror.path().to_owned(), prerequisites))
    }

    fn refused(&self, _spec: &Spec) -> Vec<CannotRun> {
        Vec::new()
    }
}

/// Everything outside of the controller.
pub struct Fleet {
    root: tempfile::TempDir,
    repo: git2::Repository,
    pub gate: Gate,
    pub keys: Arc<Keys>,
    pub clock: Arc<ManualClock>,
    pub stores: BTreeMap<StoreName, Vault>,
    pub data: Datasets,
    armed: Arc<Armed>,
    chance: Arc<SeededChance>,
}

impl Fleet {
    pub fn new(seed: u64, now: Timestamp) -> Self {
        // A simulated crash loses no page of the system's, so that nothing need wait for a disk.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let root = root.unwrap();
        let keys = keys(root.path());
        let mut bare = git2::RepositoryInitOptions::new();
        let repo =
            git2::Repository::init_opts(root.path().join("infra"), bare.bare(true).initial_head("main"));
        let gate = Gate::new(seed);
        let vault = |(n, name): (u64, &&'static str)| {
            let vault = Vault::new(name, seed ^ (n << 32), now, gate.clone());
            vault.memory.overwrite(&of_another_fleet(), Bytes::from_static(b"rows"));
            (name.parse().unwrap(), vault)
        };
        Self {
            repo: repo.unwrap(),
            keys: Arc::new(keys),
            clock: Arc::new(ManualClock::new(now)),
            stores: (1..).zip(&STORES).map(vault).collect(),
            data: Datasets::default(),
            armed: Arc::default(),
            chance: Arc::new(SeededChance::new(seed)),
            gate,
            root,
        }
    }

    /// A new process on the same state directory.
    pub fn controller(&self) -> Controller {
        let text = format!(
            r#"
            state_dir = "state"
            [repo]
            url = "{}"
            path = "backup"
            [http]
            listen = "127.0.0.1:0"
            [keys]
            dir = "keys"
            identity = "identity.txt"
            "#,
            self.repo.path().display()
        );
        let root = self.root.path().canonicalize().unwrap();
        let config = Config::parse("backstay.toml", text.as_bytes(), &root).unwrap();
        let stores = self.stores.iter().map(|(name, vault)| (name.clone(), vault.used.clone()));
        let drivers =
            InMemory { stores: stores.collect(), data: self.data.clone(), armed: self.armed.clone() };
        let bounds = Bounds {
            // In which order several steps are durable in the journal is not the seed's to say.
            steps: 1,
            tries: 2,
            // Shorter than between two turns, whatever jitter is added.
            pause: Duration::from_nanos(1),
            longest_pause: Duration::from_millis(2),
            ..Bounds::default()
        };
        let controller = Controller::open(config, self.clock.clone()).unwrap();
        controller.within(bounds).drawing(self.chance.clone()).on(Arc::new(drivers))
    }

    /// Deletes the state directory, and with it the timetable.
    pub fn lose_state(&self) {
        fs::remove_dir_all(self.root.path().join("state")).unwrap();
        self.armed.0.lock().unwrap().clear();
    }

    /// What the journal says was begun and never ended.
    pub fn interrupted(&self) -> Vec<backstay::inventory::Interrupted> {
        backstay::apply::journal::Journal::peek(&self.root.path().join("state/journal")).unwrap()
    }

    /// Commits the whole declaration.
    pub fn commit(&self, declaration: &str) {
        let repo = &self.repo;
        let tree = |name: &str, id, mode| {
            let mut tree = repo.treebuilder(None).unwrap();
            tree.insert(name, id, mode).unwrap();
            tree.write().unwrap()
        };
        let folder = tree("fleet.toml", repo.blob(declaration.as_bytes()).unwrap(), 0o100644);
        let tree = repo.find_tree(tree("backup", folder, 0o040000)).unwrap();
        let time = git2::Time::new(self.clock.now().as_second(), 0);
        let kai = git2::Signature::new("Kai", "kai@example.org", &time).unwrap();
        let parent = repo.head().ok().map(|head| head.peel_to_commit().unwrap());
        let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
        repo.commit(Some("refs/heads/main"), &kai, &kai, "Change the fleet", &tree, &parents).unwrap();
    }

    /// Every clock goes on.
    pub fn advance(&self, by: SignedDuration) {
        for clock in self.clocks() {
            clock.set(clock.now() + by);
        }
    }

    /// The controller's clock, and the stores'.
    pub fn clocks(&self) -> Vec<Arc<ManualClock>> {
        std::iter::once(&self.clock).chain(self.stores.values().map(|vault| &vault.clock)).cloned().collect()
    }
}

/// An object that is none of this fleet's.
pub fn of_another_fleet() -> ObjectName {
    ObjectName::parse("quelltrack/agama/artifacts/20260101T000000Z-0000000000000000.json").unwrap()
}

/// Keys that are the same in every run.
fn keys(root: &Path) -> Keys {
    let secret = |path: &Path, text: &str| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let (dir, identity) = (root.join("keys"), root.join("identity.txt"));
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    secret(&identity, IDENTITY);
    let signing = PrivateKey::new(Ed25519Keypair::from_seed(&[7; 32]).into(), "backstay").unwrap();
    secret(&dir.join("signing"), &signing.to_openssh(LineEnding::LF).unwrap());
    secret(&dir.join("naming"), &format!("{}\n", "07".repeat(32)));
    Keys::load_or_create(&dir, &[], Some(&identity)).unwrap()
}
