//! Members of the archive as bytes. Whatever happens to a file while it is read, the archive stays one that every tar
//! reads, and what did not go as it should is said.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
};

use bytes::BytesMut;
use rustix::{
    fs::{FileType, OFlags, XattrFlags, fgetxattr, flistxattr, fstat},
    io::Errno,
};
use tar::EntryType;

use super::{
    Failure,
    runs::Member,
    walk::{Entry, Status, What, absolute},
};
use crate::sources::{
    beneath::Root,
    blocking::{Feed, Unwanted},
    grouping::BIG,
    pax::{Head, Records, padding},
};

/// The size of the pieces that are handed on, bytes.
const CHUNK: usize = 128 * 1024;

/// How often a small file that changes while it is read is read again.
const ATTEMPTS: u32 = 4;

/// The largest list of attributes, and the largest value, that Linux keeps, bytes.
const LARGEST_ATTRIBUTE: usize = 64 * 1024;

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is in the archive as it was, with so many bytes of content.
    Whole(u64),
    /// It is in the archive, but changed while it was read.
    Changed(u64),
    /// It was gone before it could be read, and is not in the archive.
    Vanished,
}

/// Gathers small members into pieces.
pub(super) struct Out<'a> {
    feed: &'a Feed,
    piece: BytesMut,
}

impl<'a> Out<'a> {
    pub(super) fn new(feed: &'a Feed) -> Self {
        Self { feed, piece: BytesMut::with_capacity(CHUNK) }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Unwanted> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), Unwanted> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(CHUNK));
        self.feed.write(piece.freeze())
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), Unwanted> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while count > 0 {
            let now = count.min(ZEROS.len() as u64);
            self.write(&ZEROS[..now as usize])?;
            count -= now;
        }
        Ok(())
    }
}

/// Sends one member.
pub(super) fn send(root: &Root, member: &Member, out: &mut Out) -> Result<Sent, Failure> {
    let entry = &member.entry;
    let name = entry.path.as_os_str().as_bytes();
    let head = |kind, link| Head { kind, name, link, size: 0, meta: entry.status.meta(), records: &[] };
    match (&entry.what, &member.link_to) {
        (What::File, None) => return send_file(root, entry, out),
        (What::File, Some(first)) => out.write(&head(EntryType::Link, Some(first)).blocks())?,
        (What::Link(target), _) => out.write(&head(EntryType::Symlink, Some(target)).blocks())?,
        (What::Folder, _) => return send_folder(root, entry, out),
        (What::Special(_) | What::Vanished, _) => return Ok(Sent::Vanished),
    }
    Ok(Sent::Whole(0))
}

fn send_folder(root: &Root, entry: &Entry, out: &mut Out) -> Result<Sent, Failure> {
    let attributes = match root.folder(&entry.path) {
        Ok(folder) => attributes(&folder),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let attributes = attributes.map_err(|error| Failure::io("read folder", &absolute(&entry.path), error))?;
    let name = [entry.path.as_os_str().as_bytes(), b"/"].concat();
    let (kind, meta) = (EntryType::Directory, entry.status.meta());
    out.write(&Head { kind, name: &name, link: None, size: 0, meta, records: &attributes }.blocks())?;
    Ok(Sent::Whole(0))
}

fn send_file(root: &Root, entry: &Entry, out: &mut Out) -> Result<Sent, Failure> {
    let failed = |error| Failure::io("read", &absolute(&entry.path), error);
    // A fifo that took the file's place must not be waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = match root.open_beneath(&entry.path, flags) {
        Ok(file) => File::from(file),
        Err(error) if is_gone(&error) => return vanished(entry),
        Err(error) => return Err(failed(error)),
    };
    let Some(status) = status(&file).map_err(failed)? else { return vanished(entry) };
    let attributes = attributes(&file).map_err(failed)?;
    if status.size < BIG {
        send_small(entry, &mut file, &attributes, out)
    } else {
        send_big(entry, &mut file, &status, &attributes, out)
    }
}

/// Reads the file until nothing changed meanwhile.
fn send_small(entry: &Entry, file: &mut File, attributes: &Records, out: &mut Out) -> Result<Sent, Failure> {
    let failed = |error| Failure::io("read", &absolute(&entry.path), error);
    let mut content = Vec::new();
    let (mut before, mut settled) = (Status::default(), false);
    for _ in 0..ATTEMPTS {
        before = status(file).map_err(failed)?.unwrap_or(entry.status);
        content.clear();
        io::Seek::rewind(file).map_err(failed)?;
        // A file that grows for ever ends here, too.
        file.take(4 * BIG).read_to_end(&mut content).map_err(failed)?;
        let after = status(file).map_err(failed)?.unwrap_or(entry.status);
        settled = after == before && content.len() as u64 == before.size;
        if settled {
            break;
        }
    }
    let size = content.len() as u64;
    let name = entry.path.as_os_str().as_bytes();
    let head =
        Head { kind: EntryType::Regular, name, link: None, size, meta: before.meta(), records: attributes };
    out.write(&head.blocks())?;
    out.write(&content)?;
    out.zeros(padding(size) as u64)?;
    Ok(if settled { Sent::Whole(size) } else { Sent::Changed(size) })
}

/// Sends exactly as many bytes as the header promises, whatever becomes of the file.
fn send_big(
    entry: &Entry,
    file: &mut File,
    before: &Status,
    attributes: &Records,
    out: &mut Out,
) -> Result<Sent, Failure> {
    let failed = |error| Failure::io("read", &absolute(&entry.path), error);
    let name = entry.path.as_os_str().as_bytes();
    let size = before.size;
    let head =
        Head { kind: EntryType::Regular, name, link: None, size, meta: before.meta(), records: attributes };
    out.write(&head.blocks())?;
    let mut left = size;
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let wanted = left.min(CHUNK as u64) as usize;
        match file.read(&mut chunk[..wanted]).map_err(failed)? {
            0 => break,
            length => {
                out.write(&chunk[..length])?;
                left -= length as u64;
            }
        }
    }
    out.zeros(left + padding(size) as u64)?;
    let after = status(file).map_err(failed)?;
    Ok(if left == 0 && after.as_ref() == Some(before) { Sent::Whole(size) } else { Sent::Changed(size) })
}

/// A file that goes while the tree is walked was deleted by somebody, unless other members are hard links to it.
fn vanished(entry: &Entry) -> Result<Sent, Failure> {
    if entry.status.links > 1 { Err(Failure::LinksLost(absolute(&entry.path))) } else { Ok(Sent::Vanished) }
}

fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::LOOP, Errno::NOTDIR, Errno::NXIO];
    error.raw_os_error().is_some_and(|code| gone.iter().any(|errno| errno.raw_os_error() == code))
}

/// `None` for what is no regular file.
fn status(file: &File) -> io::Result<Option<Status>> {
    let stat = fstat(file)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then(|| Status::from(&stat)))
}

/// In front of an attribute's name in the archive, as GNU tar and bsdtar write it.
pub(super) const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// The extended attributes that users set, as records.
fn attributes(file: impl std::os::fd::AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut list = [0_u8; 4096];
    let length = match flistxattr(&file, &mut list) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let names = list[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user."));
    let mut found = Vec::new();
    for name in names {
        let mut value = vec![0; LARGEST_ATTRIBUTE];
        match fgetxattr(&file, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                found.push(([ATTRIBUTE, name].concat(), value));
            }
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Sets what [`attributes`] read. A file system without them is no reason to fail a restore.
pub(super) fn set_attribute(file: impl std::os::fd::AsFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
