//! A process that removes the machines of a drill where the controller dies that makes them.
//!
//! It is this program once more, in a session of its own, with a pipe from the controller: as long as that lives, the pipe is open. Where
//! the pipe ends and nobody said that all is done, the controller is gone, and what the [ledger](super::ledger) has of the drill is
//! removed.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
};

use super::ledger::Ledger;
use crate::spec::names::DrillName;

/// The command that is a watchdog.
pub const COMMAND: &str = "watch-stand-ins";

/// What is said through the pipe when nothing is left to be removed.
pub const DONE: &[u8] = b"done\n";

/// This very program, also where its file was replaced meanwhile (Linux, `proc(5)`).
const PROGRAM: &str = "/proc/self/exe";

/// What starts watchdogs.
#[derive(Clone, Debug)]
pub struct Kennel {
    /// The controller's configuration.
    pub config: PathBuf,
}

/// A watchdog of one drill. When it is dropped, the watchdog removes what is left.
pub struct Watchdog {
    process: Option<(ChildStdin, Child)>,
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some((pipe, mut child)) = self.process.take() {
            drop(pipe);
            // It is waited for, so that nothing of it stays as long as this process lives.
            std::thread::spawn(move || child.wait());
        }
    }
}

impl Kennel {
    /// Has the machines of `drill` watched from now on.
    ///
    /// # Errors
    /// Where no process can be started.
    pub fn watch(&self, drill: &DrillName, ledger: &Ledger) -> io::Result<Watchdog> {
        let log =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(ledger.log(drill))?;
        let mut command = Command::new(PROGRAM);
        command.arg0("backstay").arg("-v").arg("--config").arg(&self.config).arg(COMMAND).arg(drill.as_str());
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn()?;
        let pipe = child.stdin.take().ok_or_else(|| io::Error::other("it has no pipe"))?;
        Ok(Watchdog { process: Some((pipe, child)) })
    }
}

impl Watchdog {
    /// Nothing is left for it to do.
    pub async fn call_off(mut self) {
        let Some((mut pipe, mut child)) = self.process.take() else { return };
        let ended = tokio::task::spawn_blocking(move || {
            let said = pipe.write_all(DONE);
            drop(pipe);
            said.and_then(|()| child.wait())
        });
        // It finds nothing that it could remove, whatever it heard.
        match ended.await {
            Ok(Ok(status)) if status.success() => {}
            ended => tracing::warn!(?ended, "the watchdog of a drill did not end as it should"),
        }
    }
}
