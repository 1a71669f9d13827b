//! Records: what must outlive the controller, signed and chained in every store.
//!
//! JSON, format `backstay.record/1`, signed as manifests are in the namespace [`SIGNATURE_NAMESPACE`]. Each names the
//! SHA-256 of the one before it, so that a record that was taken away shows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ArtifactId, Depth,
    approval::{PlanApproval, Warrant},
    drill::Drilled,
    layout::PackName,
    recovered::Recovered,
    rehearsed::Rehearsed,
};
use crate::{
    inventory::Healed,
    spec::{
        Suspension,
        names::{BackupName, FleetName, FolderName, StoreName},
        suspension::Scope,
    },
};

/// The value of [`Record::format`].
pub const FORMAT: &str = "backstay.record/1";

/// The namespace of a record's signature.
pub const SIGNATURE_NAMESPACE: &str = "backstay-record";

/// One link of a store's chain: the events of one pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`FORMAT`].
    pub format: String,
    /// Whose record it is.
    pub fleet: FleetName,
    /// Its number in this store, from 0, without gaps.
    pub sequence: u64,
    /// SHA-256 of the record before it, lower-case hexadecimal; `None` for the first.
    pub previous: Option<String>,
    /// When it was written, by the controller's clock.
    pub at: Timestamp,
    /// What happened, oldest first.
    pub events: Vec<Event>,
    /// The newest record of each other store that the writer had seen. By these the stores vouch for each other: one that
    /// was set back to an old copy lacks what another store's records have seen in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub siblings: BTreeMap<StoreName, Mark>,
}

/// One record of a store, told from all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Its number in its store.
    pub sequence: u64,
    /// Its SHA-256, lower-case hexadecimal.
    pub digest: String,
}

/// A person's word that the rewritten branch may come into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewriteApproval {
    /// The revision that was in force, which the branch has lost.
    pub from: String,
    /// The tip that may replace it.
    pub to: String,
    /// Who approved it: `user@host`.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The last moment at which it counts.
    pub until: Timestamp,
}

/// Who signed a commit or a tag of the infra repo, and with which key. All texts are safe to print.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// The principals or the user id that the host's files name for the key.
    pub principal: String,
    /// The key's fingerprint: `SHA256:…` for SSH, hexadecimal for OpenPGP.
    pub fingerprint: String,
}

/// Something that must not be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// An artifact was checked to the end.
    Verified {
        /// Its backup, by its folder.
        backup: FolderName,
        /// The artifact.
        artifact: ArtifactId,
        /// How thoroughly.
        depth: Depth,
        /// What is wrong; empty when all was well.
        damage: Vec<String>,
        /// Packs that were found missing, short or altered: whatever else names one of them is damaged as well.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        packs: Vec<PackName>,
    },
    /// An artifact was committed of which no check is declared that would tell of it.
    Committed {
        /// Its backup, by its folder.
        backup: FolderName,
        /// The artifact.
        artifact: ArtifactId,
    },
    /// An artifact was written in the place of a damaged one. Every pack that it shares was compared with its digest.
    Repaired {
        /// Its backup, by its folder.
        backup: FolderName,
        /// The artifact that replaces the damaged one.
        artifact: ArtifactId,
        /// The damaged one, which is no more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<ArtifactId>,
    },
    /// An artifact was deleted here.
    Deleted {
        /// Its backup, by its folder.
        backup: FolderName,
        /// The artifact.
        artifact: ArtifactId,
        /// Which rule let it go.
        reason: String,
        /// By whose word, where a safety rule would have kept it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warrant: Option<Warrant>,
    },
    /// An artifact must be kept whatever the retention says.
    Held {
        /// Its backup, by its folder.
        backup: FolderName,
        /// The artifact.
        artifact: ArtifactId,
        /// Why.
        reason: String,
    },
    /// A hold ended.
    Released {
        /// Its backup, by its folder.
        backup: FolderName,
        /// The artifact.
        artifact: ArtifactId,
    },
    /// A complete listing found packs that no manifest names.
    Unreferenced {
        /// The backup whose packs they are, by its folder.
        backup: FolderName,
        /// The captures that wrote them.
        captures: Vec<ArtifactId>,
    },
    /// A sweep deleted what two complete listings at least a day apart found unreferenced.
    Swept {
        /// The backup whose packs they were, by its folder.
        backup: FolderName,
        /// The captures that wrote them.
        captures: Vec<ArtifactId>,
    },
    /// A person suspended something: a backup by its folder (see [`crate::spec::Moves::as_recorded`]).
    Suspended(Suspension),
    /// A person let something go on before its suspension ended.
    Resumed {
        /// What; a backup by its folder.
        scope: Scope,
    },
    /// A revision came into force.
    InForce {
        /// The commit.
        revision: String,
        /// Who signed it; absent where the host verified none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signer: Option<Signer>,
    },
    /// The rewritten branch was accepted by a person's word: exactly this step, once.
    RewriteApproved(RewriteApproval),
    /// What somebody had changed was put back as Backstay had made it.
    Healed(Healed),
    /// A drill came to an end.
    Drilled(Box<Drilled>),
    /// The drill of a recovery came to an end.
    Rehearsed(Box<Rehearsed>),
    /// A part of a recovery came to its end.
    Recovered(Box<Recovered>),
    /// What a safety rule holds back was approved by a person's word on a host: exactly this, until it expires.
    PlanApproved {
        /// The backup whose artifacts go, or of whose source the provider keeps less, as the plan names it.
        backup: BackupName,
        /// The store in which artifacts go; none where it is about a provider.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        store: Option<StoreName>,
        /// The approval.
        approval: PlanApproval,
    },
    /// A non-empty store was taken over by a person's word.
    Adopted {
        /// Why.
        reason: String,
    },
}
