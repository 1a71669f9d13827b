//! Drills of native backups, as moto plays their providers: what they make bears a name and a mark, and is gone afterwards.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, Tag,
};
use backstay::inventory::{DRILL_TAG, SandboxCopy};
use serde_json::{Value, json};

use crate::{
    dynamodb_kept::Table,
    lab::{
        moto::{GoBetween, Moto, Trick},
        schedules,
    },
    rds_kept::Instance,
};

/// A policy whose fulls are made once, and a drill of `backup`.
fn drilled(backup: &str, checks: &str) -> String {
    let (nightly, yearly) = (schedules::nightly(), schedules::yearly());
    format!(
        "policy = \"short\"\n[policy.short]\nfull = \"{nightly}\"\nkeep = {{ full = \"14d\" }}\nverify = {{ metadata = \"1d\" }}\n\
         [drill.way-back]\nbackup = \"{backup}\"\nschedule = \"{yearly}\"\ncheck = [{checks}]"
    )
}

/// The name of what the drill makes.
fn name() -> String {
    let reader = "20261120T010000Z-3k7qz0m4xw".parse().unwrap();
    SandboxCopy::of(&"my-fleet".parse().unwrap(), &"way-back".parse().unwrap(), reader).name
}

async fn tables(table: &Table) -> Vec<String> {
    table.client.list_tables().send().await.unwrap().table_names.unwrap()
}

/// Whether a table bears the mark of a drill.
async fn is_marked(table: &Table, name: &str) -> bool {
    let described = table.client.describe_table().table_name(name).send().await.unwrap();
    let arn = described.table.unwrap().table_arn.unwrap();
    let listed = table.client.list_tags_of_resource().resource_arn(arn).send().await.unwrap();
    listed.tags().iter().any(|tag| tag.key() == DRILL_TAG)
}

/// Somebody makes a table of this name; with this mark, where there is one.
async fn occupy(table: &Table, mark: Option<&str>) {
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().unwrap();
    let kind = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S);
    let create = table
        .client
        .create_table()
        .table_name(name())
        .key_schema(key)
        .billing_mode(BillingMode::PayPerRequest);
    let tags = mark.map(|mark| vec![Tag::builder().key(DRILL_TAG).value(mark).build().unwrap()]);
    create.attribute_definitions(kind.build().unwrap()).set_tags(tags).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_of_a_native_backup_counted_and_deleted() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    table.declare(&endpoint, &drilled("sessions", "{ counts = \"items\", min = 1 }"), "method = \"native\"");
    table.fleet.expect(&["apply", "--yes"], 0);
    let said = table.fleet.expect(&["drill", "way-back"], 0);
    assert!(said.contains("count the items") && said.contains("can be used"), "{said}");
    let tagged = &between.requests("TagResource")[0]["Tags"][0];
    assert_eq!(tagged["Key"], DRILL_TAG);
    assert!(tagged["Value"].as_str().unwrap().starts_with("my-fleet/way-back/"), "{tagged}");
    assert_eq!(tables(&table).await, ["sessions"]);
    let status: Value = serde_json::from_str(&table.fleet.expect(&["status", "-o", "json"], 0)).unwrap();
    let last = &status["drills"]["way-back"]["last"];
    assert!(last.to_string().contains("passed"), "{status:#}");

    table.declare(&endpoint, &drilled("sessions", "{ counts = \"items\", min = 2 }"), "method = \"native\"");
    let said = table.fleet.expect(&["drill", "way-back"], 7);
    assert!(said.contains("at least 2"), "{said}");
    assert_eq!(tables(&table).await, ["sessions"], "it is deleted whatever came of it");

    // What is gone is nothing to try.
    for backup in table.client.list_backups().send().await.unwrap().backup_summaries.unwrap() {
        table.client.delete_backup().backup_arn(backup.backup_arn().unwrap()).send().await.unwrap();
    }
    let made = between.requests("RestoreTableFromBackup").len();
    table.fleet.expect(&["drill", "way-back"], 1);
    assert_eq!(between.requests("RestoreTableFromBackup").len(), made);
}

