//! The stream: a pax archive with `backstay.json`, a record of the buckets, then, where all buckets are captured, the server's
//! own databases, and for each shard a folder, called by its number, with its files as the server keeps them. Read back, it may
//! hold nothing else.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::{Failure, buckets::Bucket, metadata::Own};
use crate::sources::{
    RunKey,
    pax::{Described, Head, Meta, Reader},
};

/// The name of the record.
pub(super) const RECORD: &str = "backstay.json";

/// The format, and its version.
const FORMAT: &str = "backstay.influxdb2/1";

/// The largest record, bytes.
const LARGEST: u64 = 64 * 1024 * 1024;

/// The size of the pieces that are handed on, bytes.
pub(super) const CHUNK: usize = 128 * 1024;

/// What is captured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format: String,
    /// Of the server.
    pub version: String,
    pub organization: String,
    pub buckets: Vec<Bucket>,
}

impl Record {
    pub(super) fn new(version: String, organization: String, buckets: Vec<Bucket>) -> Self {
        Self { format: FORMAT.to_owned(), version, organization, buckets }
    }

    /// Its member of the archive, at the time `second`, seconds since the Unix epoch.
    pub(super) fn member(&self, second: i64) -> Result<Vec<u8>, Failure> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| Failure::Answer(error.to_string()))?;
        text.push(b'\n');
        let mut member = head(EntryType::Regular, RECORD, text.len() as u64, second);
        member.extend_from_slice(&text);
        member.resize(member.len().next_multiple_of(512), 0);
        Ok(member)
    }

    /// Reads the one that an archive begins with.
    pub(super) fn read(archive: &mut Reader<impl Read>) -> Result<Self, Failure> {
        let first = archive.next().map_err(Failure::Stream)?;
        let first = first.filter(|member| member.name == RECORD.as_bytes() && member.size <= LARGEST);
        let none = || Failure::Incomplete("the stream does not begin with a record of buckets".to_owned());
        let Described { size, .. } = first.ok_or_else(none)?;
        let mut text = Vec::new();
        archive.take(size).read_to_end(&mut text).map_err(Failure::Stream)?;
        if text.len() as u64 != size {
            return Err(Failure::Stream(io::ErrorKind::UnexpectedEof.into()));
        }
        let record: Self = serde_json::from_slice(&text)
            .map_err(|error| Failure::Incomplete(format!("the record of buckets: {error}")))?;
        match record.format == FORMAT {
            true => Ok(record),
            false => {
                Err(Failure::Refused("the stream is of a format that this build does not know".to_owned()))
            }
        }
    }
}

/// A member of the archive behind the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// One of the server's own databases.
    Own { own: Own, size: u64 },
    /// A shard begins.
    Shard(u64),
    /// A file of a shard.
    File { shard: u64, name: FileName, size: u64, modified: i64 },
}

impl Member {
    /// What a member of a captured archive is.
    pub(super) fn parse(member: &Described) -> Result<Self, Failure> {
        let shown = || String::from_utf8_lossy(&member.name).escape_debug().take(200).collect::<String>();
        let odd = || Failure::Refused(format!("`{}` is no part of a capture of buckets", shown()));
        let name = std::str::from_utf8(&member.name).map_err(|_| odd())?;
        let own = OWN.iter().find(|(_, file)| *file == name && member.kind == EntryType::Regular);
        if let Some((own, _)) = own {
            return Ok(Member::Own { own: *own, size: member.size });
        }
        let (shard, file) = name.split_once('/').ok_or_else(odd)?;
        let number: u64 = shard.parse().map_err(|_| odd())?;
        // One number has one name.
        if number.to_string() != shard {
            return Err(odd());
        }
        match (member.kind, file) {
            (EntryType::Directory, "") => Ok(Member::Shard(number)),
            (EntryType::Regular, file) => {
                let name = FileName::parse(file).ok_or_else(odd)?;
                let (size, modified) = (member.size, member.meta.modified.0);
                Ok(Member::File { shard: number, name, size, modified })
            }
            _ => Err(odd()),
        }
    }

    /// The blocks in front of its content.
    pub(super) fn head(&self, second: i64) -> Vec<u8> {
        match self {
            Member::Own { own, size } => head(EntryType::Regular, file_of(*own), *size, second),
            Member::Shard(number) => head(EntryType::Directory, &format!("{number}/"), 0, second),
            Member::File { shard, name, size, modified } => {
                head(EntryType::Regular, &format!("{shard}/{}", name.as_str()), *size, *modified)
            }
        }
    }
}

