//! What a drill restores of one backup: from which store, and to which moment.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::super::{
    action::{Destination, Restore},
    facts::Facts,
    lineage,
    restore::{self, Point},
    retention::Expiry,
    suspensions,
};
use crate::{
    artifact::{ArtifactId, Depth, Kind, until::Until},
    inventory::{Stretch, stretches, windows},
    spec::{
        Backup, DrillPoint,
        names::{BackupName, StoreName},
    },
};

/// A backup of which something is chosen.
pub(super) struct Choice<'a> {
    pub(super) backup: &'a Backup,
    pub(super) at: DrillPoint,
    /// When it was last drilled from each store.
    pub(super) drilled: &'a BTreeMap<StoreName, Timestamp>,
    /// Whether its logs can be replayed where it goes.
    pub(super) replays: bool,
    /// Where it goes.
    pub(super) to: Destination,
}

/// What a drill is to restore.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) point: Option<Point>,
    pub(super) from: Option<StoreName>,
    pub(super) seed: u64,
}

/// What a drill restores.
pub(super) struct Chosen {
    pub(super) restore: Restore,
    pub(super) point: Timestamp,
    pub(super) is_newest: bool,
}

/// What is restored, and from where; or why there is nothing. Where it is left to us, no store is taken that stands still.
pub(super) fn choose(
    facts: &Facts<'_>,
    choice: &Choice<'_>,
    wanted: Wanted,
    expired: Option<&Expiry<'_>>,
) -> Result<Chosen, String> {
    let stores = match &wanted.from {
        Some(from) => vec![readable(facts, choice.backup, from)?],
        None => in_rotation(facts, choice),
    };
    let is_random = wanted.point.is_none() && choice.at == DrillPoint::Random;
    let newest = newest(facts, choice, &stores);
    if is_random {
        let drawn = stores.iter().find_map(|store| {
            let point = draw(facts, choice, store, wanted.seed, expired)?;
            decide(facts, choice, store, point).ok()
        });
        let Some((restore, point)) = drawn else { return Err(nothing(facts, choice)) };
        let is_newest = newest.is_some_and(|(_, _, at)| at == point);
        return Ok(Chosen { restore, point, is_newest });
    }
    match wanted.point {
        None | Some(Point::Latest) => {
            let (restore, _, point) = newest.ok_or_else(|| nothing(facts, choice))?;
            Ok(Chosen { restore, point, is_newest: true })
        }
        Some(point) => {
            let mut why = nothing(facts, choice);
            for store in &stores {
                match decide(facts, choice, store, point.clone()) {
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
    choice: &Choice<'_>,
    stores: &[&'s StoreName],
) -> Option<(Restore, &'s StoreName, Timestamp)> {
    let of_store = |store: &&'s StoreName| {
        let (restore, point) = decide(facts, choice, store, Point::Latest).ok()?;
        Some((restore, *store, point))
    };
    // Of equal ones `max_by_key` takes the last.
    stores.iter().rev().filter_map(of_store).max_by_key(|(.., point)| *point)
}

/// The stores that may be read, the one that was drilled longest ago first; of those that never were the nearest.
fn in_rotation<'s>(facts: &Facts<'s>, choice: &Choice<'s>) -> Vec<&'s StoreName> {
    let usable = |store: &&StoreName| {
        readable(facts, choice.backup, store).is_ok() && suspensions::of_store(facts, store).is_none()
    };
    let mut stores: Vec<&StoreName> = choice.backup.stores.iter().filter(usable).collect();
    // A stable sort: `None` comes first.
    stores.sort_by_key(|store| choice.drilled.get(*store).copied());
    stores
}

/// A store that can be believed, and that an identity can read where that is needed: a provider reads its own backups itself.
fn readable<'s>(facts: &Facts<'_>, backup: &Backup, store: &'s StoreName) -> Result<&'s StoreName, String> {
    facts.store(store)?;
    match facts.deepest_check(store) {
        _ if backup.source.is_native() => Ok(store),
        Depth::Plaintext => Ok(store),
        Depth::Metadata | Depth::Data => Err(format!(
            "this controller has no identity that can read what is in {store}; set keys.identity"
        )),
    }
}

fn nothing(facts: &Facts<'_>, choice: &Choice<'_>) -> String {
    let unseen: Vec<String> =
        choice.backup.stores.iter().filter_map(|store| readable(facts, choice.backup, store).err()).collect();
    match unseen.as_slice() {
        [] => format!("a restore point of {}; there is none yet that is whole", choice.backup.name),
        unseen => format!("a restore point of {}; {}", choice.backup.name, unseen.join("; ")),
    }
}

/// What brings a point back from one store, and the moment that this is.
fn decide(
    facts: &Facts<'_>,
    choice: &Choice<'_>,
    store: &StoreName,
    point: Point,
) -> Result<(Restore, Timestamp), String> {
    let (backup, to) = (choice.backup.name.clone(), choice.to.clone());
    let request = restore::Request { backup, point, from: Some(store.clone()), paths: Vec::new(), to };
    let (restore, _) = restore::decide(facts, &request).map_err(|error| error.to_string())?;
    let at = moment(facts, &restore).ok_or_else(|| nothing(facts, choice))?;
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
    choice: &Choice<'_>,
    store: &StoreName,
    seed: u64,
    expired: Option<&Expiry<'_>>,
) -> Option<Point> {
    let name: &BackupName = &choice.backup.name;
    let stored = facts.stored(name, store).ok()?;
    let (coin, lot) = (seed & 1, seed >> 1);
    let goes = |id| {
        let gone = expired.and_then(|expired| expired.get(&(name, store)));
        gone.is_some_and(|gone| gone.contains_key(&id))
    };
    if coin == 1 && choice.replays {
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
