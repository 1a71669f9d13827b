//! Repairs: what is damaged or missing of an artifact is written anew from another store's good copy. Nothing is
//! overwritten: new packs go under a new name, whose manifest supersedes the damaged one; that one goes last.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    compare, copy,
    lease::Held,
    stream::Damage,
    transfer::{self, AT_ONCE, TransferError},
};
use crate::{
    artifact::{
        ArtifactId, Manifest,
        index::Index,
        layout::PackName,
        manifest::{Content, SIGNATURE_NAMESPACE, Segments, Stored},
    },
    clock::Clock,
    committed::{self, BackupFolder, Committed, ReadError, same_capture},
    keys::Keys,
    observe::listing::FleetListing,
    progress::Progress,
    stores::StoreError,
};

/// Manifests that are read at once.
const READS: usize = 8;

/// What is to be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The damaged artifact.
    pub damaged: ArtifactId,
    /// The name of its repair; never used before, and later than the damaged one's.
    pub repair: ArtifactId,
}

/// What a repair did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The artifact that stands in the damaged one's place: the ordered name, or that of an earlier repair that was cut
    /// off before its end.
    pub artifact: ArtifactId,
    /// Packs that were written anew.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Repairs an artifact in `store` from its good copy in `from`.
pub async fn repair(
    order: Order,
    store: &BackupFolder,
    from: &BackupFolder,
    keys: &Keys,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<Repaired, TransferError> {
    let here = read_all(store, keys).await?;
    let there = good_copy(order.damaged, here.get(&order.damaged), from, keys).await?;
    let mut repaired = Repaired { artifact: order.repair, packs: 0, bytes: 0 };
    match earlier_repair(order.damaged, &here, &there.manifest, store).await? {
        Some(earlier) => repaired.artifact = earlier,
        None => {
            let lease = Held::take(store, order.repair, there.manifest.epoch, keys, clock).await?;
            let names = Renaming { order, store, from, progress };
            let manifest = names.write_anew(&here, &there.manifest, &mut repaired).await?;
            transfer::confirm(store, order.repair, copy::objects(store, &manifest)).await?;
            lease.check(clock)?;
            transfer::commit(store, &sign(manifest, keys)).await?;
            lease.release().await?;
        }
    }
    store.store.delete(&store.manifest(order.damaged)).await?;
    store.store.delete(&store.signature(order.damaged)).await?;
    Ok(repaired)
}

/// Every trusted manifest of a backup in a store.
async fn read_all(folder: &BackupFolder, keys: &Keys) -> Result<BTreeMap<ArtifactId, Committed>, StoreError> {
    let listed = folder.store.list(&folder.folder()).await?;
    let listing =
        FleetListing::sort(&folder.fleet, listed).backups.remove(&folder.backup).unwrap_or_default();
    stream::iter(listing.manifests.into_keys())
        .map(|id| async move {
            match committed::read(folder, id, keys).await {
                Ok(committed) => Ok(Some((id, committed))),
                Err(ReadError::Store(error)) => Err(error),
                // What cannot be trusted takes no part in a repair.
                Err(_) => Ok(None),
            }
        })
        .buffer_unordered(READS)
        .try_filter_map(|read| async move { Ok(read) })
        .try_collect()
        .await
}

/// The copy in `from`: of the same name, or a repair of the same content there.
async fn good_copy(
    damaged: ArtifactId,
    here: Option<&Committed>,
    from: &BackupFolder,
    keys: &Keys,
) -> Result<Committed, TransferError> {
    let missing = match committed::read(from, damaged, keys).await {
        Ok(committed) => return Ok(committed),
        Err(missing @ ReadError::Missing { .. }) => missing,
        Err(error) => return Err(error.into()),
    };
    let same = |there: &Committed| {
        there.manifest.supersedes == Some(damaged)
            || here.is_some_and(|here| same_capture(&here.manifest, &there.manifest))
    };
    read_all(from, keys).await?.into_values().find(same).ok_or(missing.into())
}

/// A repair of the same content that was committed, and cut off before the damaged one was deleted.
async fn earlier_repair(
    damaged: ArtifactId,
    here: &BTreeMap<ArtifactId, Committed>,
    there: &Manifest,
    store: &BackupFolder,
) -> Result<Option<ArtifactId>, StoreError> {
    for (id, committed) in here.iter().filter(|(id, _)| **id > damaged) {
        if committed.manifest.supersedes.is_none() || !same_capture(&committed.manifest, there) {
            continue;
        }
        let mut whole = true;
        for (object, stored) in copy::objects(store, &committed.manifest) {
            whole &= compare::content(store.store.as_ref(), &object, stored).await?.is_none();
        }
        if whole {
            return Ok(Some(*id));
        }
    }
    Ok(None)
}

fn sign(manifest: Manifest, keys: &Keys) -> Committed {
    let bytes =
        Bytes::from(serde_json::to_vec_pretty(&manifest).expect("maps with text keys have a JSON form"));
    let signature = Bytes::from(keys.sign(SIGNATURE_NAMESPACE, &bytes));
    Committed { manifest, bytes, signature }
}

/// A repair's own packs take new names; packs that are good keep theirs.
struct Renaming<'a> {
    order: Order,
    store: &'a BackupFolder,
    from: &'a BackupFolder,
    progress: &'a dyn Progress,
}

