//! A revision's files, read from the object database.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use git2::{Commit, ObjectType, Odb, Oid, Repository, Signature, Tree};
use jiff::Timestamp;

use super::{
    Budget, Declaration, LONGEST_FILE, Revision, RevisionError, declares, joined, misleading, parts,
};
use crate::{git::url::git_dir, templates};

/// The longest object that describes a commit or a folder, bytes: 10,000 entries with long names.
pub(super) const LONGEST_DESCRIPTION: u64 = 4 << 20;

/// The longest text of a commit that is shown, characters.
const LONGEST_TEXT: usize = 200;

pub(super) const SYMLINK: i32 = 0o120000;

/// Reads what the commit `revision` (anything that names one, see gitrevisions(7)) of the repository at `repo` declares
/// in `folder`; an empty folder is the whole repository. Symbolic links and submodules are left out.
pub fn read(repo: &Path, revision: &str, folder: &str) -> Result<Declaration, RevisionError> {
    let repo = open(repo)?;
    let odb = repo.odb().map_err(|e| damaged("the object database", e))?;
    let commit = find(&repo, &odb, revision)?;
    let root = tree(&repo, &odb, commit.tree_id(), "the root folder")?;
    let start = enter(&repo, &odb, root, folder, revision)?;
    let mut walk = Walk { repo: &repo, odb: &odb, wanted: declares, budget: Budget::default() };
    walk.folder(&start, "", 0)?;
    Ok(Declaration { revision: describe_commit(&commit), files: walk.budget.files })
}

/// Reads the templates that the commit `revision` of the repository at `repo` holds in its folder `templates`, by their paths in
/// it; none where there is no such folder. What is no text is left out, and so are symbolic links and submodules.
pub fn templates(repo: &Path, revision: &str) -> Result<BTreeMap<String, String>, RevisionError> {
    let repo = open(repo)?;
    let odb = repo.odb().map_err(|e| damaged("the object database", e))?;
    let commit = find(&repo, &odb, revision)?;
    let root = tree(&repo, &odb, commit.tree_id(), "the root folder")?;
    let start = match enter(&repo, &odb, root, templates::FOLDER, revision) {
        Ok(start) => start,
        Err(RevisionError::NoFolder { .. }) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let mut walk = Walk { repo: &repo, odb: &odb, wanted: |_| true, budget: Budget::default() };
    walk.folder(&start, "", 0)?;
    Ok(super::texts(walk.budget.files))
}

/// What the commit `revision` of the repository at `repo` is.
pub fn describe(repo: &Path, revision: &str) -> Result<Revision, RevisionError> {
    let repo = open(repo)?;
    let odb = repo.odb().map_err(|e| damaged("the object database", e))?;
    Ok(describe_commit(&find(&repo, &odb, revision)?))
}

pub(super) fn open(path: &Path) -> Result<Repository, RevisionError> {
    let dir = git_dir(path).unwrap_or_else(|| path.to_owned());
    Repository::open_bare(dir).map_err(|e| damaged(&format!("the repository {}", path.display()), e))
}

pub(super) fn find<'r>(
    repo: &'r Repository,
    odb: &Odb<'_>,
    revision: &str,
) -> Result<Commit<'r>, RevisionError> {
    let missing = || RevisionError::NoCommit(revision.escape_debug().to_string());
    let id = match Oid::from_str(revision) {
        Ok(id) if revision.len() == 40 => id,
        _ => {
            let found = repo.revparse_single(&format!("{revision}^{{commit}}"));
            found.map_err(|_| missing())?.id()
        }
    };
    if !odb.exists(id) {
        return Err(missing());
    }
    bounded(odb, id, LONGEST_DESCRIPTION, "the commit")?;
    repo.find_commit(id).map_err(|e| damaged(&format!("commit {id}"), e))
}

