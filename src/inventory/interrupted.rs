//! Work that was cut off.

use serde::{Deserialize, Serialize};

use super::CopyLeft;
use crate::{
    artifact::ArtifactId,
    spec::names::{FolderName, StoreName},
};

/// Work that an earlier pass began and never ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interrupted {
    /// The backup, by its folder.
    pub backup: FolderName,
    /// The store that was written to.
    pub store: StoreName,
    /// The name under which it wrote, or read.
    pub artifact: ArtifactId,
    /// What it was.
    #[serde(default)]
    pub work: Work,
    /// What it had a provider make, beside what it left in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<Box<CopyLeft>>,
}

impl Interrupted {
    /// Whether it is this.
    pub fn is(&self, backup: &FolderName, store: &StoreName, artifact: ArtifactId) -> bool {
        self.backup == *backup && self.store == *store && self.artifact == artifact
    }
}

/// Work by what it leaves in a store when it is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// A capture or a repair, under a name that nothing else has: packs that are of no use to anybody.
    #[default]
    Capture,
    /// A copy, under the name of its original: packs that its next attempt need not carry again.
    Copy,
    /// A restore or a check, under a name of its own: its lease and nothing else.
    Reading,
}
