//! A commit after a pass that left nothing to do: what it touches is planned for by itself, and everything else stays as that
//! pass left it.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Controller, Pass, PassError, desired::Desired, pass::Begun, settled::Settled, under_way::UnderWay,
};
use crate::{
    inventory::Inventory,
    observe::seen::Seen,
    plan::{self, Plan, part::Part, readers::readers},
    status::{Status, StoreState},
};

/// A pass that has to plan for a part of the fleet only.
#[derive(Clone)]
pub(super) struct Touched {
    part: Part,
    /// What the last pass left of everything.
    before: Arc<Settled>,
}

impl Touched {
    /// What `desired` touches of what the last pass settled; `None` where that may be anything.
    fn by(desired: &Desired, before: Arc<Settled>) -> Option<Self> {
        let known = &before.desired;
        let approves_alike = known.by_commit == desired.by_commit;
        let is_in_force = |desired: &Desired| desired.obstacle.is_none() && desired.stands_in_for.is_none();
        if !approves_alike || !is_in_force(known) || !is_in_force(desired) || !is_plain(&before.pass) {
            return None;
        }
        let part = Part::touched(&known.spec, &desired.spec)?.and_infra();
        let claimed = before.pass.plan.cannot_run.iter().filter(|cannot| part.may_have(&cannot.resource));
        let others = before.pass.status.backups.keys().filter(|name| !part.has(name)).cloned();
        let others = Part::of(others);
        // Of whom such a resource is, its name does not tell.
        let is_ambiguous = claimed.into_iter().any(|cannot| others.may_have(&cannot.resource));
        (!is_ambiguous).then_some(Self { part, before })
    }

    /// Whether nothing else has come to be due.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        self.before.holds(now)
    }
}

/// Whether nothing in what a pass left goes from one backup to another.
fn is_plain(pass: &Pass) -> bool {
    let (plan, drift) = (&pass.plan, &pass.status.drift);
    let usable = |state: &StoreState| matches!(state, StoreState::Ready | StoreState::Empty);
    plan.withheld.is_empty()
        && plan.approved.is_empty()
        && drift.drifts.is_empty()
        && drift.unseen.is_empty()
        && pass.status.stores.values().all(|store| usable(&store.state))
}

impl Controller {
    /// Goes on with what the newest revision touches, where `settled` still is how everything else stands.
    pub(super) fn go_by_what_is_touched(&self, pass: &mut UnderWay<'_>, settled: Option<Arc<Settled>>) {
        let (Some(settled), Some(desired)) = (settled, &pass.desired) else { return };
        pass.touched = Touched::by(desired, settled).filter(|touched| touched.holds(self.now()));
    }

    /// The plan of everything that is declared, checked: in proportion to what was touched, where nothing else changed.
    pub(super) fn planned_of_all(
        &self,
        pass: &UnderWay<'_>,
        desired: &Desired,
        inventory: &Inventory,
    ) -> Result<Plan, PassError> {
        match &pass.touched {
            None => self.planned(&super::Ask::Everything, desired, inventory),
            Some(Touched { part, before }) => {
                let of_part = self.planned_of(part, desired, inventory)?;
                Ok(part.plan_beside(&before.pass.plan, of_part))
            }
        }
    }

    /// What was begun, with what it means, as [`Controller::described`] tells it of everything.
    pub(super) fn described_beside(
        &self,
        Touched { part, before }: &Touched,
        begun: Begun,
        desired: &Desired,
        left: &Plan,
        seen: &Seen,
    ) -> Pass {
        let (spec, now) = (part.spec(&desired.spec), self.now());
        let inventory = part.inventory(&seen.inventory, &desired.spec.moved);
        let limits = self.limits(&Desired { spec: Arc::new(spec.clone()), ..desired.clone() });
        let of_part = Status::of(&spec, &inventory, &limits, left, self.revisions(desired), now);
        let next_due = plan::next_due(&spec, &inventory, &limits, now);
        let next_due = next_due.into_iter().chain(before.pass.next_due).min();
        // Whom a reader is for, all that is declared says.
        let readers = readers(&desired.spec, &seen.inventory, &self.limits(desired), now);
        Pass::of(begun, desired, of_part.beside(&before.pass.status, part), readers, next_due)
    }
}
