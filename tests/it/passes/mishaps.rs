//! Stores that vanish while they are written to.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Once},
    time::Duration,
};

use backstay::{
    apply::executor::{Failure, Halt, Listener, Outcome},
    plan::{Action, Step},
    progress::{Progress, Unseen},
    reconcile::{Ask, Ending, Pass, Terms},
};

use super::{Fleet, all_done, objects_below};

/// Takes a store away as soon as the first bytes of a step have passed.
struct Vanish {
    step: fn(&Action) -> bool,
    away: Arc<Away>,
}

struct Away {
    store: PathBuf,
    aside: PathBuf,
    gone: Once,
}

impl Progress for Away {
    fn read(&self, _: u64) {
        self.gone.call_once(|| fs::rename(&self.store, &self.aside).unwrap());
    }
    fn written(&self, _: u64) {}
}

impl Listener for Vanish {
    fn started(&self, _: &Step) {}
    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}
    fn ended(&self, _: &Step, _: &Outcome) {}
    fn progress(&self, step: &Step) -> Arc<dyn Progress> {
        match (self.step)(&step.action) {
            true => self.away.clone(),
            false => Arc::new(Unseen),
        }
    }
}

/// A pass during which `store` vanishes in the middle of `step`, and is back after it.
async fn pass_without(fleet: &Fleet, store: &str, step: fn(&Action) -> bool) -> Pass {
    let (store, aside) = (fleet.path("stores").join(store), fleet.path("aside"));
    let away = Arc::new(Away { store, aside, gone: Once::new() });
    let listener: Arc<dyn Listener> = Arc::new(Vanish { step, away: away.clone() });
    let controller = fleet.controller();
    let pass = controller.apply(&Ask::Everything, &Terms::default(), &Halt::default(), &listener).await;
    assert!(away.gone.is_completed(), "it was never written to");
    fs::rename(&away.aside, &away.store).unwrap();
    pass.unwrap()
}

/// Why the step failed that `step` names.
fn why(pass: &Pass, step: fn(&Action) -> bool) -> &str {
    let failed = pass.failures().find(|(failed, _)| step(&failed.action));
    &failed.unwrap_or_else(|| panic!("{:?}", pass.outcomes)).1.message
}

/// Every pack of a store belongs to an artifact that is committed there.
fn nothing_half_made(fleet: &Fleet, store: &str) {
    let folder = fleet.path("stores").join(store).join("pavroto/shop");
    let ids: Vec<String> =
        fleet.manifests(store, "shop").iter().map(|name| name.replace(".json", "")).collect();
    for object in objects_below(&folder) {
        let path = object.to_str().unwrap();
        assert!(ids.iter().any(|id| path.contains(id)), "{path} belongs to none of {ids:?}");
    }
}

#[tokio::test]
async fn a_store_that_vanishes_in_the_middle_of_a_capture_leaves_nothing_that_counts() {
    let fleet = Fleet::declared();
    let into_vault = |action: &Action| match action {
        Action::Capture(capture) => !capture.backup.is_infra() && capture.store.as_str() == "vault",
        _ => false,
    };
    let without = pass_without(&fleet, "vault", into_vault).await;
    assert_eq!(without.ending(), Ending::Partial);
    assert!(why(&without, into_vault).contains("failed to capture shop"), "{}", why(&without, into_vault));
    assert_eq!(fleet.manifests("vault", "shop"), Vec::<String>::new());

    fleet.later(Duration::from_secs(2));
    let with = fleet.pass().await;
    all_done(&with);
    assert_eq!(with.ending(), Ending::Done, "{:?}", with.status.conditions);
    assert_eq!(fleet.manifests("vault", "shop").len(), 1);
    assert_eq!(fleet.manifests("vault", "shop"), fleet.manifests("offsite", "shop"));
    nothing_half_made(&fleet, "vault");
}

#[tokio::test]
async fn a_store_that_vanishes_in_the_middle_of_a_copy_gets_it_when_it_is_back() {
    let fleet = Fleet::declared();
    let copy = |action: &Action| matches!(action, Action::Copy { .. });
    let without = pass_without(&fleet, "offsite", copy).await;
    assert_eq!(without.ending(), Ending::Partial);
    assert!(!why(&without, copy).is_empty());
    assert_eq!(fleet.manifests("vault", "shop").len(), 1, "the capture itself stands");
    assert_eq!(fleet.manifests("offsite", "shop"), Vec::<String>::new());

    let with = fleet.pass().await;
    all_done(&with);
    assert_eq!(with.ending(), Ending::Done, "{:?}", with.status.conditions);
    assert_eq!(fleet.manifests("offsite", "shop"), fleet.manifests("vault", "shop"));
    nothing_half_made(&fleet, "offsite");
}
