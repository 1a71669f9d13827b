//! Passes that go on for long: what falls due, is committed or asked for meanwhile does not wait for their steps.

use std::{
    fs,
    sync::{Arc, OnceLock},
    time::Duration,
};

use backstay::{
    apply::{
        executor::{Halt, Listener, Outcome},
        journal::Journal,
    },
    artifact::Kind,
    clock::Clock,
    inventory::Work,
    observe::Freshness,
    plan::manual,
    reconcile::{Ask, Controller, Keep, Line, Pass, PassError, Reply, Terms, Wanted},
};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    task::JoinHandle,
    time::Instant,
};

use super::{Deaf, Fleet, all_done, apply, gates::Gates};

/// Copies of the shop's artifacts into the further store.
const COPY: &str = "offsite/pavroto/shop/packs";
/// Captures of the shop's database.
const CAPTURE: &str = "data/shop.db";
const RECENT: Freshness = Freshness::Within(Duration::from_secs(600));

/// A pass under way, and the line to it.
struct Long {
    fleet: Fleet,
    gates: Gates,
    line: Arc<Line>,
    halt: Halt,
    rounds: UnboundedReceiver<Result<Pass, PassError>>,
    pass: JoinHandle<Result<Pass, PassError>>,
}

impl Long {
    /// A pass over two databases and the infra repo that has come to the gate `shut`.
    async fn at(shut: &'static str) -> Self {
        let fleet = Fleet::new();
        fleet.declare(&two(&fleet));
        let (gates, controller) = (Gates::default(), fleet.controller());
        gates.shut(shut);
        let controller = gates.before(controller);
        let long = Self::begin(fleet, gates, controller);
        long.gates.reached(shut).await;
        long
    }

    fn begin(fleet: Fleet, gates: Gates, controller: Controller) -> Self {
        let (tell, rounds) = mpsc::unbounded_channel();
        let (line, halt) = (Arc::new(Line::telling(tell)), Halt::default());
        let (hears, stops) = (line.clone(), halt.clone());
        let pass = tokio::spawn(async move {
            let listener: Arc<dyn Listener> = Arc::new(Deaf);
            let (ask, terms) = (Ask::Everything, Terms::default());
            controller.apply_hearing(&hears, &ask, &terms, &stops, &listener).await
        });
        Self { fleet, gates, line, halt, rounds, pass }
    }

    /// Waits for the round after which it is so.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Fleet) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut last = None;
        while !is_so(&self.fleet) {
            let round = tokio::time::timeout_at(deadline, self.rounds.recv()).await;
            let Ok(Some(round)) = round else { panic!("{what} does not come about: {last:#?}") };
            last = Some(round.unwrap());
            assert!(!self.pass.is_finished(), "the pass ends before {what}");
        }
    }

    /// Opens the gate, and waits for the end.
    async fn end(self, gate: &'static str) -> (Fleet, Pass) {
        self.gates.open(gate);
        (self.fleet, self.pass.await.unwrap().unwrap())
    }

    /// Time passes, and somebody says so.
    fn later(&self, seconds: u64) {
        self.fleet.later(Duration::from_secs(seconds));
        self.line.look(RECENT);
    }

    fn ask(&self, backup: &str) -> UnboundedReceiver<Reply> {
        let (replies, told) = mpsc::unbounded_channel();
        let request = manual::Request {
            backup: backup.parse().unwrap(),
            kind: Kind::Full,
            reason: Some("before the upgrade".into()),
        };
        self.line.ask(Wanted { requests: vec![request], keep: Keep::Held("asked".into()), replies });
        told
    }
}

/// Two databases, each captured every five minutes.
fn two(fleet: &Fleet) -> String {
    let till = fleet.path("data/till.db");
    fs::copy(fleet.path("data/shop.db"), &till).unwrap();
    let declared = fleet.declaration_with("full = { every = \"5m\" }");
    let till = till.display();
    format!(
        "{declared}\n[backup.till]\npolicy = \"often\"\nstores = [\"vault\", \"offsite\"]\nsqlite = {{ path = \"{till}\" }}\n"
    )
}

fn number(fleet: &Fleet, store: &str, backup: &str) -> usize {
    fleet.manifests(store, backup).len()
}

/// The revisions by which the artifacts of a backup were made, oldest first.
fn revisions(fleet: &Fleet, backup: &str) -> Vec<String> {
    let folder = fleet.path("stores/vault/pavroto").join(backup).join("artifacts");
    let manifests = fleet.manifests("vault", backup).into_iter().map(|name| {
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap();
        manifest["revision"].as_str().unwrap().to_owned()
    });
    manifests.collect()
}

