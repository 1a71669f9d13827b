//! What a store holds of a fleet, from one complete listing: every object compared with what a trusted manifest or record
//! says of it.

pub mod leases;
mod remembered;
mod standing;
mod witnessed;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{
    cache::ObjectCache,
    listing::{BackupListing, FleetListing},
    outline::Outline,
};
use crate::{
    artifact::{
        ArtifactId,
        layout::{self, ObjectName, PackName},
    },
    committed::{self, BackupFolder, ReadError},
    inventory::{Condition, Observed, StoreInventory, StoredArtifact, StoredBackup},
    keys::Keys,
    records::{Chain, Records},
    spec::names::{FleetName, FolderName, StoreName},
    stores::{ErrorKind, Listed, Store, StoreError},
};
use leases::Leases;

/// Which artifacts name a pack.
type Users = BTreeMap<PackName, Vec<ArtifactId>>;

/// Backups that are looked at at once.
const BACKUPS: usize = 4;

/// Objects of one backup that are read at once.
const READS: usize = 8;

/// A store as it is looked at.
#[derive(Clone)]
pub struct Look {
    /// The store's name.
    pub name: StoreName,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Whose artifacts are looked for.
    pub fleet: FleetName,
    /// Whose signatures count.
    pub keys: Arc<Keys>,
    /// What was read before.
    pub cache: Arc<dyn ObjectCache>,
}

/// Looks at everything that a store holds of the fleet. What cannot be seen as a whole is unknown as a whole.
pub async fn observe(look: &Look, now: Timestamp) -> Observed<StoreInventory> {
    match look.observe(now).await {
        Ok(inventory) => Observed::Known(inventory),
        Err(error) => Observed::Unknown(error.to_string()),
    }
}

impl Look {
    async fn observe(&self, now: Timestamp) -> Result<StoreInventory, StoreError> {
        let clock = self.store.clock().await?;
        let under = layout::fleet(&self.fleet);
        let (listed, rules) = tokio::join!(self.store.list(&under), self.store.rules(&under));
        let listing = FleetListing::sort(&self.fleet, listed?);
        // Not everybody who may write may read the rules: the rest can be seen all the same.
        let rules = rules.map_or_else(|error| Observed::Unknown(error.to_string()), Observed::Known);
        let chain = self.records().read(&listing.records, &self.keys, self.cache.as_ref()).await?;
        let suspects = remembered::suspects(&chain.records);
        let looks: Vec<_> = listing
            .backups
            .iter()
            .map(|(name, listing)| {
                let suspects = suspects.get(name);
                async move {
                    let seen = self.backup(name, listing, suspects, now.min(clock)).await?;
                    Ok::<_, StoreError>((name.clone(), seen))
                }
            })
            .collect();
        let seen: Vec<(FolderName, (StoredBackup, Users))> =
            stream::iter(looks).buffer_unordered(BACKUPS).try_collect().await?;
        let (mut backups, mut users) = (BTreeMap::new(), BTreeMap::new());
        for (name, (stored, of_suspects)) in seen {
            users.insert(name.clone(), of_suspects);
            backups.insert(name, stored);
        }
        let standing = standing::judge(&listing, &backups, &chain);
        remembered::apply(&mut backups, &users, &chain.records, now);
        witnessed::apply(&mut backups, &chain.records);
        let (restore_page, bytes) = (listing.restore_page, listing.bytes);
        Ok(StoreInventory { clock, standing, records: chain.chronicle, rules, restore_page, backups, bytes })
    }

    /// The fleet's records in this store.
    pub fn records(&self) -> Records {
        Records { name: self.name.clone(), store: self.store.clone(), fleet: self.fleet.clone() }
    }

    /// The chain of records alone: nothing else is listed or read.
    pub async fn chain(&self) -> Result<Chain, StoreError> {
        let listed = self.store.list(&layout::records(&self.fleet)).await?;
        let listing = FleetListing::sort(&self.fleet, listed).records;
        self.records().read(&listing, &self.keys, self.cache.as_ref()).await
    }

    async fn backup(
        &self,
        name: &FolderName,
        listing: &BackupListing,
        suspects: Option<&BTreeSet<PackName>>,
        now: Timestamp,
    ) -> Result<(StoredBackup, Users), StoreError> {
        let manifests = self.outlines(name, listing).await?;
        let Leases { writers, readers } = leases::read(&self.folder(name), &listing.leases).await?;
        let (mut named, mut users) = (BTreeSet::new(), Users::new());
        let mut stored = StoredBackup {
            bytes: listing.bytes,
            leases: writers,
            readings: readers,
            ..StoredBackup::default()
        };
        for (id, outline) in manifests {
            match outline {
                Ok(outline) => {
                    stored.artifacts.push(outline.artifact(id, listing));
                    for (pack, _) in outline.packs {
                        if suspects.is_some_and(|suspects| suspects.contains(&pack)) {
                            users.entry(pack).or_default().push(id);
                        }
                        named.insert(pack);
                    }
                }
                Err(why) => {
                    stored.unreadable.insert(id, why);
                }
            }
        }
        // A manifest that cannot be read may name any pack.
        if stored.unreadable.is_empty() {
            stored.unreferenced = unreferenced(listing, &named);
            stored.unreferenced.retain(|id, _| stored.leases.get(id).is_none_or(|lease| lease.until <= now));
        }
        mark_superseded(&mut stored.artifacts);
        Ok((stored, users))
    }

