//! Drift is told from change and from what can't be seen; it is healed once, on demand or ever more slowly, as is declared.

use std::{collections::BTreeSet, time::Duration};

use backstay::{
    artifact::{
        ArtifactId, Kind as Made,
        record::{Event, FORMAT, Mark, Record},
    },
    drift::{Kind, drift},
    inventory::{Armed, Inventory, MirrorMade, Observed, Standing, StoreMade, StoreRules, Versioning},
    plan::{self, Action, Plan, heal, next_due},
    spec::{Healable, SelfHeal, names::BackupName, suspension::Scope},
    status::{Concern, Revisions, Status, drifted::Healing},
};
use jiff::Timestamp;

use crate::world::*;

const LAST_NIGHT: &str = "2026-11-20T01:00:00Z";

/// A backup every night in two stores, the last one in both; every schedule armed, and remembered.
fn settled() -> World {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly()).declare_infra(&["/srv/mirror.git"]);
    world.put(&["a", "b"], "agama", &artifact(Made::Full, t(LAST_NIGHT), 1));
    world.settle(4);
    world.made = world.made.after(&world.spec, &world.inventory(), &BTreeSet::new(), world.now);
    assert_eq!(kinds(&world), []);
    world
}

fn newest() -> ArtifactId {
    ArtifactId::new(t(LAST_NIGHT), 1)
}

/// Somebody deletes what the records of a store have seen.
fn lose(world: &mut World, at: &str, name: &str, id: ArtifactId) {
    let seen = world.now;
    let stored = world.stored(at, name);
    stored.artifacts.retain(|artifact| artifact.id != id);
    stored.lost.insert(id, seen);
}

fn kinds(world: &World) -> Vec<Kind> {
    drift(&world.spec, &world.inventory()).drifts.into_iter().map(|drift| drift.kind).collect()
}

/// A store of which this host remembers a record.
fn remembered() -> StoreMade {
    StoreMade { mark: Mark { sequence: 7, digest: "7".to_owned() }, rules: None }
}

/// What is planned, with why.
fn planned(plan: &Plan) -> Vec<(String, String)> {
    plan.steps.iter().map(|step| (step.action.to_string(), step.reason.clone())).collect()
}

fn status(world: &World) -> Status {
    let (inventory, plan) = (world.inventory(), world.plan());
    Status::of(&world.spec, &inventory, &world.limits, &plan, Revisions::default(), world.now)
}

fn healing(world: &World) -> Vec<Healing> {
    status(world).drift.drifts.into_iter().map(|drifted| drifted.healing).collect()
}

/// Has a store remember something.
fn tell(world: &mut World, name: &str, at: Timestamp, event: Event) {
    let inventory = world.stores.get_mut(&store(name)).unwrap();
    let sequence = inventory.records.last().map_or(0, |mark| mark.sequence + 1);
    let record = Record {
        format: FORMAT.to_owned(),
        fleet: "pavroto".parse().unwrap(),
        sequence,
        previous: None,
        at,
        events: vec![event],
        siblings: Default::default(),
    };
    inventory.records.add(&record, format!("{name} {sequence}"));
}

#[test]
fn an_artifact_that_somebody_deleted_is_copied_again_and_the_plan_says_why() {
    let mut world = settled();
    lose(&mut world, "b", "agama", newest());
    assert_eq!(kinds(&world), [Kind::ArtifactGone]);
    let copy = format!("copy agama {} from a to b", newest());
    assert_eq!(planned(&world.plan()), [(copy.clone(), "somebody deleted it from b".to_owned())]);
    assert_eq!(healing(&world), [Healing::Next { step: copy }]);
    world.apply(&world.plan());
    assert_eq!(kinds(&world), []);
}

#[test]
fn what_is_left_of_a_deleted_artifact_is_not_swept() {
    let mut world = settled();
    lose(&mut world, "a", "agama", newest());
    lose(&mut world, "b", "agama", newest());
    let (now, stored) = (world.now, world.stored("b", "agama"));
    stored.unreferenced.insert(newest(), 1000);
    stored.candidates.insert(newest(), ago(now, 25));
    let sweeps = |world: &World| {
        let all = planned(&world.plan()).into_iter().map(|(step, _)| step);
        all.filter(|step| step.starts_with("sweep") || step.starts_with("record")).count()
    };
    assert_eq!(sweeps(&world), 0);
    let mut plan = world.unjudged();
    let (backup, store, captures) = (backup("agama"), store("b"), vec![newest()]);
    plan.steps[0].action = Action::Sweep { backup, store, captures };
    assert_eq!(world.judge(plan).withheld[0].rule, "lost", "the rules know it, too");
    world.stored("b", "agama").lost.clear();
    assert_eq!(sweeps(&world), 1, "what nobody bears witness of goes");
}

