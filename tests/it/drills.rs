//! Drills as they are planned, and how their results stand.

use std::collections::BTreeMap;

use backstay::{
    artifact::{ArtifactId, Depth, Kind, drill::DrillOutcome, manifest::Counting},
    inventory::{LeftBehind, LogSpan},
    plan::{
        self, Action, CannotRun, Limits, Plan,
        action::{Drill, SandboxKind},
        drill::{self, CannotDrill, Request},
        next_due,
        restore::Point,
    },
    spec::{
        self, BinaryLogs, DrillCheck, DrillPoint, DrillSubject, Mysql, MysqlMethod, Recipient, Server,
        Source, Suspension, Tls, suspension::Scope,
    },
    status::{Concern, Overall, Revisions, Status},
};

use crate::world::*;

/// Every night at 04:00.
fn nightly_drill(at: DrillPoint) -> spec::Drill {
    spec::Drill {
        subject: DrillSubject::Backup(backup("agama")),
        schedule: cron("0 4 * * *"),
        how: Default::default(),
        at,
        checks: Vec::new(),
    }
}

/// Agama in two stores, with fulls of the last three nights, all copied and armed; and a drill of it.
fn world(at: DrillPoint) -> World {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly());
    let (identity, recipient) = key();
    world.spec.fleet.recipients = vec![recipient];
    world.limits.identities = vec![identity];
    world.limits.deepest_check = Depth::Plaintext;
    for (n, night) in ["2026-11-18", "2026-11-19", "2026-11-20"].into_iter().enumerate() {
        let full = artifact(Kind::Full, t(&format!("{night}T01:00:00Z")), n as u64 + 1);
        world.put(&["a", "b"], "agama", &full);
    }
    world.settle(5);
    world.spec.drills.insert("trial".parse().unwrap(), nightly_drill(at));
    world
}

/// A public key twice: of an identity at hand, and of whom artifacts are for.
fn key() -> (String, Recipient) {
    let public = "age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm".to_owned();
    let text = format!(
        "[fleet]\nname = \"pavroto\"\nrecipients = [\"{public}\"]\n[store.a]\nlocal = {{ path = \"/srv/a\" }}\n\
         [policy.nightly]\nfull = \"0 1 * * *\"\n[backup.agama]\npolicy = \"nightly\"\nstores = [\"a\"]\n\
         sqlite = {{ path = \"/srv/agama.db\" }}"
    );
    let parsed = spec::parse(&BTreeMap::from([("fleet.toml".to_owned(), text.into_bytes())]));
    let recipient = parsed.spec.unwrap().fleet.recipients.remove(0);
    (public, recipient)
}

fn drills(plan: &Plan) -> Vec<&Drill> {
    plan.steps.iter().filter_map(|step| drill_of(&step.action)).collect()
}

fn drill_of(action: &Action) -> Option<&Drill> {
    match action {
        Action::Drill(drill) => Some(drill),
        _ => None,
    }
}

fn one(world: &World) -> Drill {
    let plan = world.plan();
    let found = drills(&plan);
    assert_eq!(found.len(), 1, "{plan:#?}");
    found[0].clone()
}

fn request(point: Option<Point>, from: Option<&str>) -> Request {
    Request { drill: "trial".parse().unwrap(), point, from: from.map(store), seed: 7, how: None }
}

fn manual(world: &World, request: Request) -> Result<Plan, CannotDrill> {
    drill::manual(&world.spec, &world.inventory(), &world.limits, &[request], world.now)
}

