//! Puts bundles that [`super::bundle`] wrote, oldest first, into a bare repository: the infra repo's restore.
//!
//! The pack is streamed into `git index-pack`, which checks every object, its links and the pack's own digest before
//! anything of it counts; references move afterwards. So a stream that is cut short changes no reference.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use git2::{Oid, Repository, RepositoryInitOptions};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use super::{
    bundle::{self, SIGNATURE},
    mirror::{blocking, git_dir_argument},
    program::{Git, ProgramError},
    tips::{HEAD, Tips, tips_position},
};

/// The key of the repository's configuration that says which bundle was applied last, by its [`tips_position`].
const RESTORED: &str = "backstay.restored";

/// The longest line of a header, bytes: an id and a name as long as a path may be.
const LONGEST_LINE: u64 = 8 << 10;

/// The most references and prerequisites of a bundle.
const MOST_LINES: usize = 1_000_000;

const INDEX_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// The header of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Commits that must be there already.
    pub prerequisites: Vec<String>,
    /// Where every reference is afterwards.
    pub tips: Tips,
    /// The branch that HEAD names: the first one listed with HEAD's tip.
    pub branch: Option<String>,
}

/// Why a bundle could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum UnbundleError {
    /// The stream failed.
    #[error("failed to read the bundle: {0}; try another copy")]
    Read(io::Error),
    /// The stream is no bundle that Backstay writes.
    #[error("failed to read the bundle: {0}; check that it is the stream of an infra artifact")]
    Format(String),
    /// The folder holds something.
    #[error("failed to restore into {}: it is not empty; name a folder that does not exist yet", .0.display())]
    Occupied(PathBuf),
    /// The bundle continues another one that is not there.
    #[error(
        "failed to restore into {}: commit {commit}, which the bundle rests on, is not there; apply the artifacts that it requires first", .folder.display()
    )]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// The first commit that is missing.
        commit: String,
    },
    /// The pack is damaged or `git` is not at hand.
    #[error("failed to unpack the bundle: {0}; try another copy")]
    Unpack(ProgramError),
    /// The repository could not be written.
    #[error("failed to write the repository {}: {reason}; check space and rights there", .folder.display())]
    Write {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Applies one bundle to the bare repository in `folder`. A complete one makes the repository, in a folder that does
/// not exist or is empty; one with prerequisites continues a repository that was made so. Afterwards the references are
/// exactly those of the bundle. Returns them.
pub async fn apply(
    stream: &mut (dyn AsyncRead + Send + Unpin),
    folder: &Path,
) -> Result<Tips, UnbundleError> {
    let mut stream = BufReader::new(stream);
    let header = read_header(&mut stream).await?;
    let (place, prerequisites) = (folder.to_owned(), header.prerequisites.clone());
    blocking(move || prepare(&place, &prerequisites)).await?;
    let git_dir = git_dir_argument(folder);
    let arguments = [git_dir.as_os_str(), "index-pack".as_ref(), "--stdin".as_ref(), "--strict".as_ref()];
    Git::plain().feed(&arguments, &mut stream, INDEX_LIMIT).await.map_err(UnbundleError::Unpack)?;
    let place = folder.to_owned();
    blocking(move || settle(&place, header)).await
}

/// Reads a bundle's header; the stream stands at its pack afterwards.
pub async fn read_header(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Header, UnbundleError> {
    if line(stream).await? != SIGNATURE.trim_end() {
        return Err(UnbundleError::Format("it does not begin with `# v2 git bundle`".to_owned()));
    }
    let mut header = Header::default();
    for _ in 0..MOST_LINES {
        let line = line(stream).await?;
        if line.is_empty() {
            return Ok(header);
        }
        let strange = || UnbundleError::Format(format!("its header has the line `{}`", line.escape_debug()));
        let (id, name) = line.trim_start_matches('-').split_once(' ').ok_or_else(strange)?;
        Oid::from_str(id).ok().filter(|_| id.len() == 40).ok_or_else(strange)?;
        if line.starts_with('-') {
            header.prerequisites.push(id.to_owned());
        } else if name == HEAD || name.starts_with("refs/") && git2::Reference::is_valid_name(name) {
            let of_head = name.starts_with("refs/heads/") && header.tips.head() == Some(id);
            if of_head && header.branch.is_none() {
                header.branch = Some(name.to_owned());
            }
            header.tips.0.insert(name.to_owned(), id.to_owned());
        } else {
            return Err(strange());
        }
    }
    Err(UnbundleError::Format(format!("its header has more than {MOST_LINES} lines")))
}

async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<String, UnbundleError> {
    let mut line = Vec::new();
    stream.take(LONGEST_LINE).read_until(b'\n', &mut line).await.map_err(UnbundleError::Read)?;
    if line.pop() != Some(b'\n') {
        return Err(UnbundleError::Format("its header is cut short".to_owned()));
    }
    String::from_utf8(line).map_err(|_| UnbundleError::Format("its header is not UTF-8".to_owned()))
}

fn prepare(folder: &Path, prerequisites: &[String]) -> Result<(), UnbundleError> {
    let write = |reason: String| UnbundleError::Write { folder: folder.to_owned(), reason };
    if prerequisites.is_empty() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| write(e.to_string()))?;
        let mut entries = fs::read_dir(folder).map_err(|e| write(e.to_string()))?;
        if entries.next().is_some() {
            return Err(UnbundleError::Occupied(folder.to_owned()));
        }
        let mut options = RepositoryInitOptions::new();
        options.bare(true).no_reinit(true).external_template(false);
        return Repository::init_opts(folder, &options).map(drop).map_err(|e| write(e.message().to_owned()));
    }
    let missing =
        |commit: &str| UnbundleError::Missing { folder: folder.to_owned(), commit: commit.to_owned() };
    let repo = Repository::open_bare(folder).map_err(|_| missing(&prerequisites[0]))?;
    let ours = repo.config().and_then(|config| config.get_string(RESTORED));
    ours.map_err(|_| UnbundleError::Occupied(folder.to_owned()))?;
    let absent = |id: &&String| !Oid::from_str(id).is_ok_and(|id| repo.find_commit(id).is_ok());
    match prerequisites.iter().find(absent) {
        Some(commit) => Err(missing(commit)),
        None => Ok(()),
    }
}

fn settle(folder: &Path, header: Header) -> Result<Tips, UnbundleError> {
    let write = |reason: String| UnbundleError::Write { folder: folder.to_owned(), reason };
    let repo = Repository::open_bare(folder).map_err(|e| write(e.message().to_owned()))?;
    if !bundle::holds(&repo, &header.tips) {
        return Err(UnbundleError::Format("a reference's object is not in it".to_owned()));
    }
    set_references(&repo, &header).map_err(|e| write(e.message().to_owned()))?;
    Ok(header.tips)
}

fn set_references(repo: &Repository, header: &Header) -> Result<(), git2::Error> {
    let before = Tips::below(repo, &["refs/"])?;
    for (name, _) in before.references().filter(|(name, _)| header.tips.get(name).is_none()) {
        repo.find_reference(name)?.delete()?;
    }
    for (name, id) in header.tips.references().filter(|(name, id)| before.get(name) != Some(id)) {
        repo.reference(name, Oid::from_str(id)?, true, "restored")?;
    }
    if let Some(branch) = &header.branch {
        repo.set_head(branch)?;
    }
    repo.config()?.open_level(git2::ConfigLevel::Local)?.set_str(RESTORED, &tips_position(&header.tips))
}
