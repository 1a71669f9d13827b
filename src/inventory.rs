//! The actual state: what was observed, and what could not be.

mod chronicle;
mod drills;
mod kept_log;
mod lineage;
mod log_reader;
mod machines;
mod made;
mod previews;
mod provided;
mod recoveries;
mod rehearsals;
mod renewal;
mod rules;
mod sandbox_copy;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    artifact::{
        ArtifactId, Depth, Kind,
        approval::{PlanApproval, PlanHash},
        manifest::Edge,
        until::NamedPoint,
    },
    spec::{
        Cadence, Moves, Spec, Suspension,
        names::{BackupName, DrillName, FolderName, StoreName, VmName},
        suspension::Scope,
    },
};

pub use chronicle::{Chronicle, Healed, InForce, Ruling};
pub use drills::DrillHistory;
pub use kept_log::{KeptLog, LogRisk, LogSeen, WalStatus};
pub use lineage::lineage;
pub use log_reader::{LogReader, ReaderState};
pub use machines::{Machine, MachineAddress, Running};
pub use made::{Made, MirrorMade, StoreMade};
pub use previews::{NoMark, PreviewLeft, PreviewMark};
pub use provided::{
    Inferred, Named, Native, NativeName, NativePrefix, NativeReference, NativeState, Provided, ProvidedSeen,
    ProviderSettings,
};
pub use recoveries::{RecoveryHistory, RecoveryRun};
pub use rehearsals::RehearsalHistory;
pub use renewal::{RECOVERY_TAG, Renewal};
pub use rules::{DefaultLock, LockMode, StoreRules, Versioning};
pub use sandbox_copy::{CopyLeft, CopyStanding, DRILL_TAG, SandboxCopy};
pub use windows::{Stretch, Window, logged_everywhere, stretches, windows};

/// Something that was looked at. What could not be seen is unknown, never absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observed<T> {
    /// As it was found.
    Known(T),
    /// Why it could not be seen.
    Unknown(String),
}

impl<T> Observed<T> {
    /// What was found, if anything could be seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Observed::Known(found) => Some(found),
            Observed::Unknown(_) => None,
        }
    }

    /// The same, by reference.
    pub fn as_ref(&self) -> Observed<&T> {
        match self {
            Observed::Known(found) => Observed::Known(found),
            Observed::Unknown(why) => Observed::Unknown(why.clone()),
        }
    }

    /// What follows from what was found.
    pub fn map<U>(self, follows: impl FnOnce(T) -> U) -> Observed<U> {
        match self {
            Observed::Known(found) => Observed::Known(follows(found)),
            Observed::Unknown(why) => Observed::Unknown(why),
        }
    }
}

impl<T> Default for Observed<T> {
    /// Nothing was looked at yet.
    fn default() -> Self {
        Observed::Unknown("it was not looked at yet".to_owned())
    }
}

/// The actual state of a fleet.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Every declared store.
    pub stores: BTreeMap<StoreName, Observed<StoreInventory>>,
    /// What the scheduler holds.
    pub armed: Observed<Armed>,
    /// The infra repo as mirrored; `None` when the fleet has no `[infra]`.
    pub infra: Option<InfraInventory>,
    /// Captures and copies that an earlier pass began and never ended, from the journal.
    pub interrupted: Vec<Interrupted>,
    /// What Backstay made and how it left it, as far as this host remembers.
    pub made: Made,
    /// What servers keep of their logs until that is captured.
    pub kept_logs: BTreeMap<BackupName, LogSeen>,
    /// How the readers of logs are that run on this host, or did, by the folders of their backups.
    pub readers: BTreeMap<FolderName, LogReader>,
    /// What providers keep by themselves of the data that they host.
    pub provided: BTreeMap<BackupName, ProvidedSeen>,
    /// Every declared machine.
    pub machines: BTreeMap<VmName, Observed<Machine>>,
    /// The machines that the drills of recoveries make, by the names of the declared ones: there is none unless one is under way.
    pub stand_ins: BTreeMap<DrillName, BTreeMap<VmName, Observed<Machine>>>,
    /// What drills left behind, as this host remembers.
    pub left_behind: Vec<LeftBehind>,
    /// Previews that were cut off, as this host remembers.
    pub previews_left: Vec<PreviewLeft>,
}

