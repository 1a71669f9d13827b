//! Events of a binary log, as far as it takes to find where a transaction ends (MariaDB's documentation, "Event Header" and
//! "GTID_EVENT"; `libs/mysql/binlog/event` of MySQL's source). Pure.

use crate::artifact::{
    gtid_set::MysqlGtid,
    transactions::{Gtid, Transaction},
};

/// What a file begins with.
const MAGIC: usize = 4;
/// How long an event's header is, bytes.
const HEADER: usize = 19;
/// How much of a `GTID_EVENT` tells its number and domain, bytes.
const GTID_HEAD: usize = HEADER + 12;
/// How much of a `GTID_LOG_EVENT` tells its server and its number, bytes.
const GTID_LOG_HEAD: usize = HEADER + 25;

const STOP_EVENT: u8 = 3;
const ROTATE_EVENT: u8 = 4;
const GTID_LOG_EVENT: u8 = 33;
const ANONYMOUS_GTID_LOG_EVENT: u8 = 34;
const PREVIOUS_GTIDS_LOG_EVENT: u8 = 35;
const GTID_TAGGED_LOG_EVENT: u8 = 42;
const BINLOG_CHECKPOINT_EVENT: u8 = 161;
const GTID_EVENT: u8 = 162;
const GTID_LIST_EVENT: u8 = 163;

/// A file that is no binary log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the binary log tells a length that cannot be")]
pub(super) struct Broken;

/// What begins something else than the transaction that is open.
const BEGINNINGS: [u8; 9] = [
    STOP_EVENT,
    ROTATE_EVENT,
    GTID_LOG_EVENT,
    ANONYMOUS_GTID_LOG_EVENT,
    PREVIOUS_GTIDS_LOG_EVENT,
    GTID_TAGGED_LOG_EVENT,
    BINLOG_CHECKPOINT_EVENT,
    GTID_EVENT,
    GTID_LIST_EVENT,
];

/// Passes a file on up to the end of one transaction. In a log of MariaDB it also ends before a transaction of the same domain with a
/// higher number, so that it never goes further than was asked.
#[derive(Debug)]
pub(super) struct UpTo {
    last: Transaction,
    /// The beginning of an event that is not passed on yet.
    held: Vec<u8>,
    /// Bytes that are left of an event that is.
    left: u64,
    passed: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Magic,
    Before,
    /// Inside the transaction that is the last one.
    Within,
    Behind,
}

impl UpTo {
    pub(super) fn transaction(last: Transaction) -> Self {
        Self { last, held: Vec::new(), left: 0, passed: 0, stage: Stage::Magic }
    }

    /// Whether the transaction, or one behind it, has been seen.
    pub(super) fn is_reached(&self) -> bool {
        matches!(self.stage, Stage::Within | Stage::Behind)
    }

    /// Bytes that were passed on.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether no event was begun that did not end.
    pub(super) fn is_whole(&self) -> bool {
        self.stage == Stage::Behind || (self.held.is_empty() && self.left == 0)
    }

