//! Recoveries of what a provider keeps: how they are declared, of what something new is made, and how they go on.

use std::collections::{BTreeMap, BTreeSet};

use backstay::{
    artifact::{
        ArtifactId, Kind,
        recovered::{MadeOf, RecoveredOutcome, RecoverySubject, Terms},
    },
    inventory::{Machine, NativeState, Observed, Stretch},
    plan::{
        self, Action, Plan, Step,
        action::{KeptBy, Recover, Renew, Work},
        by_hand::renewal,
        check::Malformed,
        recovery::{self, Begin, CannotRecover, Request},
        restore::CannotRestore,
    },
    render,
    spec::{
        Libvirt, OnLoss, Parsed, Provision, Ready, Recovery, RecoveryAction, RecoveryStep, RestoreTo,
        TableMethod, Vm, WaitStep, names::VmName, parse,
    },
};

use crate::{
    providers::{ON, known, native, natives, see, settings, table},
    world::*,
};

/// A table whose backups its provider keeps, and the recovery that has it make another one of the newest.
fn world() -> (World, ArtifactId) {
    let mut world = World::new(&["a", "b"]).declare("agama", nightly());
    world.spec.backups.get_mut(&backup("agama")).unwrap().source = table(TableMethod::Native, Some(ON));
    let id = native(&mut world, "arn:1", 1);
    let to = "table:sessions-2".to_owned().try_into().unwrap();
    let action = RecoveryAction::RestoreTo(RestoreTo { backup: backup("agama"), to });
    let steps = vec![RecoveryStep { name: Some("agama".to_owned()), action, after: None }];
    let site = Recovery { description: None, contact: None, rto: None, steps };
    world.spec.recoveries.insert("site".parse().unwrap(), site);
    // The original is gone.
    see(&mut world, Observed::Unknown("there is no such table".to_owned()));
    (world, id)
}

fn site(begin: Begin) -> Request {
    Request { subject: RecoverySubject::Recovery("site".parse().unwrap()), terms: Terms::default(), begin }
}

fn at(moment: jiff::Timestamp) -> Request {
    Request { terms: Terms { at: Some(moment), ..Terms::default() }, ..site(Begin::First) }
}

fn plan_of(world: &World, request: &Request) -> Result<Plan, CannotRecover> {
    recovery::recover(&world.spec, &world.inventory(), &world.limits, request, world.now)
}

fn planned(world: &World, request: &Request) -> Plan {
    world.judge(plan_of(world, request).unwrap())
}

fn recovers(plan: &Plan) -> Vec<&Recover> {
    plan.steps.iter().filter_map(recover_of).collect()
}

fn recover_of(step: &Step) -> Option<&Recover> {
    match &step.action {
        Action::Recover(recover) => Some(recover),
        _ => None,
    }
}

fn renews(plan: &Plan) -> Vec<&Renew> {
    plan.steps.iter().filter_map(recover_of).filter_map(renew_of).collect()
}

fn renew_of(recover: &Recover) -> Option<&Renew> {
    match &recover.work {
        Work::Renew(renew) => Some(renew),
        _ => None,
    }
}

#[test]
fn a_native_backup_comes_back_as_something_new_though_its_original_is_gone() {
    let (world, id) = world();
    let plan = planned(&world, &site(Begin::First));
    let [renew] = renews(&plan)[..] else { panic!("{:?}", plan.steps) };
    assert_eq!(renew.from.made_of(), Some(MadeOf::Artifact(id)));
    assert_eq!((renew.to.to_string().as_str(), renew.begun), ("table sessions-2", None));
    assert!(renew.mark.contains("/site/") && renew.mark.ends_with(&format!("/1/{id}")), "{}", renew.mark);
    let said = format!("restore agama {id} from a to table sessions-2");
    let text = render::recovery::text(&plan, &BTreeMap::new(), render::Palette::Plain);
    assert!(text.contains("databases") && text.contains(&said), "{text}");
    assert!(render::recovery::diagram(&plan).contains(&said));
    let read: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(read, plan);
}

