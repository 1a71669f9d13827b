//! Where each key of a declaration stands, for rules that look at more than one key.

use std::{collections::BTreeMap, ops::Range};

use crate::diagnostic::Location;

/// The way to a value: the keys from the top, such as `backup`, `agama`, `policy`; items of lists by number.
pub type Path = Vec<String>;

/// Makes a [`Path`].
pub fn path<const N: usize>(keys: [&str; N]) -> Path {
    keys.map(str::to_owned).to_vec()
}

/// The place of every key.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<Path, Location>);

impl Places {
    /// Notes where a value stands; the first note of a path holds.
    pub fn note(&mut self, path: &[String], file: &str, span: Range<usize>) {
        self.0.entry(path.to_vec()).or_insert_with(|| Location { file: file.to_owned(), span });
    }

    /// Where the value stands, or else the nearest table around it.
    pub fn find(&self, path: &[String]) -> Option<&Location> {
        (1..=path.len()).rev().find_map(|len| self.0.get(&path[..len]))
    }
}
