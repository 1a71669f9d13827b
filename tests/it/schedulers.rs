//! Schedulers: the suite that all must meet, and what those that write files do with the files of others.

#[path = "../conformance/schedulers.rs"]
mod conformance;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    sync::Arc,
};

use backstay::{
    artifact::Kind,
    inventory::{Armed, ArmedSchedule},
    schedulers::{
        Command, Scheduler,
        controller::Timetable,
        cron::{self, CronFolder},
        systemd::{self, SystemdUnits},
    },
    spec::Fleet,
};
use conformance::{Subject, cron};
use jiff::tz::TimeZone;

fn fleet(name: &str) -> Fleet {
    Fleet { name: name.parse().unwrap(), time_zone: TimeZone::UTC, recipients: Vec::new() }
}

fn command() -> Command {
    Command {
        program: "/usr/bin/backstay".into(),
        config: "/etc/backstay/backstay.toml".into(),
        user: "root".into(),
    }
}

fn cron_in(folder: &Path, name: &str) -> Arc<dyn Scheduler> {
    let options = cron::Options {
        folder: folder.to_owned(),
        command: command(),
        mail_to: None,
        machine_zone: TimeZone::UTC,
    };
    Arc::new(CronFolder::new(options, &fleet(name)))
}

fn systemd_in(folder: &Path, name: &str) -> Arc<dyn Scheduler> {
    let options = systemd::Options {
        folder: folder.to_owned(),
        command: command(),
        on_failure: Some("alert@%n.service".into()),
        write: vec!["/var/lib/backstay".into(), "/srv/with space".into()],
        read: Vec::new(),
    };
    Arc::new(SystemdUnits::new(options, &fleet(name)))
}

/// Opens the scheduler of a fleet in a folder.
type Open = fn(&Path, &str) -> Arc<dyn Scheduler>;

/// Both that write files, with the file that holds the times of a full of `agama`.
const FILES: [(Open, &str); 2] =
    [(cron_in, "backstay-pavroto-agama-full"), (systemd_in, "backstay-pavroto-agama-full.timer")];

fn nightly() -> ArmedSchedule {
    cron("agama", Kind::Full, "0 1 * * *")
}

#[tokio::test]
async fn the_controllers_timetable_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("timetable");
    let open = Box::new(move || Arc::new(Timetable::open(path.clone())) as Arc<dyn Scheduler>);
    conformance::run(Subject { open, neighbour: None }).await;
}

#[tokio::test]
async fn cron_and_systemd_conform() {
    for (open, _) in FILES {
        let dir = tempfile::tempdir().unwrap();
        // Its files look like those of ours.
        let neighbour = Some(open(dir.path(), "pavroto-two"));
        let path = dir.path().to_owned();
        conformance::run(Subject { open: Box::new(move || open(&path, "pavroto")), neighbour }).await;
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "timers.target.wants"), "{left:?}");
    }
}

#[tokio::test]
async fn an_edit_by_hand_is_told_with_its_line_and_undone() {
    for (open, file) in FILES {
        let dir = tempfile::tempdir().unwrap();
        let (scheduler, path) = (open(dir.path(), "pavroto"), dir.path().join(file));
        scheduler.arm(&nightly()).await.unwrap();
        let written = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{written}# mine\n")).unwrap();
        let told = altered(scheduler.as_ref()).await;
        assert!(told.contains("`# mine`, is added"), "{told}");
        scheduler.arm(&nightly()).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), written);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(altered(scheduler.as_ref()).await.contains("mode is 666"));
        scheduler.arm(&nightly()).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(scheduler.list().await.unwrap(), Armed::from(BTreeSet::from([nightly()])));
    }
}

async fn altered(scheduler: &dyn Scheduler) -> String {
    let armed = scheduler.list().await.unwrap();
    assert!(armed.schedules.is_empty() && armed.strangers.is_empty(), "{armed:?}");
    armed.altered[&nightly()].clone()
}

#[tokio::test]
async fn what_bears_no_marker_of_ours_is_told_and_never_touched() {
    for (open, file) in FILES {
        let dir = tempfile::tempdir().unwrap();
        let (scheduler, path) = (open(dir.path(), "pavroto"), dir.path().join(file));
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::write(dir.path().join("e2scrub_all"), "30 3 * * 0 root true\n").unwrap();
        for plant in [Plant::File, Plant::Link] {
            match plant {
                Plant::File => fs::write(&path, "0 1 * * * root /usr/bin/true\n").unwrap(),
                Plant::Link => symlink(&victim, &path).unwrap(),
            }
            let armed = scheduler.list().await.unwrap();
            assert_eq!(armed.strangers.keys().collect::<Vec<_>>(), [&path.display().to_string()]);
            let refused = scheduler.arm(&nightly()).await.unwrap_err().to_string();
            assert!(refused.contains("left alone"), "{refused}");
            scheduler.disarm(&nightly()).await.unwrap();
            assert!(path.symlink_metadata().is_ok(), "it is still there");
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }
}

enum Plant {
    File,
    Link,
}

#[tokio::test]
async fn a_copy_of_one_of_ours_is_told_and_left_alone() {
    for (open, file) in FILES {
        let dir = tempfile::tempdir().unwrap();
        let scheduler = open(dir.path(), "pavroto");
        scheduler.arm(&nightly()).await.unwrap();
        let copy = dir.path().join(file.replace("agama", "agama-old"));
        fs::copy(dir.path().join(file), &copy).unwrap();
        let armed = scheduler.list().await.unwrap();
        assert!(armed.schedules.contains(&nightly()));
        assert!(armed.strangers[&copy.display().to_string()].contains("copy"), "{armed:?}");
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_and_not_an_empty_one() {
    for (open, _) in FILES {
        let dir = tempfile::tempdir().unwrap();
        let scheduler = open(&dir.path().join("missing"), "pavroto");
        let error = scheduler.list().await.unwrap_err().to_string();
        assert!(error.contains("make the folder"), "{error}");
        assert!(scheduler.arm(&nightly()).await.is_err());
    }
}

#[tokio::test]
async fn a_disabled_timer_is_told_and_enabled_again_and_an_override_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = systemd_in(dir.path(), "pavroto");
    scheduler.arm(&nightly()).await.unwrap();
    let link = dir.path().join("timers.target.wants/backstay-pavroto-agama-full.timer");
    assert!(link.exists(), "the link leads to the timer");
    fs::remove_file(&link).unwrap();
    let told = altered(scheduler.as_ref()).await;
    assert!(told.ends_with("is disabled"), "{told}");
    scheduler.arm(&nightly()).await.unwrap();
    assert!(link.exists());

    fs::remove_file(dir.path().join("backstay-pavroto-agama-full.service")).unwrap();
    let told = altered(scheduler.as_ref()).await;
    assert!(told.ends_with("service is gone"), "{told}");
    scheduler.arm(&nightly()).await.unwrap();

    fs::create_dir(dir.path().join("backstay-pavroto-agama-full.service.d")).unwrap();
    let strangers = scheduler.list().await.unwrap().strangers;
    assert!(strangers.values().all(|why| why.contains("overrides")) && strangers.len() == 1, "{strangers:?}");
    scheduler.disarm(&nightly()).await.unwrap();
    assert!(link.symlink_metadata().is_err(), "the link is gone as well");
}
