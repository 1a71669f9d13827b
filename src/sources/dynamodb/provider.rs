//! What DynamoDB keeps of a table by itself: any second of the last weeks, and backups on demand ("Backup and restore for
//! DynamoDB" of its guide). Both stay in the table's account and region.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    primitives::DateTime,
    types::{
        BackupDescription, BackupStatus, BackupTypeFilter, PointInTimeRecoveryDescription,
        PointInTimeRecoverySpecification, PointInTimeRecoveryStatus,
    },
};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{DynamodbSource, Failure, SILENCE, load, reach::Reach, subject};
use crate::{
    artifact::manifest::{Counts, Details},
    aws::{Fault, date_time, timestamp},
    clock::Clock,
    inventory::{Native, NativeName, NativePrefix, NativeState, ProviderSettings, Stretch},
    sources::{MadeNative, Provider, Restored, SourceError},
    spec::{MOST_DAYS, PointInTime, Protection},
};

/// The longest that a backup may take to become available; AWS promises seconds.
const MADE: Duration = Duration::from_secs(6 * 3600);

/// The longest that a table may take that DynamoDB makes of what it keeps: large ones take hours.
const RESTORED: Duration = Duration::from_secs(24 * 3600);

/// Pauses between two looks at what is being made: the first, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Pages of a list of backups that are read at most, of a hundred each.
const PAGES: usize = 500;

/// With what backups are refused that are not there.
const NO_BACKUP: &str = "BackupNotFoundException";

#[async_trait]
impl Provider for DynamodbSource {
    fn kind(&self) -> &'static str {
        "dynamodb-backup"
    }

    async fn settings(&self) -> Result<ProviderSettings, SourceError> {
        self.told("ask for the point-in-time recovery of", settings(&self.calls(), &self.table).await)
    }

    async fn protect(&self, wanted: &Protection) -> Result<(), SourceError> {
        self.told("set the point-in-time recovery of", protect(&self.calls(), &self.table, wanted).await)
    }

    async fn natives(&self, prefix: &NativePrefix) -> Result<BTreeMap<String, Native>, SourceError> {
        self.told("list the backups of", natives(&self.calls(), &self.table, prefix).await)
    }

    async fn make(&self, name: &NativeName, clock: &dyn Clock) -> Result<MadeNative, SourceError> {
        self.told("back up", make(&self.calls(), &self.table, name, clock).await)
    }

    async fn state(&self, reference: &str) -> Result<NativeState, SourceError> {
        let described = described(&self.calls(), reference).await;
        self.told("ask for a backup of", described.map(|it| it.map_or(NativeState::Gone, |it| state_of(&it))))
    }

    async fn delete(&self, reference: &str, name: &NativeName) -> Result<(), SourceError> {
        self.told("delete a backup of", delete(&self.calls(), reference, name).await)
    }

    async fn restore_native(&self, reference: &str, to: &str) -> Result<Restored, SourceError> {
        let reach = self.calls();
        let call = reach.client.restore_table_from_backup().backup_arn(reference).target_table_name(to);
        let restored = made_of(&reach, to, async { call.send().await.map(drop) }).await;
        self.told("restore a backup of", restored)
    }

    async fn rewind(&self, at: Timestamp, to: &str) -> Result<Restored, SourceError> {
        let reach = self.calls();
        let call = reach.client.restore_table_to_point_in_time().source_table_name(&self.table);
        let call = call.target_table_name(to).restore_date_time(date_time(at));
        let restored = made_of(&reach, to, async { call.send().await.map(drop) }).await;
        self.told("bring back a moment of", restored)
    }
}

impl DynamodbSource {
    fn calls(&self) -> Reach {
        self.reach(SILENCE)
    }

    fn told<T>(&self, operation: &'static str, answer: Result<T, Failure>) -> Result<T, SourceError> {
        answer.map_err(|failure| failure.explain(operation, subject(&self.table)))
    }
}

async fn settings(reach: &Reach, table: &str) -> Result<ProviderSettings, Failure> {
    let answer = reach.answer(reach.client.describe_continuous_backups().table_name(table).send()).await?;
    let told = answer.continuous_backups_description.and_then(|it| it.point_in_time_recovery_description);
    let told = told.ok_or_else(|| Failure::Wrong("it does not tell of point-in-time recovery".to_owned()))?;
    settings_of(&told)
}

