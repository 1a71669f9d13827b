//! What a PostgreSQL server archives by itself (its documentation, "Continuous Archiving"): files of its log are taken in, durably
//! and once, until captures have stored them, and given out again.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::{
    sources::{ARCHIVE, close_archive, open_archive},
    spec::{
        Spec,
        names::{BackupName, FolderName},
    },
};

/// No file of a log is larger than this, bytes.
const LARGEST: u64 = 1 << 30;
/// How much is read at a time, bytes.
const PIECE: usize = 1 << 20;

/// A file that was not taken in or given out. PostgreSQL keeps what was not taken, and tries again.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The name is none of a file of a log.
    #[error(
        "failed to use {0:?}: it is no name of a file of PostgreSQL's log; give what %f or %p stands for"
    )]
    Name(String),
    /// Nothing says that this log is to be archived here.
    #[error(
        "failed to archive the log of {backup}: no revision in force declares `log_from = \"archive\"` for it, as far as this host \
         knows; commit that, and let a pass look: backstay apply"
    )]
    Undeclared {
        /// The backup.
        backup: BackupName,
    },
    /// There is another file of this name.
    #[error(
        "failed to archive {name} of {backup}: another file of that name is in {}; is that another cluster's? then move it away",
        folder.display()
    )]
    Different {
        /// The file.
        name: String,
        /// The backup.
        backup: BackupName,
        /// Where.
        folder: PathBuf,
    },
    /// There is no more room.
    #[error(
        "failed to archive the log of {backup}: {held} of it are here that no store has yet, and it may be {most} (`[readers] \
         max_spool`); see why its log is not captured: backstay status {backup}"
    )]
    Full {
        /// The backup.
        backup: BackupName,
        /// How much is there.
        held: bytesize::ByteSize,
        /// How much may be.
        most: bytesize::ByteSize,
    },
    /// Neither this host nor a store has it. PostgreSQL asks for more than there is, and goes by that.
    #[error("failed to fetch {name} of {backup}: it is neither on this host nor in a store{}", unseen.as_deref().unwrap_or_default())]
    Missing {
        /// The file.
        name: String,
        /// The backup.
        backup: BackupName,
        /// What could not be looked at.
        unseen: Option<String>,
    },
    /// The file system said no.
    #[error("failed to {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What became of a file that was to be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was.
    Taken,
    /// The very same was there.
    Known,
}

/// Makes the archives that a declaration asks for in `spools`, and takes the others out of use. Every fault is told.
pub fn keep(spools: &Path, spec: &Spec) -> Vec<ArchiveError> {
    let declared = spec.backups.iter().filter(|(_, backup)| backup.source.has_archive());
    let declared: BTreeSet<FolderName> = declared.map(|(name, _)| spec.moved.folder(name)).collect();
    let open = declared.iter().map(|folder| {
        let spool = spools.join(folder.as_str());
        open_archive(&spool).map_err(at("make the archive in", &spool))
    });
    let found = fs::read_dir(spools).into_iter().flatten().flatten().map(|entry| entry.path());
    let others = found.filter(|spool| {
        let folder = spool.file_name().and_then(|name| name.to_str()?.parse::<FolderName>().ok());
        folder.is_none_or(|folder| !declared.contains(&folder)) && spool.join(ARCHIVE).is_dir()
    });
    let close = others.map(|spool| close_archive(&spool).map_err(at("close the archive in", &spool)));
    open.chain(close.collect::<Vec<_>>()).filter_map(Result::err).collect()
}

/// Takes a file into the archive of a backup, whose spool may hold `most` bytes. It is durable once this returns.
///
/// # Errors
/// [`ArchiveError`]; then nothing was taken.
pub fn push(spool: &Path, backup: &BackupName, path: &Path, most: u64) -> Result<Pushed, ArchiveError> {
    let name = file_name(path)?;
    let folder = spool.join(ARCHIVE);
    if !folder.is_dir() {
        return Err(ArchiveError::Undeclared { backup: backup.clone() });
    }
    let place = folder.join(&name);
    if place.exists() {
        return known(path, &place, backup);
    }
    let held = size(spool).map_err(at("look into", spool))?;
    if held >= most {
        let (held, most) = (bytesize::ByteSize(held), bytesize::ByteSize(most));
        return Err(ArchiveError::Full { backup: backup.clone(), held, most });
    }
    let copied = copy(path, &folder)?;
    match copied.persist_noclobber(&place) {
        Ok(_) => {
            sync(&folder)?;
            Ok(Pushed::Taken)
        }
        // Another process was quicker.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => known(path, &place, backup),
        Err(error) => Err(at("write", &place)(error.error)),
    }
}

/// Gives a file out of what is on this host, to `to`, which is seen only whole; `false` where it is not there.
///
/// # Errors
/// [`ArchiveError::Io`].
pub fn give(spool: &Path, name: &str, to: &Path) -> Result<bool, ArchiveError> {
    let Ok(found) = fs::read_dir(spool) else { return Ok(false) };
    let mut folders: Vec<PathBuf> = found.flatten().map(|entry| entry.path()).collect();
    // The archive, and then what readers left.
    folders.sort_unstable();
    let Some(place) = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()) else {
        return Ok(false);
    };
    let copied = copy(&place, folder_of(to))?;
    copied.persist(to).map_err(|error| at("write", to)(error.error))?;
    sync(folder_of(to))?;
    Ok(true)
}

