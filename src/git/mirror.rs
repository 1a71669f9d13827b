//! The mirror: a bare copy of the infra repo in the state directory, which never forgets a tip.
//!
//! `refs/heads/*` and `refs/tags/*` are as upstream has them. A tip that its branch or tag no longer reaches, since it
//! was force-pushed or deleted, stays under `refs/backstay/old/<id>` (the full id, so that no two tips can meet under
//! one name). `refs/backstay/incoming/*` is what was fetched last and not settled yet: a crash between the two loses
//! nothing. HEAD names the watched branch. A branch that the controller itself writes is left out.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use git2::{Oid, Repository, RepositoryInitOptions};

use super::{
    program::{Git, ProgramError},
    revision::{self, Declaration, RevisionError},
    tips::{NO_TEXT, OLD, Tips},
    url::{RepoUrl, git_dir},
    written::{OwnCopy, writer},
};

/// The mirror's folder in the state directory.
pub const FOLDER: &str = "mirror.git";

const INCOMING: &str = "refs/backstay/incoming/";
const UPSTREAM: [&str; 2] = ["refs/heads/", "refs/tags/"];
const ASK_LIMIT: Duration = Duration::from_secs(60);
const FETCH_LIMIT: Duration = Duration::from_secs(3600);

/// Memory for deltas while a bundle is packed, and the size from which files are not deltified, bytes.
const DELTA_MEMORY: i64 = 32 << 20;

/// The infra repo as this host has it.
#[derive(Clone, Debug)]
pub struct Mirror {
    path: PathBuf,
    upstream: RepoUrl,
    branch: String,
    /// A branch that the controller itself writes.
    written: Option<OwnCopy>,
    git: Git,
}

/// What a fetch found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The mirror's tips afterwards.
    pub tips: Tips,
    /// Whether anything is different from before.
    pub change: Change,
    /// Branches and tags that were rewritten or deleted upstream; the old tips are kept.
    pub rewritten: Vec<Rewritten>,
}

/// Whether a fetch found something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// All references are as they were.
    Nothing,
    /// At least one reference is new, moved or gone.
    References,
}

/// A reference whose old tip is no ancestor of its new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Its full name.
    pub reference: String,
    /// Where it was.
    pub old: String,
    /// Where it is; `None` when it was deleted.
    pub new: Option<String>,
}

