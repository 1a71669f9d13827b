//! Tables of DynamoDB, as moto plays them: what is captured, what comes back, and what must never count.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    primitives::Blob,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
        LocalSecondaryIndex, PointInTimeRecoverySpecification, Projection, ProjectionType,
        ProvisionedThroughput, PutRequest, ScalarAttributeType, StreamSpecification, StreamViewType, Tag,
        TimeToLiveSpecification, WriteRequest,
    },
};
use backstay::{
    artifact::{Kind, manifest::Counts},
    aws::{AwsCredentials, DynamodbOptions},
    sources::{
        CaptureRequest, Captured, Place, Run, RunKey, Sink, SinkClosed, Source, dynamodb::DynamodbSource,
    },
    stores::Class,
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    lab::moto::{GoBetween, Moto, Trick, options},
    source_conformance::{Collected, captured, conforms, request, restored},
};

type Item = HashMap<String, AttributeValue>;

const TABLE: &str = "orders";

fn source(moto: &Moto) -> DynamodbSource {
    DynamodbSource::new(moto.options(TABLE)).unwrap()
}

fn text(text: impl ToString) -> AttributeValue {
    AttributeValue::S(text.to_string())
}

fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn key(name: &str, kind: KeyType) -> KeySchemaElement {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap()
}

fn attribute(name: &str, kind: ScalarAttributeType) -> AttributeDefinition {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap()
}

/// A table with one of everything that a table has beside its items.
async fn make(client: &Client) {
    let all = || Projection::builder().projection_type(ProjectionType::All).build();
    let some = Projection::builder().projection_type(ProjectionType::Include).non_key_attributes("note");
    let units =
        || ProvisionedThroughput::builder().read_capacity_units(5).write_capacity_units(7).build().unwrap();
    let local = LocalSecondaryIndex::builder().index_name("by-total").projection(some.build());
    let global = GlobalSecondaryIndex::builder().index_name("totals").projection(all());
    let stream =
        StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewImage);
    client
        .create_table()
        .table_name(TABLE)
        .key_schema(key("customer", KeyType::Hash))
        .key_schema(key("at", KeyType::Range))
        .attribute_definitions(attribute("customer", ScalarAttributeType::S))
        .attribute_definitions(attribute("at", ScalarAttributeType::N))
        .attribute_definitions(attribute("total", ScalarAttributeType::N))
        .local_secondary_indexes(
            local
                .key_schema(key("customer", KeyType::Hash))
                .key_schema(key("total", KeyType::Range))
                .build()
                .unwrap(),
        )
        .global_secondary_indexes(
            global.key_schema(key("total", KeyType::Hash)).provisioned_throughput(units()).build().unwrap(),
        )
        .billing_mode(BillingMode::Provisioned)
        .provisioned_throughput(units())
        .stream_specification(stream.build().unwrap())
        .tags(Tag::builder().key("team").value("shop & co").build().unwrap())
        .send()
        .await
        .unwrap();
    let expires = TimeToLiveSpecification::builder().enabled(true).attribute_name("expires").build().unwrap();
    client.update_time_to_live().table_name(TABLE).time_to_live_specification(expires).send().await.unwrap();
    let recovery =
        PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build().unwrap();
    let update = client.update_continuous_backups().table_name(TABLE);
    update.point_in_time_recovery_specification(recovery).send().await.unwrap();
}

fn order(at: u64) -> Item {
    HashMap::from([
        ("customer".to_owned(), text(format!("c{}", at % 97))),
        ("at".to_owned(), number(at)),
        ("total".to_owned(), number(at * 3)),
        ("note".to_owned(), text(format!("tõõ \"{at}\"\n").repeat(150))),
    ])
}

/// An item with a value of each type.
fn odd() -> Item {
    let nested = HashMap::from([
        ("empty".to_owned(), text("")),
        ("list".to_owned(), AttributeValue::L(vec![AttributeValue::Null(true), AttributeValue::Bool(false)])),
    ]);
    let mut odd = order(1_000_000);
    odd.extend([
        ("binary".to_owned(), AttributeValue::B(Blob::new([0, 1, 255]))),
        ("precise".to_owned(), number("-0.12345678901234567890123456789012345678")),
        ("map".to_owned(), AttributeValue::M(nested)),
        ("texts".to_owned(), AttributeValue::Ss(vec!["a".into(), "b".into()])),
        ("numbers".to_owned(), AttributeValue::Ns(vec!["1".into(), "2.5".into()])),
        ("binaries".to_owned(), AttributeValue::Bs(vec![Blob::new([1]), Blob::new([2])])),
    ]);
    odd
}

