//! How a store is.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    inventory::{Observed, Standing, StoreInventory},
    plan::facts::Facts,
    spec::{Budget, names::StoreName},
};

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// How one store is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoreStatus {
    /// Whether it can be used.
    pub state: StoreState,
    /// Where it stands.
    pub location: Option<String>,
    /// How far its clock is ahead of ours, seconds.
    pub clock_ahead_seconds: Option<i64>,
    /// Bytes that the fleet has there.
    pub bytes: Option<u64>,
    /// Bytes that the fleet may have there.
    pub capacity: Option<u64>,
    /// What it costs.
    pub cost: Option<Cost>,
}

/// Whether a store can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreState {
    /// It holds artifacts that can be believed.
    Ready,
    /// It holds nothing yet.
    Empty,
    /// What it holds is not believed until it is adopted, and why.
    Refused(String),
    /// It could not be seen, and why.
    Unknown(String),
}

/// What a store costs a month as it is now, in the currency of its declaration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// As it is now.
    pub month: f64,
    /// The limit.
    pub limit: f64,
    /// The share of the limit from which on it is worth saying, in 0..=1.
    pub alert_at: f64,
}

impl Cost {
    /// Whether the cost is worth saying.
    pub fn is_high(&self) -> bool {
        self.month >= self.limit * self.alert_at
    }
}

impl StoreStatus {
    /// The share of the capacity that is used, where both are known.
    pub fn share(&self) -> Option<f64> {
        let capacity = self.capacity.filter(|capacity| *capacity > 0)?;
        Some(self.bytes? as f64 / capacity as f64)
    }
}

pub(super) fn all(facts: &Facts<'_>) -> BTreeMap<StoreName, StoreStatus> {
    facts.spec.stores.keys().map(|name| (name.clone(), of(facts, name))).collect()
}

fn of(facts: &Facts<'_>, name: &StoreName) -> StoreStatus {
    let declared = facts.spec.stores.get(name);
    let found = facts.inventory.stores.get(name).and_then(Observed::known);
    let bytes = found.map(|store| store.bytes);
    let budget = declared.and_then(|store| store.budget.as_ref());
    StoreStatus {
        state: state(facts, name, found),
        location: declared.and_then(|store| store.location.clone()),
        clock_ahead_seconds: found.map(|store| store.clock.duration_since(facts.now).as_secs()),
        bytes,
        capacity: declared.and_then(|store| store.capacity),
        cost: budget.zip(bytes).map(|(budget, bytes)| cost(budget, bytes)),
    }
}

fn state(facts: &Facts<'_>, name: &StoreName, found: Option<&StoreInventory>) -> StoreState {
    match (found.map(|store| &store.standing), facts.store(name)) {
        (Some(Standing::Refused(why)), _) => StoreState::Refused(why.clone()),
        (_, Err(why)) => StoreState::Unknown(why),
        (Some(Standing::Empty), Ok(_)) => StoreState::Empty,
        (_, Ok(_)) => StoreState::Ready,
    }
}

fn cost(budget: &Budget, bytes: u64) -> Cost {
    let month = bytes as f64 / GIB * budget.per_gib_month;
    Cost { month, limit: budget.month, alert_at: budget.alert_at }
}
