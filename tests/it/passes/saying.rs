//! What a person says on the host: kept in the stores, obeyed by the next pass, also of a process that had looked before.

use std::time::Duration;

use backstay::{
    artifact::ArtifactId,
    reconcile::{SayError, Saying},
    spec::{Suspension, suspension::Scope},
};
use jiff::{SignedDuration, Timestamp};

use super::{Fleet, all_done, pass, steps};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn suspension(backup: &str, until: Timestamp) -> Suspension {
    Suspension {
        scope: Scope::Backup(backup.parse().unwrap()),
        from: None,
        until,
        reason: "new hardware".to_owned(),
    }
}

fn id(manifest: &str) -> ArtifactId {
    manifest.trim_end_matches(".json").parse().unwrap()
}

#[tokio::test]
async fn a_suspension_by_a_persons_word_outlives_the_state_directory_and_is_resumed() {
    let fleet = Fleet::declared();
    let controller = fleet.controller();
    all_done(&pass(&controller).await);
    let shop = || Scope::Backup("shop".parse().unwrap());
    let until = fleet.clock_now() + SignedDuration::from_hours(72);
    let recorded = fleet.controller().say(Saying::Suspend(suspension("shop", until))).await.unwrap();
    assert_eq!((recorded.stores.len(), recorded.faults), (2, Vec::new()));

    fleet.later(2 * DAY);
    let obeyed = steps(&pass(&controller).await);
    assert!(!obeyed.iter().any(|step| step.contains("shop")), "{obeyed:?}");
    std::fs::remove_dir_all(fleet.path("state")).unwrap();
    let held = fleet.pass().await;
    assert!(steps(&held).iter().all(|step| !step.contains("shop") || step.starts_with("arm ")), "{held:?}");
    assert_eq!(held.status.suspensions.len(), 1);

    fleet.controller().say(Saying::Resume(shop())).await.unwrap();
    let resumed = fleet.pass().await;
    all_done(&resumed);
    assert_eq!(fleet.manifests("vault", "shop").len(), 2, "{:?}", steps(&resumed));
    let again = fleet.controller().say(Saying::Resume(shop())).await;
    assert!(matches!(again, Err(SayError::NotSuspended(_))), "{again:?}");
}

#[tokio::test]
async fn what_is_not_there_or_over_can_not_be_suspended_and_what_the_repo_suspends_not_resumed() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    let say = async |saying| fleet.controller().say(saying).await;
    let (now, tomorrow) = (fleet.clock_now(), fleet.clock_now() + SignedDuration::from_hours(24));
    assert!(matches!(say(Saying::Suspend(suspension("shop", now))).await, Err(SayError::Over(_))));
    assert!(matches!(say(Saying::Suspend(suspension("shed", tomorrow))).await, Err(SayError::NoSuch(_))));
    fleet.declare(&format!(
        "{}\n[suspend.pause]\nbackup = \"shop\"\nuntil = \"{tomorrow}\"\nreason = \"by commit\"\n",
        fleet.declaration()
    ));
    let resumed = say(Saying::Resume(Scope::Backup("shop".parse().unwrap()))).await;
    assert!(matches!(&resumed, Err(SayError::Declared { name, .. }) if name == "pause"), "{resumed:?}");
}

#[tokio::test]
async fn an_artifact_is_held_in_every_store_that_has_it_until_it_is_released() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    let first = fleet.manifests("vault", "shop")[0].clone();
    let say = async |saying| fleet.controller().say(saying).await;
    assert!(matches!(say(Saying::Release(id(&first))).await, Err(SayError::NotHeld(_))));
    let held = say(Saying::Hold(id(&first), "evidence".to_owned())).await.unwrap();
    assert_eq!(held.stores.len(), 2);
    let strange = ArtifactId::new(fleet.clock_now(), 99);
    assert!(matches!(say(Saying::Hold(strange, String::new())).await, Err(SayError::NoArtifact(_))));

    // That the retention spares what is held, planning and the judge try.
    assert_eq!(held_in(&fleet).await, [id(&first); 2]);
    std::fs::remove_dir_all(fleet.path("state")).unwrap();
    assert_eq!(held_in(&fleet).await, [id(&first); 2], "the stores remember");
    say(Saying::Release(id(&first))).await.unwrap();
    assert_eq!(held_in(&fleet).await, []);
}

/// What is held in the stores, as the next pass sees it.
async fn held_in(fleet: &Fleet) -> Vec<ArtifactId> {
    let pass = fleet.pass().await;
    let shop = &pass.status.backups["shop"];
    shop.stores.values().flat_map(|stored| stored.held.clone()).collect()
}
