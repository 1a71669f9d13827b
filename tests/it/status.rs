//! Each condition shows when it should and not otherwise; explanations say why.

use std::collections::BTreeSet;

use backstay::{
    artifact::Kind,
    inventory::{KeptLog, LogSeen, Observed, Standing, WalStatus},
    plan::{self, Plan, Withheld},
    spec::Budget,
    status::{
        Concern, Overall, Revisions, Status,
        explain::{self, Fate, Held},
    },
};

use crate::world::*;

/// Two stores with all that they should hold.
fn healthy() -> World {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly()).declare_infra(&[]);
    world.settle(6);
    world.advance(2 * HOUR);
    world
}

fn status(world: &World, plan: &Plan, revisions: Revisions) -> Status {
    Status::of(&world.spec, &world.inventory(), &world.limits, plan, revisions, world.now)
}

fn concerns(status: &Status) -> BTreeSet<Concern> {
    status.conditions.iter().map(|condition| condition.concern).collect()
}

#[test]
fn a_healthy_fleet_has_no_conditions() {
    let world = healthy();
    let status = status(&world, &world.plan(), Revisions::default());
    assert_eq!((status.conditions, status.overall), (vec![], Overall::Healthy));
}

/// The server of a backup keeps 500 bytes of its log.
fn keep_log(world: &mut World, status: WalStatus, limit: Option<u64>) {
    let kept = KeptLog { slot: "backstay_agama".to_owned(), bytes: 500, limit, status };
    let seen = LogSeen { at: world.now, found: Observed::Known(Some(kept)) };
    world.kept_logs.insert(backup("agama"), seen);
}

#[test]
fn what_a_server_keeps_of_its_log_is_told_with_what_to_do_about_it() {
    let mut world = healthy();
    for (state, limit, says) in [
        (WalStatus::Lost, Some(1000), "begins anew, after a full"),
        (WalStatus::Unreserved, Some(400), "next checkpoint drops it"),
        (WalStatus::Reserved, Some(900), "over half"),
        (WalStatus::Reserved, None, "ALTER SYSTEM SET max_slot_wal_keep_size"),
    ] {
        keep_log(&mut world, state, limit);
        let told = status(&world, &world.plan(), Revisions::default());
        assert_eq!(told.overall, Overall::Partial);
        assert!(told.conditions[0].message.contains(says), "{:?}", told.conditions);
        let json = serde_json::to_value(&told.backups["agama"]).unwrap();
        assert_eq!(json["kept_log"]["bytes"], 500);
    }
    keep_log(&mut world, WalStatus::Extended, Some(1000));
    assert!(concerns(&status(&world, &world.plan(), Revisions::default())).is_empty(), "there is room");
    let unseen = LogSeen { at: world.now, found: Observed::Unknown("no answer".to_owned()) };
    world.kept_logs.insert(backup("agama"), unseen);
    let told = status(&world, &world.plan(), Revisions::default());
    assert_eq!(told.overall, Overall::Healthy, "what can't be seen is no risk that is known");
}

