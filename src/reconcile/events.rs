//! What of a pass the stores' records must tell.

use std::collections::BTreeMap;

use super::{Ask, Keep, pass::Begun};
use crate::{
    apply::executor::Outcome,
    artifact::record::Event,
    inventory::{Inventory, Standing},
    plan::Action,
    spec::names::StoreName,
};

/// The events of a pass by store, in the order in which they happened; `in_force` is the revision that came into force
/// with it.
pub(super) fn of_pass(
    ask: &Ask,
    begun: &Begun,
    in_force: Option<&str>,
    inventory: &Inventory,
) -> BTreeMap<StoreName, Vec<Event>> {
    let mut events: BTreeMap<StoreName, Vec<Event>> = BTreeMap::new();
    if let Some(revision) = in_force {
        for store in writable(inventory) {
            events.entry(store.clone()).or_default().push(Event::InForce { revision: revision.to_owned() });
        }
    }
    for (store, event) in begun.events.iter().cloned().chain(held(ask, begun)) {
        events.entry(store).or_default().push(event);
    }
    events
}

/// Stores whose records are ours to continue.
fn writable(inventory: &Inventory) -> impl Iterator<Item = &StoreName> {
    inventory.stores.iter().filter_map(|(name, store)| match &store.known()?.standing {
        Standing::Ours => Some(name),
        // The first record comes with the first artifact.
        Standing::Empty | Standing::Refused(_) => None,
    })
}

fn held(ask: &Ask, begun: &Begun) -> Vec<(StoreName, Event)> {
    let Ask::Backup(_, Keep::Held(reason)) = ask else { return Vec::new() };
    let held =
        begun.plan.steps.iter().filter_map(|step| match (&step.action, begun.outcomes.get(&step.id)) {
            (Action::Capture(capture), Some(Outcome::Done(done))) => {
                let event = Event::Held {
                    backup: capture.backup.clone(),
                    artifact: done.artifact?,
                    reason: reason.clone(),
                };
                Some((capture.store.clone(), event))
            }
            _ => None,
        });
    held.collect()
}
