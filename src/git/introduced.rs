//! Which commit brought a file as it is.

use git2::{Commit, Odb, Oid, Repository, Tree};

use super::mirror::is_ancestor;

/// The most commits that are looked at.
const MOST_COMMITS: usize = 10_000;
/// The largest folder that is looked into, bytes.
const LARGEST_TREE: usize = 4 << 20;

/// The commit in the history of `tip` that brought the file `path` (its parts) as `tip` has it.
///
/// A merge that takes the file from one of its parents brings nothing: the commit in that parent's history does. Unless that
/// commit is in the history of the parent that lacks it, too: the file had been taken away or changed since, and the merge
/// brings it back.
///
/// # Errors
/// Why it can't be told, for people.
pub(super) fn introduced(repo: &Repository, tip: Oid, path: &[&str]) -> Result<Oid, String> {
    let search = Search { repo, odb: repo.odb().map_err(told)?, path };
    let mut here = repo.find_commit(tip).map_err(told)?;
    let wanted = search.file(&here)?.ok_or("the revision does not have it")?;
    // Merges at which another than the first parent was followed, with the first.
    let mut turns: Vec<(Oid, Oid)> = Vec::new();
    for _ in 0..MOST_COMMITS {
        match search.parent_with(&here, wanted)? {
            Some((0, parent)) => here = parent,
            Some((_, parent)) => {
                turns.push((here.id(), here.parent_id(0).map_err(told)?));
                here = parent;
            }
            None => {
                let id = here.id();
                let had_it =
                    |first: &Oid| id == *first || is_ancestor(repo, &id.to_string(), &first.to_string());
                let brought_back = turns.iter().find(|(_, first)| had_it(first));
                return Ok(brought_back.map_or(id, |(merge, _)| *merge));
            }
        }
    }
    Err(format!("it is older than {MOST_COMMITS} commits"))
}

struct Search<'a> {
    repo: &'a Repository,
    odb: Odb<'a>,
    path: &'a [&'a str],
}

impl<'a> Search<'a> {
    /// The first parent that has the file with the same content, by its number.
    fn parent_with(&self, commit: &Commit<'a>, wanted: Oid) -> Result<Option<(usize, Commit<'a>)>, String> {
        for number in 0..commit.parent_count() {
            let parent = commit.parent(number).map_err(told)?;
            if self.file(&parent)? == Some(wanted) {
                return Ok(Some((number, parent)));
            }
        }
        Ok(None)
    }

    /// The content of the file in a commit.
    fn file(&self, commit: &Commit<'a>) -> Result<Option<Oid>, String> {
        let Some((name, folders)) = self.path.split_last() else { return Ok(None) };
        let mut here = self.tree(commit.tree_id())?;
        for folder in folders {
            let Some(id) = here.get_name(folder).map(|entry| entry.id()) else { return Ok(None) };
            match self.repo.find_object(id, None).map(|object| object.kind()) {
                Ok(Some(git2::ObjectType::Tree)) => here = self.tree(id)?,
                _ => return Ok(None),
            }
        }
        Ok(here.get_name(name).map(|entry| entry.id()))
    }

    fn tree(&self, id: Oid) -> Result<Tree<'a>, String> {
        let (size, _) = self.odb.read_header(id).map_err(told)?;
        if size > LARGEST_TREE {
            return Err(format!("a folder in its history has more than {LARGEST_TREE} bytes"));
        }
        self.repo.find_tree(id).map_err(told)
    }
}

fn told(error: git2::Error) -> String {
    error.message().escape_debug().to_string()
}
