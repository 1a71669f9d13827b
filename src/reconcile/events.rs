//! What of a pass the stores' records must tell.

use std::collections::BTreeMap;

use super::{Ask, Keep, desired::Desired, pass::Begun};
use crate::{
    apply::executor::Outcome,
    artifact::{ArtifactId, record::Event},
    inventory::{Inventory, Standing},
    plan::Action,
    spec::names::{BackupName, StoreName},
};

/// The events of a pass by store, in the order in which they happened. A store that does not know yet which revision is in
/// force is told.
pub(super) fn of_pass(
    ask: &Ask,
    begun: &Begun,
    desired: &Desired,
    inventory: &Inventory,
) -> BTreeMap<StoreName, Vec<Event>> {
    let mut events: BTreeMap<StoreName, Vec<Event>> = BTreeMap::new();
    let (in_force, signer) = match &desired.stands_in_for {
        Some(lost) => (lost, None),
        None => (&desired.revision.id, desired.signer.clone()),
    };
    for store in ignorant(inventory, in_force) {
        let event = Event::InForce { revision: in_force.clone(), signer: signer.clone() };
        events.entry(store.clone()).or_default().push(event);
    }
    for (store, event) in begun.events.iter().cloned().chain(held(ask, begun)) {
        events.entry(store).or_default().push(event);
    }
    events
}

/// Stores whose records are ours to continue and name another revision as the one in force. In an empty one the first
/// record comes with the first artifact.
fn ignorant<'a>(inventory: &'a Inventory, in_force: &str) -> impl Iterator<Item = &'a StoreName> {
    inventory.stores.iter().filter_map(move |(name, store)| {
        let found = store.known().filter(|found| found.standing == Standing::Ours)?;
        let knows = found.records.in_force().is_some_and(|known| known.revision == in_force);
        (!knows).then_some(name)
    })
}

fn held(ask: &Ask, begun: &Begun) -> Vec<(StoreName, Event)> {
    let Ask::Backup(_, Keep::Held(reason)) = ask else { return Vec::new() };
    // What was captured, and each of its copies: every store goes by its own records.
    let held =
        begun.plan.steps.iter().filter_map(|step| match (&step.action, begun.outcomes.get(&step.id)?) {
            (Action::Capture(capture), Outcome::Done(done)) => {
                Some((&capture.store, &capture.backup, done.artifact?))
            }
            (Action::Copy { backup, artifact, to, .. }, Outcome::Done(_)) => Some((to, backup, *artifact)),
            _ => None,
        });
    let event = |(store, backup, artifact): (&StoreName, &BackupName, ArtifactId)| {
        (store.clone(), Event::Held { backup: backup.clone(), artifact, reason: reason.clone() })
    };
    held.map(event).collect()
}
