//! Backups that a provider keeps, as artifacts: what is known of them, what lets them go, and how they come back.

use std::collections::{BTreeMap, BTreeSet};

use backstay::{
    artifact::{ArtifactId, Kind, manifest::NativePlace},
    inventory::{
        Condition as StoredCondition, Inferred, Inventory, Native, NativeReference, NativeState, Observed,
        Provided, ProviderSettings,
    },
    plan::{
        self, Action, Plan,
        action::{Destination, SandboxKind},
        check::check,
        restore::{CannotRestore, Point, Request},
    },
    spec::{Drill, DrillHow, DrillPoint, DrillSubject, Orphan, PointInTime, TableMethod},
    status::{Concern, Condition, Revisions, Status},
};

use super::{ON, known, month, see, settings, table, world};
use crate::world::*;

/// A native backup in both stores, as old as a day.
pub fn native(world: &mut World, reference: &str, random: u64) -> ArtifactId {
    let mut made = artifact(Kind::Full, ago(world.now, 24), random);
    made.native = Some(Box::new(NativeReference {
        provider: "dynamodb-backup".to_owned(),
        reference: reference.to_owned(),
        place: None,
    }));
    world.put(&["a", "b"], "agama", &made);
    made.id
}

pub fn natives(found: &[(&str, ArtifactId, NativeState)]) -> Observed<Provided> {
    let natives = found.iter().map(|(reference, artifact, state)| {
        ((*reference).to_owned(), Native { artifact: *artifact, state: state.clone() })
    });
    let natives: BTreeMap<String, Native> = natives.collect();
    Observed::Known(Provided {
        settings: settings(PointInTime::Off, None),
        natives: Some(natives),
        account: None,
    })
}

#[test]
fn an_artifact_that_its_provider_has_not_is_damaged_until_the_provider_has_it() {
    let mut world = world(TableMethod::Native, None);
    let id = native(&mut world, "arn:1", 1);
    let judged = |world: &World| {
        let mut inventory = world.inventory();
        inventory.judge_natives(&world.spec);
        let Observed::Known(store) = &inventory.stores[&store("b")] else { panic!("it is known") };
        store.of(&backup("agama"), &world.spec.moved).unwrap().artifact(id).unwrap().condition.clone()
    };
    see(&mut world, natives(&[("arn:1", id, NativeState::Available)]));
    assert_eq!(judged(&world), StoredCondition::Good);
    see(&mut world, natives(&[]));
    let gone = judged(&world);
    assert_eq!(gone, StoredCondition::Damaged("its provider has no arn:1 any more".into()));
    see(&mut world, natives(&[("arn:1", id, NativeState::Broken("failed".to_owned()))]));
    assert!(matches!(judged(&world), StoredCondition::Damaged(_)));
    see(&mut world, Observed::Unknown("no answer".to_owned()));
    assert_eq!(judged(&world), StoredCondition::Good, "nothing follows from what was not seen");
    // A later look takes back what an earlier one found.
    for at in ["a", "b"] {
        world.artifact_mut(at, "agama", id).condition = gone.clone();
    }
    see(&mut world, natives(&[("arn:1", id, NativeState::Available)]));
    assert_eq!(judged(&world), StoredCondition::Good);
    // A provider may list what was made just now later.
    world.artifact_mut("b", "agama", id).condition = StoredCondition::Good;
    see(&mut world, natives(&[]));
    world.provided.get_mut(&backup("agama")).unwrap().at = id.time() + jiff::SignedDuration::from_mins(1);
    assert_eq!(judged(&world), StoredCondition::Good);
}

/// A place of the table of [`table`], in another account, region or of another table.
fn place(region: &str, account: Option<&str>, of: &str) -> NativePlace {
    NativePlace {
        region: region.to_owned(),
        endpoint: None,
        account: account.map(str::to_owned),
        of: of.to_owned(),
    }
}