/// Why the infra repo could not be mirrored or read.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The mirror itself is unusable.
    #[error("failed to open the mirror {}: {reason}; move it away and it is made anew", .path.display())]
    Open {
        /// Its folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Upstream could not be asked or fetched from. What it holds is unknown; the last good revision stays.
    #[error(
        "failed to fetch the infra repo {url}: {reason}; check that `git ls-remote` of it works for this user"
    )]
    Unreachable {
        /// Its URL.
        url: RepoUrl,
        /// Why.
        reason: String,
    },
    /// Upstream holds no commit yet.
    #[error(
        "failed to find a revision in the infra repo {url}: it has no commits yet; push a first one to {branch}"
    )]
    Empty {
        /// Its URL.
        url: RepoUrl,
        /// The watched branch.
        branch: String,
    },
    /// The watched branch is not there (any more).
    #[error(
        "failed to find branch {branch} in the infra repo {url}, which has {present}; push it, or name another one in repo.branch"
    )]
    BranchGone {
        /// Its URL.
        url: RepoUrl,
        /// The watched branch.
        branch: String,
        /// The branches that are there, for people.
        present: String,
    },
    /// What was fetched could not be put into the mirror.
    #[error("failed to update the mirror {}: {reason}; check space and rights there", .path.display())]
    Update {
        /// Its folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Mirror {
    /// The mirror in `state_dir` of `branch` of the repository `upstream`; created if there is none.
    pub fn open(state_dir: &Path, upstream: RepoUrl, branch: &str) -> Result<Self, MirrorError> {
        let path = state_dir.join(FOLDER);
        let open = |reason: String| MirrorError::Open { path: path.clone(), reason };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|e| open(e.to_string()))?;
        let git = Git::reaching(state_dir, &upstream).map_err(|e| open(e.to_string()))?;
        let head = format!("refs/heads/{branch}");
        if !git2::Reference::is_valid_name(&head) {
            return Err(open(format!("`{}` is not the name of a branch", branch.escape_debug())));
        }
        let repo = prepare(&path).map_err(|e| open(e.message().to_owned()))?;
        // Others may open it at this moment: git's lock is taken only for what differs.
        let is_set =
            fs::read_to_string(repo.path().join("HEAD")).is_ok_and(|it| it.trim() == format!("ref: {head}"));
        if !is_set {
            repo.set_head(&head).map_err(|e| open(e.message().to_owned()))?;
        }
        Ok(Self { path, upstream, branch: branch.to_owned(), written: None, git })
    }

    /// The same, without a branch that the controller itself writes, as long as it does: what it holds is made from the rest. Where
    /// somebody else has written its tip, or that can't be told, it is mirrored as every other one.
    pub fn leaving_out(self, branch: &str) -> Result<Self, MirrorError> {
        let state_dir = self.path.parent().unwrap_or(Path::new("."));
        let opened = OwnCopy::open(state_dir, self.upstream.clone(), branch);
        let written = opened
            .map_err(|error| MirrorError::Open { path: self.path.clone(), reason: error.to_string() })?;
        Ok(Self { written: Some(written), ..self })
    }

    /// The bare repository's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The repository that is mirrored.
    pub fn upstream(&self) -> &RepoUrl {
        &self.upstream
    }

    /// The watched branch.
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// Brings the mirror up to date. Asks first, and fetches only when something is new: a local repository is asked
    /// without starting any process.
    pub async fn fetch(&self) -> Result<Fetched, MirrorError> {
        let _alone = self.alone().await?;
        let theirs = self.ask().await?;
        let left_out = self.left_out(&theirs).await;
        let theirs = theirs.without(left_out.as_deref());
        let mut rewritten = match left_out.clone() {
            Some(left_out) => self.work(move |repo| forget(repo, &left_out)).await?,
            None => Vec::new(),
        };
        let ours = self.work(|repo| Tips::below(repo, &UPSTREAM)).await?;
        if theirs == ours {
            let change = if rewritten.is_empty() { Change::Nothing } else { Change::References };
            return Ok(Fetched { tips: self.tips().await?, change, rewritten });
        }
        self.download(left_out.as_deref()).await?;
        rewritten.extend(self.work(settle).await?);
        Ok(Fetched { tips: self.tips().await?, change: Change::References, rewritten })
    }

    /// The branch that the controller itself writes, where it is there and nobody else has written its tip.
    async fn left_out(&self, theirs: &Tips) -> Option<String> {
        let written = self.written.as_ref()?;
        let reference = written.reference();
        let tip = Oid::from_str(theirs.get(&reference)?).ok()?;
        // One of somebody else's is here already.
        let here =
            self.work(move |repo| Ok(repo.find_commit(tip).ok().map(|tip| writer(repo, &tip).is_some())));
        let is_ours = match here.await {
            Ok(Some(is_ours)) => Ok(is_ours),
            _ => written.is_written(tip).await,
        };
        match is_ours {
            Ok(is_ours) => is_ours.then_some(reference),
            Err(error) => {
                tracing::warn!(%error, "the branch of runbooks is mirrored: nobody knows whose it is");
                None
            }
        }
    }

    /// Waits until no other process fetches into this mirror, which takes no longer than [`FETCH_LIMIT`].
    async fn alone(&self) -> Result<fs::File, MirrorError> {
        let path = self.path.with_extension("lock");
        let locked = blocking(move || {
            let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            file.lock().map(|()| file)
        });
        locked.await.map_err(|e| MirrorError::Update { path: self.path.clone(), reason: e.to_string() })
    }

    /// The tips that the mirror holds now.
    pub async fn tips(&self) -> Result<Tips, MirrorError> {
        self.work(Tips::read).await
    }

    /// The commit that the watched branch names, as last fetched.
    pub async fn desired(&self) -> Result<String, MirrorError> {
        let tips = self.tips().await?;
        if let Some(head) = tips.head() {
            return Ok(head.to_owned());
        }
        let (url, branch) = (self.upstream.clone(), self.branch.clone());
        let branches: Vec<&str> =
            tips.references().filter_map(|(name, _)| name.strip_prefix("refs/heads/")).collect();
        Err(match branches.len() {
            0 if tips.is_empty() => MirrorError::Empty { url, branch },
            0 => MirrorError::BranchGone { url, branch, present: "no branches".to_owned() },
            more => {
                let named = branches.iter().take(8).map(|name| name.escape_debug().to_string());
                let rest = if more > 8 { format!(" and {} more", more - 8) } else { String::new() };
                let present = format!("{}{rest}", named.collect::<Vec<_>>().join(", "));
                MirrorError::BranchGone { url, branch, present }
            }
        })
    }

    /// What the commit `id` declares in `folder`. See [`revision::read`].
    pub async fn declaration(&self, id: &str, folder: &str) -> Result<Declaration, RevisionError> {
        let (path, id, folder) = (self.path.clone(), id.to_owned(), folder.to_owned());
        blocking(move || revision::read(&path, &id, &folder)).await
    }

    /// The branches and tags of upstream.
    async fn ask(&self) -> Result<Tips, MirrorError> {
        let Some(path) = self.upstream.local() else { return self.ask_remote().await };
        let path = path.to_owned();
        let asked = blocking(move || {
            let dir = git_dir(&path).ok_or("there is no Git repository".to_owned())?;
            let read = Repository::open_bare(dir).and_then(|repo| Tips::below(&repo, &UPSTREAM));
            read.map_err(|e| e.message().to_owned())
        });
        asked.await.map_err(|reason| MirrorError::Unreachable { url: self.upstream.clone(), reason })
    }

    async fn ask_remote(&self) -> Result<Tips, MirrorError> {
        let url = self.upstream.argument();
        let listed = self
            .git
            .run(&["ls-remote", "--refs", "--", &url, "refs/heads/*", "refs/tags/*"], ASK_LIMIT)
            .await;
        let listed = listed.map_err(|e| self.unreachable(e))?;
        parse_listing(&listed, &UPSTREAM)
            .map_err(|reason| MirrorError::Unreachable { url: self.upstream.clone(), reason })
    }

    async fn download(&self, left_out: Option<&str>) -> Result<(), MirrorError> {
        let git_dir = git_dir_argument(&self.path);
        let refspecs = UPSTREAM.map(|prefix| {
            let kind = prefix.trim_start_matches("refs/");
            format!("+{prefix}*:{INCOMING}{kind}*")
        });
        let fixed =
            ["fetch", "--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--"].map(OsStr::new);
        let mut arguments = vec![git_dir.as_os_str()];
        arguments.extend(fixed);
        let url = self.upstream.argument();
        arguments.push(OsStr::new(&url));
        arguments.extend(refspecs.iter().map(OsStr::new));
        let left_out = left_out.map(|reference| format!("^{reference}"));
        arguments.extend(left_out.iter().map(OsStr::new));
        self.git.run(&arguments, FETCH_LIMIT).await.map_err(|e| self.unreachable(e))?;
        Ok(())
    }

    fn unreachable(&self, error: ProgramError) -> MirrorError {
        MirrorError::Unreachable { url: self.upstream.clone(), reason: error.to_string() }
    }

    async fn work<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Repository) -> Result<T, git2::Error> + Send + 'static,
    ) -> Result<T, MirrorError> {
        let path = self.path.clone();
        let done = blocking(move || Repository::open_bare(path).and_then(|repo| read(&repo)));
        done.await
            .map_err(|e| MirrorError::Update { path: self.path.clone(), reason: e.message().to_owned() })
    }
}