#[test]
fn what_no_other_store_has_is_for_a_person() {
    let mut world = settled();
    lose(&mut world, "a", "agama", newest());
    lose(&mut world, "b", "agama", newest());
    assert_eq!(kinds(&world), [Kind::ArtifactGone, Kind::ArtifactGone]);
    let told = status(&world);
    assert!(told.drift.drifts.iter().all(|drifted| matches!(drifted.healing, Healing::None { .. })));
    assert!(told.conditions.iter().any(|condition| condition.concern == Concern::Drifted));
}

#[test]
fn damage_and_a_manifest_that_is_not_ours_are_drift_and_what_a_repair_replaced_is_not() {
    let mut world = settled();
    world.artifact_mut("b", "agama", newest()).condition = damaged();
    world
        .stored("a", "agama")
        .unreadable
        .insert(ArtifactId::new(t(LAST_NIGHT), 9), "no signature".to_owned());
    assert_eq!(kinds(&world), [Kind::ArtifactUntrusted, Kind::ArtifactDamaged]);
    let repair = format!("repair agama {} in b from a", newest());
    assert!(planned(&world.plan()).iter().any(|(step, _)| *step == repair));
    world.stored("a", "agama").unreadable.clear();
    world.apply(&world.plan());
    assert_eq!(kinds(&world), []);
}

#[test]
fn an_emptied_store_is_one_drift_by_what_this_host_remembers_or_another_store_knows() {
    let mut world = settled();
    world.made.stores.insert(store("b"), remembered());
    world.stores.get_mut(&store("b")).unwrap().standing = Standing::Empty;
    world.stored("b", "agama").artifacts.clear();
    assert_eq!(kinds(&world), [Kind::StoreEmptied]);
    let plan = world.plan();
    assert!(plan.steps[0].reason.contains("somebody emptied it"), "{:?}", plan.steps);

    world.made.stores.clear();
    assert_eq!(kinds(&world), [], "a new store is empty");
    let mut witness = |sequence: u64| {
        let seen = Mark { sequence, digest: "7".to_owned() };
        let record = Record {
            format: FORMAT.to_owned(),
            fleet: "pavroto".parse().unwrap(),
            sequence: 0,
            previous: None,
            at: world.now,
            events: Vec::new(),
            siblings: [(store("b"), seen)].into(),
        };
        world.stores.get_mut(&store("a")).unwrap().records.add(&record, "a 0".to_owned());
    };
    witness(7);
    assert_eq!(kinds(&world), [Kind::StoreEmptied]);
}

#[test]
fn a_store_that_was_ours_and_is_refused_has_drifted_and_a_strangers_has_not() {
    let mut world = settled();
    world.stores.get_mut(&store("b")).unwrap().standing =
        Standing::Refused("nothing is signed there".to_owned());
    assert_eq!(kinds(&world), []);
    world.made.stores.insert(store("b"), remembered());
    assert_eq!(kinds(&world), [Kind::StoreRefused]);
}

#[test]
fn a_rule_that_takes_objects_is_drift_from_the_first_look_and_less_protection_from_the_second() {
    let mut world = settled();
    let now = world.now;
    tell(&mut world, "b", now, Event::Resumed { scope: Scope::Everything });
    let rules = |takes: &[(&str, &str)], versioning| StoreRules {
        takes: takes.iter().map(|(rule, harm)| (rule.to_string(), harm.to_string())).collect(),
        versioning,
        lock: None,
    };
    let set =
        |world: &mut World, rules| world.stores.get_mut(&store("b")).unwrap().rules = Observed::Known(rules);
    set(&mut world, rules(&[("tidy", "it deletes objects after 30 days")], Versioning::On));
    assert_eq!(kinds(&world), [Kind::StoreRules]);
    assert_eq!(world.plan().steps, [], "nothing heals it but a person");
    let told = status(&world);
    assert!(
        told.conditions.iter().any(|c| c.concern == Concern::Drifted && c.message.contains("after 30 days"))
    );

    set(&mut world, rules(&[], Versioning::On));
    for _ in 0..2 {
        world.made = world.made.after(&world.spec, &world.inventory(), &BTreeSet::new(), world.now);
        assert_eq!(kinds(&world), []);
    }
    set(&mut world, rules(&[], Versioning::Suspended));
    for _ in 0..2 {
        assert_eq!(kinds(&world), [Kind::StoreRules]);
        world.made = world.made.after(&world.spec, &world.inventory(), &BTreeSet::new(), world.now);
    }
    world.stores.get_mut(&store("b")).unwrap().rules = Observed::Unknown("not allowed".to_owned());
    let found = drift(&world.spec, &world.inventory());
    assert_eq!((found.drifts.len(), found.unseen[0].subject.as_str()), (0, "rules of store.b"));
}

