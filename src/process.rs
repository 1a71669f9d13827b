//! External programs: no shell, a clean environment, a process group that never outlives its owner.
//!
//! ```text
//! Program::new(path).arguments(…).redact(…).stall(…).start()  ->  Process
//! Process: read (standard output, as it comes) · write (standard input) · finish (proof of success) · stop
//! Outliving: the same for a program that goes on to its end where this process is killed
//! ```
//!
//! Secrets never go into an argument vector: they are handed over in a [`PrivateFile`] or on standard input, and
//! named to [`Program::redact`], so that what a program prints about them never reaches an error.

mod error;
mod group;
mod outliving;
mod private_file;
mod ran;
mod tail;

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    future::Future,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::Instant,
};

use crate::secrets::Secret;

pub use error::{Exit, ProcessError, Said};
use group::{Ending, Group};
pub use group::{saved, saving};
pub use outliving::{Files, Outliving};
pub use private_file::PrivateFile;
pub use ran::{Keep, Ran};
use tail::Tail;

/// Variables that every program inherits where they are set; everything else must be added by name.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// How long a program may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// How much of standard output is handed on at once, bytes.
const CHUNK: usize = 128 * 1024;

/// Looks for the first of `names` that is an executable file in the folders of `search`, a value like that of `PATH`.
///
/// # Errors
/// [`ProcessError::Missing`] when none of them is.
pub fn find(names: &[&str], search: &OsStr) -> Result<PathBuf, ProcessError> {
    let executable =
        |path: &Path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    let folders: Vec<PathBuf> = env::split_paths(search).filter(|folder| folder.is_absolute()).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| executable(path))
        .ok_or_else(|| ProcessError::Missing { program: names.join(" or ") })
}

/// The folders in which this process itself looks for programs.
pub fn search_path() -> OsString {
    env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

/// What becomes of a program's standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Streamed,
    Discarded,
}

/// A program to be started.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    /// What it is called, where another program starts it.
    called: Option<String>,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    folder: Option<PathBuf>,
    secrets: Vec<Secret>,
    output: Output,
    stall: Option<Duration>,
    timeout: Option<Duration>,
    grace: Duration,
    ending: Ending,
}

