//! The independent judge: for each safety rule a planner with a fault, whose deletion is withheld, and properties that
//! hold for every plan.

mod approvals;
mod copies_left;
mod properties;

use std::collections::{BTreeMap, BTreeSet};

use backstay::{
    artifact::{ArtifactId, Kind},
    inventory::{Interrupted, Lease, Reading, Standing, Work},
    plan::{self, Action, Plan, Step, StepId, action::Capture, check::Malformed},
    spec::{Orphan, Retention},
};

use crate::world::*;

/// Fulls of agama in stores a and b: tonight's, and expired ones of 20, 21, 22 … days ago.
fn aged(expired: u64) -> (World, Vec<ArtifactId>) {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly());
    world.put(&["a", "b"], "agama", &artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 1));
    let mut ids = Vec::new();
    for n in 0..expired {
        let old = artifact(Kind::Full, ago(world.now, 24 * (20 + n)), n);
        world.put(&["a", "b"], "agama", &old);
        ids.push(old.id);
    }
    (world, ids)
}

/// A restore of another controller that reads `id`.
fn reading(world: &World, id: ArtifactId) -> Reading {
    let (artifacts, until) = (BTreeSet::from([id]), world.now + HOUR);
    Reading { artifacts, until, controller: "other".to_owned() }
}

fn delete(id: ArtifactId, at: &str) -> Action {
    Action::Delete { backup: backup("agama"), artifact: id, store: store(at) }
}

/// A plan of these actions, none after another.
fn planted(world: &World, actions: Vec<Action>) -> Plan {
    let steps = actions.into_iter().enumerate().map(|(n, action)| Step {
        id: StepId(n as u32),
        action,
        reason: "planted".to_owned(),
        after: BTreeSet::new(),
    });
    Plan {
        fleet: world.spec.fleet.name.clone(),
        revision: "c0ffee".to_owned(),
        at: world.now,
        zone: world.spec.fleet.time_zone.clone(),
        steps: steps.collect(),
        waiting: Vec::new(),
        withheld: Vec::new(),
        cannot_run: Vec::new(),
        approved: Vec::new(),
    }
}

fn deletions(plan: &Plan) -> BTreeSet<(String, ArtifactId)> {
    let deleted = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Delete { artifact, store, .. } => Some((store.to_string(), *artifact)),
        _ => None,
    });
    deleted.collect()
}

/// The planted deletion is withheld by `rule`, and a capture and a deletion elsewhere go on.
fn withheld(world: &World, actions: Vec<Action>, rule: &str) {
    let mut world = world.clone();
    // Another backup with something to capture and something to delete, both sound.
    world = world.declare("other", nightly());
    let (fresh, old) =
        (artifact(Kind::Full, ago(world.now, 3), 50), artifact(Kind::Full, ago(world.now, 24 * 15), 51));
    world.put(&["a", "b"], "other", &fresh);
    world.put(&["a", "b"], "other", &old);
    let capture = Action::Capture(Capture {
        backup: backup("agama"),
        kind: Kind::Full,
        slot: None,
        manual: None,
        store: store("a"),
        base: None,
        continues: None,
    });
    let sound = Action::Delete { backup: backup("other"), artifact: old.id, store: store("a") };
    let judged_alone = world.judge(planted(&world, vec![capture.clone(), sound.clone()]));
    let mut all = vec![capture, sound];
    all.extend(actions.clone());
    let judged = world.judge(planted(&world, all));
    let rules: BTreeSet<&str> =
        judged.withheld.iter().filter(|w| w.backup.as_str() == "agama").map(|w| w.rule.as_str()).collect();
    assert!(rules.contains(rule), "{rule} is not among {:?}", judged.withheld);
    let left: Vec<&Action> = judged.steps.iter().map(|s| &s.action).collect();
    for action in &actions {
        if matches!(action, Action::Delete { .. } | Action::Sweep { .. } | Action::CleanUp { .. }) {
            assert!(!left.contains(&action), "{rule}: {action:?} was not withheld");
        }
    }
    let judged_alone: Vec<&Action> = judged_alone.steps.iter().map(|s| &s.action).collect();
    assert!(judged_alone.iter().all(|a| left.contains(a)), "{rule} held back something else");
    assert!(judged_alone.iter().any(|a| matches!(a, Action::Capture(_))));
}

