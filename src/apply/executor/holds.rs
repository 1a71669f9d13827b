//! Which steps may run beside each other: so many at all, so many in a store, and of one backup either one capture or
//! copy, or one change in each of its stores.

use std::collections::BTreeMap;

use super::Bounds;
use crate::{
    plan::{Action, StepId},
    spec::names::{BackupName, StoreName},
};

/// What the running steps hold.
#[derive(Debug, Default)]
pub(super) struct Holds(BTreeMap<StepId, Hold>);

#[derive(Debug, Default)]
struct Hold {
    stores: Vec<StoreName>,
    alone: Option<Alone>,
}

/// What a step must have for itself.
#[derive(Debug, PartialEq, Eq)]
enum Alone {
    /// A backup, in every store.
    Backup(BackupName),
    /// A backup, in one store.
    BackupIn(BackupName, StoreName),
}

impl Holds {
    /// Whether a step fits beside those that run.
    pub(super) fn may_begin(&self, action: &Action, bounds: &Bounds) -> bool {
        let wanted = hold(action);
        self.0.len() < bounds.steps
            && wanted.stores.iter().all(|store| self.users_of(store) < bounds.per_store)
            && wanted.alone.is_none_or(|alone| !self.alone().any(|held| held.excludes(&alone)))
    }

    /// A step begins.
    pub(super) fn begin(&mut self, id: StepId, action: &Action) {
        self.0.insert(id, hold(action));
    }

    /// A step has ended.
    pub(super) fn end(&mut self, id: StepId) {
        self.0.remove(&id);
    }

    fn users_of(&self, store: &StoreName) -> usize {
        self.0.values().filter(|hold| hold.stores.contains(store)).count()
    }

    fn alone(&self) -> impl Iterator<Item = &Alone> {
        self.0.values().filter_map(|hold| hold.alone.as_ref())
    }
}

impl Alone {
    fn excludes(&self, other: &Alone) -> bool {
        match (self, other) {
            (Alone::BackupIn(backup, store), Alone::BackupIn(other, its)) => backup == other && store == its,
            _ => self.backup() == other.backup(),
        }
    }

    fn backup(&self) -> &BackupName {
        match self {
            Alone::Backup(backup) | Alone::BackupIn(backup, _) => backup,
        }
    }
}

fn hold(action: &Action) -> Hold {
    match action {
        Action::Arm(_) | Action::Disarm(_) | Action::Push { .. } => Hold::default(),
        Action::Capture(capture) => {
            Hold { stores: vec![capture.store.clone()], alone: Some(Alone::Backup(capture.backup.clone())) }
        }
        Action::Copy { backup, from, to, .. } => {
            Hold { stores: vec![from.clone(), to.clone()], alone: Some(Alone::Backup(backup.clone())) }
        }
        Action::Repair { backup, store, from, .. } => Hold {
            stores: vec![store.clone(), from.clone()],
            alone: Some(Alone::BackupIn(backup.clone(), store.clone())),
        },
        Action::Delete { backup, store, .. }
        | Action::RecordUnreferenced { backup, store, .. }
        | Action::Sweep { backup, store, .. }
        | Action::CleanUp { backup, store, .. }
        | Action::Settle { backup, store, .. } => {
            Hold { stores: vec![store.clone()], alone: Some(Alone::BackupIn(backup.clone(), store.clone())) }
        }
        Action::Verify { store, .. } => Hold { stores: vec![store.clone()], alone: None },
        Action::Restore(restore) => Hold { stores: vec![restore.store.clone()], alone: None },
    }
}
