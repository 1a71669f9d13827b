//! What the access key's policy lacks for captures of a table: each call of a capture is tried, for one item at most.

use aws_sdk_dynamodb::types::TableDescription;

use super::{Failure, reach::Reach, table};
use crate::{
    aws::{Fault, policy},
    sources::Lack,
    spec::TableMethod,
};

/// Looks for what is missing, all of it at once.
pub(super) async fn lacks(
    reach: &Reach,
    region: &str,
    name: &str,
    method: TableMethod,
) -> Result<Vec<Lack>, Failure> {
    let client = &reach.client;
    let (mut denied, mut denied_anywhere) = (Vec::new(), Vec::new());
    let table = allowed(table::existing(reach, name).await, "dynamodb:DescribeTable", &mut denied)?.flatten();
    match method {
        TableMethod::Logical => items(reach, name, table.as_ref(), &mut denied).await?,
        // Whether it may make and delete backups, nothing but that would tell.
        TableMethod::Native => {
            let list = reach.answer(client.list_backups().table_name(name).limit(1).send()).await;
            allowed(list, "dynamodb:ListBackups", &mut denied_anywhere)?;
        }
    }
    let backups = reach.answer_if_known(client.describe_continuous_backups().table_name(name).send()).await;
    allowed(backups, "dynamodb:DescribeContinuousBackups", &mut denied)?;
    let resource = format!("arn:{}:dynamodb:{region}:*:table/{name}", policy::partition(region));
    // What is listed belongs to no table ("Actions, resources, and condition keys for Amazon DynamoDB").
    let all = [(denied, resource), (denied_anywhere, "*".to_owned())].into_iter();
    Ok(all
        .filter(|(denied, _)| !denied.is_empty())
        .map(|(denied, resource)| lack(&denied, &resource))
        .collect())
}

/// What captures of all items ask for besides.
async fn items(
    reach: &Reach,
    name: &str,
    table: Option<&TableDescription>,
    denied: &mut Vec<&'static str>,
) -> Result<(), Failure> {
    let client = &reach.client;
    let scan = reach.answer(client.scan().table_name(name).limit(1).consistent_read(true).send()).await;
    allowed(scan, "dynamodb:Scan", denied)?;
    let expiry = reach.answer_if_known(client.describe_time_to_live().table_name(name).send()).await;
    allowed(expiry, "dynamodb:DescribeTimeToLive", denied)?;
    if let Some(arn) = table.and_then(|table| table.table_arn()) {
        let tags = reach.answer_if_known(client.list_tags_of_resource().resource_arn(arn).send()).await;
        allowed(tags, "dynamodb:ListTagsOfResource", denied)?;
    }
    Ok(())
}

fn lack(denied: &[&str], resource: &str) -> Lack {
    let what = format!("the access key's policy does not allow {}", denied.join(", "));
    Lack::error(what, policy::allowing(denied, resource))
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
