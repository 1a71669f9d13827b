//! The server's metadata as a backup holds them: a protobuf message (InfluxDB's `services/meta/internal/meta.proto`) in the
//! first field of another (`cmd/influxd/backup_util/internal/data.proto`). They are read as a stream: what belongs to other
//! databases is passed over, whatever their size.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

/// What is read of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    /// The shards of one database, by their numbers; `None` when there is no such database.
    pub database: Option<BTreeMap<u64, Span>>,
    /// The highest number that a shard had when they were read: shards are numbered as they are made.
    pub newest_shard: u64,
}

/// What a shard holds: whose points, and from when on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// The retention policy.
    pub policy: String,
    /// The earliest time that a point of it may have, seconds since the Unix epoch.
    pub start: i64,
}

/// In the outer message: the metadata.
const DATA: u64 = 1;

/// In the metadata: a database, and the highest number of a shard.
const DATABASE: u64 = 5;
const NEWEST_SHARD: u64 = 9;

/// In a database and in a retention policy: its name, which the engine writes first.
const NAME: u64 = 1;

/// In a database: a retention policy. In that: a group of shards, which share their time.
const POLICY: u64 = 3;
const GROUP: u64 = 5;

/// In a group: its start, and a shard. In that: its number.
const START: u64 = 2;
const SHARD: u64 = 5;
const NUMBER: u64 = 1;

/// Times are written in nanoseconds.
const NANOS: i64 = 1_000_000_000;

/// The longest name, bytes.
const LONGEST_NAME: u64 = 64 * 1024;

/// The most shards that one database has.
const MOST_SHARDS: usize = 1_000_000;

impl Metadata {
    /// Reads a file whose metadata are `size` bytes long, and of `database` the shards.
    ///
    /// # Errors
    /// When they are cut short, or none.
    pub(super) fn read(file: impl Read, size: u64, database: &str) -> io::Result<Self> {
        let mut outer = Message { inner: &mut Input(file), left: u64::MAX, may_end: true };
        let mut read = None;
        while let Some((field, value)) = outer.next()? {
            match value {
                Value::Bytes(length) if field == DATA && read.is_none() => {
                    if length != size {
                        return Err(odd("their length is not the one that the manifest says"));
                    }
                    read = Some(Self::of(&mut outer.message(length)?, database)?);
                }
                value => outer.pass(value)?,
            }
        }
        read.ok_or_else(|| odd("there are none"))
    }

    fn of<R: Read>(data: &mut Message<'_, R>, wanted: &str) -> io::Result<Self> {
        let (mut database, mut newest_shard) = (None, None);
        while let Some((field, value)) = data.next()? {
            match (field, value) {
                (DATABASE, Value::Bytes(length)) => {
                    let mut message = data.message(length)?;
                    if message.name()? == wanted {
                        database = Some(shards(&mut message)?);
                    }
                    message.rest()?;
                }
                (NEWEST_SHARD, Value::Number(number)) => newest_shard = Some(number),
                (_, value) => data.pass(value)?,
            }
        }
        Ok(Self { database, newest_shard: newest_shard.ok_or_else(|| odd("no shard was ever numbered"))? })
    }
}

/// The shards of a database whose name was read.
fn shards<R: Read>(database: &mut Message<'_, R>) -> io::Result<BTreeMap<u64, Span>> {
    let mut shards = BTreeMap::new();
    while let Some((field, value)) = database.next()? {
        match (field, value) {
            (POLICY, Value::Bytes(length)) => {
                let mut policy = database.message(length)?;
                let name = policy.name()?;
                while let Some((field, value)) = policy.next()? {
                    match (field, value) {
                        (GROUP, Value::Bytes(length)) => {
                            let (start, numbers) = group(&mut policy.message(length)?)?;
                            let span = || Span { policy: name.clone(), start };
                            shards.extend(numbers.into_iter().map(|number| (number, span())));
                            if shards.len() > MOST_SHARDS {
                                return Err(odd("a database has too many shards"));
                            }
                        }
                        (_, value) => policy.pass(value)?,
                    }
                }
            }
            (_, value) => database.pass(value)?,
        }
    }
    Ok(shards)
}

