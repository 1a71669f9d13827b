//! What the stores remember: which revision is in force, and what they have seen in each other.

use std::{fs, path::Path, process::Command, time::Duration};

use backstay::{
    inventory::Standing,
    reconcile::{
        AdoptError, Ask, Controller, Ending, PassError, Terms,
        desired::{NothingInForce, Obstacle},
    },
};

use super::{Fleet, all_done, apply, approve, pass, steps};

/// A new commit and a pass that makes it true: a record in each store that can be written to.
async fn go_on(fleet: &Fleet, controller: &Controller) {
    fleet.later(Duration::from_secs(2));
    fleet.declare(&format!("{}\n# at {}", fleet.declaration(), backstay::clock::Clock::now(&*fleet.clock)));
    all_done(&pass(controller).await);
}

async fn standing(controller: &Controller, store: &str) -> Standing {
    let survey = controller.survey(&Terms::default()).await.unwrap();
    survey.inventory.stores[store].known().unwrap().standing.clone()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg("--").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Puts an older state of a store in its place, and lets nobody remember the newer one.
fn set_back(fleet: &Fleet, old: &Path, store: &str) {
    let place = fleet.path("stores").join(store);
    fs::remove_dir_all(&place).unwrap();
    fs::rename(old, &place).unwrap();
    fs::remove_dir_all(fleet.path("state")).unwrap();
}

#[tokio::test]
async fn a_store_that_was_set_back_is_refused_until_a_person_adopts_it() {
    let fleet = Fleet::declared();
    let controller = fleet.controller();
    all_done(&pass(&controller).await);
    go_on(&fleet, &controller).await;
    let (vault, old) = (fleet.path("stores/vault"), fleet.path("old"));
    copy(&vault, &old);
    go_on(&fleet, &controller).await;
    go_on(&fleet, &controller).await;
    set_back(&fleet, &old, "vault");

    let controller = fleet.controller();
    let before = fleet.manifests("vault", "infra");
    let refused = pass(&controller).await;
    assert_eq!(refused.ending(), Ending::Partial);
    let Standing::Refused(why) = standing(&controller, "vault").await else { panic!("it is believed") };
    assert!(why.contains("store offsite has seen"), "{why}");
    assert_eq!(standing(&controller, "offsite").await, Standing::Ours);
    assert_eq!(
        fleet.manifests("vault", "infra"),
        before,
        "nothing is written into it: {:?}",
        steps(&refused)
    );

    let told = controller.adopt(&"vault".parse().unwrap(), "the disk was restored").await.unwrap();
    assert_eq!(told, why);
    for _ in 0..2 {
        let adopted = pass(&controller).await;
        all_done(&adopted);
        assert_eq!(adopted.ending(), Ending::Done, "{:?}", adopted.status.conditions);
    }
    assert_eq!(fleet.manifests("vault", "infra").len(), before.len() + 1);
    let again = controller.adopt(&"vault".parse().unwrap(), "once more").await;
    assert!(matches!(again, Err(AdoptError::NotRefused(_))), "{again:?}");
    let nowhere = controller.adopt(&"attic".parse().unwrap(), "a guess").await;
    assert!(matches!(nowhere, Err(AdoptError::Undeclared(_))), "{nowhere:?}");
}

#[tokio::test]
async fn an_empty_store_in_the_place_of_a_lost_one_is_filled_and_never_refused() {
    let fleet = Fleet::declared();
    let controller = fleet.controller();
    all_done(&pass(&controller).await);
    go_on(&fleet, &controller).await;
    fs::remove_dir_all(fleet.path("stores/vault")).unwrap();
    fs::create_dir(fleet.path("stores/vault")).unwrap();
    let controller = fleet.controller();
    for _ in 0..2 {
        let filled = pass(&controller).await;
        all_done(&filled);
        assert_eq!(filled.ending(), Ending::Done, "{:?}", filled.status.conditions);
        go_on(&fleet, &controller).await;
    }
    assert_eq!(fleet.manifests("vault", "shop"), fleet.manifests("offsite", "shop"));
    assert_eq!(standing(&fleet.controller(), "vault").await, Standing::Ours);
}

#[tokio::test]
async fn a_store_that_was_away_is_told_which_revision_is_in_force() {
    let fleet = Fleet::declared();
    let controller = fleet.controller();
    all_done(&pass(&controller).await);
    let (offsite, away) = (fleet.path("stores/offsite"), fleet.path("away"));
    fs::rename(&offsite, &away).unwrap();
    fleet.later(Duration::from_secs(2));
    fleet.declare(&format!("{}\n# a change", fleet.declaration()));
    pass(&controller).await;
    fs::rename(&away, &offsite).unwrap();
    let back = pass(&controller).await;
    all_done(&back);
    assert_eq!(back.ending(), Ending::Done, "{:?}", back.status.conditions);
    let survey = controller.survey(&Terms::default()).await.unwrap();
    for store in ["vault", "offsite"] {
        let known = survey.inventory.stores[store].known().unwrap().records.in_force().unwrap();
        assert_eq!(known.revision, fleet.repo.id("HEAD"), "{store}");
    }
}

#[tokio::test]
async fn a_rewritten_branch_is_held_even_where_only_the_stores_remember_what_was_in_force() {
    let fleet = Fleet::declared();
    let old = fleet.repo.id("HEAD");
    all_done(&fleet.pass().await);
    fleet.repo.git(&["checkout", "-q", "--orphan", "other"]);
    fleet.declare(&format!("{}\n# rewritten", fleet.declaration()));
    fleet.repo.git(&["branch", "-q", "-M", "other", "main"]);
    let new = fleet.repo.id("HEAD");
    fs::remove_dir_all(fleet.path("state")).unwrap();

    let held = apply(&fleet.controller(), &Ask::Everything).await.unwrap_err();
    match &held {
        PassError::NothingInForce(NothingInForce::NoneGood(Obstacle::Rewritten {
            revision, from, ..
        })) => {
            assert_eq!((revision, from), (&new, &old));
        }
        other => panic!("{other}"),
    }
    assert!(held.to_string().contains(&format!("backstay approve {new}")), "{held}");

    approve(&fleet.controller(), &new).await;
    let accepted = fleet.pass().await;
    assert_eq!(accepted.revision.id, new);
    fs::remove_dir_all(fleet.path("state")).unwrap();
    assert_eq!(fleet.pass().await.revision.id, new);
}
