//! The way back into a running server: each key as it stands in the file, by `RESTORE`. Nothing is sent before the file was proved
//! whole, every item of it understood, and the server found able to take it.

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
    ANSWER, Failure, RedisSource,
    connection::{Connection, Line, unexpected},
    identity::Identity,
    items::{Item, Items, Key},
    keys,
    rdb::RdbCheck,
};
use crate::sources::aside::staged;

/// How many keys are sent before their answers are read.
const AHEAD: usize = 256;

/// How much of a value is handed on at once, bytes.
const PIECE: usize = 128 * 1024;

/// How many pieces may wait to be sent.
const DEPTH: usize = 16;

/// The longest value that a server takes by default, bytes.
const LARGEST_VALUE: u64 = 512 << 20;

/// The first release whose `RESTORE` takes the moment that a key expires.
const OLDEST: u32 = 5;

/// How long the server may take to forget what it holds, or to take in a value.
const EMPTIED: std::time::Duration = std::time::Duration::from_secs(600);

type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Puts what the stream holds in the place of what the server holds. Returns what to tell of it.
pub(super) async fn over_original(source: &RedisSource, stream: Stream<'_>) -> Result<String, Failure> {
    let staged = Staged::of(stream, &source.scratch).await?;
    let contents = staged.contents().await?;
    let (mut server, identity) = source.identify(ANSWER).await?;
    let held = held(&mut server).await?;
    must_be_fit(&mut server, &identity, held.keys).await?;
    must_take(limit(&mut server).await?, contents.largest)?;
    try_out(&mut server, &contents, staged.version).await?;
    // A server may take its time over a large value.
    let mut server = server.patient(EMPTIED);
    let replaced = replace(&mut server, &held, &staged, &contents).await;
    replaced.map_err(|why| Failure::Partly(Box::new(why)))?;
    Ok(contents.told(&source.subject()))
}

/// Removes what the server holds, and sends everything. An answer that does not come may be that of a server that did what it was told.
async fn replace(
    server: &mut Connection,
    held: &Held,
    staged: &Staged,
    contents: &Contents,
) -> Result<(), Failure> {
    let evicted = evicted(server).await?;
    if held.libraries > 0 {
        server.done(&["FUNCTION", "FLUSH"]).await?;
    }
    if held.keys > 0 {
        server.done(&["FLUSHALL"]).await?;
    }
    send(server, staged, contents).await?;
    kept_all(evicted, self::evicted(server).await?)
}

/// How many keys the server let go of for want of memory since it started.
async fn evicted(server: &mut Connection) -> Result<u64, Failure> {
    let stats = server.text(&["INFO", "stats"]).await?;
    counter(&stats, "evicted_keys").ok_or_else(|| unexpected("INFO"))
}

fn kept_all(before: u64, after: u64) -> Result<(), Failure> {
    match after.saturating_sub(before) {
        0 => Ok(()),
        evicted => Err(Failure::Place(format!(
            "the server let go of {evicted} keys while they were put into it, for want of memory: give it more (`maxmemory`), or \
             another `maxmemory-policy`"
        ))),
    }
}

/// A number of a server's `INFO`.
fn counter(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':')?.parse().ok())
}

/// The longest value that the server takes, bytes. Who may not ask for its settings is held to what they are by default.
async fn limit(server: &mut Connection) -> Result<u64, Failure> {
    let said = server.setting("proto-max-bulk-len").await?;
    Ok(said.and_then(|said| said.parse().ok()).unwrap_or(LARGEST_VALUE))
}

fn must_take(limit: u64, largest: u64) -> Result<(), Failure> {
    if largest + 1 + FOOTER as u64 <= limit {
        return Ok(());
    }
    Err(Failure::Place(format!(
        "the file holds a value of {largest} bytes, and the server takes none over {limit} (`proto-max-bulk-len`; where the user may \
         not ask for it by `CONFIG GET`, that of Redis by default); nothing was changed: set it higher and let the user ask, or \
         restore to a file, and start the server on it"
    )))
}

/// What a server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub keys: u64,
    /// Libraries of functions, which a server that is older than Redis 7 has none of.
    pub libraries: u64,
}

impl Held {
    fn of(keyspace: &str, memory: &str) -> Self {
        Self { keys: keys(keyspace), libraries: counter(memory, "number_of_libraries").unwrap_or(0) }
    }

    /// In words; `None` where it is nothing.
    pub(super) fn told(self) -> Option<String> {
        match (self.keys, self.libraries) {
            (0, 0) => None,
            (keys, 0) => Some(format!("{keys} keys")),
            (keys, libraries) => Some(format!("{keys} keys, {libraries} libraries of functions")),
        }
    }
}

/// What a server holds, once it has loaded what it loads when it starts.
pub(super) async fn held(server: &mut Connection) -> Result<Held, Failure> {
    let persistence = server.text(&["INFO", "persistence"]).await?;
    if persistence.lines().any(|line| line.trim_end() == "loading:1") {
        return Err(Failure::Answer("the server is still loading its file".to_owned()));
    }
    let keyspace = server.text(&["INFO", "keyspace"]).await?;
    Ok(Held::of(&keyspace, &server.text(&["INFO", "memory"]).await?))
}

