//! What Backstay made and how it left it: read before a look, and remembered after each round that changed something.

use std::collections::BTreeSet;

use super::{Ask, Controller, under_way::UnderWay};
use crate::{
    config::Schedules,
    inventory::Made,
    observe::{Freshness, seen::Seen},
};

impl Controller {
    /// What this host remembers. What was read before is good enough where what was seen is.
    pub(super) fn made(&self, seen: &Seen, freshness: Freshness) -> Made {
        let before = &seen.inventory.made;
        match freshness {
            Freshness::Within(_) | Freshness::AsSeen if *before != Made::default() => before.clone(),
            _ => self.state.made(),
        }
    }

    /// Remembers what was made, where that is anything new. That it can't is no reason to fail: what is not remembered is
    /// taken as it is found.
    pub(super) fn remember_what_was_made(&self, pass: &UnderWay<'_>, seen: &mut Seen) {
        let Some(desired) = pass.desired.as_ref().filter(|_| !matches!(pass.ask, Ask::Restore(_))) else {
            return;
        };
        let asked = match pass.ask {
            Ask::Heal(named) => named.iter().filter_map(|named| desired.spec.healable(named).ok()).collect(),
            _ => BTreeSet::new(),
        };
        let before = &seen.inventory.made;
        let made = before.after(&desired.spec, &seen.inventory, &asked, self.clock.now());
        if made == *before {
            return;
        }
        if let Err(error) = self.state.set_made(&made) {
            tracing::warn!(%error, "what was made is not remembered");
        }
        seen.inventory.made = made;
    }

    /// The scheduler in use, by what decides how its schedules read: another version may write them otherwise.
    pub(super) fn scheduled_by(&self) -> String {
        match &self.config.schedules {
            Schedules::Controller => "controller".to_owned(),
            outside => format!("{outside:?}, version {}", env!("CARGO_PKG_VERSION")),
        }
    }
}
