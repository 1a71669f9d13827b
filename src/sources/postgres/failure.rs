//! What goes wrong, and what a person does about it.

use std::io;

use crate::{
    process::ProcessError,
    sources::{
        SinkClosed, SourceError,
        blocking::{Interrupted, Unwanted},
        entries::EntryError,
    },
    stores::Class,
};

/// What went wrong, before it is known with what.
#[derive(Debug)]
pub(super) enum Failure {
    SinkClosed,
    Process(ProcessError),
    /// What the server answered is not what was asked for.
    Answer(String),
    /// A dump does not show that it is whole.
    Incomplete(String),
    /// The stream that is restored failed.
    Stream(io::Error),
    /// The folder that programs work in failed.
    Stage(io::Error),
    /// What was asked can't be done, or would overwrite something.
    Refused(String),
    /// A role lacks something.
    Privilege {
        lacks: String,
        grant: String,
    },
    /// The server is not set up for it.
    Setting {
        found: String,
        set: String,
    },
    /// The server has the beginning of a log no more.
    Gone(String),
    /// The programs are older than the server.
    Outdated {
        server: u32,
        programs: u32,
    },
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        Failure::Process(error)
    }
}

impl From<EntryError> for Failure {
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::Stream(error) => Failure::Stream(error),
            EntryError::Broken(_) => Failure::Incomplete(error.to_string()),
            EntryError::Unwritable(..) => Failure::Refused(error.to_string()),
        }
    }
}

impl From<Unwanted> for Failure {
    fn from(_: Unwanted) -> Self {
        Failure::SinkClosed
    }
}

impl From<Interrupted> for Failure {
    fn from(why: Interrupted) -> Self {
        match why {
            Interrupted::SinkClosed => Failure::SinkClosed,
            Interrupted::Stalled(_) => Failure::Incomplete("the dump could not be read in time".to_owned()),
            Interrupted::Died(died) => Failure::Stage(io::Error::other(died)),
        }
    }
}

impl From<SinkClosed> for Failure {
    fn from(_: SinkClosed) -> Self {
        Failure::SinkClosed
    }
}

impl Failure {
    /// Whether it may pass without anybody's doing, as that of a server that can't be reached.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Failure::Process(ProcessError::Missing { .. } | ProcessError::Start { .. }) => false,
            Failure::Process(why) => {
                let said = why.to_string();
                !HINTS.iter().any(|(part, _)| said.contains(part))
            }
            _ => false,
        }
    }

    pub(super) fn reason(self) -> String {
        self.explain("", String::new()).reason
    }

    pub(super) fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject, class, reason);
        match self {
            Failure::SinkClosed => error(Class::Retry, SinkClosed.to_string()),
            Failure::Answer(why) | Failure::Incomplete(why) => error(Class::Retry, why),
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Stage(why) => error(Class::Retry, format!("the controller's scratch folder: {why}")),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::Privilege { lacks, grant } => {
                error(Class::Stalled, lacks).with_hint(format!("as a superuser: {grant}"))
            }
            Failure::Setting { found, set } => error(Class::Stalled, found).with_hint(set),
            Failure::Gone(why) => error(Class::Retry, why),
            Failure::Outdated { server, programs } => error(
                Class::Stalled,
                format!(
                    "the server is PostgreSQL {server}, the newest client programs here are of {programs}, \
                         and they refuse newer servers"
                ),
            )
            .with_hint(format!(
                "install the client programs of version {server} (Debian: postgresql-client-{server})"
            )),
            Failure::Process(why @ (ProcessError::Missing { .. } | ProcessError::Start { .. })) => {
                error(Class::Stalled, why.to_string())
                    .with_hint("install the server's client programs (Debian: postgresql-client)")
            }
            Failure::Process(why) => {
                let said = why.to_string();
                if said.contains("relation \"") && said.contains("does not exist") {
                    // It was dropped while a dump began: the next one knows.
                    return error(Class::Retry, said);
                }
                match HINTS.iter().find(|(part, _)| said.contains(part)) {
                    Some((_, hint)) => error(Class::Stalled, said).with_hint(*hint),
                    None => error(Class::Retry, said),
                }
            }
        }
    }
}

/// What only a person can mend, by what the server says of it.
const HINTS: [(&str, &str); 10] = [
    ("No space left on device", "make room on the server's disk"),
    ("authentication failed", "check user and password"),
    ("no password supplied", "declare the password"),
    ("no pg_hba.conf entry", "let this host and user in: add a line for them to the server's pg_hba.conf"),
    ("row-level security", "as a superuser: ALTER ROLE … BYPASSRLS;"),
    (
        "permission denied for large object",
        "let the role read it, as its owner or a superuser: GRANT SELECT ON LARGE OBJECT … TO …; pg_read_all_data does not",
    ),
    (
        "permission denied",
        "as a superuser: GRANT pg_read_all_data TO …; for physical captures: ALTER ROLE … REPLICATION;",
    ),
    ("replication role", "as a superuser: ALTER ROLE … REPLICATION;"),
    ("is being accessed by other users", "end their connections first"),
    (
        "does not exist",
        "check the declared databases and user; roles that a dump of one database names must exist before it is restored",
    ),
];
