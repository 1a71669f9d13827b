//! Artifacts encrypted anew, where a store's recipients are others than those of the copy that is read, or where the names
//! of its packs are taken. The compressed segments stay as they are: what was signed for is decrypted and encrypted again,
//! pack by pack, into packs of the copy. Segments that the store holds already, of the same epoch and for the same
//! recipients, are shared and not written again.

mod pool;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use age::x25519;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    segment::{self, OpenError, Recipients, SealError},
    stream::Damage,
    transfer::{self, AT_ONCE, Copied, TransferError},
};
use crate::{
    artifact::{
        ArtifactId, Manifest,
        index::{Extent, Index},
        layout::{self, Object, PackName},
        manifest::{Content, Segments, Stored},
    },
    committed::BackupFolder,
    keys::Keys,
    progress::Progress,
};
pub(super) use pool::Pool;

/// For whom what is written into a store is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// For whom the copy is that is read: byte for byte.
    AsRead,
    /// For these, whomever the copy that is read is for.
    Only(Recipients),
}

impl Audience {
    /// To whom a copy of `manifest` must be encrypted anew; `None` where it is for the right ones already.
    pub(super) fn others_than(&self, manifest: &Manifest) -> Option<&Recipients> {
        match self {
            Audience::AsRead => None,
            Audience::Only(recipients) => (!is_for(manifest, recipients)).then_some(recipients),
        }
    }
}

/// Whether `manifest` is encrypted to exactly these.
fn is_for(manifest: &Manifest, recipients: &Recipients) -> bool {
    Recipients::parse(manifest.recipients.iter().map(String::as_str)).as_ref() == Ok(recipients)
}

/// One artifact that is about to be encrypted anew. It is known to be readable: nothing is written before.
pub(super) struct Rewrite<'a> {
    from: &'a BackupFolder,
    to: &'a BackupFolder,
    original: &'a Manifest,
    artifact: ArtifactId,
    recipients: Recipients,
    sealed: Option<String>,
    identities: Arc<[x25519::Identity]>,
    progress: &'a dyn Progress,
}

