//! Merges that were made by the web page of the host of the infra repo, and signed by its key.
//!
//! That key signs whatever anybody does on the page, so it proves nothing about who. It counts only where the merge adds
//! nothing of its own: it has two parents, each of them trusted by itself, in force already, or such a merge again; and
//! its content is what merging them without conflicts gives.

use std::collections::HashSet;

use git2::{Commit, Oid};

use super::{Judge, MOST_COMMITS};

/// Whether the merge `id`, signed by the web page's key, counts. `trusted` are commits that were found so before.
pub(super) fn check(
    judge: &Judge<'_>,
    id: Oid,
    base: Option<&str>,
    trusted: &HashSet<Oid>,
) -> Result<(), String> {
    let (mut open, mut seen) = (vec![id], HashSet::from([id]));
    while let Some(id) = open.pop() {
        let merge = judge.repo.find_commit(id).map_err(|e| e.message().to_owned())?;
        for parent in parents(&merge)? {
            if !seen.insert(parent) || trusted.contains(&parent) || judge.is_in(parent, base) {
                continue;
            }
            match judge.verdict(parent) {
                Ok(_) => {}
                Err(_) if judge.by_web_flow(parent).is_some() => open.push(parent),
                Err(why) => return Err(judge.distrust(parent, why.to_string()).to_string()),
            }
        }
        if seen.len() > MOST_COMMITS {
            return Err(format!("more than {MOST_COMMITS} commits would have to be looked at"));
        }
        adds_nothing(judge, &merge)?;
    }
    Ok(())
}

fn parents(merge: &Commit<'_>) -> Result<[Oid; 2], String> {
    let parents: Vec<Oid> = merge.parent_ids().collect();
    parents.try_into().map_err(|parents: Vec<Oid>| {
        let id = merge.id().to_string();
        format!(
            "that key counts for merges of two commits only, and {} has {} parents",
            &id[..10],
            parents.len()
        )
    })
}

/// Whether the content is what Git makes of the parents by itself.
fn adds_nothing(judge: &Judge<'_>, merge: &Commit<'_>) -> Result<(), String> {
    let merged = || {
        let (ours, theirs) = (merge.parent(0)?, merge.parent(1)?);
        let mut index = judge.repo.merge_commits(&ours, &theirs, None)?;
        if index.has_conflicts() { Ok(None) } else { index.write_tree_to(judge.repo).map(Some) }
    };
    match merged().map_err(|error: git2::Error| format!("it cannot be merged again: {}", error.message()))? {
        Some(tree) if tree == merge.tree_id() => Ok(()),
        Some(_) => Err("its content is not what merging its parents gives".to_owned()),
        None => Err("its parents conflict, so that its content was made on the page".to_owned()),
    }
}
