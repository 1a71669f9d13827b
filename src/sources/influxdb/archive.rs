//! The stream: a pax archive with a folder for each database, its bytes given by the files and the time of the capture
//! alone, those of a shard by the shard. Read back, it may hold nothing else than such folders.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path},
};

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::{Failure, names::DatabaseName, portable::Content};
use crate::sources::{
    Run, RunKey,
    blocking::Feed,
    pax::{Described, Head, Meta, Reader, padding, safe_name},
};

/// The size of the pieces that are handed on, bytes.
const CHUNK: usize = 128 * 1024;

/// Sends the folder of one database: first what is always new, with the time `second`, seconds since the Unix epoch; then
/// each shard as a run of its own, which the base's stands for where the shard has not changed.
pub(super) fn send(
    folder: &Path,
    database: &DatabaseName,
    files: &BTreeMap<String, Content>,
    second: i64,
    feed: &Feed,
) -> Result<(), Failure> {
    feed.run(None)?;
    feed.write(head(EntryType::Directory, &format!("{database}/"), 0, second).into())?;
    let is_new = |content: &Content| *content == Content::Notes;
    for (name, _) in files.iter().filter(|(_, content)| is_new(content)) {
        let (mut file, size) = opened(&folder.join(name))?;
        feed.write(head(EntryType::Regular, &format!("{database}/{name}"), size, second).into())?;
        content(&mut file, size, feed)?;
    }
    for (name, held) in files {
        let Content::Shard { digest, modified } = held else { continue };
        let (mut file, size) = opened(&folder.join(name))?;
        let head = head(EntryType::Regular, &format!("{database}/{name}"), size, *modified);
        if feed.run(Some(key(&head, digest)))? == Run::Wanted {
            feed.write(head.into())?;
            content(&mut file, size, feed)?;
        }
    }
    Ok(())
}

fn head(kind: EntryType, name: &str, size: u64, second: i64) -> Vec<u8> {
    let mode = if kind.is_dir() { 0o700 } else { 0o600 };
    let meta = Meta { mode, owner: (0, 0), modified: (second, 0) };
    Head { kind, name: name.as_bytes(), link: None, size, meta, records: &[] }.blocks()
}

fn opened(path: &Path) -> Result<(File, u64), Failure> {
    let file = File::open(path).map_err(Failure::Stage)?;
    let size = file.metadata().map_err(Failure::Stage)?.len();
    Ok((file, size))
}

/// A shard is the same where its name, its time, its sizes and its content before it was compressed are.
fn key(head: &[u8], digest: &[u8; 32]) -> RunKey {
    Sha256::new_with_prefix(b"backstay influxdb shard 1\0")
        .chain_update(head)
        .chain_update(digest)
        .finalize()
        .into()
}

/// Sends a file and what fills its last block.
fn content(file: &mut File, size: u64, feed: &Feed) -> Result<(), Failure> {
    let mut left = size;
    while left > 0 {
        let mut piece = BytesMut::zeroed(left.min(CHUNK as u64) as usize);
        file.read_exact(&mut piece).map_err(Failure::Stage)?;
        left -= piece.len() as u64;
        feed.write(piece.freeze())?;
    }
    Ok(feed.write(Bytes::from(vec![0; padding(size)]))?)
}

/// Extracts an archive into `root`, an empty folder, and returns whose folders it held, in their order.
pub(super) fn extract(archive: impl Read, root: &Path) -> Result<Vec<DatabaseName>, Failure> {
    let mut reader = Reader::new(archive);
    let mut databases = Vec::new();
    while let Some(member) = reader.next().map_err(Failure::Stream)? {
        match place(&member)? {
            Place::Database(name) => {
                DirBuilder::new().mode(0o700).create(root.join(name.as_str())).map_err(Failure::Stage)?;
                databases.push(name);
            }
            Place::File(name, file) if databases.last() == Some(&name) => {
                write(&mut reader, member.size, &root.join(name.as_str()).join(file))?;
            }
            Place::File(..) => return Err(odd(&member.name)),
        }
    }
    if databases.is_empty() {
        return Err(Failure::Incomplete("the stream holds no database".to_owned()));
    }
    let opened = File::open(root).map_err(Failure::Stage)?;
    rustix::fs::syncfs(&opened).map_err(|error| Failure::Stage(error.into()))?;
    Ok(databases)
}

