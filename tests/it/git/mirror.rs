use backstay::git::{Mirror, MirrorError, RepoUrl, mirror::Change};

use super::{Repo, git};

fn old(id: &str) -> String {
    format!("refs/backstay/old/{id}")
}

#[tokio::test]
async fn branches_and_tags_are_mirrored_and_a_second_fetch_finds_nothing() {
    let repo = Repo::with_a_commit();
    repo.git(&["tag", "-a", "v1", "-m", "First"]);
    repo.git(&["branch", "feature/x"]);
    let mirror = repo.mirror();
    let fetched = mirror.fetch().await.unwrap();
    assert_eq!(fetched.change, Change::References);
    let names: Vec<&str> = fetched.tips.references().map(|(name, _)| name).collect();
    assert_eq!(names, ["refs/heads/feature/x", "refs/heads/main", "refs/tags/v1"]);
    assert_eq!(fetched.tips.get("refs/tags/v1"), Some(repo.id("v1").as_str()));
    assert_eq!(mirror.desired().await.unwrap(), repo.id("HEAD"));

    let again = mirror.fetch().await.unwrap();
    assert_eq!((again.change, again.tips), (Change::Nothing, fetched.tips));
}

#[tokio::test]
async fn a_bare_repository_and_a_linked_work_tree_are_read_as_well() {
    let repo = Repo::with_a_commit();
    let head = repo.id("HEAD");
    git(repo.root.path(), &["clone", "-q", "--bare", "infra", "bare.git"]);
    repo.git(&["worktree", "add", "-q", "../linked", "-b", "linked"]);
    for place in ["bare.git", "linked"] {
        let url = RepoUrl::parse(repo.root.path().join(place).to_str().unwrap()).unwrap();
        let mirror = Mirror::open(&repo.root.path().join(format!("state-{place}")), url, "main").unwrap();
        mirror.fetch().await.unwrap();
        assert_eq!(mirror.desired().await.unwrap(), head, "{place}");
    }
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_unknown_at_once_and_never_asks_for_a_password() {
    let repo = Repo::with_a_commit();
    let url = RepoUrl::parse("ssh://git@127.0.0.1:1/infra.git").unwrap();
    let mirror = Mirror::open(&repo.state_dir(), url, "main").unwrap();
    let error = mirror.fetch().await.unwrap_err();
    assert!(matches!(error, MirrorError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_force_pushed_tip_is_kept() {
    let repo = Repo::with_a_commit();
    let lost = repo.commit("backup/a.toml", "a = 1\n");
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let new = repo.commit("backup/b.toml", "b = 1\n");

    let fetched = mirror.fetch().await.unwrap();
    assert_eq!(fetched.rewritten.len(), 1);
    assert_eq!(fetched.rewritten[0].reference, "refs/heads/main");
    assert_eq!(fetched.tips.get(&old(&lost)), Some(lost.as_str()));
    assert_eq!(mirror.desired().await.unwrap(), new);
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    git(mirror.path(), &["gc", "-q", "--prune=now"]);
    assert_eq!(git(mirror.path(), &["cat-file", "-t", &lost]), "commit");
}

#[tokio::test]
async fn a_deleted_branch_is_kept_unless_another_one_reaches_it() {
    let repo = Repo::with_a_commit();
    repo.git(&["branch", "merged"]);
    repo.git(&["checkout", "-q", "-b", "alone"]);
    let alone = repo.commit("backup/a.toml", "a = 1\n");
    repo.git(&["checkout", "-q", "main"]);
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    repo.git(&["branch", "-q", "-D", "merged", "alone"]);

    let fetched = mirror.fetch().await.unwrap();
    let names: Vec<&str> = fetched.tips.references().map(|(name, _)| name).collect();
    assert_eq!(names, [old(&alone).as_str(), "refs/heads/main"]);
}

#[tokio::test]
async fn a_moved_annotated_tag_is_kept() {
    let repo = Repo::with_a_commit();
    repo.git(&["tag", "-a", "v1", "-m", "First"]);
    let first = repo.id("v1");
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    repo.git(&["tag", "-f", "-a", "v1", "-m", "Second"]);
    let fetched = mirror.fetch().await.unwrap();
    assert_eq!(fetched.tips.get(&old(&first)), Some(first.as_str()));
}

#[tokio::test]
async fn a_branch_that_becomes_a_folder_of_branches_is_followed() {
    let repo = Repo::with_a_commit();
    repo.git(&["branch", "x"]);
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    repo.git(&["branch", "-q", "-D", "x"]);
    repo.git(&["branch", "x/y"]);
    let tips = mirror.fetch().await.unwrap().tips;
    assert!(tips.get("refs/heads/x/y").is_some() && tips.get("refs/heads/x").is_none());
}

#[tokio::test]
async fn a_repository_without_commits_is_empty_and_says_so() {
    let repo = Repo::empty();
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    let error = mirror.desired().await.unwrap_err();
    assert!(matches!(error, MirrorError::Empty { .. }), "{error}");
    assert!(error.to_string().ends_with("it has no commits yet; push a first one to main"), "{error}");
}

#[tokio::test]
async fn a_branch_that_is_gone_is_named_with_those_that_are_there() {
    let repo = Repo::with_a_commit();
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    let head = repo.id("HEAD");
    repo.git(&["branch", "-q", "-m", "main", "trunk"]);
    mirror.fetch().await.unwrap();
    let error = mirror.desired().await.unwrap_err().to_string();
    assert!(error.contains("branch main") && error.contains("which has trunk"), "{error}");
    assert!(mirror.declaration(&head, "backup").await.is_ok(), "the last good revision stays readable");
}

#[tokio::test]
async fn a_repository_that_is_away_is_unknown_and_takes_nothing_from_the_mirror() {
    let repo = Repo::with_a_commit();
    let mirror = repo.mirror();
    let before = mirror.fetch().await.unwrap().tips;
    let away = repo.root.path().join("away");
    std::fs::rename(&repo.path, &away).unwrap();
    let error = mirror.fetch().await.unwrap_err();
    assert!(matches!(error, MirrorError::Unreachable { .. }), "{error}");
    assert_eq!(mirror.tips().await.unwrap(), before);
    std::fs::rename(&away, &repo.path).unwrap();
    assert_eq!(mirror.fetch().await.unwrap().change, Change::Nothing);
}

#[tokio::test]
async fn hooks_of_the_repositories_are_never_run() {
    use std::os::unix::fs::PermissionsExt;
    let repo = Repo::with_a_commit();
    let mirror = repo.mirror();
    let (marker, hooks) = (repo.root.path().join("ran"), mirror.path().join("hooks"));
    std::fs::create_dir_all(&hooks).unwrap();
    for hook in ["reference-transaction", "post-update"] {
        let path = hooks.join(hook);
        std::fs::write(&path, format!("#!/bin/sh\ntouch '{}'\n", marker.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    mirror.fetch().await.unwrap();
    assert!(!marker.exists());
}

#[tokio::test]
async fn a_deleted_state_dir_is_built_again() {
    let repo = Repo::with_a_commit();
    let before = repo.mirror().fetch().await.unwrap().tips;
    std::fs::remove_dir_all(repo.state_dir()).unwrap();
    assert_eq!(repo.mirror().fetch().await.unwrap().tips, before);
}

#[tokio::test]
async fn a_repository_of_another_user_is_mirrored() {
    let repo = Repo::with_a_commit();
    if rustix::process::geteuid().is_root() {
        // Only root can give files away; git and libgit2 are wary of whoever owns them.
        let owner = std::process::Command::new("chown").args(["-R", "65534"]).arg(&repo.path).status();
        assert!(owner.unwrap().success());
    }
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    assert!(mirror.desired().await.is_ok());
}

#[tokio::test]
async fn fetches_at_the_same_time_do_not_disturb_each_other() {
    let repo = Repo::with_a_commit();
    let mirror = repo.mirror();
    for round in 0..3 {
        repo.commit("backup/a.toml", &format!("a = {round}\n"));
        let fetches = (0..4).map(|_| mirror.fetch());
        for fetched in futures::future::join_all(fetches).await {
            fetched.unwrap();
        }
        assert_eq!(mirror.desired().await.unwrap(), repo.id("HEAD"));
    }
}
