//! Tips: the references of a repository, and the one line that names them all.

use std::collections::BTreeMap;

use git2::Repository;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The key of [`Tips`] that holds the commit of the watched branch.
pub const HEAD: &str = "HEAD";

/// Where tips that their branch or tag no longer reaches are kept: this, and the object's full id.
pub const OLD: &str = "refs/backstay/old/";

/// The references that Backstay keeps.
pub const KEPT: [&str; 3] = ["refs/heads/", "refs/tags/", OLD];

/// Names stand in manifests and records, which are text.
pub(super) const NO_TEXT: &str = "the name of a branch or tag is not UTF-8, rename it";

/// The tips of a repository: the object's id, 40 lower-case hexadecimal digits, by the reference's full name; and
/// [`HEAD`], when the watched branch exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tips(pub BTreeMap<String, String>);

impl Tips {
    /// The tips of `repo`: branches, tags, kept old tips, and HEAD.
    pub fn read(repo: &Repository) -> Result<Self, git2::Error> {
        let mut tips = Self::below(repo, &KEPT)?;
        if let Ok(head) = repo.head()
            && let Some(id) = head.target()
        {
            tips.0.insert(HEAD.to_owned(), id.to_string());
        }
        Ok(tips)
    }

    /// The references whose names begin with one of `prefixes`. What a symbolic one leads to is its tip; one that leads
    /// nowhere is left out.
    pub fn below(repo: &Repository, prefixes: &[&str]) -> Result<Self, git2::Error> {
        let mut tips = BTreeMap::new();
        for prefix in prefixes {
            for reference in repo.references_glob(&format!("{prefix}*"))? {
                let reference = reference?;
                let id = reference.target().or_else(|| reference.resolve().ok()?.target());
                if let Some(id) = id {
                    let name = reference.name().map_err(|_| git2::Error::from_str(NO_TEXT))?;
                    tips.insert(name.to_owned(), id.to_string());
                }
            }
        }
        Ok(Self(tips))
    }

    /// The commit of the watched branch.
    pub fn head(&self) -> Option<&str> {
        self.get(HEAD)
    }

    /// The tip of one reference, by its full name.
    pub fn get(&self, reference: &str) -> Option<&str> {
        self.0.get(reference).map(String::as_str)
    }

    /// Whether there is nothing at all: no commit was made yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same without one reference.
    #[must_use]
    pub fn without(mut self, reference: Option<&str>) -> Self {
        if let Some(reference) = reference {
            self.0.remove(reference);
        }
        self
    }

    /// Every reference but HEAD, by name.
    pub fn references(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter(|(name, _)| *name != HEAD).map(|(name, id)| (name.as_str(), id.as_str()))
    }
}

/// One line that is equal exactly when all tips are: `<head>:<digest>`, where the digest is the SHA-256 of the lines
/// `<reference> <tip>\n` in the order of their names, and the head is `-` when the watched branch does not exist.
///
/// It stands in clear in the manifest of the infra repo's own backup ([`crate::artifact::manifest::Moment::At`]), so
/// that a planner sees what a store holds without an identity.
pub fn tips_position(tips: &Tips) -> String {
    let mut digest = Sha256::new();
    for (reference, tip) in &tips.0 {
        digest.update(format!("{reference} {tip}\n"));
    }
    format!("{}:{}", tips.head().unwrap_or("-"), hex::encode(digest.finalize()))
}

/// The commit that a [`tips_position`] names.
pub fn head_of_position(position: &str) -> Option<&str> {
    position.split_once(':').map(|(head, _)| head).filter(|head| *head != "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tips(pairs: &[(&str, &str)]) -> Tips {
        Tips(pairs.iter().map(|(name, id)| (name.to_string(), id.to_string())).collect())
    }

    #[test]
    fn the_position_changes_with_any_reference_and_names_the_head() {
        let base = tips(&[("HEAD", "aa"), ("refs/heads/main", "aa")]);
        let position = tips_position(&base);
        assert_eq!(head_of_position(&position), Some("aa"));
        for other in [
            tips(&[("HEAD", "aa"), ("refs/heads/main", "aa"), ("refs/tags/v1", "aa")]),
            tips(&[("HEAD", "aa"), ("refs/heads/other", "aa")]),
            tips(&[("HEAD", "ab"), ("refs/heads/main", "ab")]),
            tips(&[("refs/heads/main", "aa")]),
        ] {
            assert_ne!(tips_position(&other), position, "{other:?}");
        }
    }

    #[test]
    fn without_the_watched_branch_the_position_has_no_head() {
        let position = tips_position(&tips(&[("refs/heads/other", "aa")]));
        assert!(position.starts_with("-:"));
        assert_eq!(head_of_position(&position), None);
    }
}
