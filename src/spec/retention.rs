//! Retention: which artifacts of one backup one store keeps, and why. A pure function of rules, artifacts and time.
//!
//! Rules are a union: whatever one of them keeps stays. An age covers its kind; the calendar rules (`hourly` to
//! `yearly`, `last`) select artifacts that passed a check. What was not checked yet fills no place of theirs, and is
//! not deleted for lack of one. A kind that no rule covers is kept. What a kept artifact requires is kept.
//!
//! An epoch's full may go before its incrementals: their manifests name every pack that they use, and packs in use
//! stay. Only `requires` ties one artifact's life to another's; and a log keeps the newest data that it goes on from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::Retention;
use crate::{
    artifact::{ArtifactId, Depth, Kind},
    inventory::{Condition, Origin, StoredArtifact},
};

/// What the calendar rules choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selects {
    /// Fulls: the rule for backups.
    Fulls,
    /// Artifacts of every kind: the rule for the infra repo's bundles, each of which is a point to return to.
    EveryKind,
}

/// The rules of one backup in one store.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// As declared.
    pub keep: &'a Retention,
    /// What the calendar rules choose from.
    pub selects: Selects,
    /// Where a day begins.
    pub zone: &'a TimeZone,
}

/// Whether an artifact passed the last check that its store could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It was found good.
    Passed,
    /// Nobody looked yet.
    NotYet,
    /// It is known to be damaged.
    Failed,
}

/// What retention needs to know of an artifact.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub id: ArtifactId,
    /// What it holds.
    pub kind: Kind,
    /// Whether a person asked for it.
    pub origin: Origin,
    /// The newest data that it brings back: what its age counts from.
    pub newest: Timestamp,
    /// What is known of its state.
    pub checked: Checked,
    /// Why it must be kept, if a person said so.
    pub held: Option<&'a str>,
    /// For logs: where its window begins.
    pub from: Option<Timestamp>,
    /// What a restore needs besides it.
    pub requires: &'a [ArtifactId],
    /// The artifact that it repairs and replaces.
    pub supersedes: Option<ArtifactId>,
}

impl<'a> Candidate<'a> {
    /// What retention needs to know of `artifact`.
    pub fn of(artifact: &'a StoredArtifact) -> Self {
        let checked = match &artifact.condition {
            Condition::Damaged(_) => Checked::Failed,
            Condition::Good if artifact.verified.at_least(Depth::Metadata).is_some() => Checked::Passed,
            Condition::Good | Condition::Unknown(_) => Checked::NotYet,
        };
        Self {
            id: artifact.id,
            kind: artifact.kind,
            origin: artifact.origin,
            newest: artifact.newest,
            checked,
            held: artifact.held.as_deref(),
            from: artifact.from().map(|from| from.time),
            requires: &artifact.requires,
            supersedes: artifact.supersedes,
        }
    }

    fn is_from_the_future(&self, now: Timestamp) -> bool {
        self.newest > now || self.id.time() > now
    }

    fn order(&self) -> (Timestamp, ArtifactId) {
        (self.newest, self.id)
    }
}

/// A calendar rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calendar {
    /// The newest of each hour.
    Hourly,
    /// The newest of each day.
    Daily,
    /// The newest of each ISO week.
    Weekly,
    /// The newest of each month.
    Monthly,
    /// The newest of each year.
    Yearly,
    /// The newest of all.
    Last,
}

/// Why an artifact is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Younger than the rule of its kind, until then.
    Young {
        /// When the rule lets it go.
        until: Timestamp,
    },
    /// No rule covers its kind.
    NoRule,
    /// A calendar rule selects it.
    Selected(Calendar),
    /// Not checked yet, so that no calendar rule could judge it.
    NotCheckedYet,
    /// It would be kept if it were not damaged: a calendar rule would select it, nothing that is good is newer or nothing
    /// is good at all. Damage is to be repaired, and no reason to delete.
    Damaged,
    /// The newest good one of its backup in this store.
    Newest,
    /// A person said so, and why.
    Held(String),
    /// A restore of this one, which is kept, needs it.
    RequiredBy(ArtifactId),
    /// Dated in the future, so that its age is unknown.
    FromTheFuture,
}

