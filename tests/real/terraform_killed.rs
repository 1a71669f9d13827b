//! Modules of Terraform or OpenTofu whose run is cut off: by the death of the controller, which it outlives, or by its own.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use backstay::{
    inventory::Machine,
    provisioners::{Provisioner, terraform::TerraformProvisioner},
    stores::Class,
};

use crate::{
    lab::{fleet::Fleet, schedules, wait_until},
    machine_conformance::{made, removed},
    stack_drill::{kill, watchdogs},
    terraform::{Ground, OUTPUTS, program, stand_in, working_in, works_in},
};

/// How long a run may take beside other tests.
const LONGEST: Duration = Duration::from_secs(180);

/// A module of two parts: `vm`, and then `disk`, which waits half-way until it is let go.
struct Halting {
    ground: Ground,
}

impl Halting {
    fn new() -> Self {
        Self { ground: Ground::new() }
    }

    fn begun(&self) -> PathBuf {
        self.ground.root.path().join("begun")
    }

    fn go(&self) -> PathBuf {
        self.ground.root.path().join("go")
    }

    fn let_go(&self) {
        fs::write(self.go(), "").unwrap();
    }

    /// It fills a pipe while it waits, so that one that nobody reads would hold it up, or end it.
    fn body(&self) -> String {
        let (begun, go) = (self.begun(), self.go());
        let waits = format!(
            "touch '{}'; while [ ! -e '{}' ]; do echo $PATH; sleep 0.05; done;",
            begun.display(),
            go.display()
        );
        let disk =
            self.ground.thing("disk", &waits).replacen("{\n", "{\n  depends_on = [terraform_data.vm]\n", 1);
        self.ground.backend() + &self.ground.thing("vm", "") + &disk + OUTPUTS
    }

    /// The disk is made, and then the run waits.
    fn body_that_waits_once_all_is_there(&self) -> String {
        let (begun, go) = (self.begun(), self.go());
        let file = self.ground.things_folder().join("disk");
        let waits = format!(
            "touch '{}' '{}'; while [ ! -e '{}' ]; do sleep 0.05; done;",
            file.display(),
            begun.display(),
            go.display()
        );
        let disk =
            self.ground.thing("disk", &waits).replacen("{\n", "{\n  depends_on = [terraform_data.vm]\n", 1);
        self.ground.backend() + &self.ground.thing("vm", "") + &disk + OUTPUTS
    }

    fn wait_until_half_way(&self) {
        wait_until("the run is half-way", LONGEST, || self.begun().exists());
    }
}

/// A fleet that tries its recovery on a module of its own.
fn fleet(body: &str) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.allow_run(Path::new(program().as_str()));
    let templates = fleet.config_file().parent().unwrap().join("infra/templates");
    fs::create_dir_all(&templates).unwrap();
    fs::write(templates.join("web.tf.tera"), format!("variable \"size\" {{}}\n{body}")).unwrap();
    let data = fleet.readable();
    fs::create_dir_all(&data).unwrap();
    fleet.declare("pages", &(machine(&fleet) + &drill()));
    fleet.expect(&["backup", "pages"], 0);
    fleet
}

fn drill() -> String {
    format!(
        r#"
        [drill.site]
        recovery = "site"
        schedule = "{}"
        [drill.site.stand_in.web]
        variables = {{ size = "small" }}
        "#,
        schedules::yearly()
    )
}

fn machine(fleet: &Fleet) -> String {
    format!(
        r#"
        files = {{ paths = ["{}"] }}
        [vm.web]
        template = "web.tf.tera"
        terraform = {{ program = "{}", variables = {{ size = "large" }} }}
        [recovery.site]
        rto = "1h"
        steps = [{{ rebuild = "web" }}]
        "#,
        fleet.readable().display(),
        program().as_str()
    )
}

