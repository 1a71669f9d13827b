//! What holds whatever the stores hold, whatever is declared, and whatever is planned.

use std::{collections::BTreeSet, time::Duration};

use backstay::{
    artifact::{ArtifactId, Kind},
    inventory::{Condition, Observed, Origin, Standing, StoredArtifact},
    plan::{self, Action, Plan, part::Part},
    spec::{Policy, Retention},
    status::{Revisions, Status},
};
use proptest::prelude::*;

use super::{deletions, planted};
use crate::world::*;

/// A random history of one backup: kinds, ages, checks, damage, holds and chains.
fn history() -> impl Strategy<Value = Vec<StoredArtifact>> {
    let one = (0u64..24 * 60, 0..4usize, 0..12u8, any::<bool>(), any::<bool>());
    proptest::collection::vec(one, 0..25).prop_map(|many| {
        let now = t("2026-11-20T12:00:00Z");
        let mut history: Vec<StoredArtifact> = Vec::new();
        for (n, (hours, kind, fate, checked, chained)) in many.into_iter().enumerate() {
            let mut a = artifact(Kind::ALL[kind], ago(now, hours), n as u64);
            a.verified.metadata = checked.then_some(a.newest);
            if fate == 0 {
                a.condition = damaged();
            }
            if fate == 1 {
                a.held = Some("audit".into());
            }
            if fate == 2 {
                a.origin = Origin::Manual;
            }
            if let Some(older) = history.last().filter(|o| fate == 3 && o.id < a.id && !o.is_good()) {
                let (id, condition) = (a.id, Condition::Good);
                a = StoredArtifact { id, condition, supersedes: Some(older.content()), ..older.clone() };
            }
            let older = history.iter().filter(|o| o.newest <= a.newest).max_by_key(|o| o.id);
            if let Some(older) = older.filter(|_| chained && a.kind != Kind::Full) {
                a.requires = vec![older.id];
                a.epoch = older.epoch;
            }
            history.push(a);
        }
        history
    })
}

fn retention() -> impl Strategy<Value = Retention> {
    let age = || proptest::option::of((0u64..40).prop_map(|days| DAY * days as u32));
    let count = || proptest::option::of(0u32..6);
    let ages = (age(), age(), age(), age(), age());
    let counts = (count(), count(), count(), count(), count(), count());
    (ages, counts).prop_map(|(ages, counts)| {
        let (full, incremental, differential, log, manual) = ages;
        let (hourly, daily, weekly, monthly, yearly, last) = counts;
        let ages = Retention { full, incremental, differential, log, manual, ..Retention::default() };
        Retention { hourly, daily, weekly, monthly, yearly, last, ..ages }
    })
}

fn world_of(history: &[StoredArtifact], other: &[StoredArtifact], keep: &Retention) -> World {
    let policy = Policy { keep: keep.clone(), ..hourly() };
    let mut world = World::new(&["a", "b"]).declare("agama", policy);
    history.iter().for_each(|a| world.put(&["a"], "agama", a));
    // The other store has copies of what it has, and things of its own.
    other.iter().for_each(|a| world.put(&["b"], "agama", a));
    for at in ["a", "b"] {
        // What a capture left behind two days ago, and was seen then.
        let (id, seen) = (ArtifactId::new(ago(world.now, 48), 99), ago(world.now, 30));
        world.stored(at, "agama").unreferenced.insert(id, 500);
        world.stored(at, "agama").candidates.insert(id, seen);
    }
    world.limits.delete_share = 1.0;
    world
}

/// How many sweeps a plan has.
fn sweeps(plan: &Plan) -> usize {
    plan.steps.iter().filter(|step| matches!(step.action, Action::Sweep { .. })).count()
}

/// A plan that deletes and sweeps everything there is, or every `nth` artifact only.
fn destroying(world: &World, nth: usize) -> Plan {
    let mut actions = Vec::new();
    for (at, inventory) in &world.stores {
        for (folder, stored) in &inventory.backups {
            let name = world.spec.moved.backup(folder);
            let chosen = stored.artifacts.iter().step_by(nth);
            actions.extend(chosen.map(|artifact| Action::Delete {
                backup: name.clone(),
                artifact: artifact.id,
                store: at.clone(),
            }));
            let captures = stored.unreferenced.keys().copied().collect();
            actions.push(Action::Sweep { backup: name.clone(), store: at.clone(), captures });
        }
    }
    planted(world, actions)
}