/// Machines that a drill made and did not remove, whatever is declared by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// The drill.
    pub drill: DrillName,
    /// The commit that declares them.
    pub revision: String,
    /// The machines, by the names of the declared ones.
    pub vms: Vec<VmName>,
}

impl Inventory {
    /// What stands still, now, later or once: by the declaration, and by a person's word.
    pub fn suspensions(&self, spec: &Spec) -> Vec<Suspension> {
        spec.suspensions.values().cloned().chain(self.recorded_suspensions(&spec.moved)).collect()
    }

    /// Every plan that a person approved on a host, as the records of the stores tell that can be believed.
    pub fn plan_approvals(&self) -> impl Iterator<Item = &PlanApproval> {
        let stores = self.stores.values().filter_map(Observed::known);
        let believed = stores.filter(|store| store.standing == Standing::Ours);
        believed.flat_map(|store| store.records.plan_approvals())
    }

    /// What a person's word suspended, of which no store knows a newer one.
    pub fn recorded_suspensions(&self, moved: &Moves) -> Vec<Suspension> {
        let mut recorded: BTreeMap<&Scope, &Ruling> = BTreeMap::new();
        for store in self.stores.values().filter_map(Observed::known) {
            for (scope, ruling) in store.records.rulings() {
                let newest = recorded.entry(scope).or_insert(ruling);
                if ruling.at > newest.at {
                    *newest = ruling;
                }
            }
        }
        let suspensions = recorded.into_values().filter_map(|ruling| ruling.suspension.clone());
        suspensions.map(|suspension| moved.as_declared(suspension)).collect()
    }
}

/// What one store holds of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInventory {
    /// The store's own clock when it was observed.
    pub clock: Timestamp,
    /// Whether what it holds may be believed and added to.
    pub standing: Standing,
    /// What its trusted records tell of its past.
    pub records: Chronicle,
    /// What of its own rules bears on what lies there.
    pub rules: Observed<StoreRules>,
    /// Whether the page that tells how to restore without Backstay lies in it.
    pub restore_page: RestorePage,
    /// Every backup found, declared or not, by its folder.
    pub backups: BTreeMap<FolderName, StoredBackup>,
    /// Bytes of everything in the fleet's folder.
    pub bytes: u64,
}

impl StoreInventory {
    /// What is found of a backup.
    pub fn of(&self, backup: &BackupName, moved: &Moves) -> Option<&StoredBackup> {
        self.backups.get(moved.folder_as_text(backup))
    }
}

/// Whether a store carries the page that tells how to restore without Backstay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestorePage {
    /// It does.
    There,
    /// It is still to be put.
    #[default]
    Missing,
}

/// Whether a store's content may be believed and added to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Holds nothing of the fleet yet.
    Empty,
    /// Signed by a trusted key, its chain of records whole.
    Ours,
    /// Holds things that no trusted key signed, or an older chain than other stores show; nothing is written into it
    /// or deleted from it until it is adopted.
    Refused(String),
}

/// What one store holds of one backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBackup {
    /// Committed artifacts with a trusted signature, oldest first.
    pub artifacts: Vec<StoredArtifact>,
    /// Manifests that could not be read or trusted, and why: while there are any, nothing of this backup is deleted.
    pub unreadable: BTreeMap<ArtifactId, String>,
    /// Captures, copies and repairs under way here, by their leases.
    pub leases: BTreeMap<ArtifactId, Lease>,
    /// Restores and checks under way here, by their leases.
    pub readings: BTreeMap<ArtifactId, Reading>,
    /// Captures whose packs no manifest names, with their bytes.
    pub unreferenced: BTreeMap<ArtifactId, u64>,
    /// When an earlier complete listing recorded a capture's packs as unreferenced, by the store's records.
    pub candidates: BTreeMap<ArtifactId, Timestamp>,
    /// When artifacts were deleted here, from the records of the last 24 hours; without those that a person approved.
    pub deletions: Vec<Timestamp>,
    /// Artifacts that its records saw whole here, which Backstay did not delete, and of which no manifest is left; with the
    /// moment when they were last seen so.
    pub lost: BTreeMap<ArtifactId, Timestamp>,
    /// What was let go here by approvals, from the moment on that the first of it goes.
    pub let_go: BTreeMap<PlanHash, BTreeSet<ArtifactId>>,
    /// Bytes of everything in the backup's folder.
    pub bytes: u64,
}

