//! A rename that is declared: the whole way through Git, stores and schedulers.

use std::{fs, path::PathBuf, time::Duration};

use backstay::{
    artifact::{ArtifactId, Depth},
    plan::{
        action::Destination,
        restore::{Point, Request},
        verify,
    },
    reconcile::{Ask, Controller, SayError, Saying},
    spec::{Suspension, suspension::Scope},
};
use jiff::SignedDuration;

use super::{Fleet, RECIPIENT, all_done, apply, pass, steps, undeclared::with_identity};

const HOUR: Duration = Duration::from_secs(3600);

/// A shop with increments, and a way to call it otherwise.
fn declaration(fleet: &Fleet, recipient: &str, moves: &[&str]) -> String {
    let name = moves.last().unwrap_or(&"shop");
    let schedules = format!("full = \"{}\"\nincremental = {{ every = \"1h\" }}", fleet.yearly());
    let mut text = fleet
        .declaration_with(&schedules)
        .replace(RECIPIENT, &format!("{RECIPIENT}\", \"{recipient}"))
        .replace("keep = { full = \"14d\" }", "keep = { full = \"800d\" }")
        .replace("[backup.shop]", &format!("[backup.{name}]"));
    let former = std::iter::once(&"shop").chain(moves);
    for (old, new) in former.zip(moves) {
        text += &format!("\n[moved.{old}]\nto = \"{new}\"\n");
    }
    text
}

struct Scene {
    fleet: Fleet,
    controller: Controller,
    recipient: String,
}

impl Scene {
    /// A shop with a full and an incremental.
    async fn new() -> Self {
        let fleet = Fleet::new();
        let (config, recipient) = with_identity(&fleet);
        let controller = Controller::open(config, fleet.clock.clone()).unwrap();
        let scene = Self { fleet, controller, recipient };
        scene.call(&[]);
        all_done(&pass(&scene.controller).await);
        scene.next_hour().await;
        scene
    }

    fn call(&self, moves: &[&str]) {
        self.fleet.declare(&declaration(&self.fleet, &self.recipient, moves));
    }

    /// More is sold, and the next slot comes.
    async fn next_hour(&self) -> Vec<String> {
        self.fleet.sell(5);
        self.fleet.later(HOUR);
        let pass = pass(&self.controller).await;
        all_done(&pass);
        steps(&pass)
    }

    fn stored(&self) -> Vec<ArtifactId> {
        let manifests = self.fleet.manifests("vault", "shop");
        manifests.iter().map(|name| name.trim_end_matches(".json").parse().unwrap()).collect()
    }

    /// How much was sold by an artifact.
    async fn sold(&self, backup: &str, artifact: ArtifactId) -> u32 {
        let file: PathBuf = self.fleet.path(&format!("{backup}-{artifact}.db"));
        let request = Request {
            backup: backup.parse().unwrap(),
            point: Point::Artifact(artifact),
            from: None,
            paths: Vec::new(),
            to: Destination::File(file.clone()),
        };
        all_done(&apply(&self.controller, &Ask::Restore(request)).await.unwrap());
        let restored = rusqlite::Connection::open(&file).unwrap();
        restored.query_row("select count(*) from sold", (), |row| row.get(0)).unwrap()
    }
}

fn is_schedule(step: &str) -> bool {
    step.starts_with("arm ") || step.starts_with("disarm ")
}

#[tokio::test]
async fn a_renamed_backup_goes_on_where_it_was() {
    let scene = Scene::new().await;
    let before = scene.stored();
    assert_eq!(before.len(), 2);

    scene.call(&["kiosk"]);
    let moved = pass(&scene.controller).await;
    all_done(&moved);
    let shop: Vec<String> = steps(&moved).into_iter().filter(|step| !step.contains("infra")).collect();
    assert!(shop.len() == 4 && shop.iter().all(|step| is_schedule(step)), "{shop:?}");
    assert_eq!(scene.stored(), before);

    let hour = scene.next_hour().await;
    assert!(hour.contains(&"capture incremental of kiosk into vault".to_owned()), "{hour:?}");
    assert_eq!(scene.stored().len(), 3);
    assert_eq!(scene.fleet.manifests("vault", "kiosk"), Vec::<String>::new());
    assert_eq!(scene.fleet.manifests("offsite", "shop").len(), 3, "copies go where the others are");

    let newest = scene.stored()[2];
    let manifest = fs::read(scene.fleet.path(&format!("stores/vault/pavroto/shop/artifacts/{newest}.json")));
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.unwrap()).unwrap();
    assert_eq!(manifest["backup"], "shop");
    assert_eq!(manifest["base"], before[1].to_string(), "it builds on what was made under the old name");
    assert_eq!(scene.sold("kiosk", before[0]).await, 10);
    assert_eq!(scene.sold("kiosk", newest).await, 20);

    // Renamed once more, by a controller that has lost all it knew.
    fs::remove_dir_all(scene.fleet.path("state")).unwrap();
    scene.call(&["kiosk", "stall"]);
    let config = scene.controller.config().clone();
    let scene = Scene { controller: Controller::open(config, scene.fleet.clock.clone()).unwrap(), ..scene };
    let again = pass(&scene.controller).await;
    all_done(&again);
    assert!(!steps(&again).iter().any(|step| step.contains("capture full of stall")), "{:?}", steps(&again));
    assert_eq!(scene.sold("stall", before[0]).await, 10);
}

