//! The artifacts that really would go, by what the stores hold.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    artifact::ArtifactId,
    inventory::Inventory,
    plan::{Limits, facts::Facts, retention},
    spec::{
        Spec,
        names::{BackupName, StoreName},
    },
};

/// Artifacts of one backup in one store that the rules after a change let go, and the rules before it do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gone {
    /// Whose they are.
    pub backup: BackupName,
    /// Where they are.
    pub store: StoreName,
    /// Which they are, the oldest first.
    pub artifacts: Vec<ArtifactId>,
}

/// What the change from `before` to `after` lets go of what was observed. What could not be observed is not in it.
pub fn gone(
    before: &Spec,
    after: &Spec,
    inventory: &Inventory,
    limits: &Limits,
    now: Timestamp,
) -> Vec<Gone> {
    let (before, after) =
        (Facts::gather(before, inventory, limits, now), Facts::gather(after, inventory, limits, now));
    let anyway = retention::expired(&before);
    let gone = retention::expired(&after).into_iter().filter_map(|(key, expired)| {
        // The same artifacts may have had another name before.
        let name = before.spec.moved.backup(&after.spec.moved.folder(key.0));
        let anyway = anyway.get(&(&name, key.1));
        let stays = |id: &ArtifactId| anyway.is_none_or(|anyway| !anyway.contains_key(id));
        let artifacts: Vec<ArtifactId> = expired.into_keys().filter(stays).collect();
        let (backup, store) = key;
        (!artifacts.is_empty()).then(|| Gone { backup: backup.clone(), store: store.clone(), artifacts })
    });
    gone.collect()
}
