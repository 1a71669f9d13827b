//! Which members of an archive a restore brings back: the current objects, or those that are selected. Pure.

use super::{Failure, about::About, standing::Standings};
use crate::sources::selection::{Missing, Picks, Selection};

/// Between a key and the version that is selected of it, as in the names of the archive.
const VERSION: &str = "?versionId=";

/// Chooses members in their order.
#[derive(Debug)]
pub(super) struct Chosen {
    standings: Standings,
    part: Option<Part>,
}

/// What is selected: current objects by their keys, and single versions.
#[derive(Debug)]
struct Part {
    picks: Picks,
    versions: Vec<Version>,
}

#[derive(Debug)]
struct Version {
    /// As it was given: `KEY?versionId=ID`.
    shown: String,
    found: bool,
}

impl Chosen {
    /// Of all, or of what `selection` selects: objects whose keys are at a path or below it, and of a path that ends in
    /// `?versionId=ID` that very version.
    pub(super) fn of(selection: Option<&Selection>) -> Self {
        let part = selection.map(|selection| {
            let is_version = |path: &&String| path.contains(VERSION);
            let (versions, keys): (Vec<_>, Vec<_>) = selection.paths().iter().partition(is_version);
            let version = |path: &String| Version { shown: path.clone(), found: false };
            Part { picks: Picks::of(keys), versions: versions.into_iter().map(version).collect() }
        });
        Self { standings: Standings::default(), part }
    }

    /// Whether this member comes back.
    pub(super) fn takes(&mut self, about: &About) -> Result<bool, Failure> {
        let current = self.standings.is_current(about)? && !about.delete_marker;
        Ok(match &mut self.part {
            None => current,
            Some(part) => part.takes(about, current),
        })
    }

    /// Whether only a part comes back.
    pub(super) fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// What was selected and not found, once the archive was read to its end.
    pub(super) fn missing(&self) -> Option<Missing> {
        let part = self.part.as_ref()?;
        let versions = part.versions.iter().map(|version| (version.shown.as_str(), version.found));
        Missing::among(part.picks.outcomes().chain(versions))
    }
}

impl Part {
    fn takes(&mut self, about: &About, current: bool) -> bool {
        let mut taken = current && self.picks.take(about.key.as_bytes());
        for version in &mut self.versions {
            if !about.delete_marker && version.is(about, current) {
                version.found = true;
                taken = true;
            }
        }
        taken
    }
}

impl Version {
    fn is(&self, about: &About, current: bool) -> bool {
        // A key may look like a version of another.
        let itself = current && self.shown == about.key;
        let id = self.shown.strip_prefix(about.key.as_str()).and_then(|rest| rest.strip_prefix(VERSION));
        itself || (id.is_some() && id == about.version_id.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<About> {
        let about = |key: &str, version: &str, delete_marker| About {
            key: key.to_owned(),
            version_id: Some(version.to_owned()),
            delete_marker,
            ..About::default()
        };
        vec![
            about("a/b", "2", false),
            about("a/b", "1", false),
            about("a/c", "4", true),
            about("a/c", "3", false),
            about("ab", "5", false),
            about("x?versionId=9", "6", false),
        ]
    }

    fn taken(paths: &[&str]) -> (Vec<String>, Option<Missing>) {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut chosen = Chosen::of(Selection::of(&paths).as_ref());
        let taken: Vec<About> = members().into_iter().filter(|about| chosen.takes(about).unwrap()).collect();
        (taken.into_iter().map(|about| about.version_id.unwrap()).collect(), chosen.missing())
    }

    #[test]
    fn current_objects_at_a_path_and_single_versions_are_chosen() {
        assert_eq!(taken(&[]), (vec!["2".to_owned(), "5".to_owned(), "6".to_owned()], None));
        assert_eq!(taken(&["a"]).0, ["2"]);
        assert_eq!(taken(&["a/", "ab"]).0, ["2", "5"]);
        assert_eq!(taken(&["a/b?versionId=1"]), (vec!["1".to_owned()], None));
        assert_eq!(taken(&["a/c?versionId=3"]).0, ["3"], "what is deleted has versions all the same");
        assert_eq!(taken(&["x?versionId=9"]), (vec!["6".to_owned()], None));
    }

    #[test]
    fn what_is_not_there_or_deleted_is_missing() {
        for path in ["a/c", "b", "a/b?versionId=7", "a/c?versionId=4"] {
            let (taken, missing) = taken(&[path]);
            assert_eq!((taken, missing.unwrap().paths), (Vec::new(), vec![path.to_owned()]));
        }
        assert!(taken(&["ab", "b"]).1.unwrap().others_found);
    }
}
