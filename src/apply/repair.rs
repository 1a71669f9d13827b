//! Repairs: what is damaged or missing of an artifact is written anew from another store's good copy. Nothing is
//! overwritten: new packs go under a new name, whose manifest supersedes the damaged one; that one goes last.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    compare, copy,
    lease::Held,
    rewrite::{Audience, Pool, Rewrite},
    segment::Recipients,
    stream::Damage,
    transfer::{self, AT_ONCE, TransferError},
};
use crate::{
    artifact::{
        ArtifactId, Depth, Manifest,
        layout::PackName,
        manifest::{Content, Segments, Stored},
    },
    clock::Clock,
    committed::{self, BackupFolder, Committed, ReadError, same_capture},
    keys::Keys,
    progress::Progress,
    stores::StoreError,
};

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

/// Repairs an artifact in `store` from its good copy in `from`; what is written is for `audience`.
pub async fn repair(
    order: Order,
    store: &BackupFolder,
    from: &BackupFolder,
    audience: &Audience,
    keys: &Keys,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<Repaired, TransferError> {
    if let Err(error @ ReadError::Malformed { .. }) = committed::read(store, order.damaged, keys).await {
        // Signed by us, of another version: not damaged.
        return Err(error.into());
    }
    let here = transfer::read_all(store, keys).await?;
    let there = good_copy(order.damaged, here.get(&order.damaged), from, keys).await?;
    let mut repaired = Repaired { artifact: order.repair, packs: 0, bytes: 0 };
    match earlier_repair(order.damaged, &here, &there.manifest, store).await? {
        Some(earlier) => repaired.artifact = earlier,
        None => {
            let repairing =
                Repairing { order, store, from, keys, progress, here: &here, there: &there.manifest };
            let rewrite = repairing.rewrite(audience)?;
            let lease = Held::take(store, order.repair, there.manifest.epoch, keys, clock).await?;
            let manifest = lease.during(clock, repairing.write(rewrite, &mut repaired)).await?;
            transfer::commit(store, &transfer::sign(manifest, keys), &lease, clock).await?;
            lease.release().await;
        }
    }
    store.store.delete(&store.manifest(order.damaged)).await?;
    store.store.delete(&store.signature(order.damaged)).await?;
    Ok(repaired)
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
    transfer::read_all(from, keys).await?.into_values().find(same).ok_or(missing.into())
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

/// One repair under way.
struct Repairing<'a> {
    order: Order,
    store: &'a BackupFolder,
    from: &'a BackupFolder,
    keys: &'a Keys,
    progress: &'a dyn Progress,
    /// Every trusted manifest of the store.
    here: &'a BTreeMap<ArtifactId, Committed>,
    /// The good copy.
    there: &'a Manifest,
}

impl<'a> Repairing<'a> {
    /// The name of the content that is repaired.
    fn content(&self) -> ArtifactId {
        let damaged = self.here.get(&self.order.damaged);
        damaged.map_or(self.there, |damaged| &damaged.manifest).content_name()
    }

    fn rewrite(&self, audience: &Audience) -> Result<Option<(Recipients, Rewrite<'a>)>, TransferError> {
        let Some(recipients) = audience.others_than(self.there) else { return Ok(None) };
        let (from, place) = ((self.there, self.from), (self.order.repair, self.store));
        let rewrite = Rewrite::prepare(from, place, recipients, self.keys, self.progress)?;
        Ok(Some((recipients.clone(), rewrite)))
    }

    /// Writes what is not good in the store, and has the store confirm all that the repair's manifest names.
    async fn write(
        &self,
        rewrite: Option<(Recipients, Rewrite<'_>)>,
        repaired: &mut Repaired,
    ) -> Result<Manifest, TransferError> {
        let mut manifest = match rewrite {
            Some((recipients, rewrite)) => self.anew(&recipients, &rewrite, repaired).await?,
            None => self.as_it_is(repaired).await?,
        };
        manifest.supersedes = Some(self.content());
        transfer::confirm(self.store, self.order.repair, copy::objects(self.store, &manifest)).await?;
        Ok(manifest)
    }

    /// Encrypts anew what is not good in the store; what the store holds of the epoch for the same recipients, the good
    /// part of the damaged artifact among it, is shared.
    async fn anew(
        &self,
        recipients: &Recipients,
        rewrite: &Rewrite<'_>,
        repaired: &mut Repaired,
    ) -> Result<Manifest, TransferError> {
        let held = self.here.values().map(|held| &held.manifest);
        let epoch = held.filter(|held| held.epoch == self.there.epoch).collect();
        let pool = Pool::of(self.store, epoch, recipients, Depth::Data).await?;
        let (manifest, copied) = rewrite.write(&pool).await?;
        // One of the objects is the index.
        repaired.packs = copied.objects.saturating_sub(1);
        repaired.bytes = copied.bytes;
        Ok(manifest)
    }

    /// Writes byte for byte what is not good in the store, under new names; packs that are good keep theirs.
    async fn as_it_is(&self, repaired: &mut Repaired) -> Result<Manifest, TransferError> {
        let mut manifest = self.there.clone();
        manifest.artifact = self.order.repair;
        if let Content::Segments(segments) = &mut manifest.content {
            let names = self.place_packs(segments, repaired).await?;
            let index = self.write_index(segments, &names).await?;
            segments.packs = segments.packs.iter().map(|(pack, s)| (names[pack], s.clone())).collect();
            segments.index = index;
        }
        Ok(manifest)
    }

    /// Where each pack of the good copy is in the store: under the name of a good one, or under a new name.
    async fn place_packs(
        &self,
        segments: &Segments,
        repaired: &mut Repaired,
    ) -> Result<BTreeMap<PackName, PackName>, TransferError> {
        let known = by_digest(self.here);
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
        segments: &Segments,
        names: &BTreeMap<PackName, PackName>,
    ) -> Result<Stored, TransferError> {
        let mut index = transfer::fetch_index(self.from, self.there, segments).await?;
        for segment in &mut index.segments {
            segment.extent.pack = names[&segment.extent.pack];
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
