//! Restores to any second: data, and the logs that go on from there up to the moment.

use jiff::Timestamp;

use super::{CannotRestore, Point, Request};
use crate::{
    artifact::{
        ArtifactId, Kind,
        position::LogPosition,
        transactions::{Transaction, Transactions},
        until::{Place, Until},
    },
    inventory::{StoredArtifact, StoredBackup, Window, stretches, windows},
    plan::{
        action::{Destination, Restore},
        facts::Facts,
        lineage,
    },
    spec::names::StoreName,
};

/// The restore that replays logs, with its reason; `None` where no log has a say: there is none, or the point is data.
pub(super) fn restore(
    facts: &Facts<'_>,
    request: &Request,
) -> Result<Option<(Restore, String)>, CannotRestore> {
    let wanted = |store: &StoreName| request.from.as_ref().is_none_or(|from| from == store);
    let holdings: Vec<_> =
        facts.holdings(&request.backup).into_iter().filter(|(store, _)| wanted(store)).collect();
    let has_log = |stored: &StoredBackup| stored.artifacts.iter().any(|a| a.kind == Kind::Log && a.is_good());
    if !holdings.iter().any(|(_, stored)| has_log(stored)) {
        return Ok(None);
    }
    let reached = reached(facts, &holdings);
    let goal = goal(request, &reached)?;
    // A part goes through a private server: what is replayed there touches no original.
    let is_part = !request.paths.is_empty();
    let takes_logs = is_part || matches!(request.to, Destination::Folder(_) | Destination::InPlace);
    match (goal, &request.point) {
        (Some(goal), _) if takes_logs => Ok(Some(restore_to(request, &goal))),
        // The newest that can be restored there is the newest data.
        (Some(_), Point::Latest) => Ok(None),
        (Some(_), Point::At(_) | Point::Artifact(_) | Point::InLog(_)) => {
            let (backup, to) = (request.backup.clone(), request.to.to_string());
            Err(CannotRestore::NoPlaceForLogs { backup, to })
        }
        (None, Point::Artifact(id)) => match lone_log(&holdings, *id) {
            Some(log) => Err(unreached(request, log.newest, &reached)),
            None => Ok(None),
        },
        (None, Point::Latest | Point::At(_) | Point::InLog(_)) => Ok(None),
    }
}

/// The log of that name: without what it goes on from it brings nothing back.
fn lone_log<'a>(
    holdings: &[(&'a StoreName, &'a StoredBackup)],
    id: ArtifactId,
) -> Option<&'a StoredArtifact> {
    let logs = holdings.iter().filter_map(|(_, stored)| stored.artifact(id));
    logs.into_iter().find(|a| a.kind == Kind::Log)
}

fn unreached(request: &Request, at: Timestamp, reached: &[Reached<'_>]) -> CannotRestore {
    let windows = stretches(reached.iter().map(|it| &it.window));
    CannotRestore::NotInLog { backup: request.backup.clone(), at, windows }
}

/// A window, with the store that has it and what it is in.
struct Reached<'a> {
    store: &'a StoreName,
    stored: &'a StoredBackup,
    window: Window<'a>,
}

/// What can be reached whole, in the order of stores.
fn reached<'a>(facts: &Facts<'a>, holdings: &[(&'a StoreName, &'a StoredBackup)]) -> Vec<Reached<'a>> {
    let all = holdings.iter().flat_map(|(store, stored)| {
        windows(stored, facts.now).into_iter().map(|window| Reached { store, stored, window })
    });
    all.filter(|it| lineage::chain(it.stored, it.window.base.content()).is_ok()).collect()
}

/// What to replay to come to the point.
struct Goal<'a> {
    reached: &'a Reached<'a>,
    logs: Vec<&'a StoredArtifact>,
    until: Option<Until>,
}

