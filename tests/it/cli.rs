//! The built program, as a user types it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

/// Runs `backstay` with an environment of its own.
pub fn backstay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_backstay"))
        .args(arguments)
        .env_remove("BACKSTAY_CONFIG")
        .output()
        .expect("the program starts")
}

fn stdout(run: &Output) -> String {
    String::from_utf8(run.stdout.clone()).expect("output is text")
}

fn stderr(run: &Output) -> String {
    String::from_utf8(run.stderr.clone()).expect("output is text")
}

#[test]
fn every_command_has_help_with_an_example() {
    let help = stdout(&backstay(&["--help"]));
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Wrapped descriptions are indented further.
    let named = listed.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let commands: Vec<&str> = named.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 2, "no commands in\n{help}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        let run = backstay(&[command, "--help"]);
        assert!(run.status.success(), "{command}");
        assert!(stdout(&run).contains("Example:\n  backstay "), "`{command} --help` shows no example");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for arguments in [&["frobnicate"][..], &["keygen"], &["--output", "yaml", "keygen"], &[]] {
        let run = backstay(arguments);
        assert_eq!(run.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout(&run), "", "{arguments:?}");
        assert_ne!(stderr(&run), "", "{arguments:?}");
    }
}

#[test]
fn keygen_writes_a_private_identity_that_age_reads() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("identity.txt");
    let run = backstay(&["keygen", "--out", file.to_str().unwrap()]);
    assert!(run.status.success(), "{}", stderr(&run));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let read = Command::new("age-keygen").arg("-y").arg(&file).output().expect("age-keygen is installed");
    assert_eq!(String::from_utf8(read.stdout).unwrap(), stdout(&run));

    let before = fs::read(&file).unwrap();
    let again = backstay(&["keygen", "--out", file.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(fs::read(&file).unwrap(), before, "an identity was overwritten");
}

#[test]
fn init_makes_a_repo_and_a_configuration_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = dir.path().join("fleet");
    let run = backstay(&["init", fleet.to_str().unwrap(), "-o", "json"]);
    assert!(run.status.success(), "{}", stderr(&run));
    let made: serde_json::Value = serde_json::from_str(&stdout(&run)).unwrap();
    assert_eq!(made["format"], "backstay.init/1");
    assert!(Path::new(made["config"].as_str().unwrap()).is_file());
    assert_eq!(backstay(&["init", fleet.to_str().unwrap()]).status.code(), Some(1));
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&backstay(&["completions", shell]));
        assert!(script.contains("keygen"), "{shell}");
    }
}

#[test]
fn the_demo_keeps_every_promise_that_it_makes() {
    let dir = tempfile::tempdir().unwrap();
    let run = backstay(&["demo", "--dir", dir.path().join("fleet").to_str().unwrap()]);
    assert!(run.status.success(), "{}\n{}", stdout(&run), stderr(&run));
    for shown in ["orders are back", "found damaged", "did you mean `stores`?", "is in force"] {
        assert!(stdout(&run).contains(shown), "`{shown}` is missing in\n{}", stdout(&run));
    }
}

/// A fleet as `init` makes it, and commands on it.
struct Fleet {
    dir: tempfile::TempDir,
}

impl Fleet {
    fn new() -> Self {
        let fleet = Self { dir: tempfile::tempdir().unwrap() };
        let made = backstay(&["init", fleet.path("fleet").as_str()]);
        assert!(made.status.success(), "{}", stderr(&made));
        fleet
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str], code: i32) -> String {
        let config = self.path("fleet/backstay.toml");
        let run = backstay(&[arguments, &["--config", &config]].concat());
        assert_eq!(run.status.code(), Some(code), "{arguments:?}\n{}\n{}", stdout(&run), stderr(&run));
        format!("{}{}", stdout(&run), stderr(&run))
    }

    fn json(&self, arguments: &[&str], code: i32) -> serde_json::Value {
        let config = self.path("fleet/backstay.toml");
        let run = backstay(&[arguments, &["--config", &config, "--output", "json"]].concat());
        assert_eq!(run.status.code(), Some(code), "{arguments:?}\n{}\n{}", stdout(&run), stderr(&run));
        serde_json::from_str(&stdout(&run)).unwrap_or_else(|e| panic!("{arguments:?}: {e}\n{}", stdout(&run)))
    }
}