/// One committed artifact in one store: what planners need of its manifest, and what is known of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredArtifact {
    /// Its name.
    pub id: ArtifactId,
    /// What it holds.
    pub kind: Kind,
    /// The slot that it fills.
    pub slot: Option<Timestamp>,
    /// Whether a person asked for it.
    pub origin: Origin,
    /// The artifact whose segments it shared.
    pub base: Option<ArtifactId>,
    /// The full that opened its epoch; its own name for a full.
    pub epoch: ArtifactId,
    /// What a restore needs besides it.
    pub requires: Vec<ArtifactId>,
    /// The artifact that it repairs and replaces.
    pub supersedes: Option<ArtifactId>,
    /// The newest data that it brings back.
    pub newest: Timestamp,
    /// The engine's name of the newest moment.
    pub position: Option<Box<str>>,
    /// For logs: what they go over.
    pub log: Option<Box<LogSpan>>,
    /// Bytes of the packs that this artifact itself wrote.
    pub bytes: u64,
    /// How long its stream is, bytes; 0 for a provider's own snapshot.
    pub length: u64,
    /// A provider's own name of it, where it is a backup that the provider keeps.
    pub native: Option<Box<NativeReference>>,
    /// What the last look or check found.
    pub condition: Condition,
    /// When it was last found good, by depth.
    pub verified: Verified,
    /// Why it must be kept, if a person said so.
    pub held: Option<Box<str>>,
}

/// What a log goes over, besides where it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpan {
    /// Where it begins.
    pub from: Edge,
    /// The named restore points in it, in their order.
    pub named: Vec<NamedPoint>,
}

impl StoredArtifact {
    /// For logs: where its window begins.
    pub fn from(&self) -> Option<&Edge> {
        self.log.as_ref().map(|log| &log.from)
    }

    /// For logs: the named restore points in it.
    pub fn named(&self) -> &[NamedPoint] {
        self.log.as_ref().map(|log| log.named.as_slice()).unwrap_or_default()
    }

    /// Whether nothing is known to be wrong with it.
    pub fn is_good(&self) -> bool {
        self.condition == Condition::Good
    }

    /// Whether something is known to be wrong with it.
    pub fn is_damaged(&self) -> bool {
        matches!(self.condition, Condition::Damaged(_))
    }

    /// Why nobody can tell how it is, if so.
    pub fn unknown(&self) -> Option<&str> {
        match &self.condition {
            Condition::Unknown(why) => Some(why),
            Condition::Good | Condition::Damaged(_) => None,
        }
    }

    /// A provider's own name of it, where it is a backup that the provider keeps.
    pub fn reference(&self) -> Option<&str> {
        self.native.as_ref().map(|native| native.reference.as_str())
    }

    /// Whether its provider, and nothing else, was found to be unable to restore it, or could not be asked.
    fn is_judged_by_provider(&self) -> bool {
        match &self.condition {
            Condition::Good => false,
            Condition::Damaged(why) => why.starts_with(provided::BY_PROVIDER),
            Condition::Unknown(_) => true,
        }
    }

    /// Whether it claims to be made, or its data to be of, a time that has not come.
    pub fn is_from_the_future(&self, now: Timestamp) -> bool {
        self.newest > now || self.id.time() > now
    }

    /// What copies of one content share in every store: the name of the artifact, or of the one that it repairs.
    pub fn content(&self) -> ArtifactId {
        self.supersedes.unwrap_or(self.id)
    }
}

