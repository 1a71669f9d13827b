//! What a person says of backups, stores and artifacts on the host: kept as signed records in the stores, taken up by the
//! next pass. Needs no lock, for a record is only added.

use std::time::Duration;

use futures::future::join_all;

use super::{Controller, NothingInForce};
use crate::{
    artifact::{ArtifactId, record::Event},
    inventory::{Inventory, Observed, Standing, StoreInventory},
    observe::Freshness,
    spec::{
        Spec, Suspension,
        names::{BackupName, FolderName, StoreName},
        suspension::Scope,
    },
    state::StateError,
};

/// What was seen just before is not looked at again.
const A_MOMENT: Duration = Duration::from_secs(60);

/// What a person says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saying {
    /// Something stands still for a while.
    Suspend(Suspension),
    /// It goes on before that ends.
    Resume(Scope),
    /// An artifact and its copies are kept whatever the retention says, for a reason.
    Hold(ArtifactId, String),
    /// Retention decides about them again.
    Release(ArtifactId),
}

/// Where a saying was written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The stores that hold the record.
    pub stores: Vec<StoreName>,
    /// Why others that should do not.
    pub faults: Vec<String>,
}

/// Why a saying was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SayError {
    /// No revision is in force.
    #[error(transparent)]
    NothingInForce(#[from] NothingInForce),
    /// The state directory is unusable.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nothing of this name is declared or found.
    #[error("failed to find {0}: nothing of this name is declared or stored; see `backstay status`")]
    NoSuch(Scope),
    /// It has another name now.
    #[error("failed to find {former}: it was renamed; it is called {name} now")]
    Renamed {
        /// What it was called.
        former: Scope,
        /// What it is called now.
        name: BackupName,
    },
    /// It would end before it begins.
    #[error("failed to suspend {0}: its end has passed; give a later --until")]
    Over(Scope),
    /// Nothing was suspended by a person's word here.
    #[error("failed to resume {0}: it is not suspended on this host; see `backstay status`")]
    NotSuspended(Scope),
    /// The declaration suspends it.
    #[error("failed to resume {scope}: the infra repo suspends it; take its [suspend.{name}] out there")]
    Declared {
        /// What is suspended.
        scope: Scope,
        /// The name of the suspension.
        name: String,
    },
    /// No store that can be seen has the artifact.
    #[error("failed to find artifact {0}: no store that can be seen holds it; see `backstay list`")]
    NoArtifact(ArtifactId),
    /// Nobody holds the artifact.
    #[error("failed to release artifact {0}: it is not held; see `backstay list`")]
    NotHeld(ArtifactId),
    /// No store took the record.
    #[error("failed to record it in any store{}; try again when one can be written to", listed(.0))]
    Unrecorded(Vec<String>),
}

fn listed(faults: &[String]) -> String {
    if faults.is_empty() { String::new() } else { format!(": {}", faults.join("; ")) }
}

impl Controller {
    /// Writes down what a person says.
    pub async fn say(&self, saying: Saying) -> Result<Recorded, SayError> {
        // What was fetched before says where the stores are, too.
        let _ = self.fetch().await;
        let spec = self.desired().await?.spec.clone();
        let mut seen = self.seen.lock().await;
        self.look(&mut seen, &spec, Vec::new(), Freshness::Now).await;
        let word = self.word(saying, &spec, &seen.inventory)?;
        drop(seen);
        let recorded =
            self.record_where(&spec, |store| word.concerns(store), std::slice::from_ref(&word.event)).await;
        if recorded.stores.is_empty() {
            return Err(SayError::Unrecorded(recorded.faults));
        }
        // As another process's pass does: whoever has looked before has to look anew.
        self.state.begin_pass(None)?;
        Ok(recorded)
    }

    /// What to write down, and where.
    fn word(&self, saying: Saying, spec: &Spec, inventory: &Inventory) -> Result<Word, SayError> {
        let now = self.now();
        match saying {
            Saying::Suspend(suspension) if suspension.until <= now => Err(SayError::Over(suspension.scope)),
            Saying::Suspend(suspension) if !is_known(&suspension.scope, spec, inventory) => {
                Err(no_such(suspension.scope, spec))
            }
            Saying::Suspend(suspension) => {
                Ok(Word::everywhere(Event::Suspended(spec.moved.as_recorded(suspension))))
            }
            Saying::Resume(scope) => {
                let recorded = inventory.recorded_suspensions(&spec.moved);
                if recorded.iter().any(|it| it.scope == scope && now < it.until) {
                    let scope = spec.moved.scope_as_recorded(scope);
                    return Ok(Word::everywhere(Event::Resumed { scope }));
                }
                let mut declared = spec.suspensions.iter();
                Err(match declared.find(|(_, it)| it.scope == scope && now < it.until) {
                    Some((name, _)) => SayError::Declared { scope, name: name.to_string() },
                    None if is_known(&scope, spec, inventory) => SayError::NotSuspended(scope),
                    None => no_such(scope, spec),
                })
            }
            Saying::Hold(artifact, reason) => {
                let backup = holder(inventory, artifact).ok_or(SayError::NoArtifact(artifact))?;
                Ok(Word::of_artifact(artifact, Event::Held { backup: backup.clone(), artifact, reason }))
            }
            Saying::Release(artifact) => {
                let backup = holder(inventory, artifact).ok_or(SayError::NoArtifact(artifact))?;
                if !is_held(inventory, backup, artifact) {
                    return Err(SayError::NotHeld(artifact));
                }
                Ok(Word::of_artifact(artifact, Event::Released { backup: backup.clone(), artifact }))
            }
        }
    }

