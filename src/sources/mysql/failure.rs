//! What can go wrong with a server and its programs, and what to do about it.

use super::programs::Flavour;
use crate::{
    process::ProcessError,
    sources::{SinkClosed, SourceError, entries::EntryError},
    stores::Class,
};

/// What went wrong, before it is known with what.
#[derive(Debug)]
pub(super) enum Failure {
    SinkClosed,
    Process(ProcessError),
    /// What the server answered is not what was asked for.
    Answer(String),
    /// The text of a dump does not show that it is whole.
    Incomplete(String),
    /// The stream that is restored failed.
    Stream(std::io::Error),
    /// What was asked would overwrite something.
    Refused(String),
    /// A program that physical captures need is missing.
    NoCopier(ProcessError),
    /// A server of this engine, of which there are no programs.
    OthersPrograms(Flavour),
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

impl From<SinkClosed> for Failure {
    fn from(_: SinkClosed) -> Self {
        Failure::SinkClosed
    }
}

/// What the program that copies files says when a privilege is missing.
const LACKS: &str = "missing required privilege";

/// What servers say of statements that are larger than they take.
const PACKETS: [&str; 2] = ["max_allowed_packet", "erver has gone away"];

/// What is shown of what a program said: the one that copies files lists the user's grants, with the hash of its password.
fn without_grants(said: String) -> String {
    let end = ["; [00] ", "Current privileges", "IDENTIFIED BY"];
    match said.split_once(LACKS) {
        Some((before, after)) => {
            let after = end.iter().fold(after, |text, mark| text.split(mark).next().unwrap_or(text));
            format!("{before}{LACKS}{}", after.trim_end_matches([';', ' ']))
        }
        None if said.contains("IDENTIFIED BY") => {
            "the program that copies files ended, and told the grants of the user".to_owned()
        }
        None => said,
    }
}

/// What a user lacks, as far as the server or the program that copies files says it.
fn missing_grant(said: &str) -> Option<String> {
    let needed = [
        "RELOAD",
        "REPLICATION SLAVE",
        "BINLOG MONITOR",
        "REPLICATION CLIENT",
        "BINLOG REPLAY",
        "BINLOG ADMIN",
        "PROCESS",
        "LOCK TABLES",
    ];
    let said = ["Access denied; you need", LACKS].iter().find_map(|mark| Some(said.split_once(mark)?.1))?;
    let privilege = needed.into_iter().find(|privilege| said.contains(privilege))?;
    Some(format!("grant what is missing: GRANT {privilege} ON *.* TO the user of this backup"))
}

/// Whether a server says that its disk is full (error 1021 of its documentation, "Disk full", or the system's 28).
fn is_full(said: &str) -> bool {
    ["No space left on device", "Disk full", "ERROR 1021"].iter().any(|part| said.contains(part))
}

impl Failure {
    /// Whether it may pass without anybody's doing, as that of a server that can't be reached.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Failure::Process(ProcessError::Missing { .. } | ProcessError::Start { .. }) => false,
            Failure::Process(why) => !why.to_string().contains("Access denied"),
            _ => false,
        }
    }

    /// Whether a client did not understand the server, as one of another engine may not.
    pub(super) fn speaks_otherwise(&self) -> bool {
        let Failure::Process(why @ ProcessError::Failed { .. }) = self else { return false };
        let said = why.to_string().to_lowercase();
        !said.contains("access denied")
            && ["plugin", "protocol", "handshake", "unknown option", "unknown variable"]
                .iter()
                .any(|word| said.contains(word))
    }

    /// Why, for people.
    pub(super) fn reason(self) -> String {
        self.explain("", String::new()).reason
    }

    /// The error of `operation` on `subject`.
    pub(super) fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject, class, reason);
        match self {
            Failure::SinkClosed => error(Class::Retry, SinkClosed.to_string()),
            Failure::Answer(why) | Failure::Incomplete(why) => error(Class::Retry, why),
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::OthersPrograms(flavour) => {
                let why = format!("the server is {}, whose own programs are not on this host", flavour.name());
                error(Class::Stalled, why).with_hint(flavour.remedy())
            }
            Failure::NoCopier(why) => error(Class::Stalled, why.to_string()).with_hint(
                "install MariaDB's programs for copies of files (Debian: mariadb-backup; for logs over a copy mariadb-server)",
            ),
            Failure::Process(why @ (ProcessError::Missing { .. } | ProcessError::Start { .. })) => {
                error(Class::Stalled, why.to_string())
                    .with_hint("install the server's client programs (Debian: mariadb-client)")
            }
            Failure::Process(why) => {
                let is_silent = matches!(why, ProcessError::Stalled { .. });
                let said = without_grants(why.to_string());
                if let Some(grant) = missing_grant(&said) {
                    error(Class::Stalled, said).with_hint(grant)
                } else if said.contains("Access denied") {
                    error(Class::Stalled, said).with_hint("check user, password and grants")
                } else if said.contains("Can't change dir to") {
                    error(Class::Stalled, said)
                        .with_hint("let the user that the controller runs as read the server's data folder")
                } else if PACKETS.iter().any(|part| said.contains(part)) {
                    error(Class::Retry, said)
                        .with_hint("where it is the server's limit: SET GLOBAL max_allowed_packet = 1073741824")
                } else if is_full(&said) {
                    error(Class::Stalled, said).with_hint("make room on the server's disk")
                } else if is_silent {
                    error(Class::Retry, said)
                        .with_hint("see that the server's disk has room: MariaDB waits for it without a word")
                } else if said.contains("Unknown database") {
                    error(Class::Stalled, said).with_hint("check the declared databases")
                } else {
                    error(Class::Retry, said)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_that_a_program_lists_are_not_shown() {
        let said = "failed to run mariabackup: it ended with exit status 1: [00] 2026 Error: missing required privilege PROCESS on \
                    *.*; [00] 2026 Current privileges, as reported by 'SHOW GRANTS':; [00] 1.GRANT RELOAD ON *.* TO `bk` \
                    IDENTIFIED BY PASSWORD '*B690'";
        let shown = without_grants(said.to_owned());
        assert!(shown.ends_with("missing required privilege PROCESS on *.*"), "{shown}");
        assert!(missing_grant(&shown).unwrap().contains("GRANT PROCESS ON *.*"));
        assert!(!without_grants("GRANT x TO y IDENTIFIED BY PASSWORD '*B690'".to_owned()).contains("B690"));
        assert_eq!(without_grants("connection refused".to_owned()), "connection refused");
    }
}
