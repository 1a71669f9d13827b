//! The infra repo and a push mirror behind a real SSH server.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use backstay::git::{Mirror, PushMirror, RepoUrl, mirror::Change, push::is_current};
use tempfile::TempDir;

use crate::lab::{run, sshd::Sshd};

const URL: &str = "BACKSTAY_TEST_SSH_URL";

/// `git` learns of the key through the environment, so the test runs again in a process of its own.
#[test]
fn a_repository_behind_ssh_is_mirrored_and_pushed_to() {
    if let Some(base) = env::var_os(URL) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(mirror_and_push(base.to_str().unwrap()));
    }
    let sshd = Sshd::start();
    let options = sshd.options();
    let known = sshd.store().join("known_hosts");
    fs::write(&known, format!("[127.0.0.1]:{} {}", options.port, options.host_key)).unwrap();
    let backstay::stores::sftp::Identity::File(key) = &options.identity else {
        panic!("the lab's key is a file")
    };
    let ssh = format!(
        "ssh -F none -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} -o StrictHostKeyChecking=yes -o BatchMode=yes",
        key.display(),
        known.display()
    );
    let again = "git::a_repository_behind_ssh_is_mirrored_and_pushed_to";
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([again, "--exact"]).env("GIT_SSH_COMMAND", ssh);
    let output =
        command.env(URL, format!("ssh://{}@127.0.0.1:{}", options.user, options.port)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn mirror_and_push(base: &str) {
    let root = TempDir::new().unwrap();
    let (infra, other) = (bare(&root, "infra.git"), bare(&root, "other.git"));
    let first = commit(&infra, "First");
    let url = RepoUrl::parse(&format!("{base}{}", infra.display())).unwrap();
    let mirror = Mirror::open(&root.path().join("state"), url, "main").unwrap();
    mirror.fetch().await.unwrap();
    assert_eq!(mirror.desired().await.unwrap(), first);
    assert_eq!(mirror.fetch().await.unwrap().change, Change::Nothing);

    let allowed = [format!("{base}/")];
    let push = PushMirror::new(&mirror, &format!("{base}{}", other.display()), &allowed).unwrap();
    push.push(&mirror).await.unwrap();

    commit(&infra, "Rewritten");
    let fetched = mirror.fetch().await.unwrap();
    assert_eq!(fetched.rewritten[0].old, first);
    push.push(&mirror).await.unwrap();
    let theirs = push.tips().await.unwrap();
    assert!(is_current(&fetched.tips, &theirs));
    assert_eq!(theirs.get(&format!("refs/backstay/old/{first}")), Some(first.as_str()));

    let missing = RepoUrl::parse(&format!("{base}{}/nowhere.git", root.path().display())).unwrap();
    let missing = Mirror::open(&root.path().join("state-2"), missing, "main").unwrap();
    let error = missing.fetch().await.unwrap_err().to_string();
    assert!(
        error.contains("nowhere.git") && error.contains("does not appear to be a git repository"),
        "{error}"
    );
}

fn bare(root: &TempDir, name: &str) -> PathBuf {
    let path = root.path().join(name);
    run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&path));
    path
}

/// Puts a commit without parents on `main`, so that every further one is a rewrite.
fn commit(repo: &Path, message: &str) -> String {
    let repo = git2::Repository::open_bare(repo).unwrap();
    let who = git2::Signature::now("Kai", "kai@example.org").unwrap();
    let tree = repo.find_tree(repo.treebuilder(None).unwrap().write().unwrap()).unwrap();
    let id = repo.commit(None, &who, &who, message, &tree, &[]).unwrap();
    repo.reference("refs/heads/main", id, true, "committed").unwrap();
    id.to_string()
}
