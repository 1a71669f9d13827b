//! What goes wrong over SFTP, and what that means to a caller of the store.

use std::time::Duration;

use openssh_sftp_client::{Error, error::SftpErrorKind};

use super::super::{ErrorKind, StoreError, extent::Refused};

/// A failed effect on the host.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Settings(&'static str),
    #[error("{reason}")]
    Connect { kind: ErrorKind, reason: String, hint: Option<String> },
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("the host was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// What the server says of a path whose file or folder is not there.
    #[error("there is no such file or folder")]
    Absent,
    #[error("there is no such object")]
    NoObject,
    #[error("the folder `{0}` is not there")]
    RootMissing(String),
    #[error("the folder `{0}` is there but is not the one that held the store before")]
    RootChanged(String),
    #[error("permission denied")]
    Denied,
    #[error("`{0}` is a symbolic link")]
    Link(String),
    #[error("`{0}` is not a regular file")]
    NotAFile(String),
    #[error("the file became shorter while it was read")]
    Shrank,
    #[error("no space is left: {free} bytes")]
    Full { free: u64 },
    #[error("the file system is mounted read-only")]
    ReadOnly,
    #[error("the server has no {0} extension")]
    Unsupported(&'static str),
    #[error("the server reports a failure without a reason")]
    Failure,
    #[error("{0}")]
    Protocol(String),
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::SftpError(SftpErrorKind::NoSuchFile, _) => Fault::Absent,
            Error::SftpError(SftpErrorKind::PermDenied, _) => Fault::Denied,
            Error::SftpError(SftpErrorKind::Failure, _) => Fault::Failure,
            Error::SftpError(_, message) => Fault::Protocol(message.get().0.escape_debug().to_string()),
            Error::UnsupportedExtension(name) => Fault::Unsupported(name),
            Error::UnsupportedSftpProtocol { .. } | Error::SftpServerHelloMsgTooLong { .. } => {
                Fault::Protocol(error.to_string())
            }
            lost => Fault::Lost(lost.to_string()),
        }
    }
}

impl Fault {
    /// Whether nothing more can be expected of the connection.
    pub(super) fn breaks_session(&self) -> bool {
        matches!(self, Fault::Lost(_) | Fault::Silent(_))
    }

    pub(super) fn into_error(self, operation: &'static str, subject: String) -> StoreError {
        let error = StoreError::new(operation, subject, self.kind(), self.to_string());
        match self.hint() {
            Some(hint) => error.hinted(hint),
            None => error,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Fault::Connect { kind, .. } => *kind,
            Fault::Lost(_) | Fault::Silent(_) | Fault::Failure => ErrorKind::Transient,
            Fault::Absent | Fault::NoObject => ErrorKind::NotFound,
            Fault::RootMissing(_) | Fault::RootChanged(_) => ErrorKind::Unavailable,
            Fault::Denied | Fault::Link(_) | Fault::ReadOnly | Fault::Unsupported(_) => ErrorKind::Denied,
            Fault::Full { .. } => ErrorKind::Full,
            Fault::Settings(_) | Fault::NotAFile(_) | Fault::Shrank | Fault::Protocol(_) => {
                ErrorKind::Protocol
            }
            Fault::Refused(refused) => refused.kind(),
        }
    }

    fn hint(self) -> Option<String> {
        let hint = match self {
            Fault::Connect { hint, .. } => return hint,
            Fault::RootMissing(_) | Fault::RootChanged(_) => {
                "mount its file system there; for a new store make the folder, owned by the store's user"
            }
            Fault::Denied => "let the store's user read and write the folder",
            Fault::Link(_) => "links are not followed: use a bind mount instead",
            Fault::Full { .. } => "free space on the host, or shorten what is kept",
            Fault::ReadOnly => "mount it for writing",
            Fault::Unsupported(_) => "use OpenSSH's own server: `Subsystem sftp internal-sftp`",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
