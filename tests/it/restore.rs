//! Restores, checks and copies of stored artifacts, and the scene on which they are repaired, deleted and cut off.

mod crash;
mod deletion;
mod healing;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use backstay::{
    apply::{
        cleanup::{self, Cleaned},
        copy,
        delete::{self, DeleteError},
        repair::{self, Order},
        restore::{self, Logs, RestoreError},
        rewrite::Audience,
        stream::StreamError,
        sweep,
        transfer::TransferError,
        verify::{self, VerifyError},
    },
    artifact::{
        ArtifactId, Depth,
        layout::{Holder, ObjectName},
        record::Event,
    },
    clock::ManualClock,
    committed::{self, BackupFolder},
    inventory::{Condition, Interrupted, StoredBackup, Work},
    keys::Keys,
    observe::stores::{Look, observe},
    progress::Unseen,
    records::Records,
    sources::{CaptureRequest, Captured, Place, Probe, Restored, Sink, Source, SourceError},
    stores::{
        Class, Store,
        faulty::{Faults, FaultyStore, Health},
        memory::MemoryStore,
    },
};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::artifacts::{KeyRing, full, id, incremental, look, now, without_digest};

/// A source that keeps what is restored, and may stop reading early.
#[derive(Default)]
pub struct Memory {
    pub restored: std::sync::Mutex<Vec<u8>>,
    reads_only: Option<usize>,
}

#[async_trait]
impl Source for Memory {
    async fn probe(&self) -> Result<Probe, SourceError> {
        Ok(Probe { version: "memory".to_owned() })
    }

    fn stream_name(&self) -> String {
        "agama.sql".to_owned()
    }

    async fn capture(&self, _: &CaptureRequest<'_>, _: &mut dyn Sink) -> Result<Captured, SourceError> {
        panic!("nothing is captured here")
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        _: &Place,
    ) -> Result<Restored, SourceError> {
        let mut bytes = Vec::new();
        let limit = self.reads_only.map_or(u64::MAX, |n| n as u64);
        let read = stream.take(limit).read_to_end(&mut bytes).await;
        *self.restored.lock().unwrap() = bytes;
        read.map(|_| Restored { place: "memory".to_owned() }).map_err(|e| SourceError {
            operation: "restore",
            subject: "memory".to_owned(),
            class: Class::Stalled,
            reason: e.to_string(),
            hint: None,
        })
    }
}

pub const PIECES: [&[u8]; 5] = [b"one\n", b"two\n", b"three\n", b"four\n", b"five\n"];
pub const LATER: [&[u8]; 6] = [b"one\n", b"two\n", b"THREE\n", b"four\n", b"five\n", b"six\n"];

/// Two stores with a full and an incremental each, and what they restore to.
pub struct Scene {
    pub ring: KeyRing,
    pub vault: MemoryStore,
    pub offsite: MemoryStore,
    pub clock: ManualClock,
}

impl Scene {
    /// Without copies.
    pub async fn captured() -> Self {
        let scene = Self {
            ring: KeyRing::new(),
            vault: MemoryStore::new(Arc::new(now)),
            offsite: MemoryStore::new(Arc::new(now)),
            clock: ManualClock::new(now()),
        };
        let first = full(&scene.at("vault"), &scene.ring, id(1, 1), &PIECES).await;
        incremental(&scene.at("vault"), &scene.ring, id(2, 2), &first, &LATER).await;
        scene
    }

    pub async fn new() -> Self {
        let scene = Self::captured().await;
        for artifact in [id(1, 1), id(2, 2)] {
            scene.copy(artifact).await.unwrap();
        }
        scene
    }

    pub fn look(&self, store: &str) -> Look {
        let found = if store == "vault" { &self.vault } else { &self.offsite };
        look(store, Arc::new(found.clone()), &self.ring)
    }

    pub fn at(&self, store: &str) -> BackupFolder {
        self.look(store).folder(&"agama".parse().unwrap())
    }

    pub async fn copy(&self, artifact: ArtifactId) -> Result<copy::Copied, TransferError> {
        let (from, to) = (self.at("vault"), self.at("offsite"));
        copy::copy(artifact, &from, &to, &Audience::AsRead, &self.ring.keys, &self.clock, &Unseen).await
    }

    pub async fn restore(&self, store: &str, artifact: ArtifactId) -> Result<Vec<u8>, String> {
        let source = Memory::default();
        restore_into(&source, &self.at(store), artifact, &self.ring.keys).await?;
        Ok(source.restored.into_inner().unwrap())
    }

    pub async fn verify(&self, store: &str, artifact: ArtifactId, depth: Depth) -> Vec<String> {
        let damage =
            verify::verify(&self.at(store), artifact, depth, &self.ring.keys, &Unseen).await.unwrap();
        damage.iter().map(ToString::to_string).collect()
    }

