//! Backups: captures that are due, and what they wait for.

use super::{
    Action,
    action::Capture,
    draft::Draft,
    due::{self, Need},
    facts::Facts,
    lineage, suspensions,
};
use crate::{
    inventory::StoredBackup,
    spec::{Backup, names::StoreName},
};

/// One capture of its data a backup at most: the strongest kind that is due.
pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    for (name, backup) in &facts.spec.backups {
        if facts.cannot_run(&format!("backup.{name}")).is_some() || backup.policy.schedules.is_empty() {
            continue;
        }
        if let Some(need) = due::need(facts, backup) {
            capture(facts, backup, need, draft);
        }
    }
}

fn capture(facts: &Facts<'_>, backup: &Backup, need: Need, draft: &mut Draft) {
    let what = || format!("{} of {}", need.kind, backup.name);
    if let Err(Wait { on, until }) = may_begin(facts, backup) {
        return draft.wait_of(&backup.name, what(), on, until);
    }
    let place = match place(facts, backup) {
        Ok(place) => place,
        Err(why) => return draft.wait_of(&backup.name, what(), why, None),
    };
    let footing = lineage::footing(need.kind, &backup.source, place.stored, facts.now);
    let mut reason = need.reason.clone();
    for note in footing.note.map(str::to_owned).into_iter().chain(place.note) {
        reason = format!("{reason}; {note}");
    }
    // A full in place of an increment fills what the stronger kind fills.
    let capture = Capture {
        backup: backup.name.clone(),
        kind: footing.kind,
        slot: need.slot,
        manual: None,
        store: place.store.clone(),
        base: footing.base,
        continues: footing.continues,
    };
    draft.step(Action::Capture(capture), reason);
}

/// What keeps a capture from beginning.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) on: String,
    pub(super) until: Option<jiff::Timestamp>,
}

/// Whether windows and leases let a capture begin now.
fn may_begin(facts: &Facts<'_>, backup: &Backup) -> Result<(), Wait> {
    let (window, zone) = (&backup.policy.window, &facts.spec.fleet.time_zone);
    if window.is_closed(facts.now, zone) {
        let until = window.next_opening(facts.now, zone);
        return Err(Wait { on: "its window is closed now".to_owned(), until });
    }
    no_lease(facts, backup)
}

/// Whether no other capture of the backup goes on in any store.
pub(super) fn no_lease(facts: &Facts<'_>, backup: &Backup) -> Result<(), Wait> {
    for store in &backup.stores {
        if let Some((id, lease)) = facts.capture_under_way(&backup.name, store) {
            let on = format!("capture {id} is under way in {store}");
            return Err(Wait { on, until: Some(lease.until) });
        }
    }
    Ok(())
}

/// The store that takes a capture.
pub(super) struct Place<'a> {
    pub(super) store: &'a StoreName,
    pub(super) stored: &'a StoredBackup,
    /// Why it is not the first one.
    pub(super) note: Option<String>,
}

/// The first of the backup's stores that can be believed; otherwise why none can.
pub(super) fn place<'a>(facts: &Facts<'a>, backup: &'a Backup) -> Result<Place<'a>, String> {
    let mut refused: Vec<String> = Vec::new();
    for store in &backup.stores {
        let stored = match suspensions::of_store(facts, store) {
            Some(suspended) => Err(suspended),
            None => facts.stored(&backup.name, store),
        };
        match stored {
            Ok(stored) => {
                let note = (!refused.is_empty()).then(|| format!("{}; {store} takes it", refused.join("; ")));
                return Ok(Place { store, stored, note });
            }
            Err(why) => refused.push(why),
        }
    }
    Err(refused.join("; "))
}
