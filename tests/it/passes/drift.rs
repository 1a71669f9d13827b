//! Somebody changes what a controller has made; the next pass tells that from what is declared, and puts it back.

use std::{fs, path::PathBuf, time::Duration};

use backstay::{
    drift::Kind,
    reconcile::{Ask, Controller, Ending, Pass, Terms},
    status::{
        Concern,
        drifted::{Drifted, Healing},
    },
};

use super::{Fleet, all_done, apply, objects_below, pass, scheduled::with_cron, steps};

async fn drifted(fleet: &Fleet) -> Vec<Drifted> {
    seen_by(&fleet.controller()).await
}

async fn seen_by(controller: &Controller) -> Vec<Drifted> {
    controller.survey(&Terms::default()).await.unwrap().drift().drifts
}

fn kinds(drifts: &[Drifted]) -> Vec<Kind> {
    drifts.iter().map(|drifted| drifted.drift.kind).collect()
}

fn reasons(pass: &Pass) -> Vec<&str> {
    pass.plan.steps.iter().map(|step| step.reason.as_str()).collect()
}

/// Deletes the newest manifest of a backup in a store, as somebody with a shell there would.
fn delete_manifest(fleet: &Fleet, store: &str, backup: &str) -> String {
    let name = fleet.manifests(store, backup).pop().unwrap();
    let folder = fleet.path("stores").join(store).join("pavroto").join(backup).join("artifacts");
    fs::remove_file(folder.join(&name)).unwrap();
    name.strip_suffix(".json").unwrap().to_owned()
}

#[tokio::test]
async fn a_deleted_artifact_is_named_copied_again_and_drifts_no_more_with_or_without_checks() {
    for verify in ["", "verify = { metadata = \"1d\" }"] {
        let fleet = Fleet::new();
        let often = "rto = \"1h\"";
        fleet.declare(&fleet.declaration().replace(often, &format!("{often}\n{verify}")));
        all_done(&fleet.pass().await);
        assert_eq!(drifted(&fleet).await, []);
        let id = delete_manifest(&fleet, "offsite", "shop");

        // A controller that has lost all it knew sees it by the store's records.
        fs::remove_dir_all(fleet.path("state")).unwrap();
        let found = drifted(&fleet).await;
        assert_eq!(kinds(&found), [Kind::ArtifactGone], "{verify}");
        assert_eq!(found[0].drift.subject, format!("artifact {id} of shop in offsite"));
        let copy = format!("copy shop {id} from vault to offsite");
        assert_eq!(found[0].healing, Healing::Next { step: copy.clone() });

        let healed = fleet.pass().await;
        all_done(&healed);
        let step = healed.plan.steps.iter().find(|step| step.action.to_string() == copy).unwrap();
        assert_eq!(step.reason, "somebody deleted it from offsite");
        let heals = &healed.status.drift.heals;
        assert_eq!((heals.len(), heals[0].times, heals[0].is_fight), (1, 1, false));
        assert_eq!(drifted(&fleet).await, []);
    }
}

#[tokio::test]
async fn a_loss_that_nothing_heals_is_drift_until_a_person_takes_the_store_as_it_is() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    for store in ["vault", "offsite"] {
        delete_manifest(&fleet, store, "shop");
    }
    // A new full is due, and does not bring back the old one.
    fleet.pass().await;
    let found = drifted(&fleet).await;
    assert_eq!(kinds(&found), [Kind::ArtifactGone, Kind::ArtifactGone]);
    assert!(found.iter().all(|drifted| matches!(drifted.healing, Healing::None { .. })), "{found:?}");
    for store in ["vault", "offsite"] {
        let because = fleet.controller().adopt(&store.parse().unwrap(), "kai deleted it").await.unwrap();
        assert!(because.contains("somebody deleted it"), "{because}");
    }
    assert_eq!(drifted(&fleet).await, []);
    assert!(fleet.controller().adopt(&"vault".parse().unwrap(), "once more").await.is_err());
}

#[tokio::test]
async fn a_missing_pack_is_damage_and_what_its_repair_replaces_is_no_drift() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    let packs = objects_below(&fleet.path("stores/vault/pavroto/shop/packs"));
    let last = packs.iter().max().unwrap();
    fs::remove_file(last).unwrap();
    assert_eq!(kinds(&drifted(&fleet).await), [Kind::ArtifactDamaged]);
    all_done(&fleet.pass().await);
    assert_eq!(drifted(&fleet).await, []);
}

