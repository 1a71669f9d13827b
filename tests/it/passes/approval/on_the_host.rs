//! Approvals by a person on the host.

use backstay::reconcile::ApprovePlanError;

use super::*;

#[tokio::test]
async fn what_is_approved_goes_and_nothing_else_and_the_records_tell_by_whose_word() {
    let fleet = crowded().await;
    let controller = fleet.controller();
    let held = pass(&controller).await;
    assert_eq!(held.ending(), Ending::Withheld, "{:?}\n{:?}", held.plan, held.status.conditions);
    let vault = withheld(&held.plan, "vault").clone();
    assert_eq!(vault.artifacts.len(), 5, "of seven");
    assert_ne!(vault.plan, withheld(&held.plan, "offsite").plan, "each store is a plan of its own");
    let told = held.status.conditions.iter().find(|told| told.message.contains("in vault")).unwrap();
    let command = format!("backstay approve {}", vault.plan.unwrap().short());
    assert!(told.message.contains(&command), "{told:?}");

    // By another process, beside the one that runs.
    let approved = fleet.controller().approve_plans(&[prefix(&vault)], &word()).await.unwrap();
    assert_eq!((approved.approvals.len(), approved.stores.len(), approved.faults.len()), (1, 2, 0));
    let planned = controller.plan(&Ask::Everything, &Terms::default()).await.unwrap();
    assert_eq!(planned.status.approved[0].warrant.reason, "retention was shortened");
    let before = fleet.manifests("offsite", "shop");
    let done = pass(&controller).await;
    all_done(&done);
    assert_eq!(done.plan.withheld.len(), 1, "{:?}", done.plan.withheld);
    assert_eq!(withheld(&done.plan, "offsite").artifacts, vault.artifacts);
    let left = fleet.manifests("vault", "shop");
    assert_eq!(left.len(), 2);
    assert!(names(&vault.artifacts).iter().all(|gone| !left.contains(gone) && before.contains(gone)));
    assert_eq!(fleet.manifests("offsite", "shop"), before);

    // Whoever asks later learns why it is gone.
    let survey = controller.survey(&Terms::default()).await.unwrap();
    let departures = controller.departures(&survey, vault.artifacts[0]).await;
    assert_eq!((departures.len(), departures[0].store.as_str()), (1, "vault"));
    let warrant = departures[0].warrant.as_ref().unwrap();
    assert_eq!((warrant.by.as_str(), Some(warrant.plan)), ("kai@workstation", vault.plan));

    // What was approved does not count against what may go of itself.
    let stored = &survey.inventory.stores.values().map(|store| store.known().unwrap()).collect::<Vec<_>>();
    assert!(stored.iter().all(|store| store.backups.values().all(|shop| shop.deletions.is_empty())));
    // A lost state directory forgets none of it.
    fs::remove_dir_all(fleet.path("state")).unwrap();
    let again = fleet.pass().await;
    assert_eq!(again.plan.approved, []);
    assert_eq!(withheld(&again.plan, "offsite").store.as_ref().unwrap().as_str(), "offsite");
}

#[tokio::test]
async fn several_plans_are_approved_at_once() {
    let fleet = crowded().await;
    let controller = fleet.controller();
    let held = controller.plan(&Ask::Everything, &Terms::default()).await.unwrap();
    let plans: Vec<PlanPrefix> = held.plan.withheld.iter().map(prefix).collect();
    assert_eq!(plans.len(), 2);
    controller.approve_plans(&plans, &word()).await.unwrap();
    let done = pass(&controller).await;
    all_done(&done);
    assert_eq!((done.plan.withheld.as_slice(), fleet.manifests("offsite", "shop").len()), (&[][..], 2));
}

#[tokio::test]
async fn an_approval_of_what_is_no_longer_so_is_refused_and_lets_nothing_go() {
    let fleet = crowded().await;
    let controller = fleet.controller();
    let held = controller.plan(&Ask::Everything, &Terms::default()).await.unwrap();
    let old = withheld(&held.plan, "vault").clone();
    controller.approve_plans(&[prefix(&old)], &word()).await.unwrap();
    let again = controller.approve_plans(&[prefix(&old)], &word()).await.unwrap_err();
    assert!(matches!(&again, ApprovePlanError::Already { by, .. } if by.by == "kai@workstation"), "{again}");

    // Before it is taken up, there is one artifact more.
    let request = manual::Request { backup: "shop".parse().unwrap(), kind: Kind::Full, reason: None };
    all_done(&apply(&controller, &Ask::Backup(vec![request], Keep::ByPolicy)).await.unwrap());
    let done = pass(&controller).await;
    let now = withheld(&done.plan, "vault");
    assert_ne!(now.plan, old.plan);
    assert_eq!(fleet.manifests("vault", "shop").len(), 8);
    let stale = controller.approve_plans(&[prefix(&old)], &word()).await.unwrap_err();
    assert!(matches!(stale, ApprovePlanError::NotWithheld { .. }));
    let (stale, now) = (stale.to_string(), now.plan.unwrap().short());
    assert!(stale.contains(&old.plan.unwrap().short()) && stale.contains(&now), "{stale}");
}

