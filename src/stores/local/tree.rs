//! Folders and files below the root, reached one folder at a time without following symbolic links.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use jiff::Timestamp;
use rustix::{
    fs::{self, AtFlags, CWD, FileType, Mode, OFlags},
    io::Errno,
};

use super::{super::Stat, fault::Fault};
use crate::artifact::layout::ObjectName;

pub(super) const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// The store's folder, open: what happens to its path meanwhile changes nothing for one call.
pub(super) struct Root(OwnedFd);

impl Root {
    /// Opens the folder at `path`; a symbolic link on the way to it is the administrator's own and is followed.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        fs::openat(CWD, path, FOLDER, Mode::empty()).map(Root).map_err(Fault::RootMissing)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The folder of an object, empty for the root, and the object's name in it.
pub(super) fn split(name: &ObjectName) -> (&str, &str) {
    name.as_str().rsplit_once('/').unwrap_or(("", name.as_str()))
}

/// Opens the folder `path` below `root`.
pub(super) fn open_folder(root: &Root, path: &str) -> Result<OwnedFd, Fault> {
    let mut folder = root.0.try_clone().map_err(as_fault)?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        folder = enter(folder.as_fd(), part)?;
    }
    Ok(folder)
}

/// Opens the folder `path` below `root` and makes what is missing of it, durably.
pub(super) fn make_folder(root: &Root, path: &str) -> Result<OwnedFd, Fault> {
    let mut folder = root.0.try_clone().map_err(as_fault)?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        match fs::mkdirat(&folder, part, Mode::RWXU) {
            Ok(()) => fs::fsync(&folder)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        folder = enter(folder.as_fd(), part)?;
    }
    Ok(folder)
}

/// Opens the folder `part` of `folder`.
pub(super) fn enter(folder: BorrowedFd<'_>, part: &str) -> Result<OwnedFd, Fault> {
    fs::openat(folder, part, FOLDER | OFlags::NOFOLLOW, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP | Errno::NOTDIR if is_link(folder, part) => Fault::Link(part.to_owned()),
        errno => errno.into(),
    })
}

fn is_link(folder: BorrowedFd<'_>, part: &str) -> bool {
    fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// Opens an object for reading.
pub(super) fn open_object(root: &Root, name: &ObjectName) -> Result<(OwnedFd, Stat), Fault> {
    let (folder, leaf) = split(name);
    let absent = |fault| match fault {
        Fault::Os(Errno::NOENT | Errno::NOTDIR) => Fault::NoObject,
        fault => fault,
    };
    let folder = open_folder(root, folder).map_err(absent)?;
    // A pipe in an object's place must not block the call.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::openat(&folder, leaf, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP => Fault::Link(leaf.to_owned()),
        errno => absent(errno.into()),
    })?;
    let found = fs::fstat(&file)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok((file, stat(&found))),
        FileType::Directory => Err(Fault::NoObject),
        _ => Err(Fault::NotAFile(leaf.to_owned())),
    }
}

/// Removes an object, and the folders that are empty then. The removal is durable on return, so that what is removed
/// later never outlives a crash that brings this one back.
pub(super) fn remove(root: &Root, name: &ObjectName) -> Result<(), Fault> {
    let (mut folder, mut leaf) = split(name);
    let mut flags = AtFlags::empty();
    loop {
        let parent = match open_folder(root, folder) {
            Ok(parent) => parent,
            Err(Fault::Os(Errno::NOENT | Errno::NOTDIR)) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        match fs::unlinkat(&parent, leaf, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Not empty, in use, or not ours to remove: the folder stays.
            Err(_) if flags.contains(AtFlags::REMOVEDIR) => return Ok(fs::fsync(&parent)?),
            Err(Errno::ISDIR) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
        flags = AtFlags::REMOVEDIR;
        if folder.is_empty() {
            return Ok(fs::fsync(&parent)?);
        }
        (folder, leaf) = folder.rsplit_once('/').unwrap_or(("", folder));
    }
}

/// What a file's status says of an object.
pub(super) fn stat(found: &fs::Stat) -> Stat {
    Stat { size: found.st_size as u64, modified: modified(found), sha256: None }
}

/// When a file was written. A date that no calendar has counts as the epoch.
pub(super) fn modified(found: &fs::Stat) -> Timestamp {
    Timestamp::new(found.st_mtime as _, found.st_mtime_nsec as _).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn as_fault(error: std::io::Error) -> Fault {
    Fault::Os(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
