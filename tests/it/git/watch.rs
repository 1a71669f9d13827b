use std::time::Duration;

use backstay::git::{RepoUrl, Watch};

use super::{Repo, git};

/// Longer than any event takes; a test that passes never waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

async fn wakes(watch: &mut Watch) {
    tokio::time::timeout(DEADLINE, watch.changed()).await.expect("no wake-up").expect("the watch has ended");
}

/// Takes the wake-ups that are there already: the file system may tell of one change several times.
async fn quiet(watch: &mut Watch) {
    while tokio::time::timeout(Duration::from_millis(300), watch.changed()).await.is_ok() {}
}

#[tokio::test]
async fn commits_branches_and_packed_references_wake() {
    let repo = Repo::with_a_commit();
    let mut watch = Watch::start(&repo.url()).unwrap().unwrap();
    repo.commit("backup/a.toml", "a = 1\n");
    wakes(&mut watch).await;
    quiet(&mut watch).await;
    repo.git(&["update-ref", "refs/heads/feature/deep/x", "HEAD"]);
    wakes(&mut watch).await;
    quiet(&mut watch).await;
    repo.git(&["update-ref", "refs/heads/feature/deep/x", "HEAD~1"]);
    wakes(&mut watch).await;
    quiet(&mut watch).await;
    repo.git(&["pack-refs", "--all"]);
    wakes(&mut watch).await;
}

#[tokio::test]
async fn a_push_to_a_bare_repository_wakes() {
    let repo = Repo::with_a_commit();
    git(repo.root.path(), &["clone", "-q", "--bare", "infra", "bare.git"]);
    let url = RepoUrl::parse(repo.root.path().join("bare.git").to_str().unwrap()).unwrap();
    let mut watch = Watch::start(&url).unwrap().unwrap();
    repo.commit("backup/a.toml", "a = 1\n");
    repo.git(&["push", "-q", "../bare.git", "main"]);
    wakes(&mut watch).await;
}

#[tokio::test]
async fn a_repository_that_is_replaced_is_watched_again() {
    let repo = Repo::with_a_commit();
    let mut watch = Watch::start(&repo.url()).unwrap().unwrap();
    std::fs::rename(&repo.path, repo.root.path().join("away")).unwrap();
    wakes(&mut watch).await;
    git(repo.root.path(), &["clone", "-q", "away", "infra"]);
    wakes(&mut watch).await;
    quiet(&mut watch).await;
    repo.commit("backup/a.toml", "a = 1\n");
    wakes(&mut watch).await;
}

#[tokio::test]
async fn a_repository_that_does_not_exist_yet_wakes_when_it_appears() {
    let repo = Repo::with_a_commit();
    let later = repo.root.path().join("not/yet/there.git");
    let mut watch = Watch::start(&RepoUrl::parse(later.to_str().unwrap()).unwrap()).unwrap().unwrap();
    std::fs::create_dir_all(later.parent().unwrap()).unwrap();
    git(repo.root.path(), &["clone", "-q", "--bare", "infra", later.to_str().unwrap()]);
    wakes(&mut watch).await;
    quiet(&mut watch).await;
    repo.git(&["push", "-q", later.to_str().unwrap(), "main:other"]);
    wakes(&mut watch).await;
}

#[tokio::test]
async fn files_beside_the_references_and_remote_repositories_do_not_wake() {
    let repo = Repo::with_a_commit();
    let mut watch = Watch::start(&repo.url()).unwrap().unwrap();
    std::fs::write(repo.path.join("README.md"), "draft").unwrap();
    repo.git(&["add", "--all"]);
    let woken = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
    assert!(woken.is_err());
    assert!(Watch::start(&RepoUrl::parse("https://example.org/x").unwrap()).unwrap().is_none());
}
