//! How far a binary log file is whole: event by event, each proved by its place, its length and its checksum; and how far of that
//! its transactions have ended (MariaDB's documentation, "Binlog Event Checksums", "Event Header", "GTID_EVENT" and
//! "FORMAT_DESCRIPTION_EVENT"; `libs/mysql/binlog/event` of MySQL's source). Pure.

use crc_fast::{CrcAlgorithm, Digest};

use crate::artifact::{
    gtid_set::{GtidSet, MOST_INTERVALS, MysqlGtid},
    transactions::{Gtid, Transaction, Transactions},
};

const MAGIC: &[u8; 4] = b"\xfebin";
/// How long an event's header is, bytes.
const HEADER: usize = 19;
/// How much of an event's beginning is looked at, bytes: more than the text that ends a transaction takes.
const HEAD: usize = 2048;
/// And of one that lists transactions: more than any has domains and servers for.
const LONGEST_LIST: usize = 1 << 20;
/// How long a transaction is in a list, bytes.
const LISTED: usize = 16;
/// How long a checksum is, bytes.
const CHECKSUM: u64 = 4;
/// Where the flags of an event are, and the one that tells that the file is still written to (`LOG_EVENT_BINLOG_IN_USE_F`): it is
/// taken back when the file is closed, and no checksum covers it.
const FLAGS: usize = 17;
const IN_USE: u8 = 1;
/// Where in the file that flag is.
const IN_USE_AT: u64 = MAGIC.len() as u64 + FLAGS as u64;

const QUERY_EVENT: u8 = 2;
const STOP_EVENT: u8 = 3;
const ROTATE_EVENT: u8 = 4;
const FORMAT_DESCRIPTION_EVENT: u8 = 15;
const XID_EVENT: u8 = 16;
const GTID_LOG_EVENT: u8 = 33;
const ANONYMOUS_GTID_LOG_EVENT: u8 = 34;
const PREVIOUS_GTIDS_LOG_EVENT: u8 = 35;
const XA_PREPARE_EVENT: u8 = 38;
const TRANSACTION_PAYLOAD_EVENT: u8 = 40;
const GTID_TAGGED_LOG_EVENT: u8 = 42;
const BINLOG_CHECKPOINT_EVENT: u8 = 161;
const GTID_EVENT: u8 = 162;
const GTID_LIST_EVENT: u8 = 163;
const START_ENCRYPTION_EVENT: u8 = 164;

/// Set where one statement is all of a group, and nothing ends it (`FL_STANDALONE`).
const STANDALONE: u8 = 1;
/// What begins a group of several events, where no flag tells.
const BEGINS: [&[u8]; 2] = [b"BEGIN", b"XA START"];
/// What ends nothing, though it begins like what does.
const BACK_TO_SAVEPOINT: &[u8] = b"ROLLBACK TO";
/// What ends a group of statements that is no transaction of an engine.
const ENDS: [&[u8]; 4] = [b"COMMIT", b"ROLLBACK", b"XA COMMIT", b"XA ROLLBACK"];

/// Walks over the events of a file, from its beginning.
#[derive(Debug)]
pub(super) struct Walk {
    /// Where the event begins that is looked at.
    begins: u64,
    /// As much of its beginning as is kept.
    head: Vec<u8>,
    /// How much of it was seen.
    seen: u64,
    checksums: Checksums,
    sum: Option<Sum>,
    group: Group,
    /// The transaction of the group that is open.
    transaction: Option<Transaction>,
    whole: Whole,
    is_over: bool,
}

/// What of a file has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    /// Behind the last group of events that did.
    pub end: u64,
    /// When that was written, by the server's clock, seconds since the Unix epoch.
    pub seconds: u32,
    /// The transactions in it.
    pub transactions: Transactions,
    /// Those before the file, once that has told them.
    pub before: Option<Transactions>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checksums {
    /// The first event tells.
    Untold,
    None,
    Crc32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    None,
    /// Its first statement tells whether it is all of it.
    Begun,
    OneStatement,
    Open,
}

