//! What people ask for: restores, backups and checks on demand.

use backstay::{
    artifact::{ArtifactId, Depth, Kind},
    inventory::Lease,
    plan::{
        Action, Plan,
        action::{Destination, Restore},
        manual::{self, CannotCapture},
        restore::{self, CannotRestore, Point},
        verify::{self, Scope},
    },
    spec::Source,
};

use crate::world::*;

/// agama in a and b: fulls of three nights. Ids, oldest first.
fn three_nights() -> (World, Vec<ArtifactId>) {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly());
    let mut ids = Vec::new();
    for day in [18, 19, 20] {
        let full = artifact(Kind::Full, t(&format!("2026-11-{day}T01:00:00Z")), day);
        world.put(&["a", "b"], "agama", &full);
        ids.push(full.id);
    }
    (world, ids)
}

fn ask(world: &World, point: Point, from: Option<&str>) -> Result<Restore, CannotRestore> {
    let (to, from) = (Destination::Folder("/srv/restore".into()), from.map(store));
    let request = restore::Request { backup: backup("agama"), point, from, paths: Vec::new(), to };
    let plan = restore::restore(&world.spec, &world.inventory(), &world.limits, &request, world.now)?;
    let [step] = &plan.steps[..] else { panic!("{plan:#?}") };
    let Action::Restore(restore) = &step.action else { panic!("{plan:#?}") };
    Ok(restore.clone())
}

#[test]
fn a_point_is_the_newest_that_is_not_newer_than_what_was_asked_for() {
    let (world, ids) = three_nights();
    let point = |point| *ask(&world, point, None).unwrap().artifacts.last().unwrap();
    assert_eq!(point(Point::Latest), ids[2]);
    assert_eq!(point(Point::At(t("2026-11-20T01:00:00Z"))), ids[2]);
    assert_eq!(point(Point::At(t("2026-11-20T00:59:59Z"))), ids[1]);
    assert_eq!(point(Point::Artifact(ids[0])), ids[0]);
}

#[test]
fn the_first_store_that_has_everything_is_read_or_the_one_that_is_named() {
    let (mut world, ids) = three_nights();
    let at = |world: &World, from| ask(world, Point::Latest, from).unwrap().store.to_string();
    assert_eq!((at(&world, None), at(&world, Some("b"))), ("a".into(), "b".into()));
    world.artifact_mut("a", "agama", ids[2]).condition = damaged();
    assert_eq!(at(&world, None), "b");
    world.down.insert(store("b"));
    assert_eq!(ask(&world, Point::Latest, None).unwrap().artifacts, [ids[1]]);
    assert!(matches!(ask(&world, Point::Latest, Some("b")), Err(CannotRestore::StoreUnknown { .. })));
}

#[test]
fn what_is_not_there_is_an_error_that_names_what_is() {
    let (mut world, ids) = three_nights();
    let future = ask(&world, Point::At(t("2027-01-01T00:00:00Z")), None);
    assert!(
        matches!(future, Err(CannotRestore::Future { newest, .. }) if newest == t("2026-11-20T01:00:00Z"))
    );
    let early = ask(&world, Point::At(t("2026-01-01T00:00:00Z")), None);
    assert!(
        matches!(early, Err(CannotRestore::BeforeFirst { first, .. }) if first == t("2026-11-18T01:00:00Z"))
    );
    let between = ArtifactId::new(t("2026-11-19T12:00:00Z"), 1);
    let missing = ask(&world, Point::Artifact(between), None);
    assert!(matches!(missing, Err(CannotRestore::NoSuchArtifact { nearest, .. }) if nearest == ids[1..]));
    world.stores.values_mut().for_each(|store| store.backups.clear());
    assert!(matches!(ask(&world, Point::Latest, None), Err(CannotRestore::Nothing { .. })));
    world.spec.backups.clear();
    assert!(matches!(ask(&world, Point::Latest, None), Err(CannotRestore::UnknownBackup(_))));
}

#[test]
fn a_chain_is_applied_oldest_first_and_a_broken_one_is_refused() {
    let (mut world, ids) = three_nights();
    let mut last = artifact(Kind::Incremental, t("2026-11-20T02:00:00Z"), 30);
    last.requires = vec![ids[1], ids[2]];
    world.put(&["a"], "agama", &last);
    assert_eq!(ask(&world, Point::Latest, None).unwrap().artifacts, [ids[1], ids[2], last.id]);
    world.artifact_mut("a", "agama", ids[1]).condition = damaged();
    let broken = ask(&world, Point::Latest, None);
    assert!(matches!(broken, Err(CannotRestore::Broken { broken, .. }) if broken == ids[1]), "{broken:?}");
}

