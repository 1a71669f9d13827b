//! What DynamoDB keeps of a table by itself: any second of the last weeks, and backups on demand ("Backup and restore for
//! DynamoDB" of its guide). Both stay in the table's account and region.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    config::{Config, retry::RetryConfig},
    primitives::DateTime,
    types::{
        BackupDescription, BackupStatus, BackupSummary, BackupTypeFilter, PointInTimeRecoveryDescription,
        PointInTimeRecoverySpecification, PointInTimeRecoveryStatus,
    },
};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{DynamodbSource, Failure, SILENCE, copies, load, reach::Reach, renewals, subject, table};
use crate::{
    artifact::manifest::{Counts, Details},
    aws::{Fault, account_of, date_time, timestamp},
    clock::Clock,
    inventory::{
        CopyStanding, Native, NativeName, NativePrefix, NativeState, ProviderSettings, Renewal, SandboxCopy,
        Stretch,
    },
    sources::{Announced, Claim, Kept, MadeNative, Provider, Restored, SourceError},
    spec::{DYNAMODB_BACKUP, MOST_DAYS, PointInTime, Protection},
};

/// The longest that a backup may take to become available; AWS promises seconds.
const MADE: Duration = Duration::from_secs(6 * 3600);

/// The longest that a table may take that DynamoDB makes of what it keeps: large ones take hours.
pub(super) const RESTORED: Duration = Duration::from_secs(24 * 3600);

/// Pauses between two looks at what is being made: the first, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// How often a backup is begun that DynamoDB holds back, and looked for whose beginning was not answered.
const TRIES: u32 = 6;

/// Pages of a list of backups that are read at most, of a hundred each.
const PAGES: usize = 500;

/// With what backups are refused that are not there.
const NO_BACKUP: &str = "BackupNotFoundException";

#[async_trait]
impl Provider for DynamodbSource {
    fn kind(&self) -> &'static str {
        DYNAMODB_BACKUP
    }

    async fn account(&self) -> Result<Option<String>, SourceError> {
        let found = table::existing(&self.calls(), &self.table).await;
        let account = found.map(|table| table.and_then(|table| account_of(table.table_arn()?)));
        self.told("ask for the account of", account)
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

    async fn renew(&self, kept: &Kept<'_>, renewal: &Renewal) -> Result<Restored, SourceError> {
        let renewed = renewals::renew(&self.calls(), &self.table, kept, renewal).await;
        self.told("have a recovery's table made of", renewed)
    }

    async fn copy_for_drill(&self, reference: &str, copy: &SandboxCopy) -> Result<(), SourceError> {
        self.told("try a backup of", copies::make(&self.calls(), reference, copy).await)
    }

    async fn standing(&self, name: &str) -> Result<CopyStanding, SourceError> {
        self.told("look for what a drill makes of", copies::standing(&self.calls(), name).await)
    }

    async fn claim_copy(&self, announced: &Announced<'_>) -> Result<Claim, SourceError> {
        self.told("look whose a table is beside", copies::claim(&self.calls(), announced).await)
    }

    async fn items(&self, name: &str) -> Result<Option<u64>, SourceError> {
        self.told("count what a drill made of", copies::items(&self.calls(), name).await.map(Some))
    }

    async fn delete_copy(&self, copy: &SandboxCopy) -> Result<(), SourceError> {
        self.told("delete what a drill made of", copies::delete(&self.calls(), copy).await)
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
        inferred: None,
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
    let mut found = BTreeMap::new();
    summaries(reach, table, None, |backup| {
        let artifact = backup.backup_name().and_then(|name| prefix.artifact(name));
        if let (Some(artifact), Some(reference)) = (artifact, backup.backup_arn()) {
            let native = Native { artifact, state: state(backup.backup_status()) };
            found.insert(reference.to_owned(), native);
        }
    })
    .await?;
    Ok(found)
}

/// Tells `see` of every backup on demand that was made `since` a moment.
async fn summaries(
    reach: &Reach,
    table: &str,
    since: Option<Timestamp>,
    mut see: impl FnMut(&BackupSummary),
) -> Result<(), Failure> {
    let mut from = None;
    for _ in 0..PAGES {
        let list = reach.client.list_backups().table_name(table).backup_type(BackupTypeFilter::User);
        let list = list.set_time_range_lower_bound(since.map(date_time));
        let page = reach.answer(list.set_exclusive_start_backup_arn(from).send()).await?;
        page.backup_summaries().iter().for_each(&mut see);
        from = page.last_evaluated_backup_arn;
        if from.is_none() {
            return Ok(());
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
    let now = clock.now();
    let (reference, moment) = match called(reach, table, name).await? {
        // It was begun by a call whose answer was lost, and holds nothing of since then.
        Some((reference, created)) => (reference, created.min(now)),
        None => (begin(reach, table, name).await?, now),
    };
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
    Ok(MadeNative { account: account_of(&reference), reference, moment, details })
}

/// The backup of this name that is there, and when it was made; the first, where a call was carried out twice. Names are not unique.
async fn called(
    reach: &Reach,
    table: &str,
    name: &NativeName,
) -> Result<Option<(String, Timestamp)>, Failure> {
    let wanted = name.to_string();
    let mut there = Vec::new();
    summaries(reach, table, Some(name.since()), |backup| {
        if backup.backup_name() == Some(wanted.as_str()) && state(backup.backup_status()) != NativeState::Gone
        {
            there.extend(
                backup.backup_arn().map(|reference| {
                    Ok((timestamp(backup.backup_creation_date_time())?, reference.to_owned()))
                }),
            );
        }
    })
    .await?;
    let there: Result<Vec<(Timestamp, String)>, Fault> = there.into_iter().collect();
    Ok(there?.into_iter().min().map(|(created, reference)| (reference, created)))
}

/// Begins a backup. The call is made once, for each makes another one of the same name; where its answer is lost, what it made is
/// looked for, and nothing is begun in its place.
async fn begin(reach: &Reach, table: &str, name: &NativeName) -> Result<String, Failure> {
    let (mut tries, mut pause) = (1, LOOKS.0);
    let lost = loop {
        let create = reach.client.create_backup().table_name(table).backup_name(name.to_string());
        let once = Config::builder().retry_config(RetryConfig::disabled());
        match reach.answer(create.customize().config_override(once).send()).await {
            Ok(answer) => {
                let reference = answer.backup_details.map(|details| details.backup_arn);
                let unnamed = || Failure::Wrong("it does not name the backup that it made".to_owned());
                return reference.ok_or_else(unnamed);
            }
            Err(failure) if failure.is_throttled() && tries < TRIES => {
                tokio::time::sleep(pause).await;
                (tries, pause) = (tries + 1, pause * 2);
            }
            Err(failure) if failure.may_be_done() => break failure,
            Err(failure) => return Err(failure),
        }
    };
    pause = LOOKS.0;
    for _ in 0..TRIES {
        tokio::time::sleep(pause).await;
        if let Some((reference, _)) = called(reach, table, name).await? {
            return Ok(reference);
        }
        pause *= 2;
    }
    Err(lost)
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
