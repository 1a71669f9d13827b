//! Modules of Terraform or OpenTofu: what is really there are files, which the modules make and remove.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use backstay::{
    drivers::Registry,
    inventory::{Machine, MachineAddress, PreviewMark},
    plan::by_hand::Hand,
    process::{find, search_path},
    provisioners::{
        Provisioner,
        terraform::{Module, TerraformProvisioner},
    },
    spec::{self, OnLoss, Provision, TerraformProgram, TerraformState, Vm},
    stores::Class,
    templates::{Templates, apart::by_program},
};

use crate::{
    cloudformation::drivers,
    lab::{READY, fleet::Fleet, free_port, schedules, wait_until},
    machine_conformance::{conforms, made, removed},
};

/// The program that this machine has: `ci/test` installs one.
pub fn program() -> TerraformProgram {
    let has = |program: TerraformProgram| find(&[program.as_str()], &search_path()).is_ok();
    let known = [TerraformProgram::Terraform, TerraformProgram::Tofu];
    known
        .into_iter()
        .find(|program| has(*program))
        .expect("terraform or tofu is in PATH; run ci/test, which installs it")
}

/// A place for machines that are files, with the state beside them.
pub struct Ground {
    pub root: tempfile::TempDir,
}

impl Ground {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("things")).unwrap();
        Self { root }
    }

    pub fn things_folder(&self) -> PathBuf {
        self.root.path().join("things")
    }

    pub fn things(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.things_folder()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub fn workshops(&self) -> PathBuf {
        self.root.path().join("terraform")
    }

    pub fn backend(&self) -> String {
        let state = self.root.path().join("states/web.tfstate");
        format!("terraform {{\n  backend \"local\" {{ path = \"{}\" }}\n}}\n", state.display())
    }

    /// A resource that is a file of this name, once `before` has been run.
    pub fn thing(&self, name: &str, before: &str) -> String {
        let file = self.things_folder().join(name);
        format!(
            "resource \"terraform_data\" \"{name}\" {{\n  input = \"{file}\"\n  \
             provisioner \"local-exec\" {{ command = \"{before} touch '${{self.input}}'\" }}\n  \
             provisioner \"local-exec\" {{\n    when = destroy\n    command = \"rm -f '${{self.input}}'\"\n  }}\n}}\n",
            file = file.display()
        )
    }

    fn module(&self, body: String) -> Module {
        Module {
            fleet: "aws".parse().unwrap(),
            vm: "web".parse().unwrap(),
            stands_for: None,
            declared: spec::Terraform {
                program: program(),
                variables: BTreeMap::new(),
                state: TerraformState::Backend,
            },
            body,
            folder: self.workshops(),
        }
    }

    pub fn machine(&self, body: String) -> TerraformProvisioner {
        TerraformProvisioner::new(self.module(body)).unwrap()
    }

    /// A machine of one file, which tells where it is reached.
    fn web(&self) -> TerraformProvisioner {
        self.machine(self.backend() + &self.thing("vm", "") + OUTPUTS)
    }
}