/// Natives of which the first is the oldest, each expired but for the rules that keep what is newest.
fn old_natives(world: &mut World, places: &[NativePlace]) -> Vec<ArtifactId> {
    let mut ids = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let mut made = artifact(Kind::Full, ago(world.now, (40 - number as u64) * 24), number as u64);
        made.native = Some(Box::new(NativeReference {
            provider: "dynamodb-backup".to_owned(),
            reference: format!("arn:{number}"),
            place: Some(place.clone()),
        }));
        world.put(&["a", "b"], "agama", &made);
        ids.push(made.id);
    }
    ids
}

fn answered(found: &[(&str, ArtifactId)], account: &str) -> Observed<Provided> {
    let found: Vec<_> = found.iter().map(|(name, id)| (*name, *id, NativeState::Available)).collect();
    match natives(&found) {
        Observed::Known(provided) => {
            Observed::Known(Provided { account: Some(account.to_owned()), ..provided })
        }
        unknown => unknown,
    }
}

fn deleted(plan: &Plan) -> BTreeSet<ArtifactId> {
    let steps = plan.steps.iter().filter_map(|step| match step.action {
        Action::Delete { artifact, .. } => Some(artifact),
        _ => None,
    });
    steps.collect()
}

/// The inventory as a look leaves it, with what providers said of natives.
fn judged(world: &World) -> Inventory {
    let mut inventory = world.inventory();
    inventory.judge_natives(&world.spec);
    inventory
}

fn judged_plan(world: &World) -> Plan {
    let inventory = judged(world);
    let plan = plan::plan(&world.spec, &inventory, &world.limits, world.now);
    check(plan, &world.spec, &inventory, &world.limits, world.now).unwrap()
}

#[test]
fn what_lies_where_nobody_can_ask_is_unknown_and_stays_while_the_rest_goes_on() {
    let here = place("eu-north-1", Some("1"), "sessions");
    for (other, why) in [
        (place("eu-west-1", Some("1"), "sessions"), "region eu-west-1"),
        (place("eu-north-1", Some("2"), "sessions"), "account 2"),
        (place("eu-north-1", Some("1"), "users"), "it is of users"),
        (NativePlace { endpoint: Some("http://lab".to_owned()), ..here.clone() }, "endpoint http://lab"),
    ] {
        let mut world = world(TableMethod::Native, None);
        let ids = old_natives(&mut world, &[other, here.clone(), here.clone()]);
        // What the provider of another place does not have is not gone.
        see(&mut world, answered(&[("arn:1", ids[1]), ("arn:2", ids[2])], "1"));
        let inventory = judged(&world);
        let Observed::Known(found) = &inventory.stores[&store("a")] else { panic!("it is known") };
        let of = |id| found.of(&backup("agama"), &world.spec.moved).unwrap().artifact(id).unwrap();
        assert!(of(ids[0]).unknown().is_some_and(|said| said.contains(why)), "{:?}", of(ids[0]).condition);
        assert!(of(ids[1]).is_good() && of(ids[2]).is_good());
        let plan = judged_plan(&world);
        assert_eq!(deleted(&plan), BTreeSet::from([ids[1]]), "{why}: {:?}", plan.withheld);
        assert_eq!(plan.withheld, []);
        let told =
            plan.waiting.iter().any(|it| it.what.contains("retention of 1 native") && it.on.contains(why));
        assert!(told, "{:?}", plan.waiting);
        let status =
            Status::of(&world.spec, &inventory, &world.limits, &plan, Revisions::default(), world.now);
        let unknown = |it: &Condition| it.concern == Concern::ProviderUnknown && it.message.contains(why);
        assert!(status.conditions.iter().any(unknown), "{:?}", status.conditions);
        assert!(!status.conditions.iter().any(|it| it.concern == Concern::Damaged));
        let request = Request {
            backup: backup("agama"),
            point: Point::Artifact(ids[0]),
            from: None,
            paths: Vec::new(),
            to: Destination::Database("copy".to_owned()),
        };
        let refused = plan::restore::restore(&world.spec, &inventory, &world.limits, &request, world.now);
        assert!(matches!(refused, Err(CannotRestore::OutOfReach { .. })), "{refused:?}");
    }
}