    pub async fn repair(&self, artifact: ArtifactId) -> Result<repair::Repaired, TransferError> {
        let order = Order { damaged: artifact, repair: id(9, 9) };
        let (store, from) = (self.at("vault"), self.at("offsite"));
        repair::repair(order, &store, &from, &Audience::AsRead, &self.ring.keys, &self.clock, &Unseen).await
    }

    pub async fn stored(&self, store: &str) -> StoredBackup {
        let inventory = observe(&self.look(store), now()).await;
        inventory.known().unwrap().backups.get("agama").cloned().unwrap_or_default()
    }

    /// What every good artifact of a store restores to.
    pub async fn restorable(&self, store: &str) -> Vec<Vec<u8>> {
        let mut contents = Vec::new();
        for artifact in self.stored(store).await.artifacts {
            contents.extend(self.restore(store, artifact.id).await);
        }
        contents.sort();
        contents.dedup();
        contents
    }
}

pub async fn restore_into(
    source: &Memory,
    folder: &BackupFolder,
    artifact: ArtifactId,
    keys: &Arc<Keys>,
) -> Result<Restored, String> {
    let manifest = committed::read(folder, artifact, keys).await.map_err(|e| e.to_string())?.manifest;
    let place = Place::File("/unused".into());
    restore::restore(&[manifest], Logs::default(), folder, source, &place, keys, &progress())
        .await
        .map_err(|e| e.to_string())
}

pub fn interrupted(store: &str, artifact: ArtifactId, work: Work) -> Interrupted {
    Interrupted {
        backup: "agama".parse().unwrap(),
        store: store.parse().unwrap(),
        artifact,
        work,
        copy: None,
    }
}

