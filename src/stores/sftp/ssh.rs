//! The `ssh` program: started with everything that matters said to it, and nothing read from anybody's configuration.

use std::{
    fs::{OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use super::{Identity, fault::Fault, login::Login};
use crate::stores::ErrorKind;

/// The name under which the pinned key is known to `ssh`, whatever the host is called.
const KEY_ALIAS: &str = "backstay";

/// How much of what `ssh` says is kept.
const TAIL: usize = 2048;

/// How long `ssh` may take to end after its connection failed.
const END: Duration = Duration::from_secs(5);

/// A running `ssh`; killed when dropped.
pub(super) struct Ssh {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    listening: JoinHandle<()>,
    /// Holds the pinned key, and the identity where it is not a file of its own.
    _files: TempDir,
}

impl Ssh {
    /// Starts `ssh` with the SFTP subsystem of the host on its standard input and output.
    pub(super) fn start(login: &Login) -> Result<(Self, ChildStdin, ChildStdout), Fault> {
        let files = tempfile::Builder::new()
            .prefix("backstay-ssh-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(unprepared)?;
        let known = write_private(&files, "known_hosts", &format!("{KEY_ALIAS} {}\n", login.host_key()))?;
        let identity = match login.identity() {
            Identity::File(path) => path.clone(),
            // `ssh` takes a key only with the end of its last line.
            Identity::Key(key) => write_private(&files, "identity", &format!("{}\n", key.trim_end()))?,
        };
        let mut child = command(login, &known, &identity).spawn().map_err(|error| Fault::Connect {
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

fn command(login: &Login, known_hosts: &Path, identity: &Path) -> Command {
    let mut command = Command::new("ssh");
    let inherited =
        ["PATH", "HOME", "TMPDIR"].into_iter().filter_map(|key| Some((key, std::env::var_os(key)?)));
    command.env_clear().envs(inherited).env("LC_ALL", "C");
    command.args(["-F", "none", "-T", "-a", "-x", "-p", &login.port().to_string(), "-l", login.user()]);
    command.arg("-i").arg(escaped(identity));
    command.arg("-o").arg(format!("UserKnownHostsFile=\"{}\"", escaped(known_hosts)));
    command.arg("-o").arg(format!("HostKeyAlias={KEY_ALIAS}"));
    for option in [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        "CheckHostIP=no",
        "UpdateHostKeys=no",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        "PasswordAuthentication=no",
        "KbdInteractiveAuthentication=no",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "ControlMaster=no",
        "ControlPath=none",
        "ConnectTimeout=20",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=3",
        // Fastest where processors have AES; the others stay on offer.
        "Ciphers=^aes128-gcm@openssh.com",
    ] {
        command.args(["-o", option]);
    }
    command.args(["-s", "--", login.host(), "sftp"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: an interrupt from the terminal is ours to handle.
    command.process_group(0).kill_on_drop(true);
    command
}

/// A path in which `ssh` expands nothing.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

fn write_private(folder: &TempDir, name: &str, content: &str) -> Result<PathBuf, Fault> {
    let path = folder.path().join(name);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(unprepared)?;
    file.write_all(content.as_bytes()).map_err(unprepared)?;
    Ok(path)
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

/// What `ssh` meant by what it said before it ended.
fn explain(said: &str, status: Option<ExitStatus>, failure: Fault) -> Fault {
    let says = |words: &[&str]| words.iter().any(|words| said.contains(words));
    let connect = |kind, hint: &str| Fault::Connect {
        kind,
        reason: quoted(said),
        hint: (!hint.is_empty()).then(|| hint.to_owned()),
    };
    if says(&["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED", "host key is known"])
    {
        return Fault::Connect {
            kind: ErrorKind::Denied,
            reason: "the host's key is not the pinned one".into(),
            hint: Some(
                "ask whoever runs the host for /etc/ssh/ssh_host_ed25519_key.pub; if the host was set up anew, commit \
                 that as the store's host_key, otherwise somebody else answers for it"
                    .into(),
            ),
        };
    }
    if says(&["no matching host key type"]) {
        return connect(ErrorKind::Denied, "pin a host_key of a kind that the host offers");
    }
    if says(&["UNPROTECTED PRIVATE KEY", "bad permissions"]) {
        return connect(ErrorKind::Denied, "chmod 600 the identity, and let its owner run Backstay");
    }
    if says(&["Load key", "invalid format", "not accessible", "incorrect passphrase"]) {
        return connect(ErrorKind::Denied, "the identity must be a private key without a passphrase");
    }
    if says(&["Permission denied"]) {
        return connect(ErrorKind::Denied, "add the identity's public key to the user's authorized_keys");
    }
    if says(&["subsystem request failed"]) {
        return connect(ErrorKind::Denied, "enable `Subsystem sftp internal-sftp` in the host's sshd_config");
    }
    if !said.trim().is_empty() {
        return connect(ErrorKind::Transient, "check the host, its port and the network");
    }
    match status {
        Some(status) => Fault::Lost(format!("ssh ended: {status}")),
        None => failure,
    }
}

/// The last lines that `ssh` said, as one that no terminal can trip over.
fn quoted(said: &str) -> String {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("@@"));
    let last: Vec<&str> = lines.collect();
    let from = last.len().saturating_sub(4);
    format!("ssh says: {}", last[from..].join(" / ").escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(said: &str) -> (ErrorKind, bool) {
        match explain(said, None, Fault::Lost("closed".into())) {
            Fault::Connect { kind, hint, .. } => (kind, hint.is_some()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_a_person_must_mend_is_denied_with_a_hint_and_the_network_is_tried_again() {
        for said in [
            "Host key verification failed.\r\n",
            "No ED25519 host key is known for backstay and you have requested strict checking.",
            "backstay@h: Permission denied (publickey).",
            "@@@\n@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\nThis private key will be ignored.",
            "Load key \"/k\": invalid format",
            "subsystem request failed on channel 0",
        ] {
            assert_eq!(kind_of(said), (ErrorKind::Denied, true), "{said}");
        }
        for said in [
            "ssh: connect to host h port 22: Connection refused",
            "ssh: Could not resolve hostname h: Name or service not known",
            "Connection closed by 10.0.0.1 port 22",
        ] {
            assert_eq!(kind_of(said), (ErrorKind::Transient, true), "{said}");
        }
        assert!(matches!(explain("", None, Fault::Failure), Fault::Failure));
    }

    #[test]
    fn nothing_that_ssh_says_reaches_a_terminal_as_it_is() {
        assert_eq!(quoted("a\x1b[31m\r\n\nb\n"), "ssh says: a\\u{1b}[31m / b");
    }
}
