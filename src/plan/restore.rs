//! Restores: which artifacts bring a backup back to a moment, and from which store.

mod by_log;

use jiff::Timestamp;

use super::{
    Action, Limits, Plan,
    action::{Destination, Restore},
    draft::Draft,
    facts::Facts,
    lineage::{self, BrokenChain},
    provided,
};
use crate::{
    artifact::{ArtifactId, Kind, until::Until},
    inventory::{Inventory, StoredArtifact, StoredBackup, Stretch},
    spec::{
        Part, Source, Spec,
        names::{BackupName, StoreName},
    },
};

/// The moment to return to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// The newest there is.
    Latest,
    /// The newest that is not newer than this.
    At(Timestamp),
    /// One artifact.
    Artifact(ArtifactId),
    /// A place in the engine's log that is no time.
    InLog(Until),
}

/// A person's request for a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of which backup; one that is no longer declared can be restored as long as a store holds it.
    pub backup: BackupName,
    /// To which moment.
    pub point: Point,
    /// From which store; `None` takes the first that has everything, in the order that the backup declares.
    pub from: Option<StoreName>,
    /// What of the data: what stands at these paths, and below them. All of it where there are none.
    pub paths: Vec<String>,
    /// Where the data goes.
    pub to: Destination,
}

/// Why there is nothing to restore.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotRestore {
    /// Neither declared nor found.
    #[error("failed to restore {0}: no such backup is declared, and no store holds one; see `backstay list`")]
    UnknownBackup(BackupName),
    /// It has another name now.
    #[error("failed to restore {former}: it was renamed; restore {name}")]
    Renamed {
        /// What it was called.
        former: BackupName,
        /// What it is called now.
        name: BackupName,
    },
    /// A part of what comes back as a whole only.
    #[error(
        "failed to restore a part of {backup}: {what} comes back as a whole only; leave out `--path`, or restore it beside and take the part from there"
    )]
    WholeOnly {
        /// The backup.
        backup: BackupName,
        /// What its source is.
        what: String,
    },
    /// A path that names no part.
    #[error(
        "failed to restore a part of {backup}: {path:?} names none; a part is DATABASE or DATABASE/TABLE, such as shop/sale"
    )]
    NoPart {
        /// The backup.
        backup: BackupName,
        /// The path.
        path: String,
    },
    /// The named store is not declared or can't be believed.
    #[error("failed to restore {backup}: {why}; name another store with `--from`, or leave it out")]
    StoreUnknown {
        /// The backup.
        backup: BackupName,
        /// Why the store can't be read.
        why: String,
    },
    /// Nothing was ever captured, as far as can be seen.
    #[error("failed to restore {backup}: it has no restore point{}", unseen_text(.unseen))]
    Nothing {
        /// The backup.
        backup: BackupName,
        /// Stores that could not be looked into, and why.
        unseen: Vec<String>,
    },
    /// The moment has not come.
    #[error(
        "failed to restore {backup} to {at:.0}: that is in the future; the newest restore point is {newest:.0}"
    )]
    Future {
        /// The backup.
        backup: BackupName,
        /// What was asked for.
        at: Timestamp,
        /// The newest that there is.
        newest: Timestamp,
    },
    /// A log's moment that no store can bring back. What lies nearest is never taken in its place.
    #[error(
        "failed to restore {backup} to {at:.0}: no log reaches it; any second can be restored of {}; or name an artifact of `backstay list {backup}`",
        spans(.windows)
    )]
    NotInLog {
        /// The backup.
        backup: BackupName,
        /// What was asked for.
        at: Timestamp,
        /// What can be brought back.
        windows: Vec<Stretch>,
    },
    /// A place in the log that no store can bring back.
    #[error(
        "failed to restore {backup} to {place}: no log goes on to it from data that lies before; what can be reached lies {}; or name an artifact of `backstay list {backup}`",
        reaches(.windows)
    )]
    PlaceNotInLog {
        /// The backup.
        backup: BackupName,
        /// What was asked for.
        place: Until,
        /// From where to where logs go.
        windows: Vec<(String, String)>,
    },
    /// Logs can't be replayed into the place.
    #[error(
        "failed to restore {backup} to {to} with its log: what is replayed may name the original; restore `--in-place`, or to a folder (`--to FOLDER/`) with a script that replays it on another server, or without the log to one of the artifacts of `backstay list {backup}`"
    )]
    NoPlaceForLogs {
        /// The backup.
        backup: BackupName,
        /// Where it was to go.
        to: String,
    },
    /// The provider of the source, which may keep the moment, can't be seen.
    #[error(
        "failed to restore {backup}: its provider, which may keep that second, can't be seen: {why}; mend that, or name an \
         artifact of `backstay list {backup}`, or a store with `--from`"
    )]
    ProviderUnknown {
        /// The backup.
        backup: BackupName,
        /// Why.
        why: String,
    },
    /// The provider of the source can't go back to the moment yet.
    #[error(
        "failed to restore {backup} to {at:.0}: its provider can bring back any second up to {newest:.0}, and later ones within \
         minutes; wait, or ask for an earlier one"
    )]
    NotYetByProvider {
        /// The backup.
        backup: BackupName,
        /// What was asked for.
        at: Timestamp,
        /// The newest that can be brought back.
        newest: Timestamp,
    },
    /// A provider's own backup comes back as something new only.
    #[error(
        "failed to restore {backup} from {artifact} to {to}: its provider makes something new of its own backup, and nothing else; \
         name what does not exist yet (`--to {new}`)"
    )]
    NativeIsNew {
        /// The backup.
        backup: BackupName,
        /// The restore point.
        artifact: ArtifactId,
        /// Where it was to go.
        to: String,
        /// How such a place is written.
        new: &'static str,
    },
    /// A provider's own backup that can't be asked for where the declaration is.
    #[error(
        "failed to restore {backup} from {artifact}: {why}; or name another artifact of `backstay list {backup}`, or a store with `--from`"
    )]
    OutOfReach {
        /// The backup.
        backup: BackupName,
        /// The restore point.
        artifact: ArtifactId,
        /// Why, and what to do.
        why: String,
    },
    /// The moment is before everything that is kept.
    #[error("failed to restore {backup} to {at:.0}: the first restore point is {first:.0}{}", unseen_text(.unseen))]
    BeforeFirst {
        /// The backup.
        backup: BackupName,
        /// What was asked for.
        at: Timestamp,
        /// The first that there is.
        first: Timestamp,
        /// Stores that could not be looked into, and why.
        unseen: Vec<String>,
    },
    /// No store that can be seen has the artifact.
    #[error("failed to restore {backup}: no store has artifact {artifact}; the nearest are {}{}", list(.nearest), unseen_text(.unseen))]
    NoSuchArtifact {
        /// The backup.
        backup: BackupName,
        /// What was asked for.
        artifact: ArtifactId,
        /// The closest in time before and after it.
        nearest: Vec<ArtifactId>,
        /// Stores that could not be looked into, and why.
        unseen: Vec<String>,
    },
    /// It is there, but neither it nor what it requires is whole in any one store.
    #[error(
        "failed to restore {backup} from {artifact}: {broken} is damaged or missing in every store that was looked into; try `backstay verify {backup} --repair`, or an earlier point"
    )]
    Broken {
        /// The backup.
        backup: BackupName,
        /// The restore point.
        artifact: ArtifactId,
        /// What is not whole.
        broken: ArtifactId,
    },
}

