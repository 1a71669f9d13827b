//! What providers keep by themselves: how they are set, against how they are to be set, and what was left with them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    Action,
    action::{Destination, Protect},
    draft::Draft,
    facts::Facts,
    restore::{CannotRestore, Point, Request},
};
use crate::{
    artifact::ArtifactId,
    inventory::{Inferred, Observed, Provided, ProviderSettings},
    spec::{Backup, PointInTime, Protection, SnapshotRule, lost_snapshots, names::BackupName},
};

/// Sets what differs from the declaration, and tells of native backups that nothing names, and of those that can't be asked for.
pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    for (name, backup) in &facts.spec.backups {
        if facts.cannot_run(&format!("backup.{name}")).is_some() {
            continue;
        }
        out_of_reach(facts, name, draft);
        match facts.inventory.provided(name) {
            Observed::Unknown(why) if backup.source.has_provider() => {
                draft.wait_of(
                    name,
                    format!("the provider of {name}"),
                    format!("it can't be seen: {why}"),
                    None,
                );
            }
            Observed::Unknown(_) => {}
            Observed::Known(provided) => {
                set(backup, provided, draft);
                unnamed(facts, backup, provided, draft);
            }
        }
    }
}

/// Native backups that lie where nobody can ask from here: they are kept until somebody can.
fn out_of_reach(facts: &Facts<'_>, name: &BackupName, draft: &mut Draft) {
    let holdings = facts.holdings(name);
    let artifacts = holdings.iter().flat_map(|(_, stored)| &stored.artifacts);
    let mut reasons: BTreeMap<&str, BTreeSet<ArtifactId>> = BTreeMap::new();
    for (id, why) in artifacts.filter_map(|artifact| Some((artifact.id, artifact.unknown()?))) {
        reasons.entry(why).or_default().insert(id);
    }
    for (why, ids) in reasons {
        let what = match ids.len() {
            1 => format!("retention of 1 native artifact of {name}"),
            many => format!("retention of {many} native artifacts of {name}"),
        };
        draft.wait_of(name, what, why, None);
    }
}

fn set(backup: &Backup, provided: &Provided, draft: &mut Draft) {
    let settings = &provided.settings;
    let lacking = backup.source.protection().and_then(|declared| settings.lacks(declared));
    let Some(to) = lacking else { return };
    if let Some(changing) = &settings.changing {
        let on = format!("what its provider is at: {changing}");
        return draft.wait_of(&backup.name, format!("the provider of {}: {to}", backup.name), on, None);
    }
    let mut before = BTreeSet::new();
    // What gives something up waits for a person's word, and the rest of it does not.
    for to in apart(settings, to) {
        let reason = reason(provided, &to, backup);
        let snapshots_from = to.snapshots.as_ref().and(settings.snapshots.clone());
        let protect =
            Protect { backup: backup.name.clone(), from: settings.point_in_time, snapshots_from, to };
        before = BTreeSet::from([draft.step_after(Action::Protect(protect), reason, before)]);
    }
}

/// What is to be set, and what of it loses something by itself.
fn apart(settings: &ProviderSettings, to: Protection) -> Vec<Protection> {
    let gives_up = |rules: &BTreeSet<SnapshotRule>| {
        settings.snapshots.as_ref().is_some_and(|made| !lost_snapshots(made, rules).is_empty())
    };
    let losing = Protection {
        point_in_time: to.point_in_time.filter(|point| settings.point_in_time.loses(*point)),
        snapshots: to.snapshots.clone().filter(gives_up),
        ..Protection::default()
    };
    let rest = Protection {
        point_in_time: to.point_in_time.filter(|_| losing.point_in_time.is_none()),
        snapshots: to.snapshots.filter(|_| losing.snapshots.is_none()),
        ..to
    };
    [rest, losing].into_iter().filter(|part| !part.is_empty()).collect()
}

