//! The manifest: the signed commit record of an artifact, written last. No manifest, no artifact.
//!
//! JSON, format `backstay.manifest/1`. Its exact bytes are signed as `ssh-keygen -Y sign` does (PROTOCOL.sshsig of
//! OpenSSH) in the namespace [`SIGNATURE_NAMESPACE`]. What it names in clear tells a reader without an identity what
//! exists and whether it is whole; what describes the data itself is inside [`Manifest::sealed`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ArtifactId, Kind, layout::PackName, until::NamedPoint};
use crate::spec::names::{FleetName, FolderName};

/// The value of [`Manifest::format`].
pub const FORMAT: &str = "backstay.manifest/1";

/// The namespace of a manifest's signature.
pub const SIGNATURE_NAMESPACE: &str = "backstay-manifest";

/// The commit record of one artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// The fleet that the backup belongs to.
    pub fleet: FleetName,
    /// The backup, by its folder.
    pub backup: FolderName,
    /// The artifact's own name; the same as in the object's name.
    pub artifact: ArtifactId,
    /// What it holds.
    pub kind: Kind,
    /// The slot that it fills; `None` for a manual artifact and for one that no schedule asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Timestamp>,
    /// Set when a person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<Manual>,
    /// The artifact whose segments it shared; `None` for one that opens an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<ArtifactId>,
    /// The full artifact that opened its epoch; its own name for a full.
    pub epoch: ArtifactId,
    /// Artifacts that a restore of this one needs besides it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<ArtifactId>,
    /// The artifact that this one repairs and replaces, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<ArtifactId>,
    /// The commit of the infra repo that declared the backup.
    pub revision: String,
    /// Why the capture was made, for people.
    pub reason: String,
    /// When the capture began and ended, by the controller's clock.
    pub started: Timestamp,
    /// When everything but the manifest was durable.
    pub finished: Timestamp,
    /// What the data represents.
    pub moment: Moment,
    /// The age recipients that can read it.
    pub recipients: Vec<String>,
    /// Where the content is.
    pub content: Content,
    /// [`Sealed`] as JSON inside age, base64; `None` when nothing describes the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

impl Manifest {
    /// What copies and repairs of one content share in every store: the name of the artifact, or of the one that it
    /// repairs.
    pub fn content_name(&self) -> ArtifactId {
        self.supersedes.unwrap_or(self.artifact)
    }
}

/// A person's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manual {
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The time that an artifact's data represents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Moment {
    /// One consistent moment.
    At {
        /// The data as it was then.
        time: Timestamp,
        /// The engine's own name of the moment (log position, GTID, LSN, commit), where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<String>,
    },
    /// Everything between two positions, for logs.
    Window {
        /// Where it begins: the end of the previous artifact.
        from: Edge,
        /// Where it ends.
        until: Edge,
        /// The named restore points in it, in the order of the log.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        named: Vec<NamedPoint>,
    },
}

/// One end of a window of logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// The time there.
    pub time: Timestamp,
    /// The engine's own name of the place.
    pub position: String,
}

impl Moment {
    /// The newest data that the artifact can bring back.
    pub fn newest(&self) -> Timestamp {
        match self {
            Moment::At { time, .. } => *time,
            Moment::Window { until, .. } => until.time,
        }
    }
}

/// Where an artifact's content is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Content {
    /// Segments in packs of the same store.
    Segments(Segments),
    /// A provider's own snapshot.
    Native {
        /// What kind of thing the reference names, such as `rds-snapshot`.
        provider: String,
        /// The provider's own name of it.
        reference: String,
        /// Where it lies. Manifests of before it was noted have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<NativePlace>,
    },
}

/// Where a provider keeps what it keeps of a source: what the declaration told, and what the provider itself told when it was made.
/// Another place has none of it, whatever it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativePlace {
    /// The region.
    pub region: String,
    /// URL of the service, where it isn't AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The account, where that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The table, or the instance.
    pub of: String,
}

impl NativePlace {
    /// What of `other` is another than here, for people; `None` where both are one place, as far as they tell.
    pub fn other_than(&self, other: &NativePlace) -> Option<String> {
        let differs = |what: &str, here: &str, there: &str| {
            (here != there).then(|| format!("it lies with {what} {here}, and {there} is declared now"))
        };
        let aws = "of AWS";
        let endpoint = [self, other].map(|place| place.endpoint.as_deref().unwrap_or(aws));
        let accounts = self.account.as_deref().zip(other.account.as_deref());
        differs("region", &self.region, &other.region)
            .or_else(|| differs("endpoint", endpoint[0], endpoint[1]))
            .or_else(|| {
                let (here, there) = accounts.filter(|(here, there)| here != there)?;
                Some(format!("it lies in account {here}, and the declared access key is of {there}"))
            })
            .or_else(|| {
                (self.of != other.of)
                    .then(|| format!("it is of {}, and {} is declared now", self.of, other.of))
            })
    }
}