async fn put(client: &Client, items: impl IntoIterator<Item = Item>) {
    let items: Vec<Item> = items.into_iter().collect();
    for batch in items.chunks(25) {
        let requests = batch.iter().map(|item| {
            let put = PutRequest::builder().set_item(Some(item.clone())).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        });
        let batch = client.batch_write_item().request_items(TABLE, requests.collect());
        assert_eq!(batch.send().await.unwrap().unprocessed_items.unwrap_or_default().len(), 0);
    }
}

/// The number of orders, which fill some pages of a scan.
const ORDERS: u64 = 1_500;

/// A server with a table of many orders, and an odd one.
async fn server() -> (Moto, Client) {
    let moto = Moto::start();
    let client = moto.client();
    make(&client).await;
    put(&client, (0..ORDERS).map(order).chain([odd()])).await;
    (moto, client)
}

/// All items of a table, by key. The order of a set's members is nobody's.
async fn items(client: &Client, table: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pages = client.scan().table_name(table).into_paginator().items().send();
    while let Some(item) = pages.next().await {
        let item: BTreeMap<String, AttributeValue> = item.unwrap().into_iter().collect();
        found.insert(format!("{:?} {:?}", item["customer"], item["at"]), format!("{:?}", unnested(&item)));
    }
    found
}

/// With maps and sets in an order.
fn unnested(item: &BTreeMap<String, AttributeValue>) -> Vec<String> {
    let told = |(name, value): (&String, &AttributeValue)| {
        let mut parts = match value {
            AttributeValue::M(map) => map.iter().map(|part| format!("{part:?}")).collect(),
            AttributeValue::Ss(set) | AttributeValue::Ns(set) => set.clone(),
            other => vec![format!("{other:?}")],
        };
        parts.sort();
        format!("{name} {parts:?}")
    };
    item.iter().map(told).collect()
}

/// What a table is beside its items and its name.
async fn described(client: &Client, table: &str) -> Vec<String> {
    let told = client.describe_table().table_name(table).send().await.unwrap().table.unwrap();
    let tags = client.list_tags_of_resource().resource_arn(told.table_arn().unwrap()).send().await.unwrap();
    let expires = client.describe_time_to_live().table_name(table).send().await.unwrap();
    let recovery = client.describe_continuous_backups().table_name(table).send().await.unwrap();
    let recovery = recovery.continuous_backups_description.unwrap().point_in_time_recovery_description;
    let mut attributes: Vec<String> =
        told.attribute_definitions().iter().map(|attribute| format!("{attribute:?}")).collect();
    attributes.sort();
    let units = told.provisioned_throughput().map(|units| units.write_capacity_units());
    let local = told.local_secondary_indexes().iter();
    let local: Vec<_> = local.map(|i| (i.index_name(), i.key_schema(), i.projection())).collect();
    let global = told.global_secondary_indexes().iter();
    let global: Vec<_> = global
        .map(|i| {
            let units = i.provisioned_throughput().map(|units| units.read_capacity_units());
            (i.index_name(), i.key_schema(), i.projection(), units)
        })
        .collect();
    [
        attributes,
        vec![
            format!("{:?} {units:?} {local:?} {global:?}", told.key_schema()),
            format!("{:?} {:?}", told.stream_specification(), told.deletion_protection_enabled()),
            format!("{:?} {:?}", tags.tags(), expires.time_to_live_description),
            format!("{:?}", recovery.unwrap().point_in_time_recovery_status()),
        ],
    ]
    .concat()
}

async fn tables(client: &Client) -> Vec<String> {
    client.list_tables().send().await.unwrap().table_names().to_vec()
}

fn count(captured: &Captured) -> u64 {
    let Counts::Captured(counts) = &captured.details.counts else { panic!("items are counted") };
    counts["items"]
}

