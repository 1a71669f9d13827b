//! What can go wrong with a program, and how it ended.

use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc, time::Duration};

/// A program that did not do its work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProcessError {
    /// No such program.
    #[error("failed to start {program}: no such program; install it, or add its folder to PATH")]
    Missing {
        /// Its name.
        program: String,
    },
    /// It exists and can't be started.
    #[error("failed to start {program}: {error}")]
    Start {
        /// Its name.
        program: String,
        /// The system's reason.
        error: Arc<std::io::Error>,
    },
    /// It ended in any way but exit status 0.
    #[error("failed to run {program}: it ended with {exit}{said}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        exit: Exit,
        /// The end of its standard error.
        said: Said,
    },
    /// It was silent for too long, and was ended.
    #[error("failed to run {program}: it was silent for {}, and was ended{said}", humantime::format_duration(*silence))]
    Stalled {
        /// Its name.
        program: String,
        /// How long it was silent.
        silence: Duration,
        /// The end of its standard error.
        said: Said,
    },
    /// It ran for too long, and was ended.
    #[error("failed to run {program}: it took over {}, and was ended{said}", humantime::format_duration(*longest))]
    TimedOut {
        /// Its name.
        program: String,
        /// How long it was allowed to run.
        longest: Duration,
        /// The end of its standard error.
        said: Said,
    },
    /// It printed more than its reader takes, and was ended.
    #[error("failed to run {program}: it printed over {limit} bytes, and was ended")]
    TooMuch {
        /// Its name.
        program: String,
        /// The most that it may print, bytes.
        limit: usize,
    },
    /// It ended well, but before it had read or written all.
    #[error("failed to {doing} {program}: {error}")]
    Pipe {
        /// Its name.
        program: String,
        /// What was tried.
        doing: &'static str,
        /// The system's reason.
        error: Arc<std::io::Error>,
    },
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Exit::Code(code) => return write!(f, "exit status {code}"),
            Exit::Signal(1) => "SIGHUP",
            Exit::Signal(2) => "SIGINT",
            Exit::Signal(3) => "SIGQUIT",
            Exit::Signal(4) => "SIGILL",
            Exit::Signal(6) => "SIGABRT",
            Exit::Signal(7) => "SIGBUS",
            Exit::Signal(8) => "SIGFPE",
            Exit::Signal(9) => "SIGKILL",
            Exit::Signal(11) => "SIGSEGV",
            Exit::Signal(13) => "SIGPIPE",
            Exit::Signal(15) => "SIGTERM",
            Exit::Signal(other) => return write!(f, "signal {other}"),
        };
        f.write_str(name)
    }
}

/// The end of what a program printed on standard error, secrets struck out; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(pub(super) String);

impl Said {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}
