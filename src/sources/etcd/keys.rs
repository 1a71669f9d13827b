//! What a snapshot holds: of each key what it was at last, and leases. Sources of the format: etcd, `server/mvcc/kvstore.go` and
//! `revision.go` (the buckets), `api/mvccpb/kv.proto`, `server/lease/leasepb/lease.proto`, `server/auth/store.go`.

use std::{collections::HashMap, fs::File, io};

use sha2::{Digest, Sha256};

use super::bolt::Bolt;

/// The length of a revision as it is a key of the database: two numbers with a mark between; one more where the key was deleted.
const REVISION: usize = 17;
const DELETED: usize = 18;

/// A key is known by half of its SHA-256, so that long ones take no more memory than short ones.
type Name = [u8; 16];

/// A key, with what is stored under it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// The number of its lease; 0 where it has none.
    pub lease: i64,
}

/// What is in a snapshot, so far as it must be known before it is sent.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The revision at which each key got what it holds.
    newest: HashMap<Name, [u8; REVISION]>,
    /// How long each lease lasts, seconds.
    pub leases: HashMap<i64, i64>,
    /// How many keys have a lease, and may go with it.
    pub leased: u64,
    /// Whether users must log in.
    pub has_users: bool,
}

impl Index {
    /// Reads through a snapshot. Takes some fifty bytes of memory for each key; etcd itself takes more.
    ///
    /// # Errors
    /// A snapshot that is not as it must be.
    pub(super) fn of(file: File) -> io::Result<Self> {
        let (bolt, mut index) = (Bolt::open(file)?, Self::default());
        let mut leased: HashMap<Name, ()> = HashMap::new();
        // Every etcd makes it, also where it holds nothing.
        if bolt.bucket("key")?.is_none() {
            return Err(odd("a database without the bucket of keys"));
        }
        each(&bolt, "key", |revision, value| {
            let entry = Entry::read(value)?;
            let name = name(&entry.key);
            leased.remove(&name);
            match (revision.len(), revision.first_chunk()) {
                (REVISION, Some(revision)) => {
                    index.newest.insert(name, *revision);
                    if entry.lease != 0 {
                        leased.insert(name, ());
                    }
                }
                (DELETED, _) => drop(index.newest.remove(&name)),
                _ => return Err(odd("a revision")),
            }
            Ok(())
        })?;
        index.leased = leased.len() as u64;
        each(&bolt, "lease", |number, value| {
            let number: [u8; 8] = number.try_into().map_err(|_| odd("a lease"))?;
            index.leases.insert(i64::from_be_bytes(number), seconds(value)?);
            Ok(())
        })?;
        each(&bolt, "auth", |name, value| {
            index.has_users |= name == b"authEnabled" && value == [1];
            Ok(())
        })?;
        Ok(index)
    }

    /// How many keys there are.
    pub(super) fn keys(&self) -> u64 {
        self.newest.len() as u64
    }

    /// Whether there is such a key.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.newest.contains_key(&name(key))
    }

    /// Calls `visit` with what each key holds. One whose lease is not in the snapshot has none.
    pub(super) fn entries(
        &self,
        file: File,
        mut visit: impl FnMut(Entry) -> io::Result<()>,
    ) -> io::Result<()> {
        each(&Bolt::open(file)?, "key", |revision, value| {
            let mut entry = Entry::read(value)?;
            if !self.leases.contains_key(&entry.lease) {
                entry.lease = 0;
            }
            match self.newest.get(&name(&entry.key)) {
                Some(newest) if newest == revision => visit(entry),
                _ => Ok(()),
            }
        })
    }
}

fn name(key: &[u8]) -> Name {
    let mut name = Name::default();
    name.copy_from_slice(&Sha256::digest(key)[..16]);
    name
}

fn each(bolt: &Bolt, bucket: &str, mut visit: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
    match bolt.bucket(bucket)? {
        Some(bucket) => bolt.each(&bucket, &mut visit),
        None => Ok(()),
    }
}

impl Entry {
    /// Of a message `mvccpb.KeyValue`.
    fn read(message: &[u8]) -> io::Result<Self> {
        let mut entry = Self::default();
        fields(message, |number, field| match (number, field) {
            (1, Field::Bytes(key)) => entry.key = key.to_vec(),
            (5, Field::Bytes(value)) => entry.value = value.to_vec(),
            (6, Field::Number(lease)) => entry.lease = lease.cast_signed(),
            _ => {}
        })?;
        if entry.key.is_empty() { Err(odd("a key without a name")) } else { Ok(entry) }
    }
}

/// How long a lease lasts: of a message `leasepb.Lease`.
fn seconds(message: &[u8]) -> io::Result<i64> {
    let mut ttl = 0;
    fields(message, |number, field| {
        if let (2, Field::Number(seconds)) = (number, field) {
            ttl = seconds.cast_signed();
        }
    })?;
    Ok(ttl.max(1))
}

/// What stands under a number in a message of Protocol Buffers.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Eight or four bytes, which no message here has.
    Fixed,
}

fn fields<'a>(mut message: &'a [u8], mut take: impl FnMut(u64, Field<'a>)) -> io::Result<()> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut message)?),
            1 => bytes(&mut message, 8).map(|_| Field::Fixed)?,
            2 => {
                let length = varint(&mut message)?;
                Field::Bytes(bytes(&mut message, length)?)
            }
            5 => bytes(&mut message, 4).map(|_| Field::Fixed)?,
            _ => return Err(odd("a message")),
        };
        take(tag >> 3, field);
    }
    Ok(())
}

fn bytes<'a>(message: &mut &'a [u8], length: u64) -> io::Result<&'a [u8]> {
    let length = usize::try_from(length).map_err(|_| odd("a message"))?;
    let (field, rest) = message.split_at_checked(length).ok_or_else(|| odd("a message"))?;
    *message = rest;
    Ok(field)
}

fn varint(message: &mut &[u8]) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().ok_or_else(|| odd("a message"))?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(odd("a message"))
}

fn odd(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the snapshot holds {what} that this build does not understand"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_without_the_bucket_of_keys_is_no_snapshot_of_no_keys() {
        use crate::sources::etcd::bolt::tests::{described, file, leaf};
        let holding = |bucket: &[u8]| {
            let inline = [vec![0; 16], leaf(0, &[])].concat();
            Index::of(file(&[described(0, 2, 7), described(1, 2, 6), leaf(2, &[(1, bucket, &inline)])]))
        };
        assert_eq!(holding(b"key").unwrap().keys(), 0);
        assert!(holding(b"kez").is_err());
    }

    #[test]
    fn an_entry_is_read_off_its_message_and_what_is_not_known_is_passed_by() {
        let message = b"\x0a\x01k\x10\x02\x18\x03\x20\x01\x2a\x03val\x30\xe9\x07\x39abcdefgh\x45abcd";
        let entry = Entry { key: b"k".to_vec(), value: b"val".to_vec(), lease: 1001 };
        assert_eq!(Entry::read(message).unwrap(), entry);
        for odd in [&b"\x0a"[..], b"\x0a\x05k", b"\x10\x80", b"\x0b", b"", b"\x2a\x01v", &[0xff; 12]] {
            Entry::read(odd).expect_err("it is no entry");
        }
        assert_eq!(seconds(b"\x08\x07\x10\x3c").unwrap(), 60);
        assert_eq!(seconds(b"").unwrap(), 1);
    }
}
