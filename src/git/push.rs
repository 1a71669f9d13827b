//! Pushes the infra repo to mirrors that other people can use at once, and takes nothing away from them.
//!
//! Branches and tags that the infra repo no longer has stay. One that was rewritten is overwritten only when its old tip
//! is kept on the mirror, in the same push, under `refs/backstay/old/<id>`.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::DirBuilderExt,
    path::Path,
    time::Duration,
};

use git2::{Repository, RepositoryInitOptions};

use super::{
    mirror::{Mirror, blocking, git_dir_argument, is_ancestor, parse_listing},
    program::{Git, ProgramError},
    tips::{KEPT, OLD, Tips, tips_position},
    url::{InvalidUrl, RepoUrl, git_dir},
};

const ASK_LIMIT: Duration = Duration::from_secs(60);
const PUSH_LIMIT: Duration = Duration::from_secs(3600);

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// References of the infra repo that the mirror did not have, or had elsewhere.
    pub references: usize,
    /// Tips of the mirror that were overwritten and are kept there.
    pub kept: Vec<String>,
}

/// Why a mirror is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The URL is none.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// The controller's configuration does not allow it.
    #[error(
        "failed to push to {0}: this host does not allow it; add it to allow.mirrors in the controller's configuration"
    )]
    Refused(RepoUrl),
    /// There is no repository, and none can be made.
    #[error("failed to push to {url}: {reason}; make it with `git init --bare`")]
    Missing {
        /// The mirror.
        url: RepoUrl,
        /// Why.
        reason: String,
    },
    /// The mirror can't be asked what it has.
    #[error("failed to ask the mirror {url}: {reason}; check that `git ls-remote` of it works for this user")]
    Unreachable {
        /// The mirror.
        url: RepoUrl,
        /// Why.
        reason: String,
    },
    /// The mirror did not take the push.
    #[error("failed to push to {url}: {reason}; allow this user to push every branch and tag, also by force")]
    Rejected {
        /// The mirror.
        url: RepoUrl,
        /// Why.
        reason: String,
    },
    /// Our own copy can't be read.
    #[error("failed to read the mirror of the infra repo: {0}; move it away and it is made anew")]
    Ours(String),
}

/// A mirror that may be pushed to.
#[derive(Clone, Debug)]
pub struct PushMirror {
    url: RepoUrl,
    git: Git,
}

impl PushMirror {
    /// The mirror at `url`, if one of the prefixes `allowed` (the configuration's `allow.mirrors`) covers it.
    pub fn new(mirror: &Mirror, url: &str, allowed: &[String]) -> Result<Self, PushError> {
        let url = RepoUrl::parse(url)?;
        if !allowed.iter().any(|prefix| covers(prefix, url.as_str())) {
            return Err(PushError::Refused(url));
        }
        let state_dir = mirror.path().parent().unwrap_or(Path::new("."));
        let git = Git::reaching(state_dir, &url).map_err(|e| PushError::Ours(e.to_string()))?;
        Ok(Self { url, git })
    }

    /// What the mirror has: branches, tags and kept tips. Nothing, when it is a folder that can be made.
    pub async fn tips(&self) -> Result<Tips, PushError> {
        if let Some(path) = self.url.local()
            && git_dir(path).is_none()
        {
            return self.can_be_made(path).map(|()| Tips::default());
        }
        let patterns = KEPT.map(|prefix| format!("{prefix}*"));
        let url = self.url.argument();
        let mut arguments = vec!["ls-remote", "--refs", "--", url.as_str()];
        arguments.extend(patterns.iter().map(String::as_str));
        let listed =
            self.git.run(&arguments, ASK_LIMIT).await.map_err(|e| self.unreachable(e.to_string()))?;
        parse_listing(&listed, &KEPT).map_err(|reason| self.unreachable(reason))
    }