/// Where a member belongs.
enum Place {
    Database(DatabaseName),
    File(DatabaseName, String),
}

fn place(member: &Described) -> Result<Place, Failure> {
    let refused = || odd(&member.name);
    let path = safe_name(&member.name).ok_or_else(refused)?;
    let parts: Option<Vec<&str>> = path
        .components()
        .map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    match (member.kind, parts.ok_or_else(refused)?.as_slice()) {
        (EntryType::Directory, [database]) => Ok(Place::Database(DatabaseName::parse(database)?)),
        (EntryType::Regular, [database, file]) => {
            Ok(Place::File(DatabaseName::parse(database)?, (*file).to_owned()))
        }
        _ => Err(refused()),
    }
}

fn odd(name: &[u8]) -> Failure {
    let shown: String = String::from_utf8_lossy(name).escape_debug().take(200).collect();
    Failure::Refused(format!("`{shown}` is no part of a portable backup"))
}

fn write(content: &mut impl Read, size: u64, path: &Path) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(Failure::Stage)?;
    let mut piece = vec![0; CHUNK];
    let mut left = size;
    while left > 0 {
        let wanted = left.min(CHUNK as u64) as usize;
        content.read_exact(&mut piece[..wanted]).map_err(Failure::Stream)?;
        io::Write::write_all(&mut file, &piece[..wanted]).map_err(Failure::Stage)?;
        left -= wanted as u64;
    }
    Ok(())
}

/// Removes what a failed extraction left in a folder that was empty before. The failure is the one to tell.
pub(super) fn clear(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let _ = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
            _ => fs::remove_file(entry.path()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::pax::TRAILER;

    fn archive(members: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, name, content) in members {
            let meta = Meta { mode: 0o4777, owner: (0, 0), modified: (0, 0) };
            let link = kind.is_symlink().then_some(&b"/etc"[..]);
            let size = content.len() as u64;
            bytes
                .extend(Head { kind: *kind, name: name.as_bytes(), link, size, meta, records: &[] }.blocks());
            bytes.extend(content.as_bytes());
            bytes.resize(bytes.len() + padding(size), 0);
        }
        bytes.extend(TRAILER);
        bytes
    }

    #[test]
    fn only_folders_of_databases_and_files_in_them_are_made() {
        use EntryType::{Directory, Regular, Symlink};
        let whole = [(Directory, "tele/", ""), (Regular, "tele/a.meta", "x"), (Directory, "ö db/", "")];
        let bad = [
            (Regular, "../out", ""),
            (Regular, "/tmp/out", ""),
            (Regular, "tele/../../out", ""),
            (Symlink, "tele/link", ""),
            (Symlink, "other", ""),
            (Regular, "file", ""),
            (Regular, "other/file", ""),
            (Regular, "tele/deep/file", ""),
            (Directory, "tele/deep", ""),
            (Regular, "tele/a.meta", "again"),
            (Directory, "tele/", ""),
        ];
        for bad in bad {
            let root = tempfile::tempdir().unwrap();
            let members = [whole[0], whole[1], bad];
            let refused = extract(archive(&members).as_slice(), root.path());
            assert!(matches!(refused, Err(Failure::Refused(_) | Failure::Stage(_))), "{bad:?}: {refused:?}");
            clear(root.path());
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "{bad:?}");
        }
        let root = tempfile::tempdir().unwrap();
        let whole = archive(&whole);
        extract(&whole[..whole.len() - 1024], root.path()).expect_err("it ends early");
        clear(root.path());
        let databases = extract(whole.as_slice(), root.path()).unwrap();
        assert_eq!(databases.iter().map(DatabaseName::as_str).collect::<Vec<_>>(), ["tele", "ö db"]);
        assert_eq!(fs::read(root.path().join("tele/a.meta")).unwrap(), b"x");
        extract(archive(&[]).as_slice(), root.path()).expect_err("it holds nothing");
    }
}
