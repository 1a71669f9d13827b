//! What a pass plans: one declaration, one inventory, one moment, one expectation.

mod upkeep;

use backstay::{
    artifact::{ArtifactId, Kind, manifest::Counting},
    inventory::{Lease, Observed, Origin},
    plan::{self, Action, Plan, next_due},
    spec::{
        BinaryLogs, Cadence, CatchUp, Mysql, MysqlMethod, Orphan, Retention, Server, Source, Tls, Window,
        window::Span,
    },
};
use jiff::Timestamp;

use crate::world::*;

/// What is planned besides arming, which every new backup brings.
fn check(world: &World, expect: &[&str]) -> Plan {
    let plan = world.plan();
    let mut found = steps(&plan);
    found.retain(|step| !step.starts_with("arm "));
    assert_eq!(found, expect, "{plan:#?}");
    plan
}

fn waits(plan: &Plan) -> Vec<&str> {
    plan.waiting.iter().map(|w| w.on.as_str()).collect()
}

/// Agama every night in two stores, with a full of tonight in both.
fn settled() -> World {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly());
    world.put(&["a", "b"], "agama", &artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 1));
    world
}

#[test]
fn the_first_full_is_due_at_once_and_copied_next() {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly());
    let plan = check(&world, &["full agama a"]);
    let Action::Capture(capture) = &plan.steps[1].action else { panic!() };
    assert_eq!(capture.slot, Some(t("2026-11-20T01:00:00Z")));
    world.apply(&plan);
    world.apply(&check(&world, &["copy agama b"]));
    world.apply(&check(&world, &["verify agama b metadata"]));
    check(&world, &[]);
}

#[test]
fn schedules_are_armed_once_and_disarmed_when_they_vanish() {
    let mut world = settled();
    let plan = world.plan();
    assert_eq!(steps(&plan), ["arm full agama"]);
    world.apply(&plan);
    assert_eq!(steps(&world.plan()), Vec::<String>::new());
    let policy = &mut world.spec.backups.get_mut("agama").unwrap().policy;
    policy.schedules.insert(Kind::Full, cron("0 2 * * *"));
    assert_eq!(steps(&world.plan())[..2], ["disarm full agama", "arm full agama"]);
    world.spec.backups.clear();
    assert_eq!(steps(&world.plan()), ["disarm full agama"]);
}

#[test]
fn a_slot_is_due_from_its_moment_on_and_filled_once() {
    let mut world = settled();
    world.now = t("2026-11-21T00:59:59Z");
    check(&world, &[]);
    world.now = t("2026-11-21T01:00:00Z");
    let plan = check(&world, &["full agama a", "verify agama a metadata", "verify agama b metadata"]);
    world.apply(&plan);
    check(&world, &["copy agama b"]);
}

#[test]
fn a_stronger_kind_fills_a_weaker_slot_and_a_late_full_fills_both() {
    let mut world = World::new(&["a"]).declare("agama", hourly());
    world.put(&["a"], "agama", &artifact(Kind::Full, t("2026-11-20T12:00:00Z"), 1));
    check(&world, &[]);
    world.now = t("2026-11-21T03:30:00Z");
    let plan = world.plan();
    let Action::Capture(capture) = &plan.steps[2].action else { panic!("{plan:#?}") };
    assert_eq!((capture.kind, capture.slot), (Kind::Full, Some(t("2026-11-21T03:00:00Z"))));
}

#[test]
fn an_incremental_builds_on_the_newest_good_artifact_of_its_epoch() {
    let mut world = World::new(&["a"]).declare("agama", hourly());
    let full = artifact(Kind::Full, t("2026-11-20T10:00:00Z"), 1);
    let mut second = artifact(Kind::Incremental, t("2026-11-20T11:00:00Z"), 2);
    (second.base, second.epoch) = (Some(full.id), full.id);
    world.put(&["a"], "agama", &full);
    world.put(&["a"], "agama", &second);
    let base = |world: &World| match &check(world, &["incremental agama a"]).steps[2].action {
        Action::Capture(capture) => capture.base,
        other => panic!("{other:?}"),
    };
    assert_eq!(base(&world), Some(second.id));
    world.artifact_mut("a", "agama", second.id).condition = damaged();
    let plan = check(&world, &["full agama a"]);
    assert!(plan.steps[2].reason.contains("no usable epoch"), "{}", plan.steps[2].reason);
}

