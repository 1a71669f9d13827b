//! Artifacts: what one capture of one backup left in one store, and how artifacts hang together.

pub mod approval;
pub mod drill;
pub mod gtid_set;
pub mod index;
pub mod layout;
pub mod manifest;
pub mod position;
pub mod record;
pub mod recovered;
pub mod recovery_settings;
pub mod rehearsed;
pub mod transactions;
pub mod until;

use std::{fmt, num::NonZeroU64};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use manifest::Manifest;

/// What an artifact holds, relative to others. Ordered by strength: a [`Kind::Full`] also fills the slot of a
/// weaker kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What happened since the previous artifact, to be replayed.
    Log,
    /// Shares the packs of its epoch.
    Incremental,
    /// Shares the packs of its epoch's full only.
    Differential,
    /// Opens an epoch and stands alone.
    Full,
}

impl Kind {
    /// Every kind, weakest first.
    pub const ALL: [Kind; 4] = [Kind::Log, Kind::Incremental, Kind::Differential, Kind::Full];

    /// The kind's name in declarations, manifests and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Log => "log",
            Kind::Incremental => "incremental",
            Kind::Differential => "differential",
            Kind::Full => "full",
        }
    }

    /// Whether an artifact of this kind fills a slot of `wanted`: the same kind or a stronger one does. A log's
    /// slot is filled by logs only, for nothing else continues the row of positions.
    pub fn fills(self, wanted: Kind) -> bool {
        match wanted {
            Kind::Log => self == Kind::Log,
            _ => self >= wanted,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of an artifact: when its capture began, to the second, and a random part, so that no two captures share
/// one.
///
/// `20261120T010000Z-3k7qz0m4xw`; sorts by time. The same in every store that holds a copy. Small, for inventories hold
/// many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactId {
    seconds: i64,
    /// With [`MARK`], so that an absent name takes no more room than a present one.
    random: NonZeroU64,
}

/// A text that is no artifact's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an artifact's name, such as 20261120T010000Z-3k7qz0m4xw", .0.escape_debug())]
pub struct InvalidArtifactId(pub String);

const RANDOM_DIGITS: u32 = 10;
/// The bit above the random part: always set.
const MARK: NonZeroU64 = NonZeroU64::new(1 << (5 * RANDOM_DIGITS)).unwrap();
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

impl ArtifactId {
    /// The name of a capture that begins at `at`; the lowest 50 bits of `random` tell it from others.
    pub fn new(at: Timestamp, random: u64) -> Self {
        Self { seconds: at.as_second(), random: MARK | (random & (MARK.get() - 1)) }
    }

    /// Its share, out of 2^50, of whatever must be spread over artifacts evenly and stably.
    pub fn share(self) -> u64 {
        self.random.get() & (MARK.get() - 1)
    }

    /// When the capture began, to the second, by the clock of the controller that made it.
    pub fn time(self) -> Timestamp {
        // Both constructors start from a timestamp.
        Timestamp::from_second(self.seconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |i: u32| BASE32[(self.random.get() >> (5 * i)) as usize & 31] as char;
        let random: String = (0..RANDOM_DIGITS).rev().map(digit).collect();
        f.pad(&format!("{}-{random}", self.time().strftime(TIME_FORMAT)))
    }
}

fn parse_id(text: &str) -> Option<ArtifactId> {
    let (time, digits) = text.split_once('-')?;
    let time =
        jiff::civil::DateTime::strptime(TIME_FORMAT, time).ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    let random = digits.bytes().try_fold(0u64, |sum, b| {
        let digit = BASE32.iter().position(|d| *d == b)?;
        Some(sum.checked_mul(32)? | digit as u64)
    })?;
    let id = ArtifactId::new(time.timestamp(), random);
    (id.to_string() == text).then_some(id)
}

impl TryFrom<String> for ArtifactId {
    type Error = InvalidArtifactId;

    fn try_from(text: String) -> Result<Self, InvalidArtifactId> {
        parse_id(&text).ok_or(InvalidArtifactId(text))
    }
}

impl std::str::FromStr for ArtifactId {
    type Err = InvalidArtifactId;

    fn from_str(text: &str) -> Result<Self, InvalidArtifactId> {
        parse_id(text).ok_or_else(|| InvalidArtifactId(text.to_owned()))
    }
}

impl From<ArtifactId> for String {
    fn from(id: ArtifactId) -> String {
        id.to_string()
    }
}

/// How thoroughly an artifact in a store was checked; each depth includes the weaker ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Depth {
    /// The manifest's signature, and presence and size of every pack and index.
    Metadata,
    /// The SHA-256 of every pack and index.
    Data,
    /// Decryption, decompression and the digest of the plaintext; needs an identity.
    Plaintext,
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Depth::Metadata => "metadata",
            Depth::Data => "data",
            Depth::Plaintext => "plaintext",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_names_sort_by_time_and_parse_back() {
        let early = ArtifactId::new("2026-11-20T01:00:00Z".parse().unwrap(), u64::MAX);
        let late = ArtifactId::new("2026-11-20T01:00:01Z".parse().unwrap(), 0);
        assert_eq!(early.to_string(), "20261120T010000Z-zzzzzzzzzz");
        assert_eq!(late.to_string(), "20261120T010001Z-0000000000");
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        for bad in [
            "",
            "20261120T010000Z",
            "20261120T010000Z-../../../x",
            "20261120T010000Z-ZZZZZZZZZZ",
            "20261399T010000Z-0000000000",
        ] {
            assert!(bad.parse::<ArtifactId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stronger_kind_fills_a_weaker_slot_but_only_logs_fill_logs() {
        assert!(Kind::Full.fills(Kind::Incremental) && Kind::Differential.fills(Kind::Incremental));
        assert!(!Kind::Incremental.fills(Kind::Full) && !Kind::Incremental.fills(Kind::Differential));
        assert!(Kind::Log.fills(Kind::Log) && !Kind::Full.fills(Kind::Log));
    }
}
