//! Passes of a controller that goes on: one that would find what the last one left costs next to nothing.

use std::{fs, sync::Arc, time::Duration};

use backstay::{
    apply::executor::{Failure, Halt, Listener, Outcome},
    config::{Config, Host, Schedules},
    observe::Freshness,
    plan::{Action, Step},
    reconcile::{Ask, Controller, Line, Pass, Terms},
    status::ObjectiveState,
};

use jiff::SignedDuration;
use tokio::sync::Notify;

use super::{Deaf, Fleet, all_done, gates::Gates, steps};

const RECENT: Freshness = Freshness::Within(Duration::from_secs(600));
const MINUTE: Duration = Duration::from_secs(60);
/// One slot, and no more, comes in any five minutes.
const OFTEN: &str = "full = { every = \"5m\" }";

/// A pass that somebody caused by saying "look".
async fn look(controller: &Controller) -> Pass {
    let deaf: Arc<dyn Listener> = Arc::new(Deaf);
    look_heard(controller, &deaf).await
}

async fn look_heard(controller: &Controller, listener: &Arc<dyn Listener>) -> Pass {
    let (line, ask, terms) = (Line::default(), Ask::Everything, Terms::default());
    line.look(RECENT);
    controller.apply_hearing(&line, &ask, &terms, &Halt::default(), listener).await.unwrap()
}

/// A fleet with nothing to do, and its controller.
async fn settled() -> (Fleet, Controller) {
    let fleet = Fleet::declared();
    let controller = fleet.controller();
    all_done(&look(&controller).await);
    assert_eq!(look(&controller).await.status.pending, 0);
    (fleet, controller)
}

fn fulls(fleet: &Fleet) -> usize {
    fleet.manifests("vault", "shop").len()
}

#[tokio::test]
async fn a_look_at_what_has_not_changed_does_not_even_plan() {
    let (fleet, controller) = settled().await;
    let before = look(&controller).await;
    fleet.later(MINUTE);
    let after = look(&controller).await;
    assert_eq!(after.status, before.status, "it is told as it was");
    assert_eq!(steps(&after), Vec::<String>::new());
    assert!(!controller.state().is_busy());
}

#[tokio::test]
async fn a_commit_is_found_by_the_next_look() {
    let (fleet, controller) = settled().await;
    fleet.later(MINUTE);
    fleet.declare(&fleet.declaration_with("full = { every = \"12h\" }"));
    let found = look(&controller).await;
    let steps = steps(&found);
    assert!(steps.contains(&"arm full of shop".to_owned()), "{steps:?}");
    assert_eq!(look(&controller).await.revision.id, found.revision.id);
}

#[tokio::test]
async fn what_falls_due_is_made_by_the_next_look() {
    let (fleet, controller) = settled().await;
    fleet.declare(&fleet.declaration_with(OFTEN));
    look(&controller).await;
    look(&controller).await;
    let before = fulls(&fleet);
    fleet.later(5 * MINUTE);
    look(&controller).await;
    assert_eq!(fulls(&fleet), before + 1);
}

#[tokio::test]
async fn what_another_process_did_is_looked_at() {
    let (fleet, controller) = settled().await;
    fleet.later(MINUTE);
    assert_ne!(look(&controller).await.status.at, fleet.clock_now());
    fleet.pass().await;
    assert_eq!(look(&controller).await.status.at, fleet.clock_now());
}

#[tokio::test]
async fn a_listing_that_is_too_old_is_made_anew() {
    let (fleet, controller) = settled().await;
    fs::remove_dir_all(fleet.path("stores/offsite/pavroto/shop")).unwrap();
    fleet.later(10 * MINUTE + Duration::from_secs(1));
    look(&controller).await;
    assert_eq!(fleet.manifests("offsite", "shop").len(), 1);
}

#[tokio::test]
async fn a_schedule_that_was_taken_away_is_armed_by_the_next_look() {
    let fleet = Fleet::declared();
    let folder = fleet.path("cron.d");
    fs::create_dir(&folder).unwrap();
    let host = Host { folder: Some(folder.clone()), user: "root".into(), program: None };
    let config = Config { schedules: Schedules::Cron { host, mail_to: None }, ..fleet.config() };
    let controller = Controller::open(config, fleet.clock.clone()).unwrap();
    look(&controller).await;
    look(&controller).await;
    let armed = || fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let [file] = &armed()[..] else { panic!("{:?}", armed()) };
    fs::remove_file(file).unwrap();
    look(&controller).await;
    assert_eq!(armed(), std::slice::from_ref(file));
}

