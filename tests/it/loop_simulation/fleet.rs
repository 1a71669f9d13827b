//! A fleet in memory: its infra repo alone is real. Stores fail on purpose, sources hold what they are given, every clock
//! is set by hand, and a controller can be killed at any call.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use backstay::{
    apply::executor::Bounds,
    artifact::{Kind, manifest::Details, manifest::Moment},
    clock::{Clock, ManualClock},
    config::Config,
    drivers::{Refusal, Registry},
    git::{Mirror, Tips},
    inventory::ArmedSchedule,
    keys::{Keys, identity},
    plan::CannotRun,
    reconcile::Controller,
    schedulers::{Scheduler, SchedulerError},
    sources::{
        CaptureRequest, Captured, Place, Probe, Restored, Run, Sink, Source, SourceError, git::GitSource,
    },
    spec::{self, Spec, names::StoreName},
    stores::{
        Class, Store,
        faulty::{Faults, FaultyStore},
        memory::MemoryStore,
    },
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt};

pub const STORES: [&str; 3] = ["vault", "offsite", "cellar"];

/// One store: what it holds, how it fails, and its own clock.
pub struct Vault {
    pub memory: MemoryStore,
    pub faults: Faults,
    pub clock: Arc<ManualClock>,
    faulty: Arc<dyn Store>,
}

impl Vault {
    fn new(seed: u64, now: Timestamp) -> Self {
        let clock = Arc::new(ManualClock::new(now));
        let tells = clock.clone();
        let memory = MemoryStore::new(Arc::new(move || tells.now()));
        let faults = Faults::seeded(seed);
        let faulty = Arc::new(FaultyStore::new(Arc::new(memory.clone()), faults.clone()));
        Self { memory, faults, clock, faulty }
    }
}

/// The protected data of one backup, in pieces that change one by one.
#[derive(Default)]
pub struct Data {
    pub pieces: Vec<Vec<u8>>,
    /// How captures fail: after so many pieces.
    pub fails_after: Option<usize>,
    /// What was captured as of each moment.
    captured: BTreeMap<Timestamp, Vec<Vec<u8>>>,
    restored: Option<Vec<u8>>,
}

/// The data of a whole fleet, by the path that the declaration gives it.
pub type Datasets = Arc<Mutex<BTreeMap<PathBuf, Data>>>;

pub struct MemorySource {
    path: PathBuf,
    data: Datasets,
}

impl MemorySource {
    pub fn new(path: PathBuf, data: Datasets) -> Self {
        Self { path, data }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Data) -> T) -> T {
        work(self.data.lock().unwrap().entry(self.path.clone()).or_default())
    }

    /// Takes what was restored last.
    pub fn restored(&self) -> Option<Vec<u8>> {
        self.with(|data| data.restored.take())
    }

    /// Whether a capture as of `moment` held these bytes.
    pub fn had(&self, moment: Timestamp, bytes: &[u8]) -> bool {
        self.with(|data| data.captured.get(&moment).is_some_and(|all| all.iter().any(|one| one == bytes)))
    }

    fn failed(&self, operation: &'static str) -> SourceError {
        SourceError::new(operation, self.path.display().to_string(), Class::Retry, "it fails on purpose")
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        Ok(Probe { version: "memory".to_owned() })
    }

    fn stream_name(&self) -> String {
        "data".to_owned()
    }

    async fn capture(&self, request: &CaptureRequest, sink: &mut dyn Sink) -> Result<Captured, SourceError> {
        let (pieces, fails_after) = self.with(|data| (data.pieces.clone(), data.fails_after));
        for (n, piece) in pieces.iter().enumerate() {
            if fails_after == Some(n) {
                return Err(self.failed("dump"));
            }
            let key = *blake3::hash(piece).as_bytes();
            if sink.run(Some(key)).await.map_err(|_| self.failed("dump"))? == Run::Wanted {
                let bytes = Bytes::copy_from_slice(piece);
                sink.write(bytes).await.map_err(|_| self.failed("dump"))?;
            }
        }
        self.with(|data| data.captured.entry(request.now).or_default().push(pieces.concat()));
        Ok(Captured { moment: Moment::At { time: request.now, position: None }, details: Details::default() })
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        _place: &Place,
    ) -> Result<Restored, SourceError> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.map_err(|_| self.failed("restore"))?;
        self.with(|data| data.restored = Some(bytes));
        Ok(Restored { place: "memory".to_owned() })
    }
}