#[test]
fn a_sound_deletion_is_let_through() {
    let (world, ids) = aged(1);
    let judged = world.judge(planted(&world, vec![delete(ids[0], "a"), delete(ids[0], "b")]));
    assert_eq!((judged.steps.len(), judged.withheld.len()), (2, 0), "{:?}", judged.withheld);
}

#[test]
fn what_alone_can_be_restored_is_withheld_whatever_newer_increments_are_there() {
    let (mut world, old) = aged(1);
    let full = world.stored("a", "agama").artifacts[0].id;
    let mut increment = artifact(Kind::Incremental, ago(world.now, 2), 77);
    (increment.epoch, increment.requires) = (full, vec![full]);
    world.put(&["a", "b"], "agama", &increment);
    for at in ["a", "b"] {
        world.artifact_mut(at, "agama", full).condition = damaged();
    }
    withheld(&world, vec![delete(old[0], "a")], "newest-good");
}

#[test]
fn the_newest_good_artifact_is_withheld() {
    let (mut world, ids) = aged(1);
    let tonight = world.stored("a", "agama").artifacts[0].id;
    withheld(&world, vec![delete(tonight, "a")], "newest-good");
    // The last good one, where the newest is damaged.
    world.artifact_mut("a", "agama", tonight).condition = damaged();
    withheld(&world, vec![delete(ids[0], "a")], "newest-good");
}

#[test]
fn what_is_damaged_and_newer_than_all_that_is_good_is_withheld_until_it_is_repaired() {
    let (mut world, ids) = aged(2);
    let stored = world.stored("a", "agama");
    stored.artifacts.retain(|a| ids.contains(&a.id));
    let newest = stored.artifact(ids[0]).unwrap().clone();
    world.artifact_mut("a", "agama", newest.id).condition = damaged();
    withheld(&world, vec![delete(newest.id, "a")], "newest-good");
    let mut repaired = artifact(Kind::Full, world.now - MINUTE, 70);
    (repaired.newest, repaired.supersedes) = (newest.newest, Some(newest.id));
    world.put(&["a"], "agama", &repaired);
    let judged = world.judge(planted(&world, vec![delete(newest.id, "a")]));
    assert_eq!((judged.steps.len(), judged.withheld), (1, Vec::new()));
}

#[test]
fn an_expired_log_goes_together_with_what_repaired_it() {
    let mut policy = nightly();
    policy.keep.log = Some(HOUR);
    let mut world = World::new(&["a"]).declare("agama", policy);
    world.put(&["a"], "agama", &artifact(Kind::Full, ago(world.now, 9), 1));
    let mut lost = artifact(Kind::Log, ago(world.now, 8), 2);
    lost.condition = damaged();
    let mut repaired = artifact(Kind::Log, ago(world.now, 2), 3);
    (repaired.newest, repaired.supersedes) = (lost.newest, Some(lost.id));
    [&lost, &repaired].into_iter().for_each(|log| world.put(&["a"], "agama", log));
    let judged = world.judge(planted(&world, vec![delete(lost.id, "a"), delete(repaired.id, "a")]));
    let rules: Vec<&str> = judged.withheld.iter().map(|withheld| withheld.rule.as_str()).collect();
    assert_eq!(rules, ["delete-share"], "most of what is there goes, and nothing else is wrong with it");
}

#[test]
fn where_nothing_is_known_to_be_good_everything_is_withheld() {
    let (mut world, ids) = aged(2);
    world.stored("a", "agama").artifacts.iter_mut().for_each(|a| a.condition = damaged());
    withheld(&world, vec![delete(ids[0], "a")], "newest-good");
    // What is dated in the future is not known to be good either.
    let ahead = artifact(Kind::Full, world.now + DAY, 60);
    world.put(&["a"], "agama", &ahead);
    withheld(&world, vec![delete(ids[0], "a")], "newest-good");
}