fn reason(provided: &Provided, to: &Protection, backup: &Backup) -> String {
    let settings = &provided.settings;
    let was = match (to.point_in_time, &to.backup_window) {
        (Some(_), _) => format!("point-in-time recovery is {}", settings.point_in_time),
        (None, None) => format!("it has {settings}"),
        (None, Some(_)) => match &settings.backup_window {
            Some(window) => format!("the daily backup is made at {window}"),
            None => "no daily backup is made".to_owned(),
        },
    };
    let loss = settings.loss(to).map(|loss| format!("; this is lost: {loss}"));
    let outage = to.point_in_time.and_then(|to| backup.source.outage(settings.point_in_time, to));
    let outage = outage.map(|outage| format!("; {outage}"));
    format!("declared, and {was}{}{}", loss.unwrap_or_default(), outage.unwrap_or_default())
}

/// Native backups that a crash or a failed deletion left: nothing deletes what no manifest names, but a person.
fn unnamed(facts: &Facts<'_>, backup: &Backup, provided: &Provided, draft: &mut Draft) {
    let Some(natives) = provided.natives.as_ref().filter(|natives| !natives.is_empty()) else { return };
    if facts.inventory.stores.keys().any(|store| facts.store(store).is_err()) {
        return;
    }
    let name = &backup.name;
    let holdings = facts.holdings(name);
    if holdings.iter().any(|(_, stored)| !stored.unreadable.is_empty()) {
        return;
    }
    let artifacts = holdings.iter().flat_map(|(_, stored)| &stored.artifacts);
    let named: BTreeSet<&str> = artifacts.filter_map(|artifact| artifact.reference()).collect();
    let folder = facts.spec.moved.folder(name);
    let is_under_way = |id: &ArtifactId| {
        let interrupted = facts.inventory.interrupted.iter().any(|i| i.backup == folder && i.artifact == *id);
        interrupted || holdings.iter().any(|(_, stored)| stored.leases.contains_key(id))
    };
    let is_old = |id: &ArtifactId| id.time().saturating_add(A_DAY).is_ok_and(|end| end <= facts.now);
    for (reference, native) in natives {
        if named.contains(reference.as_str()) || is_under_way(&native.artifact) || !is_old(&native.artifact) {
            continue;
        }
        let on = "no manifest names it, and what no manifest names only a person deletes: look whether anybody needs it";
        draft.wait_of(name, format!("deletion of {reference}"), on, None);
    }
}

/// How long what no manifest names may be somebody's capture.
const A_DAY: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// The moment that is asked for, where the provider is to bring it back by what it keeps, with the reason; `None` where it keeps nothing
/// of that time, or where artifacts are asked for.
pub(super) fn kept_moment(
    facts: &Facts<'_>,
    request: &Request,
) -> Result<Option<(Timestamp, &'static str)>, CannotRestore> {
    let Some(backup) = facts.spec.backups.get(&request.backup) else { return Ok(None) };
    let (Point::At(at), None, Destination::Database(_)) = (&request.point, &request.from, &request.to) else {
        return Ok(None);
    };
    if !backup.source.has_provider() || *at > facts.now {
        return Ok(None);
    }
    let provided = match facts.inventory.provided(&backup.name) {
        Observed::Known(provided) => provided,
        Observed::Unknown(why) => {
            return Err(CannotRestore::ProviderUnknown { backup: backup.name.clone(), why });
        }
    };
    match (provided.settings.point_in_time, provided.settings.window) {
        (PointInTime::On { .. }, Some(window)) if *at > window.end => {
            Err(CannotRestore::NotYetByProvider { backup: backup.name.clone(), at: *at, newest: window.end })
        }
        (PointInTime::On { .. }, Some(window)) if *at >= window.start => {
            Ok(Some((*at, "its provider keeps that second")))
        }
        (PointInTime::On { .. }, None) if may_be_kept(&provided.settings, *at) => {
            Ok(Some((*at, "its provider does not tell whether it keeps that second, and is asked")))
        }
        _ => Ok(None),
    }
}

/// Whether a provider that does not tell may keep a second: it refuses one that it does not have, and brings back no other.
fn may_be_kept(settings: &ProviderSettings, at: Timestamp) -> bool {
    settings.inferred.is_some_and(|Inferred(stretch)| at >= stretch.start)
}
