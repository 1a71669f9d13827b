//! What is seen of a store: standing, artifacts, damage, garbage, and what the records remember.

use std::sync::Arc;

use backstay::{
    artifact::{
        ArtifactId, Depth,
        layout::{Holder, ObjectName},
        record::Event,
    },
    committed::{self, BackupFolder},
    inventory::{Condition, Observed, Standing, StoreInventory, StoredArtifact},
    observe::{
        cache::SqliteCache,
        stores::{Look, observe},
    },
    records::Records,
    stores::{
        Store,
        faulty::{Faults, FaultyStore, Health},
        memory::MemoryStore,
    },
};
use jiff::{Span, Timestamp};

use crate::artifacts::{KeyRing, commit, full, id, incremental, look, now};

struct Scene {
    ring: KeyRing,
    store: MemoryStore,
    faults: Faults,
    look: Look,
}

impl Scene {
    fn empty() -> Self {
        let ring = KeyRing::new();
        let store = MemoryStore::new(Arc::new(now));
        let faults = Faults::seeded(1);
        let faulty = Arc::new(FaultyStore::new(Arc::new(store.clone()), faults.clone()));
        let look = look("vault", faulty, &ring);
        Self { ring, store, faults, look }
    }

    /// A full and an incremental.
    async fn filled() -> Self {
        let scene = Self::empty();
        let first = full(&scene.folder(), &scene.ring, id(1, 1), &[b"one", b"two", b"three"]).await;
        incremental(&scene.folder(), &scene.ring, id(2, 2), &first, &[b"one", b"TWO"]).await;
        scene
    }

    fn folder(&self) -> BackupFolder {
        self.look.folder(&"agama".parse().unwrap())
    }

    async fn see(&self) -> StoreInventory {
        match observe(&self.look, now()).await {
            Observed::Known(inventory) => inventory,
            Observed::Unknown(why) => panic!("{why}"),
        }
    }

    async fn artifact(&self, id: ArtifactId) -> StoredArtifact {
        self.see().await.backups["agama"].artifact(id).unwrap().clone()
    }

    async fn record(&self, at: Timestamp, events: Vec<Event>) {
        let (name, store, fleet) = (self.look.name.clone(), self.look.store.clone(), self.look.fleet.clone());
        Records { name, store, fleet }.append(&self.ring.keys, at, events).await.unwrap();
    }

    fn pack(&self, text: &str) -> ObjectName {
        self.folder().pack(text.to_owned().try_into().unwrap())
    }
}

fn hours_ago(hours: i64) -> Timestamp {
    now().checked_sub(Span::new().hours(hours)).unwrap()
}

fn verified(artifact: ArtifactId, depth: Depth, damage: &[&str]) -> Event {
    let damage = damage.iter().map(ToString::to_string).collect();
    Event::Verified { backup: "agama".parse().unwrap(), artifact, depth, damage, packs: Vec::new() }
}

