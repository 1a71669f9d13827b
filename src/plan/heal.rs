//! Healing: which steps put back what drifted. They say so, wait where the declaration wants a person's word, and go easy
//! where something undoes them again and again. Nothing is ever deleted to heal.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Action, Limits, Plan, Step, StepId, draft::Draft, facts::Facts, plan};
use crate::{
    drift::{Drift, Heals, Kind, Thing, drift},
    inventory::{Healed, Inventory, Observed, StoredArtifact},
    spec::{Healable, Spec, Undeclared, names::StoreName},
};

/// What becomes of something that drifted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// A step of the plan heals it.
    Now(String),
    /// It is left alone until a person asks for it: whose declaration says so.
    LeftAlone(Healable),
    /// It was healed again and again, and is healed once more at that moment.
    Later(Timestamp),
    /// Nothing heals it, or not yet.
    Nothing,
}

/// What drifted, by what heals it.
struct Index<'a> {
    spec: &'a Spec,
    inventory: &'a Inventory,
    drifts: BTreeMap<&'a Thing, &'a Drift>,
}

impl<'a> Index<'a> {
    fn of(drifts: &'a [Drift], spec: &'a Spec, inventory: &'a Inventory) -> Self {
        Self { spec, inventory, drifts: drifts.iter().map(|drift| (&drift.thing, drift)).collect() }
    }

    fn get(&self, thing: Thing) -> Option<&'a Drift> {
        self.drifts.get(&thing).copied()
    }

    /// What a step that does this puts back.
    fn healed_by(&self, action: &Action) -> Option<&'a Drift> {
        match action {
            Action::Copy { backup, artifact, from, to } => {
                let content = self.inventory.stores.get(from).and_then(Observed::known);
                let content =
                    content.and_then(|store| store.of(backup, &self.spec.moved)?.artifact(*artifact));
                let names = [Some(*artifact), content.map(StoredArtifact::content)];
                let gone = names.into_iter().flatten().find_map(|artifact| {
                    self.get(Thing::Artifact { backup: backup.clone(), artifact, store: to.clone() })
                });
                gone.or_else(|| self.emptied(to))
            }
            Action::Repair { backup, artifact, store, .. } => self.get(Thing::Artifact {
                backup: backup.clone(),
                artifact: *artifact,
                store: store.clone(),
            }),
            // Bundles are not copied: the next one takes the place of all that were lost.
            Action::Capture(capture) if capture.backup.is_infra() => {
                let lost = |thing: &Thing| match thing {
                    Thing::Artifact { backup, store, .. } => {
                        *backup == capture.backup && *store == capture.store
                    }
                    _ => false,
                };
                let lost = self.drifts.iter().find(|(thing, _)| lost(thing)).map(|(_, drift)| *drift);
                lost.or_else(|| self.emptied(&capture.store))
            }
            Action::Arm(schedule) => self.get(Thing::Schedule(schedule.clone())),
            Action::Push { mirror } => self.get(Thing::Mirror(mirror.clone())),
            Action::Protect(protect) => self.get(Thing::Provider(protect.backup.clone())),
            _ => None,
        }
    }

    fn emptied(&self, store: &StoreName) -> Option<&'a Drift> {
        self.get(Thing::Store(store.clone())).filter(|drift| drift.kind == Kind::StoreEmptied)
    }
}

/// Says of steps that they heal, and takes out those that are not to be taken now.
pub(super) fn go_easy(facts: &Facts<'_>, draft: &mut Draft) {
    let found = drift(facts.spec, facts.inventory);
    if found.drifts.is_empty() {
        return;
    }
    let (index, heals) =
        (Index::of(&found.drifts, facts.spec, facts.inventory), facts.inventory.heals(facts.now));
    for step in &mut draft.steps {
        if let Some(drift) = index.healed_by(&step.action) {
            step.reason = reason(drift, &step.reason);
        }
    }
    let waits = |action: &Action| {
        let drift = index.healed_by(action)?;
        Some((drift.subject.clone(), wait(facts, drift, heals.get(&drift.healed()))?))
    };
    // What heals one thing in many steps waits once.
    let waiting: BTreeMap<String, Wait> =
        draft.take_out(waits).into_iter().map(|(_, waiting)| waiting).collect();
    for (subject, Wait { on, until }) in waiting {
        draft.wait(format!("healing of {subject}"), on, until);
    }
}

/// Why a step that heals `drift` is taken; `otherwise`: as it would be without any drift.
fn reason(drift: &Drift, otherwise: &str) -> String {
    match drift.kind {
        Kind::ArtifactGone => format!("{} from {}", drift.found, store_of(&drift.thing)),
        Kind::ScheduleChanged => format!("changed by hand: {}", drift.found),
        Kind::ScheduleGone => "removed by hand".to_owned(),
        Kind::MirrorMoved => format!("somebody moved it: {}", drift.found),
        Kind::StoreEmptied => format!("{}: {otherwise}", drift.found),
        Kind::ProviderChanged => format!("somebody set it otherwise: {}; {otherwise}", drift.found),
        Kind::ArtifactDamaged
        | Kind::ArtifactUntrusted
        | Kind::StoreRefused
        | Kind::StoreRules
        | Kind::ScheduleStranger => otherwise.to_owned(),
    }
}

