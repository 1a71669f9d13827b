//! Rendering in a process of its own: Backstay starts itself, which lowers its own limits before it looks at a template.
//!
//! ```text
//! rendered(request) ── JSON on standard input ──▶ serve: limits, then the engine ── JSON on standard output ──▶
//! ```
//!
//! Nothing less holds: a template that repeats itself and writes nothing can't be stopped from within, and what it makes in memory
//! is never seen before it is there.

use std::{
    collections::BTreeMap,
    fmt,
    io::{Read, Write},
    path::PathBuf,
    sync::OnceLock,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{
    TemplateError,
    engine::{self, Fault, MOST_TEXT},
};
use crate::process::{Exit, ProcessError, Program};

/// The command of Backstay that calls [`serve`].
pub const COMMAND: &str = "render-template";

/// The longest that a processor may be held, seconds.
const PROCESSOR: u64 = 10;
/// The longest that it may take in all, on a host that has other work.
const LONGEST: Duration = Duration::from_secs(60);
/// The most memory beside the program itself, bytes.
const MEMORY: u64 = 256 << 20;
/// The deepest stack, bytes.
const STACK: u64 = 8 << 20;
/// The longest request, bytes: all templates of a revision, and all that a runbook tells.
const MOST_ASKED: u64 = 128 << 20;
/// The longest answer, bytes. In JSON a byte of a text takes six at most.
const MOST_ANSWERED: usize = 6 * MOST_TEXT + 1024;

/// How many at a time, of all fleets.
static TURNS: Semaphore = Semaphore::const_new(2);

/// The program that renders, where that is not this one.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// What a template would take more of than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Time of a processor.
    Time,
    /// Memory.
    Memory,
    /// What includes or calls itself goes deeper than the stack.
    Depth,
    /// The length of its text.
    Text,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Time => {
                write!(f, "it takes over {PROCESSOR}s of a processor")
            }
            Bound::Memory => write!(f, "it takes over {} MiB of memory", MEMORY >> 20),
            Bound::Depth => f.write_str("what includes or calls itself in it goes too deep"),
            Bound::Text => write!(f, "its text is longer than {} MiB", MOST_TEXT >> 20),
        }
    }
}

/// What is to be rendered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) name: String,
    /// All that there are, by name.
    pub(super) templates: BTreeMap<String, String>,
    pub(super) context: serde_json::Value,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Rendered(String),
    Faulty(String),
    TooLong,
}

/// Why [`serve`] did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The limits could not be set: nothing was looked at.
    #[error("failed to limit this process: {0}")]
    Limits(std::io::Error),
    /// What is asked for can't be read.
    #[error("failed to read what is to be rendered: {0}; Backstay itself starts this command")]
    Asked(serde_json::Error),
    /// The answer could not be written.
    #[error("failed to answer: {0}")]
    Answered(std::io::Error),
}

/// Has `program`, a `backstay`, render: for processes that are none themselves, such as tests. Holds from the first call on.
pub fn by_program(program: impl Into<PathBuf>) {
    // A second call names the same program, or comes too late.
    let _ = PROGRAM.set(program.into());
}

/// Renders in a process of its own.
pub(super) async fn rendered(request: &Request) -> Result<String, TemplateError> {
    let name = || request.name.clone();
    let could_not = |why: String| TemplateError::CouldNotRun { name: name(), why };
    let asked = serde_json::to_vec(request).map_err(|error| could_not(error.to_string()))?;
    let turn = TURNS.acquire().await.map_err(|error| could_not(error.to_string()))?;
    let answered = program().output(&asked, MOST_ANSWERED).await;
    drop(turn);
    let answered = answered.map_err(|error| match (broken(&error), &error) {
        (Some(bound), _) => TemplateError::Unbounded { name: name(), bound },
        (None, ProcessError::Failed { exit: Exit::Code(PANICKED), said, .. }) => TemplateError::Faulty {
            name: name(),
            why: format!("no fault of its syntax, but too much for the engine{said}"),
        },
        (None, _) => could_not(error.to_string()),
    })?;
    match serde_json::from_slice(&answered).map_err(|error| could_not(error.to_string()))? {
        Answer::Rendered(text) => Ok(text),
        Answer::Faulty(why) => Err(TemplateError::Faulty { name: name(), why }),
        Answer::TooLong => Err(TemplateError::Unbounded { name: name(), bound: Bound::Text }),
    }
}

