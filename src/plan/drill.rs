//! Drills: which are due, from which store, and to which moment.
//!
//! A drill is due as a difference: the latest slot of its schedule has no result of this or a later slot. It touches no
//! source and deletes nothing, so that windows do not hold it back; suspensions do.

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Action, Limits, Plan,
    action::{Destination, Drill, Restore, SandboxKind},
    cannot_run,
    draft::Draft,
    facts::Facts,
    lineage,
    restore::{self, Point},
    retention::Expiry,
    suspensions,
};
use crate::{
    artifact::{ArtifactId, Depth, Kind, until::Until},
    inventory::{DrillHistory, Inventory, Stretch, stretches, windows},
    spec::{
        self, Backup, DrillHow, DrillPoint, DrillSubject, MysqlMethod, Schedule, Source, Spec,
        names::{BackupName, DrillName, StoreName},
    },
};

/// A person's request for a drill now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which.
    pub drill: DrillName,
    /// To which moment; as it is declared when `None`.
    pub point: Option<Point>,
    /// From which store; in rotation when `None`.
    pub from: Option<StoreName>,
    /// What a random point is drawn by.
    pub seed: u64,
    /// How; as it is declared when `None`.
    pub how: Option<DrillHow>,
}

/// Why a drill can't be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotDrill {
    /// Nothing of that name is declared.
    #[error("failed to drill {0}: no [drill.{0}] is declared; see `backstay status` for those that are")]
    Undeclared(DrillName),
    /// It can't be done here.
    #[error("failed to drill {drill}: {why}")]
    CannotRun {
        /// Which.
        drill: DrillName,
        /// Why.
        why: String,
    },
    /// There is nothing to restore, as far as can be seen.
    #[error("failed to drill {drill}: {why}")]
    Nothing {
        /// Which.
        drill: DrillName,
        /// Why, and what to do.
        why: String,
    },
}

/// A drill against its schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrillDueness {
    /// The latest slot that has come.
    pub slot: Option<Timestamp>,
    /// When the next one comes.
    pub next: Option<Timestamp>,
    /// Whether the latest slot has no result.
    pub is_due: bool,
}

/// The plan of drills on demand. They fill no slot, and nothing but what can't be done holds them back.
pub fn manual(
    spec: &Spec,
    inventory: &Inventory,
    limits: &Limits,
    requests: &[Request],
    now: Timestamp,
) -> Result<Plan, CannotDrill> {
    let facts = Facts::gather(spec, inventory, limits, now);
    let mut draft = Draft::default();
    for request in requests {
        let name = &request.drill;
        let drill = spec.drills.get(name).ok_or_else(|| CannotDrill::Undeclared(name.clone()))?;
        let cannot = |why: String| CannotDrill::CannotRun { drill: name.clone(), why };
        if let Some(why) = facts.cannot_run(&format!("drill.{name}")) {
            return Err(cannot(why.to_owned()));
        }
        let subject = subject(&facts, name, drill).ok_or_else(|| cannot("it tries no backup".to_owned()))?;
        let subject = Subject { how: request.how.unwrap_or(drill.how), ..subject };
        let wanted = Wanted { point: request.point.clone(), from: request.from.clone(), seed: request.seed };
        let chosen = choose(&facts, &subject, wanted, None);
        let chosen = chosen.map_err(|why| CannotDrill::Nothing { drill: name.clone(), why })?;
        draft.step(Action::Drill(Box::new(subject.decided(chosen, None))), "asked for");
    }
    Ok(draft.finish(&facts))
}

/// Drills that are due.
pub(super) fn plan(facts: &Facts<'_>, expired: &Expiry<'_>, draft: &mut Draft) {
    for (name, drill) in &facts.spec.drills {
        if facts.cannot_run(&format!("drill.{name}")).is_some() {
            continue;
        }
        let Some(subject) = subject(facts, name, drill) else { continue };
        let dueness = subject.dueness(facts);
        let (true, Some(slot)) = (dueness.is_due, dueness.slot) else { continue };
        let wanted = Wanted { point: None, from: None, seed: seed(name, slot) };
        match choose(facts, &subject, wanted, Some(expired)) {
            Ok(chosen) => {
                let reason = format!("slot {slot:.0} has no drill");
                draft.step(Action::Drill(Box::new(subject.decided(chosen, Some(slot)))), reason);
            }
            Err(why) => draft.wait_of(&subject.backup.name, format!("drill {name}"), why, None),
        }
    }
}

