//! Logs: when they are captured, what they go on from, which moments they reach, and what a restore replays.

use std::time::Duration;

use crate::world::*;
use backstay::{
    artifact::{
        ArtifactId, Kind,
        manifest::{Counting, Edge},
        until::{NamedPoint, PointName, Until},
    },
    inventory::{LogSpan, StoredArtifact, stretches, windows},
    plan::{
        Action,
        action::{Destination, Restore},
        restore::{self, CannotRestore, Point, Request},
    },
    render::{Palette, artifacts::Listing, lineage::Lineage},
    spec::{BinaryLogs, Cadence, Mysql, MysqlMethod, Policy, Retention, Server, Source, Tls},
};

const QUARTER: Duration = Duration::from_secs(900);

fn with_log() -> Policy {
    let mut policy = nightly();
    policy.schedules.insert(Kind::Log, Cadence::Every(QUARTER));
    policy
}

fn logged(stores: &[&str]) -> World {
    let mut world = World::new(stores).declare("agama", with_log());
    let server = Server {
        host: "db".to_owned(),
        port: None,
        socket: None,
        user: None,
        password: None,
        databases: Vec::new(),
        tls: Tls::Default,
    };
    world.spec.backups.get_mut("agama").unwrap().source = Source::Mysql(Mysql {
        server,
        method: MysqlMethod::Logical,
        binary_logs: BinaryLogs::Left,
        counting: Counting::default(),
    });
    world
}

fn full(at: &str, position: &str, random: u64) -> StoredArtifact {
    let mut full = artifact(Kind::Full, t(at), random);
    full.position = Some(position.into());
    full.verified.metadata = Some(full.newest);
    full
}

fn log((from, begin): (&str, &str), (until, end): (&str, &str), random: u64) -> StoredArtifact {
    let mut log = artifact(Kind::Log, t(until), random);
    log.slot = Some(t(until));
    let from = Edge { time: t(from), position: begin.to_owned() };
    log.log = Some(Box::new(LogSpan { from, named: Vec::new() }));
    log.position = Some(end.into());
    log.verified.metadata = Some(log.newest);
    log
}

const FULL: (&str, &str) = ("2026-11-20T01:00:00Z", "bin.000005:700, gtid 0-7-9");
const FIRST: ((&str, &str), (&str, &str)) =
    (("2026-11-20T01:00:00Z", "bin.000005:4"), ("2026-11-20T11:30:00Z", "bin.000006:4"));
const SECOND: ((&str, &str), (&str, &str)) =
    (("2026-11-20T11:30:00Z", "bin.000006:4"), ("2026-11-20T11:45:00Z", "bin.000007:4"));

/// A full and two logs that go on from it, in store `a`.
fn chain() -> (World, [ArtifactId; 3]) {
    let mut world = logged(&["a"]);
    let all = [full(FULL.0, FULL.1, 1), log(FIRST.0, FIRST.1, 2), log(SECOND.0, SECOND.1, 3)];
    all.iter().for_each(|artifact| world.put(&["a"], "agama", artifact));
    (world, all.map(|artifact| artifact.id))
}

fn captures(world: &World) -> Vec<(Kind, Option<String>, String)> {
    let steps = world.plan().steps.into_iter();
    let captures = steps.filter_map(|step| match step.action {
        Action::Capture(capture) => {
            Some((capture.kind, capture.continues.map(|edge| edge.position), step.reason))
        }
        _ => None,
    });
    captures.collect()
}

fn ask(world: &World, point: Point, to: Destination) -> Result<Restore, CannotRestore> {
    let request = Request { backup: backup("agama"), point, from: None, paths: Vec::new(), to };
    let plan = restore::restore(&world.spec, &world.inventory(), &world.limits, &request, world.now)?;
    match plan.steps.into_iter().next().expect("one step").action {
        Action::Restore(restore) => Ok(restore),
        other => panic!("{other}"),
    }
}

fn at(text: &str) -> Point {
    Point::At(t(text))
}

