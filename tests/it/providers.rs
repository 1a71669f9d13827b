//! What providers keep by themselves: when it is set, and when it is left alone; what counts of it, and what does not.

use std::collections::{BTreeMap, BTreeSet};

use backstay::{
    artifact::{ArtifactId, Kind},
    inventory::{
        Condition, Made, Native, NativeReference, NativeState, Observed, Provided, ProvidedSeen,
        ProviderSettings, Stretch,
    },
    plan::{
        self, Action,
        action::{Destination, Protect},
        check::{Malformed, check},
        restore::{CannotRestore, Point, Request},
    },
    spec::{Dynamodb, Orphan, PointInTime, Protection, SelfHeal, SnapshotRule, Source, TableMethod},
    status::{Concern, ObjectiveState, Revisions, Status},
};

use crate::world::*;

const ON: PointInTime = PointInTime::On { days: Some(35) };

fn table(method: TableMethod, point_in_time: Option<PointInTime>) -> Source {
    Source::Dynamodb(Dynamodb {
        region: "eu-north-1".to_owned(),
        table: "sessions".to_owned(),
        endpoint: None,
        credentials: None,
        protection: Protection { point_in_time, ..Protection::default() },
        method,
    })
}

/// A table with a copy in two stores, of which a provider keeps something by itself.
fn world(method: TableMethod, declared: Option<PointInTime>) -> World {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly());
    world.spec.backups.get_mut(&backup("agama")).unwrap().source = table(method, declared);
    world
}

fn settings(point_in_time: PointInTime, window: Option<Stretch>) -> ProviderSettings {
    ProviderSettings {
        point_in_time,
        window,
        backup_window: None,
        snapshots: None,
        snapshot_time: None,
        changing: None,
    }
}

fn see(world: &mut World, found: Observed<Provided>) {
    let source = world.spec.backups[&backup("agama")].source.clone();
    let seen = ProvidedSeen { at: world.now, source, found };
    world.provided.insert(backup("agama"), seen);
}

fn known(settings: ProviderSettings) -> Observed<Provided> {
    Observed::Known(Provided { settings, natives: None })
}

fn protects(world: &World) -> Vec<(Protect, String)> {
    let steps = world.plan().steps.into_iter();
    steps
        .filter_map(|step| match step.action {
            Action::Protect(protect) => Some((protect, step.reason)),
            _ => None,
        })
        .collect()
}

fn month(world: &World) -> Option<Stretch> {
    Some(Stretch { start: ago(world.now, 30 * 24), end: world.now - jiff::SignedDuration::from_mins(5) })
}

fn status(world: &World) -> Status {
    Status::of(&world.spec, &world.inventory(), &world.limits, &world.plan(), Revisions::default(), world.now)
}

fn is_said(world: &World, concern: Concern) -> bool {
    status(world).conditions.iter().any(|condition| condition.concern == concern)
}

#[test]
fn a_provider_is_set_as_declared_and_then_left_alone() {
    let mut world = world(TableMethod::Logical, Some(ON));
    see(&mut world, known(settings(PointInTime::Off, None)));
    assert!(is_said(&world, Concern::ProviderDiffers));
    let planned = protects(&world);
    let [(protect, reason)] = planned.as_slice() else { panic!("{planned:?}") };
    assert_eq!((protect.from, protect.to.point_in_time), (PointInTime::Off, Some(ON)));
    assert_eq!(reason, "declared, and point-in-time recovery is off");
    world.act(&Action::Protect(protect.clone()));
    assert_eq!(protects(&world), Vec::new());
    assert!(!is_said(&world, Concern::ProviderDiffers));
}

#[test]
fn nothing_is_set_that_is_not_declared_or_was_not_seen() {
    let mut undeclared = world(TableMethod::Native, None);
    see(&mut undeclared, known(settings(ON, None)));
    assert_eq!(protects(&undeclared), Vec::new());
    for declared in [ON, PointInTime::Off] {
        let mut unseen = world(TableMethod::Logical, Some(declared));
        see(&mut unseen, Observed::Unknown("no answer".to_owned()));
        assert_eq!(protects(&unseen), Vec::new());
        let waits = unseen.plan().waiting.into_iter().any(|waiting| waiting.on.contains("no answer"));
        assert!(waits && is_said(&unseen, Concern::ProviderUnknown));
        unseen.provided.clear();
        assert_eq!(protects(&unseen), Vec::new());
        assert!(is_said(&unseen, Concern::ProviderUnknown));
    }
}