#[test]
fn a_deletion_behind_one_that_is_withheld_is_withheld_and_whatever_else_is_goes_ahead() {
    let (mut world, ids) = aged(1);
    world = world.declare("other", nightly());
    let old = artifact(Kind::Full, ago(world.now, 24 * 15), 51);
    world.put(&["a", "b"], "other", &artifact(Kind::Full, ago(world.now, 3), 50));
    world.put(&["a", "b"], "other", &old);
    world.artifact_mut("a", "agama", ids[0]).held = Some("audit".into());
    let behind = Action::Delete { backup: backup("other"), artifact: old.id, store: store("a") };
    let further = Action::Delete { backup: backup("other"), artifact: old.id, store: store("b") };
    let check = Action::Verify {
        backup: backup("other"),
        artifact: old.id,
        store: store("b"),
        depth: backstay::artifact::Depth::Data,
    };
    let mut plan = planted(&world, vec![delete(ids[0], "a"), behind, further, check.clone()]);
    for step in 1..4 {
        plan.steps[step].after.insert(StepId(step as u32 - 1));
    }
    let judged = world.judge(plan);
    let left: Vec<&Step> = judged.steps.iter().collect();
    assert!(matches!(&left[..], [step] if step.action == check && step.after.is_empty()), "{left:?}");
    let rules: Vec<(&str, &str)> =
        judged.withheld.iter().map(|w| (w.backup.as_str(), w.rule.as_str())).collect();
    assert_eq!(rules, [("agama", "held"), ("other", "dependents-first"), ("other", "dependents-first")]);
}

#[test]
fn deletions_taken_out_for_an_outer_reason_are_withheld_pair_by_pair_and_the_rest_stays() {
    let (world, ids) = aged(2);
    let swept = Action::Sweep { backup: backup("agama"), store: store("a"), captures: vec![ids[0]] };
    let deletions = [delete(ids[0], "a"), delete(ids[1], "a"), delete(ids[0], "b")];
    let mut plan = planted(&world, deletions.into_iter().chain([swept.clone()]).collect());
    plan.steps[3].after.insert(StepId(0));
    let left = plan::check::withhold_deletions(plan, "its revision can't be read");
    assert!(matches!(&left.steps[..], [step] if step.action == swept && step.after.is_empty()));
    let withheld: Vec<(&str, &str, &str)> = left
        .withheld
        .iter()
        .map(|w| (w.store.as_ref().map_or("", |it| it.as_str()), w.rule.as_str(), w.reason.as_str()))
        .collect();
    let why = "its revision can't be read";
    assert_eq!(withheld, [("a", "revision", why), ("b", "revision", why)]);
}

#[test]
fn what_a_kept_artifact_requires_is_withheld() {
    let (mut world, ids) = aged(1);
    for at in ["a", "b"] {
        world.stored(at, "agama").artifacts[0].requires = vec![ids[0]];
    }
    withheld(&world, vec![delete(ids[0], "a")], "required");
}

#[test]
fn deletions_in_or_beside_an_unknown_store_are_withheld() {
    let (mut world, ids) = aged(1);
    withheld(&world, vec![delete(ArtifactId::new(world.now, 77), "a")], "unknown");
    world.stores.get_mut("b").unwrap().standing = Standing::Refused("foreign".to_owned());
    let judged = world.judge(planted(&world, vec![delete(ids[0], "a"), delete(ids[0], "b")]));
    assert_eq!(judged.steps.len(), 0);
    world.stores.get_mut("b").unwrap().standing = Standing::Ours;
    world.down.insert(store("b"));
    let judged = world.judge(planted(&world, vec![delete(ids[0], "a"), delete(ids[0], "b")]));
    assert_eq!(judged.withheld.iter().map(|w| w.rule.as_str()).collect::<Vec<_>>(), ["unknown", "unknown"]);
}

#[test]
fn deletions_beside_an_unreadable_manifest_are_withheld() {
    let (mut world, ids) = aged(1);
    let id = ArtifactId::new(world.now, 78);
    world.stored("a", "agama").unreadable.insert(id, "signature does not match".to_owned());
    withheld(&world, vec![delete(ids[0], "a")], "unreadable");
}

