//! A declaration's files, read from a folder of this host before they are committed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::fs::{Dir, FileType, Mode, OFlags, open, openat};

use super::{Budget, LONGEST_FILE, RevisionError, declares, joined, parts};

/// Reads every `*.toml` in the folder `folder` of the working tree `root` (which may itself be reached by a symbolic
/// link), by its path in that folder. Symbolic links inside are left out, and so are `.git`, devices and pipes.
pub fn read_folder(root: &Path, folder: &str) -> Result<BTreeMap<String, Vec<u8>>, RevisionError> {
    read_wanted(root, folder, declares)
}

/// Reads the templates in `folder`, by their paths in it; none where there is no such folder. What is no text is left out.
pub fn templates_in(folder: &Path) -> Result<BTreeMap<String, String>, RevisionError> {
    match read_wanted(folder, "", |_| true) {
        Ok(files) => Ok(super::texts(files)),
        Err(RevisionError::Disk { path, error })
            if path == folder && error.kind() == io::ErrorKind::NotFound =>
        {
            Ok(BTreeMap::new())
        }
        Err(error) => Err(error),
    }
}

fn read_wanted(
    root: &Path,
    folder: &str,
    wanted: fn(&[u8]) -> bool,
) -> Result<BTreeMap<String, Vec<u8>>, RevisionError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut start = open(root, flags, Mode::empty()).map_err(|e| disk(root, "", e))?;
    for part in parts(folder) {
        let inner = if part == ".." { Err(rustix::io::Errno::NOENT) } else { enter(&start, part) };
        start = inner.map_err(|_| RevisionError::NoFolder {
            folder: folder.escape_debug().to_string(),
            whose: root.display().to_string(),
        })?;
    }
    let mut walk = Walk { root, wanted, budget: Budget::default() };
    walk.folder(start, "", 0)?;
    Ok(walk.budget.files)
}

fn enter(folder: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty())
}

struct Walk<'a> {
    root: &'a Path,
    /// Whether a file of this name is read.
    wanted: fn(&[u8]) -> bool,
    budget: Budget,
}

impl Walk<'_> {
    fn folder(&mut self, folder: OwnedFd, path: &str, depth: usize) -> Result<(), RevisionError> {
        self.budget.depth(path, depth)?;
        let entries = Dir::read_from(&folder).map_err(|e| disk(self.root, path, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| disk(self.root, path, e))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b".." | b".git") {
                continue;
            }
            self.budget.entry(path)?;
            match kind(&folder, &entry).map_err(|e| disk(self.root, path, e))? {
                FileType::Directory => {
                    let path = joined(path, name)?;
                    let inner = openat(
                        &folder,
                        entry.file_name(),
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                        Mode::empty(),
                    );
                    self.folder(inner.map_err(|e| disk(self.root, &path, e))?, &path, depth + 1)?;
                }
                FileType::RegularFile if (self.wanted)(name) => {
                    let path = joined(path, name)?;
                    // Not blocking: a pipe may have taken the file's place meanwhile.
                    let file = openat(
                        &folder,
                        entry.file_name(),
                        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
                        Mode::empty(),
                    );
                    self.file(File::from(file.map_err(|e| disk(self.root, &path, e))?), path)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, file: File, path: String) -> Result<(), RevisionError> {
        let failed = |error| RevisionError::Disk { path: self.root.join(&path), error };
        let stat = file.metadata().map_err(failed)?;
        if !stat.is_file() {
            return Ok(());
        }
        self.budget.file(&path, stat.len())?;
        let mut content = Vec::with_capacity(stat.len() as usize);
        file.take(LONGEST_FILE + 1)
            .read_to_end(&mut content)
            .map_err(|error| RevisionError::Disk { path: self.root.join(&path), error })?;
        if content.len() as u64 > LONGEST_FILE {
            return Err(super::too_much(
                &path,
                format!("it grew beyond {LONGEST_FILE} bytes while it was read"),
            ));
        }
        self.budget.files.insert(path, content);
        Ok(())
    }
}

/// Some file systems don't tell the type in the listing.
fn kind(folder: &OwnedFd, entry: &rustix::fs::DirEntry) -> rustix::io::Result<FileType> {
    match entry.file_type() {
        FileType::Unknown => {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            let stat = rustix::fs::statat(folder, entry.file_name(), flags)?;
            Ok(FileType::from_raw_mode(stat.st_mode))
        }
        known => Ok(known),
    }
}

fn disk(root: &Path, path: &str, error: rustix::io::Errno) -> RevisionError {
    RevisionError::Disk { path: root.join(path), error: io::Error::from(error) }
}