impl Renaming<'_> {
    /// Writes what is not good in the store, and the index; the manifest is to be committed.
    async fn write_anew(
        &self,
        here: &BTreeMap<ArtifactId, Committed>,
        there: &Manifest,
        repaired: &mut Repaired,
    ) -> Result<Manifest, TransferError> {
        let mut manifest = there.clone();
        let root = here.get(&self.order.damaged).map_or(there, |damaged| &damaged.manifest);
        manifest.supersedes = Some(root.supersedes.unwrap_or(root.artifact));
        manifest.artifact = self.order.repair;
        if let Content::Segments(segments) = &mut manifest.content {
            let names = self.place_packs(here, segments, repaired).await?;
            let index = self.write_index(there.artifact, segments, &names).await?;
            segments.packs = segments.packs.iter().map(|(pack, s)| (names[pack], s.clone())).collect();
            segments.index = index;
        }
        Ok(manifest)
    }

    /// Where each pack of the good copy is in the store: under the name of a good one, or under a new name.
    async fn place_packs(
        &self,
        here: &BTreeMap<ArtifactId, Committed>,
        segments: &Segments,
        repaired: &mut Repaired,
    ) -> Result<BTreeMap<PackName, PackName>, TransferError> {
        let known = by_digest(here);
        let looks: Vec<_> = segments
            .packs
            .iter()
            .map(|(pack, stored)| {
                let named = known.get(&(stored.size, stored.sha256.as_str())).into_iter().flatten();
                let candidates: Vec<PackName> = [*pack].into_iter().chain(named.copied()).collect();
                async move { Ok::<_, StoreError>((*pack, self.first_good(candidates, stored).await?)) }
            })
            .collect();
        let looked: Vec<(PackName, Option<PackName>)> =
            stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
        let mut names = BTreeMap::new();
        for (pack, good) in looked {
            let name = match good {
                Some(name) => name,
                None => {
                    let number = u32::try_from(repaired.packs).unwrap_or(u32::MAX);
                    let name = PackName { artifact: self.order.repair, number };
                    let stored = &segments.packs[&pack];
                    self.carry(pack, name, stored).await?;
                    repaired.packs += 1;
                    repaired.bytes += stored.size;
                    name
                }
            };
            names.insert(pack, name);
        }
        Ok(names)
    }

    async fn first_good(
        &self,
        candidates: Vec<PackName>,
        stored: &Stored,
    ) -> Result<Option<PackName>, StoreError> {
        for pack in candidates {
            let object = self.store.pack(pack);
            if compare::content(self.store.store.as_ref(), &object, stored).await?.is_none() {
                return Ok(Some(pack));
            }
        }
        Ok(None)
    }

    async fn carry(&self, pack: PackName, name: PackName, stored: &Stored) -> Result<(), TransferError> {
        let content = transfer::fetch(self.from, &self.from.pack(pack), stored).await?;
        let content = content.map_err(|damage| self.damaged(damage))?;
        self.progress.read(stored.size);
        transfer::put(self.store, &self.store.pack(name), content, stored).await?;
        self.progress.written(stored.size);
        Ok(())
    }

    /// Writes the index of the good copy with the packs' names here.
    async fn write_index(
        &self,
        copy: ArtifactId,
        segments: &Segments,
        names: &BTreeMap<PackName, PackName>,
    ) -> Result<Stored, TransferError> {
        let object = self.from.index(copy);
        let content = transfer::fetch(self.from, &object, &segments.index).await?;
        let content = content.map_err(|damage| self.damaged(damage))?;
        let mut index = Index::parse(&content)
            .map_err(|error| self.damaged(Damage::new(object.clone(), format!("cannot be read: {error}"))))?;
        for segment in &mut index.segments {
            let name = names.get(&segment.extent.pack);
            segment.extent.pack = *name.ok_or_else(|| {
                self.damaged(Damage::new(object.clone(), "names a pack that its manifest does not name"))
            })?;
        }
        let content = Bytes::from(index.to_bytes());
        let stored = transfer::stored(&content);
        transfer::put(self.store, &self.store.index(self.order.repair), content, &stored).await?;
        Ok(stored)
    }

    fn damaged(&self, damage: Damage) -> TransferError {
        TransferError::Damaged { artifact: self.order.damaged, store: self.from.name.clone(), damage }
    }
}

/// Names of packs by size and digest: repairs of one epoch share what they wrote.
fn by_digest(here: &BTreeMap<ArtifactId, Committed>) -> BTreeMap<(u64, &str), Vec<PackName>> {
    let mut known: BTreeMap<(u64, &str), Vec<PackName>> = BTreeMap::new();
    for committed in here.values() {
        if let Content::Segments(segments) = &committed.manifest.content {
            for (pack, stored) in &segments.packs {
                let names = known.entry((stored.size, &stored.sha256)).or_default();
                if !names.contains(pack) {
                    names.push(*pack);
                }
            }
        }
    }
    known
}
