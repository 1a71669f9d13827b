//! Servers of sandboxes: as a user without rights, and never outliving this process.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    SandboxError,
    home::{HINT, Home},
};
use crate::{
    process::{self, Process, ProcessError, Program},
    sources::Source,
};

/// Folders of servers' programs that no user's `PATH` may name.
const FURTHER: &str = "/usr/sbin:/usr/local/sbin";

/// How long a program may take that only looks.
const SHORT: Duration = Duration::from_secs(60);

/// How long a program may take that sets something up.
const SET_UP: Duration = Duration::from_secs(600);

/// Between two looks whether a server answers.
const PACE: Duration = Duration::from_millis(200);

/// The user that the servers of a sandbox run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This process's own, which has no rights.
    Ourselves,
    /// Another one, since this process is root.
    Other { user: u32, group: u32 },
}

impl Owner {
    /// The first of `names` that this host has, where this process is root.
    pub(super) fn of(names: &[&str]) -> Result<Self, SandboxError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Owner::Ourselves);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = names.iter().find_map(|name| user_in(&users, name));
        found.map(|(user, group)| Owner::Other { user, group }).ok_or_else(|| {
            SandboxError::cannot(format!(
                "no user of this host may run a sandbox's server: there is none of {}",
                names.join(", ")
            ))
        })
    }

    /// Takes over the folder, and makes sure that the owner reaches it.
    pub(super) async fn take(self, home: &Home) -> Result<(), SandboxError> {
        let Owner::Other { user, group } = self else { return Ok(()) };
        let failed = |error| SandboxError::cannot(format!("{}: {error}", home.path().display()));
        home.give(user, group).map_err(failed)?;
        let look =
            self.program(Path::new("/usr/bin/test"), Signal::Kill)?.arguments(["-w".into(), home.join(".")]);
        look.timeout(SHORT).output(b"", 4096).await.map(drop).map_err(|_| {
            SandboxError::cannot(format!(
                "the user {user}, that the sandbox's server runs as, can't reach {}; {HINT}",
                home.path().display()
            ))
        })
    }

    /// The program at `path` as this user, which gets `signal` when this process ends.
    pub(super) fn program(self, path: &Path, signal: Signal) -> Result<Program, SandboxError> {
        let runner = find(&["setpriv"])?;
        let program = Program::new(runner).arguments(["--no-new-privs", "--pdeathsig", signal.name()]);
        let program = match self {
            Owner::Ourselves => program,
            Owner::Other { user, group } => program
                .arguments([format!("--reuid={user}"), format!("--regid={group}")])
                .argument("--clear-groups"),
        };
        Ok(program
            .argument("--")
            .argument(path)
            .variable("LC_ALL", "C.UTF-8")
            .variable("HOME", "/nonexistent"))
    }
}

/// What a server gets when this process ends, however that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// It has started nothing that would stay.
    Kill,
    /// It ends what it has started, at once.
    Quit,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Kill => "KILL",
            Signal::Quit => "QUIT",
        }
    }
}

/// The number of a user and of its group, in the text of `/etc/passwd`.
fn user_in(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let (user, group): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (user != 0).then_some((user, group))
}

/// A program of this host.
pub(super) fn find(names: &[&str]) -> Result<PathBuf, SandboxError> {
    let mut search = process::search_path();
    search.push(":");
    search.push(FURTHER);
    process::find(names, &search).map_err(SandboxError::cannot)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_rights_is_found_and_root_is_none() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\nmysql:x:104:111::/nonexistent:/bin/false\ntoor:x:0:0::/:\n";
        assert_eq!(user_in(users, "mysql"), Some((104, 111)));
        assert_eq!(user_in(users, "root"), None);
        assert_eq!(user_in(users, "toor"), None);
        assert_eq!(user_in(users, "mys"), None);
    }
}