pub fn progress() -> Arc<dyn backstay::progress::Progress> {
    Arc::new(Unseen)
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_and_their_copies_restore_to_what_was_captured() {
    let scene = Scene::new().await;
    for store in ["vault", "offsite"] {
        assert_eq!(scene.restore(store, id(1, 1)).await.unwrap(), PIECES.concat());
        assert_eq!(scene.restore(store, id(2, 2)).await.unwrap(), LATER.concat());
        for depth in [Depth::Metadata, Depth::Data, Depth::Plaintext] {
            assert_eq!(scene.verify(store, id(2, 2), depth).await, Vec::<String>::new());
        }
    }
    let lease = |name: &&ObjectName| name.as_str().contains("/open/");
    assert_eq!(scene.offsite.names().iter().filter(lease).count(), 0);
    assert_eq!(scene.copy(id(2, 2)).await.unwrap(), copy::Copied::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_carries_only_what_is_missing() {
    let scene = Scene::new().await;
    let before: Vec<ObjectName> = scene.offsite.names();
    let folder = scene.at("offsite");
    scene.offsite.lose(&folder.manifest(id(2, 2)));
    scene.offsite.lose(&folder.index(id(2, 2)));
    let copied = scene.copy(id(2, 2)).await.unwrap();
    assert_eq!(copied.objects, 1);
    assert_eq!(scene.offsite.names(), before);
}

/// Changes one object so that it is as long as before, shorter, or gone.
#[derive(Clone, Copy, Debug)]
pub enum Harm {
    Flip,
    Cut,
    Lose,
}

pub async fn harm(store: &MemoryStore, name: &ObjectName, harm: Harm) {
    let content = store.get(name, None, 1 << 20).await.unwrap();
    match harm {
        Harm::Flip => {
            let mut bytes = content.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            store.overwrite(name, bytes.into());
        }
        Harm::Cut => store.overwrite(name, content.slice(..content.len() / 2)),
        Harm::Lose => store.lose(name),
    }
}

/// Every object that artifact `id(1, 1)` needs.
fn objects(scene: &Scene) -> Vec<ObjectName> {
    let own = id(1, 1).to_string();
    scene.vault.names().into_iter().filter(|name| name.as_str().contains(&own)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_no_damage() {
    let scene = Scene::new().await;
    let faults = Faults::seeded(1);
    let store = Arc::new(FaultyStore::new(Arc::new(scene.vault.clone()), faults.clone()));
    let folder = look("vault", store, &scene.ring).folder(&"agama".parse().unwrap());
    faults.set_health(Health::Away);
    let told = verify::verify(&folder, id(1, 1), Depth::Data, &scene.ring.keys, &Unseen).await;
    assert!(matches!(told, Err(VerifyError::Store(_))), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_identity_nothing_is_restored_and_the_recipients_are_named() {
    let scene = Scene::new().await;
    let recipient = scene.ring.recipients.to_texts().remove(0);
    let strangers = [scene.ring.without_identity(), KeyRing::new().keys];
    let manifest = committed::read(&scene.at("vault"), id(1, 1), &scene.ring.keys).await.unwrap().manifest;
    for keys in strangers {
        let source = Memory::default();
        let place = Place::File("/unused".into());
        let told = restore::restore(
            std::slice::from_ref(&manifest),
            Logs::default(),
            &scene.at("vault"),
            &source,
            &place,
            &keys,
            &progress(),
        )
        .await
        .unwrap_err();
        assert!(matches!(told, RestoreError::Stream(StreamError::Identity { .. })), "{told}");
        assert!(told.to_string().contains(&recipient), "{told}");
        assert_eq!(*source.restored.lock().unwrap(), b"");
    }
}

/// The keys of a new controller that trusts the signatures of the old one, has its identity, and not its naming key.
fn successor(ring: &KeyRing, dir: &std::path::Path) -> Arc<Keys> {
    let trusted = [ring.keys.public_key()];
    Arc::new(Keys::load_or_create(&dir.join("keys"), &trusted, Some(&ring.identity_file)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_somebody_else_encrypted_is_refused_before_the_stream_ends() {
    let scene = Scene::new().await;
    let folder = scene.at("vault");
    let whole = committed::read(&folder, id(1, 1), &scene.ring.keys).await.unwrap().manifest;
    let undigested = without_digest(&scene.ring, &whole);
    let dir = tempfile::tempdir().unwrap();
    let successor = successor(&scene.ring, dir.path());
    let index = folder.store.get(&folder.index(id(1, 1)), None, 1 << 20).await.unwrap();
    let index = backstay::artifact::index::Index::parse(&index).unwrap();
    for number in [0, index.segments.len() - 1] {
        // The forger knows the recipients, and where the segments are; a forged one of the same length fits in.
        let extent = index.segments[number].extent;
        let object = folder.pack(extent.pack);
        let original = folder.store.get(&object, None, 1 << 20).await.unwrap();
        let forged = forge(&scene.ring, &PIECES[number].to_ascii_uppercase(), extent.length as usize);
        let mut pack = original.to_vec();
        pack[extent.range().start as usize..extent.range().end as usize].copy_from_slice(&forged);
        scene.vault.overwrite(&object, pack.into());
        // By the segments' hashes, by the digest of the stream, or by those of the packs.
        for (manifest, keys) in [
            (&whole, &scene.ring.keys),
            (&undigested, &scene.ring.keys),
            (&whole, &successor),
            (&undigested, &successor),
        ] {
            let source = Memory::default();
            let place = Place::File("/unused".into());
            let manifests = std::slice::from_ref(manifest);
            let told =
                restore::restore(manifests, Logs::default(), &folder, &source, &place, keys, &progress())
                    .await;
            assert!(matches!(told, Err(RestoreError::Stream(StreamError::Damaged { .. }))), "{told:?}");
            assert!(source.restored.lock().unwrap().len() < PIECES.concat().len());
        }
        scene.vault.overwrite(&object, original);
    }
}

/// Another content, encrypted to the same recipients, of exactly this length.
fn forge(ring: &KeyRing, content: &[u8], length: usize) -> Vec<u8> {
    let mut sealer = backstay::apply::segment::Sealer::new(ring.recipients.clone()).unwrap();
    // An age file is of a random length, for it holds a stanza that means nothing.
    std::iter::repeat_with(|| sealer.seal(content).unwrap()).find(|forged| forged.len() == length).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_stops_reading_early_does_not_hide_damage_behind() {
    let scene = Scene::new().await;
    let source = Memory { reads_only: Some(4), ..Memory::default() };
    restore_into(&source, &scene.at("vault"), id(1, 1), &scene.ring.keys).await.unwrap();
    let last = scene.at("vault").pack("20261120T010000Z-0000000001/2".to_owned().try_into().unwrap());
    harm(&scene.vault, &last, Harm::Flip).await;
    let told = restore_into(&source, &scene.at("vault"), id(1, 1), &scene.ring.keys).await.unwrap_err();
    assert!(told.contains("0000000001/2") && told.contains("--from"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_with_another_naming_key_restores_what_an_earlier_one_signed() {
    let scene = Scene::new().await;
    let dir = tempfile::tempdir().unwrap();
    let keys = successor(&scene.ring, dir.path());
    let source = Memory::default();
    restore_into(&source, &scene.at("vault"), id(2, 2), &keys).await.unwrap();
    assert_eq!(*source.restored.lock().unwrap(), LATER.concat());
    let pack = scene.at("vault").pack("20261120T010000Z-0000000001/0".to_owned().try_into().unwrap());
    harm(&scene.vault, &pack, Harm::Flip).await;
    assert!(restore_into(&source, &scene.at("vault"), id(2, 2), &keys).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_content_under_the_same_name_is_never_overwritten() {
    let scene = Scene::new().await;
    let folder = scene.at("offsite");
    let name = folder.manifest(id(2, 2));
    scene.offsite.overwrite(&name, b"something else".as_slice().into());
    assert!(scene.copy(id(2, 2)).await.is_err());
    assert_eq!(scene.offsite.get(&name, None, 100).await.unwrap(), b"something else".as_slice());
}
