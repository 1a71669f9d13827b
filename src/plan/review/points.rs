//! The restore points that schedules and retention leave at a moment, as if every slot had been filled.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::{
    artifact::{ArtifactId, Kind},
    inventory::Origin,
    spec::{
        Cadence, Policy, Retention, Schedule, Window,
        retention::{Candidate, Checked, Rules, Selects, decide},
    },
};

/// Restore points of one kind that are reckoned with; beyond it numbers are lower bounds.
const MOST_POINTS: usize = 20_000;
/// Beyond it nothing is reckoned: no policy that says so is older.
const FARTHEST: Duration = Duration::from_secs(20 * 366 * 86_400);

/// How many restore points of one kind there are, and how old the oldest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub points: usize,
    /// Whether there are more than could be counted.
    pub or_more: bool,
    /// Age of the oldest of them.
    pub oldest: Duration,
}

/// What becomes of the restore points of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// What the rules before keep; `None` where they keep everything for ever.
    pub before: Option<Count>,
    /// Of those, how many the rules after let go. Where `before` is `None` there is no telling.
    pub lost: Option<usize>,
    /// What schedules and rules after keep in the long run; `None` where they keep everything for ever, and where
    /// nothing makes this kind any more.
    pub after: Option<Count>,
}

/// When a backup is captured, and how long that is kept.
#[derive(Clone, Copy, Debug)]
pub struct Regime<'a> {
    /// When each kind is made.
    pub schedules: &'a BTreeMap<Kind, Cadence>,
    /// When captures must not begin.
    pub window: &'a Window,
    /// What is kept.
    pub keep: &'a Retention,
    /// Where a day begins.
    pub zone: &'a TimeZone,
}

impl<'a> Regime<'a> {
    /// A policy with the retention of one store.
    pub fn new(policy: &'a Policy, keep: &'a Retention, zone: &'a TimeZone) -> Self {
        Self { schedules: &policy.schedules, window: &policy.window, keep, zone }
    }

    fn keeps_for_ever(&self, kind: Kind) -> bool {
        self.keep.age(kind).is_none() && !self.keep.counts(kind)
    }
}

/// What was reckoned already: many backups of a fleet have the same policies.
#[derive(Debug, Default)]
pub struct Memory(HashMap<String, BTreeMap<Kind, Outlook>>);

impl Memory {
    /// What becomes of each kind that is scheduled before.
    pub fn outlook(
        &mut self,
        before: Regime<'_>,
        after: Regime<'_>,
        now: Timestamp,
    ) -> BTreeMap<Kind, Outlook> {
        // Retention has no order and no hash; what it prints tells all of it.
        let key = format!("{before:?} {after:?}");
        self.0.entry(key).or_insert_with(|| reckon(before, after, now)).clone()
    }
}

fn reckon(before: Regime<'_>, after: Regime<'_>, now: Timestamp) -> BTreeMap<Kind, Outlook> {
    let existing = kept(before, &made(before, before.keep, now), now);
    let surviving: BTreeSet<_> = decided(after, &existing.points, now);
    let later = kept(after, &made(after, after.keep, now), now);
    let outlook = |kind: Kind| {
        let unbounded = before.keeps_for_ever(kind);
        let lost =
            existing.points.iter().filter(|point| point.kind == kind && !surviving.contains(&point.id));
        let lost = match (unbounded, after.keeps_for_ever(kind)) {
            (_, true) => Some(0),
            (true, false) => None,
            (false, false) => Some(lost.count()),
        };
        let ends = after.schedules.contains_key(&kind) && !after.keeps_for_ever(kind);
        Outlook {
            before: (!unbounded).then(|| existing.count(kind, now)),
            lost,
            after: ends.then(|| later.count(kind, now)),
        }
    };
    before.schedules.keys().map(|kind| (*kind, outlook(*kind))).collect()
}

#[derive(Clone, Copy, Debug)]
struct Point {
    id: ArtifactId,
    kind: Kind,
    at: Timestamp,
}

