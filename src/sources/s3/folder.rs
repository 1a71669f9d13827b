//! A folder of an archive's current objects: a file for each, and a description of all that a file can't say.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, Timespec, Timestamps, futimens, mkdirat, openat, syncfs},
    io::Errno,
};
use serde::Serialize;

use super::{
    Failure,
    about::About,
    chosen::Chosen,
    names::{DESCRIPTION, Places},
};
use crate::sources::{
    aside::{self, Vacancy},
    beneath::Root,
    pax::{Reader, safe_name},
};

/// A line of the description.
#[derive(Serialize)]
struct Line<'a> {
    path: &'a str,
    /// Bytes.
    size: u64,
    #[serde(flatten)]
    about: &'a About,
}

/// Extracts the chosen objects of `archive` into `folder`, which is new or empty; returns how many.
pub(super) fn extract(archive: impl Read, folder: &Path, mut chosen: Chosen) -> Result<u64, Failure> {
    let before = Vacancy::of(folder);
    aside::new_folder(folder).map_err(|error| Failure::io("open", folder, error))?;
    let root = Root::open(folder).map_err(|error| Failure::io("open", folder, error))?;
    let description = create(&root, Path::new(DESCRIPTION))?;
    let mut extraction =
        Extraction { root, description: BufWriter::new(description), places: Places::default() };
    let (mut reader, mut count) = (Reader::new(archive), 0);
    while let Some(member) = reader.next().map_err(Failure::Stream)? {
        let about = About::of(&member)?;
        if chosen.takes(&about)? {
            extraction.object(&about, member.size, &mut reader)?;
            count += 1;
        }
    }
    match chosen.missing() {
        Some(missing) if !missing.others_found => {
            let removed = std::fs::remove_file(folder.join(DESCRIPTION));
            removed.map_err(|error| Failure::io("remove", Path::new(DESCRIPTION), error))?;
            before.restore();
            Err(Failure::Missing(missing))
        }
        missing => {
            extraction.finish()?;
            missing.map_or(Ok(count), |missing| Err(Failure::Missing(missing)))
        }
    }
}

struct Extraction {
    root: Root,
    description: BufWriter<File>,
    places: Places,
}

impl Extraction {
    fn object(&mut self, about: &About, size: u64, content: &mut impl Read) -> Result<(), Failure> {
        let path = self.places.place(&about.key);
        let safe = safe_name(path.as_bytes())
            .ok_or_else(|| Failure::Refused(format!("`{}` could escape", path.escape_debug())))?;
        let failed = |error| Failure::io("write", safe, error);
        let mut file = create(&self.root, safe)?;
        let copied =
            io::copy(&mut content.take(size), &mut Separated(&mut file)).map_err(|error| {
                match error.get_ref().is_some_and(|inner| inner.is::<WriteFailed>()) {
                    true => failed(error),
                    false => Failure::Stream(error),
                }
            })?;
        if copied < size {
            return Err(Failure::Stream(io::ErrorKind::UnexpectedEof.into()));
        }
        let (second, nano) = (about.last_modified.as_second(), about.last_modified.subsec_nanosecond());
        let time = Timespec { tv_sec: second, tv_nsec: nano.into() };
        futimens(&file, &Timestamps { last_access: time, last_modification: time })
            .map_err(|error| failed(error.into()))?;
        self.describe(&Line { path: &path, size, about })
    }

    fn describe(&mut self, line: &Line<'_>) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.description, line).map_err(io::Error::from);
        let written = written.and_then(|()| self.description.write_all(b"\n"));
        written.map_err(|error| Failure::io("write", Path::new(DESCRIPTION), error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        let flushed = self.description.flush().and_then(|()| Ok(syncfs(&self.root)?));
        flushed.map_err(|error| Failure::io("sync", Path::new("the restored objects"), error))
    }
}

/// Tells a failed write from a failed read of what is copied.
struct Separated<'a>(&'a mut File);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WriteFailed(io::Error);

impl Write for Separated<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => io::Error::other(WriteFailed(error)),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A new file beneath the root, in folders that are made where they are missing.
fn create(root: &Root, path: &Path) -> Result<File, Failure> {
    let made = open_or_make(root, path.parent().unwrap_or(Path::new(""))).and_then(|folder| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = path.file_name().unwrap_or_default();
        Ok(File::from(openat(&folder, name, flags, Mode::from_raw_mode(0o600))?))
    });
    made.map_err(|error| Failure::io("create", path, error))
}

fn open_or_make(root: &Root, folder: &Path) -> io::Result<OwnedFd> {
    match root.folder(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let mut made = PathBuf::new();
    for part in folder.components() {
        let above = root.folder(&made)?;
        match mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => made.push(part),
            Err(error) => return Err(error.into()),
        }
    }
    root.folder(folder)
}