#[test]
fn a_slot_without_a_result_is_due_and_one_with_a_result_is_not_whatever_that_says() {
    let mut world = world(DrillPoint::Latest);
    let due = one(&world);
    assert_eq!(due.slot, Some(t("2026-11-20T04:00:00Z")));
    assert_eq!((due.point, due.is_newest), (t("2026-11-20T01:00:00Z"), true));
    assert_eq!(due.sandbox, SandboxKind::Folder);
    for outcome in
        [DrillOutcome::CouldNotRun("no room".into()), DrillOutcome::Failed("1 of 1 checks failed".into())]
    {
        let mut world = world.clone();
        let drilled = world.drilled(&due, outcome);
        world.stores.get_mut("a").unwrap().records.add_drilled(&drilled);
        assert!(drills(&world.plan()).is_empty());
        world.now = t("2026-11-21T04:00:00Z");
        assert_eq!(one(&world).slot, Some(world.now), "the next slot is due all the same");
    }
    world.apply(&world.plan());
    assert!(drills(&world.plan()).is_empty());
    let next = |world: &World| next_due(&world.spec, &world.inventory(), &world.limits, world.now);
    world.now = t("2026-11-21T03:30:00Z");
    assert_eq!(next(&world), Some(t("2026-11-21T04:00:00Z")));
    // One that a person asked for fills no slot.
    world.now = t("2026-11-21T04:00:00Z");
    world.apply(&manual(&world, request(None, None)).unwrap());
    assert_eq!(drills(&world.plan()).len(), 1);
}

#[test]
fn stores_take_turns_and_what_is_newest_goes_first() {
    let mut world = world(DrillPoint::Latest);
    let mut stores = Vec::new();
    for day in 21..25 {
        let due = one(&world);
        stores.push(due.store.to_string());
        world.act(&Action::Drill(Box::new(due)));
        world.now = t(&format!("2026-11-{day}T04:00:00Z"));
    }
    assert_eq!(stores, ["a", "b", "a", "b"]);
    // The copy is not there yet: the newest data is what a disaster would be judged by.
    world.put(&["a"], "agama", &artifact(Kind::Full, t("2026-11-24T03:59:00Z"), 9));
    for _ in 0..2 {
        let due = one(&world);
        assert_eq!((due.store.as_str(), due.point), ("a", t("2026-11-24T03:59:00Z")));
        world.now += DAY;
    }
}

#[test]
fn a_random_point_is_the_same_however_often_it_is_planned_and_another_every_slot() {
    let mut world = world(DrillPoint::Random);
    world.spec.backups.get_mut("agama").unwrap().policy.keep = Default::default();
    let mut points = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let due = one(&world);
        assert_eq!(due, one(&world));
        points.insert(due.point);
        world.act(&Action::Drill(Box::new(due)));
        world.now += DAY;
    }
    assert_eq!(points.len(), 3, "every restore point has its turn: {points:?}");
}

#[test]
fn a_random_second_lies_in_what_logs_reach_and_only_where_they_can_be_replayed() {
    let mut world = World::new(&["a"]).declare("agama", nightly());
    let (identity, recipient) = key();
    world.spec.fleet.recipients = vec![recipient];
    world.limits.identities = vec![identity];
    world.limits.deepest_check = Depth::Plaintext;
    let mut full = artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 1);
    full.position = Some("bin.000001:4".into());
    let mut log = artifact(Kind::Log, t("2026-11-20T11:00:00Z"), 2);
    log.position = Some("bin.000002:4".into());
    let from = serde_json::from_value(serde_json::json!({
        "time": "2026-11-20T01:00:00Z", "position": "bin.000001:4"
    }));
    log.log = Some(Box::new(LogSpan { from: from.unwrap(), named: Vec::new() }));
    world.put(&["a"], "agama", &full);
    world.put(&["a"], "agama", &log);
    world.spec.drills.insert("trial".parse().unwrap(), nightly_drill(DrillPoint::Random));
    let server = |databases: &[&str]| Server {
        host: "db".to_owned(),
        port: None,
        socket: None,
        user: None,
        password: None,
        databases: databases.iter().map(|name| name.to_string()).collect(),
        tls: Tls::Default,
    };
    let mut replayed = |databases: &[&str]| {
        let source = Source::Mysql(Mysql {
            server: server(databases),
            method: MysqlMethod::Logical,
            binary_logs: BinaryLogs::Left,
            counting: Counting::default(),
        });
        world.spec.backups.get_mut("agama").unwrap().source = source;
        let plans = (0..20).map(|seed| manual(&world, Request { seed, ..request(None, None) }).unwrap());
        let all: Vec<Drill> = plans.map(|plan| drills(&plan)[0].clone()).collect();
        for drill in &all {
            assert_eq!(drill.sandbox, SandboxKind::Mariadb);
            assert!(full.newest <= drill.point && drill.point <= log.newest, "{drill:?}");
        }
        all.iter().filter(|drill| !drill.logs.is_empty()).count()
    };
    let of_all = replayed(&[]);
    assert!((5..20).contains(&of_all), "{of_all}");
    assert_eq!(replayed(&["shop"]), 0, "the log of a server tells of all its databases");
}