#[test]
fn each_condition_shows_when_it_should_and_no_other() {
    use Concern::*;
    type Disturb = fn(&mut World);
    let cases: [(Disturb, &[Concern]); 14] = [
        (|w| keep_log(w, WalStatus::Extended, None), &[LogAtRisk]),
        (|w| *w = w.clone().declare("orders", nightly()), &[NeverSucceeded]),
        (|w| w.advance(11 * HOUR), &[Overdue]),
        (|w| w.advance(2 * DAY), &[ObjectiveBreached, Overdue]),
        (
            |w| {
                let id = w.stored("a", "agama").artifacts[0].id;
                w.artifact_mut("a", "agama", id).condition = damaged();
            },
            &[Damaged],
        ),
        (
            |w| {
                let id = w.stored("b", "agama").artifacts[0].id;
                w.stored("b", "agama").unreadable.insert(id, "it is not signed".into());
            },
            &[Damaged],
        ),
        (|w| w.stores.get_mut("b").unwrap().standing = Standing::Refused("unsigned".into()), &[StoreRefused]),
        (|w| w.down.extend([store("b")]), &[StoreUnknown]),
        (|w| w.ahead = 3600, &[ClockApart]),
        (
            |w| {
                let (resource, why) = ("backup.agama".to_owned(), "this host does not allow it".to_owned());
                w.limits.refused.push(plan::CannotRun { resource, why });
            },
            &[CannotRun],
        ),
        (
            |w| {
                w.spec.stores.get_mut("a").unwrap().capacity = Some(1000);
                w.stores.get_mut("a").unwrap().bytes = 950;
            },
            &[NearlyFull],
        ),
        (
            |w| {
                let budget = Budget { per_gib_month: 1.0, month: 2.0, alert_at: 0.5 };
                w.spec.stores.get_mut("a").unwrap().budget = Some(budget);
                w.stores.get_mut("a").unwrap().bytes = 1 << 30;
            },
            &[NearBudget],
        ),
        (|w| w.stored("b", "agama").artifacts.clear(), &[CopiesMissing]),
        (|w| drop(w.spec.backups.remove("agama")), &[Orphaned]),
    ];
    for (n, (disturb, expected)) in cases.into_iter().enumerate() {
        let mut world = healthy();
        disturb(&mut world);
        let status = status(&world, &world.plan(), Revisions::default());
        let expected: BTreeSet<Concern> = expected.iter().copied().collect();
        assert_eq!(concerns(&status), expected, "case {n}: {:#?}", status.conditions);
        let overall = expected.iter().map(|concern| concern.overall()).max().unwrap();
        assert_eq!(status.overall, overall, "case {n}");
    }
}

#[test]
fn a_refused_revision_is_graver_than_what_is_withheld() {
    let world = healthy();
    let mut plan = world.plan();
    let (name, at) = (backup("agama"), store("a"));
    let withheld = Withheld::by_rule(name, at, "clock", "they differ");
    plan.withheld.push(withheld);
    assert_eq!(status(&world, &plan, Revisions::default()).overall, Overall::Withheld);
    let refused = Revisions { refused: Some("it has faults".into()), ..Revisions::default() };
    let status = status(&world, &plan, refused);
    assert_eq!(status.overall, Overall::BadRevision);
    assert_eq!(concerns(&status), BTreeSet::from([Concern::BadRevision, Concern::Withheld]));
}

#[test]
fn a_store_that_cannot_be_seen_makes_nothing_look_lost_or_healthy() {
    let mut world = healthy();
    world.advance(2 * DAY);
    world.down.extend([store("a"), store("b")]);
    let status = status(&world, &world.plan(), Revisions::default());
    assert_eq!(concerns(&status), BTreeSet::from([Concern::StoreUnknown]));
    assert_eq!(status.overall, Overall::Partial);
}

#[test]
fn a_backup_is_explained_by_its_slots() {
    let mut world = healthy();
    let explained = |world: &World| {
        let (inventory, name) = (world.inventory(), backup("agama"));
        explain::backup(&world.spec, &inventory, &world.limits, &name, world.now).unwrap()
    };
    let quiet = explained(&world);
    assert_eq!((quiet.due, quiet.next[&Kind::Full][0]), (vec![], t("2026-11-21T01:00:00Z")));
    world.advance(12 * HOUR);
    assert!(explained(&world).due[0].starts_with("full: "));
    world.down.insert(store("a"));
    assert!(matches!(explained(&world).stores[0].1, Held::Unknown(_)));
}

#[test]
fn an_artifact_is_explained_store_by_store() {
    let mut world = healthy();
    let old = artifact(Kind::Full, ago(world.now, 24 * 30), 9);
    world.put(&["a", "b"], "agama", &old);
    world.artifact_mut("b", "agama", old.id).condition = damaged();
    let explained = |world: &World| {
        explain::artifact(&world.spec, &world.inventory(), &world.limits, old.id, world.now).unwrap()
    };
    let found = explained(&world);
    assert!(matches!(&found.stores["a"], Fate::Judged(verdict) if !verdict.keeps()));
    assert!(matches!(&found.stores["b"], Fate::Damaged(..)));
    world.down.insert(store("b"));
    assert!(explained(&world).unseen.contains_key("b"));
    world.spec.backups.clear();
    assert_eq!(explained(&world).stores["a"], Fate::Orphaned);
}
