//! Passes end to end: a real Git repository, a real database, two stores in folders.

mod approval;
mod damage;
mod drift;
mod gates;
mod history;
mod memory;
mod mishaps;
mod moved;
mod published;
mod reading;
mod recovery;
mod rehearsal;
mod rounds;
mod saying;
mod scheduled;
mod settled;
mod stand_in;
mod undeclared;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use backstay::{
    apply::executor::{Failure, Halt, Listener, Outcome},
    artifact::Kind,
    clock::{Clock, ManualClock},
    config::Config,
    inventory::{Observed, StoreInventory},
    plan::{Action, Step, manual},
    reconcile::{
        Approved, Ask, Controller, Ending, Keep, Pass, PassError, Terms, Word,
        desired::{NothingInForce, Obstacle},
        saved,
    },
    state::{StateDir, StateError},
};
use jiff::{SignedDuration, Timestamp};

use crate::{git::Repo, schedules};

const RECIPIENT: &str = "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z";

/// A fleet of one database, with a controller of its own.
pub struct Fleet {
    pub repo: Repo,
    pub clock: Arc<ManualClock>,
    /// When it was made: the slots of its schedules are far from then, so that a test steps over those that it means to.
    began: Timestamp,
}

impl Fleet {
    pub fn new() -> Self {
        let (repo, began) = (Repo::empty(), Timestamp::now());
        let fleet = Self { repo, clock: Arc::new(ManualClock::new(began)), began };
        for store in ["vault", "offsite"] {
            fs::create_dir_all(fleet.path("stores").join(store)).unwrap();
        }
        fs::create_dir_all(fleet.path("data")).unwrap();
        fleet.sell(10);
        fleet
    }

    /// With the declaration committed.
    pub fn declared() -> Self {
        let fleet = Self::new();
        fleet.declare(&fleet.declaration());
        fleet
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.repo.root.path().canonicalize().unwrap().join(name)
    }

    /// With a full a day.
    pub fn declaration(&self) -> String {
        self.declaration_with(&format!("full = \"{}\"", self.daily()))
    }

    /// Once a day, half a day from when the fleet was made.
    pub fn daily(&self) -> String {
        schedules::daily(self.began)
    }

    /// Once a week, half a week from when the fleet was made.
    pub fn weekly(&self) -> String {
        schedules::weekly(self.began)
    }

    /// Once a year, half a year from when the fleet was made.
    pub fn yearly(&self) -> String {
        schedules::yearly(self.began)
    }

    /// With these schedules in the place of a full a day.
    pub fn declaration_with(&self, schedules: &str) -> String {
        let root = self.path("");
        let root = root.to_str().unwrap().trim_end_matches('/');
        format!(
            r#"
            [fleet]
            name = "pavroto"
            recipients = ["{RECIPIENT}"]
            [store.vault]
            location = "here"
            local = {{ path = "{root}/stores/vault" }}
            [store.offsite]
            location = "there"
            local = {{ path = "{root}/stores/offsite" }}
            [policy.often]
            rpo = "2d"
            rto = "1h"
            {schedules}
            keep = {{ full = "14d" }}
            [backup.shop]
            policy = "often"
            stores = ["vault", "offsite"]
            sqlite = {{ path = "{root}/data/shop.db" }}
            [infra]
            stores = ["vault", "offsite"]
            "#
        )
    }

    pub fn declare(&self, text: &str) -> String {
        self.repo.commit("backup/fleet.toml", text)
    }

    /// Changes the data.
    pub fn sell(&self, number: u32) {
        let shop = rusqlite::Connection::open(self.path("data/shop.db")).unwrap();
        shop.execute_batch("create table if not exists sold (id integer primary key, what text)").unwrap();
        for _ in 0..number {
            shop.execute("insert into sold (what) values ('ramen')", ()).unwrap();
        }
    }

