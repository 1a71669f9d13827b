//! What a reader has of a log behind a place: proved record by record, for the server may not be there to ask.

use std::{
    fs::{self, File},
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    Failure,
    archive::stretches,
    files::send,
    marks::Marks,
    origin::{Log, ancestors},
    segment::{HEADER, HISTORY, PARTIAL, Segments, is_file, parts},
    span::{Last, Span},
    walk::{PAGE, Walk},
};
use crate::{
    artifact::{
        manifest::Edge,
        position::{History, Lsn, WalPosition},
    },
    sources::{Sink, entries::Entry},
};

/// How much of a file is looked at at a time, bytes.
const PIECE: usize = 1 << 20;

/// A history of a timeline is never longer than this, bytes.
const LONGEST_HISTORY: u64 = 1 << 20;

/// What one stretch of a spool has of a log from a segment on.
#[derive(Clone, Debug)]
pub(super) struct Ahead {
    folder: PathBuf,
    pub log: Log,
    /// Those of which something is whole.
    pub segments: Range<u64>,
    /// Up to this one they are whole from end to end.
    whole: u64,
    /// Where the last whole record begins: what stands before it can be come to.
    pub last: Lsn,
    /// Where it ends.
    end: Lsn,
    /// The latest time that the end of a transaction bears.
    time: Option<Timestamp>,
    /// When the last of it was written to the spool.
    written: Option<Timestamp>,
}

impl Ahead {
    /// What a spool has that goes on from the end of an artifact and reaches further, whatever the server is now.
    pub(super) fn of_place(spool: &Path, edge: &Edge) -> Result<Option<Self>, Failure> {
        let place = Last::place(edge)?;
        for folder in stretches(spool).map_err(unreadable(spool))? {
            let Some(log) = log_of(&folder, &place).map_err(unreadable(&folder))? else { continue };
            let ahead = Self::walk(&folder, log, place.lsn, u64::MAX).map_err(unreadable(&folder))?;
            if let Some(ahead) = ahead.filter(|ahead| ahead.last > place.lsn) {
                return Ok(Some(ahead));
            }
        }
        Ok(None)
    }

    /// What a spool has of `segments` of a server's log.
    pub(super) fn of_server(spool: &Path, log: &Log, segments: &Range<u64>) -> Result<Option<Self>, Failure> {
        for folder in stretches(spool).map_err(unreadable(spool))? {
            let from = log.segments.begin(segments.start);
            let ahead = Self::walk(&folder, log.clone(), from, segments.end).map_err(unreadable(&folder))?;
            if let Some(ahead) = ahead.filter(|ahead| ahead.whole > segments.start) {
                return Ok(Some(ahead));
            }
        }
        Ok(None)
    }

    /// Walks over the segments from the one that holds `from` to the one before `until`, as far as they are whole.
    fn walk(folder: &Path, log: Log, from: Lsn, until: u64) -> io::Result<Option<Self>> {
        let Ok(system) = log.system.parse() else { return Ok(None) };
        let first = log.segments.number(from);
        let mut walk = Walk::begin(log.segments, system, from);
        let (mut whole, mut written) = (first, None);
        for number in first..until {
            let Some((mut file, is_complete)) = open(folder, &log, number)? else { break };
            look(&mut file, &mut walk)?;
            written = file.metadata()?.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
            if walk.is_over() || !is_complete {
                break;
            }
            whole = number + 1;
        }
        let (Some(last), end) = (walk.last(), walk.end()) else { return Ok(None) };
        let segments = first..log.segments.number(log.segments.end_of(end));
        Ok(Some(Self {
            folder: folder.to_owned(),
            segments,
            whole,
            last,
            end,
            time: walk.time(),
            written,
            log,
        }))
    }

    /// The segments that are whole from end to end.
    pub(super) fn whole(&self) -> Range<u64> {
        self.segments.start..self.whole
    }

    /// What the log tells from the end of an artifact on, up to the last whole record. Nothing is claimed that is not in it: the
    /// time is that of the last end of a transaction, and the place the one before the last record.
    pub(super) fn span(&self, from: &Edge, now: Timestamp) -> Span {
        let known = now.min(self.written.unwrap_or(now));
        let time = self.time.unwrap_or(from.time).min(known).max(from.time);
        let until = Edge { time, position: self.log.position(self.last) };
        Span { segments: self.segments.clone(), from: from.clone(), until }
    }

