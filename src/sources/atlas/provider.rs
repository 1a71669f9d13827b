//! What Atlas keeps of a cluster by itself: snapshots on a schedule, and with continuous cloud backup any second of the last days
//! ("Cloud Backups" of its Admin API). All of it stays in the account of the cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    AtlasSource, Failure,
    api::{PitEnabled, Removed},
    download,
    failure::Patience,
    restore,
    wire::{Item, Schedule, Snapshot},
};
use crate::{
    artifact::manifest::{Counts, Details},
    clock::Clock,
    inventory::{
        CopyStanding, Inferred, Native, NativeName, NativePrefix, NativeState, ProviderSettings, Renewal,
        SandboxCopy, Stretch,
    },
    sources::{Kept, MadeNative, Provider, Restored, SourceError},
    spec::{ATLAS_SNAPSHOT, PointInTime, Protection, SnapshotRule, TimeOfDay},
};

/// How long Atlas is told to keep a snapshot of ours, days. Retention deletes it; this only bounds for how long it stays where nobody
/// asks for it any more.
const KEPT_DAYS: i64 = 365;

/// A snapshot of ours that Atlas would delete sooner than after so many days is kept for [`KEPT_DAYS`] more.
const TOO_SOON_DAYS: i64 = 180;

/// The longest that a snapshot may take: the first of a large cluster takes hours.
const MADE: Duration = Duration::from_secs(24 * 3600);

/// How long a snapshot may take to be listed after the answer to whoever asked for it was lost.
const LISTED: Duration = Duration::from_secs(30);

/// How long Atlas may take to show what it was set to.
const SHOWN: Duration = Duration::from_secs(120);

/// Pauses between two looks at what is being made: the first, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How far the oplog that Atlas stored may be behind: it promises a minute ("Continuous Cloud Backups").
const BEHIND: SignedDuration = SignedDuration::from_mins(5);

/// Why no drill makes anything: a new cluster takes settings that nothing here tells, and costs as much as the old one.
const NO_COPIES: &str =
    "clusters of Atlas are made by people, and snapshots come back into one that bears a tag for it";

#[async_trait]
impl Provider for AtlasSource {
    fn kind(&self) -> &'static str {
        ATLAS_SNAPSHOT
    }

    /// The project stands in each reference.
    async fn account(&self) -> Result<Option<String>, SourceError> {
        Ok(None)
    }

    async fn settings(&self) -> Result<ProviderSettings, SourceError> {
        self.told("ask for the backups of", settings(self).await)
    }

    async fn protect(&self, wanted: &Protection) -> Result<(), SourceError> {
        self.told("set the backups of", protect(self, wanted).await)
    }

    async fn natives(&self, prefix: &NativePrefix) -> Result<BTreeMap<String, Native>, SourceError> {
        self.told("list the snapshots of", natives(self, prefix).await)
    }

    async fn make(&self, name: &NativeName, clock: &dyn Clock) -> Result<MadeNative, SourceError> {
        self.told("snapshot", make(self, name, clock).await)
    }

    async fn state(&self, reference: &str) -> Result<NativeState, SourceError> {
        self.told("ask for a snapshot of", state(self, reference).await)
    }

    async fn delete(&self, reference: &str, name: &NativeName) -> Result<(), SourceError> {
        self.told("delete a snapshot of", delete(self, reference, name).await)
    }

    async fn restore_native(&self, reference: &str, to: &str) -> Result<Restored, SourceError> {
        self.told("restore a snapshot of", restore::restored(self, &Kept::Backup(reference), to).await)
    }

    async fn download(&self, reference: &str, to: &Path) -> Result<Restored, SourceError> {
        self.told("download a snapshot of", download::to_file(self, reference, to).await)
    }

    async fn renew(&self, kept: &Kept<'_>, renewal: &Renewal) -> Result<Restored, SourceError> {
        self.told("restore for a recovery what is kept of", restore::renewed(self, kept, renewal).await)
    }

    async fn copy_for_drill(&self, _: &str, copy: &SandboxCopy) -> Result<(), SourceError> {
        Err(SourceError::misplaced(&copy.name, NO_COPIES))
    }

    async fn standing(&self, _: &str) -> Result<CopyStanding, SourceError> {
        Ok(CopyStanding::Nothing)
    }

    async fn items(&self, _: &str) -> Result<Option<u64>, SourceError> {
        Ok(None)
    }

    async fn delete_copy(&self, copy: &SandboxCopy) -> Result<(), SourceError> {
        Err(SourceError::misplaced(&copy.name, NO_COPIES))
    }

    async fn rewind(&self, at: Timestamp, to: &str) -> Result<Restored, SourceError> {
        self.told("bring back a moment of", restore::restored(self, &Kept::Moment(at), to).await)
    }
}