#[test]
fn what_init_makes_is_planned_applied_explained_traced_and_restored() {
    let fleet = Fleet::new();
    fleet.run(&["validate", &fleet.path("fleet/infra/backup"), "--fail-on", "warning"], 0);
    let plan = fleet.path("plan.json");
    fleet.run(&["plan", "--out", &plan], 10);
    fleet.run(&["apply", &plan], 0);
    fleet.run(&["apply", &plan], 1);
    fleet.run(&["apply", "--yes"], 0);
    assert!(fleet.run(&["plan"], 0).contains("Nothing to do."));

    assert_eq!(fleet.json(&["plan"], 0)["format"], "backstay.plan/1");
    assert_eq!(fleet.json(&["apply", "--yes"], 0)["format"], "backstay.pass/1");
    assert_eq!(fleet.json(&["status"], 0)["format"], "backstay.status/1");
    let listing = fleet.json(&["list", "data"], 0);
    assert_eq!(listing["format"], "backstay.list/1");
    let artifact = listing["artifacts"][0]["artifact"].as_str().unwrap();
    assert!(fleet.run(&["explain", artifact], 0).contains("younger than its rule"));
    assert!(fleet.run(&["explain", "data"], 0).contains("is filled by"));
    let trace = fleet.json(&["trace", artifact], 0);
    assert_eq!(trace["commit"]["subject"], "Declare the first backup");
    fleet.run(&["trace", "20200101T000000Z-0000000000"], 1);

    let place = fleet.path("restored");
    assert!(fleet.run(&["restore", "data", "--to", &place, "--dry-run"], 0).contains("restore data"));
    assert!(!Path::new(&place).exists(), "a dry run restored something");
    fleet.run(&["restore", "data", "--to", &place, "--at", artifact], 0);
    let original = fleet.path("fleet/data/hello.txt");
    let restored = Path::new(&place).join(original.trim_start_matches('/'));
    assert_eq!(fs::read(restored).unwrap(), fs::read(&original).unwrap());
    fleet.run(&["restore", "data", "--to", &place], 4);
    fleet.run(&["restore", "data", "--to", &place, "--at", "2020-01-01 00:00"], 1);
    fleet.run(&["restore", "nothing", "--to", &place], 1);
    fleet.run(&["verify", "nothing"], 1);
    fleet.run(&["list", "nothing"], 1);

    let kit = fleet.path("kit");
    fleet.run(&["kit", "--out", &kit], 0);
    assert!(Path::new(&kit).join("restore.sh").is_file());
}

#[test]
fn a_wrong_or_missing_identity_is_told_and_captures_go_on_without_one() {
    let fleet = Fleet::new();
    fleet.run(&["apply", "--yes"], 0);
    let identity = fleet.path("fleet/identity.txt");
    fs::remove_file(&identity).unwrap();
    assert!(backstay(&["keygen", "--out", &identity]).status.success());
    let told = fleet.run(&["restore", "data", "--to", &fleet.path("restored")], 4);
    assert!(told.contains("identity"), "{told}");
    assert!(!Path::new(&fleet.path("restored")).join("etc").exists());

    let config = fleet.path("fleet/backstay.toml");
    let text = fs::read_to_string(&config).unwrap();
    let without: String =
        text.lines().filter(|line| !line.starts_with("identity")).map(|l| format!("{l}\n")).collect();
    fs::write(&config, without).unwrap();
    fleet.run(&["backup", "data", "--reason", "no identity is needed"], 0);
    fleet.run(&["verify", "--data"], 0);
    let told = fleet.run(&["restore", "data", "--to", &fleet.path("restored")], 4);
    assert!(told.contains("identity"), "{told}");
}
