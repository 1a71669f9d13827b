//! What holds whatever the stores hold, whatever is declared, and whatever is planned.

use std::collections::BTreeSet;

use backstay::{
    artifact::{ArtifactId, Kind},
    inventory::{Observed, StoredArtifact},
    plan::{self, Plan},
    spec::{Policy, Retention},
};
use proptest::prelude::*;

use super::deletions;
use crate::world::*;

/// A random history of one backup: kinds, ages, checks, damage, holds and chains.
fn history() -> impl Strategy<Value = Vec<StoredArtifact>> {
    let one = (0u64..24 * 60, 0..4usize, 0..10u8, any::<bool>(), any::<bool>());
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
    (age(), age(), age(), age(), count(), count(), count()).prop_map(
        |(full, incremental, log, manual, daily, monthly, last)| Retention {
            full,
            incremental,
            log,
            manual,
            daily,
            monthly,
            last,
            ..Retention::default()
        },
    )
}

fn world_of(history: &[StoredArtifact], other: &[StoredArtifact], keep: &Retention) -> World {
    let policy = Policy { keep: keep.clone(), ..hourly() };
    let mut world = World::new(&["a", "b"]).declare("agama", policy);
    history.iter().for_each(|a| world.put(&["a"], "agama", a));
    // The other store has copies of what it has, and things of its own.
    other.iter().for_each(|a| world.put(&["b"], "agama", a));
    world.limits.delete_share = 1.0;
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
    fn nothing_is_deleted_on_the_strength_of_something_unknown(here in history(), keep in retention(), down in 0..2usize) {
        let mut world = world_of(&here, &here, &keep);
        world.down.insert(store(["a", "b"][down]));
        prop_assert_eq!(deletions(&world.unjudged()), BTreeSet::new());
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
        prop_assert_eq!(deletions(&jumped.unjudged()), BTreeSet::new());
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
        let plan = |inventory| plan::plan(&world.spec, inventory, &world.limits, world.now);
        prop_assert_eq!(deletions(&plan(&sorted)), deletions(&plan(&shuffled)));
    }

    #[test]
    fn a_looser_policy_keeps_a_superset(here in history(), keep in retention(), days in 0u32..30, more in 0u32..5) {
        let looser = Retention {
            full: keep.full.map(|age| age + DAY * days),
            incremental: keep.incremental.map(|age| age + DAY * days),
            log: keep.log.map(|age| age + DAY * days),
            daily: keep.daily.map(|count| count + more),
            monthly: keep.monthly.map(|count| count + more),
            last: keep.last.map(|count| count + more),
            ..keep.clone()
        };
        let (tight, loose) = (world_of(&here, &here, &keep), world_of(&here, &here, &looser));
        prop_assert!(deletions(&loose.unjudged()).is_subset(&deletions(&tight.unjudged())));
    }

    #[test]
    fn applying_plans_comes_to_an_end(here in history(), there in history(), keep in retention()) {
        let mut world = world_of(&here, &there, &keep);
        // A pass repairs a few artifacts at most.
        world.settle(60);
    }
}
