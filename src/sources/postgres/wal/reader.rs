//! The reader of a log as it is written: `pg_receivewal` without an end, looked after.
//!
//! It has no replication slot of its own and moves none: the backup's slot keeps on the server what no store has yet, also what
//! the reader has, so that a spool that is lost loses nothing.

use std::{
    fs::{self, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;

use super::{
    ANSWER, Failure,
    ahead::{self, names, newest},
    archive, blocking,
    origin::{Log, Origin},
    segment::{self, PARTIAL},
    slot::{self, must_be_limited},
};
use crate::{
    artifact::position::Lsn,
    process::Process,
    sources::{
        Read, Reading,
        postgres::{
            access::Access,
            session::{MAINTENANCE, Session},
        },
        spool,
    },
    spec::SlotName,
};

/// What a server has, without what it has not made durable.
const FLUSHED: &str = "SELECT pg_catalog.pg_current_wal_flush_lsn()";

/// Reads until it is told to stop.
pub(in crate::sources::postgres) async fn read(
    access: &Access,
    slot: &SlotName,
    reading: &Reading<'_>,
) -> Result<Read, Failure> {
    let (log, folder, program) = begin(access, slot, reading.spool).await?;
    spool::attend(program, Watch { access, log, folder }, reading).await
}

async fn begin(access: &Access, slot: &SlotName, spool: &Path) -> Result<(Log, PathBuf, Process), Failure> {
    let mut session = Session::open_for_replication(access, ANSWER).await?;
    let origin = Origin::ask(&mut session).await?;
    must_be_limited(&mut session).await?;
    let keeps = slot::keeps(&mut session, slot).await?;
    let [flushed] = session.row(FLUSHED).await?;
    let (log, flushed, spool) = (origin.log.clone(), segment::lsn(&flushed)?, spool.to_owned());
    let has = keeps.unwrap_or(flushed)..flushed;
    let folder = blocking(move || resume(&spool, &log, has).map_err(unusable)).await?;
    let programs = access.installed.for_server(origin.server.major)?;
    let program = access.program(programs, "pg_receivewal", Duration::MAX).dies_with_us()?;
    let program = program.arguments(["--no-loop", "--synchronous", "--directory"]).argument(&folder);
    Ok((origin.log, folder, program.discard_output().start()?))
}

/// The stretch that goes on with what the server has, or else a new one that begins where the server does.
fn resume(spool: &Path, log: &Log, has: Range<Lsn>) -> io::Result<PathBuf> {
    if let Some(folder) = spool::stretches(spool)?.into_iter().next() {
        tidy(&folder, log)?;
        if goes_on(&folder, log, &has)? {
            return Ok(folder);
        }
    }
    let folder = spool::begin(spool)?;
    // The program goes on with the segment of which it finds a part.
    let first = log.segments.number(has.start);
    let timeline = log.history.at(log.segments.begin(first)).timeline;
    let name = format!("{}{PARTIAL}", log.segments.name(timeline, first));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name))?;
    Ok(folder)
}

/// Empties what was cut short while it was laid out, before anything was written to it: the program refuses such a file.
fn tidy(folder: &Path, log: &Log) -> io::Result<()> {
    for name in names(folder)?.iter().filter(|name| name.ends_with(PARTIAL)) {
        let path = folder.join(name);
        if ![0, log.segments.size()].contains(&path.metadata()?.len()) {
            OpenOptions::new().write(true).truncate(true).open(&path)?;
        }
    }
    Ok(())
}

/// Whether the newest segment of a stretch is one that the server has, so that the program can go on with it.
fn goes_on(folder: &Path, log: &Log, has: &Range<Lsn>) -> io::Result<bool> {
    let Some((timeline, number)) = newest(folder, log.segments)? else { return Ok(false) };
    let begin = log.segments.begin(number);
    let is_empty = |name: &String| folder.join(name).metadata().is_ok_and(|found| found.len() == 0);
    let is_ours = match ahead::head_of(folder)? {
        Some((system, segments)) => system == log.system && segments == log.segments,
        None => names(folder)?.iter().all(is_empty),
    };
    // Behind a complete segment the program goes on with the next one.
    let is_complete = folder.join(log.segments.name(timeline, number)).exists();
    let next = if is_complete { number + 1 } else { number };
    let has = log.segments.number(has.start) <= next && begin <= has.end;
    Ok(is_ours && has && log.history.at(begin).timeline == timeline)
}

struct Watch<'a> {
    access: &'a Access,
    log: Log,
    folder: PathBuf,
}

#[async_trait]
impl spool::Watched for Watch<'_> {
    type Place = Lsn;
    type Failure = Failure;

    async fn server(&self) -> Result<Lsn, Failure> {
        let mut session = Session::open(self.access, MAINTENANCE, ANSWER).await?;
        let [flushed] = session.row(FLUSHED).await?;
        segment::lsn(&flushed)
    }

    async fn spool(&self) -> Result<Option<Lsn>, Failure> {
        let (folder, log) = (self.folder.clone(), self.log.clone());
        blocking(move || ahead::end(&folder, &log).map_err(unusable)).await
    }

    fn fails(&self, told: String) -> Failure {
        Failure::Answer(told)
    }
}

/// Removes what a spool holds of the log before `stored`: whole segments, but for the newest, with which the program goes on.
pub(in crate::sources::postgres) fn trim(
    spool: &Path,
    stored: &crate::artifact::manifest::Edge,
) -> Result<(), Failure> {
    archive::trim(spool, stored).map_err(unusable)?;
    let mut stretches = spool::stretches(spool).map_err(unusable)?.into_iter();
    if let Some(current) = stretches.next() {
        ahead::trim(&current, stored).map_err(unusable)?;
    }
    for earlier in stretches {
        ahead::trim(&earlier, stored).map_err(unusable)?;
        if !ahead::is_wanted(&earlier, stored).map_err(unusable)? {
            fs::remove_dir_all(&earlier).map_err(unusable)?;
        }
    }
    Ok(())
}

fn unusable(error: io::Error) -> Failure {
    Failure::Refused(format!(
        "the spool of the log's reader can't be used: {error}; see that state_dir has room"
    ))
}
