//! The rounds of a pass: look, plan, add what may be begun. The steps run on meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;

use super::{
    Ask, Controller, Pass, PassError,
    desired::Desired,
    events,
    line::{Reply, Wanted},
    lock,
    pass::{Begun, only},
    settled::{Fetched, Settled},
    under_way::{Occasion, UnderWay},
};
use crate::{
    apply::{
        executor::Effects,
        world::{Announcements, World},
    },
    archive,
    artifact::record::Event,
    git::stored::StoredTips,
    inventory::{Interrupted, Inventory, Observed, StoreInventory},
    observe::{Freshness, armed, seen::Seen},
    plan::{Action, Plan, heal, part::Part},
    spec::{
        Moves, Spec,
        names::{BackupName, FolderName, StoreName},
    },
};

/// How often a round looks again at what its steps left unclear meanwhile.
const MOST_LOOKS: usize = 3;

impl Controller {
    /// One round of a pass: what has ended is taken note of, what may be begun now is begun, and how everything stands is
    /// told. `settled` is what the last pass left, where nothing but the revision may have changed since.
    pub(super) async fn round(
        &self,
        pass: &mut UnderWay<'_>,
        mut occasion: Occasion,
        settled: Option<Arc<Settled>>,
    ) -> Result<Pass, PassError> {
        let mut seen = self.seen.lock().await;
        pass.begin_round(&mut occasion);
        pass.touched = pass.touched.take().filter(|touched| touched.holds(self.now()));
        self.keep_up(pass, &mut seen).await;
        if let Some(freshness) = occasion.freshness() {
            if occasion.is_commit() {
                pass.execution.pause();
            }
            let gone_by = self.go_by_newest_revision(pass).await;
            pass.execution.resume();
            gone_by?;
            self.go_by_what_is_touched(pass, settled);
            self.back_up_infra_first(pass, &mut seen).await?;
            self.arm_what_is_touched(pass, &seen).await?;
            let interrupted = pass.hand.interrupted();
            self.look_meanwhile(pass, &mut seen, freshness, interrupted).await;
        }
        self.look_at_what_is_forgotten(pass, &mut seen).await;
        let plan = self.begin_what_is_due(pass, &seen, &occasion).await?;
        self.begin_what_is_wanted(pass, &seen).await?;
        self.record_events(pass, &mut seen).await;
        self.remember_what_was_made(pass, &mut seen);
        pass.answer();
        self.concluded(pass, &plan, &seen)
    }

    /// Fetches and finds the revision that is planned for from now on. What waits to begin was planned for another one, and
    /// is taken back; what runs goes on.
    async fn go_by_newest_revision(&self, pass: &mut UnderWay<'_>) -> Result<(), PassError> {
        pass.unreachable = match pass.fetched.take() {
            Some(Fetched(unreachable)) => unreachable,
            None => UnderWay::meanwhile(&mut pass.execution, self.fetch()).await,
        };
        let desired = UnderWay::meanwhile(&mut pass.execution, self.desired()).await?;
        self.keep_in_force(&desired)?;
        for fault in archive::keep(&self.state.readers(), &desired.spec) {
            tracing::error!(%fault, "a server's log is not archived here");
        }
        if let Some(before) = pass.desired.clone().filter(|before| before.revision.id != desired.revision.id)
        {
            pass.withdraw();
            pass.note_renames(&before.spec.moved, &desired.spec.moved);
        }
        pass.desired = Some(desired);
        Ok(())
    }

    /// Backs up the infra repo before anything else, on the strength of what was seen before: a bundle and a push only
    /// add. Without any earlier look the pass itself begins with it.
    async fn back_up_infra_first(&self, pass: &mut UnderWay<'_>, seen: &mut Seen) -> Result<(), PassError> {
        let Some(desired) = pass.desired.clone() else { return Ok(()) };
        if !matches!(pass.ask, Ask::Everything) || seen.inventory.stores.is_empty() {
            return Ok(());
        }
        self.look_meanwhile(pass, seen, Freshness::AsSeen, Vec::new()).await;
        let plan = self.planned_of(&Part::infra(), &desired, &seen.inventory)?;
        let adds = |action: &Action| matches!(action, Action::Capture(_) | Action::Push { .. });
        self.begin(pass, &desired, seen, only(plan, adds), None).await
    }