    /// Sends all that is whole, and the histories of the timelines that it goes over since `place`.
    pub(super) async fn send(
        &self,
        place: &WalPosition<'_>,
        marks: &mut Marks,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        self.send_histories(place.history.timeline, sink).await?;
        let mut walk = self.send_segments(self.segments.clone(), marks, sink).await?;
        // The last page is looked at once it is complete, with the zeros that stand behind what is whole.
        walk.look(&[0; PAGE]);
        match walk.end() == self.end {
            true => Ok(()),
            false => Err(Failure::Incomplete(format!("{} changed while it was read", self.folder.display()))),
        }
    }

    /// Sends the segments that are whole from end to end, and the histories of the timelines that they go over. Returns what they
    /// tell.
    pub(super) async fn send_whole(&self, marks: &mut Marks, sink: &mut dyn Sink) -> Result<Self, Failure> {
        let (first, last) = (self.segments.start, Lsn(self.log.segments.begin(self.whole).0 - 1));
        self.send_histories(self.log.history.at(self.log.segments.begin(first)).timeline, sink).await?;
        let walk = self.send_segments(self.whole(), marks, sink).await?;
        let Some(record) = walk.last().filter(|_| !walk.is_over()) else {
            return Err(Failure::Incomplete(format!("{} changed while it was read", self.folder.display())));
        };
        let history = self.log.history.at(last);
        let log = Log { history, ..self.log.clone() };
        let (end, time) = (walk.end(), walk.time());
        Ok(Self { log, segments: self.whole(), last: record, end, time, ..self.clone() })
    }

    async fn send_histories(&self, known: u32, sink: &mut dyn Sink) -> Result<(), Failure> {
        let History { timeline, ancestors } = &self.log.history;
        let passed = ancestors.iter().map(|(timeline, _)| timeline).chain([timeline]);
        for timeline in passed.skip_while(|timeline| **timeline != known).skip(1) {
            let name = format!("{timeline:08X}{HISTORY}");
            let path = self.folder.join(&name);
            let Ok(found) = path.metadata() else { continue };
            send(&path, &Entry { name, size: found.len() }, found.len(), |_| (), sink).await?;
        }
        Ok(())
    }

    async fn send_segments(
        &self,
        numbers: Range<u64>,
        marks: &mut Marks,
        sink: &mut dyn Sink,
    ) -> Result<Walk, Failure> {
        let Log { segments, history, system } = &self.log;
        let changed = || Failure::Incomplete(format!("{} changed while it was read", self.folder.display()));
        let system = system.parse().map_err(|_| changed())?;
        let mut walk = Walk::begin(*segments, system, segments.begin(numbers.start));
        for number in numbers {
            let name = segments.file(number, history);
            let path = path_of(&self.folder, &name, *segments).ok_or_else(changed)?.0;
            let begin = segments.begin(number);
            // Behind the end of what is whole stands what nobody has proved.
            let real = if number < self.whole { segments.size() } else { self.end.0.saturating_sub(begin.0) };
            let look = |bytes: &[u8]| {
                walk.look(bytes);
                marks.look(bytes);
            };
            send(&path, &Entry { name, size: segments.size() }, real.min(segments.size()), look, sink)
                .await?;
        }
        Ok(walk)
    }
}

/// How far the log in a stretch is whole, if it is that of `log`: from the newest segment in it.
pub(super) fn end(folder: &Path, log: &Log) -> io::Result<Option<Lsn>> {
    let Some((_, number)) = newest(folder, log.segments)? else { return Ok(None) };
    let begin = log.segments.begin(number);
    Ok(Some(Ahead::walk(folder, log.clone(), begin, number + 1)?.map_or(begin, |ahead| ahead.end)))
}

/// The timeline and the number of the newest segment of a stretch, be it complete or not.
pub(super) fn newest(folder: &Path, segments: Segments) -> io::Result<Option<(u32, u64)>> {
    let named = names(folder)?;
    let numbers = named.iter().filter_map(|name| parts(name.strip_suffix(PARTIAL).unwrap_or(name), segments));
    Ok(numbers.max_by_key(|(timeline, number)| (*number, *timeline)))
}

/// The names of the files of a stretch.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.retain(|name| is_file(name.strip_suffix(PARTIAL).unwrap_or(name)));
    names.sort_unstable();
    Ok(names)
}

