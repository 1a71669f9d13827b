//! Places in an engine's log, as far as two of them can be compared.

use std::cmp::Ordering;

/// A place in an engine's log.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    },
    /// PostgreSQL: `0/3000028`, a log sequence number (documentation, "pg_lsn Type").
    Lsn(u64),
}

impl<'a> LogPosition<'a> {
    /// Reads a position as manifests bear it. Behind a comma may stand whose log it is (`server ID`) and other names of the
    /// same place, such as a GTID.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut pieces = text.split(',').map(str::trim);
        let place = pieces.next()?;
        let server = pieces.find_map(|piece| piece.strip_prefix("server "));
        lsn(place).or_else(|| binlog(place, server))
    }
}

fn lsn(text: &str) -> Option<LogPosition<'_>> {
    let half = |digits: &str| {
        let is_hex = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    };
    let (high, low) = text.split_once('/')?;
    Some(LogPosition::Lsn(half(high)? << 32 | half(low)?))
}

fn binlog<'a>(text: &'a str, server: Option<&'a str>) -> Option<LogPosition<'a>> {
    let (file, offset) = text.rsplit_once(':')?;
    let (stem, number) = file.rsplit_once('.')?;
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(number) || !is_number(offset) {
        return None;
    }
    Some(LogPosition::Binlog { server, stem, number: number.parse().ok()?, offset: offset.parse().ok()? })
}

/// Places of different logs have no order.
impl PartialOrd for LogPosition<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        use LogPosition::{Binlog, Lsn};
        match (self, other) {
            (Lsn(one), Lsn(other)) => one.partial_cmp(other),
            (
                Binlog { server, stem, number, offset },
                Binlog { server: other_server, stem: other_stem, number: other_number, offset: other_offset },
            ) if (server, stem) == (other_server, other_stem) => {
                (number, offset).partial_cmp(&(other_number, other_offset))
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
}