    /// Arms what this revision schedules otherwise than the one that was planned for last, while the rest of the fleet is
    /// still to be looked at and planned for.
    async fn arm_what_is_touched(&self, pass: &mut UnderWay<'_>, seen: &Seen) -> Result<(), PassError> {
        let Some(desired) = pass.desired.clone() else { return Ok(()) };
        let before = lock(&self.planned_for).clone();
        let before = before.filter(|before| !Arc::ptr_eq(before, &desired));
        let touched = before.and_then(|before| Part::touched(&before.spec, &desired.spec));
        let Some(part) = touched.filter(|_| matches!(pass.ask, Ask::Everything)) else { return Ok(()) };
        let plan = self.planned_of(&part, &desired, &seen.inventory)?;
        let arms = |action: &Action| matches!(action, Action::Arm(_) | Action::Disarm(_));
        self.begin(pass, &desired, seen, only(plan, arms), None).await
    }

    async fn look_meanwhile(
        &self,
        pass: &mut UnderWay<'_>,
        seen: &mut Seen,
        freshness: Freshness,
        interrupted: Vec<Interrupted>,
    ) {
        let Some(desired) = pass.desired.clone() else { return };
        let (own, ask) = (pass.hand.under_way(), pass.ask);
        let looking = async {
            self.look(seen, &desired.spec, interrupted, freshness).await;
            self.look_at_machines(seen, &desired, freshness, ask).await;
        };
        UnderWay::meanwhile(&mut pass.execution, looking).await;
        for own in own.iter().chain(&pass.hand.under_way()) {
            seen.leave_out(own);
        }
        // What the steps did meanwhile may not be in what was listed.
        self.keep_up(pass, seen).await;
    }

    /// Looks again at stores of which a step of ours left unclear what they hold.
    async fn look_at_what_is_forgotten(&self, pass: &mut UnderWay<'_>, seen: &mut Seen) {
        let Some(desired) = pass.desired.clone() else { return };
        // What ends while one store is listed may leave another one unclear; in the end one of them waits for the next round.
        for _ in 0..MOST_LOOKS {
            if !seen.has_forgotten(desired.spec.stores.keys()) {
                return;
            }
            // What is listed anew may show anything.
            pass.touched = None;
            let interrupted = pass.hand.interrupted();
            self.look_meanwhile(pass, seen, Freshness::Within(Duration::MAX), interrupted).await;
        }
    }

    /// Begins what of the plan for now can be begun beside what is under way. Returns that plan: all that is left to do.
    async fn begin_what_is_due(
        &self,
        pass: &mut UnderWay<'_>,
        seen: &Seen,
        occasion: &Occasion,
    ) -> Result<Plan, PassError> {
        let desired = pass.desired.clone().ok_or_else(|| PassError::Broken("no revision".to_owned()))?;
        if matches!(occasion, Occasion::Begin(_)) {
            let plan = self.planned(pass.ask, &desired, &seen.inventory)?;
            self.begin(pass, &desired, seen, plan.clone(), None).await?;
            return match pass.ask {
                Ask::Everything | Ask::Exactly(_) | Ask::Agreed(_) => Ok(plan),
                _ => self.planned(&Ask::Everything, &desired, &seen.inventory),
            };
        }
        let plan = self.planned_of_all(pass, &desired, &seen.inventory)?;
        *lock(&self.planned_for) = Some(desired.clone());
        match pass.ask {
            Ask::Everything | Ask::Agreed(_) => self.begin(pass, &desired, seen, plan.clone(), None).await?,
            Ask::Backup(requests, _) => {
                let asked = |name: &BackupName| requests.iter().any(|request| request.backup == *name);
                let copies = only(
                    plan.clone(),
                    |action| matches!(action, Action::Copy { backup, .. } if asked(backup)),
                );
                self.begin(pass, &desired, seen, copies, None).await?;
            }
            Ask::Due(names) => {
                let due = self.planned(&Ask::Due(names.clone()), &desired, &seen.inventory)?;
                self.begin(pass, &desired, seen, due, None).await?;
            }
            Ask::Exactly(_)
            | Ask::Verify(..)
            | Ask::Repair(_)
            | Ask::Heal(_)
            | Ask::Restore(_)
            | Ask::Drill(_)
            | Ask::Recover(_) => {}
        }
        Ok(plan)
    }