async fn settings(source: &AtlasSource) -> Result<ProviderSettings, Failure> {
    let cluster = source.described().await?;
    let schedule = source.api.schedule(&source.cluster).await?;
    let point_in_time = match cluster.pit_enabled {
        true => PointInTime::On { days: schedule.restore_window_days },
        false => PointInTime::Off,
    };
    let inferred = match schedule.restore_window_days.filter(|_| cluster.pit_enabled) {
        Some(days) => inferred(&source.api.snapshots(&source.cluster).await?, days, Timestamp::now()),
        None => None,
    };
    Ok(ProviderSettings {
        point_in_time,
        window: None,
        inferred,
        backup_window: None,
        snapshots: Some(rules(&schedule)?),
        snapshot_time: time_of(&schedule),
        changing: cluster.changing(),
    })
}

/// From when to when any second may be brought back. Atlas does not tell: it needs a snapshot from which the oplog goes on, and keeps the
/// oplog of so many days. Whether it keeps up with the oplog nobody can see.
fn inferred(snapshots: &[Snapshot], days: u32, now: Timestamp) -> Option<Inferred> {
    let oldest = now.checked_sub(SignedDuration::from_hours(24 * i64::from(days))).ok()?;
    let end = now.checked_sub(BEHIND).ok()?;
    let whole = snapshots.iter().filter(|it| it.state() == NativeState::Available);
    // What a window begins with may have gone by the time it is asked for: a snapshot from before it says nothing.
    let start = whole.filter_map(|it| it.created_at).filter(|at| *at >= oldest).min()?;
    (start <= end).then_some(Inferred(Stretch { start, end }))
}

fn rules(schedule: &Schedule) -> Result<BTreeSet<SnapshotRule>, Failure> {
    schedule.policy()?.policy_items.iter().map(Item::rule).collect()
}

fn time_of(schedule: &Schedule) -> Option<TimeOfDay> {
    TimeOfDay::new(schedule.reference_hour_of_day?, schedule.reference_minute_of_hour?)
}

/// The schedule first, then whether the oplog is kept, and of how many days last: Atlas knows of days only where it is kept.
async fn protect(source: &AtlasSource, wanted: &Protection) -> Result<(), Failure> {
    let cluster = source.described().await?;
    if let Some(why) = cluster.changing() {
        return Err(Failure::NotReady(format!("nothing is changed while it changes: {why}")));
    }
    let days = match wanted.point_in_time {
        Some(PointInTime::On { days }) => days,
        Some(PointInTime::Off) | None => None,
    };
    change_schedule(source, wanted, days.filter(|_| cluster.pit_enabled)).await?;
    match (wanted.point_in_time, cluster.pit_enabled) {
        (Some(PointInTime::Off), true) => source.api.set_continuous(&source.cluster, PitEnabled::No).await?,
        (Some(PointInTime::On { .. }), false) => {
            source.api.set_continuous(&source.cluster, PitEnabled::Yes).await?;
            // Where that takes long, a later pass sets the rest.
            if still_changing(source).await?.is_none() {
                change_schedule(source, &Protection::default(), days).await?;
            }
        }
        _ => {}
    }
    until_shown(source, wanted).await
}

