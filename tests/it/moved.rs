//! Renamed backups: what a declaration may say of them, and that nothing but their schedules is armed anew.

use std::collections::BTreeMap;

use backstay::{
    artifact::Kind,
    plan::{
        Action,
        action::Destination,
        manual::{self, CannotCapture},
        part::Part,
        restore::{self, CannotRestore, Point, Request},
    },
    render::{Palette, diagnostics},
    spec::{Moves, Orphan, Retention, parse, suspension::Scope},
    status::{Concern, Declared, Status, explain},
};

use crate::world::*;

/// Two backups, and what is said of moves.
fn declared(moved: &str) -> BTreeMap<String, Vec<u8>> {
    let text = format!(
        r#"[fleet]
name = "pavroto"
recipients = ["age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm"]
[infra]
stores = ["here", "there"]
[store.here.local]
path = "/srv/here"
[store.there]
location = "there"
local = {{ path = "/srv/there" }}
[policy.nightly]
full = "0 1 * * *"
[backup.agama]
policy = "nightly"
stores = ["here", "there"]
sqlite = {{ path = "/srv/agama.db" }}
[backup.orders]
policy = "nightly"
stores = ["here", "there"]
sqlite = {{ path = "/srv/orders.db" }}
{moved}"#
    );
    BTreeMap::from([("fleet.toml".to_owned(), text.into_bytes())])
}

fn found(moved: &str) -> String {
    let files = declared(moved);
    let parsed = parse(&files);
    assert_eq!(parsed.spec.is_none(), !parsed.diagnostics.is_empty());
    diagnostics::text(&parsed.diagnostics, &files, Palette::Plain)
}

#[test]
fn a_backup_that_was_renamed_twice_is_stored_under_the_first_name() {
    let files = declared("[moved.lizard]\nto = \"reptile\"\n[moved.reptile]\nto = \"agama\"\n");
    let parsed = parse(&files);
    assert_eq!(parsed.diagnostics, []);
    let moved = parsed.spec.unwrap().moved;
    assert_eq!(moved.folder(&backup("agama")), folder("lizard"));
    assert_eq!(moved.folder(&backup("orders")), folder("orders"));
}

#[test]
fn moves_that_can_not_be_so_are_errors_at_their_place() {
    insta::assert_snapshot!("moved-to-what-is-not-declared", found("[moved.old]\nto = \"agamma\"\n"));
    insta::assert_snapshot!("moved-and-given-up", found("[moved.old]\nto = \"gone\"\n"));
    insta::assert_snapshot!("moved-declared", found("[moved.orders]\nto = \"agama\"\n"));
    insta::assert_snapshot!(
        "moved-twice",
        found("[moved.old]\nto = \"agama\"\n[moved.older]\nto = \"agama\"\n")
    );
    insta::assert_snapshot!(
        "moved-in-a-circle",
        found("[moved.one]\nto = \"two\"\n[moved.two]\nto = \"one\"\n")
    );
    insta::assert_snapshot!(
        "moved-orphan",
        found("[moved.old]\nto = \"agama\"\n[orphan.old]\ndelete_after = \"9d\"\n")
    );
    insta::assert_snapshot!(
        "moved-and-still-meant",
        found(
            "[moved.old]\nto = \"agama\"\n[suspend.x]\nbackup = \"old\"\nuntil = \"2027-01-01\"\nreason = \"x\"\n"
        )
    );
    insta::assert_snapshot!(
        "moved-infra",
        found("[moved.infra]\nto = \"agama\"\n[moved.old]\nto = \"infra\"\n")
    );
}

#[test]
fn thousands_of_moves_are_read_in_proportion_to_their_number() {
    let chain: String = (0..4000).map(|n| format!("[moved.m{n}]\nto=\"m{}\"\n", n + 1)).collect();
    let to_one: String = (0..4000).map(|n| format!("[moved.m{n}]\nto=\"agama\"\n")).collect();
    for text in [format!("{chain}[moved.m4000]\nto=\"m0\"\n"), chain, to_one] {
        assert!(parse(&declared(&text)).spec.is_none());
    }
}