#[test]
fn missed_runs_are_run_once_or_skipped() {
    let mut world = settled();
    world.now = t("2026-11-25T12:00:00Z");
    let captures = |world: &World| steps(&world.plan()).iter().filter(|s| s.starts_with("full")).count();
    assert_eq!(captures(&world), 1);
    world.spec.backups.get_mut("agama").unwrap().policy.catch_up = CatchUp::Skip;
    assert_eq!(captures(&world), 0);
    world.now = t("2026-11-26T01:30:00Z");
    assert_eq!(captures(&world), 1);
    world.now = t("2026-11-26T02:00:00Z");
    assert_eq!(captures(&world), 0);
    world.stores.values_mut().for_each(|s| s.backups.clear());
    assert_eq!(captures(&world), 1, "the first full is never skipped");
}

#[test]
fn a_closed_window_makes_captures_wait_until_it_opens() {
    let mut world = World::new(&["a"]).declare("agama", nightly());
    let office = Span::daily(jiff::civil::time(8, 0, 0, 0), jiff::civil::time(18, 0, 0, 0));
    let window = Window { deny: vec![office], ..Window::default() };
    world.spec.backups.get_mut("agama").unwrap().policy.window = window;
    let plan = check(&world, &[]);
    assert_eq!(plan.waiting[0].until, Some(t("2026-11-20T18:00:00Z")));
    let next = next_due(&world.spec, &world.inventory(), &world.limits, world.now);
    assert_eq!(next, Some(t("2026-11-20T18:00:00Z")));
    world.now = t("2026-11-20T18:00:00Z");
    check(&world, &["full agama a"]);
}

#[test]
fn manual_artifacts_and_those_from_the_future_fill_no_slot() {
    let mut world = World::new(&["a"]).declare("agama", nightly());
    let mut manual = artifact(Kind::Full, t("2026-11-20T11:00:00Z"), 1);
    (manual.slot, manual.origin) = (None, Origin::Manual);
    world.put(&["a"], "agama", &manual);
    world.put(&["a"], "agama", &artifact(Kind::Full, t("2027-11-20T11:00:00Z"), 2));
    check(&world, &["full agama a"]);
}

#[test]
fn the_next_store_takes_the_capture_while_the_first_is_unknown() {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly());
    world.down.insert(store("a"));
    let plan = check(&world, &["full agama b"]);
    assert!(plan.steps[1].reason.contains("connection refused; b takes it"), "{}", plan.steps[1].reason);
    world.apply(&plan);
    assert_eq!(waits(&check(&world, &[])), ["store a is unknown: connection refused"]);
    world.down.clear();
    check(&world, &["copy agama a"]);
    world.down = [store("a"), store("b")].into();
    check(&world, &[]);
    world.now = t("2026-11-21T02:00:00Z");
    assert_eq!(check(&world, &[]).waiting[0].what, "full of agama");
}

#[test]
fn a_live_lease_makes_captures_wait_and_a_lapsed_one_does_not() {
    let mut world = World::new(&["a"]).declare("agama", nightly());
    let id = ArtifactId::new(world.now, 9);
    let lease = Lease { epoch: id, until: world.now + MINUTE, controller: "other".to_owned() };
    world.stored("a", "agama").leases.insert(id, lease);
    assert_eq!(check(&world, &[]).waiting[0].until, Some(world.now + MINUTE));
    world.advance(MINUTE);
    check(&world, &["full agama a"]);
}

#[test]
fn an_unreadable_lease_is_waited_for_as_long_as_a_capture_may_last_and_no_longer() {
    let mut world = World::new(&["a"]).declare("agama", nightly());
    let id = ArtifactId::new(world.now, 9);
    let lease = Lease::unreadable(world.now);
    world.stored("a", "agama").leases.insert(id, lease);
    assert_eq!(waits(&check(&world, &[])).len(), 1);
    world.advance(DAY);
    check(&world, &["full agama a"]);
}

#[test]
fn the_infra_repo_is_bundled_into_every_store_before_anything_else() {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly()).declare_infra(&["ssh://mirror"]);
    let first = ["full infra a", "full infra b", "push ssh://mirror"];
    let plan = world.plan();
    assert_eq!(steps(&plan)[..3], first);
    world.settle(4);
    world.position = "p1".to_owned();
    world.advance(MINUTE);
    world.apply(&check(&world, &["incremental infra a", "incremental infra b", "push ssh://mirror"]));
    check(&world, &[]);
    world.mirrors.insert("ssh://mirror".to_owned(), Observed::Unknown("timeout".to_owned()));
    check(&world, &["push ssh://mirror"]);
}

