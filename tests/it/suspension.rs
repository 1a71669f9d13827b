//! What stands still for a while, what goes on meanwhile, and what is caught up with afterwards.

use backstay::{
    artifact::{
        Kind,
        record::{Event, FORMAT, Record},
    },
    plan::{Plan, next_due},
    spec::{Suspension, suspension::Scope},
    status::{Concern, Revisions, Status},
};
use jiff::Timestamp;

use crate::world::*;

const UNTIL: &str = "2026-11-22T06:00:00Z";

fn suspended(scope: Scope) -> Suspension {
    Suspension { scope, from: None, until: t(UNTIL), reason: "new hardware".to_owned() }
}

/// Two backups every night in two stores, last made the night before; tonight's are due.
fn due() -> World {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly()).declare("shop", nightly());
    for (number, name) in ["agama", "shop"].into_iter().enumerate() {
        world.put(&["a", "b"], name, &artifact(Kind::Full, t("2026-11-20T01:00:00Z"), number as u64));
    }
    world.now = t("2026-11-21T02:00:00Z");
    world
}

fn declare(world: &mut World, scope: Scope) {
    world.spec.suspensions.insert("pause".parse().unwrap(), suspended(scope));
}

/// What is planned besides arming.
fn planned(plan: &Plan) -> Vec<String> {
    steps(plan).into_iter().filter(|step| !step.starts_with("arm ")).collect()
}

#[test]
fn a_suspended_backup_stands_still_and_others_go_on() {
    let mut world = due();
    declare(&mut world, Scope::Backup(backup("agama")));
    let plan = world.plan();
    assert_eq!(planned(&plan), ["full shop a", "verify shop a metadata", "verify shop b metadata"]);
    let waits = plan.waiting.iter().find(|w| w.what.contains("capture full of agama")).unwrap();
    assert_eq!((waits.on.as_str(), waits.until), ("agama is suspended: new hardware", Some(t(UNTIL))));
}

#[test]
fn what_was_missed_is_caught_up_with_once_when_the_suspension_ends() {
    let mut world = due();
    declare(&mut world, Scope::Everything);
    assert_eq!(planned(&world.plan()), Vec::<String>::new());
    let next = next_due(&world.spec, &world.inventory(), &world.limits, t("2026-11-22T05:00:00Z"));
    assert_eq!(next, Some(t(UNTIL)));
    world.now = t(UNTIL);
    let captures = planned(&world.plan()).into_iter().filter(|step| step.starts_with("full ")).count();
    assert_eq!(captures, 2);
}

#[test]
fn a_suspension_that_begins_later_holds_nothing_back_yet() {
    let mut world = due();
    let mut later = suspended(Scope::Everything);
    later.from = Some(t("2026-11-21T12:00:00Z"));
    world.spec.suspensions.insert("pause".parse().unwrap(), later);
    assert!(planned(&world.plan()).contains(&"full agama a".to_owned()));
    world.now = t("2026-11-21T12:00:00Z");
    assert_eq!(planned(&world.plan()), Vec::<String>::new());
}

#[test]
fn captures_of_a_suspended_store_go_to_the_next_one_and_nothing_else_touches_it() {
    let mut world = due();
    declare(&mut world, Scope::Store(store("a")));
    let plan = world.plan();
    let found = planned(&plan);
    assert!(found.contains(&"full agama b".to_owned()) && found.contains(&"full shop b".to_owned()));
    assert!(found.iter().all(|step| !step.split(' ').any(|word| word == "a")), "{found:?}");
    world.apply(&plan);
    let copies = planned(&world.plan()).into_iter().filter(|step| step.starts_with("copy "));
    assert_eq!(copies.count(), 0, "a copy would write into the suspended store");
    world.now = t(UNTIL);
    assert!(planned(&world.plan()).contains(&"copy agama a".to_owned()));
}

#[test]
fn nothing_of_a_suspended_backup_is_deleted_however_old() {
    let mut world = due();
    world.put(&["a", "b"], "agama", &artifact(Kind::Full, t("2026-09-01T01:00:00Z"), 7));
    assert!(planned(&world.plan()).iter().any(|step| step.starts_with("delete agama")));
    declare(&mut world, Scope::Backup(backup("agama")));
    assert!(!planned(&world.plan()).iter().any(|step| step.contains("agama")));
}

#[test]
fn a_persons_word_in_any_store_holds_until_the_newest_word_lets_go() {
    let mut world = due();
    let scope = || Scope::Backup(backup("agama"));
    tell(&mut world, "b", t("2026-11-21T01:00:00Z"), Event::Suspended(suspended(scope())));
    assert!(!planned(&world.plan()).iter().any(|step| step.contains("agama")));
    tell(&mut world, "a", t("2026-11-21T01:30:00Z"), Event::Resumed { scope: scope() });
    assert!(planned(&world.plan()).contains(&"full agama a".to_owned()));
    tell(&mut world, "b", t("2026-11-21T01:45:00Z"), Event::Suspended(suspended(scope())));
    world.down.insert(store("a"));
    assert!(!planned(&world.plan()).iter().any(|step| step.contains("agama")));
}

#[test]
fn a_suspension_shows_and_excuses_no_objective() {
    let mut world = due();
    declare(&mut world, Scope::Backup(backup("agama")));
    world.now = t("2026-11-21T23:00:00Z");
    let (inventory, plan) = (world.inventory(), world.plan());
    let status = Status::of(&world.spec, &inventory, &world.limits, &plan, Revisions::default(), world.now);
    let concerns = |subject: &str| {
        let about = status.conditions.iter().filter(|c| c.subject == subject);
        about.map(|c| c.concern).collect::<Vec<_>>()
    };
    let agama = concerns("backup.agama");
    assert!(agama.contains(&Concern::Suspended) && agama.contains(&Concern::ObjectiveBreached), "{agama:?}");
    assert!(!concerns("backup.shop").contains(&Concern::Suspended));
}

/// Has a store remember what a person said.
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
