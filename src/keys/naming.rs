//! The key by which segments are found again without telling anybody what they hold.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    artifact::index::KeyedHash,
    spec::names::{FleetName, FolderName},
};

/// One backup's own key. Segments with the same plaintext have the same hash within a backup, and nowhere else: so a
/// store learns nothing, and nobody can plant segments in another's backup.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NamingKey {
    hash: [u8; 32],
    cut: u64,
}

impl NamingKey {
    /// Derives a backup's key from the controller's by BLAKE3's key derivation. The two names cannot hold a `/`, so no
    /// two backups share their key material.
    pub(super) fn derive(naming: &[u8; 32], fleet: &FleetName, backup: &FolderName) -> Self {
        let derive = |context: &str| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(naming).update(format!("{fleet}/{backup}").as_bytes());
            let mut key = [0; 32];
            hasher.finalize_xof().fill(&mut key);
            hasher.zeroize();
            key
        };
        let [c0, c1, c2, c3, c4, c5, c6, c7, ..] = derive("backstay 2026 cut");
        Self {
            hash: derive("backstay 2026 segment"),
            cut: u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
        }
    }

    /// The hash of a segment's plaintext.
    pub fn segment(&self, plaintext: &[u8]) -> KeyedHash {
        KeyedHash(*blake3::keyed_hash(&self.hash, plaintext).as_bytes())
    }

    /// The hash of a run's key.
    pub fn run(&self, key: &[u8; 32]) -> KeyedHash {
        KeyedHash(*blake3::keyed_hash(&self.hash, key).as_bytes())
    }

    /// What the cutter's table is mixed with, so that nobody without the key can tell known content by where it is cut.
    pub fn cut_seed(&self) -> u64 {
        self.cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backup_names_the_same_bytes_differently() {
        let key = |fleet: &str, backup: &str| {
            NamingKey::derive(&[7; 32], &fleet.parse().unwrap(), &backup.parse().unwrap()).segment(b"x")
        };
        assert_eq!(key("a", "b"), key("a", "b"));
        assert_ne!(key("a", "b"), key("a", "c"));
        assert_ne!(key("a", "b"), key("c", "b"));
        let other = NamingKey::derive(&[8; 32], &"a".parse().unwrap(), &"b".parse().unwrap());
        assert_ne!(key("a", "b"), other.segment(b"x"));
    }
}
