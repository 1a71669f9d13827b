//! Single objects: put, read, looked at, deleted.

use std::ops::Range;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use openssh_sftp_client::{
    file::File,
    metadata::{MetaData, Permissions},
};

use super::{
    super::{Put, Stat, extent::extent},
    Place,
    fault::Fault,
    session::Session,
    transfer,
};
use crate::artifact::layout::ObjectName;

/// Where files are written aside. No object's name: those have no part that begins with `.`.
const ASIDE: &str = ".backstay-tmp";

/// How old a file written aside must be, by the host's clock, to count as left by a dead writer.
const STALE: SignedDuration = SignedDuration::from_hours(24);

/// How often a put makes its folder again after a deletion removed it as empty.
const FOLDER_ATTEMPTS: usize = 64;

/// Flag of a read-only file system in an answer to `statvfs@openssh.com`.
const ST_RDONLY: u64 = 1;

/// Creates `name` with `content` unless it exists; durable on return.
pub(super) async fn put(
    place: &Place,
    session: &Session,
    name: &ObjectName,
    content: Bytes,
) -> Result<Put, Fault> {
    if stat(place, session, name).await?.is_some() {
        return Ok(Put::Existed);
    }
    let (path, mut aside) = create_aside(place, session).await?;
    let put = write_and_link(place, session, name, &content, &path, &mut aside).await;
    let put = match put {
        Err(Fault::Failure) => Err(why(place, session, content.len() as u64).await),
        put => put,
    };
    // Closed before it is removed: requests are served in order.
    drop(aside);
    if !put.as_ref().is_err_and(Fault::breaks_session) {
        // Left behind, it is removed once it is stale.
        let _ = session.answer(session.fs().remove_file(&path)).await;
    }
    put
}

async fn write_and_link(
    place: &Place,
    session: &Session,
    name: &ObjectName,
    content: &Bytes,
    path: &str,
    aside: &mut File,
) -> Result<Put, Fault> {
    transfer::write(session, aside, content).await?;
    session.answer(aside.sync_all()).await?;
    let put = link(place, session, path, name).await?;
    // Folders can't be synced over SFTP. Syncing the file once more, after it got its name, has the journals of ext4,
    // xfs and btrfs make the name durable, too.
    session.answer(aside.sync_all()).await?;
    Ok(put)
}

/// Gives the file at `path` the object's name unless something has it.
async fn link(place: &Place, session: &Session, path: &str, name: &ObjectName) -> Result<Put, Fault> {
    let object = place.path(name.as_str());
    for _ in 0..FOLDER_ATTEMPTS {
        match session.answer(session.fs().hard_link(path, &object)).await {
            Ok(()) => return Ok(Put::Created),
            Err(Fault::Absent) => {}
            Err(Fault::Failure) if stat(place, session, name).await?.is_some() => return Ok(Put::Existed),
            Err(fault) => return Err(fault),
        }
        match make_folders(place, session, name).await {
            // A deletion may remove each of them as empty before its child is made, or looked at.
            Ok(()) | Err(Fault::Absent | Fault::Failure) => {}
            Err(fault) => return Err(fault),
        }
    }
    Err(Fault::Failure)
}

/// Makes the folders of `name`, not the store's own.
async fn make_folders(place: &Place, session: &Session, name: &ObjectName) -> Result<(), Fault> {
    let name = name.as_str();
    for (end, _) in name.match_indices('/') {
        make_folder(session, &place.path(&name[..end])).await?;
    }
    Ok(())
}

async fn make_folder(session: &Session, path: &str) -> Result<(), Fault> {
    let mut fs = session.fs();
    let mut builder = fs.dir_builder();
    match session.answer(builder.permissions(Permissions::from(0o700)).create(path)).await {
        // The protocol has no answer of its own for what exists.
        Err(Fault::Failure) if is_folder(session, path).await? => Ok(()),
        made => made,
    }
}

