//! Segments of the write-ahead log: the files that it is cut into (PostgreSQL's documentation, "WAL Internals").

use std::ops::Range;

use super::Failure;
use crate::artifact::position::{History, Lsn};

/// How long the first page's header is, bytes.
pub(super) const HEADER: usize = 40;

/// How a cluster cuts its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segments {
    /// The size of each, bytes; a power of two.
    size: u64,
}

impl Segments {
    /// Of the size that a server tells: 1 MiB to 1 GiB.
    pub(super) fn of_size(text: &str) -> Result<Self, Failure> {
        let segments = text.parse().ok().and_then(Self::of_bytes);
        segments.ok_or_else(|| Failure::Answer(format!("segments of {text} bytes can't be")))
    }

    /// Of the size, bytes, that a segment's own first page tells.
    pub(super) fn of_bytes(size: u64) -> Option<Self> {
        (size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size)).then_some(Self { size })
    }

    pub(super) fn size(self) -> u64 {
        self.size
    }

    /// The number of the segment that holds the byte at `lsn`.
    pub(super) fn number(self, lsn: Lsn) -> u64 {
        lsn.0 / self.size
    }

    /// Where a segment begins.
    pub(super) fn begin(self, number: u64) -> Lsn {
        Lsn(number * self.size)
    }

    /// The end of the segment that holds the last byte before `lsn`.
    pub(super) fn end_of(self, lsn: Lsn) -> Lsn {
        Lsn(lsn.0.div_ceil(self.size) * self.size)
    }

    /// The segments with what lies between two places.
    pub(super) fn between(self, begin: Lsn, end: Lsn) -> Range<u64> {
        self.number(begin)..self.number(self.end_of(end))
    }

    /// The name of a segment's file, in the youngest timeline of `history` that has a part of it.
    pub(super) fn file(self, number: u64, history: &History) -> String {
        let last = Lsn(self.begin(number + 1).0 - 1);
        self.name(history.at(last).timeline, number)
    }

    /// The name of a segment's file.
    pub(super) fn name(self, timeline: u32, number: u64) -> String {
        let in_a_log = (1 << 32) / self.size;
        format!("{timeline:08X}{:08X}{:08X}", number / in_a_log, number % in_a_log)
    }

    /// Whether the first bytes of a file are those of this segment of that cluster (`XLogLongPageHeaderData` in
    /// `xlog_internal.h`, in the byte order of the server).
    pub(super) fn begins(self, number: u64, system: &str, header: &[u8; HEADER]) -> bool {
        let field = |at: usize| header.iter().skip(at).take(8).copied().collect::<Vec<u8>>();
        let is = |at: usize, value: u64| {
            let field = field(at);
            field == value.to_le_bytes() || field == value.to_be_bytes()
        };
        system.parse().is_ok_and(|system: u64| is(8, self.begin(number).0) && is(24, system))
    }
}

/// Whether a name is one of a segment's file or of a timeline's history.
pub(super) fn is_file(name: &str) -> bool {
    let hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    match name.strip_suffix(HISTORY) {
        Some(timeline) => timeline.len() == 8 && hex(timeline),
        None => name.len() == 24 && hex(name),
    }
}

/// The timeline and the number of the segment that a file's name tells.
pub(super) fn parts(name: &str, segments: Segments) -> Option<(u32, u64)> {
    let hex = |range| u64::from_str_radix(name.get(range)?, 16).ok();
    let in_a_log = (1 << 32) / segments.size;
    let (timeline, high, low) = (hex(0..8)?, hex(8..16)?, hex(16..24)?);
    (is_file(name) && low < in_a_log).then_some((u32::try_from(timeline).ok()?, high * in_a_log + low))
}

/// How the names of segments end that are not complete yet.
pub(super) const PARTIAL: &str = ".partial";

/// How the names of histories end.
pub(super) const HISTORY: &str = ".history";

/// A place as the server writes it.
pub(super) fn lsn(text: &str) -> Result<Lsn, Failure> {
    Lsn::parse(text).ok_or_else(|| Failure::Answer(format!("{text:?} is no place in the log")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn places_are_in_the_segments_that_the_server_names() {
        let segments = Segments::of_size("16777216").unwrap();
        assert_eq!(segments.name(1, segments.number(Lsn(0x3000028))), "000000010000000000000003");
        assert_eq!(segments.name(2, segments.number(Lsn(0x1_FF00_0000))), "0000000200000001000000FF");
        assert_eq!(segments.name(2, segments.number(Lsn(0x2_0000_0000))), "000000020000000200000000");
        assert_eq!(segments.end_of(Lsn(0x3000028)), Lsn(0x4000000));
        assert_eq!(segments.end_of(Lsn(0x3000000)), Lsn(0x3000000));
        assert_eq!(segments.between(Lsn(0x2FFFFFF), Lsn(0x5000000)), 2..5);
        assert_eq!(Segments::of_size("1048576").unwrap().name(1, 0x1001), "000000010000000100000001");
        for number in [3, 0xFF, 0x100, 0x1_0000] {
            assert_eq!(parts(&segments.name(2, number), segments), Some((2, number)));
        }
        assert_eq!(parts("000000010000000000000100", segments), None, "no segment of 16 MiB is called that");
        assert_eq!(parts("0000000A.history", segments), None);
        for bad in ["0", "16", "16777217", "16MB"] {
            assert!(Segments::of_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_file_of_a_segment_with_a_fork_is_the_younger_timelines() {
        let segments = Segments { size: MIB };
        let fork = |at| History { timeline: 2, ancestors: vec![(1, Lsn(at))] };
        let names = |at| [4, 5, 6].map(|number| segments.file(number, &fork(at))[..8].to_owned());
        assert_eq!(names(5 * MIB + 40), ["00000001", "00000002", "00000002"]);
        assert_eq!(names(5 * MIB), ["00000001", "00000002", "00000002"]);
        assert_eq!(names(6 * MIB), ["00000001", "00000001", "00000002"]);
    }

    #[test]
    fn a_file_is_known_by_its_first_page() {
        let segments = Segments { size: MIB };
        let mut header = [0; HEADER];
        header[8..16].copy_from_slice(&(7 * MIB).to_le_bytes());
        header[24..32].copy_from_slice(&4711_u64.to_le_bytes());
        assert!(segments.begins(7, "4711", &header));
        assert!(!segments.begins(8, "4711", &header) && !segments.begins(7, "4712", &header));
        assert!(!segments.begins(7, "x", &header) && !segments.begins(0, "0", &[1; HEADER]));
    }

    #[test]
    fn only_files_of_the_log_are_files() {
        assert!(is_file("00000001000000000000000A") && is_file("0000000A.history"));
        for bad in [
            "00000001000000000000000a",
            "x.history",
            ".history",
            "000000010000000000000001.partial",
            "postgresql.conf",
        ] {
            assert!(!is_file(bad), "{bad}");
        }
    }
}
