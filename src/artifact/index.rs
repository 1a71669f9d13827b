//! The index: an artifact's segments in the order of its stream.
//!
//! Plain text, format `backstay.index/1`, for a shell to read:
//!
//! ```text
//! backstay.index/1
//! run 7f…e2 18231                                          a run that a later capture may reuse as a whole
//! 5c…01 20261120T010000Z-3k7qz0m4xw/0 0 231877             a segment: keyed hash, pack, offset, length
//! run -                                                    a run that is never reused
//! 99…d4 20261120T010000Z-3k7qz0m4xw/0 231877 19004
//! ```
//!
//! A run's line holds the keyed hash of its key and the length of its plaintext; its segments are those up to the next
//! run's line. `tail -c +$((offset + 1)) PACK | head -c $length | age -d -i IDENTITY | zstd -d` brings a segment back.
//! The hashes are BLAKE3, keyed for the backup (see [`crate::keys::NamingKey`]): who has not the key learns nothing of
//! the content from them.

use std::{fmt, fmt::Write as _, ops::Range, str::FromStr};

use super::layout::PackName;

/// The index's first line.
pub const FORMAT: &str = "backstay.index/1";

/// A BLAKE3 hash under a backup's own key: of a segment's plaintext, or of a run's key. Shown as 64 lower-case
/// hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyedHash(pub [u8; 32]);

impl fmt::Display for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        // Twice as many digits as bytes always fit.
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

/// Where a segment's age file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// The pack.
    pub pack: PackName,
    /// Where the age file begins in the pack, bytes.
    pub offset: u64,
    /// Its length, bytes; never 0.
    pub length: u32,
}

impl Extent {
    /// The bytes of the pack that the age file is.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.length)
    }
}

/// One piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Of its plaintext.
    pub hash: KeyedHash,
    /// Where it is stored.
    pub extent: Extent,
}

/// Segments that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What a later capture finds it by.
    pub key: Option<RunHash>,
    /// Its segments among [`Index::segments`].
    pub segments: Range<usize>,
}

/// What a later capture finds a run by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunHash {
    /// The keyed hash of the source's own key of the run.
    pub hash: KeyedHash,
    /// Length of the run's plaintext, bytes.
    pub length: u64,
}

/// The segments of an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// In the order of the stream.
    pub segments: Vec<Segment>,
    /// In the order of the stream; the first one may begin behind the first segment.
    pub runs: Vec<Run>,
}

/// A text that is no index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read an index, line {line}: {reason}; verify the artifact")]
pub struct InvalidIndex {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Index {
    /// Reads an index strictly: nothing that [`Index::to_bytes`] would not write. Extents are not compared with the
    /// packs' sizes, which the manifest names.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidIndex> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| InvalidIndex { line: 1, reason: "it is not text" })?
            .strip_suffix('\n')
            .ok_or(InvalidIndex { line: 1, reason: "it is cut short" })?;
        let mut lines = text.split('\n').enumerate();
        if lines.next().map(|(_, line)| line) != Some(FORMAT) {
            return Err(InvalidIndex { line: 1, reason: "it is not of the format backstay.index/1" });
        }
        let mut index = Index::default();
        for (number, line) in lines {
            let invalid = |reason| InvalidIndex { line: number + 1, reason };
            match line.strip_prefix("run ") {
                Some(run) => index.start_run(parse_run(run).map_err(invalid)?),
                None => index.push(parse_segment(line).map_err(invalid)?),
            }
        }
        Ok(index)
    }

    /// The index as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::with_capacity(32 + self.segments.len() * 120 + self.runs.len() * 80);
        text.push_str(FORMAT);
        text.push('\n');
        let mut runs = self.runs.iter().peekable();
        for position in 0..=self.segments.len() {
            while let Some(run) = runs.next_if(|run| run.segments.start == position) {
                // Writing into a string cannot fail.
                let _ = match run.key {
                    Some(RunHash { hash, length }) => writeln!(text, "run {hash} {length}"),
                    None => writeln!(text, "run -"),
                };
            }
            if let Some(Segment { hash, extent: Extent { pack, offset, length } }) =
                self.segments.get(position)
            {
                let _ = writeln!(text, "{hash} {pack} {offset} {length}");
            }
        }
        text.into_bytes()
    }

    /// Starts a run behind the segments so far.
    pub fn start_run(&mut self, key: Option<RunHash>) {
        let at = self.segments.len();
        self.runs.push(Run { key, segments: at..at });
    }

    /// Appends a segment, to the last run if there is one.
    pub fn push(&mut self, segment: Segment) {
        self.segments.push(segment);
        if let Some(run) = self.runs.last_mut() {
            run.segments.end = self.segments.len();
        }
    }
}

