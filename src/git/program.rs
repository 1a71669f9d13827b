//! The `git` program: how it is run so that nothing but what was asked for happens.
//!
//! - Arguments are a vector, never a shell's line; URLs stand behind `--` (gitcli(7)).
//! - Only the protocols `file`, `https` and `ssh`; no hooks, no prompts, no submodules.
//! - Nothing of the environment names another repository or configures this one: every `GIT_*` variable is dropped
//!   but those that say how a host is reached. The user's and the system's own configuration stay in force, since
//!   credential helpers, proxies and keys are set there.
//! - Objects are checked when they arrive (`fetch.fsckObjects`).
//! - The process has a group of its own, which is killed when its time is over or when nobody waits any more.

mod configuration;
mod user;

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
};

use self::{configuration::Configuration, user::User};
use super::url::RepoUrl;

/// The most that `git` may print before it is stopped, bytes: references of 500,000 branches.
const LONGEST_OUTPUT: u64 = 64 << 20;

/// What of standard error is kept for messages, bytes.
const STDERR_TAIL: usize = 4 << 10;

/// Settings that no configuration may override.
const SETTINGS: [&str; 10] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "credential.interactive=false",
    "fetch.fsckObjects=true",
    "fetch.recurseSubmodules=false",
    "gc.autoDetach=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    "push.recurseSubmodules=no",
    "transfer.fsckObjects=true",
];

/// Variables that say how a host is reached, not which repository is meant.
const REACH: [&str; 12] = [
    "GIT_ASKPASS",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_EXEC_PATH",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_TRACE",
];

/// Never asks, and notices a host that fell silent.
const SSH: &str =
    "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=4";

/// How to run `git`.
#[derive(Clone, Debug)]
pub struct Git {
    /// Replaces the user's configuration and includes it.
    config: Option<Configuration>,
    user: User,
}

/// A run of `git` that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("failed to start git: {0}; install git 2.30 or later and put it on the PATH")]
    Start(io::Error),
    /// Its configuration could not be written.
    #[error(
        "failed to write the configuration of git in the state directory: {0}; check space and rights there"
    )]
    Configure(io::Error),
    /// It ended badly.
    #[error("git {command} ended with {status}: {stderr}")]
    Failed {
        /// Its first argument.
        command: String,
        /// Exit code or signal.
        status: String,
        /// The end of what it said, escaped.
        stderr: String,
    },
    /// It took too long and was killed.
    #[error("git {command} was stopped after {} s", .after.as_secs())]
    TimedOut {
        /// Its first argument.
        command: String,
        /// The limit.
        after: Duration,
    },
    /// It printed more than anybody can want.
    #[error("git {0} printed more than {LONGEST_OUTPUT} bytes")]
    TooMuch(String),
    /// A pipe to it broke.
    #[error("failed to talk to git {command}: {error}")]
    Pipe {
        /// Its first argument.
        command: String,
        /// Why.
        error: io::Error,
    },
}

impl Git {
    /// `git` for work inside repositories of our own.
    pub fn plain() -> Self {
        Self { config: None, user: User::default() }
    }

    /// `git` for the repository at `url`. A local one it also reads and writes, whoever owns it, and runs none of its hooks; on
    /// a host of https it is known by the user that the URL names. The programs at the other end see no arguments of ours, and
    /// everybody here sees them, so this stands in a configuration file in `state_dir`.
    pub fn reaching(state_dir: &Path, url: &RepoUrl) -> io::Result<Self> {
        let trusted = url.local();
        let mut text = String::new();
        for file in users_config() {
            text.push_str(&format!("[include]\n\tpath = {}\n", quoted(&file)));
        }
        text.push_str("[core]\n\thooksPath = /dev/null\n");
        for folder in trusted.iter().flat_map(|path| [path.to_path_buf(), path.join(".git")]) {
            text.push_str(&format!("[safe]\n\tdirectory = {}\n", quoted(&folder)));
        }
        if let Some((host, user)) = url.credential() {
            let (host, user) = (quoted(Path::new(&host)), quoted(Path::new(&user)));
            text.push_str(&format!("[credential {host}]\n\tusername = {user}\n"));
        }
        let config = Configuration::of(state_dir, text)?;
        if let Err(error) = configuration::forget_unused(state_dir) {
            tracing::warn!(%error, "configuration files of git that are not used any more could not be removed");
        }
        Ok(Self { config: Some(config), user: User::of(url) })
    }

