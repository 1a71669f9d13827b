//! The stream of a copy, `mbstream`, as it passes: which files it holds, that each of them is closed, and what the small ones
//! among them tell. Pure.
//!
//! A stream is a row of chunks, numbers little-endian (MariaDB's sources, `extra/mariabackup/xbstream.h`): the magic number,
//! flags (1 byte), a type (1), the length of a path (4), the path; and, where the type is `P`, a length (8), an offset (8), a
//! CRC-32 (4) and so many bytes of the file. A chunk of the type `E` closes its file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

use super::options;

/// What every chunk begins with.
pub(in super::super) const MAGIC: &[u8; 8] = b"XBSTCK01";

/// Magic number, flags, type, and the length of the path.
const HEADER: usize = 14;
/// Length, offset and checksum.
const EXTENT: usize = 20;
/// The longest path, bytes (`FN_REFLEN`).
const LONGEST_PATH: usize = 512;
/// The most files that are open at once.
const MOST_OPEN: usize = 10_000;
/// The most that is kept of a small file, bytes.
const LARGEST_KEPT: usize = options::LARGEST;
/// The most small files that a copy has.
const MOST_KEPT: usize = 16;
/// Links to tablespaces that lie elsewhere: a server that is started on the copy would follow them to the original.
const LINK: &str = ".isl";

/// What is wrong with a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    /// It can't be understood, or ends too soon.
    #[error("the copy's stream {0}")]
    Broken(String),
    /// It holds what it must not.
    #[error("the copy holds `{path}`, which {why}")]
    Refused {
        /// The file.
        path: String,
        /// Why not.
        why: &'static str,
    },
}

/// Looks at a stream as it passes.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    expect: Expect,
    /// The part of a header, path or extent that came so far.
    pending: Vec<u8>,
    open: BTreeSet<String>,
    kept: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Expect {
    #[default]
    Header,
    Path {
        kind: u8,
        length: usize,
    },
    Extent {
        path: String,
    },
    Payload {
        left: u64,
        path: String,
    },
}

impl Chunks {
    /// Looks at the next bytes, however they are cut.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> Result<(), Wrong> {
        while !bytes.is_empty() {
            if let Expect::Payload { left, path } = &mut self.expect {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                let (piece, rest) = bytes.split_at(length);
                if let Some(kept) = self.kept.get_mut(path.as_str()) {
                    let room = LARGEST_KEPT.saturating_sub(kept.len());
                    kept.extend_from_slice(&piece[..length.min(room)]);
                }
                *left -= length as u64;
                bytes = rest;
                if *left == 0 {
                    self.expect = Expect::Header;
                }
                continue;
            }
            let missing = self.expect.length().saturating_sub(self.pending.len());
            let (piece, rest) = bytes.split_at(missing.min(bytes.len()));
            self.pending.extend_from_slice(piece);
            bytes = rest;
            if self.pending.len() == self.expect.length() {
                let whole = std::mem::take(&mut self.pending);
                self.expect = self.next(&whole)?;
            }
        }
        Ok(())
    }

    /// The small files, once the stream has ended: proves that it is whole.
    pub(super) fn end(self) -> Result<BTreeMap<String, Vec<u8>>, Wrong> {
        if self.expect != Expect::Header || !self.pending.is_empty() {
            return Err(Wrong::Broken("ends in the middle of a chunk".to_owned()));
        }
        match self.open.first() {
            Some(open) => Err(Wrong::Broken(format!("ends in the middle of {open}"))),
            None => Ok(self.kept),
        }
    }

    fn next(&mut self, bytes: &[u8]) -> Result<Expect, Wrong> {
        let broken = |why: &str| Wrong::Broken(why.to_owned());
        match &self.expect {
            Expect::Header => {
                let rest =
                    bytes.strip_prefix(MAGIC).ok_or_else(|| broken("has no chunk where one begins"))?;
                let [_, kind, length @ ..] = rest else { return Err(broken("has a short chunk")) };
                let length = number(length);
                match usize::try_from(length) {
                    Ok(length @ 1..=LONGEST_PATH) => Ok(Expect::Path { kind: *kind, length }),
                    _ => Err(broken("names a file without a name, or with one that is too long")),
                }
            }
            Expect::Path { kind, .. } => {
                let kind = *kind;
                self.file(kind, &plain(bytes)?)
            }
            Expect::Extent { path } => match number(&bytes[..8]) {
                0 => Ok(Expect::Header),
                left => Ok(Expect::Payload { left, path: path.clone() }),
            },
            Expect::Payload { .. } => Err(broken("is out of step")),
        }
    }

    fn file(&mut self, kind: u8, path: &str) -> Result<Expect, Wrong> {
        match kind {
            b'P' => {
                if self.open.len() >= MOST_OPEN && !self.open.contains(path) {
                    return Err(Wrong::Broken(format!("opens over {MOST_OPEN} files at once")));
                }
                if self.open.insert(path.to_owned()) && is_small(path) {
                    self.keep(path)?;
                }
                Ok(Expect::Extent { path: path.to_owned() })
            }
            b'E' => {
                self.open.remove(path);
                Ok(Expect::Header)
            }
            other => Err(Wrong::Broken(format!("has a chunk of the unknown type {:?}", char::from(other)))),
        }
    }

    fn keep(&mut self, path: &str) -> Result<(), Wrong> {
        if self.kept.len() >= MOST_KEPT {
            return Err(Wrong::Broken(format!("tells of itself in over {MOST_KEPT} files")));
        }
        match self.kept.insert(path.to_owned(), Vec::new()) {
            None => Ok(()),
            Some(_) => Err(Wrong::Broken(format!("holds {path} twice"))),
        }
    }
}