#[tokio::test]
async fn holds_and_suspensions_outlive_the_rename() {
    let scene = Scene::new().await;
    let first = scene.stored()[0];
    let say = async |saying| scene.controller.say(saying).await;
    let suspend = |name: &str| {
        Saying::Suspend(Suspension {
            scope: Scope::Backup(name.parse().unwrap()),
            from: None,
            until: scene.fleet.clock_now() + SignedDuration::from_hours(48),
            reason: "new hardware".to_owned(),
        })
    };
    say(Saying::Hold(first, "evidence".to_owned())).await.unwrap();
    say(suspend("shop")).await.unwrap();
    let checked = apply(&scene.controller, &Ask::Verify(verify::Scope::Everything, Depth::Data)).await;
    all_done(&checked.unwrap());

    scene.call(&["kiosk"]);
    let idle = scene.next_hour().await;
    assert!(idle.iter().all(|step| is_schedule(step) || step.contains("infra")), "{idle:?}");
    let status = pass(&scene.controller).await.status;
    assert_eq!(status.suspensions[0].scope, Scope::Backup("kiosk".parse().unwrap()));
    let kiosk = &status.backups["kiosk"];
    assert_eq!(kiosk.stores["vault"].held, [first]);
    assert_eq!(kiosk.stores["offsite"].held, [first]);
    assert_eq!(kiosk.stores["vault"].unchecked, 0, "checks are remembered");

    let by_the_old_name = say(suspend("shop")).await;
    assert!(matches!(&by_the_old_name, Err(SayError::Renamed { name, .. }) if name.as_str() == "kiosk"));
    say(Saying::Resume(Scope::Backup("kiosk".parse().unwrap()))).await.unwrap();
    let resumed = scene.next_hour().await;
    assert!(resumed.contains(&"capture incremental of kiosk into vault".to_owned()), "{resumed:?}");
    say(suspend("kiosk")).await.unwrap();
    say(Saying::Release(first)).await.unwrap();
    scene.call(&["kiosk", "stall"]);
    let status = pass(&scene.controller).await.status;
    assert_eq!(status.suspensions[0].scope, Scope::Backup("stall".parse().unwrap()));
    assert_eq!(status.backups["stall"].stores["vault"].held, []);
}

#[tokio::test]
async fn what_was_cut_off_under_the_old_name_is_cleaned_up_under_the_new_one() {
    let scene = Scene::new().await;
    let before = scene.stored();
    scene.fleet.sell(5);
    scene.fleet.later(HOUR);
    let cut = pass(&scene.controller).await;
    all_done(&cut);
    // As if the process had died before the manifest: what remains is the intent, the lease and the packs.
    let newest = *scene.stored().last().unwrap();
    assert!(!before.contains(&newest));
    for store in ["vault", "offsite"] {
        let artifacts = scene.fleet.path(&format!("stores/{store}/pavroto/shop/artifacts"));
        fs::remove_file(artifacts.join(format!("{newest}.json"))).unwrap();
        fs::remove_file(artifacts.join(format!("{newest}.json.sig"))).unwrap();
    }
    let intent = serde_json::json!({ "began": { "attempt": 9000, "intent": {
        "at": scene.fleet.clock_now(), "what": "capture incremental of shop into vault",
        "writes": { "backup": "shop", "store": "vault", "artifact": newest, "work": "capture" },
    } } });
    let journal = scene.fleet.path("state/journal");
    let lines = fs::read_to_string(&journal).unwrap_or_default();
    fs::write(&journal, format!("{lines}{intent}\n")).unwrap();

    scene.call(&["kiosk"]);
    let config = scene.controller.config().clone();
    let controller = Controller::open(config, scene.fleet.clock.clone()).unwrap();
    let cleaned = pass(&controller).await;
    all_done(&cleaned);
    let of_it = format!("clean up after kiosk {newest} in vault");
    assert!(steps(&cleaned).iter().any(|step| step.starts_with(&of_it)), "{:?}", steps(&cleaned));
    assert!(!scene.fleet.path(&format!("stores/vault/pavroto/shop/packs/{newest}")).exists());
    assert!(!steps(&pass(&controller).await).iter().any(|step| step.contains("clean")));
}
