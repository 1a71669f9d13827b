//! Instances that RDS makes of a snapshot or of a moment, in the network of the original as far as that is still there.

use std::time::Duration;

use aws_sdk_rds::types::{DbInstance, Tag};
use tokio::time::Instant;

use super::{Failure, NO_INSTANCE, RdsSource, answer, existing};
use crate::{
    aws::{Fault, date_time},
    inventory::{CopyStanding, DRILL_TAG, RECOVERY_TAG, Renewal, SandboxCopy},
    sources::{Kept, Restored},
};

/// The longest that an instance may take until it can be used.
const READY: Duration = Duration::from_secs(24 * 3600);

/// Pauses between two looks at an instance that is being made: the first, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How long what was begun may not be listed: until it was seen, and afterwards.
const UNLISTED: (Duration, Duration) = (Duration::from_secs(10 * 60), Duration::from_secs(60));

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

/// Makes `to`, which must not exist yet, of a snapshot or of a moment.
pub(super) async fn restored(source: &RdsSource, kept: &Kept<'_>, to: &str) -> Result<Restored, Failure> {
    must_be_new(source, to).await?;
    made(source, to, begin(source, kept, to, None).await).await
}

/// The same for a drill, from its beginning with its mark.
pub(super) async fn copied(
    source: &RdsSource,
    reference: &str,
    copy: &SandboxCopy,
) -> Result<Restored, Failure> {
    must_be_new(source, &copy.name).await?;
    let tag = Tag::builder().key(DRILL_TAG).value(&copy.mark).build();
    made(source, &copy.name, begin(source, &Kept::Backup(reference), &copy.name, Some(tag)).await).await
}

/// The same for a recovery, from its beginning with its mark; or takes up again what bears it.
pub(super) async fn renewed(
    source: &RdsSource,
    kept: &Kept<'_>,
    renewal: &Renewal,
) -> Result<Restored, Failure> {
    let name = renewal.name.as_str();
    let going_on = |failure| match failure {
        // Nothing goes on by itself from here.
        ended @ Failure::Ended(_) => ended,
        failure => Failure::GoesOn(Box::new(failure), name.to_owned()),
    };
    if !is_ours(source, renewal).await? {
        let tag = Tag::builder().key(RECOVERY_TAG).value(&renewal.mark).build();
        match begin(source, kept, name, Some(tag)).await {
            Ok(()) => {}
            // The client makes a call again whose answer was lost: then what is there bears the mark.
            Err(failure) if failure.is_code(&EXISTS) => {
                if !is_ours(source, renewal).await? {
                    return Err(Failure::Refused(format!(
                        "RDS says that instance {name} exists, and shows none"
                    )));
                }
            }
            Err(failure @ (Failure::Silent | Failure::Aws(Fault::Connection(_) | Fault::Protocol(_)))) => {
                return Err(going_on(failure));
            }
            Err(failure) => return Err(failure),
        }
    }
    wait_until_available(source, name).await.map_err(going_on)?;
    Ok(Restored { place: format!("instance {name}") })
}

/// Whether what a recovery has made is there; refuses anything else of its name.
async fn is_ours(source: &RdsSource, renewal: &Renewal) -> Result<bool, Failure> {
    let name = &renewal.name;
    let Some(found) = existing(&source.client, name).await? else { return Ok(false) };
    match tag_of(&found, RECOVERY_TAG) {
        Some(mark) if mark == renewal.mark => Ok(true),
        Some(mark) => Err(Failure::Refused(format!(
            "instance {name} exists, and its tag {RECOVERY_TAG} says that another recovery or step made it: {mark}; name another \
             instance in the step, or delete this one if nobody needs it"
        ))),
        None => Err(Failure::Refused(format!(
            "instance {name} exists, and nothing tells that this recovery made it; name another instance in the step, or delete this \
             one if nobody needs it"
        ))),
    }
}

