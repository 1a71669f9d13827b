//! The `ssh` program with the SFTP subsystem of the host on its standard input and output.

use std::{
    io,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use super::{fault::Fault, login::Login};
use crate::{
    ssh::{self, Explained, Files, Mending},
    stores::ErrorKind,
};

/// How much of what `ssh` says is kept.
const TAIL: usize = 2048;

/// How long `ssh` may take to end after its connection failed.
const END: Duration = Duration::from_secs(5);

/// A running `ssh`; killed when dropped.
pub(super) struct Ssh {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    listening: JoinHandle<()>,
    _files: Files,
}

impl Ssh {
    /// Starts `ssh`.
    pub(super) fn start(login: &Login) -> Result<(Self, ChildStdin, ChildStdout), Fault> {
        let files = Files::write(login.ssh()).map_err(unprepared)?;
        let mut child = command(login.ssh(), &files).spawn().map_err(|error| Fault::Connect {
            kind: ErrorKind::Denied,
            reason: format!("the ssh program could not be started: {error}"),
            hint: Some("install OpenSSH's client (Debian: openssh-client)".into()),
        })?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(Fault::Lost("ssh has no pipes".into()));
        };
        let said = Arc::default();
        let listening = tokio::spawn(keep_tail(stderr, Arc::clone(&said)));
        Ok((Self { child, said, listening, _files: files }, stdin, stdout))
    }

    /// Waits for `ssh` to end after its connection failed, and says why it did.
    pub(super) async fn explain(mut self, failure: Fault) -> Fault {
        let ended = tokio::time::timeout(END, async {
            let status = self.child.wait().await;
            let _ = (&mut self.listening).await;
            status
        });
        let status = ended.await.ok().and_then(io::Result::ok);
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        explain(&String::from_utf8_lossy(&said), status, failure)
    }
}

fn command(login: &ssh::Login, files: &Files) -> Command {
    let mut command = Command::new("ssh");
    let inherited = ssh::INHERITED.into_iter().filter_map(|key| Some((key, std::env::var_os(key)?)));
    command.env_clear().envs(inherited).env("LC_ALL", "C");
    command.args(ssh::arguments(login, files));
    command.args(["-s", "--", login.host(), "sftp"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: an interrupt from the terminal is ours to handle.
    command.process_group(0).kill_on_drop(true);
    command
}

fn unprepared(error: io::Error) -> Fault {
    Fault::Connect {
        kind: ErrorKind::Transient,
        reason: format!("files for ssh could not be written: {error}"),
        hint: Some("make room in the folder of temporary files".into()),
    }
}

async fn keep_tail(mut stderr: impl AsyncRead + Unpin, tail: Arc<Mutex<Vec<u8>>>) {
    let mut read = [0; 512];
    while let Ok(length @ 1..) = stderr.read(&mut read).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&read[..length]);
        let beyond = tail.len().saturating_sub(TAIL);
        tail.drain(..beyond);
    }
}

fn explain(said: &str, status: Option<ExitStatus>, failure: Fault) -> Fault {
    match (ssh::explain(said), status) {
        (Some(Explained { mending, reason, hint }), _) => Fault::Connect {
            kind: match mending {
                Mending::Person => ErrorKind::Denied,
                Mending::Time => ErrorKind::Transient,
            },
            reason,
            hint: Some(hint.to_owned()),
        },
        (None, Some(status)) => Fault::Lost(format!("ssh ended: {status}")),
        (None, None) => failure,
    }
}
