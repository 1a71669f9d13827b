//! The whole loop under faults: the real controller, executor, capture and restore engine, observation, journal and
//! records, on a real infra repo, against stores and sources in memory and clocks that are set by hand. A seeded random
//! commits good and bad declarations, changes data, kills the controller at any call and after any step, lets stores
//! fail, lie, answer late or not at all, corrupts and loses objects, and moves clocks by up to a year either way.
//!
//! After every move the stores themselves are judged; what counts is what a restore brings back. Once faults stop,
//! everything must converge. A failure prints its seed: `BACKSTAY_SEED=17 cargo test --test it loop_simulation`.

mod fleet;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use backstay::{
    apply::{
        executor::{Failure, Halt, Listener, Outcome},
        restore::restore,
    },
    artifact::{
        ArtifactId, Manifest,
        layout::{self, ObjectName},
        manifest::Content,
    },
    clock::{Clock, ManualClock},
    committed::{self, BackupFolder},
    plan::Step,
    progress::{Progress, Unseen},
    reconcile::{Ask, Controller, Pass, Terms},
    sources::Place,
    spec::names::{BackupName, StoreName},
    stores::{
        Store,
        faulty::{Chances, Health},
        memory::MemoryStore,
    },
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::simulation::{Random, for_every_seed};
use fleet::{Data, Declaration, Fleet, STORES, data_path};

const SEEDS: u64 = 24;
const MOVES: usize = 16;
const BACKUPS: [&str; 3] = ["agama", "orders", "wiki"];
const KEEPS: [&str; 4] = [
    r#"{ full = "2d", incremental = "1d" }"#,
    r#"{ full = "3d", incremental = "2d" }"#,
    r#"{ daily = 2, incremental = "1d" }"#,
    r#"{ last = 2, incremental = "1d" }"#,
];
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

#[test]
fn whatever_fails_nothing_good_is_lost_and_all_comes_right_once_faults_stop() {
    for_every_seed(SEEDS, |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Simulation::new(seed).run());
    });
}

/// The folder of a backup in a store.
type Folder = (StoreName, BackupName);

