//! The built program, as a user types it.

mod approval;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use jiff::Timestamp;

use crate::schedules;

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
    let declared = fleet.join("infra/backup");
    let sound = backstay(&["validate", declared.to_str().unwrap(), "--fail-on", "warning"]);
    assert!(sound.status.success(), "{}", stderr(&sound));
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
        fleet.keep_slots_away();
        fleet
    }

    /// Nothing falls due while a test runs, at whatever time: what `init` declares is amended.
    fn keep_slots_away(&self) {
        let file = self.path("fleet/infra/backup/fleet.toml");
        let made = fs::read_to_string(&file).unwrap();
        fs::write(&file, schedules::of_init(&made, Timestamp::now())).unwrap();
        git(&self.path("fleet/infra"), &["commit", "--quiet", "--all", "--amend", "--no-edit"]);
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

    fleet.run(&["hold", artifact, "--reason", "evidence"], 0);
    assert!(fleet.run(&["explain", artifact], 0).contains("evidence"));
    fleet.run(&["release", artifact], 0);
    fleet.run(&["release", artifact], 1);
    let pause = ["suspend", "data", "--until", "2999-01-01", "--reason", "new hardware"];
    fleet.run(&pause, 0);
    assert!(fleet.run(&["status"], 0).contains("data is suspended: new hardware"));
    assert_eq!(fleet.json(&["resume", "data"], 0)["format"], "backstay.saying/1");
    fleet.run(&["resume", "data"], 1);
    fleet.run(&["suspend", "--until", "2999-01-01", "--reason", "nothing is named"], 2);

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

/// The plumbing of Git, as a person in the infra repo.
fn git(folder: &str, arguments: &[&str]) -> String {
    let run = Command::new("git")
        .args(["-C", folder, "-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
        .args(arguments)
        .output()
        .expect("git is installed");
    assert!(run.status.success(), "git {arguments:?}: {}", stderr(&run));
    stdout(&run).trim().to_owned()
}

impl Fleet {
    /// Changes the declaration and commits it; returns the commit.
    fn commit(&self, change: impl Fn(String) -> String) -> String {
        let file = self.path("fleet/infra/backup/fleet.toml");
        fs::write(&file, change(fs::read_to_string(&file).unwrap())).unwrap();
        let infra = self.path("fleet/infra");
        git(&infra, &["commit", "--quiet", "--all", "--message", "Change"]);
        git(&infra, &["rev-parse", "HEAD"])
    }
}

#[test]
fn the_infra_repo_is_restored_whole_after_many_commits_and_a_rewrite() {
    let fleet = Fleet::new();
    let infra = fleet.path("fleet/infra");
    fleet.run(&["apply", "--yes"], 0);
    let lost = fleet.commit(|text| text + "\n# lost\n");
    fleet.run(&["apply", "--yes"], 0);
    git(&infra, &["reset", "--quiet", "--hard", "HEAD~1"]);
    let held = fleet.commit(|text| text + "\n# kept\n");
    let told = fleet.run(&["apply", "--yes"], 6);
    assert!(
        told.contains(&format!("backstay approve {held}")) && told.contains("has lost 1 commit"),
        "{told}"
    );

    let told = fleet.run(&["approve", &lost, "--reason", "a slip"], 1);
    assert!(told.contains(&format!("the branch's tip that is held is {held}")), "{told}");
    let told = fleet.run(&["status"], 6);
    assert!(told.contains(&format!("revision {} is in force; the newest one", &lost[..10])), "{told}");
    assert_eq!(told.matches(&lost).count(), 0, "a long hash where a short one says it:\n{told}");
    let told = fleet.run(&["approve", &held[..10], "--reason", "it is meant"], 0);
    assert!(told.contains(&lost[..10]) && told.contains("next pass"), "{told}");
    fleet.run(&["apply", "--yes"], 0);
    let told = fleet.run(&["approve", &held, "--reason", "once more"], 1);
    assert!(told.contains("no rewrite of the branch is held"), "{told}");

    let (file, folder) = (fleet.path("infra.bundle"), fleet.path("infra.git"));
    fleet.run(&["restore", "infra", "--to", &file], 0);
    fleet.run(&["restore", "infra", "--to", &folder], 0);
    let refs = git(&folder, &["for-each-ref", "--format=%(objectname) %(refname)"]);
    assert!(refs.contains(&format!("{lost} refs/backstay/old/")), "{refs}");
    let heads = git(".", &["bundle", "list-heads", &file]);
    for line in refs.lines() {
        assert!(heads.contains(line), "{line} is missing in\n{heads}");
    }
    git(".", &["clone", "--quiet", &file, &fleet.path("clone")]);
    assert_eq!(git(&fleet.path("clone"), &["rev-parse", "HEAD"]), held);
    let before = fs::read(&file).unwrap();
    fleet.run(&["restore", "infra", "--to", &file], 4);
    assert_eq!(fs::read(&file).unwrap(), before, "a file was overwritten");
    let left: Vec<_> = fs::read_dir(fleet.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_str().unwrap().starts_with(".backstay-")), "{left:?}");
}

#[test]
fn drift_has_an_exit_code_of_its_own_and_is_healed_by_apply() {
    let fleet = Fleet::new();
    fleet.run(&["plan"], 10);
    assert!(fleet.run(&["drift"], 0).contains("Nothing drifted."), "what is declared anew is none");
    fleet.run(&["apply", "--yes"], 0);
    let second = fleet.path("fleet/stores/second");
    fs::rename(&second, fleet.path("away")).unwrap();
    assert!(fleet.run(&["drift"], 4).contains("store.second could not be seen"));
    fs::rename(fleet.path("away"), &second).unwrap();
    for entry in fs::read_dir(&second).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    let found = fleet.json(&["drift", "store.second"], 10);
    assert_eq!(
        (&found["format"], &found["drifts"][0]["kind"]),
        (&"backstay.drift/1".into(), &"store-emptied".into())
    );
    fleet.run(&["drift", "data"], 0);
    fleet.run(&["drift", "nothing"], 1);
    fleet.run(&["apply", "--heal", "nothing"], 1);
    assert!(fleet.run(&["apply", "--heal", "second"], 0).contains("copy data"));
    assert!(fleet.run(&["drift"], 0).contains("Nothing drifted."));
}

#[test]
fn everything_that_has_a_name_is_explained() {
    let fleet = Fleet::new();
    assert!(fleet.run(&["explain", "infra"], 0).contains("due now: full into primary: position"));
    fleet.run(&["apply", "--yes"], 0);
    let told = fleet.run(&["explain", "infra"], 0);
    assert!(told.contains("bundled on every commit") && !told.contains("due now"), "{told}");

    fleet.commit(|text| text.replace("[backup.data", "[backup.renamed"));
    fleet.run(&["apply", "--yes"], 0);
    let told = fleet.run(&["explain", "data"], 0);
    assert!(told.contains("kept until an [orphan.data] lets them go"), "{told}");
    assert!(told.contains("store primary is not asked to keep it: 1 artifact"), "{told}");
    assert_eq!(fleet.json(&["explain", "data"], 0)["format"], "backstay.explain/1");
    assert!(fleet.run(&["explain", "renamd"], 1).contains("did you mean `renamed`?"));
}

#[test]
fn wrong_names_and_places_are_told_with_what_to_do() {
    let fleet = Fleet::new();
    fleet.run(&["apply", "--yes"], 0);
    let place = fleet.path("place");
    let told = fleet.run(&["restore", "data", "--to", &place, "--from", "primry"], 1);
    assert!(told.contains("did you mean `primary`?"), "{told}");
    let told = fleet.run(&["restore", "data", "--to", &place, "--from", "nowhere"], 1);
    assert!(told.contains("there is primary, second"), "{told}");
    let told = fleet.run(&["restore", "data", "--to", &fleet.path("no/such")], 1);
    assert!(told.contains("there is no folder") && told.contains("make it first"), "{told}");
    let told = fleet.run(&["backup", "data", "--kind", "log"], 1);
    assert!(told.contains("`files` keeps no log; ask for another kind"), "{told}");
    assert!(fleet.run(&["verify", "data", "--repair"], 0).contains("nothing to repair"));

    let told = fleet.run(&["validate", &fleet.path("fleet")], 3);
    assert!(told.contains("infra/backup") && told.contains("controller's own configuration"), "{told}");
}

#[test]
fn a_store_that_is_not_seen_keeps_its_column_and_what_waits_for_it_is_told() {
    let fleet = Fleet::new();
    fleet.run(&["apply", "--yes"], 0);
    fs::rename(fleet.path("fleet/stores/second"), fleet.path("away")).unwrap();
    let told = fleet.run(&["list"], 4);
    assert!(told.contains("SECOND") && told.contains("unknown"), "{told}");
    let told = fleet.run(&["plan"], 4);
    assert!(told.contains("Nothing to do now; ") && told.contains(" waits: store second"), "{told}");
}
