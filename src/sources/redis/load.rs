//! The way back into a running server: each key as it stands in the file, by `RESTORE`. Nothing is sent before the file was proved
//! whole, every item of it understood, and the server found able to take it.

use std::{io, time::Duration};

use tokio::io::AsyncRead;

use super::{
    ANSWER, Failure, RedisSource,
    connection::{Connection, Line, unexpected},
    identity::Identity,
    keys,
    staged::{ABSOLUTE, AHEAD, Contents, FOOTER, PIECE, Piece, Staged, Value, footer, head, now},
};
use crate::sources::existing::{self, Existing};

/// The longest value that a server takes by default, bytes.
const LARGEST_VALUE: u64 = 512 << 20;

/// The first release whose `RESTORE` takes the moment that a key expires.
const OLDEST: u32 = 5;

/// How long the server may take to forget what it holds, or to take in a value.
const EMPTIED: Duration = Duration::from_secs(600);

type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Puts what the stream holds in the place of what the server holds. Returns what to tell of it.
pub(super) async fn over_original(source: &RedisSource, stream: Stream<'_>) -> Result<String, Failure> {
    let staged = Staged::of(stream, &source.scratch).await?;
    let contents = staged.contents().await?;
    let (mut server, identity) = source.identify(ANSWER).await?;
    let held = held(&mut server).await?;
    if source.existing == Existing::Refused
        && let Some(what) = held.told()
    {
        return Err(Failure::Place(existing::by_now(&what)));
    }
    must_be_fit(&mut server, &identity, held.keys).await?;
    must_take(limit(&mut server).await?, contents.largest)?;
    try_out(&mut server, &contents, &staged).await?;
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

/// Proves that the server has the databases and takes values of the file's version and of its modules, before anything that it holds
/// is touched.
async fn try_out(server: &mut Connection, contents: &Contents, staged: &Staged) -> Result<(), Failure> {
    let version = staged.version;
    for database in contents.databases.keys().chain([&0]) {
        server.done(&["SELECT", &database.to_string()]).await?;
    }
    server.number(&["DBSIZE"]).await?;
    if contents.libraries > 0 {
        takes_functions(server).await?;
    }
    let nothing = [0, 0];
    let command = [nothing.as_slice(), &footer(version, |sum| sum.update(&nothing))].concat();
    match tried(server, nothing.len() as u64, &mut [command].into_iter().map(Ok)).await? {
        Tried::Taken => {}
        Tried::Refused(said) if said.contains("DUMP payload") => {
            return Err(Failure::Place(format!(
                "the server is older than the one that was captured: it does not take values of version {version} of the format \
                 ({said})"
            )));
        }
        Tried::Refused(said) => return Err(Failure::Answer(said)),
    }
    for (module, sample) in &contents.samples {
        let mut value = Value::of(&staged.file, version, sample);
        match tried(server, 1 + sample.length, &mut value).await? {
            Tried::Taken => {}
            Tried::Refused(said) => {
                return Err(Failure::Place(format!(
                    "the server does not take values of the type `{module}` of a module, which the file holds ({said}); nothing was \
                     changed: load the module that the captured server had"
                )));
            }
        }
    }
    Ok(())
}

/// Whether a server takes a value.
enum Tried {
    Taken,
    /// In its own words.
    Refused(String),
}

/// Puts a value of so many bytes, its footer behind it, under a name that nobody has, and takes it away again.
async fn tried(
    server: &mut Connection,
    length: u64,
    value: &mut (dyn Iterator<Item = io::Result<Vec<u8>>> + Send),
) -> Result<Tried, Failure> {
    let name = format!("backstay:probe:{:032x}", rand::random::<u128>());
    let expires = (now() + 60_000).to_string();
    server.write(&head(name.as_bytes(), Some(&expires), length + FOOTER as u64)).await?;
    for piece in value {
        server.write(&piece.map_err(Failure::Stream)?).await?;
    }
    server.write(ABSOLUTE).await?;
    match server.line().await? {
        Line::Fine(_) => server.done(&["DEL", &name]).await.map(|()| Tried::Taken),
        // A node of a cluster tells so of what others serve, and has not looked at the value.
        Line::Refused(said) if said.starts_with("MOVED") => Ok(Tried::Taken),
        Line::Refused(said) => Ok(Tried::Refused(said)),
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

#[cfg(test)]
mod tests {
    use super::*;

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