/// What the server's own databases are called.
const OWN: [(Own, &str); 2] = [(Own::KeyValue, "server.bolt"), (Own::Sql, "server.sqlite")];

/// What one of the server's own databases is called.
pub(super) fn file_of(own: Own) -> &'static str {
    match own {
        Own::KeyValue => OWN[0].1,
        Own::Sql => OWN[1].1,
    }
}

/// The name of a file of a shard, a plain word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileName(String);

/// What points are in.
const DATA: &str = ".tsm";

/// What notes that some of a file's points are deleted.
const DELETIONS: &str = ".tombstone";

impl FileName {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_name =
            !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.chars().all(plain);
        is_name.then(|| Self(name.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it holds points: the server's restore takes nothing else.
    pub(super) fn is_data(&self) -> bool {
        self.0.ends_with(DATA)
    }

    /// Whether it notes deletions.
    pub(super) fn is_deletions(&self) -> bool {
        self.0.ends_with(DELETIONS)
    }
}

/// A member's header with what fits every reader.
pub(super) fn head(kind: EntryType, name: &str, size: u64, second: i64) -> Vec<u8> {
    let mode = if kind.is_dir() { 0o700 } else { 0o600 };
    let meta = Meta { mode, owner: (0, 0), modified: (second, 0) };
    Head { kind, name: name.as_bytes(), link: None, size, meta, records: &[] }.blocks()
}

/// A file of points is written once. It is the same where its bucket, shard, name, size and time are.
pub(super) fn key(bucket: &Bucket, head: &[u8]) -> RunKey {
    Sha256::new_with_prefix(b"backstay influxdb2 file 1\0")
        .chain_update(bucket.id())
        .chain_update([0])
        .chain_update(head)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::pax::TRAILER;

    fn described(kind: EntryType, name: &str) -> Described {
        let meta = Meta { mode: 0o600, owner: (0, 0), modified: (7, 0) };
        Described { kind, name: name.as_bytes().to_vec(), link: None, size: 3, meta, records: Vec::new() }
    }

    #[test]
    fn only_folders_of_shards_and_plain_files_in_them_are_taken() {
        use EntryType::{Directory, Regular, Symlink};
        assert_eq!(Member::parse(&described(Directory, "12/")).unwrap(), Member::Shard(12));
        let file = Member::parse(&described(Regular, "12/000000001-000000002.tsm")).unwrap();
        assert!(
            matches!(&file, Member::File { shard: 12, name, size: 3, modified: 7 } if name.is_data()),
            "{file:?}"
        );
        let own = Member::parse(&described(Regular, "server.bolt")).unwrap();
        assert_eq!(own, Member::Own { own: Own::KeyValue, size: 3 });
        for (kind, name) in [
            (Directory, "server.bolt"),
            (Directory, "12"),
            (Directory, "x/"),
            (Directory, "012/"),
            (Directory, "../"),
            (Directory, "1/2/"),
            (Regular, "12/"),
            (Regular, "12/../13/a.tsm"),
            (Regular, "12/.hidden.tsm"),
            (Regular, "12/a/b.tsm"),
            (Regular, "/12/a.tsm"),
            (Regular, "-1/a.tsm"),
            (Regular, "backstay.json"),
            (Symlink, "12/a.tsm"),
        ] {
            Member::parse(&described(kind, name)).expect_err(name);
        }
    }

    #[test]
    fn a_record_is_read_back_and_what_is_none_is_refused() {
        let record = Record::new("2.7.12".to_owned(), "ops".to_owned(), Vec::new());
        let archive = [record.member(7).unwrap(), TRAILER.to_vec()].concat();
        assert_eq!(Record::read(&mut Reader::new(archive.as_slice())).unwrap(), record);
        for length in [0, 100, 600] {
            Record::read(&mut Reader::new(&archive[..length])).expect_err("it is cut short");
        }
        let other = Record { format: "backstay.influxdb2/2".to_owned(), ..record };
        let archive = [other.member(7).unwrap(), TRAILER.to_vec()].concat();
        Record::read(&mut Reader::new(archive.as_slice())).expect_err("it is of another format");
    }
}
