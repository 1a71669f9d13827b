//! Where a replay of logs ends: a moment, or a place that an engine has its own name for.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::position::{LogPosition, Lsn};

/// Where a replay of logs ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// Before what happened at this moment.
    Moment(Timestamp),
    /// Before what stands at this place in the log.
    Place(Place),
    /// Behind this transaction, and all that the log tells before it.
    Transaction(Gtid),
    /// Behind the mark of this name: a named restore point of PostgreSQL (documentation, "Backup Control Functions").
    Named(PointName),
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Until::Moment(at) => write!(f, "{at:.0}"),
            Until::Place(place) => write!(f, "{place}"),
            Until::Transaction(gtid) => write!(f, "transaction {gtid}"),
            Until::Named(name) => write!(f, "point {name}"),
        }
    }
}

/// A place in an engine's log, as its tools write it: `bin.000007:4711`, or `16/B374D848`. Whose log it is may stand behind it,
/// as manifests tell it (`16/B374D848, timeline 2`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place(String);

impl Place {
    /// The place, to be compared.
    pub fn position(&self) -> Option<LogPosition<'_>> {
        LogPosition::parse(&self.0)
    }
}

/// A transaction of MariaDB by its global identifier (MariaDB's documentation, "Global Transaction ID"): `0-7-12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Gtid {
    /// The replication domain: numbers rise in each by itself.
    pub domain: u32,
    /// The server that it was made on.
    pub server: u32,
    /// Its number.
    pub number: u64,
}

/// The name of a restore point: 1 to 63 bytes, as PostgreSQL takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PointName(String);

impl PointName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A named restore point in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedPoint {
    /// Its name: not the only one's of that name, perhaps.
    pub name: PointName,
    /// Where its record begins.
    pub place: Place,
}

impl From<Lsn> for Place {
    fn from(lsn: Lsn) -> Self {
        Self(lsn.to_string())
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match LogPosition::parse(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(format!("{text:?} is no place in a log, such as bin.000007:4711 or 16/B374D848")),
        }
    }
}

impl FromStr for Gtid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('-');
        let parsed = (|| {
            let (domain, server, number) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Self {
                domain: domain.parse().ok()?,
                server: server.parse().ok()?,
                number: number.parse().ok()?,
            })
        })();
        parsed
            .filter(|_| parts.next().is_none())
            .ok_or_else(|| format!("{text:?} is no global transaction identifier, such as 0-7-12"))
    }
}

impl FromStr for PointName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if (1..64).contains(&text.len()) && !text.chars().any(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("{text:?} is no name of a restore point: those have 1 to 63 bytes"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.number)
    }
}

impl fmt::Display for PointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_text!(Place, Gtid, PointName);

/// The transactions up to which a place in a log of MariaDB has come, one of each domain: `gtid 0-7-12,1-8-5` in a position.
pub fn transactions(position: &str) -> Vec<Gtid> {
    let pieces = position.split(',').map(str::trim);
    pieces.filter_map(|piece| piece.strip_prefix("gtid ").unwrap_or(piece).parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_transactions_and_names_are_read_as_engines_write_them() {
        assert_eq!("0-7-12".parse(), Ok(Gtid { domain: 0, server: 7, number: 12 }));
        for bad in ["", "0-7", "0-7-12-1", "0-7-x", "-1-7-2", "3E11FA47-71CA-11E1-9E33-C80AA9429562:23"] {
            assert!(bad.parse::<Gtid>().is_err(), "{bad}");
        }
        assert!(
            "bin.000007:4711".parse::<Place>().is_ok() && "16/B374D848, timeline 2".parse::<Place>().is_ok()
        );
        assert!("bin:4711".parse::<Place>().is_err() && "2026-11-19 12:00".parse::<Place>().is_err());
        assert!("before upgrade".parse::<PointName>().is_ok());
        assert!("".parse::<PointName>().is_err() && "a\nb".parse::<PointName>().is_err());
        assert!("x".repeat(64).parse::<PointName>().is_err());
    }

    #[test]
    fn a_position_tells_how_far_each_domain_has_come() {
        let texts = |position: &str| transactions(position).iter().map(Gtid::to_string).collect::<Vec<_>>();
        assert_eq!(texts("bin.000002:4, gtid 3-7-1,0-7-4, server a1-2"), ["3-7-1", "0-7-4"]);
        assert!(texts("bin.000002:4, server a").is_empty() && texts("0/3000028, timeline 2").is_empty());
    }
}
