//! Programs that only start another one: what they start, and what that says of it.

use super::{Dump, file_name, is_known, is_secret};
use crate::adopt::words::Word;

/// Words of shells before a command.
const KEYWORDS: [&str; 10] = ["!", "{", "}", "do", "elif", "else", "if", "then", "until", "while"];
/// Programs that only start another one, on the same machine.
const WRAPPERS: [&str; 17] = [
    "nice",
    "ionice",
    "chrt",
    "env",
    "sudo",
    "doas",
    "timeout",
    "flock",
    "chronic",
    "exec",
    "time",
    "nohup",
    "setsid",
    "sshpass",
    "systemd-run",
    "systemd-cat",
    "systemd-inhibit",
];
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "zsh", "su", "runuser"];
/// Programs that start another one elsewhere.
const CONTAINERS: [&str; 8] =
    ["docker", "podman", "kubectl", "docker-compose", "lxc", "nsenter", "chroot", "machinectl"];

const SECRET: &str = "a secret stands in that line and was not taken over: make a new one, since every user of the host could read it";

/// A command without what stands around it.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// The program and its arguments.
    pub command: Vec<Word>,
    /// A line that the program, a shell, is told to run.
    pub inner: Option<String>,
    remarks: Vec<&'static str>,
}

impl Start {
    /// Tells a person what the surroundings mean for a dump.
    pub(super) fn remark(&self, dump: &mut Dump) {
        for remark in &self.remarks {
            if !dump.remarks.iter().any(|known| known == remark) {
                dump.remarks.push((*remark).to_owned());
            }
        }
    }
}

/// Takes off variables, keywords and programs that only start another one.
pub(super) fn unwrap(words: &[Word]) -> Start {
    let mut start = Start::default();
    let mut rest = words;
    while let Some((first, after)) = rest.split_first() {
        let name = file_name(&first.text);
        if is_assignment(first) || KEYWORDS.contains(&name) {
            start.learn_variables(&rest[..1]);
            rest = after;
        } else if WRAPPERS.contains(&name) || CONTAINERS.contains(&name) {
            if CONTAINERS.contains(&name) {
                start.remarks.push("it runs in a container: name the server as this controller reaches it");
            }
            let begins = after.iter().position(starts_something);
            start.learn_variables(&after[..begins.unwrap_or(0)]);
            let Some(begins) = begins else { break };
            rest = &after[begins..];
        } else {
            break;
        }
    }
    start.command = rest.to_vec();
    start.inner = rest.split_first().and_then(|(first, arguments)| match file_name(&first.text) {
        "ssh" => {
            start.remarks.push(
                "it runs on another machine, through ssh: name the server as this controller reaches it",
            );
            remote(arguments)
        }
        name if SHELLS.contains(&name) => told_to_run(arguments),
        _ => None,
    });
    start
}

impl Start {
    fn learn_variables(&mut self, words: &[Word]) {
        let secret = |word: &Word| {
            word.text.split_once('=').is_some_and(|(name, value)| is_secret(name) && !value.is_empty())
        };
        if words.iter().any(secret) {
            self.remarks.push(SECRET);
        }
    }
}

/// Tells a person that a secret stood in the arguments of a dump's program.
pub(super) fn secret_seen(remarks: &mut Vec<String>) {
    if !remarks.iter().any(|known| known == SECRET) {
        remarks.push(SECRET.to_owned());
    }
}

fn is_assignment(word: &Word) -> bool {
    let name = word.text.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn starts_something(word: &Word) -> bool {
    let name = file_name(&word.text);
    is_known(name) || name == "ssh" || [&WRAPPERS[..], &SHELLS[..], &CONTAINERS[..]].concat().contains(&name)
}

/// What a shell gets behind `-c`.
fn told_to_run(arguments: &[Word]) -> Option<String> {
    let flag =
        |word: &Word| word.text.starts_with('-') && !word.text.starts_with("--") && word.text.ends_with('c');
    let at = arguments.iter().position(flag)?;
    arguments.get(at + 1).map(|line| line.text.clone())
}

/// What ssh runs on the host: one word with spaces, or the words from a program on.
fn remote(arguments: &[Word]) -> Option<String> {
    if let Some(line) = arguments.iter().find(|word| word.text.contains(' ') && !word.text.starts_with('-')) {
        return Some(line.text.clone());
    }
    let at = arguments.iter().position(starts_something)?;
    Some(arguments[at..].iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "))
}