#[tokio::test]
async fn an_emptied_store_is_one_drift_and_is_filled_again() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    fleet.later(Duration::from_secs(24 * 3600));
    all_done(&fleet.pass().await);
    let emptied = fleet.path("stores/offsite/pavroto");
    fs::remove_dir_all(&emptied).unwrap();
    assert_eq!(kinds(&drifted(&fleet).await), [Kind::StoreEmptied], "by what this host remembers");
    fs::remove_dir_all(fleet.path("state")).unwrap();
    let found = drifted(&fleet).await;
    assert_eq!(kinds(&found), [Kind::StoreEmptied], "by what the other store has seen");
    assert!(found[0].drift.evidence.contains("store vault has seen its record"), "{found:?}");
    let healed = fleet.pass().await;
    all_done(&healed);
    assert!(reasons(&healed).iter().any(|reason| reason.starts_with("somebody emptied it: ")));
    assert_eq!(healed.status.drift.heals.len(), 1, "however many copies it took");
    assert_eq!(drifted(&fleet).await, []);
}

#[tokio::test]
async fn a_store_that_is_set_back_is_drift_that_waits_for_a_person() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    let (store, old) = (fleet.path("stores/offsite"), fleet.path("old"));
    copy_folder(&store, &old);
    fleet.later(Duration::from_secs(24 * 3600));
    all_done(&fleet.pass().await);
    fs::remove_dir_all(&store).unwrap();
    copy_folder(&old, &store);
    let found = drifted(&fleet).await;
    assert_eq!(kinds(&found), [Kind::StoreRefused]);
    assert!(matches!(&found[0].healing, Healing::None { remedy } if remedy.contains("backstay adopt")));
}

fn copy_folder(from: &PathBuf, to: &PathBuf) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[tokio::test]
async fn a_store_that_is_away_is_unseen_and_no_drift() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    delete_manifest(&fleet, "offsite", "shop");
    fs::rename(fleet.path("stores/offsite"), fleet.path("away")).unwrap();
    let report = fleet.controller().survey(&Terms::default()).await.unwrap().drift();
    assert_eq!(report.drifts, []);
    assert_eq!(report.unseen.iter().map(|it| it.subject.as_str()).collect::<Vec<_>>(), ["store.offsite"]);
}

#[tokio::test]
async fn a_rewound_mirror_is_told_from_one_that_is_behind_and_pushed_to_again() {
    let fleet = Fleet::new();
    let mirror = fleet.path("mirrors/infra.git");
    fs::create_dir_all(mirror.parent().unwrap()).unwrap();
    let mirrors = format!("[infra]\nmirrors = [\"{}\"]", mirror.display());
    fleet.declare(&fleet.declaration().replace("[infra]", &mirrors));
    let mut config = fleet.config();
    config.allow.mirrors = vec![mirror.parent().unwrap().display().to_string()];
    let controller = || Controller::open(config.clone(), fleet.clock.clone()).unwrap();
    let first = fleet.repo.id("HEAD");
    all_done(&pass(&controller()).await);
    let text = fs::read_to_string(fleet.repo.root.path().join("work/backup/fleet.toml"));
    fleet.declare(&format!(
        "{}\n# later",
        text.unwrap_or_else(|_| fleet.declaration().replace("[infra]", &mirrors))
    ));
    fleet.later(Duration::from_secs(60));
    assert_eq!(seen_by(&controller()).await, [], "it is behind, and nobody moved it");
    all_done(&pass(&controller()).await);

    crate::git::git(&mirror, &["update-ref", "refs/heads/main", &first]);
    let found = seen_by(&controller()).await;
    assert_eq!(kinds(&found), [Kind::MirrorMoved], "{found:?}");
    assert!(found[0].drift.found.contains(&format!("is at {} instead of", &first[..10])), "{found:?}");
    let healed = pass(&controller()).await;
    all_done(&healed);
    assert!(reasons(&healed)[0].starts_with("somebody moved it: refs/heads/main"), "{:?}", reasons(&healed));
    assert_eq!(seen_by(&controller()).await, []);
}