#[tokio::test]
async fn an_approval_counts_for_one_declaration_and_until_it_expires() {
    let fleet = crowded().await;
    let controller = fleet.controller();
    let held = controller.plan(&Ask::Everything, &Terms::default()).await.unwrap();
    let short = Word { lasts: SignedDuration::from_mins(3), ..word() };
    controller.approve_plans(&[prefix(withheld(&held.plan, "vault"))], &short).await.unwrap();

    let other = fleet.declare(&format!("{}\n# something else", shortened(&fleet)));
    let told = controller.plan(&Ask::Everything, &Terms::default()).await.unwrap();
    assert_eq!((told.revision.id.as_str(), told.plan.approved.len()), (other.as_str(), 0));
    withheld(&told.plan, "vault");
    // The same declaration as before, though by another commit.
    shorten(&fleet);
    let told = controller.plan(&Ask::Everything, &Terms::default()).await.unwrap();
    assert_eq!(told.plan.approved.len(), 1);

    fleet.later(Duration::from_secs(181));
    let late = pass(&controller).await;
    assert!(withheld(&late.plan, "vault").reason.contains("it expired"), "{:?}", late.plan.withheld);
    assert_eq!(fleet.manifests("vault", "shop").len(), 7);
    let long = Word { lasts: SignedDuration::from_hours(31 * 24), ..word() };
    let asked = [prefix(withheld(&late.plan, "vault"))];
    assert!(matches!(controller.approve_plans(&asked, &long).await, Err(ApprovePlanError::TooLong)));
}

#[tokio::test]
async fn a_rule_that_nobody_may_overrule_is_named_to_whoever_tries() {
    let fleet = crowded().await;
    let controller = fleet.controller();
    let held = controller.plan(&Ask::Everything, &Terms::default()).await.unwrap();
    let vault = withheld(&held.plan, "vault").clone();
    controller.approve_plans(&[prefix(&vault)], &word()).await.unwrap();
    // Somebody holds what would go; retention leaves it alone, so that something else would go.
    let hold = backstay::reconcile::Saying::Hold(vault.artifacts[0], "court order".to_owned());
    controller.say(hold).await.unwrap();
    let told = pass(&controller).await;
    assert_eq!(told.plan.approved, []);
    assert!(fleet.manifests("vault", "shop").contains(&names(&vault.artifacts)[0]));

    // While a manifest can't be read, there is nothing to approve.
    let offsite = fleet.path("stores/offsite/pavroto/shop/artifacts");
    let manifest = fs::read_dir(&offsite).unwrap().map(|entry| entry.unwrap().path());
    let manifest = manifest.into_iter().find(|path| path.extension().is_some_and(|it| it == "json")).unwrap();
    fs::write(manifest, "nonsense").unwrap();
    let told = controller.plan(&Ask::Everything, &Terms::default()).await.unwrap();
    let asked = [prefix(withheld(&held.plan, "offsite"))];
    let refused = controller.approve_plans(&asked, &word()).await.unwrap_err().to_string();
    assert!(refused.contains("`unreadable`"), "{refused}\n{:?}", told.plan.withheld);
}

#[tokio::test]
async fn a_saved_plan_is_applied_with_what_was_approved_when_it_was_saved_and_with_nothing_else() {
    let fleet = crowded().await;
    let controller = fleet.controller();
    let held = controller.plan(&Ask::Everything, &Terms::default()).await.unwrap();
    let saved = |pass: &Pass| {
        let path = fleet.path("plan.json");
        saved::save(&path, &pass.plan).unwrap();
        saved::load(&path).unwrap()
    };
    // Deletions are withheld, and the rest of it is what a pass would do.
    let before = saved(&held);
    controller.approve_plans(&[prefix(withheld(&held.plan, "vault"))], &word()).await.unwrap();
    let after = saved(&controller.plan(&Ask::Everything, &Terms::default()).await.unwrap());
    let refused = apply(&controller, &Ask::Exactly(before)).await.unwrap_err();
    assert!(matches!(refused, PassError::Stale(_)), "{refused}");
    assert_eq!(fleet.manifests("vault", "shop").len(), 7);
    let done = apply(&controller, &Ask::Exactly(after)).await.unwrap();
    all_done(&done);
    assert_eq!((fleet.manifests("vault", "shop").len(), done.ending()), (2, Ending::Withheld));
    // Also with something withheld, a plan is what it was.
    let rest = saved(&controller.plan(&Ask::Everything, &Terms::default()).await.unwrap());
    assert_eq!(apply(&controller, &Ask::Exactly(rest)).await.unwrap().ending(), Ending::Withheld);
}
