//! The files in `ci/` for other repositories: their own commands, run by a real shell in a real checkout.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use yaml_rust2::{Yaml, YamlLoader};

use crate::checkout::{Checkout, declaration};

fn ours(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn yaml(file: &str) -> Yaml {
    let text = fs::read_to_string(ours(file)).unwrap();
    YamlLoader::load_from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}")).remove(0)
}

/// The `run` of a step of Actions.
fn step(file: &str, name: &str) -> String {
    let workflow = yaml(file);
    let steps = workflow["jobs"]["declaration"]["steps"].as_vec().expect("the job has steps");
    let step = steps.iter().find(|step| step["name"].as_str() == Some(name));
    step.and_then(|step| step["run"].as_str())
        .unwrap_or_else(|| panic!("{file} has no step {name}"))
        .to_owned()
}

/// Runs a line of a file as CI does, with `backstay` in PATH.
fn run(checkout: &Checkout, script: &str, environment: &[(&str, &str)]) -> Output {
    let bin = Path::new(env!("CARGO_BIN_EXE_backstay")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    Command::new("bash")
        .args(["-e", "-o", "pipefail", "-c", script])
        .current_dir(checkout.root())
        .env_clear()
        .env("PATH", path)
        .env("HOME", checkout.root())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("DECLARATION", "backup")
        .envs(environment.iter().copied())
        .output()
        .expect("bash is installed")
}

#[track_caller]
fn check(checkout: &Checkout, script: &str, environment: &[(&str, &str)], code: i32) -> String {
    let run = run(checkout, script, environment);
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert_eq!(run.status.code(), Some(code), "{script}\n{out}\n{err}");
    format!("{out}{err}")
}

fn broken() -> String {
    declaration("30d").replace("policy = \"nightly\"\nstores", "policy = \"weekly\"\nstores")
}

/// A script without its last option, which posts: that is tried at servers of its own.
fn offline(script: &str) -> String {
    let (rest, post) = script.rsplit_once(' ').unwrap();
    assert!(post.starts_with("--post"), "{script}");
    rest.to_owned()
}

#[test]
fn the_workflows_of_github_and_forgejo_validate_and_review() {
    for file in ["ci/github-actions.yml", "ci/forgejo-actions.yml"] {
        let checkout = Checkout::new();
        let (validate, review) = (step(file, "Validate"), offline(&step(file, "Review")));
        let base = [("GITHUB_BASE_REF", "main")];
        check(&checkout, &validate, &[], 0);
        check(&checkout, &review, &base, 0);
        checkout.write(&declaration("14d"));
        checkout.commit("Keep less");
        assert!(check(&checkout, &review, &base, 10).contains("at most 16 fewer"));
        checkout.write(&broken());
        checkout.commit("Break it");
        assert!(check(&checkout, &validate, &[], 12).contains("::error file=backup/fleet.toml,line="));
        check(&checkout, &review, &base, 12);
    }
}

#[test]
fn the_workflow_of_github_writes_sarif_whatever_is_found() {
    let checkout = Checkout::new();
    let script = step("ci/github-actions.yml", "Findings for code scanning");
    for text in [declaration("30d"), broken()] {
        checkout.write(&text);
        check(&checkout, &script, &[], 0);
        let sarif = fs::read(checkout.root().join("backstay.sarif")).unwrap();
        let sarif: serde_json::Value = serde_json::from_slice(&sarif).unwrap();
        assert_eq!(sarif["version"], "2.1.0");
    }
    let nothing = run(&checkout, &script, &[("DECLARATION", "nowhere")]);
    assert_ne!(nothing.status.code(), Some(0), "a failure was taken for findings");
}

#[test]
fn the_pipeline_of_gitlab_writes_its_reports_and_reviews() {
    let pipeline = yaml("ci/gitlab-ci.yml");
    let script = |job: &str| -> Vec<String> {
        let lines = pipeline[job]["script"].as_vec().expect("the job has a script");
        lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    };
    let checkout = Checkout::new();
    let target = [("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main")];
    let [fetch, review] = &script("review")[..] else { panic!("the review has two lines") };
    let review = format!("{fetch} && {}", offline(review));
    let validate = script("validate").join("\n");
    check(&checkout, &validate, &[], 0);
    check(&checkout, &review, &target, 0);
    checkout.write(&broken());
    checkout.git(&["add", "backup"]);
    checkout.git(&["commit", "--quiet", "--message", "Break it"]);
    check(&checkout, &validate, &[], 12);
    check(&checkout, &review, &target, 12);
    let reports = &pipeline["validate"]["artifacts"]["reports"];
    let report = fs::read(checkout.root().join(reports["codequality"].as_str().unwrap())).unwrap();
    let issues: Vec<serde_json::Value> = serde_json::from_slice(&report).unwrap();
    assert_eq!(issues[0]["location"]["path"], "backup/fleet.toml");
    let junit = fs::read_to_string(checkout.root().join(reports["junit"].as_str().unwrap())).unwrap();
    assert!(junit.contains("<failure "), "{junit}");
}

#[test]
fn the_git_hook_refuses_a_commit_by_what_is_staged() {
    let checkout = Checkout::new();
    fs::copy(ours("ci/pre-commit"), checkout.root().join(".git/hooks/pre-commit")).unwrap();
    let commit = "git -c user.name=T -c user.email=t@example.org commit --quiet --message Change";
    checkout.write(&broken());
    let told = check(&checkout, &format!("git add backup && {commit}"), &[], 1);
    assert!(told.contains("error["), "{told}");
    // Staged is what is broken; that the work tree is sound again does not help.
    checkout.write(&declaration("60d"));
    check(&checkout, commit, &[], 1);
    check(&checkout, &format!("git add backup && {commit}"), &[], 0);
}

#[test]
fn the_hooks_of_pre_commit_run_what_they_say() {
    let hooks = yaml(".pre-commit-hooks.yaml");
    let used = yaml("ci/pre-commit-config.yaml");
    let used = &used["repos"][0]["hooks"][0];
    let arguments: Vec<&str> =
        used["args"].as_vec().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let hooks = hooks.as_vec().unwrap();
    assert!(hooks.iter().any(|hook| hook["id"] == used["id"]));
    let checkout = Checkout::new();
    for hook in hooks {
        assert_eq!(hook["pass_filenames"].as_bool(), Some(false), "file names would be taken for the folder");
        let script = format!("{} {}", hook["entry"].as_str().unwrap(), arguments.join(" "));
        checkout.write(&declaration("30d"));
        check(&checkout, &script, &[], 0);
        checkout.write(&broken());
        check(&checkout, &script, &[], 12);
    }
}
