//! Copies that take long, that are cut off half-way, and that go on where another attempt ended.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use backstay::{
    apply::{
        cleanup::{Cleaned, clean_up},
        copy,
        lease::LeaseError,
        repair::{self, Order},
        rewrite::Audience,
        transfer::TransferError,
    },
    artifact::{Depth, layout::ObjectName},
    clock::Clock,
    committed::BackupFolder,
    inventory::{Standing, Work},
    observe::stores::observe,
    progress::Unseen,
    stores::{
        Store,
        faulty::{Call, Fault, Faults, FaultyStore, Health},
        memory::MemoryStore,
    },
};

use super::{
    JumpingClock, Slowed, Watched, a_step_passes, always_leased, committed, hours, open, time_passes, timed,
};
use crate::{
    artifacts::{id, now},
    restore::{Harm, PIECES, Scene, harm, interrupted},
};

/// The scene without copies, and its second store behind another one.
async fn to(scene: &Scene, store: impl Store + 'static) -> BackupFolder {
    BackupFolder { store: Arc::new(store), ..scene.at("offsite") }
}

async fn copy_into(
    scene: &Scene,
    to: &BackupFolder,
    clock: &dyn Clock,
) -> Result<copy::Copied, TransferError> {
    let from = scene.at("vault");
    copy::copy(id(1, 1), &from, to, &Audience::AsRead, &scene.ring.keys, clock, &Unseen).await
}

fn is_pack(name: &ObjectName) -> bool {
    name.as_str().contains("/packs/")
}

/// Cuts a copy of `id(1, 1)`, of four objects, off at its third; what it left is cleaned up.
async fn cut_off(scene: &Scene) {
    let faults = Faults::seeded(1);
    let slow = FaultyStore::new(Arc::new(scene.offsite.clone()), faults.clone());
    let works = Fault::Delay(Duration::ZERO);
    for fault in [works, works, works, Fault::Fail] {
        faults.next(Call::Put, fault);
    }
    let failed = copy_into(scene, &to(scene, slow).await, &scene.clock).await.unwrap_err();
    assert!(matches!(failed, TransferError::Store(_)), "{failed}");
    let left = interrupted("offsite", id(1, 1), Work::Copy);
    let cleaned = clean_up(&scene.look("offsite"), &left, &scene.clock).await.unwrap();
    assert!(matches!(cleaned, Cleaned::Kept(bytes) if bytes > 0), "{cleaned:?}");
    assert_eq!(committed(&scene.offsite), []);
}

#[tokio::test]
async fn a_copy_of_two_days_keeps_its_lease_and_commits() {
    let (scene, (clock, memory)) = (Scene::captured().await, timed());
    let slow = Slowed { memory: memory.clone(), until: (clock.clone(), hours(48)) };
    let (folder, plain) = (to(&scene, slow).await, to(&scene, memory.clone()).await);
    tokio::select! {
        done = copy_into(&scene, &folder, &*clock) => drop(done.unwrap()),
        () = always_leased(&plain, id(1, 1), &clock, &memory) => unreachable!("it ends never"),
    }
    assert!(clock.now() >= hours(48));
    assert_eq!((committed(&memory).len(), open(&memory).len()), (2, 0));
}

