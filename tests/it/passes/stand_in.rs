//! A revision that stands in for the one that was in force and is acceptable no more.

use std::time::Duration;

use backstay::reconcile::{Controller, Ending};

use super::{Fleet, RECIPIENT, all_done, pass};

const LONG_AGO: Duration = Duration::from_secs(15 * 24 * 3600);
const ESCROW: &str = "age1azjfk57nw7npfgadqvlc0gzgkjjgjvqq6mhn07c8rhqrrxpvsdeszk0dv7";

#[tokio::test]
async fn nothing_expires_under_a_revision_that_stands_in_for_another_one() {
    let fleet = Fleet::new();
    let both = format!("recipients = [\"{RECIPIENT}\", \"{ESCROW}\"]");
    let one = format!("recipients = [\"{RECIPIENT}\"]");
    let stand_in = fleet.declare(&fleet.declaration().replace(&one, &both));
    let in_force = fleet.declare(&fleet.declaration());
    // Stores go by the host's clock: what is to be old by it is made in the past.
    let now = fleet.clock_now();
    fleet.clock.set(now - LONG_AGO);
    all_done(&fleet.pass().await);
    let old = fleet.manifests("vault", "shop");
    fleet.clock.set(now);

    let mut demanding = fleet.config();
    demanding.keys.must_recipients = vec![ESCROW.to_owned()];
    let controller = Controller::open(demanding, fleet.clock.clone()).unwrap();
    for _ in 0..2 {
        let standing_in = pass(&controller).await;
        assert_eq!(
            (standing_in.revision.id.as_str(), standing_in.ending()),
            (&*stand_in, Ending::BadRevision)
        );
        let withheld = &standing_in.plan.withheld;
        assert!(
            withheld.iter().any(|w| w.rule == "revision" && w.reason.contains(&in_force)),
            "{withheld:?}"
        );
        let kept = fleet.manifests("vault", "shop");
        assert!(kept.len() == 2 && kept.contains(&old[0]), "{kept:?}");
    }
    drop(controller);

    let back = fleet.pass().await;
    all_done(&back);
    assert_eq!(back.revision.id, in_force);
    assert!(!fleet.manifests("vault", "shop").contains(&old[0]), "now it expires");
}
