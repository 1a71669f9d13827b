//! Places in an engine's log, as far as two of them can be compared.

use std::{cmp::Ordering, fmt};

use super::transactions::Transactions;

/// A place in an engine's log.
#[derive(Clone, Debug)]
pub enum LogPosition<'a> {
    /// MariaDB and MySQL: `bin.000007:4711`, a binary log file and an offset in it.
    Binlog {
        /// Whose log it is, as far as that is told: positions of different servers have no order.
        server: Option<&'a str>,
        /// The part of the file's name before its number.
        stem: &'a str,
        /// The number of the file.
        number: u64,
        /// Bytes from the file's beginning.
        offset: u64,
        /// Those before it, as far as they are told. A log that was reset numbers its files anew: places of which these can't both
        /// be true have no order.
        transactions: Transactions,
    },
    /// PostgreSQL.
    Wal(WalPosition<'a>),
    /// MongoDB.
    Oplog(OplogPosition<'a>),
}

/// A place in the oplog of a replica set of MongoDB: `oplog 1795934561:18 of 65f0…`, the timestamp of one of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OplogPosition<'a> {
    /// Seconds since 1970.
    pub time: u32,
    /// Counts the entries of that second.
    pub increment: u32,
    /// Whose log it is: timestamps of different logs have no order.
    pub log: &'a str,
}

/// What positions in an oplog begin with.
const OPLOG: &str = "oplog ";

impl<'a> OplogPosition<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (stamp, log) = text.strip_prefix(OPLOG)?.split_once(" of ")?;
        let (time, increment) = stamp.split_once(':')?;
        Some(Self { time: time.parse().ok()?, increment: increment.parse().ok()?, log })
    }
}

impl fmt::Display for OplogPosition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPLOG}{}:{} of {}", self.time, self.increment, self.log)
    }
}

impl PartialOrd for OplogPosition<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let stamp = |it: &Self| (it.time, it.increment);
        (self.log == other.log).then(|| stamp(self).cmp(&stamp(other)))
    }
}

/// A place in PostgreSQL's write-ahead log: `0/3000028, timeline 2, after 1 until 0/2F00000, system 7112…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalPosition<'a> {
    /// The log sequence number (documentation, "pg_lsn Type").
    pub lsn: Lsn,
    /// The cluster's system identifier, as far as it is told: positions of different clusters have no order.
    pub system: Option<&'a str>,
    /// In which history.
    pub history: History,
}

/// A timeline and those that it grew out of (documentation, "Timelines"): two servers that were one may have gone different
/// ways, and then a number is not the same place in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The timeline.
    pub timeline: u32,
    /// Its ancestors, oldest first, each with the place up to which it is followed.
    pub ancestors: Vec<(u32, Lsn)>,
}

/// A log sequence number: bytes from the beginning of a write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Reads `16/B374D848`.
    pub fn parse(text: &str) -> Option<Self> {
        let half = |digits: &str| {
            let is_hex = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            is_hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        let (high, low) = text.split_once('/')?;
        Some(Lsn(half(high)? << 32 | half(low)?))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl History {
    /// Whether a place of another history is one of this as well. Two servers may have given different timelines the same
    /// number: what came before must be the same, too.
    pub fn has(&self, place: &WalPosition<'_>) -> bool {
        let before = self.ancestors.iter().take_while(|(ancestor, _)| *ancestor != place.history.timeline);
        if !before.eq(&place.history.ancestors) {
            return false;
        }
        match self.ancestors.get(place.history.ancestors.len()) {
            Some((_, until)) => place.lsn <= *until,
            None => place.history.timeline == self.timeline,
        }
    }

    /// The history of a place in it: what came later is left out.
    pub fn at(&self, lsn: Lsn) -> History {
        let before = self.ancestors.iter().take_while(|(_, until)| *until <= lsn).count();
        let timeline = self.ancestors.get(before).map_or(self.timeline, |(timeline, _)| *timeline);
        History { timeline, ancestors: self.ancestors[..before].to_vec() }
    }
}

impl fmt::Display for WalPosition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, timeline {}", self.lsn, self.history.timeline)?;
        self.history
            .ancestors
            .iter()
            .try_for_each(|(timeline, until)| write!(f, ", after {timeline} until {until}"))?;
        self.system.map_or(Ok(()), |system| write!(f, ", system {system}"))
    }
}

