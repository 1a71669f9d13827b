//! Recoveries as they are planned, cut off, and gone on with.

use std::{collections::BTreeSet, time::Duration};

use backstay::{
    artifact::{
        Kind,
        recovered::{RecoveredOutcome, RecoverySubject, Terms},
    },
    inventory::{Machine, Observed, Running},
    plan::{
        Action, Plan, StepId,
        action::{Existing, Recover, Work},
        check::Malformed,
        recovery::{self, Begin, CannotRecover, Request},
    },
    render::recovery::diagram,
    spec::{
        Libvirt, OnLoss, Provision, Recovery, RecoveryAction, RecoveryStage, RecoveryStep, RunStep,
        SecretRef, Ssh, Vm, names::VmName,
    },
    status::{Concern, Revisions, Status},
};

use crate::world::*;

fn vm(name: &str) -> VmName {
    name.parse().unwrap()
}

fn machine(name: &str) -> Vm {
    let libvirt = Libvirt {
        uri: "test:///default".into(),
        image: "/srv/images/base.qcow2".into(),
        disks: "/srv/images".into(),
        disk: None,
        memory: 1 << 30,
        cpus: 1,
        network: "default".into(),
    };
    Vm {
        name: vm(name),
        stands_for: None,
        template: "cloud-init.yaml.tera".into(),
        vars: Default::default(),
        provision: Provision::Libvirt(libvirt),
        ssh: Some(Ssh {
            user: "root".into(),
            host: None,
            port: None,
            identity: SecretRef::File("/etc/backstay/secrets/vm".into()),
            host_key: None,
        }),
        ansible: None,
        on_loss: OnLoss::Report,
    }
}

fn step(action: RecoveryAction, after: Option<&[&str]>) -> RecoveryStep {
    let name = match &action {
        RecoveryAction::Rebuild(vm) => Some(vm.to_string()),
        RecoveryAction::Restore(backup) => Some(backup.to_string()),
        _ => None,
    };
    let after = after.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    RecoveryStep { name, action, after }
}

fn run(command: &str, on: &str) -> RecoveryAction {
    let (command, on) = (vec![command.to_owned()], Some(vm(on)));
    RecoveryAction::Run(RunStep { command, on, timeout: Duration::from_secs(60), stage: None })
}

/// Two machines, one with data that is backed up every night, and the recovery of both.
fn world() -> World {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly());
    for name in ["web", "db"] {
        world.spec.vms.insert(vm(name), machine(name));
        world.machines.insert(vm(name), Observed::Known(Machine::Gone));
    }
    world.put(&["a", "b"], "agama", &artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 1));
    world.settle(5);
    let steps = vec![
        step(RecoveryAction::Rebuild(vm("web")), None),
        step(RecoveryAction::Rebuild(vm("db")), None),
        step(RecoveryAction::Restore(backup("agama")), Some(&["db"])),
        step(run("start-agama", "web"), None),
    ];
    let site = Recovery { description: None, contact: None, rto: None, steps };
    world.spec.recoveries.insert("site".parse().unwrap(), site);
    world
}

fn site() -> Request {
    Request {
        subject: RecoverySubject::Recovery("site".parse().unwrap()),
        terms: Terms::default(),
        begin: Begin::First,
    }
}

fn on(terms: Terms) -> Request {
    Request { terms, ..site() }
}

fn resume() -> Request {
    Request { begin: Begin::Resume, ..site() }
}

fn plan_of(world: &World, request: &Request) -> Result<Plan, CannotRecover> {
    recovery::recover(&world.spec, &world.inventory(), &world.limits, request, world.now)
}

/// What is planned, judged by the rules that hold for every plan.
fn planned(world: &World, request: &Request) -> Plan {
    world.judge(plan_of(world, request).unwrap())
}

fn recovers(plan: &Plan) -> Vec<&Recover> {
    plan.steps.iter().filter_map(|step| recover_of(&step.action)).collect()
}

fn recover_of(action: &Action) -> Option<&Recover> {
    match action {
        Action::Recover(recover) => Some(recover),
        _ => None,
    }
}

