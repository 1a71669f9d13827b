//! Opening what lies beneath a folder, and nothing else: no symbolic link is followed in any part of a path, so that
//! a folder swapped for a link at any moment leads nowhere. Rests on `openat2` of Linux 5.6.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

/// A folder that nothing opened through it can leave.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    /// Opens a folder whose path holds no symbolic link.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?))
    }

    /// Opens what lies at `relative`, which may be empty for the root itself.
    pub(super) fn open_beneath(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        Ok(openat2(&self.0, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// Opens the folder at `relative`.
    pub(super) fn folder(&self, relative: &Path) -> io::Result<OwnedFd> {
        self.open_beneath(relative, OFlags::RDONLY | OFlags::DIRECTORY)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