impl<'a> WalPosition<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut pieces = text.split(',').map(str::trim);
        let lsn = Lsn::parse(pieces.next()?)?;
        let mut position =
            Self { lsn, system: None, history: History { timeline: 0, ancestors: Vec::new() } };
        for piece in pieces {
            if let Some(timeline) = piece.strip_prefix("timeline ") {
                position.history.timeline = timeline.parse().ok()?;
            } else if let Some(fork) = piece.strip_prefix("after ") {
                let (timeline, until) = fork.split_once(" until ")?;
                position.history.ancestors.push((timeline.parse().ok()?, Lsn::parse(until)?));
            } else if let Some(system) = piece.strip_prefix("system ") {
                position.system = Some(system);
            }
        }
        Some(position)
    }
}

/// Places of which neither can be reached from the other have no order.
impl PartialOrd for WalPosition<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self.system != other.system {
            return None;
        }
        if self.history == other.history {
            return Some(self.lsn.cmp(&other.lsn));
        }
        match (other.history.has(self), self.history.has(other)) {
            (true, _) => Some(Ordering::Less),
            (false, true) => Some(Ordering::Greater),
            (false, false) => None,
        }
    }
}

impl<'a> LogPosition<'a> {
    /// Reads a position as manifests bear it. Behind a comma may stand whose log it is (`server ID`, `system ID`) and other
    /// names of the same place, such as a GTID.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.starts_with(OPLOG) {
            return OplogPosition::parse(text).map(LogPosition::Oplog);
        }
        WalPosition::parse(text).map(LogPosition::Wal).or_else(|| {
            let mut pieces = text.split(',').map(str::trim);
            let place = pieces.next()?;
            binlog(
                place,
                pieces.find_map(|piece| piece.strip_prefix("server ")),
                Transactions::of_position(text),
            )
        })
    }

    /// Whether a place as people write it, which may not tell whose log it is, lies behind `from` and can be come to by a log
    /// that ends at `until`.
    pub fn lies_between(&self, from: &LogPosition<'_>, until: &LogPosition<'_>) -> bool {
        match (self, from, until) {
            (LogPosition::Wal(place), LogPosition::Wal(from), LogPosition::Wal(until)) => {
                let timeline = until.history.at(place.lsn).timeline;
                let is_of_that_log = [0, timeline].contains(&place.history.timeline)
                    && (place.system.is_none() || place.system == until.system);
                // At the end of a log stands no record before which recovery could end.
                is_of_that_log && from.lsn < place.lsn && place.lsn < until.lsn
            }
            (LogPosition::Binlog { server, stem, number, offset, transactions }, _, _) => {
                let server = server.or(match until {
                    LogPosition::Binlog { server, .. } => *server,
                    LogPosition::Wal(_) | LogPosition::Oplog(_) => None,
                });
                let (number, offset, transactions) = (*number, *offset, transactions.clone());
                let place = LogPosition::Binlog { server, stem, number, offset, transactions };
                *from < place && place <= *until
            }
            (LogPosition::Oplog(_), _, _) => from < self && self <= until,
            _ => false,
        }
    }

    /// An order of all positions, which agrees with that of places in one log.
    pub fn in_sequence(&self, other: &Self) -> Ordering {
        match (self, other) {
            (LogPosition::Oplog(one), LogPosition::Oplog(other)) => {
                let key = |it: &OplogPosition<'a>| (it.log, it.time, it.increment);
                key(one).cmp(&key(other))
            }
            (LogPosition::Wal(one), LogPosition::Wal(other)) => {
                let key = |it: &WalPosition<'a>| (it.system, it.history.timeline, it.lsn);
                key(one).cmp(&key(other))
            }
            (
                LogPosition::Binlog { server, stem, number, offset, .. },
                LogPosition::Binlog {
                    server: other_server,
                    stem: other_stem,
                    number: other_number,
                    offset: other_offset,
                    ..
                },
            ) => (server, stem, number, offset).cmp(&(other_server, other_stem, other_number, other_offset)),
            _ => self.engine().cmp(&other.engine()),
        }
    }

    /// A number for each engine.
    fn engine(&self) -> u8 {
        match self {
            LogPosition::Binlog { .. } => 0,
            LogPosition::Wal(_) => 1,
            LogPosition::Oplog(_) => 2,
        }
    }
}

/// Where in InnoDB's redo log a copy of its files stands, as its position tells (`bin.000007:4711, lsn 47218`): what changed
/// since has a higher number, so that the next copy needs only that.
pub fn innodb_lsn(position: &str) -> Option<u64> {
    position.split(',').find_map(|piece| piece.trim().strip_prefix("lsn ")?.parse().ok())
}

fn binlog<'a>(text: &'a str, server: Option<&'a str>, transactions: Transactions) -> Option<LogPosition<'a>> {
    let (file, offset) = text.rsplit_once(':')?;
    let (stem, number) = file.rsplit_once('.')?;
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(number) || !is_number(offset) {
        return None;
    }
    let (number, offset) = (number.parse().ok()?, offset.parse().ok()?);
    Some(LogPosition::Binlog { server, stem, number, offset, transactions })
}