/// A drill against its schedule; `None` where it tries no backup that is declared.
pub(crate) fn assess(facts: &Facts<'_>, name: &DrillName) -> Option<(DrillDueness, DrillHistory)> {
    let subject = subject(facts, name, facts.spec.drills.get(name)?)?;
    Some((subject.dueness(facts), subject.history))
}

/// When the next drill falls due.
pub(super) fn next_slot(facts: &Facts<'_>) -> Option<Timestamp> {
    let subjects = facts.spec.drills.iter().filter_map(|(name, drill)| subject(facts, name, drill));
    subjects.filter_map(|subject| subject.dueness(facts).next).min()
}

/// Drills that no identity of this host can read anything for.
pub(super) fn unreadable(spec: &Spec, limits: &Limits) -> Vec<super::CannotRun> {
    let of_drill = |(name, drill): (&DrillName, &spec::Drill)| {
        let DrillSubject::Backup(backup) = &drill.subject else { return None };
        let stores = &spec.backups.get(backup)?.stores;
        let can_read =
            |store| limits.deepest_check == Depth::Plaintext && cannot_run::can_read(spec, limits, store);
        (!stores.iter().any(can_read)).then(|| super::CannotRun {
            resource: format!("drill.{name}"),
            why: format!(
                "this controller has no identity that can read what is stored of {backup}; set keys.identity"
            ),
        })
    };
    spec.drills.iter().filter_map(of_drill).collect()
}

/// A drill of one backup, with what is known of it.
struct Subject<'a> {
    name: &'a DrillName,
    drill: &'a spec::Drill,
    how: DrillHow,
    backup: &'a Backup,
    history: DrillHistory,
    zone: TimeZone,
}

fn subject<'a>(facts: &Facts<'a>, name: &'a DrillName, drill: &'a spec::Drill) -> Option<Subject<'a>> {
    let DrillSubject::Backup(backup) = &drill.subject else { return None };
    let backup = facts.spec.backups.get(backup)?;
    let history = facts.inventory.drill_history(name, &facts.spec.moved.folder(&backup.name));
    Some(Subject { name, drill, how: drill.how, backup, history, zone: facts.spec.fleet.time_zone.clone() })
}

/// What a drill is to restore.
struct Wanted {
    point: Option<Point>,
    from: Option<StoreName>,
    seed: u64,
}

/// What a drill restores.
struct Chosen {
    restore: Restore,
    point: Timestamp,
    is_newest: bool,
}

impl Subject<'_> {
    fn dueness(&self, facts: &Facts<'_>) -> DrillDueness {
        let schedule = Schedule::without_jitter(self.drill.schedule.clone(), self.zone.clone());
        let slot = schedule.latest_due(facts.now);
        let is_filled = |slot: Timestamp| self.history.slot.is_some_and(|filled| filled >= slot);
        DrillDueness {
            slot,
            next: schedule.next_due_after(facts.now),
            is_due: slot.is_some_and(|slot| !is_filled(slot)),
        }
    }

    fn decided(&self, chosen: Chosen, slot: Option<Timestamp>) -> Drill {
        let Chosen { restore, point, is_newest } = chosen;
        Drill {
            drill: self.name.clone(),
            slot,
            backup: restore.backup,
            artifacts: restore.artifacts,
            logs: restore.logs,
            until: restore.until,
            point,
            is_newest,
            store: restore.store,
            sandbox: SandboxKind::of(&self.backup.source),
            how: self.how,
            checks: self.drill.checks.clone(),
        }
    }

    /// Whether logs can be replayed in the sandbox. The log of a server tells of all its databases.
    fn replays(&self) -> bool {
        match &self.backup.source {
            _ if self.how == DrillHow::ByHand => false,
            Source::Mysql(mysql) => mysql.method != MysqlMethod::Logical || mysql.server.databases.is_empty(),
            source => SandboxKind::of(source) == SandboxKind::PostgresCluster,
        }
    }
}

