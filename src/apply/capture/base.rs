//! What a capture shares segments with: an artifact of the same epoch in the same store.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use super::{CaptureOrder, Means, error::Fault};
use crate::{
    artifact::{
        ArtifactId, Manifest,
        index::{Extent, Index, KeyedHash, RunHash, Segment},
        layout::{self, Object, PackName},
        manifest::{Content, Segments, Stored},
    },
    committed::{self, ReadError},
    stores::StoreError,
};

/// An artifact whose segments may be reused.
pub struct Base {
    /// Its manifest.
    pub manifest: Manifest,
    /// The average length that its stream was cut to.
    pub average: u32,
    /// What its packs must be.
    packs: BTreeMap<PackName, Stored>,
    index: Index,
    /// Segments that may be reused, by their position in the index.
    segments: HashMap<KeyedHash, u32>,
    /// Runs all of whose segments may be reused, by their position in the index.
    runs: HashMap<KeyedHash, u32>,
}

impl Base {
    /// Reads the order's base, if it has one: only a manifest with a trusted signature counts, and of its segments those
    /// whose packs exist in the size that it names. Where the recipients differ nothing is reused, for the new ones
    /// could not read it.
    pub async fn load(order: &CaptureOrder, means: &Means<'_>) -> Result<Option<Self>, Fault> {
        let Some(id) = order.capture.base else { return Ok(None) };
        let manifest = read_manifest(means, id).await?;
        let Content::Segments(segments) = &manifest.content else {
            return Err(useless(id, "it is not stored in segments"));
        };
        let segments = segments.clone();
        let index = read_index(means, id, &segments).await?;
        let present = list_packs(means).await?;
        let mut base = Self {
            manifest,
            average: segments.average,
            packs: segments.packs,
            index,
            segments: HashMap::new(),
            runs: HashMap::new(),
        };
        if base.manifest.recipients == order.recipients.to_texts() {
            base.offer(&present);
        }
        Ok(Some(base))
    }

    /// Where a segment with this hash is.
    pub fn segment(&self, hash: &KeyedHash) -> Option<Extent> {
        self.segments.get(hash).map(|at| self.index.segments[*at as usize].extent)
    }

    /// The number of the run whose key has this hash.
    pub fn run(&self, hash: &KeyedHash) -> Option<u32> {
        self.runs.get(hash).copied()
    }

    /// The run that [`Base::run`] found: its key, and its segments.
    pub fn numbered_run(&self, number: u32) -> Option<(RunHash, &[Segment])> {
        let run = self.index.runs.get(number as usize)?;
        Some((run.key?, &self.index.segments[run.segments.clone()]))
    }

    /// What a pack of its must be.
    pub fn pack(&self, pack: &PackName) -> Option<&Stored> {
        self.packs.get(pack)
    }

    fn offer(&mut self, present: &HashMap<PackName, u64>) {
        let usable = |extent: &Extent| {
            self.packs.get(&extent.pack).is_some_and(|pack| present.get(&extent.pack) == Some(&pack.size))
        };
        let segments = self.index.segments.iter().enumerate();
        self.segments =
            segments.filter(|(_, s)| usable(&s.extent)).map(|(at, s)| (s.hash, at as u32)).collect();
        let runs = self.index.runs.iter().enumerate();
        let whole = runs.filter(|(_, run)| {
            self.index.segments[run.segments.clone()].iter().all(|segment| usable(&segment.extent))
        });
        self.runs = whole.filter_map(|(number, run)| run.key.map(|key| (key.hash, number as u32))).collect();
    }
}

async fn read_manifest(means: &Means<'_>, id: ArtifactId) -> Result<Manifest, Fault> {
    match committed::read(means.folder, id, means.keys).await {
        Ok(read) => Ok(read.manifest),
        Err(ReadError::Store(error)) => Err(error.into()),
        Err(error) => Err(useless(id, error)),
    }
}

async fn read_index(means: &Means<'_>, id: ArtifactId, segments: &Segments) -> Result<Index, Fault> {
    let folder = means.folder;
    let bytes = folder.store.get(&folder.index(id), None, segments.index.size).await?;
    if hex::encode(Sha256::digest(&bytes)) != segments.index.sha256 {
        return Err(useless(id, "its index is damaged"));
    }
    let index = Index::parse(&bytes).map_err(|e| useless(id, e))?;
    let inside = |extent: &Extent| {
        segments.packs.get(&extent.pack).is_some_and(|pack| extent.range().end <= pack.size)
    };
    let sound = index.segments.len() as u64 == segments.count
        && index.segments.iter().all(|segment| inside(&segment.extent));
    if sound { Ok(index) } else { Err(useless(id, "its index does not fit its manifest")) }
}

async fn list_packs(means: &Means<'_>) -> Result<HashMap<PackName, u64>, StoreError> {
    let folder = means.folder;
    let listed = folder.store.list(&layout::packs(&folder.fleet, &folder.backup)).await?;
    let packs = listed.into_iter().filter_map(|object| match layout::classify(&folder.fleet, &object.name) {
        Some(Object::Pack(_, pack)) => Some((pack, object.size)),
        _ => None,
    });
    Ok(packs.collect())
}

fn useless(base: ArtifactId, reason: impl ToString) -> Fault {
    Fault::Base { base, reason: reason.to_string() }
}
