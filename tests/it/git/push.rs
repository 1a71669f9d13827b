use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use backstay::git::{
    Mirror, PushError, PushMirror,
    push::{is_current, position_seen},
    tips_position,
};

use super::{Repo, git};

struct Pair {
    repo: Repo,
    mirror: Mirror,
    other: PathBuf,
    push: PushMirror,
}

async fn pair() -> Pair {
    let repo = Repo::with_a_commit();
    let mirror = repo.mirror();
    mirror.fetch().await.unwrap();
    let other = repo.root.path().join("mirrors/infra.git");
    std::fs::create_dir(repo.root.path().join("mirrors")).unwrap();
    let allowed = [repo.root.path().join("mirrors").to_str().unwrap().to_owned()];
    let push = PushMirror::new(&mirror, other.to_str().unwrap(), &allowed).unwrap();
    Pair { repo, mirror, other, push }
}

#[tokio::test]
async fn a_mirror_is_made_and_can_be_cloned_at_once() {
    let Pair { repo, mirror, other, push } = pair().await;
    repo.git(&["tag", "-a", "v1", "-m", "First"]);
    let ours = mirror.fetch().await.unwrap().tips;
    assert!(push.tips().await.unwrap().is_empty());
    let pushed = push.push(&mirror).await.unwrap();
    assert_eq!((pushed.references, pushed.kept.len()), (2, 0));
    assert_eq!(position_seen(&ours, &push.tips().await.unwrap()), tips_position(&ours));
    git(repo.root.path(), &["clone", "-q", other.to_str().unwrap(), "clone"]);
    assert_eq!(git(&repo.root.path().join("clone"), &["rev-parse", "HEAD"]), repo.id("HEAD"));
    assert_eq!(push.push(&mirror).await.unwrap().references, 0, "nothing is left to push");
}

#[tokio::test]
async fn what_the_infra_repo_deleted_stays_on_the_mirror() {
    let Pair { repo, mirror, push, .. } = pair().await;
    repo.git(&["branch", "gone"]);
    mirror.fetch().await.unwrap();
    push.push(&mirror).await.unwrap();
    repo.git(&["branch", "-q", "-D", "gone"]);
    repo.commit("backup/a.toml", "a = 1\n");
    let ours = mirror.fetch().await.unwrap().tips;
    push.push(&mirror).await.unwrap();
    let theirs = push.tips().await.unwrap();
    assert!(theirs.get("refs/heads/gone").is_some() && is_current(&ours, &theirs));
}

#[tokio::test]
async fn a_force_pushed_branch_is_followed_and_its_old_tip_kept_on_the_mirror() {
    let Pair { repo, mirror, other, push } = pair().await;
    let lost = repo.commit("backup/a.toml", "a = 1\n");
    mirror.fetch().await.unwrap();
    push.push(&mirror).await.unwrap();
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let new = repo.commit("backup/b.toml", "b = 1\n");
    mirror.fetch().await.unwrap();
    let pushed = push.push(&mirror).await.unwrap();
    assert_eq!(pushed.kept, std::slice::from_ref(&lost));
    assert_eq!(git(&other, &["rev-parse", "main"]), new);
    assert_eq!(git(&other, &["rev-parse", &format!("refs/backstay/old/{lost}")]), lost);
}

#[tokio::test]
async fn old_tips_come_home_to_a_mirror_that_was_made_anew() {
    let Pair { repo, mirror, push, .. } = pair().await;
    let lost = repo.commit("backup/a.toml", "a = 1\n");
    mirror.fetch().await.unwrap();
    push.push(&mirror).await.unwrap();
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repo.commit("backup/b.toml", "b = 1\n");
    mirror.fetch().await.unwrap();
    push.push(&mirror).await.unwrap();

    std::fs::remove_dir_all(repo.state_dir()).unwrap();
    let mirror = repo.mirror();
    repo.commit("backup/c.toml", "c = 1\n");
    mirror.fetch().await.unwrap();
    let allowed = [repo.root.path().to_str().unwrap().to_owned()];
    let other = repo.root.path().join("mirrors/infra.git");
    let push = PushMirror::new(&mirror, other.to_str().unwrap(), &allowed).unwrap();
    push.push(&mirror).await.unwrap();
    assert_eq!(git(mirror.path(), &["rev-parse", &format!("refs/backstay/old/{lost}")]), lost);
}