#[test]
fn what_another_store_should_hold_and_lacks_is_withheld() {
    let (mut world, ids) = aged(1);
    let agama = world.spec.backups.get_mut("agama").unwrap();
    agama.keep_in.insert(store("b"), Retention { full: Some(90 * DAY), ..Retention::default() });
    world.artifact_mut("b", "agama", ids[0]).condition = damaged();
    withheld(&world, vec![delete(ids[0], "a")], "copy-missing");
    world.stored("b", "agama").artifacts.retain(|a| a.id != ids[0]);
    withheld(&world, vec![delete(ids[0], "a")], "copy-missing");
}

#[test]
fn what_is_no_longer_declared_is_withheld() {
    let (mut world, ids) = aged(1);
    let mut narrowed = world.clone();
    narrowed.spec.backups.get_mut("agama").unwrap().stores.retain(|s| s.as_str() == "a");
    withheld(&narrowed, vec![delete(ids[0], "b")], "vanished");
    world.spec.backups.clear();
    let judged = world.judge(planted(&world, vec![delete(ids[0], "a")]));
    assert_eq!(judged.withheld[0].rule, "vanished");
    world.spec.orphans.insert(backup("agama"), Orphan { delete_after: 30 * DAY });
    let judged = world.judge(planted(&world, vec![delete(ids[0], "a")]));
    assert_eq!(judged.withheld[0].rule, "not-expired");
    world.spec.orphans.insert(backup("agama"), Orphan { delete_after: 10 * DAY });
    assert_eq!(world.judge(planted(&world, vec![delete(ids[0], "a")])).withheld, []);
}

#[test]
fn more_than_the_share_of_a_day_is_withheld_and_one_is_not() {
    let (mut world, ids) = aged(4);
    withheld(&world, ids[..3].iter().map(|id| delete(*id, "a")).collect(), "delete-share");
    let now = world.now;
    world.stored("a", "agama").deletions = vec![now - HOUR, now - 2 * HOUR];
    withheld(&world, vec![delete(ids[0], "a"), delete(ids[1], "a")], "delete-share");
    let (mut pair, ids) = aged(1);
    pair.limits.delete_share = 0.0;
    assert_eq!(pair.judge(planted(&pair, vec![delete(ids[0], "a")])).withheld, []);
}

#[test]
fn what_is_held_locked_leased_or_in_use_is_withheld() {
    let (world, ids) = aged(1);
    let mut held = world.clone();
    held.artifact_mut("a", "agama", ids[0]).held = Some("audit".into());
    withheld(&held, vec![delete(ids[0], "a")], "held");

    let mut locked = world.clone();
    locked.spec.stores.get_mut("a").unwrap().immutable = Some(21 * DAY);
    withheld(&locked, vec![delete(ids[0], "a")], "locked");

    let mut leased = world.clone();
    let lease = Lease { epoch: ids[0], until: world.now + HOUR, controller: "other".to_owned() };
    leased.stored("a", "agama").leases.insert(ArtifactId::new(world.now, 79), lease);
    withheld(&leased, vec![delete(ids[0], "a")], "leased");
    leased
        .stored("a", "agama")
        .leases
        .insert(ArtifactId::new(world.now, 79), Lease::unreadable(world.now - HOUR));
    withheld(&leased, vec![delete(ids[0], "a")], "leased");

    for reading in [reading(&world, ids[0]), Reading::unreadable(world.now - HOUR)] {
        let mut read = world.clone();
        read.stored("a", "agama").readings.insert(ArtifactId::new(world.now, 79), reading);
        withheld(&read, vec![delete(ids[0], "a")], "read");
    }

    let incremental = Action::Capture(Capture {
        backup: backup("agama"),
        kind: Kind::Incremental,
        slot: None,
        manual: None,
        store: store("a"),
        base: Some(ids[0]),
        continues: None,
    });
    withheld(&world, vec![incremental, delete(ids[0], "a")], "in-use");
}