struct Simulation {
    random: Random,
    fleet: Fleet,
    declared: Declaration,
    controller: Option<Controller>,
    /// What was changed or lost behind the stores' backs, and what is there instead.
    tampered: BTreeMap<(StoreName, ObjectName), Option<Bytes>>,
    /// What the last status that saw the folder called damaged.
    damaged: BTreeMap<Folder, BTreeSet<ArtifactId>>,
    /// Manifests that were proved before, by their bytes and their signature's.
    proved: BTreeMap<(Bytes, Bytes), Option<Manifest>>,
    /// The true time.
    truth: ManualClock,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let fleet = Fleet::new(seed, now);
        let stores = 2 + random.below(2) as usize;
        let declared = Declaration { stores, backups: BTreeMap::new(), note: 0 };
        let truth = ManualClock::new(now);
        let (tampered, damaged, proved) = Default::default();
        let mut simulation =
            Self { random, fleet, declared, controller: None, tampered, damaged, proved, truth };
        simulation.declare("agama");
        for name in BACKUPS {
            simulation.change_data(name);
        }
        simulation.commit();
        simulation
    }

    async fn run(mut self) {
        self.pass(Crash::Never).await;
        for _ in 0..MOVES {
            let step = MINUTE * (10 + self.random.below(10 * 60) as i32);
            self.advance(step);
            self.disturb();
            let crash = self.crash();
            self.pass(crash).await;
        }
        self.converge().await;
    }

    fn advance(&mut self, by: SignedDuration) {
        self.fleet.advance(by);
        self.truth.set(self.truth.now() + by);
    }

    /// Something happens between two passes.
    fn disturb(&mut self) {
        let name = self.random.pick(&BACKUPS);
        self.change_data(name);
        match self.random.below(10) {
            0 => self.change_declaration(),
            1 => self.spoil(),
            2 => self.toggle_health(),
            3 => self.toggle_chances(),
            4 | 5 => self.tamper(),
            6 => self.jump(),
            7 => self.lose_state(),
            8 => self.toggle_source(),
            _ => {}
        }
    }

    fn declare(&mut self, name: &'static str) {
        let policy = (3 * (1 + self.random.below(3)), self.random.pick(&KEEPS));
        self.declared.backups.insert(name, policy);
    }

    fn change_declaration(&mut self) {
        let name = self.random.pick(&BACKUPS);
        match self.random.one_in(4) && self.declared.backups.len() > 1 {
            true => drop(self.declared.backups.remove(name)),
            false => self.declare(name),
        }
        self.commit();
    }

    fn commit(&mut self) {
        self.declared.note += 1;
        self.fleet.commit(&self.declared.text(&self.fleet.recipient));
    }

    fn spoil(&mut self) {
        self.declared.note += 1;
        self.fleet.commit(&self.declared.text(&self.fleet.recipient).replace("policy =", "polcy ="));
    }

    fn change_data(&mut self, name: &str) {
        let random = &mut self.random;
        let mut all = self.fleet.data.lock().unwrap();
        let data: &mut Data = all.entry(data_path(name)).or_default();
        let piece = |random: &mut Random| {
            let words = (0..100 + random.below(400)).map(|_| random.next().to_le_bytes());
            words.flatten().collect::<Vec<u8>>()
        };
        data.pieces.resize_with(4, Vec::new);
        for old in &mut data.pieces {
            if old.is_empty() || random.one_in(3) {
                *old = piece(random);
            }
        }
    }

    fn toggle_source(&mut self) {
        let name = self.random.pick(&BACKUPS);
        let after = self.random.below(4) as usize;
        let mut all = self.fleet.data.lock().unwrap();
        let data = all.entry(data_path(name)).or_default();
        data.fails_after = if data.fails_after.is_some() { None } else { Some(after) };
    }

    fn some_store(&mut self) -> StoreName {
        STORES[self.random.below(self.declared.stores as u64) as usize].parse().unwrap()
    }

    fn toggle_health(&mut self) {
        let store = self.some_store();
        let health = [Health::Well, Health::Away, Health::Gone, Health::Full, Health::ReadOnly];
        self.fleet.stores[&store].faults.set_health(self.random.pick(&health));
    }

    fn toggle_chances(&mut self) {
        let store = self.some_store();
        let few = Chances {
            fail: 0.03,
            lose_answer: 0.02,
            delay: 0.02,
            longest_delay: Duration::from_millis(2),
            // A store that spoils a record is refused until a person adopts it.
            ..Chances::default()
        };
        let chances = self.random.pick(&[few, few, Chances::default()]);
        self.fleet.stores[&store].faults.set_chances(chances);
    }

    /// Corrupts or loses one object of an artifact behind the store's back.
    fn tamper(&mut self) {
        let store = self.some_store();
        let memory = &self.fleet.stores[&store].memory;
        let of_artifacts = |name: &ObjectName| {
            BACKUPS.iter().any(|backup| {
                let folder = format!("pavroto/{backup}/");
                name.as_str().starts_with(&format!("{folder}artifacts/"))
                    || name.as_str().starts_with(&format!("{folder}packs/"))
            })
        };
        let names: Vec<ObjectName> = memory.names().into_iter().filter(of_artifacts).collect();
        if names.is_empty() {
            return;
        }
        let name = names[self.random.below(names.len() as u64) as usize].clone();
        let instead: Option<Bytes> =
            self.random.one_in(2).then(|| self.random.next().to_le_bytes().repeat(20).into());
        match &instead {
            None => memory.lose(&name),
            Some(bytes) => memory.overwrite(&name, bytes.clone()),
        }
        self.tampered.insert((store, name), instead);
    }

    /// A clock jumps by minutes, a day or up to a year, or is set right.
    fn jump(&mut self) {
        let clocks = self.fleet.clocks();
        let clock = &clocks[self.random.below(clocks.len() as u64) as usize];
        let far = self.random.pick(&[MINUTE, DAY, DAY * 365]);
        let by = SignedDuration::from_secs(self.random.below(far.as_secs() as u64) as i64);
        let by = self.random.pick(&[by, -by, SignedDuration::ZERO]);
        clock.set(self.truth.now() + by);
    }

    fn lose_state(&mut self) {
        self.controller = None;
        self.fleet.lose_state();
    }

    fn crash(&mut self) -> Crash {
        let random = &mut self.random;
        match random.below(4) {
            0 => Crash::AtCall(random.below(3) as usize, random.below(60)),
            1 => Crash::AtStep(1 + random.below(12)),
            _ => Crash::Never,
        }
    }

    /// One pass, perhaps cut off; and a look at what it leaves.
    async fn pass(&mut self, crash: Crash) -> Option<Pass> {
        let steps = self.random.pick(&[1, 4]);
        let controller = self.controller.take().unwrap_or_else(|| self.fleet.controller(steps));
        let before = self.committed().await;
        let ended = self.run_until(&controller, crash).await;
        if let Some(pass) = &ended {
            self.assert_told(pass);
            self.controller = (!self.random.one_in(4)).then_some(controller);
        }
        self.forget_what_was_mended().await;
        self.assert_safe(&before, ended.as_ref()).await;
        ended
    }

    /// Runs a pass to its end, or drops it where it is to be killed: whatever it is doing then, it never goes on.
    async fn run_until(&self, controller: &Controller, crash: Crash) -> Option<Pass> {
        let (halt, terms) = (Halt::default(), Terms::default());
        let countdown = Arc::new(Countdown::new(crash));
        let listener: Arc<dyn Listener> = countdown.clone();
        if let Crash::AtCall(store, calls) = crash {
            self.vault(store).stop_after(calls);
        }
        let stopped = async {
            match crash {
                Crash::AtCall(store, _) => self.vault(store).stopped().await,
                Crash::Never | Crash::AtStep(_) => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = controller.apply(&Ask::Everything, &terms, &halt, &listener) => Some(ended.unwrap()),
            () = stopped => None,
            () = countdown.over.notified() => None,
        };
        // Tasks that the dropped pass had spawned are gone after this.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.fleet.stores.values().for_each(|vault| vault.faults.resume());
        ended
    }

    fn vault(&self, number: usize) -> &backstay::stores::faulty::Faults {
        &self.fleet.stores[STORES[number % self.declared.stores]].faults
    }

    /// What was lost may have been copied again.
    async fn forget_what_was_mended(&mut self) {
        for ((store, name), instead) in std::mem::take(&mut self.tampered) {
            let now = self.fleet.stores[&store].memory.get(&name, None, u64::MAX).await.ok();
            if now == instead {
                self.tampered.insert((store, name), instead);
            }
        }
    }

    /// No failure is one of our own making, and what status calls good is there.
    fn assert_told(&mut self, pass: &Pass) {
        for (step, failure) in pass.failures() {
            assert!(!failure.message.contains("report this"), "{}: {}", step.action, failure.message);
        }
        for (backup, status) in &pass.status.backups {
            for (store, stored) in &status.stores {
                if stored.unknown.is_none() {
                    let damaged = stored.damaged.iter().copied().collect();
                    self.damaged.insert((store.clone(), backup.clone()), damaged);
                }
            }
        }
    }

    /// What each store really holds: every artifact with a manifest, by folder.
    async fn committed(&mut self) -> BTreeMap<Folder, BTreeMap<ArtifactId, Option<Manifest>>> {
        let mut found: BTreeMap<Folder, BTreeMap<ArtifactId, Option<Manifest>>> = BTreeMap::new();
        let stores: Vec<(StoreName, MemoryStore)> =
            self.fleet.stores.iter().map(|(name, vault)| (name.clone(), vault.memory.clone())).collect();
        for (store, memory) in &stores {
            for name in memory.names() {
                let Some((backup, id)) = artifact_of(&name) else { continue };
                let folder = self.folder(store, &backup);
                let get = async |name| memory.get(&name, None, u64::MAX).await.unwrap_or_default();
                let bytes = (get(folder.manifest(id)).await, get(folder.signature(id)).await);
                if !self.proved.contains_key(&bytes) {
                    let read = committed::read(&folder, id, &self.fleet.keys).await;
                    self.proved.insert(bytes.clone(), read.ok().map(|read| read.manifest));
                }
                let artifacts = found.entry((store.clone(), backup)).or_default();
                artifacts.insert(id, self.proved[&bytes].clone());
            }
        }
        found
    }

    fn folder(&self, store: &StoreName, backup: &BackupName) -> BackupFolder {
        BackupFolder {
            name: store.clone(),
            store: Arc::new(self.fleet.stores[store].memory.clone()) as Arc<dyn Store>,
            fleet: "pavroto".parse().unwrap(),
            backup: backup.clone(),
        }
    }

    /// What may never happen, whatever failed.
    async fn assert_safe(
        &mut self,
        before: &BTreeMap<Folder, BTreeMap<ArtifactId, Option<Manifest>>>,
        ended: Option<&Pass>,
    ) {
        let after = self.committed().await;
        let none = BTreeMap::new();
        for (folder, artifacts) in before {
            let left = after.get(folder).unwrap_or(&none);
            let gone: Vec<ArtifactId> = artifacts
                .iter()
                .filter(|(id, manifest)| manifest.is_some() && !left.contains_key(id))
                // A repair takes the place of what it repairs.
                .filter(|(id, _)| !left.values().flatten().any(|other| other.supersedes == Some(**id)))
                .map(|(id, _)| *id)
                .collect();
            if !gone.is_empty() {
                self.assert_allowed(folder, artifacts, left, &gone);
            }
        }
        for (folder, artifacts) in &after {
            self.assert_restorable(folder, artifacts, ended).await;
        }
    }

    fn assert_allowed(
        &self,
        (store, backup): &Folder,
        before: &BTreeMap<ArtifactId, Option<Manifest>>,
        left: &BTreeMap<ArtifactId, Option<Manifest>>,
        gone: &[ArtifactId],
    ) {
        let what = format!("{gone:?} of {:?} of {backup} in {store} went", before.keys());
        assert!(backup.is_infra() || self.is_declared(backup), "{what} with the declaration");
        let apart = |clock: &Arc<ManualClock>| clock.now().duration_since(self.fleet.clock.now()).abs();
        let stores = STORES[..self.declared.stores].iter().map(|name| &self.fleet.stores[*name]);
        assert!(stores.clone().all(|vault| apart(&vault.clock) <= MINUTE * 10), "{what} while clocks differ");
        assert!(gone.len() <= 1.max((before.len() + left.len()) / 2), "{what} at once");
        let damaged = self.damaged.get(&(store.clone(), backup.clone()));
        let good = |id: &ArtifactId| damaged.is_none_or(|damaged| !damaged.contains(id));
        let moment = |manifest: &Option<Manifest>| manifest.as_ref().map(|m| m.moment.newest());
        let newest_left =
            left.iter().filter(|(id, _)| good(id)).filter_map(|(_, manifest)| moment(manifest)).max();
        for id in gone.iter().filter(|id| good(id)) {
            assert!(moment(&before[id]) <= newest_left, "{what}, and it was the newest good one");
        }
        for (id, manifest) in left {
            let requires = manifest.iter().flat_map(|manifest| &manifest.requires);
            assert!(
                requires.clone().all(|required| !gone.contains(required)),
                "{what}, and {id} requires it"
            );
        }
    }

    fn is_declared(&self, backup: &BackupName) -> bool {
        self.declared.backups.contains_key(backup.as_str())
    }

    /// The newest artifact that nobody tampered with can be restored, and is what the source had.
    async fn assert_restorable(
        &self,
        (store, backup): &Folder,
        artifacts: &BTreeMap<ArtifactId, Option<Manifest>>,
        ended: Option<&Pass>,
    ) {
        let folder = self.folder(store, backup);
        let whole = artifacts.values().flatten().filter(|manifest| !self.is_tampered(&folder, manifest));
        let Some(newest) = whole.max_by_key(|manifest| (manifest.moment.newest(), manifest.artifact)) else {
            return;
        };
        let source = self.fleet.source(backup.as_str());
        let progress: Arc<dyn Progress> = Arc::new(Unseen);
        let place = Place::Original;
        let restored =
            restore(std::slice::from_ref(newest), &folder, &source, &place, &self.fleet.keys, &progress)
                .await;
        assert!(restored.is_ok(), "{} of {backup} in {store}: {restored:?}; {ended:#?}", newest.artifact);
        let bytes = source.restored().unwrap();
        let had = backup.is_infra() || source.had(newest.moment.newest(), &bytes);
        assert!(had, "{} of {backup} in {store} is not what the source had", newest.artifact);
    }

    fn is_tampered(&self, folder: &BackupFolder, manifest: &Manifest) -> bool {
        let Content::Segments(segments) = &manifest.content else { return false };
        let id = manifest.artifact;
        let packs = segments.packs.keys().map(|pack| folder.pack(*pack));
        let mut names = packs.chain([folder.index(id), folder.manifest(id), folder.signature(id)]);
        names.any(|name| self.tampered.contains_key(&(folder.name.clone(), name)))
    }

    /// Faults stop, clocks are set right, somebody corrects the declaration: days later all is as declared.
    async fn converge(&mut self) {
        for vault in self.fleet.stores.values() {
            vault.faults.set_health(Health::Well);
            vault.faults.set_chances(Chances::default());
        }
        self.fleet.data.lock().unwrap().values_mut().for_each(|data| data.fails_after = None);
        for clock in self.fleet.clocks() {
            clock.set(self.truth.now());
        }
        self.commit();
        for _ in 0..8 {
            self.advance(HOUR * 12);
            self.pass(Crash::Never).await;
        }
        let mut left = Vec::new();
        for _ in 0..6 {
            let pass = self.pass(Crash::Never).await.unwrap();
            left = pass.plan.steps;
            if left.is_empty() {
                return self.assert_converged(&pass.status).await;
            }
        }
        panic!("still to do: {left:#?}");
    }

    async fn assert_converged(&mut self, status: &backstay::status::Status) {
        let found = self.committed().await;
        let infra = "infra".parse().unwrap();
        let declared = self.declared.backups.keys().map(|name| name.parse::<BackupName>().unwrap());
        for backup in declared.chain([infra]) {
            for store in &STORES[..self.declared.stores] {
                let store: StoreName = store.parse().unwrap();
                let folder = self.folder(&store, &backup);
                let artifacts = found.get(&(store.clone(), backup.clone()));
                let artifacts =
                    artifacts.unwrap_or_else(|| panic!("nothing of {backup} in {store}: {status:#?}"));
                let newest = artifacts.values().flatten().max_by_key(|m| (m.moment.newest(), m.artifact));
                let newest = newest.unwrap_or_else(|| panic!("no artifact of {backup} in {store}"));
                assert!(!self.is_tampered(&folder, newest), "the newest of {backup} in {store} is damaged");
                let age = self.truth.now().duration_since(newest.moment.newest());
                assert!(backup.is_infra() || age <= DAY, "{backup} in {store} is {age} old: {status:#?}");
            }
        }
        assert_eq!(status.pending, 0);
        assert_eq!(self.fleet.interrupted(), []);
        assert_eq!(status.revisions.refused, None);
    }
}

