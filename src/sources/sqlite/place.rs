//! Putting an image in place: written aside, checked, and only then shown to anybody.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, backup::Backup, backup::StepResult};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::{Failure, LOCK_PATIENCE, inspect};
use crate::{
    scratch,
    sources::{
        Holds,
        existing::{self, Existing},
    },
};

/// Where an image goes.
#[derive(Clone, Debug)]
pub(super) enum Destination {
    /// A file that does not exist yet.
    New(PathBuf),
    /// A file in a folder that does not exist yet, or is empty.
    Inside(PathBuf),
    /// Over a database, or only where it has no rows.
    Original(PathBuf, Existing),
}

/// What SQLite keeps beside a database and would replay into whatever stands there.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Receives an image, and tells where it is.
pub(super) fn receive(image: &mut impl Read, destination: &Destination) -> Result<String, Failure> {
    match destination {
        Destination::New(path) => receive_new(image, path),
        Destination::Inside(path) => {
            let folder = parent(path)?;
            let empty = fs::read_dir(folder).map(|mut entries| entries.next().is_none());
            match empty {
                Ok(true) => {}
                Ok(false) => return Err(Failure::Refused(format!("{} is not empty", folder.display()))),
                Err(_) => fs::DirBuilder::new().mode(0o700).create(folder)?,
            }
            receive_new(image, path)
        }
        Destination::Original(path, existing) => receive_over(image, path, *existing),
    }
}

fn receive_new(image: &mut impl Read, path: &Path) -> Result<String, Failure> {
    refuse_what_exists(path)?;
    let (_aside, copy) = receive_aside(image, path)?;
    renameat_with(CWD, &copy, CWD, path, RenameFlags::NOREPLACE)?;
    File::open(parent(path)?)?.sync_all()?;
    Ok(path.display().to_string())
}

fn receive_over(image: &mut impl Read, path: &Path, existing: Existing) -> Result<String, Failure> {
    let (_aside, copy) = receive_aside(image, path)?;
    if existing == Existing::Refused
        && let Holds::Data(what) = inspect::holds(path)?
    {
        return Err(Failure::Refused(existing::by_now(&what)));
    }
    // Where nothing may be lost what is there is put aside: between a look and the lock somebody may write.
    if existing == Existing::Replaced && path.symlink_metadata().is_ok() {
        match write_into(&copy, path) {
            Ok(()) => return Ok(path.display().to_string()),
            Err(error) if is_beyond_writing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Ok(old) = path.symlink_metadata() {
        std::os::unix::fs::chown(&copy, Some(old.uid()), Some(old.gid()))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(old.mode() & 0o777))?;
    }
    let replaced = put_aside(path)?;
    renameat_with(CWD, &copy, CWD, path, RenameFlags::NOREPLACE)?;
    File::open(parent(path)?)?.sync_all()?;
    Ok(match replaced {
        Some(old) => format!("{} (what was there is kept as {})", path.display(), old.display()),
        None => path.display().to_string(),
    })
}

/// Writes the image into a private folder beside `path`, makes it durable and checks it.
fn receive_aside(image: &mut impl Read, path: &Path) -> Result<(TempDir, PathBuf), Failure> {
    let aside = scratch::folder_in(parent(path)?, ".backstay-")?;
    let copy = aside.path().join("image");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy)?;
    io::copy(image, &mut file)?;
    file.sync_all()?;
    check(&copy)?;
    Ok((aside, copy))
}

fn check(copy: &Path) -> Result<(), Failure> {
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let verdict = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
    match verdict.map_err(|error| Failure::Damaged(error.to_string()))? {
        sound if sound == "ok" => Ok(()),
        fault => Err(Failure::Damaged(fault)),
    }
}

/// Replaces the content of the database at `path` in one transaction of its own.
fn write_into(copy: &Path, path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let from = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut into = Connection::open_with_flags(path, flags)?;
    into.busy_timeout(LOCK_PATIENCE)?;
    into.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let backup = Backup::new(&from, &mut into)?;
    match backup.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("another connection holds a lock".to_owned()),
        )),
    }
}

/// Whether a database can't be restored by writing into it: it is damaged, or its pages have another size.
fn is_beyond_writing(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::ReadOnly))
}

/// Moves a database and what SQLite keeps beside it out of the way, into a new folder, where it stays.
fn put_aside(path: &Path) -> Result<Option<PathBuf>, Failure> {
    let present: Vec<PathBuf> = std::iter::once(path.to_owned())
        .chain(companions(path))
        .filter(|file| file.symlink_metadata().is_ok())
        .collect();
    if present.is_empty() {
        return Ok(None);
    }
    let prefix = format!("{}.replaced-", path.file_name().unwrap_or_default().to_string_lossy());
    let kept = scratch::folder_in(parent(path)?, &prefix)?.keep();
    for file in present {
        fs::rename(&file, kept.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(Some(kept))
}

fn refuse_what_exists(path: &Path) -> Result<(), Failure> {
    match std::iter::once(path.to_owned())
        .chain(companions(path))
        .find(|file| file.symlink_metadata().is_ok())
    {
        Some(file) => Err(Failure::Refused(format!("{} exists", file.display()))),
        None => Ok(()),
    }
}

fn companions(path: &Path) -> impl Iterator<Item = PathBuf> {
    let name = path.as_os_str().to_owned();
    COMPANIONS.iter().map(move |suffix| {
        let mut companion: OsString = name.clone();
        companion.push(suffix);
        companion.into()
    })
}

fn parent(path: &Path) -> Result<&Path, Failure> {
    path.parent().ok_or_else(|| Failure::Refused(format!("{} is no file in a folder", path.display())))
}