#[test]
fn deletions_are_withheld_while_clocks_differ() {
    let (mut world, ids) = aged(1);
    for ahead in [601, -601, 365 * 86_400] {
        world.ahead = ahead;
        withheld(&world, vec![delete(ids[0], "a")], "clock");
    }
}

#[test]
fn what_its_rule_covers_is_withheld() {
    let (mut world, _) = aged(0);
    let young = artifact(Kind::Full, ago(world.now, 24 * 3), 9);
    let mut incremental = artifact(Kind::Differential, ago(world.now, 24 * 300), 10);
    incremental.epoch = young.id;
    world.put(&["a", "b"], "agama", &young);
    world.put(&["a", "b"], "agama", &incremental);
    withheld(&world, vec![delete(young.id, "a")], "not-expired");
    withheld(&world, vec![delete(incremental.id, "a")], "not-expired");
}

#[test]
fn an_order_that_a_crash_would_turn_into_ruin_is_withheld() {
    let (mut world, ids) = aged(5);
    for at in ["a", "b"] {
        world.artifact_mut(at, "agama", ids[0]).requires = vec![ids[1]];
    }
    withheld(&world, vec![delete(ids[1], "a"), delete(ids[0], "a")], "dependents-first");
    let mut ordered = planted(&world, vec![delete(ids[0], "a"), delete(ids[1], "a")]);
    ordered.steps[1].after.insert(StepId(0));
    assert_eq!(world.judge(ordered).withheld, []);
}

#[test]
fn sweeps_without_two_looks_a_day_apart_are_withheld() {
    let (mut world, _) = aged(1);
    let id = ArtifactId::new(ago(world.now, 50), 80);
    let sweep = |id| Action::Sweep { backup: backup("agama"), store: store("a"), captures: vec![id] };
    world.stored("a", "agama").unreferenced.insert(id, 500);
    withheld(&world, vec![sweep(id)], "sweep-too-early");
    let yesterday = ago(world.now, 23);
    world.stored("a", "agama").candidates.insert(id, yesterday);
    withheld(&world, vec![sweep(id)], "sweep-too-early");
    let committed = world.stored("a", "agama").artifacts[0].id;
    withheld(&world, vec![sweep(committed)], "committed");
    let long_ago = ago(world.now, 25);
    world.stored("a", "agama").candidates.insert(id, long_ago);
    assert_eq!(world.judge(planted(&world, vec![sweep(id)])).withheld, []);
    let lease = Lease { epoch: id, until: world.now + HOUR, controller: "other".to_owned() };
    let capture = ArtifactId::new(world.now, 81);
    world.stored("a", "agama").leases.insert(capture, lease);
    withheld(&world, vec![sweep(id)], "leased");
    world.stored("a", "agama").leases.clear();
    let reading = reading(&world, committed);
    world.stored("a", "agama").readings.insert(capture, reading);
    withheld(&world, vec![sweep(id)], "read");
}

