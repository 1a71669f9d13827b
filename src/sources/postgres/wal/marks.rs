//! Named restore points in a log (PostgreSQL's documentation, "Backup Control Functions", `pg_create_restore_point`), found by
//! its records: `XLogPageHeaderData` and `xl_restore_point` in `xlog_internal.h`, `XLogRecord` in `xlogrecord.h`. Pure.
//!
//! Of a log that can't be read (another byte order, another page size, a record that no one can tell) no name is known, which
//! keeps nobody from recovering to a time or a place.

use std::collections::VecDeque;

use crate::artifact::{
    position::Lsn,
    until::{NamedPoint, PointName},
};

/// The size of a page, bytes, as every packaged server has it.
const PAGE: usize = 8192;
const SHORT_HEADER: usize = 24;
const LONG_HEADER: usize = 40;
/// The page's header is a long one (`XLP_LONG_HEADER`).
const IS_LONG: u16 = 2;
/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;
const RECORD_HEADER: usize = 24;
/// The resource manager of what concerns the log itself (`RM_XLOG_ID`), and its record of a restore point.
const XLOG: u8 = 0;
const RESTORE_POINT: u8 = 0x70;
/// The whole record: its header, a marker and a length, the time, the name in a field of 64 bytes.
const RECORD: usize = RECORD_HEADER + 2 + 8 + NAME;
const NAME: usize = 64;

/// How many are remembered, the last ones: nobody names more, and who does must not fill the memory.
const MOST: usize = 1000;

/// Looks for restore points in segments as they pass.
#[derive(Debug, Default)]
pub(super) struct Marks {
    page: Vec<u8>,
    /// What is left of a record that goes on in the next page.
    left: usize,
    /// The beginning of a record, as much as a restore point has.
    record: Vec<u8>,
    /// Where the record begins.
    begins: u64,
    named: VecDeque<NamedPoint>,
}

impl Marks {
    /// Looks at the next bytes of a segment.
    pub(super) fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at((PAGE - self.page.len()).min(bytes.len()));
            self.page.extend_from_slice(now);
            bytes = later;
            if self.page.len() == PAGE {
                let page = std::mem::take(&mut self.page);
                self.look_at_page(&page);
                self.page = page;
                self.page.clear();
            }
        }
    }

    /// What was found, in the order of the log.
    pub(super) fn named(self) -> Vec<NamedPoint> {
        self.named.into()
    }

    fn look_at_page(&mut self, page: &[u8]) {
        let goes_on = number(page, 16, 4);
        let header = if number(page, 2, 2) as u16 & IS_LONG == 0 { SHORT_HEADER } else { LONG_HEADER };
        if self.left != goes_on {
            // It is the first page that is seen, or the log goes on elsewhere: begin behind what goes on from before.
            self.record.clear();
            self.left = goes_on;
        }
        let mut at = header;
        while at < page.len() {
            if self.left > 0 {
                at = self.take(page, at).next_multiple_of(ALIGNMENT);
                continue;
            }
            // Zeros, up to the page's end, stand behind the last record of a segment that was ended early.
            match number(page, at, 4) {
                length if length >= RECORD_HEADER => {
                    self.left = length;
                    self.begins = number(page, 8, 8) as u64 + at as u64;
                }
                _ => return,
            }
        }
    }

    /// Takes what the page has of a record, and returns where it ends there.
    fn take(&mut self, page: &[u8], at: usize) -> usize {
        let now = self.left.min(page.len() - at);
        let wanted = now.min(RECORD.saturating_sub(self.record.len()));
        self.record.extend_from_slice(&page[at..at + wanted]);
        self.left -= now;
        if self.left == 0 {
            if let Some(name) = restore_point(&self.record) {
                self.named.push_back(NamedPoint { name, place: Lsn(self.begins).into() });
                let excess = self.named.len().saturating_sub(MOST);
                self.named.drain(..excess);
            }
            self.record.clear();
        }
        at + now
    }
}

fn restore_point(record: &[u8]) -> Option<PointName> {
    let is_one = record.len() == RECORD
        && number(record, 0, 4) == RECORD
        && record.get(16).is_some_and(|info| info & 0xF0 == RESTORE_POINT)
        && record.get(17) == Some(&XLOG);
    let name = record.get(RECORD - NAME..).filter(|_| is_one)?.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(name).ok()?.parse().ok()
}

fn number(bytes: &[u8], at: usize, length: usize) -> usize {
    bytes.iter().skip(at).take(length).rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::position::LogPosition;

    fn record(length: usize, kind: [u8; 2], name: &str) -> Vec<u8> {
        let mut record = vec![0; length];
        record[..4].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
        record[16..18].copy_from_slice(&kind);
        if length == RECORD {
            record[RECORD - NAME..][..name.len()].copy_from_slice(name.as_bytes());
        }
        record
    }

    /// The records cut into pages, as a server writes them.
    fn log(records: &[Vec<u8>]) -> Vec<u8> {
        let mut log: Vec<u8> = Vec::new();
        for record in records {
            let mut left = record.as_slice();
            log.resize(log.len().next_multiple_of(ALIGNMENT), 0);
            while !left.is_empty() {
                if log.len().is_multiple_of(PAGE) {
                    let long = log.is_empty();
                    let mut header = vec![0; if long { LONG_HEADER } else { SHORT_HEADER }];
                    header[2] = if long { 2 } else { 0 };
                    header[8..16].copy_from_slice(&(log.len() as u64).to_le_bytes());
                    let goes_on = if left.len() == record.len() { 0 } else { left.len() };
                    header[16..20].copy_from_slice(&u32::try_from(goes_on).unwrap().to_le_bytes());
                    log.extend(header);
                }
                let (now, later) = left.split_at(left.len().min(PAGE - log.len() % PAGE));
                log.extend(now);
                left = later;
            }
        }
        log.resize(log.len().next_multiple_of(PAGE) + PAGE, 0);
        log
    }

    fn named(log: &[u8], piece: usize) -> Vec<String> {
        let mut marks = Marks::default();
        log.chunks(piece).for_each(|piece| marks.look(piece));
        for NamedPoint { name, place } in &marks.named {
            let Some(LogPosition::Wal(place)) = place.position() else { panic!("{place}") };
            let at = usize::try_from(place.lsn.0).unwrap();
            assert_eq!(number(log, at, 4), RECORD, "{name} is told to begin where no record does");
        }
        marks.named().iter().map(|it| it.name.to_string()).collect()
    }

    #[test]
    fn restore_points_are_found_wherever_pages_cut_them() {
        for before in (8000..8200).step_by(8) {
            let records = [
                record(before, [0, 10], ""),
                record(RECORD, [RESTORE_POINT, XLOG], "before upgrade"),
                record(RECORD, [0x30, XLOG], "another record"),
                record(30_001, [RESTORE_POINT, 5], ""),
                record(RECORD, [RESTORE_POINT, XLOG], "after it"),
            ];
            for piece in [PAGE, 1000, 100_000] {
                assert_eq!(named(&log(&records), piece), ["before upgrade", "after it"], "{before}");
            }
        }
    }

    #[test]
    fn looking_may_begin_within_a_record_and_never_fails() {
        let records =
            [record(20_000, [0, 10], ""), record(RECORD, [RESTORE_POINT, XLOG], "x"), record(40, [0, 1], "")];
        let mut marks = Marks::default();
        marks.look(&log(&records)[PAGE..]);
        assert_eq!(marks.named().iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["x"]);
        assert!(named(&[0xFF; 5 * PAGE], PAGE).is_empty() && named(&[0; 5 * PAGE], PAGE).is_empty());
    }
}
