//! What is read is not deleted, for as long as it is read; and reading goes on where no lease can be put.

use std::{collections::BTreeSet, sync::Arc};

use backstay::{
    apply::{
        cleanup::{Cleaned, clean_up},
        delete::{self, DeleteError},
        lease::{Reading, TERM},
        sweep::{self, SweepError},
    },
    artifact::{ArtifactId, Kind, layout::Holder},
    clock::{Clock, ManualClock},
    inventory::{self, Work},
    plan::Action,
    stores::{
        faulty::{Faults, FaultyStore, Health},
        memory::MemoryStore,
    },
};
use jiff::SignedDuration;

use super::{always_read, hours, open, time_passes, timed};
use crate::{
    artifacts::{KeyRing, full, id, incremental, look, now},
    restore::{LATER, PIECES, Scene, interrupted},
    world::{self, *},
};

/// A full and an incremental in a store whose clock is the controller's.
async fn scene() -> (Scene, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(now()));
    let tells = clock.clone();
    let scene = Scene {
        ring: KeyRing::new(),
        vault: MemoryStore::new(Arc::new(move || tells.now())),
        offsite: MemoryStore::new(Arc::new(now)),
        clock: ManualClock::new(now()),
    };
    let first = full(&scene.at("vault"), &scene.ring, id(1, 1), &PIECES).await;
    incremental(&scene.at("vault"), &scene.ring, id(2, 2), &first, &LATER).await;
    (scene, clock)
}