#[test]
fn what_can_not_be_seen_is_no_drift() {
    let mut world = settled();
    lose(&mut world, "b", "agama", newest());
    world.down.insert(store("b"));
    let mut inventory = world.inventory();
    inventory.armed = Observed::Unknown("no such folder".to_owned());
    let url = "/srv/mirror.git".to_owned();
    inventory.infra.as_mut().unwrap().mirrors.insert(url.clone(), Observed::Unknown("no answer".to_owned()));
    let found = drift(&world.spec, &inventory);
    assert_eq!(found.drifts, []);
    let unseen: Vec<&str> = found.unseen.iter().map(|unseen| unseen.subject.as_str()).collect();
    assert_eq!(unseen, ["store.b", "schedules", &url]);
}

/// The inventory of `world`, with what a scheduler holds.
fn with(world: &World, armed: Armed) -> Inventory {
    Inventory { armed: Observed::Known(armed), ..world.inventory() }
}

#[test]
fn schedules_that_somebody_changed_or_removed_are_told_from_those_declared_anew() {
    let mut world = settled();
    let schedule = world.spec.schedules().next().unwrap();
    let reason = |inventory: &Inventory, world: &World| {
        plan::plan(&world.spec, inventory, &world.limits, world.now).steps[0].reason.clone()
    };
    let changed =
        Armed { altered: [(schedule.clone(), "line 6 is gone".to_owned())].into(), ..Armed::default() };
    let seen = with(&world, changed.clone());
    assert_eq!(drift(&world.spec, &seen).drifts[0].kind, Kind::ScheduleChanged);
    assert_eq!(reason(&seen, &world), "changed by hand: line 6 is gone");

    let gone = with(&world, Armed::default());
    assert_eq!(drift(&world.spec, &gone).drifts[0].kind, Kind::ScheduleGone);
    assert_eq!(reason(&gone, &world), "removed by hand");

    let upgraded = with(&world, Armed { by: "another version".to_owned(), ..changed });
    world.made.scheduler = "one version".to_owned();
    let upgraded = Inventory { made: world.made.clone(), ..upgraded };
    assert_eq!(drift(&world.spec, &upgraded).drifts, []);
    assert_eq!(reason(&upgraded, &world), "it reads otherwise than declared: line 6 is gone");

    let policy = &mut world.spec.backups.get_mut("agama").unwrap().policy;
    policy.schedules.insert(Made::Full, cron("0 2 * * *"));
    world.made.scheduler.clear();
    assert_eq!(kinds(&world), [], "another cadence is declared");
}

#[test]
fn a_file_that_looks_like_ours_is_a_stranger_that_nothing_removes() {
    let world = settled();
    let Observed::Known(armed) = world.inventory().armed else { panic!() };
    let strangers = [("/etc/cron.d/backstay-x".to_owned(), "it bears no mark".to_owned())].into();
    let seen = with(&world, Armed { strangers, ..armed });
    let found = drift(&world.spec, &seen).drifts;
    assert_eq!(
        (found[0].kind, found[0].subject.as_str()),
        (Kind::ScheduleStranger, "/etc/cron.d/backstay-x")
    );
    assert_eq!(plan::plan(&world.spec, &seen, &world.limits, world.now).steps, []);
}

#[test]
fn a_mirror_that_was_moved_is_told_from_one_that_is_behind() {
    let tips = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let made = MirrorMade { at: t(LAST_NIGHT), tips: tips(&[("HEAD", "b"), ("refs/heads/main", "b")]) };
    assert_eq!(made.difference(&tips(&[("refs/heads/main", "b"), ("refs/heads/theirs", "x")])), None);
    assert!(made.difference(&tips(&[("refs/heads/main", "a")])).unwrap().contains("is at a instead of b"));
    assert!(made.difference(&tips(&[])).unwrap().contains("is gone"));

    let mut world = settled();
    let url = "/srv/mirror.git";
    world.mirrors.insert(url.to_owned(), Observed::Known("p-1".to_owned()));
    assert_eq!(kinds(&world), [], "it is only behind");
    world.moved.insert(url.to_owned(), "refs/heads/main is at a instead of b".to_owned());
    assert_eq!(kinds(&world), [Kind::MirrorMoved]);
    assert!(world.plan().steps[0].reason.starts_with("somebody moved it: refs/heads/main"));
}

