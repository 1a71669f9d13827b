//! What of a pass the stores' records must tell.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::Desired;
use crate::{
    artifact::record::Event,
    inventory::{Healed, Inventory, Standing, StoreInventory},
    spec::names::StoreName,
};

/// The events that `happened` by store, in the order in which they happened. A store that does not know yet which
/// revision is in force is told. What was `healed` is told to all, for what is in one store may be taken away with it.
pub(super) fn to_record(
    happened: Vec<(StoreName, Event)>,
    healed: &BTreeSet<Healed>,
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
    for (store, event) in happened {
        events.entry(store).or_default().push(event);
    }
    if !healed.is_empty() {
        for (store, _) in ours(inventory) {
            events.entry(store.clone()).or_default().extend(healed.iter().cloned().map(Event::Healed));
        }
    }
    events
}

/// Stores whose records are ours to continue.
fn ours(inventory: &Inventory) -> impl Iterator<Item = (&StoreName, &StoreInventory)> {
    let known = inventory.stores.iter().filter_map(|(name, store)| Some((name, store.known()?)));
    known.filter(|(_, found)| found.standing == Standing::Ours)
}

/// Stores whose records are ours to continue and name another revision as the one in force. In an empty one the first
/// record comes with the first artifact.
fn ignorant<'a>(inventory: &'a Inventory, in_force: &str) -> impl Iterator<Item = &'a StoreName> {
    ours(inventory).filter_map(move |(name, found)| {
        let knows = found.records.in_force().is_some_and(|known| known.revision == in_force);
        (!knows).then_some(name)
    })
}