    /// Runs `git` with `arguments`; what it printed.
    pub async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        limit: Duration,
    ) -> Result<Vec<u8>, ProgramError> {
        self.feed(arguments, &mut tokio::io::empty(), limit).await
    }

    /// Runs `git` with `arguments` and `stdin`; what it printed.
    pub async fn feed<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        stdin: &mut (dyn AsyncRead + Send + Unpin),
        limit: Duration,
    ) -> Result<Vec<u8>, ProgramError> {
        let command = subcommand(arguments);
        self.config.as_ref().map_or(Ok(()), Configuration::use_now).map_err(ProgramError::Configure)?;
        let child = self.command(arguments).spawn().map_err(ProgramError::Start)?;
        match tokio::time::timeout(limit, converse(child, stdin, &command, &self.user)).await {
            Ok(finished) => finished,
            Err(_) => Err(ProgramError::TimedOut { command, after: limit }),
        }
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new("git");
        for (name, _) in env::vars_os().filter(|(name, _)| meddles(name)) {
            command.env_remove(name);
        }
        if let Some(config) = &self.config {
            command.env("GIT_CONFIG_GLOBAL", config.path());
        }
        if !ssh_is_configured() {
            command.env("GIT_SSH_COMMAND", SSH);
        }
        command
            .env("GIT_ALLOW_PROTOCOL", "file:https:ssh")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// Whether a variable of ours would change what `git` works on.
fn meddles(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("GIT_") && !REACH.contains(&name.as_ref())
}

/// `core.sshCommand` counts as well, for `GIT_SSH_COMMAND` would override it.
fn ssh_is_configured() -> bool {
    env::var_os("GIT_SSH_COMMAND").is_some()
        || env::var_os("GIT_SSH").is_some()
        || git2::Config::open_default().is_ok_and(|config| config.get_entry("core.sshcommand").is_ok())
}

/// The files that `git` reads as the user's own, in its order (git-config(1), FILES).
fn users_config() -> Vec<PathBuf> {
    if let Some(chosen) = env::var_os("GIT_CONFIG_GLOBAL") {
        return vec![chosen.into()];
    }
    let home = env::var_os("HOME").map(PathBuf::from);
    let xdg = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let xdg = xdg.or_else(|| home.as_ref().map(|home| home.join(".config")));
    [xdg.map(|dir| dir.join("git/config")), home.map(|home| home.join(".gitconfig"))]
        .into_iter()
        .flatten()
        .collect()
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\""))
}

/// The word that says what `git` does: the first that is no option.
fn subcommand<A: AsRef<OsStr>>(arguments: &[A]) -> String {
    let mut words = arguments.iter().map(|word| word.as_ref().to_string_lossy());
    words.find(|word| !word.starts_with('-')).unwrap_or_default().into_owned()
}

async fn converse(
    mut child: Child,
    stdin: &mut (dyn AsyncRead + Send + Unpin),
    command: &str,
    user: &User,
) -> Result<Vec<u8>, ProgramError> {
    let pipe = |error| ProgramError::Pipe { command: command.to_owned(), error };
    let mut to = child.stdin.take();
    let from = child.stdout.take().expect("stdout is piped");
    let errors = child.stderr.take().expect("stderr is piped");
    // Declared last, so dropped first: while its leader is not reaped, the group's number is taken by nobody else.
    let mut group = Group::of(&child);
    let feeding = async {
        let copied = tokio::io::copy(stdin, to.as_mut().expect("stdin is piped")).await;
        match copied {
            // It stopped reading: its exit status and its last words say why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => {
                to = None;
                Ok(())
            }
        }
    };
    let mut printed = Vec::new();
    let mut output = from.take(LONGEST_OUTPUT + 1);
    // Input that fails ends the run with its pipe still open, so that git never takes a part of it for the whole.
    let (_, _, stderr) =
        tokio::try_join!(feeding, output.read_to_end(&mut printed), async { Ok(tail(errors, user).await) })
            .map_err(pipe)?;
    if printed.len() as u64 > LONGEST_OUTPUT {
        return Err(ProgramError::TooMuch(command.to_owned()));
    }
    let status = child.wait().await.map_err(pipe)?;
    group.ended();
    if status.success() {
        return Ok(printed);
    }
    let status = match status.code() {
        Some(code) => format!("exit status {code}"),
        None => format!("signal {}", status.signal().unwrap_or_default()),
    };
    Err(ProgramError::Failed { command: command.to_owned(), status, stderr })
}

