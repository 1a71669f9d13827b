//! The write-ahead log: its segments since the last artifact, received by `pg_receivewal`.
//!
//! ```text
//! origin (whose log it is) · slot (what keeps it on the server) · span (what to receive)
//! segment (names and places) · receive (a few segments at a time) · marks (named points in them) · needs (what the
//! server lacks) · recovery (the way back)
//! reader (as it is written) · archive (as the server archives it) · ahead (what these have) · walk (how far that is whole)
//! ```
//!
//! The server is told to end its segment, so that what came before is complete. A replication slot makes it keep what is
//! not in a store yet: it moves on only to where the last artifact ends.

mod ahead;
mod archive;
mod files;
mod marks;
pub(super) mod needs;
mod origin;
pub(super) mod reader;
mod receive;
pub(super) mod recovery;
mod segment;
mod slot;
mod span;
mod walk;

use bytes::Bytes;

use super::{ANSWER, Failure, access::Access, programs::Programs, session::Session};
use crate::{
    artifact::{
        manifest::{Details, Edge},
        position::WalPosition,
    },
    sources::{CaptureRequest, Captured, Sink, entries::END, two_clocks::TwoClocks},
    spec::{LogFrom, SlotName},
};
use ahead::Ahead;
use marks::Marks;
use origin::{Log, Origin};
use receive::Receiver;
use slot::Slot;
use span::{End, Last, Span};

pub(super) use origin::position;
pub(super) use slot::kept;

/// Captures what was written since `request.continues`. Where some of that is gone already, the log begins with what is still
/// there, and says so by where it begins. What a reader has is taken from it; where the server can't be reached, or does not go on
/// from there, that is all there is.
pub(super) async fn capture(
    access: &Access,
    from: &LogFrom,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    match from {
        LogFrom::Slot(slot) => from_server(access, slot, request, sink).await,
        LogFrom::Archive => archive::capture(access, request, sink).await,
    }
}

async fn from_server(
    access: &Access,
    slot: &SlotName,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let missing = || Failure::Refused("it is not told where the last artifact ends".to_owned());
    let continues = request.continues.as_ref().ok_or_else(missing)?;
    let place = Last::place(continues)?;
    let reached = Reached::by(access, slot, continues, &place, request).await;
    let ahead = match &reached {
        Err(failure) if failure.may_pass() => ahead_of(request, continues).await?,
        Ok(reached) if reached.last.is_none() => ahead_of(request, continues).await?,
        _ => None,
    };
    let mut marks = Marks::default();
    let (span, details) = match (ahead, reached) {
        (Some(ahead), _) => {
            ahead.send(&place, &mut marks, sink).await?;
            (ahead.span(continues, request.now()), read_ahead())
        }
        (None, Ok(reached)) => {
            let span = reached.receive(access, request, &mut marks, sink).await?;
            (span, details(&reached.origin, reached.programs))
        }
        (None, Err(failure)) => return Err(failure),
    };
    sink.write(Bytes::from_static(&END)).await?;
    Ok(Captured { moment: span.moment(marks.named()), details })
}

/// What a reader has behind the last artifact.
async fn ahead_of(request: &CaptureRequest<'_>, continues: &Edge) -> Result<Option<Ahead>, Failure> {
    let Some(spool) = request.spool.clone() else { return Ok(None) };
    let continues = continues.clone();
    blocking(move || Ahead::of_place(&spool, &continues)).await
}

/// Looks into files, which may be many.
async fn blocking<T: Send + 'static>(
    look: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|died| Err(Failure::Incomplete(died.to_string())))
}

/// A server that answers, and ended its segment.
struct Reached<'a> {
    origin: Origin,
    programs: &'a Programs,
    /// Where the last artifact ends, if that is in its log.
    last: Option<Last<'a>>,
    slot: Slot,
    end: End,
}

impl<'a> Reached<'a> {
    async fn by(
        access: &'a Access,
        slot: &SlotName,
        continues: &'a Edge,
        place: &'a WalPosition<'a>,
        request: &CaptureRequest<'_>,
    ) -> Result<Self, Failure> {
        let mut session = Session::open_for_replication(access, ANSWER).await?;
        let origin = Origin::ask(&mut session).await?;
        let programs = access.installed.for_server(origin.server.major)?;
        let last = Last::in_log_of(&origin.log, continues, place);
        origin::must_be_able_to_switch(&mut session, &origin.server.role).await?;
        let slot = Slot::take(&mut session, slot, last.map(|last| last.lsn())).await?;
        let end = end(&mut session, &origin.log, request).await?;
        let last = last.filter(|last| last.lsn() <= end.lsn);
        Ok(Self { origin, programs, last, slot, end })
    }

    /// Receives what follows the last artifact or, if the server has that no more, what its slot keeps.
    async fn receive(
        &self,
        access: &Access,
        request: &CaptureRequest<'_>,
        marks: &mut Marks,
        sink: &mut dyn Sink,
    ) -> Result<Span, Failure> {
        let Self { origin: Origin { log, .. }, programs, slot, end, .. } = self;
        let receiver = Receiver { access, programs, log, keeps: slot.keeps, stall: request.stall };
        if let Some(last) = self.last {
            let mut span = Span::from_last(log, last, *end);
            let read = self.read_before(request, &span, marks, sink).await?;
            let first = read.as_ref().map_or(span.segments.start, |read| read.segments.end);
            match (receiver.receive(&(first..span.segments.end), marks, sink).await, read) {
                (Ok(()), _) => return Ok(span),
                // What the server dropped meanwhile is behind what the reader has: the log ends there.
                (Err(Failure::Gone(_)), Some(read)) => {
                    span = read.span(&span.from, request.now());
                    return Ok(span);
                }
                (Err(Failure::Gone(_)), None) => {}
                (Err(failure), _) => return Err(failure),
            }
        }
        let span = Span::from_slot(log, slot.keeps, *end);
        receiver.receive(&span.segments, marks, sink).await?;
        Ok(span)
    }

    /// Takes the first segments from what a reader has of them.
    async fn read_before(
        &self,
        request: &CaptureRequest<'_>,
        span: &Span,
        marks: &mut Marks,
        sink: &mut dyn Sink,
    ) -> Result<Option<Ahead>, Failure> {
        let Some(spool) = request.spool.clone() else { return Ok(None) };
        let (log, segments) = (self.origin.log.clone(), span.segments.clone());
        match blocking(move || Ahead::of_server(&spool, &log, &segments)).await? {
            Some(read) => read.send_whole(marks, sink).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Writes the time down, by a transaction of its own: recovery to a time ends at a later transaction, and fails where there
/// is none.
const MARK: &str = "SELECT pg_catalog.pg_current_xact_id()";

/// Ends the segment that is written now: what was committed before stands before that end.
async fn end(session: &mut Session, log: &Log, request: &CaptureRequest<'_>) -> Result<End, Failure> {
    let now = TwoClocks { ours: request.now(), servers: session.clock(MARK).await? };
    let [lsn] = session.row("SELECT pg_catalog.pg_switch_wal()").await?;
    Ok(End { time: now.log_end(), lsn: log.segments.end_of(segment::lsn(&lsn)?) })
}

/// Nobody was there to tell the server's version.
fn read_ahead() -> Details {
    let log = ("log".to_owned(), "as a reader had received it".to_owned());
    Details { versions: [log].into(), ..Details::default() }
}

fn details(origin: &Origin, programs: &Programs) -> Details {
    let server = ("server".to_owned(), origin.server.version.clone());
    let receiver = ("receiver".to_owned(), programs.version.clone());
    Details { versions: [server, receiver].into(), ..Details::default() }
}