#[tokio::test]
async fn what_others_pushed_to_the_mirror_is_kept_there_and_here() {
    let Pair { repo, mirror, other, push } = pair().await;
    push.push(&mirror).await.unwrap();
    git(repo.root.path(), &["clone", "-q", other.to_str().unwrap(), "theirs"]);
    let theirs = repo.root.path().join("theirs");
    git(&theirs, &["commit", "-q", "--allow-empty", "-m", "Beside"]);
    git(&theirs, &["push", "-q", "origin", "main"]);
    let beside = git(&theirs, &["rev-parse", "HEAD"]);
    let ours = repo.commit("backup/a.toml", "a = 1\n");
    mirror.fetch().await.unwrap();
    push.push(&mirror).await.unwrap();
    assert_eq!(git(&other, &["rev-parse", "main"]), ours);
    for place in [&other, mirror.path()] {
        assert_eq!(git(place, &["rev-parse", &format!("refs/backstay/old/{beside}")]), beside);
    }
}

#[tokio::test]
async fn a_moved_tag_is_followed_and_the_old_one_kept() {
    let Pair { repo, mirror, other, push } = pair().await;
    repo.git(&["tag", "v1"]);
    let old = repo.id("v1");
    mirror.fetch().await.unwrap();
    push.push(&mirror).await.unwrap();
    let new = repo.commit("backup/a.toml", "a = 1\n");
    repo.git(&["tag", "-f", "v1"]);
    mirror.fetch().await.unwrap();
    push.push(&mirror).await.unwrap();
    assert_eq!(git(&other, &["rev-parse", "v1"]), new);
    assert_eq!(git(&other, &["rev-parse", &format!("refs/backstay/old/{old}")]), old);
}

#[tokio::test]
async fn hooks_of_a_local_mirror_are_not_run() {
    let Pair { repo, mirror, other, push } = pair().await;
    push.push(&mirror).await.unwrap();
    let marker = repo.root.path().join("ran");
    std::fs::create_dir_all(other.join("hooks")).unwrap();
    for hook in ["pre-receive", "update", "post-receive", "reference-transaction"] {
        let path = other.join("hooks").join(hook);
        std::fs::write(&path, format!("#!/bin/sh\ntouch '{}'\n", marker.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    repo.commit("backup/a.toml", "a = 1\n");
    mirror.fetch().await.unwrap();
    push.push(&mirror).await.unwrap();
    assert!(!marker.exists());
}

#[tokio::test]
async fn a_mirror_that_refuses_keeps_what_it_has_and_says_why() {
    let Pair { repo, mirror, other, push } = pair().await;
    let before = repo.commit("backup/a.toml", "a = 1\n");
    mirror.fetch().await.unwrap();
    push.push(&mirror).await.unwrap();
    git(&other, &["config", "receive.denyNonFastForwards", "true"]);
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    repo.commit("backup/b.toml", "b = 1\n");
    mirror.fetch().await.unwrap();
    let error = push.push(&mirror).await.unwrap_err();
    assert!(matches!(error, PushError::Rejected { .. }), "{error}");
    assert!(error.to_string().contains("non-fast-forward"), "{error}");
    assert_eq!(git(&other, &["rev-parse", "main"]), before);
}

#[tokio::test]
async fn mirrors_that_are_not_allowed_or_can_not_be_made_say_what_to_do() {
    let Pair { repo, mirror, .. } = pair().await;
    let allowed = [repo.root.path().to_str().unwrap().to_owned()];
    for outside in ["/srv/elsewhere.git", "ssh://git@example.org/x"] {
        let error = PushMirror::new(&mirror, outside, &allowed).unwrap_err().to_string();
        assert!(error.contains("allow.mirrors"), "{error}");
    }
    for (place, reason) in [("nowhere/infra.git", "neither the folder"), ("mirrors", "something else")] {
        std::fs::write(repo.root.path().join("mirrors/file"), "x").unwrap();
        let path = repo.root.path().join(place);
        let push = PushMirror::new(&mirror, path.to_str().unwrap(), &allowed).unwrap();
        let error = push.push(&mirror).await.unwrap_err().to_string();
        assert!(error.contains(reason) && error.ends_with("make it with `git init --bare`"), "{error}");
    }
}
