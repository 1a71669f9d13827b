//! Segments that a store holds already and that what is written there may share.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::is_for;
use crate::{
    apply::{
        compare,
        segment::Recipients,
        transfer::{self, TransferError},
    },
    artifact::{
        Depth, Manifest,
        index::{Extent, Index, KeyedHash},
        layout::PackName,
        manifest::{Content, Stored},
    },
    committed::BackupFolder,
};

/// Segments of artifacts of one epoch, for the same recipients, by the keyed hash of their plaintext.
pub struct Pool {
    segments: HashMap<KeyedHash, Extent>,
    packs: BTreeMap<PackName, Stored>,
    depth: Depth,
}

impl Pool {
    /// What the trusted manifests `held` of `folder` name that is encrypted to `recipients`. A pack is looked at as deep
    /// as `depth` says before any of its segments is shared.
    pub async fn of(
        folder: &BackupFolder,
        held: Vec<&Manifest>,
        recipients: &Recipients,
        depth: Depth,
    ) -> Result<Self, TransferError> {
        let mut pool = Self { segments: HashMap::new(), packs: BTreeMap::new(), depth };
        for manifest in held {
            if !is_for(manifest, recipients) {
                continue;
            }
            let Content::Segments(segments) = &manifest.content else { continue };
            let index = match transfer::fetch_index(folder, manifest, segments).await {
                Ok(index) => index,
                Err(TransferError::Damaged { .. }) => continue,
                Err(error) => return Err(error),
            };
            pool.segments.extend(index.segments.iter().map(|segment| (segment.hash, segment.extent)));
            pool.packs.extend(segments.packs.clone());
        }
        Ok(pool)
    }

    /// Where the segments of `index` are in the pool, by where they are in the copy that is read; only those whose packs
    /// are good.
    pub async fn places(
        &self,
        folder: &BackupFolder,
        index: &Index,
    ) -> Result<HashMap<Extent, Extent>, TransferError> {
        let found = index.segments.iter().filter_map(|s| Some((s.extent, *self.segments.get(&s.hash)?)));
        let mut places: HashMap<Extent, Extent> = found.collect();
        let packs: BTreeSet<PackName> = places.values().map(|extent| extent.pack).collect();
        let mut bad = HashSet::new();
        for pack in packs {
            let (store, object, stored) = (folder.store.as_ref(), folder.pack(pack), &self.packs[&pack]);
            let fault = match self.depth {
                Depth::Metadata => compare::presence(store, &object, stored).await?,
                Depth::Data | Depth::Plaintext => compare::content(store, &object, stored).await?,
            };
            if fault.is_some() {
                bad.insert(pack);
            }
        }
        places.retain(|_, extent| !bad.contains(&extent.pack));
        Ok(places)
    }

    /// What the packs of these extents must be.
    pub fn packs<'a>(&self, extents: impl IntoIterator<Item = &'a Extent>) -> BTreeMap<PackName, Stored> {
        let names: BTreeSet<PackName> = extents.into_iter().map(|extent| extent.pack).collect();
        names.into_iter().map(|pack| (pack, self.packs[&pack].clone())).collect()
    }
}