    pub fn config(&self) -> Config {
        backstay::templates::apart::by_program(env!("CARGO_BIN_EXE_backstay"));
        let root = self.path("");
        let text = format!(
            r#"
            state_dir = "state"
            [repo]
            url = "{}"
            path = "backup"
            [http]
            listen = "127.0.0.1:0"
            [keys]
            dir = "keys"
            must_recipients = ["{RECIPIENT}"]
            [allow]
            read = ["data"]
            write = ["stores", "restored"]
            "#,
            self.repo.path.display()
        );
        Config::parse("backstay.toml", text.as_bytes(), &root).unwrap()
    }

    pub fn controller(&self) -> Controller {
        Controller::open(self.config(), self.clock.clone()).unwrap()
    }

    /// One pass of a new process.
    pub async fn pass(&self) -> Pass {
        pass(&self.controller()).await
    }

    pub fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn later(&self, by: Duration) {
        self.clock.set(self.clock.now() + SignedDuration::try_from(by).unwrap());
    }

    /// Ids of the artifacts of a backup in a store, by their manifests' files.
    pub fn manifests(&self, store: &str, backup: &str) -> Vec<String> {
        let folder = self.path("stores").join(store).join("pavroto").join(backup).join("artifacts");
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
        names.sort();
        names
    }
}

pub struct Deaf;

impl Listener for Deaf {
    fn started(&self, _: &Step) {}
    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}
    fn ended(&self, _: &Step, _: &Outcome) {}
}

async fn pass(controller: &Controller) -> Pass {
    apply(controller, &Ask::Everything).await.unwrap()
}

pub async fn apply(controller: &Controller, ask: &Ask) -> Result<Pass, PassError> {
    let listener: Arc<dyn Listener> = Arc::new(Deaf);
    controller.apply(ask, &Terms::default(), &Halt::default(), &listener).await
}

/// A person's word that the branch may be rewritten to `tip`.
pub async fn approve(controller: &Controller, tip: &str) -> Approved {
    let word = Word {
        by: "kai@workstation".to_owned(),
        reason: "a secret was taken out".to_owned(),
        lasts: SignedDuration::from_hours(24),
    };
    controller.approve_rewrite(tip, word).await.unwrap()
}

fn steps(pass: &Pass) -> Vec<String> {
    pass.plan.steps.iter().map(|step| step.action.to_string()).collect()
}

fn all_done(pass: &Pass) {
    let undone: Vec<_> =
        pass.outcomes.iter().filter(|(_, outcome)| !matches!(outcome, Outcome::Done(_))).collect();
    assert!(undone.is_empty(), "{undone:?}");
    assert_eq!(pass.outcomes.len(), pass.plan.steps.len());
    assert_eq!(pass.unrecorded, Vec::<String>::new());
}

#[tokio::test]
async fn a_commit_is_made_true_in_both_stores_and_then_there_is_nothing_left_to_do() {
    let fleet = Fleet::declared();
    let first = fleet.pass().await;
    all_done(&first);
    assert_eq!(first.ending(), Ending::Done, "{:?}", first.status.conditions);
    for store in ["vault", "offsite"] {
        assert_eq!(fleet.manifests(store, "shop").len(), 1, "{store}");
        assert_eq!(fleet.manifests(store, "infra").len(), 1, "{store}");
        let page = fs::read_to_string(fleet.path("stores").join(store).join("pavroto/RESTORE.md")).unwrap();
        assert!(page.contains("pavroto"), "{store}: {page}");
    }
    assert_eq!(fleet.manifests("vault", "shop"), fleet.manifests("offsite", "shop"));

    let second = fleet.pass().await;
    assert_eq!(steps(&second), Vec::<String>::new());
    assert_eq!(second.status.pending, 0);
    assert!(second.next_due.is_some());
}

#[tokio::test]
async fn what_a_pass_did_is_known_to_the_next_one_without_listing_the_stores_again() {
    let fleet = Fleet::declared();
    let controller = fleet.controller();
    all_done(&pass(&controller).await);
    // Another listing would fail.
    let away = fleet.path("away");
    fs::rename(fleet.path("stores"), &away).unwrap();
    let terms = Terms { freshness: backstay::observe::Freshness::Within(Duration::from_secs(600)) };
    let planned = controller.plan(&Ask::Everything, &terms).await.unwrap();
    assert_eq!(steps(&planned), Vec::<String>::new());
    assert_eq!(planned.status.waiting, []);
}