/// What is restored, and from where; or why there is nothing. Where it is left to us, no store is taken that stands still.
fn choose(
    facts: &Facts<'_>,
    subject: &Subject<'_>,
    wanted: Wanted,
    expired: Option<&Expiry<'_>>,
) -> Result<Chosen, String> {
    let stores = match &wanted.from {
        Some(from) => vec![readable(facts, from)?],
        None => in_rotation(facts, subject),
    };
    let is_random = wanted.point.is_none() && subject.drill.at == DrillPoint::Random;
    let newest = newest(facts, subject, &stores);
    if is_random {
        let drawn = stores.iter().find_map(|store| {
            let point = draw(facts, subject, store, wanted.seed, expired)?;
            decide(facts, subject, store, point).ok()
        });
        let Some((restore, point)) = drawn else { return Err(nothing(facts, subject)) };
        let is_newest = newest.is_some_and(|(_, _, at)| at == point);
        return Ok(Chosen { restore, point, is_newest });
    }
    match wanted.point {
        None | Some(Point::Latest) => {
            let (restore, _, point) = newest.ok_or_else(|| nothing(facts, subject))?;
            Ok(Chosen { restore, point, is_newest: true })
        }
        Some(point) => {
            let mut why = nothing(facts, subject);
            for store in &stores {
                match decide(facts, subject, store, point.clone()) {
                    Ok((restore, point)) => return Ok(Chosen { restore, point, is_newest: false }),
                    Err(error) => why = error,
                }
            }
            Err(why)
        }
    }
}

/// The newest data of all stores; of several that have it the one that comes first.
fn newest<'s>(
    facts: &Facts<'_>,
    subject: &Subject<'_>,
    stores: &[&'s StoreName],
) -> Option<(Restore, &'s StoreName, Timestamp)> {
    let of_store = |store: &&'s StoreName| {
        let (restore, point) = decide(facts, subject, store, Point::Latest).ok()?;
        Some((restore, *store, point))
    };
    // Of equal ones `max_by_key` takes the last.
    stores.iter().rev().filter_map(of_store).max_by_key(|(.., point)| *point)
}

/// The stores that may be read, the one that was drilled longest ago first; of those that never were the nearest.
fn in_rotation<'s>(facts: &Facts<'s>, subject: &Subject<'s>) -> Vec<&'s StoreName> {
    let usable =
        |store: &&StoreName| readable(facts, store).is_ok() && suspensions::of_store(facts, store).is_none();
    let mut stores: Vec<&StoreName> = subject.backup.stores.iter().filter(usable).collect();
    // A stable sort: `None` comes first.
    stores.sort_by_key(|store| subject.history.stores.get(*store).copied());
    stores
}

/// A store that can be believed, and that an identity can read.
fn readable<'s>(facts: &Facts<'_>, store: &'s StoreName) -> Result<&'s StoreName, String> {
    facts.store(store)?;
    match facts.deepest_check(store) {
        Depth::Plaintext => Ok(store),
        Depth::Metadata | Depth::Data => Err(format!(
            "this controller has no identity that can read what is in {store}; set keys.identity"
        )),
    }
}

fn nothing(facts: &Facts<'_>, subject: &Subject<'_>) -> String {
    let unseen: Vec<String> =
        subject.backup.stores.iter().filter_map(|store| readable(facts, store).err()).collect();
    match unseen.as_slice() {
        [] => format!("a restore point of {}; there is none yet that is whole", subject.backup.name),
        unseen => format!("a restore point of {}; {}", subject.backup.name, unseen.join("; ")),
    }
}

/// What brings a point back from one store, and the moment that this is.
fn decide(
    facts: &Facts<'_>,
    subject: &Subject<'_>,
    store: &StoreName,
    point: Point,
) -> Result<(Restore, Timestamp), String> {
    // Into a folder logs are replayed, into a file never.
    let to = match subject.replays() {
        true => Destination::Folder("/".into()),
        false => Destination::File("/".into()),
    };
    let backup = subject.backup.name.clone();
    let request = restore::Request { backup, point, from: Some(store.clone()), paths: Vec::new(), to };
    let (restore, _) = restore::decide(facts, &request).map_err(|error| error.to_string())?;
    let at = moment(facts, &restore).ok_or_else(|| nothing(facts, subject))?;
    Ok((restore, at))
}

