//! Checks and repairs on demand: what `verify` does.

use jiff::Timestamp;

use super::{Action, CannotRun, Limits, Plan, draft::Draft, facts::Facts, retention, verification};
use crate::{
    artifact::Depth,
    inventory::Inventory,
    spec::{Spec, names::BackupName},
};

/// Which backups are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything that any store holds, orphans as well.
    Everything,
    /// One backup, declared or not.
    Backup(BackupName),
}

impl Scope {
    fn covers(&self, name: &BackupName) -> bool {
        match self {
            Scope::Everything => true,
            Scope::Backup(only) => only == name,
        }
    }
}

/// Checks every artifact in `scope` to `depth`, in every store; those known to be damaged, or whose manifest
/// can't be trusted, as well. A store that can't be believed is something to wait for. Where no check is possible that is
/// so deep, the deepest that is takes its place, and the plan says so among what cannot run.
pub fn verify(
    spec: &Spec,
    inventory: &Inventory,
    limits: &Limits,
    (scope, depth): (&Scope, Depth),
    now: Timestamp,
) -> Plan {
    let facts = Facts::gather(spec, inventory, limits, now);
    let (mut draft, mut cannot_run) = (Draft::default(), Vec::new());
    for name in inventory.stores.keys() {
        match facts.store(name) {
            Err(why) => draft.wait(format!("checks in {name}"), why, None),
            Ok(store) => {
                let shallower = facts.shallower(depth, name);
                let depth = depth.min(facts.deepest_check(name));
                let reason =
                    shallower.as_ref().map_or("asked for".to_owned(), |why| format!("asked for; {why}"));
                let resource = format!("store.{name}");
                cannot_run.extend(shallower.map(|why| CannotRun { resource, why }));
                for (folder, stored) in &store.backups {
                    let backup = spec.moved.backup(folder);
                    if !scope.covers(&backup) {
                        continue;
                    }
                    let readable = stored.artifacts.iter().map(|a| (a.id, a.native.is_some()));
                    let unreadable = stored.unreadable.keys().map(|id| (*id, false));
                    for (artifact, is_native) in readable.chain(unreadable) {
                        let (depth, reason) = match is_native && depth > Depth::Metadata {
                            true => (Depth::Metadata, format!("asked for; {}", verification::NATIVE_CHECK)),
                            false => (depth, reason.clone()),
                        };
                        let (backup, store) = (backup.clone(), name.clone());
                        draft.step(Action::Verify { backup, artifact, store, depth }, reason);
                    }
                }
            }
        }
    }
    let mut plan = draft.finish(&facts);
    plan.cannot_run.extend(cannot_run);
    plan
}

/// Repairs what is known to be damaged in `scope`, where another store has a good copy: to be planned on an inventory
/// that shows what a check found.
pub fn repair(spec: &Spec, inventory: &Inventory, limits: &Limits, scope: &Scope, now: Timestamp) -> Plan {
    let facts = Facts::gather(spec, inventory, limits, now);
    let mut draft = Draft::default();
    verification::repair(&facts, &retention::expired(&facts), &mut draft);
    draft.steps.retain(|step| match &step.action {
        Action::Repair { backup, .. } => scope.covers(backup),
        _ => true,
    });
    draft.finish(&facts)
}
