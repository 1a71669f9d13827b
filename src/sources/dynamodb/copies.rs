//! Tables that drills have DynamoDB make of its own backups: marked, counted and deleted again.

use std::time::Duration;

use aws_sdk_dynamodb::types::{Select, TableDescription, Tag};
use tokio::time::Instant;

use super::{Failure, load, provider::RESTORED, reach::Reach, table};
use crate::{
    aws::{Fault, timestamp},
    inventory::{CopyStanding, DRILL_TAG, SandboxCopy},
    sources::{Announced, Claim},
};

/// How long a table may take to go.
const GONE: Duration = Duration::from_secs(30 * 60);

/// How long a pass waits until a table takes its mark; large ones are made for hours, and a later pass looks again.
const CLAIMED: Duration = Duration::from_secs(30);

/// Pauses between two looks: the first, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Makes the table and marks it. A restore takes no tags ("RestoreTableFromBackup"): they are put on as soon as that can be.
pub(super) async fn make(reach: &Reach, reference: &str, copy: &SandboxCopy) -> Result<(), Failure> {
    load::must_be_new(reach, &copy.name).await?;
    let call = reach.client.restore_table_from_backup().backup_arn(reference).target_table_name(&copy.name);
    let begun = reach.answer(call.send()).await.map_err(|failure| load::not_made(failure, &copy.name))?;
    let arn = begun.table_description.and_then(|table| table.table_arn);
    let unnamed = || Failure::Wrong("it does not name the table that it makes".to_owned());
    let left = |failure| Failure::MayBeLeftBehind(Box::new(failure), copy.name.clone());
    mark(reach, &arn.ok_or_else(unnamed).map_err(left)?, DRILL_TAG, &copy.mark).await.map_err(left)?;
    load::ready_within(reach, &copy.name, RESTORED).await
}