#[test]
fn a_lost_bundle_is_drift_until_a_later_one_that_does_not_rest_on_it() {
    let mut world = settled();
    let (name, bundle) = (BackupName::infra(), world.stored("b", "infra").artifacts[0].id);
    lose(&mut world, "b", "infra", bundle);
    assert_eq!(kinds(&world), [Kind::ArtifactGone]);
    let plan = world.plan();
    assert_eq!(plan.steps[0].action.backup(), Some(&name));
    assert_eq!(plan.steps[0].reason, "somebody deleted it from b");
    world.advance(HOUR);
    world.apply(&plan);
    assert_eq!(kinds(&world), []);
}

#[test]
fn what_is_left_alone_waits_and_shows_and_is_healed_when_a_person_asks() {
    for resource in ["backup.agama", "store.b"] {
        let mut world = settled();
        match resource {
            "store.b" => world.spec.stores.get_mut("b").unwrap().self_heal = SelfHeal::Off,
            _ => world.spec.backups.get_mut("agama").unwrap().self_heal = SelfHeal::Off,
        }
        lose(&mut world, "b", "agama", newest());
        let plan = world.plan();
        assert_eq!(planned(&plan), []);
        let wait = &plan.waiting[0];
        let on = format!("self-heal of {resource} is off: `backstay apply --heal {resource}`");
        assert!(wait.what.starts_with("healing of artifact") && wait.on.contains(&on), "{wait:?}");
        let told = status(&world);
        assert!(told.conditions.iter().any(|condition| condition.concern == Concern::Drifted));

        let asked = |resource: &str| {
            let resources = BTreeSet::from([resource.parse::<Healable>().unwrap()]);
            heal::heal(&world.spec, &world.inventory(), &world.limits, &resources, world.now).unwrap()
        };
        assert_eq!(planned(&asked("store.a")), []);
        assert_eq!(asked(resource).steps.len(), 1);
    }
}

#[test]
fn healing_on_demand_does_nothing_else() {
    let mut world = settled();
    lose(&mut world, "b", "agama", newest());
    world.now = t("2026-11-21T02:00:00Z");
    assert!(world.plan().steps.len() > 1, "a backup is due");
    let resources = BTreeSet::from(["agama".parse::<Healable>().unwrap()]);
    let plan = heal::heal(&world.spec, &world.inventory(), &world.limits, &resources, world.now).unwrap();
    assert_eq!(planned(&plan)[0].0, format!("copy agama {} from a to b", newest()));
    assert_eq!(plan.steps.len(), 1);
    let unknown = BTreeSet::from(["shop".parse::<Healable>().unwrap()]);
    assert!(heal::heal(&world.spec, &world.inventory(), &world.limits, &unknown, world.now).is_err());
    assert_eq!(world.spec.healable(&"b".parse().unwrap()).unwrap().to_string(), "store.b");
}

#[test]
fn what_is_healed_again_and_again_alerts_and_is_healed_more_slowly_but_always() {
    let mut world = settled();
    lose(&mut world, "b", "agama", newest());
    let drifted = drift(&world.spec, &world.inventory()).drifts.remove(0);
    for healed in 0..3 {
        assert_eq!(world.plan().steps.len(), 1, "healed {healed} times");
        let (at, name) = (world.now, if healed % 2 == 0 { "a" } else { "b" });
        tell(&mut world, name, at, Event::Healed(drifted.healed()));
        world.advance(Duration::from_secs(10));
    }
    let last = world.now - Duration::from_secs(10);
    let again = last + MINUTE;
    let plan = world.plan();
    assert_eq!((plan.steps.len(), plan.waiting[0].until), (0, Some(again)));
    assert_eq!(healing(&world), [Healing::Later { at: again }]);
    let told = status(&world);
    let fight = told.conditions.iter().find(|condition| condition.concern == Concern::Fought).unwrap();
    assert!(fight.subject == drifted.subject && fight.message.contains("healed 3 times"), "{fight:?}");
    let next = next_due(&world.spec, &world.inventory(), &world.limits, world.now);
    assert_eq!(next, Some(again));
    world.now = again;
    assert_eq!(world.plan().steps.len(), 1);
    world.now = last + DAY + HOUR;
    assert!(status(&world).drift.heals.is_empty(), "after a day it counts no more");
}

#[test]
fn heals_that_many_stores_tell_of_count_once() {
    let mut world = settled();
    lose(&mut world, "b", "agama", newest());
    let healed = drift(&world.spec, &world.inventory()).drifts[0].healed();
    let at = world.now;
    for name in ["a", "b"] {
        tell(&mut world, name, at, Event::Healed(healed.clone()));
    }
    assert_eq!(world.inventory().heals(at)[&healed].count(), 1);
}