/// Runs `work` where it may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// `--git-dir=PATH`, so that `git` searches for no other repository.
pub(super) fn git_dir_argument(path: &Path) -> OsString {
    let mut argument = OsString::from("--git-dir=");
    argument.push(path);
    argument
}

/// Opens the bare repository at `path`, which is made and configured if need be.
pub(super) fn prepare(path: &Path) -> Result<Repository, git2::Error> {
    let repo = match Repository::open_bare(path) {
        Err(error) if error.code() == git2::ErrorCode::NotFound => Repository::init_opts(
            path,
            RepositoryInitOptions::new().bare(true).no_reinit(true).external_template(false),
        )?,
        opened => opened?,
    };
    let mut config = repo.config()?.open_level(git2::ConfigLevel::Local)?;
    if config.get_i64("pack.deltaCacheSize").ok() != Some(DELTA_MEMORY) {
        config.set_i64("pack.windowMemory", DELTA_MEMORY)?;
        config.set_i64("pack.deltaCacheSize", DELTA_MEMORY)?;
    }
    Ok(repo)
}

/// The lines of `git ls-remote`: id, tab, name. Its patterns match the end of a name, so those are left out that do not
/// begin with one of `prefixes`.
pub(super) fn parse_listing(listed: &[u8], prefixes: &[&str]) -> Result<Tips, String> {
    let text = std::str::from_utf8(listed).map_err(|_| NO_TEXT.to_owned())?;
    let mut tips = Tips::default();
    for line in text.lines() {
        let (id, name) = line.split_once('\t').ok_or_else(|| unreadable(line))?;
        let id = Oid::from_str(id).map_err(|_| unreadable(line))?;
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            tips.0.insert(name.to_owned(), id.to_string());
        }
    }
    Ok(tips)
}

fn unreadable(line: &str) -> String {
    format!("git ls-remote printed `{}`", line.escape_debug())
}

/// Forgets a branch that the controller itself writes. What somebody else had put there before is kept.
fn forget(repo: &Repository, reference: &str) -> Result<Vec<Rewritten>, git2::Error> {
    let ours = Tips::below(repo, &UPSTREAM)?;
    let was = ours.get(reference).map(str::to_owned);
    let foreign = was.filter(|tip| {
        let commit = Oid::from_str(tip).and_then(|tip| repo.find_commit(tip));
        commit.is_ok_and(|commit| writer(repo, &commit).is_none())
    });
    let lost = Tips(foreign.into_iter().map(|tip| (reference.to_owned(), tip)).collect());
    let rewritten = keep_what_is_lost(repo, &lost, &ours.without(Some(reference)))?;
    let incoming = reference.replacen("refs/", INCOMING, 1);
    for name in [reference, &incoming] {
        match repo.find_reference(name) {
            Err(error) if error.code() == git2::ErrorCode::NotFound => {}
            found => found?.delete()?,
        }
    }
    Ok(rewritten)
}

