//! Trust: which revision may come into force, by the signatures of commits and tags.
//!
//! ```text
//! signers, keyring, web_flow ──▶ Trust ──choose──▶ the revision that the branch's tip proposes, and who signed it
//! (files of the host)              │
//!                                  └────vouch────▶ whether an older one could stand in
//! ```
//!
//! Who may sign is said by files of the host alone: nothing that a commit holds has a say. The verdict on a commit or tag
//! rests on its bytes and on those files, never on the present time, so it is kept as long as the files are the same.

mod allowed;
mod approvers;
mod merge;
mod openpgp;
mod signed;
mod tags;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use git2::{Oid, Repository};
use sha2::{Digest, Sha256};

use super::{
    Mirror, Revision,
    mirror::{blocking, is_ancestor},
    revision,
};
pub use crate::artifact::record::Signer;
use allowed::AllowedSigners;
pub use approvers::{Approvers, Vouched};
use openpgp::Keyring;
use signed::{Armor, Signed};

/// The largest file of signers or keys that is read, bytes.
const LARGEST_FILE: u64 = 4 << 20;
/// The most commits whose signatures are checked to bring one revision into force.
const MOST_COMMITS: usize = 10_000;
/// The largest commit or tag that is looked at, bytes.
const LARGEST_OBJECT: usize = 4 << 20;

/// What the host asks of revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What must be signed.
    pub mode: Mode,
    /// Who may sign with SSH keys, in the format of `allowed_signers` (ssh-keygen(1)).
    pub signers: Option<PathBuf>,
    /// OpenPGP public keys of who may sign.
    pub keyring: Option<PathBuf>,
    /// Keys that count for merges only, in either format: those of the host that merges by its web page.
    pub web_flow: Option<PathBuf>,
}

/// What must be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The tip of the branch.
    Head,
    /// A tag: the newest signed one on the branch whose name matches the pattern names the revision.
    Tag {
        /// Which tags count; `*` and `?` as in shells.
        pattern: String,
    },
    /// Every commit since the revision in force.
    Every,
}

impl Mode {
    /// As in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Mode::Head => "head",
            Mode::Tag { .. } => "tag",
            Mode::Every => "every",
        }
    }
}

/// Files of signers or keys that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// A file can't be read.
    #[error("failed to read {}: {reason}; no newer revision can be verified without it", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file holds something else than it should.
    #[error("failed to use {}: {reason}; no newer revision is verified until it is corrected", .path.display())]
    Faulty {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
}

/// Why the signature of one commit or tag does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// There is none.
    #[error("it is not signed")]
    Unsigned,
    /// It can't be read, or is of a kind that is not supported.
    #[error("its signature cannot be used: {0}")]
    Malformed(String),
    /// Nobody whom the host names made it.
    #[error("it is signed by {fingerprint}, which the host's files do not name")]
    UnknownKey {
        /// Of the key, as `ssh-keygen -l` and `gpg` show it.
        fingerprint: String,
    },
    /// The key is named, but not for this.
    #[error("it is signed by {} with {}, but {why}", .signer.principal, .signer.fingerprint)]
    NotAllowed {
        /// Whose key it is.
        signer: Signer,
        /// Why not.
        why: String,
    },
    /// The signature is of something else.
    #[error("its signature by {} with {} does not fit its content", .0.principal, .0.fingerprint)]
    Mismatch(Signer),
}

/// A commit or tag that keeps a revision from coming into force. All texts are safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// The commit, `commit 3b1e…`, or the tag, `tag v1`.
    pub what: String,
    /// Who made it, by its own account: nothing proves it.
    pub by: Option<String>,
    /// Why it is not trusted.
    pub why: String,
}

impl std::fmt::Display for Distrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.by {
            Some(by) => write!(f, "{} by {by} is not trusted: {}", self.what, self.why),
            None => write!(f, "{} is not trusted: {}", self.what, self.why),
        }
    }
}

/// What the tip of the branch proposes, and what vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The revision.
    pub revision: String,
    /// Who signed it, or the tag that names it.
    pub signer: Signer,
    /// A newer tag that would name another revision, were it trusted.
    pub newer: Option<Distrust>,
}