/// The start of a group, and the numbers of its shards.
fn group<R: Read>(group: &mut Message<'_, R>) -> io::Result<(i64, Vec<u64>)> {
    let (mut start, mut numbers) = (0, Vec::new());
    while let Some((field, value)) = group.next()? {
        match (field, value) {
            (START, Value::Number(number)) => start = number.cast_signed().div_euclid(NANOS),
            (SHARD, Value::Bytes(length)) => {
                let mut shard = group.message(length)?;
                while let Some((field, value)) = shard.next()? {
                    match (field, value) {
                        (NUMBER, Value::Number(number)) if numbers.len() < MOST_SHARDS => {
                            numbers.push(number)
                        }
                        (_, value) => shard.pass(value)?,
                    }
                }
            }
            (_, value) => group.pass(value)?,
        }
    }
    Ok((start, numbers))
}

/// A file, byte by byte where it must be.
struct Input<R>(R);

/// A message that is being read. Its fields come one after the other; what a field holds must be read or passed over before
/// the next.
struct Message<'a, R> {
    inner: &'a mut Input<R>,
    /// How many of its bytes are not read yet.
    left: u64,
    /// Whether it ends where the file ends.
    may_end: bool,
}

/// What a field holds: a number, or how many bytes of a text or a message follow.
enum Value {
    Number(u64),
    Bytes(u64),
}

impl<R: Read> Message<'_, R> {
    /// The next field; `None` at the end.
    fn next(&mut self) -> io::Result<Option<(u64, Value)>> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some(first) = self.first_byte()? else { return Ok(None) };
        let key = self.number_after(first)?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => Value::Bytes(8),
            2 => Value::Bytes(self.number()?),
            5 => Value::Bytes(4),
            _ => return Err(odd("a field is of no known type")),
        };
        Ok(Some((key >> 3, value)))
    }

    /// The message that a field of `length` bytes holds. What is not read of it is passed over by [`Message::rest`].
    fn message(&mut self, length: u64) -> io::Result<Message<'_, R>> {
        self.take(length)?;
        Ok(Message { inner: self.inner, left: length, may_end: false })
    }

    /// The text of the first field, a name.
    fn name(&mut self) -> io::Result<String> {
        match self.next()? {
            Some((NAME, Value::Bytes(length))) if length <= LONGEST_NAME => {
                self.take(length)?;
                let mut name = vec![0; length as usize];
                self.inner.0.read_exact(&mut name)?;
                String::from_utf8(name).map_err(|_| odd("a name is no text"))
            }
            _ => Err(odd("something has no name")),
        }
    }

    /// Passes over what a field holds.
    fn pass(&mut self, value: Value) -> io::Result<()> {
        let Value::Bytes(length) = value else { return Ok(()) };
        self.take(length)?;
        self.skip(length)
    }

    /// Passes over all that is left.
    fn rest(&mut self) -> io::Result<()> {
        let left = std::mem::take(&mut self.left);
        self.skip(left)
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        match io::copy(&mut (&mut self.inner.0).take(length), &mut io::sink())? {
            skipped if skipped == length => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn take(&mut self, length: u64) -> io::Result<()> {
        self.left = self.left.checked_sub(length).ok_or_else(|| odd("a field is longer than its message"))?;
        Ok(())
    }

    fn number(&mut self) -> io::Result<u64> {
        let first = self.byte()?;
        self.number_after(first)
    }

    fn number_after(&mut self, first: u8) -> io::Result<u64> {
        let (mut number, mut byte) = (u64::from(first & 0x7f), first);
        for position in 1..10 {
            if byte & 0x80 == 0 {
                return Ok(number);
            }
            byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * position);
        }
        if byte & 0x80 == 0 { Ok(number) } else { Err(odd("a number does not end")) }
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.first_byte()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The next byte; `None` at the end of a file that may end here.
    fn first_byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        match self.inner.0.read(&mut byte)? {
            0 if self.may_end => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => self.take(1)?,
        }
        Ok(Some(byte[0]))
    }
}