/// The artifact whose manifest has this name.
fn artifact_of(name: &ObjectName) -> Option<(BackupName, ArtifactId)> {
    let fleet = "pavroto".parse().unwrap();
    match layout::classify(&fleet, name)? {
        layout::Object::Manifest(backup, id) => Some((backup, id)),
        _ => None,
    }
}

/// Where a pass is cut off.
#[derive(Clone, Copy, Debug)]
enum Crash {
    Never,
    /// In the so-manieth call to one of the stores.
    AtCall(usize, u64),
    /// When so many steps have begun or ended.
    AtStep(u64),
}

/// Counts what a pass does, and tells when it is to be killed.
struct Countdown {
    left: AtomicU64,
    over: Notify,
}

impl Countdown {
    fn new(crash: Crash) -> Self {
        let left = match crash {
            Crash::AtStep(steps) => steps,
            Crash::Never | Crash::AtCall(..) => 0,
        };
        Self { left: AtomicU64::new(left), over: Notify::new() }
    }

    fn count(&self) {
        let counted = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if counted == Ok(1) {
            self.over.notify_one();
        }
    }
}

impl Listener for Countdown {
    fn started(&self, _: &Step) {
        self.count();
    }
    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}
    fn ended(&self, _: &Step, _: &Outcome) {
        self.count();
    }
}