impl Program {
    /// The executable file at `path`, or the program of that name in this process's own `PATH`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let inherited = INHERITED.iter().filter_map(|name| Some(((*name).into(), env::var_os(name)?)));
        Self {
            path: path.into(),
            called: None,
            arguments: Vec::new(),
            environment: inherited.collect(),
            folder: None,
            secrets: Vec::new(),
            output: Output::Streamed,
            stall: None,
            timeout: None,
            grace: GRACE,
            ending: Ending::Terminated,
        }
    }

    /// Sets what it is called in errors: where the path is that of another program, which starts it.
    pub fn called(mut self, name: impl Into<String>) -> Self {
        self.called = Some(name.into());
        self
    }

    /// Adds one argument. Never a secret: every user of the host can read arguments.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the program's environment.
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Hands on a variable of this process's own environment, where it is set.
    pub fn inherit(self, name: &str) -> Self {
        match env::var_os(name) {
            Some(value) => self.variable(name, value),
            None => self,
        }
    }

    /// Sets the folder that the program is started in.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Names a secret that the program knows, so that it is struck out of what the program prints.
    pub fn redact(mut self, secret: &Secret) -> Self {
        self.secrets.push(secret.clone());
        self
    }

    /// Throws standard output away instead of streaming it.
    pub fn discard_output(mut self) -> Self {
        self.output = Output::Discarded;
        self
    }

    /// Sets the longest silence: no byte read, written, or no end, while this process waits for one.
    pub fn stall(mut self, longest: Duration) -> Self {
        self.stall = Some(longest);
        self
    }

    /// Sets the longest time that the program may run.
    pub fn timeout(mut self, longest: Duration) -> Self {
        self.timeout = Some(longest);
        self
    }

    /// Sets how long the program may take to end after it was asked to; it is killed then.
    pub fn grace(mut self, longest: Duration) -> Self {
        self.grace = longest;
        self
    }

    /// Has the program end at once when this process does, also where that is killed and can't end it: for programs that have no
    /// end of their own. Of what the program itself started nothing is said.
    ///
    /// # Errors
    /// [`ProcessError::Missing`] where the host has no `setpriv` (util-linux), by which that is done (prctl(2),
    /// `PR_SET_PDEATHSIG`).
    pub fn dies_with_us(mut self) -> Result<Self, ProcessError> {
        let watcher = find(&["setpriv"], &search_path())?;
        self.called = Some(self.name());
        let path = std::mem::replace(&mut self.path, watcher);
        let before = ["--pdeathsig", "KILL", "--"].map(OsString::from).into_iter().chain([path.into()]);
        self.arguments.splice(0..0, before);
        Ok(self)
    }

    /// Has the program asked to end by SIGINT, as from a keyboard: for programs whose helpers must live until they have ended.
    pub fn interrupted(mut self) -> Self {
        self.ending = Ending::Interrupted;
        self
    }

    /// Starts the program as the leader of a process group of its own.
    ///
    /// # Errors
    /// [`ProcessError::Missing`] when there is no such program, [`ProcessError::Start`] when it can't be started.
    pub fn start(self) -> Result<Process, ProcessError> {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        command.stdout(match self.output {
            Output::Streamed => Stdio::piped(),
            Output::Discarded => Stdio::null(),
        });
        let mut child = self.spawned(command)?;
        let tail = Tail::follow(child.stderr.take(), self.secrets.clone());
        Ok(self.followed(child, tail))
    }

    fn spawned(&self, mut command: Command) -> Result<Child, ProcessError> {
        command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ProcessError::Missing { program: self.name() },
            _ => ProcessError::Start { program: self.name(), error: error.into() },
        })
    }

    fn followed(self, mut child: Child, tail: Tail) -> Process {
        Process {
            name: self.name(),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            tail,
            deadline: self.timeout.map(|longest| (Instant::now() + longest, longest)),
            stall: self.stall,
            group: Group::new(child, self.grace, self.ending),
            buffer: BytesMut::new(),
        }
    }

    /// Runs the program to its successful end and returns what it printed.
    ///
    /// # Errors
    /// As [`Process::finish`]; [`ProcessError::TooMuch`] when it prints over `limit` bytes.
    pub async fn output(self, input: &[u8], limit: usize) -> Result<Vec<u8>, ProcessError> {
        let mut process = self.start()?;
        process.write(input).await?;
        process.close_input();
        let mut output = Vec::new();
        while let Some(bytes) = process.read().await? {
            if output.len() + bytes.len() > limit {
                let program = process.name.clone();
                process.stop().await;
                return Err(ProcessError::TooMuch { program, limit });
            }
            output.extend_from_slice(&bytes);
        }
        process.finish().await?;
        Ok(output)
    }

    fn name(&self) -> String {
        if let Some(called) = &self.called {
            return called.clone();
        }
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear().envs(&self.environment).process_group(0);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }
}

/// A running program. Dropped, it is asked to end, with all that it started, and killed after a grace.
#[derive(Debug)]
pub struct Process {
    name: String,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    tail: Tail,
    group: Group,
    stall: Option<Duration>,
    deadline: Option<(Instant, Duration)>,
    buffer: BytesMut,
}

/// The standard input of a program, whose end is its drop.
#[derive(Debug)]
pub struct Input(ChildStdin);

impl Input {
    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// Where the program reads no more: whether it has all that it wants, its own end tells.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }
}

/// Which limit a call ran into.
enum Exceeded {
    Stall(Duration),
    Timeout(Duration),
}