/// What keeps anybody from knowing enough to delete, in both stores.
#[derive(Clone, Copy, Debug)]
enum Doubt {
    Down,
    Refused,
    Unreadable,
    Undeclared,
    ClockApart(i64),
}

fn doubt() -> impl Strategy<Value = Doubt> {
    let apart = prop_oneof![601i64..400 * 86_400, -400 * 86_400i64..-600];
    prop_oneof![
        Just(Doubt::Down),
        Just(Doubt::Refused),
        Just(Doubt::Unreadable),
        Just(Doubt::Undeclared),
        apart.prop_map(Doubt::ClockApart),
    ]
}

/// The world with a doubt in the store `at`.
fn doubted(mut world: World, doubt: Doubt, at: &str) -> World {
    match doubt {
        Doubt::Down => drop(world.down.insert(store(at))),
        Doubt::Refused => {
            world.stores.get_mut(at).unwrap().standing = Standing::Refused("foreign".to_owned());
        }
        Doubt::Unreadable => {
            let id = ArtifactId::new(world.now, 98);
            world.stored(at, "agama").unreadable.insert(id, "it is not signed".to_owned());
        }
        Doubt::Undeclared => world.spec.backups.clear(),
        Doubt::ClockApart(seconds) => {
            world.ahead = seconds;
            world.now += jiff::SignedDuration::from_secs(seconds);
        }
    }
    world
}

