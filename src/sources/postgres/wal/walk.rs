//! How far a log is whole: its pages and records looked at one after another, each proved by its place, by the record before it
//! and by its checksum (`XLogPageHeaderData` and `XLogLongPageHeaderData` in `xlog_internal.h`, `XLogRecord` in `xlogrecord.h`,
//! `xl_xact_commit` in `xact.h`). Pure.
//!
//! Of a log that can't be read (another byte order, another page size) nothing is whole.

use crc_fast::{CrcAlgorithm, Digest};
use jiff::Timestamp;

use super::segment::Segments;
use crate::artifact::position::Lsn;

/// The size of a page, bytes, as every packaged server has it.
pub(super) const PAGE: usize = 8192;
const SHORT_HEADER: usize = 24;
const LONG_HEADER: usize = 40;
/// Flags of a page: it begins with the rest of a record (`XLP_FIRST_IS_CONTRECORD`); its header is a long one
/// (`XLP_LONG_HEADER`); the record that should go on there never came to its end (`XLP_FIRST_IS_OVERWRITE_CONTRECORD`).
const GOES_ON: u16 = 1;
const IS_LONG: u16 = 2;
const OVERWRITES: u16 = 8;
/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;
const RECORD_HEADER: usize = 24;
/// How much of a record's header its checksum covers.
const CHECKED: usize = 20;
/// No record is longer than this (`XLogRecordMaxSize`), bytes.
const LONGEST: u64 = 1020 << 20;
/// How much of a record's beginning is looked at: behind its header an origin, a transaction and a length may stand before the time.
const HEAD: usize = 64;
/// Resource managers: of the log itself (`RM_XLOG_ID`) and of transactions (`RM_XACT_ID`).
const XLOG: u8 = 0;
const XACT: u8 = 1;
/// Ends a segment early (`XLOG_SWITCH`).
const SWITCH: u8 = 0x40;
/// Ends of transactions, each of which begins with its time: `XLOG_XACT_COMMIT`, `…_ABORT`, `…_COMMIT_PREPARED`,
/// `…_ABORT_PREPARED`, under `XLOG_XACT_OPMASK`.
const ENDS: [u8; 4] = [0x00, 0x20, 0x30, 0x40];
const OPERATION: u8 = 0x70;
/// Microseconds from the Unix epoch to that of the server, 2000-01-01.
const EPOCH: i64 = 946_684_800_000_000;

/// Walks over the pages of a log, from the beginning of a segment.
#[derive(Debug)]
pub(super) struct Walk {
    segments: Segments,
    system: u64,
    /// The times of what stands before this place do not count.
    since: Lsn,
    /// Where the next page is to stand.
    next: u64,
    page: Vec<u8>,
    stage: Stage,
    /// Where the last whole record begins.
    last: Option<Lsn>,
    /// Where it ends.
    end: Lsn,
    time: Option<i64>,
}

#[derive(Debug)]
enum Stage {
    /// Nothing was seen yet.
    Begun,
    /// In a record whose beginning was not seen; so much of it is left.
    Behind(u64),
    /// Between two records.
    Between,
    Within(Box<Record>),
    /// Nothing stands before this place.
    Switched(u64),
    /// What comes is not whole, or no log.
    Over,
}

/// A record that is not whole yet.
struct Record {
    begins: u64,
    left: u64,
    head: Vec<u8>,
    passed: usize,
    digest: Digest,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("begins", &self.begins)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl Walk {
    /// Begins with the segment in which `since` lies, of the log of this cluster.
    pub(super) fn begin(segments: Segments, system: u64, since: Lsn) -> Self {
        let begin = segments.begin(segments.number(since));
        Self {
            segments,
            system,
            since,
            next: begin.0,
            page: Vec::with_capacity(PAGE),
            stage: Stage::Begun,
            last: None,
            end: begin,
            time: None,
        }
    }

    /// Looks at the next bytes.
    pub(super) fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_over() {
            let (now, later) = bytes.split_at((PAGE - self.page.len()).min(bytes.len()));
            self.page.extend_from_slice(now);
            bytes = later;
            if self.page.len() == PAGE {
                let page = std::mem::take(&mut self.page);
                self.look_at_page(&page);
                self.page = page;
                self.page.clear();
                self.next += PAGE as u64;
            }
        }
    }

    /// Whether something was seen that is not whole, or no log: what comes behind it proves nothing.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Where the last whole record begins.
    pub(super) fn last(&self) -> Option<Lsn> {
        self.last
    }

    /// Where the last whole record ends.
    pub(super) fn end(&self) -> Lsn {
        self.end
    }

