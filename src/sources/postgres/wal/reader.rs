//! The reader of a log as it is written: `pg_receivewal` without an end, looked after.
//!
//! It has no replication slot of its own and moves none: the backup's slot keeps on the server what no store has yet, also what
//! the reader has, so that a spool that is lost loses nothing.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    ANSWER, Failure,
    ahead::{self, names, newest},
    blocking,
    origin::{Log, Origin},
    segment::{self, PARTIAL},
    slot::{Slot, must_be_limited},
};
use crate::{
    artifact::position::Lsn,
    process::Process,
    sources::{
        Progress, Read, Reading,
        postgres::{
            access::Access,
            session::{MAINTENANCE, Session},
        },
        spool,
    },
    spec::SlotName,
};

/// How long after its start a reader is looked after first, and how often then.
const FIRST: Duration = Duration::from_secs(1);
const CHECK: Duration = Duration::from_secs(15);

/// How often it is looked whether what the server just had has come, and how long in between.
const LOOKS: usize = 10;
const PAUSE: Duration = Duration::from_millis(200);

/// What a server has, without what it has not made durable.
const FLUSHED: &str = "SELECT pg_catalog.pg_current_wal_flush_lsn()";

/// Reads until it is told to stop.
pub(in crate::sources::postgres) async fn read(
    access: &Access,
    slot: &SlotName,
    reading: &Reading<'_>,
) -> Result<Read, Failure> {
    let (log, folder, program) = begin(access, slot, reading.spool).await?;
    let mut watch = Watch { access, log, folder, had: None };
    let mut program = program;
    let mut next = FIRST;
    loop {
        tokio::select! {
            biased;
            () = reading.stop.cancelled() => {
                program.stop().await;
                return Ok(Read::Stopped);
            }
            ended = program.end() => {
                ended?;
                return Err(Failure::Answer("pg_receivewal ended by itself".to_owned()));
            }
            () = sleep(next) => {}
        }
        let looked = tokio::select! {
            () = reading.stop.cancelled() => continue,
            looked = watch.look() => looked,
        };
        match looked {
            Ok(progress) => reading.witness.saw(progress),
            Err(failure) => {
                program.stop().await;
                return Err(failure);
            }
        }
        next = CHECK;
    }
}

async fn begin(access: &Access, slot: &SlotName, spool: &Path) -> Result<(Log, PathBuf, Process), Failure> {
    let mut session = Session::open_for_replication(access, ANSWER).await?;
    let origin = Origin::ask(&mut session).await?;
    must_be_limited(&mut session).await?;
    let slot = Slot::take(&mut session, slot, None).await?;
    let [flushed] = session.row(FLUSHED).await?;
    let (log, flushed, keeps, spool) =
        (origin.log.clone(), segment::lsn(&flushed)?, slot.keeps, spool.to_owned());
    let folder = blocking(move || resume(&spool, &log, flushed, keeps).map_err(unusable)).await?;
    let programs = access.installed.for_server(origin.server.major)?;
    let program = access.program(programs, "pg_receivewal", Duration::MAX).dies_with_us()?;
    let program = program.arguments(["--no-loop", "--synchronous", "--directory"]).argument(&folder);
    Ok((origin.log, folder, program.discard_output().start()?))
}

/// The stretch that the server's log goes on from, or else a new one that begins with what the server keeps.
fn resume(spool: &Path, log: &Log, flushed: Lsn, keeps: Lsn) -> io::Result<PathBuf> {
    if let Some(folder) = spool::stretches(spool)?.into_iter().next() {
        tidy(&folder, log)?;
        if goes_on(&folder, log, flushed)? {
            return Ok(folder);
        }
    }
    let folder = spool::begin(spool)?;
    // The program goes on with the segment of which it finds a part.
    let first = log.segments.number(keeps);
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

/// Whether the newest segment of a stretch is one of the server's log, so that the program can go on with it.
fn goes_on(folder: &Path, log: &Log, flushed: Lsn) -> io::Result<bool> {
    let Some((timeline, number)) = newest(folder, log.segments)? else { return Ok(false) };
    let begin = log.segments.begin(number);
    let is_empty = |name: &String| folder.join(name).metadata().is_ok_and(|found| found.len() == 0);
    let is_ours = match ahead::head_of(folder)? {
        Some((system, segments)) => system == log.system && segments == log.segments,
        None => names(folder)?.iter().all(is_empty),
    };
    Ok(is_ours && begin <= flushed && log.history.at(begin).timeline == timeline)
}

/// Looks whether a reader keeps up: a program that waits on a dead connection says nothing.
struct Watch<'a> {
    access: &'a Access,
    log: Log,
    folder: PathBuf,
    /// What the server and the spool had when it was looked last and something was still to come.
    had: Option<(Lsn, Option<Lsn>)>,
}

impl Watch<'_> {
    async fn look(&mut self) -> Result<Progress, Failure> {
        let mut session = Session::open(self.access, MAINTENANCE, ANSWER).await?;
        let [flushed] = session.row(FLUSHED).await?;
        drop(session);
        let flushed = segment::lsn(&flushed)?;
        let mut has = None;
        for _ in 0..LOOKS {
            has = self.end().await?;
            if has.is_some_and(|has| has >= flushed) {
                self.had = None;
                return Ok(Progress::Complete);
            }
            sleep(PAUSE).await;
        }
        if let Some((before, had)) = self.had
            && had == has
            && has.is_none_or(|has| has < before)
        {
            return Err(Failure::Answer(format!(
                "pg_receivewal has received nothing since the last look, where the server has more: {before}"
            )));
        }
        self.had = Some((flushed, has));
        Ok(Progress::Behind)
    }

    async fn end(&self) -> Result<Option<Lsn>, Failure> {
        let (folder, log) = (self.folder.clone(), self.log.clone());
        blocking(move || ahead::end(&folder, &log).map_err(unusable)).await
    }
}

/// Removes what a spool holds of the log before `stored`: whole segments, but for the newest, with which the program goes on.
pub(in crate::sources::postgres) fn trim(
    spool: &Path,
    stored: &crate::artifact::manifest::Edge,
) -> Result<(), Failure> {
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