#[test]
fn a_suspension_holds_a_drill_and_a_store_that_stands_still_gives_its_turn() {
    let mut world = world(DrillPoint::Latest);
    let suspend =
        |scope| Suspension { scope, from: None, until: t("2026-12-01T00:00:00Z"), reason: "moves".into() };
    world.spec.suspensions.insert("s".parse().unwrap(), suspend(Scope::Store(store("a"))));
    assert_eq!(one(&world).store, store("b"));
    world.spec.suspensions.insert("s".parse().unwrap(), suspend(Scope::Backup(backup("agama"))));
    let plan = world.plan();
    assert!(drills(&plan).is_empty());
    assert!(plan.waiting.iter().any(|wait| wait.what.starts_with("drill trial")), "{:#?}", plan.waiting);
    assert_eq!(drills(&manual(&world, request(None, None)).unwrap()).len(), 1, "a person may");
}

#[test]
fn a_store_that_is_unknown_is_no_reason_to_guess() {
    let mut world = world(DrillPoint::Latest);
    world.down.insert(store("a"));
    assert_eq!(one(&world).store, store("b"));
    world.down.insert(store("b"));
    let plan = world.plan();
    assert!(drills(&plan).is_empty());
    let wait = plan.waiting.iter().find(|wait| wait.what == "drill trial").unwrap();
    assert!(wait.on.contains("connection refused"), "{wait:?}");
    let error = manual(&world, request(None, Some("a"))).unwrap_err().to_string();
    assert!(error.contains("connection refused"), "{error}");
}

#[test]
fn what_is_damaged_is_not_drilled_and_an_artifact_can_be_asked_for() {
    let mut world = world(DrillPoint::Latest);
    let ids: Vec<ArtifactId> = world.stored("a", "agama").artifacts.iter().map(|a| a.id).collect();
    for at in ["a", "b"] {
        world.artifact_mut(at, "agama", ids[2]).condition = damaged();
    }
    assert_eq!(one(&world).artifacts, [ids[1]]);
    let asked = manual(&world, request(Some(Point::Artifact(ids[0])), Some("b"))).unwrap();
    let asked = drills(&asked)[0];
    assert_eq!((asked.artifacts.as_slice(), asked.store.as_str(), asked.slot), (&ids[..1], "b", None));
    assert!(!asked.is_newest);
    let error = manual(&world, request(Some(Point::Artifact(ids[2])), None)).unwrap_err().to_string();
    assert!(error.contains("damaged or missing"), "{error}");
    let unknown = Request { drill: "other".parse().unwrap(), ..request(None, None) };
    assert_eq!(manual(&world, unknown), Err(CannotDrill::Undeclared("other".parse().unwrap())));
}

#[test]
fn without_an_identity_a_drill_can_not_run_and_says_so() {
    let mut world = world(DrillPoint::Latest);
    world.limits = Limits::new("c0ffee");
    let plan = world.plan();
    assert!(drills(&plan).is_empty());
    let is_it = |cannot: &&CannotRun| cannot.resource == "drill.trial";
    assert!(plan.cannot_run.iter().find(is_it).unwrap().why.contains("keys.identity"));
    assert!(matches!(manual(&world, request(None, None)), Err(CannotDrill::CannotRun { .. })));
}