async fn delete(
    scene: &Scene,
    artifact: ArtifactId,
    clock: &dyn Clock,
) -> Result<delete::Deleted, DeleteError> {
    delete::delete(&scene.look("vault"), &"agama".parse().unwrap(), artifact, &[], clock).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_not_deleted_and_what_is_not_read_is() {
    let (scene, clock) = scene().await;
    let folder = scene.at("vault");
    let read = BTreeSet::from([id(2, 2)]);
    let reading = Reading::begin(&folder, id(5, 5), read, &scene.ring.keys, clock.as_ref()).await;
    let refused = delete(&scene, id(2, 2), clock.as_ref()).await.unwrap_err();
    assert!(matches!(&refused, DeleteError::Needed { reason, .. } if reason.contains("read-")), "{refused}");
    assert_eq!(delete(&scene, id(1, 1), clock.as_ref()).await.unwrap().left, None);
    assert_eq!(scene.restore("vault", id(2, 2)).await.unwrap(), LATER.concat());

    assert_eq!(reading.end().await, None);
    assert_eq!(open(&scene.vault), []);
    assert_eq!(delete(&scene, id(2, 2), clock.as_ref()).await.unwrap().left, None);
    assert_eq!(scene.vault.names(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_stay_when_a_reader_comes_while_its_artifact_is_being_deleted() {
    let (scene, clock) = scene().await;
    let folder = scene.at("vault");
    // As if another controller had looked for leases just before, and deletes the manifest just after.
    let read = BTreeSet::from([id(1, 1)]);
    let reading = Reading::begin(&folder, id(5, 5), read, &scene.ring.keys, clock.as_ref()).await;
    for name in [folder.manifest(id(1, 1)), folder.manifest(id(2, 2))] {
        scene.vault.lose(&name);
    }
    let packs = |scene: &Scene| {
        let names = scene.vault.names().into_iter();
        names.filter(|name| name.as_str().contains("/packs/")).collect::<Vec<_>>()
    };
    let before = packs(&scene);
    let left = interrupted("vault", id(2, 2), Work::Capture);
    let cleaned = clean_up(&scene.look("vault"), &left, clock.as_ref()).await.unwrap();
    assert!(matches!(cleaned, Cleaned::Left(why) if why.contains("read-")));
    let captures = [id(1, 1), id(2, 2)];
    let look = scene.look("vault");
    let swept = sweep::sweep(&look, &"agama".parse().unwrap(), &captures, clock.as_ref()).await;
    assert!(matches!(swept, Err(SweepError::Withheld { .. })), "{swept:?}");
    assert_eq!(packs(&scene), before);
    reading.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_reader_that_died_lapses_within_the_term_and_goes_with_the_next_deletion() {
    let (scene, clock) = scene().await;
    let folder = scene.at("vault");
    let read = BTreeSet::from([id(1, 1), id(2, 2)]);
    drop(Reading::begin(&folder, id(5, 5), read, &scene.ring.keys, clock.as_ref()).await);
    clock.set(now() + SignedDuration::try_from(TERM).unwrap() - SignedDuration::from_secs(1));
    assert!(delete(&scene, id(2, 2), clock.as_ref()).await.is_err());
    clock.set(now() + SignedDuration::try_from(TERM).unwrap());
    assert_eq!(delete(&scene, id(2, 2), clock.as_ref()).await.unwrap().left, None);
    assert_eq!(open(&scene.vault), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_reader_that_was_cut_off_is_removed_and_no_other() {
    let (scene, clock) = scene().await;
    let folder = scene.at("vault");
    for reader in [id(5, 5), id(6, 6)] {
        let read = BTreeSet::from([id(1, 1)]);
        drop(Reading::begin(&folder, reader, read, &scene.ring.keys, clock.as_ref()).await);
    }
    let left = interrupted("vault", id(5, 5), Work::Reading);
    clean_up(&scene.look("vault"), &left, clock.as_ref()).await.unwrap();
    assert_eq!(open(&scene.vault), [folder.lease(Holder::Reader(id(6, 6)), 0)]);
}

#[tokio::test]
async fn a_reader_of_two_days_keeps_its_lease() {
    let (ring, (clock, store)) = (KeyRing::new(), timed());
    let folder = look("vault", Arc::new(store.clone()), &ring).folder(&"agama".parse().unwrap());
    let reading = Reading::begin(&folder, id(5, 5), BTreeSet::from([id(1, 1)]), &ring.keys, &*clock).await;
    tokio::select! {
        () = reading.during(&*clock, clock.until(hours(48))) => {}
        () = always_read(&folder, id(5, 5), &clock) => unreachable!("it ends never"),
    }
    assert_eq!((reading.end().await, open(&store)), (None, vec![]));
}

#[tokio::test]
async fn where_no_lease_can_be_put_reading_goes_on_and_says_so() {
    for health in [Health::ReadOnly, Health::Full, Health::Away] {
        let (ring, (clock, memory), faults) = (KeyRing::new(), timed(), Faults::seeded(1));
        let store = FaultyStore::new(Arc::new(memory.clone()), faults.clone());
        let folder = look("vault", Arc::new(store), &ring).folder(&"agama".parse().unwrap());
        faults.set_health(health);
        let read = BTreeSet::from([id(1, 1)]);
        let reading = Reading::begin(&folder, id(5, 5), read, &ring.keys, &*clock).await;
        let calls = faults.calls();
        tokio::select! {
            () = reading.during(&*clock, clock.until(hours(10))) => {}
            () = time_passes(&clock) => unreachable!("it ends never"),
        }
        assert!(faults.calls() - calls < 100, "a store that takes nothing is not asked again and again");
        assert!(reading.end().await.is_some(), "{health:?}");
    }
}

#[test]
fn retention_waits_for_a_restore_and_goes_on_after_it() {
    let mut world = World::new(&["a"]).declare("agama", nightly());
    world.put(&["a"], "agama", &world::artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 1));
    let old = world::artifact(Kind::Full, ago(world.now, 24 * 20), 2);
    world.put(&["a"], "agama", &old);
    let deletes = |world: &World| {
        let plan = world.plan();
        plan.steps.iter().any(|step| matches!(step.action, Action::Delete { .. }))
    };
    assert!(deletes(&world));
    let reader = ArtifactId::new(world.now, 79);
    let now = world.now;
    let mut beside = |reading| {
        world.stored("a", "agama").readings.insert(reader, reading);
        deletes(&world)
    };
    let of = |artifact, until| inventory::Reading {
        artifacts: BTreeSet::from([artifact]),
        until,
        controller: "another".to_owned(),
    };
    let until = t("2027-01-01T00:00:00Z");
    assert!(!beside(of(old.id, until)));
    assert!(beside(of(reader, until)), "another artifact is read");
    assert!(beside(of(old.id, t("2026-01-01T00:00:00Z"))), "it has lapsed");
    assert!(!beside(inventory::Reading::unreadable(now)), "one that cannot be read may be of anything");
    assert!(beside(inventory::Reading::unreadable(ago(now, 24))), "for a day");
}
