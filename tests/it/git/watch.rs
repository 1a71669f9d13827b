use std::time::Duration;

use backstay::git::{RepoUrl, Watch};

use super::{Repo, git};

/// Longer than any event takes; a test that passes never waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

async fn wakes(watch: &mut Watch) {
    tokio::time::timeout(DEADLINE, watch.changed()).await.expect("no wake-up").expect("the watch has ended");
}

/// Every one of many changes wakes; wake-ups that an earlier change left over are far fewer.
async fn keeps_waking(watch: &mut Watch, change: impl Fn(usize)) {
    for round in 0..12 {
        change(round);
        wakes(watch).await;
    }
}

#[tokio::test]
async fn commits_branches_and_packed_references_wake() {
    let repo = Repo::with_a_commit();
    repo.commit("backup/a.toml", "a = 1\n");
    let changes: [&[&str]; 5] = [
        &["commit", "-q", "--allow-empty", "-m", "Empty"],
        &["update-ref", "refs/heads/feature/deep/x", "HEAD"],
        &["update-ref", "refs/heads/feature/deep/x", "HEAD~1"],
        &["tag", "v1"],
        &["pack-refs", "--all"],
    ];
    for change in changes {
        let mut watch = Watch::start(&repo.url()).unwrap().unwrap();
        repo.git(change);
        wakes(&mut watch).await;
    }
}

#[tokio::test]
async fn a_folder_of_branches_that_is_new_is_watched_as_well() {
    let repo = Repo::with_a_commit();
    let mut watch = Watch::start(&repo.url()).unwrap().unwrap();
    keeps_waking(&mut watch, |round| {
        repo.git(&["update-ref", &format!("refs/heads/new/{round}/x"), "HEAD"]);
    })
    .await;
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
    keeps_waking(&mut watch, |round| drop(repo.commit("backup/a.toml", &format!("a = {round}\n")))).await;
}

#[tokio::test]
async fn a_repository_that_does_not_exist_yet_wakes_when_it_appears() {
    let repo = Repo::with_a_commit();
    let later = repo.root.path().join("not/yet/there.git");
    let mut watch = Watch::start(&RepoUrl::parse(later.to_str().unwrap()).unwrap()).unwrap().unwrap();
    std::fs::create_dir_all(later.parent().unwrap()).unwrap();
    git(repo.root.path(), &["clone", "-q", "--bare", "infra", later.to_str().unwrap()]);
    keeps_waking(&mut watch, |round| {
        repo.git(&["push", "-q", later.to_str().unwrap(), &format!("main:refs/heads/other-{round}")]);
    })
    .await;
}

#[tokio::test]
async fn a_remote_repository_is_not_watched() {
    assert!(Watch::start(&RepoUrl::parse("https://example.org/x").unwrap()).unwrap().is_none());
}