    /// Begins what persons asked for meanwhile, unless another capture of the same backup is under way.
    async fn begin_what_is_wanted(&self, pass: &mut UnderWay<'_>, seen: &Seen) -> Result<(), PassError> {
        let Some(desired) = pass.desired.clone() else { return Ok(()) };
        if !pass.may_begin() {
            return Ok(());
        }
        for wanted in std::mem::take(&mut pass.wanted) {
            // A command that has gone away is not told.
            let say = |reply| drop(wanted.replies.send(reply));
            if let Some(backup) = pass.must_wait(&wanted.requests) {
                say(Reply::Waits(format!("waiting for the capture of {backup} under way")));
                pass.wanted.push(wanted);
                continue;
            }
            let ask = Ask::Backup(wanted.requests.clone(), wanted.keep.clone());
            match self.planned(&ask, &desired, &seen.inventory) {
                Ok(plan) if pass.addable(plan.clone()).steps.len() < plan.steps.len() => {
                    say(Reply::Waits("waiting for what is under way in its store".to_owned()));
                    pass.wanted.push(wanted);
                }
                Ok(plan) => self.begin(pass, &desired, seen, plan, Some(wanted)).await?,
                Err(error) => say(Reply::Ended(vec![error.to_string()])),
            }
        }
        Ok(())
    }

    /// Begins those steps of `plan` that may be begun now.
    async fn begin(
        &self,
        pass: &mut UnderWay<'_>,
        desired: &Arc<Desired>,
        seen: &Seen,
        plan: Plan,
        wanted: Option<Wanted>,
    ) -> Result<(), PassError> {
        let number = plan.steps.len();
        let addable = if pass.may_begin() { pass.addable(plan.clone()) } else { emptied(plan.clone()) };
        // A part of a plan that was checked is judged as a plan of its own.
        let addable = match addable.steps.len() == number || addable.steps.is_empty() {
            true => addable,
            false => self.checked(addable, desired, &seen.inventory)?,
        };
        let (extent, unreachable) = (pass.extent(), pass.unreachable.clone());
        let begun = pass.begun.get_or_insert_with(|| Begun::of(emptied(plan.clone()), extent, None));
        begun.unreachable = unreachable;
        if wanted.is_none() {
            begun.go_by(&plan);
        }
        let steps = begun.add(addable.steps.clone());
        if !steps.is_empty() {
            pass.healing.extend(heal::healed(&desired.spec, &seen.inventory, &steps));
            let effects: Arc<dyn Effects> = Arc::new(self.world(pass, desired, seen, &addable).await);
            pass.execution.add(steps.clone(), &effects);
        }
        if let Ask::Backup(_, keep) = pass.ask
            && steps.iter().any(|step| matches!(step.action, Action::Capture(_)))
        {
            pass.serve(&steps, keep.clone(), None);
        }
        pass.note_added(&steps, wanted);
        Ok(())
    }

    async fn world(&self, pass: &UnderWay<'_>, desired: &Desired, seen: &Seen, plan: &Plan) -> World {
        World {
            spec: desired.spec.clone(),
            revision: desired.revision.id.clone(),
            inventory: about(&seen.inventory, plan, &desired.spec.moved),
            deletions: Announcements::of(plan, &desired.spec.moved),
            stores: self.looks(&desired.spec).await,
            mirrors: self.config.allow.mirrors.clone(),
            spools: self.state.readers(),
            ledger: self.ledger(),
            previews: self.previewed(),
            kennel: self.kennel.clone(),
            declared_in: self.config.repo.path.clone(),
            drivers: self.drivers.clone(),
            mirror: self.mirror.clone(),
            tips: StoredTips::new(self.state.root()),
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            chance: self.chance.clone(),
            listener: pass.hand.listener.clone(),
            deeds: pass.deeds.clone(),
        }
    }

