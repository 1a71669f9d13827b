//! A logical capture. One database is the custom archive of `pg_dump`. Several are SQL: the roles, and then each
//! database, dumped with the statements that make it.

use std::{path::Path, time::Duration};

use bytes::Bytes;

use super::{
    ANSWER, Failure, STAGE,
    access::{Access, database},
    directory,
    programs::Programs,
    roles,
    session::{Identity, MAINTENANCE, Session},
    tables,
    view::{LOCK_WAIT, View, together},
};
use crate::{
    artifact::manifest::{Counting, Details, Moment, Rows},
    process::{Process, ProcessError, Program},
    sources::{
        CaptureRequest, Captured, Sink,
        blocking::produce,
        counting::beside,
        stage::{self, Stage},
    },
    spec::{Jobs, Part},
};

/// The first line of the SQL of several databases.
pub(super) const OPENING: &str = "-- Backstay: roles and databases of a PostgreSQL server\n";

/// Its last line, which proves that it is whole.
pub(super) const CLOSING: &str = "-- Backstay: complete\n";

/// The last lines of every SQL that `pg_dump` writes.
const COMPLETED: &str = "-- PostgreSQL database dump complete\n";

/// What is said of every dump of one database.
const NO_ROLES: &str =
    "roles: a dump of one database holds none; several databases, all of them or method = \"physical\" do";

/// How much of the end of a dump may hold its last lines, bytes.
const ENDING: usize = 4096;

/// One database, and what is found out about it.
#[derive(Clone, Copy)]
pub(super) struct One<'a> {
    pub name: &'a str,
    /// What alone of it is dumped.
    pub part: Option<&'a Part>,
    pub counting: Counting,
}

/// Captures one database, or only a part of it.
pub(super) async fn capture_one(
    access: &Access,
    One { name, part, counting }: One<'_>,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let mut view = View::open(access, name, request.stall).await?;
    let server = Identity::ask(&mut Session::open(access, name, ANSWER).await?).await?;
    let programs = access.installed.for_server(server.major)?;
    // Artifacts are compressed, and find what they share, by themselves.
    let dump =
        dump(access, programs, name, &view, request.stall).arguments(["--format=custom", "--compress=0"]);
    let dump = dump.arguments(tables::selected(part));
    // The archive has no closing mark: a program that reads it to its end is the proof.
    let reader = Program::new(programs.path("pg_restore")).argument("--file=/dev/null").discard_output();
    let (mut dump, reader) = (dump.start()?, reader.stall(request.stall).start()?);
    dump.close_input();
    let (time, position) = (request.now(), view.position.clone());
    let count = async {
        match part {
            Some(part) => Rows::not_captured(format!("only {part} is dumped")),
            None => view.count(counting).await,
        }
    };
    let ((), rows) = beside(archive(dump, reader, sink), count, request.stall).await?;
    let details = Details { omitted: vec![NO_ROLES.to_owned()], ..details(server, programs, rows) };
    Ok(Captured { moment: Moment::At { time, position: Some(position) }, details })
}

/// How a database is dumped by several connections.
#[derive(Clone, Copy)]
pub(super) struct Jobbed<'a> {
    /// How many.
    pub jobs: Jobs,
    /// Where the dump is made.
    pub scratch: &'a Path,
}

/// Captures one database by several connections, aside first.
pub(super) async fn capture_by_jobs(
    access: &Access,
    One { name, counting, .. }: One<'_>,
    Jobbed { jobs, scratch }: Jobbed<'_>,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let mut view = View::open(access, name, request.stall).await?;
    let server = Identity::ask(&mut Session::open(access, name, ANSWER).await?).await?;
    let programs = access.installed.for_server(server.major)?;
    let stage = Stage::new(scratch, STAGE).map_err(Failure::Stage)?;
    let folder = stage.path().join("dump");
    let dump = dump(access, programs, name, &view, request.stall)
        .arguments(["--format=directory", "--compress=0"])
        .argument(format!("--jobs={}", jobs.count()))
        .argument(format!("--file={}", folder.display()));
    let (time, position) = (request.now(), view.position.clone());
    let dumped = async { Ok::<_, Failure>(stage::filled(dump.start()?, &folder, request.stall).await?) };
    let ((), rows) = beside(dumped, view.count(counting), request.stall).await?;
    let reader = Program::new(programs.path("pg_restore")).argument("--file=/dev/null").argument(&folder);
    // It reads the disk of this host, and nothing else.
    let mut reader = reader.discard_output().start()?;
    reader.close_input();
    reader.finish().await.map_err(unreadable)?;
    let second = time.as_second();
    produce(sink, request.stall, move |feed| directory::send(&folder, second, feed)).await??;
    let details = Details { omitted: vec![NO_ROLES.to_owned()], ..details(server, programs, rows) };
    Ok(Captured { moment: Moment::At { time, position: Some(position) }, details })
}