fn begin(fleet: &Fleet, arguments: &[&str]) -> Child {
    let mut command = fleet.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill_controller(mut controller: Child) {
    controller.kill().unwrap();
    controller.wait().unwrap();
}

/// The folder that a machine's module is run in.
fn workshop(fleet: &Fleet, vm: &str) -> PathBuf {
    let of_fleet = fs::read_dir(fleet.state().join("terraform")).unwrap().next().unwrap().unwrap();
    of_fleet.path().join(vm)
}

fn remembered(fleet: &Fleet) -> bool {
    fleet.state().join("stand-ins/site.json").exists()
}

fn log(fleet: &Fleet) -> String {
    fs::read_to_string(fleet.state().join("stand-ins/site.log")).unwrap_or_default()
}

#[test]
fn a_stand_in_is_made_whole_and_removed_whole_though_its_controller_is_killed_half_way() {
    let halting = Halting::new();
    let fleet = fleet(&halting.body());
    let controller = begin(&fleet, &["drill", "site"]);
    halting.wait_until_half_way();
    let workshop = workshop(&fleet, "drill-site-web");
    kill_controller(controller);
    wait_until("the watchdog finds the run", LONGEST, || log(&fleet).contains("another run of this host"));
    assert!(works_in(&workshop), "it goes on");
    assert_eq!(halting.ground.things(), BTreeSet::from(["vm".to_owned()]), "nothing is half removed");

    halting.let_go();
    wait_until("nothing is remembered", LONGEST, || !remembered(&fleet) && watchdogs(&fleet).is_empty());
    assert_eq!(halting.ground.things(), BTreeSet::new(), "{}", log(&fleet));
    for left in ["plan", "accounted.json", "printed", "said", "drill.tfstate"] {
        assert!(!workshop.join(left).exists(), "{left} is left");
    }
}

#[test]
fn what_a_killed_run_made_and_no_state_tells_of_is_not_taken_for_gone() {
    let halting = Halting::new();
    let fleet = fleet(&halting.body_that_waits_once_all_is_there());
    let controller = begin(&fleet, &["drill", "site"]);
    halting.wait_until_half_way();
    let workshop = workshop(&fleet, "drill-site-web");
    watchdogs(&fleet).into_iter().for_each(kill);
    kill_controller(controller);
    working_in(&workshop).into_iter().for_each(kill);
    wait_until("nothing works there", LONGEST, || !works_in(&workshop));

    fleet.declare("pages", &machine(&fleet));
    let plan = fleet.expect(&["plan"], 10);
    assert!(plan.contains("remove what drill site left of web"), "{plan}");
    for _ in 0..2 {
        let told = fleet.expect(&["apply", "--yes"], 4);
        assert!(
            told.contains("create terraform_data.disk") && !told.contains("create terraform_data.vm"),
            "{told}"
        );
        assert_eq!(halting.ground.things(), BTreeSet::from(["disk".to_owned()]), "what is known goes");
        assert!(remembered(&fleet));
    }
    // Somebody finds it at the provider, and says so.
    fs::remove_file(halting.ground.things_folder().join("disk")).unwrap();
    fs::remove_file(workshop.join("plan")).unwrap();
    // Partial still: the machine itself is not there.
    let told = fleet.expect(&["apply", "--yes"], 4);
    assert!(told.contains("nothing of it is left") && !told.contains("terraform_data"), "{told}");
    assert!(!remembered(&fleet));
}

#[test]
fn a_recovery_goes_on_with_the_machine_that_a_run_made_whose_controller_was_killed() {
    let halting = Halting::new();
    let fleet = fleet(&halting.body());
    let controller = begin(&fleet, &["rebuild", "--recovery", "site"]);
    halting.wait_until_half_way();
    let workshop = workshop(&fleet, "web");
    kill_controller(controller);
    let output = fleet.command(&["rebuild", "--recovery", "site", "--resume"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("another run of this host is at it"), "{told}");

    halting.let_go();
    wait_until("the run has ended", LONGEST, || !works_in(&workshop));
    let both = BTreeSet::from(["disk".to_owned(), "vm".to_owned()]);
    assert_eq!(halting.ground.things(), both);
    fleet.expect(&["rebuild", "--recovery", "site", "--resume"], 0);
    assert_eq!(halting.ground.things(), both, "it is not made twice");
    assert!(!workshop.join("plan").exists());
}

#[test]
fn a_command_that_is_interrupted_ends_once_the_run_has_saved_its_state() {
    let halting = Halting::new();
    let fleet = fleet(&halting.body());
    let mut controller = begin(&fleet, &["rebuild", "web"]);
    halting.wait_until_half_way();
    let workshop = workshop(&fleet, "web");
    let pid = rustix::process::Pid::from_raw(controller.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(controller.wait().unwrap().code(), Some(130));
    assert!(!works_in(&workshop), "nothing is left to end");
    assert!(!workshop.join("plan").exists(), "its state tells of all that it made");
    let state = fs::read_to_string(halting.ground.root.path().join("states/web.tfstate")).unwrap();
    assert!(state.contains("tainted"), "{state}");
    // It is half there, and goes as a whole.
    halting.let_go();
    fleet.expect(&["rebuild", "web", "--anew", "--replace", "web"], 0);
    assert_eq!(halting.ground.things(), BTreeSet::from(["disk".to_owned(), "vm".to_owned()]));
}

/// Half-way in a run that is killed: `vm` is in the state, and `disk` is there and is not.
async fn half_made(halting: &Halting, web: &TerraformProvisioner, workshop: &Path) {
    let making = web.clone();
    let making = tokio::spawn(async move { making.up(&|_| {}).await });
    tokio::task::block_in_place(|| halting.wait_until_half_way());
    working_in(workshop).into_iter().for_each(kill);
    let error = making.await.unwrap().unwrap_err();
    assert!(error.message.contains("SIGKILL"), "{error}");
    tokio::task::block_in_place(|| {
        wait_until("nothing works there", LONGEST, || !works_in(workshop));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_leaves_no_machine_that_is_whole_or_gone() {
    let halting = Halting::new();
    let body = halting.body_that_waits_once_all_is_there();
    let web = halting.ground.machine(body.clone());
    let workshop = halting.ground.workshops().join("aws/web");
    half_made(&halting, &web, &workshop).await;
    for stage in ["half there", "what is known was removed"] {
        let Ok(Machine::Broken { why }) = web.observe().await else { panic!("{stage}: it is not known") };
        assert!(why.contains("create terraform_data.disk"), "{stage}: {why}");
        let refused = made(&web).await.0.unwrap_err();
        assert_eq!(refused.class, Class::Stalled, "{stage}: {refused}");
        let left = removed(&web).await.0.unwrap_err();
        assert_eq!(left.class, Class::Stalled, "{stage}: {left}");
        assert!(left.message.contains("create terraform_data.disk"), "{stage}: {left}");
        assert_eq!(halting.ground.things(), BTreeSet::from(["disk".to_owned()]), "{stage}");
    }
    fs::remove_file(workshop.join("plan")).unwrap();
    assert_eq!(web.observe().await, Ok(Machine::Gone));

    // What was found of that run is not taken for what the next one makes.
    fs::remove_file(halting.begun()).unwrap();
    half_made(&halting, &web, &workshop).await;
    let Ok(Machine::Broken { why }) = web.observe().await else { panic!("it is not known") };
    assert!(why.contains("create terraform_data.disk"), "{why}");

    let drill = stand_in(&halting.ground, body);
    fs::remove_file(halting.begun()).unwrap();
    half_made(&halting, &drill, &halting.ground.workshops().join("aws/drill-site-web")).await;
    let left = removed(&drill).await.0.unwrap_err();
    assert!(left.message.contains("create terraform_data.disk"), "{left}");
    assert!(matches!(drill.observe().await, Ok(Machine::Broken { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_somebody_else_stops_as_well_is_not_asked_twice() {
    let halting = Halting::new();
    let body = halting.body();
    let drill = stand_in(&halting.ground, body);
    let workshop = halting.ground.workshops().join("aws/drill-site-web");
    let making = drill.clone();
    let making = tokio::spawn(async move { making.up(&|_| {}).await });
    tokio::task::block_in_place(|| halting.wait_until_half_way());
    // As systemd does: all of a unit's processes get the signal.
    for pid in working_in(&workshop) {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        // What it waits for may have ended meanwhile.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    making.abort();
    assert!(making.await.unwrap_err().is_cancelled());
    tokio::task::block_in_place(|| {
        wait_until("the run has ended", LONGEST, || !works_in(&workshop));
    });
    tokio::task::block_in_place(|| {
        wait_until("its plan is done with", LONGEST, || !workshop.join("plan").exists());
    });
    let said = fs::read_to_string(workshop.join("said")).unwrap();
    assert!(!said.contains("interrupts received"), "{said}");
    assert!(matches!(drill.observe().await, Ok(Machine::Broken { .. })), "it is half made");
    assert_eq!(removed(&drill).await.0, Ok(()));
    assert_eq!(drill.observe().await, Ok(Machine::Gone));
}