/// What must hold after any plan was applied.
fn assert_safe(before: &World, plan: &Plan) {
    let gone = deletions(plan);
    for (name, inventory) in &before.stores {
        for stored in inventory.backups.values() {
            let goes = |id: &ArtifactId| gone.contains(&(name.to_string(), *id));
            if let Some(newest) = stored.newest_good(before.now) {
                assert!(!goes(&newest.id), "the newest good one goes");
            }
            for artifact in &stored.artifacts {
                if goes(&artifact.id) {
                    assert!(artifact.held.is_none(), "a held one goes");
                } else {
                    assert!(!artifact.requires.iter().any(goes), "a required one goes");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_deletes_the_newest_good_the_held_or_the_required(
        here in history(), there in history(), keep in retention(), share in 0.0..1.0f64,
    ) {
        let mut world = world_of(&here, &there, &keep);
        assert_safe(&world, &world.unjudged());
        world.limits.delete_share = share;
        let plan = world.plan();
        assert_safe(&world, &plan);
        for (name, store) in &world.stores {
            let count = deletions(&plan).iter().filter(|(at, _)| at == name.as_str()).count();
            let all = store.backups.values().map(|s| s.artifacts.len()).sum::<usize>();
            prop_assert!(count <= 1.max((share * all as f64) as usize));
        }
    }

    #[test]
    fn the_judge_finds_nothing_in_what_the_planners_plan(here in history(), there in history(), keep in retention()) {
        let world = world_of(&here, &there, &keep);
        let (unjudged, judged) = (world.unjudged(), world.plan());
        prop_assert_eq!(&judged.withheld, &unjudged.withheld);
        prop_assert_eq!(judged.steps, unjudged.steps);
    }

    #[test]
    fn nothing_is_deleted_on_the_strength_of_something_unknown(
        here in history(), keep in retention(), doubt in doubt(), at in 0..2usize,
    ) {
        let at = ["a", "b"][at];
        let world = doubted(world_of(&here, &here, &keep), doubt, at);
        for plan in [world.unjudged(), world.judge(destroying(&world, 1))] {
            let mut gone = deletions(&plan);
            if let Doubt::Unreadable = doubt {
                // What the other store holds is known.
                gone.retain(|(store, _)| store == at);
            }
            prop_assert_eq!(gone, BTreeSet::new());
            let swept = plan.steps.iter().any(|step| match (&step.action, doubt) {
                (Action::Sweep { .. }, Doubt::ClockApart(_)) => true,
                (_, Doubt::Undeclared) => false,
                (Action::Sweep { store, .. }, _) => store.as_str() == at,
                _ => false,
            });
            prop_assert!(!swept, "{:?}", steps(&plan));
        }
    }

    #[test]
    fn whatever_a_planner_wants_the_judge_keeps_the_newest_good_the_held_and_the_required(
        here in history(), there in history(), keep in retention(), nth in 1..4usize,
    ) {
        let world = world_of(&here, &there, &keep);
        assert_safe(&world, &world.judge(destroying(&world, nth)));
    }

    #[test]
    fn what_is_known_is_swept(here in history(), keep in retention()) {
        let world = world_of(&here, &here, &keep);
        prop_assert_eq!(sweeps(&world.plan()), 2);
    }

    #[test]
    fn nothing_is_deleted_because_a_declaration_vanished(here in history(), keep in retention()) {
        let mut world = world_of(&here, &here, &keep);
        world.spec.backups.clear();
        prop_assert_eq!(deletions(&world.unjudged()), BTreeSet::new());
    }

    #[test]
    fn a_clock_that_jumps_deletes_nothing(here in history(), keep in retention(), days in 1i64..400, back in any::<bool>()) {
        let world = world_of(&here, &here, &keep);
        let mut jumped = world.clone();
        jumped.ahead = 86_400 * if back { -days } else { days };
        jumped.now += jiff::SignedDuration::from_secs(jumped.ahead);
        for plan in [jumped.unjudged(), jumped.judge(destroying(&jumped, 1))] {
            prop_assert_eq!(deletions(&plan), BTreeSet::new());
            prop_assert_eq!(sweeps(&plan), 0);
        }
    }

    #[test]
    fn the_order_of_artifacts_does_not_matter(here in history(), keep in retention(), seed in any::<u64>()) {
        let world = world_of(&here, &here, &keep);
        let (sorted, mut shuffled) = (world.inventory(), world.inventory());
        for observed in shuffled.stores.values_mut() {
            let Observed::Known(inventory) = observed else { continue };
            for stored in inventory.backups.values_mut() {
                stored.artifacts.sort_by_key(|a| (a.id.share() + 1).wrapping_mul(seed | 1));
            }
        }
        let actions = |inventory| {
            let plan = plan::plan(&world.spec, inventory, &world.limits, world.now);
            let plan = plan::check::check(plan, &world.spec, inventory, &world.limits, world.now).unwrap();
            plan.steps.iter().map(|step| step.action.to_string()).collect::<BTreeSet<_>>()
        };
        prop_assert_eq!(actions(&sorted), actions(&shuffled));
    }

    #[test]
    fn a_looser_policy_keeps_a_superset(here in history(), keep in retention(), days in 0u32..30, more in 0u32..5) {
        let looser = Retention {
            full: keep.full.map(|age| age + DAY * days),
            incremental: keep.incremental.map(|age| age + DAY * days),
            differential: keep.differential.map(|age| age + DAY * days),
            log: keep.log.map(|age| age + DAY * days),
            manual: keep.manual.map(|age| age + DAY * days),
            hourly: keep.hourly.map(|count| count + more),
            daily: keep.daily.map(|count| count + more),
            weekly: keep.weekly.map(|count| count + more),
            monthly: keep.monthly.map(|count| count + more),
            yearly: keep.yearly.map(|count| count + more),
            last: keep.last.map(|count| count + more),
        };
        let (tight, loose) = (world_of(&here, &here, &keep), world_of(&here, &here, &looser));
        prop_assert!(deletions(&loose.unjudged()).is_subset(&deletions(&tight.unjudged())));
    }

    #[test]
    fn a_part_of_a_fleet_is_planned_for_as_the_whole_is(
        here in history(), there in history(), keep in retention(), doubt in proptest::option::of(doubt()), at in 0..2usize,
    ) {
        let mut world = world_of(&here, &there, &keep).declare("till", Policy { keep: keep.clone(), ..nightly() });
        there.iter().for_each(|a| world.put(&["a"], "till", a));
        if let Some(doubt) = doubt {
            world = doubted(world, doubt, ["a", "b"][at]);
        }
        let whole = world.plan();
        for name in ["agama", "till"] {
            let part = Part::of([backup(name)]);
            let (spec, inventory) = (part.spec(&world.spec), part.inventory(&world.inventory(), &world.spec.moved));
            let plan = plan::plan(&spec, &inventory, &world.limits, world.now);
            let plan = plan::check::check(plan, &spec, &inventory, &world.limits, world.now).unwrap();
            let of_it = |plan: &Plan| {
                let steps = plan.steps.iter().filter(|step| match &step.action {
                    Action::Arm(schedule) | Action::Disarm(schedule) => schedule.backup.as_str() == name,
                    action => action.backup().is_some_and(|backup| backup.as_str() == name),
                });
                steps.map(|step| (step.action.to_string(), step.reason.clone())).collect::<Vec<_>>()
            };
            prop_assert_eq!(of_it(&plan), of_it(&whole));
            prop_assert_eq!(of_it(&plan).len(), plan.steps.len(), "nothing of another backup");
            let withheld = whole.withheld.iter().filter(|withheld| withheld.backup.as_str() == name);
            prop_assert_eq!(plan.withheld.iter().collect::<Vec<_>>(), withheld.collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_a_commit_touches_beside_the_rest_is_planned_for_and_told_as_the_whole_is(
        here in history(), there in history(), keep in retention(), minutes in 0u64..60,
    ) {
        // What is damaged is drift, and with that everything is planned for.
        let whole = |a: StoredArtifact| StoredArtifact { condition: Condition::Good, ..a };
        let [here, there] = [here, there].map(|history| history.into_iter().map(whole).collect::<Vec<_>>());
        let mut before = world_of(&here, &there, &keep);
        for name in ["till", "till.log"] {
            before = before.declare(name, Policy { keep: keep.clone(), ..nightly() });
            there.iter().for_each(|a| before.put(&["a"], name, a));
        }
        before.settle(60);
        let status = |world: &World, plan: &Plan| {
            Status::of(&world.spec, &world.inventory(), &world.limits, plan, Revisions::default(), world.now)
        };
        let settled = before.plan();
        prop_assume!(settled.withheld.is_empty());
        let told = status(&before, &settled);
        prop_assume!(told.drift.drifts.is_empty());
        let mut after = before.declare("till", Policy { rpo: Some(DAY), ..hourly() });
        let until = plan::next_due(&after.spec, &after.inventory(), &after.limits, after.now);
        let later = after.now + Duration::from_secs(60 * minutes);
        prop_assume!(until.is_none_or(|until| later < until));
        after.advance(Duration::from_secs(60 * minutes));

        let part = Part::of([backup("till")]);
        let (spec, inventory) = (part.spec(&after.spec), part.inventory(&after.inventory(), &after.spec.moved));
        let of_part = plan::plan(&spec, &inventory, &after.limits, after.now);
        let of_part = plan::check::check(of_part, &spec, &inventory, &after.limits, after.now).unwrap();
        let (beside, whole) = (part.plan_beside(&settled, of_part), after.plan());
        let all = |plan: &Plan| plan.steps.iter().map(|s| (s.action.to_string(), s.reason.clone())).collect::<BTreeSet<_>>();
        prop_assert_eq!(all(&beside), all(&whole));
        let waits = |plan: &Plan| plan.waiting.iter().map(|w| format!("{w:?}")).collect::<BTreeSet<_>>();
        prop_assert_eq!(waits(&beside), waits(&whole));
        prop_assert_eq!(&beside.cannot_run, &whole.cannot_run);
        let of_part = Status::of(&spec, &inventory, &after.limits, &beside, Revisions::default(), after.now);
        let (told, mut expected) = (of_part.beside(&told, &part), status(&after, &whole));
        expected.waiting.clone_from(&told.waiting);
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn applying_plans_comes_to_an_end(here in history(), there in history(), keep in retention()) {
        let mut world = world_of(&here, &there, &keep);
        // A pass repairs a few artifacts at most.
        world.settle(60);
    }
}