#[test]
fn a_moment_is_brought_back_by_the_provider_where_it_keeps_it_and_otherwise_by_an_artifact() {
    let (mut world, id) = world();
    let (within, before) = (ago(world.now, 2), ago(world.now, 20));
    assert!(matches!(
        plan_of(&world, &at(within)),
        Err(CannotRecover::CannotRestore(CannotRestore::ProviderUnknown { .. }))
    ));
    let from_store = Request {
        terms: Terms { at: Some(within), from: Some(store("b")), ..Terms::default() },
        ..site(Begin::First)
    };
    assert_eq!(
        renews(&planned(&world, &from_store))[0].from.made_of(),
        Some(MadeOf::Artifact(id)),
        "a store says that an artifact is meant"
    );
    let window = Some(Stretch { start: ago(world.now, 10), end: ago(world.now, 1) });
    see(&mut world, known(settings(ON, window)));
    let plan = planned(&world, &at(within));
    assert_eq!(renews(&plan)[0].from, KeptBy::Moment(within));
    assert!(plan.steps[0].action.stores().is_empty());
    assert!(plan.steps[0].action.to_string().contains("from its provider to table sessions-2"));
    assert_eq!(renews(&planned(&world, &at(before)))[0].from.made_of(), Some(MadeOf::Artifact(id)));
    assert!(matches!(
        plan_of(&world, &at(world.now)),
        Err(CannotRecover::CannotRestore(CannotRestore::NotYetByProvider { .. }))
    ));
}

#[test]
fn what_was_begun_is_gone_on_with_of_the_same_though_there_is_something_newer() {
    let (mut world, id) = world();
    let begun = planned(&world, &site(Begin::First));
    let first = renews(&begun)[0].clone();
    world.recovered(recovers(&begun)[0], RecoveredOutcome::Begun);
    let mut newer = artifact(Kind::Full, ago(world.now, 1), 7);
    newer.native = world.stored("a", "agama").artifact(id).unwrap().native.clone();
    world.put(&["a", "b"], "agama", &newer);
    world.now += std::time::Duration::from_secs(60);
    assert!(matches!(plan_of(&world, &site(Begin::First)), Err(CannotRecover::CutOff { .. })));
    let rest = planned(&world, &site(Begin::Resume));
    let again = renews(&rest)[0];
    assert_eq!((&again.from, &again.mark), (&first.from, &first.mark));
    assert_eq!(again.begun, Some(recovers(&begun)[0].run), "what came since then may be its own");
    // Another time of the recovery is another mark, and takes the newest.
    let anew = planned(&world, &site(Begin::Anew));
    assert_ne!(renews(&anew)[0].mark, first.mark);
    assert_eq!(renews(&anew)[0].begun, None);
    assert_eq!(renews(&anew)[0].from.made_of(), Some(MadeOf::Artifact(newer.id)));
    // What is damaged where it was looked for may be whole where nobody could look.
    world.artifact_mut("a", "agama", id).condition = damaged();
    world.down.insert(store("b"));
    let error = plan_of(&world, &site(Begin::Resume)).unwrap_err();
    assert!(matches!(error, CannotRecover::BegunOf { artifact, .. } if artifact == id), "{error}");
    assert!(error.to_string().contains("go on with `--resume` once it can be seen"), "{error}");
    world.down.clear();
    // Known to be damaged everywhere, another is taken, and what was begun of it is not taken up.
    world.artifact_mut("b", "agama", id).condition = damaged();
    let rest = planned(&world, &site(Begin::Resume));
    assert_eq!(renews(&rest)[0].from.made_of(), Some(MadeOf::Artifact(newer.id)));
    assert_ne!(renews(&rest)[0].mark, first.mark);
    // Declared otherwise it is another step.
    world.spec.recoveries.values_mut().for_each(|site| {
        let to = "table:sessions-3".to_owned().try_into().unwrap();
        site.steps[0].action = RecoveryAction::RestoreTo(RestoreTo { backup: backup("agama"), to });
    });
    assert_eq!(renews(&planned(&world, &site(Begin::Resume)))[0].begun, None);
}