fn to_table(name: &str) -> Place {
    Place::Database(name.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_conform() {
    let (moto, _) = server().await;
    conforms(&source(&moto), tempfile::tempdir().unwrap().path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_in_a_new_table() {
    let (moto, client) = server().await;
    let protect = client.update_table().table_name(TABLE).deletion_protection_enabled(true);
    protect.send().await.unwrap();
    let source = source(&moto);
    assert_eq!(source.probe().await.unwrap().version, "DynamoDB, point-in-time recovery on");
    let (sink, captured) = captured(&source).await;
    assert_eq!((count(&captured), captured.details.omitted), (ORDERS + 1, Vec::new()));
    let said = restored(&source, &sink.stream(), &to_table("copy")).await.unwrap();
    assert_eq!(said, "table copy: 1501 items put");
    assert_eq!(items(&client, "copy").await, items(&client, TABLE).await);
    assert_eq!(described(&client, "copy").await, described(&client, TABLE).await);
    let again = restored(&source, &sink.stream(), &to_table("copy")).await.unwrap_err();
    assert!(again.to_string().contains("table copy exists"), "{again}");
    let again = restored(&source, &sink.stream(), &to_table(TABLE)).await.unwrap_err();
    assert!(again.to_string().contains("table orders exists"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_lines_of_dynamodb_json() {
    let (moto, _) = server().await;
    let source = source(&moto);
    let scratch = tempfile::tempdir().unwrap();
    let (sink, _) = captured(&source).await;
    let folder = scratch.path().join("orders");
    restored(&source, &sink.stream(), &Place::Folder(folder.clone())).await.unwrap();
    let text = std::fs::read_to_string(folder.join("items.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() as u64, ORDERS + 3);
    assert_eq!(lines[0]["Format"], "backstay.dynamodb/1");
    assert_eq!(lines[0]["Table"]["TableName"], TABLE);
    assert_eq!(lines[0]["TimeToLiveSpecification"], json!({ "Enabled": true, "AttributeName": "expires" }));
    assert_eq!(lines[lines.len() - 1], json!({ "Items": ORDERS + 1 }));
    let odd = lines.iter().find(|line| line["Item"]["binary"].is_object()).unwrap();
    assert_eq!(odd["Item"]["binary"], json!({ "B": "AAH/" }));
    assert_eq!(odd["Item"]["precise"], json!({ "N": "-0.12345678901234567890123456789012345678" }));
    assert_eq!(odd["Item"]["map"]["M"]["list"], json!({ "L": [{ "NULL": true }, { "BOOL": false }] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_did_not_change_is_the_same_stream_and_one_that_did_has_its_items_in_their_places() {
    let (moto, client) = server().await;
    let source = source(&moto);
    let (first, _) = captured(&source).await;
    let (second, _) = captured(&source).await;
    assert!(first.stream() == second.stream());
    let mut changed = order(17);
    changed.insert("note".to_owned(), text("changed"));
    put(&client, [changed]).await;
    let (third, _) = captured(&source).await;
    let lines = |sink: &Collected| String::from_utf8(sink.stream()).unwrap();
    let (before, after) = (lines(&first), lines(&third));
    assert_eq!(before.lines().zip(after.lines()).filter(|(before, after)| before != after).count(), 1);
    assert_eq!(before.lines().count(), after.lines().count());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_place_lost_and_changed_items_are_put_back_and_others_left_alone() {
    let (moto, client) = server().await;
    let source = source(&moto);
    let (sink, _) = captured(&source).await;
    let mut expected = items(&client, TABLE).await;
    let mut changed = order(17);
    changed.insert("note".to_owned(), text("changed"));
    put(&client, [changed, order(5_000_000)]).await;
    let lost = client.delete_item().table_name(TABLE).key("customer", text("c18")).key("at", number(18));
    lost.send().await.unwrap();
    let said = restored(&source, &sink.stream(), &Place::Original).await.unwrap();
    assert_eq!(said, "table orders: 1501 items put");
    let now = items(&client, TABLE).await;
    assert_eq!(now.len(), expected.len() + 1);
    expected
        .extend(now.iter().filter(|(key, _)| key.contains("5000000")).map(|(k, v)| (k.clone(), v.clone())));
    assert_eq!(now, expected);

    let table = described(&client, TABLE).await;
    client.delete_table().table_name(TABLE).send().await.unwrap();
    restored(&source, &sink.stream(), &Place::Original).await.unwrap();
    assert_eq!(items(&client, TABLE).await.len() as u64, ORDERS + 1);
    assert_eq!(described(&client, TABLE).await, table, "a table that is gone is made anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_another_table_or_another_key_are_not_mixed() {
    let moto = Moto::start();
    let client = moto.client();
    make(&client).await;
    put(&client, [order(1)]).await;
    let (sink, _) = captured(&source(&moto)).await;
    let make = |name: &str, kind| {
        client
            .create_table()
            .table_name(name)
            .key_schema(key("customer", KeyType::Hash))
            .attribute_definitions(attribute("customer", kind))
            .billing_mode(BillingMode::PayPerRequest)
            .send()
    };
    make("other", ScalarAttributeType::S).await.unwrap();
    let other = DynamodbSource::new(moto.options("other")).unwrap();
    let error = restored(&other, &sink.stream(), &Place::Original).await.unwrap_err();
    assert!(error.to_string().contains("the artifact is of table orders"), "{error}");
    client.delete_table().table_name(TABLE).send().await.unwrap();
    make(TABLE, ScalarAttributeType::S).await.unwrap();
    let error = restored(&source(&moto), &sink.stream(), &Place::Original).await.unwrap_err();
    assert!(error.to_string().contains("another key now"), "{error}");
    let scan = client.scan().table_name(TABLE).send().await.unwrap();
    assert_eq!(scan.count(), 0);
    let (empty, captured) = captured(&other).await;
    assert_eq!(count(&captured), 0);
    restored(&other, &empty.stream(), &to_table("empty")).await.unwrap();
    assert!(tables(&client).await.contains(&"empty".to_owned()));
    let bucket = Place::Bucket { bucket: "b".to_owned(), prefix: String::new() };
    let error = restored(&other, &empty.stream(), &bucket).await.unwrap_err();
    assert!(error.to_string().contains("only objects go into a bucket"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_stream_leaves_no_table() {
    let moto = Moto::start();
    let client = moto.client();
    make(&client).await;
    put(&client, (0..100).map(order)).await;
    let source = source(&moto);
    let (sink, _) = captured(&source).await;
    let stream = sink.stream();
    let last_line = stream[..stream.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    let without_key = String::from_utf8(stream.clone()).unwrap().replacen("\"at\":{\"N\":\"7\"},", "", 1);
    assert_ne!(without_key.as_bytes(), stream);
    for damaged in [&stream[..stream.len() / 2], &stream[..=last_line], without_key.as_bytes()] {
        let error = restored(&source, damaged, &to_table("copy")).await.unwrap_err();
        assert!(["cut off", "part of its key"].iter().any(|why| error.to_string().contains(why)), "{error}");
        assert_eq!(tables(&client).await, [TABLE]);
    }
    for foreign in [&b"-- PostgreSQL database dump\n"[..], b"{}\n", b""] {
        restored(&source, foreign, &to_table("copy")).await.unwrap_err();
        restored(&source, foreign, &Place::Original).await.unwrap_err();
        assert_eq!(tables(&client).await, [TABLE]);
    }
}

/// Kills the server with the first items.
struct Killing<'a>(&'a mut Moto, usize);

#[async_trait]
impl Sink for Killing<'_> {
    async fn write(&mut self, _: Bytes) -> Result<(), SinkClosed> {
        self.1 += 1;
        if self.1 == 2 {
            self.0.kill();
        }
        Ok(())
    }

    async fn run(&mut self, _: Option<RunKey>) -> Result<Run, SinkClosed> {
        Ok(Run::Wanted)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_whose_server_dies_fails() {
    let (mut moto, _) = server().await;
    let source = source(&moto);
    let mut sink = Killing(&mut moto, 0);
    let error = source.capture(&request(), &mut sink).await.unwrap_err();
    assert!(sink.1 >= 2, "it died in the middle");
    assert_eq!(error.class, Class::Retry, "{error}");
    assert!(error.to_string().contains("check the endpoint"), "{error}");
    let down = source.probe().await.unwrap_err();
    assert!(down.class == Class::Retry && down.to_string().contains("check the endpoint"), "{down}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_and_missing_tables_are_told_with_what_to_do() {
    let moto = Moto::with(&[("INITIAL_NO_AUTH_ACTION_COUNT", "0")]);
    let error = source(&moto).probe().await.unwrap_err();
    assert_eq!(error.class, Class::Stalled, "{error}");
    assert!(error.to_string().contains("check the access key"), "{error}");
    let moto = Moto::start();
    let credentials = AwsCredentials::Key { id: "x".into(), secret: "another secret".to_owned().into() };
    let nowhere = DynamodbSource::new(DynamodbOptions { credentials, ..moto.options("nowhere") }).unwrap();
    let error = nowhere.capture(&request(), &mut Collected::default()).await.unwrap_err();
    assert_eq!(error.class, Class::Wait(std::time::Duration::from_secs(60)), "{error}");
    assert!(error.to_string().contains("create the table"), "{error}");
    assert!(!error.to_string().contains("another secret"), "{error}");
    let log = CaptureRequest { kind: Kind::Log, ..request() };
    let error = nowhere.capture(&log, &mut Collected::default()).await.unwrap_err();
    assert!(error.to_string().contains("no log artifacts"), "{error}");
}

/// The policies that the documentation shows, in its order. moto asks for every action on all resources.
fn policies_of_the_page() -> [Vec<Value>; 2] {
    let page = include_str!("../../docs/dynamodb.md");
    let blocks = page.split("```json").skip(1).map(|rest| rest.split("```").next().unwrap());
    let statements = blocks.map(|block| {
        let policy: Value = serde_json::from_str(block).unwrap();
        let mut statements = policy["Statement"].as_array().unwrap().clone();
        statements.iter_mut().for_each(|statement| statement["Resource"] = json!("*"));
        statements
    });
    statements.collect::<Vec<_>>().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_do_what_the_page_says_is_enough() {
    let moto = Moto::start();
    let client = moto.client();
    make(&client).await;
    client.update_table().table_name(TABLE).deletion_protection_enabled(true).send().await.unwrap();
    put(&client, (0..100).map(order)).await;
    let [capturing, restoring] = policies_of_the_page();
    let policy = |statements: Vec<Value>| json!({ "Version": "2012-10-17", "Statement": statements });
    let both = moto.key_for("restorer", &policy([capturing.clone(), restoring].concat())).await;
    let one = moto.key_for("capturer", &policy(capturing)).await;
    moto.guard().await;
    let with =
        |credentials| DynamodbSource::new(DynamodbOptions { credentials, ..moto.options(TABLE) }).unwrap();
    let (capturer, restorer) = (with(one), with(both));
    let (sink, captured) = captured(&capturer).await;
    assert_eq!(count(&captured), 100);
    let error = restored(&capturer, &sink.stream(), &to_table("copy")).await.unwrap_err();
    assert!(error.class == Class::Stalled && error.to_string().contains("its policy allows"), "{error}");
    restored(&restorer, &sink.stream(), &to_table("copy")).await.unwrap();
    restored(&restorer, &sink.stream(), &Place::Original).await.unwrap();
    let without_key = String::from_utf8(sink.stream()).unwrap().replacen("\"at\":{\"N\":\"7\"},", "", 1);
    let error = restored(&restorer, without_key.as_bytes(), &to_table("other")).await.unwrap_err();
    assert!(!error.to_string().contains("delete table"), "what was made could be removed: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_table_is_read_in_segments_that_come_in_their_order() {
    let (moto, client) = server().await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    let large = |_: &Value, answer: &mut Value| answer["Table"]["TableSizeBytes"] = json!(60_u64 << 20);
    let source = DynamodbSource::new(options(endpoint, TABLE)).unwrap();
    let mut streams = Vec::new();
    for _ in 0..2 {
        between.play("DescribeTable", Trick::Alter(|_| {}, large));
        let (sink, captured) = captured(&source).await;
        assert_eq!(count(&captured), ORDERS + 1);
        streams.push(sink.stream());
        assert_eq!(sink.runs.len(), 2 + 16, "a run for each segment");
    }
    assert!(streams[0] == streams[1]);
    let scans = between.requests("Scan");
    assert!(scans.iter().all(|scan| scan["ConsistentRead"] == true && scan["TotalSegments"] == 16));
    restored(&source, &streams[0], &to_table("copy")).await.unwrap();
    assert_eq!(items(&client, "copy").await, items(&client, TABLE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_calls_are_made_again() {
    let (moto, client) = server().await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    let source = DynamodbSource::new(options(endpoint, TABLE)).unwrap();
    for operation in ["DescribeTable", "Scan", "Scan"] {
        between.play(operation, Trick::Refuse("ProvisionedThroughputExceededException"));
    }
    let (sink, captured) = captured(&source).await;
    assert_eq!(count(&captured), ORDERS + 1);

    // The server takes a part of a batch, and then nothing of the rest.
    let first_half = |asked: &mut Value| halve(&mut asked["RequestItems"]["copy"], true);
    let the_rest = |asked: &Value, answer: &mut Value| {
        let mut rest = asked["RequestItems"].clone();
        halve(&mut rest["copy"], false);
        answer["UnprocessedItems"] = rest;
    };
    let nothing =
        |asked: &Value, answer: &mut Value| answer["UnprocessedItems"] = asked["RequestItems"].clone();
    between.play("BatchWriteItem", Trick::Alter(first_half, the_rest));
    between.play("BatchWriteItem", Trick::Refuse("ThrottlingException"));
    between.play("BatchWriteItem", Trick::Alter(keep_one, nothing));
    let said = restored(&source, &sink.stream(), &to_table("copy")).await.unwrap();
    assert_eq!(said, "table copy: 1501 items put");
    assert_eq!(items(&client, "copy").await, items(&client, TABLE).await);
    let needed = (ORDERS as usize + 1).div_ceil(25);
    assert_eq!(between.requests("BatchWriteItem").len(), needed + 3);
}

fn halve(requests: &mut Value, first: bool) {
    let requests = requests.as_array_mut().unwrap();
    let rest = requests.split_off(requests.len() / 2);
    if !first {
        *requests = rest;
    }
}

fn keep_one(asked: &mut Value) {
    asked["RequestItems"]["copy"].as_array_mut().unwrap().truncate(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_gives_must_be_what_it_says() {
    let moto = Moto::start();
    make(&moto.client()).await;
    put(&moto.client(), (0..100).map(order)).await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    let source = DynamodbSource::new(options(endpoint, TABLE)).unwrap();
    let lost = |_: &Value, answer: &mut Value| drop(answer["Items"].as_array_mut().unwrap().pop());
    between.play("Scan", Trick::Alter(|_| {}, lost));
    let error = source.capture(&request(), &mut Collected::default()).await.unwrap_err();
    assert!(error.to_string().contains("the server says 100 items and gives 99"), "{error}");

    let another = |_: &Value, answer: &mut Value| answer["Table"]["TableId"] = json!("another");
    between.play("DescribeTable", Trick::Alter(|_| {}, |_, _| {}));
    between.play("DescribeTable", Trick::Alter(|_| {}, another));
    let error = source.capture(&request(), &mut Collected::default()).await.unwrap_err();
    assert!(error.to_string().contains("another table has its name"), "{error}");

    let deleting = |_: &Value, answer: &mut Value| answer["Table"]["TableStatus"] = json!("DELETING");
    between.play("DescribeTable", Trick::Alter(|_| {}, deleting));
    let error = source.capture(&request(), &mut Collected::default()).await.unwrap_err();
    assert!(error.to_string().contains("in the state DELETING"), "{error}");

    let replicated = |_: &Value, answer: &mut Value| {
        answer["Table"]["Replicas"] = json!([{ "RegionName": "eu-west-1" }]);
    };
    between.play("DescribeTable", Trick::Alter(|_| {}, replicated));
    for operation in ["DescribeTimeToLive", "DescribeContinuousBackups", "ListTagsOfResource"] {
        between.play(operation, Trick::Refuse("UnknownOperationException"));
    }
    let (sink, captured) = captured(&source).await;
    assert_eq!(captured.details.omitted, ["the replica in eu-west-1: it is made by hand"]);
    assert!(!String::from_utf8_lossy(&sink.stream()).contains("TimeToLive"));
}