/// Looks at an object's header, so that what is too long is never read. Its size.
pub(super) fn bounded(odb: &Odb<'_>, id: Oid, limit: u64, what: &str) -> Result<u64, RevisionError> {
    let (size, _) = odb.read_header(id).map_err(|e| damaged(what, e))?;
    let size = size as u64;
    if size > limit {
        return Err(super::too_much(what, format!("it has {size} bytes, more than {limit}")));
    }
    Ok(size)
}

pub(super) fn tree<'r>(
    repo: &'r Repository,
    odb: &Odb<'_>,
    id: Oid,
    what: &str,
) -> Result<Tree<'r>, RevisionError> {
    bounded(odb, id, LONGEST_DESCRIPTION, what)?;
    repo.find_tree(id).map_err(|e| damaged(what, e))
}

fn enter<'r>(
    repo: &'r Repository,
    odb: &Odb<'_>,
    root: Tree<'r>,
    folder: &str,
    revision: &str,
) -> Result<Tree<'r>, RevisionError> {
    let mut here = root;
    for part in parts(folder) {
        let inner = here.get_name(part).filter(|entry| entry.kind() == Some(ObjectType::Tree));
        let id = inner.map(|entry| entry.id()).ok_or_else(|| RevisionError::NoFolder {
            folder: folder.escape_debug().to_string(),
            whose: format!("revision {}", revision.escape_debug()),
        })?;
        here = tree(repo, odb, id, folder)?;
    }
    Ok(here)
}

struct Walk<'a> {
    repo: &'a Repository,
    odb: &'a Odb<'a>,
    /// Whether a file of this name is read.
    wanted: fn(&[u8]) -> bool,
    budget: Budget,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Tree<'_>, path: &str, depth: usize) -> Result<(), RevisionError> {
        self.budget.depth(path, depth)?;
        for entry in folder {
            self.budget.entry(path)?;
            match entry.kind() {
                Some(ObjectType::Tree) => {
                    let path = joined(path, entry.name_bytes())?;
                    let inner = tree(self.repo, self.odb, entry.id(), &path)?;
                    self.folder(&inner, &path, depth + 1)?;
                }
                Some(ObjectType::Blob)
                    if entry.filemode_raw() != SYMLINK && (self.wanted)(entry.name_bytes()) =>
                {
                    self.file(joined(path, entry.name_bytes())?, entry.id())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, path: String, id: Oid) -> Result<(), RevisionError> {
        let size = bounded(self.odb, id, LONGEST_FILE, &path)?;
        self.budget.file(&path, size)?;
        let blob = self.repo.find_blob(id).map_err(|e| damaged(&path, e))?;
        match self.budget.files.entry(path) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(blob.content().to_vec());
                Ok(())
            }
            // A crafted tree may name one file twice; neither may win unseen.
            std::collections::btree_map::Entry::Occupied(taken) => {
                Err(RevisionError::Name(format!("`{}`, which is there twice", taken.key().escape_debug())))
            }
        }
    }
}

pub(super) fn damaged(what: &str, error: git2::Error) -> RevisionError {
    RevisionError::Object {
        what: what.escape_debug().to_string(),
        reason: error.message().escape_debug().to_string(),
    }
}

fn describe_commit(commit: &Commit<'_>) -> Revision {
    Revision {
        id: commit.id().to_string(),
        author: person(&commit.author()),
        committer: person(&commit.committer()),
        time: Timestamp::from_second(commit.time().seconds()).unwrap_or(Timestamp::UNIX_EPOCH),
        subject: printable(&String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default())),
    }
}

fn person(signature: &Signature<'_>) -> String {
    let text = |bytes| -> Cow<'_, str> { String::from_utf8_lossy(bytes) };
    printable(&format!("{} <{}>", text(signature.name_bytes()), text(signature.email_bytes())))
}

/// A text of a commit without what would act on a terminal.
fn printable(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).map(|c| if misleading(c) { '\u{fffd}' } else { c }).collect()
}
