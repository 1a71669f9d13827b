//! What the callback plugin tells, a JSON object a line.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

use crate::provisioners::{HostResult, Said};

/// The longest line that is heard, bytes; the rest of a longer one is thrown away with it.
const LONGEST_LINE: usize = 256 * 1024;

/// The most failures and hosts that are kept.
const MOST_FAILURES: usize = 100;
const MOST_HOSTS: usize = 10_000;

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) hosts: BTreeMap<String, HostResult>,
    pub(super) failures: Vec<Failure>,
    /// Whether all hosts were told.
    pub(super) whole: bool,
    /// Why some hosts can't be reached.
    unreached: BTreeMap<String, String>,
    line: Vec<u8>,
    too_long: bool,
}

/// A task that failed on a host.
#[derive(Debug)]
pub(super) struct Failure {
    host: String,
    task: String,
    why: String,
    pub(super) unreachable: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (task, host, why) = (self.task.escape_debug(), self.host.escape_debug(), self.why.escape_debug());
        let did = if self.unreachable { "could not reach" } else { "failed on" };
        write!(f, "task `{task}` {did} {host}: {why}")
    }
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
    Play { name: String },
    Task { name: String },
    Failed { host: String, task: String, why: String },
    Unreachable { host: String, task: String, why: String },
    Host { host: String, ok: u64, changed: u64, failed: u64 },
    End,
}

impl Events {
    /// For a run in which some hosts can't be reached.
    pub(super) fn new(unreached: BTreeMap<String, String>) -> Self {
        Self { unreached, ..Self::default() }
    }

    /// Hears the next bytes.
    pub(super) fn hear(&mut self, bytes: &[u8], said: Said<'_>) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            self.too_long |= self.line.len() + text.len() > LONGEST_LINE;
            if !self.too_long {
                self.line.extend_from_slice(text);
            }
            if ends {
                // What is no event of ours was printed by something else.
                if let Ok(event) = serde_json::from_slice(&self.line)
                    && !self.too_long
                {
                    self.take(event, said);
                }
                self.line.clear();
                self.too_long = false;
            }
        }
    }

    fn take(&mut self, event: Event, said: Said<'_>) {
        match event {
            Event::Play { name } => said(&format!("play: {}", name.escape_debug())),
            Event::Task { name } => said(&format!("task: {}", name.escape_debug())),
            Event::Failed { host, task, why } => {
                self.fail(Failure { host, task, why, unreachable: false }, said)
            }
            Event::Unreachable { host, task, why } => {
                self.fail(Failure { host, task, why, unreachable: true }, said)
            }
            Event::Host { host, ok, changed, failed } if self.hosts.len() < MOST_HOSTS => {
                self.hosts.insert(host, HostResult { ok, changed, failed });
            }
            // Not all of them are known: that must not pass for an end.
            Event::Host { .. } => {}
            Event::End => self.whole = self.hosts.len() < MOST_HOSTS,
        }
    }

    fn fail(&mut self, mut failure: Failure, said: Said<'_>) {
        if let Some(why) = self.unreached.get(&failure.host) {
            failure.why.clone_from(why);
        }
        said(&failure.to_string());
        if self.failures.len() < MOST_FAILURES {
            self.failures.push(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn events_are_heard_in_whatever_pieces_they_come() {
        let heard = Mutex::new(Vec::new());
        let said = |line: &str| heard.lock().unwrap().push(line.to_owned());
        let long = "x".repeat(LONGEST_LINE + 1);
        let text = format!(
            "[WARNING]: something\n{{\"event\":\"task\",\"name\":\"install\"}}\n{long}\n{{\"event\":\"end\"}}\n"
        );
        let mut events = Events::default();
        for piece in text.as_bytes().chunks(7) {
            events.hear(piece, &said);
        }
        assert_eq!(*heard.lock().unwrap(), ["task: install"]);
        assert!(events.whole && events.line.capacity() <= 2 * LONGEST_LINE);
    }
}
