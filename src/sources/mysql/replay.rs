//! The way back of a log: each of its files goes through the server's own program, which leaves out what was before or comes
//! after, and what it prints goes through the client.

use std::{borrow::Cow, cmp::Ordering, fs, io, os::unix::fs::PermissionsExt, path::Path};

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    ANSWER, Failure, STATEMENT,
    access::Access,
    accounts::Accounts,
    events::{Broken, UpTo},
    physical::{Copiers, private_server::PrivateServer},
    programs::{Flavour, Programs},
    session::Session,
};
use crate::{
    artifact::{position::LogPosition, transactions::Transaction, until::Until},
    process::{Input, Process, Program},
    sources::{
        Replay,
        entries::{Entry, skip},
    },
};

const CHUNK: usize = 128 * 1024;
/// The folder of the files, beside the dump.
const LOGS: &str = "binlogs";
/// What replays them on a server.
const SCRIPT: &str = "replay.sh";

type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// What of a file is replayed.
struct Part {
    begin: u64,
    end: Option<End>,
}

/// Where it ends, if not with the file.
enum End {
    Moment(Timestamp),
    Offset(u64),
    Behind(Transaction),
}

/// What of a file is replayed; `None` where all of it was before, or comes after.
fn part(entry: &Entry, replay: &Replay) -> Result<Option<Part>, Failure> {
    let unreadable = |text: &str| Failure::Refused(format!("{text:?} is no place in a binary log"));
    let (from, from_offset, own_stem) = binlog(&replay.from).ok_or_else(|| unreadable(&replay.from))?;
    let name = format!("{}:4", entry.name);
    let (number, first, stem) = binlog(&name).ok_or_else(|| unreadable(&entry.name))?;
    if stem != own_stem {
        return Err(unreadable(&entry.name));
    }
    let begin = match number.cmp(&from) {
        Ordering::Less => return Ok(None),
        Ordering::Equal => from_offset,
        Ordering::Greater => first,
    };
    let end = match &replay.until {
        None => None,
        Some(Until::Moment(at)) => Some(End::Moment(*at)),
        Some(Until::Transaction(last)) => Some(End::Behind(last.clone())),
        Some(Until::Place(place)) => {
            let text = place.to_string();
            let (last, offset, _) =
                binlog(&text).filter(|(_, _, stem)| *stem == own_stem).ok_or_else(|| unreadable(&text))?;
            match number.cmp(&last) {
                Ordering::Less => None,
                Ordering::Equal if offset <= begin => return Ok(None),
                Ordering::Equal => Some(End::Offset(offset)),
                Ordering::Greater => return Ok(None),
            }
        }
        Some(until @ Until::Named(_)) => {
            return Err(Failure::Refused(format!("a binary log has no {until}")));
        }
    };
    Ok(Some(Part { begin, end }))
}

fn binlog(text: &str) -> Option<(u64, u64, &str)> {
    match LogPosition::parse(text)? {
        LogPosition::Binlog { number, offset, stem, .. } => Some((number, offset, stem)),
        LogPosition::Wal(_) | LogPosition::Oplog(_) => None,
    }
}

impl Part {
    /// What the program that reads the file is told. Where a transaction ends it can't be told: of other domains than the
    /// transaction's it would leave out everything.
    fn limits(&self, flavour: Flavour, reads: Reads) -> Vec<String> {
        let end = match &self.end {
            Some(End::Moment(at)) => Some(format!("--stop-datetime={}", at.strftime("%Y-%m-%d %H:%M:%S"))),
            // MySQL's takes none for what it does not open itself.
            Some(End::Offset(_)) if (flavour, reads) == (Flavour::MySql, Reads::Pipe) => None,
            Some(End::Offset(offset)) => Some(format!("--stop-position={offset}")),
            Some(End::Behind(_)) | None => None,
        };
        [Some(format!("--start-position={}", self.begin)), end].into_iter().flatten().collect()
    }

