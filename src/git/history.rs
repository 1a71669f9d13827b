//! How revisions hang together.

use std::path::PathBuf;

use git2::{Oid, Repository};

use super::{
    Mirror,
    mirror::{blocking, is_ancestor},
};

impl Mirror {
    /// Whether `old` is in the history of `new`. Not, if the mirror lacks one of them.
    pub async fn leads_to(&self, old: &str, new: &str) -> bool {
        let (path, old, new) = (self.path().to_owned(), old.to_owned(), new.to_owned());
        blocking(move || {
            old == new || Repository::open_bare(path).is_ok_and(|repo| is_ancestor(&repo, &old, &new))
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
