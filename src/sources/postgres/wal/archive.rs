//! A log that the server archives itself: its `archive_command` puts segments into the spool, and no slot keeps them on the server.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{
    ANSWER, Failure,
    ahead::{self, Ahead},
    ahead_of, blocking, details, end,
    marks::Marks,
    origin::{self, Log, Origin},
    read_ahead,
    segment::is_file,
    span::{End, Last, Span},
};
use crate::{
    artifact::manifest::Edge,
    sources::{
        ARCHIVE, CaptureRequest, Captured, Sink,
        entries::END,
        postgres::{access::Access, session::Session},
    },
};

/// How long the server may take to archive a segment that it has ended, and how often it is looked.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// How the names end of what tells of a backup's beginning.
const BACKUP: &str = ".backup";

/// Captures what the server has archived since `request.continues`.
pub(super) async fn capture(
    access: &Access,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let missing = || Failure::Refused("it is not told where the last artifact ends".to_owned());
    let continues = request.continues.as_ref().ok_or_else(missing)?;
    let spool =
        request.spool.as_ref().ok_or_else(|| Failure::Refused("there is no archive here".to_owned()))?;
    let place = Last::place(continues)?;
    let mut marks = Marks::default();
    let (span, told) = match ended(access, request).await {
        Ok((origin, end)) => {
            archived(spool, &origin.log, end).await?;
            let last = Last::in_log_of(&origin.log, continues, &place).filter(|last| last.lsn() <= end.lsn);
            let span = match (last, ahead_of(request, continues).await?) {
                (_, Some(ahead)) => {
                    ahead.send(&place, &mut marks, sink).await?;
                    span_of(&ahead, &origin.log, last, end, continues, request)
                }
                // Nothing was written since.
                (Some(last), None) if last.lsn() == end.lsn => Span::from_last(&origin.log, last, end),
                (_, None) => anew(spool, &origin.log, end, &mut marks, sink).await?,
            };
            let programs = access.installed.for_server(origin.server.major)?;
            (span, details(&origin, programs))
        }
        Err(failure) if failure.may_pass() => {
            let Some(ahead) = ahead_of(request, continues).await? else { return Err(failure) };
            ahead.send(&place, &mut marks, sink).await?;
            (ahead.span(continues, request.now()), read_ahead())
        }
        Err(failure) => return Err(failure),
    };
    sink.write(Bytes::from_static(&END)).await?;
    Ok(Captured { moment: span.moment(marks.named()), details: told })
}

/// Has the server end its segment.
async fn ended(access: &Access, request: &CaptureRequest<'_>) -> Result<(Origin, End), Failure> {
    let mut session = Session::open_for_replication(access, ANSWER).await?;
    let origin = Origin::ask(&mut session).await?;
    access.installed.for_server(origin.server.major)?;
    origin::must_be_able_to_switch(&mut session, &origin.server.role).await?;
    let end = end(&mut session, &origin.log, request).await?;
    Ok((origin, end))
}

/// Waits until the server has archived the segment that it has ended.
async fn archived(spool: &Path, log: &Log, end: End) -> Result<(), Failure> {
    let last = log.segments.number(end.lsn) - 1;
    let name = log.segments.file(last, &log.history);
    let (path, deadline) = (folder(spool).join(&name), Instant::now() + PATIENCE);
    while !path.exists() {
        if Instant::now() > deadline {
            return Err(Failure::Answer(format!(
                "the server has not archived segment {name} within {} seconds; see pg_stat_archiver on it, and that its \
                 archive_command is `backstay wal-push NAME %p`",
                PATIENCE.as_secs()
            )));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// All of the log up to where the server ended its segment, where all of that is archived; otherwise up to where something is missing.
fn span_of(
    ahead: &Ahead,
    log: &Log,
    last: Option<Last<'_>>,
    end: End,
    continues: &Edge,
    request: &CaptureRequest<'_>,
) -> Span {
    match last.filter(|_| ahead.log.system == log.system && ahead.whole().end >= log.segments.number(end.lsn))
    {
        Some(last) => Span::from_last(log, last, end),
        None => ahead.span(continues, request.now()),
    }
}

/// Begins anew with what is archived without a gap up to the end: nobody knows since when that is whole.
async fn anew(
    spool: &Path,
    log: &Log,
    end: End,
    marks: &mut Marks,
    sink: &mut dyn Sink,
) -> Result<Span, Failure> {
    let until = log.segments.number(end.lsn);
    let first = first_of_run(&folder(spool), log, until);
    let (place, of, segments): (PathBuf, Log, Range<u64>) = (spool.to_owned(), log.clone(), first..until);
    let read = blocking(move || Ahead::of_server(&place, &of, &segments)).await?;
    let read = read.filter(|read| read.whole().end == until);
    let broken = || Failure::Incomplete("what was archived last is not whole".to_owned());
    read.ok_or_else(broken)?.send_whole(marks, sink).await?;
    Ok(Span::from_slot(log, log.segments.begin(first), end))
}

/// The first of the segments that are there one after another up to this one.
fn first_of_run(folder: &Path, log: &Log, until: u64) -> u64 {
    let is_there = |number: &u64| folder.join(log.segments.file(*number, &log.history)).exists();
    (0..until).rev().take_while(is_there).last().unwrap_or(until)
}

fn folder(spool: &Path) -> PathBuf {
    spool.join(ARCHIVE)
}

/// The stretches in which log may be: what is archived, and what readers left.
pub(super) fn stretches(spool: &Path) -> std::io::Result<Vec<PathBuf>> {
    let archive = Some(folder(spool)).filter(|archive| archive.is_dir());
    Ok(archive.into_iter().chain(crate::sources::spool::stretches(spool)?).collect())
}

/// Removes from the archive what every store has.
pub(super) fn trim(spool: &Path, stored: &Edge) -> std::io::Result<()> {
    let archive = folder(spool);
    if !archive.is_dir() {
        return Ok(());
    }
    ahead::trim(&archive, stored)?;
    // What tells of a backup's beginning is of no use without the segment that it names.
    let names = fs::read_dir(&archive)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let names: Vec<String> = names.collect();
    for name in names.iter().filter(|name| name.ends_with(BACKUP)) {
        let segment = name.get(..24).unwrap_or_default();
        let oldest = names.iter().filter(|name| is_file(name) && name.len() == segment.len()).min();
        if oldest.is_some_and(|oldest| segment < oldest.as_str()) {
            fs::remove_file(archive.join(name))?;
        }
    }
    Ok(())
}