/// Puts its mark on a table without one that is what was announced.
pub(super) async fn claim(reach: &Reach, announced: &Announced<'_>) -> Result<Claim, Failure> {
    let copy = announced.copy;
    let (deadline, mut pause) = (Instant::now() + CLAIMED, LOOKS.0);
    loop {
        let gone = || Claim::Unknown("it is gone, and a later pass looks again".to_owned());
        let Some(found) = table::existing(reach, &copy.name).await? else { return Ok(gone()) };
        let arn = match is_announced(&found, announced) {
            Ok(arn) => arn,
            Err(why) => return Ok(Claim::Unknown(why)),
        };
        if let Some(mark) = tag_of(reach, &found, DRILL_TAG).await? {
            let is_ours = mark == copy.mark;
            return Ok(if is_ours {
                Claim::Marked
            } else {
                Claim::Unknown(format!("it bears the mark {mark}"))
            });
        }
        // Asked for once for each look: what is marked is what was looked at.
        match put_mark(reach, arn, DRILL_TAG, &copy.mark).await? {
            Put::There => return Ok(Claim::Marked),
            Put::NotNow => {}
        }
        if Instant::now() >= deadline {
            let why =
                format!("table {} is still being made, and takes no mark before that has ended", copy.name);
            return Err(Failure::NotReady(why));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

/// The table's ARN, where DynamoDB tells that it was restored of what was announced, there, and when ("RestoreSummary" of
/// "TableDescription" in the API's reference).
///
/// # Errors
/// What of it is otherwise, or not told.
fn is_announced<'t>(table: &'t TableDescription, announced: &Announced<'_>) -> Result<&'t str, String> {
    if table.table_name() != Some(announced.copy.name.as_str()) {
        return Err("it bears another name".to_owned());
    }
    match table.restore_summary().map(|summary| summary.source_backup_arn()) {
        Some(Some(of)) if of == announced.reference => {}
        Some(Some(of)) => return Err(format!("it was restored of {of}")),
        Some(None) => return Err("it was restored of no backup".to_owned()),
        None => return Err("it was not restored".to_owned()),
    }
    let arn = table.table_arn().ok_or("DynamoDB does not tell where it is")?;
    if place(arn).is_none() || place(arn) != place(announced.reference) {
        return Err(format!("it is {arn}, in another account or region than its backup"));
    }
    let made =
        timestamp(table.creation_date_time()).map_err(|_| "DynamoDB does not tell when it was made")?;
    // DynamoDB tells of some moments in whole seconds.
    match made.as_second() >= announced.since.as_second() && made <= announced.until {
        true => Ok(arn),
        false => Err(format!(
            "it was made at {made:.0}, and what was announced between {:.0} and {:.0}",
            announced.since, announced.until
        )),
    }
}

/// The partition, the region and the account of an ARN ("arn:partition:service:region:account:resource").
fn place(arn: &str) -> Option<(&str, &str, &str)> {
    let mut parts = arn.split(':').skip(1);
    let (partition, _service) = (parts.next()?, parts.next()?);
    let (region, account) = (parts.next()?, parts.next()?);
    parts.next().map(|_| (partition, region, account))
}

/// Whether a table took a mark.
enum Put {
    There,
    /// It is not ready to.
    NotNow,
}

async fn put_mark(reach: &Reach, arn: &str, key: &str, mark: &str) -> Result<Put, Failure> {
    let tag = Tag::builder().key(key).value(mark).build();
    let tag = tag.map_err(|error| Failure::Wrong(error.to_string()))?;
    match reach.answer(reach.client.tag_resource().resource_arn(arn).tags(tag).send()).await {
        Ok(_) => Ok(Put::There),
        Err(failure) if is_not_ready(&failure) => Ok(Put::NotNow),
        Err(failure) => Err(failure),
    }
}

/// Puts the mark on a table, which may not take it before it is ready.
pub(super) async fn mark(reach: &Reach, arn: &str, key: &str, mark: &str) -> Result<(), Failure> {
    let (deadline, mut pause) = (Instant::now() + RESTORED, LOOKS.0);
    loop {
        match put_mark(reach, arn, key, mark).await? {
            Put::There => return Ok(()),
            Put::NotNow if Instant::now() < deadline => {}
            Put::NotNow => {
                let limit = humantime::format_duration(RESTORED);
                return Err(Failure::NotReady(format!("{arn} takes no tag after {limit}")));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

fn is_not_ready(failure: &Failure) -> bool {
    failure.is_throttled() || matches!(failure, Failure::Aws(Fault::NoTable))
}

/// What stands under a name.
pub(super) async fn standing(reach: &Reach, name: &str) -> Result<CopyStanding, Failure> {
    let Some(found) = table::existing(reach, name).await? else { return Ok(CopyStanding::Nothing) };
    let mark = tag_of(reach, &found, DRILL_TAG).await?;
    Ok(mark.map_or(CopyStanding::Unmarked, CopyStanding::Marked))
}

/// The value of a tag of a table, where it has it.
pub(super) async fn tag_of(
    reach: &Reach,
    table: &TableDescription,
    key: &str,
) -> Result<Option<String>, Failure> {
    let Some(arn) = table.table_arn() else { return Ok(None) };
    let mut from = None;
    loop {
        let call = reach.client.list_tags_of_resource().resource_arn(arn).set_next_token(from);
        let page = reach.answer(call.send()).await?;
        if let Some(tag) = page.tags().iter().find(|tag| tag.key() == key) {
            return Ok(Some(tag.value().to_owned()));
        }
        from = page.next_token;
        if from.is_none() {
            return Ok(None);
        }
    }
}

/// Counts the items, by reading all of them.
pub(super) async fn items(reach: &Reach, name: &str) -> Result<u64, Failure> {
    let (mut items, mut from) = (0_u64, None);
    loop {
        let call = reach.client.scan().table_name(name).select(Select::Count).set_exclusive_start_key(from);
        let page = reach.answer(call.send()).await?;
        items += u64::try_from(page.count()).unwrap_or(0);
        from = page.last_evaluated_key.filter(|key| !key.is_empty());
        if from.is_none() {
            return Ok(items);
        }
    }
}

/// Deletes the table, if it bears the mark.
pub(super) async fn delete(reach: &Reach, copy: &SandboxCopy) -> Result<(), Failure> {
    let (deadline, mut pause) = (Instant::now() + GONE, LOOKS.0);
    let mut is_begun = false;
    loop {
        match standing(reach, &copy.name).await? {
            CopyStanding::Nothing => return Ok(()),
            CopyStanding::Marked(mark) if mark == copy.mark => {}
            // The name has been taken again meanwhile.
            _ if is_begun => return Ok(()),
            CopyStanding::Marked(_) | CopyStanding::Unmarked => {
                return Err(Failure::Refused(format!(
                    "table {} does not bear the mark {}",
                    copy.name, copy.mark
                )));
            }
        }
        match reach.answer(reach.client.delete_table().table_name(&copy.name).send()).await {
            Ok(_) => is_begun = true,
            Err(Failure::Aws(Fault::NoTable)) => return Ok(()),
            // It is being made, or is on its way already.
            Err(failure) if failure.is_throttled() => {}
            Err(failure) => return Err(failure),
        }
        if Instant::now() >= deadline {
            return Err(Failure::NotReady(format!("table {} is still there after half an hour", copy.name)));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::{
        primitives::DateTime,
        types::{RestoreSummary, builders::TableDescriptionBuilder},
    };
    use jiff::Timestamp;

    use super::*;

    const BACKUP: &str = "arn:aws:dynamodb:eu-north-1:123456789012:table/sessions/backup/01";

    fn restored(of: Option<&str>, made: i64) -> TableDescriptionBuilder {
        let summary = RestoreSummary::builder()
            .set_source_backup_arn(of.map(str::to_owned))
            .restore_date_time(DateTime::from_secs(made))
            .restore_in_progress(true);
        TableDescription::builder()
            .table_name("backstay-drill-a")
            .table_arn("arn:aws:dynamodb:eu-north-1:123456789012:table/backstay-drill-a")
            .restore_summary(summary.build().unwrap())
            .creation_date_time(DateTime::from_secs(made))
    }

    #[test]
    fn a_table_without_a_mark_is_known_only_where_dynamodb_tells_all_that_was_announced() {
        let copy = SandboxCopy { name: "backstay-drill-a".to_owned(), mark: "shop/a/1".to_owned() };
        let at = |second| Timestamp::from_second(second).unwrap();
        let announced = Announced { copy: &copy, reference: BACKUP, since: at(100), until: at(200) };
        let judge =
            |table: TableDescriptionBuilder| is_announced(&table.build(), &announced).map(str::to_owned);
        assert!(judge(restored(Some(BACKUP), 100)).is_ok() && judge(restored(Some(BACKUP), 200)).is_ok());
        let refused = [
            (restored(Some(BACKUP), 99), "made at"),
            (restored(Some(BACKUP), 201), "made at"),
            (
                restored(Some("arn:aws:dynamodb:eu-north-1:123456789012:table/sessions/backup/02"), 150),
                "backup/02",
            ),
            (restored(None, 150), "no backup"),
            (restored(Some(BACKUP), 150).set_restore_summary(None), "not restored"),
            (restored(Some(BACKUP), 150).set_creation_date_time(None), "when"),
            (restored(Some(BACKUP), 150).set_table_arn(None), "where"),
            (restored(Some(BACKUP), 150).table_name("backstay-drill-b"), "another name"),
            (
                restored(Some(BACKUP), 150)
                    .table_arn("arn:aws:dynamodb:eu-west-1:123456789012:table/backstay-drill-a"),
                "region",
            ),
            (
                restored(Some(BACKUP), 150)
                    .table_arn("arn:aws:dynamodb:eu-north-1:210987654321:table/backstay-drill-a"),
                "account",
            ),
        ];
        for (table, why) in refused {
            let told = judge(table).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
