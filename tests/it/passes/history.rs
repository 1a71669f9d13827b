//! What becomes of the infra repo's history: rewrites wait for a person, and nothing that a server answers loses anything.

use std::{fs, net::TcpListener, path::Path, time::Duration};

use backstay::{
    config::{Config, Repo as RepoConfig},
    git::{RepoUrl, Tips},
    reconcile::{ApproveError, Ask, Controller, Ending, Pass, Word, desired::Obstacle},
    status::{Concern, Hold},
};
use jiff::SignedDuration;

use super::{Fleet, all_done, apply, approve, pass};
use crate::git::bundle::written;

/// Replaces the branch by one without its history; the new tip.
fn rewrite(fleet: &Fleet, comment: &str) -> String {
    fleet.later(Duration::from_secs(2));
    fleet.repo.git(&["checkout", "-q", "--orphan", "other"]);
    fleet.declare(&format!("{}\n# {comment}", fleet.declaration()));
    fleet.repo.git(&["branch", "-q", "-M", "other", "main"]);
    fleet.repo.id("HEAD")
}

fn is_held(pass: &Pass, old: &str) {
    assert_eq!((pass.revision.id.as_str(), pass.ending()), (old, Ending::BadRevision));
    assert!(matches!(pass.obstacle, Some(Obstacle::Rewritten { .. })), "{:?}", pass.obstacle);
}

#[tokio::test]
async fn a_held_rewrite_names_the_lost_commits_and_is_approved_for_exactly_that_step() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    let old = fleet.declare(&format!("{}\n# later", fleet.declaration()));
    fleet.later(Duration::from_secs(2));
    all_done(&fleet.pass().await);
    let first = rewrite(&fleet, "rewritten");

    let controller = fleet.controller();
    let held = pass(&controller).await;
    is_held(&held, &old);
    let told = &held.status.conditions[0];
    assert_eq!(told.concern, Concern::RewrittenBranch);
    for part in ["it has lost 2 commits", &old[..10], "Change backup/fleet.toml", "Kai <kai@example.org>"] {
        assert!(told.message.contains(part), "{part}: {}", told.message);
    }
    let revisions = &held.status.revisions;
    assert_eq!(
        (revisions.hold, revisions.lost.len(), revisions.lost[0].id.as_str()),
        (Some(Hold::Rewritten), 2, old.as_str())
    );

    let approved = approve(&fleet.controller(), &first[..12]).await;
    assert_eq!((approved.stores.len(), approved.lost.count, approved.faults.len()), (2, 2, 0));
    assert_eq!(
        (approved.approval.from.as_str(), approved.approval.to.as_str()),
        (old.as_str(), first.as_str())
    );
    // Before it is taken up, the branch is rewritten once more: nobody has approved that.
    let second = rewrite(&fleet, "rewritten again");
    is_held(&pass(&controller).await, &old);

    approve(&fleet.controller(), &second).await;
    // The controller that held it takes it up, and so would one that lost its state directory.
    let accepted = pass(&controller).await;
    assert_eq!(
        (accepted.revision.id.as_str(), accepted.ending()),
        (second.as_str(), Ending::Done),
        "{:?}",
        accepted.status.conditions
    );
}

#[tokio::test]
async fn an_approval_is_in_the_stores_and_expires() {
    let fleet = Fleet::declared();
    let old = fleet.repo.id("HEAD");
    all_done(&fleet.pass().await);
    let new = rewrite(&fleet, "rewritten");
    let controller = fleet.controller();
    is_held(&pass(&controller).await, &old);
    approve(&fleet.controller(), &new).await;
    fleet.later(Duration::from_secs(25 * 3600));
    is_held(&pass(&controller).await, &old);

    approve(&fleet.controller(), &new).await;
    fs::remove_dir_all(fleet.path("state")).unwrap();
    let accepted = fleet.pass().await;
    assert_eq!(accepted.revision.id, new, "only the stores knew of it");
}

