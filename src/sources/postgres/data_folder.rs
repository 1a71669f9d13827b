//! A data folder from the tar of a base backup. The tar holds folders and files only: anything else is refused, so
//! that nothing can lead out of the folder.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Component, Path, PathBuf},
};

use tar::{Archive, Entry, EntryType};

use super::Failure;

/// The last member of a whole base backup.
const MANIFEST: &str = "backup_manifest";

/// Names what a folder is, for the server; nothing starts on a folder without it.
pub(super) const VERSION: &str = "PG_VERSION";

/// Files that tell a server to follow another, or to recover, when it starts.
const SIGNALS: [&str; 2] = ["standby.signal", "recovery.signal"];

/// Without it no server starts on a folder (PostgreSQL's documentation, "Database File Layout").
const CONTROL: &str = "global/pg_control";

/// Its name until all is in place.
const CONTROL_ASIDE: &str = "global/pg_control.backstay";

/// Lets no server start on a folder until [`release`].
pub(super) fn hold_back(folder: &Path) -> Result<(), Failure> {
    moved(folder, CONTROL, CONTROL_ASIDE)
}

/// Whether no server starts on a folder until [`release`].
pub(super) fn is_held_back(folder: &Path) -> bool {
    folder.join(CONTROL_ASIDE).exists()
}

/// Lets a server start on a folder, durably.
pub(super) fn release(folder: &Path) -> Result<(), Failure> {
    moved(folder, CONTROL_ASIDE, CONTROL)
}

fn moved(folder: &Path, from: &str, to: &str) -> Result<(), Failure> {
    let path = folder.join(from);
    let failed = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    fs::rename(&path, folder.join(to)).map_err(failed)?;
    let parent = path.parent().unwrap_or(folder);
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
}

/// Extracts `tar` into `folder`, which is new or empty. What failed is removed again.
pub(super) fn extract(tar: &mut dyn Read, folder: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::Refused(format!("{}: {error}", folder.display()));
    let is_new = match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            must_be_empty(folder)?;
            fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)?;
            false
        }
        Err(error) => return Err(failed(error)),
    };
    let extracted = unpack(tar, folder);
    if extracted.is_err() {
        clear(folder, is_new);
    }
    extracted.map(|()| folder.display().to_string())
}

fn must_be_empty(folder: &Path) -> Result<(), Failure> {
    let refused = |why: &dyn std::fmt::Display| Failure::Refused(format!("{}: {why}", folder.display()));
    if !folder.symlink_metadata().map_err(|error| refused(&error))?.is_dir() {
        return Err(refused(&"it exists, and is no folder"));
    }
    match fs::read_dir(folder).map_err(|error| refused(&error))?.next() {
        None => Ok(()),
        Some(_) => Err(refused(&"it is not empty")),
    }
}

/// Removes what was extracted. The failure that made it useless is the one to tell.
fn clear(folder: &Path, is_new: bool) {
    if is_new {
        let _ = fs::remove_dir_all(folder);
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let _ = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
    }
}

fn unpack(tar: &mut dyn Read, folder: &Path) -> Result<(), Failure> {
    let mut archive = Archive::new(tar);
    let mut last = PathBuf::new();
    let mut owner = None;
    for entry in archive.entries().map_err(Failure::Stream)? {
        let mut entry = entry.map_err(Failure::Stream)?;
        last = inside(&entry)?;
        if last == Path::new(VERSION) {
            owner = Some(owner_of(&entry)?);
        }
        // A restored cluster follows no other server, and recovers to nothing that its own was told.
        if !SIGNALS.iter().any(|signal| last == Path::new(signal)) {
            let is_control = last == Path::new(CONTROL);
            let path = if is_control { folder.join(CONTROL_ASIDE) } else { folder.join(&last) };
            member(&mut entry, &path)?;
        }
    }
    // What follows the closing blocks is read, too: only the end of the stream proves that it is whole.
    io::copy(archive.into_inner(), &mut io::sink()).map_err(Failure::Stream)?;
    let (Some((user, group)), true) = (owner, last == Path::new(MANIFEST)) else {
        return Err(Failure::Incomplete("the base backup ends without its manifest".to_owned()));
    };
    if !is_held_back(folder) {
        return Err(Failure::Incomplete(format!("the base backup has no {CONTROL}")));
    }
    let failed = |error: io::Error| Failure::Stream(error);
    let opened = File::open(folder).map_err(failed)?;
    if rustix::process::geteuid().is_root() {
        fchown(&opened, Some(user), Some(group)).map_err(failed)?;
    }
    rustix::fs::syncfs(&opened).map_err(|error| failed(error.into()))?;
    release(folder)
}