async fn change_schedule(
    source: &AtlasSource,
    wanted: &Protection,
    days: Option<u32>,
) -> Result<(), Failure> {
    if wanted.snapshots.is_none() && wanted.snapshot_time.is_none() && days.is_none() {
        return Ok(());
    }
    let before = source.api.schedule(&source.cluster).await?;
    source.api.set_schedule(&source.cluster, change_of(&before, wanted, days)?).await
}

/// What a change of a schedule says: what is wanted, and what is there as it is.
fn change_of(before: &Schedule, wanted: &Protection, days: Option<u32>) -> Result<Value, Failure> {
    // By default neither happens ("DiskBackupSnapshotSchedule20240805"); said in so many words because it would delete.
    let mut change =
        json!({ "updateSnapshots": false, "deleteSnapshots": false, "policies": before.policies });
    if let Some(rules) = &wanted.snapshots {
        let policy = before.policy()?;
        // What is not known here is not taken away either.
        policy.policy_items.iter().try_for_each(|item| item.rule().map(drop))?;
        let items: Vec<Item> = rules.iter().map(|rule| Item::of(rule, &policy.policy_items)).collect();
        change["policies"] = json!([{ "id": policy.id, "policyItems": items }]);
    }
    if let Some(time) = wanted.snapshot_time {
        change["referenceHourOfDay"] = json!(time.hour());
        change["referenceMinuteOfHour"] = json!(time.minute());
    }
    if let Some(days) = days {
        change["restoreWindowDays"] = json!(days);
    }
    Ok(change)
}