#[test]
fn a_log_goes_on_from_where_the_last_artifact_ends() {
    let (mut world, _) = chain();
    world.now = t("2026-11-20T12:00:00Z");
    let due = captures(&world);
    assert_eq!(due.len(), 1, "{due:?}");
    assert_eq!((due[0].0, due[0].1.as_deref()), (Kind::Log, Some("bin.000007:4")));
    let mut fresh = logged(&["a"]);
    fresh.put(&["a"], "agama", &full(FULL.0, FULL.1, 1));
    assert_eq!(captures(&fresh)[0].1.as_deref(), Some(FULL.1));
}

#[test]
fn without_data_that_tells_its_place_a_log_waits() {
    let mut world = logged(&["a"]);
    world.put(&["a"], "agama", &artifact(Kind::Full, t(FULL.0), 1));
    assert_eq!(captures(&world), []);
    assert!(world.plan().waiting.iter().any(|waiting| waiting.what == "log of agama"));
}

#[test]
fn a_gap_ends_the_window_and_a_full_begins_anew_at_once_and_once() {
    let (mut world, _) = chain();
    let after = log(("2026-11-20T11:50:00Z", "bin.000009:4"), ("2026-11-20T12:00:00Z", "bin.000010:4"), 4);
    world.put(&["a"], "agama", &after);
    let stored = world.stored("a", "agama").clone();
    let reached = stretches(&windows(&stored, world.now));
    assert_eq!(reached.len(), 1);
    assert_eq!((reached[0].start, reached[0].end), (t(FULL.0), t("2026-11-20T11:45:00Z")));
    let fulls = |world: &World| captures(world).into_iter().filter(|c| c.0 == Kind::Full).collect::<Vec<_>>();
    let due = fulls(&world);
    assert_eq!(due.len(), 1, "{due:?}");
    assert!(due[0].2.contains("the log has a gap between"), "{}", due[0].2);
    world.put(&["a"], "agama", &full("2026-11-20T12:00:00Z", "bin.000010:99", 5));
    assert_eq!(fulls(&world), []);
}

#[test]
fn a_log_joins_no_data_of_another_server_or_of_a_part_of_one() {
    for base in ["bin.000005:700, gtid 0-7-9", "bin.000005:700, server before"] {
        let mut world = logged(&["a"]);
        world.put(&["a"], "agama", &full(FULL.0, base, 1));
        let log = log((FIRST.0.0, "bin.000005:4, server now"), (FIRST.1.0, "bin.000006:4, server now"), 2);
        world.put(&["a"], "agama", &log);
        let refused = ask(&world, at("2026-11-20T11:00:00Z"), Destination::InPlace);
        assert!(matches!(refused, Err(CannotRestore::NotInLog { .. })), "{base}: {refused:?}");
        assert!(captures(&world).iter().any(|capture| capture.0 == Kind::Full), "{base}: a full begins anew");
    }
}

#[test]
fn logs_go_on_over_a_change_of_timeline_and_not_from_a_branch_that_was_left() {
    let after = "timeline 2, after 1 until 0/5000000, system s";
    for (base, reached) in [("0/3000100", true), ("0/6000000", false)] {
        let mut world = logged(&["a"]);
        world.put(
            &["a"],
            "agama",
            &full(FULL.0, &format!("{base}, timeline 1, system s, begun at 0/2000000"), 1),
        );
        let from = "0/3000000, timeline 1, system s";
        let log = log((FIRST.0.0, from), (FIRST.1.0, &format!("0/7000000, {after}")), 2);
        world.put(&["a"], "agama", &log);
        let restore = ask(&world, at("2026-11-20T11:00:00Z"), Destination::Folder("/restored".into()));
        assert_eq!(restore.is_ok(), reached, "{base}: {restore:?}");
    }
}