#[test]
fn a_moment_that_was_begun_is_gone_on_with_though_it_is_no_longer_kept() {
    let (mut world, _) = world();
    let moment = ago(world.now, 2);
    let window = Some(Stretch { start: ago(world.now, 10), end: ago(world.now, 1) });
    see(&mut world, known(settings(ON, window)));
    let begun = planned(&world, &at(moment));
    world.recovered(recovers(&begun)[0], RecoveredOutcome::Failed);
    see(&mut world, Observed::Unknown("there is no such table".to_owned()));
    let rest = planned(&world, &site(Begin::Resume));
    assert_eq!(
        (&renews(&rest)[0].from, &renews(&rest)[0].mark),
        (&KeptBy::Moment(moment), &renews(&begun)[0].mark)
    );
}

#[test]
fn what_is_done_is_not_done_again_and_goes_over_nothing() {
    let (mut world, id) = world();
    let plan = planned(&world, &site(Begin::First));
    world.recovered(recovers(&plan)[0], RecoveredOutcome::Done);
    assert!(matches!(plan_of(&world, &site(Begin::Resume)), Err(CannotRecover::NothingToResume(_))));
    let over = Request {
        terms: Terms { restore: BTreeSet::from([backup("agama")]), ..Terms::default() },
        ..site(Begin::Anew)
    };
    let error = plan_of(&world, &over).unwrap_err();
    assert!(matches!(error, CannotRecover::OverNothing { .. }), "{error}");
    assert!(error.to_string().contains("leave out `--restore agama`"), "{error}");
    // What was captured by Backstay itself no provider makes anything of.
    for at in ["a", "b"] {
        world.artifact_mut(at, "agama", id).native = None;
    }
    let error = plan_of(&world, &site(Begin::Anew)).unwrap_err();
    assert!(
        error.to_string().contains(&format!("backstay restore agama --at {id} --to table:sessions-2")),
        "{error}"
    );
}

#[test]
fn a_plan_by_which_a_provider_would_do_what_it_may_not_is_refused() {
    let (mut world, _) = world();
    let plan = planned(&world, &site(Begin::First));
    let judge = |world: &World| {
        plan::check::check(plan.clone(), &world.spec, &world.inventory(), &world.limits, world.now)
    };
    assert!(judge(&world).is_ok());
    world.spec.backups.get_mut(&backup("agama")).unwrap().source = table(TableMethod::Logical, Some(ON));
    assert!(matches!(judge(&world), Err(Malformed::NotRestorable { .. })));
}

fn machine(name: &VmName) -> Vm {
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
        name: name.clone(),
        stands_for: None,
        template: "cloud-init.yaml.tera".into(),
        vars: Default::default(),
        provision: Provision::Libvirt(libvirt),
        ssh: None,
        ansible: None,
        on_loss: OnLoss::Report,
    }
}

#[test]
fn a_machine_that_is_made_anew_has_nothing_made_again_that_is_on_none() {
    let (mut world, _) = world();
    let web: VmName = "web".parse().unwrap();
    world.spec.vms.insert(web.clone(), machine(&web));
    world.machines.insert(web.clone(), Observed::Known(Machine::Gone));
    let first = RecoveryStep {
        name: Some("web".to_owned()),
        action: RecoveryAction::Rebuild(web.clone()),
        after: None,
    };
    let action = RecoveryAction::Wait(WaitStep {
        until: Ready::Tcp("127.0.0.1:1".to_owned()),
        timeout: std::time::Duration::from_secs(1),
        stage: None,
    });
    let last = RecoveryStep { name: None, action, after: Some(vec!["agama".to_owned()]) };
    world.spec.recoveries.values_mut().for_each(|site| {
        site.steps[0].after = Some(vec!["web".to_owned()]);
        site.steps.insert(0, first.clone());
        site.steps.push(last.clone());
    });
    let plan = planned(&world, &site(Begin::First));
    let all: Vec<Recover> = recovers(&plan).into_iter().cloned().collect();
    assert!(matches!(all[0].work, Work::Provision(_)), "{:?}", plan.steps);
    assert_eq!(renews(&plan).len(), 1);
    for recover in &all {
        let outcome = match recover.work {
            Work::Wait { .. } => RecoveredOutcome::Failed,
            _ => RecoveredOutcome::Done,
        };
        world.recovered(recover, outcome);
    }
    // The machine is lost once more; and nobody can tell what became of that which the table was made of.
    world.machines.insert(web, Observed::Known(Machine::Gone));
    world.stored("a", "agama").artifacts.clear();
    world.down.insert(store("b"));
    let rest = plan_of(&world, &site(Begin::Resume)).unwrap();
    let again = recovers(&rest);
    assert!(again.iter().any(|recover| matches!(recover.work, Work::Provision(_))), "{:?}", rest.steps);
    assert!(again.iter().any(|recover| matches!(recover.work, Work::Wait { .. })), "{:?}", rest.steps);
    assert!(renews(&rest).is_empty(), "{:?}", rest.steps);
    assert!(again.iter().all(|recover| recover.parts == all.len()), "what is done counts");
}

