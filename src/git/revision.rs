//! A revision: one commit of the infra repo, and the files that it declares.
//!
//! Files are read straight from the object database, or from a folder for a check before the commit. Either way what
//! is read is bounded before it is read, nothing is executed, and nothing outside the folder is followed.

mod checkout;
mod folder;
mod tree;

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use checkout::write_tree;
pub use folder::{read_folder, templates_in};
pub use tree::{describe, read, templates};

/// A commit of the infra repo. All texts are safe to print.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// The commit's id, 40 lower-case hexadecimal digits.
    pub id: String,
    /// Who wrote it: `Name <address>`.
    pub author: String,
    /// Who committed it.
    pub committer: String,
    /// When it was committed, by the committer's clock: never to be trusted for decisions.
    pub time: Timestamp,
    /// The first line of its message.
    pub subject: String,
}

/// What a revision declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The commit.
    pub revision: Revision,
    /// The content of every `*.toml`, by its path in the declaration's folder, `/` between its parts.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// The most files and folders that are looked at.
pub const MOST_ENTRIES: usize = 10_000;
/// The most `*.toml` files that are read.
pub const MOST_FILES: usize = 1_000;
/// The longest `*.toml` that is read, bytes.
pub const LONGEST_FILE: u64 = 1 << 20;
/// The most that is read of all files together, bytes.
pub const LONGEST_TOTAL: u64 = 16 << 20;
/// The deepest folder that is looked into.
pub const DEEPEST: usize = 16;

/// Why a revision could not be read. None of these is an empty declaration.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// The repository or an object of it is missing or damaged.
    #[error("failed to read {what}: {reason}; check the repository with `git fsck`")]
    Object {
        /// What was read.
        what: String,
        /// Why.
        reason: String,
    },
    /// There is no such commit.
    #[error("failed to find the revision `{0}`; `git log` shows those that exist")]
    NoCommit(String),
    /// The declaration's folder is not in the revision.
    #[error("failed to find the folder {folder} in {whose}; commit it, or name another one in repo.path")]
    NoFolder {
        /// The folder.
        folder: String,
        /// The revision or the folder around it.
        whose: String,
    },
    /// A folder could not be read from disk.
    #[error("failed to read {}: {error}; check that it exists and may be read", .path.display())]
    Disk {
        /// The path.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A name that could be mistaken for another one.
    #[error("failed to read {0}: use names without `..`, `/` and control characters, in UTF-8")]
    Name(String),
    /// A file or folder could not be written.
    #[error("failed to write {}: {error}; make room, and let whoever runs Backstay write there", .path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// One of the limits is exceeded.
    #[error("failed to read {what}: {limit}; move what is no declaration out of the folder")]
    TooMuch {
        /// The file or folder.
        what: String,
        /// The limit and what was found.
        limit: String,
    },
}

/// Counts what is read against the limits.
#[derive(Debug, Default)]
struct Budget {
    entries: usize,
    total: u64,
    files: BTreeMap<String, Vec<u8>>,
}

impl Budget {
    /// Another file or folder was looked at.
    fn entry(&mut self, folder: &str) -> Result<(), RevisionError> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(too_much(folder, format!("there are more than {MOST_ENTRIES} files and folders")));
        }
        Ok(())
    }

    /// A folder is about to be entered.
    fn depth(&self, folder: &str, depth: usize) -> Result<(), RevisionError> {
        if depth > DEEPEST {
            return Err(too_much(folder, format!("it is more than {DEEPEST} folders deep")));
        }
        Ok(())
    }

    /// A file of `size` bytes is about to be read.
    fn file(&mut self, path: &str, size: u64) -> Result<(), RevisionError> {
        if size > LONGEST_FILE {
            return Err(too_much(path, format!("it has {size} bytes, more than {LONGEST_FILE}")));
        }
        self.total += size;
        if self.total > LONGEST_TOTAL {
            return Err(too_much(path, format!("all files together have more than {LONGEST_TOTAL} bytes")));
        }
        if self.files.len() >= MOST_FILES {
            return Err(too_much(path, format!("there are more than {MOST_FILES} files to read")));
        }
        Ok(())
    }
}

fn too_much(what: &str, limit: String) -> RevisionError {
    let what = if what.is_empty() { "the declaration" } else { what };
    RevisionError::TooMuch { what: what.escape_debug().to_string(), limit }
}

/// The path of `name` in `folder`; an error for a name that is not what it seems.
fn joined(folder: &str, name: &[u8]) -> Result<String, RevisionError> {
    let text = String::from_utf8_lossy(name);
    let path = if folder.is_empty() { text.clone().into_owned() } else { format!("{folder}/{text}") };
    let plain = std::str::from_utf8(name).is_ok()
        && !matches!(name, b"" | b"." | b"..")
        && !text.contains(['/', '\\'])
        && !text.chars().any(misleading);
    if plain { Ok(path) } else { Err(RevisionError::Name(format!("`{}`", path.escape_debug()))) }
}

/// Control characters, and those that turn or hide the text around them on a terminal (Unicode UAX #9).
fn misleading(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Those of `files` that are texts.
fn texts(files: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    let text = |(path, content)| Some((path, String::from_utf8(content).ok()?));
    files.into_iter().filter_map(text).collect()
}

/// Whether a file of this name declares something.
fn declares(name: &[u8]) -> bool {
    name.ends_with(b".toml")
}

/// The parts of the configured folder; empty for the whole repository.
fn parts(folder: &str) -> impl Iterator<Item = &str> {
    folder.split('/').filter(|part| !part.is_empty() && *part != ".")
}