#[tokio::test]
async fn a_copy_that_lasts_keeps_nothing_that_falls_due_from_being_captured() {
    let mut long = Long::at(COPY).await;
    long.later(301);
    let captured = |fleet: &Fleet| {
        number(fleet, "vault", "till") == 2
            && number(fleet, "offsite", "till") == 2
            && number(fleet, "vault", "shop") == 2
    };
    long.until("a second capture of both", captured).await;
    assert_eq!(number(&long.fleet, "offsite", "shop"), 0);
    let (fleet, pass) = long.end(COPY).await;
    assert!(pass.outcomes.values().all(|outcome| matches!(outcome, Outcome::Done(_))), "{pass:#?}");
    assert_eq!(number(&fleet, "offsite", "shop"), 2);
    assert_eq!(pass.status.pending, 0);
}

#[tokio::test]
async fn a_capture_that_lasts_holds_up_no_other_backup() {
    let mut long = Long::at(CAPTURE).await;
    long.until("the first copy of the other", |fleet| number(fleet, "offsite", "till") == 1).await;
    long.later(301);
    long.until("the second copy of the other", |fleet| number(fleet, "offsite", "till") == 2).await;
    assert_eq!(number(&long.fleet, "vault", "shop"), 0);
    let (fleet, _) = long.end(CAPTURE).await;
    // The slot that came meanwhile is filled by what was captured after it.
    assert_eq!(fleet.manifests("vault", "shop"), fleet.manifests("offsite", "shop"));
    assert!(number(&fleet, "vault", "shop") >= 1);
}

#[tokio::test]
async fn a_commit_is_backed_up_and_in_force_while_a_step_lasts_that_ends_under_its_own_revision() {
    let mut long = Long::at(CAPTURE).await;
    long.until("the old revision's backup", |fleet| number(fleet, "offsite", "infra") == 1).await;
    let old = long.fleet.repo.id("HEAD");
    let menu = two(&long.fleet).replace("[backup.till]", "[backup.menu]");
    long.fleet.declare(&menu);
    long.line.look(RECENT);
    let in_force =
        |fleet: &Fleet| number(fleet, "offsite", "infra") == 2 && number(fleet, "offsite", "menu") == 1;
    long.until("the new revision's backup", in_force).await;
    let new = long.fleet.repo.id("HEAD");
    let (fleet, pass) = long.end(CAPTURE).await;
    assert_eq!(pass.revision.id, new);
    assert_eq!(revisions(&fleet, "shop")[0], old);
    assert_eq!(revisions(&fleet, "menu"), [new]);
}

#[tokio::test]
async fn a_backup_that_is_renamed_while_its_capture_lasts_is_not_captured_twice() {
    let mut long = Long::at(CAPTURE).await;
    long.until("the old revision's backup", |fleet| number(fleet, "offsite", "infra") == 1).await;
    let renamed = two(&long.fleet).replace("[backup.shop]", "[backup.kiosk]");
    long.fleet.declare(&format!("{renamed}\n[moved.shop]\nto = \"kiosk\"\n"));
    long.line.look(RECENT);
    long.until("the new revision's backup", |fleet| number(fleet, "offsite", "infra") == 2).await;
    let mut asked = long.ask("kiosk");
    assert!(matches!(asked.recv().await, Some(Reply::Waits(_))));
    let begun = Journal::peek(&long.fleet.path("state/journal")).unwrap();
    let of_shop = begun.iter().filter(|begun| begun.backup.as_str() == "shop" && begun.work == Work::Capture);
    assert_eq!(of_shop.count(), 1, "{begun:#?}");
    let (fleet, _) = long.end(CAPTURE).await;
    while asked.recv().await.is_some() {}
    // The one that lasted, and the one that was asked for, each with its copy.
    assert_eq!(number(&fleet, "vault", "shop"), 2);
    assert_eq!(fleet.manifests("vault", "shop"), fleet.manifests("offsite", "shop"));
    assert_eq!(number(&fleet, "vault", "kiosk"), 0);
    let status = fleet.controller().plan(&Ask::Everything, &Terms::default()).await.unwrap().status;
    let kiosk = &status.backups["kiosk"];
    assert_eq!((kiosk.stores["vault"].held.len(), kiosk.stores["offsite"].held.len()), (1, 1));
}

#[tokio::test]
async fn a_person_is_served_at_once_unless_the_same_backup_is_being_captured() {
    let mut long = Long::at(CAPTURE).await;
    long.until("the first copy of the other", |fleet| number(fleet, "offsite", "till") == 1).await;
    let mut till = long.ask("till");
    assert_eq!(till.recv().await, Some(Reply::Ended(Vec::new())));
    let mut shop = long.ask("shop");
    let waits = "waiting for the capture of shop under way".to_owned();
    assert_eq!(shop.recv().await, Some(Reply::Waits(waits)));
    let mut unknown = long.ask("nowhere");
    assert!(matches!(unknown.recv().await, Some(Reply::Ended(faults)) if faults.len() == 1));
    let (fleet, _) = long.end(CAPTURE).await;
    let mut last = None;
    while let Some(reply) = shop.recv().await {
        last = Some(reply);
    }
    assert_eq!(last, Some(Reply::Ended(Vec::new())));
    assert_eq!(number(&fleet, "vault", "shop"), 2);
    let survey = fleet.controller().survey(&Terms::default()).await.unwrap();
    for (store, backup) in [("vault", "shop"), ("vault", "till"), ("offsite", "shop"), ("offsite", "till")] {
        let stored = &survey.inventory.stores[store].known().unwrap().backups[backup];
        let held = stored.artifacts.iter().filter(|artifact| artifact.held.is_some()).count();
        assert_eq!(held, 1, "{backup} in {store}");
    }
}