pub const OUTPUTS: &str = r#"
output "address" { value = "192.0.2.1" }
output "port" { value = 2222 }
output "host_key" {
  value     = "ssh-ed25519 AAAA"
  sensitive = true
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn modules_conform() {
    let ground = Ground::new();
    conforms(&ground.web(), async || ground.things()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_reached_where_the_outputs_say_and_a_preview_names_what_comes() {
    let ground = Ground::new();
    let web = ground.web();
    assert_eq!(web.preview(&PreviewMark::drawn(7)).await.unwrap(), ["create terraform_data.vm"]);
    let (running, said) = made(&web).await;
    let running = running.unwrap();
    assert_eq!(running.address, Some(MachineAddress { host: "192.0.2.1".to_owned(), port: 2222 }));
    assert_eq!(running.host_key.as_deref(), Some("ssh-ed25519 AAAA"));
    assert!(said.iter().any(|line| line.contains("terraform_data.vm: Creation complete")), "{said:?}");
    let again = web.preview(&PreviewMark::drawn(7)).await.unwrap();
    assert_eq!(again[0], "terraform_data.vm is there already, and goes first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_made_by_hand_is_found_by_its_backend() {
    let ground = Ground::new();
    let made = ground.web().by_hand("site.files/web").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for file in &made.files {
        let path = folder.path().join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &file.content).unwrap();
    }
    let typed = made.hands.iter().filter(|hand| !matches!(hand, Hand::Know(_)));
    let typed: Vec<String> = typed.map(ToString::to_string).collect();
    assert_eq!(typed.len(), 4, "{typed:?}");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-euc", &typed.join("\n")]).current_dir(folder.path()).env("CHECKPOINT_DISABLE", "1");
    crate::lab::run(&mut shell);
    assert_eq!(ground.things(), BTreeSet::from(["vm".to_owned()]));
    assert!(matches!(ground.web().observe().await, Ok(Machine::Running(_))));
    assert_eq!(removed(&ground.web()).await.0, Ok(()));
    assert_eq!(ground.things(), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_without_a_backend_is_refused_unless_the_loss_of_its_state_is_taken() {
    let ground = Ground::new();
    let body = ground.thing("vm", "");
    let web = ground.machine(body.clone());
    for refused in [made(&web).await.0.map(drop), web.observe().await.map(drop), removed(&web).await.0] {
        let refused = refused.unwrap_err();
        assert!(refused.message.contains("declare `state = \"local\"`"), "{refused}");
        assert_eq!(refused.class, Class::Stalled);
    }
    assert_eq!(ground.things(), BTreeSet::new());
    let mut module = ground.module(body);
    module.declared.state = TerraformState::Local;
    conforms(&TerraformProvisioner::new(module).unwrap(), async || ground.things()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_lost_everything_knows_the_machine_by_its_backend() {
    let ground = Ground::new();
    made(&ground.web()).await.0.unwrap();
    fs::remove_dir_all(ground.workshops()).unwrap();
    assert!(matches!(ground.web().observe().await, Ok(Machine::Running(_))));
    made(&ground.web()).await.0.unwrap_err();
    assert_eq!(ground.things(), BTreeSet::from(["vm".to_owned()]));
    removed(&ground.web()).await.0.unwrap();
    assert_eq!(ground.things(), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_can_not_be_asked_is_no_machine_that_is_gone() {
    let ground = Ground::new();
    made(&ground.web()).await.0.unwrap();
    fs::write(ground.root.path().join("states/web.tfstate"), "torn {").unwrap();
    ground.web().observe().await.unwrap_err();
    made(&ground.web()).await.0.unwrap_err();
    assert_eq!(ground.things(), BTreeSet::from(["vm".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_half_way_is_told_with_what_is_left_and_can_be_removed() {
    let ground = Ground::new();
    let second = ground.thing("disk", "echo no room >&2; exit 1;");
    let second = second.replacen("{\n", "{\n  depends_on = [terraform_data.vm]\n", 1);
    let web = ground.machine(ground.backend() + &ground.thing("vm", "") + &second);
    let error = made(&web).await.0.unwrap_err().message;
    for part in ["no room", "left is ", "terraform_data.vm", "until it is removed"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains('\n'), "{error}");
    let Ok(Machine::Broken { why }) = web.observe().await else { panic!("it is half made") };
    assert!(why.contains("terraform_data.disk was not made whole"), "{why}");
    made(&web).await.0.unwrap_err();
    removed(&web).await.0.unwrap();
    assert_eq!((ground.things(), web.observe().await), (BTreeSet::new(), Ok(Machine::Gone)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_otherwise_is_drift() {
    let ground = Ground::new();
    let mut module = ground.module(
        ground.backend() + "variable \"size\" {}\nresource \"terraform_data\" \"vm\" { input = var.size }\n",
    );
    module.declared.variables.insert("size".to_owned(), "small".to_owned());
    made(&TerraformProvisioner::new(module.clone()).unwrap()).await.0.unwrap();
    module.declared.variables.insert("size".to_owned(), "large".to_owned());
    let Ok(Machine::Running(running)) = TerraformProvisioner::new(module).unwrap().observe().await else {
        panic!("it runs")
    };
    assert_eq!(running.drift, ["terraform_data.vm is not as declared: update is due"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_in_json_takes_the_place_of_one_in_hcl() {
    let ground = Ground::new();
    made(&ground.web()).await.0.unwrap();
    removed(&ground.web()).await.0.unwrap();
    let state = ground.root.path().join("states/web.tfstate");
    let body = serde_json::json!({
        "terraform": { "backend": { "local": { "path": state } } },
        "resource": { "terraform_data": { "other": { "input": "x" } } },
    });
    let web = ground.machine(body.to_string());
    assert_eq!(web.preview(&PreviewMark::drawn(7)).await.unwrap(), ["create terraform_data.other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_module_protects_is_not_removed() {
    let ground = Ground::new();
    let body = ground.thing("vm", "").replacen("{\n", "{\n  lifecycle { prevent_destroy = true }\n", 1);
    let web = ground.machine(ground.backend() + &body);
    made(&web).await.0.unwrap();
    let error = removed(&web).await.0.unwrap_err().message;
    assert!(error.contains("prevent_destroy"), "{error}");
    assert_eq!(ground.things(), BTreeSet::from(["vm".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_given_up_ends_and_saves_its_state() {
    let ground = Ground::new();
    let begun = ground.things_folder().join("begun");
    let slow = ground.thing("vm", &format!("touch '{}'; sleep 600;", begun.display()));
    let web = ground.machine(ground.backend() + &slow);
    let making = web.clone();
    let making = tokio::spawn(async move { making.up(&|_| {}).await });
    tokio::task::block_in_place(|| {
        wait_until("it is being made", Duration::from_secs(60), || begun.exists())
    });
    let busy = web.observe().await.unwrap_err();
    assert_eq!(busy.class, Class::Retry);
    let named = format!("{} (process ", program().as_str());
    for part in ["another run of this host is at it", named.as_str()] {
        assert!(busy.message.contains(part), "{part}: {busy}");
    }
    making.abort();
    assert!(making.await.unwrap_err().is_cancelled());
    let deadline = Instant::now() + Duration::from_secs(60);
    let seen = loop {
        match web.observe().await {
            // The run that was given up keeps the folder until it has ended.
            Err(busy) if busy.message.contains("another run") && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            seen => break seen,
        }
    };
    assert!(!works_in(&ground.workshops().join("aws/web")), "nothing runs any more");
    let Ok(Machine::Broken { why }) = seen else { panic!("it is half made: {seen:?}") };
    assert!(why.contains("terraform_data.vm was not made whole"), "{why}");
    removed(&web).await.0.unwrap();
    assert_eq!(web.observe().await, Ok(Machine::Gone));
}

/// Whether a process works in this folder.
pub fn works_in(folder: &Path) -> bool {
    !working_in(folder).is_empty()
}

/// The processes that work in this folder.
pub fn working_in(folder: &Path) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let works = |process: &Path| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == folder);
    let working = processes.filter(|entry| works(&entry.path()));
    working.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_could_not_be_saved_is_not_left_behind() {
    let ground = Ground::new();
    let web = ground.web();
    assert_eq!(web.observe().await, Ok(Machine::Gone));
    let unsaved = ground.workshops().join("aws/web/errored.tfstate");
    fs::write(&unsaved, "{}").unwrap();
    let refused = made(&web).await.0.unwrap_err();
    assert!(refused.message.contains("terraform state push"), "{refused}");
    assert_eq!((ground.things(), refused.class), (BTreeSet::new(), Class::Stalled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_module_is_told_by_what_the_program_says() {
    let ground = Ground::new();
    let error =
        ground.machine("resource \"terraform_data\" {}".to_owned()).observe().await.unwrap_err().message;
    assert!(error.contains("Missing name for resource") || error.contains("labels"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_is_run_only_where_the_host_allows_it() {
    by_program(env!("CARGO_BIN_EXE_backstay"));
    let (folder, ground) = (tempfile::tempdir().unwrap(), Ground::new());
    let own = ground.backend()
        + "resource \"terraform_data\" \"vm\" { input = \"{{ fleet }} {{ vm.name }} {{ vars.size }}\" }\n";
    let templates = Templates::of([("vm.tf.tera".to_owned(), own)].into());
    let vm = Vm {
        name: "web".parse().unwrap(),
        stands_for: None,
        template: "vm.tf.tera".to_owned(),
        vars: [("size".to_owned(), toml::Value::Integer(4))].into(),
        provision: Provision::Terraform(ground.module(String::new()).declared),
        ssh: None,
        ansible: None,
        on_loss: OnLoss::Report,
    };
    let fleet = "aws".parse().unwrap();
    let refused =
        drivers(folder.path(), "").provisioner(&fleet, &vm, &templates).await.err().unwrap().to_string();
    assert!(refused.contains("to `run` in [allow]"), "{refused}");
    let allowed = drivers(folder.path(), &format!("run = [\"{}\"]", program().as_str()));
    let web =
        allowed.provisioner(&fleet, &vm, &templates).await.unwrap_or_else(|refused| panic!("{refused}"));
    assert_eq!(web.preview(&PreviewMark::drawn(7)).await.unwrap(), ["create terraform_data.vm"]);
    made(&*web).await.0.unwrap();
    let state = fs::read_to_string(ground.root.path().join("states/web.tfstate")).unwrap();
    assert!(state.contains("\"aws web 4\""), "{state}");
}

/// The same module once more, which stands in for the machine that the first is.
pub fn stand_in(ground: &Ground, body: String) -> TerraformProvisioner {
    let module = Module {
        vm: "drill-site-web".parse().unwrap(),
        stands_for: Some("web".parse().unwrap()),
        declared: spec::Terraform {
            program: program(),
            variables: BTreeMap::new(),
            state: TerraformState::Local,
        },
        ..ground.module(body)
    };
    TerraformProvisioner::new(module).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_in_of_a_module_keeps_a_state_of_its_own_and_leaves_the_machine_alone() {
    let ground = Ground::new();
    let body = |file: &str| {
        ground.backend() + &ground.thing("vm", "").replace("/vm\"", &format!("/{file}\"")) + OUTPUTS
    };
    let web = ground.machine(body("real"));
    made(&web).await.0.unwrap();
    let state = ground.root.path().join("states/web.tfstate");
    let before = fs::read(&state).unwrap();
    assert_eq!(ground.things(), BTreeSet::from(["real".to_owned()]));

    let drill = stand_in(&ground, body("drill"));
    let of_drill = async || {
        let things = ground.things();
        assert!(things.contains("real"), "{things:?}");
        things.into_iter().filter(|thing| thing != "real").collect()
    };
    conforms(&drill, of_drill).await;
    let left = ground.workshops().join("aws/drill-site-web");
    for name in ["drill.tfstate", "drill.tfstate.backup"] {
        assert!(!left.join(name).exists(), "{name} may hold secrets");
    }
    assert_eq!(fs::read(&state).unwrap(), before, "the machine's own state");
    assert!(matches!(web.observe().await.unwrap(), Machine::Running(_)));
    assert_eq!(ground.things(), BTreeSet::from(["real".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_in_does_nothing_to_what_is_there_already() {
    let ground = Ground::new();
    let takes_over = ground.thing("vm", "")
        + "resource \"terraform_data\" \"real\" {}\nimport {\n  to = terraform_data.real\n  id = \"of-the-machine\"\n}\n";
    let drill = stand_in(&ground, ground.backend() + &takes_over + OUTPUTS);
    let why = drill.preview(&PreviewMark::drawn(7)).await.unwrap_err();
    assert!(why.to_string().contains("take over terraform_data.real"), "{why}");
    let why = made(&drill).await.0.unwrap_err();
    assert!(why.to_string().contains("take over terraform_data.real"), "{why}");
    assert_eq!((ground.things(), why.class), (BTreeSet::new(), Class::Stalled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_is_tried_on_a_module_of_its_own_which_goes_also_when_the_controller_dies() {
    let (ground, mut fleet) = (Ground::new(), Fleet::new());
    fleet.allow_run(Path::new(program().as_str()));
    let templates = fleet.config_file().parent().unwrap().join("infra/templates");
    fs::create_dir_all(&templates).unwrap();
    let body = ground.backend()
        + &ground.thing("vm", "").replace("/vm\"", "/{{ vm.name }}-{{ terraform.variables.size }}\"");
    fs::write(templates.join("web.tf.tera"), "variable \"size\" {}\n".to_owned() + &body + OUTPUTS).unwrap();
    let data = fleet.readable();
    fs::create_dir_all(&data).unwrap();
    let (nobody, yearly) = (free_port(), schedules::yearly());
    let declared = |timeout: &str| {
        format!(
            r#"
            files = {{ paths = ["{}"] }}
            [vm.web]
            template = "web.tf.tera"
            terraform = {{ program = "{}", variables = {{ size = "large" }} }}
            [recovery.site]
            rto = "1h"
            steps = [{{ rebuild = "web" }}, {{ wait = {{ tcp = "web:80" }}, timeout = "{timeout}" }}]
            [drill.site]
            recovery = "site"
            schedule = "{yearly}"
            [drill.site.stand_in.web]
            variables = {{ size = "small" }}
            reach = {{ "web:80" = "127.0.0.1:{nobody}" }}
            "#,
            data.display(),
            program().as_str()
        )
    };
    fleet.declare("pages", &declared("2s"));
    fleet.expect(&["backup", "pages"], 0);
    fleet.expect(&["rebuild", "web"], 0);
    let real = BTreeSet::from(["web-large".to_owned()]);
    assert_eq!(ground.things(), real);
    let told = fleet.expect(&["drill", "site", "-o", "json"], 7);
    assert!(told.contains("\"provision\"") && told.contains("not within 2s"), "{told}");
    assert_eq!(ground.things(), real, "its own is removed, and the machine is not");

    fleet.declare("pages", &declared("1h"));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.args(["drill", "site", "--config"]).arg(fleet.config_file());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut controller = command.spawn().unwrap();
    let of_drill = "drill-site-web-small";
    wait_until("the stand-in is there", READY, || ground.things().contains(of_drill));
    // The run that made it has ended, and saved its state.
    let state = fleet.state().join("terraform");
    let state = fs::read_dir(state).unwrap().next().unwrap().unwrap().path().join("drill-site-web");
    wait_until("it is made", READY, || !state.join("plan").exists());
    controller.kill().unwrap();
    controller.wait().unwrap();
    wait_until("it is gone", READY, || !ground.things().contains(of_drill));
    assert_eq!(ground.things(), real);
}
