//! Restores, checks, copies, repairs and deletions of stored artifacts, with every kind of object damaged, and with a
//! crash after every call to a store.

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
        restore::{self, RestoreError},
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

    async fn capture(&self, _: &CaptureRequest, _: &mut dyn Sink) -> Result<Captured, SourceError> {
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
    restore::restore(&[manifest], folder, source, &place, keys, &progress()).await.map_err(|e| e.to_string())
}

pub fn interrupted(store: &str, artifact: ArtifactId, work: Work) -> Interrupted {
    Interrupted { backup: "agama".parse().unwrap(), store: store.parse().unwrap(), artifact, work }
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
async fn damage_of_any_object_is_found_fails_the_restore_and_is_healed_from_the_copy() {
    let count = objects(&Scene::new().await).len();
    assert_eq!(count, 6, "manifest, signature, index, three packs");
    for number in 0..count {
        for how in [Harm::Flip, Harm::Cut, Harm::Lose] {
            let scene = Scene::new().await;
            let object = objects(&scene)[number].clone();
            harm(&scene.vault, &object, how).await;
            let case = format!("{how:?} of {object}");

            let damage = scene.verify("vault", id(1, 1), Depth::Data).await;
            assert_ne!(damage, Vec::<String>::new(), "{case}");
            let told = scene.restore("vault", id(1, 1)).await;
            assert!(told.is_err(), "{case}: {told:?}");
            assert_eq!(scene.restore("offsite", id(1, 1)).await.unwrap(), PIECES.concat(), "{case}");

            let repaired = scene.repair(id(1, 1)).await.unwrap().artifact;
            assert_eq!(scene.restore("vault", repaired).await.unwrap(), PIECES.concat(), "{case}");
            assert_eq!(
                scene.verify("vault", repaired, Depth::Plaintext).await,
                Vec::<String>::new(),
                "{case}"
            );
            assert!(scene.restore("vault", id(1, 1)).await.is_err(), "{case}: the damaged one is gone");
            let stored = scene.stored("vault").await;
            assert_eq!(stored.unreadable.len(), 0, "{case}");
            let repair = stored.artifacts.iter().find(|a| a.id == repaired).unwrap();
            assert_eq!((repair.supersedes, repair.slot), (Some(id(1, 1)), Some(id(1, 1).time())), "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repairs_of_one_epoch_share_what_they_wrote() {
    let scene = Scene::new().await;
    let shared = scene.at("vault").pack("20261120T010000Z-0000000001/0".to_owned().try_into().unwrap());
    harm(&scene.vault, &shared, Harm::Flip).await;
    assert_eq!(scene.repair(id(1, 1)).await.unwrap().packs, 1);
    let order = Order { damaged: id(2, 2), repair: id(10, 10) };
    let (store, from) = (scene.at("vault"), scene.at("offsite"));
    let second =
        repair::repair(order, &store, &from, &Audience::AsRead, &scene.ring.keys, &scene.clock, &Unseen)
            .await
            .unwrap();
    assert_eq!(second.packs, 0, "the first repair's pack has the same content");
    assert_eq!(scene.restore("vault", id(10, 10)).await.unwrap(), LATER.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repaired_artifact_is_repaired_again_under_the_name_of_its_content() {
    let scene = Scene::new().await;
    let index = |artifact| scene.at("vault").index(artifact);
    harm(&scene.vault, &index(id(1, 1)), Harm::Flip).await;
    scene.repair(id(1, 1)).await.unwrap();
    harm(&scene.vault, &index(id(9, 9)), Harm::Lose).await;
    let order = Order { damaged: id(9, 9), repair: id(10, 10) };
    let (store, from) = (scene.at("vault"), scene.at("offsite"));
    repair::repair(order, &store, &from, &Audience::AsRead, &scene.ring.keys, &scene.clock, &Unseen)
        .await
        .unwrap();
    let stored = scene.stored("vault").await;
    assert_eq!(stored.artifact(id(10, 10)).unwrap().supersedes, Some(id(1, 1)));
    assert_eq!(scene.restore("vault", id(10, 10)).await.unwrap(), PIECES.concat());
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
            let told = restore::restore(manifests, &folder, &source, &place, keys, &progress()).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn deletions_free_what_nothing_else_names_and_keep_the_rest() {
    let scene = Scene::new().await;
    let backup = "agama".parse().unwrap();
    let (vault, clock) = (scene.look("vault"), &scene.clock);
    let deleted = delete::delete(&vault, &backup, id(1, 1), &[], clock).await.unwrap();
    assert_eq!(deleted.left, None);
    assert_eq!(scene.restore("vault", id(2, 2)).await.unwrap(), LATER.concat());
    // The pack of `three` alone is gone with the full, if it held nothing else.
    delete::delete(&vault, &backup, id(2, 2), &[], clock).await.unwrap();
    assert_eq!(scene.vault.names(), Vec::<ObjectName>::new(), "the epoch is gone, and so are its packs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_leaves_packs_while_a_capture_may_share_them() {
    let scene = Scene::new().await;
    let backup = "agama".parse().unwrap();
    let lease = scene.at("vault").lease(Holder::Writer(id(3, 3)), 0);
    let until = now().checked_add(jiff::Span::new().hours(1)).unwrap();
    let text = format!(r#"{{"epoch":"{}","until":"{until}","controller":"another"}}"#, id(1, 1));
    scene.vault.overwrite(&lease, text.into());
    // What this controller left behind is in nobody's way, but its packs wait for the clean-up.
    let left = [interrupted("vault", id(3, 3), Work::Capture)];
    for artifact in [id(2, 2), id(1, 1)] {
        let look = scene.look("vault");
        let needed = delete::delete(&look, &backup, artifact, &[], &scene.clock).await.unwrap_err();
        assert!(matches!(needed, DeleteError::Needed { .. }), "{needed}");
        let deleted = delete::delete(&look, &backup, artifact, &left, &scene.clock).await.unwrap();
        assert!(deleted.left.is_some_and(|why| why.contains(&id(3, 3).to_string())));
    }
    assert!(scene.vault.names().iter().any(|name| name.as_str().contains("/packs/")));
}

/// Records that `captures` are unreferenced, at `at`.
async fn record(scene: &Scene, captures: Vec<ArtifactId>, at: Timestamp) {
    let look = scene.look("vault");
    let records = Records { name: look.name, store: look.store, fleet: look.fleet };
    let event = Event::Unreferenced { backup: "agama".parse().unwrap(), captures };
    records.append(&scene.ring.keys, at, vec![event]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_takes_what_a_day_old_record_and_a_fresh_listing_both_found() {
    let scene = Scene::new().await;
    let backup = "agama".parse().unwrap();
    let folder = scene.at("vault");
    scene.vault.lose(&folder.manifest(id(1, 1)));
    let unreferenced = scene.stored("vault").await.unreferenced;
    assert_eq!(unreferenced.keys().collect::<Vec<_>>(), [&id(1, 1)]);

    let day = jiff::Span::new().hours(24);
    record(&scene, vec![id(1, 1)], now()).await;
    let swept = sweep::sweep(&scene.look("vault"), &backup, &[id(1, 1)], &scene.clock).await.unwrap();
    assert_eq!(swept, sweep::Swept::default(), "too early");

    // The store's clock counts as well: it stands still.
    scene.clock.set(now().checked_add(day).unwrap());
    let swept = sweep::sweep(&scene.look("vault"), &backup, &[id(1, 1)], &scene.clock).await.unwrap();
    assert_eq!(swept, sweep::Swept::default(), "too early by the store's clock");
    scene.clock.set(now());

    let scene = Scene::new().await;
    let folder = scene.at("vault");
    scene.vault.lose(&folder.manifest(id(1, 1)));
    record(&scene, vec![id(1, 1), id(2, 2)], now().checked_sub(day).unwrap()).await;
    let captures = [id(1, 1), id(2, 2)];
    let swept = sweep::sweep(&scene.look("vault"), &backup, &captures, &scene.clock).await.unwrap();
    assert!(swept.bytes > 0);
    assert_eq!(scene.restore("vault", id(2, 2)).await.unwrap(), LATER.concat(), "what is named stays");
    assert_eq!(scene.stored("vault").await.unreferenced.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_manifest_keeps_every_pack() {
    let scene = Scene::new().await;
    let backup = "agama".parse().unwrap();
    let folder = scene.at("vault");
    let day = jiff::Span::new().hours(24);
    record(&scene, vec![id(1, 1)], now().checked_sub(day).unwrap()).await;
    scene.vault.lose(&folder.manifest(id(1, 1)));
    harm(&scene.vault, &folder.manifest(id(2, 2)), Harm::Flip).await;
    let before = scene.vault.names();
    assert!(sweep::sweep(&scene.look("vault"), &backup, &[id(1, 1)], &scene.clock).await.is_err());
    assert_eq!(scene.vault.names(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_interrupted_work_left_is_removed_but_for_what_others_name() {
    let scene = Scene::new().await;
    let left = |artifact| interrupted("offsite", artifact, Work::Capture);
    let folder = scene.at("offsite");
    let cleaned = cleanup::clean_up(&scene.look("offsite"), &left(id(2, 2)), &scene.clock).await.unwrap();
    assert_eq!(cleaned, Cleaned::Committed);
    scene.offsite.lose(&folder.manifest(id(1, 1)));
    let cleaned = cleanup::clean_up(&scene.look("offsite"), &left(id(1, 1)), &scene.clock).await.unwrap();
    assert!(matches!(cleaned, Cleaned::Removed(_)), "{cleaned:?}");
    assert_eq!(scene.restore("offsite", id(2, 2)).await.unwrap(), LATER.concat());
    assert_eq!(scene.copy(id(1, 1)).await.unwrap().objects, 1, "the index; the packs were not touched");
}

/// Runs `work` on a scene whose stores stop after so many calls, for every number of calls until it comes to its end.
pub async fn crash_everywhere<F, Fut, C, CFut>(work: F, check: C)
where
    F: Fn(Arc<Scene>, Look, Look) -> Fut,
    Fut: Future<Output = ()>,
    C: Fn(Arc<Scene>, u64) -> CFut,
    CFut: Future<Output = ()>,
{
    for calls in 0..500 {
        let scene = Arc::new(Scene::new().await);
        let faults = Faults::seeded(calls);
        let stop = |store: &MemoryStore| {
            Arc::new(FaultyStore::new(Arc::new(store.clone()), faults.clone())) as Arc<dyn Store>
        };
        let vault = look("vault", stop(&scene.vault), &scene.ring);
        let offsite = look("offsite", stop(&scene.offsite), &scene.ring);
        prepare(&scene).await;
        faults.stop_after(calls);
        let stopped = tokio::select! {
            () = work(scene.clone(), vault, offsite) => false,
            () = faults.stopped() => true,
        };
        check(scene, calls).await;
        if !stopped {
            return;
        }
    }
    panic!("the work never came to its end");
}

/// Damages a shared pack of the vault; the copies are whole.
async fn prepare(scene: &Scene) {
    let pack = scene.at("vault").pack("20261120T010000Z-0000000001/1".to_owned().try_into().unwrap());
    harm(&scene.vault, &pack, Harm::Flip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_cut_off_anywhere_loses_nothing_and_is_done_by_the_next_try() {
    let ended = AtomicUsize::new(0);
    crash_everywhere(
        |scene, vault, offsite| async move {
            let backup = "agama".parse().unwrap();
            let order = Order { damaged: id(1, 1), repair: id(8, 8) };
            let (store, from) = (vault.folder(&backup), offsite.folder(&backup));
            repair::repair(order, &store, &from, &Audience::AsRead, &scene.ring.keys, &scene.clock, &Unseen)
                .await
                .unwrap();
        },
        |scene, calls| {
            ended.fetch_add(1, Ordering::Relaxed);
            async move {
                assert_eq!(scene.restorable("offsite").await.len(), 2, "after {calls} calls");
                if scene.stored("vault").await.artifact(id(1, 1)).is_some() {
                    scene.repair(id(1, 1)).await.unwrap();
                }
                let stored = scene.stored("vault").await;
                let good = stored.good_content(id(1, 1)).expect("repaired").id;
                assert_eq!(scene.restore("vault", good).await.unwrap(), PIECES.concat());
                assert!(stored.artifact(id(1, 1)).is_none(), "after {calls} calls");
            }
        },
    )
    .await;
    assert!(ended.into_inner() > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_cut_off_anywhere_costs_no_other_artifact() {
    crash_everywhere(
        |scene, _, offsite| async move {
            delete::delete(&offsite, &"agama".parse().unwrap(), id(1, 1), &[], &scene.clock).await.unwrap();
        },
        |scene, calls| async move {
            let left = scene.restorable("offsite").await;
            assert!(left.contains(&LATER.concat()), "after {calls} calls");
            if scene.stored("offsite").await.artifact(id(1, 1)).is_some() {
                assert!(left.contains(&PIECES.concat()), "committed and whole, after {calls} calls");
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_cut_off_anywhere_is_whole_or_not_there() {
    crash_everywhere(
        |scene, vault, offsite| async move {
            let backup = "agama".parse().unwrap();
            let third = third(&scene).await;
            let (from, to) = (vault.folder(&backup), offsite.folder(&backup));
            copy::copy(third, &from, &to, &Audience::AsRead, &scene.ring.keys, &scene.clock, &Unseen)
                .await
                .unwrap();
        },
        |scene, calls| async move {
            let there = scene.stored("offsite").await;
            if there.artifact(id(3, 3)).is_some() {
                assert_eq!(scene.restore("offsite", id(3, 3)).await.unwrap(), b"all new\n", "{calls}");
            }
            assert!(there.artifacts.iter().all(|a| a.condition == Condition::Good));
            let left = scene.copy(id(3, 3)).await;
            assert!(left.is_ok(), "the next try succeeds after {calls} calls: {left:?}");
            assert_eq!(scene.restorable("offsite").await.len(), 3);
        },
    )
    .await;
}

/// A further full in the vault, written behind the faults.
async fn third(scene: &Scene) -> ArtifactId {
    if scene.stored("vault").await.artifact(id(3, 3)).is_none() {
        full(&scene.at("vault"), &scene.ring, id(3, 3), &[b"all new\n"]).await;
    }
    id(3, 3)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_cut_off_anywhere_costs_no_artifact_and_is_ended_by_the_next() {
    let day = jiff::Span::new().hours(24);
    crash_everywhere(
        |scene, _, offsite| async move {
            let folder = scene.at("offsite");
            scene.offsite.lose(&folder.manifest(id(1, 1)));
            let records = Records {
                name: offsite.name.clone(),
                store: Arc::new(scene.offsite.clone()),
                fleet: offsite.fleet.clone(),
            };
            let event = Event::Unreferenced { backup: "agama".parse().unwrap(), captures: vec![id(1, 1)] };
            let at = now().checked_sub(day).unwrap();
            records.append(&scene.ring.keys, at, vec![event]).await.unwrap();
            let captures = [id(1, 1)];
            sweep::sweep(&offsite, &"agama".parse().unwrap(), &captures, &scene.clock).await.unwrap();
        },
        |scene, calls| async move {
            let left = scene.restorable("offsite").await;
            assert!(left.contains(&LATER.concat()), "after {calls} calls");
            let captures = [id(1, 1)];
            let backup = "agama".parse().unwrap();
            sweep::sweep(&scene.look("offsite"), &backup, &captures, &scene.clock).await.unwrap();
            let stored = scene.stored("offsite").await;
            assert_eq!(stored.unreferenced.len(), 0, "after {calls} calls");
        },
    )
    .await;
}
