//! Tables that recoveries have DynamoDB make of what it keeps: marked as soon as it takes tags, and taken up again by their mark.

use aws_sdk_dynamodb::types::TableDescription;
use jiff::Timestamp;

use super::{Failure, copies, load, provider::RESTORED, reach::Reach, table};
use crate::{
    aws::{date_time, timestamp},
    inventory::{RECOVERY_TAG, Renewal},
    sources::{Kept, Restored},
};

/// What stands under the name of what a recovery has made.
enum Standing {
    Nothing,
    /// This recovery's own, being made or made: it bears the mark.
    Marked,
    /// The same, cut off before DynamoDB took the mark.
    Unmarked(Box<TableDescription>),
    /// Anything else, and why it is that.
    Other(String),
}

/// Makes the table, or takes up again what the same recovery began, and waits until it can be used.
pub(super) async fn renew(
    reach: &Reach,
    original: &str,
    kept: &Kept<'_>,
    renewal: &Renewal,
) -> Result<Restored, Failure> {
    let name = renewal.name.as_str();
    let to_mark = match standing(reach, original, kept, renewal).await? {
        Standing::Marked => None,
        Standing::Unmarked(table) => Some(*table),
        Standing::Other(why) => return Err(Failure::Refused(why)),
        Standing::Nothing => Some(begun(reach, original, kept, renewal).await?),
    };
    let going_on = |failure| Failure::GoesOn(Box::new(failure), name.to_owned());
    if let Some(table) = to_mark {
        let unnamed = || Failure::Wrong("it does not name the table that it makes".to_owned());
        let arn = table.table_arn().ok_or_else(unnamed).map_err(going_on)?;
        copies::mark(reach, arn, RECOVERY_TAG, &renewal.mark).await.map_err(going_on)?;
    }
    load::ready_within(reach, name, RESTORED).await.map_err(going_on)?;
    Ok(Restored { place: format!("table {name}") })
}

async fn standing(
    reach: &Reach,
    original: &str,
    kept: &Kept<'_>,
    renewal: &Renewal,
) -> Result<Standing, Failure> {
    let name = &renewal.name;
    let Some(found) = table::existing(reach, name).await? else { return Ok(Standing::Nothing) };
    Ok(match copies::tag_of(reach, &found, RECOVERY_TAG).await? {
        Some(mark) if mark == renewal.mark => Standing::Marked,
        Some(mark) => Standing::Other(format!(
            "table {name} exists, and its tag {RECOVERY_TAG} says that another recovery or step made it: {mark}; name another table \
             in the step, or delete this one if nobody needs it"
        )),
        // Its own recovery was cut off before DynamoDB took the tag.
        None if renewal.begun.is_some_and(|begun| is_made_since(&found, begun))
            && is_of(&found, original, kept) =>
        {
            Standing::Unmarked(Box::new(found))
        }
        None => Standing::Other(format!(
            "table {name} exists, and nothing tells that this recovery made it; name another table in the step, or delete this one if \
             nobody needs it"
        )),
    })
}

/// Has DynamoDB begin. The client makes a call again whose answer was lost: what is there by then, of what was asked for, was not there just
/// before.
async fn begun(
    reach: &Reach,
    original: &str,
    kept: &Kept<'_>,
    renewal: &Renewal,
) -> Result<TableDescription, Failure> {
    let name = renewal.name.as_str();
    let begun = match kept {
        Kept::Backup(reference) => {
            let call = reach.client.restore_table_from_backup().backup_arn(*reference);
            let answer = reach.answer(call.target_table_name(name).send()).await;
            answer.map(|answer| answer.table_description)
        }
        Kept::Moment(at) => {
            let call = reach.client.restore_table_to_point_in_time().source_table_name(original);
            let call = call.target_table_name(name).restore_date_time(date_time(*at));
            reach.answer(call.send()).await.map(|answer| answer.table_description)
        }
    };
    let failure = match begun {
        Ok(Some(table)) => return Ok(table),
        Ok(None) => Failure::Wrong("it does not tell what it makes".to_owned()),
        Err(failure) => load::not_made(failure, name),
    };
    match table::existing(reach, name).await {
        Ok(Some(table)) if is_of(&table, original, kept) && !is_another_s(reach, &table, renewal).await? => {
            Ok(table)
        }
        _ if !failure.may_be_left() => Err(failure),
        _ => Err(failure.going_on(name)),
    }
}

/// Whether a table bears the mark of another step, which may have begun it at the same time.
async fn is_another_s(reach: &Reach, table: &TableDescription, renewal: &Renewal) -> Result<bool, Failure> {
    let mark = copies::tag_of(reach, table, RECOVERY_TAG).await?;
    Ok(mark.is_some_and(|mark| mark != renewal.mark))
}

/// Whether a table was made since a moment.
fn is_made_since(table: &TableDescription, since: Timestamp) -> bool {
    // DynamoDB tells of some moments in whole seconds.
    timestamp(table.creation_date_time()).is_ok_and(|made| made.as_second() >= since.as_second())
}

/// Whether a table says that it was restored of this ("RestoreSummary" of the API's reference).
fn is_of(table: &TableDescription, original: &str, kept: &Kept<'_>) -> bool {
    let Some(summary) = table.restore_summary() else { return false };
    match kept {
        Kept::Backup(reference) => summary.source_backup_arn() == Some(reference),
        Kept::Moment(at) => {
            let of_table = summary
                .source_table_arn()
                .is_some_and(|arn| arn.rsplit_once(":table/").is_some_and(|(_, table)| table == original));
            summary.source_backup_arn().is_none()
                && of_table
                && summary.restore_date_time().secs() == at.as_second()
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::{primitives::DateTime, types::RestoreSummary};

    use super::*;

    fn restored(backup: Option<&str>, at: i64) -> TableDescription {
        let summary = RestoreSummary::builder()
            .set_source_backup_arn(backup.map(str::to_owned))
            .source_table_arn("arn:aws:dynamodb:eu-north-1:123456789012:table/sessions")
            .restore_date_time(DateTime::from_secs(at))
            .restore_in_progress(true);
        TableDescription::builder()
            .restore_summary(summary.build().unwrap())
            .creation_date_time(DateTime::from_secs(100))
            .build()
    }

    #[test]
    fn only_what_says_that_it_is_of_what_was_asked_for_is() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let of_backup = restored(Some("arn:1"), 50);
        assert!(is_of(&of_backup, "sessions", &Kept::Backup("arn:1")));
        assert!(!is_of(&of_backup, "sessions", &Kept::Backup("arn:2")));
        assert!(!is_of(&of_backup, "sessions", &Kept::Moment(at(50))));
        let of_moment = restored(None, 50);
        assert!(is_of(&of_moment, "sessions", &Kept::Moment(at(50))));
        assert!(!is_of(&of_moment, "sessions", &Kept::Moment(at(51))));
        assert!(!is_of(&of_moment, "essions", &Kept::Moment(at(50))));
        assert!(!is_of(&of_moment, "sessions", &Kept::Backup("arn:1")));
        assert!(!is_of(&TableDescription::builder().build(), "sessions", &Kept::Backup("arn:1")));
        assert!(is_made_since(&of_moment, at(100)) && !is_made_since(&of_moment, at(101)));
        assert!(!is_made_since(&TableDescription::builder().build(), at(0)), "what is not told is not since");
    }
}