#[test]
fn a_full_bundle_is_made_from_time_to_time_and_when_the_chain_is_broken() {
    let mut world = World::new(&["a"]).declare_infra(&[]);
    world.settle(2);
    let mut kinds = Vec::new();
    for n in 0..60 {
        world.advance(MINUTE);
        world.position = format!("p{n}-");
        kinds.extend(steps(&world.plan()));
        world.settle(3);
    }
    assert_eq!(kinds.iter().filter(|k| *k == "full infra a").count(), 1, "{kinds:?}");
    let bundles = &world.stored("a", "infra").artifacts;
    let last_full = bundles.iter().rev().find(|a| a.kind == Kind::Full).unwrap().id;
    world.artifact_mut("a", "infra", last_full).condition = damaged();
    check(&world, &["full infra a"]);
}

#[test]
fn expired_artifacts_go_from_every_store_and_the_newest_stays() {
    let mut world = settled();
    world.put(&["a", "b"], "agama", &artifact(Kind::Full, t("2026-11-06T11:00:00Z"), 2));
    world.artifact_mut("a", "agama", ArtifactId::new(t("2026-11-06T11:00:00Z"), 2)).verified.metadata =
        Some(world.now);
    world.apply(&check(&world, &["delete agama a", "delete agama b"]));
    check(&world, &[]);
}

#[test]
fn nothing_expires_while_the_other_store_is_unknown_or_lacks_its_copy() {
    let mut world = settled();
    let old = artifact(Kind::Full, t("2026-11-06T11:00:00Z"), 2);
    world.put(&["a"], "agama", &old);
    world.down.insert(store("b"));
    let plan = check(&world, &[]);
    assert!(plan.waiting.iter().any(|w| w.what == "deletion of 1 expired artifacts of agama in a"));
    world.down.clear();
    let agama = world.spec.backups.get_mut("agama").unwrap();
    agama.keep_in.insert(store("b"), Retention { full: Some(90 * DAY), ..Retention::default() });
    world.apply(&check(&world, &["copy agama b"]));
    check(&world, &["delete agama a", "verify agama b metadata"]);
}

#[test]
fn what_fills_the_latest_slot_stays_so_that_it_is_not_due_again() {
    let mut world = World::new(&["a"]).declare("agama", hourly());
    let policy = &mut world.spec.backups.get_mut("agama").unwrap().policy;
    policy.keep.full = Some(HOUR);
    policy.schedules.insert(Kind::Incremental, Cadence::Every(HOUR));
    world.put(&["a"], "agama", &artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 1));
    world.put(&["a"], "agama", &artifact(Kind::Incremental, t("2026-11-20T12:00:00Z"), 2));
    let plan = check(&world, &[]);
    assert_eq!(waits(&plan), ["the next slot: they fill the latest"]);
}

#[test]
fn only_what_the_destination_would_keep_is_copied() {
    let mut world = settled();
    world
        .spec
        .backups
        .get_mut("agama")
        .unwrap()
        .keep_in
        .insert(store("b"), Retention { full: Some(2 * DAY), ..Retention::default() });
    for (n, day) in ["2026-11-17", "2026-11-18", "2026-11-19"].iter().enumerate() {
        let mut full = artifact(Kind::Full, t(&format!("{day}T01:00:00Z")), n as u64 + 10);
        full.verified.metadata = Some(world.now);
        world.put(&["a"], "agama", &full);
    }
    check(&world, &["copy agama b"]);
}

#[test]
fn calendar_rules_settle_without_copying_back_and_forth() {
    let mut world = settled();
    let agama = world.spec.backups.get_mut("agama").unwrap();
    agama.policy.keep = Retention { daily: Some(3), monthly: Some(2), ..Retention::default() };
    agama.keep_in.insert(store("b"), Retention { daily: Some(2), ..Retention::default() });
    world.limits.delete_share = 1.0;
    for n in 1..20 {
        let full = artifact(Kind::Full, ago(t("2026-11-20T01:00:00Z"), 12 * n), n);
        world.put(if n % 3 == 0 { &["b"] } else { &["a"] }, "agama", &full);
    }
    world.settle(8);
}

#[test]
fn orphans_stay_until_they_are_let_go_and_then_go_over_days() {
    let mut world = settled();
    world.put(&["a"], "agama", &artifact(Kind::Full, ago(world.now, 300), 2));
    world.put(&["a"], "agama", &artifact(Kind::Full, ago(world.now, 200), 3));
    world.spec.backups.clear();
    check(&world, &[]);
    world.spec.orphans.insert(backup("agama"), Orphan { delete_after: HOUR });
    let plan = check(&world, &["delete agama a", "delete agama b"]);
    world.apply(&plan);
    check(&world, &[]);
    for _ in 0..3 {
        world.advance(DAY);
        let plan = world.plan();
        world.apply(&plan);
    }
    assert!(world.stores.values().all(|s| s.backups.values().all(|b| b.artifacts.is_empty())));
}