#[test]
fn the_tree_shows_what_goes_on_from_what_and_where_a_log_goes_on_from_nothing() {
    let (mut world, [base, ..]) = chain();
    let third = (("2026-11-20T11:45:00Z", "bin.000007:4"), ("2026-11-20T12:00:00Z", "bin.000008:4"));
    let gapped = (("2026-11-20T12:15:00Z", "bin.000009:4"), ("2026-11-20T12:15:00Z", "bin.000010:4"));
    world.put(&["a"], "agama", &log(third.0, third.1, 4));
    let lone = log(gapped.0, gapped.1, 5);
    world.put(&["a"], "agama", &lone);
    let mut shared = artifact(Kind::Incremental, t("2026-11-20T13:00:00Z"), 6);
    shared.base = Some(base);
    world.put(&["a"], "agama", &shared);
    let listing = Listing::of(&world.spec, &world.inventory(), world.now, |_| true);
    let size = |id: ArtifactId| {
        let row = listing.artifacts.iter().find(|row| row.artifact == id).unwrap();
        backstay::render::bytes(row.stores.values().next().unwrap().bytes)
    };
    let expected = format!(
        "agama\n\
         ├─ {base}  full  2026-11-20 01:00  a {}\n\
         │  ├─ 3 logs  up to 2026-11-20 11:30 … 2026-11-20 12:00\n\
         │  └─ {}  incremental  2026-11-20 13:00  a {}\n\
         └─ {}  log  2026-11-20 12:15  a {}  goes on from nothing that is here\n",
        size(base),
        shared.id,
        size(shared.id),
        lone.id,
        size(lone.id)
    );
    assert_eq!(Lineage::of(&listing, Palette::Plain).text(), expected);
}

#[test]
fn a_log_goes_on_over_newer_data_so_that_older_data_reaches_further() {
    let (mut world, [base, first, second]) = chain();
    world.put(&["a"], "agama", &full("2026-11-20T11:50:00Z", "bin.000007:900", 4));
    let due: Vec<_> = captures(&world).into_iter().filter(|capture| capture.0 == Kind::Log).collect();
    assert!(due.iter().all(|capture| capture.1.as_deref() == Some(SECOND.1.1)), "{due:?}");
    assert_eq!(due.len(), 1, "the next log goes on from the last");
    let third = log(("2026-11-20T11:45:00Z", "bin.000007:4"), ("2026-11-20T12:00:00Z", "bin.000008:4"), 5);
    world.put(&["a"], "agama", &third);
    let between = ask(&world, at("2026-11-20T11:48:00Z"), Destination::InPlace).unwrap();
    assert_eq!((between.artifacts, between.logs), (vec![base], vec![first, second, third.id]));
    // A log of another server is no way to it.
    world.put(&["a"], "agama", &full("2026-11-20T12:05:00Z", "bin.000001:77, server new", 6));
    world.advance(QUARTER);
    let due: Vec<_> = captures(&world).into_iter().filter(|capture| capture.0 == Kind::Log).collect();
    assert_eq!(due[0].1.as_deref(), Some("bin.000001:77, server new"));
}

#[test]
fn an_orphaned_full_goes_after_the_logs_that_go_on_from_it() {
    let (mut world, [base, first, second]) = chain();
    world.spec.backups.clear();
    let orphan = backstay::spec::Orphan { delete_after: Duration::from_secs(600) };
    world.spec.orphans.insert(backup("agama"), orphan);
    let mut gone = Vec::new();
    for _ in 0..3 {
        let plan = world.plan();
        assert_eq!(plan.withheld, [], "no rule holds back what may go");
        gone.extend(plan.steps.iter().filter_map(|step| match &step.action {
            Action::Delete { artifact, .. } => Some(*artifact),
            _ => None,
        }));
        world.apply(&plan);
        world.advance(DAY);
    }
    assert_eq!(gone, [first, second, base]);
}

#[test]
fn what_another_store_still_has_to_copy_is_no_gap() {
    let (mut world, ids) = chain();
    world = world_with_second_store(world, &ids);
    assert!(captures(&world).iter().all(|capture| capture.0 != Kind::Full), "{:?}", captures(&world));
}