/// A timetable in memory.
#[derive(Default)]
struct Armed(Mutex<BTreeSet<ArmedSchedule>>);

impl Scheduler for Armed {
    fn list(&self) -> Result<BTreeSet<ArmedSchedule>, SchedulerError> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn arm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        self.0.lock().unwrap().insert(schedule.clone());
        Ok(())
    }

    fn disarm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        self.0.lock().unwrap().remove(schedule);
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
    fn scheduler(&self) -> Arc<dyn Scheduler> {
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
    pub recipient: String,
    pub keys: Arc<Keys>,
    pub clock: Arc<ManualClock>,
    pub stores: BTreeMap<StoreName, Vault>,
    pub data: Datasets,
    armed: Arc<Armed>,
}

impl Fleet {
    pub fn new(seed: u64, now: Timestamp) -> Self {
        // A simulated crash loses no page of the system's, so that nothing need wait for a disk.
        let memory = std::path::Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let root = root.unwrap();
        let generated = identity::generate(now);
        let path = root.path().join("identity.txt");
        std::fs::write(&path, generated.file.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let keys = Keys::load_or_create(&root.path().join("keys"), &[], Some(&path)).unwrap();
        let mut bare = git2::RepositoryInitOptions::new();
        let repo =
            git2::Repository::init_opts(root.path().join("infra"), bare.bare(true).initial_head("main"));
        let vault = |(n, name): (u64, &&str)| (name.parse().unwrap(), Vault::new(seed ^ (n << 32), now));
        Self {
            repo: repo.unwrap(),
            recipient: generated.recipient,
            keys: Arc::new(keys),
            clock: Arc::new(ManualClock::new(now)),
            stores: (1..).zip(&STORES).map(vault).collect(),
            data: Datasets::default(),
            armed: Arc::default(),
            root,
        }
    }

    /// A new process on the same state directory.
    pub fn controller(&self, steps: usize) -> Controller {
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
        let stores = self.stores.iter().map(|(name, vault)| (name.clone(), vault.faulty.clone()));
        let drivers =
            InMemory { stores: stores.collect(), data: self.data.clone(), armed: self.armed.clone() };
        let bounds = Bounds {
            steps,
            tries: 2,
            pause: std::time::Duration::from_millis(1),
            longest_pause: std::time::Duration::from_millis(2),
            ..Bounds::default()
        };
        Controller::open(config, self.clock.clone()).unwrap().within(bounds).on(Arc::new(drivers))
    }

    /// Deletes the state directory, and with it the timetable.
    pub fn lose_state(&self) {
        std::fs::remove_dir_all(self.root.path().join("state")).unwrap();
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

    pub fn source(&self, backup: &str) -> MemorySource {
        MemorySource::new(data_path(backup), self.data.clone())
    }
}

pub fn data_path(backup: &str) -> PathBuf {
    PathBuf::from("/data").join(format!("{backup}.db"))
}

/// The declaration of a fleet.
#[derive(Clone)]
pub struct Declaration {
    pub stores: usize,
    /// Each backup with its increments' period in hours and its rules of retention.
    pub backups: BTreeMap<&'static str, (u64, &'static str)>,
    /// Makes every commit another one.
    pub note: u64,
}

impl Declaration {
    pub fn text(&self, recipient: &str) -> String {
        let names: Vec<String> = STORES[..self.stores].iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(", ");
        let mut text = format!(
            "# {}\n[fleet]\nname = \"pavroto\"\nrecipients = [\"{recipient}\"]\n[infra]\nstores = [{names}]\n",
            self.note
        );
        for name in STORES {
            text +=
                &format!("[store.{name}]\nlocation = \"{name}\"\nlocal = {{ path = \"/stores/{name}\" }}\n");
        }
        for (name, (hours, keep)) in &self.backups {
            let path = data_path(name);
            text += &format!(
                "[policy.{name}]\nfull = {{ every = \"1d\" }}\n{} = {{ every = \"{hours}h\" }}\nkeep = {keep}\n\
                 verify = {{ metadata = \"12h\", data = \"1d\" }}\n\
                 [backup.{name}]\npolicy = \"{name}\"\nstores = [{names}]\nsqlite = {{ path = {path:?} }}\n",
                Kind::Incremental
            );
        }
        text
    }
}