/// A table with a native backup, whose drill is killed while DynamoDB makes its table; returns that table's name.
async fn killed_drill(moto: &Moto, with_mark: bool) -> (Table, GoBetween, String) {
    let table = Table::make(moto).await;
    let (between, endpoint) = GoBetween::start(moto).await;
    table.declare(&endpoint, &drilled("sessions", ""), "method = \"native\"");
    table.fleet.expect(&["apply", "--yes"], 0);
    table.fleet.expect(&["apply", "--yes"], 0);
    fn creating(asked: &Value, answer: &mut Value) {
        if asked["TableName"].as_str().is_some_and(|name| name.starts_with(DRILL_TAG))
            && answer["Table"].is_object()
        {
            answer["Table"]["TableStatus"] = json!("CREATING");
        }
    }
    let tagged = between.requests("TagResource").len();
    for _ in 0..2000 {
        between.play("DescribeTable", Trick::Alter(|_| {}, creating));
        if !with_mark {
            between.play("TagResource", Trick::Refuse("ResourceInUseException"));
        }
    }
    let mut killed = table
        .fleet
        .command(&["drill", "way-back"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while between.requests("TagResource").len() == tagged {
        assert!(Instant::now() < deadline, "nothing was made");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was asked for may not be done yet.
    let made = tables(&table).await.into_iter().find(|name| name.starts_with(DRILL_TAG)).unwrap();
    while with_mark && !is_marked(&table, &made).await {
        assert!(Instant::now() < deadline, "it is not marked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    between.stop("DescribeTable");
    between.stop("TagResource");
    assert_eq!(tables(&table).await.len(), 2, "it was left");
    (table, between, made)
}

/// What `status` says of what drills left.
fn told_of_copies(table: &Table) -> Vec<String> {
    let run = table.fleet.command(&["status", "-o", "json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&run.stdout).unwrap();
    let all = status["conditions"].as_array().unwrap().iter();
    let ours = all.filter(|it| it["concern"] == "drill-copy-left");
    ours.map(|it| it["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_drill_had_made_is_deleted_by_the_next_pass() {
    let moto = Moto::start();
    let (table, _, made) = killed_drill(&moto, true).await;
    let [told] = &told_of_copies(&table)[..] else { panic!("it is not told") };
    assert!(told.contains(&made) && told.contains("cost money"), "{told}");
    let said = table.fleet.expect(&["apply", "--yes"], 0);
    assert!(said.contains("clean up after sessions") && !said.contains("drill way-back"), "{said}");
    assert_eq!(tables(&table).await, ["sessions"], "{said}");
    assert_eq!(told_of_copies(&table), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_drill_had_made_is_deleted_though_its_drill_or_its_backup_was_renamed_or_withdrawn() {
    // The drill is called otherwise, there is none, the provider keeps nothing of the table, and nothing declares it.
    for declared in ["renamed", "withdrawn", "logical", "gone"] {
        let moto = Moto::start();
        let (table, between, made) = killed_drill(&moto, true).await;
        let endpoint = between.url().to_owned();
        let head = drilled("sessions", "");
        let undrilled = head.split("[drill.").next().unwrap().to_owned();
        match declared {
            "renamed" => {
                let renamed = head.replace("[drill.way-back]", "[drill.another-way]");
                table.declare(&endpoint, &renamed, "method = \"native\"");
            }
            "withdrawn" => table.declare(&endpoint, &undrilled, "method = \"native\""),
            "logical" => table.declare(&endpoint, &undrilled, ""),
            _ => table.fleet.withdraw("sessions"),
        }
        let [told] = &told_of_copies(&table)[..] else { panic!("{declared}: it is not told") };
        assert!(told.contains(&made), "{told}");
        let run = table.fleet.command(&["apply", "--yes"]).output().unwrap();
        let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
        assert_eq!(tables(&table).await, ["sessions"], "{declared}: {said}");
        assert_eq!(told_of_copies(&table), Vec::<String>::new(), "{declared}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_drill_had_made_is_deleted_though_the_store_that_it_read_from_is_away_or_withdrawn() {
    for store in ["away", "withdrawn"] {
        let moto = Moto::start();
        let (table, _, made) = killed_drill(&moto, true).await;
        let journal = std::fs::read_to_string(table.fleet.state().join("journal")).unwrap();
        let told = journal.lines().rfind(|line| line.contains(&made)).unwrap();
        let (_, read) = told.split_once("\"store\":\"").unwrap();
        let read = read.split('"').next().unwrap();
        match store {
            "away" => table.fleet.lose_store(read),
            _ => table.fleet.give_up_store(read),
        }
        let planned = table.fleet.command(&["plan"]).output().unwrap();
        let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
        assert!(
            planned.contains("delete what drill way-back had the provider of sessions make"),
            "{planned}"
        );
        let run = table.fleet.command(&["apply", "--yes"]).output().unwrap();
        let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
        assert_eq!(tables(&table).await, ["sessions"], "{store}: {said}");
        assert_eq!(told_of_copies(&table), Vec::<String>::new(), "{store}: {said}");
        let planned = table.fleet.command(&["plan"]).output().unwrap();
        let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
        assert!(!planned.contains("way-back"), "it is done with: {planned}");
    }
}

/// Has a server of DynamoDB tell this of what drills made.
fn aged(between: &GoBetween, answer: fn(&Value, &mut Value)) {
    for _ in 0..200 {
        between.play("DescribeTable", Trick::Alter(|_| {}, answer));
    }
}

fn made_before(asked: &Value, answer: &mut Value) {
    if asked["TableName"].as_str().is_some_and(|name| name.starts_with(DRILL_TAG))
        && answer["Table"].is_object()
    {
        let made = answer["Table"]["CreationDateTime"].as_f64().unwrap();
        answer["Table"]["CreationDateTime"] = json!(made - 1200.0);
    }
}

fn made_before_of_another(asked: &Value, answer: &mut Value) {
    made_before(asked, answer);
    let summary = &mut answer["Table"]["RestoreSummary"];
    if let Some(of) = summary["SourceBackupArn"].as_str() {
        summary["SourceBackupArn"] = json!(format!("{of}-of-somebody"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_drill_had_made_and_not_marked_is_known_by_what_its_provider_tells_of_it() {
    let moto = Moto::start();
    let (table, between, made) = killed_drill(&moto, false).await;
    let said = table.fleet.expect(&["apply", "--yes"], 4);
    assert!(said.contains(&made) && said.contains("too young"), "{said}");
    began_long_ago(&table);
    // It may be another controller's, as long as it is as young as what was seen of the stores.
    let said = table.fleet.expect(&["apply", "--yes"], 4);
    assert!(said.contains("it was made at"), "{said}");
    assert_eq!(tables(&table).await.len(), 2);
    aged(&between, made_before);
    // DynamoDB takes no mark while it makes a table.
    between.play("TagResource", Trick::Refuse("ResourceInUseException"));
    let tagged = between.requests("TagResource").len();
    table.fleet.expect(&["apply", "--yes"], 0);
    let marks = &between.requests("TagResource")[tagged..];
    assert_eq!(marks.len(), 2, "{marks:?}");
    assert!(
        marks[0]["Tags"][0]["Value"].as_str().unwrap().starts_with("my-fleet/way-back/2020"),
        "{marks:?}"
    );
    assert_eq!(tables(&table).await, ["sessions"]);
    assert_eq!(told_of_copies(&table), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_drill_had_made_and_not_marked_is_told_by_its_name_until_it_is_gone() {
    let moto = Moto::start();
    let (table, between, made) = killed_drill(&moto, false).await;
    let undrilled = drilled("sessions", "").split("[drill.").next().unwrap().to_owned();
    table.declare(between.url(), &undrilled, "method = \"native\"");
    let tagged = between.requests("TagResource").len();
    began_long_ago(&table);
    for _ in 0..2 {
        aged(&between, made_before_of_another);
        let said = table.fleet.expect(&["apply", "--yes"], 4);
        assert!(said.contains(&made) && said.contains("look whose it is, and delete it"), "{said}");
        assert!(said.contains("it was restored of") && said.contains("-of-somebody"), "{said}");
        assert!(told_of_copies(&table)[0].contains(&made));
        between.stop("DescribeTable");
    }
    assert_eq!(tables(&table).await.len(), 2, "nothing is deleted that does not bear the mark");
    assert_eq!(between.requests("TagResource").len(), tagged, "nor is it marked");
    // Whoever does not answer says nothing of it.
    for _ in 0..40 {
        between.play("DescribeTable", Trick::Refuse("AccessDeniedException"));
    }
    table.fleet.expect(&["apply", "--yes"], 4);
    between.stop("DescribeTable");
    assert_eq!(told_of_copies(&table).len(), 1);
    table.client.delete_table().table_name(&made).send().await.unwrap();
    // What is not listed may still come, for a while.
    began_now(&table);
    let said = table.fleet.expect(&["apply", "--yes"], 4);
    assert!(said.contains("is listed yet"), "{said}");
    assert_eq!(told_of_copies(&table).len(), 1);
    began_long_ago(&table);
    table.fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(told_of_copies(&table), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_drill_had_made_is_taken_for_gone_though_its_original_is_gone_too() {
    let moto = Moto::start();
    let (table, _, made) = killed_drill(&moto, true).await;
    for gone in [made.as_str(), "sessions"] {
        table.client.delete_table().table_name(gone).send().await.unwrap();
    }
    began_long_ago(&table);
    let run = table.fleet.command(&["apply", "--yes"]).output().unwrap();
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    assert!(said.contains("taken for gone"), "{said}");
    assert_eq!(told_of_copies(&table), Vec::<String>::new(), "{said}");
}

/// Has the journal say that what drills left was begun years ago.
fn began_long_ago(table: &Table) {
    began_on(table, "20200101");
}

/// Has it say that it was begun today.
fn began_now(table: &Table) {
    began_on(table, &jiff::Timestamp::now().strftime("%Y%m%d").to_string());
}

fn began_on(table: &Table, day: &str) {
    let journal = table.fleet.state().join("journal");
    let text = std::fs::read_to_string(&journal).unwrap();
    let mut parts = text.split("my-fleet/way-back/");
    let first = parts.next().unwrap_or_default().to_owned();
    let aged = parts.fold(first, |text, part| format!("{text}my-fleet/way-back/{day}{}", &part[8..]));
    std::fs::write(&journal, aged).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_that_does_not_bear_the_mark_of_this_drill() {
    for mark in [None, Some("my-fleet/another/20261120T010000Z-3k7qz0m4xw"), Some("way-back")] {
        let moto = Moto::start();
        let table = Table::make(&moto).await;
        table.declare(&moto.endpoint(), &drilled("sessions", ""), "method = \"native\"");
        table.fleet.expect(&["backup", "sessions"], 0);
        occupy(&table, mark).await;
        let said = table.fleet.expect(&["drill", "way-back"], 7);
        assert!(said.contains(&name()), "{said}");
        assert_eq!(tables(&table).await.len(), 2, "{mark:?}");
    }
    // What an earlier time of this very drill left is.
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    table.declare(&moto.endpoint(), &drilled("sessions", ""), "method = \"native\"");
    table.fleet.expect(&["backup", "sessions"], 0);
    occupy(&table, Some("my-fleet/way-back/20261120T010000Z-3k7qz0m4xw")).await;
    table.fleet.expect(&["drill", "way-back"], 0);
    assert_eq!(tables(&table).await, ["sessions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_made_of_a_snapshot_looked_at_and_deleted() {
    let moto = Moto::with_rds();
    let instance = Instance::make(&moto).await;
    instance.declare_with(&moto.endpoint(), &drilled("customers", ""), "");
    instance.fleet.expect(&["apply", "--yes"], 0);
    let said = instance.fleet.expect(&["drill", "way-back"], 0);
    assert!(said.contains("can be used"), "{said}");
    assert!(instance.is_there("customers").await && !instance.is_there(&name()).await);
    let mut left = instance.client.describe_db_instances().send().await.unwrap().db_instances.unwrap();
    left.retain(|it| it.db_instance_identifier() != Some("customers"));
    assert!(left.is_empty(), "{left:?}");
}
