//! Instances that RDS makes of a snapshot or of a moment, in the network of the original as far as that is still there.

use std::time::Duration;

use aws_sdk_rds::types::{DbInstance, Tag};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Failure, NO_INSTANCE, RdsSource, answer, existing};
use crate::{
    aws::{Fault, date_time},
    inventory::{CopyStanding, DRILL_TAG, SandboxCopy},
    sources::Restored,
};

/// The longest that an instance may take until it can be used.
const READY: Duration = Duration::from_secs(24 * 3600);

/// Pauses between two looks at an instance that is being made: the first, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How long an instance may take to go.
const GONE: Duration = Duration::from_secs(2 * 3600);

/// With what is refused to whoever deletes an instance that is being made or deleted.
const NOT_NOW: [&str; 2] = ["InvalidDBInstanceState", "InvalidDBInstanceStateFault"];

/// With what the name of an instance that is there is refused.
const EXISTS: [&str; 2] = ["DBInstanceAlreadyExists", "DBInstanceAlreadyExistsFault"];

/// Where the original is, and who reaches it: what RDS would otherwise choose by itself.
#[derive(Default)]
struct Surroundings {
    class: Option<String>,
    subnets: Option<String>,
    groups: Option<Vec<String>>,
    parameters: Option<String>,
    is_public: Option<bool>,
}

impl Surroundings {
    fn of(instance: &DbInstance) -> Self {
        let groups = instance.vpc_security_groups().iter();
        let groups = groups.filter_map(|group| group.vpc_security_group_id().map(str::to_owned));
        let groups: Vec<String> = groups.collect();
        let parameters = instance.db_parameter_groups().first();
        Self {
            class: instance.db_instance_class().map(str::to_owned),
            subnets: instance.db_subnet_group().and_then(|it| it.db_subnet_group_name()).map(str::to_owned),
            groups: (!groups.is_empty()).then_some(groups),
            parameters: parameters.and_then(|it| it.db_parameter_group_name()).map(str::to_owned),
            is_public: instance.publicly_accessible(),
        }
    }
}

/// Makes `to` of a snapshot, from its beginning with the mark of a drill where it is one's.
pub(super) async fn of_snapshot(
    source: &RdsSource,
    reference: &str,
    to: &str,
    drill: Option<&SandboxCopy>,
) -> Result<Restored, Failure> {
    let around = surroundings(source, to).await?;
    let call = source.client.restore_db_instance_from_db_snapshot();
    let tags = drill.map(|copy| vec![Tag::builder().key(DRILL_TAG).value(&copy.mark).build()]);
    let call = call.db_snapshot_identifier(reference).db_instance_identifier(to).set_tags(tags);
    let call = call
        .set_db_instance_class(around.class)
        .set_db_subnet_group_name(around.subnets)
        .set_vpc_security_group_ids(around.groups)
        .set_db_parameter_group_name(around.parameters)
        .publicly_accessible(around.is_public.unwrap_or(false));
    made(source, to, answer(call.send()).await.map(drop)).await
}

/// Makes `to` of the original as it was at a moment.
pub(super) async fn of_moment(source: &RdsSource, at: Timestamp, to: &str) -> Result<Restored, Failure> {
    let around = surroundings(source, to).await?;
    let call = source.client.restore_db_instance_to_point_in_time();
    let call = call.source_db_instance_identifier(&source.instance).target_db_instance_identifier(to);
    let call = call
        .restore_time(date_time(at))
        .set_db_instance_class(around.class)
        .set_db_subnet_group_name(around.subnets)
        .set_vpc_security_group_ids(around.groups)
        .set_db_parameter_group_name(around.parameters)
        .publicly_accessible(around.is_public.unwrap_or(false));
    made(source, to, answer(call.send()).await.map(drop)).await
}

