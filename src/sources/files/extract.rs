//! Extraction: every member beneath one folder, whatever its name says and whatever links stand in the way.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, futimens, linkat,
        mkdirat, openat, renameat, symlinkat, syncfs, unlinkat, utimensat,
    },
    io::Errno,
    process::geteuid,
};
use tar::EntryType;

use super::{
    Failure,
    send::{ATTRIBUTE, set_attribute},
    walk::relative,
};
use crate::sources::{
    beneath::Root,
    pax::{Described, Reader, safe_name},
    selection::{Missing, Picks},
};

/// How much is written at once, bytes; where all of it is zeros, a hole is left.
const CHUNK: usize = 64 * 1024;

/// What extraction may do to what exists.
#[derive(Clone, Debug)]
pub(super) enum Existing {
    /// Everything is new.
    Refuse,
    /// Files and links at or below these absolute paths are replaced; nothing else is touched.
    Replace(Vec<PathBuf>),
}

/// Extracts an archive into `root`, or what `picks` select of it.
pub(super) fn extract(
    archive: impl Read,
    root: Root,
    existing: Existing,
    mut picks: Option<Picks>,
) -> Result<(), Failure> {
    let mut reader = Reader::new(archive);
    let mut extraction =
        Extraction { root, existing, folders: Vec::new(), above: HashMap::new(), parent: None };
    while let Some(member) = reader.next().map_err(Failure::Stream)? {
        match &mut picks {
            None => extraction.member(member, &mut reader)?,
            Some(picks) => extraction.picked(picks, member, &mut reader)?,
        }
    }
    extraction.finish()?;
    match picks.as_ref().and_then(|picks| Missing::among(picks.outcomes())) {
        Some(missing) => Err(Failure::Missing(missing)),
        None => Ok(()),
    }
}

/// What is set on a member after its content.
#[derive(Clone, Debug)]
struct Attributes {
    mode: Mode,
    owner: Option<(Uid, Gid)>,
    modified: Timestamps,
    extended: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Extraction {
    root: Root,
    existing: Existing,
    /// Folders get their attributes last: a folder that may not be written to, or its time, would not survive.
    folders: Vec<(PathBuf, Attributes)>,
    /// Folders that are not selected themselves, above what is: one that is missing is made as it was.
    above: HashMap<PathBuf, Attributes>,
    /// The folder of the previous member.
    parent: Option<(PathBuf, OwnedFd)>,
}

impl Extraction {
    /// A member, if it is selected.
    fn picked(
        &mut self,
        picks: &mut Picks,
        member: Described,
        content: &mut impl Read,
    ) -> Result<(), Failure> {
        if !picks.take(&member.name) {
            if member.kind.is_dir() && picks.reach_below(&member.name) {
                let path = Self::safe(&member.name)?;
                self.above.insert(path, Attributes::of(&member));
            }
            return Ok(());
        }
        match &member.link {
            Some(first) if member.kind == EntryType::Link && !picks.hold(first) => {
                let shown = |name: &[u8]| String::from_utf8_lossy(name).escape_debug().to_string();
                Err(Failure::Refused(format!(
                    "/{} is another name of /{}, where its content is; select that as well",
                    shown(&member.name),
                    shown(first)
                )))
            }
            _ => self.member(member, content),
        }
    }

    fn member(&mut self, member: Described, content: &mut impl Read) -> Result<(), Failure> {
        let path = self.permitted(&member.name)?;
        let attributes = Attributes::of(&member);
        let failed = |error| Failure::io("restore", &path, error);
        let name = path.file_name().unwrap_or(OsStr::new(".")).to_owned();
        self.enter_parent(&path).map_err(failed)?;
        let (_, parent) = self.parent.as_ref().expect("it was just entered");
        let replace = matches!(self.existing, Existing::Replace(_));
        match (member.kind, member.link) {
            (EntryType::Regular | EntryType::Continuous, _) => {
                self.file(parent, &name, content, member.size, &attributes).map_err(|failure| match failure {
                    Failure::Io { error, .. } => failed(error),
                    other => other,
                })
            }
            (EntryType::Directory, _) => {
                folder(parent, &name).map_err(failed)?;
                self.folders.push((path, attributes));
                Ok(())
            }
            (EntryType::Symlink, Some(target)) => {
                let made =
                    vacate(parent, &name, replace).and_then(|()| Ok(symlinkat(&target[..], parent, &name)?));
                made.and_then(|()| attributes.set_link(parent, &name)).map_err(failed)
            }
            (EntryType::Link, Some(first)) => {
                let first = self.permitted(&first)?;
                let made =
                    vacate(parent, &name, replace).and_then(|()| self.hard_link(&first, parent, &name));
                made.map_err(failed)
            }
            _ => Err(Failure::Refused(format!("{} is neither file, folder nor link", path.display()))),
        }
    }

    /// The place of a member, beneath the root and where this extraction may write.
    fn permitted(&self, name: &[u8]) -> Result<PathBuf, Failure> {
        let path = Self::safe(name)?;
        match &self.existing {
            Existing::Replace(within)
                if !within.iter().any(|allowed| path.starts_with(relative(allowed))) =>
            {
                let shown = path.display().to_string().escape_debug().to_string();
                Err(Failure::Refused(format!("`{shown}` is not below the declared paths")))
            }
            _ => Ok(path),
        }
    }

    /// The place of a member beneath the root.
    fn safe(name: &[u8]) -> Result<PathBuf, Failure> {
        let shown = || String::from_utf8_lossy(name).escape_debug().to_string();
        let path = safe_name(name).ok_or_else(|| Failure::Refused(format!("`{}` could escape", shown())))?;
        Ok(path.to_owned())
    }

