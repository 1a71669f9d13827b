//! What RDS keeps of an instance by itself: automated backups, by which any second of the last days can be brought back, and
//! snapshots ("Backing up and restoring" of its guide). Both stay in the instance's account and region.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use aws_sdk_rds::types::{DbInstance, DbInstanceAutomatedBackup, DbSnapshot, PendingModifiedValues};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Failure, RdsSource, answer, existing, new};
use crate::{
    artifact::manifest::{Counts, Details},
    aws::{account_of, timestamp},
    clock::Clock,
    inventory::{
        CopyStanding, Native, NativeName, NativePrefix, NativeState, ProviderSettings, Renewal, SandboxCopy,
        Stretch,
    },
    sources::{Kept, MadeNative, Provider, Restored, SourceError},
    spec::{DailyWindow, PointInTime, Protection, RDS_SNAPSHOT},
};

/// How many days are kept where recovery is switched on and no number is declared: what RDS's console proposes.
const DAYS: i32 = 7;

/// The longest that a snapshot may take: the first of a large instance takes hours.
const MADE: Duration = Duration::from_secs(24 * 3600);

/// How long RDS may take to show what it was set to.
const SHOWN: Duration = Duration::from_secs(120);

/// Pauses between two looks at what is being made: the first, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Pages of a list of snapshots that are read at most, of a hundred each.
const PAGES: usize = 500;

/// With what a snapshot that is not there is refused: in answers, and as the API's reference calls it.
const NO_SNAPSHOT: [&str; 2] = ["DBSnapshotNotFound", "DBSnapshotNotFoundFault"];

/// With what the name of a snapshot that is there is refused.
const SNAPSHOT_EXISTS: [&str; 2] = ["DBSnapshotAlreadyExists", "DBSnapshotAlreadyExistsFault"];

#[async_trait]
impl Provider for RdsSource {
    fn kind(&self) -> &'static str {
        RDS_SNAPSHOT
    }

    async fn account(&self) -> Result<Option<String>, SourceError> {
        let instance = existing(&self.client, &self.instance).await;
        let account = instance.map(|instance| instance.and_then(|it| account_of(it.db_instance_arn()?)));
        self.told("ask for the account of", account)
    }

    async fn settings(&self) -> Result<ProviderSettings, SourceError> {
        self.told("ask for the automated backups of", settings(self).await)
    }

    async fn protect(&self, wanted: &Protection) -> Result<(), SourceError> {
        self.told("set the automated backups of", protect(self, wanted).await)
    }

    async fn natives(&self, prefix: &NativePrefix) -> Result<BTreeMap<String, Native>, SourceError> {
        self.told("list the snapshots of", natives(self, prefix).await)
    }

    async fn make(&self, name: &NativeName, clock: &dyn Clock) -> Result<MadeNative, SourceError> {
        self.told("snapshot", make(self, name, clock).await)
    }

    async fn state(&self, reference: &str) -> Result<NativeState, SourceError> {
        let described = described(self, reference).await;
        self.told(
            "ask for a snapshot of",
            described.map(|it| it.map_or(NativeState::Gone, |it| state_of(&it))),
        )
    }

    async fn delete(&self, reference: &str, name: &NativeName) -> Result<(), SourceError> {
        self.told("delete a snapshot of", delete(self, reference, name).await)
    }

    async fn restore_native(&self, reference: &str, to: &str) -> Result<Restored, SourceError> {
        self.told("restore a snapshot of", new::restored(self, &Kept::Backup(reference), to).await)
    }

    async fn renew(&self, kept: &Kept<'_>, renewal: &Renewal) -> Result<Restored, SourceError> {
        self.told("have a recovery's instance made of", new::renewed(self, kept, renewal).await)
    }

    async fn copy_for_drill(&self, reference: &str, copy: &SandboxCopy) -> Result<(), SourceError> {
        self.told("try a snapshot of", new::copied(self, reference, copy).await.map(drop))
    }

    async fn standing(&self, name: &str) -> Result<CopyStanding, SourceError> {
        self.told("look for what a drill makes of", new::standing(self, name).await)
    }

    async fn items(&self, _name: &str) -> Result<Option<u64>, SourceError> {
        Ok(None)
    }

    async fn delete_copy(&self, copy: &SandboxCopy) -> Result<(), SourceError> {
        self.told("delete what a drill made of", new::delete(self, copy).await)
    }

    async fn rewind(&self, at: Timestamp, to: &str) -> Result<Restored, SourceError> {
        self.told("bring back a moment of", new::restored(self, &Kept::Moment(at), to).await)
    }
}