impl<'a> Rewrite<'a> {
    /// Prepares to write `original`, a trusted manifest of `from`, into `to` under the name `artifact`.
    pub(super) fn prepare(
        (original, from): (&'a Manifest, &'a BackupFolder),
        (artifact, to): (ArtifactId, &'a BackupFolder),
        recipients: &Recipients,
        keys: &Keys,
        progress: &'a dyn Progress,
    ) -> Result<Self, TransferError> {
        let mut rewrite = Self {
            from,
            to,
            original,
            artifact,
            recipients: recipients.clone(),
            sealed: None,
            identities: keys.identities().into(),
            progress,
        };
        if rewrite.identities.is_empty() {
            return Err(rewrite.not_readable("this controller has no identity"));
        }
        rewrite.sealed = rewrite.seal_anew()?;
        Ok(rewrite)
    }

    fn seal_anew(&self) -> Result<Option<String>, TransferError> {
        let Some(text) = &self.original.sealed else { return Ok(None) };
        let malformed = |e: base64::DecodeError| self.unopened_seal(OpenError::Encryption(e.to_string()));
        let sealed = BASE64_STANDARD.decode(text).map_err(malformed)?;
        let plaintext =
            segment::decrypt(&self.identities, &sealed).map_err(|error| self.unopened_seal(error))?;
        let mut sealed = Vec::new();
        self.recipients.encrypt(&plaintext, &mut sealed)?;
        Ok(Some(BASE64_STANDARD.encode(sealed)))
    }

    /// Writes packs and index; the manifest that is returned is to be signed and committed. What `pool` holds is shared.
    pub(super) async fn write(&self, pool: &Pool) -> Result<(Manifest, Copied), TransferError> {
        let mut manifest = Manifest {
            artifact: self.artifact,
            recipients: self.recipients.to_texts(),
            sealed: self.sealed.clone(),
            ..self.original.clone()
        };
        let mut copied = Copied::default();
        if let Content::Segments(segments) = &mut manifest.content {
            let mut index = transfer::fetch_index(self.from, self.original, segments).await?;
            let mut places = pool.places(self.to, &index).await?;
            let number = self.clear_leftovers().await?;
            let written = self.write_packs(segments, &index, &places, number).await?;
            segments.packs = pool.packs(places.values());
            for pack in written {
                copied.add(&pack.stored);
                places.extend(pack.places);
                segments.packs.insert(pack.name, pack.stored);
            }
            for segment in &mut index.segments {
                segment.extent = places[&segment.extent];
            }
            segments.index = self.put_index(&index).await?;
            copied.add(&segments.index);
        }
        Ok((manifest, copied))
    }

    /// Removes signature and index that an attempt left which was cut off. Returns the first number of a pack that is
    /// free; packs of that name may be in use by later artifacts of the epoch.
    async fn clear_leftovers(&self) -> Result<u32, TransferError> {
        let (to, id) = (self.to, self.artifact);
        if to.store.stat(&to.manifest(id)).await?.is_some() {
            return Err(transfer::conflict(to, &to.manifest(id), "is there, and cannot be trusted"));
        }
        to.store.delete(&to.signature(id)).await?;
        to.store.delete(&to.index(id)).await?;
        let listed = to.store.list(&to.packs_of(id)).await?;
        let numbers = listed.iter().filter_map(|object| match layout::classify(&to.fleet, &object.name) {
            Some(Object::Pack(_, pack)) => Some(pack.number),
            _ => None,
        });
        Ok(numbers.max().map_or(0, |last| last.saturating_add(1)))
    }

    /// Writes a pack for each that holds segments without a place.
    async fn write_packs(
        &self,
        segments: &Segments,
        index: &Index,
        places: &HashMap<Extent, Extent>,
        first: u32,
    ) -> Result<Vec<WrittenPack>, TransferError> {
        let mut wanted: BTreeMap<PackName, BTreeSet<Extent>> = BTreeMap::new();
        for segment in index.segments.iter().filter(|segment| !places.contains_key(&segment.extent)) {
            wanted.entry(segment.extent.pack).or_default().insert(segment.extent);
        }
        let writes: Vec<_> = (first..)
            .zip(wanted)
            .map(|(number, (pack, extents))| {
                let name = PackName { artifact: self.artifact, number };
                self.write_pack((pack, &segments.packs[&pack]), extents, name)
            })
            .collect();
        stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn write_pack(
        &self,
        (pack, stored): (PackName, &Stored),
        extents: BTreeSet<Extent>,
        name: PackName,
    ) -> Result<WrittenPack, TransferError> {
        let object = self.from.pack(pack);
        let content = transfer::fetch(self.from, &object, stored).await?;
        let content = content.map_err(|damage| self.damaged(damage))?;
        self.progress.read(stored.size);
        let (identities, recipients) = (self.identities.clone(), self.recipients.clone());
        let resealing =
            tokio::task::spawn_blocking(move || reseal(&identities, &recipients, &content, &extents, name));
        // The task is cancelled only when the runtime ends.
        let resealed = resealing.await.map_err(|e| self.damaged(Damage::new(object.clone(), e.to_string())));
        let (content, places) = resealed?.map_err(|error| match error {
            ResealError::Open(OpenError::WrongIdentity) => self.wrong_identity(),
            ResealError::Open(error) => {
                self.damaged(Damage::new(object, format!("cannot be opened: {error}")))
            }
            ResealError::Seal(error) => error.into(),
        })?;
        let stored = transfer::stored(&content);
        transfer::put(self.to, &self.to.pack(name), content, &stored).await?;
        self.progress.written(stored.size);
        Ok(WrittenPack { name, stored, places })
    }

    async fn put_index(&self, index: &Index) -> Result<Stored, TransferError> {
        let content = Bytes::from(index.to_bytes());
        let stored = transfer::stored(&content);
        transfer::put(self.to, &self.to.index(self.artifact), content, &stored).await?;
        Ok(stored)
    }

    fn unopened_seal(&self, error: OpenError) -> TransferError {
        match error {
            OpenError::WrongIdentity => self.wrong_identity(),
            damage => {
                let fault = format!("seals what cannot be opened: {damage}");
                self.damaged(Damage::new(self.from.manifest(self.original.artifact), fault))
            }
        }
    }

    fn damaged(&self, damage: Damage) -> TransferError {
        let (artifact, store) = (self.original.artifact, self.from.name.clone());
        TransferError::Damaged { artifact, store, damage }
    }

    fn wrong_identity(&self) -> TransferError {
        self.not_readable("none of this controller's identities can read it there")
    }

    fn not_readable(&self, why: &'static str) -> TransferError {
        TransferError::NotReadable {
            artifact: self.original.artifact,
            from: self.from.name.clone(),
            to: self.to.name.clone(),
            why,
            recipients: self.original.recipients.clone(),
        }
    }
}

/// A pack of the copy, and where it holds the segments that it was made of.
struct WrittenPack {
    name: PackName,
    stored: Stored,
    places: Vec<(Extent, Extent)>,
}

enum ResealError {
    Open(OpenError),
    Seal(SealError),
}

/// Decrypts some segments of a pack and encrypts them anew, in a row.
fn reseal(
    identities: &[x25519::Identity],
    recipients: &Recipients,
    pack: &[u8],
    extents: &BTreeSet<Extent>,
    name: PackName,
) -> Result<(Bytes, Vec<(Extent, Extent)>), ResealError> {
    let mut content = Vec::with_capacity(pack.len());
    let mut places = Vec::with_capacity(extents.len());
    for extent in extents {
        let (start, end) = (extent.offset as usize, extent.range().end as usize);
        let compressed = segment::decrypt(identities, &pack[start..end]).map_err(ResealError::Open)?;
        let offset = content.len();
        recipients.encrypt(&compressed, &mut content).map_err(ResealError::Seal)?;
        // A pack is never longer than what is carried, so that a segment's length fits.
        let length = (content.len() - offset) as u32;
        places.push((*extent, Extent { pack: name, offset: offset as u64, length }));
    }
    Ok((Bytes::from(content), places))
}
