//! Damage that a check finds, and work that was cut off after its commit.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use backstay::{
    apply::{
        executor::{Bounds, Failure, Halt, Listener, Outcome},
        journal::{Intent, Journal},
    },
    artifact::{ArtifactId, Depth},
    inventory::{Interrupted, Lease, Work},
    plan::{Action, Step, verify::Scope},
    reconcile::{Ask, Ending, Pass, Terms},
};
use jiff::SignedDuration;

use super::{Fleet, all_done, objects_below, steps};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A full and an incremental that shares its pack, in both stores.
async fn sharing() -> Fleet {
    let fleet = Fleet::new();
    let schedules = format!("full = \"{}\"\nincremental = \"{}\"", fleet.weekly(), fleet.daily());
    fleet.declare(&fleet.declaration_with(&schedules));
    all_done(&fleet.pass().await);
    fleet.later(DAY);
    all_done(&fleet.pass().await);
    assert_eq!(fleet.manifests("vault", "shop").len(), 2);
    fleet
}

/// The only pack that the two artifacts name.
fn pack(fleet: &Fleet) -> PathBuf {
    let objects = objects_below(&fleet.path("stores/vault/pavroto/shop/packs"));
    let mut packs = objects.into_iter().filter(|object| object.ends_with("0"));
    let pack = packs.next().unwrap();
    assert_eq!(packs.next(), None, "the incremental shares it");
    pack
}

/// Lets a pass check one artifact and no more.
struct OneCheck(Halt);

impl Listener for OneCheck {
    fn started(&self, _: &Step) {}
    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}
    fn ended(&self, step: &Step, _: &Outcome) {
        if matches!(step.action, Action::Verify { .. }) {
            self.0.stop.cancel();
        }
    }
}

async fn check_one(fleet: &Fleet) -> Pass {
    let controller = fleet.controller().within(Bounds { steps: 1, ..Bounds::default() });
    let halt = Halt::default();
    let listener: Arc<dyn Listener> = Arc::new(OneCheck(halt.clone()));
    let ask = Ask::Verify(Scope::Backup("shop".parse().unwrap()), Depth::Data);
    controller.apply(&ask, &Terms::default(), &halt, &listener).await.unwrap()
}

fn damaged(pass: &Pass, store: &str) -> usize {
    pass.status.backups["shop"].stores[store].damaged.len()
}

/// Where the pack was read wrongly once, the repairs share it.
#[tokio::test]
async fn damage_found_in_one_artifact_is_known_of_the_other_and_each_is_repaired_once() {
    for was_read_wrongly in [false, true] {
        let fleet = sharing().await;
        let (pack, checked_first) = (pack(&fleet), "offsite");
        let whole = fs::read(&pack).unwrap();
        let mut altered = whole.clone();
        altered[whole.len() / 2] ^= 1;
        fs::remove_file(&pack).unwrap();
        fs::write(&pack, &altered).unwrap();
        // Checks go store by store: the other store's are over first.
        fs::rename(fleet.path("stores").join(checked_first), fleet.path("away")).unwrap();
        let found = check_one(&fleet).await;
        let checks = found.outcomes.values().filter(|outcome| matches!(outcome, Outcome::Done(_))).count();
        assert_eq!((checks, damaged(&found, "vault")), (1, 2), "{:?}", found.outcomes);
        assert_eq!(found.ending(), Ending::Damage);
        fs::rename(fleet.path("away"), fleet.path("stores").join(checked_first)).unwrap();

        fs::remove_dir_all(fleet.path("state")).unwrap();
        if was_read_wrongly {
            fs::write(&pack, &whole).unwrap();
        }
        let survey = fleet.controller().survey(&Terms::default()).await.unwrap();
        assert_eq!((damaged(&survey.pass, "vault"), damaged(&survey.pass, "offsite")), (2, 0));
        let mended = fleet.pass().await;
        let repairs = |pass: &Pass| steps(pass).iter().filter(|step| step.starts_with("repair")).count();
        assert_eq!((repairs(&mended), damaged(&mended, "vault")), (2, 0), "{:?}", steps(&mended));
        let after = fleet.pass().await;
        assert_eq!((repairs(&after), damaged(&after, "vault")), (0, 0), "{:?}", steps(&after));
        assert_eq!(objects_below(&fleet.path("stores/vault/pavroto/shop/artifacts")).len(), 4);
    }
}

#[tokio::test]
async fn a_capture_cut_off_after_its_commit_is_settled_and_its_lease_given_back() {
    let fleet = Fleet::declared();
    let controller = fleet.controller();
    all_done(&super::pass(&controller).await);
    let manifest = fleet.manifests("vault", "shop").remove(0);
    let artifact: ArtifactId = manifest.strip_suffix(".json").unwrap().parse().unwrap();
    let left = Interrupted {
        backup: "shop".parse().unwrap(),
        store: "vault".parse().unwrap(),
        artifact,
        work: Work::Capture,
        copy: None,
    };
    let intent = Intent { at: fleet.clock_now(), what: "capture".to_owned(), writes: Some(left) };
    Journal::open(controller.state().journal()).unwrap().begin(intent).unwrap();
    let lease = Lease {
        epoch: artifact,
        until: fleet.clock_now() + SignedDuration::from_hours(1),
        controller: controller.keys().public_key(),
    };
    let open = fleet.path("stores/vault/pavroto/shop/open");
    fs::create_dir_all(&open).unwrap();
    fs::write(open.join(format!("{artifact}.0.json")), serde_json::to_vec(&lease).unwrap()).unwrap();
    drop(controller);

    let settled = fleet.pass().await;
    all_done(&settled);
    assert_eq!(steps(&settled), [format!("settle shop {artifact} in vault")]);
    assert_eq!((settled.status.pending, settled.ending()), (0, Ending::Done));
    assert_eq!(objects_below(&open), Vec::<PathBuf>::new());
    assert_eq!(Journal::peek(&fleet.controller().state().journal()).unwrap(), []);
    assert_eq!(fleet.manifests("vault", "shop"), [manifest]);
    assert_eq!(steps(&fleet.pass().await), Vec::<String>::new());
}
