use std::path::Path;

use backstay::git::{
    Tips,
    bundle::{self, BundleError},
    tips_position,
};
use git2::Repository;

use super::{Repo, git, try_git};

/// A bundle of all that the repository holds, without the history of `known`.
pub fn written(repo: &Path, known: &Tips) -> Result<(Tips, Vec<u8>), BundleError> {
    let (pieces, mut read) = tokio::sync::mpsc::channel(1);
    let (path, known) = (repo.to_owned(), known.clone());
    let writer = std::thread::spawn(move || {
        let repo = Repository::open_bare(path).unwrap();
        let tips = Tips::read(&repo).unwrap();
        bundle::write(&repo, &tips, &known, &pieces).map(|()| tips)
    });
    let mut bytes = Vec::new();
    while let Some(piece) = read.blocking_recv() {
        bytes.extend_from_slice(&piece);
    }
    Ok((writer.join().unwrap()?, bytes))
}

fn saved(repo: &Repo, name: &str, bytes: &[u8]) -> String {
    let path = repo.root.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// How many objects the pack of a bundle holds (gitformat-pack(5): big-endian in bytes 8 to 12).
fn objects(bundle: &[u8]) -> u32 {
    let pack = bundle.windows(6).position(|bytes| bytes == b"\n\nPACK").unwrap() + 2;
    u32::from_be_bytes(bundle[pack + 8..pack + 12].try_into().unwrap())
}

fn refs(repo: &Path) -> String {
    git(repo, &["for-each-ref", "--format=%(objectname) %(refname)"])
}

#[test]
fn a_complete_bundle_is_verified_and_cloned_by_git() {
    let repo = Repo::with_a_commit();
    repo.git(&["tag", "-a", "v1", "-m", "First"]);
    repo.git(&["branch", "feature/x"]);
    repo.git(&["tag", "tree", "HEAD^{tree}"]);
    repo.git(&["tag", "blob", "HEAD:backup/fleet.toml"]);
    let head = repo.commit("backup/a/b/c.toml", "c = 1\n");
    let (tips, bytes) = written(&repo.path.join(".git"), &Tips::default()).unwrap();
    let file = saved(&repo, "full.bundle", &bytes);
    git(repo.root.path(), &["init", "-q", "--bare", "nothing"]);
    git(&repo.root.path().join("nothing"), &["bundle", "verify", &file]);
    git(repo.root.path(), &["clone", "-q", "--mirror", &file, "clone"]);
    let clone = repo.root.path().join("clone");
    git(&clone, &["fsck", "--strict", "--full"]);
    let mirrored = refs(&clone);
    assert_eq!(mirrored, refs(&repo.path));
    assert_eq!(tips.head(), Some(head.as_str()));
    git(repo.root.path(), &["clone", "-q", &file, "worktree"]);
    assert_eq!(git(&repo.root.path().join("worktree"), &["rev-parse", "HEAD"]), head);
}

#[test]
fn an_incremental_bundle_holds_only_what_is_new() {
    let repo = Repo::empty();
    for n in 0..50 {
        repo.commit(&format!("backup/{}/{n}.toml", n % 7), &format!("n = {n}\n"));
    }
    let (known, full) = written(&repo.path.join(".git"), &Tips::default()).unwrap();
    assert!(objects(&full) > 150);
    let head = repo.commit("backup/3/3.toml", "n = 300\n");
    let (tips, bytes) = written(&repo.path.join(".git"), &known).unwrap();
    assert_eq!(objects(&bytes), 5, "a commit, three folders, a file");
    assert_ne!(tips_position(&tips), tips_position(&known));

    let (full, increment) = (saved(&repo, "0", &full), saved(&repo, "1", &bytes));
    git(repo.root.path(), &["clone", "-q", "--mirror", &full, "clone"]);
    let clone = repo.root.path().join("clone");
    git(&clone, &["bundle", "verify", &increment]);
    git(&clone, &["fetch", "-q", &increment, "+refs/*:refs/*"]);
    git(&clone, &["fsck", "--strict", "--full"]);
    assert_eq!(git(&clone, &["rev-parse", "main"]), head);
    git(repo.root.path(), &["init", "-q", "--bare", "nothing"]);
    let alone = try_git(&repo.root.path().join("nothing"), &["bundle", "verify", &increment], b"");
    assert!(!alone.status.success(), "it must not pass for a complete one");
}

#[test]
fn merges_moves_and_reverts_arrive_whole() {
    let repo = Repo::with_a_commit();
    repo.commit("backup/keep/a.toml", "a = 1\n");
    let (known, full) = written(&repo.path.join(".git"), &Tips::default()).unwrap();
    repo.git(&["checkout", "-q", "-b", "side"]);
    repo.commit("backup/side/b.toml", "b = 1\n");
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["mv", "backup/keep", "backup/kept"]);
    repo.commit("backup/kept/c.toml", "c = 1\n");
    repo.git(&["merge", "-q", "--no-edit", "side"]);
    repo.commit("backup/fleet.toml", "other\n");
    repo.git(&["revert", "--no-edit", "HEAD"]);
    repo.git(&["rm", "-q", "-r", "backup/kept"]);
    repo.git(&["commit", "-q", "-m", "Remove"]);
    let (_, bytes) = written(&repo.path.join(".git"), &known).unwrap();
    let (full, increment) = (saved(&repo, "0", &full), saved(&repo, "1", &bytes));
    git(repo.root.path(), &["clone", "-q", "--mirror", &full, "clone"]);
    let clone = repo.root.path().join("clone");
    git(&clone, &["fetch", "-q", &increment, "+refs/*:refs/*"]);
    git(&clone, &["fsck", "--strict", "--full"]);
    assert_eq!(refs(&clone), refs(&repo.path));
}