fn works(plan: &Plan) -> Vec<String> {
    recovers(plan)
        .into_iter()
        .map(|recover| match &recover.work {
            Work::Restore { restore, existing } => format!("restore {} ({existing:?})", restore.backup),
            work => work.to_string(),
        })
        .collect()
}

fn after(plan: &Plan, number: u32) -> Vec<u32> {
    let step = plan.steps.iter().find(|step| step.id == StepId(number)).unwrap();
    step.after.iter().map(|id| id.0).collect()
}

const RUNNING: fn() -> Observed<Machine> = || Observed::Known(Machine::Running(Running::default()));

fn concerns(world: &World) -> Vec<Concern> {
    let (spec, inventory, limits) = (&world.spec, world.inventory(), &world.limits);
    let status = Status::of(spec, &inventory, limits, &world.plan(), Revisions::default(), world.now);
    status.conditions.into_iter().map(|condition| condition.concern).collect()
}

#[test]
fn machines_are_made_first_and_data_comes_back_when_its_own_is_there() {
    let plan = planned(&world(), &site());
    let expect = [
        "make machine web",
        "configure machine web",
        "make machine db",
        "configure machine db",
        "restore agama (Refused)",
        "run `start-agama` on web",
    ];
    assert_eq!(works(&plan), expect);
    assert_eq!(after(&plan, 4), [3], "agama waits for its own machine only");
    assert_eq!(after(&plan, 5), [1, 3, 4], "what is started waits for all that comes before");
    let stages: Vec<RecoveryStage> = recovers(&plan).into_iter().map(|recover| recover.stage).collect();
    assert!(stages.is_sorted(), "{stages:?}");
    assert!(recovers(&plan).iter().all(|recover| recover.parts == 6));
    let diagram = diagram(&plan);
    assert!(diagram.contains("subgraph machines") && diagram.contains("s3 --> s4"), "{diagram}");
    assert!(!diagram.contains("s3 --> s5"), "what follows from the rest is not drawn: {diagram}");
}

#[test]
fn what_is_there_stays_and_so_does_its_data() {
    let mut world = world();
    world.machines.insert(vm("db"), RUNNING());
    let plan = planned(&world, &site());
    let expect = [
        "make machine web",
        "configure machine web",
        "configure machine db",
        "restore agama (Kept)",
        "run `start-agama` on web",
    ];
    assert_eq!(works(&plan), expect);
    let all_the_same = on(Terms { restore: BTreeSet::from([backup("agama")]), ..Terms::default() });
    let plan = planned(&world, &all_the_same);
    assert!(works(&plan).contains(&"restore agama (Replaced)".to_owned()));
    // Another one is removed only by its name.
    let replaced = on(Terms { replace: BTreeSet::from([vm("db")]), ..Terms::default() });
    let plan = planned(&world, &replaced);
    assert_eq!(
        works(&plan)[2..6],
        ["remove machine db", "make machine db", "configure machine db", "restore agama (Refused)"]
    );
    assert_eq!(after(&plan, 3), [2]);
}

#[test]
fn nothing_is_made_where_nobody_knows_what_is_there() {
    let mut world = world();
    world.machines.insert(vm("db"), Observed::Unknown("no answer".into()));
    let error = plan_of(&world, &site()).unwrap_err();
    assert!(matches!(&error, CannotRecover::Unseen { vm, .. } if vm.as_str() == "db"), "{error}");
    world.machines.insert(vm("db"), Observed::Known(Machine::Broken { why: "it is paused".into() }));
    let error = plan_of(&world, &site()).unwrap_err().to_string();
    assert!(error.contains("it is paused") && error.contains("--replace db"), "{error}");
    world.machines.remove(&vm("db"));
    assert!(matches!(plan_of(&world, &site()), Err(CannotRecover::Unseen { .. })));
    world.machines.insert(vm("db"), RUNNING());
    let alone = Request { subject: RecoverySubject::Vm(vm("db")), ..site() };
    assert!(matches!(plan_of(&world, &alone), Err(CannotRecover::Runs { .. })));
    let stranger = on(Terms { replace: BTreeSet::from([vm("elsewhere")]), ..Terms::default() });
    assert!(matches!(plan_of(&world, &stranger), Err(CannotRecover::UndeclaredVm { .. })));
}

