//! The log: every binary log file that the server has closed since the last artifact, read over the replication protocol.
//!
//! The server is told to begin a new file, so that what came before is closed and has its final size. The server's own
//! program writes each file into a named pipe, so that nothing is staged on disk. What a reader has is taken from it; where the
//! server can't be reached, or does not go on from the last artifact, that is all there is.

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::{OpenOptions, Receiver},
    time::timeout,
};

use super::{
    ANSWER, Failure,
    access::Access,
    ahead::{Ahead, Between, Kept},
    gtids,
    reader::{blocking, unusable},
    session::Session,
};
use crate::{
    artifact::{
        manifest::{Details, Edge, Moment},
        position::LogPosition,
        transactions::Transactions,
    },
    process::{ProcessError, Program},
    scratch,
    sources::{
        CaptureRequest, Captured, Sink,
        entries::{END, Entry, is_plain},
    },
};

/// Where the first event of a file stands: behind its magic number.
pub(super) const FIRST: u64 = 4;
const CHUNK: usize = 128 * 1024;

/// Captures what the server wrote since `request.continues`. Where some of that is gone already, the log begins with what is
/// still there, and says so by where it begins.
pub(super) async fn capture(
    access: &Access,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let missing = || Failure::Refused("it is not told where the last artifact ends".to_owned());
    let continues = request.continues.as_ref().ok_or_else(missing)?;
    let reached = reach(access, continues, request).await;
    let ahead = match &reached {
        Err(failure) if failure.may_pass() => ahead_of(request, continues).await?,
        Ok(reached) if reached.span.begins == Begins::WithWhatIsThere => ahead_of(request, continues).await?,
        _ => None,
    };
    let (from, until, version) = match (ahead, reached) {
        (Some((ahead, until)), _) => {
            ahead.send(sink).await?;
            (continues.clone(), until, ("log".to_owned(), "as a reader had received it".to_owned()))
        }
        (None, Ok(Reached { version, span, between })) => {
            stream_all(access, request, (&span, &between), sink).await?;
            (span.from, span.until, ("server".to_owned(), version))
        }
        (None, Err(failure)) => return Err(failure),
    };
    sink.write(Bytes::from_static(&END)).await?;
    Ok(Captured {
        moment: Moment::Window { from, until, named: Vec::new() },
        details: Details { versions: [version].into(), ..Details::default() },
    })
}

/// A server that answers, and closed its file.
struct Reached {
    version: String,
    span: Span,
    /// What it tells of the transactions around each of the files, where a reader may have these.
    between: BTreeMap<String, Between>,
}

async fn reach(access: &Access, continues: &Edge, request: &CaptureRequest<'_>) -> Result<Reached, Failure> {
    let mut session = Session::open(access, None, ANSWER)?;
    let version = session.one("SELECT VERSION()").await?;
    access.must_be_for(&version)?;
    let server = session.server_identity().await?;
    // What is committed before the file is closed stands in it or in one before.
    let now = Session::clocks(access, request).await?.log_end();
    let mut files = closed(&mut session, server).await?;
    files.told = told(access, &mut session, &files, continues).await?;
    let span = span(files, continues, now)?;
    let between = match request.spool {
        Some(_) => between(access, &mut session, &span).await?,
        None => BTreeMap::new(),
    };
    Ok(Reached { version, span, between })
}

/// Asks between which transactions the server has each of the files.
async fn between(
    access: &Access,
    session: &mut Session,
    span: &Span,
) -> Result<BTreeMap<String, Between>, Failure> {
    let (mut all, mut behind) = (BTreeMap::new(), Transactions::of_position(&span.until.position));
    for file in span.files.iter().rev() {
        let before = gtids::before(access, session, &file.name).await?;
        all.insert(file.name.clone(), Between { before: before.clone(), behind });
        behind = before;
    }
    Ok(all)
}

/// What a reader has behind the last artifact, and where that ends.
async fn ahead_of(request: &CaptureRequest<'_>, continues: &Edge) -> Result<Option<(Ahead, Edge)>, Failure> {
    let Some(spool) = request.spool.clone() else { return Ok(None) };
    let (from, now) = (continues.clone(), request.now());
    blocking(move || {
        let ahead = Ahead::of_place(&spool, &from).map_err(unusable)?;
        Ok(ahead.and_then(|ahead| ahead.until(&from, now).map(|until| (ahead, until))))
    })
    .await
}