#[tokio::test]
async fn the_inventory_comes_from_the_store_alone_and_the_cache_spares_reads() {
    let mut scene = Scene::filled().await;
    scene.record(hours_ago(2), vec![verified(id(1, 1), Depth::Data, &[])]).await;
    let seen = scene.see().await;
    assert_eq!(seen.standing, Standing::Ours);
    let first = scene.artifact(id(1, 1)).await;
    assert_eq!(
        (first.epoch, first.slot, first.condition.clone()),
        (id(1, 1), Some(id(1, 1).time()), Condition::Good)
    );
    assert_eq!(first.verified.data, Some(hours_ago(2)));
    assert_eq!(scene.artifact(id(2, 2)).await.base, Some(id(1, 1)));
    assert!(first.bytes > scene.artifact(id(2, 2)).await.bytes);

    let before = scene.faults.calls();
    assert_eq!(scene.see().await, seen);
    assert_eq!(scene.faults.calls(), before + 2, "the clock and one listing");

    let dir = tempfile::tempdir().unwrap();
    let open = || SqliteCache::open(&dir.path().join("cache"), &scene.ring.keys.trusted_keys()).unwrap();
    for _ in 0..2 {
        scene.look.cache = Arc::new(open());
        assert_eq!(scene.see().await, seen, "whatever the cache knows");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_unknown_as_a_whole() {
    let scene = Scene::filled().await;
    scene.faults.set_health(Health::Away);
    assert!(matches!(observe(&scene.look, now()).await, Observed::Unknown(_)));
    scene.faults.set_health(Health::Well);
    for call in [backstay::stores::faulty::Call::Get, backstay::stores::faulty::Call::List] {
        scene.faults.next(call, backstay::stores::faulty::Fault::Fail);
        assert!(matches!(observe(&scene.look, now()).await, Observed::Unknown(_)), "{call:?}");
    }
}

#[tokio::test]
async fn a_store_is_refused_where_no_trusted_key_signed_what_it_holds() {
    let scene = Scene::empty();
    assert_eq!(scene.see().await.standing, Standing::Empty);
    backstay::kit::put_restore_page(&scene.store, &scene.look.fleet).await.unwrap();
    let lease = scene.folder().lease(Holder::Writer(id(1, 1)), 0);
    scene.store.overwrite(&lease, b"{}".as_slice().into());
    scene.store.overwrite(&scene.pack("20261120T010000Z-0000000001/0"), b"half".as_slice().into());
    assert_eq!(scene.see().await.standing, Standing::Empty, "a first capture was cut off");
    scene.store.lose(&lease);
    assert!(matches!(scene.see().await.standing, Standing::Refused(_)), "packs of nobody");

    let scene = Scene::empty();
    full(&scene.folder(), &KeyRing::new(), id(1, 1), &[b"one"]).await;
    let seen = scene.see().await;
    assert!(matches!(seen.standing, Standing::Refused(_)));
    assert_eq!(seen.backups["agama"].artifacts.len(), 0);
    assert_eq!(seen.backups["agama"].unreadable.len(), 1);
    scene.record(now(), vec![Event::Adopted { reason: "ours".to_owned() }]).await;
    assert_eq!(scene.see().await.standing, Standing::Ours);

    let scene = Scene::filled().await;
    scene.record(now(), vec![Event::InForce { revision: "1".to_owned(), signer: None }]).await;
    let record = backstay::artifact::layout::record(&scene.look.fleet, 0);
    scene.store.overwrite(&record, b"{}".as_slice().into());
    assert!(matches!(scene.see().await.standing, Standing::Refused(_)));
}

#[tokio::test]
async fn a_manifest_under_another_name_or_altered_is_unreadable_and_hides_all_garbage() {
    let scene = Scene::filled().await;
    let folder = scene.folder();
    for (from, to) in [
        (folder.manifest(id(1, 1)), folder.manifest(id(5, 5))),
        (folder.signature(id(1, 1)), folder.signature(id(5, 5))),
    ] {
        let content = scene.store.get(&from, None, 100_000).await.unwrap();
        scene.store.overwrite(&to, content);
    }
    scene.store.overwrite(&scene.pack("20261120T030000Z-0000000003/0"), b"garbage".as_slice().into());
    let seen = scene.see().await;
    let agama = &seen.backups["agama"];
    assert!(agama.unreadable[&id(5, 5)].contains("it is the manifest of"), "{:?}", agama.unreadable);
    assert_eq!(agama.unreferenced.len(), 0, "the unreadable one may name it");
    scene.store.lose(&folder.manifest(id(5, 5)));
    let seen = scene.see().await;
    let found: Vec<&ArtifactId> = seen.backups["agama"].unreferenced.keys().collect();
    assert_eq!(found, [&id(3, 3), &id(5, 5)], "a pack, and a signature without its manifest");
}

#[tokio::test]
async fn missing_and_short_objects_are_damage_of_all_that_name_them() {
    let scene = Scene::filled().await;
    let shared = scene.pack("20261120T010000Z-0000000001/0");
    let content = scene.store.get(&shared, None, 100_000).await.unwrap();
    scene.store.overwrite(&shared, content.slice(1..));
    for artifact in [id(1, 1), id(2, 2)] {
        let Condition::Damaged(why) = scene.artifact(artifact).await.condition else { panic!("not seen") };
        assert!(why.contains("bytes instead of"), "{why}");
    }
    scene.store.overwrite(&shared, content);
    scene.store.lose(&scene.folder().index(id(2, 2)));
    assert_eq!(scene.artifact(id(1, 1)).await.condition, Condition::Good);
    assert_eq!(scene.artifact(id(2, 2)).await.condition, Condition::Damaged("index is missing".into()));
}

#[tokio::test]
async fn records_remember_checks_holds_deletions_and_candidates() {
    let scene = Scene::filled().await;
    let agama = || "agama".parse().unwrap();
    let garbage = id(3, 3);
    scene.store.overwrite(&scene.pack("20261120T030000Z-0000000003/0"), b"garbage".as_slice().into());
    let events = vec![
        verified(id(1, 1), Depth::Data, &[]),
        verified(id(2, 2), Depth::Data, &["pack 0 is altered"]),
        Event::Held { backup: agama(), artifact: id(1, 1), reason: "audit".to_owned() },
        Event::Held { backup: agama(), artifact: id(2, 2), reason: "audit".to_owned() },
        Event::Unreferenced { backup: agama(), captures: vec![garbage, id(1, 1)] },
        Event::Deleted { backup: agama(), artifact: id(0, 1), reason: "expired".to_owned(), warrant: None },
    ];
    scene.record(hours_ago(30), events.clone()).await;
    scene.record(hours_ago(3), events).await;
    scene
        .record(
            hours_ago(1),
            vec![
                verified(id(2, 2), Depth::Metadata, &[]),
                Event::Released { backup: agama(), artifact: id(2, 2) },
            ],
        )
        .await;
    let (first, second) = (scene.artifact(id(1, 1)).await, scene.artifact(id(2, 2)).await);
    assert_eq!((first.verified.data, first.held.as_deref()), (Some(hours_ago(3)), Some("audit")));
    assert_eq!(second.condition, Condition::Damaged("pack 0 is altered".into()));
    assert_eq!((second.verified.metadata, second.held), (Some(hours_ago(1)), None));
    let seen = scene.see().await;
    let stored = &seen.backups["agama"];
    assert_eq!(stored.deletions, [hours_ago(3)]);
    assert_eq!(stored.candidates.iter().collect::<Vec<_>>(), [(&garbage, &hours_ago(30))]);

    let swept = Event::Swept { backup: agama(), captures: vec![garbage] };
    scene.record(now(), vec![swept, verified(id(2, 2), Depth::Data, &[])]).await;
    assert_eq!(scene.see().await.backups["agama"].candidates.len(), 0);
    assert_eq!(scene.artifact(id(2, 2)).await.condition, Condition::Good);
}

/// A check of the incremental found the pack damaged that it shares with the full.
fn found_in_a_shared_pack(scene: &Scene) -> Event {
    let pack = "20261120T010000Z-0000000001/0".to_owned().try_into().unwrap();
    let damage = vec![format!("{} is altered", scene.pack("20261120T010000Z-0000000001/0"))];
    let (backup, artifact) = ("agama".parse().unwrap(), id(2, 2));
    Event::Verified { backup, artifact, depth: Depth::Data, damage, packs: vec![pack] }
}

#[tokio::test]
async fn a_pack_found_damaged_is_damage_of_all_that_name_it_until_each_is_checked_as_deep() {
    let scene = Scene::filled().await;
    full(&scene.folder(), &scene.ring, id(3, 3), &[b"one"]).await;
    scene.record(hours_ago(3), vec![found_in_a_shared_pack(&scene)]).await;
    let damaged = async || {
        let seen = scene.see().await;
        let damaged = seen.backups["agama"].artifacts.iter().filter(|a| !a.is_good());
        damaged.map(|a| a.id).collect::<Vec<_>>()
    };
    assert_eq!(damaged().await, [id(1, 1), id(2, 2)]);
    let Condition::Damaged(why) = scene.artifact(id(1, 1)).await.condition else { panic!("not seen") };
    assert!(why.contains("20261120T010000Z-0000000001/0") && why.contains(&id(2, 2).to_string()), "{why}");

    // One that comes to name the pack later is damaged as well.
    let first = committed::read(&scene.folder(), id(1, 1), &scene.ring.keys).await.unwrap().manifest;
    incremental(&scene.folder(), &scene.ring, id(4, 4), &first, &[b"two"]).await;
    assert_eq!(damaged().await, [id(1, 1), id(2, 2), id(4, 4)]);

    let all_well = |of, depth| verified(of, depth, &[]);
    scene.record(hours_ago(2), vec![all_well(id(1, 1), Depth::Metadata)]).await;
    assert_eq!(damaged().await, [id(1, 1), id(2, 2), id(4, 4)], "a shallow check sees less");
    scene.record(hours_ago(1), vec![all_well(id(1, 1), Depth::Data)]).await;
    assert_eq!(damaged().await, [id(2, 2), id(4, 4)]);
    scene.record(now(), vec![found_in_a_shared_pack(&scene)]).await;
    assert_eq!(damaged().await, [id(1, 1), id(2, 2), id(4, 4)], "found again");
    scene
        .record(
            now(),
            vec![Event::Repaired { backup: "agama".parse().unwrap(), artifact: id(4, 4), replaces: None }],
        )
        .await;
    assert_eq!(damaged().await, [id(1, 1), id(2, 2)], "only what was repaired");
}

#[tokio::test]
async fn a_record_of_damage_that_names_no_packs_is_still_read() {
    let text = format!(
        r#"{{"verified":{{"backup":"agama","artifact":"{}","depth":"data","damage":["pack 0 is altered"]}}}}"#,
        id(2, 2)
    );
    let scene = Scene::filled().await;
    scene.record(hours_ago(1), vec![serde_json::from_str(&text).unwrap()]).await;
    let why = "pack 0 is altered".into();
    assert_eq!(scene.artifact(id(2, 2)).await.condition, Condition::Damaged(why));
    assert_eq!(scene.artifact(id(1, 1)).await.condition, Condition::Good);
    assert_eq!(
        serde_json::to_string(&verified(id(2, 2), Depth::Data, &["pack 0 is altered"])).unwrap(),
        text
    );
}

#[tokio::test]
async fn a_hold_holds_the_repair_of_what_is_held_and_ends_with_it() {
    let scene = Scene::filled().await;
    let mut repair = committed::read(&scene.folder(), id(1, 1), &scene.ring.keys).await.unwrap().manifest;
    (repair.artifact, repair.supersedes) = (id(4, 4), Some(id(1, 1)));
    commit(&scene.folder(), &scene.ring.keys, &repair).await;
    let held = async || {
        let seen = scene.see().await;
        let held = seen.backups["agama"].artifacts.iter().filter(|a| a.held.is_some());
        held.map(|a| a.id).collect::<Vec<_>>()
    };
    let (backup, reason) = ("agama".parse().unwrap(), "audit".to_owned());
    scene.record(hours_ago(2), vec![Event::Held { backup, artifact: id(1, 1), reason }]).await;
    assert_eq!(held().await, [id(1, 1), id(4, 4)]);
    let backup = "agama".parse().unwrap();
    scene.record(hours_ago(1), vec![Event::Released { backup, artifact: id(1, 1) }]).await;
    assert_eq!(held().await, []);
}

#[tokio::test]
async fn what_a_repair_replaced_is_shown_as_superseded() {
    let scene = Scene::filled().await;
    let mut repair = full(&scene.folder(), &scene.ring, id(4, 4), &[b"one", b"two", b"three"]).await;
    for object in [scene.folder().manifest(id(4, 4)), scene.folder().signature(id(4, 4))] {
        scene.store.lose(&object);
    }
    repair.supersedes = Some(id(1, 1));
    commit(&scene.folder(), &scene.ring.keys, &repair).await;
    let Condition::Damaged(why) = scene.artifact(id(1, 1)).await.condition else { panic!("not seen") };
    assert!(why.contains(&id(4, 4).to_string()), "{why}");
    assert_eq!(scene.artifact(id(4, 4)).await.condition, Condition::Good);
}

#[tokio::test]
async fn a_live_lease_hides_what_its_capture_writes_from_the_sweep() {
    let scene = Scene::filled().await;
    scene.store.overwrite(&scene.pack("20261120T030000Z-0000000003/0"), b"under way".as_slice().into());
    let lease = |until: Timestamp| {
        let text = format!(r#"{{"epoch":"{0}","until":"{until}","controller":"another"}}"#, id(3, 3));
        scene.store.overwrite(&scene.folder().lease(Holder::Writer(id(3, 3)), 0), text.into());
    };
    lease(now().checked_add(Span::new().hours(1)).unwrap());
    assert_eq!(scene.see().await.backups["agama"].unreferenced.len(), 0);
    lease(hours_ago(1));
    assert_eq!(scene.see().await.backups["agama"].unreferenced.len(), 1);
    scene.store.overwrite(&scene.folder().lease(Holder::Writer(id(3, 3)), 0), b"scribble".as_slice().into());
    let seen = scene.see().await;
    let unknown = &seen.backups["agama"].leases[&id(3, 3)];
    assert!(!unknown.is_readable() && unknown.until > now(), "{unknown:?}");
    assert_eq!(seen.backups["agama"].unreferenced.len(), 0);
}

/// A fleet of 1,000 backups with 365 artifacts in each of 2 stores: 730,000 of them.
#[test]
fn artifacts_are_small_in_memory() {
    assert_eq!(size_of::<Option<ArtifactId>>(), size_of::<ArtifactId>());
    assert!(730_000 * size_of::<StoredArtifact>() < 217_000_000, "{}", size_of::<StoredArtifact>());
}
