//! Exit codes, all in one place. Scripts rest on them.

use std::process::ExitCode;

/// How a command ended. When several apply, the first in this list that does is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// 130: interrupted by a person (SIGINT).
    Interrupted,
    /// 143: asked to stop (SIGTERM).
    Terminated,
    /// 1: the command failed.
    Failed,
    /// 2: the command line is wrong.
    Usage,
    /// 3: `validate` or `plan --against` found no input.
    NoInput,
    /// 12: `validate` found errors, or the revision under review has them.
    Errors,
    /// 11: `validate` found warnings, and `--fail-on warning` was given.
    Warnings,
    /// 7: `verify` found damage, or a drill did not pass.
    Damage,
    /// 6: the newest revision is bad, and the last good one is in force.
    BadRevision,
    /// 5: a safety rule withheld something.
    Withheld,
    /// 4: some steps failed, or a resource can't run here.
    Partial,
    /// 10: `plan` found changes to make, `drift` that something drifted, or a review what it was told to fail on.
    Pending,
    /// 0: done, and nothing left to say.
    Done,
}

impl Exit {
    /// The number that the process exits with.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NoInput => 3,
            Exit::Partial => 4,
            Exit::Withheld => 5,
            Exit::BadRevision => 6,
            Exit::Damage => 7,
            Exit::Pending => 10,
            Exit::Warnings => 11,
            Exit::Errors => 12,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