impl StoredBackup {
    /// Nothing at all.
    pub const NOTHING: &'static StoredBackup = &StoredBackup {
        artifacts: Vec::new(),
        unreadable: BTreeMap::new(),
        leases: BTreeMap::new(),
        readings: BTreeMap::new(),
        unreferenced: BTreeMap::new(),
        candidates: BTreeMap::new(),
        deletions: Vec::new(),
        lost: BTreeMap::new(),
        let_go: BTreeMap::new(),
        bytes: 0,
    };

    /// The artifact of this name.
    pub fn artifact(&self, id: ArtifactId) -> Option<&StoredArtifact> {
        self.artifacts.iter().find(|a| a.id == id)
    }

    /// A good artifact with the content of `id`: itself, or one that repairs it.
    pub fn good_content(&self, id: ArtifactId) -> Option<&StoredArtifact> {
        self.artifacts.iter().find(|a| a.is_good() && (a.id == id || a.content() == id))
    }

    /// Whether an artifact and all that its restore needs besides it are good.
    pub fn is_whole(&self, artifact: &StoredArtifact) -> bool {
        let (mut open, mut seen) = (vec![artifact], BTreeSet::new());
        while let Some(next) = open.pop() {
            if !next.is_good() {
                return false;
            }
            for id in &next.requires {
                match self.good_content(*id) {
                    None => return false,
                    Some(found) if seen.insert(found.id) => open.push(found),
                    Some(_) => {}
                }
            }
        }
        true
    }

    /// The artifact with the newest data at `now` that can be restored: whole, and no log.
    pub fn newest_whole(&self, now: Timestamp) -> Option<&StoredArtifact> {
        let data = self.artifacts.iter().filter(|a| a.kind != Kind::Log && a.is_good());
        let mut data: Vec<&StoredArtifact> = data.filter(|a| !a.is_from_the_future(now)).collect();
        data.sort_unstable_by_key(|a| std::cmp::Reverse((a.newest, a.id)));
        data.into_iter().find(|a| self.is_whole(a))
    }

    /// The good artifact with the newest data at `now`. Logs are none: without what they go on from they bring nothing back.
    pub fn newest_good(&self, now: Timestamp) -> Option<&StoredArtifact> {
        let data = self.artifacts.iter().filter(|a| a.kind != Kind::Log);
        let good = data.filter(|a| a.is_good() && !a.is_from_the_future(now));
        good.max_by_key(|a| (a.newest, a.id))
    }
}

/// Who asked for an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A schedule, or a commit.
    Scheduled,
    /// A person.
    Manual,
}

/// What the last look or check of an artifact found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Nothing is known to be wrong.
    Good,
    /// Something is missing, short or altered.
    Damaged(Box<str>),
    /// Nobody can tell from here, and why: it is neither good nor gone, and stays as it is.
    Unknown(Box<str>),
}

/// When an artifact was last found good, by depth; a deeper check counts for the weaker ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Signature, presence and sizes.
    pub metadata: Option<Timestamp>,
    /// Digests of what is stored.
    pub data: Option<Timestamp>,
    /// Digests of the plaintext.
    pub plaintext: Option<Timestamp>,
}

impl Verified {
    /// The last good check of at least this depth.
    pub fn at_least(&self, depth: Depth) -> Option<Timestamp> {
        match depth {
            Depth::Metadata => self.metadata.max(self.data).max(self.plaintext),
            Depth::Data => self.data.max(self.plaintext),
            Depth::Plaintext => self.plaintext,
        }
    }
}

/// A capture, copy or repair under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The epoch whose packs it reuses.
    pub epoch: ArtifactId,
    /// After this it commits nothing.
    pub until: Timestamp,
    /// The public half of the key that the controller signs with.
    pub controller: String,
}

/// How long after it was put a lease that cannot be understood counts: longer than any is taken for.
const LONGEST_LEASE: SignedDuration = SignedDuration::from_hours(24);
/// In the place of the key of whom nobody knows. It is none.
const UNKNOWN: &str = "unknown";

/// When a lease that cannot be understood ends, by the store's clock.
fn end_of_unreadable(put: Timestamp) -> Timestamp {
    put.checked_add(LONGEST_LEASE).unwrap_or(Timestamp::MAX)
}

impl Lease {
    /// A lease that cannot be understood: it may concern any epoch.
    pub fn unreadable(put: Timestamp) -> Self {
        let epoch = ArtifactId::new(Timestamp::UNIX_EPOCH, 0);
        Self { epoch, until: end_of_unreadable(put), controller: UNKNOWN.to_owned() }
    }