/// Why an artifact may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expired {
    /// Older than the rule of its kind, and no other rule keeps it.
    Aged {
        /// Since when the rule does not keep it.
        since: Timestamp,
    },
    /// No calendar rule selects it.
    NotSelected,
    /// A good artifact repairs and replaces it.
    Superseded(ArtifactId),
}

/// What becomes of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It stays, for these reasons; never empty.
    Keep(Vec<Keep>),
    /// It may go.
    Delete(Expired),
}

impl Verdict {
    /// Whether the artifact stays.
    pub fn keeps(&self) -> bool {
        matches!(self, Verdict::Keep(_))
    }
}

/// What becomes of each of the artifacts of one backup in one store at `now`, which must be the earlier of the
/// controller's clock and the store's. The candidates' order does not matter.
pub fn decide(
    rules: Rules<'_>,
    candidates: &[Candidate<'_>],
    now: Timestamp,
) -> BTreeMap<ArtifactId, Verdict> {
    let replaced = replaced(candidates);
    let passed = |c: &Candidate<'_>| c.checked == Checked::Passed;
    let selected = select(rules, candidates, passed, &replaced, now);
    let judged = |c: &Candidate<'_>| c.checked != Checked::NotYet;
    let selected_whole = select(rules, candidates, judged, &replaced, now);
    let whole = whole_data(candidates, &replaced, now);
    let newest = whole.last().copied();
    let mut verdicts: BTreeMap<ArtifactId, Verdict> = candidates
        .iter()
        .map(|c| {
            let picked = selected.get(&c.id).map_or(&[][..], Vec::as_slice);
            let mut keep = own_reasons(rules, c, picked, replaced.contains_key(&c.id), now);
            if newest == Some(c.order()) {
                keep.push(Keep::Newest);
            }
            let would_be_kept =
                selected_whole.contains_key(&c.id) || newest.is_none_or(|good| good < c.order());
            let is_whole = c.kind == Kind::Log || whole.binary_search(&c.order()).is_ok();
            let is_damaged = (c.checked == Checked::Failed || !is_whole) && !replaced.contains_key(&c.id);
            let is_all_there_is = newest.is_none();
            if keep.is_empty() && (is_all_there_is || is_damaged && would_be_kept) {
                keep.push(Keep::Damaged);
            }
            let verdict = match keep.is_empty() {
                false => Verdict::Keep(keep),
                true => Verdict::Delete(why_expired(rules, c, &replaced)),
            };
            (c.id, verdict)
        })
        .collect();
    keep_what_logs_go_on_from(candidates, &whole, &mut verdicts);
    keep_required(candidates, &replaced, &mut verdicts);
    verdicts
}

/// What a good artifact repairs and replaces, and which one does.
fn replaced(candidates: &[Candidate<'_>]) -> BTreeMap<ArtifactId, ArtifactId> {
    let good = candidates.iter().filter(|c| c.checked != Checked::Failed);
    good.filter_map(|c| Some((c.supersedes?, c.id))).collect()
}

/// What brings something back: good data of which all that it requires is good as well, oldest first.
fn whole_data(
    candidates: &[Candidate<'_>],
    replaced: &BTreeMap<ArtifactId, ArtifactId>,
    now: Timestamp,
) -> Vec<(Timestamp, ArtifactId)> {
    let data = candidates.iter().filter(|c| c.kind != Kind::Log);
    let mut good: Vec<_> =
        data.filter(|c| c.checked != Checked::Failed && !c.is_from_the_future(now)).collect();
    good.sort_unstable_by_key(|c| c.order());
    // What is required is of older data, and so comes before.
    let mut whole: BTreeSet<ArtifactId> = BTreeSet::new();
    good.retain(|c| {
        let is_there = |id: &ArtifactId| {
            whole.contains(id) || replaced.get(id).is_some_and(|repair| whole.contains(repair))
        };
        let is_whole = c.requires.iter().all(is_there);
        is_whole && whole.insert(c.id)
    });
    good.into_iter().map(Candidate::order).collect()
}

/// Keeps the newest data that each kept log goes on from: without it the log brings nothing back.
fn keep_what_logs_go_on_from(
    candidates: &[Candidate<'_>],
    data: &[(Timestamp, ArtifactId)],
    verdicts: &mut BTreeMap<ArtifactId, Verdict>,
) {
    let kept = |c: &&Candidate<'_>| c.kind == Kind::Log && verdicts.get(&c.id).is_some_and(Verdict::keeps);
    let logs: Vec<(ArtifactId, Timestamp)> =
        candidates.iter().filter(kept).filter_map(|c| Some((c.id, c.from?))).collect();
    for (log, from) in logs {
        let before = data.partition_point(|(newest, _)| *newest <= from);
        let base = before.checked_sub(1).and_then(|last| data.get(last));
        if let Some(verdict @ Verdict::Delete(_)) = base.and_then(|(_, base)| verdicts.get_mut(base)) {
            *verdict = Verdict::Keep(vec![Keep::RequiredBy(log)]);
        }
    }
}

/// Reasons that an artifact has of its own, whatever becomes of others.
fn own_reasons(
    rules: Rules<'_>,
    c: &Candidate<'_>,
    selected: &[Calendar],
    replaced: bool,
    now: Timestamp,
) -> Vec<Keep> {
    let mut keep: Vec<Keep> = c.held.map(|why| Keep::Held(why.to_owned())).into_iter().collect();
    if c.is_from_the_future(now) {
        keep.push(Keep::FromTheFuture);
    }
    if replaced {
        return keep;
    }
    let (age, calendar) = (age_rule(rules.keep, c), is_selectable(rules, c));
    match age.map(|age| end_of(c.newest, age)) {
        Some(until) if until > now => keep.push(Keep::Young { until }),
        Some(_) => {}
        None if !calendar => keep.push(Keep::NoRule),
        None => {}
    }
    keep.extend(selected.iter().copied().map(Keep::Selected));
    if calendar && c.checked == Checked::NotYet {
        keep.push(Keep::NotCheckedYet);
    }
    keep
}

fn why_expired(rules: Rules<'_>, c: &Candidate<'_>, replaced: &BTreeMap<ArtifactId, ArtifactId>) -> Expired {
    if let Some(by) = replaced.get(&c.id) {
        return Expired::Superseded(*by);
    }
    match age_rule(rules.keep, c) {
        Some(age) => Expired::Aged { since: end_of(c.newest, age) },
        None => Expired::NotSelected,
    }
}

/// The rule that covers an artifact by its age, if one does.
fn age_rule(keep: &Retention, c: &Candidate<'_>) -> Option<Duration> {
    match (c.origin, c.kind) {
        (Origin::Manual, _) => keep.manual,
        (Origin::Scheduled, Kind::Full) => keep.full,
        (Origin::Scheduled, Kind::Incremental) => keep.incremental,
        (Origin::Scheduled, Kind::Differential) => keep.differential,
        (Origin::Scheduled, Kind::Log) => keep.log,
    }
}

/// Whether the calendar rules, where there are any, judge an artifact.
fn is_selectable(rules: Rules<'_>, c: &Candidate<'_>) -> bool {
    let kind = rules.selects == Selects::EveryKind || c.kind == Kind::Full;
    kind && c.origin == Origin::Scheduled && calendars(rules.keep).next().is_some()
}

fn calendars(keep: &Retention) -> impl Iterator<Item = (Calendar, u32)> {
    [
        (Calendar::Hourly, keep.hourly),
        (Calendar::Daily, keep.daily),
        (Calendar::Weekly, keep.weekly),
        (Calendar::Monthly, keep.monthly),
        (Calendar::Yearly, keep.yearly),
        (Calendar::Last, keep.last),
    ]
    .into_iter()
    .filter_map(|(calendar, count)| Some((calendar, count?)))
}

/// The newest artifact of each of so many spans that have one.
fn select(
    rules: Rules<'_>,
    candidates: &[Candidate<'_>],
    is_eligible: impl Fn(&Candidate<'_>) -> bool,
    replaced: &BTreeMap<ArtifactId, ArtifactId>,
    now: Timestamp,
) -> BTreeMap<ArtifactId, Vec<Calendar>> {
    let mut eligible: Vec<&Candidate<'_>> = candidates
        .iter()
        .filter(|c| is_selectable(rules, c) && is_eligible(c))
        .filter(|c| !c.is_from_the_future(now) && !replaced.contains_key(&c.id))
        .collect();
    eligible.sort_unstable_by_key(|c| std::cmp::Reverse(c.order()));
    let mut selected: BTreeMap<ArtifactId, Vec<Calendar>> = BTreeMap::new();
    for (calendar, count) in calendars(rules.keep) {
        let mut spans = BTreeSet::new();
        for (place, c) in eligible.iter().enumerate() {
            if spans.len() >= count as usize {
                break;
            }
            if spans.insert(span(calendar, c.newest, place, rules.zone)) {
                selected.entry(c.id).or_default().push(calendar);
            }
        }
    }
    selected
}

/// What makes two moments share a place of a calendar rule.
fn span(calendar: Calendar, at: Timestamp, place: usize, zone: &TimeZone) -> (i64, i64, i64) {
    let (offset, civil) = (zone.to_offset(at), zone.to_datetime(at));
    let (year, month) = (i64::from(civil.year()), i64::from(civil.month()));
    let day = i64::from(civil.date().day_of_year());
    match calendar {
        // With the offset, so that an hour that the clock repeats is two.
        Calendar::Hourly => (year, day * 24 + i64::from(civil.hour()), i64::from(offset.seconds())),
        Calendar::Daily => (year, day, 0),
        Calendar::Weekly => {
            let week = civil.date().iso_week_date();
            (i64::from(week.year()), i64::from(week.week()), 0)
        }
        Calendar::Monthly => (year, month, 0),
        Calendar::Yearly => (year, 0, 0),
        Calendar::Last => (i64::try_from(place).unwrap_or(i64::MAX), 0, 0),
    }
}

fn end_of(newest: Timestamp, age: Duration) -> Timestamp {
    newest.checked_add(age).unwrap_or(Timestamp::MAX)
}

/// Keeps what kept artifacts require, however long the chain; where that was repaired, also what stands in its place.
fn keep_required(
    candidates: &[Candidate<'_>],
    replaced: &BTreeMap<ArtifactId, ArtifactId>,
    verdicts: &mut BTreeMap<ArtifactId, Verdict>,
) {
    let requires: BTreeMap<ArtifactId, &[ArtifactId]> =
        candidates.iter().filter(|c| !c.requires.is_empty()).map(|c| (c.id, c.requires)).collect();
    let mut open: Vec<ArtifactId> =
        requires.keys().copied().filter(|id| verdicts.get(id).is_some_and(Verdict::keeps)).collect();
    while let Some(id) = open.pop() {
        let required = requires.get(&id).copied().unwrap_or_default();
        for required in required.iter().chain(required.iter().filter_map(|id| replaced.get(id))) {
            if let Some(verdict @ Verdict::Delete(_)) = verdicts.get_mut(required) {
                *verdict = Verdict::Keep(vec![Keep::RequiredBy(id)]);
                open.push(*required);
            }
        }
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Calendar::Hourly => "hourly",
            Calendar::Daily => "daily",
            Calendar::Weekly => "weekly",
            Calendar::Monthly => "monthly",
            Calendar::Yearly => "yearly",
            Calendar::Last => "last",
        })
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keep::Young { until } => write!(f, "younger than its rule until {until:.0}"),
            Keep::NoRule => f.write_str("no rule covers its kind"),
            Keep::Selected(calendar) => write!(f, "selected by `{calendar}`"),
            Keep::NotCheckedYet => f.write_str("not checked yet"),
            Keep::Damaged => f.write_str("damage is to be repaired, and no reason to delete"),
            Keep::Newest => f.write_str("the newest good one here"),
            Keep::Held(why) => write!(f, "held: {why}"),
            Keep::RequiredBy(id) => write!(f, "required by {id}"),
            Keep::FromTheFuture => f.write_str("dated in the future"),
        }
    }
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expired::Aged { since } => write!(f, "older than its rule since {since:.0}"),
            Expired::NotSelected => f.write_str("selected by no rule"),
            Expired::Superseded(by) => write!(f, "replaced by {by}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Keep(reasons) => {
                let reasons: Vec<String> = reasons.iter().map(Keep::to_string).collect();
                write!(f, "kept: {}", reasons.join(", "))
            }
            Verdict::Delete(why) => write!(f, "may go: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
