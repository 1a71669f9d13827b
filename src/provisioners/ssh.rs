//! Programs on a machine, over the `ssh` program.

use std::{collections::VecDeque, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::{ProvisionError, Remote};
use crate::{
    process::{Exit, ProcessError, Program},
    ssh::{self, Explained, Files, Login, Mending},
    stores::Class,
};

/// How much of what a program prints is kept, bytes: its end.
const KEPT: usize = 16 * 1024;

/// How long one try to reach a machine may take, and how long it rests after it.
const TRY: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(2);

/// What `ssh` exits with when it failed itself, ssh(1).
const SSH_FAILED: i32 = 255;

/// Runs programs on one machine.
#[derive(Debug)]
pub struct SshRemote {
    machine: String,
    login: Login,
}

/// Why a program did not end well.
enum Failed {
    /// It never ran, or the connection to it broke.
    Unreached(Explained),
    /// It ran.
    Other(ProvisionError),
}

impl SshRemote {
    /// The machine of this name.
    pub fn new(machine: String, login: Login) -> Self {
        Self { machine, login }
    }

    async fn try_run(&self, command: &[String], within: Duration) -> Result<String, Failed> {
        let stalled = |message: String| Failed::Other(ProvisionError::stalled(message));
        let line = remote_line(command)
            .map_err(|why| stalled(format!("failed to run a program on {}: {why}", self.machine)))?;
        let files = Files::write(&self.login).map_err(|error| {
            let message =
                format!("failed to write files for ssh: {error}; make room in the folder of temporary files");
            Failed::Other(ProvisionError::retry(message))
        })?;
        let program = Program::new("ssh").arguments(ssh::arguments(&self.login, &files));
        let program =
            program.arguments(["--", self.login.host(), &line]).variable("LC_ALL", "C").timeout(within);
        let mut kept = VecDeque::new();
        let ran = async {
            let mut process = program.start()?;
            process.close_input();
            while let Some(bytes) = process.read().await? {
                kept.extend(bytes);
                let beyond = kept.len().saturating_sub(KEPT);
                kept.drain(..beyond);
            }
            process.finish().await
        };
        let ran = ran.await;
        let printed = String::from_utf8_lossy(kept.make_contiguous()).into_owned();
        match ran {
            Ok(()) => Ok(printed),
            Err(ProcessError::Failed { exit: Exit::Code(SSH_FAILED), said, .. })
                if let Some(explained) = ssh::explain(said.as_str()) =>
            {
                Err(Failed::Unreached(explained))
            }
            Err(error) => Err(Failed::Other(self.failed(command, &error, &printed))),
        }
    }

    fn failed(&self, command: &[String], error: &ProcessError, printed: &str) -> ProvisionError {
        let what = command.first().map(String::as_str).unwrap_or_default().escape_debug();
        let on = &self.machine;
        let message = match error {
            ProcessError::Missing { .. } => format!("{error} (Debian: openssh-client)"),
            ProcessError::Failed { exit, said, .. } => {
                let said = if said.as_str().trim().is_empty() {
                    last_lines(printed)
                } else {
                    last_lines(said.as_str())
                };
                format!("failed to run `{what}` on {on}: it ended with {exit}: {said}")
            }
            ProcessError::TimedOut { longest, .. } => {
                let longest = humantime::format_duration(*longest);
                format!(
                    "failed to run `{what}` on {on}: it did not end within {longest}; it may still run there"
                )
            }
            error => format!("failed to run `{what}` on {on}: {error}"),
        };
        ProvisionError::stalled(message)
    }

    fn unreached(&self, explained: Explained) -> ProvisionError {
        let Explained { mending, reason, hint } = explained;
        let class = match mending {
            Mending::Person => Class::Stalled,
            Mending::Time => Class::Retry,
        };
        ProvisionError {
            class,
            message: format!("failed to reach {} ({}): {reason}; {hint}", self.machine, self.login),
        }
    }
}

#[async_trait]
impl Remote for SshRemote {
    async fn wait(&self, within: Duration) -> Result<(), ProvisionError> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.try_run(&["true".to_owned()], TRY.min(left)).await {
                Ok(_) => return Ok(()),
                // Somebody else answers, and will.
                Err(Failed::Unreached(explained)) if explained.reason == ssh::OTHER_KEY => {
                    return Err(self.unreached(explained));
                }
                // While it boots nobody answers yet, and its users are still to be made.
                Err(Failed::Unreached(explained)) => self.unreached(explained),
                Err(Failed::Other(error)) => error,
            };
            if Instant::now() + REST >= deadline {
                let within = humantime::format_duration(within);
                return Err(ProvisionError {
                    message: format!("{} (tried for {within})", error.message),
                    ..error
                });
            }
            sleep(REST).await;
        }
    }

    async fn run(&self, command: &[String], within: Duration) -> Result<String, ProvisionError> {
        self.try_run(command, within).await.map_err(|failed| match failed {
            // A program may end with 255 as well, and a connection that breaks ends none: nothing is run twice.
            Failed::Unreached(explained) => {
                let message =
                    format!("{}; it may have run, and may still run there", self.unreached(explained));
                ProvisionError::stalled(message)
            }
            Failed::Other(error) => error,
        })
    }
}

/// The last lines of what a program said, as one that no terminal can trip over.
fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join(" / ").escape_debug().to_string()
}

/// The line that makes the login shell of a machine start exactly this program: SSH hands over a line, never arguments (RFC 4254,
/// section 6.5), and its server has the user's shell read it.
///
/// # Errors
/// What no line can hold.
fn remote_line(command: &[String]) -> Result<String, &'static str> {
    if command.first().is_none_or(String::is_empty) {
        return Err("no program is named");
    }
    if command.iter().any(|argument| argument.contains('\0')) {
        return Err("an argument holds a zero byte");
    }
    Ok(command.iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" "))
}

/// A word that a shell of POSIX reads as `argument`: single quotes keep everything but themselves.
fn quoted(argument: &str) -> String {
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_arguments_that_were_meant() {
        let arguments = [
            "printf",
            "%s\\n",
            "",
            " a  b ",
            "it's",
            "''",
            "$(id) `id` $HOME *",
            "a\nb",
            "\\",
            "-e",
            "ü;&|<>",
        ];
        let command: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let line = remote_line(&command).unwrap();
        let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        let expected: String = arguments[2..].iter().map(|argument| format!("{argument}\n")).collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        for bad in [vec![], vec![String::new()], vec!["a".to_owned(), "\0".to_owned()]] {
            assert!(remote_line(&bad).is_err(), "{bad:?}");
        }
    }
}