async fn is_folder(session: &Session, path: &str) -> Result<bool, Fault> {
    match session.answer(session.fs().symlink_metadata(path)).await {
        Ok(found) => Ok(found.file_type().is_some_and(|kind| kind.is_dir())),
        Err(Fault::Absent) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// A new file written aside, its owner's only.
async fn create_aside(place: &Place, session: &Session) -> Result<(String, File), Fault> {
    let path = place.path(&format!("{ASIDE}/{:016x}", rand::random::<u64>()));
    let mut options = session.options();
    options.read(true).write(true).create_new(true);
    let mut file = match session.answer(options.open(&path)).await {
        Err(Fault::Absent) => {
            absent(place, session).await?;
            make_folder(session, &place.path(ASIDE)).await?;
            session.answer(options.open(&path)).await
        }
        file => file,
    };
    if let Err(Fault::Failure) = file {
        file = Err(why(place, session, 0).await);
    }
    let mut file = file?;
    place.set_known();
    session.answer(file.set_permissions(Permissions::from(0o600))).await?;
    if place.sweeps_now() {
        remove_stale(place, session, &mut file).await?;
    }
    Ok((path, file))
}

/// Removes files of dead writers: those that are old by the clock which dated `newest`.
async fn remove_stale(place: &Place, session: &Session, newest: &mut File) -> Result<(), Fault> {
    let now = modified(&session.answer(newest.metadata()).await?);
    for entry in super::walk::entries(session, &place.path(ASIDE)).await? {
        if now.duration_since(modified(&entry.metadata())) > STALE {
            let path = place.path(&format!("{ASIDE}/{}", entry.filename().display()));
            // Another one may remove it as well.
            let _ = session.answer(session.fs().remove_file(path)).await;
        }
    }
    Ok(())
}

/// Reads an object.
pub(super) async fn get(
    place: &Place,
    session: &Session,
    name: &ObjectName,
    range: Option<Range<u64>>,
    limit: u64,
) -> Result<Bytes, Fault> {
    let path = place.path(name.as_str());
    let mut options = session.options();
    options.read(true);
    let (stat, file) = futures::join!(stat(place, session, name), session.answer(options.open(&path)));
    let stat = stat?.ok_or(Fault::NoObject)?;
    let range = extent(stat.size, range, limit)?;
    let file = match file {
        Err(Fault::Absent) => return Err(Fault::NoObject),
        file => file?,
    };
    transfer::read(session, &file, range).await
}

/// Looks at an object.
pub(super) async fn stat(place: &Place, session: &Session, name: &ObjectName) -> Result<Option<Stat>, Fault> {
    let found = match session.answer(session.fs().symlink_metadata(place.path(name.as_str()))).await {
        Err(Fault::Absent) => return absent(place, session).await.map(|()| None),
        found => found?,
    };
    match found.file_type() {
        Some(kind) if kind.is_dir() => Ok(None),
        Some(kind) if kind.is_symlink() => Err(Fault::Link(name.to_string())),
        Some(kind) if kind.is_file() => {
            let size = found.len().ok_or_else(|| Fault::Protocol("the server gives no sizes".into()))?;
            Ok(Some(Stat { size, modified: modified(&found), sha256: None }))
        }
        _ => Err(Fault::NotAFile(name.to_string())),
    }
}

/// Deletes an object, and the folders that are empty then.
pub(super) async fn delete(place: &Place, session: &Session, name: &ObjectName) -> Result<(), Fault> {
    match session.answer(session.fs().remove_file(place.path(name.as_str()))).await {
        Ok(()) => {}
        Err(Fault::Absent) => absent(place, session).await?,
        Err(Fault::Failure) => {
            // A folder of that name is no object.
            return match stat(place, session, name).await? {
                None => Ok(()),
                Some(_) => Err(why(place, session, 0).await),
            };
        }
        Err(fault) => return Err(fault),
    }
    let mut folder = name.as_str();
    while let Some((parent, _)) = folder.rsplit_once('/') {
        folder = parent;
        match session.answer(session.fs().remove_dir(place.path(folder))).await {
            Ok(()) | Err(Fault::Absent) => {}
            Err(fault) if fault.breaks_session() => return Err(fault),
            // Not empty, or not ours to remove: the folder stays.
            Err(_) => break,
        }
    }
    Ok(())
}

/// The host's clock, to the second.
pub(super) async fn now(place: &Place, session: &Session) -> Result<Timestamp, Fault> {
    let (path, mut aside) = create_aside(place, session).await?;
    let dated = session.answer(aside.metadata()).await;
    drop(aside);
    session.answer(session.fs().remove_file(&path)).await?;
    Ok(modified(&dated?))
}

/// Whether what is not there is merely not there: fails when the store's own folder is missing, or has become another
/// one than was used before.
pub(super) async fn absent(place: &Place, session: &Session) -> Result<(), Fault> {
    if is_folder(session, &place.path(ASIDE)).await? {
        place.set_known();
        return Ok(());
    }
    let root = place.login.folder();
    if place.is_known() {
        return Err(Fault::RootChanged(root.to_owned()));
    }
    match session.answer(session.fs().metadata(if root.is_empty() { "/" } else { root })).await {
        Ok(found) if found.file_type().is_none_or(|kind| kind.is_dir()) => Ok(()),
        Ok(_) | Err(Fault::Absent) => Err(Fault::RootMissing(root.to_owned())),
        Err(fault) => Err(fault),
    }
}

/// Why the server, whose protocol has no words for it, failed to write `needed` bytes.
async fn why(place: &Place, session: &Session, needed: u64) -> Fault {
    if !session.can_statvfs() {
        return Fault::Failure;
    }
    match session.answer(session.fs().statvfs(place.path(""))).await {
        Ok(found) if found.flag & ST_RDONLY != 0 => Fault::ReadOnly,
        Ok(found) => match found.bavail.saturating_mul(found.frsize) {
            free if free <= needed || (found.files > 0 && found.favail == 0) => Fault::Full { free },
            _ => Fault::Failure,
        },
        Err(fault) => fault,
    }
}

/// When a file was written; the epoch where the server does not say.
pub(super) fn modified(found: &MetaData) -> Timestamp {
    let time = found.modified().map(|time| time.as_system_time());
    time.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}
