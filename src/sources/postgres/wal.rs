//! The write-ahead log: its segments since the last artifact, received by `pg_receivewal`.
//!
//! ```text
//! origin (whose log it is) · slot (what keeps it on the server) · span (what to receive)
//! segment (names and places) · receive (a few segments at a time) · marks (named points in them) · needs (what the
//! server lacks) · recovery (the way back)
//! ```
//!
//! The server is told to end its segment, so that what came before is complete. A replication slot makes it keep what is
//! not in a store yet: it moves on only to where the last artifact ends.

mod marks;
pub(super) mod needs;
mod origin;
mod receive;
pub(super) mod recovery;
mod segment;
mod slot;
mod span;

use bytes::Bytes;

use super::{ANSWER, Failure, access::Access, programs::Programs, session::Session};
use crate::{
    artifact::manifest::Details,
    sources::{CaptureRequest, Captured, Sink, entries::END, two_clocks::TwoClocks},
    spec::SlotName,
};
use marks::Marks;
use origin::Origin;
use receive::Receiver;
use slot::Slot;
use span::{End, Last, Span};

pub(super) use origin::position;
pub(super) use slot::kept;

/// Captures what the server wrote since `request.continues`. Where some of that is gone already, the log begins with what is
/// still there, and says so by where it begins.
pub(super) async fn capture(
    access: &Access,
    slot: &SlotName,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let missing = || Failure::Refused("it is not told where the last artifact ends".to_owned());
    let continues = request.continues.as_ref().ok_or_else(missing)?;
    let mut session = Session::open_for_replication(access, ANSWER).await?;
    let origin = Origin::ask(&mut session).await?;
    let programs = access.installed.for_server(origin.server.major)?;
    let place = Last::place(continues)?;
    let last = Last::in_log_of(&origin, continues, &place);
    origin::must_be_able_to_switch(&mut session, &origin.server.role).await?;
    let slot = Slot::take(&mut session, slot, last.map(|last| last.lsn())).await?;
    let end = end(&mut session, &origin, request).await?;
    let last = last.filter(|last| last.lsn() <= end.lsn);
    let receiver = Receiver { access, programs, origin: &origin, keeps: slot.keeps, stall: request.stall };
    let mut marks = Marks::default();
    let span = receive(&receiver, last, slot, end, &mut marks, sink).await?;
    sink.write(Bytes::from_static(&END)).await?;
    Ok(Captured { moment: span.moment(marks.named()), details: details(&origin, programs) })
}

/// Receives what follows the last artifact or, if the server has that no more, what its slot keeps.
async fn receive(
    receiver: &Receiver<'_>,
    last: Option<Last<'_>>,
    slot: Slot,
    end: End,
    marks: &mut Marks,
    sink: &mut dyn Sink,
) -> Result<Span, Failure> {
    if let Some(last) = last {
        let span = Span::from_last(receiver.origin, last, end);
        match receiver.receive(&span.segments, marks, sink).await {
            Ok(()) => return Ok(span),
            Err(Failure::Gone(_)) => {}
            Err(failure) => return Err(failure),
        }
    }
    let span = Span::from_slot(receiver.origin, slot.keeps, end);
    receiver.receive(&span.segments, marks, sink).await?;
    Ok(span)
}

/// Writes the time down, by a transaction of its own: recovery to a time ends at a later transaction, and fails where there
/// is none.
const MARK: &str = "SELECT pg_catalog.pg_current_xact_id()";

/// Ends the segment that is written now: what was committed before stands before that end.
async fn end(session: &mut Session, origin: &Origin, request: &CaptureRequest<'_>) -> Result<End, Failure> {
    let now = TwoClocks { ours: request.now(), servers: session.clock(MARK).await? };
    let [lsn] = session.row("SELECT pg_catalog.pg_switch_wal()").await?;
    Ok(End { time: now.log_end(), lsn: origin.segments.end_of(segment::lsn(&lsn)?) })
}

fn details(origin: &Origin, programs: &Programs) -> Details {
    let server = ("server".to_owned(), origin.server.version.clone());
    let receiver = ("receiver".to_owned(), programs.version.clone());
    Details { versions: [server, receiver].into(), ..Details::default() }
}
