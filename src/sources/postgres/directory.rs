//! The dump of one database by several connections at once: the directory format of `pg_dump`. Its files are written aside first, for
//! they grow side by side; the stream is a tar of them, the table of contents first.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use tar::EntryType;

use super::Failure;
use crate::{
    sources::{
        blocking::Feed,
        pax::{Head, Meta, Reader, TRAILER, padding, safe_name},
    },
    spec::Jobs,
};

/// The file with the table of contents (PostgreSQL, `pg_backup_directory.c`).
const CONTENTS: &str = "toc.dat";

/// What a stream of this kind begins with: the name of its first file.
pub(super) const OPENING: &str = "toc.dat\0";

/// What the dump of the database `of` is called where it was made by so many jobs.
pub(super) fn name(of: &str, jobs: Jobs) -> String {
    let ending = if jobs == Jobs::ONE { "dump" } else { "dump.tar" };
    format!("{}.{ending}", of.replace('/', "_"))
}

/// From what size on a file begins a segment of its own, bytes.
const LARGE: u64 = 1 << 20;

/// The size of the pieces that are handed on, bytes.
const CHUNK: usize = 128 * 1024;

/// Sends the files of a dump, which are given the time `second`, seconds since the Unix epoch.
pub(super) fn send(folder: &Path, second: i64, feed: &Feed) -> Result<(), Failure> {
    for name in names(folder).map_err(Failure::Stage)? {
        let mut file = File::open(folder.join(&name)).map_err(Failure::Stage)?;
        let size = file.metadata().map_err(Failure::Stage)?.len();
        let meta = Meta { mode: 0o600, owner: (0, 0), modified: (second, 0) };
        let head =
            Head { kind: EntryType::Regular, name: name.as_bytes(), link: None, size, meta, records: &[] };
        // A table that did not change begins where it began; small ones are not worth a segment each.
        if size >= LARGE {
            feed.run(None)?;
        }
        feed.write(head.blocks().into())?;
        content(&mut file, size, feed)?;
    }
    feed.run(None)?;
    Ok(feed.write(Bytes::from_static(&TRAILER))?)
}

/// The names of a dump's files: the contents, and then the others in their order.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string();
        names.push(name.map_err(|name| io::Error::other(format!("a dump holds no file {name:?}")))?);
    }
    names.sort_unstable_by_key(|name| (name != CONTENTS, name.len(), name.clone()));
    Ok(names)
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

/// Extracts a stream into `folder`, which is empty.
pub(super) fn extract(stream: impl Read, folder: &Path) -> Result<(), Failure> {
    let mut reader = Reader::new(stream);
    while let Some(member) = reader.next().map_err(Failure::Stream)? {
        let name = (member.kind == EntryType::Regular).then(|| safe_name(&member.name).and_then(only));
        let Some(name) = name.flatten() else {
            let shown: String = String::from_utf8_lossy(&member.name).escape_debug().take(200).collect();
            return Err(Failure::Refused(format!("`{shown}` is no file of a dump")));
        };
        let path = folder.join(name);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(Failure::Stage)?;
        // The reader's own failures are the stream's.
        copy(&mut reader, member.size, &mut file)?;
    }
    Ok(())
}

fn copy(from: &mut impl Read, size: u64, to: &mut File) -> Result<(), Failure> {
    let mut piece = vec![0; CHUNK];
    let mut left = size;
    while left > 0 {
        let wanted = left.min(CHUNK as u64) as usize;
        from.read_exact(&mut piece[..wanted]).map_err(Failure::Stream)?;
        io::Write::write_all(to, &piece[..wanted]).map_err(Failure::Stage)?;
        left -= wanted as u64;
    }
    Ok(())
}

/// The name of a file that lies in no folder.
fn only(path: &Path) -> Option<PathBuf> {
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => Some(Path::new::<OsStr>(name).to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(members: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, name, content) in members {
            let (size, meta) = (content.len() as u64, Meta { mode: 0o4777, owner: (0, 0), modified: (0, 0) });
            let link = kind.is_symlink().then_some(&b"/etc"[..]);
            bytes
                .extend(Head { kind: *kind, name: name.as_bytes(), link, size, meta, records: &[] }.blocks());
            bytes.extend(content.as_bytes());
            bytes.resize(bytes.len() + padding(size), 0);
        }
        bytes.extend(TRAILER);
        bytes
    }

    #[test]
    fn the_contents_come_first_and_tables_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["10.dat", "9.dat", CONTENTS, "blobs.toc"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        assert_eq!(names(folder.path()).unwrap(), [CONTENTS, "9.dat", "10.dat", "blobs.toc"]);
        assert!(tar(&[(EntryType::Regular, CONTENTS, "")]).starts_with(OPENING.as_bytes()));
    }

    #[test]
    fn only_files_are_made_and_none_elsewhere() {
        use EntryType::{Directory, Regular, Symlink};
        let good = (Regular, CONTENTS, "x");
        for bad in [
            (Regular, "../out", ""),
            (Regular, "/tmp/out", ""),
            (Regular, "deep/9.dat", ""),
            (Directory, "deep", ""),
            (Symlink, "9.dat", ""),
            (Regular, CONTENTS, "again"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let refused = extract(tar(&[good, bad]).as_slice(), folder.path());
            assert!(matches!(refused, Err(Failure::Refused(_) | Failure::Stage(_))), "{bad:?}: {refused:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let whole = tar(&[good, (Regular, "9.dat", "y")]);
        extract(whole.as_slice(), folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join("9.dat")).unwrap(), b"y");
        let cut = extract(&whole[..1100], tempfile::tempdir().unwrap().path());
        assert!(matches!(cut, Err(Failure::Stream(_))), "{cut:?}");
    }
}
