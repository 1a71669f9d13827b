//! Passes over what is due of one backup, and schedules that are armed in a folder of cron's.

use std::{fs, time::Duration};

use backstay::{
    config::{Config, Host, Schedules},
    plan::Action,
    reconcile::{Ask, Controller},
};

use super::{Fleet, all_done, apply, pass};

/// The fleet's configuration with its schedules in cron.
pub fn with_cron(fleet: &Fleet) -> Config {
    let folder = fleet.path("cron.d");
    fs::create_dir_all(&folder).unwrap();
    let host = Host { folder: Some(folder), user: "root".into(), program: Some("/usr/bin/backstay".into()) };
    Config { schedules: Schedules::Cron { host, mail_to: None }, ..fleet.config() }
}

#[tokio::test]
async fn a_scheduled_pass_fills_the_slots_of_its_backup_and_touches_nothing_else() {
    let fleet = Fleet::declared();
    let controller = fleet.controller();
    let ask = Ask::Due(vec!["shop".parse().unwrap()]);
    let made = apply(&controller, &ask).await.unwrap();
    assert!(!made.plan.steps.is_empty());
    for step in &made.plan.steps {
        assert_eq!(step.action.backup().map(|name| name.as_str()), Some("shop"), "{step:?}");
    }
    all_done(&made);
    let captured = made.plan.steps.iter().find_map(|step| match &step.action {
        Action::Capture(capture) => Some(capture),
        _ => None,
    });
    assert!(captured.unwrap().slot.is_some(), "it fills a slot");
    assert_eq!(fleet.manifests("vault", "shop").len(), 1);
    assert_eq!(fleet.manifests("offsite", "shop").len(), 1, "copies follow in the same pass");
    let again = apply(&controller, &ask).await.unwrap();
    assert!(again.plan.steps.iter().all(|step| !matches!(step.action, Action::Capture(_))), "nothing is due");
}

#[tokio::test]
async fn schedules_in_cron_are_armed_repaired_and_removed_with_their_declaration() {
    let fleet = Fleet::declared();
    let controller = Controller::open(with_cron(&fleet), fleet.clock.clone()).unwrap();
    all_done(&pass(&controller).await);
    let armed: Vec<_> = fs::read_dir(fleet.path("cron.d")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(!armed.is_empty());
    let file = &armed[0];
    let written = fs::read_to_string(file).unwrap();
    assert!(written.contains("/usr/bin/backstay --config "), "{written}");
    fs::write(file, written.replace("--quiet ", "")).unwrap();
    let repair = pass(&controller).await;
    let reason = &repair.plan.steps[0].reason;
    assert!(reason.starts_with("changed by hand: ") && reason.contains("line "), "{reason}");
    assert_eq!(fs::read_to_string(file).unwrap(), written);

    fleet.later(Duration::from_secs(1));
    let renamed = fleet.declaration().replace("[backup.shop]", "[backup.kiosk]");
    fleet.declare(&format!("{renamed}\n[moved.shop]\nto = \"kiosk\"\n"));
    let old: Vec<_> = ["shop".parse().unwrap()].to_vec();
    assert_eq!(controller.called_now(old).await.unwrap()[0].as_str(), "kiosk", "until it is armed anew");
    all_done(&pass(&controller).await);
    let armed = fs::read_dir(fleet.path("cron.d")).unwrap().map(|e| fs::read_to_string(e.unwrap().path()));
    let armed: Vec<String> = armed.collect::<Result<_, _>>().unwrap();
    let of = |name: &str| armed.iter().filter(|file| file.contains(&format!(" {name}"))).count();
    assert_eq!((of("kiosk"), of("shop")), (1, 0), "{armed:?}");

    fs::remove_dir_all(fleet.path("cron.d")).unwrap();
    let blind = pass(&controller).await;
    assert!(blind.plan.cannot_run.iter().any(|it| it.resource == "schedules"), "{:?}", blind.plan.cannot_run);
    assert!(blind.plan.steps.is_empty(), "{:?}", blind.plan.steps);
}
