//! What every scheduler must meet.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use backstay::{
    artifact::Kind,
    inventory::{Armed, ArmedSchedule},
    schedulers::Scheduler,
    spec::Cadence,
};

/// A scheduler under test.
pub struct Subject {
    /// The fleet's, and the same opened anew.
    pub open: Box<dyn Fn() -> Arc<dyn Scheduler>>,
    /// That of another fleet in the same place, for those that share one.
    pub neighbour: Option<Arc<dyn Scheduler>>,
}

/// Runs the whole suite on a scheduler that holds nothing.
pub async fn run(subject: Subject) {
    let scheduler = (subject.open)();
    assert_eq!(scheduler.list().await.unwrap(), Armed::default(), "nothing is armed at first");
    what_is_armed_is_listed_once_and_survives(&subject).await;
    a_changed_cadence_leaves_the_new_one_in_whichever_order(scheduler.as_ref()).await;
    disarming_takes_that_schedule_only(scheduler.as_ref()).await;
    names_keep_every_allowed_character(scheduler.as_ref()).await;
    many_at_once_do_not_disturb_each_other(&scheduler).await;
    if let Some(neighbour) = &subject.neighbour {
        fleets_do_not_see_each_other(scheduler.as_ref(), neighbour.as_ref()).await;
    }
}

pub fn cron(backup: &str, kind: Kind, text: &str) -> ArmedSchedule {
    ArmedSchedule {
        backup: backup.parse().expect("a test's own name"),
        kind,
        cadence: Cadence::Cron(text.parse().expect("a test's own expression")),
    }
}

async fn schedules(scheduler: &dyn Scheduler) -> BTreeSet<ArmedSchedule> {
    let armed = scheduler.list().await.expect("it can be listed");
    assert_eq!((armed.altered.len(), armed.strangers.len()), (0, 0), "{armed:?}");
    armed.schedules
}

async fn disarm_all(scheduler: &dyn Scheduler) {
    for schedule in schedules(scheduler).await {
        scheduler.disarm(&schedule).await.unwrap();
    }
    assert_eq!(schedules(scheduler).await, BTreeSet::new());
}

async fn what_is_armed_is_listed_once_and_survives(subject: &Subject) {
    let scheduler = (subject.open)();
    let every = ArmedSchedule {
        cadence: Cadence::Every(Duration::from_secs(900)),
        ..cron("agama", Kind::Log, "* * * * *")
    };
    let wanted = BTreeSet::from([cron("agama", Kind::Full, "0 1 * * *"), every]);
    for schedule in wanted.iter().chain(&wanted) {
        scheduler.arm(schedule).await.unwrap();
    }
    assert_eq!(schedules(scheduler.as_ref()).await, wanted);
    assert_eq!(schedules((subject.open)().as_ref()).await, wanted, "opened anew");
    disarm_all(scheduler.as_ref()).await;
}

async fn a_changed_cadence_leaves_the_new_one_in_whichever_order(scheduler: &dyn Scheduler) {
    let (old, new) = (cron("agama", Kind::Full, "0 1 * * *"), cron("agama", Kind::Full, "0 2 * * *"));
    for arm_first in [false, true] {
        scheduler.arm(&old).await.unwrap();
        if arm_first {
            scheduler.arm(&new).await.unwrap();
        }
        scheduler.disarm(&old).await.unwrap();
        scheduler.arm(&new).await.unwrap();
        assert_eq!(schedules(scheduler).await, BTreeSet::from([new.clone()]), "armed first: {arm_first}");
        disarm_all(scheduler).await;
    }
}

async fn disarming_takes_that_schedule_only(scheduler: &dyn Scheduler) {
    let (full, log) = (cron("agama", Kind::Full, "0 1 * * *"), cron("agama", Kind::Log, "*/5 * * * *"));
    for schedule in [&full, &log] {
        scheduler.arm(schedule).await.unwrap();
    }
    scheduler.disarm(&cron("never-armed", Kind::Full, "0 1 * * *")).await.unwrap();
    scheduler.disarm(&full).await.unwrap();
    scheduler.disarm(&full).await.unwrap();
    assert_eq!(schedules(scheduler).await, BTreeSet::from([log]));
    disarm_all(scheduler).await;
}

async fn names_keep_every_allowed_character(scheduler: &dyn Scheduler) {
    let longest = "a".repeat(63);
    let names = ["a", "0", "a.b", "a-b", "a_b", "adotb", "a-full", "a.timer", longest.as_str()];
    let wanted: BTreeSet<ArmedSchedule> =
        names.iter().map(|name| cron(name, Kind::Full, "5/10 1 */2 jan,12 mon-fri")).collect();
    for schedule in &wanted {
        scheduler.arm(schedule).await.unwrap();
    }
    assert_eq!(schedules(scheduler).await, wanted);
    disarm_all(scheduler).await;
}

async fn many_at_once_do_not_disturb_each_other(scheduler: &Arc<dyn Scheduler>) {
    let wanted: BTreeSet<ArmedSchedule> =
        (0..20).map(|n| cron(&format!("backup-{n}"), Kind::Full, "0 1 * * *")).collect();
    let arms = wanted.iter().map(|schedule| scheduler.arm(schedule));
    for armed in futures::future::join_all(arms).await {
        armed.unwrap();
    }
    assert_eq!(schedules(scheduler.as_ref()).await, wanted);
    disarm_all(scheduler.as_ref()).await;
}

async fn fleets_do_not_see_each_other(ours: &dyn Scheduler, theirs: &dyn Scheduler) {
    let (mine, their_own) = (cron("agama", Kind::Full, "0 1 * * *"), cron("agama", Kind::Full, "0 3 * * *"));
    ours.arm(&mine).await.unwrap();
    theirs.arm(&their_own).await.unwrap();
    ours.disarm(&their_own).await.unwrap();
    assert_eq!(schedules(ours).await, BTreeSet::from([mine]));
    assert_eq!(schedules(theirs).await, BTreeSet::from([their_own]));
    disarm_all(ours).await;
    assert_eq!(schedules(theirs).await.len(), 1);
    disarm_all(theirs).await;
}
