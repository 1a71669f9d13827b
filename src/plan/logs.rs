//! Logs: whatever happened in an engine since the last artifact, so that its backup can be brought back to any second.

use std::collections::BTreeSet;

use super::{
    Action,
    action::Capture,
    backups::{self, Wait},
    draft::Draft,
    due::{self, SlotState},
    facts::Facts,
};
use crate::{
    artifact::{Kind, manifest::Edge, position::LogPosition},
    inventory::{StoredBackup, Window, windows},
    spec::Backup,
};

/// Logs of every backup whose schedule has a slot for them.
pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    for (name, backup) in &facts.spec.backups {
        if facts.cannot_run(&format!("backup.{name}")).is_some() {
            continue;
        }
        let due = due::assess(facts, backup).into_iter().find(|due| due.kind == Kind::Log);
        if let Some(due) = due.filter(|due| due.state == SlotState::Due && due::has_full(facts, backup)) {
            capture(facts, backup, due.slot, draft);
        }
    }
}

fn capture(facts: &Facts<'_>, backup: &Backup, slot: Option<jiff::Timestamp>, draft: &mut Draft) {
    let what = || format!("log of {}", backup.name);
    if let Err(Wait { on, until }) = backups::no_lease(facts, backup) {
        return draft.wait_of(&backup.name, what(), on, until);
    }
    let place = match backups::place(facts, backup) {
        Ok(place) => place,
        Err(why) => return draft.wait_of(&backup.name, what(), why, None),
    };
    let Some(continues) = end(facts, place.stored) else {
        let on = "a full that tells where in the log it stands: see `backstay explain`";
        return draft.wait_of(&backup.name, what(), on, None);
    };
    let since = format!("slot {} has no log", slot.unwrap_or(facts.now));
    let reason = place.note.map_or(since.clone(), |note| format!("{since}; {note}"));
    let capture = Capture {
        backup: backup.name.clone(),
        kind: Kind::Log,
        slot,
        manual: None,
        store: place.store.clone(),
        base: None,
        continues: Some(continues),
    };
    draft.step(Action::Capture(capture), reason);
}

/// The place in the engine's log from which the next one goes on: where the furthest one ends, so that what came before newer
/// data can be reached as well, and older data goes on being of use; the newest data where that log leads nowhere near it, or
/// where a later one is known not to go on from it.
pub(super) fn end(facts: &Facts<'_>, stored: &StoredBackup) -> Option<Edge> {
    let furthest = |window: &Window<'_>| (window.end(), window.base.id);
    let all = windows(stored, facts.now);
    let newest = all.iter().max_by_key(|window| furthest(window))?;
    let logged = all.iter().filter(|window| !window.logs.is_empty()).max_by_key(|window| furthest(window));
    let leads_to_newest = |window: &&Window<'_>| {
        let [end, data] = [window.position(), newest.position()].map(|text| LogPosition::parse(text?));
        end.zip(data).is_some_and(|(end, data)| end <= data)
    };
    let logs = stored.artifacts.iter().filter(|a| a.kind == Kind::Log && a.is_good());
    let latest = logs.filter(|a| !a.is_from_the_future(facts.now)).map(|a| a.newest).max();
    let goes_on = |window: &&Window<'_>| latest.is_none_or(|latest| latest <= window.end());
    let last = logged.filter(leads_to_newest).filter(goes_on).unwrap_or(newest);
    Some(Edge { time: last.end(), position: last.position()?.to_owned() })
}

/// Why nothing goes on from the newest log, if that is so: something between it and what it was to go on from is not there.
/// A store that can't be seen may have it.
pub(super) fn gap(facts: &Facts<'_>, backup: &Backup) -> Option<String> {
    if backup.stores.iter().any(|store| facts.store(store).is_err()) {
        return None;
    }
    let all = everywhere(facts, backup);
    let good = all.artifacts.iter().filter(|a| a.is_good() && !a.is_from_the_future(facts.now));
    let log = good.filter(|a| a.kind == Kind::Log).max_by_key(|a| (a.newest, a.id))?;
    if all.newest_whole(facts.now).is_some_and(|data| data.newest >= log.newest) {
        return None;
    }
    let reached = windows(&all, facts.now).iter().map(Window::end).max();
    let from = log.from().map_or(log.newest, |from| from.time);
    match reached {
        Some(reached) if reached >= log.newest => None,
        Some(reached) => Some(format!("the log has a gap between {reached:.0} and {from:.0}")),
        None => Some(format!("nothing is there that the log of {from:.0} goes on from")),
    }
}

/// What all stores hold together: copies under way are no gaps.
fn everywhere(facts: &Facts<'_>, backup: &Backup) -> StoredBackup {
    let mut all = StoredBackup::NOTHING.clone();
    let mut seen = BTreeSet::new();
    for artifact in facts.holdings(&backup.name).into_iter().flat_map(|(_, stored)| &stored.artifacts) {
        if artifact.is_good() && seen.insert(artifact.content()) {
            all.artifacts.push(artifact.clone());
        }
    }
    all
}