#[tokio::test]
async fn a_bad_commit_is_backed_up_and_the_last_good_one_stays_in_force_also_after_a_restart() {
    let fleet = Fleet::declared();
    let good = fleet.repo.id("HEAD");
    all_done(&fleet.pass().await);
    // Names of artifacts tell seconds, and of two in one second nobody knows which is newer.
    fleet.later(Duration::from_secs(1));
    fleet.declare(&fleet.declaration().replace("stores =", "store ="));
    for _ in 0..2 {
        let bad = fleet.pass().await;
        assert_eq!(bad.revision.id, good);
        assert_eq!(bad.ending(), Ending::BadRevision);
        assert!(matches!(&bad.obstacle, Some(Obstacle::Bad(bad)) if !bad.diagnostics.is_empty()));
        assert_eq!(fleet.manifests("vault", "infra").len(), 2);
    }
    // A pass that does not know which revision was in force finds it in the history.
    fs::remove_dir_all(fleet.path("state")).unwrap();
    assert_eq!(fleet.pass().await.revision.id, good);
}

#[tokio::test]
async fn a_commit_without_backups_or_without_a_demanded_recipient_never_comes_into_force() {
    let fleet = Fleet::declared();
    let good = fleet.repo.id("HEAD");
    let all = fleet.declaration();
    let (head, tail) = (all.find("[backup.shop]").unwrap(), all.find("[infra]").unwrap());
    let other = backstay::keys::identity::generate(fleet.clock.now()).recipient;
    for bad in [format!("{}{}", &all[..head], &all[tail..]), all.replace(RECIPIENT, &other)] {
        fleet.declare(&bad);
        let pass = fleet.pass().await;
        assert_eq!(pass.revision.id, good);
        assert_eq!(pass.ending(), Ending::BadRevision);
    }
    assert_eq!(fleet.manifests("vault", "shop").len(), 1);
}

#[tokio::test]
async fn a_repo_that_never_had_a_good_revision_is_an_error_that_says_so() {
    let fleet = Fleet::new();
    let empty = apply(&fleet.controller(), &Ask::Everything).await.unwrap_err();
    assert!(matches!(empty, PassError::NothingInForce(NothingInForce::NoRevision(_))), "{empty}");
    fleet.declare("[fleet]\nnam = \"pavroto\"\n");
    let bad = apply(&fleet.controller(), &Ask::Everything).await.unwrap_err();
    assert!(matches!(bad, PassError::NothingInForce(NothingInForce::NoneGood(_))), "{bad}");
}

#[tokio::test]
async fn a_rewritten_branch_is_held_until_a_person_accepts_it_and_the_old_tip_is_kept() {
    let fleet = Fleet::declared();
    let old = fleet.repo.id("HEAD");
    all_done(&fleet.pass().await);
    fleet.repo.git(&["checkout", "-q", "--orphan", "other"]);
    fleet.declare(&format!("{}\n# rewritten", fleet.declaration()));
    fleet.repo.git(&["branch", "-q", "-M", "other", "main"]);
    let new = fleet.repo.id("HEAD");

    let held = fleet.pass().await;
    assert_eq!(held.revision.id, old);
    assert!(matches!(&held.obstacle, Some(Obstacle::Rewritten { revision, .. }) if *revision == new));
    assert_eq!(fleet.manifests("vault", "infra").len(), 2, "the repo's own backup goes on");

    approve(&fleet.controller(), &new).await;
    let accepted = fleet.pass().await;
    assert_eq!(accepted.revision.id, new);
    assert_eq!(accepted.obstacle.as_ref().map(ToString::to_string), None);
    assert_eq!(fleet.pass().await.revision.id, new);
}

