//! Recovery windows: the stretches of time to any moment of which a backup can be brought back in a store.

use jiff::Timestamp;

use super::{StoredArtifact, StoredBackup};
use crate::artifact::{Kind, manifest::Edge, position::LogPosition};

/// What is to be applied to come to any moment of a stretch of time: data, and the logs that go on from there without a gap.
#[derive(Clone, Debug)]
pub struct Window<'a> {
    /// The data that it begins with.
    pub base: &'a StoredArtifact,
    /// The logs, in the order in which they are replayed.
    pub logs: Vec<&'a StoredArtifact>,
}

impl<'a> Window<'a> {
    /// The first moment.
    pub fn start(&self) -> Timestamp {
        self.base.newest
    }

    /// The last moment.
    pub fn end(&self) -> Timestamp {
        self.newest().newest.max(self.base.newest)
    }

    /// What brings back the last moment.
    pub fn newest(&self) -> &'a StoredArtifact {
        self.logs.last().copied().unwrap_or(self.base)
    }

    /// From where to where in the engine's log it goes, for people.
    pub fn edges(&self) -> (String, String) {
        let edge = |artifact: &StoredArtifact| artifact.position.as_deref().unwrap_or_default().to_owned();
        (edge(self.base), edge(self.newest()))
    }

    /// Where in the engine's log it ends.
    pub fn position(&self) -> Option<&'a str> {
        self.newest().position.as_deref()
    }
}

/// Every window of what a store holds of a backup, one for each good artifact that tells where in the log it stands; oldest
/// first. Where logs have a gap, the windows before it end.
pub fn windows(stored: &StoredBackup, now: Timestamp) -> Vec<Window<'_>> {
    let good = || stored.artifacts.iter().filter(|a| a.is_good() && !a.is_from_the_future(now));
    let mut logs: Vec<Log<'_>> = good().filter_map(Log::of).collect();
    logs.sort_by(|one, other| {
        one.until
            .in_sequence(&other.until)
            .then((one.artifact.newest, one.artifact.id).cmp(&(other.artifact.newest, other.artifact.id)))
    });
    let windows = good().filter(|a| a.kind != Kind::Log).filter_map(|base| window(base, &logs));
    let mut windows: Vec<Window<'_>> = windows.filter(|window| stored.is_whole(window.base)).collect();
    windows.sort_by_key(|window| (window.start(), window.base.id));
    windows
}

struct Log<'a> {
    artifact: &'a StoredArtifact,
    from: LogPosition<'a>,
    until: LogPosition<'a>,
}

impl<'a> Log<'a> {
    fn of(artifact: &'a StoredArtifact) -> Option<Self> {
        let from = LogPosition::parse(&artifact.from()?.position)?;
        let until = LogPosition::parse(artifact.position.as_deref()?)?;
        (artifact.kind == Kind::Log).then_some(Self { artifact, from, until })
    }
}

fn window<'a>(base: &'a StoredArtifact, logs: &[Log<'a>]) -> Option<Window<'a>> {
    let mut window = Window { base, logs: Vec::new() };
    let mut place = LogPosition::parse(base.position.as_deref()?)?;
    for log in logs {
        // A log that ends where the last one did tells that nothing happened until a later moment.
        let goes_on = log.until > place || (log.until == place && log.artifact.newest > window.end());
        if log.from <= place && goes_on {
            place = log.until.clone();
            window.logs.push(log.artifact);
        }
    }
    Some(window)
}

/// Up to where in the engine's log every one of `stores` has it, without a gap since data that is there as well; `None` where
/// one of them has none, or where they have different logs.
pub fn logged_everywhere(stores: &[&StoredBackup], now: Timestamp) -> Option<Edge> {
    let ends: Option<Vec<Edge>> = stores.iter().map(|stored| logged(stored, now)).collect();
    ends?.into_iter().map(Some).reduce(|one, other| {
        let (one, other) = (one?, other?);
        let order = LogPosition::parse(&one.position)?.partial_cmp(&LogPosition::parse(&other.position)?)?;
        Some(if order.is_le() { one } else { other })
    })?
}

/// The furthest end of a log that goes on from data without a gap.
fn logged(stored: &StoredBackup, now: Timestamp) -> Option<Edge> {
    let with_logs = windows(stored, now).into_iter().filter(|window| !window.logs.is_empty());
    let furthest = with_logs.max_by_key(|window| (window.end(), window.base.id))?;
    Some(Edge { time: furthest.end(), position: furthest.position()?.to_owned() })
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Stretch {
    /// Its first moment.
    pub start: Timestamp,
    /// Its last moment.
    pub end: Timestamp,
}

/// The moments of all windows with logs, those that touch joined; oldest first.
pub fn stretches<'a>(windows: impl IntoIterator<Item = &'a Window<'a>>) -> Vec<Stretch> {
    let with_logs = windows.into_iter().filter(|window| !window.logs.is_empty());
    let mut all: Vec<Stretch> =
        with_logs.map(|window| Stretch { start: window.start(), end: window.end() }).collect();
    all.sort_by_key(|stretch| stretch.start);
    let mut joined: Vec<Stretch> = Vec::new();
    for stretch in all {
        match joined.last_mut() {
            Some(last) if stretch.start <= last.end => last.end = last.end.max(stretch.end),
            _ => joined.push(stretch),
        }
    }
    joined
}