/// Agama every night and every hour in two stores, settled: the next hour is not over yet.
fn settled() -> World {
    let mut policy = hourly();
    policy.jitter = HOUR / 2;
    let mut world = World::new(&["a", "b"]).declare("agama", policy);
    world.settle(8);
    world.advance(DAY);
    world.settle(8);
    world
}

/// The same world, with the backup under another name.
fn renamed(mut world: World) -> World {
    let mut agama = world.spec.backups.remove("agama").unwrap();
    agama.name = backup("lizard");
    world.spec.backups.insert(backup("lizard"), agama);
    world.spec.moved = Moves::new(BTreeMap::from([(backup("agama"), backup("lizard"))]));
    world
}

#[test]
fn a_move_plans_nothing_but_schedules_under_the_new_name() {
    let world = renamed(settled());
    let plan = world.plan();
    assert_eq!(
        steps(&plan),
        ["disarm incremental agama", "disarm full agama", "arm incremental lizard", "arm full lizard"],
        "{plan:#?}"
    );
    assert!(plan.waiting.is_empty() && plan.withheld.is_empty(), "{plan:#?}");

    let mut without = world;
    without.spec.moved = Moves::default();
    assert!(steps(&without.plan()).contains(&"full lizard a".to_owned()));
}

#[test]
fn a_move_changes_neither_when_a_slot_falls_due_nor_what_it_builds_on() {
    let before = settled();
    let after = renamed(before.clone());
    let next = |world: &World| {
        let due = backstay::plan::next_due(&world.spec, &world.inventory(), &world.limits, world.now);
        due.unwrap()
    };
    assert_eq!(next(&before), next(&after), "the share of the jitter is the folder's");
    let capture = |mut world: World| {
        world.advance(HOUR);
        let plan = world.plan();
        plan.steps.into_iter().find_map(|step| match step.action {
            Action::Capture(capture) => Some((capture.kind, capture.slot, capture.base)),
            _ => None,
        })
    };
    let (before, after) = (capture(before), capture(after));
    assert!(before.is_some_and(|(kind, _, base)| kind == Kind::Incremental && base.is_some()));
    assert_eq!(before, after);
}

#[test]
fn retention_goes_on_under_the_new_name_with_what_is_left_from_the_old_one() {
    let aged = |mut world: World| {
        world.spec.backups.values_mut().for_each(|backup| backup.policy.verify = Default::default());
        world.advance(2 * DAY);
        world.settle(8);
        let keep = Retention { full: Some(HOUR), incremental: Some(HOUR), ..Retention::default() };
        world.spec.backups.values_mut().for_each(|backup| backup.policy.keep = keep.clone());
        world.limits.delete_share = 1.0;
        steps(&world.plan())
    };
    let deletions =
        |steps: Vec<String>| steps.into_iter().filter(|step| step.starts_with("delete ")).collect::<Vec<_>>();
    let before = deletions(aged(settled()));
    assert!(!before.is_empty());
    let after = deletions(aged(renamed(settled())));
    assert_eq!(after.join(" ").replace("lizard", "agama"), before.join(" "));
}