fn settings_of(told: &PointInTimeRecoveryDescription) -> Result<ProviderSettings, Failure> {
    let moment = |time: Option<&DateTime>| time.map(|time| timestamp(Some(time))).transpose();
    let ends = (moment(told.earliest_restorable_date_time())?, moment(told.latest_restorable_date_time())?);
    let point_in_time = match told.point_in_time_recovery_status() {
        Some(PointInTimeRecoveryStatus::Enabled) => {
            // Servers that do not tell know no other period.
            let days = told.recovery_period_in_days().and_then(|days| u32::try_from(days).ok());
            PointInTime::On { days: Some(days.unwrap_or(MOST_DAYS)) }
        }
        Some(PointInTimeRecoveryStatus::Disabled) => PointInTime::Off,
        other => return Err(Failure::Wrong(format!("it tells of point-in-time recovery that is {other:?}"))),
    };
    let window = match ends {
        (Some(start), Some(end)) if point_in_time != PointInTime::Off => Some(Stretch { start, end }),
        _ => None,
    };
    Ok(ProviderSettings {
        point_in_time,
        window,
        backup_window: None,
        snapshots: None,
        snapshot_time: None,
        changing: None,
    })
}

async fn protect(reach: &Reach, table: &str, wanted: &Protection) -> Result<(), Failure> {
    let Some(point_in_time) = wanted.point_in_time else { return Ok(()) };
    let days = match point_in_time {
        PointInTime::Off => None,
        PointInTime::On { days } => days.and_then(|days| i32::try_from(days).ok()),
    };
    let specification = PointInTimeRecoverySpecification::builder()
        .point_in_time_recovery_enabled(point_in_time != PointInTime::Off)
        .set_recovery_period_in_days(days)
        .build()
        .map_err(|error| Failure::Wrong(error.to_string()))?;
    let update = reach.client.update_continuous_backups().table_name(table);
    reach.answer(update.point_in_time_recovery_specification(specification).send()).await.map(drop)
}

async fn natives(
    reach: &Reach,
    table: &str,
    prefix: &NativePrefix,
) -> Result<BTreeMap<String, Native>, Failure> {
    let (mut found, mut from) = (BTreeMap::new(), None);
    for _ in 0..PAGES {
        let list = reach.client.list_backups().table_name(table).backup_type(BackupTypeFilter::User);
        let page = reach.answer(list.set_exclusive_start_backup_arn(from).send()).await?;
        for backup in page.backup_summaries() {
            let artifact = backup.backup_name().and_then(|name| prefix.artifact(name));
            if let (Some(artifact), Some(reference)) = (artifact, backup.backup_arn()) {
                let native = Native { artifact, state: state(backup.backup_status()) };
                found.insert(reference.to_owned(), native);
            }
        }
        from = page.last_evaluated_backup_arn;
        if from.is_none() {
            return Ok(found);
        }
    }
    Err(Failure::Wrong(format!("its list of backups has over {PAGES} pages")))
}

fn state(status: Option<&BackupStatus>) -> NativeState {
    match status {
        Some(BackupStatus::Available) => NativeState::Available,
        Some(BackupStatus::Creating) => NativeState::Making,
        Some(BackupStatus::Deleted) => NativeState::Gone,
        other => NativeState::Broken(format!("its status is {other:?}")),
    }
}

fn state_of(described: &BackupDescription) -> NativeState {
    state(described.backup_details().map(|details| details.backup_status()))
}