fn goal<'a>(request: &Request, reached: &'a [Reached<'a>]) -> Result<Option<Goal<'a>>, CannotRestore> {
    match request.point {
        Point::InLog(ref place) => in_log(request, place, reached).map(Some),
        Point::At(at) => {
            let has = |it: &&Reached<'_>| it.window.start() <= at && at <= it.window.end();
            // The newest data leaves the least to replay; of equal ones the nearest store.
            let best = reached.iter().filter(has).rev().max_by_key(|it| it.window.start());
            let best = best.ok_or_else(|| unreached(request, at, reached))?;
            let before = best.window.logs.iter().take_while(|log| log.newest < at).count();
            let needed = if best.window.start() == at { 0 } else { before + 1 };
            let logs: Vec<_> = best.window.logs.iter().take(needed).copied().collect();
            Ok((!logs.is_empty()).then_some(Goal { reached: best, logs, until: Some(Until::Moment(at)) }))
        }
        Point::Latest => Ok(furthest(reached.iter(), |_| true)),
        Point::Artifact(id) => Ok(furthest(reached.iter(), |log| log.id == id || log.content() == id)),
    }
}

/// What to replay to come to a place that is no time.
fn in_log<'a>(
    request: &Request,
    place: &Until,
    reached: &'a [Reached<'a>],
) -> Result<Goal<'a>, CannotRestore> {
    let with_logs = reached.iter().filter_map(|it| Some((it, logs_up_to(&it.window, place)?)));
    // The newest data leaves the least to replay; of equal ones the nearest store.
    let best = with_logs.rev().max_by_key(|(it, _)| it.window.start());
    let unreached = || CannotRestore::PlaceNotInLog {
        backup: request.backup.clone(),
        place: place.clone(),
        windows: reached.iter().filter(|it| !it.window.logs.is_empty()).map(|it| it.window.edges()).collect(),
    };
    let (reached, logs) = best.ok_or_else(unreached)?;
    Ok(Goal { reached, logs: logs.to_vec(), until: Some(place.clone()) })
}

/// The logs of a window up to the one that has the place; `None` where none has.
fn logs_up_to<'w, 'a>(window: &'w Window<'a>, place: &Until) -> Option<&'w [&'a StoredArtifact]> {
    let ends_behind = |log: &&StoredArtifact| match place {
        Until::Moment(at) => log.newest >= *at,
        Until::Place(place) => lies_between(window.base, place, log),
        Until::Transaction(gtid) => has_come_to(log, gtid),
        Until::Named(name) => {
            log.named().iter().any(|it| it.name == *name && lies_between(window.base, &it.place, log))
        }
    };
    // The data itself must lie before.
    let is_before = match place {
        Until::Moment(at) => window.start() <= *at,
        Until::Transaction(gtid) => {
            let of_base = window.base.position.as_deref().map(Transactions::of_position).unwrap_or_default();
            !of_base.is_empty() && !of_base.have_come_to(gtid)
        }
        Until::Place(_) | Until::Named(_) => true,
    };
    let last = window.logs.iter().position(ends_behind).filter(|_| is_before)?;
    Some(&window.logs[..=last])
}

fn lies_between(base: &StoredArtifact, place: &Place, log: &StoredArtifact) -> bool {
    let position = |artifact: &StoredArtifact| artifact.position.clone();
    let (Some(from), Some(until)) = (position(base), position(log)) else { return false };
    match (place.position(), LogPosition::parse(&from), LogPosition::parse(&until)) {
        (Some(place), Some(from), Some(until)) => place.lies_between(&from, &until),
        _ => false,
    }
}

/// Whether an artifact ends with or behind a transaction.
fn has_come_to(artifact: &StoredArtifact, transaction: &Transaction) -> bool {
    artifact.position.as_deref().map(Transactions::of_position).unwrap_or_default().have_come_to(transaction)
}

/// The window that goes furthest, as far as a log for which `is_last` holds.
fn furthest<'a>(
    reached: impl Iterator<Item = &'a Reached<'a>>,
    is_last: impl Fn(&StoredArtifact) -> bool,
) -> Option<Goal<'a>> {
    let up_to = |it: &'a Reached<'a>| {
        let last = it.window.logs.iter().rposition(|log| is_last(log));
        (it, last.map_or(&[][..], |last| &it.window.logs[..=last]))
    };
    let all: Vec<_> = reached.map(up_to).collect();
    let end = |(it, logs): &(&Reached<'_>, &[&StoredArtifact])| {
        (logs.last().map_or(it.window.start(), |log| log.newest), it.window.start())
    };
    let (reached, logs) = all.into_iter().rev().max_by_key(end)?;
    (!logs.is_empty()).then(|| Goal { reached, logs: logs.to_vec(), until: None })
}

fn restore_to(request: &Request, goal: &Goal<'_>) -> (Restore, String) {
    let Goal { reached: Reached { store, stored, window }, logs, until } = goal;
    // Only what is whole was reached.
    let base = lineage::chain(stored, window.base.content()).unwrap_or_default();
    let newest = Until::Moment(logs.last().map_or(window.start(), |log| log.newest));
    let reason = format!(
        "asked for; brings back the data of {}: {} {} of {:.0}, then its log",
        until.as_ref().unwrap_or(&newest),
        window.base.kind,
        window.base.id,
        window.start()
    );
    let restore = Restore {
        backup: request.backup.clone(),
        artifacts: base.iter().map(|a| a.id).collect(),
        logs: logs.iter().map(|log| log.id).collect(),
        until: until.clone(),
        store: (*store).clone(),
        paths: request.paths.clone(),
        to: request.to.clone(),
    };
    (restore, reason)
}