/// The checksum of an event that goes by.
struct Sum {
    digest: Digest,
    told: [u8; CHECKSUM as usize],
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sum").field("told", &self.told).finish_non_exhaustive()
    }
}

impl Walk {
    pub(super) fn begin() -> Self {
        Self {
            begins: 0,
            head: Vec::with_capacity(HEAD),
            seen: 0,
            checksums: Checksums::Untold,
            sum: None,
            group: Group::None,
            transaction: None,
            whole: Whole::default(),
            is_over: false,
        }
    }

    /// Looks at the next bytes of the file.
    pub(super) fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_over {
            let wanted = self.length().saturating_sub(self.seen).max(1);
            let (now, later) = bytes.split_at(usize::try_from(wanted).unwrap_or(usize::MAX).min(bytes.len()));
            self.take(now);
            bytes = later;
        }
    }

    /// Whether something was seen that is no event.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether nothing was begun that has not ended.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_over && self.seen == 0 && self.group == Group::None
    }

    /// What has ended.
    pub(super) fn whole(&self) -> &Whole {
        &self.whole
    }

    /// The transactions that the file tells of before this place; `None` where no event begins there.
    pub(super) fn transactions_at(&self, place: u64) -> Option<Transactions> {
        let is_there = !self.is_over && self.seen == 0 && self.begins == place;
        is_there.then(|| {
            let mut all = self.whole.transactions.clone();
            self.transaction.iter().for_each(|open| all.add(open));
            all
        })
    }

    /// How long what is looked at is, as far as it has told.
    fn length(&self) -> u64 {
        match (self.begins, self.head.len()) {
            (0, _) => MAGIC.len() as u64,
            (_, HEADER..) => number(&self.head, 9, 4),
            _ => HEADER as u64,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        // The header comes by itself, and tells what follows.
        let lists = [GTID_LIST_EVENT, PREVIOUS_GTIDS_LOG_EVENT].map(Some);
        let most = if lists.contains(&self.head.get(4).copied()) { LONGEST_LIST } else { HEAD };
        let kept = bytes.len().min(most.saturating_sub(self.head.len()));
        self.head.extend_from_slice(&bytes[..kept]);
        let before = self.seen;
        self.seen += bytes.len() as u64;
        if self.begins == 0 {
            if self.seen == MAGIC.len() as u64 {
                self.is_over = self.head != MAGIC;
                self.go_on();
            }
            return;
        }
        if before < HEADER as u64 && self.seen == HEADER as u64 {
            self.begin_event();
        } else if before >= HEADER as u64 {
            let length = self.length();
            if let Some(sum) = &mut self.sum {
                sum.take(bytes, before, length);
            }
        }
        if !self.is_over && self.seen >= HEADER as u64 && self.seen == self.length() {
            self.end_event();
        }
    }

    /// The header is complete.
    fn begin_event(&mut self) {
        let (length, told) = (self.length(), number(&self.head, 13, 4));
        let is_first = self.begins == MAGIC.len() as u64;
        let end = self.begins + length;
        if length < HEADER as u64
            || told != end & u64::from(u32::MAX)
            || is_first != (self.head[4] == FORMAT_DESCRIPTION_EVENT)
        {
            self.is_over = true;
            return;
        }
        let has_sum = is_first || self.checksums == Checksums::Crc32;
        if has_sum && length < HEADER as u64 + CHECKSUM {
            self.is_over = true;
            return;
        }
        self.sum = has_sum.then(|| {
            let mut sum = Sum { digest: Digest::new(CrcAlgorithm::Crc32IsoHdlc), told: [0; 4] };
            let mut header: Vec<u8> = self.head[..HEADER].to_vec();
            if is_first {
                header[FLAGS] &= !IN_USE;
            }
            sum.take(&header, 0, length);
            sum
        });
    }

    fn end_event(&mut self) {
        let is_first = self.checksums == Checksums::Untold;
        if is_first {
            // Behind the lengths of all events' headers stands which checksums there are, and then this event's own.
            let kind = usize::try_from(self.seen - CHECKSUM - 1).ok().and_then(|at| self.head.get(at));
            self.checksums = match kind {
                Some(0) => Checksums::None,
                Some(1) => Checksums::Crc32,
                _ => {
                    self.is_over = true;
                    return;
                }
            };
        }
        let sum = self.sum.take().filter(|_| self.checksums == Checksums::Crc32);
        if sum.is_some_and(|sum| !sum.agrees()) {
            self.is_over = true;
            return;
        }
        self.group();
        self.go_on();
    }

    /// What an event that has ended means to the group that it is in.
    fn group(&mut self) {
        let kind = self.head[4];
        match kind {
            GTID_EVENT | GTID_LOG_EVENT | ANONYMOUS_GTID_LOG_EVENT => return self.begin_group(kind),
            // Its number is told in a way that is not read here.
            GTID_TAGGED_LOG_EVENT => {
                self.is_over = true;
                return;
            }
            GTID_LIST_EVENT if self.whole.before.is_none() => self.whole.before = self.list(),
            PREVIOUS_GTIDS_LOG_EVENT if self.whole.before.is_none() => {
                self.whole.before = self.executed().map(Transactions::executed);
            }
            _ => {}
        }
        let ends = match kind {
            STOP_EVENT
            | ROTATE_EVENT
            | FORMAT_DESCRIPTION_EVENT
            | BINLOG_CHECKPOINT_EVENT
            | GTID_LIST_EVENT
            | PREVIOUS_GTIDS_LOG_EVENT
            | START_ENCRYPTION_EVENT
            | XID_EVENT
            | XA_PREPARE_EVENT
            | TRANSACTION_PAYLOAD_EVENT => true,
            QUERY_EVENT => self.query_ends(),
            _ => self.group == Group::None,
        };
        if ends {
            self.ended(self.begins + self.seen);
            self.whole.seconds = number(&self.head, 0, 4) as u32;
        }
    }

    fn begin_group(&mut self, kind: u8) {
        // Whatever was open before has ended with it.
        self.ended(self.begins);
        (self.group, self.transaction) = match kind {
            GTID_EVENT => {
                let is_one = self.head.get(HEADER + 12).is_some_and(|flags| flags & STANDALONE != 0);
                let gtid = Gtid {
                    domain: number(&self.head, HEADER + 8, 4) as u32,
                    server: number(&self.head, 5, 4) as u32,
                    number: number(&self.head, HEADER, 8),
                };
                (if is_one { Group::OneStatement } else { Group::Open }, Some(Transaction::MariaDb(gtid)))
            }
            GTID_LOG_EVENT => {
                let uuid = self.head.get(HEADER + 1..HEADER + 17).and_then(|uuid| uuid.try_into().ok());
                let numbered =
                    uuid.map(|uuid| MysqlGtid::of_server(uuid, number(&self.head, HEADER + 17, 8)));
                (Group::Begun, numbered.map(Transaction::MySql))
            }
            _ => (Group::Begun, None),
        };
    }

    /// Whether a statement is the last of its group.
    fn query_ends(&mut self) -> bool {
        let begins_with = |text: &[u8], ones: &[&[u8]]| ones.iter().any(|one| text.starts_with(one));
        match self.group {
            Group::OneStatement | Group::None => true,
            Group::Open => self
                .statement()
                .is_some_and(|text| begins_with(text, &ENDS) && !begins_with(text, &[BACK_TO_SAVEPOINT])),
            Group::Begun => {
                // One whose text is not seen may begin a transaction, which then ends where the next begins.
                let is_all = self.text().is_some_and(|text| !begins_with(text, &BEGINS));
                if !is_all {
                    self.group = Group::Open;
                }
                is_all
            }
        }
    }

    fn ended(&mut self, end: u64) {
        self.group = Group::None;
        self.whole.end = end;
        if let Some(transaction) = self.transaction.take() {
            self.whole.transactions.add(&transaction);
            // Numbers of one server follow each other, as a rule.
            self.is_over |= self.whole.transactions.intervals() > MOST_INTERVALS;
        }
    }

    /// The last transaction of each domain that a list tells: the last of a domain is its newest (MariaDB's documentation,
    /// "GTID_LIST_EVENT").
    fn list(&self) -> Option<Transactions> {
        let count = usize::try_from(number(&self.head, HEADER, 4) & 0x0FFF_FFFF).ok()?;
        let listed = self.head.get(HEADER + 4..)?.get(..count.checked_mul(LISTED)?)?;
        let gtids = listed.chunks_exact(LISTED).map(|one| Gtid {
            domain: number(one, 0, 4) as u32,
            server: number(one, 4, 4) as u32,
            number: number(one, 8, 8),
        });
        Some(Transactions::last_of_domains(gtids))
    }

    /// The set of transactions that a file tells to be before it: how many servers, and of each its identifier and its intervals,
    /// whose ends are not in them (`Gtid_set::encode` of MySQL's source). `None` where it has tags: their format is another one.
    fn executed(&self) -> Option<GtidSet> {
        let mut rest = self.head.get(HEADER..)?;
        let mut next = |length: usize| {
            let (now, later) = rest.split_at_checked(length)?;
            rest = later;
            Some(now)
        };
        let mut set = GtidSet::default();
        for _ in 0..number(next(8)?, 0, 8) {
            let uuid: [u8; 16] = next(16)?.try_into().ok()?;
            for _ in 0..number(next(8)?, 0, 8) {
                let (first, behind) = (number(next(8)?, 0, 8), number(next(8)?, 0, 8));
                let last = behind.checked_sub(1).filter(|last| 0 < first && first <= *last)?;
                set.add_of_server(uuid, (first, last));
                if set.intervals() > MOST_INTERVALS {
                    return None;
                }
            }
        }
        Some(set)
    }

    /// The text of a statement, where that is short.
    fn statement(&self) -> Option<&[u8]> {
        let is_kept = self.seen == self.head.len() as u64;
        self.text().filter(|_| is_kept)
    }

    /// The beginning of the text of a statement, where it is near the event's own.
    fn text(&self) -> Option<&[u8]> {
        let (schema, status) = (number(&self.head, HEADER + 8, 1), number(&self.head, HEADER + 11, 2));
        let begin = usize::try_from(HEADER as u64 + 13 + status + schema + 1).ok()?;
        self.head
            .get(begin..)
            .filter(|text| text.len() > BACK_TO_SAVEPOINT.len() || self.seen == self.head.len() as u64)
    }

    fn go_on(&mut self) {
        self.begins += self.seen;
        self.seen = 0;
        self.head.clear();
    }
}

impl Sum {
    /// Takes bytes that stand `at` so much behind the beginning of an event of this length.
    fn take(&mut self, bytes: &[u8], at: u64, length: u64) {
        let covered = usize::try_from((length - CHECKSUM).saturating_sub(at)).unwrap_or(usize::MAX);
        let (covered, told) = bytes.split_at(covered.min(bytes.len()));
        self.digest.update(covered);
        for (place, byte) in told.iter().enumerate() {
            let place = (at + (covered.len() + place) as u64).saturating_sub(length - CHECKSUM);
            if let Some(slot) = usize::try_from(place).ok().and_then(|place| self.told.get_mut(place)) {
                *slot = *byte;
            }
        }
    }

    fn agrees(self) -> bool {
        self.digest.finalize() == u64::from(u32::from_le_bytes(self.told))
    }
}

/// Takes back the flag that tells that a file is still written to, in bytes that stand `at` this place of it.
pub(super) fn close(bytes: &mut [u8], at: u64) {
    let place = IN_USE_AT.checked_sub(at).and_then(|place| usize::try_from(place).ok());
    if let Some(flags) = place.and_then(|place| bytes.get_mut(place)) {
        *flags &= !IN_USE;
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes.iter().skip(at).take(length).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
