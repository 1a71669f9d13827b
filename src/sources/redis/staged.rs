//! A file that was proved whole: what it holds, and the commands that bring that back into a running server, `RESTORE` for each key.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use tokio::{io::AsyncRead, sync::mpsc};

use super::{
    Failure,
    items::{Item, Items, Key, Module},
    rdb::RdbCheck,
};
use crate::sources::aside::staged;

/// How many keys are sent before their answers are read.
pub(super) const AHEAD: usize = 256;

/// How much of a value is handed on at once, bytes.
pub(super) const PIECE: usize = 128 * 1024;

/// How many pieces may wait to be sent.
const DEPTH: usize = 16;

type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// A file that was proved whole, in a place that goes with this.
pub(super) struct Staged {
    pub file: File,
    /// Of the format, which every value is sent with.
    pub version: u16,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub databases: BTreeMap<u64, Keys>,
    expired: u64,
    /// The longest value, bytes.
    pub largest: u64,
    pub libraries: u64,
    of_modules: bool,
    /// The shortest value of each module's type.
    pub samples: BTreeMap<Module, Key>,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    all: u64,
    /// Those that never expire.
    pub lasting: u64,
}

impl Contents {
    fn sample(&mut self, key: Key) {
        let Some(module) = key.module else { return };
        let sample = self.samples.entry(module).or_insert_with(|| key.clone());
        if key.length < sample.length {
            *sample = key;
        }
    }

    pub(super) fn told(&self, place: &str) -> String {
        let keys: u64 = self.databases.values().map(|keys| keys.all).sum();
        let mut told = format!("{place} ({keys} keys");
        if self.libraries > 0 {
            told.push_str(&format!(", {} libraries of functions", self.libraries));
        }
        told.push(')');
        if self.expired > 0 {
            told.push_str(&format!("; {} keys had expired meanwhile, and are left out", self.expired));
        }
        if self.of_modules {
            told.push_str("; what modules keep beside their keys is left out: it comes back only where a server starts on the file");
        }
        told
    }
}

/// A part of what is sent.
pub(super) enum Piece {
    /// The keys that follow are in this database.
    Database(u64),
    /// Commands, of which so many end in it.
    Commands { bytes: Bytes, ended: usize },
}

impl Staged {
    pub(super) async fn of(stream: Stream<'_>, scratch: &Path) -> Result<Self, Failure> {
        let mut check = RdbCheck::default();
        let file = staged(stream, scratch, |bytes| check.look(bytes)).await.map_err(Failure::Stream)?;
        let rdb = check.finish().map_err(Failure::Incomplete)?;
        let version = u16::try_from(rdb.version);
        let version =
            version.map_err(|_| Failure::Incomplete("the file is of no known version".to_owned()))?;
        Ok(Self { file, version })
    }

    /// Looks through all of it.
    pub(super) async fn contents(&self) -> Result<Contents, Failure> {
        let file = self.file.try_clone().map_err(Failure::Stream)?;
        let looked = tokio::task::spawn_blocking(move || contents(Placed::of(file), now()));
        looked.await.map_err(io::Error::other).and_then(|looked| looked).map_err(|why| match why.kind() {
            io::ErrorKind::InvalidData => {
                Failure::Refused { why: why.to_string(), hint: super::place::BY_HAND }
            }
            _ => Failure::Stream(why),
        })
    }

    /// What is sent, read on a thread of its own, which ends when nobody takes it any more.
    pub(super) fn pieces(&self) -> Result<mpsc::Receiver<io::Result<Piece>>, Failure> {
        let file = self.file.try_clone().map_err(Failure::Stream)?;
        let items = self.file.try_clone().map_err(Failure::Stream)?;
        let (sender, receiver) = mpsc::channel(DEPTH);
        let commands =
            Commands { file, version: self.version, sender: sender.clone(), ready: Vec::new(), ended: 0 };
        tokio::task::spawn_blocking(move || {
            if let Err(why) = commands.all(Placed::of(items)) {
                // Nobody listens any more where this fails.
                let _ = sender.blocking_send(Err(why));
            }
        });
        Ok(receiver)
    }
}

fn contents(file: impl Read, now: u64) -> io::Result<Contents> {
    let mut contents = Contents::default();
    let mut items = Items::of(file)?;
    let mut database = 0;
    while let Some(item) = items.next()? {
        match item {
            Item::Database(number) => database = number,
            Item::Library(_) => contents.libraries += 1,
            Item::OfModule => contents.of_modules = true,
            Item::Key(key) if has_expired(&key, now) => contents.expired += 1,
            Item::Key(key) => {
                let keys = contents.databases.entry(database).or_default();
                contents.largest = contents.largest.max(key.length);
                keys.all += 1;
                keys.lasting += u64::from(key.expires.is_none());
                contents.sample(key);
            }
        }
    }
    Ok(contents)
}

fn has_expired(key: &Key, now: u64) -> bool {
    key.expires.is_some_and(|at| at <= now)
}

/// Milliseconds of Unix time.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The commands that bring a file's content back.
struct Commands {
    file: File,
    version: u16,
    sender: mpsc::Sender<io::Result<Piece>>,
    /// What is not handed on yet, and how many commands end in it.
    ready: Vec<u8>,
    ended: usize,
}

impl Commands {
    fn all(mut self, file: impl Read) -> io::Result<()> {
        let mut items = Items::of(file)?;
        let now = now();
        while let Some(item) = items.next()? {
            match item {
                Item::Database(number) => {
                    self.hand_on()?;
                    self.give(Piece::Database(number))?;
                }
                Item::Library(code) => {
                    self.ready.extend_from_slice(&library(&code));
                    self.end()?;
                }
                Item::OfModule => {}
                Item::Key(key) if has_expired(&key, now) => {}
                Item::Key(key) => self.key(&key)?,
            }
        }
        self.hand_on()
    }