#[test]
fn the_runbook_says_it_in_words_of_aws_s_own_program() {
    let (mut world, id) = world();
    see(&mut world, natives(&[("arn:1", id, NativeState::Available)]));
    let plan = planned(&world, &site(Begin::First));
    let lines = |renew: &Renew, reference| -> Vec<String> {
        renewal::by_hand(&world.spec, renew, reference).iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        lines(renews(&plan)[0], Some("arn:1")),
        [
            "aws dynamodb restore-table-from-backup --target-table-name sessions-2 --backup-arn arn:1 --region eu-north-1",
            "or of any second, while the original is there: aws dynamodb restore-table-to-point-in-time --source-table-name sessions \
             --target-table-name sessions-2 --restore-date-time MOMENT --region eu-north-1",
            "until aws dynamodb wait table-exists --table-name sessions-2 --region eu-north-1; do sleep 5; done",
        ]
    );
    let of_moment = Renew { from: KeptBy::Moment(t("2026-11-20T01:00:00Z")), ..renews(&plan)[0].clone() };
    assert_eq!(lines(&of_moment, None).len(), 2);
    assert!(
        lines(&of_moment, None)[0].ends_with("--restore-date-time 2026-11-20T01:00:00Z --region eu-north-1")
    );
}

/// A declaration of three backups that their providers keep and one that is in stores, with these steps.
fn declared(steps: &str) -> Parsed {
    let key = "age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm";
    let head = "policy = \"p\"\nstores = [\"a\", \"b\"]";
    let text = format!(
        "[fleet]\nname = \"f\"\nrecipients = [\"{key}\"]\n[policy.p]\nfull = \"0 1 * * *\"\n\
         [store.a]\nlocation = \"here\"\n[store.a.local]\npath = \"/srv/a\"\n\
         [store.b]\nlocation = \"there\"\n[store.b.local]\npath = \"/srv/b\"\n\
         [backup.sessions]\n{head}\n[backup.sessions.dynamodb]\nregion = \"eu-north-1\"\ntable = \"sessions\"\nmethod = \"native\"\n\
         [backup.customers]\n{head}\n[backup.customers.rds]\nregion = \"eu-north-1\"\ninstance = \"customers\"\n\
         [backup.courses]\n{head}\n[backup.courses.atlas]\nproject = \"64b31e47c40e886d5ea00001\"\ncluster = \"courses\"\n\
         client_id = {{ file = \"/s/i\" }}\nclient_secret = {{ file = \"/s/s\" }}\n\
         [backup.shop]\n{head}\n[backup.shop.sqlite]\npath = \"/srv/shop.db\"\n\
         [recovery.site]\nsteps = [{steps}]\n"
    );
    parse(&BTreeMap::from([("fleet.toml".to_owned(), text.into_bytes())]))
}

