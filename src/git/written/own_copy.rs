//! Our own copy of a branch that the controller writes, and the way to it.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use git2::{Oid, Repository};

use super::{WriteError, writer};
use crate::git::{
    mirror::{blocking, git_dir_argument, parse_listing, prepare},
    program::{Git, ProgramError},
    url::RepoUrl,
};

/// The folder of our own copy in the state directory.
const FOLDER: &str = "written.git";

/// The longest that each call may take.
const ASK_LIMIT: Duration = Duration::from_secs(60);
const MOVE_LIMIT: Duration = Duration::from_secs(300);

/// A branch of the infra repo, with a copy of what it holds.
#[derive(Clone, Debug)]
pub(in crate::git) struct OwnCopy {
    url: RepoUrl,
    branch: String,
    path: PathBuf,
    git: Git,
}

impl OwnCopy {
    /// The branch `branch` of `url`, with a copy in `state_dir`. Asks nobody.
    pub(in crate::git) fn open(state_dir: &Path, url: RepoUrl, branch: &str) -> Result<Self, WriteError> {
        let path = state_dir.join(FOLDER);
        let git = Git::reaching(state_dir, &url)
            .map_err(|error| WriteError::Ours { path: path.clone(), reason: error.to_string() })?;
        Ok(Self { url, branch: branch.to_owned(), path, git })
    }

    pub(in crate::git) fn reference(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    /// Whether a controller wrote `tip`, which the branch has. Waits for nobody who works in the copy: a push may take its time.
    pub(in crate::git) async fn is_written(&self, tip: Oid) -> Result<bool, WriteError> {
        if let Some(known) = self.known(tip).await? {
            return Ok(known);
        }
        self.fetch(&self.reference(), ASK_LIMIT).await?;
        let gone = || self.unreachable(format!("it moved away from {tip} meanwhile"));
        self.known(tip).await?.ok_or_else(gone)
    }

    async fn known(&self, tip: Oid) -> Result<Option<bool>, WriteError> {
        let this = self.clone();
        let look = move || {
            let repo = prepare(&this.path).map_err(|error| this.ours(&error))?;
            Ok(repo.find_commit(tip).ok().map(|tip| writer(&repo, &tip).is_some()))
        };
        blocking(look).await
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until no other process works in the copy.
    pub(super) async fn alone(&self) -> Result<fs::File, WriteError> {
        let path = self.path.with_extension("lock");
        let locked = blocking(move || {
            let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            file.lock().map(|()| file)
        });
        let ours =
            |error: std::io::Error| WriteError::Ours { path: self.path.clone(), reason: error.to_string() };
        locked.await.map_err(ours)
    }

    /// Where the branch is; `None` where there is none yet.
    pub(super) async fn tip(&self) -> Result<Option<Oid>, WriteError> {
        let (reference, url) = (self.reference(), self.url.argument());
        let asked = ["ls-remote", "--refs", "--", &url, reference.as_str()];
        let listed = self.git.run(&asked, ASK_LIMIT).await.map_err(|error| self.unreachable(error))?;
        let tips =
            parse_listing(&listed, &[reference.as_str()]).map_err(|reason| self.unreachable(reason))?;
        tips.get(&reference).map(Oid::from_str).transpose().map_err(|error| self.ours(&error))
    }

    /// Has the copy hold `tip`, which the branch has, with all that it leads to.
    pub(super) async fn bring(&self, tip: Oid) -> Result<(), WriteError> {
        let this = self.clone();
        let look = move || {
            let repo = prepare(&this.path).map_err(|error| this.ours(&error))?;
            let is_at = |it: git2::Reference<'_>| it.target() == Some(tip);
            Ok(repo.find_reference(&this.reference()).is_ok_and(is_at))
        };
        if blocking(look).await? {
            return Ok(());
        }
        self.fetch(&format!("+{0}:{0}", self.reference()), MOVE_LIMIT).await
    }

    /// Has the copy hold what `refspec` names. One without a destination moves nothing, and so is in nobody's way.
    async fn fetch(&self, refspec: &str, longest: Duration) -> Result<(), WriteError> {
        let fixed = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--"].map(OsString::from);
        let mut arguments: Vec<OsString> = vec![git_dir_argument(&self.path)];
        arguments.extend(fixed);
        arguments.push(self.url.argument().into());
        arguments.push(refspec.into());
        self.git.run(&arguments, longest).await.map(drop).map_err(|error| self.unreachable(error))
    }

    /// Has the branch be at `commit`, which follows on what it holds.
    pub(super) async fn push(&self, commit: Oid) -> Result<(), WriteError> {
        let fixed = ["push", "--quiet", "--no-verify", "--"].map(OsString::from);
        let mut arguments: Vec<OsString> = vec![git_dir_argument(&self.path)];
        arguments.extend(fixed);
        arguments.push(self.url.argument().into());
        arguments.push(format!("{commit}:{}", self.reference()).into());
        self.git.run(&arguments, MOVE_LIMIT).await.map_err(|error| match error {
            ProgramError::Failed { stderr, .. } => {
                let (branch, url) = (self.branch.clone(), self.url.clone());
                WriteError::Rejected { branch, url, reason: stderr }
            }
            other => self.unreachable(other),
        })?;
        let this = self.clone();
        let note = move || {
            let repo = Repository::open_bare(&this.path)?;
            repo.reference(&this.reference(), commit, true, "pushed").map(drop)
        };
        blocking(note).await.map_err(|error| self.ours(&error))
    }

    /// Packs what lies about, once that is much (git-gc(1), `--auto`): each commit leaves objects of its own, and nothing is fetched
    /// that would pack them. The commit is on its branch by now, so that a failure is only told.
    pub(super) async fn tidy(&self) {
        let arguments = [git_dir_argument(&self.path), "gc".into(), "--auto".into(), "--quiet".into()];
        if let Err(why) = self.git.run(&arguments, MOVE_LIMIT).await {
            tracing::warn!(path = %self.path.display(), %why, "the copy of the branch of runbooks could not be packed");
        }
    }

    pub(super) fn foreign(&self, why: &str) -> WriteError {
        let (branch, url) = (self.branch.clone(), self.url.clone());
        WriteError::Foreign { branch, url, why: why.to_owned() }
    }

    pub(super) fn ours(&self, error: &git2::Error) -> WriteError {
        WriteError::Ours { path: self.path.clone(), reason: error.message().to_owned() }
    }

    fn unreachable(&self, reason: impl ToString) -> WriteError {
        let (branch, url) = (self.branch.clone(), self.url.clone());
        WriteError::Unreachable { branch, url, reason: reason.to_string() }
    }
}