    /// Whether the program that reads the file from a pipe ends before that does.
    fn limits_reader(&self, flavour: Flavour) -> bool {
        match &self.end {
            Some(End::Moment(_)) => true,
            Some(End::Offset(_)) => flavour == Flavour::MariaDb,
            Some(End::Behind(_)) | None => false,
        }
    }

    fn up_to(&self) -> Option<UpTo> {
        match &self.end {
            Some(End::Behind(last)) => Some(UpTo::transaction(last.clone())),
            _ => None,
        }
    }

    /// How much of the file is handed to the program.
    fn cut(&self, flavour: Flavour) -> Cut {
        match (&self.end, flavour) {
            (Some(End::Offset(offset)), Flavour::MySql) => Cut::At(*offset),
            _ => self.up_to().map_or(Cut::Nowhere, Cut::Behind),
        }
    }
}

/// Where a program has a file from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Pipe,
    Path,
}

/// Where a file is cut off on its way to a program.
enum Cut {
    Nowhere,
    /// So many bytes further on.
    At(u64),
    Behind(UpTo),
}

impl Cut {
    /// What of the next piece, and of what was held back, lies before.
    fn pass<'p>(&mut self, piece: &'p [u8]) -> Result<Cow<'p, [u8]>, Broken> {
        match self {
            Cut::Nowhere => Ok(piece.into()),
            Cut::At(left) => {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
                *left -= now as u64;
                Ok(piece[..now].into())
            }
            Cut::Behind(up_to) => up_to.pass(piece).map(Cow::Owned),
        }
    }
}

/// Replays over the server.
pub(super) async fn over_original(
    access: &Access,
    stream: Stream<'_>,
    replay: &Replay,
) -> Result<String, Failure> {
    let mut session = Session::open(access, None, ANSWER)?;
    let version = session.one("SELECT VERSION()").await?;
    access.must_be_for(&version)?;
    let accounts = Accounts::of(&version);
    let packet = session.one("SELECT @@GLOBAL.max_allowed_packet").await?;
    set_packet(access, LARGEST_PACKET).await;
    let replayed = async {
        let mut client = client(access)?;
        feed_files(access, &mut client, &accounts, stream, replay).await?;
        Ok::<(), Failure>(client.finish().await?)
    };
    let replayed = replayed.await;
    set_packet(access, &packet).await;
    replayed?;
    Ok(format!("the databases of the dump{}", as_of(replay)))
}

/// Replays over a copy of files, by a server that is started on it for that and ended again.
pub(super) async fn over_copy(
    copiers: &Copiers,
    programs: Programs,
    stream: Stream<'_>,
    folder: &Path,
    replay: &Replay,
) -> Result<String, Failure> {
    let server = PrivateServer::start(copiers, programs, folder).await?;
    let mut client = client(&server.access)?;
    // Accounts are in the copy, too: what the log tells of them fits.
    feed_files(&server.access, &mut client, &Accounts::AsTold, stream, replay).await?;
    client.write(server.closing().as_bytes()).await?;
    client.finish().await?;
    server.ended().await?;
    Ok(format!("{}: a data folder{}, on which mariadbd starts", folder.display(), as_of(replay)))
}

/// The most that a server takes at once, bytes.
const LARGEST_PACKET: &str = "1073741824";

/// Lets sessions that begin from now on send so much at once: the rows that one statement wrote are one statement again,
/// however many they are. Where the user may not, the server's own limit holds, and its refusal says so.
async fn set_packet(access: &Access, bytes: &str) {
    if let Ok(bytes) = bytes.parse::<u64>()
        && let Ok(mut session) = Session::open(access, None, ANSWER)
    {
        let _ = session.rows(&format!("SET GLOBAL max_allowed_packet = {bytes}")).await;
    }
}

fn client(access: &Access) -> Result<Process, Failure> {
    let client = access.client(STATEMENT).arguments(["--batch", "--binary-mode", "--max-allowed-packet=1G"]);
    Ok(client.discard_output().start()?)
}

fn as_of(replay: &Replay) -> String {
    replay.until.as_ref().map_or_else(String::new, |until| format!(" as of {until}"))
}