    /// Every manifest of a backup, or why it is not believed.
    pub(crate) async fn outlines(
        &self,
        backup: &FolderName,
        listing: &BackupListing,
    ) -> Result<BTreeMap<ArtifactId, Result<Outline, String>>, StoreError> {
        let folder = self.folder(backup);
        let mut cached: BTreeMap<ObjectName, (Listed, Vec<u8>)> = self
            .cache
            .load(&self.name, &folder.folder())
            .into_iter()
            .map(|entry| (entry.0.name.clone(), entry))
            .collect();
        let (mut outlines, mut unread) = (BTreeMap::new(), Vec::new());
        for (id, listed) in &listing.manifests {
            let kept = cached.remove(&listed.name).filter(|(known, _)| known == listed);
            let signed = listing.signatures.contains_key(id);
            match kept.filter(|_| signed).and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok()) {
                Some(outline) => {
                    outlines.insert(*id, Ok(outline));
                }
                None => unread.push((*id, listed)),
            }
        }
        let reads: Vec<_> = unread
            .into_iter()
            .map(|(id, listed)| {
                let folder = &folder;
                async move { Ok::<_, StoreError>((id, listed, self.outline(folder, id).await?)) }
            })
            .collect();
        let fresh: Vec<(ArtifactId, &Listed, Result<Outline, String>)> =
            stream::iter(reads).buffer_unordered(READS).try_collect().await?;
        let keep = |(_, listed, outline): &(ArtifactId, &Listed, Result<Outline, String>)| {
            let bytes = serde_json::to_vec(outline.as_ref().ok()?).ok()?;
            Some(((*listed).clone(), bytes))
        };
        let keep: Vec<(Listed, Vec<u8>)> = fresh.iter().filter_map(keep).collect();
        let gone: Vec<ObjectName> = cached.into_keys().collect();
        self.cache.update(&self.name, &keep, &gone);
        outlines.extend(fresh.into_iter().map(|(id, _, outline)| (id, outline)));
        Ok(outlines)
    }

    async fn outline(
        &self,
        folder: &BackupFolder,
        id: ArtifactId,
    ) -> Result<Result<Outline, String>, StoreError> {
        match committed::read(folder, id, &self.keys).await {
            Ok(committed) => Ok(Ok(Outline::of(&committed.manifest))),
            // A manifest too large to be read is not an outage.
            Err(ReadError::Store(error)) if error.kind != ErrorKind::Protocol => Err(error),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// The folder of one backup in this store.
    pub fn folder(&self, backup: &FolderName) -> BackupFolder {
        BackupFolder {
            name: self.name.clone(),
            store: self.store.clone(),
            fleet: self.fleet.clone(),
            backup: backup.clone(),
        }
    }
}

/// Bytes of what no manifest names, by the capture that wrote it.
fn unreferenced(listing: &BackupListing, named: &BTreeSet<PackName>) -> BTreeMap<ArtifactId, u64> {
    let mut found = BTreeMap::new();
    let packs = listing.packs.iter().filter(|(pack, _)| !named.contains(pack));
    let packs = packs.map(|(pack, size)| (pack.artifact, size));
    let others = listing.indexes.iter().chain(&listing.signatures);
    let others = others.filter(|(id, _)| !listing.manifests.contains_key(id)).map(|(id, size)| (*id, size));
    for (id, size) in packs.chain(others) {
        *found.entry(id).or_default() += size;
    }
    found
}

/// Marks artifacts that a repair replaced and that were not deleted yet.
fn mark_superseded(artifacts: &mut [StoredArtifact]) {
    let content = |artifact: &StoredArtifact| artifact.supersedes.unwrap_or(artifact.id);
    let repairs: Vec<(ArtifactId, ArtifactId)> = artifacts
        .iter()
        .filter(|a| a.supersedes.is_some() && a.condition == Condition::Good)
        .map(|a| (content(a), a.id))
        .collect();
    for artifact in artifacts {
        let repair = repairs.iter().find(|(of, id)| *of == content(artifact) && *id > artifact.id);
        if let Some((_, id)) = repair {
            artifact.condition = Condition::Damaged(format!("superseded by its repair {id}").into());
        }
    }
}