#[tokio::test]
async fn edited_and_deleted_files_of_cron_are_drift_and_another_configuration_is_not() {
    let fleet = Fleet::declared();
    let config = with_cron(&fleet);
    let open =
        |config: &backstay::config::Config| Controller::open(config.clone(), fleet.clock.clone()).unwrap();
    all_done(&pass(&open(&config)).await);
    assert_eq!(seen_by(&open(&config)).await, []);
    let file = fs::read_dir(fleet.path("cron.d")).unwrap().next().unwrap().unwrap().path();
    let written = fs::read_to_string(&file).unwrap();
    fs::write(&file, written.replace("--quiet ", "")).unwrap();
    let found = seen_by(&open(&config)).await;
    assert_eq!(kinds(&found), [Kind::ScheduleChanged]);
    assert_eq!(found[0].drift.subject, "schedule full of shop");
    fs::remove_file(&file).unwrap();
    assert_eq!(kinds(&seen_by(&open(&config)).await), [Kind::ScheduleGone]);
    let healed = pass(&open(&config)).await;
    assert_eq!(reasons(&healed), ["removed by hand"]);
    assert_eq!(seen_by(&open(&config)).await, []);

    let mut other = config.clone();
    if let backstay::config::Schedules::Cron { mail_to, .. } = &mut other.schedules {
        *mail_to = Some("ops@example.org".to_owned());
    }
    let plan = open(&other).plan(&Ask::Everything, &Terms::default()).await.unwrap();
    assert!(reasons(&plan)[0].starts_with("it reads otherwise than declared: "), "{:?}", reasons(&plan));
    assert_eq!(plan.status.drift.drifts, []);
}

#[tokio::test]
async fn with_self_heal_off_it_waits_for_a_persons_word() {
    let fleet = Fleet::new();
    let offsite = "location = \"there\"";
    fleet.declare(&fleet.declaration().replace(offsite, &format!("{offsite}\nself_heal = false")));
    all_done(&fleet.pass().await);
    let id = delete_manifest(&fleet, "offsite", "shop");
    let left = fleet.pass().await;
    assert_eq!((steps(&left), left.ending()), (Vec::new(), Ending::Partial));
    assert!(left.plan.waiting[0].on.contains("self-heal of store.offsite is off"), "{:?}", left.plan.waiting);
    assert!(left.status.conditions.iter().any(|condition| condition.concern == Concern::Drifted));
    let ask = Ask::Heal(["store.offsite".parse().unwrap()].into());
    let healed = apply(&fleet.controller(), &ask).await.unwrap();
    all_done(&healed);
    assert_eq!(
        (steps(&healed), healed.ending()),
        (vec![format!("copy shop {id} from vault to offsite")], Ending::Done)
    );
    assert_eq!(drifted(&fleet).await, []);

    // A store that was emptied stays so, also when the next capture goes into it.
    fs::remove_dir_all(fleet.path("stores/offsite/pavroto")).unwrap();
    fleet.later(Duration::from_secs(24 * 3600));
    fleet.pass().await;
    fleet.pass().await;
    assert_eq!(kinds(&drifted(&fleet).await), [Kind::StoreEmptied]);
    all_done(&apply(&fleet.controller(), &ask).await.unwrap());
    assert_eq!(drifted(&fleet).await, []);
}

#[tokio::test]
async fn what_fights_back_is_counted_also_by_a_controller_that_lost_its_state_and_slows_the_healing_down() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    for _ in 0..3 {
        delete_manifest(&fleet, "offsite", "shop");
        fleet.later(Duration::from_secs(20));
        let healed = fleet.pass().await;
        all_done(&healed);
        assert_eq!(steps(&healed).iter().filter(|step| step.starts_with("copy")).count(), 1);
        fs::remove_dir_all(fleet.path("state")).unwrap();
    }
    delete_manifest(&fleet, "offsite", "shop");
    let slowed = fleet.pass().await;
    assert!(steps(&slowed).iter().all(|step| !step.starts_with("copy")), "{:?}", steps(&slowed));
    let fight = slowed.status.conditions.iter().find(|it| it.concern == Concern::Fought).unwrap();
    assert!(fight.message.contains("healed 3 times within 24 hours"), "{fight:?}");
    assert!(slowed.next_due.unwrap() <= fleet.clock_now() + jiff::SignedDuration::from_mins(1));
    fleet.later(Duration::from_secs(60));
    let healed = fleet.pass().await;
    assert!(steps(&healed).iter().any(|step| step.starts_with("copy")), "{:?}", steps(&healed));
}