/// Streams the files, those from a reader that it has whole.
async fn stream_all(
    access: &Access,
    request: &CaptureRequest<'_>,
    (span, between): (&Span, &BTreeMap<String, Between>),
    sink: &mut dyn Sink,
) -> Result<(), Failure> {
    let pipes = scratch::folder().map_err(|error| Failure::Refused(error.to_string()))?;
    for file in &span.files {
        let kept = match between.get(&file.name) {
            Some(between) => read_before(request, span, file, between).await?,
            None => None,
        };
        match kept {
            Some(kept) => kept.send(sink).await?,
            None => stream(access, file, pipes.path(), request.stall, sink).await?,
        }
    }
    Ok(())
}

async fn read_before(
    request: &CaptureRequest<'_>,
    span: &Span,
    file: &Entry,
    between: &Between,
) -> Result<Option<Kept>, Failure> {
    let Some(spool) = request.spool.clone() else { return Ok(None) };
    let (server, file, between) = (span.server.clone(), file.clone(), between.clone());
    blocking(move || Kept::closed(&spool, &server, &file, &between).map_err(unusable)).await
}

/// The server's files.
struct Files {
    /// Whose they are.
    server: String,
    /// Those that are complete, oldest first.
    closed: Vec<Entry>,
    /// The one that is written.
    active: String,
    /// What the server tells of transactions.
    told: Told,
}

/// The transactions before some places; none where nobody can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    /// Before the file that is written.
    active: Transactions,
    /// Before each closed file that is asked for.
    files: BTreeMap<String, Transactions>,
    /// Of the place where the last artifact ends.
    last: LastPlace,
}

/// Whether the place where the last artifact ends is in this log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LastPlace {
    /// As far as anything tells.
    #[default]
    MayBe,
    /// Transactions tell that it is in another one.
    IsNot,
}

/// Begins a new file, and lists those before it.
async fn closed(session: &mut Session, server: String) -> Result<Files, Failure> {
    session.rows("FLUSH BINARY LOGS").await?;
    let rows = session.rows("SHOW BINARY LOGS").await?;
    let mut files = Vec::new();
    for row in rows {
        let [name, size] = match row.as_slice() {
            [name, size, ..] => [name, size],
            _ => return Err(Failure::Answer("the server's list of binary logs can't be read".to_owned())),
        };
        let size = size.parse().map_err(|_| Failure::Answer(format!("the size of {name:?} is no number")))?;
        if !is_plain(name) {
            return Err(Failure::Answer(format!("{name:?} is no name of a binary log")));
        }
        files.push(Entry { name: name.clone(), size });
    }
    let active = files.pop().ok_or_else(|| Failure::Answer("the server keeps no binary log".to_owned()))?;
    Ok(Files { server, closed: files, active: active.name, told: Told::default() })
}

/// Asks what the server finds at the beginnings of its files and where the last artifact ends.
async fn told(
    access: &Access,
    session: &mut Session,
    files: &Files,
    continues: &Edge,
) -> Result<Told, Failure> {
    let active = gtids::before(access, session, &files.active).await?;
    let mut told = Told { active, ..Told::default() };
    let place = file_and_offset(&continues.position);
    for file in &files.closed {
        let is_last = place.as_ref().is_some_and(|(name, _)| *name == file.name);
        // The log begins with one of these two.
        if is_last || told.files.is_empty() {
            told.files.insert(file.name.clone(), gtids::before(access, session, &file.name).await?);
        }
        if let Some((_, offset)) = place.as_ref().filter(|_| is_last)
            && !gtids::has_place(access, session, &continues.position, (&file.name, *offset)).await?
        {
            told.last = LastPlace::IsNot;
        }
    }
    Ok(told)
}

/// The file and the offset of a place, as the server names them.
pub(super) fn file_and_offset(position: &str) -> Option<(String, u64)> {
    let LogPosition::Binlog { offset, .. } = LogPosition::parse(position)? else { return None };
    let (file, _) = position.split(',').next()?.trim().rsplit_once(':')?;
    Some((file.to_owned(), offset))
}

/// What is captured.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    /// Whose files they are.
    server: String,
    files: Vec<Entry>,
    begins: Begins,
    from: Edge,
    until: Edge,
}

/// Where a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    WhereTheLastEnds,
    /// Where the last artifact ends is not in the server's log, or not any more.
    WithWhatIsThere,
}

