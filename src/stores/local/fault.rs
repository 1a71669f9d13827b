//! What goes wrong in a folder, and what that means to a caller of the store.

use rustix::io::Errno;

use super::super::{ErrorKind, StoreError, extent::Refused};

/// A failed effect on the store's folder.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the folder is not there: {0}")]
    RootMissing(Errno),
    #[error("the folder is there but is not the one that held the store before")]
    RootChanged,
    #[error("there is no such object")]
    NoObject,
    #[error("`{0}` is a symbolic link")]
    Link(String),
    #[error("`{0}` is not a regular file")]
    NotAFile(String),
    #[error("the file became shorter while it was read")]
    Shrank,
    #[error("the file system can neither link nor rename without overwriting")]
    CannotLink,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{0}")]
    Os(Errno),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Fault::Os(errno)
    }
}

impl From<Fault> for std::io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Os(errno) => errno.into(),
            fault => std::io::Error::other(fault),
        }
    }
}

impl Fault {
    pub(super) fn into_error(self, operation: &'static str, subject: String) -> StoreError {
        let error = StoreError::new(operation, subject, self.kind(), self.to_string());
        match self.hint() {
            Some(hint) => error.hinted(hint),
            None => error,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Fault::RootMissing(Errno::ACCESS | Errno::PERM) => ErrorKind::Denied,
            Fault::RootMissing(_) | Fault::RootChanged => ErrorKind::Unavailable,
            Fault::NoObject => ErrorKind::NotFound,
            Fault::Link(_) | Fault::CannotLink => ErrorKind::Denied,
            Fault::NotAFile(_) | Fault::Shrank => ErrorKind::Protocol,
            Fault::Refused(refused) => refused.kind(),
            Fault::Os(errno) => kind_of(*errno),
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Fault::RootMissing(Errno::NOENT) | Fault::RootChanged => {
                "mount its file system; for a new store make the folder, with mode 0700"
            }
            Fault::Link(_) => "links are not followed: use a bind mount instead",
            Fault::CannotLink => "keep the store on a file system such as ext4, xfs, btrfs or zfs",
            Fault::Os(Errno::NOSPC | Errno::DQUOT) => "free space, or shorten what is kept",
            Fault::Os(Errno::ROFS) => "mount it for writing",
            Fault::Os(Errno::ACCESS | Errno::PERM) | Fault::RootMissing(Errno::ACCESS | Errno::PERM) => {
                "let the user that Backstay runs as read and write the folder"
            }
            Fault::Os(Errno::IO) => "look at the kernel's log: the disk may be failing",
            _ => return None,
        })
    }
}

fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => ErrorKind::Full,
        Errno::ROFS | Errno::ACCESS | Errno::PERM => ErrorKind::Denied,
        Errno::NODEV | Errno::NXIO | Errno::NOTCONN | Errno::STALE | Errno::SHUTDOWN => {
            ErrorKind::Unavailable
        }
        Errno::ISDIR | Errno::NOTDIR | Errno::NAMETOOLONG => ErrorKind::Protocol,
        _ => ErrorKind::Transient,
    }
}