#[test]
fn what_is_no_longer_declared_can_still_be_restored() {
    let (mut world, ids) = three_nights();
    world.spec.backups.clear();
    assert_eq!(ask(&world, Point::Latest, None).unwrap().artifacts, [ids[2]]);
}

#[test]
fn a_part_is_restored_of_what_stands_at_paths_and_of_nothing_else() {
    let (mut world, _) = three_nights();
    let request = restore::Request {
        backup: backup("agama"),
        point: Point::Latest,
        from: None,
        paths: vec!["/srv/docs/a".to_owned()],
        to: Destination::Folder("/srv/restore".into()),
    };
    let ask = |world: &World| {
        let plan = restore::restore(&world.spec, &world.inventory(), &world.limits, &request, world.now)?;
        Ok::<_, CannotRestore>(plan.steps[0].action.to_string())
    };
    let said = ask(&world).unwrap();
    assert!(said.ends_with(" (/srv/docs/a only) from a to folder /srv/restore"), "{said}");
    world.spec.backups.get_mut("agama").unwrap().source = Source::Sqlite { path: "/srv/shop.db".into() };
    let refused = ask(&world).unwrap_err().to_string();
    assert!(refused.contains("what is captured of `sqlite` comes back as a whole only"), "{refused}");
}

fn back_up(world: &World, kind: Kind) -> Result<Plan, CannotCapture> {
    let request = manual::Request { backup: backup("agama"), kind, reason: Some("upgrade".into()) };
    manual::manual(&world.spec, &world.inventory(), &world.limits, &[request], world.now)
}

#[test]
fn a_backup_on_demand_fills_no_slot_and_says_who_asked_for_what() {
    let (world, ids) = three_nights();
    let plan = back_up(&world, Kind::Incremental).unwrap();
    let Action::Capture(capture) = &plan.steps[0].action else { panic!("{plan:#?}") };
    assert_eq!((capture.kind, capture.slot, capture.base), (Kind::Incremental, None, Some(ids[2])));
    assert!(capture.manual.is_some() && plan.steps[0].reason.contains("upgrade"));
}

#[test]
fn a_backup_on_demand_falls_back_to_a_full_and_to_another_store() {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly());
    world.down.insert(store("a"));
    assert_eq!(steps(&back_up(&world, Kind::Incremental).unwrap()), ["full agama b"]);
    world.down.insert(store("b"));
    assert!(matches!(back_up(&world, Kind::Full), Err(CannotCapture::MustWait { .. })));
    world.spec.backups.clear();
    assert!(matches!(back_up(&world, Kind::Full), Err(CannotCapture::Undeclared(_))));
}

#[test]
fn a_backup_on_demand_waits_for_the_capture_of_another() {
    let (mut world, _) = three_nights();
    let id = ArtifactId::new(world.now, 9);
    let lease = Lease { epoch: id, until: world.now + HOUR, controller: "another".to_owned() };
    world.stored("b", "agama").leases.insert(id, lease);
    let refused = back_up(&world, Kind::Full);
    assert!(matches!(refused, Err(CannotCapture::MustWait { until, .. }) if until == Some(world.now + HOUR)));
}

#[test]
fn checks_on_demand_cover_what_was_asked_for_and_wait_for_what_cannot_be_seen() {
    let (mut world, _) = three_nights();
    world.put(&["a"], "retired", &artifact(Kind::Full, ago(world.now, 24), 40));
    world.down.insert(store("b"));
    let check = |scope: Scope| {
        let asked = (&scope, Depth::Data);
        verify::verify(&world.spec, &world.inventory(), &world.limits, asked, world.now)
    };
    let all = check(Scope::Everything);
    assert_eq!((all.steps.len(), all.waiting.len()), (4, 1));
    assert_eq!(steps(&check(Scope::Backup(backup("retired")))), ["verify retired a data"]);
}

#[test]
fn repairs_on_demand_take_the_good_copy_or_nothing() {
    let (mut world, ids) = three_nights();
    let repair = |world: &World| {
        let scope = Scope::Backup(backup("agama"));
        steps(&verify::repair(&world.spec, &world.inventory(), &world.limits, &scope, world.now))
    };
    assert_eq!(repair(&world), Vec::<String>::new());
    world.artifact_mut("b", "agama", ids[2]).condition = damaged();
    assert_eq!(repair(&world), ["repair agama b"]);
    world.artifact_mut("a", "agama", ids[2]).condition = damaged();
    assert_eq!(repair(&world), Vec::<String>::new());
}