    /// The latest time that the end of a transaction bears which stands behind where the walk is to begin, by the server's clock.
    pub(super) fn time(&self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.time?.checked_add(EPOCH)?).ok()
    }

    fn look_at_page(&mut self, page: &[u8]) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        if let Stage::Switched(until) = stage
            && self.next < until
        {
            self.stage = stage;
            return;
        }
        let Some(header) = self.header(page) else { return };
        let (flags, goes_on) = (number(page, 2, 2) as u16, number(page, 16, 4));
        let left = if flags & GOES_ON == 0 { 0 } else { goes_on };
        let was_left = match &stage {
            Stage::Behind(left) => Some(*left),
            Stage::Within(record) => Some(record.left),
            _ => None,
        };
        self.stage = match stage {
            Stage::Begun if left > 0 => Stage::Behind(left),
            Stage::Behind(_) | Stage::Within(_) if was_left != Some(left) => {
                match flags & OVERWRITES {
                    // The server died in the middle of it, and wrote something else there.
                    OVERWRITES => Stage::Between,
                    _ => return,
                }
            }
            Stage::Behind(_) | Stage::Within(_) => stage,
            Stage::Begun | Stage::Between | Stage::Switched(_) if left == 0 => Stage::Between,
            Stage::Begun | Stage::Between | Stage::Switched(_) | Stage::Over => return,
        };
        self.look_at_records(page, header);
    }

    /// How long a page's header is, if it is the page that is to stand here.
    fn header(&self, page: &[u8]) -> Option<usize> {
        let is_first = self.next.is_multiple_of(self.segments.size());
        let is_long = number(page, 2, 2) as u16 & IS_LONG != 0;
        let is_here = number(page, 8, 8) == self.next && number(page, 0, 2) != 0 && is_long == is_first;
        let is_ours = !is_first
            || (number(page, 24, 8) == self.system
                && number(page, 32, 4) == self.segments.size()
                && number(page, 36, 4) == PAGE as u64);
        (is_here && is_ours).then_some(if is_long { LONG_HEADER } else { SHORT_HEADER })
    }

    fn look_at_records(&mut self, page: &[u8], header: usize) {
        let mut at = header;
        while at < PAGE {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Behind(left) => {
                    let now = left.min((PAGE - at) as u64);
                    at = (at + now as usize).next_multiple_of(ALIGNMENT);
                    self.stage = if now == left { Stage::Between } else { Stage::Behind(left - now) };
                }
                Stage::Between => match number(page, at, 4) {
                    length if (RECORD_HEADER as u64..=LONGEST).contains(&length) => {
                        self.stage = Stage::Within(Box::new(Record::begin(self.next + at as u64, length)));
                    }
                    // Zeros stand where nothing was written yet.
                    _ => return,
                },
                Stage::Within(mut record) => {
                    at = record.take(page, at);
                    if record.left > 0 {
                        self.stage = Stage::Within(record);
                        return;
                    }
                    at = at.next_multiple_of(ALIGNMENT);
                    self.stage = self.ended(*record, self.next + at as u64);
                }
                stage @ (Stage::Begun | Stage::Switched(_) | Stage::Over) => {
                    self.stage = stage;
                    return;
                }
            }
        }
    }

    /// What comes behind a record that has come to its end at `end`.
    fn ended(&mut self, record: Record, end: u64) -> Stage {
        let follows = self.last.is_none_or(|last| number(&record.head, 8, 8) == last.0);
        let (begins, head, is_whole) = record.proved();
        if !is_whole || !follows {
            return Stage::Over;
        }
        let (info, manager) = (head[16], head[17]);
        (self.last, self.end) = (Some(Lsn(begins)), Lsn(end));
        if manager == XACT && ENDS.contains(&(info & OPERATION)) && begins >= self.since.0 {
            self.time = self.time.max(time(&head));
        }
        if manager == XLOG && info & 0xF0 == SWITCH {
            self.end = self.segments.end_of(Lsn(begins + 1));
            return Stage::Switched(self.end.0);
        }
        Stage::Between
    }
}

impl Record {
    fn begin(begins: u64, length: u64) -> Self {
        let digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        Self { begins, left: length, head: Vec::with_capacity(HEAD), passed: 0, digest }
    }

    /// Takes what the page has of it, and returns where that ends.
    fn take(&mut self, page: &[u8], at: usize) -> usize {
        let now = self.left.min((PAGE - at) as u64) as usize;
        let bytes = &page[at..at + now];
        self.head.extend_from_slice(&bytes[..now.min(HEAD - self.head.len())]);
        self.digest.update(&bytes[RECORD_HEADER.saturating_sub(self.passed).min(now)..]);
        self.passed += now;
        self.left -= now as u64;
        at + now
    }

