//! Taking the planned steps, and then those that follow from what they made.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;

use super::{
    Ask, Controller, Extent, PassError,
    desired::Desired,
    hand::Hand,
    pass::{Begun, only},
};
use crate::{
    apply::{
        executor::{Outcome, execute},
        world::{Announcements, Deeds, World},
    },
    artifact::record::Event,
    git::stored::StoredTips,
    inventory::{Inventory, Observed},
    observe::{Freshness, seen::Seen},
    plan::Action,
    spec::{
        Spec,
        names::{BackupName, StoreName},
    },
};

/// How often a pass plans on what its own steps made. Captures, their copies, their checks: three; and one to spare.
const MOST_ROUNDS: usize = 4;

impl Controller {
    /// Backs up the infra repo before anything else, on the strength of what was seen before: a bundle and a push only
    /// add. Without any earlier look the pass itself begins with it.
    pub(super) async fn back_up_infra_first(
        &self,
        hand: &Hand,
        desired: &Arc<Desired>,
        seen: &mut Seen,
    ) -> Result<Option<Begun>, PassError> {
        if seen.inventory.stores.is_empty() {
            return Ok(None);
        }
        self.look(seen, &desired.spec, Vec::new(), Freshness::AsSeen).await;
        let plan = only(self.planned(&Ask::Everything, desired, seen)?, |action| match action {
            Action::Capture(capture) => capture.backup.is_infra(),
            Action::Push { .. } => true,
            _ => false,
        });
        let mut begun = Begun::of(plan, Extent::Fleet, None);
        self.carry_out(hand, desired, seen, &mut begun).await;
        Ok(Some(begun))
    }

    /// Takes the planned steps, and then those that only follow from what they made, such as copies of a new artifact.
    /// What failed is left to a later pass.
    pub(super) async fn carry_out_in_rounds(
        &self,
        hand: &Hand,
        ask: &Ask,
        desired: &Arc<Desired>,
        seen: &mut Seen,
        begun: &mut Begun,
    ) -> Result<(), PassError> {
        for _ in 0..MOST_ROUNDS {
            self.carry_out(hand, desired, seen, begun).await;
            if seen.has_forgotten(desired.spec.stores.keys()) {
                let as_kept_up = Freshness::Within(Duration::MAX);
                self.look(seen, &desired.spec, hand.interrupted(), as_kept_up).await;
            }
            let next = match ask {
                Ask::Everything => self.planned(&Ask::Everything, desired, seen)?,
                Ask::Backup(requests, _) => {
                    let asked = |name: &BackupName| requests.iter().any(|request| request.backup == *name);
                    only(
                        self.planned(&Ask::Everything, desired, seen)?,
                        |action| matches!(action, Action::Copy { backup, .. } if asked(backup)),
                    )
                }
                _ => return Ok(()),
            };
            if hand.halt.begins_nothing() || !begun.go_on_with(next) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the steps that were not taken yet, and keeps up with what they did.
    pub(super) async fn carry_out(
        &self,
        hand: &Hand,
        desired: &Arc<Desired>,
        seen: &mut Seen,
        begun: &mut Begun,
    ) {
        let plan = begun.not_taken();
        let inventory = Arc::new(std::mem::take(&mut seen.inventory));
        let world = Arc::new(World {
            spec: desired.spec.clone(),
            revision: desired.revision.id.clone(),
            inventory: inventory.clone(),
            deletions: Announcements::of(&plan),
            stores: self.looks(&desired.spec).await,
            mirrors: self.config.allow.mirrors.clone(),
            drivers: self.drivers.clone(),
            mirror: self.mirror.clone(),
            tips: StoredTips::new(self.state.root()),
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            listener: hand.listener.clone(),
            deeds: Deeds::default(),
        });
        let (effects, listener) = (world.clone(), hand.listener.clone());
        let outcomes =
            execute(&plan, &self.bounds, effects, hand.journal.clone(), listener, &hand.halt).await;
        let (events, changes) = (world.deeds.events(), world.deeds.changes());
        drop(world);
        seen.inventory = Arc::unwrap_or_clone(inventory);
        let now = self.clock.now();
        for (store, backup, change) in changes {
            seen.apply(&store, &backup, change, now);
        }
        begun.outcomes.extend(outcomes);
        begun.events.extend(events);
        self.keep_up(&mut seen.inventory, begun);
    }

    /// Keeps up with what the steps did outside of stores.
    pub(super) fn keep_up(&self, inventory: &mut Inventory, begun: &Begun) {
        if let Ok(armed) = self.drivers.scheduler().list() {
            inventory.armed = armed;
        }
        let Some(infra) = &mut inventory.infra else { return };
        for step in &begun.plan.steps {
            if let (Action::Push { mirror }, Some(Outcome::Done(_))) =
                (&step.action, begun.outcomes.get(&step.id))
            {
                let position = Observed::Known(infra.position.clone());
                infra.mirrors.insert(mirror.clone(), position);
            }
        }
    }

    /// Writes into the stores what must outlive the controller; returns what could not be written.
    pub(super) async fn record(
        &self,
        events: BTreeMap<StoreName, Vec<Event>>,
        spec: &Spec,
        seen: &mut Seen,
    ) -> Vec<String> {
        let looks = self.looks(spec).await;
        let now = self.clock.now();
        let appended = events.into_iter().filter_map(|(store, events)| {
            let records = looks.get(&store)?.as_ref().ok()?.records();
            let siblings = seen.siblings(&store);
            Some(async move { (store, records.append_knowing(&self.keys, now, events, siblings).await) })
        });
        let mut faults = Vec::new();
        for (store, appended) in join_all(appended.collect::<Vec<_>>()).await {
            match appended {
                Ok(record) => seen.recorded(&store, &record),
                Err(error) => faults.push(error.to_string()),
            }
        }
        faults
    }
}