    fn enter_parent(&mut self, path: &Path) -> io::Result<()> {
        let wanted = path.parent().unwrap_or(Path::new(""));
        if self.parent.as_ref().is_none_or(|(entered, _)| entered != wanted) {
            let folder = self.open_or_make(wanted)?;
            self.parent = Some((wanted.to_owned(), folder));
        }
        Ok(())
    }

    /// Opens a folder beneath the root; makes what is missing of it, as parents of declared paths may be.
    fn open_or_make(&mut self, folder_path: &Path) -> io::Result<OwnedFd> {
        match self.root.folder(folder_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let above = self.open_or_make(folder_path.parent().unwrap_or(Path::new("")))?;
        let described = self.above.get(folder_path);
        let mode = if described.is_some() { 0o700 } else { 0o755 };
        match mkdirat(&above, folder_path.file_name().unwrap_or_default(), Mode::from_raw_mode(mode)) {
            Ok(()) => self.folders.extend(described.map(|it| (folder_path.to_owned(), it.clone()))),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.root.folder(folder_path)
    }

    fn file(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        content: &mut impl Read,
        size: u64,
        attributes: &Attributes,
    ) -> Result<(), Failure> {
        let failed = |error| Failure::io("restore", Path::new(name), error);
        let aside = match self.existing {
            Existing::Refuse => name.to_owned(),
            Existing::Replace(_) => OsString::from(format!(".backstay-{:016x}", rand::random::<u64>())),
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, &aside, flags, Mode::from_raw_mode(0o600)).map_err(|e| failed(e.into()))?;
        let mut file = File::from(file);
        let written = fill(&mut file, content, size)
            .and_then(|()| attributes.set(&file).map_err(failed))
            .and_then(|()| match aside == name {
                true => Ok(()),
                false => renameat(parent, &aside, parent, name).map_err(|error| failed(error.into())),
            });
        if written.is_err() {
            // What is incomplete must not be taken for the file; the first error is the one that counts.
            let _ = unlinkat(parent, &aside, AtFlags::empty());
        }
        written
    }

    fn hard_link(&self, first: &Path, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let folder = self.root.folder(first.parent().unwrap_or(Path::new("")))?;
        let first = first.file_name().unwrap_or_default();
        Ok(linkat(&folder, first, parent, name, AtFlags::empty())?)
    }

    fn finish(self) -> Result<(), Failure> {
        for (path, attributes) in self.folders.iter().rev() {
            let set = self.root.folder(path).and_then(|folder| attributes.set(&folder));
            set.map_err(|error| Failure::io("restore folder", path, error))?;
        }
        syncfs(&self.root).map_err(|error| Failure::io("sync", Path::new("the restored files"), error.into()))
    }
}

fn folder(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => Ok(()),
        // Fails where something else than a folder is in the way.
        Err(Errno::EXIST) => openat(parent, name, flags, Mode::empty()).map(drop).map_err(io::Error::from),
        Err(error) => Err(error.into()),
    }
}

/// Removes a file or link that is to be replaced.
fn vacate(parent: &OwnedFd, name: &OsStr, replace: bool) -> io::Result<()> {
    if !replace {
        return Ok(());
    }
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes `size` bytes; runs of zeros become holes.
fn fill(file: &mut File, content: &mut impl Read, size: u64) -> Result<(), Failure> {
    let failed = |error| Failure::io("write", Path::new("a file"), error);
    let mut chunk = vec![0; CHUNK];
    let mut left = size;
    while left > 0 {
        let wanted = left.min(CHUNK as u64) as usize;
        content.read_exact(&mut chunk[..wanted]).map_err(Failure::Stream)?;
        if chunk[..wanted].iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(wanted as i64)).map_err(failed)?;
        } else {
            file.write_all(&chunk[..wanted]).map_err(failed)?;
        }
        left -= wanted as u64;
    }
    file.set_len(size).map_err(failed)
}

impl Attributes {
    /// Setuid and setgid are dropped; on folders, setgid only hands the folder's group on, and stays.
    fn of(member: &Described) -> Self {
        let kept = if member.kind.is_dir() { 0o3777 } else { 0o1777 };
        let (second, nano) = member.meta.modified;
        let time = Timespec { tv_sec: second, tv_nsec: nano.into() };
        let (user, group) = member.meta.owner;
        let attributes = member.records_under(ATTRIBUTE).filter(|(name, _)| name.starts_with(b"user."));
        Self {
            mode: Mode::from_raw_mode(member.meta.mode & kept),
            owner: geteuid().is_root().then(|| (Uid::from_raw(user), Gid::from_raw(group))),
            modified: Timestamps { last_access: time, last_modification: time },
            extended: attributes.map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        }
    }

    /// The owner first: a change of owner takes bits of the mode away.
    fn set(&self, file: impl AsFd) -> io::Result<()> {
        if let Some((user, group)) = self.owner {
            fchown(&file, Some(user), Some(group))?;
        }
        for (name, value) in &self.extended {
            set_attribute(&file, name, value)?;
        }
        fchmod(&file, self.mode)?;
        Ok(futimens(&file, &self.modified)?)
    }

    fn set_link(&self, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        if let Some((user, group)) = self.owner {
            chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(utimensat(parent, name, &self.modified, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// A folder for a restore: made when it does not exist, refused when it is not empty.
pub(super) fn new_folder(path: &Path) -> Result<Root, Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |error| Failure::io("open", path, error);
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if std::fs::read_dir(path).map_err(failed)?.next().is_some() {
                return Err(Failure::Refused(format!("{} is not empty", path.display())));
            }
        }
        Err(error) => return Err(failed(error)),
    }
    Root::open(path).map_err(failed)
}
