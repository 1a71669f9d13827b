//! A log: the entries since the last artifact, in the format of `oplog.bson`, which `mongorestore --oplogReplay` reads: BSON documents
//! in a row. The last one says how many there are.

use bson::Timestamp;

use super::{
    super::{Failure, access::Access, pieces::Pieces},
    Found, Oplog, Settled, entry,
    read::{Purpose, Reading},
};
use crate::{
    artifact::{
        manifest::{Details, Edge, Moment},
        position::LogPosition,
    },
    sources::{CaptureRequest, Captured, Sink},
};

/// Captures what happened since `request.continues`. Where some of that is gone already, or can't be replayed, the log begins
/// behind it, and says so by where it begins.
pub(in super::super) async fn capture(
    access: &Access,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let missing = || Failure::Refused("it is not told where the last artifact ends".to_owned());
    let continues = request.continues.as_ref().ok_or_else(missing)?;
    let oplog = match Oplog::open(access).await? {
        Found::Oplog(oplog) => oplog,
        Found::Nothing(why) => return Err(Failure::NoLog(why)),
    };
    let settled = oplog.settled().await?;
    let begin = Begin::decide(&oplog, continues, settled, request).await?;
    let from = begin.edge(&oplog, continues, settled);
    let mut pieces = Pieces::begin(sink, &[]);
    let mut notes = Vec::new();
    match begin {
        Begin::WithNow => {}
        Begin::Continued(reading) => reading.stream(Purpose::Log, &mut pieces).await?,
        Begin::Anew { reading, why } => {
            notes.push(why);
            reading.stream(Purpose::Log, &mut pieces).await?;
        }
    }
    let end = entry::end(settled.stamp, pieces.count).to_vec().map_err(|error| entry::unreadable(&error))?;
    pieces.end(&end).await?;
    let until = Edge { time: settled.time.max(from.time), position: oplog.position(settled.stamp) };
    Ok(Captured {
        moment: Moment::Window { from, until, named: Vec::new() },
        details: Details {
            versions: [("server".to_owned(), access.version.for_people())].into(),
            omitted: notes,
            ..Details::default()
        },
    })
}

/// Where a log begins.
enum Begin<'a> {
    /// Where the last artifact ends.
    Continued(Reading<'a>),
    /// With what can still be replayed.
    Anew { reading: Reading<'a>, why: String },
    /// Nothing before now is of use: it is another log.
    WithNow,
}

impl<'a> Begin<'a> {
    async fn decide(
        oplog: &'a Oplog<'a>,
        continues: &Edge,
        settled: Settled,
        request: &CaptureRequest<'_>,
    ) -> Result<Self, Failure> {
        let Some(last) = last(&oplog.log, continues)? else { return Ok(Begin::WithNow) };
        must_have_come_to(last, settled.stamp)?;
        let obstacle = oplog.obstacle(last, settled.stamp, request.stall).await?;
        let from = obstacle.as_ref().map_or(last, |(stamp, _)| *stamp);
        let Some(reading) = Reading::begin(oplog, from, settled.stamp, request.stall).await? else {
            return Ok(Begin::WithNow);
        };
        match obstacle {
            None if reading.begins == last => Ok(Begin::Continued(reading)),
            None => Ok(Begin::Anew { reading, why: "entries that the oplog held no more".to_owned() }),
            Some((_, what)) => Ok(Begin::Anew { reading, why: format!("what can't be replayed: {what}") }),
        }
    }

    /// Where that is. Where the last artifact's end is gone nobody knows since when the log is whole, but that it is from now on.
    fn edge(&self, oplog: &Oplog<'_>, continues: &Edge, settled: Settled) -> Edge {
        let time = settled.time.max(continues.time);
        match self {
            Begin::Continued(_) => continues.clone(),
            Begin::Anew { reading, .. } => Edge { time, position: oplog.position(reading.begins) },
            Begin::WithNow => Edge { time, position: oplog.position(settled.stamp) },
        }
    }
}

/// Refuses to go back: a log that ended before the last artifact would leave a gap where there is none.
fn must_have_come_to(last: Timestamp, settled: Timestamp) -> Result<(), Failure> {
    match last <= settled {
        true => Ok(()),
        false => Err(Failure::Answer(format!(
            "this member is behind what was captured: {}:{}, and its oplog is settled up to {}:{}",
            last.time, last.increment, settled.time, settled.increment
        ))),
    }
}

/// Where the last artifact ends, if that is in this log.
fn last(log: &str, continues: &Edge) -> Result<Option<Timestamp>, Failure> {
    match LogPosition::parse(&continues.position) {
        Some(LogPosition::Oplog(place)) => {
            let stamp = Timestamp { time: place.time, increment: place.increment };
            Ok((place.log == log).then_some(stamp))
        }
        _ => Err(Failure::Refused(format!("{:?} is no place in an oplog", continues.position))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_goes_back_and_goes_on_from_its_own_only() {
        let at = |time, increment| Timestamp { time, increment };
        assert!(must_have_come_to(at(9, 1), at(9, 1)).is_ok());
        assert!(must_have_come_to(at(8, 7), at(9, 1)).is_ok());
        let behind = must_have_come_to(at(9, 2), at(9, 1)).unwrap_err();
        let behind = behind.explain("capture", "all databases".to_owned(), None);
        assert!(behind.to_string().contains("behind what was captured"), "{behind}");
        assert_eq!(behind.class, crate::stores::Class::Retry);
        let edge = Edge { time: jiff::Timestamp::UNIX_EPOCH, position: "oplog 9:2 of x".to_owned() };
        assert_eq!(last("x", &edge).unwrap(), Some(at(9, 2)));
        assert_eq!(last("y", &edge).unwrap(), None);
    }
}