/// Has the client run what the files of a log tell.
async fn feed_files(
    access: &Access,
    client: &mut Process,
    accounts: &Accounts,
    stream: Stream<'_>,
    replay: &Replay,
) -> Result<(), Failure> {
    let mut is_reached = false;
    while let Some(entry) = Entry::read(stream).await? {
        match part(&entry, replay)?.filter(|_| !is_reached) {
            Some(part) => {
                let flavour = access.programs.flavour;
                let reader = access.binlog(STATEMENT)?.variable("TZ", "UTC").arguments(flavour.replayed_as());
                let reader = reader.arguments(part.limits(flavour, Reads::Pipe)).argument("-");
                let fed = replay_file(reader, part.cut(flavour), client, accounts, stream, &entry).await?;
                if fed == Fed::InPart && !part.limits_reader(flavour) {
                    let why =
                        format!("{} was replayed in part only; what was restored is incomplete", entry.name);
                    return Err(Failure::Incomplete(why));
                }
                is_reached = fed == Fed::UpToEnd;
            }
            None => skip(stream, entry.size).await?,
        }
        skip(stream, entry.padding() as u64).await?;
    }
    Ok(())
}

async fn replay_file(
    reader: Program,
    cut: Cut,
    client: &mut Process,
    accounts: &Accounts,
    stream: Stream<'_>,
    entry: &Entry,
) -> Result<Fed, Failure> {
    let mut reader = reader.start()?;
    let input = reader.take_input();
    let print = async {
        let mut statements = accounts.statements();
        while let Some(bytes) = reader.read().await? {
            client.write(&statements.pass(&bytes)).await?;
        }
        client.write(&statements.end()).await?;
        Ok::<(), Failure>(())
    };
    let (fed, ()) = tokio::try_join!(feed(input, cut, stream, entry.size), print)?;
    reader.finish().await?;
    Ok(fed)
}

/// How much of a file a program took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    All,
    /// It read no more.
    InPart,
    /// All up to the transaction that is the last one.
    UpToEnd,
}

/// Hands a file to the program. Once that has come to the moment to stop at it reads no more, and its end tells that all
/// was well.
async fn feed(mut input: Option<Input>, mut cut: Cut, stream: Stream<'_>, size: u64) -> Result<Fed, Failure> {
    let mut content = stream.take(size);
    let mut piece = vec![0; CHUNK];
    loop {
        let length = content.read(&mut piece).await.map_err(Failure::Stream)?;
        if length == 0 {
            break;
        }
        let wanted = cut.pass(&piece[..length]).map_err(broken)?;
        if let Some(open) = &mut input
            && !wanted.is_empty()
            && open.write(&wanted).await.is_err()
        {
            input = None;
        }
    }
    if content.limit() > 0 {
        return Err(Failure::Stream(io::ErrorKind::UnexpectedEof.into()));
    }
    match (input, cut) {
        (None, _) => Ok(Fed::InPart),
        (Some(_), Cut::Behind(up_to)) if !up_to.is_whole() => Err(broken(Broken)),
        (Some(_), Cut::Behind(up_to)) if up_to.is_reached() => Ok(Fed::UpToEnd),
        (Some(_), _) => Ok(Fed::All),
    }
}

fn broken(error: Broken) -> Failure {
    Failure::Incomplete(error.to_string())
}