#[test]
fn a_recovery_that_is_cut_off_goes_on_with_what_is_not_done() {
    let mut world = world();
    assert!(matches!(plan_of(&world, &resume()), Err(CannotRecover::NothingToResume(_))));
    let begun = planned(&world, &site());
    for recover in &recovers(&begun)[..4] {
        world.recovered(recover, RecoveredOutcome::Done);
    }
    world.recovered(recovers(&begun)[4], RecoveredOutcome::Failed);
    assert!(concerns(&world).contains(&Concern::RecoveryUnfinished));
    world.now += Duration::from_secs(600);
    let rest = planned(&world, &resume());
    assert_eq!(works(&rest), ["restore agama (Refused)", "run `start-agama` on web"]);
    assert!(matches!(plan_of(&world, &site()), Err(CannotRecover::CutOff { done: 4, parts: 6, .. })));
    let anew = Request { begin: Begin::Anew, ..site() };
    assert!(planned(&world, &anew).steps.iter().all(|step| step.id.0 < 5), "its machines are there");
    assert!(recovers(&rest).iter().all(|it| it.parts == 6 && it.run == begun.at));
    for recover in recovers(&rest) {
        world.recovered(recover, RecoveredOutcome::Done);
    }
    assert!(matches!(plan_of(&world, &resume()), Err(CannotRecover::NothingToResume(_))));
    let history = world.inventory().recovery_history(&site().subject);
    let (run, whole) = history.last_whole().unwrap();
    assert_eq!((run, whole.done(), whole.parts), (begun.at, 6, 6));
}

#[test]
fn what_was_done_on_a_machine_that_is_gone_again_is_done_again() {
    let mut world = world();
    let begun = planned(&world, &site());
    for recover in &recovers(&begun)[..5] {
        world.recovered(recover, RecoveredOutcome::Done);
    }
    world.machines.insert(vm("db"), Observed::Known(Machine::Gone));
    let rest = planned(&world, &resume());
    let expect =
        ["make machine db", "configure machine db", "restore agama (Refused)", "run `start-agama` on web"];
    assert_eq!(works(&rest), expect);
}

#[test]
fn data_that_came_back_is_not_restored_again_when_another_machine_is_lost() {
    let mut world = world();
    let begun = planned(&world, &site());
    for recover in &recovers(&begun)[..5] {
        world.recovered(recover, RecoveredOutcome::Done);
    }
    world.machines.insert(vm("web"), Observed::Known(Machine::Gone));
    let expect = ["make machine web", "configure machine web", "run `start-agama` on web"];
    assert_eq!(works(&planned(&world, &resume())), expect);
    // One that was made whole and is off is no remains.
    world.machines.insert(vm("db"), Observed::Known(Machine::Broken { why: "it is shut off".into() }));
    assert!(matches!(plan_of(&world, &resume()), Err(CannotRecover::Broken { .. })));
}

#[test]
fn a_machine_of_which_nobody_knows_how_far_it_was_made_gets_its_data() {
    let mut world = world();
    let begun = planned(&world, &site());
    world.recovered(recovers(&begun)[0], RecoveredOutcome::Done);
    world.recovered(recovers(&begun)[2], RecoveredOutcome::Begun);
    world.machines.insert(vm("db"), RUNNING());
    world.now += Duration::from_secs(60);
    let rest = planned(&world, &resume());
    assert!(works(&rest).contains(&"restore agama (Refused)".to_owned()), "{rest:?}");
    for recover in recovers(&rest) {
        world.recovered(recover, RecoveredOutcome::Done);
    }
    assert!(!concerns(&world).contains(&Concern::RecoveryUnfinished), "all of what was left is done");
}

