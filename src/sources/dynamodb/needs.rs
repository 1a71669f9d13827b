//! What the access key's policy lacks for captures of a table: each call of a capture is tried, for one item at most.

use super::{Failure, reach::Reach, table};
use crate::{
    aws::{Fault, policy},
    sources::Lack,
};

/// Looks for what is missing, all of it at once.
pub(super) async fn lacks(reach: &Reach, region: &str, name: &str) -> Result<Vec<Lack>, Failure> {
    let client = &reach.client;
    let mut denied = Vec::new();
    let table = allowed(table::existing(reach, name).await, "dynamodb:DescribeTable", &mut denied)?.flatten();
    let scan = reach.answer(client.scan().table_name(name).limit(1).consistent_read(true).send()).await;
    allowed(scan, "dynamodb:Scan", &mut denied)?;
    let expiry = reach.answer_if_known(client.describe_time_to_live().table_name(name).send()).await;
    allowed(expiry, "dynamodb:DescribeTimeToLive", &mut denied)?;
    let backups = reach.answer_if_known(client.describe_continuous_backups().table_name(name).send()).await;
    allowed(backups, "dynamodb:DescribeContinuousBackups", &mut denied)?;
    if let Some(arn) = table.as_ref().and_then(|table| table.table_arn()) {
        let tags = reach.answer_if_known(client.list_tags_of_resource().resource_arn(arn).send()).await;
        allowed(tags, "dynamodb:ListTagsOfResource", &mut denied)?;
    }
    if denied.is_empty() {
        return Ok(Vec::new());
    }
    let resource = format!("arn:{}:dynamodb:{region}:*:table/{name}", policy::partition(region));
    let what = format!("the access key's policy does not allow {}", denied.join(", "));
    Ok(vec![Lack::error(what, policy::allowing(&denied, &resource))])
}

/// Notes an action that is denied; `None` then.
fn allowed<T>(
    answer: Result<T, Failure>,
    action: &'static str,
    denied: &mut Vec<&'static str>,
) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Failure::Aws(fault)) if fault.is_denial() => {
            denied.push(action);
            Ok(None)
        }
        Err(Failure::Aws(Fault::NoTable)) => Ok(None),
        Err(failure) => Err(failure),
    }
}