#[test]
fn switching_off_tells_what_is_lost_and_happens_only_where_it_is_declared() {
    let mut world = world(TableMethod::Logical, Some(PointInTime::Off));
    let window = month(&world);
    see(&mut world, known(settings(ON, window)));
    let planned = protects(&world);
    assert!(planned[0].1.contains("this is lost: any second of 2026-10-21T12:00:00Z"), "{planned:?}");
    let plan = world.unjudged();
    let refused =
        |world: &World| check(plan.clone(), &world.spec, &world.inventory(), &world.limits, world.now);
    assert!(refused(&world).is_ok());
    // The judge goes by nothing that the planner says.
    for declared in [None, Some(ON)] {
        world.spec.backups.get_mut(&backup("agama")).unwrap().source = table(TableMethod::Logical, declared);
        assert!(matches!(refused(&world), Err(Malformed::NotSoDeclared { .. })), "{declared:?}");
    }
    world.spec.backups.get_mut(&backup("agama")).unwrap().source =
        table(TableMethod::Logical, Some(PointInTime::Off));
    see(&mut world, Observed::Unknown("no answer".to_owned()));
    assert!(matches!(refused(&world), Err(Malformed::NotSoDeclared { .. })), "unseen");
    see(&mut world, known(settings(PointInTime::On { days: Some(7) }, None)));
    assert!(matches!(refused(&world), Err(Malformed::NotSoDeclared { .. })), "set otherwise meanwhile");
}

fn rules(texts: &[&str]) -> BTreeSet<SnapshotRule> {
    texts.iter().map(|text| SnapshotRule::parse(text).unwrap()).collect()
}

#[test]
fn the_schedule_of_a_providers_snapshots_is_set_as_declared_and_only_as_it_was_seen() {
    let mut world = world(TableMethod::Logical, None);
    let declare = |world: &mut World, texts: &[&str]| {
        let Source::Dynamodb(mut table) = table(TableMethod::Logical, None) else { panic!("it is a table") };
        table.protection.snapshots = Some(rules(texts));
        world.spec.backups.get_mut(&backup("agama")).unwrap().source = Source::Dynamodb(table);
    };
    let found = |texts: &[&str]| {
        known(ProviderSettings { snapshots: Some(rules(texts)), ..settings(PointInTime::Off, None) })
    };
    declare(&mut world, &["every day, keep 3d"]);
    see(&mut world, found(&["every day, keep 7d", "every sunday, keep 4w"]));
    assert!(is_said(&world, Concern::ProviderDiffers));
    let planned = protects(&world);
    let [(protect, reason)] = planned.as_slice() else { panic!("{planned:?}") };
    assert_eq!(protect.snapshots_from, Some(rules(&["every day, keep 7d", "every sunday, keep 4w"])));
    assert_eq!(
        (protect.to.point_in_time, &protect.to.snapshots),
        (None, &Some(rules(&["every day, keep 3d"])))
    );
    assert!(reason.contains("this is lost: from then on snapshots are not made"), "{reason}");
    let plan = world.unjudged();
    let judged =
        |world: &World| check(plan.clone(), &world.spec, &world.inventory(), &world.limits, world.now);
    assert!(judged(&world).is_ok());
    declare(&mut world, &["every day, keep 4d"]);
    assert!(matches!(judged(&world), Err(Malformed::NotSoDeclared { .. })), "it is declared otherwise");
    declare(&mut world, &["every day, keep 3d"]);
    see(&mut world, found(&["every day, keep 30d"]));
    assert!(matches!(judged(&world), Err(Malformed::NotSoDeclared { .. })), "it was set otherwise meanwhile");
    see(&mut world, found(&["every day, keep 7d", "every sunday, keep 4w"]));
    world.act(&Action::Protect(protect.clone()));
    assert_eq!(protects(&world), Vec::new());
}