fn concerns(world: &World) -> Vec<(Concern, Overall)> {
    let plan = world.plan();
    let revisions = Revisions::default();
    let status = Status::of(&world.spec, &world.inventory(), &world.limits, &plan, revisions, world.now);
    let drills = status.conditions.iter().filter(|condition| condition.subject == "drill.trial");
    drills.map(|condition| (condition.concern, condition.concern.overall())).collect()
}

#[test]
fn status_tells_of_drills_that_never_were_that_failed_that_are_overdue_and_that_took_too_long() {
    let mut world = world(DrillPoint::Latest);
    assert_eq!(concerns(&world), [(Concern::NeverDrilled, Overall::Partial)]);
    let due = one(&world);
    let told = |world: &World, outcome, took| {
        let mut world = world.clone();
        let mut drilled = world.drilled(&due, outcome);
        drilled.rto_seconds = took;
        world.stores.get_mut("b").unwrap().records.add_drilled(&drilled);
        world
    };
    let passed = told(&world, DrillOutcome::Passed, Some(3600));
    assert_eq!(concerns(&passed), []);
    let failed = told(&world, DrillOutcome::CouldNotRun("no room".into()), None);
    assert_eq!(concerns(&failed), [(Concern::DrillFailed, Overall::Partial)]);
    let mut late = passed.clone();
    late.now = t("2026-11-21T05:00:00Z");
    assert_eq!(concerns(&late), [(Concern::DrillOverdue, Overall::Partial)]);
    world.spec.backups.get_mut("agama").unwrap().policy.rto = Some(HOUR);
    assert_eq!(concerns(&told(&world, DrillOutcome::Passed, Some(3600))), []);
    let slow = told(&world, DrillOutcome::Passed, Some(3601));
    assert_eq!(concerns(&slow), [(Concern::SlowRecovery, Overall::Partial)]);
}

#[test]
fn a_drill_deletes_nothing_and_nothing_that_it_reads_is_deleted_beside_it() {
    let mut world = world(DrillPoint::Latest);
    let read = one(&world).artifacts[0];
    let mut plan = world.unjudged();
    let delete = Action::Delete { backup: backup("agama"), artifact: read, store: store("a") };
    let id = backstay::plan::StepId(999);
    plan.steps.push(backstay::plan::Step {
        id,
        action: delete,
        reason: "r".into(),
        after: Default::default(),
    });
    assert!(!world.judge(plan).steps.iter().any(|step| matches!(step.action, Action::Delete { .. })));
    let before = world.stores["a"].backups.clone();
    world.act(&Action::Drill(Box::new(one(&world))));
    assert_eq!(world.stores["a"].backups, before);
    let checks = vec![DrillCheck::Counts];
    world.spec.drills.get_mut("trial").unwrap().checks = checks.clone();
    world.now += DAY;
    // This build counts nothing in restored files: the drill can't run, and never passes by leaving a check out.
    assert!(drills(&world.plan()).is_empty());
    assert!(world.plan().cannot_run.iter().any(|cannot| cannot.resource == "drill.trial"));
}

#[test]
fn what_a_drill_left_behind_is_removed_whatever_is_declared_by_now() {
    let mut world = world(DrillPoint::Latest);
    world.spec.drills.clear();
    let mut inventory = world.inventory();
    let left = LeftBehind {
        drill: "site".parse().unwrap(),
        revision: "0f".to_owned(),
        vms: vec!["web".parse().unwrap()],
    };
    inventory.left_behind = vec![left];
    let plan = plan::plan(&world.spec, &inventory, &world.limits, world.now);
    let plan = plan::check::check(plan, &world.spec, &inventory, &world.limits, world.now).unwrap();
    let steps: Vec<String> = plan.steps.iter().map(|step| step.action.to_string()).collect();
    assert_eq!(steps, ["remove what drill site left of web"]);
}