#[tokio::test]
async fn what_is_not_held_is_not_approved() {
    let fleet = Fleet::declared();
    all_done(&fleet.pass().await);
    let word = || Word { by: "kai".into(), reason: "a try".into(), lasts: SignedDuration::from_hours(1) };
    let head = fleet.repo.id("HEAD");
    let not_held = fleet.controller().approve_rewrite(&head, word()).await;
    assert!(matches!(not_held, Err(ApproveError::NotHeld(_))), "{not_held:?}");
    let new = rewrite(&fleet, "rewritten");
    let another = fleet.controller().approve_rewrite(&head, word()).await;
    assert!(matches!(another, Err(ApproveError::Another { held, .. }) if held == new));
    fs::remove_dir_all(fleet.path("stores")).unwrap();
    let nowhere = fleet.controller().approve_rewrite(&new, word()).await;
    assert!(matches!(nowhere, Err(ApproveError::Unrecorded(_))), "{nowhere:?}");
}

#[tokio::test]
async fn old_tips_stay_in_bundles_while_held_after_approval_and_after_a_collection_of_garbage() {
    let fleet = Fleet::declared();
    let old = fleet.repo.id("HEAD");
    all_done(&fleet.pass().await);
    let new = rewrite(&fleet, "rewritten");
    is_held(&fleet.pass().await, &old);
    let kept = || {
        let mirror = fleet.path("state/mirror.git");
        crate::git::git(&mirror, &["gc", "-q", "--prune=now"]);
        assert_eq!(crate::git::git(&mirror, &["rev-parse", &format!("refs/backstay/old/{old}")]), old);
        crate::git::git(&mirror, &["fsck", "--connectivity-only"]);
        // It blocks, which a runtime's own thread may not.
        let written = || written(&mirror, &Tips::default()).unwrap();
        let (_, bundle) = std::thread::scope(|scope| scope.spawn(written).join().unwrap());
        let file = fleet.path("now.bundle");
        fs::write(&file, bundle).unwrap();
        let heads = crate::git::git(&mirror, &["bundle", "list-heads", file.to_str().unwrap()]);
        assert!(heads.contains(&format!("{old} refs/backstay/old/{old}")), "{heads}");
    };
    kept();
    approve(&fleet.controller(), &new).await;
    assert_eq!(fleet.pass().await.revision.id, new);
    kept();
    all_done(&fleet.pass().await);
    assert_eq!(fleet.manifests("vault", "infra").len(), 2, "one from before, and one of both histories");
}

/// Breaks the infra repo, or what stands in its place; the URL that is fetched from then.
type Mishap = fn(&Fleet) -> Option<String>;

fn delete_branch(fleet: &Fleet) -> Option<String> {
    fleet.repo.git(&["checkout", "-q", "--detach"]);
    fleet.repo.git(&["branch", "-q", "-D", "main"]);
    None
}

fn rename_branch(fleet: &Fleet) -> Option<String> {
    fleet.repo.git(&["branch", "-q", "-m", "main", "trunk"]);
    None
}

fn empty(fleet: &Fleet) -> Option<String> {
    fs::remove_dir_all(fleet.repo.path.join(".git")).unwrap();
    crate::git::git(&fleet.repo.path, &["init", "-q", "-b", "main"]);
    None
}

fn take_away(fleet: &Fleet) -> Option<String> {
    fs::rename(&fleet.repo.path, fleet.path("elsewhere")).unwrap();
    None
}

/// The branch names a file's content.
fn point_at_a_blob(fleet: &Fleet) -> Option<String> {
    let blob = fleet.repo.id("HEAD:backup/fleet.toml");
    fs::write(fleet.repo.path.join(".git/refs/heads/main"), format!("{blob}\n")).unwrap();
    None
}

/// The branch names a tag.
fn point_at_a_tag(fleet: &Fleet) -> Option<String> {
    fleet.repo.git(&["tag", "-a", "-m", "First", "v1"]);
    let tag = fleet.repo.git(&["rev-parse", "v1"]);
    fs::write(fleet.repo.path.join(".git/refs/heads/main"), format!("{tag}\n")).unwrap();
    None
}