/// What the cluster is still at after as long a wait as is worth it.
async fn still_changing(source: &AtlasSource) -> Result<Option<String>, Failure> {
    let (deadline, mut pause) = (Instant::now() + SHOWN, LOOKS.0);
    loop {
        let changing = source.described().await?.changing();
        if changing.is_none() || Instant::now() >= deadline {
            return Ok(changing);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

async fn until_shown(source: &AtlasSource, wanted: &Protection) -> Result<(), Failure> {
    let (deadline, mut pause) = (Instant::now() + SHOWN, LOOKS.0);
    loop {
        let now = settings(source).await?;
        if now.lacks(wanted).is_none() || now.changing.is_some() || Instant::now() >= deadline {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

async fn state(source: &AtlasSource, reference: &str) -> Result<NativeState, Failure> {
    let found = source.snapshot(&source.referred(reference)?).await?;
    Ok(found.map_or(NativeState::Gone, |snapshot| snapshot.state()))
}

async fn natives(source: &AtlasSource, prefix: &NativePrefix) -> Result<BTreeMap<String, Native>, Failure> {
    let all = source.api.snapshots(&source.cluster).await?;
    let ours = all.into_iter().filter_map(|it| Some((prefix.artifact(it.name()?)?, it)));
    let native = |(artifact, it): (_, Snapshot)| {
        (source.reference(&source.own(&it.id)), Native { artifact, state: it.state() })
    };
    Ok(ours.map(native).collect())
}

async fn make(source: &AtlasSource, name: &NativeName, clock: &dyn Clock) -> Result<MadeNative, Failure> {
    source.described().await?;
    // What was written before is in it, and of what is written until it is begun some may be, too.
    let moment = clock.now();
    let all = source.api.snapshots(&source.cluster).await?;
    keep_what_is_ours(source, &all, &name.prefix(), moment).await?;
    let (id, moment) = match called(&all, name) {
        // It was begun by a call whose answer was lost, and may hold nothing of what was written since.
        Some(before) => (before.id.clone(), before.created_at.unwrap_or(moment).min(moment)),
        None => (begun(source, name).await?, moment),
    };
    let snapshot = wait_until_completed(source, &id).await?;
    if snapshot.name() != Some(name.to_string().as_str()) {
        return Err(Failure::Wrong(format!("snapshot {id} is not called {name}")));
    }
    let version = snapshot.mongod_version.map(|version| ("mongodb".to_owned(), version));
    Ok(MadeNative {
        reference: source.reference(&source.own(&id)),
        account: None,
        moment,
        details: Details {
            versions: version.into_iter().collect(),
            counts: Counts::NotCaptured("Atlas does not look into a snapshot".to_owned()),
            ..Details::default()
        },
    })
}

/// Whatever is ours is deleted by retention and by nothing else: Atlas is told to keep for longer what it would delete before that may
/// be. Before anything new is made, so that a failure is noticed and costs nothing.
async fn keep_what_is_ours(
    source: &AtlasSource,
    all: &[Snapshot],
    prefix: &NativePrefix,
    now: Timestamp,
) -> Result<(), Failure> {
    let ours = all.iter().filter(|it| it.name().and_then(|name| prefix.artifact(name)).is_some());
    for snapshot in ours.filter(|it| it.state() == NativeState::Available) {
        if let Some(days) = days_to_keep(snapshot, now) {
            source.api.keep(&source.cluster, &snapshot.id, days).await?;
        }
    }
    Ok(())
}

/// For how many days after it was made a snapshot is to be kept, where that must be said anew.
fn days_to_keep(snapshot: &Snapshot, now: Timestamp) -> Option<u32> {
    let (made, expires) = (snapshot.created_at?, snapshot.expires_at?);
    let left = expires.duration_since(now);
    if left >= SignedDuration::from_hours(24 * TOO_SOON_DAYS) {
        return None;
    }
    let old = now.duration_since(made).as_hours() / 24;
    u32::try_from(old.max(0) + KEPT_DAYS).ok()
}

fn called<'a>(all: &'a [Snapshot], name: &NativeName) -> Option<&'a Snapshot> {
    let name = name.to_string();
    all.iter().find(|it| it.name() == Some(&name))
}

/// Asks for a snapshot once, and tells its id. Where the answer was lost, it is found by its name.
async fn begun(source: &AtlasSource, name: &NativeName) -> Result<String, Failure> {
    let days = u32::try_from(KEPT_DAYS).unwrap_or(u32::MAX);
    let lost = match source.api.take(&source.cluster, &name.to_string(), days).await {
        Ok(snapshot) => return Ok(snapshot.id),
        Err(failure) if failure.is_ambiguous() => failure,
        Err(failure) => return Err(failure),
    };
    let (deadline, mut pause) = (Instant::now() + LISTED, LOOKS.0);
    loop {
        if let Some(found) = called(&source.api.snapshots(&source.cluster).await?, name) {
            return Ok(found.id.clone());
        }
        if Instant::now() >= deadline {
            return Err(lost);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

async fn wait_until_completed(source: &AtlasSource, id: &str) -> Result<Snapshot, Failure> {
    let (deadline, mut pause, mut patience) = (Instant::now() + MADE, LOOKS.0, Patience::default());
    loop {
        let look = source.snapshot(&source.own(id)).await;
        // One that was begun just now may not be seen everywhere at once.
        if let Some(snapshot) = patience.with(look, Instant::now())?.flatten() {
            match snapshot.state() {
                NativeState::Available => return Ok(snapshot),
                NativeState::Making => {}
                NativeState::Gone => {
                    return Err(Failure::Wrong(format!("snapshot {id} was deleted meanwhile")));
                }
                NativeState::Broken(why) => return Err(Failure::Wrong(format!("snapshot {id}: {why}"))),
            }
        }
        if Instant::now() >= deadline {
            return Err(Failure::NotReady(format!("snapshot {id} is still being made after a day")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

async fn delete(source: &AtlasSource, reference: &str, name: &NativeName) -> Result<(), Failure> {
    let at = source.referred(reference)?;
    let Some(snapshot) = source.snapshot(&at).await? else { return Ok(()) };
    if snapshot.name() != Some(name.to_string().as_str()) {
        return Err(Failure::Refused(format!("snapshot {reference} is not called {name}")));
    }
    match source.api.remove(&at.cluster, &at.id).await? {
        Removed::Yes => Ok(()),
        Removed::NotFound => match source.snapshot(&at).await? {
            None => Ok(()),
            Some(_) => Err(Failure::Wrong(format!(
                "Atlas has snapshot {reference}, and does not find it to delete it"
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: &str, made: &str, expires: Option<&str>, status: &str) -> Snapshot {
        let text = json!({
            "id": id, "description": id, "snapshotType": "onDemand", "status": status, "createdAt": made,
            "expiresAt": expires,
        });
        serde_json::from_value(text).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_begins_with_a_whole_snapshot_of_the_days_that_are_kept() {
        let now = at("2026-11-29T12:00:00Z");
        let all = [
            snapshot("old", "2026-11-01T00:00:00Z", None, "completed"),
            snapshot("broken", "2026-11-23T00:00:00Z", None, "failed"),
            snapshot("first", "2026-11-24T00:00:00Z", None, "completed"),
            snapshot("last", "2026-11-29T11:00:00Z", None, "completed"),
        ];
        let expected = Stretch { start: at("2026-11-24T00:00:00Z"), end: at("2026-11-29T11:55:00Z") };
        assert_eq!(inferred(&all, 7, now), Some(Inferred(expected)));
        assert_eq!(inferred(&all[..2], 7, now), None, "no snapshot from which the oplog goes on");
        assert_eq!(inferred(&[snapshot("new", "2026-11-29T11:58:00Z", None, "completed")], 7, now), None);
    }

    #[test]
    fn what_atlas_would_delete_soon_is_kept_for_longer_and_nothing_for_less() {
        let now = at("2026-11-29T12:00:00Z");
        let days =
            |made: &str, expires: Option<&str>| days_to_keep(&snapshot("s", made, expires, "completed"), now);
        assert_eq!(days("2026-11-29T00:00:00Z", Some("2027-11-29T00:00:00Z")), None);
        assert_eq!(days("2026-01-29T12:00:00Z", Some("2027-01-29T12:00:00Z")), Some(304 + 365));
        assert_eq!(days("2025-11-28T12:00:00Z", Some("2026-11-28T12:00:00Z")), Some(366 + 365));
        assert_eq!(days("2026-11-29T00:00:00Z", None), None, "it never expires");
    }

    #[test]
    fn a_change_of_the_schedule_keeps_what_is_not_declared_and_what_is_there() {
        let before: Schedule = serde_json::from_value(json!({
            "referenceHourOfDay": 1, "referenceMinuteOfHour": 15,
            "policies": [{ "id": "p", "policyItems": [
                { "id": "i", "frequencyType": "daily", "frequencyInterval": 1, "retentionUnit": "days", "retentionValue": 7 },
            ] }],
        }))
        .unwrap();
        let time = Protection { snapshot_time: TimeOfDay::new(3, 30), ..Protection::default() };
        let change = change_of(&before, &time, Some(7)).unwrap();
        assert_eq!(
            (&change["referenceHourOfDay"], &change["referenceMinuteOfHour"]),
            (&json!(3), &json!(30))
        );
        assert_eq!((&change["policies"], &change["restoreWindowDays"]), (&json!(before.policies), &json!(7)));
        let rules = ["every day, keep 14d", "every sunday, keep 4w"];
        let rules = rules.iter().map(|rule| SnapshotRule::parse(rule).unwrap()).collect();
        let wanted = Protection { snapshots: Some(rules), ..Protection::default() };
        let change = change_of(&before, &wanted, None).unwrap();
        assert_eq!(
            (&change["referenceHourOfDay"], &change["restoreWindowDays"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!((&change["updateSnapshots"], &change["deleteSnapshots"]), (&json!(false), &json!(false)));
        let items = change["policies"][0]["policyItems"].as_array().unwrap();
        let told: Vec<_> =
            items.iter().map(|it| (it["id"].as_str(), it["retentionValue"].as_u64())).collect();
        assert_eq!(told, [(Some("i"), Some(14)), (None, Some(4))]);
    }
}