/// The moment that a restore brings back.
fn moment(facts: &Facts<'_>, restore: &Restore) -> Option<Timestamp> {
    if let Some(Until::Moment(at)) = restore.until {
        return Some(at);
    }
    let stored = facts.stored(&restore.backup, &restore.store).ok()?;
    let newest = |ids: &[ArtifactId]| Some(stored.artifact(*ids.last()?)?.newest);
    newest(&restore.logs).max(newest(&restore.artifacts))
}

/// A point of a store by chance: half of the times any second that its logs reach, where they reach any, and else any
/// artifact that stays.
fn draw(
    facts: &Facts<'_>,
    subject: &Subject<'_>,
    store: &StoreName,
    seed: u64,
    expired: Option<&Expiry<'_>>,
) -> Option<Point> {
    let name: &BackupName = &subject.backup.name;
    let stored = facts.stored(name, store).ok()?;
    let (coin, lot) = (seed & 1, seed >> 1);
    let goes = |id| {
        let gone = expired.and_then(|expired| expired.get(&(name, store)));
        gone.is_some_and(|gone| gone.contains_key(&id))
    };
    if coin == 1 && subject.replays() {
        let kept: Vec<_> = windows(stored, facts.now)
            .into_iter()
            .filter(|window| !goes(window.base.id) && !window.logs.iter().any(|log| goes(log.id)))
            .filter(|window| lineage::chain(stored, window.base.content()).is_ok())
            .collect();
        if let Some(at) = nth_second(&stretches(kept.iter()), lot) {
            return Some(Point::At(at));
        }
    }
    let is_whole = |id| lineage::chain(stored, id).is_ok_and(|all| !all.iter().any(|a| goes(a.id)));
    let points = stored.artifacts.iter().filter(|a| {
        a.kind != Kind::Log && a.is_good() && !a.is_from_the_future(facts.now) && is_whole(a.content())
    });
    let points: Vec<ArtifactId> = points.map(|a| a.id).collect();
    let number = u64::try_from(points.len()).ok().filter(|number| *number > 0)?;
    points.get(usize::try_from(lot % number).ok()?).copied().map(Point::Artifact)
}

/// One of the whole seconds within stretches of time.
fn nth_second(stretches: &[Stretch], lot: u64) -> Option<Timestamp> {
    let first = |stretch: &Stretch| {
        let second = stretch.start.as_second();
        if stretch.start.subsec_nanosecond() == 0 { second } else { second + 1 }
    };
    let length = |stretch: &Stretch| u64::try_from(stretch.end.as_second() - first(stretch) + 1).unwrap_or(0);
    let all: u64 = stretches.iter().map(length).sum();
    let mut left = lot.checked_rem(all)?;
    for stretch in stretches {
        if left < length(stretch) {
            return Timestamp::from_second(first(stretch).checked_add_unsigned(left)?).ok();
        }
        left -= length(stretch);
    }
    None
}

/// What a scheduled drill draws by: another for every slot, and the same however often it is planned.
fn seed(drill: &DrillName, slot: Timestamp) -> u64 {
    let digest = Sha256::digest(format!("{drill} {}", slot.as_second()));
    digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_whole_second_of_the_stretches_can_be_drawn_and_no_other() {
        let t = |text: &str| text.parse::<Timestamp>().unwrap();
        let stretch = |start, end| Stretch { start: t(start), end: t(end) };
        let all = [
            stretch("2026-11-20T01:00:00.5Z", "2026-11-20T01:00:02.9Z"),
            stretch("2026-11-20T02:00:00Z", "2026-11-20T02:00:00Z"),
            stretch("2026-11-20T03:00:00.1Z", "2026-11-20T03:00:00.9Z"),
        ];
        let drawn: Vec<Timestamp> = (0..4).filter_map(|lot| nth_second(&all, lot)).collect();
        let (first, second, third) = ("2026-11-20T01:00:01Z", "2026-11-20T01:00:02Z", "2026-11-20T02:00:00Z");
        assert_eq!(drawn, [t(first), t(second), t(third), t(first)]);
        assert_eq!(nth_second(&[], 7), None);
    }
}
