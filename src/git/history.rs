//! How revisions hang together.

use std::path::{Path, PathBuf};

use git2::{Oid, Repository};

use super::{
    Mirror, Revision, RevisionError,
    mirror::{blocking, is_ancestor},
    revision,
};

/// How many lost commits are named, and how many are counted.
const MOST_NAMED: usize = 10;
const MOST_COUNTED: usize = 10_000;

/// The commits that a rewritten branch has lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// The newest of them, newest first.
    pub newest: Vec<Revision>,
    /// How many there are in all, or [`MOST_COUNTED`] of more.
    pub count: usize,
}

/// For people, in one line.
impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let some = if self.count >= MOST_COUNTED { "at least " } else { "" };
        let commits = if self.count == 1 { "commit" } else { "commits" };
        write!(f, "{some}{} {commits}", self.count)?;
        for (number, lost) in self.newest.iter().enumerate() {
            let id = lost.id.get(..10).unwrap_or(&lost.id);
            let between = if number == 0 { ": " } else { ", " };
            write!(f, "{between}{id} \"{}\" by {}", lost.subject, lost.author)?;
        }
        match self.count.saturating_sub(self.newest.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Mirror {
    /// Whether `old` is in the history of `new`. Not, if the mirror lacks one of them.
    pub async fn leads_to(&self, old: &str, new: &str) -> bool {
        let (path, old, new) = (self.path().to_owned(), old.to_owned(), new.to_owned());
        blocking(move || {
            old == new || Repository::open_bare(path).is_ok_and(|repo| is_ancestor(&repo, &old, &new))
        })
        .await
    }

    /// What the commit `id` is; an error for what is none.
    pub async fn describe(&self, id: &str) -> Result<Revision, RevisionError> {
        let (path, id) = (self.path().to_owned(), id.to_owned());
        blocking(move || revision::describe(&path, &id)).await
    }

    /// The commits in the history of `from` that are not in that of `to`.
    pub async fn lost(&self, from: &str, to: &str) -> Lost {
        let (path, from, to) = (self.path().to_owned(), from.to_owned(), to.to_owned());
        blocking(move || {
            let ids = not_in(&path, &from, &to).unwrap_or_default();
            let named = ids.iter().take(MOST_NAMED).filter_map(|id| revision::describe(&path, id).ok());
            Lost { newest: named.collect(), count: ids.len() }
        })
        .await
    }

    /// `from` and the commits before it on its first-parent line, newest first, at most so many; ends where the mirror
    /// knows no more.
    pub async fn line(&self, from: &str, most: usize) -> Vec<String> {
        let (path, from) = (self.path().to_owned(), from.to_owned());
        blocking(move || walk(path, &from, most).unwrap_or_default()).await
    }
}

fn not_in(path: &Path, from: &str, to: &str) -> Result<Vec<String>, git2::Error> {
    let repo = Repository::open_bare(path)?;
    let mut walk = repo.revwalk()?;
    walk.set_sorting(git2::Sort::TOPOLOGICAL | git2::Sort::TIME)?;
    walk.push(Oid::from_str(from)?)?;
    walk.hide(Oid::from_str(to)?)?;
    walk.take(MOST_COUNTED).map(|id| id.map(|id| id.to_string())).collect()
}

fn walk(path: PathBuf, from: &str, most: usize) -> Result<Vec<String>, git2::Error> {
    let repo = Repository::open_bare(path)?;
    let mut next = repo.find_commit(Oid::from_str(from)?).ok();
    let mut line = Vec::new();
    while let Some(commit) = next.filter(|_| line.len() < most) {
        line.push(commit.id().to_string());
        next = commit.parent(0).ok();
    }
    Ok(line)
}