fn store_of(thing: &Thing) -> &str {
    match thing {
        Thing::Artifact { store, .. } | Thing::Store(store) => store.as_str(),
        Thing::Rule { store, .. } => store.as_str(),
        Thing::Schedule(_) | Thing::Place(_) | Thing::Mirror(_) | Thing::Provider(_) => "its place",
    }
}

/// What keeps a step that heals from being taken now.
struct Wait {
    on: String,
    until: Option<Timestamp>,
}

fn wait(facts: &Facts<'_>, drift: &Drift, heals: Option<&Heals>) -> Option<Wait> {
    if drift.resources.iter().any(|resource| facts.limits.heal.contains(resource)) {
        return None;
    }
    if let Some(resource) = drift.left_alone_by(facts.spec) {
        let on = format!(
            "it drifted ({}), and self-heal of {resource} is off: `backstay apply --heal {resource}` heals it once",
            drift.found
        );
        return Some(Wait { on, until: None });
    }
    let again = later(heals, facts.now)?;
    let on = format!("{}: something undoes it", told(heals?));
    Some(Wait { on, until: Some(again) })
}

/// When something that was healed too often is healed again.
fn later(heals: Option<&Heals>, now: Timestamp) -> Option<Timestamp> {
    heals?.again_at().filter(|at| *at > now)
}

/// For people: `healed 4 times in 24 hours`.
pub(crate) fn told(heals: &Heals) -> String {
    format!("healed {} times within 24 hours", heals.count())
}

/// What becomes of each of `drifts`, by a plan that was made for the same moment.
pub fn outlooks(
    spec: &Spec,
    inventory: &Inventory,
    plan: &Plan,
    drifts: &[Drift],
    now: Timestamp,
) -> Vec<Outlook> {
    let (index, heals) = (Index::of(drifts, spec, inventory), inventory.heals(now));
    let mut steps: BTreeMap<&Thing, &Step> = BTreeMap::new();
    for step in &plan.steps {
        if let Some(drift) = index.healed_by(&step.action) {
            steps.entry(&drift.thing).or_insert(step);
        }
    }
    let outlook = |drift: &Drift| match (steps.get(&drift.thing), drift.left_alone_by(spec)) {
        (Some(step), _) => Outlook::Now(step.action.to_string()),
        (None, Some(resource)) => Outlook::LeftAlone(resource.clone()),
        (None, None) => later(heals.get(&drift.healed()), now).map_or(Outlook::Nothing, Outlook::Later),
    };
    drifts.iter().map(outlook).collect()
}

/// What each of `steps` heals, for the records.
pub fn healed<'a>(
    spec: &Spec,
    inventory: &Inventory,
    steps: impl IntoIterator<Item = &'a Step>,
) -> BTreeMap<StepId, Healed> {
    let found = drift(spec, inventory);
    let index = Index::of(&found.drifts, spec, inventory);
    let healed = |step: &'a Step| Some((step.id, index.healed_by(&step.action)?.healed()));
    steps.into_iter().filter_map(healed).collect()
}

/// What heals these resources now, whatever the declaration says of their self-heal, and nothing else.
///
/// # Errors
/// When one of them is not declared.
pub fn heal(
    spec: &Spec,
    inventory: &Inventory,
    limits: &Limits,
    resources: &BTreeSet<Healable>,
    now: Timestamp,
) -> Result<Plan, Undeclared> {
    let resources: BTreeSet<Healable> =
        resources.iter().map(|named| spec.healable(named)).collect::<Result<_, _>>()?;
    let limits = Limits { heal: resources.clone(), ..limits.clone() };
    let mut plan = plan(spec, inventory, &limits, now);
    let found = drift(spec, inventory);
    let index = Index::of(&found.drifts, spec, inventory);
    let asked = |drift: &Drift| drift.resources.iter().any(|resource| resources.contains(resource));
    let mut wanted: BTreeSet<StepId> = BTreeSet::new();
    // A step stands behind all that it waits for.
    for step in plan.steps.iter().rev() {
        if wanted.contains(&step.id) || index.healed_by(&step.action).is_some_and(asked) {
            wanted.insert(step.id);
            wanted.extend(&step.after);
        }
    }
    plan.steps.retain(|step| wanted.contains(&step.id));
    plan.waiting.clear();
    plan.withheld.clear();
    plan.cannot_run.clear();
    Ok(plan)
}
