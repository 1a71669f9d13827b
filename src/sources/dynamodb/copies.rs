//! Tables that drills have DynamoDB make of its own backups: marked, counted and deleted again.

use std::time::Duration;

use aws_sdk_dynamodb::types::{Select, TableDescription, Tag};
use tokio::time::Instant;

use super::{Failure, load, provider::RESTORED, reach::Reach, table};
use crate::{
    aws::Fault,
    inventory::{CopyStanding, DRILL_TAG, SandboxCopy},
};

/// How long a table may take to go.
const GONE: Duration = Duration::from_secs(30 * 60);

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

/// Puts the mark on a table, which may not take it before it is ready.
pub(super) async fn mark(reach: &Reach, arn: &str, key: &str, mark: &str) -> Result<(), Failure> {
    let tag = Tag::builder().key(key).value(mark).build();
    let tag = tag.map_err(|error| Failure::Wrong(error.to_string()))?;
    let (deadline, mut pause) = (Instant::now() + RESTORED, LOOKS.0);
    loop {
        let call = reach.client.tag_resource().resource_arn(arn).tags(tag.clone());
        match reach.answer(call.send()).await {
            Ok(_) => return Ok(()),
            Err(failure) if is_not_ready(&failure) && Instant::now() < deadline => {}
            Err(failure) => return Err(failure),
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
