//! The drill of a recovery on a machine of libvirt, whose controller is killed: its domain and its disks go, whoever is left to see to it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    lab::{fleet::Fleet, free_port, libvirt::Hypervisor, run, schedules, wait_until},
    stack_drill::{kill, watchdogs},
};

/// How long a domain may take to come or go beside other tests.
const LONGEST: Duration = Duration::from_secs(180);

/// A domain without a network.
const DOMAIN: &str = "{% extends \"built-in/libvirt-domain.xml.tera\" %}{% block network %}{% endblock %}\n";

/// A fleet with one machine of libvirt, on whose disk nothing is: it runs, and never boots.
struct Site {
    hypervisor: Hypervisor,
    fleet: Fleet,
    machine: String,
}

impl Site {
    fn new() -> Self {
        let (hypervisor, mut fleet) = (Hypervisor::start(), Fleet::new());
        let image = fleet.readable().join("empty.qcow2");
        fs::create_dir_all(fleet.readable()).unwrap();
        run(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("16M"));
        fleet.allow_machines(&hypervisor.uri());
        fleet.allow_write(&hypervisor.disks());
        let templates = fleet.config_file().parent().unwrap().join("infra/templates");
        fs::create_dir_all(&templates).unwrap();
        fs::write(templates.join("libvirt-domain.xml.tera"), DOMAIN).unwrap();
        fs::write(templates.join("plain.yaml.tera"), "#cloud-config\n{}\n").unwrap();
        let machine = format!(
            r#"
            files = {{ paths = ["{data}"] }}
            [vm.web]
            template = "plain.yaml.tera"
            vars = {{ virt_type = "qemu" }}
            libvirt = {{ uri = "{uri}", image = "{image}", disks = "{disks}", memory = "64MiB", cpus = 1 }}
            [recovery.site]
            rto = "1h"
            steps = [{{ rebuild = "web" }}, {{ wait = {{ tcp = "web:80" }}, timeout = "1h" }}]
            "#,
            data = fleet.readable().display(),
            uri = hypervisor.uri(),
            image = image.display(),
            disks = hypervisor.disks().display(),
        );
        let site = Self { hypervisor, fleet, machine };
        site.declare_drill();
        site.fleet.expect(&["backup", "pages"], 0);
        site.fleet.expect(&["rebuild", "web"], 0);
        site
    }

    fn declare_drill(&self) {
        let yearly = schedules::yearly();
        let drill = format!(
            r#"
            [drill.site]
            recovery = "site"
            schedule = "{yearly}"
            [drill.site.stand_in.web]
            network = "drills"
            reach = {{ "web:80" = "127.0.0.1:{}" }}
            "#,
            free_port()
        );
        self.fleet.declare("pages", &format!("{}{drill}", self.machine));
    }

    /// A drill by the built program, with `programs` before others in its `PATH`.
    fn begin(&self, programs: &Path) -> Child {
        let mut command = self.fleet.command(&["drill", "site"]);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", programs.display()));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn domains(&self) -> Vec<String> {
        let listed = self.hypervisor.virsh(&["list", "--all", "--name"]);
        let mut names: Vec<String> = listed.split_whitespace().map(str::to_owned).collect();
        names.sort();
        names
    }

    fn remembered(&self) -> bool {
        self.fleet.state().join("stand-ins/site.json").exists()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.fleet.state().join("stand-ins/site.log")).unwrap_or_default()
    }

    /// The machine runs with its disks, and nothing else is there.
    fn only_the_machine_is_there(&self) {
        assert_eq!(self.domains(), ["web"], "{}", self.log());
        assert_eq!(self.hypervisor.virsh(&["domstate", "web"]).trim(), "running");
        let files = self.hypervisor.files();
        assert!(files.len() == 2 && files.iter().all(|file| file.contains("@web.backstay")), "{files:?}");
        assert!(!self.remembered());
    }

    fn until_the_stand_in_runs(&self) {
        wait_until("the stand-in runs", LONGEST, || {
            self.hypervisor.virsh(&["list", "--name"]).contains("drill-site-web")
        });
    }

    fn until_the_watchdog_is_done(&self) {
        wait_until("the watchdog is done", LONGEST, || {
            watchdogs(&self.fleet).is_empty() && !self.remembered()
        });
    }
}

fn kill_controller(mut controller: Child) {
    controller.kill().unwrap();
    controller.wait().unwrap();
}

/// A program that says that it was begun, waits until it is let go, and then is the real one.
fn halting(folder: &Path, program: &str, when: &str) {
    let real = format!("/usr/bin/{program}");
    assert!(Path::new(&real).exists(), "{program} is installed");
    let (begun, go) = (folder.join("begun"), folder.join("go"));
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in {when}) touch '{}'; while [ ! -e '{}' ]; do sleep 0.05; done;; esac\nexec {real} \"$@\"\n",
        begun.display(),
        go.display()
    );
    let path = folder.join(program);
    fs::write(&path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_domain_of_a_drill_goes_with_its_disks_when_the_controller_is_killed_or_its_watchdog_as_well() {
    let site = Site::new();
    site.only_the_machine_is_there();
    let nothing = tempfile::tempdir().unwrap();

    let controller = site.begin(nothing.path());
    site.until_the_stand_in_runs();
    assert_eq!(watchdogs(&site.fleet).len(), 1);
    kill_controller(controller);
    site.until_the_watchdog_is_done();
    assert!(site.log().contains("the controller is gone"), "{}", site.log());
    site.only_the_machine_is_there();

    // Nobody is left who could remove it: what this host remembers is, whatever is declared by then.
    let controller = site.begin(nothing.path());
    site.until_the_stand_in_runs();
    watchdogs(&site.fleet).into_iter().for_each(kill);
    kill_controller(controller);
    site.fleet.declare("pages", &site.machine);
    assert_eq!(site.domains(), ["drill-site-web", "web"]);
    let planned = site.fleet.expect(&["plan"], 10);
    assert!(planned.contains("remove what drill site left of web"), "{planned}");
    site.fleet.expect(&["apply", "--yes"], 0);
    site.only_the_machine_is_there();
}

#[test]
fn what_the_hypervisor_is_still_asked_for_when_the_controller_is_killed_goes_as_well() {
    let site = Site::new();
    for (program, when) in [("virsh", "*define*drill*|*--file*"), ("virsh", "*' start '*")] {
        let programs = tempfile::tempdir().unwrap();
        halting(programs.path(), program, when);
        let controller = site.begin(programs.path());
        wait_until("the call is under way", LONGEST, || programs.path().join("begun").exists());
        kill_controller(controller);
        wait_until("the watchdog begins", LONGEST, || site.log().contains("the controller is gone"));
        assert!(site.remembered(), "{when}: it waits for the call");
        fs::write(programs.path().join("go"), "").unwrap();
        site.until_the_watchdog_is_done();
        site.only_the_machine_is_there();
    }
}

#[test]
fn a_seed_that_was_being_made_when_the_controller_was_killed_goes_as_well() {
    let site = Site::new();
    let programs = tempfile::tempdir().unwrap();
    halting(programs.path(), "genisoimage", "*");
    let controller = site.begin(programs.path());
    wait_until("the seed is being made", LONGEST, || programs.path().join("begun").exists());
    assert!(site.hypervisor.files().iter().any(|file| file.starts_with(".backstay-")));
    kill_controller(controller);
    site.until_the_watchdog_is_done();
    fs::write(programs.path().join("go"), "").unwrap();
    site.only_the_machine_is_there();
}