/// Whose signatures count, and for what.
#[derive(Debug)]
pub struct Trust {
    mode: Mode,
    keys: Keys,
    web_flow: Keys,
    digest: String,
    /// The verdict of [`Trust::keys`] on objects by their ids, which are digests of all that was judged.
    verdicts: Mutex<HashMap<Oid, Result<Signer, Unverified>>>,
}

/// Keys of one origin.
#[derive(Debug, Default)]
struct Keys {
    ssh: AllowedSigners,
    pgp: Keyring,
}

impl Keys {
    fn check(&self, signed: &Signed) -> Result<Signer, Unverified> {
        match signed.armor {
            Armor::Ssh => self.ssh.check(signed),
            Armor::OpenPgp => self.pgp.check(signed),
        }
    }
}

/// The files of a [`Policy`] as they were read.
pub struct Files<'a> {
    /// Which files they are.
    pub policy: &'a Policy,
    /// What stands in [`Policy::signers`].
    pub signers: Option<Vec<u8>>,
    /// What stands in [`Policy::keyring`].
    pub keyring: Option<Vec<u8>>,
    /// What stands in [`Policy::web_flow`].
    pub web_flow: Option<Vec<u8>>,
}

impl<'a> Files<'a> {
    /// Reads them.
    pub fn read(policy: &'a Policy) -> Result<Self, TrustError> {
        let read = |path: &Option<PathBuf>| path.as_deref().map(read_file).transpose();
        Ok(Self {
            policy,
            signers: read(&policy.signers)?,
            keyring: read(&policy.keyring)?,
            web_flow: read(&policy.web_flow)?,
        })
    }

    /// Equal exactly when the mode and the content of all files are.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(format!("{:?}\n", self.policy.mode));
        for content in [&self.signers, &self.keyring, &self.web_flow] {
            let content = content.as_deref().unwrap_or_default();
            digest.update(format!("{}\n", content.len()));
            digest.update(content);
        }
        hex::encode(digest.finalize())
    }

    /// Understands them.
    pub fn trust(&self) -> Result<Trust, TrustError> {
        let ssh = parsed(&self.policy.signers, &self.signers, AllowedSigners::parse)?;
        let pgp = parsed(&self.policy.keyring, &self.keyring, Keyring::parse)?;
        Ok(Trust {
            mode: self.policy.mode.clone(),
            keys: Keys { ssh, pgp },
            web_flow: parsed(&self.policy.web_flow, &self.web_flow, either)?,
            digest: self.digest(),
            verdicts: Mutex::default(),
        })
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, TrustError> {
    let unreadable = |reason: String| TrustError::Read { path: path.to_owned(), reason };
    let mut content = Vec::new();
    let file = File::open(path).map_err(|e| unreadable(e.to_string()))?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut content).map_err(|e| unreadable(e.to_string()))?;
    if content.len() as u64 > LARGEST_FILE {
        return Err(unreadable(format!("it is longer than {LARGEST_FILE} bytes")));
    }
    Ok(content)
}

