//! What providers keep by themselves: when it is set, and when it is left alone; what counts of it, and what does not.

use std::collections::{BTreeMap, BTreeSet};

use backstay::{
    artifact::{
        ArtifactId, Kind,
        approval::{PlanApproval, PlanHash, Warrant},
        manifest::NativePlace,
    },
    inventory::{
        Condition as StoredCondition, Inferred, Inventory, Made, Native, NativeReference, NativeState,
        Observed, Provided, ProvidedSeen, ProviderSettings, Stretch,
    },
    plan::{
        self, Action, Plan,
        action::{Destination, Protect, SandboxKind},
        check::{Malformed, check},
        restore::{CannotRestore, Point, Request},
    },
    spec::{
        Drill, DrillHow, DrillPoint, DrillSubject, Dynamodb, Orphan, PointInTime, Protection, SelfHeal,
        SnapshotRule, Source, TableMethod,
    },
    status::{Concern, Condition, ObjectiveState, Revisions, Status},
};

use sha2::{Digest as _, Sha256};

use crate::world::*;

pub const ON: PointInTime = PointInTime::On { days: Some(35) };

pub fn table(method: TableMethod, point_in_time: Option<PointInTime>) -> Source {
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

pub fn settings(point_in_time: PointInTime, window: Option<Stretch>) -> ProviderSettings {
    ProviderSettings {
        point_in_time,
        window,
        inferred: None,
        backup_window: None,
        snapshots: None,
        snapshot_time: None,
        changing: None,
    }
}

pub fn see(world: &mut World, found: Observed<Provided>) {
    let source = world.spec.backups[&backup("agama")].source.clone();
    let seen = ProvidedSeen { at: world.now, source, found };
    world.provided.insert(backup("agama"), seen);
}

pub fn known(settings: ProviderSettings) -> Observed<Provided> {
    Observed::Known(Provided { settings, natives: None, account: None })
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
    let plan = world.unjudged();
    let reason =
        plan.steps.iter().find(|step| matches!(step.action, Action::Protect(_))).unwrap().reason.clone();
    assert!(reason.contains("this is lost: any second of 2026-10-21T12:00:00Z"), "{reason}");
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

fn approval(world: &World, plan: PlanHash) -> PlanApproval {
    PlanApproval {
        warrant: Warrant { plan, by: "kai@host".to_owned(), reason: "it is copied".to_owned(), commit: None },
        revision: "c0ffee".to_owned(),
        declaration: world.limits.declaration.clone(),
        given: world.now,
        until: world.now + HOUR,
    }
}

#[test]
fn seconds_that_can_be_brought_back_are_given_up_by_a_persons_word_only() {
    let window = |world: &World| month(world);
    let week = PointInTime::On { days: Some(7) };
    for declared in [PointInTime::Off, week] {
        let mut world = world(TableMethod::Logical, Some(declared));
        let seen = window(&world);
        see(&mut world, known(settings(ON, seen)));
        assert_eq!(protects(&world), Vec::new(), "{declared}");
        let withheld = world.plan().withheld;
        let [held] = withheld.as_slice() else { panic!("{withheld:?}") };
        assert_eq!((held.rule.as_str(), held.store.as_ref()), ("recoverable-seconds", None));
        assert!(held.reason.contains("any second of 2026-10-21T12:00:00Z"), "{}", held.reason);
        assert!(is_said(&world, Concern::Withheld));
        let hash = held.to_approve().unwrap();
        // It covers this very step, as long as it is declared and set so.
        let mut elsewhere = world.clone();
        elsewhere.limits.approvals = vec![approval(&world, PlanHash::new([7; 32]))];
        assert_eq!(protects(&elsewhere), Vec::new());
        let mut approved = world.clone();
        approved.limits.approvals = vec![approval(&world, hash)];
        let planned = protects(&approved);
        assert_eq!(planned[0].0.to.point_in_time, Some(declared));
        assert_eq!(approved.plan().approved[0].warrant.plan, hash);
        approved.now = world.now + 2 * HOUR;
        assert_eq!(protects(&approved), Vec::new(), "it has expired");
        approved.now = world.now;
        see(&mut approved, known(settings(PointInTime::On { days: Some(30) }, seen)));
        assert_eq!(protects(&approved), Vec::new(), "another step than the one that was approved");
    }
    let mut longer = world(TableMethod::Logical, Some(ON));
    see(&mut longer, known(settings(week, None)));
    assert_eq!(protects(&longer).len(), 1, "nothing is given up");
}

#[test]
fn what_is_approved_is_the_hash_of_the_lines_that_the_page_shows() {
    let mut world = world(TableMethod::Logical, None);
    let Source::Dynamodb(mut table) = table(TableMethod::Logical, Some(PointInTime::Off)) else {
        panic!("it is a table")
    };
    table.protection.snapshots = Some(rules(&["every day, keep 3d"]));
    world.spec.backups.get_mut(&backup("agama")).unwrap().source = Source::Dynamodb(table);
    see(
        &mut world,
        known(ProviderSettings { snapshots: Some(rules(&["every day, keep 7d"])), ..settings(ON, None) }),
    );
    let page = include_str!("../../docs/approval.md");
    let begin = page.find("backstay.provider/1\n").unwrap();
    let lines = page[begin..].lines().take_while(|line| *line != "```");
    let lines = lines.map(|line| match line.split("  ").next().unwrap() {
        "fleet NAME" => format!("fleet {}\n", world.spec.fleet.name),
        "declaration DIGEST" => format!("declaration {}\n", world.limits.declaration),
        "backup NAME" => "backup agama\n".to_owned(),
        line => format!("{line}\n"),
    });
    let hash = PlanHash::new(Sha256::digest(lines.collect::<String>()).into());
    let withheld = world.plan().withheld;
    assert_eq!(withheld.iter().map(|held| held.to_approve()).collect::<Vec<_>>(), [Some(hash)]);
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
    assert_eq!(protects(&world), Vec::new(), "a person must say so");
    let withheld = world.plan().withheld;
    let [held] = withheld.as_slice() else { panic!("{withheld:?}") };
    assert!(held.rule == "recoverable-seconds" && held.reason.contains("`every day, keep 7d`"), "{held:?}");
    world.limits.approvals = vec![approval(&world, held.to_approve().unwrap())];
    // The seconds are a setting of their own, which another step may change in between.
    let only_seconds = |point_in_time| {
        let seen = &["every day, keep 7d", "every sunday, keep 4w"];
        known(ProviderSettings { snapshots: Some(rules(seen)), ..settings(point_in_time, None) })
    };
    see(&mut world, only_seconds(ON));
    assert_eq!(protects(&world).len(), 1, "it is approved still");
    see(&mut world, only_seconds(PointInTime::Off));
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
    // What a provider does not tell is shown, and counts for nothing.
    let inferred = window.map(Inferred);
    see(&mut world, known(ProviderSettings { inferred, ..settings(ON, None) }));
    assert_eq!(state(&world), ObjectiveState::Breached);
    let status = status(&world);
    assert_eq!(status.backups[&backup("agama")].newest_moment(), Some(old.newest));
    let shown = serde_json::to_value(&status.backups[&backup("agama")].provider).unwrap();
    let settings = &shown["settings"]["known"];
    assert!(settings["inferred"]["end"].is_string() && settings["window"].is_null(), "{shown}");
}

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