#[test]
fn what_was_done_of_another_step_counts_for_nothing() {
    let mut world = world().declare("orders", nightly());
    world.put(&["a", "b"], "orders", &artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 2));
    world.settle(5);
    let begun = planned(&world, &site());
    for recover in &recovers(&begun)[..5] {
        world.recovered(recover, RecoveredOutcome::Done);
    }
    let site = world.spec.recoveries.get_mut("site").unwrap();
    site.steps[2] = step(RecoveryAction::Restore(backup("orders")), Some(&["db"]));
    world.now += Duration::from_secs(60);
    let rest = planned(&world, &resume());
    assert_eq!(works(&rest), ["restore orders (Refused)", "run `start-agama` on web"]);
    // Six parts are done then, of which one is of no step that is declared.
    world.recovered(recovers(&rest)[1], RecoveredOutcome::Done);
    assert!(concerns(&world).contains(&Concern::RecoveryUnfinished));
}

#[test]
fn the_terms_of_its_beginning_hold_until_a_recovery_is_whole() {
    let mut world = world();
    world.put(&["a", "b"], "agama", &artifact(Kind::Full, t("2026-11-20T09:00:00Z"), 3));
    let at = Some(t("2026-11-20T02:00:00Z"));
    let begun = planned(&world, &on(Terms { at, ..Terms::default() }));
    world.recovered(recovers(&begun)[0], RecoveredOutcome::Done);
    let rest = planned(&world, &resume());
    let restored = recovers(&rest).into_iter().find_map(|recover| match &recover.work {
        Work::Restore { restore, .. } => Some(restore.artifacts.clone()),
        _ => None,
    });
    assert_eq!(restored, Some(vec![artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 1).id]));
    let terms = Terms { at: Some(t("2026-11-20T03:00:00Z")), ..Terms::default() };
    let other = Request { terms, ..resume() };
    assert!(matches!(plan_of(&world, &other), Err(CannotRecover::OtherTerms(_))));
    let named = Terms { restore: BTreeSet::from([backup("agama")]), ..Terms::default() };
    let rest = planned(&world, &Request { terms: named, ..resume() });
    assert!(works(&rest).contains(&"restore agama (Replaced)".to_owned()), "{:?}", works(&rest));
}

#[test]
fn a_machine_that_is_half_made_by_the_recovery_itself_is_removed_first() {
    let mut world = world();
    let begun = planned(&world, &site());
    world.recovered(recovers(&begun)[0], RecoveredOutcome::Failed);
    let anew = Request { begin: Begin::Anew, ..site() };
    assert!(matches!(plan_of(&world, &anew), Err(CannotRecover::Broken { .. })), "anew, it is a stranger");
    let rest = planned(&world, &resume());
    assert_eq!(works(&rest)[..3], ["remove machine web", "make machine web", "configure machine web"]);
}

#[test]
fn the_loop_makes_a_machine_anew_only_where_that_is_declared() {
    let mut world = world();
    let plan = world.plan();
    assert!(recovers(&plan).is_empty());
    assert!(plan.waiting.iter().any(|wait| wait.on.contains("backstay rebuild db")), "{:?}", plan.waiting);
    world.spec.vms.get_mut(&vm("db")).unwrap().on_loss = OnLoss::Rebuild;
    let plan = world.plan();
    assert_eq!(works(&plan), ["make machine db", "configure machine db"]);
    // The same is planned while it lasts, so that it is not begun twice.
    world.now += Duration::from_secs(5);
    assert_eq!(recovers(&world.plan()), recovers(&plan));
    // One that can't be made is not tried at every pass.
    world.recovered(recovers(&plan)[0], RecoveredOutcome::Failed);
    world.machines.insert(vm("db"), Observed::Known(Machine::Gone));
    world.now += Duration::from_secs(60);
    assert!(recovers(&world.plan()).is_empty());
    world.now += Duration::from_secs(900);
    let plan = world.plan();
    assert_eq!(works(&plan), ["make machine db", "configure machine db"]);
    for recover in recovers(&plan) {
        world.recovered(recover, RecoveredOutcome::Done);
    }
    assert!(recovers(&world.plan()).is_empty());
    for seen in
        [Observed::Unknown("no answer".into()), Observed::Known(Machine::Broken { why: "off".into() })]
    {
        world.machines.insert(vm("db"), seen);
        assert!(recovers(&world.plan()).is_empty());
    }
}

