//! A branch of the infra repo that the controller itself writes: whole trees of texts, each pushed as one commit on the one before,
//! and never by force.
//!
//! The branch is known for the controller's own by its newest commit: it has a file at its root, [`MARK`], with a fleet's name in it,
//! and that fleet's controller for its author. One that was there before, that somebody else has added to, or that another fleet's
//! controller writes, is left alone. What it holds is made from the rest, so that it is in no mirror and no bundle.

mod own_copy;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use git2::{Commit, Index, IndexEntry, IndexTime, Oid, Repository, Signature, Time};
use jiff::Timestamp;

pub(super) use own_copy::OwnCopy;

use super::{
    mirror::{blocking, prepare},
    url::RepoUrl,
};
use crate::spec::names::FleetName;

/// The file that tells whose a branch is.
pub const MARK: &str = ".backstay-runbooks";

/// A plain file, for everybody to read.
const FILE: u32 = 0o100_644;

/// The longest name of a fleet in a mark that is read, bytes.
const LONGEST_MARK: usize = 1024;

/// What came of writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The branch holds exactly that already.
    Unchanged,
    /// It is a new commit, by its id.
    Commit(String),
}

/// Why a branch does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Our own copy can't be used.
    #[error("failed to prepare a commit in {}: {reason}; check space and rights there, or move it away", path.display())]
    Ours {
        /// Its folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The branch is somebody else's.
    #[error(
        "failed to write branch {branch} of {url}: {why}; name another branch in runbook.branch of the controller's configuration"
    )]
    Foreign {
        /// The branch.
        branch: String,
        /// The infra repo.
        url: RepoUrl,
        /// Whose it seems to be.
        why: String,
    },
    /// The infra repo did not answer.
    #[error(
        "failed to ask {url} for branch {branch}: {reason}; check that `git ls-remote` of it works for this user"
    )]
    Unreachable {
        /// The branch.
        branch: String,
        /// The infra repo.
        url: RepoUrl,
        /// Why.
        reason: String,
    },
    /// The infra repo did not take it.
    #[error("failed to push branch {branch} to {url}: {reason}; let this user push to that branch")]
    Rejected {
        /// The branch.
        branch: String,
        /// The infra repo.
        url: RepoUrl,
        /// Why.
        reason: String,
    },
}

/// The branch.
#[derive(Clone, Debug)]
pub struct WrittenBranch {
    copy: OwnCopy,
    fleet: FleetName,
}

impl WrittenBranch {
    /// The branch `branch` of `url`, which the controller of `fleet` writes, with a copy in `state_dir`.
    pub fn open(state_dir: &Path, url: RepoUrl, branch: &str, fleet: &FleetName) -> Result<Self, WriteError> {
        Ok(Self { copy: OwnCopy::open(state_dir, url, branch)?, fleet: fleet.clone() })
    }

    /// Has the branch hold exactly `files`, texts by their paths, as one commit more where it does not yet. What it holds is asked
    /// each time; it is fetched only where it is not known.
    pub async fn put(
        &self,
        files: BTreeMap<String, Arc<str>>,
        message: &str,
        now: Timestamp,
    ) -> Result<Written, WriteError> {
        let _alone = self.copy.alone().await?;
        let tip = self.copy.tip().await?;
        match tip {
            // Nothing is no reason to begin a branch.
            None if files.is_empty() => return Ok(Written::Unchanged),
            None => {}
            Some(tip) => self.copy.bring(tip).await?,
        }
        let (this, message) = (self.clone(), message.to_owned());
        let commit = blocking(move || this.commit(tip, &files, &message, now)).await?;
        match commit {
            None => Ok(Written::Unchanged),
            Some(commit) => {
                self.copy.push(commit).await?;
                self.copy.tidy().await;
                Ok(Written::Commit(commit.to_string()))
            }
        }
    }

    /// A commit that holds `files`, on `tip`; `None` where `tip` holds them already.
    fn commit(
        &self,
        tip: Option<Oid>,
        files: &BTreeMap<String, Arc<str>>,
        message: &str,
        now: Timestamp,
    ) -> Result<Option<Oid>, WriteError> {
        let failed = |error: git2::Error| self.copy.ours(&error);
        let repo = prepare(self.copy.path()).map_err(failed)?;
        let parent = tip.map(|tip| repo.find_commit(tip)).transpose().map_err(failed)?;
        parent.as_ref().map_or(Ok(()), |parent| self.must_be_ours(&repo, parent))?;
        let tree = self.tree(&repo, files).map_err(failed)?;
        if parent.as_ref().is_some_and(|parent| parent.tree_id() == tree) {
            return Ok(None);
        }
        let tree = repo.find_tree(tree).map_err(failed)?;
        let who = Signature::new(NAME, &address(self.fleet.as_str()), &Time::new(now.as_second(), 0));
        let who = who.map_err(failed)?;
        let parents: Vec<&Commit<'_>> = parent.iter().collect();
        repo.commit(None, &who, &who, message, &tree, &parents).map(Some).map_err(failed)
    }

    fn tree(&self, repo: &Repository, files: &BTreeMap<String, Arc<str>>) -> Result<Oid, git2::Error> {
        let mark = (MARK.to_owned(), Arc::from(format!("{}\n", self.fleet)));
        let mut index = Index::new()?;
        for (path, content) in files.iter().chain([(&mark.0, &mark.1)]) {
            let id = repo.blob(content.as_bytes())?;
            index.add(&entry(path, id))?;
        }
        index.write_tree_to(repo)
    }

    /// Refuses a branch that this fleet's controller did not write.
    fn must_be_ours(&self, repo: &Repository, tip: &Commit<'_>) -> Result<(), WriteError> {
        let why = match (writer(repo, tip), mark(repo, tip)) {
            (Some(fleet), _) if fleet == self.fleet.as_str() => return Ok(()),
            (Some(_), _) => "another fleet's controller writes it",
            (None, Some(_)) => "its newest commit is somebody else's, who may want to keep it",
            (None, None) => "it holds something else than runbooks",
        };
        Err(self.copy.foreign(why))
    }
}

/// What the controller calls itself in commits.
const NAME: &str = "Backstay";

fn address(fleet: &str) -> String {
    format!("backstay@{fleet}.invalid")
}

/// The fleet whose controller wrote a commit of such a branch, as the commit has it; `None` where none did.
pub(super) fn writer(repo: &Repository, commit: &Commit<'_>) -> Option<String> {
    let fleet = mark(repo, commit)?;
    let address = address(&fleet);
    let is_ours = |who: Signature<'_>| who.email_bytes() == address.as_bytes();
    (is_ours(commit.author()) && is_ours(commit.committer())).then_some(fleet)
}

/// The name in the file that tells whose a branch is.
fn mark(repo: &Repository, commit: &Commit<'_>) -> Option<String> {
    let blob = repo.find_blob(commit.tree().ok()?.get_name(MARK)?.id()).ok()?;
    let text = Some(blob.content()).filter(|text| text.len() <= LONGEST_MARK);
    let text = std::str::from_utf8(text?).ok()?;
    text.strip_suffix('\n').map(str::to_owned)
}

fn entry(path: &str, id: Oid) -> IndexEntry {
    let never = IndexTime::new(0, 0);
    IndexEntry {
        ctime: never,
        mtime: never,
        dev: 0,
        ino: 0,
        mode: FILE,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.as_bytes().to_vec(),
    }
}