/// The second log only in `b`, and a third one only in `a`.
fn world_with_second_store(before: World, ids: &[ArtifactId; 3]) -> World {
    let mut world = logged(&["a", "b"]);
    world.now = before.now;
    world.put(&["a", "b"], "agama", &full(FULL.0, FULL.1, 1));
    world.put(&["a", "b"], "agama", &log(FIRST.0, FIRST.1, 2));
    world.put(&["b"], "agama", &log(SECOND.0, SECOND.1, 3));
    assert_eq!(world.stored("b", "agama").artifacts.last().unwrap().id, ids[2]);
    let third = log(("2026-11-20T11:45:00Z", "bin.000007:4"), ("2026-11-20T12:00:00Z", "bin.000008:4"), 4);
    world.put(&["a"], "agama", &third);
    world
}

#[test]
fn a_second_is_reached_by_the_data_before_it_and_the_logs_up_to_it() {
    let (mut world, [base, first, second]) = chain();
    for (moment, logs) in [
        ("2026-11-20T01:00:01Z", vec![first]),
        ("2026-11-20T11:30:00Z", vec![first]),
        ("2026-11-20T11:30:01Z", vec![first, second]),
        ("2026-11-20T11:45:00Z", vec![first, second]),
    ] {
        let restore = ask(&world, at(moment), Destination::InPlace).unwrap();
        assert_eq!((restore.artifacts, restore.logs), (vec![base], logs), "{moment}");
        assert_eq!(restore.until, Some(Until::Moment(t(moment))));
    }
    let latest = ask(&world, Point::Latest, Destination::Folder("out".into())).unwrap();
    assert_eq!((latest.logs, latest.until), (vec![first, second], None));
    let exactly = ask(&world, at(FULL.0), Destination::Database("copy".to_owned())).unwrap();
    assert_eq!(exactly.logs, []);
    // A newer full leaves less to replay.
    world.put(&["a"], "agama", &full("2026-11-20T11:40:00Z", "bin.000006:50", 9));
    let nearer = ask(&world, at("2026-11-20T11:42:00Z"), Destination::InPlace).unwrap();
    assert_eq!((nearer.artifacts.len(), nearer.logs), (1, vec![second]));
}

#[test]
fn a_moment_that_no_log_reaches_is_refused_and_never_replaced_by_another() {
    let (mut world, [_, first, _]) = chain();
    world.now = t("2026-11-20T12:00:00Z");
    for moment in ["2026-11-20T11:45:01Z", "2026-11-20T00:59:59Z"] {
        let refused = ask(&world, at(moment), Destination::InPlace);
        assert!(matches!(refused, Err(CannotRestore::NotInLog { .. })), "{moment}: {refused:?}");
    }
    let copy = ask(&world, at("2026-11-20T11:00:00Z"), Destination::Database("copy".to_owned()));
    assert!(matches!(copy, Err(CannotRestore::NoPlaceForLogs { .. })), "{copy:?}");
    // The newest data can be restored anywhere.
    assert!(ask(&world, Point::Latest, Destination::Database("copy".to_owned())).unwrap().logs.is_empty());
    world.artifact_mut("a", "agama", first).condition = damaged();
    let broken = ask(&world, at("2026-11-20T11:40:00Z"), Destination::InPlace);
    assert!(matches!(broken, Err(CannotRestore::NotInLog { .. })), "{broken:?}");
    let lone = ask(&world, Point::Artifact(first), Destination::InPlace);
    assert!(matches!(lone, Err(CannotRestore::NotInLog { .. })), "{lone:?}");
}

#[test]
fn the_data_that_a_kept_log_goes_on_from_is_kept_longer_than_its_own_rule_says() {
    let mut world = logged(&["a"]);
    let keep = Retention { full: Some(DAY * 2), log: Some(DAY * 30), ..Retention::default() };
    world.spec.backups.get_mut("agama").unwrap().policy.keep = keep;
    let first = full("2026-11-03T01:00:00Z", "bin.000001:4", 1);
    let base = full("2026-11-04T01:00:00Z", "bin.000002:4", 2);
    let after = log(("2026-11-04T01:00:00Z", "bin.000002:4"), ("2026-11-04T02:00:00Z", "bin.000003:4"), 3);
    let newest = full("2026-11-20T01:00:00Z", "bin.000009:4", 4);
    [&first, &base, &after, &newest].into_iter().for_each(|artifact| world.put(&["a"], "agama", artifact));
    world.limits.delete_share = 1.0;
    let deleted = |world: &World| {
        let steps = world.plan().steps.into_iter();
        let gone = steps.filter_map(|step| match step.action {
            Action::Delete { artifact, .. } => Some(artifact),
            _ => None,
        });
        gone.collect::<Vec<_>>()
    };
    assert_eq!(deleted(&world), [first.id]);
}