fn parse_run(fields: &str) -> Result<Option<RunHash>, &'static str> {
    if fields == "-" {
        return Ok(None);
    }
    let (hash, length) = fields.split_once(' ').ok_or("a run has a hash and a length, or `-`")?;
    Ok(Some(RunHash { hash: parse_hash(hash)?, length: parse_number(length)? }))
}

fn parse_segment(line: &str) -> Result<Segment, &'static str> {
    let mut fields = line.split(' ');
    let mut next = || fields.next().ok_or("a segment has a hash, a pack, an offset and a length");
    let hash = parse_hash(next()?)?;
    let pack = PackName::try_from(next()?.to_owned()).map_err(|_| "the second field is no pack's name")?;
    let offset: u64 = parse_number(next()?)?;
    let length: u32 = parse_number(next()?)?;
    if fields.next().is_some() {
        return Err("a segment has four fields");
    }
    if length == 0 || offset.checked_add(u64::from(length)).is_none() {
        return Err("the segment's place is impossible");
    }
    Ok(Segment { hash, extent: Extent { pack, offset, length } })
}

fn parse_hash(digits: &str) -> Result<KeyedHash, &'static str> {
    let mut hash = [0; 32];
    if digits.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a hash has lower-case digits");
    }
    hex::decode_to_slice(digits, &mut hash).map_err(|_| "a hash has 64 hexadecimal digits")?;
    Ok(KeyedHash(hash))
}

fn parse_number<T: FromStr>(digits: &str) -> Result<T, &'static str> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if !plain {
        return Err("a number has digits only, and no leading zero");
    }
    digits.parse().map_err(|_| "a number is too large")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::ArtifactId;

    fn pack(number: u32) -> PackName {
        PackName { artifact: ArtifactId::new("2026-11-20T01:00:00Z".parse().unwrap(), 7), number }
    }

    fn segment(byte: u8, offset: u64) -> Segment {
        Segment { hash: KeyedHash([byte; 32]), extent: Extent { pack: pack(3), offset, length: 10 } }
    }

    fn sample() -> Index {
        let mut index = Index::default();
        index.push(segment(1, 0));
        index.start_run(Some(RunHash { hash: KeyedHash([9; 32]), length: 77 }));
        index.push(segment(2, 10));
        index.push(segment(3, 20));
        index.start_run(None);
        index.start_run(Some(RunHash { hash: KeyedHash([8; 32]), length: 0 }));
        index
    }

    #[test]
    fn an_index_reads_back_as_it_was_written() {
        let index = sample();
        assert_eq!(Index::parse(&index.to_bytes()), Ok(index.clone()));
        assert_eq!(index.runs[0].segments, 1..3);
        assert_eq!(Index::parse(&Index::default().to_bytes()), Ok(Index::default()));
        assert!(String::from_utf8(index.to_bytes()).unwrap().contains("/3 10 10\n"));
    }

    #[test]
    fn anything_that_we_would_not_write_is_refused() {
        let good = String::from_utf8(sample().to_bytes()).unwrap();
        let broken = [
            String::new(),
            "backstay.index/2\n".to_owned(),
            good.trim_end().to_owned(),
            format!("{good}\n"),
            good.replace("run -", "run"),
            good.replace("run -", "run --"),
            good.replace("/3 10 10", "/3 010 10"),
            good.replace("/3 10 10", "/3 +10 10"),
            good.replace("/3 10 10", "/3 10 0"),
            good.replace("/3 10 10", "/3 10 10 10"),
            good.replace("/3 10 10", "/3 18446744073709551615 10"),
            good.replace("/3 10 10", "/../x 10 10"),
            good.replace("0202", "020G"),
        ];
        for text in broken {
            assert!(Index::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_fault_names_its_line() {
        let fault = Index::parse(b"backstay.index/1\nrun -\nnonsense\n").unwrap_err();
        assert_eq!(fault.line, 3);
    }
}