#[tokio::test]
async fn of_two_controllers_at_once_the_second_is_refused_and_told_by_whom() {
    let fleet = Fleet::declared();
    let state = StateDir::open(fleet.path("state")).unwrap();
    let lock = state.lock().unwrap();
    let refused = apply(&fleet.controller(), &Ask::Everything).await.unwrap_err();
    assert!(matches!(refused, PassError::State(StateError::Busy { holder: Some(_), .. })), "{refused}");
    drop(lock);
    all_done(&fleet.pass().await);
}

#[tokio::test]
async fn a_deleted_state_directory_comes_back_by_itself() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    let (vault, infra) = (fleet.manifests("vault", "shop"), fleet.manifests("vault", "infra"));
    fs::remove_dir_all(fleet.path("state")).unwrap();

    let pass = fleet.pass().await;
    let arms = pass.plan.steps.iter().all(|step| matches!(step.action, Action::Arm(_)));
    assert!(arms, "only the timetable is made anew: {:?}", steps(&pass));
    assert_eq!(fleet.manifests("vault", "shop"), vault);
    assert_eq!(fleet.manifests("vault", "infra"), infra);
}

#[tokio::test]
async fn a_store_that_goes_away_costs_nothing_and_catches_up_when_it_is_back() {
    let fleet = Fleet::declared();
    let (offsite, away) = (fleet.path("stores/offsite"), fleet.path("away"));
    fs::rename(&offsite, &away).unwrap();
    let without = fleet.pass().await;
    assert_eq!(fleet.manifests("vault", "shop").len(), 1);
    assert!(!without.status.waiting.is_empty() || !without.status.conditions.is_empty());
    assert_eq!(without.ending(), Ending::Partial, "{:?}", without.status.conditions);

    fs::rename(&away, &offsite).unwrap();
    let with = fleet.pass().await;
    all_done(&with);
    assert_eq!(with.ending(), Ending::Done, "{:?}", with.status.conditions);
    assert_eq!(fleet.manifests("offsite", "shop"), fleet.manifests("vault", "shop"));
    assert_eq!(fleet.manifests("offsite", "infra").len(), 1);
}

#[tokio::test]
async fn a_clock_that_jumps_a_year_either_way_deletes_nothing() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    let before = fleet.manifests("vault", "shop");
    let year = SignedDuration::from_hours(365 * 24);
    for jump in [year, -year] {
        let now = fleet.clock.now();
        fleet.clock.set(now + jump);
        let pass = fleet.pass().await;
        let deletes = pass.plan.steps.iter().any(|step| matches!(step.action, Action::Delete { .. }));
        assert!(!deletes, "{jump:?}: {:?}", steps(&pass));
        assert!(before.iter().all(|name| fleet.manifests("vault", "shop").contains(name)), "{jump:?}");
        fleet.clock.set(now);
    }
}

#[tokio::test]
async fn a_saved_plan_is_applied_as_it_is_or_refused_when_the_world_has_changed() {
    let fleet = Fleet::declared();
    let controller = fleet.controller();
    let file = fleet.path("plan.json");
    let planned = controller.plan(&Ask::Everything, &Terms::default()).await.unwrap();
    assert!(planned.outcomes.is_empty());
    saved::save(&file, &planned.plan).unwrap();
    let ask = Ask::Exactly(saved::load(&file).unwrap());
    all_done(&apply(&controller, &ask).await.unwrap());
    let stale = apply(&controller, &ask).await.unwrap_err();
    assert!(matches!(stale, PassError::Stale(saved::Stale::World { .. })), "{stale}");
}

#[tokio::test]
async fn a_manual_backup_is_made_and_held() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    fleet.later(Duration::from_secs(2));
    let request = manual::Request {
        backup: "shop".parse().unwrap(),
        kind: Kind::Full,
        reason: Some("before the upgrade".into()),
    };
    let ask = Ask::Backup(vec![request], Keep::Held("before the upgrade".into()));
    let made = apply(&fleet.controller(), &ask).await.unwrap();
    all_done(&made);
    assert_eq!(fleet.manifests("vault", "shop").len(), 2);
    let survey = fleet.controller().survey(&Terms::default()).await.unwrap();
    let held = |store: &Observed<StoreInventory>| {
        let stored = &store.known().unwrap().backups["shop"];
        stored.artifacts.iter().filter(|artifact| artifact.held.is_some()).count()
    };
    for store in ["vault", "offsite"] {
        assert_eq!(held(&survey.inventory.stores[store]), 1, "{store}");
    }
}

