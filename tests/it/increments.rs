//! Increments that hold only what changed: what they build on, and what a restore of one needs.

use crate::world::*;
use backstay::{
    artifact::{
        ArtifactId, Kind,
        manifest::{Counting, Edge},
    },
    inventory::{Condition, LogSpan, StoredArtifact, logged_everywhere},
    plan::{
        Action,
        action::{Capture, Destination},
        restore::{self, Point, Request},
    },
    spec::{BinaryLogs, Cadence, Mysql, MysqlMethod, Policy, Retention, Server, Source, Tls},
};

/// Fulls on Sundays, increments every night.
fn weekly() -> Policy {
    let mut policy = nightly();
    policy.schedules.insert(Kind::Full, cron("0 1 * * 0"));
    policy.schedules.insert(Kind::Incremental, Cadence::Every(std::time::Duration::from_secs(3600)));
    policy
}

/// Agama's server, whose files are captured.
fn of_files(stores: &[&str]) -> World {
    let mut world = World::new(stores).declare("agama", weekly());
    let server = Server {
        host: "127.0.0.1".to_owned(),
        port: None,
        socket: None,
        user: None,
        password: None,
        databases: Vec::new(),
        tls: Tls::Default,
    };
    let method = MysqlMethod::Physical { data_dir: "/var/lib/mysql".into() };
    let mysql = Mysql { server, method, binary_logs: BinaryLogs::Left, counting: Counting::default() };
    world.spec.backups.get_mut("agama").unwrap().source = Source::Mysql(mysql);
    world
}

fn copy(kind: Kind, at: &str, lsn: u64, random: u64) -> StoredArtifact {
    let mut copy = artifact(kind, t(at), random);
    copy.position = Some(format!("bin.{lsn:06}:400, lsn {lsn}, files f, server s").into());
    copy
}

/// A full, an increment on it, and one on that.
fn chain() -> [StoredArtifact; 3] {
    let full = copy(Kind::Full, "2026-11-20T08:00:00Z", 100, 1);
    let mut first = copy(Kind::Incremental, "2026-11-20T09:00:00Z", 200, 2);
    (first.base, first.epoch, first.requires) = (Some(full.id), full.id, vec![full.id]);
    let mut second = copy(Kind::Incremental, "2026-11-20T10:00:00Z", 300, 3);
    (second.base, second.epoch, second.requires) = (Some(first.id), full.id, vec![full.id, first.id]);
    [full, first, second]
}

fn stored(stores: &[&str]) -> (World, [ArtifactId; 3]) {
    let mut world = of_files(stores);
    let all = chain();
    all.iter().for_each(|artifact| world.put(stores, "agama", artifact));
    (world, all.map(|artifact| artifact.id))
}

fn captured(world: &World) -> (Capture, String) {
    let captures = world.plan().steps.into_iter().find_map(|step| match step.action {
        Action::Capture(capture) => Some((capture, step.reason)),
        _ => None,
    });
    captures.expect("something is captured")
}

#[test]
fn an_increment_goes_on_from_where_its_base_stands() {
    let (world, ids) = stored(&["a"]);
    let (capture, _) = captured(&world);
    assert_eq!((capture.kind, capture.base), (Kind::Incremental, Some(ids[2])));
    assert!(capture.continues.unwrap().position.contains("lsn 300"));
}

#[test]
fn a_differential_goes_on_from_the_full() {
    let (mut world, ids) = stored(&["a"]);
    let schedules = &mut world.spec.backups.get_mut("agama").unwrap().policy.schedules;
    let cadence = schedules.remove(&Kind::Incremental).unwrap();
    schedules.insert(Kind::Differential, cadence);
    let (capture, _) = captured(&world);
    assert_eq!((capture.kind, capture.base), (Kind::Differential, Some(ids[0])));
    assert!(capture.continues.unwrap().position.contains("lsn 100"));
}

#[test]
fn where_nothing_is_to_build_on_a_full_is_made() {
    let as_full = |change: &dyn Fn(&mut World, &[ArtifactId; 3])| {
        let (mut world, ids) = stored(&["a"]);
        change(&mut world, &ids);
        let (capture, reason) = captured(&world);
        assert_eq!((capture.kind, capture.base, capture.continues), (Kind::Full, None, None), "{reason}");
        reason
    };
    let dumped = as_full(&|world, ids| {
        world.artifact_mut("a", "agama", ids[2]).position = Some("bin.000300:400, server s".into());
    });
    assert!(dumped.contains("native increment"), "{dumped}");
    as_full(&|world, ids| world.stored("a", "agama").artifacts.retain(|a| a.id != ids[1]));
    as_full(&|world, ids| world.artifact_mut("a", "agama", ids[1]).condition = damaged());
}

#[test]
fn sources_whose_increments_are_whole_go_on_from_nothing() {
    let (mut world, ids) = stored(&["a"]);
    let Source::Mysql(mysql) = &mut world.spec.backups.get_mut("agama").unwrap().source else { panic!() };
    mysql.method = MysqlMethod::Logical;
    let (capture, _) = captured(&world);
    assert_eq!((capture.base, capture.continues), (Some(ids[2]), None));
}

#[test]
fn a_restore_applies_the_whole_chain_in_order() {
    let (world, ids) = stored(&["a"]);
    let to = Destination::Folder("/srv/restore".into());
    let request =
        Request { backup: backup("agama"), point: Point::Latest, from: None, paths: Vec::new(), to };
    let plan = restore::restore(&world.spec, &world.inventory(), &world.limits, &request, world.now).unwrap();
    let Action::Restore(restore) = &plan.steps[0].action else { panic!("{plan:#?}") };
    assert_eq!(restore.artifacts, ids);
}

