//! The snapshot file: a database of bbolt, and the SHA-256 of it. Sources: etcd, `etcdctl/snapshot/v3_snapshot.go`;
//! bbolt, `page.go` and `db.go`.

use sha2::{Digest, Sha256};

/// The length of the digest behind the database, bytes.
pub(super) const DIGEST: usize = 32;

/// Databases are whole sectors: a file with a digest is that much longer.
const SECTOR: u64 = 512;

/// Where the first page's magic stands, and what it is.
const MAGIC: (usize, [u8; 4]) = (16, 0xed0c_daed_u32.to_le_bytes());

/// Whether a database begins like this.
pub(super) fn must_be_a_database(beginning: &[u8]) -> Result<(), String> {
    let (at, magic) = MAGIC;
    if beginning.get(at..at + magic.len()) == Some(&magic) {
        return Ok(());
    }
    Err("it does not begin as a database of etcd does".to_owned())
}

/// Looks at a file as it goes by.
#[derive(Debug, Default)]
pub(super) struct FileCheck {
    beginning: Vec<u8>,
    length: u64,
    sum: Sha256,
    /// What may be the digest.
    tail: Vec<u8>,
}

impl FileCheck {
    /// The next bytes.
    pub(super) fn look(&mut self, bytes: &[u8]) {
        let room = (MAGIC.0 + MAGIC.1.len()).saturating_sub(self.beginning.len());
        self.beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len() as u64;
        let settled = (self.tail.len() + bytes.len()).saturating_sub(DIGEST);
        let of_tail = settled.min(self.tail.len());
        let (now, later) = bytes.split_at(settled - of_tail);
        self.sum.update(&self.tail[..of_tail]);
        self.sum.update(now);
        self.tail.drain(..of_tail);
        self.tail.extend_from_slice(later);
    }

    /// Proves that the file is whole.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn finish(self) -> Result<(), String> {
        must_be_a_database(&self.beginning).map_err(|why| format!("it is no snapshot of etcd: {why}"))?;
        if self.length % SECTOR != DIGEST as u64 {
            return Err(
                "the snapshot is not whole: its length is not that of a database and a digest".to_owned()
            );
        }
        if self.sum.finalize().as_slice() != self.tail {
            return Err("the snapshot is altered: its SHA-256 is not that of its content".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut database = vec![7; 4096];
        database[16..20].copy_from_slice(&[0xed, 0xda, 0x0c, 0xed]);
        let digest = Sha256::digest(&database);
        [database.as_slice(), digest.as_slice()].concat()
    }

    fn look<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(), String> {
        let mut check = FileCheck::default();
        pieces.into_iter().for_each(|piece| check.look(piece));
        check.finish()
    }

    #[test]
    fn a_file_is_whole_in_whatever_pieces_it_comes() {
        for size in [1, 31, 32, 33, 1000, 10_000] {
            look(file().chunks(size)).unwrap();
        }
    }

    #[test]
    fn no_part_of_a_file_and_no_altered_one_is_whole() {
        let file = file();
        for length in [0, 1, 16, 32, 512, 544, 4096, file.len() - 1] {
            look([&file[..length]]).expect_err("it is cut short");
            let mut altered = file.clone();
            altered[length] ^= 1;
            look([altered.as_slice()]).expect_err("it is altered");
        }
        let database = &file[..4096];
        look([database, Sha256::digest(database).as_slice(), b"x"]).expect_err("something follows");
    }
}