async fn settings(source: &RdsSource) -> Result<ProviderSettings, Failure> {
    let instance = source.described().await?;
    if let Some(cluster) = instance.db_cluster_identifier() {
        return Err(Failure::Refused(format!(
            "it is of cluster {cluster}, which keeps its data; this build looks after instances of their own only"
        )));
    }
    let ask = source.client.describe_db_instance_automated_backups();
    let kept = answer(ask.db_instance_identifier(&source.instance).send()).await?;
    settings_of(&instance, window_of(&instance, kept.db_instance_automated_backups())?)
}

/// From when to when an instance can be brought back. What is kept of a deleted one of the same name is not its own: only the
/// resource's id tells them apart ("DbiResourceId").
fn window_of(instance: &DbInstance, kept: &[DbInstanceAutomatedBackup]) -> Result<Option<Stretch>, Failure> {
    let id = instance.dbi_resource_id().filter(|id| !id.is_empty());
    let own = kept.iter().filter(|kept| id.is_some() && kept.dbi_resource_id() == id);
    let windows = own.filter_map(|kept| kept.restore_window());
    let windows = windows.filter_map(|window| window.earliest_time().zip(window.latest_time()));
    let windows: Result<Vec<Stretch>, Failure> = windows
        .map(|(start, end)| Ok(Stretch { start: timestamp(Some(start))?, end: timestamp(Some(end))? }))
        .collect();
    Ok(windows?.into_iter().max_by_key(|window| window.end))
}

fn settings_of(instance: &DbInstance, window: Option<Stretch>) -> Result<ProviderSettings, Failure> {
    let days = instance.backup_retention_period().and_then(|days| u32::try_from(days).ok());
    let point_in_time = match days {
        Some(0) => PointInTime::Off,
        Some(days) => PointInTime::On { days: Some(days) },
        None => {
            return Err(Failure::Wrong("it does not tell how long it keeps automated backups".to_owned()));
        }
    };
    let daily = instance.preferred_backup_window();
    let pending = instance.pending_modified_values();
    let days_to_come = pending.and_then(|pending| pending.backup_retention_period());
    // What waits for the instance's own window would be done at once with a change of ours.
    let others = pending.is_some_and(|pending| {
        let ours = PendingModifiedValues::builder().set_backup_retention_period(days_to_come).build();
        *pending != ours
    });
    let changing = match (days_to_come, instance.db_instance_status()) {
        _ if others => Some("other changes of it wait for its maintenance window".to_owned()),
        (Some(days), _) => Some(format!("it goes to {days} days of automated backups")),
        (None, Some("modifying")) => Some("it is being modified".to_owned()),
        (None, _) => None,
    };
    Ok(ProviderSettings {
        point_in_time,
        window: window.filter(|_| point_in_time != PointInTime::Off),
        inferred: None,
        backup_window: daily.and_then(|daily| DailyWindow::parse(daily).ok()),
        snapshots: None,
        snapshot_time: None,
        changing,
    })
}