    /// What of the next piece of the file, and of what was held back, lies before the end.
    pub(super) fn pass(&mut self, mut piece: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut before = Vec::with_capacity(piece.len() + self.held.len());
        while !piece.is_empty() && self.stage != Stage::Behind {
            if self.left > 0 {
                let (now, later) =
                    piece.split_at(usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len()));
                before.extend_from_slice(now);
                self.left -= now.len() as u64;
                piece = later;
                continue;
            }
            let (now, later) = piece.split_at((self.head() - self.held.len()).min(piece.len()));
            self.held.extend_from_slice(now);
            piece = later;
            if self.held.len() == self.head() {
                self.decide(&mut before)?;
            }
        }
        self.passed += before.len() as u64;
        Ok(before)
    }

    /// How much of the event that begins here must be seen.
    fn head(&self) -> usize {
        match (self.stage, self.held.get(4)) {
            (Stage::Magic, _) => MAGIC,
            (_, Some(&GTID_EVENT)) => GTID_HEAD,
            (_, Some(&GTID_LOG_EVENT)) => GTID_LOG_HEAD,
            _ => HEADER,
        }
    }

    fn number(&self, at: usize, length: usize) -> u64 {
        let bytes = self.held.iter().skip(at).take(length).rev();
        bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Where an event leads that may begin the transaction.
    fn begins(&self, kind: u8) -> Stage {
        match &self.last {
            Transaction::MariaDb(Gtid { domain, number, .. })
                if kind == GTID_EVENT && self.number(HEADER + 8, 4) == u64::from(*domain) =>
            {
                match self.number(HEADER, 8).cmp(number) {
                    std::cmp::Ordering::Less => Stage::Before,
                    std::cmp::Ordering::Equal => Stage::Within,
                    std::cmp::Ordering::Greater => Stage::Behind,
                }
            }
            Transaction::MySql(last) if kind == GTID_LOG_EVENT => {
                let uuid = self.held.get(HEADER + 1..HEADER + 17).and_then(|uuid| uuid.try_into().ok());
                let begun = uuid.map(|uuid| MysqlGtid::of_server(uuid, self.number(HEADER + 17, 8)));
                if begun.as_ref() == Some(last) { Stage::Within } else { Stage::Before }
            }
            _ => Stage::Before,
        }
    }

    fn decide(&mut self, before: &mut Vec<u8>) -> Result<(), Broken> {
        if self.stage == Stage::Magic {
            self.stage = Stage::Before;
            before.append(&mut self.held);
            return Ok(());
        }
        let kind = self.held.get(4).copied().unwrap_or_default();
        self.left = self.number(9, 4).checked_sub(self.held.len() as u64).ok_or(Broken)?;
        self.stage = match self.stage {
            Stage::Within if BEGINNINGS.contains(&kind) => Stage::Behind,
            Stage::Before => self.begins(kind),
            stage => stage,
        };
        if self.stage != Stage::Behind {
            before.append(&mut self.held);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let mut event = vec![0, 0, 0, 0, kind, 7, 0, 0, 0];
        event.extend(length.to_le_bytes());
        event.extend([0; 6]);
        event.extend(body);
        event
    }

    fn gtid(domain: u32, number: u64) -> Vec<u8> {
        let mut body = number.to_le_bytes().to_vec();
        body.extend(domain.to_le_bytes());
        body.extend([0; 7]);
        event(GTID_EVENT, &body)
    }

    fn file() -> Vec<Vec<u8>> {
        let rows = || event(23, &[1; 100]);
        vec![
            b"\xfebin".to_vec(),
            event(15, &[0; 80]),
            gtid(0, 4),
            rows(),
            gtid(3, 9),
            rows(),
            gtid(0, 5),
            rows(),
            rows(),
            gtid(3, 10),
            rows(),
            gtid(0, 7),
            rows(),
            event(ROTATE_EVENT, &[0; 20]),
        ]
    }

    fn up_to(last: &str, piece: usize) -> (Vec<u8>, bool) {
        let mut up_to = UpTo::transaction(last.parse().unwrap());
        let passed: Vec<u8> =
            file().concat().chunks(piece).flat_map(|piece| up_to.pass(piece).unwrap()).collect();
        assert_eq!(up_to.passed(), passed.len() as u64);
        (passed, up_to.is_reached())
    }

    #[test]
    fn a_file_is_passed_on_up_to_the_end_of_the_transaction_however_it_is_cut() {
        for piece in [1, 7, 64, 10_000] {
            for (last, events) in [("0-7-5", 9), ("3-7-9", 6), ("0-7-6", 11), ("0-7-7", 13), ("0-7-3", 2)] {
                assert_eq!(up_to(last, piece), (file()[..events].concat(), true), "{last} by {piece}");
            }
            assert_eq!(up_to("5-7-1", piece), (file().concat(), false), "of no domain in it");
        }
    }

    #[test]
    fn a_transaction_of_mysql_ends_where_the_next_one_begins() {
        let gtid = |number: u64| {
            event(GTID_LOG_EVENT, &[&[0][..], &[7; 16], &number.to_le_bytes(), &[0; 20]].concat())
        };
        let rows = || event(30, &[1; 100]);
        let tagged = event(GTID_TAGGED_LOG_EVENT, &[0; 40]);
        let file =
            [b"\xfebin".to_vec(), gtid(9), rows(), gtid(4), rows(), rows(), tagged, rows(), gtid(5), rows()];
        for piece in [1, 7, 10_000] {
            for (number, events) in [(9, 3), (4, 6), (5, 10), (6, 10)] {
                let gtid = format!("07070707-0707-0707-0707-070707070707:{number}");
                let mut up_to = UpTo::transaction(gtid.parse().unwrap());
                let passed: Vec<u8> =
                    file.concat().chunks(piece).flat_map(|piece| up_to.pass(piece).unwrap()).collect();
                assert_eq!((passed, up_to.is_reached()), (file[..events].concat(), number != 6), "{gtid}");
            }
        }
    }

    #[test]
    fn an_event_shorter_than_its_own_header_is_no_event() {
        let mut up_to = UpTo::transaction("0-7-5".parse().unwrap());
        assert_eq!(up_to.pass(&[b"\xfebin".to_vec(), vec![0; HEADER]].concat()), Err(Broken));
    }
}
