//! The way back of a log: each of its files goes through the server's own program, which leaves out what was before or comes
//! after, and what it prints goes through the client.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Failure, STATEMENT, access::Access};
use crate::{
    artifact::position::LogPosition,
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

/// Where replay begins in a file; `None` where all of it was before.
fn begins(entry: &Entry, replay: &Replay) -> Result<Option<u64>, Failure> {
    let unreadable = |text: &str| Failure::Refused(format!("{text:?} is no place in a binary log"));
    let (Some(LogPosition::Binlog { number: from, offset, stem, .. }), name) =
        (LogPosition::parse(&replay.from), format!("{}:4", entry.name))
    else {
        return Err(unreadable(&replay.from));
    };
    match LogPosition::parse(&name) {
        Some(LogPosition::Binlog { number, stem: own, .. }) if own == stem => Ok(match number.cmp(&from) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(offset),
            std::cmp::Ordering::Greater => Some(4),
        }),
        _ => Err(unreadable(&entry.name)),
    }
}

/// What the program that reads a file is told.
fn limits(begin: u64, replay: &Replay) -> Vec<String> {
    let until = replay.until.map(|until| format!("--stop-datetime={}", until.strftime("%Y-%m-%d %H:%M:%S")));
    let begin = Some(format!("--start-position={begin}"));
    [begin, until].into_iter().flatten().collect()
}

/// Replays over the server.
pub(super) async fn over_original(
    access: &Access,
    stream: Stream<'_>,
    replay: &Replay,
) -> Result<String, Failure> {
    let client = access.client(STATEMENT).arguments(["--batch", "--binary-mode", "--max-allowed-packet=1G"]);
    let mut client = client.discard_output().start()?;
    while let Some(entry) = Entry::read(stream).await? {
        match begins(&entry, replay)? {
            Some(begin) => {
                let reader = reader(access, begin, replay)?;
                let fed = replay_file(reader, &mut client, stream, &entry).await?;
                if fed == Fed::InPart && replay.until.is_none() {
                    let why =
                        format!("{} was replayed in part only; what was restored is incomplete", entry.name);
                    return Err(Failure::Incomplete(why));
                }
            }
            None => skip(stream, entry.size).await?,
        }
        skip(stream, entry.padding() as u64).await?;
    }
    client.finish().await?;
    let until = replay.until.map_or_else(String::new, |until| format!(" as of {until:.0}"));
    Ok(format!("the databases of the dump{until}"))
}

fn reader(access: &Access, begin: u64, replay: &Replay) -> Result<Program, Failure> {
    let reader = access.binlog(STATEMENT)?.variable("TZ", "UTC");
    Ok(reader.arguments(limits(begin, replay)).argument("-"))
}

async fn replay_file(
    reader: Program,
    client: &mut Process,
    stream: Stream<'_>,
    entry: &Entry,
) -> Result<Fed, Failure> {
    let mut reader = reader.start()?;
    let input = reader.take_input();
    let print = async {
        while let Some(bytes) = reader.read().await? {
            client.write(&bytes).await?;
        }
        Ok::<(), Failure>(())
    };
    let (fed, ()) = tokio::try_join!(feed(input, stream, entry.size), print)?;
    reader.finish().await?;
    Ok(fed)
}

/// How much of a file a program took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    All,
    InPart,
}

/// Hands a file to the program. Once that has come to the moment to stop at it reads no more, and its end tells that all
/// was well.
async fn feed(mut input: Option<Input>, stream: Stream<'_>, size: u64) -> Result<Fed, Failure> {
    let mut content = stream.take(size);
    let mut piece = vec![0; CHUNK];
    let mut fed = 0;
    loop {
        let length = content.read(&mut piece).await.map_err(Failure::Stream)?;
        if length == 0 {
            break;
        }
        fed += length as u64;
        if let Some(open) = &mut input
            && open.write(&piece[..length]).await.is_err()
        {
            input = None;
        }
    }
    if fed != size {
        return Err(Failure::Stream(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(if input.is_some() { Fed::All } else { Fed::InPart })
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
    while let Some(entry) = Entry::read(stream).await? {
        match begins(&entry, replay)? {
            Some(begin) => {
                let path = logs.join(&entry.name);
                // Artifacts overlap where one began before the last one's end was known: the file is the same.
                if path.exists() {
                    skip(stream, entry.size).await?;
                } else {
                    entry.extract(stream, &path).await?;
                }
                commands.push_str(&command(&entry, begin, replay));
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

fn command(entry: &Entry, begin: u64, replay: &Replay) -> String {
    let limits = limits(begin, replay);
    let quoted: Vec<String> =
        limits.iter().map(|limit| format!("'{}'", limit.replace('\'', r"'\''"))).collect();
    // A file of its own between the two: a pipe would hide a failure of the first.
    format!(
        "TZ=UTC mariadb-binlog --no-defaults {} {LOGS}/{} >replay.sql\nmariadb \"$@\" --binary-mode <replay.sql\nrm replay.sql\n",
        quoted.join(" "),
        entry.name
    )
}
