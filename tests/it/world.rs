//! A world in values: a fleet's declaration, what its stores really hold, and what applying a plan does to them.
//! Nothing here reads a clock, a disk or a network.
#![allow(dead_code)] // The tests and the benchmark each use a part.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use backstay::{
    artifact::{
        ArtifactId, Depth, Kind,
        drill::{DrillOutcome, Drilled},
        recovered::{Recovered, RecoveredOutcome},
    },
    inventory::{
        Condition, InfraInventory, Interrupted, Inventory, Lease, LogSeen, Machine, Made, Observed, Origin,
        ProvidedSeen, RestorePage, Running, Standing, StoreInventory, StoreRules, StoredArtifact,
        StoredBackup, Verified, Work,
    },
    plan::{
        self, Action, Limits, Plan,
        action::{self, Capture},
    },
    spec::{
        Accounts, Backup, Cadence, CatchUp, Files, Fleet, Infra, Policy, Retention, SelfHeal, Source, Spec,
        Store, StorePlace, Verify, Window,
        names::{BackupName, FolderName, StoreName, VmName},
    },
};
use jiff::{Timestamp, tz::TimeZone};

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn t(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn backup(name: &str) -> BackupName {
    name.parse().unwrap()
}

pub fn folder(name: &str) -> FolderName {
    name.parse().unwrap()
}

pub fn store(name: &str) -> StoreName {
    name.parse().unwrap()
}

/// Hours before `now`.
pub fn ago(now: Timestamp, hours: u64) -> Timestamp {
    now - Duration::from_secs(hours * 3600)
}

/// A fleet without stores and backups.
pub fn spec() -> Spec {
    Spec::of(Fleet { name: "pavroto".parse().unwrap(), time_zone: TimeZone::UTC, recipients: Vec::new() })
}

pub fn local_store(name: &str) -> Store {
    Store {
        name: store(name),
        location: None,
        capacity: None,
        immutable: None,
        budget: None,
        recipients: None,
        self_heal: SelfHeal::On,
        place: StorePlace::Local { path: PathBuf::from("/srv").join(name) },
    }
}

/// A full every day at 01:00, kept two weeks; checked every day.
pub fn nightly() -> Policy {
    Policy {
        name: "nightly".parse().unwrap(),
        rpo: Some(DAY),
        rto: None,
        grace: HOUR,
        schedules: BTreeMap::from([(Kind::Full, cron("0 1 * * *"))]),
        catch_up: CatchUp::Once,
        jitter: Duration::ZERO,
        window: Window::default(),
        keep: Retention { full: Some(14 * DAY), incremental: Some(7 * DAY), ..Retention::default() },
        verify: Verify { metadata: Some(DAY), ..Verify::default() },
    }
}

/// As [`nightly`], and an incremental every hour.
pub fn hourly() -> Policy {
    let mut policy = nightly();
    policy.schedules.insert(Kind::Incremental, Cadence::Every(HOUR));
    policy
}

pub fn cron(text: &str) -> Cadence {
    Cadence::Cron(text.parse().unwrap())
}

/// A good scheduled artifact, checked when it was made, that stands alone and fills the slot of its own moment.
pub fn artifact(kind: Kind, at: Timestamp, random: u64) -> StoredArtifact {
    let id = ArtifactId::new(at, random);
    StoredArtifact {
        id,
        kind,
        slot: Some(at),
        origin: Origin::Scheduled,
        base: None,
        epoch: id,
        requires: Vec::new(),
        supersedes: None,
        newest: at,
        position: None,
        log: None,
        bytes: 1000,
        length: 4096,
        native: None,
        condition: Condition::Good,
        verified: Verified { metadata: Some(at), ..Verified::default() },
        held: None,
    }
}

pub fn damaged() -> Condition {
    Condition::Damaged("pack 0 is missing".into())
}

/// Everything that there is.
#[derive(Clone, Debug)]
pub struct World {
    pub spec: Spec,
    pub limits: Limits,
    /// The controller's clock.
    pub now: Timestamp,
    /// How far it is ahead of the stores' clocks, seconds.
    pub ahead: i64,
    /// What the stores really hold.
    pub stores: BTreeMap<StoreName, StoreInventory>,
    /// Stores that can't be reached.
    pub down: BTreeSet<StoreName>,
    pub armed: BTreeSet<backstay::inventory::ArmedSchedule>,
    /// The position of the infra repo, and of each mirror.
    pub position: String,
    pub mirrors: BTreeMap<String, Observed<String>>,
    /// Mirrors that somebody else moved, and how.
    pub moved: BTreeMap<String, String>,
    pub interrupted: Vec<Interrupted>,
    /// What the host remembers of what Backstay made.
    pub made: Made,
    pub kept_logs: BTreeMap<BackupName, LogSeen>,
    /// What providers keep by themselves.
    pub provided: BTreeMap<BackupName, ProvidedSeen>,
    /// How the machines stand.
    pub machines: BTreeMap<VmName, Observed<Machine>>,
    captures: u64,
}

impl World {
    /// A fleet with these stores, all empty, at noon on 20 November 2026.
    pub fn new(stores: &[&str]) -> Self {
        let now = t("2026-11-20T12:00:00Z");
        let mut world = Self {
            spec: spec(),
            limits: Limits::new("c0ffee"),
            now,
            ahead: 0,
            stores: BTreeMap::new(),
            down: BTreeSet::new(),
            armed: BTreeSet::new(),
            position: "p0".to_owned(),
            mirrors: BTreeMap::new(),
            moved: BTreeMap::new(),
            interrupted: Vec::new(),
            made: Made::default(),
            kept_logs: BTreeMap::new(),
            provided: BTreeMap::new(),
            machines: BTreeMap::new(),
            captures: 0,
        };
        for name in stores {
            world.spec.stores.insert(store(name), local_store(name));
            let empty = StoreInventory {
                clock: now,
                standing: Standing::Ours,
                records: Default::default(),
                rules: Observed::Known(StoreRules::default()),
                restore_page: RestorePage::There,
                backups: BTreeMap::new(),
                bytes: 0,
            };
            world.stores.insert(store(name), empty);
        }
        world
    }

    /// Declares a backup in every store, in the order of their names.
    pub fn declare(mut self, name: &str, policy: Policy) -> Self {
        let source = Source::Files(Files { paths: vec![PathBuf::from("/srv/data")], exclude: Vec::new() });
        let declared = Backup {
            name: backup(name),
            description: None,
            source,
            policy,
            stores: self.spec.stores.keys().cloned().collect(),
            keep_in: BTreeMap::new(),
            contact: None,
            self_heal: SelfHeal::On,
            accounts: Accounts::Undeclared,
        };
        self.spec.backups.insert(backup(name), declared);
        self
    }

    /// Declares the infra repo's own backup in every store.
    pub fn declare_infra(mut self, mirrors: &[&str]) -> Self {
        self.spec.infra = Some(Infra {
            stores: self.spec.stores.keys().cloned().collect(),
            mirrors: mirrors.iter().map(|m| (*m).to_owned()).collect(),
            keep: Retention { daily: Some(30), last: Some(100), ..Retention::default() },
            keep_in: BTreeMap::new(),
            self_heal: SelfHeal::On,
        });
        self
    }

    /// Puts an artifact into stores.
    pub fn put(&mut self, stores: &[&str], name: &str, artifact: &StoredArtifact) {
        for at in stores {
            self.stored(at, name).artifacts.push(artifact.clone());
        }
    }

    pub fn stored(&mut self, at: &str, name: &str) -> &mut StoredBackup {
        self.stores.get_mut(at).unwrap().backups.entry(self.spec.moved.folder(&backup(name))).or_default()
    }

    pub fn artifact_mut(&mut self, at: &str, name: &str, id: ArtifactId) -> &mut StoredArtifact {
        self.stored(at, name).artifacts.iter_mut().find(|a| a.id == id).unwrap()
    }

    /// What an observation finds.
    pub fn inventory(&self) -> Inventory {
        let clock = self.now - jiff::SignedDuration::from_secs(self.ahead);
        let look = |(name, store): (&StoreName, &StoreInventory)| {
            let seen = match self.down.contains(name) {
                true => Observed::Unknown("connection refused".to_owned()),
                false => Observed::Known(StoreInventory { clock, ..recent(store, clock) }),
            };
            (name.clone(), seen)
        };
        let infra = InfraInventory {
            position: self.position.clone(),
            mirrors: self.mirrors.clone(),
            tips: BTreeMap::new(),
            moved: self.moved.clone(),
        };
        Inventory {
            stores: self.stores.iter().map(look).collect(),
            armed: Observed::Known(self.armed.clone().into()),
            infra: self.spec.infra.is_some().then_some(infra),
            interrupted: self.interrupted.clone(),
            made: self.made.clone(),
            kept_logs: self.kept_logs.clone(),
            provided: self.provided.clone(),
            readers: BTreeMap::new(),
            machines: self.machines.clone(),
            left_behind: Vec::new(),
            previews_left: Vec::new(),
            stand_ins: BTreeMap::new(),
        }
    }

    /// What a pass would do, before it is judged.
    pub fn unjudged(&self) -> Plan {
        plan::plan(&self.spec, &self.inventory(), &self.limits, self.now)
    }

    /// What a pass would do.
    pub fn plan(&self) -> Plan {
        self.judge(self.unjudged())
    }

    pub fn judge(&self, plan: Plan) -> Plan {
        plan::check::check(plan, &self.spec, &self.inventory(), &self.limits, self.now).unwrap()
    }

    /// Does everything that a plan says, as the executor would.
    pub fn apply(&mut self, plan: &Plan) {
        for step in &plan.steps {
            self.act(&step.action);
        }
    }

    /// Passes until there is nothing left to do, and at most `passes` of them. Time stands still.
    pub fn settle(&mut self, passes: usize) {
        for _ in 0..passes {
            let plan = self.plan();
            if plan.steps.is_empty() {
                return;
            }
            self.apply(&plan);
        }
        panic!("still something to do: {:#?}", self.plan().steps);
    }

    pub fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    /// Does one step.
    pub fn act(&mut self, action: &Action) {
        let now = self.now;
        match action {
            Action::Arm(schedule) => self.armed.extend([schedule.clone()]),
            Action::Disarm(schedule) => self.armed.retain(|armed| armed != schedule),
            Action::Capture(capture) => self.capture(capture),
            Action::Copy { backup, artifact, from, to } => {
                let found =
                    self.stores[from].of(backup, &self.spec.moved).unwrap().artifact(*artifact).unwrap();
                let copy = StoredArtifact { verified: Verified::default(), held: None, ..found.clone() };
                self.stored(to.as_str(), backup.as_str()).artifacts.push(copy);
            }
            Action::Delete { backup, artifact, store } => {
                let stored = self.stored(store.as_str(), backup.as_str());
                stored.artifacts.retain(|a| a.id != *artifact);
                stored.deletions.push(now);
            }
            Action::Verify { backup, artifact, store, depth } => {
                let verified = &mut self.artifact_mut(store.as_str(), backup.as_str(), *artifact).verified;
                match depth {
                    Depth::Metadata => verified.metadata = Some(now),
                    Depth::Data => verified.data = Some(now),
                    Depth::Plaintext => verified.plaintext = Some(now),
                }
            }
            Action::Repair { backup, artifact, store, from } => {
                let good = self.stores[from]
                    .of(backup, &self.spec.moved)
                    .unwrap()
                    .artifact(*artifact)
                    .unwrap()
                    .clone();
                let id = self.new_id();
                let repaired = StoredArtifact {
                    id,
                    supersedes: Some(*artifact),
                    verified: Verified::default(),
                    condition: Condition::Good,
                    epoch: if good.kind == Kind::Full { id } else { good.epoch },
                    ..good
                };
                self.stored(store.as_str(), backup.as_str()).artifacts.push(repaired);
            }
            Action::RecordUnreferenced { backup, store, captures } => {
                let stored = self.stored(store.as_str(), backup.as_str());
                stored.candidates.extend(captures.iter().map(|id| (*id, now)));
            }
            Action::Sweep { backup, store, captures } => {
                let stored = self.stored(store.as_str(), backup.as_str());
                for id in captures {
                    stored.candidates.remove(id);
                    stored.unreferenced.remove(id);
                }
            }
            Action::CleanUp { backup, store, artifact } => {
                let stored = self.stored(store.as_str(), backup.as_str());
                stored.unreferenced.remove(artifact);
                stored.leases.remove(artifact);
                self.interrupted.retain(|i| i.artifact != *artifact || i.store != *store);
            }
            Action::DeleteDrillCopy { store, artifact, .. } => {
                self.interrupted.retain(|i| i.artifact != *artifact || i.store != *store);
            }
            Action::Settle { backup, store, artifact } => {
                self.stored(store.as_str(), backup.as_str()).leases.remove(artifact);
                self.interrupted.retain(|i| i.artifact != *artifact || i.store != *store);
            }
            Action::Push { mirror } => {
                self.moved.remove(mirror);
                self.mirrors.insert(mirror.clone(), Observed::Known(self.position.clone()));
            }
            Action::Protect(protect) => {
                let seen = self.provided.get_mut(&protect.backup).unwrap();
                let Observed::Known(provided) = &mut seen.found else { panic!("it is set unseen") };
                if let Some(point_in_time) = protect.to.point_in_time {
                    provided.settings.point_in_time = point_in_time;
                }
                if protect.to.backup_window.is_some() {
                    provided.settings.backup_window.clone_from(&protect.to.backup_window);
                }
                if protect.to.snapshots.is_some() {
                    provided.settings.snapshots.clone_from(&protect.to.snapshots);
                }
                if protect.to.snapshot_time.is_some() {
                    provided.settings.snapshot_time = protect.to.snapshot_time;
                }
            }
            Action::Rewind { .. } | Action::Restore(_) => {}
            Action::Recover(recover) => self.recovered(recover, RecoveredOutcome::Done),
            Action::Rehearse(_) | Action::ClearAway { .. } | Action::ClearPreviews { .. } => {
                panic!("no drill of a recovery is planned here")
            }
            Action::Drill(drill) => {
                let drilled = self.drilled(drill, DrillOutcome::Passed);
                self.stores.get_mut(&drill.store).unwrap().records.add_drilled(&drilled);
            }
        }
    }

    /// Does a part of a recovery, or fails to; the records tell of it.
    pub fn recovered(&mut self, recover: &action::Recover, outcome: RecoveredOutcome) {
        let recovered = Recovered {
            subject: recover.subject.clone(),
            run: recover.run,
            parts: recover.parts,
            attempt: recover.attempt,
            left: recover.left,
            id: recover.id(),
            step: recover.digest.clone(),
            place: recover.work.made().map(|vm| (vm.clone(), self.spec.vms[vm].provision.place())),
            of: match &recover.work {
                action::Work::Renew(renew) => renew.from.made_of(),
                _ => None,
            },
            terms: recover.terms.clone(),
            began: self.now,
            milliseconds: 1000,
            outcome,
        };
        for store in self.stores.values_mut() {
            store.records.add_recovered(&recovered);
        }
        let machine = match (&recover.work, outcome) {
            (action::Work::Remove { vm, .. }, RecoveredOutcome::Done) => (vm, Machine::Gone),
            (action::Work::Provision(vm), RecoveredOutcome::Done) => {
                (vm, Machine::Running(Running::default()))
            }
            (action::Work::Provision(vm), RecoveredOutcome::Failed) => {
                (vm, Machine::Broken { why: "it is half made".to_owned() })
            }
            _ => return,
        };
        self.machines.insert(machine.0.clone(), Observed::Known(machine.1));
    }

    /// What the records tell of a drill that ends now.
    pub fn drilled(&self, drill: &action::Drill, outcome: DrillOutcome) -> Drilled {
        Drilled {
            drill: drill.drill.clone(),
            slot: drill.slot,
            began: self.now,
            backup: self.spec.moved.folder(&drill.backup),
            artifact: *drill.artifacts.last().unwrap(),
            logs: drill.logs.len(),
            store: drill.store.clone(),
            point: drill.point,
            outcome,
            stages: Vec::new(),
            checks: Vec::new(),
            rpo_seconds: None,
            rto_seconds: None,
            bytes: 0,
            isolation: None,
            sealed: None,
        }
    }

    /// What a capture leaves behind when it is killed before its manifest.
    pub fn begin(&mut self, capture: &Capture) -> ArtifactId {
        let (id, until) = (self.new_id(), self.now + HOUR);
        let stored = self.stored(capture.store.as_str(), capture.backup.as_str());
        let epoch = capture.base.and_then(|base| stored.artifact(base)).map_or(id, |base| base.epoch);
        stored.unreferenced.insert(id, 500);
        stored.leases.insert(id, Lease { epoch, until, controller: "ours".to_owned() });
        let (backup, store) = (self.spec.moved.folder(&capture.backup), capture.store.clone());
        self.interrupted.push(Interrupted { backup, store, artifact: id, work: Work::Capture, copy: None });
        id
    }

    fn capture(&mut self, capture: &Capture) {
        let id = self.new_id();
        let (now, position) = (self.now, self.position.clone());
        let infra = capture.backup.is_infra();
        let stored = self.stored(capture.store.as_str(), capture.backup.as_str());
        let base = capture.base.and_then(|base| stored.artifact(base).cloned());
        stored.artifacts.push(StoredArtifact {
            id,
            slot: capture.slot,
            origin: if capture.manual.is_some() { Origin::Manual } else { Origin::Scheduled },
            base: capture.base,
            epoch: base.as_ref().map_or(id, |base| base.epoch),
            requires: capture.base.filter(|_| infra).into_iter().collect(),
            position: infra.then(|| position.into()),
            verified: Verified { metadata: Some(now), ..Verified::default() },
            ..artifact(capture.kind, now, 0)
        });
    }

    fn new_id(&mut self) -> ArtifactId {
        self.captures += 1;
        // Odd, so that no two captures share a name, and large, so that their shares are spread.
        ArtifactId::new(self.now, self.captures.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// The records show the deletions of the last day.
fn recent(store: &StoreInventory, clock: Timestamp) -> StoreInventory {
    let mut seen = store.clone();
    for stored in seen.backups.values_mut() {
        stored.deletions.retain(|at| *at + DAY > clock);
        stored.artifacts.sort_by_key(|a| a.id);
    }
    seen
}

/// The steps of a plan in short: `full agama a`, `copy agama b`, in order.
pub fn steps(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| brief(&step.action)).collect()
}

pub fn brief(action: &Action) -> String {
    match action {
        Action::Arm(s) => format!("arm {} {}", s.kind, s.backup),
        Action::Disarm(s) => format!("disarm {} {}", s.kind, s.backup),
        Action::Capture(c) => format!("{} {} {}", c.kind, c.backup, c.store),
        Action::Copy { backup, to, .. } => format!("copy {backup} {to}"),
        Action::Delete { backup, store, .. } => format!("delete {backup} {store}"),
        Action::Verify { backup, store, depth, .. } => format!("verify {backup} {store} {depth}"),
        Action::Repair { backup, store, .. } => format!("repair {backup} {store}"),
        Action::RecordUnreferenced { backup, store, .. } => format!("record {backup} {store}"),
        Action::Sweep { backup, store, .. } => format!("sweep {backup} {store}"),
        Action::CleanUp { backup, store, .. } => format!("clean-up {backup} {store}"),
        Action::DeleteDrillCopy { drill, store, .. } => format!("delete-copy {drill} {store}"),
        Action::Settle { backup, store, .. } => format!("settle {backup} {store}"),
        Action::Push { mirror } => format!("push {mirror}"),
        Action::Protect(p) => format!("protect {}", p.backup),
        Action::Rewind { backup, .. } => format!("rewind {backup}"),
        Action::Restore(r) => format!("restore {} {}", r.backup, r.store),
        Action::Drill(d) => format!("drill {} {}", d.drill, d.store),
        Action::Rehearse(_) | Action::ClearAway { .. } | Action::ClearPreviews { .. } => action.to_string(),
        Action::Recover(recover) => match &recover.work {
            action::Work::Restore { restore, .. } => format!("restore {}", restore.backup),
            work => work.to_string(),
        },
    }
}
