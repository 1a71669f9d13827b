//! Writes the infra repo as a Git bundle, version 2 (gitformat-bundle(5)): a header of references, then a pack.
//!
//! With prerequisites, a bundle holds only what cannot be reached from them. The work is in proportion to that: new
//! commits are walked, and their folders compared with their parents', so that no unchanged folder is read. The pack
//! needs no object outside it to undo its deltas (it is not "thin"); whoever applies it needs the prerequisites' history.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use git2::{ObjectType, Oid, PackBuilder, Repository, Tree};
use tokio::sync::mpsc::Sender;

use super::tips::{HEAD, Tips};

/// The first line of a bundle.
pub const SIGNATURE: &str = "# v2 git bundle\n";

/// Bytes are handed on in pieces of this size.
const PIECE: usize = 128 << 10;

/// Why no bundle could be written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There are no references, so there is nothing to write.
    #[error("failed to bundle the infra repo: it has no commits yet; push a first one")]
    Empty,
    /// Nobody reads the bundle any more.
    #[error("failed to bundle the infra repo: the stream is no longer read")]
    Stopped,
    /// An object is missing or damaged.
    #[error("failed to bundle the infra repo: {0}; move the mirror away and it is made anew")]
    Object(String),
}

/// Writes the history of `tips` in `repo`, without that of `prerequisites`, to `stream`; blocks while it is full.
/// Prerequisites must exist in `repo` (see [`holds`]). Memory: a few hundred bytes an object, and bounded deltas.
pub fn write(
    repo: &Repository,
    tips: &Tips,
    prerequisites: &Tips,
    stream: &Sender<Bytes>,
) -> Result<(), BundleError> {
    if tips.is_empty() {
        return Err(BundleError::Empty);
    }
    let (header, pack) = prepare(repo, tips, prerequisites, stream).map_err(|e| failed(stream, e))?;
    let mut out = Pieces { stream, piece: BytesMut::with_capacity(PIECE) };
    if !out.write(header.as_bytes()) {
        return Err(BundleError::Stopped);
    }
    let mut pack = pack;
    pack.foreach(|bytes| out.write(bytes)).map_err(|e| failed(stream, e))?;
    if out.flush() { Ok(()) } else { Err(BundleError::Stopped) }
}

/// Whether every tip is an object of `repo`.
pub fn holds(repo: &Repository, tips: &Tips) -> bool {
    let Ok(odb) = repo.odb() else { return false };
    tips.0.values().all(|id| Oid::from_str(id).is_ok_and(|id| odb.exists(id)))
}

fn prepare<'r>(
    repo: &'r Repository,
    tips: &Tips,
    prerequisites: &Tips,
    stream: &Sender<Bytes>,
) -> Result<(String, PackBuilder<'r>), git2::Error> {
    let known = Known::of(repo, prerequisites)?;
    let mut packing = Packing::new(repo, stream.clone())?;
    packing.insert(tips, &known)?;
    Ok((header(repo, tips, &known), packing.pack))
}

fn failed(stream: &Sender<Bytes>, error: git2::Error) -> BundleError {
    if stream.is_closed() {
        BundleError::Stopped
    } else {
        BundleError::Object(error.message().escape_debug().to_string())
    }
}

/// Prerequisites, then HEAD and its branch, then the other references: a reader that has to guess which of the
/// branches HEAD names takes the first one with the same tip.
fn header(repo: &Repository, tips: &Tips, known: &Known) -> String {
    let mut header = SIGNATURE.to_owned();
    for commit in &known.commits {
        header.push_str(&format!("-{commit} \n"));
    }
    let head = repo.find_reference(HEAD).ok();
    let branch = head.as_ref().and_then(|head| head.symbolic_target().ok().flatten());
    let first = [Some(HEAD), branch];
    let first = first.into_iter().flatten().filter_map(|name| Some((name, tips.get(name)?)));
    let others = tips.references().filter(|(name, _)| Some(*name) != branch);
    for (name, tip) in first.chain(others) {
        header.push_str(&format!("{tip} {name}\n"));
    }
    header.push('\n');
    header
}

/// What whoever applies the bundle has already.
struct Known {
    /// Tips themselves, also those that are tags, and the commits that they lead to.
    objects: HashSet<Oid>,
    /// The commits that they lead to, in order, each once.
    commits: Vec<Oid>,
}

