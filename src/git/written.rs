//! A branch of the infra repo that the controller itself writes: whole trees of texts, each pushed as one commit on the one before,
//! and never by force.
//!
//! The branch is known for the controller's own by a file at its root, [`MARK`], with the fleet's name in it: one that was there
//! before, or that another fleet's controller writes, is left alone. What it holds is made from the rest, so that it is in no
//! mirror and no bundle.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use git2::{Commit, Index, IndexEntry, IndexTime, Oid, Repository, Signature, Time};
use jiff::Timestamp;

use super::{
    mirror::{blocking, git_dir_argument, parse_listing, prepare},
    program::{Git, ProgramError},
    url::RepoUrl,
};
use crate::spec::names::FleetName;

/// The file that tells whose a branch is.
pub const MARK: &str = ".backstay-runbooks";

/// The folder of our own copy in the state directory.
const FOLDER: &str = "written.git";

/// The longest that each call may take.
const ASK_LIMIT: Duration = Duration::from_secs(60);
const MOVE_LIMIT: Duration = Duration::from_secs(300);

/// A plain file, for everybody to read.
const FILE: u32 = 0o100_644;

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
    url: RepoUrl,
    branch: String,
    fleet: FleetName,
    path: PathBuf,
    git: Git,
}

impl WrittenBranch {
    /// The branch `branch` of `url`, which the controller of `fleet` writes, with a copy in `state_dir`.
    pub fn open(state_dir: &Path, url: RepoUrl, branch: &str, fleet: &FleetName) -> Result<Self, WriteError> {
        let path = state_dir.join(FOLDER);
        let git = Git::trusting(state_dir, url.local())
            .map_err(|error| WriteError::Ours { path: path.clone(), reason: error.to_string() })?;
        Ok(Self { url, branch: branch.to_owned(), fleet: fleet.clone(), path, git })
    }

    /// Has the branch hold exactly `files`, texts by their paths, as one commit more where it does not yet.
    pub async fn put(
        &self,
        files: &BTreeMap<String, String>,
        message: &str,
        now: Timestamp,
    ) -> Result<Written, WriteError> {
        let tip = self.tip().await?;
        match tip {
            // Nothing is no reason to begin a branch.
            None if files.is_empty() => return Ok(Written::Unchanged),
            None => {}
            Some(_) => self.fetch().await?,
        }
        let (this, files, message) = (self.clone(), files.clone(), message.to_owned());
        let commit = blocking(move || this.commit(tip, &files, &message, now)).await?;
        match commit {
            None => Ok(Written::Unchanged),
            Some(commit) => {
                self.push(commit).await?;
                Ok(Written::Commit(commit.to_string()))
            }
        }
    }

    fn reference(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    /// Where the branch is; `None` where there is none yet.
    async fn tip(&self) -> Result<Option<Oid>, WriteError> {
        let reference = self.reference();
        let asked = ["ls-remote", "--refs", "--", self.url.as_str(), reference.as_str()];
        let listed = self.git.run(&asked, ASK_LIMIT).await.map_err(|error| self.unreachable(error))?;
        let tips =
            parse_listing(&listed, &[reference.as_str()]).map_err(|reason| self.unreachable(reason))?;
        tips.get(&reference).map(Oid::from_str).transpose().map_err(|error| self.ours(&error))
    }

    async fn fetch(&self) -> Result<(), WriteError> {
        let this = self.clone();
        blocking(move || prepare(&this.path).map(drop).map_err(|error| this.ours(&error))).await?;
        let fixed = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", self.url.as_str()];
        let mut arguments: Vec<OsString> = vec![git_dir_argument(&self.path)];
        arguments.extend(fixed.map(OsString::from));
        arguments.push(format!("+{0}:{0}", self.reference()).into());
        self.git.run(&arguments, MOVE_LIMIT).await.map(drop).map_err(|error| self.unreachable(error))
    }

    /// A commit that holds `files`, on `tip`; `None` where `tip` holds them already.
    fn commit(
        &self,
        tip: Option<Oid>,
        files: &BTreeMap<String, String>,
        message: &str,
        now: Timestamp,
    ) -> Result<Option<Oid>, WriteError> {
        let failed = |error: git2::Error| self.ours(&error);
        let repo = prepare(&self.path).map_err(failed)?;
        let parent = tip.map(|tip| repo.find_commit(tip)).transpose().map_err(failed)?;
        parent.as_ref().map_or(Ok(()), |parent| self.must_be_ours(&repo, parent))?;
        let tree = self.tree(&repo, files).map_err(failed)?;
        if parent.as_ref().is_some_and(|parent| parent.tree_id() == tree) {
            return Ok(None);
        }
        let tree = repo.find_tree(tree).map_err(failed)?;
        let who = Signature::new(
            "Backstay",
            &format!("backstay@{}.invalid", self.fleet),
            &Time::new(now.as_second(), 0),
        );
        let who = who.map_err(failed)?;
        let parents: Vec<&Commit<'_>> = parent.iter().collect();
        repo.commit(None, &who, &who, message, &tree, &parents).map(Some).map_err(failed)
    }

    fn tree(&self, repo: &Repository, files: &BTreeMap<String, String>) -> Result<Oid, git2::Error> {
        let mark = (MARK.to_owned(), self.mark());
        let mut index = Index::new()?;
        for (path, content) in files.iter().chain([(&mark.0, &mark.1)]) {
            let id = repo.blob(content.as_bytes())?;
            index.add(&entry(path, id))?;
        }
        index.write_tree_to(repo)
    }

    fn mark(&self) -> String {
        format!("{}\n", self.fleet)
    }

    /// Refuses a branch that this fleet's controller did not write.
    fn must_be_ours(&self, repo: &Repository, tip: &Commit<'_>) -> Result<(), WriteError> {
        let failed = |error: git2::Error| self.ours(&error);
        let tree = tip.tree().map_err(failed)?;
        let mark = tree.get_name(MARK).and_then(|entry| repo.find_blob(entry.id()).ok());
        let why = match mark {
            Some(blob) if blob.content() == self.mark().as_bytes() => return Ok(()),
            Some(_) => "another fleet's controller writes it",
            None => "it holds something else than runbooks",
        };
        let (branch, url, why) = (self.branch.clone(), self.url.clone(), why.to_owned());
        Err(WriteError::Foreign { branch, url, why })
    }

    async fn push(&self, commit: Oid) -> Result<(), WriteError> {
        let mut arguments: Vec<OsString> = vec![git_dir_argument(&self.path)];
        arguments.extend(["push", "--quiet", "--no-verify", "--", self.url.as_str()].map(OsString::from));
        arguments.push(format!("{commit}:{}", self.reference()).into());
        self.git.run(&arguments, MOVE_LIMIT).await.map(drop).map_err(|error| match error {
            ProgramError::Failed { stderr, .. } => {
                let (branch, url) = (self.branch.clone(), self.url.clone());
                WriteError::Rejected { branch, url, reason: stderr }
            }
            other => self.unreachable(other),
        })
    }

    fn ours(&self, error: &git2::Error) -> WriteError {
        WriteError::Ours { path: self.path.clone(), reason: error.message().to_owned() }
    }

    fn unreachable(&self, reason: impl ToString) -> WriteError {
        let (branch, url) = (self.branch.clone(), self.url.clone());
        WriteError::Unreachable { branch, url, reason: reason.to_string() }
    }
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