#[test]
fn what_somebody_changes_of_it_drifts_and_is_healed_as_declared() {
    let mut world = world(TableMethod::Logical, Some(ON));
    see(&mut world, known(settings(PointInTime::Off, None)));
    let inventory = world.inventory();
    assert_eq!(
        backstay::drift::drift(&world.spec, &inventory).drifts,
        Vec::new(),
        "it never was as declared"
    );
    see(&mut world, known(settings(ON, None)));
    let made = Made::default().after(&world.spec, &world.inventory(), &Default::default(), world.now);
    world.made = made.clone();
    see(&mut world, known(settings(PointInTime::Off, None)));
    let drifts = backstay::drift::drift(&world.spec, &world.inventory()).drifts;
    assert_eq!(drifts.len(), 1);
    assert_eq!(
        (drifts[0].kind.as_str(), drifts[0].found.as_str()),
        ("provider-changed", "point-in-time recovery off")
    );
    assert!(protects(&world)[0].1.starts_with("somebody set it otherwise"));
    let kept = made.after(&world.spec, &world.inventory(), &Default::default(), world.now);
    assert_eq!(kept.providers, world.made.providers, "it is remembered until it is healed");
    world.spec.backups.get_mut(&backup("agama")).unwrap().self_heal = SelfHeal::Off;
    assert_eq!(protects(&world), Vec::new());
}

#[test]
fn what_a_provider_can_bring_back_counts_for_the_objective_while_it_is_seen() {
    let mut world = world(TableMethod::Logical, Some(ON));
    let state = |world: &World| status(world).backups[&backup("agama")].objective.clone().unwrap().state;
    let old = artifact(Kind::Full, ago(world.now, 72), 1);
    world.put(&["a", "b"], "agama", &old);
    let window = month(&world);
    see(&mut world, known(settings(ON, window)));
    assert_eq!(state(&world), ObjectiveState::Met);
    assert_eq!(status(&world).backups[&backup("agama")].age_seconds, Some(300));
    see(&mut world, Observed::Unknown("no answer".to_owned()));
    assert_eq!(state(&world), ObjectiveState::Breached);
}

/// A native backup in both stores, as old as a day.
fn native(world: &mut World, reference: &str, random: u64) -> ArtifactId {
    let mut made = artifact(Kind::Full, ago(world.now, 24), random);
    made.native = Some(Box::new(NativeReference(reference.to_owned())));
    world.put(&["a", "b"], "agama", &made);
    made.id
}

fn natives(found: &[(&str, ArtifactId, NativeState)]) -> Observed<Provided> {
    let natives = found.iter().map(|(reference, artifact, state)| {
        ((*reference).to_owned(), Native { artifact: *artifact, state: state.clone() })
    });
    let natives: BTreeMap<String, Native> = natives.collect();
    Observed::Known(Provided { settings: settings(PointInTime::Off, None), natives: Some(natives) })
}

#[test]
fn an_artifact_that_its_provider_has_not_is_damaged_until_the_provider_has_it() {
    let mut world = world(TableMethod::Native, None);
    let id = native(&mut world, "arn:1", 1);
    let judged = |world: &World| {
        let mut inventory = world.inventory();
        inventory.judge_natives(&world.spec.moved);
        let Observed::Known(store) = &inventory.stores[&store("b")] else { panic!("it is known") };
        store.of(&backup("agama"), &world.spec.moved).unwrap().artifact(id).unwrap().condition.clone()
    };
    see(&mut world, natives(&[("arn:1", id, NativeState::Available)]));
    assert_eq!(judged(&world), Condition::Good);
    see(&mut world, natives(&[]));
    let gone = judged(&world);
    assert_eq!(gone, Condition::Damaged("its provider has no arn:1 any more".into()));
    see(&mut world, natives(&[("arn:1", id, NativeState::Broken("failed".to_owned()))]));
    assert!(matches!(judged(&world), Condition::Damaged(_)));
    see(&mut world, Observed::Unknown("no answer".to_owned()));
    assert_eq!(judged(&world), Condition::Good, "nothing follows from what was not seen");
    // A later look takes back what an earlier one found.
    for at in ["a", "b"] {
        world.artifact_mut(at, "agama", id).condition = gone.clone();
    }
    see(&mut world, natives(&[("arn:1", id, NativeState::Available)]));
    assert_eq!(judged(&world), Condition::Good);
    // A provider may list what was made just now later.
    world.artifact_mut("b", "agama", id).condition = Condition::Good;
    see(&mut world, natives(&[]));
    world.provided.get_mut(&backup("agama")).unwrap().at = id.time() + jiff::SignedDuration::from_mins(1);
    assert_eq!(judged(&world), Condition::Good);
}