#[derive(Debug, Default)]
struct Points {
    points: Vec<Point>,
    capped: BTreeSet<Kind>,
}

impl Points {
    fn count(&self, kind: Kind, now: Timestamp) -> Count {
        let these = || self.points.iter().filter(|point| point.kind == kind);
        let oldest = these().map(|point| point.at).min().unwrap_or(now);
        Count {
            points: these().count(),
            or_more: self.capped.contains(&kind),
            oldest: now.duration_since(oldest).try_into().unwrap_or_default(),
        }
    }
}

/// What a regime made, as far back as `keep` can reach. Kinds that are kept for ever are left out.
fn made(regime: Regime<'_>, keep: &Retention, now: Timestamp) -> Points {
    let mut made = Points::default();
    let mut taken = BTreeSet::new();
    // The strongest first: it fills the slots of weaker kinds, too.
    for (kind, cadence) in regime.schedules.iter().rev().filter(|(kind, _)| !regime.keeps_for_ever(**kind)) {
        let since =
            now.checked_sub(SignedDuration::try_from(reach(*kind, cadence, keep)).unwrap_or_default());
        let since = since.unwrap_or(Timestamp::MIN);
        let schedule = Schedule::without_jitter(cadence.clone(), regime.zone.clone());
        let before = |slot: &Timestamp| {
            schedule.latest_at_or_before(slot.checked_sub(SignedDuration::from_nanos(1)).ok()?)
        };
        let slots = std::iter::successors(schedule.latest_at_or_before(now), before);
        let mut slots: Vec<Timestamp> =
            slots.take(MOST_POINTS + 1).take_while(|slot| *slot >= since).collect();
        if slots.len() > MOST_POINTS {
            slots.pop();
            made.capped.insert(*kind);
        }
        let begin = |slot| match kind {
            Kind::Log => Some(slot),
            _ => regime.window.next_opening(slot, regime.zone).filter(|begin| *begin <= now),
        };
        for at in slots.into_iter().filter_map(begin) {
            if *kind == Kind::Log || taken.insert(at) {
                let id = ArtifactId::new(at, made.points.len() as u64);
                made.points.push(Point { id, kind: *kind, at });
            }
        }
    }
    made
}

/// How far back `keep` can hold artifacts of one kind.
fn reach(kind: Kind, cadence: &Cadence, keep: &Retention) -> Duration {
    let gap = cadence.longest_gap();
    let spans = [
        (keep.hourly, 1),
        (keep.daily, 24),
        (keep.weekly, 7 * 24),
        (keep.monthly, 31 * 24),
        (keep.yearly, 366 * 24),
        (keep.last, 0),
    ];
    let calendars = spans.iter().filter(|_| keep.counts(kind)).filter_map(|(count, hours)| {
        let span = Duration::from_secs(hours * 3600).max(gap);
        // One span more: the current one is not over.
        span.checked_mul((*count)?.saturating_add(1))
    });
    calendars.chain(keep.age(kind)).max().unwrap_or(FARTHEST).min(FARTHEST)
}

/// What of `made` the regime keeps.
fn kept(regime: Regime<'_>, made: &Points, now: Timestamp) -> Points {
    let kept = decided(regime, &made.points, now);
    let points = made.points.iter().filter(|point| kept.contains(&point.id)).copied().collect();
    Points { points, capped: made.capped.clone() }
}

fn decided(regime: Regime<'_>, points: &[Point], now: Timestamp) -> BTreeSet<ArtifactId> {
    let candidates: Vec<Candidate<'_>> = points
        .iter()
        .map(|point| Candidate {
            id: point.id,
            kind: point.kind,
            origin: Origin::Scheduled,
            newest: point.at,
            checked: Checked::Passed,
            held: None,
            from: None,
            requires: &[],
            supersedes: None,
        })
        .collect();
    let rules = Rules { keep: regime.keep, selects: Selects::Fulls, zone: regime.zone };
    let verdicts = decide(rules, &candidates, now);
    verdicts.into_iter().filter_map(|(id, verdict)| verdict.keeps().then_some(id)).collect()
}
