//! A backup on demand: what `backup NAME` does.

use jiff::Timestamp;

use super::{
    Action, Limits, Plan,
    action::Capture,
    backups::{self, Wait},
    draft::Draft,
    facts::Facts,
    lineage, logs,
};
use crate::{
    artifact::{Kind, manifest::Manual},
    inventory::Inventory,
    spec::{Spec, names::BackupName},
};

/// A person's request for a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of which backup.
    pub backup: BackupName,
    /// What is to be made; an increment without anything to build on is made as a full.
    pub kind: Kind,
    /// Why, in their words.
    pub reason: Option<String>,
}

/// Why a backup can't be made on demand now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotCapture {
    /// No such backup is declared.
    #[error(
        "failed to back up {0}: the revision in force declares no such backup; see `backstay status` for those it does"
    )]
    Undeclared(BackupName),
    /// It has another name now.
    #[error("failed to back up {former}: it was renamed; back up {name}")]
    Renamed {
        /// What it was called.
        former: BackupName,
        /// What it is called now.
        name: BackupName,
    },
    /// This build or this host can't.
    #[error("failed to back up {backup}: {why}")]
    CannotRun {
        /// The backup.
        backup: BackupName,
        /// Why, and what to do.
        why: String,
    },
    /// Another capture goes on, or no store can take it.
    #[error("failed to back up {backup} now: {on}; try again later")]
    MustWait {
        /// The backup.
        backup: BackupName,
        /// What it would have to wait for.
        on: String,
        /// When that ends, if it is known.
        until: Option<Timestamp>,
    },
}

/// The plan of captures on demand. They fill no slot, and windows do not hold them back.
pub fn manual(
    spec: &Spec,
    inventory: &Inventory,
    limits: &Limits,
    requests: &[Request],
    now: Timestamp,
) -> Result<Plan, CannotCapture> {
    let facts = Facts::gather(spec, inventory, limits, now);
    let mut draft = Draft::default();
    for request in requests {
        capture(&facts, request, &mut draft)?;
    }
    Ok(draft.finish(&facts))
}

fn capture(facts: &Facts<'_>, request: &Request, draft: &mut Draft) -> Result<(), CannotCapture> {
    let name = &request.backup;
    let undeclared = || match facts.spec.moved.newest_name(name) {
        Some(now) => CannotCapture::Renamed { former: name.clone(), name: now.clone() },
        None => CannotCapture::Undeclared(name.clone()),
    };
    let declared = facts.spec.backups.get(name).ok_or_else(undeclared)?;
    let wait = |on: String, until| CannotCapture::MustWait { backup: name.clone(), on, until };
    for resource in [Some(format!("backup.{name}")), log_of(request)].into_iter().flatten() {
        if let Some(why) = facts.cannot_run(&resource) {
            return Err(CannotCapture::CannotRun { backup: name.clone(), why: why.to_owned() });
        }
    }
    if request.kind == Kind::Log && !declared.source.has_log() {
        let why = format!("`{}` keeps no log; ask for another kind", declared.source.kind());
        return Err(CannotCapture::CannotRun { backup: name.clone(), why });
    }
    backups::no_lease(facts, declared).map_err(|Wait { on, until }| wait(on, until))?;
    let place = backups::place(facts, declared).map_err(|why| wait(why, None))?;
    let continues = match request.kind {
        Kind::Log => Some(
            logs::end(facts, place.stored)
                .ok_or_else(|| wait("a full that tells where in the log it stands".to_owned(), None))?,
        ),
        _ => None,
    };
    let footing = lineage::footing(request.kind, &declared.source, place.stored, facts.now);
    let mut reason = match &request.reason {
        Some(reason) => format!("asked for: {reason}"),
        None => "asked for".to_owned(),
    };
    for note in footing.note.map(str::to_owned).into_iter().chain(place.note) {
        reason = format!("{reason}; {note}");
    }
    let capture = Capture {
        backup: name.clone(),
        kind: footing.kind,
        slot: None,
        manual: Some(Manual { reason: request.reason.clone() }),
        store: place.store.clone(),
        base: footing.base,
        continues: continues.or(footing.continues),
    };
    draft.step(Action::Capture(capture), reason);
    Ok(())
}

fn log_of(request: &Request) -> Option<String> {
    (request.kind == Kind::Log).then(|| super::cannot_run::logs_of(request.backup.as_str()))
}
