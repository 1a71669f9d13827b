//! Records of Route 53 and load balancers, by AWS's own command line.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    plan::by_hand::{Hand, Line, MadeByHand, Prepared},
    spec::traffic::{AwsReach, Forwards, HostedZone, LoadBalancer, Record},
};

/// What puts `wanted` in the place of `before`: Route 53 deletes only what is exactly as the batch says, and does all of it or
/// nothing.
pub(super) fn record(
    record: &Record,
    zone: &HostedZone,
    before: &BTreeSet<String>,
    wanted: &BTreeSet<String>,
    path: &str,
) -> MadeByHand {
    let (batch, told) = (format!("{path}.json"), format!("{path}.change"));
    let set = |values: &BTreeSet<String>| {
        let records: Vec<Value> = values.iter().map(|value| json!({ "Value": value })).collect();
        json!({ "Name": record.name, "Type": record.kind.as_str(), "TTL": record.ttl, "ResourceRecords": records })
    };
    let changes = json!({ "Changes": [
        { "Action": "DELETE", "ResourceRecordSet": set(before) },
        { "Action": "CREATE", "ResourceRecordSet": set(wanted) },
    ] });
    let aws = |words: &[&str]| aws("route53", words, &zone.reach);
    let named = [
        "--start-record-name",
        &record.name,
        "--start-record-type",
        record.kind.as_str(),
        "--max-items",
        "1",
    ];
    let ask = || {
        let words = [&["list-resource-record-sets", "--hosted-zone-id", &zone.id][..], &named].concat();
        Hand::Type(aws(&words))
    };
    let read = format!("file://{batch}");
    let change = ["change-resource-record-sets", "--hosted-zone-id", &zone.id, "--change-batch", &read];
    let change = [&change[..], &["--query", "ChangeInfo.Id", "--output", "text"]].concat();
    let mut wait = aws(&["wait", "resource-record-sets-changed"]);
    wait.program.insert(0, "xargs".to_owned());
    wait.program.push("--id".to_owned());
    let hands = vec![
        ask(),
        Hand::Know(format!(
            "Route 53 takes the change only where the record is as {batch} deletes it; where it is not, and that is meant, put what was \
             told into it. An alias is none of these: leave it alone"
        )),
        Hand::Type(aws(&change).writing(&told)),
        Hand::Type(wait.reading(&told)),
        ask(),
    ];
    MadeByHand { files: vec![Prepared { path: batch, content: format!("{changes:#}\n") }], hands }
}

/// What makes the action that forwards lead to `wanted`, and leaves what comes before it as it is.
pub(super) fn target_group(balancer: &LoadBalancer, wanted: &BTreeSet<String>, path: &str) -> MadeByHand {
    let Some(group) = wanted.first() else { return MadeByHand::default() };
    let aws = |words: &[&str]| aws("elbv2", words, &balancer.reach);
    let (was, is) = (format!("{path}.was.json"), format!("{path}.json"));
    let (read, folder) = (format!("file://{is}"), path.rsplit_once('/').map_or(".", |(folder, _)| folder));
    let (ask, change) = match &balancer.forwards {
        Forwards::Listener(arn) => (
            ["describe-listeners", "--listener-arns", arn, "--query", "Listeners[0].DefaultActions"],
            ["modify-listener", "--listener-arn", arn, "--default-actions", &read],
        ),
        Forwards::Rule(arn) => (
            ["describe-rules", "--rule-arns", arn, "--query", "Rules[0].Actions"],
            ["modify-rule", "--rule-arn", arn, "--actions", &read],
        ),
    };
    let asked = || aws(&ask.iter().copied().chain(["--output", "json"]).collect::<Vec<_>>());
    // The secret of a login is never told: it stays what it is.
    let filter = r#"map(if .Type == "forward" then del(.ForwardConfig) | .TargetGroupArn = $group elif .Type == "authenticate-oidc" then .AuthenticateOidcConfig.UseExistingClientSecret = true else . end)"#;
    let hands = vec![
        Hand::Know("go on only where a target is healthy; of a group that nothing leads to yet nothing is told (unused)".to_owned()),
        Hand::Type(aws(&["describe-target-health", "--target-group-arn", group])),
        Hand::Type(Line::of(["mkdir", "-p", folder])),
        Hand::Type(asked().writing(&was)),
        Hand::Type(Line::of(["jq", "--arg", "group", group, filter]).reading(&was).writing(&is)),
        Hand::Type(aws(&change)),
        Hand::Type(asked()),
    ];
    MadeByHand { files: Vec::new(), hands }
}

fn aws(service: &str, words: &[&str], reach: &AwsReach) -> Line {
    let endpoint = reach.endpoint.iter().flat_map(|url| ["--endpoint-url", url.as_str()]);
    let place = ["--region", reach.region.as_str()];
    Line::of(["aws", service].into_iter().chain(words.iter().copied()).chain(place).chain(endpoint))
}
