//! Signed tags that name revisions.

use backstay::git::Mode;

use super::Scene;

fn scene() -> Scene {
    let scene = Scene::new(Mode::Tag { pattern: "backup-*".to_owned() });
    let kai = scene.key("kai", &["ed25519"]);
    scene.key("mallory", &["ed25519"]);
    scene.allow(&format!("kai@example.org {kai}\n"));
    scene
}

#[tokio::test]
async fn the_newest_signed_tag_names_the_revision_whatever_follows_it() {
    let scene = scene();
    scene.unsigned("a");
    let why = scene.choose(None).await.unwrap_err().to_string();
    assert!(why.contains("no tag that matches `backup-*`"), "{why}");
    scene.signed("kai", &["tag", "-s", "-m", "First", "backup-1"]);
    let second = scene.unsigned("b");
    scene.signed("kai", &["tag", "-s", "-m", "Second", "backup-2"]);
    scene.unsigned("c");
    scene.signed("kai", &["tag", "-s", "-m", "Not meant", "release-1"]);
    let choice = scene.choose(None).await.unwrap();
    assert_eq!((choice.revision, choice.newer), (second, None));
    assert_eq!(choice.signer.principal, "kai@example.org");
}

#[tokio::test]
async fn a_newer_tag_that_is_not_trusted_is_told_and_the_last_trusted_one_stands() {
    let scene = scene();
    let good = scene.unsigned("a");
    scene.signed("kai", &["tag", "-s", "-m", "First", "backup-1"]);
    scene.unsigned("b");
    for (tag, why) in [
        (vec!["tag", "backup-2"], "no annotated tag"),
        (vec!["tag", "-a", "-m", "Second", "backup-2"], "not signed"),
    ] {
        scene.repo.git(&tag);
        let choice = scene.choose(None).await.unwrap();
        assert_eq!(choice.revision, good);
        let newer = choice.newer.unwrap().to_string();
        assert!(newer.contains("tag backup-2") && newer.contains(why), "{newer}");
        scene.repo.git(&["tag", "-d", "backup-2"]);
    }
    scene.signed("mallory", &["tag", "-s", "-m", "Second", "backup-2"]);
    let newer = scene.choose(None).await.unwrap().newer.unwrap().to_string();
    assert!(newer.contains("Kai <kai@example.org>") && newer.contains("SHA256:"), "{newer}");
}

#[tokio::test]
async fn a_tag_that_was_moved_or_renamed_by_somebody_else_names_nothing() {
    let scene = scene();
    let good = scene.unsigned("a");
    scene.signed("kai", &["tag", "-s", "-m", "First", "backup-1"]);
    let other = scene.unsigned("b");
    // The same words for another commit, with the signature of the first.
    let forged = scene.repo.git(&["cat-file", "tag", "backup-1"]).replace(&good, &other) + "\n";
    let made = crate::git::fed_git(
        &scene.repo.path,
        &["hash-object", "-t", "tag", "-w", "--stdin"],
        forged.as_bytes(),
    );
    scene.repo.git(&["update-ref", "refs/tags/backup-1", &made]);
    let why = scene.choose(None).await.unwrap_err().to_string();
    assert!(why.contains("does not fit"), "{why}");

    scene.signed("kai", &["tag", "-s", "-f", "-m", "First", "backup-1"]);
    scene.repo.git(&["update-ref", "refs/tags/backup-9", "refs/tags/backup-1"]);
    scene.repo.git(&["tag", "-d", "backup-1"]);
    let why = scene.choose(None).await.unwrap_err().to_string();
    assert!(why.contains("tag backup-9") && why.contains("signed as tag backup-1"), "{why}");
}

#[tokio::test]
async fn a_signed_tag_does_not_make_up_for_an_unsigned_commit_where_commits_are_asked() {
    let scene = scene();
    scene.unsigned("a");
    scene.signed("kai", &["tag", "-s", "-m", "First", "backup-1"]);
    for mode in [Mode::Head, Mode::Every] {
        let scene = Scene { mode, repo: crate::git::Repo::empty() };
        let kai = scene.key("kai", &["ed25519"]);
        scene.allow(&format!("kai@example.org {kai}\n"));
        let base = scene.commit_by("kai", "a");
        scene.unsigned("b");
        scene.signed("kai", &["tag", "-s", "-m", "First", "backup-1"]);
        let why = scene.choose(Some(&base)).await.unwrap_err().to_string();
        assert!(why.contains("not signed"), "{why}");
    }
}
