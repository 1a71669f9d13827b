//! What keeps stores in order: checks, repairs, sweeps, and the ends of what was interrupted.

use std::collections::BTreeMap;

use backstay::{
    artifact::{ArtifactId, Depth, Kind},
    inventory::{Armed, Interrupted, Lease, Observed, Work},
    plan::{
        Action, CannotRun, Plan,
        verify::{self, Scope},
    },
    spec::{Retention, Verify},
    status::explain,
};

use super::{check, estranged, settled, waits};
use crate::world::*;

#[test]
fn what_was_interrupted_is_cleaned_up_and_made_again() {
    let mut world = World::new(&["a"]).declare("agama", nightly());
    let plan = world.plan();
    let Action::Capture(capture) = &plan.steps[1].action else { panic!() };
    world.begin(capture);
    world.apply(&check(&world, &["clean-up agama a", "full agama a"]));
    check(&world, &[]);
}

#[test]
fn what_was_interrupted_after_its_commit_is_settled_and_not_made_again() {
    let mut world = World::new(&["a"]).declare("agama", nightly());
    world.settle(3);
    let (id, now) = (world.stored("a", "agama").artifacts[0].id, world.now);
    let lease = Lease { epoch: id, until: now + HOUR, controller: "ours".to_owned() };
    world.stored("a", "agama").leases.insert(id, lease);
    world.interrupted.push(Interrupted {
        backup: folder("agama"),
        store: store("a"),
        artifact: id,
        work: Work::Capture,
        copy: None,
    });
    world.apply(&check(&world, &["settle agama a"]));
    check(&world, &[]);
    assert_eq!((world.interrupted.len(), world.stored("a", "agama").leases.len()), (0, 0));

    // A manifest that can't be trusted tells nothing.
    world.interrupted.push(Interrupted {
        backup: folder("agama"),
        store: store("a"),
        artifact: id,
        work: Work::Capture,
        copy: None,
    });
    let stored = world.stored("a", "agama");
    stored.artifacts.clear();
    stored.unreadable.insert(id, "it is not signed".to_owned());
    let plan = world.plan();
    assert!(steps(&plan).iter().all(|step| !step.starts_with("settle") && !step.starts_with("clean-up")));
    assert!(waits(&plan).iter().any(|on| on.contains("can't be trusted")), "{:?}", plan.waiting);
}

#[test]
fn a_damaged_artifact_is_repaired_from_the_good_copy_and_then_replaced() {
    let mut world = settled();
    let id = world.stored("a", "agama").artifacts[0].id;
    world.artifact_mut("a", "agama", id).condition = damaged();
    world.apply(&check(&world, &["repair agama a"]));
    world.advance(MINUTE);
    world.apply(&check(&world, &["delete agama a", "verify agama a metadata"]));
    check(&world, &[]);
}

#[test]
fn a_damaged_artifact_without_a_good_copy_is_captured_anew() {
    let mut world = World::new(&["a"]).declare("agama", nightly());
    let mut full = artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 1);
    full.condition = damaged();
    world.put(&["a"], "agama", &full);
    check(&world, &["full agama a"]);
}

#[test]
fn checks_are_due_after_their_interval_deepest_first_and_bounded() {
    let mut world = settled();
    let policy = &mut world.spec.backups.get_mut("agama").unwrap().policy;
    policy.verify.data = Some(7 * DAY);
    policy.keep = Retention::default();
    world.limits.checks.data = 3;
    for n in 0..10 {
        world.put(&["a"], "agama", &artifact(Kind::Full, ago(world.now, 24 * 30 + n), n));
    }
    let plan = world.plan();
    let at = |depth: &str| steps(&plan).iter().filter(|s| *s == &format!("verify agama a {depth}")).count();
    assert_eq!((at("data"), at("metadata")), (3, 0));
    world.limits.deepest_check = Depth::Metadata;
    let plan = world.plan();
    let found = steps(&plan).iter().filter(|s| *s == "verify agama a metadata").count();
    assert_eq!(found, 10);
}

#[test]
fn unreferenced_packs_are_swept_a_day_after_they_were_recorded() {
    let mut world = settled();
    let id = ArtifactId::new(ago(world.now, 30), 7);
    world.stored("a", "agama").unreferenced.insert(id, 500);
    world.apply(&check(&world, &["record agama a"]));
    world.now = t("2026-11-21T00:59:00Z");
    check(&world, &[]);
    let record = *world.stored("a", "agama").candidates.get(&id).unwrap();
    world.now = record + DAY;
    assert!(steps(&world.plan()).contains(&"sweep agama a".to_owned()));
}