/// The path of a member beneath the folder.
fn inside(entry: &Entry<'_, &mut dyn Read>) -> Result<PathBuf, Failure> {
    let path = entry.path().map_err(Failure::Stream)?.into_owned();
    let is_inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if is_inside { Ok(path.components().collect()) } else { Err(odd(&path, "could escape")) }
}

fn odd(path: &Path, why: &str) -> Failure {
    Failure::Refused(format!("`{}` in the base backup {why}", path.to_string_lossy().escape_debug()))
}

/// Owners of the server that was captured count only where this process may give files away.
fn owner_of(entry: &Entry<'_, &mut dyn Read>) -> Result<(u32, u32), Failure> {
    let header = entry.header();
    let number = |value: io::Result<u64>| {
        value.map_err(Failure::Stream).and_then(|id| {
            u32::try_from(id)
                .map_err(|_| Failure::Stream(io::Error::other("an owner is no number of 32 bits")))
        })
    };
    Ok((number(header.uid())?, number(header.gid())?))
}

fn member(entry: &mut Entry<'_, &mut dyn Read>, path: &Path) -> Result<(), Failure> {
    let mode = entry.header().mode().map_err(Failure::Stream)?;
    let owner = owner_of(entry)?;
    let failed = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    let made = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            let mut options = OpenOptions::new();
            let options = options.write(true).create_new(true).mode(mode & 0o640);
            let mut file = options.open(path).map_err(failed)?;
            // A damaged stream and a full disk look alike here; both say what they are.
            io::copy(entry, &mut file).map_err(Failure::Stream)?;
            file
        }
        EntryType::Directory => {
            DirBuilder::new().mode(mode & 0o750).create(path).map_err(failed)?;
            File::open(path).map_err(failed)?
        }
        _ => return Err(odd(path, "is neither file nor folder")),
    };
    if rustix::process::geteuid().is_root() {
        fchown(&made, Some(owner.0), Some(owner.1)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, EntryType)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind) in members {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(0);
            header.set_mode(0o700);
            header.set_uid(rustix::process::geteuid().as_raw().into());
            header.set_gid(rustix::process::getegid().as_raw().into());
            if kind.is_symlink() {
                header.set_link_name("/etc").unwrap();
            }
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn only_files_and_folders_beneath_the_folder_are_made_and_a_failure_leaves_nothing() {
        use EntryType::{Directory, Regular, Symlink};
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path().join("data");
        let whole = [
            ("base", Directory),
            ("base/1", Regular),
            (VERSION, Regular),
            ("global", Directory),
            (CONTROL, Regular),
            (MANIFEST, Regular),
        ];
        for bad in [("../out", Regular), ("/tmp/out", Regular), ("link", Symlink), ("base/1", Regular)] {
            let mut members = whole.to_vec();
            members.insert(2, bad);
            let refused = extract(&mut archive(&members).as_slice(), &place);
            assert!(matches!(refused, Err(Failure::Refused(_))), "{bad:?}: {refused:?}");
            assert!(!place.exists(), "{bad:?}");
        }
        extract(&mut archive(&whole[..5]).as_slice(), &place).expect_err("it has no manifest");
        extract(&mut archive(&[&whole[..4], &whole[5..]].concat()).as_slice(), &place)
            .expect_err("it has no control file");
        extract(&mut archive(&whole).as_slice(), &place).unwrap();
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
        extract(&mut archive(&whole).as_slice(), &place).expect_err("it is not empty");
        assert!(place.join("base/1").exists(), "a refusal changes nothing");
        assert!(place.join(CONTROL).exists() && !is_held_back(&place));
        hold_back(&place).unwrap();
        assert!(!place.join(CONTROL).exists() && is_held_back(&place), "no server starts on it");
    }
}