    /// Brings the mirror up to date with `ours`. A folder of this host that does not exist yet is made.
    pub async fn push(&self, ours: &Mirror) -> Result<Pushed, PushError> {
        let tips = ours.tips().await.map_err(|e| PushError::Ours(e.to_string()))?;
        let theirs = self.tips().await?;
        if is_current(&tips, &theirs) {
            return Ok(Pushed { references: 0, kept: Vec::new() });
        }
        self.make(ours.branch()).await?;
        let overwritten = self.overwritten(ours, &tips, &theirs).await?;
        let lost = overwritten.iter().map(|lost| lost.old.as_str());
        self.bring_home(ours, lost.chain(kept_by(&theirs)).collect()).await?;
        self.send(ours, &overwritten).await?;
        let missing = tips.references().filter(|(name, id)| theirs.get(name) != Some(id)).count();
        Ok(Pushed { references: missing, kept: overwritten.into_iter().map(|lost| lost.old).collect() })
    }

    fn can_be_made(&self, path: &Path) -> Result<(), PushError> {
        let missing =
            |reason: &str| Err(PushError::Missing { url: self.url.clone(), reason: reason.to_owned() });
        match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
            Ok(true) => missing("the folder holds something else than a repository"),
            Ok(false) => Ok(()),
            Err(_) if path.parent().is_some_and(Path::is_dir) => Ok(()),
            Err(_) => missing("neither the folder nor the one around it exists"),
        }
    }

    async fn make(&self, branch: &str) -> Result<(), PushError> {
        let Some(path) = self.url.local().filter(|path| git_dir(path).is_none()).map(Path::to_owned) else {
            return Ok(());
        };
        let missing = |reason: String| PushError::Missing { url: self.url.clone(), reason };
        let branch = branch.to_owned();
        let made = blocking(move || {
            if !path.is_dir() {
                fs::DirBuilder::new().mode(0o700).create(&path).map_err(|e| e.to_string())?;
            }
            let mut options = RepositoryInitOptions::new();
            options.bare(true).no_reinit(true).external_template(false).initial_head(&branch);
            Repository::init_opts(&path, &options).map(drop).map_err(|e| e.message().to_owned())
        });
        made.await.map_err(missing)
    }

    /// The mirror's references whose tips a push would lose.
    async fn overwritten(
        &self,
        ours: &Mirror,
        tips: &Tips,
        theirs: &Tips,
    ) -> Result<Vec<Overwritten>, PushError> {
        let (path, tips, theirs) = (ours.path().to_owned(), tips.clone(), theirs.clone());
        let found = blocking(move || {
            let repo = Repository::open_bare(path)?;
            Ok::<_, git2::Error>(overwritten(&repo, &tips, &theirs))
        });
        found.await.map_err(|e| PushError::Ours(e.message().to_owned()))
    }

    /// Fetches tips that only the mirror has: those to be overwritten, for only what we have can be pushed under another
    /// name; and those that were kept there before our own mirror was made anew. They stay in our own mirror as well.
    async fn bring_home(&self, ours: &Mirror, ids: BTreeSet<&str>) -> Result<(), PushError> {
        let there = ours.tips().await.map_err(|e| PushError::Ours(e.to_string()))?;
        let absent = ids.into_iter().filter(|id| there.get(&format!("{OLD}{id}")).is_none());
        let specs: Vec<String> = absent.map(|id| format!("{id}:{OLD}{id}")).collect();
        if specs.is_empty() {
            return Ok(());
        }
        let git_dir = git_dir_argument(ours.path());
        let url = self.url.argument();
        let fixed = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", url.as_str()];
        let mut arguments: Vec<OsString> = vec![git_dir];
        arguments.extend(fixed.map(OsString::from));
        arguments.extend(specs.into_iter().map(OsString::from));
        let fetched = self.git.run(&arguments, PUSH_LIMIT).await;
        fetched.map(drop).map_err(|e| self.unreachable(e.to_string()))
    }

    async fn send(&self, ours: &Mirror, lost: &[Overwritten]) -> Result<(), PushError> {
        let git_dir = git_dir_argument(ours.path());
        let mut arguments = vec![git_dir, "push".into(), "--quiet".into(), "--no-verify".into()];
        if !lost.is_empty() {
            // Either the old tips are kept and the new ones are in place, or nothing is changed.
            arguments.push("--atomic".into());
        }
        for Overwritten { reference, old } in lost {
            arguments.push(format!("--force-with-lease={reference}:{old}").into());
        }
        arguments.extend(["--".into(), OsString::from(self.url.argument())]);
        // What has a lease goes by force; the patterns move the others forward only.
        arguments.extend(lost.iter().map(|lost| format!("{0}:{0}", lost.reference).into()));
        arguments.extend(KEPT.map(|prefix| format!("{prefix}*:{prefix}*").into()));
        let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
        self.git.run(&arguments, PUSH_LIMIT).await.map(drop).map_err(|error| match error {
            ProgramError::Failed { stderr, .. } => {
                PushError::Rejected { url: self.url.clone(), reason: stderr }
            }
            other => self.unreachable(other.to_string()),
        })
    }

    fn unreachable(&self, reason: String) -> PushError {
        PushError::Unreachable { url: self.url.clone(), reason }
    }
}