#[test]
fn a_machine_that_came_back_by_itself_and_could_not_be_configured_is_told_and_gone_on_with() {
    let mut world = world();
    world.spec.vms.get_mut(&vm("db")).unwrap().on_loss = OnLoss::Rebuild;
    let plan = world.plan();
    world.recovered(recovers(&plan)[0], RecoveredOutcome::Done);
    world.recovered(recovers(&plan)[1], RecoveredOutcome::Failed);
    assert!(recovers(&world.plan()).is_empty());
    assert!(concerns(&world).contains(&Concern::RecoveryUnfinished));
    let alone = Request { subject: RecoverySubject::Vm(vm("db")), ..resume() };
    assert_eq!(works(&planned(&world, &alone)), ["configure machine db"]);
}

#[test]
fn a_machine_that_is_declared_elsewhere_is_not_taken_for_lost() {
    let mut world = world();
    world.spec.vms.get_mut(&vm("db")).unwrap().on_loss = OnLoss::Rebuild;
    let plan = world.plan();
    for recover in recovers(&plan) {
        world.recovered(recover, RecoveredOutcome::Done);
    }
    world.now += Duration::from_secs(3600);
    world.machines.insert(vm("db"), Observed::Known(Machine::Gone));
    assert_eq!(works(&world.plan())[0], "make machine db");
    let declared = world.spec.vms.get_mut(&vm("db")).unwrap();
    let Provision::Libvirt(libvirt) = &mut declared.provision else { panic!() };
    libvirt.uri = "qemu:///session".into();
    let plan = world.plan();
    assert!(recovers(&plan).is_empty());
    assert!(plan.waiting.iter().any(|wait| wait.on.contains("test:///default")), "{:?}", plan.waiting);
}

#[test]
fn a_plan_that_would_lose_or_double_a_machine_is_refused() {
    let mut world = world();
    world.machines.insert(vm("db"), RUNNING());
    let replaced = on(Terms { replace: BTreeSet::from([vm("db")]), ..Terms::default() });
    let plan = planned(&world, &replaced);
    let judge = |plan: Plan| {
        backstay::plan::check::check(plan, &world.spec, &world.inventory(), &world.limits, world.now)
    };
    let without = |work: &str| {
        let mut plan = plan.clone();
        plan.steps.retain(|step| step.action.to_string() != work);
        let kept: BTreeSet<StepId> = plan.steps.iter().map(|step| step.id).collect();
        plan.steps.iter_mut().for_each(|step| step.after.retain(|id| kept.contains(id)));
        plan
    };
    assert!(judge(plan.clone()).is_ok());
    assert!(matches!(judge(without("make machine db")), Err(Malformed::MachineIsLost { .. })));
    assert!(matches!(judge(without("remove machine db")), Err(Malformed::MachineIsThere { .. })));
    let mut unordered = plan.clone();
    unordered.steps.iter_mut().for_each(|step| step.after.clear());
    assert!(matches!(judge(unordered), Err(Malformed::MachineIsThere { .. })));
}

#[test]
fn data_is_brought_back_to_the_moment_that_is_asked_for() {
    let world = world();
    let early = on(Terms { at: Some(t("2026-11-01T00:00:00Z")), ..Terms::default() });
    assert!(matches!(plan_of(&world, &early), Err(CannotRecover::CannotRestore(_))));
    let from = on(Terms { from: Some(store("b")), ..Terms::default() });
    let plan = planned(&world, &from);
    let restored = recovers(&plan).into_iter().find_map(|recover| match &recover.work {
        Work::Restore { restore, existing } => Some((restore.store.to_string(), *existing)),
        _ => None,
    });
    assert_eq!(restored, Some(("b".to_owned(), Existing::Refused)));
}
