//! Copies: a committed artifact in a further store. Byte for byte, and only what is missing there is carried; or encrypted
//! anew, where that store is for others.
//!
//! A copy that was cut off leaves what it has carried, under the names of the original: the next attempt compares it with
//! the manifest and carries only the rest. If no attempt comes, a sweep takes it.

mod leftovers;

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    compare,
    lease::Held,
    rewrite::{Audience, Pool, Rewrite},
    segment::Recipients,
    transfer::{self, AT_ONCE, TransferError},
};
use crate::{
    artifact::{
        ArtifactId, Depth, Kind,
        layout::{ObjectName, PackName},
        manifest::{Content, Manifest, Stored},
    },
    clock::Clock,
    committed::{self, BackupFolder, Committed, ReadError, same_capture},
    keys::Keys,
    progress::Progress,
};

pub use super::transfer::Copied;
use leftovers::Leftovers;

/// Copies `artifact` from `from` to `to`, for `audience`, under a lease, the manifest last.
pub async fn copy(
    artifact: ArtifactId,
    from: &BackupFolder,
    to: &BackupFolder,
    audience: &Audience,
    keys: &Keys,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<Copied, TransferError> {
    let original = committed::read(from, artifact, keys).await?;
    if is_there(artifact, to, &original, keys).await? {
        return Ok(Copied::default());
    }
    let copying = Copying { from, to, original: &original, keys, progress };
    let rewrite = audience.others_than(&original.manifest).map(|to| copying.rewrite(to)).transpose()?;
    let lease = Held::take(to, artifact, original.manifest.epoch, keys, clock).await?;
    let (committed, copied) = lease.during(clock, copying.write(rewrite)).await?;
    transfer::commit(to, &committed, &lease, clock).await?;
    lease.release().await;
    Ok(copied)
}

/// Whether this very capture is committed there already, for whomever.
async fn is_there(
    artifact: ArtifactId,
    to: &BackupFolder,
    original: &Committed,
    keys: &Keys,
) -> Result<bool, TransferError> {
    match committed::read(to, artifact, keys).await {
        Ok(there) if same_capture(&there.manifest, &original.manifest) => Ok(true),
        Ok(_) => Err(transfer::conflict(to, &to.manifest(artifact), "commits something else")),
        Err(ReadError::Missing { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Every object that a manifest names, in `folder`.
pub(super) fn objects<'a>(
    folder: &'a BackupFolder,
    manifest: &'a Manifest,
) -> impl Iterator<Item = (ObjectName, &'a Stored)> {
    let segments = match &manifest.content {
        Content::Segments(segments) => Some(segments),
        Content::Native { .. } => None,
    };
    segments.into_iter().flat_map(move |segments| {
        let packs = segments.packs.iter().map(|(pack, stored)| (folder.pack(*pack), stored));
        packs.chain([(folder.index(manifest.artifact), &segments.index)])
    })
}

/// One copy under way.
struct Copying<'a> {
    from: &'a BackupFolder,
    to: &'a BackupFolder,
    original: &'a Committed,
    keys: &'a Keys,
    progress: &'a dyn Progress,
}

impl<'a> Copying<'a> {
    fn rewrite(&self, to: &Recipients) -> Result<(Recipients, Rewrite<'a>), TransferError> {
        let original = &self.original.manifest;
        let (from, place) = ((original, self.from), (original.artifact, self.to));
        Ok((to.clone(), Rewrite::prepare(from, place, to, self.keys, self.progress)?))
    }

    /// Writes what is missing, and has the store confirm all that the copy's manifest names.
    async fn write(
        &self,
        rewrite: Option<(Recipients, Rewrite<'a>)>,
    ) -> Result<(Committed, Copied), TransferError> {
        let left = Leftovers::find(self.to, &self.original.manifest, self.keys).await?;
        let (committed, copied) = match rewrite {
            Some((recipients, rewrite)) => self.anew(recipients, &rewrite, &left).await?,
            None => self.as_it_is(&left).await?,
        };
        let artifact = self.original.manifest.artifact;
        transfer::confirm(self.to, artifact, objects(self.to, &committed.manifest)).await?;
        Ok((committed, copied))
    }

    /// Encrypts the artifact anew; what the store holds of its epoch for the same recipients is shared. What an attempt
    /// left that was cut off is of no use to it: encrypted anew it is never the same again.
    async fn anew(
        &self,
        recipients: Recipients,
        rewrite: &Rewrite<'_>,
        left: &Leftovers,
    ) -> Result<(Committed, Copied), TransferError> {
        left.remove_all(self.to).await?;
        let held = self.shareable().await?;
        let held = held.iter().map(|held| &held.manifest).collect();
        let pool = Pool::of(self.to, held, &recipients, Depth::Metadata).await?;
        let (manifest, copied) = rewrite.write(&pool).await?;
        Ok((transfer::sign(manifest, self.keys), copied))
    }

    /// Carries the artifact byte for byte. Where the name of a pack that it shares stands for something else there (its base
    /// was encrypted anew, or is damaged) it is encrypted anew, if this controller can read it.
    async fn as_it_is(&self, left: &Leftovers) -> Result<(Committed, Copied), TransferError> {
        left.remove_misfits(self.to).await?;
        let conflict = match self.carry(left).await {
            Ok(copied) => return Ok((self.original.clone(), copied)),
            Err(TransferError::Conflict { store, damage }) if !self.is_own(&damage.object) => {
                TransferError::Conflict { store, damage }
            }
            Err(error) => return Err(error),
        };
        let recipients = Recipients::parse(self.original.manifest.recipients.iter().map(String::as_str));
        match recipients.ok().and_then(|recipients| self.rewrite(&recipients).ok()) {
            Some((recipients, rewrite)) => {
                // Also what was carried just now, before the conflict.
                let left = Leftovers::find(self.to, &self.original.manifest, self.keys).await?;
                self.anew(recipients, &rewrite, &left).await
            }
            None => Err(conflict),
        }
    }

    /// Whether the artifact itself wrote the object, rather than its epoch before it.
    fn is_own(&self, object: &ObjectName) -> bool {
        let own = self.to.packs_of(self.original.manifest.artifact);
        object.as_str().strip_prefix(own.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The artifact of the same epoch in the store that a copy shares segments with: its base, or the epoch's full, or
    /// the latest of what stands in their place. A full shares nothing, a differential with the full only.
    async fn shareable(&self) -> Result<Option<Committed>, TransferError> {
        let original = &self.original.manifest;
        let Some(base) = original.base else { return Ok(None) };
        for id in [base, original.epoch] {
            if let Some(found) = self.committed_there(id).await? {
                return Ok(Some(found));
            }
        }
        let all = transfer::read_all(self.to, self.keys).await?;
        let shares = |held: &Committed| {
            held.manifest.epoch == original.epoch
                && (original.kind != Kind::Differential || held.manifest.kind == Kind::Full)
        };
        Ok(all.into_values().rfind(shares))
    }

    async fn committed_there(&self, id: ArtifactId) -> Result<Option<Committed>, TransferError> {
        match committed::read(self.to, id, self.keys).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn carry(&self, left: &Leftovers) -> Result<Copied, TransferError> {
        let original = &self.original.manifest;
        let base = match original.base {
            Some(base) => self.committed_there(base).await?,
            None => None,
        };
        let known = base.as_ref().map(|base| packs(self.to, &base.manifest)).unwrap_or_default();
        // Objects have the same names in every store.
        let carries: Vec<_> = objects(self.from, original)
            .map(|(object, stored)| self.carry_object(object, stored, &known, left))
            .collect();
        let carried: Vec<u64> = stream::iter(carries)
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|bytes| async move { Ok(bytes) })
            .try_collect()
            .await?;
        Ok(Copied { objects: carried.len() as u64, bytes: carried.iter().sum() })
    }

    /// Carries one object, and returns its bytes; `None` when it was there. Of what was there, only what the base names is
    /// believed without its digest. What an earlier attempt left and is not right is removed, and carried again.
    async fn carry_object(
        &self,
        object: ObjectName,
        stored: &Stored,
        known: &BTreeMap<ObjectName, Stored>,
        left: &Leftovers,
    ) -> Result<Option<u64>, TransferError> {
        let (from, to) = (self.from, self.to);
        if to.store.stat(&object).await?.is_some() {
            let fault = match known.get(&object) {
                Some(named) if named == stored => {
                    compare::presence(to.store.as_ref(), &object, stored).await?
                }
                Some(_) => Some("is another pack".to_owned()),
                None => compare::content(to.store.as_ref(), &object, stored).await?,
            };
            match fault {
                None => return Ok(None),
                Some(_) if left.is_one(&object) => to.store.delete(&object).await?,
                Some(fault) => return Err(transfer::conflict(to, &object, fault)),
            }
        }
        let damaged = |damage| {
            let artifact = self.original.manifest.artifact;
            TransferError::Damaged { artifact, store: from.name.clone(), damage }
        };
        let content = transfer::fetch(from, &object, stored).await?.map_err(damaged)?;
        self.progress.read(stored.size);
        transfer::put(to, &object, content, stored).await?;
        self.progress.written(stored.size);
        Ok(Some(stored.size))
    }
}

/// The packs that a manifest names, by their names in `folder`.
fn packs(folder: &BackupFolder, manifest: &Manifest) -> BTreeMap<ObjectName, Stored> {
    let named = |(pack, stored): (&PackName, &Stored)| (folder.pack(*pack), stored.clone());
    match &manifest.content {
        Content::Segments(segments) => segments.packs.iter().map(named).collect(),
        Content::Native { .. } => BTreeMap::new(),
    }
}
