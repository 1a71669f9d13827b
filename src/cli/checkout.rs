//! A folder that holds a declaration, and the repository that it stands in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use git2::{ErrorCode, Oid, Repository};

use crate::{
    git::revision::{self, RevisionError, read_folder, templates_in},
    templates::{self, Templates},
};

/// A folder with a declaration.
pub(super) struct Checkout {
    folder: PathBuf,
    repo: Option<Repository>,
    /// The folder's path in its repository, `/` between its parts; empty for the root.
    prefix: String,
}

/// The files of a declaration, by their paths in its folder.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

impl Checkout {
    /// Finds the repository around a folder, if there is one.
    pub(super) fn at(folder: &Path) -> anyhow::Result<Self> {
        let repo = match Repository::discover(folder) {
            Ok(repo) => Some(repo),
            Err(error) if error.code() == ErrorCode::Owner => bail!(
                "{} belongs to somebody else; if you trust it: git config --global --add safe.directory {}",
                folder.display(),
                folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).display()
            ),
            Err(_) => None,
        };
        let prefix = match repo.as_ref().and_then(Repository::workdir) {
            Some(root) => folder
                .canonicalize()
                .with_context(|| format!("failed to find {}", folder.display()))?
                .strip_prefix(root.canonicalize()?)
                .unwrap_or(Path::new(""))
                .to_str()
                .context("the folder's name is not UTF-8; rename it")?
                .to_owned(),
            None => String::new(),
        };
        Ok(Self { folder: folder.to_owned(), repo, prefix })
    }

    /// The folder's path from the root of its repository, or else as it was given; empty for the root.
    pub(super) fn prefix(&self) -> String {
        match (&self.repo, self.folder.to_str()) {
            (None, Some(given)) if self.folder.is_relative() => given.trim_start_matches("./").to_owned(),
            _ => self.prefix.clone(),
        }
    }

    /// The files as they lie in the folder.
    pub(super) fn working_tree(&self) -> anyhow::Result<Files> {
        Ok(read_folder(&self.folder, "")?)
    }

    /// The files of a commit.
    pub(super) fn commit(&self, commit: Oid) -> anyhow::Result<Files> {
        Ok(self.read(commit)??)
    }

    /// The files of a commit; none where it does not have the folder yet.
    pub(super) fn commit_or_nothing(&self, commit: Oid) -> anyhow::Result<Files> {
        match self.read(commit)? {
            Err(RevisionError::NoFolder { .. }) => Ok(Files::new()),
            read => Ok(read?),
        }
    }

    /// The templates as they lie beside the declaration's folder, or else nearer to the root of the repository: an infra repo
    /// in a folder of another repository, as an example is, has its own.
    pub(super) fn templates(&self) -> anyhow::Result<Templates> {
        let root = self.repo.as_ref().and_then(Repository::workdir).unwrap_or(&self.folder);
        let around = Path::new(&self.prefix).ancestors().skip(usize::from(!self.prefix.is_empty()));
        let mut folders = around.map(|folder| root.join(folder).join(templates::FOLDER));
        let found = folders.find(|folder| folder.is_dir());
        Ok(Templates::of(found.map(|folder| templates_in(&folder)).transpose()?.unwrap_or_default()))
    }

    /// The templates of a commit.
    pub(super) fn templates_of(&self, commit: Oid) -> anyhow::Result<Templates> {
        Ok(Templates::of(revision::templates(self.repo()?.commondir(), &commit.to_string())?))
    }

    fn read(&self, commit: Oid) -> anyhow::Result<Result<Files, RevisionError>> {
        let read = revision::read(self.repo()?.commondir(), &commit.to_string(), &self.prefix);
        Ok(read.map(|declaration| declaration.files))
    }

    /// The commit that a name stands for.
    pub(super) fn resolve(&self, name: &str) -> anyhow::Result<Oid> {
        let repo = self.repo()?;
        let found = repo.revparse_single(&format!("{name}^{{commit}}"));
        found.map(|commit| commit.id()).map_err(|_| missing(repo, name))
    }

    /// Where the history of `head` left that of `base`; `None` where nothing here shows it, as in a shallow clone.
    pub(super) fn merge_base(&self, base: Oid, head: Oid) -> anyhow::Result<Option<Oid>> {
        match self.repo()?.merge_base(base, head) {
            Ok(commit) => Ok(Some(commit)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            // A shallow clone lacks parents that its commits name.
            Err(_) if self.repo()?.is_shallow() => Ok(None),
            Err(error) => Err(anyhow!(error).context("failed to compare the two histories; try `git fsck`")),
        }
    }

    fn repo(&self) -> anyhow::Result<&Repository> {
        let folder = self.folder.display();
        self.repo
            .as_ref()
            .with_context(|| format!("{folder} stands in no Git repository; name a folder of one"))
    }
}

fn missing(repo: &Repository, name: &str) -> anyhow::Error {
    let shown = name.escape_debug();
    let (remote, branch) = name.split_once('/').unwrap_or(("origin", name));
    let fetch = format!("git fetch --no-tags --depth=1 {remote} +{branch}:refs/remotes/{remote}/{branch}");
    if repo.is_shallow() {
        anyhow!(
            "this clone is shallow and does not have the revision `{shown}`; fetch it with `{}`, or clone the whole \
             history (GitHub and Forgejo: `fetch-depth: 0` of the checkout; GitLab: `GIT_DEPTH: 0`; Bitbucket: \
             `clone: {{ depth: full }}`)",
            fetch.escape_debug()
        )
    } else {
        anyhow!(
            "found no revision `{shown}` in this repository; `git fetch` it, or name one that `git log` shows"
        )
    }
}