#[tokio::test]
async fn a_copy_that_hangs_ends_with_its_lease() {
    let (scene, (clock, memory), faults) = (Scene::captured().await, timed(), Faults::seeded(1));
    let slow = Slowed { memory: memory.clone(), until: (clock.clone(), hours(48)) };
    let folder = to(&scene, FaultyStore::new(Arc::new(slow), faults.clone())).await;
    let outage = async {
        a_step_passes(&clock).await;
        faults.set_health(Health::Away);
        time_passes(&clock).await;
    };
    let failed = tokio::select! {
        done = copy_into(&scene, &folder, &*clock) => done.unwrap_err(),
        () = outage => unreachable!("it ends never"),
    };
    assert!(matches!(failed, TransferError::Lease(LeaseError::Lapsed { why: Some(_), .. })), "{failed}");
    assert!(clock.now() < hours(2));
    assert_eq!(committed(&memory), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_cut_off_is_taken_up_again_and_carries_only_what_is_missing() {
    let scene = Scene::captured().await;
    cut_off(&scene).await;
    let kept: Vec<ObjectName> = scene.offsite.names().into_iter().filter(is_pack).collect();
    assert!(!kept.is_empty());
    assert_eq!(open(&scene.offsite).len(), 1, "an ended lease shows whose they are");
    let seen = observe(&scene.look("offsite"), now()).await;
    let seen = seen.known().unwrap();
    assert_eq!(seen.standing, Standing::Empty, "the store may be written to");
    let stored = &seen.backups["agama"];
    assert!(stored.leases.values().all(|lease| lease.until <= now()), "it is in nobody's way");
    assert!(stored.unreferenced.contains_key(&id(1, 1)), "a sweep will find them if no attempt comes");

    let puts = Arc::new(Mutex::new(Vec::new()));
    let told = puts.clone();
    let tell = move |call, name: &ObjectName| {
        if call == Call::Put && is_pack(name) {
            told.lock().unwrap().push(name.clone());
        }
    };
    let watched = to(&scene, Watched { memory: scene.offsite.clone(), tell }).await;
    let copied = copy_into(&scene, &watched, &scene.clock).await.unwrap();
    let puts = std::mem::take(&mut *puts.lock().unwrap());
    assert_eq!((kept.len() + puts.len(), copied.objects as usize), (4, puts.len()));
    assert!(puts.iter().all(|name| !kept.contains(name)), "{puts:?}");
    let named = |store: &MemoryStore| {
        let own = id(1, 1).to_string();
        store.names().into_iter().filter(|name| name.as_str().contains(&own)).collect::<Vec<_>>()
    };
    assert_eq!(named(&scene.offsite), named(&scene.vault), "byte for byte, under the same names");
    assert_eq!(scene.restore("offsite", id(1, 1)).await.unwrap(), PIECES.concat());
    assert_eq!(scene.verify("offsite", id(1, 1), Depth::Data).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cut_off_copy_left_and_is_not_right_is_carried_again() {
    for how in [Harm::Flip, Harm::Cut] {
        let scene = Scene::captured().await;
        cut_off(&scene).await;
        for pack in scene.offsite.names().into_iter().filter(is_pack) {
            harm(&scene.offsite, &pack, how).await;
        }
        let surplus = scene.at("offsite").pack(format!("{}/77", id(1, 1)).try_into().unwrap());
        scene.offsite.overwrite(&surplus, "of another attempt".into());
        assert_eq!(
            copy_into(&scene, &scene.at("offsite"), &scene.clock).await.unwrap().objects,
            4,
            "{how:?}"
        );
        assert_eq!(scene.restore("offsite", id(1, 1)).await.unwrap(), PIECES.concat());
        assert_eq!(scene.stored("offsite").await.unreferenced.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_that_another_manifest_names_is_never_replaced_by_a_copy() {
    let scene = Scene::new().await;
    let folder = scene.at("offsite");
    scene.offsite.lose(&folder.manifest(id(1, 1)));
    let pack = folder.pack(format!("{}/0", id(1, 1)).try_into().unwrap());
    harm(&scene.offsite, &pack, Harm::Cut).await;
    let failed = copy_into(&scene, &folder, &scene.clock).await.unwrap_err();
    assert!(matches!(failed, TransferError::Conflict { .. }), "{failed}");
}

/// Moves the clock beyond the term before the put of an object whose name ends in `at`.
fn lapsing(
    memory: &MemoryStore,
    at: &'static str,
) -> (Watched<impl Fn(Call, &ObjectName) + use<>>, Arc<JumpingClock>) {
    let clock = Arc::new(JumpingClock::new(now()));
    let set = clock.clone();
    let tell = move |call, name: &ObjectName| {
        if call == Call::Put && name.as_str().ends_with(at) {
            set.jump();
        }
    };
    (Watched { memory: memory.clone(), tell }, clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_lease_lapsed_commits_nothing_however_late_that_was() {
    for (at, left) in [("/index", 0), (".json.sig", 1)] {
        let scene = Scene::captured().await;
        let (store, clock) = lapsing(&scene.offsite, at);
        let failed = copy_into(&scene, &to(&scene, store).await, clock.as_ref()).await.unwrap_err();
        assert!(matches!(failed, TransferError::Lease(LeaseError::Lapsed { .. })), "{failed}");
        assert_eq!(committed(&scene.offsite).len(), left, "{:?}", committed(&scene.offsite));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_whose_lease_lapsed_commits_nothing_and_deletes_nothing() {
    for at in ["/index", ".json.sig"] {
        let scene = Scene::new().await;
        harm(&scene.vault, &scene.at("vault").index(id(1, 1)), Harm::Flip).await;
        let (store, clock) = lapsing(&scene.vault, at);
        let (store, from) =
            (BackupFolder { store: Arc::new(store), ..scene.at("vault") }, scene.at("offsite"));
        let order = Order { damaged: id(1, 1), repair: id(9, 9) };
        let (audience, keys) = (Audience::AsRead, &scene.ring.keys);
        let repaired = repair::repair(order, &store, &from, &audience, keys, clock.as_ref(), &Unseen).await;
        let failed = repaired.unwrap_err();
        assert!(matches!(failed, TransferError::Lease(LeaseError::Lapsed { .. })), "{failed}");
        let manifests = |id| scene.vault.names().contains(&scene.at("vault").manifest(id));
        assert_eq!((manifests(id(1, 1)), manifests(id(9, 9))), (true, false), "{at}");
    }
}