/// Has RDS begin, in the surroundings of the original, or in its own defaults where that is gone.
async fn begin(source: &RdsSource, kept: &Kept<'_>, to: &str, tag: Option<Tag>) -> Result<(), Failure> {
    let original = existing(&source.client, &source.instance).await?;
    let around = original.as_ref().map(Surroundings::of).unwrap_or_default();
    let (tags, is_public) = (tag.map(|tag| vec![tag]), around.is_public.unwrap_or(false));
    match kept {
        Kept::Backup(reference) => {
            let call = source.client.restore_db_instance_from_db_snapshot();
            let call = call.db_snapshot_identifier(*reference).db_instance_identifier(to).set_tags(tags);
            let call = call
                .set_db_instance_class(around.class)
                .set_db_subnet_group_name(around.subnets)
                .set_vpc_security_group_ids(around.groups)
                .set_db_parameter_group_name(around.parameters)
                .publicly_accessible(is_public);
            answer(call.send()).await.map(drop)
        }
        Kept::Moment(at) => {
            let call = source.client.restore_db_instance_to_point_in_time().set_tags(tags);
            let call = call.source_db_instance_identifier(&source.instance).target_db_instance_identifier(to);
            let call = call
                .restore_time(date_time(*at))
                .set_db_instance_class(around.class)
                .set_db_subnet_group_name(around.subnets)
                .set_vpc_security_group_ids(around.groups)
                .set_db_parameter_group_name(around.parameters)
                .publicly_accessible(is_public);
            answer(call.send()).await.map(drop)
        }
    }
}

fn tag_of<'i>(instance: &'i DbInstance, key: &str) -> Option<&'i str> {
    let tag = instance.tag_list().iter().find(|tag| tag.key() == Some(key));
    tag.map(|tag| tag.value().unwrap_or_default())
}

/// What stands under a name.
pub(super) async fn standing(source: &RdsSource, name: &str) -> Result<CopyStanding, Failure> {
    let Some(found) = existing(&source.client, name).await? else { return Ok(CopyStanding::Nothing) };
    let mark = tag_of(&found, DRILL_TAG).map(str::to_owned);
    Ok(mark.map_or(CopyStanding::Unmarked, CopyStanding::Marked))
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

/// Refuses an instance that is there.
async fn must_be_new(source: &RdsSource, to: &str) -> Result<(), Failure> {
    match existing(&source.client, to).await? {
        Some(_) => Err(Failure::Refused(format!("instance {to} exists; name one that does not"))),
        None => Ok(()),
    }
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
    let mut gone_by = Instant::now() + UNLISTED.0;
    loop {
        match existing(&source.client, name).await? {
            Some(instance) => {
                gone_by = Instant::now() + UNLISTED.1;
                match Making::of(instance.db_instance_status()) {
                    Making::Done => return Ok(()),
                    Making::GoesOn => {}
                    Making::Ended(status) => {
                        return Err(Failure::Ended(format!("instance {name} is {status}")));
                    }
                }
            }
            None if Instant::now() >= gone_by => {
                return Err(Failure::Ended(format!(
                    "instance {name} is not there: somebody deleted it, or RDS gave it up"
                )));
            }
            None => {}
        }
        if Instant::now() >= deadline {
            return Err(Failure::NotReady(format!("instance {name} is still being made after a day")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

/// How far an instance is that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Making<'s> {
    Done,
    GoesOn,
    /// Nothing leads on from here without a person.
    Ended(&'s str),
}

impl<'s> Making<'s> {
    /// By its status ("Viewing DB instance status" of the guide).
    fn of(status: Option<&'s str>) -> Self {
        match status {
            Some("available") => Making::Done,
            Some(status)
                if ["failed", "deleting"].contains(&status) || status.starts_with("incompatible-") =>
            {
                Making::Ended(status)
            }
            _ => Making::GoesOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_or_is_being_deleted_does_not_go_on() {
        assert_eq!(Making::of(Some("available")), Making::Done);
        for goes_on in [None, Some("creating"), Some("backing-up"), Some("modifying")] {
            assert_eq!(Making::of(goes_on), Making::GoesOn, "{goes_on:?}");
        }
        for ended in ["failed", "deleting", "incompatible-network", "incompatible-restore"] {
            assert_eq!(Making::of(Some(ended)), Making::Ended(ended));
        }
    }
}
