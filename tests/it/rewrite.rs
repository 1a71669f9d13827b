//! Copies in a store whose recipients are others than those of the captures, with a crash after every call to a store, and
//! with the real `age`.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use age::secrecy::ExposeSecret;
use backstay::{
    apply::{
        copy,
        repair::{self, Order},
        rewrite::Audience,
        segment::Recipients,
        transfer::{Copied, TransferError},
        verify,
    },
    artifact::{ArtifactId, Depth, Manifest, index::Index, layout::ObjectName},
    committed::{self, BackupFolder, same_capture},
    keys::Keys,
    progress::Unseen,
    stores::{
        Store,
        faulty::{Faults, FaultyStore},
        memory::MemoryStore,
    },
};

use crate::{
    artifacts::{id, look, segments},
    restore::{Harm, LATER, Memory, PIECES, Scene, harm, restore_into},
};

/// A vault for the fleet, and an offsite store for somebody else.
struct Estranged {
    scene: Scene,
    /// The recipients of the offsite store.
    others: Recipients,
    /// The offsite store's identity alone, and with the fleet's.
    theirs: PathBuf,
    both: PathBuf,
}

impl Estranged {
    async fn new() -> Self {
        let scene = Scene::captured().await;
        let identity = age::x25519::Identity::generate();
        let others = Recipients::parse([identity.to_public().to_string().as_str()]).unwrap();
        let secret = identity.to_string().expose_secret().to_owned();
        let ours = fs::read_to_string(&scene.ring.identity_file).unwrap();
        let write = |name: &str, text: String| {
            let path = scene.ring.dir.path().join(name);
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            path
        };
        let theirs = write("theirs.txt", format!("{secret}\n"));
        let both = write("both.txt", format!("{ours}\n{secret}\n"));
        Self { scene, others, theirs, both }
    }

    async fn copied() -> Self {
        let estranged = Self::new().await;
        for artifact in [id(1, 1), id(2, 2)] {
            estranged.copy(artifact).await.unwrap();
        }
        estranged
    }

    /// The controller's keys with the identities of one of the files.
    fn keys(&self, identities: &Path) -> Arc<Keys> {
        let dir = self.scene.ring.dir.path().join("keys");
        Arc::new(Keys::load_or_create(&dir, &[], Some(identities)).unwrap())
    }

    fn audience(&self) -> Audience {
        Audience::Only(self.others.clone())
    }

    async fn copy(&self, artifact: ArtifactId) -> Result<Copied, TransferError> {
        self.copy_between(artifact, &self.scene.at("vault"), &self.scene.at("offsite")).await
    }

    async fn copy_between(
        &self,
        artifact: ArtifactId,
        from: &BackupFolder,
        to: &BackupFolder,
    ) -> Result<Copied, TransferError> {
        let (keys, clock) = (&self.scene.ring.keys, &self.scene.clock);
        copy::copy(artifact, from, to, &self.audience(), keys, clock, &Unseen).await
    }

    async fn repair(
        &self,
        artifact: ArtifactId,
        (store, from): (&str, &str),
        audience: &Audience,
        keys: &Keys,
    ) -> Result<repair::Repaired, TransferError> {
        let order = Order { damaged: artifact, repair: id(9, 9) };
        let (store, from) = (self.scene.at(store), self.scene.at(from));
        repair::repair(order, &store, &from, audience, keys, &self.scene.clock, &Unseen).await
    }

    async fn manifest(&self, store: &str, artifact: ArtifactId) -> Manifest {
        committed::read(&self.scene.at(store), artifact, &self.scene.ring.keys).await.unwrap().manifest
    }

    /// What an artifact of a store restores to, with the identities of a file.
    async fn restore(&self, store: &str, artifact: ArtifactId, with: &Path) -> Result<Vec<u8>, String> {
        let source = Memory::default();
        restore_into(&source, &self.scene.at(store), artifact, &self.keys(with)).await?;
        Ok(source.restored.into_inner().unwrap())
    }

