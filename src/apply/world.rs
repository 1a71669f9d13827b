//! What the steps of one pass work with, and what they leave to be written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    executor::{Failure, Listener},
    ledger::{Ledger, Previewed},
    watchdog::Kennel,
};
use crate::{
    artifact::{
        ArtifactId, Manifest,
        record::{Event, Record},
    },
    chance::Chance,
    clock::Clock,
    committed::BackupFolder,
    drivers::Registry,
    git::{Mirror, stored::StoredTips},
    inventory::{Interrupted, Inventory, Observed, RestorePage, StoredArtifact, StoredBackup, Work},
    keys::Keys,
    kit,
    observe::{outline::Outline, seen::Change, stores::Look},
    plan::{Action, Plan},
    spec::{
        Moves, Spec,
        names::{FolderName, StoreName},
    },
    stores::Class,
};

/// What the steps of one pass work with.
pub struct World {
    /// What is declared.
    pub spec: Arc<Spec>,
    /// By which commit.
    pub revision: String,
    /// What the plan was made on, as far as its steps need it.
    pub inventory: Inventory,
    /// What the plan deletes, as the records of each store are to tell it.
    pub deletions: Announcements,
    /// The declared stores; or why one can't even be asked.
    pub stores: BTreeMap<StoreName, Result<Look, String>>,
    /// The prefixes of mirrors that this host allows.
    pub mirrors: Vec<String>,
    /// The folder in which readers of logs have theirs.
    pub spools: PathBuf,
    /// What is remembered of the machines of drills.
    pub ledger: Ledger,
    /// What this host remembers of previews.
    pub previews: Ledger<Previewed>,
    /// What watches over them; `None` where nobody does.
    pub kennel: Option<Kennel>,
    /// The folder of the infra repo that is read.
    pub declared_in: String,
    /// Where sources and schedules come from.
    pub drivers: Arc<dyn Registry>,
    /// The infra repo on this host.
    pub mirror: Mirror,
    /// What bundles rest on.
    pub tips: StoredTips,
    /// What is signed, named and decrypted with.
    pub keys: Arc<Keys>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Tells new artifacts of one moment apart.
    pub chance: Arc<dyn Chance>,
    /// Hears how far long work has come.
    pub listener: Arc<dyn Listener>,
    /// What the steps did.
    pub deeds: Arc<Deeds>,
}

/// What the steps did: to be recorded in the stores, and to keep up what was seen.
#[derive(Debug, Default)]
pub struct Deeds {
    events: Mutex<Vec<(StoreName, Event)>>,
    changes: Mutex<Vec<(StoreName, FolderName, Change)>>,
    pushed: Mutex<Vec<(String, String)>>,
    pages: Mutex<BTreeSet<StoreName>>,
    rearmed: AtomicBool,
    records: Mutex<Vec<(StoreName, Record)>>,
    machines: AtomicBool,
    providers: AtomicBool,
}

impl Deeds {
    /// Something that the store's records must tell.
    pub fn tell(&self, store: &StoreName, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push((store.clone(), event));
    }

