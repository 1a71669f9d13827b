//! The walk: every entry below the declared paths, sorted, no symbolic link followed.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::{Path, PathBuf},
    vec,
};

use globset::GlobSet;
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat},
    io::Errno,
};

use super::Failure;
use crate::sources::{beneath::Root, pax::Meta};

/// Times a link is looked at that is something else whenever it is read.
const LOOKS: usize = 8;

/// One thing that a tree holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path, relative to `/`.
    pub path: PathBuf,
    /// Which of the declared paths it lies below.
    pub declared: usize,
    /// What it is.
    pub what: What,
    /// What the file system says of it.
    pub status: Status,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    File,
    Folder,
    Link(Vec<u8>),
    /// What no archive can bring back: a device, a socket, a fifo.
    Special(&'static str),
    /// Something that was there and is gone, or was swapped for something else.
    Vanished,
}

/// What the file system says of an entry. It changes whenever the entry's content may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub device: u64,
    pub inode: u64,
    pub links: u64,
    /// Seconds and nanoseconds since the Unix epoch.
    pub modified: (i64, u32),
    /// When the inode last changed; nobody can set it.
    pub changed: (i64, u32),
}

impl Status {
    /// What a member's header says of it.
    pub(super) fn meta(&self) -> Meta {
        Meta { mode: self.mode, owner: (self.uid, self.gid), modified: self.modified }
    }
}

impl From<&Stat> for Status {
    fn from(stat: &Stat) -> Self {
        Self {
            size: stat.st_size.unsigned_abs(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            device: stat.st_dev,
            inode: stat.st_ino,
            links: stat.st_nlink,
            modified: (stat.st_mtime, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime, stat.st_ctime_nsec as u32),
        }
    }
}

/// A folder that is being read: its names are sorted, and stay in memory until it is done.
struct Folder {
    handle: OwnedFd,
    path: PathBuf,
    names: vec::IntoIter<OsString>,
}

/// Iterates over the entries of one declared path after the other.
pub(super) struct Walk<'a> {
    root: &'a Root,
    /// Absolute, sorted.
    paths: &'a [PathBuf],
    exclude: &'a GlobSet,
    next_path: usize,
    open: Vec<Folder>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Root, paths: &'a [PathBuf], exclude: &'a GlobSet) -> Self {
        Self { root, paths, exclude, next_path: 0, open: Vec::new() }
    }

    fn step(&mut self) -> Result<Option<Entry>, Failure> {
        while let Some(folder) = self.open.last_mut() {
            let Some(name) = folder.names.next() else {
                self.open.pop();
                continue;
            };
            let path = folder.path.join(&name);
            let declared = self.next_path - 1;
            if self.exclude.is_match(below(&self.paths[declared], &path)) {
                continue;
            }
            return self.visit(&name, path, declared).map(Some);
        }
        let Some(declared) = self.paths.get(self.next_path) else { return Ok(None) };
        self.next_path += 1;
        self.begin(declared, self.next_path - 1).map(Some)
    }

    /// Enters a declared path, which must exist.
    fn begin(&mut self, declared: &Path, number: usize) -> Result<Entry, Failure> {
        let failed = |error| Failure::io("open", declared, error);
        let path = relative(declared).to_owned();
        let parent = self.root.folder(path.parent().unwrap_or(Path::new(""))).map_err(failed)?;
        let name = path.file_name().unwrap_or(OsStr::new("."));
        let entry = look(&parent, name, path.clone(), number).map_err(failed)?;
        match entry.what {
            What::Folder => self.enter(&parent, name, &path).map_err(|error| failed(error.into()))?,
            What::File => {}
            _ => return Err(Failure::NoTree(declared.to_owned())),
        }
        Ok(entry)
    }

    fn visit(&mut self, name: &OsStr, path: PathBuf, declared: usize) -> Result<Entry, Failure> {
        let parent = &self.open.last().expect("a name comes from an open folder").handle;
        let vanished = |path| Entry { path, declared, what: What::Vanished, status: Status::default() };
        let entry = match look(parent, name, path.clone(), declared) {
            Ok(entry) => entry,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vanished(path)),
            Err(error) => return Err(Failure::io("look at", &absolute(&path), error)),
        };
        if entry.what == What::Folder {
            let parent =
                rustix::io::dup(parent).map_err(|e| Failure::io("open", &absolute(&path), e.into()))?;
            match self.enter(&parent, name, &path) {
                Ok(()) => {}
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(vanished(path)),
                Err(error) => return Err(Failure::io("read folder", &absolute(&path), error.into())),
            }
        }
        Ok(entry)
    }

    fn enter(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(parent, name, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&handle)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort_unstable();
        self.open.push(Folder { handle, path: path.to_owned(), names: names.into_iter() });
        Ok(())
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

fn look(parent: &OwnedFd, name: &OsStr, path: PathBuf, declared: usize) -> io::Result<Entry> {
    let mut looks = 1..LOOKS;
    loop {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => What::File,
            FileType::Directory => What::Folder,
            FileType::Symlink => match readlinkat(parent, name, Vec::new()) {
                Ok(target) => What::Link(target.into_bytes()),
                // No link any more: somebody put another thing in its place since.
                Err(Errno::INVAL) if looks.next().is_some() => continue,
                Err(error) => return Err(error.into()),
            },
            FileType::Fifo => What::Special("a fifo"),
            FileType::Socket => What::Special("a socket"),
            _ => What::Special("a device"),
        };
        return Ok(Entry { path, declared, what, status: Status::from(&stat) });
    }
}

/// The path as members of the archive are named.
pub(super) fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// The path as people know it.
pub(super) fn absolute(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

fn below<'p>(declared: &Path, path: &'p Path) -> &'p Path {
    path.strip_prefix(relative(declared)).unwrap_or(path)
}
