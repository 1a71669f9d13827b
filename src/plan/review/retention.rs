//! How long artifacts are kept, and which restore points a change of it costs.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Draft, Weight,
    points::{Count, Outlook, Regime},
    words,
};
use crate::{
    artifact::Kind,
    spec::{Backup, Retention, Spec, names::StoreName},
};

/// The retention of one backup, in the stores that it keeps.
pub fn review(old: (&Spec, &Backup), new: (&Spec, &Backup), draft: &mut Draft) {
    let (before, after) = (old.1, new.1);
    let mut alike: Vec<((&Retention, &Retention), Vec<&StoreName>)> = Vec::new();
    for store in before.stores.iter().filter(|store| after.stores.contains(store)) {
        let rules = (before.retention(store), after.retention(store));
        match alike.iter_mut().find(|(same, _)| *same == rules) {
            Some((_, stores)) => stores.push(store),
            None => alike.push((rules, vec![store])),
        }
    }
    let rescheduled =
        before.policy.schedules != after.policy.schedules || before.policy.window != after.policy.window;
    for ((old_keep, new_keep), stores) in alike {
        if old_keep == new_keep && !rescheduled {
            continue;
        }
        let subject = ["backup", after.name.as_str()];
        let place = format!("in {}", words::row(stores.iter().map(|store| store.as_str())));
        if old_keep != new_keep {
            let change =
                draft.note(Weight::Note, "retention-changed", subject, format!("what is kept {place}"));
            change.from(words::retention(old_keep)).to(words::retention(new_keep));
        }
        let outlooks = draft.reckoned.outlook(
            Regime::new(&before.policy, old_keep, &old.0.fleet.time_zone),
            Regime::new(&after.policy, new_keep, &new.0.fleet.time_zone),
            draft.at,
        );
        points(subject, &place, &outlooks, draft);
        leftovers(subject, &place, (before, after), (old_keep, new_keep), draft);
    }
}

/// Notes what becomes of the restore points of each kind.
fn points(subject: [&str; 2], place: &str, outlooks: &BTreeMap<Kind, Outlook>, draft: &mut Draft) {
    for (kind, outlook) in outlooks {
        let (weight, code, text) = match outlook.lost {
            None => {
                let text = format!("{kind} restore points {place}, kept for ever so far, begin to expire");
                (Weight::Loss, "restore-points-lost", text)
            }
            Some(0) => match (outlook.before, outlook.after) {
                (Some(before), Some(after)) if after.points < before.points && !after.or_more => {
                    let text = format!("fewer {kind} restore points {place} in the long run");
                    (Weight::Notice, "fewer-restore-points", text)
                }
                _ => continue,
            },
            Some(lost) => {
                let more = if outlook.before.is_some_and(|before| before.or_more) { "over " } else { "" };
                let text = format!("at most {more}{lost} fewer {kind} restore points {place}");
                (Weight::Loss, "restore-points-lost", text)
            }
        };
        let change = draft.note(weight, code, subject, text);
        change.from(outlook.before.map_or_else(|| "all of them".to_owned(), count));
        change.to(outlook.after.map_or_else(|| "no new ones".to_owned(), count));
    }
}

fn count(count: Count) -> String {
    let more = if count.or_more { "over " } else { "" };
    match count.points {
        0 => "none".to_owned(),
        1 => format!("1, {} old", coarse(count.oldest)),
        n => format!("{more}{n}, the oldest {}", coarse(count.oldest)),
    }
}

/// An age to the hour, and beyond two days to the day.
fn coarse(age: Duration) -> String {
    let days = (age.as_secs() + 43_200) / 86_400;
    if days > 2 { format!("{days}d") } else { words::length(Duration::from_secs(age.as_secs() / 60 * 60)) }
}

/// Ages of what no schedule makes: manual artifacts, and those of kinds that were scheduled once.
fn leftovers(
    subject: [&str; 2],
    place: &str,
    (before, after): (&Backup, &Backup),
    (old, new): (&Retention, &Retention),
    draft: &mut Draft,
) {
    let unscheduled = Kind::ALL.into_iter().filter(|kind| {
        !before.policy.schedules.contains_key(kind) && !after.policy.schedules.contains_key(kind)
    });
    let kinds = unscheduled
        .filter(|kind| !new.counts(*kind))
        .map(|kind| (kind.as_str(), old.age(kind), new.age(kind)));
    for (kind, old, new) in kinds.chain([("manual", old.manual, new.manual)]) {
        let shorter = new.is_some_and(|new| old.is_none_or(|old| new < old));
        if shorter {
            let text = format!("{kind} artifacts {place}, should there be any, go sooner");
            let told = |age: Option<Duration>| {
                age.map_or_else(|| "kept for ever".to_owned(), |age| format!("after {}", words::length(age)))
            };
            draft.note(Weight::Loss, "retention-shortened", subject, text).from(told(old)).to(told(new));
        }
    }
}

/// The retention of the infra repo's bundles, of which nobody knows how many there are.
pub fn bundles(old: &Retention, new: &Retention, draft: &mut Draft) {
    if old == new {
        return;
    }
    let weight = if is_narrower(old, new) { Weight::Loss } else { Weight::Note };
    let change = draft.note(weight, "retention-changed", ["infra", ""], "what is kept of the bundles");
    change.from(words::retention(old)).to(words::retention(new));
}

/// Whether some rule of `new` keeps less than the same rule of `old`.
fn is_narrower(old: &Retention, new: &Retention) -> bool {
    let none = Retention::default();
    let ages = |keep: &Retention| [keep.full, keep.incremental, keep.differential, keep.log, keep.manual];
    let counts =
        |keep: &Retention| [keep.hourly, keep.daily, keep.weekly, keep.monthly, keep.yearly, keep.last];
    let fewer = counts(old).into_iter().zip(counts(new)).any(|(old, new)| new < old);
    let shorter = ages(old).into_iter().zip(ages(new)).any(|(old, new)| new < old);
    *new != none && (*old == none || fewer || shorter)
}