/// Moves branches and tags to where they were fetched, after every tip that would be lost is kept.
fn settle(repo: &Repository) -> Result<Vec<Rewritten>, git2::Error> {
    let ours = Tips::below(repo, &UPSTREAM)?;
    let theirs = Tips::below(repo, &[INCOMING])?;
    let theirs =
        Tips(theirs.0.into_iter().map(|(name, id)| (name.replacen(INCOMING, "refs/", 1), id)).collect());
    let rewritten = keep_what_is_lost(repo, &ours, &theirs)?;
    for (name, _) in ours.references().filter(|(name, _)| theirs.get(name).is_none()) {
        repo.find_reference(name)?.delete()?;
    }
    for (name, id) in theirs.references().filter(|(name, id)| ours.get(name) != Some(id)) {
        repo.reference(name, Oid::from_str(id)?, true, "fetched")?;
    }
    Ok(rewritten)
}

fn keep_what_is_lost(repo: &Repository, ours: &Tips, theirs: &Tips) -> Result<Vec<Rewritten>, git2::Error> {
    let now = theirs.references().map(|(_, id)| Oid::from_str(id)).collect::<Result<Vec<_>, _>>()?;
    let mut rewritten = Vec::new();
    for (reference, old) in ours.references() {
        let new = theirs.get(reference);
        if new == Some(old) || new.is_some_and(|new| is_ancestor(repo, old, new)) {
            continue;
        }
        rewritten.push(Rewritten {
            reference: reference.to_owned(),
            old: old.to_owned(),
            new: new.map(str::to_owned),
        });
        let tip = Oid::from_str(old)?;
        let reached = now.contains(&tip) || repo.find_commit(tip).is_ok() && reachable(repo, tip, &now)?;
        if !reached {
            repo.reference(&format!("{OLD}{old}"), tip, true, "left by its branch or tag")?;
        }
    }
    Ok(rewritten)
}

/// Whether the commit `old` is in the history of the commit `new`.
pub(super) fn is_ancestor(repo: &Repository, old: &str, new: &str) -> bool {
    let commit = |id: &str| Oid::from_str(id).ok().filter(|id| repo.find_commit(*id).is_ok());
    match (commit(old), commit(new)) {
        (Some(old), Some(new)) => repo.graph_descendant_of(new, old).unwrap_or(false),
        _ => false,
    }
}

fn reachable(repo: &Repository, tip: Oid, from: &[Oid]) -> Result<bool, git2::Error> {
    let commits: Vec<Oid> = from
        .iter()
        .filter_map(|id| repo.find_object(*id, None).ok()?.peel_to_commit().ok())
        .map(|commit| commit.id())
        .collect();
    let mut walk = repo.revwalk()?;
    walk.push(tip)?;
    for commit in commits {
        walk.hide(commit)?;
    }
    Ok(walk.next().transpose()?.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_program_and_the_library_see_the_same_references() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::init(dir.path().join("infra")).unwrap();
        let who = git2::Signature::now("Kai", "kai@example.org").unwrap();
        let tree = repo.find_tree(repo.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let commit = repo.commit(Some("refs/heads/main"), &who, &who, "First", &tree, &[]).unwrap();
        let commit = repo.find_object(commit, None).unwrap();
        repo.tag("v1", &commit, &who, "First", false).unwrap();
        let url = RepoUrl::parse(dir.path().join("infra").to_str().unwrap()).unwrap();
        let mirror = Mirror::open(&dir.path().join("state"), url, "main").unwrap();
        let by_program = mirror.ask_remote().await.unwrap();
        assert_eq!(by_program, mirror.ask().await.unwrap());
        assert_eq!(by_program.references().count(), 2);
    }

    #[test]
    fn a_listing_that_is_none_is_an_error_and_not_an_empty_repository() {
        assert!(parse_listing(b"warning: something\n", &UPSTREAM).is_err());
        assert!(parse_listing(b"\xff\trefs/heads/x\n", &UPSTREAM).is_err());
        assert!(parse_listing(b"", &UPSTREAM).unwrap().is_empty());
    }

    #[test]
    fn a_reference_elsewhere_whose_name_ends_like_a_branch_is_none() {
        let id = "1".repeat(40);
        let listed = format!("{id}\trefs/heads/main\n{id}\trefs/notes/refs/heads/x\n");
        assert_eq!(parse_listing(listed.as_bytes(), &UPSTREAM).unwrap().references().count(), 1);
    }
}
