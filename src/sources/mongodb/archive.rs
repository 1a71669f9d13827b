//! The format of `mongodump --archive` (mongo-tools, `common/archive/spec.md`, version 0.1).
//!
//! ```text
//! archive   := magic, prelude, block*
//! prelude   := header, collection*, terminator
//! block     := namespace, document*, terminator      documents of one collection; with EOF it has none, and is the last
//! ```
//!
//! All but the magic number and the terminators are BSON documents. The namespace of a collection's last block bears the CRC
//! of all its documents.

use bson::{Document, doc};
use crc_fast::{CrcAlgorithm, Digest};

use super::metadata::Collection;

/// The first four bytes, little-endian.
pub(super) const MAGIC: [u8; 4] = 0x8199_e26d_u32.to_le_bytes();

/// What ends a block: no document is this long.
pub(super) const TERMINATOR: [u8; 4] = [0xff; 4];

/// The version of the format.
const VERSION: &str = "0.1";

/// The CRC of a collection's documents: CRC-64/XZ, which Go calls ECMA.
pub(super) struct Checksum(Digest);

impl Checksum {
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Xz))
    }

    pub fn update(&mut self, document: &[u8]) {
        self.0.update(document);
    }

    /// As archives write it.
    pub fn finish(&self) -> i64 {
        self.0.finalize().cast_signed()
    }
}

/// Where an archive begins: the server's version, and every collection that follows.
pub(super) fn prelude(server_version: &str, collections: &[Collection]) -> bson::error::Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    let header = doc! {
        "concurrent_collections": 1,
        "version": VERSION,
        "server_version": server_version,
        "tool_version": concat!("backstay ", env!("CARGO_PKG_VERSION")),
    };
    append(&header, &mut bytes)?;
    for collection in collections {
        let entry = doc! {
            "db": &collection.database,
            "collection": &collection.name,
            "metadata": collection.metadata(),
            "size": 0,
            "type": collection.kind(),
        };
        append(&entry, &mut bytes)?;
    }
    bytes.extend_from_slice(&TERMINATOR);
    Ok(bytes)
}

/// What stands before a collection's documents.
pub(super) fn opening(collection: &Collection) -> bson::error::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    append(&namespace(collection, Part::Documents), &mut bytes)?;
    Ok(bytes)
}

/// What stands behind them.
pub(super) fn closing(collection: &Collection, checksum: &Checksum) -> bson::error::Result<Vec<u8>> {
    let mut bytes = TERMINATOR.to_vec();
    append(&namespace(collection, Part::End(checksum.finish())), &mut bytes)?;
    bytes.extend_from_slice(&TERMINATOR);
    Ok(bytes)
}

/// What a block holds of its collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Some documents.
    Documents,
    /// None: there are no more, and this is the CRC of all.
    End(i64),
}

fn namespace(collection: &Collection, part: Part) -> Document {
    let (eof, crc) = match part {
        Part::Documents => (false, 0),
        Part::End(crc) => (true, crc),
    };
    doc! { "db": &collection.database, "collection": &collection.name, "EOF": eof, "CRC": crc }
}

fn append(document: &Document, bytes: &mut Vec<u8>) -> bson::error::Result<()> {
    document.to_writer(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_go() {
        let mut checksum = Checksum::new();
        checksum.update(b"1234");
        checksum.update(b"56789");
        // The check value of CRC-64/XZ in Greg Cook's catalogue of CRC algorithms.
        assert_eq!(checksum.finish().cast_unsigned(), 0x995d_c9bb_df19_39fa);
        assert_eq!(Checksum::new().finish(), 0);
    }
}
