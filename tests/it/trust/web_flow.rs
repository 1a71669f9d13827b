//! Merges by the web page of the host of the infra repo.

use std::fs;

use backstay::git::Mode;

use super::Scene;

/// A base in force, and a branch `side` of one commit that is not merged yet; `main` has moved on meanwhile.
fn scene(mode: Mode) -> (Scene, String) {
    let scene = Scene::new(mode);
    let (kai, page) = (scene.key("kai", &["ed25519"]), scene.key("page", &["ed25519"]));
    scene.allow(&format!("kai@example.org {kai}\n"));
    fs::write(scene.path("web-flow"), format!("noreply@forge.example {page}\n")).unwrap();
    let base = scene.commit_by("kai", "a");
    (scene, base)
}

fn merge(scene: &Scene) -> String {
    scene.signed("page", &["merge", "-q", "-S", "--no-ff", "-m", "Merge the request", "side"]);
    scene.repo.id("HEAD")
}

#[tokio::test]
async fn a_merge_of_trusted_commits_counts_by_the_pages_key() {
    for mode in [Mode::Head, Mode::Every] {
        let (scene, base) = scene(mode);
        scene.repo.git(&["checkout", "-q", "-b", "side"]);
        scene.commit_by("kai", "b");
        scene.repo.git(&["checkout", "-q", "main"]);
        merge(&scene);
        // A merge of a merge.
        scene.repo.git(&["checkout", "-q", "-B", "side", &base]);
        scene.commit_by("kai", "c");
        scene.repo.git(&["checkout", "-q", "main"]);
        let tip = merge(&scene);
        let choice = scene.choose(Some(&base)).await.unwrap();
        assert_eq!((choice.revision, choice.signer.principal), (tip, "noreply@forge.example".to_owned()));
    }
}

#[tokio::test]
async fn a_merge_with_an_untrusted_parent_does_not_count_however_deep_it_lies() {
    for mode in [Mode::Head, Mode::Every] {
        let (scene, base) = scene(mode);
        scene.repo.git(&["checkout", "-q", "-b", "side"]);
        let hidden = scene.unsigned("b");
        scene.repo.git(&["checkout", "-q", "main"]);
        merge(&scene);
        scene.repo.git(&["checkout", "-q", "-B", "side", &base]);
        scene.commit_by("kai", "c");
        scene.repo.git(&["checkout", "-q", "main"]);
        merge(&scene);
        let why = scene.choose(Some(&base)).await.unwrap_err().to_string();
        assert!(why.contains(&hidden[..10]) && why.contains("not signed"), "{why}");
    }
}

#[tokio::test]
async fn what_was_written_on_the_page_does_not_count() {
    let (scene, base) = scene(Mode::Every);
    scene.commit_by("page", "edited");
    let why = scene.choose(Some(&base)).await.unwrap_err().to_string();
    assert!(why.contains("merges of two commits only"), "{why}");

    scene.repo.git(&["reset", "-q", "--hard", &base]);
    scene.repo.git(&["checkout", "-q", "-b", "side"]);
    scene.commit_by("kai", "b");
    scene.repo.git(&["checkout", "-q", "main"]);
    scene.repo.git(&["merge", "-q", "--no-ff", "--no-commit", "side"]);
    // The merge adds something of its own.
    scene.commit_by("page", "slipped-in");
    let why = scene.choose(Some(&base)).await.unwrap_err().to_string();
    assert!(why.contains("not what merging its parents gives"), "{why}");
}

#[tokio::test]
async fn without_the_file_the_pages_key_is_one_like_any_other() {
    let (scene, base) = scene(Mode::Head);
    fs::remove_file(scene.path("web-flow")).unwrap();
    scene.repo.git(&["checkout", "-q", "-b", "side"]);
    scene.commit_by("kai", "b");
    scene.repo.git(&["checkout", "-q", "main"]);
    merge(&scene);
    assert!(scene.choose(Some(&base)).await.is_err());
}
