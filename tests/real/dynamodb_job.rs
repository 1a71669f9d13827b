//! A commit declares a table of DynamoDB, and the built program backs it up and brings it back.

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    },
};

use crate::lab::{
    fleet::Fleet,
    moto::{KEY_ID, Moto, REGION, SECRET},
};

async fn put(client: &Client, id: u32, content: &str) {
    let put = client.put_item().table_name("sessions");
    let put = put.item("id", AttributeValue::S(id.to_string()));
    put.item("content", AttributeValue::S(content.to_owned())).send().await.unwrap();
}

async fn content(client: &Client, table: &str, id: u32) -> Option<String> {
    let get = client.get_item().table_name(table).key("id", AttributeValue::S(id.to_string()));
    let item = get.send().await.unwrap().item?;
    Some(item["content"].as_s().unwrap().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_backs_up_a_table_that_comes_back_beside_the_original_and_over_it() {
    let moto = Moto::start();
    let client = moto.client();
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().unwrap();
    let kind = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S);
    let create = client.create_table().table_name("sessions").key_schema(key);
    let create = create.attribute_definitions(kind.build().unwrap()).billing_mode(BillingMode::PayPerRequest);
    create.send().await.unwrap();
    for id in 0..60 {
        put(&client, id, &format!("content {id}")).await;
    }
    let mut fleet = Fleet::new();
    let (id, secret) = (fleet.secret(KEY_ID), fleet.secret(SECRET));
    let table = format!("region = \"{REGION}\"\ntable = \"sessions\"\nendpoint = \"{}\"", moto.endpoint());
    let keys = format!("access_key_id = {id}\nsecret_access_key = {secret}");
    fleet.declare("sessions", &format!("[backup.sessions.dynamodb]\n{table}\n{keys}"));
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "sessions", "--plaintext"], 0);
    fleet.expect(&["backup", "sessions", "--kind", "incremental"], 0);

    put(&client, 7, "overwritten").await;
    let said = fleet.expect(&["restore", "sessions", "--to", "database:sessions-copy"], 0);
    assert!(said.contains("60 items put"), "{said}");
    assert_eq!(content(&client, "sessions-copy", 7).await.unwrap(), "content 7");
    assert_eq!(content(&client, "sessions", 7).await.unwrap(), "overwritten", "the original was touched");
    let said = fleet.expect(&["restore", "sessions", "--to", "database:sessions-copy"], 4);
    assert!(said.contains("table sessions-copy exists"), "{said}");
    let said = fleet.expect(&["restore", "sessions", "--path", "7", "--in-place"], 1);
    assert!(said.contains("comes back as a whole only"), "{said}");
    client.delete_table().table_name("sessions").send().await.unwrap();
    fleet.expect(&["restore", "sessions", "--in-place"], 0);
    assert_eq!(content(&client, "sessions", 7).await.unwrap(), "content 7");

    fleet.withdraw("sessions");
    let file = fleet.restored().join("sessions.jsonl");
    fleet.expect(&["restore", "sessions", "--to", file.to_str().unwrap()], 0);
    let lines = std::fs::read_to_string(file).unwrap();
    assert!(lines.contains(r#"{"Item":{"content":{"S":"content 8"},"id":{"S":"8"}}}"#), "{lines}");
}
