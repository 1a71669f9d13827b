//! The independent judge of finished plans: what may never be done, whoever planned it.
//!
//! It knows no planner: only the plan, the declaration and what it means (`spec`), and the inventory. A broken rule
//! withholds the deletions of that backup in that store, or the change of its provider, and nothing else; only a plan that is
//! malformed is refused whole.

mod approvals;
mod deletions;
mod providers;
mod shape;
mod sweeps;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

pub use approvals::may_approve;
pub use shape::Malformed;

use super::{Action, Limits, Plan, StepId, Withheld};
use crate::{
    artifact::{ArtifactId, approval::PlanHash},
    inventory::{Inventory, Lease, Observed, Reading, Standing, StoreInventory, StoredBackup},
    spec::{
        Spec,
        names::{BackupName, StoreName},
    },
};
use deletions::Judgement;

/// How far a store's clock may be from ours before nothing is deleted in any store.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(600);
/// The span in which deletions are counted, and that packs must be unreferenced before they go.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Judges `plan` as it would be applied at `now`: returns it without what breaks a rule, which stands in
/// [`Plan::withheld`] instead. Those that a person approved, where that makes up for the rule, stand in
/// [`Plan::approved`]. A plan that contradicts itself, or names what is neither declared nor found, is refused.
pub fn check(
    mut plan: Plan,
    spec: &Spec,
    inventory: &Inventory,
    limits: &Limits,
    now: Timestamp,
) -> Result<Plan, Malformed> {
    shape::check(&plan, spec, inventory)?;
    let world = World { spec, inventory, limits, now };
    let Judgement { mut broken, mut approved } = deletions::judge(&plan, &world);
    let of_providers = providers::judge(&plan, &world);
    broken.extend(of_providers.broken);
    approved.extend(of_providers.approved);
    broken.extend(sweeps::broken(&plan, &world));
    let removed = removed(&plan, &broken);
    let (removed, dragged) = with_dependents(&plan, removed);
    for broken in broken.into_iter().chain(dragged) {
        let withheld = broken.withheld();
        if !plan.withheld.contains(&withheld) {
            plan.withheld.push(withheld);
        }
    }
    plan.approved = approved;
    plan.steps.retain(|step| !removed.contains(&step.id));
    for step in &mut plan.steps {
        step.after.retain(|id| !removed.contains(id));
    }
    Ok(plan)
}

/// Takes every deletion of an artifact out of a plan, and every change that has a provider keep less, for a reason that lies outside
/// of the inventory.
pub fn withhold_deletions(mut plan: Plan, why: &str) -> Plan {
    let lost = |action: &Action| match action {
        Action::Delete { backup, store, .. } => Some((backup.clone(), Some(store.clone()))),
        Action::Protect(protect) if protect.loses() => Some((protect.backup.clone(), None)),
        _ => None,
    };
    let taken: BTreeSet<StepId> =
        plan.steps.iter().filter(|step| lost(&step.action).is_some()).map(|step| step.id).collect();
    let pairs: BTreeSet<(BackupName, Option<StoreName>)> =
        plan.steps.iter().filter_map(|step| lost(&step.action)).collect();
    let withheld = |(backup, store)| Withheld::by_rule(backup, store, "revision", why);
    plan.withheld.extend(pairs.into_iter().map(withheld));
    plan.approved.clear();
    plan.steps.retain(|step| !taken.contains(&step.id));
    for step in &mut plan.steps {
        step.after.retain(|id| !taken.contains(id));
    }
    plan
}

/// What rules are judged by.
struct World<'a> {
    spec: &'a Spec,
    inventory: &'a Inventory,
    limits: &'a Limits,
    now: Timestamp,
}

/// A broken rule.
struct Broken {
    backup: BackupName,
    /// None where it is about a provider.
    store: Option<StoreName>,
    rule: &'static str,
    reason: String,
    reach: Reach,
}

/// What a broken rule takes out of a plan.
enum Reach {
    /// Every deletion of an artifact of the backup in the store; these, where they can be told.
    Deletions(Option<Kept>),
    /// One sweep, or one clean-up, in a store or with a provider.
    Step(StepId),
    /// One change of a provider, which a person may approve under this name.
    Provider(StepId, PlanHash),
}

/// What stays because of a broken rule.
struct Kept {
    plan: PlanHash,
    approvable: bool,
    artifacts: Vec<ArtifactId>,
}

impl Broken {
    fn withheld(self) -> Withheld {
        let (plan, approvable, artifacts) = match self.reach {
            Reach::Deletions(Some(kept)) => (Some(kept.plan), kept.approvable, kept.artifacts),
            Reach::Provider(_, plan) => (Some(plan), true, Vec::new()),
            Reach::Deletions(None) | Reach::Step(_) => (None, false, Vec::new()),
        };
        Withheld {
            backup: self.backup,
            store: self.store,
            rule: self.rule.to_owned(),
            reason: self.reason,
            plan,
            approvable,
            artifacts,
        }
    }
}

