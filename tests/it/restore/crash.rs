//! Work that is cut off after every call to a store loses nothing, and the next try ends it.

use super::*;

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
