use std::{os::unix::fs::symlink, path::Path};

use backstay::git::{
    RevisionError,
    revision::{self, read_folder},
};

use super::{Repo, fed_git, try_git};

fn too_much(result: Result<impl std::fmt::Debug, RevisionError>) -> String {
    match result {
        Err(error @ RevisionError::TooMuch { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Writes an object of any content, as a hostile client would.
fn object(repo: &Repo, kind: &str, content: &[u8]) -> String {
    fed_git(&repo.path, &["hash-object", "-w", "-t", kind, "--literally", "--stdin"], content)
}

fn tree_of(repo: &Repo, entries: &[(&str, &[u8], &str)]) -> String {
    let mut content = Vec::new();
    for (mode, name, id) in entries {
        content.extend_from_slice(mode.as_bytes());
        content.push(b' ');
        content.extend_from_slice(name);
        content.push(0);
        content.extend_from_slice(git2::Oid::from_str(id).unwrap().as_bytes());
    }
    object(repo, "tree", &content)
}

fn commit_of(repo: &Repo, tree: &str) -> String {
    repo.git(&["commit-tree", "-m", "Crafted", tree])
}

fn read(repo: &Repo, id: &str) -> Result<revision::Declaration, RevisionError> {
    revision::read(&repo.path, id, "")
}

#[test]
fn the_files_of_a_commit_are_read_with_who_made_it() {
    let repo = Repo::with_a_commit();
    repo.commit("backup/stores/local.toml", "x = 1\n");
    let id = repo.commit("backup/README.md", "no declaration");
    std::fs::write(repo.path.join("backup/fleet.toml"), "not committed").unwrap();
    let read = revision::read(&repo.path, &id, "backup/").unwrap();
    let names: Vec<&String> = read.files.keys().collect();
    assert_eq!(names, ["fleet.toml", "stores/local.toml"]);
    assert_eq!(read.files["fleet.toml"], b"[fleet]\nname = \"pavroto\"\n");
    assert_eq!(read.revision.author, "Kai <kai@example.org>");
    assert_eq!(read.revision.subject, "Change backup/README.md");
    assert_eq!(read.revision.time.to_string(), "2026-11-20T01:00:00Z");
    assert_eq!(revision::read(&repo.path, "main~1", "backup").unwrap().files.len(), 2);
    assert_eq!(revision::describe(&repo.path, "main").unwrap(), read.revision);
}

#[test]
fn a_missing_commit_and_a_missing_folder_are_named() {
    let repo = Repo::with_a_commit();
    let missing = read(&repo, &"0".repeat(39)).unwrap_err();
    assert!(matches!(missing, RevisionError::NoCommit(_)), "{missing}");
    let missing = read(&repo, &"1".repeat(40)).unwrap_err();
    assert!(matches!(missing, RevisionError::NoCommit(_)), "{missing}");
    for folder in ["nowhere", "../infra", "backup/fleet.toml"] {
        let missing = revision::read(&repo.path, "main", folder).unwrap_err();
        assert!(matches!(missing, RevisionError::NoFolder { .. }), "{missing}");
        let missing = read_folder(&repo.path, folder).unwrap_err();
        assert!(matches!(missing, RevisionError::NoFolder { .. }), "{missing}");
    }
}

#[test]
fn a_toml_of_a_gibibyte_is_refused_before_it_is_read() {
    let repo = Repo::with_a_commit();
    // Only the header of a loose object claims the size: reading it would fail, and not for its length.
    let id = "00000000000000000000000000000000000000aa";
    let mut loose = flate(b"blob 1073741824\0[fleet]\n");
    let folder = repo.path.join(".git/objects/00");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(&id[2..]), &mut loose).unwrap();
    let commit = commit_of(&repo, &tree_of(&repo, &[("100644", b"huge.toml", id)]));
    let error = too_much(read(&repo, &commit));
    assert!(error.contains("huge.toml") && error.contains("1073741824"), "{error}");

    let sparse = std::fs::File::create(repo.path.join("huge.toml")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    assert!(too_much(read_folder(&repo.path, "")).contains("1073741824"));
}

/// A zlib stream (RFC 1950) of one stored block.
fn flate(content: &[u8]) -> Vec<u8> {
    let length = content.len() as u16;
    let mut out = vec![0x78, 0x01, 0x01];
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(content);
    let (mut a, mut b) = (1u32, 0u32);
    for byte in content {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    out.extend(((b << 16) | a).to_be_bytes());
    out
}

#[test]
fn a_hundred_thousand_files_are_refused() {
    let repo = Repo::with_a_commit();
    let blob = object(&repo, "blob", b"x = 1\n");
    let names: Vec<String> = (0..100_000).map(|n| format!("{n:06}.toml")).collect();
    let entries: Vec<_> = names.iter().map(|name| ("100644", name.as_bytes(), blob.as_str())).collect();
    let commit = commit_of(&repo, &tree_of(&repo, &entries));
    assert!(too_much(read(&repo, &commit)).contains("1000 files to read"));

    let many: Vec<_> = entries.iter().take(10).copied().collect();
    let few = tree_of(&repo, &many);
    let names: Vec<String> = (0..2_000).map(|n| format!("{n:06}")).collect();
    let folders: Vec<_> = names.iter().map(|name| ("40000", name.as_bytes(), few.as_str())).collect();
    let commit = commit_of(&repo, &tree_of(&repo, &folders));
    assert!(too_much(read(&repo, &commit)).contains("more than"));
}

#[test]
fn a_folder_description_of_many_mebibytes_is_refused_before_it_is_read() {
    let repo = Repo::with_a_commit();
    let blob = object(&repo, "blob", b"");
    let names: Vec<String> = (0..30_000).map(|n| format!("{n:0200}")).collect();
    let entries: Vec<_> = names.iter().map(|name| ("100644", name.as_bytes(), blob.as_str())).collect();
    let commit = commit_of(&repo, &tree_of(&repo, &entries));
    assert!(too_much(read(&repo, &commit)).contains("the root folder"));
}

#[test]
fn deep_folders_and_many_bytes_are_refused() {
    let repo = Repo::with_a_commit();
    let mut tree = tree_of(&repo, &[("100644", b"a.toml", &object(&repo, "blob", b""))]);
    for _ in 0..17 {
        tree = tree_of(&repo, &[("40000", b"d", &tree)]);
    }
    assert!(too_much(read(&repo, &commit_of(&repo, &tree))).contains("16 folders deep"));

    let blob = object(&repo, "blob", &vec![b'#'; 1 << 20]);
    let names: Vec<String> = (0..17).map(|n| format!("{n:02}.toml")).collect();
    let entries: Vec<_> = names.iter().map(|name| ("100644", name.as_bytes(), blob.as_str())).collect();
    assert!(too_much(read(&repo, &commit_of(&repo, &tree_of(&repo, &entries)))).contains("16777216 bytes"));
}

#[test]
fn names_that_escape_or_act_on_a_terminal_are_refused_and_shown_escaped() {
    let repo = Repo::with_a_commit();
    let blob = object(&repo, "blob", b"x = 1\n");
    let inner = tree_of(&repo, &[("100644", b"a.toml", &blob)]);
    let crafted: [&[(&str, &[u8], &str)]; 7] = [
        &[("40000", b"..", &inner)],
        &[("100644", b"../../etc/x.toml", &blob)],
        &[("100644", b"\x1b[2J.toml", &blob)],
        &[("100644", b"a\nb.toml", &blob)],
        &[("100644", b"\xff.toml", &blob)],
        &[("100644", "\u{202e}lmot.toml".as_bytes(), &blob)],
        &[("100644", b"twice.toml", &blob), ("100644", b"twice.toml", &blob)],
    ];
    for entries in crafted {
        let error = match read(&repo, &commit_of(&repo, &tree_of(&repo, entries))) {
            Err(error @ RevisionError::Name(_)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(!error.chars().any(char::is_control) && !error.contains('\u{202e}'), "{error}");
    }
}

#[test]
fn a_name_with_nul_is_a_damaged_object_and_no_panic() {
    let repo = Repo::with_a_commit();
    let blob = object(&repo, "blob", b"x = 1\n");
    let tree = tree_of(&repo, &[("100644", b"a\0b.toml", &blob)]);
    assert!(matches!(read(&repo, &commit_of(&repo, &tree)), Err(RevisionError::Object { .. })));
}

#[test]
fn links_and_submodules_are_left_out() {
    let repo = Repo::with_a_commit();
    let secret = repo.root.path().join("secret.toml");
    std::fs::write(&secret, "secret = 1\n").unwrap();
    let elsewhere = repo.root.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("x.toml"), "x = 1\n").unwrap();
    symlink(&secret, repo.path.join("backup/link.toml")).unwrap();
    symlink(&elsewhere, repo.path.join("backup/folder")).unwrap();
    let head = repo.id("HEAD");
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},backup/module.toml")]);
    let id = repo.commit("backup/z.toml", "z = 1\n");
    for files in
        [revision::read(&repo.path, &id, "backup").unwrap().files, read_folder(&repo.path, "backup").unwrap()]
    {
        assert_eq!(files.keys().collect::<Vec<_>>(), ["fleet.toml", "z.toml"]);
    }
    assert!(matches!(read_folder(&repo.path, "backup/folder"), Err(RevisionError::NoFolder { .. })));
}

#[test]
fn a_working_tree_is_read_as_it_stands_without_what_git_keeps_there() {
    let repo = Repo::with_a_commit();
    std::fs::write(repo.path.join(".git/hidden.toml"), "x = 1\n").unwrap();
    std::fs::write(repo.path.join("backup/new.toml"), "new = 1\n").unwrap();
    let pipe = repo.path.join("backup/pipe.toml");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let files = read_folder(&repo.path, "").unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["backup/fleet.toml", "backup/new.toml"]);
    let missing = read_folder(Path::new("/nowhere/at/all"), "").unwrap_err();
    assert!(matches!(missing, RevisionError::Disk { .. }), "{missing}");
}

#[test]
fn a_subject_cannot_act_on_a_terminal() {
    let repo = Repo::with_a_commit();
    let made = try_git(&repo.path, &["commit", "-q", "--allow-empty", "-m", "\u{1b}[31mRed\u{7}"], b"");
    assert!(made.status.success());
    let revision = revision::describe(&repo.path, "HEAD").unwrap();
    assert_eq!(revision.subject, "\u{fffd}[31mRed\u{fffd}");
}
