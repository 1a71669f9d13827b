//! Trust in passes: what stays in force, what is told, and what the stores remember.

use std::{fs, time::Duration};

use backstay::{
    config::Config,
    reconcile::{
        Ask, Controller, Ending, PassError, Signature, Terms,
        desired::{NothingInForce, Obstacle},
    },
    status::Concern,
};

use super::Scene;
use crate::passes::{Fleet, apply};

/// A fleet whose host verifies commits; keys lie beside its repository.
struct Guarded {
    fleet: Fleet,
    scene: Scene,
    kai: String,
}

impl Guarded {
    fn new() -> Self {
        let fleet = Fleet::new();
        let keys = Scene::new(backstay::git::Mode::Every);
        let kai = keys.key("kai", &["ed25519"]);
        keys.key("mallory", &["ed25519"]);
        keys.allow(&format!("kai@example.org {kai}\n"));
        let guarded = Self { fleet, scene: keys, kai };
        guarded.declare("kai", "");
        guarded
    }

    /// Commits the declaration with a comment, signed with `key`.
    fn declare(&self, key: &str, comment: &str) -> String {
        let path = self.fleet.repo.path.join("backup/fleet.toml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{}\n# {comment}\n", self.fleet.declaration())).unwrap();
        self.fleet.repo.git(&["add", "--all"]);
        let key = format!("user.signingkey={}", self.scene.path(key).display());
        self.fleet.repo.git(&["-c", "gpg.format=ssh", "-c", &key, "commit", "-q", "-S", "-m", "Change"]);
        // Of two artifacts in one second nobody knows which is newer.
        self.fleet.later(Duration::from_secs(2));
        self.fleet.repo.id("HEAD")
    }

    fn config(&self) -> Config {
        Config {
            repo: backstay::config::Repo { trust: Some(self.scene.policy()), ..self.fleet.config().repo },
            ..self.fleet.config()
        }
    }

    fn controller(&self) -> Controller {
        Controller::open(self.config(), self.fleet.clock.clone()).unwrap()
    }
}

#[tokio::test]
async fn an_untrusted_revision_is_held_with_the_reason_and_the_repos_own_backup_goes_on() {
    let guarded = Guarded::new();
    let good = guarded.fleet.repo.id("HEAD");
    let controller = guarded.controller();
    let first = apply(&controller, &Ask::Everything).await.unwrap();
    assert_eq!(first.ending(), Ending::Done, "{:?}", first.status.conditions);
    assert_eq!(first.status.revisions.signer.as_ref().unwrap().principal, "kai@example.org");

    let evil = guarded.declare("mallory", "evil");
    for controller in [&controller, &guarded.controller()] {
        let held = apply(controller, &Ask::Everything).await.unwrap();
        assert_eq!((held.revision.id.as_str(), held.ending()), (good.as_str(), Ending::BadRevision));
        assert!(matches!(&held.obstacle, Some(Obstacle::Untrusted { revision, .. }) if *revision == evil));
        let told = &held.status.conditions[0];
        assert_eq!(told.concern, Concern::UntrustedRevision);
        let mallory = super::fingerprint(&guarded.scene.path("mallory"));
        assert!(
            told.message.contains(&mallory) && told.message.contains("Kai <kai@example.org>"),
            "{told:?}"
        );
        assert_eq!(guarded.fleet.manifests("vault", "infra").len(), 2);
    }

    // A trusted commit on top does not hide it.
    guarded.declare("kai", "on top");
    let held = apply(&controller, &Ask::Everything).await.unwrap();
    assert_eq!(held.revision.id, good);
    assert!(held.obstacle.unwrap().to_string().contains(&evil[..10]));
    // Nor does a lost state directory: an older trusted revision is found.
    fs::remove_dir_all(guarded.fleet.path("state")).unwrap();
    assert_eq!(apply(&guarded.controller(), &Ask::Everything).await.unwrap().revision.id, good);
}

#[tokio::test]
async fn a_revision_in_force_whose_signer_is_no_longer_named_stays_and_is_told() {
    let guarded = Guarded::new();
    let good = guarded.fleet.repo.id("HEAD");
    let controller = guarded.controller();
    apply(&controller, &Ask::Everything).await.unwrap();
    let listed = controller.survey(&Terms::default()).await.unwrap();
    let artifact = listed
        .inventory
        .stores
        .values()
        .next()
        .unwrap()
        .known()
        .unwrap()
        .backups
        .values()
        .next()
        .unwrap()
        .artifacts[0]
        .id;
    let traced = controller.trace(&listed, artifact).await.unwrap();
    assert!(matches!(&traced.signed_now, Signature::Counts(signer) if signer.principal == "kai@example.org"));
    assert_eq!(traced.signed_then.unwrap().principal, "kai@example.org");

    let ops = guarded.scene.key("ops", &["ed25519"]);
    guarded.scene.allow(&format!("ops@example.org {ops}\n"));
    let told = apply(&controller, &Ask::Everything).await.unwrap();
    assert_eq!((told.revision.id.as_str(), told.ending()), (good.as_str(), Ending::BadRevision));
    assert!(
        told.status.conditions[0].message.contains("not trusted any more"),
        "{:?}",
        told.status.conditions
    );
    assert_eq!(told.status.revisions.signer, None);
    let traced =
        controller.trace(&controller.survey(&Terms::default()).await.unwrap(), artifact).await.unwrap();
    assert!(matches!(traced.signed_now, Signature::DoesNotCount(_)));
    assert_eq!(traced.signed_then.unwrap().principal, "kai@example.org");

    // A commit by somebody who is named, on top of what was in force, puts it right.
    let next = guarded.declare("ops", "taken over");
    let taken = apply(&controller, &Ask::Everything).await.unwrap();
    assert_eq!(
        (taken.revision.id.as_str(), taken.ending()),
        (next.as_str(), Ending::Done),
        "{:?}",
        taken.status.conditions
    );
}

#[tokio::test]
async fn while_the_file_of_signers_cannot_be_used_nothing_newer_comes_into_force_and_backups_go_on() {
    let guarded = Guarded::new();
    let good = guarded.fleet.repo.id("HEAD");
    let controller = guarded.controller();
    apply(&controller, &Ask::Everything).await.unwrap();
    guarded.declare("kai", "next");
    guarded.scene.allow("kai@example.org nonsense\n");
    guarded.fleet.later(Duration::from_secs(26 * 3600));
    let held = apply(&controller, &Ask::Everything).await.unwrap();
    assert_eq!((held.revision.id.as_str(), held.ending()), (good.as_str(), Ending::BadRevision));
    assert!(held.obstacle.unwrap().to_string().contains("line 1"));
    assert_eq!(guarded.fleet.manifests("vault", "shop").len(), 2, "the schedule's backup was made");
    guarded.scene.allow(&format!("kai@example.org {}\n", guarded.kai));
    let next = apply(&controller, &Ask::Everything).await.unwrap();
    assert_eq!(next.revision.id, guarded.fleet.repo.id("HEAD"));
}

#[tokio::test]
async fn where_nothing_was_ever_trusted_nothing_is_in_force() {
    let guarded = Guarded::new();
    guarded.scene.allow("");
    let error = apply(&guarded.controller(), &Ask::Everything).await.unwrap_err();
    assert!(
        matches!(error, PassError::NothingInForce(NothingInForce::NoneGood(Obstacle::Untrusted { .. }))),
        "{error}"
    );
}
