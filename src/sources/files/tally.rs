//! What an archive holds, and what it does not.

use std::path::Path;

use super::walk::absolute;

/// How many things left out are named; the others are counted.
const NAMED: usize = 1000;

/// What a declared path holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub files: u64,
    pub folders: u64,
    pub symlinks: u64,
    pub bytes: u64,
}

impl Tally {
    pub(super) fn named(&self, path: &Path) -> [(String, u64); 4] {
        let count = |what: &str, number| (format!("{} {what}", path.display()), number);
        [
            count("files", self.files),
            count("folders", self.folders),
            count("symlinks", self.symlinks),
            count("bytes", self.bytes),
        ]
    }
}

/// What is not in the archive as it was on disk, and why.
#[derive(Debug, Default)]
pub(super) struct Omitted {
    named: Vec<String>,
    others: usize,
}

impl Omitted {
    pub(super) fn add(&mut self, path: &Path, why: &str) {
        if self.named.len() < NAMED {
            self.named.push(format!("{}: {why}", absolute(path).display()));
        } else {
            self.others += 1;
        }
    }

    pub(super) fn told(mut self) -> Vec<String> {
        if self.others > 0 {
            self.named.push(format!("and {} more", self.others));
        }
        self.named
    }
}