#[test]
fn a_log_that_was_reset_needs_a_new_full_and_goes_on_from_that() {
    let mut world = logged(&["a"]);
    let old = full(FULL.0, "bin.000005:700, gtid 0-7-90", 1);
    let old_log = log((FULL.0, "bin.000005:4, gtid 0-7-80"), (SECOND.0.0, "bin.000006:4, gtid 0-7-100"), 2);
    [&old, &old_log].into_iter().for_each(|artifact| world.put(&["a"], "agama", artifact));
    // What the source tells of a log that is none of these: it begins where it ends.
    let place = "bin.000009:4, gtid 0-7-250";
    let apart = log((SECOND.1.0, place), (SECOND.1.0, place), 3);
    world.put(&["a"], "agama", &apart);
    world.now = t("2026-11-20T11:50:00Z");
    assert!(captures(&world).iter().any(|(kind, _, reason)| *kind == Kind::Full && reason.contains("gap")));
    let anew = full("2026-11-20T11:55:00Z", "bin.000009:800, gtid 0-7-260", 4);
    world.put(&["a"], "agama", &anew);
    world.now = t("2026-11-20T12:01:00Z");
    let goes_on = Some("bin.000009:800, gtid 0-7-260".to_owned());
    let planned: Vec<_> =
        captures(&world).into_iter().map(|(kind, continues, _)| (kind, continues)).collect();
    assert_eq!(planned, [(Kind::Log, goes_on)]);
    let next = log(
        ("2026-11-20T11:55:00Z", "bin.000009:4, gtid 0-7-250"),
        ("2026-11-20T12:01:00Z", "bin.000010:4, gtid 0-7-300"),
        5,
    );
    world.put(&["a"], "agama", &next);
    let stored = world.stored("a", "agama").clone();
    let reach = windows(&stored, world.now)
        .iter()
        .map(|window| (window.base.id, window.logs.iter().map(|log| log.id).collect()))
        .collect::<Vec<(_, Vec<_>)>>();
    assert_eq!(reach, [(old.id, vec![old_log.id]), (anew.id, vec![next.id])]);
    // Transactions are found in the window of their history.
    for (gtid, base) in [("0-7-95", old.id), ("0-7-270", anew.id)] {
        let point = Point::InLog(Until::Transaction(gtid.parse().unwrap()));
        assert_eq!(ask(&world, point, Destination::InPlace).unwrap().artifacts, [base], "{gtid}");
    }
}

#[test]
fn windows_of_a_server_and_of_the_replica_that_took_over_reach_the_transactions_of_each() {
    let mut world = logged(&["a"]);
    let primary = full(FULL.0, "bin.000005:700, gtid 0-7-90, server one", 1);
    let (from, until) = ("bin.000005:4, gtid 0-7-80, server one", "bin.000006:4, gtid 0-7-120, server one");
    let first = log((FULL.0, from), (SECOND.0.0, until), 2);
    let relief = full("2026-11-20T11:40:00Z", "relief.000002:700, gtid 0-8-130, server two", 3);
    let (from, until) =
        ("relief.000002:4, gtid 0-7-120, server two", "relief.000003:4, gtid 0-8-160, server two");
    let second = log(("2026-11-20T11:40:00Z", from), (SECOND.1.0, until), 4);
    [&primary, &first, &relief, &second].into_iter().for_each(|it| world.put(&["a"], "agama", it));
    for (gtid, base, logs) in [("0-7-100", &primary, &first), ("0-8-150", &relief, &second)] {
        let point = Point::InLog(Until::Transaction(gtid.parse().unwrap()));
        let restore = ask(&world, point, Destination::InPlace).unwrap();
        assert_eq!((restore.artifacts, restore.logs), (vec![base.id], vec![logs.id]), "{gtid}");
    }
    let between =
        ask(&world, Point::InLog(Until::Transaction("0-7-125".parse().unwrap())), Destination::InPlace);
    assert!(matches!(between, Err(CannotRestore::PlaceNotInLog { .. })), "{between:?}");
}