/// The files since the last artifact. The log is complete up to `now`, for the file that is written now was begun later.
fn span(files: Files, continues: &Edge, now: Timestamp) -> Result<Span, Failure> {
    let place = |file: &str, offset: u64| format!("{file}:{offset}, server {}", files.server);
    let known = |transactions: &Transactions| match transactions.is_empty() {
        true => String::new(),
        false => format!(", gtid {transactions}"),
    };
    let active = place(&files.active, FIRST) + &known(&files.told.active);
    let until = Edge { time: now, position: active.clone() };
    let unreadable = |text: &str| Failure::Refused(format!("{text:?} is no place in a binary log"));
    let last = LogPosition::parse(&continues.position).ok_or_else(|| unreadable(&continues.position))?;
    let goes_on = |file: &Entry| {
        let (begin, end) = (place(&file.name, 0), place(&file.name, file.size));
        let [begin, end] = [&begin, &end].map(|text| LogPosition::parse(text));
        begin.is_some_and(|begin| begin <= last) && end.is_some_and(|end| last <= end)
    };
    if LogPosition::parse(&active).as_ref() == Some(&last) {
        let begins = Begins::WhereTheLastEnds;
        return Ok(Span { server: files.server, files: Vec::new(), begins, from: continues.clone(), until });
    }
    if files.told.last == LastPlace::IsNot {
        // What it holds before now is of no use: no data is there that it could go on from.
        let begins = Begins::WithWhatIsThere;
        return Ok(Span { server: files.server, files: Vec::new(), begins, from: until.clone(), until });
    }
    let first = files.closed.iter().position(goes_on);
    let captured = files.closed.get(first.unwrap_or(0)..).unwrap_or_default().to_vec();
    let begins = captured.first().map_or(active, |file| {
        let before = files.told.files.get(&file.name);
        place(&file.name, FIRST) + &before.map(known).unwrap_or_default()
    });
    // Where the last artifact's end is gone, or was another server's, nobody knows since when the log is whole.
    let (time, how) = match first {
        Some(_) => (continues.time, Begins::WhereTheLastEnds),
        None => (now, Begins::WithWhatIsThere),
    };
    let from = Edge { time, position: begins };
    Ok(Span { server: files.server, files: captured, begins: how, from, until })
}

/// Streams one file, which must have exactly the size that the server told.
async fn stream(
    access: &Access,
    file: &Entry,
    pipes: &Path,
    stall: Duration,
    sink: &mut dyn Sink,
) -> Result<(), Failure> {
    sink.write(Bytes::from(file.header()?)).await?;
    let unusable = |error: std::io::Error| Failure::Refused(format!("no pipe can be made: {error}"));
    let path = pipes.join(&file.name);
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .map_err(|error| unusable(error.into()))?;
    // Open for writing as well, so that the pipe has no end before the program has opened it.
    let mut pipe = OpenOptions::new().read_write(true).open_receiver(&path).map_err(unusable)?;
    let reading = reader(access, file, pipes)?.start()?.finish();
    let mut reading = std::pin::pin!(reading);
    let mut left = file.size;
    let mut has_ended = false;
    while left > 0 {
        let mut piece = BytesMut::with_capacity(CHUNK);
        let next = timeout(stall, pipe.read_buf(&mut piece));
        tokio::select! {
            biased;
            read = next => match read {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(unusable(error)),
                Err(_) => return Err(Failure::Answer(format!("the server was silent in the middle of {}", file.name))),
            },
            ended = &mut reading, if !has_ended => {
                ended?;
                has_ended = true;
                must_hold(&pipe, &mut piece, file)?;
            }
        }
        left = left.checked_sub(piece.len() as u64).ok_or_else(|| longer(file))?;
        sink.write(piece.freeze()).await?;
    }
    if !has_ended {
        timeout(stall, reading).await.map_err(|_| longer(file))??;
    }
    if let Ok(1..) = pipe.try_read(&mut [0]) {
        return Err(longer(file));
    }
    sink.write(Bytes::from(vec![0; file.padding()])).await?;
    Ok(())
}

/// What the program left in the pipe when it ended: the rest of the file, or the file was cut short.
fn must_hold(pipe: &Receiver, piece: &mut BytesMut, file: &Entry) -> Result<(), Failure> {
    match pipe.try_read_buf(piece) {
        Ok(1..) => Ok(()),
        Ok(0) | Err(_) => Err(Failure::Incomplete(format!(
            "{} is shorter than the server told: {} bytes",
            file.name, file.size
        ))),
    }
}

fn longer(file: &Entry) -> Failure {
    Failure::Incomplete(format!("{} is longer than the server told: {} bytes", file.name, file.size))
}

/// The program that writes a file of the server, as it is, into the pipe of its name.
fn reader(access: &Access, file: &Entry, pipes: &Path) -> Result<Program, Failure> {
    let mut folder = std::ffi::OsString::from("--result-file=");
    // The program puts the file's name behind it.
    folder.push(pipes.join(""));
    let reader = access.binlog(Duration::MAX)?;
    let reader = reader.arguments(["--read-from-remote-server", "--raw"]).argument(folder);
    Ok(reader.discard_output().argument("--").argument(&file.name))
}