impl Expect {
    fn length(&self) -> usize {
        match self {
            Expect::Header => HEADER,
            Expect::Path { length, .. } => *length,
            Expect::Extent { .. } => EXTENT,
            Expect::Payload { .. } => 0,
        }
    }
}

/// Whether a file tells of the copy itself: MariaDB renamed them in version 11.
fn is_small(path: &str) -> bool {
    let tells = ["xtrabackup_", "mariadb_backup_"].iter().any(|beginning| path.starts_with(beginning));
    path == options::OPTIONS || tells && !path.contains('/')
}

/// The path of a file beneath the folder that is copied.
fn plain(bytes: &[u8]) -> Result<String, Wrong> {
    let shown = || String::from_utf8_lossy(bytes).escape_debug().to_string();
    let refused = |why| Wrong::Refused { path: shown(), why };
    let path = std::str::from_utf8(bytes).map_err(|_| refused("is no text"))?;
    if path.chars().any(char::is_control) {
        return Err(refused("has a control character in its name"));
    }
    let path = path.strip_prefix("./").unwrap_or(path);
    let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !is_inside {
        return Err(refused("could lead out of the folder"));
    }
    if path.ends_with(LINK) {
        return Err(refused("leads to a table that lies outside the data folder (DATA DIRECTORY)"));
    }
    Ok(path.to_owned())
}

/// A number of up to eight bytes, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: u8, path: &str, content: Option<&[u8]>) -> Vec<u8> {
        let mut chunk =
            [MAGIC.as_slice(), &[0, kind], &(path.len() as u32).to_le_bytes(), path.as_bytes()].concat();
        if let Some(content) = content {
            chunk.extend((content.len() as u64).to_le_bytes());
            chunk.extend([0; 12]);
            chunk.extend(content);
        }
        chunk
    }

    fn file(path: &str, content: &[u8]) -> Vec<u8> {
        [chunk(b'P', path, Some(content)), chunk(b'E', path, None)].concat()
    }

    fn looked_at(stream: &[u8], piece: usize) -> Result<BTreeMap<String, Vec<u8>>, Wrong> {
        let mut chunks = Chunks::default();
        stream.chunks(piece).try_for_each(|piece| chunks.look(piece))?;
        chunks.end()
    }

    #[test]
    fn small_files_are_kept_however_the_stream_is_cut() {
        let two = [chunk(b'P', "xtrabackup_info", Some(b"uuid")), file("./shop/t.ibd", &[7; 5000])].concat();
        let stream =
            [two, chunk(b'P', "xtrabackup_info", Some(b" = 1")), chunk(b'E', "xtrabackup_info", None)]
                .concat();
        let kept = BTreeMap::from([("xtrabackup_info".to_owned(), b"uuid = 1".to_vec())]);
        for piece in [1, 7, 100, stream.len()] {
            assert_eq!(looked_at(&stream, piece).as_ref(), Ok(&kept), "{piece}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_short_or_is_none_is_not_whole() {
        let stream = [file("ibdata1", &[1; 300]), file("xtrabackup_info", b"x")].concat();
        assert!(looked_at(&stream, 64).is_ok());
        let closed = file("ibdata1", &[1; 300]).len();
        for length in (1..stream.len()).filter(|length| *length != closed) {
            assert!(matches!(looked_at(&stream[..length], 64), Err(Wrong::Broken(_))), "{length}");
        }
        assert!(matches!(looked_at(b"-- MariaDB dump 10.19", 64), Err(Wrong::Broken(_))));
        assert!(matches!(looked_at(&chunk(b'?', "a", None), 64), Err(Wrong::Broken(_))));
    }

    #[test]
    fn what_is_kept_is_bounded_and_of_the_copy_itself() {
        let beneath = looked_at(&file("xtrabackup_shop/t.ibd", b"rows"), 64).unwrap();
        assert!(beneath.is_empty(), "a database has any name");
        let files = |number: usize| {
            (0..number).flat_map(|n| file(&format!("xtrabackup_{n}"), b"x")).collect::<Vec<_>>()
        };
        assert_eq!(looked_at(&files(MOST_KEPT), 64).unwrap().len(), MOST_KEPT);
        assert!(matches!(looked_at(&files(MOST_KEPT + 1), 64), Err(Wrong::Broken(_))));
        let twice = file(options::OPTIONS, b"x").repeat(2);
        assert!(matches!(looked_at(&twice, 64), Err(Wrong::Broken(_))));
    }

    #[test]
    fn paths_that_could_lead_elsewhere_are_refused() {
        for path in ["/etc/passwd", "../out", "shop/../../out", "./../out", "a\nb", ".", "shop/t.isl"] {
            assert!(matches!(looked_at(&file(path, b"x"), 64), Err(Wrong::Refused { .. })), "{path}");
        }
        let long = "x".repeat(LONGEST_PATH + 1);
        assert!(matches!(looked_at(&file(&long, b"x"), 64), Err(Wrong::Broken(_))));
    }
}