#[test]
fn where_nothing_can_be_read_a_data_check_is_made_in_place_of_one_of_the_plaintext() {
    let mut world = estranged(World::new(&["a", "b"]).declare("agama", nightly()));
    world.spec.backups.get_mut("agama").unwrap().policy.verify =
        Verify { metadata: None, data: None, plaintext: Some(DAY) };
    world.limits.identities = vec![world.spec.fleet.recipients[0].as_str().to_owned()];
    world.limits.deepest_check = Depth::Plaintext;
    let full = artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 1);
    world.put(&["a", "b"], "agama", &full);
    let plan = check(&world, &["verify agama a plaintext", "verify agama b data"]);
    let reasons: Vec<&str> = plan.steps[plan.steps.len() - 2..].iter().map(|s| s.reason.as_str()).collect();
    assert!(!reasons[0].contains("in place of"), "{reasons:?}");
    assert!(reasons[1].contains("in place of the plaintext check a data check is made in b"), "{reasons:?}");
    let why = explain::backup(&world.spec, &world.inventory(), &world.limits, &backup("agama"), world.now);
    let shallower = why.unwrap().shallower_checks;
    assert!(matches!(&shallower[..], [in_b] if in_b.contains("no identity")), "{shallower:?}");
    world.apply(&plan);
    check(&world, &[]);

    let asked = (&Scope::Everything, Depth::Plaintext);
    let plan = verify::verify(&world.spec, &world.inventory(), &world.limits, asked, world.now);
    assert_eq!(steps(&plan), ["verify agama a plaintext", "verify agama b data"]);
    assert!(plan.cannot_run.iter().any(|it| it.resource == "store.b"), "{:?}", plan.cannot_run);
}

#[test]
fn a_manifest_that_cannot_be_trusted_is_repaired_from_a_store_that_has_it_and_from_no_other() {
    let mut world = settled();
    let id = world.stored("a", "agama").artifacts[0].id;
    world.stored("a", "agama").artifacts.retain(|a| a.id != id);
    let forged = ArtifactId::new(ago(world.now, 2), 77);
    for unreadable in [id, forged] {
        world.stored("a", "agama").unreadable.insert(unreadable, "its signature does not match".to_owned());
    }
    let plan = world.plan();
    let repairs: Vec<String> = plan
        .steps
        .iter()
        .map(|step| step.action.to_string())
        .filter(|step| step.starts_with("repair"))
        .collect();
    assert_eq!(repairs, [format!("repair agama {id} in a from b")]);
}

#[test]
fn what_an_expired_one_requires_stays_as_long_as_the_store_locks_that_one() {
    let mut world = settled();
    let old = artifact(Kind::Full, ago(world.now, 24 * 20), 7);
    let mut locked = artifact(Kind::Full, ago(world.now, 24 * 16), 8);
    locked.requires = vec![old.id];
    for expired in [&old, &locked] {
        world.put(&["a"], "agama", expired);
        world.artifact_mut("a", "agama", expired.id).verified.metadata = Some(world.now);
    }
    world.spec.stores.get_mut(&store("a")).unwrap().immutable = Some(17 * DAY);
    let plan = check(&world, &[]);
    assert_eq!(waits(&plan), ["the lock of store a"]);
    assert_eq!(plan.withheld, [], "nothing for the judge to find");
    world.spec.stores.get_mut(&store("a")).unwrap().immutable = None;
    world.limits.delete_share = 1.0;
    check(&world, &["delete agama a", "delete agama a"]);
}

/// What is planned about schedules when the scheduler shows `armed`.
fn about_schedules(world: &World, armed: Observed<Armed>) -> Plan {
    let mut inventory = world.inventory();
    inventory.armed = armed;
    backstay::plan::plan(&world.spec, &inventory, &world.limits, world.now)
}

#[test]
fn what_somebody_changed_is_armed_anew_and_what_is_not_provably_ours_is_told_and_left_alone() {
    let world = settled();
    let schedule = world.spec.schedules().next().unwrap();
    let armed = Armed {
        altered: BTreeMap::from([(schedule, "line 6 is gone".to_owned())]),
        strangers: BTreeMap::from([("/etc/cron.d/backstay-x".to_owned(), "it bears no marker".to_owned())]),
        ..Armed::default()
    };
    let plan = about_schedules(&world, Observed::Known(armed));
    assert_eq!(steps(&plan), ["arm full agama"]);
    assert_eq!(plan.steps[0].reason, "changed by hand: line 6 is gone");
    assert_eq!(plan.waiting[0].what, "removal of /etc/cron.d/backstay-x");
}

#[test]
fn where_it_cannot_be_seen_what_is_armed_nothing_is_armed_or_disarmed_and_it_is_said() {
    let world = settled();
    let plan = about_schedules(&world, Observed::Unknown("permission denied".to_owned()));
    assert_eq!(steps(&plan), Vec::<String>::new());
    assert_eq!(plan.waiting[0].on, "permission denied");
    assert_eq!(plan.cannot_run[0].resource, "schedules");
}

#[test]
fn a_schedule_that_the_hosts_scheduler_cannot_hold_is_not_armed_and_its_backup_runs_all_the_same() {
    let mut world = World::new(&["a"]).declare("agama", nightly());
    let resource = "backup.agama.schedule.full".to_owned();
    world.limits.refused.push(CannotRun { resource, why: "cron's clock is in UTC".to_owned() });
    assert_eq!(steps(&world.plan()), ["full agama a"]);
}
