//! Approvals of what a safety rule holds back, from the plan that names it to the records of what went.

mod by_commit;
mod on_the_host;

use std::time::Duration;

use backstay::{
    artifact::{ArtifactId, approval::PlanPrefix},
    plan::{Plan, Withheld},
    reconcile::{Controller, Word},
};
use jiff::SignedDuration;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A fleet that keeps a full a day, after its retention was shortened to less than half of what is stored.
async fn crowded() -> Fleet {
    let fleet = Fleet::declared();
    fill(&fleet, &fleet.controller()).await;
    shorten(&fleet);
    fleet
}

/// A full a day in each store, until now: nothing is deleted while the stores' clocks are not ours.
async fn fill(fleet: &Fleet, controller: &Controller) {
    fleet.clock.set(fleet.clock.now() - SignedDuration::from_hours(6 * 24));
    for _ in 0..6 {
        all_done(&pass(controller).await);
        fleet.later(DAY);
    }
    all_done(&pass(controller).await);
    fleet.later(Duration::from_secs(2));
}

fn shorten(fleet: &Fleet) -> String {
    fleet.declare(&shortened(fleet))
}

fn shortened(fleet: &Fleet) -> String {
    fleet.declaration().replace(r#"full = "14d""#, r#"full = "36h""#)
}

/// What is withheld in a store, which a person may approve.
fn withheld<'a>(plan: &'a Plan, store: &str) -> &'a Withheld {
    let found =
        plan.withheld.iter().find(|withheld| withheld.store.as_ref().is_some_and(|it| it.as_str() == store));
    let found = found.unwrap_or_else(|| panic!("nothing is withheld in {store}: {:?}", plan.withheld));
    assert_eq!((found.rule.as_str(), found.approvable), ("delete-share", true), "{found:?}");
    found
}

fn prefix(withheld: &Withheld) -> PlanPrefix {
    withheld.plan.unwrap().short().parse().unwrap()
}

fn word() -> Word {
    Word {
        by: "kai@workstation".to_owned(),
        reason: "retention was shortened".to_owned(),
        lasts: SignedDuration::from_hours(24),
    }
}

fn names(ids: &[ArtifactId]) -> Vec<String> {
    ids.iter().map(|id| format!("{id}.json")).collect()
}