/// Whose log a stretch holds, as its own files tell, if `place` is in that.
fn log_of(folder: &Path, place: &WalPosition<'_>) -> io::Result<Option<Log>> {
    let Some((system, segments)) = head_of(folder)? else { return Ok(None) };
    let names = names(folder)?;
    let timelines =
        names.iter().filter_map(|name| parts(name.strip_suffix(PARTIAL).unwrap_or(name), segments));
    let Some(youngest) = timelines.map(|(timeline, _)| timeline).max() else { return Ok(None) };
    let history = match youngest == place.history.timeline {
        true => place.history.clone(),
        false => match history(folder, youngest)? {
            Some(history) if history.has(place) => history,
            _ => return Ok(None),
        },
    };
    Ok((place.system == Some(system.as_str())).then_some(Log { system, history, segments }))
}

fn history(folder: &Path, timeline: u32) -> io::Result<Option<History>> {
    let mut content = String::new();
    match File::open(folder.join(format!("{timeline:08X}{HISTORY}"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?.take(LONGEST_HISTORY).read_to_string(&mut content)?,
    };
    Ok(ancestors(&content).ok().map(|ancestors| History { timeline, ancestors }))
}

/// The cluster that the newest segment in which something was written names, and how it cuts its log.
pub(super) fn head_of(folder: &Path) -> io::Result<Option<(String, Segments)>> {
    let names = names(folder)?;
    let mut segments = names.iter().rev().filter(|name| !name.ends_with(HISTORY));
    Ok(segments.find_map(|name| head(&folder.join(name)).ok()?))
}

/// Removes the complete segments of a stretch that end before `stored`, but for its newest one.
pub(super) fn trim(folder: &Path, stored: &Edge) -> io::Result<()> {
    let Ok(place) = Last::place(stored) else { return Ok(()) };
    let Some(log) = log_of(folder, &place)? else { return Ok(()) };
    let complete = names(folder)?.into_iter().filter_map(|name| Some((parts(&name, log.segments)?, name)));
    let mut complete: Vec<_> = complete.collect();
    complete.sort_unstable_by_key(|((timeline, number), _)| (*number, *timeline));
    complete.pop();
    for ((timeline, number), name) in complete {
        let end = log.segments.begin(number + 1);
        let is_before = end <= place.lsn && log.history.at(end).timeline >= timeline;
        if is_before {
            fs::remove_file(folder.join(name))?;
        }
    }
    Ok(())
}

/// Whether something in a stretch that is no longer added to may still go on from what every store has, or from something behind
/// that.
pub(super) fn is_wanted(folder: &Path, stored: &Edge) -> io::Result<bool> {
    let Ok(place) = Last::place(stored) else { return Ok(true) };
    let Some(log) = log_of(folder, &place)? else { return Ok(false) };
    let numbers = names(folder)?;
    let first =
        numbers.iter().filter_map(|name| parts(name.strip_suffix(PARTIAL).unwrap_or(name), log.segments));
    let Some(first) = first.map(|(_, number)| number).min() else { return Ok(false) };
    if log.segments.begin(first) > place.lsn {
        return Ok(true);
    }
    let ahead = Ahead::walk(folder, log, place.lsn, u64::MAX)?;
    Ok(ahead.is_some_and(|ahead| ahead.last > place.lsn))
}

/// The cluster that the first page of a segment names, and how it cuts its log; `None` where nothing was written there yet.
fn head(path: &Path) -> io::Result<Option<(String, Segments)>> {
    let mut header = [0; HEADER];
    File::open(path)?.read_exact(&mut header)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = header[24..] else { return Ok(None) };
    let system = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let segments = Segments::of_bytes(u32::from_le_bytes([i, j, k, l]).into());
    Ok(segments.filter(|_| system != 0).map(|segments| (system.to_string(), segments)))
}

/// A segment of a stretch, and whether that is complete.
fn open(folder: &Path, log: &Log, number: u64) -> io::Result<Option<(File, bool)>> {
    match path_of(folder, &log.segments.file(number, &log.history), log.segments) {
        Some((path, is_complete)) => Ok(Some((File::open(path)?, is_complete))),
        None => Ok(None),
    }
}

fn path_of(folder: &Path, name: &str, segments: Segments) -> Option<(PathBuf, bool)> {
    let has_size = |path: &PathBuf| path.metadata().is_ok_and(|found| found.len() == segments.size());
    let (complete, partial) = (folder.join(name), folder.join(format!("{name}{PARTIAL}")));
    if has_size(&complete) {
        return Some((complete, true));
    }
    has_size(&partial).then_some((partial, false))
}

fn look(file: &mut File, walk: &mut Walk) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    while !walk.is_over() {
        match file.read(&mut piece)? {
            0 => break,
            length => walk.look(&piece[..length]),
        }
    }
    Ok(())
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Refused(format!("{}: {error}", path.display()))
}