#[tokio::test]
async fn another_configuration_counts_for_all_that_is_planned_while_a_step_lasts() {
    let fleet = Fleet::new();
    fleet.declare(&two(&fleet));
    let mut config = fleet.config();
    config.allow.read.clear();
    let gates = Gates::default();
    gates.shut("offsite/pavroto/infra");
    let controller = gates.before(Controller::open(config, fleet.clock.clone()).unwrap());
    let mut long = Long::begin(fleet, gates, controller);
    long.gates.reached("offsite/pavroto/infra").await;
    assert_eq!(number(&long.fleet, "vault", "shop"), 0);
    long.line.replace(Arc::new(long.gates.before(long.fleet.controller())));
    long.until("what the host allows now", |fleet| number(fleet, "offsite", "shop") == 1).await;
    let (fleet, _) = long.end("offsite/pavroto/infra").await;
    assert_eq!(number(&fleet, "offsite", "infra"), 1);
}

#[tokio::test]
async fn a_stop_ends_whatever_was_begun_in_any_round_and_leaves_nothing_half_made() {
    let mut long = Long::at(COPY).await;
    long.gates.shut(CAPTURE);
    long.later(301);
    long.gates.reached(CAPTURE).await;
    long.until("the other's second copy", |fleet| number(fleet, "offsite", "till") == 2).await;
    long.halt.stop.cancel();
    let stopped = long.pass.await.unwrap().unwrap();
    let cancelled = stopped.outcomes.values().filter(|outcome| **outcome == Outcome::Cancelled).count();
    assert_eq!(cancelled, 2, "{:#?}", stopped.outcomes);
    let fleet = long.fleet;
    for half_made in ["packs", "leases", "incoming"] {
        let folder = fleet.path("stores/offsite/pavroto/shop").join(half_made);
        assert_eq!(super::objects_below(&folder), Vec::<std::path::PathBuf>::new());
    }
    all_done(&fleet.pass().await);
    assert_eq!(fleet.manifests("vault", "shop"), fleet.manifests("offsite", "shop"));
}

/// A clock that stands still at some moment, and goes on from then once it is let go.
struct Going(Timestamp, OnceLock<Instant>);

impl Going {
    fn go(&self) {
        self.1.set(Instant::now()).expect("it is let go once");
    }
}

impl Clock for Going {
    fn now(&self) -> Timestamp {
        let gone = self.1.get().map(Instant::elapsed).unwrap_or_default();
        self.0 + SignedDuration::try_from(gone).unwrap()
    }
}

#[tokio::test]
async fn time_alone_brings_on_what_falls_due_while_a_step_lasts() {
    let fleet = Fleet::new();
    fleet.declare(&two(&fleet));
    let gates = Gates::default();
    gates.shut(COPY);
    let slot = Timestamp::from_second((Timestamp::now().as_second() / 300 + 1) * 300).unwrap();
    let clock = Arc::new(Going(slot - SignedDuration::from_secs(2), OnceLock::new()));
    let controller = gates.before(Controller::open(fleet.config(), clock.clone()).unwrap());
    let mut long = Long::begin(fleet, gates, controller);
    long.gates.reached(COPY).await;
    assert_eq!(number(&long.fleet, "vault", "shop"), 1);
    clock.go();
    long.until("the next slot", |fleet| number(fleet, "vault", "shop") == 2).await;
    long.end(COPY).await;
}

#[tokio::test]
async fn what_a_person_agreed_to_is_done_with_all_that_follows_from_it() {
    let fleet = Fleet::declared();
    let controller = fleet.controller();
    let planned = controller.plan(&Ask::Everything, &Terms::default()).await.unwrap();
    let agreed = apply(&controller, &Ask::Agreed(planned.plan.clone())).await.unwrap();
    all_done(&agreed);
    assert_eq!(fleet.manifests("vault", "shop"), fleet.manifests("offsite", "shop"));
    assert_eq!(agreed.status.pending, 0);
    let stale = apply(&controller, &Ask::Agreed(planned.plan)).await.unwrap_err();
    assert!(matches!(stale, PassError::Stale(_)), "{stale}");
}
