//! Restores and the leases of what they read.

use std::fs;

use backstay::{apply::executor::Outcome, plan::action::Destination};

use super::{
    objects_below,
    undeclared::{forgotten, restore},
};

fn note(outcome: Outcome) -> String {
    match outcome {
        Outcome::Done(done) => done.note.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_restore_leaves_no_lease_and_goes_on_where_none_can_be_put_and_says_so() {
    let (fleet, controller) = forgotten().await;
    let folders =
        ["vault", "offsite"].map(|store| fleet.path("stores").join(store).join("pavroto/shop/open"));
    let told = note(restore(&controller, "shop", Destination::File(fleet.path("first.db"))).await);
    assert!(!told.contains("warning"), "{told}");
    assert!(folders.iter().all(|open| !open.exists() || objects_below(open).is_empty()));

    for open in &folders {
        let _ = fs::remove_dir(open);
        fs::write(open, "in the way").unwrap();
    }
    let second = fleet.path("second.db");
    let told = note(restore(&controller, "shop", Destination::File(second.clone())).await);
    assert!(told.contains("warning: nothing kept others from deleting"), "{told}");
    assert_eq!(fs::read(second).unwrap(), fs::read(fleet.path("first.db")).unwrap());
}
