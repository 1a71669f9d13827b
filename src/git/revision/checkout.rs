//! A revision's whole tree, written into a private folder: what playbooks and modules run in.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use git2::{ObjectType, Odb, Oid, Repository, Tree};

use super::{RevisionError, joined, too_much, tree};

/// The most files and folders of a tree that are written.
const MOST_WRITTEN: usize = 100_000;
/// The longest file that is written, bytes: it is held in memory.
const LONGEST_WRITTEN: u64 = 64 << 20;
/// The most that is written of all files together, bytes.
const LONGEST_TREE: u64 = 1 << 30;
/// The deepest folder that is written.
const DEEPEST_WRITTEN: usize = 64;

const EXECUTABLE: i32 = 0o100_755;

/// Writes the files of the commit `revision` of the repository at `repo` into the folder `into`, which must be there and empty.
/// Nobody else may read what is written. Symbolic links out of the tree are left out, and so are submodules.
pub fn write_tree(repo: &Path, revision: &str, into: &Path) -> Result<(), RevisionError> {
    let repo = tree::open(repo)?;
    let odb = repo.odb().map_err(|e| tree::damaged("the object database", e))?;
    let commit = tree::find(&repo, &odb, revision)?;
    let root = tree::tree(&repo, &odb, commit.tree_id(), "the root folder")?;
    let mut writing = Writing { repo: &repo, odb: &odb, into, entries: 0, total: 0, links: Vec::new() };
    writing.folder(&root, "", 0)?;
    writing.links()
}

struct Writing<'a> {
    repo: &'a Repository,
    odb: &'a Odb<'a>,
    into: &'a Path,
    entries: usize,
    total: u64,
    /// Paths with what they point to. Made last, so that nothing is written through one.
    links: Vec<(String, Vec<u8>)>,
}

impl Writing<'_> {
    fn folder(&mut self, folder: &Tree<'_>, path: &str, depth: usize) -> Result<(), RevisionError> {
        if depth > DEEPEST_WRITTEN {
            return Err(too_much(path, format!("it is more than {DEEPEST_WRITTEN} folders deep")));
        }
        for entry in folder {
            self.entries += 1;
            if self.entries > MOST_WRITTEN {
                return Err(too_much(path, format!("there are more than {MOST_WRITTEN} files and folders")));
            }
            let inner = joined(path, entry.name_bytes())?;
            if entry.name_bytes().eq_ignore_ascii_case(b".git") {
                return Err(RevisionError::Name(format!("`{}`", inner.escape_debug())));
            }
            match entry.kind() {
                Some(ObjectType::Tree) => {
                    let here = self.into.join(&inner);
                    DirBuilder::new().mode(0o700).create(&here).map_err(|e| unwritten(here, e))?;
                    let tree = tree::tree(self.repo, self.odb, entry.id(), &inner)?;
                    self.folder(&tree, &inner, depth + 1)?;
                }
                Some(ObjectType::Blob) => self.blob(inner, entry.id(), entry.filemode_raw())?,
                _ => {}
            }
        }
        Ok(())
    }

    fn blob(&mut self, path: String, id: Oid, kind: i32) -> Result<(), RevisionError> {
        self.total += tree::bounded(self.odb, id, LONGEST_WRITTEN, &path)?;
        if self.total > LONGEST_TREE {
            return Err(too_much(&path, format!("all files together have more than {LONGEST_TREE} bytes")));
        }
        let blob = self.repo.find_blob(id).map_err(|e| tree::damaged(&path, e))?;
        if kind == tree::SYMLINK {
            self.links.push((path, blob.content().to_vec()));
            return Ok(());
        }
        let mode = if kind == EXECUTABLE { 0o700 } else { 0o600 };
        let here = self.into.join(&path);
        // A crafted tree may name one file twice: the second one fails.
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&here);
        file.and_then(|mut file| file.write_all(blob.content())).map_err(|e| unwritten(here, e))
    }

    fn links(self) -> Result<(), RevisionError> {
        for (path, to) in self.links {
            let Some(to) = std::str::from_utf8(&to).ok().filter(|to| stays_inside(&path, to)) else {
                continue;
            };
            let here = self.into.join(&path);
            symlink(to, &here).map_err(|e| unwritten(here, e))?;
        }
        Ok(())
    }
}