impl From<&ProcessError> for Failure {
    fn from(error: &ProcessError) -> Self {
        Failure::Process(error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(closed: &[(&str, u64)], active: &str) -> Files {
        let entry = |(name, size): &(&str, u64)| Entry { name: (*name).to_owned(), size: *size };
        Files {
            server: "s".to_owned(),
            closed: closed.iter().map(entry).collect(),
            active: active.to_owned(),
            told: Told::default(),
        }
    }

    fn check(closed: &[(&str, u64)], active: &str, continues: &str, expect: (&str, &[&str], bool)) {
        let [before, now] =
            ["2026-11-20T10:00:00Z", "2026-11-20T10:15:00Z"].map(|text| text.parse().unwrap());
        let edge = Edge { time: before, position: format!("{continues}, server s") };
        let span = span(files(closed, active), &edge, now).unwrap();
        let names: Vec<&str> = span.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(
            (span.from.position.split(',').next().unwrap(), names.as_slice()),
            (expect.0, expect.1),
            "after {continues}"
        );
        assert_eq!(span.from.time, if expect.2 { before } else { now }, "after {continues}");
        assert_eq!(span.until, Edge { time: now, position: format!("{active}:4, server s") });
    }

    #[test]
    fn a_log_goes_on_with_the_file_in_which_the_last_artifact_ends() {
        let closed = [("bin.000001", 900), ("bin.000002", 600), ("bin.000003", 500)];
        check(
            &closed,
            "bin.000004",
            "bin.000002:300, gtid 0-7-1",
            ("bin.000002:4", &["bin.000002", "bin.000003"], true),
        );
        check(&closed, "bin.000004", "bin.000003:4", ("bin.000003:4", &["bin.000003"], true));
        check(&closed, "bin.000004", "bin.000002:600", ("bin.000002:4", &["bin.000002", "bin.000003"], true));
        check(&closed, "bin.000004", "bin.000004:4", ("bin.000004:4", &[], true));
    }

    #[test]
    fn a_log_whose_beginning_is_gone_begins_with_what_is_there() {
        let purged = [("bin.000007", 900), ("bin.000008", 600)];
        check(&purged, "bin.000009", "bin.000005:4", ("bin.000007:4", &["bin.000007", "bin.000008"], false));
        // Reset, and begun anew.
        check(&[("bin.000001", 900)], "bin.000002", "bin.000057:4", ("bin.000001:4", &["bin.000001"], false));
        check(
            &[("bin.000001", 900)],
            "bin.000002",
            "bin.000001:5000",
            ("bin.000001:4", &["bin.000001"], false),
        );
        check(&[], "bin.000002", "bin.000001:50", ("bin.000002:4", &[], false));
    }

    #[test]
    fn a_log_does_not_go_on_where_transactions_tell_that_it_was_reset() {
        let now: Timestamp = "2026-11-20T10:15:00Z".parse().unwrap();
        let position = "bin.000002:300, gtid 0-7-90,3-7-1, server s".to_owned();
        let edge = Edge { time: Timestamp::UNIX_EPOCH, position };
        let at = |last: LastPlace| {
            let mut files = files(&[("bin.000001", 900), ("bin.000002", 600)], "bin.000003");
            let told = |text: &str| Transactions::of_position(&format!("gtid {text}"));
            let before = [("bin.000001", ""), ("bin.000002", "0-7-80")];
            files.told = Told {
                active: told("0-7-200"),
                files: before.map(|(name, before)| (name.to_owned(), told(before))).into(),
                last,
            };
            span(files, &edge, now).unwrap()
        };
        let joined = at(LastPlace::MayBe);
        assert_eq!(joined.from.position, "bin.000002:4, server s, gtid 0-7-80");
        assert_eq!((joined.from.time, joined.files.len()), (edge.time, 1));
        let apart = at(LastPlace::IsNot);
        let until = Edge { time: now, position: "bin.000003:4, server s, gtid 0-7-200".to_owned() };
        assert_eq!((apart.files.len(), apart.from, apart.until), (0, until.clone(), until));
    }

    #[test]
    fn a_log_does_not_go_on_from_another_server_or_from_a_part_of_one() {
        let now = "2026-11-20T10:15:00Z".parse().unwrap();
        for position in ["bin.000002:300, server another", "bin.000002:300, gtid 0-7-1", "bin.000004:4"] {
            let edge = Edge { time: Timestamp::UNIX_EPOCH, position: position.to_owned() };
            let span = span(files(&[("bin.000002", 600)], "bin.000004"), &edge, now).unwrap();
            assert_eq!(span.from.time, now, "{position}");
        }
    }
}
