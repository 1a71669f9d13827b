//! Artifacts as a capture leaves them, made without a source: several small packs, so that each can be damaged alone.

use std::{collections::BTreeMap, sync::Arc};

use backstay::{
    apply::segment::{Recipients, Sealer},
    artifact::{
        ArtifactId, Kind, Manifest,
        index::{Extent, Index, Segment},
        layout::PackName,
        manifest::{self, Content, Moment, Sealed, Segments, Stored},
    },
    committed::BackupFolder,
    keys::Keys,
    observe::{
        cache::{MemoryCache, ObjectCache},
        stores::Look,
    },
    stores::Store,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Keys in a folder of their own, with an identity.
pub struct KeyRing {
    pub keys: Arc<Keys>,
    pub identity_file: std::path::PathBuf,
    pub recipients: Recipients,
    pub dir: tempfile::TempDir,
}

impl KeyRing {
    pub fn new() -> Self {
        use age::secrecy::ExposeSecret;
        use std::os::unix::fs::OpenOptionsExt;
        let dir = tempfile::tempdir().unwrap();
        let identity = age::x25519::Identity::generate();
        let identity_file = dir.path().join("identity.txt");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&identity_file)
            .unwrap();
        std::io::Write::write_all(&mut file, identity.to_string().expose_secret().as_bytes()).unwrap();
        let keys = Keys::load_or_create(&dir.path().join("keys"), &[], Some(&identity_file)).unwrap();
        let recipients = Recipients::parse([identity.to_public().to_string().as_str()]).unwrap();
        Self { keys: Arc::new(keys), identity_file, recipients, dir }
    }

    /// The same keys without an identity.
    pub fn without_identity(&self) -> Arc<Keys> {
        Arc::new(Keys::load_or_create(&self.dir.path().join("keys"), &[], None).unwrap())
    }
}

pub fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

pub fn look(name: &str, store: Arc<dyn Store>, ring: &KeyRing) -> Look {
    let cache: Arc<dyn ObjectCache> = Arc::new(MemoryCache::default());
    Look {
        name: name.parse().unwrap(),
        store,
        fleet: "pavroto".parse().unwrap(),
        keys: ring.keys.clone(),
        cache,
    }
}

pub fn id(hour: i8, random: u64) -> ArtifactId {
    let at = jiff::civil::date(2026, 11, 20).at(hour, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
    ArtifactId::new(at.timestamp(), random)
}

/// Writes a full whose segments are `pieces`, two a pack.
pub async fn full(folder: &BackupFolder, ring: &KeyRing, id: ArtifactId, pieces: &[&[u8]]) -> Manifest {
    write(folder, ring, id, None, pieces).await
}

/// Writes an incremental: pieces that `base` holds are taken from there.
pub async fn incremental(
    folder: &BackupFolder,
    ring: &KeyRing,
    id: ArtifactId,
    base: &Manifest,
    pieces: &[&[u8]],
) -> Manifest {
    write(folder, ring, id, Some(base), pieces).await
}

async fn write(
    folder: &BackupFolder,
    ring: &KeyRing,
    id: ArtifactId,
    base: Option<&Manifest>,
    pieces: &[&[u8]],
) -> Manifest {
    let naming = ring.keys.naming_key(&folder.fleet, &folder.backup);
    let mut sealer = Sealer::new(ring.recipients.clone()).unwrap();
    let (mut index, mut packs): (Index, Vec<Vec<u8>>) = Default::default();
    let mut used = BTreeMap::new();
    let mut known = BTreeMap::new();
    if let Some(base) = base {
        let bytes = folder.store.get(&folder.index(base.artifact), None, 1 << 20).await.unwrap();
        known.extend(Index::parse(&bytes).unwrap().segments.into_iter().map(|s| (s.hash, s.extent)));
    }
    let mut written = 0;
    for piece in pieces {
        let hash = naming.segment(piece);
        let extent = *known.entry(hash).or_insert_with(|| {
            if written % 2 == 0 {
                packs.push(Vec::new());
            }
            written += 1;
            let pack = PackName { artifact: id, number: packs.len() as u32 - 1 };
            let last = packs.last_mut().unwrap();
            let sealed = sealer.seal(piece).unwrap();
            let extent = Extent { pack, offset: last.len() as u64, length: sealed.len() as u32 };
            last.extend(sealed);
            extent
        });
        if extent.pack.artifact != id {
            let stored = segments(base.unwrap()).packs[&extent.pack].clone();
            used.insert(extent.pack, stored);
        }
        index.push(Segment { hash, extent });
    }
    for (number, content) in packs.into_iter().enumerate() {
        let pack = PackName { artifact: id, number: number as u32 };
        used.insert(pack, put(folder, &folder.pack(pack), content).await);
    }
    let count = index.segments.len() as u64;
    let index = put(folder, &folder.index(id), index.to_bytes()).await;
    let plaintext = pieces.concat();
    let manifest = Manifest {
        format: manifest::FORMAT.to_owned(),
        fleet: folder.fleet.clone(),
        backup: folder.backup.clone(),
        artifact: id,
        kind: if base.is_some() { Kind::Incremental } else { Kind::Full },
        slot: Some(id.time()),
        manual: None,
        base: base.map(|base| base.artifact),
        epoch: base.map_or(id, |base| base.epoch),
        requires: Vec::new(),
        supersedes: None,
        revision: "0123456789abcdef".to_owned(),
        reason: "slot".to_owned(),
        started: id.time(),
        finished: id.time(),
        moment: Moment::At { time: id.time(), position: None },
        recipients: ring.recipients.to_texts(),
        content: Content::Segments(Segments {
            stream: "agama.sql".to_owned(),
            count,
            length: plaintext.len() as u64,
            average: 1 << 20,
            index,
            packs: used,
        }),
        sealed: Some(seal(ring, Some(&plaintext))),
    };
    commit(folder, &ring.keys, &manifest).await;
    manifest
}

fn seal(ring: &KeyRing, plaintext: Option<&[u8]>) -> String {
    let sha256 = plaintext.map(|plaintext| hex::encode(Sha256::digest(plaintext)));
    let sealed = Sealed { sha256, details: Default::default() };
    let mut encrypted = Vec::new();
    ring.recipients.encrypt(&serde_json::to_vec(&sealed).unwrap(), &mut encrypted).unwrap();
    BASE64_STANDARD.encode(encrypted)
}

/// The same manifest as of a capture that did not read what it reused: without a digest of the stream.
pub fn without_digest(ring: &KeyRing, manifest: &Manifest) -> Manifest {
    Manifest { sealed: Some(seal(ring, None)), ..manifest.clone() }
}

/// Signs and puts a manifest.
pub async fn commit(folder: &BackupFolder, keys: &Keys, manifest: &Manifest) {
    let bytes = serde_json::to_vec_pretty(manifest).unwrap();
    let signature = keys.sign(manifest::SIGNATURE_NAMESPACE, &bytes);
    put(folder, &folder.signature(manifest.artifact), signature.into_bytes()).await;
    put(folder, &folder.manifest(manifest.artifact), bytes).await;
}

async fn put(
    folder: &BackupFolder,
    name: &backstay::artifact::layout::ObjectName,
    content: Vec<u8>,
) -> Stored {
    let stored = Stored { size: content.len() as u64, sha256: hex::encode(Sha256::digest(&content)) };
    folder.store.put_if_absent(name, content.into()).await.unwrap();
    stored
}

pub fn segments(manifest: &Manifest) -> &Segments {
    match &manifest.content {
        Content::Segments(segments) => segments,
        Content::Native { .. } => panic!("these artifacts are in segments"),
    }
}
