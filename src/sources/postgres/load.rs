//! The way back of a logical capture: archives go through `pg_restore`, SQL through `psql`.

use std::{io, path::Path, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    ANSWER, Failure, STAGE, STATEMENT,
    access::{Access, database},
    directory,
    inspect::first_rows,
    logical::{CLOSING, Ending, OPENING},
    session::{MAINTENANCE, Session, identifier, literal},
};
use crate::{
    process::{Process, Program},
    sources::{
        aside::{Aside, new_folder},
        blocking::consume,
        existing::{self, Existing},
        stage::Stage,
    },
    spec::Jobs,
};

/// How much is handed on at once, bytes.
const CHUNK: usize = 128 * 1024;

/// The first bytes of a custom archive.
const ARCHIVE: &str = "PGDMP";

/// How often the server is asked whether it is there while it loads, and how many times in a row it may not answer.
const LOOK: Duration = Duration::from_secs(60);
const MISSED: u32 = 5;

/// How long a directory may take to load.
const LONGEST: Duration = Duration::from_secs(60 * 24 * 3600);

/// What dumps of one database begin with.
const OF_ONE: [&str; 2] = [ARCHIVE, directory::OPENING];

/// What stands in front of a database's encoding and locale in an archive's table of contents.
const DEFAULTS: &str = " WITH TEMPLATE = template0";

/// What becomes of who owns what in a database, and who may do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owners {
    /// The roles must exist.
    AsCaptured,
    /// Everything is of whoever restores it.
    LeftOut,
}

/// What loads dumps of one database.
pub(super) struct Loader<'a> {
    /// The server.
    pub access: &'a Access,
    /// What becomes of owners and rights.
    pub owners: Owners,
    /// How many connections load a directory into a new database.
    pub jobs: Jobs,
    /// Where directories are extracted.
    pub scratch: &'a Path,
    /// What becomes of rows that are there once a directory is.
    pub existing: Existing,
}

/// What a dump is loaded over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    /// A database that was made for it.
    Nothing,
    /// One that was there.
    There,
}

impl Loader<'_> {
    /// Runs a program that loads a directory. It says nothing for as long as that takes, and goes on while the server answers.
    async fn run(&self, restore: Program) -> Result<(), Failure> {
        let mut restore = restore.stall(LONGEST).start()?;
        restore.close_input();
        tokio::select! {
            loaded = restore.finish() => Ok(loaded?),
            gone = self.server_is_gone() => Err(gone),
        }
    }

    /// Waits until the server does not answer any more, and tells why.
    async fn server_is_gone(&self) -> Failure {
        let mut missed = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            missed = match Session::open(self.access, MAINTENANCE, ANSWER).await {
                Ok(_) => 0,
                Err(why) if missed + 1 == MISSED => return why,
                Err(_) => missed + 1,
            };
        }
    }

    async fn must_have_stayed_empty(&self) -> Result<(), Failure> {
        if self.existing == Existing::Replaced {
            return Ok(());
        }
        match first_rows(self.access).await? {
            None => Ok(()),
            Some(table) => Err(Failure::Refused(existing::by_now(&format!("rows in {table}")))),
        }
    }

    fn program(&self, name: &str) -> Program {
        let restore = self.access.program(self.access.installed.newest(), "pg_restore", STATEMENT);
        let restore = match self.owners {
            Owners::AsCaptured => restore,
            Owners::LeftOut => restore.arguments(["--no-owner", "--no-privileges"]),
        };
        restore.argument("--exit-on-error").argument(database(name)).discard_output()
    }
}

pub(super) type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Writes the stream into a new file.
pub(super) async fn to_file(stream: Stream<'_>, path: &Path) -> Result<String, Failure> {
    let refused = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    let mut aside = Aside::begin(path).map_err(refused)?;
    aside.fill(stream, |_| {}).await.map_err(Failure::Stream)?;
    aside.place().map_err(refused)?;
    Ok(path.display().to_string())
}

