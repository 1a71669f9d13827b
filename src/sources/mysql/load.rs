//! The way back: the SQL goes through the client program, and counts only when its closing line went through as well.

use std::{io, path::Path};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    ANSWER, Failure, STATEMENT,
    access::Access,
    marks::Marks,
    session::{Session, identifier, literal},
    view::all_databases,
};
use crate::{
    process::Process,
    sources::aside::{Aside, new_folder},
};

/// How much is handed to the client at once, bytes.
const CHUNK: usize = 128 * 1024;

type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Writes the SQL into a new file.
pub(super) async fn to_file(stream: Stream<'_>, path: &Path) -> Result<String, Failure> {
    let refused = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    let mut aside = Aside::begin(path).map_err(refused)?;
    let mut marks = Marks::default();
    aside.fill(stream, |bytes| marks.look(bytes)).await.map_err(Failure::Stream)?;
    must_be_complete(&marks)?;
    aside.place().map_err(refused)?;
    Ok(path.display().to_string())
}

/// Writes a stream that is no SQL into a new file, as it is.
pub(super) async fn to_plain_file(stream: Stream<'_>, path: &Path) -> Result<String, Failure> {
    let refused = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    let mut aside = Aside::begin(path).map_err(refused)?;
    aside.fill(stream, |_| {}).await.map_err(Failure::Stream)?;
    aside.place().map_err(refused)?;
    Ok(path.display().to_string())
}

/// Writes the SQL into a file of a new or empty folder.
pub(super) async fn to_folder(stream: Stream<'_>, folder: &Path, name: &str) -> Result<String, Failure> {
    new_folder(folder).map_err(|error| Failure::Refused(format!("{}: {error}", folder.display())))?;
    to_file(stream, &folder.join(name)).await
}

/// Loads the dump of one database into a new one. Its events are switched off: they would run beside the original's.
pub(super) async fn to_new_database(
    access: &Access,
    stream: Stream<'_>,
    name: &str,
) -> Result<String, Failure> {
    must_be_new(access, name).await?;
    let dump = Begun::read(stream).await?;
    let mut session = Session::open(access, None, ANSWER)?;
    session.rows(&format!("CREATE DATABASE {}{}", identifier(name), dump.defaults())).await?;
    match load(access, Some(name), dump, stream).await {
        Ok(()) => {
            let events = disable_events(access, name).await?;
            let note = if events > 0 { format!(", its {events} events switched off") } else { String::new() };
            Ok(format!("database {name}{note}"))
        }
        Err(failure) => {
            // It is ours, new and incomplete. The failure that made it so is the one to tell.
            let _ = session.rows(&format!("DROP DATABASE {}", identifier(name))).await;
            Err(failure)
        }
    }
}

/// Refuses the name of a database that is there.
pub(super) async fn must_be_new(access: &Access, name: &str) -> Result<(), Failure> {
    match exists(&mut Session::open(access, None, ANSWER)?, name).await? {
        true => Err(Failure::Refused(format!("database {name} exists"))),
        false => Ok(()),
    }
}

/// Fails where the server can't be reached.
pub(super) async fn must_answer(access: &Access) -> Result<(), Failure> {
    Session::open(access, None, ANSWER)?.one("SELECT 1").await.map(drop)
}

/// Loads a dump over the databases that it was made of. Tables that it does not hold stay.
pub(super) async fn over_original(
    access: &Access,
    stream: Stream<'_>,
    single: Option<&str>,
) -> Result<String, Failure> {
    let dump = Begun::read(stream).await?;
    if let Some(name) = single {
        let mut session = Session::open(access, None, ANSWER)?;
        session
            .rows(&format!("CREATE DATABASE IF NOT EXISTS {}{}", identifier(name), dump.defaults()))
            .await?;
    }
    load(access, single, dump, stream).await?;
    Ok(single.map_or_else(|| "the databases of the dump".to_owned(), |name| format!("database {name}")))
}

/// Drops every database but the engine's own: a log tells of all of them, and so must the declaration.
pub(super) async fn drop_databases(access: &Access) -> Result<(), Failure> {
    if !access.databases.is_empty() {
        let why = "the log tells of the whole server, but some of its databases are declared only; leave `databases` out, or \
                   restore to a folder";
        return Err(Failure::Refused(why.to_owned()));
    }
    let mut session = Session::open(access, None, STATEMENT)?;
    for name in &all_databases(&mut session).await? {
        session.rows(&format!("DROP DATABASE IF EXISTS {}", identifier(name))).await?;
    }
    Ok(())
}

/// The beginning of a dump.
struct Begun {
    first: Vec<u8>,
    marks: Marks,
}

impl Begun {
    /// Reads a first piece, so that nothing is touched for a stream that fails at once.
    async fn read(stream: Stream<'_>) -> Result<Self, Failure> {
        let mut first = Vec::with_capacity(CHUNK);
        while first.len() < CHUNK {
            if stream.read_buf(&mut first).await.map_err(Failure::Stream)? == 0 {
                break;
            }
        }
        let mut marks = Marks::default();
        marks.look(&first);
        if first.is_empty() {
            return Err(Failure::Incomplete("the dump is empty".to_owned()));
        }
        Ok(Self { first, marks })
    }

    fn defaults(&self) -> String {
        let defaults = self.marks.defaults();
        defaults
            .map_or_else(String::new, |(set, collation)| format!(" CHARACTER SET {set} COLLATE {collation}"))
    }
}

async fn load(
    access: &Access,
    database: Option<&str>,
    dump: Begun,
    stream: Stream<'_>,
) -> Result<(), Failure> {
    let client = access.client(STATEMENT).arguments(["--batch", "--binary-mode", "--max-allowed-packet=1G"]);
    let client =
        database.into_iter().fold(client, |client, name| client.argument(format!("--database={name}")));
    let mut client = client.discard_output().start()?;
    let mut marks = dump.marks;
    client.write(&dump.first).await?;
    feed(&mut client, &mut marks, stream).await?;
    client.finish().await?;
    must_be_complete(&marks)
}

async fn feed(client: &mut Process, marks: &mut Marks, stream: Stream<'_>) -> Result<(), Failure> {
    let mut piece = vec![0; CHUNK];
    loop {
        match stream.read(&mut piece).await.map_err(Failure::Stream)? {
            0 => return Ok(()),
            length => {
                marks.look(&piece[..length]);
                client.write(&piece[..length]).await?;
            }
        }
    }
}

fn must_be_complete(marks: &Marks) -> Result<(), Failure> {
    if marks.completed() {
        return Ok(());
    }
    let why = "the dump ends without its closing line `-- Dump completed`; what was restored is incomplete";
    Err(Failure::Incomplete(why.to_owned()))
}

async fn exists(session: &mut Session, name: &str) -> Result<bool, Failure> {
    let query =
        format!("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = {}", literal(name));
    Ok(session.one(&query).await? != "0")
}

async fn disable_events(access: &Access, database: &str) -> Result<usize, Failure> {
    let mut session = Session::open(access, Some(database), ANSWER)?;
    let events = session
        .rows("SELECT event_name FROM information_schema.events WHERE event_schema = DATABASE() AND status = 'ENABLED'")
        .await?;
    for event in events.iter().flatten() {
        session.rows(&format!("ALTER EVENT {} DISABLE", identifier(event))).await?;
    }
    Ok(events.len())
}