fn parsed<T: Default>(
    path: &Option<PathBuf>,
    content: &Option<Vec<u8>>,
    parse: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<T, TrustError> {
    match (path, content) {
        (Some(path), Some(content)) => {
            parse(content).map_err(|reason| TrustError::Faulty { path: path.clone(), reason })
        }
        _ => Ok(T::default()),
    }
}

/// Keys in either format: OpenPGP packets have the highest bit of their first byte set (RFC 9580, section 4.2).
fn either(content: &[u8]) -> Result<Keys, String> {
    let binary = content.first().is_some_and(|byte| byte & 0x80 != 0);
    if binary || content.windows(10).any(|window| window == b"-----BEGIN") {
        return Ok(Keys { pgp: Keyring::parse(content)?, ..Keys::default() });
    }
    Ok(Keys { ssh: AllowedSigners::parse(content)?, ..Keys::default() })
}

impl Trust {
    /// What it rests on: see [`Files::digest`].
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Who signed the commit with these bytes, if that counts. A merge by the web page is not judged here: it takes its
    /// parents.
    pub fn commit(&self, raw: &[u8]) -> Result<Signer, Unverified> {
        self.keys.check(&signed::commit(raw)?)
    }

    /// The same of an annotated tag; `None` when the bytes are none.
    pub fn tag(&self, raw: &[u8]) -> Option<Result<Signer, Unverified>> {
        Some(signed::tag(raw)?.signed.and_then(|signed| self.keys.check(&signed)))
    }

    /// What the branch that ends in `tip` proposes, if it may come into force after `base`.
    pub async fn choose(
        self: &Arc<Self>,
        mirror: &Mirror,
        tip: &str,
        base: Option<&str>,
    ) -> Result<Choice, Distrust> {
        let (tip, base) = (tip.to_owned(), base.map(str::to_owned));
        self.judge(mirror, move |judge| match &judge.trust.mode {
            Mode::Tag { pattern } => tags::choose(judge, pattern, &tip),
            Mode::Head => judge.head(&tip, base.as_deref()),
            Mode::Every => judge.every(&tip, base.as_deref()),
        })
        .await
    }

    /// Whether the revision `id` could stand in for one that can't be read any more: it is trusted by itself.
    pub async fn vouch(self: &Arc<Self>, mirror: &Mirror, id: &str) -> Result<Signer, Distrust> {
        let id = id.to_owned();
        self.judge(mirror, move |judge| match &judge.trust.mode {
            Mode::Tag { pattern } => tags::vouch(judge, pattern, &id),
            Mode::Head | Mode::Every => judge.head(&id, None).map(|choice| choice.signer),
        })
        .await
    }

    async fn judge<T: Send + 'static>(
        self: &Arc<Self>,
        mirror: &Mirror,
        work: impl FnOnce(&Judge<'_>) -> Result<T, Distrust> + Send + 'static,
    ) -> Result<T, Distrust> {
        let (path, trust) = (mirror.path().to_owned(), self.clone());
        blocking(move || {
            let repo = Repository::open_bare(&path).map_err(|error| unreadable("the mirror", &error))?;
            work(&Judge { repo: &repo, path: &path, trust: &trust })
        })
        .await
    }
}

fn unreadable(what: &str, error: &git2::Error) -> Distrust {
    let why = format!("it cannot be read: {}", error.message().escape_debug());
    Distrust { what: what.to_owned(), by: None, why }
}

/// Judges the objects of one repository.
struct Judge<'a> {
    repo: &'a Repository,
    path: &'a Path,
    trust: &'a Trust,
}