/// Puts the files beside the dump, with a script that replays them on any server.
pub(super) async fn to_folder(stream: Stream<'_>, folder: &Path, replay: &Replay) -> Result<String, Failure> {
    let unwritable = |error: io::Error| Failure::Refused(format!("{}: {error}", folder.display()));
    let logs = folder.join(LOGS);
    match fs::create_dir(&logs) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unwritable(error)),
        _ => fs::set_permissions(&logs, fs::Permissions::from_mode(0o700)).map_err(unwritable)?,
    }
    let script = folder.join(SCRIPT);
    let mut commands = match fs::read_to_string(&script) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => HEAD.to_owned(),
        Err(error) => return Err(unwritable(error)),
    };
    let mut is_reached = false;
    while let Some(entry) = Entry::read(stream).await? {
        match part(&entry, replay)?.filter(|_| !is_reached) {
            Some(part) => {
                let (name, is_there) = place_for(&entry, &logs);
                let path = logs.join(&name);
                match is_there {
                    IsThere::Yes => skip(stream, entry.size).await?,
                    IsThere::No => entry.extract(stream, &path).await?,
                }
                let end = part.up_to().map(|up_to| end_of(up_to, &path)).transpose()?.flatten();
                is_reached = end.is_some();
                let end = end.map(|offset| format!("--stop-position={offset}"));
                let flavour = writer(&path).map_err(unwritable)?;
                let limits = part.limits(flavour, Reads::Path);
                commands.push_str(&command(flavour, &name, limits.into_iter().chain(end)));
            }
            None => skip(stream, entry.size).await?,
        }
        skip(stream, entry.padding() as u64).await?;
    }
    fs::write(&script, commands).map_err(unwritable)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).map_err(unwritable)?;
    Ok(format!("{}: load the dump, then run {SCRIPT} there", folder.display()))
}

const HEAD: &str = "#!/bin/sh\n# Replays the log over the dump beside it, once that is loaded: ./replay.sh OPTIONS, where \
OPTIONS are\n# those of the client, such as --defaults-file=client.cnf.\nset -eu\ncd \"$(dirname \"$0\")\"\n";

/// Where the last transaction ends in a file; `None` where it is in a later one.
fn end_of(mut up_to: UpTo, path: &Path) -> Result<Option<u64>, Failure> {
    let unreadable = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    let mut file = fs::File::open(path).map_err(unreadable)?;
    let mut piece = vec![0; CHUNK];
    loop {
        match io::Read::read(&mut file, &mut piece).map_err(unreadable)? {
            0 => return Ok(up_to.is_reached().then(|| up_to.passed())),
            length => up_to.pass(&piece[..length]).map(drop).map_err(broken)?,
        }
    }
}

/// Whether a file was put beside the dump before.
enum IsThere {
    Yes,
    No,
}

/// The name that a file gets beside the dump. Artifacts overlap where one began before the last one's end was known, and the file is
/// the same; or where one ended before the server had closed the file, and then there are two.
fn place_for(entry: &Entry, logs: &Path) -> (String, IsThere) {
    let names = std::iter::once(entry.name.clone()).chain((2..).map(|n| format!("{}-{n}", entry.name)));
    for name in names {
        match logs.join(&name).metadata() {
            Ok(found) if found.len() == entry.size => return (name, IsThere::Yes),
            Ok(_) => {}
            Err(_) => return (name, IsThere::No),
        }
    }
    // Names have no end.
    (entry.name.clone(), IsThere::No)
}

/// Where in a file stands which server wrote it, and how long that is at most, bytes (MariaDB's documentation,
/// "FORMAT_DESCRIPTION_EVENT").
const VERSION: (u64, usize) = (25, 50);

/// Whose server wrote a file.
fn writer(path: &Path) -> io::Result<Flavour> {
    let mut version = [0; VERSION.1];
    std::os::unix::fs::FileExt::read_exact_at(&fs::File::open(path)?, &mut version, VERSION.0)?;
    Ok(Flavour::of(&String::from_utf8_lossy(&version)))
}

fn command(flavour: Flavour, name: &str, limits: impl Iterator<Item = String>) -> String {
    let arguments = flavour.replayed_as().iter().map(|argument| (*argument).to_owned());
    let quoted: Vec<String> =
        arguments.chain(limits).map(|argument| format!("'{}'", argument.replace('\'', r"'\''"))).collect();
    let (reader, client) = match flavour {
        Flavour::MariaDb => ("mariadb-binlog", "mariadb"),
        Flavour::MySql => ("mysqlbinlog", "mysql"),
    };
    // A file of its own between the two: a pipe would hide a failure of the first.
    format!(
        "TZ=UTC {reader} --no-defaults {} {LOGS}/{name} >replay.sql\n{client} \"$@\" --binary-mode <replay.sql\nrm replay.sql\n",
        quoted.join(" "),
    )
}
