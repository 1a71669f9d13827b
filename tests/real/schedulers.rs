//! Schedules that a real cron starts, and units that the real systemd reads.

use std::{fs, path::Path, process::Command, time::Duration};

use backstay::{
    artifact::Kind,
    inventory::ArmedSchedule,
    schedulers::{
        self, Scheduler,
        cron::{self, CronFolder},
        systemd::{self, SystemdUnits},
    },
    spec::{Cadence, Fleet, Schedule},
};
use jiff::{Timestamp, tz::TimeZone};

use crate::lab::{Server, tmpfs::privileged};

fn fleet(zone: &str) -> Fleet {
    let time_zone = TimeZone::get(zone).unwrap();
    Fleet { name: "pavroto".parse().unwrap(), time_zone, recipients: Vec::new() }
}

fn cron_schedule(text: &str) -> ArmedSchedule {
    let cadence = Cadence::Cron(text.parse().unwrap());
    ArmedSchedule { backup: "agama.db".parse().unwrap(), kind: Kind::Full, cadence }
}

fn every(seconds: u64) -> ArmedSchedule {
    ArmedSchedule { cadence: Cadence::Every(Duration::from_secs(seconds)), ..cron_schedule("0 0 * * *") }
}

fn command(program: &Path) -> schedulers::Command {
    schedulers::Command {
        program: program.to_owned(),
        config: "/etc/backstay/100% mine's.toml".into(),
        user: "root".into(),
    }
}

fn units(folder: &Path, zone: &str) -> SystemdUnits {
    let options = systemd::Options {
        folder: folder.to_owned(),
        command: command(Path::new("/bin/true")),
        on_failure: Some("alert@%n.service".into()),
        write: vec!["/var/lib/backstay".into(), "/srv/with space".into()],
        read: vec!["/srv".into()],
    };
    SystemdUnits::new(options, &fleet(zone))
}

/// cron reads its folder once a minute: up to two minutes pass until the line's moment.
#[tokio::test]
async fn a_real_cron_starts_what_is_armed_with_the_very_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, started, program) =
        (dir.path().join("cron.d"), dir.path().join("started"), dir.path().join("a 100%"));
    fs::create_dir(&folder).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &started, rustix::fs::Mode::RWXU).unwrap();
    fs::write(&program, format!("#!/bin/sh\nprintf '%s|' \"$@\" >> '{}'\n", started.display())).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let options = cron::Options {
        folder: folder.clone(),
        command: command(&program),
        mail_to: None,
        machine_zone: TimeZone::UTC,
    };
    CronFolder::new(options, &fleet("UTC")).arm(&cron_schedule("* * * * *")).await.unwrap();

    // In a mount namespace of its own, cron sees this folder only, and leaves its pid in a /run that goes with it.
    let script = format!(
        "chown root: '{0}'/* && mount --bind '{0}' /etc/cron.d && mount --bind /dev/null /etc/crontab && \
         mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/spool/cron && exec cron -f",
        folder.display()
    );
    let mut cron = Server::start(privileged("unshare").args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
    ]));
    // Reads once the program writes; left alone should it never do.
    let (sender, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(fs::read_to_string(&started)));
    let told = tokio::time::timeout(Duration::from_secs(150), told).await;
    assert!(cron.runs(), "cron ended");
    let arguments = told.expect("cron did not start it").unwrap().unwrap();
    let expected = "--config|/etc/backstay/100% mine's.toml|--quiet|backup|agama.db|--scheduled|";
    assert!(arguments.starts_with(expected), "{arguments}");
    cron.kill().unwrap();
}

#[tokio::test]
async fn systemd_finds_no_fault_in_our_units() {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = units(dir.path(), "Europe/Stockholm");
    for schedule in [cron_schedule("0 0 1,15 * mon"), ArmedSchedule { kind: Kind::Log, ..every(2700) }] {
        scheduler.arm(&schedule).await.unwrap();
    }
    fs::write(dir.path().join("alert@.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
    let names = ["full.timer", "full.service", "log.timer", "log.service"];
    let files = names.map(|name| dir.path().join(format!("backstay-pavroto-agama.db-{name}")));
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&files)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
        .output()
        .expect("systemd-analyze is installed");
    let said = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("backstay-")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
    let service = fs::read_to_string(&files[1]).unwrap();
    fs::write(&files[1], service.replace("ProtectSystem=strict", "Nonsense=strict")).unwrap();
    let faulty =
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&files[1]).output().unwrap();
    assert!(String::from_utf8_lossy(&faulty.stderr).contains("Nonsense"), "a fault shows");
}