fn odd(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of InfluxDB 1.6: two databases, 22 shards.
    const DATA: &[u8] = b"\x08\x00\x10\x20\x18\xa8\x86\xc8\xbb\x89\xf5\xb7\xb1\x3f\
        \x2a\x0c\x0a\x04tele\x12\x04long\x2a\x0a\x0a\x05empty\x12\x01a\x38\x00\x40\x16\x48\x16";

    fn file(data: &[u8]) -> Vec<u8> {
        [&[0x0a, data.len() as u8], data, &[0x10, 0x00]].concat()
    }

    fn read(file: &[u8], size: u64, database: &str) -> io::Result<Metadata> {
        Metadata::read(file, size, database)
    }

    #[test]
    fn databases_and_the_newest_shard_are_read() {
        for (name, there) in [("tele", true), ("empty", true), ("other", false)] {
            let metadata = read(&file(DATA), DATA.len() as u64, name).unwrap();
            assert_eq!((metadata.database.is_some(), metadata.newest_shard), (there, 22), "{name}");
        }
    }

    #[test]
    fn shards_of_one_database_are_read_with_their_policies_and_starts() {
        let field = |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8], content].concat();
        let shard = |number: u8| field(5, &[0x08, number]);
        let policy = |name: &str, groups: &[Vec<u8>]| {
            let groups: Vec<u8> = groups.iter().flat_map(|group| field(5, group)).collect();
            field(3, &[field(1, name.as_bytes()), vec![0x10, 0], groups].concat())
        };
        let before_1970 = [0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let groups = [
            [&[0x08, 1, 0x10, 0x80, 0xa8, 0xd6, 0xb9, 7][..], &shard(3), &shard(4)].concat(),
            [&before_1970[..], &shard(5)].concat(),
        ];
        let database = |name: &str| {
            field(5, &[field(1, name.as_bytes()), policy("autogen", &groups), policy("long", &[])].concat())
        };
        let data = [database("other"), database("tele"), vec![0x48, 5]].concat();
        let file =
            [vec![0x0a, 0x80 | (data.len() & 0x7f) as u8, (data.len() >> 7) as u8], data.clone()].concat();
        let span = |start| Span { policy: "autogen".to_owned(), start };
        let shards = read(&file, data.len() as u64, "tele").unwrap().database;
        assert_eq!(shards.unwrap(), BTreeMap::from([(3, span(2)), (4, span(2)), (5, span(-1))]));
    }

    #[test]
    fn what_is_cut_short_or_no_metadata_is_refused() {
        let whole = file(DATA);
        for length in 0..whole.len() - 2 {
            read(&whole[..length], DATA.len() as u64, "tele").expect_err("it is cut short");
            let data = &DATA[..length.min(DATA.len() - 1)];
            read(&file(data), data.len() as u64, "tele").expect_err("it is cut short");
        }
        read(&whole, DATA.len() as u64 + 1, "tele").expect_err("it is of another length");
        for bad in [&[0x0a][..], &[0x0b, 1], &[0xff; 20], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            read(bad, 0, "tele").expect_err("they are none");
        }
    }

    #[test]
    fn what_belongs_to_other_databases_takes_no_memory() {
        // A field of 4 GiB that no file holds: it is passed over piece by piece, until the file ends.
        let length = [0x80, 0x80, 0x80, 0x80, 0x10];
        let head = [&[0x0a][..], &length, &[0x2a], &length].concat();
        let endless = head.chain(io::repeat(0).take(1 << 20));
        let refused = Metadata::read(endless, 1 << 32, "tele").unwrap_err();
        assert!(
            matches!(refused.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData),
            "{refused}"
        );
    }
}