/// A reference of the mirror that moves elsewhere than forward.
struct Overwritten {
    reference: String,
    old: String,
}

fn overwritten(repo: &Repository, ours: &Tips, theirs: &Tips) -> Vec<Overwritten> {
    let moves = theirs.references().filter_map(|(name, old)| Some((name, old, ours.get(name)?)));
    // Git moves a tag by force only, even forward.
    let forward = |name: &str, old, new| !name.starts_with("refs/tags/") && is_ancestor(repo, old, new);
    moves
        .filter(|(name, old, new)| old != new && !forward(name, old, new))
        .map(|(name, old, _)| Overwritten { reference: name.to_owned(), old: old.to_owned() })
        .collect()
}

/// The tips that a mirror keeps, as far as their names say what they are.
fn kept_by(theirs: &Tips) -> impl Iterator<Item = &str> {
    theirs.references().filter(|(name, id)| name.strip_prefix(OLD) == Some(id)).map(|(_, id)| id)
}

/// Whether a mirror that holds `theirs` has everything of `ours`, whatever else it keeps.
pub fn is_current(ours: &Tips, theirs: &Tips) -> bool {
    ours.references().all(|(name, id)| theirs.get(name) == Some(id))
}

/// The position (see [`tips_position`]) of `ours` that a mirror which holds `theirs` stands at: ours, when nothing is
/// left to push, whatever older references it keeps; else another one.
pub fn position_seen(ours: &Tips, theirs: &Tips) -> String {
    if is_current(ours, theirs) { tips_position(ours) } else { tips_position(theirs) }
}

/// Whether the prefix of `allow.mirrors` covers a URL: up to a `/`, and without `..` behind it.
fn covers(prefix: &str, url: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    let rest = url.strip_prefix(prefix).filter(|_| !prefix.is_empty());
    rest.is_some_and(|rest| {
        (rest.is_empty() || rest.starts_with('/')) && rest.split('/').all(|part| part != "..")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_what_is_below_it_and_nothing_beside_it() {
        for (prefix, url) in [
            ("/srv/mirrors", "/srv/mirrors/infra.git"),
            ("/srv/mirrors/", "/srv/mirrors/a/b.git"),
            ("/srv/mirrors/infra.git", "/srv/mirrors/infra.git"),
            ("ssh://git@host/", "ssh://git@host/infra.git"),
        ] {
            assert!(covers(prefix, url), "{prefix} {url}");
        }
        for (prefix, url) in [
            ("", "/srv/mirrors/infra.git"),
            ("/", "/srv/x"),
            ("/srv/mirrors", "/srv/mirrors-of-others/infra.git"),
            ("/srv/mirrors", "/srv/mirrors/../secret"),
            ("ssh://git@host/", "ssh://git@host.evil.example/infra.git"),
            ("ssh://git@host", "ssh://git@host:2222/infra.git"),
        ] {
            assert!(!covers(prefix, url), "{prefix} {url}");
        }
    }

    #[test]
    fn a_mirror_that_keeps_more_is_current_and_one_that_lacks_a_tip_is_not() {
        let tips = |pairs: &[(&str, &str)]| {
            Tips(pairs.iter().map(|(name, id)| (name.to_string(), id.to_string())).collect())
        };
        let ours = tips(&[("HEAD", "b"), ("refs/heads/main", "b")]);
        let more = tips(&[("refs/heads/main", "b"), ("refs/heads/gone", "a")]);
        assert_eq!(position_seen(&ours, &more), tips_position(&ours));
        for behind in [tips(&[]), tips(&[("refs/heads/main", "a")])] {
            assert_ne!(position_seen(&ours, &behind), tips_position(&ours));
        }
    }
}
