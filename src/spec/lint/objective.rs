//! Whether a policy's schedules can meet its RPO.
//!
//! The most data that can be lost is the time from one restore point until the next one is there: from the slot of one
//! capture until the end of the next. It must not exceed `rpo` and `grace` together. How long a capture takes is not
//! known from a declaration: a tenth of the longest gap between its slots is assumed, at most an hour, and for logs at
//! most a minute.

use std::{collections::BTreeMap, time::Duration};

use humantime::format_duration;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{Lint, policy::plain};
use crate::{
    artifact::Kind,
    spec::{Policy, places::path},
};

/// Where looking begins; any day does as well.
pub(super) const HORIZON_START: Timestamp = Timestamp::constant(1_767_225_600, 0);
/// A year and a month: every pattern of a calendar shows.
const HORIZON: SignedDuration = SignedDuration::from_hours(400 * 24);
/// Around a change of clocks.
const AROUND: SignedDuration = SignedDuration::from_hours(8 * 24);
/// Slots of one kind that are looked at.
const MOST_SLOTS: usize = 60_000;

impl Lint<'_> {
    pub(super) fn objectives_can_be_met(&mut self) {
        let lowered = self.lowered;
        // Many policies of a large fleet are alike.
        let zone = &lowered.spec.fleet.time_zone;
        let mut worst = BTreeMap::new();
        for policy in lowered.policies.values() {
            let Some(rpo) = policy.rpo else { continue };
            let limit = rpo + policy.grace;
            let key = (&policy.schedules, &policy.window, limit);
            let worst = *worst.entry(key).or_insert_with(|| worst_loss(policy, zone, limit));
            self.objective_can_be_met(policy, rpo, worst);
        }
    }

    fn objective_can_be_met(&mut self, policy: &Policy, rpo: Duration, worst: Option<Duration>) {
        let at = path(["policy", policy.name.as_str(), "rpo"]);
        let name = &policy.name;
        let limit = rpo + policy.grace;
        if policy.schedules.is_empty() {
            let message =
                format!("policy `{name}` promises an RPO of {}, but has no schedule", format_duration(rpo));
            self.error("rpo-unreachable", &at, message, "add `full`, and what else the RPO needs");
        } else if policy.window.never_opens() {
            // Is reported as such.
        } else if let Some(worst) = worst.filter(|worst| *worst > limit) {
            let message = format!(
                "policy `{name}` cannot keep its RPO of {}: up to {} may be lost",
                format_duration(rpo),
                format_duration(worst)
            );
            self.error("rpo-unreachable", &at, message, remedy(policy, rpo));
        } else if let Some(worst) =
            loss_when_clocks_change(policy, &self.lowered.spec.fleet.time_zone).filter(|worst| *worst > limit)
        {
            let message = format!(
                "policy `{name}` misses its RPO of {} once a year, when the clock is set back: up to {} may be lost",
                format_duration(rpo),
                format_duration(worst)
            );
            let hint = "an hour that comes twice is run once: use { every = \"…\" }, or a wider `grace`";
            self.warning("rpo-missed-when-clocks-change", &at, message, hint);
        }
    }
}

fn remedy(policy: &Policy, rpo: Duration) -> String {
    // A capture, and its gap, must fit into the RPO.
    let every = format_duration(Duration::from_secs((rpo.as_secs() / 3).max(1)));
    let kind = if policy.schedules.contains_key(&Kind::Log) || rpo < Duration::from_secs(3600) {
        Kind::Log
    } else {
        Kind::Incremental
    };
    format!(
        "what is lost lasts from the slot of one capture until the end of the next: \
         try {kind} = {{ every = \"{every}\" }}"
    )
}

/// The assumed length of a capture whose slots lie `gap` apart.
fn assumed_capture(kind: Kind, gap: Duration) -> Duration {
    let most = if kind == Kind::Log { Duration::from_secs(60) } else { Duration::from_secs(3600) };
    whole_seconds((gap / 10).min(most))
}

fn whole_seconds(length: Duration) -> Duration {
    Duration::from_secs(length.as_secs())
}

/// The most that may be lost, in civil time unless the window goes by a zone of its own; exact only beyond `limit`.
fn worst_loss(policy: &Policy, fleet: &TimeZone, limit: Duration) -> Option<Duration> {
    let held = !policy.window.is_always_open();
    let alone =
        policy.schedules.iter().filter(|(kind, _)| !held || **kind == Kind::Log).map(|(kind, cadence)| {
            let gap = cadence.longest_gap();
            gap + assumed_capture(*kind, gap)
        });
    let best_alone = alone.min();
    if best_alone.is_some_and(|loss| loss <= limit) || (!held && policy.schedules.len() == 1) {
        return best_alone;
    }
    let zone = if policy.window.zone.is_some() { fleet } else { &TimeZone::UTC };
    let together = longest_loss(policy, zone, HORIZON_START, HORIZON_START.checked_add(HORIZON).ok()?);
    // So seldom that a year does not show it.
    together.or(best_alone).or(Some(Duration::try_from(HORIZON).ok()?))
}

/// The most that may be lost around the moments when the zone's clock is set back.
fn loss_when_clocks_change(policy: &Policy, zone: &TimeZone) -> Option<Duration> {
    let end = HORIZON_START.checked_add(HORIZON).ok()?;
    let changes = zone.following(HORIZON_START).take_while(|change| change.timestamp() < end);
    changes
        .filter_map(|change| {
            let at = change.timestamp();
            longest_loss(policy, zone, at.checked_sub(AROUND).ok()?, at.checked_add(AROUND).ok()?)
        })
        .max()
}

/// The longest time, within `from..until`, from one restore point until the next is there.
fn longest_loss(policy: &Policy, zone: &TimeZone, from: Timestamp, until: Timestamp) -> Option<Duration> {
    let mut captures: Vec<(Timestamp, Timestamp)> = Vec::new();
    for (kind, cadence) in &policy.schedules {
        let length = assumed_capture(*kind, cadence.longest_gap());
        captures.extend(starts(policy, *kind, zone, from, until).into_iter().filter_map(|start| {
            // When it is there, and what it brings back.
            Some((start.checked_add(SignedDuration::try_from(length).ok()?).ok()?, start))
        }));
    }
    captures.sort_unstable();
    let mut newest: Option<Timestamp> = None;
    let mut longest = Duration::ZERO;
    for (there, moment) in captures {
        if let Some(newest) = newest {
            longest = longest.max(there.duration_since(newest).try_into().unwrap_or_default());
        }
        newest = newest.max(Some(moment));
    }
    (!longest.is_zero()).then_some(longest)
}

/// When captures of one kind begin: at their slots, or when the window opens.
fn starts(policy: &Policy, kind: Kind, zone: &TimeZone, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let schedule = plain(policy, kind, zone.clone());
    let slots = std::iter::successors(schedule.next_after(from), |slot| schedule.next_after(*slot));
    let mut starts: Vec<Timestamp> = slots
        .take(MOST_SLOTS)
        .take_while(|slot| *slot < until)
        .filter_map(|slot| match kind {
            Kind::Log => Some(slot),
            _ => policy.window.next_opening(slot, zone),
        })
        .collect();
    starts.dedup();
    starts
}