#[test]
fn a_chain_is_copied_in_order_and_stays_together() {
    let mut world = of_files(&["a", "b"]);
    let all = chain();
    all.iter().for_each(|artifact| world.put(&["a"], "agama", artifact));
    let plan = world.plan();
    let copies: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Copy { artifact, .. } => Some((*artifact, step.id, &step.after)),
            _ => None,
        })
        .collect();
    assert_eq!(copies.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), all.clone().map(|a| a.id));
    assert!(copies[2].2.contains(&copies[1].1) && copies[1].2.contains(&copies[0].1), "{plan:#?}");

    let (mut world, ids) = stored(&["a"]);
    world.spec.backups.get_mut("agama").unwrap().policy.keep = Retention {
        full: Some(std::time::Duration::from_secs(3600)),
        incremental: Some(std::time::Duration::from_secs(3 * 3600)),
        ..Retention::default()
    };
    world.put(&["a"], "agama", &copy(Kind::Full, "2026-11-20T11:00:00Z", 400, 4));
    world.now = t("2026-11-20T12:30:00Z");
    let plan = world.plan();
    let gone = |id: &ArtifactId| {
        plan.steps
            .iter()
            .any(|step| matches!(&step.action, Action::Delete { artifact, .. } if artifact == id))
    };
    assert!(!ids.iter().any(gone), "the last increment is young, and needs the others: {plan:#?}");
    world.now = t("2026-11-20T18:30:00Z");
    world.put(&["a"], "agama", &copy(Kind::Full, "2026-11-20T18:00:00Z", 500, 5));
    let plan = world.plan();
    let deletions: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Delete { artifact, .. } => Some(*artifact),
            _ => None,
        })
        .collect();
    let place = |id: &ArtifactId| deletions.iter().position(|gone| gone == id);
    assert!(place(&ids[2]).is_some() || deletions.is_empty(), "{plan:#?}");
    assert!(place(&ids[2]) <= place(&ids[1]) || place(&ids[1]).is_none(), "dependents go first: {plan:#?}");
}

#[test]
fn an_increment_without_its_full_is_no_restore_point() {
    let (mut world, ids) = stored(&["a"]);
    world.stored("a", "agama").artifacts.retain(|a| a.id != ids[0]);
    let stored = world.stored("a", "agama").clone();
    assert_eq!(stored.newest_whole(world.now), None);
    assert_eq!(stored.newest_good(world.now).map(|a| a.id), Some(ids[2]));
    let (capture, _) = captured(&world);
    assert_eq!(capture.kind, Kind::Full);
}

#[test]
fn logs_are_stored_up_to_where_the_last_store_has_them_without_a_gap() {
    let log = |from: u64, until: u64, random: u64| {
        let mut log = artifact(Kind::Log, t(&format!("2026-11-20T{until:02}:00:00Z")), random);
        let place = |number: u64| format!("bin.{number:06}:4, server s");
        let begins = Edge { time: t(&format!("2026-11-20T{from:02}:00:00Z")), position: place(from) };
        log.log = Some(Box::new(LogSpan { from: begins, named: Vec::new() }));
        log.position = Some(place(until).into());
        log
    };
    let mut full = copy(Kind::Full, "2026-11-20T05:00:00Z", 5, 1);
    full.position = Some("bin.000005:400, lsn 5, files f, server s".into());
    let mut world = of_files(&["a", "b"]);
    let reaches = |world: &mut World| {
        let (a, b) = (world.stored("a", "agama").clone(), world.stored("b", "agama").clone());
        logged_everywhere(&[&a, &b], world.now).map(|edge| edge.position)
    };
    world.put(&["a", "b"], "agama", &full);
    world.put(&["a"], "agama", &log(5, 6, 2));
    assert_eq!(reaches(&mut world), None, "one store has nothing of it");
    world.put(&["b"], "agama", &log(5, 6, 2));
    world.put(&["a"], "agama", &log(6, 7, 3));
    assert_eq!(reaches(&mut world).as_deref(), Some("bin.000006:4, server s"));
    world.put(&["a", "b"], "agama", &log(7, 8, 4));
    assert_eq!(reaches(&mut world).as_deref(), Some("bin.000006:4, server s"), "the copy has a gap");
    world.put(&["b"], "agama", &log(6, 7, 3));
    assert_eq!(reaches(&mut world).as_deref(), Some("bin.000008:4, server s"));
    world.stored("b", "agama").artifacts.retain(|a| a.kind == Kind::Log);
    assert_eq!(reaches(&mut world), None, "one store has none of it any more");
}

#[test]
fn the_last_chain_that_can_be_restored_outlives_newer_increments_on_a_damaged_full() {
    let (mut world, ids) = stored(&["a"]);
    world.artifact_mut("a", "agama", ids[0]).condition = damaged();
    let mut old = copy(Kind::Full, "2026-10-01T01:00:00Z", 50, 8);
    old.verified.metadata = Some(old.newest);
    world.put(&["a"], "agama", &old);
    let going = |world: &World| {
        let steps = world.plan().steps.into_iter();
        steps.filter(|step| matches!(step.action, Action::Delete { .. })).count()
    };
    assert_eq!(going(&world), 0, "the newest that can be restored is the old full");
    world.artifact_mut("a", "agama", ids[0]).condition = Condition::Good;
    assert_eq!(going(&world), 1, "it has expired, and newer data can be restored");
}