/// The newest commit's object is torn.
fn corrupt(fleet: &Fleet) -> Option<String> {
    let id = fleet.declare(&format!("{}\n# torn", fleet.declaration()));
    let object = fleet.repo.path.join(".git/objects").join(&id[..2]).join(&id[2..]);
    fs::remove_file(&object).unwrap();
    fs::write(&object, "torn").unwrap();
    None
}

/// The newest commit holds a folder that no client may check out.
fn forge(fleet: &Fleet) -> Option<String> {
    let blob = fleet.repo.id("HEAD:backup/fleet.toml");
    let entry = format!("100644 blob {blob}\t.git\n");
    let tree = crate::git::fed_git(&fleet.repo.path, &["mktree"], entry.as_bytes());
    let id = fleet.repo.git(&["commit-tree", "-m", "Forged", "-p", "HEAD", &tree]);
    fleet.repo.git(&["update-ref", "refs/heads/main", &id]);
    None
}

/// A server that knows nothing of Git answers with a page.
fn answer_with_a_page(_: &Fleet) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::Write;
        for stream in listener.incoming().take(4).flatten() {
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>");
        }
    });
    Some(format!("https://127.0.0.1:{port}/infra.git"))
}

fn controller(fleet: &Fleet, url: Option<&str>) -> Controller {
    let config = fleet.config();
    let url = url.map_or(config.repo.url.clone(), |url| RepoUrl::parse(url).unwrap());
    let config = Config { repo: RepoConfig { url, ..config.repo.clone() }, ..config };
    Controller::open(config, fleet.clock.clone()).unwrap()
}

#[tokio::test]
async fn whatever_becomes_of_the_repository_the_last_good_revision_stays_and_nothing_is_deleted() {
    let mishaps: [(&str, Mishap); 9] = [
        ("the branch is deleted", delete_branch),
        ("the branch is renamed", rename_branch),
        ("the repository is emptied", empty),
        ("the repository is away", take_away),
        ("the branch names a blob", point_at_a_blob),
        ("the branch names a tag", point_at_a_tag),
        ("an object is corrupt", corrupt),
        ("an object is forged", forge),
        ("a page is answered", answer_with_a_page),
    ];
    for (what, mishap) in mishaps {
        let fleet = Fleet::declared();
        let good = fleet.repo.id("HEAD");
        all_done(&fleet.pass().await);
        let before = [fleet.manifests("vault", "shop"), fleet.manifests("vault", "infra")];
        let url = mishap(&fleet);
        fleet.later(Duration::from_secs(26 * 3600));
        let controller = controller(&fleet, url.as_deref());
        let held = apply(&controller, &Ask::Everything).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(held.revision.id, good, "{what}");
        let told = held.obstacle.is_some() || held.unreachable.is_some();
        assert!(told && held.ending() != Ending::Done, "{what}: {:?}", held.status.conditions);
        assert!(
            !matches!(held.obstacle, Some(Obstacle::Rewritten { .. })),
            "{what}: nobody can approve that"
        );
        let kept = |store: &str, earlier: &[String]| {
            let now = fleet.manifests("vault", store);
            assert!(earlier.iter().all(|artifact| now.contains(artifact)), "{what}: {store}");
        };
        kept("shop", &before[0]);
        kept("infra", &before[1]);
        assert_eq!(fleet.manifests("vault", "shop").len(), 2, "{what}: the schedule's backup was made");
        let mirror = fleet.path("state/mirror.git");
        assert!(reaches(&mirror, &good), "{what}: the mirror still has it");
    }
}

/// Whether a branch, a tag or a kept tip of the mirror leads to the commit.
fn reaches(mirror: &Path, id: &str) -> bool {
    !crate::git::git(mirror, &["for-each-ref", "--contains", id]).is_empty()
}