/// What stands under a name.
pub(super) async fn standing(source: &RdsSource, name: &str) -> Result<CopyStanding, Failure> {
    let Some(found) = existing(&source.client, name).await? else { return Ok(CopyStanding::Nothing) };
    let mark = found.tag_list().iter().find(|tag| tag.key() == Some(DRILL_TAG));
    Ok(mark.map_or(CopyStanding::Unmarked, |tag| {
        CopyStanding::Marked(tag.value().unwrap_or_default().to_owned())
    }))
}

/// Deletes the instance, if it bears the mark, with the automated backups that RDS made of it.
pub(super) async fn delete(source: &RdsSource, copy: &SandboxCopy) -> Result<(), Failure> {
    let (deadline, mut pause) = (Instant::now() + GONE, LOOKS.0);
    let mut is_begun = false;
    loop {
        match standing(source, &copy.name).await? {
            CopyStanding::Nothing => return Ok(()),
            CopyStanding::Marked(mark) if mark == copy.mark => {}
            // The name has been taken again meanwhile.
            _ if is_begun => return Ok(()),
            CopyStanding::Marked(_) | CopyStanding::Unmarked => {
                return Err(Failure::Refused(format!(
                    "instance {} does not bear the mark {}",
                    copy.name, copy.mark
                )));
            }
        }
        if !is_begun {
            let call = source.client.delete_db_instance().db_instance_identifier(&copy.name);
            let call = call.skip_final_snapshot(true).delete_automated_backups(true);
            match answer(call.send()).await {
                Ok(_) => is_begun = true,
                Err(failure) if failure.is_code(&NO_INSTANCE) => return Ok(()),
                // It is being made, or is on its way already.
                Err(failure) if failure.is_code(&NOT_NOW) => {}
                Err(failure) => return Err(failure),
            }
        }
        if Instant::now() >= deadline {
            return Err(Failure::NotReady(format!("instance {} is still there after two hours", copy.name)));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

/// Refuses an instance that is there; tells the surroundings of the original, or nothing where that is gone.
async fn surroundings(source: &RdsSource, to: &str) -> Result<Surroundings, Failure> {
    if existing(&source.client, to).await?.is_some() {
        return Err(Failure::Refused(format!("instance {to} exists; name one that does not")));
    }
    let original = existing(&source.client, &source.instance).await?;
    Ok(original.as_ref().map(Surroundings::of).unwrap_or_default())
}

/// Waits for what was begun. It is left there whatever comes between: RDS goes on to make it.
async fn made(source: &RdsSource, to: &str, begun: Result<(), Failure>) -> Result<Restored, Failure> {
    match begun {
        Ok(()) => {}
        Err(failure) if failure.is_code(&EXISTS) => {
            return Err(Failure::Refused(format!(
                "instance {to} exists, and did not just before: somebody made it, or this restore did and the answer was lost"
            )));
        }
        Err(failure @ (Failure::Silent | Failure::Aws(Fault::Connection(_) | Fault::Protocol(_)))) => {
            return Err(Failure::MayBeLeftBehind(Box::new(failure), to.to_owned()));
        }
        Err(failure) => return Err(failure),
    }
    match wait_until_available(source, to).await {
        Ok(()) => Ok(Restored { place: format!("instance {to}") }),
        Err(failure) => Err(Failure::MayBeLeftBehind(Box::new(failure), to.to_owned())),
    }
}

async fn wait_until_available(source: &RdsSource, name: &str) -> Result<(), Failure> {
    let (deadline, mut pause) = (Instant::now() + READY, LOOKS.0);
    loop {
        let instance = existing(&source.client, name).await?;
        match instance.as_ref().and_then(DbInstance::db_instance_status) {
            Some("available") => return Ok(()),
            // The states from which nothing leads on without a person ("Viewing DB instance status" of the guide).
            Some(status) if status == "failed" || status.starts_with("incompatible-") => {
                return Err(Failure::Wrong(format!("instance {name} is {status}")));
            }
            _ if Instant::now() >= deadline => {
                return Err(Failure::NotReady(format!("instance {name} is still being made after a day")));
            }
            _ => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}