impl Known {
    fn of(repo: &Repository, tips: &Tips) -> Result<Self, git2::Error> {
        let (mut objects, mut commits) = (HashSet::new(), HashSet::new());
        for id in tips.0.values() {
            let id = Oid::from_str(id)?;
            objects.insert(id);
            if let Ok(commit) = repo.find_object(id, None)?.peel_to_commit() {
                objects.insert(commit.id());
                commits.insert(commit.id());
            }
        }
        let mut commits: Vec<Oid> = commits.into_iter().collect();
        commits.sort();
        Ok(Self { objects, commits })
    }
}

/// Collects the objects of a pack.
struct Packing<'r> {
    repo: &'r Repository,
    pack: PackBuilder<'r>,
    trees: HashSet<Oid>,
}

impl<'r> Packing<'r> {
    fn new(repo: &'r Repository, stream: Sender<Bytes>) -> Result<Self, git2::Error> {
        let mut pack = repo.packbuilder()?;
        pack.set_threads(0);
        pack.set_progress_callback(move |_, _, _| !stream.is_closed())?;
        Ok(Self { repo, pack, trees: HashSet::new() })
    }

    fn insert(&mut self, tips: &Tips, known: &Known) -> Result<(), git2::Error> {
        let mut walk = self.repo.revwalk()?;
        for tip in tips.0.values() {
            if let Some(commit) = self.tip(Oid::from_str(tip)?, known)? {
                walk.push(commit)?;
            }
        }
        for commit in &known.commits {
            walk.hide(*commit)?;
        }
        for id in walk {
            self.commit(id?)?;
        }
        Ok(())
    }

    /// Inserts what a tip is unless it is a commit; the commit that it leads to, if that is new.
    fn tip(&mut self, mut id: Oid, known: &Known) -> Result<Option<Oid>, git2::Error> {
        while !known.objects.contains(&id) {
            let object = self.repo.find_object(id, None)?;
            match object.kind() {
                Some(ObjectType::Commit) => return Ok(Some(id)),
                Some(ObjectType::Tree) => {
                    self.tree(id, Vec::new())?;
                    return Ok(None);
                }
                Some(ObjectType::Tag) => {
                    self.pack.insert_object(id, None)?;
                    id = object.as_tag().map_or(id, |tag| tag.target_id());
                }
                _ => {
                    self.pack.insert_object(id, None)?;
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    fn commit(&mut self, id: Oid) -> Result<(), git2::Error> {
        let commit = self.repo.find_commit(id)?;
        let parents = commit.parents().map(|parent| parent.tree_id()).collect::<Vec<_>>();
        self.pack.insert_object(id, None)?;
        self.tree(commit.tree_id(), parents)
    }

    /// Inserts what `root` holds and none of `parents` holds at the same place. Those are in the pack as well, or
    /// belong to the prerequisites. Not recursive, since folders may be nested as deeply as an attacker likes.
    ///
    /// Names bring the versions of one file or folder together, which makes for small deltas.
    fn tree(&mut self, root: Oid, parents: Vec<Oid>) -> Result<(), git2::Error> {
        let mut open = vec![(root, parents, "/".to_owned())];
        while let Some((id, parents, name)) = open.pop() {
            if parents.contains(&id) || !self.trees.insert(id) {
                continue;
            }
            self.pack.insert_object(id, Some(&name))?;
            let parents: Vec<Tree<'_>> =
                parents.into_iter().map(|id| self.repo.find_tree(id)).collect::<Result<_, _>>()?;
            for entry in &self.repo.find_tree(id)? {
                let name = entry.name_bytes();
                let there = || parents.iter().filter_map(|parent| parent.get_name_bytes(name));
                if there().any(|other| other.id() == entry.id()) {
                    continue;
                }
                match entry.kind() {
                    Some(ObjectType::Tree) => {
                        let folders = there().filter(|other| other.kind() == Some(ObjectType::Tree));
                        let folders = folders.map(|other| other.id()).collect();
                        open.push((entry.id(), folders, String::from_utf8_lossy(name).into_owned()));
                    }
                    Some(ObjectType::Blob) => self.pack.insert_object(entry.id(), entry.name().ok())?,
                    // A submodule's commit is no object of this repository.
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Hands bytes on in larger pieces.
struct Pieces<'a> {
    stream: &'a Sender<Bytes>,
    piece: BytesMut,
}

impl Pieces<'_> {
    /// Whether anybody still reads.
    fn write(&mut self, bytes: &[u8]) -> bool {
        self.piece.extend_from_slice(bytes);
        self.piece.len() < PIECE || self.flush()
    }

    fn flush(&mut self) -> bool {
        self.stream.blocking_send(self.piece.split().freeze()).is_ok()
    }
}