fn unseen_text(unseen: &[String]) -> String {
    if unseen.is_empty() { String::new() } else { format!("; but {}", unseen.join("; ")) }
}

fn spans(windows: &[Stretch]) -> String {
    let spans: Vec<String> =
        windows.iter().map(|window| format!("{:.0} to {:.0}", window.start, window.end)).collect();
    if spans.is_empty() { "no time".to_owned() } else { spans.join(", ") }
}

fn reaches(windows: &[(String, String)]) -> String {
    let spans: Vec<String> =
        windows.iter().map(|(from, until)| format!("between {from} and {until}")).collect();
    if spans.is_empty() { "nowhere".to_owned() } else { spans.join("; ") }
}

fn list(ids: &[ArtifactId]) -> String {
    let ids: Vec<String> = ids.iter().map(ArtifactId::to_string).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(" and ") }
}

/// A restore point in one store.
#[derive(Clone, Copy)]
struct Place<'a> {
    store: &'a StoreName,
    stored: &'a StoredBackup,
    artifact: &'a StoredArtifact,
}

/// The plan of one restore.
pub fn restore(
    spec: &Spec,
    inventory: &Inventory,
    limits: &Limits,
    request: &Request,
    now: Timestamp,
) -> Result<Plan, CannotRestore> {
    in_parts(spec, request)?;
    let facts = Facts::gather(spec, inventory, limits, now);
    let (action, reason) = match (provided::kept_moment(&facts, request)?, &request.to) {
        (Some((at, why)), Destination::Database(to)) => {
            let (backup, to) = (request.backup.clone(), to.clone());
            (Action::Rewind { backup, at, to }, format!("asked for; {why}"))
        }
        _ => {
            let (restore, reason) = decide(&facts, request)?;
            (Action::Restore(restore), reason)
        }
    };
    let mut draft = Draft::default();
    draft.step(action, reason);
    Ok(draft.finish(&facts))
}