/// The name of a file of a log: of a segment, also of one that is not complete, of a backup's history, or of a timeline's
/// (PostgreSQL's `xlog_internal.h`).
///
/// # Errors
/// [`ArchiveError::Name`].
pub fn file_name(path: &Path) -> Result<String, ArchiveError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
    };
    let is_one = match name.split('.').collect::<Vec<_>>().as_slice() {
        [segment] | [segment, "partial"] => hex(segment, 24),
        [segment, place, "backup"] => hex(segment, 24) && hex(place, 8),
        [timeline, "history"] => hex(timeline, 8),
        _ => false,
    };
    if is_one { Ok(name) } else { Err(ArchiveError::Name(name)) }
}

/// Whether the file at a place is the very same; it is made durable then.
fn known(path: &Path, place: &Path, backup: &BackupName) -> Result<Pushed, ArchiveError> {
    let (mut one, mut other) = (
        File::open(path).map_err(at("read", path))?.take(LARGEST + 1),
        File::open(place).map_err(at("read", place))?,
    );
    let folder = place.parent().unwrap_or(Path::new(".")).to_owned();
    let (mut here, mut there) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let length = fill(&mut one, &mut here).map_err(at("read", path))?;
        let other = fill(&mut other, &mut there).map_err(at("read", place))?;
        if here[..length] != there[..other] {
            let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(ArchiveError::Different { name, backup: backup.clone(), folder });
        }
        if length == 0 {
            break;
        }
    }
    other.sync_all().map_err(at("sync", place))?;
    sync(&folder)?;
    Ok(Pushed::Known)
}

fn fill(file: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read(&mut piece[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

/// A durable copy in a folder, under a name of its own.
fn copy(path: &Path, folder: &Path) -> Result<NamedTempFile, ArchiveError> {
    let mut file = File::open(path).map_err(at("read", path))?.take(LARGEST + 1);
    let mut copied = tempfile::Builder::new()
        .prefix(".backstay-")
        .tempfile_in(folder)
        .map_err(at("write into", folder))?;
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        let length = fill(&mut file, &mut piece).map_err(at("read", path))?;
        if length == 0 {
            break;
        }
        total += length as u64;
        copied.write_all(&piece[..length]).map_err(at("write into", folder))?;
    }
    if total > LARGEST {
        let why = io::Error::other("it is larger than any file of a log");
        return Err(at("read", path)(why));
    }
    copied.as_file().sync_all().map_err(at("sync a file in", folder))?;
    Ok(copied)
}

fn sync(folder: &Path) -> Result<(), ArchiveError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at("sync", folder))
}

/// The folder that a path is in; of a bare name the one that the process is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        bytes += if found.is_dir() { size(&entry.path())? } else { found.len() };
    }
    Ok(bytes)
}

fn at(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> ArchiveError {
    move |source| ArchiveError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: &str = "00000001000000000000000A";
    const MOST: u64 = 1 << 30;

    fn orders() -> BackupName {
        "orders".parse().unwrap()
    }

    #[test]
    fn a_file_is_taken_once_and_another_of_its_name_never() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, file) = (folder.path().join("spool"), folder.path().join(SEGMENT));
        fs::write(&file, [1; 5000]).unwrap();
        fs::create_dir(&spool).unwrap();
        let undeclared = push(&spool, &orders(), &file, MOST).unwrap_err();
        assert!(matches!(undeclared, ArchiveError::Undeclared { .. }), "{undeclared}");
        open_archive(&spool).unwrap();
        assert_eq!(push(&spool, &orders(), &file, MOST).unwrap(), Pushed::Taken);
        assert_eq!(push(&spool, &orders(), &file, MOST).unwrap(), Pushed::Known);
        for other in [vec![2; 5000], vec![1; 4999], vec![1; 5001], Vec::new()] {
            fs::write(&file, other).unwrap();
            let different = push(&spool, &orders(), &file, MOST).unwrap_err();
            assert!(matches!(different, ArchiveError::Different { .. }), "{different}");
        }
        let taken = spool.join(ARCHIVE);
        assert_eq!(fs::read(taken.join(SEGMENT)).unwrap(), [1; 5000]);
        assert_eq!(fs::read_dir(&taken).unwrap().count(), 1, "nothing is left beside it");
        let next = folder.path().join("00000001000000000000000B");
        fs::write(&next, [3; 10]).unwrap();
        let full = push(&spool, &orders(), &next, 5000).unwrap_err();
        assert!(matches!(full, ArchiveError::Full { .. }), "{full}");

        let to = folder.path().join("to");
        assert!(give(&spool, SEGMENT, &to).unwrap() && fs::read(&to).unwrap() == [1; 5000]);
        assert!(!give(&spool, "00000001000000000000000C", &to).unwrap());
        close_archive(&spool).unwrap();
        assert!(give(&spool, SEGMENT, &to).unwrap(), "what is out of use is still given");
        assert!(push(&spool, &orders(), &next, MOST).is_err(), "and takes nothing");
    }

    #[test]
    fn only_files_of_a_log_are_taken() {
        for name in [
            SEGMENT,
            "00000001000000000000000A.partial",
            "0000000A.history",
            "00000001000000000000000A.00000028.backup",
        ] {
            assert_eq!(file_name(&Path::new("pg_wal").join(name)).unwrap(), name);
        }
        for bad in [
            "",
            "..",
            "postgresql.conf",
            "00000001000000000000000a",
            "00000001000000000000000A.done",
            "A.history",
        ] {
            assert!(file_name(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