    /// Appends events in every store that is ours and that `concerns` picks.
    pub(super) async fn record_where(
        &self,
        spec: &Spec,
        concerns: impl Fn(&StoreInventory) -> bool,
        events: &[Event],
    ) -> Recorded {
        let mut seen = self.seen.lock().await;
        self.look(&mut seen, spec, Vec::new(), Freshness::Within(A_MOMENT)).await;
        let (now, mut recorded) = (self.now(), Recorded::default());
        let looks = self.looks(spec).await;
        let appended = looks.iter().map(|(name, look)| {
            let found = seen.inventory.stores.get(name);
            let siblings = seen.siblings(name);
            let concerned = match found {
                Some(Observed::Known(found)) if found.standing == Standing::Ours => Ok(concerns(found)),
                Some(Observed::Unknown(why)) => Err(format!("store {name} cannot be seen: {why}")),
                Some(Observed::Known(_)) | None => Err(format!("store {name} is empty or refused")),
            };
            async move {
                let look = match (concerned, look) {
                    (Ok(false), _) => return None,
                    (Err(fault), _) => return Some((name, Err(fault))),
                    (Ok(true), Err(why)) => return Some((name, Err(format!("store {name}: {why}")))),
                    (Ok(true), Ok(look)) => look,
                };
                let records = look.records();
                let appended = records.append_knowing(&self.keys, now, events.to_vec(), siblings).await;
                Some((name, appended.map_err(|error| error.to_string())))
            }
        });
        for (name, appended) in join_all(appended.collect::<Vec<_>>()).await.into_iter().flatten() {
            match appended {
                Ok(record) => {
                    seen.recorded(name, &record);
                    recorded.stores.push(name.clone());
                }
                Err(fault) => recorded.faults.push(fault),
            }
        }
        recorded
    }
}

/// An event, and the stores that must know of it.
struct Word {
    event: Event,
    /// The artifact whose holders must know; `None` is for every store.
    artifact: Option<ArtifactId>,
}

impl Word {
    fn everywhere(event: Event) -> Self {
        Self { event, artifact: None }
    }

    fn of_artifact(artifact: ArtifactId, event: Event) -> Self {
        Self { event, artifact: Some(artifact) }
    }

    fn concerns(&self, store: &StoreInventory) -> bool {
        let Some(artifact) = self.artifact else { return true };
        store.backups.values().any(|stored| stored.artifact(artifact).is_some())
    }
}

fn no_such(scope: Scope, spec: &Spec) -> SayError {
    let renamed = match &scope {
        Scope::Backup(name) => spec.moved.newest_name(name),
        Scope::Everything | Scope::Store(_) => None,
    };
    match renamed.cloned() {
        Some(name) => SayError::Renamed { former: scope, name },
        None => SayError::NoSuch(scope),
    }
}

fn is_known(scope: &Scope, spec: &Spec, inventory: &Inventory) -> bool {
    match scope {
        Scope::Everything => true,
        Scope::Store(name) => spec.stores.contains_key(name),
        Scope::Backup(name) => {
            let mut found = inventory.stores.values().filter_map(Observed::known);
            name.is_infra()
                || spec.backups.contains_key(name)
                || found.any(|store| store.of(name, &spec.moved).is_some())
        }
    }
}

/// The folder of the backup that an artifact is of.
fn holder(inventory: &Inventory, artifact: ArtifactId) -> Option<&FolderName> {
    let all = inventory.stores.values().filter_map(Observed::known).flat_map(|store| &store.backups);
    all.into_iter().find(|(_, stored)| stored.artifact(artifact).is_some()).map(|(name, _)| name)
}

fn is_held(inventory: &Inventory, backup: &FolderName, artifact: ArtifactId) -> bool {
    let stores = inventory.stores.values().filter_map(Observed::known);
    stores
        .filter_map(|store| store.backups.get(backup)?.artifact(artifact))
        .any(|artifact| artifact.held.is_some())
}