#[test]
fn what_cannot_run_is_said_and_the_rest_runs() {
    let mut world = settled().declare("orders", nightly());
    let policy = &mut world.spec.backups.get_mut("agama").unwrap().policy;
    policy.schedules.insert(Kind::Log, Cadence::Every(5 * MINUTE));
    world.spec.backups.get_mut("agama").unwrap().source = Source::Mysql(Mysql {
        server: Server {
            host: "pavroto-2".to_owned(),
            port: None,
            socket: None,
            user: None,
            password: None,
            databases: Vec::new(),
            tls: Tls::Default,
        },
        method: MysqlMethod::Logical,
        binary_logs: BinaryLogs::Left,
        counting: Counting::default(),
    });
    let (resource, why) = ("backup.orders".to_owned(), "this host does not allow it".to_owned());
    world.limits.refused.push(plan::CannotRun { resource, why });
    let plan = check(&world, &[]);
    let found: Vec<&str> = plan.cannot_run.iter().map(|c| c.resource.as_str()).collect();
    assert_eq!(found, ["backup.orders"]);
    assert_eq!(steps(&plan), ["arm log agama", "arm full agama"]);
}

#[test]
fn the_next_moment_of_interest_is_the_next_slot_check_or_expiry() {
    let mut world = settled();
    let next = |world: &World| next_due(&world.spec, &world.inventory(), &world.limits, world.now).unwrap();
    assert_eq!(next(&world), t("2026-11-21T01:00:00Z"));
    world.put(&["a", "b"], "agama", &artifact(Kind::Full, t("2026-11-06T13:00:00Z"), 2));
    for at in ["a", "b"] {
        world.artifact_mut(at, "agama", ArtifactId::new(t("2026-11-06T13:00:00Z"), 2)).verified.metadata =
            Some(world.now);
    }
    assert_eq!(next(&world), t("2026-11-20T13:00:00Z"));
}

#[test]
fn the_same_inventory_gives_the_same_plan() {
    let world = World::new(&["a", "b"]).declare("agama", hourly()).declare_infra(&["ssh://m"]);
    assert_eq!(world.unjudged(), world.unjudged());
    let json = serde_json::to_string(&world.plan()).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), world.plan());
    assert!(world.plan().at <= Timestamp::MAX);
}

/// Store `b` is for somebody else than the fleet.
fn estranged(mut world: World) -> World {
    let text = r#"[fleet]
        name = "pavroto"
        recipients = ["age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm"]
        [store.b]
        recipients = ["age1azjfk57nw7npfgadqvlc0gzgkjjgjvqq6mhn07c8rhqrrxpvsdeszk0dv7"]
        local = { path = "/srv/b" }
        [policy.nightly]
        full = "0 1 * * *"
        [backup.agama]
        policy = "nightly"
        stores = ["b"]
        sqlite = { path = "/srv/agama.db" }"#;
    let files = std::collections::BTreeMap::from([("fleet.toml".to_owned(), text.as_bytes().to_vec())]);
    let declared = backstay::spec::parse(&files).spec.unwrap();
    world.spec.fleet.recipients = declared.fleet.recipients;
    let theirs = declared.stores.into_values().next().unwrap().recipients;
    world.spec.stores.values_mut().find(|store| store.name.as_str() == "b").unwrap().recipients = theirs;
    world
}

#[test]
fn copies_for_others_need_an_identity_that_reads_the_original_and_say_so() {
    let mut world = estranged(World::new(&["a", "b"]).declare("agama", nightly()));
    world.put(&["a"], "agama", &artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 1));
    let plan = world.plan();
    assert!(steps(&plan).iter().all(|step| !step.starts_with("copy")), "{:?}", steps(&plan));
    let cannot: Vec<&str> = plan.cannot_run.iter().map(|it| it.resource.as_str()).collect();
    assert_eq!(cannot, ["backup.agama.copy.b"]);
    assert!(plan.cannot_run[0].why.contains("keys.identity"), "{}", plan.cannot_run[0].why);

    world.limits.identities = vec![world.spec.fleet.recipients[0].as_str().to_owned()];
    let plan = world.plan();
    assert!(steps(&plan).contains(&"copy agama b".to_owned()), "{:?}", steps(&plan));
    assert_eq!(plan.cannot_run.len(), 0);
}
