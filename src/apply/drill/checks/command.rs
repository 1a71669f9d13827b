//! Whether a program of this host finds what was restored in order. Which programs a commit may name, the host has said before.

use std::path::PathBuf;

use super::{found, unmade};
use crate::{
    artifact::drill::Finding,
    process::{self, Exit, Keep, ProcessError, Ran},
    sandboxes::Sandbox,
    spec::{CommandCheck, DrillCheck},
};

/// How much of the end of what a program prints is kept, bytes.
const KEPT: usize = 4096;

/// The last lines of it that a finding shows.
const SHOWN: usize = 5;

/// Runs a program on what was restored, as the sandbox lets whoever looks at it.
pub(super) async fn run(check: &DrillCheck, command: &CommandCheck, sandbox: &mut dyn Sandbox) -> Finding {
    let expected = || "exit status 0".to_owned();
    let path = match located(&command.program) {
        Ok(path) => path,
        Err(error) => return unmade(check, expected(), error.to_string()),
    };
    let program = match sandbox.visitor(&path).await {
        Ok(program) => program.arguments(&command.arguments).timeout(command.within),
        Err(error) => return unmade(check, expected(), error.to_string()),
    };
    match program.ran(Keep::End(KEPT)).await {
        Ok(ran) => found(check, expected(), told(&ran), ran.exit == Exit::Code(0)),
        // It ran, and came to no good end.
        Err(error @ ProcessError::TimedOut { .. }) => found(check, expected(), error.to_string(), false),
        Err(error) => unmade(check, expected(), error.to_string()),
    }
}

/// The program of that name, or at that path.
fn located(program: &str) -> Result<PathBuf, ProcessError> {
    let search = process::search_path();
    match program.rsplit_once('/') {
        None => process::find(&[program], &search),
        Some((folder, name)) if folder.starts_with('/') || folder.is_empty() => {
            let folder = if folder.is_empty() { "/" } else { folder };
            process::find(&[name], folder.as_ref())
        }
        Some(_) => Err(ProcessError::Missing { program: program.to_owned() }),
    }
}

/// `exit status 1: 3 accounts are out of balance`
fn told(ran: &Ran) -> String {
    let lines: Vec<&str> = ran.printed.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(SHOWN)..].join("; ");
    let printed = [last.as_str(), ran.said.as_str()].into_iter().filter(|text| !text.is_empty());
    let told: Vec<&str> = printed.collect();
    match told.is_empty() {
        true => ran.exit.to_string(),
        false => format!("{}: {}", ran.exit, told.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_name_or_at_its_whole_path_and_nowhere_else() {
        assert!(located("sh").unwrap().is_absolute());
        assert_eq!(located("/bin/sh").unwrap(), PathBuf::from("/bin/sh"));
        for missing in ["no-such-program", "/bin/no-such-program", "bin/sh", "./sh", "/etc/passwd"] {
            assert!(located(missing).is_err(), "{missing}");
        }
    }
}
