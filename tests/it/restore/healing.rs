//! Repairs: every kind of damage to every object is found, and healed from the copy.

use super::*;

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
