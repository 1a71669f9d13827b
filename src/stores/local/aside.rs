//! Files written aside and linked into place: a reader sees nothing or the whole, whenever the writer was cut off.
//!
//! A writer holds a lock on its file. A file without a lock was left by a writer that died, and is removed.

use std::{
    fs::File,
    io::Write,
    os::fd::{AsFd, OwnedFd},
};

use jiff::Timestamp;
use rustix::{
    fs::{self, AtFlags, Dir, FlockOperation, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::{
    super::Put,
    fault::Fault,
    tree::{self, Root},
};
use crate::artifact::layout::ObjectName;

/// Where files are written aside. No object's name: those have no part that begins with `.`.
const ASIDE: &str = ".backstay-tmp";

/// How often a put makes its folder again after a deletion removed it as empty.
const FOLDER_ATTEMPTS: usize = 64;

/// Creates `name` with `content` unless it exists; durable on return.
pub(super) fn put(root: &Root, name: &ObjectName, content: &[u8]) -> Result<Put, Fault> {
    let (path, leaf) = tree::split(name);
    if let Some(folder) = holding(root, path, leaf)? {
        fs::fsync(&folder)?;
        return Ok(Put::Existed);
    }
    let aside = Aside::write(root, content)?;
    for _ in 0..FOLDER_ATTEMPTS {
        let linked = tree::make_folder(root, path)
            .and_then(|folder| aside.link(&folder, leaf).map(|put| (folder, put)));
        match linked {
            Ok((folder, put)) => {
                fs::fsync(&folder)?;
                return Ok(put);
            }
            Err(Fault::Os(Errno::NOENT)) => {}
            Err(fault) => return Err(fault),
        }
    }
    Err(Fault::Os(Errno::NOENT))
}

/// The folder at `path` if it holds `leaf` already.
fn holding(root: &Root, path: &str, leaf: &str) -> Result<Option<OwnedFd>, Fault> {
    let folder = match tree::open_folder(root, path) {
        Err(Fault::Os(Errno::NOENT)) => return Ok(None),
        folder => folder?,
    };
    match fs::statat(&folder, leaf, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the store has its folder for files written aside: whether it was ever made or written.
pub(super) fn exists(root: &Root) -> Result<bool, Fault> {
    match fs::statat(root, ASIDE, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The folder for files written aside, made if it is not there.
pub(super) fn folder(root: &Root) -> Result<OwnedFd, Fault> {
    tree::make_folder(root, ASIDE)
}

/// The file system's clock.
pub(super) fn now(root: &Root) -> Result<Timestamp, Fault> {
    let aside = Aside::create(root)?;
    Ok(tree::modified(&fs::fstat(&aside.file)?))
}

/// Removes files of writers that died. What cannot be removed now is left for the next time.
pub(super) fn remove_stale(root: &Root) {
    let Ok(folder) = tree::open_folder(root, ASIDE) else { return };
    let Ok(entries) = Dir::read_from(&folder) else { return };
    for entry in entries.flatten() {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = fs::openat(&folder, entry.file_name(), flags, Mode::empty()) else { continue };
        if fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::unlinkat(&folder, entry.file_name(), AtFlags::empty());
        }
    }
}

/// A file written aside, locked; removed when dropped.
struct Aside {
    folder: OwnedFd,
    name: String,
    file: File,
}

impl Aside {
    fn write(root: &Root, content: &[u8]) -> Result<Self, Fault> {
        let mut aside = Self::create(root)?;
        aside.file.write_all(content).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        fs::fsync(&aside.file)?;
        Ok(aside)
    }

    fn create(root: &Root) -> Result<Self, Fault> {
        loop {
            let folder = folder(root)?;
            let name = format!("{:016x}", rand::random::<u64>());
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match fs::openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR) {
                Err(Errno::EXIST) => continue,
                file => file?,
            };
            let aside = Aside { folder, name, file: file.into() };
            if aside.lock()? {
                return Ok(aside);
            }
        }
    }

    /// Whether the file is locked and still there: one who removes stale files may have come between.
    fn lock(&self) -> Result<bool, Fault> {
        // On a file system without locks nobody else can take one either, so nobody removes the file.
        if fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Ok(false);
        }
        Ok(fs::fstat(&self.file)?.st_nlink > 0)
    }

    /// Puts the file into `folder` as `leaf` unless there is something.
    fn link(&self, folder: &OwnedFd, leaf: &str) -> Result<Put, Fault> {
        let linked = fs::linkat(&self.folder, &self.name, folder, leaf, AtFlags::empty());
        let placed = match linked {
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => self.rename(folder, leaf),
            linked => linked,
        };
        match placed {
            Ok(()) => Ok(Put::Created),
            Err(Errno::EXIST) => Ok(Put::Existed),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Err(Fault::CannotLink),
            Err(errno) => Err(errno.into()),
        }
    }

    /// For file systems without hard links.
    fn rename(&self, folder: &OwnedFd, leaf: &str) -> Result<(), Errno> {
        fs::renameat_with(self.folder.as_fd(), &self.name, folder, leaf, RenameFlags::NOREPLACE)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}