#[test]
fn a_bundle_without_anything_new_is_still_one() {
    let repo = Repo::with_a_commit();
    let (known, full) = written(&repo.path.join(".git"), &Tips::default()).unwrap();
    repo.git(&["branch", "again"]);
    let (_, bytes) = written(&repo.path.join(".git"), &known).unwrap();
    assert_eq!(objects(&bytes), 0);
    let (full, increment) = (saved(&repo, "0", &full), saved(&repo, "1", &bytes));
    git(repo.root.path(), &["clone", "-q", "--mirror", &full, "clone"]);
    git(&repo.root.path().join("clone"), &["bundle", "verify", &increment]);
}

#[test]
fn folders_nested_twenty_thousand_deep_do_not_overflow_the_stack() {
    let repo = Repo::with_a_commit();
    let library = Repository::open(&repo.path).unwrap();
    let mut tree = library.treebuilder(None).unwrap().write().unwrap();
    let memory = library.odb().unwrap();
    memory.add_new_mempack_backend(1000).unwrap();
    let mut builder = library.packbuilder().unwrap();
    for _ in 0..20_000 {
        builder.insert_object(tree, None).unwrap();
        let mut folder = library.treebuilder(None).unwrap();
        folder.insert("d", tree, 0o040000).unwrap();
        tree = folder.write().unwrap();
    }
    builder.insert_object(tree, None).unwrap();
    let mut pack = git2::Buf::new();
    builder.write_buf(&mut pack).unwrap();
    super::fed_git(&repo.path, &["index-pack", "--stdin"], &pack);
    let library = Repository::open(&repo.path).unwrap();
    let who = git2::Signature::now("Kai", "kai@example.org").unwrap();
    let tree = library.find_tree(tree).unwrap();
    library.commit(Some("refs/heads/deep"), &who, &who, "Deep", &tree, &[]).unwrap();
    let (_, bytes) = written(&repo.path.join(".git"), &Tips::default()).unwrap();
    assert!(objects(&bytes) > 20_000);
}

#[test]
fn a_repository_without_commits_makes_no_bundle() {
    let repo = Repo::empty();
    assert!(matches!(written(&repo.path.join(".git"), &Tips::default()), Err(BundleError::Empty)));
}

#[test]
fn a_reader_that_leaves_ends_the_writer() {
    let repo = Repo::with_a_commit();
    let (pieces, read) = tokio::sync::mpsc::channel(1);
    drop(read);
    let library = Repository::open(&repo.path).unwrap();
    let tips = Tips::read(&library).unwrap();
    let ended = bundle::write(&library, &tips, &Tips::default(), &pieces);
    assert!(matches!(ended, Err(BundleError::Stopped)), "{ended:?}");
}