impl Content {
    /// How long the stream is, bytes; 0 for a provider's own snapshot.
    pub fn length(&self) -> u64 {
        match self {
            Content::Segments(segments) => segments.length,
            Content::Native { .. } => 0,
        }
    }
}

/// A stream cut into segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segments {
    /// The stream's name when it is restored as a file, such as `agama.sql` or `files.tar`.
    pub stream: String,
    /// How many segments the index lists.
    pub count: u64,
    /// Length of the whole plaintext, bytes.
    pub length: u64,
    /// The average length that the stream was cut to, bytes. Streams that share segments are cut alike.
    pub average: u32,
    /// The list of segments, in this artifact's own `packs/<id>/index`.
    pub index: Stored,
    /// Every pack in use, also those that earlier artifacts of the epoch wrote.
    pub packs: BTreeMap<PackName, Stored>,
}

/// What a stored object must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the object as stored, lower-case hexadecimal.
    pub sha256: String,
}

/// What only a holder of an identity may know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// SHA-256 of the plaintext stream, lower-case hexadecimal; `None` when segments were reused without reading
    /// their source again (each segment's keyed hash still covers its bytes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What the source says of the data.
    #[serde(default)]
    pub details: Details,
}

/// What a source says of the data that it captured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// Versions of the programs and servers involved, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
    /// Rows (or files, documents, objects) by name, from the very view that was captured.
    #[serde(default)]
    pub counts: Counts,
    /// What the counted rows hold, from the same view; `None` of sources that take no checksums.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<Checksums>,
    /// What was left out and why, such as sockets or unreadable files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
    /// Of the infra repo: every reference and HEAD, with the object that it names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tips: BTreeMap<String, String>,
}

/// Counts that a drill can compare a restore with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counts {
    /// By name, such as `agama.users`.
    Captured(BTreeMap<String, u64>),
    /// Could not be taken in the view that was captured, and why.
    NotCaptured(String),
}

impl Default for Counts {
    fn default() -> Self {
        Counts::NotCaptured("the source does not count".to_owned())
    }
}

/// Checksums of rows that a drill can compare a restore with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checksums {
    /// By the names of the counts.
    Captured {
        /// How they are made: only what is made alike can be compared.
        method: String,
        /// The sum of the hashes of a table's rows, in whatever order they come, as decimal digits.
        sums: BTreeMap<String, String>,
    },
    /// Were not taken in the view that was captured, and why.
    NotCaptured(String),
}

/// What is found out about rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counting {
    /// How many there are.
    Rows,
    /// How many there are, and a checksum of what they hold.
    #[default]
    RowsAndChecksums,
}

/// Why checksums were not taken where [`Counting::Rows`] is all that was asked for.
pub const NOT_ASKED_FOR: &str = "they were not asked for";

/// The rows of tables, as one view shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// How many there are.
    pub counts: Counts,
    /// What they hold; `None` of sources that take no checksums.
    pub checksums: Option<Checksums>,
}

impl Rows {
    /// Of which nothing is known, and why.
    pub fn not_captured(why: impl Into<String>) -> Self {
        let why = why.into();
        Self { counts: Counts::NotCaptured(why.clone()), checksums: Some(Checksums::NotCaptured(why)) }
    }

    /// Of which checksums could have been taken, and why they were not.
    pub fn without_checksums(counts: Counts, why: impl Into<String>) -> Self {
        Self { counts, checksums: Some(Checksums::NotCaptured(why.into())) }
    }
}

impl From<Counts> for Rows {
    fn from(counts: Counts) -> Self {
        Self { counts, checksums: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(region: &str, endpoint: Option<&str>, account: Option<&str>, of: &str) -> NativePlace {
        let own = |text: Option<&str>| text.map(str::to_owned);
        NativePlace {
            region: region.to_owned(),
            endpoint: own(endpoint),
            account: own(account),
            of: of.to_owned(),
        }
    }

    #[test]
    fn places_differ_by_all_that_both_tell() {
        let here = place("eu-north-1", None, Some("1"), "sessions");
        for same in [None, Some("1")] {
            assert_eq!(here.other_than(&place("eu-north-1", None, same, "sessions")), None);
        }
        for (other, told) in [
            (place("eu-west-1", None, None, "sessions"), "region eu-north-1"),
            (place("eu-north-1", Some("http://lab"), None, "sessions"), "http://lab is declared now"),
            (
                place("eu-north-1", None, Some("2"), "sessions"),
                "account 1, and the declared access key is of 2",
            ),
            (place("eu-north-1", None, None, "users"), "it is of sessions, and users is declared now"),
        ] {
            let why = here.other_than(&other).unwrap();
            assert!(why.contains(told), "{why}");
        }
    }

    #[test]
    fn a_native_content_without_a_place_is_of_before_it_was_noted() {
        let old = r#"{"native":{"provider":"rds-snapshot","reference":"backstay-a"}}"#;
        let content: Content = serde_json::from_str(old).unwrap();
        assert!(matches!(&content, Content::Native { place: None, .. }));
        assert_eq!(serde_json::to_string(&content).unwrap(), old, "its bytes are signed as they are");
    }
}
