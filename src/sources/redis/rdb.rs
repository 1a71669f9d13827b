//! The RDB file: a magic and version, facts of the server (auxiliary fields), data, the opcode of the end, and a
//! CRC-64 of all before it. Source of the format: Redis, `src/rdb.h`, `src/rdb.c` and `src/crc64.c`.

use std::collections::BTreeMap;

use crc_fast::{CrcAlgorithm, Digest};

/// `REDIS`, and four digits.
const MAGIC: usize = 9;

/// The first version of the format that ends in a checksum (Redis 2.6).
const OLDEST: u32 = 5;

/// The length of the checksum, bytes.
const CHECKSUM: usize = 8;

/// Precedes a fact.
const AUXILIARY: u8 = 0xfa;

/// Ends the data.
const END: u8 = 0xff;

/// How much of the beginning is kept to read facts from, bytes. They are few and short.
const HEAD: usize = 4096;

/// What a whole file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rdb {
    /// The version of the format.
    pub version: u32,
    /// Facts, by name, such as `ctime`.
    pub facts: BTreeMap<String, String>,
    pub checksum: Checksum,
}

impl Rdb {
    /// When the server began to save, by its own clock, seconds of Unix time.
    pub(super) fn saved_at(&self) -> Option<i64> {
        self.facts.get("ctime")?.parse().ok()
    }
}

/// What the checksum at the end proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    Right,
    /// The server is set to write none, which is a zero.
    SwitchedOff,
}

/// Looks at a file as it goes by.
#[derive(Debug)]
pub(super) struct RdbCheck {
    head: Vec<u8>,
    sum: Digest,
    /// The last byte that is in the sum.
    last: Option<u8>,
    /// What may be the checksum.
    tail: Vec<u8>,
}

impl Default for RdbCheck {
    fn default() -> Self {
        Self {
            head: Vec::new(),
            sum: Digest::new(CrcAlgorithm::Crc64Redis),
            last: None,
            tail: Vec::with_capacity(CHECKSUM),
        }
    }
}

impl RdbCheck {
    /// The next bytes.
    pub(super) fn look(&mut self, bytes: &[u8]) {
        let room = HEAD - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let settled = (self.tail.len() + bytes.len()).saturating_sub(CHECKSUM);
        let of_tail = settled.min(self.tail.len());
        let (now, later) = bytes.split_at(settled - of_tail);
        self.sum.update(&self.tail[..of_tail]);
        self.sum.update(now);
        self.last = now.last().or(self.tail[..of_tail].last()).copied().or(self.last);
        self.tail.drain(..of_tail);
        self.tail.extend_from_slice(later);
    }

    /// Proves that the file is whole.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn finish(self) -> Result<Rdb, String> {
        let version = version(&self.head).ok_or("what the server sent does not begin as an RDB file does")?;
        if version < OLDEST {
            return Err(format!(
                "RDB files of version {version} have no checksum: Redis 2.6 or newer is needed"
            ));
        }
        let (Ok(written), Some(END)) = (<[u8; CHECKSUM]>::try_from(self.tail.as_slice()), self.last) else {
            return Err("the RDB file does not end with its closing mark".to_owned());
        };
        let checksum = match u64::from_le_bytes(written) {
            0 => Checksum::SwitchedOff,
            written if written == self.sum.finalize() => Checksum::Right,
            _ => return Err("the RDB file is altered: its checksum is not that of its content".to_owned()),
        };
        Ok(Rdb { version, facts: facts(&self.head[MAGIC..]), checksum })
    }
}

fn version(head: &[u8]) -> Option<u32> {
    let digits = head.get(..MAGIC)?.strip_prefix(b"REDIS")?;
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The facts in front of the data. What can't be read ends them: they prove nothing.
fn facts(mut rest: &[u8]) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    while let Some((name, value, after)) = fact(rest) {
        facts.insert(name, value);
        rest = after;
    }
    facts
}

fn fact(rest: &[u8]) -> Option<(String, String, &[u8])> {
    let (name, rest) = text(rest.strip_prefix(&[AUXILIARY])?)?;
    let (value, rest) = text(rest)?;
    Some((name, value, rest))
}