/// Writes the stream into a file of a new or empty folder: called `name`, or, where it is the dump of the database `of`, by how that was
/// made.
pub(super) async fn to_folder(
    stream: Stream<'_>,
    folder: &Path,
    of: Option<&str>,
    name: &str,
) -> Result<String, Failure> {
    let mut beginning = Vec::new();
    let longest = OF_ONE.iter().map(|opening| opening.len()).max().unwrap_or_default() as u64;
    (&mut *stream).take(longest).read_to_end(&mut beginning).await.map_err(Failure::Stream)?;
    let begins = |opening: &str| beginning.starts_with(opening.as_bytes());
    let name = match of {
        Some(of) if begins(ARCHIVE) => directory::name(of, Jobs::ONE),
        Some(of) if begins(directory::OPENING) => directory::name(of, Jobs::MOST),
        _ => name.to_owned(),
    };
    new_folder(folder).map_err(|error| Failure::Refused(format!("{}: {error}", folder.display())))?;
    to_file(&mut beginning.as_slice().chain(stream), &folder.join(name)).await
}

/// Loads the archive of one database, or of tables in `schemas` of it, into a new one, which is removed again where that fails.
pub(super) async fn to_new_database(
    loader: &Loader<'_>,
    stream: Stream<'_>,
    name: &str,
    schemas: &[String],
) -> Result<String, Failure> {
    let access = loader.access;
    must_be_new(access, name).await?;
    let begun = Begun::read(stream, &OF_ONE).await?;
    let mut session = Session::open(access, MAINTENANCE, ANSWER).await?;
    begun.create(&mut session, name).await?;
    for schema in schemas {
        let make = format!("CREATE SCHEMA IF NOT EXISTS {}", identifier(schema));
        Session::open(access, name, ANSWER).await?.run(&make).await?;
    }
    load_new(&mut session, loader, begun, stream, name).await
}

/// Refuses the name of a database that is there.
pub(super) async fn must_be_new(access: &Access, name: &str) -> Result<(), Failure> {
    match exists(&mut Session::open(access, MAINTENANCE, ANSWER).await?, name).await? {
        true => Err(Failure::Refused(format!("database {name} exists"))),
        false => Ok(()),
    }
}

/// Fails where the server can't be reached.
pub(super) async fn must_answer(access: &Access) -> Result<(), Failure> {
    Session::open(access, MAINTENANCE, ANSWER).await.map(drop)
}

/// Loads the archive of one database over it, all or nothing. What the archive does not hold stays.
pub(super) async fn over_database(
    loader: &Loader<'_>,
    stream: Stream<'_>,
    name: &str,
) -> Result<String, Failure> {
    let mut session = Session::open(loader.access, MAINTENANCE, ANSWER).await?;
    let begun = Begun::read(stream, &OF_ONE).await?;
    if !exists(&mut session, name).await? {
        begun.create(&mut session, name).await?;
        return load_new(&mut session, loader, begun, stream, name).await;
    }
    // One transaction is one connection's.
    let restore = loader.program(name).arguments(["--clean", "--if-exists", "--single-transaction"]);
    begun.load(restore, loader, stream, Over::There).await?;
    Ok(format!("database {name}"))
}

/// Loads the SQL of several databases over them: each is dropped and made again.
pub(super) async fn over_databases(access: &Access, stream: Stream<'_>) -> Result<String, Failure> {
    let begun = Begun::read(stream, &[OPENING]).await?;
    let client = access.program(access.installed.newest(), "psql", STATEMENT);
    let client = client.arguments(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]);
    let mut client = client.argument(database(MAINTENANCE)).discard_output().start()?;
    let ending = begun.feed(&mut client, stream).await?;
    client.finish().await?;
    if ending.is(CLOSING) {
        return Ok("the databases and roles of the dump".to_owned());
    }
    let why = "the dump ends without its closing line; what was restored is incomplete";
    Err(Failure::Incomplete(why.to_owned()))
}

async fn load_new(
    session: &mut Session,
    loader: &Loader<'_>,
    begun: Begun,
    stream: Stream<'_>,
    name: &str,
) -> Result<String, Failure> {
    let mut restore = loader.program(name);
    if begun.is_directory() {
        restore = restore.argument(format!("--jobs={}", loader.jobs.count()));
    }
    match begun.load(restore, loader, stream, Over::Nothing).await {
        Ok(()) => Ok(format!("database {name}")),
        Err(failure) => {
            // It is ours, new and incomplete. The failure that made it so is the one to tell.
            let _ = session.run(&format!("DROP DATABASE {} WITH (FORCE)", identifier(name))).await;
            Err(failure)
        }
    }
}

