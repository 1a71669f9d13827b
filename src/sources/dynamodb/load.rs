//! The ways back: into a file, a new table, or over the original.

use std::{path::Path, time::Duration};

use aws_sdk_dynamodb::types::{
    IndexStatus, PointInTimeRecoverySpecification, TableDescription, TableStatus, TimeToLiveSpecification,
};
use tokio::{io::AsyncRead, time::Instant};

use super::{
    Failure,
    batches::Batches,
    lines::{Description, Lines},
    reach::Reach,
    table::{self, Table},
};
use crate::{
    aws::Fault,
    sources::aside::{Aside, new_folder},
};

/// How long a table may take until it can be used.
const READY: Duration = Duration::from_secs(30 * 60);

/// Pauses between two looks at a table that is being made: the first, and the longest.
const LOOK: Duration = Duration::from_millis(500);
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// Writes the stream into a new file.
pub(super) async fn to_file(
    stream: &mut (dyn AsyncRead + Send + Unpin),
    path: &Path,
) -> Result<String, Failure> {
    let mut aside = Aside::begin(path).map_err(|error| Failure::io(path, error))?;
    aside.fill(stream, |_| {}).await.map_err(Failure::Stream)?;
    aside.place().map_err(|error| Failure::io(path, error))?;
    Ok(path.display().to_string())
}

/// Writes the stream into a file of a new or empty folder.
pub(super) async fn to_folder(
    stream: &mut (dyn AsyncRead + Send + Unpin),
    folder: &Path,
    name: &str,
) -> Result<String, Failure> {
    new_folder(folder).map_err(|error| Failure::io(folder, error))?;
    to_file(stream, &folder.join(name)).await
}

/// Makes table `name` of the stream. Where that fails, the table that was made is removed again.
pub(super) async fn to_new_table(
    reach: &Reach,
    stream: &mut (dyn AsyncRead + Send + Unpin),
    name: &str,
) -> Result<String, Failure> {
    must_be_new(reach, name).await?;
    let (description, lines) = Lines::open(stream).await?;
    made(reach, name, &description, lines).await
}

/// Refuses a table that is there.
pub(super) async fn must_be_new(reach: &Reach, name: &str) -> Result<(), Failure> {
    match table::existing(reach, name).await? {
        Some(_) => Err(exists(name)),
        None => Ok(()),
    }
}

/// Puts every item of the stream into `name`, over those of the same key; other items stay. Makes the table where it is gone.
pub(super) async fn over_original(
    reach: &Reach,
    stream: &mut (dyn AsyncRead + Send + Unpin),
    name: &str,
) -> Result<String, Failure> {
    let there = table::existing(reach, name).await?;
    let (description, lines) = Lines::open(stream).await?;
    if description.table.table_name != name {
        return Err(Failure::Refused(format!(
            "the artifact is of table {}, and {name} is declared now; restore it to a new table (`--to database:NAME`)",
            description.table.table_name
        )));
    }
    let Some(there) = there else { return made(reach, name, &description, lines).await };
    same_key(&description.table, &there)?;
    let put = fill(reach, name, &description.table, lines).await?;
    Ok(format!("table {name}: {} put", items(put)))
}

/// Refuses to mix items that are told apart in another way.
fn same_key(described: &Table, there: &TableDescription) -> Result<(), Failure> {
    let kind = |name: &str| {
        let mut kinds = there.attribute_definitions().iter();
        kinds.find(|it| it.attribute_name() == name).map(|it| it.attribute_type().as_str())
    };
    let same_kind = |name: &str| {
        let described = described.attribute_definitions.iter().find(|it| it.attribute_name == name);
        described.map(|it| it.attribute_type.as_str()) == kind(name)
    };
    let same_names = described.key_schema == table::keys(there.key_schema());
    if same_names && described.key_schema.iter().all(|key| same_kind(&key.attribute_name)) {
        return Ok(());
    }
    Err(Failure::Refused(
        "the table has another key now than in the artifact; restore it to a new table (`--to database:NAME`)"
            .to_owned(),
    ))
}

async fn made(
    reach: &Reach,
    name: &str,
    description: &Description,
    lines: Lines<'_>,
) -> Result<String, Failure> {
    let new = NewTable::create(reach, name, &description.table).await?;
    let loaded = async {
        wait_until_ready(reach, name).await?;
        let put = fill(reach, name, &description.table, lines).await?;
        finish(reach, name, description).await?;
        Ok(put)
    };
    match loaded.await {
        Ok(put) => {
            new.keep();
            Ok(format!("table {name}: {} put", items(put)))
        }
        Err(failure) => Err(new.remove(failure).await),
    }
}

async fn fill(reach: &Reach, name: &str, table: &Table, mut lines: Lines<'_>) -> Result<u64, Failure> {
    let mut batches = Batches::new(reach, name, &table.key_schema);
    while let Some(item) = lines.next().await? {
        batches.add(item).await?;
    }
    batches.finish().await
}