#[test]
fn sweeps_of_what_cannot_be_seen_are_withheld() {
    let (mut world, _) = aged(1);
    let id = ArtifactId::new(ago(world.now, 50), 80);
    let sweep = Action::Sweep { backup: backup("agama"), store: store("a"), captures: vec![id] };
    let long_ago = ago(world.now, 25);
    world.stored("a", "agama").unreferenced.insert(id, 500);
    world.stored("a", "agama").candidates.insert(id, long_ago);
    let rules = |world: &World| {
        let judged = world.judge(planted(world, vec![sweep.clone()]));
        assert!(judged.withheld.is_empty() || judged.steps.is_empty());
        judged.withheld.into_iter().map(|withheld| withheld.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules(&world), Vec::<String>::new());
    let mut away = world.clone();
    away.down.insert(store("a"));
    assert_eq!(rules(&away), ["unknown"]);
    let mut ahead = world.clone();
    ahead.ahead = 601;
    assert_eq!(rules(&ahead), ["clock"]);
    let other = ArtifactId::new(ago(world.now, 60), 81);
    world.stored("a", "agama").unreadable.insert(other, "it is not signed".into());
    assert_eq!(rules(&world), ["unreadable"]);
}

#[test]
fn clean_ups_of_what_is_committed_or_not_ours_are_withheld() {
    let (mut world, ids) = aged(1);
    let clean_up = |id| Action::CleanUp { backup: backup("agama"), store: store("a"), artifact: id };
    withheld(&world, vec![clean_up(ArtifactId::new(world.now, 82))], "not-ours");
    let left = Interrupted {
        backup: folder("agama"),
        store: store("a"),
        artifact: ids[0],
        work: Work::Capture,
        copy: None,
    };
    world.interrupted.push(left);
    withheld(&world, vec![clean_up(ids[0])], "committed");
    world.down.insert(store("a"));
    withheld(&world, vec![clean_up(ids[0])], "unknown");
}

#[test]
fn what_is_not_ours_is_not_settled() {
    let (mut world, ids) = aged(1);
    let settle = Action::Settle { backup: backup("agama"), store: store("a"), artifact: ids[0] };
    let rules = |world: &World| {
        let judged = world.judge(planted(world, vec![settle.clone()]));
        judged.withheld.into_iter().map(|withheld| withheld.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules(&world), ["not-ours"]);
    let (backup, store) = (folder("agama"), store("a"));
    world.interrupted.push(Interrupted { backup, store, artifact: ids[0], work: Work::Capture, copy: None });
    assert_eq!(rules(&world), Vec::<String>::new());
}

#[test]
fn a_malformed_plan_is_refused_whole() {
    let (world, ids) = aged(2);
    let refuse = |change: &dyn Fn(&mut Plan)| {
        let mut plan = planted(&world, vec![delete(ids[0], "a"), delete(ids[1], "b")]);
        change(&mut plan);
        plan::check::check(plan, &world.spec, &world.inventory(), &world.limits, world.now).unwrap_err()
    };
    assert!(matches!(refuse(&|p| p.steps[1].id = StepId(0)), Malformed::DuplicateStep(_)));
    let waits = |p: &mut Plan, step: usize, on: u32| p.steps[step].after.extend([StepId(on)]);
    assert!(matches!(refuse(&|p| waits(p, 0, 1)), Malformed::WaitsForLater { .. }), "a circle");
    assert!(matches!(refuse(&|p| waits(p, 1, 1)), Malformed::WaitsForLater { .. }), "itself");
    assert!(matches!(refuse(&|p| waits(p, 1, 9)), Malformed::WaitsForLater { .. }), "nothing");
    assert!(matches!(refuse(&|p| p.fleet = "other".parse().unwrap()), Malformed::OtherFleet { .. }));
    let unknown = Action::Delete { backup: backup("nobody"), artifact: ids[0], store: store("a") };
    assert!(matches!(refuse(&|p| p.steps[0].action = unknown.clone()), Malformed::UnknownBackup { .. }));
    assert!(matches!(refuse(&|p| p.steps[0].action = delete(ids[0], "c")), Malformed::UnknownStore { .. }));
    let push = Action::Push { mirror: "ssh://elsewhere".to_owned() };
    assert!(matches!(refuse(&|p| p.steps[0].action = push.clone()), Malformed::UnknownMirror(_)));
    let empty = Action::Sweep { backup: backup("agama"), store: store("a"), captures: Vec::new() };
    assert!(matches!(refuse(&|p| p.steps[0].action = empty.clone()), Malformed::EmptyStep(_)));
}

#[test]
fn rules_of_one_store_leave_the_other_alone() {
    let (mut world, ids) = aged(2);
    world.artifact_mut("a", "agama", ids[0]).held = Some("audit".into());
    let all = ids.iter().flat_map(|id| [delete(*id, "a"), delete(*id, "b")]).collect();
    world.limits.delete_share = 1.0;
    let judged = world.judge(planted(&world, all));
    let left: BTreeMap<String, usize> =
        deletions(&judged).into_iter().fold(BTreeMap::new(), |mut m, (at, _)| {
            *m.entry(at).or_default() += 1;
            m
        });
    assert_eq!(left, BTreeMap::from([("b".to_owned(), 2)]));
}