    /// `RESTORE key ttl value [ABSTTL]`
    fn key(&mut self, key: &Key) -> io::Result<()> {
        let expires = key.expires.map(|at| at.to_string());
        self.ready.extend_from_slice(&head(&key.name, expires.as_deref(), 1 + key.length + FOOTER as u64));
        let file = self.file.try_clone()?;
        for piece in Value::of(&file, self.version, key) {
            self.ready.extend_from_slice(&piece?);
            if self.ready.len() >= PIECE {
                self.hand_on()?;
            }
        }
        self.ready.extend_from_slice(if key.expires.is_some() { ABSOLUTE } else { b"\r\n" });
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        self.ended += 1;
        if self.ended >= AHEAD || self.ready.len() >= PIECE { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> io::Result<()> {
        let (bytes, ended) = (std::mem::take(&mut self.ready).into(), std::mem::take(&mut self.ended));
        self.give(Piece::Commands { bytes, ended })
    }

    fn give(&self, piece: Piece) -> io::Result<()> {
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::Error::other("the restore was given up"))
    }
}

/// What is stored under a key as a server takes it, piece by piece: its kind, itself, the version, and a checksum of all that.
pub(super) struct Value<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    version: u16,
    /// What comes before the next piece, and the checksum up to there; `None` once all was given.
    open: Option<(Vec<u8>, Digest)>,
}

impl<'a> Value<'a> {
    pub(super) fn of(file: &'a File, version: u16, key: &Key) -> Self {
        let mut sum = Digest::new(CrcAlgorithm::Crc64Redis);
        sum.update(&[key.kind]);
        Self { file, at: key.at, end: key.at + key.length, version, open: Some((vec![key.kind], sum)) }
    }

    fn piece(&mut self, mut piece: Vec<u8>, mut sum: Digest) -> io::Result<Vec<u8>> {
        if self.at == self.end {
            return Ok([piece, closed(self.version, sum)].concat());
        }
        let before = piece.len();
        let length = usize::try_from(self.end - self.at).unwrap_or(PIECE).min(PIECE);
        piece.resize(before + length, 0);
        self.file.read_exact_at(&mut piece[before..], self.at)?;
        self.at += length as u64;
        sum.update(&piece[before..]);
        self.open = Some((Vec::new(), sum));
        Ok(piece)
    }
}

impl Iterator for Value<'_> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (before, sum) = self.open.take()?;
        Some(self.piece(before, sum))
    }
}

/// Reads a file from its beginning, whatever place its other handles have in it.
struct Placed {
    file: File,
    at: u64,
}

impl Placed {
    fn of(file: File) -> impl Read {
        BufReader::with_capacity(PIECE, Placed { file, at: 0 })
    }
}

impl Read for Placed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(into, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// The version and the checksum, bytes.
pub(super) const FOOTER: usize = 2 + 8;

/// Ends a command whose key expires.
pub(super) const ABSOLUTE: &[u8] = b"\r\n$6\r\nABSTTL\r\n";

/// A command up to its value, of so many bytes.
pub(super) fn head(name: &[u8], expires: Option<&str>, length: u64) -> Vec<u8> {
    let (words, ttl) = (if expires.is_some() { 5 } else { 4 }, expires.unwrap_or("0"));
    let mut command = format!("*{words}\r\n$7\r\nRESTORE\r\n${}\r\n", name.len()).into_bytes();
    command.extend_from_slice(name);
    command.extend_from_slice(format!("\r\n${}\r\n{ttl}\r\n${length}\r\n", ttl.len()).as_bytes());
    command
}

pub(super) fn footer(version: u16, content: impl FnOnce(&mut Digest)) -> Vec<u8> {
    let mut sum = Digest::new(CrcAlgorithm::Crc64Redis);
    content(&mut sum);
    closed(version, sum)
}

fn closed(version: u16, mut sum: Digest) -> Vec<u8> {
    let version = version.to_le_bytes();
    sum.update(&version);
    [version.as_slice(), &sum.finalize().to_le_bytes()].concat()
}

/// `FUNCTION LOAD REPLACE code`
fn library(code: &[u8]) -> Bytes {
    let head = format!("*4\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n$7\r\nREPLACE\r\n${}\r\n", code.len());
    [head.as_bytes(), code, b"\r\n"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_sent_as_a_server_dumps_it() {
        // What Redis 7.0.15 answers to `DUMP` of a key that holds `b`.
        let dumped = b"\x00\x01b\n\x00\x16$\xb8\x91\xa6\xe3\x12\x83";
        let value = [0, 1, b'b'];
        let sent = [value.as_slice(), &footer(10, |sum| sum.update(&value))].concat();
        assert_eq!(sent, dumped);
        assert_eq!(head(b"k", None, 3), b"*4\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$1\r\n0\r\n$3\r\n");
        assert_eq!(head(b"k", Some("12"), 3), b"*5\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$2\r\n12\r\n$3\r\n");
    }

    #[test]
    fn what_has_expired_is_counted_and_left_out() {
        let file = b"REDIS0010\xfe\x03\xfc\x05\0\0\0\0\0\0\0\0\x01a\x01x\0\x01b\x01x\xfc\x07\0\0\0\0\0\0\0\0\x01c\x01x\xf5\x01f\xff";
        let contents = contents(file.as_slice(), 5).unwrap();
        assert_eq!(
            contents.told("Redis"),
            "Redis (2 keys, 1 libraries of functions); 1 keys had expired meanwhile, and are left out"
        );
        assert_eq!((contents.databases[&3].all, contents.databases[&3].lasting), (2, 1));
        assert_eq!(contents.largest, 2);
    }
}
