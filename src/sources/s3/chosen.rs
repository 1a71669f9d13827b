//! Which members of an archive a restore brings back: the current objects, or those that are selected. Pure.

use std::collections::BTreeMap;

use super::{Failure, about::About, fetch::shown, standing::Standings};
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
    /// The key of the last member that was taken.
    last: Option<String>,
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
    /// Two versions of one object are refused: one would be put over the other.
    pub(super) fn of(selection: Option<&Selection>) -> Result<Self, Failure> {
        let part = selection.map(Part::of).transpose()?;
        Ok(Self { standings: Standings::default(), part })
    }

    /// Whether this member comes back.
    pub(super) fn takes(&mut self, about: &About) -> Result<bool, Failure> {
        let current = self.standings.is_current(about)? && !about.delete_marker;
        Ok(match &mut self.part {
            None => current,
            Some(part) => part.takes(about, current)?,
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
    fn of(selection: &Selection) -> Result<Self, Failure> {
        let (mut keys, mut versions) = (Vec::new(), BTreeMap::new());
        for path in selection.paths() {
            match path.rsplit_once(VERSION) {
                None => keys.push(path),
                Some((key, _)) => match versions.insert(key, path) {
                    Some(other) if other != path => return Err(twice(key)),
                    _ => {}
                },
            }
        }
        let picks = Picks::of(keys);
        match versions.keys().find(|key| picks.hold(key.as_bytes())) {
            Some(key) => Err(twice(key)),
            None => {
                let version = |path: &String| Version { shown: path.clone(), found: false };
                Ok(Self { picks, versions: versions.into_values().map(version).collect(), last: None })
            }
        }
    }

    fn takes(&mut self, about: &About, current: bool) -> Result<bool, Failure> {
        let mut taken = current && self.picks.take(about.key.as_bytes());
        for version in &mut self.versions {
            if !about.delete_marker && version.is(about, current) {
                version.found = true;
                taken = true;
            }
        }
        // A key that looks like a version of another is seen here only. Members come in the order of keys.
        match taken && self.last.replace(about.key.clone()).as_ref() == Some(&about.key) {
            true => Err(twice(&about.key)),
            false => Ok(taken),
        }
    }
}

fn twice(key: &str) -> Failure {
    Failure::Refused(format!(
        "two versions of `{}` are selected, of which one would be put over the other; restore one after the other",
        shown(key)
    ))
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
        let mut chosen = Chosen::of(Selection::of(&paths).as_ref()).unwrap();
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
    fn two_versions_of_one_object_are_refused_before_anything_is_restored() {
        let of = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            Chosen::of(Selection::of(&paths).as_ref())
        };
        for paths in
            [["a/b", "a/b?versionId=1"], ["a/b?versionId=2", "a/"], ["a/b?versionId=1", "a/b?versionId=2"]]
        {
            assert!(matches!(of(&paths), Err(Failure::Refused(_))), "{paths:?}");
        }
        for paths in
            [["ab", "a/b?versionId=1"], ["a/b?versionId=1", "a/b?versionId=1"], ["a/c", "a/b?versionId=1"]]
        {
            assert!(of(&paths).is_ok(), "{paths:?}");
        }
        // The first is a key, and the second an earlier version of the object that has it.
        let mut odd = of(&["x?versionId=9", "x?versionId=9?versionId=0"]).unwrap();
        let about = |version: &str| About {
            key: "x?versionId=9".to_owned(),
            version_id: Some(version.to_owned()),
            ..About::default()
        };
        assert!(odd.takes(&about("6")).unwrap());
        assert!(matches!(odd.takes(&about("0")), Err(Failure::Refused(_))));
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