async fn protect(source: &RdsSource, wanted: &Protection) -> Result<(), Failure> {
    let days = wanted.point_in_time.map(|point_in_time| match point_in_time {
        PointInTime::Off => 0,
        PointInTime::On { days } => days.and_then(|days| i32::try_from(days).ok()).unwrap_or(DAYS),
    });
    let window = wanted.backup_window.as_ref().map(|window| window.as_str().to_owned());
    if let Some(why) = settings(source).await?.changing {
        return Err(Failure::Refused(format!("nothing is changed while it changes: {why}")));
    }
    let modify = source.client.modify_db_instance().db_instance_identifier(&source.instance);
    let modify = modify.set_backup_retention_period(days).set_preferred_backup_window(window);
    answer(modify.apply_immediately(true).send()).await?;
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

async fn natives(source: &RdsSource, prefix: &NativePrefix) -> Result<BTreeMap<String, Native>, Failure> {
    let (mut found, mut from) = (BTreeMap::new(), None);
    for _ in 0..PAGES {
        let list = source.client.describe_db_snapshots().db_instance_identifier(&source.instance);
        let page = answer(list.snapshot_type("manual").set_marker(from).send()).await?;
        for snapshot in page.db_snapshots() {
            let Some(name) = snapshot.db_snapshot_identifier() else { continue };
            if let Some(artifact) = prefix.artifact(name) {
                found.insert(name.to_owned(), Native { artifact, state: state_of(snapshot) });
            }
        }
        from = page.marker.filter(|marker| !marker.is_empty());
        if from.is_none() {
            return Ok(found);
        }
    }
    Err(Failure::Wrong(format!("its list of snapshots has over {PAGES} pages")))
}

/// The states of a snapshot ("DBSnapshot" of the API's reference names some; its guide the rest).
fn state_of(snapshot: &DbSnapshot) -> NativeState {
    match snapshot.status() {
        Some("available") => NativeState::Available,
        Some("creating" | "copying") => NativeState::Making,
        Some("deleting" | "deleted") => NativeState::Gone,
        other => NativeState::Broken(format!("its status is {other:?}")),
    }
}

/// A snapshot as RDS describes it; `None` where it says that there is none.
async fn described(source: &RdsSource, name: &str) -> Result<Option<DbSnapshot>, Failure> {
    match answer(source.client.describe_db_snapshots().db_snapshot_identifier(name).send()).await {
        Ok(found) => Ok(found.db_snapshots.unwrap_or_default().into_iter().next()),
        Err(failure) if failure.is_code(&NO_SNAPSHOT) => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn make(source: &RdsSource, name: &NativeName, clock: &dyn Clock) -> Result<MadeNative, Failure> {
    let name = name.to_string();
    // What was written before is in it, and of what is written until it is begun some may be, too.
    let mut moment = clock.now();
    match described(source, &name).await? {
        // Nothing else bears this name: it was begun by a call whose answer was lost, and holds nothing of since then.
        Some(there) => moment = moment.min(timestamp(there.snapshot_create_time())?),
        None => begin(source, &name).await?,
    }
    let snapshot = wait_until_available(source, &name).await?;
    let of = snapshot.db_instance_identifier().unwrap_or_default();
    if !of.eq_ignore_ascii_case(&source.instance) {
        return Err(Failure::Wrong(format!("snapshot {name} is of instance {of}")));
    }
    let engine = [snapshot.engine(), snapshot.engine_version()].map(Option::unwrap_or_default);
    Ok(MadeNative {
        reference: name,
        account: snapshot.db_snapshot_arn().and_then(account_of),
        moment,
        details: Details {
            versions: BTreeMap::from([(engine[0].to_owned(), engine[1].to_owned())]),
            counts: Counts::NotCaptured("RDS does not look into a snapshot".to_owned()),
            ..Details::default()
        },
    })
}

/// Begins a snapshot. The client makes a call again whose answer was lost: then it is there.
async fn begin(source: &RdsSource, name: &str) -> Result<(), Failure> {
    let create = source.client.create_db_snapshot().db_instance_identifier(&source.instance);
    match answer(create.db_snapshot_identifier(name).send()).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_code(&SNAPSHOT_EXISTS) => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn wait_until_available(source: &RdsSource, name: &str) -> Result<DbSnapshot, Failure> {
    let (deadline, mut pause) = (Instant::now() + MADE, LOOKS.0);
    loop {
        // One that was begun just now may not be seen everywhere at once.
        if let Some(snapshot) = described(source, name).await? {
            match state_of(&snapshot) {
                NativeState::Available => return Ok(snapshot),
                NativeState::Making => {}
                NativeState::Gone => {
                    return Err(Failure::Wrong(format!("snapshot {name} was deleted meanwhile")));
                }
                NativeState::Broken(why) => return Err(Failure::Wrong(format!("snapshot {name}: {why}"))),
            }
        }
        if Instant::now() >= deadline {
            return Err(Failure::NotReady(format!("snapshot {name} is still being made after a day")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

async fn delete(source: &RdsSource, reference: &str, name: &NativeName) -> Result<(), Failure> {
    if reference != name.to_string() {
        return Err(Failure::Refused(format!("snapshot {reference} is not called {name}")));
    }
    match answer(source.client.delete_db_snapshot().db_snapshot_identifier(reference).send()).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_code(&NO_SNAPSHOT) => Ok(()),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_rds::types::RestoreWindow;

    use super::*;

    fn instance(days: i32) -> aws_sdk_rds::types::builders::DbInstanceBuilder {
        DbInstance::builder().backup_retention_period(days).preferred_backup_window("03:00-04:00")
    }

    fn window() -> Option<Stretch> {
        Some(Stretch {
            start: Timestamp::from_second(100).unwrap(),
            end: Timestamp::from_second(200).unwrap(),
        })
    }

    #[test]
    fn no_days_of_automated_backups_is_off_and_leaves_no_window() {
        let off = settings_of(&instance(0).build(), window()).unwrap();
        assert_eq!((off.point_in_time, off.window), (PointInTime::Off, None));
        let on = settings_of(&instance(14).build(), window()).unwrap();
        assert_eq!((on.point_in_time, on.window), (PointInTime::On { days: Some(14) }, window()));
        assert_eq!(on.backup_window.unwrap().as_str(), "03:00-04:00");
        assert!(settings_of(&DbInstance::builder().build(), None).is_err(), "what is not told is not off");
    }

    #[test]
    fn what_is_kept_of_a_deleted_instance_of_the_same_name_is_not_its_own() {
        let kept = |id: Option<&str>, end: i64| {
            let window = RestoreWindow::builder()
                .earliest_time(aws_sdk_rds::primitives::DateTime::from_secs(100))
                .latest_time(aws_sdk_rds::primitives::DateTime::from_secs(end));
            let kept = DbInstanceAutomatedBackup::builder().set_dbi_resource_id(id.map(str::to_owned));
            kept.restore_window(window.build()).build()
        };
        let of = |id: Option<&str>, all: &[DbInstanceAutomatedBackup]| {
            let instance = instance(7).set_dbi_resource_id(id.map(str::to_owned)).build();
            window_of(&instance, all).unwrap()
        };
        let all = [kept(Some("db-old"), 900), kept(Some("db-new"), 200), kept(None, 950)];
        assert_eq!(of(Some("db-new"), &all), window());
        assert_eq!(of(Some("db-newer"), &all), None);
        assert_eq!(of(None, &all), None, "what nobody can tell is nobody's");
    }

    #[test]
    fn what_rds_is_about_to_change_is_told() {
        let pending = PendingModifiedValues::builder().backup_retention_period(7).build();
        let changing = settings_of(&instance(1).pending_modified_values(pending).build(), None).unwrap();
        assert_eq!(changing.changing.unwrap(), "it goes to 7 days of automated backups");
        assert_eq!(settings_of(&instance(1).build(), None).unwrap().changing, None);
    }

    #[test]
    fn only_an_available_snapshot_can_be_restored() {
        let state = |status: &str| state_of(&DbSnapshot::builder().status(status).build());
        assert_eq!((state("available"), state("creating")), (NativeState::Available, NativeState::Making));
        assert_eq!(state("deleting"), NativeState::Gone);
        assert!(matches!(state("failed"), NativeState::Broken(_)));
        assert!(matches!(state_of(&DbSnapshot::builder().build()), NativeState::Broken(_)));
    }
}