/// A string, or a number in one of the forms that stand for one.
fn text(rest: &[u8]) -> Option<(String, &[u8])> {
    let (first, rest) = rest.split_first()?;
    let low = usize::from(first & 0x3f);
    match (first >> 6, low) {
        (0, length) => string(rest, length),
        (1, high) => {
            let (second, rest) = rest.split_first()?;
            string(rest, high << 8 | usize::from(*second))
        }
        (3, 0) => rest.split_first_chunk().map(|(n, rest)| (i8::from_le_bytes(*n).to_string(), rest)),
        (3, 1) => rest.split_first_chunk().map(|(n, rest)| (i16::from_le_bytes(*n).to_string(), rest)),
        (3, 2) => rest.split_first_chunk().map(|(n, rest)| (i32::from_le_bytes(*n).to_string(), rest)),
        _ => None,
    }
}

fn string(rest: &[u8], length: usize) -> Option<(String, &[u8])> {
    let (text, rest) = rest.split_at_checked(length)?;
    Some((String::from_utf8_lossy(text).into_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Redis 7.0.15 saved with one key: its checksum is the server's own.
    const SAVED: &str = "524544495330303130fa0972656469732d76657206372e302e3135fa0a72656469732d62697473c040fa056374696d65c2fc\
        9c0b6bfa08757365642d6d656dc240d70f00fa0e7265706c2d73747265616d2d6462c000fa077265706c2d69642838353936\
        323263343336346162336232643037346164343731316462376662386661383365303163fa0b7265706c2d6f6666736574c0\
        00fa08616f662d62617365c000fe00fb01000001610162ff72e1bcac9a368b26";

    fn saved() -> Vec<u8> {
        hex::decode(SAVED).unwrap()
    }

    fn look<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Rdb, String> {
        let mut check = RdbCheck::default();
        pieces.into_iter().for_each(|piece| check.look(piece));
        check.finish()
    }

    #[test]
    fn a_file_is_whole_in_whatever_pieces_it_comes() {
        let saved = saved();
        for size in [1, 2, 7, 8, 9, 10, 100, saved.len()] {
            let rdb = look(saved.chunks(size)).unwrap();
            assert_eq!((rdb.version, rdb.checksum), (10, Checksum::Right), "{size}");
            assert_eq!(rdb.facts["redis-ver"], "7.0.15");
            assert_eq!(rdb.saved_at(), Some(1_795_923_196));
        }
    }

    #[test]
    fn no_part_of_a_file_and_no_altered_one_is_whole() {
        let saved = saved();
        for length in 0..saved.len() {
            look([&saved[..length]]).expect_err("it is cut short");
            let mut altered = saved.clone();
            altered[length] ^= 1;
            look([altered.as_slice()]).expect_err("it is altered");
        }
        look([saved.as_slice(), b"f7d815cdf38b21fd65f970569270"]).expect_err("something follows");
    }

    #[test]
    fn without_a_checksum_the_end_must_stand_before_it() {
        let mut saved = saved();
        let content = saved.len() - CHECKSUM;
        saved[content..].fill(0);
        assert_eq!(look([saved.as_slice()]).unwrap().checksum, Checksum::SwitchedOff);
        look([&saved[..saved.len() - 1]]).expect_err("a byte is missing");
        saved[content - 1] = 0;
        look([saved.as_slice()]).expect_err("the end is missing");
        look([b"REDIS0004\xff\0\0\0\0\0\0\0\0".as_slice()]).expect_err("it is too old to have one");
    }

    #[test]
    fn facts_that_are_none_end_the_facts_and_nothing_else() {
        assert_eq!(facts(b"\xfa\x01a\x01b\xfa\x01c\xc1\x01\x02\xfe\0").len(), 2);
        assert_eq!(facts(b"\xfa\x40\x01a\xc0\xff")["a"], "-1");
        for odd in [&b"\xfa\x3fa"[..], b"\xfa\x80", b"\xfa\xc3\x01", b"\xfa", b""] {
            assert_eq!(facts(odd).len(), 0, "{odd:?}");
        }
    }
}