/// Stops everything as soon as a capture of the database begins.
struct StopAtCapture(Halt, Mutex<Vec<String>>);

impl Listener for StopAtCapture {
    fn started(&self, step: &Step) {
        if matches!(&step.action, Action::Capture(capture) if !capture.backup.is_infra()) {
            self.0.stop.cancel();
        }
    }
    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}
    fn ended(&self, step: &Step, outcome: &Outcome) {
        if *outcome == Outcome::Cancelled {
            self.1.lock().unwrap().push(step.action.to_string());
        }
    }
}

#[tokio::test]
async fn a_capture_that_is_stopped_leaves_nothing_half_made_and_the_next_pass_makes_it() {
    let fleet = Fleet::declared();
    let halt = Halt::default();
    let listener = Arc::new(StopAtCapture(halt.clone(), Mutex::default()));
    let hears: Arc<dyn Listener> = listener.clone();
    let stopped = fleet.controller().apply(&Ask::Everything, &Terms::default(), &halt, &hears).await.unwrap();
    assert!(stopped.outcomes.values().any(|outcome| *outcome == Outcome::Cancelled));
    assert!(listener.1.lock().unwrap().iter().any(|what| what.starts_with("capture full of shop")));
    assert_eq!(fleet.manifests("vault", "shop"), Vec::<String>::new());
    assert_eq!(objects_below(&fleet.path("stores/vault/pavroto/shop")), Vec::<PathBuf>::new());

    all_done(&fleet.pass().await);
    assert_eq!(fleet.manifests("vault", "shop").len(), 1);
}

fn objects_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { objects_below(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn an_altered_manifest_is_healed_from_the_other_store_and_a_forged_one_is_neither_used_nor_replaced() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    let altered = fleet.manifests("vault", "shop")[0].clone();
    let folder = fleet.path("stores/vault/pavroto/shop/artifacts");
    let text = fs::read_to_string(folder.join(&altered)).unwrap();
    let forged = "20200101T000000Z-0000000007";
    fs::write(folder.join(format!("{forged}.json")), &text).unwrap();
    fs::copy(folder.join(format!("{altered}.sig")), folder.join(format!("{forged}.json.sig"))).unwrap();
    fs::remove_file(folder.join(&altered)).unwrap();
    fs::write(folder.join(&altered), text.replace("\"full\"", "\"log\"")).unwrap();

    fleet.later(Duration::from_secs(60));
    let healed = fleet.pass().await;
    let repairs: Vec<String> = steps(&healed).into_iter().filter(|step| step.starts_with("repair")).collect();
    let id = altered.trim_end_matches(".json");
    assert_eq!(repairs, [format!("repair shop {id} in vault from offsite")]);
    assert!(healed.outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Done(_))));
    let left = fleet.manifests("vault", "shop");
    assert!(!left.contains(&altered), "{left:?}");
    assert_eq!(left.len(), 2, "the repair and the forged one: {left:?}");
    assert!(left.contains(&format!("{forged}.json")));

    let scope = backstay::plan::verify::Scope::Everything;
    let ask = Ask::Verify(scope, backstay::artifact::Depth::Data);
    let checked = apply(&fleet.controller(), &ask).await.unwrap();
    let bad: Vec<String> = checked
        .plan
        .steps
        .iter()
        .filter(|step| {
            let found = checked.outcomes.iter().find(|(id, _)| **id == step.id);
            !matches!(found, Some((_, Outcome::Done(done))) if done.damage.is_empty())
        })
        .map(|step| step.action.to_string())
        .collect();
    assert_eq!(bad, [format!("verify data of shop {forged} in vault")]);
}