#[tokio::test]
async fn an_objective_that_is_breached_meanwhile_is_told() {
    let (fleet, controller) = settled().await;
    let suspension = "[suspend.move]\nbackup = \"shop\"\nuntil = \"2099-01-01\"\nreason = \"it moves\"";
    fleet.declare(&format!("{}\n{suspension}", fleet.declaration()));
    let objective = |pass: &Pass| pass.status.backups["shop"].objective.clone().unwrap();
    let breach = objective(&look(&controller).await).breached_at.unwrap();
    fleet.clock.set(breach - SignedDuration::from_mins(5));
    look(&controller).await;
    assert_eq!(objective(&look(&controller).await).state, ObjectiveState::Met);
    fleet.clock.set(breach + SignedDuration::from_mins(1));
    assert_eq!(objective(&look(&controller).await).state, ObjectiveState::Breached);
}

/// A further backup, by the policy of `declared`.
fn with_till(fleet: &Fleet, declared: &str) -> String {
    let till = "[backup.till]\npolicy = \"often\"\nstores = [\"vault\"]";
    let source = format!("sqlite = {{ path = \"{}\" }}", fleet.path("data/shop.db").display());
    format!("{declared}\n{till}\n{source}")
}

#[tokio::test]
async fn what_a_commit_touches_is_told_beside_the_rest_as_a_pass_over_everything_tells_it() {
    let (fleet, controller) = settled().await;
    fleet.later(MINUTE);
    fleet.declare(&with_till(&fleet, &fleet.declaration()));
    let beside = look(&controller).await;
    assert_eq!(fleet.manifests("vault", "till").len(), 1);
    let as_seen = Terms { freshness: Freshness::AsSeen };
    let whole = controller.plan(&Ask::Everything, &as_seen).await.unwrap();
    assert_eq!(beside.status, whole.status);
    assert_eq!(beside.next_due, whole.next_due);
}

#[tokio::test]
async fn what_was_seen_meanwhile_is_planned_for_with_what_a_commit_touches() {
    let (fleet, controller) = settled().await;
    fs::remove_dir_all(fleet.path("stores/offsite/pavroto/shop")).unwrap();
    fleet.later(MINUTE);
    controller.survey(&Terms { freshness: Freshness::Now }).await.unwrap();
    fleet.declare(&with_till(&fleet, &fleet.declaration()));
    look(&controller).await;
    assert_eq!(fleet.manifests("offsite", "shop").len(), 1);
}

#[tokio::test]
async fn what_falls_due_is_made_with_what_a_commit_touches() {
    let (fleet, controller) = settled().await;
    let often = fleet.declaration_with(OFTEN);
    fleet.declare(&often);
    look(&controller).await;
    look(&controller).await;
    let before = fulls(&fleet);
    fleet.later(5 * MINUTE);
    fleet.declare(&with_till(&fleet, &often));
    look(&controller).await;
    assert_eq!(fulls(&fleet), before + 1);
    assert_eq!(fleet.manifests("vault", "till").len(), 1);
}

/// Tells when a schedule is armed.
#[derive(Default)]
struct Armed(Notify);

impl Listener for Armed {
    fn started(&self, _: &Step) {}

    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}

    fn ended(&self, step: &Step, outcome: &Outcome) {
        if let (Action::Arm(schedule), Outcome::Done(_)) = (&step.action, outcome)
            && schedule.backup.as_str() == "till"
        {
            self.0.notify_one();
        }
    }
}

#[tokio::test]
async fn what_a_commit_schedules_is_armed_while_the_rest_of_the_fleet_is_still_looked_at() {
    let (fleet, gates) = (Fleet::declared(), Gates::default());
    let controller = Arc::new(gates.before(fleet.controller()));
    look(&controller).await;
    look(&controller).await;
    fleet.later(11 * MINUTE);
    fleet.declare(&with_till(&fleet, &fleet.declaration()));

    gates.shut("list of offsite");
    let (armed, looking) = (Arc::new(Armed::default()), controller.clone());
    let hears: Arc<dyn Listener> = armed.clone();
    let pass = tokio::spawn(async move { look_heard(&looking, &hears).await });
    gates.reached("list of offsite").await;
    tokio::time::timeout(Duration::from_secs(60), armed.0.notified()).await.expect("it is armed meanwhile");
    assert_eq!(fleet.manifests("vault", "till"), Vec::<String>::new());
    gates.open("list of offsite");
    pass.await.unwrap();
    assert_eq!(fleet.manifests("vault", "till").len(), 1);
}