/// Whether a link at `path` leads to somewhere in the tree, whatever the links on its way do: `..` only at its start, where the
/// folders above it are real ones.
fn stays_inside(path: &str, to: &str) -> bool {
    if to.is_empty() || to.starts_with('/') || to.contains('\0') {
        return false;
    }
    let parts: Vec<&str> = to.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let up = parts.iter().take_while(|part| **part == "..").count();
    up <= path.matches('/').count() && !parts[up..].contains(&"..")
}

fn unwritten(path: PathBuf, error: io::Error) -> RevisionError {
    RevisionError::Write { path, error }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

    use git2::{Signature, build::TreeUpdateBuilder};

    use super::*;
    use crate::git::revision::{templates, templates_in};

    /// A repository whose first commit holds these files: path, kind, content.
    fn committed(files: &[(&str, i32, &[u8])]) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(folder.path()).unwrap();
        let mut update = TreeUpdateBuilder::new();
        for (path, kind, content) in files {
            let mode = match *kind {
                tree::SYMLINK => git2::FileMode::Link,
                EXECUTABLE => git2::FileMode::BlobExecutable,
                _ => git2::FileMode::Blob,
            };
            update.upsert(*path, repo.blob(content).unwrap(), mode);
        }
        let empty = repo.find_tree(repo.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let tree = repo.find_tree(update.create_updated(&repo, &empty).unwrap()).unwrap();
        let who = Signature::now("A", "a@example.org").unwrap();
        let id = repo.commit(None, &who, &who, "first", &tree, &[]).unwrap();
        (folder, id.to_string())
    }

    const PLAIN: i32 = 0o100_644;

    #[test]
    fn a_tree_is_written_as_it_is_for_nobody_else_to_read() {
        let (repo, id) = committed(&[
            ("site.yml", PLAIN, b"- hosts: all\n"),
            ("roles/web/files/run", EXECUTABLE, b"#!/bin/sh\n"),
            ("roles/web/site.yml", tree::SYMLINK, b"../../site.yml"),
            ("out", tree::SYMLINK, b"/etc/passwd"),
            ("roles/out", tree::SYMLINK, b"../../etc"),
        ]);
        let into = tempfile::tempdir().unwrap();
        write_tree(repo.path(), &id, into.path()).unwrap();
        let mode =
            |path: &str| into.path().join(path).symlink_metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("site.yml"), mode("roles"), mode("roles/web/files/run")), (0o600, 0o700, 0o700));
        assert_eq!(std::fs::read(into.path().join("roles/web/site.yml")).unwrap(), b"- hosts: all\n");
        for left_out in ["out", "roles/out"] {
            assert!(into.path().join(left_out).symlink_metadata().is_err(), "{left_out}");
        }
        // Nothing is written over.
        assert!(matches!(write_tree(repo.path(), &id, into.path()), Err(RevisionError::Write { .. })));
    }

    #[test]
    fn links_stay_inside_whatever_is_on_their_way() {
        for (path, to) in [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d/e"), ("a", "./b/./c")] {
            assert!(stays_inside(path, to), "{path} {to}");
        }
        for (path, to) in
            [("a", "../b"), ("a/b", "c/.."), ("a/b", "../.."), ("a", "/etc"), ("a", ""), ("a/b", "../../c")]
        {
            assert!(!stays_inside(path, to), "{path} {to}");
        }
    }

    #[test]
    fn templates_are_the_texts_of_their_folder() {
        let (repo, id) = committed(&[
            ("templates/a.tera", PLAIN, b"{{ vm.name }}"),
            ("templates/mail/b.tera", PLAIN, b"b"),
            ("templates/logo.png", PLAIN, b"\x89PNG\xff"),
            ("templates/link.tera", tree::SYMLINK, b"a.tera"),
            ("other.tera", PLAIN, b"c"),
        ]);
        let read = templates(repo.path(), &id).unwrap();
        assert_eq!(read.keys().map(String::as_str).collect::<Vec<_>>(), ["a.tera", "mail/b.tera"]);
        let into = tempfile::tempdir().unwrap();
        write_tree(repo.path(), &id, into.path()).unwrap();
        assert_eq!(templates_in(&into.path().join("templates")).unwrap(), read);
        let (bare, id) = committed(&[("fleet.toml", PLAIN, b"")]);
        assert_eq!(templates(bare.path(), &id).unwrap(), BTreeMap::new());
        assert!(matches!(templates(bare.path(), "nothing"), Err(RevisionError::NoCommit(_))));
    }
}