/// This very program, also where another one lies at its path by now (proc(5), `/proc/pid/exe`).
fn program() -> Program {
    let path = PROGRAM.get().cloned().unwrap_or_else(|| "/proc/self/exe".into());
    let grace = Duration::from_millis(100);
    Program::new(path).called("backstay render-template").argument(COMMAND).timeout(LONGEST).grace(grace)
}

/// The bound that a process ran into, as its end tells it.
fn broken(error: &ProcessError) -> Option<Bound> {
    match error {
        // What only took long waited for something else: a template has nothing to wait for.
        ProcessError::TimedOut { .. } => None,
        ProcessError::TooMuch { .. } => Some(Bound::Text),
        ProcessError::Failed { exit: Exit::Signal(SIGXCPU), .. } => Some(Bound::Time),
        // As Rust's standard library says it before it aborts.
        ProcessError::Failed { exit: Exit::Signal(signal @ (SIGABRT | SIGSEGV)), said, .. } => {
            let said = said.as_str();
            let of_memory = said.contains("memory allocation of").then_some(Bound::Memory);
            // The kernel itself says nothing where a stack can't grow, and nothing else of ours reaches where it may not.
            let is_of_the_stack = said.contains("overflowed its stack") || *signal == SIGSEGV;
            of_memory.or_else(|| is_of_the_stack.then_some(Bound::Depth))
        }
        _ => None,
    }
}

/// What a program in Rust exits with that panicked.
const PANICKED: i32 = 101;
/// signal(7), as numbered on Linux.
const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;
const SIGXCPU: i32 = 24;

/// Renders what `asked` says, and answers: the other side of [`Templates::render`](super::Templates::render), for the command
/// [`COMMAND`] alone, since it limits the whole process first.
///
/// # Errors
/// What keeps it from an answer. A faulty template is an answer.
pub fn serve(asked: impl Read, mut answer: impl Write) -> Result<(), ServeError> {
    limit().map_err(|error| ServeError::Limits(error.into()))?;
    let request: Request = serde_json::from_reader(std::io::BufReader::new(asked.take(MOST_ASKED)))
        .map_err(ServeError::Asked)?;
    let answered = match engine::rendered(&request) {
        Ok(text) => Answer::Rendered(text),
        Err(Fault::Faulty(why)) => Answer::Faulty(why),
        Err(Fault::TooLong) => Answer::TooLong,
    };
    serde_json::to_writer(&mut answer, &answered).map_err(|error| ServeError::Answered(error.into()))?;
    answer.flush().map_err(ServeError::Answered)
}

/// Lowers this process's own limits (setrlimit(2)). What it would take beyond them ends it.
fn limit() -> rustix::io::Result<()> {
    let at_most = |resource: Resource, soft: u64, hard: u64| {
        let already = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let (soft, hard) = (soft.min(already), hard.min(already));
        setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) })
    };
    // Of a processor's time the soft limit says why it ends, the hard one kills.
    at_most(Resource::Cpu, PROCESSOR, PROCESSOR + 1)?;
    at_most(Resource::Data, MEMORY, MEMORY)?;
    at_most(Resource::Stack, STACK, STACK)?;
    at_most(Resource::Core, 0, 0)?;
    at_most(Resource::Fsize, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_process_ends_tells_which_bound_it_broke() {
        let failed = |exit: i32| ProcessError::Failed {
            program: "backstay".to_owned(),
            exit: Exit::Signal(exit),
            said: Default::default(),
        };
        assert_eq!(broken(&failed(SIGXCPU)), Some(Bound::Time));
        assert_eq!(broken(&failed(SIGSEGV)), Some(Bound::Depth));
        // Other work of the host held it up.
        let timed_out = ProcessError::TimedOut {
            program: "backstay".to_owned(),
            longest: LONGEST,
            said: Default::default(),
        };
        assert_eq!(broken(&timed_out), None);
        // The host's own memory killer, or a fault of ours: nothing is known of the template.
        assert_eq!((broken(&failed(9)), broken(&failed(SIGABRT))), (None, None));
        let too_much = ProcessError::TooMuch { program: "backstay".to_owned(), limit: 1 };
        assert_eq!(broken(&too_much), Some(Bound::Text));
    }
}