    /// Something that changed in a store.
    pub fn change(&self, store: &StoreName, backup: &FolderName, change: Change) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.push((store.clone(), backup.clone(), change));
    }

    /// A mirror has at least what the infra repo had at this position.
    pub(super) fn push(&self, mirror: &str, position: &str) {
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        pushed.push((mirror.to_owned(), position.to_owned()));
    }

    /// What the scheduler holds may be another from now on.
    pub(super) fn rearm(&self) {
        self.rearmed.store(true, Ordering::Relaxed);
    }

    /// A record of ours was written into a store.
    pub(super) fn record(&self, store: &StoreName, record: Record) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push((store.clone(), record));
    }

    /// Takes the records that were written.
    pub fn records(&self) -> Vec<(StoreName, Record)> {
        std::mem::take(&mut self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What machines there are may be another from now on.
    pub(super) fn touch_machines(&self) {
        self.machines.store(true, Ordering::Relaxed);
    }

    /// How providers are set may be another from now on.
    pub(super) fn touch_providers(&self) {
        self.providers.store(true, Ordering::Relaxed);
    }

    /// Whether how providers are set may be another than when this was last asked.
    pub fn has_touched_providers(&self) -> bool {
        self.providers.swap(false, Ordering::Relaxed)
    }

    /// Whether what machines there are may be another than when this was last asked.
    pub fn has_touched_machines(&self) -> bool {
        self.machines.swap(false, Ordering::Relaxed)
    }

    /// Whether what the scheduler holds may be another than when this was last asked.
    pub fn has_rearmed(&self) -> bool {
        self.rearmed.swap(false, Ordering::Relaxed)
    }

    /// Whether nobody in this pass has put the restore page into the store before.
    fn is_first_page(&self, store: &StoreName) -> bool {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).insert(store.clone())
    }

    /// Takes what is to be recorded.
    pub fn events(&self) -> Vec<(StoreName, Event)> {
        std::mem::take(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the mirrors that were pushed to, each with the position that it has now.
    pub fn pushed(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.pushed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what changed.
    pub fn changes(&self) -> Vec<(StoreName, FolderName, Change)> {
        std::mem::take(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl World {
    /// A declared store.
    pub(super) fn look(&self, store: &StoreName) -> Result<&Look, Failure> {
        match self.stores.get(store) {
            Some(Ok(look)) => Ok(look),
            Some(Err(why)) => Err(stalled(why.clone())),
            None => Err(stalled(format!("failed to use store {store}: the revision does not declare it"))),
        }
    }

    /// The folder of a backup in a declared store.
    pub(super) fn folder(&self, store: &StoreName, backup: &FolderName) -> Result<BackupFolder, Failure> {
        Ok(self.look(store)?.folder(backup))
    }

    /// Puts the page that tells how to restore into a store that has none, once a pass. Nothing depends on it: what fails
    /// is left to a later pass.
    pub(super) async fn leave_restore_page(&self, store: &StoreName) {
        let seen = self.inventory.stores.get(store).and_then(Observed::known);
        if seen.is_some_and(|seen| seen.restore_page == RestorePage::There)
            || !self.deeds.is_first_page(store)
        {
            return;
        }
        let Ok(look) = self.look(store) else { return };
        if let Err(error) = kit::put_restore_page(look.store.as_ref(), &look.fleet).await {
            tracing::warn!(%store, %error, "the page that tells how to restore is not there yet");
        }
    }

    /// What a store was seen to hold of a backup when the plan was made.
    pub(super) fn seen(&self, store: &StoreName, backup: &FolderName) -> Option<&StoredBackup> {
        self.inventory.stores.get(store)?.known()?.backups.get(backup)
    }

    /// What was interrupted under this name, when the plan was made.
    pub(super) fn interrupted(
        &self,
        backup: &FolderName,
        store: &StoreName,
        artifact: ArtifactId,
    ) -> Interrupted {
        let known = self.inventory.interrupted.iter().find(|i| i.is(backup, store, artifact));
        known.cloned().unwrap_or_else(|| Interrupted {
            backup: backup.clone(),
            store: store.clone(),
            artifact,
            work: Work::default(),
            copy: None,
        })
    }

    /// An artifact as it was seen when the plan was made.
    pub(super) fn stored(
        &self,
        store: &StoreName,
        backup: &FolderName,
        id: ArtifactId,
    ) -> Option<&StoredArtifact> {
        self.seen(store, backup)?.artifact(id)
    }
}

/// A failure that a person must see to.
pub(super) fn stalled(message: impl ToString) -> Failure {
    Failure { class: Class::Stalled, message: message.to_string() }
}

/// A committed artifact as a look at the store would find it.
pub(super) fn as_stored(manifest: &Manifest) -> StoredArtifact {
    Outline::of(manifest).committed(manifest.artifact)
}

/// What a plan deletes in each store. Told in the store's records before the first of it is done, so that a crash in
/// between lets the limit of deletions count too many rather than too few.
#[derive(Debug, Default)]
pub struct Announcements(BTreeMap<StoreName, Announcement>);

#[derive(Debug)]
struct Announcement {
    events: Vec<Event>,
    told: tokio::sync::OnceCell<()>,
}

impl Announcements {
    /// What `plan` deletes.
    pub fn of(plan: &Plan, moved: &Moves) -> Self {
        let mut stores: BTreeMap<StoreName, Announcement> = BTreeMap::new();
        for step in &plan.steps {
            if let Action::Delete { backup, artifact, store } = &step.action {
                let approved =
                    plan.approved.iter().find(|it| it.backup == *backup && it.store.as_ref() == Some(store));
                let event = Event::Deleted {
                    backup: moved.folder(backup),
                    artifact: *artifact,
                    reason: step.reason.clone(),
                    warrant: approved.map(|it| it.warrant.clone()),
                };
                let announcement = stores.entry(store.clone());
                let new = || Announcement { events: Vec::new(), told: tokio::sync::OnceCell::new() };
                announcement.or_insert_with(new).events.push(event);
            }
        }
        Self(stores)
    }

    /// Has `tell` record what is deleted in `store`, once; a failure is tried again by the next deletion there.
    pub(super) async fn tell<E, F>(
        &self,
        store: &StoreName,
        tell: impl FnOnce(Vec<Event>) -> F,
    ) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>>,
    {
        let Some(announcement) = self.0.get(store) else { return Ok(()) };
        announcement.told.get_or_try_init(|| tell(announcement.events.clone())).await.copied()
    }
}