/// Refuses a part of what can't be restored in parts. What is no longer declared is looked at when it is restored.
fn in_parts(spec: &Spec, request: &Request) -> Result<(), CannotRestore> {
    let what = match spec.backups.get(&request.backup) {
        _ if request.paths.is_empty() => return Ok(()),
        _ if request.backup.is_infra() => "the infra repo".to_owned(),
        Some(declared) if declared.source.has_databases() => {
            let no_part = |path| CannotRestore::NoPart { backup: request.backup.clone(), path };
            return Part::of(&request.paths).map(drop).map_err(no_part);
        }
        Some(declared) if !declared.source.has_paths() => {
            format!("what is captured of `{}`", declared.source.kind())
        }
        Some(_) | None => return Ok(()),
    };
    Err(CannotRestore::WholeOnly { backup: request.backup.clone(), what })
}

/// The restore that is asked for, with its reason.
pub(super) fn decide(facts: &Facts<'_>, request: &Request) -> Result<(Restore, String), CannotRestore> {
    let places = places(facts, request)?;
    match by_log::restore(facts, request)? {
        Some(by_log) => Ok(by_log),
        None => to_artifact(facts, request, &places),
    }
}

/// The restore of an artifact by itself, with what it requires.
fn to_artifact(
    facts: &Facts<'_>,
    request: &Request,
    places: &[Place<'_>],
) -> Result<(Restore, String), CannotRestore> {
    let wanted = choose(facts, request, places)?;
    if let Some(why) = wanted.unknown() {
        return Err(CannotRestore::OutOfReach {
            backup: request.backup.clone(),
            artifact: wanted.id,
            why: why.to_owned(),
        });
    }
    let source = facts.spec.backups.get(&request.backup).map(|backup| &backup.source);
    let can_go_there = match &request.to {
        Destination::Database(_) => true,
        Destination::File(_) => source.is_some_and(Source::hands_out_natives),
        Destination::Folder(_) | Destination::Bucket { .. } | Destination::InPlace => false,
    };
    if wanted.native.is_some() && !can_go_there {
        return Err(CannotRestore::NativeIsNew {
            backup: request.backup.clone(),
            artifact: wanted.id,
            to: request.to.to_string(),
            new: source.map_or("database:NAME", Source::place_of_new),
        });
    }
    let (store, artifacts) = whole(request, places, wanted)?;
    let (backup, store) = (request.backup.clone(), store.clone());
    let (paths, to) = (request.paths.clone(), request.to.clone());
    let reason = format!("asked for; brings back the data of {:.0}", wanted.newest);
    Ok((Restore { backup, artifacts, logs: Vec::new(), until: None, store, paths, to }, reason))
}

/// Every artifact of the backup in the stores that may be read, nearest store first.
fn places<'a>(facts: &Facts<'a>, request: &Request) -> Result<Vec<Place<'a>>, CannotRestore> {
    let name = &request.backup;
    if let Some(from) = &request.from {
        let unknown = |why| CannotRestore::StoreUnknown { backup: name.clone(), why };
        facts.store(from).map_err(unknown)?;
    }
    let wanted = |store: &StoreName| request.from.as_ref().is_none_or(|from| from == store);
    let holdings = facts.holdings(name).into_iter().filter(|(store, _)| wanted(store));
    let places: Vec<Place<'a>> = holdings
        .flat_map(|(store, stored)| {
            stored.artifacts.iter().map(move |artifact| Place { store, stored, artifact })
        })
        .collect();
    let unseen = unseen(facts);
    match places.is_empty() {
        false => Ok(places),
        true if let Some(now) = facts.spec.moved.newest_name(name) => {
            Err(CannotRestore::Renamed { former: name.clone(), name: now.clone() })
        }
        true if facts.protected.contains_key(name) || !unseen.is_empty() => {
            Err(CannotRestore::Nothing { backup: name.clone(), unseen })
        }
        true => Err(CannotRestore::UnknownBackup(name.clone())),
    }
}