async fn must_be_fit(server: &mut Connection, identity: &Identity, held: u64) -> Result<(), Failure> {
    let refused = |why: &str| Err(Failure::Place(why.to_owned()));
    if identity.release().is_some_and(|release| release < OLDEST) {
        return refused(
            "keys can be put back into Redis 5 and newer only; restore to a file, and start the server on it",
        );
    }
    let replication = server.text(&["INFO", "replication"]).await?;
    if replication.lines().any(|line| line.trim_end() == "role:slave") {
        return refused(
            "the server is a replica, and takes its data from its master alone; declare the master",
        );
    }
    if identity.is_of_a_cluster && held > 0 {
        return refused(
            "the server is a node of a cluster and holds keys: which slots it would serve nothing tells; empty it by hand first",
        );
    }
    Ok(())
}

/// Proves that the server has the databases and takes values of this version, before anything that it holds is touched.
async fn try_out(server: &mut Connection, contents: &Contents, version: u16) -> Result<(), Failure> {
    for database in contents.databases.keys().chain([&0]) {
        server.done(&["SELECT", &database.to_string()]).await?;
    }
    server.number(&["DBSIZE"]).await?;
    if contents.libraries > 0 {
        takes_functions(server).await?;
    }
    let name = format!("backstay:probe:{:032x}", rand::random::<u128>());
    let value = [0, 0];
    let mut command =
        head(name.as_bytes(), Some(&(now() + 60_000).to_string()), (value.len() + FOOTER) as u64);
    command.extend_from_slice(&value);
    command.extend_from_slice(&footer(version, |sum| sum.update(&value)));
    command.extend_from_slice(ABSOLUTE);
    server.write(&command).await?;
    match server.line().await? {
        Line::Fine(_) => server.done(&["DEL", &name]).await,
        // A node of a cluster tells so of what others serve, and has not looked at the value.
        Line::Refused(said) if said.starts_with("MOVED") => Ok(()),
        Line::Refused(said) if said.contains("DUMP payload") => Err(Failure::Place(format!(
            "the server is older than the one that was captured: it does not take values of version {version} of the format ({said})"
        ))),
        Line::Refused(said) => Err(Failure::Answer(said)),
        Line::Counted(_) | Line::Number(_) => Err(unexpected("RESTORE")),
    }
}

/// A library of nothing is refused by every server: by one that takes none, or not from this user, for another reason.
async fn takes_functions(server: &mut Connection) -> Result<(), Failure> {
    match server.ask(&["FUNCTION", "LOAD", "REPLACE", ""]).await? {
        Line::Refused(said) if said.starts_with("NOPERM") || said.contains("unknown command") => {
            Err(Failure::Answer(said))
        }
        Line::Refused(_) => Ok(()),
        Line::Fine(_) | Line::Counted(_) | Line::Number(_) => Err(unexpected("FUNCTION")),
    }
}

/// Sends everything, and proves that it is there.
async fn send(server: &mut Connection, staged: &Staged, contents: &Contents) -> Result<(), Failure> {
    let mut pieces = staged.pieces()?;
    let mut open: usize = 0;
    while let Some(piece) = pieces.recv().await {
        match piece.map_err(Failure::Stream)? {
            Piece::Commands { bytes, ended } => {
                server.write(&bytes).await?;
                open += ended;
            }
            Piece::Database(number) => {
                taken(server, &mut open).await?;
                server.done(&["SELECT", &number.to_string()]).await?;
            }
        }
        if open >= AHEAD {
            taken(server, &mut open).await?;
        }
    }
    taken(server, &mut open).await?;
    for (database, keys) in &contents.databases {
        server.done(&["SELECT", &database.to_string()]).await?;
        let there = server.number(&["DBSIZE"]).await?;
        if there < keys.lasting {
            return Err(Failure::Incomplete(format!(
                "database {database} holds {there} keys, and {} that do not expire were put into it: the server lets go of keys \
                 (`maxmemory`), or somebody removes them",
                keys.lasting
            )));
        }
    }
    Ok(())
}

/// Reads the answers to what was sent.
async fn taken(server: &mut Connection, open: &mut usize) -> Result<(), Failure> {
    while *open > 0 {
        match server.line().await? {
            Line::Fine(_) => *open -= 1,
            // The name of a library, which `FUNCTION LOAD` answers with.
            Line::Counted(length) => {
                let length: usize = length.parse().map_err(|_| unexpected("FUNCTION"))?;
                if length > PIECE {
                    return Err(unexpected("FUNCTION"));
                }
                let received = server.at_least(length + 2).await?;
                drop(received.split_to(length + 2));
                *open -= 1;
            }
            Line::Refused(said) if said.starts_with("BUSYKEY") => {
                return Err(Failure::Place(
                    "somebody else writes to the server meanwhile; keep writers away until it is restored"
                        .to_owned(),
                ));
            }
            Line::Refused(said) => return Err(Failure::Answer(said)),
            Line::Number(_) => return Err(unexpected("RESTORE")),
        }
    }
    Ok(())
}

