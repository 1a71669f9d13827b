//! Servers of sandboxes: how they are found, set up and waited for.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use super::SandboxError;
use crate::{
    process::{self, Process, ProcessError, Program},
    sources::Source,
};

/// Folders of servers' programs that no user's `PATH` may name.
const FURTHER: &str = "/usr/sbin:/usr/local/sbin";

/// How long a program may take that sets something up.
const SET_UP: Duration = Duration::from_secs(600);

/// Between two looks whether a server answers.
const PACE: Duration = Duration::from_millis(200);

/// A program of this host.
pub(super) fn find(names: &[&str]) -> Result<PathBuf, SandboxError> {
    process::find(names, &search_path()).map_err(SandboxError::cannot)
}

/// A program of this host, of whose file `is_right` says that it is the one.
pub(super) fn find_that(names: &[&str], is_right: impl Fn(&Path) -> bool) -> Result<PathBuf, SandboxError> {
    let search = search_path();
    let folders = std::env::split_paths(&search);
    let mut found = folders.filter_map(|folder| process::find(names, folder.as_os_str()).ok());
    let missing = || SandboxError::cannot(ProcessError::Missing { program: names.join(" or ") });
    found.find(|path| path.canonicalize().is_ok_and(|real| is_right(&real))).ok_or_else(missing)
}

fn search_path() -> OsString {
    let mut search = process::search_path();
    search.push(":");
    search.push(FURTHER);
    search
}

/// `--name=value`.
pub(super) fn setting(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut argument = OsString::from(name);
    argument.push("=");
    argument.push(value);
    argument
}

/// Runs a program that sets something up.
pub(super) async fn run(program: Program) -> Result<(), SandboxError> {
    let ran = program.timeout(SET_UP).output(b"", 1 << 20).await;
    ran.map(drop).map_err(SandboxError::cannot)
}

/// Ends a server, with all that it started: its folder is removed next.
pub(super) async fn end(server: Option<Process>) {
    if let Some(server) = server {
        server.stop_all(SET_UP).await;
    }
}

/// What came of waiting for a server.
pub(super) enum Answer {
    /// The number of the first of those who asked that it answers.
    Given(usize),
    /// It has ended, or took too long.
    Refused(String),
}

/// Waits until `server` answers one of `asking`, for `longest` at most.
pub(super) async fn answers(server: &mut Process, asking: &[Box<dyn Source>], longest: Duration) -> Answer {
    let deadline = Instant::now() + longest;
    let asked = async {
        loop {
            let mut why = String::new();
            for (number, source) in asking.iter().enumerate() {
                match source.probe().await {
                    Ok(_) => return Answer::Given(number),
                    Err(error) => why = error.reason,
                }
            }
            if Instant::now() > deadline {
                return Answer::Refused(format!("the sandbox's server did not answer in time: {why}"));
            }
            tokio::time::sleep(PACE).await;
        }
    };
    tokio::select! {
        biased;
        ended = server.end() => Answer::Refused(match ended {
            Ok(()) => "the sandbox's server ended by itself".to_owned(),
            Err(ProcessError::Failed { program, said, .. }) => format!("{program} ended: {said}"),
            Err(error) => error.to_string(),
        }),
        answer = asked => answer,
    }
}