#[tokio::test]
async fn a_timer_that_systemctl_disables_is_told_as_altered_and_enabled_again() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc/systemd/system");
    fs::create_dir_all(&folder).unwrap();
    let (scheduler, schedule) = (units(&folder, "UTC"), cron_schedule("0 1 * * *"));
    scheduler.arm(&schedule).await.unwrap();
    let timer = "backstay-pavroto-agama.db-full.timer";
    let systemctl = |verb: &str| {
        let root = format!("--root={}", root.path().display());
        let output =
            Command::new("systemctl").args([&root, verb, timer]).output().expect("systemctl is installed");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(systemctl("is-enabled"), "enabled");
    assert!(scheduler.list().await.unwrap().altered.is_empty());
    systemctl("disable");
    let altered = scheduler.list().await.unwrap().altered;
    assert!(altered[&schedule].contains("is disabled"), "{altered:?}");
    scheduler.arm(&schedule).await.unwrap();
    assert_eq!(systemctl("is-enabled"), "enabled");
}

/// The next moments that systemd finds for one `OnCalendar`, after `from`.
fn elapses(event: &str, from: Timestamp, number: usize) -> Vec<Timestamp> {
    let base = from.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let output = Command::new("systemd-analyze")
        .args(["calendar", "--base-time", &base, "--iterations", &number.to_string(), event])
        .env("TZ", "UTC")
        .output()
        .expect("systemd-analyze is installed");
    assert!(output.status.success(), "{event}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let moments = text.lines().filter_map(|line| {
        let (label, moment) = line.trim().split_once(": ")?;
        (label == "Next elapse" || label.starts_with("Iter. #")).then_some(moment)
    });
    let parse = |moment: &str| {
        let day_and_time = moment.split_once(' ').unwrap().1.trim_end_matches(" UTC").replace(' ', "T");
        format!("{day_and_time}Z").parse().unwrap_or_else(|e| panic!("{moment}: {e}"))
    };
    moments.map(parse).collect()
}

#[test]
fn systemd_elapses_at_our_slots() {
    const NUMBER: usize = 12;
    let dir = tempfile::tempdir().unwrap();
    // Across the night on which the clock is set back; the one on which it is set forward is told in docs/schedulers.md.
    let from: Timestamp = "2026-10-20T12:00:00Z".parse().unwrap();
    let crons = [
        "0 1 * * *",
        "30 2 * * *",
        "*/20 3-5 * * mon-fri",
        "0 0 1,15 * mon",
        "0 0 */2 * 1",
        "5/25 */6 31 * *",
        "0 12 29 2 *",
        "0 4 * jan,7 sun",
    ];
    let everies = [30, 900, 2700, 6 * 3600, 24 * 3600, 7 * 24 * 3600];
    for zone in ["UTC", "Europe/Stockholm", "America/New_York", "Asia/Kathmandu"] {
        let units = units(dir.path(), zone);
        for schedule in crons.iter().map(|text| cron_schedule(text)).chain(everies.map(every)) {
            let ours = Schedule::without_jitter(schedule.cadence.clone(), TimeZone::get(zone).unwrap());
            let slots =
                std::iter::successors(ours.next_after(from), |slot| ours.next_after(*slot)).take(NUMBER);
            let slots: Vec<Timestamp> = slots.collect();
            let mut theirs: Vec<Timestamp> = units
                .on_calendar(&schedule)
                .unwrap()
                .iter()
                .flat_map(|event| elapses(event, from, NUMBER))
                .collect();
            theirs.sort_unstable();
            theirs.dedup();
            theirs.truncate(NUMBER);
            assert_eq!(theirs, slots, "{} in {zone}", schedule.cadence);
        }
    }
}