#[test]
fn a_step_says_what_a_native_backup_is_restored_to_and_no_other_does() {
    let spec = declared(
        "{ restore = \"sessions\", to = \"table:sessions\" }, { restore = \"customers\", to = \"instance:customers-2\" }, \
         { restore = \"courses\", to = \"cluster:copy\" }, { restore = \"shop\" }, { wait = { source = \"sessions\" } }",
    );
    let codes: Vec<&str> = spec.diagnostics.iter().map(|found| found.code).collect();
    assert!(codes.iter().all(|code| ["native-only", "infra-without-backup"].contains(code)), "{codes:?}");
    let spec = spec.spec.unwrap();
    let recovery = spec.recoveries.values().next().unwrap();
    let restored: Vec<String> = recovery
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            RecoveryAction::RestoreTo(restore) => Some(format!("{} to {}", restore.backup, restore.to)),
            RecoveryAction::Restore(backup) => Some(backup.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(
        restored,
        [
            "sessions to table sessions",
            "customers to instance customers-2",
            "courses to cluster copy",
            "shop"
        ]
    );
    assert_eq!(recovery.waits(&spec)[4], BTreeSet::from([0, 1, 2, 3]));
    assert!(spec.cannot_run().is_empty(), "{:?}", spec.cannot_run());

    for (step, code, says) in [
        ("{ restore = \"sessions\" }", "missing-key", "add to = \"table:NAME\""),
        (
            "{ restore = \"courses\" }",
            "missing-key",
            "add to = \"cluster:NAME\", of a cluster that bears the tag",
        ),
        ("{ restore = \"sessions\", to = \"instance:x\" }", "restore-place", "makes a table of it"),
        ("{ restore = \"sessions\", to = \"sessions-2\" }", "restore-place", "`table:NAME`"),
        ("{ restore = \"sessions\", to = \"table:a/b/c\" }", "restore-place", "3 to 255 letters"),
        ("{ restore = \"customers\", to = \"instance:a--b\" }", "restore-place", "single `-`"),
        ("{ restore = \"courses\", to = \"cluster:COURSES\" }", "restore-place", "Atlas would erase"),
        ("{ restore = \"shop\", to = \"table:shop\" }", "restore-place", "its artifacts are in the stores"),
        ("{ restore = \"shop\", to = \"standby\" }", "restore-place", "leave it out"),
        ("{ run = [\"x\"], to = \"table:shop\" }", "unknown-key", "neither restores nor switches"),
    ] {
        let found = declared(step).diagnostics;
        let found: Vec<_> = found.iter().filter(|found| found.code == code).collect();
        let [found] = found[..] else { panic!("{step}: {found:?}") };
        let hint = found.hint.clone().unwrap_or_default();
        assert!(found.message.contains(says) || hint.contains(says), "{step}: {} ({hint})", found.message);
        assert!(found.location.is_some(), "{step}");
        assert!(declared(step).spec.is_none(), "{step}: it never comes into force");
    }
}

#[test]
fn what_a_recovery_waits_for_or_makes_in_vain_is_told() {
    let codes = |steps: &str| -> Vec<&'static str> {
        declared(steps).diagnostics.into_iter().map(|found| found.code).collect()
    };
    let elsewhere = "{ restore = \"sessions\", to = \"table:sessions-2\" }";
    let waits = "{ wait = { source = \"sessions\" } }";
    assert!(codes(&format!("{elsewhere}, {waits}")).contains(&"wait-original"));
    assert!(!codes(elsewhere).contains(&"wait-original"));
    let twice = "{ restore = \"sessions\", to = \"table:sessions-2\", name = \"b\" }";
    assert!(codes(&format!("{elsewhere}, {twice}")).contains(&"restore-place-twice"));
    let other = "{ restore = \"customers\", to = \"instance:sessions-2\" }";
    assert!(!codes(&format!("{elsewhere}, {other}")).contains(&"restore-place-twice"));
    let drilled = format!(
        "{{ rebuild = \"web\" }}, {elsewhere}]\n[vm.web]\ntemplate = \"a\"\nlibvirt = {{ image = \"/i\" }}\n\
         [drill.site]\nrecovery = \"site\"\nschedule = \"0 4 1 * *\"\n\
         stand_in = {{ web = {{ network = \"drills\" }} }}\ncheck = ["
    );
    let mut of_drills = codes(&drilled);
    of_drills.retain(|code| code.starts_with("drill-"));
    assert_eq!(of_drills, ["drill-leaves-out"], "{:?}", codes(&drilled));
}