/// The end of what a program says, in one line that is safe to print.
async fn tail(mut errors: impl AsyncRead + Unpin, user: &User) -> String {
    let (mut kept, mut chunk, mut is_cut) = (Vec::new(), [0; 4096], false);
    while let Ok(read @ 1..) = errors.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        let surplus = kept.len().saturating_sub(STDERR_TAIL);
        kept.drain(..surplus);
        is_cut |= surplus > 0;
    }
    let text = user.unsaid(&String::from_utf8_lossy(&kept), is_cut);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.escape_debug().to_string().replace("\\'", "'")).collect::<Vec<_>>().join("; ")
}

/// Kills a process group when dropped, unless it has ended.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id as i32)))
    }

    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Whether any process was started with this argument.
    fn runs(argument: &str) -> bool {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.any(|line| line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()))
    }

    #[tokio::test]
    async fn a_run_that_takes_too_long_is_killed_with_all_that_it_started() {
        let hang = "alias.hang=!sleep 30011 & sleep 30012";
        let stopped = Git::plain().run(&["-c", hang, "hang"], Duration::from_millis(300)).await;
        assert!(matches!(stopped, Err(ProgramError::TimedOut { .. })), "{stopped:?}");
        let deadline = Instant::now() + Duration::from_secs(20);
        while runs("30011") || runs("30012") {
            assert!(Instant::now() < deadline, "they still run");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn input_that_fails_is_never_taken_for_the_whole() {
        struct Broken;
        impl AsyncRead for Broken {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                _: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                std::task::Poll::Ready(Err(io::Error::other("the copy is damaged")))
            }
        }
        let arguments = ["hash-object", "--stdin"];
        let fed = Git::plain().feed(&arguments, &mut Broken, Duration::from_secs(60)).await;
        assert!(fed.unwrap_err().to_string().contains("the copy is damaged"));
    }

    #[tokio::test]
    async fn what_git_says_is_shown_escaped_and_in_one_line() {
        let arguments = ["rev-parse", "--verify", "no\u{1b}[31m\nsuch"];
        let error = Git::plain().run(&arguments, Duration::from_secs(60)).await.unwrap_err().to_string();
        assert!(error.starts_with("git rev-parse ended with exit status 128: "), "{error}");
        assert!(!error.chars().any(char::is_control), "{error}");
    }

    #[tokio::test]
    async fn the_user_of_a_url_is_known_to_git_by_its_configuration() {
        let state = tempfile::tempdir().unwrap();
        let url = RepoUrl::parse("https://ghp_%22token@example.org/x").unwrap();
        let git = Git::reaching(state.path(), &url).unwrap();
        let helper = "credential.helper=!echo password=p; echo quit=0 #";
        let asked = b"protocol=https\nhost=example.org\n\n";
        let arguments = ["-c", "credential.helper=", "-c", helper, "credential", "fill"];
        let told = git.feed(&arguments, &mut asked.as_slice(), Duration::from_secs(60)).await.unwrap();
        let told = String::from_utf8(told).unwrap();
        assert!(told.contains("username=ghp_\"token\n") && told.contains("password=p"), "{told}");
    }

    #[tokio::test]
    async fn the_user_of_a_url_is_in_no_message() {
        let state = tempfile::tempdir().unwrap();
        let url = RepoUrl::parse("https://ghp_%22to%6Ben@example.org/x").unwrap();
        let git = Git::reaching(state.path(), &url).unwrap();
        assert!(!format!("{git:?}").contains("ghp_"), "{git:?}");
        let asked = b"protocol=https\nhost=example.org\n\n";
        let arguments = ["-c", "credential.helper=", "-c", "core.askPass=", "credential", "fill"];
        let failed = git.feed(&arguments, &mut asked.as_slice(), Duration::from_secs(60)).await;
        let said = failed.unwrap_err().to_string();
        assert!(said.contains("example.org") && !said.contains("ghp_") && !said.contains("token"), "{said}");
        // Also in other words than git's own.
        let echo = "alias.e=!echo 'ghp_%22to%6Ben ghp_%22token ghp_\"token' >&2; false";
        let failed = git.run(&["-c", echo, "e"], Duration::from_secs(60)).await;
        let said = failed.unwrap_err().to_string();
        assert!(said.contains("*** *** ***"), "{said}");
    }

    #[test]
    fn variables_that_name_another_repository_or_configure_this_one_are_dropped() {
        for name in
            ["GIT_DIR", "GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS", "GIT_ALTERNATE_OBJECT_DIRECTORIES"]
        {
            assert!(meddles(OsStr::new(name)), "{name}");
        }
        for name in ["GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "HOME", "https_proxy", "SSH_AUTH_SOCK"] {
            assert!(!meddles(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_name_of_a_run_is_its_first_word_that_is_no_option() {
        assert_eq!(subcommand(&["--git-dir=/srv/x", "fetch", "--quiet"]), "fetch");
    }
}