#[test]
fn what_no_manifest_names_is_told_and_deleted_by_nobody() {
    let mut world = world(TableMethod::Native, None);
    let id = native(&mut world, "arn:1", 1);
    let stray = ArtifactId::new(ago(world.now, 48), 9);
    see(
        &mut world,
        natives(&[("arn:1", id, NativeState::Available), ("arn:9", stray, NativeState::Available)]),
    );
    let told = |world: &World| {
        let waiting = world.plan().waiting.into_iter().map(|waiting| waiting.what);
        waiting.filter(|what| what.contains("arn:")).collect::<Vec<_>>()
    };
    assert_eq!(told(&world), ["deletion of arn:9"]);
    assert!(!world.plan().steps.iter().any(|step| matches!(step.action, Action::Delete { .. })));
    world.down.insert(store("b"));
    assert_eq!(told(&world), Vec::<String>::new(), "a store that can't be seen may name it");
}

#[test]
fn natives_of_a_backup_that_is_declared_no_more_stay() {
    let mut world = world(TableMethod::Native, None);
    native(&mut world, "arn:1", 1);
    world.spec.backups.clear();
    world.spec.orphans.insert(backup("agama"), Orphan { delete_after: HOUR });
    let plan = world.plan();
    assert!(!plan.steps.iter().any(|step| matches!(step.action, Action::Delete { .. })), "{:?}", plan.steps);
    assert!(plan.waiting.iter().any(|waiting| waiting.on.contains("their provider keeps them")));
}

#[test]
fn checks_of_natives_ask_the_provider_and_no_more() {
    let mut world = world(TableMethod::Native, None);
    world.spec.backups.get_mut(&backup("agama")).unwrap().policy.verify.data = Some(7 * DAY);
    let id = native(&mut world, "arn:1", 1);
    see(&mut world, natives(&[("arn:1", id, NativeState::Available)]));
    let checks: Vec<String> =
        steps(&world.plan()).into_iter().filter(|step| step.starts_with("verify")).collect();
    assert_eq!(checks, ["verify agama a metadata", "verify agama b metadata"]);
}

fn ask(world: &World, at: jiff::Timestamp, to: Destination) -> Result<Action, CannotRestore> {
    let request =
        Request { backup: backup("agama"), point: Point::At(at), from: None, paths: Vec::new(), to };
    let plan = plan::restore::restore(&world.spec, &world.inventory(), &world.limits, &request, world.now)?;
    Ok(plan.steps[0].action.clone())
}

#[test]
fn a_moment_is_brought_back_by_the_provider_only_within_its_window_and_as_something_new() {
    let mut world = world(TableMethod::Logical, Some(ON));
    let old = artifact(Kind::Full, ago(world.now, 40 * 24), 1);
    world.put(&["a", "b"], "agama", &old);
    let window = month(&world);
    see(&mut world, known(settings(ON, window)));
    let new = || Destination::Database("then".to_owned());
    let (within, before) = (ago(world.now, 24), ago(world.now, 31 * 24));
    assert!(matches!(ask(&world, within, new()), Ok(Action::Rewind { at, .. }) if at == within));
    assert!(matches!(ask(&world, before, new()), Ok(Action::Restore(_))), "an artifact is older");
    assert!(matches!(ask(&world, within, Destination::File("/x".into())), Ok(Action::Restore(_))));
    assert!(matches!(ask(&world, world.now, new()), Err(CannotRestore::NotYetByProvider { .. })));
    see(&mut world, Observed::Unknown("no answer".to_owned()));
    assert!(matches!(ask(&world, within, new()), Err(CannotRestore::ProviderUnknown { .. })));
}

#[test]
fn a_native_backup_comes_back_as_something_new_only() {
    let mut world = world(TableMethod::Native, None);
    let id = native(&mut world, "arn:1", 1);
    see(&mut world, natives(&[("arn:1", id, NativeState::Available)]));
    let new = Destination::Database("copy".to_owned());
    assert!(matches!(ask(&world, world.now, new), Ok(Action::Restore(_))));
    for to in [Destination::InPlace, Destination::File("/x".into()), Destination::Folder("/x".into())] {
        let why = ask(&world, world.now, to).unwrap_err();
        assert!(why.to_string().contains("`--to table:NAME`"), "{why}");
    }
}
