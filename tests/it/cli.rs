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
    let commands: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
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
