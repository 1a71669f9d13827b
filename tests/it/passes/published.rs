//! Runbooks that a pass brings to their branch.

use std::time::Duration;

use backstay::{
    config::Config,
    reconcile::{Ask, Controller},
    status::Concern,
};

use super::{Fleet, Pass, all_done, apply, undeclared::with_identity};

/// A fleet with a recovery, whose controller keeps the runbook of it on a branch.
fn fleet() -> (Fleet, Config) {
    let fleet = Fleet::new();
    let (config, recipient) = with_identity(&fleet);
    let declared =
        fleet.declaration().replace(super::RECIPIENT, &format!("{}\", \"{recipient}", super::RECIPIENT));
    fleet.declare(&format!("{declared}\n[recovery.site]\nsteps = [{{ restore = \"shop\" }}]\n"));
    (fleet, Config { runbook_branch: Some("runbooks".to_owned()), ..config })
}

async fn pass_of(controller: &Controller) -> Pass {
    let pass = apply(controller, &Ask::Everything).await.unwrap();
    all_done(&pass);
    pass
}

fn is_unpublished(pass: &Pass) -> bool {
    pass.status.conditions.iter().any(|condition| condition.concern == Concern::RunbooksUnpublished)
}

#[tokio::test]
async fn a_runbook_is_pushed_when_it_says_something_else_and_only_then() {
    let (fleet, config) = fleet();
    let main = fleet.repo.id("main");
    let controller = Controller::open(config.clone(), fleet.clock.clone()).unwrap();
    pass_of(&controller).await;
    let first = fleet.repo.id("runbooks");
    let page = fleet.repo.git(&["show", "runbooks:site.md"]);
    let of_shop = |n: usize| fleet.manifests("vault", "shop")[n].trim_end_matches(".json").to_owned();
    assert!(page.contains(&of_shop(0)) && page.contains(&main[..10]), "{page}");
    assert!(fleet.repo.git(&["show", "runbooks:site.html"]).contains("<svg"));

    // Time alone changes nothing: neither for this process, nor for one that knows nothing of it.
    fleet.later(Duration::from_secs(3600));
    pass_of(&controller).await;
    std::fs::remove_dir_all(fleet.path("state")).unwrap();
    let controller = Controller::open(config, fleet.clock.clone()).unwrap();
    assert!(!is_unpublished(&pass_of(&controller).await));
    assert_eq!(fleet.repo.id("runbooks"), first);

    fleet.sell(1);
    fleet.later(Duration::from_secs(24 * 3600));
    pass_of(&controller).await;
    assert_eq!(fleet.repo.id("runbooks~1"), first);
    assert!(fleet.repo.git(&["show", "runbooks:site.md"]).contains(&of_shop(1)));
    // It is made from the rest: neither the declaration, nor the repo's own backup, knows of it.
    assert_eq!((fleet.repo.id("main"), fleet.manifests("vault", "infra").len()), (main, 1));
}

#[tokio::test]
async fn what_the_branch_holds_is_asked_each_time() {
    let (fleet, config) = fleet();
    let controller = Controller::open(config, fleet.clock.clone()).unwrap();
    pass_of(&controller).await;
    let page = fleet.repo.git(&["show", "runbooks:site.md"]);
    // Nothing else has changed.
    fleet.repo.git(&["branch", "-q", "-D", "runbooks"]);
    assert!(!is_unpublished(&pass_of(&controller).await));
    assert_eq!(fleet.repo.git(&["show", "runbooks:site.md"]), page);
}

#[tokio::test]
async fn what_can_not_be_pushed_is_told_fails_nothing_and_is_tried_again() {
    let (fleet, config) = fleet();
    fleet.repo.git(&["branch", "runbooks", "main"]);
    let controller = Controller::open(config, fleet.clock.clone()).unwrap();
    for _ in 0..2 {
        let pass = pass_of(&controller).await;
        assert!(is_unpublished(&pass), "{:?}", pass.status.conditions);
        assert!(pass.status.revisions.unpublished.as_ref().unwrap().contains("something else than runbooks"));
    }
    assert_eq!(fleet.repo.id("runbooks"), fleet.repo.id("main"));
    fleet.repo.git(&["branch", "-q", "-D", "runbooks"]);
    assert!(!is_unpublished(&pass_of(&controller).await));
    assert!(fleet.repo.git(&["show", "runbooks:site.md"]).contains("# Runbook: recovery `site`"));
}

#[test]
fn runbooks_never_go_to_the_branch_that_is_in_force() {
    let parsed = |branch: &str| {
        let text = format!(
            "state_dir = \"s\"\n[repo]\nurl = \"/r\"\n[keys]\ndir = \"k\"\n[runbook]\nbranch = \"{branch}\"\n"
        );
        Config::parse("backstay.toml", text.as_bytes(), std::path::Path::new("/"))
    };
    assert_eq!(parsed("runbooks").unwrap().runbook_branch.as_deref(), Some("runbooks"));
    for bad in ["main", "Main", "a..b", "-x", "x.lock"] {
        let found = parsed(bad).unwrap_err();
        assert!(found[0].message.contains("runbook.branch"), "{bad}: {found:?}");
    }
}
