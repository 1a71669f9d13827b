//! Lineage: which artifact of a store a new one builds on.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    artifact::{ArtifactId, Kind, manifest::Edge, position::innodb_lsn},
    inventory::{StoredArtifact, StoredBackup},
    spec::Source,
};

/// What a capture builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footing {
    /// What is made; a full where the wanted kind has nothing to build on.
    pub(super) kind: Kind,
    /// What its segments are shared with.
    pub(super) base: Option<ArtifactId>,
    /// Where that stands, if what is made holds only what changed since.
    pub(super) continues: Option<Edge>,
    /// Why it is another kind than the wanted one.
    pub(super) note: Option<&'static str>,
}

/// What a capture of `source` of kind `wanted` builds on in a store that holds `stored`.
///
/// An incremental goes on from the newest good artifact of the newest good epoch, a differential from that epoch's full. A
/// damaged member makes its epoch unusable: its packs may be the damaged ones.
pub(super) fn footing(wanted: Kind, source: &Source, stored: &StoredBackup, now: Timestamp) -> Footing {
    let members = || newest_good_epoch(stored, now).unwrap_or_default();
    let base = match wanted {
        Kind::Full | Kind::Log => {
            return Footing { kind: wanted, base: None, continues: None, note: None };
        }
        Kind::Incremental => members().into_iter().max_by_key(|a| (a.newest, a.id)),
        Kind::Differential => members().into_iter().find(|a| a.kind == Kind::Full),
    };
    let as_full = |why| Footing { kind: Kind::Full, base: None, continues: None, note: Some(why) };
    match base {
        None => as_full("no usable epoch in this store: made as a full"),
        Some(base) if !source.has_native_increments() => {
            Footing { kind: wanted, base: Some(base.id), continues: None, note: None }
        }
        Some(base) => match native_edge(stored, base) {
            Some(edge) => Footing { kind: wanted, base: Some(base.id), continues: Some(edge), note: None },
            None => as_full("nothing in this store that a native increment can build on: made as a full"),
        },
    }
}

/// Where data that native increments can build on stands: a copy of files, with all that it requires itself.
fn native_edge(stored: &StoredBackup, base: &StoredArtifact) -> Option<Edge> {
    let position = base.position.as_deref()?;
    innodb_lsn(position)?;
    chain(stored, base.content()).ok()?;
    Some(Edge { time: base.newest, position: position.to_owned() })
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
