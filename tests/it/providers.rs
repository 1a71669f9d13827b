//! What providers keep by themselves: when it is set, when it is left alone, and what counts of it.

mod natives;

use std::collections::BTreeSet;

use backstay::{
    artifact::{
        Kind,
        approval::{PlanApproval, PlanHash, Warrant},
    },
    inventory::{Inferred, Made, Observed, Provided, ProvidedSeen, ProviderSettings, Stretch},
    plan::{
        Action,
        action::Protect,
        check::{Malformed, check},
    },
    spec::{Dynamodb, PointInTime, Protection, SelfHeal, SnapshotRule, Source, TableMethod},
    status::{Concern, ObjectiveState, Revisions, Status},
};
use sha2::{Digest as _, Sha256};

use crate::world::*;

pub use natives::{native, natives};

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
