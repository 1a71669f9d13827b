//! What is declared, as one digest.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::approvals;

/// The SHA-256 of the files of a revision that declare something, by their paths in the declaration's folder; lower-case
/// hexadecimal. Equal exactly when their names and contents are. Approvals declare nothing: they may be added and taken away
/// without anything else being declared.
pub fn declared(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut digest = Sha256::new();
    for (path, content) in files.iter().filter(|(path, _)| *path != approvals::FILE) {
        for part in [path.as_bytes(), content.as_slice()] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    hex::encode(digest.finalize())
}