/// Sets what a table has beside its items, once they are there: nothing of them expires while they are put.
async fn finish(reach: &Reach, name: &str, description: &Description) -> Result<(), Failure> {
    let malformed = |error: aws_sdk_dynamodb::error::BuildError| Failure::malformed(error.to_string());
    if let Some(told) = &description.time_to_live_specification {
        let wanted = TimeToLiveSpecification::builder().enabled(told.enabled);
        let wanted = wanted.attribute_name(&told.attribute_name).build().map_err(malformed)?;
        let update = reach.client.update_time_to_live().table_name(name);
        reach.answer(update.time_to_live_specification(wanted).send()).await?;
    }
    if let Some(told) = &description.point_in_time_recovery_specification
        && told.point_in_time_recovery_enabled
    {
        let wanted = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true);
        let wanted = wanted.set_recovery_period_in_days(told.recovery_period_in_days);
        let wanted = wanted.build().map_err(malformed)?;
        let update = reach.client.update_continuous_backups().table_name(name);
        reach.answer(update.point_in_time_recovery_specification(wanted).send()).await?;
    }
    // Last: what is protected could not be removed again.
    if description.table.deletion_protection_enabled {
        wait_until_ready(reach, name).await?;
        let update = reach.client.update_table().table_name(name);
        reach.answer(update.deletion_protection_enabled(true).send()).await?;
    }
    Ok(())
}

/// Waits until a table that was made can be used, with its indexes.
async fn wait_until_ready(reach: &Reach, name: &str) -> Result<(), Failure> {
    ready_within(reach, name, READY).await
}

/// The same, for as long as `limit`.
pub(super) async fn ready_within(reach: &Reach, name: &str, limit: Duration) -> Result<(), Failure> {
    let (deadline, mut pause) = (Instant::now() + limit, LOOK);
    loop {
        // It may not be seen at once everywhere.
        if table::existing(reach, name).await?.is_some_and(|table| is_ready(&table)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let limit = humantime::format_duration(limit);
            return Err(Failure::NotReady(format!("table {name} is still being made after {limit}")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_LOOK);
    }
}

fn is_ready(table: &TableDescription) -> bool {
    let mut indexes = table.global_secondary_indexes().iter();
    table.table_status() == Some(&TableStatus::Active)
        && indexes.all(|index| index.index_status() == Some(&IndexStatus::Active))
}

/// A table that a restore made, and that is removed unless it is kept.
struct NewTable {
    reach: Reach,
    name: String,
    kept: bool,
}

impl NewTable {
    async fn create(reach: &Reach, name: &str, table: &Table) -> Result<Self, Failure> {
        let create = table.create(name)?.send_with(&reach.client);
        match reach.answer(create).await {
            Ok(_) => Ok(Self { reach: reach.clone(), name: name.to_owned(), kept: false }),
            Err(failure) => Err(not_made(failure, name)),
        }
    }

    fn keep(mut self) {
        self.kept = true;
    }

    /// Removes it, since `failure` came between.
    async fn remove(mut self, failure: Failure) -> Failure {
        self.kept = true;
        match delete(&self.reach, &self.name).await {
            Ok(()) => failure,
            Err(_) => Failure::LeftBehind(Box::new(failure), self.name.clone()),
        }
    }
}

impl Drop for NewTable {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The restore was given up: what it made is removed as long as there is somebody to do it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (reach, name) = (self.reach.clone(), std::mem::take(&mut self.name));
            runtime.spawn(async move { delete(&reach, &name).await });
        }
    }
}

async fn delete(reach: &Reach, name: &str) -> Result<(), Failure> {
    // A table that is still being made can't be deleted.
    wait_until_ready(reach, name).await?;
    reach.answer(reach.client.delete_table().table_name(name).send()).await.map(|_| ())
}

/// With what the name of a table that is there is refused, by `CreateTable` and by restores.
const EXISTS: [&str; 2] = ["ResourceInUseException", "TableAlreadyExistsException"];

/// Why a table was not made that was not there just before, as far as is known: an answer may be lost, and the call was made again
/// then. Who makes such a table is not told, so that it stays.
pub(super) fn not_made(failure: Failure, name: &str) -> Failure {
    match failure {
        Failure::Aws(Fault::Service { code, .. }) if EXISTS.contains(&code.as_str()) => {
            Failure::Refused(format!(
                "table {name} exists, and did not just before: somebody made it, or this restore did and the answer was lost; delete \
                 it if nobody else made it, and restore again"
            ))
        }
        failure @ (Failure::Silent(_) | Failure::Aws(Fault::Connection(_) | Fault::Protocol(_))) => {
            Failure::MayBeLeftBehind(Box::new(failure), name.to_owned())
        }
        failure => failure,
    }
}

fn exists(name: &str) -> Failure {
    Failure::Refused(format!("table {name} exists"))
}

fn items(count: u64) -> String {
    if count == 1 { "1 item".to_owned() } else { format!("{count} items") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(failure: Failure) -> String {
        not_made(failure, "music").explain("restore", "table music".to_owned()).to_string()
    }

    #[test]
    fn a_table_that_this_restore_may_have_made_is_told_of() {
        let service = |code: &str| {
            Failure::Aws(Fault::Service { status: 400, code: code.to_owned(), message: "no".to_owned() })
        };
        let there = told(service("ResourceInUseException"));
        assert!(there.contains("table music exists") && there.contains("the answer was lost"), "{there}");
        for unanswered in [Failure::Silent(LOOK), Failure::Aws(Fault::Connection("reset".to_owned()))] {
            let unanswered = not_made(unanswered, "music").explain("restore", "table music".to_owned());
            assert!(unanswered.hint.unwrap().contains("look whether table music was made"));
        }
        let refused = not_made(service("LimitExceededException"), "music");
        assert!(matches!(refused, Failure::Aws(Fault::Service { .. })), "a refusal makes no table");
    }
}
