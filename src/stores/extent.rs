//! Which bytes of an object a read takes, decided before any of them is read.

use std::ops::Range;

use super::ErrorKind;

/// Why a read is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The range ends beyond the object, or before it begins.
    #[error("bytes {} to {} were asked for, the object has {size}", .range.start, .range.end)]
    Beyond {
        /// What was asked for.
        range: Range<u64>,
        /// Bytes of the object.
        size: u64,
    },
    /// More bytes than the reader takes.
    #[error("{wanted} bytes are more than the {limit} that are read at most")]
    TooLarge {
        /// Bytes that the read would give.
        wanted: u64,
        /// The reader's limit.
        limit: u64,
    },
}

impl Refused {
    /// What kind of failure this is to a caller of a store.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Protocol
    }
}

/// The bytes to read of an object of `size` bytes: all of it, or `range`.
pub fn extent(size: u64, range: Option<Range<u64>>, limit: u64) -> Result<Range<u64>, Refused> {
    let range = range.unwrap_or(0..size);
    if range.start > range.end || range.end > size {
        return Err(Refused::Beyond { range, size });
    }
    within(&range, limit)?;
    Ok(range)
}

/// Whether `range` is short enough to be read.
pub fn within(range: &Range<u64>, limit: u64) -> Result<(), Refused> {
    let wanted = range.end.saturating_sub(range.start);
    if wanted > limit { Err(Refused::TooLarge { wanted, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_takes_what_is_there_and_no_more_than_the_limit() {
        assert_eq!(extent(5, None, 5), Ok(0..5));
        assert_eq!(extent(5, None, 4), Err(Refused::TooLarge { wanted: 5, limit: 4 }));
        assert_eq!(extent(5, Some(1..4), 3), Ok(1..4));
        assert_eq!(extent(5, Some(5..5), 0), Ok(5..5));
        assert_eq!(extent(0, None, 0), Ok(0..0));
        assert_eq!(extent(5, Some(4..6), 9), Err(Refused::Beyond { range: 4..6, size: 5 }));
        #[expect(clippy::reversed_empty_ranges, reason = "the case under test")]
        let reversed = 4..2;
        assert!(extent(5, Some(reversed), 9).is_err());
    }
}
