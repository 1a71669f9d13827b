//! Places in an engine's log, as far as two of them can be compared.

use std::cmp::Ordering;

/// A place in an engine's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPosition<'a> {
    /// MariaDB and MySQL: `bin.000007:4711`, a binary log file and an offset in it.
    Binlog {
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
    /// Reads a position as manifests bear it; what stands behind a comma, such as a GTID, is another name of the same place.
    pub fn parse(text: &'a str) -> Option<Self> {
        let place = text.split(',').next()?.trim();
        lsn(place).or_else(|| binlog(place))
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

fn binlog(text: &str) -> Option<LogPosition<'_>> {
    let (file, offset) = text.rsplit_once(':')?;
    let (stem, number) = file.rsplit_once('.')?;
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(number) || !is_number(offset) {
        return None;
    }
    Some(LogPosition::Binlog { stem, number: number.parse().ok()?, offset: offset.parse().ok()? })
}

/// Places of different logs have no order.
impl PartialOrd for LogPosition<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (LogPosition::Lsn(one), LogPosition::Lsn(other)) => one.partial_cmp(other),
            (
                LogPosition::Binlog { stem, number, offset },
                LogPosition::Binlog { stem: other_stem, number: other_number, offset: other_offset },
            ) if stem == other_stem => (number, offset).partial_cmp(&(other_number, other_offset)),
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
        for nonsense in ["", "bin:4", "bin.x:4", "bin.1:", "0/", "/0", "0/123456789", "gtid 0-1-2"] {
            assert_eq!(LogPosition::parse(nonsense), None, "{nonsense}");
        }
    }
}