    /// Keeps up with what the steps did.
    async fn keep_up(&self, pass: &mut UnderWay<'_>, seen: &mut Seen) {
        let now = self.clock.now();
        for (store, backup, change) in pass.deeds.changes() {
            seen.apply(&store, &backup, change, now);
        }
        if let Some(infra) = &mut seen.inventory.infra {
            for (mirror, position) in pass.deeds.pushed() {
                infra.moved.remove(&mirror);
                infra.mirrors.insert(mirror, Observed::Known(position));
            }
        }
        if let Some(desired) = &pass.desired
            && pass.deeds.has_rearmed()
        {
            let scheduler = self.drivers.scheduler(&desired.spec.fleet);
            seen.inventory.armed = armed(scheduler.as_ref(), &self.scheduled_by()).await;
        }
        for (store, record) in pass.deeds.records() {
            seen.recorded(&store, &record);
        }
        if let Some(desired) = &pass.desired
            && pass.deeds.has_touched_machines()
        {
            self.look_at_machines(seen, desired, Freshness::Now, pass.ask).await;
        }
        if let Some(desired) = &pass.desired
            && pass.deeds.has_touched_providers()
        {
            self.look_at_providers(seen, &desired.spec, Freshness::Now).await;
        }
        seen.forget_copies_but_of(&pass.hand.interrupted());
        pass.events.extend(pass.deeds.events());
        pass.note_ends();
    }

    /// Writes into the stores what must outlive the controller.
    async fn record_events(&self, pass: &mut UnderWay<'_>, seen: &mut Seen) {
        let Some(desired) = pass.desired.clone() else { return };
        if matches!(pass.ask, Ask::Restore(_)) {
            return;
        }
        let (happened, healed) = (std::mem::take(&mut pass.events), std::mem::take(&mut pass.healed));
        let events = events::to_record(happened, &healed, &desired, &seen.inventory);
        if events.is_empty() {
            return;
        }
        let recording = self.record(events, &desired.spec, seen);
        let faults = UnderWay::meanwhile(&mut pass.execution, recording).await;
        if let Some(begun) = &mut pass.begun {
            begun.unrecorded.extend(faults);
            begun.unrecorded.sort();
            begun.unrecorded.dedup();
        }
    }

    /// Appends events to the records of stores; returns what could not be written.
    async fn record(
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

/// The plan without any of its steps.
fn emptied(plan: Plan) -> Plan {
    Plan { steps: Vec::new(), ..plan }
}

/// What the steps of `plan` go by: what stores hold of the backups that they are about.
fn about(inventory: &Inventory, plan: &Plan, moved: &Moves) -> Inventory {
    let backups: BTreeSet<&BackupName> = plan.steps.iter().filter_map(|step| step.action.backup()).collect();
    let folders: BTreeSet<FolderName> = backups.iter().map(|backup| moved.folder(backup)).collect();
    let provided = inventory.provided.iter().filter(|(name, _)| backups.contains(name));
    let limited = |store: &StoreInventory| {
        let of_plan =
            folders.iter().filter_map(|name| Some((name.clone(), store.backups.get(name)?.clone())));
        StoreInventory {
            clock: store.clock,
            standing: store.standing.clone(),
            records: store.records.of_stores(),
            rules: Observed::default(),
            restore_page: store.restore_page,
            backups: of_plan.collect(),
            bytes: store.bytes,
        }
    };
    let stores = inventory.stores.iter().map(|(name, store)| {
        let store = match store {
            Observed::Known(store) => Observed::Known(limited(store)),
            Observed::Unknown(why) => Observed::Unknown(why.clone()),
        };
        (name.clone(), store)
    });
    Inventory {
        stores: stores.collect(),
        infra: inventory.infra.clone(),
        interrupted: inventory.interrupted.clone(),
        provided: provided.map(|(name, seen)| (name.clone(), seen.clone())).collect(),
        ..Inventory::default()
    }
}