#[test]
fn a_declaration_that_is_as_it_was_takes_back_what_could_not_be_told() {
    let mut world = world(TableMethod::Native, None);
    let ids = old_natives(&mut world, &[place("eu-north-1", None, "sessions")]);
    for at in ["a", "b"] {
        world.artifact_mut(at, "agama", ids[0]).condition =
            StoredCondition::Unknown("it lies elsewhere".into());
    }
    see(&mut world, answered(&[("arn:0", ids[0])], "1"));
    let inventory = judged(&world);
    let Observed::Known(found) = &inventory.stores[&store("a")] else { panic!("it is known") };
    let found = found.of(&backup("agama"), &world.spec.moved).unwrap().artifact(ids[0]).unwrap();
    assert_eq!(found.condition, StoredCondition::Good);
}

#[test]
fn the_rules_let_no_native_go_that_was_not_asked_for_whoever_plans_it() {
    let mut world = world(TableMethod::Native, None);
    let here = place("eu-north-1", Some("1"), "sessions");
    let away = place("eu-west-1", Some("1"), "sessions");
    let ids = old_natives(&mut world, &[away, here.clone(), here]);
    see(&mut world, answered(&[("arn:1", ids[1]), ("arn:2", ids[2])], "1"));
    let bad = |world: &World, artifact| {
        let mut plan = world.unjudged();
        let action = Action::Delete { backup: backup("agama"), artifact, store: store("a") };
        plan.steps = vec![plan::Step {
            id: plan::StepId(0),
            action,
            reason: "a bad plan".to_owned(),
            after: BTreeSet::new(),
        }];
        let judged = world.judge(plan);
        let rules: Vec<String> = judged.withheld.iter().map(|withheld| withheld.rule.clone()).collect();
        assert_eq!(judged.steps.is_empty(), !rules.is_empty());
        rules
    };
    assert_eq!(bad(&world, ids[1]), [""; 0], "what is known may go");
    assert_eq!(bad(&world, ids[0]), ["native-unknown"], "it lies elsewhere");
    see(&mut world, answered(&[("arn:2", ids[2])], "1"));
    assert_eq!(bad(&world, ids[1]), ["native-unknown"], "nobody asked for it");
    see(
        &mut world,
        natives(&[("arn:1", ids[1], NativeState::Gone), ("arn:2", ids[2], NativeState::Available)]),
    );
    assert_eq!(bad(&world, ids[1]), ["native-unknown"], "whose answer that is nobody knows");
    for unseen in [Observed::Unknown("no answer".to_owned()), known(settings(PointInTime::Off, None))] {
        see(&mut world, unseen);
        assert_eq!(bad(&world, ids[1]), ["native-unknown"]);
    }
    world.provided.clear();
    assert_eq!(bad(&world, ids[1]), ["native-unknown"]);
    world.spec.backups.clear();
    world.spec.orphans.insert(backup("agama"), Orphan { delete_after: HOUR });
    assert_eq!(bad(&world, ids[1]), ["native-unknown"], "nothing tells how its provider is reached");
}

