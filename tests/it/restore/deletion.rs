//! Deletions and sweeps: what nothing names goes, and nothing else.

use super::*;

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