    /// Whether it could be understood.
    pub fn is_readable(&self) -> bool {
        self.controller != UNKNOWN
    }

    /// Whether what it writes may share packs of `epoch`.
    pub fn concerns(&self, epoch: ArtifactId) -> bool {
        self.epoch == epoch || !self.is_readable()
    }
}

/// A restore or check under way: what it reads stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// What is read, with all that it requires.
    pub artifacts: BTreeSet<ArtifactId>,
    /// After this it counts no more.
    pub until: Timestamp,
    /// The public half of the key that the controller signs with.
    pub controller: String,
}

impl Reading {
    /// A lease that cannot be understood: it may be of anything.
    pub fn unreadable(put: Timestamp) -> Self {
        Self { artifacts: BTreeSet::new(), until: end_of_unreadable(put), controller: UNKNOWN.to_owned() }
    }

    /// Whether it may read `artifact`.
    pub fn concerns(&self, artifact: ArtifactId) -> bool {
        self.artifacts.contains(&artifact) || self.controller == UNKNOWN
    }
}

/// One schedule as armed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmedSchedule {
    /// The backup.
    pub backup: BackupName,
    /// What is to be made.
    pub kind: Kind,
    /// When.
    pub cadence: Cadence,
}

impl Spec {
    /// Whether a schedule is declared exactly so.
    pub fn declares(&self, schedule: &ArmedSchedule) -> bool {
        let backup = self.backups.get(&schedule.backup);
        backup.and_then(|backup| backup.policy.schedules.get(&schedule.kind)) == Some(&schedule.cadence)
    }

    /// Every declared schedule.
    pub fn schedules(&self) -> impl Iterator<Item = ArmedSchedule> {
        self.backups.iter().flat_map(|(name, backup)| {
            let schedules = backup.policy.schedules.iter();
            schedules.map(|(kind, cadence)| ArmedSchedule {
                backup: name.clone(),
                kind: *kind,
                cadence: cadence.clone(),
            })
        })
    }
}

/// What a scheduler holds of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Armed {
    /// Which scheduler it is, by which configuration of this host and which version: of another one everything may differ.
    pub by: String,
    /// What is armed, and reads as we write it.
    pub schedules: BTreeSet<ArmedSchedule>,
    /// What we armed and somebody changed: how it differs.
    pub altered: BTreeMap<ArmedSchedule, String>,
    /// What looks like ours and bears no proof of it, by its place: why it is left alone.
    pub strangers: BTreeMap<String, String>,
}

impl From<BTreeSet<ArmedSchedule>> for Armed {
    fn from(schedules: BTreeSet<ArmedSchedule>) -> Self {
        Self { schedules, ..Self::default() }
    }
}

/// The infra repo as mirrored, and the mirrors that are pushed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InfraInventory {
    /// The position (see `git`) of the mirror's branches, tags and kept tips now.
    pub position: String,
    /// The position that each push mirror was found at, by URL.
    pub mirrors: BTreeMap<String, Observed<String>>,
    /// The commits of all references at that position.
    pub tips: BTreeMap<String, String>,
    /// Mirrors that somebody else moved since Backstay pushed to them, and how.
    pub moved: BTreeMap<String, String>,
}

/// Work that an earlier pass began and never ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interrupted {
    /// The backup, by its folder.
    pub backup: FolderName,
    /// The store that was written to.
    pub store: StoreName,
    /// The name under which it wrote, or read.
    pub artifact: ArtifactId,
    /// What it was.
    #[serde(default)]
    pub work: Work,
    /// What it had a provider make, beside what it left in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<Box<CopyLeft>>,
}

impl Interrupted {
    /// Whether it is this.
    pub fn is(&self, backup: &FolderName, store: &StoreName, artifact: ArtifactId) -> bool {
        self.backup == *backup && self.store == *store && self.artifact == artifact
    }
}

/// Work by what it leaves in a store when it is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// A capture or a repair, under a name that nothing else has: packs that are of no use to anybody.
    #[default]
    Capture,
    /// A copy, under the name of its original: packs that its next attempt need not carry again.
    Copy,
    /// A restore or a check, under a name of its own: its lease and nothing else.
    Reading,
}