/// A backup as DynamoDB describes it; `None` where it says that there is none.
async fn described(reach: &Reach, reference: &str) -> Result<Option<BackupDescription>, Failure> {
    match reach.answer(reach.client.describe_backup().backup_arn(reference).send()).await {
        Ok(answer) => match answer.backup_description {
            Some(described) => Ok(Some(described)),
            None => Err(Failure::Wrong(format!("it does not tell how backup {reference} is"))),
        },
        Err(Failure::Aws(Fault::Service { code, .. })) if code == NO_BACKUP => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn make(
    reach: &Reach,
    table: &str,
    name: &NativeName,
    clock: &dyn Clock,
) -> Result<MadeNative, Failure> {
    // What was written before is in it, and of what is written until it is answered some may be, too.
    let moment = clock.now();
    let reference = begin(reach, table, name).await?;
    let described = wait_until_available(reach, &reference).await?;
    let source = described.source_table_details();
    if source.is_none_or(|source| source.table_name() != table) {
        return Err(Failure::Wrong(format!("backup {reference} is not of table {table}")));
    }
    let bytes = described.backup_details().and_then(|details| details.backup_size_bytes());
    let omitted = vec![
        "auto scaling, policies, alarms, tags, streams and time to live: DynamoDB's backups hold none".into(),
    ];
    let details = Details {
        versions: BTreeMap::from([(
            "bytes with the provider".to_owned(),
            bytes.unwrap_or_default().to_string(),
        )]),
        counts: Counts::NotCaptured("DynamoDB does not count the items of a backup".to_owned()),
        omitted,
        ..Details::default()
    };
    Ok(MadeNative { reference, moment, details })
}

/// Begins a backup. One of this name that is there was begun by a call whose answer was lost.
async fn begin(reach: &Reach, table: &str, name: &NativeName) -> Result<String, Failure> {
    let create = reach.client.create_backup().table_name(table).backup_name(name.to_string());
    let failure = match reach.answer(create.send()).await {
        Ok(answer) => {
            let reference = answer.backup_details.map(|details| details.backup_arn);
            return reference
                .ok_or_else(|| Failure::Wrong("it does not name the backup that it made".to_owned()));
        }
        Err(failure) => failure,
    };
    let there = natives(reach, table, &name.prefix()).await.unwrap_or_default();
    let mut ours = there.into_iter().filter(|(_, native)| name.is_of(native.artifact));
    ours.next().map(|(reference, _)| reference).ok_or(failure)
}

async fn wait_until_available(reach: &Reach, reference: &str) -> Result<BackupDescription, Failure> {
    let (deadline, mut pause) = (Instant::now() + MADE, LOOKS.0);
    loop {
        // One that was begun just now may not be seen everywhere at once.
        if let Some(described) = described(reach, reference).await? {
            match state_of(&described) {
                NativeState::Available => return Ok(described),
                NativeState::Making => {}
                NativeState::Gone => {
                    return Err(Failure::Wrong(format!("backup {reference} was deleted meanwhile")));
                }
                NativeState::Broken(why) => return Err(Failure::Wrong(format!("backup {reference}: {why}"))),
            }
        }
        if Instant::now() >= deadline {
            return Err(Failure::NotReady(format!("backup {reference} is still being made after six hours")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

async fn delete(reach: &Reach, reference: &str, name: &NativeName) -> Result<(), Failure> {
    let Some(described) = described(reach, reference).await? else { return Ok(()) };
    let found = described.backup_details().map(|details| details.backup_name()).unwrap_or_default();
    if found != name.to_string() {
        return Err(Failure::Refused(format!("backup {reference} is called {found}, and not {name}")));
    }
    match reach.answer(reach.client.delete_backup().backup_arn(reference).send()).await {
        Ok(_) => Ok(()),
        Err(Failure::Aws(Fault::Service { code, .. })) if code == NO_BACKUP => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Has a call make table `to`, and waits for it. A table that was begun is left there: DynamoDB goes on to make it.
async fn made_of<E: Into<Fault>>(
    reach: &Reach,
    to: &str,
    call: impl Future<Output = Result<(), E>>,
) -> Result<Restored, Failure> {
    load::must_be_new(reach, to).await?;
    if let Err(failure) = reach.answer(call).await {
        return Err(load::not_made(failure, to));
    }
    match load::ready_within(reach, to, RESTORED).await {
        Ok(()) => Ok(Restored { place: format!("table {to}") }),
        Err(failure) => Err(Failure::MayBeLeftBehind(Box::new(failure), to.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: PointInTimeRecoveryStatus) -> PointInTimeRecoveryDescription {
        PointInTimeRecoveryDescription::builder()
            .point_in_time_recovery_status(status)
            .recovery_period_in_days(35)
            .earliest_restorable_date_time(DateTime::from_secs(100))
            .latest_restorable_date_time(DateTime::from_secs(200))
            .build()
    }

    #[test]
    fn a_window_is_told_only_while_recovery_is_on() {
        let on = settings_of(&told(PointInTimeRecoveryStatus::Enabled)).unwrap();
        assert_eq!(on.point_in_time, PointInTime::On { days: Some(35) });
        assert_eq!(
            on.window.map(|window| (window.start.as_second(), window.end.as_second())),
            Some((100, 200))
        );
        let off = settings_of(&told(PointInTimeRecoveryStatus::Disabled)).unwrap();
        assert_eq!((off.point_in_time, off.window), (PointInTime::Off, None));
    }

    #[test]
    fn a_status_that_nobody_knows_is_neither_on_nor_off() {
        assert!(settings_of(&told(PointInTimeRecoveryStatus::from("ENABLING"))).is_err());
        assert!(matches!(state(Some(&BackupStatus::from("ARCHIVED"))), NativeState::Broken(_)));
        assert_eq!(state(Some(&BackupStatus::Creating)), NativeState::Making);
    }
}