#[test]
fn natives_of_a_backup_that_captures_by_itself_now_are_let_go_by_its_policy() {
    let mut world = world(TableMethod::Logical, None);
    let here = place("eu-north-1", Some("1"), "sessions");
    let ids = old_natives(&mut world, &[here.clone(), here]);
    let plan = judged_plan(&world);
    assert_eq!(deleted(&plan), BTreeSet::new(), "nobody asked for them");
    see(&mut world, answered(&[("arn:0", ids[0]), ("arn:1", ids[1])], "1"));
    assert_eq!(deleted(&judged_plan(&world)), BTreeSet::from([ids[0]]));
    let mut inventory = world.inventory();
    let source = table(TableMethod::Logical, None);
    assert_eq!(inventory.natives_named(&folder("agama"), &source).len(), 2, "they are asked for");
    inventory.stores.clear();
    assert!(inventory.natives_named(&folder("agama"), &source).is_empty());
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
    // What it does not tell it is asked for.
    see(&mut world, known(ProviderSettings { inferred: window.map(Inferred), ..settings(ON, None) }));
    assert!(matches!(ask(&world, within, new()), Ok(Action::Rewind { at, .. }) if at == within));
    assert!(matches!(ask(&world, before, new()), Ok(Action::Restore(_))));
}

#[test]
fn what_is_out_of_reach_is_not_passed_over_for_something_older() {
    let mut world = world(TableMethod::Native, None);
    let older = native(&mut world, "arn:1", 1);
    let mut newer = artifact(Kind::Full, ago(world.now, 12), 2);
    newer.native = Some(Box::new(NativeReference {
        provider: "dynamodb-backup".to_owned(),
        reference: "arn:2".to_owned(),
        place: Some(place("eu-west-1", None, "sessions")),
    }));
    newer.condition = StoredCondition::Unknown("it lies elsewhere".into());
    world.put(&["a", "b"], "agama", &newer);
    see(&mut world, natives(&[("arn:1", older, NativeState::Available)]));
    let restore = |point: Point, from: Option<&str>| {
        let to = Destination::Database("copy".to_owned());
        let request =
            Request { backup: backup("agama"), point, from: from.map(store), paths: Vec::new(), to };
        let plan =
            plan::restore::restore(&world.spec, &world.inventory(), &world.limits, &request, world.now);
        plan.map(|plan| plan.steps[0].action.clone())
    };
    for point in [Point::Latest, Point::At(world.now), Point::At(ago(world.now, 12))] {
        let refused = restore(point.clone(), None);
        let is_told =
            matches!(&refused, Err(CannotRestore::OutOfReach { artifact, .. }) if *artifact == newer.id);
        assert!(is_told, "{point:?}: {refused:?}");
        assert!(matches!(restore(point, Some("a")), Ok(Action::Restore(it)) if it.artifacts == [older]));
    }
    for point in [Point::At(ago(world.now, 13)), Point::Artifact(older)] {
        assert!(matches!(restore(point, None), Ok(Action::Restore(it)) if it.artifacts == [older]));
    }
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

#[test]
fn a_drill_of_natives_has_the_provider_make_something_and_needs_no_identity() {
    let mut world = world(TableMethod::Native, None);
    let id = native(&mut world, "arn:1", 1);
    see(&mut world, natives(&[("arn:1", id, NativeState::Available)]));
    let trial = Drill {
        subject: DrillSubject::Backup(backup("agama")),
        schedule: cron("0 4 * * *"),
        how: DrillHow::Backstay,
        at: DrillPoint::Latest,
        checks: Vec::new(),
    };
    world.spec.drills.insert("trial".parse().unwrap(), trial);
    let drilled = |world: &World| {
        let steps = judged_plan(world).steps.into_iter();
        let drills = steps.filter_map(|step| match step.action {
            Action::Drill(drill) => Some((drill.sandbox, drill.artifacts)),
            _ => None,
        });
        drills.collect::<Vec<_>>()
    };
    assert!(world.limits.identities.is_empty());
    assert_eq!(drilled(&world), [(SandboxKind::Provider, vec![id])]);
    for at in ["a", "b"] {
        world.artifact_mut(at, "agama", id).native.as_mut().unwrap().place =
            Some(place("eu-west-1", None, "sessions"));
    }
    assert_eq!(drilled(&world), [], "it lies where nobody can ask");
}