/// Why stores could not be looked into.
fn unseen(facts: &Facts<'_>) -> Vec<String> {
    facts.inventory.stores.keys().filter_map(|store| facts.store(store).err()).collect()
}

/// The artifact that is the point asked for, in whichever store.
fn choose<'a>(
    facts: &Facts<'a>,
    request: &Request,
    places: &[Place<'a>],
) -> Result<&'a StoredArtifact, CannotRestore> {
    let backup = || request.backup.clone();
    let data = || places.iter().map(|p| p.artifact).filter(|a| a.kind != Kind::Log);
    let usable = || data().filter(|a| a.is_good());
    let newest_of = |limit: Timestamp| {
        let found = usable().filter(|a| a.newest <= limit).max_by_key(|a| (a.newest, a.id));
        let out_of_reach = data().filter(|a| a.unknown().is_some() && a.newest <= limit);
        // What can't be asked for is nearer to what was asked for: an older one is no answer, unless a person names it, or its store.
        match (out_of_reach.max_by_key(|a| (a.newest, a.id)), found) {
            (Some(unknown), None) => Some(unknown),
            (Some(unknown), Some(found)) if request.from.is_none() && unknown.newest > found.newest => {
                Some(unknown)
            }
            (_, found) => found,
        }
    };
    match request.point {
        Point::InLog(ref place) => {
            Err(CannotRestore::PlaceNotInLog { backup: backup(), place: place.clone(), windows: Vec::new() })
        }
        Point::Artifact(id) => {
            let found = places.iter().find(|p| p.artifact.id == id).map(|p| p.artifact);
            found.ok_or_else(|| CannotRestore::NoSuchArtifact {
                backup: backup(),
                artifact: id,
                nearest: nearest(places, id),
                unseen: unseen(facts),
            })
        }
        Point::Latest => newest_of(facts.now)
            .or_else(|| usable().max_by_key(|a| (a.newest, a.id)))
            .or_else(|| data().filter(|a| a.unknown().is_some()).max_by_key(|a| (a.newest, a.id)))
            .ok_or_else(|| match places.iter().max_by_key(|p| p.artifact.newest) {
                Some(damaged) => CannotRestore::Broken {
                    backup: backup(),
                    artifact: damaged.artifact.id,
                    broken: damaged.artifact.id,
                },
                None => CannotRestore::Nothing { backup: backup(), unseen: unseen(facts) },
            }),
        Point::At(at) if at > facts.now => Err(CannotRestore::Future {
            backup: backup(),
            at,
            newest: usable().map(|a| a.newest).max().unwrap_or(facts.now),
        }),
        Point::At(at) => newest_of(at).ok_or_else(|| match usable().map(|a| a.newest).min() {
            Some(first) => CannotRestore::BeforeFirst { backup: backup(), at, first, unseen: unseen(facts) },
            None => CannotRestore::Nothing { backup: backup(), unseen: unseen(facts) },
        }),
    }
}

/// The closest artifacts before and after a name.
fn nearest(places: &[Place<'_>], id: ArtifactId) -> Vec<ArtifactId> {
    let ids = || places.iter().map(|p| p.artifact.id);
    ids()
        .filter(|other| *other < id)
        .max()
        .into_iter()
        .chain(ids().filter(|other| *other > id).min())
        .collect()
}

/// The first store in which the point and all that it requires is whole, and what to apply in order.
fn whole<'a>(
    request: &Request,
    places: &[Place<'a>],
    wanted: &StoredArtifact,
) -> Result<(&'a StoreName, Vec<ArtifactId>), CannotRestore> {
    let mut broken = wanted.id;
    let content = wanted.content();
    for place in places.iter().filter(|p| p.artifact.id == wanted.id || p.artifact.content() == content) {
        match lineage::chain(place.stored, place.artifact.content()) {
            Ok(chain) => return Ok((place.store, chain.iter().map(|a| a.id).collect())),
            Err(BrokenChain(id)) => broken = id,
        }
    }
    Err(CannotRestore::Broken { backup: request.backup.clone(), artifact: wanted.id, broken })
}