#[test]
fn what_the_newest_name_held_before_the_move_stays_within_reach_under_the_first_name() {
    let mut world = renamed(settled());
    // Somebody had renamed it first, and declared the move later.
    let stray = artifact(Kind::Full, ago(world.now, 900), 77);
    for store in world.stores.values_mut() {
        store.backups.entry(folder("lizard")).or_default().artifacts.push(stray.clone());
    }
    world.limits.delete_share = 1.0;
    let plan = world.plan();
    assert!(steps(&plan).iter().all(|step| step.contains("arm ")), "{plan:#?}");

    let status =
        Status::of(&world.spec, &world.inventory(), &world.limits, &plan, Default::default(), world.now);
    let found = &status.backups["agama"];
    assert_eq!((found.declared, found.stored_as.as_ref()), (Declared::Orphaned, Some(&folder("lizard"))));
    assert_eq!(found.stores["a"].artifacts, 1);
    assert_eq!(status.backups["lizard"].stored_as, Some(folder("agama")));
    let told = status.conditions.iter().find(|condition| condition.concern == Concern::Orphaned).unwrap();
    assert!(told.message.contains("[moved.agama]") && told.message.contains("stored as lizard"), "{told:?}");

    let explained =
        explain::artifact(&world.spec, &world.inventory(), &world.limits, stray.id, world.now).unwrap();
    assert_eq!((explained.backup, explained.stored_as), (backup("agama"), Some(folder("lizard"))));
    let request = Request {
        backup: backup("agama"),
        point: Point::Artifact(stray.id),
        from: None,
        paths: Vec::new(),
        to: Destination::File("/srv/out".into()),
    };
    let plan = restore::restore(&world.spec, &world.inventory(), &world.limits, &request, world.now).unwrap();
    let Action::Restore(restore) = &plan.steps[0].action else { panic!("{plan:#?}") };
    assert_eq!((&restore.backup, restore.artifacts.as_slice()), (&backup("agama"), &[stray.id][..]));
}

#[test]
fn the_former_name_is_answered_with_the_newest() {
    let world = renamed(settled());
    let (spec, inventory, limits) = (&world.spec, world.inventory(), &world.limits);
    let asked = manual::Request { backup: backup("agama"), kind: Kind::Full, reason: None };
    let captured = manual::manual(spec, &inventory, limits, &[asked], world.now);
    assert!(matches!(&captured, Err(CannotCapture::Renamed { name, .. }) if *name == backup("lizard")));
    let request = Request {
        backup: backup("agama"),
        point: Point::Latest,
        from: None,
        paths: Vec::new(),
        to: Destination::InPlace,
    };
    let restored = restore::restore(spec, &inventory, limits, &request, world.now);
    assert!(matches!(&restored, Err(CannotRestore::Renamed { name, .. }) if *name == backup("lizard")));
}

#[test]
fn a_moved_backup_that_is_given_up_goes_by_the_name_that_it_is_stored_under() {
    let mut world = renamed(settled());
    world.apply(&world.plan());
    world.spec.backups.clear();
    world.spec.moved = Moves::default();
    world.apply(&world.plan());
    world.spec.orphans.insert(backup("lizard"), Orphan { delete_after: HOUR });
    world.advance(10 * DAY);
    assert_eq!(steps(&world.plan()), Vec::<String>::new(), "nothing is stored under that name");
    world.spec.orphans.insert(backup("agama"), Orphan { delete_after: HOUR });
    assert!(steps(&world.plan()).contains(&"delete agama a".to_owned()));
}

#[test]
fn recorded_suspensions_are_of_the_folder() {
    let moves = Moves::new(BTreeMap::from([(backup("agama"), backup("lizard"))]));
    let recorded = moves.scope_as_recorded(Scope::Backup(backup("lizard")));
    assert_eq!(recorded, Scope::Backup(backup("agama")));
}

#[test]
fn the_recovery_kit_tells_the_folder_of_a_renamed_backup() {
    let dir = tempfile::tempdir().unwrap();
    backstay::kit::write(dir.path(), &renamed(settled()).spec, &[]).unwrap();
    let page = std::fs::read_to_string(dir.path().join("KIT.md")).unwrap();
    assert!(page.contains("**lizard**") && page.contains("; stored as `agama`"), "{page}");
}

#[test]
fn a_rename_is_planned_for_by_itself_in_a_large_fleet() {
    let before = settled().declare("orders", nightly());
    let after = renamed(before.clone());
    let part = Part::touched(&before.spec, &after.spec).expect("nothing but a name differs");
    assert_eq!(part, Part::of([backup("agama"), backup("lizard")]));
    let (spec, inventory) = (part.spec(&after.spec), part.inventory(&after.inventory(), &after.spec.moved));
    let plan = backstay::plan::plan(&spec, &inventory, &after.limits, after.now);
    assert!(plan.steps.len() == 4 && steps(&plan).iter().all(|step| step.contains("arm ")), "{plan:#?}");
}
