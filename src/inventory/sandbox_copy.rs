//! What drills have providers make of native backups: known by a name and a mark, and by nothing else.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::NativeReference;
use crate::{
    artifact::ArtifactId,
    spec::{
        Source,
        names::{DrillName, FleetName},
    },
};

/// What a drill has a provider make of a native backup, and has deleted again: nothing is deleted but what bears this name and this
/// mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxCopy {
    /// The name of the table or the instance: of letters, digits and single hyphens, at most 63.
    pub name: String,
    /// The value of the tag [`DRILL_TAG`]: the fleet, the drill, and which time it is.
    pub mark: String,
}

/// The tag that everything bears which a drill has a provider make.
pub const DRILL_TAG: &str = "backstay-drill";

/// The most of a drill's name that stands in the name of what it makes.
const MOST_OF_NAME: usize = 30;

impl SandboxCopy {
    /// What `drill` makes the time that reads under `reader`.
    pub fn of(fleet: &FleetName, drill: &DrillName, reader: ArtifactId) -> Self {
        let text: String = drill.as_str().to_ascii_lowercase().chars().take(MOST_OF_NAME).collect();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        // Drills of two fleets in one account may be called alike.
        let digest = hex::encode(Sha256::digest(format!("{fleet}/{drill}")));
        let name = format!("{DRILL_TAG}-{}-{}", words.collect::<Vec<_>>().join("-"), &digest[..8]);
        Self { name, mark: format!("{}{reader}", Self::owner(fleet, drill)) }
    }

    /// What the marks of all times of one drill begin with.
    fn owner(fleet: &FleetName, drill: &DrillName) -> String {
        format!("{fleet}/{drill}/")
    }

    /// The time that a mark of this very drill is of; `None` of any other.
    pub fn time_of(fleet: &FleetName, drill: &DrillName, mark: &str) -> Option<ArtifactId> {
        mark.strip_prefix(&Self::owner(fleet, drill))?.parse().ok()
    }
}

/// What a drill that was cut off may have left with a provider, and what it takes to find it there: whatever became of the drill and of its
/// backup in the declaration since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyLeft {
    /// The drill.
    pub drill: DrillName,
    /// What it had made.
    pub copy: SandboxCopy,
    /// The native backup that it was made of, as far as it was seen: it lies where the copy does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<NativeReference>,
    /// The commit that declared both.
    pub revision: String,
    /// The folder of the infra repo that is read.
    pub declared_in: String,
}

impl CopyLeft {
    /// Whether the provider of `source` is the one that made it, as far as a declaration tells.
    pub fn is_with(&self, source: &Source) -> bool {
        let is_there = |of: &NativeReference| of.out_of_reach(source, None).is_none();
        source.native_place().is_some() && self.of.as_ref().is_none_or(is_there)
    }
}

/// What stands where a drill makes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyStanding {
    /// Nothing.
    Nothing,
    /// Something without a mark: somebody's.
    Unmarked,
    /// Something with this mark.
    Marked(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_drill_makes_is_known_by_its_name_and_the_time_of_its_mark() {
        let (fleet, drill): (FleetName, DrillName) = ("shop".parse().unwrap(), "a-drill".parse().unwrap());
        let reader: ArtifactId = "20261120T010000Z-3k7qz0m4xw".parse().unwrap();
        let copy = SandboxCopy::of(&fleet, &drill, reader);
        assert!(copy.name.starts_with("backstay-drill-a-drill-") && copy.name.len() <= 63, "{copy:?}");
        assert_eq!(SandboxCopy::time_of(&fleet, &drill, &copy.mark), Some(reader));
        for other in ["a", "a-drill2", "b"] {
            let other: DrillName = other.parse().unwrap();
            assert_eq!(SandboxCopy::time_of(&fleet, &other, &copy.mark), None);
            assert_ne!(SandboxCopy::of(&fleet, &other, reader).name, copy.name);
        }
        let other: FleetName = "kiosk".parse().unwrap();
        assert_ne!(SandboxCopy::of(&other, &drill, reader).name, copy.name);
        assert_eq!(SandboxCopy::time_of(&fleet, &drill, ""), None);
    }
}