/// A file that was proved whole, in a place that goes with this.
struct Staged {
    file: File,
    /// Of the format, which every value is sent with.
    version: u16,
}

/// What a file holds.
#[derive(Debug, Default)]
struct Contents {
    databases: BTreeMap<u64, Keys>,
    expired: u64,
    /// The longest value, bytes.
    largest: u64,
    libraries: u64,
    of_modules: bool,
}

#[derive(Debug, Default)]
struct Keys {
    all: u64,
    /// Those that never expire.
    lasting: u64,
}

impl Contents {
    fn told(&self, place: &str) -> String {
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
enum Piece {
    /// The keys that follow are in this database.
    Database(u64),
    /// Commands, of which so many end in it.
    Commands { bytes: Bytes, ended: usize },
}

impl Staged {
    async fn of(stream: Stream<'_>, scratch: &Path) -> Result<Self, Failure> {
        let mut check = RdbCheck::default();
        let file = staged(stream, scratch, |bytes| check.look(bytes)).await.map_err(Failure::Stream)?;
        let rdb = check.finish().map_err(Failure::Incomplete)?;
        let version = u16::try_from(rdb.version);
        let version =
            version.map_err(|_| Failure::Incomplete("the file is of no known version".to_owned()))?;
        Ok(Self { file, version })
    }

    /// Looks through all of it.
    async fn contents(&self) -> Result<Contents, Failure> {
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
    fn pieces(&self) -> Result<mpsc::Receiver<io::Result<Piece>>, Failure> {
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
            }
        }
    }
    Ok(contents)
}

fn has_expired(key: &Key, now: u64) -> bool {
    key.expires.is_some_and(|at| at <= now)
}

/// Milliseconds of Unix time.
fn now() -> u64 {
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

    /// `RESTORE key ttl value [ABSTTL]`; the value is its kind, itself, the version, and a CRC-64 of all that.
    fn key(&mut self, key: &Key) -> io::Result<()> {
        let expires = key.expires.map(|at| at.to_string());
        self.ready.extend_from_slice(&head(&key.name, expires.as_deref(), 1 + key.length + FOOTER as u64));
        self.ready.push(key.kind);
        let mut sum = Digest::new(CrcAlgorithm::Crc64Redis);
        sum.update(&[key.kind]);
        let (mut at, end) = (key.at, key.at + key.length);
        while at < end {
            let mut piece = vec![0; usize::try_from(end - at).unwrap_or(PIECE).min(PIECE)];
            self.file.read_exact_at(&mut piece, at)?;
            at += piece.len() as u64;
            sum.update(&piece);
            self.ready.extend_from_slice(&piece);
            if self.ready.len() >= PIECE {
                self.hand_on()?;
            }
        }
        self.ready.extend_from_slice(&closed(self.version, sum));
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
const FOOTER: usize = 2 + 8;

/// Ends a command whose key expires.
const ABSOLUTE: &[u8] = b"\r\n$6\r\nABSTTL\r\n";

/// A command up to its value, of so many bytes.
fn head(name: &[u8], expires: Option<&str>, length: u64) -> Vec<u8> {
    let (words, ttl) = (if expires.is_some() { 5 } else { 4 }, expires.unwrap_or("0"));
    let mut command = format!("*{words}\r\n$7\r\nRESTORE\r\n${}\r\n", name.len()).into_bytes();
    command.extend_from_slice(name);
    command.extend_from_slice(format!("\r\n${}\r\n{ttl}\r\n${length}\r\n", ttl.len()).as_bytes());
    command
}

fn footer(version: u16, content: impl FnOnce(&mut Digest)) -> Vec<u8> {
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

    #[test]
    fn a_value_that_no_command_can_bring_is_refused_before_anything_is_changed() {
        must_take(LARGEST_VALUE, LARGEST_VALUE - 11).unwrap();
        for (limit, largest) in [(LARGEST_VALUE, LARGEST_VALUE - 10), (1 << 20, 1 << 20)] {
            assert!(matches!(must_take(limit, largest), Err(Failure::Place(_))), "{largest}");
        }
    }

    #[test]
    fn keys_that_a_server_lets_go_of_are_no_success() {
        let stats = "# Stats\r\nexpired_keys:9\r\nevicted_keys:3\r\nevicted_clients:7\r\n";
        assert_eq!(counter(stats, "evicted_keys"), Some(3));
        kept_all(3, 3).unwrap();
        kept_all(3, 4).unwrap_err();
    }

    #[test]
    fn a_server_that_holds_libraries_alone_holds_something() {
        let memory = "# Memory\r\nnumber_of_functions:2\r\nnumber_of_libraries:1\r\n";
        let held = Held::of("# Keyspace\r\n", memory);
        assert_eq!(held.told().as_deref(), Some("0 keys, 1 libraries of functions"));
        assert_eq!(Held::of("# Keyspace\r\n", "# Memory\r\n").told(), None);
        assert_eq!(Held::of("db0:keys=3,expires=0\r\n", "").told().as_deref(), Some("3 keys"));
    }
}