impl Judge<'_> {
    /// The tip is signed.
    fn head(&self, tip: &str, base: Option<&str>) -> Result<Choice, Distrust> {
        let signer = self.commit(parse_id(tip)?, base, &HashSet::new())?;
        Ok(Choice { revision: tip.to_owned(), signer, newer: None })
    }

    /// Every commit that `base` has not in its history is signed. Without a base, as for [`Judge::head`].
    fn every(&self, tip: &str, base: Option<&str>) -> Result<Choice, Distrust> {
        let Some(base) = base.filter(|base| *base != tip) else { return self.head(tip, base) };
        let mut trusted = HashSet::new();
        for id in self.between(tip, base)? {
            self.commit(id, Some(base), &trusted)?;
            trusted.insert(id);
        }
        self.head(tip, Some(base))
    }

    /// The commits in the history of `tip` that are not in that of `base`, oldest first.
    fn between(&self, tip: &str, base: &str) -> Result<Vec<Oid>, Distrust> {
        let walk = || {
            let mut walk = self.repo.revwalk()?;
            walk.set_sorting(git2::Sort::TOPOLOGICAL | git2::Sort::REVERSE)?;
            walk.push(Oid::from_str(tip)?)?;
            // A revision in force that the mirror lacks leaves nothing out.
            if let Ok(base) = Oid::from_str(base)
                && self.repo.find_commit(base).is_ok()
            {
                walk.hide(base)?;
            }
            walk.take(MOST_COMMITS + 1).collect::<Result<Vec<_>, _>>()
        };
        let ids = walk().map_err(|error| unreadable(&named(tip), &error))?;
        if ids.len() > MOST_COMMITS {
            let why = format!(
                "it is more than {MOST_COMMITS} commits ahead of {base}; set repo.verify = \"head\" for one pass"
            );
            return Err(Distrust { what: named(tip), by: None, why });
        }
        Ok(ids)
    }

    /// Who signed a commit, if that counts: a signer, or the web page that merged. `trusted` are commits that were found so
    /// before.
    fn commit(&self, id: Oid, base: Option<&str>, trusted: &HashSet<Oid>) -> Result<Signer, Distrust> {
        let unverified = match self.verdict(id) {
            Ok(signer) => return Ok(signer),
            Err(why) => why,
        };
        let Some(page) = self.by_web_flow(id) else { return Err(self.distrust(id, unverified.to_string())) };
        match merge::check(self, id, base, trusted) {
            Ok(()) => Ok(page),
            Err(why) => Err(self.distrust(id, format!("it is signed by {}, but {why}", page.principal))),
        }
    }

    /// The verdict on a commit by the keys of signers.
    fn verdict(&self, id: Oid) -> Result<Signer, Unverified> {
        let verdicts = || self.trust.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = verdicts().get(&id) {
            return known.clone();
        }
        let verdict = self.raw(id).and_then(|raw| self.trust.commit(&raw));
        verdicts().insert(id, verdict.clone());
        verdict
    }

    /// The key of the web page, if it made the signature of a commit.
    fn by_web_flow(&self, id: Oid) -> Option<Signer> {
        let signed = signed::commit(&self.raw(id).ok()?).ok()?;
        self.trust.web_flow.check(&signed).ok()
    }

    /// The bytes of a commit or tag.
    fn raw(&self, id: Oid) -> Result<Vec<u8>, Unverified> {
        object(self.repo, id)
    }

    /// Whether `id` is `base` or in its history.
    fn is_in(&self, id: Oid, base: Option<&str>) -> bool {
        let id = id.to_string();
        base.is_some_and(|base| base == id || is_ancestor(self.repo, &id, base))
    }

    fn distrust(&self, id: Oid, why: String) -> Distrust {
        let found: Option<Revision> = revision::describe(self.path, &id.to_string()).ok();
        Distrust { what: named(&id.to_string()), by: found.map(|revision| revision.author), why }
    }
}

/// The bytes of a commit or tag.
fn object(repo: &Repository, id: Oid) -> Result<Vec<u8>, Unverified> {
    let unreadable = |error: git2::Error| Unverified::Malformed(error.message().escape_debug().to_string());
    let odb = repo.odb().map_err(unreadable)?;
    let (size, _) = odb.read_header(id).map_err(unreadable)?;
    if size > LARGEST_OBJECT {
        return Err(Unverified::Malformed(format!("the object has more than {LARGEST_OBJECT} bytes")));
    }
    Ok(odb.read(id).map_err(unreadable)?.data().to_vec())
}

fn parse_id(id: &str) -> Result<Oid, Distrust> {
    Oid::from_str(id).map_err(|error| unreadable(&named(id), &error))
}

fn named(id: &str) -> String {
    format!("commit {}", id.get(..10).unwrap_or(id))
}

/// Whether `text` matches `pattern`, in which `*` stands for anything and `?` for one character.
fn matches(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    // `matched[n]`: the pattern read so far matches the first `n` characters.
    let mut matched = vec![false; text.len() + 1];
    matched[0] = true;
    for wanted in pattern {
        if wanted == '*' {
            let first = matched.iter().position(|reached| *reached).unwrap_or(matched.len());
            matched[first..].fill(true);
            continue;
        }
        for n in (0..text.len()).rev() {
            matched[n + 1] = matched[n] && (wanted == '?' || wanted == text[n]);
        }
        matched[0] = false;
    }
    matched[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_shells() {
        for (text, pattern, expect) in [
            ("git", "git", true),
            ("git", "g?t", true),
            ("git", "*", true),
            ("", "*", true),
            ("backup-12", "backup-*", true),
            ("backup-12", "*-?", false),
            ("backup-1", "*-?", true),
            ("aXbXc", "a*X*c", true),
            ("abc", "a*d", false),
            ("git", "", false),
        ] {
            assert_eq!(matches(text, pattern), expect, "{text} {pattern}");
        }
        // Would take for ever if it went back and forth.
        assert!(!matches(&"a".repeat(2000), &format!("{}b", "a*".repeat(200))));
    }
}