impl<'a> World<'a> {
    /// What a store holds of a backup.
    fn stored(&self, inventory: &'a StoreInventory, backup: &BackupName) -> Option<&'a StoredBackup> {
        inventory.of(backup, &self.spec.moved)
    }

    /// The content of a store that can be believed; otherwise why it can't.
    fn store(&self, name: &StoreName) -> Result<&'a StoreInventory, String> {
        match self.inventory.stores.get(name) {
            Some(Observed::Known(StoreInventory { standing: Standing::Refused(why), .. })) => {
                Err(format!("store {name} is refused: {why}"))
            }
            Some(Observed::Known(store)) => Ok(store),
            Some(Observed::Unknown(why)) => Err(format!("store {name} is unknown: {why}")),
            None => Err(format!("store {name} was not looked at")),
        }
    }

    /// Why ages can't be told anywhere: a store's clock is too far from ours.
    fn clocks_apart(&self) -> Option<String> {
        self.inventory.stores.iter().find_map(|(name, store)| {
            let apart = store.known()?.clock.duration_since(self.now).unsigned_abs();
            (apart > CLOCK_TOLERANCE)
                .then(|| format!("the clock of store {name} and ours are {}s apart", apart.as_secs()))
        })
    }

    /// Whether what an earlier pass of ours left in a store has this name.
    fn is_interrupted(&self, backup: &BackupName, store: &StoreName, id: ArtifactId) -> bool {
        let folder = self.spec.moved.folder(backup);
        self.inventory.interrupted.iter().any(|i| i.is(&folder, store, id))
    }

    /// Captures, copies and repairs under way, whose leases tell the epochs that they may reuse packs of.
    fn leased<'b>(
        &self,
        backup: &BackupName,
        store: &StoreName,
        stored: &'b StoredBackup,
        now: Timestamp,
    ) -> Vec<(ArtifactId, &'b Lease)> {
        let live = stored.leases.iter().filter(|(id, lease)| {
            lease.until > now && stored.artifact(**id).is_none() && !self.is_interrupted(backup, store, **id)
        });
        live.map(|(id, lease)| (*id, lease)).collect()
    }

    /// Restores and checks under way, whose leases tell what they read.
    fn read<'b>(
        &self,
        backup: &BackupName,
        store: &StoreName,
        stored: &'b StoredBackup,
        now: Timestamp,
    ) -> Vec<(ArtifactId, &'b Reading)> {
        let live = stored
            .readings
            .iter()
            .filter(|(id, reading)| reading.until > now && !self.is_interrupted(backup, store, **id));
        live.map(|(id, reading)| (*id, reading)).collect()
    }
}

/// The backup and the store of an artifact's deletion.
fn pair(action: &Action) -> Option<(&BackupName, &StoreName)> {
    match action {
        Action::Delete { backup, store, .. } => Some((backup, store)),
        _ => None,
    }
}

fn removed(plan: &Plan, broken: &[Broken]) -> BTreeSet<StepId> {
    let pairs: BTreeSet<(&BackupName, &StoreName)> = broken
        .iter()
        .filter(|b| matches!(b.reach, Reach::Deletions(_)))
        .filter_map(|b| Some((&b.backup, b.store.as_ref()?)))
        .collect();
    let steps = broken.iter().filter_map(|b| match b.reach {
        Reach::Step(id) | Reach::Provider(id, _) => Some(id),
        Reach::Deletions(_) => None,
    });
    let deletions = plan.steps.iter().filter(|s| pair(&s.action).is_some_and(|pair| pairs.contains(&pair)));
    deletions.map(|s| s.id).chain(steps).collect()
}

/// Adds the deletions that wait for one that was taken out: without it they would come too early. Whatever else waits
/// for one goes ahead.
fn with_dependents(plan: &Plan, mut removed: BTreeSet<StepId>) -> (BTreeSet<StepId>, Vec<Broken>) {
    let mut dragged: BTreeMap<(BackupName, StoreName), Broken> = BTreeMap::new();
    // Steps stand behind all that they wait for, so one look suffices.
    for step in &plan.steps {
        let Some((backup, store)) = pair(&step.action) else { continue };
        if removed.contains(&step.id) || step.after.is_disjoint(&removed) {
            continue;
        }
        removed.insert(step.id);
        let (backup, store) = (backup.clone(), store.clone());
        dragged.entry((backup.clone(), store.clone())).or_insert_with(|| Broken {
            backup,
            store: Some(store),
            rule: "dependents-first",
            reason: "a deletion that has to come first is withheld".to_owned(),
            reach: Reach::Step(step.id),
        });
    }
    (removed, dragged.into_values().collect())
}