/// The same place.
impl PartialEq for LogPosition<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

/// Places of different logs have no order.
impl PartialOrd for LogPosition<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        use LogPosition::{Binlog, Oplog, Wal};
        match (self, other) {
            (Oplog(one), Oplog(other)) => one.partial_cmp(other),
            (Wal(one), Wal(other)) => one.partial_cmp(other),
            (
                Binlog { server, stem, number, offset, transactions },
                Binlog {
                    server: other_server,
                    stem: other_stem,
                    number: other_number,
                    offset: other_offset,
                    transactions: others,
                },
            ) if (server, stem) == (other_server, other_stem) => {
                let order = (number, offset).cmp(&(other_number, other_offset));
                transactions.agree(others, order).then_some(order)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(one: &str, other: &str) -> Option<Ordering> {
        LogPosition::parse(one)?.partial_cmp(&LogPosition::parse(other)?)
    }

    #[test]
    fn positions_of_one_log_are_ordered_by_file_and_offset() {
        assert_eq!(order("bin.000009:500", "bin.000010:4"), Some(Ordering::Less));
        assert_eq!(order("bin.999999:4", "bin.1000000:4"), Some(Ordering::Less));
        assert_eq!(order("bin.000009:90, gtid 0-7-12", "bin.000009:100"), Some(Ordering::Less));
        assert_eq!(order("0/FFFFFFFF", "1/0"), Some(Ordering::Less));
        assert_eq!(order("0/3000028", "0/3000028"), Some(Ordering::Equal));
    }

    #[test]
    fn a_place_that_people_write_lies_in_the_log_that_has_it() {
        let between = |place, from, until| {
            let [place, from, until] = [place, from, until].map(|text| LogPosition::parse(text).unwrap());
            place.lies_between(&from, &until)
        };
        let (from, until) = ("bin.000002:300, server a", "bin.000004:4, server a");
        assert!(between("bin.000003:9000", from, until) && between("bin.000004:4", from, until));
        assert!(between("bin.000003:9000, server a", from, until));
        assert!(!between("bin.000003:9000, server b", from, until), "another server's");
        assert!(!between("bin.000002:300", from, until) && !between("bin.000004:5", from, until));
        assert!(!between("log.000003:9000", from, until) && !between("0/400", from, until));
        let (from, until) =
            ("0/300, timeline 1, system s", "0/900, timeline 2, after 1 until 0/500, system s");
        assert!(between("0/400", from, until) && between("0/8FF", from, until));
        assert!(between("0/400, timeline 1", from, until) && between("0/600, timeline 2", from, until));
        assert!(!between("0/600, timeline 1", from, until), "on a branch that was left");
        assert!(!between("0/300", from, until) && !between("0/900", from, until));
    }

    #[test]
    fn positions_of_different_logs_have_no_order() {
        assert_eq!(order("bin.000009:4", "other.000009:4"), None);
        assert_eq!(order("bin.000009:4", "0/9"), None);
        assert_eq!(
            order("bin.000009:4, server a", "bin.000009:4, gtid 0-1-2, server a"),
            Some(Ordering::Equal)
        );
        assert_eq!(order("bin.000009:4, server a", "bin.000010:4, server b"), None);
        assert_eq!(order("bin.000009:4", "bin.000010:4, server a"), None);
        for nonsense in ["", "bin:4", "bin.x:4", "bin.1:", "0/", "/0", "0/123456789", "gtid 0-1-2"] {
            assert_eq!(LogPosition::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn positions_of_a_log_that_was_reset_have_no_order_where_transactions_tell() {
        assert_eq!(order("bin.000005:4, gtid 0-7-90", "bin.000006:4, gtid 0-7-100"), Some(Ordering::Less));
        assert_eq!(order("bin.000005:4, gtid 0-7-90", "bin.000006:4, gtid 0-7-90"), Some(Ordering::Less));
        assert_eq!(order("bin.000005:4, gtid 0-7-90", "bin.000006:4, gtid 0-7-12"), None, "it was reset");
        assert_eq!(order("bin.000006:4, gtid 0-7-12", "bin.000005:4, gtid 0-7-90"), None);
        assert_eq!(order("bin.000005:4, gtid 0-7-90", "bin.000005:4, gtid 0-7-91"), None);
        let (one, two) = ("bin.000005:4, gtid 0-7-90,3-7-1", "bin.000005:4, gtid 3-7-1, 0-7-90");
        assert_eq!(order(one, two), Some(Ordering::Equal));
        let parse = |text| LogPosition::parse(text).unwrap();
        assert!(parse(one) == parse(two) && parse(one) != parse("bin.000005:4, gtid 0-7-91"));
        assert_eq!(order("bin.000005:4, gtid 0-7-90", "bin.000006:4, gtid 0-8-12"), Some(Ordering::Less));
        assert_eq!(order("bin.000005:4, gtid 0-7-90", "bin.000006:4"), Some(Ordering::Less), "not told");
        assert_eq!(order("bin.000005:4, gtid 0-7-90", "bin.000006:4, gtid 1-7-3"), Some(Ordering::Less));
    }

    #[test]
    fn places_in_an_oplog_are_ordered_by_their_timestamps() {
        assert_eq!(order("oplog 100:9 of a", "oplog 100:10 of a"), Some(Ordering::Less));
        assert_eq!(order("oplog 101:1 of a", "oplog 100:10 of a"), Some(Ordering::Greater));
        assert_eq!(order("oplog 100:1 of a", "oplog 100:1 of a"), Some(Ordering::Equal));
        assert_eq!(order("oplog 100:1 of a", "oplog 101:1 of b"), None, "of another replica set");
        assert_eq!(order("oplog 100:1 of a", "0/400, timeline 1"), None);
        for nonsense in ["oplog ", "oplog 1 of a", "oplog x:1 of a", "oplog 1:1", "oplog 1:99999999999 of a"]
        {
            assert_eq!(LogPosition::parse(nonsense), None, "{nonsense}");
        }
        let place = OplogPosition { time: 7, increment: 8, log: "a-b" };
        assert_eq!(LogPosition::parse(&place.to_string()), Some(LogPosition::Oplog(place)));
        let [oplog, wal, binlog] =
            ["oplog 1:1 of a", "0/1", "bin.1:4"].map(|text| LogPosition::parse(text).unwrap());
        assert_eq!(oplog.in_sequence(&wal), Ordering::Greater);
        assert_eq!(binlog.in_sequence(&oplog), Ordering::Less);
        let later = LogPosition::parse("oplog 9:1 of a").unwrap();
        assert!(later.lies_between(&oplog, &later) && !oplog.lies_between(&oplog, &later));
        assert!(!LogPosition::parse("oplog 5:1 of b").unwrap().lies_between(&oplog, &later));
    }

    #[test]
    fn places_before_a_fork_are_in_both_histories_and_those_behind_it_in_one() {
        let after = ", timeline 2, after 1 until 0/500, system s";
        assert_eq!(order("0/400, timeline 1, system s", &format!("0/600{after}")), Some(Ordering::Less));
        assert_eq!(order("0/500, timeline 1, system s", &format!("0/500{after}")), Some(Ordering::Less));
        assert_eq!(order(&format!("0/600{after}"), "0/400, timeline 1, system s"), Some(Ordering::Greater));
        assert_eq!(
            order("0/501, timeline 1, system s", &format!("0/600{after}")),
            None,
            "on a branch that was left"
        );
        assert_eq!(
            order("0/400, timeline 1, system t", &format!("0/600{after}")),
            None,
            "of another cluster"
        );
        let other = "0/700, timeline 3, after 1 until 0/550, system s";
        assert_eq!(order(other, &format!("0/600{after}")), None, "neither grew out of the other");
        let twin = "0/700, timeline 2, after 1 until 0/550, system s";
        assert_eq!(order(twin, &format!("0/600{after}")), None, "two timelines of one number");
        let younger = "0/900, timeline 3, after 1 until 0/500, after 2 until 0/800, system s";
        assert_eq!(order(&format!("0/600{after}"), younger), Some(Ordering::Less));
        assert_eq!(order(twin, younger), None, "nor did the twin's heirs");
    }

    #[test]
    fn places_in_a_history_know_the_part_of_it_before_them_and_are_read_back() {
        let history = History { timeline: 3, ancestors: vec![(1, Lsn(0x500)), (2, Lsn(0x900))] };
        for (lsn, text) in [
            (0x4FF, "0/4FF, timeline 1, system s"),
            (0x500, "0/500, timeline 2, after 1 until 0/500, system s"),
            (0x1_0000_0900, "1/900, timeline 3, after 1 until 0/500, after 2 until 0/900, system s"),
        ] {
            let place = WalPosition { lsn: Lsn(lsn), system: Some("s"), history: history.at(Lsn(lsn)) };
            assert_eq!(place.to_string(), text);
            assert_eq!(LogPosition::parse(text), Some(LogPosition::Wal(place.clone())));
            assert!(history.has(&place));
        }
    }
}
