//! Moves: backups that were renamed, and the folders that they keep in the stores.
//!
//! What a store holds is signed under the name that it was made by, and may be locked: a rename changes nothing there. The
//! folder of a renamed backup keeps the first of its names, for what is there and for what is still to come.
//!
//! Names and folders belong together one to one, so that nothing that a store holds is ever out of reach. The folder that
//! bears the newest name, should there be one (captures were made under it before the move was declared), takes the name
//! that has become free: the first one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    names::{BackupName, FolderName},
    suspension::{Scope, Suspension},
};

/// Every rename that is declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// The name that follows a former one.
    next: BTreeMap<BackupName, BackupName>,
    /// The first and the last name of every chain, each by the other.
    ends: BTreeMap<BackupName, BackupName>,
}

impl Moves {
    /// The moves from a name to the next one. What goes in a circle, or leads where another chain has led, moves nothing.
    pub fn new(next: BTreeMap<BackupName, BackupName>) -> Self {
        let later: BTreeSet<&BackupName> = next.values().collect();
        let mut taken: BTreeSet<&BackupName> = BTreeSet::new();
        let mut ends = BTreeMap::new();
        for first in next.keys().filter(|name| !later.contains(name)) {
            let following = std::iter::successors(next.get(first), |name| next.get(*name));
            let chain: Vec<&BackupName> = following.take_while(|name| taken.insert(name)).collect();
            if let Some(last) = chain.last()
                && !next.contains_key(*last)
            {
                ends.insert(first.clone(), (*last).clone());
                ends.insert((*last).clone(), first.clone());
            }
        }
        Self { next, ends }
    }

    /// The folder of a backup in every store.
    pub fn folder(&self, backup: &BackupName) -> FolderName {
        self.ends.get(backup).unwrap_or(backup).into()
    }

    /// The name of a backup's folder as text, to look it up by.
    pub fn folder_as_text<'a>(&'a self, backup: &'a BackupName) -> &'a str {
        self.ends.get(backup).unwrap_or(backup).as_str()
    }

    /// The backup that a folder is of: what is declared under the newest of its names, or else the folder's own.
    pub fn backup(&self, folder: &FolderName) -> BackupName {
        self.ends.get(folder.as_str()).cloned().unwrap_or_else(|| folder.into())
    }

    /// The name that a backup has now which was once called `former`; `None` where that was not moved.
    pub fn newest_name(&self, former: &BackupName) -> Option<&BackupName> {
        // A chain is never longer than there are moves; a circle has no end.
        let following = std::iter::successors(self.next.get(former), |name| self.next.get(*name));
        following.take(self.next.len()).last()
    }

    /// Each former name and the one that follows it.
    pub fn iter(&self) -> impl Iterator<Item = (&BackupName, &BackupName)> {
        self.next.iter()
    }

    /// Names that mean another folder here than in `other`.
    pub fn differing<'a>(&'a self, other: &'a Self) -> BTreeSet<&'a BackupName> {
        let names = self.ends.keys().chain(other.ends.keys());
        names.filter(|name| self.ends.get(*name) != other.ends.get(*name)).collect()
    }

    /// A suspension as the stores' records keep it: by the folder of a backup.
    pub fn as_recorded(&self, suspension: Suspension) -> Suspension {
        Suspension { scope: self.scope_as_recorded(suspension.scope), ..suspension }
    }

    /// What a suspension is about, as the stores' records keep it.
    pub fn scope_as_recorded(&self, scope: Scope) -> Scope {
        self.other_end(scope)
    }

    /// A suspension from the stores' records, by the names of the declaration.
    pub fn as_declared(&self, suspension: Suspension) -> Suspension {
        Suspension { scope: self.other_end(suspension.scope), ..suspension }
    }

    fn other_end(&self, scope: Scope) -> Scope {
        match scope {
            Scope::Backup(name) => Scope::Backup(self.ends.get(&name).cloned().unwrap_or(name)),
            Scope::Everything | Scope::Store(_) => scope,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> BackupName {
        name.parse().unwrap()
    }

    fn moves(pairs: &[(&str, &str)]) -> Moves {
        Moves::new(pairs.iter().map(|(old, new)| (name(old), name(new))).collect())
    }

    #[test]
    fn a_chain_keeps_the_folder_of_its_first_name() {
        let moves = moves(&[("a", "b"), ("b", "c")]);
        assert_eq!(moves.folder(&name("c")).as_str(), "a");
        assert_eq!(moves.folder(&name("other")).as_str(), "other");
        assert_eq!(moves.newest_name(&name("a")), Some(&name("c")));
        assert_eq!(moves.newest_name(&name("b")), Some(&name("c")));
        assert_eq!(moves.newest_name(&name("c")), None);
    }

    #[test]
    fn names_and_folders_belong_together_one_to_one() {
        let declared = [
            &[][..],
            &[("a", "b")],
            &[("a", "b"), ("b", "c")],
            &[("a", "c"), ("b", "c")],
            &[("a", "b"), ("b", "a")],
            &[("a", "a")],
            &[("a", "b"), ("b", "c"), ("c", "b"), ("d", "e")],
        ];
        for pairs in declared {
            let moves = moves(pairs);
            let names = ["a", "b", "c", "d", "e", "f"].map(name);
            let folders: BTreeSet<FolderName> = names.iter().map(|name| moves.folder(name)).collect();
            assert_eq!(folders.len(), names.len(), "{pairs:?}");
            for name in &names {
                assert_eq!(moves.backup(&moves.folder(name)), *name, "{pairs:?}");
                assert_eq!(moves.folder(name).as_str(), moves.folder_as_text(name));
            }
        }
    }

    #[test]
    fn what_was_suspended_under_the_first_name_is_suspended_under_the_newest() {
        let moves = moves(&[("a", "b")]);
        let of = |scope| Suspension {
            scope,
            from: None,
            until: jiff::Timestamp::UNIX_EPOCH,
            reason: "hardware".to_owned(),
        };
        assert_eq!(moves.as_declared(of(Scope::Backup(name("a")))), of(Scope::Backup(name("b"))));
        assert_eq!(moves.as_recorded(of(Scope::Backup(name("b")))), of(Scope::Backup(name("a"))));
        assert_eq!(moves.as_recorded(of(Scope::Everything)), of(Scope::Everything));
    }

    #[test]
    fn only_the_ends_of_a_chain_mean_another_folder_than_before() {
        let (none, short, long) = (moves(&[]), moves(&[("a", "b")]), moves(&[("a", "b"), ("b", "c")]));
        let differing = |one: &Moves, other: &Moves| {
            one.differing(other).into_iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(differing(&none, &short), "a b");
        assert_eq!(differing(&short, &long), "a b c");
        assert_eq!(differing(&long, &long), "");
    }
}