    async fn verify(&self, store: &str, artifact: ArtifactId) -> Vec<String> {
        let keys = self.keys(&self.both);
        let found = verify::verify(&self.scene.at(store), artifact, Depth::Plaintext, &keys, &Unseen).await;
        found.unwrap().iter().map(ToString::to_string).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_for_others_is_read_with_their_identity_only_and_is_the_same_capture() {
    let estranged = Estranged::copied().await;
    for (artifact, content) in [(id(1, 1), PIECES.concat()), (id(2, 2), LATER.concat())] {
        let restored = estranged.restore("offsite", artifact, &estranged.theirs).await;
        assert_eq!(restored.unwrap(), content);
        let told = estranged.restore("offsite", artifact, &estranged.scene.ring.identity_file).await;
        assert!(
            told.clone().is_err_and(|told| told.contains("none of this controller's identities")),
            "{told:?}"
        );
        assert_eq!(estranged.verify("offsite", artifact).await, Vec::<String>::new());
        let (here, there) =
            (estranged.manifest("vault", artifact).await, estranged.manifest("offsite", artifact).await);
        assert!(same_capture(&here, &there));
        assert_eq!(there.recipients, estranged.others.to_texts());
        assert_ne!(here.sealed, there.sealed);
    }
    assert_eq!(estranged.copy(id(2, 2)).await.unwrap(), Copied::default(), "it is there");
    assert!(!same_capture(
        &estranged.manifest("vault", id(1, 1)).await,
        &estranged.manifest("offsite", id(2, 2)).await
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_of_an_incremental_shares_what_the_copy_of_its_base_holds() {
    let estranged = Estranged::copied().await;
    let packs = |manifest: &Manifest| {
        let own = segments(manifest).packs.keys().filter(|pack| pack.artifact == manifest.artifact).count();
        (own, segments(manifest).packs.len())
    };
    for store in ["vault", "offsite"] {
        assert_eq!(packs(&estranged.manifest(store, id(2, 2)).await), (1, 4), "{store}");
        assert_eq!(packs(&estranged.manifest(store, id(1, 1)).await), (3, 3), "{store}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_base_to_share_with_the_copy_of_an_incremental_stands_alone() {
    let estranged = Estranged::new().await;
    estranged.copy(id(2, 2)).await.unwrap();
    let copy = estranged.manifest("offsite", id(2, 2)).await;
    assert!(segments(&copy).packs.keys().all(|pack| pack.artifact == id(2, 2)));
    assert_eq!(estranged.restore("offsite", id(2, 2), &estranged.theirs).await.unwrap(), LATER.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_incremental_would_share_and_is_damaged_is_written_anew() {
    let estranged = Estranged::new().await;
    estranged.copy(id(1, 1)).await.unwrap();
    let folder = estranged.scene.at("offsite");
    let first = *segments(&estranged.manifest("offsite", id(1, 1)).await).packs.keys().next().unwrap();
    estranged.scene.offsite.lose(&folder.pack(first));
    estranged.copy(id(2, 2)).await.unwrap();
    assert_eq!(estranged.restore("offsite", id(2, 2), &estranged.theirs).await.unwrap(), LATER.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_identity_that_reads_the_original_nothing_is_written() {
    let estranged = Estranged::new().await;
    let (from, to) = (estranged.scene.at("vault"), estranged.scene.at("offsite"));
    for keys in [estranged.scene.ring.without_identity(), estranged.keys(&estranged.theirs)] {
        let clock = &estranged.scene.clock;
        let told = copy::copy(id(1, 1), &from, &to, &estranged.audience(), &keys, clock, &Unseen).await;
        let told = told.unwrap_err();
        assert!(matches!(told, TransferError::NotReadable { .. }), "{told:?}");
        let original = estranged.scene.ring.recipients.to_texts();
        assert!(
            told.to_string().contains(&original[0]) && told.to_string().contains("keys.identity"),
            "{told}"
        );
    }
    assert_eq!(estranged.scene.offsite.names(), Vec::<ObjectName>::new());
}

/// The recipients of a store can change while it holds copies for earlier ones: names of packs are taken then.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_packs_have_taken_names_is_written_under_others() {
    let estranged = Estranged::new().await;
    estranged.copy(id(1, 1)).await.unwrap();
    let keys = &estranged.scene.ring.keys;
    let (from, to) = (estranged.scene.at("vault"), estranged.scene.at("offsite"));
    copy::copy(id(2, 2), &from, &to, &Audience::AsRead, keys, &estranged.scene.clock, &Unseen).await.unwrap();
    let ours = &estranged.scene.ring.identity_file;
    assert_eq!(estranged.restore("offsite", id(2, 2), ours).await.unwrap(), LATER.concat());
    assert_eq!(estranged.restore("offsite", id(1, 1), &estranged.theirs).await.unwrap(), PIECES.concat());
    assert_eq!(estranged.verify("offsite", id(2, 2)).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_heals_between_copies_for_different_recipients_in_both_directions() {
    let count = Estranged::copied().await.scene.offsite.names().len();
    assert_eq!(count, 10, "three packs and one, an index, a manifest and a signature each");
    for (store, from) in [("offsite", "vault"), ("vault", "offsite")] {
        for number in 0..count {
            let estranged = Estranged::copied().await;
            let damaged = if store == "vault" { &estranged.scene.vault } else { &estranged.scene.offsite };
            let object = damaged.names()[number].clone();
            let case = format!("{object} of {store}");
            harm(damaged, &object, Harm::Flip).await;
            let artifact = if object.as_str().contains(&id(1, 1).to_string()) { id(1, 1) } else { id(2, 2) };
            assert_ne!(estranged.verify(store, artifact).await, Vec::<String>::new(), "{case}");

            let fleets = Audience::Only(estranged.scene.ring.recipients.clone());
            let (audience, identity) = match store {
                "vault" => (fleets, &estranged.scene.ring.identity_file),
                _ => (estranged.audience(), &estranged.theirs),
            };
            let keys = estranged.keys(&estranged.both);
            let repaired = estranged.repair(artifact, (store, from), &audience, &keys).await.unwrap();
            let content = if artifact == id(1, 1) { PIECES.concat() } else { LATER.concat() };
            assert_eq!(
                estranged.restore(store, repaired.artifact, identity).await.unwrap(),
                content,
                "{case}"
            );
            assert_eq!(estranged.verify(store, repaired.artifact).await, Vec::<String>::new(), "{case}");
            assert!(repaired.packs <= 1, "{case}: only what is damaged is written: {repaired:?}");
            assert_eq!(estranged.scene.stored(store).await.unreadable.len(), 0, "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_from_a_copy_that_cannot_be_read_writes_and_deletes_nothing() {
    let estranged = Estranged::copied().await;
    let before = estranged.scene.vault.names();
    let fleets = Audience::Only(estranged.scene.ring.recipients.clone());
    let keys = &estranged.scene.ring.keys;
    let told = estranged.repair(id(1, 1), ("vault", "offsite"), &fleets, keys).await;
    assert!(matches!(told, Err(TransferError::NotReadable { .. })), "{told:?}");
    assert_eq!(estranged.scene.vault.names(), before);
}

/// Stops the stores after every number of calls, and then tries again with stores that work.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_for_others_cut_off_anywhere_is_whole_or_not_there_and_the_next_try_ends_it() {
    for calls in 0..500 {
        let estranged = Estranged::new().await;
        estranged.copy(id(1, 1)).await.unwrap();
        let faults = Faults::seeded(calls);
        let folder = |name: &str, store: &MemoryStore| {
            let store: Arc<dyn Store> = Arc::new(FaultyStore::new(Arc::new(store.clone()), faults.clone()));
            look(name, store, &estranged.scene.ring).folder(&"agama".parse().unwrap())
        };
        let from = folder("vault", &estranged.scene.vault);
        let to = folder("offsite", &estranged.scene.offsite);
        faults.stop_after(calls);
        let stopped = tokio::select! {
            copied = estranged.copy_between(id(2, 2), &from, &to) => { copied.unwrap(); false }
            () = faults.stopped() => true,
        };
        let committed = estranged.scene.stored("offsite").await.artifact(id(2, 2)).is_some();
        if committed {
            assert_eq!(
                estranged.verify("offsite", id(2, 2)).await,
                Vec::<String>::new(),
                "after {calls} calls"
            );
        }
        estranged.copy(id(2, 2)).await.unwrap_or_else(|e| panic!("after {calls} calls: {e}"));
        for (artifact, content) in [(id(1, 1), PIECES.concat()), (id(2, 2), LATER.concat())] {
            let restored = estranged.restore("offsite", artifact, &estranged.theirs).await;
            assert_eq!(restored.unwrap(), content, "after {calls} calls");
        }
        if !stopped {
            assert!(calls > 10);
            return;
        }
    }
    panic!("the copy never came to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_for_others_cut_off_anywhere_loses_nothing_and_the_next_try_ends_it() {
    for calls in 0..500 {
        let estranged = Estranged::copied().await;
        let pack = *segments(&estranged.manifest("offsite", id(1, 1)).await).packs.keys().nth(1).unwrap();
        harm(&estranged.scene.offsite, &estranged.scene.at("offsite").pack(pack), Harm::Flip).await;
        let faults = Faults::seeded(calls);
        let folder = |name: &str, store: &MemoryStore| {
            let store: Arc<dyn Store> = Arc::new(FaultyStore::new(Arc::new(store.clone()), faults.clone()));
            look(name, store, &estranged.scene.ring).folder(&"agama".parse().unwrap())
        };
        let store = folder("offsite", &estranged.scene.offsite);
        let from = folder("vault", &estranged.scene.vault);
        let order = Order { damaged: id(1, 1), repair: id(9, 9) };
        let (audience, keys) = (estranged.audience(), &estranged.scene.ring.keys);
        faults.stop_after(calls);
        let stopped = tokio::select! {
            repaired = repair::repair(order, &store, &from, &audience, keys, &estranged.scene.clock, &Unseen) => {
                repaired.unwrap();
                false
            }
            () = faults.stopped() => true,
        };
        let after = estranged.scene.stored("offsite").await;
        if after.artifact(id(1, 1)).is_some() {
            let again = estranged.repair(id(1, 1), ("offsite", "vault"), &audience, keys).await;
            again.unwrap_or_else(|e| panic!("after {calls} calls: {e}"));
        }
        let stored = estranged.scene.stored("offsite").await;
        let good = stored.good_content(id(1, 1)).expect("repaired").id;
        let restored = estranged.restore("offsite", good, &estranged.theirs).await;
        assert_eq!(restored.unwrap(), PIECES.concat(), "after {calls} calls");
        if !stopped {
            return;
        }
    }
    panic!("the repair never came to its end");
}

/// The real `age` and `zstd` read a copy with the other identity, and not with the fleet's.
#[tokio::test(flavor = "multi_thread")]
async fn age_reads_the_segments_of_a_copy_with_the_identity_of_its_store() {
    let estranged = Estranged::copied().await;
    let folder = estranged.scene.at("offsite");
    let index = folder.store.get(&folder.index(id(2, 2)), None, 1 << 20).await.unwrap();
    let mut restored = Vec::new();
    for segment in Index::parse(&index).unwrap().segments {
        let (pack, range) = (folder.pack(segment.extent.pack), segment.extent.range());
        let sealed = folder.store.get(&pack, Some(range), 1 << 20).await.unwrap();
        let file = estranged.scene.ring.dir.path().join("segment.age");
        fs::write(&file, sealed).unwrap();
        let age = |identity: &Path| {
            Command::new("age").arg("-d").arg("-i").arg(identity).arg(&file).output().unwrap()
        };
        let compressed = age(&estranged.theirs);
        assert!(compressed.status.success(), "{}", String::from_utf8_lossy(&compressed.stderr));
        assert!(!age(&estranged.scene.ring.identity_file).status.success());
        fs::write(&file, compressed.stdout).unwrap();
        let plain = Command::new("zstd").arg("-dc").arg(&file).output().unwrap();
        assert!(plain.status.success());
        restored.extend(plain.stdout);
    }
    assert_eq!(restored, LATER.concat());
}