async fn exists(session: &mut Session, name: &str) -> Result<bool, Failure> {
    let sql =
        format!("SELECT pg_catalog.count(*) FROM pg_catalog.pg_database WHERE datname = {}", literal(name));
    let [found] = session.row(&sql).await?;
    Ok(found != "0")
}

/// The beginning of a stream.
struct Begun(Vec<u8>);

impl Begun {
    /// Reads a first piece, so that nothing is touched for a stream that fails at once or is of another kind.
    async fn read(stream: Stream<'_>, openings: &[&str]) -> Result<Self, Failure> {
        let mut first = Vec::with_capacity(CHUNK);
        while first.len() < CHUNK {
            if stream.read_buf(&mut first).await.map_err(Failure::Stream)? == 0 {
                break;
            }
        }
        if openings.iter().any(|opening| first.starts_with(opening.as_bytes())) {
            return Ok(Self(first));
        }
        let why = "the stream is no dump of what is declared now: its `databases` or `method` were others; \
                   restore it to a file";
        Err(Failure::Refused(why.to_owned()))
    }

    /// Makes a database with the encoding and locale of the one that was captured.
    async fn create(&self, session: &mut Session, name: &str) -> Result<(), Failure> {
        let defaults = self.defaults();
        session
            .run(&format!("CREATE DATABASE {} WITH TEMPLATE = template0{defaults}", identifier(name)))
            .await
    }

    /// Encoding and locale, as the archive's own statement says them; empty where it can't be found.
    fn defaults(&self) -> String {
        let position = self.0.windows(DEFAULTS.len()).position(|window| window == DEFAULTS.as_bytes());
        let Some(from) = position.map(|at| at + DEFAULTS.len()) else { return String::new() };
        let statement = self.0[from..].split(|byte| *byte == b';').next().unwrap_or_default();
        let statement = String::from_utf8_lossy(statement);
        // A copy lies in the default tablespace.
        let settings = statement.split(" TABLESPACE = ").next().unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " _='.@-".contains(c);
        if settings.chars().all(is_plain) { settings.to_owned() } else { String::new() }
    }

    fn is_directory(&self) -> bool {
        self.0.starts_with(directory::OPENING.as_bytes())
    }

    /// Has `restore` load what was read and the rest.
    async fn load(
        self,
        restore: Program,
        loader: &Loader<'_>,
        stream: Stream<'_>,
        over: Over,
    ) -> Result<(), Failure> {
        if !self.is_directory() {
            let mut restore = restore.start()?;
            self.feed(&mut restore, stream).await?;
            return Ok(restore.finish().await?);
        }
        let stage = Stage::new(loader.scratch, STAGE).map_err(Failure::Stage)?;
        let folder = stage.path().to_owned();
        let mut whole = self.0.as_slice().chain(stream);
        let extracted = consume(&mut whole, move |tar| directory::extract(tar, &folder)).await;
        extracted.unwrap_or_else(|died| Err(Failure::Stream(io::Error::other(died))))?;
        if over == Over::There {
            loader.must_have_stayed_empty().await?;
        }
        loader.run(restore.argument(stage.path())).await
    }

    /// Hands on what was read and the rest, to the end of the stream.
    async fn feed(self, program: &mut Process, stream: Stream<'_>) -> Result<Ending, Failure> {
        let mut ending = Ending::default();
        ending.look(&self.0);
        program.write(&self.0).await?;
        let mut piece = vec![0; CHUNK];
        loop {
            match stream.read(&mut piece).await.map_err(Failure::Stream)? {
                0 => return Ok(ending),
                length => {
                    ending.look(&piece[..length]);
                    program.write(&piece[..length]).await?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_and_locale_are_read_off_an_archive_and_nothing_else_is() {
        let defaults = |text: &str| Begun(text.as_bytes().to_vec()).defaults();
        let locale = " ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'et_EE.UTF-8'";
        assert_eq!(defaults(&format!("CREATE DATABASE a WITH TEMPLATE = template0{locale};\n")), locale);
        let elsewhere = format!("CREATE DATABASE a WITH TEMPLATE = template0{locale} TABLESPACE = fast;\n");
        assert_eq!(defaults(&elsewhere), locale);
        assert_eq!(defaults("CREATE DATABASE a WITH TEMPLATE = template0 \"x\";"), "");
        assert_eq!(defaults("PGDMP"), "");
    }
}
