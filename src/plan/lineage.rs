//! Lineage: which artifact of a store a new one builds on.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    artifact::{ArtifactId, Kind},
    inventory::{StoredArtifact, StoredBackup},
};

/// What a capture builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footing {
    /// What is made; a full where the wanted kind has nothing to build on.
    pub(super) kind: Kind,
    /// What its segments are shared with.
    pub(super) base: Option<ArtifactId>,
    /// Why it is another kind than the wanted one.
    pub(super) note: Option<&'static str>,
}

/// What a capture of kind `wanted` builds on in a store that holds `stored`.
///
/// An incremental shares with the newest good artifact of the newest good epoch, a differential with that epoch's
/// full. A damaged member makes its epoch unusable: its packs may be the damaged ones.
pub(super) fn footing(wanted: Kind, stored: &StoredBackup, now: Timestamp) -> Footing {
    let base = match wanted {
        Kind::Full | Kind::Log => return Footing { kind: wanted, base: None, note: None },
        Kind::Incremental => newest_good_epoch(stored, now)
            .and_then(|members| members.iter().max_by_key(|a| (a.newest, a.id)).map(|a| a.id)),
        Kind::Differential => newest_good_epoch(stored, now)
            .and_then(|members| members.iter().find(|a| a.kind == Kind::Full).map(|a| a.id)),
    };
    match base {
        Some(_) => Footing { kind: wanted, base, note: None },
        None => {
            let note = Some("no usable epoch in this store: made as a full");
            Footing { kind: Kind::Full, base: None, note }
        }
    }
}

fn newest_good_epoch(stored: &StoredBackup, now: Timestamp) -> Option<Vec<&StoredArtifact>> {
    let mut epochs: BTreeMap<ArtifactId, Vec<&StoredArtifact>> = BTreeMap::new();
    for artifact in stored.artifacts.iter().filter(|a| a.kind != Kind::Log && !a.is_from_the_future(now)) {
        epochs.entry(artifact.epoch).or_default().push(artifact);
    }
    // Where one was repaired, others may name the very packs that were damaged: such an epoch is closed.
    epochs.into_values().rev().find(|members| members.iter().all(|a| a.is_good() && a.supersedes.is_none()))
}

/// Whether every artifact that a restore of `id` needs is in the store and good, and which those are: oldest first,
/// `id` last. The error names what is missing or damaged.
pub(super) fn chain(stored: &StoredBackup, id: ArtifactId) -> Result<Vec<&StoredArtifact>, BrokenChain> {
    let mut done: Vec<&StoredArtifact> = Vec::new();
    let mut open = vec![id];
    let mut seen = BTreeSet::new();
    while let Some(next) = open.pop() {
        if !seen.insert(next) {
            continue;
        }
        let artifact = stored.good_content(next).ok_or(BrokenChain(next))?;
        done.push(artifact);
        open.extend(artifact.requires.iter().copied());
    }
    done.sort_unstable_by_key(|a| (a.newest, a.id));
    // The one asked for is the point to return to, whatever the clocks of its chain said.
    let last = done.iter().position(|a| a.id == id || a.content() == id);
    if let Some(last) = last {
        let wanted = done.remove(last);
        done.push(wanted);
    }
    Ok(done)
}

/// The artifact that keeps a restore from being whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BrokenChain(pub(super) ArtifactId);