#[test]
fn a_place_in_the_log_is_reached_from_the_newest_data_before_it_or_refused() {
    let (mut world, [first, one, two]) = chain();
    let later = full("2026-11-20T11:40:00Z", "bin.000006:500, gtid 0-7-30", 9);
    world.put(&["a"], "agama", &later);
    world.artifact_mut("a", "agama", one).position = Some("bin.000006:4, gtid 0-7-20".into());
    world.artifact_mut("a", "agama", two).position = Some("bin.000007:4, gtid 0-7-40".into());
    let place = |text: &str| Point::InLog(Until::Place(text.parse().unwrap()));
    let gtid = |text: &str| Point::InLog(Until::Transaction(text.parse().unwrap()));
    for (point, base, logs) in [
        (place("bin.000005:900"), first, vec![one]),
        (place("bin.000006:4"), first, vec![one]),
        (place("bin.000006:400"), first, vec![one, two]),
        (place("bin.000006:501"), later.id, vec![two]),
        (gtid("0-7-10"), first, vec![one]),
        (gtid("0-7-25"), first, vec![one, two]),
        (gtid("0-7-31"), later.id, vec![two]),
    ] {
        let restore = ask(&world, point.clone(), Destination::InPlace).unwrap();
        assert_eq!((restore.artifacts, restore.logs), (vec![base], logs), "{point:?}");
        assert!(matches!(point, Point::InLog(until) if Some(&until) == restore.until.as_ref()));
    }
    for unreached in [
        place("bin.000005:700"),
        place("bin.000007:5"),
        place("other.000006:400"),
        gtid("0-7-9"),
        gtid("0-7-41"),
        gtid("1-7-12"),
        Point::InLog(Until::Named("before-upgrade".parse().unwrap())),
    ] {
        let refused = ask(&world, unreached.clone(), Destination::InPlace);
        assert!(matches!(refused, Err(CannotRestore::PlaceNotInLog { .. })), "{unreached:?}: {refused:?}");
    }
    let beside = ask(&world, place("bin.000006:501"), Destination::File("/srv/agama.sql".into()));
    assert!(matches!(beside, Err(CannotRestore::NoPlaceForLogs { .. })), "{beside:?}");
}

#[test]
fn a_named_point_is_reached_by_the_log_that_has_it() {
    let (mut world, [first, one, two]) = chain();
    let name: PointName = "before-upgrade".parse().unwrap();
    let at = |place: &str| NamedPoint { name: name.clone(), place: place.parse().unwrap() };
    world.artifact_mut("a", "agama", two).log.as_mut().unwrap().named = vec![at("bin.000006:400")];
    let ask_for_it =
        |world: &World| ask(world, Point::InLog(Until::Named(name.clone())), Destination::InPlace);
    let restore = ask_for_it(&world).unwrap();
    assert_eq!((restore.artifacts, restore.logs), (vec![first], vec![one, two.to_owned()]));
    // A full that was made behind it comes too late.
    let later = full("2026-11-20T11:40:00Z", "bin.000006:500", 9);
    world.put(&["a"], "agama", &later);
    assert_eq!(ask_for_it(&world).unwrap().artifacts, [first]);
    // Set anew behind the full, that one is meant.
    let anew = [at("bin.000006:400"), at("bin.000006:600")];
    world.artifact_mut("a", "agama", two).log.as_mut().unwrap().named = anew.to_vec();
    assert_eq!(ask_for_it(&world).unwrap().artifacts, [later.id]);
}
