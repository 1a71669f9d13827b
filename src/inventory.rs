//! The actual state: what was observed, and what could not be.

mod armed;
mod chronicle;
mod drills;
mod interrupted;
mod kept_log;
mod leases;
mod lineage;
mod log_reader;
mod machines;
mod made;
mod observed;
mod previews;
mod provided;
mod recoveries;
mod rehearsals;
mod renewal;
mod rules;
mod sandbox_copy;
mod stored;
mod windows;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    artifact::approval::PlanApproval,
    spec::{
        Moves, Spec, Suspension,
        names::{BackupName, DrillName, FolderName, StoreName, VmName},
        suspension::Scope,
    },
};

pub use armed::{Armed, ArmedSchedule};
pub use chronicle::{Chronicle, Healed, InForce, Ruling};
pub use drills::DrillHistory;
pub use interrupted::{Interrupted, Work};
pub use kept_log::{KeptLog, LogRisk, LogSeen, WalStatus};
pub use leases::{Lease, Reading};
pub use lineage::lineage;
pub use log_reader::{LogReader, ReaderState};
pub use machines::{Machine, MachineAddress, Running};
pub use made::{Made, MirrorMade, StoreMade};
pub use observed::Observed;
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
pub use stored::{Condition, LogSpan, Origin, StoredArtifact, StoredBackup, Verified};
pub use windows::{Stretch, Window, logged_everywhere, stretches, windows};

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