    /// Where it begins, its beginning, and whether it is what its checksum says.
    fn proved(mut self) -> (u64, Vec<u8>, bool) {
        self.digest.update(&self.head[..CHECKED]);
        let is_whole = self.digest.finalize() == number(&self.head, CHECKED, 4);
        (self.begins, self.head, is_whole)
    }
}

/// The time at which a transaction ended, microseconds since the server's epoch (`XLogRecordDataHeaderShort` and what stands
/// before it, in `xlogrecord.h`).
fn time(head: &[u8]) -> Option<i64> {
    let mut at = RECORD_HEADER;
    loop {
        at += match head.get(at)? {
            // An origin, and the transaction that this one is a part of.
            253 => 3,
            252 => 5,
            255 => {
                at += 2;
                break;
            }
            254 => {
                at += 5;
                break;
            }
            _ => return None,
        };
    }
    Some(i64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?))
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes.iter().skip(at).take(length).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SYSTEM: u64 = 4711;

    /// A log as a server writes it.
    struct Log {
        bytes: Vec<u8>,
        begin: u64,
        last: u64,
    }

    impl Log {
        fn of_segment(number: u64) -> Self {
            Self { bytes: Vec::new(), begin: number * MIB, last: 0 }
        }

        fn at(&self) -> u64 {
            self.begin + self.bytes.len() as u64
        }

        /// Writes a record, and returns where it begins.
        fn write(&mut self, manager: u8, info: u8, data: &[u8]) -> u64 {
            let mut record = u32::try_from(RECORD_HEADER + data.len()).unwrap().to_le_bytes().to_vec();
            record.extend([0; 4]);
            record.extend(self.last.to_le_bytes());
            record.extend([info, manager, 0, 0]);
            let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
            digest.update(data);
            digest.update(&record);
            record.extend(u32::try_from(digest.finalize()).unwrap().to_le_bytes());
            record.extend(data);
            self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
            self.page(0, 0);
            let begins = self.at();
            let mut left = record.as_slice();
            while !left.is_empty() {
                self.page(GOES_ON, if left.len() == record.len() { 0 } else { left.len() });
                let (now, later) = left.split_at(left.len().min(PAGE - self.bytes.len() % PAGE));
                self.bytes.extend(now);
                left = later;
            }
            self.last = begins;
            begins
        }

        fn page(&mut self, flags: u16, goes_on: usize) {
            if !self.bytes.len().is_multiple_of(PAGE) {
                return;
            }
            let is_long = self.at().is_multiple_of(MIB);
            let mut header = vec![0; if is_long { LONG_HEADER } else { SHORT_HEADER }];
            header[0] = 0x10;
            let flags = if goes_on > 0 { flags } else { 0 };
            header[2] = u8::try_from(flags | if is_long { IS_LONG } else { 0 }).unwrap();
            header[8..16].copy_from_slice(&self.at().to_le_bytes());
            header[16..20].copy_from_slice(&u32::try_from(goes_on).unwrap().to_le_bytes());
            if is_long {
                header[24..32].copy_from_slice(&SYSTEM.to_le_bytes());
                header[32..36].copy_from_slice(&u32::try_from(MIB).unwrap().to_le_bytes());
                header[36..40].copy_from_slice(&u32::try_from(PAGE).unwrap().to_le_bytes());
            }
            self.bytes.extend(header);
        }

        fn commit(&mut self, micros: i64) -> u64 {
            let mut data = vec![255, 8];
            data.extend(micros.to_le_bytes());
            self.write(XACT, 0x80, &data)
        }

        /// The bytes, and zeros up to the end of a segment.
        fn padded(&self) -> Vec<u8> {
            let mut bytes = self.bytes.clone();
            bytes.resize(bytes.len().next_multiple_of(usize::try_from(MIB).unwrap()), 0);
            bytes
        }
    }

    fn segments() -> Segments {
        Segments::of_size("1048576").unwrap()
    }

    fn walked(bytes: &[u8], number: u64) -> Walk {
        let mut walk = Walk::begin(segments(), SYSTEM, Lsn(number * MIB));
        bytes.chunks(1000).for_each(|piece| walk.look(piece));
        walk
    }

    #[test]
    fn a_log_is_whole_up_to_the_last_record_that_is() {
        let mut log = Log::of_segment(7);
        log.write(10, 0, &[1; 100]);
        log.commit(5_000_000);
        log.write(10, 0, &[2; 20_000]);
        let last = log.commit(9_000_000);
        let end = log.at().next_multiple_of(8);
        let walk = walked(&log.padded(), 7);
        assert_eq!((walk.last(), walk.end()), (Some(Lsn(last)), Lsn(end)));
        assert_eq!(walk.time().unwrap().to_string(), "2000-01-01T00:00:09Z");
        assert!(walk.is_over(), "behind it stands nothing");
    }

    #[test]
    fn times_of_what_stands_before_the_beginning_do_not_count() {
        let mut log = Log::of_segment(7);
        log.commit(9_000_000);
        let since = log.commit(5_000_000);
        let mut walk = Walk::begin(segments(), SYSTEM, Lsn(since));
        walk.look(&log.padded());
        assert_eq!(walk.time().unwrap().to_string(), "2000-01-01T00:00:05Z");
        let mut behind = Walk::begin(segments(), SYSTEM, Lsn(since + 8));
        behind.look(&log.padded());
        assert_eq!((behind.time(), behind.last()), (None, Some(Lsn(since))));
    }

    #[test]
    fn wherever_a_log_is_cut_only_whole_records_count() {
        let mut log = Log::of_segment(1);
        let mut records = Vec::new();
        for length in [10, 9_000, 300, 30_000, 8, 4_000] {
            let begins = log.write(10, 0, &vec![3; length]);
            records.push((begins, log.at()));
        }
        let whole = log.bytes.clone();
        for cut in (0..whole.len()).step_by(61) {
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(usize::try_from(MIB).unwrap(), 0);
            let walk = walked(&bytes, 1);
            let last = records.iter().rev().find(|(_, end)| *end <= MIB + cut as u64);
            assert_eq!(walk.last(), last.map(|(begins, _)| Lsn(*begins)), "cut at {cut}");
            assert_eq!(walk.end().0, last.map_or(MIB, |(_, end)| end.next_multiple_of(8)), "cut at {cut}");
        }
    }

    #[test]
    fn what_was_changed_or_belongs_elsewhere_is_not_whole() {
        let mut log = Log::of_segment(3);
        let first = log.write(10, 0, &[1; 100]);
        log.write(10, 0, &[2; 100]);
        log.commit(1);
        for at in [LONG_HEADER + 130, LONG_HEADER + 160, LONG_HEADER + 140] {
            let mut bytes = log.padded();
            bytes[at] ^= 1;
            assert_eq!(walked(&bytes, 3).last(), Some(Lsn(first)), "byte {at}");
        }
        assert_eq!(walked(&log.padded(), 4).last(), None, "another place");
        let mut strange = Walk::begin(segments(), SYSTEM + 1, Lsn(3 * MIB));
        strange.look(&log.padded());
        assert_eq!((strange.last(), strange.is_over()), (None, true), "another cluster");
        for nonsense in [vec![0; PAGE], vec![0xFF; 3 * PAGE]] {
            assert!(walked(&nonsense, 3).is_over());
        }
    }

    #[test]
    fn a_segment_that_was_ended_early_is_whole_to_its_end_and_the_next_goes_on() {
        let mut log = Log::of_segment(2);
        log.commit(1);
        log.write(XLOG, SWITCH, &[]);
        let walk = walked(&log.padded(), 2);
        assert_eq!((walk.end(), walk.is_over()), (Lsn(3 * MIB), false));
        let mut next = Log { last: log.last, ..Log::of_segment(3) };
        let last = next.commit(2);
        let walk = walked(&[log.padded(), next.padded()].concat(), 2);
        assert_eq!(walk.last(), Some(Lsn(last)));
        let mut stranger = Log { last: 8, ..Log::of_segment(3) };
        stranger.commit(2);
        let walk = walked(&[log.padded(), stranger.padded()].concat(), 2);
        assert_eq!(walk.end(), Lsn(3 * MIB), "it does not follow");
    }

    #[test]
    fn walking_may_begin_within_a_record_and_goes_on_over_one_that_the_server_gave_up() {
        let mut log = Log::of_segment(1);
        log.write(10, 0, &vec![1; usize::try_from(MIB).unwrap() + 9_000]);
        let last = log.commit(3);
        let second = &log.padded()[usize::try_from(MIB).unwrap()..];
        assert_eq!(walked(second, 2).last(), Some(Lsn(last)));

        let mut log = Log::of_segment(1);
        log.commit(1);
        let before = log.last;
        log.write(10, 0, &[1; 20_000]);
        log.bytes.truncate(PAGE);
        log.last = before;
        let last = log.write(XLOG, 0xD0, &[0; 16]);
        log.bytes[PAGE + 2] |= u8::try_from(OVERWRITES).unwrap();
        assert_eq!(walked(&log.padded(), 1).last(), Some(Lsn(last)));
    }
}
