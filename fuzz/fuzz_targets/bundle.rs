//! Whatever history a repository has, its bundles bring it back: a complete one and, after more history, one on top.
//! libgit2, which had no part in writing them, takes the packs in and finds every object that the tips lead to.
#![no_main]

use std::{cell::RefCell, io::Write, path::Path, thread};

use backstay::git::{Tips, bundle, unbundle};
use git2::{ObjectType, Oid, Repository, Signature, Time};
use libfuzzer_sys::fuzz_target;

/// Steps of one history: it grows more than linearly dear.
const MOST_STEPS: usize = 48;

fuzz_target!(|input: &[u8]| {
    let root = tempfile::tempdir().expect("a folder for temporary files");
    let history = History::new(&root.path().join("infra"));
    let restored = Repository::init_bare(root.path().join("restored")).expect("a repository can be made");
    let mut known = Tips::default();
    for part in input[..input.len().min(MOST_STEPS)].splitn(2, |byte| *byte == b'|') {
        part.iter().for_each(|step| history.take(*step));
        let tips = Tips::read(&history.repo).expect("references can be read");
        if tips.is_empty() {
            return;
        }
        assert!(bundle::holds(&history.repo, &known), "what was once a tip stays in the repository");
        let bytes = written(history.repo.path(), &tips, &known);
        take_in(&restored, &bytes, &tips);
        known = tips;
    }
});

/// A repository that grows by one step a byte.
struct History {
    repo: Repository,
    commits: RefCell<Vec<Oid>>,
}

impl History {
    fn new(path: &Path) -> Self {
        let repo = Repository::init_bare(path).expect("a repository can be made");
        repo.set_head("refs/heads/main").expect("a valid name");
        Self { repo, commits: RefCell::default() }
    }

    /// Two bits say what to do, six with which commit, name or file.
    fn take(&self, step: u8) {
        let which = usize::from(step >> 2);
        match step & 3 {
            0 => self.commit(which, &[self.chosen(which)]),
            1 => self.commit(which, &[self.chosen(which), self.chosen(which / 2)]),
            2 => self.tag(which),
            _ => self.move_branch(which),
        }
    }

    fn chosen(&self, which: usize) -> Option<Oid> {
        let commits = self.commits.borrow();
        commits.get(which % commits.len().max(1)).copied()
    }

    fn commit(&self, which: usize, parents: &[Option<Oid>]) {
        let parents: Vec<_> =
            parents.iter().flatten().map(|id| self.repo.find_commit(*id).expect("made before")).collect();
        let base = parents.first().map(|parent| parent.tree().expect("made before"));
        let blob = self.repo.blob(&[which as u8; 70][..which]).expect("a blob can be written");
        let mut tree = self.repo.treebuilder(base.as_ref()).expect("a tree can be built");
        let mode = [0o100_644, 0o100_755, 0o120_000][which % 3];
        tree.insert(format!("file {}", which % 9), blob, mode).expect("a valid name");
        let tree = self.nested(which, tree.write().expect("a tree can be written"));
        let now = Time::new(self.commits.borrow().len() as i64, 60 * (which as i32 - 32));
        let author = Signature::new("Ä", "a@example.org", &now).expect("a valid author");
        let parents: Vec<_> = parents.iter().collect();
        let tree = self.repo.find_tree(tree).expect("just written");
        let id =
            self.repo.commit(None, &author, &author, "c", &tree, &parents).expect("a commit can be written");
        self.commits.borrow_mut().push(id);
        if which % 2 == 0 {
            self.set("refs/heads/main", id);
        }
    }

    /// Now and then a tree stands in itself as a folder, or a submodule in it: its commit is in no pack.
    fn nested(&self, which: usize, tree: Oid) -> Oid {
        let (name, inner, mode) = match which % 7 {
            0 => ("folder", tree, 0o040_000),
            1 => ("module", Oid::from_bytes(&[7; 20]).expect("20 bytes"), 0o160_000),
            _ => return tree,
        };
        let outer = self.repo.find_tree(tree).expect("just written");
        let mut outer = self.repo.treebuilder(Some(&outer)).expect("a tree can be built");
        outer.insert(name, inner, mode).expect("a valid name");
        outer.write().expect("a tree can be written")
    }

    fn tag(&self, which: usize) {
        let Some(id) = self.chosen(which) else { return };
        let object = self.repo.find_object(id, None).expect("made before");
        let object =
            if which % 5 == 0 { object.peel(ObjectType::Tree).expect("of a commit") } else { object };
        let tagger = Signature::new("T", "t@example.org", &Time::new(7, 0)).expect("a valid tagger");
        let name = format!("v{}", which % 7);
        let tag = self.repo.tag(&name, &object, &tagger, "t", true).expect("a tag can be written");
        if which % 11 == 0 {
            let tag = self.repo.find_object(tag, None).expect("just written");
            self.repo.tag(&name, &tag, &tagger, "a tag of a tag", true).expect("a tag can be written");
        }
    }

    fn move_branch(&self, which: usize) {
        let name = ["refs/heads/main", "refs/heads/ä/x", "refs/backstay/old/x", "refs/heads/b"][which % 4];
        match (self.chosen(which / 4), self.repo.find_reference(name)) {
            (_, Ok(mut branch)) if which % 3 == 0 => branch.delete().expect("a branch can be deleted"),
            (Some(id), _) => self.set(name, id),
            (None, _) => {}
        }
    }

    fn set(&self, name: &str, id: Oid) {
        self.repo.reference(name, id, true, "moved").expect("a valid name");
    }
}

fn written(repo: &Path, tips: &Tips, known: &Tips) -> Vec<u8> {
    let (pieces, mut read) = tokio::sync::mpsc::channel(1);
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let repo = Repository::open_bare(repo).expect("it was made");
            bundle::write(&repo, tips, known, &pieces)
        });
        let mut bytes = Vec::new();
        while let Some(piece) = read.blocking_recv() {
            bytes.extend_from_slice(&piece);
        }
        writer.join().expect("no panic").expect("whatever is a history can be bundled");
        bytes
    })
}

/// Takes the bundle's pack into a repository that has its prerequisites, and looks for all that it must have then.
fn take_in(repo: &Repository, bundle: &[u8], tips: &Tips) {
    let mut pack = bundle;
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without any driver");
    let header = runtime.block_on(unbundle::read_header(&mut pack)).expect("a header of ours");
    assert_eq!(header.tips, *tips);
    let odb = repo.odb().expect("an object store");
    for commit in &header.prerequisites {
        assert!(odb.exists(Oid::from_str(commit).expect("an id")), "{commit} is no prerequisite of ours");
    }
    let mut writer = odb.packwriter().expect("a pack can be taken in");
    writer.write_all(pack).expect("a pack");
    writer.commit().expect("a whole pack");
    odb.refresh().expect("packs can be listed");
    for id in tips.0.values() {
        complete(repo, Oid::from_str(id).expect("an id"));
    }
}

/// Everything that `id` leads to is there.
fn complete(repo: &Repository, id: Oid) {
    let (mut open, mut seen) = (vec![id], std::collections::HashSet::new());
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let object = repo.find_object(id, None).unwrap_or_else(|error| panic!("{id} is missing: {error}"));
        if let Some(commit) = object.as_commit() {
            open.push(commit.tree_id());
            open.extend(commit.parent_ids());
        } else if let Some(tag) = object.as_tag() {
            open.push(tag.target_id());
        } else if let Some(tree) = object.as_tree() {
            open.extend(tree.iter().filter(|entry| entry.filemode() != 0o160_000).map(|entry| entry.id()));
        }
    }
}