/// Captures several databases, or all that can be connected to.
pub(super) async fn capture_several(
    access: &Access,
    counting: Counting,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let mut session = Session::open(access, MAINTENANCE, ANSWER).await?;
    let server = Identity::ask(&mut session).await?;
    let programs = access.installed.for_server(server.major)?;
    let databases = match access.databases.as_slice() {
        [] => all_databases(&mut session).await?,
        declared => declared.to_vec(),
    };
    let roles = roles::capture(access, programs, server.superuser).await?;
    sink.write(Bytes::from(format!("{OPENING}{}", roles.sql))).await?;
    let (mut first, mut rows) = (None, Vec::new());
    for name in &databases {
        let mut view = View::open(access, name, request.stall).await?;
        first.get_or_insert_with(|| (request.now(), view.position.clone()));
        // Whoever replaces a database must not be connected to it.
        sink.write(Bytes::from(format!("\\connect {MAINTENANCE}\n"))).await?;
        let mut dump = plain(access, programs, name, &view, request.stall).start()?;
        dump.close_input();
        let count = view.count(counting);
        let ((), counted) = beside(text(dump, name, sink), count, request.stall).await?;
        rows.push(counted);
    }
    sink.write(Bytes::from_static(CLOSING.as_bytes())).await?;
    let details = Details { omitted: roles.omitted, ..details(server, programs, together(rows)) };
    // They have a view each: what was written before the first of them is in all.
    let (time, position) = first.map_or((request.now(), None), |(time, position)| (time, Some(position)));
    Ok(Captured { moment: Moment::At { time, position }, details })
}

fn details(server: Identity, programs: &Programs, rows: Rows) -> Details {
    let versions = [("server".to_owned(), server.version), ("dump".to_owned(), programs.version.clone())];
    let Rows { counts, checksums } = rows;
    Details { versions: versions.into(), counts, checksums, ..Details::default() }
}

pub(super) async fn all_databases(session: &mut Session) -> Result<Vec<String>, Failure> {
    let sql =
        "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";
    session.values(sql).await
}

fn dump(access: &Access, programs: &Programs, name: &str, view: &View, stall: Duration) -> Program {
    let dump = access.program(programs, "pg_dump", stall).argument(database(name));
    dump.arguments([format!("--snapshot={}", view.snapshot), format!("--lock-wait-timeout={LOCK_WAIT}")])
}

/// SQL that makes a database again; the one that everybody connects to is filled again instead.
fn plain(access: &Access, programs: &Programs, name: &str, view: &View, stall: Duration) -> Program {
    let dump = dump(access, programs, name, view, stall).arguments(["--format=plain", "--no-tablespaces"]);
    let dump = dump.arguments(["--clean", "--if-exists"]);
    if name == MAINTENANCE { dump } else { dump.argument("--create") }
}

async fn archive(mut dump: Process, mut reader: Process, sink: &mut dyn Sink) -> Result<(), Failure> {
    while let Some(bytes) = dump.read().await? {
        reader.write(&bytes).await.map_err(unreadable)?;
        sink.write(bytes).await?;
    }
    dump.finish().await?;
    reader.finish().await.map_err(unreadable)
}

fn unreadable(error: ProcessError) -> Failure {
    Failure::Incomplete(format!("the dump can't be read back: {error}"))
}

async fn text(mut dump: Process, name: &str, sink: &mut dyn Sink) -> Result<(), Failure> {
    let mut ending = Ending::default();
    while let Some(bytes) = dump.read().await? {
        ending.look(&bytes);
        sink.write(bytes).await?;
    }
    dump.finish().await?;
    if ending.holds(COMPLETED) {
        return Ok(());
    }
    let line = COMPLETED.trim();
    Err(Failure::Incomplete(format!("the dump of database {name} ends without its closing line `{line}`")))
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Ending(Vec<u8>);

impl Ending {
    pub(super) fn look(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&bytes[bytes.len().saturating_sub(ENDING)..]);
        self.0.drain(..self.0.len().saturating_sub(ENDING));
    }

    pub(super) fn holds(&self, line: &str) -> bool {
        self.0.windows(line.len()).any(|window| window == line.as_bytes())
    }

    pub(super) fn is(&self, line: &str) -> bool {
        self.0.ends_with(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_found_across_pieces() {
        let mut ending = Ending::default();
        ending.look(&vec![b'x'; 3 * ENDING]);
        let (first, second) = COMPLETED.split_at(10);
        ending.look(first.as_bytes());
        ending.look(second.as_bytes());
        assert!(ending.holds(COMPLETED) && ending.is(COMPLETED) && ending.0.len() == ENDING);
        ending.look(&vec![b'x'; ENDING - 3]);
        assert!(!ending.holds(COMPLETED));
    }
}