impl Process {
    /// The process id of the leader, which is the id of the group as well; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.group.id()
    }

    /// Lets the longest silence be another one from here on.
    pub fn wait_up_to(&mut self, longest: Duration) {
        self.stall = Some(longest);
    }

    /// The next bytes of standard output as they come; `None` at its end, which proves nothing: see
    /// [`Process::finish`].
    ///
    /// # Errors
    /// [`ProcessError::Stalled`] and [`ProcessError::TimedOut`], with the whole group ended.
    pub async fn read(&mut self) -> Result<Option<Bytes>, ProcessError> {
        let Some(stdout) = &mut self.stdout else { return Ok(None) };
        self.buffer.reserve(CHUNK);
        match limited(self.stall, self.deadline, stdout.read_buf(&mut self.buffer)).await {
            Ok(Ok(0)) => {
                self.stdout = None;
                Ok(None)
            }
            Ok(Ok(_)) => Ok(Some(self.buffer.split().freeze())),
            Ok(Err(error)) => Err(self.broken("read from", error).await),
            Err(exceeded) => Err(self.exceeded(exceeded).await),
        }
    }

    /// Writes all of `bytes` to standard input.
    ///
    /// # Errors
    /// The program's own failure when it ended before it read its input; limits as in [`Process::read`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ProcessError> {
        let Some(stdin) = &mut self.stdin else {
            return Err(self.broken("write to", io::ErrorKind::BrokenPipe.into()).await);
        };
        match limited(self.stall, self.deadline, stdin.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken("write to", error).await),
            Err(exceeded) => Err(self.exceeded(exceeded).await),
        }
    }

    /// Takes standard input out, so that it can be written while the output is read.
    pub fn take_input(&mut self) -> Option<Input> {
        self.stdin.take().map(Input)
    }

    /// Ends standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Waits until the program has ended and proves that it ended well. What it started and left behind is killed.
    ///
    /// # Errors
    /// [`ProcessError::Failed`] for any end but exit status 0.
    pub async fn finish(mut self) -> Result<(), ProcessError> {
        self.end().await
    }

    /// As [`Process::finish`], for an owner who can't give the process away.
    ///
    /// # Errors
    /// As [`Process::finish`].
    pub async fn end(&mut self) -> Result<(), ProcessError> {
        self.close_input();
        match limited(self.stall, self.deadline, self.group.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.failed(status.into()).await),
            Ok(Err(error)) => Err(self.broken("wait for", error).await),
            Err(exceeded) => Err(self.exceeded(exceeded).await),
        }
    }

    /// As [`Process::finish`]; returns the end of what the program said on standard error, for programs whose exit status
    /// proves less than their last words.
    ///
    /// # Errors
    /// As [`Process::finish`].
    pub async fn last_words(mut self) -> Result<Said, ProcessError> {
        self.end().await?;
        Ok(self.tail.said().await)
    }

    /// Asks the group to end, kills it after the grace, and returns when it is gone.
    pub async fn stop(mut self) {
        self.group.stop().await;
    }

    /// As [`Process::stop`]; returns when nothing is left either of what it started in sessions of their own, or after `longest`.
    /// Whatever lives still holds standard error open.
    pub async fn stop_all(mut self, longest: Duration) {
        self.group.stop().await;
        self.tail.closed(longest).await;
    }

    /// Ends the group for a silence that its owner found out of its work, and tells what it said.
    pub async fn stalled(mut self, silence: Duration) -> ProcessError {
        self.exceeded(Exceeded::Stall(silence)).await
    }

    async fn failed(&mut self, exit: Exit) -> ProcessError {
        ProcessError::Failed { program: self.name.clone(), exit, said: self.tail.said().await }
    }

    async fn exceeded(&mut self, exceeded: Exceeded) -> ProcessError {
        self.group.stop().await;
        let (program, said) = (self.name.clone(), self.tail.said().await);
        match exceeded {
            Exceeded::Stall(silence) => ProcessError::Stalled { program, silence, said },
            Exceeded::Timeout(longest) => ProcessError::TimedOut { program, longest, said },
        }
    }

    /// The reason behind a broken pipe is the program's own end, where it ended badly.
    async fn broken(&mut self, doing: &'static str, error: io::Error) -> ProcessError {
        self.close_input();
        match limited(self.stall, self.deadline, self.group.wait()).await {
            Ok(Ok(status)) if !status.success() => self.failed(status.into()).await,
            Ok(_) => ProcessError::Pipe { program: self.name.clone(), doing, error: error.into() },
            Err(exceeded) => self.exceeded(exceeded).await,
        }
    }
}

async fn limited<T>(
    stall: Option<Duration>,
    deadline: Option<(Instant, Duration)>,
    work: impl Future<Output = T>,
) -> Result<T, Exceeded> {
    let stalled = async {
        match stall {
            Some(longest) => {
                tokio::time::sleep(longest).await;
                Exceeded::Stall(longest)
            }
            None => std::future::pending().await,
        }
    };
    let late = async {
        match deadline {
            Some((at, longest)) => {
                tokio::time::sleep_until(at).await;
                Exceeded::Timeout(longest)
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        done = work => Ok(done),
        exceeded = late => Err(exceeded),
        exceeded = stalled => Err(exceeded),
    }
}

#[cfg(test)]
mod tests;
