//! Where a replay of logs ends: a moment, or a place that an engine has its own name for.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    position::{LogPosition, Lsn},
    transactions::Transaction,
};

/// Where a replay of logs ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// Before what happened at this moment.
    Moment(Timestamp),
    /// Before what stands at this place in the log.
    Place(Place),
    /// Behind this transaction, and all that the log tells before it.
    Transaction(Transaction),
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

as_text!(Place, PointName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_names_are_read_as_engines_write_them() {
        assert!(
            "bin.000007:4711".parse::<Place>().is_ok() && "16/B374D848, timeline 2".parse::<Place>().is_ok()
        );
        assert!("bin:4711".parse::<Place>().is_err() && "2026-11-19 12:00".parse::<Place>().is_err());
        assert!("before upgrade".parse::<PointName>().is_ok());
        assert!("".parse::<PointName>().is_err() && "a\nb".parse::<PointName>().is_err());
        assert!("x".repeat(64).parse::<PointName>().is_err());
    }
}
